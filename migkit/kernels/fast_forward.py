"""Jumping over windows and iterations that repeat; not QEMU's.

Between two syncs most windows are alike: the same slices of RAM, the same blocks of the devices, the same time. When
a window has begun and ended in the same phase (send buffer, stream buffer, numbers of the policies) and nothing
happened in it but sending, the next one does the same as long as enough is left and the estimate stays above the
threshold. The loop then takes as many windows as that allows in one step; chunks of the dirty log that it reaches on
the way are cleared when each is reached. Iterations in which RAM has nothing to send and a device behind it sends block
after block repeat in the same way within a window. All that is counted is whole, so the result is exactly that of the
step-by-step loop. The expected engine has one number that is not, which part of a page lies in the segment before the
cursor's: it changes where the cursor comes into a segment, not with each call.

A policy of the user's own must give the same answers in windows that repeat; whether it does follows from the fields
that it reads (``policies_repeat`` of the case). A rule when to sync that reads sizes is asked with those at the end of
the jump, and a rule which bandwidth to believe that keeps numbers is asked for every window.
"""

from __future__ import annotations

import numpy as np

from migkit.kernels.memory import alike, remaining, stretch, take
from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.policies import bandwidth
from migkit.kernels.qemu_file import FAR, WINDOW_NS, pages_at_one_rate, window_room
from migkit.kernels.ram import pages_elapsed, zeros_of
from migkit.kernels.savevm import qemu_savevm_state_pending_estimate
from migkit.kernels.state import BANDWIDTH_OWN, BLOCK, KEPT_CALLS, OWN, POLICY_NUMBERS, RAM, SYNC_7_2, SYNC_OWN, VFIO


@inlined_kernel
def fast_forward(s, marks):
    """Jump over what repeats; asked after every pass of the loop."""
    state = s.state
    if state.jumps == 0:
        return
    if state.window_t == state.t:
        # a window has just ended
        state.drained = 0
        if same_phase(s, marks.window):
            jump_windows(s, marks.window)
        remember(s, marks.window)
    elif remaining(s.ram) > 0 or state.ram_pages > 0 or state.exact >= 0:
        state.drained = 0
    else:
        # RAM is empty and only devices send: iterations repeat within the window
        state.drained += 1
        if state.jumps == 2 and state.drained > 1 and same_phase(s, marks.iteration):
            jump_iterations(s, marks.iteration)
        remember(s, marks.iteration)


@inlined_kernel
def remember(s, mark):
    """Note what a window or an iteration begins with; field by field, since Numba copies a record byte by byte."""
    now, old = s.state, mark.state
    old.t = now.t
    old.drained_at = now.drained_at
    old.iteration_t = now.iteration_t
    old.iteration = now.iteration
    old.events = now.events
    old.syncs = now.syncs
    old.buffered = now.buffered
    old.counted = now.counted
    old.bytes_sent = now.bytes_sent
    old.ram_put = now.ram_put
    old.ram_pages_sent = now.ram_pages_sent
    old.ram_zero_pages = now.ram_zero_pages
    old.ram_calls = now.ram_calls
    old.ram_calls_done = now.ram_calls_done
    old.window_drained = now.window_drained
    if s.case.multifd_channels > 0:
        old.queued_normal = now.queued_normal
        old.queued_zero = now.queued_zero
        old.next_channel = now.next_channel
        old.in_flight = now.in_flight
        old.busy_until = now.busy_until
    old.acknowledged = now.acknowledged
    for d in range(now.device_count):
        own, was = s.live[d], mark.live[d]
        was.initial = own.initial
        was.initial_cached = own.initial_cached
        was.stop_cached = own.stop_cached
        was.left = own.left
        was.called = own.called
        was.iteration = own.iteration
        was.starved = own.starved
        was.bytes = own.bytes
    if s.case.policies_remember == 1:
        for k in range(POLICY_NUMBERS):
            old.own[k] = now.own[k]
            old.sync_own[k] = now.sync_own[k]


@inlined_kernel
def same_phase(s, mark):
    """Whether what has just ended began in the phase it ended in, with nothing but sending in it."""
    state, old = s.state, mark.state
    return (
        state.events == old.events
        and state.syncs == old.syncs
        and state.buffered == old.buffered
        and state.drained_at - state.t == old.drained_at - old.t
        and state.iteration_t - state.t == old.iteration_t - old.t
        and state.flags_buffered == 0
        and (s.case.multifd_channels == 0 or same_channels(s.case, state, old))
        and same_policy(s, mark)
    )


@kernel
def same_channels(case, state, old):
    """Whether all channels are idle and the queue holds what it held.

    Whose turn it is decides in which order the channels write a SYNC.
    """
    return (
        state.in_flight == 0
        and old.in_flight == 0
        and state.busy_until <= state.t
        and old.busy_until <= old.t
        and state.queued_normal == old.queued_normal
        and state.queued_zero == old.queued_zero
        and (case.multifd_flush_after_each_section == 0 or state.next_channel == old.next_channel)
    )


@kernel
def same_policy(s, mark):
    """Whether the user's own policies have the numbers they had, and the last iteration reached the same devices."""
    case, state, old = s.case, s.state, mark.state
    if case.policy != OWN and case.sync_policy != SYNC_OWN and case.bandwidth_policy != BANDWIDTH_OWN:
        return True
    arrived = state.flags_missing == 0 and state.ack_t <= state.t
    if state.acknowledged != old.acknowledged or (arrived and state.acknowledged == 0):  # which a policy may read
        return False
    for k in range(POLICY_NUMBERS if case.policies_remember == 1 else 0):
        if state.own[k] != old.own[k] or state.sync_own[k] != old.sync_own[k]:
            return False
    for d in range(case.device_count):
        if (s.live[d].iteration == state.iteration) != (mark.live[d].iteration == old.iteration):
            return False
    return True


@kernel
def device_repeats(device, own, old):
    """Windows for which a device goes on as in the last one."""
    if own.called == old.called:
        return FAR
    if device.kind == BLOCK:
        used = old.left - own.left
        return (own.left - (16 << 20)) // used if used > 0 else FAR
    if own.initial > 0:
        used = old.initial - own.initial
        if used != (own.called - old.called) * device.chunk_bytes:
            return np.int64(0)
        return (own.initial - 1) // used
    return FAR if device.dirty_rate == 0.0 and own.initial == old.initial else np.int64(0)


@inlined_kernel
def jump_windows(s, mark):
    """Repeat the last window as often as it stays the same."""
    case, state, old = s.case, s.state, mark.state
    pages = state.ram_pages_sent - old.ram_pages_sent
    if pages <= 0 or remaining(s.ram) <= pages:
        return
    channels = case.multifd_channels
    timed = state.last_calls <= KEPT_CALLS and channels == 0 and case.xbzrle == 0
    pages_alike, share = alike(s.ram, case, s.regions, timed)
    if 0.0 < share < 1.0 or int(share * 1e15) != state.zero_level:
        # zero pages are rounded call by call, and pages of another cost make another window
        return
    count = min((remaining(s.ram) - 1) // pages, (pages_alike - 1) // pages)
    # the first call after a change of the rate has another time: no window that is jumped over may reach it
    count = min(count, (pages_at_one_rate(case, s.link, old.ram_pages_sent) - 1) // pages - 1)
    if case.xbzrle == 1 and state.ram_pages_sent < case.ram_pages:
        count = min(count, (case.ram_pages - state.ram_pages_sent - 1) // pages - 1)
    if channels > 0:
        count = min(count, (state.tail_pages - 1) // pages)
    count = min(count, repeats(s, mark))
    if count >= 1 and case.bandwidth_policy == BANDWIDTH_OWN and case.policies_remember == 1:
        count = believed_windows(s, mark, count)
    if count < 1:
        return
    state.tail_pages -= count * pages
    if channels > 0:
        state.next_channel = (state.next_channel + count * (state.next_channel - old.next_channel)) % channels
    if timed:
        take_windows(s.ram, case, s.regions, state, old, count, pages, share)
    else:
        take(s.ram, case, count * pages)
    span = state.t - old.t
    counted = state.counted - old.counted
    skip(s, mark, count)
    state.window_t += count * span
    state.mark += count * counted


@kernel
def take_windows(ram, case, regions, state, old, count, pages, share):
    """Take the pages of ``count`` windows, and clear the chunks on the way when each is reached.

    In a window that is like the last one, a page is put when the page at the same place was.
    """
    done, total = np.int64(0), count * pages
    while done < total:
        window = done // pages
        inside = old.ram_pages_sent + done - window * pages
        call = state.last_calls - 1
        while call > 0 and state.call_pages[call] > inside:
            call -= 1
        before = inside - state.call_pages[call]
        zeros = zeros_of(before, share)
        t = state.t + window * (state.t - old.t) + state.call_t[call] - old.t
        t += pages_elapsed(case, state, state.call_backlog[call], before - zeros, zeros)
        found, _ = stretch(ram, case, regions, t)
        found = min(found, total - done)
        take(ram, case, found)
        done += found


@kernel
def believed_windows(s, mark, most):
    """Ask the user's own rule which bandwidth to believe at the end of each window; how many pass before it matters.

    That is where the estimate would fall to the threshold; another threshold ends it too where a policy may read it.
    """
    case, state, old = s.case, s.state, mark.state
    if case.avail_switchover_bandwidth > 0:
        return most
    reads = case.policy == OWN or case.sync_policy == SYNC_OWN
    first = state.threshold
    falls = (state.ram_pages_sent - old.ram_pages_sent) * case.page_size
    estimate = qemu_savevm_state_pending_estimate(s)
    if case.sync_policy == SYNC_7_2:
        estimate = state.ram_bytes
    for d in range(case.device_count):
        if s.devices[d].kind == VFIO:
            falls += s.live[d].bytes - mark.live[d].bytes
    for count in range(most):
        if estimate - (count + 1) * falls <= state.threshold or (reads and state.threshold != first):
            return count
        state.threshold = int(bandwidth(s) * state.downtime_limit_ms)
    return most


@kernel
def jump_iterations(s, mark):
    """Repeat the last iteration, in which RAM had nothing to send, as often as it stays the same within the window."""
    state, old = s.state, mark.state
    span = state.t - old.t
    counted = state.counted - old.counted
    count = (WINDOW_NS - 1 - (state.t - state.window_t)) // span
    if state.max_bandwidth > 0:
        count = min(count, window_room(state) // max(1, counted) - 1)
    if count >= 1:
        count = min(count, repeats(s, mark))
    if count >= 1:
        state.window_drained += count * (state.window_drained - old.window_drained)
        skip(s, mark, count)


@inlined_kernel
def repeats(s, mark):
    """How often the last window or iteration can repeat as far as time, devices and threshold go."""
    case, state, old = s.case, s.state, mark.state
    pages = state.ram_pages_sent - old.ram_pages_sent
    span = state.t - old.t
    count = (min(case.time_limit_ns, state.managed_t) - 1 - state.t) // span
    if case.auto_converge == 1 and case.throttle_timer_ns > 0:
        count = min(count, (state.timer_due - 1 - state.t) // span)
    if case.postcopy_ram == 1:
        count = min(count, (state.postcopy_t - 1 - state.t) // span)
    own = case.policy == OWN or case.sync_policy == SYNC_OWN or case.bandwidth_policy == BANDWIDTH_OWN
    if own and state.ack_t > state.t:
        count = min(count, (state.ack_t - 1 - state.t) // span)  # which a policy may read
    # the estimate falls by what RAM and the devices send and must stay above the threshold
    state.ram_bytes = remaining(s.ram) * case.page_size
    estimate = qemu_savevm_state_pending_estimate(s)
    falls = pages * case.page_size
    above = estimate - state.threshold - 1
    if case.sync_policy == SYNC_7_2:
        above = min(above, state.ram_bytes - state.threshold - 1)
    for d in range(case.device_count):
        if s.devices[d].kind != RAM:
            count = min(count, device_repeats(s.devices[d], s.live[d], mark.live[d]))
            if s.devices[d].kind == VFIO:
                falls += s.live[d].bytes - mark.live[d].bytes
    if falls > 0:
        count = min(count, above // falls)
    elif case.sync_policy != SYNC_OWN or state.exact >= 0 or state.acknowledged == 1:
        return 0
    # else nothing is sent and the user's own rule does not sync: only time passes, until the acknowledgement
    if case.sync_policy == SYNC_OWN and count >= 1:
        count = repeats_without_sync(s, old, estimate, falls, count)
    return count


@kernel
def repeats_without_sync(s, old, estimate, falls, most):
    """How often the last window can repeat before the user's own rule syncs: sizes fall, time passes, it says yes."""
    state = s.state
    ram_bytes, precopy_bytes, before, since = state.ram_bytes, state.precopy_bytes, state.estimate, state.since_sync
    ram_falls = (state.ram_pages_sent - old.ram_pages_sent) * s.case.page_size
    first, last = np.int64(0), most + 1
    probe = most
    while last - first > 1:
        state.estimate = estimate - probe * falls
        state.ram_bytes = ram_bytes - probe * ram_falls
        state.precopy_bytes = precopy_bytes - probe * falls
        state.since_sync = state.t + probe * (state.t - old.t) - state.synced_at
        if s.policies.syncs(state, s.devices, s.live, state.sync_own):
            last = probe
        else:
            first = probe
        probe = (first + last) // 2
    state.ram_bytes, state.precopy_bytes, state.estimate, state.since_sync = ram_bytes, precopy_bytes, before, since
    for k in range(POLICY_NUMBERS):
        state.sync_own[k] = old.sync_own[k]
    return first


@kernel
def skip(s, mark, count):
    """Let ``count`` windows or iterations like the last one pass."""
    state, old = s.state, mark.state
    span = state.t - old.t
    state.t += count * span
    state.drained_at += count * span
    state.iteration_t += count * span
    state.counted += count * (state.counted - old.counted)
    state.ram_put += count * (state.ram_put - old.ram_put)
    state.ram_pages_sent += count * (state.ram_pages_sent - old.ram_pages_sent)
    state.ram_calls_done += count * (state.ram_calls_done - old.ram_calls_done)
    state.ram_zero_pages += count * (state.ram_zero_pages - old.ram_zero_pages)
    state.bytes_sent += count * (state.bytes_sent - old.bytes_sent)
    state.ram_calls += count * (state.ram_calls - old.ram_calls)
    state.iteration += count * (state.iteration - old.iteration)
    for d in range(s.case.device_count):
        own, was = s.live[d], mark.live[d]
        own.initial += count * (own.initial - was.initial)
        own.initial_cached += count * (own.initial_cached - was.initial_cached)
        own.stop_cached += count * (own.stop_cached - was.stop_cached)
        own.left += count * (own.left - was.left)
        own.called += count * (own.called - was.called)
        own.iteration += count * (own.iteration - was.iteration)
        own.starved += count * (own.starved - was.starved)
        own.bytes += count * (own.bytes - was.bytes)
