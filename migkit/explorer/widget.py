"""The widget: controls, sentences, pictures and printed text, kept together by one scenario."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import html
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from migkit.explorer.controls import Control, controls_of, movable
from migkit.explorer.pictures import Map, Timelines
from migkit.explorer.plane import levels, plane_key
from migkit.explorer.printed import as_python
from migkit.run.axes import starting_point
from migkit.run.simulate import SimulatedMigration, simulate
from migkit.scenario.errors import ScenarioError
from migkit.scenario.scenario import POLICIES, Scenario

if TYPE_CHECKING:
    import xarray as xr

_NAME_WIDTH = "110px"
_UNFINISHED = "migkit-unfinished"  # a mark in the page, for styles and tests, while the map is not as fine as it gets
_PALE_AFTER_S = 0.15  # a map that is computed sooner than that replaces the old one without a flash
_REDRAWN_EVERY_S = 0.1  # finer maps that follow closer are left out


class Explorer(widgets.VBox):
    """Sliders over one scenario, and what both policies make of it; made by :func:`migkit.explore`.

    Parameters
    ----------
    scenario : Scenario
        Where to start.

    Attributes
    ----------
    scenario : Scenario
        What is shown: the last values that fit together.
    migrations : dict of str to SimulatedMigration
        Its migration under each policy.
    controls : dict of str to widget
        By name; the ``value`` of one is the label of what it stands at, and setting it moves it.
    """

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = movable(scenario)
        self.migrations: dict[str, SimulatedMigration] = {}
        self._control_of = controls_of(self.scenario)
        self.controls = {name: _widget(name, control) for name, control in self._control_of.items()}
        self._timelines = Timelines()
        self._map = Map(_span(self._control_of["dirty rate"]), _span(self._control_of["link"]))
        self._map_is_of: Scenario | None = None
        self._refining: asyncio.Task[None] | None = None

        self._sentences = widgets.HTML()
        self._trouble = widgets.HTML(layout={"min_height": "28px"})
        self._map_image = widgets.Image(format="png", layout={"object_fit": "contain", "align_self": "flex-start"})
        self._timelines_image = widgets.Image(format="png", layout={"max_width": "100%", "object_fit": "contain"})
        button = widgets.Button(description="Print the scenario", tooltip="As Python and as TOML, to copy")
        button.on_click(self._print)
        self._python, self._toml = (_text_area(name) for name in ("Python", "TOML"))
        self._texts = widgets.VBox([self._python, self._toml], layout={"display": "none"})
        for control in self.controls.values():
            control.observe(self._moved, names="value")
        sliders = widgets.VBox([*self.controls.values(), self._trouble, self._sentences], layout={"width": "455px"})
        super().__init__(
            [
                widgets.HBox([sliders, self._map_image], layout={"flex_flow": "row wrap"}),
                self._timelines_image,
                button,
                self._texts,
            ]
        )
        self.add_class("migkit-explorer")
        self._show()

    def _moved(self, _change: Any) -> None:
        with _automatic_collection_disabled():
            self._follow_controls()

    def _follow_controls(self) -> None:
        values = {control.path: control.values[self.controls[name].value] for name, control in self._control_of.items()}
        try:
            self.scenario = starting_point(self.scenario, values)
        except ScenarioError as error:
            self._tell(str(error))
        else:
            self._tell("")
            self._show()

    def _tell(self, trouble: str) -> None:
        self._trouble.value = f'<span style="color: var(--jp-error-color1, #b00)">{html.escape(trouble)}</span>'

    def _show(self) -> None:
        self.migrations = {policy: simulate(self.scenario.replace("policy", policy)) for policy in POLICIES}
        self._timelines_image.value = self._timelines.draw(self.migrations)
        self._sentences.value = "".join(
            _sentence(policy, migration, policy == self.scenario.walk_policy)
            for policy, migration in self.migrations.items()
        )
        self._point()
        self._python.value, self._toml.value = as_python(self.scenario), self.scenario.to_toml()
        key = plane_key(self.scenario)
        if key != self._map_is_of:
            self._map_is_of = key
            self._refine(key)

    def _print(self, _button: widgets.Button) -> None:
        self._texts.layout.display = ""

    # --- the map, computed between moves

    def _point(self, pale: bool = False) -> None:
        rate, link = self.scenario.guest.regions[0].write_rate, self.scenario.link.bandwidth
        self._map_image.value = self._map.draw(rate, link, pale)

    def _refine(self, key: Scenario) -> None:
        """Begin the map of another scenario; without a running event loop, as in a script, compute it now."""
        if self._refining is not None:
            self._refining.cancel()
        self._map_image.add_class(_UNFINISHED)
        steps = self._refined(key)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            for _ in steps:
                pass
        else:
            self._refining = loop.create_task(_between_moves(steps))

    def _refined(self, key: Scenario) -> Iterator[None]:
        """Draw the map finer and finer, a piece of work a step."""
        began, drawn, pale, latest = time.perf_counter(), None, False, None
        try:
            for categories in levels(key, self._map.rates, self._map.links):
                yield
                now = time.perf_counter()
                if categories is not None and (drawn is None or now - drawn > _REDRAWN_EVERY_S):
                    self._ground(categories)
                    drawn, latest = time.perf_counter(), None
                elif categories is not None:
                    latest = categories
                elif drawn is None and not pale and now - began > _PALE_AFTER_S:
                    self._point(pale=True)
                    pale = True
        except ScenarioError as error:
            self._tell(f"There is no map: {error}")
            self._point(pale=True)
        if latest is not None:
            self._ground(latest)
        self._map_image.remove_class(_UNFINISHED)

    def _ground(self, categories: xr.DataArray) -> None:
        self._map.redraw(categories)
        self._point()


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


async def _between_moves(steps: Iterator[None]) -> None:
    """Take the steps one by one; between two of them a slider that moved is heard."""
    for _ in steps:
        await asyncio.sleep(0)


def _widget(name: str, control: Control) -> widgets.Widget:
    kind = widgets.SelectionSlider if control.is_scale and len(control.values) > 1 else widgets.Dropdown
    layout = {"width": "445px" if kind is widgets.SelectionSlider else "300px"}
    return kind(
        options=list(control.values),
        value=control.start,
        description=name,
        style={"description_width": _NAME_WIDTH},
        layout=layout,
    )


def _span(control: Control) -> tuple[float, float]:
    """Ends of a scale, without the 0 that has no place on a logarithmic one."""
    numbers = [float(value) for value in control.values.values() if value]
    return min(numbers), max(numbers)


def _sentence(policy: str, migration: SimulatedMigration, in_force: bool) -> str:
    look = f"font-weight: {'bold' if in_force else 'normal'}; line-height: 1.4"
    which = f"{policy} (the scenario's)" if in_force else policy
    return f'<div class="migkit-sentence" style="{look}">{which}: {html.escape(migration.sentence)}</div>'


def _text_area(name: str) -> widgets.Textarea:
    return widgets.Textarea(description=name, rows=14, layout={"width": "98%"}, style={"description_width": "60px"})
