"""The guest: writers that are paced by their work, and writers that begin anywhere."""

import json

import numpy as np
import pytest

import migkit
from migkit.results import Outcome
from migkit.scenario.errors import ScenarioError

PACED = migkit.Scenario(
    guest=migkit.Guest(
        ram="512 MiB", regions=[migkit.Region(size="256 MiB", start="2 MiB", write_rate="192 MiB/s", vcpu_share=0.1667)]
    ),
    link=migkit.Link(bandwidth="1.2 GB/s"),
    migration=migkit.Migration(max_bandwidth="128 MiB/s", auto_converge=True),
)
CYCLIC = migkit.Scenario(
    guest=migkit.Guest(
        ram="512 MiB",
        regions=[migkit.Region(size="128 MiB", start="2 MiB", write_rate="115.2 MiB/s", pattern="sequential")],
    ),
    link=migkit.Link(bandwidth="1.2 GB/s"),
    migration=migkit.Migration(max_bandwidth="128 MiB/s"),
)


# ---------------------------------------------------------------- demand


def test_a_paced_guest_is_slowed_when_the_throttle_has_taken_its_idle_time():
    # measured: 29.3 s, 38 syncs, throttle 90 to 99 %. The guest wakes at 1 kHz and catches up 50 ms at most, and a
    # slice is 10 ms of vCPU and 10 p / (1 - p) ms without: it keeps its rate up to p = 5/6.
    paced = migkit.simulate(PACED)
    assert paced.converged
    assert paced.total_time_s == pytest.approx(29.3, rel=0.1)
    assert 90 <= paced.numbers["throttle_percent"] <= 99
    busy = migkit.simulate(PACED.replace("guest.regions.0.vcpu_share", 1.0))
    assert busy.total_time_s < 0.5 * paced.total_time_s


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_a_writer_keeps_its_rate_until_the_throttle_leaves_less_than_it_needs(engine):
    scenario = PACED.replace_all({
        "migration.cpu_throttle_initial": 40, "migration.max_cpu_throttle": 40, "time_limit": "20 s",
        "guest.regions.0.vcpu_share": 0.6,
    })  # fmt: skip
    kept = migkit.simulate(scenario, engine)
    assert kept.numbers["throttle_percent"] == 40
    free = migkit.simulate(scenario.replace("migration.auto_converge", False), engine)
    slowed = migkit.simulate(scenario.replace("guest.regions.0.vcpu_share", 0.61), engine)
    assert kept.bytes_sent["ram"] == pytest.approx(free.bytes_sent["ram"], rel=0.02)
    # with the same share of the time the guest writes as one of the rate 0.6 / 0.61
    assert not slowed.timeline["pending_bytes"].equals(kept.timeline["pending_bytes"])


def test_without_a_throttle_the_share_changes_nothing():
    rows = migkit.sweep(
        PACED.replace("migration.auto_converge", False), {"guest.regions.0.vcpu_share": [0.0001, 0.3, 1.0]}
    )
    assert np.unique(rows["total_time_s"]).size == 1
    assert np.unique(rows["bytes_sent"]).size == 1


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
@pytest.mark.parametrize(("cost", "value"), [("throttle_late", "1.3 ms"), ("throttle_loss", 0.1)])
def test_what_a_throttle_costs_slows_a_busy_guest_further(engine, cost, value):
    even = PACED.replace("guest.regions.0.vcpu_share", 1.0)
    free = even.replace("migration.auto_converge", False)
    slowed, full = (migkit.simulate(each, engine) for each in (even.replace(f"costs.{cost}", value), even))
    assert slowed.converged
    throttles = [each.numbers["throttle_percent"] for each in (slowed, full)]
    assert slowed.total_time_s < full.total_time_s or throttles[0] < throttles[1]
    unthrottled = migkit.simulate(free.replace(f"costs.{cost}", value), engine)
    assert unthrottled.bytes_sent == migkit.simulate(free, engine).bytes_sent


@pytest.mark.parametrize("share", [0, -0.5, 1.01, "half", None, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ScenarioError, match="vcpu_share"):
        migkit.Region(size="1 MiB", vcpu_share=share)


# ---------------------------------------------------------------- phase


def test_where_a_sequential_writer_begins_decides_and_the_spread_says_so():
    # measured at different times: 6.0 s with 7 syncs to 11.4 s with 27
    migration = migkit.simulate(CYCLIC)
    assert migration.spread["fields"] == ["guest.regions.0.phase"]
    assert migration.spread["completed"] == migration.spread["replicates"] == 20
    least, median, most = migration.spread["total_time_s"]
    assert least == pytest.approx(6.0, rel=0.05)
    assert most == pytest.approx(11.4, rel=0.05)
    assert least < median < most
    assert "spread        20 of 20 replicates complete, in " in migration.summary()
    assert "drawn: guest.regions.0.phase" in migration._repr_html_()
    assert json.loads(json.dumps(migration.to_dict()))["spread"]["completed"] == 20


def test_nothing_is_drawn_where_the_phase_is_given_or_has_no_effect():
    assert CYCLIC.drawn_fields() == ["guest.regions.0.phase"]
    for path, value in (("phase", 0.25), ("pattern", "uniform"), ("write_rate", "0 B/s")):
        given = CYCLIC.replace(f"guest.regions.0.{path}", value)
        assert given.drawn_fields() == []
        migration = migkit.simulate(given)
        assert migration.spread == {}
        assert "spread" not in migration.summary()
        assert migkit.simulate(given, replicate=3).total_time_s == migration.total_time_s


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_a_drawn_phase_is_that_of_the_replicate_and_a_given_one_gives_the_same(engine):
    times = [migkit.simulate(CYCLIC, engine, seed=1, replicate=k).total_time_s for k in range(6)]
    assert times == [migkit.simulate(CYCLIC, engine, seed=1, replicate=k).total_time_s for k in range(6)]
    assert len(set(times)) > 2
    begins = {
        phase: migkit.simulate(CYCLIC.replace("guest.regions.0.phase", phase), engine).total_time_s
        for phase in (0.0, 0.5, 1.0)
    }
    assert begins[0.0] == begins[1.0]  # round and round
    assert begins[0.5] != begins[0.0]


def test_both_engines_agree_on_a_sequential_writer():
    for replicate in range(4):
        expected, bitmap = (
            migkit.simulate(CYCLIC, engine, replicate=replicate).total_time_s for engine in ("expected", "bitmap")
        )
        assert expected == pytest.approx(bitmap, rel=0.01)


def test_uncertainty_and_frontier_take_the_replicates_of_the_expected_engine():
    from migkit.analysis.uncertainty import convergence

    rows = migkit.sweep(CYCLIC, {"migration.max_bandwidth": ["120 MiB/s", "128 MiB/s"], "replicate": range(20)})
    found = convergence(rows)
    assert set(found.dims) >= {"migration.max_bandwidth"}
    fixed = migkit.sweep(CYCLIC.replace("guest.regions.0.phase", 0.0), {"link.rtt": ["0 s"], "replicate": range(3)})
    with pytest.raises(ScenarioError, match="draws nothing"):
        convergence(fixed)
    flips = migkit.frontier(CYCLIC, "guest.regions.0.write_rate", ["60 MB/s", "300 MB/s"], tolerance=0.02)
    assert flips.sizes["replicate"] == 20
    with pytest.raises(ScenarioError, match="draws nothing"):
        migkit.frontier(
            CYCLIC.replace("guest.regions.0.phase", 0.5), "guest.regions.0.write_rate", ["60 MB/s", "300 MB/s"],
            replicates=3,
        )  # fmt: skip


@pytest.mark.parametrize("phase", [-0.1, 1.01, "anywhere", True, float("nan")])
def test_a_phase_that_is_none_is_refused(phase):
    with pytest.raises(ScenarioError, match="phase"):
        migkit.Region(size="1 MiB", pattern="sequential", phase=phase)


def test_a_phase_of_uniform_writes_is_refused():
    says = 'phase = 0.25 has no effect on uniform writes: give pattern = "sequential", or no phase'
    text = 'guest = { ram = "1 GiB", regions = [{ size = "1 MiB", phase = 0.25 }] }\nlink.bandwidth = "1 GB/s"'
    for refused in (
        lambda: migkit.Region(size="1 MiB", phase=0.25),
        lambda: migkit.Scenario.from_toml(text),
        lambda: CYCLIC.replace({"guest.regions.0.phase": 0.25, "guest.regions.0.pattern": "uniform"}),
        lambda: migkit.sweep(CYCLIC.replace("guest.regions.0.pattern", "uniform"),
                             {"guest.regions.0.phase": [0.25, 0.5]}),
    ):  # fmt: skip
        with pytest.raises(ScenarioError, match=says):
            refused()
    # but an axis may have no effect at some values of another one
    patterns = {"guest.regions.0.pattern": ["uniform", "sequential"]}
    assert migkit.sweep(CYCLIC.replace("guest.regions.0.phase", 0.25), patterns)["outcome"].size == 2


# ---------------------------------------------------------------- rates that change

BUSY = PACED.replace_all({
    "guest.regions.0.vcpu_share": 1.0, "migration.auto_converge": False, "time_limit": "60 s",
    "guest.regions.0.write_rate": "0 B/s",
})  # fmt: skip


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_a_guest_that_falls_quiet_completes_then(engine):
    rates = [("12 s", "192 MiB/s"), ("1 h", "1 MB/s")]
    quiet = migkit.simulate(BUSY.replace("guest.regions.0.rates", rates), engine)
    assert quiet.converged
    assert 12 < quiet.total_time_s < 15
    curve = [("0 s", "192 MiB/s"), ("12 s", "1 MB/s")]
    assert (
        migkit.simulate(BUSY.replace("guest.regions.0.curve", curve), engine).numbers["total_time_s"]
        == (quiet.numbers["total_time_s"])
    )
    busy = BUSY.replace("guest.regions.0.write_rate", "192 MiB/s")
    assert not migkit.simulate(busy, engine).converged


def test_one_rate_is_the_rate():
    plain = migkit.simulate(BUSY.replace("guest.regions.0.write_rate", "100 MB/s"))
    for name, value in (("rates", [("5 s", "100 MB/s")]), ("curve", [("0 s", "100 MB/s")]),
                        ("rates", [("5 s", "100 MB/s"), ("7 s", "100 MB/s")])):  # fmt: skip
        assert migkit.simulate(BUSY.replace(f"guest.regions.0.{name}", value)).total_time_s == plain.total_time_s


def test_rates_that_change_fast_are_their_mean():
    rates = [("1 ms", "200 MB/s"), ("1 ms", "0 B/s"), ("2 ms", "50 MB/s")]
    changing = BUSY.replace_all({"guest.regions.0.rates": rates, "guest.regions.0.periodic": True})
    mean = BUSY.replace("guest.regions.0.write_rate", "75 MB/s")
    for engine in ("expected", "bitmap"):
        assert migkit.simulate(changing, engine).total_time_s == pytest.approx(
            migkit.simulate(mean, engine).total_time_s, rel=0.02
        )


def test_a_period_is_not_taken_for_a_state_that_repeats():
    # quiet for 10 s in every 5 minutes: it completes in the first pause, long after four equal laps
    rates = [("290 s", "192 MiB/s"), ("10 s", "0 B/s")]
    scenario = BUSY.replace_all({
        "guest.regions.0.rates": rates, "guest.regions.0.periodic": True, "time_limit": "30 min",
    })  # fmt: skip
    assert 290 < migkit.simulate(scenario).total_time_s < 296


def test_the_engines_agree_on_a_curve_in_two_regions():
    curve = [(f"{k / 2} s", f"{20 + 60 * (k % 3)} MB/s") for k in range(60)]
    regions = [migkit.Region(size="64 MiB", start="2 MiB", curve=curve, pattern="sequential", phase=0.0),
               migkit.Region(size="128 MiB", start="256 MiB", curve=curve[::2])]  # fmt: skip
    scenario = BUSY.replace("guest.regions", regions)
    expected, bitmap = (migkit.simulate(scenario, engine) for engine in ("expected", "bitmap"))
    assert expected.total_time_s == pytest.approx(bitmap.total_time_s, rel=0.03)
    assert expected.sync_count == pytest.approx(bitmap.sync_count, abs=1)


def test_a_sweep_and_a_list_of_scenarios_take_changing_rates():
    rates = [("12 s", "192 MiB/s"), ("1 h", "1 MB/s")]
    scenario = BUSY.replace("guest.regions.0.rates", rates)
    rows = migkit.sweep(
        scenario, {"guest.ram": ["512 MiB", "1 GiB"], "migration.max_bandwidth": ["128 MiB/s", "1 GB/s"]}
    )
    assert float(rows["total_time_s"][0, 0]) == migkit.simulate(scenario).total_time_s
    from migkit.scenario.rows import records

    mixed = records([scenario, BUSY, scenario.replace("guest.regions.0.curve", ()).replace("guest.ram", "1 GiB")])
    assert mixed.regions["rate_count"].ravel().tolist() == [2, 0, 2]
    assert migkit.Scenario.from_toml(scenario.to_toml()) == scenario


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rates": [("0 s", "1 MB/s")]}, r"rates\.0\.0 = .*allowed range"),
        ({"rates": [("1 s", "2 TB/s")]}, r"rates\.0\.1 = .*allowed range"),
        ({"rates": [("1 s",)]}, r"rates.* few values"),
        ({"rates": "1 s"}, "rates .*is not a list"),
        ({"rates": [("1 s", "1 MB/s")] * 1025}, "rates .*more than 1024 entries"),
        ({"rates": [("1 s", "1 MB/s")], "write_rate": "1 MB/s"}, "write_rate = .*beside rates"),
        ({"curve": [("0 s", "1 MB/s")], "write_rate": "1 MB/s"}, "write_rate = .*beside curve"),
        ({"curve": [("0 s", "1 MB/s")], "rates": [("1 s", "1 MB/s")]}, "curve .*beside rates"),
        ({"curve": [("1 s", "1 MB/s")]}, "curve .*from 0 s"),
        ({"curve": [("0 s", "1 MB/s"), ("0 s", "2 MB/s")]}, "curve .*from 0 s"),
        ({"periodic": True}, "periodic = True needs rates"),
        ({"periodic": True, "rates": [("1 s", "1 MB/s")]}, "periodic = True needs rates, two or more"),
    ],
)
def test_rates_that_are_none_are_refused(fields, sentence):
    with pytest.raises(ScenarioError, match=sentence):
        migkit.Region(size="1 MiB", **fields)


def test_rates_are_no_axis():
    with pytest.raises(ScenarioError, match="cannot be an axis"):
        migkit.sweep(BUSY, {"guest.regions.0.rates": [[("1 s", "1 MB/s")]]})


# ---------------------------------------------------------------- sizes of pages


def test_a_page_size_hides_no_cost():
    # 4 GiB at 2 GB/s: the thread sends 1.95 GB/s, whatever the page
    guest = migkit.Guest(ram="64 GiB", regions=[migkit.Region(size="4 GiB", start="1 GiB", write_rate="2 GB/s")])
    scenario = migkit.Scenario(guest=guest, link=migkit.Link(bandwidth="100 Gbit/s"),
                               migration=migkit.Migration(max_bandwidth=0),
                               costs=migkit.HostCosts(bitmap_sync_per_gib="0.14 ms"))  # fmt: skip
    for size in ("4 KiB", "16 KiB", "64 KiB"):
        migration = migkit.simulate(scenario.replace("guest.page_size", size))
        assert migration.outcome is Outcome.RAM_ABOVE_LINK, size
        assert migration.binds == "thread"
        assert migration.scenario.wire_limits()["thread"] == pytest.approx(1.95e9, rel=0.003)


@pytest.mark.parametrize("size", ["128 KiB", "2 MiB", "1 GiB"])
def test_a_page_is_no_larger_than_that_of_a_target(size):
    # 4 GiB in 4 pages of 1 GiB, of which none is written now and then: it completed where 4 KiB never did
    guest = f'guest = {{ ram = "64 GiB", page_size = "{size}" }}\nlink.bandwidth = "100 Gbit/s"'
    for refused in (
        lambda: migkit.Scenario.from_toml(guest),
        lambda: PACED.replace("guest.page_size", size),
        lambda: migkit.sweep(PACED, {"guest.page_size": ["4 KiB", size]}),
    ):
        with pytest.raises(ScenarioError, match=f'page_size = "{size}" .*from 512 B to 64 KiB: .*guest.tracking'):
            refused()


def test_huge_pages_behind_ram_have_an_answer():
    for name in ("hugetlb", "hugepages", "mem_path"):
        with pytest.raises(ScenarioError, match=rf"{name} .*RAM in huge pages .*guest.backing"):
            migkit.Guest(ram="1 GiB", **{name: "2 MiB"})


def test_a_cost_per_page_is_given_apart():
    from migkit.scenario.rows import records

    costs = migkit.HostCosts(page="2 us", zero_page="0.4 us", copy_share=0.75)
    one = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="1 GB/s"), costs=costs)
    found = records([one, one.replace("guest.page_size", "64 KiB")]).cases
    assert found["page_cost_ns"].tolist() == [2000.0, 500.0 + 16 * 1500.0]
    assert found["zero_cost_ns"].tolist() == [400.0, 100.0 + 16 * 300.0]


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
@pytest.mark.parametrize("pattern", ["uniform", "sequential"])
def test_a_larger_tracked_unit_makes_more_dirty(engine, pattern):
    region = migkit.Region(size="512 MiB", start="16 MiB", write_rate="4 MB/s", pattern=pattern)
    scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB", regions=[region]), link=migkit.Link(bandwidth="1 GB/s"),
                               migration=migkit.Migration(downtime_limit="10 ms"))  # fmt: skip
    sent = [
        migkit.simulate(scenario.replace("guest.tracking", size), engine).bytes_sent["ram"]
        for size in ("0 B", "4 KiB", "64 KiB", "16 MiB")
    ]
    assert sent[0] == sent[1]
    if pattern == "uniform":
        assert sent[1] + 2**26 < sent[2] < sent[3]  # 1000 pages a second dirty up to 16 and 4096 times as much
    else:
        assert sent[1] <= sent[2] < sent[3] + 2**25  # neighbours are written anyway: a unit more at each end


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"tracking": "3 KiB"}, "tracking = .*power of two"),
        ({"tracking": "1 KiB"}, "tracking = .*less than a page"),
        ({"tracking": "32 MiB"}, "tracking = .*4096 pages"),
        (
            {"tracking": "2 MiB", "regions": [migkit.Region(size="1 MiB")]},
            r"regions\.0\.size = .*tracked units of 2 MiB",
        ),
        (
            {"tracking": "2 MiB", "regions": [migkit.Region(size="2 MiB", start="1 MiB")]},
            r"regions\.0\.start = .*tracked",
        ),
        ({"used": "2 GiB"}, "used = .*1 GiB of RAM"),
        ({"used": "1 MiB", "regions": [migkit.Region(size="2 MiB")]}, "used = .*less than the regions"),
        ({"used": "5 kB"}, "used = .*whole number of 4 KiB pages"),
        ({"used_at": "end"}, 'used_at = "end" has no effect without used'),
        ({"used_at": "middle"}, "used_at = .*did you mean|used_at = .*not allowed"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(fields, sentence):
    with pytest.raises(ScenarioError, match=sentence):
        migkit.Guest(ram="1 GiB", **fields)


def test_a_tracked_unit_is_no_larger_than_a_chunk():
    scenario = PACED.replace_all({"guest.regions": [], "guest.tracking": "1 MiB"})
    with pytest.raises(ScenarioError, match=r"guest\.tracking .*chunk"):
        scenario.replace("migration.x_clear_bitmap_shift", 6)


# ---------------------------------------------------------------- memory in use


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_where_memory_in_use_lies_decides_when_the_zero_pages_come(engine):
    region = migkit.Region(size="64 MiB", start="512 MiB", write_rate="1 MB/s")
    scenario = migkit.Scenario(
        guest=migkit.Guest(ram="1 GiB", regions=[region], used="256 MiB"), link=migkit.Link(bandwidth="100 MB/s")
    )
    found = {at: migkit.simulate(scenario.replace("guest.used_at", at), engine) for at in ("start", "end", "spread")}
    for migration in found.values():
        assert migration.numbers["ram_zero_pages"] == pytest.approx(768 * 256, rel=0.02)
        assert migration.bytes_sent["ram"] == pytest.approx(256 * 2**20, rel=0.05)
    pages = {at: migration.timeline.iloc[:10]["ram_pages"].sum() for at, migration in found.items()}
    assert pages["start"] < 0.5 * pages["spread"] < pages["end"]


def test_memory_in_use_goes_around_the_regions():
    from migkit.scenario.rows import records

    regions = [migkit.Region(size="64 MiB", start="64 MiB"), migkit.Region(size="64 MiB", start="192 MiB"),
               migkit.Region(size="64 MiB", start="640 MiB")]  # fmt: skip
    scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB", regions=regions, used="384 MiB", used_at="start"),
                               link=migkit.Link(bandwidth="1 GB/s"))  # fmt: skip
    found = records([scenario, scenario.replace("guest.used_at", "end"),
                     scenario.replace({"guest.used": "0 B", "guest.used_at": "spread"})]).cases  # fmt: skip
    # 192 MiB outside: 0 to 64, 128 to 192, 256 to 320; from the end 832 to 1024
    assert found["used_first"].tolist() == [0, 832 * 256, 0]
    assert found["used_stop"].tolist() == [320 * 256, 1024 * 256, 1024 * 256]
    rows = migkit.sweep(scenario, {"guest.used": ["0 B", "384 MiB"], "guest.used_at": ["start", "spread"]})
    assert (rows["ram_zero_pages"] == np.array([[0, 0], [640 * 256, 640 * 256]])).all()


def test_tail_slow_adds_no_more_than_brings_the_writes_to_the_trigger():
    """migration/ram.c:mig_throttle_guest_down: cpu-throttle-increment, or what is missing where that is less."""
    hot = migkit.Scenario(
        guest=migkit.Guest(ram="512 MiB", accel="tcg", regions=[migkit.Region(size="256 MiB", write_rate="200 MB/s")]),
        link=migkit.Link(bandwidth="1 Gbit/s"),
        migration=migkit.Migration(
            max_bandwidth=0, auto_converge=True, cpu_throttle_increment=60, downtime_limit="10 ms"
        ),
        time_limit="20 s",
    )
    steps = {}
    for tail_slow in (False, True):
        found = migkit.simulate(hot.replace("migration.cpu_throttle_tailslow", tail_slow))
        steps[tail_slow] = sorted(set(found.timeline["throttle_percent"]))
    assert steps[False][:3] == [0, 20, 80]
    assert steps[True][:2] == [0, 20]
    assert 20 < steps[True][2] < 80
