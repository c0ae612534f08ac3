"""The sync of the bitmap engine: draws of what the guest wrote, merged into log and bitmap block by block."""

from __future__ import annotations

import numpy as np

from migkit.kernels.bitmap import popcount, word_mask
from migkit.kernels.link import guest_ns
from migkit.kernels.options import kernel
from migkit.kernels.random import (
    SPARSE,
    bernoulli_block,
    bernoulli_single,
    draw_key,
    fixed_point,
    hits_block,
    poisson_levels,
)

_U0 = np.uint64(0)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
AFTER_CLEAR = 1 << 16  # streams of the writes after a chunk's clear


@kernel
def written_by_sequence(region, since, until, word, mask):
    """Pages of ``word`` a cyclic writer touched between two guest times."""
    size = region.pages
    first = int(region.writes_per_s * (since * 1e-9))
    count = int(region.writes_per_s * (until * 1e-9)) - first
    if count <= 0:
        return _U0
    if count >= size:
        return mask
    begin = region.start + first % size
    end = begin + count
    stop = region.start + size
    bits = _U0
    if begin < (word + 1) * 64 and min(end, stop) > word * 64:
        bits = word_mask(word, begin, min(end, stop))
    if end > stop and region.start < (word + 1) * 64 and end - size > word * 64:
        bits |= word_mask(word, region.start, end - size)
    return bits & mask


@kernel
def written_probability(region, span):
    """``1 - exp(-w dtau / N)``: a page of a uniform region is written in ``span`` nanoseconds of guest time."""
    return -np.expm1(-region.writes_per_s * (span * 1e-9) / region.pages)


@kernel
def draw_sequence(ram, region, word, count, before, clear_tau, tau):
    """Writes of a sequential region to a block of words: row 0 of ``draws`` since the clear, row 1 since the sync."""
    for k in range(count):
        ram.draws[1, k] = written_by_sequence(region, before, tau, word + k, _ONES)
        ram.draws[0, k] = written_by_sequence(region, clear_tau, tau, word + k, _ONES)


@kernel
def draw_few(ram, region, word, count, key, key_after, before, clear_tau, tau):
    """The same for a uniform region with few writes, drawn one by one: those before the clear, and those after it."""
    poisson_levels(64.0 * region.writes_per_s * ((clear_tau - before) * 1e-9) / region.pages, ram.levels)
    hits_block(key, word, count, ram.levels, ram.draws[1])
    if clear_tau == tau:
        ram.draws[0, :count] = _U0
        return
    poisson_levels(64.0 * region.writes_per_s * ((tau - clear_tau) * 1e-9) / region.pages, ram.levels)
    hits_block(key_after, word, count, ram.levels, ram.draws[0])
    for k in range(count):
        ram.draws[1, k] |= ram.draws[0, k]


@kernel
def merge_block(dirty, log, draws, word, count, lazy, cleared):
    """Bring a block of draws into log and bitmap; pages that became dirty.

    Three plain loops, so that the compiler makes vector instructions of them.
    """
    fresh = np.int64(0)
    if not lazy:
        for k in range(count):
            known = draws[1, k]
            old = dirty[word + k]
            fresh += popcount(known & ~old)
            dirty[word + k] = old | known
    elif cleared:
        for k in range(count):
            log_old = log[word + k]
            known = (draws[0, k] & log_old) | (draws[1, k] & ~log_old)
            log[word + k] = known
            old = dirty[word + k]
            fresh += popcount(known & ~old)
            dirty[word + k] = old | known
    else:
        for k in range(count):
            known = log[word + k] | draws[1, k]
            log[word + k] = known
            old = dirty[word + k]
            fresh += popcount(known & ~old)
            dirty[word + k] = old | known
    return fresh


@kernel
def merge_edge(ram, draws, w, k, mask, lazy, cleared):
    """The same for one word of which only the pages of ``mask`` belong to the region."""
    known = draws[1, k] & mask
    if lazy:
        log = ram.log[w]
        if cleared:
            known = ((draws[0, k] & log) | (known & ~log)) & mask
        else:
            known |= log & mask
        ram.log[w] = (log & ~mask) | known
    old = ram.dirty[w]
    ram.dirty[w] = old | known
    return popcount(known & ~old)


@kernel
def sync_run(ram, case, region, r, number, first, last, before, tau):
    """Bring the writes of a region to words ``first`` to ``last`` (exclusive), all of one chunk, into the bitmap."""
    chunk = first * 64 // case.chunk_pages
    lazy = case.lazy_clear == 1
    cleared = lazy and ram.chunks[chunk].pending == 0
    # where no chunk was cleared in between, all writes since the sync count alike
    clear_tau = ram.chunks[chunk].tau if cleared else tau
    seed, replicate = ram.head[0].seed, ram.head[0].replicate
    key = draw_key(seed, replicate, 1 + r, number)
    key_after = draw_key(seed, replicate, AFTER_CLEAR + r, number)
    end = region.start + region.pages
    high = fixed_point(written_probability(region, tau - before))
    low = fixed_point(written_probability(region, tau - clear_tau)) if cleared else high
    fresh = np.int64(0)
    word = first
    while word < last:
        count = min(64, last - word)
        if region.sequential == 1:
            draw_sequence(ram, region, word, count, before, clear_tau, tau)
        elif high < SPARSE:
            draw_few(ram, region, word, count, key, key_after, before, clear_tau, tau)
        elif not cleared:
            bernoulli_single(key, word, count, high, ram.draws)
        else:
            bernoulli_block(key, word, count, low, high, ram.draws)
        begin, stop = word, word + count
        if word_mask(begin, region.start, end) != _ONES:
            mask = word_mask(begin, region.start, end)
            fresh += merge_edge(ram, ram.draws, begin, 0, mask, lazy, cleared)
            begin += 1
        if stop > begin and word_mask(stop - 1, region.start, end) != _ONES:
            stop -= 1
            mask = word_mask(stop, region.start, end)
            fresh += merge_edge(ram, ram.draws, stop, stop - word, mask, lazy, cleared)
        fresh += merge_block(ram.dirty, ram.log, ram.draws[:, begin - word :], begin, stop - begin, lazy, cleared)
        word += count
    ram.chunks[chunk].dirty += fresh
    return fresh


@kernel
def bitmap_sync(ram, case, regions, state, t, number):
    """Bring the writes up to ``t`` into the migration bitmap (migration/ram.c:migration_bitmap_sync).

    Returns
    -------
    new : int
        Pages that went from clean to dirty.
    """
    tau = guest_ns(state, t)
    before = ram.head[0].sync_tau
    new = 0
    for r in range(case.region_count):
        region = regions[r]
        last = (region.start + region.pages + 63) // 64
        word = region.start // 64
        while word < last:
            stop = min(last, (word * 64 // case.chunk_pages + 1) * case.chunk_pages // 64)
            new += sync_run(ram, case, region, r, number, word, stop, before, tau)
            word = stop
    if case.lazy_clear == 1:
        chunks = (case.ram_pages + case.chunk_pages - 1) // case.chunk_pages
        for c in range(chunks):
            ram.chunks[c].pending = 1
        ram.head[0].pending = chunks
    ram.head[0].sync_tau = tau
    ram.head[0].stretch = 0
    ram.head[0].remaining += new
    return new
