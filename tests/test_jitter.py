"""A host that is not even: slices, wake-ups and syncs are drawn, and islands of *never* vanish."""

import numpy as np
import pytest

import migkit
from migkit.scenario.errors import ScenarioError

UNEVEN = migkit.Scenario(
    guest=migkit.Guest(ram="2 GiB", regions=[migkit.Region(size="256 MiB", start="64 MiB", write_rate="60 MB/s")]),
    link=migkit.Link(bandwidth="2 Gbit/s"),
    migration=migkit.Migration(max_bandwidth=0),
    costs=migkit.HostCosts(jitter=0.1),
)
ISLANDS = migkit.Scenario(
    guest=migkit.Guest(
        ram="192 GiB",
        zero_share=1.0,
        regions=[migkit.Region(size="24 GiB", start="1 GiB", write_rate="1600 MiB/s", pattern="sequential", phase=0.0)],
    ),
    link=migkit.Link(bandwidth="17.5 Gbit/s"),
    migration=migkit.Migration(max_bandwidth=0),
    costs=migkit.HostCosts(page="1 us"),
    qemu="8.2",
    time_limit="10 min",
)


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_replicates_differ_around_the_mean(engine):
    even = migkit.simulate(UNEVEN.replace("costs.jitter", 0.0), engine).total_time_s
    times = [migkit.simulate(UNEVEN, engine, seed=4, replicate=k).total_time_s for k in range(12)]
    assert times == [migkit.simulate(UNEVEN, engine, seed=4, replicate=k).total_time_s for k in range(12)]
    assert len(set(times)) == 12
    assert np.mean(times) == pytest.approx(even, rel=0.02)
    # some 200 slices, each off by a tenth
    assert 0.001 < np.std(times) / even < 0.03


def test_wake_ups_and_syncs_are_drawn_too():
    limited = UNEVEN.replace_all({"migration.max_bandwidth": "64 MiB/s", "costs.wakeup": "2 ms", "costs.jitter": 0.9})
    even = migkit.simulate(limited.replace("costs.jitter", 0.0)).total_time_s
    times = [migkit.simulate(limited, replicate=k).total_time_s for k in range(8)]
    assert np.mean(times) == pytest.approx(even, rel=0.02)
    assert len(set(times)) == 8


def test_what_is_drawn_is_said():
    assert UNEVEN.drawn_fields() == ["costs.jitter"]
    assert UNEVEN.replace("costs.jitter", 0.0).drawn_fields() == []
    migration = migkit.simulate(UNEVEN)
    assert migration.spread["completed"] == 20
    assert "drawn: costs.jitter" in migration.summary()
    assert migration.costs == "assumed except jitter"


def test_islands_of_never_vanish():
    # without jitter slice, sync and window lock together: it completes at one cost of a sync and not beside it
    costs = {"costs.bitmap_sync_per_gib": ["0.10 ms", "0.14 ms", "0.20 ms"]}
    assert (migkit.sweep(ISLANDS, costs)["outcome"].values == 0).tolist() == [False, True, False]
    uneven = migkit.sweep(ISLANDS.replace("costs.jitter", 0.1), {**costs, "replicate": range(10)})
    assert (uneven["outcome"].values == 0).mean(axis=1).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("value", [-0.1, 0.91, "some", None, float("nan")])
def test_a_jitter_that_is_none_is_refused(value):
    with pytest.raises(ScenarioError, match="jitter"):
        migkit.HostCosts(jitter=value)


def measured(values):
    """Relative standard deviation within each run that has 15 values or more."""
    found = values.agg(["mean", "std", "size"])
    return (found["std"] / found["mean"])[found["size"] >= 15]


def test_the_measured_runs_have_no_one_jitter():
    # the table of docs/model.md, section 5
    from migkit.qemu.traces import runs, table

    quiet = runs().query("other_cpu <= 0.2 and campaign == '2026-11-22'")
    syncs = table("syncs").query("run in @quiet.index")
    number = syncs.groupby("run", observed=True).cumcount()
    first_pass_ms = syncs[number == 1].set_index("run")["t_ms"]
    last = syncs.groupby("run", observed=True)["t_ms"].transform("size") - 1
    kvm = quiet.index[quiet["accel"] == "kvm"]
    in_loop = syncs[(number > 0) & (number < last) & syncs["run"].isin(kvm)]
    assert measured(in_loop.groupby("run", observed=True)["us"]).median() == pytest.approx(0.23, abs=0.01)
    slices = table("big_waits").query("run in @quiet.index")
    later = slices[slices["t_ms"] > slices["run"].astype(str).map(first_pass_ms).fillna(np.inf)]
    pace = measured((later["elapsed_ms"] / later["pages"]).groupby(later["run"].astype(str)))
    paced = quiet.loc[pace.index].eval("link_mib_s > 0 and writes_max")
    loopback = quiet.loc[pace.index].eval("link_mib_s == 0 and writes_max")
    assert pace[paced].median() == pytest.approx(0.03, abs=0.005)
    assert pace[loopback].median() == pytest.approx(0.09, abs=0.005)
