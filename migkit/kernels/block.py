"""Block migration (migration/block.c, removed in 9.1)."""

from __future__ import annotations

from migkit.kernels.options import kernel
from migkit.kernels.qemu_file import COPY_BUFFER, count_copied, migration_rate_exceeded, qemu_put_buffer
from migkit.kernels.ram import SECTION_BYTES, release_flags

BLOCK_SECTION_BYTES = 20  # flags, length and name of the drive
BLOCK_BYTES = 1 << 20
BLOCKS_IN_FLIGHT = 16


@kernel
def block_state_pending(own):
    """Pending bytes (migration/block.c:block_state_pending): what is in flight, at least 1 MiB, in the bulk phase."""
    if own.left <= 0:
        return 0
    return max(BLOCK_BYTES, min(BLOCKS_IN_FLIGHT * BLOCK_BYTES, own.left))


@kernel
def block_save_iterate(s, d, most_bytes):
    """One call of the handler: blocks of 1 MiB until the budget, or ``most_bytes`` (for policies), is used up.

    Returns
    -------
    returned : int
        1.
    """
    case, state, own = s.case, s.state, s.live[d]
    own.called += 1
    blocks, read = 0, 0
    before = state.buffered
    while own.left > 0 and blocks < BLOCKS_IN_FLIGHT and read < most_bytes and not migration_rate_exceeded(state):
        size = min(BLOCK_BYTES, own.left)
        own.left -= size
        read += size
        blocks += 1
        state.t += int(size * s.devices[d].read_ns_per_byte)
        qemu_put_buffer(s.link, state, size + BLOCK_SECTION_BYTES)
        count_copied(case, state, size + BLOCK_SECTION_BYTES)
    count_copied(case, state, SECTION_BYTES)
    sent = read + blocks * BLOCK_SECTION_BYTES + SECTION_BYTES
    state.bytes_sent += sent
    own.sent += read
    own.bytes += read
    state.bulk = 1 if own.left > 0 else 0
    if before + sent >= COPY_BUFFER and state.flags_buffered > 0:
        release_flags(s, state.t, state.drained_at)
    if blocks > 0 and own.left == 0:
        state.events += 1
    return 1
