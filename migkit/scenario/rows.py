"""From scenarios to the columns a kernel takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from migkit.kernels.parameters import BLOCK, RAM, VFIO, Parameters
from migkit.scenario.errors import ScenarioError
from migkit.scenario.parts import Block, Guest, Ram, Vfio
from migkit.scenario.scenario import Scenario, device_list
from migkit.scenario.versions import policy_id

_FLOATS = {
    "idle_zero_share",
    "region_writes_per_s",
    "region_zero_share",
    "device_dirty_rate",
    "device_read_ns_per_byte",
    "link_ns_per_byte",
    "fresh_ns_per_byte",
    "downtime_limit_ms",
    "page_cost_ns",
    "zero_cost_ns",
}
_REGION = tuple(name for name in Parameters._fields if name.startswith("region_") and name != "region_count")
_DEVICE = tuple(name for name in Parameters._fields if name.startswith("device_") and name not in
                ("device_count", "device_state_ns"))  # fmt: skip
_SCALAR = tuple(name for name in Parameters._fields if name not in _REGION and name not in _DEVICE)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _cost_ns(seconds: float) -> float:
    # 1.8 us is 1800 ns and not the nearest product of two binary fractions.
    return round(seconds * 1e9, 6)


def _scalars(scenario: Scenario) -> tuple[Any, ...]:
    """One row of the columns that have one number a migration, in the order of `_SCALAR`."""
    guest, link, migration, costs, profile = (
        scenario.guest,
        scenario.link,
        scenario.migration,
        scenario.costs,
        scenario.profile,
    )
    ns_per_byte = 1e9 / link.bandwidth
    ram_pages = guest.ram // guest.page_size
    fresh_ns_per_byte, fresh_after = ns_per_byte, ram_pages
    if link.fresh_bandwidth:
        fresh_ns_per_byte = 1e9 / link.fresh_bandwidth
        fresh_after = min(ram_pages, link.fresh_after // guest.page_size)
    row = {
        "ram_pages": ram_pages,
        "page_size": guest.page_size,
        "chunk_pages": 1 << migration.x_clear_bitmap_shift,
        "lazy_clear": guest.accel == "kvm",
        "idle_zero_share": guest.zero_share,
        "region_count": len(guest.regions),
        "device_count": len(device_list(scenario)),
        "link_ns_per_byte": ns_per_byte,
        "send_slack_ns": int(link.send_buffer * ns_per_byte),
        "fresh_ns_per_byte": fresh_ns_per_byte,
        "fresh_slack_ns": int(link.send_buffer * fresh_ns_per_byte),
        "fresh_after_pages": fresh_after,
        "rtt_ns": _ns(link.rtt),
        "max_bandwidth": round(migration.max_bandwidth),
        "downtime_limit_ms": _ns(migration.downtime_limit) / 1e6,
        "avail_switchover_bandwidth": round(migration.avail_switchover_bandwidth),
        "switchover_ack": migration.switchover_ack,
        "return_path": migration.return_path,
        "auto_converge": migration.auto_converge,
        "throttle_trigger_threshold": migration.throttle_trigger_threshold,
        "cpu_throttle_initial": migration.cpu_throttle_initial,
        "cpu_throttle_increment": migration.cpu_throttle_increment,
        "max_cpu_throttle": migration.max_cpu_throttle,
        "policy": policy_id(scenario.walk_policy),
        "exact_rule": profile.exact_rule,
        "complete_rule": profile.complete_rule,
        "ram_exact_always": profile.ram_exact_always,
        "vfio_counts": profile.vfio_counts,
        "vfio_always_done": profile.vfio_always_done,
        "flush_pages": profile.flush_pages,
        "counts_all_syncs": profile.counts_all_syncs,
        "avail_per_ms_exact": profile.avail_per_ms_exact,
        "throttle_timer_ns": profile.throttle_timer_ns,
        "setup_ns": _ns(costs.setup),
        "turn_ns": _ns(costs.turn),
        "wakeup_ns": _ns(costs.wakeup),
        "sync_ns": _ns(costs.bitmap_sync + costs.bitmap_sync_per_gib * (guest.ram / 2**30)),
        "page_cost_ns": _cost_ns(costs.page),
        "zero_cost_ns": _cost_ns(costs.zero_page),
        "vm_stop_ns": _ns(costs.vm_stop),
        "device_state_ns": _ns(costs.device_state),
        "destination_load_ns": _ns(costs.destination_load),
        "time_limit_ns": _ns(scenario.time_limit),
    }
    return tuple(row[name] for name in _SCALAR)


def _regions(guest: Guest) -> Iterator[tuple[Any, ...]]:
    """One tuple a region, in the order of `_REGION`."""
    page = guest.page_size
    for region in guest.regions:
        sequential = region.pattern == "sequential"
        yield region.start // page, region.size // page, region.write_rate / page, sequential, region.zero_share


def _device(device: Ram | Vfio | Block) -> tuple[Any, ...]:
    """One device, in the order of `_DEVICE`."""
    if isinstance(device, Ram):
        return RAM, 0, 0.0, 0, 0, 0, 0.0, 0
    if isinstance(device, Block):
        return BLOCK, device.size, 0.0, 0, 0, 0, 1e9 / device.read_rate, 0
    return (
        VFIO,
        device.initial_bytes,
        device.dirty_rate,
        device.dirty_max,
        device.stop_copy_bytes,
        device.chunk,
        1e9 / device.read_rate,
        _ns(device.load_time),
    )


def _dtype(name: str) -> type:
    return np.float64 if name in _FLOATS else np.int64


def _padded(names: tuple[str, ...], rows: list[list[tuple[Any, ...]]]) -> dict[str, np.ndarray]:
    """Lay rows of different lengths side by side, padded with zeroes to the widest."""
    width = max(1, max(len(row) for row in rows))
    arrays = {name: np.zeros((len(rows), width), _dtype(name)) for name in names}
    for i, row in enumerate(rows):
        if row:
            for name, values in zip(names, zip(*row, strict=True), strict=True):
                arrays[name][i, : len(row)] = values
    return arrays


def columns(scenarios: Sequence[Scenario]) -> Parameters:
    """Turn scenarios into the columns a kernel takes, one row a scenario.

    Parameters
    ----------
    scenarios : sequence of Scenario
        One or more.

    Returns
    -------
    columns : Parameters
        Contiguous ``int64`` and ``float64`` arrays. Regions and devices are padded with zeroes to the widest
        row; bandwidth limits are rounded to whole bytes per second, times to nanoseconds.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> one = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="8 Gbit/s"))
    >>> columns([one, one.replace("guest.ram", "2 GiB")]).ram_pages
    array([262144, 524288])
    """
    rows = list(scenarios)
    if not rows:
        raise ScenarioError("needs at least one scenario", "columns()")
    table = {}
    for name, values in zip(_SCALAR, zip(*map(_scalars, rows), strict=True), strict=True):
        table[name] = np.array(values, _dtype(name))
    table |= _padded(_REGION, [list(_regions(row.guest)) for row in rows])
    table |= _padded(_DEVICE, [[_device(device) for device in device_list(row)] for row in rows])
    return Parameters(**table)
