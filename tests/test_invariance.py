"""Same migration, same bits: threads, neighbours, order, the JIT and jumped-over turns change nothing."""

import hashlib
import os
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import numba
import numpy as np
import pytest
from cases import random_case
from rows import to_parameters

from migkit import Guest, Link, Migration, Region, Scenario, Vfio, kernels
from migkit.kernels import expected, records
from migkit.kernels.parameters import Outputs
from migkit.scenario.rows import columns
from migkit.scenario.units import Rate

ROWS = {"expected": 200, "bitmap": 24}  # enough for several blocks of each
COMPLETED = 0


@cache
def rows(engine):
    return to_parameters([random_case(random.Random(5000 + k)) for k in range(ROWS[engine])])


def run(engine, parameters, **options):
    return kernels.run(parameters, engine, **{"seed": 3, "replicate": 2, **options})


@cache
def serial(engine):
    return run(engine, rows(engine), parallel=False)


def taken(columns_, index):
    return type(columns_)(*(np.ascontiguousarray(column[index]) for column in columns_))


def assert_same(first, second, but=()):
    for name in Outputs._fields:
        if name not in but:
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


both_engines = pytest.mark.parametrize("engine", kernels.ENGINES)


# ---------------------------------------------------------------- threads, order, neighbours


@both_engines
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(engine, threads):
    if threads > numba.config.NUMBA_NUM_THREADS:
        pytest.skip(f"Numba has {numba.config.NUMBA_NUM_THREADS} threads here")
    before = numba.get_num_threads()
    numba.set_num_threads(threads)
    try:
        parallel = run(engine, rows(engine))
    finally:
        numba.set_num_threads(before)
    assert_same(parallel, serial(engine))


@both_engines
def test_the_order_of_rows_changes_nothing(engine):
    order = np.random.default_rng(1).permutation(ROWS[engine])
    permuted = run(engine, taken(rows(engine), order))
    assert_same(permuted, taken(serial(engine), order))


@both_engines
def test_neighbours_change_nothing(engine):
    for k in range(0, ROWS[engine], ROWS[engine] // 24):
        alone = run(engine, taken(rows(engine), slice(k, k + 1)))
        assert_same(alone, taken(serial(engine), slice(k, k + 1)))


@pytest.mark.nojit
@pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="looks inside what is compiled without reference counts")
def test_a_crowded_migration_has_the_room_it_has_alone():
    # the expected engine joins segments when there is no room for more; a neighbour with more regions brings none
    narrow = random_case(random.Random(5000))
    for name in ("region_start", "region_pages"):
        assert len(narrow[name]) == narrow["region_count"] > 0
    packed = records.pack(to_parameters([narrow]))
    head = np.zeros(1, expected.EXPECTED_HEAD).view(np.recarray)
    found = set()
    for segments in (100, 300):
        memory = np.zeros(segments, expected.SEGMENT).view(np.recarray)
        expected.expected_reset(expected.ExpectedRam(memory, head[0]), packed.cases[0], packed.regions[0])
        found.add((int(head.most[0]), int(head["count"][0])))
    ((most, count),) = found
    assert count <= most <= 100


@both_engines
def test_a_second_run_changes_nothing(engine):
    # nothing is left over in what kernels work with
    assert_same(run(engine, rows(engine), parallel=False), serial(engine))


def test_replicates_differ_and_the_expected_engine_draws_nothing():
    parameters = rows("bitmap")
    assert (run("bitmap", parameters, seed=4).ram_pages_sent != serial("bitmap").ram_pages_sent).any()
    assert (run("bitmap", parameters, replicate=99).ram_pages_sent != serial("bitmap").ram_pages_sent).any()
    assert_same(run("expected", parameters, seed=4, replicate=99), run("expected", parameters))


# ---------------------------------------------------------------- the JIT

DIGEST = """
import random, sys
sys.path.insert(0, {tests!r})
from test_invariance import digest
print(digest())
"""


def digest():
    """Digest of the results of a few short rows, both engines."""
    cases = []
    for k in range(6000, 6200):
        c = random_case(random.Random(k))
        if c["ram_pages"] < 700 and c["time_limit_ns"] < 2_500_000_000 and len(cases) < 6:
            cases.append(c)
    parameters = to_parameters(cases)
    hashed = hashlib.sha256()
    for engine in kernels.ENGINES:
        for column in run(engine, parameters, parallel=False):
            hashed.update(column.tobytes())
    return hashed.hexdigest()


def test_without_the_jit_the_bits_are_the_same():
    program = DIGEST.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest()


# ---------------------------------------------------------------- jumps and early verdicts


def test_windows_and_turns_that_are_jumped_over_change_nothing():
    # a recorded migration is computed turn by turn
    parameters, together = rows("expected"), serial("expected")
    for k in range(ROWS["expected"]):
        alone, timeline = kernels.record(taken(parameters, slice(k, k + 1)), most=10**7)
        assert_same(alone, taken(together, slice(k, k + 1)), but={"steps"})
        assert timeline.t_ns.size == alone.turns[0]
    assert (together.steps < together.turns).any()  # some were jumped over


def early_and_full(parameters):
    early = kernels.run(parameters)
    full = kernels.run(parameters, stops_early=False)
    never_by_mistake = (early.outcome != COMPLETED) & (full.outcome == COMPLETED)
    assert not never_by_mistake.any(), np.flatnonzero(never_by_mistake)
    completed = early.outcome == COMPLETED
    assert_same(taken(early, completed), taken(full, completed))
    assert (early.total_ns <= full.total_ns).all()
    differ = (early.outcome != full.outcome) | (early.culprit != full.culprit)
    return early, full, np.flatnonzero(differ)


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


def test_an_early_verdict_is_that_of_the_time_limit_on_a_grid_like_the_studys():
    early, full, differ = early_and_full(columns(list(study_scenarios())))
    assert not differ.size, [(k, early.outcome[k], full.outcome[k]) for k in differ]
    assert len(set(full.outcome.tolist())) >= 3
    assert (early.total_ns < full.total_ns).sum() > 50
