"""The figures of the study, composed from the functions beside this file, and written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.derivation import (
    SLICE_S,
    STARVES_ABOVE,
    effective_link,
    fitting_write_rate,
    starving_write_rate,
    sync_seconds,
)
from migkit.figures.planes import boundary, category_legend, category_plane
from migkit.figures.save import data_hash, save_figure
from migkit.figures.style import COLUMN_IN, PAGE_IN, log_axis, style
from migkit.figures.timeline import given_over_time, pending_over_time
from migkit.results import Outcome
from migkit.study import experiments

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

MIB = 2**20
GBIT = 1e9 / 8


def convergence_map(dataset: xr.Dataset, counts: tuple[int, ...] = (0, 1, 8)) -> Figure:
    """Dirty rate against link, one panel per number of VFIO devices, with the derived edges."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_IN, 2.7))
    axes = np.atleast_1d(figure.subplots(1, len(counts), sharey=True))
    scenario = experiments(2)["convergence"].scenario
    hot_set, sync_s = scenario.guest.regions[0].size, sync_seconds(scenario)
    present: set[int] = set()
    lines: dict[str, Any] = {}
    for ax, count in zip(axes, counts, strict=True):
        plane = dataset["category"].sel(count=count)
        present |= {int(n) for n in np.unique(plane.values)}
        category_plane(plane, ax, "bandwidth", "write_rate")
        log_axis("x", ax, "Gbit/s", GBIT, "link")
        log_axis("y", ax, "MB/s", 1e6, "dirty rate" if ax is axes[0] else "")
        ax.set_title(f"{count} VFIO device" + ("" if count == 1 else "s"))
        links = np.geomspace(*plane["bandwidth"].values[[0, -1]], 400)
        fits = fitting_write_rate(hot_set, links, sync_s, count * scenario.devices[0].stop_copy_bytes)
        lines["fits"] = boundary(ax, links, fits, "derived: below, RAM fits the downtime limit", 1)
        if count:
            drains = starving_write_rate(hot_set, links, sync_s)
            lines["drains"] = boundary(ax, links, drains, "derived: below, each turn drains RAM")
    category_legend(figure, present, loc="lower center", ncols=4, bbox_to_anchor=(0.53, 0.04))
    figure.legend(handles=list(lines.values()), loc="lower center", ncols=2, bbox_to_anchor=(0.53, -0.03))
    figure.subplots_adjust(left=0.08, right=0.98, top=0.92, bottom=0.29, wspace=0.14)
    return figure


def starvation_plane(dataset: xr.Dataset) -> Figure:
    """Max-bandwidth against link, with the line above which RAM alone uses up each window.

    Where neither policy converges the words say why the unserialized walk does not.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_IN, 3.2))
    ax = figure.subplots()
    plane = dataset["category"]
    category_plane(plane, ax, "bandwidth", "max_bandwidth")
    log_axis("x", ax, "Gbit/s", GBIT, "link")
    log_axis("y", ax, "MiB/s", MIB, "max-bandwidth")
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
    category_legend(figure, present, lines, loc="lower center", ncols=2, bbox_to_anchor=(0.55, -0.04))
    figure.subplots_adjust(left=0.17, right=0.98, top=0.98, bottom=0.24)
    return figure


def starvation_band(dataset: xr.Dataset) -> Figure:
    """Hot set against link, with the two edges of the band: one slice, and the threshold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(COLUMN_IN, 3.2))
    ax = figure.subplots()
    plane = dataset["category"]
    category_plane(plane, ax, "bandwidth", "size")
    log_axis("x", ax, "Gbit/s", GBIT, "link")
    log_axis("y", ax, "MiB", MIB, "hot set")
    xs = plane.bandwidth.values
    pushed = effective_link(xs)
    lines = {
        "slice": boundary(ax, xs, SLICE_S * pushed, "one slice: 51 ms of the link"),
        "threshold": boundary(ax, xs, 0.3 * pushed, "threshold: link x 300 ms", 1),
    }
    present = {int(n) for n in np.unique(plane.values)}
    category_legend(figure, present, lines, loc="lower center", ncols=2, bbox_to_anchor=(0.55, -0.04))
    figure.subplots_adjust(left=0.17, right=0.98, top=0.98, bottom=0.24)
    return figure


def two_policies() -> tuple[Figure, list[Any]]:
    """The case that started it: one guest, both policies side by side, turn by turn."""
    from matplotlib.figure import Figure

    from migkit.simulate import simulate

    scenario = experiments(2)["convergence"].scenario.replace("guest.regions.0.size", "200 MiB")
    scenario = scenario.replace("guest.regions.0.write_rate", "4 GB/s")
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
    axes[0, 1].legend(loc="upper right")
    axes[1, 1].legend(loc="center right", bbox_to_anchor=(1.0, 0.62))
    figure.subplots_adjust(left=0.08, right=0.99, top=0.94, bottom=0.11, wspace=0.06, hspace=0.12)
    return figure, timelines


def write_all(datasets: Mapping[str, xr.Dataset], folder: Path) -> list[Path]:
    """Write every figure of the study into ``folder``; the paths."""
    with style():
        drawn = {
            "convergence-map": (convergence_map(datasets["convergence"]), [datasets["convergence"][["category"]]]),
            "starvation-plane": (
                starvation_plane(datasets["starvation"]),
                [datasets["starvation"][["category", "outcome"]]],
            ),
            "starvation-band": (starvation_band(datasets["band"]), [datasets["band"][["category"]]]),
            "two-policies": two_policies(),
        }
        written = []
        for name, (figure, data) in drawn.items():
            written += save_figure(figure, folder / name, _notes(name, data))
    return written


def _notes(name: str, data: list[Any]) -> dict[str, Any]:
    import migkit

    made_with = {"migkit": migkit.__version__, "engine": "expected", "seed": 0}
    return {"figure": name, "data_sha256": data_hash(*data)} | made_with
