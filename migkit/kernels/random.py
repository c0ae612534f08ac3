"""Counter-based random words: the same draw for the same key, wherever and whenever it is made."""

from __future__ import annotations

import numpy as np

from migkit.kernels.options import kernel

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_U0, _U1, _U27, _U30, _U31, _U32 = (np.uint64(n) for n in (0, 1, 27, 30, 31, 32))
_LEVELS = 53  # bits of a draw that are compared: those of a float64 probability
_FIRST = 8  # bits drawn without a branch; after them a word is undecided in 1 of 5 cases
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
    if level == _U0:
        return _U0
    if level >= _ONE:
        return _ONES
    below = _U0
    undecided = _ONES
    counter = key + np.uint64(word) * np.uint64(64) * _GOLDEN
    for j in range(_FIRST):
        r = mix(counter)
        counter += _GOLDEN
        bit = _U0 - ((level >> np.uint64(_LEVELS - 1 - j)) & _U1)
        below |= undecided & ~r & bit
        undecided &= ~(r ^ bit)
    j = _FIRST
    while undecided != _U0 and j < _LEVELS:
        r = mix(counter)
        counter += _GOLDEN
        bit = _U0 - ((level >> np.uint64(_LEVELS - 1 - j)) & _U1)
        below |= undecided & ~r & bit
        undecided &= ~(r ^ bit)
        j += 1
    return below


@kernel
def bernoulli_words(key, word, low, high):
    """Two nested sets of bits from the same uniforms: below ``low`` and below ``high``; ``low <= high``."""
    return bernoulli_word(key, word, low), bernoulli_word(key, word, high)
