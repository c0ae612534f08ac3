"""Outcomes in words, the registry, and the labelled tables."""

import math
import pickle
import re
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import migkit
from migkit import Guest, Link, Region, Scenario, Vfio, frontier, results, sweep
from migkit.analysis.closed_form import categories
from migkit.kernels import state
from migkit.kernels.state import Reports
from migkit.provenance import provenance
from migkit.results import (
    SWEEP_VARIABLES,
    VARIABLES,
    Outcome,
    sentence,
    stored,
    to_dataset,
    to_frame,
    validated,
    values,
    words,
)

GIB = 1 << 30


def outputs(rows: int, devices: int = 2) -> Reports:
    """Reports with recognisable numbers: the row index, plus 1000 per field."""
    reports = Reports.empty(rows, devices)
    for part in reports:
        for number, name in enumerate(part.dtype.names):
            part[name] = np.arange(part.size, dtype=np.int64).reshape(part.shape) + 1000 * number
    reports.migrations["outcome"] = np.arange(rows) % len(Outcome)
    reports.migrations["culprit"] = np.where(reports.migrations["outcome"] == 0, -1, 1)
    return reports


def numbers(outcome: Outcome, **more: object) -> dict[str, object]:
    table = {name: array[0] for name, array in values(outputs(1)).items()}
    known = {"outcome": int(outcome), "culprit": 1, "device": ["ram", "vfio0"], "postcopy_time_s": np.nan}
    return table | known | more


def test_registry_names_every_output_once_and_in_order():
    names = [*state.dtype_of(state.REPORT).names, *state.dtype_of(state.DEVICE_REPORT).names]
    assert list(dict.fromkeys(v.column for v in SWEEP_VARIABLES)) == names
    assert [v.name for v in SWEEP_VARIABLES if v.column in ("outcome", "total_ns")] == [
        "outcome", "completed", "total_time_s", "verdict_time_s",
    ]  # fmt: skip
    assert len(SWEEP_VARIABLES) == len(names) + 2
    assert len({(v.kind, v.name) for v in VARIABLES}) == len(VARIABLES)
    assert VARIABLES[: len(SWEEP_VARIABLES)] == SWEEP_VARIABLES
    assert not any(v.column for v in VARIABLES[len(SWEEP_VARIABLES) :])


def test_registry_keeps_the_promise_of_names():
    for variable in SWEEP_VARIABLES:
        assert variable.meaning
        assert variable.name.endswith("_s") == (variable.unit == "s") == (variable.dtype == "float64")
        assert variable.name.endswith("_percent") == (variable.unit == "%")
        assert variable.name.startswith("device_") == (variable.dims == ("device",))


def test_outcomes_are_those_of_the_kernels():
    assert [int(outcome) for outcome in Outcome] == [
        state.COMPLETED, state.INITIAL_DATA_STARVED, state.RAM_ABOVE_LINK, state.STOP_COPY_ABOVE_THRESHOLD,
        state.TIME_LIMIT, state.CANCELLED,
    ]  # fmt: skip


def test_never_is_nan_and_nanoseconds_are_seconds():
    columns = outputs(3)
    columns.migrations["downtime_ns"] = [-1, 0, 243_000_000]
    downtime = values(columns)["downtime_s"]
    assert math.isnan(downtime[0])
    assert downtime[1] == 0
    assert downtime[2] == pytest.approx(0.243)


def test_only_what_completed_has_a_total_time():
    reports = outputs(len(Outcome))
    reports.migrations.total_ns[:] = 2_000_000_000
    table = values(reports)
    assert table["completed"].tolist() == [True, False, False, False, False, False]
    assert table["completed"].dtype == bool
    np.testing.assert_array_equal(table["total_time_s"], [2.0, np.nan, np.nan, np.nan, np.nan, np.nan])
    assert table["verdict_time_s"].tolist() == [2.0] * 6
    dataset = to_dataset(reports, {"count": range(6)}, ["ram", "vfio0"])
    assert float(dataset["total_time_s"].mean()) == 2.0
    assert float(to_frame(dataset)["total_time_s"].mean()) == 2.0


@pytest.mark.parametrize("outcome", list(Outcome))
def test_an_outcome_is_a_word_and_compares_with_words(outcome):
    others = [each for each in Outcome if each is not outcome]
    assert outcome == outcome.label
    assert outcome.label == outcome
    assert (outcome != outcome.label) is False
    assert not any(outcome == each.label or outcome == each for each in others)
    assert all(outcome != each.label for each in others)
    assert outcome in {outcome.label}
    assert {outcome.label: "found"}[outcome] == "found"
    assert f"{outcome} {outcome!s} {outcome!s:>3}" == " ".join([outcome.label] * 3)
    assert outcome == int(outcome)
    assert (np.arange(6) == outcome).sum() == 1
    assert int(xr.DataArray(np.arange(6, dtype="int8")).isin([outcome]).sum()) == 1
    assert pickle.loads(pickle.dumps(outcome)) is outcome


def test_the_words_of_codes():
    reports = outputs(7)
    reports.migrations["outcome"][6] = reports.migrations["culprit"][6] = -1  # not computed yet
    ds = to_dataset(reports, {"count": range(7)}, ["ram", "vfio0"])
    assert words(ds, "outcome").values.tolist() == [*(each.label for each in Outcome), ""]
    assert words(ds, "culprit").values.tolist() == ["", *["vfio0"] * 5, ""]
    assert words(ds.isel(count=1), "outcome").item() == "initial_data_starved"
    frame = to_frame(ds)
    assert frame["outcome"].isna().tolist() == [False] * 6 + [True]
    with pytest.raises(ValueError, match="iterations holds no codes"):
        words(ds, "iterations")


def test_an_acknowledgement_beyond_the_end_is_never():
    reports = outputs(3)
    reports.migrations.total_ns[:] = 10
    reports.devices.ack_ns[:] = [[-1, 9], [10, 11], [1000, 0]]
    never = np.isnan(values(reports)["device_ack_s"])
    np.testing.assert_array_equal(never, [[True, False], [False, True], [True, False]])
    assert stored(reports, next(each for each in SWEEP_VARIABLES if each.column == "ack_ns")).tolist() == [
        [-1, 9], [10, -1], [-1, 0],
    ]  # fmt: skip


def test_counts_and_bytes_stay_integers_and_the_outcome_is_one_byte():
    table = values(outputs(3))
    assert table["outcome"].dtype == np.int8
    assert table["bytes_sent"].dtype == np.int64
    np.testing.assert_array_equal(table["bytes_sent"], outputs(3).migrations["bytes_sent"])


# --- sentences


def test_completed_tells_total_time_and_downtime():
    text = sentence(numbers(Outcome.COMPLETED, total_time_s=13.61, downtime_s=0.2431))
    assert text == "Completed in 13.6 s with a downtime of 243 ms."
    text = sentence(
        numbers(
            Outcome.COMPLETED, total_time_s=13.61, downtime_s=0.0243, postcopy_time_s=1.5, postcopy_bytes=3 << 30,
            postcopy_faults=1,
        )
    )  # fmt: skip
    assert text == (
        "Completed in 13.6 s with a downtime of 24.3 ms: post-copy sent 3 GiB, and the guest ran for 1.5 s and 1 fault "
        "on the destination before it was whole."
    )


def test_starved_device_that_was_never_called():
    text = sentence(
        numbers(
            Outcome.INITIAL_DATA_STARVED,
            device_calls=[9, 0],
            device_initial_left_bytes=[0, GIB],
            device_initial_bytes=[0, GIB],
        )
    )
    assert text == (
        "vfio0's initial data was never sent: every iteration ended before reaching it; 1 GiB of 1 GiB were left."
    )


def test_starved_device_that_was_called_now_and_then():
    text = sentence(
        numbers(
            Outcome.INITIAL_DATA_STARVED,
            iterations=4000,
            device_calls=[4000, 689],
            device_initial_left_bytes=[0, 335 << 20],
        )
    )
    assert text == (
        "vfio0's initial data was never sent in full: 689 of 4000 iterations reached it; 335 MiB were left."
    )


def test_starved_device_of_which_only_the_flag_is_missing():
    text = sentence(numbers(Outcome.INITIAL_DATA_STARVED, device_calls=[9, 2], device_initial_left_bytes=[0, 0]))
    assert text.endswith("but not the flag that says so.")


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_one_sentence(outcome):
    text = sentence(numbers(outcome, ram_remaining_bytes=512 << 20, threshold_bytes=36 << 20, pending_bytes=GIB))
    assert text.endswith(".")
    assert text[0].isupper() or text.startswith("vfio0")
    assert "nan" not in text
    assert ". " not in text  # one sentence only
    if outcome is Outcome.RAM_ABOVE_LINK:
        assert "512 MiB" in text
        assert "36 MiB" in text
    if outcome is Outcome.STOP_COPY_ABOVE_THRESHOLD:
        assert "vfio0" in text
        assert "1 GiB" in text


def test_a_sentence_from_one_point_of_a_dataset():
    ds = to_dataset(outputs(5), {"count": [1, 2, 3, 4, 5]}, ["ram", "vfio0"])
    assert sentence(ds.isel(count=0)).startswith("Completed in")
    assert "vfio0" in sentence(ds.isel(count=1))


def test_sizes_and_durations_have_three_digits():
    assert results.bytes_text(0) == "0 B"
    assert results.bytes_text(1023) == "1023 B"
    assert results.bytes_text(1 << 20) == "1 MiB"
    assert results.bytes_text(1000 << 20) == "1000 MiB"
    assert results.bytes_text(int(2.5 * GIB)) == "2.5 GiB"
    assert results.seconds_text(0) == "0 s"
    assert results.seconds_text(123.4) == "123 s"
    assert results.seconds_text(4321.0) == "4321 s"
    assert results.seconds_text(0.9999) == "1 s"
    assert results.seconds_text(18e-6) == "18 µs"
    assert results.seconds_text(5e-9) == "5 ns"
    assert results.seconds_text(math.nan) == "never"


# --- tables


def test_dataset_is_labelled_and_the_last_axis_varies_fastest():
    ds = to_dataset(
        outputs(6),
        {"policy": ["serialized", "unserialized"], "count": (np.array([1, 2, 4]), {"units": "1"})},
        ["ram", "vfio0"],
        {"engine": "expected"},
    )
    assert dict(ds.sizes) == {"policy": 2, "count": 3, "device": 2}
    assert ds["bytes_sent"].dims == ("policy", "count")
    assert ds["device_bytes"].dims == ("policy", "count", "device")
    assert int(ds["iterations"].sel(policy="unserialized", count=2)) == int(outputs(6).migrations["iterations"][4])
    assert int(ds["device_calls"].sel(policy="unserialized", count=2, device="vfio0")) == int(
        outputs(6).devices["calls"][4, 1]
    )
    assert ds["bytes_sent"].attrs == {"long_name": "everything put into the stream", "units": "B"}
    assert ds["outcome"].attrs["flag_values"] == [0, 1, 2, 3, 4, 5]
    assert ds["outcome"].attrs["flag_meanings"].split()[1] == "initial_data_starved"
    assert ds.attrs["engine"] == "expected"


def test_dataset_refuses_rows_that_do_not_fill_the_grid():
    with pytest.raises(ValueError, match="5 rows do not fill"):
        to_dataset(outputs(5), {"count": [1, 2]}, ["ram", "vfio0"])


def test_padded_device_columns_are_left_out():
    ds = to_dataset(outputs(2, devices=3), {"count": [1, 2]}, ["ram", "vfio0"])
    assert ds.sizes["device"] == 2


def test_dataset_survives_zarr(tmp_path):
    coords = {"policy": np.array(["a", "b"], dtype=object), "count": [1, 2, 3]}
    ds = to_dataset(outputs(6), coords, ["ram", "vfio0"], provenance("expected", 7, "a test"))
    ds.to_zarr(tmp_path / "sweep.zarr", consolidated=False)  # no warning: the text has a specification
    back = xr.open_zarr(tmp_path / "sweep.zarr", consolidated=False).compute()
    xr.testing.assert_equal(ds, back)
    assert back["total_time_s"].dtype == np.float64  # "s" must not become a timedelta on the way
    assert back["outcome"].dtype == np.int8
    assert back.attrs == ds.attrs
    assert back["outcome"].attrs == ds["outcome"].attrs
    pd.testing.assert_frame_equal(to_frame(ds), to_frame(back), check_categorical=False)
    assert list(to_frame(back)["policy"].cat.categories) == ["a", "b"]


def test_frame_has_one_row_per_migration():
    ds = to_dataset(outputs(6), {"policy": ["b", "a"], "count": [1, 2, 4]}, ["ram", "vfio0"])
    frame = to_frame(ds)
    assert len(frame) == 6
    assert list(frame["policy"].cat.categories) == ["b", "a"]  # as given, not sorted
    assert list(frame["count"]) == [1, 2, 4, 1, 2, 4]
    assert frame["outcome"].iloc[1] == "initial_data_starved"
    assert list(frame["outcome"].cat.categories) == [outcome.label for outcome in Outcome]
    assert pd.isna(frame["culprit"].iloc[0])
    assert frame["culprit"].iloc[1] == "vfio0"
    assert not [name for name in frame if name.startswith("device")]


def test_frame_by_device():
    ds = to_dataset(outputs(2), {"count": [1, 2]}, ["ram", "vfio0"])
    frame = to_frame(ds, devices=True)
    assert list(frame["device"]) == ["ram", "vfio0"] * 2
    assert list(frame["device_bytes"]) == list(outputs(2).devices["bytes"].ravel())
    assert list(frame["count"]) == [1, 1, 2, 2]


def test_frame_of_a_single_migration():
    frame = to_frame(to_dataset(outputs(1), {}, ["ram", "vfio0"]))
    assert len(frame) == 1
    assert frame["outcome"].iloc[0] == "completed"


# --- every Dataset of migkit is registered


SCENARIO = Scenario(
    guest=Guest(ram="256 MiB", regions=[Region(size="64 MiB", write_rate="1 GB/s")]),
    devices=[Vfio(initial_bytes="1 MiB")],
    link=Link(bandwidth="10 Gbit/s"),
    migration={"max_bandwidth": 0},
    time_limit="5 s",
)
RATE, LINK = "guest.regions.0.write_rate", "link.bandwidth"
AXES = {"devices.0.count": [0, 2], "policy": ["serialized", "unserialized"], LINK: ["2 Gbit/s", "20 Gbit/s"]}
BETWEEN = ["10 MB/s", "20 GB/s"]
RANGES = {RATE: {"geomspace": BETWEEN}, LINK: {"geomspace": ["1 Gbit/s", "20 Gbit/s"]}}


def repeated():
    return sweep(SCENARIO, {"policy": AXES["policy"], "replicate": range(3)}, "bitmap")


def frontier_of_replicates():
    return frontier(SCENARIO, RATE, BETWEEN, {LINK: AXES[LINK]}, engine="bitmap", replicates=3, tolerance=0.3)


KINDS = {
    "sweep": lambda: sweep(SCENARIO, AXES),
    "study": lambda: categories(sweep(SCENARIO, AXES)),
    "frontier": lambda: frontier(SCENARIO, RATE, BETWEEN, {LINK: AXES[LINK]}, tolerance=0.3),
    "frontier_of_replicates": frontier_of_replicates,
    "convergence": lambda: migkit.uncertainty.convergence(repeated()),
    "quantiles": lambda: migkit.uncertainty.quantiles(repeated(), variables=["downtime_s", "iterations"]),
    "paired": lambda: migkit.uncertainty.paired(repeated(), "policy"),
    "sensitivity": lambda: migkit.sensitivity(SCENARIO, RANGES, points=4),
}


@pytest.fixture(scope="module")
def made():
    """A Dataset of each kind, made once."""
    return {}


@pytest.fixture(params=KINDS)
def kind_and_dataset(request, made):
    if request.param not in made:
        made[request.param] = KINDS[request.param]()
    return request.param, made[request.param].copy(deep=True)


def test_every_kind_is_tried():
    assert {variable.kind for variable in VARIABLES} == set(KINDS) == set(get_args(results.Kind))


def test_every_variable_has_the_attributes_of_the_registry(kind_and_dataset):
    kind, dataset = kind_and_dataset
    own = {variable.name for variable in VARIABLES if variable.kind == kind and "{" not in variable.name}
    assert own - {"completed"} <= set(dataset.data_vars)
    for name, array in dataset.data_vars.items():
        assert array.attrs["long_name"], name
        assert "{" not in array.attrs["long_name"]
        assert ("units" in array.attrs) != (name in ("mean", "variance")), name


def test_a_stored_sweep_is_registered_too(tmp_path):
    swept = sweep(SCENARIO, AXES)
    stored = sweep(SCENARIO, AXES, store=tmp_path / "r.zarr")
    for name, array in swept.data_vars.items():
        assert stored[name].attrs == array.attrs, name
        assert stored[name].dtype == array.dtype, name


def first_and_last(dataset):
    names = list(dataset.data_vars)
    return {names[0], names[-1]}


def test_a_wrong_type_is_caught(kind_and_dataset):
    kind, dataset = kind_and_dataset
    for name in first_and_last(dataset):
        with pytest.raises(RuntimeError, match=f"internal error: {name} of a {kind} Dataset has the type float32"):
            validated(dataset.assign({name: dataset[name].astype("float32")}), kind)


def test_wrong_dimensions_are_caught(kind_and_dataset):
    kind, dataset = kind_and_dataset
    some_axes = {variable.name for variable in VARIABLES if not variable.everywhere}
    for name in first_and_last(dataset):
        array = dataset[name]
        wrong = [array.expand_dims("one_more")]
        if array.ndim and name not in some_axes:
            wrong.append(array.isel({array.dims[0]: 0}, drop=True))
        if array.ndim > 1:
            wrong.append(array.transpose(*array.dims[::-1]))
        for one in wrong:
            with pytest.raises(RuntimeError, match="has the dimensions"):
                validated(dataset.assign({name: one}), kind)


def test_a_wrong_unit_is_caught(kind_and_dataset):
    kind, dataset = kind_and_dataset
    fixed = [v.name for v in VARIABLES if v.kind == kind and v.unit != "{unit}" and v.name in dataset]
    for name in (fixed[0], fixed[-1]):
        wrong = dataset.copy()
        wrong[name].attrs["units"] = "furlong"
        with pytest.raises(RuntimeError, match=f"{name} of a {kind} Dataset has the unit furlong"):
            validated(wrong, kind)


def test_a_unit_that_must_be_given_is_missed():
    dataset = xr.Dataset({"critical": ("flip", [1.0])}, attrs={"axis": RATE})
    with pytest.raises(RuntimeError, match="critical of a frontier Dataset has no unit"):
        validated(dataset, "frontier")


def test_a_variable_that_is_not_registered_is_caught(kind_and_dataset):
    kind, dataset = kind_and_dataset
    if kind == "quantiles":  # any result with one value a migration may have quantiles
        return
    with pytest.raises(RuntimeError, match=f"another is not registered for a {kind} Dataset"):
        validated(dataset.assign(another=1.0), kind)


def test_quantiles_of_a_variable_of_the_users_own():
    dataset = repeated()
    dataset["downtime_ms"] = (1000 * dataset["downtime_s"]).assign_attrs(units="ms")
    found = migkit.uncertainty.quantiles(dataset, variables=["downtime_ms"])
    assert found["downtime_ms_low"].attrs == {"units": "ms", "long_name": "downtime_ms: lower bound of the quantile"}


def test_provenance_tells_versions_and_arguments():
    notes = provenance("bitmap", 3, "why")
    assert notes["engine"] == "bitmap"
    assert notes["seed"] == 3
    assert notes["description"] == "why"
    assert notes["numpy_version"] == np.__version__
    assert {"migkit_version", "numba_version", "python_version"} <= notes.keys()
    assert all(isinstance(value, str | int) for value in notes.values())
    if "git_commit" in notes:
        assert re.fullmatch("[0-9a-f]{40}(-dirty)?", notes["git_commit"])
