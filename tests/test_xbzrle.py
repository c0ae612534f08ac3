"""XBZRLE: who may use it, what a cache of some size brings, and measured runs.

``tests/data/xbzrle``: runs of QEMU 7.2.22 and 10.0.2 (TCG) on a machine with two cores that did other work too: 256
MiB, a writer of 64 MiB at 100 MB/s that changes one word of a page, max-bandwidth 32 MiB/s, downtime-limit 100 ms, and
a cache that has room for all of it (*cache64*) or for a quarter (*cache16*).
"""

from pathlib import Path

import numpy as np
import pytest

import migkit
from migkit import Guest, HostCosts, Link, Migration, Region, Scenario, ScenarioError, qemu, simulate
from migkit.qemu.planned import scenario_of_plan
from migkit.qemu.predict import ENCODED_PAGE_BYTES, scenario_of

FOLDER = Path(__file__).parent / "data" / "xbzrle"
RUNS = qemu.runs(FOLDER)


def scenario(**fields):
    migration = {"max_bandwidth": 0, "xbzrle": True} | fields.pop("migration", {})
    link = {"bandwidth": "1 Gbit/s", "xbzrle_page": "200 B"} | fields.pop("link", {})
    costs = {"xbzrle_page": "5 us"} | fields.pop("costs", {})
    guest = {"ram": "1 GiB", "accel": "tcg", "regions": [Region(size="64 MiB", write_rate="500 MB/s")]}
    return Scenario(guest=Guest(**guest | fields.pop("guest", {})), link=Link(**link), costs=HostCosts(**costs),
                    migration=Migration(**migration), **{"time_limit": "1 min"} | fields)  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"migration": {"multifd": True}}, "xbzrle = True cannot be on together with multifd"),
        ({"link": {"xbzrle_page": "0 B"}}, "migration.xbzrle = True needs link.xbzrle_page"),
        ({"costs": {"xbzrle_page": "0 s"}}, "migration.xbzrle = True needs costs.xbzrle_page"),
        ({"migration": {"xbzrle_cache_size": "1 KiB"}}, "is less than a page of 4 KiB"),
    ],
)
def test_what_is_refused_or_not_known_is_told(fields, sentence):
    with pytest.raises(ScenarioError) as told:
        scenario(**fields)
    assert sentence in str(told.value)


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_a_guest_converges_with_a_cache_for_its_working_set_and_not_without(engine):
    given = scenario()
    assert simulate(given, engine).converged
    assert not simulate(given.replace("migration.xbzrle", False), engine).converged
    assert not simulate(given.replace("migration.xbzrle_cache_size", "8 MiB"), engine).converged


def test_qemu_takes_the_power_of_two_below():
    given = scenario(migration={"xbzrle_cache_size": "32 MiB"}, time_limit="10 s")
    swept = migkit.sweep(given, {"migration.xbzrle_cache_size": ["32 MiB", "63 MiB", "64 MiB", "1 GiB"]})
    sent = swept["bytes_sent"].values
    assert sent[0] == sent[1] > sent[2] == sent[3]


def test_the_second_pass_fills_the_cache_and_later_ones_use_it():
    """Pages go out whole until they have been sent once behind the first pass."""
    turns = simulate(scenario(migration={"downtime_limit": "5 ms"}, time_limit="15 s"), "bitmap").timeline
    sizes = (turns["ram_bytes"] / turns["ram_pages"]).to_numpy()
    times, passes = turns["time_s"].to_numpy(), turns["time_s"][turns["synced"]].to_numpy()
    assert sizes[times < passes[1]] == pytest.approx(4104)
    last = sizes[(times > passes[-1]) & np.isfinite(sizes)]
    assert last == pytest.approx(211, abs=1)


def encoded(name):
    """Bytes of an encoded page behind its three of method and length, by the counters of the run."""
    counters = qemu.trace(name, FOLDER).samples[["xbzrle_bytes", "xbzrle_pages"]].max()
    return counters["xbzrle_bytes"] / counters["xbzrle_pages"] - 3


@pytest.fixture(scope="module")
def predicted():
    return {name: simulate(scenario_of(run, FOLDER), "bitmap") for name, run in RUNS.iterrows()}


@pytest.mark.parametrize("name", RUNS.index)
def test_a_page_of_the_boot_program_is_encoded_in_some_bytes(name):
    """What a plan takes for it; beside 11 bytes of headers it hardly matters."""
    assert encoded(name) == pytest.approx(ENCODED_PAGE_BYTES, abs=1)
    assert scenario_of(RUNS.loc[name], FOLDER).migration.xbzrle_cache_size == 2**20 * (16 if "cache16" in name else 64)


def test_a_plan_is_predicted_as_its_run():
    plan = qemu.Plan(ram="256 MiB", regions=[{"size": "64 MiB", "rate": "100 MB/s"}], max_bandwidth="32 MiB/s",
                     downtime_limit="100 ms", capabilities=["xbzrle"], time_limit="40 s",
                     parameters={"xbzrle-cache-size": "16 MiB"})  # fmt: skip
    given = scenario_of_plan(plan, "10.0.2")
    assert (given.migration.xbzrle, given.migration.xbzrle_cache_size) == (True, 16 * 2**20)
    assert not simulate(given).converged
    assert simulate(given.replace("migration.xbzrle_cache_size", "64 MiB")).converged


@pytest.mark.parametrize("name", RUNS.index)
def test_outcome_time_bytes_and_syncs_are_those_of_the_measured_run(name, predicted):
    found, run = predicted[name], RUNS.loc[name]
    assert found.converged == (run["outcome"] == "completed") == ("cache64" in name)
    assert found.numbers["bytes_sent"] == pytest.approx(run["transferred"], rel=0.01)
    assert abs(found.sync_count - run["sync_count"]) <= 1
    if found.converged:
        assert found.total_time_s == pytest.approx(run["total_ms"] * 1e-3, rel=0.01)


@pytest.mark.parametrize("name", RUNS.index)
def test_the_cache_has_the_share_of_hits_that_was_measured(name):
    counters = qemu.trace(name, FOLDER).samples[["xbzrle_pages", "xbzrle_cache_miss"]].max()
    if "cache16" in name:
        share = counters["xbzrle_pages"] / counters.sum()
        assert share == pytest.approx(0.25, abs=0.03)
    else:
        assert counters["xbzrle_cache_miss"] == pytest.approx(64 * 256, abs=4)  # each page once
