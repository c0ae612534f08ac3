"""Putting bytes on the link, and counting them for the rate limit."""

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
    """Put ``size`` bytes on the link: moves the clock and the time the send buffer will be empty."""
    backlog = max(state.drained_at - state.t, 0)
    took = elapsed_ns(ns_per_byte, slack_ns, backlog, size, cpu)
    state.drained_at = max(state.t + backlog + int(size * ns_per_byte), state.t + took)
    state.t += took


@kernel
def put_bytes(case, state, size, cpu):
    """Put ``size`` bytes of device data on the link."""
    put(state, case.link_ns_per_byte, case.send_slack_ns, size, cpu)


@kernel
def pages_at_one_rate(case, sent):
    """Pages after the first ``sent`` until the link's rate for pages changes; ``FAR`` if it does not any more.

    The first ``ram_pages`` pages that RAM sends are the first pass, each page once: the destination writes to memory
    that it has not touched before, and faults (migration/ram.c:ram_load_precopy). After ``fresh_after_pages`` of them
    that slows the link down.
    """
    if sent >= case.ram_pages or case.fresh_after_pages >= case.ram_pages:
        return FAR
    if sent < case.fresh_after_pages:
        return case.fresh_after_pages - sent
    return case.ram_pages - sent


@kernel
def set_page_rate(case, state, sent):
    """Take the rate for RAM pages that is in force after the first ``sent`` pages; bytes on the way keep theirs."""
    if case.fresh_after_pages <= sent < case.ram_pages:
        ns_per_byte, slack_ns = case.fresh_ns_per_byte, case.fresh_slack_ns
    else:
        ns_per_byte, slack_ns = case.link_ns_per_byte, case.send_slack_ns
    if ns_per_byte != state.page_ns_per_byte:
        state.page_ns_per_byte = ns_per_byte
        state.page_slack_ns = slack_ns
        state.events += 1


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
def exceeded(case, state):
    """Whether the window's budget is used up (migration/migration-stats.c:migration_rate_exceeded): strictly more."""
    return case.max_bandwidth > 0 and state.counted - state.mark > case.max_bandwidth // WINDOWS_PER_S


@kernel
def update_counters(case, state):
    """Start a new window and set the threshold from the old one (migration/migration.c:migration_update_counters).

    ``threshold = bytes / ms * downtime-limit``: one raw window, no smoothing.
    """
    ms = (state.t - state.win_t) // 1_000_000
    if case.avail_switchover_bandwidth > 0:
        if case.avail_per_ms_exact == 1:
            per_ms = case.avail_switchover_bandwidth / 1000.0
        else:
            per_ms = float(case.avail_switchover_bandwidth // 1000)
    else:
        per_ms = (state.counted - state.mark) / ms
    state.threshold = int(per_ms * case.downtime_limit_ms)
    state.mark = state.counted
    state.win_t = state.t


@kernel
def guest_ns(state, t):
    """Guest time at ``t``: slower than the clock while the vCPUs are throttled."""
    return state.tau0 + (t - state.t0) * (100 - state.throttle) // 100
