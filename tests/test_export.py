"""Tables and netCDF hold the numbers of the store, and how they were made."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr
from full_disk import run_on_full_disk
from killed_sweep import SWEEP, fill

from migkit.results import to_frame
from migkit.run.export import export, frames, write_json_lines
from migkit.run.many import sweep
from migkit.run.store import open_sweep
from migkit.scenario.errors import ScenarioError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "r.zarr"
    fill(path)
    return path


@pytest.fixture(scope="module")
def table(store):
    return to_frame(open_sweep(store).load())


def assert_says_how(notes):
    assert {"migkit_version", "numba_version", "numpy_version", "seed", "sweep", "sessions", "seconds"} <= set(notes)


@pytest.mark.parametrize("devices", [False, True])
@pytest.mark.short
def test_parquet(store, tmp_path, devices):
    path = export(store, tmp_path / "t.parquet", devices)
    expected = to_frame(open_sweep(store).load(), devices)
    read = pd.read_parquet(path)
    assert read.columns.tolist() == expected.columns.tolist()
    for name in expected:
        pd.testing.assert_series_equal(read[name].astype(object), expected[name].astype(object))
    assert_says_how(json.loads(pq.read_schema(path).metadata[b"migkit"]))


def test_parquet_in_parts_is_the_same(store, tmp_path, monkeypatch):
    whole = pd.read_parquet(export(store, tmp_path / "whole.parquet"))
    monkeypatch.setattr(sys.modules["migkit.run.export"], "ROWS", 50)
    assert len(list(frames(open_sweep(store)))) > 10
    parts = pd.read_parquet(export(store, tmp_path / "parts.parquet"))
    for name in whole:
        pd.testing.assert_series_equal(whole[name].astype(object), parts[name].astype(object))


@pytest.mark.short
def test_csv(store, tmp_path, table):
    read = pd.read_csv(export(store, tmp_path / "t.csv"))
    assert read["total_time_s"].tolist() == pytest.approx(table["total_time_s"].tolist(), rel=1e-15, nan_ok=True)
    assert read["completed"].tolist() == table["completed"].tolist() == (read["outcome"] == "completed").tolist()
    assert read["outcome"].tolist() == table["outcome"].tolist()
    assert_says_how(json.loads((tmp_path / "t.csv.provenance.json").read_text()))


def test_json_lines(store, tmp_path, table):
    lines = export(store, tmp_path / "t.jsonl").read_text().splitlines()
    assert len(lines) == len(table)
    first = json.loads(lines[0])
    assert first["policy"] == "serialized"
    assert first["bytes_sent"] == table["bytes_sent"][0]
    assert [json.loads(line)["verdict_time_s"] for line in lines] == pytest.approx(table["verdict_time_s"], rel=1e-14)
    never = next(json.loads(line) for line in lines if "starved" in line)
    assert never["downtime_s"] is never["total_time_s"] is None
    assert never["completed"] is False
    assert_says_how(json.loads((tmp_path / "t.jsonl.provenance.json").read_text()))


def test_json_lines_on_a_stream(store, table):
    stream = io.StringIO()
    write_json_lines(open_sweep(store), stream)
    assert stream.getvalue().count("\n") == len(table)


@pytest.mark.short
def test_netcdf(store, tmp_path):
    pytest.importorskip("h5netcdf")
    with xr.open_dataset(export(store, tmp_path / "t.nc"), engine="h5netcdf") as read:
        stored = open_sweep(store).load()
        for name in stored.data_vars:
            np.testing.assert_array_equal(read[name], stored[name], name)
        assert_says_how(read.attrs)
        assert read["total_time_s"].attrs["units"] == "s"
        assert read["outcome"].attrs["flag_values"].dtype == read["outcome"].dtype
        pd.testing.assert_frame_equal(to_frame(read), to_frame(stored), check_categorical=False)


def test_bad_names(store, tmp_path):
    with pytest.raises(ScenarioError, match=r'must end in "\.parquet"'):
        export(store, tmp_path / "t.xlsx")
    with pytest.raises(ScenarioError, match="is not a store"):
        export(tmp_path / "nothing.zarr", tmp_path / "t.csv")
    with pytest.raises(ScenarioError, match="netCDF has a dimension for the devices"):
        export(store, tmp_path / "t.nc", devices=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl", "nc"])
@pytest.mark.parametrize("most_bytes", [200, 20_000])
def test_a_full_disk_leaves_the_old_file_and_nothing_half_written(store, tmp_path, suffix, most_bytes):
    pytest.importorskip("h5netcdf")
    path = tmp_path / f"t.{suffix}"
    path.write_bytes(b"old")
    assert str(path) in run_on_full_disk(most_bytes, "export", store, "-o", path)
    assert path.read_bytes() == b"old"
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


def test_an_export_that_is_interrupted_leaves_nothing(store, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("migkit.run.export.to_frame", interrupted)
    for suffix in ("parquet", "csv", "jsonl"):
        with pytest.raises(KeyboardInterrupt):
            export(store, tmp_path / f"t.{suffix}")
    assert not list(tmp_path.iterdir())


def test_killed_at_random_moments_it_leaves_whole_files_only(tmp_path):
    pytest.importorskip("h5netcdf")
    store = tmp_path / "s.zarr"
    sweep(SWEEP, store=store, batch_rows=264)
    command = [sys.executable, str(HERE / "killed_calls.py"), "export", str(tmp_path), "1", str(store)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    expected = {path.name for path in (tmp_path / "whole").iterdir()}
    after_kills = [set(line.split()) for line in done.stdout.splitlines()]
    assert any(names < expected for names in after_kills)
    assert all(names <= expected for names in after_kills), after_kills
    for name in expected - {"table.nc"}:  # HDF5 has times in it
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.fixture(scope="module")
def partial(tmp_path_factory):
    """A store of which the last Zarr chunk of the outcomes is lost, as where a sweep was interrupted."""
    path = tmp_path_factory.mktemp("partial") / "r.zarr"
    scenario = {"guest": {"ram": "64 MiB"}, "link": {"bandwidth": "1 Gbit/s"}}
    sweep(scenario, {"link.rtt": [f"{number} ms" for number in range(1, 7)]}, store=path, batch_rows=4)
    (path / "outcome" / "c.1").unlink()
    return path


@pytest.mark.parametrize("devices", [False, True])
def test_what_is_not_computed_is_empty(partial, tmp_path, devices):
    dataset = open_sweep(partial)
    assert dataset.attrs["migrations_missing"] == 3
    read = {
        "csv": lambda path: pd.read_csv(path),
        "parquet": lambda path: pd.read_parquet(path),
        "jsonl": lambda path: pd.read_json(path, lines=True),
    }
    tables = {suffix: table(export(partial, tmp_path / f"t.{suffix}", devices)) for suffix, table in read.items()}
    for suffix, frame in (tables | {"DataFrame": to_frame(dataset, devices)}).items():
        results = frame[[name for name in frame if name in dataset.data_vars]]
        assert results[:3][["outcome", "completed", "bytes_sent", "total_time_s"]].notna().all(axis=None), suffix
        assert results[3:].isna().all(axis=None), suffix
        assert frame["link.rtt"].notna().all()


def test_times_have_no_noise_in_text(tmp_path):
    """A time is a whole number of nanoseconds, which as a float may be written 0.30000000000000004."""
    scenario = {"guest": {"ram": "64 MiB"}, "link": {"bandwidth": "1 Gbit/s"}}
    dataset = sweep(scenario, {"link.bandwidth": {"geomspace": ["1 Gbit/s", "9 Gbit/s", 40]}})
    times = [name for name in dataset.data_vars if dataset[name].attrs.get("units") == "s"]
    exact = dataset["total_time_s"].values
    assert any(len(repr(float(value)).partition(".")[2]) > 9 for value in exact)
    text = export(dataset, tmp_path / "t.csv").read_text().splitlines()
    columns = [number for number, name in enumerate(text[0].split(",")) if name in times]
    cells = [line.split(",")[number] for line in text[1:] for number in columns]
    assert all(len(cell.partition(".")[2]) <= 9 for cell in cells)
    assert np.allclose(pd.read_csv(tmp_path / "t.csv")["total_time_s"], exact, rtol=1e-15)
    lines = io.StringIO()
    write_json_lines(dataset, lines)
    written = [json.loads(line)["total_time_s"] for line in lines.getvalue().splitlines()]
    assert written == [round(float(value), 9) for value in exact]
