"""The grid of a sweep: every combination of axis values as kernel columns, without a scenario per point.

Each axis is tried alone, which shows the columns it changes; a column that only one axis changes is repeated
along the others. Axes that act on the same number, such as ``policy`` and a QEMU version that brings its
own, are found by trying them together, and then every combination of them is evaluated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from migkit import results
from migkit.kernels import records
from migkit.kernels.parameters import Outputs, Parameters
from migkit.run.design import REPLICATE, SCENARIO, Dimension, Sweep, dimensions
from migkit.run.simulate import check_whole_number
from migkit.scenario.errors import ScenarioError
from migkit.scenario.rows import columns
from migkit.scenario.scenario import Scenario, device_labels

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["MOST_MIGRATIONS", "Grid", "Layout"]

# Columns in which validity depends on several fields: a region may lie beyond RAM or on another region. Axes
# that change one of them are evaluated together, so that every combination is checked.
_LAYOUT = {"ram_pages", "page_size", "chunk_pages", "region_count", "region_start", "region_pages"}
_LABELS = ("labels", 0)  # stands for the device labels among the cells
_CHUNK = 4096  # scenarios alive at once
_LINE = 24  # values of an axis that are tried against the ends of another one
_CORNERS = 256  # corners of the whole grid that are tried


class _Table(NamedTuple):
    """The columns of every combination of a group of axes, the last axis fastest."""

    members: tuple[int, ...]
    columns: Parameters
    labels: list[tuple[str, ...]]
    """Device labels of every row."""


class _Part(NamedTuple):
    """One part of the records of a grid: rows of a table, by its number, or the one row of the corner (-1)."""

    table: int
    rows: np.ndarray


def _scenarios(corner: Scenario, along: Sequence[Dimension], indices: Sequence[Iterable[int]]) -> Iterator[Scenario]:
    """All combinations of the places `indices` along the dimensions, the last one fastest."""
    if not along:
        yield corner
        return
    for index in indices[0]:
        try:
            here = along[0].placed(corner, index)
        except ScenarioError as error:
            raise ScenarioError(f"{str(error).rstrip('.')} (in a combination of axis values)") from None
        yield from _scenarios(here, along[1:], indices[1:])


def _evaluated(scenarios: Iterable[Scenario], members: Sequence[int] = ()) -> _Table:
    tables, labels = [], []
    scenarios = iter(scenarios)
    while chunk := list(itertools.islice(scenarios, _CHUNK)):
        tables.append(columns(chunk))
        labels += [tuple(device_labels(scenario)) for scenario in chunk]
    stacked = []
    for parts in zip(*tables, strict=True):
        width = max(part.shape[-1] for part in parts)
        stacked.append(np.concatenate([_widened(part, width) for part in parts]))
    return _Table(tuple(members), Parameters(*stacked), labels)


def _widened(column: np.ndarray, width: int) -> np.ndarray:
    """Pad a two-dimensional column with zeros on the right."""
    return (
        column
        if column.ndim == 1 or column.shape[1] == width
        else np.pad(column, ((0, 0), (0, width - column.shape[1])))
    )


def _changed(table: _Table) -> set[tuple[str, int]]:
    """The cells (column, slot) in which a table's rows differ."""
    cells = {_LABELS} if len(set(table.labels)) > 1 else set()
    for name, column in zip(Parameters._fields, table.columns, strict=True):
        differs = (column != column[:1]).any(axis=0)
        cells |= {(name, int(slot)) for slot in np.flatnonzero(differs)}
    return cells


class Grid:
    """All points of a sweep, as kernel columns of any of them.

    Parameters
    ----------
    scenario : Scenario
        What does not change.
    axes : mapping
        As :func:`migkit.run.design.dimensions` takes them.
    names : mapping of str to str
        Coordinates that shall have another name than the path's tail.

    Raises
    ------
    ScenarioError
        If an axis or a combination of values is refused. Combinations of the layout of RAM are all
        checked; of all others those at the ends of the axes.
    """

    def __init__(self, scenario: Scenario, axes: Mapping[str, Any], names: Mapping[str, str]) -> None:
        corner, self.dimensions, scenarios = dimensions(scenario, axes, names)
        self.axes = [axis for dimension in self.dimensions for axis in dimension.axes]
        self.shape = tuple(dimension.size for dimension in self.dimensions)
        self.points = math.prod(self.shape)
        self._origin = _evaluated([corner])
        alone = [_evaluated(line, [index]) for index, line in enumerate(scenarios)]
        self._tables = self._grouped(corner, alone)
        self._cells = [_changed(table) for table in self._tables]
        self._parts, self._moved = self._as_records()
        self._place_devices()

    # --- groups

    def _grouped(self, corner: Scenario, alone: list[_Table]) -> list[_Table]:
        """The fewest joint evaluations that give every grid point its true columns."""
        cells = [_changed(table) for table in alone]
        group = list(range(len(alone)))  # group[i]: number of the group of axis i

        def merge(first: int, second: int) -> None:
            old, new = group[second], group[first]
            group[:] = [new if number == old else number for number in group]

        for first, second in itertools.combinations(range(len(alone)), 2):
            layout = all(any(name in _LAYOUT for name, _ in cells[axis]) for axis in (first, second))
            if layout or cells[first] & cells[second]:
                merge(first, second)
        # What acts together only for some values (a policy of "default" follows the QEMU version) shows when
        # the pair is tried, and so does a combination that is not allowed.
        for first, second in itertools.combinations(range(len(alone)), 2):
            if group[first] != group[second] and not self._independent(corner, alone, (first, second)):
                merge(first, second)
        tables = [
            alone[members[0]] if len(members) == 1 else self._joint(corner, members)
            for members in ([axis for axis, number in enumerate(group) if number == g] for g in dict.fromkeys(group))
        ]
        # The last word has the whole grid: its corners, computed the long way.
        ends = [dimension.ends(_LINE) for dimension in self.dimensions]
        corners = list(itertools.islice(itertools.product(*ends), _CORNERS))
        scenarios = (next(_scenarios(corner, self.dimensions, [[index] for index in point])) for point in corners)
        more = len(alone) > 2 and len(tables) > 1  # than what was tried above
        if more and not self._agree(tables, np.array(corners).T, _evaluated(scenarios)):
            return [self._joint(corner, range(len(alone)))]
        return tables

    def _joint(self, corner: Scenario, members: Sequence[int]) -> _Table:
        along = [self.dimensions[member] for member in members]
        return _evaluated(_scenarios(corner, along, [range(dimension.size) for dimension in along]), members)

    def _independent(self, corner: Scenario, alone: list[_Table], pair: tuple[int, int]) -> bool:
        both = [self.dimensions[member] for member in pair]
        lines, ends = ([select(dimension, _LINE) for dimension in both] for select in (Dimension.line, Dimension.ends))
        crosses = [(lines[0], ends[1]), (ends[0], lines[1])]
        points = [point for cross in crosses for point in itertools.product(*cross)]
        scenarios = itertools.chain.from_iterable(_scenarios(corner, both, cross) for cross in crosses)
        indices = np.zeros((len(self.dimensions), len(points)), dtype=np.int64)
        indices[list(pair)] = np.array(points).T
        return self._agree([alone[member] for member in pair], indices, _evaluated(scenarios))

    def _agree(self, tables: list[_Table], indices: np.ndarray, truth: _Table) -> bool:
        """Whether columns put together from `tables` are those of the scenarios themselves."""
        cells = [_changed(table) for table in tables]
        for made, true in zip(self._assembled(tables, cells, indices), truth.columns, strict=True):
            width = max(made.shape[-1], true.shape[-1])
            if not np.array_equal(_widened(made, width), _widened(true, width)):
                return False
        return self._labels(tables, cells, indices) == truth.labels

    # --- points

    def _row(self, table: _Table, indices: np.ndarray) -> np.ndarray:
        """The table row of every grid point."""
        shape = tuple(self.shape[member] for member in table.members)
        return np.ravel_multi_index(tuple(indices[list(table.members)]), shape)

    def _assembled(self, tables: list[_Table], cells: list[set[tuple[str, int]]], indices: np.ndarray) -> Parameters:
        count = indices.shape[1]
        found = [self._row(table, indices) for table in tables]
        made = []
        for field, name in enumerate(Parameters._fields):
            origin = self._origin.columns[field]
            width = max(table.columns[field].shape[-1] for table in (self._origin, *tables))
            column = np.repeat(_widened(origin, width), count, axis=0)
            for table, changed, row in zip(tables, cells, found, strict=True):
                slots = sorted(slot for changed_name, slot in changed if changed_name == name)
                if slots and column.ndim == 1:
                    column = table.columns[field][row]
                for slot in slots if column.ndim == 2 else ():
                    column[:, slot] = table.columns[field][row, slot]
            made.append(np.ascontiguousarray(column))
        return Parameters(*made)

    def _labels(
        self, tables: list[_Table], cells: list[set[tuple[str, int]]], indices: np.ndarray
    ) -> list[tuple[str, ...]]:
        for table, changed in zip(tables, cells, strict=True):
            if _LABELS in changed:
                return [table.labels[row] for row in self._row(table, indices)]
        return self._origin.labels * indices.shape[1]

    def places(self, points: np.ndarray) -> np.ndarray:
        """The place along every dimension (dimensions, points) of points by their number; the last one is fastest."""
        if not self.dimensions:  # one point, repeated
            return np.zeros((0, len(points)), dtype=np.int64)
        return np.array(np.unravel_index(points, self.shape))

    def columns(self, points: np.ndarray) -> Parameters:
        """The kernel columns of some points of the grid, by their number."""
        return self.columns_at(self.places(points))

    def columns_at(self, places: np.ndarray) -> Parameters:
        """The kernel columns of points by their place along every dimension (dimensions, points)."""
        return self._assembled(self._tables, self._cells, places)

    def _as_records(self) -> tuple[list[_Part], list[tuple[int, int, str, int, np.ndarray]]]:
        """How the records of points are made.

        Returns
        -------
        parts : list of _Part
            Cases, regions, devices: the table that changes most of each, as records; its rows are taken whole.
        moved : list of tuple
            What the other tables change: table, part, field, slot, values by row.
        """
        tables = [self._origin, *self._tables]
        widths = [max(table.columns[field].shape[-1] for table in tables) for field in range(len(Parameters._fields))]
        packed = [records.pack(Parameters(*map(_widened, table.columns, widths))) for table in tables]
        cells = [set(), *(changed - {_LABELS} for changed in self._cells)]
        parts = []
        for part in range(len(records.Packed._fields)):
            changes = [sum(records.place_of(name)[0] == part for name, _ in changed) for changed in cells]
            most = int(np.argmax(changes))
            parts.append(_Part(most - 1, packed[most][part].view(np.ndarray)))
        moved = []
        for number, (table, changed) in enumerate(zip(self._tables, cells[1:], strict=True)):
            for name, slot in sorted(changed):
                part, field = records.place_of(name)
                if parts[part].table != number:
                    column = getattr(table.columns, name)
                    moved.append((number, part, field, slot, column if column.ndim == 1 else column[:, slot]))
        return parts, moved

    def records_at(self, places: np.ndarray) -> records.Packed:
        """What :meth:`columns_at` gives, laid out as the kernels take it."""
        rows = [self._row(table, places) for table in self._tables]
        none = np.zeros(places.shape[1], dtype=np.int64)  # the corner has one row
        # np.take copies a record as bytes; indexing copies it field by field, fifty times slower
        made = [np.take(part.rows, none if part.table < 0 else rows[part.table], axis=0) for part in self._parts]
        for table, part, field, slot, values in self._moved:
            column = made[part][field]
            (column if column.ndim == 1 else column[:, slot])[:] = values[rows[table]]
        return records.Packed(*(part.view(np.recarray) for part in made))

    # --- devices

    def _place_devices(self) -> None:
        """Give every device label one slot, the same in all rows, whatever its place in a row's list."""
        self._placing = next(
            (table for table, cells in zip(self._tables, self._cells, strict=True) if _LABELS in cells), self._origin
        )
        distinct = sorted(set(self._placing.labels), key=len, reverse=True)
        self.devices = tuple(dict.fromkeys(label for labels in distinct for label in labels))
        number = {labels: index for index, labels in enumerate(distinct)}
        self._list_of_row = np.array([number[labels] for labels in self._placing.labels])
        self._slots = [np.array([self.devices.index(label) for label in labels]) for labels in distinct]
        self.in_place = all(np.array_equal(slots, np.arange(len(slots))) for slots in self._slots)

    def _lists(self, places: np.ndarray) -> np.ndarray:
        if not self._placing.members:
            return np.zeros(places.shape[1], dtype=np.int64)
        return self._list_of_row[self._row(self._placing, places)]

    def aligned(self, outputs: Outputs, points: np.ndarray) -> Outputs:
        """Move the device columns of these points to the slots of :attr:`devices`; absent: 0, times -1."""
        return self.aligned_at(outputs, self.places(points))

    def aligned_at(self, outputs: Outputs, places: np.ndarray) -> Outputs:
        """As :meth:`aligned`, for points by their place along every dimension."""
        if self.in_place:
            return outputs
        lists = self._lists(places)
        rows_of = [np.flatnonzero(lists == number) for number in range(len(self._slots))]
        table = outputs._asdict()
        for name, column in table.items():
            if not name.startswith("device_"):
                continue
            absent = -1 if name.endswith("_ns") else 0
            moved = np.full((len(lists), len(self.devices)), absent, column.dtype)
            for rows, slots in zip(rows_of, self._slots, strict=True):
                moved[rows[:, None], slots] = column[rows, : len(slots)]
            table[name] = moved
        culprit = table["culprit"].copy()
        for rows, slots in zip(rows_of, self._slots, strict=True):
            blamed = rows[culprit[rows] >= 0]
            culprit[blamed] = slots[table["culprit"][blamed]]
        return Outputs(**table | {"culprit": culprit})

    def present(self) -> tuple[tuple[str, ...], np.ndarray] | None:
        """Which device takes part, along the dimensions that decide it, or None if all do everywhere.

        Returns
        -------
        dims : tuple of str
            Dimensions that change the device list.
        present : bool array
            One dimension each of `dims`, the last one is the device.
        """
        if len(self._slots) == 1:
            return None
        takes_part = np.zeros((len(self._slots), len(self.devices)), dtype=bool)
        for number, slots in enumerate(self._slots):
            takes_part[number, slots] = True
        members = [self.dimensions[member] for member in self._placing.members]
        shape = (*(dimension.size for dimension in members), len(self.devices))
        return tuple(dimension.dim for dimension in members), takes_part[self._list_of_row].reshape(shape)


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
