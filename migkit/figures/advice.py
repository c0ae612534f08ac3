"""What settings cost that meet the demands of an advice: time, downtime, and how far the guest is slowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migkit.figures.sources import SOURCES
from migkit.figures.style import PAGE_IN, log_axis, style
from migkit.provenance import provenance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from migkit.analysis.advise import Advice

__all__ = ["advice_figure", "settings_that_meet"]


def settings_that_meet(found: Advice, ax: Axes) -> Axes:
    """Draw downtime over total time of the settings that meet the demands, one marker each.

    Those that no other beats are discs with an edge: the more the guest is slowed, the larger and the lighter, so that
    a smaller one is seen on a larger one. Those that are beaten are grey crosses.

    Parameters
    ----------
    found : Advice
        Of :func:`migkit.advise`.
    ax : Axes
        Gets a logarithmic x axis, and a legend beside it.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import migkit
    >>> from matplotlib.figure import Figure
    >>> guest = migkit.Guest(ram="1 GiB", regions=[migkit.Region(size="64 MiB", write_rate="10 MB/s")])
    >>> scenario = migkit.Scenario(guest=guest, link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> settings_that_meet(migkit.advise(scenario, "300 ms", "1 min"), Figure().subplots()).get_ylabel()
    'downtime (ms)'
    """
    from matplotlib import colormaps

    meet = found.table[found.table["meets"]]
    beaten = meet[~meet["pareto"]]
    unbeaten = meet[meet["pareto"]].sort_values("throttle_percent", ascending=False, kind="stable")
    if len(beaten):
        ax.scatter(beaten["total_time_s"], 1e3 * beaten["downtime_s"], s=9, marker="x", color="0.7", linewidth=0.6,
                   label="beaten")  # fmt: skip
    for percent, rows in unbeaten.groupby("throttle_percent", sort=True):
        share = float(percent) / 100
        ax.scatter(rows["total_time_s"], 1e3 * rows["downtime_s"], s=9 + 70 * share, zorder=3 - share,
                   facecolor=colormaps["cividis"](share), edgecolor="black", linewidth=0.5,
                   label=f"throttle {percent:g} %")  # fmt: skip
    best = meet[meet["recommended"]]
    if len(best):
        ax.scatter(best["total_time_s"], 1e3 * best["downtime_s"], s=140, facecolor="none", edgecolor="black",
                   linewidth=1.2, zorder=4, label="recommended")  # fmt: skip
    ax.axhline(1e3 * found.downtime_s, color="black", linestyle=":", label="demanded downtime")
    ax.set(xlabel="total time (s)", ylabel="downtime (ms)", ylim=(0, 1.05e3 * found.downtime_s))
    low, high = ax.get_xlim()
    if 0 < 1.5 * low <= high:  # else it is all but one time
        log_axis("x", ax, "s", 1, "total time")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return ax


def advice_figure(found: Advice) -> Figure:
    """Draw an advice: what the settings cost that meet the demands.

    Parameters
    ----------
    found : Advice
        Of :func:`migkit.advise`.

    Returns
    -------
    Figure
        Which :func:`migkit.plot.save` writes.

    Examples
    --------
    >>> import migkit
    >>> guest = migkit.Guest(ram="1 GiB", regions=[migkit.Region(size="64 MiB", write_rate="10 MB/s")])
    >>> scenario = migkit.Scenario(guest=guest, link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> len(advice_figure(migkit.advise(scenario, "300 ms", "1 min")).axes)
    1
    """
    import matplotlib.pyplot as plt

    with style():
        figure, ax = plt.subplots(figsize=(PAGE_IN, 3.4), layout="constrained")
        settings_that_meet(found, ax)
    text = f"Downtime over total time of the settings that meet the demands: {found.sentence}"
    notes = provenance("expected", 0, found.scenario.to_toml())
    del notes["seed"]  # that of the drawn worlds is in what is assumed
    SOURCES[figure] = {**notes, "assumed": list(found.assumed), "caption": text, "panels": [text]}
    return figure
