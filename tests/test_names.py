"""Names are data: escaped where they are shown, kept where they are stored, refused where they cannot be."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from typer.testing import CliRunner

import migkit
from migkit import Guest, Link, Scenario, ScenarioError, Vfio
from migkit.cli import app
from migkit.figures.timeline import given_over_time, shares, shares_over_time
from migkit.run.export import without_formulas

NAMES = {
    "formula": "=cmd|' /C calc'!A0",
    "at": "@SUM(1)",
    "escape": "\x1b[31mred\x1b[0m",
    "mathtext": "$x^$",
    "one dollar": "a$",
    "escaped dollar": r"\$x^$",
    "below": "_gpu",
    "html": "<script>alert(1)</script>",
    "lines": "a\r\nb",
    "right to left": "\u202eupg",
    "braces": "{0} %s",
    "long": "n" * 5000,
    "path": "../../x",
}


def named(name):
    return Scenario(
        guest=Guest(ram="1 GiB"),
        link=Link(bandwidth="10 Gbit/s"),
        migration={"switchover_ack": True, "return_path": True, "max_bandwidth": "1 MB/s"},
        devices=[Vfio(name=name, initial_bytes="64 MiB")],
        qemu="8.2",
    )


@pytest.fixture(params=NAMES.values(), ids=NAMES)
def name(request):
    return request.param


def test_nothing_on_a_terminal_obeys_a_name(name, tmp_path):
    migration = migkit.simulate(named(name))
    for line in [*migration.summary().split("\n"), migration.sentence, repr(migration)]:
        assert line.isprintable()
        assert len(line) < 500
    assert "<script" not in migration._repr_html_()
    assert "\x1b" not in migration._repr_html_()
    (tmp_path / "s.toml").write_text(named(name).to_toml())
    shown = CliRunner().invoke(app, ["run", str(tmp_path / "s.toml")])
    assert shown.exit_code == 0
    assert all(line.isprintable() for line in shown.stdout.split("\n"))
    told = CliRunner().invoke(app, ["run", str(tmp_path / "s.toml"), "--json"])
    assert name in json.loads(told.stdout)["devices"]


def test_a_figure_shows_a_name_as_it_is(name):
    timeline = migkit.simulate(named(name)).timeline
    figure = Figure()
    FigureCanvasAgg(figure)
    for draw, ax in zip((given_over_time, shares_over_time), figure.subplots(2), strict=True):
        draw(timeline if draw is given_over_time else shares(timeline), ax)
        texts = [text.get_text() for text in ax.legend().get_texts()]
        assert len(texts) == 2
        assert all(text.isprintable() for text in texts)
        for text in ax.get_legend().get_texts():
            assert text._preprocess_math(text.get_text())[1] is False
    figure.canvas.draw()


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".nc"])
def test_files_and_stores_keep_a_name(name, suffix, tmp_path):
    store = tmp_path / "r.zarr"
    dataset = migkit.sweep(named(name), {"link.rtt": ["1 ms", "2 ms"]}, store=store)
    assert name in dataset["device"].values.tolist()
    file = migkit.export(store, tmp_path / f"t{suffix}", **({} if suffix == ".nc" else {"devices": True}))
    if suffix == ".csv":
        with open(file, newline="", encoding="utf-8") as text:
            cells = {row["device"] for row in csv.DictReader(text)}
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
        assert {cell.removeprefix("'") for cell in cells} == {"ram", name}
    elif suffix == ".nc":
        with xr.open_dataset(file, engine="h5netcdf") as read:
            assert name in read["device"].values.tolist()
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert {row["device"] for row in rows} == {"ram", name}
    else:
        import pandas as pd

        assert set(pd.read_parquet(file)["device"]) == {"ram", name}


@pytest.mark.parametrize("name", ["=1+1", "$x^$", "index", "level_0", "variable", "c", "{0}", "a b", "é", "x'y\"z"])
def test_an_axis_may_have_any_name_that_a_file_can_have(name, tmp_path):
    dataset = migkit.sweep(named("gpu"), {name: {"link.rtt": ["1 ms", "2 ms"]}}, store=tmp_path / "r.zarr")
    assert dataset["total_time_s"].dims == (name,)
    for suffix in (".csv", ".jsonl", ".parquet", ".nc"):
        file = migkit.export(dataset, tmp_path / f"t{suffix}")
        if suffix == ".csv":
            header = file.read_text(encoding="utf-8").splitlines()[0]
            assert not header.startswith(("=", '"='))


@pytest.mark.parametrize("name", ["\0", "a\0b", "\ud800"])
def test_what_no_file_can_hold_is_no_name(name):
    with pytest.raises(ScenarioError, match="which no file can hold"):
        named(name)
    with pytest.raises(ScenarioError):
        migkit.Sweep(scenario=named("gpu"), axes={name: {"link.rtt": ["1 ms"]}})


def test_the_timeline_in_csv_has_no_formula(tmp_path):
    (tmp_path / "s.toml").write_text(named("=1+1").to_toml())
    assert (
        CliRunner().invoke(app, ["run", str(tmp_path / "s.toml"), "--timeline", str(tmp_path / "t.csv")]).exit_code == 0
    )
    header = (tmp_path / "t.csv").read_text().splitlines()[0].split(",")
    assert "'=1+1_bytes" in header


def test_numbers_are_not_changed():
    import pandas as pd

    frame = pd.DataFrame({"x": [-1.5, 2.0], "y": ["-", "a"], "z": pd.Categorical(["=a", "b"])})
    assert without_formulas(frame).to_csv(index=False) == "x,y,z\n-1.5,'-,'=a\n2.0,a,b\n"
    assert frame["y"].tolist() == ["-", "a"]


def test_a_file_name_that_is_not_text_is_told_in_escapes(tmp_path):
    said = subprocess.run(
        [sys.executable, "-m", "migkit", "run", b"no\xff\x1b.toml"],
        capture_output=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip
    assert said.returncode == 2
    assert b"\\x1b" in said.stderr
    assert b"\x1b" not in said.stderr
    assert b"Traceback" not in said.stderr
