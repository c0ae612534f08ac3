"""Bisection of many cases at once: where their outcomes flip along a lattice.

A case is a migration with all parameters fixed but one, the axis. A flip lies between two computed nodes of the axis of
which only one has the wanted outcome; the gap between them is halved until they are neighbours on the lattice. All open
gaps of all cases are halved in the same round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

__all__ = ["Flips", "bisected", "matched"]


class Flips(NamedTuple):
    """All flips, sorted by case and node; int64 columns."""

    case: np.ndarray
    below: np.ndarray
    """The node below the flip; the next node is above it."""
    outcome_below: np.ndarray
    outcome_above: np.ndarray
    rising: np.ndarray
    """Whether the wanted outcome is above the flip; bool."""
    ordinal: np.ndarray
    """Number of the flip within its case, from 0."""


class _Known:
    """The outcomes computed so far, sorted by case and node."""

    def __init__(self, nodes: int, wanted: int, compute: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self._nodes, self._wanted, self._compute = nodes, wanted, compute
        self.keys = np.zeros(0, np.int64)  # case * nodes + node
        self.outcomes = np.zeros(0, np.int8)

    def learn(self, keys: np.ndarray) -> None:
        """Compute the outcomes at these keys, none of which is known."""
        keys = np.unique(keys)
        found = self._compute(keys // self._nodes, keys % self._nodes)
        every = np.concatenate([self.keys, keys])
        order = np.argsort(every, kind="stable")
        self.keys = every[order]
        self.outcomes = np.concatenate([self.outcomes, found])[order]

    def gaps(self) -> np.ndarray:
        """Indices of known neighbours of one case with a flip between them."""
        has = self.outcomes == self._wanted
        case = self.keys // self._nodes
        return np.flatnonzero((has[1:] != has[:-1]) & (case[1:] == case[:-1]))

    def flips(self) -> Flips:
        """The flips, when every gap is closed."""
        gaps = self.gaps()
        case = self.keys[gaps] // self._nodes
        ordinal = np.arange(len(gaps)) - np.searchsorted(case, case)
        sides = (self.outcomes[gaps].astype(np.int64), self.outcomes[gaps + 1].astype(np.int64))
        return Flips(case, self.keys[gaps] % self._nodes, *sides, sides[1] == self._wanted, ordinal)

    def hints(self, shape: Sequence[int], along: Sequence[int]) -> np.ndarray:
        """Nodes in the middle of a band of a neighbouring case, at which this case shows no band so far."""
        flips = self.flips()
        first = np.flatnonzero(flips.case[1:] == flips.case[:-1])  # the lower flip of each band
        middle = (flips.below[first] + 1 + flips.below[first + 1]) // 2
        has = flips.rising[first]
        place = np.array(np.unravel_index(flips.case[first], shape))
        found = [np.zeros(0, np.int64)]
        for dim in along:
            for step in (-1, 1):
                moved = place.copy()
                moved[dim] += step
                inside = (moved[dim] >= 0) & (moved[dim] < shape[dim])
                keys = np.ravel_multi_index(tuple(moved[:, inside]), shape) * self._nodes + middle[inside]
                # gaps are closed: between two known nodes the outcome is assumed to be that of the lower one
                last = np.searchsorted(self.keys, keys, "right") - 1
                differs = (self.outcomes[last] == self._wanted) != has[inside]
                found.append(keys[differs & (self.keys[last] != keys)])
        return np.unique(np.concatenate(found))


def bisected(
    shape: Sequence[int],
    nodes: int,
    scan: int,
    along: Sequence[int],
    wanted: int,
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[Flips, np.ndarray, int]:
    """Find the flips of every case.

    Parameters
    ----------
    shape : sequence of int
        Cases along each dimension, none for a single case; they are numbered with the last one fastest.
    nodes : int
        Nodes of the lattice, 2 or more.
    scan : int
        Nodes that are computed first, evenly spaced, with both ends.
    along : sequence of int
        Dimensions along which neighbouring cases resemble each other. If a case has a band between two flips and its
        neighbour shows none, the neighbour is computed in the middle of that band, and so on along the band.
    wanted : int
        A flip has this outcome on one side and another on the other.
    compute : callable
        Outcomes (int8) of cases at nodes.

    Returns
    -------
    flips : Flips
    ends : int8 array (cases, 2)
        Outcomes at the first and the last node.
    computed : int
        Migrations that were computed.

    Examples
    --------
    >>> band = lambda case, node: np.where((node > 30 + case) & (node < 60), 1, 0).astype(np.int8)
    >>> flips, ends, computed = bisected((2,), 100, 5, [0], 1, band)
    >>> flips.case.tolist(), flips.below.tolist(), computed
    ([0, 0, 1, 1], [30, 59, 31, 59], 27)
    """
    shape = tuple(shape) or (1,)
    known = _Known(nodes, wanted, compute)
    first = np.unique(np.linspace(0, nodes - 1, scan).round().astype(np.int64))
    cases = int(np.prod(shape, dtype=np.int64))
    keys = (np.arange(cases)[:, None] * nodes + first).ravel()
    while keys.size:
        known.learn(keys)
        gaps = known.gaps()
        below, above = known.keys[gaps], known.keys[gaps + 1]
        wide = above - below > 1
        keys = (below[wide] + above[wide]) // 2
        if not keys.size:
            keys = known.hints(shape, along)
    ends = known.outcomes[np.searchsorted(known.keys, np.arange(cases)[:, None] * nodes + [0, nodes - 1])]
    return known.flips(), ends, known.keys.size


def matched(flips: Flips, points: int, replicates: int | None) -> tuple[np.ndarray, int]:
    """Number the flips of all replicates of a point, so that a number denotes the same flip in each replicate.

    Parameters
    ----------
    flips : Flips
        Cases are points, or the replicates of one point after the other.
    points : int
    replicates : int, optional
        Replicates of a point; None if there are none.

    Returns
    -------
    number : int array
        Number of every flip within its point, in rising order.
    most : int
        The largest number plus one, at least 1.
    """
    if replicates is None:
        return flips.ordinal, int(flips.ordinal.max(initial=0)) + 1
    slots = np.zeros(len(flips.case), np.int64)
    point = flips.case // replicates
    bounds = np.searchsorted(point, np.arange(points + 1))
    for start, stop in pairwise(bounds):
        slots[start:stop] = _slots(flips.below[start:stop], flips.rising[start:stop], flips.case[start:stop])
    return slots, int(slots.max(initial=0)) + 1


def _slots(node: np.ndarray, rising: np.ndarray, case: np.ndarray) -> np.ndarray:
    """Match the flips of the replicates of one point, sorted by replicate and node.

    The flips of the most common pattern of directions are placed at their medians. A flip of another replicate is
    matched with the nearest free flip of its direction; if there is none it gets a place of its own. Places are
    numbered in the order of their nodes.
    """
    members = [np.flatnonzero(case == one) for one in np.unique(case)]
    patterns = Counter(tuple(rising[rows]) for rows in members)
    members.sort(key=lambda rows: (-patterns[tuple(rising[rows])], -len(rows)))  # stable: then by replicate
    places: list[tuple[float, bool]] = []
    if members:
        common = [rows for rows in members if np.array_equal(rising[rows], rising[members[0]])]
        medians = np.median([node[rows] for rows in common], axis=0)
        places = list(zip(medians.tolist(), rising[members[0]].tolist(), strict=True))
    found = np.zeros(len(node), np.int64)
    for rows in members:
        free = set(range(len(places)))
        pairs = sorted((abs(node[row] - places[one][0]), row, one) for row in rows.tolist() for one in free
                       if places[one][1] == rising[row])  # fmt: skip
        waiting = set(rows.tolist())
        for _, row, one in pairs:
            if row in waiting and one in free:
                found[row] = one
                waiting.remove(row)
                free.remove(one)
        for unmatched in sorted(waiting):
            found[unmatched] = len(places)
            places.append((float(node[unmatched]), bool(rising[unmatched])))
    rank = np.empty(len(places), np.int64)
    rank[sorted(range(len(places)), key=lambda one: places[one][0])] = np.arange(len(places))
    return rank[found] if len(places) else found
