"""The migration thread (migration/migration.c), once, over either model of RAM."""

from __future__ import annotations

from migkit.kernels.dirtylimit import dirtylimit_asleep, dirtylimit_catch_up, dirtylimit_end
from migkit.kernels.fast_forward import fast_forward
from migkit.kernels.jitter import sync_cost
from migkit.kernels.management import manage
from migkit.kernels.memory import fraction, remaining, sync
from migkit.kernels.multifd import multifd_save_complete, multifd_settle
from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.policies import syncs
from migkit.kernels.postcopy import postcopy_begins, postcopy_iteration_run, postcopy_start
from migkit.kernels.qemu_file import migration_rate_exceeded, qemu_put_buffer
from migkit.kernels.ram import cover_cache, cpu_throttle_dirty_sync_timer_tick, ram_save_complete
from migkit.kernels.rate_limit import migration_rate_limit
from migkit.kernels.savevm import (
    qemu_savevm_state_iterate,
    qemu_savevm_state_pending_estimate,
    qemu_savevm_state_pending_exact,
)
from migkit.kernels.state import COMPLETED, RAM, VFIO
from migkit.kernels.verdict import account_starvation, time_is_up, verdict
from migkit.kernels.vfio import vfio_save_complete_precopy

ITERATED, ENDED, SWITCHED = 0, 1, 2
"""What a pass of the loop did."""


@inlined_kernel
def migration_thread(s, marks, lap, managing, timeline):
    """One migration, from setup to completion or a verdict (migration/migration.c:migration_thread).

    It returns before that where it has done as much computing as it may at a time, to be called again.

    Parameters
    ----------
    s : Migration
        Set up by :func:`migkit.kernels.savevm.qemu_savevm_state_setup`.
    marks, lap : Marks, record LAP
        What fast_forward and verdict compare with.
    managing : Managing
        What changes it from outside, asked when it is due.
    timeline : Timeline
        One row per iteration is written while there are rows.
    """
    while s.state.t < s.case.time_limit_ns:
        if s.state.effort >= s.state.pause_at:
            return
        if s.case.multifd_channels > 0:
            multifd_settle(s)
        if s.state.t >= s.state.managed_t and manage(s, managing, lap):
            return
        if not migration_rate_exceeded(s.state):
            cpu_throttle_dirty_sync_timer_tick(s)
            ran = migration_iteration_run(s)
            if ran == ENDED:
                return
            if ran == SWITCHED:
                continue
            trace_iteration(s, timeline)
            if s.state.postcopy == 0 and verdict(s, lap):
                return
            if s.state.t >= s.state.managed_t and manage(s, managing, lap):
                return
        migration_rate_limit(s)
        fast_forward(s, marks)
    time_is_up(s, lap)


@inlined_kernel
def migration_iteration_run(s):
    """Decide whether to switch over; if not, iterate once (migration/migration.c:migration_iteration_run).

    Returns
    -------
    ran : int
        ITERATED, ENDED, or SWITCHED: to post-copy, and the loop goes on at once.
    """
    case, state = s.case, s.state
    if state.postcopy == 1:
        return ENDED if postcopy_iteration_run(s) else ITERATED
    began, syncs_before = state.t, state.syncs
    state.since_sync = began - state.synced_at
    state.ram_bytes = remaining(s.ram) * case.page_size
    state.estimate = qemu_savevm_state_pending_estimate(s)
    state.exact = -1
    state.acknowledged = acknowledged(case, state)
    if syncs(s):
        state.exact = qemu_savevm_state_pending_exact(s)
    state.synced = state.syncs - syncs_before
    state.sync_fraction = fraction(s.ram)
    state.pending = state.exact if state.exact >= 0 else state.estimate
    state.compared = state.threshold
    begins = postcopy_begins(case, state) and state.acknowledged == 1
    if can_complete(case, state) and not (begins and case.postcopy_rule == 1):
        account_starvation(s, state.t)
        migration_completion(s)
        return ENDED
    if begins:
        postcopy_start(s)
        return SWITCHED
    account_starvation(s, began)
    state.iteration_t = began
    qemu_savevm_state_iterate(s)
    state.window_drained += 1 if state.ram_returned == 1 else 0
    state.steps += 1
    state.effort += 2 + case.device_count
    state.t += case.iteration_ns
    return ITERATED


@inlined_kernel
def acknowledged(case, state):
    """Whether the destination has acknowledged the initial data of all devices, or need not."""
    return 1 if case.switchover_ack == 0 or (state.flags_missing == 0 and state.ack_t <= state.t) else 0


@inlined_kernel
def can_complete(case, state):
    """Whether what is pending fits the downtime limit and the destination has acknowledged."""
    if case.complete_rule == 1:
        if state.pending > state.threshold:
            return False
    elif state.pending != 0 and state.pending >= state.threshold:
        return False
    return acknowledged(case, state) == 1


@kernel
def migration_completion(s):
    """Stop the VM, sync once more, send what is left at link speed (migration/migration.c:migration_completion)."""
    case, state, report = s.case, s.state, s.report
    stop_t, sent = state.t, state.bytes_sent
    if case.dirty_limit == 1:
        dirtylimit_end(s, stop_t)
        state.t += dirtylimit_asleep(s, stop_t)
    if case.xbzrle == 1:
        cover_cache(case, state)
    state.t += case.vm_stop_ns + sync_cost(case, state)
    state.syncs += 1
    sync(s.ram, case, s.regions, s.writers, stop_t, state.syncs)
    state.sync_count += case.counts_all_syncs
    stopped_t = stop_t if state.stopped_t < 0 else state.stopped_t
    report.stop_ns = stopped_t
    report.downtime_paused_ns = stop_t - stopped_t
    report.downtime_stop_ns = state.t - stop_t
    report.downtime_ram_ns = 0
    report.downtime_devices_ns = 0
    for d in range(case.device_count):
        began, device, own = state.t, s.devices[d], s.live[d]
        if device.kind == RAM:
            if case.multifd_channels > 0:
                multifd_save_complete(s)
            else:
                state.bytes_sent += ram_save_complete(s, stop_t)
            report.downtime_ram_ns += state.t - began
            continue
        size = vfio_save_complete_precopy(device, own, stop_t) if device.kind == VFIO else own.left
        state.t += int(size * device.read_ns_per_byte)
        qemu_put_buffer(s.link, state, size)
        report.downtime_devices_ns += state.t - began
        own.bytes += size
        state.bytes_sent += size
    report.switchover_bytes = state.bytes_sent - sent
    state.t += case.device_state_ns
    report.downtime_state_ns = case.device_state_ns
    began = state.t
    if case.return_path == 1:
        # the source waits until the destination has loaded everything and says so
        state.t = max(max(state.t, state.drained_at), loaded(s)) + case.destination_load_ns + s.link.rtt_ns
    report.downtime_destination_ns = state.t - began
    report.downtime_ns = state.t - stopped_t
    state.outcome = COMPLETED


@kernel
def loaded(s):
    """When the destination has loaded the initial data of all devices: each takes its time from when it has arrived.

    What is left at the switchover arrives with the last bytes (hw/vfio/migration.c:vfio_load_state).
    """
    state, last = s.state, 0
    for d in range(s.case.device_count):
        device, own = s.devices[d], s.live[d]
        if device.kind == VFIO and device.initial_bytes > 0:
            arrived = own.initial_sent_t if own.initial == 0 else max(state.t, state.drained_at)
            last = max(last, arrived + device.load_ns)
    return last


@kernel
def trace_iteration(s, timeline):
    """Write the iteration into the timeline, if there is a row for it."""
    state = s.state
    row = state.iteration - 1
    if row >= timeline.iterations.shape[0]:
        return
    iteration = timeline.iterations[row]
    iteration.t_ns = state.iteration_t
    iteration.estimate = state.estimate
    iteration.exact = state.exact
    iteration.threshold = state.compared
    iteration.pending = state.pending
    iteration.synced = state.synced
    iteration.throttle = state.throttle
    iteration.ram_pages = state.ram_pages
    iteration.ram_returned = state.ram_returned
    iteration.remaining_pages = remaining(s.ram)
    iteration.sync_count = state.sync_count
    for d in range(state.device_count):
        timeline.sent[row, d] = s.live[d].sent if s.live[d].iteration == state.iteration else -1


@kernel
def write_report(s, manager, device_reports):
    """Write the final counters."""
    case, state, report = s.case, s.state, s.report
    if case.dirty_limit == 1:
        dirtylimit_catch_up(s, state.t)
        report.limit_sleep_ns = state.limit_us * 1000 if state.limit_changes > 0 else -1
    report.outcome = state.outcome
    report.culprit = state.culprit
    report.total_ns = state.t
    report.sync_count = state.sync_count
    report.iterations = state.iteration
    report.bytes_sent = state.bytes_sent
    report.ram_pages_sent = state.ram_pages_sent
    report.ram_zero_pages = state.ram_zero_pages
    report.ram_calls = state.ram_calls
    report.ram_calls_done = state.ram_calls_done
    report.threshold = state.threshold
    report.pending = state.pending
    report.ram_remaining = state.ram_remaining
    report.throttle = state.throttle
    report.steps = state.steps
    report.changed = manager.changed
    report.max_bandwidth = state.max_bandwidth
    report.downtime_limit_ns = int(state.downtime_limit_ms * 1e6)
    report.postcopy_bytes = state.bytes_sent - state.postcopy_from if state.postcopy == 1 else 0
    report.postcopy_faults = state.faults
    for d in range(case.device_count):
        own, row = s.live[d], device_reports[d]
        row.calls = own.called
        row.first_call_ns = own.first_t
        row.starved_ns = own.starved
        row.initial_left = own.initial + own.left
        row.bytes = own.bytes
        if s.devices[d].kind == RAM:
            row.calls = state.ram_calls
            row.bytes = state.ram_put
        elif s.devices[d].kind == VFIO:
            row.initial_sent_ns = own.initial_sent_t
            row.ack_ns = own.ack_t
