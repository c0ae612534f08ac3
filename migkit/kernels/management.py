"""What changes a migration from outside while it runs: at given times, and as a management policy decides; not QEMU's.

A change is made, and a policy asked, in the first pass of the loop at or after its time, and once more behind an
iteration, before the counters are updated. A new max-bandwidth holds from the next check of the budget
(migration/options.c:migrate_params_apply), a new downtime-limit from the next update of the counters. Windows are
jumped over up to the next change or poll.

A management policy sees what query-migrate shows (:data:`migkit.kernels.state.SHOWN`), and answers with one command.
"""

from __future__ import annotations

from migkit.kernels.dirtylimit import dirtylimit_end
from migkit.kernels.guest import stop_writers
from migkit.kernels.memory import remaining
from migkit.kernels.options import kernel
from migkit.kernels.state import (
    CANCEL,
    CANCELLED,
    KEEP,
    MANAGED,
    MANAGEMENT_NUMBERS,
    MANAGEMENT_SETTINGS,
    NEVER,
    SET_DOWNTIME_LIMIT,
    SET_LINK_BANDWIDTH,
    SET_MAX_BANDWIDTH,
    START_POSTCOPY,
    STATUS_ACTIVE,
    STOP_VM,
    VFIO,
)
from migkit.kernels.verdict import begin_first_lap
from migkit.kernels.vfio import COUNTS_CLASSES, vfio_dirty

MOST_DOWNTIME_LIMIT_MS = 2_000_000.0  # migration/options.h: MAX_MIGRATE_DOWNTIME
LEAST_BANDWIDTH, MOST_BANDWIDTH = 1e3, 1e15  # bytes/s, as a scenario may give it: products with it fit into 64 bits
LEAST_WINDOW_BYTES = 10_000  # migration/migration.c: expected-downtime keeps its value in windows that carried less


@kernel
def copy_link(given, link):
    """Begin with the link of the case, field by field, since Numba copies a record byte by byte."""
    link.ns_per_byte, link.slack_ns = given.ns_per_byte, given.slack_ns
    link.fresh_ns_per_byte, link.fresh_slack_ns = given.fresh_ns_per_byte, given.fresh_slack_ns
    link.channels_ns_per_byte, link.channels_slack_ns = given.channels_ns_per_byte, given.channels_slack_ns
    link.channels_fresh_ns_per_byte = given.channels_fresh_ns_per_byte
    link.channels_fresh_slack_ns = given.channels_fresh_slack_ns
    link.fresh_after_pages, link.rtt_ns = given.fresh_after_pages, given.rtt_ns


@kernel
def management_setup(s, managing):
    """Nothing has been changed yet; a verdict is final only when nothing will be."""
    case, state, manager = s.case, s.state, managing.manager
    manager.changed, manager.next_change, manager.seen_syncs = 0, 0, 0
    state.managed_t = NEVER
    if case.change_count == 0 and case.management != MANAGED:
        return
    manager.stops_early = state.stops_early
    state.stops_early = 0
    manager.poll_t = case.management_first_ns if case.management == MANAGED else NEVER
    manager.expected_downtime_ms = case.downtime_limit_ms
    if case.management == MANAGED:
        for k in range(MANAGEMENT_NUMBERS):
            manager.own[k] = 0.0
        for k in range(MANAGEMENT_SETTINGS):
            manager.own[MANAGEMENT_NUMBERS - MANAGEMENT_SETTINGS + k] = case.management_settings[k]
    state.managed_t = manager.poll_t
    if case.change_count > 0:
        state.managed_t = min(state.managed_t, managing.changes[0].at_ns)


@kernel
def manage(s, managing, lap):
    """Make the changes that are due, ask the policy if it is due.

    Returns
    -------
    ended : bool
        Whether the migration was cancelled.
    """
    case, state, manager = s.case, s.state, managing.manager
    if state.postcopy == 1:
        manager.poll_t = NEVER  # the guest is on the destination: there is nothing left to decide
    while manager.next_change < case.change_count and managing.changes[manager.next_change].at_ns <= state.t:
        change = managing.changes[manager.next_change]
        manager.next_change += 1
        if make_change(s, managing, change, lap):
            return True
    if case.management == MANAGED and state.postcopy == 0:
        polled = state.t >= manager.poll_t
        if polled or (case.management_syncs == 1 and state.syncs != manager.seen_syncs):
            query_migrate(s, managing, polled)
            command, value = managing.policy(managing.shown, manager.own)
            if command != KEEP and carry_out(s, managing, lap, command, value, 0):
                return True
            manager.seen_syncs = state.syncs
        if polled:
            manager.poll_t += ((state.t - manager.poll_t) // case.management_poll_ns + 1) * case.management_poll_ns
    elif manager.next_change == case.change_count and case.management != MANAGED:
        state.stops_early = manager.stops_early
    state.managed_t = manager.poll_t
    if manager.next_change < case.change_count:
        state.managed_t = min(state.managed_t, managing.changes[manager.next_change].at_ns)
    return False


@kernel
def make_change(s, managing, change, lap):
    """Make one change at a given time, after the switch to post-copy only that of the link.

    Returns
    -------
    ended : bool
        Whether the migration was cancelled.
    """
    postcopy = s.state.postcopy == 1
    if change.max_bandwidth >= 0 and not postcopy:
        carry_out(s, managing, lap, SET_MAX_BANDWIDTH, float(change.max_bandwidth), 1)
    if change.downtime_limit_ms >= 0.0 and not postcopy:
        carry_out(s, managing, lap, SET_DOWNTIME_LIMIT, change.downtime_limit_ms, 1)
    if change.ns_per_byte > 0.0:
        link = s.link
        link.ns_per_byte, link.slack_ns = change.ns_per_byte, change.slack_ns
        s.state.link_ns_per_byte = change.ns_per_byte
        link.fresh_ns_per_byte, link.fresh_slack_ns = change.fresh_ns_per_byte, change.fresh_slack_ns
        link.channels_ns_per_byte, link.channels_slack_ns = change.channels_ns_per_byte, change.channels_slack_ns
        link.channels_fresh_ns_per_byte = change.channels_fresh_ns_per_byte
        link.channels_fresh_slack_ns = change.channels_fresh_slack_ns
        carry_out(s, managing, lap, SET_LINK_BANDWIDTH, float(change.link_bandwidth), 1)
    if postcopy:
        return False
    return change.command != KEEP and carry_out(s, managing, lap, change.command, 0.0, 1)


@kernel
def query_migrate(s, managing, polled):
    """What QMP shows now (migration/migration.c:fill_source_migration_info)."""
    case, state, manager, shown = s.case, s.state, managing.manager, managing.shown
    shown.total_time_ms = state.t // 1_000_000
    shown.remaining = remaining(s.ram) * case.page_size
    shown.transferred = state.counted
    shown.total = case.ram_pages * case.page_size
    shown.dirty_sync_count = state.sync_count
    per_ms = float(state.window_bytes) / max(1, state.window_ms)
    shown.mbps = per_ms * 8.0 / 1000.0
    if case.vfio_counts == COUNTS_CLASSES:  # 11.1: computed when it is asked for, with what the devices have
        if state.sync_count <= 1 or per_ms <= 0.0:
            manager.expected_downtime_ms = state.downtime_limit_ms
        else:
            manager.expected_downtime_ms = float(state.pending) / per_ms
    elif state.syncs > 0 and state.window_bytes > LEAST_WINDOW_BYTES:
        manager.expected_downtime_ms = float(state.ram_remaining) / per_ms
    shown.expected_downtime_ms = manager.expected_downtime_ms
    shown.downtime_limit_ms = state.downtime_limit_ms
    shown.max_bandwidth = state.max_bandwidth
    shown.throttle = state.throttle
    shown.status = STATUS_ACTIVE
    shown.vm_stopped = 1 if state.stopped_t >= 0 else 0
    shown.polled = 1 if polled else 0
    shown.has_vfio = 0
    for d in range(case.device_count):
        if s.devices[d].kind == VFIO:
            shown.has_vfio = 1


@kernel
def carry_out(s, managing, lap, command, value, planned):
    """Carry out one command, and write it down; whether it cancels the migration.

    What was seen so far no longer tells how the migration ends: the laps of the verdict begin anew, and no window is
    taken to be like the one before.
    """
    state, manager = s.state, managing.manager
    if command == SET_DOWNTIME_LIMIT and 0.0 <= value <= MOST_DOWNTIME_LIMIT_MS:
        state.downtime_limit_ms = value
    elif command == SET_MAX_BANDWIDTH and (value == 0.0 or LEAST_BANDWIDTH <= value <= MOST_BANDWIDTH):
        state.max_bandwidth = int(value)
    elif command == STOP_VM:
        if state.stopped_t >= 0:
            return False
        stop_vm(s)
    elif command == START_POSTCOPY and s.case.postcopy_ram == 1:
        state.postcopy_t = min(state.postcopy_t, state.t)
    elif command != CANCEL and (command != SET_LINK_BANDWIDTH or planned == 0):
        manager.refused = command
        return False
    if manager.changed < managing.events.shape[0]:
        event = managing.events[manager.changed]
        event.t_ns, event.command, event.value, event.planned = state.t, command, value, planned
    manager.changed += 1
    state.events += 1
    begin_first_lap(s, lap)
    if command == CANCEL:
        state.outcome = CANCELLED
        return True
    return False


@kernel
def stop_vm(s):
    """Stop the VM, as the QMP command stop does: nothing is written any more, and what is left is sent as before.

    The loop goes on until it switches over (system/cpus.c:vm_stop).
    """
    state = s.state
    if s.case.dirty_limit == 1:
        dirtylimit_end(s, state.t)
    stop_writers(s)
    state.stopped_t = state.t
    for d in range(s.case.device_count):
        device, own = s.devices[d], s.live[d]
        if device.kind == VFIO:
            own.dirty = vfio_dirty(device, own, state.t)
            own.dirty_t = state.t
            own.dirty_rate = 0.0
