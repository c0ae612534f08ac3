"""The grid of a sweep: every combination of axis values as kernel columns, without a scenario per point.

Each axis is tried alone, which shows the columns it changes; a column that only one axis changes is repeated
along the others. Axes that act on the same number, such as ``policy`` and a QEMU version that brings its
own, are found by trying them together, and then every combination of them is evaluated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from migkit import results
from migkit.errors import ScenarioError, show
from migkit.parameters import Outputs, Parameters
from migkit.scenario import Scenario, columns, device_labels
from migkit.units import Bytes, Rate, Seconds

__all__ = ["Axis", "Grid"]

# Columns in which validity depends on several fields: a region may lie beyond RAM or on another region. Axes
# that change one of them are evaluated together, so that every combination is checked.
_LAYOUT = {"ram_pages", "page_size", "chunk_pages", "region_count", "region_start", "region_pages"}
_LABELS = ("labels", 0)  # stands for the device labels among the cells
_CHUNK = 4096  # scenarios alive at once
_LINE = 24  # values of an axis that are tried against the ends of another one
_CORNERS = 256  # corners of the whole grid that are tried


class Axis(NamedTuple):
    """One axis of a sweep: a field of the scenario and the values it takes."""

    path: str
    values: tuple[Any, ...]
    dim: str
    coordinate: np.ndarray
    unit: str

    def notes(self) -> dict[str, str]:
        """Attributes of the coordinate."""
        return {"long_name": self.path} | ({"units": self.unit} if self.unit else {})


# --- axes ----------------------------------------------------------------------------------------


def _values(path: str, given: Any) -> tuple[Any, ...]:
    """The values of an axis as a tuple, or one sentence on why they are none."""
    if isinstance(given, str | bytes | Mapping | set | frozenset) or not hasattr(given, "__iter__"):
        raise ScenarioError("is not a list of values: put the values of an axis in [ ]", path, given)
    if getattr(given, "ndim", 1) != 1:
        raise ScenarioError(f"must be a list of values, not an array of {given.ndim} dimensions", path)
    values = tuple(value.item() if isinstance(value, np.generic) else value for value in given)
    if not values:
        raise ScenarioError("has no values: an axis needs at least one", path)
    return values


def _read(scenario: Scenario, path: str) -> Any:
    """The value of a field by its dotted path."""
    value: Any = scenario
    for part in path.split("."):
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    return value


def _coordinate(path: str, given: Sequence[Any], read: Sequence[Any]) -> tuple[np.ndarray, str]:
    """The axis values as numbers in SI units with their unit, or as words."""
    first: dict[Any, Any] = {}
    for raw, value in zip(given, read, strict=True):
        if not isinstance(value, str | int | float | None):
            raise ScenarioError("cannot be an axis: its values are not single numbers or words", path)
        if value in first:
            raise ScenarioError(f"is on the axis twice (first as {show(first[value])})", path, raw)
        first[value] = raw
    if any(value is None or isinstance(value, str) for value in read):
        return np.array(["default" if value is None else str(value) for value in read], dtype=object), ""
    units = {Bytes: "B", Rate: "B/s", Seconds: "s"}
    unit = next((unit for kind, unit in units.items() if isinstance(read[0], kind)), "1")
    if all(isinstance(value, bool) for value in read):
        return np.array(read), "1"
    whole = all(isinstance(value, int) for value in read)
    return np.array(read, dtype=np.int64 if whole else np.float64), unit


def _dims(paths: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """A dimension per path: the shortest tail that tells the axes apart, unless `names` has one."""
    taken = {variable.name for variable in results.VARIABLES} | {"device", "device_present"}
    for path, name in names.items():
        if path not in paths:
            raise ScenarioError("is named but is not an axis", path, name)
        if not isinstance(name, str) or not name or name in taken:
            raise ScenarioError("cannot be the name of an axis: choose another one", path, name)
    # "guest.regions.0.size" has the parts guest, regions_0, size: an index belongs to its list.
    parts = {path: path.replace(".", " ").split() for path in paths}
    for path, words in parts.items():
        joined: list[str] = []
        for word in words:
            if word.isdigit() and joined:
                joined[-1] += f"_{word}"
            else:
                joined.append(word)
        parts[path] = joined
    length = dict.fromkeys(paths, 1)
    while True:
        dims = [names.get(path) or "_".join(parts[path][-length[path] :]) for path in paths]
        unclear = [
            path
            for path, dim in zip(paths, dims, strict=True)
            if path not in names and (dims.count(dim) > 1 or dim in taken) and length[path] < len(parts[path])
        ]
        if not unclear:
            break
        for path in unclear:
            length[path] += 1
    if len(set(dims)) < len(dims):
        raise ScenarioError(f"are the dimensions of the axes, and two are the same: {', '.join(dims)}", "names")
    return dims


def _corner(scenario: Scenario, firsts: Mapping[str, Any]) -> Scenario:
    """The scenario with the first value of every axis.

    Values may fit only together (more RAM, then a larger region), so what fails is tried again after the rest.
    """
    waiting = dict(firsts)
    while waiting:
        failed: dict[str, ScenarioError] = {}
        for path, value in waiting.items():
            try:
                scenario = scenario.replace(path, value)
            except ScenarioError as error:
                failed[path] = error
        if len(failed) == len(waiting):
            raise next(iter(failed.values()))
        waiting = {path: waiting[path] for path in failed}
    return scenario


class _Table(NamedTuple):
    """The columns of every combination of a group of axes, the last axis fastest."""

    members: tuple[int, ...]
    columns: Parameters
    labels: list[tuple[str, ...]]
    """Device labels of every row."""


def _scenarios(corner: Scenario, axes: Sequence[Axis], indices: Sequence[Iterable[int]]) -> Iterator[Scenario]:
    """All combinations of the axis values at `indices`, the last axis fastest."""
    if not axes:
        yield corner
        return
    for index in indices[0]:
        try:
            here = corner.replace(axes[0].path, axes[0].values[index])
        except ScenarioError as error:
            raise ScenarioError(f"{str(error).rstrip('.')} (in a combination of axis values)") from None
        yield from _scenarios(here, axes[1:], indices[1:])


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
    return column if column.ndim == 1 else np.pad(column, ((0, 0), (0, width - column.shape[1])))


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
    axes : mapping of str to sequence
        Values by dotted path.
    names : mapping of str to str
        Dimensions that shall have another name than the path's tail.

    Raises
    ------
    ScenarioError
        If an axis or a combination of values is refused. Combinations of the layout of RAM are all
        checked; of all others those at the ends of the axes.
    """

    def __init__(self, scenario: Scenario, axes: Mapping[str, Sequence[Any]], names: Mapping[str, str]) -> None:
        given = {path: _values(path, values) for path, values in axes.items()}
        corner = _corner(scenario, {path: values[0] for path, values in given.items()})
        dims = _dims(list(given), names)
        alone, self.axes = [], []
        for index, (path, values) in enumerate(given.items()):
            scenarios = [corner.replace(path, value) for value in values]
            read = [_read(scenario, path) for scenario in scenarios]
            self.axes.append(Axis(path, values, dims[index], *_coordinate(path, values, read)))
            alone.append(_evaluated(scenarios, [index]))
        self.shape = tuple(len(axis.values) for axis in self.axes)
        self.points = math.prod(self.shape)
        self._origin = _evaluated([corner])
        self._tables = self._grouped(corner, alone)
        self._cells = [_changed(table) for table in self._tables]
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
        corners = list(itertools.islice(itertools.product(*(self._ends(axis) for axis in self.axes)), _CORNERS))
        scenarios = (next(_scenarios(corner, self.axes, [[index] for index in point])) for point in corners)
        more = len(alone) > 2 and len(tables) > 1  # than what was tried above
        if more and not self._agree(tables, np.array(corners).T, _evaluated(scenarios)):
            return [self._joint(corner, range(len(alone)))]
        return tables

    def _joint(self, corner: Scenario, members: Sequence[int]) -> _Table:
        axes = [self.axes[member] for member in members]
        return _evaluated(_scenarios(corner, axes, [range(len(axis.values)) for axis in axes]), members)

    @staticmethod
    def _line(axis: Axis) -> list[int]:
        count = len(axis.values)
        return sorted(set(np.linspace(0, count - 1, min(count, _LINE)).astype(int).tolist()))

    @classmethod
    def _ends(cls, axis: Axis) -> list[int]:
        """Smallest and largest value of an axis of numbers; words have no ends, so all count."""
        if axis.coordinate.dtype.kind not in "if":
            return cls._line(axis)
        return sorted({int(axis.coordinate.argmin()), int(axis.coordinate.argmax())})

    def _independent(self, corner: Scenario, alone: list[_Table], pair: tuple[int, int]) -> bool:
        first, second = (self.axes[member] for member in pair)
        points = dict.fromkeys(itertools.product(self._line(first), self._ends(second)))
        points |= dict.fromkeys(itertools.product(self._ends(first), self._line(second)))
        scenarios = (next(_scenarios(corner, [first, second], [[i], [j]])) for i, j in points)
        indices = np.zeros((len(self.axes), len(points)), dtype=np.int64)
        indices[list(pair)] = np.array(list(points)).T
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

    def _indices(self, points: np.ndarray) -> np.ndarray:
        if not self.axes:  # one point, repeated
            return np.zeros((0, len(points)), dtype=np.int64)
        return np.array(np.unravel_index(points, self.shape))

    def columns(self, points: np.ndarray) -> Parameters:
        """The kernel columns of some points of the grid, by their number; the last axis varies fastest."""
        return self._assembled(self._tables, self._cells, self._indices(points))

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

    def _lists(self, points: np.ndarray) -> np.ndarray:
        if not self._placing.members:
            return np.zeros(len(points), dtype=np.int64)
        return self._list_of_row[self._row(self._placing, self._indices(points))]

    def aligned(self, outputs: Outputs, points: np.ndarray) -> Outputs:
        """Move the device columns of these points to the slots of :attr:`devices`; absent: 0, times -1."""
        lists = self._lists(points)
        table = outputs._asdict()
        for name, column in table.items():
            if name.startswith("device_"):
                moved = np.full((len(points), len(self.devices)), -1 if name.endswith("_ns") else 0, column.dtype)
                for number, slots in enumerate(self._slots):
                    rows = np.flatnonzero(lists == number)
                    moved[np.ix_(rows, slots)] = column[rows, : len(slots)]
                table[name] = moved
        culprit = table["culprit"].copy()
        for number, slots in enumerate(self._slots):
            blamed = (lists == number) & (culprit >= 0)
            culprit[blamed] = slots[table["culprit"][blamed]]
        return Outputs(**table | {"culprit": culprit})

    def present(self) -> np.ndarray | None:
        """Which device takes part at which point (points, devices), or None if all do everywhere."""
        if len(self._slots) == 1:
            return None
        takes_part = np.zeros((len(self._slots), len(self.devices)), dtype=bool)
        for number, slots in enumerate(self._slots):
            takes_part[number, slots] = True
        return takes_part[self._lists(np.arange(self.points))]
