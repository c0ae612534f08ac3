"""Policies of one's own: the engines against the naive loop with the same rule, and copies of the built-in ones."""

import random

import numpy as np
import pytest
from cases import PROFILES, VFIO, random_case
from naive import NO_LIMIT, migrate
from rows import OUTPUTS, to_outputs, to_parameters, to_records

import migkit
from migkit.kernels import drivers
from migkit.kernels.state import BANDWIDTH_OWN, OWN, SYNC_OWN
from migkit.scenario.policy import policies_settle, policy
from migkit.scenario.rows import records as records_of

OWN_WORDS = {"outcome", "culprit", "steps"}  # the naive loop knows only: completed or not

# ---------------------------------------------------------------- which device comes next


def last_first(state, devices, live, own):
    if state.previous < 0:
        return state.device_count - 1, NO_LIMIT
    return state.previous - 1, NO_LIMIT


def naive_last_first(m, previous, returned):
    return (len(m.devices) if previous is None else previous) - 1, NO_LIMIT


def resume(state, devices, live, own):
    """Begin behind the device served last; every device once."""
    if state.calls >= state.device_count:
        return -1, NO_LIMIT
    device = int(own[0])
    own[0] = (device + 1) % state.device_count
    return device, NO_LIMIT


def naive_resume(m, previous, returned):
    if previous is None:
        m.notes["calls"] = 0
    if m.notes["calls"] >= len(m.devices):
        return None
    m.notes["calls"] += 1
    device = m.notes.get("next", 0)
    m.notes["next"] = (device + 1) % len(m.devices)
    return device, NO_LIMIT


def half_of_the_window(state, devices, live, own):
    """No device takes more than half of what the window has left."""
    return state.previous + 1, state.budget // 2 + 1


def naive_half_of_the_window(m, previous, returned):
    budget = m.max_bandwidth // 10 - (m.counted - m.mark) + 1 if m.max_bandwidth else NO_LIMIT
    return (0 if previous is None else previous + 1), budget // 2 + 1


def initial_data_first(state, devices, live, own):
    """Devices with initial data, up to three blocks each, then the rest of the list."""
    if state.previous < 0:
        own[0] = 0.0
    while own[0] < 3 * state.device_count:
        device = int(own[0]) // 3
        own[0] += 1.0
        if devices[device].kind == 1 and live[device].initial_waits == 1:
            return device, NO_LIMIT
    while own[0] < 4 * state.device_count:
        device = int(own[0]) - 3 * state.device_count
        own[0] += 1.0
        if devices[device].kind != 1 or live[device].initial_waits == 0:
            return device, NO_LIMIT
    own[0] = 0.0
    return -1, NO_LIMIT


def naive_initial_data_first(m, previous, returned):
    def generator():
        for d in range(len(m.devices)):
            for _ in range(3):
                if m.devices[d].kind == VFIO and m.devices[d].initial > 0:
                    yield d
        for d in range(len(m.devices)):
            if m.devices[d].kind != VFIO or m.devices[d].initial == 0:
                yield d

    if previous is None:
        m.notes["order"] = generator()
    device = next(m.notes["order"], None)
    return None if device is None else (device, NO_LIMIT)


def small_pieces(state, devices, live, own):
    """Pieces of 20,000 bytes, twice around the list."""
    if state.calls >= 2 * state.device_count:
        return -1, 0
    return state.calls % state.device_count, 20_000


def naive_small_pieces(m, previous, returned):
    m.notes["calls"] = 0 if previous is None else m.notes["calls"] + 1
    if m.notes["calls"] >= 2 * len(m.devices):
        return None
    return m.notes["calls"] % len(m.devices), 20_000


# ---------------------------------------------------------------- when to sync


def once_a_window(state, devices, live, own):
    return state.window_syncs == 0


def naive_once_a_window(m, estimate):
    if m.notes.get("window") != m.win_t:
        m.notes["window"], m.notes["syncs"] = m.win_t, m.notes.get("last", 0)
    answer = m.ram.sync_number == m.notes["syncs"]
    m.notes["last"] = m.ram.sync_number + (answer and (m.ram_exact_always or m.ram.pending() < m.thr))
    return answer


def half_the_threshold(state, devices, live, own):
    return state.estimate < state.threshold // 2


def naive_half_the_threshold(m, estimate):
    return estimate < m.thr // 2


def every_third_time(state, devices, live, own):
    own[0] = (own[0] + 1.0) % 3.0
    return own[0] == 0.0


def naive_every_third_time(m, estimate):
    m.notes["asked"] = (m.notes.get("asked", 0) + 1) % 3
    return m.notes["asked"] == 0


# ---------------------------------------------------------------- which bandwidth to believe


def largest_of_three(state, devices, live, own):
    own[2], own[1], own[0] = own[1], own[0], state.window_bytes / state.window_ms
    return max(own[0], max(own[1], own[2]))


def naive_largest_of_three(m, sent, milliseconds):
    m.notes.setdefault("seen", []).append(sent / milliseconds)
    return max(m.notes["seen"][-3:])


def averaged(state, devices, live, own):
    here = state.window_bytes / state.window_ms
    own[0] = here if own[0] == 0.0 else 0.75 * own[0] + 0.25 * here
    return own[0]


def naive_averaged(m, sent, milliseconds):
    here = sent / milliseconds
    before = m.notes.get("average", 0.0)
    m.notes["average"] = here if before == 0.0 else 0.75 * before + 0.25 * here
    return m.notes["average"]


RULES = {
    "last first": ("next_device", last_first, naive_last_first),
    "resume": ("next_device", resume, naive_resume),
    "half of the window": ("next_device", half_of_the_window, naive_half_of_the_window),
    "initial data first": ("next_device", initial_data_first, naive_initial_data_first),
    "small pieces": ("next_device", small_pieces, naive_small_pieces),
    "once a window": ("syncs", once_a_window, naive_once_a_window),
    "half the threshold": ("syncs", half_the_threshold, naive_half_the_threshold),
    "every third time": ("syncs", every_third_time, naive_every_third_time),
    "largest of three": ("bandwidth", largest_of_three, naive_largest_of_three),
    "averaged": ("bandwidth", averaged, naive_averaged),
}
FIELDS = {"next_device": ("policy", OWN), "syncs": ("sync_policy", SYNC_OWN),
          "bandwidth": ("bandwidth_policy", BANDWIDTH_OWN)}  # fmt: skip
CHEAP = (0, 2, 3, 7, 9, 11)


def run(parameters, engine, made, **options):
    """Outputs under one policy of one's own."""
    records = to_records(parameters)
    field, code = FIELDS[made.question]
    records.cases[field] = code
    records.cases["policies_repeat"] = made.level
    records.cases["policies_remember"] = made.remembers
    records.cases["may_stop_early"] = policies_settle(made)
    own = (*(made.compiled() if question == made.question else None for question in FIELDS), None)
    return to_outputs(drivers.run(records, engine, own=own, **options))


def differences(c, outputs, naive):
    found = {}
    for name in set(OUTPUTS) - OWN_WORDS:
        value = getattr(outputs, name)[0]
        value = value[: c["device_count"]].tolist() if name.startswith("device_") else int(value)
        if value != naive[name]:
            found[name] = (value, naive[name])
    if (int(outputs.outcome[0]) == 0) != (naive["outcome"] == 0):
        found["outcome"] = (int(outputs.outcome[0]), naive["outcome"])
    return found


@pytest.mark.parametrize("name", RULES)
def test_the_bitmap_engine_is_the_naive_loop_under_any_policy(name):
    question, function, rule = RULES[name]
    made = policy(function, question=question)
    for k in range(15):
        c = random_case(random.Random(f"policy {k}"))
        naive = migrate(c, k, 1, **{question: rule})
        assert not differences(c, run(to_parameters([c]), "bitmap", made, seed=k, replicate=1), naive), k


@pytest.mark.nojit
@pytest.mark.parametrize("name", RULES)
def test_cheap_cases_with_and_without_the_jit(name):
    question, function, rule = RULES[name]
    made = policy(function, question=question)
    for k in CHEAP:
        c = random_case(random.Random(k))
        if c["time_limit_ns"] < 3_000_000_000:
            naive = migrate(c, k, 1, **{question: rule})
            assert not differences(c, run(to_parameters([c]), "bitmap", made, seed=k, replicate=1), naive), k


@pytest.mark.parametrize("name", RULES)
def test_jumps_and_early_verdicts_change_nothing(name):
    made = policy(RULES[name][1], question=RULES[name][0])
    parameters = to_parameters([random_case(random.Random(f"jump {k}")) for k in range(150)])
    early, full = (run(parameters, "expected", made, stops_early=stops) for stops in (True, False))
    stepped = policy(RULES[name][1], question=RULES[name][0])
    stepped.level = 0
    slow = run(parameters, "expected", stepped, stops_early=False)
    for field in set(OUTPUTS) - {"steps"}:
        np.testing.assert_array_equal(getattr(full, field), getattr(slow, field), field)
    completed = full.outcome == 0
    np.testing.assert_array_equal(early.outcome == 0, completed)
    np.testing.assert_array_equal(early.total_ns[completed], full.total_ns[completed])


# ---------------------------------------------------------------- copies of the built-in ones


def copy_of_serialized(state, devices, live, own):
    if state.previous >= 0 and state.returned != 1:
        return -1, NO_LIMIT
    return state.previous + 1, NO_LIMIT


def copy_of_unserialized(state, devices, live, own):
    return state.previous + 1, NO_LIMIT


def copy_of_7_2(state, devices, live, own):
    return state.ram_bytes < state.threshold


def copy_of_8_2(state, devices, live, own):
    return state.estimate <= state.threshold


def copy_of_9_0(state, devices, live, own):
    return state.estimate < state.threshold


def copy_of_11_1(state, devices, live, own):
    return state.estimate <= state.threshold or state.precopy_bytes == 0


def copy_of_the_window(state, devices, live, own):
    return state.window_bytes / state.window_ms


COPIES = {
    "serialized": ("next_device", copy_of_serialized, {"policy": 0}),
    "unserialized": ("next_device", copy_of_unserialized, {"policy": 1}),
    "7.2": ("syncs", copy_of_7_2, {"exact_rule": 0}),
    "8.2": ("syncs", copy_of_8_2, {"exact_rule": 1}),
    "9.0": ("syncs", copy_of_9_0, {"exact_rule": 2}),
    "11.1": ("syncs", copy_of_11_1, {"exact_rule": 3}),
    "window": ("bandwidth", copy_of_the_window, {}),
}


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
@pytest.mark.parametrize("name", COPIES)
def test_a_copy_of_a_built_in_policy_gives_the_same_bits(name, engine):
    question, function, fields = COPIES[name]
    made = policy(function, question=question)
    assert made.level == 2
    cases = [random_case(random.Random(f"copy {k}")) | fields for k in range(150 if engine == "expected" else 20)]
    parameters = to_parameters(cases)
    # the verdict that the stop-copy never fits needs a bound of the threshold, which a rule of one's own has not
    options = {"seed": 3, "stops_early": question != "bandwidth"}
    built_in = to_outputs(drivers.run(to_records(parameters), engine, **options))
    copied = run(parameters, engine, made, **options)
    for field in set(OUTPUTS) - {"steps"}:
        np.testing.assert_array_equal(getattr(copied, field), getattr(built_in, field), field)
    if engine == "expected":
        # as many windows are jumped over, but for a rule when to sync, whose own bound is not known
        assert copied.steps.sum() <= 1.1 * built_in.steps.sum()


def test_every_profile_has_a_rule_of_its_own():
    assert {values["exact_rule"] for values in PROFILES.values()} == {0, 1, 2, 3}


# ---------------------------------------------------------------- rules that change their mind


def patient_then_blind(state, devices, live, own):
    """Sync at the threshold as 9.0 does, 30 times; then never, and complete on the estimate."""
    if own[0] < 30.0 and state.estimate < state.threshold:
        own[0] += 1.0
        return True
    return False


def test_a_rule_when_to_sync_that_counts_is_not_stopped_early():
    assert not policy(patient_then_blind, question="syncs").by_sizes
    scenario = migkit.Scenario(
        guest=migkit.Guest(ram="1 GiB"),
        link=migkit.Link(bandwidth="10 Gbit/s"),
        devices=[migkit.Vfio(initial_bytes=0, stop_copy_bytes="8 GiB")],
        time_limit="5 min",
    )
    never = migkit.simulate(scenario)
    assert never.outcome.name == "STOP_COPY_ABOVE_THRESHOLD"
    rule = policy(patient_then_blind, question="syncs")
    blind = migkit.simulate(scenario.replace("sync_policy", rule))
    assert blind.converged
    assert blind.sync_count > 30


def serialized_for_a_while(state, devices, live, own):
    """Counts its iterations: a device behind RAM is served after 400 of them."""
    if state.previous < 0:
        own[0] += 1.0
    elif state.returned != 1 and own[0] < 400.0:
        return -1, NO_LIMIT
    return state.previous + 1, NO_LIMIT


def serialized_for_some_turns_of_two_hands(state, devices, live, own):
    """Counts as a clock does, with few numbers on each hand."""
    if state.previous < 0:
        own[0] += 1.0
        if own[0] == 12.0:
            own[0] = 0.0
            own[1] += 1.0
    elif state.returned != 1 and own[1] < 35.0:
        return -1, NO_LIMIT
    return state.previous + 1, NO_LIMIT


def serialized_for_some_syncs(state, devices, live, own):
    if state.previous >= 0 and state.returned != 1 and state.syncs < 150:
        return -1, NO_LIMIT
    return state.previous + 1, NO_LIMIT


def window_for_a_while(state, devices, live, own):
    """Counts windows, as far as 250; then believes in any link."""
    own[0] = min(own[0] + 1.0, 250.0)
    return 1e12 if own[0] == 250.0 else state.window_bytes / state.window_ms


def window_for_some_bytes(state, devices, live, own):
    own[1] = state.window_bytes / state.window_ms
    own[0] += state.window_bytes
    return 1e12 if own[0] > 2e10 else own[1]


def window_but_by_chance(state, devices, live, own):
    """Draws one number of 400 in each window."""
    own[0] = (own[0] * 3877.0 + 29573.0) % 139968.0
    return 1e12 if own[0] < 350.0 else state.window_bytes / state.window_ms


def average_of_the_last_minute(state, devices, live, own):
    """Begins at nothing and gets to the window in a minute."""
    own[0] += 0.002 * (state.window_bytes / state.window_ms - own[0])
    return own[0]


LATE = {
    "next_device": [serialized_for_a_while, serialized_for_some_turns_of_two_hands, serialized_for_some_syncs],
    "syncs": [patient_then_blind],
    "bandwidth": [window_for_a_while, window_for_some_bytes, window_but_by_chance, average_of_the_last_minute],
}


@pytest.mark.parametrize(("question", "function"), [(q, each) for q, functions in LATE.items() for each in functions])
def test_what_a_policy_does_late_is_waited_for(question, function):
    """Migrations that would never end otherwise, of which the policy lets some complete late."""
    made = policy(function, question=question)
    scenarios = [
        migkit.Scenario(
            guest=migkit.Guest(
                ram="2 GiB", regions=[migkit.Region(size=f"{hot} MiB", start="1 GiB", write_rate="20 GB/s")]
            ),
            devices=[migkit.Vfio(initial_bytes="8 MiB", stop_copy_bytes=stop_copy)],
            link=migkit.Link(bandwidth=link),
            migration=migkit.Migration(max_bandwidth=0, switchover_ack=True, return_path=True),
            time_limit="120 s",
            **{{"next_device": "policy", "syncs": "sync_policy"}.get(question, "bandwidth_policy"): made},
        )
        for hot in (8, 40, 150, 600)
        for link in ("3 Gbit/s", "10 Gbit/s", "40 Gbit/s")
        for stop_copy in ("1 MiB", "300 MiB")
    ]
    found = [run_scenarios(scenarios, made, stops_early=stops) for stops in (True, False)]
    early, late = (reports.migrations for reports in found)
    assert ((late["outcome"] == 0) & (late["total_ns"] > 5e9)).any()
    np.testing.assert_array_equal(early["outcome"], late["outcome"])
    completed = late["outcome"] == 0
    np.testing.assert_array_equal(early[completed], late[completed])


def run_scenarios(scenarios, made, **options):
    own = (*(made.compiled() if question == made.question else None for question in FIELDS), None)
    return drivers.run(records_of(scenarios), own=own, **options)
