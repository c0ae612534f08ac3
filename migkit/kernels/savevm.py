"""All devices of a migration (migration/savevm.c): setup, pending bytes, one iteration."""

from __future__ import annotations

from migkit.kernels.block import block_save_iterate, block_state_pending
from migkit.kernels.dirtylimit import dirtylimit_setup, dirtylimit_wait
from migkit.kernels.guest import guest_setup
from migkit.kernels.host_pages import ram_save_host_pages
from migkit.kernels.jitter import sync_cost
from migkit.kernels.memory import remaining, reset
from migkit.kernels.multifd import multifd_save_iterate, multifd_settle, multifd_setup
from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.policies import next_device
from migkit.kernels.qemu_file import migration_rate_exceeded
from migkit.kernels.ram import SECTION_BYTES, migration_bitmap_sync, plain_pages, ram_save_iterate
from migkit.kernels.state import BLOCK, RAM, RUNNING, VFIO
from migkit.kernels.vfio import (
    NO_PRECOPY,
    vfio_query_precopy_size,
    vfio_save_iterate,
    vfio_state_pending_estimate,
    vfio_state_pending_exact,
)

MOST_CALLS = 1024
"""Calls of handlers in an iteration; a policy that asks for more is ended here. QEMU makes one a device."""


@kernel
def qemu_savevm_state_setup(s, seed, replicate):
    """Everything dirty, sizes queried, the first window begins (migration/savevm.c:qemu_savevm_state_setup)."""
    case, state = s.case, s.state
    state.outcome, state.culprit = RUNNING, -1
    state.seed, state.replicate, state.pace = seed, replicate, 1.0
    state.device_count = case.device_count
    state.t = case.setup_ns
    state.window_t, state.last_eval, state.iteration_t = case.setup_ns, case.setup_ns, case.setup_ns
    state.synced_at = case.setup_ns
    state.max_bandwidth = case.max_bandwidth
    state.downtime_limit_ms = case.downtime_limit_ms
    state.link_ns_per_byte = s.link.ns_per_byte
    state.postcopy_t = case.postcopy_ns
    state.page_ns_per_byte, state.page_slack_ns = s.link.ns_per_byte, s.link.slack_ns
    state.sync_count = 1
    state.timer_due = case.setup_ns + case.throttle_timer_ns
    state.zero_level = -1
    state.stopped_t = -1
    state.ram_remaining = case.ram_pages * case.page_size
    plain_pages(case, state)
    guest_setup(s, seed, replicate)
    if case.dirty_limit == 1:
        dirtylimit_setup(s)
    reset(s.ram, case, s.regions, seed, replicate)
    for d in range(case.device_count):
        device, own = s.devices[d], s.live[d]
        own.ack_t, own.initial_sent_t, own.first_t = -1, -1, -1
        own.dirty_t = state.t
        own.dirty_rate = device.dirty_rate
        if device.kind == VFIO:
            state.stop_copy += device.stop_copy_bytes
            own.initial = device.initial_bytes
            own.initial_waits = 1 if own.initial > 0 else 0
            vfio_query_precopy_size(case, device, own, state.t)
            state.flags_missing += 1
        elif device.kind == BLOCK:
            own.left = device.initial_bytes
            state.bulk = 1 if own.left > 0 else 0
    if case.multifd_channels > 0:
        multifd_setup(s)


@inlined_kernel
def qemu_savevm_state_pending_estimate(s):
    """Pending bytes from the caches (migration/savevm.c:qemu_savevm_state_pending_estimate)."""
    total, precopy = 0, 0
    for d in range(s.case.device_count):
        kind, own = s.devices[d].kind, s.live[d]
        if kind == RAM:
            total += s.state.ram_bytes
            precopy += s.state.ram_bytes
        elif kind == VFIO:
            total += vfio_state_pending_estimate(s.case, own)
            precopy += own.initial_cached + own.dirty_cached
        else:
            total += block_state_pending(own)
            precopy += own.left
    s.state.precopy_bytes = precopy
    return total


@inlined_kernel
def qemu_savevm_state_pending_exact(s):
    """Pending bytes after a sync, with fresh device sizes (migration/savevm.c:qemu_savevm_state_pending_exact)."""
    case, state = s.case, s.state
    ram_syncs = case.ram_exact_always == 1 or state.ram_bytes < state.threshold
    if ram_syncs:
        if case.dirty_limit == 1:
            dirtylimit_wait(s)
        state.t += sync_cost(case, state)
    total = 0
    for d in range(case.device_count):
        device, own = s.devices[d], s.live[d]
        if device.kind == VFIO:
            vfio_query_precopy_size(case, device, own, state.t)
            total += vfio_state_pending_exact(case, own)
        elif device.kind == BLOCK:
            total += block_state_pending(own)
    if ram_syncs:
        migration_bitmap_sync(s)
        state.sync_count += 1
        state.ram_bytes = remaining(s.ram) * case.page_size
    return total + state.ram_bytes


@inlined_kernel
def save_live_iterate(s, d, most_bytes):
    """Call the handler of one device; what it returned."""
    state, own = s.state, s.live[d]
    state.calls += 1
    kind = s.devices[d].kind
    if kind == VFIO and s.case.vfio_counts == NO_PRECOPY:
        return 1  # no handler
    if own.iteration != state.iteration:
        own.iteration = state.iteration
        own.sent = 0
    if own.first_t < 0:
        own.first_t = state.t
    if kind == RAM:
        put = state.bytes_sent
        if s.case.multifd_channels > 0 and state.postcopy == 0:
            returned = multifd_save_iterate(s, most_bytes)
        elif s.case.host_pages > 1 and state.bulk == 0:
            returned = ram_save_host_pages(s, most_bytes)
        else:
            returned = ram_save_iterate(s, most_bytes)
        own.sent += state.bytes_sent - put - SECTION_BYTES
        state.ram_returned = returned
        state.ram_calls_done += returned
        return returned
    if kind == VFIO:
        return vfio_save_iterate(s, d, most_bytes)
    return block_save_iterate(s, d, most_bytes)


@inlined_kernel
def qemu_savevm_state_iterate(s):
    """Call the devices one after the other, until the policy or the window's budget ends it.

    QEMU's walk of the handler list (migration/savevm.c:qemu_savevm_state_iterate); the policy says which device
    comes next.
    """
    state = s.state
    state.iteration += 1
    state.previous, state.returned, state.calls = -1, 1, 0
    state.ram_pages, state.ram_returned = 0, -1
    if s.case.multifd_channels > 0:
        multifd_settle(s)
    while not migration_rate_exceeded(state) and state.calls < MOST_CALLS:
        device, most_bytes = next_device(s)
        if device < 0 or device >= state.device_count or most_bytes <= 0:
            break
        state.returned = save_live_iterate(s, device, most_bytes)
        state.previous = device
        if s.case.multifd_channels > 0:
            multifd_settle(s)
