"""Simulates QEMU's pre-copy live migration: whether it converges, and what would change that.

Names are imported on first use, so that ``import migkit`` costs next to nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Scenario": "scenario",
    "Guest": "parts",
    "Region": "parts",
    "Ram": "parts",
    "Vfio": "parts",
    "Block": "parts",
    "Link": "parts",
    "Migration": "parts",
    "HostCosts": "parts",
    "ScenarioError": "errors",
    "explore": "explore",
    "simulate": "simulate",
    "sweep": "sweep",
    "frontier": "frontier",
    "sensitivity": "sensitivity",
    "Sweep": "description",
    "Design": "spacing",
    "open_sweep": "store",
    "export": "export",
    "Unfinished": "errors",
}

__all__ = [
    "Block",
    "Design",
    "Guest",
    "HostCosts",
    "Link",
    "Migration",
    "Ram",
    "Region",
    "Scenario",
    "ScenarioError",
    "Sweep",
    "Unfinished",
    "Vfio",
    "__version__",
    "explore",
    "export",
    "frontier",
    "open_sweep",
    "sensitivity",
    "simulate",
    "sweep",
    "uncertainty",
    "units",
]


def __getattr__(name: str) -> Any:
    if name in ("units", "uncertainty"):
        return importlib.import_module(f"migkit.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"migkit.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'migkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(ModuleType):
    """The package itself, in which ``simulate``, ``sweep``, ``export`` and ``explore`` stay functions.

    Importing the submodule ``migkit.simulate`` binds the module to that name in the package; the function
    of the same name is what users mean, whichever was imported first.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOMES.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
