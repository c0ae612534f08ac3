"""Rules of the repository: style, imports, types, examples in docstrings, and what must agree with what."""

import dataclasses
import doctest
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import migkit

ROOT = Path(__file__).parent.parent
TOOLS = Path(sys.executable).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages(migkit.__path__, "migkit."))
MOST_LINES = 760


def run(*command):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def project_table():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_style():
    run(TOOLS / "ruff", "check", "--no-cache", ".")


def test_imports():
    """Rooms import from rooms below, the kernels import NumPy and Numba only, and there is no cycle."""
    run(TOOLS / "lint-imports", "--no-cache")


def test_types():
    run(TOOLS / "mypy")


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.short
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_no_module_is_too_long():
    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / "migkit").rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert too_long == {}


def test_the_page_of_the_state_is_current():
    spec = importlib.util.spec_from_file_location("generate_state", ROOT / "docs" / "generate_state.py")
    generate_state = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate_state)
    written = generate_state.PAGE.read_text(encoding="utf-8")
    assert written == generate_state.page(), "run: python docs/generate_state.py"


def test_the_page_of_the_profiles_has_every_rule_and_profile():
    from migkit.scenario.versions import PROFILES, Profile

    text = (ROOT / "docs" / "profiles.md").read_text(encoding="utf-8")
    assert "| " + " | ".join(PROFILES) + " |" in text
    rules = [field.name for field in dataclasses.fields(Profile) if field.name != "name"]
    assert [rule for rule in rules if f"`{rule}` |" not in text] == []


def test_no_two_test_files_have_one_name():
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_conda_environment_has_the_lower_bounds_of_the_project():
    project = project_table()
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    lines = text.split("dependencies:\n")[1].split("  - pip:")[0].splitlines()
    listed = [line.removeprefix("  - ") for line in lines]
    assert listed == [f"python{project['requires-python']}", "pip", *project["dependencies"]]


def test_every_dependency_has_a_lower_bound():
    """And nothing but that: make test-oldest installs it."""
    project = project_table()
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    named = [each for group in groups for each in group if not each.startswith("migkit[")]
    assert [each for each in named if not re.fullmatch(r"[\w.-]+(\[\w+\])?>=[\d.]+", each)] == []


def test_the_versions_of_python_agree():
    """Those that the classifiers name are those that the Makefile tests, from the lowest that is allowed."""
    project = project_table()
    prefix = "Programming Language :: Python :: 3."
    named = ["3." + each.removeprefix(prefix) for each in project["classifiers"] if each.startswith(prefix)]
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"PYTHONS ?= {' '.join(named)}\n" in text
    assert f"OLDEST_PYTHON ?= python{named[0]}\n" in text
    assert project["requires-python"] == f">={named[0]}"


def test_citation_has_the_version():
    assert f"version: {migkit.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_sweep_of_the_readme_can_be_read():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (snippet,) = [part.split("```")[0] for part in text.split("```toml\n")[1:]]
    assert len(migkit.Sweep.from_toml(snippet).axes["link.bandwidth"]) == 200


def test_the_example_of_the_readme_runs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    snippets = [part.split("```")[0] for part in text.split("```python\n")[1:]]
    assert snippets
    names = {}
    for snippet in snippets:
        exec(compile(snippet, "README.md", "exec"), names)
    starved, completed = capsys.readouterr().out.splitlines()
    assert "never sent" in starved
    assert completed.startswith("Completed in ")
    assert (tmp_path / "map.pdf").read_bytes().startswith(b"%PDF")
    called = re.findall(r"`(?:part = )?(migkit\.(?:sel|plot\.(?:latex|heatmap))\([^`]+\))`", " ".join(text.split()))
    assert len(called) == 5
    exec(re.search(r"`(part = [^`]+)`", text).group(1), names)
    for each in called:
        assert eval(each, names), each
    plt.close("all")


def test_the_module_of_measured_runs_needs_no_import_of_its_own():
    run(sys.executable, "-c", "import migkit; migkit.qemu.runs")
