"""What is changed while a migration runs, at given times and by management policies: the loop against the naive one."""

import random

import numpy as np
import pytest
from cases import MS, RAM, VFIO, S, case, change, changes_of, device, random_case, random_postcopy_case, region
from naive import (
    CANCEL,
    CANCELLED,
    KEEP,
    SET_DOWNTIME_LIMIT,
    SET_MAX_BANDWIDTH,
    START_POSTCOPY,
    STOP_VM,
    Manager,
    migrate,
)
from rows import Outputs, to_outputs, to_parameters, to_records
from test_against_naive import compare_timeline, differences, small_cases

from migkit.kernels import drivers, state
from migkit.kernels.drivers import UnknownCommand, compiled_policy

NUMBERS = state.MANAGEMENT_NUMBERS


def random_changes(rng, of):
    """Up to six changes within the time of a case; some fall together, some come after its end."""
    found = []
    for _ in range(rng.choice([1, 1, 2, 3, 6])):
        at = rng.choice([0, of["setup_ns"], int(of["time_limit_ns"] * rng.random() ** 2), rng.randint(0, 900) * MS])
        bytes_per_s = 1e9 / of["link_ns_per_byte"]
        what = rng.randrange(9)
        if what < 3:
            limit = rng.choice([0, int(bytes_per_s * 10 ** rng.uniform(-1, 0.5))])
            found.append(change(at, max_bandwidth=limit))
        if what in (2, 3, 4):
            found.append(
                change(at, downtime_limit_ms=rng.choice([0.0, float(rng.randint(1, 2000)), 3e5 * rng.random()]))
            )
        if what in (5, 6):
            slower = of["link_ns_per_byte"] * 10 ** rng.uniform(-0.7, 0.7)
            found.append(change(at, ns_per_byte=slower, slack_ns=rng.choice([0, of["send_slack_ns"]])))
        if what == 7:
            found.append(change(at, command=STOP_VM))
        if what == 8 and rng.random() < 0.5:
            found.append(change(at, command=CANCEL))
    return found


def changing(k):
    rng = random.Random(f"changes {k}")
    found = random_case(rng)
    if rng.random() < 0.3:
        found["jitter"] = rng.random() * 0.9
    return found | changes_of(random_changes(rng, found))


@pytest.mark.parametrize("k", range(120))
def test_changes_are_those_of_the_naive_loop(k):
    c = changing(k)
    compare_timeline(c, k, migrate(c, seed=k, replicate=k % 3))


@pytest.mark.nojit
@pytest.mark.parametrize("name", ["dense writes, lazy", "sequential", "9.0-rc0", "10.0", "11.1"])
def test_small_cases_with_and_without_the_jit(name):
    c = small_cases()[name]
    several = [
        change(150 * MS, max_bandwidth=2_000_000, ns_per_byte=90.0, slack_ns=MS),
        change(320 * MS, downtime_limit_ms=25.0, max_bandwidth=0),
        change(600 * MS, command=STOP_VM),
    ]
    c = c | changes_of(several)
    naive = migrate(c, 5, 2)
    assert naive["changed"] == 6 or naive["outcome"] == 0
    assert not differences(c, outputs_of([c], "bitmap", seed=5, replicate=2), naive)


@pytest.mark.parametrize("k", range(60))
def test_post_copy_that_a_change_starts_is_that_of_the_naive_loop(k):
    rng = random.Random(f"post-copy {k}")
    c = random_postcopy_case(rng)
    at = int(c["setup_ns"] + (c["time_limit_ns"] - c["setup_ns"]) * rng.random() ** 3)
    several = [*random_changes(rng, c), change(at, command=START_POSTCOPY), *random_changes(rng, c)]
    c = c | {"postcopy_ns": rng.choice([c["postcopy_ns"], 1 << 60])} | changes_of(several)
    compare_timeline(c, k, migrate(c, seed=k, replicate=k % 3))


def outputs_of(cases, engine, stops_early=True, own=None, jumps=True, fields=None, seed=3, replicate=1):
    records = to_records(to_parameters(cases))
    for name, value in (fields or {}).items():
        records.cases[name] = value
    if not jumps:
        records.cases["policies_repeat"] = 0
    return to_outputs(drivers.run(records, engine, seed, replicate, stops_early, own))


def test_jumps_and_early_verdicts_do_not_pass_a_change():
    cases = [changing(f"jump {k}") for k in range(400)]
    for c in cases:
        c["jitter"] = 0.0
    early, full = (outputs_of(cases, "expected", stops_early=each) for each in (True, False))
    slow = outputs_of(cases, "expected", stops_early=False, jumps=False)
    for name in set(Outputs._fields) - {"steps"}:
        np.testing.assert_array_equal(getattr(full, name), getattr(slow, name), name)
    ends = np.isin(full.outcome, (state.COMPLETED, state.CANCELLED))
    np.testing.assert_array_equal(np.isin(early.outcome, (state.COMPLETED, state.CANCELLED)), ends)
    np.testing.assert_array_equal(early.total_ns[ends], full.total_ns[ends])
    assert full.steps.sum() < slow.steps.sum()
    assert (full.outcome == state.CANCELLED).sum() > 5


HOPELESS = case(regions=[region(0, 900, 20_000)], time_limit_ns=60 * S, max_bandwidth=4_000_000)


def test_a_verdict_waits_for_the_last_change():
    alone = outputs_of([HOPELESS], "expected")
    assert alone.outcome[0] == state.RAM_ABOVE_LINK
    assert alone.total_ns[0] < 20 * S
    later = outputs_of([HOPELESS | changes_of([change(50 * S, downtime_limit_ms=5000.0)])], "expected")
    assert later.outcome[0] == state.COMPLETED
    assert later.total_ns[0] > 50 * S
    in_vain = outputs_of([HOPELESS | changes_of([change(20 * S, downtime_limit_ms=310.0)])], "expected")
    assert in_vain.outcome[0] == state.RAM_ABOVE_LINK
    assert 20 * S < in_vain.total_ns[0] < 50 * S


@pytest.mark.parametrize("engine", ["bitmap", "expected"])
def test_a_stopped_vm_writes_nothing_more(engine):
    vfio = device(VFIO, initial_bytes=50_000, dirty_rate=1e6, dirty_max=200_000, chunk_bytes=20_000)
    busy = HOPELESS | {"max_bandwidth": 0}
    c = case(**{name: busy[name] for name in ("time_limit_ns",)}, regions=[region(0, 900, 20_000)],
             devices=[device(RAM), vfio])  # fmt: skip
    found = outputs_of([c | changes_of([change(3 * S, command=STOP_VM)])], engine)
    assert found.outcome[0] == state.COMPLETED
    assert found.stop_ns[0] >= 3 * S
    assert found.stop_ns[0] < 3 * S + 200 * MS
    parts = ("paused", "stop", "ram", "devices", "state", "destination")
    assert found.downtime_ns[0] == sum(getattr(found, f"downtime_{part}_ns")[0] for part in parts)
    assert found.downtime_paused_ns[0] > 100 * MS  # what is dirty is above the threshold
    assert found.total_ns[0] == found.stop_ns[0] + found.downtime_ns[0]


def test_auto_converge_does_not_wake_a_stopped_vm():
    c = case("10.0", regions=[region(0, 900, 20_000)], auto_converge=1, time_limit_ns=60 * S, max_bandwidth=400_000)
    found = outputs_of([c | changes_of([change(3 * S, command=STOP_VM)])], "bitmap")
    naive = migrate(c | changes_of([change(3 * S, command=STOP_VM)]), 3, 1)
    assert found.outcome[0] == state.COMPLETED
    assert not differences(c, found, naive)


# ---------------------------------------------------------------- a policy


def everything(shown, own):
    """Reads all that is shown, keeps numbers, and gives every command now and then."""
    own[0] += 1.0
    own[1] = 0.5 * own[1] + shown.mbps + shown.expected_downtime_ms + 0.001 * shown.transferred / 1000.0
    own[2] = max(own[2], float(shown.remaining))
    turn = int(own[0])
    if shown.polled == 0:
        return 1, shown.downtime_limit_ms + 1.0 + shown.throttle
    if turn % 5 == 1:
        return 1, min(2000.0, 10.0 + own[1] % 300.0 + shown.dirty_sync_count)
    if turn % 7 == 2:
        return 2, float(1_000_000 + int(own[2]) % 5_000_000 + shown.max_bandwidth // 1000)
    if turn == 40 + shown.has_vfio:
        return 3, 0.0
    if shown.total_time_ms > 9_000 and shown.remaining * 4 > shown.total and shown.vm_stopped == 0:
        return 4, 0.0
    return 0, 0.0


class Shown:
    def __init__(self, values):
        self.__dict__.update(values)


def naive_manager(function, first_ns, poll_ns, after_syncs):
    own = [0.0] * NUMBERS
    return Manager(lambda shown: function(Shown(shown), own), first_ns, poll_ns, after_syncs)


def managed(rng):
    c = random_case(rng)
    polls = {
        "management": 1,
        "management_first_ns": rng.choice([0, rng.randint(0, 500) * MS]),
        "management_poll_ns": rng.choice([10, 100, 400, 1000]) * MS,
        "management_syncs": rng.randint(0, 1),
    }
    if rng.random() < 0.3:
        c |= changes_of(random_changes(rng, c))
    return c, polls


@pytest.mark.parametrize("k", range(60))
def test_a_policy_sees_and_does_what_it_does_in_the_naive_loop(k):
    c, polls = managed(random.Random(f"managed {k}"))
    naive = migrate(
        c, 3, 1,
        managed_by=naive_manager(everything, polls["management_first_ns"], polls["management_poll_ns"],
                                 polls["management_syncs"]),
    )  # fmt: skip
    own = (None, None, None, compiled_policy("management", everything))
    found = outputs_of([c], "bitmap", own=own, fields=polls)
    assert not differences(c, found, naive)


def test_jumps_do_not_pass_a_poll():
    several = [managed(random.Random(f"polls {k}")) for k in range(300)]
    cases = [c for c, _ in several]
    fields = {name: np.array([polls[name] for _, polls in several]) for name in several[0][1]}
    own = (None, None, None, compiled_policy("management", everything))
    fast = outputs_of(cases, "expected", own=own, fields=fields)
    slow = outputs_of(cases, "expected", own=own, fields=fields, jumps=False, stops_early=False)
    for name in set(Outputs._fields) - {"steps"}:
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name), name)
    assert fast.steps.sum() < slow.steps.sum()
    assert {state.COMPLETED, state.CANCELLED} <= set(fast.outcome.tolist())


def wrong(shown, own):
    return (1, -5.0) if shown.total_time_ms > 500 else (0, 0.0)


def test_a_command_that_is_none_is_told():
    own = (None, None, None, compiled_policy("management", wrong))
    with pytest.raises(UnknownCommand, match="answers 1"):
        outputs_of([HOPELESS], "expected", own=own, fields={"management": 1, "management_poll_ns": 100 * MS})


def test_numbers_of_the_naive_loop_are_those_of_the_kernels():
    assert (KEEP, SET_DOWNTIME_LIMIT, SET_MAX_BANDWIDTH, STOP_VM, CANCEL, START_POSTCOPY, CANCELLED) == (
        state.KEEP, state.SET_DOWNTIME_LIMIT, state.SET_MAX_BANDWIDTH, state.STOP_VM, state.CANCEL,
        state.START_POSTCOPY, state.CANCELLED,
    )  # fmt: skip
