"""Recorded runs as the tables of ``data/qemu-traces``.

A recorded run is one file, JSON compressed with gzip. What a run does not have, such as the trace of the loop, leaves
tables empty and columns missing.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import statistics
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migkit.scenario.errors import ScenarioError

if TYPE_CHECKING:
    import pandas as pd

SUFFIX = ".json.gz"
_MIB = 1 << 20
_PAGE = 4096
_NORMAL_PAGE_WIRE_BYTES = 4104
_PAUSE_S = 12 * 3600
"""Costs belong to a host and a day; a series of runs that goes on past midnight is one campaign."""
_SIDES = {"src": "source", "dst": "destination"}
_CHECKPOINTS = {
    "downtime-start": "downtime_start_ms",
    "vm-stopped": "vm_stopped_ms",
    "iterable-saved": "iterable_saved_ms",
    "non-iterable-saved": "non_iterable_saved_ms",
    "downtime-end": "downtime_end_ms",
}

TABLES = {
    "runs": """
        run text, group text, name text, build text, accel text, rep int, ram_mib int, ws_mib float, mode text,
        delay int, target_writes_s float, pre_writes_s float, mig_writes_s float, bw_mib_s float, link_mib_s float,
        dt_limit_ms int, ndev int, dev_init_mib float, dev_stop_mib float, dev_rate_mib_s float, dev_max_mib float,
        blk_mib int, caps list, limit_s float, outcome text, total_ms int, downtime_ms int, downtime_wall_ms float,
        setup_ms int, stop_at_ms float, transferred int, normal int, duplicate int, sync_count int, precopy_bytes int,
        downtime_bytes int, iterations int, estimate_calls int, exact_calls int, ram_calls int, ram_ret1 int,
        ram_max_call_ms float, big_waits int, rate_sleeps int, bw_meas_mib_s float, window_ms_median float,
        threshold_mib_median float, sync_us_median float, sync_us_max int, dirty_pages_rate_median float,
        dirty_pages_rate_max int, throttle_max int, ack_ms float, loadavg float, other_cpu float, steal_s float,
        writes_max bool, transport text, sndbuf_bytes int, region_start_bytes int, ws_pages int,
        guest_max_burst_pages int, downtime_start_ms float, vm_stopped_ms float, iterable_saved_ms float,
        non_iterable_saved_ms float, downtime_end_ms float, traced bool, iterations_thinned bool, syncs_thinned bool,
        device_iter_thinned bool, big_waits_thinned bool, rate_sleeps_requested_ms float,
        link_first_pass_bytes_per_s float, link_imposed_bytes_per_s float, qemu_version text, zero_share float,
        multifd_channels int, postcopy_at_s float, postcopy_sent_ms float, postcopy_bytes int, multifd_bytes int,
        campaign text, avail_mib_s float, dev_load_ms float, dirty_ring_size int, vcpu_dirty_limit int,
        dirty_limit_period_ms int, xbzrle_cache_bytes int, backing text
        """,
    "regions": """
        run text, region int, start_bytes int, size_bytes int, pattern text, rate_bytes_per_s float, at_full_speed bool,
        delay int, pre_writes_s float, mig_writes_s float
        """,
    "changes": "run text, t_ms float, parameter text, value text",
    "devices": """
        run text, device int, initial_bytes int, stop_bytes int, dirty_rate_bytes_per_s float, dirty_max_bytes int,
        calls int, initial_sent_bytes int, dirty_sent_bytes int, complete_bytes int, complete_us int, exact_calls int,
        hw_dirtied_bytes int, first_call_ms int, init_done_ms int, last_call_ms int, loaded_bytes int
        """,
    "iterations": "run text, iteration int, t_ms float, estimate int, exact int",
    "handler_calls": "run text, iteration int, position int, section text, us int, returned int",
    "handler_totals": "run text, section text, calls int, ret1 int, ret0 int, us int, max_us int",
    "iterations_per_100ms": "run text, t_ms float, iterations int, section text, calls int, us int",
    "windows": "run text, t_ms float, bytes int, ms int, bytes_per_ms int, threshold int",
    "syncs": "run text, t_ms float, us int, dirty_pages_period int, estimate_before int, exact_after int",
    "device_iter": "run text, t_ms float, device int, bytes int, initial_left int, dirty_left int",
    "big_waits": "run text, t_ms float, elapsed_ms int, pages int",
    "completion": "run text, t_ms float, section text, us int",
    "samples": """
        run text, t_ms float, status text, total_time_ms int, expected_downtime_ms int, downtime_ms int,
        setup_time_ms int, transferred int, remaining int, total int, duplicate int, normal int, mbps float,
        dirty_pages_rate int, pages_per_second int, dirty_sync_count int, precopy_bytes int, downtime_bytes int,
        throttle_pct int, disk_transferred int, disk_remaining int, poll_us int, multifd_bytes int,
        postcopy_bytes int, postcopy_requests int, remaining_all int, xbzrle_bytes int, xbzrle_pages int,
        xbzrle_cache_miss int, xbzrle_overflow int, dirty_limit_us int
        """,
    "guest_writes": "run text, when text, t_ms float, writes int, overruns int, wakeups int",
    "events": "run text, t_ms float, source text, event text, detail text",
}
"""Columns and their kinds by table; ``data/qemu-traces/README.md`` and ``docs/record.md`` describe them."""


def files(folder: Path) -> list[Path]:
    """List the recorded runs in a folder, or in its folder ``traces``.

    Parameters
    ----------
    folder : path
        Where runs were recorded.

    Returns
    -------
    list of Path
        Sorted by name; empty if there are none.
    """
    return sorted(folder.glob(f"*{SUFFIX}")) or sorted((folder / "traces").glob(f"*{SUFFIX}"))


_GZIP = b"\x1f\x8b"
_BEGIN = 1 << 14
_CONFIG = re.compile(rb'\s*\{\s*"config"\s*:\s*\{')


def is_recorded(data: bytes) -> bool:
    """Whether a file that begins with these bytes is a recorded run, compressed or unpacked.

    Examples
    --------
    >>> is_recorded(b'{"config":{"ram_mib":512}}'), is_recorded(b'{"return": {}}')
    (True, False)
    """
    begin = data[:_BEGIN]
    if begin.startswith(_GZIP):
        try:
            begin = zlib.decompressobj(wbits=31).decompress(begin)
        except zlib.error:
            return False
    return _CONFIG.match(begin) is not None


def _unpacked(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(_GZIP) else data


def read(path: Path) -> dict[str, Any]:
    """Read one recorded run.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    dict

    Raises
    ------
    ScenarioError
        If it is truncated or is not a recorded run.
    """
    try:
        run = json.loads(_unpacked(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ScenarioError("is not a recorded run: it is truncated or something else", value=path.name) from None
    wanted = {"config", "outcome", "final", "samples", "events", "guest"}
    if not isinstance(run, dict) or not wanted <= run.keys():
        raise ScenarioError("is not a recorded run: its JSON has other keys", value=path.name)
    return run


def tables(paths: Iterable[Path]) -> dict[str, pd.DataFrame]:
    """Read recorded runs as tables.

    Parameters
    ----------
    paths : list of path
        Files of runs.

    Returns
    -------
    dict
        A table for each name in :data:`TABLES`; the column ``run`` has the file's name without its suffix.

    Raises
    ------
    ScenarioError
        If a file is not a recorded run.
    """
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    began: dict[str, float] = {}
    for path in paths:
        recording, run = read(path), path.name.removesuffix(SUFFIX).removesuffix(".json")
        try:
            for name, row in _rows(recording):
                rows[name].append({"run": run, **row})
            began[run] = float(recording["started"])
        except (KeyError, TypeError, IndexError, ValueError, AttributeError):
            raise ScenarioError("is not a recorded run: a part of it is missing", value=path.name) from None
    days = _campaigns(began)
    for row in rows["runs"]:
        row["campaign"] = days[row["run"]]
    return {name: _frame(name, rows[name]) for name in TABLES}


def _campaigns(began: dict[str, float]) -> dict[str, str]:
    """The campaign of each run, from the time at which it began: the first day of a series without a long pause.

    Examples
    --------
    >>> _campaigns({"a": 1e9, "b": 1e9 + 3600 * 11, "c": 1e9 + 3600 * 24})
    {'a': '2001-09-09', 'b': '2001-09-09', 'c': '2001-09-10'}
    """
    out: dict[str, str] = {}
    day, last = "", -math.inf
    for run, at in sorted(began.items(), key=lambda item: item[1]):
        if at - last > _PAUSE_S:
            day = datetime.fromtimestamp(at, UTC).date().isoformat()
        out[run], last = day, at
    return out


def columns(name: str) -> dict[str, str]:
    """Columns of a table and their kinds.

    Examples
    --------
    >>> columns("changes")
    {'run': 'text', 't_ms': 'float', 'parameter': 'text', 'value': 'text'}
    """
    return dict(_pair(text) for text in TABLES[name].split(","))


def _pair(text: str) -> tuple[str, str]:
    column, kind = text.split()
    return column, kind


def _frame(name: str, rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pyarrow as pa

    kinds = {"float": pa.float64(), "int": pa.int64(), "text": pa.string(), "bool": pa.bool_()}
    kinds["list"] = pa.list_(pa.string())
    fields = columns(name)
    arrays = [pa.array([_as(kind, row.get(column)) for row in rows], kinds[kind]) for column, kind in fields.items()]
    return pa.Table.from_arrays(arrays, names=list(fields)).to_pandas()


def _as(kind: str, value: Any) -> Any:
    if value is None or kind in ("list", "bool"):
        return value
    return {"float": float, "int": int, "text": str}[kind](value)


def _rows(recording: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """All rows of a run, with the table of each."""
    yield "runs", _run(recording)
    more = {row["t_ms"]: row for row in _named(recording.get("samples_extra"))}
    yield from (("samples", row | more.get(row["t_ms"], {})) for row in _named(recording["samples"]))
    yield from (("regions", row) for row in _regions(recording))
    for t_ms, parameter, value in recording.get("changes", []):
        yield "changes", {"t_ms": t_ms, "parameter": parameter, "value": value}
    yield from (("devices", row) for row in _devices(recording))
    yield from (("guest_writes", row) for row in _guest_writes(recording))
    yield from (("events", row) for row in _events(recording))
    trace = recording.get("trace")
    calls = (recording.get("device_log") or trace or {}).get("device_iter") or {"rows": []}
    fields = list(columns("device_iter"))[1:]
    yield from (("device_iter", dict(zip(fields, row, strict=False))) for row in calls["rows"])
    if trace:
        yield from _trace(trace)


def _named(table: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [dict(zip(table["cols"], row, strict=True)) for row in table["rows"]] if table else []


def _run(recording: dict[str, Any]) -> dict[str, Any]:
    config, final = recording["config"], recording["final"] or {}
    last = recording.get("final_active") or {}  # QEMU forgets the counters of a migration that was cancelled
    ram = final.get("ram") or last.get("ram") or {}
    host, payload = recording["host"], config["payload"]
    wall = host["wall_s"]
    devices = config["devs"]
    first: dict[str, Any] = devices[0] if devices else {}
    samples = _named(recording["samples"])
    dirty = [row["dirty_pages_rate"] for row in samples if row["dirty_pages_rate"]]
    throttle = [row["throttle_pct"] for row in samples if row["throttle_pct"]]
    at_full_speed = config["rate"] == "max"
    link = config["link"]
    postcopy = next((at for at, name, _ in recording.get("changes", []) if name == "migrate-start-postcopy"), None)
    return {
        **{name: config[name] for name in ("group", "name", "build", "accel", "rep", "mode", "delay", "caps")},
        "ram_mib": config["ram"],
        "ws_mib": config["ws"],
        "target_writes_s": None if at_full_speed else config["rate"],
        "writes_max": at_full_speed,
        "pre_writes_s": recording["guest"]["pre_pages_s"],
        "mig_writes_s": _writes_during(recording),
        "bw_mib_s": config["bw"],
        "link_mib_s": link,
        "dt_limit_ms": config["dt"],
        "ndev": len(devices),
        "dev_init_mib": first.get("init", 0) / _MIB,
        "dev_stop_mib": first.get("stop", 0) / _MIB,
        "dev_rate_mib_s": first.get("rate", 0) / _MIB,
        "dev_max_mib": first.get("max", 0) / _MIB,
        "blk_mib": config["blk"],
        "limit_s": config["limit"],
        "outcome": recording["outcome"],
        "total_ms": recording["total_time_ms"],
        "downtime_ms": recording["downtime_ms"],
        "downtime_wall_ms": recording["downtime_wall_ms"],
        "setup_ms": final.get("setup-time", last.get("setup-time")),
        "stop_at_ms": recording["stop_at_ms"],
        "transferred": ram.get("transferred"),
        "normal": ram.get("normal"),
        "duplicate": ram.get("duplicate"),
        "sync_count": ram.get("dirty-sync-count"),
        "precopy_bytes": ram.get("precopy-bytes"),
        "downtime_bytes": ram.get("downtime-bytes"),
        "dirty_pages_rate_median": statistics.median(dirty) if dirty else None,
        "dirty_pages_rate_max": max(dirty, default=None),
        "throttle_max": max(throttle, default=None),
        "loadavg": host["loadavg0"],
        "other_cpu": max(0.0, host["other_cpu_s"]) / wall if wall else None,
        "steal_s": host["steal_s"],
        "transport": config["transport"],
        "sndbuf_bytes": config["sndbuf"] or None,
        "region_start_bytes": payload["wsstart"],
        "ws_pages": payload["wspages"],
        "guest_max_burst_pages": payload.get("maxb"),
        "link_imposed_bytes_per_s": link * _MIB if link else None,
        "link_first_pass_bytes_per_s": _first_pass_speed(recording),
        "qemu_version": (recording.get("qemu") or {}).get("version"),
        "zero_share": (config.get("plan") or {}).get("zero_share"),
        "multifd_channels": config.get("multifd") or None,
        "postcopy_at_s": config.get("postcopy_at"),
        "postcopy_sent_ms": recording.get("postcopy_sent_ms", postcopy),
        "postcopy_bytes": ram.get("postcopy-bytes"),
        "multifd_bytes": ram.get("multifd-bytes"),
        "avail_mib_s": config["extra"].get("avail-switchover-bandwidth", 0) / _MIB,
        "dev_load_ms": first.get("load"),
        "dirty_ring_size": (config.get("plan") or {}).get("dirty_ring_size"),
        "vcpu_dirty_limit": config["extra"].get("vcpu-dirty-limit"),
        "dirty_limit_period_ms": config["extra"].get("x-vcpu-dirty-limit-period"),
        "xbzrle_cache_bytes": config["extra"].get("xbzrle-cache-size"),
        "backing": _backing(config.get("plan") or {}),
        **_of_trace(recording),
    }


def _backing(plan: dict[str, Any]) -> str | None:
    """The huge pages behind RAM, if any."""
    return None if plan.get("backing") in (None, "0 B") else str(plan["backing"])


def _of_trace(recording: dict[str, Any]) -> dict[str, Any]:
    """What is known of the loop: nothing without a trace."""
    thinned = ("iterations_thinned", "syncs_thinned", "device_iter_thinned", "big_waits_thinned")
    trace = recording.get("trace")
    if not trace:
        return {"traced": False, **dict.fromkeys(thinned, False), **_of_device_log(recording)}
    called = trace["sections"].get("ram", {})
    windows, syncs = trace["windows"]["rows"], [row[1] for row in trace["syncs"]["rows"]]
    out = {
        "traced": True,
        "iterations_thinned": trace["iterations"]["thinned"],
        "syncs_thinned": trace["syncs"]["thinned"],
        "device_iter_thinned": bool((trace.get("device_iter") or {}).get("thinned")),
        **_of_device_log(recording),
        "big_waits_thinned": trace["big_wait"]["n"] > len(trace["big_wait"]["rows"]),
        "iterations": trace["iterations_total"],
        "estimate_calls": trace["estimate_calls"],
        "exact_calls": trace["exact_calls"],
        "ram_calls": called.get("calls"),
        "ram_ret1": called.get("ret1"),
        "ram_max_call_ms": called["max_us"] / 1e3 if called else None,
        "big_waits": trace["big_wait"]["n"],
        "rate_sleeps": trace["rate_limit_sleeps"],
        "rate_sleeps_requested_ms": trace["rate_limit_requested_ms"],
    }
    if windows:
        out["bw_meas_mib_s"] = round(statistics.median(row[1] / row[2] for row in windows if row[2]) * 1e3 / _MIB, 2)
        out["window_ms_median"] = statistics.median(row[2] for row in windows)
        out["threshold_mib_median"] = round(statistics.median(row[-1] for row in windows) / _MIB, 2)
    if syncs:
        out["sync_us_median"], out["sync_us_max"] = statistics.median(syncs), max(syncs)
    for at, event, detail, *_ in trace["misc"]:
        if event == "source_return_path_thread_switchover_acked":
            out["ack_ms"] = at
        if event == "vmstate_downtime_checkpoint":
            for name, column in _CHECKPOINTS.items():
                if detail.removeprefix("src-") == name:
                    out[column] = round(at, 1)
    return out


def _of_device_log(recording: dict[str, Any]) -> dict[str, Any]:
    """What the log of a preloaded device adds."""
    log = recording.get("device_log")
    if not log:
        return {}
    acks = [at for at in log["ack_ms"] if at is not None]
    return {"device_iter_thinned": log["device_iter"]["thinned"], "ack_ms": max(acks, default=None)}


def _first_pass_speed(recording: dict[str, Any]) -> float | None:
    """Wire bytes of normal pages over time inside RAM's handler, until the first sync after setup.

    Without a trace: over time, as the samples show it.
    """
    trace = recording.get("trace")
    if trace and not trace["iterations"]["thinned"] and not recording["config"]["devs"]:
        syncs = trace["syncs"]["rows"]
        end_ms, left = (syncs[1][0], syncs[1][3]) if len(syncs) > 1 else (math.inf, None)
        rows = [row for row in trace["iterations"]["rows"] if row[0] < end_ms]
        start = rows[0][1]
        if left is None:  # the last iteration has no estimate at its end and is left out
            left = rows.pop()[1]
        us = sum(us for row in rows for section, us, _ in row[3] if section == "ram")
        return (start - left) / _PAGE * _NORMAL_PAGE_WIRE_BYTES / us * 1e6 if us else None
    rows = [dict(zip(recording["samples"]["cols"], row, strict=True)) for row in recording["samples"]["rows"]]
    rows = [row for row in rows if row["status"] == "active" and row["dirty_sync_count"] == 1 and row["normal"]]
    if len(rows) < 2 or rows[-1]["normal"] == rows[0]["normal"]:
        return None
    seconds = (rows[-1]["t_ms"] - rows[0]["t_ms"]) / 1e3
    return (rows[-1]["normal"] - rows[0]["normal"]) * _NORMAL_PAGE_WIRE_BYTES / seconds


def _counters(recording: dict[str, Any]) -> list[tuple[float, list[int]]]:
    """Page writes of each region while the source ran the migration, from about a second on where that is possible."""
    table = recording["guest"].get("counters") or {"rows": []}
    rows = [(row[0], row[5:]) for row in table["rows"] if row[1] == "src" and row[0] >= 0]
    later = [row for row in rows if row[0] >= 1000]
    return later if len(later) > 1 else rows


def _writes_during(recording: dict[str, Any]) -> float | None:
    rows = _counters(recording)
    if len(rows) > 1:
        return round((sum(rows[-1][1]) - sum(rows[0][1])) / (rows[-1][0] - rows[0][0]) * 1e3, 1)
    middle, end = recording["guest"].get("mid"), recording["guest"].get("end")
    if recording["outcome"] == "not_converged" and middle and end and end["t"] > middle["t"]:
        return round((end["writes"] - middle["writes"]) / (end["t"] - middle["t"]), 1)
    return None


def _regions(recording: dict[str, Any]) -> Iterator[dict[str, Any]]:
    plan = recording["config"].get("plan")
    if plan is None:
        return
    table = recording["guest"]["counters"]["rows"]
    before, during = [row for row in table if row[1] == "src" and row[0] < 0], _counters(recording)
    for index, region in enumerate(recording["config"]["regions"]):
        pre = mig = None
        if len(before) > 1:
            pre = round((before[-1][5 + index] - before[0][5 + index]) / (before[-1][0] - before[0][0]) * 1e3, 1)
        if len(during) > 1:
            mig = round((during[-1][1][index] - during[0][1][index]) / (during[-1][0] - during[0][0]) * 1e3, 1)
        yield {"region": index, **region, "pre_writes_s": pre, "mig_writes_s": mig}


def _devices(recording: dict[str, Any]) -> Iterator[dict[str, Any]]:
    loaded = recording.get("devices_dst") or [{}] * len(recording.get("devices") or [])
    for index, (config, seen, target) in enumerate(
        zip(recording["config"]["devs"], recording.get("devices") or [], loaded, strict=False)
    ):
        start = seen["st_setup_ms"]
        since = {name: seen[name] - start if seen.get(name) else None for name in seen if name.endswith("_ms")}
        yield {
            "device": index,
            "initial_bytes": config["init"],
            "stop_bytes": config["stop"],
            "dirty_rate_bytes_per_s": config["rate"],
            "dirty_max_bytes": config["max"],
            "calls": seen.get("st_iter_calls"),
            "initial_sent_bytes": seen.get("st_init_bytes"),
            "dirty_sent_bytes": seen.get("st_dirty_bytes"),
            "complete_bytes": seen.get("st_complete_bytes"),
            "complete_us": seen.get("st_complete_us"),
            "exact_calls": seen.get("st_exact_calls"),
            "hw_dirtied_bytes": seen.get("st_hw_dirtied"),
            "first_call_ms": since.get("st_first_iter_ms"),
            "init_done_ms": since.get("st_init_sent_ms"),
            "last_call_ms": since.get("st_last_iter_ms"),
            "loaded_bytes": target.get("st_load_bytes"),
        }


def _guest_writes(recording: dict[str, Any]) -> Iterator[dict[str, Any]]:
    guest = recording["guest"]
    readings = {"before": guest["pre"][0], "start": guest["pre"][1], "middle": guest["mid"], "end": guest["end"]}
    for when, reading in readings.items():
        if reading:
            t_ms = round((reading["t"] - recording["started"]) * 1e3, 3)
            yield {"when": when, "t_ms": t_ms, **{name: reading[name] for name in ("writes", "overruns", "wakeups")}}


def _events(recording: dict[str, Any]) -> list[dict[str, Any]]:
    rows = [
        {"t_ms": t, "source": _SIDES[side], "event": name, "detail": " ".join(map(str, data.values())) or None}
        for t, side, name, data in recording["events"]
    ]
    for t, name, detail, *_ in (recording.get("trace") or {}).get("misc", []):
        if name not in ("savevm_section_end", "migtest_save_iterate"):
            rows.append({"t_ms": t, "source": "trace", "event": name, "detail": detail or None})
    return sorted(rows, key=lambda row: row["t_ms"])


def _trace(trace: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for iteration, (t, estimate, exact, called) in enumerate(trace["iterations"]["rows"]):
        yield "iterations", {"iteration": iteration, "t_ms": t, "estimate": estimate, "exact": exact}
        for position, (section, us, returned) in enumerate(called):
            call = {"section": section, "us": us, "returned": returned}
            yield "handler_calls", {"iteration": iteration, "position": position, **call}
    for section, total in trace["sections"].items():
        yield "handler_totals", {"section": section, **total}
    for index, iterations, sections in trace.get("per100ms") or []:
        for section, (calls, us) in sections.items():
            row = {"t_ms": index * 100.0, "iterations": iterations, "section": section, "calls": calls, "us": us}
            yield "iterations_per_100ms", row
    for t, sent, ms, speed, *_, threshold in trace["windows"]["rows"]:
        yield "windows", {"t_ms": t, "bytes": sent, "ms": ms, "bytes_per_ms": speed, "threshold": threshold}
    for name, rows in (
        ("syncs", trace["syncs"]["rows"]),
        ("big_waits", trace["big_wait"]["rows"]),
    ):
        fields = list(columns(name))[1:]
        yield from ((name, dict(zip(fields, row, strict=False))) for row in rows)
    for t, event, detail, *us in trace["misc"]:
        if event == "savevm_section_end":
            yield "completion", {"t_ms": t, "section": detail.split(",")[0], "us": us[0] if us else None}
