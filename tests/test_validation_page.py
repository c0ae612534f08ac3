"""docs/validation.md, and the answer of the notebook on it, are what is predicted."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from migkit.qemu.report import markdown
from migkit.qemu.validation import GOALS, by_configuration, device_times, goals, misses, predictions, reached

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "generate_validation.py"
NOTEBOOK = ROOT / "notebooks" / "05-does-it-match-qemu.ipynb"

pytestmark = pytest.mark.skipif(
    not (ROOT / "data" / "qemu-traces").is_dir(), reason="the measured runs are part of a checkout only"
)


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("generate_validation", SCRIPT)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def predicted():
    return predictions()


def test_the_page_is_as_computed(script, predicted, monkeypatch):
    monkeypatch.setattr(script, "predictions", lambda path=None: predicted if path is None else predictions(path))
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "run: python docs/generate_validation.py"


def test_the_page_says_what_wrote_it(script, predicted):
    """And the command says it of what it writes itself."""
    assert "Written by `python docs/generate_validation.py`: all but the last two sections" in script.page()
    assert "Written by `migkit validate -o DIR` from" in markdown(predicted)


def test_the_error_of_multifd_is_that_of_the_medians_beside_it(predicted):
    rows = re.findall(r"^\| (mf\S+ \S+) +\| \w+ +\| (\d+) ms +\| (\d+) ms +\| (\S+)% ", markdown(predicted), re.M)
    assert len(rows) == 18
    for name, total, measured, error in rows:
        shown = 100 * (float(total) / float(measured) - 1)
        assert abs(shown - float(error)) <= 0.1 + 100 / float(measured), name


def test_the_answer_of_the_notebook_is_as_computed(predicted):
    answer = nbformat.read(NOTEBOOK, as_version=4).cells[0].source
    reached, times = goals(predicted), device_times()
    total, most = reached.loc["total time, median"], reached.loc["total time, 90th percentile"]
    same = int((times["predicted_ms"].isna() == times["measured_ms"].isna()).sum())
    assert [line.strip("| ") for line in answer.splitlines() if line.startswith("| ")] == [
        f"{len(predicted)} measured migrations",
        f"right outcome | {int(predicted['right'].sum())}",
        f"completed, held by a paced link or max-bandwidth | {reached.loc['runs', 'all']:.0f}",
        f"their total time is off by | {total['all']:.2%} in the median, {most['all']:.1%} at the 90th percentile; "
        f"{most['loopback']:.1%} there over loopback, under max-bandwidth alone".replace("%", " %"),
        f"their bytes, their bitmap syncs | {reached.loc['bytes, median', 'all']:.2%}, ".replace("%", " %")
        + f"{reached.loc['syncs, median', 'all']:.0f} in the median",
        f"runs that miss by more than 4 %, more than 2 syncs or in the outcome | {len(misses(predicted))}",
        f"initial data of devices sent, or never sent, as measured | {same} of {len(times)} devices",
    ]


def test_runs_recorded_after_the_code_are_predicted(script):
    table = script.predictions(script.DATA / "matrix")
    assert table["right"].all()
    configurations = by_configuration(table)
    assert (len(configurations), set(configurations["repeats"])) == (78, {3})
    held = configurations[configurations["held"] & configurations["total_error"].notna()]
    most = pd.Series({name: goal for name, (_, _, goal) in GOALS.items()})
    assert (reached(held) <= most).all()
    most["total time, 90th percentile"] += 0.001  # of single runs: windows of a fast link stand still now and then
    assert (goals(table)["all"][most.index] <= most).all()


def test_all_outcomes_are_right_and_times_near(script):
    for name, most in (("dirty-limit", 0.25), ("xbzrle", 0.02)):
        table = script.predictions(script.DATA / name)
        assert table["right"].all()
        assert abs(table["total_error"]).max() < most
