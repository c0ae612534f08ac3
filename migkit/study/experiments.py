"""The named experiments behind the figures and notebooks.

An experiment is a scenario and its axes. ``migkit study`` runs the maps and compares each of their points with
:mod:`migkit.analysis.closed_form`; the further experiments are computed when a figure needs them.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.analysis.closed_form import POLICIES, Inputs, categories
from migkit.kernels.state import MODEL_VERSION
from migkit.results import validated
from migkit.run.checksums import CHECKSUMS, Checksums
from migkit.run.whole_file import whole_folder
from migkit.scenario.errors import AnotherSweep, DamagedStore
from migkit.scenario.scenario import Guest, Link, Migration, Region, Scenario, Vfio
from migkit.scenario.units import geomspace, linspace

if TYPE_CHECKING:
    import xarray as xr

_LOG = logging.getLogger(__name__)


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
    axes : mapping
        As :func:`migkit.sweep` takes them, with a short name for each field but the policy:
        ``"bandwidth": {"link.bandwidth": values}``. The policy is one of them, the plane's two are the last.
    """

    name: str
    question: str
    scenario: Scenario
    axes: Mapping[str, Any]

    def axes_text(self) -> str:
        """The axes as JSON, by path: what a stored result is compared with."""
        groups = [given if isinstance(given, Mapping) else {key: given} for key, given in self.axes.items()]
        return json.dumps({path: list(values) for group in groups for path, values in group.items()})

    def cannot_be_computed(self) -> str:
        """Why it cannot be computed in this installation, as a sentence; empty if it can."""
        return ""

    def computed(self, progress: bool = False, folder: Path | None = None) -> xr.Dataset:
        """Sweep with the expected engine; the Dataset has the simulated and the derived categories."""
        Inputs.of(self.scenario)  # refuse a scenario without derived categories before anything is computed
        return categories(_swept(self, "expected", progress, folder))


class Repeated(Experiment):
    """Migrations of the bitmap engine, repeated along the axis ``replicate``."""

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
        """Bisect; with a folder an interrupted run goes on from what it computed."""
        from migkit.analysis.frontier import frontier

        return _going_on(
            None if folder is None else _migrations_of(folder, self.name),
            lambda store: frontier(
                self.scenario, self.axis, self.between, self.axes, progress=progress, store=store, **self.arguments
            ),
        )


@dataclass(frozen=True)
class Sensitive(Experiment):
    """Sobol indices for each value of one axis (:func:`migkit.sensitivity`)."""

    ranges: Mapping[str, Any] = field(default_factory=dict)
    points: int = 1024

    def axes_text(self) -> str:
        """The axis, the ranges and the number of points, as JSON."""
        return json.dumps({"over": super().axes_text(), "ranges": dict(self.ranges), "points": self.points})

    def cannot_be_computed(self) -> str:
        """Without SALib it cannot."""
        from importlib.util import find_spec

        return "" if find_spec("SALib") else "it needs SALib: pip install 'migkit[sensitivity]'"

    def computed(self, progress: bool = False, folder: Path | None = None) -> xr.Dataset:
        """One analysis for each value of the axis; with a folder an interrupted run goes on from what it computed."""
        import xarray as xr

        from migkit.analysis.sensitivity import sensitivity

        ((path, values),) = self.axes.items()
        found = []
        for number, value in enumerate(values):
            scenario = self.scenario.replace(path, value)
            found.append(
                _going_on(
                    None if folder is None else _migrations_of(folder, self.name) / str(number),
                    lambda store, scenario=scenario: sensitivity(  # type: ignore[misc]
                        scenario, self.ranges, points=self.points, progress=progress, store=store
                    ),
                )
            )
        completed = [one.attrs.pop("completed") for one in found]
        joined = xr.concat(found, xr.Variable(path, np.array(values, dtype=object)), combine_attrs="override")
        # the scenario that all values of the axis share
        joined = joined.assign(completed=(path, completed)).assign_attrs(description=self.scenario.to_toml())
        return validated(joined, "sensitivity")


def _swept(experiment: Experiment, engine: str, progress: bool, folder: Path | None) -> xr.Dataset:
    """Sweep in memory, or with a folder in a store beside the result: an interrupted run resumes from there."""
    from migkit.run.many import sweep

    if folder is None:
        return sweep(experiment.scenario, experiment.axes, engine, progress=progress)
    path = _unfinished(folder, experiment.name)
    try:
        dataset = sweep(experiment.scenario, experiment.axes, engine, progress=progress, store=path)
        current = dataset.attrs.get("model_version") == MODEL_VERSION
    except (AnotherSweep, DamagedStore):
        current = False
    if not current:
        shutil.rmtree(path)  # of another model, or with other axes
        dataset = sweep(experiment.scenario, experiment.axes, engine, progress=progress, store=path)
    return dataset.load().drop_encoding()


def _going_on(store: Path | None, compute: Callable[[Path | None], xr.Dataset]) -> xr.Dataset:
    """Compute with the migrations that an interrupted run left; those of another model or of other axes are removed."""
    try:
        return compute(store)
    except AnotherSweep:
        assert store is not None
        shutil.rmtree(store)
        return compute(store)


def _unfinished(folder: Path, name: str) -> Path:
    return folder / f"{name}.sweep.zarr"


def _migrations_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.migrations"


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
    """Make the experiments of the study, by name.

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
                "count": {"devices.0.count": tuple(range(9))},
                "policy": POLICIES,
                "write_rate": {"guest.regions.0.write_rate": geomspace("10 MB/s", "20 GB/s", points)},
                "bandwidth": {"link.bandwidth": geomspace("1 Gbit/s", "100 Gbit/s", points)},
            },
        ),
        Experiment(
            "starvation",
            "When does unserialized iteration still starve a device?",
            _scenario("32 MiB", "40 GB/s", "8 MiB", "128 MiB/s", "4 GiB"),
            {
                "policy": POLICIES,
                "max_bandwidth": {"migration.max_bandwidth": geomspace("16 MiB/s", "4 GiB/s", points)},
                "bandwidth": {"link.bandwidth": geomspace("200 Mbit/s", "40 Gbit/s", points)},
            },
        ),
        Experiment(
            "band",
            "Which hot sets starve a device behind RAM?",
            _scenario("320 MiB", "400 GB/s", "16 MiB", 0),
            {
                "policy": POLICIES,
                "size": {"guest.regions.0.size": geomspace("4 MiB", "8 GiB", points, multiple="4 KiB")},
                "bandwidth": {"link.bandwidth": geomspace("1 Gbit/s", "100 Gbit/s", points)},
            },
        ),
    )
    return {experiment.name: experiment for experiment in every}


def further_experiments(points: int = 41, replicates: int = 40, samples: int = 1024) -> dict[str, Experiment]:
    """Make the experiments behind the other figures, by name.

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
    few = {"bandwidth": {links: geomspace("1 Gbit/s", "8 Gbit/s", 7)}}
    many = {"bandwidth": {links: geomspace("1 Gbit/s", "100 Gbit/s", points)}}
    every = (
        Flip(
            "frontier",
            "Up to which dirty rate does a migration complete?",
            large,
            {"count": {"devices.0.count": (0, 1, 8)}, **many},
            rate,
            ("10 MB/s", "20 GB/s"),
            {"policy": list(POLICIES)},
        ),
        Flip(
            "hot_set_band",
            "Between which hot sets does serialized iteration starve a device?",
            large.replace("guest.regions.0.write_rate", "400 GB/s").replace("policy", "serialized"),
            many,
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
            {
                "policy": POLICIES,
                "write_rate": {rate: linspace("272 MB/s", "284 MB/s", 25)},
                "replicate": tuple(range(replicates)),
            },
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
    """Compute an experiment.

    Parameters
    ----------
    experiment : Experiment
    progress : bool, default False
        Count the migrations while they are computed.
    folder : Path, optional
        Keep the finished part of a sweep here: an interrupted run resumes from there.

    Returns
    -------
    Dataset
        With the experiment's name, question and axes as attributes.
    """
    dataset = experiment.computed(progress, folder)
    named = {"experiment": experiment.name, "question": experiment.question, "axes": experiment.axes_text()}
    # a frontier's own description has the policy in it, by which a stored result would not be recognised
    return dataset.assign_attrs(named | {"description": experiment.scenario.to_toml(), "model_version": MODEL_VERSION})


def result(experiment: Experiment, folder: Path, progress: bool = False) -> xr.Dataset:
    """Read the result of an experiment from ``folder``, or compute it and store it there.

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
    """Write the result of an experiment to ``folder/<experiment>.zarr``, in place of an older one.

    :func:`load` finds the older result or the new one at every moment, and after a kill at any moment.

    Parameters
    ----------
    dataset : Dataset
        Of :func:`run`.
    folder : Path
        Made if it does not exist.

    Returns
    -------
    Path
    """
    path = folder / f"{dataset.attrs['experiment']}.zarr"
    with whole_folder(path, replaced=path.with_suffix(_OLD)) as new:
        dataset.to_zarr(new, consolidated=False)
        Checksums.of(new).write(new)
    for left in (_unfinished, _migrations_of):
        shutil.rmtree(left(folder, dataset.attrs["experiment"]), ignore_errors=True)
    return path


_OLD = ".old.zarr"
"""Suffix of a result while a new one takes its place."""


def load(experiment: Experiment, folder: Path) -> xr.Dataset | None:
    """Read a stored result.

    Parameters
    ----------
    experiment : Experiment
    folder : Path

    Returns
    -------
    Dataset or None
        None if there is no result, if a file of it is missing or damaged, or if it has another scenario, other axes,
        or another version of the model or of migkit.
    """
    import xarray as xr

    import migkit

    wanted = {
        "description": experiment.scenario.to_toml(),
        "axes": experiment.axes_text(),
        "migkit_version": migkit.__version__,
        "model_version": MODEL_VERSION,
    }
    path = folder / f"{experiment.name}.zarr"
    told = ""
    for place in (path, path.with_suffix(_OLD), path):  # the new one may appear meanwhile
        if not place.is_dir():
            continue
        try:
            checksums = Checksums.read(place)
            damaged = f"{CHECKSUMS}/zarr.json" if checksums is None else next(checksums.damaged(place), None)
            if damaged is not None:
                told = damaged
                continue
            dataset = xr.load_dataset(place, engine="zarr", consolidated=False)
        except FileNotFoundError:
            continue
        return dataset if all(dataset.attrs.get(key) == value for key, value in wanted.items()) else None
    if told:
        _LOG.warning("%s is damaged: %s is not what was written; it is computed again", path, told)
    return None


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
