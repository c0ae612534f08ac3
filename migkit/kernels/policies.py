"""Scheduling policies: the three questions that the loop asks, and QEMU's answers.

- *Which device comes next, and how many bytes may it take?* Asked when an iteration begins and after every device.
  The answer is the number of a device (``END`` ends the iteration) and a number of bytes (``NO_LIMIT`` for none).
- *Does this iteration sync?* Asked once an iteration, with the estimate of the pending bytes.
- *Which bandwidth is to be believed?* Asked when a window has ended; bytes per millisecond, of which the threshold is
  made. ``avail-switchover-bandwidth`` goes before it, as in QEMU.

Built-in and user-written policies have one signature, ``(state, devices, live, own)``: the records of
:data:`migkit.kernels.state.STATE`, of :data:`~migkit.kernels.state.DEVICE` and :data:`~migkit.kernels.state.LIVE` for
every device in list order, and sixteen numbers of the policy's own, 0 at the start. They change nothing but these.
The loop takes a branch to the built-in ones and calls any other through its address.

That an iteration ends when the window's budget is used up is the loop's rule, not the policy's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.qemu_file import window_room
from migkit.kernels.state import (
    END,
    NO_LIMIT,
    POLICY_NUMBERS,
    SERIALIZED,
    SYNC_7_2,
    SYNC_8_2,
    SYNC_9_0,
    SYNC_11_1,
    UNSERIALIZED,
    WINDOW,
)


class Policies(NamedTuple):
    """The functions of a migration's policies, called where its case says that they are its own."""

    next_device: Any
    syncs: Any
    bandwidth: Any


# ---------------------------------------------------------------- which device comes next, how many bytes it may take


@kernel
def serialized(state, devices, live, own):
    """The next device only after one that returned 1, "finished".

    QEMU up to 8.2, ``migration/savevm.c:qemu_savevm_state_iterate`` (2009, commit 90697be889).
    """
    if state.previous >= 0 and state.returned != 1:
        return END, NO_LIMIT
    return state.previous + 1, NO_LIMIT


@kernel
def unserialized(state, devices, live, own):
    """The next device always.

    QEMU 9.0 and later, ``migration/savevm.c:qemu_savevm_state_iterate`` (commit 4e1871c450).
    """
    return state.previous + 1, NO_LIMIT


@inlined_kernel
def next_device(s):
    """Ask which device comes next and how many bytes it may take."""
    policy = s.case.policy
    if policy == UNSERIALIZED:
        return unserialized(s.state, s.devices, s.live, s.state.own)
    if policy == SERIALIZED:
        return serialized(s.state, s.devices, s.live, s.state.own)
    s.state.budget = window_room(s.state) + 1 if s.state.max_bandwidth > 0 else NO_LIMIT
    device, most_bytes = s.policies.next_device(s.state, s.devices, s.live, s.state.own)
    if most_bytes < NO_LIMIT:
        s.state.capped = 1
    return device, most_bytes


# ---------------------------------------------------------------- when to sync


@kernel
def sync_7_2(state, devices, live, own):
    """RAM below the threshold: 7.2, one query (``migration/ram.c:ram_save_pending``)."""
    return state.ram_bytes < state.threshold


@kernel
def sync_8_2(state, devices, live, own):
    """Estimate at or below the threshold: 8.0 to 9.0-rc0 (``migration/migration.c:migration_iteration_run``)."""
    return state.estimate <= state.threshold


@kernel
def sync_9_0(state, devices, live, own):
    """Estimate below the threshold: 9.0 to 11.0 (commit 910c164736)."""
    return state.estimate < state.threshold


@kernel
def sync_11_1(state, devices, live, own):
    """Estimate at or below the threshold, or nothing left that pre-copy can send: 11.1."""
    return state.estimate <= state.threshold or state.precopy_bytes == 0


@inlined_kernel
def syncs(s):
    """Ask whether this iteration runs the exact query, which syncs."""
    policy = s.case.sync_policy
    if policy == SYNC_9_0:
        return sync_9_0(s.state, s.devices, s.live, s.state.sync_own)
    if policy == SYNC_8_2:
        if s.case.postcopy_ram == 1:
            return True  # RAM may follow after the switch: nothing is left that only pre-copy can send
        return sync_8_2(s.state, s.devices, s.live, s.state.sync_own)
    if policy == SYNC_7_2:
        return sync_7_2(s.state, s.devices, s.live, s.state.sync_own)
    if policy == SYNC_11_1:
        if s.case.postcopy_ram == 1:
            return True
        return sync_11_1(s.state, s.devices, s.live, s.state.sync_own)
    return own_syncs(s)


@kernel
def own_syncs(s):
    """Ask the user's own rule, and also what it would say with everything just below the threshold."""
    case, state = s.case, s.state
    for k in range(POLICY_NUMBERS if case.policies_remember == 1 else 0):
        state.sync_before[k] = state.sync_own[k]
    answer = s.policies.syncs(state, s.devices, s.live, state.sync_own) != 0
    state.blind = 1
    if case.may_stop_early > 0:
        estimate, ram_bytes, precopy_bytes = state.estimate, state.ram_bytes, state.precopy_bytes
        below = max(0, state.threshold - 1)
        state.estimate, state.ram_bytes, state.precopy_bytes = below, below, below
        state.blind = 0 if s.policies.syncs(state, s.devices, s.live, state.sync_before) else 1
        state.estimate, state.ram_bytes, state.precopy_bytes = estimate, ram_bytes, precopy_bytes
    return answer


# ---------------------------------------------------------------- which bandwidth to believe


@kernel
def window(state, devices, live, own):
    """The last window, without smoothing: every version (``migration/migration.c:migration_update_counters``)."""
    return state.window_bytes / state.window_ms


@inlined_kernel
def bandwidth(s):
    """Ask which bandwidth is to be believed, bytes per millisecond."""
    if s.case.bandwidth_policy == WINDOW:
        return window(s.state, s.devices, s.live, s.state.bandwidth_own)
    believed = s.policies.bandwidth(s.state, s.devices, s.live, s.state.bandwidth_own)
    if s.case.policies_remember == 1:
        s.policies.bandwidth(s.state, s.devices, s.live, s.state.bandwidth_anew)
    return max(0.0, believed)
