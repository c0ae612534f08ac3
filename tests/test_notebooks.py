"""The notebooks follow their rules, run, and show what they compute."""

from __future__ import annotations

import ast
import html
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

import migkit

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
OTHERS = ("05", "07", "08", "09")  # these have measured runs, or the guests of the study or the lab
WITH_A_GUEST = [path for path in NOTEBOOKS if path.name[:2] not in OTHERS]
PARAMETERS = {"tags": ["parameters"]}
MOST_CELLS = 20
MOST_BYTES = 3_000_000
SAME = 1e-3  # relative; processors differ in the last digit of a logarithm
NUMBER = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(?![\d])")

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell):
    """Printed and displayed output of a cell, as plain text."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.text
        else:
            yield output.get("data", {}).get("text/plain", "")


def numbers(text):
    return [float(found.replace(",", "")) for found in NUMBER.findall(text)]


def test_notebooks_are_numbered_in_reading_order_and_small():
    assert [path.name[:3] for path in NOTEBOOKS] == [f"{number:02d}-" for number in range(1, len(NOTEBOOKS) + 1)]
    assert len(NOTEBOOKS) == 10
    assert sum(path.stat().st_size for path in NOTEBOOKS) < MOST_BYTES


def test_readme_lists_notebooks_with_their_questions():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in NOTEBOOKS:
        question = read(path).cells[0].source.splitlines()[0].removeprefix("# ")
        assert f"| [{path.stem}](notebooks/{path.name}) | {question} |" in readme


@each
def test_one_question_its_answer_first_its_limits_last(path):
    cells = read(path).cells
    assert len(cells) <= MOST_CELLS
    title, answer, table, *rest = cells[0].source.split("\n\n")
    assert cells[0].cell_type == cells[-1].cell_type == "markdown"
    assert re.fullmatch(r"# [^\n]+\?", title)
    assert len(answer) > 200
    assert 3 <= len(re.findall(r"[.?!](?=\s|$)", answer)) <= 5, "what, why, what to do"
    assert all(line.startswith("| ") or line.startswith("|-") for line in table.splitlines())
    assert len(rest) <= 1
    heading, _, limits = cells[-1].source.rpartition("## ")[2].partition("\n")
    assert heading == "Limits"
    assert "\n\n" not in limits
    assert "TODO" not in "".join(cell.source for cell in cells)


@each
def test_no_functions_and_no_loops(path):
    code = "\n".join(cell.source for cell in code_cells(read(path)))
    tree = ast.parse("\n".join(line for line in code.splitlines() if not line.startswith("%")))
    refused = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.For, ast.While, ast.comprehension)
    assert not [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, refused)]


@each
def test_committed_executed_in_order_without_errors(path):
    notebook = read(path)
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert notebook.metadata.kernelspec.name == "python3"
    noted = [(number, cell.metadata) for number, cell in enumerate(notebook.cells) if cell.metadata]
    assert noted in ([], [(1, PARAMETERS)]), "execution times differ between runs"
    assert [cell.id for cell in notebook.cells] == [f"cell-{number + 1:02d}" for number in range(len(notebook.cells))]
    written = "".join(cell.source for cell in notebook.cells) + "".join(map(str, outputs))
    assert not re.search(r"(?<![\w.])/(home|tmp|root|usr|work|Users)/", written)


@pytest.mark.parametrize("path", WITH_A_GUEST, ids=lambda path: path.stem)
def test_the_guest_is_in_one_first_cell_that_papermill_knows(path):
    notebook = read(path)
    cell = notebook.cells[1]
    assert cell.metadata == PARAMETERS
    given = {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}
    assert set(given) >= {"guest", "link", "migration"}
    migkit.Scenario(**given)
    later = "\n".join(cell.source for cell in code_cells(notebook)[1:])
    assert "migkit.Guest(" not in later
    assert all(re.search(rf"\b{name}={name}\b", later) for name in given)


def test_a_notebook_runs_with_another_guest(tmp_path):
    """As papermill does it: a cell with other values behind the one that is tagged."""
    notebook = read(NOTEBOOKS[0])
    notebook.cells = notebook.cells[:4]
    source = 'guest = {"ram": "1 GiB", "regions": [{"size": "8 MiB", "write_rate": "5 MB/s"}]}'
    notebook.cells.insert(2, nbformat.v4.new_code_cell(source))
    notebook.cells.append(nbformat.v4.new_code_cell("print(scenario.guest.ram, migkit.simulate(scenario).sentence)"))
    changed = tmp_path / "changed.ipynb"
    nbformat.write(notebook, changed)
    code = "import sys; from pathlib import Path; from execute import execute; execute(Path(sys.argv[1]))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "notebooks")])}
    subprocess.run([sys.executable, "-c", code, str(changed)], check=True, env=environment)
    assert "".join(texts(read(changed).cells[-1])).startswith("1 GiB Completed in ")


@pytest.mark.parametrize("path", WITH_A_GUEST, ids=lambda path: path.stem)
def test_the_guest_of_the_readme_and_one_that_writes_nothing_are_taken(path, monkeypatch, capsys):
    """The line for papermill in the README, and a guest without regions."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    given, scenario, *_ = (cell.source for cell in code_cells(read(path)))
    (wanted,) = re.findall(r"papermill \S+ mine.ipynb -y '(.*)'", (ROOT / "README.md").read_text(encoding="utf-8"))
    for guest in (yaml.safe_load(wanted)["guest"], {"ram": "64 GiB"}):
        names = {}
        exec(given, names)
        names["guest"] = guest
        exec(scenario.replace("%matplotlib inline", ""), names)
        assert names["scenario"].guest == migkit.Guest(**guest)
    capsys.readouterr()


@each
def test_numbers_of_the_answer_are_computed(path):
    """Each number of the answer is in the code or the outputs, up to the rounding of the answer."""
    notebook = read(path)
    answer = notebook.cells[0].source.split("\n\n", 1)[1]
    shown = [text for cell in code_cells(notebook) for text in (cell.source, *texts(cell))]
    tables = [output.get("data", {}).get("text/html", "") for cell in code_cells(notebook) for output in cell.outputs]
    shown += [html.unescape(re.sub("<[^>]+>", " ", str(table))) for table in tables]
    computed = [value for text in shown for value in numbers(text)]
    percent = [100 * value for value in computed]
    mega = [value / 1e6 for value in computed]
    missing = []
    for found in NUMBER.findall(re.sub(r"`[^`]*`", "", answer)):
        value, digits = float(found.replace(",", "")), len(found.partition(".")[2])
        if not any(abs(one - value) <= 0.5000001 * 10.0**-digits for one in (*computed, *percent, *mega)):
            missing.append(found)
    assert not missing


@pytest.fixture(scope="module")
def folder_of_copies(tmp_path_factory):
    """A folder for executed copies; results are stored beside it, as in a checkout."""
    folder = tmp_path_factory.mktemp("checkout") / "notebooks"
    folder.mkdir()
    return folder


@each
def test_notebook_runs_and_shows_what_is_committed(path, folder_of_copies):
    copy = folder_of_copies / path.name
    copy.write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pytest", "--nbmake", "--overwrite", "--nbmake-timeout=600", "-q"]
    command += ["-c", os.devnull, f"--rootdir={folder_of_copies}", "-p", "no:cacheprovider", str(copy)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, cwd=folder_of_copies, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    for committed, executed in zip(code_cells(read(path)), code_cells(read(copy)), strict=True):
        before, now = "\n".join(texts(committed)), "\n".join(texts(executed))
        words = [" ".join(NUMBER.sub("#", text).split()) for text in (before, now)]
        assert words[1] == words[0], f"stale: run make notebooks\n{committed.source}"
        assert numbers(now) == pytest.approx(numbers(before), rel=SAME, abs=1e-9), f"stale: run make notebooks\n{now}"


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """Compile the kernels before, so that no cell says that it compiles them."""
    code = "from execute import compile_kernels; compile_kernels()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "notebooks")])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
