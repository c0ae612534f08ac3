"""Units at the edge: text in, SI numbers out, and back without loss.

Inside migkit a size is an integer number of bytes, a rate a number of bytes per second, a time a
number of seconds. People write ``"16 GiB"``, ``"10 Gbit/s"``, ``"300 ms"``. Bits and bytes are told apart by
word, never by the case of one letter: ``bit`` or ``B``.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from migkit.scenario.errors import ScenarioError, show

_DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_WORDS = {"B": Fraction(1), "byte": Fraction(1), "bytes": Fraction(1), "bit": Fraction(1, 8), "bits": Fraction(1, 8)}
_TIMES = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),  # micro sign
    "μs": Fraction(1, 10**6),  # Greek mu, which some keyboards type
    "ms": Fraction(1, 10**3),
    "s": Fraction(1),
    "min": Fraction(60),
    "h": Fraction(3600),
}
_SIZES = {p + w: f * scale for p, f in (_DECIMAL | _BINARY).items() for w, scale in _WORDS.items()}
_UNITS = {
    **{unit: ("size", factor) for unit, factor in _SIZES.items()},
    **{f"{unit}/s": ("rate", factor) for unit, factor in _SIZES.items()},
    **{unit: ("time", factor) for unit, factor in _TIMES.items()},
}
_RATIOS = {unit: (kind, factor.as_integer_ratio()) for unit, (kind, factor) in _UNITS.items()}
_EXAMPLES = {"size": '"16 GiB" or "512 MB"', "rate": '"10 Gbit/s" or "128 MiB/s"', "time": '"300 ms" or "2 s"'}
_KNOWN = {
    "size": "B or bit with a prefix such as Ki, Mi, Gi, k, M or G",
    "rate": "B/s or bit/s with a prefix such as Ki, Mi, Gi, k, M or G",
    "time": "ns, us, ms, s, min or h",
}
_PINT_UNITS = {"size": "byte", "rate": "byte / second", "time": "second"}

_TEXT = re.compile(
    r"\s*([+-]?(?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?)\s*([^\W\d_].*?)?\s*", re.DOTALL
)
_UNCLEAR = re.compile(r"([kKMGT]?i?)([bB])(ps|/s)?")


def _unit_problem(number: str, unit: str, kind: str) -> str:
    """Say why a unit is refused and what to write instead."""
    unclear = _UNCLEAR.fullmatch(unit)
    if unclear:
        prefix, letter, per = unclear.groups()
        rate = "/s" if per else ""
        if letter == "b":
            return (
                f"does not say clearly whether it counts bits or bytes: "
                f'write "{number} {prefix}bit{rate}" or "{number} {prefix}B{rate}"'
            )
        return f'has a unit that is not understood: write "{number} {prefix}B{rate}"'
    same = [known for known in _UNITS if known.casefold() == unit.casefold() and _UNITS[known][0] == kind]
    if same:
        return f'has a unit that is not understood: did you mean "{number} {same[0]}"?'
    if unit in ("k", "K", "M", "G", "T") and kind != "time":
        per = "/s" if kind == "rate" else ""
        return f'has no unit: write "{number} {unit.upper()}iB{per}" or "{number} {unit}B{per}"'
    return f'has the unit "{unit}", which is not understood: use {_KNOWN[kind]}'


_LONGEST = 100
"""Characters of a quantity: what is longer is no number that a person writes, and would take long to read."""


def _parse_text(text: str) -> tuple[str, str, str, tuple[int, int]]:
    """Split a quantity into number, unit, kind ("" if unknown) and exact SI value; all empty for any other text.

    The value is a numerator and a denominator, which may have common factors.
    """
    return _parse_short(text) if len(text) <= _LONGEST else ("", "", "", (0, 1))


@lru_cache(maxsize=4096)
def _parse_short(text: str) -> tuple[str, str, str, tuple[int, int]]:
    if not (match := _TEXT.fullmatch(text)):
        return "", "", "", (0, 1)
    number, unit = match.group(1), match.group(2) or ""
    kind, (factor_above, factor_below) = _RATIOS.get(unit, ("", (0, 1)))
    above, below = (int(number), 1) if number.isdecimal() else Decimal(number).as_integer_ratio()
    return number, unit, kind, (above * factor_above, below * factor_below)


def _from_pint(value: Any, kind: str) -> Fraction:
    """Convert a pint quantity; pint itself is never imported here."""
    # Pint's bit has no dimension, so 5 apples would convert to bytes: ask for the word.
    names = str(value.units).replace("/", " ").replace("*", " ").split()
    counts = any(name.endswith(("bit", "byte", "octet")) for name in names)
    try:
        if counts == (kind == "time"):
            raise ValueError
        amount = float(value.m_as(_PINT_UNITS[kind]))
    except Exception:
        raise ScenarioError(f"is not a {kind}: give one such as {_EXAMPLES[kind]}", value=value) from None
    if not math.isfinite(amount):
        raise ScenarioError(f"is not finite: give a {kind} such as {_EXAMPLES[kind]}", value=value)
    return Fraction(amount)


def _from_text(text: str, kind: str) -> Fraction:
    number, unit, found, exact = _parse_text(text)
    if not number:
        raise ScenarioError(f"is not a number with a unit: {_wanted(kind)}", value=text)
    if found == kind:
        return Fraction(*exact)
    if not unit:
        if Fraction(number) != 0:
            raise ScenarioError(f"has no unit: {_wanted(kind)}", value=text)
        return Fraction(0)
    if not found:
        raise ScenarioError(_unit_problem(number, unit, kind), value=text)
    raise ScenarioError(f"is a {found}, but a {kind} is needed: {_wanted(kind)}", value=text)


def _wanted(kind: str) -> str:
    return f"write a {kind} such as {_EXAMPLES[kind]}"


def exact_value(value: Any, kind: str) -> Fraction:
    """Read a quantity of one kind as an exact SI value."""
    if isinstance(value, str):
        exact = _from_text(value, kind)
    elif isinstance(value, (Rate, Seconds)) and not math.isfinite(value):
        raise ScenarioError(f"is not finite: {_wanted(kind)}", value=float(value))
    elif isinstance(value, KINDS[kind]):
        exact = Fraction(value)
    elif hasattr(value, "m_as") and hasattr(value, "units"):
        exact = _from_pint(value, kind)
    elif isinstance(value, (Bytes, Rate, Seconds)):
        raise ScenarioError(f"is a {kind_name(value)}, but a {kind} is needed: {_wanted(kind)}", value=str(value))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if value != 0:
            raise ScenarioError(f"has no unit: {_wanted(kind)}", value=value)
        exact = Fraction(0)
    else:
        raise ScenarioError(f"is not a {kind}: {_wanted(kind)}", value=value)
    if exact.numerator < 0:
        raise ScenarioError(f"is negative: a {kind} must be 0 or more", value=value)
    if exact and exact.denominator.bit_length() - exact.numerator.bit_length() > 1075:
        raise ScenarioError(f"is too small to be told from 0: {_wanted(kind)}", value=value)
    if exact.numerator.bit_length() > 1023 and exact > int(sys.float_info.max):
        raise ScenarioError(f"is too large: {_wanted(kind)}", value=value)
    return exact


def _as_float(value: Any, kind: str) -> float:
    # A wide axis reads text by the hundred thousand: without a Fraction in a third of the time, with the same rounding.
    if type(value) is str:
        number, _, found, exact = _parse_text(value)
        if found == kind and number[0] != "-" and exact[0].bit_length() < 900 and exact[1].bit_length() < 900:
            return exact[0] / exact[1]
    elif type(value) is KINDS[kind] and 0.0 <= value <= sys.float_info.max:
        return float(value)
    exact_fraction = exact_value(value, kind)
    return exact_fraction.numerator / exact_fraction.denominator


def parse_bytes(value: Any) -> int:
    """Read a size.

    Parameters
    ----------
    value : str, pint.Quantity, Bytes or 0
        A number and a unit: ``B``, ``byte`` or ``bit`` with a prefix k, M, G, T, Ki, Mi, Gi, Ti or none.

    Returns
    -------
    int
        Bytes; what is not a whole number of them is refused.

    Examples
    --------
    >>> parse_bytes("16 GiB")
    17179869184
    >>> parse_bytes("300 ms")
    Traceback (most recent call last):
    ...
    migkit.ScenarioError: "300 ms" is a time, but a size is needed: write a size such as "16 GiB" or "512 MB".
    """
    if type(value) is str:
        number, _, found, (above, below) = _parse_text(value)
        if found == "size" and number[0] != "-" and above.bit_length() < 900 and not above % below:
            return above // below
    elif type(value) is Bytes and 0 <= value <= sys.float_info.max:
        return int(value)
    exact = exact_value(value, "size")
    if exact.denominator != 1:
        near = round(exact)
        # Pint computes in floats; anything else that is not whole was written that way.
        if hasattr(value, "m_as") and abs(exact - near) <= exact * Fraction(1, 10**12):
            return near
        raise ScenarioError(f'is not a whole number of bytes: the nearest is "{near} B"', value=value)
    return int(exact)


def parse_rate(value: Any) -> float:
    """Read a rate.

    Parameters
    ----------
    value : str, pint.Quantity, Rate or 0
        A number and a unit: that of a size, per second. ``Gb/s`` and ``Gbps`` are refused.

    Returns
    -------
    float
        Bytes per second.

    Examples
    --------
    >>> parse_rate("10 Gbit/s"), parse_rate("128 MiB/s")
    (1250000000.0, 134217728.0)
    """
    return _as_float(value, "rate")


def parse_time(value: Any) -> float:
    """Read a time.

    Parameters
    ----------
    value : str, pint.Quantity, Seconds or 0
        A number and one of ``ns``, ``us``, ``ms``, ``s``, ``min``, ``h``.

    Returns
    -------
    float
        Seconds.

    Examples
    --------
    >>> parse_time("300 ms"), parse_time("30 min")
    (0.3, 1800.0)
    """
    return _as_float(value, "time")


def _out(*units: str) -> tuple[tuple[str, int, int], ...]:
    """Units with their factors as numerator and denominator."""
    return tuple((unit, *_UNITS[unit][1].as_integer_ratio()) for unit in units)


# Units that results are written in, the ones preferred at equal length first.
_SIZE_OUT = _out("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "kB", "B")
_RATE_OUT = _out("GiB/s", "MiB/s", "KiB/s", "GB/s", "MB/s", "kB/s", "B/s", "Gbit/s", "Mbit/s", "kbit/s")
_TIME_OUT = _out("h", "min", "s", "ms", "us", "ns")


def _format(above: int, below: int, units: tuple[tuple[str, int, int], ...], base: str, plain: str) -> str:
    """Choose the unit with the shortest exact decimal number for above / below; fall back to the base unit."""
    if above == 0:
        return f"0 {base}"
    best, shortest = f"{plain} {base}", math.inf
    for unit, factor_above, factor_below in units:
        top, bottom = above * factor_below, below * factor_above
        if top < bottom:
            continue
        scaled, rest = divmod(top * 10**6, bottom)
        if rest or scaled >= 10**14:
            continue
        whole, part = divmod(scaled, 10**6)
        number = f"{whole}.{part:06d}".rstrip("0") if part else str(whole)
        if len(number) < shortest:
            best, shortest = f"{number} {unit}", len(number)
    return best


def _format_float(value: float, units: tuple[tuple[str, int, int], ...], base: str) -> str:
    text = float.__repr__(value := float(value))
    if value.is_integer() and value < 2**53:
        return _format(int(value), 1, units, base, text)
    if not math.isfinite(value):
        return f"{text} {base}"
    return _format(*Decimal(text).as_integer_ratio(), units, base, text)


def format_bytes(value: int) -> str:
    """Write a size so that `parse_bytes` gives it back exactly.

    Examples
    --------
    >>> format_bytes(17179869184), format_bytes(1_500_000_000), format_bytes(4097)
    ('16 GiB', '1.5 GB', '4097 B')
    """
    if (value := int(value)).bit_length() > 1024:  # Python refuses to write what is much longer
        raise ScenarioError("is too large", "size", value)
    return _format(value, 1, _SIZE_OUT, "B", str(value))


def format_rate(value: float) -> str:
    """Write a rate so that `parse_rate` gives it back exactly.

    Examples
    --------
    >>> format_rate(1.25e9), format_rate(134217728)
    ('10 Gbit/s', '128 MiB/s')
    """
    return _format_float(value, _RATE_OUT, "B/s")


def format_time(value: float) -> str:
    """Write a time so that `parse_time` gives it back exactly.

    Examples
    --------
    >>> format_time(0.3), format_time(1.8e-6), format_time(1800)
    ('300 ms', '1.8 us', '30 min')
    """
    return _format_float(value, _TIME_OUT, "s")


def format_like(value: float, text: str, digits: int = 6) -> str:
    """Write a value in the unit of a quantity that somebody wrote, rounded.

    Parameters
    ----------
    value : float
        In SI units.
    text : str
        A quantity of the same kind, with its unit.
    digits : int, default 6
        Significant digits.

    Examples
    --------
    >>> format_like(3.3e9, "25 Gbit/s"), format_like(3.3e9, "3 GB/s")
    ('26.4 Gbit/s', '3.3 GB/s')
    """
    unit = _parse_text(text)[1]
    return f"{float(Fraction(value) / _UNITS[unit][1]):.{digits}g} {unit}"


class Bytes(int):
    """A size in bytes: an ``int`` that prints with its unit and is accepted wherever a size is.

    Examples
    --------
    >>> Bytes(17179869184)
    16 GiB
    >>> Bytes(17179869184) // 4096
    4194304
    """

    __slots__ = ()

    def __str__(self) -> str:
        return format_bytes(self)

    __repr__ = __str__


class Rate(float):
    """A rate in bytes per second: a ``float`` that prints with its unit and is accepted wherever a rate is.

    Examples
    --------
    >>> Rate(1.25e9), Rate(1.25e9) / 1e9
    (10 Gbit/s, 1.25)
    """

    __slots__ = ()

    def __str__(self) -> str:
        return format_rate(self)

    __repr__ = __str__


class Seconds(float):
    """A time in seconds: a ``float`` that prints with its unit and is accepted wherever a time is.

    Examples
    --------
    >>> Seconds(0.3), Seconds(0.3) * 1e3
    (300 ms, 300.0)
    """

    __slots__ = ()

    def __str__(self) -> str:
        return format_time(self)

    __repr__ = __str__


KINDS: dict[str, Any] = {"size": Bytes, "rate": Rate, "time": Seconds}
SI_UNITS: dict[type, str] = {Bytes: "B", Rate: "B/s", Seconds: "s"}
"""Unit of a number by the type of its field."""
FORMATS: dict[str, Callable[[Any], str]] = {"size": format_bytes, "rate": format_rate, "time": format_time}


def kind_name(value: Any) -> str:
    """Return "size", "rate" or "time"."""
    for kind, cls in KINDS.items():
        if isinstance(value, cls):
            return kind
    if isinstance(value, str) and (kind := _parse_text(value)[2]):
        return kind
    raise ScenarioError('needs a unit, such as "16 GiB", "10 Gbit/s" or "300 ms"', value=value)


MOST_VALUES = 1_000_000
"""Values of an axis."""


def check_number_of_values(num: Any) -> None:
    """Refuse what is not a whole number from 2 to 1,000,000."""
    if isinstance(num, bool) or not isinstance(num, int) or not 2 <= num <= MOST_VALUES:
        raise ScenarioError(f"is not a number of values: give a whole number of 2 or more, up to {MOST_VALUES}", "num",
                            num)  # fmt: skip


def _ends(start: Any, stop: Any, num: int, multiple: Any) -> tuple[str, Fraction, Fraction, Fraction | None]:
    check_number_of_values(num)
    kind = kind_name(stop)
    step = None if multiple is None else exact_value(multiple, kind)
    if step == 0:
        raise ScenarioError(f"cannot be rounded to: give a {kind} above 0", "multiple", multiple)
    return kind, exact_value(start, kind), exact_value(stop, kind), step


def _axis(kind: str, values: list[Fraction], step: Fraction | None) -> tuple[str, ...]:
    """Round to `step`, or to 12 digits so that axis values stay readable, and write as text."""
    if step is not None:
        values = [round(value / step) * step for value in values]
    elif kind == "size":
        values = [Fraction(round(value)) for value in values]
    else:
        values = [Fraction(f"{float(value):.12g}") for value in values]
    texts = tuple(FORMATS[kind](value) for value in values)
    if len(set(texts)) < len(texts):
        ((twice, _),) = Counter(texts).most_common(1)
        raise ScenarioError(f"gives the value {show(twice)} more than once: use fewer values")
    return texts


def linspace(start: Any, stop: Any, num: int, multiple: Any = None) -> tuple[str, ...]:
    """Space values evenly between two quantities, both included.

    Parameters
    ----------
    start, stop : str
        Two sizes, two rates or two times.
    num : int
        How many values, 2 to 1,000,000.
    multiple : str, optional
        Round every value to a multiple of this; regions need whole pages (``"4 KiB"``). Without it sizes
        are rounded to whole bytes, rates and times to 12 significant digits.

    Returns
    -------
    tuple of str
        Text that parses back to exactly the value meant: usable as axis values.

    Examples
    --------
    >>> linspace("100 ms", "500 ms", 3)
    ('100 ms', '300 ms', '500 ms')
    >>> linspace("1 MiB", "2 MiB", 4, multiple="4 KiB")
    ('1 MiB', '1364 KiB', '1708 KiB', '2 MiB')
    """
    kind, low, high, step = _ends(start, stop, num, multiple)
    return _axis(kind, [low + (high - low) * i / (num - 1) for i in range(num)], step)


def geomspace(start: Any, stop: Any, num: int, multiple: Any = None) -> tuple[str, ...]:
    """Space values with a constant ratio between two quantities, both included and above 0.

    Parameters
    ----------
    start, stop, num, multiple
        As for `linspace`, and so is what it returns.

    Examples
    --------
    >>> geomspace("1 MB/s", "1 GB/s", 4)
    ('1 MB/s', '10 MB/s', '100 MB/s', '1 GB/s')
    """
    kind, low, high, step = _ends(start, stop, num, multiple)
    for end in (low, high):
        if end == 0:
            raise ScenarioError(f"cannot start or end at 0: give a {kind} above 0, or use linspace", "geomspace")
    try:
        ratio = math.log(high / low)
        inner = [low * Fraction(math.exp(ratio * i / (num - 1))) for i in range(1, num - 1)]
    except OverflowError:
        raise ScenarioError(f"has ends too far apart: {show(start)} and {show(stop)}", "geomspace") from None
    return _axis(kind, [low, *inner, high], step)
