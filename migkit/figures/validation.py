"""Predictions against measured migrations: total times, and the distribution of their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migkit.figures.style import LINE_COLOURS, log_axis

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

LOOKS = {
    True: ("held by link or max-bandwidth", "o", LINE_COLOURS[0], LINE_COLOURS[0], "-"),
    False: ("unpaced loopback", "s", "none", LINE_COLOURS[1], "--"),
}
"""Label, marker, face, edge and line style of the two classes; marker, fill and line style differ in grey too."""
_LEAST = 0.01
"""Percent; smaller errors are drawn as this one."""


def validation(configurations: pd.DataFrame, ax: Axes) -> Axes:
    """Draw predicted against measured total time, one marker a configuration.

    Parameters
    ----------
    configurations : DataFrame
        Of :func:`migkit.qemu.validation.by_configuration`: ``held``, ``total_ms_measured`` and ``total_ms_predicted``
        (ms, medians over repeats); rows that did not complete are left out.
    ax : Axes
        Gets logarithmic axes in seconds.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> times = {"total_ms_measured": [2000.0, 900.0], "total_ms_predicted": [2100.0, 800.0]}
    >>> configurations = pd.DataFrame({"held": [True, False]} | times)
    >>> validation(configurations, Figure().subplots()).get_xlabel()
    'measured total time (s)'
    """
    done = _completed(configurations)
    seconds = done[["total_ms_measured", "total_ms_predicted"]] / 1e3
    low, high = 0.85 * seconds.min().min(), 1.18 * seconds.max().max()
    ax.plot([low, high], [low, high], color="0.6", linewidth=0.8, zorder=1, label="equal")
    for held, (label, marker, face, edge, _) in LOOKS.items():
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
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    log_axis("x", ax, "s", 1, "measured total time")
    log_axis("y", ax, "s", 1, "predicted total time")
    ax.legend(frameon=False, loc="upper left", handletextpad=0.4, borderaxespad=0.2,
              title="medians of repeats, no interval", alignment="left")  # fmt: skip
    return ax


def prediction_errors(configurations: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share of the configurations whose total time is predicted to within a relative error.

    Parameters
    ----------
    configurations : DataFrame
        As for :func:`validation`.
    ax : Axes
        Gets a logarithmic x axis in percent, on which errors below 0.01 % are drawn at 0.01 %.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> times = {"total_ms_measured": [2000.0, 900.0], "total_ms_predicted": [2100.0, 800.0]}
    >>> configurations = pd.DataFrame({"held": [True, False]} | times)
    >>> prediction_errors(configurations, Figure().subplots()).get_xlabel()
    'relative error of the total time (%)'
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, PercentFormatter

    done = _completed(configurations)
    percent = 100 * (done["total_ms_predicted"] / done["total_ms_measured"] - 1).abs()
    for held, (label, _, _, edge, line) in LOOKS.items():
        of_class = percent[done["held"] == held]
        if len(of_class):
            text = f"{label.split()[0]}, median {of_class.median():.2g} %"
            ax.ecdf(of_class.clip(lower=_LEAST), color=edge, linestyle=line, label=text)
    ax.set(xscale="log", xlabel="relative error of the total time (%)", ylabel="configurations within the error")
    ax.xaxis.set_major_locator(LogLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"≤ {x:g}" if abs(x / _LEAST - 1) < 1e-9 else f"{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(PercentFormatter(1.0))
    ax.legend(frameon=False, loc="upper left", borderaxespad=0.2, title="medians of configurations", alignment="left")
    return ax


def _completed(configurations: pd.DataFrame) -> pd.DataFrame:
    """The configurations with a measured and a predicted total time."""
    return configurations.dropna(subset=["total_ms_measured", "total_ms_predicted"])
