"""A sweep as a description, in Python and as TOML, and the axes it names: what is computed, and nothing about how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field, field_validator, model_validator

from migkit import results
from migkit.kernels.state import ENGINES
from migkit.run.values import Design, expanded
from migkit.scenario.errors import ScenarioError, did_you_mean, show
from migkit.scenario.fields import READ, Part, Text, number, plain
from migkit.scenario.scenario import Scenario, read_toml
from migkit.scenario.units import SI_UNITS

__all__ = [
    "REPLICATE",
    "SCENARIO",
    "Axis",
    "Dimension",
    "Sweep",
    "differences",
    "dimensions",
    "field",
    "starting_point",
]

REPLICATE = "replicate"
"""The one axis that is no field of a scenario: repetitions with their own random draws."""
SCENARIO = "scenario"
"""The dimension along which the points of a design lie."""
DEFAULT = "default"
"""How a list of words writes a field that is not set, such as a policy that follows the QEMU version."""


class Sweep(Part):
    """Many migrations: a scenario, and what is varied.

    Immutable. Two descriptions that mean the same are equal and have the same :attr:`sha256`, however they were
    written: axes hold their values, quantities in one spelling.

    Parameters
    ----------
    scenario : Scenario
        What all migrations share.
    axes : mapping
        Every combination of these is computed; one dimension each, in this order. An entry is a field by dotted path
        and its values (``"link.bandwidth": ["10 Gbit/s", "25 Gbit/s"]``), or a rule for them
        (:class:`~migkit.spacing.Spacing`: ``{"geomspace": ["1 Gbit/s", "100 Gbit/s", 110]}``), or the name of a
        dimension and a mapping of fields that move together along it
        (``"host": {"link.bandwidth": [...], "migration.max_bandwidth": [...]}``).
    design : Design, optional
        Points spread over ranges of several fields; they lie along the dimension ``scenario``, before the axes.
    replicates : int, optional
        Repeat each migration with this many different random draws, numbered from 0: the dimension ``replicate``, after
        the axes. Scenarios share the draws of a replicate, so that they can be compared in pairs.
    engine : {"expected", "bitmap"}, default "expected"
        RAM as expected values or as a page-exact bitmap.
    seed : int, default 0
        Root seed of the draws.

    Raises
    ------
    ScenarioError
        If a field, a value or a rule is refused. Whether values go together is checked when the sweep is laid out,
        before anything is computed.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, Sweep
    >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> sweep = Sweep(scenario=scenario, axes={"link.bandwidth": {"linspace": ["1 Gbit/s", "9 Gbit/s", 5]}})
    >>> Sweep.from_toml(sweep.to_toml()) == sweep
    True
    """

    scenario: Scenario
    axes: dict[Text, Any] = Field(default_factory=dict)
    design: Design | None = None
    replicates: number(int, 1, 2**31) | None = None
    engine: Text = "expected"
    seed: number(int, 0, 2**63 - 1) = 0

    @field_validator("engine")
    @classmethod
    def _known_engine(cls, engine: str) -> str:
        if engine not in ENGINES:
            raise ScenarioError(f"is not an engine: {did_you_mean(engine, ENGINES)}", value=engine)
        return engine

    @model_validator(mode="before")
    @classmethod
    def _one_spelling(cls, data: Any) -> Any:
        """Write out the rules and give every quantity its one spelling."""
        if not isinstance(data, dict) or "axes" not in data:
            return data
        axes, scenario = data["axes"], data.get("scenario")
        if not isinstance(axes, Mapping):
            raise ScenarioError('must be a table such as {"link.bandwidth": ["10 Gbit/s", "25 Gbit/s"]}', "axes")
        if isinstance(scenario, Mapping):
            scenario = Scenario(**scenario)
        if not isinstance(scenario, Scenario):
            return data
        spelt: dict[str, Any] = {}
        for key, given in axes.items():
            if not isinstance(key, str):
                raise ScenarioError("must be text: the dotted path of a field", "axes", key)
            given = expanded(key, given)
            if isinstance(given, Mapping):
                group = {path: _spelt(scenario, path, expanded(path, values)) for path, values in given.items()}
                spelt[key] = group
            else:
                spelt[key] = _spelt(scenario, key, given)
        return {**data, "scenario": scenario, "axes": spelt}

    @model_validator(mode="after")
    def _varies_something(self) -> Sweep:
        if not self.axes and self.design is None and self.replicates is None:
            raise ScenarioError("needs at least one axis, a design or replicates", "sweep")
        if self.replicates is not None and REPLICATE in self.axes:
            raise ScenarioError("is given twice, as an axis and as their number: leave one out", "replicates")
        if self.design is not None and SCENARIO in self.axes:
            raise ScenarioError("is the dimension of the design: call this one otherwise", SCENARIO)
        return self

    def __hash__(self) -> int:
        return hash(self.sha256)

    @property
    def sha256(self) -> str:
        """Digest of what is computed: equal for equal descriptions, on any machine."""
        text = json.dumps(self.model_dump(mode="json"), separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_toml(self) -> str:
        """Write the description as TOML that `from_toml` reads back to an equal one."""
        import tomli_w

        table = self.model_dump(exclude_none=True, exclude={"axes", "scenario"})
        table["axes"] = {key: _writable(values) for key, values in self.axes.items()}
        table["scenario"] = self.scenario.model_dump(exclude_none=True)
        return tomli_w.dumps(table)

    @classmethod
    def from_toml(cls, source: str | Path) -> Sweep:
        """Read a description.

        Parameters
        ----------
        source : str or path
            A file, or TOML text: text is what holds a ``=`` or a line break. In a file, ``scenario`` is a table, or
            the path of a scenario file, seen from the folder of this one.

        Raises
        ------
        ScenarioError
            If the file cannot be read, is not TOML, or describes no possible sweep.
        """
        table, folder = read_toml(source)
        if isinstance(other := table.get("scenario"), str):
            table["scenario"] = Scenario.from_toml(folder / other)
        return cls(**table)


def _spelt(scenario: Scenario, path: str, values: Any) -> Any:
    """The values of an axis with every quantity in its one spelling; what is no list stays for the axis to refuse."""
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not hasattr(values, "__iter__"):
        return values
    if getattr(values, "ndim", 1) != 1:
        return values
    bare = tuple(map(plain, values))
    if path == REPLICATE:
        return bare
    try:
        kind = type(field(scenario, path))
    except (AttributeError, IndexError, TypeError):
        return bare  # an unknown path: the axis says what is known
    if kind not in SI_UNITS:
        return tuple(None if value == DEFAULT and path == "policy" else value for value in bare)
    try:
        return tuple(str(kind(READ[kind](value))) for value in bare)
    except ScenarioError as error:
        raise error.within(path) from None


def _writable(values: Any) -> Any:
    """The values of an axis as TOML can hold them."""
    if isinstance(values, Mapping):
        return {path: _writable(each) for path, each in values.items()}
    return [DEFAULT if value is None else value for value in values]


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested table by its dotted path; a list of plain values counts as one."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(each, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
        for i, each in enumerate(value):
            yield from _flat(each, f"{path}.{i}")
    else:
        yield path, value


def differences(here: Sweep, there: Sweep) -> list[str]:
    """What tells two descriptions apart, field by field: ``"seed is 1 there and 0 here"``.

    Parameters
    ----------
    here, there : Sweep

    Returns
    -------
    list of str
        Empty if they are equal.
    """
    mine, theirs = (dict(_flat(each.model_dump(mode="json"))) for each in (here, there))
    if list(here.axes) != list(there.axes) and set(here.axes) == set(there.axes):
        return [f"the axes are in the order {', '.join(there.axes)} there and {', '.join(here.axes)} here"]
    found = []
    for path in dict.fromkeys([*theirs, *mine]):
        one, other = (table.get(path) for table in (theirs, mine))
        if one == other:
            continue
        if isinstance(one, list) and isinstance(other, list):
            first = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
            if len(one) != len(other):
                found.append(f"{path} has {len(one)} values there and {len(other)} here")
            else:
                found.append(f"value {first + 1} of {path} is {show(one[first])} there and {show(other[first])} here")
        else:
            said = ["not given" if each is None else "a list" if isinstance(each, list) else show(each)
                    for each in (one, other)]  # fmt: skip
            found.append(f"{path} is {said[0]} there and {said[1]} here")
    return found


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
    unit = next((unit for kind, unit in SI_UNITS.items() if isinstance(read[0], kind)), "1")
    if all(isinstance(value, bool) for value in read):
        return np.array(read), "1"
    whole = all(isinstance(value, int) for value in read)
    return np.array(read, dtype=np.int64 if whole else np.float64), unit


def _names(paths: Sequence[str], groups: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """A coordinate per path: the shortest tail that tells the axes apart, unless `names` has one."""
    taken = {variable.name for variable in results.VARIABLES} | {"device", "device_present", "replicate"}
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
