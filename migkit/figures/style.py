"""How all figures look: widths, colours with a second sign for print in grey, and axes with units."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMN_IN, PAGE_IN = 3.5, 7.16
"""Width of one column and of the page, inches (IEEE)."""

# Okabe and Ito's colours, told apart by the colour-blind; light to dark, so that grey tells them apart too
CATEGORY_COLOURS = ("#F2F2F2", "#56B4E9", "#E69F00", "#4D4D4D")
CATEGORY_HATCHES = ("", "////", "xxxx", "")
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")
NO_INTERVAL = "expected engine, no interval"
"""Said where nothing is random, so that no uncertainty is drawn."""


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw and save in migkit's style; Matplotlib is left as it was."""
    import matplotlib as mpl

    settings = mpl.rc_params_from_file(str(Path(__file__).with_name("migkit.mplstyle")), use_default_template=False)
    with mpl.rc_context(settings):
        yield


def log_axis(axis: str, ax: Axes, unit: str, per_unit: float, label: str) -> None:
    """Make ``axis`` ("x" or "y") logarithmic, with values in SI and ticks at powers of ten of ``unit``."""
    import numpy as np
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    getattr(ax, f"set_{axis}scale")("log")
    low, high = getattr(ax, f"get_{axis}lim")()
    powers = np.arange(np.floor(np.log10(low / per_unit)), np.ceil(np.log10(high / per_unit)) + 1)
    ticks = per_unit * 10.0**powers
    inside = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
    if len(inside) < 3:
        ticks = np.sort(np.concatenate([ticks, 2 * ticks, 5 * ticks]))
        inside = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
    target = getattr(ax, f"{axis}axis")
    target.set_major_locator(FixedLocator(inside))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value / per_unit:g}"))
    target.set_minor_locator(NullLocator())
    target.set_minor_formatter(NullFormatter())
    getattr(ax, f"set_{axis}label")(f"{label} ({unit})" if label and unit else label)
