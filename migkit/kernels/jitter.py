"""What a host does not do evenly: slices of RAM, wake-ups and syncs that take longer or shorter; not QEMU's."""

from __future__ import annotations

import math

from migkit.kernels.options import kernel
from migkit.kernels.random import draw_key, mix, uniform

SLICES, SYNCS, WAKEUPS = 1 << 20, (1 << 20) + 1, (1 << 20) + 2  # streams of draws, behind those of the regions


@kernel
def varied(case, state, stream, number):
    """What the event ``number`` of a stream takes over what it takes in the mean.

    ``1 - j + j E`` with ``E`` exponential of mean 1, a keyed draw: the mean is 1, the standard deviation ``j``, and no
    event takes less than ``1 - j``.
    """
    if case.jitter <= 0.0:
        return 1.0
    drawn = uniform(mix(draw_key(state.seed, state.replicate, stream, number)))
    return 1.0 - case.jitter - case.jitter * math.log1p(-drawn)


@kernel
def sync_cost(case, state):
    """Nanoseconds of the next sync."""
    return int(case.sync_ns * varied(case, state, SYNCS, state.syncs)) if case.jitter > 0.0 else case.sync_ns
