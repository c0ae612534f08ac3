"""What no other choice beats."""

from __future__ import annotations

import numpy as np

__all__ = ["undominated"]


def undominated(costs: np.ndarray) -> np.ndarray:
    """Which rows no other beats: is as good in all columns and better in one; of equal rows the first.

    Parameters
    ----------
    costs : ndarray
        One row a choice, one column a cost; less is better.

    Returns
    -------
    ndarray of bool
        The Pareto set.

    Examples
    --------
    >>> undominated(np.array([[1, 3], [2, 2], [2, 3], [1, 3]])).tolist()
    [True, True, False, False]
    """
    kept = np.ones(len(costs), bool)
    for row in range(len(costs)):
        as_good = (costs <= costs[row]).all(axis=1)
        better = as_good & (costs < costs[row]).any(axis=1)
        equal = (costs == costs[row]).all(axis=1)
        kept[row] = not better.any() and not equal[:row].any()
    return kept
