"""Simulates QEMU's pre-copy live migration: whether it converges, and what would change that.

Names are imported on first use, so that ``import migkit`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Scenario": "scenario.scenario",
    "Guest": "scenario.parts",
    "Region": "scenario.parts",
    "Ram": "scenario.parts",
    "Vfio": "scenario.parts",
    "Block": "scenario.parts",
    "Link": "scenario.parts",
    "Migration": "scenario.parts",
    "Change": "scenario.changes",
    "HostCosts": "scenario.parts",
    "Policy": "scenario.policy",
    "policy": "scenario.policy",
    "fields": "scenario.catalogue",
    "ScenarioError": "scenario.errors",
    "Unfinished": "scenario.errors",
    "explore": "explorer",
    "SimulatedMigration": "run.simulate",
    "simulate": "run.simulate",
    "sweep": "run.many",
    "Sweep": "run.design",
    "Design": "run.values",
    "open_sweep": "run.store",
    "sel": "run.selection",
    "export": "run.export",
    "to_frame": "results",
    "words": "results",
    "frontier": "analysis.frontier",
    "sensitivity": "analysis.sensitivity",
    "predict_running": "analysis.forecast",
    "remedy": "analysis.remedy",
    "fleet": "analysis.fleet",
    "how_many": "analysis.fleet",
    "advise": "analysis.advise",
}
_MODULES = {
    "management": "scenario.management",
    "plot": "figures.plot",
    "qemu": "qemu",
    "units": "scenario.units",
    "textbook": "analysis.textbook",
    "uncertainty": "analysis.uncertainty",
}

__all__ = [
    "Block",
    "Change",
    "Design",
    "Guest",
    "HostCosts",
    "Link",
    "Migration",
    "Policy",
    "Ram",
    "Region",
    "Scenario",
    "ScenarioError",
    "SimulatedMigration",
    "Sweep",
    "Unfinished",
    "Vfio",
    "__version__",
    "advise",
    "explore",
    "export",
    "fields",
    "fleet",
    "frontier",
    "how_many",
    "management",
    "open_sweep",
    "plot",
    "policy",
    "predict_running",
    "qemu",
    "remedy",
    "sel",
    "sensitivity",
    "simulate",
    "sweep",
    "textbook",
    "to_frame",
    "uncertainty",
    "units",
    "words",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"migkit.{_MODULES[name]}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"migkit.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'migkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
