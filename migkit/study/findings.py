"""What the study found: simulated beside derived, in tables and in words."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.analysis.closed_form import CATEGORIES, ONLY_UNSERIALIZED, STARVES_ABOVE
from migkit.study.experiments import POLICIES, experiments

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["findings", "outcomes", "report", "wedge"]


def _planes(datasets: Mapping[str, xr.Dataset]) -> Iterator[tuple[str, xr.Dataset]]:
    """Every experiment by its name; of the main map, one plane a device count."""
    for name, dataset in datasets.items():
        if "count" not in dataset.dims:
            yield name, dataset
            continue
        for number in dataset["count"].values:
            yield f"{name}, {number} device{'' if number == 1 else 's'}", dataset.sel(count=number)


def findings(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Points per category, simulated and derived, and where the two part.

    Returns
    -------
    DataFrame
        One row an experiment (the main map: one a device count). ``differ`` points, of which ``between thresholds``
        have pending bytes between the threshold of a window without syncs and that of one in which every turn syncs;
        the rest lies ``rest from edge`` (relative distance along the nearer axis) from an edge, at most.
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
    """The largest relative distance, along either axis, from these points to one that is derived as they came out."""
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
    """Migrations per policy and outcome."""
    import pandas as pd

    from migkit.results import Outcome

    rows = []
    for name, dataset in datasets.items():
        for policy in POLICIES:
            values = dataset["outcome"].sel(policy=policy).values
            counts = {outcome.label: int((values == outcome).sum()) for outcome in Outcome}
            rows.append({"experiment": name, "policy": policy, "migrations": values.size} | counts)
    return pd.DataFrame(rows)


def report(datasets: Mapping[str, xr.Dataset]) -> str:
    """What the study found, beside what is derived from the loop's constants; plain text."""
    found = findings(datasets)
    lines = ["", "Points by who converges, simulated / derived:"]
    width = max(len(name) for name in found["experiment"])
    lines.append(f"{'':{width}}" + "".join(f"  {words:>17}" for words in CATEGORIES) + "    agree  differ")
    for row in found.to_dict("records"):
        pairs = [f"{row[words]} / {row[words + ' (derived)']}" for words in CATEGORIES]
        cells = "".join(f"  {pair:>17}" for pair in pairs)
        lines.append(f"{row['experiment']:{width}}{cells}  {row['agree']:7.2%}  {row['differ']:6d}")
    lines += ["", "Migrations by policy and outcome:"]
    lines += ["  " + line for line in outcomes(datasets).to_string(index=False).splitlines()]
    differ, explained = int(found["differ"].sum()), int(found["between thresholds"].sum())
    points, rest = int(found["points"].sum()), float(found["rest from edge"].max())
    said = [
        "Derived: L is what the thread pushes through the link, M max-bandwidth, D the downtime limit; a turn sends a "
        "slice S = min(0.051 s L, 0.1 s M), and the threshold is min(L, M) D. A serialized walk starves a device "
        "behind RAM when the part of the hot set that is rewritten in a turn is above S; an unserialized one when also "
        f"L > {STARVES_ABOVE:.2f} M. RAM fits when what is dirty after a sync, with the devices' stop-copy, is below "
        "the threshold. For a hot set that is rewritten within a turn this is the band S < hot set < threshold.",
        f"The two differ in {differ} of {points} points. In {explained} of them the pending bytes lie between two "
        "thresholds: that of a window without a sync, and that of a window in which every turn syncs and therefore "
        "sends less. Which one counts depends on where the window ends. The rest lies within "
        f"{rest:.1%} of an edge: a call of RAM ends at its next check, up to 64 pages late; bytes count in flushes of "
        "32 pages; the first passes may leave less RAM dirty than the steady state does.",
    ]
    if beyond := wedge(datasets):
        said.append(
            f"In {beyond} of the points where only unserialized iteration converges the hot set is larger than the "
            "threshold: it is rewritten so slowly that it is never dirty as a whole."
        )
    for paragraph in said:
        lines += ["", *textwrap.wrap(paragraph, 110)]
    return "\n".join(lines)


def wedge(datasets: Mapping[str, xr.Dataset], downtime_limit_s: float = 0.3) -> int:
    """Points of the main map where only unserialized iteration converges though the hot set is above the threshold."""
    from migkit.analysis.closed_form import effective_link

    if "convergence" not in datasets:
        return 0
    dataset = datasets["convergence"]
    hot_set = experiments(2)["convergence"].scenario.guest.regions[0].size
    above = effective_link(dataset["bandwidth"]) * downtime_limit_s < hot_set
    return int(((dataset["category"] == ONLY_UNSERIALIZED) & above).sum())
