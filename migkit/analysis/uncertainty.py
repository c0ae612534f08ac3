"""The uncertainty of sweeps with replicates: convergence, times and differences over the replicates.

The replicates of a point are independent repetitions of one migration: the number that completes is binomial, and the
times of those that complete are a sample. No distribution of the sample is assumed, but for the t interval of
:func:`paired`.

All functions take a Dataset of :func:`migkit.sweep` with a ``replicate`` dimension and return one without it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.analysis.intervals import paired_interval, sample_quantile, wilson
from migkit.results import Outcome, validated
from migkit.scenario.errors import ScenarioError, did_you_mean, show

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["convergence", "paired", "quantiles"]

REPLICATE = "replicate"
TIMES = ("total_time_s", "downtime_s")


def _checked(dataset: xr.Dataset, confidence: float, names: Sequence[str] = ()) -> None:
    import xarray as xr

    if not isinstance(dataset, xr.Dataset) or "outcome" not in dataset:
        raise ScenarioError("is not a result of migkit.sweep: it must be a Dataset with outcomes", "dataset")
    if dataset.attrs.get("engine") == "expected" and not _draws(dataset):
        raise ScenarioError(
            'was made with the expected engine, which draws nothing, so there is no spread: sweep with engine="bitmap"',
            "dataset",
        )
    if REPLICATE not in dataset["outcome"].dims:
        raise ScenarioError('has no replicates: sweep with an axis "replicate": range(n)', "dataset")
    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise ScenarioError("is not a level of confidence: it must be between 0 and 1", "confidence", confidence)
    measured = [
        str(name) for name, variable in dataset.items()
        if variable.dims == dataset["outcome"].dims and name not in ("outcome", "completed", "culprit")
    ]  # fmt: skip
    for name in names:
        if name not in measured:
            raise ScenarioError(f"is not a result with one value a migration: {did_you_mean(name, measured)}", name)


def _draws(dataset: xr.Dataset) -> bool:
    """Whether the replicates of the expected engine differ: where a field of the scenario is drawn."""
    if REPLICATE not in dataset["outcome"].dims:
        return False
    for name in ("outcome", "downtime_s", "verdict_time_s" if "verdict_time_s" in dataset else "total_time_s"):
        values = dataset[name].compute()
        first = values.isel({REPLICATE: 0}, drop=True)
        if bool(((values != first) & (values.notnull() | first.notnull())).any()):
            return True
    return False


def _completed(dataset: xr.Dataset) -> xr.DataArray:
    return dataset["outcome"].compute() == Outcome.COMPLETED


def convergence(dataset: xr.Dataset, confidence: float = 0.95) -> xr.Dataset:
    """Probability that a migration completes, with Wilson's interval.

    Parameters
    ----------
    dataset : Dataset
        Of :func:`migkit.sweep`, with a ``replicate`` dimension.
    confidence : float, default 0.95
        Confidence of the interval.

    Returns
    -------
    Dataset
        ``probability`` with the bounds ``probability_low`` and ``probability_high``
        (:func:`migkit.analysis.intervals.wilson`), and the counts ``completed`` and ``replicates``.

    Raises
    ------
    ScenarioError
        If there are no replicates, or the expected engine made them.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, sweep
    >>> scenario = Scenario(guest=Guest(ram="64 MiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> ds = sweep(scenario, {"link.rtt": ["1 ms", "2 ms"], "replicate": range(8)}, "bitmap")
    >>> sure = convergence(ds)
    >>> sure["probability_low"].dims, round(float(sure["probability_low"][0]), 3)
    (('link.rtt',), 0.676)
    """
    import xarray as xr

    _checked(dataset, confidence)
    completed = _completed(dataset)
    count, size = completed.sum(REPLICATE), completed.sizes[REPLICATE]
    low, high = wilson(count.values, size, confidence)
    found = {
        "probability": count / size,
        "probability_low": count.copy(data=low),
        "probability_high": count.copy(data=high),
        "completed": count,
        "replicates": xr.full_like(count, size),
    }
    return validated(xr.Dataset(found, attrs=dataset.attrs | {"confidence": confidence, "interval": "Wilson 1927"}),
                     "convergence")  # fmt: skip


def quantiles(
    dataset: xr.Dataset,
    q: Sequence[float] = (0.05, 0.5, 0.95),
    variables: Sequence[str] = TIMES,
    confidence: float = 0.95,
) -> xr.Dataset:
    """Quantiles over the replicates that completed.

    Parameters
    ----------
    dataset : Dataset
        Of :func:`migkit.sweep`, with a ``replicate`` dimension.
    q : sequence of float, default 0.05, 0.5 and 0.95
        From 0 to 1.
    variables : sequence of str, default total time and downtime
        Results with one value a migration.
    confidence : float, default 0.95
        Confidence of the interval of each quantile.

    Returns
    -------
    Dataset
        For each variable, along ``quantile``: its quantile under its own name, and with ``_low`` and ``_high`` the two
        order statistics that enclose the true quantile with at least `confidence`
        (:func:`migkit.analysis.intervals.order_statistics`), ``NaN`` where there are too few values.
        ``completed`` counts the replicates behind them; where none completed all is ``NaN``.

    Raises
    ------
    ScenarioError
        If there are no replicates, the expected engine made them, or `q` or `variables` is refused.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, sweep
    >>> scenario = Scenario(guest=Guest(ram="64 MiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> ds = sweep(scenario, {"link.rtt": ["1 ms", "2 ms"], "replicate": range(8)}, "bitmap")
    >>> quantiles(ds)["downtime_s"].dims
    ('link.rtt', 'quantile')
    """
    import xarray as xr

    _checked(dataset, confidence, variables)
    if "quantile" in dataset.dims:
        raise ScenarioError("is the dimension of the quantiles: give the axis of the sweep another name", "quantile")
    if isinstance(q, str) or not isinstance(q, Sequence | np.ndarray) or not len(q):  # type: ignore[unreachable]
        raise ScenarioError("is not a list of quantiles, such as [0.05, 0.5, 0.95]", "q", q)
    for one in q:
        if isinstance(one, bool) or not isinstance(one, int | float | np.number) or not 0 <= one <= 1:
            raise ScenarioError("is not a quantile: it must be from 0 to 1", "q", one)
    completed = _completed(dataset)
    count = completed.sum(REPLICATE)
    found: dict[str, xr.DataArray] = {"completed": count}
    like = count.expand_dims(quantile=np.asarray(q, float), axis=-1)
    for name in variables:
        samples = dataset[name].where(completed).transpose(..., REPLICATE).values
        table = [sample_quantile(samples, float(one), confidence) for one in q]
        units = {"units": dataset[name].attrs.get("units", "1")}
        for end, parts in zip(("", "_low", "_high"), zip(*table, strict=True), strict=True):
            found[name + end] = like.copy(data=np.stack(parts, axis=-1)).assign_attrs(units)
    notes = {"confidence": confidence, "interval": "order statistics"}
    return validated(xr.Dataset(found, attrs=dataset.attrs | notes), "quantiles")


def _along(dataset: xr.Dataset, axis: str) -> list[Any]:
    """The values of an axis; numbers from 0 where axes move together and none names the dimension."""
    return dataset[axis].values.tolist() if axis in dataset.coords else list(range(dataset.sizes[axis]))


def _two_values(dataset: xr.Dataset, axis: str, values: Sequence[Any] | None) -> list[Any]:
    axes = [str(dim) for dim in dataset["outcome"].dims if dim != REPLICATE]
    if axis not in axes:
        known = did_you_mean(axis, axes) if axes else "it has none beside its replicates"
        raise ScenarioError(f"is not an axis of this sweep: {known}", str(axis))
    there = _along(dataset, axis)
    if values is None:
        if len(there) != 2:
            raise ScenarioError(f"has {len(there)} values: say which two to compare, values=(first, second)", axis)
        return there
    values = list(values) if hasattr(values, "__iter__") and not isinstance(values, str) else [values]
    if len(values) != 2 or values[0] == values[1]:
        raise ScenarioError("must be two different values to compare", "values", values)
    for value in values:
        if value not in there:
            raise ScenarioError(f"is not a value of this axis: use two of {show(there)}", axis, value)
    return values


def paired(
    dataset: xr.Dataset,
    axis: str,
    values: Sequence[Any] | None = None,
    variables: Sequence[str] = TIMES,
    confidence: float = 0.95,
) -> xr.Dataset:
    """Differences between two values of an axis, replicate by replicate: the second less the first.

    Migrations with the same replicate share their random draws, whatever the axes: a difference within a replicate is
    due to the axis, and most of the noise cancels.

    Parameters
    ----------
    dataset : Dataset
        Of :func:`migkit.sweep`, with a ``replicate`` dimension.
    axis : str
        Dimension along which to compare, such as ``"policy"``.
    values : sequence of two, optional
        Values of its coordinate; by default its only two, in their order.
    variables : sequence of str, default total time and downtime
        Results with one value a migration.
    confidence : float, default 0.95
        Confidence of all intervals.

    Returns
    -------
    Dataset
        For each variable the mean ``NAME_difference`` over the replicates in which both completed, with the bounds
        ``_low`` and ``_high`` of Student's t interval (``scipy.stats.ttest_rel``), ``NaN`` for fewer than two such
        replicates; and for the
        probability of convergence ``probability_difference`` with the bounds of Newcombe's interval for paired
        proportions (:func:`migkit.analysis.intervals.paired_interval`). ``both``, ``only_first``, ``only_second`` and
        ``neither`` count the replicates by which of the two migrations completed.

    Raises
    ------
    ScenarioError
        If there are no replicates, the expected engine made them, `axis` is none, or `values` are not two of its.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, sweep
    >>> scenario = Scenario(guest=Guest(ram="64 MiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> ds = sweep(scenario, {"policy": ["serialized", "unserialized"], "replicate": range(8)}, "bitmap")
    >>> float(paired(ds, "policy")["total_time_s_difference"])  # without devices the policies do the same
    0.0
    """
    import xarray as xr
    from scipy.stats import ttest_rel

    _checked(dataset, confidence, variables)
    values = _two_values(dataset, axis, values)
    first, second = (
        dataset[["outcome", *variables]].isel({axis: _along(dataset, axis).index(value)}, drop=True) for value in values
    )
    one, other = _completed(first), _completed(second)
    cases = {"both": one & other, "only_first": one & ~other, "only_second": ~one & other, "neither": ~one & ~other}
    counts = {name: case.sum(REPLICATE) for name, case in cases.items()}
    found = dict(counts)
    like = counts["both"]
    numbers = {name: count.values for name, count in counts.items()}
    low, high = paired_interval(**numbers, confidence=confidence)
    found["probability_difference"] = (counts["only_second"] - counts["only_first"]) / one.sizes[REPLICATE]
    found |= {"probability_difference_low": like.copy(data=low), "probability_difference_high": like.copy(data=high)}
    for name in variables:
        pairs = [each[name].where(cases["both"]).transpose(..., REPLICATE) for each in (second, first)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # fewer than two pairs: NaN
            interval = ttest_rel(*pairs, axis=-1, nan_policy="omit").confidence_interval(confidence)
        units = {"units": dataset[name].attrs.get("units", "1")}
        found[f"{name}_difference"] = (pairs[0] - pairs[1]).mean(REPLICATE).assign_attrs(units)
        for end in ("low", "high"):
            found[f"{name}_difference_{end}"] = like.copy(data=getattr(interval, end)).assign_attrs(units)
    notes = {"confidence": confidence, "interval": "Student's t; Newcombe 1998, method 10"}
    notes |= {"compared": axis, "first": values[0], "second": values[1]}
    return validated(xr.Dataset(found, attrs=dataset.attrs | notes), "paired")
