"""Marks at the upper edge of a panel of lines, where migrations do not have the number that is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.figures.fitting import places
from migkit.figures.style import line_look

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_MOST_WITHIN = 4
"""Names in a legend within the panel."""
_NEVER = (("x", "never"), ("+", "never in some"))
"""Marker at the upper edge and its name: where no migration has the number, and where some have it."""


def mark_never(ax: Axes, coordinate: xr.DataArray, known: np.ndarray, number: int) -> None:
    """Mark at the upper edge where the number is never, a row for each line.

    Parameters
    ----------
    ax : Axes
    coordinate : DataArray
        The x axis.
    known : array of bool
        Whether it has a number, along x, and along replicates if there are any.
    number : int
        Of the line, from 0: its colour, and its row.

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> mark_never(ax, xr.DataArray([1.0, 2.0, 3.0], dims="x"), np.array([False, False, True]), 0)
    >>> lines_legend(ax)
    False
    >>> [text.get_text() for text in ax.get_legend().get_texts()]
    ['never']
    """
    from matplotlib.transforms import ScaledTranslation

    shares = known.astype(float) if known.ndim == 1 else known.mean(axis=1)
    if not shares.any():
        return  # the legend says so
    xs = places(coordinate).values
    down = ScaledTranslation(0, -(4 + 6 * number) / 72, ax.figure.dpi_scale_trans)
    for (marker, name), which in zip(_NEVER, (shares == 0, (shares > 0) & (shares < 1)), strict=True):
        if which.any():
            ax.plot(xs[which], np.ones(which.sum()), linestyle="", marker=marker, color=line_look(number)["color"],
                    markersize=4, label=f"_{name}", transform=ax.get_xaxis_transform() + down)  # fmt: skip


def free_rows(ax: Axes, lines: int) -> None:
    """Move the upper edge up, where never is marked, so that no line is there.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> free_rows(ax, 2)
    >>> [float(end) for end in ax.get_ylim()]  # nothing is marked
    [0.0, 1.0]
    """
    if any(str(line.get_label()) in {f"_{name}" for _, name in _NEVER} for line in ax.lines):
        points = 72 * ax.get_position().height * ax.figure.get_figheight()  # type: ignore[union-attr]
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + (high - low) * min(0.5, (2 + 6 * lines) / points))


def lines_legend(ax: Axes, title: str = "") -> bool:
    """Name the lines, and the marks of :func:`mark_never`; many below the panel, which is returned.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> line = ax.plot([1, 2], label="serialized")
    >>> lines_legend(ax, "policy")
    False
    >>> ax.get_legend().get_title().get_text()
    'policy'
    """
    from matplotlib.lines import Line2D

    handles, labels = ax.get_legend_handles_labels()
    there = {str(line.get_label()) for line in ax.lines}
    for marker, name in _NEVER:
        if f"_{name}" in there:
            handles.append(Line2D([], [], linestyle="", marker=marker, markersize=4, color="0.3"))
            labels.append(f"{name}, a row each" if len(handles) > 2 else name)
    beside: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.45, -0.18), "ncols": 2}
    many = len(handles) > _MOST_WITHIN  # which would cover lines
    if title or labels:
        ax.legend(handles, labels, title=title or None, **(beside if many else {}))
    return many
