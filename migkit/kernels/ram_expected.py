"""RAM as expected values: address ranges with a probability of being dirty, instead of pages.

A *segment* is a range of pages of one region and one chunk of the dirty log, all with the same probability of being
dirty and of being known to the log. The cursor passes segments as it passes pages; where it stands at a sync it cuts
a segment in two. In the mean this is the bitmap engine exactly; what it leaves out is the noise around the mean.

Where a uniform writer has more than :data:`MOST_GROUPS` chunks, a segment has several: the cursor clears them one after
the other, and the mean over their clears has a closed form. What is left out then is how the probability differs from
chunk to chunk of a group.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from migkit.kernels.guest import pages_written, writer_ns
from migkit.kernels.options import inlined_kernel, kernel


class ExpectedRam(NamedTuple):
    """Memory of the expected engine for one running migration, independent of the size of the guest."""

    segments: np.ndarray  # records SEGMENT, in address order
    head: np.record  # EXPECTED_HEAD


OUTSIDE, UNUSED = -1, -2  # in place of a region
MOST_GROUPS = 16
"""Groups of chunks; a guest with no more chunks than that under uniform writers has a segment for each."""
SPARE_SEGMENTS = 64  # room for cuts by the cursor and by sequential writers, besides regions and chunks


@kernel
def chunks_inside(case, region):
    """Chunks that lie whole in a region that is written uniformly."""
    if region.writes_per_s <= 0.0 or region.sequential == 1:
        return np.int64(0)
    first = (region.start + case.chunk_pages - 1) // case.chunk_pages
    return max(np.int64(0), (region.start + region.pages) // case.chunk_pages - first)


@kernel
def chunks_of_a_group(case, regions):
    """How many chunks a segment may have."""
    inside = np.int64(0)
    for r in range(case.region_count):
        inside += chunks_inside(case, regions[r])
    return max(np.int64(1), (inside + MOST_GROUPS - 1) // MOST_GROUPS)


@kernel
def most_segments(case, regions):
    """Segments of a migration: regions and gaps, both cut at the chunks under a writer, and room for later cuts.

    It depends on the migration alone, so that its neighbours in a batch change nothing.
    """
    group = chunks_of_a_group(case, regions)
    most = 2 * case.region_count + 3 + SPARE_SEGMENTS
    for r in range(case.region_count):
        chunks = regions[r].pages // case.chunk_pages
        if group > 1 and chunks_inside(case, regions[r]) > 0:
            chunks = chunks // group + 2  # and a piece of a chunk at each end
        most += 2 * (chunks + 2)
    return most


def widest(cases, regions):
    """Segments that have room for any of these migrations (:func:`most_segments`, for all rows at once)."""
    chunk = cases["chunk_pages"][:, None]
    there = np.arange(regions.shape[1]) < cases["region_count"][:, None]
    chunks = regions["pages"] // chunk
    inside = (regions["start"] + regions["pages"]) // chunk - (regions["start"] + chunk - 1) // chunk
    inside = np.where(there & (regions["writes_per_s"] > 0) & (regions["sequential"] == 0), np.maximum(inside, 0), 0)
    group = np.maximum(1, -(-inside.sum(axis=1) // MOST_GROUPS))[:, None]
    each = 2 * (np.where((group > 1) & (inside > 0), chunks // group + 2, chunks) + 2)
    return int((2 * cases["region_count"] + 3 + SPARE_SEGMENTS + np.where(there, each, 0).sum(axis=1)).max())


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
    ram.segments[n].clear_t = 0
    ram.segments[n].grouped = 0
    ram.segments[n].left_t = 0
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
def expected_reset(ram, case, regions, seed, replicate):
    """Setup: every page dirty; one segment per range that is alike, cut at the chunks that are written."""
    ram.head.most = most_segments(case, regions)
    ram.head.count = 0
    ram.head.cursor = 0
    ram.head.sync_t = case.setup_ns
    enter_segment(ram)
    ram.head.fraction = 0.0
    ram.head.offset = 0.0
    ram.head.open = -1
    group = chunks_of_a_group(case, regions)
    ram.head.group_pages = group * case.chunk_pages if group > 1 else 0
    page = np.int64(0)
    while page < case.ram_pages:
        stop = case.ram_pages
        inside = np.int64(OUTSIDE)
        for edge in (case.used_first, case.used_stop):
            if page < edge:
                stop = min(stop, edge)
        if not case.used_first <= page < case.used_stop:
            inside = np.int64(UNUSED)
        for r in range(case.region_count):
            first = regions[r].start
            if first <= page < first + regions[r].pages:
                inside = r
                stop = first + regions[r].pages
            elif page < first:
                stop = min(stop, first)
        chunk = page // case.chunk_pages
        touched = next_written_chunk(case, regions, chunk)
        whole = np.int64(0)
        if group > 1 and inside >= 0 and page == chunk * case.chunk_pages and chunks_inside(case, regions[inside]) > 0:
            whole = min(group, (stop - page) // case.chunk_pages)
        if whole > 0:
            append_segment(ram, page, page + whole * case.chunk_pages, inside, chunk, case.lazy_clear)
            ram.segments[ram.head.count - 1].grouped = 1
            stop = page + whole * case.chunk_pages
        elif touched == chunk:
            stop = min(stop, (chunk + 1) * case.chunk_pages)
            append_segment(ram, page, stop, inside, chunk, case.lazy_clear)
        else:
            # no page of these chunks is ever written: when their log is cleared makes no difference
            if touched >= 0:
                stop = min(stop, touched * case.chunk_pages)
            append_segment(ram, page, stop, inside, np.int64(-1), np.int64(0))
        page = stop
    ram.head.remaining = case.ram_pages
    ram.head.effort = ram.head.count


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
    """Share of zero pages in a region, or outside."""
    if region >= 0:
        return regions[region].zero_share
    return case.idle_zero_share if region == OUTSIDE else 1.0


@kernel
def following(ram, n):
    """The segment behind ``n``; behind the last one comes the first."""
    return n + 1 if n + 1 < ram.head.count else 0


@inlined_kernel
def used_pages(ram):
    """Dirty pages of the cursor's segment that it has passed."""
    return ram.head.taken - ram.head.shared


@inlined_kernel
def enter_segment(ram):
    """The cursor stands where its segment begins, and what lies ahead is not known."""
    ram.head.taken = 0
    ram.head.shared = 0.0
    ram.head.ahead = 0


@inlined_kernel
def leave_segment(ram, here):
    """All of the cursor's segment was sent; the segment behind it.

    Pages are whole and a segment's are not: the last page lies in the next segment in part. Whole pages are counted
    apart from that part, so that it is the same float whether they were taken at once or in many calls.
    """
    end = ram.head.shared + ram.segments[here].length * ram.segments[here].dirty
    whole = np.floor(end)
    ram.head.taken -= np.int64(whole)
    ram.head.shared = end - whole
    ram.segments[here].dirty = 0.0
    return following(ram, here)


@kernel
def clear_chunk(ram, here, t):
    """Re-protect the chunk that segment ``here`` is in: its segments, side by side, start to log anew.

    Of a group of chunks it is the first one; the others follow as the cursor passes.
    """
    if ram.segments[here].grouped == 1:
        ram.segments[here].waits = 0
        ram.segments[here].clear_t = t
        ram.head.open = here
        return
    chunk = ram.segments[here].chunk
    first = here
    while first > 0 and ram.segments[first - 1].chunk == chunk:
        first -= 1
    n = first
    while n < ram.head.count and ram.segments[n].chunk == chunk:
        ram.segments[n].waits = 0
        ram.segments[n].clear_t = t
        n += 1


@inlined_kernel
def expected_stretch(ram, case, regions, t):
    """Clear the chunk under the cursor if it waits; say how many dirty pages follow that cost the same.

    Returns
    -------
    pages : int
        Dirty pages up to the next chunk that waits, the end of a group, or the next change of the zero share.
    zero_share : float
    """
    if ram.head.ahead > 0:
        return ram.head.ahead, ram.head.share
    count = ram.head.count
    here = ram.head.cursor
    # find the segment the next page is in
    steps = 0
    while steps <= count and ram.segments[here].length * ram.segments[here].dirty - used_pages(ram) < 1e-6:
        # all of it was sent but for the rounding of the last page, or none of it is dirty
        here = leave_segment(ram, here) if used_pages(ram) > 0.0 else following(ram, here)
        steps += 1
    ram.head.cursor = here
    if ram.head.open >= 0 and ram.head.open != here:
        ram.segments[ram.head.open].left_t = t
        ram.head.open = -1
    if ram.segments[here].waits == 1:
        clear_chunk(ram, here, t)
    ram.head.share = zero_share_at(case, regions, ram.segments[here].region)
    ram.head.ahead = pages_of_stretch(ram, case, regions, here)
    return ram.head.ahead, ram.head.share


@inlined_kernel
def pages_of_stretch(ram, case, regions, here):
    """Dirty pages from the cursor on, in segment ``here``, that need no clear and cost the same."""
    share = ram.head.share
    pages = ram.segments[here].length * ram.segments[here].dirty - used_pages(ram)
    if ram.head.open == here:
        return min(ram.head.remaining, max(1, int(pages + 0.5)))
    n = here
    for _ in range(ram.head.count - 1):
        n = following(ram, n)
        if ram.segments[n].length * ram.segments[n].dirty <= 0.0:
            continue
        if ram.segments[n].waits == 1 or zero_share_at(case, regions, ram.segments[n].region) != share:
            return min(ram.head.remaining, max(1, int(pages + 0.5)))
        pages += ram.segments[n].length * ram.segments[n].dirty
    return ram.head.remaining


@kernel
def copy_segment(ram, source, target):
    """Copy one segment over another; field by field, since Numba copies a record byte by byte."""
    old, new = ram.segments[source], ram.segments[target]
    new.start = old.start
    new.length = old.length
    new.dirty = old.dirty
    new.known = old.known
    new.region = old.region
    new.chunk = old.chunk
    new.waits = old.waits
    new.clear_t = old.clear_t
    new.grouped = old.grouped
    new.left_t = old.left_t


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
    if ram.head.open > n:
        ram.head.open += 1


@inlined_kernel
def expected_take(ram, case, count):
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
        enter_segment(ram)
        behind = (1.0 - density) / density
        if case.host_pages > 1:
            # behind the host page of that page
            end = ram.segments[last].start + ram.segments[last].length
            behind = max(0.0, end - np.ceil((end - behind) / case.host_pages) * case.host_pages)
        # it matters where the region goes on in another chunk: the next page sent may clear this one
        alone = last == 0 or ram.segments[last - 1].region != ram.segments[last].region
        alone = alone or ram.segments[last].grouped == 1
        if not alone and 0.0 < behind < ram.segments[last].length and ram.head.count < ram.head.most:
            cut(ram, last, ram.segments[last].length - behind)
        ram.head.cursor = following(ram, last)
        ram.head.offset = ram.head.fraction
        return
    ram.head.taken += count
    ram.head.ahead = max(0, ram.head.ahead - count)
    here = ram.head.cursor
    for _ in range(2 * ram.head.count):
        if used_pages(ram) < ram.segments[here].length * ram.segments[here].dirty:
            break
        here = leave_segment(ram, here)
        if used_pages(ram) <= 0.0:
            break
    ram.head.cursor = here


@kernel
def expected_alike(ram, case, regions, timed):
    """Dirty pages ahead with nothing in between and one cost, and their zero share; 0 if a chunk waits first.

    Where it is known when each page is put (``timed``), chunks that are cleared on the way are nothing in between.
    """
    count = ram.head.count
    n = ram.head.cursor
    pages = -used_pages(ram)
    share = -1.0
    for _ in range(count):
        dirty = ram.segments[n].length * ram.segments[n].dirty
        if dirty > 0.0:
            here = zero_share_at(case, regions, ram.segments[n].region)
            if (ram.segments[n].waits == 1 and not timed) or (share >= 0.0 and here != share):
                return max(0, int(pages)), share
            share = here
            pages += dirty
            if n == ram.head.open and not timed:
                return min(ram.head.remaining, max(0, int(pages))), share
        n = following(ram, n)
    return min(ram.head.remaining, int(pages)), share


@kernel
def cut_at_cursor(ram, t, host_pages):
    """Split the cursor's segment in the part that was sent and the part that was not.

    A call in huge pages ends where a host page does, but for the rounding of the last page.

    Of a group of chunks the part that was not sent waits again; in fact the rest of the cursor's chunk is cleared.
    """
    here = ram.head.cursor
    used = used_pages(ram)
    opened = ram.head.open
    enter_segment(ram)
    ram.head.open = -1
    if opened >= 0:
        ram.segments[opened].left_t = t
    if used <= 0.0:
        if opened == here:
            ram.segments[here].waits = 1
        return
    segment = ram.segments[here]
    share = used / (segment.length * segment.dirty)
    if host_pages > 1:
        page = segment.start + segment.length * share
        end = np.floor(page / host_pages + 0.5) * host_pages
        if abs(end - page) * segment.dirty <= 1.5:
            share = (end - segment.start) / segment.length
    if share <= 0.0:
        return
    if share >= 1.0:
        segment.dirty = 0.0
        ram.head.cursor = following(ram, here)
        return
    cut(ram, here, segment.length * share)
    segment.dirty = 0.0
    ram.head.cursor = here + 1
    if opened == here:
        ram.segments[here + 1].waits = 1


@kernel
def join(ram, n, m):
    """Add segment ``m`` to its neighbour ``n``: the means stay exact."""
    first, second = ram.segments[n], ram.segments[m]
    length = first.length + second.length
    if length > 0.0:
        first.dirty += (second.dirty - first.dirty) * (second.length / length)
        first.known += (second.known - first.known) * (second.length / length)
    first.length = length
    first.left_t = second.left_t


@kernel
def neighbours(ram, n, m):
    """Whether segment ``m`` follows ``n`` in the same region and chunk, and the cursor does not stand between them."""
    first, second = ram.segments[n], ram.segments[m]
    if first.grouped == 1 and second.grouped == 1:
        # groups of one region, both to be cleared, or cleared one after the other
        follows = first.waits == second.waits and (first.waits == 1 or first.left_t == second.clear_t)
        fits = first.length + second.length <= ram.head.group_pages
        return fits and follows and first.region == second.region and m != ram.head.cursor
    return first.region == second.region and first.chunk == second.chunk and m != ram.head.cursor


@kernel
def same_state(ram, regions, n, m):
    """Whether the pages of two segments of a region are alike, or both sent."""
    first, second = ram.segments[n], ram.segments[m]
    if first.dirty == second.dirty and first.known == second.known:
        return True
    if first.grouped == 1 and (first.waits == 1 or first.clear_t == 0):
        return True  # waiting for their clear, or never cleared in pieces: the mean of both is all that is kept
    if first.region < 0 or regions[first.region].sequential == 1:
        return False
    return first.dirty == 0.0 and second.dirty == 0.0


@kernel
def join_alike(ram, regions):
    """Join neighbours that are alike, or both sent by a cursor that has passed; leave out what stays clean."""
    kept = np.int64(0)
    cursor = ram.head.cursor
    for n in range(ram.head.count):
        if n == cursor:
            ram.head.cursor = kept
        if ram.segments[n].region < 0 and ram.segments[n].dirty == 0.0:
            # outside the regions nothing is written: once sent, it is clean for good
            continue
        if kept != n:
            copy_segment(ram, n, kept)
        if kept > 0 and neighbours(ram, kept - 1, kept) and same_state(ram, regions, kept - 1, kept):
            join(ram, kept - 1, kept)
        else:
            kept += 1
    # the cursor has to stand somewhere
    ram.head.count = max(1, kept)
    if ram.head.cursor >= kept:
        ram.head.cursor = 0


@kernel
def make_room(ram, spare):
    """Join the two neighbours that differ least until ``spare`` segments can be added."""
    while ram.head.count + spare > ram.head.most:
        best = np.int64(-1)
        least = np.inf
        for n in range(ram.head.count - 1):
            if neighbours(ram, n, n + 1):
                first, second = ram.segments[n], ram.segments[n + 1]
                loss = abs(first.dirty - second.dirty) * min(first.length, second.length)
                if loss < least:
                    best, least = n, loss
        if best < 0:
            return
        join(ram, best, best + 1)
        for k in range(best + 1, ram.head.count - 1):
            copy_segment(ram, k + 1, k)
        ram.head.count -= 1
        if ram.head.cursor > best:
            ram.head.cursor -= 1


@kernel
def cut_at_writer(ram, case, regions, writers, r, since_t, t, chunk):
    """Cut a sequential region where its writer stood and where it stands, within one chunk (-1: all)."""
    region = regions[r]
    since, tau = writer_ns(writers, r, since_t), writer_ns(writers, r, t)
    first, count = pages_written(case, region, writers.now[r], since, tau)
    if count <= 0 or count >= region.pages:
        return
    for edge in (first % region.pages, (first + count) % region.pages):
        page = float(region.start + edge)
        for n in range(ram.head.count):
            if ram.segments[n].region == r and (chunk < 0 or ram.segments[n].chunk == chunk):
                inside = page - ram.segments[n].start
                if 0.0 < inside < ram.segments[n].length:
                    cut(ram, n, inside)
                    break


@kernel
def written_share(case, regions, writers, segment, since_t, t):
    """Share of a segment's pages written between two times (0 or 1 for a sequential writer)."""
    region = regions[segment.region]
    since, tau = writer_ns(writers, segment.region, since_t), writer_ns(writers, segment.region, t)
    if region.sequential == 0:
        return -math.expm1(-region.writes_per_s * ((tau - since) * 1e-9) / region.pages * case.track_pages)
    first, count = pages_written(case, region, writers.now[segment.region], since, tau)
    if count <= 0:
        return 0.0
    if count >= region.pages:
        return 1.0
    middle = segment.start + 0.5 * segment.length - region.start - first % region.pages
    if middle < 0.0:
        middle += region.pages
    return 1.0 if middle < count else 0.0


@kernel
def written_since_clears(case, regions, writers, segment, t):
    """Share of the pages of a group of chunks written since each chunk was cleared, one after the other.

    With ``n`` chunks cleared at ``c + j (l - c) / n``, ``j = 0 .. n - 1``, and the rate ``w`` of a page: the mean of
    ``1 - exp(-w (t - c_j))`` is ``1 - (exp(-w (t - l)) - exp(-w (t - c))) / (n expm1(w (l - c) / n))``.
    """
    region = regions[segment.region]
    rate = region.writes_per_s * 1e-9 / region.pages * case.track_pages
    cleared = writer_ns(writers, segment.region, segment.clear_t)
    left = writer_ns(writers, segment.region, segment.left_t)
    now = writer_ns(writers, segment.region, t)
    chunks = max(1.0, segment.length / case.chunk_pages)
    step = math.expm1(rate * (left - cleared) / chunks) * chunks
    if step <= 0.0:
        return -math.expm1(-rate * (now - cleared))
    return 1.0 - (math.exp(-rate * (now - left)) - math.exp(-rate * (now - cleared))) / step


@kernel
def expected_sync(ram, case, regions, writers, t, number):
    """Bring the writes up to time ``t`` into the segments (migration/ram.c:migration_bitmap_sync, in the mean).

    With ``d`` the probability of being dirty, ``k`` of being known, ``p2`` and ``p12`` of being written since the
    clear and since the last sync: ``d' = d + (1 - d) p12`` where pages wait to be sent, ``d' = k'`` where they
    were, ``k' = k p2 + (1 - k) p12``. Pages are whole: ``remaining = floor(sum + offset)``, and the fraction is carried
    to the next sync, so that slow writers lose nothing however often a sync comes.

    Returns
    -------
    new : int
        Pages that went from clean to dirty.
    """
    before = ram.head.sync_t
    lazy = case.lazy_clear == 1
    cut_at_cursor(ram, t, case.host_pages)
    join_alike(ram, regions)
    for r in range(case.region_count):
        if regions[r].sequential == 1:
            make_room(ram, 8)
            cut_at_writer(ram, case, regions, writers, r, before, t, np.int64(-1))
            if lazy:
                done = np.int64(-1)
                n = 0
                while n < ram.head.count:
                    if ram.segments[n].region == r and ram.segments[n].chunk != done and ram.segments[n].waits == 0:
                        done = ram.segments[n].chunk
                        make_room(ram, 8)
                        cut_at_writer(ram, case, regions, writers, r, ram.segments[n].clear_t, t, done)
                    n += 1
    ram.head.effort = ram.head.count
    total = 0.0
    region_seen, clear_seen = -1, np.int64(-1)
    since_sync, since_clear = 0.0, 0.0
    for n in range(ram.head.count):
        segment = ram.segments[n]
        r = segment.region
        if segment.chunk >= 0 and lazy:
            clear_t, cleared = segment.clear_t, segment.waits == 0
            segment.waits = 1
        else:
            clear_t, cleared = before, False
        if r >= 0 and regions[r].writes_per_s > 0.0:
            if r != region_seen or regions[r].sequential == 1:
                since_sync = written_share(case, regions, writers, segment, before, t)
                region_seen, clear_seen, since_clear = r, before, since_sync
            if cleared and segment.grouped == 1:
                clear_seen = np.int64(-1)
                since_clear = written_since_clears(case, regions, writers, segment, t)
            elif cleared and clear_t != clear_seen:
                clear_seen = clear_t
                since_clear = written_share(case, regions, writers, segment, clear_seen, t)
            sent = segment.dirty == 0.0
            segment.dirty += (1.0 - segment.dirty) * since_sync
            if cleared:
                segment.known = segment.known * since_clear + (1.0 - segment.known) * since_sync
                if sent:
                    segment.dirty = segment.known
            elif lazy:
                segment.known += (1.0 - segment.known) * since_sync
        total += segment.length * segment.dirty
    make_room(ram, 8)
    total += ram.head.offset
    remaining = int(total + 1e-9)
    new = remaining - ram.head.remaining
    ram.head.remaining = remaining
    ram.head.fraction = max(0.0, total - remaining)
    ram.head.sync_t = t
    return new


@kernel
def expected_rewind(ram):
    """Set the cursor to the first page; a sync has cut the segment that it was in."""
    ram.head.cursor = 0
    enter_segment(ram)


@kernel
def expected_tail(ram, case):
    """Dirty pages from the cursor to the end of RAM in the mean."""
    pages = -used_pages(ram)
    for n in range(ram.head.cursor, ram.head.count):
        pages += ram.segments[n].length * ram.segments[n].dirty
    return max(0, min(ram.head.remaining, int(pages + 0.5)))


@kernel
def expected_dirty_runs(ram, case):
    """Runs of dirty pages in the mean: a run begins at a dirty page behind one that is not.

    Of host pages where these are larger: each is dirty as a whole (:func:`expected_make_whole`).
    """
    host = float(case.host_pages)
    total, end, before = 0.0, 0.0, 0.0
    for n in range(ram.head.count):
        segment = ram.segments[n]
        if segment.start > end:
            before = 0.0  # what was left out is clean
        if host > 1.0:
            units = max(1.0, segment.length / host)
            if n == 0 or np.floor(segment.start / host) != np.floor((end - 1e-6) / host):
                total += segment.dirty * (1.0 - before + (units - 1.0) * (1.0 - segment.dirty))
            end = segment.start + segment.length
            before = segment.dirty
            continue
        first = min(1.0, segment.length)
        total += segment.dirty * (first * (1.0 - before) + (segment.length - first) * (1.0 - segment.dirty))
        end = segment.start + segment.length
        before = segment.dirty
    return int(total + 0.5)


@kernel
def expected_dirty_of(ram, regions, r):
    """Dirty pages of a region in the mean."""
    pages = 0.0
    for n in range(ram.head.count):
        if ram.segments[n].region == r:
            pages += ram.segments[n].length * ram.segments[n].dirty
    return pages
