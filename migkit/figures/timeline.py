"""One migration over time: what is pending, what the threshold is, and what each device was given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migkit.figures.style import LINE_COLOURS, LINE_STYLES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MIB = 2**20
_OF_THE_LOOP = ("estimate_bytes", "exact_bytes", "threshold_bytes", "pending_bytes")


def thinned(timeline: pd.DataFrame, buckets: int = 700) -> pd.DataFrame:
    """Fewer turns that draw the same lines: of each bucket of turns those with the least and the most pending.

    What was sent in the turns between is added to the next one that is kept, so that sums over time stay; a turn that
    is kept counts as synced if one since the last did.

    Parameters
    ----------
    timeline : DataFrame
        Of :class:`migkit.simulate.SimulatedMigration`.
    buckets : int
        At most two turns of each are kept, and the first and the last of all.

    Returns
    -------
    DataFrame
        `timeline` itself if it is short enough.
    """
    import numpy as np

    turns = len(timeline)
    if turns <= 2 * buckets:
        return timeline
    width = -(-turns // buckets)
    pending = timeline.pending_bytes.to_numpy()
    padded = np.pad(pending, (0, -turns % width), mode="edge").reshape(-1, width)
    first = np.arange(len(padded)) * width
    extremes = np.concatenate([first + padded.argmin(axis=1), first + padded.argmax(axis=1), [0, turns - 1]])
    kept = np.unique(np.minimum(extremes, turns - 1))
    since = np.concatenate([[0], kept[:-1] + 1])
    thin = timeline.iloc[kept].copy()
    for column in ["ram_pages", *given_columns(timeline)]:
        thin[column] = np.add.reduceat(timeline[column].fillna(0).clip(lower=0).to_numpy(), since)
    thin["synced"] = np.logical_or.reduceat(timeline.synced.to_numpy(dtype=bool), since)
    return thin


def given_columns(timeline: pd.DataFrame) -> list[str]:
    """The columns of what devices behind RAM were given."""
    return [column for column in timeline.columns if column.endswith("_bytes") and column not in _OF_THE_LOOP]


def pending_over_time(timeline: pd.DataFrame, ax: Axes) -> Axes:
    """Pending bytes as the loop sees them, and the threshold they must get under; syncs as ticks below.

    Parameters
    ----------
    timeline : DataFrame
        Of :class:`migkit.simulate.SimulatedMigration`: ``time_s``, ``pending_bytes``, ``threshold_bytes``, ``synced``.
    ax : Axes
        Gets a logarithmic y axis in MiB.
    """
    ax.plot(timeline.time_s, timeline.pending_bytes / MIB, color=LINE_COLOURS[0], linestyle="-", label="pending")
    known = timeline[timeline.threshold_bytes > 0]
    threshold = known.threshold_bytes / MIB
    ax.step(known.time_s, threshold, where="post", color=LINE_COLOURS[1], linestyle="--", label="threshold")
    syncs = timeline.time_s[timeline.synced.astype(bool)]
    ax.plot(
        syncs, [0.02] * len(syncs), "|", color="black", markersize=5, markeredgewidth=0.6, label="sync",
        transform=ax.get_xaxis_transform(),
    )  # fmt: skip
    ax.set_yscale("log")
    ax.set_ylabel("pending (MiB)")
    ax.set_xlabel("time (s)")
    return ax


def given_over_time(timeline: pd.DataFrame, ax: Axes) -> Axes:
    """What each device has been given since the start, MiB: a flat line is a device that waits.

    Parameters
    ----------
    timeline : DataFrame
        ``time_s``, ``ram_pages`` (4 KiB) and one ``<device>_bytes`` column a device behind RAM.
    ax : Axes
    """
    given = {"ram": timeline.ram_pages.clip(lower=0) * 4096}
    for column in given_columns(timeline):
        given[column.removesuffix("_bytes")] = timeline[column].fillna(0).clip(lower=0)
    for number, (name, sent) in enumerate(given.items()):
        look = {"color": LINE_COLOURS[number % 5], "linestyle": LINE_STYLES[number % 5]}
        ax.plot(timeline.time_s, sent.cumsum() / MIB, label=name, **look)
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylabel("given so far (MiB)")
    ax.set_xlabel("time (s)")
    return ax
