"""The columns of a grid are those of its scenarios, written out one by one."""

import itertools
import time
from dataclasses import dataclass

import numpy as np
import pytest

from migkit.kernels.parameters import Outputs
from migkit.kernels.records import pack
from migkit.run.grid import Grid
from migkit.scenario.errors import ScenarioError
from migkit.scenario.rows import columns
from migkit.scenario.scenario import Block, Guest, Link, Migration, Ram, Region, Scenario, Vfio, device_labels

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
        "link.fresh_bandwidth": ["1 GB/s"], "link.fresh_after": ["0 B", "6 GiB"], "guest.ram": ["4 GiB", "8 GiB"],
    },
    "four axes": {
        "migration.max_bandwidth": [0, "1 GiB/s"],
        "devices.0.count": [1, 3],
        "guest.regions.1.size": ["4 MiB", "1 GiB", "32 MiB"],
        "migration.switchover_ack": [False, True],
    },
}


def written_out(scenario, axes):
    """Every scenario of the grid, the last axis fastest."""
    made = []
    for values in itertools.product(*axes.values()):
        here = scenario
        for path, value in zip(axes, values, strict=True):
            here = here.replace(path, value)
        made.append(here)
    return made


def assert_same_columns(made, true):
    for name, one, other in zip(made._fields, made, true, strict=True):
        assert one.dtype == other.dtype, name
        assert one.flags.c_contiguous, name
        width = min(one.shape[-1], other.shape[-1]) if one.ndim == 2 else None
        np.testing.assert_array_equal(one[..., :width], other[..., :width], name)
        if width is not None:
            assert not one[:, width:].any(), name
            assert not other[:, width:].any(), name


@pytest.mark.parametrize("axes", GRIDS.values(), ids=GRIDS)
def test_columns_are_those_of_the_scenarios(axes):
    grid = Grid(BASE, axes, {})
    true = columns(written_out(BASE, axes))
    assert grid.points == len(true.ram_pages)
    assert_same_columns(grid.columns(np.arange(grid.points)), true)


@pytest.mark.parametrize("axes", GRIDS.values(), ids=GRIDS)
def test_records_are_the_packed_columns(axes):
    grid = Grid(BASE, axes, {})
    places = grid.places(np.arange(grid.points))
    for made, true in zip(grid.records_at(places), pack(grid.columns_at(places)), strict=True):
        assert made.dtype == true.dtype
        np.testing.assert_array_equal(made, true)


@pytest.mark.parametrize("axes", GRIDS.values(), ids=GRIDS)
def test_blocks_are_slices_of_the_whole(axes):
    grid = Grid(BASE, axes, {})
    whole = grid.columns(np.arange(grid.points))
    for start in range(grid.points):
        part = grid.columns(np.array([start]))
        for name, column, one in zip(whole._fields, whole, part, strict=True):
            np.testing.assert_array_equal(column[start : start + 1], one, name)


def test_a_long_axis_beside_a_policy_of_the_version_is_still_true():
    axes = {
        "qemu": ["9.0", "8.2"],
        "policy": ["unserialized", None],
        "guest.regions.0.write_rate": [f"{n} MB/s" for n in range(1, 40)],
    }
    grid = Grid(BASE, axes, {})
    assert_same_columns(grid.columns(np.arange(grid.points)), columns(written_out(BASE, axes)))


# --- devices


def fake_outputs(grid):
    """Outputs in which every device tells the row and its place in the list."""
    parameters = grid.columns(np.arange(grid.points))
    shape = parameters.device_kind.shape
    place = np.arange(grid.points)[:, None] * 100 + np.arange(shape[1])
    table = {
        name: place.copy() if name.startswith("device_") else np.zeros(grid.points, np.int64)
        for name in Outputs._fields
    }
    table["culprit"] = parameters.device_count - 1
    return Outputs(**table)


def test_devices_have_one_slot_whatever_their_place_in_the_list():
    scenario = BASE.replace("devices", [Vfio(count=2, initial_bytes="1 MiB"), Ram()])
    axes = {"devices.0.count": [2, 1, 3]}
    grid = Grid(scenario, axes, {})
    labels = [device_labels(one) for one in written_out(scenario, axes)]
    assert set(grid.devices) == {"ram", "vfio0", "vfio1", "vfio2"}
    aligned = grid.aligned(fake_outputs(grid), np.arange(grid.points))
    dims, present = grid.present()
    assert dims == ("count",)
    for row, of_row in enumerate(labels):
        for slot, label in enumerate(grid.devices):
            assert present[row, slot] == (label in of_row)
            expected = row * 100 + of_row.index(label) if label in of_row else 0
            assert aligned.device_bytes[row, slot] == expected
            assert aligned.device_ack_ns[row, slot] == (expected if label in of_row else -1)
        assert grid.devices[aligned.culprit[row]] == "ram"


def test_the_same_devices_everywhere_need_no_mask():
    grid = Grid(BASE, {"link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]}, {})
    assert grid.devices == ("ram", "vfio0")
    assert grid.present() is None


def test_block_devices_stand_before_ram():
    scenario = BASE.replace("devices", [Block(size="1 GiB"), Vfio(initial_bytes="1 MiB")])
    grid = Grid(scenario, {"devices.1.count": [1, 2]}, {})
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
    axes = {axis.path: axis for axis in Grid(BASE, axes, {}).axes}
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


@pytest.mark.parametrize(
    ("paths", "names", "dims"),
    [
        (["devices.0.count"], {}, ["count"]),
        (["guest.regions.0.size", "guest.ram"], {}, ["size", "ram"]),
        (
            ["guest.regions.0.write_rate", "guest.regions.1.write_rate", "link.rtt"],
            {},
            ["regions_0_write_rate", "regions_1_write_rate", "rtt"],
        ),
        (
            ["guest.regions.0.write_rate", "guest.regions.1.write_rate"],
            {"guest.regions.0.write_rate": "hot"},
            ["hot", "write_rate"],
        ),
        (["guest.zero_share", "guest.regions.0.zero_share"], {}, ["guest_zero_share", "regions_0_zero_share"]),
    ],
)
def test_dimensions_are_the_shortest_tails_that_tell_axes_apart(paths, names, dims):
    values = {"count": [1], "size": ["4 KiB"], "ram": ["8 GiB"], "write_rate": [0], "rtt": [0], "zero_share": [0]}
    grid = Grid(BASE, {path: values[path.split(".")[-1]] for path in paths}, names)
    assert [axis.dim for axis in grid.axes] == dims


@dataclass
class Refused:
    axes: dict
    words: str
    names: dict | None = None


REFUSED = {
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
    "taken name": Refused({"guest.ram": ["8 GiB"]}, "cannot be the name", {"guest.ram": "outcome"}),
    "same names": Refused(
        {"guest.ram": ["8 GiB"], "link.rtt": [0]}, "two are the same", {"guest.ram": "x", "link.rtt": "x"}
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_bad_axes_are_refused_in_one_sentence(case):
    with pytest.raises(ScenarioError) as caught:
        Grid(BASE, case.axes, case.names or {})
    assert case.words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "?"))


def test_values_that_only_fit_together_are_no_error():
    axes = {"guest.regions.0.start": ["16 GiB", "17 GiB"], "guest.ram": ["32 GiB", "64 GiB"]}
    grid = Grid(BASE, axes, {})  # the region would not fit into the 8 GiB of the scenario
    wide = BASE.replace("guest.ram", "32 GiB")
    assert_same_columns(grid.columns(np.arange(4)), columns(written_out(wide, axes)))


def test_a_grid_of_100_000_points_costs_less_than_a_second():
    axes = {
        "guest.regions.0.write_rate": [f"{n} MB/s" for n in range(100)],
        "guest.regions.0.size": [f"{n} MiB" for n in range(1, 101)],
        "devices.0.count": range(10),
    }
    began = time.process_time()
    grid = Grid(BASE, axes, {})
    for start in range(0, grid.points, 65536):
        grid.columns(np.arange(start, min(start + 65536, grid.points)))
    assert grid.points == 100_000
    assert time.process_time() - began < 1
