"""The migration loop (migration/migration.c:migration_thread), once, over either model of RAM."""

from __future__ import annotations

from migkit.kernels.completion import clear_records, fill_report, migration_completion
from migkit.kernels.devices import (
    block_pending,
    block_save_iterate,
    vfio_exact,
    vfio_refresh,
    vfio_save_iterate,
)
from migkit.kernels.link import WINDOW_NS, exceeded, guest_ns, update_counters
from migkit.kernels.memory import fraction, remaining, reset, sync
from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.parameters import BLOCK, RAM, VFIO
from migkit.kernels.policies import goes_on
from migkit.kernels.ram import SECTION_BYTES, ram_save_iterate
from migkit.kernels.verdict import (
    COMPLETED,
    OUTCOME_NONE,
    STOP_COPY_ABOVE_THRESHOLD,
    classify,
    lap_end,
    lap_ends,
    lap_forget,
    lap_turn,
    never_fits,
)
from migkit.kernels.windows import estimate_pending, jump_turns, jump_windows, remember, same_phase

PERIOD_MS = 1000  # rates and throttle are looked at when more than this has passed


@kernel
def setup(ram, case, regions, devices, state, live, seed, replicate):
    """Everything dirty, sizes queried, the first window starts (migration/savevm.c:qemu_savevm_state_setup)."""
    state.t = case.setup_ns
    state.t0 = case.setup_ns
    state.win_t = case.setup_ns
    state.last_eval = case.setup_ns
    state.walk_t = case.setup_ns
    state.walk_end = case.device_count
    state.sync_count = 1
    state.stop_copy = 0
    state.timer_due = case.setup_ns + case.throttle_timer_ns
    reset(ram, case, regions, seed, replicate)
    for d in range(case.device_count):
        own = live[d]
        own.ack_t, own.initial_sent_t, own.first_t = -1, -1, -1
        own.dirty_t = state.t
        if devices[d].kind == VFIO:
            state.stop_copy += devices[d].stop_copy_bytes
            own.initial = devices[d].initial_bytes
            vfio_refresh(case, devices[d], own, state.t)
            state.flags_missing += 1
        elif devices[d].kind == BLOCK:
            own.left = devices[d].initial_bytes
            state.bulk = 1 if own.left > 0 else 0


@kernel
def migration_bitmap_sync(ram, case, regions, state, report):
    """A sync of the loop: the log into the bitmap; rates and throttle when more than a second has passed."""
    state.syncs += 1
    state.period_new += sync(ram, case, regions, state, state.t, state.syncs)
    report.ram_remaining = remaining(ram) * case.page_size
    if (state.t - state.last_eval) // 1_000_000 > PERIOD_MS:
        if case.auto_converge == 1 and state.bulk == 0:
            trigger_throttle(case, state)
        state.xfer_prev = state.counted
        state.last_eval = state.t
        state.period_new = 0


@kernel
def trigger_throttle(case, state):
    """Slow the vCPUs when the guest dirties too much, twice in a row (migration/ram.c:migration_trigger_throttle)."""
    sent = state.counted - state.xfer_prev
    if state.period_new * case.page_size <= sent * case.throttle_trigger_threshold // 100:
        return
    state.hi += 1
    if state.hi < 2:
        return
    state.hi = 0
    if state.throttle == 0:
        throttle = case.cpu_throttle_initial
    else:
        throttle = min(state.throttle + case.cpu_throttle_increment, case.max_cpu_throttle)
    if throttle != state.throttle:
        state.tau0 = guest_ns(state, state.t)
        state.t0 = state.t
        state.throttle = throttle


@kernel
def throttle_timer(ram, case, regions, state, report):
    """The sync every 5 s while auto-converge is on (system/cpu-throttle.c, 9.2 and later)."""
    while state.timer_due <= state.t:
        state.timer_due += case.throttle_timer_ns
    if state.sync_count > 1 and state.sync_count == state.timer_count:
        state.t += case.sync_ns
        migration_bitmap_sync(ram, case, regions, state, report)
        state.sync_count += case.counts_all_syncs
    state.timer_count = state.sync_count


@inlined_kernel
def asks_exactly(ram, case, devices, state, live):
    """Whether this turn runs the exact query; the rule differs between versions (docs/model.md, section 4)."""
    if case.exact_rule == 0:
        return remaining(ram) * case.page_size < state.threshold
    if case.exact_rule == 1:
        return state.estimate <= state.threshold
    if case.exact_rule == 2:
        return state.estimate < state.threshold
    if state.estimate <= state.threshold:
        return True
    precopy = remaining(ram)
    for d in range(case.device_count):
        precopy += live[d].initial_cached + live[d].dirty_cached + live[d].left
    return precopy == 0


@inlined_kernel
def pending_exact(ram, case, regions, devices, state, live, report):
    """The exact query: sync, fresh device sizes; pending bytes (migration/savevm.c:qemu_savevm_state_pending_exact)."""
    syncs = case.ram_exact_always == 1 or remaining(ram) * case.page_size < state.threshold
    if syncs:
        state.t += case.sync_ns
    total = 0
    for d in range(case.device_count):
        if devices[d].kind == VFIO:
            vfio_refresh(case, devices[d], live[d], state.t)
            total += vfio_exact(case, live[d])
        elif devices[d].kind == BLOCK:
            total += block_pending(live[d])
    if syncs:
        migration_bitmap_sync(ram, case, regions, state, report)
        state.sync_count += 1
    return total + remaining(ram) * case.page_size


@inlined_kernel
def can_complete(case, state):
    """Whether what is pending fits the downtime limit and the destination has acknowledged."""
    if case.complete_rule == 1:
        if state.pending > state.threshold:
            return False
    elif state.pending != 0 and state.pending >= state.threshold:
        return False
    if case.switchover_ack == 0:
        return True
    return state.flags_missing == 0 and state.ack_t <= state.t


@inlined_kernel
def account_starvation(case, devices, state, live, until):
    """The devices the last walk left out, and that have initial data, have waited from its start until now."""
    for d in range(state.walk_end, case.device_count):
        if devices[d].kind == VFIO and live[d].initial > 0:
            live[d].starved += until - state.walk_t
    state.walk_end = case.device_count


@inlined_kernel
def savevm_state_iterate(ram, case, regions, devices, state, live, report):
    """One walk of the device list (migration/savevm.c:qemu_savevm_state_iterate)."""
    state.ram_returned = -1
    state.ram_pages = 0
    state.walk_end = 0
    for d in range(case.device_count):
        if exceeded(case, state):
            return
        state.walk_end = d + 1
        own = live[d]
        if own.first_t < 0:
            own.first_t = state.t
        kind = devices[d].kind
        if kind == RAM:
            put = report.bytes_sent
            returned = ram_save_iterate(ram, case, regions, devices, state, live, report)
            own.sent = report.bytes_sent - put - SECTION_BYTES
            state.ram_returned = returned
            report.ram_calls_done += returned
        elif kind == VFIO:
            returned = vfio_save_iterate(case, devices, d, state, live, report)
        else:
            returned = block_save_iterate(case, devices, d, state, live, report)
            state.bulk = 1 if own.left > 0 else 0
        if not goes_on(case.policy, returned):
            return


@inlined_kernel
def iteration_run(ram, case, regions, devices, state, live, report):
    """One turn (migration/migration.c:migration_iteration_run): decide, or walk. True if the migration completes."""
    started = state.t
    state.estimate = estimate_pending(ram, case, devices, live)
    state.exact = -1
    syncs = state.syncs
    if asks_exactly(ram, case, devices, state, live):
        state.exact = pending_exact(ram, case, regions, devices, state, live, report)
    state.synced = state.syncs - syncs
    state.sync_fraction = fraction(ram)
    state.pending = state.exact if state.exact >= 0 else state.estimate
    if can_complete(case, state):
        account_starvation(case, devices, state, live, state.t)
        return True
    account_starvation(case, devices, state, live, started)
    state.walk_t = started
    savevm_state_iterate(ram, case, regions, devices, state, live, report)
    report.turns += 1
    report.steps += 1
    return False


@kernel
def record_turn(ram, case, state, live, timeline, sent, row):
    """Write one turn into the timeline."""
    turn = timeline[row]
    turn.t_ns = state.walk_t
    turn.estimate = state.estimate
    turn.exact = state.exact
    turn.threshold = state.threshold
    turn.pending = state.pending
    turn.synced = state.synced
    turn.throttle = state.throttle
    turn.ram_pages = state.ram_pages
    turn.ram_returned = state.ram_returned
    turn.remaining_pages = remaining(ram)
    turn.sync_count = state.sync_count
    for d in range(case.device_count):
        sent[row, d] = live[d].sent if d < state.walk_end else -1


@kernel
def migrate(ram, case, regions, devices, state, live, report, device_report, scratch, seed, replicate, timeline, sent):
    """One migration, from setup to completion or a verdict.

    Parameters
    ----------
    ram : BitmapRam or ExpectedRam
        Scratch of the engine; its type chooses the engine when this function is compiled.
    case, regions, devices : record, records, records
        From :func:`migkit.kernels.records.pack`.
    state, live : record, records
        Scratch: zeroed here.
    report, device_report : record, records
        Filled here.
    scratch : Scratch
        What the last window and the last lap began with.
    seed, replicate : int
        Key of the draws; the expected engine has none.
    timeline, sent : records, int64 2-D
        One row per turn is written while there are rows; windows are jumped over only when there are none.
    """
    clear_records(case, state, live, report)
    setup(ram, case, regions, devices, state, live, seed, replicate)
    remember(case, state, live, report, scratch.window, scratch.window_devices)
    lap = scratch.lap[0]
    lap_forget(case, state, live, report, lap)
    records = timeline.shape[0] > 0
    drained_turns = 0
    verdict = OUTCOME_NONE
    while verdict == OUTCOME_NONE:
        if state.t >= case.time_limit_ns:
            account_starvation(case, devices, state, live, state.t)
            verdict = classify(case, devices, state, live, report, lap, False)
            break
        if not exceeded(case, state):
            if case.auto_converge == 1 and case.throttle_timer_ns > 0 and state.t >= state.timer_due:
                throttle_timer(ram, case, regions, state, report)
            turns = report.turns
            if iteration_run(ram, case, regions, devices, state, live, report):
                migration_completion(ram, case, regions, devices, state, live, report)
                verdict = COMPLETED
                break
            if turns < timeline.shape[0]:
                record_turn(ram, case, state, live, timeline, sent, turns)
            state.t += case.turn_ns
            lap_turn(ram, case, state, lap)
            if remaining(ram) > 0 or state.ram_pages > 0 or state.exact >= 0 or records:
                drained_turns = 0
            else:
                # RAM is empty and only devices send: turns repeat within the window
                drained_turns += 1
                if drained_turns > 1 and same_phase(state, scratch.turn):
                    jump_turns(ram, case, devices, state, live, report, scratch.turn, scratch.turn_devices)
                remember(case, state, live, report, scratch.turn, scratch.turn_devices)
            if state.synced > 0:
                if lap_ends(ram, case, state, report, lap) and lap_end(case, state, live, report, lap):
                    verdict = classify(case, devices, state, live, report, lap, True)
                if never_fits(ram, case, regions, devices, state, live):
                    lap.never_fits = 1
                    verdict = STOP_COPY_ABOVE_THRESHOLD
                if scratch.stops_early == 0:
                    verdict = OUTCOME_NONE
                if verdict != OUTCOME_NONE:
                    account_starvation(case, devices, state, live, state.t)
                    break
        # migration/migration.c:migration_rate_limit
        if state.t - state.win_t >= WINDOW_NS:
            update_counters(case, state)
            drained_turns = 0
            if not records:
                if same_phase(state, scratch.window):
                    jump_windows(
                        ram, case, regions, devices, state, live, report, scratch.window, scratch.window_devices
                    )
                remember(case, state, live, report, scratch.window, scratch.window_devices)
        if exceeded(case, state):
            state.t = max(state.t, state.win_t + WINDOW_NS + case.wakeup_ns)
    fill_report(case, devices, state, live, report, device_report, verdict)
