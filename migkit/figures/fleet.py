"""Migrations that shared one link: who had what of it, and when each ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.analysis.fleet import Fleet, Share
from migkit.figures.sources import SOURCES
from migkit.figures.style import LINE_COLOURS, PAGE_IN, style
from migkit.provenance import provenance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["fleet_figure", "when_each_ran", "who_had_what"]

_GBIT = 1e9 / 8
_NAMED = 5
"""Migrations whose areas are named; of more, neighbours are told apart by two tones."""


def who_had_what(shares: Sequence[Share], link: float, ax: Axes) -> Axes:
    """Draw the shares of the link over time, stacked in the order in which the migrations began.

    Parameters
    ----------
    shares : sequence of Share
        Of :class:`migkit.analysis.fleet.Fleet`.
    link : float
        Bandwidth of the link, bytes/s; a dashed line.
    ax : Axes

    Returns
    -------
    Axes

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = who_had_what([Share("a", 0.0, 2.0, 1e9), Share("b", 1.0, 3.0, 1e9)], 2e9, Figure().subplots())
    >>> ax.get_ylabel()
    'share of the link (Gbit/s)'
    """
    names = list(dict.fromkeys(share.name for share in shares))
    times = np.unique([time for share in shares for time in (share.from_s, share.to_s)])
    below = np.zeros(len(times))
    for number, name in enumerate(names):
        has = np.zeros(len(times))
        for share in shares:
            if share.name == name:
                has[(times >= share.from_s) & (times < share.to_s)] = share.bytes_per_s / _GBIT
        few = len(names) <= _NAMED
        colour = LINE_COLOURS[number] if few else ("#56B4E9", "#0072B2")[number % 2]
        ax.fill_between(times, below, below + has, step="post", facecolor=colour, alpha=0.75 if few else 1.0,
                        edgecolor="white", linewidth=0.3, label=name if few else None)  # fmt: skip
        below = below + has
    ax.axhline(link / _GBIT, color="0.2", linewidth=0.8, linestyle="--")
    ax.set(xlabel="time (s)", ylabel="share of the link (Gbit/s)", xlim=(times[0], times[-1]))
    ax.set_ylim(0, 1.08 * link / _GBIT)
    if len(names) <= _NAMED:
        ax.legend(loc="upper right")
    return ax


def when_each_ran(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw when each migration ran, one bar each; hatched ones did not complete.

    Parameters
    ----------
    table : DataFrame
        ``Fleet.table``.
    ax : Axes

    Returns
    -------
    Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"starts_s": [0.0], "ends_s": [2.0], "outcome": ["completed"]}, index=["vm0"])
    >>> when_each_ran(table, Figure().subplots()).get_xlabel()
    'time (s)'
    """
    from matplotlib.patches import Patch

    looks: dict[str, dict[str, Any]] = {
        "completed": {"facecolor": "#56B4E9", "hatch": ""},
        "did not complete": {"facecolor": "#F2F2F2", "hatch": "////"},
    }
    done = (table["outcome"] == "completed").to_numpy()
    for (label, look), which in zip(looks.items(), (done, ~done), strict=True):
        places = np.flatnonzero(which)
        some = table.iloc[places]
        if len(some):
            ax.barh(places, some["ends_s"] - some["starts_s"], left=some["starts_s"], height=0.8, edgecolor="0.2",
                    linewidth=0.4, label=label, **look)  # fmt: skip
    every = max(1, len(table) // 12)
    ax.set_yticks(range(0, len(table), every), [str(name) for name in table.index[::every]])
    ax.set(xlabel="time (s)", ylabel="", xlim=(0, float(table["ends_s"].max())))
    ax.invert_yaxis()
    if not done.all():
        ax.legend(handles=[Patch(edgecolor="0.2", linewidth=0.4, label=label, **look) for label, look in looks.items()],
                  loc="best")  # fmt: skip
    return ax


def fleet_figure(found: Fleet) -> Figure:
    """Draw a fleet: who had what of the link above, when each migration ran below.

    Parameters
    ----------
    found : Fleet
        Of :func:`migkit.fleet`.

    Returns
    -------
    Figure
        Which :func:`migkit.plot.save` writes.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, fleet
    >>> idle = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 Gbit/s"))
    >>> len(fleet_figure(fleet([idle] * 3, "10 Gbit/s", parallel=2)).axes)
    2
    """
    import matplotlib.pyplot as plt

    with style():
        height = 1.9 + min(3.2, 0.7 + 0.16 * len(found.scenarios))
        figure, axes = plt.subplots(2, 1, figsize=(PAGE_IN, height), sharex=True, layout="constrained",
                                    height_ratios=[1.6, height - 1.9])  # fmt: skip
        who_had_what(found.shares, found.link, axes[0]).set_xlabel("")
        when_each_ran(found.table, axes[1])
    text = f"Shares of a link of {found.link / _GBIT:g} Gbit/s (dashed) over time: {found.sentence}"
    scenarios = {name: scenario.to_toml() for name, scenario in found.scenarios.items()}
    SOURCES[figure] = {**provenance(found.engine, found.seed, ""), "caption": text, "scenarios": scenarios,
                       "panels": [text]}  # fmt: skip
    return figure
