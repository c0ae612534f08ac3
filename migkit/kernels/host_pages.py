"""RAM in huge pages (migration/ram.c:ram_save_host_page): a call sends host page after host page, and may sleep in one.

All dirty pages of a host page go in one go. After each of them the rate limit has its turn: a window may end, and the
thread may sleep, within the call. The budget ends a call only where a host page ends, and the clock is read after the
host pages 1, 65, 129, ... of a call: it lasts long.

A call is computed in *parts*, from one turn of the rate limit that matters to the next.
"""

from __future__ import annotations

import numpy as np

from migkit.kernels.faults import count_faults
from migkit.kernels.memory import end_host_page, host_pages_ahead, remaining, stretch, take
from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.qemu_file import WINDOW_NS, migration_rate_exceeded, window_room
from migkit.kernels.ram import (
    CHECK_PAGES,
    SLICE_NS,
    begin_pages,
    count_flushed,
    finish_section,
    first_flush,
    flushes,
    pages_elapsed,
    pages_until_above,
    pages_until_exceeded,
    put_pages,
    release_flags,
    zeros_of,
)
from migkit.kernels.rate_limit import migration_rate_limit
from migkit.kernels.state import NO_LIMIT


@kernel
def pages_until_elapsed(case, state, backlog, normal, zero, share, time_ns, most):
    """Pages of this stretch after which so much time of the part has passed; more than ``most`` if it has not then."""
    zeros = zeros_of(most, share)
    if pages_elapsed(case, state, backlog, normal + most - zeros, zero + zeros) < time_ns:
        return most + 1
    early, late = np.int64(0), most
    while late - early > 1:
        pages = (early + late) // 2
        zeros = zeros_of(pages, share)
        if pages_elapsed(case, state, backlog, normal + pages - zeros, zero + zeros) < time_ns:
            early = pages
        else:
            late = pages
    return late


@inlined_kernel
def end_part(s, normal, zero, flushed):
    """Put the pages of a part; of their bytes ``flushed`` count already."""
    state = s.state
    size = put_pages(s.case, state, normal, zero)
    state.buffered += size - flushed
    state.bytes_sent += size
    state.ram_put += size
    state.ram_pages_sent += normal + zero
    state.ram_zero_pages += zero
    state.ram_pages += normal + zero


@kernel
def ram_save_host_pages(s, most_bytes):
    """One call of RAM's handler where huge pages back the guest; as :func:`migkit.kernels.ram.ram_save_iterate`.

    It ends at the time limit too, as the loop does.

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
    began, put_before = state.t, state.ram_put
    held, copied = np.int64(0), state.buffered  # normal pages and copied bytes since the last flush
    first, step = 1.0, 1.0
    to_check = np.int64(1)  # host pages until the clock is read
    whole = True  # the next page begins a host page
    returned = 1
    begin_pages(s, state.ram_calls + state.ram_parts)
    backlog, room = max(state.drained_at - state.t, 0), window_room(state)
    normal, zero, flushed = np.int64(0), np.int64(0), np.int64(0)
    while True:
        if whole and migration_rate_exceeded(state):
            returned = 0
            break
        if remaining(s.ram) == 0:
            break
        start = state.t + pages_elapsed(case, state, backlog, normal, zero)
        pages, share = stretch(s.ram, case, s.regions, start)
        if case.flush_pages > 1:
            first, step = flushes(case, state, held, copied, share)
        over, taken = pages + 1, pages + 1
        if state.max_bandwidth > 0:
            # below 0 where it was used up within this host page: then the window ends with the next page
            over = max(1, pages_until_exceeded(case, state, room - state.buffered, normal, zero, share, first, step))
        if most_bytes < NO_LIMIT:
            left = most_bytes - 1 - (state.ram_put - put_before)
            taken = max(1, pages_until_above(state, left, normal, zero, share))
        count = min(min(pages, taken), over)
        ends = state.window_t + WINDOW_NS - state.t
        late = pages_until_elapsed(case, state, backlog, normal, zero, share, ends, count)
        count = min(count, late)
        passed, hosts = host_pages_ahead(s.ram, case, count, to_check)
        if hosts == to_check:
            count = passed
        zeros = zeros_of(count, share)
        if case.flush_pages > 1 and state.flags_buffered > 0 and count >= first:
            flag_t, flag_drained = first_flush(case, state, backlog, normal, zero, share, first)
            release_flags(s, flag_t, flag_drained)
        take(s.ram, case, count)
        whole = passed == count
        if remaining(s.ram) == 0 and not whole:
            whole = True
            hosts += 1
        if whole:
            end_host_page(s.ram, case)
        before = flushed
        flushed, held, copied = count_flushed(
            case, state, normal, zero, share, count, first, step, flushed, held, copied
        )
        state.counted += flushed - before
        normal += count - zeros
        zero += zeros
        now = state.t + pages_elapsed(case, state, backlog, normal, zero)
        if count == over or count == late:  # noqa: SIM109 (a tuple is compiled to a loop)
            end_part(s, normal, zero, flushed)
            state.ram_parts += 1
            state.effort += 1
            if state.postcopy == 1:
                missing = remaining(s.ram)
                state.faults += min(missing, count_faults(s, state.t, float(missing), 1))
            migration_rate_limit(s)
            now = state.t
            begin_pages(s, state.ram_calls + state.ram_parts)
            backlog, room = max(state.drained_at - state.t, 0), window_room(state)
            normal, zero, flushed = np.int64(0), np.int64(0), np.int64(0)
            if now >= case.time_limit_ns:
                returned = 0
                break
        if hosts >= to_check:
            if now - began >= SLICE_NS:
                returned = 0
                break
            to_check = np.int64(CHECK_PAGES)
        else:
            to_check -= hosts
        if count == taken:
            returned = 0
            break
    end_part(s, normal, zero, flushed)
    if state.flags_buffered > 0:
        release_flags(s, state.t, state.drained_at)
    finish_section(state, np.int64(0), np.int64(0))
    return returned
