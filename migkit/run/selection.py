"""Parts of a Dataset by the values of its axes as people write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.scenario.errors import ScenarioError, choices, did_you_mean, show
from migkit.scenario.fields import READ, plain
from migkit.scenario.units import SI_UNITS, format_like

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["coordinate_name", "sel", "written"]

_KINDS: dict[str, Any] = {unit: kind for kind, unit in SI_UNITS.items()}
_SAME = 1e-9
"""Relative difference below which two numbers are one value: text with units is rounded."""


def written(value: Any, unit: str = "") -> str:
    """A value of a coordinate as people write it.

    Parameters
    ----------
    value : object
        A number in SI units, or a word.
    unit : str
        ``units`` of the coordinate.

    Examples
    --------
    >>> written(3.125e9, "B/s"), written(0.3, "s"), written(2, "1"), written("serialized")
    ('25 Gbit/s', '300 ms', '2', 'serialized')
    """
    value = plain(value)
    if unit in _KINDS and not isinstance(value, str):
        kind = _KINDS[unit]
        return str(kind(round(value) if issubclass(kind, int) else value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def sel(
    dataset: xr.Dataset, values: Mapping[str, Any] | None = None, method: str | None = None, **named: Any
) -> xr.Dataset:
    """Select points of a Dataset by values with units, as ``dataset.sel`` does by numbers in SI units.

    Parameters
    ----------
    dataset : xarray.Dataset
        Any that migkit returns, or a part of it.
    values : mapping
        By the name of a coordinate, or the end of its path (``"bandwidth"`` for ``"link.bandwidth"``) if no other ends
        like it: a value as a scenario takes it (``"25 Gbit/s"``, ``"serialized"``, ``2``), a number in SI units, a list
        of values, or ``slice("10 Gbit/s", "40 Gbit/s")`` for all from one to the other, both included. Fields that move
        together along a dimension can be selected by any of them.
    method : {None, "nearest"}
        Take the nearest point of a numeric axis where none has the value.
    **named : object
        The same for names that are Python's.

    Returns
    -------
    xarray.Dataset
        A single value removes the dimension, as in xarray.

    Raises
    ------
    ScenarioError
        If there is no such coordinate, or no point with the value; says which are near.

    Examples
    --------
    >>> import migkit
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> axes = {"policy": ["serialized", "unserialized"], "link.bandwidth": ["10 Gbit/s", "25 Gbit/s", "40 Gbit/s"]}
    >>> ds = migkit.sweep(scenario, axes)
    >>> migkit.sel(ds, {"link.bandwidth": "25 Gbit/s"})["total_time_s"].dims
    ('policy',)
    >>> dict(migkit.sel(ds, bandwidth=slice("20 Gbit/s", "100 Gbit/s"), policy="serialized").sizes)
    {'link.bandwidth': 2, 'device': 1}
    >>> migkit.sel(ds, bandwidth="24 Gbit/s")
    Traceback (most recent call last):
    ...
    migkit.ScenarioError: link.bandwidth = "24 Gbit/s" is not on this axis: near it are "10 Gbit/s" and "25 Gbit/s", of which method="nearest" takes one.
    """  # noqa: E501
    if method not in (None, "nearest"):
        raise ScenarioError('is not a method: use None or "nearest"', "method", method)
    if values is not None and not isinstance(values, Mapping):
        raise ScenarioError('is not a mapping of values by axis, such as {"link.bandwidth": "25 Gbit/s"}', value=values)
    places: dict[str, Any] = {}
    for key, given in {**(values or {}), **named}.items():
        coordinate = dataset[coordinate_name(dataset, key)]
        if not coordinate.dims:
            at = written(coordinate.values[()], coordinate.attrs.get("units", ""))
            raise ScenarioError(f"is no axis of this Dataset any more: it is {at} everywhere", str(coordinate.name))
        (dim,) = coordinate.dims
        if dim in places:
            raise ScenarioError("is selected twice", str(dim))
        places[str(dim)] = _places(coordinate, given, method)
    return dataset.isel(places)


def coordinate_name(dataset: xr.Dataset, key: Any) -> str:
    """Name of the coordinate that a name, or the end of a path, stands for.

    Raises
    ------
    ScenarioError
        If there is none, or several.
    """
    names = [str(name) for name in dataset.coords]
    if key in names:
        return str(key)
    fitting = [name for name in names if isinstance(key, str) and name.endswith(f".{key}")]
    if len(fitting) > 1:
        raise ScenarioError(f"is the end of several axes: write {choices(fitting)}", str(key))
    if not fitting:
        near = did_you_mean(key, names) if names else "it has none"
        raise ScenarioError(f"is not an axis of this Dataset: {near}", show(key).strip('"'))
    return fitting[0]


def _number(coordinate: xr.DataArray, given: Any) -> Any:
    """A value as the coordinate holds it."""
    given = plain(given)
    kind = _KINDS.get(coordinate.attrs.get("units", ""))
    if kind is None or not isinstance(given, str):
        return given
    try:
        return READ[kind](given)
    except ScenarioError as error:
        raise error.within(str(coordinate.name)) from None


def _places(coordinate: xr.DataArray, given: Any, method: str | None) -> Any:
    """Where a coordinate has a value, the values of a list, or those within a slice."""
    if isinstance(given, slice):
        if coordinate.dtype.kind not in "iuf" or given.step is not None:
            raise ScenarioError("has no values from one to another: give a list", str(coordinate.name), given)
        low, high = (_number(coordinate, end) for end in (given.start, given.stop))
        here = np.ones(coordinate.shape, bool)
        here &= True if low is None else coordinate.values >= low * (1 - _SAME)
        here &= True if high is None else coordinate.values <= high * (1 + _SAME)
        return np.flatnonzero(here)
    if isinstance(given, str) or not np.iterable(given):
        return _place(coordinate, given, method)
    return [_place(coordinate, each, method) for each in given]


def _place(coordinate: xr.DataArray, given: Any, method: str | None) -> int:
    value, unit = _number(coordinate, given), coordinate.attrs.get("units", "")
    is_number = isinstance(value, int | float) and coordinate.dtype.kind in "iufb"
    if is_number and not math.isfinite(value):
        raise ScenarioError("is not on this axis: it must be a finite number", str(coordinate.name), given)
    if is_number:
        distance = np.abs(coordinate.values.astype(float) - value)
        nearest = int(distance.argmin())
        if distance[nearest] <= _SAME * abs(value) or method == "nearest":
            return nearest
    elif len(found := np.flatnonzero([each == value for each in coordinate.values.tolist()])):
        return int(found[0])
    else:
        raise ScenarioError(f"is not on this axis: {did_you_mean(value, map(str, coordinate.values.tolist()))}",
                            str(coordinate.name), given)  # fmt: skip
    near = sorted(np.argsort(distance, kind="stable")[:2].tolist())
    in_its_unit = unit in _KINDS and isinstance(given, str) and value != 0  # a zero may have no unit
    near_texts = " and ".join(
        f'"{format_like(each, given) if in_its_unit else written(each, unit)}"'
        for each in coordinate.values[near].tolist()
    )
    raise ScenarioError(f'is not on this axis: near it are {near_texts}, of which method="nearest" takes one',
                        str(coordinate.name), given)  # fmt: skip
