"""dirty-limit (system/dirtylimit.c): every vCPU sleeps when its dirty ring is full, so long that it keeps its quota.

QEMU measures and adjusts in a thread of its own, once a period. Nothing reads what the writers have done between two
syncs, so the periods that have passed are computed at the next sync, each at its own time.
"""

from __future__ import annotations

import math

import numpy as np

from migkit.kernels.guest import guest_ns, set_speed, writer_ns
from migkit.kernels.options import kernel
from migkit.kernels.state import NEVER, WHOLE_VCPU

TOLERANCE = 25  # MB/s from the quota within which nothing is changed (DIRTYLIMIT_TOLERANCE_RANGE)
LINEAR_ABOVE = 50  # percent from the quota above which one step is to reach it (DIRTYLIMIT_LINEAR_ADJUSTMENT_PCT)
MOST_SLEEP = 99  # times what the ring takes to fill (DIRTYLIMIT_THROTTLE_PCT_MAX)
NEVER_FULL = 1e300


@kernel
def dirtylimit_setup(s):
    """No quota is set."""
    s.state.limit_due = NEVER
    for r in range(s.case.region_count):
        s.writers.now[r].limit_us, s.writers.now[r].limit_fill = 0, 0.0


@kernel
def migration_dirty_limit_guest(s):
    """Give every vCPU its quota, once (migration/ram.c:migration_dirty_limit_guest); the first period begins."""
    state = s.state
    if state.limit_due != NEVER or state.stopped_t >= 0:
        return
    state.limit_due = state.t + s.case.dirty_limit_period_ms * 1_000_000
    state.limit_changes += 1
    for r in range(s.case.region_count):
        writer = s.writers.now[r]
        writer.limit_tau, writer.limit_work = guest_ns(writer, state.t), writer_ns(s.writers, r, state.t)


@kernel
def dirtylimit_catch_up(s, until):
    """Adjust what the vCPUs sleep at the end of each period up to a time."""
    state = s.state
    while state.limit_due <= until:
        asleep = dirtylimit_asleep(s, state.limit_due)
        state.limit_due += asleep
        if asleep == 0:
            dirtylimit_process(s, state.limit_due)
            state.limit_due += s.case.dirty_limit_period_ms * 1_000_000
        state.effort += s.case.region_count


@kernel
def dirtylimit_end(s, t):
    """The vCPUs stop at a time: nothing is measured any more."""
    dirtylimit_catch_up(s, t)
    s.state.limit_due = NEVER


@kernel
def dirtylimit_asleep(s, t):
    """How long a vCPU still sleeps, ns: what empties the rings or stops the VM waits for it.

    accel/kvm/kvm-all.c:kvm_dirty_ring_flush kicks all vCPUs and waits for them, system/cpus.c:pause_all_vcpus too; a
    vCPU that sleeps (system/dirtylimit.c:dirtylimit_vcpu_execute) does not hear it.
    """
    longest = np.int64(0)
    if s.state.stopped_t >= 0:
        return longest
    for r in range(s.case.region_count):
        writer = s.writers.now[r]
        if writer.limit_fill > 0.0:
            cycle = writer.limit_fill + writer.limit_us * 1000.0
            at = float(t - writer.limit_since)
            at -= np.floor(at / cycle) * cycle
            if at >= writer.limit_fill:
                longest = max(longest, np.int64(cycle - at))
    return longest


@kernel
def dirtylimit_wait(s):
    """Wait until all vCPUs are awake, before a sync."""
    dirtylimit_catch_up(s, s.state.t)
    s.state.t += dirtylimit_asleep(s, s.state.t)


@kernel
def dirtylimit_emptied(s):
    """A sync empties all rings."""
    dirtylimit_catch_up(s, s.state.t)
    for r in range(s.case.region_count):
        s.writers.now[r].limit_since = s.state.t


@kernel
def dirtylimit_process(s, t):
    """A period ends: measure every vCPU, and adjust what it sleeps (system/dirtylimit.c:dirtylimit_process).

    A region is written by one vCPU. The ring fills in the time in which the writer hits as many pages as it has
    entries; sleeping ``s`` each time it is full leaves a vCPU that is busy for ``b`` of that ``b / (b + s)`` of its
    time.
    """
    case, state = s.case, s.state
    state.limit_us = 0
    for r in range(case.region_count):
        writer = s.writers.now[r]
        tau, work = guest_ns(writer, t), writer_ns(s.writers, r, t)
        guest, worked = tau - writer.limit_tau, work - writer.limit_work
        writer.limit_tau, writer.limit_work = tau, work
        full = ring_full_ns(case, s.regions[r])
        fills = worked > 0 and full * guest <= float(worked) * (case.dirty_limit_period_ms * 1e6)
        pages = ring_entries(case, s.regions[r], worked, full, fills)
        rate = ((pages * 1000 * case.page_size) >> 20) // case.dirty_limit_period_ms
        sleep_us = dirtylimit_set_throttle(case, state, writer.limit_us, rate)
        gets, fill_ns = writer.needs, 0.0
        if fills and sleep_us > 0:
            fill_ns = full * (float(guest) / float(worked))
            busy = fill_ns * (float(writer.needs) / WHOLE_VCPU)
            gets = max(1, min(gets, int(WHOLE_VCPU * (busy / (busy + sleep_us * 1000.0)))))
        if sleep_us != writer.limit_us or gets != writer.gets:
            state.limit_changes += 1
        writer.limit_us, writer.limit_fill, writer.limit_since = sleep_us, fill_ns, t
        state.limit_us = max(state.limit_us, sleep_us)
        set_speed(state, writer, t, gets)


@kernel
def ring_full_ns(case, region):
    """Time at its highest rate in which a writer fills the ring, ns; a ring that has room for all its pages never."""
    if region.writes_per_s <= 0.0 or region.pages <= case.dirty_ring_pages:
        return NEVER_FULL
    if region.sequential == 1:
        return case.dirty_ring_pages / region.writes_per_s * 1e9
    return -math.log1p(-case.dirty_ring_pages / region.pages) * region.pages / region.writes_per_s * 1e9


@kernel
def ring_entries(case, region, worked, full, fills):
    """Entries of the ring in a period: a page has one from one time that the ring is emptied to the next."""
    if fills:
        return int(case.dirty_ring_pages * (worked / full))
    writes = region.writes_per_s * (worked * 1e-9)
    if region.sequential == 1:
        return int(min(float(region.pages), writes))
    return int(-math.expm1(-writes / region.pages) * region.pages)


@kernel
def dirtylimit_set_throttle(case, state, sleep_us, rate):
    """What a vCPU sleeps from now on, us (system/dirtylimit.c:dirtylimit_adjust_throttle, dirtylimit_set_throttle).

    Parameters
    ----------
    case, state : record CASE, STATE
    sleep_us : int, us
        What it slept.
    rate : int, MB/s
        Measured.
    """
    quota = case.vcpu_dirty_limit
    apart, most = abs(rate - quota), max(rate, quota)
    if apart <= TOLERANCE:
        return sleep_us
    if rate == 0:
        return np.int64(0)
    state.limit_highest = max(state.limit_highest, rate)
    full_us = ((case.dirty_ring_pages * case.page_size) >> 20) * 1_000_000 // state.limit_highest
    percent = apart * 100 // most
    step = full_us // 10
    if percent > LINEAR_ABOVE:
        step = int(full_us * percent / float(100 - percent))
    if rate < quota:
        step = -step
    return max(0, min(sleep_us + step, full_us * MOST_SLEEP))
