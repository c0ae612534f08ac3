"""A heat map: the scale of its colours, and the ticks of its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.figures import quantities
from migkit.figures.fitting import fitting, is_logarithmic
from migkit.figures.style import label_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_MOST_CELLS = 7


def _three_digits(value: float) -> str:
    """A number with three digits, as people write it where it has few more."""
    return f"{float(f'{value:.3g}'):.0f}" if 1e3 <= abs(value) < 1e5 else f"{value:.3g}"


def colour_scale(values: np.ndarray) -> tuple[Any, dict[str, Any]]:
    """The scale of the colours, and the ticks of its bar: 1, 2 and 5 times powers of ten if it is logarithmic.

    It is where the numbers are above 0 and span more than a factor of ten.

    Examples
    --------
    >>> colour_scale(np.array([1.0, 5.0])), type(colour_scale(np.array([1.0, 50.0]))[0]).__name__
    ((None, {}), 'LogNorm')
    """
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter, LogLocator

    known = values[np.isfinite(values)]
    if not known.size or known.min() <= 0 or known.max() <= 10 * known.min():
        return None, {}
    steps = (1,) if known.max() > 1e3 * known.min() else (1, 2, 5)
    text = FuncFormatter(lambda value, _: _three_digits(value))
    return LogNorm(known.min(), known.max()), {"ticks": LogLocator(subs=steps, numticks=99), "format": text}


def cell_ticks(ax: Axes, axis: str, coordinate: xr.DataArray, backwards: bool = False) -> None:
    """Label the cells of a heat map, at most seven; of more numbers, round ones where they lie between the cells.

    Examples
    --------
    >>> import xarray as xr
    >>> from matplotlib.figure import Figure
    >>> link = xr.DataArray(np.geomspace(1.25e8, 1.25e10, 20), attrs={"long_name": "link.bandwidth", "units": "B/s"})
    >>> ax = Figure().subplots()
    >>> cell_ticks(ax, "x", link)
    >>> [text.get_text() for text in ax.get_xticklabels()]
    ['1', '10', '100']
    """
    middles = np.arange(coordinate.size)
    numbers = coordinate.dtype.kind in "iuf"
    what = fitting(quantities.of(coordinate), coordinate.values) if numbers else quantities.of(coordinate)
    every = -(-coordinate.size // _MOST_CELLS)
    steps = np.diff(coordinate.values) if numbers else np.zeros(1)
    if every > 1 and ((steps > 0).all() or (steps < 0).all()):
        values = coordinate.values.astype(float) / what.per_unit
        ticks = _round_numbers(values, is_logarithmic(coordinate))
        up = np.argsort(values)
        scaled = np.log if is_logarithmic(coordinate) else np.asarray
        places_ = np.interp(scaled(ticks), scaled(values[up]), middles[up].astype(float))
        texts = [_three_digits(tick) for tick in ticks]
    else:
        chosen = middles[::every]
        places_ = chosen.astype(float)
        some = coordinate.values[chosen]
        texts = [_three_digits(each / what.per_unit) for each in some] if numbers else [label_of(str(e)) for e in some]
    at = coordinate.size - places_ - 0.5 if backwards else places_ + 0.5
    getattr(ax, f"set_{axis}ticks")(at, texts, rotation=0)
    getattr(ax, f"set_{axis}label")(what.axis_label)


def _round_numbers(values: np.ndarray, logarithmic: bool) -> np.ndarray:
    """A few round numbers from the least to the largest of some values."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    low, high = float(values.min()), float(values.max())
    found = np.zeros(0)
    for locator in (
        *((LogLocator(subs=(1,), numticks=99), LogLocator(subs=(1, 2, 5), numticks=99)) if logarithmic else ()),
        MaxNLocator(nbins=_MOST_CELLS - 1),
    ):
        if found.size < 3:
            ticks = np.asarray(locator.tick_values(low, high))
            found = ticks[(ticks >= low * (1 - 1e-9)) & (ticks <= high * (1 + 1e-9))]
    return found
