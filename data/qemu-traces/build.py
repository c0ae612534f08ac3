"""Make the Parquet files of this folder from the raw measurements.

    python data/qemu-traces/build.py RAW_DIR [OUT_DIR]

``RAW_DIR`` holds ``runs.csv`` and ``traces/*.json.gz``. The result depends on the raw files (and on the
version of pyarrow, which writes its name into each file) and on nothing else: rows are sorted by run and
keep the order in which they were recorded. README.md describes every column.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MIB = 1 << 20
PAGE_BYTES = 4096
NORMAL_PAGE_WIRE_BYTES = 4096 + 8
PACED_LINK_SHARE = 200.47 / 200
"""Median of the link bandwidth that the windows of paced runs show, over the configured value."""

RUN = ("run", pa.dictionary(pa.int16(), pa.string()))
LABEL = pa.dictionary(pa.int16(), pa.string())
F, I, S, B = pa.float64(), pa.int64(), pa.string(), pa.bool_()

RUNS_CSV = {  # column of runs.csv -> type; those that become rows of devices.parquet or several columns are absent
    "group": LABEL, "name": LABEL, "build": LABEL, "accel": LABEL, "rep": I, "ram_mib": I, "ws_mib": I,
    "mode": LABEL, "delay": I, "target_writes_s": F, "pre_writes_s": F, "mig_writes_s": F, "bw_mib_s": I,
    "link_mib_s": I, "dt_limit_ms": I, "ndev": I, "dev_init_mib": F, "dev_stop_mib": F, "dev_rate_mib_s": F,
    "dev_max_mib": F, "blk_mib": I, "caps": pa.list_(pa.string()), "limit_s": I, "outcome": LABEL, "total_ms": I,
    "downtime_ms": I, "downtime_wall_ms": F, "setup_ms": I, "stop_at_ms": F, "transferred": I, "normal": I,
    "duplicate": I, "sync_count": I, "precopy_bytes": I, "downtime_bytes": I, "iterations": I, "estimate_calls": I,
    "exact_calls": I, "ram_calls": I, "ram_ret1": I, "ram_max_call_ms": F, "big_waits": I, "rate_sleeps": I,
    "bw_meas_mib_s": F, "window_ms_median": F, "threshold_mib_median": F, "sync_us_median": F, "sync_us_max": I,
    "dirty_pages_rate_median": F, "dirty_pages_rate_max": I, "throttle_max": I, "ack_ms": F, "loadavg": F,
    "other_cpu": F, "steal_s": F,
}  # fmt: skip

CHECKPOINTS = {
    "downtime-start": "downtime_start_ms",
    "vm-stopped": "vm_stopped_ms",
    "iterable-saved": "iterable_saved_ms",
    "non-iterable-saved": "non_iterable_saved_ms",
    "downtime-end": "downtime_end_ms",
}

RUNS_EXTRA = {
    "writes_max": B, "transport": LABEL, "sndbuf_bytes": I, "region_start_bytes": I, "ws_pages": I,
    "guest_max_burst_pages": I, **{name: F for name in CHECKPOINTS.values()}, "traced": B,
    "iterations_thinned": B, "syncs_thinned": B, "device_iter_thinned": B, "big_waits_thinned": B,
    "rate_sleeps_requested_ms": F, "link_first_pass_bytes_per_s": F, "link_imposed_bytes_per_s": F,
}  # fmt: skip

SCHEMAS = {
    "runs": [("run", S), *RUNS_CSV.items(), *RUNS_EXTRA.items()],
    "devices": [
        RUN, ("device", I), ("initial_bytes", I), ("stop_bytes", I), ("dirty_rate_bytes_per_s", F),
        ("dirty_max_bytes", I), ("calls", I), ("initial_sent_bytes", I), ("dirty_sent_bytes", I),
        ("complete_bytes", I), ("complete_us", I), ("exact_calls", I), ("hw_dirtied_bytes", I),
        ("first_call_ms", I), ("init_done_ms", I), ("last_call_ms", I), ("loaded_bytes", I),
    ],
    "iterations": [RUN, ("turn", I), ("t_ms", F), ("estimate", I), ("exact", I)],
    "handler_calls": [RUN, ("turn", I), ("position", I), ("section", LABEL), ("us", I), ("returned", I)],
    "handler_totals": [RUN, ("section", LABEL), ("calls", I), ("ret1", I), ("ret0", I), ("us", I), ("max_us", I)],
    "walks_per_100ms": [RUN, ("t_ms", F), ("walks", I), ("section", LABEL), ("calls", I), ("us", I)],
    "windows": [RUN, ("t_ms", F), ("bytes", I), ("ms", I), ("bytes_per_ms", I), ("threshold", I)],
    "syncs": [RUN, ("t_ms", F), ("us", I), ("dirty_pages_period", I), ("estimate_before", I), ("exact_after", I)],
    "device_iter": [RUN, ("t_ms", F), ("device", I), ("bytes", I), ("initial_left", I), ("dirty_left", I)],
    "big_waits": [RUN, ("t_ms", F), ("elapsed_ms", I), ("pages", I)],
    "completion": [RUN, ("t_ms", F), ("section", LABEL), ("us", I)],
    "samples": [
        RUN, ("t_ms", F), ("status", LABEL), ("total_time_ms", I), ("expected_downtime_ms", I), ("downtime_ms", I),
        ("setup_time_ms", I), ("transferred", I), ("remaining", I), ("total", I), ("duplicate", I), ("normal", I),
        ("mbps", F), ("dirty_pages_rate", I), ("pages_per_second", I), ("dirty_sync_count", I),
        ("precopy_bytes", I), ("downtime_bytes", I), ("throttle_pct", I), ("disk_transferred", I),
        ("disk_remaining", I), ("poll_us", I),
    ],
    "guest_writes": [RUN, ("when", LABEL), ("t_ms", F), ("writes", I), ("overruns", I), ("wakeups", I)],
    "events": [RUN, ("t_ms", F), ("source", LABEL), ("event", LABEL), ("detail", S)],
}  # fmt: skip


def number(text, kind):
    """A cell of runs.csv as a value of the column's type; empty and ``max`` are null."""
    if kind == LABEL:
        return text
    if text in ("", "max"):
        return None
    return float(text) if kind == F else int(float(text))


def run_row(raw, trace, row):
    """The row of runs.parquet of one run."""
    config = raw["config"]
    out = {"run": row["file"].removesuffix(".json.gz")}
    for name, kind in RUNS_CSV.items():
        out[name] = row[name].split("|") if name == "caps" else number(row[name], kind)
    out |= {
        "writes_max": row["target_writes_s"] == "max",
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
    if trace:
        out["iterations_thinned"] = trace["iterations"]["thinned"]
        out["syncs_thinned"] = trace["syncs"]["thinned"]
        out["device_iter_thinned"] = bool(raw["devices"]) and device_iter(trace)[1]
        out["big_waits_thinned"] = trace["big_wait"]["n"] > len(trace["big_wait"]["rows"])
    return out


def first_pass_speed(raw, trace):
    """Wire bytes of normal pages over the time inside RAM calls, up to the first sync after setup."""
    ram_start = raw["final_active"]["ram"]["total"]
    initial = sum(device["init"] for device in raw["config"]["devs"])
    turns = trace["iterations"]["rows"]
    syncs = trace["syncs"]["rows"]
    end_ms, end_estimate = (syncs[1][0], syncs[1][3]) if len(syncs) > 1 else (float("inf"), None)
    turns = [turn for turn in turns if turn[0] < end_ms]
    if end_estimate is None:  # no estimate at the end of the last turn: leave that turn out
        end_ms, end_estimate = turns[-1][0], turns[-1][1]
        turns = turns[:-1]
    left = {}
    for t, device, _, initial_left, _ in device_iter(trace)[0]:
        if t < end_ms:
            left[device] = initial_left
    for index, device in enumerate(raw["config"]["devs"]):
        initial += left.get(index, device["init"]) - device["init"]
    seconds = sum(us for turn in turns for section, us, _ in turn[3] if section == "ram") * 1e-6
    pages = (ram_start - (end_estimate - initial)) // PAGE_BYTES
    return pages * NORMAL_PAGE_WIRE_BYTES / seconds if seconds else None


def device_iter(trace):
    """Calls of device handlers and whether some are missing; the first runs have them as text only."""
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
    for index, (device, seen, target) in enumerate(
        zip(raw["config"]["devs"], raw["devices"], loaded, strict=True)
    ):
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


def guest_rows(run, raw):
    guest = raw["guest"]
    readings = [("before", guest["pre"][0]), ("start", guest["pre"][1]), ("middle", guest["mid"]), ("end", guest["end"])]
    for when, reading in readings:
        if reading:
            t_ms = round((reading["t"] - raw["started"]) * 1e3, 3)
            yield [run, when, t_ms, reading["writes"], reading["overruns"], reading["wakeups"]]


def add_trace(tables, run, trace):
    """Append what one trace holds to the tables."""
    for turn, (t, estimate, exact, called) in enumerate(trace["iterations"]["rows"]):
        tables["iterations"].append([run, turn, t, estimate, exact])
        for position, (section, us, returned) in enumerate(called):
            tables["handler_calls"].append([run, turn, position, section, us, returned])
    for section, total in trace["sections"].items():
        tables["handler_totals"].append([run, section, *(total[k] for k in ("calls", "ret1", "ret0", "us", "max_us"))])
    for index, walks, sections in trace["per100ms"] or []:
        for section, (calls, us) in sections.items():
            tables["walks_per_100ms"].append([run, index * 100.0, walks, section, calls, us])
    for row in trace["windows"]["rows"]:
        tables["windows"].append([run, *row[:4], row[-1]])
    tables["syncs"] += [[run, *row] for row in trace["syncs"]["rows"]]
    tables["device_iter"] += [[run, *row] for row in device_iter(trace)[0]]
    tables["big_waits"] += [[run, *row] for row in trace["big_wait"]["rows"]]
    for t, event, detail, *us in trace["misc"]:
        if event == "savevm_section_end":
            tables["completion"].append([run, t, detail.split(",")[0], *us])


def read(raw_dir):
    """All tables as lists of rows."""
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
        names = [name for name, _ in SCHEMAS["samples"][1:]]
        if raw["samples"]["cols"] != names:
            raise SystemExit(f"{row['file']}: unexpected sample columns {raw['samples']['cols']}")
        tables["samples"] += [[run, *sample] for sample in raw["samples"]["rows"]]
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
