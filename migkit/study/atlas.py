"""The figures of the study, composed from the functions beside this file, and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.analysis.closed_form import (
    SLICE_S,
    STARVES_ABOVE,
    effective_link,
    fitting_write_rate,
    starving_write_rate,
    sync_seconds,
)
from migkit.analysis.uncertainty import convergence
from migkit.figures.frontier import critical_band, critical_deviation, critical_values
from migkit.figures.planes import boundary, category_legend, category_panel
from migkit.figures.probability import convergence_probability
from migkit.figures.save import data_hash, save_figure
from migkit.figures.sensitivity import sensitivity_bars
from migkit.figures.style import COLUMN_IN, NO_INTERVAL, PAGE_IN, style
from migkit.figures.timeline import given_over_time, pending_over_time, shares, shares_over_time
from migkit.figures.validation import validation
from migkit.results import Outcome
from migkit.study.experiments import experiments

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

    from migkit.scenario.scenario import Scenario

MIB = 2**20


def convergence_map(dataset: xr.Dataset, counts: tuple[int, ...] = (0, 1, 8)) -> Figure:
    """Dirty rate against link, one panel per number of VFIO devices, with the derived edges."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_IN, 2.9))
    axes = np.atleast_1d(figure.subplots(1, len(counts), sharey=True))
    scenario = experiments(2)["convergence"].scenario
    hot_set, sync_s = scenario.guest.regions[0].size, sync_seconds(scenario)
    present: set[int] = set()
    lines: dict[str, Any] = {}
    for ax, count in zip(axes, counts, strict=True):
        plane = dataset["category"].sel(count=count)
        present |= {int(n) for n in np.unique(plane.values)}
        category_panel(plane, ax)
        if ax is not axes[0]:
            ax.set_ylabel("")
        ax.set_title(f"{count} VFIO device" + ("" if count == 1 else "s"))
        links = np.geomspace(*plane["bandwidth"].values[[0, -1]], 400)
        fits = fitting_write_rate(hot_set, links, sync_s, count * scenario.devices[0].stop_copy_bytes)
        lines["fits"] = boundary(ax, links, fits, "derived: below, RAM fits the downtime limit", 1)
        if count:
            drains = starving_write_rate(hot_set, links, sync_s)
            lines["drains"] = boundary(ax, links, drains, "derived: below, each turn drains RAM")
    category_legend(figure, present, loc="lower center", ncols=4, bbox_to_anchor=(0.53, 0.04), title=NO_INTERVAL)
    figure.legend(handles=list(lines.values()), loc="lower center", ncols=2, bbox_to_anchor=(0.53, -0.03))
    figure.subplots_adjust(left=0.08, right=0.98, top=0.92, bottom=0.34, wspace=0.14)
    return figure


def starvation_plane(dataset: xr.Dataset) -> Figure:
    """Max-bandwidth against link, with the line above which RAM alone uses up each window.

    Where neither policy converges the words say why the unserialized walk does not.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_IN, 3.2))
    ax = figure.subplots()
    plane = dataset["category"]
    category_panel(plane, ax, "bandwidth", "max_bandwidth")
    xs = plane.bandwidth.values
    lines = {
        "ratio": boundary(ax, xs, xs / STARVES_ABOVE, f"link = {STARVES_ABOVE:.2f} max-bandwidth"),
        "default": boundary(ax, xs, np.full_like(xs, 128 * MIB), "QEMU's default, 128 MiB/s", 1),
    }
    ended = dataset["outcome"].sel(policy="unserialized").transpose("max_bandwidth", "bandwidth").values
    # at heights of their areas that are clear of the lines
    starved = (Outcome.INITIAL_DATA_STARVED, "device starved", 0.75)
    for outcome, words, height in (starved, (Outcome.RAM_ABOVE_LINK, "RAM does not fit", 0.3)):
        rows, columns = np.nonzero(ended == outcome)
        if rows.size:
            row = int(np.quantile(rows, height))
            column = int(np.quantile(columns[rows == row], 0.65))
            at = (xs[column], plane["max_bandwidth"].values[row])
            ax.annotate(words, at, color="white", ha="center", va="center", fontsize=7)
    present = {int(n) for n in np.unique(plane.values)}
    category_legend(figure, present, lines, loc="lower center", ncols=2, bbox_to_anchor=(0.55, -0.08),
                    title=NO_INTERVAL)  # fmt: skip
    figure.subplots_adjust(left=0.17, right=0.98, top=0.98, bottom=0.24)
    return figure


def starvation_band(dataset: xr.Dataset) -> Figure:
    """Hot set against link, with the two edges of the band: one slice, and the threshold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_IN, 3.2))
    ax = figure.subplots()
    plane = dataset["category"]
    category_panel(plane, ax, "bandwidth", "size")
    xs = plane.bandwidth.values
    pushed = effective_link(xs)
    lines = {
        "slice": boundary(ax, xs, SLICE_S * pushed, "one slice: 51 ms of the link"),
        "threshold": boundary(ax, xs, 0.3 * pushed, "threshold: link x 300 ms", 1),
    }
    present = {int(n) for n in np.unique(plane.values)}
    category_legend(figure, present, lines, loc="lower center", ncols=2, bbox_to_anchor=(0.55, -0.08),
                    title=NO_INTERVAL)  # fmt: skip
    figure.subplots_adjust(left=0.17, right=0.98, top=0.98, bottom=0.24)
    return figure


def _started_it() -> Scenario:
    """The case that started it: a hot set between what a turn sends and the threshold."""
    scenario = experiments(2)["convergence"].scenario.replace("guest.regions.0.size", "200 MiB")
    return scenario.replace("guest.regions.0.write_rate", "4 GB/s")


def two_policies() -> tuple[Figure, list[Any]]:
    """The case that started it: one guest, both policies side by side, turn by turn."""
    from matplotlib.figure import Figure

    from migkit.run.simulate import simulate

    scenario = _started_it()
    figure = Figure(figsize=(PAGE_IN, 3.6))
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
    figure.subplots_adjust(left=0.08, right=0.99, top=0.94, bottom=0.11, wspace=0.06, hspace=0.12)
    return figure, timelines


def who_is_given_what() -> tuple[Figure, list[Any]]:
    """Shares of the link: RAM and three devices, under either policy and with a link faster than max-bandwidth."""
    from matplotlib.figure import Figure

    from migkit.run.simulate import simulate

    unlimited, limited = _started_it(), experiments(2)["starvation"].scenario
    cases = (
        ("(a) serialized, 10 Gbit/s, no limit", unlimited.replace("policy", "serialized")),
        ("(b) unserialized, 10 Gbit/s, no limit", unlimited.replace("policy", "unserialized")),
        ("(c) unserialized, 10 Gbit/s, 128 MiB/s", limited.replace("policy", "unserialized")),
        ("(d) unserialized, 2 Gbit/s, 128 MiB/s",
         limited.replace("policy", "unserialized").replace("link.bandwidth", "2 Gbit/s")),
    )  # fmt: skip
    figure = Figure(figsize=(PAGE_IN, 3.9))
    axes = figure.subplots(2, 2, sharey=True)
    timelines = []
    for place, (ax, (title, scenario)) in enumerate(zip(axes.flat, cases, strict=True)):
        scenario = scenario.replace("devices.0.count", 3).replace("devices.0.initial_bytes", "64 MiB")
        migration = simulate(scenario)
        timelines.append(migration.timeline)
        shares_over_time(shares(migration.timeline), ax)
        ax.set_title(f"{title}: {migration.outcome.label.replace('_', ' ')}")
        if place % 2:
            ax.set_ylabel("")
        if place < 2:
            ax.set_xlabel("")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="lower center", ncols=len(labels), bbox_to_anchor=(0.53, -0.01),
                  title=f"titles: policy, link, max-bandwidth, outcome; {NO_INTERVAL}")  # fmt: skip
    figure.subplots_adjust(left=0.08, right=0.99, top=0.94, bottom=0.22, wspace=0.08, hspace=0.35)
    return figure, timelines


def count_map(dataset: xr.Dataset) -> Figure:
    """Dirty rate against link, a small panel for every number of VFIO devices of the map."""
    from matplotlib.figure import Figure

    counts = dataset["count"].values.tolist()
    columns = min(3, len(counts))
    rows = -(-len(counts) // columns)
    figure = Figure(figsize=(PAGE_IN, 1.1 + 1.55 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    present: set[int] = set()
    for place, (ax, count) in enumerate(zip(axes.flat, counts, strict=False)):
        plane = dataset["category"].sel(count=count)
        present |= {int(n) for n in np.unique(plane.values)}
        category_panel(plane, ax)
        ax.set_title(f"{count} VFIO device" + ("" if count == 1 else "s"))
        if place % columns:
            ax.set_ylabel("")
        if place + columns < len(counts):
            ax.set_xlabel("")
    for ax in axes.flat[len(counts) :]:
        ax.set_visible(False)
    category_legend(figure, present, loc="lower center", ncols=4, bbox_to_anchor=(0.53, 0.0), title=NO_INTERVAL)
    inches = figure.get_figheight()
    figure.subplots_adjust(left=0.08, right=0.98, top=1 - 0.22 / inches, bottom=0.8 / inches, wspace=0.12, hspace=0.24)
    return figure


def frontier_figure(datasets: Mapping[str, xr.Dataset]) -> Figure:
    """The critical dirty rate, the band of hot sets that starve, and how far the bitmap engine is from both."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_IN, 2.9))
    rates, band, deviation = figure.subplots(1, 3)
    frontier = datasets["frontier"]
    # without a device the policies are the same; the serialized line is the same for 1 device and for 8
    shown = ((0, "serialized", "either, no device"), (1, "serialized", "serialized, 1 device"),
             (8, "unserialized", "unserialized, 8 devices"))  # fmt: skip
    for number, (count, policy, label) in enumerate(shown):
        line = frontier.sel(count=count, policy=policy)
        critical_values(line, rates, "bandwidth", label, number, says_engine=False)
    rates.set_title(f"(a) {NO_INTERVAL}")
    rates.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2))
    critical_band(datasets["hot_set_band"], band, "bandwidth", "device starves")
    band.set_title("(b) serialized, 1 device")
    band.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2))
    critical_deviation(datasets["frontier_bitmap"], datasets["frontier_expected"], deviation, "bandwidth")
    deviation.set_title("(c) serialized, 2 GiB guest")
    deviation.legend(loc="upper center", bbox_to_anchor=(0.45, -0.2))
    figure.subplots_adjust(left=0.075, right=0.99, top=0.92, bottom=0.39, wspace=0.46)
    return figure


def probability_figure(dataset: xr.Dataset) -> Figure:
    """The probability of convergence across the serialized edge, both policies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_IN, 2.5))
    ax = figure.subplots()
    sure = convergence(dataset)
    for number, policy in enumerate(sure["policy"].values):
        convergence_probability(sure.sel(policy=policy), ax, "write_rate", str(policy), number)
    ax.legend(loc="lower left")
    figure.subplots_adjust(left=0.2, right=0.98, top=0.97, bottom=0.17)
    return figure


TITLES = {"convergence": "convergence", "total_time_s": "total time", "downtime_s": "downtime"}


def sensitivity_figure(dataset: xr.Dataset) -> Figure:
    """Sobol indices, a row a policy and a column an output."""
    from matplotlib.figure import Figure

    policies, outputs = dataset["policy"].values, dataset["output"].values
    figure = Figure(figsize=(PAGE_IN, 1.1 + 2.0 * len(policies)))
    axes = figure.subplots(len(policies), len(outputs), sharex=True, sharey=True, squeeze=False)
    for row, policy in zip(axes, policies, strict=True):
        for ax, output in zip(row, outputs, strict=True):
            sensitivity_bars(dataset.sel(policy=policy, output=output), ax)
            ax.set_title(f"{policy}: {TITLES.get(str(output), str(output))}")
    for ax in axes[:-1].flat:
        ax.set_xlabel("")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    shown = f"lines on bars: {100 * dataset.attrs['confidence']:g} % interval"
    figure.legend(handles, labels, loc="lower center", ncols=2, title=shown,
                  bbox_to_anchor=(0.55, 0.0))  # fmt: skip
    inches = figure.get_figheight()
    figure.subplots_adjust(left=0.13, right=0.985, top=1 - 0.2 / inches, bottom=0.8 / inches, wspace=0.08, hspace=0.16)
    return figure


def validation_figure(configurations: Any) -> Figure:
    """Predicted against measured total time of the runs of real QEMU."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_IN, COLUMN_IN), layout="constrained")
    validation(configurations, figure.subplots())
    return figure


def write_all(datasets: Mapping[str, xr.Dataset], folder: Path, measured: Any = None) -> list[Path]:
    """Write every figure whose results are there into ``folder``.

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


def write_validation(measured: Any, folder: Path) -> list[Path]:
    """Write the figure of predicted against measured into ``folder``.

    Parameters
    ----------
    measured : DataFrame
        As for :func:`write_all`; ``attrs["engine"]`` if it was not the expected one.
    folder : Path
    """
    with style():
        return _saved(folder, "validation", validation_figure(measured), [measured])


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
"""Figures by name: the experiments they need, and what draws them."""

SIMULATED = {"two-policies": two_policies, "shares": who_is_given_what}
"""Figures by name that need no stored results: single migrations."""


def _saved(folder: Path, name: str, figure: Figure, data: list[Any]) -> list[Path]:
    import migkit

    engines = sorted({str(each.attrs.get("engine", "expected")) for each in data})
    seeds = sorted({int(each.attrs.get("seed", 0)) for each in data})
    notes = {"figure": name, "data_sha256": data_hash(*data), "migkit": migkit.__version__}
    notes |= {"engine": ", ".join(engines), "seed": seeds[0] if len(seeds) == 1 else seeds}
    return save_figure(figure, folder / name, notes)
