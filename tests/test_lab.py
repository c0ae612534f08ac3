"""The scheduling lab: every proposal against the naive loop with the same rule, promises, the table, the command."""

import itertools
import math
import random
import re

import numpy as np
import pytest
from cases import VFIO, random_case
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import NO_LIMIT, RAM, migrate
from rows import to_parameters
from test_policies import differences, naive_once_a_window, naive_resume, run
from typer.testing import CliRunner

from migkit import Guest, Link, Migration, Region, Scenario, ScenarioError, Vfio, simulate
from migkit.cli import app
from migkit.kernels import drivers
from migkit.run.values import Design
from migkit.scenario.policy import own_functions
from migkit.scenario.rows import records
from migkit.study import lab, proposals

MIB = 1 << 20

# ---------------------------------------------------------------- the proposals as rules of the naive loop


def acknowledged(m):
    """As it was when the iteration began."""
    return not m.switchover_ack or all(d.ack_due is not None and d.ack_due <= m.walk_started for d in m.vfio)


def following(previous):
    return 0 if previous is None else previous + 1


def once_acknowledged(m, previous, returned):
    if previous is not None and returned != 1 and acknowledged(m):
        return None
    return following(previous), NO_LIMIT


def until_acknowledged(m, previous, returned):
    if previous is not None and returned != 1 and not acknowledged(m):
        return None
    return following(previous), NO_LIMIT


def ram_alone(m, previous, returned):
    if previous is not None and m.devices[previous].kind == RAM:
        if returned == 1:
            m.notes["once"] = True
        elif not m.notes.get("once"):
            return None
    return following(previous), NO_LIMIT


def in_blocks(m, previous, returned):
    chosen = naive_resume(m, previous, returned)
    return None if chosen is None else (chosen[0], MIB)


def in_four_blocks(m, previous, returned):
    """One generator of turns for the whole migration; an iteration is one round of them."""

    def turns():
        for d in itertools.cycle(range(len(m.devices))):
            yield d, False
            calls = 1
            while m.devices[d].kind == VFIO and m.devices[d].initial > 0 and calls < 4:
                yield d, False
                calls += 1
            yield d, True

    order = m.notes.setdefault("turns", turns())
    if previous is None:
        m.notes["round"] = 0
    device, over = next(order)
    if over:
        m.notes["round"] += 1
        if m.notes["round"] >= len(m.devices):
            return None
        device, over = next(order)
    return device, 4 * MIB


def share(m, previous, returned):
    return following(previous), m.max_bandwidth // 10 // len(m.devices) if m.max_bandwidth else NO_LIMIT


def half_for_ram(m, previous, returned):
    device, count = following(previous), len(m.devices)
    if not m.max_bandwidth or device >= count or count == 1:
        return device, NO_LIMIT
    half = m.max_bandwidth // 20
    return device, half if m.devices[device].kind == RAM else half // (count - 1)


def waiting(m):
    return [d for d, device in enumerate(m.devices) if device.kind == VFIO and device.initial > 0]


def initial_first(m, previous, returned):
    ram = next(d for d, device in enumerate(m.devices) if device.kind == RAM)
    if previous is None:
        m.notes["ram called"] = False
    if not m.notes["ram called"]:
        device = next((d for d in waiting(m) if d >= following(previous)), ram)
        m.notes["ram called"] = device == ram
        return device, NO_LIMIT
    start = 0 if previous == ram else previous + 1
    rest = [d for d in range(start, len(m.devices)) if d != ram and d not in waiting(m)]
    return (rest[0], NO_LIMIT) if rest else None


def checks_the_limit(m, previous, returned):
    device = following(previous)
    if m.max_bandwidth and device < len(m.devices) and m.devices[device].kind == VFIO:
        return device, m.max_bandwidth // 10 - (m.counted - m.mark) + 1
    return device, NO_LIMIT


def all_first(m, previous, returned):
    if previous is None:
        m.notes["ram called"] = False
    ram = next(d for d, device in enumerate(m.devices) if device.kind == RAM)
    device = waiting(m)[0] if waiting(m) else ram if previous is not None and not m.notes["ram called"] else None
    device = following(previous) if device is None else device
    m.notes["ram called"] |= device == ram
    return device, NO_LIMIT


NAIVE = {
    "serialized_once_acknowledged": once_acknowledged,
    "serialized_until_acknowledged": until_acknowledged,
    "ram_alone_in_the_first_pass": ram_alone,
    "resume_behind_the_last": naive_resume,
    "equal_share_of_the_window": share,
    "half_of_the_window_for_ram": half_for_ram,
    "initial_data_first": initial_first,
    "round_robin_of_blocks": in_blocks,
    "round_robin_of_four_blocks": in_four_blocks,
    "vfio_checks_the_limit": checks_the_limit,
    "all_initial_data_before_ram": all_first,
}


def test_every_walk_has_a_naive_rule():
    assert set(map(str, proposals.WALKS)) == set(NAIVE)


@pytest.mark.parametrize("walk", proposals.WALKS, ids=str)
def test_the_bitmap_engine_is_the_naive_loop_under_every_walk(walk):
    for k in range(12):
        c = random_case(random.Random(f"lab {k}"))
        naive = migrate(c, k, 1, next_device=NAIVE[str(walk)])
        assert not differences(c, run(to_parameters([c]), "bitmap", walk, seed=k, replicate=1), naive), k


def naive_not_for_an_acknowledgement(m, estimate):
    left = all(d.ack_due is not None for d in m.vfio)
    return estimate < m.thr and (m.can_switchover() or not left)


def naive_once(m, estimate):
    return estimate < m.thr and naive_once_a_window(m, estimate)


def naive_gain(m, estimate):
    expected = 8.0 * m.sync_found / max(1, m.sync_span) * (m.t - m.synced_at)
    return estimate < m.thr or expected > m.ram.pending()


def naive_average(m, sent, milliseconds):
    now, before = sent / milliseconds, m.notes.get("average")
    m.notes["average"] = before + 0.25 * (now - before) if before else now
    return m.notes["average"]


def naive_busy(m, sent, milliseconds):
    window = [turn["ram_returned"] for turn in m.timeline[m.notes.get("turns", 0) :]]
    m.notes["turns"] = len(m.timeline)
    if 1 not in window or not m.notes.get("believed"):
        m.notes["believed"] = sent / milliseconds
    return m.notes["believed"]


def naive_link(m, sent, milliseconds):
    return 1e6 / m.link_ns_per_byte


def naive_largest(m, sent, milliseconds):
    m.notes.setdefault("seen", []).append(sent / milliseconds)
    return max(m.notes["seen"][-8:])


RULES = {
    proposals.once_a_window: {"syncs": naive_once},
    proposals.not_for_an_acknowledgement: {"syncs": naive_not_for_an_acknowledgement},
    proposals.by_expected_gain: {"syncs": naive_gain},
    proposals.every_iteration: {"syncs": lambda m, estimate: True},
    proposals.largest_of_the_last: {"bandwidth": naive_largest},
    proposals.moving_average: {"bandwidth": naive_average},
    proposals.busy_windows: {"bandwidth": naive_busy},
    proposals.link_alone: {"bandwidth": naive_link},
}


def test_every_rule_has_a_naive_one():
    assert set(RULES) == {*proposals.SYNCS, *proposals.BANDWIDTHS}


@pytest.mark.parametrize(("made", "rule"), RULES.items(), ids=[str(made) for made in RULES])
def test_the_bitmap_engine_is_the_naive_loop_under_rules_of_syncs_and_bandwidths(made, rule):
    for k in range(12):
        c = random_case(random.Random(f"lab {k}"))
        naive = migrate(c, k, 1, **rule)
        assert not differences(c, run(to_parameters([c]), "bitmap", made, seed=k, replicate=1), naive), k


# ---------------------------------------------------------------- what they promise


@pytest.mark.parametrize("walk", [walk for walk in proposals.WALKS if "round_robin" not in walk], ids=str)
def test_without_devices_all_walks_are_one(walk):
    """But for the round robins, which cut RAM's call into blocks."""
    for rate in ("100 MB/s", "1 GB/s", "3 GB/s"):
        scenario = Scenario(guest=Guest(ram="1 GiB", regions=[Region(size="128 MiB", write_rate=rate)]),
                            link=Link(bandwidth="10 Gbit/s"), time_limit="10 s",
                            migration=Migration(max_bandwidth=0))  # fmt: skip
        alone, walked = (simulate(scenario.replace(policy=each)) for each in ("unserialized", walk))
        assert alone.numbers["outcome"] == walked.numbers["outcome"]
        if alone.converged:
            assert (alone.total_time_s, alone.downtime_s) == (walked.total_time_s, walked.downtime_s)


FAIR = {
    proposals.resume_behind_the_last: 1,  # windows: every device once in as many windows as there are devices
    proposals.initial_data_first: 0,
    proposals.all_initial_data_before_ram: 0,
}


@pytest.mark.parametrize("walk", FAIR, ids=str)
@given(
    count=st.integers(1, 6), hot_mib=st.integers(8, 900), rate=st.floats(0.1, 40), initial_mib=st.integers(1, 64),
    link=st.floats(1, 60), limit_mib=st.integers(32, 2000),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_no_device_with_initial_data_waits_for_long(walk, count, hot_mib, rate, initial_mib, link, limit_mib):
    scenario = Scenario(
        guest=Guest(ram="2 GiB", regions=[Region(size=f"{hot_mib} MiB", write_rate=f"{rate} GB/s")]),
        devices=[Vfio(initial_bytes=f"{initial_mib} MiB", stop_copy_bytes="1 MiB", count=count)],
        link=Link(bandwidth=f"{link} Gbit/s"),
        migration=Migration(max_bandwidth=f"{limit_mib} MiB/s", switchover_ack=True, return_path=True),
        policy=walk,
        time_limit="120 s",
    )
    found = simulate(scenario)
    assert found.outcome != "initial_data_starved"
    # a window is 100 ms; a block of a device may wait for as many as there are devices, and RAM
    most_s = 0.11 * (initial_mib + 1) * (count + 1) * (1 + FAIR[walk]) + 1.0
    sent = found.numbers["device_initial_sent_s"][1:]
    assert (np.nan_to_num(sent, nan=math.inf) < most_s).all(), (sent, most_s)


# ---------------------------------------------------------------- verdicts before the time limit


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("fix", lab.fixes(), ids=str)
def test_a_verdict_before_the_time_limit_is_that_at_it(fix, seed):
    """Whatever numbers a policy keeps; what completes is the same to the last bit. Jumps change nothing either."""
    design = Design(method="sobol", points=32, seed=seed, ranges=lab.GUEST_AND_LINK | lab.DEVICES)
    values = design.values()
    scenario = lab.designed(2, fix).scenario
    scenarios = [scenario.replace_all({path: value[k] for path, value in values.items()}) for k in range(32)]
    own = own_functions(scenario)
    early, late = (
        drivers.run(records(scenarios), own=own, stops_early=stops).migrations.view(np.ndarray)
        for stops in (True, False)
    )
    stepwise = records([each.replace("time_limit", "20 s") for each in scenarios])
    jumped = drivers.run(stepwise, own=own, stops_early=False)
    stepwise.cases["policies_repeat"] = 0
    stepped = drivers.run(stepwise, own=own, stops_early=False)
    stepped.migrations["steps"] = jumped.migrations["steps"]
    assert jumped.migrations.tolist() == stepped.migrations.tolist()
    assert jumped.devices.tolist() == stepped.devices.tolist()
    assert early[["outcome", "culprit"]].tolist() == late[["outcome", "culprit"]].tolist()
    completed = late["outcome"] == 0
    assert early[completed].tolist() == late[completed].tolist()
    never = late["outcome"] != 0
    assert early["steps"][never].sum() < 0.5 * late["steps"][never].sum()


# ---------------------------------------------------------------- the four ways, the table, the command


def test_the_four_ways():
    ends = {name: {str(fix.name): simulate(fix.applied(way)).converged for fix in lab.fixes()}
            for name, way in lab.four_ways().items()}  # fmt: skip
    assert not any(way["serialized"] for way in ends.values())
    assert [way["unserialized"] for way in ends.values()] == [True, False, True, False]
    for fix in ("initial_data_first + busy_windows", "resume_behind_the_last + busy_windows"):
        assert all(way[fix] for way in ends.values())
    assert all(way["all_initial_data_before_ram"] for way in ends.values())
    assert not ends["budget"]["vfio_checks_the_limit"]
    assert not ends["acknowledgement"]["moving_average"]


def test_the_table_counts_pairs():
    chosen = [fix for fix in lab.fixes() if fix.name in ("serialized", "unserialized", "initial_data_first")]
    found = {fix.name: lab.computed(16, fix) for fix in chosen}
    table = lab.compare(chosen, found)
    base = found["unserialized"]["designed"]["completed"].values
    for fix in chosen:
        row, completed = table.loc[fix.name], found[fix.name]["designed"]["completed"].values
        assert row["completed"] == completed.mean()
        assert row["won"] - row["lost"] == completed.sum() - base.sum()
        assert row["more_low"] <= row["more"] <= row["more_high"]
        assert row["total_low"] <= row["total_time"] <= row["total_high"] <= row["total_worst"]
        assert 0 < row["fairness"] <= 1
    assert table.loc["unserialized", ["won", "lost", "total_time", "sent", "block_first"]].tolist() == [0, 0, 1, 1, 1]
    assert table.loc["serialized", ["alone_more", "alone_time", "block_first"]].tolist() == [0, 1, 1]
    assert (table["engines"] > 0.9).all()


def test_fairness_is_that_of_jain():
    """Devices that send alike, and one device that sends alone."""
    fix = lab.Fix("unserialized")
    one = lab.computed(16, fix)["designed"].isel(scenario=[0]).copy(deep=True)
    there = one["device_present"].transpose(..., "device").values[0]
    devices = int(there[1:].sum())
    assert devices > 1
    one["device_initial_sent_s"][:] = 2.0
    one["device_initial_left_bytes"][:] = 0
    assert lab._fairness(one) == pytest.approx(1)
    one["device_initial_sent_s"][:] = math.nan
    one["device_initial_left_bytes"][:] = one["devices.0.initial_bytes"]
    one["device_initial_left_bytes"][..., 1] = 0
    assert lab._fairness(one) == pytest.approx(1 / devices)


def test_what_is_finished_is_kept_by_fix(tmp_path, monkeypatch):
    fixes = [lab.Fix("serialized", "serialized"), lab.Fix("unserialized")]
    before = [lab.computed(8, fix, tmp_path)["designed"] for fix in fixes]
    names = {path.name for path in tmp_path.iterdir()}
    assert len(names) == 8
    monkeypatch.setattr(lab, "sweep", None)
    again = lab.computed(8, fixes[0], tmp_path)["designed"]
    assert again["total_time_s"].equals(before[0]["total_time_s"])
    monkeypatch.undo()
    damaged = next(tmp_path.glob("serialized-designed-*/outcome/c.0"))
    damaged.write_bytes(b"no")
    assert lab.computed(8, fixes[0], tmp_path)["designed"]["total_time_s"].equals(before[0]["total_time_s"])
    assert {path.name for path in tmp_path.iterdir()} == names


def test_the_command_adds_a_policy_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "fixes", lambda own=(): [lab.Fix("serialized", "serialized"), lab.Fix("unserialized"),
                                                      *(lab.Fix(str(each), each) for each in own)])  # fmt: skip
    path = tmp_path / "mine.py"
    before = "(state.device_count if state.previous < 0 else state.previous) - 1"
    path.write_text(f"def backwards(state, devices, live, own):\n    return {before}, 1 << 60\n")
    done = CliRunner().invoke(
        app, ["lab", "-o", str(tmp_path / "out"), "--points", "8", "--policy", f"{path}:backwards"]
    )
    assert done.exit_code == 0, done.output
    assert "| backwards" in done.output
    assert re.search(r"\| unserialized +\| [\d.]+% +\| - +\| - +\| - +\|", done.output)  # no interval against itself
    assert "lab, 3 fixes: 100%" in done.stderr
    assert "sweep:" not in done.stderr
    written = {each.name for each in (tmp_path / "out").iterdir()}
    assert written >= {"lab.md", "lab.csv", "lab.pdf", "lab.png", "lab.svg", "lab.json", "lab-costs.png", "results"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("mine.txt:f", "is not FILE.py:NAME"),
        ("nowhere.py:f", "does not exist: give FILE.py:NAME"),
        ("{broken}:f", "cannot be read: SyntaxError"),
        ("{empty}:f", "has no function f"),
    ],
)
def test_a_policy_that_cannot_be_read(tmp_path, given, words):
    for name, text in (("broken", "def f("), ("empty", "")):
        (tmp_path / f"{name}.py").write_text(text)
    given = given.format(broken=tmp_path / "broken.py", empty=tmp_path / "empty.py")
    with pytest.raises(ScenarioError, match=words):
        lab.own_policy(given)
