"""Values of an axis written as a rule: evenly, by a constant ratio, spread over a box by a design, or on a lattice."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import model_validator

from migkit.scenario.errors import ScenarioError
from migkit.scenario.fields import Part, check_keys, whole_number
from migkit.scenario.units import (
    KINDS,
    MOST_VALUES,
    SI_UNITS,
    check_number_of_values,
    exact_value,
    geomspace,
    kind_name,
    linspace,
)

__all__ = [
    "MOST_FIELDS",
    "MOST_NODES",
    "MOST_VALUES",
    "Design",
    "Lattice",
    "Range",
    "Spacing",
    "expanded",
    "listed",
    "spaced",
]

MOST_POINTS = 1 << 17
"""Points of a design."""
MOST_FIELDS = 1000
"""Fields that a design moves."""
MOST_PLACES = 1 << 22
"""Values of a design: points times fields."""
_MOST_STEPS = 10**300
"""Multiples within a range."""


def _check_number(end: Any, field: str = "") -> None:
    """Refuse what is no number, or none that fits a float."""
    if isinstance(end, bool) or not isinstance(end, int | float):
        raise ScenarioError("is not the end of a range: give two numbers or two quantities", field, end)
    if not abs(end) <= sys.float_info.max:
        raise ScenarioError("is not a finite number", field, end)


class Spacing(Part):
    """Values between two ends, both included: ``{ geomspace = ["1 Gbit/s", "100 Gbit/s", 110] }``.

    Parameters
    ----------
    linspace, geomspace : list of three, one of them
        First value, last value and how many: evenly, or with a constant ratio. Quantities have units, counts none.
    multiple : quantity, optional
        Round every value to a multiple of this; regions need whole pages (``"4 KiB"``).

    Examples
    --------
    >>> Spacing(geomspace=["1 MB/s", "1 GB/s", 4]).values()
    ('1 MB/s', '10 MB/s', '100 MB/s', '1 GB/s')
    >>> Spacing(linspace=[0, 8, 5]).values()
    (0, 2, 4, 6, 8)
    """

    linspace: tuple[Any, Any, Any] | None = None
    geomspace: tuple[Any, Any, Any] | None = None
    multiple: Any = None

    @model_validator(mode="after")
    def _one_rule(self) -> Spacing:
        if (self.linspace is None) == (self.geomspace is None):
            raise ScenarioError('needs one rule: linspace or geomspace, each ["first", "last", number of values]')
        return self

    def values(self) -> tuple[Any, ...]:
        """Give the values as a scenario takes them."""
        rule = self.linspace or self.geomspace
        assert rule is not None
        start, stop, num = rule
        if isinstance(start, str) or isinstance(stop, str):
            return (linspace if self.linspace else geomspace)(start, stop, num, self.multiple)
        return self._numbers(start, stop, num)

    def _numbers(self, start: Any, stop: Any, num: Any) -> tuple[int | float, ...]:
        for end in (start, stop):
            _check_number(end)
        if not abs(Fraction(stop) - Fraction(start)) <= sys.float_info.max:
            raise ScenarioError("has ends that are too far apart", value=[start, stop])
        check_number_of_values(num)
        if self.geomspace and min(start, stop) <= 0:
            raise ScenarioError("cannot start or end at 0: give numbers above 0, or use linspace", "geomspace")
        if self.multiple is not None:
            raise ScenarioError("rounds quantities only, not plain numbers", "multiple", self.multiple)
        if self.geomspace:
            return tuple(np.geomspace(start, stop, num).tolist())
        values = np.linspace(start, stop, num).tolist()
        if all(isinstance(end, int) for end in (start, stop)):
            values = [int(value) if value.is_integer() else value for value in values]
        return tuple(values)


class Range(Part):
    """Two ends that a design spreads its points between: ``{ geomspace = ["1 Gbit/s", "100 Gbit/s"] }``.

    Parameters
    ----------
    linspace, geomspace : list of two, one of them
        Least and largest value: spread evenly, or evenly in the logarithm.
    multiple : quantity, optional
        Round every value to a multiple of this. Counts (two whole numbers) are whole without it.
    """

    linspace: tuple[Any, Any] | None = None
    geomspace: tuple[Any, Any] | None = None
    multiple: Any = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Range:
        if (self.linspace is None) == (self.geomspace is None):
            raise ScenarioError('needs one rule: linspace or geomspace, each ["least", "largest"]')
        low, high = self._ends()
        if not low < high:
            raise ScenarioError("has its ends the wrong way round, or twice the same one", value=list(self.ends))
        if self.geomspace and low <= 0:
            raise ScenarioError("cannot start at 0: give ends above 0, or use linspace", "geomspace")
        if self.geomspace and not high / low <= Fraction(sys.float_info.max):
            raise ScenarioError("has ends that are too far apart", value=list(self.ends))
        if self.multiple is not None and self._step() <= 0:
            raise ScenarioError("cannot be rounded to: it must be above 0", "multiple", self.multiple)
        if self.multiple is not None and not (float(self._step()) and high / self._step() <= _MOST_STEPS):
            raise ScenarioError("is too small to round to in this range", "multiple", self.multiple)
        return self

    @property
    def ends(self) -> tuple[Any, Any]:
        """The two ends as they were written."""
        rule = self.linspace or self.geomspace
        assert rule is not None
        return rule

    def _kind(self) -> str | None:
        """Return "size", "rate" or "time", None for plain numbers."""
        low, high = self.ends
        if isinstance(low, str) or isinstance(high, str):
            return kind_name(high)
        for end in (low, high):
            _check_number(end)
        return None

    def _ends(self) -> tuple[Fraction, Fraction]:
        kind = self._kind()
        low, high = (exact_value(end, kind) if kind else Fraction(end) for end in self.ends)
        return low, high

    def _step(self) -> Fraction:
        kind = self._kind()
        if self.multiple is not None:
            if kind:
                return exact_value(self.multiple, kind)
            _check_number(self.multiple, "multiple")
            return Fraction(self.multiple)
        whole = kind == "size" or (kind is None and all(isinstance(end, int) for end in self.ends))
        return Fraction(int(whole))

    def values(self, shares: np.ndarray) -> tuple[Any, ...]:
        """Give the values at these shares of the way, from 0 to 1, as a scenario takes them."""
        kind, step = self._kind(), self._step()
        low, high = self._ends()
        if self.geomspace:
            ratio = math.log(high / low)
            found = [float(low) * math.exp(ratio * share) for share in shares.tolist()]
        else:
            # exact, as fractions would be, but in whole numbers
            below = low.denominator * high.denominator
            first, width = int(low * below), int((high - low) * below)
            parts = [share.as_integer_ratio() for share in shares.tolist()]
            found = [(first * q + width * p) / (below * q) for p, q in parts]
        values: list[Any]
        if not step:
            least, most = float(low), float(high)
            values = [min(max(float(f"{value:.12g}"), least), most) for value in found]
        elif step.denominator == 1:
            whole, size = int(step), float(step)
            values = [round(value / size) * whole for value in found]
        else:
            values = [float(round(value / step) * step) for value in found]
        if kind:
            return tuple(map(KINDS[kind], values))
        return tuple(values)


class Design(Part):
    """Points spread over ranges of several fields at once, instead of every combination.

    Parameters
    ----------
    method : {"sobol", "latin_hypercube"}
        ``scipy.stats.qmc.Sobol`` (scrambled; a power of two of points) or ``scipy.stats.qmc.LatinHypercube``.
    points : int
        How many, 2 to 131072. Each is a scenario of its own, checked before anything is computed.
    ranges : mapping of str to Range
        The fields by dotted path.
    seed : int, default 0
        Of the design; the draws of the bitmap engine have the sweep's.

    Examples
    --------
    >>> design = Design(method="sobol", points=4, ranges={"link.bandwidth": {"geomspace": ["1 Gbit/s", "100 Gbit/s"]}})
    >>> len(design.values()["link.bandwidth"])
    4
    """

    method: Literal["sobol", "latin_hypercube"]
    points: Annotated[int, whole_number(2, MOST_POINTS)]
    ranges: dict[str, Range]
    seed: Annotated[int, whole_number(0, 2**63 - 1)] = 0

    @model_validator(mode="after")
    def _fits(self) -> Design:
        if not self.ranges:
            raise ScenarioError("has no fields: give a range for each field that the design moves", "ranges")
        if len(self.ranges) > MOST_FIELDS:
            raise ScenarioError(f"has {len(self.ranges)} fields: at most {MOST_FIELDS} are allowed", "ranges")
        if self.points * len(self.ranges) > MOST_PLACES:
            raise ScenarioError(f"and {len(self.ranges)} ranges give more than {MOST_PLACES} values: use fewer of one "
                                "of them", "points", self.points)  # fmt: skip
        if self.method == "sobol" and self.points & (self.points - 1):
            near = 1 << round(math.log2(self.points))
            raise ScenarioError(f"is not a power of two, which Sobol points need: the nearest is {near}", "points",
                                self.points)  # fmt: skip
        return self

    def values(self) -> dict[str, tuple[Any, ...]]:
        """Give the values of every field, in the order of the points."""
        from scipy.stats import qmc

        sampler = {"sobol": qmc.Sobol, "latin_hypercube": qmc.LatinHypercube}[self.method]
        shares = sampler(len(self.ranges), rng=np.random.default_rng(self.seed)).random(self.points)
        return {path: rule.values(shares[:, i]) for i, (path, rule) in enumerate(self.ranges.items())}


def listed(path: str, given: Any) -> tuple[Any, ...]:
    """The values of an axis as a tuple.

    Raises
    ------
    ScenarioError
        If `given` is no list, or holds no values, or more than 1,000,000.
    """
    if isinstance(given, str | bytes | Mapping | set | frozenset) or not hasattr(given, "__iter__"):
        raise ScenarioError("is not a list of values: put the values of an axis in [ ]", path, given)
    if getattr(given, "ndim", 1) != 1:
        raise ScenarioError(f"must be a list of values, not an array of {given.ndim} dimensions", path)
    try:
        members = iter(given)
    except TypeError:  # a class, of which only the instances have values
        raise ScenarioError("is not a list of values: put the values of an axis in [ ]", path, given) from None
    values = tuple(itertools.islice(members, MOST_VALUES + 1))
    if len(values) > MOST_VALUES:
        raise ScenarioError(f"has more than {MOST_VALUES} values, the most an axis may have", path)
    if not values:
        raise ScenarioError("has no values: an axis needs at least one", path)
    return values


def expanded(path: str, given: Any) -> Any:
    """The values of an axis: those listed, or those of the rule that is given instead."""
    try:
        if isinstance(given, Mapping) and {"linspace", "geomspace"} & set(given):
            check_keys(given)
            given = Spacing(**given)
        return given.values() if isinstance(given, Spacing) else given
    except ScenarioError as error:
        raise error.within(path) from None


MOST_NODES = 100_000
"""Nodes of a lattice."""

_TYPES = {unit: kind for kind, unit in SI_UNITS.items()}
_KINDS = {"B": "size", "B/s": "rate", "s": "time"}


class Lattice(NamedTuple):
    """Values from end to end, as a scenario takes them."""

    values: list[Any]
    geometric: bool
    """Whether neighbours have a constant ratio, not a constant difference."""


def spaced(path: str, ends: np.ndarray, unit: str, tolerance: float, multiple: Any = None, page: int = 1) -> Lattice:
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
    if geometric:
        steps = (math.log(high) - math.log(low)) / math.log1p(tolerance)
    else:
        steps = high - low if counts else 1 / tolerance
    number = max(math.ceil(min(steps, 1e9) * (1 - 1e-12)), 1) + 1
    if number > MOST_NODES:
        instead = "a narrower range" if counts else "a larger tolerance or a narrower range"
        wanted = number if steps < 1e9 else "more than 1000000000"
        raise ScenarioError(f"takes {wanted} values, and at most {MOST_NODES} are allowed: use {instead}", path)
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
