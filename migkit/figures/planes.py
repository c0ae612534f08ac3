"""Under which policies migrations converge, over a plane of two parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from migkit.figures.quantities import of, quantity_axis
from migkit.figures.style import CATEGORY_COLOURS, CATEGORY_HATCHES
from migkit.results import CATEGORIES

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D


def category_plane(
    categories: xr.DataArray,
    ax: Axes,
    x: str,
    y: str,
    colours: Sequence[str] = CATEGORY_COLOURS,
    hatches: Sequence[str] = CATEGORY_HATCHES,
) -> Axes:
    """Colour and hatch each point of a plane by the policies under which migrations converge.

    Parameters
    ----------
    categories : DataArray
        Two dims; categories (places in :data:`migkit.results.CATEGORIES`). Coordinates in SI units, evenly spaced in
        the logarithm.
    ax : Axes
    x, y : str
        Names of the dims.
    colours, hatches : sequence of str
        One of each for every category.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> sides = {"write_rate": [1e8, 1e9], "bandwidth": [1e8, 1e9]}
    >>> categories = xr.DataArray([[0, 1], [3, 1]], sides, tuple(sides))
    >>> category_plane(categories, Figure().subplots(), "bandwidth", "write_rate").get_facecolor()
    (1.0, 1.0, 1.0, 1.0)
    """
    from matplotlib.colors import ListedColormap

    values = categories.transpose(y, x)
    xs, ys = values[x].values, values[y].values
    look: dict[str, Any] = {"cmap": ListedColormap(list(colours)), "vmin": -0.5, "vmax": len(colours) - 0.5}
    ax.pcolormesh(xs, ys, values.values, shading="nearest", rasterized=True, **look)
    for number, hatch in enumerate(hatches if min(values.shape) > 1 else ()):
        here = (values.values == number).astype(float)
        if hatch and here.any():
            ax.contourf(xs, ys, here, levels=[0.5, 1.5], colors="none", hatches=[hatch])
        if 0 < here.sum() < here.size:
            ax.contour(xs, ys, here, levels=[0.5], colors="black", linewidths=0.5)
    ax.set_xlim(xs[0], xs[-1])
    ax.set_ylim(ys[0], ys[-1])
    ax.set_facecolor("white")
    return ax


def category_panel(categories: xr.DataArray, ax: Axes, x: str = "bandwidth", y: str = "write_rate") -> Axes:
    """Draw a plane with both axes labelled in the units of their quantities.

    Parameters
    ----------
    categories : DataArray
        As for :func:`category_plane`, with the coordinates of a sweep.
    ax : Axes
    x, y : str
        Names of the dims.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> sides = {"write_rate": [1e8, 1e9], "bandwidth": [1e8, 1e9]}
    >>> categories = xr.DataArray([[0, 1], [3, 1]], sides, tuple(sides))
    >>> category_panel(categories, Figure().subplots()).get_xlabel()
    'link (Gbit/s)'
    """
    category_plane(categories, ax, x, y)
    quantity_axis("x", ax, of(categories[x]))
    quantity_axis("y", ax, of(categories[y]))
    return ax


def category_legend(
    figure: Figure, present: set[int], lines: Mapping[str, Artist] | None = None, **where: Any
) -> Legend:
    """Add one legend of the categories that occur, and of lines drawn over them.

    Parameters
    ----------
    figure : Figure
    present : set of int
        Categories.
    lines : mapping of str to Artist, optional
        Lines of :func:`boundary`.
    **where
        As ``Figure.legend`` takes it.

    Returns
    -------
    Legend

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> [text.get_text() for text in category_legend(Figure(), {0, 3}).get_texts()]
    ['both converge', 'neither converges']
    """
    from matplotlib.patches import Patch

    handles: list[Artist] = [
        Patch(facecolor=CATEGORY_COLOURS[n], hatch=CATEGORY_HATCHES[n], edgecolor="black", label=CATEGORIES[n])
        for n in sorted(present)
    ]
    handles += list((lines or {}).values())
    return figure.legend(handles=handles, **where)


def boundary(ax: Axes, xs: Any, ys: Any, label: str, number: int = 0) -> Line2D:
    """Draw a derived boundary over a plane, with a white edge, visible on dark ground.

    Parameters
    ----------
    ax : Axes
        Of :func:`category_plane`.
    xs, ys : array
        In SI units. Values of `ys` beyond the frame, infinity too, are drawn above it.
    label : str
        For a legend.
    number : int, default 0
        Which line style, 0 to 2.

    Returns
    -------
    Line2D

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> sides = {"write_rate": [1e8, 1e9], "bandwidth": [1e8, 1e9]}
    >>> categories = xr.DataArray([[0, 1], [3, 1]], sides, tuple(sides))
    >>> ax = category_panel(categories, Figure().subplots())
    >>> boundary(ax, [1e8, 1e9], [3e8, 6e8], "derived").get_label()
    'derived'
    """
    import numpy as np
    from matplotlib.patheffects import Normal

    inside = np.minimum(ys, 3.0 * ax.get_ylim()[1])  # outside the frame, near enough to be drawn
    dashes: Any = ((0, (4, 1.6)), (0, (1, 1.4)), "-.")[number]
    (line,) = ax.plot(xs, inside, color="#D55E00", linestyle=dashes, linewidth=1.4, label=label)
    line.set_path_effects([_whole_edge(), Normal()])
    return line


def _whole_edge() -> Any:
    """A white edge without the gaps of its line, in which a line below would show."""
    from matplotlib.patheffects import Stroke

    class WholeEdge(Stroke):
        def draw_path(self, renderer: Any, gc: Any, *rest: Any) -> None:
            whole = renderer.new_gc()
            whole.copy_properties(gc)
            whole.set_dashes(0, None)
            super().draw_path(renderer, whole, *rest)
            whole.restore()

    return WholeEdge(linewidth=2.8, foreground="white")
