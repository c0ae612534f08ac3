"""What the answers of QEMU and libvirt can say: the columns of one table, and a record of one file as it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from migkit.scenario.errors import ScenarioError, show

__all__ = ["COLUMNS", "MEASUREMENT_STATES", "MIGRATION_STATES", "Column", "Said", "scaled"]


class Column(NamedTuple):
    """A column of the table of :func:`migkit.qemu.read`."""

    name: str
    unit: str
    """SI, or "" for counts, codes and text."""
    meaning: str


COLUMNS = (
    Column("answer", "", "migration (query-migrate, info migrate, domjobinfo) or dirty rate (query-dirty-rate)"),
    Column("line", "", "line of the file where the answer begins; none in a recorded run"),
    Column(
        "time_s", "s", "when: of a recorded run since the migrate command, else Unix time where a timestamp is given"
    ),
    Column("status", "", "QEMU's status, or libvirt's job type in lower case"),
    Column("error", "", "why it failed, in QEMU's words"),
    Column("operation", "", "libvirt's operation"),
    Column("total_time_s", "s", "since the migration began; of a completed one its duration"),
    Column("total_time_without_network_s", "s", "libvirt: without what the clocks of two hosts add"),
    Column("remaining_time_s", "s", "libvirt's guess for a bounded job"),
    Column("setup_time_s", "s", "setup"),
    Column("expected_downtime_s", "s", "what QEMU expects; the downtime limit until it has a dirty rate"),
    Column("downtime_s", "s", "of a migration that has stopped the guest"),
    Column("downtime_without_network_s", "s", "libvirt: without what the clocks of two hosts add"),
    Column("ram_total_bytes", "B", "RAM of the guest"),
    Column("transferred_bytes", "B", "sent so far"),
    Column("ram_remaining_bytes", "B", "RAM left to send"),
    Column("all_remaining_bytes", "B", "left to send by all devices: QEMU 11.1 and later, or libvirt's data remaining"),
    Column("all_processed_bytes", "B", "libvirt's data processed: RAM and disks"),
    Column("all_total_bytes", "B", "libvirt's data total: RAM and disks"),
    Column("bandwidth_bytes_per_s", "B/s", "of the last window; of a completed migration the mean"),
    Column("pages_per_s", "1/s", "pages sent per second in the last window"),
    Column("dirty_pages_per_s", "1/s", "new dirty pages per second of the last period of at least 1 s"),
    Column(
        "dirty_bytes_per_s", "B/s", "the same in bytes if the page size is given; of a dirty rate what was measured"
    ),
    Column("sync_count", "", "bitmap syncs so far (dirty-sync-count; libvirt's iteration)"),
    Column("throttle_percent", "%", "auto-converge: share of time in which vCPUs stand still"),
    Column("normal_pages", "", "pages sent with their contents"),
    Column("zero_pages", "", "pages sent as zero pages (duplicate, constant)"),
    Column("skipped_pages", "", "pages skipped; always 0 in QEMU"),
    Column("normal_bytes", "B", "bytes of normal pages without headers"),
    Column("page_size_bytes", "B", "size of a page on the wire"),
    Column("precopy_bytes", "B", "sent before the guest was stopped"),
    Column("downtime_bytes", "B", "sent while the guest was stopped"),
    Column("postcopy_bytes", "B", "sent in post-copy"),
    Column("postcopy_requests", "", "pages that the destination asked for"),
    Column("postcopy_blocktime_s", "s", "how long all vCPUs waited for pages"),
    Column("multifd_bytes", "B", "sent through the channels of multifd"),
    Column("zero_copy_fallbacks", "", "syncs in which zero-copy did copy"),
    Column("vfio_bytes", "B", "sent by VFIO devices"),
    Column("disk_transferred_bytes", "B", "sent of disks"),
    Column("disk_remaining_bytes", "B", "left of disks"),
    Column("disk_total_bytes", "B", "size of disks"),
    Column("disk_bandwidth_bytes_per_s", "B/s", "libvirt's bandwidth of disks"),
    Column("xbzrle_cache_bytes", "B", "size of the XBZRLE cache"),
    Column("xbzrle_bytes", "B", "sent as XBZRLE"),
    Column("xbzrle_pages", "", "pages sent as XBZRLE"),
    Column("xbzrle_cache_misses", "", "pages that were not in the cache"),
    Column("xbzrle_cache_miss_rate", "", "share of pages that were not in the cache"),
    Column("xbzrle_encoding_rate", "", "page bytes over encoded bytes"),
    Column("xbzrle_overflows", "", "pages that XBZRLE would have made larger"),
    Column("dirty_limit_throttle_s", "s", "dirty-limit: longest sleep of a vCPU in a round"),
    Column("dirty_limit_ring_full_s", "s", "dirty-limit: time in which a dirty ring fills"),
    Column("max_bandwidth_bytes_per_s", "B/s", "max-bandwidth as the file last said it; 0 is no limit"),
    Column("downtime_limit_s", "s", "downtime-limit as the file last said it"),
    Column("avail_switchover_bandwidth_bytes_per_s", "B/s", "avail-switchover-bandwidth likewise"),
    Column("mode", "", "dirty rate: page-sampling, dirty-bitmap or dirty-ring"),
    Column("start_s", "s", "dirty rate: start; since the host booted, or Unix time from QEMU 8.2 on"),
    Column("calc_time_s", "s", "dirty rate: how long it was measured"),
    Column("sample_pages_per_gib", "", "dirty rate: pages sampled per GiB"),
    Column("vcpu_dirty_bytes_per_s", "B/s", "dirty rate: of each vCPU, a tuple"),
)
"""Every column that the table of :func:`migkit.qemu.read` can have."""

MIGRATION_STATES = frozenset(
    {
        *("none", "setup", "active", "pre-switchover", "device", "completed", "failing", "failed"),
        *("cancelling", "cancelled", "colo", "wait-unplug"),
        *("postcopy-device", "postcopy-active", "postcopy-paused", "postcopy-recover-setup", "postcopy-recover"),
    }
)
"""``MigrationStatus`` of ``qapi/migration.json``, all versions up to 11.1."""
MEASUREMENT_STATES = frozenset({"unstarted", "measuring", "measured"})
"""``DirtyRateStatus`` of ``qapi/migration.json``."""

_TEXT = {"answer", "status", "error", "operation", "mode", "vcpu_dirty_bytes_per_s"}
_NAMES = frozenset(column.name for column in COLUMNS)
_WRAPPED = 2.0**63
"""A counter of 64 bits that fell below 0 prints as more than this; kbytes as more than 1/1024 of it."""
_NO_LIMIT = 2.0**60
"""libvirt sets the largest number of MiB/s for no limit."""


def scaled(value: float, factor: float) -> float:
    """The product; by a factor below 1 a division, so that 1003 ms are 1.003 s.

    Examples
    --------
    >>> scaled(1003, 1e-3)
    1.003
    """
    return value * factor if factor >= 1.0 else value / round(1.0 / factor)


@dataclass
class Said:
    """What one file says, filled while it is read.

    Parameters
    ----------
    source : str
        Name of the file for messages.

    Examples
    --------
    >>> said = Said("report.txt")
    >>> row = said.begin("migration", 1)
    >>> said.put(row, "sync_count", 3)
    >>> said.frame()["sync_count"].to_list()
    [3.0]
    """

    source: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    version: str | None = None
    capabilities: tuple[str, ...] | None = None
    limits: dict[str, float] = field(default_factory=dict)
    _notes: dict[str, list[int]] = field(default_factory=dict)
    _skipped: list[tuple[int, str]] = field(default_factory=list)

    def error(self, problem: str, line: int, name: str = "", *value: object) -> ScenarioError:
        """The sentence for what cannot be read: it names file and line."""
        where = f"line {line} of {self.source}" if line else self.source
        return ScenarioError(problem, f"{where}, {name}" if name else where, *value)

    def note(self, text: str, line: int) -> None:
        """Tell what is ambiguous; the same note of several lines is told once."""
        self._notes.setdefault(text, []).append(line)

    def skip(self, text: str, line: int) -> None:
        """Tell that a line was not read; all such lines are told in one note."""
        self._skipped.append((line, text))

    def begin(self, answer: str, line: int) -> dict[str, Any]:
        """Begin a row; the limits that hold belong to it."""
        row: dict[str, Any] = {"answer": answer, **({"line": line} if line else {})}
        if answer == "migration":
            row |= self.limits
        self.rows.append(row)
        return row

    def put(self, row: dict[str, Any], name: str, value: Any, line: int = 0) -> None:
        """Write a value into a row; a counter that QEMU let fall below 0 is left out and told."""
        assert name in _NAMES, name
        numbers = value if isinstance(value, tuple) else () if name in _TEXT else (value,)
        if any(not 0 <= number < _WRAPPED for number in numbers):
            self.note(f"{name} is below 0, which it cannot mean, or was before it was printed: it is left out", line)
            return
        row[name] = value if name in _TEXT else float(value)

    def limit(self, parameters: Mapping[str, float], line: int) -> None:
        """Take limits in QMP's names and units; they hold for the answers that follow."""
        for name, (column, factor) in _LIMITS.items():
            value = parameters.get(name)
            if value is None:
                continue
            if name == "avail-switchover-bandwidth" and value == 0:
                self.limits.pop(column, None)  # 0 is not set: QEMU measures
            elif not 0 <= value < _NO_LIMIT and name != "max-bandwidth":
                self.note(
                    f"{name} is below 0, which it cannot mean, or was before it was printed: it is left out", line
                )
                self.limits.pop(column, None)
            elif value >= _NO_LIMIT:
                self.note(f"max-bandwidth {value:.0f} is libvirt's number for no limit: it is read as 0", line)
                self.limits[column] = 0.0
            else:
                self.limits[column] = scaled(float(value), factor)

    def frame(self) -> Any:
        """The rows as a DataFrame: columns that at least one row has, in the order of :data:`COLUMNS`."""
        import pandas as pd

        for row in self.rows:
            self._without_what_is_not_measured(row)
        names = [column.name for column in COLUMNS if any(column.name in row for row in self.rows)]
        data = {name: [row.get(name, None if name in _TEXT else math.nan) for row in self.rows] for name in names}
        types = {name: object if name in _TEXT else float for name in names}
        return pd.DataFrame({name: pd.Series(values, dtype=types[name]) for name, values in data.items()})

    def _without_what_is_not_measured(self, row: dict[str, Any]) -> None:
        """Leave out zeroes that QEMU prints before it has measured anything."""
        line = int(row.get("line", 0))
        if row.get("total_time_s") == 0 and row.get("status") in _WITHOUT_TIME:
            del row["total_time_s"]
            self.note("a total time of 0 is what the monitor prints where QEMU has none: it is left out", line)
        total = row.get("total_time_s", math.inf)
        if row.get("dirty_pages_per_s") == 0 and (
            row.get("status") == "completed" or row.get("sync_count", math.inf) <= 1 or total <= 1.0
        ):
            del row["dirty_pages_per_s"]
            self.note("a dirty rate of 0 before the second sync, in the first second or of a completed migration is "
                      "not measured: it is left out", line)  # fmt: skip
        if row.get("bandwidth_bytes_per_s") == 0 and total - row.get("setup_time_s", 0.0) <= 0.2:
            del row["bandwidth_bytes_per_s"]
            if row.get("pages_per_s") == 0:
                del row["pages_per_s"]
            self.note("a throughput of 0 before the first window of 100 ms has ended is not measured: it is left out",
                      line)  # fmt: skip
        if "dirty_pages_per_s" in row and "page_size_bytes" in row:
            row["dirty_bytes_per_s"] = row["dirty_pages_per_s"] * row["page_size_bytes"]

    def notes(self) -> tuple[str, ...]:
        """The notes as sentences, with their lines."""
        notes = [f"{text}{_lines(lines)}." for text, lines in self._notes.items()]
        if self._skipped:
            line, text = self._skipped[0]
            many = f"{len(self._skipped)} lines were" if len(self._skipped) > 1 else "1 line was"
            notes.append(f"{many} skipped, the first is line {line}: {show(text[:60])}.")
        return tuple(notes)


_WITHOUT_TIME = {None, "none", "setup", "cancelling", "cancelled", "failing", "failed"}
_LIMITS = {
    "max-bandwidth": ("max_bandwidth_bytes_per_s", 1.0),
    "downtime-limit": ("downtime_limit_s", 1e-3),
    "avail-switchover-bandwidth": ("avail_switchover_bandwidth_bytes_per_s", 1.0),
}


def _lines(lines: list[int]) -> str:
    named = [line for line in dict.fromkeys(lines) if line]
    if not named:
        return ""
    shown = ", ".join(str(line) for line in named[:3])
    more = f" and {len(named) - 3} more" if len(named) > 3 else ""
    return f" (line {shown}{more})" if len(named) == 1 else f" (lines {shown}{more})"
