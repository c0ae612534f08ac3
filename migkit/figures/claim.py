"""Runs of real QEMU that show the claim: a device starved or served, and a guest that never completes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migkit.figures.style import LINE_COLOURS, LINE_STYLES, MARKERS, label_of, log_axis

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MIB = 2**20
ENDS = {"completed": "completed", "not_converged": "cancelled"}
"""Word in the legend by outcome; the marker at the end of a line is filled where the migration completed."""


def initial_data_over_time(sent: pd.DataFrame, ax: Axes, whole_bytes: float = 0.0) -> Axes:
    """Draw the initial data that a device has sent, one line a version, with what is predicted of it.

    A prediction is wide and pale, in the colour of its version, and ends in the marker of its version, hollow.

    Parameters
    ----------
    sent : DataFrame
        Of :attr:`migkit.qemu.claim.Claim.initial`: ``run``, ``version``, ``policy``, ``source`` (``measured``,
        ``predicted``), ``t_s``, ``sent_bytes``.
    ax : Axes
        Gets a y axis in MiB.
    whole_bytes : float, default 0
        All initial data of the device: the least height of the y axis, also where nothing was sent.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> sent = pd.DataFrame({"t_s": [0.0, 2.0], "sent_bytes": [0.0, 2.0**26]})
    >>> sent = sent.assign(run="a", version="10.0.2", policy="unserialized", source="measured")
    >>> initial_data_over_time(sent, Figure().subplots()).get_ylabel()
    'initial data sent (MiB)'
    """
    from matplotlib.lines import Line2D

    measured = sent[sent["source"] == "measured"]
    numbers = {str(run): number for number, run in enumerate(dict.fromkeys(measured["run"]))}
    for run, line in measured.groupby("run", sort=False):
        number = numbers[str(run)]
        first = line.iloc[0]
        ax.plot(
            line["t_s"],
            line["sent_bytes"] / MIB,
            color=LINE_COLOURS[number % 5],
            linestyle=LINE_STYLES[number % 5],
            marker=MARKERS[number % 5],
            markevery=[-1],
            markersize=4,
            label=label_of(f"{first['version']}, {first['policy']}"),
            zorder=2,
        )
    wide: dict[str, Any] = {"linewidth": 3.5, "alpha": 0.35, "markersize": 8, "markerfacecolor": "none"}
    for run, line in sent[sent["source"] == "predicted"].groupby("run", sort=False):
        number = numbers.get(str(run), 0)
        ax.plot(line["t_s"], line["sent_bytes"] / MIB, color=LINE_COLOURS[number % 5], marker=MARKERS[number % 5],
                markevery=[-1], label="_predicted", zorder=1, **wide)  # fmt: skip
    handles, _ = ax.get_legend_handles_labels()
    if (sent["source"] == "predicted").any():
        handles.append(Line2D([], [], color="0.4", marker="o", label="predicted", **wide))
    ax.set_xlim(left=0)
    top = max(float(sent["sent_bytes"].max()), whole_bytes) / MIB or 1.0
    ax.set_ylim(-0.03 * top, 1.06 * top)
    ax.set_xlabel("time since migrate (s)")
    ax.set_ylabel("initial data sent (MiB)")
    ax.legend(handles=handles, loc="center right")
    return ax


def syncs_over_time(syncs: pd.DataFrame, outcomes: pd.Series, ax: Axes, before: int = 1) -> Axes:
    """Draw the bitmap syncs so far of quiet guests, one line a run with a step at each answer of QEMU.

    Parameters
    ----------
    syncs : DataFrame
        Of :attr:`migkit.qemu.claim.Claim.syncs`: ``run``, ``version``, ``experiment``, ``t_s``, ``syncs``.
    outcomes : Series
        Outcome of each run, ``completed`` or ``not_converged``: the marker at its last answer is filled or hollow.
    ax : Axes
        Gets a logarithmic y axis.
    before : int, default 1
        How many versions without an acknowledgement are in :func:`initial_data_over_time` before these: a version has
        the same colour, line style and marker there.

    Returns
    -------
    Axes

    Examples
    --------
    >>> import pandas as pd
    >>> from matplotlib.figure import Figure
    >>> syncs = pd.DataFrame({"t_s": [0.0, 2.0], "syncs": [1.0, 300.0]})
    >>> syncs = syncs.assign(run="a", version="10.0.2", experiment="quiet")
    >>> syncs_over_time(syncs, pd.Series({"a": "completed"}), Figure().subplots()).get_yscale()
    'log'
    """
    words = {"quiet": "at once", "slow": "after 1 s"}
    versions = list(dict.fromkeys(syncs["version"]))
    for run, line in syncs.groupby("run", sort=False):
        first = line.iloc[0]
        slow, number = first["experiment"] == "slow", (versions.index(first["version"]) + before) % 5
        completed = outcomes[run] == "completed"
        ax.plot(
            line["t_s"],
            line["syncs"].clip(lower=1),
            drawstyle="steps-post",
            color=LINE_COLOURS[number],
            linestyle=LINE_STYLES[number],
            linewidth=1.2 if slow else 2.4,
            alpha=1.0 if slow else 0.5,
            marker=MARKERS[number],
            markevery=[-1],
            markersize=5,
            markerfacecolor=LINE_COLOURS[number] if completed else "white",
            label=label_of(f"{first['version']}, {words[first['experiment']]}: {ENDS[outcomes[run]]}"),
        )
    log_axis("y", ax, "", 1, "bitmap syncs so far")
    ax.set_xlim(left=0)
    ax.set_xlabel("time since migrate (s)")
    ax.legend(loc="lower right", title="acknowledged; marker: last answer of QEMU",
              alignment="left")  # fmt: skip
    return ax
