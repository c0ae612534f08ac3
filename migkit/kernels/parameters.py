"""The columns a kernel takes and the columns it fills.

One row is one migration. Every column is contiguous, ``int64`` or ``float64``; regions and devices are
padded to the widest row and come with a count. The names are those of :doc:`model`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

RAM, VFIO, BLOCK = 0, 1, 2
"""Values of the column ``device_kind``."""


class Parameters(NamedTuple):
    """What a kernel needs of one migration, as columns.

    Times are nanoseconds, sizes bytes or pages as named, rates per second.
    """

    # guest
    ram_pages: np.ndarray  # int64, pages
    page_size: np.ndarray  # int64, bytes
    chunk_pages: np.ndarray  # int64, pages covered by one bit of the clear bitmap
    lazy_clear: np.ndarray  # int64, 1: the dirty log is re-protected chunk by chunk (KVM)
    idle_zero_share: np.ndarray  # float64, zero pages outside the regions
    # regions (rows, width)
    region_count: np.ndarray  # int64
    region_start: np.ndarray  # int64, pages
    region_pages: np.ndarray  # int64, pages
    region_writes_per_s: np.ndarray  # float64, page writes per second of guest time
    region_sequential: np.ndarray  # int64, 0 uniform, 1 sequential
    region_zero_share: np.ndarray  # float64
    # devices in list order, RAM among them (rows, width)
    device_count: np.ndarray  # int64
    device_kind: np.ndarray  # int64: RAM, VFIO, BLOCK
    device_initial_bytes: np.ndarray  # int64; block: the disk
    device_dirty_rate: np.ndarray  # float64, bytes/s
    device_dirty_max: np.ndarray  # int64, bytes
    device_stop_copy_bytes: np.ndarray  # int64
    device_chunk_bytes: np.ndarray  # int64
    device_read_ns_per_byte: np.ndarray  # float64
    device_load_ns: np.ndarray  # int64
    # link
    link_ns_per_byte: np.ndarray  # float64
    send_slack_ns: np.ndarray  # int64, time the link needs for a full send buffer
    fresh_ns_per_byte: np.ndarray  # float64, >= link_ns_per_byte: RAM pages that the destination writes the first time
    fresh_slack_ns: np.ndarray  # int64, time the link then needs for a full send buffer
    fresh_after_pages: np.ndarray  # int64, pages of the first pass that are sent at full speed; ram_pages: all
    rtt_ns: np.ndarray  # int64
    # migration parameters and capabilities
    max_bandwidth: np.ndarray  # int64, bytes/s, 0 = no limit
    downtime_limit_ms: np.ndarray  # float64
    avail_switchover_bandwidth: np.ndarray  # int64, bytes/s, 0 = use the estimate
    switchover_ack: np.ndarray  # int64
    return_path: np.ndarray  # int64
    auto_converge: np.ndarray  # int64
    throttle_trigger_threshold: np.ndarray  # int64, percent
    cpu_throttle_initial: np.ndarray  # int64, percent
    cpu_throttle_increment: np.ndarray  # int64, percent
    max_cpu_throttle: np.ndarray  # int64, percent
    # scheduling policy and what differs between versions
    policy: np.ndarray  # int64
    exact_rule: np.ndarray  # int64, 0..3
    complete_rule: np.ndarray  # int64, 0..1
    ram_exact_always: np.ndarray  # int64
    vfio_counts: np.ndarray  # int64, 0..2
    vfio_always_done: np.ndarray  # int64
    flush_pages: np.ndarray  # int64, 1 or 32
    counts_all_syncs: np.ndarray  # int64, 1: final and timer syncs count (up to 10.0)
    avail_per_ms_exact: np.ndarray  # int64, 1: avail-switchover-bandwidth/1000 without integer division
    throttle_timer_ns: np.ndarray  # int64, 0 = none
    # what a host costs
    setup_ns: np.ndarray  # int64
    turn_ns: np.ndarray  # int64, >= 1
    wakeup_ns: np.ndarray  # int64, how late the rate limit's sleep ends
    sync_ns: np.ndarray  # int64
    page_cost_ns: np.ndarray  # float64
    zero_cost_ns: np.ndarray  # float64
    vm_stop_ns: np.ndarray  # int64
    device_state_ns: np.ndarray  # int64
    destination_load_ns: np.ndarray  # int64
    time_limit_ns: np.ndarray  # int64


class Outputs(NamedTuple):
    """What a kernel fills for one migration, as columns. Times in nanoseconds, -1 where it never happened."""

    outcome: np.ndarray  # int64
    culprit: np.ndarray  # int64, index in device order, -1 if none
    total_ns: np.ndarray  # int64: end, or the time the verdict was reached
    downtime_ns: np.ndarray  # int64
    stop_ns: np.ndarray  # int64, when the VM was stopped
    downtime_stop_ns: np.ndarray  # int64, VM stop and final sync
    downtime_ram_ns: np.ndarray  # int64
    downtime_devices_ns: np.ndarray  # int64, stop-copy of all other devices
    downtime_state_ns: np.ndarray  # int64, non-iterable state
    downtime_destination_ns: np.ndarray  # int64, drain, load, round trip
    sync_count: np.ndarray  # int64
    turns: np.ndarray  # int64, walks of the device list
    bytes_sent: np.ndarray  # int64, everything
    ram_pages_sent: np.ndarray  # int64, precopy and switchover, normal and zero
    ram_zero_pages: np.ndarray  # int64
    switchover_bytes: np.ndarray  # int64
    ram_calls: np.ndarray  # int64
    ram_calls_done: np.ndarray  # int64, calls that found nothing left
    threshold: np.ndarray  # int64, last threshold, bytes
    pending: np.ndarray  # int64, last pending, bytes
    ram_remaining: np.ndarray  # int64, RAM after the last sync of the loop, bytes
    throttle: np.ndarray  # int64, percent
    steps: np.ndarray  # int64, turns that were computed one by one
    # devices (rows, width)
    device_bytes: np.ndarray  # int64
    device_calls: np.ndarray  # int64
    device_first_call_ns: np.ndarray  # int64
    device_initial_sent_ns: np.ndarray  # int64
    device_ack_ns: np.ndarray  # int64
    device_starved_ns: np.ndarray  # int64
    device_initial_left: np.ndarray  # int64, bytes
