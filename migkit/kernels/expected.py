"""RAM as expected values: address ranges with a probability of being dirty, instead of pages.

A *segment* is a range of pages of one region and one chunk of the dirty log, all with the same probability of being
dirty and of being known to the log. The cursor passes segments as it passes pages; where it stands at a sync it cuts
a segment in two. In the mean this is the bitmap engine exactly; what it leaves out is the noise around the mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from migkit.kernels.options import kernel

SEGMENT = np.dtype(
    [
        ("start", np.float64),  # first page
        ("length", np.float64),  # pages
        ("dirty", np.float64),  # probability that a page is to be sent
        ("known", np.float64),  # probability that a page is in the dirty log since its chunk was cleared
        ("region", np.int64),  # -1 outside the regions
        ("chunk", np.int64),  # of the dirty log, -1 where nothing is written
        ("waits", np.int64),  # 1: the log of the chunk is to be cleared before a page of it is sent
        ("clear_tau", np.int64),  # guest time of the last clear
    ]
)
EXPECTED_HEAD = np.dtype(
    [
        ("count", np.int64),  # segments
        ("most", np.int64),  # segments there may be
        ("remaining", np.int64),  # dirty pages, whole
        ("cursor", np.int64),  # segment the cursor is in
        ("sync_tau", np.int64),  # guest time of the last sync
        ("used", np.float64),  # dirty pages of the cursor's segment that it has passed
        ("fraction", np.float64),  # what the whole pages left of the last sync's sum
        ("offset", np.float64),  # fraction of a page carried to the next sync
    ]
)


class ExpectedRam(NamedTuple):
    """Memory of the expected engine for one running migration, independent of the size of the guest."""

    segments: np.ndarray  # records SEGMENT, in address order
    head: np.record  # EXPECTED_HEAD


SPARE_SEGMENTS = 64  # room for cuts by the cursor and by sequential writers, besides regions and chunks


@kernel
def most_segments(case, regions):
    """Segments of a migration: regions and gaps, both cut at the chunks under a writer, and room for later cuts.

    It depends on the migration alone, so that its neighbours in a batch change nothing.
    """
    chunks = 0
    for r in range(case.region_count):
        chunks += regions[r].pages // case.chunk_pages + 2
    return 2 * case.region_count + 1 + 2 * chunks + SPARE_SEGMENTS


@kernel
def append_segment(ram, start, stop, region, chunk, waits):
    """Add a fully dirty range; consecutive calls build the address space."""
    n = ram.head.count
    ram.segments[n].start = start
    ram.segments[n].length = stop - start
    ram.segments[n].dirty = 1.0
    ram.segments[n].known = float(waits) if region >= 0 else 0.0
    ram.segments[n].region = region
    ram.segments[n].chunk = chunk
    ram.segments[n].waits = waits
    ram.segments[n].clear_tau = 0
    ram.head.count = n + 1


@kernel
def next_written_chunk(case, regions, chunk):
    """The first chunk from ``chunk`` on that a writer touches, -1 if there is none.

    Pages that are not written matter in such a chunk too: sending one of them clears its log.
    """
    found = np.int64(-1)
    for r in range(case.region_count):
        if regions[r].writes_per_s > 0.0:
            first = regions[r].start // case.chunk_pages
            last = (regions[r].start + regions[r].pages - 1) // case.chunk_pages
            if last >= chunk and (found < 0 or max(first, chunk) < found):
                found = max(first, chunk)
    return found


@kernel
def expected_reset(ram, case, regions):
    """Setup: every page dirty; one segment per range that is alike, cut at the chunks that are written."""
    ram.head.most = most_segments(case, regions)
    ram.head.count = 0
    ram.head.cursor = 0
    ram.head.sync_tau = 0
    ram.head.used = 0.0
    ram.head.fraction = 0.0
    ram.head.offset = 0.0
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
        chunk = page // case.chunk_pages
        touched = next_written_chunk(case, regions, chunk)
        if touched == chunk:
            stop = min(stop, (chunk + 1) * case.chunk_pages)
            append_segment(ram, page, stop, inside, chunk, case.lazy_clear)
        else:
            # no page of these chunks is ever written: when their log is cleared makes no difference
            if touched >= 0:
                stop = min(stop, touched * case.chunk_pages)
            append_segment(ram, page, stop, inside, -1, 0)
        page = stop
    ram.head.remaining = case.ram_pages


@kernel
def expected_remaining(ram):
    """Dirty pages, a whole number; the fraction left over is carried to the next sync."""
    return ram.head.remaining


@kernel
def expected_fraction(ram):
    """What the whole dirty pages left of the last sync's sum."""
    return ram.head.fraction


@kernel
def zero_share_at(case, regions, region):
    """Share of zero pages in a region, -1 for outside."""
    return case.idle_zero_share if region < 0 else regions[region].zero_share


@kernel
def following(ram, n):
    """The segment behind ``n``; behind the last one comes the first."""
    return n + 1 if n + 1 < ram.head.count else 0


@kernel
def clear_chunk(ram, here, tau):
    """Re-protect the chunk that segment ``here`` is in: its segments, side by side, start to log anew."""
    chunk = ram.segments[here].chunk
    first = here
    while first > 0 and ram.segments[first - 1].chunk == chunk:
        first -= 1
    n = first
    while n < ram.head.count and ram.segments[n].chunk == chunk:
        ram.segments[n].waits = 0
        ram.segments[n].clear_tau = tau
        n += 1


@kernel
def expected_stretch(ram, case, regions, tau):
    """Clear the chunk under the cursor if it waits; say how many dirty pages follow that cost the same.

    Returns
    -------
    pages : int
        Dirty pages up to the next chunk that waits or the next change of the zero share.
    zero_share : float
    """
    count = ram.head.count
    here = ram.head.cursor
    # find the segment the next page is in
    steps = 0
    while steps <= count and ram.segments[here].length * ram.segments[here].dirty - ram.head.used < 1e-6:
        if ram.head.used > 0.0:
            # all of it was sent but for the rounding of the last page
            ram.segments[here].dirty = 0.0
            ram.head.used = 0.0
        here = following(ram, here)
        steps += 1
    ram.head.cursor = here
    if ram.segments[here].waits == 1:
        clear_chunk(ram, here, tau)
    share = zero_share_at(case, regions, ram.segments[here].region)
    pages = ram.segments[here].length * ram.segments[here].dirty - ram.head.used
    n = here
    for _ in range(count - 1):
        n = following(ram, n)
        if ram.segments[n].length * ram.segments[n].dirty <= 0.0:
            continue
        if ram.segments[n].waits == 1 or zero_share_at(case, regions, ram.segments[n].region) != share:
            return min(ram.head.remaining, max(1, int(pages + 0.5))), share
        pages += ram.segments[n].length * ram.segments[n].dirty
    return ram.head.remaining, share


@kernel
def copy_segment(ram, source, target):
    """Copy one segment over another."""
    old, new = ram.segments[source], ram.segments[target]
    new.start = old.start
    new.length = old.length
    new.dirty = old.dirty
    new.known = old.known
    new.region = old.region
    new.chunk = old.chunk
    new.waits = old.waits
    new.clear_tau = old.clear_tau


@kernel
def cut(ram, n, pages):
    """Cut segment ``n`` after ``pages`` pages; the second piece is ``n + 1``, the cursor stays where it is."""
    for k in range(ram.head.count - 1, n - 1, -1):
        copy_segment(ram, k, k + 1)
    ram.head.count += 1
    first, second = ram.segments[n], ram.segments[n + 1]
    second.length = first.length - pages
    second.start = first.start + pages
    first.length = pages
    if ram.head.cursor > n:
        ram.head.cursor += 1


@kernel
def expected_take(ram, count):
    """Send ``count`` pages from the cursor on."""
    ram.head.remaining -= count
    if ram.head.remaining == 0:
        # all sent: the fraction of a page that the whole numbers leave is carried to the next sync
        # the cursor stands behind the last dirty page: with density d, (1 - d) / d pages before its segment's end
        n = ram.head.cursor
        last, density = n, 1.0
        for _ in range(ram.head.count):
            if ram.segments[n].dirty > 0.0:
                last, density = n, ram.segments[n].dirty
                ram.segments[n].dirty = 0.0
            n = following(ram, n)
        ram.head.used = 0.0
        behind = (1.0 - density) / density
        # it matters where the region goes on in another chunk: the next page sent may clear this one
        alone = last == 0 or ram.segments[last - 1].region != ram.segments[last].region
        if not alone and 0.0 < behind < ram.segments[last].length and ram.head.count < ram.head.most:
            cut(ram, last, ram.segments[last].length - behind)
        ram.head.cursor = following(ram, last)
        ram.head.offset = ram.head.fraction
        return
    left = float(count)
    here = ram.head.cursor
    for _ in range(2 * ram.head.count):
        available = ram.segments[here].length * ram.segments[here].dirty - ram.head.used
        if left < available:
            ram.head.used += left
            break
        left -= max(available, 0.0)
        ram.segments[here].dirty = 0.0
        ram.head.used = 0.0
        here = following(ram, here)
        if left <= 0.0:
            break
    ram.head.cursor = here


@kernel
def expected_alike(ram, case, regions):
    """Dirty pages ahead with nothing in between and one cost, and their zero share; 0 if a chunk waits first."""
    count = ram.head.count
    n = ram.head.cursor
    pages = -ram.head.used
    share = -1.0
    for _ in range(count):
        dirty = ram.segments[n].length * ram.segments[n].dirty
        if dirty > 0.0:
            here = zero_share_at(case, regions, ram.segments[n].region)
            if ram.segments[n].waits == 1 or (share >= 0.0 and here != share):
                return max(0, int(pages)), share
            share = here
            pages += dirty
        n = following(ram, n)
    return min(ram.head.remaining, int(pages)), share
