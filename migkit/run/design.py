"""A sweep as a description, in Python and as TOML, and the axes it names: what is computed, and nothing about how."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field, field_validator, model_validator

from migkit import results
from migkit.kernels.state import ENGINES
from migkit.run.checksums import CHECKSUMS
from migkit.run.simulate import check_whole_number
from migkit.run.values import MOST_VALUES, Design, expanded, listed
from migkit.scenario.errors import ScenarioError, did_you_mean, show
from migkit.scenario.fields import READ, Part, Text, check_keys, plain, whole_number
from migkit.scenario.parts import HostCosts, Migration
from migkit.scenario.policy import POLICY_FIELDS, Policy, read_policy
from migkit.scenario.scenario import Scenario, as_scenario, field, read_values, with_costs
from migkit.scenario.shown import differing, html_table
from migkit.scenario.toml import read_toml
from migkit.scenario.units import SI_UNITS
from migkit.scenario.views import stacked

__all__ = [
    "REPLICATE",
    "SCENARIO",
    "Axis",
    "Dimension",
    "Sweep",
    "differences",
    "dimensions",
]

REPLICATE = "replicate"
"""The one axis that is no field of a scenario: repetitions with their own random draws."""
SCENARIO = "scenario"
"""The dimension along which the points of a design lie."""
_LATER_IN_REGIONS: dict[str, Any] = {"phase": None, "vcpu_share": 1.0, "rates": [], "periodic": False, "curve": []}
"""Fields of a region that the first descriptions did not have, and their defaults."""
_FIRST_NAMES = {"iteration": "turn"}  # costs that were renamed
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
        (:class:`~migkit.run.values.Spacing`: ``{"geomspace": ["1 Gbit/s", "100 Gbit/s", 110]}``), or the name of a
        dimension and a mapping of fields that move together along it
        (``"host": {"link.bandwidth": [...], "migration.max_bandwidth": [...]}``). A dimension and its coordinate have
        the path of the field for a name; a mapping of one field gives them a shorter one
        (``"bandwidth": {"link.bandwidth": [...]}``). The coordinates of fields that move together have their paths.
    design : Design, optional
        Points spread over ranges of several fields; they lie along the dimension ``scenario``, before the axes.
    replicates : int, optional
        Repeat each migration with this many different random draws, numbered from 0, 1 to 1,000,000: the dimension
        ``replicate``, after the axes. Scenarios share the draws of a replicate, so that they can be compared in pairs.
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
    replicates: Annotated[int, whole_number(1, MOST_VALUES)] | None = None
    engine: Text = "expected"
    seed: Annotated[int, whole_number(0, 2**63 - 1)] = 0

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
        if not isinstance(scenario, Scenario | Mapping):
            return data
        scenario = as_scenario(scenario)
        spelt: dict[str, Any] = {}
        for key, given in axes.items():
            if not isinstance(key, str):
                raise ScenarioError("must be text: the dotted path of a field", "axes", key)
            given = expanded(key, given)
            if key == REPLICATE:
                spelt[key] = _replicate_numbers(given)
            elif isinstance(given, Mapping):
                check_keys(given, key)
                spelt[key] = {path: _spelt(scenario, path, expanded(path, values)) for path, values in given.items()}
            else:
                spelt[key] = _spelt(scenario, key, given)
        return {**data, "scenario": scenario, "axes": spelt}

    @model_validator(mode="after")
    def _varies_something(self) -> Sweep:
        if not self.axes and self.design is None and self.replicates is None:
            raise ScenarioError("needs at least one axis, a design or replicates", "sweep")
        if self.replicates is not None and REPLICATE in self.axes:
            raise ScenarioError("is given twice, as an axis and as their number: leave one out", "replicates")
        if SCENARIO in self.axes:
            raise ScenarioError("is the dimension of a design: choose another name", SCENARIO)
        return self

    def __hash__(self) -> int:
        return hash(self.sha256)

    @property
    def sha256(self) -> str:
        """Digest of what is computed: equal for equal descriptions, on any machine."""
        table = self.model_dump(mode="json")
        # Older descriptions keep their digests: fields that came later are left out where they have their default, and
        # one that was renamed counts under its first name.
        for name, default in (("sync_policy", None), ("bandwidth_policy", None), ("management", None), ("changes", [])):
            if table["scenario"][name] == default:
                del table["scenario"][name]
        for region in table["scenario"]["guest"]["regions"]:
            for name, default in _LATER_IN_REGIONS.items():
                if region[name] == default:
                    del region[name]
        later_in_parts = {
            "guest": ("backing", "tracking", "used", "used_at", "dirty_ring_size"),
            "link": ("stream_bandwidth", "compression_ratio", "xbzrle_page"),
        }
        for part, names in later_in_parts.items():
            for name in names:
                fields = type(getattr(self.scenario, part)).model_fields
                if str(table["scenario"][part][name]) == str(fields[name].default):
                    del table["scenario"][part][name]
        later = Migration().model_dump(
            mode="json",
            include={
                "postcopy_ram",
                "postcopy_at",
                "postcopy_preempt",
                "max_postcopy_bandwidth",
                "multifd",
                "multifd_channels",
                "dirty_limit",
                "vcpu_dirty_limit",
                "multifd_compression",
                "compress",
                "compress_threads",
                "zero_page_detection",
                "xbzrle",
                "xbzrle_cache_size",
                "cpu_throttle_tailslow",
                "x_vcpu_dirty_limit_period",
            },
        )
        for name, default in later.items():
            if table["scenario"]["migration"][name] == default:
                del table["scenario"]["migration"][name]
        later = HostCosts().model_dump(
            mode="json",
            include={
                "name",
                "copy_share",
                "throttle_late",
                "throttle_loss",
                "jitter",
                "fresh_page",
                "fresh_after",
                "discard",
                "multifd_page",
                "channel_page",
                "compress_page",
                "xbzrle_page",
            },
        )
        costs = {name: value for name, value in table["scenario"]["costs"].items() if later.get(name) != value}
        table["scenario"]["costs"] = {_FIRST_NAMES.get(name, name): value for name, value in costs.items()}
        if self.policies:
            table["policies"] = self.policies
        text = json.dumps(table, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def policies(self) -> dict[str, str]:
        """Digest of the source of every policy of one's own in the scenario and on the axes, by name."""
        found = {}
        for path in POLICY_FIELDS:
            for value in (getattr(self.scenario, path), *self._values_of(path)):
                if isinstance(value, Policy):
                    found[str(value)] = value.digest
        return dict(sorted(found.items()))

    @property
    def sizes(self) -> dict[str, int]:
        """Number of values along each dimension, in the order of the Dataset.

        Examples
        --------
        >>> from migkit import Guest, Link, Scenario, Sweep
        >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"))
        >>> sweep = Sweep(scenario=scenario, axes={"link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]}, replicates=5)
        >>> sweep.sizes, len(sweep)
        ({'link.bandwidth': 2, 'replicate': 5}, 10)
        """
        found = {} if self.design is None else {SCENARIO: self.design.points}
        for key, given in self.axes.items():
            values = next(iter(given.values()), ()) if isinstance(given, Mapping) else given
            found[key] = len(values)
        return found if self.replicates is None else found | {REPLICATE: self.replicates}

    def __len__(self) -> int:
        """How many migrations there are."""
        return math.prod(self.sizes.values())

    def _repr_html_(self) -> str:
        """The dimensions, and what differs from the defaults in what all migrations share."""
        rows = [(dim, str(size), *self._along(dim)) for dim, size in self.sizes.items()]
        axes = html_table(("dimension", "values", "field", "from", "to"), rows, "dimensions")
        shared = html_table(("field", "value", "default"), differing(self.scenario), "fields")
        return (
            f"<div><p><strong>Sweep of {len(self)} migrations</strong>, {self.engine} engine, seed {self.seed}</p>"
            f"{axes}"
            f"<p>All share, beside defaults:</p>{shared}</div>"
        )

    def _along(self, dim: str) -> tuple[str, str, str]:
        """Fields along a dimension, and their first and last values."""
        if dim == REPLICATE:
            numbers = self.axes.get(dim, (0, (self.replicates or 1) - 1))
            return "random draws", str(numbers[0]), str(numbers[-1])
        if self.design is not None and dim == SCENARIO:
            return ", ".join(self.design.ranges), self.design.method, ""
        given = self.axes[dim]
        group = given if isinstance(given, Mapping) else {dim: given}
        first, last = (", ".join(_end(values[place]) for values in group.values()) for place in (0, -1))
        return ", ".join(group), first, last

    def _values_of(self, path: str) -> Iterator[Any]:
        for key, given in self.axes.items():
            group = given if isinstance(given, Mapping) else {key: given}
            for each in group.get(path, ()):
                yield read_policy(path, each)

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
        elif isinstance(other, dict):
            table["scenario"] = with_costs(other, folder)
        return cls(**table)


def _end(value: Any) -> str:
    return DEFAULT if value is None else results.legible(str(value), 40)


def _spelt(scenario: Scenario, path: str, given: Any) -> tuple[Any, ...]:
    """The values of an axis with every quantity in its one spelling."""
    values = tuple(map(plain, listed(path, given)))
    value = field(scenario, path)
    if None in values and path not in POLICY_FIELDS:
        raise ScenarioError("has a value that is none: leave the field out where it shall have its default", path)
    if type(value) not in SI_UNITS:
        return tuple(None if each == DEFAULT and path in POLICY_FIELDS else each for each in values)
    kind = type(value)
    try:
        return tuple(str(kind(READ[kind](each))) for each in values)
    except ScenarioError as error:
        raise error.within(path) from None


def _replicate_numbers(given: Any) -> tuple[int, ...]:
    """The numbers of the replicates."""
    if isinstance(given, int | float):
        raise ScenarioError("is not a list of values: write range(n) for n repetitions", REPLICATE, given)
    numbers = [check_whole_number(REPLICATE, each) for each in listed(REPLICATE, given)]
    if len(set(numbers)) < len(numbers):
        raise ScenarioError("has a value twice", REPLICATE, Counter(numbers).most_common(1)[0][0])
    return tuple(numbers)


def _writable(values: Any) -> Any:
    """The values of an axis as TOML can hold them."""
    if isinstance(values, Mapping):
        return {path: _writable(each) for path, each in values.items()}
    return [DEFAULT if value is None else str(value) if isinstance(value, Policy) else value for value in values]


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
            first = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
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
    """As the field holds them."""
    name: str
    """Name of its coordinate."""

    @property
    def unit(self) -> str:
        """Unit of the coordinate: ``B``, ``B/s``, ``s``, ``1`` for plain numbers, empty for words."""
        if not self.is_number:
            return ""
        return next((unit for kind, unit in SI_UNITS.items() if isinstance(self.values[0], kind)), "1")

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers, or truth values, and not words."""
        return not any(value is None or isinstance(value, str) for value in self.values)

    @property
    def coordinate(self) -> np.ndarray:
        """The values as numbers in SI units, or as words."""
        if self.is_number:
            return stacked(self.values)
        return np.array([DEFAULT if value is None else str(value) for value in self.values], dtype=object)

    def notes(self) -> dict[str, str]:
        """Attributes of the coordinate."""
        return {"long_name": self.path} | ({"units": self.unit} if self.unit else {})


class Dimension(NamedTuple):
    """One dimension of a sweep: an axis, or several that move together."""

    name: str
    axes: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """Places along the dimension."""
        return len(self.axes[0].values)


def dimensions(scenario: Scenario, axes: Mapping[str, Any], names: Mapping[str, str]) -> list[Dimension]:
    """Read the axes of a sweep.

    Each value is checked for itself; whether values go together is not.

    Parameters
    ----------
    scenario : Scenario
        What does not change.
    axes : mapping
        A path and its values, or the name of a dimension and a mapping of paths to values that move together along it.
    names : mapping of str to str
        Coordinates that shall have another name, by path.

    Returns
    -------
    list of Dimension

    Raises
    ------
    ScenarioError
        If an axis, one of its values or a name is refused.
    """
    groups: dict[str, dict[str, tuple[Any, ...]]] = {}
    for key, given in axes.items():
        if not isinstance(key, str):
            raise ScenarioError("must be text: the dotted path of a field", "axes", key)
        if isinstance(given, Mapping):
            if key != SCENARIO:
                _check_name(key)
            groups[key] = _together(key, given)
        else:
            groups[key] = {key: listed(key, given)}
    paths = [path for group in groups.values() for path in group]
    if doubled := next((path for path in paths if paths.count(path) > 1), None):
        raise ScenarioError("is on two axes: a field can follow only one", doubled)
    if not isinstance(names, Mapping):
        raise ScenarioError('is no mapping of names by path, such as {"link.bandwidth": "bandwidth"}', "names", names)
    for path, name in names.items():
        if not isinstance(path, str):
            raise ScenarioError("is named but is not an axis", "names", path)
        if path not in paths:
            raise ScenarioError("is named but is not an axis", path, name)
        _check_name(name, path)
    found = []
    for key, group in groups.items():
        alone = len(group) == 1 and key != SCENARIO
        members = []
        for path, values in group.items():
            name = names.get(path, key if alone else path)
            members.append(Axis(path, _read(scenario, path, values, differ=alone), name))
        found.append(Dimension(key if isinstance(axes[key], Mapping) else members[0].name, tuple(members)))
    _check_distinct(found)
    return found


def _together(name: str, group: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The axes that move together along one dimension."""
    check_keys(group, name)
    values = {path: listed(path, given) for path, given in group.items()}
    if not values:
        raise ScenarioError("has no axes: name the fields that move together and their values", name)
    sizes = {path: len(found) for path, found in values.items()}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{path} has {size}" for path, size in sizes.items())
        raise ScenarioError(f"moves axes together that have different numbers of values: {counts}", name)
    return values


def _read(scenario: Scenario, path: str, given: Sequence[Any], differ: bool) -> tuple[Any, ...]:
    """The values as the field holds them; if they must `differ`, none may be there twice."""
    values = read_values(scenario, path, given)
    first: dict[Any, Any] = {}
    for raw, value in zip(given, values, strict=True) if differ else ():
        if value in first:
            raise ScenarioError(f"is on the axis twice (first as {show(first[value])})", path, raw)
        first[value] = raw
    return values


_TAKEN = frozenset(variable.name for variable in results.VARIABLES) | {
    "device", "device_present", REPLICATE, SCENARIO, "sessions", CHECKSUMS,
}  # fmt: skip
"""Names that a Dataset of migkit, or its store, has itself."""
_LONGEST_NAME, _MOST_NAME_BYTES = 100, 200
"""A store has a folder of this name, and file systems take 255 bytes."""


def _check_name(name: Any, path: str = "") -> None:
    """Refuse what cannot name a dimension, a variable and a folder at once, or looks like the path of another field."""
    if not isinstance(name, str) or not name:
        raise ScenarioError("cannot be a name: give text", path, name)
    legible = name.isprintable() and name == name.strip() and len(name) <= _LONGEST_NAME
    legible = legible and len(name.encode()) <= _MOST_NAME_BYTES
    of_a_field = "." in name and name != path
    if name in _TAKEN or not legible or of_a_field or name.startswith("__") or set(name) & set("/\\:"):
        raise ScenarioError("cannot be the name of a dimension: choose another one", path, name)


def _check_distinct(found: Sequence[Dimension]) -> None:
    names = []
    for dimension in found:
        of_axes = [axis.name for axis in dimension.axes]
        names += of_axes if of_axes == [dimension.name] else [dimension.name, *of_axes]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise ScenarioError("is the name of two dimensions or coordinates: two are the same", "names", doubled)
