"""What each proposed fix changes: migrations that complete with it, against the walk of QEMU 9.0."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


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
    'migrations that complete, less those with 9.0 (%)'
    """
    import seaborn as sns

    ordered = table.sort_values("more")
    ways = [name for name in ("RAM first", "budget", "initial data", "acknowledgement") if name in table]
    every = ordered[ways].notna().all(axis=1)
    data = ordered.assign(percent=100 * ordered["more"], fix=ordered.index.astype(str).str.replace("_", " "))
    data = data.assign(ends=every.map({True: "ends all four ways", False: "not all four"}))
    order = ["ends all four ways", "not all four"]
    sns.scatterplot(data=data, x="percent", y="fix", style="ends", hue="ends", markers=["o", "s"], s=28, zorder=3,
                    palette=["#0072B2", "#D55E00"], hue_order=order, style_order=order, ax=ax)  # fmt: skip
    ax.hlines(data["fix"], 100 * data["more_low"], 100 * data["more_high"], color="0.4", linewidth=1.2, zorder=2)
    ax.axvline(0, color="0.6", linewidth=0.8, zorder=1)
    ax.set_xlabel("migrations that complete, less those with 9.0 (%)")
    ax.set_ylabel("")
    ax.legend(loc="upper right", title="lines: 95 % interval")  # rows rise from left to right
    return ax
