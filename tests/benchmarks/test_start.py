"""Time to start: import, the first simulation after an installation, the first simulation of a later process.

Each runs in a new process; ``extra_info`` has the time of the interpreter alone.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTHING = "pass"
IMPORT = "import migkit"
SIMULATION = (
    "import migkit; "
    "s = migkit.Scenario(guest=migkit.Guest(ram='4 GiB'), link=migkit.Link(bandwidth='10 Gbit/s')); "
    "migkit.simulate(s{})"
)
ENGINES = {"expected": SIMULATION.format(""), "bitmap": SIMULATION.format(", engine='bitmap'")}


def run(code, cache):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def interpreter_s(cache):
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        run(NOTHING, cache)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def test_import(benchmark, tmp_path):
    run(IMPORT, tmp_path)
    benchmark.pedantic(run, (IMPORT, tmp_path), rounds=5)
    benchmark.extra_info["interpreter_s"] = interpreter_s(tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
def test_first_simulation_with_an_empty_cache(benchmark, tmp_path, engine):
    run(IMPORT, tmp_path / "other")
    benchmark.pedantic(run, (ENGINES[engine], tmp_path / "cache"), rounds=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_simulation_of_a_later_process(benchmark, tmp_path, engine):
    run(ENGINES[engine], tmp_path)
    benchmark.pedantic(run, (ENGINES[engine], tmp_path), rounds=5)
    benchmark.extra_info["interpreter_s"] = interpreter_s(tmp_path)
