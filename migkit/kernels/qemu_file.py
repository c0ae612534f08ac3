"""The stream: bytes put on the link, bytes counted for the rate limit (migration/qemu-file.c, migration-stats.c)."""

from __future__ import annotations

import numpy as np

from migkit.kernels.options import kernel

COPY_BUFFER = 32768  # bytes of copied data after which QEMUFile flushes (migration/qemu-file.c: IO_BUF_SIZE)
WINDOW_NS = 100_000_000  # migration/migration-stats.h: BUFFER_DELAY
WINDOWS_PER_S = 10  # migration/migration.h: XFER_LIMIT_RATIO
FAR = np.int64(1) << 60


@kernel
def elapsed_ns(ns_per_byte, slack_ns, backlog, size, cpu):
    """Nanoseconds the migration thread needs to put ``size`` bytes that cost it ``cpu`` nanoseconds.

    ``max(cpu, backlog + size / link - full send buffer)``: the thread waits while the socket's buffer is full.
    """
    return max(cpu, backlog + int(size * ns_per_byte) - slack_ns, 0)


@kernel
def put(state, ns_per_byte, slack_ns, size, cpu):
    """Put ``size`` bytes on the link: advance the clock and the time at which the send buffer is empty."""
    backlog = max(state.drained_at - state.t, 0)
    took = elapsed_ns(ns_per_byte, slack_ns, backlog, size, cpu)
    state.drained_at = max(state.t + backlog + int(size * ns_per_byte), state.t + took)
    state.t += took


@kernel
def qemu_put_buffer(link, state, size):
    """Put ``size`` bytes of device data on the link."""
    put(state, link.ns_per_byte, link.slack_ns, size, 0)


@kernel
def count_copied(case, state, size):
    """Count ``size`` copied bytes (device data): all at once, or whole stream buffers (8.2 and later)."""
    if case.flush_pages == 1:
        state.counted += size
        return
    state.buffered += size
    flushed = state.buffered // COPY_BUFFER * COPY_BUFFER
    state.buffered -= flushed
    state.counted += flushed


@kernel
def pages_at_one_rate(case, link, sent):
    """Pages after the first ``sent`` until the link's rate for pages changes; ``FAR`` if it does not any more.

    The first ``ram_pages`` pages that RAM sends are the first pass, each page once: the destination writes to memory
    that it has not touched before, and faults (migration/ram.c:ram_load_precopy). After ``fresh_after_pages`` of them
    that slows the link down.
    """
    if sent >= case.ram_pages or link.fresh_after_pages >= case.ram_pages:
        return FAR
    if sent < link.fresh_after_pages:
        return link.fresh_after_pages - sent
    return case.ram_pages - sent


@kernel
def set_page_rate(case, link, state):
    """Take the rate that is in force for the next RAM page; bytes on the way keep theirs."""
    if link.fresh_after_pages <= state.ram_pages_sent < case.ram_pages:
        ns_per_byte, slack_ns = link.fresh_ns_per_byte, link.fresh_slack_ns
    else:
        ns_per_byte, slack_ns = link.ns_per_byte, link.slack_ns
    ns_per_byte *= state.pace
    if ns_per_byte != state.page_ns_per_byte or slack_ns != state.page_slack_ns:
        state.page_ns_per_byte = ns_per_byte
        state.page_slack_ns = slack_ns
        state.events += 1


@kernel
def window_room(state):
    """Bytes that the window has left; the limit is exceeded below 0."""
    return state.max_bandwidth // WINDOWS_PER_S - (state.counted - state.mark)


@kernel
def migration_rate_exceeded(state):
    """Whether the window's budget is used up (migration/migration-stats.c:migration_rate_exceeded): strictly more."""
    return state.max_bandwidth > 0 and window_room(state) < 0
