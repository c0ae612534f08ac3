"""The named experiments behind the figures and notebooks.

An experiment is a scenario and axes, nothing else. ``migkit study`` runs them all and sets what is simulated beside
what :mod:`migkit.derivation` says of each point.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.derivation import CATEGORIES, ONLY_UNSERIALIZED, STARVES_ABOVE, category, derived_at
from migkit.scenario import Guest, Link, Migration, Region, Scenario, Vfio
from migkit.units import geomspace

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

POLICIES = ("serialized", "unserialized")


@dataclass(frozen=True)
class Experiment:
    """A scenario and the axes it is swept over.

    Attributes
    ----------
    name : str
        Name of the stored result.
    question : str
        What it answers.
    scenario : Scenario
    axes : mapping of str to sequence
        As :func:`migkit.sweep` takes them; the policy is one of them, the plane's two are the last.
    """

    name: str
    question: str
    scenario: Scenario
    axes: Mapping[str, Sequence[Any]]

    def axes_text(self) -> str:
        """The axes as JSON: what a stored result is compared with."""
        return json.dumps({path: list(values) for path, values in self.axes.items()})


def _scenario(hot_set: str, write_rate: str, initial: str, max_bandwidth: str | int, ram: str = "16 GiB") -> Scenario:
    # The hot set lies in the second GiB: a chunk of the dirty log of its own. One MiB of stop-copy is one more read of
    # the device. Sizes of initial data are chosen, not measured: no published numbers were found.
    return Scenario(
        guest=Guest(ram=ram, regions=(Region(size=hot_set, start="1 GiB", write_rate=write_rate),)),
        devices=(Vfio(initial_bytes=initial, stop_copy_bytes="1 MiB"),),
        link=Link(bandwidth="10 Gbit/s"),
        migration=Migration(max_bandwidth=max_bandwidth, switchover_ack=True, return_path=True),
    )


def experiments(points: int = 110) -> dict[str, Experiment]:
    """The experiments of the study, by name.

    Parameters
    ----------
    points : int, default 110
        Points on each of the two logarithmic axes of a plane.

    Returns
    -------
    dict of str to Experiment

    Examples
    --------
    >>> sorted(experiments(4))
    ['band', 'convergence', 'starvation']
    """
    every = (
        Experiment(
            "convergence",
            "Where do serialized and unserialized iteration converge?",
            _scenario("320 MiB", "1 GB/s", "16 MiB", 0),
            {
                "devices.0.count": tuple(range(9)),
                "policy": POLICIES,
                "guest.regions.0.write_rate": geomspace("10 MB/s", "20 GB/s", points),
                "link.bandwidth": geomspace("1 Gbit/s", "100 Gbit/s", points),
            },
        ),
        Experiment(
            "starvation",
            "When does unserialized iteration still starve a device?",
            _scenario("32 MiB", "40 GB/s", "8 MiB", "128 MiB/s", "4 GiB"),
            {
                "policy": POLICIES,
                "migration.max_bandwidth": geomspace("16 MiB/s", "4 GiB/s", points),
                "link.bandwidth": geomspace("200 Mbit/s", "40 Gbit/s", points),
            },
        ),
        Experiment(
            "band",
            "Which hot sets starve a device behind RAM?",
            _scenario("320 MiB", "400 GB/s", "16 MiB", 0),
            {
                "policy": POLICIES,
                "guest.regions.0.size": geomspace("4 MiB", "8 GiB", points, multiple="4 KiB"),
                "link.bandwidth": geomspace("1 Gbit/s", "100 Gbit/s", points),
            },
        ),
    )
    return {experiment.name: experiment for experiment in every}


def run(experiment: Experiment, progress: bool = False) -> xr.Dataset:
    """Sweep an experiment with the expected engine; the Dataset gets the simulated and the derived category."""
    from migkit.sweep import sweep

    dataset = sweep(experiment.scenario, experiment.axes, progress=progress)
    completed = dataset["outcome"] == 0
    serialized, unserialized = (completed.sel(policy=policy, drop=True) for policy in POLICIES)
    notes = {"flag_values": list(range(4)), "flag_meanings": "; ".join(CATEGORIES)}
    simulated = serialized.copy(data=category(serialized.values, unserialized.values).astype(np.int8))
    dataset["category"] = simulated.assign_attrs(notes, long_name="who converges")
    for name, window_syncs in (("derived", False), ("derived_window_syncs", True)):
        verdict = derived_at(dataset, experiment.scenario, window_syncs)
        words = "who converges by the derivation"
        if window_syncs:
            words += ", the threshold from a window in which every turn syncs"
        dataset[name] = verdict.assign_attrs(notes, long_name=words)
    named = {"experiment": experiment.name, "question": experiment.question, "axes": experiment.axes_text()}
    dataset.attrs.update(named)
    return dataset


def store(dataset: xr.Dataset, folder: Path) -> Path:
    """Write the result of an experiment to ``folder/<experiment>.zarr``; an older one is replaced when it is whole."""
    import shutil

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{dataset.attrs['experiment']}.zarr"
    unfinished = path.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    dataset.to_zarr(unfinished, consolidated=False)
    shutil.rmtree(path, ignore_errors=True)
    unfinished.rename(path)
    return path


def load(experiment: Experiment, folder: Path) -> xr.Dataset | None:
    """Read a stored result; None if there is none, or if scenario, axes or version of migkit were others."""
    import xarray as xr

    import migkit

    path = folder / f"{experiment.name}.zarr"
    if not path.is_dir():
        return None
    dataset = xr.load_dataset(path, engine="zarr", consolidated=False)
    wanted = {
        "description": experiment.scenario.to_toml(),
        "axes": experiment.axes_text(),
        "migkit_version": migkit.__version__,
    }
    return dataset if all(dataset.attrs.get(key) == value for key, value in wanted.items()) else None


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
    from migkit.derivation import effective_link

    if "convergence" not in datasets:
        return 0
    dataset = datasets["convergence"]
    hot_set = experiments(2)["convergence"].scenario.guest.regions[0].size
    above = effective_link(dataset["bandwidth"]) * downtime_limit_s < hot_set
    return int(((dataset["category"] == ONLY_UNSERIALIZED) & above).sum())


__all__ = [
    "POLICIES",
    "Experiment",
    "experiments",
    "findings",
    "load",
    "outcomes",
    "report",
    "run",
    "store",
    "wedge",
]
