"""Rows as records: what one migration needs, its state while it runs, and what it leaves.

The columns of :class:`migkit.kernels.parameters.Parameters` are laid out row by row before a kernel sees them. Numba
passes a record as one pointer, so the small functions of the loop share it without copying sixty columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from migkit.kernels.parameters import Outputs, Parameters

_FLOAT_CASE = {
    "idle_zero_share", "link_ns_per_byte", "fresh_ns_per_byte", "downtime_limit_ms", "page_cost_ns", "zero_cost_ns",
}  # fmt: skip
_FLOAT_STATE = {"sync_fraction", "page_ns_per_byte"}
_FLOAT_REGION = {"writes_per_s", "zero_share"}
_FLOAT_DEVICE = {"dirty_rate", "read_ns_per_byte"}


def _dtype(names: list[str], floats: set[str]) -> np.dtype:
    return np.dtype([(name, np.float64 if name in floats else np.int64) for name in names])


def _tails(fields: tuple[str, ...], prefix: str) -> list[str]:
    return [name.removeprefix(prefix) for name in fields if name.startswith(prefix) and name != prefix + "count"]


REGION_FIELDS = _tails(Parameters._fields, "region_")
DEVICE_FIELDS = _tails(Parameters._fields, "device_")
DEVICE_FIELDS.remove("state_ns")
CASE_FIELDS = [
    name
    for name in Parameters._fields
    if name.removeprefix("region_") not in REGION_FIELDS and name.removeprefix("device_") not in DEVICE_FIELDS
]
REPORT_DEVICE_FIELDS = _tails(Outputs._fields, "device_")
REPORT_FIELDS = [name for name in Outputs._fields if not name.startswith("device_")]

CASE = _dtype(CASE_FIELDS, _FLOAT_CASE)
REGION = _dtype(REGION_FIELDS, _FLOAT_REGION)
DEVICE = _dtype(DEVICE_FIELDS, _FLOAT_DEVICE)
REPORT = _dtype(REPORT_FIELDS, set())
TURN = _dtype(
    [
        "t_ns", "estimate", "exact", "threshold", "pending", "synced", "throttle", "ram_pages", "ram_returned",
        "remaining_pages", "sync_count",
    ],
    set(),
)  # fmt: skip
REPORT_DEVICE = _dtype(REPORT_DEVICE_FIELDS, set())

STATE = _dtype(
    [
        # clock and rate-limit window
        "t", "win_t", "mark", "counted", "buffered", "drained_at", "threshold",
        # what the link and a full send buffer take for RAM pages
        "page_ns_per_byte", "page_slack_ns",
        # guest time: tau0 at t0, slower while the vCPUs are throttled
        "t0", "tau0", "throttle",
        # sync and throttle bookkeeping
        "syncs", "sync_count", "period_new", "last_eval", "xfer_prev", "hi", "timer_due", "timer_count",
        # switchover-ack
        "flags_missing", "flags_buffered", "ack_t",
        # what the last RAM call did, for the walk and the timeline
        "ram_pages", "ram_returned", "bulk", "zero_level",
        # decision of the turn
        "estimate", "exact", "pending", "synced", "sync_fraction",
        # the last walk: when its turn began, how many devices it called
        "walk_t", "walk_end",
        # events that break a repeating pattern of windows
        "events",
        # bytes that only the switchover can send
        "stop_copy",
    ],
    _FLOAT_STATE,
)  # fmt: skip
"""State of a running migration (docs/model.md, section 1)."""

LIVE = _dtype(
    [
        "initial", "dirty", "dirty_t", "initial_cached", "dirty_cached", "stop_cached", "left",
        "flag", "called", "progress_sync", "sent", "ack_t", "initial_sent_t", "first_t", "starved", "bytes",
    ],
    set(),
)  # fmt: skip
"""State of one device: hardware, caches, flag (0 none, 1 in the stream buffer, 2 left)."""


class Packed(NamedTuple):
    """Migrations as records: cases (rows), regions and devices (rows, width)."""

    cases: np.ndarray
    regions: np.ndarray
    devices: np.ndarray


def place_of(column: str) -> tuple[int, str]:
    """Which part of :class:`Packed` holds a column of Parameters, and the name of its field there."""
    if column in CASE_FIELDS:
        return 0, column
    part, _, name = column.partition("_")
    return (1 if part == "region" else 2), name


def pack(parameters: Parameters) -> Packed:
    """Lay columns out as records."""
    rows = parameters.ram_pages.shape[0]
    cases = np.zeros(rows, CASE)
    for name in CASE_FIELDS:
        cases[name] = getattr(parameters, name)
    regions = np.zeros((rows, max(1, parameters.region_start.shape[1])), REGION)
    for name in REGION_FIELDS:
        regions[name][:, : parameters.region_start.shape[1]] = getattr(parameters, "region_" + name)
    devices = np.zeros(parameters.device_kind.shape, DEVICE)
    for name in DEVICE_FIELDS:
        devices[name] = getattr(parameters, "device_" + name)
    return Packed(cases.view(np.recarray), regions.view(np.recarray), devices.view(np.recarray))


def unpack(reports: np.ndarray, device_reports: np.ndarray) -> Outputs:
    """Turn report records into contiguous columns."""
    # as plain arrays: a recarray's fields cost microseconds each
    reports, device_reports = reports.view(np.ndarray), device_reports.view(np.ndarray)
    columns = {name: np.ascontiguousarray(reports[name]) for name in REPORT_FIELDS}
    columns |= {"device_" + name: np.ascontiguousarray(device_reports[name]) for name in REPORT_DEVICE_FIELDS}
    return Outputs(**columns)
