"""Build the Parquet files of this folder from the raw measurements.

    python data/qemu-traces/build.py RAW_DIR [OUT_DIR]

``RAW_DIR`` holds ``runs.csv`` and ``traces/*.json.gz``. The result depends on the raw files and on the version of
pyarrow, which writes its name into each file. Rows are sorted by run and keep the order in which they were recorded.
README.md describes every column.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MIB = 1 << 20
PAGE_BYTES = 4096
NORMAL_PAGE_WIRE_BYTES = 4096 + 8
CAMPAIGNS = "2026-11-22", "2026-11-26"
"""First days of the campaigns; a run belongs to the last one that had begun."""
PACED_LINK_SHARE = 200.47 / 200
"""Median of the link bandwidth that the windows of paced runs show, over the configured value."""

FLOAT, INT, TEXT, BOOL = pa.float64(), pa.int64(), pa.string(), pa.bool_()
LABEL = pa.dictionary(pa.int16(), TEXT)
TYPES = {"float": FLOAT, "int": INT, "text": TEXT, "bool": BOOL, "label": LABEL, "list": pa.list_(TEXT)}


def fields(text):
    """Columns and their types from ``name type, name type``."""
    pairs = (pair.split() for pair in text.split(","))
    return [(name, TYPES[kind]) for name, kind in pairs]


RUNS_CSV = dict(  # runs.csv without the columns that become rows of devices.parquet or several columns
    fields(
        """
        group label, name label, build label, accel label, rep int, ram_mib int, ws_mib int, mode label,
        delay int, target_writes_s float, pre_writes_s float, mig_writes_s float, bw_mib_s int, link_mib_s int,
        dt_limit_ms int, ndev int, dev_init_mib float, dev_stop_mib float, dev_rate_mib_s float,
        dev_max_mib float, blk_mib int, caps list, limit_s int, outcome label, total_ms int, downtime_ms int,
        downtime_wall_ms float, setup_ms int, stop_at_ms float, transferred int, normal int, duplicate int,
        sync_count int, precopy_bytes int, downtime_bytes int, iterations int, estimate_calls int,
        exact_calls int, ram_calls int, ram_ret1 int, ram_max_call_ms float, big_waits int, rate_sleeps int,
        bw_meas_mib_s float, window_ms_median float, threshold_mib_median float, sync_us_median float,
        sync_us_max int, dirty_pages_rate_median float, dirty_pages_rate_max int, throttle_max int,
        ack_ms float, loadavg float, other_cpu float, steal_s float
        """
    )
)

CHECKPOINTS = {
    "downtime-start": "downtime_start_ms",
    "vm-stopped": "vm_stopped_ms",
    "iterable-saved": "iterable_saved_ms",
    "non-iterable-saved": "non_iterable_saved_ms",
    "downtime-end": "downtime_end_ms",
}

RUNS_EXTRA = fields(
    """
    campaign label, writes_max bool, dev_load_ms float, avail_mib_s float, multifd_channels int, postcopy_at_s float,
    postcopy_sent_ms float, transport label, sndbuf_bytes int, region_start_bytes int, ws_pages int,
    guest_max_burst_pages int, downtime_start_ms float, vm_stopped_ms float, iterable_saved_ms float,
    non_iterable_saved_ms float, downtime_end_ms float, traced bool, iterations_thinned bool,
    syncs_thinned bool, device_iter_thinned bool, big_waits_thinned bool, rate_sleeps_requested_ms float,
    link_first_pass_bytes_per_s float, link_imposed_bytes_per_s float
    """
)

SCHEMAS = {
    "runs": [("run", TEXT), *RUNS_CSV.items(), *RUNS_EXTRA],
    "devices": fields(
        """
        run label, device int, initial_bytes int, stop_bytes int, dirty_rate_bytes_per_s float,
        dirty_max_bytes int, calls int, initial_sent_bytes int, dirty_sent_bytes int, complete_bytes int,
        complete_us int, exact_calls int, hw_dirtied_bytes int, first_call_ms int, init_done_ms int,
        last_call_ms int, loaded_bytes int
        """
    ),
    "iterations": fields("run label, iteration int, t_ms float, estimate int, exact int"),
    "handler_calls": fields("run label, iteration int, position int, section label, us int, returned int"),
    "handler_totals": fields("run label, section label, calls int, ret1 int, ret0 int, us int, max_us int"),
    "iterations_per_100ms": fields("run label, t_ms float, iterations int, section label, calls int, us int"),
    "windows": fields("run label, t_ms float, bytes int, ms int, bytes_per_ms int, threshold int"),
    "syncs": fields("run label, t_ms float, us int, dirty_pages_period int, estimate_before int, exact_after int"),
    "device_iter": fields("run label, t_ms float, device int, bytes int, initial_left int, dirty_left int"),
    "big_waits": fields("run label, t_ms float, elapsed_ms int, pages int"),
    "completion": fields("run label, t_ms float, section label, us int"),
    "samples": fields(
        """
        run label, t_ms float, status label, total_time_ms int, expected_downtime_ms int, downtime_ms int,
        setup_time_ms int, transferred int, remaining int, total int, duplicate int, normal int, mbps float,
        dirty_pages_rate int, pages_per_second int, dirty_sync_count int, precopy_bytes int, downtime_bytes int,
        throttle_pct int, disk_transferred int, disk_remaining int, poll_us int, multifd_bytes int, postcopy_bytes int,
        postcopy_requests int, remaining_all int
        """
    ),
    "guest_writes": fields("run label, when label, t_ms float, writes int, overruns int, wakeups int"),
    "events": fields("run label, t_ms float, source label, event label, detail text"),
}


def number(text, kind):
    """Convert a cell of runs.csv to the column's type; empty and ``max`` are null."""
    if kind == LABEL:
        return text
    if text in ("", "max"):
        return None
    return float(text) if kind == FLOAT else int(float(text))


def run_row(raw, trace, row):
    """Build the row of runs.parquet for one run."""
    config = raw["config"]
    out = {"run": row["file"].removesuffix(".json.gz")}
    for name, kind in RUNS_CSV.items():
        out[name] = row[name].split("|") if name == "caps" else number(row[name], kind)
    load = re.match(r"slowack(\d+)_", row["name"])  # the recorder wrote it into the name only
    day = datetime.fromtimestamp(raw["started"], UTC).date().isoformat()
    out |= {
        "campaign": max(first for first in CAMPAIGNS if first <= day),
        "writes_max": row["target_writes_s"] == "max",
        "dev_load_ms": float(load[1]) if load else None,
        "avail_mib_s": config["extra"].get("avail-switchover-bandwidth", 0) / MIB,
        "multifd_channels": config.get("multifd", 0),
        "postcopy_at_s": config.get("postcopy_at") or None,
        "postcopy_sent_ms": raw.get("postcopy_sent_ms"),
        "transport": config["transport"],
        "sndbuf_bytes": config["sndbuf"] or None,
        "region_start_bytes": config["payload"]["wsstart"],
        "ws_pages": config["payload"]["wspages"],
        "guest_max_burst_pages": config["payload"]["maxb"],
        "traced": trace is not None,
        "rate_sleeps_requested_ms": trace["rate_limit_requested_ms"] if trace else None,
        "link_first_pass_bytes_per_s": first_pass_speed(raw, trace) if trace else None,
        "link_imposed_bytes_per_s": config["link"] * MIB * PACED_LINK_SHARE or None,
    }
    for part in filter(None, row["downtime_ckpt"].split("|")):
        name, value = part.split("=")
        out[CHECKPOINTS[name]] = float(value)
    thinned = ("iterations_thinned", "syncs_thinned", "device_iter_thinned", "big_waits_thinned")
    out |= dict.fromkeys(thinned, False)
    if trace:
        out["iterations_thinned"] = trace["iterations"]["thinned"]
        out["syncs_thinned"] = trace["syncs"]["thinned"]
        out["device_iter_thinned"] = bool(raw["devices"]) and device_iter(trace)[1]
        out["big_waits_thinned"] = trace["big_wait"]["n"] > len(trace["big_wait"]["rows"])
    return out


def first_pass_speed(raw, trace):
    """Wire bytes of normal pages over the time inside RAM's handler, until the first sync after setup."""
    ram_start = raw["final_active"]["ram"]["total"]
    initial = sum(device["init"] for device in raw["config"]["devs"])
    iterations = trace["iterations"]["rows"]
    syncs = trace["syncs"]["rows"]
    end_ms, end_estimate = (syncs[1][0], syncs[1][3]) if len(syncs) > 1 else (float("inf"), None)
    iterations = [row for row in iterations if row[0] < end_ms]
    if end_estimate is None:  # The last iteration has no estimate at its end and is left out.
        end_ms, end_estimate = iterations[-1][0], iterations[-1][1]
        iterations = iterations[:-1]
    left = {}
    for t, device, _, initial_left, _ in device_iter(trace)[0]:
        if t < end_ms:
            left[device] = initial_left
    for index, device in enumerate(raw["config"]["devs"]):
        initial += left.get(index, device["init"]) - device["init"]
    seconds = sum(us for row in iterations for section, us, _ in row[3] if section == "ram") * 1e-6
    pages = (ram_start - (end_estimate - initial)) // PAGE_BYTES
    return pages * NORMAL_PAGE_WIRE_BYTES / seconds if seconds else None


def device_iter(trace):
    """Calls of device handlers, and whether some are missing. The first runs have them as text only."""
    if trace.get("device_iter"):
        return trace["device_iter"]["rows"], trace["device_iter"]["thinned"]
    rows = []
    for t, event, detail, *_ in trace["misc"]:
        if event == "migtest_save_iterate":
            device, _, sent, _, initial, _, dirty = detail.split()
            rows.append([t, int(device), int(sent), int(initial), int(dirty)])
    return rows, len(rows) < trace["counts"].get("migtest_save_iterate", 0)


def device_rows(run, raw):
    loaded = raw["devices_dst"] or [{}] * len(raw["devices"])
    for index, (device, seen, target) in enumerate(zip(raw["config"]["devs"], raw["devices"], loaded, strict=True)):
        start = seen["st_setup_ms"]

        def since(name, seen=seen, start=start):
            return seen[name] - start if seen[name] else None

        yield [
            run, index, device["init"], device["stop"], float(device["rate"]), device["max"], seen["st_iter_calls"],
            seen["st_init_bytes"], seen["st_dirty_bytes"], seen["st_complete_bytes"], seen["st_complete_us"],
            seen["st_exact_calls"], seen["st_hw_dirtied"], since("st_first_iter_ms"), since("st_init_sent_ms"),
            since("st_last_iter_ms"), target.get("st_load_bytes"),
        ]  # fmt: skip


def event_rows(run, raw, trace):
    rows = []
    for t, side, name, data in raw["events"]:
        rows.append([run, t, {"src": "source", "dst": "destination"}[side], name,
                     " ".join(str(value) for value in data.values()) or None])  # fmt: skip
    for t, name, detail, *_ in (trace or {}).get("misc", []):
        if name not in ("savevm_section_end", "migtest_save_iterate"):
            rows.append([run, t, "trace", name, detail or None])
    rows.sort(key=lambda row: row[1])
    return rows


def sample_rows(run, raw):
    """Answers of query-migrate; the second campaign has some more columns, in a table of their own."""
    names = [name for name, _ in SCHEMAS["samples"][1:]]
    samples, more = raw["samples"], raw.get("samples_extra")
    if samples["cols"] + (more["cols"][1:] if more else names[-4:]) != names:
        raise SystemExit(f"{run}: unexpected sample columns {samples['cols']}")
    added = {row[0]: row[1:] for row in more["rows"]} if more else {}  # answers before the start lack them
    return [[run, *row, *added.get(row[0], [None] * 4)] for row in samples["rows"]]


def guest_rows(run, raw):
    guest = raw["guest"]
    readings = [
        ("before", guest["pre"][0]),
        ("start", guest["pre"][1]),
        ("middle", guest["mid"]),
        ("end", guest["end"]),
    ]
    for when, reading in readings:
        if reading:
            t_ms = round((reading["t"] - raw["started"]) * 1e3, 3)
            yield [run, when, t_ms, reading["writes"], reading["overruns"], reading["wakeups"]]


def add_trace(tables, run, trace):
    """Append one trace to the tables."""
    for iteration, (t, estimate, exact, called) in enumerate(trace["iterations"]["rows"]):
        tables["iterations"].append([run, iteration, t, estimate, exact])
        for position, (section, us, returned) in enumerate(called):
            tables["handler_calls"].append([run, iteration, position, section, us, returned])
    for section, total in trace["sections"].items():
        tables["handler_totals"].append([run, section, *(total[k] for k in ("calls", "ret1", "ret0", "us", "max_us"))])
    for index, iterations, sections in trace["per100ms"] or []:
        for section, (calls, us) in sections.items():
            tables["iterations_per_100ms"].append([run, index * 100.0, iterations, section, calls, us])
    for row in trace["windows"]["rows"]:
        tables["windows"].append([run, *row[:4], row[-1]])
    tables["syncs"] += [[run, *row] for row in trace["syncs"]["rows"]]
    tables["device_iter"] += [[run, *row] for row in device_iter(trace)[0]]
    tables["big_waits"] += [[run, *row] for row in trace["big_wait"]["rows"]]
    for t, event, detail, *us in trace["misc"]:
        if event == "savevm_section_end":
            tables["completion"].append([run, t, detail.split(",")[0], *us])


def read(raw_dir):
    """Read all tables as lists of rows."""
    tables = {name: [] for name in SCHEMAS}
    with open(raw_dir / "runs.csv", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["file"])
    for row in rows:
        raw = json.loads(gzip.decompress((raw_dir / "traces" / row["file"]).read_bytes()))
        run = row["file"].removesuffix(".json.gz")
        trace = raw["trace"]
        fields = run_row(raw, trace, row)
        tables["runs"].append([fields.get(name) for name, _ in SCHEMAS["runs"]])
        tables["devices"] += device_rows(run, raw)
        tables["guest_writes"] += guest_rows(run, raw)
        tables["events"] += event_rows(run, raw, trace)
        tables["samples"] += sample_rows(run, raw)
        if trace:
            add_trace(tables, run, trace)
    return tables


def write(tables, out_dir):
    for name, fields in SCHEMAS.items():
        columns = list(zip(*tables[name], strict=True))
        arrays = [
            pa.array(column, kind.value_type).dictionary_encode().cast(kind)
            if pa.types.is_dictionary(kind)
            else pa.array(column, kind)
            for column, (_, kind) in zip(columns, fields, strict=True)
        ]
        table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
        pq.write_table(table, out_dir / f"{name}.parquet", compression="zstd", compression_level=19)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("raw_dir", type=Path, help="folder with runs.csv and traces/*.json.gz")
    parser.add_argument("out_dir", type=Path, nargs="?", default=Path(__file__).parent)
    arguments = parser.parse_args()
    write(read(arguments.raw_dir), arguments.out_dir)


if __name__ == "__main__":
    main()
