"""Many scenarios of one structure seen as one: the attributes of a scenario, with an array where the scenarios differ.

What is computed from a scenario (:mod:`migkit.scenario.rows`) and what its fields must satisfy together
(:class:`migkit.scenario.fields.Rule`) is written once, as NumPy expressions over attributes. They take a scenario,
whose fields are single values, or a `View`, in which some fields have one value a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["View", "Words", "columns_of", "each", "stacked"]


class Words(NamedTuple):
    """A field that is not a number, in every row: the different values, and which of them each row has."""

    choices: tuple[Any, ...]
    codes: np.ndarray

    def take(self, rows: np.ndarray) -> Words:
        """The field in some of the rows."""
        return Words(self.choices, self.codes[rows])


class View:
    """A part of a scenario in which some fields are columns.

    Parameters
    ----------
    part : Part
        Where all other fields come from.
    columns : mapping of str to array or Words
        By the dotted path of the field, seen from the whole scenario.
    path : str, optional
        Dotted path of `part`, with a dot at the end; empty for the scenario itself.
    reads : set of str, optional
        Gets the paths of the columns that are read.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"))
    >>> view = View(scenario, {"guest.ram": np.array([2**30, 2**31])})
    >>> view.guest.ram // view.guest.page_size, view.link.bandwidth
    (array([262144, 524288]), 1 GB/s)
    """

    def __init__(self, part: Any, columns: Mapping[str, Any], path: str = "", reads: set[str] | None = None) -> None:
        self._part, self._columns, self._path, self._reads = part, columns, path, reads

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        path = f"{self._path}{name}"
        if path not in self._columns:
            value = self._seen(getattr(self._part, name), path)
        else:
            value = self._columns[path]
            if self._reads is not None:
                self._reads.add(path)
                return value
        self.__dict__[name] = value  # found without this method from now on
        return value

    def _seen(self, value: Any, path: str) -> Any:
        """A part as a view, a list of parts as a tuple of views, a single value as it is."""
        if isinstance(value, tuple):
            return tuple(self._seen(each, f"{path}.{i}") for i, each in enumerate(value))
        if hasattr(type(value), "model_fields"):
            return View(value, self._columns, f"{path}.", self._reads)
        return value

    def parts(self) -> Iterator[View]:
        """The parts within, then the part itself."""
        for name in type(self._part).model_fields:
            value = self._seen(getattr(self._part, name), f"{self._path}{name}")
            for inner in value if isinstance(value, tuple) else (value,):
                if isinstance(inner, View):
                    yield from inner.parts()
        yield self

    def rules(self) -> Iterator[Any]:
        """The rules of this part, to be evaluated row by row."""
        return type(self._part)._rules(self)


def stacked(values: Sequence[Any]) -> Any:
    """A column of values, one a row: an array of numbers, else `Words`.

    Examples
    --------
    >>> stacked(["kvm", "tcg", "kvm"]).codes
    array([0, 1, 0])
    """
    first = values[0]
    if isinstance(first, bool):
        return np.array(values, dtype=bool)
    if isinstance(first, int | float) and None not in values:
        return np.array(values, dtype=np.int64 if isinstance(first, int) else np.float64)
    number: dict[Any, int] = {}
    codes = [number.setdefault(value, len(number)) for value in values]
    return Words(tuple(number), np.array(codes))


def columns_of(parts: Sequence[Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Fields of parts of one type by dotted path, as columns with one row a part.

    Lists must have the same length in all parts, and the same types in the same places. A part within these parts that
    all of them share has no columns.
    """
    if all(part is parts[0] for part in parts):
        return
    for name in type(parts[0]).model_fields:
        if name == "kind":  # the same in all of them
            continue
        values = [getattr(part, name) for part in parts]
        if isinstance(values[0], tuple):
            if values[0] and not hasattr(type(values[0][0]), "model_fields"):  # the same in all of them
                continue
            for i, members in enumerate(zip(*values, strict=True)):
                yield from columns_of(members, f"{path}{name}.{i}.")
        elif hasattr(type(values[0]), "model_fields"):
            yield from columns_of(values, f"{path}{name}.")
        else:
            yield f"{path}{name}", stacked(values)


def each(function: Callable[..., Any], *given: Any) -> Any:
    """Apply a function of plain values to every row, once for each combination of values that occurs.

    Parameters
    ----------
    function : callable
        Of as many values as are `given`; returns a number or a truth value.
    *given : object
        Single values, arrays or `Words`.

    Returns
    -------
    array, or what `function` returns if all that is `given` are single values

    Examples
    --------
    >>> each(lambda accel: accel == "kvm", stacked(["kvm", "tcg", "kvm"]))
    array([ True, False,  True])
    """
    varied = {place: _as_words(value) for place, value in enumerate(given) if isinstance(value, (Words, np.ndarray))}
    if not varied:
        return function(*given)
    if len(varied) == 1:
        ((place, words),) = varied.items()
        before, after = given[:place], given[place + 1 :]
        return np.array([function(*before, choice, *after) for choice in words.choices])[words.codes]
    key = np.zeros((), np.int64)
    for words in varied.values():
        _, first, key = np.unique(key * len(words.choices) + words.codes, return_index=True, return_inverse=True)
    found = []
    for row in first.tolist():
        values = list(given)
        for place, words in varied.items():
            values[place] = words.choices[words.codes[row]]
        found.append(function(*values))
    return np.array(found)[key]


def _as_words(column: Words | np.ndarray) -> Words:
    if isinstance(column, Words):
        return column
    choices, codes = np.unique(column, return_inverse=True)
    return Words(tuple(choices.tolist()), codes)
