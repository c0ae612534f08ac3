"""Counter-based random words: the same draw for the same key, wherever and whenever it is made."""

from __future__ import annotations

import numpy as np

from migkit.kernels.options import open_kernel as kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_U0, _U1, _U27, _U30, _U31, _U32 = (np.uint64(n) for n in (0, 1, 27, 30, 31, 32))
_LEVELS = 53  # bits of a draw that are compared: those of a float64 probability
_FIRST = 10  # bits drawn without a branch; after them a word is undecided in 1 of 16 cases
_LANES = np.uint64(64)
_U6, _U11, _U63 = (np.uint64(n) for n in (6, 11, 63))
MOST_HITS = 20  # writes to one word in one interval; the mean is at most 1/2 where they are drawn one by one
SPARSE = np.uint64(1 << 46)  # below this probability (1 in 128) writes are drawn one by one
_ONE = np.uint64(1 << 53)


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
def fixed_point(p):
    """Probability (0..1) as a 53-bit integer, rounded down."""
    if p <= 0.0:
        return _U0
    if p >= 1.0:
        return _ONE
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
    return decide(key, word, level, 0, _U0, _ONES)


@kernel
def decide(key, word, level, j, below, undecided):
    """Finish the comparison of a word from level ``j`` on."""
    if level >= _ONE:
        return _ONES
    counter = key + (np.uint64(word) * _LANES + np.uint64(j)) * _GOLDEN
    while undecided != _U0 and j < _LEVELS:
        r = mix(counter)
        counter += _GOLDEN
        bit = _U0 - ((level >> np.uint64(_LEVELS - 1 - j)) & _U1)
        below |= undecided & ~r & bit
        undecided &= ~(r ^ bit)
        j += 1
    return below


@kernel
def bernoulli_block(key, word, count, low, high, out):
    """Words ``word`` to ``word + count`` (at most 64): bits below ``low`` and, from the same uniforms, below ``high``.

    ``out`` has four rows of 64 words; the first two are the result. The first levels are computed for all words
    without a branch, so that the compiler makes vector instructions of them; few words need more.
    """
    base = key + np.uint64(word) * _LANES * _GOLDEN
    for k in range(count):
        counter = base + np.uint64(k) * _LANES * _GOLDEN
        below_low, below_high = _U0, _U0
        open_low, open_high = _ONES, _ONES
        for j in range(_FIRST):
            r = mix(counter + np.uint64(j) * _GOLDEN)
            bit_low = _U0 - ((low >> np.uint64(_LEVELS - 1 - j)) & _U1)
            bit_high = _U0 - ((high >> np.uint64(_LEVELS - 1 - j)) & _U1)
            below_low |= open_low & ~r & bit_low
            open_low &= ~(r ^ bit_low)
            below_high |= open_high & ~r & bit_high
            open_high &= ~(r ^ bit_high)
        out[0, k], out[1, k], out[2, k], out[3, k] = below_low, below_high, open_low, open_high
    for k in range(count):
        if out[2, k] | out[3, k] != _U0:
            out[0, k] = decide(key, word + k, low, _FIRST, out[0, k], out[2, k])
            out[1, k] = decide(key, word + k, high, _FIRST, out[1, k], out[3, k])
    if high >= _ONE:
        out[1, :count] = _ONES
    if low >= _ONE:
        out[0, :count] = _ONES


@kernel
def bernoulli_single(key, word, count, level, out):
    """The same with one level: bits in row 1 of ``out``."""
    base = key + np.uint64(word) * _LANES * _GOLDEN
    for k in range(count):
        counter = base + np.uint64(k) * _LANES * _GOLDEN
        below, undecided = _U0, _ONES
        for j in range(_FIRST):
            r = mix(counter + np.uint64(j) * _GOLDEN)
            bit = _U0 - ((level >> np.uint64(_LEVELS - 1 - j)) & _U1)
            below |= undecided & ~r & bit
            undecided &= ~(r ^ bit)
        out[1, k], out[3, k] = below, undecided
    for k in range(count):
        if out[3, k] != _U0:
            out[1, k] = decide(key, word + k, level, _FIRST, out[1, k], out[3, k])
    if level >= _ONE:
        out[1, :count] = _ONES


@kernel
def poisson_levels(mean, levels):
    """Cumulative probabilities of a Poisson number as 53-bit integers, for 0 to ``MOST_HITS - 1``."""
    term = np.exp(-mean)
    total = term
    for k in range(MOST_HITS):
        levels[k] = fixed_point(total)
        term *= mean / (k + 1)
        total += term


@kernel
def hits_block(key, word, count, levels, out):
    """Words ``word`` to ``word + count``: a Poisson number of writes a word, each to one of its 64 pages.

    Sets bits in ``out`` (64 words). Random word number ``64 word`` gives the number of writes, the next ones ten
    places of six bits each.
    """
    base = key + np.uint64(word) * _LANES * _GOLDEN
    for k in range(count):
        out[k] = mix(base + np.uint64(k) * _LANES * _GOLDEN) >> _U11
    none = levels[0]
    for k in range(count):
        draw = out[k]
        if draw < none:
            out[k] = _U0
            continue
        hits = 1
        while hits < MOST_HITS and draw >= levels[hits]:
            hits += 1
        bits = _U0
        places = _U0
        counter = base + np.uint64(k) * _LANES * _GOLDEN
        for n in range(hits):
            if n % 10 == 0:
                counter += _GOLDEN
                places = mix(counter)
            bits |= _U1 << (places & _U63)
            places >>= _U6
        out[k] = bits
