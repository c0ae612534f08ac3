"""Stores written before stores carried a model version: the names they use and those of today."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from migkit.scenario.parts import HostCosts

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FORMER_VARIABLES", "renamed_dataset", "renamed_toml"]

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
