"""First-order and total Sobol indices as bars, with their intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from migkit.figures.quantities import quantity
from migkit.figures.style import LINE_COLOURS

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

BARS = (("first", "first-order", LINE_COLOURS[0], ""), ("total", "total", "#E69F00", "////"))
"""Variable, legend, colour and hatch of the two bars of a field."""


def sensitivity_bars(indices: xr.Dataset, ax: Axes) -> Axes:
    """Draw the indices of one output: two bars a field, the first field on top.

    Parameters
    ----------
    indices : Dataset
        Of :func:`migkit.sensitivity`, one ``output`` selected: ``first``, ``total`` and their ``_conf`` along
        ``parameter``. If they are ``NaN`` the panel says that the output does not vary.
    ax : Axes
        Gets fields along y and the share of the variance along x.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> indices = {"first": [0.6, 0.1], "first_conf": [0.05, 0.02], "total": [0.9, 0.4], "total_conf": [0.08, 0.05]}
    >>> fields = ["guest.regions.0.write_rate", "link.bandwidth"]
    >>> dataset = xr.Dataset({name: ("parameter", values) for name, values in indices.items()}, {"parameter": fields})
    >>> ax = sensitivity_bars(dataset, Figure().subplots())
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['dirty rate', 'link']
    """
    places = np.arange(indices.sizes["parameter"])
    height = 0.38
    for number, (name, label, colour, hatch) in enumerate(BARS):
        ax.barh(
            places + (number - 0.5) * height, indices[name].values, height, xerr=indices[f"{name}_conf"].values,
            color=colour, hatch=hatch, edgecolor="black", linewidth=0.5, label=label,
            error_kw={"elinewidth": 0.7, "capsize": 1.5, "capthick": 0.7},
        )  # fmt: skip
    if np.isnan(indices["total"].values).all():
        ax.text(0.5, 0.5, "does not vary", transform=ax.transAxes, ha="center", va="center")
    ax.set_yticks(places, [quantity(str(path)).label for path in indices["parameter"].values])
    ax.set_ylim(len(places) - 0.5, -0.5)
    ax.axvline(0, color="black", linewidth=0.6)
    ax.set_xlim(-0.08, 1.0)
    ax.set_xlabel("share of the variance")
    return ax
