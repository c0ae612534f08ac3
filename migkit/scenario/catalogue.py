"""Every field of a scenario: path, unit, default, range and meaning, from the parts and their docstrings."""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin

from pydantic.fields import FieldInfo

from migkit.scenario.errors import ScenarioError, did_you_mean
from migkit.scenario.fields import Between, Part, Quantity
from migkit.scenario.parts import Block, Ram, Vfio
from migkit.scenario.scenario import Scenario
from migkit.scenario.units import SI_UNITS
from migkit.scenario.versions import PROFILES

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FieldNote", "fields", "listing", "notes"]


class FieldNote(NamedTuple):
    """A field of a scenario."""

    path: str
    """Dotted path, as axes and ``replace`` take it; the first of a list has the index 0."""
    part: str
    """Which part it is a field of."""
    unit: str
    """Unit of its numbers in results: ``B``, ``B/s``, ``s``, ``%``, ``1`` for plain numbers; empty for words."""
    default: str
    """As it is written; empty if it has none and must be given, ``none`` if it may be left open."""
    allowed: str
    """Range or words."""
    meaning: str
    """From the docstring of the part."""


def _described(part: type[Part]) -> dict[str, tuple[str, str]]:
    """What the docstring of a part says of each parameter: type and meaning."""
    text = inspect.getdoc(part) or ""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)", text, re.DOTALL | re.MULTILINE)
    found: dict[str, tuple[str, str]] = {}
    for head, body in re.findall(
        r"^(\w[^\n]*)\n((?:[ \t]+[^\n]*\n?|\n)+)", section[1] if section else "", re.MULTILINE
    ):
        name, _, kind = head.partition(" : ")
        found[name] = kind, _plain_text(body)
    return found


def _plain_text(text: str) -> str:
    """Text of a docstring without its markup, on one line."""
    text = re.sub(r":\w+:`~?([^`]*)`", r"\1", " ".join(text.split()))
    return text.replace("``", "").replace("`", "")


def _unit(kind: Any, said: str) -> str:
    if kind in SI_UNITS:
        return SI_UNITS[kind]
    if kind in (int, float):
        return "%" if "percent" in said else "1"
    return ""


def _allowed(name: str, kind: Any, field: FieldInfo, said: str) -> str:
    for note in field.metadata:
        if isinstance(note, Quantity | Between):
            return note.allowed
    for inner in get_args(field.annotation):  # such as Annotated[float, number(0, 1)] | None
        for note in getattr(inner, "__metadata__", ()):
            if isinstance(note, Quantity | Between):
                return note.allowed
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    if name == "qemu":
        return ", ".join(PROFILES)
    if get_origin(kind) is tuple:  # such as list of (duration, bytes/s), default none
        return said.partition(", default")[0]
    if words := re.findall(r'"([^"]+)"', said):  # such as {"serialized", "unserialized"} or Policy
        return ", ".join([*words, "a Policy"] if "Policy" in said else words)
    return "true or false" if kind is bool else "text" if kind is str else ""


def _kind(annotation: Any) -> Any:
    """The type of a field without what is optional or noted about it."""
    options = [each for each in get_args(annotation) if each is not type(None)]
    if type(None) in get_args(annotation) and len(options) == 1:
        return _kind(options[0])
    return _kind(annotation.__origin__) if hasattr(annotation, "__metadata__") else annotation


def _parts_of(kind: Any) -> list[type[Part]]:
    """The parts that a field holds, one for each kind of device."""
    if isinstance(kind, type) and issubclass(kind, Part):
        return [kind]
    if get_origin(kind) is tuple:
        member = get_args(kind)[0]
        if get_origin(member) is tuple:  # pairs of a time and a rate: not parts
            return []
        return [Ram, Vfio, Block] if not isinstance(member, type) else _parts_of(member)
    return []


def _written(value: Any) -> str:
    if value is None or value == ():
        return "none"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if value == "" else str(value)


def _walk(part: type[Part], path: str) -> Iterator[FieldNote]:
    said = _described(part)
    for name, field in part.model_fields.items():
        kind = _kind(field.annotation)
        if inner := _parts_of(kind):
            index = "0." if get_origin(kind) is tuple else ""
            for each in inner:
                yield from _walk(each, f"{path}{name}.{index}")
            continue
        head, meaning = said[name]
        default = "" if field.is_required() or name == "kind" else _written(field.default)
        yield FieldNote(
            f"{path}{name}", part.__name__, _unit(kind, head), default, _allowed(name, kind, field, head), meaning
        )


@functools.cache
def notes() -> tuple[FieldNote, ...]:
    """Every field of a scenario, in the order of its parts.

    Examples
    --------
    >>> next(each for each in notes() if each.path == "link.bandwidth")[:5]
    ('link.bandwidth', 'Link', 'B/s', '', 'from 1 kB/s to 1 TB/s')
    """
    return tuple(_walk(Scenario, ""))


def _matching(word: str) -> list[FieldNote]:
    """The fields that have a word in their path, else in what is said of them.

    Raises
    ------
    ScenarioError
        If none has it.
    """
    if not isinstance(word, str):
        raise ScenarioError("is not a word to look for", "fields", word)
    wanted = word.strip().lower().replace("-", "_")
    named = [each for each in notes() if wanted in each.path.lower() or wanted == each.part.lower()]
    said = [each for each in notes() if word.strip().lower() in each.meaning.lower()]
    if not named and not said:
        known = {step for each in notes() for step in each.path.split(".") if not step.isdecimal()}
        near = did_you_mean(wanted, sorted(known), "leave it out for all fields, or use one such as")
        raise ScenarioError(f"is in no field: {near if 'did' in near else 'without a word all fields are listed'}",
                            value=word)  # fmt: skip
    return named or said


def fields(word: str = "") -> pd.DataFrame:
    """List the fields of a scenario: path, unit, default, what is allowed, and what they mean.

    Parameters
    ----------
    word : str, optional
        Only fields with this in their path, or the fields of this part (``"Vfio"``); if there are none, those whose
        meaning has it. Hyphens count as underscores.

    Returns
    -------
    pandas.DataFrame
        One row a field, with the columns of :class:`~migkit.scenario.catalogue.FieldNote`; the path is what axes,
        ``replace`` and ``--set`` take.

    Raises
    ------
    ScenarioError
        If no field has the word.

    Examples
    --------
    >>> fields("migration.downtime")[["path", "unit", "default", "allowed"]].values.tolist()
    [['migration.downtime_limit', 's', '300 ms', 'from 0 s to 2000 s']]
    """
    import pandas as pd

    return pd.DataFrame(_matching(word), columns=list(FieldNote._fields))


def listing(word: str = "") -> str:
    """The same as text: a line a field, and its meaning where a word is given.

    Examples
    --------
    >>> print(listing("link.rtt"))
    link.rtt  (s)  default 100 us; from 0 s to 1 h
        Round trip, 0 to 1 h; an acknowledgement takes one.
    """
    found = _matching(word)
    lines = []
    for each in found:
        unit = f"  ({each.unit})" if each.unit not in ("", "1") else ""
        default = f"default {each.default}" if each.default else "must be given"
        kind = f" of {each.part}" if each.path.startswith("devices.") else ""
        lines.append(f"{each.path}{kind}{unit}  {default}" + (f"; {each.allowed}" if each.allowed else ""))
        if word:
            lines += textwrap.wrap(each.meaning, 96, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)
