"""The figures of the study, composed from the functions of :mod:`migkit.figures`, and written to files.

The figures of maps and bands take any Dataset with the same axes: names of dimensions, the guest and the derived
boundaries come from the Dataset itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.analysis.closed_form import (
    STARVES_ABOVE,
    Inputs,
    categories,
    coordinate,
    effective_link,
    fitting_write_rate,
    slice_bytes,
    starving_write_rate,
    swept_scenario,
    threshold_bytes,
)
from migkit.analysis.uncertainty import convergence
from migkit.figures.claim import initial_data_over_time, syncs_over_time
from migkit.figures.frontier import critical_band, critical_deviation, critical_values, none_beyond
from migkit.figures.lab import above_the_limit, convergence_gained, time_against, ways_ended
from migkit.figures.planes import boundary, category_legend, category_panel
from migkit.figures.probability import convergence_probability
from migkit.figures.save import data_hash, save_figure
from migkit.figures.sensitivity import sensitivity_bars
from migkit.figures.style import COLUMN_IN, NO_INTERVAL, PAGE_IN, style
from migkit.figures.timeline import given_over_time, pending_over_time, shares, shares_over_time
from migkit.figures.validation import prediction_errors, validation
from migkit.kernels.state import PAGE_HEADER
from migkit.results import CATEGORIES, Outcome, seconds_text
from migkit.scenario.errors import ScenarioError
from migkit.study.experiments import experiments

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from migkit.qemu.claim import Claim
    from migkit.scenario.scenario import Scenario

__all__ = [
    "FIGURES",
    "SIMULATED",
    "claim_figure",
    "commit_4e1871c450_scenario",
    "convergence_map",
    "count_map",
    "device_shares",
    "frontier_figure",
    "lab_costs",
    "lab_figure",
    "probability_figure",
    "sensitivity_figure",
    "starvation_band",
    "starvation_plane",
    "two_policies",
    "validation_figure",
    "write_all",
    "write_claim",
    "write_lab",
    "write_validation",
]

MIB = 2**20
DEFAULT_MAX_BANDWIDTH = 128 * MIB
"""Bytes/s (``migration/options.c``)."""
DEVICES, WRITE_RATE, HOT_SET = "devices.0.count", "guest.regions.0.write_rate", "guest.regions.0.size"
LINK, MAX_BANDWIDTH = "link.bandwidth", "migration.max_bandwidth"


def _axis(dataset: xr.Dataset, path: str) -> str:
    """The name that the axis of a field has in a Dataset."""
    found = coordinate(dataset, path)
    if found is None or found.dims != (found.name,):
        raise ScenarioError("is not an axis of this Dataset, and the figure needs it", path)
    return str(found.name)


def _with_categories(dataset: xr.Dataset) -> xr.Dataset:
    return dataset if "category" in dataset else categories(dataset)


def _counts(dataset: xr.Dataset) -> list[int]:
    return [int(count) for count in dataset[_axis(dataset, DEVICES)].values]


def _devices_title(count: int) -> str:
    return f"{count} VFIO device" + ("" if count == 1 else "s")


def _present(plane: xr.DataArray) -> set[int]:
    return {int(number) for number in np.unique(plane.values)}


def convergence_map(dataset: xr.Dataset, counts: Sequence[int] | None = None) -> Figure:
    """Draw dirty rate over link, one panel a number of VFIO devices, with the derived boundaries.

    Parameters
    ----------
    dataset : Dataset
        A sweep over policy, device count, dirty rate and link.
    counts : sequence of int, optional
        Device counts; by default the two smallest and the largest.
    """
    from matplotlib.figure import Figure

    dataset = _with_categories(dataset)
    known = _counts(dataset)
    counts = sorted({*known[:2], known[-1]}) if counts is None else counts
    x, y = _axis(dataset, LINK), _axis(dataset, WRITE_RATE)
    figure = Figure(figsize=(PAGE_IN, 3.1), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(counts), sharey=True))
    present: set[int] = set()
    lines: dict[str, Any] = {}
    for ax, count in zip(axes, counts, strict=True):
        panel = dataset.sel({_axis(dataset, DEVICES): count})
        plane = panel["category"]
        present |= _present(plane)
        category_panel(plane, ax, x, y)
        if ax is not axes[0]:
            ax.set_ylabel("")
        ax.set_title(_devices_title(count))
        links = np.geomspace(plane[x].values[0], plane[x].values[-1], 400)
        inputs = Inputs.at(panel)._replace(link=links)
        fits = fitting_write_rate(inputs)
        lines["fits"] = boundary(ax, links, fits, "derived: below, RAM fits the downtime limit", 1)
        if count:
            drains = starving_write_rate(inputs)
            lines["drains"] = boundary(ax, links, drains, "derived: below, each iteration drains RAM")
    category_legend(figure, present, lines, loc="outside lower center", ncols=2, title=NO_INTERVAL)
    return figure


def starvation_plane(dataset: xr.Dataset) -> Figure:
    """Draw max-bandwidth over link, with the line above which RAM alone uses up each window.

    Where neither policy converges the text says why unserialized iteration does not.

    Parameters
    ----------
    dataset : Dataset
        A sweep over policy, max-bandwidth and link.
    """
    from matplotlib.figure import Figure

    dataset = _with_categories(dataset)
    x, y = _axis(dataset, LINK), _axis(dataset, MAX_BANDWIDTH)
    figure = Figure(figsize=(COLUMN_IN, 3.5), layout="constrained")
    ax = figure.subplots()
    plane = dataset["category"].transpose(y, x)
    category_panel(plane, ax, x, y)
    xs, ys = plane[x].values, plane[y].values
    inputs = Inputs.at(dataset)
    starves = effective_link(xs, inputs.page_s, inputs.page_size) / STARVES_ABOVE
    ratio = f"link = {STARVES_ABOVE:.2f} max-bandwidth"
    thread = float((inputs.page_size + PAGE_HEADER) / inputs.page_s) if np.ndim(inputs.page_s) == 0 else np.inf
    if thread < xs.max():  # the migration thread pushes less than such a link carries
        ratio += f"\n(thread's from {thread * 8e-9:.3g} Gbit/s on)"
    lines = {
        "ratio": boundary(ax, xs, starves, ratio),
        "default": boundary(ax, xs, np.full_like(xs, DEFAULT_MAX_BANDWIDTH), "QEMU's default, 128 MiB/s", 1),
    }
    ended = dataset["outcome"].sel({_axis(dataset, "policy"): "unserialized"}).transpose(y, x).values
    _divide(ax, plane, ended)
    # at heights of their areas that are clear of the lines
    starved = (Outcome.INITIAL_DATA_STARVED, "device starved", 0.75)
    for outcome, words, height in (starved, (Outcome.RAM_ABOVE_LINK, "RAM does not fit", 0.3)):
        rows, columns = np.nonzero(ended == outcome)
        if rows.size:
            row = int(np.quantile(rows, height))
            column = int(np.quantile(columns[rows == row], 0.65))
            ax.annotate(words, (xs[column], ys[row]), color="white", ha="center", va="center", fontsize=7)
    category_legend(figure, _present(plane), lines, loc="outside lower center", ncols=2, columnspacing=1.0,
                    title=NO_INTERVAL)  # fmt: skip
    return figure


def _divide(ax: Axes, plane: xr.DataArray, ended: np.ndarray) -> None:
    """Draw the border between two outcomes where neither policy converges, which have one colour."""
    y, x = plane.dims
    reasons = (Outcome.INITIAL_DATA_STARVED, Outcome.RAM_ABOVE_LINK)
    dark = (plane.values == CATEGORIES.index("neither converges")) & np.isin(ended, reasons)
    starved = np.where(dark, ended == Outcome.INITIAL_DATA_STARVED, np.nan)
    if len(np.unique(starved[dark])) > 1:
        ax.contour(plane[x].values, plane[y].values, starved, levels=[0.5], colors="white", linewidths=0.8)


def starvation_band(dataset: xr.Dataset) -> Figure:
    """Draw hot set over link, with the two boundaries of the starvation band: one slice, and the threshold.

    Parameters
    ----------
    dataset : Dataset
        A sweep over policy, hot set and link.
    """
    from matplotlib.figure import Figure

    dataset = _with_categories(dataset)
    x, y = _axis(dataset, LINK), _axis(dataset, HOT_SET)
    figure = Figure(figsize=(COLUMN_IN, 3.5), layout="constrained")
    ax = figure.subplots()
    plane = dataset["category"]
    category_panel(plane, ax, x, y)
    xs = plane[x].values
    inputs = Inputs.at(dataset)._replace(link=xs)
    limit = seconds_text(inputs.downtime_limit_s)
    lines = {
        "slice": boundary(ax, xs, slice_bytes(inputs), "slice: sent in one iteration"),
        "threshold": boundary(ax, xs, threshold_bytes(inputs), f"threshold: bandwidth x {limit}", 1),
    }
    category_legend(figure, _present(plane), lines, loc="outside lower center", ncols=2, columnspacing=1.0,
                    title=NO_INTERVAL)  # fmt: skip
    return figure


def commit_4e1871c450_scenario() -> Scenario:
    """The case of QEMU commit 4e1871c450: a hot set between what an iteration sends and the threshold."""
    scenario = experiments(2)["convergence"].scenario.replace(HOT_SET, "200 MiB")
    return scenario.replace(WRITE_RATE, "4 GB/s")


def two_policies() -> tuple[Figure, list[pd.DataFrame]]:
    """Draw both policies on :func:`commit_4e1871c450_scenario` side by side: pending, and bytes sent by device.

    Returns
    -------
    figure : Figure
    timelines : list of DataFrame
        One a policy.
    """
    from matplotlib.figure import Figure

    from migkit.run.simulate import simulate

    scenario = commit_4e1871c450_scenario()
    figure = Figure(figsize=(PAGE_IN, 3.6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    timelines = []
    for column, policy in enumerate(("serialized", "unserialized")):
        migration = simulate(scenario.replace("policy", policy))
        timeline = migration.timeline
        timelines.append(timeline)
        pending_over_time(timeline, axes[0, column])
        given_over_time(timeline, axes[1, column])
        axes[0, column].set_title(f"{policy}: {migration.outcome.label.replace('_', ' ')}")
        axes[0, column].set_xlabel("")
        if column:
            axes[0, column].set_ylabel("")
            axes[1, column].set_ylabel("")
    axes[0, 1].legend(loc="center left", bbox_to_anchor=(0.02, 0.5), title=NO_INTERVAL, alignment="left")
    axes[1, 1].legend(loc="center right", bbox_to_anchor=(1.0, 0.62))
    return figure, timelines


def device_shares() -> tuple[Figure, list[pd.DataFrame]]:
    """Draw the shares of the link of RAM and three devices, under both policies and above and below max-bandwidth.

    Returns
    -------
    figure : Figure
    timelines : list of DataFrame
        One a panel.
    """
    from matplotlib.figure import Figure

    from migkit.run.simulate import simulate

    unlimited, limited = commit_4e1871c450_scenario(), experiments(2)["starvation"].scenario
    cases = (
        ("(a) serialized, 10 Gbit/s, no limit", unlimited.replace("policy", "serialized")),
        ("(b) unserialized, 10 Gbit/s, no limit", unlimited.replace("policy", "unserialized")),
        ("(c) unserialized, 10 Gbit/s, 128 MiB/s", limited.replace("policy", "unserialized")),
        ("(d) unserialized, 2 Gbit/s, 128 MiB/s",
         limited.replace("policy", "unserialized").replace("link.bandwidth", "2 Gbit/s")),
    )  # fmt: skip
    figure = Figure(figsize=(PAGE_IN, 4.2), layout="constrained")
    axes = figure.subplots(2, 2, sharey=True)
    timelines = []
    for place, (ax, (title, scenario)) in enumerate(zip(axes.flat, cases, strict=True)):
        scenario = scenario.replace("devices.0.count", 3).replace("devices.0.initial_bytes", "64 MiB")
        migration = simulate(scenario)
        timelines.append(migration.timeline)
        shares_over_time(shares(migration.timeline), ax)
        ax.set_title(f"{title}:\n{migration.outcome.label.replace('_', ' ')}")
        if place % 2:
            ax.set_ylabel("")
        if place < 2:
            ax.set_xlabel("")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=len(labels),
                  title=f"titles: policy, link, max-bandwidth, outcome; {NO_INTERVAL}")  # fmt: skip
    return figure, timelines


def count_map(dataset: xr.Dataset) -> Figure:
    """Draw dirty rate over link, a small panel for every number of VFIO devices.

    Parameters
    ----------
    dataset : Dataset
        A sweep over policy, device count, dirty rate and link.
    """
    from matplotlib.figure import Figure

    dataset = _with_categories(dataset)
    x, y = _axis(dataset, LINK), _axis(dataset, WRITE_RATE)
    counts = _counts(dataset)
    columns = min(3, len(counts))
    rows = -(-len(counts) // columns)
    figure = Figure(figsize=(PAGE_IN, 1.1 + 1.55 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    present: set[int] = set()
    for place, (ax, count) in enumerate(zip(axes.flat, counts, strict=False)):
        plane = dataset["category"].sel({_axis(dataset, DEVICES): count})
        present |= _present(plane)
        category_panel(plane, ax, x, y)
        ax.set_title(_devices_title(count))
        if place % columns:
            ax.set_ylabel("")
        if place + columns < len(counts):
            ax.set_xlabel("")
    for ax in axes.flat[len(counts) :]:
        ax.set_visible(False)
    category_legend(figure, present, loc="outside lower center", ncols=4, title=NO_INTERVAL)
    return figure


def frontier_figure(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """Draw the critical dirty rate, the band of hot sets that starve a device, and the bitmap engine's deviation.

    Parameters
    ----------
    datasets : mapping of str to Dataset
        The study's ``frontier``, ``hot_set_band``, ``frontier_bitmap`` and ``frontier_expected``.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # the legends, below their panels and wider than these, have the rest of the height
    figure = Figure(figsize=(PAGE_IN, 2.9), layout=ConstrainedLayoutEngine(rect=(0, 0.18, 1, 0.82)))
    rates, band, deviation = figure.subplots(1, 3)
    frontier, bitmap = datasets["frontier"], datasets["frontier_bitmap"]
    # without a device both policies are the same; the serialized line is the same for 1 device and for 8
    shown = ((0, "serialized", "either, no device"), (1, "serialized", "serialized, 1 device"),
             (8, "unserialized", "unserialized, 8 devices"))  # fmt: skip
    for number, (count, policy, label) in enumerate(shown):
        line = frontier.sel({_axis(frontier, DEVICES): count, _axis(frontier, "policy"): policy})
        critical_values(line, rates, _axis(line, LINK), label, number, says_engine=False)
    kinds = {_axis(frontier, DEVICES): [count for count, _, _ in shown], _axis(frontier, "policy"): "unserialized"}
    none_beyond(frontier.sel(kinds), rates, _axis(frontier, LINK))
    rates.set_title(f"(a) {NO_INTERVAL}")
    critical_band(datasets["hot_set_band"], band, _axis(datasets["hot_set_band"], LINK), "device starves")
    band.set_title("(b) serialized, 1 device")
    critical_deviation(bitmap, datasets["frontier_expected"], deviation, _axis(bitmap, LINK))
    deviation.set_title(f"(c) serialized, {swept_scenario(bitmap).guest.ram} guest")
    for ax, side, x in ((rates, "left", -0.2), (band, "center", 0.32), (deviation, "right", 1.05)):
        ax.legend(loc=f"upper {side}", bbox_to_anchor=(x, -0.2)).set_in_layout(False)
    return figure


def probability_figure(dataset: xr.Dataset) -> Figure:
    """Draw the probability of convergence over the dirty rate, both policies.

    Parameters
    ----------
    dataset : Dataset
        A sweep of the bitmap engine over policy, dirty rate and replicate.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_IN, 2.5), layout="constrained")
    ax = figure.subplots()
    probability = convergence(dataset)
    policies = _axis(dataset, "policy")
    for number, policy in enumerate(probability[policies].values):
        line = probability.sel({policies: policy})
        convergence_probability(line, ax, _axis(dataset, WRITE_RATE), str(policy), number)
    ax.legend(loc="lower left")
    return figure


TITLES = {"convergence": "convergence", "total_time_s": "total time", "downtime_s": "downtime"}


def sensitivity_figure(dataset: xr.Dataset) -> Figure:
    """Draw Sobol indices, a row a policy and a column an output.

    Parameters
    ----------
    dataset : Dataset
        Of :func:`migkit.sensitivity`, joined along ``policy``.
    """
    from matplotlib.figure import Figure

    policies, outputs = dataset["policy"].values, dataset["output"].values
    figure = Figure(figsize=(PAGE_IN, 1.1 + 2.0 * len(policies)), layout="constrained")
    axes = figure.subplots(len(policies), len(outputs), sharex=True, sharey=True, squeeze=False)
    for row, policy in zip(axes, policies, strict=True):
        for ax, output in zip(row, outputs, strict=True):
            sensitivity_bars(dataset.sel(policy=policy, output=output), ax)
            ax.set_title(f"{policy}: {TITLES.get(str(output), str(output))}")
    for ax in axes[:-1].flat:
        ax.set_xlabel("")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    shown = f"lines on bars: {100 * dataset.attrs['confidence']:g} % interval"
    figure.legend(handles, labels, loc="outside lower center", ncols=2, title=shown)
    return figure


def validation_figure(configurations: pd.DataFrame) -> Figure:
    """Draw predicted against measured total time of the runs of real QEMU, and the distribution of the errors.

    Parameters
    ----------
    configurations : DataFrame
        Of :func:`migkit.qemu.validation.by_configuration`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_IN, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    validation(configurations, left)
    left.set_title("(a) total time")
    prediction_errors(configurations, right)
    right.set_title("(b) error of the total time")
    return figure


def write_all(datasets: Mapping[str, xr.Dataset], folder: Path, measured: pd.DataFrame | None = None) -> list[Path]:
    """Write every figure whose results are given into ``folder``.

    Parameters
    ----------
    datasets : mapping of str to Dataset
        Results of the study's experiments by name.
    folder : Path
    measured : DataFrame, optional
        Configurations of real QEMU, as :func:`migkit.qemu.validation.by_configuration` gives them.

    Returns
    -------
    list of Path
        What was written.
    """
    written = []
    with style():
        for name, (uses, draw) in FIGURES.items():
            if all(use in datasets for use in uses):
                used = {use: datasets[use] for use in uses}
                written += _saved(folder, name, draw(used), list(used.values()))
        for name, draw_simulated in SIMULATED.items():
            figure, timelines = draw_simulated()
            written += _saved(folder, name, figure, timelines)
    if measured is not None:
        written += write_validation(measured, folder)
    return written


def write_validation(measured: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the figure of predicted against measured into ``folder``.

    Parameters
    ----------
    measured : DataFrame
        As for :func:`write_all`; ``attrs["engine"]`` if it was not the expected one.
    folder : Path
    """
    with style():
        return _saved(folder, "validation", validation_figure(measured), [measured])


def claim_figure(found: Claim) -> Figure:
    """Draw what was recorded of the claim: a device starved and served, and a quiet guest that never completes.

    Parameters
    ----------
    found : Claim
        From :func:`migkit.qemu.claim.claim`.

    Returns
    -------
    Figure
        With one panel if no version with the acknowledgement was recorded.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_IN if len(found.syncs) else COLUMN_IN, 2.4), layout="constrained")
    panels = figure.subplots(1, 2 if len(found.syncs) else 1, squeeze=False)[0]
    whole = float(found.runs["initial_bytes"].max())
    titles = ("a busy guest, and a device behind RAM", "a quiet guest, acknowledged early or late")
    initial_data_over_time(found.initial, panels[0], whole).set_title(titles[0])
    if len(found.syncs):
        before = found.initial["version"].nunique() - found.syncs["version"].nunique()
        syncs_over_time(found.syncs, found.runs["outcome_measured"], panels[1], before)
        for letter, ax, title in zip("ab", panels, titles, strict=True):
            ax.set_title(f"({letter}) {title}")
    return figure


def write_claim(found: Claim, folder: Path) -> list[Path]:
    """Write the figure of the claim into ``folder``.

    Parameters
    ----------
    found : Claim
        As for :func:`claim_figure`.
    folder : Path

    Returns
    -------
    list of Path
        The files.
    """
    with style():
        return _saved(folder, "claim", claim_figure(found), [found.initial, found.syncs])


def lab_figure(table: pd.DataFrame) -> Figure:
    """What each proposed fix changes, :func:`migkit.figures.lab.convergence_gained`.

    Parameters
    ----------
    table : DataFrame
        Of :func:`migkit.study.lab.compare`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_IN, 0.19 * len(table) + 0.8), layout="constrained")
    convergence_gained(table, figure.subplots())
    return figure


def lab_costs(table: pd.DataFrame) -> Figure:
    """What each proposed fix ends and what it costs, in three panels of one list of fixes, as wide as the page.

    Parameters
    ----------
    table : DataFrame
        Of :func:`migkit.study.lab.compare`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_IN, 0.17 * len(table) + 1.1), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True, width_ratios=[1, 1.3, 1])
    ways_ended(table, axes[0])
    time_against(table, axes[1])
    above_the_limit(table, axes[2])
    return figure


def write_lab(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the two figures of the scheduling lab into ``folder``.

    Parameters
    ----------
    table : DataFrame
        As for :func:`lab_figure`.
    folder : Path

    Returns
    -------
    list of Path
        The files.
    """
    with style():
        return _saved(folder, "lab", lab_figure(table), [table]) + _saved(
            folder, "lab-costs", lab_costs(table), [table]
        )


_FRONTIERS = ("frontier", "hot_set_band", "frontier_bitmap", "frontier_expected")
FIGURES: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, Any]], Figure]]] = {
    "convergence-map": (("convergence",), lambda found: convergence_map(found["convergence"])),
    "count-map": (("convergence",), lambda found: count_map(found["convergence"])),
    "starvation-plane": (("starvation",), lambda found: starvation_plane(found["starvation"])),
    "starvation-band": (("band",), lambda found: starvation_band(found["band"])),
    "frontier": (_FRONTIERS, frontier_figure),
    "probability": (("edge",), lambda found: probability_figure(found["edge"])),
    "sensitivity": (("sensitivity",), lambda found: sensitivity_figure(found["sensitivity"])),
}
"""Figures by name: the experiments they need, and the function that draws them."""

SIMULATED = {"two-policies": two_policies, "shares": device_shares}
"""Figures of single migrations by name; they need no stored results."""


def _saved(folder: Path, name: str, figure: Figure, data: list[Any]) -> list[Path]:
    import migkit

    engines = sorted({str(each.attrs.get("engine", "expected")) for each in data})
    seeds = sorted({int(each.attrs.get("seed", 0)) for each in data})
    notes: dict[str, Any] = {"figure": name, "data_sha256": data_hash(*data), "migkit": migkit.__version__}
    notes |= {"engine": ", ".join(engines), "seed": seeds[0] if len(seeds) == 1 else seeds}
    return save_figure(figure, folder / name, notes)
