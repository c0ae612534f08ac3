"""Frontier and sensitivity keep what is finished, and the same call goes on from there."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import migkit
from migkit import Guest, Link, Migration, Region, Scenario, ScenarioError, Unfinished
from migkit.analysis import frontier as of_frontiers
from migkit.analysis import sensitivity as of_sensitivities
from migkit.cli import app
from migkit.kernels import drivers
from migkit.run.kept import Kept, kept_in
from migkit.scenario.errors import AnotherSweep
from migkit.study import experiments

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parent)}
SCENARIO = Scenario(
    guest=Guest(ram="1 GiB", regions=[Region(size="512 MiB", write_rate="1 GB/s")]),
    link=Link(bandwidth="10 Gbit/s"),
    migration=Migration(max_bandwidth=0),
)


def frontier(**arguments):
    return migkit.frontier(
        SCENARIO, "guest.regions.0.write_rate", ["10 MB/s", "20 GB/s"],
        over={"link.bandwidth": ["5 Gbit/s", "10 Gbit/s", "20 Gbit/s"]}, **arguments,
    )  # fmt: skip


def sensitivity(**arguments):
    pytest.importorskip("SALib")
    ranges = {
        "link.bandwidth": {"geomspace": ["1 Gbit/s", "20 Gbit/s"]},
        "guest.regions.0.write_rate": {"geomspace": ["10 MB/s", "20 GB/s"]},
    }
    return migkit.sensitivity(SCENARIO, ranges, points=64, **arguments)


@pytest.fixture(params=[frontier, sensitivity], ids=["frontier", "sensitivity"])
def compute(request, monkeypatch):
    for module in (of_frontiers, of_sensitivities):
        monkeypatch.setattr(module, "BATCH_ROWS", {"expected": 16, "bitmap": 16})
    return request.param


@pytest.fixture
def stopped(monkeypatch):
    """Makes the kernels raise an error after so many calls; counts the migrations."""
    real, count = drivers.run, {"calls": 0, "migrations": 0}

    def after(calls, error):
        def run(records, *rest, **named):
            if count["calls"] == calls:
                raise error
            count["calls"] += 1
            count["migrations"] += len(records.cases)
            return real(records, *rest, **named)

        count.update(calls=0, migrations=0)
        monkeypatch.setattr(drivers, "run", run)
        return count

    return after


def test_an_interrupted_call_goes_on_from_what_is_finished(compute, stopped, tmp_path):
    whole = compute()
    stopped(5, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        compute(store=tmp_path / "kept", **({"threads": 1} if compute is frontier else {}))
    (note,) = caught.value.__notes__
    done = int(re.search(r"kept: (\d+) migrations are finished and kept, the same call goes on from there", note)[1])
    assert done > 0
    count = stopped(-1, None)
    assert compute(store=tmp_path / "kept").identical(whole)
    assert count["migrations"] <= whole.attrs["migrations"] - done + 16
    count = stopped(-1, None)
    assert compute(store=tmp_path / "kept").identical(whole)
    assert count["migrations"] == 0


def test_a_call_that_computes_nothing_says_so(compute, tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level(logging.WARNING, "migkit")  # where it shows INFO, the logger tells it
    monkeypatch.setattr("migkit.run.progress._has_reader", lambda: True)
    compute(store=tmp_path / "kept")
    assert "nothing was computed" not in capsys.readouterr().err
    compute(store=tmp_path / "kept")
    line = rf"migkit: {re.escape(str(tmp_path / 'kept'))}: nothing was computed, all \d+ migrations are there\n"
    assert re.fullmatch(line, capsys.readouterr().err)


def test_without_a_store_the_note_says_that_nothing_is_kept(compute, stopped):
    stopped(2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        compute()
    assert "nothing is kept, with store= they would be" in caught.value.__notes__[0]


def test_a_full_disk_is_told_and_nothing_finished_is_lost(compute, stopped, tmp_path, monkeypatch):
    real, calls = Kept.keep, []

    def full(self, numbers, rows):
        calls.append(len(numbers))
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(self, numbers, rows)

    monkeypatch.setattr(Kept, "keep", full)
    with pytest.raises(Unfinished, match=f"No space left on device; .*: {sum(calls[:2]) or '[0-9]+'} migrations"):
        compute(store=tmp_path / "kept")
    monkeypatch.setattr(Kept, "keep", real)
    assert compute(store=tmp_path / "kept").identical(compute())


@pytest.mark.parametrize("what", ["frontier", "sensitivity"])
def test_killed_at_random_moments_it_ends_as_undisturbed(tmp_path, what):
    pytest.importorskip("h5netcdf")
    pytest.importorskip("SALib")
    command = [sys.executable, str(HERE / "killed_calls.py"), what, str(tmp_path), "1"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    whole, result = (xr.load_dataset(folder / "result.nc") for folder in (tmp_path / "whole", tmp_path))
    xr.testing.assert_identical(whole.drop_attrs(), result.drop_attrs())
    kept, undisturbed = (sorted((folder / "kept").glob("*.npz")) for folder in (tmp_path, tmp_path / "whole"))
    assert len(kept) >= len(undisturbed) > 2
    assert not [left for left in (tmp_path / "kept").iterdir() if left.name.endswith(".partial")]


@pytest.mark.parametrize("damage", ["cut", "flip", "text"])
def test_damage_is_told_and_mended(compute, tmp_path, caplog, damage):
    before = compute(store=tmp_path / "kept")
    piece = sorted((tmp_path / "kept").glob("*.npz"))[1]
    whole = piece.read_bytes()
    at = whole.rindex(b"\x93NUMPY") + 130  # in the rows
    flipped = whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]
    piece.write_bytes({"cut": whole[:at], "flip": flipped, "text": b"no archive"}[damage])
    xr.testing.assert_identical(compute(store=tmp_path / "kept").drop_attrs(), before.drop_attrs())
    assert f"{piece}: is damaged" in caplog.text
    caplog.clear()
    compute(store=tmp_path / "kept")
    assert "damaged" not in caplog.text


def test_another_question_is_refused(compute, tmp_path):
    compute(store=tmp_path / "kept")
    with pytest.raises(AnotherSweep, match="holds the migrations of another question"):
        compute(store=tmp_path / "kept", seed=3)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(ScenarioError, match="is there already and holds no finished migrations"):
        compute(store=tmp_path / "other")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ScenarioError, match="is there already"):
        compute(store=tmp_path / "file")


def test_another_model_is_another_question(compute, tmp_path, monkeypatch):
    compute(store=tmp_path / "kept")
    monkeypatch.setattr("migkit.run.kept.MODEL_VERSION", "another")
    with pytest.raises(AnotherSweep):
        compute(store=tmp_path / "kept")


def test_scan_and_outcome_may_change(tmp_path):
    frontier(store=tmp_path / "kept")
    again = frontier(store=tmp_path / "kept", scan=5, outcome="ram_above_link")
    assert again.identical(frontier(scan=5, outcome="ram_above_link"))


def test_one_process_at_a_time(tmp_path):
    with kept_in(tmp_path / "kept", {"a": 1}, np.int8) as kept:
        kept.keep(np.array([3, 1]), np.array([30, 10], np.int8))
        with (
            pytest.raises(ScenarioError, match="is being filled by another process"),
            kept_in(tmp_path / "kept", {"a": 1}, np.int8),
        ):
            pass
    with kept_in(tmp_path / "kept", {"a": 1}, np.int8) as kept:
        assert kept.numbers.tolist() == [1, 3]
        assert kept.of(np.array([3])).tolist() == [30]
    (tmp_path / "kept" / "question.json").write_text("x")
    with pytest.raises(AnotherSweep), kept_in(tmp_path / "kept", {"a": 1}, np.int8):
        pass


def test_ctrl_c_in_the_figures_keeps_a_frontier(stopped, tmp_path, monkeypatch):
    """Status 130 and one line; the next call computes the rest, and leaves the result alone."""
    monkeypatch.setattr(of_frontiers, "BATCH_ROWS", {"expected": 16})
    one = experiments.Flip(
        "edge", "Where?", SCENARIO, {"link.bandwidth": ["5 Gbit/s", "10 Gbit/s"]},
        axis="guest.regions.0.write_rate", between=("10 MB/s", "20 GB/s"), arguments={"threads": 1},
    )  # fmt: skip
    monkeypatch.setattr(experiments, "experiments", lambda *_: {"edge": one})
    monkeypatch.setattr(experiments, "further_experiments", dict)
    stopped(3, KeyboardInterrupt())
    ended = CliRunner().invoke(app, ["figures", "--results", str(tmp_path), "--output", str(tmp_path / "f")])
    assert ended.exit_code == 130
    (line,) = [line for line in ended.stderr.splitlines() if line.startswith("migkit: ")]
    assert "migrations are finished and kept, the same call goes on from there" in line
    kept = json.loads((tmp_path / "edge.migrations" / "question.json").read_text())
    assert kept["migkit"]["axis"] == "guest.regions.0.write_rate"
    stopped(-1, None)
    found = experiments.result(one, tmp_path)
    assert found["critical"].identical(experiments.run(one)["critical"])
    assert not (tmp_path / "edge.migrations").exists()
