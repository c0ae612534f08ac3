"""docs/validation.md: its section on dirty-limit and XBZRLE is what is predicted."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "docs" / "generate_validation.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("generate_validation", SCRIPT)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_section_is_as_computed(script):
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "run: python docs/generate_validation.py"


def test_all_outcomes_are_right_and_times_near(script):
    for name, most in (("dirty-limit", 0.25), ("xbzrle", 0.02)):
        table = script.predictions(script.DATA / name)
        assert table["right"].all()
        assert abs(table["total_error"]).max() < most
