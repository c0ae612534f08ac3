"""A sweep as a description: what is computed, in Python and as TOML, and nothing about how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from migkit.run.axes import UNITS, field
from migkit.run.values import Design, expanded
from migkit.scenario.constants import ENGINES
from migkit.scenario.errors import ScenarioError, did_you_mean, show
from migkit.scenario.fields import READ, Part, Text, number, plain
from migkit.scenario.scenario import Scenario
from migkit.scenario.toml_source import read_toml

__all__ = ["REPLICATE", "SCENARIO", "Sweep", "differences"]

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
    if kind not in UNITS:
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
