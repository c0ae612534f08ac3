"""The sync of the expected engine: cut where the cursor stands, add the writes, join what has become alike."""

from __future__ import annotations

import numpy as np

from migkit.kernels.expected import copy_segment, cut, following
from migkit.kernels.link import guest_ns
from migkit.kernels.options import kernel


@kernel
def cut_at_cursor(ram):
    """Split the cursor's segment in the part that was sent and the part that was not."""
    here = ram.head.cursor
    used = ram.head.used
    ram.head.used = 0.0
    if used <= 0.0:
        return
    segment = ram.segments[here]
    share = used / (segment.length * segment.dirty)
    if share >= 1.0:
        segment.dirty = 0.0
        ram.head.cursor = following(ram, here)
        return
    cut(ram, here, segment.length * share)
    segment.dirty = 0.0
    ram.head.cursor = here + 1


@kernel
def join(ram, n, m):
    """Add segment ``m`` to its neighbour ``n``: the means stay exact."""
    first, second = ram.segments[n], ram.segments[m]
    length = first.length + second.length
    if length > 0.0:
        first.dirty += (second.dirty - first.dirty) * (second.length / length)
        first.known += (second.known - first.known) * (second.length / length)
    first.length = length


@kernel
def neighbours(ram, n, m):
    """Whether segment ``m`` follows ``n`` in the same region and chunk, and the cursor does not stand between them."""
    first, second = ram.segments[n], ram.segments[m]
    return first.region == second.region and first.chunk == second.chunk and m != ram.head.cursor


@kernel
def same_state(ram, regions, n, m):
    """Whether the pages of two segments of a region are alike, or both sent."""
    first, second = ram.segments[n], ram.segments[m]
    if first.dirty == second.dirty and first.known == second.known:
        return True
    if first.region < 0 or regions[first.region].sequential == 1:
        return False
    return first.dirty == 0.0 and second.dirty == 0.0


@kernel
def join_alike(ram, regions):
    """Join neighbours that are alike, or both sent by a cursor that has passed; leave out what stays clean."""
    kept = 0
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
        best = -1
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
def writes_of(region, tau):
    """Page writes of a region up to guest time ``tau`` (ns), whole."""
    return int(region.writes_per_s * (tau * 1e-9))


@kernel
def cut_at_writer(ram, regions, r, since, tau, chunk):
    """Cut a sequential region where the writer began and where it stands, within one chunk (-1: all)."""
    region = regions[r]
    first = writes_of(region, since)
    count = writes_of(region, tau) - first
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
def written_share(region, start, length, since, tau):
    """Share of a segment's pages written between two guest times (0 or 1 for a sequential writer)."""
    if region.sequential == 0:
        return -np.expm1(-region.writes_per_s * ((tau - since) * 1e-9) / region.pages)
    first = writes_of(region, since)
    count = writes_of(region, tau) - first
    if count <= 0:
        return 0.0
    if count >= region.pages:
        return 1.0
    middle = start + 0.5 * length - region.start - first % region.pages
    if middle < 0.0:
        middle += region.pages
    return 1.0 if middle < count else 0.0


@kernel
def expected_sync(ram, case, regions, state, t):
    """Bring the writes up to ``t`` into the segments (migration/ram.c:migration_bitmap_sync, in the mean).

    With ``d`` the probability of being dirty, ``k`` of being known, ``p2`` and ``p12`` of being written since the
    clear and since the last sync: ``d' = d + (1 - d) p12`` where pages wait to be sent, ``d' = k'`` where they
    were, ``k' = k p2 + (1 - k) p12``. Pages are whole: ``remaining = floor(sum + offset)``, and the fraction is carried
    to the next sync, so that slow writers lose nothing however often a sync comes.

    Returns
    -------
    new : int
        Pages that went from clean to dirty.
    """
    tau = guest_ns(state, t)
    before = ram.head.sync_tau
    lazy = case.lazy_clear == 1
    cut_at_cursor(ram)
    join_alike(ram, regions)
    for r in range(case.region_count):
        if regions[r].sequential == 1:
            make_room(ram, 8)
            cut_at_writer(ram, regions, r, before, tau, -1)
            if lazy:
                done = -1
                n = 0
                while n < ram.head.count:
                    if ram.segments[n].region == r and ram.segments[n].chunk != done and ram.segments[n].waits == 0:
                        done = ram.segments[n].chunk
                        make_room(ram, 8)
                        cut_at_writer(ram, regions, r, ram.segments[n].clear_tau, tau, done)
                    n += 1
    total = 0.0
    region_seen, clear_seen = -1, np.int64(-1)
    since_sync, since_clear = 0.0, 0.0
    for n in range(ram.head.count):
        segment = ram.segments[n]
        r = segment.region
        if segment.chunk >= 0 and lazy:
            clear_tau, cleared = segment.clear_tau, segment.waits == 0
            segment.waits = 1
        else:
            clear_tau, cleared = before, False
        if r >= 0 and regions[r].writes_per_s > 0.0:
            region = regions[r]
            if r != region_seen or region.sequential == 1:
                since_sync = written_share(region, segment.start, segment.length, before, tau)
                region_seen, clear_seen, since_clear = r, before, since_sync
            if cleared and clear_tau != clear_seen:
                clear_seen = clear_tau
                since_clear = written_share(region, segment.start, segment.length, clear_seen, tau)
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
    ram.head.sync_tau = tau
    return new
