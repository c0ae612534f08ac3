"""The guest: what its writers have done by a time, and how a throttle slows them."""

from __future__ import annotations

from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.random import draw_key, mix
from migkit.kernels.state import WHOLE_VCPU

PHASE_NUMBER = 0  # syncs begin at 1: this number of a region's first stream is free
_TWO_TO_MINUS_53 = 2.0**-53


@kernel
def guest_setup(s, seed, replicate):
    """Where every writer stands when the migration begins; a phase below 0 is drawn."""
    for r in range(s.case.region_count):
        writer, region = s.writers[r], s.regions[r]
        phase = region.phase
        if phase < 0.0:
            phase = (mix(draw_key(seed, replicate, region_stream(r), PHASE_NUMBER)) >> 11) * _TWO_TO_MINUS_53
        writer.t0, writer.tau0 = s.case.setup_ns, 0
        writer.gets = writer.needs = region.vcpu_share
        writer.first = int(phase * region.pages)


@kernel
def region_stream(r):
    """The first of a region's streams of draws: page by page, one by one, one by one after the clear."""
    return 1 + 3 * r


@inlined_kernel
def writer_ns(writer, t):
    """Guest time of a writer at ``t``, no earlier than the last change of its speed, ns.

    A writer that needs the share ``u`` of its vCPU at full rate keeps it while a throttle ``p`` leaves as much:
    ``dtau/dt = min(1, (1 - p) / u)``. QEMU throttles in slices of 10 ms (system/cpu-throttle.c:cpu_throttle_thread);
    within them a writer is late and catches up, which the sync, much rarer, does not see.
    """
    return writer.tau0 + (t - writer.t0) * writer.gets // writer.needs


@kernel
def set_throttle(s, throttle):
    """Slow the vCPUs from now on (system/cpu-throttle.c:cpu_throttle_set), ``throttle`` in percent."""
    s.state.throttle = throttle
    for r in range(s.case.region_count):
        writer = s.writers[r]
        gets = min(writer.needs, (100 - throttle) * (WHOLE_VCPU // 100))
        if gets != writer.gets:
            writer.tau0 = writer_ns(writer, s.state.t)
            writer.t0 = s.state.t
            writer.gets = gets


@kernel
def writes_of(region, writer, tau):
    """Pages that a writer has written up to guest time ``tau`` (ns), whole; a cyclic one begins at its phase."""
    return writer.first + int(region.writes_per_s * (tau * 1e-9))
