"""The rules of the house, run with the tests: style, imports, examples."""

import doctest
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import migkit

ROOT = Path(__file__).parent.parent
TOOLS = Path(sys.executable).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages(migkit.__path__, "migkit."))


def run(*command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_style():
    run(TOOLS / "ruff", "check", "--no-cache", ".")


def test_imports_go_down_only():
    run(TOOLS / "lint-imports", "--no-cache")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_no_file_of_the_package_is_long():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "migkit").rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 600
    }
    assert long == {}


def test_no_two_test_files_have_one_name():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_conda_environment_lists_the_same():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = [line.strip()[2:] for line in (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()]
    assert set(project["dependencies"]) <= set(listed)
    assert f"python{project['requires-python']}" in listed


def test_citation_has_the_version():
    assert f"version: {migkit.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_description_in_the_readme_is_one():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = [block.split("```")[0] for block in text.split("```toml\n")[1:]]
    assert len(migkit.Sweep.from_toml(block).axes["link.bandwidth"]) == 200


def test_the_example_of_the_readme_runs(capsys):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [block.split("```")[0] for block in text.split("```python\n")[1:]]
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    starved, completed = capsys.readouterr().out.splitlines()
    assert "never sent" in starved
    assert completed.startswith("Completed in ")
