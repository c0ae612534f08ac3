"""Sweeps: a million migrations in memory and into a store, beside the kernels alone; Dask workers; peak memory."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numba
import pytest

from migkit.kernels import drivers
from migkit.run.design import Sweep
from migkit.run.grid import Layout
from migkit.run.many import sweep
from migkit.run.store import Store
from migkit.run.threads import PIECE_ROWS
from migkit.study import experiments as study

POINTS = 236  # on each of the plane's two axes: 9 x 2 x 236 x 236 = 1,002,528 migrations
THREADS = min(2, numba.config.NUMBA_NUM_THREADS)
TEN_MILLION = 746
ROUNDS = 5


def described(points=POINTS):
    experiment = study.experiments(points)["convergence"]
    return Sweep(scenario=experiment.scenario, axes=experiment.axes)


def seconds(function, *arguments, **options):
    began = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - began


def kernels_alone(layout, store):
    """Seconds of the kernels for the same migrations, on as many threads, with records made before and no results."""
    total = 0.0
    with ThreadPoolExecutor(THREADS) as pool:
        for batch in store.batches:
            places = store.batches.places(batch)[layout._of_grid]
            pieces = [
                layout._grid.records_at(places[:, first : first + PIECE_ROWS["expected"]])
                for first in range(0, places.shape[1], PIECE_ROWS["expected"])
            ]
            total += seconds(lambda pieces=pieces: list(pool.map(drivers.run, pieces)))
    return total


def test_a_million_migrations_in_memory_and_into_a_store(benchmark, tmp_path):
    whole = described()
    sweep(described(3))
    sweep(described(3), store=tmp_path / "warm.zarr")
    in_memory, stored = [], []
    for number in range(ROUNDS):  # in turn, on the same state of the machine
        in_memory.append(seconds(sweep, whole, threads=THREADS))
        stored.append(seconds(sweep, whole, store=tmp_path / f"{number}.zarr", threads=THREADS))
        shutil.rmtree(tmp_path / f"{number}.zarr")
    benchmark.pedantic(sweep, (whole,), {"threads": THREADS}, rounds=1)
    benchmark.extra_info["seconds_in_memory"] = median(in_memory)
    benchmark.extra_info["seconds_into_a_store"] = median(stored)
    benchmark.extra_info["memory_over_store"] = median(in_memory) / median(stored)


@pytest.mark.parametrize(("points", "rounds"), [(POINTS, ROUNDS), (TEN_MILLION, 1)])
def test_migrations_into_a_store(benchmark, tmp_path, points, rounds):
    whole = described(points)
    layout = Layout(whole)
    sweep(described(3), store=tmp_path / "warm.zarr")
    store = Store.at(tmp_path / "layout.zarr", layout)
    alone, stored, laid_out = [], [], []
    for number in range(rounds):  # in turn, on the same state of the machine
        alone.append(kernels_alone(layout, store))
        laid_out.append(seconds(Layout, whole))
        stored.append(seconds(sweep, whole, store=tmp_path / f"{number}.zarr", threads=THREADS, progress=True))
        shutil.rmtree(tmp_path / f"{number}.zarr")
    benchmark.pedantic(sweep, (whole,), {"store": tmp_path / "last.zarr", "threads": THREADS}, rounds=1)
    size = sum(path.stat().st_size for path in (tmp_path / "last.zarr").rglob("*") if path.is_file())
    benchmark.extra_info["migrations"] = layout.migrations
    kernels_s, layout_s, stored_s = map(median, (alone, laid_out, stored))
    benchmark.extra_info["seconds"] = stored_s
    benchmark.extra_info["seconds_of_the_kernels"] = kernels_s
    benchmark.extra_info["seconds_of_the_layout"] = layout_s
    benchmark.extra_info["overhead_of_batches_store_and_progress"] = (stored_s - layout_s) / kernels_s - 1.0
    benchmark.extra_info["overhead_with_the_layout"] = stored_s / kernels_s - 1.0
    benchmark.extra_info["bytes_a_migration_on_disk"] = size / layout.migrations


def test_two_dask_workers_against_one(benchmark, tmp_path):
    distributed = pytest.importorskip("distributed")
    whole = described(160)
    took = {}
    for workers in (1, 2):
        with (
            distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
            ) as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
        ):
            # every worker has loaded its kernels and modules before the time is taken
            sweep(described(8), store=tmp_path / f"warm{workers}.zarr", dask=client, batch_rows=64)
            took[workers] = min(
                seconds(sweep, whole, store=tmp_path / f"{workers}-{i}.zarr", dask=client, batch_rows=16384)
                for i in range(ROUNDS)
            )
    benchmark.pedantic(lambda: None, rounds=1)
    benchmark.extra_info["seconds"] = took
    benchmark.extra_info["times_faster_than_one_worker"] = took[1] / took[2]


def test_memory_of_ten_million_migrations(benchmark, tmp_path):
    code = f"""
import sys
from migkit import Sweep, sweep
from migkit.study import experiments as study
experiment = study.experiments({TEN_MILLION})["convergence"]
dataset = sweep(Sweep(scenario=experiment.scenario, axes=experiment.axes), store=sys.argv[1])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(dataset["outcome"].size, peak)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "r.zarr")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    options = {"capture_output": True, "text": True, "check": True, "env": environment}
    done = benchmark.pedantic(subprocess.run, (command,), options, rounds=1)
    migrations, peak = map(int, done.stdout.split())
    benchmark.extra_info["migrations"] = migrations
    benchmark.extra_info["peak_bytes"] = peak * 1024
