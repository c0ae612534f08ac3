"""The explorer's widget: controls, result sentences, pictures and source text of one scenario."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import html
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from migkit.explorer.controls import Control, controls_of, with_slider_targets
from migkit.explorer.pictures import Map, Timelines
from migkit.explorer.plane import levels, plane_key
from migkit.explorer.printed import as_python
from migkit.run.simulate import SimulatedMigration, simulate
from migkit.scenario.errors import ScenarioError
from migkit.scenario.scenario import POLICIES, Scenario

if TYPE_CHECKING:
    import xarray as xr

_NAME_WIDTH = "110px"
_UNFINISHED = "migkit-unfinished"  # CSS class of the map until it has its final resolution
_DIM_AFTER_S = 0.15  # a map computed faster than this replaces the old one without dimming it first
_REDRAW_INTERVAL_S = 0.1  # finer maps that follow faster are not drawn


class Explorer(widgets.VBox):
    """Sliders over one scenario and its migrations under both policies; created by :func:`migkit.explore`.

    Parameters
    ----------
    scenario : Scenario
        Initial scenario.

    Attributes
    ----------
    scenario : Scenario
        Current scenario: the last valid combination of values.
    migrations : dict of str to SimulatedMigration
        Its migration under each policy.
    controls : dict of str to widget
        By name. The ``value`` of a control is a label; setting it moves the slider.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = with_slider_targets(scenario)
        self.migrations: dict[str, SimulatedMigration] = {}
        self._control_of = controls_of(self.scenario)
        self.controls = {name: _widget(name, control) for name, control in self._control_of.items()}
        self._timelines = Timelines()
        self._map = Map(_span(self._control_of["dirty rate"]), _span(self._control_of["link"]))
        self._map_key: Scenario | None = None
        self._map_task: asyncio.Task[None] | None = None

        self._sentences = widgets.HTML()
        self._error = widgets.HTML(layout={"min_height": "28px"})
        self._map_image = widgets.Image(format="png", layout={"object_fit": "contain", "align_self": "flex-start"})
        self._timelines_image = widgets.Image(format="png", layout={"max_width": "100%", "object_fit": "contain"})
        button = widgets.Button(description="Print the scenario", tooltip="As Python and as TOML")
        button.on_click(self._show_source)
        self._python, self._toml = (_text_area(name) for name in ("Python", "TOML"))
        self._texts = widgets.VBox([self._python, self._toml], layout={"display": "none"})
        for control in self.controls.values():
            control.observe(self._on_change, names="value")
        sliders = widgets.VBox([*self.controls.values(), self._error, self._sentences], layout={"width": "455px"})
        super().__init__(
            [
                widgets.HBox([sliders, self._map_image], layout={"flex_flow": "row wrap"}),
                self._timelines_image,
                button,
                self._texts,
            ]
        )
        self.add_class("migkit-explorer")
        self._update()

    def _on_change(self, _change: Any) -> None:
        with _automatic_collection_disabled():
            self._follow_controls()

    def _follow_controls(self) -> None:
        values = {control.path: control.values[self.controls[name].value] for name, control in self._control_of.items()}
        try:
            self.scenario = self.scenario.replace_all(values)
        except ScenarioError as error:
            self._show_error(str(error))
        else:
            self._show_error("")
            self._update()

    def _show_error(self, text: str) -> None:
        self._error.value = f'<span style="color: var(--jp-error-color1, #b00)">{html.escape(text)}</span>'

    def _update(self) -> None:
        self.migrations = {policy: simulate(self.scenario.replace("policy", policy)) for policy in POLICIES}
        # In the order of what they take: each is shown as soon as it is there.
        self._sentences.value = "".join(
            _sentence(policy, migration, policy == self.scenario.walk_policy)
            for policy, migration in self.migrations.items()
        )
        self._python.value, self._toml.value = as_python(self.scenario), self.scenario.to_toml()
        self._draw_map()
        self._timelines_image.value = self._timelines.draw(self.migrations)
        key = plane_key(self.scenario)
        if key != self._map_key:
            self._map_key = key
            self._start_map(key)

    def _show_source(self, _button: widgets.Button) -> None:
        self._texts.layout.display = ""

    # --- the map, computed while no control is handled

    def _draw_map(self, dimmed: bool = False) -> None:
        rate, link = self.scenario.guest.regions[0].write_rate, self.scenario.link.bandwidth
        self._map_image.value = self._map.draw(rate, link, dimmed)

    def _start_map(self, key: Scenario) -> None:
        """Start to compute the map of another scenario; without a running event loop compute all of it now."""
        if self._map_task is not None:
            self._map_task.cancel()
        self._map_image.add_class(_UNFINISHED)
        steps = self._map_steps(key)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            for _ in steps:
                pass
        else:
            self._map_task = loop.create_task(_run_steps(steps))

    def _map_steps(self, key: Scenario) -> Iterator[None]:
        """Compute and draw the map at increasing resolution, one batch a step."""
        started = time.perf_counter()
        drawn: float | None = None
        latest: xr.DataArray | None = None
        dimmed = False
        try:
            for categories in levels(key, self._map.rates, self._map.links):
                yield
                now = time.perf_counter()
                if categories is not None and (drawn is None or now - drawn > _REDRAW_INTERVAL_S):
                    self._set_map(categories)
                    drawn, latest = time.perf_counter(), None
                elif categories is not None:
                    latest = categories
                elif drawn is None and not dimmed and now - started > _DIM_AFTER_S:
                    self._draw_map(dimmed=True)
                    dimmed = True
        except ScenarioError as error:
            self._show_error(f"There is no map: {error}")
            self._draw_map(dimmed=True)
        if latest is not None:
            self._set_map(latest)
        self._map_image.remove_class(_UNFINISHED)

    def _set_map(self, categories: xr.DataArray) -> None:
        self._map.set_categories(categories)
        self._draw_map()


@contextlib.contextmanager
def _automatic_collection_disabled() -> Iterator[None]:
    """Leave Python's garbage collection for after a move: among the objects of all libraries it takes up to 0.2 s."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


async def _run_steps(steps: Iterator[None]) -> None:
    """Run the steps; between two of them the event loop handles changes of the controls."""
    for _ in steps:
        await asyncio.sleep(0)


def _widget(name: str, control: Control) -> widgets.Widget:
    kind = widgets.SelectionSlider if control.is_numeric and len(control.values) > 1 else widgets.Dropdown
    layout = {"width": "445px" if kind is widgets.SelectionSlider else "300px"}
    return kind(
        options=list(control.values),
        value=control.initial,
        description=name,
        style={"description_width": _NAME_WIDTH},
        layout=layout,
    )


def _span(control: Control) -> tuple[float, float]:
    """Smallest and largest value of a scale without 0, which a logarithmic axis cannot show."""
    numbers = [float(value) for value in control.values.values() if value]
    return min(numbers), max(numbers)


def _sentence(policy: str, migration: SimulatedMigration, is_own: bool) -> str:
    css = f"font-weight: {'bold' if is_own else 'normal'}; line-height: 1.4"
    title = f"{policy} (the scenario's)" if is_own else policy
    return f'<div class="migkit-sentence" style="{css}">{title}: {html.escape(migration.sentence)}</div>'


def _text_area(name: str) -> widgets.Textarea:
    return widgets.Textarea(description=name, rows=14, layout={"width": "98%"}, style={"description_width": "60px"})
