"""Frontiers: the values of one axis at which the outcome changes, at every point of the other axes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit import results
from migkit.analysis.bisection import Flips, bisected, matched
from migkit.analysis.intervals import sample_quantile
from migkit.kernels.state import Reports
from migkit.provenance import provenance
from migkit.results import VARIABLES, Kind, Outcome
from migkit.run.design import REPLICATE, Sweep
from migkit.run.grid import Layout
from migkit.run.kept import Kept, kept_in
from migkit.run.limits import LIMIT, machine_memory
from migkit.run.many import checked_threads
from migkit.run.simulate import check_whole_number
from migkit.run.values import spaced
from migkit.scenario.errors import ScenarioError, did_you_mean
from migkit.scenario.scenario import Scenario, as_scenario

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["frontier"]

BATCH_ROWS = {"expected": 65536, "bitmap": 2048}
"""Migrations computed together, by engine."""
REPLICATES = 20

_KINDS: tuple[Kind, ...] = ("frontier", "frontier_of_replicates")
_NO_FLIP = -1
_BYTES_A_NODE = 64
"""Memory that a node takes while its outcome is sorted in."""
_RESERVED = {"flip"} | {variable.name for variable in VARIABLES if variable.kind in _KINDS}
"""Names of the Dataset's own, which no axis can have."""


def frontier(
    scenario: Scenario,
    axis: str,
    between: Sequence[Any],
    over: Mapping[str, Any] | None = None,
    policy: str | Sequence[str] | None = None,
    *,
    outcome: str = "completed",
    tolerance: float = 0.001,
    scan: int = 17,
    multiple: Any = None,
    engine: str = "expected",
    replicates: int | None = None,
    seed: int = 0,
    confidence: float = 0.95,
    threads: int | None = None,
    progress: bool = False,
    store: str | Path | None = None,
    limit: str = LIMIT,
) -> xr.Dataset:
    """Find the values of one axis at which the outcome changes to or from completion, or another outcome.

    The axis is discretised: neighbouring nodes of its lattice differ by the tolerance. At every point of the other axes
    a few evenly spaced nodes are computed first. If one completes and the next does not, a flip lies between them, and
    bisection finds the two neighbouring nodes it lies between. A point can have several flips.
    ``outcome="initial_data_starved"`` finds both ends of the starvation band, above which migrations do not complete
    for another reason.

    Parameters
    ----------
    scenario : Scenario
        What all migrations share.
    axis : str
        Dotted path of the field, a quantity or a number: ``"guest.regions.0.write_rate"``, ``"devices.0.count"``.
    between : sequence of two
        Least and largest value of the axis, written as in a scenario.
    over : mapping, optional
        The other axes, as :func:`migkit.sweep` takes them.
    policy : str or sequence of str, optional
        Scheduling policy; several are an axis, the last one.
    outcome : str, default "completed"
        A flip has this outcome on one side and another on the other: a label of :class:`migkit.results.Outcome`.
    tolerance : float, default 0.001
        Step of the lattice, above 0 and up to 0.5: neighbouring nodes have the ratio 1 + `tolerance`; where the range
        begins at 0, they are `tolerance` times the largest value apart. Counts are taken one by one, and sizes of the
        guest's memory are rounded to whole pages, whatever the tolerance.
    scan : int, default 17
        Nodes that are computed first, 2 or more.
    multiple : quantity, optional
        Round nodes to a multiple of this; both ends must be multiples of it.
    engine : {"expected", "bitmap"}, optional
        RAM as expected values or as a page-exact bitmap.
    replicates : int, optional
        Repetitions with their own random draws, 20 by default, where something is drawn: by the bitmap engine, or a
        field of the scenario (:meth:`migkit.Scenario.drawn_fields`). Each has its own flips.
    seed : int, default 0
        Root seed of the draws.
    confidence : float, default 0.95
        Of both intervals, with replicates.
    threads : int, optional
        Threads to compute on; by default all that Numba has.
    progress : bool, default False
        Count the migrations while they are computed.
    store : str or path, optional
        Folder that keeps the outcomes while they are computed: after an interrupt, the same call goes on from there.
    limit : duration, default "20 s"
        Computing that one migration may take (:func:`migkit.run.limits.effort`).

    Returns
    -------
    xarray.Dataset
        One dimension for each of `over`, ``policy`` if there are several, and ``flip``: the flips of a point in rising
        order; ``NaN`` where a point has fewer flips than another.

        ``critical``, in SI units
            Without replicates the middle between the nodes on either side of the flip, geometric if the lattice is.
            With replicates the median of that over the replicates that have the flip.
        ``below``, ``above``
            These two nodes. With the same draws their outcomes differ.
        ``outcome_below``, ``outcome_above``
            Codes (:class:`migkit.results.Outcome`) at these nodes, -1 where there is no flip.
        ``flips``
            How many there are;  with replicates those that at least half of them have.
        ``converges_at_low``, ``converges_at_high``
            Whether the migration completes at the two ends of the axis.

        With replicates ``below``, ``above``, the outcomes and ``converges_at_...`` have a ``replicate``
        dimension, and the Dataset also has:

        ``sample``
            The critical value of each replicate.
        ``share``
            Share of the replicates that have the flip. Replicates may have different numbers of flips. Flips are
            matched by direction and nearness to those of the most common pattern; those without a match are listed
            too, with a low share.
        ``replicate_flips``
            How many flips each replicate has.
        ``single_low``, ``single_high``
            Where single migrations flip: the sample's quantiles ``(1 - confidence) / 2`` and ``(1 + confidence) / 2``.
            More replicates make these estimates more precise; they do not narrow the interval.
        ``median_low``, ``median_high``
            Confidence interval of ``critical``, between two order statistics
            (:func:`migkit.analysis.intervals.order_statistics`). More replicates narrow it; ``NaN`` for fewer than 6 of
            them (at 95 %).

        Attributes: how it was made, ``axis``, ``between``, ``outcome``, ``tolerance``, ``nodes`` of the lattice,
        ``migrations`` that were computed, and ``migrations_of_a_grid`` that a sweep over all nodes would compute.

    Raises
    ------
    ScenarioError
        If the axis is unknown, holds words, or is also in `over`; if the range has the wrong unit or is reversed; if
        the lattice has more than 100,000 nodes; if another argument or a combination of values is refused. Raised
        before anything is computed. Also if the `store` holds something else.
    Unfinished
        If the disk is full; says what the `store` keeps. A KeyboardInterrupt has a note that says the same.

    Notes
    -----
    Every flip that is returned is a true one. A pair of flips between two neighbouring nodes of the scan
    can be missed: raise `scan` to find bands narrower than ``1 / (scan - 1)`` of the axis. If a neighbouring point of
    the other axes has a band, that band is followed into points whose scan missed it, as long as it overlaps from point
    to point. Of an odd number of flips between two nodes of the scan one is found; this includes ragged edges, where
    completing and failing migrations alternate within a few nodes.

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario, frontier
    >>> scenario = Scenario(
    ...     guest=Guest(ram="1 GiB", regions=[Region(size="512 MiB", write_rate="1 GB/s")]),
    ...     link=Link(bandwidth="10 Gbit/s"),
    ...     migration={"max_bandwidth": 0},
    ... )
    >>> ds = frontier(scenario, "guest.regions.0.write_rate", ["10 MB/s", "20 GB/s"],
    ...               over={"link": {"link.bandwidth": ["5 Gbit/s", "10 Gbit/s"]}})
    >>> ds["critical"].dims, ds["flips"].values.tolist()
    (('link', 'flip'), [1, 1])
    >>> bool((ds["above"] / ds["below"] < 1.0011).all())
    True
    """
    axes, scenario = _other_axes(scenario, axis, over, policy)
    draws = engine == "bitmap" or bool(scenario.drawn_fields())
    if replicates is not None and not draws:
        raise ScenarioError("draws nothing, so there is nothing to repeat: leave replicates out", "engine", engine)
    if draws:
        replicates = check_whole_number("replicates", REPLICATES if replicates is None else replicates, least=1)
    scan = check_whole_number("scan", scan, least=2)
    labels = {one.label: one for one in Outcome}
    if not isinstance(outcome, str) or outcome not in labels:
        raise ScenarioError(f"is not an outcome: {did_you_mean(outcome, labels)}", "outcome", outcome)
    _check_between_0_and("tolerance", tolerance, 0.5)
    _check_between_0_and("confidence", confidence, 1.0)
    threads = checked_threads(threads)

    def laid_out(values: Sequence[Any]) -> Layout:
        every = {**axes, axis: values}
        return Layout(
            Sweep(scenario=scenario, axes=every, engine=engine, seed=seed, replicates=replicates), limit=limit
        )

    ends = laid_out(_two(between))
    if taken := _RESERVED & {*ends.dims, *ends.coordinates()}:
        raise ScenarioError("cannot be the name of a dimension: choose another word", min(taken))
    _, coordinate, notes = ends.coordinates()[_coordinate(ends, axis)]
    page = scenario.guest.page_size if axis.startswith("guest.") else 1
    lattice = spaced(axis, coordinate, notes.get("units", ""), tolerance, multiple, page)
    layout = laid_out(lattice.values)
    scan = min(scan, len(lattice.values))
    _check_memory(layout, layout.migrations // len(lattice.values) * scan)
    question = {"frontier": layout.sweep.sha256, "axis": axis}
    with kept_in(store, question, np.int8) as kept:
        flips, at_ends, computed = _computed(layout, axis, labels[outcome], scan, threads, progress, kept)

    dim = _coordinate(layout, axis)
    nodes = layout.coordinates()[dim][1]
    dataset = _labelled(layout, dim, flips, at_ends, nodes, lattice.geometric, confidence)
    low, high = (str(value) for value in between)
    dataset.attrs = provenance(engine, layout.sweep.seed, scenario.to_toml()) | {
        "costs": scenario.costs.label,
        "axis": axis, "between": f"{low} to {high}", "outcome": outcome, "tolerance": float(tolerance), "scan": scan,
        "nodes": len(nodes), "migrations": computed, "migrations_of_a_grid": layout.migrations,
    }  # fmt: skip
    if draws:
        dataset.attrs["confidence"] = float(confidence)
    return results.validated(dataset, "frontier_of_replicates" if draws else "frontier")


# --- arguments -----------------------------------------------------------------------------------


def _other_axes(
    scenario: Scenario, axis: str, over: Mapping[str, Any] | None, policy: str | Sequence[str] | None
) -> tuple[dict[str, Any], Scenario]:
    """The axes beside the one that is bisected, and the scenario with the policy if there is only one."""
    scenario = as_scenario(scenario)
    if not isinstance(axis, str) or not axis:
        raise ScenarioError('is not a path to a field, such as "migration.max_bandwidth"', "axis", axis)
    if over is not None and not isinstance(over, Mapping):
        raise ScenarioError('must be a mapping such as {"link.bandwidth": ["10 Gbit/s", "25 Gbit/s"]}', "over")
    axes = dict(over or {})
    if policy is not None and "policy" in axes:
        raise ScenarioError("is given twice, in over and as policy: leave one out", "policy")
    if isinstance(policy, str):
        scenario = scenario.replace("policy", policy)
    elif policy is not None:
        axes["policy"] = policy
    if axis in axes:
        raise ScenarioError("is bisected and cannot be one of the other axes too", axis)
    for name in (axis, *axes):
        if name == REPLICATE:
            raise ScenarioError("is no axis of a frontier: say how many with replicates=", REPLICATE)
    return axes, scenario


def _check_between_0_and(name: str, value: Any, most: float) -> None:
    fits = isinstance(value, int | float | np.number) and not isinstance(value, bool) and 0 < value <= most
    if not fits or value == 1:
        bounds = "above 0 and below 1" if most == 1 else f"above 0 and up to {most}"
        raise ScenarioError(f"must be a number {bounds}", name, value)


def _two(between: Any) -> list[Any]:
    if isinstance(between, str | bytes | Mapping) or not hasattr(between, "__len__") or len(between) != 2:
        raise ScenarioError("must be two values, the least and the largest of the axis", "between", between)
    return list(between)


def _check_memory(layout: Layout, first: int) -> None:
    """Refuse a scan whose outcomes do not fit into memory."""
    if first * _BYTES_A_NODE > machine_memory():
        raise ScenarioError(f"has {layout.migrations} nodes, of which {first} are computed first: they do not fit into "
                            "memory, use fewer values or a smaller scan", "frontier")  # fmt: skip


def _coordinate(layout: Layout, axis: str) -> str:
    return next(name for name, path in layout.paths().items() if path == axis)


# --- computation ---------------------------------------------------------------------------------


def _computed(
    layout: Layout, axis: str, wanted: Outcome, scan: int, threads: int, progress: bool, kept: Kept
) -> tuple[Flips, np.ndarray, int]:
    """The flips of all cases, outcomes at both ends, and how many migrations were computed.

    A case is a point of the other axes, or one of its replicates.
    """
    from migkit.run.progress import progress_bar
    from migkit.run.threads import on_threads

    place = layout.dims.index(_coordinate(layout, axis))
    shape = layout.shape[:place] + layout.shape[place + 1 :]
    dims = layout.dims[:place] + layout.dims[place + 1 :]
    coordinates = layout.coordinates()
    along = [
        number
        for number, dim in enumerate(dims)
        if dim != REPLICATE and (dim not in coordinates or coordinates[dim][1].dtype.kind in "if")
    ]
    size = BATCH_ROWS[layout.sweep.engine]

    def batches(cases: np.ndarray, nodes: np.ndarray) -> Iterator[tuple[np.ndarray, Reports]]:
        for start in range(0, len(cases), size):
            rows = slice(start, start + size)
            where = np.unravel_index(cases[rows], shape or (1,))[: len(shape)]
            places = np.array([*where[:place], nodes[rows], *where[place:]])
            yield places, layout.empty(places.shape[1])

    def outcomes(cases: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        numbers = cases * layout.shape[place] + nodes
        missing = np.flatnonzero(~kept.has(numbers))
        advance(len(numbers) - len(missing))
        with contextlib.closing(on_threads(layout, batches(cases[missing], nodes[missing]), threads)) as computed:
            for number, batch in enumerate(computed):
                rows = missing[number * size : (number + 1) * size]
                kept.keep(numbers[rows], batch.migrations["outcome"].astype(np.int8))
                advance(len(batch.migrations))
        return kept.of(numbers)

    with progress_bar(progress, "frontier") as advance:
        return bisected(shape, layout.shape[place], scan, along, int(wanted), outcomes)


# --- the Dataset ---------------------------------------------------------------------------------


def _labelled(
    layout: Layout, axis_dim: str, flips: Flips, ends: np.ndarray, nodes: np.ndarray, geometric: bool, confidence: float
) -> xr.Dataset:
    import xarray as xr

    coordinates = layout.coordinates()
    dims = tuple(dim for dim in layout.dims if dim not in (axis_dim, REPLICATE))
    names = [name for name, (dim, *_) in coordinates.items() if dim in dims]
    replicates = layout.sweep.replicates
    shape = tuple(layout.shape[layout.dims.index(dim)] for dim in dims)
    repeated, repeats = ((), ()) if replicates is None else ((REPLICATE,), (replicates,))
    slots, most = matched(flips, math.prod(shape), replicates)

    unit = {"units": coordinates[axis_dim][2]["units"]}
    low, high = nodes[flips.below], nodes[flips.below + 1]
    middle = np.sqrt(low * high.astype(float)) if geometric else (low + high) / 2

    def filled(values: np.ndarray, absent: float) -> np.ndarray:
        table = np.full((len(ends), most), absent, float if math.isnan(absent) else np.int8)
        table[flips.case, slots] = values
        return table.reshape((*shape, *repeats, most))

    at_flips, per_case, per_flip = (*dims, "flip"), (*dims, *repeated), (*dims, *repeated, "flip")
    sample = filled(middle, np.nan)
    counts = np.bincount(flips.case, minlength=len(ends)).reshape((*shape, *repeats))
    variables: dict[str, Any] = {
        "critical": (at_flips, sample, unit),
        "below": (per_flip, filled(low, np.nan), unit),
        "above": (per_flip, filled(high, np.nan), unit),
        "outcome_below": (per_flip, filled(flips.outcome_below, _NO_FLIP)),
        "outcome_above": (per_flip, filled(flips.outcome_above, _NO_FLIP)),
        "flips": (dims, counts),
    }
    for number, end in enumerate(("low", "high")):
        variables[f"converges_at_{end}"] = per_case, (ends[:, number] == Outcome.COMPLETED).reshape((*shape, *repeats))
    if replicates is not None:
        along = np.moveaxis(sample, -2, -1)
        share = np.isfinite(along).mean(axis=-1)
        median, median_low, median_high = sample_quantile(along, 0.5, confidence)
        single_low, single_high = (sample_quantile(along, (1 + sign * confidence) / 2)[0] for sign in (-1, 1))
        variables |= {
            "critical": (at_flips, median, unit),
            "median_low": (at_flips, median_low, unit),
            "median_high": (at_flips, median_high, unit),
            "single_low": (at_flips, single_low, unit),
            "single_high": (at_flips, single_high, unit),
            "sample": (per_flip, sample, unit),
            "share": (at_flips, share),
            "flips": (dims, (share >= 0.5).sum(axis=-1)),
            "replicate_flips": (per_case, counts),
        }
        names.append(REPLICATE)
    flip = ("flip", np.arange(most), {"units": "1", "long_name": "number of the flip, from the low end"})
    return xr.Dataset(variables, {name: coordinates[name] for name in names} | {"flip": flip})
