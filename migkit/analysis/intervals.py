"""Intervals of proportions and quantiles, vectorised over arrays of samples."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["order_statistics", "paired_interval", "sample_quantile", "wilson"]


def wilson(successes: Any, trials: Any, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Score interval of a binomial proportion, without continuity correction.

    Parameters
    ----------
    successes, trials : int or array of int
        Counts; they broadcast.
    confidence : float, default 0.95
        Between 0 and 1.

    Returns
    -------
    low, high : ndarray
        Bounds of the probability; ``NaN`` where there are no trials.

    Notes
    -----
    E. B. Wilson, Probable inference, the law of succession, and statistical inference, Journal of the American
    Statistical Association 22 (1927), 209-212.

    Examples
    --------
    >>> low, high = wilson(8, 10)
    >>> round(float(low), 3), round(float(high), 3)
    (0.49, 0.943)
    """
    from scipy.special import ndtri

    count = np.asarray(successes, float)
    n = np.where(np.asarray(trials) > 0, trials, np.nan).astype(float)
    z = ndtri(0.5 + confidence / 2)
    middle = (count + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(count * (n - count) / n + z**2 / 4)
    # no successes and only successes have the bounds 0 and 1, free of rounding errors
    return np.where(count == 0, 0.0, middle - half) + 0 * n, np.where(count == n, 1.0, middle + half) + 0 * n


def order_statistics(size: Any, q: float, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Which order statistics of a sample enclose the quantile `q`, whatever its distribution.

    Parameters
    ----------
    size : int or array of int
        Size of the sample.
    q : float
        The quantile, between 0 and 1.
    confidence : float, default 0.95
        Least confidence of the interval; the rest is split equally between both ends.

    Returns
    -------
    low, high : ndarray of int
        Indices in the sorted sample; -1 where the sample is too small for a bound at that end. A median needs 6 values
        for 95 %, the 5 % quantile 72 for its lower bound.

    Notes
    -----
    The number of values below the quantile is binomial: W. J. Conover, Practical Nonparametric Statistics, 3rd
    edition (1999), section 3.2; as ``scipy.stats.quantile_test`` computes it.

    Examples
    --------
    >>> low, high = order_statistics(20, 0.5)  # the 6th and the 15th of 20
    >>> int(low), int(high)
    (5, 14)
    """
    from scipy.stats import binom

    size = np.asarray(size, np.int64)
    rest = (1 - confidence) / 2
    at_least_one = np.maximum(size, 1)
    low = binom.ppf(rest, at_least_one, q).astype(np.int64) - 1
    high = binom.isf(rest, at_least_one, q).astype(np.int64)
    return np.where(size > 0, low, -1), np.where(high < size, high, -1)


def sample_quantile(
    values: np.ndarray, q: float, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quantile of samples, with its interval.

    Parameters
    ----------
    values : ndarray
        Samples along the last axis; ``NaN`` is no value.
    q : float
        The quantile, from 0 to 1.
    confidence : float, default 0.95
        Of the interval between two order statistics (:func:`order_statistics`).

    Returns
    -------
    quantile, low, high : ndarray
        The quantile interpolated between neighbours (Hyndman and Fan's type 7, NumPy's default) and the bounds of its
        interval; ``NaN`` where there are no values, or too few for a bound.

    Examples
    --------
    >>> quantile, low, high = sample_quantile(np.arange(20.0), 0.5)
    >>> float(quantile), float(low), float(high)
    (9.5, 5.0, 14.0)
    """
    from scipy.stats import quantile

    values = np.sort(np.asarray(values, float), axis=-1)  # NaN last
    size = np.isfinite(values).sum(axis=-1)

    def at(place: np.ndarray) -> np.ndarray:
        if not values.shape[-1]:
            return np.full(size.shape, np.nan)
        found = np.take_along_axis(values, np.maximum(place, 0)[..., None], axis=-1)[..., 0]
        return np.where(place >= 0, found, np.nan)

    low, high = order_statistics(size, q, confidence)
    return np.asarray(quantile(values, q, axis=-1, nan_policy="omit")), at(low), at(high)


def paired_interval(
    both: Any, only_first: Any, only_second: Any, neither: Any, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of the difference between two proportions of the same trials: second less first.

    Parameters
    ----------
    both, only_first, only_second, neither : int or array of int
        Trials by which of the two succeeded; they broadcast.
    confidence : float, default 0.95
        Between 0 and 1.

    Returns
    -------
    low, high : ndarray
        ``NaN`` where there are no trials.

    Notes
    -----
    R. G. Newcombe, Improved confidence intervals for the difference between binomial proportions based on paired
    data, Statistics in Medicine 17 (1998), 2635-2650, method 10: Wilson's intervals of the two proportions, joined
    by the correlation phi, which is corrected for continuity where it is positive.

    Examples
    --------
    >>> low, high = paired_interval(59, 16, 6, 80)
    >>> round(float(low), 4), round(float(high), 4)
    (-0.1186, -0.0046)
    """
    a, b, c, d = np.broadcast_arrays(*(np.asarray(count, float) for count in (both, only_second, only_first, neither)))
    n = a + b + c + d
    whole = np.where(n > 0, n, np.nan)
    second, first = (a + b) / whole, (a + c) / whole
    second_low, second_high = wilson(a + b, n, confidence)
    first_low, first_high = wilson(a + c, n, confidence)
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    cross = a * d - b * c
    cross = np.where(cross > 0, np.maximum(cross - n / 2, 0), cross)
    phi = np.where(margins > 0, cross / np.sqrt(np.where(margins > 0, margins, 1)), 0)

    def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(one**2 - 2 * phi * one * other + other**2, 0))

    difference = second - first
    low = difference - joined(second - second_low, first_high - first)
    return low, difference + joined(second_high - second, first - first_low)
