"""Python source that builds a scenario."""

from __future__ import annotations

import json
from typing import Any

from migkit.scenario.fields import Part
from migkit.scenario.scenario import Scenario
from migkit.scenario.units import Bytes, Rate, Seconds

_WIDTH = 100


def as_python(scenario: Scenario) -> str:
    """Return Python source that builds an equal scenario, without the fields that have their default.

    Parameters
    ----------
    scenario : Scenario

    Returns
    -------
    str

    Examples
    --------
    >>> from migkit import Guest, Link
    >>> print(as_python(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"))))
    import migkit
    <BLANKLINE>
    scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="1 GB/s"))
    """
    return f"import migkit\n\nscenario = {_text(scenario, 0)}"


def _text(value: Any, indent: int) -> str:
    """Format one value: on one line if it fits after `indent` spaces, else with one line per item."""
    if isinstance(value, Part):
        opening, closing = f"migkit.{type(value).__name__}(", ")"
        names = [name for name in type(value).model_fields if name not in _defaults(value)]
        items = [(f"{name}=", getattr(value, name)) for name in names]
    elif isinstance(value, tuple):
        opening, closing = "[", "]"
        items = [("", item) for item in value]
    elif isinstance(value, (Bytes, Rate, Seconds)):
        return json.dumps(str(value))
    else:
        # Double quotes as in the rest of the source; JSON's escapes are valid in Python.
        return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
    line = opening + ", ".join(name + _text(item, 0) for name, item in items) + closing
    if "\n" not in line and indent + len(line) <= _WIDTH:
        return line
    inside = " " * (indent + 4)
    lines = [f"{inside}{name}{_text(item, indent + 4)},\n" for name, item in items]
    return f"{opening}\n{''.join(lines)}{' ' * indent}{closing}"


def _defaults(part: Part) -> set[str]:
    """Names of the fields that have their default."""
    fields = type(part).model_fields.items()
    return {name for name, field in fields if not field.is_required() and getattr(part, name) == field.default}
