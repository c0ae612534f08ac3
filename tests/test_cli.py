"""The command line says what the library says, and errors in one sentence."""

import builtins
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from full_disk import run_on_full_disk
from typer.testing import CliRunner

import migkit
from migkit.__main__ import main
from migkit.cli import app
from migkit.run.progress import UNCACHED
from migkit.run.simulate import simulate
from migkit.scenario.scenario import Guest, Link, Region, Scenario, Vfio

SCENARIO = Scenario(
    guest=Guest(ram="64 MiB", regions=[Region(size="16 MiB", write_rate="20 MB/s")]),
    devices=[Vfio(initial_bytes="4 MiB")],
    link=Link(bandwidth="10 Gbit/s"),
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "scenario.toml"
    path.write_text(SCENARIO.to_toml())
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.short
def test_prints_the_summary(path):
    result = run("run", path)
    assert result.exit_code == 0
    assert result.stdout == simulate(SCENARIO).summary() + "\n"


def test_engine_seed_and_replicate(path):
    result = run("run", path, "--engine", "bitmap", "--seed", "7", "--replicate", "2")
    assert result.stdout == simulate(SCENARIO, "bitmap", 7, 2).summary() + "\n"


@pytest.mark.short
def test_json(path):
    result = run("run", path, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == simulate(SCENARIO).to_dict() | {"remedy": None}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.short
def test_timeline(path, tmp_path, suffix):
    target = tmp_path / f"timeline.{suffix}"
    assert run("run", path, "--timeline", target).exit_code == 0
    table = pd.read_parquet(target) if suffix == "parquet" else pd.read_csv(target)
    pd.testing.assert_frame_equal(table, simulate(SCENARIO).timeline)


@pytest.mark.short
def test_version():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout == f"migkit {migkit.__version__}\n"


def refused(*arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def test_missing_file(tmp_path):
    assert "is not a file that exists." in refused("run", tmp_path / "no.toml")


def test_a_directory_is_no_scenario(tmp_path):
    assert "cannot be read" in refused("run", tmp_path)


def test_a_path_that_looks_like_toml_is_a_path(tmp_path):
    assert "is not a file that exists." in refused("run", tmp_path / "a=b.toml")


def test_a_byte_order_mark_is_allowed(path):
    path.write_bytes(b"\xef\xbb\xbf" + SCENARIO.to_toml().encode())
    assert run("run", path).stdout == simulate(SCENARIO).summary() + "\n"


def test_a_pipe_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(SCENARIO.to_toml(),))
    writer.start()
    assert run("run", pipe).stdout == simulate(SCENARIO).summary() + "\n"
    writer.join()


def test_broken_toml(path):
    path.write_text("guest = [")
    text = refused("run", path)
    assert "is not valid TOML" in text
    assert text.count("\n") == 1


@pytest.mark.short
def test_scenario_error(path):
    path.write_text(SCENARIO.to_toml().replace("bandwidth", "bandwith", 1))
    text = refused("run", path)
    assert text.startswith("migkit: ")
    assert 'did you mean "bandwidth"?' in text


def test_negative_seed(path):
    assert "seed = -1 must be a whole number" in refused("run", path, "--seed", "-1")


def test_engine_typo(path):
    assert "expected" in refused("run", path, "--engine", "expcted")


def test_timeline_of_another_kind_is_refused_before_anything_is_computed(path, tmp_path):
    assert "must end in .parquet or .csv" in refused("run", path, "--timeline", tmp_path / "t.xlsx")


def test_timeline_that_cannot_be_written(path, tmp_path):
    result = run("run", path, "--timeline", tmp_path / "nowhere" / "t.csv")
    assert result.exit_code == 1
    assert result.stderr == f"migkit: {tmp_path / 'nowhere' / 't.csv'}: there is no folder {tmp_path / 'nowhere'}.\n"


@pytest.mark.short
def test_help_loads_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from migkit.cli import app; "
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0; "
        "print(sorted({'numba', 'numpy', 'pandas', 'xarray'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


SWEEP = """
[axes]
policy = ["serialized", "unserialized"]
"link.bandwidth" = { geomspace = ["1 Gbit/s", "10 Gbit/s", 3] }
"""


@pytest.fixture
def described(tmp_path, path):
    file = tmp_path / "sweep.toml"
    file.write_text(f'scenario = "{path.name}"\n{SWEEP}')
    return file


@pytest.mark.short
def test_sweep_fills_a_store_and_says_what_is_in_it(described, tmp_path):
    store = tmp_path / "r.zarr"
    result = run("sweep", described, "-o", store)
    assert result.exit_code == 0
    assert f"6 migrations are in {store}:" in result.stdout
    assert "completed" in result.stdout
    again = run("sweep", described, "-o", store, "--quiet")  # nothing is missing
    assert again.exit_code == 0
    assert "Nothing was computed: they are from before, computed in " in again.stdout
    assert "Nothing" not in result.stdout


def test_sweep_prints_json_lines(described, tmp_path):
    result = run("sweep", described, "-o", tmp_path / "r.zarr", "--json", "--quiet")
    assert [json.loads(line)["policy"] for line in result.stdout.splitlines()] == ["serialized"] * 3 + [
        "unserialized"
    ] * 3


def test_another_sweep_in_the_store_is_status_2(described, tmp_path):
    store = tmp_path / "r.zarr"
    run("sweep", described, "-o", store, "--quiet")
    described.write_text(described.read_text().replace("3]", "4]"))
    result = run("sweep", described, "-o", store)
    assert result.exit_code == 2
    assert "axes.link.bandwidth has 3 values there and 4 here" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([("bandwidth", "bandwith")], 'did you mean "bandwidth"?'),
        ([("1 Gbit/s", "1 GiB")], "a rate is needed"),
        ([("[axes]", "[axis]")], 'did you mean "axes"?'),
        ([("policy =", "policy")], "is not valid TOML"),
        ([("scenario.toml", "other.toml")], "is not a file that exists"),
    ],
)
def test_bad_descriptions_are_one_sentence(described, tmp_path, words, said):
    for old, new in words:
        described.write_text(described.read_text().replace(old, new))
    result = run("sweep", described, "-o", tmp_path / "r.zarr")
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "r.zarr").exists()


def test_a_full_disk_is_status_1(described, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("migkit.run.store.Store.write", full)
    result = run("sweep", described, "-o", tmp_path / "r.zarr", "--quiet")
    assert result.exit_code == 1
    assert "No space left on device; 0 of 1 batches are finished and kept" in result.stderr


@pytest.mark.short
def test_export(described, tmp_path):
    run("sweep", described, "-o", tmp_path / "r.zarr", "--quiet")
    result = run("export", tmp_path / "r.zarr", "-o", tmp_path / "t.parquet")
    assert result.stdout.strip() == str(tmp_path / "t.parquet")
    assert len(pd.read_parquet(tmp_path / "t.parquet")) == 6
    assert result.stderr == ""
    next(each for each in (tmp_path / "r.zarr" / "outcome").glob("c*")).unlink()
    result = run("export", tmp_path / "r.zarr", "-o", tmp_path / "part.parquet")
    assert "of 6 migrations are not computed yet: their results are empty." in result.stderr
    assert run("export", tmp_path / "r.zarr", "-o", tmp_path / "t.xlsx").exit_code == 2
    assert run("export", tmp_path / "nothing.zarr", "-o", tmp_path / "t.csv").exit_code == 2


def test_a_sweep_is_no_scenario_and_the_reverse(described, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a long path would be shortened
    assert refused("run", described.name) == 'migkit: "sweep.toml" describes a sweep: use migkit sweep.\n'
    assert refused("sweep", path.name) == f'migkit: "{path.name}" describes one migration: use migkit run.\n'


def python(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])} | options.pop("env", {})
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, env=environment, stderr=subprocess.PIPE, text=True, check=False, timeout=120, **options
    )


@pytest.mark.parametrize("module", ["migkit", "migkit.cli"])
def test_runs_as_a_module(module):
    done = python("-m", module, "--version", stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, f"migkit {migkit.__version__}\n")


COMMANDS = {
    "run": ("migkit.run.simulate.simulate", ["run", "scenario.toml"]),
    "sweep": ("migkit.run.many.sweep", ["sweep", "sweep.toml"]),
    "export": ("migkit.run.export.export", ["export", "r.zarr", "-o", "t.csv"]),
    "validate": ("migkit.qemu.validation.predictions", ["validate"]),
    "study": ("migkit.study.experiments.run", ["study"]),
    "figures": ("migkit.study.experiments.result", ["figures"]),
}


@pytest.mark.parametrize(("function", "arguments"), COMMANDS.values(), ids=COMMANDS)
def test_ctrl_c_is_one_line_and_status_130(described, tmp_path, monkeypatch, function, arguments):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(function, interrupted)
    before = sorted(tmp_path.iterdir())
    result = run(*arguments)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("migkit: interrupted; ")
    assert sorted(tmp_path.iterdir()) == before


def test_ctrl_c_during_the_start(monkeypatch, capsys):
    real = builtins.__import__

    def interrupted(name, *rest, **named):
        if name == "migkit.cli":
            raise KeyboardInterrupt
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "migkit: interrupted.\n"


def test_ctrl_c_before_a_command_begins(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("typer.core.TyperGroup.invoke", interrupted)
    monkeypatch.setattr("sys.argv", ["migkit", "run", "scenario.toml"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "migkit: interrupted.\n"


NO_CACHE = """
import sys
from numba.core import caching
def refused(*_, **__): raise OSError(30, "Read-only file system")
caching.tempfile.TemporaryFile = refused  # with which Numba tries whether it can write
from migkit.__main__ import main
main()
"""


def test_no_place_for_the_cache_of_numba(path, tmp_path):
    (tmp_path / "no_cache.py").write_text(NO_CACHE)
    # what is compiled for this process alone need not be fast
    command = [tmp_path / "no_cache.py", "run", path, "--engine", "bitmap"]  # the other engine begins interpreted
    done = python(*command, stdout=subprocess.PIPE, env={"NUMBA_OPT": "0"})
    assert (done.returncode, done.stdout) == (0, simulate(SCENARIO, "bitmap").summary() + "\n")
    assert done.stderr == f"migkit: {UNCACHED}\n"


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_timeline_on_a_full_disk(path, tmp_path, suffix):
    target = tmp_path / f"t.{suffix}"
    assert str(target) in run_on_full_disk(100, "run", path, "--timeline", target)
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


def test_a_store_that_cannot_be_created_on_a_full_disk(described, tmp_path):
    before = sorted(tmp_path.iterdir())
    assert str(tmp_path / "r.zarr") in run_on_full_disk(500, "sweep", described, "-o", tmp_path / "r.zarr", "--quiet")
    assert sorted(tmp_path.iterdir()) == before


def test_a_study_on_a_full_disk(tmp_path):
    line = run_on_full_disk(500, "study", "--points", "2", "-o", tmp_path / "out")
    assert str(tmp_path / "out" / "convergence.sweep.zarr") in line
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("arguments", [["run", "scenario.toml", "--json"], ["sweep", "sweep.toml", "--json", "-q"]])
def test_standard_output_on_a_full_disk(described, tmp_path, arguments):
    with open("/dev/full", "w") as full:
        done = python("-m", "migkit", *arguments, stdout=full, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "migkit: standard output: No space left on device.\n"


def test_a_reader_that_ends_early_is_no_error(described, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = python("-m", "migkit", "sweep", "sweep.toml", "--json", "-q", stdout=closed, cwd=tmp_path)
    assert done.returncode in (1, -signal.SIGPIPE)
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["run", "scenario.toml"], ["sweep", "sweep.toml"], ["validate"]])
def test_no_threads_for_numba(described, tmp_path, arguments):
    done = python("-m", "migkit", *arguments, cwd=tmp_path, stdout=subprocess.PIPE, env={"NUMBA_NUM_THREADS": "0"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "migkit: NUMBA_NUM_THREADS = 0 must be a whole number of 1 or more.\n"


@pytest.mark.short
def test_verbose_shows_what_is_skipped(described, tmp_path):
    run("sweep", described, "-o", tmp_path / "r.zarr", "-q")
    line = f"migkit: {tmp_path / 'r.zarr'}: nothing was computed, all 6 migrations are there\n"
    assert run("-v", "sweep", described, "-o", tmp_path / "r.zarr", "-q").stderr == line
    assert run("sweep", described, "-o", tmp_path / "r.zarr", "-q").stderr == ""


def test_figures_say_at_once_what_is_missing(tmp_path, monkeypatch):
    def computed(*_, **__):
        raise AssertionError("nothing is to be computed")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("migkit.study.experiments.run", computed)
    monkeypatch.setenv("MIGKIT_DATA", str(tmp_path))
    assert "does not hold the measured migrations" in refused("figures")


def test_figures_that_can_be_drawn_are_drawn_without_salib(tmp_path, monkeypatch):
    from migkit.study import experiments

    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiments.Sensitive, "cannot_be_computed", lambda self: "it needs SALib")
    monkeypatch.setattr(experiments, "result", lambda experiment, *_, **__: asked.append(experiment.name))
    monkeypatch.setattr("migkit.qemu.validation.predictions", lambda kept: None)
    monkeypatch.setattr("migkit.qemu.validation.by_configuration", lambda table: table)
    monkeypatch.setattr("migkit.study.atlas.write_all", lambda datasets, *_: [Path("x.pdf")])
    result = run("figures")
    assert result.exit_code == 0, result.output
    assert "sensitivity is left out: it needs SALib" in result.stderr
    assert set(asked) == (set(experiments.experiments()) | set(experiments.further_experiments())) - {"sensitivity"}
