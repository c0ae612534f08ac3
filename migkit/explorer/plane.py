"""Map of convergence around a scenario, over dirty rate and link: coarse first, in small batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from migkit.analysis.closed_form import category
from migkit.scenario.scenario import POLICIES, Scenario
from migkit.scenario.units import Rate

if TYPE_CHECKING:
    import xarray as xr

RATE, LINK = "guest.regions.0.write_rate", "link.bandwidth"
POINTS = 41
_STRIDES = (4, 2, 1)  # 11, 21, 41 points per axis; each level contains the points of the previous one
_BATCH = 32  # points computed together: some milliseconds, so that a slider can be handled in between


def plane_key(scenario: Scenario) -> Scenario:
    """The scenario with fixed values of what the map does not depend on: both axes, policy and name."""
    return scenario.replace_all({RATE: 0, LINK: "1 TB/s", "policy": None, "name": ""})


def levels(scenario: Scenario, rates: tuple[float, float], links: tuple[float, float]) -> Iterator[xr.DataArray | None]:
    """Compute the map at increasing resolution.

    Parameters
    ----------
    scenario : Scenario
        Its dirty rate, link and policy are ignored.
    rates, links : (float, float)
        Range of each axis, bytes/s.

    Yields
    ------
    DataArray or None
        Index into :data:`migkit.analysis.closed_form.CATEGORIES` over ``write_rate`` and ``bandwidth``, with 11, 21 and
        then 41 points per axis; None after each batch in between.

    Raises
    ------
    ScenarioError
        If a point of the map is not a valid scenario.
    """
    import xarray as xr

    from migkit.kernels import drivers
    from migkit.run.grid import Grid

    sides = [np.geomspace(*ends, POINTS) for ends in (rates, links)]
    axes = {path: [Rate(value) for value in side] for path, side in zip((RATE, LINK), sides, strict=True)}
    grid = Grid(scenario, {"policy": list(POLICIES), **axes})
    yield None
    points = np.arange(grid.points).reshape(grid.shape)
    completed = np.full(grid.points, -1, np.int8)
    for stride in _STRIDES:
        of_level = points[:, ::stride, ::stride]
        missing = of_level[completed[of_level] < 0]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            completed[batch] = drivers.run(grid.records_at(grid.places(batch))).migrations["outcome"] == 0
            yield None
        serialized, unserialized = completed[of_level] == 1
        yield xr.DataArray(
            category(serialized, unserialized),
            {"write_rate": sides[0][::stride], "bandwidth": sides[1][::stride]},
            ("write_rate", "bandwidth"),
        )
