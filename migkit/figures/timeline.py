"""One migration over time: pending bytes, the threshold, what each device has sent, and what was changed meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migkit.figures.style import (
    CATEGORY_COLOURS,
    CATEGORY_HATCHES,
    LINE_COLOURS,
    LINE_STYLES,
    MARKERS,
    label_of,
    log_axis,
)
from migkit.scenario.versions import LOOP_SIZES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MIB = 2**20
_STEPS = 60
_LOOP_COLUMNS = {f"{name}_bytes" for name in LOOP_SIZES}


def thinned(timeline: pd.DataFrame, buckets: int = 700) -> pd.DataFrame:
    """Reduce a timeline to fewer iterations that draw the same lines.

    Of each bucket of iterations those with the least and the most pending are kept. What the iterations in between sent
    is added to the next one that is kept, so that sums over time stay the same; an iteration that is kept counts as
    synced if one of them synced.

    Parameters
    ----------
    timeline : DataFrame
        Of :class:`migkit.run.simulate.SimulatedMigration`.
    buckets : int, default 700
        Each keeps at most two iterations; the first and the last iteration are always kept.

    Returns
    -------
    DataFrame
        `timeline` itself if it is short enough.

    Examples
    --------
    >>> import migkit
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> timeline = migkit.simulate(scenario).timeline
    >>> len(thinned(timeline, buckets=10)) <= 22 < len(timeline)
    True
    """
    import numpy as np

    iterations = len(timeline)
    if iterations <= 2 * buckets:
        return timeline
    width = -(-iterations // buckets)
    pending = timeline.pending_bytes.to_numpy()
    padded = np.pad(pending, (0, -iterations % width), mode="edge").reshape(-1, width)
    first = np.arange(len(padded)) * width
    extremes = np.concatenate([first + padded.argmin(axis=1), first + padded.argmax(axis=1), [0, iterations - 1]])
    kept = np.unique(np.minimum(extremes, iterations - 1))
    since = np.concatenate([[0], kept[:-1] + 1])
    thin = timeline.iloc[kept].copy()
    for column in ["ram_pages", *given_columns(timeline)]:
        thin[column] = np.add.reduceat(timeline[column].fillna(0).to_numpy(), since)
    thin["synced"] = np.logical_or.reduceat(timeline.synced.to_numpy(dtype=bool), since)
    return thin


def given_columns(timeline: pd.DataFrame) -> list[str]:
    """The columns of the bytes that each device sent, in list order.

    Examples
    --------
    >>> import migkit
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> timeline = migkit.simulate(scenario).timeline
    >>> given_columns(timeline)
    ['ram_bytes']
    """
    return [column for column in timeline.columns if column.endswith("_bytes") and column not in _LOOP_COLUMNS]


def pending_over_time(timeline: pd.DataFrame, ax: Axes) -> Axes:
    """Draw pending bytes, as the loop knows them, and the threshold; syncs are ticks above the frame.

    A threshold that falls far below what was ever pending, as after a window in which nothing was sent, leaves the
    frame: a triangle at its lower edge says where.

    Parameters
    ----------
    timeline : DataFrame
        Of :class:`migkit.run.simulate.SimulatedMigration`: ``time_s``, ``pending_bytes``, ``threshold_bytes``,
        ``synced``.
    ax : Axes
        Gets a logarithmic y axis in MiB.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import migkit
    >>> from matplotlib.figure import Figure
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> timeline = migkit.simulate(scenario).timeline
    >>> pending_over_time(timeline, Figure().subplots()).get_ylabel()
    'pending (MiB)'
    """
    from matplotlib.transforms import Bbox, ScaledTranslation, TransformedBbox

    ax.plot(timeline.time_s, timeline.pending_bytes / MIB, color=LINE_COLOURS[0], linestyle="-", label="pending")
    known = timeline[(timeline.threshold_bytes > 0).cummax()]
    least = _least(timeline.pending_bytes, known.threshold_bytes)
    below = known.threshold_bytes < least
    entered = below & ~below.shift(fill_value=False)
    threshold = known.threshold_bytes.clip(lower=least).where(entered | ~below) / MIB
    ax.step(known.time_s, threshold, where="post", color=LINE_COLOURS[1], linestyle="--", label="threshold")
    syncs = timeline.time_s[timeline.synced.astype(bool)]
    points = ScaledTranslation(0, 2.3 / 72, ax.figure.dpi_scale_trans)  # above the frame, where they cover no line
    (ticks,) = ax.plot(
        syncs, [1.0] * len(syncs), "|", color="black", markersize=3, markeredgewidth=0.6, label="sync",
        transform=ax.get_xaxis_transform() + points,
    )  # fmt: skip
    ticks.set_clip_box(TransformedBbox(Bbox([[0, 0], [1, 2]]), ax.transAxes))
    log_axis("y", ax, "MiB", 1, "pending")
    if below.any():
        ax.plot(
            known.time_s[entered], threshold[entered], linestyle="", marker=MARKERS[4], color=LINE_COLOURS[1],
            markersize=5, label="threshold below the frame",
        )  # fmt: skip
    ax.set_xlabel("time (s)")
    return ax


def _least(pending: pd.Series, threshold: pd.Series) -> float:
    """Lower end of the frame: below what is ever pending, and below the threshold as it mostly is."""
    shown = [float(each) for each in (pending[pending > 0].min(), threshold.median()) if each > 0]
    return min(shown) / 2 if shown else 0.0


def given_over_time(timeline: pd.DataFrame, ax: Axes) -> Axes:
    """Draw what each device has sent since the start, MiB: a flat line is a device that waits.

    Parameters
    ----------
    timeline : DataFrame
        ``time_s`` and one ``<device>_bytes`` column a device.
    ax : Axes
        Gets a y axis that is linear up to 1 MiB and logarithmic above.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import migkit
    >>> from matplotlib.figure import Figure
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> timeline = migkit.simulate(scenario).timeline
    >>> given_over_time(timeline, Figure().subplots()).get_ylabel()
    'sent so far (MiB)'
    """
    for number, column in enumerate(given_columns(timeline)):
        look: dict[str, Any] = {"color": LINE_COLOURS[number % 5], "linestyle": LINE_STYLES[number % 5]}
        sent = timeline[column].fillna(0).cumsum() / MIB
        ax.plot(timeline.time_s, sent, label=label_of(column.removesuffix("_bytes")), **look)
    if ax.get_yscale() != "symlog":
        ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_ylabel("sent so far (MiB)")
    ax.set_xlabel("time (s)")
    return ax


LIMITS = {
    "downtime-limit": ("downtime limit (ms)", 1e3),
    "max-bandwidth": ("MB/s", 1e-6),
    "link bandwidth": ("MB/s", 1e-6),
}
"""What is changed in steps: label of its axis, and the factor from SI units."""


def limit_over_time(changes: pd.DataFrame, what: str, start: float, end_s: float, ax: Axes) -> Axes:
    """Draw a limit that was changed while the migration ran, as steps with a marker at each change.

    Parameters
    ----------
    changes : DataFrame
        Of :class:`migkit.run.simulate.SimulatedMigration`: ``time_s``, ``what``, ``value``.
    what : str
        One of :data:`LIMITS`.
    start : float
        Its value before the first change: seconds or bytes/s. A max-bandwidth of 0, which is no limit, is not drawn.
    end_s : float
        End of the migration, seconds.
    ax : Axes
        Gets a y axis from 0.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import migkit
    >>> from matplotlib.figure import Figure
    >>> guest = migkit.Guest(ram="1 GiB")
    >>> scenario = migkit.Scenario(guest=guest, link=migkit.Link(bandwidth="1 Gbit/s"), management="proxmox")
    >>> found = migkit.simulate(scenario)
    >>> limit_over_time(found.changes, "downtime-limit", 0.3, found.verdict_time_s, Figure().subplots()).get_ylabel()
    'downtime limit (ms)'
    """
    import numpy as np

    number = list(LIMITS).index(what)
    label, factor = LIMITS[what]
    here = changes[changes["what"] == what]
    times = np.concatenate([[0.0], here["time_s"], [end_s]])
    values = factor * np.concatenate([[start], here["value"], here["value"].tail(1) if len(here) else [start]])
    if what == "max-bandwidth":
        values[values == 0.0] = np.nan
    look: dict[str, Any] = {"color": LINE_COLOURS[number], "linestyle": LINE_STYLES[number]}
    ax.step(times, values, where="post", label=what, **look)
    ax.plot(times[1:-1], values[1:-1], marker=MARKERS[number], markersize=3, linestyle="", color=LINE_COLOURS[number])
    ax.set_ylim(0, 1.08 * ax.dataLim.y1)
    ax.set_ylabel(label)
    ax.set_xlabel("time (s)")
    return ax


def commands_over_time(changes: pd.DataFrame, ax: Axes) -> Axes:
    """Draw a vertical line where the VM was stopped, post-copy started, or the migration cancelled.

    Parameters
    ----------
    changes : DataFrame
        As :func:`limit_over_time` takes it.
    ax : Axes

    Returns
    -------
    Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> changes = pd.DataFrame({"time_s": [2.0], "what": ["stop"], "value": [float("nan")]})
    >>> len(commands_over_time(changes, Figure().subplots()).lines)
    1
    """
    for number, command in enumerate(("stop", "migrate_cancel", "migrate-start-postcopy")):
        for time in changes.loc[changes["what"] == command, "time_s"]:
            ax.axvline(time, color="black", linestyle=(":", "-", "-.")[number], linewidth=0.9, label=command)
    return ax


def shares(timeline: pd.DataFrame, steps: int = _STEPS) -> pd.DataFrame:
    """Compute the share of each device in the bytes sent, in equal steps of time.

    Parameters
    ----------
    timeline : DataFrame
        Of :class:`migkit.run.simulate.SimulatedMigration`: ``time_s`` and one ``<device>_bytes`` column a device.
    steps : int, default 60
        Steps from the first iteration to the last, 1 or more.

    Returns
    -------
    DataFrame
        A column a device, from 0 to 1, or ``NaN`` where nothing was sent; more than four devices are summed up as RAM
        and all others. The index is the start of each step, seconds; ``attrs["step_s"]`` its length.

    Examples
    --------
    >>> import migkit
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> timeline = migkit.simulate(scenario).timeline
    >>> float(shares(timeline)["ram"].iloc[0])
    1.0
    """
    import numpy as np
    import pandas as pd

    edges = np.linspace(timeline.time_s.iloc[0], timeline.time_s.iloc[-1], steps + 1)
    step = np.clip(np.searchsorted(edges, timeline.time_s, "right") - 1, 0, steps - 1)
    given = timeline[given_columns(timeline)].fillna(0).groupby(step).sum().reindex(range(steps), fill_value=0)
    given.columns = given.columns.str.removesuffix("_bytes")
    if len(given.columns) > len(CATEGORY_COLOURS):
        others = given.drop(columns="ram")
        given = pd.DataFrame({"ram": given["ram"], f"{len(others.columns)} other devices": others.sum(axis=1)})
    share = given.div(given.sum(axis=1).replace(0, np.nan), axis=0)
    share.index = pd.Index(edges[:-1], name="time_s")
    share.attrs["step_s"] = float(edges[1] - edges[0])
    return share


def shares_over_time(share: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share of each device in the bytes sent, stacked, with RAM on top.

    Parameters
    ----------
    share : DataFrame
        Of :func:`shares`.
    ax : Axes
        Gets a y axis from 0 to 100 %.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import migkit
    >>> from matplotlib.figure import Figure
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> timeline = migkit.simulate(scenario).timeline
    >>> shares_over_time(shares(timeline), Figure().subplots()).get_ylabel()
    'share of bytes sent (%)'
    """
    import numpy as np

    edges = np.append(share.index, share.index[-1] + share.attrs["step_s"])
    below = np.zeros(len(share))
    names = ["ram", *(name for name in share if name != "ram")]
    # RAM on top, the first device next to it
    for number, name in reversed(list(enumerate(names))):
        above = below + 100 * share[name].fillna(0).to_numpy()
        look: dict[str, Any] = {
            "facecolor": CATEGORY_COLOURS[number] if number else "0.8",  # RAM: not so light that its panel looks empty
            "hatch": CATEGORY_HATCHES[number],
            "edgecolor": "black",
        }
        ax.stairs(above, edges, baseline=below, fill=True, linewidth=0.4, label=label_of(name), **look)
        below = above
    if bool((share["ram"].fillna(1) == 1).all()):
        ax.text(0.5, 0.5, "RAM alone: no device sends", transform=ax.transAxes, ha="center", va="center", fontsize=7)
    ax.set_xlim(0, edges[-1])
    ax.set_ylim(0, 100)
    ax.set_ylabel("share of bytes sent (%)")
    ax.set_xlabel("time (s)")
    return ax
