"""How busy the host is while a migration is recorded, from ``/proc``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from migkit.scenario.errors import ScenarioError
from migkit.scenario.units import format_bytes

_TICKS = os.sysconf("SC_CLK_TCK")
KVM = "/dev/kvm"


def load(pids: dict[str, int]) -> dict[str, Any]:
    """Read the time that the host's CPUs and some processes have used.

    Parameters
    ----------
    pids : dict
        Processes of the recording by name; this one is added.

    Returns
    -------
    dict
        ``time`` and, in seconds, ``busy``, ``stolen`` and ``own``; ``loadavg``.
    """
    user, nice, system, _idle, _wait, irq, softirq, steal, *_ = (
        int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    own = os.times()
    return {
        "time": time.time(),
        "busy": (user + nice + system + irq + softirq) / _TICKS,
        "stolen": steal / _TICKS,
        "own": own.user + own.system + sum(_used_by(pid) for pid in pids.values()),
        "loadavg": os.getloadavg()[0],
    }


def _used_by(pid: int) -> float:
    """Seconds of CPU that a process has used; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def used(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What was used between two readings, in the keys of the recordings.

    Parameters
    ----------
    before, after : dict
        From :func:`load`.

    Returns
    -------
    dict
        ``other_cpu_s``: seconds of CPU that other processes used; ``our_cpu_s``, ``steal_s``, ``wall_s``; ``cpus``.
    """
    own = after["own"] - before["own"]
    return {
        "cpus": os.cpu_count(),
        "loadavg0": before["loadavg"],
        "loadavg1": after["loadavg"],
        "steal_s": round(after["stolen"] - before["stolen"], 2),
        "other_cpu_s": round(after["busy"] - before["busy"] - own, 2),
        "our_cpu_s": round(own, 2),
        "wall_s": round(after["time"] - before["time"], 2),
    }


HUGE_PAGES = Path("/sys/kernel/mm/hugepages")


def check(ram_bytes: int, accel: str, backing: int = 0) -> None:
    """Refuse what this machine cannot run, before anything is started.

    Parameters
    ----------
    ram_bytes : int
        RAM of each of the two guests.
    accel : {"tcg", "kvm"}
        Who runs them.
    backing : int, default 0
        Bytes of a huge page that they are in; 0: none.

    Raises
    ------
    ScenarioError
        If there is no KVM, or no permission to use it, or less memory, or fewer huge pages, than two guests need.
    """
    if accel == "kvm":
        if not os.path.exists(KVM):
            raise ScenarioError(f'needs {KVM}, which this machine does not have: use "tcg"', "accel", accel)
        if not os.access(KVM, os.R_OK | os.W_OK):
            why = f'needs permission to read and write {KVM}: join the group kvm, or use "tcg"'
            raise ScenarioError(why, "accel", accel)
    if backing:
        needed, free = 2 * ram_bytes // backing, _free_huge_pages(backing)
        if needed > free:
            why = f"needs {needed} free huge pages of that size for two guests, and {free} are free: reserve more"
            raise ScenarioError(f"{why}, as by {HUGE_PAGES}", "backing", format_bytes(backing))
        return
    available = _available_bytes()
    if available is not None and 2 * ram_bytes > available:
        why = f"is too much: two guests run, and {format_bytes(available >> 20 << 20)} of memory is free"
        raise ScenarioError(why, "ram", format_bytes(ram_bytes))


def _free_huge_pages(size: int) -> int:
    try:
        return int((HUGE_PAGES / f"hugepages-{size >> 10}kB" / "free_hugepages").read_text())
    except OSError:
        return 0


def _available_bytes() -> int | None:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
