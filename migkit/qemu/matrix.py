"""The matrix of runs that ``migkit validate --record`` repeats on the user's machine: RAM only, over loopback."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from migkit.qemu.binary import Binary
from migkit.qemu.monitor import check_client
from migkit.qemu.plan import Plan
from migkit.qemu.planned import scenario_of_plan
from migkit.qemu.record import SUFFIX, name_of, record
from migkit.results import seconds_text
from migkit.scenario.errors import ScenarioError, Unfinished
from migkit.scenario.units import Rate

RATE = 128 << 20
"""max-bandwidth, bytes per second: of all runs of V1 and V2."""
SHARES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Write rates of the group V1, in units of max-bandwidth."""
LIMITS = ("50 ms", "100 ms", "1 s")
"""Downtime limits of the group V2."""
SIZE = "128 MiB"
"""What the guest rewrites. Uniform writes of 1.5 times max-bandwidth then leave 49 MiB dirty after each sync, where 38
MiB fit the downtime limit, and writes of 1.0 times leave next to nothing: no rate is near the edge."""
_START_S = 2.5
"""Start of two QEMUs and of the guest, and its warm-up, seconds."""
_WORK = 4000
"""``delay`` of the writers under auto-converge: turns of an empty loop after each write, so that they need the vCPU."""


def matrix(short: bool = False) -> list[tuple[str, Plan]]:
    """List the runs to record with each QEMU, in the time of 5 minutes a version.

    Parameters
    ----------
    short : bool, default False
        A few runs, a part of the whole matrix.

    Returns
    -------
    list of (str, Plan)
        Group and plan. V0: no writes, three values of max-bandwidth. V1: write rates of 0.25 to 2 times max-bandwidth,
        uniform and sequential. V2: downtime limits. V3: auto-converge with a paced guest and one at full speed.

    Examples
    --------
    >>> len(matrix()), len(matrix(short=True))
    (20, 5)
    >>> [group for group, _ in matrix(short=True)]
    ['V0', 'V1', 'V1', 'V1', 'V2']
    """

    def plan(share: float | None = None, pattern: str = "uniform", delay: int = 0, **fields: Any) -> Plan:
        rate = "max" if share is None else Rate(share * RATE)
        region = {"size": SIZE, "rate": rate, "pattern": pattern, "delay": delay}
        common = {"ram": "512 MiB", "max_bandwidth": Rate(RATE), "time_limit": "12 s", "trace": True}
        return Plan(**common | {"regions": [region]} | fields)

    runs = [("V0", plan(0.0, max_bandwidth=Rate(share * RATE)), share == 1) for share in (0.5, 1, 2)]
    for pattern in ("uniform", "sequential"):
        for share in SHARES:
            brief = (pattern, share) in (("uniform", 0.5), ("sequential", 0.5), ("uniform", 2.0))
            runs.append(("V1", plan(share, pattern), brief))
    runs += [("V2", plan(0.75, downtime_limit=limit), limit == "1 s") for limit in LIMITS]
    throttled: dict[str, Any] = {"capabilities": ["auto-converge"], "delay": _WORK, "time_limit": "60 s"}
    throttled["max_bandwidth"] = Rate(RATE / 2)  # what a guest that works this much can outrun
    runs += [("V3", plan(1.25 / 2, **throttled), False), ("V3", plan(None, **throttled), False)]
    return [(group, made) for group, made, brief in runs if brief or not short]


def record_matrix(
    output: str | os.PathLike[str],
    binaries: Sequence[Binary],
    short: bool = False,
    repeats: int = 1,
    progress: Callable[[str], None] = print,
) -> list[str]:
    """Record the runs of :func:`matrix` that are missing in a folder.

    Parameters
    ----------
    output : path
        Folder for the runs. Those in it are kept, and count.
    binaries : sequence of Binary
        From :func:`migkit.qemu.binary.installed`.
    short : bool, default False
        As for :func:`matrix`.
    repeats : int, default 1
        How many runs of each configuration there are in the end, 1 or more.
    progress : callable, optional
        Is given a sentence about what is to be done and about each run, with the time left.

    Returns
    -------
    list of str
        Names of the runs that were recorded now.

    Raises
    ------
    ScenarioError
        If there is no QEMU, or this machine cannot run it.
    Unfinished
        If a run cannot be finished; those before it are kept.

    Examples
    --------
    >>> from migkit.qemu.binary import installed
    >>> record_matrix("runs", installed(), short=True)  # doctest: +SKIP
    ['V0__bw128_ws128_uniform_0_dt300_a3f1__deb72__r0', ...]
    """
    if not binaries:
        raise ScenarioError("is missing: install Debian's package qemu-system-x86, or give --qemu or --qemu-root",
                            "QEMU")  # fmt: skip
    if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= 1000:
        raise ScenarioError("is outside the allowed range: it must be a whole number from 1 to 1000", "--repeats",
                            repeats)  # fmt: skip
    check_client("migkit validate --record")
    wanted = matrix(short)
    todo = list(_missing(Path(output), binaries, wanted, repeats))
    total = len(wanted) * len(binaries) * repeats
    versions = ", ".join(binary.version for binary in binaries)
    expected = [seconds_of(plan, binary.version) for binary, _, plan in todo]
    here = total - len(todo)
    kept = f"; {here} of {total} are there" if here else ""
    progress(f"{len(todo)} runs with QEMU {versions} are to be recorded, {_about(sum(expected))}{kept}.")
    names: list[str] = []
    began = time.monotonic()
    try:
        for number, (binary, group, plan) in enumerate(todo):

            def said(text: str, number: int = number) -> None:
                slower = (time.monotonic() - began) / sum(expected[: number + 1])
                left = _about(sum(expected[number + 1 :]) * slower)
                progress(f"[{here + number + 1}/{total}, {left} left] {text}")

            names += record(output, plan, group=group, qemu=binary, progress=said)
    except Unfinished as unfinished:
        raise Unfinished(f"{unfinished} {_kept(here + len(names), total, output)}.") from None
    except KeyboardInterrupt as interrupt:
        interrupt.__notes__ = [_kept(here + len(names), total, output)]
        raise
    return names


def _kept(done: int, total: int, output: str | os.PathLike[str]) -> str:
    return f"{done} of {total} runs are in {os.fspath(output)}, and the same command records the rest"


def _missing(
    folder: Path, binaries: Sequence[Binary], wanted: Sequence[tuple[str, Plan]], repeats: int
) -> Iterator[tuple[Binary, str, Plan]]:
    """What is not in the folder yet; all of the first repeat comes before the second."""
    for repeat in range(repeats):
        for binary in binaries:
            for group, plan in wanted:
                found = len(list(folder.glob(f"{group}__{name_of(plan)}__{binary.build}__r*{SUFFIX}")))
                if found <= repeat:
                    yield binary, group, plan


def seconds_of(plan: Plan, version: str) -> float:
    """How long a run takes, as far as it is predicted; its time limit where it is not.

    Examples
    --------
    >>> 3 < seconds_of(matrix()[1][1], "10.0.2") < 8
    True
    """
    from migkit.run.simulate import simulate

    limit = float(plan.time_limit)
    try:
        predicted = simulate(scenario_of_plan(plan, version))
    except ScenarioError:  # a guest at full speed
        return _START_S + limit
    return _START_S + (float(predicted.numbers["total_time_s"]) if predicted.converged else limit)


def _about(seconds: float) -> str:
    return f"about {seconds / 60:.0f} min" if seconds >= 90 else f"about {seconds_text(round(seconds))}"


__all__ = ["matrix", "record_matrix", "seconds_of"]
