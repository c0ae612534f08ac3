"""Jumping over windows and turns that repeat.

Between two syncs most windows are alike: the same slices of RAM, the same blocks of the devices, the same time. When
a window has begun and ended in the same phase (send buffer, stream buffer) and nothing happened in it but sending, the
next one does the same as long as enough is left and the estimate stays above the threshold. The loop then takes as
many windows as that allows in one step. Turns in which RAM has nothing to send and a device behind it sends block
after block repeat in the same way within a window. Every quantity is an integer, so the result is that of the
step-by-step loop.
"""

from __future__ import annotations

import numpy as np

from migkit.kernels.devices import block_pending, vfio_estimate
from migkit.kernels.link import FAR, WINDOW_NS, WINDOWS_PER_S, pages_at_one_rate
from migkit.kernels.memory import alike, remaining, take
from migkit.kernels.options import kernel
from migkit.kernels.parameters import BLOCK, RAM, VFIO

FIELDS = 13
T, COUNTED, PAGES, ZERO, BYTES, CALLS, TURNS, EVENTS, SYNCS, BACKLOG, BUFFERED, WALK, DONE = range(FIELDS)
DEVICE_FIELDS = 8
INITIAL, INITIAL_CACHED, DIRTY_CACHED, STOP_CACHED, LEFT, CALLED, STARVED, SENT = range(DEVICE_FIELDS)


@kernel
def estimate_pending(ram, case, devices, live):
    """Pending bytes from the caches (migration/savevm.c:qemu_savevm_state_pending_estimate)."""
    total = 0
    for d in range(case.device_count):
        kind = devices[d].kind
        if kind == RAM:
            total += remaining(ram) * case.page_size
        elif kind == VFIO:
            total += vfio_estimate(case, live[d])
        else:
            total += block_pending(live[d])
    return total


@kernel
def remember(case, state, live, report, scalars, rows):
    """Note what a window begins with."""
    scalars[T] = state.t
    scalars[COUNTED] = state.counted
    scalars[PAGES] = report.ram_pages_sent
    scalars[ZERO] = report.ram_zero_pages
    scalars[BYTES] = report.bytes_sent
    scalars[CALLS] = report.ram_calls
    scalars[TURNS] = report.turns
    scalars[EVENTS] = state.events
    scalars[SYNCS] = state.syncs
    scalars[BACKLOG] = state.drained_at - state.t
    scalars[BUFFERED] = state.buffered
    scalars[WALK] = state.walk_t - state.t
    scalars[DONE] = report.ram_calls_done
    for d in range(case.device_count):
        own = live[d]
        rows[d, INITIAL] = own.initial
        rows[d, INITIAL_CACHED] = own.initial_cached
        rows[d, DIRTY_CACHED] = own.dirty_cached
        rows[d, STOP_CACHED] = own.stop_cached
        rows[d, LEFT] = own.left
        rows[d, CALLED] = own.called
        rows[d, STARVED] = own.starved
        rows[d, SENT] = own.bytes


@kernel
def same_phase(state, scalars):
    """Whether the window (or turn) just ended began in the phase it ended in, with nothing but sending in it."""
    return (
        state.events == scalars[EVENTS]
        and state.syncs == scalars[SYNCS]
        and state.buffered == scalars[BUFFERED]
        and state.drained_at - state.t == scalars[BACKLOG]
        and state.walk_t - state.t == scalars[WALK]
        and state.flags_buffered == 0
    )


@kernel
def device_windows(case, device, own, row):
    """Windows for which a device goes on as in the last one."""
    if own.called == row[CALLED]:
        return FAR
    if device.kind == BLOCK:
        used = row[LEFT] - own.left
        return (own.left - (16 << 20)) // used if used > 0 else FAR
    if own.initial > 0:
        used = row[INITIAL] - own.initial
        if used != (own.called - row[CALLED]) * device.chunk_bytes:
            return np.int64(0)
        return (own.initial - 1) // used
    return FAR if device.dirty_rate == 0.0 and own.initial == row[INITIAL] else np.int64(0)


@kernel
def jump_windows(ram, case, regions, devices, state, live, report, scalars, rows):
    """Repeat the last window as often as it stays the same."""
    pages = report.ram_pages_sent - scalars[PAGES]
    if pages <= 0:
        return
    pages_alike, share = alike(ram, case, regions)
    if 0.0 < share < 1.0 or int(share * 1e15) != state.zero_level:
        # zero pages are rounded call by call, and pages of another cost make another window
        return
    count = min((remaining(ram) - 1) // pages, (pages_alike - 1) // pages)
    # the first call after a change of the rate has another time: no window that is jumped over may reach it
    count = min(count, (pages_at_one_rate(case, scalars[PAGES]) - 1) // pages - 1)
    count = min(count, repeats(ram, case, devices, state, live, report, scalars, rows))
    if count < 1:
        return
    take(ram, case, count * pages)
    span = state.t - scalars[T]
    counted = state.counted - scalars[COUNTED]
    skip(case, state, live, report, scalars, rows, count)
    state.win_t += count * span
    state.mark += count * counted


@kernel
def jump_turns(ram, case, devices, state, live, report, scalars, rows):
    """Repeat the last turn, in which RAM had nothing to send, as often as it stays the same within the window."""
    span = state.t - scalars[T]
    counted = state.counted - scalars[COUNTED]
    count = (WINDOW_NS - 1 - (state.t - state.win_t)) // span
    if case.max_bandwidth > 0:
        room = case.max_bandwidth // WINDOWS_PER_S - (state.counted - state.mark)
        count = min(count, room // max(1, counted) - 1)
    if count >= 1:
        count = min(count, repeats(ram, case, devices, state, live, report, scalars, rows))
    if count >= 1:
        skip(case, state, live, report, scalars, rows, count)


@kernel
def repeats(ram, case, devices, state, live, report, scalars, rows):
    """How often the last window or turn can repeat as far as time, devices and threshold go."""
    pages = report.ram_pages_sent - scalars[PAGES]
    span = state.t - scalars[T]
    count = (case.time_limit_ns - 1 - state.t) // span
    if case.auto_converge == 1 and case.throttle_timer_ns > 0:
        count = min(count, (state.timer_due - 1 - state.t) // span)
    # the estimate falls by what RAM and the devices send and must stay above the threshold
    falls = pages * case.page_size
    above = estimate_pending(ram, case, devices, live) - state.threshold - 1
    if case.exact_rule == 0:
        above = min(above, remaining(ram) * case.page_size - state.threshold - 1)
    for d in range(case.device_count):
        if devices[d].kind != RAM:
            count = min(count, device_windows(case, devices[d], live[d], rows[d]))
            if devices[d].kind == VFIO:
                falls += live[d].bytes - rows[d, SENT]
    return min(count, above // falls) if falls > 0 else 0


@kernel
def skip(case, state, live, report, scalars, rows, count):
    """Let ``count`` windows or turns like the last one pass."""
    span = state.t - scalars[T]
    state.t += count * span
    state.drained_at += count * span
    state.walk_t += count * span
    state.counted += count * (state.counted - scalars[COUNTED])
    report.ram_pages_sent += count * (report.ram_pages_sent - scalars[PAGES])
    report.ram_calls_done += count * (report.ram_calls_done - scalars[DONE])
    report.ram_zero_pages += count * (report.ram_zero_pages - scalars[ZERO])
    report.bytes_sent += count * (report.bytes_sent - scalars[BYTES])
    report.ram_calls += count * (report.ram_calls - scalars[CALLS])
    report.turns += count * (report.turns - scalars[TURNS])
    for d in range(case.device_count):
        own = live[d]
        own.initial += count * (own.initial - rows[d, INITIAL])
        own.initial_cached += count * (own.initial_cached - rows[d, INITIAL_CACHED])
        own.stop_cached += count * (own.stop_cached - rows[d, STOP_CACHED])
        own.left += count * (own.left - rows[d, LEFT])
        own.called += count * (own.called - rows[d, CALLED])
        own.starved += count * (own.starved - rows[d, STARVED])
        own.bytes += count * (own.bytes - rows[d, SENT])
