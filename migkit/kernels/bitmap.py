"""RAM as bitmaps: one bit a page for the migration bitmap, one for KVM's dirty log.

Page-exact: which page is dirty, where the circular cursor stands, which chunk of the log was cleared when. Writes
are drawn per page and sync, not one by one (docs/model.md, section 5).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.random import bernoulli_word, draw_key, fixed_point

_U0, _U1 = np.uint64(0), np.uint64(1)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_M1, _M2, _M4 = (np.uint64(m) for m in (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F))
_H = np.uint64(0x0101010101010101)
_GROUP = 16  # words that are counted at once when pages are sent
_S1, _S2, _S4, _S56 = (np.uint64(n) for n in (1, 2, 4, 56))


CHUNK = np.dtype(
    [
        ("dirty", np.int64),  # dirty pages
        ("pending", np.int64),  # 1: to be cleared before its first page is sent (RAMBlock.clear_bmap)
        ("tau", np.int64),  # guest time of the last clear
    ]
)
BITMAP_HEAD = np.dtype(
    [
        ("remaining", np.int64),  # dirty pages
        ("cursor", np.int64),  # page behind the last one sent
        ("sync_tau", np.int64),  # guest time of the last sync
        ("pending", np.int64),  # chunks to be cleared
        ("any_zero", np.int64),  # 1: some page is a zero page
        ("seed", np.int64),
        ("replicate", np.int64),
        ("stretch", np.int64),  # dirty pages to the end of a chunk that was cleared, 0 if not counted
    ]
)


class BitmapRam(NamedTuple):
    """Memory of the page-exact engine for one running migration: two bits a page, a few bytes a chunk."""

    dirty: np.ndarray  # uint64, migration bitmap (RAMBlock.bmap)
    log: np.ndarray  # uint64, pages known written since their chunk was cleared; regions only
    chunks: np.ndarray  # records CHUNK
    head: np.ndarray  # one record BITMAP_HEAD
    draws: np.ndarray  # uint64, 2 x BLOCK_WORDS: writes to a block before and after its chunk's clear
    levels: np.ndarray  # uint64, 2 x MOST_HITS: levels of their numbers
    means: np.ndarray  # float64, 2: the means these levels are for


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
        ram.chunks[c].tau = 0
    any_zero = 0
    covered = 0
    for r in range(case.region_count):
        covered += regions[r].pages
        if regions[r].zero_share > 0.0:
            any_zero = 1
        if case.lazy_clear == 1 and regions[r].pages > 0:
            ram.log[regions[r].start // 64 : (regions[r].start + regions[r].pages + 63) // 64] = _ONES
    if case.idle_zero_share > 0.0 and covered < pages:
        any_zero = 1
    ram.head[0].remaining = pages
    ram.head[0].cursor = 0
    ram.head[0].sync_tau = 0
    ram.head[0].pending = chunks if case.lazy_clear == 1 else 0
    ram.head[0].any_zero = any_zero
    ram.head[0].seed = seed
    ram.head[0].replicate = replicate
    ram.head[0].stretch = 0


@kernel
def bitmap_remaining(ram):
    """Dirty pages."""
    return ram.head[0].remaining


@kernel
def bitmap_seek(ram, case):
    """Move the cursor to the next dirty page, circularly; there must be one."""
    pages = case.ram_pages
    page = ram.head[0].cursor
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
            ram.head[0].cursor = word * 64 + trailing_zeros(found)
            return
        page = end


@kernel
def zero_share_of(case, regions, page):
    """Share of zero pages where ``page`` lies."""
    for r in range(case.region_count):
        if regions[r].start <= page < regions[r].start + regions[r].pages:
            return regions[r].zero_share
    return case.idle_zero_share


@kernel
def bitmap_is_zero(ram, case, regions, page):
    """Whether ``page`` is a zero page: a draw of stream 0 that never changes."""
    share = zero_share_of(case, regions, page)
    if share <= 0.0:
        return 0
    key = draw_key(ram.head[0].seed, ram.head[0].replicate, 0, 0)
    word = bernoulli_word(key, page // 64, fixed_point(share))
    return np.int64((word >> np.uint64(page % 64)) & _U1)


@kernel
def bitmap_stretch(ram, case, regions, tau):
    """Clear the chunk of the next dirty page if it waits for it; say how many pages follow that cost the same.

    Returns
    -------
    pages : int
        Dirty pages from the cursor on that can be taken with nothing in between.
    zero_share : float
        0 or 1: whether they are zero pages.
    """
    if ram.head[0].stretch > 0:
        return ram.head[0].stretch, 0.0
    bitmap_seek(ram, case)
    page = ram.head[0].cursor
    chunk = page // case.chunk_pages
    if ram.chunks[chunk].pending == 1:
        # KVM_CLEAR_DIRTY_LOG just before the first page of the chunk is sent
        ram.chunks[chunk].pending = 0
        ram.chunks[chunk].tau = tau
        ram.head[0].pending -= 1
    if ram.head[0].any_zero == 1:
        return 1, float(bitmap_is_zero(ram, case, regions, page))
    if ram.head[0].pending == 0:
        return ram.head[0].remaining, 0.0
    # to the end of this chunk; the next one may wait for its clear
    word = page // 64
    last = (min(case.ram_pages, (chunk + 1) * case.chunk_pages) + 63) // 64
    pages = popcount(ram.dirty[word] & (_ONES << np.uint64(page % 64)))
    pages += count_pages(ram.dirty[word + 1 : last])
    ram.head[0].stretch = pages
    return pages, 0.0


@kernel
def bitmap_alike(ram):
    """Dirty pages ahead with nothing in between and one cost; 0 if that is not known without a look."""
    if ram.head[0].stretch > 0:
        return ram.head[0].stretch, 0.0
    if ram.head[0].pending == 0 and ram.head[0].any_zero == 0:
        return ram.head[0].remaining, 0.0
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
            ram.head[0].cursor = last
            return pages
        bits = ram.dirty[word]
    rest = bits
    for _ in range(most - pages):
        rest &= rest - _U1
    ram.dirty[word] = (ram.dirty[word] & ~bits) | rest
    ram.head[0].cursor = word * 64 + bit_length(bits & ~rest)
    return most


@kernel
def bitmap_take(ram, case, count):
    """Send ``count`` pages from the cursor on: clear their bits, move the cursor past the last one."""
    left = count
    while left > 0:
        bitmap_seek(ram, case)
        page = ram.head[0].cursor
        chunk = page // case.chunk_pages
        taken = take_chunk(ram, page, min(case.ram_pages, (chunk + 1) * case.chunk_pages), left)
        ram.chunks[chunk].dirty -= taken
        left -= taken
    ram.head[0].remaining -= count
    ram.head[0].stretch = max(0, ram.head[0].stretch - count)
