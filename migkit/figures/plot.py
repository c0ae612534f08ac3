"""Plots of one's own results: a map, a heat map, a frontier, a comparison, a timeline; from any Dataset of migkit.

Each takes the Dataset, the names of its axes (or the ends of their paths), and values at which other axes are held, as
:func:`migkit.sel` takes them. Axes have the unit that people read; a figure remembers what it was drawn from, and
:func:`save` writes that beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.analysis.closed_form import categories, category
from migkit.analysis.uncertainty import convergence
from migkit.figures import quantities
from migkit.figures.fitting import cells, fitting, fitting_axis, is_logarithmic, of_variable, places
from migkit.figures.frontier import critical_values, none_beyond
from migkit.figures.heat import cell_ticks, colour_scale
from migkit.figures.never import free_rows, lines_legend, mark_never
from migkit.figures.planes import category_plane
from migkit.figures.probability import convergence_probability
from migkit.figures.save import data_hash
from migkit.figures.sources import SOURCES, caption, held_values, remember, save
from migkit.figures.style import (
    CATEGORY_COLOURS,
    CATEGORY_HATCHES,
    COLUMN_IN,
    PAGE_IN,
    label_of,
    line_look,
    log_axis,
    style,
)
from migkit.figures.tables import latex
from migkit.figures.timeline import (
    commands_over_time,
    given_columns,
    given_over_time,
    limit_over_time,
    pending_over_time,
    thinned,
)
from migkit.provenance import provenance
from migkit.results import CATEGORIES, Outcome
from migkit.run.design import REPLICATE
from migkit.run.selection import coordinate_name, sel, written
from migkit.scenario.errors import ScenarioError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from migkit.run.simulate import SimulatedMigration

__all__ = ["caption", "compare", "frontier", "heatmap", "latex", "map", "save", "timeline"]

_LOOKS = {
    Outcome.COMPLETED: ("#F2F2F2", ""),
    Outcome.INITIAL_DATA_STARVED: ("#56B4E9", "////"),
    Outcome.RAM_ABOVE_LINK: ("#4D4D4D", ""),
    Outcome.STOP_COPY_ABOVE_THRESHOLD: ("#E69F00", "xxxx"),
    Outcome.TIME_LIMIT: ("#CC79A7", "...."),
    Outcome.CANCELLED: ("#F0E442", "\\\\\\\\"),
}
"""Colour and hatch of each outcome; distinct in grey too."""
_MOST_LINES = 5
_HEIGHT = 0.8  # of a panel, by its width
_STAYS = "\N{NO-BREAK SPACE}"


# --- what is drawn -------------------------------------------------------------------------------


def _checked(dataset: Any, wanted: str, of: str) -> xr.Dataset:
    import xarray as xr

    if not isinstance(dataset, xr.Dataset) or wanted not in dataset:
        raise ScenarioError(f"is not a Dataset of {of}", "dataset")
    return dataset


def _along(dataset: xr.Dataset, name: str) -> xr.Dataset:
    """The Dataset with a coordinate as the dimension that it lies along."""
    coordinate = dataset[coordinate_name(dataset, name)]
    if coordinate.ndim != 1:
        raise ScenarioError("has one value in this Dataset: it is no axis", str(coordinate.name))
    (dim,) = coordinate.dims
    return dataset if dim == coordinate.name else dataset.swap_dims({dim: coordinate.name})


def _chosen(dataset: xr.Dataset, given: Sequence[str | None], dims: Sequence[str]) -> tuple[xr.Dataset, list[str]]:
    """The axes to draw along, of `dims` where none are given, the last first."""
    names: list[str] = []
    for name in given:
        if name is not None:
            dataset = _along(dataset, name)
            names.append(coordinate_name(dataset, name))
    left = [dim for dim in reversed(dims) if dim in dataset.dims and dim not in names]
    found = iter(names)
    chosen = [next(found) if name is not None else (left.pop(0) if left else "") for name in given]
    if "" in chosen:
        raise ScenarioError(f"has too few axes to draw: {len(dims)}, and {len(given)} are needed", "dataset")
    return dataset, chosen


def _only(array: xr.DataArray, dims: Sequence[str]) -> xr.DataArray:
    """Refuse an array that has more axes than are drawn, but for those of one value."""
    array = array.squeeze([dim for dim in array.dims if dim not in dims and array.sizes[dim] == 1])
    if left := [str(dim) for dim in array.dims if dim not in dims]:
        name = left[0]
        value = written(array[name].values[0], array[name].attrs.get("units", "")) if name in array.coords else "0"
        raise ScenarioError(f"is an axis too and is not drawn: give the value at which to draw, such as "
                            f'{{"{name}": "{value}"}} as at=', name)  # fmt: skip
    return array


def _held(dataset: xr.Dataset, at: Mapping[str, Any] | None) -> xr.Dataset:
    return sel(dataset, at) if at else dataset


def _panel(ax: Axes | None, width: float = COLUMN_IN) -> Axes:
    """The axes to draw into, by default those of a new figure of one column."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, _HEIGHT * width), layout="constrained")[1]


def _title(ax: Axes, dataset: xr.Dataset, pad: float | None = None) -> None:
    """What is held stands above the panel, `pad` points of it, unless the user has written something there."""
    import textwrap

    held = ", ".join(label_of(each).replace(" ", _STAYS) for each in held_values(dataset))
    if held and not ax.get_title():
        inches = ax.get_position().width * ax.figure.get_figwidth()  # type: ignore[union-attr]
        ax.set_title(
            textwrap.fill(held, max(20, round(15 * inches)), break_on_hyphens=False).replace(_STAYS, " "), pad=pad
        )


# --- the plots -----------------------------------------------------------------------------------


def map(
    dataset: xr.Dataset,
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how migrations end over two axes; with both policies, under which of them they converge.

    Orange lines are the edges, cell by cell, that are derived from the constants of the loop for the scenario of the
    Dataset (:mod:`migkit.analysis.closed_form`), where both policies are there and it has such edges.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of :func:`migkit.sweep`.
    x, y : str, optional
        Names of axes, or the ends of their paths; by default the last two.
    at : mapping, optional
        Values at which other axes are held, as :func:`migkit.sel` takes them.
    ax : Axes, optional
        By default that of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ScenarioError
        If an axis is unknown, or one is left that is neither drawn nor held.

    Examples
    --------
    >>> import migkit
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> axes = {"guest.ram": ["1 GiB", "2 GiB"], "link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]}
    >>> ax = map(migkit.sweep(scenario, axes))
    >>> ax.get_xlabel(), ax.get_ylabel()
    ('link (Gbit/s)', 'ram (GiB)')
    """
    dataset = _held(_checked(dataset, "outcome", "migkit.sweep"), at)
    drawn = [str(dim) for dim in dataset["outcome"].dims if dim != REPLICATE]
    policy = next((dim for dim in drawn if set(dataset[dim].values.tolist()) >= {"serialized", "unserialized"}), "")
    both = policy if policy not in (x, y) and len(drawn) > 2 else ""
    dataset, (x, y) = _chosen(dataset, (x, y), [dim for dim in drawn if dim != both])
    derived = None
    if both:
        completed = dataset["outcome"] == Outcome.COMPLETED
        one, other = (completed.sel({both: name}, drop=True) for name in ("serialized", "unserialized"))
        plane = _only(one.copy(data=category(one.values, other.values)), (x, y))
        names, looks = list(CATEGORIES), list(zip(CATEGORY_COLOURS, CATEGORY_HATCHES, strict=True))
        derived = _derived(dataset, x, y)
    else:
        plane = _only(dataset["outcome"], (x, y))
        names, looks = [_words(each) for each in Outcome], list(_LOOKS.values())
    new = ax is None
    with style():
        ax = _panel(ax)
        there = sorted(set(np.unique(plane.values).tolist()) - {-1})
        drawn_cells = cells(plane.where(plane >= 0), x, y)
        category_plane(drawn_cells, ax, x, y, *zip(*looks, strict=True))
        lines = derived is not None and _edges(ax, cells(derived, x, y))
        for axis, name in (("x", x), ("y", y)):
            fitting_axis(ax, axis, dataset[name])
        _legend(ax, new, there, names, looks, lines)
        _title(ax, dataset)
    what = "policies under which migrations converge" if both else "how migrations end"
    remember(ax, dataset, f"{what[0].upper()}{what[1:]}, by {_both_labels(dataset, x, y)}")
    return ax


def _words(outcome: Outcome) -> str:
    return outcome.label.replace("_", " ").replace("ram ", "RAM ")


def _both_labels(dataset: xr.Dataset, x: str, y: str) -> str:
    return f"{quantities.of(dataset[x]).label} and {quantities.of(dataset[y]).label}"


def _derived(dataset: xr.Dataset, x: str, y: str) -> xr.DataArray | None:
    """The derived categories over the plane; None if this scenario, or these axes, have none."""
    try:
        found = categories(dataset)["derived"]
        found = found.squeeze([dim for dim in found.dims if dim not in (x, y) and found.sizes[dim] == 1])
    except (ScenarioError, KeyError, ValueError):
        return None
    return found.transpose(y, x) if set(found.dims) == {x, y} else None


def _edges(ax: Axes, derived: xr.DataArray) -> bool:
    """Draw the edges between derived categories, and say whether there are any."""
    from matplotlib.patheffects import Normal, Stroke

    y, x = derived.dims
    drawn = False
    for number in range(len(CATEGORIES)):
        here = (derived.values == number).astype(float)
        if 0 < here.sum() < here.size:
            lines = ax.contour(derived[x].values, derived[y].values, here, levels=[0.5], colors="#D55E00",
                               linewidths=1.2, linestyles="-")  # fmt: skip
            lines.set_path_effects([Stroke(linewidth=2.4, foreground="white"), Normal()])
            drawn = True
    return drawn


def _legend(
    ax: Axes, new: bool, there: Sequence[int], names: Sequence[str], looks: Sequence[tuple[str, str]], line: bool
) -> None:
    """Name what occurs, below the axes."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Patch(facecolor=looks[n][0], hatch=looks[n][1], edgecolor="black", label=names[n]) for n in there
    ]
    if line:
        handles.append(Line2D([], [], color="#D55E00", linewidth=1.2, label="derived"))
    if new:
        ax.figure.legend(handles=handles, loc="outside lower center", ncols=2)
    else:
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)


def heatmap(
    dataset: xr.Dataset,
    variable: str = "total_time_s",
    x: str | None = None,
    y: str | None = None,
    at: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one number of each migration over two axes, in colour; hatched is never.

    The scale of the colours is logarithmic where the numbers are above 0 and span more than a factor of ten.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of :func:`migkit.sweep`, or any other with such a variable.
    variable : str, default "total_time_s"
        Name of a variable with numbers. Over replicates its mean is drawn.
    x, y : str, optional
        Names of axes, or the ends of their paths; by default the last two.
    at : mapping, optional
        Values at which other axes are held, as :func:`migkit.sel` takes them.
    ax : Axes, optional
        By default that of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ScenarioError
        If the variable or an axis is unknown, or an axis is left that is neither drawn nor held.

    Examples
    --------
    >>> import migkit
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> axes = {"guest.ram": ["1 GiB", "2 GiB"], "link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]}
    >>> heatmap(migkit.sweep(scenario, axes), "downtime_s").figure.axes[1].get_ylabel()
    'downtime (ms)'
    """
    import seaborn as sns
    from matplotlib.patches import Patch

    array = _numbers(dataset, variable)
    dataset = _held(dataset, at)
    dims = [str(dim) for dim in dataset[variable].dims if dim not in (REPLICATE, "device")]
    dataset, (x, y) = _chosen(dataset, (x, y), dims)
    array = dataset[variable]
    mean = REPLICATE in array.dims
    array = array.mean(REPLICATE, keep_attrs=True) if mean else array
    plane = _only(array, (x, y)).transpose(y, x)
    what = of_variable(plane)
    label = f"{'mean ' if mean else ''}{what.axis_label}"
    with style():
        ax = _panel(ax)
        values = plane.values.astype(float) / what.per_unit
        norm, ticks = colour_scale(values)
        sns.heatmap(values[::-1], ax=ax, cmap="cividis", norm=norm, xticklabels=False, yticklabels=False,
                    cbar_kws={"label": label, **ticks}, mask=np.isnan(values[::-1]), rasterized=True)  # fmt: skip
        if norm is not None:
            ax.collections[0].colorbar.ax.minorticks_off()  # type: ignore[union-attr]
        cell_ticks(ax, "x", dataset[x])
        cell_ticks(ax, "y", dataset[y], backwards=True)
        ax.set_facecolor("white")
        if np.isnan(plane.values).any():  # in grey the hatches tell it from the lightest colour
            ax.patch.set(hatch="////", edgecolor="0.6", linewidth=0)
            never = [Patch(facecolor="white", hatch="////", edgecolor="0.6", label="never")]
            ax.legend(handles=never, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
        _title(ax, dataset, pad=16 if np.isnan(plane.values).any() else None)  # above the legend
    never_said = ", hatched is never" if np.isnan(plane.values).any() else ""
    remember(ax, dataset, f"{label[0].upper()}{label[1:]}{never_said}, by {_both_labels(dataset, x, y)}")
    return ax


def _numbers(dataset: Any, variable: str) -> xr.DataArray:
    """A variable that holds numbers."""
    import xarray as xr

    if not isinstance(dataset, xr.Dataset):
        raise ScenarioError("is not a Dataset of migkit", "dataset")
    numeric = [
        str(name)
        for name, each in dataset.data_vars.items()
        if each.dtype.kind in "iufb" and "flag_values" not in each.attrs and name != "culprit"
    ]
    if variable not in numeric:
        raise ScenarioError(f"is no variable with numbers: {did_you_mean(variable, numeric)}", "variable", variable)
    return dataset[variable]


def compare(
    dataset: xr.Dataset,
    variable: str = "total_time_s",
    x: str | None = None,
    by: str | None = None,
    at: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one number of each migration over an axis, a line for each value of another one.

    Over replicates the line is the median and the band the middle 90 %; of ``"completed"`` the share that completes is
    drawn, with Wilson's interval of 95 %. Migrations for which the number is never are left out: where none has one, a
    cross at the upper edge says so, and where only some replicates have one, a plus.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of :func:`migkit.sweep`.
    variable : str, default "total_time_s"
        Name of a variable with one number a migration, or ``"completed"``.
    x : str, optional
        Name of an axis, or the end of its path; by default the last that is not drawn as lines.
    by : str, optional
        Axis of the lines, at most five values; by default the policy, if it is an axis.
    at : mapping, optional
        Values at which other axes are held, as :func:`migkit.sel` takes them.
    ax : Axes, optional
        By default that of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ScenarioError
        If the variable or an axis is unknown, or an axis is left that is neither drawn nor held.

    Examples
    --------
    >>> import migkit
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> axes = {"policy": ["serialized", "unserialized"], "link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]}
    >>> ax = compare(migkit.sweep(scenario, axes))
    >>> ax.get_ylabel(), [text.get_text() for text in ax.get_legend().get_texts()]
    ('total time (s)', ['serialized', 'unserialized'])
    """
    import seaborn as sns

    _numbers(dataset, variable)
    dataset = _held(_checked(dataset, "outcome", "migkit.sweep"), at)
    axes = [str(dim) for dim in dataset["outcome"].dims if dim != REPLICATE]
    if by is None:
        by = next((dim for dim in axes if dataset[dim].attrs.get("long_name") == "policy" and dim != x), None)
    if by is not None:
        dataset = _along(dataset, by)
        by = coordinate_name(dataset, by)
        if dataset.sizes[by] > _MOST_LINES:
            raise ScenarioError(f"has {dataset.sizes[by]} values: at most {_MOST_LINES} lines are drawn, select some",
                                by)  # fmt: skip
    dataset, (x,) = _chosen(dataset, (x,), [dim for dim in axes if dim != by])
    array = _only(dataset[variable], [x, REPLICATE, *([by] if by else [])])
    repeated = REPLICATE in array.dims
    what = of_variable(array)
    lines = [array.sel({by: value}) for value in dataset[by].values] if by else [array]
    labels = [_tick_with_unit(dataset[by], value) for value in dataset[by].values] if by else [""]
    new = ax is None
    with style():
        ax = _panel(ax)
        yes_or_no = array.dtype.kind == "b"
        for number, (line, label) in enumerate(zip(lines, labels, strict=True)):
            look: dict[str, Any] = line_look(number) | {"label": label, "markevery": max(1, line.sizes[x] // 15)}
            if yes_or_no:
                look["drawstyle"] = "steps-mid"  # between two points nothing is known, least of all a slope
            if variable == "completed" and repeated:
                part = dataset.sel({by: dataset[by].values[number]}) if by else dataset
                sure = convergence(part.squeeze(drop=True).transpose(x, REPLICATE, ...))
                convergence_probability(sure.assign_coords({x: places(sure[x])}), ax, x, label, number)
                continue
            known = np.isfinite(line.transpose(x, *([REPLICATE] if repeated else [])).values.astype(float))
            mark_never(ax, line[x], known, number)
            if not known.any():
                ax.plot([], [], **{**look, "label": f"{label} (never)" if label else "never"})
                continue
            frame = line.assign_coords({x: places(line[x])}).to_series().dropna().reset_index(name="value")
            sns.lineplot(frame.assign(value=frame["value"].astype(float) / what.per_unit), x=x, y="value", ax=ax,
                         estimator="median" if repeated else None, errorbar=("pi", 90) if repeated else None,
                         legend=False, **look)  # fmt: skip
        _finish(ax, dataset[x], variable == "completed" and repeated)
        if not (variable == "completed" and repeated):
            ax.set_ylabel(
                what.axis_label + (f",\nmedian, middle 90 % of {array.sizes[REPLICATE]} replicates" if repeated else "")
            )
        if yes_or_no and not repeated:
            ax.set(yticks=[0, 1], yticklabels=["no", "yes"], ylim=(-0.1, 1.1))
        if not np.isfinite(array.values.astype(float)).any():
            ax.set_yticks([])
            ax.text(0.5, 0.5, f"{what.label}: never", transform=ax.transAxes, ha="center", va="center")
        free_rows(ax, len(lines))
        beside = lines_legend(ax, quantities.of(dataset[by]).label if by else "")
        if new and beside:
            ax.figure.set_figheight(ax.figure.get_figheight() + 0.6)  # type: ignore[union-attr]
        _title(ax, dataset)
    spread = ""
    if repeated:
        spread = f" over {array.sizes[REPLICATE]} replicates"
        spread = f"{spread}, Wilson's 95 %" if variable == "completed" else f", median and middle 90 %{spread}"
    label = "share of migrations that complete" if variable == "completed" else what.label
    remember(ax, dataset, f"{label[0].upper()}{label[1:]} by {quantities.of(dataset[x]).label}{spread}")
    return ax


def _finish(ax: Axes, coordinate: xr.DataArray, scaled: bool) -> None:
    """Label the x axis; the data of a probability are in the unit of its field already."""
    if scaled and coordinate.dtype.kind in "iuf":
        return
    if coordinate.dtype.kind in "iuf":
        low, high = float(coordinate.values.min()), float(coordinate.values.max())
        ratio = (high / low) ** 0.04 if is_logarithmic(coordinate) else 1.0
        gap = 0.0 if is_logarithmic(coordinate) else 0.04 * (high - low)
        if high > low:
            ax.set_xlim(low / ratio - gap, high * ratio + gap)
    fitting_axis(ax, "x", coordinate)


def _tick_with_unit(coordinate: xr.DataArray, value: Any) -> str:
    return label_of(written(value, coordinate.attrs.get("units", "")))


def frontier(
    dataset: xr.Dataset,
    x: str | None = None,
    by: str | None = None,
    at: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the critical value of a frontier over one axis, a line for each value of another one.

    With replicates the middle of single migrations is shaded.

    Parameters
    ----------
    dataset : xarray.Dataset
        Of :func:`migkit.frontier`.
    x : str, optional
        Name of an axis, or the end of its path; by default the last that is not drawn as lines.
    by : str, optional
        Axis of the lines, at most five values; by default the policy, if it is an axis.
    at : mapping, optional
        Values at which other axes are held, as :func:`migkit.sel` takes them.
    ax : Axes, optional
        By default that of a new figure.

    Returns
    -------
    Axes

    Raises
    ------
    ScenarioError
        If an axis is unknown, or one is left that is neither drawn nor held.

    Examples
    --------
    >>> import migkit
    >>> guest = migkit.Guest(ram="1 GiB", regions=[migkit.Region(size="512 MiB", write_rate="1 GB/s")])
    >>> scenario = migkit.Scenario(guest=guest, link=migkit.Link(bandwidth="10 Gbit/s"), migration={"max_bandwidth": 0})
    >>> found = migkit.frontier(scenario, "guest.regions.0.write_rate", ["10 MB/s", "20 GB/s"],
    ...                         over={"link.bandwidth": ["5 Gbit/s", "10 Gbit/s"]}, tolerance=0.1)
    >>> frontier(found).get_ylabel()
    'critical dirty rate (GB/s)'
    """
    dataset = _held(_checked(dataset, "critical", "migkit.frontier"), at)
    axes = [str(dim) for dim in dataset["critical"].dims if dim != "flip"]
    if by is None:
        by = next((dim for dim in axes if dim == "policy" and dim != x), None)
    if by is not None:
        dataset = _along(dataset, by)
        by = coordinate_name(dataset, by)
        if dataset.sizes[by] > _MOST_LINES:
            raise ScenarioError(f"has {dataset.sizes[by]} values: at most {_MOST_LINES} lines are drawn, select some",
                                by)  # fmt: skip
    dataset, (x,) = _chosen(dataset, (x,), [dim for dim in axes if dim != by])
    _only(dataset["critical"], [x, "flip", *([by] if by else [])])
    with style():
        ax = _panel(ax)
        for number, value in enumerate(dataset[by].values if by else [None]):
            part = dataset if value is None else dataset.sel({by: value}, drop=True)
            label = "" if value is None else _tick_with_unit(dataset[by], value)
            critical_values(part.squeeze(drop=True).expand_dims({} if "flip" in part.squeeze(drop=True).dims else
                                                                {"flip": [0]}, axis=-1),
                            ax, x, label, number, says_engine=False)  # fmt: skip
        _finish(ax, dataset[x], scaled=False)
        critical = dataset["critical"].values
        _limits_y = (np.nanmin(critical), np.nanmax(critical))
        ax.set_ylim(_limits_y[0] / 1.3, _limits_y[1] * 1.3)
        what = fitting(quantities.quantity(dataset.attrs["axis"], dataset["critical"].attrs.get("units", "")), critical)
        log_axis("y", ax, what.unit, what.per_unit, f"critical {what.label}")
        none_beyond(dataset, ax, x)
        if by:
            ax.legend(title=quantities.of(dataset[by]).label)
        _title(ax, dataset)
    remember(
        ax, dataset, f"Critical {what.label} by {quantities.of(dataset[x]).label}, from {dataset.attrs['between']}"
    )
    return ax


def _summed(lines: pd.DataFrame) -> pd.DataFrame:
    """Of more than four devices those that have sent least and most at each time, instead of a line for each."""
    others = [name for name in given_columns(lines) if name != "ram_bytes"]
    if len(others) <= _MOST_LINES - 1:
        return lines
    sent = lines[others].fillna(0).cumsum()
    ends = {f"{word} of {len(others)} devices_bytes": getattr(sent, end)(axis=1)
            for word, end in (("least", "min"), ("most", "max"))}  # fmt: skip
    return lines.drop(columns=others).assign(**{name: each.diff().fillna(each) for name, each in ends.items()})


_BESIDE = (("downtime-limit",), ("max-bandwidth", "link bandwidth"))
"""Limits that share a panel."""


def _changed_limits(migrations: Iterable[SimulatedMigration]) -> list[tuple[str, ...]]:
    """The panels of limits that any of the migrations changed."""
    there = {what for each in migrations if each.numbers["changes"] for what in each.changes["what"]}
    return [whats for whats in _BESIDE if there & set(whats)]


def _limits_of(migration: SimulatedMigration, whats: tuple[str, ...], ax: Axes) -> None:
    """Draw the limits of a panel; those that are not changed as they are."""
    scenario = migration.scenario
    start = {
        "downtime-limit": float(scenario.migration.downtime_limit),
        "max-bandwidth": float(scenario.migration.max_bandwidth),
        "link bandwidth": float(scenario.link.bandwidth),
    }
    for what in whats:
        limit_over_time(migration.changes, what, start[what], migration.verdict_time_s, ax)
    if len(whats) > 1:
        ax.legend()


def timeline(migration: SimulatedMigration | Mapping[str, SimulatedMigration]) -> Figure:
    """Draw migrations over time: pending bytes and the threshold above, what each device has sent below.

    Where a limit was changed while one of them ran, further panels below show it over time, and vertical lines where
    the VM was stopped or the migration cancelled.

    Parameters
    ----------
    migration : SimulatedMigration, or mapping of them by title
        One column for each, up to four.

    Returns
    -------
    Figure

    Raises
    ------
    ScenarioError
        If there is none, or if there are more than four.

    Examples
    --------
    >>> import migkit
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> [ax.get_ylabel() for ax in timeline(migkit.simulate(scenario)).axes]
    ['pending (MiB)', 'sent so far (MiB)']
    """
    import matplotlib.pyplot as plt

    given = dict(migration) if isinstance(migration, Mapping) else {"": migration}
    if not 1 <= len(given) <= 4:
        raise ScenarioError(f"has {len(given)} migrations: from 1 to 4 are drawn", "timeline")
    width = COLUMN_IN if len(given) == 1 else PAGE_IN
    changed = _changed_limits(given.values())
    with style():
        figure, axes = plt.subplots(2 + len(changed), len(given), figsize=(width, 3.8 + 1.2 * len(changed)),
        sharex=True,
                                    sharey="row", squeeze=False, layout="constrained")  # fmt: skip
        for column, (title, each) in enumerate(given.items()):
            upper, lower, *limits = axes[:, column]
            lines = _summed(thinned(each.timeline))
            pending_over_time(lines, upper).set_xlabel("")
            given_over_time(lines, lower)
            for whats, ax in zip(changed, limits, strict=True):
                _limits_of(each, whats, ax)
            if limits:
                lower.set_xlabel("")
                for ax in limits[:-1]:
                    ax.set_xlabel("")
            for ax in axes[:, column] if each.numbers["changes"] else ():
                commands_over_time(each.changes, ax)
            ended = _words(each.outcome)
            upper.set_title(f"{label_of(title)}: {ended}" if title else ended)
            if column:
                for ax in axes[:, column]:
                    ax.set_ylabel("")
        axes[0, 0].legend()
        handles, names = axes[1, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5))  # lines fill the lower axes
    said = "; ".join(f"{title}: {each.sentence[:-1]}" if title else each.sentence[:-1] for title, each in given.items())
    first = next(iter(given.values()))
    notes = provenance(first.engine, first.seed, first.scenario.to_toml())
    scenarios = {title: each.scenario.to_toml() for title, each in given.items()}
    text = f"Pending and sent bytes over time: {said}; {first.engine} engine."
    SOURCES[figure] = {**notes, "caption": text, "scenarios": scenarios, "panels": [text],
                        "data_sha256": data_hash(*(each.timeline for each in given.values()))}  # fmt: skip
    return figure
