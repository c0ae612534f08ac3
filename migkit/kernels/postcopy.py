"""Post-copy (migration/migration.c, migration/postcopy-ram.c): the switch, faults, and the end.

After the switch the guest runs on the destination and nothing becomes dirty any more: each page that was dirty then is
sent once, in the background and where the guest asks for it. Faults are counted in the mean, region by region; a writer
that waits for a page writes nothing (docs/model.md, section 12).
"""

from __future__ import annotations

import numpy as np

from migkit.kernels.dirtylimit import dirtylimit_asleep, dirtylimit_end
from migkit.kernels.guest import guest_ns, writer_ns
from migkit.kernels.jitter import sync_cost
from migkit.kernels.memory import dirty_of, dirty_runs, remaining, rewind, sync
from migkit.kernels.multifd import multifd_send_sync_main
from migkit.kernels.options import kernel
from migkit.kernels.qemu_file import qemu_put_buffer
from migkit.kernels.ram import page_bytes, plain_pages, ram_save_complete, ram_save_pages
from migkit.kernels.savevm import qemu_savevm_state_iterate
from migkit.kernels.state import COMPLETED

RUN_BYTES = 16  # start and length of a run of pages that the destination discards
RUNS_OF_A_COMMAND = 12  # migration/postcopy-ram.c: MAX_DISCARDS_PER_COMMAND
COMMAND_BYTES = 14  # around them: command, version, and the name of the block, pc.ram


@kernel
def postcopy_begins(case, state):
    """Whether post-copy is to start: asked for, and nothing but RAM is left, which may follow.

    migration/migration.c:migration_iteration_run. No device beside RAM takes part (Scenario), so what only pre-copy can
    send is nothing, which is never above the threshold.
    """
    return case.postcopy_ram == 1 and state.t >= state.postcopy_t


@kernel
def postcopy_start(s):
    """Stop the VM, say which pages are stale, send the state of all devices (migration/migration.c:postcopy_start)."""
    case, state, report = s.case, s.state, s.report
    stop_t = state.t
    if case.dirty_limit == 1:
        dirtylimit_end(s, stop_t)
        state.t += dirtylimit_asleep(s, stop_t)
    state.t += case.vm_stop_ns + sync_cost(case, state)
    state.syncs += 1
    sync(s.ram, case, s.regions, s.writers, stop_t, state.syncs)
    state.sync_count += case.counts_all_syncs
    state.ram_remaining = remaining(s.ram) * case.page_size
    stopped_t = stop_t if state.stopped_t < 0 else state.stopped_t
    report.stop_ns = stopped_t
    report.downtime_paused_ns = stop_t - stopped_t
    report.downtime_stop_ns = state.t - stop_t
    rewind(s.ram)
    runs = dirty_runs(s.ram, case)
    size = runs * RUN_BYTES + -(-runs // RUNS_OF_A_COMMAND) * COMMAND_BYTES
    began = state.t
    if case.multifd_channels > 0:
        # migration/ram.c:ram_save_postcopy_prepare; from here on pages travel on the main stream
        multifd_send_sync_main(s)
    qemu_put_buffer(s.link, state, size)
    state.bytes_sent += size
    state.counted += size
    report.downtime_ram_ns = state.t - began
    report.downtime_devices_ns = 0
    report.switchover_bytes = size
    state.t += case.device_state_ns
    report.downtime_state_ns = case.device_state_ns
    discards = int(runs * case.discard_ns)
    state.resume_t = max(state.t, state.drained_at) + s.link.rtt_ns // 2 + discards + case.destination_load_ns
    report.downtime_destination_ns = state.resume_t - state.t
    report.downtime_ns = state.resume_t - stopped_t
    state.postcopy = 1
    plain_pages(case, state)
    state.postcopy_pages = remaining(s.ram)
    state.postcopy_from = state.bytes_sent
    state.faults_t = state.resume_t
    state.max_bandwidth = case.max_postcopy_bandwidth
    state.jumps = 0
    for r in range(case.region_count):
        writer = s.writers.now[r]
        writer.missing = dirty_of(s.ram, s.regions, r)
        writer.faulted = 0.0
        # no throttle on the destination
        writer.tau0 = guest_ns(writer, stop_t)
        writer.t0 = state.resume_t
        writer.gets = writer.needs


@kernel
def fault_ns(s, streams):
    """How long a fault waits for its page, ns: a round trip and the page, behind what the socket holds.

    With ``streams`` the background sends, and the send buffer is full. With postcopy-preempt pages that are asked for
    have a channel of their own, and wait behind nothing (migration/ram.c:ram_save_host_page_urgent).
    """
    case, link = s.case, s.link
    wire = page_bytes(case, 1, 0) * link.ns_per_byte
    each = max(wire, case.page_cost_ns)
    behind = link.slack_ns * (each / wire) if streams == 1 and case.postcopy_preempt == 0 else 0.0
    return link.rtt_ns + each + behind


@kernel
def count_faults(s, until, pages, streams):
    """Faults of the guest on the destination since the last count; whole ones, the rest is carried.

    A writer that would touch ``a`` pages in ``dt``, of which a share ``f`` is missing, and waits ``w`` for each, faults
    ``a f / (1 + a f w / dt)`` times. The share of missing pages falls in all regions as it does in RAM, or faster where
    faults have brought more of a region: no page faults twice.

    Parameters
    ----------
    s : Migration
    until : int, ns
    pages : float
        Missing meanwhile.
    streams : int
        1: the background sends.
    """
    case, state = s.case, s.state
    since = state.faults_t
    if until <= since or state.postcopy_pages == 0:
        return np.int64(0)
    share = pages / state.postcopy_pages
    waits = fault_ns(s, streams) / (until - since)
    total = state.fault_part
    for r in range(case.region_count):
        region, writer = s.regions[r], s.writers.now[r]
        if region.pages > 0 and region.writes_per_s > 0.0:
            worked = writer_ns(s.writers, r, until) - writer_ns(s.writers, r, since)
            left = writer.missing - writer.faulted
            touched = region.writes_per_s * (worked * 1e-9) * (min(writer.missing * share, left) / region.pages)
            faults = min(touched / (1.0 + touched * waits), left)
            writer.faulted += faults
            total += faults
    count = np.int64(total)
    state.fault_part = total - count
    state.faults_t = until
    return count


@kernel
def postcopy_iteration_run(s):
    """One pass of the loop after the switch (migration/migration.c:migration_iteration_run).

    Up to 10.0 it ends when the rest fits the downtime limit, from 10.1 on when nothing is left.

    Returns
    -------
    completed : bool
    """
    case, state = s.case, s.state
    before = remaining(s.ram)
    state.ram_bytes = before * case.page_size
    state.estimate, state.pending, state.exact = state.ram_bytes, state.ram_bytes, -1
    state.synced = 0
    if before == 0 or (case.postcopy_rule == 0 and state.pending < state.threshold):
        postcopy_completion(s)
        return True
    state.iteration_t = state.t
    qemu_savevm_state_iterate(s)
    state.steps += 1
    state.effort += 2 + case.device_count
    state.t += case.iteration_ns
    state.faults += min(before, count_faults(s, state.t, 0.5 * (before + remaining(s.ram)), 1))
    return False


@kernel
def postcopy_pull(s, until):
    """Send the pages that the guest asks for while the rate limit sleeps, past the limit.

    A request wakes the thread (migration/ram.c:ram_save_queue_pages, migration_make_urgent_request).
    """
    state = s.state
    missing = remaining(s.ram)
    count = min(missing, count_faults(s, until, float(missing), 0))
    if count == 0:
        return
    state.faults += count
    size = ram_save_pages(s, state.t, count)
    state.bytes_sent += size
    state.counted += size


@kernel
def postcopy_completion(s):
    """Send what is left, without a limit, and wait until the destination says so.

    migration/migration.c:migration_completion_postcopy, qemu_savevm_state_complete_postcopy
    """
    state, report = s.state, s.report
    before = remaining(s.ram)
    if before > 0:
        state.bytes_sent += ram_save_complete(s, state.t)
        state.faults += min(before, count_faults(s, state.t, 0.5 * before, 1))
    half = s.link.rtt_ns // 2
    whole = max(max(state.t, state.drained_at) + half, state.resume_t)
    state.t = whole + s.link.rtt_ns - half
    report.postcopy_ns = whole - state.resume_t
    state.outcome = COMPLETED
