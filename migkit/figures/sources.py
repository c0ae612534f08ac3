"""What a figure was drawn from: noted when it is drawn, told in a caption, and written beside it."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migkit.analysis.closed_form import swept_scenario
from migkit.figures import quantities
from migkit.figures.fitting import fitting
from migkit.figures.save import data_hash, save_figure
from migkit.figures.style import style
from migkit.run.design import REPLICATE
from migkit.scenario.errors import ScenarioError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SOURCES: weakref.WeakKeyDictionary[Figure, dict[str, Any]] = weakref.WeakKeyDictionary()
"""Notes by figure."""


def remember(ax: Axes, dataset: xr.Dataset, said: str) -> None:
    """Note on the figure what is drawn: a caption, the scenario, the versions."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    notes: dict[str, Any] = {name: value.item() if hasattr(value, "item") else value
                             for name, value in dataset.attrs.items() if name != "sessions"}  # fmt: skip
    held = held_values(dataset)
    engine = f"{dataset.attrs['engine']} engine" if "engine" in dataset.attrs else ""
    text = "; ".join(part for part in (said, ", ".join(held), engine, _drawn(dataset)) if part) + "."
    before = SOURCES.get(figure, {})
    panels = [*before.get("panels", []), text]
    SOURCES[figure] = {**notes, "caption": " ".join(panels), "panels": panels, "data_sha256": data_hash(dataset)}


def held_values(dataset: xr.Dataset) -> list[str]:
    """What is the same for all that is drawn, as people write it: ``policy serialized``."""
    return [
        f"{quantities.of(array).label} {_shortly(array)}"
        for array in dataset.coords.values()
        if array.ndim == 0 and "long_name" in array.attrs
    ]


def _drawn(dataset: xr.Dataset) -> str:
    """Say what each migration of a sweep without replicates has drawn: it moves a point from its neighbours."""
    if "outcome" not in dataset or REPLICATE in dataset.dims or "description" not in dataset.attrs:
        return ""
    fields = swept_scenario(dataset).drawn_fields()
    return f"one draw of {', '.join(fields)}" if fields else ""


def _shortly(array: xr.DataArray) -> str:
    """The value of a coordinate that has one, with three digits."""
    value = array.values[()]
    if array.dtype.kind not in "iuf":
        return str(value)
    what = fitting(quantities.of(array), value)
    return f"{value / what.per_unit:.3g} {what.unit}".strip()


def caption(figure: Figure | Axes) -> str:
    """What a figure of this module shows, in a sentence for each panel.

    Raises
    ------
    ScenarioError
        If another program has drawn it, or the suffix is that of another format.

    Examples
    --------
    >>> import migkit
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> caption(migkit.plot.timeline(migkit.simulate(scenario)))
    'Pending and sent bytes over time: Completed in 7.74 s with a downtime of 28.8 ms; expected engine.'
    """
    root: Any = figure.get_figure(root=True) if hasattr(figure, "get_figure") else figure
    if root not in SOURCES:
        raise ScenarioError("was not drawn by migkit.plot: nothing is known of it", "figure")
    return str(SOURCES[root]["caption"])


_OTHER_FORMATS = {
    ".bmp", ".doc", ".docx", ".emf", ".eps", ".gif", ".html", ".jpeg", ".jpg", ".pgf", ".ps", ".raw", ".svgz", ".tex",
    ".tif", ".tiff", ".webp", ".wmf",
}  # fmt: skip
"""Suffixes that ask for what is not written; any other one, as in ``limit-0.5``, is part of the name."""


def save(figure: Figure | Axes, path: str | Path) -> list[Path]:
    """Write a figure as PDF, SVG and PNG, and beside it what it was drawn from: caption, scenario, versions, data hash.

    Parameters
    ----------
    figure : Figure or Axes
        Of a function of this module.
    path : str or Path
        Without a suffix, or with one of these.

    Returns
    -------
    list of Path
        The files; the last one is JSON.

    Raises
    ------
    ScenarioError
        If another program has drawn it, or the suffix is that of another format.

    Examples
    --------
    >>> import json, migkit, tempfile
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     *_, notes = save(migkit.plot.timeline(migkit.simulate(scenario)), f"{folder}/mine.pdf")
    ...     notes.name, sorted(json.loads(notes.read_text()))[:2]
    ('mine.json', ['caption', 'data_sha256'])
    """
    caption(figure)
    root: Any = figure.get_figure(root=True) if hasattr(figure, "get_figure") else figure
    stem = Path(path)
    if stem.suffix in _OTHER_FORMATS:
        raise ScenarioError("is not written: give a name without a suffix, or with .pdf, .svg or .png; all three are "
                            "written", "path", str(path))  # fmt: skip
    stem = stem.with_suffix("") if stem.suffix in (".pdf", ".svg", ".png") else stem
    with style():
        return save_figure(root, stem, {key: value for key, value in SOURCES[root].items() if key != "panels"})
