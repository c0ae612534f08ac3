"""Counter-based random words: the same draw for the same key, wherever and whenever it is made.

The writes to a run of pages are drawn in two ways at once: page by page with a probability of a few bits, which
takes as many random words, and one by one for what that probability leaves (docs/model.md, section 5).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from migkit.kernels.options import inlined_kernel, kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_U0, _U1, _U27, _U30, _U31, _U32 = (np.uint64(n) for n in (0, 1, 27, 30, 31, 32))
_U6, _U11, _U12, _U63 = (np.uint64(n) for n in (6, 11, 12, 63))
_LANES = np.uint64(64)
_LEVELS = 53  # bits of a draw that are compared: those of a float64 probability
_CERTAIN = np.uint64(1 << 53)
_TWO_TO_MINUS_53 = 2.0**-53
_LN2 = 0.6931471805599453
FEW = 1.0 / 64.0  # up to this many writes a page in the mean, all are drawn one by one
_SPARE_BITS = 7  # bits of the page by page probability: 1/64 write a page, or less, is left to draw one by one
_PLACES = 5  # places of 12 bits in a random word
_NEVER = 2.0**-60  # numbers of writes less likely than this do not happen
DRAW_WORDS = 64  # words that are drawn together, at most: 12 bits name a page in them
MOST_HITS = 160  # writes drawn one by one to them; the mean is at most 64


class Writes(NamedTuple):
    """How the writes to a run of pages since the last sync are drawn (docs/model.md, section 5)."""

    cleared: bool  # the chunk was cleared: a page in its log counts only if it was written after that
    key: np.uint64  # of the draws page by page
    bits: int  # random words for these draws; 0: none is made
    level: np.uint64  # a page is written with probability level / 2**bits
    log_level: np.uint64  # the same for a page in the log
    hit_key: np.uint64  # of writes drawn one by one that count for pages outside the log
    hits: float  # mean number of them in a run
    late_key: np.uint64  # of writes drawn one by one that count for all pages
    late_hits: float  # mean number of them in a run


@kernel
def mix(z):
    """Finalizer of splitmix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words that mixes every bit."""
    z = (z ^ (z >> _U30)) * _M1
    z = (z ^ (z >> _U27)) * _M2
    return z ^ (z >> _U31)


@kernel
def draw_key(seed, replicate, stream, number):
    """Key of the draws number ``number`` of a stream: ``mix(mix(mix(seed) + replicate) + stream 2^32 + number)``."""
    root = mix(mix(np.uint64(seed)) + np.uint64(replicate))
    return mix(root + (np.uint64(stream) << _U32) + np.uint64(number))


@kernel
def uniform(word):
    """A number from 0 to 1, 1 excluded, of the first 53 bits of a random word."""
    return np.float64(word >> _U11) * _TWO_TO_MINUS_53


@kernel
def fixed_point(p):
    """Probability (0..1) as a 53-bit integer, rounded down."""
    if p <= 0.0:
        return _U0
    if p >= 1.0:
        return _CERTAIN
    return np.uint64(p * 9007199254740992.0)


@kernel
def bernoulli_word(key, word, level):
    """64 independent bits, each set with probability ``level / 2**53``.

    Bit ``j`` of all 64 uniforms is the random word number ``64 word + j``; the comparison with ``level`` goes from
    the most significant bit and ends when every lane is decided, after 7.3 words in the mean.

    Parameters
    ----------
    key : uint64
        From :func:`draw_key`.
    word : int
        Index of the word, 0 or more.
    level : uint64
        From :func:`fixed_point`.
    """
    if level >= _CERTAIN:
        return _ONES
    counter = key + np.uint64(word) * _LANES * _GOLDEN
    below, undecided = _U0, _ONES
    j = 0
    while undecided != _U0 and j < _LEVELS:
        r = mix(counter)
        counter += _GOLDEN
        bit = _U0 - ((level >> np.uint64(_LEVELS - 1 - j)) & _U1)
        below |= undecided & ~r & bit
        undecided &= ~(r ^ bit)
        j += 1
    return below


@kernel
def split_writes(mean, bits):
    """Split a mean number of writes a page into a probability of ``bits`` bits and what that leaves.

    Returns
    -------
    level : uint64
        The page is written with probability ``level / 2**bits``, which is below 1.
    rest : float
        Mean number of further writes.
    """
    whole = float(1 << bits)
    level = min(np.floor(-math.expm1(-mean) * whole), whole - 1.0)
    rest = 0.0
    if bits < _LEVELS:
        rest = max(0.0, mean + math.log1p(-level / whole))
    return np.uint64(level), rest


@kernel
def plan_writes(seed, replicate, stream, number, mean, late, pages, cleared):
    """How the writes to a run since the last sync are drawn.

    Parameters
    ----------
    stream : int
        Stream of the draws page by page; the next two are those of the writes drawn one by one.
    number : int
        Number of the sync.
    mean : float
        Writes to a page since the last sync.
    late : float
        Those of them that come after the clear of its chunk; 0 if it was not cleared.
    pages : int
        Pages of a run, a power of two from 64 to 4096.
    cleared : bool
        Whether its chunk was cleared.

    Returns
    -------
    Writes
    """
    bits = 0
    level = log_level = _U0
    rest = late
    early = mean - late
    if mean > FEW:
        bits = min(_LEVELS, _SPARE_BITS + int(mean / _LN2))
        log_level, rest = split_writes(late, bits)
        level, early = split_writes(mean - rest, bits)
        if not cleared:
            log_level = level
    return Writes(
        cleared,
        draw_key(seed, replicate, stream, number),
        bits,
        level,
        log_level,
        draw_key(seed, replicate, stream + 1, number),
        early * pages,
        draw_key(seed, replicate, stream + 2, number),
        rest * pages,
    )


@kernel
def poisson_levels(mean, levels):
    """Cumulative probabilities of a Poisson number of a mean up to 64, as 53-bit integers to the last that counts."""
    term = math.exp(-mean)
    total = term
    k = 0
    while k < MOST_HITS - 1 and (k <= mean or term >= _NEVER):
        levels[k] = fixed_point(total)
        k += 1
        term *= mean / k
        total += term
    levels[k] = _CERTAIN


@kernel
def poisson_number(draw, mean, levels):
    """Poisson number of a 53-bit draw: the least one whose level is above it, looked for from the mean on."""
    k = int(mean)
    while k > 0 and draw < levels[k - 1]:
        k -= 1
    while draw >= levels[k]:
        k += 1
    return k


@inlined_kernel
def draw_together(writes, word, log, out):
    """Pages written, drawn page by page, of the words from ``word`` on; ``log`` and ``out`` have one for each.

    A lane is written if its number of ``bits`` bits is below ``level``, or in the log below ``log_level``. The
    comparison goes from the least significant bit that is set: lanes equal so far are not below.
    """
    count = out.size
    bits, level, log_level = writes.bits, writes.level, writes.log_level
    for k in range(count):
        out[k] = _U0
    while bits > 0 and (level | log_level) & _U1 == _U0:
        bits -= 1
        level >>= _U1
        log_level >>= _U1
    base = writes.key + np.uint64(word) * _LANES * _GOLDEN
    while bits > 0:
        bits -= 1
        counter = base + np.uint64(bits) * _GOLDEN
        one = level & _U1
        if one != log_level & _U1:
            flip = _U0 - one
            for k in range(count):
                draw = ~mix(counter + np.uint64(k) * _LANES * _GOLDEN)
                out[k] = (out[k] & draw) | ((log[k] ^ flip) & (out[k] | draw))
        elif one == _U1:
            for k in range(count):
                out[k] |= ~mix(counter + np.uint64(k) * _LANES * _GOLDEN)
        else:
            for k in range(count):
                out[k] &= ~mix(counter + np.uint64(k) * _LANES * _GOLDEN)
        level >>= _U1
        log_level >>= _U1


@inlined_kernel
def draw_hits(key, mean, levels, word, pages, out):
    """Set the bits of writes drawn one by one to the run of ``pages`` pages that starts with ``word``.

    Returns
    -------
    hits : int
        Writes; fewer pages if some hit the same page.
    """
    counter = key + np.uint64(word) * _LANES * _GOLDEN
    hits = poisson_number(mix(counter) >> _U11, mean, levels)
    inside = np.uint64(pages - 1)
    for first in range(0, hits, _PLACES):
        counter += _GOLDEN
        places = mix(counter)
        for _ in range(min(hits - first, _PLACES)):
            place = places & inside
            out[place >> _U6] |= _U1 << (place & _U63)
            places >>= _U12
    return hits
