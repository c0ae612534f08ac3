"""Runs of real QEMU that show the claim: a device starved or served, and a guest that never completes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migkit.figures.style import LINE_COLOURS, LINE_STYLES, MARKERS, label_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MIB = 2**20
ENDS = {"completed": "o", "not_converged": "x"}
"""Marker at the end of a line by outcome: a completed migration, and the last answer of one that was cancelled."""


def initial_data_over_time(sent: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the initial data that a device has sent, one line a version, with what is predicted.

    Parameters
    ----------
    sent : DataFrame
        Of :attr:`migkit.qemu.claim.Claim.initial`: ``run``, ``version``, ``policy``, ``source`` (``measured``,
        ``predicted``), ``t_s``, ``sent_bytes``.
    ax : Axes
        Gets a y axis in MiB.

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
    measured = sent[sent["source"] == "measured"]
    for number, (_, line) in enumerate(measured.groupby("run", sort=False)):
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
    name = "predicted"
    for _, line in sent[sent["source"] == "predicted"].groupby("run", sort=False):
        ax.plot(line["t_s"], line["sent_bytes"] / MIB, color="0.55", linewidth=3.5, alpha=0.5, label=name, zorder=1)
        name = "_predicted"
    ax.set_xlim(left=0)
    ax.set_ylim(bottom=-2)
    ax.set_xlabel("time since migrate (s)")
    ax.set_ylabel("initial data sent (MiB)")
    ax.legend(loc="center right")
    return ax


def syncs_over_time(syncs: pd.DataFrame, outcomes: pd.Series, ax: Axes) -> Axes:
    """Draw the bitmap syncs so far of quiet guests, one line a run.

    Parameters
    ----------
    syncs : DataFrame
        Of :attr:`migkit.qemu.claim.Claim.syncs`: ``run``, ``version``, ``experiment``, ``t_s``, ``syncs``.
    outcomes : Series
        Outcome of each run, ``completed`` or ``not_converged``: the marker at its end.
    ax : Axes
        Gets a logarithmic y axis.

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
    from matplotlib.ticker import LogLocator, NullLocator

    words = {"quiet": "acknowledged at once", "slow": "after 1 s"}
    versions = list(dict.fromkeys(syncs["version"]))
    for run, line in syncs.groupby("run", sort=False):
        first = line.iloc[0]
        slow = first["experiment"] == "slow"
        look: dict[str, Any] = {"color": LINE_COLOURS[(versions.index(first["version"]) + 1) % 5]}
        look["linestyle"] = LINE_STYLES[(versions.index(first["version"]) + 1) % 5]
        ax.plot(
            line["t_s"],
            line["syncs"].clip(lower=1),
            linewidth=1.2 if slow else 2.4,
            alpha=1.0 if slow else 0.5,
            marker=ENDS[outcomes[run]],
            markevery=[-1],
            markersize=5,
            label=label_of(f"{first['version']}, {words[first['experiment']]}"),
            **look,
        )
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator())
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xlim(left=0)
    ax.set_xlabel("time since migrate (s)")
    ax.set_ylabel("bitmap syncs so far")
    ax.legend(loc="lower right")
    return ax
