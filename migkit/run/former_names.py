"""Stores of earlier times: the names they use and those of today, and what they did not hold."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.kernels.state import COMPLETED
from migkit.scenario.parts import HostCosts

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FORMER_VARIABLES", "renamed_dataset", "renamed_toml", "with_verdicts", "without_postcopy"]

FORMER_VARIABLES = {"turns": "iterations"}
_COSTS = {old: new for old, new in {"turn": "iteration"}.items() if new in HostCosts.model_fields}
_PATHS = {f"costs.{old}": f"costs.{new}" for old, new in _COSTS.items()}


def renamed_toml(text: str) -> str:
    """The TOML of a scenario or a sweep with today's names of its fields."""
    import tomli_w

    table = tomllib.loads(text)
    scenario = table.get("scenario", table)
    if "costs" in scenario:
        scenario["costs"] = {_COSTS.get(name, name): value for name, value in scenario["costs"].items()}
    if "axes" in table:
        table["axes"] = _renamed_paths(table["axes"])
    if "design" in table:
        table["design"]["ranges"] = _renamed_paths(table["design"]["ranges"])
    return tomli_w.dumps(table)


def _renamed_paths(table: Mapping[str, Any]) -> dict[str, Any]:
    """Axes by path; an axis may be a table of paths that move together, or of a rule for values."""
    return {
        _PATHS.get(path, path): _renamed_paths(values) if isinstance(values, Mapping) else values
        for path, values in table.items()
    }


def renamed_dataset(dataset: xr.Dataset) -> xr.Dataset:
    """The Dataset of such a store with today's names of variables, coordinates and fields."""
    coordinates = {name: _COSTS[str(name)] for name in dataset.coords if name in _COSTS}
    dataset = dataset.rename(coordinates | {old: new for old, new in FORMER_VARIABLES.items() if old in dataset})
    for array in dataset.coords.values():
        if array.attrs.get("long_name") in _PATHS:
            array.attrs["long_name"] = _PATHS[array.attrs["long_name"]]
    texts = {name: renamed_toml(dataset.attrs[name]) for name in ("description", "sweep") if name in dataset.attrs}
    return dataset.assign_attrs(texts)


def with_verdicts(dataset: xr.Dataset) -> xr.Dataset:
    """The Dataset of a store in which ``total_time_s`` is the time of every verdict, with today's three variables.

    ``verdict_time_s`` is that time, ``total_time_s`` the same where the migration completed, ``completed`` where that
    is. Like the others they are read when they are used.
    """
    outcome, times = dataset.variables["outcome"], dataset.variables["total_time_s"]
    dims = outcome.dims

    def completed(key: tuple[Any, ...]) -> np.ndarray:
        return outcome[key].to_numpy() == COMPLETED

    def total(key: tuple[Any, ...]) -> np.ndarray:
        return np.where(completed(key), times[key].to_numpy(), np.nan)

    return dataset.assign(
        verdict_time_s=(dims, times),
        total_time_s=(dims, _derived(outcome.shape, np.dtype(np.float64), total)),
        completed=(dims, _derived(outcome.shape, np.dtype(np.bool_), completed)),
    )


def without_postcopy(dataset: xr.Dataset) -> xr.Dataset:
    """The Dataset of a store from before post-copy was computed, with the variables that tell that it never started."""
    if "postcopy_time_s" in dataset:
        return dataset
    outcome = dataset.variables["outcome"]

    def all_of(value: float, dtype: str) -> Any:
        shape = outcome.shape
        return _derived(shape, np.dtype(dtype), lambda key: np.full(outcome[key].shape, value, dtype))

    return dataset.assign(
        postcopy_time_s=(outcome.dims, all_of(np.nan, "float64")),
        postcopy_bytes=(outcome.dims, all_of(0, "int64")),
        postcopy_faults=(outcome.dims, all_of(0, "int64")),
    )


def _derived(shape: tuple[int, ...], dtype: np.dtype, values: Callable[[tuple[Any, ...]], np.ndarray]) -> Any:
    """An array that xarray computes from others when it is read, as it reads one from a file.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    values : callable
        The values for a key with a whole number, a slice or an array of places for each dimension.
    """
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class Derived(BackendArray):
        def __init__(self) -> None:
            self.shape, self.dtype = shape, dtype

        def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
            return indexing.explicit_indexing_adapter(key, shape, indexing.IndexingSupport.OUTER, values)

    return indexing.LazilyIndexedArray(Derived())
