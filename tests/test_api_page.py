"""The page of the API lists every public name, and nothing that is not there."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import migkit
import migkit.analysis
import migkit.figures
import migkit.study

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
LISTED = set(re.findall(r"^   ([\w.]+)$", PAGE, re.MULTILINE))


def found(path):
    """The object of a dotted path below migkit."""
    parts = ["migkit", *path.split(".")]
    for number in range(len(parts), 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:number]))
        except ModuleNotFoundError:
            continue
        for name in parts[number:]:
            value = getattr(value, name)
        return value
    raise AttributeError(path)


MODULES = ["migkit.results"] + [
    module.name
    for room in (migkit.analysis, migkit.figures, migkit.study)
    for module in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")
]
OBJECTS = [found(path) for path in LISTED]


def test_every_name_of_the_package_is_listed():
    assert set(migkit.__all__) - {"__version__"} <= LISTED


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_of_these_rooms_is_listed(name):
    module = importlib.import_module(name)
    own = [value for key, value in vars(module).items() if not key.startswith("_") and inspect.isfunction(value)]
    missing = [value.__name__ for value in own if value.__module__ == name and value not in OBJECTS]
    public = getattr(module, "__all__", [value.__name__ for value in own])
    assert not set(missing) & set(public)
