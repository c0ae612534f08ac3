"""dirty-limit: who may use it, what its controller does, and ten measured runs under KVM.

``tests/data/dirty-limit``: runs of QEMU 10.0.2 and 11.1.3 under KVM, nested in another virtual machine with two cores
that did other work too: 256 MiB, a dirty ring of 4096 entries, and a writer of 128 MiB at full speed, which made 160 to
280 MB/s dirty. *q40*, *q50*: vcpu-dirty-limit 40 and 50 MB/s; *q1*: the default.
"""

from pathlib import Path

import numpy as np
import pytest

import migkit
from migkit import Guest, Link, Migration, Region, Scenario, ScenarioError, qemu, simulate
from migkit.qemu.predict import scenario_of

FOLDER = Path(__file__).parent / "data" / "dirty-limit"
RUNS = qemu.runs(FOLDER)
PERIOD = "migration.x_vcpu_dirty_limit_period"


def scenario(**fields):
    migration = {"max_bandwidth": 0, "dirty_limit": True} | fields.pop("migration", {})
    regions = [Region(size="128 MiB", start="1 GiB", write_rate=fields.pop("write_rate", "1 GB/s"))]
    guest = {"ram": "2 GiB", "dirty_ring_size": 4096, "regions": regions} | fields.pop("guest", {})
    return Scenario(**{"guest": Guest(**guest), "link": Link(bandwidth="1 Gbit/s"), "qemu": "10.0",
                       "migration": Migration(**migration), "time_limit": "5 min"} | fields)  # fmt: skip


# ---------------------------------------------------------------- who may use it


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"qemu": "8.0"}, 'migration.dirty_limit = True is not available in profile "8.0": use 8.1 or later'),
        ({"migration": {"auto_converge": True}}, "dirty_limit = True cannot be on together with auto_converge"),
        ({"guest": {"dirty_ring_size": 0}}, "migration.dirty_limit = True needs guest.dirty_ring_size"),
        ({"guest": {"accel": "tcg"}}, 'dirty_ring_size = 4096 needs accel = "kvm"'),
        ({"guest": {"dirty_ring_size": 5000}}, "dirty_ring_size = 5000 is not 0 or a power of two from 1024"),
        ({"guest": {"tracking": "2 MiB"}}, "dirty_ring_size = 4096 cannot be given beside tracking above a page"),
        ({"migration": {"vcpu_dirty_limit": 0}}, "vcpu_dirty_limit = 0"),
        ({"migration": {"x_vcpu_dirty_limit_period": "1500 us"}}, "is not a whole number of milliseconds"),
    ],
)
def test_what_qemu_refuses_is_refused_with_a_sentence(fields, sentence):
    with pytest.raises(ScenarioError) as told:
        scenario(**fields)
    assert sentence in str(told.value)
    assert "\n" not in str(told.value)


def test_a_sweep_over_the_quota_is_the_same_migrations():
    one = scenario()
    swept = migkit.sweep(one, {"migration.vcpu_dirty_limit": [1, 40, 400]})
    for quota, seconds in zip((1, 40, 400), swept["dirty_limit_throttle_s"].values, strict=True):
        alone = simulate(one.replace("migration.vcpu_dirty_limit", quota)).numbers["dirty_limit_throttle_s"]
        assert seconds == alone


def test_a_description_without_it_keeps_its_digest_and_the_quota_changes_it():
    plain = migkit.Sweep(scenario=scenario(migration={"dirty_limit": False}), axes={"link.rtt": ["1 ms", "2 ms"]})
    assert plain.sha256 == migkit.Sweep(scenario=plain.scenario.replace(PERIOD, "1 s"), axes=plain.axes).sha256
    other = plain.scenario.replace("migration.vcpu_dirty_limit", 2)
    assert plain.sha256 != migkit.Sweep(scenario=other, axes=plain.axes).sha256


# ---------------------------------------------------------------- what it does


def test_the_first_step_is_that_of_qemu():
    """At a rate far above the quota: what the ring takes to fill, times p / (100 - p), 99 times at most."""
    # 1 GB/s of uniform writes fill 4096 of 32768 pages in 17.93 ms: 892 MB/s
    found = simulate(scenario(migration={"vcpu_dirty_limit": 200}, time_limit="30 s"))
    full_us, percent = 16_000_000 // 892, (892 - 200) * 100 // 892
    assert found.numbers["dirty_limit_throttle_s"] == pytest.approx(int(full_us * percent / (100 - percent)) * 1e-6)
    least = simulate(scenario())
    assert least.numbers["dirty_limit_throttle_s"] == pytest.approx(99 * full_us * 1e-6)


def test_within_its_tolerance_and_before_it_begins_nothing_happens():
    quiet = simulate(scenario(write_rate="1 MB/s"))
    assert np.isnan(quiet.numbers["dirty_limit_throttle_s"])
    near = simulate(scenario(migration={"vcpu_dirty_limit": 880}, time_limit="20 s"))
    assert near.numbers["dirty_limit_throttle_s"] == 0


def test_a_ring_with_room_for_the_working_set_limits_nothing():
    assert simulate(scenario()).converged
    large = simulate(scenario(guest={"dirty_ring_size": 65536}, time_limit="1 min"))
    assert not large.converged
    assert large.cause == "link"


@pytest.mark.parametrize("mebibytes", [60, 70, 90, 110])
def test_it_completes_sooner_than_auto_converge_as_published(mebibytes):
    """Hyman Huang, 2022: 1 Gbit/s, a writer at full speed; RAM, on which the times depend too, is not told."""
    one = scenario()
    guest = Guest(ram="1 GiB", dirty_ring_size=4096,
                  regions=[Region(size=f"{mebibytes} MiB", start="64 MiB", write_rate="2 GB/s")])  # fmt: skip
    limited = simulate(one.replace(guest=guest))
    throttled = simulate(one.replace({"migration.dirty_limit": False, "migration.auto_converge": True}, guest=guest))
    assert limited.converged
    assert limited.total_time_s < 0.6 * throttled.verdict_time_s


def test_a_sync_waits_for_vcpus_that_sleep():
    """A slow writer and the default quota: the vCPU sleeps for seconds, and each sync finds a ring of pages."""
    slow = scenario(write_rate="60 MB/s", link=Link(bandwidth="400 Mbit/s"), migration={"downtime_limit": "100 ms"},
                    time_limit="2 min")  # fmt: skip
    found = simulate(slow)
    sleep_s = found.numbers["dirty_limit_throttle_s"]
    assert sleep_s > 10
    turns = found.timeline
    times = turns["time_s"][turns["synced"]].to_numpy()
    assert np.diff(times).max() > sleep_s
    assert not found.converged


# ---------------------------------------------------------------- measured


@pytest.fixture(scope="module")
def predicted():
    return {name: simulate(scenario_of(run, FOLDER), engine="bitmap") for name, run in RUNS.iterrows()}


@pytest.mark.parametrize("name", RUNS.index)
def test_outcome_sleep_and_time_are_those_of_the_measured_run(name, predicted):
    found, run = predicted[name], RUNS.loc[name]
    assert found.converged == (run["outcome"] == "completed")
    samples = qemu.trace(name, FOLDER).samples
    slept_s = samples["dirty_limit_us"].max() * 1e-6
    assert found.numbers["dirty_limit_throttle_s"] == pytest.approx(slept_s, rel=0.5)
    if found.converged:
        assert found.total_time_s == pytest.approx(run["total_ms"] * 1e-3, rel=0.25)
        assert found.downtime_s < 0.05  # no vCPU sleeps when the VM stops, right after a sync


def test_in_the_median_sleeps_are_within_a_tenth_and_times_within_a_fifth(predicted):
    sleeps, times = [], []
    for name, found in predicted.items():
        slept_s = qemu.trace(name, FOLDER).samples["dirty_limit_us"].max() * 1e-6
        sleeps.append(abs(found.numbers["dirty_limit_throttle_s"] / slept_s - 1))
        if found.converged:
            times.append(abs(found.total_time_s / (RUNS.loc[name]["total_ms"] * 1e-3) - 1))
    assert np.median(sleeps) < 0.1
    assert np.median(times) < 0.2
