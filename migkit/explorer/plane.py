"""The map around a scenario: who converges over dirty rate and link, computed coarse first and in small pieces."""

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
_STRIDES = (4, 2, 1)  # 11, 21, 41 points a side; each level has the points of the one before
_PIECE = 32  # points computed at once: some milliseconds, after which a slider may have moved


def plane_key(scenario: Scenario) -> Scenario:
    """What the map depends on: the scenario but for the two axes and the policy."""
    return scenario.replace_all({RATE: 0, LINK: "1 TB/s", "policy": None, "name": ""})


def levels(scenario: Scenario, rates: tuple[float, float], links: tuple[float, float]) -> Iterator[xr.DataArray | None]:
    """Compute the map, finer and finer.

    Parameters
    ----------
    scenario : Scenario
        All but its dirty rate, link and policy.
    rates, links : (float, float)
        Ends of the axes, bytes/s.

    Yields
    ------
    DataArray or None
        Who converges (:data:`migkit.analysis.closed_form.CATEGORIES`) over ``write_rate`` and ``bandwidth``, at 11, 21
        and then 41 points a side; None after each piece of work in between.

    Raises
    ------
    ScenarioError
        If a corner of the map is no possible migration.
    """
    import xarray as xr

    from migkit import kernels
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
        for start in range(0, len(missing), _PIECE):
            piece = missing[start : start + _PIECE]
            completed[piece] = kernels.run(grid.records_at(grid.places(piece)), parallel=False).outcome == 0
            yield None
        serialized, unserialized = completed[of_level] == 1
        yield xr.DataArray(
            category(serialized, unserialized),
            {"write_rate": sides[0][::stride], "bandwidth": sides[1][::stride]},
            ("write_rate", "bandwidth"),
        )
