"""Host pages in the expected engine: where they end, and which are dirty in part (docs/model.md, section 17)."""

from __future__ import annotations

import math

import numpy as np

from migkit.kernels.options import kernel
from migkit.kernels.ram_expected import OUTSIDE, UNUSED, copy_segment, cut, following, used_pages


@kernel
def touched_share(case, dirty):
    """Share of the host pages that have a dirty page, where a page is dirty with probability ``dirty``."""
    return -math.expm1(case.host_pages * math.log1p(-dirty)) if dirty < 1.0 else 1.0


@kernel
def expected_host_pages_ahead(ram, case, pages, most):
    """Host pages that end among the next ``pages`` dirty pages, up to ``most``.

    Where a page is dirty with probability ``d``, a host page of ``H`` pages that has any has ``H d / (1 - (1 - d)**H)``
    of them: so far apart are the ends, the first one as the address says. One that the next dirty page is not in ends
    too.

    Returns
    -------
    passed, hosts : int
        Dirty pages up to the end of the last of them, and their number.
    """
    host = float(case.host_pages)
    n, used = ram.head.cursor, used_pages(ram)
    passed, hosts = np.int64(0), np.int64(0)
    ahead, behind, part = 0.0, -1.0, 0.0  # dirty pages so far; host page of the last one, and what of it has passed
    for _ in range(ram.head.count + 1):
        segment = ram.segments[n]
        dirty = segment.length * segment.dirty - used
        if dirty >= 1e-6:
            first = np.floor(segment.start / host)
            if part > 1e-9 and first != behind:
                hosts += 1
                passed = max(passed, min(pages, np.int64(np.ceil(ahead - 1e-9))))
                if hosts == most:
                    break
            each = host * segment.dirty / touched_share(case, segment.dirty)
            at = segment.start / host - first + used / each
            done = np.floor(at + 1e-9)
            ends = np.int64(np.floor(at + dirty / each + 1e-9) - done)
            within = np.int64(max(0.0, np.floor(at + (pages - ahead) / each + 1e-9) - done))
            count = min(min(ends, within), most - hosts)
            if count > 0:
                hosts += count
                passed = min(pages, max(np.int64(1), np.int64(np.ceil(ahead + (done + count - at) * each - 1e-9))))
            if hosts == most or count < ends or ahead + dirty >= pages + 0.5:
                break
            ahead += dirty
            part = at + dirty / each - np.floor(at + dirty / each + 1e-9)
            behind = np.floor((segment.start + segment.length - 1e-6) / host)
        used = 0.0
        n = following(ram, n)
    return passed, hosts


@kernel
def expected_end_host_page(ram, case):
    """Nothing: where the cursor cuts a segment, it does so where a host page ends."""


@kernel
def add_clean(ram, n, start, stop, region):
    """Put a clean range before segment ``n``; there must be room."""
    for k in range(ram.head.count - 1, n - 1, -1):
        copy_segment(ram, k, k + 1)
    ram.head.count += 1
    new = ram.segments[n]
    new.start, new.length, new.dirty, new.known = start, stop - start, 0.0, 0.0
    new.region, new.chunk, new.waits, new.clear_t, new.grouped, new.left_t = region, -1, 0, 0, 0, 0


@kernel
def fill_host_pages(ram, case):
    """Bring back what was left out as clean, where it shares a host page with what was not."""
    host = float(case.host_pages)
    n, end = np.int64(0), 0.0
    while n <= ram.head.count and ram.head.count + 2 < ram.head.most:
        start = ram.segments[n].start if n < ram.head.count else float(case.ram_pages)
        region = np.int64(OUTSIDE if case.used_first <= end < case.used_stop else UNUSED)
        first, last = min(start, np.ceil(end / host) * host), max(end, np.floor(start / host) * host)
        if start > end and first >= last:
            add_clean(ram, n, end, start, region)
            n += 1
        else:
            if first > end:
                add_clean(ram, n, end, first, region)
                n += 1
            if start > last:
                add_clean(ram, n, last, start, region)
                n += 1
        if n < ram.head.count:
            end = ram.segments[n].start + ram.segments[n].length
        n += 1


@kernel
def expected_make_whole(ram, case):
    """Let a host page that is dirty in part be wholly dirty, in the mean.

    migration/ram.c:postcopy_chunk_hostpages_pass
    """
    host = float(case.host_pages)
    ram.head.open = -1
    fill_host_pages(ram, case)
    n = np.int64(0)
    while n < ram.head.count:
        # segments that share host pages with others are cut where these begin and end
        start, end = ram.segments[n].start, ram.segments[n].start + ram.segments[n].length
        edge = np.ceil(start / host) * host
        if edge == start or edge >= end:
            edge = np.floor(end / host) * host
        if start < edge < end and ram.head.count < ram.head.most:
            cut(ram, n, edge - start)
        n += 1
    ram.head.cursor = 0
    n = np.int64(0)
    total = 0.0
    while n < ram.head.count:
        first = np.floor(ram.segments[n].start / host)
        last, clean = n, 0.0
        while last < ram.head.count:
            segment = ram.segments[last]
            if np.floor((segment.start + segment.length - 1e-6) / host) != first:
                break
            clean += segment.length * (math.log1p(-segment.dirty) if segment.dirty < 1.0 else -np.inf)
            last += 1
        if last == n:
            ram.segments[n].dirty = touched_share(case, ram.segments[n].dirty)
            total += ram.segments[n].length * ram.segments[n].dirty
            n += 1
            continue
        share = -math.expm1(clean)
        for k in range(n, last):
            ram.segments[k].dirty = share
            total += ram.segments[k].length * share
        n = last
    ram.head.remaining = int(total + ram.head.offset + 1e-9)
    ram.head.fraction = max(0.0, total + ram.head.offset - ram.head.remaining)
