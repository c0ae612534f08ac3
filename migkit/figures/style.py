"""The style of all figures: widths, colours that differ in grey too, hatches and markers, axes with units."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migkit.results import legible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMN_IN, PAGE_IN = 3.5, 7.16
"""Width of one column and of the page, inches (IEEE)."""

# The palette of Okabe and Ito, safe for colour-blind readers; from light to dark, distinct in grey too.
CATEGORY_COLOURS = ("#F2F2F2", "#56B4E9", "#E69F00", "#4D4D4D")
CATEGORY_HATCHES = ("", "////", "xxxx", "")
LINE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v")
_WIDTHS = (2.2, 1.3, 1.2, 1.1, 1.0)
_SIZES = (3.0, 5.0, 6.0, 6.6, 7.4)
NO_INTERVAL = "expected engine, no interval"
"""Label of results without randomness, for which no uncertainty is drawn."""


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Draw and save in migkit's style; Matplotlib's own settings are restored afterwards.

    Examples
    --------
    >>> import matplotlib
    >>> with style():
    ...     matplotlib.rcParams["font.size"]
    8.0
    """
    import matplotlib as mpl

    settings = mpl.rc_params_from_file(str(Path(__file__).with_name("migkit.mplstyle")), use_default_template=False)
    with mpl.rc_context(settings):
        yield


def label_of(name: str) -> str:
    """A name as a label that shows it: Matplotlib takes dollars for formulas, and hides what begins with ``_``.

    Examples
    --------
    >>> label_of("$x^$").count("$"), label_of("_gpu")
    (2, ' _gpu')
    """
    text = legible(name, 40).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def line_look(number: int) -> dict[str, Any]:
    """Colour, line style and marker of a line that may coincide with those before it.

    The first is the widest and has filled markers; those of the next ones are larger and hollow, so that all are seen
    where they have the same values.

    Parameters
    ----------
    number : int
        From 0; the looks repeat after five.

    Returns
    -------
    dict
        Arguments of ``Axes.plot``.

    Examples
    --------
    >>> line_look(0)["marker"], line_look(1)["marker"], line_look(1)["markerfacecolor"]
    ('o', 's', 'none')
    """
    place = number % len(LINE_COLOURS)
    colour = LINE_COLOURS[place]
    return {
        "color": colour,
        "linestyle": LINE_STYLES[place],
        "linewidth": _WIDTHS[place],
        "marker": MARKERS[place],
        "markersize": _SIZES[place],
        "markeredgecolor": colour,
        "markeredgewidth": 0.8,
        "markerfacecolor": "none" if place else colour,
        "zorder": 2 + 0.1 * place,
    }


def log_axis(axis: str, ax: Axes, unit: str, per_unit: float, label: str) -> None:
    """Make an axis logarithmic, with ticks at round numbers of its unit (:class:`~migkit.figures.ticks.RoundTicks`).

    Parameters
    ----------
    axis : {"x", "y"}
    ax : Axes
        Its data and limits are in SI units.
    unit : str
        Unit of the tick labels; may be empty.
    per_unit : float
        The unit in SI units.
    label : str
        Of the axis, without the unit.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> ax.set_xlim(1e9 / 8, 100e9 / 8)
    (125000000.0, 12500000000.0)
    >>> log_axis("x", ax, "Gbit/s", 1e9 / 8, "link")
    >>> [label.get_text() for label in ax.get_xticklabels()], ax.get_xlabel()
    (['1', '10', '100'], 'link (Gbit/s)')
    """
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    from migkit.figures.ticks import RoundTicks

    if getattr(ax, f"get_{axis}scale")() != "log":
        getattr(ax, f"set_{axis}scale")("log")
    target = getattr(ax, f"{axis}axis")
    target.set_major_locator(RoundTicks(per_unit))
    target.set_major_formatter(FuncFormatter(lambda value, _: f"{value / per_unit:g}"))
    target.set_minor_locator(NullLocator())
    target.set_minor_formatter(NullFormatter())
    getattr(ax, f"set_{axis}label")(f"{label} ({unit})" if label and unit else label)
