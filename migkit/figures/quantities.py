"""What the fields of a scenario are called on an axis, and in which unit they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from migkit.figures.style import log_axis

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

MIB = 2**20


class Quantity(NamedTuple):
    """A field as a reader knows it."""

    label: str
    unit: str
    per_unit: float

    @property
    def axis_label(self) -> str:
        """Label with the unit: ``link (Gbit/s)``; counts have none."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


QUANTITIES = {
    "write_rate": Quantity("dirty rate", "MB/s", 1e6),
    "size": Quantity("hot set", "MiB", MIB),
    "bandwidth": Quantity("link", "Gbit/s", 1e9 / 8),
    "max_bandwidth": Quantity("max-bandwidth", "MiB/s", MIB),
    "downtime_limit": Quantity("downtime-limit", "ms", 1e-3),
    "initial_bytes": Quantity("initial data", "MiB", MIB),
    "stop_copy_bytes": Quantity("stop-copy", "MiB", MIB),
    "count": Quantity("VFIO devices", "", 1),
}
"""By the last word of the dotted path."""


def quantity(path: str, unit: str = "") -> Quantity:
    """The quantity of a dotted path; one that is not listed keeps its name and its unit in SI."""
    tail = path.rpartition(".")[2]
    return QUANTITIES.get(tail) or Quantity(tail.replace("_", "-"), "" if unit == "1" else unit, 1)


def of(array: xr.DataArray) -> Quantity:
    """The quantity of a coordinate of a sweep or a frontier."""
    return quantity(array.attrs.get("long_name", str(array.name)), array.attrs.get("units", ""))


def quantity_axis(axis: str, ax: Axes, what: Quantity) -> None:
    """Make ``axis`` ("x" or "y") logarithmic in the quantity's unit, with its label."""
    log_axis(axis, ax, what.unit, what.per_unit, what.label)
