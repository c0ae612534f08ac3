"""The sync of the expected engine: cut where the cursor stands, add the writes, join what has become alike."""

from __future__ import annotations

import numpy as np

from migkit.kernels.expected import COUNT, FRACTION, OFFSET, REMAINING, SEGMENT, SYNC_TAU, USED
from migkit.kernels.link import guest_ns
from migkit.kernels.options import kernel


@kernel
def copy_segment(ram, source, target):
    """Copy one segment over another."""
    ram.start[target] = ram.start[source]
    ram.length[target] = ram.length[source]
    ram.dirty[target] = ram.dirty[source]
    ram.known[target] = ram.known[source]
    ram.region[target] = ram.region[source]
    ram.chunk[target] = ram.chunk[source]
    ram.waits[target] = ram.waits[source]
    ram.clear_tau[target] = ram.clear_tau[source]


@kernel
def cut(ram, n, pages):
    """Cut segment ``n`` after ``pages`` pages; the second piece is ``n + 1``, the cursor stays where it is."""
    for k in range(ram.ints[COUNT] - 1, n - 1, -1):
        copy_segment(ram, k, k + 1)
    ram.ints[COUNT] += 1
    ram.length[n + 1] = ram.length[n] - pages
    ram.start[n + 1] = ram.start[n] + pages
    ram.length[n] = pages
    if ram.ints[SEGMENT] > n:
        ram.ints[SEGMENT] += 1


@kernel
def cut_at_cursor(ram):
    """Split the cursor's segment in the part that was sent and the part that was not."""
    here = ram.ints[SEGMENT]
    used = ram.floats[USED]
    ram.floats[USED] = 0.0
    if used <= 0.0:
        return
    share = used / (ram.length[here] * ram.dirty[here])
    if share >= 1.0:
        ram.dirty[here] = 0.0
        ram.ints[SEGMENT] = here + 1 if here + 1 < ram.ints[COUNT] else 0
        return
    cut(ram, here, ram.length[here] * share)
    ram.dirty[here] = 0.0
    ram.ints[SEGMENT] = here + 1


@kernel
def join(ram, n, m):
    """Add segment ``m`` to its neighbour ``n``: the means stay exact."""
    length = ram.length[n] + ram.length[m]
    if length > 0.0:
        ram.dirty[n] += (ram.dirty[m] - ram.dirty[n]) * (ram.length[m] / length)
        ram.known[n] += (ram.known[m] - ram.known[n]) * (ram.length[m] / length)
    ram.length[n] = length


@kernel
def join_alike(ram, regions):
    """Join neighbours of one region and chunk that are alike, or both sent by a cursor that has passed."""
    count = ram.ints[COUNT]
    cursor = ram.ints[SEGMENT]
    kept = 0
    for n in range(1, count):
        region = ram.region[n]
        same = region == ram.region[kept] and ram.chunk[n] == ram.chunk[kept] and n != cursor
        if same:
            same = ram.dirty[n] == ram.dirty[kept] and ram.known[n] == ram.known[kept]
            if not same and region >= 0 and regions[region].sequential == 0:
                same = ram.dirty[n] == 0.0 and ram.dirty[kept] == 0.0
        if same:
            join(ram, kept, n)
        else:
            kept += 1
            if kept != n:
                copy_segment(ram, n, kept)
            if n == cursor:
                ram.ints[SEGMENT] = kept
    ram.ints[COUNT] = kept + 1


@kernel
def make_room(ram, spare):
    """Join the two neighbours that differ least until ``spare`` segments can be added."""
    while ram.ints[COUNT] + spare > ram.start.shape[0]:
        best = -1
        least = np.inf
        for n in range(ram.ints[COUNT] - 1):
            if ram.region[n] == ram.region[n + 1] and ram.chunk[n] == ram.chunk[n + 1] and n + 1 != ram.ints[SEGMENT]:
                loss = abs(ram.dirty[n] - ram.dirty[n + 1]) * min(ram.length[n], ram.length[n + 1])
                if loss < least:
                    best, least = n, loss
        if best < 0:
            return
        join(ram, best, best + 1)
        for k in range(best + 1, ram.ints[COUNT] - 1):
            copy_segment(ram, k + 1, k)
        ram.ints[COUNT] -= 1
        if ram.ints[SEGMENT] > best:
            ram.ints[SEGMENT] -= 1


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
        for n in range(ram.ints[COUNT]):
            if ram.region[n] == r and (chunk < 0 or ram.chunk[n] == chunk):
                inside = page - ram.start[n]
                if 0.0 < inside < ram.length[n]:
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
    before = ram.ints[SYNC_TAU]
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
                while n < ram.ints[COUNT]:
                    if ram.region[n] == r and ram.chunk[n] != done and ram.waits[n] == 0:
                        done = ram.chunk[n]
                        make_room(ram, 8)
                        cut_at_writer(ram, regions, r, ram.clear_tau[n], tau, done)
                    n += 1
    total = 0.0
    region_seen, clear_seen = -1, -1
    since_sync, since_clear = 0.0, 0.0
    for n in range(ram.ints[COUNT]):
        r = ram.region[n]
        if r >= 0 and ram.chunk[n] >= 0:
            region = regions[r]
            if r != region_seen or region.sequential == 1:
                since_sync = written_share(region, ram.start[n], ram.length[n], before, tau)
                region_seen, clear_seen = r, -1
            cleared = lazy and ram.waits[n] == 0
            if cleared and (ram.clear_tau[n] != clear_seen or region.sequential == 1):
                clear_seen = ram.clear_tau[n]
                since_clear = written_share(region, ram.start[n], ram.length[n], clear_seen, tau)
            sent = ram.dirty[n] == 0.0
            if not lazy:
                ram.dirty[n] += (1.0 - ram.dirty[n]) * since_sync
            elif cleared:
                ram.known[n] = ram.known[n] * since_clear + (1.0 - ram.known[n]) * since_sync
                ram.dirty[n] = ram.known[n] if sent else ram.dirty[n] + (1.0 - ram.dirty[n]) * since_sync
            else:
                ram.known[n] += (1.0 - ram.known[n]) * since_sync
                ram.dirty[n] += (1.0 - ram.dirty[n]) * since_sync
            if lazy:
                ram.waits[n] = 1
        total += ram.length[n] * ram.dirty[n]
    make_room(ram, 8)
    total += ram.floats[OFFSET]
    remaining = int(total + 1e-9)
    new = remaining - ram.ints[REMAINING]
    ram.ints[REMAINING] = remaining
    ram.floats[FRACTION] = max(0.0, total - remaining)
    ram.ints[SYNC_TAU] = tau
    return new
