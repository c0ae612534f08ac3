"""The devices behind RAM: VFIO and block."""

from __future__ import annotations

from migkit.kernels.link import COPY_BUFFER, count_copied, exceeded, put_bytes
from migkit.kernels.options import kernel
from migkit.kernels.ram import SECTION_BYTES, release_flags

VFIO_SECTION_BYTES = 34  # data record, end mark, section header and footer
BLOCK_SECTION_BYTES = 20  # flags, length and name of the drive
BLOCK_BYTES = 1 << 20
BLOCKS_IN_FLIGHT = 16
COUNTS_STOP_TOO, COUNTS_STOP_ONLY, COUNTS_CLASSES = 0, 1, 2  # values of vfio_counts


@kernel
def vfio_dirty(device, live, t):
    """Dirty bytes of the hardware at ``t``: growing at the dirty rate, capped."""
    return min(device.dirty_max, live.dirty + int(device.dirty_rate * (t - live.dirty_t) * 1e-9))


@kernel
def vfio_refresh(case, device, live, t):
    """Read the sizes from the device, as the exact query does (hw/vfio/migration.c:vfio_query_precopy_size)."""
    live.initial_cached = live.initial
    live.dirty_cached = vfio_dirty(device, live, t)
    live.stop_cached = device.stop_copy_bytes
    if case.vfio_counts != COUNTS_STOP_TOO:
        live.stop_cached += live.initial_cached + live.dirty_cached


@kernel
def vfio_estimate(case, live):
    """Pending bytes from the caches (hw/vfio/migration.c:vfio_state_pending_estimate)."""
    precopy = live.initial_cached + live.dirty_cached
    if case.vfio_counts == COUNTS_CLASSES:
        return max(live.stop_cached, precopy)
    return precopy


@kernel
def vfio_exact(case, live):
    """Pending bytes right after a refresh (hw/vfio/migration.c:vfio_state_pending_exact)."""
    if case.vfio_counts == COUNTS_STOP_TOO:
        return live.stop_cached + live.initial_cached + live.dirty_cached
    return max(live.stop_cached, live.initial_cached + live.dirty_cached)


@kernel
def vfio_read(device, live, t, most):
    """Take up to ``most`` bytes from the hardware, initial data first; bytes taken."""
    dirty = vfio_dirty(device, live, t)
    size = min(most, live.initial + dirty)
    first = min(size, live.initial)
    live.initial -= first
    if size > first:
        live.dirty = dirty - (size - first)
        live.dirty_t = t
    return size


@kernel
def vfio_save_iterate(case, devices, d, state, live, report):
    """One call of VFIO's handler: one read of at most a buffer, no look at the rate limit.

    Returns
    -------
    returned : int
        1 if nothing is left in the caches (8.2: always).
    """
    device, own = devices[d], live[d]
    had_initial = own.initial > 0 or own.called == 0
    size = vfio_read(device, own, state.t, device.chunk_bytes)
    sent = SECTION_BYTES
    if size > 0:
        sent = size + VFIO_SECTION_BYTES
        state.t += int(size * device.read_ns_per_byte)
        put_bytes(case, state, sent, 0)
        first = min(size, own.initial_cached)
        own.initial_cached -= first
        own.dirty_cached = max(0, own.dirty_cached - (size - first))
        own.stop_cached = max(0, own.stop_cached - size)
    else:
        own.initial_cached = 0
        own.dirty_cached = 0
    own.called += 1
    own.sent = size
    own.bytes += size
    report.bytes_sent += sent
    if had_initial and own.initial == 0:
        own.initial_sent_t = state.t
        state.events += 1
    if had_initial:
        own.progress_sync = state.syncs
    before = state.buffered
    count_copied(case, state, sent)
    if before + sent >= COPY_BUFFER and state.flags_buffered > 0:
        # a later device filled the stream buffer and carried the waiting flag out
        release_flags(case, state, live, devices, state.t, state.drained_at)
    if case.switchover_ack == 1 and own.initial_cached == 0 and own.flag == 0:
        own.flag = 1
        state.flags_buffered += 1
        state.events += 1
        if state.buffered == 0:
            release_flags(case, state, live, devices, state.t, state.drained_at)
    if case.vfio_always_done == 1:
        return 1
    return 1 if own.initial_cached == 0 and own.dirty_cached == 0 else 0


@kernel
def block_pending(live):
    """Pending bytes of a block device: what is in flight, at least 1 MiB, while its bulk phase lasts."""
    if live.left <= 0:
        return 0
    return max(BLOCK_BYTES, min(BLOCKS_IN_FLIGHT * BLOCK_BYTES, live.left))


@kernel
def block_save_iterate(case, devices, d, state, live, report):
    """One call of the block handler (migration/block.c, up to 9.0): blocks of 1 MiB until the budget is used up."""
    own = live[d]
    own.sent = 0
    own.called += 1
    blocks = 0
    before = state.buffered
    while own.left > 0 and blocks < BLOCKS_IN_FLIGHT and not exceeded(case, state):
        size = min(BLOCK_BYTES, own.left)
        own.left -= size
        own.sent += size
        blocks += 1
        state.t += int(size * devices[d].read_ns_per_byte)
        put_bytes(case, state, size + BLOCK_SECTION_BYTES, 0)
        count_copied(case, state, size + BLOCK_SECTION_BYTES)
    count_copied(case, state, SECTION_BYTES)
    put = own.sent + blocks * BLOCK_SECTION_BYTES + SECTION_BYTES
    report.bytes_sent += put
    own.bytes += own.sent
    if before + put >= COPY_BUFFER and state.flags_buffered > 0:
        release_flags(case, state, live, devices, state.t, state.drained_at)
    if blocks > 0 and own.left == 0:
        state.events += 1
    return 1
