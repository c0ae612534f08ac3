"""How the migrations of a sweep are laid out: combinations of axis values as kernel records, without a scenario each.

Records are NumPy expressions over the fields of a scenario (:mod:`migkit.scenario.rows`), and so are the rules between
fields (:class:`migkit.scenario.fields.Rule`). A grid evaluates both with the values of the axes in place of the fields.
Each expression and rule depends on a few of the dimensions only, which a first evaluation finds out by noting what is
read; it is then computed over the combinations of those.
"""

from __future__ import annotations

import functools
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.kernels.state import NO_DEVICE_REPORT, Records, Reports, as_bytes
from migkit.provenance import provenance
from migkit.run.design import REPLICATE, SCENARIO, Axis, Dimension, Sweep, dimensions
from migkit.run.limits import LIMIT, check_bitmap, effort, machine_memory, within
from migkit.scenario import rows
from migkit.scenario.device_list import device_labels
from migkit.scenario.errors import ScenarioError
from migkit.scenario.fields import Rule
from migkit.scenario.policy import POLICY_FIELDS, Policy
from migkit.scenario.scenario import Scenario
from migkit.scenario.views import View, Words, stacked

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["MOST_MIGRATIONS", "Grid", "Layout"]

MOST_MIGRATIONS = 1 << 40
"""A sweep of more would take a year at a microsecond a migration."""
MOST_TABLE_BYTES = 1 << 26
"""Records of a part for all combinations that it depends on are kept if they take no more than this."""
MOST_DEVICE_LISTS = 1 << 16
"""Combinations of counts and names of devices."""
_MOST_LABELS = 1 << 22
"""Labels of devices in all lists."""
_MOST_REFINED = 64
"""Rules of one kind of which the first point that breaks them is looked for: a thousand devices have thousands."""
_BLOCK = 1 << 18  # combinations that a rule is tried on at once


class Grid:
    """All points of a sweep, as kernel records of any of them.

    Parameters
    ----------
    scenario : Scenario
        What does not change.
    axes : mapping
        As :func:`migkit.run.design.dimensions` takes them.
    names : mapping of str to str, optional
        Coordinates that shall have another name, by path.

    Attributes
    ----------
    dimensions : list of Dimension
    shape : tuple of int
        Places along each of them.
    points : int
        Combinations in all.
    devices : tuple of str
        Labels of the devices of all points.

    Raises
    ------
    ScenarioError
        If an axis, a value or any combination of values is refused.
    """

    def __init__(self, scenario: Scenario, axes: Mapping[str, Any], names: Mapping[str, str] | None = None) -> None:
        self.dimensions = dimensions(scenario, axes, names or {})
        self.shape = tuple(dimension.size for dimension in self.dimensions)
        self.points = math.prod(self.shape)
        _check_size([dimension.name for dimension in self.dimensions], self.shape)
        self._scenario = scenario
        self._columns = {
            axis.path: (number, stacked(axis.values))
            for number, dimension in enumerate(self.dimensions)
            for axis in dimension.axes
        }
        self._list_devices()
        self._check()
        self._parts = [
            _Part(self, rows.cases),
            _Part(self, rows.links),
            _Part(self, rows.regions, max(1, len(scenario.guest.regions))),
            _Part(self, rows.devices, max(map(len, self._labels))),
            _Part(self, rows.rates, rows.most_rates([scenario])),
            _Part(self, rows.changes, max(1, len(scenario.changes))),
        ]

    @property
    def axes(self) -> list[Axis]:
        """The axes of all dimensions."""
        return [axis for dimension in self.dimensions for axis in dimension.axes]

    def places(self, points: np.ndarray) -> np.ndarray:
        """The place along every dimension (dimensions, points) of points by their number; the last one is fastest."""
        if not self.dimensions:  # one point, repeated
            return np.zeros((0, len(points)), dtype=np.int64)
        return np.array(np.unravel_index(points, self.shape))

    def records_at(self, places: np.ndarray) -> Records:
        """The kernel records of points by their place along every dimension (dimensions, points)."""
        return Records(*(part.at(places).view(np.recarray) for part in self._parts))

    def own_policies(self, places: np.ndarray) -> Iterator[tuple[slice | np.ndarray, tuple[Any, Any, Any, Any] | None]]:
        """Points that share the functions of policies of the user's own, with these functions."""
        choices, codes = zip(*(self._own_along(field, places) for field in POLICY_FIELDS), strict=True)
        if not any(isinstance(choice, Policy) for field in choices for choice in field):
            yield slice(None), None
            return
        combinations, number = np.unique(np.array(codes), axis=1, return_inverse=True)
        for each, combination in enumerate(combinations.T):
            chosen = [field[code] for field, code in zip(choices, combination, strict=True)]
            own = tuple(choice.compiled() if isinstance(choice, Policy) else None for choice in chosen)
            here = slice(None) if combinations.shape[1] == 1 else np.flatnonzero(number.ravel() == each)
            yield here, own  # type: ignore[misc]

    def _own_along(self, field: str, places: np.ndarray) -> tuple[list[Any], np.ndarray]:
        """The policies that a field takes, and which of them every point has; all built-in ones count as one."""
        number, column = self._columns.get(field, (0, Words((getattr(self._scenario, field),), np.zeros(1, np.int64))))
        chosen = column.codes[places[number]] if field in self._columns else np.zeros(places.shape[1], np.int64)
        own = [isinstance(choice, Policy) for choice in column.choices]
        built_in = own.index(False) if False in own else 0
        codes = np.array([code if mine else built_in for code, mine in enumerate(own)])
        return list(column.choices), codes[chosen]

    # --- the scenarios of points, seen as one

    def view(self, places: np.ndarray, paths: Iterable[str] | None = None, reads: set[str] | None = None) -> View:
        """The scenarios of points by their place along every dimension; with `paths` only these fields have columns."""
        columns = {}
        for path in self._columns if paths is None else paths:
            number, column = self._columns[path]
            columns[path] = column.take(places[number]) if isinstance(column, Words) else column[places[number]]
        return View(self._scenario, columns, reads=reads)

    def one_point(self) -> np.ndarray:
        """The place of the first point."""
        return np.zeros((len(self.dimensions), 1), np.int64)

    def along(self, paths: Iterable[str]) -> tuple[int, ...]:
        """The numbers of the dimensions along which these fields change."""
        return tuple(sorted({self._columns[path][0] for path in paths}))

    def product(self, numbers: Sequence[int], along: Sequence[np.ndarray], first: int, last: int) -> np.ndarray:
        """Places of combinations: those of some dimensions given, all others at 0; the last of them is fastest.

        Parameters
        ----------
        numbers : sequence of int
            The dimensions.
        along : sequence of int array
            Places along each of them.
        first, last : int
            Which combinations, by their number.
        """
        places = np.zeros((len(self.dimensions), last - first), np.int64)
        if numbers:
            where = np.unravel_index(np.arange(first, last), [len(each) for each in along])
            for number, each, index in zip(numbers, along, where, strict=True):
                places[number] = each[index]
        return places

    # --- whether values go together

    def _check(self) -> None:
        """Refuse the first point, in the order of the dimensions, that breaks a rule."""
        reads: set[str] = set()
        alike: dict[tuple[frozenset[str], bool], list[int]] = {}
        for number, rule in enumerate(_rules(self.view(self.one_point(), reads=reads))):
            reads.clear()
            rule.broken()
            if reads:
                alike.setdefault((frozenset(reads), rule.monotone), []).append(number)
        broken = []
        for (paths, monotone), rules in alike.items():
            for number in self._broken(rules, paths, monotone)[:_MOST_REFINED]:
                broken.append(self._first_broken(number, monotone, paths))
        if broken:
            self._refuse(min(broken))

    def _broken(self, rules: Sequence[int], paths: frozenset[str], monotone: bool) -> list[int]:
        """Which rules, by number, any point breaks; all of them read the same fields."""
        numbers = self.along(paths)
        along = [self._ends(self.dimensions[each], monotone) for each in numbers]
        total = math.prod(map(len, along))
        found: set[int] = set()
        for first in range(0, total, _BLOCK):
            places = self.product(numbers, along, first, min(first + _BLOCK, total))
            every = list(_rules(self.view(places, paths)))
            found |= {number for number in rules if number not in found and np.any(every[number].broken())}
        return sorted(found)

    def _first_broken(self, number: int, monotone: bool, paths: frozenset[str]) -> tuple[int, ...]:
        """The place of the first point that breaks a rule that some point breaks, by the number of the rule."""
        numbers = self.along(paths)
        along = [self._ends(self.dimensions[each], monotone) for each in numbers]
        # The ends along the other dimensions tell whether a place along one has a point that breaks the rule.
        for slot, each in enumerate(numbers):
            along[slot] = np.arange(self.shape[each])
            found = self._first_of(number, paths, numbers, along)
            assert found is not None
            along[slot] = np.array([found[each]])
        place = [0] * len(self.dimensions)
        for each, (only,) in zip(numbers, along, strict=True):
            place[each] = int(only)
        return tuple(place)

    def _ends(self, dimension: Dimension, monotone: bool) -> np.ndarray:
        """Places along a dimension at which a rule must be tried."""
        if not monotone or len(dimension.axes) > 1 or not dimension.axes[0].is_number:
            return np.arange(dimension.size)
        values = np.asarray(dimension.axes[0].coordinate)
        above = np.where(values > 0, values, np.inf)
        return np.unique([values.argmin(), above.argmin(), values.argmax()])

    def _first_of(
        self, number: int, paths: frozenset[str], numbers: tuple[int, ...], along: Sequence[np.ndarray]
    ) -> np.ndarray | None:
        """The first of some combinations that breaks a rule."""
        total = math.prod(map(len, along))
        for first in range(0, total, _BLOCK):
            places = self.product(numbers, along, first, min(first + _BLOCK, total))
            rule = next(itertools.islice(_rules(self.view(places, paths)), number, None))
            broken = np.broadcast_to(rule.broken(), places.shape[1])
            if broken.any():
                return places[:, int(broken.argmax())]
        return None

    def _refuse(self, place: tuple[int, ...]) -> None:
        values = {axis.path: axis.values[at] for at, dimension in zip(place, self.dimensions, strict=True)
                  for axis in dimension.axes}  # fmt: skip
        together = " (in a combination of axis values)" if sum(at > 0 for at in place) > 1 else ""
        try:
            self._scenario.replace_all(values)
        except ScenarioError as error:
            raise ScenarioError(error.problem.rstrip(".") + together, error.field, *error.given) from None
        raise AssertionError(f"a rule that {values} break is none of the scenario")

    # --- devices

    def _list_devices(self) -> None:
        """Find the device lists that there are, and give every device label one slot whatever its place in them."""
        paths = [f"devices.{i}.{name}" for i in range(len(self._scenario.devices)) for name in ("count", "name")]
        paths = [path for path in paths if path in self._columns]
        self._listing = self.along(paths)
        states, self._state_of = [], []
        for number in self._listing:
            axes = [axis for axis in self.dimensions[number].axes if axis.path in paths]
            state: dict[tuple[Any, ...], int] = {}
            along = zip(*(axis.values for axis in axes), strict=True)
            self._state_of.append(np.array([state.setdefault(values, len(state)) for values in along]))
            states.append([dict(zip((axis.path for axis in axes), values, strict=True)) for values in state])
        combinations = math.prod(map(len, states))
        if combinations > MOST_DEVICE_LISTS:
            raise ScenarioError(f"change the list of devices in {combinations} ways: at most {MOST_DEVICE_LISTS} are "
                                "allowed, use fewer counts or names", "axes")  # fmt: skip
        number_of: dict[tuple[str, ...], int] = {}
        lists = []
        written = 0
        for combination in itertools.product(*states):
            values = {path: value for state in combination for path, value in state.items()}
            labels = tuple(device_labels(View(self._scenario, values)))
            if (written := written + len(labels)) > _MOST_LABELS:
                raise ScenarioError(f"change a list of {len(labels)} devices in {combinations} ways: use fewer counts "
                                    "or names", "axes")  # fmt: skip
            lists.append(number_of.setdefault(labels, len(number_of)))
        self._list_of = np.array(lists).reshape([len(each) for each in states])
        self._labels = list(number_of)
        longest_first = sorted(self._labels, key=len, reverse=True)
        self.devices = tuple(dict.fromkeys(label for labels in longest_first for label in labels))
        slot_of = {label: slot for slot, label in enumerate(self.devices)}
        self._slots = [np.array([slot_of[label] for label in labels]) for labels in self._labels]
        self.in_place = all(np.array_equal(slots, np.arange(len(slots))) for slots in self._slots)

    def _lists(self, places: np.ndarray) -> np.ndarray:
        """The number of the device list of every point."""
        states = tuple(codes[places[number]] for number, codes in zip(self._listing, self._state_of, strict=True))
        return self._list_of[states] if states else np.zeros(places.shape[1], np.int64)

    def align(self, found: Reports, places: np.ndarray, into: Reports) -> None:
        """Write the reports of points, by their place, with every device in its slot of :attr:`devices`.

        A device that takes no part has the report of nothing: 0, times -1.
        """
        lists = self._lists(places)
        as_bytes(into.migrations)[:] = as_bytes(found.migrations)
        source, target = (as_bytes(records) for records in (found.devices, into.devices))
        target[:] = as_bytes(NO_DEVICE_REPORT)
        culprit, blamed = into.migrations.view(np.ndarray)["culprit"], found.migrations.view(np.ndarray)["culprit"]
        for number, slots in enumerate(self._slots):
            here = np.flatnonzero(lists == number)
            target[here[:, None], slots] = source[here, : len(slots)]
            guilty = here[blamed[here] >= 0]
            culprit[guilty] = slots[blamed[guilty]]

    def present(self) -> tuple[tuple[str, ...], np.ndarray] | None:
        """Which device takes part, along the dimensions that decide it, or None if all do everywhere.

        Returns
        -------
        dims : tuple of str
            Dimensions that change the device list.
        present : bool array
            One dimension each of `dims`, the last one is the device.
        """
        if len(self._labels) == 1:
            return None
        takes_part = np.zeros((len(self._labels), len(self.devices)), dtype=bool)
        for number, slots in enumerate(self._slots):
            takes_part[number, slots] = True
        return tuple(self.dimensions[number].name for number in self._listing), takes_part[
            self._list_of[np.ix_(*self._state_of)]
        ]


class _Part:
    """One part of the records of a grid, such as the links.

    Computed once for every combination of the dimensions that it depends on, if those take little memory, and else for
    the points that are asked for.
    """

    def __init__(self, grid: Grid, build: Callable[..., np.ndarray], *width: int) -> None:
        self._grid, self._build, self._width = grid, build, width
        reads: set[str] = set()
        one = build(grid.view(grid.one_point(), reads=reads), 1, *width)
        self._paths = frozenset(reads)
        self._along = grid.along(reads)
        self._shape = tuple(grid.shape[number] for number in self._along)
        self._table: np.ndarray | None = None
        combinations = math.prod(self._shape)
        if one.nbytes * combinations <= MOST_TABLE_BYTES:
            places = grid.product(self._along, [np.arange(size) for size in self._shape], 0, combinations)
            self._table = self._built(places)

    def _built(self, places: np.ndarray) -> np.ndarray:
        return self._build(self._grid.view(places, self._paths), places.shape[1], *self._width)

    def at(self, places: np.ndarray) -> np.ndarray:
        """The records of points by their place along every dimension."""
        if self._table is None:
            return self._built(places)
        row = np.zeros(places.shape[1], np.int64)
        if self._along:
            row = np.ravel_multi_index(tuple(places[list(self._along)]), self._shape)
        # np.take copies a record as bytes; indexing copies it field by field, fifty times slower
        return np.take(self._table, row, axis=0)


def _rules(view: View) -> Iterator[Rule]:
    """The rules of all parts of a scenario."""
    for part in view.parts():
        yield from part.rules()


def _size(dims: Sequence[str], shape: Sequence[int]) -> str:
    """How many migrations there are, in words."""
    lengths = " x ".join(f"{size} {dim}" for dim, size in zip(dims, shape, strict=True))
    return f"{math.prod(shape)} migrations ({lengths})"


def _check_size(dims: Sequence[str], shape: Sequence[int]) -> None:
    if math.prod(shape) > MOST_MIGRATIONS:
        raise ScenarioError(
            f"has {_size(dims, shape)}: at most {MOST_MIGRATIONS} can be laid out, use fewer values", "sweep"
        )


# --- a sweep -------------------------------------------------------------------------------------


class Layout:
    """The dimensions of a sweep, checked, and what is computed at each of its places.

    Parameters
    ----------
    sweep : Sweep
        What is computed.
    names : mapping of str to str, optional
        Coordinates that shall have another name, by path.
    limit : duration, optional
        Computing that one migration may take (:func:`migkit.run.limits.effort`).

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

    def __init__(self, sweep: Sweep, names: Mapping[str, str] | None = None, limit: str = LIMIT) -> None:
        self.sweep = sweep
        self._effort = effort(limit)
        design = {} if sweep.design is None else {SCENARIO: sweep.design.values()}
        order = [*design, *sweep.axes, *([REPLICATE] if sweep.replicates is not None else [])]
        self._repeated = REPLICATE in order
        axes: dict[str, Any] = {key: values for key, values in (design | sweep.axes).items() if key != REPLICATE}
        self._grid = Grid(sweep.scenario, axes, names)
        replicates = range(sweep.replicates) if sweep.replicates is not None else sweep.axes.get(REPLICATE, (0,))
        self._replicates = np.array(replicates, dtype=np.int64)
        along = dict(zip(axes, self._grid.dimensions, strict=True))
        self.dims = tuple(REPLICATE if key == REPLICATE else along[key].name for key in order)
        self.shape = tuple(len(self._replicates) if key == REPLICATE else along[key].size for key in order)
        _check_size(self.dims, self.shape)
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
        of = {dimension.name: dimension for dimension in self._grid.dimensions}
        for dim in self.dims:
            if dim == REPLICATE:
                found[dim] = (dim, self._replicates, {"units": "1", "long_name": "replicate"})
                continue
            axes = of[dim].axes
            if dim not in [axis.name for axis in axes]:
                found[dim] = (dim, np.arange(of[dim].size), {"units": "1", "long_name": f"number of the {dim}"})
            found |= {axis.name: (dim, axis.coordinate, axis.notes()) for axis in axes}
        return found

    def paths(self) -> dict[str, str]:
        """Dotted path of the field by coordinate."""
        return {axis.name: axis.path for axis in self._grid.axes}

    def present(self) -> xr.Variable | None:
        """Which device takes part where, or None if all do everywhere."""
        import xarray as xr

        if (found := self._grid.present()) is None:
            return None
        dims, takes_part = found
        return xr.Variable((*dims, "device"), takes_part, {"long_name": "the device takes part in the migration"})

    def run(self, places: np.ndarray, into: Reports | None = None, stop: Callable[[], bool] = lambda: False) -> Reports:
        """Compute migrations on this thread.

        Parameters
        ----------
        places : int array (dimensions, migrations)
            Place along every dimension.
        into : Reports, optional
            Where the reports go; new memory by default.
        stop : callable, optional
            Asked now and then: whether to end without the reports, with a CancelledError.

        Returns
        -------
        Reports
            A row for each, devices in the slots of `devices`.

        Raises
        ------
        ScenarioError
            If a migration takes more computing, or memory, than it may.
        """
        from migkit.kernels import drivers

        into = Reports.empty(places.shape[1], len(self.devices)) if into is None else into
        grid_places = places[self._of_grid]
        replicates: Any = 0
        if self._repeated:
            replicates = self._replicates[places[self.dims.index(REPLICATE)]]
        records = self._grid.records_at(grid_places)
        direct = self._grid.in_place and records.devices.shape == into.devices.shape
        found = into if direct else Reports.empty(*records.devices.shape)
        if self.sweep.engine == "bitmap":
            check_bitmap(records)
        for rows_here, own in self._grid.own_policies(grid_places):
            with within(self._effort, functools.partial(self._described, places[:, rows_here])):
                drivers.run(
                    Records(*(part[rows_here] for part in records)), self.sweep.engine, self.sweep.seed,
                    replicates if np.ndim(replicates) == 0 else replicates[rows_here], own=own,
                    into=(target := Reports(*(part[rows_here] for part in found))), limit=self._effort, stop=stop,
                )  # fmt: skip
            if not isinstance(rows_here, slice):  # a copy
                for part, values in zip(found, target, strict=True):
                    part[rows_here] = values
        if not direct:
            self._grid.align(found, grid_places, into)
        return into

    def _described(self, places: np.ndarray, row: int) -> str:
        """One of the migrations at some places, by its values on the dimensions."""
        of = {dim: (name, values) for name, (dim, values, _) in reversed(self.coordinates().items())}
        return ", ".join(f"{of[dim][0]} = {of[dim][1][at]}" for dim, at in zip(self.dims, places[:, row], strict=True))

    def empty(self, rows: int) -> Reports:
        """Room for the reports of this many migrations.

        Raises
        ------
        ScenarioError
            If they would take more memory than there is.
        """
        self.check_memory(rows)
        return Reports.empty(rows, len(self.devices))

    def check_memory(self, rows: int | None = None) -> None:
        """Refuse to hold the results of this many migrations, by default of all, in memory that there is not.

        Raises
        ------
        ScenarioError
            If they would take more memory than the machine has.
        """
        rows = self.migrations if rows is None else rows
        one = Reports.empty(1, len(self.devices))
        if rows * sum(part.nbytes for part in one) > machine_memory():
            raise ScenarioError(
                f"has {_size(self.dims, self.shape)}, whose results do not fit into memory: give a store=, such as "
                'store="result.zarr", which holds them on disk', "sweep"
            )  # fmt: skip

    def notes(self) -> dict[str, str | int]:
        """Attributes that say what was computed, with what."""
        notes = provenance(self.sweep.engine, self.sweep.seed, self.sweep.scenario.to_toml())
        notes["costs"] = self.sweep.scenario.costs.label
        notes |= {"sweep": self.sweep.to_toml(), "sweep_sha256": self.sweep.sha256}
        return notes | ({"policies": json.dumps(self.sweep.policies)} if self.sweep.policies else {})
