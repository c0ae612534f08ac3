"""The switchover (migration/migration.c:migration_completion) and what is reported of a migration."""

from __future__ import annotations

from migkit.kernels.devices import vfio_dirty
from migkit.kernels.link import guest_ns, pages_at_one_rate, put_bytes, set_page_rate
from migkit.kernels.memory import remaining, stretch, sync, take
from migkit.kernels.options import kernel
from migkit.kernels.parameters import RAM, VFIO
from migkit.kernels.ram import page_bytes, put_pages, zeros_of


@kernel
def save_ram(ram, case, regions, state, live, report, stop_t):
    """All dirty pages, without a rate limit (migration/ram.c:ram_save_complete); the bytes."""
    normal, zero, size = 0, 0, 0
    set_page_rate(case, state, report.ram_pages_sent)
    most = pages_at_one_rate(case, report.ram_pages_sent)
    while remaining(ram) > 0:
        if normal + zero == most:
            size += put_pages(case, state, normal, zero)
            normal, zero = 0, 0
            set_page_rate(case, state, report.ram_pages_sent)
            most = pages_at_one_rate(case, report.ram_pages_sent)
        pages, share = stretch(ram, case, regions, guest_ns(state, stop_t))
        pages = min(pages, most - normal - zero)
        zeros = zeros_of(pages, share)
        take(ram, case, pages)
        normal += pages - zeros
        zero += zeros
        report.ram_pages_sent += pages
        report.ram_zero_pages += zeros
    return size + put_pages(case, state, normal, zero)


@kernel
def migration_completion(ram, case, regions, devices, state, live, report):
    """Stop the VM, sync once more, send everything that is left at link speed; the downtime and its parts."""
    stop_t = state.t
    report.stop_ns = stop_t
    state.t += case.vm_stop_ns + case.sync_ns
    state.syncs += 1
    sync(ram, case, regions, state, stop_t, state.syncs)
    state.sync_count += case.counts_all_syncs
    report.downtime_stop_ns = state.t - stop_t
    report.downtime_ram_ns = 0
    report.downtime_devices_ns = 0
    for d in range(case.device_count):
        began = state.t
        own = live[d]
        if devices[d].kind == RAM:
            size = save_ram(ram, case, regions, state, live, report, stop_t)
            report.downtime_ram_ns += state.t - began
        else:
            size = own.left
            if devices[d].kind == VFIO:
                size = own.initial + vfio_dirty(devices[d], own, stop_t) + devices[d].stop_copy_bytes
            state.t += int(size * devices[d].read_ns_per_byte)
            put_bytes(case, state, size, 0)
            report.downtime_devices_ns += state.t - began
            own.bytes += size
        report.switchover_bytes += size
        report.bytes_sent += size
    state.t += case.device_state_ns
    report.downtime_state_ns = case.device_state_ns
    began = state.t
    if case.return_path == 1:
        # the source waits until the destination has loaded everything and says so
        state.t = max(state.t, state.drained_at) + case.destination_load_ns + case.rtt_ns
    report.downtime_destination_ns = state.t - began
    report.downtime_ns = state.t - stop_t


@kernel
def clear_records(case, state, live, report):
    """Zero the scratch and the report of one migration."""
    state.win_t = 0
    state.mark = 0
    state.counted = 0
    state.buffered = 0
    state.drained_at = 0
    state.threshold = 0
    state.page_ns_per_byte = case.link_ns_per_byte
    state.page_slack_ns = case.send_slack_ns
    state.tau0 = 0
    state.throttle = 0
    state.syncs = 0
    state.period_new = 0
    state.xfer_prev = 0
    state.hi = 0
    state.timer_count = 0
    state.flags_missing = 0
    state.flags_buffered = 0
    state.ack_t = 0
    state.bulk = 0
    state.zero_level = -1
    state.events = 0
    state.pending = 0
    for d in range(case.device_count):
        own = live[d]
        own.initial = 0
        own.dirty = 0
        own.initial_cached = 0
        own.dirty_cached = 0
        own.stop_cached = 0
        own.left = 0
        own.flag = 0
        own.called = 0
        own.starved = 0
        own.progress_sync = 0
        own.bytes = 0
    report.stop_ns = -1
    report.downtime_ns = -1
    report.downtime_stop_ns = -1
    report.downtime_ram_ns = -1
    report.downtime_devices_ns = -1
    report.downtime_state_ns = -1
    report.downtime_destination_ns = -1
    report.turns = 0
    report.steps = 0
    report.bytes_sent = 0
    report.ram_pages_sent = 0
    report.ram_zero_pages = 0
    report.switchover_bytes = 0
    report.ram_calls = 0
    report.ram_calls_done = 0
    report.ram_remaining = case.ram_pages * case.page_size
    report.culprit = -1


@kernel
def fill_report(case, devices, state, live, report, device_report, outcome):
    """What is left to say when the migration has ended."""
    report.outcome = outcome
    report.total_ns = state.t
    report.sync_count = state.sync_count
    report.threshold = state.threshold
    report.pending = state.pending
    report.throttle = state.throttle
    for d in range(case.device_count, device_report.shape[0]):  # rows of other migrations have more devices
        row = device_report[d]
        row.calls = 0
        row.first_call_ns = -1
        row.initial_sent_ns = -1
        row.ack_ns = -1
        row.starved_ns = -1
        row.initial_left = 0
        row.bytes = 0
    for d in range(case.device_count):
        own, row = live[d], device_report[d]
        row.calls = own.called
        row.first_call_ns = own.first_t
        row.initial_sent_ns = -1
        row.ack_ns = -1
        row.starved_ns = own.starved
        row.initial_left = own.initial + own.left
        row.bytes = own.bytes
        if devices[d].kind == RAM:
            row.calls = report.ram_calls
            row.bytes = page_bytes(case, report.ram_pages_sent - report.ram_zero_pages, report.ram_zero_pages)
        elif devices[d].kind == VFIO:
            row.initial_sent_ns = own.initial_sent_t
            row.ack_ns = own.ack_t
