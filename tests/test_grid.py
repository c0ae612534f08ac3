"""The records of a grid are those of its scenarios, written out one by one, and so is what it refuses."""

import itertools
import random
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest

from migkit.kernels.state import Records, Reports
from migkit.run import grid as grids
from migkit.run.grid import Grid
from migkit.scenario.errors import ScenarioError
from migkit.scenario.rows import records
from migkit.scenario.scenario import (
    Block,
    Guest,
    HostCosts,
    Link,
    Migration,
    Ram,
    Region,
    Scenario,
    Vfio,
    device_labels,
)

BASE = Scenario(
    guest=Guest(
        ram="8 GiB",
        regions=[
            Region(size="1 GiB", write_rate="200 MB/s"),
            Region(size="64 MiB", start="2 GiB", write_rate="1 GB/s"),
        ],
    ),
    devices=[Vfio(initial_bytes="256 MiB", dirty_rate="1 MB/s", dirty_max="64 MiB")],
    link=Link(bandwidth="25 Gbit/s", send_buffer="1 MiB"),
    migration=Migration(return_path=True),
)

RATES = ["0 B/s", "100 MB/s", "3 GB/s"]

GRIDS = {
    "one axis": {"link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]},
    "independent": {"link.bandwidth": ["1 Gbit/s", "10 Gbit/s"], "guest.regions.0.write_rate": RATES},
    "two cells of one column": {"guest.regions.0.write_rate": RATES, "guest.regions.1.write_rate": RATES[::-1]},
    "same column": {"link.send_buffer": ["0 B", "4 MiB"], "link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]},
    "derived column": {"guest.ram": ["4 GiB", "8 GiB"], "costs.bitmap_sync": ["0 s", "10 ms"]},
    "page size and rate": {"guest.page_size": ["4 KiB", "64 KiB"], "guest.regions.0.write_rate": RATES},
    "layout": {"guest.ram": ["4 GiB", "16 GiB"], "guest.regions.0.size": ["4 KiB", "2 GiB"]},
    "policy after version": {"policy": ["serialized", "unserialized"], "qemu": ["8.2", "9.0", "11.1"]},
    "policy of the version": {"policy": ["unserialized", None], "qemu": ["8.2", "9.0", "11.1"]},
    "version before its policy": {"qemu": ["9.0", "8.2"], "policy": [None, "serialized", "unserialized"]},
    "device count": {"devices.0.count": np.array([1, 4, 0, 2]), "devices.0.initial_bytes": ["1 MiB", "1 GiB"]},
    "slower first pass": {
        "guest.ram": ["4 GiB", "8 GiB"],
        "link.fresh_bandwidth": ["0 B/s", "1 GB/s", "2 GB/s"],
        "link.bandwidth": ["20 Gbit/s", "40 Gbit/s"],
    },
    "slower from some place on": {
        "link.fresh_bandwidth": ["1 GB/s"],
        "link.fresh_after": ["0 B", "6 GiB"],
        "guest.ram": ["4 GiB", "8 GiB"],
    },
    "four axes": {
        "migration.max_bandwidth": [0, "1 GiB/s"],
        "devices.0.count": [1, 3],
        "guest.regions.1.size": ["4 MiB", "1 GiB", "32 MiB"],
        "migration.switchover_ack": [False, True],
    },
}


def points_of(axes):
    """The values at every point of a grid by path, the last axis fastest."""
    lines = []
    for key, given in axes.items():
        group = given if isinstance(given, dict) else {key: given}
        lines.append([dict(zip(group, values, strict=True)) for values in zip(*group.values(), strict=True)])
    return [{path: value for part in parts for path, value in part.items()} for parts in itertools.product(*lines)]


def written_out(scenario, axes):
    """Every scenario of the grid, the last axis fastest."""
    return [scenario.replace_all(values) for values in points_of(axes)]


def records_of(grid, points=None):
    """The records of points of a grid, as the grid has them."""
    places = grid.places(np.arange(grid.points) if points is None else points)
    return Records(*(part.at(places) for part in grid._parts))


def assert_same_records(made, true):
    for name, one, other in zip(Records._fields, made, true, strict=True):
        assert one.dtype == other.dtype, name
        wide, narrow = sorted((one.view(np.ndarray), other.view(np.ndarray)), key=lambda part: part.shape[-1])[::-1]
        if one.ndim == 2:
            assert not wide[:, narrow.shape[1] :].tobytes().strip(b"\0"), name
            wide = wide[:, : narrow.shape[1]]
        for field in one.dtype.names:
            np.testing.assert_array_equal(wide[field], narrow[field], f"{name}.{field}")


@pytest.fixture(params=[True, False], ids=["tables", "points"])
def _tables(request, monkeypatch):
    """Records kept for all combinations, and computed for the points that are asked for."""
    if not request.param:
        monkeypatch.setattr(grids, "MOST_TABLE_BYTES", 0)


@pytest.mark.usefixtures("_tables")
@pytest.mark.parametrize("axes", GRIDS.values(), ids=GRIDS)
def test_records_are_those_of_the_scenarios(axes):
    grid = Grid(BASE, axes)
    true = records(written_out(BASE, axes))
    assert grid.points == len(true.cases)
    assert_same_records(records_of(grid), true)


@pytest.mark.usefixtures("_tables")
@pytest.mark.parametrize("axes", GRIDS.values(), ids=GRIDS)
def test_single_points_are_slices_of_the_whole(axes):
    grid = Grid(BASE, axes)
    whole = records_of(grid)
    for point in range(grid.points):
        one = records_of(grid, np.array([point]))
        assert [part.tobytes() for part in one] == [part[point : point + 1].tobytes() for part in whole]


def test_what_the_kernels_get_is_what_the_grid_has():
    axes = GRIDS["four axes"]
    grid = Grid(BASE, axes)
    places = grid.places(np.arange(grid.points))
    packed, own = grid.records_at(places), records_of(grid)
    for name, one, other in zip(Records._fields, packed, own, strict=True):
        assert one.tobytes() == other.tobytes(), name


# --- random grids

VALUES = {
    "guest.ram": ["1 GiB", "2 GiB", "3 GiB", "5 GiB"],
    "guest.page_size": ["4 KiB", "8 KiB", "16 KiB", "64 KiB"],
    "guest.accel": ["kvm", "tcg"],
    "guest.zero_share": [0, 0.25, 1],
    "guest.regions.0.size": ["12 KiB", "512 MiB", "1 GiB", "3 GiB"],
    "guest.regions.0.start": ["0 B", "4 KiB", "1 GiB", "2 GiB"],
    "guest.regions.0.pattern": ["uniform", "sequential"],
    "guest.regions.1.size": ["4 KiB", "64 MiB", "1 GiB"],
    "guest.regions.1.start": ["0 B", "1 GiB", "2 GiB", "4 GiB"],
    "guest.regions.1.write_rate": ["0 B/s", "3 MB/s", "1 GB/s"],
    "devices.0.count": [0, 1, 3, 2],
    "devices.0.name": ["", "gpu", "nic", "pending"],
    "devices.0.dirty_rate": ["0 B/s", "1 MB/s"],
    "devices.0.dirty_max": ["64 MiB", "0 B"],
    "devices.0.initial_bytes": ["1 MiB", "3 B", "100 TiB"],
    "devices.2.count": [2, 0, 1],
    "devices.2.name": ["", "gpu"],
    "devices.2.read_rate": ["1 kB/s", "1 GB/s"],
    "devices.2.load_time": ["0 s", "1 ms"],
    "link.bandwidth": ["1 kB/s", "3 MB/s", "7 Gbit/s", "25 Gbit/s"],
    "link.send_buffer": ["0 B", "333 kB"],
    "link.fresh_bandwidth": ["0 B/s", "1 kB/s", "2 MB/s", "3 GB/s"],
    "link.fresh_after": ["0 B", "1 GiB", "7 kB"],
    "migration.max_bandwidth": ["0 B/s", "1234567.8 B/s"],
    "migration.avail_switchover_bandwidth": ["0 B/s", "1 GB/s"],
    "migration.switchover_ack": [False, True],
    "migration.return_path": [True, False],
    "migration.cpu_throttle_initial": [20, 70],
    "migration.max_cpu_throttle": [99, 50],
    "migration.x_clear_bitmap_shift": [6, 18, 31],
    "costs.page": ["2.1 us", "0.0000000123 s", "0 s"],
    "costs.bitmap_sync_per_gib": ["0 s", "0.14 ms"],
    "qemu": ["9.0", "7.2", "8.2", "11.1"],
    "policy": [None, "serialized", "unserialized"],
    "sync_policy": ["7.2", None, "11.1"],
    "bandwidth_policy": ["window", None],
    "time_limit": ["1 ms", "100 s"],
}
MIXED = Scenario(
    guest=Guest(ram="2 GiB", regions=[Region(size="64 MiB"), Region(size="4 KiB", start="1 GiB")]),
    devices=[Vfio(initial_bytes="1 MiB", dirty_max="1 MiB"), Ram(), Vfio(count=0, initial_bytes="8 MiB")],
    link=Link(bandwidth="25 Gbit/s"),
    migration=Migration(return_path=True),
    costs=HostCosts(bitmap_sync="1 ms"),
    qemu="9.0",
)


def drawn(rng):
    """A few axes, alone or moving together."""
    axes = {}
    paths = rng.sample(sorted(VALUES), rng.randint(1, 5))
    while paths:
        group = [paths.pop() for _ in range(min(len(paths), rng.choice([1, 1, 2])))]
        size = rng.randint(1, 3)
        if len(group) == 1:
            found = rng.sample(VALUES[group[0]], min(size, len(VALUES[group[0]])))
            axes[group[0]] = found
        else:
            axes[f"group {len(axes)}"] = {path: [rng.choice(VALUES[path]) for _ in range(size)] for path in group}
    return axes


@pytest.mark.usefixtures("_tables")
def test_random_grids_are_their_scenarios_and_refuse_what_those_refuse():
    rng = random.Random(7)
    accepted = refused = 0
    for _ in range(200):
        axes = drawn(rng)
        errors, scenarios = [], []
        for values in points_of(axes):
            try:
                scenarios.append(MIXED.replace_all(values))
            except ScenarioError as error:
                errors.append(str(error))
        if errors:
            with pytest.raises(ScenarioError) as caught:
                Grid(MIXED, axes)
            assert str(caught.value).replace(" (in a combination of axis values)", "") == errors[0], axes
            refused += 1
        else:
            assert_same_records(records_of(Grid(MIXED, axes)), records(scenarios))
            accepted += 1
    assert min(accepted, refused) > 40


def test_a_rule_that_is_broken_between_the_ends_of_an_axis_is_found():
    scenario = BASE.replace_all({"guest.regions.0.start": "16 MiB", "guest.regions.0.size": "4 KiB",
                                 "guest.regions.1.start": "6 GiB", "guest.regions.1.size": "4 KiB"})  # fmt: skip
    starts = {"guest.regions.1.start": [f"{4096 * n} KiB" for n in range(40)], "link.rtt": ["1 ms", "2 ms"]}
    with pytest.raises(ScenarioError, match="overlaps") as caught:
        Grid(scenario, starts)
    assert "combination" not in str(caught.value)
    with pytest.raises(ScenarioError, match=r'link\.fresh_bandwidth = "1 kB/s" needs more than a year'):
        Grid(scenario.replace("guest.ram", "64 GiB"), {"link.fresh_bandwidth": ["0 B/s", "1 GB/s", "1 kB/s", "2 GB/s"]})


def test_a_combination_that_only_one_point_in_the_middle_has_is_found():
    sizes = [f"{n} MiB" for n in range(1, 60)]
    axes = {
        "guest.regions.1.start": ["7 GiB", "8 MiB", "6 GiB"], "guest.regions.0.size": sizes,
        "guest.regions.0.start": ["64 MiB", "0 B"],
    }  # fmt: skip
    with pytest.raises(ScenarioError, match=r"overlaps region 0 of the list, which ends at 9 MiB") as caught:
        Grid(BASE.replace("guest.regions.1.size", "4 KiB"), axes)
    assert "(in a combination of axis values)" in str(caught.value)


def test_the_first_point_that_is_refused_is_told():
    axes = {
        "guest.ram": ["8 GiB", "6 GiB", "5 GiB"],
        "link.rtt": ["1 ms", "2 ms"],
        "guest.regions.1.start": ["2 GiB", "5 GiB", "7 GiB", "6 GiB"],
    }
    with pytest.raises(ScenarioError) as caught:
        Grid(BASE, axes)
    assert str(caught.value) == (
        "guest.regions.1 ends at 7232 MiB, beyond the 6 GiB of RAM (in a combination of axis values)."
    )


def test_a_grid_of_ten_thousand_million_points_is_laid_out_in_little_memory():
    links = [f"{n} Mbit/s" for n in range(100, 3100)]
    axes = {
        "devices.0.initial_bytes": [f"{n} MiB" for n in range(1, 301)],
        "guest.regions.0.write_rate": [f"{n} MB/s" for n in range(100)],
        "link.bandwidth": links,
        "guest.ram": [f"{n} GiB" for n in range(4, 115)],
    }
    tracemalloc.start()
    grid = Grid(BASE, axes)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grid.points == 300 * 100 * 3000 * 111
    assert peak < 400 << 20
    last = np.array([grid.points - 1])
    true = records([BASE.replace_all({path: values[-1] for path, values in axes.items()})])
    assert_same_records(records_of(grid, last), true)


# --- devices


def fake_reports(grid):
    """Reports in which every device tells the row and its place in the list."""
    found = records_of(grid)
    reports = Reports.empty(*found.devices.shape)
    place = np.arange(grid.points)[:, None] * 100 + np.arange(found.devices.shape[1])
    for name in reports.devices.dtype.names:
        reports.devices[name] = place
    reports.migrations["culprit"] = found.cases["device_count"] - 1
    return reports


def test_devices_have_one_slot_whatever_their_place_in_the_list():
    scenario = BASE.replace("devices", [Vfio(count=2, initial_bytes="1 MiB"), Ram()])
    axes = {"devices.0.count": [2, 1, 3]}
    grid = Grid(scenario, axes)
    labels = [device_labels(one) for one in written_out(scenario, axes)]
    assert set(grid.devices) == {"ram", "vfio0", "vfio1", "vfio2"}
    aligned = Reports.empty(grid.points, len(grid.devices))
    grid.align(fake_reports(grid), grid.places(np.arange(grid.points)), aligned)
    dims, present = grid.present()
    assert dims == ("devices.0.count",)
    for row, of_row in enumerate(labels):
        for slot, label in enumerate(grid.devices):
            assert present[row, slot] == (label in of_row)
            expected = row * 100 + of_row.index(label) if label in of_row else 0
            assert aligned.devices["bytes"][row, slot] == expected
            assert aligned.devices["ack_ns"][row, slot] == (expected if label in of_row else -1)
        assert grid.devices[aligned.migrations["culprit"][row]] == "ram"


def test_the_same_devices_everywhere_need_no_mask():
    grid = Grid(BASE, {"link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]})
    assert grid.devices == ("ram", "vfio0")
    assert grid.present() is None


def test_block_devices_stand_before_ram():
    scenario = BASE.replace("devices", [Block(size="1 GiB"), Vfio(initial_bytes="1 MiB")])
    grid = Grid(scenario, {"devices.1.count": [1, 2]})
    assert grid.devices == ("disk", "ram", "vfio0", "vfio1")


# --- axes


def test_coordinates_are_si_numbers_or_words():
    axes = {
        "guest.ram": ["4 GiB", "8 GiB"],
        "link.bandwidth": ["8 Gbit/s"],
        "migration.downtime_limit": ["300 ms", "2 s"],
        "devices.0.count": np.array([1, 2], dtype=np.int32),
        "guest.zero_share": [0, 0.5],
        "migration.auto_converge": [True, False],
        "policy": ["serialized", None],
    }
    axes = {axis.path: axis for axis in Grid(BASE, axes).axes}
    assert axes["guest.ram"].coordinate.tolist() == [4 << 30, 8 << 30]
    assert axes["guest.ram"].notes() == {"long_name": "guest.ram", "units": "B"}
    assert axes["guest.ram"].coordinate.dtype == np.int64
    assert axes["link.bandwidth"].coordinate.tolist() == [1e9]
    assert axes["link.bandwidth"].unit == "B/s"
    assert axes["migration.downtime_limit"].coordinate.tolist() == [0.3, 2]
    assert axes["migration.downtime_limit"].unit == "s"
    assert axes["devices.0.count"].coordinate.dtype == np.int64
    assert axes["guest.zero_share"].coordinate.dtype == np.float64
    assert axes["migration.auto_converge"].coordinate.dtype == bool
    assert axes["policy"].coordinate.tolist() == ["serialized", "default"]
    assert axes["policy"].notes() == {"long_name": "policy"}


HOT, COLD = "guest.regions.0.write_rate", "guest.regions.1.write_rate"


@pytest.mark.parametrize(
    ("axes", "names", "dims", "coordinates"),
    [
        ({"devices.0.count": [1]}, {}, ["devices.0.count"], ["devices.0.count"]),
        ({HOT: [0], COLD: [0]}, {}, [HOT, COLD], [HOT, COLD]),
        ({HOT: [0], COLD: [0]}, {HOT: "hot"}, ["hot", COLD], ["hot", COLD]),
        ({"hot": {HOT: [0]}, COLD: [0]}, {}, ["hot", COLD], ["hot", COLD]),
        ({"writes": {HOT: [0, 1e-0 * 0], COLD: [0, 0]}}, {}, ["writes"], [HOT, COLD]),
        ({"writes": {HOT: [0], COLD: [0]}}, {COLD: "cold"}, ["writes"], [HOT, "cold"]),
        ({"max bandwidth": {"migration.max_bandwidth": [0]}}, {}, ["max bandwidth"], ["max bandwidth"]),
    ],
)
def test_dimensions_have_the_paths_of_fields_or_names_that_are_given(axes, names, dims, coordinates):
    grid = Grid(BASE, axes, names)
    assert [dimension.name for dimension in grid.dimensions] == dims
    assert [axis.name for axis in grid.axes] == coordinates


@dataclass
class Refused:
    axes: dict
    words: str
    names: dict | None = None


REFUSED = (
    {
        "unknown path": Refused({"link.bandwith": ["1 GB/s"]}, 'did you mean "bandwidth"'),
        "no such index": Refused({"guest.regions.5.size": ["4 KiB"]}, "indices here are 0 to 1"),
        "empty": Refused({"link.bandwidth": []}, "has no values"),
        "not a list": Refused({"link.bandwidth": "1 GB/s"}, "is not a list of values"),
        "a number": Refused({"devices.0.count": 4}, "is not a list of values"),
        "a set": Refused({"devices.0.count": {1, 2}}, "is not a list of values"),
        "two dimensions": Refused({"devices.0.count": np.ones((2, 2))}, "array of 2 dimensions"),
        "twice": Refused({"guest.ram": ["8 GiB", "4 GiB", "8192 MiB"]}, 'is on the axis twice (first as "8 GiB")'),
        "wrong unit": Refused({"link.bandwidth": ["1 GB/s", "1 GiB"]}, "a rate is needed"),
        "no unit": Refused({"link.bandwidth": [1e9]}, "has no unit"),
        "whole part": Refused({"link": [Link(bandwidth="1 GB/s")]}, "not single numbers or words"),
        "region beyond RAM": Refused(
            {"guest.ram": ["16 GiB", "4 GiB"], "guest.regions.1.start": ["2 GiB", "15 GiB"]}, "beyond the 4 GiB of RAM"
        ),
        "ack of an old version": Refused(
            {"migration.switchover_ack": [True, False], "devices.0.count": [0], "qemu": ["9.0", "7.2"]}, "7.2"
        ),
        "corner of three": Refused(
            {
                "migration.cpu_throttle_initial": [20, 60],
                "link.rtt": ["1 ms", "2 ms"],
                "migration.max_cpu_throttle": [99, 50],
            },
            "is below cpu_throttle_initial",
        ),
        "name of no axis": Refused({"guest.ram": ["8 GiB"]}, "is not an axis", {"ram": "size"}),
        "taken name": Refused({"guest.ram": ["8 GiB"]}, "cannot be the name of a dimension", {"guest.ram": "outcome"}),
        "same names": Refused(
            {"guest.ram": ["8 GiB"], "link.rtt": [0]}, "two are the same", {"guest.ram": "x", "link.rtt": "x"}
        ),
        "name of another axis": Refused(
            {"guest.ram": ["8 GiB"], "link.rtt": [0]}, "choose another one", {"guest.ram": "link.rtt"}
        ),
        "a second spelling": Refused({"guest.regions.00.size": ["4 KiB"]}, "is not how an index is written: write 0"),
        "other digits": Refused({"guest.regions.\u0661.size": ["4 KiB"]}, "indices here are 0 to 1"),
        "endless index": Refused({f"guest.regions.{'1' * 5000}.size": ["4 KiB"]}, "indices here are 0 to 1"),
        "kind": Refused({"devices.0.kind": ["vfio"]}, "the kinds of the devices are those of the scenario"),
        "too many values": Refused({"devices.0.count": itertools.count()}, "has more than 1000000 values"),
        "too many points": Refused(
            {
                path: [f"{n} {unit}" for n in range(1, 1001)]
                for path, unit in (
                    ("guest.regions.0.start", "GiB"),
                    ("guest.regions.0.size", "GiB"),
                    ("guest.regions.1.start", "GiB"),
                    ("guest.regions.1.size", "GiB"),
                    ("link.bandwidth", "GB/s"),
                )
            },
            "has 1000000000000000 migrations (1000 guest.regions.0.start x",
        ),
        "too many device lists": Refused(
            {f"devices.{n}.count": range(64) for n in range(4)}, "change the list of devices in 16777216 ways"
        ),
    }
    | {
        f"name {name!r}": Refused({"guest.ram": ["8 GiB"]}, "choose another one", {"guest.ram": name})
        for name in (
            "sessions",
            "zarr.json",
            "device",
            "device_present",
            "outcome",
            "replicate",
            "scenario",
            "a/b",
            "..",
            "../a",
            "__x",
            ".x",
            " x",
            "a\nb",
            "\0",
            "\ud800",
            "x" * 101,
        )
    }
    | {
        f"group {name!r}": Refused({name: {"guest.ram": ["8 GiB"]}}, "cannot be the name of a dimension")
        for name in ("sessions", "outcome", "a/b", "__x", "link.rtt")
    }
)


WITH_FOUR = BASE.replace("devices", [Vfio(initial_bytes=0)] * 4)


@pytest.mark.parametrize("case", REFUSED.values(), ids=map(ascii, REFUSED))
def test_bad_axes_are_refused_in_one_sentence(case):
    with pytest.raises(ScenarioError) as caught:
        Grid(WITH_FOUR if "devices.3.count" in case.axes else BASE, case.axes, case.names)
    assert case.words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "?"))


def test_values_that_only_fit_together_are_no_error():
    axes = {"guest.regions.0.start": ["16 GiB", "17 GiB"], "guest.ram": ["32 GiB", "64 GiB"]}
    grid = Grid(BASE, axes, {})  # the region would not fit into the 8 GiB of the scenario
    wide = BASE.replace("guest.ram", "32 GiB")
    assert_same_records(records_of(grid), records(written_out(wide, axes)))
