"""What the study found: simulated against derived categories, in tables and in words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.analysis.closed_form import (
    CATEGORIES,
    ONLY_UNSERIALIZED,
    POLICIES,
    STARVES_ABOVE,
    Inputs,
    coordinate,
    threshold_bytes,
)
from migkit.results import Outcome

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["findings", "outcomes", "report", "wedge"]

_DEVICES = "devices.0.count"


def _planes(datasets: Mapping[str, xr.Dataset]) -> Iterator[tuple[str, xr.Dataset]]:
    """Each experiment by its name; one with several device counts is split into a plane for each."""
    for name, dataset in datasets.items():
        counts = coordinate(dataset, _DEVICES)
        if counts is None or not counts.ndim:
            yield name, dataset
            continue
        for number in counts.values:
            yield f"{name}, {number} device{'' if number == 1 else 's'}", dataset.sel({counts.name: number})


def findings(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Count the points of each category, simulated and derived, and those in which the two differ.

    Parameters
    ----------
    datasets : mapping of str to Dataset
        Of :func:`migkit.analysis.closed_form.categories`, by name.

    Returns
    -------
    DataFrame
        One row an experiment (if it has several device counts: one a count). Of the ``differ`` points,
        ``between thresholds`` have pending bytes between the threshold of a window without syncs and that of one in
        which every iteration syncs; the rest lies at most ``rest from edge`` from an edge (relative distance along the
        nearer axis). ``agree`` is the share of points in which both are the same.
    """
    import pandas as pd

    rows = []
    for label, plane in _planes(datasets):
        simulated, derived = plane["category"].values, plane["derived"].values
        row: dict[str, Any] = {"experiment": label, "points": simulated.size}
        for number, words in enumerate(CATEGORIES):
            row[words] = int((simulated == number).sum())
            row[f"{words} (derived)"] = int((derived == number).sum())
        differ = simulated != derived
        explained = differ & (plane["derived_window_syncs"].values == simulated)
        row["differ"] = int(differ.sum())
        row["between thresholds"] = int(explained.sum())
        row["rest from edge"] = _edge_distance(plane, differ & ~explained)
        row["agree"] = 1.0 - float(differ.mean())
        rows.append(row)
    return pd.DataFrame(rows)


def _edge_distance(plane: xr.Dataset, differ: np.ndarray) -> float:
    """The largest relative distance, along the nearer axis, from these points to one derived as they were simulated."""
    y, x = plane["category"].dims
    ratios = (plane[dim].values[1:] / plane[dim].values[:-1] for dim in (y, x))
    y_step, x_step = (float(np.median(ratio)) for ratio in ratios)
    simulated, derived = plane["category"].values, plane["derived"].values
    worst = 0.0
    for row, column in np.argwhere(differ):
        wanted = derived == simulated[row, column]
        away = np.inf
        for line, place, step in ((wanted[:, column], row, y_step), (wanted[row], column, x_step)):
            places = np.flatnonzero(line)
            if places.size:
                away = min(away, step ** float(np.abs(places - place).min()) - 1.0)
        worst = max(worst, away)
    return worst


def outcomes(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Count the migrations of each policy by outcome.

    Parameters
    ----------
    datasets : mapping of str to Dataset
        Sweeps with both policies as an axis, by name.

    Returns
    -------
    DataFrame
        One row an experiment and policy, one column an outcome.
    """
    import pandas as pd

    rows = []
    for name, dataset in datasets.items():
        for policy in POLICIES:
            values = dataset["outcome"].sel(policy=policy).values
            counts = {outcome.label: int((values == outcome).sum()) for outcome in Outcome}
            rows.append({"experiment": name, "policy": policy, "migrations": values.size} | counts)
    return pd.DataFrame(rows)


def report(datasets: Mapping[str, xr.Dataset]) -> str:
    """Write what the study found beside what is derived from the loop's constants.

    Parameters
    ----------
    datasets : mapping of str to Dataset
        Results of the maps of the study, by name.

    Returns
    -------
    str
        Plain text.
    """
    found = findings(datasets)
    table = found[["experiment"]].copy()
    for words in CATEGORIES:
        table[words] = found[words].astype(str) + " / " + found[f"{words} (derived)"].astype(str)
    table["agree"] = found["agree"].map("{:.2%}".format)
    table["differ"] = found["differ"]
    lines = ["", "Points by who converges, simulated / derived:"]
    for each in (table, outcomes(datasets)):
        lines += ["  " + line for line in each.to_string(index=False).splitlines()]
        lines += ["", "Migrations by policy and outcome:"] if each is table else []
    differ, explained = int(found["differ"].sum()), int(found["between thresholds"].sum())
    points, rest = int(found["points"].sum()), float(found["rest from edge"].max())
    paragraphs = [
        "Derived: L is the rate at which the thread pushes pages through the link, M max-bandwidth, D the downtime "
        "limit; an iteration sends a slice S = min(0.051 s L, 0.1 s M), and the threshold is min(L, M) D. Serialized "
        "iteration starves a device behind RAM when the part of the hot set that is rewritten in an iteration is above "
        f"S; unserialized iteration only when also L > {STARVES_ABOVE:.2f} M. RAM fits when what is dirty after a "
        "sync, with the devices' stop-copy, is below the threshold. For a hot set that is rewritten within an "
        "iteration this is the band S < hot set < threshold.",
        f"The two differ in {differ} of {points} points. In {explained} of them the pending bytes lie between two "
        "thresholds: that of a window without a sync, and that of a window in which every iteration syncs and "
        "therefore sends less. Which one counts depends on where the window ends. The rest lies within "
        f"{rest:.1%} of an edge: a call of RAM ends at its next check, up to 64 pages late; bytes count in flushes of "
        "32 pages; the first passes may leave less RAM dirty than the steady state does.",
    ]
    if beyond := wedge(datasets):
        paragraphs.append(
            f"In {beyond} of the points where only unserialized iteration converges the hot set is larger than the "
            "threshold: it is rewritten so slowly that it is never dirty as a whole."
        )
    for paragraph in paragraphs:
        lines += ["", *textwrap.wrap(paragraph, 110)]
    return "\n".join(lines)


def wedge(datasets: Mapping[str, xr.Dataset]) -> int:
    """Count the points of the main map where only unserialized iteration converges with a hot set above the threshold.

    Parameters
    ----------
    datasets : mapping of str to Dataset
        With the experiment ``convergence``; without it there are none.

    Returns
    -------
    int
    """
    if "convergence" not in datasets:
        return 0
    dataset = datasets["convergence"]
    inputs = Inputs.at(dataset)
    above = threshold_bytes(inputs) < inputs.hot_set
    return int(((dataset["category"] == ONLY_UNSERIALIZED) & above).sum())
