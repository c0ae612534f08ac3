"""How the migrations of a sweep are laid out: dimensions, coordinates, and the kernel columns of any of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit import results
from migkit.kernels.parameters import Outputs
from migkit.run.design import REPLICATE, SCENARIO, Sweep
from migkit.run.grid import Grid
from migkit.run.simulate import check_whole_number
from migkit.scenario.errors import ScenarioError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["MOST_MIGRATIONS", "Layout"]

MOST_MIGRATIONS = 1 << 40
"""A sweep of more would take a year at a microsecond a migration."""


class Layout:
    """The dimensions of a sweep, checked, and what is computed at each of its places.

    Parameters
    ----------
    sweep : Sweep
        What is computed.
    names : mapping of str to str, optional
        Coordinates that shall have another name than the path's tail.

    Attributes
    ----------
    dims : tuple of str
        Dimensions, the slowest first: ``scenario`` of a design, the axes in their order, ``replicate``.
    shape : tuple of int
    devices : tuple of str
        Labels of the devices of all migrations.

    Raises
    ------
    ScenarioError
        If an axis, a value or a combination of values is refused, or if there are more migrations than can be counted.
    """

    def __init__(self, sweep: Sweep, names: Mapping[str, str] | None = None) -> None:
        self.sweep = sweep
        design = {} if sweep.design is None else {SCENARIO: sweep.design.values()}
        order = [*design, *sweep.axes, *([REPLICATE] if sweep.replicates is not None else [])]
        self._repeated = REPLICATE in order
        axes: dict[str, Any] = {key: values for key, values in (design | sweep.axes).items() if key != REPLICATE}
        self._grid = Grid(sweep.scenario, axes, names or {})
        self._replicates = _replicates(sweep)
        sizes = dict(zip(axes, self._grid.dimensions, strict=True))
        self.dims = tuple(REPLICATE if key == REPLICATE else sizes[key].dim for key in order)
        self.shape = tuple(len(self._replicates) if key == REPLICATE else sizes[key].size for key in order)
        if self.migrations > MOST_MIGRATIONS:
            lengths = " x ".join(f"{size} {dim}" for dim, size in zip(self.dims, self.shape, strict=True))
            raise ScenarioError(f"has {self.migrations} migrations ({lengths}): at most {MOST_MIGRATIONS} can be "
                                "laid out, use fewer values", "sweep")  # fmt: skip
        # the place along a dimension of the grid is the place along this dimension of the sweep
        self._of_grid = [order.index(key) for key in axes]
        self.devices = self._grid.devices

    @property
    def migrations(self) -> int:
        """How many migrations there are."""
        return math.prod(self.shape)

    def coordinates(self) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
        """Coordinates as xarray takes them: dimension, values, attributes; without the devices."""
        found: dict[str, tuple[str, np.ndarray, dict[str, str]]] = {}
        by_dim = {dimension.dim: dimension for dimension in self._grid.dimensions}
        for dim in self.dims:
            if dim == REPLICATE:
                found[dim] = (dim, self._replicates, {"units": "1", "long_name": "replicate"})
                continue
            if len(by_dim[dim].axes) > 1 or by_dim[dim].axes[0].dim != dim:
                numbers = np.arange(by_dim[dim].size)
                found[dim] = (dim, numbers, {"units": "1", "long_name": f"number of the {dim}"})
            found |= {axis.dim: (dim, axis.coordinate, axis.notes()) for axis in by_dim[dim].axes}
        return found

    def paths(self) -> dict[str, str]:
        """Dotted path of the field by coordinate."""
        return {axis.dim: axis.path for axis in self._grid.axes}

    def present(self) -> xr.Variable | None:
        """Which device takes part where, or None if all do everywhere."""
        import xarray as xr

        if (found := self._grid.present()) is None:
            return None
        dims, takes_part = found
        return xr.Variable((*dims, "device"), takes_part, {"long_name": "the device takes part in the migration"})

    def run(self, places: np.ndarray) -> Outputs:
        """Compute migrations on this thread.

        Parameters
        ----------
        places : int array (dimensions, migrations)
            Place along every dimension.

        Returns
        -------
        Outputs
            A row for each, devices in the slots of `devices`.
        """
        from migkit import kernels

        grid_places = places[self._of_grid]
        replicates: Any = 0
        if self._repeated:
            replicates = self._replicates[places[self.dims.index(REPLICATE)]]
        rows = self._grid.records_at(grid_places)
        found = kernels.run(rows, self.sweep.engine, self.sweep.seed, replicates, parallel=False)
        return self._grid.aligned_at(found, grid_places)

    def empty(self, rows: int) -> Outputs:
        """Room for the results of this many migrations."""
        shapes = {True: (rows, len(self.devices)), False: (rows,)}
        return Outputs(*(np.empty(shapes[name.startswith("device_")], np.int64) for name in Outputs._fields))

    def notes(self) -> dict[str, str | int]:
        """Attributes that say what was computed, with what."""
        notes = results.provenance(self.sweep.engine, self.sweep.seed, self.sweep.scenario.to_toml())
        return notes | {"sweep": self.sweep.to_toml(), "sweep_sha256": self.sweep.sha256}


def _replicates(sweep: Sweep) -> np.ndarray:
    """Numbers of the replicates."""
    if sweep.replicates is not None:
        return np.arange(sweep.replicates)
    given = sweep.axes.get(REPLICATE, (0,))
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        raise ScenarioError("is not a list of values: write range(n) for n repetitions", REPLICATE, given)
    numbers = [check_whole_number(REPLICATE, each) for each in given]
    if not numbers:
        raise ScenarioError("has no values: an axis needs at least one", REPLICATE)
    if len(set(numbers)) < len(numbers):
        raise ScenarioError("has a value twice", REPLICATE, max(numbers, key=numbers.count))
    return np.array(numbers, dtype=np.int64)
