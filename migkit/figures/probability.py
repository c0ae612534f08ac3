"""The probability of convergence over one axis, with the interval of each probability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migkit.figures.quantities import of
from migkit.figures.style import line_look

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


def convergence_probability(convergence: xr.Dataset, ax: Axes, x: str, label: str = "", number: int = 0) -> Axes:
    """Draw the probability of convergence with its Wilson intervals.

    Parameters
    ----------
    convergence : Dataset
        Of :func:`migkit.uncertainty.convergence`, with the dim `x` only.
    ax : Axes
        Gets a linear x axis in the unit of the quantity.
    x : str
        Dimension over which to draw.
    label : str, optional
        For a legend; the label of the axis says how many replicates and which interval.
    number : int, default 0
        Selects colour, line style and marker.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import migkit
    >>> from matplotlib.figure import Figure
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="64 MiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> axes = {"migration.downtime_limit": ["1 ms", "2 ms"], "replicate": range(4)}
    >>> convergence = migkit.uncertainty.convergence(migkit.sweep(scenario, axes, "bitmap"))
    >>> ax = convergence_probability(convergence, Figure().subplots(), convergence["probability"].dims[0])
    >>> ax.get_xlabel()
    'downtime-limit (ms)'
    """
    from matplotlib.ticker import PercentFormatter

    what = of(convergence[x])
    middle = convergence["probability"].values
    below = middle - convergence["probability_low"].values
    above = convergence["probability_high"].values - middle
    ax.errorbar(
        convergence[x].values / what.per_unit, middle, [below.clip(0), above.clip(0)], label=label, elinewidth=0.8,
        capsize=1.5 + 1.2 * (number % 5), **line_look(number) | {"linewidth": 0.9},
    )  # fmt: skip
    ax.set_ylim(-0.04, 1.04)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel(what.axis_label)
    replicates, percent = int(convergence["replicates"].values.flat[0]), 100 * convergence.attrs["confidence"]
    ax.set_ylabel(f"migrations that complete,\n{replicates} replicates, Wilson {percent:g} %")
    return ax
