"""Axes in the unit that people read: a unit that fits the values, ticks at round values of it, words as words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.figures import quantities
from migkit.figures.quantities import Quantity
from migkit.figures.style import label_of, log_axis

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_UNITS: tuple[tuple[tuple[str, float], ...], ...] = (
    (("B", 1), ("KiB", 2.0**10), ("MiB", 2.0**20), ("GiB", 2.0**30), ("TiB", 2.0**40)),
    (("kbit/s", 125.0), ("Mbit/s", 125e3), ("Gbit/s", 125e6)),
    (("kB/s", 1e3), ("MB/s", 1e6), ("GB/s", 1e9), ("TB/s", 1e12)),
    (("KiB/s", 2.0**10), ("MiB/s", 2.0**20), ("GiB/s", 2.0**30)),
    (("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1)),
)
"""Units of one kind, the smallest first, in SI units."""
_FIRST = {"B": "MiB", "B/s": "MB/s", "s": "ms"}
"""Which of the kinds a unit of a Dataset has, where its field does not say."""
_MOST_TICKS = 6


def fitting(what: Quantity, values: Any) -> Quantity:
    """A quantity in the unit of its kind in which most values are 1 or more; of times that reach 1 s, 0.1 or more.

    Examples
    --------
    >>> fitting(quantities.quantity("link.bandwidth"), [1e7, 2e7]).axis_label
    'link (Mbit/s)'
    >>> fitting(quantities.quantity("guest.ram", "B"), [2.0**40, 2.0**41]).axis_label
    'ram (TiB)'
    """
    unit = _FIRST.get(what.unit, what.unit)
    kind = next((each for each in _UNITS if unit in dict(each)), ())
    known = np.abs(np.asarray(values, float).ravel())
    known = known[np.isfinite(known) & (known > 0)]
    if not kind or not known.size:
        return what
    middle = float(np.median(known))
    if kind[-1][0] == "s" and known.max() >= 1:  # 1.8 s, beside 0.3 s
        middle *= 10
    name, size = next((each for each in reversed(kind) if middle >= each[1]), kind[0])
    return Quantity(what.label, name, size)


def of_variable(array: xr.DataArray) -> Quantity:
    """The quantity of a result variable.

    Examples
    --------
    >>> import xarray as xr
    >>> of_variable(xr.DataArray([0.1, 0.3], name="downtime_s", attrs={"units": "s"})).axis_label
    'downtime (ms)'
    """
    name, unit = str(array.name), array.attrs.get("units", "1")
    for suffix in ("_s", "_bytes", "_percent"):
        name = name.removesuffix(suffix)
    return fitting(Quantity(name.replace("_", " "), "" if unit == "1" else unit, 1), array.values)


def is_logarithmic(coordinate: xr.DataArray) -> bool:
    """Whether an axis is drawn logarithmic: no counts, all values above 0, over more than a factor of 8."""
    values = coordinate.values
    numbers = coordinate.dtype.kind in "iuf" and coordinate.attrs.get("units") != "1"
    return bool(numbers and values.min() > 0 and values.max() > 8 * values.min())


def fitting_axis(ax: Axes, axis: str, coordinate: xr.DataArray) -> None:
    """Label an axis, whose data are in SI units, or places for words, in the unit that fits."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    target = getattr(ax, f"{axis}axis")
    label = quantities.of(coordinate).label
    if coordinate.dtype.kind not in "iuf":
        names = [label_of(str(each)) for each in coordinate.values]
        getattr(ax, f"set_{axis}ticks")(range(len(names)), names)
        getattr(ax, f"set_{axis}label")(label)
        return
    what = fitting(quantities.of(coordinate), coordinate.values)
    if is_logarithmic(coordinate):
        log_axis(axis, ax, what.unit, what.per_unit, what.label)
        return
    if coordinate.size <= _MOST_TICKS:
        target.set_major_locator(FixedLocator(coordinate.values.tolist()))
    else:
        whole = coordinate.dtype.kind in "iu" and not what.unit
        target.set_major_locator(_in_unit(MaxNLocator(nbins=_MOST_TICKS, integer=whole), what.per_unit))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value / what.per_unit:g}"))
    getattr(ax, f"set_{axis}label")(what.axis_label)


def _in_unit(locator: Any, per_unit: float) -> Any:
    """A locator of round values in a unit, for data in SI units."""
    from matplotlib.ticker import Locator

    class InUnit(Locator):
        def __call__(self) -> Any:
            low, high = sorted(self.axis.get_view_interval())  # type: ignore[union-attr]
            return self.tick_values(low, high)

        def tick_values(self, vmin: float, vmax: float) -> Any:
            return np.asarray(locator.tick_values(vmin / per_unit, vmax / per_unit)) * per_unit

    return InUnit()


def places(coordinate: xr.DataArray) -> xr.DataArray:
    """Numbers of a coordinate; places for words."""
    words = coordinate.dtype.kind not in "iuf"
    return coordinate.copy(data=np.arange(coordinate.size, dtype=float)) if words else coordinate


def cells(plane: xr.DataArray, x: str, y: str) -> xr.DataArray:
    """A plane with two points in each cell along both axes, next to its edges: contours then follow the cells."""
    inner = {name: _edges_of(places(plane[name])) for name in (x, y)}
    return (
        plane.transpose(y, x)
        .isel({name: np.repeat(np.arange(plane.sizes[name]), 2) for name in (y, x)})
        .assign_coords(inner)
    )


def _edges_of(coordinate: xr.DataArray) -> np.ndarray:
    """Two numbers in the cell of each value of an axis, next to its ends."""
    values = coordinate.values.astype(float)
    if descending := values[0] > values[-1]:
        values = values[::-1]
    if logarithmic := is_logarithmic(coordinate):
        values = np.log(values)
    steps = np.diff(values) if len(values) > 1 else np.array([1.0])
    ends = np.concatenate([[values[0] - steps[0] / 2], values[:-1] + steps / 2, [values[-1] + steps[-1] / 2]])
    if len(values) == 1:
        ends = np.array([values[0] - 0.5, values[0] + 0.5])
    gap = 1e-6 * (ends[-1] - ends[0])
    found = np.column_stack([ends[:-1] + gap, ends[1:] - gap]).ravel()
    found = np.exp(found) if logarithmic else found
    return found[::-1] if descending else found
