"""What is left out changes no bit and no verdict: windows that are jumped over, and what follows an early stop."""

import random

import numba
import numpy as np
import pytest
from cases import random_case
from rows import Outputs, Parameters, columns, kernels, to_parameters

from migkit import Guest, Link, Migration, Region, Scenario, Vfio
from migkit.kernels.state import (
    COMPLETED,
    INITIAL_DATA_STARVED,
    RAM_ABOVE_LINK,
    STOP_COPY_ABOVE_THRESHOLD,
    TIME_LIMIT,
)
from migkit.scenario.units import Bytes, Rate, Seconds

MIB, GIB = 2**20, 2**30
compiled_only = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="there are no threads and signatures")


def take(parameters, rows):
    """Some rows of the columns, in this order."""
    return Parameters(*(np.ascontiguousarray(column[rows]) for column in parameters))


def differing(first, second, without=()):
    return [
        name
        for name, a, b in zip(Outputs._fields, first, second, strict=True)
        if name not in without and not np.array_equal(a, b)
    ]


def random_rows(count, seed=0):
    return to_parameters([random_case(random.Random(f"{seed} {k}")) for k in range(count)])


@pytest.fixture(scope="module")
def rows():
    return random_rows(150)


# ---------------------------------------------------------------- jumping over windows


def step_by_step(parameters, engine, seed=0):
    """Outputs of ``record``, which jumps over nothing; it writes down every iteration and stops where ``run`` does."""
    return kernels.record(parameters, engine, seed=seed)[0]


def jumps(outputs):
    return int((outputs.turns - outputs.steps).sum())


def fresh(k):
    """Every other link is slower in the first pass."""
    rng = random.Random(f"fresh {k}")
    if rng.random() < 0.5:
        return {}
    return {"fresh_bandwidth": Rate(rng.choice([1e8, 2e7])), "fresh_after": Bytes(rng.choice([0, 700 * MIB]))}


def limited(k):
    """A large guest under a low limit: many windows are alike."""
    rng = random.Random(f"limited {k}")
    devices = [
        Vfio(
            initial_bytes=Bytes(rng.choice([0, 64 * MIB, rng.randint(1, 500 * MIB)])),
            read_rate=Rate(rng.choice([3e9, 2e8])),
            stop_copy_bytes=Bytes(rng.choice([0, 5 * MIB])),
        )
        for _ in range(rng.randint(0, 3))
    ]
    region = Region(
        start=Bytes(rng.choice([0, 500 * MIB])),
        size=Bytes(rng.choice([20, 320]) * MIB),
        write_rate=Rate(rng.choice([0.0, 1e6, 5e7, 1e9])),
        pattern=rng.choice(["uniform", "sequential"]),
    )
    return Scenario(
        guest=Guest(
            ram=Bytes(2 * GIB),
            accel=rng.choice(["kvm", "tcg"]),
            regions=[region],
            zero_share=rng.choice([0.0, 0.0, 0.3]),
        ),
        devices=devices,
        link=Link(
            bandwidth=Rate(rng.choice([1.25e8, 1.25e9])), send_buffer=Bytes(rng.choice([0, 4 * MIB])), **fresh(k)
        ),
        migration=Migration(
            max_bandwidth=Rate(rng.choice([0, 32 * MIB, 128 * MIB])),
            switchover_ack=bool(devices) and rng.random() < 0.5,
            return_path=True,
            auto_converge=rng.random() < 0.3,
        ),
        qemu=rng.choice(["8.2", "9.0", "10.0", "11.1"]),
        policy=rng.choice(["serialized", "unserialized"]),
        time_limit=Seconds(40),
    )


def test_jumps_over_windows_change_no_bit(rows):
    # a recorded migration is computed iteration by iteration
    together = kernels.run(rows)
    for k in range(len(rows.ram_pages)):
        alone, timeline = kernels.record(take(rows, [k]), most=10**7)
        assert not differing(alone, Outputs(*(column[[k]] for column in together)), without=["steps"]), k
        assert timeline.t_ns.size == alone.turns[0]
    assert jumps(together) > 0


@pytest.mark.parametrize("engine", kernels.ENGINES)
def test_jumps_over_windows_of_large_guests_change_no_bit(engine):
    jumped = 0
    for k in range(60):
        row = columns([limited(k)])
        outputs = kernels.run(row, engine)
        jumped += jumps(outputs)
        assert not differing(outputs, step_by_step(row, engine), without=["steps"]), k
    assert jumped > 1000


# ---------------------------------------------------------------- the early stop


def study_like(count):
    """Scenarios as sweeps have them: a hot region, more and more devices, rates over several decades."""
    scenarios = []
    for k in range(count):
        rng = random.Random(f"study {k}")
        link = 1.25e8 * 100 ** rng.random()
        devices = [Vfio(count=rng.randint(0, 8), initial_bytes=Bytes(64 * MIB))]
        scenarios.append(
            Scenario(
                guest=Guest(
                    ram=Bytes(16 * GIB),
                    accel=rng.choice(["kvm", "kvm", "tcg"]),
                    regions=[
                        Region(
                            size=Bytes(320 * MIB),
                            start=Bytes(rng.choice([0, 3 * GIB])),
                            write_rate=Rate(1e7 * 2000 ** rng.random()),
                            pattern=rng.choice(["uniform", "uniform", "sequential"]),
                        )
                    ],
                ),
                devices=devices,
                link=Link(bandwidth=Rate(link), **fresh(k)),
                migration=Migration(
                    max_bandwidth=Rate(rng.choice([0, 0, 128 * MIB, int(link * rng.uniform(0.2, 1.2))])),
                    downtime_limit=Seconds(rng.choice([0.3, 0.3, 0.05, 1.0])),
                    switchover_ack=rng.random() < 0.8,
                    return_path=True,
                    auto_converge=rng.random() < 0.15,
                ),
                qemu=rng.choice(["8.2", "9.0", "9.0", "10.0", "11.1"]),
                policy=rng.choice(["serialized", "unserialized"]),
                time_limit=Seconds(600),
            )
        )
    return columns(scenarios)


def verdicts(parameters):
    return [kernels.run(parameters, "expected", stops_early=early) for early in (True, False)]


@compiled_only
def test_stopping_early_changes_no_verdict_of_a_study():
    early, late = verdicts(study_like(1200))
    wrong = np.flatnonzero((early.outcome != late.outcome) | (early.culprit != late.culprit))
    assert not wrong.size, [(k, early.outcome[k], late.outcome[k]) for k in wrong[:10]]
    # what completes is the same to the last bit, and what does not is known sooner
    completed = late.outcome == COMPLETED
    assert not differing(*(Outputs(*(column[completed] for column in o)) for o in (early, late)))
    never = ~completed & (late.outcome != TIME_LIMIT)
    assert np.mean(early.total_ns[never] < 0.5 * late.total_ns[never]) > 0.8
    assert {COMPLETED, INITIAL_DATA_STARVED, RAM_ABOVE_LINK} <= set(late.outcome.tolist())


@compiled_only
def test_stopping_early_changes_no_verdict_of_random_cases():
    early, late = verdicts(random_rows(1500, seed="verdict"))
    wrong = np.flatnonzero((early.outcome != late.outcome) | (early.culprit != late.culprit))
    assert not wrong.size, [(k, early.outcome[k], late.outcome[k]) for k in wrong[:10]]
    completed = late.outcome == COMPLETED
    assert not differing(*(Outputs(*(column[completed] for column in o)) for o in (early, late)))
    assert STOP_COPY_ABOVE_THRESHOLD in late.outcome


@compiled_only
def test_stopping_early_changes_no_verdict_on_a_grid_like_that_of_the_study():
    early, full = verdicts(columns(list(study_scenarios())))
    wrong = np.flatnonzero((early.outcome != full.outcome) | (early.culprit != full.culprit))
    assert not wrong.size, [(k, early.outcome[k], full.outcome[k]) for k in wrong]
    assert len(set(full.outcome.tolist())) >= 3
    assert (early.total_ns < full.total_ns).sum() > 50


def study_scenarios():
    """Dirty rate times bandwidth times devices times policy, as the study has them."""
    for i, rate in enumerate(np.geomspace(10e6, 20e9, 10)):
        for j, bandwidth in enumerate(np.geomspace(0.125e9, 12.5e9, 10)):
            for count in (0, 1, 8):
                for policy in ("serialized", "unserialized"):
                    stop_copy = ("1 MiB", "32 MiB")[(i + j) % 2]
                    yield Scenario(
                        guest=Guest(
                            ram="16 GiB", regions=[Region(size="320 MiB", start="1 GiB", write_rate=Rate(rate))]
                        ),
                        devices=[Vfio(count=count, initial_bytes="16 MiB", stop_copy_bytes=stop_copy)],
                        link=Link(bandwidth=Rate(bandwidth)),
                        migration=Migration(max_bandwidth=Rate(0), switchover_ack=True, return_path=True),
                        policy=policy,
                        time_limit="300 s",
                    )
