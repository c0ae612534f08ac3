"""Migrations that shared one link: who had what of it, and when each ran."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.analysis.fleet import Fleet, Share
from migkit.figures.sources import SOURCES
from migkit.figures.style import LINE_COLOURS, PAGE_IN, label_of, style
from migkit.provenance import provenance

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["fleet_figure", "when_each_ran", "who_had_what"]

_GBIT = 1e9 / 8
_NAMED = 5
"""Migrations whose areas are named; of more, neighbours are told apart by two tones."""
_TONES = ("#56B4E9", "#0072B2")
_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\")
_BARS = 48
"""Bars that have their names; of more some have."""
_BAR_IN = 0.135
"""Height of a bar and its name, inches."""


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
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.patches import Patch

    names = list(dict.fromkeys(share.name for share in shares))
    few = len(names) <= _NAMED
    handles: list[Any] = []
    times = np.unique([time for share in shares for time in (share.from_s, share.to_s)])
    below = np.zeros(len(times))
    for number, name in enumerate(names):
        has = np.zeros(len(times))
        for share in shares:
            if share.name == name:
                has[(times >= share.from_s) & (times < share.to_s)] = share.bytes_per_s / _GBIT
        look = {"facecolor": LINE_COLOURS[number], "alpha": 0.75} if few else {"facecolor": _TONES[number % 2]}
        if few:
            look["hatch"] = _HATCHES[number]
        area = ax.fill_between(times, below, below + has, step="post", edgecolor="white", linewidth=0.3, **look)
        if few:
            area.set_label(label_of(name))
            handles.append(area)
        below = below + has
    labels = [str(area.get_label()) for area in handles]
    if not few:
        handles.append(tuple(Patch(facecolor=tone) for tone in _TONES))
        labels.append(f"{len(names)} migrations, those that began first below")
    handles.append(ax.axhline(link / _GBIT, color="0.2", linewidth=0.8, linestyle="--"))
    labels.append(f"link, {link / _GBIT:.3g} Gbit/s")
    ax.set(xlabel="time (s)", ylabel="share of the link (Gbit/s)", xlim=(times[0], times[-1]))
    ax.set_ylim(0, 1.08 * link / _GBIT)
    ax.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(handles), borderaxespad=0.2,
              handler_map={tuple: HandlerTuple(ndivide=None)})  # fmt: skip
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
    every = -(-len(table) // _BARS)
    ax.set_yticks(range(0, len(table), every), [label_of(str(name)) for name in table.index[::every]])
    named = f"migration, one of {every} named" if every > 1 else ""
    ax.set(xlabel="time (s)", ylabel=named, xlim=(0, float(table["ends_s"].max())), ylim=(-0.6, len(table) - 0.4))
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
        height = 2.1 + 0.6 + _BAR_IN * min(len(found.scenarios), _BARS)
        figure, axes = plt.subplots(2, 1, figsize=(PAGE_IN, height), sharex=True, layout="constrained",
                                    height_ratios=[1.7, height - 2.1])  # fmt: skip
        who_had_what(found.shares, found.link, axes[0]).set_xlabel("")
        when_each_ran(found.table, axes[1])
    text = f"Shares of a link of {found.link / _GBIT:g} Gbit/s (dashed) over time: {found.sentence}"
    scenarios = {name: scenario.to_toml() for name, scenario in found.scenarios.items()}
    SOURCES[figure] = {**provenance(found.engine, found.seed, ""), "caption": text, "scenarios": scenarios,
                       "panels": [text]}  # fmt: skip
    return figure
