"""Trace points of the migration loop, which stock builds of Debian write to a log."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

EVENTS = (
    "migrate_set_state",
    "migration_thread_setup_complete",
    "migration_bitmap_sync_start",
    "migration_bitmap_sync_end",
    "migrate_pending",
    "migrate_pending_estimate",
    "migrate_pending_exact",
    "qemu_savevm_query_pending",
    "savevm_state_iterate",
    "savevm_section_start",
    "savevm_section_end",
    "ram_save_iterate_big_wait",
    "migration_rate_limit_pre",
    "migrate_transferred",
    "migration_throttle",
    "migration_thread_low_pending",
    "migration_completion_vm_stop",
    "postcopy_start",
    "source_return_path_thread_switchover_acked",
    "vmstate_downtime_checkpoint",
)
"""Of all versions; QEMU warns of those that it does not have, and goes on."""
_TOLD = (
    "migrate_set_state",
    "migration_thread_setup_complete",
    "migration_throttle",
    "migration_thread_low_pending",
    "migration_completion_vm_stop",
    "postcopy_start",
    "source_return_path_thread_switchover_acked",
    "vmstate_downtime_checkpoint",
)
_LINE = re.compile(
    r"(?:\d+@(?P<s>\d+)\.(?P<us>\d{6}):|(?P<iso>\d{4}-\d\d-\d\dT[\d:.]+)Z )(?P<event>\w+) ?(?P<detail>.*)"
)
_NUMBER = re.compile(r"-?\d+")
_MOST_ROWS, _KEPT_ROWS = 6000, 600


def arguments(log: Path) -> list[str]:
    """Make the options that let QEMU write the trace points to a file.

    Parameters
    ----------
    log : path
        The file.

    Returns
    -------
    list of str
    """
    enabled = [word for name in EVENTS for word in ("-trace", f"enable={name}")]
    return ["-msg", "timestamp=on", "-D", str(log), *enabled]


def read(log: Path, started: float) -> dict[str, Any] | None:
    """Read what the loop of a source did.

    Parameters
    ----------
    log : path
        The file that QEMU wrote.
    started : float
        Origin of times, in seconds since 1970.

    Returns
    -------
    dict or None
        With the keys of the traces of ``data/qemu-traces``: windows, syncs, iterations with the handlers called, and
        totals. None if the build has no log backend.
    """
    loop = _Loop()
    for t_ms, event, detail in _lines(log, started):
        loop.take(t_ms, event, detail)
    return loop.trace() if loop.counts else None


def _lines(log: Path, started: float) -> Iterator[tuple[float, str, str]]:
    """Time in milliseconds, event and the rest of each line; a line cut off by the end of QEMU is left out."""
    if not log.is_file():
        return
    with log.open(errors="replace") as file:
        for line in file:
            found = _LINE.match(line) if line.endswith("\n") else None
            if found is None:
                continue
            if found["iso"]:
                at = datetime.fromisoformat(f"{found['iso']}+00:00").timestamp()
            else:
                at = int(found["s"]) + int(found["us"]) * 1e-6
            if at >= started:
                yield round((at - started) * 1e3, 3), found["event"], found["detail"].strip()


class _Loop:
    """The state of the loop as its trace points tell it."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sections: dict[str, dict[str, int]] = {}
        self.windows: list[list[Any]] = []
        self.syncs: list[list[Any]] = []
        self.iterations: list[list[Any]] = []
        self.big_waits: list[list[Any]] = []
        self.told: list[list[Any]] = []
        self.sleeps_ms: list[int] = []
        self.asked = {"estimate": 0, "exact": 0}
        self._estimate: int | None = None
        self._exact: int | None = None
        self._sync_start: float | None = None
        self._sync_to_fill = False
        self._section_start: float | None = None
        self._stopped = False

    def take(self, t: float, event: str, detail: str) -> None:
        """Go on by one trace point."""
        self.counts[event] += 1
        numbers = [int(word) for word in _NUMBER.findall(detail)]
        match event:
            case "migrate_pending" | "migrate_pending_estimate":
                self._pending(numbers[0], exact=False)
            case "migrate_pending_exact":
                self._pending(numbers[0], exact=True)
            case "qemu_savevm_query_pending":
                values = dict(part.split("=") for part in detail.split(", ") if part.count("=") == 1)
                if values.get("final", "0") == "0":
                    self._pending(int(values["total"]), exact=values["exact"] == "1")
            case "savevm_state_iterate":
                self.iterations.append([t, self._estimate, self._exact, []])
                self._exact = None
            case "savevm_section_start":
                self._section_start = t
            case "savevm_section_end" if self._section_start is not None:
                self._section(t, detail, round((t - self._section_start) * 1e3))
                self._section_start = None
            case "migration_bitmap_sync_start":
                self._sync_start = t
            case "migration_bitmap_sync_end" if self._sync_start is not None:
                self.syncs.append([t, round((t - self._sync_start) * 1e3), numbers[0], None, None])
                self._sync_start, self._sync_to_fill = None, True
            case "migrate_transferred":
                sent, spent = numbers[0], numbers[1]
                self.windows.append([t, sent, spent, sent // spent if spent else 0, numbers[-1]])
            case "ram_save_iterate_big_wait":
                self.big_waits.append([t, numbers[0], numbers[1]])
            case "migration_rate_limit_pre":
                self.sleeps_ms.append(numbers[0])
            case "migration_completion_vm_stop":
                self._stopped = True
        if event in _TOLD:
            self.told.append([t, event, detail])

    def _pending(self, size: int, exact: bool) -> None:
        self.asked["exact" if exact else "estimate"] += 1
        if not exact:
            self._estimate = size
        else:
            self._exact = size
            if self._sync_to_fill:
                self.syncs[-1][3:] = [self._estimate, size]
        self._sync_to_fill = False

    def _section(self, t: float, detail: str, us: int) -> None:
        name, returned = detail.split(",")[0], int(detail.rpartition("->")[2])
        if self._stopped:
            self.told.append([t, "savevm_section_end", detail, us])
        elif self.iterations:
            self.iterations[-1][3].append([name, us, returned])
            total = self.sections.setdefault(name, {"calls": 0, "ret1": 0, "ret0": 0, "us": 0, "max_us": 0})
            total["calls"] += 1
            if returned in (0, 1):
                total[f"ret{returned}"] += 1
            total["us"] += us
            total["max_us"] = max(total["max_us"], us)

    def trace(self) -> dict[str, Any]:
        """What was told, thinned where it is long."""
        iterations, thinned = _thinned(self.iterations)
        syncs, syncs_thinned = _thinned(self.syncs)
        return {
            "counts": dict(self.counts),
            "sections": self.sections,
            "iterations_total": len(self.iterations),
            "estimate_calls": self.asked["estimate"],
            "exact_calls": self.asked["exact"],
            "rate_limit_sleeps": len(self.sleeps_ms),
            "rate_limit_requested_ms": float(sum(self.sleeps_ms)),
            "big_wait": {"n": len(self.big_waits), "rows": self.big_waits[:_MOST_ROWS]},
            "windows": {"cols": ["t_ms", "bytes", "ms", "bytes_per_ms", "threshold"], "rows": self.windows},
            "syncs": {"rows": syncs, "thinned": syncs_thinned},
            "iterations": {"rows": iterations, "thinned": thinned},
            "per100ms": self._per_100_ms() if thinned else None,
            "misc": self.told,
        }

    def _per_100_ms(self) -> list[list[Any]]:
        """Iterations, and calls and microseconds of each handler, in every 100 ms."""
        found: dict[int, list[Any]] = {}
        for t, _, _, called in self.iterations:
            row = found.setdefault(int(t // 100), [0, {}])
            row[0] += 1
            for name, us, _ in called:
                calls = row[1].setdefault(name, [0, 0])
                calls[0] += 1
                calls[1] += us
        return [[index, *row] for index, row in sorted(found.items())]


def _thinned(rows: list[list[Any]]) -> tuple[list[list[Any]], bool]:
    """Every so many rows of a long list, and whether some are left out."""
    if len(rows) <= _MOST_ROWS:
        return rows, False
    return rows[:: math.ceil(len(rows) / _KEPT_ROWS)], True
