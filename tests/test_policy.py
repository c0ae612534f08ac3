"""Policies of one's own as a user writes them: where they can stand, what is refused, and whose results they are."""

import math
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import migkit
from migkit import Guest, Link, Migration, Region, Scenario, ScenarioError, Sweep, Vfio, simulate, sweep
from migkit.scenario.policy import POLICY_FIELDS, policy

STARVING = Scenario(
    guest=Guest(ram="256 MiB", regions=[Region(size="32 MiB", start="64 MiB", write_rate="4 GB/s")]),
    devices=[Vfio(initial_bytes="8 MiB", stop_copy_bytes="1 MiB")],
    link=Link(bandwidth="10 Gbit/s"),
    migration=Migration(max_bandwidth="128 MiB/s", switchover_ack=True, return_path=True),
    time_limit="10 s",
)
NO_LIMIT = 1 << 60


@migkit.policy
def device_first(state, devices, live, own):
    return (1 - state.calls if state.calls < 2 else -1), NO_LIMIT


@migkit.policy
def unserialized_again(state, devices, live, own):
    return state.previous + 1, NO_LIMIT


@migkit.policy(question="syncs")
def never_twice_a_window(state, devices, live, own):
    return state.estimate < state.threshold and state.window_syncs == 0


@migkit.policy(question="bandwidth")
def at_least_100_mb_s(state, devices, live, own):
    return max(1e5, state.window_bytes / state.window_ms)


# ---------------------------------------------------------------- where it can stand


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_a_policy_changes_how_a_migration_ends(engine):
    starved = simulate(STARVING.replace("policy", "unserialized"), engine)
    served = simulate(STARVING.replace("policy", device_first), engine)
    assert starved.outcome.label == "initial_data_starved"
    assert served.converged
    assert "device_first" in served.summary()
    first = served.timeline.iloc[0]
    assert first["vfio0_bytes"] == 2**20
    assert first["time_s"] == pytest.approx(0.002)


def test_its_name_stands_for_it():
    scenario = STARVING.replace("policy", "device_first")
    assert scenario == STARVING.replace("policy", device_first)
    assert scenario.policy.digest == device_first.digest
    again = Scenario.from_toml(scenario.to_toml())
    assert again.policy is device_first
    assert simulate(again).converged


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_a_sweep_is_its_migrations_on_any_number_of_threads(engine):
    axes = {
        "policy": ["serialized", device_first, "unserialized", unserialized_again],
        "sync_policy": [None, never_twice_a_window],
        "bandwidth_policy": ["window", at_least_100_mb_s],
        "qemu": ["8.2", "11.1"],
    }
    one, two = (sweep(STARVING, axes, engine, threads=threads, batch_rows=5) for threads in (1, 2))
    assert one.identical(two)
    assert one["policy"].values.tolist() == ["serialized", "device_first", "unserialized", "unserialized_again"]
    for place in np.ndindex(*one["outcome"].shape):
        values = {path: list(given)[at] for (path, given), at in zip(axes.items(), place, strict=True)}
        alone = simulate(STARVING.replace_all(values), engine)
        assert one["verdict_time_s"].values[place] == alone.verdict_time_s
        assert one["outcome"].values[place] == alone.outcome
    copied, built_in = (one.sel(policy=name, drop=True) for name in ("unserialized_again", "unserialized"))
    assert copied.drop_vars("steps").equals(built_in.drop_vars("steps"))


def test_frontier_uncertainty_and_sensitivity_take_it():
    link = {"axis": "link.bandwidth", "between": ["500 Mbit/s", "20 Gbit/s"], "tolerance": 0.05}
    found = migkit.frontier(STARVING, policy=["unserialized", device_first], **link)
    assert found["flips"].sel(policy="unserialized") > found["flips"].sel(policy="device_first")
    repeated = sweep(STARVING, {"policy": ["unserialized", device_first], "replicate": range(6)}, "bitmap")
    sure = migkit.uncertainty.convergence(repeated)
    assert sure["probability"].values.tolist() == [0, 1]
    ranges = {"link.rtt": {"linspace": ["1 ms", "2 ms"]}, "migration.downtime_limit": {"linspace": ["0.3 s", "1 s"]}}
    shares = migkit.sensitivity(STARVING.replace("policy", device_first), ranges, points=8)
    assert shares.attrs["completed"] == 1


def test_workers_of_a_cluster_take_it(tmp_path):
    distributed = pytest.importorskip("distributed")
    axes = {"policy": ["unserialized", device_first], "devices.0.count": [1]}
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        stored = sweep(STARVING, axes, store=tmp_path / "r.zarr", dask=client)
        assert stored["outcome"].values.ravel().tolist() == sweep(STARVING, axes)["outcome"].values.ravel().tolist()


def test_without_the_jit_the_bits_are_the_same():
    code = "from test_policy import numbers; print(numbers())"
    here = Path(__file__).parent
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(numbers()), done.stderr


def numbers():
    small = STARVING.replace_all({"guest.ram": "128 MiB", "time_limit": "600 ms"})
    given = {"policy": device_first, "sync_policy": never_twice_a_window, "bandwidth_policy": at_least_100_mb_s}
    migration = simulate(small.replace_all(given))
    return [int(migration.numbers[name]) for name in ("outcome", "bytes_sent", "sync_count", "iterations", "steps")]


def test_it_survives_a_pickle():
    again = pickle.loads(pickle.dumps(STARVING.replace("policy", device_first)))
    assert again.policy == "device_first"
    assert again.policy.digest == device_first.digest
    assert simulate(again).converged


# ---------------------------------------------------------------- whose results they are


def made(body, name="mine", question="next_device", **names):
    space = dict(names)
    exec(f"def {name}(state, devices, live, own):\n    {body}", space)
    return policy(space[name], question=question)


def test_a_store_belongs_to_the_source_of_its_policies(tmp_path):
    axes = {"policy": ["unserialized", made("return state.previous + 1, 1 << 60")]}
    sweep(STARVING, axes, store=tmp_path / "r.zarr")
    sweep(STARVING, {"policy": ["unserialized", "mine"]}, store=tmp_path / "r.zarr")
    other = {"policy": ["unserialized", made("return state.previous + 1, 1 << 50")]}
    with pytest.raises(ScenarioError, match=r"a policy has the source of another function \(mine\)"):
        sweep(STARVING, other, store=tmp_path / "r.zarr")


def test_the_digest_is_that_of_what_is_computed():
    def first(limit):
        @policy
        def rule(state, devices, live, own):
            """Comments and docstrings do not count."""
            return state.previous + 1, limit  # nor do these

        return rule

    def second(limit):
        @policy
        def rule(state, devices, live, own):
            return state.previous + 1, limit

        return rule

    assert first(5).digest == second(5).digest
    assert first(5).digest != second(6).digest
    built_in = Sweep(scenario=STARVING, axes={"policy": ["serialized"]})
    own = Sweep(scenario=STARVING, axes={"policy": [device_first]})
    assert built_in.policies == {}
    assert own.policies == {"device_first": device_first.digest}
    assert own == Sweep.from_toml(own.to_toml())


# ---------------------------------------------------------------- what repeats


@pytest.mark.parametrize(
    ("question", "body", "level"),
    [
        ("next_device", "return state.previous + 1, 1 << 60", 2),
        ("next_device", "return state.previous + 1, state.budget", 1),
        ("next_device", "return state.previous + 1 if state.t > 5 else -1, 1 << 60", 0),
        ("next_device", "return state.previous + 1 if live[0].called > 5 else -1, 1 << 60", 0),
        ("next_device", "return state['previous'] + 1 if state['estimate'] > 5 else -1, 1 << 60", 0),
        ("next_device", "return state.previous + live[0].initial_waits, 1 << 60", 2),
        ("syncs", "return state.estimate < state.threshold", 2),
        ("syncs", "return state.iteration % 2 == 0", 0),
        ("bandwidth", "return state.window_bytes / state.window_ms", 2),
    ],
)
def test_jumps_follow_from_the_fields_that_are_read(question, body, level):
    assert made(body, question=question).level == level


def test_fields_read_in_a_function_that_is_called_count():
    def late(state):
        return state.t > 5

    assert made("return state.previous + late(state), 1 << 60", late=late).level == 0


# ---------------------------------------------------------------- refused

REFUSED = {
    "no function": (lambda: policy("serialized"), "is not a function"),
    "wrong parameters": (lambda: policy(lambda state: 1), "must take four parameters"),
    "no name": (lambda: policy(lambda a, b, c, d: (0, 1)), "has no name"),
    "name of a built-in": (lambda: made("return 0, 1", "serialized"), "is the name of a built-in policy"),
    "unknown question": (lambda: made("return 0, 1", question="sync"), 'did you mean "syncs"'),
    "sets a field": (lambda: made("state.t = 5; return 0, 1"), "sets t"),
    "a list from outside": (lambda: made("return things[0], 1", things=[1]), "uses things, a list"),
    "another question": (lambda: STARVING.replace("policy", never_twice_a_window), 'answers the question "syncs"'),
    "unknown name": (lambda: STARVING.replace("policy", "device_frist"), 'did you mean "device_first"'),
    "does not compile": (lambda: simulate(STARVING.replace("policy", made("return {}, 1"))), "cannot be compiled"),
    "unknown field": (lambda: simulate(STARVING.replace("policy", made("return state.nothing, 1"))), "reads nothing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_policy_is_refused_in_one_sentence(name):
    act, words = REFUSED[name]
    with pytest.raises(ScenarioError) as caught:
        act()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_changes_by_index_are_refused():
    @policy
    def fine(state, devices, live, own):
        own[1] = math.sqrt(own[0] + 1.0)
        return state.previous + 1, NO_LIMIT

    with pytest.raises(ScenarioError, match="changes live"):

        @policy
        def bad(state, devices, live, own):
            live[0]["initial"] = 0
            return state.previous + 1, NO_LIMIT

    assert set(POLICY_FIELDS.values()) == {"next_device", "syncs", "bandwidth", "management"}


def _behind(state):
    return state.previous + 1


def _one_more(state):
    return _behind(state)


def calls_others(state, devices, live, own):
    return _one_more(state), NO_LIMIT


def test_a_policy_may_call_plain_functions_of_its_module():
    made = migkit.policy(calls_others)
    assert made.level == 2
    given, built_in = (simulate(STARVING.replace("policy", each)) for each in (made, "unserialized"))
    assert (given.outcome, given.sync_count) == (built_in.outcome, built_in.sync_count)
