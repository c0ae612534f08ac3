"""The frontier is where a grid of the same resolution has it, and where the closed forms have it."""

import sys
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

from migkit import Guest, HostCosts, Link, Migration, Region, Scenario, ScenarioError, Vfio, frontier
from migkit.analysis.bisection import Flips, bisected, matched
from migkit.analysis.closed_form import STARVES_ABOVE, Inputs, starving_write_rate
from migkit.kernels import drivers
from migkit.kernels.state import ENGINES
from migkit.results import Outcome
from migkit.run.many import sweep
from migkit.run.values import spaced
from migkit.scenario.units import Rate, Seconds
from migkit.study import experiments as study

MIB = 2**20
GIB = 2**30
PAGE, WIRE = 4096, 4104
LINK = 1.25e9
GRAIN = 64 * WIRE  # the clock is looked at every 64 pages
RATE = "guest.regions.0.write_rate"
SIZE = "guest.regions.0.size"
IDEAL = HostCosts(
    iteration=Seconds(20e-6), wakeup=Seconds(0), bitmap_sync_per_gib=Seconds(0), page=Seconds(0), zero_page=Seconds(0)
)  # fmt: skip
BASE = Scenario(
    guest=Guest(ram="256 MiB", regions=[Region(size="96 MiB", write_rate="1 GB/s")]),
    devices=[Vfio(initial_bytes="4 MiB", stop_copy_bytes="8 MiB")],
    link=Link(bandwidth="4 Gbit/s"),
    migration=Migration(max_bandwidth=0, downtime_limit="100 ms", switchover_ack=True, return_path=True),
    time_limit="60 s",
)
HOT = Scenario(  # rewritten many times a slice: what is derived for such a hot set holds exactly
    guest=Guest(ram="4 GiB", regions=[Region(size="64 MiB", write_rate="100 GB/s", pattern="sequential")]),
    devices=[Vfio(initial_bytes="32 MiB")],
    link=Link(bandwidth=Rate(LINK)),
    migration=Migration(max_bandwidth=0, switchover_ack=True, return_path=True),
    costs=IDEAL,
    time_limit="300 s",
)


# ---------------------------------------------------------------- bisection


def of_table(table):
    return lambda case, node: table[case, node].astype(np.int8)


def true_flips(row, wanted=0):
    has = row == wanted
    return np.flatnonzero(has[1:] != has[:-1])


@pytest.mark.parametrize("wanted", [0, 2])
def test_every_flip_is_true_and_every_gap_of_the_scan_is_closed(wanted):
    rng = np.random.default_rng(wanted)
    for scan in (2, 5, 40):
        nodes = int(rng.integers(2, 300))
        # outcomes in a few runs
        edges = np.sort(rng.integers(0, nodes, (30, 4)), axis=1)
        run = (np.arange(nodes) >= edges[:, :, None]).sum(axis=1)
        table = rng.integers(0, 4, (30, 5))[np.arange(30)[:, None], run]
        flips, ends, computed = bisected((30,), nodes, scan, [], wanted, of_table(table))
        assert computed <= 30 * nodes
        np.testing.assert_array_equal(ends, table[:, [0, -1]])
        np.testing.assert_array_equal(flips.outcome_below, table[flips.case, flips.below])
        np.testing.assert_array_equal(flips.outcome_above, table[flips.case, flips.below + 1])
        looked_at = np.unique(np.linspace(0, nodes - 1, scan).round().astype(int))
        for case, row in enumerate(table):
            found = flips.below[flips.case == case]
            true = true_flips(row, wanted)
            assert set(found) <= set(true)
            assert (flips.ordinal[flips.case == case] == np.arange(len(found))).all()
            for first, last in pairwise(looked_at):
                inside = true[(true >= first) & (true < last)]
                seen = found[(found >= first) & (found < last)]
                assert len(seen) == len(inside) % 2  # the scan sees odd numbers, of which one is found
                assert len(inside) != 1 or seen[0] == inside[0]


def test_a_scan_of_all_nodes_finds_all_flips():
    table = np.random.default_rng(5).integers(0, 2, (10, 50))
    flips, _, computed = bisected((10,), 50, 50, [0], 0, of_table(table))
    assert computed == 500
    assert [flips.below[flips.case == case].tolist() for case in range(10)] == [true_flips(r).tolist() for r in table]


def test_a_narrow_band_is_followed_from_a_point_whose_scan_sees_it():
    # a band of 9 nodes that moves by 4 from case to case, among 1000 nodes of which each 250th is looked at
    start = 248 + 4 * np.arange(12)[:, None]
    node = np.arange(1000)
    table = np.where((node >= start) & (node < start + 9), 1, 0)
    alone, _, few = bisected((12,), 1000, 5, [], 0, of_table(table))
    assert set(alone.case.tolist()) == {0}
    followed, _, more = bisected((12,), 1000, 5, [0], 0, of_table(table))
    assert followed.case.tolist() == np.repeat(np.arange(12), 2).tolist()
    np.testing.assert_array_equal(followed.below.reshape(12, 2), np.hstack([start - 1, start + 8]))
    assert more - few < 12 * 20
    # words have no neighbours, and what does not overlap is not found
    both, *_ = bisected((2, 6), 1000, 5, [1], 0, of_table(table))
    assert set(both.case.tolist()) == set(range(6))


def test_replicates_that_disagree_are_matched_by_direction_and_nearness():
    # replicate by replicate: node below and direction
    told = [[(10, False), (50, True)], [(12, False), (48, True)], [(49, True)],
            [(11, False), (30, True), (33, False), (52, True)], []]  # fmt: skip
    case = np.repeat(np.arange(5), [len(each) for each in told])
    node, rising = (np.array([flip[i] for each in told for flip in each]) for i in (0, 1))
    empty = np.zeros(len(case), np.int64)
    number, most = matched(Flips(case, node, empty, empty, rising, empty), 1, 5)
    # the fourth has two more in between
    assert number.tolist() == [0, 3, 0, 3, 3, 0, 1, 2, 3]
    assert most == 4
    # two points are matched by themselves; without any flip there is room for one
    number, most = matched(Flips(case, node, empty, empty, rising, empty), 5, 1)
    assert (number.tolist(), most) == ([0, 1, 0, 1, 0, 0, 1, 2, 3], 4)
    none = np.zeros(0, np.int64)
    assert matched(Flips(none, none, none, none, none.astype(bool), none), 3, 2)[1] == 1


# ---------------------------------------------------------------- lattices


@pytest.mark.parametrize(
    ("ends", "unit", "tolerance"), [((1e6, 1e9), "B/s", 0.001), ((0.0, 2.0), "s", 0.01), ((0.1, 0.9), "1", 0.05)]
)
def test_neighbours_on_the_lattice_are_within_the_tolerance(ends, unit, tolerance):
    lattice = spaced("x", np.array(ends), unit, tolerance)
    values = np.array(lattice.values, float)
    assert (values[0], values[-1]) == ends
    steps = values[1:] / values[:-1] - 1 if lattice.geometric else np.diff(values) / ends[1]
    assert 0.95 * tolerance < steps.max() < 1.000001 * tolerance


def test_sizes_are_rounded_and_doubles_left_out():
    lattice = spaced("x", np.array([8192, 40960]), "B", 0.1, page=4096)
    assert lattice.values == [4096 * n for n in range(2, 11)]
    assert spaced("x", np.array([MIB, 2 * MIB]), "B", 0.3, "256 KiB", 4096).values == [
        MIB, 1280 * 1024, 1536 * 1024, 2 * MIB
    ]  # fmt: skip


# ---------------------------------------------------------------- a grid of the same resolution


def dense(scenario, axis, between, over, tolerance, unit="B/s", page=1):
    low, high = (float(value) for value in between)
    values = spaced(axis, np.array([low, high] if unit != "B" else [int(low), int(high)]), unit, tolerance, None, page)
    return sweep(scenario, {**over, "axis": {axis: values.values}})


OVER = {"bandwidth": {"link.bandwidth": ["1 Gbit/s", "4 Gbit/s", "9 Gbit/s"]}, "count": {"devices.0.count": [0, 1, 4]}}


@pytest.mark.parametrize("outcome", ["completed", "initial_data_starved"])
@pytest.mark.parametrize("scan", [2, 5, 17, 10_000])
def test_flips_are_those_of_a_dense_grid(outcome, scan):
    over = {**OVER, "policy": ["serialized", "unserialized"]}
    grid = dense(BASE, RATE, (10e6, 100e9), over, 0.04)
    ds = frontier(BASE, RATE, ["10 MB/s", "100 GB/s"], OVER, ["serialized", "unserialized"],
                  tolerance=0.04, scan=scan, outcome=outcome)  # fmt: skip
    nodes = grid["axis"].values
    assert ds.attrs["nodes"] == len(nodes)
    assert ds.attrs["migrations_of_a_grid"] == grid["outcome"].size
    assert ds["critical"].dims == ("bandwidth", "count", "policy", "flip")
    looked_at = np.unique(np.linspace(0, len(nodes) - 1, min(scan, len(nodes))).round().astype(int))
    wanted = next(int(one) for one in Outcome if one.label == outcome)
    seen = 0
    for place in np.ndindex(ds["flips"].shape):
        row = grid["outcome"].transpose("bandwidth", "count", "policy", "axis").values[place]
        point = ds.isel(dict(zip(ds["flips"].dims, place, strict=True)))
        count = int(point["flips"])
        below = np.searchsorted(nodes, point["below"].values[:count])
        np.testing.assert_array_equal(point["above"].values[:count], nodes[below + 1])
        np.testing.assert_array_equal(point["outcome_below"].values[:count], row[below])
        np.testing.assert_array_equal(point["outcome_above"].values[:count], row[below + 1])
        np.testing.assert_allclose(point["critical"].values[:count], np.sqrt(nodes[below] * nodes[below + 1]))
        assert np.isnan(point["critical"].values[count:]).all()
        assert (point["outcome_above"].values[count:] == -1).all()
        assert bool(point["converges_at_low"]) == (row[0] == 0)
        assert bool(point["converges_at_high"]) == (row[-1] == 0)
        true = true_flips(row, wanted)
        assert set(below) <= set(true)
        for first, last in pairwise(looked_at):
            inside = true[(true >= first) & (true < last)]
            if len(inside) % 2:
                assert np.isin(below, inside).any()
            if len(inside) == 1:
                assert inside[0] in below
        seen += count
    assert seen > 0
    if scan == 10_000:
        assert ds.attrs["migrations"] == grid["outcome"].size


@pytest.mark.parametrize(
    ("axis", "between", "unit", "page"),
    [
        ("link.bandwidth", ["1 Gbit/s", "20 Gbit/s"], "B/s", 1),
        ("migration.downtime_limit", ["0 s", "1 s"], "s", 1),
        (SIZE, ["4 MiB", "200 MiB"], "B", 4096),
        ("devices.0.initial_bytes", ["1 MiB", "400 MiB"], "B", 1),
        ("guest.regions.0.zero_share", [0, 1], "1", 1),
    ],
)
def test_any_quantity_can_be_bisected(axis, between, unit, page):
    over = {"policy": ["serialized", "unserialized"]}
    ds = frontier(BASE, axis, between, over, tolerance=0.02, scan=400)
    to_si = sweep(BASE, {axis: between})
    ends = next(iter(to_si["outcome"].coords.values())).values
    grid = dense(BASE, axis, ends, over, 0.02, unit, page)
    nodes = grid[grid["outcome"].dims[1]].values
    assert ds.attrs["nodes"] == len(nodes)
    assert ds["critical"].attrs["units"] == unit
    for number in range(2):
        true = true_flips(grid["outcome"].values[number])
        count = int(ds["flips"][number])
        np.testing.assert_array_equal(ds["below"].values[number, :count], nodes[true])


def test_a_single_point_has_the_flips_alone():
    ds = frontier(BASE, RATE, ["10 MB/s", "100 GB/s"], policy="serialized", tolerance=0.05)
    assert ds["critical"].dims == ("flip",)
    assert ds["flips"].dims == ()
    assert "policy" not in ds.dims
    assert Scenario.from_toml(ds.attrs["description"]).policy == "serialized"


def test_axes_that_move_together_are_one_dimension():
    over = {"host": {"link.bandwidth": ["2 Gbit/s", "3 Gbit/s"], "migration.downtime_limit": ["100 ms", "120 ms"]}}
    ds = frontier(BASE, RATE, ["10 MB/s", "100 GB/s"], over, tolerance=0.1)
    assert ds["critical"].dims == ("host", "flip")
    assert ds["migration.downtime_limit"].dims == ("host",)
    apart = frontier(BASE, RATE, ["10 MB/s", "100 GB/s"], {path: [values[1]] for path, values in over["host"].items()},
                     tolerance=0.1)  # fmt: skip
    assert ds["flips"].values.tolist() == [1, 1]
    assert ds["critical"].values[1, 0] == apart["critical"].values.ravel()[0]


# ---------------------------------------------------------------- closed forms


def test_the_starvation_band_has_two_ends():
    hot = HOT.replace("guest.regions.0.phase", 0)  # nothing is drawn: one migration a point
    ds = frontier(hot, SIZE, ["20 MiB", "600 MiB"], policy=["serialized", "unserialized"],
                  outcome="initial_data_starved", tolerance=0.002)  # fmt: skip
    assert ds["flips"].values.tolist() == [2, 0]
    below, above = (ds[name].values[0] * WIRE / PAGE for name in ("below", "above"))
    # a slice of 51 ms, at whose end the clock is looked at every 64 pages
    assert below[0] <= 0.051 * LINK + 2 * GRAIN
    assert above[0] >= 0.051 * LINK - GRAIN
    # the threshold: the bandwidth of the last window times the downtime limit
    assert ds["critical"].values[0, 1] == pytest.approx(0.3 * LINK, rel=0.01)
    assert ds["outcome_below"].values[0].tolist() == [Outcome.COMPLETED, Outcome.INITIAL_DATA_STARVED]
    assert ds["outcome_above"].values[0].tolist() == [Outcome.INITIAL_DATA_STARVED, Outcome.RAM_ABOVE_LINK]
    # both policies complete up to an end of that band, each to its own
    ends = frontier(hot, SIZE, ["20 MiB", "600 MiB"], policy=["serialized", "unserialized"], tolerance=0.002)
    assert ends["critical"].values[0, 0] == ds["critical"].values[0, 0]
    assert ends["critical"].values[1, 0] == pytest.approx(ds["critical"].values[0, 1], rel=0.004)


def test_dirty_rate_from_which_serialized_iteration_starves_is_the_derived_one():
    scenario = study.experiments(2)["convergence"].scenario.replace("devices.0.count", 1)
    links = {"bandwidth": {"link.bandwidth": {"geomspace": ["1 Gbit/s", "40 Gbit/s", 6]}}}
    ds = frontier(scenario, RATE, ["10 MB/s", "400 GB/s"], links, "serialized", tolerance=0.002)
    derived = starving_write_rate(Inputs.of(scenario)._replace(link=ds["bandwidth"].values))
    assert np.isfinite(derived).all()
    np.testing.assert_allclose(ds["critical"].values[:, 0], derived, rtol=0.003)


def test_unserialized_iteration_starves_above_196_percent_of_max_bandwidth():
    scenario = HOT.replace("devices.0.initial_bytes", "512 KiB").replace("guest.regions.0.size", "32 MiB")
    limits = np.array([128, 160, 200]) * float(MIB)
    ds = frontier(scenario, "link.bandwidth", ["1.3 Gbit/s", "4 Gbit/s"],
                  {"migration.max_bandwidth": [Rate(limit) for limit in limits]}, "unserialized",
                  tolerance=0.0005, outcome="initial_data_starved")  # fmt: skip
    assert (ds["flips"] == 1).all()
    grain = 2 * GRAIN / (0.051 * ds["critical"].values[:, 0])
    assert (abs(ds["critical"].values[:, 0] / limits / STARVES_ABOVE - 1) < grain + 0.0015).all()


def test_devices_are_counted_one_by_one():
    # what all of them must send when stopped has to fit: 8 MiB each
    scenario = BASE.replace(RATE, "0 B/s").replace("migration.switchover_ack", False).replace("costs", IDEAL)
    ds = frontier(scenario, "devices.0.count", [0, 64], {"migration.downtime_limit": ["50 ms", "100 ms", "300 ms"]})
    assert ds.attrs["nodes"] == 65
    fits = 0.5e9 * ds["migration.downtime_limit"].values / (8 * MIB)
    assert (ds["above"].values - ds["below"].values == 1).all()
    np.testing.assert_array_equal(ds["below"].values[:, 0], np.floor(fits))
    np.testing.assert_array_equal(ds["critical"].values, ds["below"].values + 0.5)
    assert (ds["outcome_above"] == Outcome.STOP_COPY_ABOVE_THRESHOLD).all()


# ---------------------------------------------------------------- effort


@pytest.mark.parametrize("name", ["convergence", "starvation", "band"])
def test_fifty_times_fewer_migrations_than_a_grid(name):
    experiment = study.experiments(6)[name]
    axes = dict(experiment.axes)
    given = axes.pop({"convergence": "write_rate", "starvation": "max_bandwidth", "band": "size"}[name])
    ((axis, values),) = given.items()
    ds = frontier(experiment.scenario, axis, [values[0], values[-1]], axes)
    assert (ds["flips"] > 0).any()
    assert ds.attrs["migrations_of_a_grid"] == ds["flips"].size * ds.attrs["nodes"]
    assert ds.attrs["migrations_of_a_grid"] > 100 * ds.attrs["migrations"]


def test_what_is_counted_is_what_is_computed(monkeypatch):
    rows = []
    run = drivers.run

    def counted(table, *rest, **more):
        rows.append(len(table.cases))
        return run(table, *rest, **more)

    monkeypatch.setattr(drivers, "run", counted)
    ds = frontier(BASE, RATE, ["10 MB/s", "100 GB/s"], OVER, tolerance=0.01)
    assert sum(rows) == ds.attrs["migrations"]


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_and_blocks_change_no_bit(engine, monkeypatch):
    arguments = {"tolerance": 0.05, "engine": engine, "replicates": 3 if engine == "bitmap" else None}
    one = frontier(BASE, RATE, ["100 MB/s", "10 GB/s"], OVER, threads=1, **arguments)
    xr.testing.assert_identical(one, frontier(BASE, RATE, ["100 MB/s", "10 GB/s"], OVER, **arguments))
    monkeypatch.setattr(sys.modules["migkit.analysis.frontier"], "BATCH_ROWS", {"expected": 7, "bitmap": 7})
    xr.testing.assert_identical(one, frontier(BASE, RATE, ["100 MB/s", "10 GB/s"], OVER, **arguments))


def test_progress_is_shown_when_asked_for(capfd):
    frontier(BASE, RATE, ["10 MB/s", "100 GB/s"], tolerance=0.1)
    assert capfd.readouterr() == ("", "")
    frontier(BASE, RATE, ["10 MB/s", "100 GB/s"], tolerance=0.1, progress=True)
    assert "migration" in capfd.readouterr().err


def test_a_frontier_can_be_stored(tmp_path):
    for engine in ENGINES:
        ds = frontier(BASE, RATE, ["10 MB/s", "100 GB/s"], policy=["serialized", "unserialized"], tolerance=0.2,
                      engine=engine)  # fmt: skip
        ds.to_zarr(tmp_path / engine, consolidated=False)
        back = xr.load_dataset(tmp_path / engine, engine="zarr", consolidated=False)
        xr.testing.assert_equal(ds, back)
        assert back.attrs == ds.attrs


# ---------------------------------------------------------------- bitmap engine


def test_interval_of_the_bitmap_engine_covers_the_expected_one():
    # whether all of RAM, written at random, is sent down to the threshold within 1 s: no second chances, so that
    # the runs scatter about the expectation
    scenario = Scenario(
        guest=Guest(ram="256 MiB", regions=[Region(size="256 MiB", write_rate="1 GB/s")]),
        link=Link(bandwidth="10 Gbit/s"),
        migration=Migration(max_bandwidth=0, downtime_limit="50 ms"),
        costs=IDEAL,
        time_limit="1 s",
    )
    between = ["200 MB/s", "10 GB/s"]
    expected = float(frontier(scenario, RATE, between)["critical"][0])
    ds = frontier(scenario, RATE, between, engine="bitmap", replicates=20)
    step = 1 + ds.attrs["tolerance"]
    assert ds["flips"] == 1
    assert ds["share"].values.tolist() == [1.0]
    assert ds["median_low"][0] / step <= expected <= ds["median_high"][0] * step
    assert ds["single_low"][0] < ds["median_low"][0] <= ds["critical"][0] <= ds["median_high"][0] < ds["single_high"][0]
    assert float(ds["single_high"][0] / ds["single_low"][0]) < 1.02
    assert ds["sample"].dims == ("replicate", "flip")
    assert float(ds["critical"][0]) == np.median(ds["sample"])
    assert (ds["replicate_flips"] == 1).all()
    assert ds["below"].dims == ("replicate", "flip")


def test_each_replicate_is_the_frontier_of_its_own_draws():
    ds = frontier(BASE, RATE, ["100 MB/s", "10 GB/s"], OVER, "serialized", tolerance=0.1, engine="bitmap",
                  replicates=2, seed=3, scan=100)  # fmt: skip
    rates = {RATE: spaced(RATE, np.array([100e6, 10e9]), "B/s", 0.1).values}
    axes = {**OVER, "write_rate": rates, "replicate": range(2)}
    grid = sweep(BASE.replace("policy", "serialized"), axes, "bitmap", 3)
    assert np.isfinite(ds["below"]).any()
    for place in np.ndindex(ds["replicate_flips"].shape):
        row = grid["outcome"].transpose("bandwidth", "count", "replicate", "write_rate").values[place]
        found = ds["below"].values[place]
        np.testing.assert_array_equal(found[np.isfinite(found)], grid["write_rate"].values[true_flips(row)])
    assert (ds["flips"] <= ds["replicate_flips"].max("replicate")).all()


def test_a_writer_without_chance_leaves_no_interval():
    arguments = {"outcome": "initial_data_starved", "tolerance": 0.02, "policy": "serialized"}
    small = HOT.replace("guest.ram", "1 GiB")
    expected = frontier(small, SIZE, ["20 MiB", "600 MiB"], **arguments)
    ds = frontier(small, SIZE, ["20 MiB", "600 MiB"], engine="bitmap", replicates=6, **arguments)
    for name in ("critical", "single_low", "single_high", "median_low", "median_high"):
        np.testing.assert_array_equal(ds[name], expected["critical"], name)


# ---------------------------------------------------------------- what is refused

WHOLE = ["10 MB/s", "1 GB/s"]
REFUSED = {
    "unknown axis": ("guest.regions.0.writerate", WHOLE, {}, 'did you mean "write_rate"?'),
    "axis no text": (3, WHOLE, {}, "axis = 3 is not a path"),
    "axis also over": (RATE, WHOLE, {"over": {RATE: ["1 MB/s"]}}, "cannot be one of the other axes too"),
    "axis also in a group": (RATE, WHOLE, {"over": {"host": {RATE: ["1 MB/s"]}}}, "is on two axes"),
    "wrong unit": (RATE, ["10 MiB", "1 GB/s"], {}, "is a size, but a rate is needed"),
    "no unit": (RATE, [10, 1000], {}, "has no unit"),
    "reversed": (RATE, ["1 GB/s", "10 MB/s"], {}, "give the least one first"),
    "no range": (RATE, ["1 GB/s", "1 GB/s"], {}, "is on the axis twice"),
    "three ends": (RATE, ["1 GB/s", "2 GB/s", "3 GB/s"], {}, "must be two values"),
    "one end": (RATE, "1 GB/s", {}, "must be two values"),
    "words": ("policy", ["serialized", "unserialized"], {}, "policy holds words, which cannot be bisected"),
    "flag": ("migration.auto_converge", [False, True], {}, "holds words"),
    "tolerance 0": (RATE, WHOLE, {"tolerance": 0}, "tolerance = 0 must be a number above 0 and up to 0.5"),
    "tolerance 1": (RATE, WHOLE, {"tolerance": 1}, "above 0 and up to 0.5"),
    "tolerance text": (RATE, WHOLE, {"tolerance": "1 %"}, "above 0 and up to 0.5"),
    "too fine": (RATE, WHOLE, {"tolerance": 1e-6}, "at most 100000 are allowed"),
    "scan": (RATE, WHOLE, {"scan": 1}, "scan = 1 must be a whole number of 2 or more"),
    "outcome": (RATE, WHOLE, {"outcome": "complete"}, 'did you mean "completed"?'),
    "multiple": (RATE, WHOLE, {"multiple": "4 KiB"}, "is a size, but a rate is needed"),
    "multiple 0": (RATE, WHOLE, {"multiple": "0 B/s"}, "cannot be rounded to"),
    "multiple of the ends": (SIZE, ["4 KiB", "1 MiB"], {"multiple": "8 KiB"}, "at multiples of 8 KiB"),
    "multiple of a count": ("devices.0.count", [0, 2], {"multiple": "4 KiB"}, "leave multiple out"),
    "pages": (SIZE, ["5 kB", "1 MiB"], {}, "is not a whole number of 4 KiB pages"),
    "beyond RAM": (SIZE, ["1 MiB", "1 GiB"], {}, "beyond"),
    "engine": (RATE, WHOLE, {"engine": "bitmp"}, 'did you mean "bitmap"?'),
    "replicates": (RATE, WHOLE, {"replicates": 3}, "leave replicates out"),
    "no replicates": (RATE, WHOLE, {"engine": "bitmap", "replicates": 0}, "replicates = 0"),
    "replicate": (RATE, WHOLE, {"over": {"replicate": range(3)}}, "say how many with replicates="),
    "seed": (RATE, WHOLE, {"seed": -1}, "seed = -1"),
    "confidence": (RATE, WHOLE, {"confidence": 1}, "above 0 and below 1"),
    "policy twice": (RATE, WHOLE, {"policy": "serialized", "over": {"policy": ["serialized"]}}, "is given twice"),
    "policy": (RATE, WHOLE, {"policy": "serialised"}, 'did you mean "serialized"?'),
    "over": (RATE, WHOLE, {"over": ["policy"]}, "must be a mapping"),
    "over empty": (RATE, WHOLE, {"over": {"link.rtt": []}}, "needs at least one"),
    "over reserved": (RATE, WHOLE, {"over": {"flip": {"link.rtt": ["1 ms"]}}}, "flip cannot be the name"),
    "threads": (RATE, WHOLE, {"threads": 0}, "threads = 0 must be"),
}  # fmt: skip


@pytest.mark.parametrize(("axis", "between", "arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_sentence_before_anything_is_computed(monkeypatch, axis, between, arguments, words):
    monkeypatch.setattr(drivers, "run", lambda *_, **__: pytest.fail("computed something"))
    with pytest.raises(ScenarioError) as caught:
        frontier(BASE, axis, between, **arguments)
    assert words in str(caught.value)
    assert str(caught.value).endswith((".", "?"))
