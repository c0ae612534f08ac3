"""Who converges, over a plane of two parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from migkit.analysis.closed_form import CATEGORIES
from migkit.figures.quantities import of, quantity_axis
from migkit.figures.style import CATEGORY_COLOURS, CATEGORY_HATCHES

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes


def category_plane(categories: xr.DataArray, ax: Axes, x: str, y: str) -> Axes:
    """Colour, and hatch, each point of a plane by who converges there.

    Parameters
    ----------
    categories : DataArray
        Two dims, numbers of :data:`migkit.analysis.closed_form.CATEGORIES`; coordinates in SI units, evenly spaced in
        the logarithm.
    ax : Axes
    x, y : str
        Names of the dims.

    Returns
    -------
    Axes
    """
    import numpy as np
    from matplotlib.colors import ListedColormap

    values = categories.transpose(y, x)
    xs, ys = values[x].values, values[y].values
    colours = ListedColormap(CATEGORY_COLOURS)
    ax.pcolormesh(xs, ys, values.values, cmap=colours, vmin=-0.5, vmax=3.5, shading="nearest", rasterized=True)
    for number, hatch in enumerate(CATEGORY_HATCHES):
        here = (values.values == number).astype(float)
        if hatch and here.any():
            ax.contourf(xs, ys, here, levels=[0.5, 1.5], colors="none", hatches=[hatch])
        if 0 < here.sum() < here.size:
            ax.contour(xs, ys, here, levels=[0.5], colors="black", linewidths=0.5)
    ax.set_xlim(xs[0], xs[-1])
    ax.set_ylim(ys[0], ys[-1])
    ax.set_facecolor(np.array([1.0, 1.0, 1.0]))
    return ax


def category_panel(categories: xr.DataArray, ax: Axes, x: str = "bandwidth", y: str = "write_rate") -> Axes:
    """A plane with both axes labelled in the units of their quantities.

    Parameters
    ----------
    categories : DataArray
        As :func:`category_plane` takes it, coordinates as a sweep names them.
    ax : Axes
    x, y : str
        Names of the dims.

    Returns
    -------
    Axes
    """
    category_plane(categories, ax, x, y)
    quantity_axis("x", ax, of(categories[x]))
    quantity_axis("y", ax, of(categories[y]))
    return ax


def category_legend(figure: Any, present: set[int], lines: Mapping[str, Any] | None = None, **where: Any) -> Any:
    """One legend of the categories that occur, and of lines drawn over them."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=CATEGORY_COLOURS[n], hatch=CATEGORY_HATCHES[n], edgecolor="black", label=CATEGORIES[n])
        for n in sorted(present)
    ]
    handles += list((lines or {}).values())
    return figure.legend(handles=handles, **where)


def boundary(ax: Axes, xs: Any, ys: Any, label: str, number: int = 0) -> Any:
    """A derived boundary over the plane, edged in white so that it shows on dark ground; infinity is the upper edge."""
    import numpy as np
    from matplotlib.patheffects import Normal, Stroke

    inside = np.minimum(ys, 3.0 * ax.get_ylim()[1])  # outside the frame, but not so far that the line cannot be drawn
    (line,) = ax.plot(xs, inside, color="#D55E00", linestyle=("--", ":", "-.")[number], linewidth=1.4, label=label)
    line.set_path_effects([Stroke(linewidth=2.6, foreground="white"), Normal()])
    return line
