"""What a notebook shows of a scenario: the fields that differ from their defaults."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from migkit.results import legible
from migkit.scenario.fields import Part

__all__ = ["Difference", "differing", "html_table"]

_MOST_ROWS = 40
_MOST_LETTERS = 80


class Difference(NamedTuple):
    """A field that is not as it is by default."""

    path: str
    value: str
    default: str
    """Empty for a field that has none."""


def _text(value: Any) -> str:
    return legible("none" if value is None else str(value), _MOST_LETTERS)


def differing(part: Part, path: str = "") -> Iterator[Difference]:
    """Fields that must be given or differ from their defaults, by dotted path.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s", rtt="1 ms"), qemu="8.2")
    >>> for each in differing(scenario):
    ...     print(tuple(each))
    ('guest.ram', '1 GiB', '')
    ('link.bandwidth', '1 GB/s', '')
    ('link.rtt', '1 ms', '100 us')
    ('qemu', '8.2', '9.0')
    """
    for name, field in type(part).model_fields.items():
        value = getattr(part, name)
        if isinstance(value, Part):
            yield from differing(value, f"{path}{name}.")
        elif isinstance(value, tuple) and any(isinstance(each, Part) for each in value):
            for i, each in enumerate(value):
                yield from differing(each, f"{path}{name}.{i}.")
        elif field.is_required() or name == "kind":
            yield Difference(path + name, _text(value), "")
        elif value != field.default:
            yield Difference(path + name, _text(value), _text(field.default))


def html_table(heads: Sequence[str], rows: Iterable[Sequence[str]], more: str) -> str:
    """A table without colours of its own, for dark and light pages; beyond 40 rows their number and what they are."""
    rows = list(rows)
    head = "".join(f"<th style='text-align:left'>{html.escape(cell)}</th>" for cell in heads)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows[:_MOST_ROWS]
    )
    left = f"<p>… and {len(rows) - _MOST_ROWS} more {more}.</p>" if len(rows) > _MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{left}"
