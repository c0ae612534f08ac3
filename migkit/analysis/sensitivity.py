"""Sensitivity: Sobol indices of convergence, total time and downtime to the fields of a scenario."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit import results
from migkit.kernels.state import ENGINES
from migkit.provenance import provenance
from migkit.results import Outcome
from migkit.run.design import Sweep
from migkit.run.kept import Kept, kept_in
from migkit.run.limits import LIMIT, effort, within
from migkit.run.simulate import check_whole_number
from migkit.run.values import MOST_FIELDS, MOST_POINTS, Range
from migkit.scenario.errors import ScenarioError, did_you_mean
from migkit.scenario.fields import check_keys
from migkit.scenario.policy import own_functions
from migkit.scenario.rows import records
from migkit.scenario.scenario import Scenario, as_scenario

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CONVERGENCE", "OUTPUTS", "sensitivity"]

CONVERGENCE = "convergence"
OUTPUTS = (CONVERGENCE, "total_time_s", "downtime_s")
BATCH_ROWS = {"expected": 4096, "bitmap": 512}
"""Scenarios in memory at once, by engine, and migrations of a batch that is kept."""
_KEPT = np.dtype([("outcome", np.int8), ("total_time_s", np.float64), ("downtime_s", np.float64)])
"""What is kept of a migration."""
RESAMPLES = 200
"""Bootstrap samples of the intervals."""


def sensitivity(
    scenario: Scenario,
    ranges: Mapping[str, Any],
    outputs: Sequence[str] = OUTPUTS,
    points: int = 1024,
    seed: int = 0,
    engine: str = "expected",
    *,
    confidence: float = 0.95,
    progress: bool = False,
    store: str | Path | None = None,
    limit: str = LIMIT,
) -> xr.Dataset:
    """Compute the share of the variance of each output that each field explains: first-order and total Sobol indices.

    Parameters
    ----------
    scenario : Scenario
        What all migrations share.
    ranges : mapping of str to Range
        Two or more fields by dotted path, each with the two ends of its range, as
        :class:`migkit.run.values.Range` takes them: ``{"geomspace": ["1 Gbit/s", "100 Gbit/s"]}`` is uniform in the
        logarithm. Counts (two whole numbers) are rounded, so that the two ends have half the weight of the others.
    outputs : sequence of str, default convergence, total time and downtime
        ``"convergence"`` is 1 for a migration that completes and 0 for any other; ``"total_time_s"`` and
        ``"downtime_s"`` are the variables of a sweep.
    points : int, default 1024
        Base points, a power of two; `points` times (fields + 2) migrations are computed. Half of them give intervals
        about 1.4 times as wide.
    seed : int, default 0
        Of the design and of the intervals; root seed of the draws of the bitmap engine.
    engine : {"expected", "bitmap"}, optional
        RAM as expected values or as a page-exact bitmap, one migration a point.
    confidence : float, default 0.95
        Confidence of the intervals.
    progress : bool, default False
        Count the migrations while they are computed.
    store : str or path, optional
        Folder that keeps outcomes and times while they are computed: the same call goes
        on from there.
    limit : duration, default "20 s"
        Computing that one migration may take (:func:`migkit.run.limits.effort`).

    Returns
    -------
    xarray.Dataset
        Dimensions ``output`` and ``parameter`` (dotted paths). ``first``: share of the variance that the field explains
        alone; ``total``: with all its interactions. ``first_conf``, ``total_conf``: half the width of their intervals.
        ``mean`` and ``variance`` of each output over the design. Where an output is the same at all points there is no
        variance to share, and indices are ``NaN``. Attributes: how it was made, ``migrations``, and ``completed``, the
        share of them that completed.

    Raises
    ------
    ScenarioError
        If a field, a range or another argument is refused; a combination of values that makes no scenario is refused
        when the design reaches it, before its batch is computed. Also if SALib is not installed.

    Notes
    -----
    Sampling: I. M. Sobol's sequence, scrambled, in A. Saltelli's arrangement (SALib's ``sample.sobol`` without second
    order). Estimators and bootstrap intervals: A. Saltelli et al., Computer Physics Communications 181 (2010), 259-270,
    as in SALib's ``analyze.sobol``. Estimates may be a little below 0 or above 1.

    The indices need a number for a migration that never completes. Its total time is the time limit of the scenario:
    the longer the limit, the more total time resembles convergence. Its downtime is the mean downtime of the migrations
    that completed, which adds no variance. A field that decides whether migrations complete therefore affects downtime
    only through the selection of those that do.

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario, sensitivity
    >>> scenario = Scenario(
    ...     guest=Guest(ram="1 GiB", regions=[Region(size="512 MiB", write_rate="1 GB/s")]),
    ...     link=Link(bandwidth="10 Gbit/s"),
    ...     migration={"max_bandwidth": 0},
    ... )
    >>> ds = sensitivity(scenario, {
    ...     "link.bandwidth": {"geomspace": ["1 Gbit/s", "20 Gbit/s"]},
    ...     "link.rtt": {"linspace": ["0.1 ms", "0.2 ms"]},
    ... }, points=64)
    >>> bool(ds["total"].sel(output="total_time_s")[0] > ds["total"].sel(output="total_time_s")[1])
    True
    """
    scenario = as_scenario(scenario)
    rules = _ranges(scenario, ranges)
    outputs = _outputs(outputs)
    points = check_whole_number("points", points, least=2)
    if points & (points - 1) or points * (len(rules) + 2) > MOST_POINTS:
        most = 1 << ((MOST_POINTS // (len(rules) + 2)).bit_length() - 1)
        raise ScenarioError(f"must be a power of two from 2 to {most}", "points", points)
    seed = check_whole_number("seed", seed)
    if engine not in ENGINES:
        raise ScenarioError(f"is not an engine: {did_you_mean(engine, ENGINES)}", "engine", engine)
    fits = isinstance(confidence, int | float) and not isinstance(confidence, bool) and 0 < confidence < 1
    if not fits:
        raise ScenarioError("must be a number above 0 and below 1", "confidence", confidence)
    sobol, sampler = _salib()
    problem = {"num_vars": len(rules), "names": list(rules), "bounds": [[0.0, 1.0]] * len(rules)}
    shares = sampler.sample(problem, points, calc_second_order=False, seed=np.random.default_rng(seed))
    values = [rule.values(shares[:, number]) for number, rule in enumerate(rules.values())]
    question = {
        "sensitivity": Sweep(scenario=scenario, replicates=1, engine=engine, seed=seed).sha256,
        "ranges": {path: rule.model_dump(mode="json") for path, rule in rules.items()},
        "design": hashlib.sha256(shares.tobytes()).hexdigest(),
    }
    with kept_in(store, question, _KEPT) as kept:
        table = _computed(_scenarios(scenario, list(rules), values), len(shares), engine, seed, progress, limit, kept)

    completed = table["outcome"] == Outcome.COMPLETED
    measured = {name: _measured(name, table, completed, scenario.time_limit) for name in outputs}
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("first", "first_conf", "total", "total_conf")}
    for column in measured.values():
        if np.ptp(column) == 0:
            indices = dict.fromkeys(("S1", "S1_conf", "ST", "ST_conf"), np.full(len(rules), np.nan))
        else:
            # SALib takes 0 for "no seed"
            indices = sobol.analyze(problem, column, False, RESAMPLES, confidence, seed=seed + 1)
        for name, key in zip(found, ("S1", "S1_conf", "ST", "ST_conf"), strict=True):
            found[name].append(np.asarray(indices[key], float))
    dataset = _labelled(found, measured, list(rules))
    dataset.attrs = provenance(engine, seed, scenario.to_toml()) | {
        "costs": scenario.costs.label,
        "ranges": "; ".join(f"{path}: {rule.ends[0]} to {rule.ends[1]}" for path, rule in rules.items()),
        "points": points, "migrations": len(shares), "completed": float(completed.mean()),
        "confidence": float(confidence),
    }  # fmt: skip
    return results.validated(dataset, "sensitivity")


# --- arguments -----------------------------------------------------------------------------------


def _salib() -> tuple[Any, Any]:
    try:
        from SALib.analyze import sobol
        from SALib.sample import sobol as sampler
    except ImportError:
        raise ScenarioError('needs SALib: pip install "migkit[sensitivity]"', "sensitivity") from None
    return sobol, sampler


def _ranges(scenario: Scenario, ranges: Any) -> dict[str, Range]:
    """The rules by path; both ends of each are checked."""
    if not isinstance(ranges, Mapping) or len(ranges) < 2:
        raise ScenarioError('must be a mapping of two or more fields, such as {"link.bandwidth": {"geomspace": '
                            '["1 Gbit/s", "100 Gbit/s"]}, ...}', "ranges")  # fmt: skip
    if len(ranges) > MOST_FIELDS:
        raise ScenarioError(f"has {len(ranges)} fields: at most {MOST_FIELDS} are allowed", "ranges")
    rules: dict[str, Range] = {}
    for path, given in ranges.items():
        if not isinstance(path, str) or not path:
            raise ScenarioError('is not a path to a field, such as "link.bandwidth"', "ranges", path)
        if not isinstance(given, Range | Mapping):
            raise ScenarioError('is no range: write {"linspace": [least, largest]} or {"geomspace": ...}', path, given)
        try:
            check_keys(given)
            rules[path] = given if isinstance(given, Range) else Range(**given)
            ends = rules[path].values(np.array([0.0, 1.0]))
        except ScenarioError as error:
            raise error.within(path) from None
        for end in ends:
            # values may be valid only together: a large region in a large guest
            try:
                scenario.replace(path, end)
            except ScenarioError as error:
                if error.field == path or "is not a field" in str(error):
                    raise
    return rules


def _outputs(outputs: Any) -> list[str]:
    names = [outputs] if isinstance(outputs, str) else outputs
    if not isinstance(names, Iterable) or isinstance(names, bytes | Mapping):
        raise ScenarioError(f"is not a list of outputs: {did_you_mean(names, OUTPUTS)}", "outputs", outputs)
    found: list[str] = []
    for name in names:
        if not isinstance(name, str) or name not in OUTPUTS:
            raise ScenarioError(f"is not an output: {did_you_mean(name, OUTPUTS)}", "outputs", name)
        if name in found:
            raise ScenarioError("must name each output once, at least one", "outputs", outputs)
        found.append(name)
    if not found:
        raise ScenarioError("must name each output once, at least one", "outputs", outputs)
    return found


# --- computation ---------------------------------------------------------------------------------


def _scenarios(scenario: Scenario, paths: list[str], values: list[tuple[Any, ...]]) -> Iterator[Scenario]:
    """The scenarios of the design.

    Saltelli's arrangement is, for each base point, A, then A with one column of B at a time, then B: in between only
    one field differs from A.
    """
    rows = len(paths) + 2
    for start in range(0, len(values[0]), rows):
        first = scenario.replace_all({path: column[start] for path, column in zip(paths, values, strict=True)})
        yield first
        for number, path in enumerate(paths):
            yield first.replace(path, values[number][start + 1 + number])
        last = start + rows - 1
        yield scenario.replace_all({path: column[last] for path, column in zip(paths, values, strict=True)})


def _computed(
    scenarios: Iterator[Scenario], total: int, engine: str, seed: int, progress: bool, limit: str, kept: Kept
) -> np.ndarray:
    """Outcome and times of all scenarios."""
    import itertools

    from migkit.kernels import drivers
    from migkit.run.progress import announce_compilation, progress_bar

    announce_compilation()
    most = effort(limit)
    every = np.arange(total)
    with progress_bar(progress, "sensitivity", total) as advance:
        for start in range(0, total, BATCH_ROWS[engine]):
            rows = every[start : start + BATCH_ROWS[engine]]
            batch = list(itertools.islice(scenarios, len(rows)))
            if not kept.has(rows).all():
                with within(most):
                    reports = drivers.run(records(batch), engine, seed, own=own_functions(batch[0]), limit=most)
                table = results.values(reports)
                found = np.zeros(len(rows), _KEPT)
                for name in _KEPT.names or ():
                    found[name] = table[name]
                kept.keep(rows, found)
            advance(len(rows))
    return kept.of(every)


def _measured(name: str, table: np.ndarray, completed: np.ndarray, time_limit_s: float) -> np.ndarray:
    """One number a migration, those that never completed among them."""
    if name == CONVERGENCE:
        return completed.astype(float)
    if name == "total_time_s":
        return np.where(completed, table[name], time_limit_s)
    mean = table[name][completed].mean() if completed.any() else 0.0
    return np.where(completed, table[name], mean)


# --- the Dataset ---------------------------------------------------------------------------------


def _labelled(found: dict[str, list[np.ndarray]], measured: dict[str, np.ndarray], paths: list[str]) -> xr.Dataset:
    import xarray as xr

    variables: dict[str, Any] = {name: (("output", "parameter"), np.array(each)) for name, each in found.items()}
    variables["mean"] = "output", np.array([column.mean() for column in measured.values()])
    variables["variance"] = "output", np.array([column.var() for column in measured.values()])
    coords = {
        "output": ("output", np.array(list(measured), dtype=object), {"long_name": "result variable"}),
        "parameter": ("parameter", np.array(paths, dtype=object), {"long_name": "field of the scenario"}),
    }
    return xr.Dataset(variables, coords)
