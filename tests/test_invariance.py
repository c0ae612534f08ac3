"""Same migration, same bits: threads, neighbours, order, padding and the JIT change nothing."""

import hashlib
import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numba
import numpy as np
import pytest
from cases import random_case
from rows import Outputs, Parameters, columns, kernels, to_parameters, to_records

from migkit import Guest, Link, Migration, Region, Scenario
from migkit.kernels import drivers, ram_expected

ROWS = {"expected": 200, "bitmap": 24}  # enough for several batches of each


@cache
def rows(engine):
    return to_parameters([random_case(random.Random(5000 + k)) for k in range(ROWS[engine])])


def run(engine, parameters, **options):
    return kernels.run(parameters, engine, **{"seed": 3, "replicate": 2, **options})


@cache
def serial(engine):
    return run(engine, rows(engine))


def taken(columns_, index):
    return type(columns_)(*(np.ascontiguousarray(column[index]) for column in columns_))


def assert_same(first, second, but=()):
    for name in Outputs._fields:
        if name not in but:
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)


both_engines = pytest.mark.parametrize("engine", kernels.ENGINES)


# ---------------------------------------------------------------- threads, order, neighbours


@both_engines
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(engine, threads):
    parts = [slice(first, first + 7) for first in range(0, ROWS[engine], 7)]
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda part: run(engine, taken(rows(engine), part)), parts))
    width = serial(engine).device_bytes.shape[1]
    together = Outputs(*(np.concatenate(each) for each in zip(*found, strict=True)))
    assert together.device_bytes.shape[1] == width
    assert_same(together, serial(engine))


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
    case, region = to_records(to_parameters([narrow])).cases[0], to_records(to_parameters([narrow])).regions[0]
    head = np.zeros(1, drivers.EXPECTED_HEAD).view(np.recarray)
    found = set()
    for segments in (100, 300):
        memory = np.zeros(segments, drivers.SEGMENT).view(np.recarray)
        ram_expected.expected_reset(ram_expected.ExpectedRam(memory, head[0]), case, region, 0, 0)
        found.add((int(head.most[0]), int(head["count"][0])))
    ((most, count),) = found
    assert count <= most <= 100


@both_engines
def test_a_second_run_changes_nothing(engine):
    # nothing is left over in what kernels work with
    assert_same(run(engine, rows(engine)), serial(engine))


def test_what_an_earlier_run_left_in_the_scratch_memory_changes_nothing():
    first, second = (to_records(taken(rows("expected"), np.array(some))) for some in ([3, 5, 8], [2]))
    expected = drivers.run(first, seed=3)
    with pytest.raises(drivers.OverLimit):
        drivers.run(first, seed=3, limit=1)
    drivers.run(second, "bitmap", stop=lambda: drivers.run(second) is None)  # one run within another
    found = drivers.run(first, seed=3)
    for before, after in zip(expected, found, strict=True):
        assert before.tobytes() == after.tobytes()


def test_replicates_differ_and_the_expected_engine_draws_phases_alone():
    parameters = rows("bitmap")
    assert (run("bitmap", parameters, seed=4).ram_pages_sent != serial("bitmap").ram_pages_sent).any()
    assert (run("bitmap", parameters, replicate=99).ram_pages_sent != serial("bitmap").ram_pages_sent).any()
    given = parameters._replace(region_phase=np.abs(parameters.region_phase))  # none of them is drawn
    assert_same(run("expected", given, seed=4, replicate=99), run("expected", given))


@both_engines
def test_wider_padding_changes_nothing(engine):
    def wider(name, column):
        return np.pad(column, ((0, 0), (0, 3))) if column.ndim == 2 else column

    plain = serial(engine)
    padded = run(engine, Parameters(*map(wider, Parameters._fields, rows(engine))))
    narrow = [column[:, : plain.device_bytes.shape[1]] if column.ndim == 2 else column for column in padded]
    assert_same(Outputs(*narrow), plain)


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
        for column in run(engine, parameters):
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


# guests in which a page that two segments share has moved from one call of RAM to the next by a window jumped over
SHARED_PAGES = (
    Scenario(
        guest=Guest(
            ram="8 GiB",
            accel="kvm",
            zero_share=1.0,
            regions=[
                Region(size="192 MiB", start="82 MiB", write_rate="153 MB/s"),
                Region(size="227 MiB", start="418 MiB", write_rate="674 MB/s", zero_share=0.3),
            ],
        ),
        link=Link(bandwidth="25 Gbit/s", send_buffer="1 MiB"),
        migration=Migration(max_bandwidth="64 MiB/s"),
        qemu="8.2",
        time_limit="60 s",
    ),
    Scenario(
        guest=Guest(
            ram="16 GiB",
            accel="kvm",
            zero_share=1.0,
            regions=[
                Region(size="2025 MiB", write_rate="164 MB/s", zero_share=1.0),
                Region(size="3762 MiB", start="2044 MiB", write_rate="704 MB/s"),
            ],
        ),
        link=Link(bandwidth="5 Gbit/s", send_buffer="0 B"),
        migration=Migration(max_bandwidth=0, x_clear_bitmap_shift=14),
        qemu="9.0",
        time_limit="60 s",
    ),
)


@pytest.mark.parametrize("scenario", SHARED_PAGES)
def test_windows_that_are_jumped_over_change_nothing(scenario):
    parameters = columns([scenario])
    jumped = kernels.run(parameters, "expected", seed=1)
    step_by_step, _ = kernels.record(parameters, "expected", seed=1)
    assert jumped.steps < step_by_step.steps
    assert_same(jumped, step_by_step, but={"steps"})


# random cases that take little time without the JIT
CHEAP = (0, 2, 3, 7, 9, 11)


@pytest.mark.nojit
@both_engines
def test_together_and_recorded_with_and_without_the_jit(engine):
    parameters = to_parameters([random_case(random.Random(k)) for k in CHEAP])
    together = kernels.run(parameters, engine, seed=4)
    for k in (0, 3):
        recorded, _ = kernels.record(taken(parameters, [k]), engine, seed=4)
        assert_same(recorded, taken(together, [k]), but={"steps"})
