"""Where outcomes flip: the critical value of one axis, at every point of the others."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit import results
from migkit.analysis.bisection import Flips, bisected, matched
from migkit.analysis.intervals import sample_quantile
from migkit.kernels.parameters import Outputs
from migkit.results import Outcome
from migkit.run.design import REPLICATE, Sweep
from migkit.run.lattice import spaced
from migkit.run.layout import Layout
from migkit.run.many import checked_threads
from migkit.run.simulate import check_whole_number
from migkit.scenario.errors import ScenarioError, did_you_mean
from migkit.scenario.scenario import Scenario

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["frontier"]

BLOCK_ROWS = {"expected": 65536, "bitmap": 2048}  # computed as one
REPLICATES = 20

_NO_FLIP = -1
_OWN = {"flip", "critical", "below", "above", "flips", "sample", "share"}
"""Names that a frontier uses itself; all others of its own have an underscore and are no field's."""


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
) -> xr.Dataset:
    """Find the values of one axis at which migrations begin or cease to complete, or to end in another way.

    The axis is put on a lattice whose step is the tolerance. At every point of the other axes a few nodes, spread
    evenly, are computed first; if one completes and the next does not, a flip lies between them, and halving the gap
    finds the two neighbouring nodes it lies between. There can be several. ``outcome="initial_data_starved"`` gives
    both ends of the starvation band, above which migrations do not complete for another reason.

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
        The outcome that is there on one side of a flip and not on the other: a label of
        :class:`migkit.results.Outcome`.
    tolerance : float, default 0.001
        Step of the lattice, above 0 and up to 0.5: neighbouring nodes have the ratio 1 + `tolerance`; where the range
        begins at 0, they are `tolerance` times the largest value apart. Counts are taken one by one, and sizes of the
        guest's memory are rounded to whole pages, whatever the tolerance.
    scan : int, default 17
        Nodes that are computed first, 2 or more.
    multiple : quantity, optional
        Round nodes to a multiple of this; both ends must be one.
    engine : {"expected", "bitmap"}, optional
        RAM as expected values or as a page-exact bitmap.
    replicates : int, optional
        Bitmap engine: repetitions with their own random draws, 20 by default. Each has flips of its own.
    seed : int, default 0
        Root seed of the draws.
    confidence : float, default 0.95
        Bitmap engine: of both intervals.
    threads : int, optional
        Threads to compute on; by default all that Numba has.
    progress : bool, default False
        Count the migrations while they are computed.

    Returns
    -------
    xarray.Dataset
        One dimension for each of `over`, ``policy`` if there are several, and ``flip``: the flips of a point from the
        lowest on, as many as any point has and at least one; ``NaN`` where a point has fewer.

        ``critical``, in SI units
            Expected engine: the middle between the nodes on either side of the flip, geometric where the lattice
            is. Bitmap engine: the median of that over the replicates that have the flip.
        ``below``, ``above``
            The nodes themselves: with the same draws, the outcome at one is not that at the other.
        ``outcome_below``, ``outcome_above``
            Codes (:class:`migkit.results.Outcome`) at these nodes, -1 where there is no flip.
        ``flips``
            How many there are; with the bitmap engine, those that at least half of the replicates have.
        ``converges_at_low``, ``converges_at_high``
            Whether the migration completes at the two ends of the axis.

        With the bitmap engine ``below``, ``above``, the outcomes and ``converges_at_...`` have a ``replicate``
        dimension, and there are beside them:

        ``sample``
            The critical value of each replicate.
        ``share``
            Share of the replicates that have the flip. Replicates may disagree on how many there are. Flips are
            matched by direction and nearness to those of the most common pattern; those without a match are listed
            too, with a low share.
        ``replicate_flips``
            How many flips each replicate has.
        ``single_low``, ``single_high``
            Where single migrations flip: the sample's quantiles ``(1 - confidence) / 2`` and ``(1 + confidence) / 2``.
            More replicates make it steadier, not narrower.
        ``median_low``, ``median_high``
            Confidence interval of ``critical``, between two order statistics
            (:func:`migkit.analysis.intervals.order_statistics`). More replicates make it narrower; ``NaN`` for
            fewer than 6 of them (at 95 %).

        Attributes: how it was made, ``axis``, ``between``, ``outcome``, ``tolerance``, ``nodes`` of the lattice,
        ``migrations`` that were computed and ``migrations_of_a_grid``: what a sweep over all nodes would have taken.

    Raises
    ------
    ScenarioError
        If the axis is unknown, holds words, or is also in `over`; if the range has the wrong unit or is reversed; if
        the lattice has more than 100,000 nodes; if another argument or a combination of values is refused. Nothing
        is computed then.

    Notes
    -----
    Every flip that is returned is one of the lattice. What can be missed is a pair of flips between two neighbouring
    nodes of the scan: raise `scan` to look for bands narrower than ``1 / (scan - 1)`` of the axis. Where a
    neighbouring point of the other axes has a band, that band is followed into points whose scan did not see it, as
    long as it overlaps from point to point. An odd number of flips, three or more, between two nodes of the scan shows
    as one of them: so does a ragged edge, at which single migrations complete and fail in turn within a few nodes.

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario, frontier
    >>> scenario = Scenario(
    ...     guest=Guest(ram="1 GiB", regions=[Region(size="512 MiB", write_rate="1 GB/s")]),
    ...     link=Link(bandwidth="10 Gbit/s"),
    ...     migration={"max_bandwidth": 0},
    ... )
    >>> ds = frontier(scenario, "guest.regions.0.write_rate", ["10 MB/s", "20 GB/s"],
    ...               over={"link.bandwidth": ["5 Gbit/s", "10 Gbit/s"]})
    >>> ds["critical"].dims, ds["flips"].values.tolist()
    (('bandwidth', 'flip'), [1, 1])
    >>> bool((ds["above"] / ds["below"] < 1.0011).all())
    True
    """
    axes, scenario = _other_axes(scenario, axis, over, policy)
    if engine == "expected" and replicates is not None:
        raise ScenarioError("draws nothing, so there is nothing to repeat: leave replicates out", "engine", engine)
    if engine == "bitmap":
        replicates = check_whole_number("replicates", REPLICATES if replicates is None else replicates, least=1)
    scan = check_whole_number("scan", scan, least=2)
    labels = {one.label: one for one in Outcome}
    if outcome not in labels:
        raise ScenarioError(f"is not an outcome: {did_you_mean(outcome, labels)}", "outcome", outcome)
    _check_between_0_and("tolerance", tolerance, 0.5)
    _check_between_0_and("confidence", confidence, 1.0)
    threads = checked_threads(threads)

    def laid_out(values: Sequence[Any]) -> Layout:
        every = {**axes, axis: values}
        return Layout(Sweep(scenario=scenario, axes=every, engine=engine, seed=seed, replicates=replicates))

    ends = laid_out(_two(between))
    if taken := _OWN & set(ends.dims):
        raise ScenarioError("cannot be the name of a dimension: choose another word", min(taken))
    _, coordinate, notes = ends.coordinates()[_coordinate(ends, axis)]
    page = scenario.guest.page_size if axis.startswith("guest.") else 1
    lattice = spaced(axis, coordinate, notes.get("units", ""), tolerance, multiple, page)
    layout = laid_out(lattice.values)
    flips, at_ends, computed = _computed(layout, axis, labels[outcome], scan, threads, progress)

    dim = _coordinate(layout, axis)
    nodes = layout.coordinates()[dim][1]
    dataset = _labelled(layout, dim, flips, at_ends, nodes, lattice.geometric, confidence)
    low, high = (str(value) for value in between)
    dataset.attrs = results.provenance(engine, layout.sweep.seed, scenario.to_toml()) | {
        "axis": axis, "between": f"{low} to {high}", "outcome": outcome, "tolerance": float(tolerance), "scan": scan,
        "nodes": len(nodes), "migrations": computed, "migrations_of_a_grid": layout.migrations,
    }  # fmt: skip
    if engine == "bitmap":
        dataset.attrs["confidence"] = float(confidence)
    return dataset


# --- what is asked -------------------------------------------------------------------------------


def _other_axes(
    scenario: Scenario, axis: str, over: Mapping[str, Any] | None, policy: str | Sequence[str] | None
) -> tuple[dict[str, Any], Scenario]:
    """The axes beside the one that is bisected, and the scenario with the policy if there is only one."""
    if not isinstance(scenario, Scenario):
        raise ScenarioError("is not a Scenario", "scenario")
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


def _coordinate(layout: Layout, axis: str) -> str:
    return next(name for name, path in layout.paths().items() if path == axis)


# --- what is computed ----------------------------------------------------------------------------


def _computed(
    layout: Layout, axis: str, wanted: Outcome, scan: int, threads: int, progress: bool
) -> tuple[Flips, np.ndarray, int]:
    """The flips of all cases: of all points, and of all replicates of each."""
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
    size = BLOCK_ROWS[layout.sweep.engine]

    def blocks(cases: np.ndarray, nodes: np.ndarray) -> Iterator[tuple[np.ndarray, Outputs]]:
        for start in range(0, len(cases), size):
            rows = slice(start, start + size)
            where = np.unravel_index(cases[rows], shape or (1,))[: len(shape)]
            places = np.array([*where[:place], nodes[rows], *where[place:]])
            yield places, layout.empty(places.shape[1])

    def outcomes(cases: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        found = []
        with contextlib.closing(on_threads(layout, blocks(cases, nodes), threads)) as computed:
            for block in computed:
                found.append(block.outcome.astype(np.int8))
                advance(len(block.outcome))
        return np.concatenate(found)

    with progress_bar(progress, "frontier") as advance:
        return bisected(shape, layout.shape[place], scan, along, int(wanted), outcomes)


# --- what is returned ----------------------------------------------------------------------------


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

    unit = coordinates[axis_dim][2]["units"]
    low, high = nodes[flips.below], nodes[flips.below + 1]
    middle = np.sqrt(low * high.astype(float)) if geometric else (low + high) / 2

    def filled(values: np.ndarray, absent: float) -> np.ndarray:
        table = np.full((len(ends), most), absent, float if math.isnan(absent) else np.int8)
        table[flips.case, slots] = values
        return table.reshape((*shape, *repeats, most))

    def quantity(values: np.ndarray, words: str, *inner: str) -> tuple[Any, ...]:
        return (*dims, *inner, "flip"), values, {"units": unit, "long_name": words}

    what = layout.paths()[axis_dim]
    codes = {"flag_values": [_NO_FLIP, *(int(one) for one in Outcome)],
             "flag_meanings": " ".join(["no_flip", *(one.label for one in Outcome)]), "units": "1"}  # fmt: skip
    sample, per_case = filled(middle, np.nan), (*dims, *repeated)
    counts = np.bincount(flips.case, minlength=len(ends)).reshape((*shape, *repeats))
    variables: dict[str, Any] = {
        "critical": quantity(sample, f"critical {what}"),
        "below": quantity(filled(low, np.nan), "last value below the flip", *repeated),
        "above": quantity(filled(high, np.nan), "first value above the flip", *repeated),
        "outcome_below": ((*per_case, "flip"), filled(flips.outcome_below, _NO_FLIP),
                          {"long_name": "outcome below the flip"} | codes),
        "outcome_above": ((*per_case, "flip"), filled(flips.outcome_above, _NO_FLIP),
                          {"long_name": "outcome above the flip"} | codes),
        "flips": (dims, counts, {"units": "1", "long_name": "flips that were found"}),
    }  # fmt: skip
    for number, end in enumerate(("low", "high")):
        completes = (ends[:, number] == Outcome.COMPLETED).reshape((*shape, *repeats))
        variables[f"converges_at_{end}"] = (per_case, completes, {"long_name": f"completes at the {end} end"})
    if replicates is not None:
        along = np.moveaxis(sample, -2, -1)
        share = np.isfinite(along).mean(axis=-1)
        median, median_low, median_high = sample_quantile(along, 0.5, confidence)
        single_low, single_high = (sample_quantile(along, (1 + sign * confidence) / 2)[0] for sign in (-1, 1))
        percent = f"{100 * confidence:g} %"
        variables |= {
            "critical": quantity(median, f"critical {what}: median of the replicates that have this flip"),
            "median_low": quantity(median_low, f"lower bound of the median, {percent} confidence"),
            "median_high": quantity(median_high, f"upper bound of the median, {percent} confidence"),
            "single_low": quantity(single_low, f"single migrations: lower end of the middle {percent}"),
            "single_high": quantity(single_high, f"single migrations: upper end of the middle {percent}"),
            "sample": quantity(sample, f"critical {what} of each replicate", REPLICATE),
            "share": ((*dims, "flip"), share, {"units": "1", "long_name": "share of the replicates with this flip"}),
            "flips": (dims, (share >= 0.5).sum(axis=-1),
                      {"units": "1", "long_name": "flips that at least half of the replicates have"}),
            "replicate_flips": (per_case, counts, {"units": "1", "long_name": "flips of each replicate"}),
        }  # fmt: skip
        names.append(REPLICATE)
    flip = ("flip", np.arange(most), {"units": "1", "long_name": "number of the flip, from the low end"})
    return xr.Dataset(variables, {name: coordinates[name] for name in names} | {"flip": flip})
