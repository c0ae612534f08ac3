"""RAM (migration/ram.c): what one call sends and how long it takes, bitmap syncs, and the throttle.

Computed, not iterated page by page: the first of budget, the 51 ms rule at its 64-page checks, and pages left.
"""

from __future__ import annotations

import numpy as np

from migkit.kernels.dirtylimit import dirtylimit_emptied, migration_dirty_limit_guest
from migkit.kernels.guest import set_throttle
from migkit.kernels.jitter import SLICES, sync_cost, varied
from migkit.kernels.memory import remaining, stretch, sync, take
from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.qemu_file import COPY_BUFFER, elapsed_ns, pages_at_one_rate, put, set_page_rate, window_room
from migkit.kernels.state import KEPT_CALLS, NO_LIMIT, PAGE_HEADER

SLICE_NS = 51_000_000  # MAX_WAIT 50 ms in whole milliseconds: the call stops when more than 50 have passed
SURE_NS = 2.0  # a guess so far from a check is on the right side of it: rounding takes less than a nanosecond
CHECK_PAGES = 64  # the clock is read after pages 1, 65, 129, ...
SECTION_BYTES = 18  # section header, end mark, footer
ZERO_PAGE_BYTES = 9
PERIOD_MS = 1000  # rates and throttle are evaluated when more than this has passed


@kernel
def page_bytes(case, normal, zero):
    """Bytes on the wire of normal and zero pages."""
    return normal * (case.page_size + PAGE_HEADER) + zero * ZERO_PAGE_BYTES


@kernel
def page_cpu(case, state, normal, zero):
    """Nanoseconds of the migration thread for normal and zero pages, in this call."""
    return int((normal * state.page_cpu_ns + zero * case.zero_cost_ns) * state.pace)


@kernel
def put_bytes(state, normal, zero):
    """The same for the pages that are put now, which XBZRLE may encode."""
    return normal * state.page_put + zero * ZERO_PAGE_BYTES


@inlined_kernel
def pages_elapsed(case, state, backlog, normal, zero):
    """Nanoseconds since the start of the call when these pages have been put."""
    size, cpu = put_bytes(state, normal, zero), page_cpu(case, state, normal, zero)
    return elapsed_ns(state.page_ns_per_byte, state.page_slack_ns, backlog, size, cpu)


@inlined_kernel
def put_pages(case, state, normal, zero):
    """Put pages on the link; their bytes."""
    size = put_bytes(state, normal, zero)
    put(state, state.page_ns_per_byte, state.page_slack_ns, size, page_cpu(case, state, normal, zero))
    return size


@kernel
def zeros_of(pages, share):
    """Zero pages among ``pages`` of a zero share, to the nearest whole page."""
    return int(pages * share + 0.5)


@inlined_kernel
def pages_until_above(state, room, normal, zero, share):
    """Pages of this stretch after which all pages of the call have more than ``room`` bytes."""
    room -= put_bytes(state, normal, zero)
    if room < 0:
        return 0
    size = state.page_put
    if share <= 0.0:
        return room // size + 1
    pages = max(0, int(room / (size * (1.0 - share) + ZERO_PAGE_BYTES * share)) - 2)
    while put_bytes(state, pages - zeros_of(pages, share), zeros_of(pages, share)) <= room:
        pages += 1
    return pages


@inlined_kernel
def flushes(case, state, held, copied, share):
    """When the stream is flushed (migration/qemu-file.c:add_to_iovec, add_buf_to_iovec): after so many pages.

    A normal page is a piece of its own beside its header, and 32 of them fill the list of pieces; headers and zero
    pages are copied, and 32 KiB of them fill the buffer. Once XBZRLE has begun all pages are copied.

    Parameters
    ----------
    held, copied : int
        Normal pages and copied bytes since the last flush.
    share : float
        Zero pages of this stretch.

    Returns
    -------
    first, step : float
        Pages of this stretch to the first flush, and from there to the next one; whole numbers for shares 0 and 1.
    """
    each = state.page_copied * (1.0 - share) + ZERO_PAGE_BYTES * share
    first, step = np.ceil((COPY_BUFFER - copied) / each), np.ceil(COPY_BUFFER / each)
    if share < 1.0 and state.page_copied == PAGE_HEADER:
        first = min(first, (case.flush_pages - held) / (1.0 - share))
        step = min(step, case.flush_pages / (1.0 - share))
    return max(1.0, first), step


@inlined_kernel
def count_flushed(case, state, normal, zero, share, count, first, step, flushed, held, copied):
    """What counts once ``count`` pages of this stretch are put behind ``normal`` and ``zero`` ones.

    Returns
    -------
    flushed, held, copied : int
        Bytes that count; normal pages and copied bytes since the last flush.
    """
    zeros = zeros_of(count, share)
    if case.flush_pages == 1:
        flushed = put_bytes(state, normal + count - zeros, zero + zeros)
    elif count >= first:
        last = np.int64(np.ceil(first + np.floor((count - first) / step) * step))
        last_zero = zeros_of(last, share)
        flushed = put_bytes(state, normal + last - last_zero, zero + last_zero) + state.buffered
        held = count - zeros - (last - last_zero)
        copied = held * state.page_copied + (zeros - last_zero) * ZERO_PAGE_BYTES
    else:
        held += count - zeros
        copied += (count - zeros) * state.page_copied + zeros * ZERO_PAGE_BYTES
    return flushed, held, copied


@inlined_kernel
def first_flush(case, state, backlog, normal, zero, share, first):
    """When the first flush of this stretch leaves, and when the link has carried it, ns."""
    ahead = np.int64(np.ceil(first))
    ahead_zero = zeros_of(ahead, share)
    n, z = normal + ahead - ahead_zero, zero + ahead_zero
    leave_t = state.t + pages_elapsed(case, state, backlog, n, z)
    wire = int(put_bytes(state, n, z) * state.page_ns_per_byte)
    return leave_t, max(state.t + backlog + wire, leave_t)


@inlined_kernel
def begin_pages(s, number):
    """What holds for the pages of a call or of a part of it: pace, link, encoding; ``number`` is that of the slice."""
    state = s.state
    state.pace = varied(s.case, state, SLICES, number)
    set_page_rate(s.case, s.link, state)
    if s.case.xbzrle == 1:
        set_page_encoding(s.case, state)


@inlined_kernel
def pages_until_exceeded(case, state, room, normal, zero, share, first, step):
    """Pages of this stretch after which the budget is used up.

    ``room`` is what the window had left when the call began, less what the stream held then. Up to 8.0 each page counts
    when it is put; from 8.2 on, everything put so far counts at every flush.
    """
    if case.flush_pages == 1:
        return pages_until_above(state, room, normal, zero, share)
    size = state.page_put * (1.0 - share) + ZERO_PAGE_BYTES * share
    missing = room - put_bytes(state, normal, zero)
    further = max(0.0, np.floor((missing - first * size) / (step * size)) + 1.0)
    return np.int64(np.ceil(first + further * step))


@inlined_kernel
def pages_until_check(case, state, backlog, normal, zero, share, most):
    """Pages of this stretch after which a check of the clock ends the call; more than ``most`` if none does.

    The elapsed time is the larger of two lines, the thread's and the wire's; the first of them to reach 51 ms gives a
    guess. Where that lies close to a check it is corrected by whole checks.
    """
    done = normal + zero
    per_page_cpu = (state.page_cpu_ns * (1.0 - share) + case.zero_cost_ns * share) * state.pace
    wire_bytes = state.page_put * (1.0 - share) + ZERO_PAGE_BYTES * share
    per_page_wire = wire_bytes * state.page_ns_per_byte
    cpu = page_cpu(case, state, normal, zero)
    ready = backlog + put_bytes(state, normal, zero) * state.page_ns_per_byte - state.page_slack_ns
    guess, per_page = 1e18, 0.0
    if per_page_cpu > 0.0:
        guess, per_page = (SLICE_NS - cpu) / per_page_cpu, per_page_cpu
    if per_page_wire > 0.0:
        reached = (SLICE_NS - ready) / per_page_wire
        if reached < guess:
            guess, per_page = reached, per_page_wire
    first = (done + CHECK_PAGES - 1) // CHECK_PAGES  # first check after page 64 k + 1 > done
    k = max(first, (done + int(min(guess, float(most))) - 1) // CHECK_PAGES + 1)
    pages = k * CHECK_PAGES + 1 - done
    before, behind = (guess - (pages - CHECK_PAGES)) * per_page, (pages - guess) * per_page
    if share == 0.0 and max(cpu, ready) < SLICE_NS and before > SURE_NS and (pages > most or behind > SURE_NS):
        return pages
    while k > first and check_stops(case, state, backlog, normal, zero, share, k - 1):
        k -= 1
    while k * CHECK_PAGES + 1 - done <= most and not check_stops(case, state, backlog, normal, zero, share, k):
        k += 1
    return k * CHECK_PAGES + 1 - done


@inlined_kernel
def pages_of_slice(case, state, backlog, normal, zero, share, most):
    """As :func:`pages_until_check`; what a call begins with is often what the last one began with.

    Two divisions and what waits for them take as long as the rest of such a call.
    """
    begins = normal + zero == 0 and case.jitter == 0.0 and case.xbzrle == 0
    same = state.slice_pages > 0 and state.events == state.slice_events
    if begins and same and backlog == state.slice_backlog and share == state.slice_share:
        return state.slice_pages
    stop = pages_until_check(case, state, backlog, normal, zero, share, most)
    if begins and stop <= most:
        state.slice_pages, state.slice_events = stop, state.events
        state.slice_backlog, state.slice_share = backlog, share
    return stop


@inlined_kernel
def check_stops(case, state, backlog, normal, zero, share, k):
    """Whether check ``k`` of the call, after page ``64 k + 1``, finds 51 ms gone."""
    pages = k * CHECK_PAGES + 1 - normal - zero
    zeros = zeros_of(pages, share)
    return pages_elapsed(case, state, backlog, normal + pages - zeros, zero + zeros) >= SLICE_NS


@kernel
def release_flags(s, leave_t, drained_at):
    """Let the flags in the stream buffer leave: their acknowledgements are due after transfer, load, round trip."""
    state = s.state
    for d in range(state.device_count):
        own = s.live[d]
        if own.flag == 1:
            own.flag = 2
            state.flags_missing -= 1
            state.flags_buffered -= 1
            due = max(drained_at, leave_t) + s.devices[d].load_ns + s.link.rtt_ns
            own.progress_sync = state.syncs
            own.ack_t = due
            state.ack_t = max(state.ack_t, due)
            state.events += 1


@kernel
def plain_pages(case, state):
    """Pages are sent as they are."""
    state.page_put, state.page_copied = case.page_size + PAGE_HEADER, PAGE_HEADER
    if case.compressed_page_bytes > 0:
        # migration/ram.c:save_compress_page: what a worker has made of it is copied into the stream as a whole
        state.page_put, state.page_copied = case.compressed_page_bytes, case.compressed_page_bytes
    state.page_cpu_ns = case.page_cost_ns


@kernel
def set_page_encoding(case, state):
    """What a normal page takes now that it may be encoded (migration/ram.c:ram_save_page, save_xbzrle_page).

    XBZRLE begins where the search first passes the end of RAM. A page that is in the cache is encoded, any other is
    copied into it.
    """
    if state.ram_pages_sent < case.ram_pages or state.postcopy == 1:
        return
    share = case.xbzrle_share * state.xbzrle_cover
    whole = case.page_size + PAGE_HEADER
    size = int(whole - share * (whole - case.xbzrle_page_bytes) + 0.5)
    if size != state.page_put or state.page_copied != size:
        state.events += 1
    state.page_put, state.page_copied = size, size
    state.page_cpu_ns = case.page_cost_ns + share * (case.xbzrle_page_ns - case.page_cost_ns)


@kernel
def cover_cache(case, state):
    """A sync ends a pass: the pages that it has sent are in the cache, where that has room."""
    sent = state.ram_pages_sent - max(state.xbzrle_seen, case.ram_pages)
    state.xbzrle_seen = state.ram_pages_sent
    if sent > 0 and case.xbzrle_pages > 0:
        state.xbzrle_cover += (1.0 - state.xbzrle_cover) * min(1.0, sent / case.xbzrle_pages)


@inlined_kernel
def note_call(state, backlog):
    """Note when a call begins, for jumps over windows like this one."""
    if state.window_calls < KEPT_CALLS:
        state.call_t[state.window_calls] = state.t
        state.call_pages[state.window_calls] = state.ram_pages_sent
        state.call_backlog[state.window_calls] = backlog
    state.window_calls += 1


@inlined_kernel
def ram_save_iterate(s, most_bytes):
    """One call of RAM's handler (migration/ram.c:ram_save_iterate).

    Parameters
    ----------
    s : Migration
    most_bytes : int
        The call ends as soon as it has put as many bytes of pages; a departure from QEMU, for policies.

    Returns
    -------
    returned : int
        1 if the whole bitmap was searched and nothing was left, else 0.
    """
    case, state = s.case, s.state
    if state.bulk == 1:
        # migration/ram.c up to 9.0: nothing is sent while a block device is in its bulk phase
        release_flags(s, state.t, state.drained_at)
        finish_section(state, np.int64(0), np.int64(0))
        return 0
    begin_pages(s, state.ram_calls)
    backlog = max(state.drained_at - state.t, 0)
    note_call(state, backlog)
    limited = state.max_bandwidth > 0
    room = window_room(state)
    flushed = 0  # bytes of this call that count already
    held, copied = np.int64(0), state.buffered  # normal pages and copied bytes since the last flush
    first, step = 1.0, 1.0
    normal, zero = np.int64(0), np.int64(0)  # of one type, so that what they are passed to is compiled once
    flag_t = -1
    flag_drained = 0
    returned = 1
    while True:
        if limited and flushed > room:
            returned = 0
            break
        if remaining(s.ram) == 0:
            break
        start = state.t + pages_elapsed(case, state, backlog, normal, zero)
        pages, share = stretch(s.ram, case, s.regions, start)
        level = int(share * 1e15)
        if level != state.zero_level:
            # pages of another cost: the next window will not be like the last one
            state.zero_level = level
            state.events += 1
        stop = pages_of_slice(case, state, backlog, normal, zero, share, pages)
        over = pages + 1
        if case.flush_pages > 1 and (limited or state.flags_buffered > 0):
            first, step = flushes(case, state, held, copied, share)
        if limited:
            over = pages_until_exceeded(case, state, room - state.buffered, normal, zero, share, first, step)
        taken = pages + 1
        if most_bytes < NO_LIMIT:
            taken = pages_until_above(state, most_bytes - 1, normal, zero, share)
        count = min(min(pages, taken), min(stop, over))
        zeros = zeros_of(count, share)
        if state.flags_buffered > 0 and flag_t < 0 and count >= first:
            flag_t, flag_drained = first_flush(case, state, backlog, normal, zero, share, first)
        take(s.ram, case, count)
        if limited or state.flags_buffered > 0:
            flushed, held, copied = count_flushed(
                case, state, normal, zero, share, count, first, step, flushed, held, copied
            )
        normal += count - zeros
        zero += zeros
        if count == stop or count == taken:  # noqa: SIM109 (a tuple is compiled to a loop)
            returned = 0
            break
    size = put_pages(case, state, normal, zero)
    if state.flags_buffered > 0:
        if flag_t < 0:
            flag_t, flag_drained = state.t, state.drained_at
        release_flags(s, flag_t, flag_drained)
    finish_section(state, size, normal + zero)
    state.ram_zero_pages += zero
    state.ram_pages += normal + zero
    return returned


@inlined_kernel
def finish_section(state, size, pages):
    """End of a RAM call: everything buffered is flushed and counted."""
    state.counted += size + state.buffered + SECTION_BYTES
    state.buffered = 0
    state.bytes_sent += size + SECTION_BYTES
    state.ram_put += size
    state.ram_pages_sent += pages
    state.ram_calls += 1


@kernel
def ram_save_complete(s, stop_t):
    """Send all dirty pages, without a rate limit (migration/ram.c:ram_save_complete); the bytes."""
    return ram_save_pages(s, stop_t, remaining(s.ram))


@kernel
def ram_save_pages(s, t, count):
    """Send ``count`` dirty pages from the cursor on, without a rate limit; the bytes."""
    case, state = s.case, s.state
    last = remaining(s.ram) - count
    normal, zero, size = np.int64(0), np.int64(0), np.int64(0)
    begin_pages(s, state.ram_calls)
    most = pages_at_one_rate(case, s.link, state.ram_pages_sent)
    while remaining(s.ram) > last:
        if normal + zero == most:
            size += put_pages(case, state, normal, zero)
            normal, zero = np.int64(0), np.int64(0)
            set_page_rate(case, s.link, state)
            most = pages_at_one_rate(case, s.link, state.ram_pages_sent)
        pages, share = stretch(s.ram, case, s.regions, t)
        pages = min(min(pages, most - normal - zero), remaining(s.ram) - last)
        zeros = zeros_of(pages, share)
        take(s.ram, case, pages)
        normal += pages - zeros
        zero += zeros
        state.ram_pages_sent += pages
        state.ram_zero_pages += zeros
    size += put_pages(case, state, normal, zero)
    state.ram_put += size
    return size


@inlined_kernel
def migration_bitmap_sync(s):
    """A sync of the loop (migration/ram.c:migration_bitmap_sync): log into bitmap, and once a second the throttle."""
    case, state = s.case, s.state
    state.syncs += 1
    state.window_syncs += 1
    if case.dirty_limit == 1:
        dirtylimit_emptied(s)
    if case.xbzrle == 1:
        cover_cache(case, state)
    new = sync(s.ram, case, s.regions, s.writers, state.t, state.syncs)
    state.period_new += new
    state.sync_found = new * case.page_size
    state.sync_span, state.synced_at = state.t - state.synced_at, state.t
    state.effort += s.ram.head.effort
    state.ram_remaining = remaining(s.ram) * case.page_size
    if case.management_syncs == 1:
        state.managed_t = 0  # the event MIGRATION_PASS
    if (state.t - state.last_eval) // 1_000_000 > PERIOD_MS:
        if case.auto_converge + case.dirty_limit > 0 and state.bulk == 0:
            migration_trigger_throttle(s)
        state.xfer_prev = state.counted
        state.last_eval = state.t
        state.period_new = 0


@kernel
def migration_trigger_throttle(s):
    """Slow the vCPUs when the guest dirties too much, twice in a row (migration/ram.c:migration_trigger_throttle).

    auto-converge and dirty-limit exclude each other.
    """
    case, state = s.case, s.state
    sent = state.counted - state.xfer_prev
    if state.period_new * case.page_size <= sent * case.throttle_trigger_threshold // 100:
        return
    state.high += 1
    if state.high < 2:
        return
    state.high = 0
    if case.dirty_limit == 1:
        migration_dirty_limit_guest(s)
    elif state.throttle == 0:
        set_throttle(s, case.cpu_throttle_initial)
    else:
        increment = case.cpu_throttle_increment
        if case.cpu_throttle_tailslow == 1:
            # migration/ram.c:mig_throttle_guest_down
            left = 100 - state.throttle
            trigger = float(sent * case.throttle_trigger_threshold // 100)
            increment = min(increment, left - int(left * (trigger / (state.period_new * case.page_size))))
        set_throttle(s, min(state.throttle + increment, case.max_cpu_throttle))


@inlined_kernel
def cpu_throttle_dirty_sync_timer_tick(s):
    """The sync every 5 s while auto-converge is on (system/cpu-throttle.c, 9.2 and later), when it is due."""
    case, state = s.case, s.state
    if case.auto_converge == 0 or case.throttle_timer_ns == 0 or state.t < state.timer_due or state.postcopy == 1:
        return
    while state.timer_due <= state.t:
        state.timer_due += case.throttle_timer_ns
    if state.sync_count > 1 and state.sync_count == state.timer_count:
        state.t += sync_cost(case, state)
        migration_bitmap_sync(s)
        state.sync_count += case.counts_all_syncs
    state.timer_count = state.sync_count
