"""The guest: writers that are paced by their work, and writers that begin anywhere."""

import json

import numpy as np
import pytest

import migkit
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
        migkit.Region(size="1 MiB", phase=phase)
