"""The named experiments behind the figures and notebooks.

An experiment is a scenario and what is varied, nothing else. ``migkit study`` runs the maps and sets what is simulated
beside what :mod:`migkit.analysis.closed_form` says of each point; the further experiments are computed when a figure
needs them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.analysis.closed_form import CATEGORIES, category, derived_at
from migkit.kernels.state import MODEL_VERSION
from migkit.run.whole_file import whole_folder
from migkit.scenario.errors import AnotherSweep
from migkit.scenario.scenario import Guest, Link, Migration, Region, Scenario, Vfio
from migkit.scenario.units import geomspace, linspace

if TYPE_CHECKING:
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

    def computed(self, progress: bool = False, folder: Path | None = None) -> xr.Dataset:
        """Sweep with the expected engine; the Dataset gets the simulated and the derived category."""
        dataset = _swept(self, "expected", progress, folder)
        completed = dataset["outcome"] == 0
        serialized, unserialized = (completed.sel(policy=policy, drop=True) for policy in POLICIES)
        notes = {"flag_values": list(range(4)), "flag_meanings": "; ".join(CATEGORIES)}
        simulated = serialized.copy(data=category(serialized.values, unserialized.values).astype(np.int8))
        dataset["category"] = simulated.assign_attrs(notes, long_name="who converges")
        for name, window_syncs in (("derived", False), ("derived_window_syncs", True)):
            verdict = derived_at(dataset, self.scenario, window_syncs)
            words = "who converges by the derivation"
            if window_syncs:
                words += ", the threshold from a window in which every turn syncs"
            dataset[name] = verdict.assign_attrs(notes, long_name=words)
        return dataset


class Repeated(Experiment):
    """Migrations of the bitmap engine; the axis ``replicate`` repeats them, so that they have a spread."""

    def computed(self, progress: bool = False, folder: Path | None = None) -> xr.Dataset:
        """Sweep with the bitmap engine."""
        return _swept(self, "bitmap", progress, folder)


@dataclass(frozen=True)
class Flip(Experiment):
    """Where the outcome flips along one axis, over the others (:func:`migkit.frontier`)."""

    axis: str = ""
    between: tuple[Any, Any] = ("", "")
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def axes_text(self) -> str:
        """The axes, the bisected one and how it is bisected, as JSON."""
        bisected = {self.axis: list(self.between), "arguments": dict(self.arguments)}
        return json.dumps({"over": super().axes_text(), **bisected})

    def computed(self, progress: bool = False, folder: Path | None = None) -> xr.Dataset:
        """Bisect; seconds, so that nothing is kept on the way."""
        from migkit.analysis.frontier import frontier

        return frontier(self.scenario, self.axis, self.between, self.axes, progress=progress, **self.arguments)


@dataclass(frozen=True)
class Sensitive(Experiment):
    """Sobol indices for each value of one axis (:func:`migkit.sensitivity`)."""

    ranges: Mapping[str, Any] = field(default_factory=dict)
    points: int = 1024

    def axes_text(self) -> str:
        """The axis, the ranges and the number of points, as JSON."""
        return json.dumps({"over": super().axes_text(), "ranges": dict(self.ranges), "points": self.points})

    def computed(self, progress: bool = False, folder: Path | None = None) -> xr.Dataset:
        """One analysis a value of the axis; seconds each, so that nothing is kept on the way."""
        import xarray as xr

        from migkit.analysis.sensitivity import sensitivity

        ((path, values),) = self.axes.items()
        found = [
            sensitivity(self.scenario.replace(path, value), self.ranges, points=self.points, progress=progress)
            for value in values
        ]
        completed = ("completed", [one.attrs.pop("completed") for one in found])
        joined = xr.concat(found, xr.Variable(path, np.array(values, dtype=object)), combine_attrs="override")
        joined["completed"] = (path, completed[1], {"units": "1", "long_name": "share that completed"})
        # the text of the scenario that all share, not that of the first value
        return joined.assign_attrs(description=self.scenario.to_toml())


def _swept(experiment: Experiment, engine: str, progress: bool, folder: Path | None) -> xr.Dataset:
    """Sweep in memory, or with a folder in a store beside the result, so that an interrupted run goes on."""
    from migkit.run.many import sweep

    if folder is None:
        return sweep(experiment.scenario, experiment.axes, engine, progress=progress)
    path = _unfinished(folder, experiment.name)
    try:
        dataset = sweep(experiment.scenario, experiment.axes, engine, progress=progress, store=path)
        current = dataset.attrs.get("model_version") == MODEL_VERSION
    except AnotherSweep:
        current = False
    if not current:
        shutil.rmtree(path)  # of another model, or with other axes
        dataset = sweep(experiment.scenario, experiment.axes, engine, progress=progress, store=path)
    return dataset.load().drop_encoding()


def _unfinished(folder: Path, name: str) -> Path:
    return folder / f"{name}.sweep.zarr"


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


def further_experiments(points: int = 41, replicates: int = 40, samples: int = 1024) -> dict[str, Experiment]:
    """The experiments behind the other figures, by name.

    Parameters
    ----------
    points : int, default 41
        Links of a frontier of the expected engine.
    replicates : int, default 40
        Of the bitmap engine; frontiers take half of them.
    samples : int, default 1024
        Base points of the sensitivity analysis, a power of two.

    Returns
    -------
    dict of str to Experiment

    Examples
    --------
    >>> sorted(further_experiments())
    ['edge', 'frontier', 'frontier_bitmap', 'frontier_expected', 'hot_set_band', 'sensitivity']
    """
    large = _scenario("320 MiB", "1 GB/s", "16 MiB", 0)
    # bitmap migrations that never complete run to the time limit, so that it is short: a first pass takes 17 s at most
    small = _scenario("64 MiB", "1 GB/s", "4 MiB", 0, "2 GiB").replace("time_limit", "40 s")
    serialized = small.replace("policy", "serialized")
    rate, links = "guest.regions.0.write_rate", "link.bandwidth"
    question = "How far is the bitmap engine's critical dirty rate from the expected engine's?"
    few = {links: geomspace("1 Gbit/s", "8 Gbit/s", 7)}
    every = (
        Flip(
            "frontier",
            "Up to which dirty rate does a migration complete?",
            large,
            {"devices.0.count": (0, 1, 8), links: geomspace("1 Gbit/s", "100 Gbit/s", points)},
            rate,
            ("10 MB/s", "20 GB/s"),
            {"policy": list(POLICIES)},
        ),
        Flip(
            "hot_set_band",
            "Between which hot sets does the serialized walk starve a device?",
            large.replace("guest.regions.0.write_rate", "400 GB/s").replace("policy", "serialized"),
            {links: geomspace("1 Gbit/s", "100 Gbit/s", points)},
            "guest.regions.0.size",
            ("4 MiB", "8 GiB"),
            {"outcome": "initial_data_starved"},
        ),
        Flip("frontier_expected", question, serialized, few, rate, ("50 MB/s", "4 GB/s"), {"tolerance": 0.0002}),
        Flip(
            "frontier_bitmap",
            question,
            serialized,
            few,
            rate,
            ("50 MB/s", "4 GB/s"),
            {"tolerance": 0.0002, "engine": "bitmap", "replicates": max(1, replicates // 2)},
        ),
        Repeated(
            "edge",
            "How sharp is the edge of convergence?",
            small.replace("link.bandwidth", "2 Gbit/s"),
            {"policy": POLICIES, rate: linspace("272 MB/s", "284 MB/s", 25), "replicate": tuple(range(replicates))},
        ),
        Sensitive(
            "sensitivity",
            "Which knobs matter?",
            large.replace("time_limit", "2 min"),
            {"policy": POLICIES},
            {
                rate: {"geomspace": ["100 MB/s", "20 GB/s"]},
                "guest.regions.0.size": {"geomspace": ["32 MiB", "2 GiB"], "multiple": "4 KiB"},
                links: {"geomspace": ["5 Gbit/s", "100 Gbit/s"]},
                "migration.max_bandwidth": {"geomspace": ["256 MiB/s", "16 GiB/s"]},
                "migration.downtime_limit": {"geomspace": ["50 ms", "2 s"]},
                "devices.0.initial_bytes": {"geomspace": ["1 MiB", "256 MiB"]},
                "devices.0.stop_copy_bytes": {"geomspace": ["64 KiB", "64 MiB"]},
                "devices.0.count": {"linspace": [1, 8]},
            },
            samples,
        ),
    )
    return {experiment.name: experiment for experiment in every}


def run(experiment: Experiment, progress: bool = False, folder: Path | None = None) -> xr.Dataset:
    """Compute an experiment; with a folder, a sweep goes on with what an interrupted run has left there."""
    dataset = experiment.computed(progress, folder)
    named = {"experiment": experiment.name, "question": experiment.question, "axes": experiment.axes_text()}
    # frontiers write one policy into the text; stored results are compared with what the experiment says
    return dataset.assign_attrs(named | {"description": experiment.scenario.to_toml(), "model_version": MODEL_VERSION})


def result(experiment: Experiment, folder: Path, progress: bool = False) -> xr.Dataset:
    """The result of an experiment: read if it is stored in ``folder``, else computed and stored there.

    Parameters
    ----------
    experiment : Experiment
    folder : Path
        Folder of the results.
    progress : bool, default False
        Count the migrations while they are computed.

    Returns
    -------
    Dataset
    """
    found = load(experiment, Path(folder))
    if found is None:
        found = run(experiment, progress, Path(folder))
        store(found, Path(folder))
    return found


def store(dataset: xr.Dataset, folder: Path) -> Path:
    """Write the result of an experiment to ``folder/<experiment>.zarr``, whole; an older one is kept until then."""
    path = folder / f"{dataset.attrs['experiment']}.zarr"
    with whole_folder(path, replace=True) as new:
        dataset.to_zarr(new, consolidated=False)
    shutil.rmtree(_unfinished(folder, dataset.attrs["experiment"]), ignore_errors=True)
    return path


def load(experiment: Experiment, folder: Path) -> xr.Dataset | None:
    """Read a stored result; None if there is none, or if scenario, axes, model or version of migkit were others."""
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
        "model_version": MODEL_VERSION,
    }
    return dataset if all(dataset.attrs.get(key) == value for key, value in wanted.items()) else None


__all__ = [
    "POLICIES",
    "Experiment",
    "experiments",
    "further_experiments",
    "load",
    "result",
    "run",
    "store",
]
