"""Time to start: import, the first simulation after an installation, compilation, a simulation of a later process.

Each runs in a new process; ``extra_info`` has the time of the interpreter alone. The first simulations with the
expected engine are interpreted; the loop is compiled for more than sixteen migrations at once, or after four seconds.

Of the 22 s that compiling takes, LLVM has 8.5 s (a third of it for machine code), Numba's making of LLVM's input 7 s,
type inference 4.5 s, reading of bytecode 1.5 s. What did not help: LLVM without vectorisers or with fewer passes
(``NUMBA_OPT=1``: 2 s less, and a loop that is 15 % slower), fewer types.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import migkit

ROOT = Path(__file__).parents[2]
NOTHING = "pass"
IMPORT = "import migkit"
SIMULATION = (
    "import migkit; "
    "s = migkit.Scenario(guest=migkit.Guest(ram='4 GiB'), link=migkit.Link(bandwidth='10 Gbit/s')); "
    "migkit.simulate(s{})"
)
ENGINES = {"expected": SIMULATION.format(""), "bitmap": SIMULATION.format(", engine='bitmap'")}
COMPILATION = "from migkit.kernels.drivers import compiled_driver; compiled_driver('{}')"


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


def test_four_points_from_the_command_line_with_an_empty_cache(benchmark, tmp_path):
    scenario = migkit.Scenario(
        guest=migkit.Guest(ram="16 GiB", regions=[migkit.Region(size="4 GiB", write_rate="100 MB/s")]),
        link=migkit.Link(bandwidth="10 Gbit/s"),
    )
    axes = {"guest.regions.0.write_rate": ["100 MB/s", "300 MB/s", "600 MB/s", "2 GB/s"]}
    given = tmp_path / "four.toml"
    given.write_text(migkit.Sweep(scenario=scenario, axes=axes).to_toml())
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "migkit", "sweep", str(given)]
    benchmark.pedantic(
        subprocess.run,
        (command,),
        {"check": True, "env": environment, "cwd": tmp_path, "capture_output": True},
        rounds=1,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_compilation(benchmark, tmp_path, engine):
    benchmark.pedantic(run, (COMPILATION.format(engine), tmp_path), rounds=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_simulation_of_a_later_process(benchmark, tmp_path, engine):
    run(COMPILATION.format(engine), tmp_path)
    benchmark.pedantic(run, (ENGINES[engine], tmp_path), rounds=5)
    benchmark.extra_info["interpreter_s"] = interpreter_s(tmp_path)
