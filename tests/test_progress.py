"""The progress bar, and the sentence on compilation."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from migkit import Guest, Link, Region, Scenario, frontier, sensitivity, simulate, sweep
from migkit.run import progress

SCENARIO = Scenario(
    guest=Guest(ram="64 MiB", regions=[Region(size="16 MiB", write_rate="20 MB/s")]),
    link=Link(bandwidth="10 Gbit/s"),
    time_limit="2 s",
)
RATES = {"geomspace": ["1 MB/s", "1 GB/s"]}
LINKS = {"geomspace": ["1 Gbit/s", "10 Gbit/s"]}
CALLS = {
    "simulate": lambda: simulate(SCENARIO),
    "sweep": lambda: sweep(SCENARIO, {"link.rtt": ["1 ms", "2 ms"]}, progress=True),
    "frontier": lambda: frontier(
        SCENARIO, "guest.regions.0.write_rate", ("1 MB/s", "1 GB/s"), {"link.rtt": ["1 ms"]}, progress=True
    ),
    "sensitivity": lambda: sensitivity(
        SCENARIO, {"guest.regions.0.write_rate": RATES, "link.bandwidth": LINKS}, points=2, progress=True
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_all_announce_compilation_and_show_one_kind_of_bar(name, monkeypatch, capfd):
    from numba.core import event

    registered, register = [], event.register

    def noted(kind, listener):
        (registered.append if kind == "numba:compile" else lambda _: register(kind, listener))(kind)

    monkeypatch.setattr(event, "register", noted)
    progress.announce_compilation.cache_clear()
    CALLS[name]()
    CALLS[name]()
    assert registered == ["numba:compile"]
    shown = capfd.readouterr().err
    assert ("migration" in shown, f"{name}:" in shown) == ((False, False) if name == "simulate" else (True, True))


COMPILE = """
import logging, sys
import numba
from migkit.run import progress
{before}
progress.announce_compilation()
progress.announce_compilation()
numba.njit(lambda x: x)(1)  # not a kernel
print("-", file=sys.stderr, flush=True)
def kernel(x): return x
kernel.__module__ = "migkit.kernels.some"
numba.njit(kernel)(1)
numba.njit(kernel)(1.0)
"""
CASES = {
    "terminal": ("progress._has_reader = lambda: True", f"-\nmigkit: {progress.COMPILING}\n"),
    "file": ("progress._has_reader = lambda: False", "-\n"),
    "log": (
        "progress._has_reader = lambda: True; logging.basicConfig(level=logging.INFO, format='%(name)s %(message)s')",
        f"-\nmigkit.run.progress {progress.COMPILING}\n",
    ),
}


def test_compilation_is_announced_above_a_bar_in_a_file_too(capfd, monkeypatch):
    monkeypatch.setattr(progress, "_has_reader", lambda: False)
    progress.tell("before")
    with progress.progress_bar(True, "sweep", total=2) as advance:
        progress.tell(progress.COMPILING)
        advance(2)
    progress.tell("behind")
    shown = capfd.readouterr().err.replace("\r", "\n").splitlines()
    assert [line.strip() for line in shown if line.startswith("migkit")] == [f"migkit: {progress.COMPILING}"]
    assert not any("before" in line or "behind" in line for line in shown)


@pytest.mark.parametrize(("before", "said"), CASES.values(), ids=CASES)
def test_compilation_is_announced_once(before, said):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "NUMBA_DISABLE_JIT": "0"}
    command = [sys.executable, "-c", COMPILE.format(before=before)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == said


def test_the_library_installs_no_handler():
    handlers = logging.getLogger("migkit").handlers
    assert [type(handler) for handler in handlers] == [logging.NullHandler]
