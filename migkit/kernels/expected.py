"""RAM as expected values: address ranges with a probability of being dirty, instead of pages.

A *segment* is a range of pages of one region and one chunk of the dirty log, all with the same probability of being
dirty and of being known to the log. The cursor passes segments as it passes pages; where it stands at a sync it cuts
a segment in two. In the mean this is the bitmap engine exactly; what it leaves out is the noise around the mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from migkit.kernels.options import kernel


class ExpectedRam(NamedTuple):
    """Memory of the expected engine for one running migration, independent of the size of the guest."""

    start: np.ndarray  # float64, first page of each segment
    length: np.ndarray  # float64, pages
    dirty: np.ndarray  # float64, probability that a page is to be sent
    known: np.ndarray  # float64, probability that a page is in the dirty log since its chunk was cleared
    region: np.ndarray  # int64, -1 outside the regions
    chunk: np.ndarray  # int64
    waits: np.ndarray  # int64, 1: the log of the segment's chunk is to be cleared before a page of it is sent
    clear_tau: np.ndarray  # int64, guest time of the last clear
    ints: np.ndarray  # int64: indices below
    floats: np.ndarray  # float64: indices below


COUNT, REMAINING, SEGMENT, SYNC_TAU = range(4)
USED, FRACTION, OFFSET = range(3)  # pages passed in the cursor's segment; of the last sync, and carried: see sync
INTS, FLOATS = 4, 3
SPARE_SEGMENTS = 64  # room for cuts by the cursor and by sequential writers, besides regions and chunks


@kernel
def append_segment(ram, start, stop, region, chunk, waits):
    """Add a fully dirty range; consecutive calls build the address space."""
    n = ram.ints[COUNT]
    ram.start[n] = start
    ram.length[n] = stop - start
    ram.dirty[n] = 1.0
    ram.known[n] = float(waits)
    ram.region[n] = region
    ram.chunk[n] = chunk
    ram.waits[n] = waits
    ram.clear_tau[n] = 0
    ram.ints[COUNT] = n + 1


@kernel
def expected_reset(ram, case, regions):
    """Setup: every page dirty; one segment per idle range, one per region and chunk."""
    ram.ints[:] = 0
    ram.floats[:] = 0.0
    page = 0
    while page < case.ram_pages:
        stop = case.ram_pages
        inside = -1
        for r in range(case.region_count):
            first = regions[r].start
            if first <= page < first + regions[r].pages:
                inside = r
                stop = first + regions[r].pages
            elif page < first:
                stop = min(stop, first)
        if inside < 0 or regions[inside].writes_per_s <= 0.0:
            append_segment(ram, page, stop, inside, -1, 0)
            page = stop
            continue
        chunk = page // case.chunk_pages
        stop = min(stop, (chunk + 1) * case.chunk_pages)
        append_segment(ram, page, stop, inside, chunk, case.lazy_clear)
        page = stop
    ram.ints[REMAINING] = case.ram_pages


@kernel
def expected_remaining(ram):
    """Dirty pages, a whole number; the fraction left over is carried to the next sync."""
    return ram.ints[REMAINING]


@kernel
def zero_share_at(case, regions, region):
    """Share of zero pages in a region, -1 for outside."""
    return case.idle_zero_share if region < 0 else regions[region].zero_share


@kernel
def clear_chunk(ram, chunk, tau):
    """Re-protect a chunk of the log: all its segments start to log anew."""
    for n in range(ram.ints[COUNT]):
        if ram.chunk[n] == chunk:
            ram.waits[n] = 0
            ram.clear_tau[n] = tau


@kernel
def expected_stretch(ram, case, regions, tau):
    """Clear the chunk under the cursor if it waits; say how many dirty pages follow that cost the same.

    Returns
    -------
    pages : int
        Dirty pages up to the next chunk that waits or the next change of the zero share.
    zero_share : float
    """
    count = ram.ints[COUNT]
    here = ram.ints[SEGMENT]
    # find the segment the next page is in
    steps = 0
    while steps <= count and ram.length[here] * ram.dirty[here] - ram.floats[USED] < 1e-6:
        here = here + 1 if here + 1 < count else 0
        ram.floats[USED] = 0.0
        steps += 1
    ram.ints[SEGMENT] = here
    if ram.waits[here] == 1:
        clear_chunk(ram, ram.chunk[here], tau)
    share = zero_share_at(case, regions, ram.region[here])
    pages = ram.length[here] * ram.dirty[here] - ram.floats[USED]
    n = here
    for _ in range(count - 1):
        n = n + 1 if n + 1 < count else 0
        if ram.length[n] * ram.dirty[n] <= 0.0:
            continue
        if ram.waits[n] == 1 or zero_share_at(case, regions, ram.region[n]) != share:
            return min(ram.ints[REMAINING], max(1, int(pages + 0.5))), share
        pages += ram.length[n] * ram.dirty[n]
    return ram.ints[REMAINING], share


@kernel
def expected_take(ram, count):
    """Send ``count`` pages from the cursor on."""
    ram.ints[REMAINING] -= count
    if ram.ints[REMAINING] == 0:
        # all sent: the fraction of a page that the whole numbers leave is carried to the next sync
        for n in range(ram.ints[COUNT]):
            ram.dirty[n] = 0.0
        ram.floats[USED] = 0.0
        ram.floats[OFFSET] = ram.floats[FRACTION]
        return
    left = float(count)
    here = ram.ints[SEGMENT]
    for _ in range(2 * ram.ints[COUNT]):
        available = ram.length[here] * ram.dirty[here] - ram.floats[USED]
        if left < available:
            ram.floats[USED] += left
            break
        left -= max(available, 0.0)
        ram.dirty[here] = 0.0
        ram.floats[USED] = 0.0
        here = here + 1 if here + 1 < ram.ints[COUNT] else 0
        if left <= 0.0:
            break
    ram.ints[SEGMENT] = here


@kernel
def expected_alike(ram, case, regions):
    """Dirty pages ahead with nothing in between and one cost, and their zero share; 0 if a chunk waits first."""
    count = ram.ints[COUNT]
    n = ram.ints[SEGMENT]
    pages = -ram.floats[USED]
    share = -1.0
    for _ in range(count):
        dirty = ram.length[n] * ram.dirty[n]
        if dirty > 0.0:
            here = zero_share_at(case, regions, ram.region[n])
            if ram.waits[n] == 1 or (share >= 0.0 and here != share):
                return max(0, int(pages)), share
            share = here
            pages += dirty
        n = n + 1 if n + 1 < count else 0
    return min(ram.ints[REMAINING], int(pages)), share
