"""Critical values of one axis over another axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.figures.quantities import of, quantity, quantity_axis
from migkit.figures.style import LINE_COLOURS, MARKERS, NO_INTERVAL, line_look

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


def _label(label: str, frontier: xr.Dataset) -> str:
    """The label, which for the expected engine says that there is no interval."""
    if frontier.attrs.get("engine") != "expected":
        return label
    return f"{label} ({NO_INTERVAL})" if label else NO_INTERVAL


def _set_axes(frontier: xr.Dataset, ax: Axes, x: str, word: str) -> None:
    """Logarithmic axes in the units of the two quantities; the label of y begins with `word`."""
    xs = frontier[x].values
    ratio = (xs.max() / xs.min()) ** 0.02
    ax.set_xlim(xs.min() / ratio, xs.max() * ratio)  # markers at both ends are not cut
    quantity_axis("x", ax, of(frontier[x]))
    low, high = ax.get_ylim()
    if low <= 0:
        ax.set_ylim(np.nanmin(frontier["critical"].values) / 1.5, high)
    what = quantity(frontier.attrs["axis"], frontier["critical"].attrs.get("units", ""))
    quantity_axis("y", ax, what._replace(label=f"{word} {what.label}".strip()))


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
    'critical dirty rate (MB/s)'
    """
    return _lines(frontier, ax, x, _label(label, frontier) if says_engine else label, line_look(number), "critical")


def _lines(frontier: xr.Dataset, ax: Axes, x: str, text: str, look: dict[str, Any], word: str) -> Axes:
    xs = frontier[x].values
    look = {"markevery": max(1, len(xs) // 10)} | look
    for flip in range(frontier.sizes["flip"]):
        one = frontier.isel(flip=flip).transpose(x, ...)
        ax.plot(xs, one["critical"].values, label=text if flip == 0 else f"_{text}", **look)
        if "single_low" in one:
            low, high = one["single_low"].values, one["single_high"].values
            ax.fill_between(xs, low, high, color=look["color"], alpha=0.3, linewidth=0)
    ax.set_yscale("log")
    _set_axes(frontier, ax, x, word)
    return ax


def none_beyond(frontier: xr.Dataset, ax: Axes, x: str) -> Axes:
    r"""Write ``none beyond`` where the lines of a frontier end before the axis does: from there on nothing is critical.

    Parameters
    ----------
    frontier : Dataset
        Of :func:`migkit.frontier`, all that is drawn in the Axes.
    ax : Axes
        Of :func:`critical_values`.
    x : str
        Dimension over which was drawn.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> found = xr.Dataset({"critical": (("link", "flip"), [[1.0], [float("nan")]])}, {"link": [1.0, 2.0]})
    >>> [text.get_text() for text in none_beyond(found, Figure().subplots(), "link").texts]
    ['none\nbeyond']
    """
    critical = frontier["critical"].isel(flip=0) if "flip" in frontier["critical"].dims else frontier["critical"]
    lines = critical.transpose(..., x).values.reshape(-1, frontier.sizes[x])
    xs = frontier[x].values
    ends: dict[int, float] = {}
    for line in lines:
        known = np.flatnonzero(np.isfinite(line)).tolist()
        if known and known[-1] < len(xs) - 1:
            ends[known[-1]] = max(float(line[known[-1]]), ends.get(known[-1], 0.0))
    if ends:  # once, for lines that end beside each other
        last = max(ends)
        ax.annotate(
            "none\nbeyond", (xs[last], ends[last]), (5, -3), textcoords="offset points", va="center", fontsize=7
        )
    return ax


def critical_band(
    frontier: xr.Dataset, ax: Axes, x: str, label: str = "", number: int = 0, joined: bool = True
) -> Axes:
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
    joined : bool, default True
        Draw lines through the flips; without, markers only, for derived lines that lie below them.

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
    look = line_look(number)
    if not joined:
        every = max(1, len(xs) // 8)
        look |= {"linestyle": "", "markerfacecolor": "white", "markersize": 4, "zorder": 4, "markevery": every}
    return _lines(frontier.isel(flip=slice(0, 2)), ax, x, "_band", look, "")


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
