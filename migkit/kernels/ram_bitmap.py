"""RAM as bitmaps: one bit a page for the migration bitmap, one for KVM's dirty log.

Page-exact: which page is dirty, where the circular cursor stands, which chunk of the log was cleared when. Writes
are drawn per page and sync, not one by one (docs/model.md, section 5), in runs of up to 4096 pages: what is drawn stays
in the cache, and the loops become vector instructions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from migkit.kernels.guest import pages_written, region_stream, writer_ns
from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.random import (
    DRAW_WORDS,
    bernoulli_word,
    draw_hits,
    draw_key,
    draw_together,
    fixed_point,
    plan_writes,
    poisson_levels,
)

_U0, _U1 = np.uint64(0), np.uint64(1)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_M1, _M2, _M4 = (np.uint64(m) for m in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
_H = np.uint64(0x0101010101010101)
_GROUP = 16  # words that are counted at once when pages are sent
_S1, _S2, _S4, _S56 = (np.uint64(n) for n in (1, 2, 4, 56))


class BitmapRam(NamedTuple):
    """Memory of the page-exact engine for one running migration: two bits a page, a few bytes a chunk."""

    dirty: np.ndarray  # uint64, migration bitmap (RAMBlock.bmap)
    log: np.ndarray  # uint64, pages known written since their chunk was cleared; regions only
    chunks: np.ndarray  # records CHUNK
    head: np.record  # BITMAP_HEAD
    draws: np.ndarray  # uint64, 2 x DRAW_WORDS: writes to a run of pages before and after its chunk's clear
    levels: np.ndarray  # uint64, 2 x MOST_HITS: levels of their numbers
    means: np.ndarray  # float64, 2: the means these levels are for


class Times(NamedTuple):
    """Guest times between which the writes to a chunk are looked at, ns."""

    since: int  # last sync
    clear: int  # when the chunk's log was cleared since; `now` if it was not
    now: int
    cleared: bool


@kernel
def popcount(x):
    """Number of set bits; the shape LLVM turns into one instruction."""
    x = x - ((x >> _S1) & _M1)
    x = (x & _M2) + ((x >> _S2) & _M2)
    x = (x + (x >> _S4)) & _M4
    return np.int64((x * _H) >> _S56)


@inlined_kernel
def count_pages(words):
    """Number of set bits in all words."""
    pages = 0
    for k in range(words.size):
        pages += popcount(words[k])
    return pages


@kernel
def trailing_zeros(x):
    """Index of the lowest set bit; 64 if there is none."""
    return popcount((x & (_U0 - x)) - _U1) if x != _U0 else 64


@kernel
def bit_length(x):
    """Index of the highest set bit, plus one."""
    x |= x >> _S1
    x |= x >> _S2
    x |= x >> _S4
    x |= x >> np.uint64(8)
    x |= x >> np.uint64(16)
    x |= x >> np.uint64(32)
    return popcount(x)


@kernel
def word_mask(word, first, last):
    """Bits of ``word`` that belong to pages ``first`` to ``last`` (exclusive)."""
    mask = _ONES
    base = word * 64
    if first > base:
        mask &= _ONES << np.uint64(first - base)
    if last < base + 64:
        mask &= _ONES >> np.uint64(base + 64 - last)
    return mask


@kernel
def bitmap_reset(ram, case, regions, seed, replicate):
    """Setup: every page dirty, the log all ones, every chunk to be cleared (KVM) or none (TCG)."""
    pages = case.ram_pages
    words = (pages + 63) // 64
    ram.dirty[:words] = _ONES
    ram.dirty[words - 1] = word_mask(words - 1, 0, pages)
    chunks = (pages + case.chunk_pages - 1) // case.chunk_pages
    for c in range(chunks):
        ram.chunks[c].dirty = min(case.chunk_pages, pages - c * case.chunk_pages)
        ram.chunks[c].pending = case.lazy_clear
        ram.chunks[c].clear_t = 0
    any_zero = 0
    covered = 0
    for r in range(case.region_count):
        covered += regions[r].pages
        if regions[r].zero_share > 0.0:
            any_zero = 1
        if case.lazy_clear == 1 and regions[r].pages > 0:
            ram.log[regions[r].start // 64 : (regions[r].start + regions[r].pages + 63) // 64] = _ONES
    if (case.idle_zero_share > 0.0 or case.used_first > 0 or case.used_stop < pages) and covered < pages:
        any_zero = 1
    ram.head.remaining = pages
    ram.head.cursor = 0
    ram.head.sync_t = case.setup_ns
    ram.head.pending = chunks if case.lazy_clear == 1 else 0
    ram.head.any_zero = any_zero
    ram.head.seed = seed
    ram.head.replicate = replicate
    ram.head.stretch = 0
    ram.head.effort = pages >> 7


@kernel
def bitmap_remaining(ram):
    """Dirty pages."""
    return ram.head.remaining


@kernel
def bitmap_fraction(ram):
    """Fraction of a page beyond the dirty pages: none."""
    return 0.0


@kernel
def bitmap_seek(ram, case):
    """Move the cursor to the next dirty page, circularly; there must be one."""
    pages = case.ram_pages
    page = ram.head.cursor
    chunks = (pages + case.chunk_pages - 1) // case.chunk_pages
    while True:
        if page >= pages:
            page = 0
        chunk = page // case.chunk_pages
        while ram.chunks[chunk].dirty == 0:
            chunk = chunk + 1 if chunk + 1 < chunks else 0
            page = chunk * case.chunk_pages
        end = min(pages, (chunk + 1) * case.chunk_pages)
        word = page // 64
        found = ram.dirty[word] & (_ONES << np.uint64(page % 64))
        while found == _U0 and (word + 1) * 64 < end:
            word += 1
            found = ram.dirty[word]
        if found != _U0:
            ram.head.cursor = word * 64 + trailing_zeros(found)
            return
        page = end


@kernel
def zero_share_of(case, regions, page):
    """Share of zero pages where ``page`` lies."""
    for r in range(case.region_count):
        if regions[r].start <= page < regions[r].start + regions[r].pages:
            return regions[r].zero_share
    return case.idle_zero_share if case.used_first <= page < case.used_stop else 1.0


@kernel
def bitmap_is_zero(ram, case, regions, page):
    """Whether ``page`` is a zero page: a draw of stream 0 that never changes."""
    share = zero_share_of(case, regions, page)
    if share <= 0.0:
        return 0
    key = draw_key(ram.head.seed, ram.head.replicate, 0, 0)
    word = bernoulli_word(key, page // 64, fixed_point(share))
    return np.int64((word >> np.uint64(page % 64)) & _U1)


@kernel
def bitmap_stretch(ram, case, regions, t):
    """Clear the chunk of the next dirty page if it waits for it; say how many pages follow that cost the same.

    Returns
    -------
    pages : int
        Dirty pages from the cursor on that can be taken with nothing in between.
    zero_share : float
        0 or 1: whether they are zero pages.
    """
    if ram.head.stretch > 0:
        return ram.head.stretch, 0.0
    bitmap_seek(ram, case)
    page = ram.head.cursor
    chunk = page // case.chunk_pages
    if ram.chunks[chunk].pending == 1:
        # KVM_CLEAR_DIRTY_LOG just before the first page of the chunk is sent
        ram.chunks[chunk].pending = 0
        ram.chunks[chunk].clear_t = t
        ram.head.pending -= 1
    if ram.head.any_zero == 1:
        return 1, float(bitmap_is_zero(ram, case, regions, page))
    if ram.head.pending == 0:
        return ram.head.remaining, 0.0
    # to the end of this chunk; the next one may wait for its clear
    word = page // 64
    last = (min(case.ram_pages, (chunk + 1) * case.chunk_pages) + 63) // 64
    pages = popcount(ram.dirty[word] & (_ONES << np.uint64(page % 64)))
    pages += count_pages(ram.dirty[word + 1 : last])
    ram.head.stretch = pages
    return pages, 0.0


@kernel
def bitmap_alike(ram, case, regions, timed):
    """Dirty pages ahead with nothing in between and one cost; 0 if that is not known without a look."""
    if ram.head.stretch > 0:
        return ram.head.stretch, 0.0
    if ram.head.pending == 0 and ram.head.any_zero == 0:
        return ram.head.remaining, 0.0
    return 0, 0.0


@inlined_kernel
def take_words(ram, first, last, most):
    """Send whole groups of words from ``first`` towards ``last`` while they have fewer than ``most`` dirty pages.

    Returns
    -------
    word, pages : int
        The word behind the last one cleared, and the pages that were sent.
    """
    pages = 0
    word = first
    while word + _GROUP <= last:
        group = ram.dirty[word : word + _GROUP]
        here = count_pages(group)
        if pages + here >= most:
            break
        group[:] = _U0
        pages += here
        word += _GROUP
    return word, pages


@inlined_kernel
def take_chunk(ram, first, last, most):
    """Send up to ``most`` pages of the pages ``first`` to ``last`` of one chunk; the pages that were sent.

    The cursor moves behind the last page sent, or to ``last`` if more could have been sent.
    """
    word = first // 64
    bits = ram.dirty[word] & (_ONES << np.uint64(first % 64))
    pages = 0
    while True:
        here = popcount(bits)
        if pages + here >= most:
            break
        ram.dirty[word] &= ~bits
        pages += here
        word, more = take_words(ram, word + 1, last // 64, most - pages)
        pages += more
        if word * 64 >= last:
            ram.head.cursor = last
            return pages
        bits = ram.dirty[word]
    rest = bits
    for _ in range(most - pages):
        rest &= rest - _U1
    ram.dirty[word] = (ram.dirty[word] & ~bits) | rest
    ram.head.cursor = word * 64 + bit_length(bits & ~rest)
    return most


@kernel
def bitmap_take(ram, case, count):
    """Send ``count`` pages from the cursor on: clear their bits, move the cursor past the last one."""
    left = count
    while left > 0:
        bitmap_seek(ram, case)
        page = ram.head.cursor
        chunk = page // case.chunk_pages
        taken = take_chunk(ram, page, min(case.ram_pages, (chunk + 1) * case.chunk_pages), left)
        ram.chunks[chunk].dirty -= taken
        left -= taken
    ram.head.remaining -= count
    ram.head.stretch = max(0, ram.head.stretch - count)


@kernel
def written_by_sequence(case, region, writer, since, until, word):
    """Pages of ``word`` a cyclic writer touched between two guest times."""
    size = region.pages
    first, count = pages_written(case, region, writer, since, until)
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
def plan_chunk(ram, region, r, number, times, pages):
    """How the writes of a uniform region to a chunk are drawn; ``ram.levels`` gets the levels of their numbers."""
    mean = region.writes_per_s * ((times.now - times.since) * 1e-9) / region.pages
    late = region.writes_per_s * ((times.now - times.clear) * 1e-9) / region.pages
    head = ram.head
    writes = plan_writes(head.seed, head.replicate, region_stream(r), number, mean, late, pages, times.cleared)
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
def draw_run(ram, writes, word, first, last, pages, log):
    """Pages of a run that are known written by draws, into ``ram.draws[0]``.

    Parameters
    ----------
    word, pages : int
        Where the run starts, and its size.
    first, last : int
        Words of the run that are asked for; what falls into others is junk.
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


@kernel
def whole_units(words, pages):
    """Let a write to one page of a tracked unit, aligned and of a power of two of pages, stand for all of it."""
    if pages >= 64:
        for first in range(0, words.size, pages // 64):
            unit = words[first : first + pages // 64]
            some = _U0
            for k in range(unit.size):
                some |= unit[k]
            unit[:] = _ONES if some != _U0 else _U0
        return
    starts = _U1
    for shift in (2, 4, 8, 16, 32):
        if shift >= pages:
            starts |= starts << np.uint64(shift)
    for k in range(words.size):
        bits = words[k]
        reach = 1
        while reach < pages:
            bits |= bits >> np.uint64(reach)
            reach *= 2
        bits &= starts
        reach = 1
        while reach < pages:
            bits |= bits << np.uint64(reach)
            reach *= 2
        words[k] = bits


@inlined_kernel
def sequence_run(ram, case, region, writer, times, word, first, last, log):
    """As :func:`draw_run`, for a cyclic writer."""
    known = ram.draws[0]
    for k in range(first, last):
        known[k] = written_by_sequence(case, region, writer, times.since, times.now, word + k)
    if times.cleared:
        for k in range(first, last):
            logged = log[k - first]
            known[k] = (known[k] & ~logged) | (
                written_by_sequence(case, region, writer, times.clear, times.now, word + k) & logged
            )


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
def sync_chunk(ram, case, regions, writers, r, chunk, t, number):
    """Bring a region's writes to a chunk into log and migration bitmap; the pages that became dirty.

    A page in the log of a chunk that was cleared is known only if it was written after the clear, any other page if it
    was written since the last sync. The log of a chunk that was not cleared is in the migration bitmap already.
    """
    region, writer = regions[r], writers.now[r]
    chunk_words = case.chunk_pages // 64
    run_words = min(DRAW_WORDS, chunk_words)
    end = region.start + region.pages
    begin_word = max(region.start // 64, chunk * chunk_words)
    end_word = min((end + 63) // 64, (chunk + 1) * chunk_words)
    lazy = case.lazy_clear == 1
    cleared = lazy and ram.chunks[chunk].pending == 0
    now = writer_ns(writers, r, t)
    clear = writer_ns(writers, r, ram.chunks[chunk].clear_t) if cleared else now
    times = Times(writer_ns(writers, r, ram.head.sync_t), clear, now, cleared)
    writes = plan_chunk(ram, region, r, number, times, run_words * 64)
    new = 0
    for word in range(begin_word - begin_word % run_words, end_word, run_words):
        first, last = max(0, begin_word - word), min(run_words, end_word - word)
        log = ram.log[word + first : word + last] if lazy else ram.dirty[word + first : word + last]
        some = True
        if region.sequential == 1:
            sequence_run(ram, case, region, writer, times, word, first, last, log)
        else:
            some = draw_run(ram, writes, word, first, last, run_words * 64, log)
            if some and case.track_pages > 1:
                whole_units(ram.draws[0, first:last], case.track_pages)
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
def bitmap_sync(ram, case, regions, writers, t, number):
    """Bring the writes up to time ``t`` into the migration bitmap (migration/ram.c:migration_bitmap_sync).

    Returns
    -------
    new : int
        Pages that went from clean to dirty.
    """
    new = 0
    for r in range(case.region_count):
        region = regions[r]
        if region.pages > 0:
            last = (region.start + region.pages - 1) // case.chunk_pages
            for chunk in range(region.start // case.chunk_pages, last + 1):
                new += sync_chunk(ram, case, regions, writers, r, chunk, t, number)
    if case.lazy_clear == 1:
        chunks = (case.ram_pages + case.chunk_pages - 1) // case.chunk_pages
        for c in range(chunks):
            ram.chunks[c].pending = 1
        ram.head.pending = chunks
    ram.head.sync_t = t
    ram.head.stretch = 0
    ram.head.remaining += new
    return new


@kernel
def bitmap_rewind(ram):
    """Set the cursor to the first page (migration/ram.c:ram_postcopy_send_discard_bitmap)."""
    ram.head.cursor = 0
    ram.head.stretch = 0


@kernel
def count_up_to(ram, first, last, most):
    """Dirty pages from ``first`` to ``last`` (exclusive); some number above ``most`` where there are more than that."""
    pages = np.int64(0)
    for word in range(first // 64, (last + 63) // 64):
        pages += popcount(ram.dirty[word] & word_mask(word, first, last))
        if pages > most:
            break
    return pages


@kernel
def bitmap_host_pages_ahead(ram, case, pages, most):
    """Host pages that end among the next ``pages`` dirty pages, up to ``most`` (migration/ram.c:pss_within_range).

    Returns
    -------
    passed, hosts : int
        Dirty pages up to the end of the last of them, and their number.
    """
    host = case.host_pages
    skips = case.chunk_pages % host == 0
    page = ram.head.cursor if ram.head.cursor < case.ram_pages else np.int64(0)
    passed, hosts = np.int64(0), np.int64(0)
    while hosts < most and passed < min(pages, ram.head.remaining):
        chunk = page // case.chunk_pages
        if skips and ram.chunks[chunk].dirty == 0:
            page = (chunk + 1) * case.chunk_pages
        else:
            end = (page // host + 1) * host
            here = count_up_to(ram, page, end, pages - passed)
            if passed + here > pages:
                break
            if here > 0:
                passed += here
                hosts += 1
            page = end
        if page >= case.ram_pages:
            page = np.int64(0)
    return passed, hosts


@kernel
def bitmap_end_host_page(ram, case):
    """Move the cursor behind the host page of the last page that was sent (migration/ram.c:ram_save_host_page)."""
    ram.head.cursor = (ram.head.cursor + case.host_pages - 1) // case.host_pages * case.host_pages


@kernel
def bitmap_make_whole(ram, case):
    """Let a host page that is dirty in part be wholly dirty (migration/ram.c:postcopy_chunk_hostpages_pass)."""
    words = (case.ram_pages + 63) // 64
    whole_units(ram.dirty[:words], case.host_pages)
    total = np.int64(0)
    for chunk in range((case.ram_pages + case.chunk_pages - 1) // case.chunk_pages):
        first = chunk * (case.chunk_pages // 64)
        pages = count_pages(ram.dirty[first : min(words, first + case.chunk_pages // 64)])
        ram.chunks[chunk].dirty = pages
        total += pages
    ram.head.remaining = total
    ram.head.stretch = 0


@kernel
def bitmap_tail(ram, case):
    """Dirty pages from the cursor to the end of RAM."""
    page = ram.head.cursor
    if page >= case.ram_pages:
        return np.int64(0)
    first = popcount(ram.dirty[page // 64] & (_ONES << np.uint64(page % 64)))
    return first + count_pages(ram.dirty[page // 64 + 1 : (case.ram_pages + 63) // 64])


@kernel
def bitmap_dirty_runs(ram, case):
    """Runs of dirty pages (migration/ram.c:postcopy_send_discard_bm_ram)."""
    runs, before = np.int64(0), _U0
    for k in range((case.ram_pages + 63) // 64):
        bits = ram.dirty[k]
        runs += popcount(bits & ~((bits << _U1) | before))
        before = bits >> np.uint64(63)
    return runs


@kernel
def bitmap_dirty_of(ram, regions, r):
    """Dirty pages of a region."""
    first, last = regions[r].start, regions[r].start + regions[r].pages
    pages = np.int64(0)
    for k in range(first // 64, (last + 63) // 64):
        pages += popcount(ram.dirty[k] & word_mask(k, first, last))
    return float(pages)
