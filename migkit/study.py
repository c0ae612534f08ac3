"""The named experiments behind the figures and notebooks, and what is derived about them.

An experiment is a scenario and axes, nothing else; what the theory says of each point of it is a function of the
axes. ``migkit study`` runs them all and sets one beside the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.scenario import Guest, Link, Migration, Region, Scenario, Vfio
from migkit.units import geomspace

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

BOTH, ONLY_UNSERIALIZED, ONLY_SERIALIZED, NEITHER = range(4)
CATEGORIES = ("both converge", "only unserialized", "only serialized", "neither converges")
POLICIES = ("serialized", "unserialized")

SLICE_S = 0.051
"""A call of RAM ends when more than 50 whole milliseconds have passed (``migration/ram.c:ram_save_iterate``)."""
WINDOW_S = 0.1
"""Rate-limit window (``migration/migration-stats.h``)."""
SYNC_S = 16 * 0.14e-3
"""A bitmap sync of the study's 16 GiB guest."""
STARVES_ABOVE = WINDOW_S / SLICE_S
"""Link over max-bandwidth above which RAM alone uses up each window: 1.96."""


@dataclass(frozen=True)
class Experiment:
    """A scenario, the axes it is swept over, and the verdict that is derived for a point.

    Attributes
    ----------
    name : str
        Name of the stored result.
    question : str
        What it answers.
    scenario : Scenario
    axes : mapping of str to sequence
        As :func:`migkit.sweep` takes them; the policy is one of them.
    derived : callable
        ``derived(dataset) -> category`` per point, from the coordinates alone.
    """

    name: str
    question: str
    scenario: Scenario
    axes: Mapping[str, Sequence[Any]]
    names: Mapping[str, str]
    derived: Callable[[xr.Dataset], xr.DataArray]


def _scenario(hot_set: str, write_rate: str, initial: str, max_bandwidth: str | int, ram: str = "16 GiB") -> Scenario:
    return Scenario(
        guest=Guest(ram=ram, regions=(Region(size=hot_set, start="1 GiB", write_rate=write_rate),)),
        devices=(Vfio(initial_bytes=initial, stop_copy_bytes="1 MiB"),),
        link=Link(bandwidth="10 Gbit/s"),
        migration=Migration(max_bandwidth=max_bandwidth, switchover_ack=True, return_path=True),
    )


def written_share(write_rate: Any, hot_set: Any, span_s: Any) -> Any:
    """Share of a hot set that is written in a span: ``1 - exp(-D t / H)``."""
    return -np.expm1(-write_rate * span_s / hot_set)


def category(serialized: Any, unserialized: Any) -> Any:
    """Number of the category (:data:`CATEGORIES`) from who converges."""
    return np.select(
        [serialized & unserialized, ~serialized & unserialized, serialized & ~unserialized],
        [BOTH, ONLY_UNSERIALIZED, ONLY_SERIALIZED],
        NEITHER,
    )


def effective_link(link: Any, page_s: float = 2.1e-6, page_size: int = 4096) -> Any:
    """Rate at which the migration thread can push page contents, bytes/s: the link's, or its own if that is less.

    Examples
    --------
    >>> round(float(effective_link(12.5e9)) / 1e9, 2)
    1.95
    """
    return page_size / np.maximum((page_size + 8) / link, page_s)


def derived_verdict(
    write_rate: Any,
    hot_set: Any,
    link: Any,
    max_bandwidth: Any,
    devices: Any,
    downtime_limit_s: float = 0.3,
    sync_s: float = 0.0,
) -> Any:
    """Who converges, from the constants of the loop alone; the category of each point.

    With ``L`` the link or what the thread can push through it (:func:`effective_link`), ``M`` max-bandwidth, ``H`` hot
    set, ``D`` its write rate, ``T`` the time of a turn (a slice, or a window when the budget ends it): a turn sends
    ``S = min(0.051 L, M / 10)`` and dirties ``p = 1 - exp(-D T / H)`` of what is clean. If ``H p <= S`` RAM is drained in every turn and both policies converge. Else RAM settles at
    ``x = H - S / p + S``: it fits if ``x`` is below ``min(L, M)`` times the downtime limit; a serialized walk then
    never reaches a device behind RAM, an unserialized one does unless RAM uses up the window, ``L > 1.96 M``.

    Parameters
    ----------
    write_rate, link, max_bandwidth : float or array
        Bytes/s; max_bandwidth may be infinite.
    hot_set : float or array
        Bytes.
    devices : int or array
        VFIO devices with initial data.
    downtime_limit_s : float
        Seconds.
    sync_s : float
        Cost of a bitmap sync, seconds: a turn in which the exact query runs is longer by it.

    Returns
    -------
    category : array of int

    Examples
    --------
    >>> CATEGORIES[int(derived_verdict(20e9, 200e6, 1.25e9, np.inf, 1))]
    'only unserialized'
    """
    link = effective_link(link)
    limited = SLICE_S * link > WINDOW_S * max_bandwidth
    sent = np.where(limited, WINDOW_S * max_bandwidth, SLICE_S * link)
    # without a limit turns follow each other; below the link's speed the thread sleeps the window out
    turn = np.where(max_bandwidth < link, WINDOW_S, SLICE_S + sync_s)
    share = written_share(write_rate, hot_set, turn)
    drained = hot_set * share <= sent
    settled = hot_set - sent / np.maximum(share, 1e-300) + sent
    fits = drained | (settled < np.where(max_bandwidth < link, max_bandwidth, sent / turn) * downtime_limit_s)
    alone = devices == 0
    return category(fits & (drained | alone), fits & (drained | alone | ~limited))


def _derived_convergence(ds: xr.Dataset) -> xr.DataArray:
    import xarray as xr

    hot_set = 320 * 2**20
    return xr.apply_ufunc(derived_verdict, ds.write_rate, hot_set, ds.bandwidth, np.inf, ds["count"], 0.3, SYNC_S)


def _derived_starvation(ds: xr.Dataset) -> xr.DataArray:
    import xarray as xr

    return xr.apply_ufunc(derived_verdict, 40e9, 32 * 2**20, ds.bandwidth, ds.max_bandwidth, 1)


def _derived_band(ds: xr.Dataset) -> xr.DataArray:
    import xarray as xr

    return xr.apply_ufunc(derived_verdict, 400e9, ds["size"], ds.bandwidth, np.inf, 1, 0.3, SYNC_S)


def experiments(points: int = 110) -> dict[str, Experiment]:
    """The experiments of the study, by name.

    Parameters
    ----------
    points : int, default 110
        Points on each of the two logarithmic axes of the main map; the other planes have as many.

    Returns
    -------
    dict of str to Experiment

    Examples
    --------
    >>> sorted(experiments(4))
    ['band', 'convergence', 'starvation']
    """
    return {
        "convergence": Experiment(
            "convergence",
            "Where do serialized and unserialized iteration converge?",
            _scenario("320 MiB", "1 GB/s", "16 MiB", 0),
            {
                "devices.0.count": list(range(9)),
                "policy": POLICIES,
                "guest.regions.0.write_rate": geomspace("10 MB/s", "20 GB/s", points),
                "link.bandwidth": geomspace("1 Gbit/s", "100 Gbit/s", points),
            },
            {},
            _derived_convergence,
        ),
        "starvation": Experiment(
            "starvation",
            "When does unserialized iteration still starve a device?",
            _scenario("32 MiB", "40 GB/s", "8 MiB", "128 MiB/s", "4 GiB"),
            {
                "policy": POLICIES,
                "migration.max_bandwidth": geomspace("16 MiB/s", "4 GiB/s", points),
                "link.bandwidth": geomspace("200 Mbit/s", "40 Gbit/s", points),
            },
            {},
            _derived_starvation,
        ),
        "band": Experiment(
            "band",
            "Which hot sets starve a device behind RAM?",
            _scenario("320 MiB", "400 GB/s", "16 MiB", 0),
            {
                "policy": POLICIES,
                "guest.regions.0.size": geomspace("4 MiB", "8 GiB", points, multiple="4 KiB"),
                "link.bandwidth": geomspace("1 Gbit/s", "100 Gbit/s", points),
            },
            {},
            _derived_band,
        ),
    }


def run(experiment: Experiment, progress: bool = False) -> xr.Dataset:
    """Sweep an experiment with the expected engine; the Dataset gets the simulated and the derived category."""
    from migkit.sweep import sweep

    dataset = sweep(experiment.scenario, experiment.axes, progress=progress, names=dict(experiment.names))
    converged = dataset.outcome == 0
    serialized = converged.sel(policy="serialized", drop=True)
    unserialized = converged.sel(policy="unserialized", drop=True)
    notes = {"flag_values": list(range(4)), "flag_meanings": "; ".join(CATEGORIES)}
    simulated = serialized.copy(data=category(serialized.values, unserialized.values).astype(np.int8))
    dataset["category"] = simulated.assign_attrs(notes, long_name="who converges")
    derived = experiment.derived(dataset).astype(np.int8)
    derived = derived.broadcast_like(simulated).transpose(*simulated.dims)
    dataset["derived"] = derived.assign_attrs(notes, long_name="who converges by the derivation")
    dataset.attrs["experiment"] = experiment.name
    dataset.attrs["question"] = experiment.question
    return dataset


def findings(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Points per category, simulated and derived, and the share of points on which they agree.

    Returns
    -------
    DataFrame
        One row an experiment (the main map: one a device count).
    """
    import pandas as pd

    rows = []
    for name, dataset in datasets.items():
        parts = [(name, dataset)]
        if "count" in dataset.dims:
            parts = [(f"{name}, {n} devices", dataset.sel(count=n)) for n in dataset["count"].values]
        for label, part in parts:
            simulated, derived = part["category"].values, part["derived"].values
            row: dict[str, Any] = {"experiment": label, "points": simulated.size}
            for number, words in enumerate(CATEGORIES):
                row[words] = int((simulated == number).sum())
                row[f"{words} (derived)"] = int((derived == number).sum())
            row["agree"] = float((simulated == derived).mean())
            rows.append(row)
    return pd.DataFrame(rows)


def outcomes(datasets: Mapping[str, xr.Dataset]) -> pd.DataFrame:
    """Migrations per policy and outcome."""
    import pandas as pd

    from migkit.results import Outcome

    rows = []
    for name, dataset in datasets.items():
        for policy in POLICIES:
            values = dataset.outcome.sel(policy=policy).values
            counts = {outcome.label: int((values == outcome).sum()) for outcome in Outcome}
            rows.append({"experiment": name, "policy": policy, "migrations": values.size} | counts)
    return pd.DataFrame(rows)


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
    """Read a stored result; None if there is none, or if it was made from another scenario."""
    import xarray as xr

    path = folder / f"{experiment.name}.zarr"
    if not path.is_dir():
        return None
    dataset = xr.load_dataset(path, engine="zarr", consolidated=False)
    return dataset if dataset.attrs.get("description") == experiment.scenario.to_toml() else None


def report(datasets: Mapping[str, xr.Dataset]) -> str:
    """What the study found, beside what is derived from the loop's constants; plain text."""
    found = findings(datasets)
    ended = outcomes(datasets)
    lines = ["", "Points by who converges, simulated / derived:"]
    width = max(len(name) for name in found.experiment)
    lines.append(f"{'':{width}}" + "".join(f"  {words:>20}" for words in CATEGORIES) + "     agree")
    for _, row in found.iterrows():
        pairs = [f"{row[words]} / {row[words + ' (derived)']}" for words in CATEGORIES]
        cells = "".join(f"  {pair:>20}" for pair in pairs)
        lines.append(f"{row.experiment:{width}}{cells}  {row.agree:8.2%}")
    lines += ["", "Migrations by policy and outcome:"]
    lines += ["  " + line for line in ended.to_string(index=False).splitlines()]
    lines += [
        "",
        "Derived: with L what the thread pushes through the link, M max-bandwidth, D the downtime limit, a slice",
        "S = min(0.051 s L, 0.1 s M) and a threshold min(L, M) D, a serialized walk starves a device behind RAM when",
        "the dirty part of the hot set lies between S and the threshold; an unserialized one when also",
        f"L > {STARVES_ABOVE:.2f} M.",
        f"Where the two differ the point lies within {edge_distance(datasets):.0%} of an edge: pending bytes hold the",
        "device's stop-copy too, and the threshold is that of one window, not of the mean.",
    ]
    return "\n".join(lines)


def edge_distance(datasets: Mapping[str, xr.Dataset]) -> float:
    """How far, along an axis of the planes, a point that differs from the derivation lies from an edge of it.

    Returns
    -------
    float
        The largest relative distance in either axis to the nearest point that the derivation puts elsewhere.
    """
    worst = 0.0
    for dataset in datasets.values():
        y, x = dataset["category"].dims[-2:]
        steps = [float(dataset[dim].values[1] / dataset[dim].values[0]) for dim in (y, x)]
        simulated = dataset["category"].values.reshape(-1, *dataset["category"].shape[-2:])
        derived = dataset["derived"].values.reshape(simulated.shape)
        for plane, row, column in np.argwhere(simulated != derived):
            wanted = derived[plane] == simulated[plane, row, column]
            away = np.inf
            for line, place, step in (
                (wanted[:, column], row, steps[0]),
                (wanted[row, :], column, steps[1]),
            ):
                places = np.flatnonzero(line)
                if places.size:
                    away = min(away, step ** float(np.abs(places - place).min()) - 1.0)
            worst = max(worst, away)
    return worst
