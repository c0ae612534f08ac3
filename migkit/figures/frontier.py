"""Critical values of one axis over another axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.figures.quantities import of, quantity, quantity_axis
from migkit.figures.style import LINE_COLOURS, LINE_STYLES, MARKERS, NO_INTERVAL

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


def _label(label: str, frontier: xr.Dataset) -> str:
    """The label, which for the expected engine says that there is no interval."""
    if frontier.attrs.get("engine") != "expected":
        return label
    return f"{label} ({NO_INTERVAL})" if label else NO_INTERVAL


def _set_axes(frontier: xr.Dataset, ax: Axes, x: str) -> None:
    """Logarithmic axes in the units of the two quantities."""
    xs = frontier[x].values
    ax.set_xlim(xs.min(), xs.max())
    quantity_axis("x", ax, of(frontier[x]))
    low, high = ax.get_ylim()
    if low <= 0:
        ax.set_ylim(np.nanmin(frontier["critical"].values) / 1.5, high)
    quantity_axis("y", ax, quantity(frontier.attrs["axis"], frontier["critical"].attrs.get("units", "")))


def critical_values(
    frontier: xr.Dataset, ax: Axes, x: str, label: str = "", number: int = 0, says_engine: bool = True
) -> Axes:
    """Draw the critical value over another axis, one line a flip; with the bitmap engine also its interval.

    Parameters
    ----------
    frontier : Dataset
        Of :func:`migkit.frontier`, with the dims `x` and ``flip`` only.
    ax : Axes
        Gets logarithmic axes in the units of the two quantities.
    x : str
        Dimension over which to draw.
    label : str, optional
        Of the first line.
    number : int, default 0
        Selects colour, line style and marker.
    says_engine : bool, default True
        Append to the label of the expected engine that there is no interval.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import migkit
    >>> from matplotlib.figure import Figure
    >>> guest = migkit.Guest(ram="1 GiB", regions=[migkit.Region(size="512 MiB", write_rate="1 GB/s")])
    >>> scenario = migkit.Scenario(guest=guest, link=migkit.Link(bandwidth="10 Gbit/s"), migration={"max_bandwidth": 0})
    >>> found = migkit.frontier(scenario, "guest.regions.0.write_rate", ["10 MB/s", "20 GB/s"],
    ...                         over={"link.bandwidth": ["5 Gbit/s", "10 Gbit/s"]}, tolerance=0.1)
    >>> critical_values(found, Figure().subplots(), found["critical"].dims[0]).get_ylabel()
    'dirty rate (MB/s)'
    """
    xs = frontier[x].values
    look: dict[str, Any] = {"color": LINE_COLOURS[number % 5], "linestyle": LINE_STYLES[number % 5]}
    look |= {"marker": MARKERS[number % 5], "markersize": 3, "markevery": max(1, len(xs) // 10)}
    text = _label(label, frontier) if says_engine else label
    for flip in range(frontier.sizes["flip"]):
        one = frontier.isel(flip=flip).transpose(x, ...)
        ax.plot(xs, one["critical"].values, label=text if flip == 0 else f"_{text}", **look)
        if "single_low" in one:
            low, high = one["single_low"].values, one["single_high"].values
            ax.fill_between(xs, low, high, color=look["color"], alpha=0.3, linewidth=0)
    ax.set_yscale("log")
    _set_axes(frontier, ax, x)
    return ax


def critical_band(frontier: xr.Dataset, ax: Axes, x: str, label: str = "", number: int = 0) -> Axes:
    """Draw the first two flips of a frontier and shade the band between them.

    Parameters
    ----------
    frontier : Dataset
        Of :func:`migkit.frontier`, with the dims `x` and ``flip``, two flips or more; points with fewer are left out.
    ax : Axes
        Gets logarithmic axes in the units of the two quantities.
    x : str
        Dimension over which to draw.
    label : str, optional
        Of the band; for the expected engine it says that there is no interval.
    number : int, default 0
        Selects colour, line style and marker.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import migkit
    >>> from matplotlib.figure import Figure
    >>> scenario = migkit.Scenario(
    ...     guest=migkit.Guest(ram="1 GiB", regions=[migkit.Region(size="512 MiB", write_rate="100 GB/s")]),
    ...     devices=[migkit.Vfio(initial_bytes="16 MiB")],
    ...     link=migkit.Link(bandwidth="10 Gbit/s"),
    ...     migration={"max_bandwidth": 0, "switchover_ack": True, "return_path": True},
    ... )
    >>> found = migkit.frontier(scenario, "guest.regions.0.size", ["4 MiB", "1 GiB"], policy="serialized",
    ...                         over={"link.bandwidth": ["5 Gbit/s", "10 Gbit/s"]}, outcome="initial_data_starved",
    ...                         tolerance=0.1)
    >>> critical_band(found, Figure().subplots(), found["critical"].dims[0], "device starves").get_ylabel()
    'hot set (MiB)'
    """
    xs = frontier[x].values
    low, high = (frontier["critical"].isel(flip=flip).transpose(x).values for flip in (0, 1))
    ax.fill_between(
        xs, low, high, facecolor=LINE_COLOURS[number % 5] + "40", edgecolor=LINE_COLOURS[number % 5], hatch="////",
        linewidth=0, label=_label(label, frontier),
    )  # fmt: skip
    return critical_values(frontier.isel(flip=slice(0, 2)), ax, x, "_band", number, says_engine=False)


def critical_deviation(bitmap: xr.Dataset, expected: xr.Dataset, ax: Axes, x: str) -> Axes:
    """Draw the relative deviation of the bitmap engine's critical value from the expected engine's, with its intervals.

    Parameters
    ----------
    bitmap, expected : Dataset
        Of :func:`migkit.frontier`, over the same `x`; the first flip is drawn.
    ax : Axes
        Gets a y axis in percent of the expected engine's value.
    x : str
        Dimension over which to draw.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import migkit
    >>> from matplotlib.figure import Figure
    >>> guest = migkit.Guest(ram="1 GiB", regions=[migkit.Region(size="512 MiB", write_rate="1 GB/s")])
    >>> scenario = migkit.Scenario(guest=guest, link=migkit.Link(bandwidth="10 Gbit/s"), migration={"max_bandwidth": 0})
    >>> expected, bitmap = (
    ...     migkit.frontier(scenario, "guest.regions.0.write_rate", ["100 MB/s", "20 GB/s"],
    ...                     over={"link.bandwidth": ["5 Gbit/s", "8 Gbit/s"]}, tolerance=0.1, engine=engine,
    ...                     replicates=replicates)
    ...     for engine, replicates in (("expected", None), ("bitmap", 2))
    ... )
    >>> ax = critical_deviation(bitmap, expected, Figure().subplots(), bitmap["critical"].dims[0])
    >>> ax.get_ylabel().splitlines()[0]
    'critical dirty rate: bitmap'
    """
    xs, base = bitmap[x].values, expected["critical"].isel(flip=0).transpose(x).values

    def percent(name: str) -> Any:
        return 100 * (bitmap[name].isel(flip=0).transpose(x).values / base - 1)

    confidence = f"{100 * bitmap.attrs['confidence']:g} %"
    middle, low, high = (percent(name) for name in ("critical", "median_low", "median_high"))
    ax.fill_between(
        xs, percent("single_low"), percent("single_high"), facecolor="0.88", edgecolor="0.55", hatch="....",
        linewidth=0.4, label=f"middle {confidence} of single migrations",
    )  # fmt: skip
    ax.errorbar(
        xs, middle, yerr=[middle - low, high - middle], color=LINE_COLOURS[0], marker=MARKERS[0], markersize=3,
        linestyle="none", capsize=2, elinewidth=0.9, label=f"bitmap: median, {confidence} interval",
    )  # fmt: skip
    ax.axhline(0, color=LINE_COLOURS[1], linestyle="--", label=NO_INTERVAL)
    ax.set_xlim(xs.min() / 1.06, 1.06 * xs.max())  # markers at both ends are not cut
    quantity_axis("x", ax, of(bitmap[x]))
    what = quantity(bitmap.attrs["axis"]).label
    ax.set_ylabel(f"critical {what}: bitmap\nagainst expected engine (%)")
    return ax
