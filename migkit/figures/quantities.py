"""Labels and units of the fields of a scenario on an axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from migkit.figures.style import log_axis

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

MIB = 2**20


SI_UNITS = ("s", "B", "B/s")
"""Units of coordinates that take a decimal prefix."""


class Quantity(NamedTuple):
    """Label and unit of a field."""

    label: str
    unit: str
    per_unit: float
    """The unit in SI units."""

    @property
    def axis_label(self) -> str:
        """Label with the unit: ``link (Gbit/s)``; counts have no unit."""
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
"""Quantities by the last part of the dotted path."""


def quantity(path: str, unit: str = "") -> Quantity:
    """The quantity of a field.

    Parameters
    ----------
    path : str
        Dotted path.
    unit : str, optional
        SI unit of fields that are not in :data:`QUANTITIES`; these are labelled with their name.

    Examples
    --------
    >>> quantity("link.bandwidth").axis_label, quantity("link.rtt", "s").axis_label
    ('link (Gbit/s)', 'rtt (s)')
    """
    tail = path.rpartition(".")[2]
    return QUANTITIES.get(tail) or Quantity(tail.replace("_", "-"), "" if unit == "1" else unit, 1)


def of(array: xr.DataArray) -> Quantity:
    """The quantity of a coordinate of a sweep or a frontier.

    Parameters
    ----------
    array : DataArray
        Its ``long_name`` is the dotted path of the field.

    Examples
    --------
    >>> import xarray as xr
    >>> of(xr.DataArray([1e6], attrs={"long_name": "guest.regions.0.write_rate", "units": "B/s"})).axis_label
    'dirty rate (MB/s)'
    """
    return quantity(array.attrs.get("long_name", str(array.name)), array.attrs.get("units", ""))


def quantity_axis(axis: str, ax: Axes, what: Quantity) -> None:
    """Make an axis logarithmic in the unit of a quantity, with its label.

    Parameters
    ----------
    axis : {"x", "y"}
    ax : Axes
        Its data are in SI units.
    what : Quantity
        Ticks of a quantity in an SI unit have the prefix that fits: ``100 µs``.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> ax.set_xlim(1e-5, 1e-3)
    (1e-05, 0.001)
    >>> quantity_axis("x", ax, quantity("link.rtt", "s"))
    >>> [label.get_text() for label in ax.get_xticklabels()], ax.get_xlabel()
    (['10 µs', '100 µs', '1 ms'], 'rtt')
    """
    from matplotlib.ticker import EngFormatter

    if what.unit in SI_UNITS:
        log_axis(axis, ax, "", 1, what.label)
        getattr(ax, f"{axis}axis").set_major_formatter(EngFormatter(what.unit))
    else:
        log_axis(axis, ax, what.unit, what.per_unit, what.label)
