"""The lattice an axis is put on: values from one end of a range to the other, in steps of a tolerance."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from migkit.run.axes import UNITS
from migkit.scenario.errors import ScenarioError
from migkit.scenario.units import exact_value

__all__ = ["MOST_NODES", "Lattice", "spaced"]

MOST_NODES = 100_000
"""Nodes of a lattice: each is a scenario of its own, checked before anything is computed (0.13 ms)."""

_TYPES = {unit: kind for kind, unit in UNITS.items()}
_KINDS = {"B": "size", "B/s": "rate", "s": "time"}


class Lattice(NamedTuple):
    """Values from end to end, as a scenario takes them."""

    values: list[Any]
    geometric: bool
    """Whether neighbours have a constant ratio, not a constant difference."""


def spaced(
    path: str, ends: np.ndarray, unit: str, tolerance: float, multiple: Any = None, page: int = 1
) -> Lattice:
    """Space values between two ends.

    Parameters
    ----------
    path : str
        The field, for errors.
    ends : array of two
        In SI units, the lower one first.
    unit : str
        ``B``, ``B/s``, ``s``, or ``1`` for plain numbers. Whole numbers are counts: all of them are on the lattice.
    tolerance : float
        Neighbours have at most the ratio 1 + `tolerance`; if the range begins at 0, at most this share of its upper end
        between them.
    multiple : quantity, optional
        Round to multiples of this; both ends must be one.
    page : int, default 1
        Sizes are rounded to multiples of this many bytes, unless `multiple` is given.

    Returns
    -------
    Lattice

    Raises
    ------
    ScenarioError
        If the ends are no numbers, reversed, or no multiples, or if there are more than 100,000 values.

    Examples
    --------
    >>> spaced("link.bandwidth", np.array([1e9, 1.21e9]), "B/s", 0.1)
    Lattice(values=[1 GB/s, 1.1 GB/s, 1.21 GB/s], geometric=True)
    >>> spaced("devices.0.count", np.array([0, 3]), "1", 0.1)
    Lattice(values=[0, 1, 2, 3], geometric=False)
    """
    if ends.dtype.kind not in "if":
        raise ScenarioError("holds words, which cannot be bisected: use it in over, or as policy", path)
    low, high = ends.tolist()
    if low > high:
        raise ScenarioError("goes from a larger value to a smaller one: give the least one first", path)
    step = _step(path, unit, multiple, page)
    if step and any(Fraction(end) % step for end in (low, high)):
        raise ScenarioError(f"must begin and end at multiples of {multiple}, to which it is rounded", path)
    counts = unit == "1" and ends.dtype.kind == "i"
    geometric = low > 0 and not counts
    steps = high - low if counts else math.log(high / low) / math.log1p(tolerance) if geometric else 1 / tolerance
    number = max(math.ceil(steps * (1 - 1e-12)), 1) + 1
    if number > MOST_NODES:
        instead = "a narrower range" if counts else "a larger tolerance or a narrower range"
        raise ScenarioError(f"takes {number} values, and at most {MOST_NODES} are allowed: use {instead}", path)
    if counts:
        return Lattice(list(range(low, high + 1)), False)
    values = (np.geomspace if geometric else np.linspace)(low, high, number)
    if step:
        places = np.unique(np.round(values / float(step)).astype(np.int64)).tolist()
        return Lattice([_TYPES[unit](place * step) for place in places], geometric)
    inner = [float(f"{value:.12g}") for value in values[1:-1].tolist()]
    plain = np.unique([low, *inner, high]).tolist()
    return Lattice([_TYPES.get(unit, float)(value) for value in plain], geometric)


def _step(path: str, unit: str, multiple: Any, page: int) -> Fraction:
    """What values are rounded to, 0 for nothing."""
    if multiple is None:
        return Fraction(page if unit == "B" else 0)
    if unit not in _KINDS:
        raise ScenarioError("holds plain numbers, which are not rounded: leave multiple out", path)
    try:
        step = exact_value(multiple, _KINDS[unit])
    except ScenarioError as error:
        raise error.within("multiple") from None
    if not step:
        raise ScenarioError(f"cannot be rounded to: give a {_KINDS[unit]} above 0", "multiple", multiple)
    return step
