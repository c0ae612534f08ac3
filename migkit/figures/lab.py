"""What each proposed fix changes against the walk of QEMU 9.0: what it ends, what it gains, what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


WAYS = ("RAM first", "budget", "initial data", "acknowledgement")
"""Columns of the table that have a known way never to end each."""


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    ordered = table.sort_values("more", kind="stable")
    return ordered.assign(fix=ordered.index.astype(str).str.replace("_", " "))


def convergence_gained(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the difference of the share that completes, one line a fix, with its interval.

    Parameters
    ----------
    table : DataFrame
        Of :func:`migkit.study.lab.compare`.
    ax : Axes
        Gets an x axis in percent.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"more": [0.1], "more_low": [0.05], "more_high": [0.15], "budget": [1.0]}, index=["a"])
    >>> convergence_gained(table, Figure().subplots()).get_xlabel()
    'migrations that complete, less those with 9.0 (percentage points)'
    """
    import seaborn as sns

    data = _ordered(table)
    every = data[[name for name in WAYS if name in data]].notna().all(axis=1)
    data = data.assign(percent=100 * data["more"])
    data = data.assign(ends=every.map({True: "ends all four ways", False: "not all four"}))
    order = ["ends all four ways", "not all four"]
    sns.scatterplot(data=data, x="percent", y="fix", style="ends", hue="ends", markers=["o", "s"], s=28, zorder=3,
                    palette=["#0072B2", "#D55E00"], hue_order=order, style_order=order, ax=ax)  # fmt: skip
    ax.hlines(data["fix"], 100 * data["more_low"], 100 * data["more_high"], color="0.4", linewidth=1.2, zorder=2)
    ax.axvline(0, color="0.6", linewidth=0.8, zorder=1)
    ax.set_xlabel("migrations that complete, less those with 9.0 (percentage points)")
    ax.set_ylabel("")
    ax.legend(loc="upper right", title="lines: 95 % interval")  # rows rise from left to right
    return ax


def ways_ended(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw which of the known ways never to end each fix ends, one line a fix.

    Parameters
    ----------
    table : DataFrame
        Of :func:`migkit.study.lab.compare`.
    ax : Axes
        Gets one column a way.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"more": [0.1], "RAM first": [3.0], "budget": [float("nan")]}, index=["a"])
    >>> [text.get_text() for text in ways_ended(table, Figure().subplots()).get_xticklabels()]
    ['RAM first', 'budget']
    """
    import seaborn as sns

    data = _ordered(table)
    ways = [name for name in WAYS if name in data]
    long = data.melt(id_vars="fix", value_vars=ways, var_name="way", value_name="total_time_s")
    long["end"] = long["total_time_s"].notna().map({True: "ends", False: "never"})
    order = ["ends", "never"]
    sns.scatterplot(data=long, x="way", y="fix", style="end", hue="end", markers=["o", "X"], s=26,
                    palette=["#0072B2", "#D55E00"], hue_order=order, style_order=order, ax=ax)  # fmt: skip
    ax.set(xlabel="", ylabel="", xlim=(-0.5, len(ways) - 0.5))
    ax.tick_params(axis="x", rotation=45)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
    return ax


def time_against(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the total time of each fix over that of 9.0, median with the 5th and 95th percentile.

    Parameters
    ----------
    table : DataFrame
        Of :func:`migkit.study.lab.compare`.
    ax : Axes

    Returns
    -------
    Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"more": [0.1], "total_time": [1.0], "total_low": [0.9], "total_high": [1.1]}, index=["a"])
    >>> time_against(table, Figure().subplots()).get_xlabel()
    'total time, relative to 9.0'
    """
    data = _ordered(table)
    ax.hlines(data["fix"], data["total_low"], data["total_high"], color="0.4", linewidth=1.2, zorder=2)
    ax.plot(data["total_time"], data["fix"], "o", color="#0072B2", markersize=4, zorder=3)
    ax.axvline(1, color="0.6", linewidth=0.8, zorder=1)
    ax.set_xlabel("total time, relative to 9.0")
    return ax


def above_the_limit(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw how many of the completed migrations have a downtime above the limit, in percent.

    Parameters
    ----------
    table : DataFrame
        Of :func:`migkit.study.lab.compare`.
    ax : Axes

    Returns
    -------
    Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> table = pd.DataFrame({"more": [0.1], "above_limit": [0.2]}, index=["a"])
    >>> above_the_limit(table, Figure().subplots()).get_xlabel().splitlines()
    ['completed, downtime', 'above the limit (%)']
    """
    data = _ordered(table)
    ax.barh(data["fix"], 100 * data["above_limit"], height=0.6, color="#56B4E9", edgecolor="0.2", linewidth=0.5)
    ax.set_xlabel("completed, downtime\nabove the limit (%)")
    return ax
