"""Tables that are kept until the code or what they are made from changes."""

from pathlib import Path

import pandas as pd
import pytest

from migkit.run import kept_table as module
from migkit.run.kept_table import kept_table


@pytest.fixture
def made():
    """Makes another table each time; counts how often."""
    times = []

    def make():
        times.append(1)
        return pd.DataFrame({"text": ["a", "b"], "number": [1.5, float(len(times))]}, pd.Index(["x", "y"], name="run"))

    make.times = times
    return make


def test_a_table_is_made_once(tmp_path, made):
    first = kept_table(tmp_path / "new", "table", ["question"], made)
    again = kept_table(tmp_path / "new", "table", ["question"], made)
    assert len(made.times) == 1
    pd.testing.assert_frame_equal(first, again, check_exact=True)


def test_it_is_made_again_from_something_else(tmp_path, made):
    for question in (["a", "b"], ["ab"], ["b", "a"]):
        kept_table(tmp_path, "table", question, made)
    assert len(made.times) == 3
    assert len(list(tmp_path.glob("table-*.parquet"))) == 1


def test_it_is_made_again_by_other_code(tmp_path, made, monkeypatch):
    kept_table(tmp_path, "table", [], made)
    monkeypatch.setattr(module, "_code", lambda: b"another version")
    kept_table(tmp_path, "table", [], made)
    assert len(made.times) == 2


def test_tables_of_other_names_stay(tmp_path, made):
    kept_table(tmp_path, "lab-256", [], made)
    kept_table(tmp_path, "lab-256-more", [], made)
    kept_table(tmp_path, "lab-256", ["other"], made)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"x" * 100])
def test_a_damaged_file_is_made_again(tmp_path, made, damage):
    kept_table(tmp_path, "table", [], made)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    kept_table(tmp_path, "table", [], made)
    assert len(made.times) == 2
    assert kept_table(tmp_path, "table", [], made)["number"].iloc[1] == 2.0


def test_the_code_is_all_of_migkit_with_its_default_costs():
    package = Path(module.__file__).parents[1]
    files = {str(file.relative_to(package)) for file in module._files()}
    assert {"run/kept_table.py", "kernels/ram.py", "qemu/predict.py", "scenario/hosts/default.toml"} <= files
