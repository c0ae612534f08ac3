"""A sweep is the migrations of its grid, and nothing about how it is computed shows."""

import numba
import numpy as np
import pytest
import xarray as xr

from migkit.kernels import drivers
from migkit.results import SWEEP_VARIABLES, sentence, to_frame
from migkit.run.design import Sweep
from migkit.run.many import sweep
from migkit.run.simulate import simulate
from migkit.scenario.errors import ScenarioError
from migkit.scenario.scenario import Guest, Link, Migration, Region, Scenario, Vfio

pytestmark = pytest.mark.short

BASE = Scenario(
    guest=Guest(ram="64 MiB", regions=[Region(size="16 MiB", write_rate="20 MB/s")]),
    devices=[Vfio(initial_bytes="4 MiB", stop_copy_bytes="1 MiB")],
    link=Link(bandwidth="10 Gbit/s"),
    migration=Migration(switchover_ack=True, return_path=True),
    time_limit="5 s",
)
RATES = ["10 MB/s", "200 MB/s", "50 GB/s"]
AXES = {
    "policy": ["serialized", "unserialized"],
    "write_rate": {"guest.regions.0.write_rate": RATES},
    "count": {"devices.0.count": np.array([1, 3])},
}


@pytest.fixture(scope="module")
def swept():
    return sweep(BASE, AXES)


def test_every_point_is_the_migration_simulated_alone(swept):
    for policy in AXES["policy"]:
        for i, rate in enumerate(RATES):
            for count in (1, 3):
                scenario = BASE.replace("policy", policy).replace("devices.0.count", count)
                alone = simulate(scenario.replace("guest.regions.0.write_rate", rate))
                point = swept.sel(policy=policy, count=count).isel(write_rate=i)
                assert sentence(point).split(";")[0].replace(" of 4 MiB", "") in alone.sentence.replace(" of 4 MiB", "")
                for variable in SWEEP_VARIABLES:
                    value = point[variable.name]
                    if variable.dims:
                        value = value.sel(device=list(alone.labels))
                    np.testing.assert_array_equal(value, alone.numbers[variable.name], variable.name)


def test_dimensions_follow_the_axes(swept):
    assert dict(swept.sizes) == {"policy": 2, "write_rate": 3, "count": 2, "device": 4}
    assert swept["outcome"].dims == ("policy", "write_rate", "count")
    assert swept["write_rate"].values.tolist() == [10e6, 200e6, 50e9]
    assert swept["write_rate"].attrs == {"long_name": "guest.regions.0.write_rate", "units": "B/s"}
    assert swept["device"].values.tolist() == ["ram", "vfio0", "vfio1", "vfio2"]
    assert swept["device_present"].dims == ("count", "device")
    assert swept["device_present"].values.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_attributes_say_how_it_was_made(swept):
    assert swept.attrs["engine"] == "expected"
    assert swept.attrs["seed"] == 0
    assert Scenario.from_toml(swept.attrs["description"]) == BASE


@pytest.mark.parametrize("batch_rows", [1, 5, 12])
def test_batches_change_no_bit(swept, batch_rows):
    xr.testing.assert_identical(swept, sweep(BASE, AXES, batch_rows=batch_rows))


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_threads_change_no_bit_and_are_given_back(engine):
    axes = {"guest.regions.0.write_rate": [f"{n} MB/s" for n in range(1, 201, 2)], "replicate": range(2)}
    before = numba.get_num_threads()
    one = sweep(BASE, axes, engine, threads=1)
    assert numba.get_num_threads() == before
    xr.testing.assert_identical(one, sweep(BASE, axes, engine))
    xr.testing.assert_identical(one, sweep(BASE, axes, engine, threads=before))


def test_progress_is_shown_and_changes_no_bit(swept, capfd):
    shown = sweep(BASE, AXES, progress=True)
    text = capfd.readouterr().err
    assert "100%" in text
    assert "migration" in text
    xr.testing.assert_identical(swept, shown)


def test_nothing_is_printed_otherwise(capfd):
    sweep(BASE, {"policy": ["serialized"]})
    assert capfd.readouterr() == ("", "")


def test_replicates_are_an_axis_with_their_own_draws():
    axes = {"policy": ["serialized", "unserialized"], "replicate": [0, 4, 1], "rtt": {"link.rtt": ["1 ms", "2 ms"]}}
    ds = sweep(BASE, axes, "bitmap", seed=3)
    assert ds["outcome"].dims == ("policy", "replicate", "rtt")
    assert ds["replicate"].values.tolist() == [0, 4, 1]
    for replicate in (0, 4):
        alone = simulate(BASE.replace("link.rtt", "2 ms").replace("policy", "serialized"), "bitmap", 3, replicate)
        point = ds.sel(policy="serialized", replicate=replicate).isel(rtt=1)
        for variable in SWEEP_VARIABLES:
            np.testing.assert_array_equal(point[variable.name], alone.numbers[variable.name], variable.name)
    assert len(np.unique(ds["ram_pages_sent"].sel(policy="serialized").isel(rtt=0))) > 1


def test_replicates_alone():
    ds = sweep(BASE, {"replicate": range(3)}, "bitmap")
    assert ds["outcome"].dims == ("replicate",)


def test_a_draw_does_not_depend_on_the_grid():
    few = sweep(BASE, {"link.rtt": ["2 ms"]}, "bitmap", seed=1)
    many = sweep(BASE, {"zeroes": {"guest.zero_share": [0.5, 0]}, "link.rtt": ["1 ms", "2 ms"]}, "bitmap", seed=1)
    xr.testing.assert_equal(few, many.isel({"zeroes": 1, "link.rtt": [1]}, drop=True))


def test_tidy_table(swept):
    frame = to_frame(swept)
    assert len(frame) == 12
    assert list(frame.columns[:4]) == ["policy", "write_rate", "count", "outcome"]
    by_device = to_frame(swept, devices=True)
    assert len(by_device) == 6 * 2 + 6 * 4  # absent devices have no row
    assert set(by_device.query("count == 1")["device"]) == {"ram", "vfio0"}


def test_names_of_dimensions_can_be_chosen():
    ds = sweep(BASE, {"guest.regions.0.write_rate": ["1 MB/s"]}, names={"guest.regions.0.write_rate": "dirty_rate"})
    assert ds["outcome"].dims == ("dirty_rate",)


REFUSED = {
    "no axes": ({}, {}, "needs at least one"),
    "axes no mapping": (["policy"], {}, "needs at least one"),
    "path no text": ({3: [1]}, {}, "dotted path"),
    "unknown path": ({"polici": ["serialized"]}, {}, "policy"),
    "one bad value": ({"link.rtt": ["1 ms", "2 MiB"]}, {}, "is a size, but a time is needed"),
    "replicate": ({"replicate": [0, -1]}, {}, "replicate = -1 must be a whole number"),
    "replicate twice": ({"replicate": [0, 1, 0]}, {}, "has a value twice"),
    "replicate as number": ({"replicate": 10}, {}, "write range(n)"),
    "no replicates": ({"replicate": []}, {}, "at least one"),
    "engine": ({"link.rtt": ["1 ms"]}, {"engine": "bitmp"}, 'did you mean "bitmap"'),
    "threads": ({"link.rtt": ["1 ms"]}, {"threads": 0}, "threads = 0 must be a whole number of 1 or more"),
    "too many threads": ({"link.rtt": ["1 ms"]}, {"threads": 100_000}, "more than Numba was started with"),
    "batch_rows": ({"link.rtt": ["1 ms"]}, {"batch_rows": 0}, "1 or more"),
    "seed": ({"link.rtt": ["1 ms"]}, {"seed": "x"}, 'seed = "x"'),
}


@pytest.mark.parametrize(("axes", "arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_bad_arguments_are_refused_before_anything_is_computed(monkeypatch, axes, arguments, words):
    monkeypatch.setattr(drivers, "run", lambda *_, **__: pytest.fail("computed something"))
    with pytest.raises(ScenarioError) as caught:
        sweep(BASE, axes, **arguments)
    assert words in str(caught.value)
    assert str(caught.value).endswith((".", "?"))


@pytest.mark.parametrize("given", [{"axes": AXES}, {"engine": "expected"}, {"seed": 0}])
def test_what_a_description_says_is_not_given_beside_it(given):
    described = Sweep(scenario=BASE, axes={"link.rtt": ["1 ms"]}, engine="bitmap", seed=3)
    (name,) = given
    with pytest.raises(ScenarioError, match=f"^{name} is part of the description: give a scenario with axes, engine"):
        sweep(described, **given)
    assert (sweep(described).attrs["engine"], sweep(described).attrs["seed"]) == ("bitmap", 3)


def test_a_mapping_of_fields_is_a_scenario():
    axes = {"link.rtt": ["1 ms", "2 ms"]}
    xr.testing.assert_identical(sweep(BASE.model_dump(exclude_none=True), axes), sweep(BASE, axes))


def test_replicates_are_an_argument_too():
    scenario = {"guest": {"ram": "64 MiB"}, "link": {"bandwidth": "1 Gbit/s"}}
    axes = {"link.rtt": ["1 ms", "2 ms"]}
    found = sweep(scenario, axes, replicates=3)
    xr.testing.assert_identical(found, sweep(Sweep(scenario=scenario, axes=axes, replicates=3)))
    assert dict(found.sizes)["replicate"] == 3
    with pytest.raises(ScenarioError, match="replicates is part of the description"):
        sweep(Sweep(scenario=scenario, axes=axes), replicates=3)
