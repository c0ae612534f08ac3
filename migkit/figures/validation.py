"""Predicted against measured total time, one mark per configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migkit.figures.style import LINE_COLOURS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LOOKS = {
    True: ("held by link or max-bandwidth", "o", LINE_COLOURS[0], LINE_COLOURS[0]),
    False: ("unpaced loopback", "s", "none", LINE_COLOURS[1]),
}
"""Legend, marker, face and edge of the two classes; marker and fill tell them apart in grey."""


def validation(configurations: pd.DataFrame, ax: Axes) -> Axes:
    """Draw predicted against measured total time.

    Parameters
    ----------
    configurations : DataFrame
        From :func:`migkit.qemu.validation.by_configuration`: ``held``, ``total_ms_measured`` and
        ``total_ms_predicted`` (ms, medians over repeats); rows that did not complete are left out.
    ax : Axes
        Where to draw.

    Returns
    -------
    Axes
    """
    from matplotlib.ticker import NullLocator

    done = configurations.dropna(subset=["total_ms_measured", "total_ms_predicted"])
    seconds = done[["total_ms_measured", "total_ms_predicted"]] / 1e3
    low, high = 0.85 * seconds.min().min(), 1.18 * seconds.max().max()
    ax.plot([low, high], [low, high], color="0.6", linewidth=0.8, zorder=1, label="equal")
    for held, (label, marker, face, edge) in LOOKS.items():
        rows = seconds[done["held"] == held]
        ax.scatter(
            rows["total_ms_measured"],
            rows["total_ms_predicted"],
            s=16,
            marker=marker,
            facecolor=face,
            edgecolor=edge,
            linewidth=0.8,
            zorder=3 if held else 2,
            label=label,
        )
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20) if low <= tick <= high]
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_minor_locator(NullLocator())
    ax.set(xlabel="measured total time (s)", ylabel="predicted total time (s)")
    ax.legend(frameon=False, loc="upper left", handletextpad=0.4, borderaxespad=0.2,
              title="medians of repeats, no interval", alignment="left")  # fmt: skip
    return ax
