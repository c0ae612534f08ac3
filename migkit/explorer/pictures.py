"""Pictures of the explorer as PNG: the timelines of both policies, and the map with the scenario's point.

Each class keeps one figure and replaces its lines only, and what moves is drawn over a saved picture of the rest:
creating axes and legends takes longer than everything else.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.lines import Line2D

from migkit.analysis.closed_form import CATEGORIES
from migkit.figures.planes import category_legend, category_plane
from migkit.figures.style import COLUMN_IN, PAGE_IN, log_axis, style
from migkit.figures.timeline import given_columns, given_over_time, pending_over_time, thinned
from migkit.scenario.scenario import POLICIES

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from migkit.run.simulate import SimulatedMigration

DPI = 130  # 7.16 in then fill the width of a notebook cell, about 930 pixels
GBIT, GB = 1e9 / 8, 1e9
_FIRST, _LAST = 2, 1  # devices besides RAM that are drawn, from the start and the end of the list
_LABEL = 14  # characters of a device name that fit the legend


def _png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    imsave(buffer, np.asarray(pixels)[..., :3], format="png", pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


class Timelines:
    """Pending and sent bytes over time: serialized left, unserialized right, with common axes."""

    def __init__(self) -> None:
        self._legend_of: object = None  # devices
        with style():
            self._figure = Figure(figsize=(PAGE_IN, 3.7), dpi=DPI)
            self._canvas = FigureCanvasAgg(self._figure)
            self._axes = self._figure.subplots(2, len(POLICIES), sharex=True, sharey="row")
            self._figure.subplots_adjust(left=0.085, right=0.985, top=0.94, bottom=0.22, wspace=0.06, hspace=0.1)
        # With fixed positions Matplotlib does not lay out all tick labels twice in each drawing.
        for ax in self._axes.flat:
            ax.xaxis.set_label_coords(0.5, -0.16)
            ax.yaxis.set_label_coords(-0.13, 0.5)

    def draw(self, migrations: Mapping[str, SimulatedMigration]) -> bytes:
        """Draw the migration of each policy and return the PNG."""
        with style():
            for ax in self._axes.flat:
                for line in list(ax.lines):
                    line.remove()
                ax.relim()
            for column, (policy, migration) in enumerate(migrations.items()):
                upper, lower = self._axes[:, column]
                timeline = thinned(_few_devices(migration.timeline))
                pending_over_time(timeline, upper)
                given_over_time(timeline, lower)
                upper.set_title(f"{policy}: {migration.outcome.label.replace('_', ' ')}", y=1.0)
                upper.set_xlabel("")
                if column:
                    upper.set_ylabel("")
                    lower.set_ylabel("")
            self._limit(list(migrations.values()))
            self._legend(next(iter(migrations.values())))
            self._canvas.restore_region(self._background)
            for ax in self._axes.flat:
                ax.draw(self._canvas.get_renderer())
        return _png(self._canvas.buffer_rgba())

    def _limit(self, migrations: list[SimulatedMigration]) -> None:
        """Set the common time axis: up to the longer migration, at most twice the shorter one."""
        ends = sorted(migration.verdict_time_s for migration in migrations)
        self._axes[0, 0].set_xlim(0, max(min(ends[-1], 2 * ends[0]), 1e-3))

    def _legend(self, migration: SimulatedMigration) -> None:
        above = max((list(ax.lines) for ax in self._axes[0]), key=len)  # one may have a threshold below its frame
        if (of := (migration.labels, len(above))) == self._legend_of:
            return
        self._legend_of = of
        for legend in list(self._figure.legends):
            legend.remove()
        lower = self._axes[1, 0]
        for line in lower.lines:
            name = line.get_label()
            line.set_label(name if len(name) <= _LABEL else f"{name[: _LABEL - 1]}…")
        devices = [*lower.lines]
        if more := len(migration.labels) - len(lower.lines):
            devices.append(Line2D([], [], linestyle="", label=f"({more} between not drawn)"))
        # Rows have styles in common, so each has a legend of its own.
        for row, height, lines in (("above:", 0.05, above), ("below:", 0.0, devices)):
            self._figure.legend(
                handles=[Line2D([], [], linestyle="", label=row), *lines],
                loc="lower left", bbox_to_anchor=(0.06, height), ncols=1 + len(lines), columnspacing=1.2,
                handletextpad=0.5, borderpad=0,
            )  # fmt: skip
        self._save_background()

    def _save_background(self) -> None:
        """Draw all but the axes: legends take as long as these, and stay."""
        for ax in self._axes.flat:
            ax.set_visible(False)
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(self._figure.bbox)
        for ax in self._axes.flat:
            ax.set_visible(True)


def _few_devices(timeline: pd.DataFrame) -> pd.DataFrame:
    """Drop all devices but the first ones and the last: more lines cannot be told apart."""
    behind = [column for column in given_columns(timeline) if column != "ram_bytes"]
    return timeline.drop(columns=behind[_FIRST:-_LAST]) if len(behind) > _FIRST + _LAST else timeline


class Map:
    """Map of which policies converge, over dirty rate and link, with the scenario's point."""

    def __init__(self, rates: tuple[float, float], links: tuple[float, float]) -> None:
        self.rates, self.links = rates, links
        with style():
            self._figure = Figure(figsize=(COLUMN_IN, 3.15), dpi=DPI)
            self._canvas = FigureCanvasAgg(self._figure)
            self._ax = self._figure.subplots()
            self._figure.subplots_adjust(left=0.155, right=0.965, top=0.975, bottom=0.27)
            self._ax.set(xlim=links, ylim=rates)
            log_axis("x", self._ax, "Gbit/s", GBIT, "link")
            log_axis("y", self._ax, "GB/s", GB, "dirty rate")
            ring: dict[str, Any] = {"markersize": 9, "markerfacecolor": "white", "markeredgecolor": "black"}
            (self._ring,) = self._ax.plot([], [], "o", **ring, markeredgewidth=1.4, clip_on=False, animated=True)
            (self._dot,) = self._ax.plot([], [], "o", markersize=3.5, color="#D55E00", clip_on=False, animated=True)
            category_legend(self._figure, set(range(len(CATEGORIES))), loc="lower center", ncols=2)
        self._save_background()

    def _save_background(self) -> None:
        with style():
            self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(self._figure.bbox)

    def set_categories(self, categories: xr.DataArray) -> None:
        """Replace the map."""
        for collection in list(self._ax.collections):
            collection.remove()
        with style():
            category_plane(categories, self._ax, "bandwidth", "write_rate")
        self._ax.set(xlim=self.links, ylim=self.rates)
        self._save_background()

    def draw(self, rate: float, link: float, dimmed: bool = False) -> bytes:
        """Draw the point over the map and return the PNG.

        Parameters
        ----------
        rate, link : float
            Bytes/s. A rate of 0 is drawn on the lower edge.
        dimmed : bool
            Dim the map: it is that of an earlier scenario.
        """
        self._canvas.restore_region(self._background)
        if dimmed:
            pixels = np.asarray(self._canvas.buffer_rgba())
            pixels[:] = 191 + pixels // 4
        for artist in (self._ring, self._dot):
            artist.set_data([link], [max(rate, self.rates[0])])
            self._ax.draw_artist(artist)
        return _png(self._canvas.buffer_rgba())
