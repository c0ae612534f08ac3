"""A store holds the migrations of its description, whatever happened on the way."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import xarray as xr
from killed_sweep import BATCH_ROWS, DESCRIPTION, fill

import migkit
from migkit.results import SWEEP_VARIABLES
from migkit.run.checksums import Checksums
from migkit.run.design import Sweep
from migkit.run.grid import Layout
from migkit.run.many import sweep
from migkit.run.store import Store, open_sweep
from migkit.scenario.errors import ScenarioError, Unfinished

LATER = (
    "downtime_paused_s", "changes", "final_max_bandwidth", "final_downtime_limit_s", "dirty_limit_throttle_s",
)  # fmt: skip
"""Variables that older stores do not have, and do not get when they are opened."""

HERE = Path(__file__).parent
SWEEP = Sweep.from_toml(DESCRIPTION)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(HERE.parent)}


def files(store):
    """Every file of a store but the notes on who filled it when."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and "sessions" not in path.parts
    }


def every_file(store):
    return {str(path): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def assert_same_results(one, other):
    one, other = (each.drop_attrs(deep=False).load() for each in (one, other))
    xr.testing.assert_identical(one, other)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = tmp_path_factory.mktemp("store") / "undisturbed.zarr"
    fill(store)
    return store


@pytest.fixture(scope="module")
def in_memory():
    return sweep(SWEEP)


@pytest.mark.short
def test_store_holds_what_a_sweep_in_memory_gives(undisturbed, in_memory):
    stored = open_sweep(undisturbed)
    assert_same_results(stored, in_memory)
    for name in ("description", "engine", "seed", "sweep", "sweep_sha256", "numba_version", "git_commit"):
        assert stored.attrs.get(name) == in_memory.attrs.get(name), name
    assert stored.attrs["migrations_missing"] == 0
    assert Sweep.from_toml(stored.attrs["sweep"]) == SWEEP


@pytest.mark.short
def test_chunks_have_the_bytes_that_zarr_writes(undisturbed, in_memory, tmp_path):
    import zarr

    copy = tmp_path / "copy.zarr"
    shutil.copytree(undisturbed, copy)
    for name in ("verdict_time_s", "total_time_s", "completed", "outcome", "device_bytes"):
        array = zarr.open_array(copy, path=name, mode="r+", config={"write_empty_chunks": True})
        values = array[:]
        for chunk in (copy / name).glob("c.*"):
            chunk.unlink()
        array[:] = values
    written, ours = files(copy), files(undisturbed)
    assert written == {name: ours[name] for name in written}
    left_out = {name.split("/")[0] for name in set(ours) - set(written)}  # zarr leaves out what is never everywhere
    assert left_out <= {"total_time_s", "completed"}


def test_sessions_say_when_how_long_and_with_what(undisturbed):
    (session,) = json.loads(open_sweep(undisturbed).attrs["sessions"])
    assert session["workers"] == "2 threads"
    assert session["started"].endswith("Z")
    assert session["seconds"] > 0
    assert session["batches"] == session["batches_missing"] > 40
    assert session["numba_version"]


@pytest.mark.parametrize(("batch_rows", "threads"), [(1000, 1), (1000, 2), (7, 2)])
def test_batch_size_and_threads_change_no_value(tmp_path, in_memory, batch_rows, threads):
    made = sweep(SWEEP, store=tmp_path / "r.zarr", batch_rows=batch_rows, threads=threads)
    assert_same_results(made, in_memory)


def test_the_bitmap_engine_draws_the_same_whatever_the_batches(tmp_path):
    described = Sweep(
        scenario=SWEEP.scenario.replace("time_limit", "2 s"),
        axes={"policy": ["serialized", "unserialized"], "link.bandwidth": ["2 Gbit/s", "20 Gbit/s"]},
        replicates=3,
        engine="bitmap",
        seed=5,
    )
    assert_same_results(sweep(described, store=tmp_path / "r.zarr", batch_rows=5), sweep(described))


@pytest.mark.parametrize("seed", range(2))
def test_killed_at_random_moments_it_ends_byte_equal(tmp_path, undisturbed, seed):
    store = tmp_path / "killed.zarr"
    command = [sys.executable, str(HERE / "killed_sweep.py"), str(store), str(seed)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    after_each_death = list(map(int, done.stdout.split()))
    assert after_each_death == sorted(after_each_death)
    assert len({batches for batches in after_each_death if batches > 0}) >= 2, after_each_death
    assert files(store) == files(undisturbed)
    sessions = json.loads(open_sweep(store).attrs["sessions"])
    assert sum("seconds" not in session for session in sessions) >= 2  # the killed ones have a beginning only


@pytest.mark.short
def test_only_what_is_missing_is_computed(tmp_path, undisturbed, monkeypatch):
    store = tmp_path / "r.zarr"
    shutil.copytree(undisturbed, store)
    lost = store / "outcome" / "c.1.0.3.0"
    lost.unlink()
    assert open_sweep(store).attrs["migrations_missing"] == Store.at(store, Layout(SWEEP)).batches.rows((1, 0, 3, 0))
    computed = []
    run = Layout.run

    def noted(self, places, into, stop):
        computed.append(places)
        return run(self, places, into, stop)

    monkeypatch.setattr(Layout, "run", noted)
    fill(store)
    places = np.concatenate(computed, axis=1)
    assert set(places[0]) == {1}
    assert set(places[2]) == {3}
    assert places.shape[1] <= BATCH_ROWS
    assert files(store) == files(undisturbed)


def test_what_is_not_begun_is_dropped_when_writing_fails(tmp_path, monkeypatch):
    computed, run = [], Layout.run

    def counted(self, places, into, stop):
        computed.append(places.shape[1])
        time.sleep(0.01)  # so that the next batch is not finished when the first one is written
        return run(self, places, into, stop)

    def fails(self, batch, outputs):
        raise KeyboardInterrupt

    monkeypatch.setattr(Layout, "run", counted)
    monkeypatch.setattr(Store, "write", fails)
    monkeypatch.setattr("migkit.run.threads.PIECE_ROWS", {"expected": 4, "bitmap": 4})
    monkeypatch.setattr("migkit.run.threads._LEAST_ROWS", {"expected": 4, "bitmap": 4})
    with pytest.raises(KeyboardInterrupt) as raised:
        sweep(SWEEP, store=tmp_path / "r.zarr", batch_rows=250, threads=1)
    so_far = sum(computed)
    time.sleep(0.2)
    assert sum(computed) == so_far < Layout(SWEEP).migrations
    assert "0 of" in raised.value.__notes__[0]


@pytest.mark.short
def test_a_partial_store_can_be_read(tmp_path):
    layout = Layout(SWEEP)
    store = Store.at(tmp_path / "r.zarr", layout, 50)
    assert open_sweep(store.path).attrs["migrations_missing"] == layout.migrations
    batch = store.missing()[2]
    store.write(batch, layout.run(store.batches.places(batch)))
    part = open_sweep(store.path)
    done = part["outcome"].values >= 0
    assert done.sum() == store.batches.rows(batch)
    assert np.isnan(part["total_time_s"].values[~done]).all()
    assert np.isfinite(part["verdict_time_s"].values[done]).all()
    assert not part["completed"].values[~done].any()
    np.testing.assert_array_equal(part["completed"].values, np.isfinite(part["total_time_s"].values))


def _hear_ctrl_c():
    # a shell starts what runs in the background with SIGINT ignored, and children inherit that
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_keeps_finished_batches_and_says_how_to_go_on(tmp_path, undisturbed):
    (tmp_path / "sweep.toml").write_text(DESCRIPTION.replace("12]", "1200]").replace("11]", "1100]"))
    code = "from migkit.cli import app; app()"
    command = [sys.executable, "-c", code, "sweep", "sweep.toml", "-o", "r.zarr", "--threads", "1"]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, preexec_fn=_hear_ctrl_c, **pipes)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "r.zarr" / "outcome").glob("c.*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "batches are finished and kept" in said
    assert "goes on from there" in said
    assert "Traceback" not in said


def test_a_full_disk_is_told_and_keeps_what_is_there(tmp_path, undisturbed):
    replace, replaced = os.replace, []

    def full(source, target):
        if len(replaced) > 300:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
        replaced.append(target)
        return replace(source, target)

    store = tmp_path / "r.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(Unfinished, match=r"No space left on device; \d+ of \d+ batches are finished and kept"):
            fill(store)
    fill(store)
    assert files(store) == files(undisturbed)


def test_a_write_that_ends_in_the_middle_leaves_no_half_chunk(tmp_path, undisturbed):
    # the system itself cuts the write: no file of this process may grow beyond 2000 bytes
    store = tmp_path / "r.zarr"
    code = (
        "import resource, signal, sys; sys.path.insert(0, sys.argv[2]);"
        "import migkit; from killed_sweep import fill, DESCRIPTION; from migkit.run.grid import Layout;"
        "from migkit.run.store import Store; from migkit.run.design import Sweep; from pathlib import Path;"
        "layout = Layout(Sweep.from_toml(DESCRIPTION)); store = Store.at(Path(sys.argv[1]), layout, 264);"
        "layout.run(store.batches.places(store.missing()[0])[:, :1]);"  # compiled, and in the cache
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (2000, -1));"
        "\ntry: fill(sys.argv[1])\nexcept migkit.Unfinished as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(store), str(HERE)],
        env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "File too large; 0 of 2 batches are finished" in done.stdout, done.stdout + done.stderr
    assert not list(store.rglob("*.partial")) + list(store.rglob(".*.partial"))
    fill(store)
    whole = tmp_path / "whole.zarr"
    sweep(SWEEP, store=whole, batch_rows=264)
    assert files(store) == files(whole)


def test_two_processes_do_not_fill_one_store(tmp_path):
    layout = Layout(SWEEP)
    store = Store.at(tmp_path / "r.zarr", layout, BATCH_ROWS)
    with store.session("one"), pytest.raises(ScenarioError, match="is being filled by another process"):
        fill(store.path)
    code = "import sys; from killed_sweep import fill; from migkit import ScenarioError\n"
    code += "try: fill(sys.argv[1])\nexcept ScenarioError as error: print(error)"
    command = [sys.executable, "-c", code, str(store.path)]
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    with store.session("one"):
        said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120).stdout
    assert said.endswith("is being filled by another process: wait for it, or give another name.\n")


def test_the_lock_is_released_by_a_process_that_is_killed(tmp_path):
    code = (
        "import os, signal, sys; from killed_sweep import SWEEP, BATCH_ROWS; from pathlib import Path\n"
        "from migkit.run.grid import Layout; from migkit.run.store import Store\n"
        "store = Store.at(Path(sys.argv[1]), Layout(SWEEP), BATCH_ROWS)\n"
        "with store.session('one'): os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    command = [sys.executable, "-c", code, str(tmp_path / "r.zarr")]
    assert subprocess.run(command, env=environment, check=False, timeout=120).returncode == -signal.SIGKILL
    with Store.at(tmp_path / "r.zarr", Layout(SWEEP)).session("two") as missing:
        assert missing


def test_threads_of_one_process_open_one_new_store_at_once(tmp_path):
    layout, ready = Layout(SWEEP), threading.Barrier(8)

    def opened(_):
        ready.wait()
        return Store.at(tmp_path / "r.zarr", layout, BATCH_ROWS).batches

    with ThreadPoolExecutor(8) as pool:
        (batches,) = set(pool.map(opened, range(8)))
    assert [path.name for path in tmp_path.iterdir()] == ["r.zarr"]
    assert open_sweep(tmp_path / "r.zarr").attrs["migrations_missing"] == layout.migrations
    assert sum(map(batches.rows, batches)) == layout.migrations


def test_only_temporary_files_of_a_store_are_removed(tmp_path):
    store = Store.at(tmp_path / "r.zarr", Layout(SWEEP), BATCH_ROWS)
    own = [".c.0.0.0.0.0123456789abcdef.partial"]
    others = ["notes.partial", "c.9.9.9.9.partial", ".c.0.0.0.0.0123456789abcdef.partial.txt"]
    for name in own + others:
        (store.path / "culprit" / name).touch()
    (store.path / "notes.partial").touch()
    notes = store.path / "sessions" / ".zarr.json.0123456789abcdef.partial"
    notes.touch()
    with store.session("one"):
        pass
    left = {path.name for path in (store.path / "culprit").iterdir()}
    assert left == {"zarr.json", *others}
    assert (store.path / "notes.partial").exists()
    assert not notes.exists()


@pytest.mark.short
def test_the_lock_file_is_unknown_to_zarr(undisturbed):
    import zarr

    members = dict(zarr.open_group(undisturbed, mode="r").members(max_depth=None))  # warns of files it does not know
    assert "outcome" in members
    assert (undisturbed / "outcome" / ".lock").exists()


def test_resumed_stores_are_logged(tmp_path, caplog):
    import logging

    layout = Layout(SWEEP)
    store = Store.at(tmp_path / "r.zarr", layout, 200)
    batch = store.missing()[0]
    store.write(batch, layout.run(store.batches.places(batch)))
    with caplog.at_level(logging.INFO, logger="migkit"):
        fill(store.path)
        fill(store.path)
    told = [record.getMessage() for record in caplog.records]
    (resumed,) = (each for each in told if "skipped" in each)
    (finished,) = (each for each in told if "nothing" in each)
    assert resumed == f"{store.path}: resumed, 1 of {len(store.batches)} batches are skipped: they are finished"
    assert finished == f"{store.path}: nothing was computed, all {layout.migrations} migrations are there"


def test_a_rerun_that_computed_nothing_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("migkit.run.progress._has_reader", lambda: True)
    first = fill(tmp_path / "r.zarr")
    assert first.attrs["migrations_computed"] == Layout(SWEEP).migrations
    assert "nothing was computed" not in capsys.readouterr().err
    again = fill(tmp_path / "r.zarr")
    assert again.attrs["migrations_computed"] == 0
    line = f"migkit: {tmp_path / 'r.zarr'}: nothing was computed, all {Layout(SWEEP).migrations} migrations are there\n"
    assert capsys.readouterr().err == line


COUNT = '"devices.0.count" = [1, 3]\n'
OTHERS = {
    "seed": (lambda t: "seed = 3\n" + t, "seed is 0 there and 3 here"),
    "engine": (lambda t: 'engine = "bitmap"\n' + t, 'engine is "expected" there and "bitmap" here'),
    "axis length": (lambda t: t.replace("12]", "14]"), "write_rate has 12 values there and 14 here"),
    "axis value": (lambda t: t.replace('"50 GB/s"', '"49 GB/s"'), "value 2 of axes.guest.regions.0.write_rate is"),
    "scenario": (lambda t: t.replace("64 MiB", "32 MiB"), 'size is "64 MiB" there and "32 MiB" here'),
    "replicates": (lambda t: "replicates = 2\n" + t, "replicates is not given there and 2 here"),
    "order": (
        lambda t: t.replace(COUNT, "").replace("[scenario]", COUNT + "[scenario]"),
        "the axes are in the order policy, devices.0.count",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), OTHERS.values(), ids=OTHERS)
@pytest.mark.short
def test_another_sweep_is_refused_and_the_difference_named(undisturbed, change, words):
    before = files(undisturbed)
    with pytest.raises(ScenarioError) as caught:
        sweep(Sweep.from_toml(change(DESCRIPTION)), store=undisturbed)
    assert words in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert files(undisturbed) == before


def test_the_same_sweep_written_otherwise_is_the_same(undisturbed):
    text = DESCRIPTION.replace('"10 MB/s"', '"80 Mbit/s"').replace("[1, 3]", "{ linspace = [1, 3, 2] }")
    assert sweep(Sweep.from_toml(text), store=undisturbed).attrs["migrations_missing"] == 0


def with_attribute(store, name, value):
    """Change an attribute as another version would have written it, with its checksum."""
    root = json.loads((store / "zarr.json").read_text())
    root["attributes"][name] = value
    (store / "zarr.json").write_text(json.dumps(root))
    noted = Checksums.read(store)
    files = noted.files | {"zarr.json": google_crc32c.value((store / "zarr.json").read_bytes())}
    noted._replace(files=files).write(store)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("migkit_version", "0.0.9", r"was begun with migkit 0\.0\.9"),
        ("model_version", "0", r"is not finished and was begun by another model \(0, and this is \d+\)"),
    ],
)
def test_results_of_two_models_do_not_mix(tmp_path, name, value, words):
    store = Store.at(tmp_path / "r.zarr", Layout(SWEEP), BATCH_ROWS)
    with_attribute(store.path, name, value)
    with pytest.raises(ScenarioError, match=words):
        fill(store.path)
    assert open_sweep(store.path).attrs["migrations_missing"] == store.layout.migrations


def never_computed(monkeypatch):
    monkeypatch.setattr(Layout, "run", lambda *_: pytest.fail("computed something"))


def test_a_finished_store_of_another_model_is_opened(tmp_path, undisturbed, monkeypatch):
    store = tmp_path / "r.zarr"
    shutil.copytree(undisturbed, store)
    with_attribute(store, "model_version", "0")
    before = every_file(store)
    never_computed(monkeypatch)
    assert fill(store).attrs["model_version"] == "0"
    assert every_file(store) == before


@pytest.fixture
def stores_of_fbfe521(tmp_path):
    """Stores that the last commit without model versions has written, a finished one and one without a batch."""
    shutil.unpack_archive(HERE / "data" / "stores-fbfe521.zip", tmp_path)
    return tmp_path / "finished.zarr", tmp_path / "unfinished.zarr"


def test_stores_without_a_model_version(stores_of_fbfe521, monkeypatch):
    finished, unfinished = stores_of_fbfe521
    opened = open_sweep(finished)
    assert opened.attrs["migrations_missing"] == 0
    described = Sweep.from_toml(opened.attrs["sweep"])
    computed = sweep(described)
    with monkeypatch.context() as patch:
        never_computed(patch)
        before = every_file(finished)
        returned = sweep(described, store=finished)
        assert every_file(finished) == before
        with pytest.raises(ScenarioError, match="was begun by another model: it can still be opened") as told:
            sweep(described, store=unfinished)
    assert str(told.value).count("\n") == 0
    assert open_sweep(unfinished).attrs["migrations_missing"] == 4
    assert [variable.name for variable in SWEEP_VARIABLES if variable.name not in LATER] == list(returned.data_vars)
    # its dimensions have the names of then, the last part of the path
    computed = computed.rename({name: name.rpartition(".")[2] for name in computed.coords})
    for name in returned.variables:
        np.testing.assert_array_equal(returned[name], computed[name], name)
    assert returned["outcome"].dims == computed["outcome"].dims
    other = described.model_copy(update={"seed": 1})
    with pytest.raises(ScenarioError, match="holds another sweep: seed is 0 there and 1 here"):
        sweep(other, store=finished)


def test_a_new_field_with_its_default_is_no_other_sweep(tmp_path, undisturbed, monkeypatch):
    store = tmp_path / "r.zarr"
    shutil.copytree(undisturbed, store)
    text = open_sweep(store).attrs["sweep"]
    assert "time_limit" in text
    assert 'policy = "' not in text  # of the scenario: not set, so not written, as a field that did not exist
    with_attribute(store, "sweep", text.replace('name = ""\n', "", 1))
    with_attribute(store, "sweep_sha256", "that of a description without the field name")
    never_computed(monkeypatch)
    assert fill(store).attrs["migrations_missing"] == 0


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["folder", "file"])
def test_something_else_is_not_overwritten(tmp_path, make):
    make(tmp_path / "r.zarr")
    with pytest.raises(ScenarioError, match="is not a store that migkit has written"):
        fill(tmp_path / "r.zarr")
    with pytest.raises(ScenarioError, match="is not a store"):
        open_sweep(tmp_path / "r.zarr")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to read the peak from")
def test_memory_is_that_of_the_batches(tmp_path):
    """Eight times the migrations, the same peak."""
    code = """
import sys
from migkit import Guest, Link, Region, Scenario, Sweep, sweep
scenario = Scenario(guest=Guest(ram="64 MiB", regions=[Region(size="1 MiB")]), link=Link(bandwidth="10 Gbit/s"))
rates = {"linspace": ["1 MB/s", "2 MB/s", 100]}
links = {"linspace": ["1 Gbit/s", "9 Gbit/s", int(sys.argv[2])]}
sweep(Sweep(scenario=scenario, axes={"link.bandwidth": links, "guest.regions.0.write_rate": rates}), store=sys.argv[1],
      batch_rows=8192)
# not ru_maxrss: a process begins with that of the one that started it
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    peaks = []
    for count in (400, 3200):
        command = [sys.executable, "-c", code, str(tmp_path / f"{count}.zarr"), str(count)]
        peaks.append(int(subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < 1.15 * peaks[0]
    assert peaks[1] < 1 << 20  # kilobytes: 1 GiB


def test_migkit_gives_it_at_its_top():
    assert migkit.open_sweep is open_sweep


@pytest.fixture
def stores_of_ffc8473(tmp_path):
    """Stores of the last commit whose ``total_time_s`` was the time of every verdict: whole, and one of two batches."""
    shutil.unpack_archive(HERE / "data" / "stores-ffc8473.zip", tmp_path)
    return tmp_path / "finished.zarr", tmp_path / "unfinished.zarr"


def test_stores_in_which_every_verdict_is_a_total_time(stores_of_ffc8473):
    finished, _ = stores_of_ffc8473
    with xr.open_zarr(finished, consolidated=False) as raw:
        raw = raw.load()
    assert "completed" not in raw
    assert (raw["outcome"] > 0).any()
    opened = open_sweep(finished)
    assert [variable.name for variable in SWEEP_VARIABLES if variable.name not in LATER] == list(opened.data_vars)
    assert not opened["total_time_s"].variable._in_memory
    part = opened.isel({"policy": [1, 0], "link.bandwidth": slice(1, None)})["total_time_s"]
    opened = opened.load()
    np.testing.assert_array_equal(opened["verdict_time_s"], raw["total_time_s"])
    np.testing.assert_array_equal(opened["completed"], raw["outcome"] == 0)
    np.testing.assert_array_equal(opened["total_time_s"], raw["total_time_s"].where(raw["outcome"] == 0))
    xr.testing.assert_identical(part.load(), opened["total_time_s"][[1, 0], 1:])


def test_a_store_of_that_time_is_gone_on_with(stores_of_ffc8473, monkeypatch):
    _, unfinished = stores_of_ffc8473
    before = open_sweep(unfinished)
    monkeypatch.setattr("migkit.run.store.MODEL_VERSION", before.attrs["model_version"])
    described = Sweep.from_toml(before.attrs["sweep"])
    done = before["outcome"].values >= 0
    assert done.sum() == before.attrs["migrations_missing"] == 4
    kept, folders = before.load(), {path.name for path in unfinished.iterdir()}
    after = sweep(described, store=unfinished).load()
    assert after.attrs["migrations_computed"] == 4
    assert {path.name for path in unfinished.iterdir()} == folders
    computed = sweep(described)
    assert not computed["completed"].values[~done].all()
    for name in ("outcome", "completed", "total_time_s", "verdict_time_s", "bytes_sent"):
        np.testing.assert_array_equal(after[name].values[done], kept[name].values[done], name)
        np.testing.assert_array_equal(after[name].values[~done], computed[name].values[~done], name)
    assert not any(Store.at(unfinished, Layout(described)).damaged())
