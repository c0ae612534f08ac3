"""The axes of a sweep: fields of a scenario by dotted path, and the values they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from migkit import results
from migkit.scenario.errors import ScenarioError, show
from migkit.scenario.scenario import Scenario
from migkit.scenario.units import Bytes, Rate, Seconds

__all__ = ["Axis", "Dimension", "dimensions", "field", "starting_point"]

UNITS = {Bytes: "B", Rate: "B/s", Seconds: "s"}
"""Unit of a coordinate by the type of its field."""


class Axis(NamedTuple):
    """A field of the scenario and the values it takes along a dimension."""

    path: str
    values: tuple[Any, ...]
    dim: str
    """Name of its coordinate; the dimension has the same name unless several axes share it."""
    coordinate: np.ndarray
    unit: str

    def notes(self) -> dict[str, str]:
        """Attributes of the coordinate."""
        return {"long_name": self.path} | ({"units": self.unit} if self.unit else {})


class Dimension(NamedTuple):
    """One dimension of a sweep: an axis, or several that move together."""

    dim: str
    axes: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """Places along the dimension."""
        return len(self.axes[0].values)

    def placed(self, scenario: Scenario, index: int) -> Scenario:
        """The scenario at one place along the dimension."""
        if len(self.axes) == 1:
            return scenario.replace(self.axes[0].path, self.axes[0].values[index])
        return starting_point(scenario, {axis.path: axis.values[index] for axis in self.axes})

    def line(self, most: int) -> list[int]:
        """Places spread evenly, both ends among them."""
        return sorted(set(np.linspace(0, self.size - 1, min(self.size, most)).astype(int).tolist()))

    def ends(self, most: int) -> list[int]:
        """Where an axis has its smallest and its largest value; words have no ends, so they all count."""
        found: set[int] = set()
        for axis in self.axes:
            if axis.coordinate.dtype.kind in "if":
                found |= {int(axis.coordinate.argmin()), int(axis.coordinate.argmax())}
            else:
                found |= set(self.line(most))
        return sorted(found)


def _values(path: str, given: Any) -> tuple[Any, ...]:
    """The values of an axis as a tuple, or one sentence on why they are none."""
    if isinstance(given, str | bytes | Mapping | set | frozenset) or not hasattr(given, "__iter__"):
        raise ScenarioError("is not a list of values: put the values of an axis in [ ]", path, given)
    if getattr(given, "ndim", 1) != 1:
        raise ScenarioError(f"must be a list of values, not an array of {given.ndim} dimensions", path)
    values = tuple(value.item() if isinstance(value, np.generic) else value for value in given)
    if not values:
        raise ScenarioError("has no values: an axis needs at least one", path)
    return values


def field(scenario: Scenario, path: str) -> Any:
    """The value of a field by its dotted path."""
    value: Any = scenario
    for part in path.split("."):
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    return value


def _coordinate(path: str, given: Sequence[Any], read: Sequence[Any], alone: bool) -> tuple[np.ndarray, str]:
    """The axis values as numbers in SI units with their unit, or as words."""
    first: dict[Any, Any] = {}
    for raw, value in zip(given, read, strict=True):
        if not isinstance(value, str | int | float | None):
            raise ScenarioError("cannot be an axis: its values are not single numbers or words", path)
        if alone and value in first:
            raise ScenarioError(f"is on the axis twice (first as {show(first[value])})", path, raw)
        first[value] = raw
    if any(value is None or isinstance(value, str) for value in read):
        return np.array(["default" if value is None else str(value) for value in read], dtype=object), ""
    unit = next((unit for kind, unit in UNITS.items() if isinstance(read[0], kind)), "1")
    if all(isinstance(value, bool) for value in read):
        return np.array(read), "1"
    whole = all(isinstance(value, int) for value in read)
    return np.array(read, dtype=np.int64 if whole else np.float64), unit


def _names(paths: Sequence[str], groups: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """A coordinate per path: the shortest tail that tells the axes apart, unless `names` has one."""
    taken = {variable.name for variable in results.SWEEP_VARIABLES} | {"device", "device_present", "replicate"}
    for path, name in names.items():
        if path not in paths:
            raise ScenarioError("is named but is not an axis", path, name)
        if not isinstance(name, str) or not name or name in taken:
            raise ScenarioError("cannot be the name of an axis: choose another one", path, name)
    for name in groups:
        if not isinstance(name, str) or not name.isidentifier() or name in taken:
            raise ScenarioError("cannot be the name of a dimension: choose another word", name)
    taken |= set(groups)
    # "guest.regions.0.size" has the parts guest, regions_0, size: an index belongs to its list.
    parts = {path: path.replace(".", " ").split() for path in paths}
    for path, words in parts.items():
        joined: list[str] = []
        for word in words:
            if word.isdigit() and joined:
                joined[-1] += f"_{word}"
            else:
                joined.append(word)
        parts[path] = joined
    length = dict.fromkeys(paths, 1)
    while True:
        dims = [names.get(path) or "_".join(parts[path][-length[path] :]) for path in paths]
        unclear = [
            path
            for path, dim in zip(paths, dims, strict=True)
            if path not in names and (dims.count(dim) > 1 or dim in taken) and length[path] < len(parts[path])
        ]
        if not unclear:
            break
        for path in unclear:
            length[path] += 1
    if len(set(dims)) < len(dims) or set(dims) & set(groups):
        raise ScenarioError(f"are the dimensions of the axes, and two are the same: {', '.join(dims)}", "names")
    return dims


def starting_point(scenario: Scenario, values: Mapping[str, Any]) -> Scenario:
    """The scenario with these values by path.

    Values may fit only together (more RAM, then a larger region), so what fails is tried again after the rest.
    """
    waiting = dict(values)
    while waiting:
        failed: dict[str, ScenarioError] = {}
        for path, value in waiting.items():
            try:
                scenario = scenario.replace(path, value)
            except ScenarioError as error:
                failed[path] = error
        if len(failed) == len(waiting):
            raise next(iter(failed.values()))
        waiting = {path: waiting[path] for path in failed}
    return scenario


def _together(name: str, group: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The axes that move together along one dimension."""
    values = {path: _values(path, given) for path, given in group.items()}
    if not values:
        raise ScenarioError("has no axes: name the fields that move together and their values", name)
    sizes = {path: len(found) for path, found in values.items()}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{path} has {size}" for path, size in sizes.items())
        raise ScenarioError(f"moves axes together that have different numbers of values: {counts}", name)
    return values


def dimensions(
    scenario: Scenario, axes: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[Scenario, list[Dimension], list[list[Scenario]]]:
    """Read the axes of a sweep.

    Parameters
    ----------
    scenario : Scenario
        What does not change.
    axes : mapping
        A path and its values, or the name of a dimension and a mapping of paths to values that move together along it.
    names : mapping of str to str
        Coordinates that shall have another name than the path's tail.

    Returns
    -------
    corner : Scenario
        The scenario with the first value of every axis.
    dimensions : list of Dimension
    alone : list of list of Scenario
        For every dimension the corner moved along it.

    Raises
    ------
    ScenarioError
        If an axis or one of its values is refused.
    """
    groups: dict[str, dict[str, tuple[Any, ...]]] = {}
    for key, given in axes.items():
        if not isinstance(key, str):
            raise ScenarioError("must be text: the dotted path of a field", "axes", key)
        groups[key] = _together(key, given) if isinstance(given, Mapping) else {key: _values(key, given)}
    paths = [path for group in groups.values() for path in group]
    if doubled := next((path for path in paths if paths.count(path) > 1), None):
        raise ScenarioError("is on two axes: a field can follow only one", doubled)
    together = [key for key, given in axes.items() if isinstance(given, Mapping)]
    dims = dict(zip(paths, _names(paths, together, names), strict=True))
    corner = starting_point(scenario, {path: values[0] for group in groups.values() for path, values in group.items()})

    found, alone = [], []
    for key, group in groups.items():
        bare = tuple(Axis(path, values, dims[path], np.empty(0), "") for path, values in group.items())
        moved = Dimension(key if key in together else dims[key], bare)
        scenarios = [moved.placed(corner, index) for index in range(moved.size)]
        full = []
        for axis in bare:
            read = [field(one, axis.path) for one in scenarios]
            coordinate, unit = _coordinate(axis.path, axis.values, read, len(bare) == 1)
            full.append(axis._replace(coordinate=coordinate, unit=unit))
        found.append(Dimension(moved.dim, tuple(full)))
        alone.append(scenarios)
    return corner, found, alone
