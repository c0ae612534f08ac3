"""The guest: what its writers have done by a time, and how a throttle slows them."""

from __future__ import annotations

import numpy as np

from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.random import draw_key, mix, uniform
from migkit.kernels.state import TIMESLICE_NS, WHOLE_VCPU

PHASE_NUMBER = 0  # syncs begin at 1: this number of a region's first stream is free


@kernel
def guest_setup(s, seed, replicate):
    """Where every writer stands when the migration begins; a phase below 0 is drawn."""
    for r in range(s.case.region_count):
        writer, region = s.writers.now[r], s.regions[r]
        phase = region.phase
        if phase < 0.0:
            phase = uniform(mix(draw_key(seed, replicate, region_stream(r), PHASE_NUMBER)))
        writer.t0, writer.tau0 = s.case.setup_ns, 0
        writer.gets = writer.needs = region.vcpu_share
        writer.first = int(phase * region.pages)


@kernel
def region_stream(r):
    """The first of a region's streams of draws: page by page, one by one, one by one after the clear."""
    return 1 + 3 * r


@kernel
def work_ns(region, rates, tau):
    """What guest time ``tau`` is worth at the region's highest rate, ns: the integral of its rates over that."""
    work = np.int64(0)
    if region.period_ns > 0:
        work = tau // region.period_ns * region.period_work_ns
        tau %= region.period_ns
    low, high = region.rate_first, region.rate_first + region.rate_count
    while high - low > 1:
        middle = (low + high) // 2
        if rates[middle].from_ns <= tau:
            low = middle
        else:
            high = middle
    return work + rates[low].before_ns + int((tau - rates[low].from_ns) * rates[low].share)


@inlined_kernel
def writer_ns(writers, r, t):
    """Time at its highest rate in which the writer of region ``r`` would have written as much as it has by ``t``, ns.

    Without rates that change it is its guest time.
    """
    tau = guest_ns(writers.now[r], t)
    if writers.regions[r].rate_count == 0:
        return tau
    return work_ns(writers.regions[r], writers.rates, tau)


@inlined_kernel
def guest_ns(writer, t):
    """Guest time of a writer at ``t``, ns.

    A writer that needs the share ``u`` of its vCPU at full rate keeps it while a throttle ``p`` leaves as much:
    ``dtau/dt = min(1, (1 - p) / u)``. ``t`` is that of the last sync, or a later one.
    QEMU throttles in slices of 10 ms (system/cpu-throttle.c:cpu_throttle_thread); within them a writer is late and
    catches up, which the sync, much rarer, does not see.
    """
    if t < writer.t0:
        return writer.was_tau0 + (t - writer.was_t0) * writer.was_gets // writer.needs
    if writer.gets == writer.needs:
        return writer.tau0 + t - writer.t0  # the same, without a division
    return writer.tau0 + (t - writer.t0) * writer.gets // writer.needs


@kernel
def set_speed(state, writer, t, gets):
    """Give a writer so much of its vCPU from a time on; what it had at the last sync is kept for the next one."""
    tau = guest_ns(writer, t)
    if writer.t0 <= state.synced_at:
        writer.was_t0, writer.was_tau0, writer.was_gets = writer.t0, writer.tau0, writer.gets
    writer.t0, writer.tau0, writer.gets = t, tau, gets


@kernel
def set_throttle(s, throttle):
    """Slow the vCPUs from now on (system/cpu-throttle.c:cpu_throttle_set), ``throttle`` in percent.

    A pause that ends late takes from the slice behind it, which the timer has begun. What is written in the rest of
    that slice takes longer, the longer the pause was: ``slice / (1 + loss pause / slice)``.
    """
    s.state.throttle = throttle
    if s.state.stopped_t >= 0:
        return
    for r in range(s.case.region_count):
        writer = s.writers.now[r]
        left = (100 - throttle) * (WHOLE_VCPU // 100) * (TIMESLICE_NS - s.case.throttle_late_ns) // TIMESLICE_NS
        gets = min(writer.needs, int(left / (1.0 + s.case.throttle_loss * (throttle / (100 - throttle)))))
        if gets != writer.gets:
            set_speed(s.state, writer, s.state.t, gets)


@kernel
def stop_writers(s):
    """Stop the vCPUs for good: from now on no writer gets any time."""
    for r in range(s.case.region_count):
        set_speed(s.state, s.writers.now[r], s.state.t, np.int64(0))


@kernel
def writes_of(region, writer, tau):
    """Pages written up to time ``tau`` (ns, of `writer_ns`), whole; a cyclic writer begins at its phase."""
    return writer.first + int(region.writes_per_s * (tau * 1e-9))


@kernel
def pages_written(case, region, writer, since, until):
    """What a cyclic writer made dirty between two times of `writer_ns`: first page, and pages, whole tracked units."""
    first = writes_of(region, writer, since)
    count = writes_of(region, writer, until) - first
    if count > 0 and case.track_pages > 1:
        inside = first % case.track_pages
        first -= inside
        count = -(-(count + inside) // case.track_pages) * case.track_pages
    return first, count
