"""Read what people have of a migration: recorded runs, logs of QMP, and text of QEMU's monitor and of virsh."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migkit.qemu import domjobinfo, monitor_text, tables, traces
from migkit.qemu.columns import COLUMNS, Said, scaled
from migkit.qemu.qmp_log import read_qmp
from migkit.scenario.errors import ScenarioError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Answers", "read"]

_MOST_BYTES = 256 * 2**20
_JSON = re.compile(
    r"^[ \t]*(?:<-|->|\[?\d{4}-\d\d-\d\d[T ][\d:.,+Z-]+\]?:?)?[ \t]*(?:\{|\[[ \t]*(?:\{|$))", re.MULTILINE
)
_FORMATS = {"QMP": _JSON, "monitor": monitor_text.MARK, "domjobinfo": domjobinfo.MARK}
_READ = "a log of QMP, text of info migrate, info dirty_rate or virsh domjobinfo, or a recorded run or its folder"


@dataclass(frozen=True)
class Answers:
    """What a file says of migrations and dirty rates, one row an answer.

    What the file does not say is absent: a column that no answer has is not there, and a value that one answer does not
    have is missing (NaN or None), never 0.

    Attributes
    ----------
    source : str
        Name of the file, or of the recorded run.
    kind : str
        ``"recorded run"``, ``"QMP"``, ``"monitor"`` or ``"domjobinfo"``.
    table : DataFrame
        One row an answer, in the order of the file. Its columns are among those of ``migkit.qemu.columns.COLUMNS``, in
        SI units.
    events : DataFrame
        Events of QMP: ``line`` (recorded runs have none), ``time_s`` as in the table, ``event``, ``detail`` (status or
        pass).
    version : str or None
        Version of QEMU, if the file says it.
    capabilities : tuple of str or None
        Capabilities that are on, if the file says which.
    notes : tuple of str
        What is ambiguous in the file, and how it was read.
    """

    source: str
    kind: str
    table: pd.DataFrame
    events: pd.DataFrame
    version: str | None
    capabilities: tuple[str, ...] | None
    notes: tuple[str, ...]

    @cached_property
    def migrations(self) -> pd.DataFrame:
        """The answers about a migration, with the columns that they have."""
        return self._only("migration")

    @cached_property
    def dirty_rates(self) -> pd.DataFrame:
        """The answers of ``query-dirty-rate`` and ``info dirty_rate``, with the columns that they have."""
        return self._only("dirty rate")

    def _only(self, answer: str) -> pd.DataFrame:
        rows = self.table[self.table["answer"] == answer]
        return rows.dropna(axis="columns", how="all").reset_index(drop=True)

    def summary(self) -> str:
        r"""What the file says, as text: what is the same in all answers, the rest as a table, and the notes.

        Examples
        --------
        >>> text = "Migration status: completed\ntotal time: 4955 ms\ndowntime: 139 ms\n"
        >>> print(read(text).summary())
        1 answer about a migration in the text, printed by QEMU's monitor.
        <BLANKLINE>
        line                  1
        status        completed
        total_time_s    4.955 s
        downtime_s      0.139 s
        """
        kinds = {"QMP": "of QMP", "monitor": "printed by QEMU's monitor", "domjobinfo": "printed by virsh domjobinfo"}
        version = f", QEMU {self.version}" if self.version else ""
        parts = []
        for rows, about in ((self.migrations, "a migration"), (self.dirty_rates, "a dirty rate")):
            if len(rows):
                many = "answer" if len(rows) == 1 else "answers"
                head = f"{len(rows)} {many} about {about} in {self.source}, {kinds.get(self.kind, self.kind)}{version}."
                parts += [head, _printed(rows.drop(columns="answer"))]
        if self.capabilities:
            parts.append(f"Capabilities: {', '.join(self.capabilities)}.")
        if len(self.events):
            parts.append(f"{len(self.events)} events, from {self.events['event'].iloc[0]} on.")
        return "\n\n".join([*parts, *(f"Note: {note}" for note in self.notes)])


def read(source: str | PathLike[str], run: str | None = None) -> Answers:
    r"""Read what QEMU or libvirt said of a migration or of a dirty rate, whichever format it has.

    Parameters
    ----------
    source : path or str
        A file, or text if it has more than one line:

        - QMP: answers of ``query-migrate`` and ``query-dirty-rate``, in ``{"return": ...}`` or without, on one line or
          pretty-printed, with greetings, commands, events and time stamps between them or without;
        - text of QEMU's monitor: ``info migrate``, ``info dirty_rate``, ``info migrate_parameters``, of any version,
          several of them, as a terminal records them or as they stand in a mail;
        - ``virsh domjobinfo``, of a running job or with ``--completed``, several of them;
        - a file that :func:`migkit.qemu.record` wrote, as it is or unpacked;
        - a folder of recorded runs in the format of ``data/qemu-traces``, or the name of a run of that folder.
    run : str, optional
        Name of the run, if `source` is a folder with several.

    Returns
    -------
    Answers
        In SI units. kbytes of the monitor are units of 1024 bytes rounded down, mbps are :math:`10^6` bit/s, and the
        MB/s of a dirty rate are MiB/s.

    Raises
    ------
    ScenarioError
        In one sentence with file and line: if there is no such file, it is empty, binary, cut off, of another kind, or
        mixes formats.

    Examples
    --------
    >>> from migkit import qemu
    >>> text = '''
    ... {"return": {"status": "active", "total-time": 1200, "ram": {"transferred": 1000, "mbps": 800.0}}}
    ... {"return": {"status": "completed", "total-time": 2000, "downtime": 80}}
    ... '''
    >>> answers = qemu.read(text)
    >>> answers.table[["total_time_s", "bandwidth_bytes_per_s", "downtime_s"]]
       total_time_s  bandwidth_bytes_per_s  downtime_s
    0           1.2            100000000.0         NaN
    1           2.0                    NaN        0.08
    """
    if isinstance(source, str) and "\n" in source:
        return _from_text(source, "the text")
    path = Path(fspath(source))
    if path.is_dir() or path.name == "runs.parquet":
        return _from_runs(path if path.is_dir() else path.parent, run)
    if not path.exists() and isinstance(source, str) and source.count("__") >= 2:
        return _from_runs(None, source)
    if run is not None:
        raise ScenarioError("is for a folder of recorded runs only", "run", run)
    data = _bytes(path)
    if tables.is_recorded(data):
        return _from_recording(path)
    return _from_text(_decoded(data, path.name), path.name)


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise ScenarioError(f"does not exist: give {_READ}", value=str(path)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ScenarioError(f"cannot be read: {reason}", value=str(path)) from None
    if len(data) > _MOST_BYTES:
        raise ScenarioError("is larger than 256 MiB: give the part with the answers", value=str(path))
    return data


def _decoded(data: bytes, name: str) -> str:
    if data[:2] == b"\x1f\x8b":
        raise ScenarioError("is compressed: unpack it first", name)
    try:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16")
        if b"\0" in data.rstrip(b"\0"):
            line = data[: data.index(b"\0")].count(b"\n") + 1
            raise ScenarioError(f"is not text: give {_READ}", f"line {line} of {name}")
        return data.decode("utf-8-sig").rstrip("\0")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ScenarioError(f"is not text in UTF-8: give {_READ}", f"line {line} of {name}") from None


def _from_text(text: str, name: str) -> Answers:
    import pandas as pd

    said = Said(name)
    if not text.strip():
        raise ScenarioError(f"is empty: give {_READ}", name)
    plain = "\n".join(monitor_text.without_typing(line) for line in text.split("\n"))
    found = {kind: mark.search(plain) for kind, mark in _FORMATS.items()}
    lines = {kind: plain[: match.start()].count("\n") + 1 for kind, match in found.items() if match}
    if not lines:
        first = next(number for number, line in enumerate(text.split("\n"), start=1) if line.strip())
        raise said.error(f"is none of what migkit reads: give {_READ}", first, "", text.strip().splitlines()[0])
    if len(lines) > 1:
        (one, at), (other, there) = sorted(lines.items(), key=lambda item: item[1])[:2]
        raise said.error(f"begins {_what(other)} and line {at} {_what(one)}: give each in a file of its own", there)
    (kind,) = lines
    if kind == "QMP":
        read_qmp(plain, said)
    elif kind == "monitor":
        monitor_text.read_monitor(plain, said)
    else:
        domjobinfo.read_domjobinfo(plain, said)
    events = pd.DataFrame(said.events, columns=["line", "time_s", "event", "detail"])
    return Answers(name, kind, said.frame(), events, said.version, said.capabilities, said.notes())


def _what(kind: str) -> str:
    return {"QMP": "JSON of QMP", "monitor": "text of QEMU's monitor", "domjobinfo": "text of domjobinfo"}[kind]


_SAMPLES = {
    "t_ms": ("time_s", 1e-3),
    "total_time_ms": ("total_time_s", 1e-3),
    "expected_downtime_ms": ("expected_downtime_s", 1e-3),
    "downtime_ms": ("downtime_s", 1e-3),
    "setup_time_ms": ("setup_time_s", 1e-3),
    "transferred": ("transferred_bytes", 1.0),
    "remaining": ("ram_remaining_bytes", 1.0),
    "total": ("ram_total_bytes", 1.0),
    "duplicate": ("zero_pages", 1.0),
    "normal": ("normal_pages", 1.0),
    "mbps": ("bandwidth_bytes_per_s", 1e6 / 8),
    "dirty_pages_rate": ("dirty_pages_per_s", 1.0),
    "pages_per_second": ("pages_per_s", 1.0),
    "dirty_sync_count": ("sync_count", 1.0),
    "precopy_bytes": ("precopy_bytes", 1.0),
    "downtime_bytes": ("downtime_bytes", 1.0),
    "throttle_pct": ("throttle_percent", 1.0),
    "disk_transferred": ("disk_transferred_bytes", 1.0),
    "disk_remaining": ("disk_remaining_bytes", 1.0),
}
"""Columns of ``samples.parquet``, which are named as QMP names them."""


def _from_runs(folder: Path | None, run: str | None) -> Answers:
    """The samples of a recorded run, which are answers of ``query-migrate``."""
    try:
        names = list(traces.runs(folder).index)
    except FileNotFoundError as error:
        raise ScenarioError(str(error)) from None
    except Exception as error:  # a damaged Parquet file: pyarrow has many errors
        raise ScenarioError(f"cannot be read: {error}", str(folder)) from None
    if run is None and len(names) != 1:
        raise ScenarioError(f"holds {len(names)} runs: name one of them by run (--run on the command line), such as "
                            f"{names[0]}" if names else "holds no run", value=str(folder))  # fmt: skip
    name = names[0] if run is None else run
    if name not in names:
        raise ScenarioError(f"is not a recorded run: {did_you_mean(name, names[:1000], 'use')}" if len(names) < 20 else
                            "is not a recorded run: migkit.qemu.runs().index has their names", "run", name)  # fmt: skip
    trace = traces.trace(name, folder)
    return _from_samples(trace.run, trace.config, trace.samples, trace.events)


def _from_recording(path: Path) -> Answers:
    """The samples of the one run that a file has."""
    found = tables.tables([path])
    config = found["runs"].iloc[0]
    return _from_samples(str(config["run"]), config, found["samples"], found["events"])


def _from_samples(run: str, config: pd.Series, samples: pd.DataFrame, events: pd.DataFrame) -> Answers:
    import pandas as pd

    said = Said(run)
    said.limit({"max-bandwidth": float(config["bw_mib_s"]) * 2**20, "downtime-limit": float(config["dt_limit_ms"])}, 0)
    for sample in samples.to_dict("records"):
        row = said.begin("migration", 0)
        said.put(row, "status", str(sample["status"]))
        for name, (column, factor) in _SAMPLES.items():
            if name in sample and not pd.isna(sample[name]):
                said.put(row, column, scaled(float(sample[name]), factor))
    if not said.rows:
        raise ScenarioError("has no samples of query-migrate", "run", run)
    events = events[events["source"] == "source"]
    table = pd.DataFrame({"time_s": events["t_ms"] / 1e3, "event": events["event"], "detail": events["detail"]})
    return Answers(run, "recorded run", said.frame(), table.reset_index(drop=True), None, tuple(config["caps"]),
                   said.notes())  # fmt: skip


_UNIT = {column.name: column.unit for column in COLUMNS}


def _printed(rows: pd.DataFrame) -> str:
    """A single answer down the page; of several, what all say that say it first, then a table of the rest."""
    constant = [name for name in rows if len(rows) == 1 or (name != "status" and rows[name].nunique() == 1)]
    parts = []
    if constant:
        pairs = [(name, _value(name, rows[name].dropna().iloc[0])) for name in constant]
        wide = max(len(name) for name, _ in pairs)
        right = max(len(value) for _, value in pairs)
        parts.append("\n".join(f"{name:<{wide}}  {value:>{right}}" for name, value in pairs))
    varying = rows.drop(columns=constant)
    if varying.shape[1]:
        parts.append(_aligned({name: [_value(name, value) for value in varying[name]] for name in varying}))
    return "\n\n".join(parts)


def _aligned(columns: dict[str, list[str]]) -> str:
    widths = {label: max(len(label), *map(len, values)) for label, values in columns.items()}
    lines = ["  ".join(f"{label:>{width}}" for label, width in widths.items())]
    for cells in zip(*columns.values(), strict=True):
        lines.append("  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths.values(), strict=True)))
    return "\n".join(lines)


def _value(name: str, value: Any) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return " ".join(_value("dirty_bytes_per_s", each) for each in value)
    if name == "start_s" or name == "time_s":
        return f"{value:.3f} s".replace(".000 s", " s")
    unit = _UNIT[name]
    if unit in ("B", "B/s"):
        power = min(6, int(math.log2(value) / 10)) if value >= 1.0 else 0
        return f"{value / 1024.0**power:.4g} {' KMGTPE'[power].strip()}{'i' if power else ''}{unit}"
    return f"{value:.10g}{f' {unit}' if unit in ('s', '%') else '/s' if unit == '1/s' else ''}"
