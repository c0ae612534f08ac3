"""Where regions lie in RAM: in whole pages and tracked units, inside it, apart from one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from migkit.scenario.errors import ScenarioError
from migkit.scenario.fields import Rule
from migkit.scenario.units import format_bytes


def whole_pages(guest: Any, size: Callable[[], Any], field: str) -> Rule:
    """A size is a whole number of the target's pages."""

    def error() -> ScenarioError:
        near = max(1, round(size() / guest.page_size)) * guest.page_size
        return ScenarioError(
            f"is not a whole number of {guest.page_size} pages: the nearest is {format_bytes(near)}", field, str(size())
        )

    return Rule(lambda: size() % guest.page_size != 0, error, monotone=False)


def whole_units(guest: Any, size: Callable[[], Any], field: str) -> Rule:
    """A write dirties all of a tracked unit, which therefore belongs to one region."""
    return Rule(
        lambda: size() % np.maximum(guest.tracking, 1) != 0,
        lambda: ScenarioError(f"is not a whole number of tracked units of {guest.tracking}", field, str(size())),
        monotone=False,
    )


def in_ram(guest: Any, region: Any, field: str) -> Iterator[Rule]:
    """A region has whole pages and ends within RAM."""
    for name, given in (("size", lambda: region.size), ("start", lambda: region.start)):
        yield whole_pages(guest, given, f"{field}.{name}")
        yield whole_units(guest, given, f"{field}.{name}")
    yield Rule(
        lambda: region.start + region.size > guest.ram,
        lambda: ScenarioError(
            f"ends at {format_bytes(region.start + region.size)}, beyond the {guest.ram} of RAM", field
        ),
    )


def overlap(regions: Sequence[Any]) -> Any:
    """Whether any two regions share pages."""
    if len(regions) < 2:
        return False
    bounds = np.broadcast_arrays(*(region.start for region in regions), *(region.size for region in regions))
    starts, sizes = np.array(bounds[: len(regions)]), np.array(bounds[len(regions) :])
    order = np.argsort(starts, axis=0)
    starts, sizes = (np.take_along_axis(values, order, axis=0) for values in (starts, sizes))
    return (starts[:-1] + sizes[:-1] > starts[1:]).any(axis=0)


def overlap_error(regions: Sequence[Any]) -> ScenarioError:
    """Which two regions share pages."""
    ordered = sorted(range(len(regions)), key=lambda i: regions[i].start)
    a, b = next((a, b) for a, b in pairwise(ordered) if regions[a].start + regions[a].size > regions[b].start)
    return ScenarioError(
        f"starts at {regions[b].start} and overlaps region {a} of the list, which ends at "
        f"{format_bytes(regions[a].start + regions[a].size)}: regions must not share pages",
        f"regions.{b}",
    )
