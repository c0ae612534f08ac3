"""VFIO devices (hw/vfio/migration.c)."""

from __future__ import annotations

from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.qemu_file import COPY_BUFFER, count_copied, qemu_put_buffer
from migkit.kernels.ram import SECTION_BYTES, release_flags

VFIO_SECTION_BYTES = 34  # data record, end mark, section header and footer
COUNTS_STOP_TOO, COUNTS_STOP_ONLY, COUNTS_CLASSES, NO_PRECOPY = 0, 1, 2, 3  # values of vfio_counts


@kernel
def vfio_dirty(device, own, t):
    """Dirty bytes of the hardware at ``t``: growing at the dirty rate while the VM runs, capped."""
    if own.dirty_rate == 0.0:
        return min(device.dirty_max, own.dirty)
    return min(device.dirty_max, own.dirty + int(own.dirty_rate * (t - own.dirty_t) * 1e-9))


@inlined_kernel
def vfio_query_precopy_size(case, device, own, t):
    """Read the sizes from the device, as setup and the exact query do (hw/vfio/migration.c:vfio_query_precopy_size)."""
    own.initial_cached = own.initial
    own.dirty_cached = vfio_dirty(device, own, t)
    own.stop_cached = device.stop_copy_bytes
    if case.vfio_counts != COUNTS_STOP_TOO:
        own.stop_cached += own.initial_cached + own.dirty_cached


@kernel
def vfio_state_pending_estimate(case, own):
    """Pending bytes from the caches (hw/vfio/migration.c:vfio_state_pending_estimate)."""
    precopy = own.initial_cached + own.dirty_cached
    if case.vfio_counts == COUNTS_CLASSES:
        return max(own.stop_cached, precopy)
    return precopy


@kernel
def vfio_state_pending_exact(case, own):
    """Pending bytes right after a refresh (hw/vfio/migration.c:vfio_state_pending_exact)."""
    if case.vfio_counts == COUNTS_STOP_TOO:
        return own.stop_cached + own.initial_cached + own.dirty_cached
    return max(own.stop_cached, own.initial_cached + own.dirty_cached)


@inlined_kernel
def vfio_read(device, own, t, most):
    """Take up to ``most`` bytes from the hardware, initial data first; bytes taken."""
    dirty = vfio_dirty(device, own, t)
    size = min(most, own.initial + dirty)
    first = min(size, own.initial)
    own.initial -= first
    own.initial_waits = 1 if own.initial > 0 else 0
    if size > first:
        own.dirty = dirty - (size - first)
        own.dirty_t = t
    return size


@inlined_kernel
def vfio_save_iterate(s, d, most_bytes):
    """One call of VFIO's handler: one read of at most a buffer, no look at the rate limit.

    Parameters
    ----------
    s : Migration
    d : int
        The device.
    most_bytes : int
        The read returns no more; a departure from QEMU, for policies.

    Returns
    -------
    returned : int
        1 if nothing is left in the caches (8.2: always).
    """
    case, state, device, own = s.case, s.state, s.devices[d], s.live[d]
    had_initial = own.initial > 0 or own.called == 0
    size = vfio_read(device, own, state.t, min(device.chunk_bytes, most_bytes))
    sent = SECTION_BYTES
    if size > 0:
        sent = size + VFIO_SECTION_BYTES
        state.t += int(size * device.read_ns_per_byte)
        qemu_put_buffer(s.link, state, sent)
        first = min(size, own.initial_cached)
        own.initial_cached -= first
        own.dirty_cached = max(0, own.dirty_cached - (size - first))
        own.stop_cached = max(0, own.stop_cached - size)
    else:
        own.initial_cached = 0
        own.dirty_cached = 0
    own.called += 1
    own.sent += size
    own.bytes += size
    state.bytes_sent += sent
    if had_initial and own.initial == 0:
        own.initial_sent_t = state.t
        state.events += 1
    if had_initial:
        own.progress_sync = state.syncs
    before = state.buffered
    count_copied(case, state, sent)
    if before + sent >= COPY_BUFFER and state.flags_buffered > 0:
        # a later device filled the stream buffer and carried the waiting flag out
        release_flags(s, state.t, state.drained_at)
    if case.switchover_ack == 1 and own.initial_cached == 0 and own.flag == 0:
        own.flag = 1
        state.flags_buffered += 1
        state.events += 1
        if state.buffered == 0:
            release_flags(s, state.t, state.drained_at)
    if case.vfio_always_done == 1:
        return 1
    return 1 if own.initial_cached == 0 and own.dirty_cached == 0 else 0


@kernel
def vfio_save_complete_precopy(device, own, stop_t):
    """Bytes that the stopped device still has to send (hw/vfio/migration.c:vfio_save_complete_precopy)."""
    return own.initial + vfio_dirty(device, own, stop_t) + device.stop_copy_bytes
