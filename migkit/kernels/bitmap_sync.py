"""The sync of the page-exact engine: the guest's writes are drawn and brought into the bitmaps.

In blocks of up to 4096 pages: a block of draws stays in the cache, and its loops become vector instructions.
"""

from __future__ import annotations

import numpy as np

from migkit.kernels.bitmap import popcount, word_mask
from migkit.kernels.link import guest_ns
from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.random import BLOCK_WORDS, draw_hits, draw_together, plan_writes, poisson_levels

_U0 = np.uint64(0)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
STREAMS = 3  # of a region: page by page, one by one, one by one after the clear


@kernel
def written_by_sequence(region, since, until, word):
    """Pages of ``word`` a cyclic writer touched between two guest times."""
    size = region.pages
    first = int(region.writes_per_s * (since * 1e-9))
    count = int(region.writes_per_s * (until * 1e-9)) - first
    if count <= 0:
        return _U0
    if count >= size:
        return _ONES
    begin = region.start + first % size
    end = begin + count
    stop = region.start + size
    bits = _U0
    if begin < (word + 1) * 64 and min(end, stop) > word * 64:
        bits = word_mask(word, begin, min(end, stop))
    if end > stop and region.start < (word + 1) * 64 and end - size > word * 64:
        bits |= word_mask(word, region.start, end - size)
    return bits


@inlined_kernel
def plan_chunk(ram, region, r, number, since, clear, tau, pages, cleared):
    """How the writes of a uniform region to a chunk are drawn; ``ram.levels`` gets the levels of their numbers."""
    mean = region.writes_per_s * ((tau - since) * 1e-9) / region.pages
    late = region.writes_per_s * ((tau - clear) * 1e-9) / region.pages
    head = ram.head[0]
    writes = plan_writes(head.seed, head.replicate, 1 + STREAMS * r, number, mean, late, pages, cleared)
    if ram.means[0] != writes.hits:
        ram.means[0] = writes.hits
        poisson_levels(writes.hits, ram.levels[0])
    if ram.means[1] != writes.late_hits:
        ram.means[1] = writes.late_hits
        poisson_levels(writes.late_hits, ram.levels[1])
    return writes


@inlined_kernel
def drop_logged(known, log):
    """Leave out the pages in the log: they count only when written after the clear."""
    for k in range(known.size):
        known[k] &= ~log[k]


@inlined_kernel
def add_pages(words, more):
    """Bring pages into a bitmap."""
    for k in range(words.size):
        words[k] |= more[k]


@inlined_kernel
def draw_block(ram, writes, word, first, last, pages, log):
    """Pages of a block that are known written by draws, into ``ram.draws[0]``.

    Parameters
    ----------
    word, pages : int
        Where the block starts, and its size.
    first, last : int
        Words of the block that are asked for; what falls into others is junk.
    log : array of uint64
        Log of these words if their chunk was cleared, else anything of that size.

    Returns
    -------
    some : bool
        False if nothing is written.
    """
    known, together = ram.draws[0], ram.draws[1, first:last]
    known[:] = _U0
    some = writes.bits > 0
    if writes.hits > 0.0 and draw_hits(writes.hit_key, writes.hits, ram.levels[0], word, pages, known) > 0:
        some = True
        if writes.cleared:
            drop_logged(known[first:last], log)
    if writes.bits > 0:
        draw_together(writes, word + first, log, together)
        add_pages(known[first:last], together)
    if writes.late_hits > 0.0 and draw_hits(writes.late_key, writes.late_hits, ram.levels[1], word, pages, known) > 0:
        some = True
    return some


@inlined_kernel
def sequence_block(ram, region, since, clear, tau, word, first, last, log, cleared):
    """As :func:`draw_block`, for a cyclic writer."""
    known = ram.draws[0]
    for k in range(first, last):
        known[k] = written_by_sequence(region, since, tau, word + k)
    if cleared:
        for k in range(first, last):
            logged = log[k - first]
            known[k] = (known[k] & ~logged) | (written_by_sequence(region, clear, tau, word + k) & logged)


@inlined_kernel
def renew_log(log, known, head, tail):
    """Log of a chunk that was cleared: the pages known written, and in the words at its ends those of other regions.

    Parameters
    ----------
    head, tail : uint64
        Pages of the first and the last word that are the region's.
    """
    first, last = log[0] & ~head, log[-1] & ~tail
    for k in range(known.size):
        log[k] = known[k]
    log[0] |= first
    log[-1] |= last


@inlined_kernel
def add_dirty(dirty, known):
    """Bring the pages known written into the migration bitmap; how many of them were clean."""
    new = 0
    for k in range(known.size):
        bits = dirty[k]
        new += popcount(known[k] & ~bits)
        dirty[k] = bits | known[k]
    return new


@inlined_kernel
def sync_chunk(ram, case, region, r, chunk, tau, number):
    """Bring a region's writes to a chunk into log and migration bitmap; the pages that became dirty.

    A page in the log of a chunk that was cleared is known only if it was written after the clear, any other page if it
    was written since the last sync. The log of a chunk that was not cleared is in the migration bitmap already.
    """
    chunk_words = case.chunk_pages // 64
    block_words = min(BLOCK_WORDS, chunk_words)
    end = region.start + region.pages
    begin_word = max(region.start // 64, chunk * chunk_words)
    end_word = min((end + 63) // 64, (chunk + 1) * chunk_words)
    lazy = case.lazy_clear == 1
    cleared = lazy and ram.chunks[chunk].pending == 0
    since = ram.head[0].sync_tau
    clear = ram.chunks[chunk].tau if cleared else tau
    writes = plan_chunk(ram, region, r, number, since, clear, tau, block_words * 64, cleared)
    new = 0
    for word in range(begin_word - begin_word % block_words, end_word, block_words):
        first, last = max(0, begin_word - word), min(block_words, end_word - word)
        log = ram.log[word + first : word + last] if lazy else ram.dirty[word + first : word + last]
        some = True
        if region.sequential == 1:
            sequence_block(ram, region, since, clear, tau, word, first, last, log, cleared)
        else:
            some = draw_block(ram, writes, word, first, last, block_words * 64, log)
        if not (some or cleared):
            continue
        known = ram.draws[0, first:last]
        head, tail = word_mask(word + first, region.start, end), word_mask(word + last - 1, region.start, end)
        known[0] &= head
        known[-1] &= tail
        if cleared:
            renew_log(log, known, head, tail)
        elif lazy:
            add_pages(log, known)
        new += add_dirty(ram.dirty[word + first : word + last], known)
    ram.chunks[chunk].dirty += new
    return new


@kernel
def bitmap_sync(ram, case, regions, state, t, number):
    """Bring the writes up to ``t`` into the migration bitmap (migration/ram.c:migration_bitmap_sync).

    Returns
    -------
    new : int
        Pages that went from clean to dirty.
    """
    tau = guest_ns(state, t)
    new = 0
    for r in range(case.region_count):
        region = regions[r]
        if region.pages > 0:
            last = (region.start + region.pages - 1) // case.chunk_pages
            for chunk in range(region.start // case.chunk_pages, last + 1):
                new += sync_chunk(ram, case, region, r, chunk, tau, number)
    if case.lazy_clear == 1:
        chunks = (case.ram_pages + case.chunk_pages - 1) // case.chunk_pages
        for c in range(chunks):
            ram.chunks[c].pending = 1
        ram.head[0].pending = chunks
    ram.head[0].sync_tau = tau
    ram.head[0].stretch = 0
    ram.head[0].remaining += new
    return new
