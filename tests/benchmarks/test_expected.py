"""Expected engine over the grid of the study, thinned: microseconds a migration, and two threads against one."""

import time

import numba
import numpy as np
import pytest

from migkit import kernels
from migkit.run.grid import Grid
from migkit.study import experiments as study

POINTS = 24  # on each of the plane's two axes; the study has 110
SHARES = (0.1, 0.5, 0.9, 0.99, 1.0)
PIECE = 64  # neighbours on the grid that are timed together


@pytest.fixture(scope="module")
def rows():
    experiment = study.experiments(POINTS)["convergence"]
    grid = Grid(experiment.scenario, experiment.axes)
    return grid.records_at(grid.places(np.arange(grid.points)))


def seconds(rows, parallel=False):
    began = time.perf_counter()
    kernels.run(rows, parallel=parallel)
    return time.perf_counter() - began


def quantiles(values):
    return dict(zip(map(str, SHARES), np.quantile(values, SHARES).tolist(), strict=True))


@pytest.mark.benchmark(timer=time.process_time)
def test_one_thread(benchmark, rows):
    count = len(rows.cases)
    outputs = kernels.run(rows, parallel=False)
    benchmark(kernels.run, rows, "expected", 0, 0, False)
    pieces = [type(rows)(*(part[first : first + PIECE] for part in rows)) for first in range(0, count, PIECE)]
    benchmark.extra_info["migrations"] = count
    benchmark.extra_info["us_a_migration"] = benchmark.stats.stats.min / count * 1e6
    benchmark.extra_info["us_a_migration_of_a_piece"] = quantiles(
        [min(seconds(piece) for _ in range(3)) / len(piece.cases) * 1e6 for piece in pieces]
    )
    for name in ("steps", "turns", "sync_count"):
        benchmark.extra_info[name] = quantiles(getattr(outputs, name))
    benchmark.extra_info["outcomes"] = np.bincount(outputs.outcome).tolist()


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="one thread")
def test_two_threads(benchmark, rows):
    kernels.run(rows)
    before = numba.get_num_threads()
    took = {1: [], 2: []}
    try:
        for _ in range(5):  # in turn, so that both meet the same machine
            for threads in took:
                numba.set_num_threads(threads)
                took[threads].append(seconds(rows, parallel=True))
        numba.set_num_threads(2)
        benchmark(kernels.run, rows)
    finally:
        numba.set_num_threads(before)
    benchmark.extra_info["times_faster_than_one_thread"] = min(took[1]) / min(took[2])
