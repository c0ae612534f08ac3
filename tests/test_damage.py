"""A damaged store is told in one sentence that names the file, and mended by the same sweep."""

import json
import os
import pickle
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from killed_sweep import DESCRIPTION as LARGE
from test_store import LATER
from typer.testing import CliRunner

import migkit
from migkit.cli import app
from migkit.run.checksums import CHECKSUMS, Checksums
from migkit.run.design import Sweep
from migkit.run.grid import Layout
from migkit.run.store import Store, open_sweep
from migkit.scenario.errors import AnotherSweep, DamagedStore

HERE = Path(__file__).parent
DESCRIPTION = LARGE.replace("12]", "3]").replace("11]", "4]")
SWEEP = Sweep.from_toml(DESCRIPTION)
BATCH_ROWS = 2


def fill(store):
    return migkit.sweep(SWEEP, store=store, batch_rows=BATCH_ROWS, threads=1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = tmp_path_factory.mktemp("store") / "undisturbed.zarr"
    fill(store)
    return store


@pytest.fixture
def store(tmp_path, undisturbed):
    copy = tmp_path / "r.zarr"
    shutil.copytree(undisturbed, copy)
    return copy


def files(store):
    """Every file of a store but the lock and the notes on who filled it when."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and "sessions" not in path.parts and path.name != ".lock"
    }


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def no_description(path):
    root = json.loads(path.read_text())
    root["attributes"]["sweep"] = "that is none"
    path.write_text(json.dumps(root))


def assert_told(store, named):
    """Opening, or reading what was opened, ends in one sentence that names the file."""
    with pytest.raises(DamagedStore) as told:
        open_sweep(store).load()
    text = str(told.value)
    assert f"is damaged: {named}" in text
    assert text.endswith("; the same sweep into this store mends it.")
    assert text.count("\n") == 0


DAMAGE = {
    "chunk flipped": ("total_time_s/c.1.0.2.0", lambda path: flip(path, 200)),
    "checksum flipped": ("total_time_s/c.1.0.2.0", lambda path: flip(path, 8 * path.stat().st_size - 1)),
    "outcome flipped": ("outcome/c.1.0.2.0", lambda path: flip(path, 133)),
    "chunk truncated": ("device_bytes/c.1.0.2.0.0", truncate),
    "chunk empty": ("device_bytes/c.1.0.2.0.0", empty),
    "chunk lost": ("downtime_s/c.1.0.2.0", remove),
    "chunk of devices lost": ("device_ack_s/c.1.0.2.0.0", remove),
    "coordinate flipped": ("link.bandwidth/c/0", lambda path: flip(path, 160)),
    "coordinate truncated": ("link.bandwidth/c/0", truncate),
    "coordinate lost": ("link.bandwidth/c/0", remove),
    "coordinate lost whole": ("policy", remove),
    "root truncated": ("zarr.json", truncate),
    "root lost": ("zarr.json", remove),
    "root flipped": ("zarr.json", lambda path: flip(path, 8 * path.read_bytes().index(b"expected"))),
    "no description": ("zarr.json", no_description),
    "metadata truncated": ("total_time_s/zarr.json", truncate),
    "metadata lost": ("total_time_s/zarr.json", remove),
    "scale": ("total_time_s/zarr.json", lambda path: path.write_text(path.read_text().replace("1e-09", "1e-08"))),
    "metadata of the outcome empty": ("outcome/zarr.json", empty),
    "variable lost whole": ("stop_time_s", remove),
    "outcome lost whole": ("outcome", remove),
    "sessions lost": ("sessions", remove),
    "sessions truncated": ("sessions/zarr.json", truncate),
    "sessions flipped": ("sessions/zarr.json", lambda path: flip(path, 8 * path.read_bytes().index(b"threads"))),
    "checksums lost": (CHECKSUMS, remove),
    "checksums truncated": (f"{CHECKSUMS}/zarr.json", truncate),
    "checksums flipped": (f"{CHECKSUMS}/zarr.json", lambda path: flip(path, 8 * path.read_bytes().index(b"outcome"))),
}


@pytest.mark.parametrize(("name", "harm"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_told_and_mended(store, undisturbed, monkeypatch, name, harm):
    harm(store / name)
    assert_told(store, name)
    computed, run = [], Layout.run

    def counted(self, places, into, stop):
        computed.append(places.shape[1])
        return run(self, places, into, stop)

    monkeypatch.setattr(Layout, "run", counted)
    mended = fill(store)
    if "/c." in name:
        assert 0 < sum(computed) <= BATCH_ROWS
    assert sum(computed) <= (SWEEP_ROWS if Path(name).suffix == "" else BATCH_ROWS)
    assert files(store) == files(undisturbed)
    xr.testing.assert_equal(mended.load(), open_sweep(undisturbed).load())


SWEEP_ROWS = Layout(SWEEP).migrations


@pytest.mark.parametrize("seed", range(16))
def test_no_flipped_bit_is_read_as_a_number(store, undisturbed, seed):
    draw = random.Random(seed)
    path = draw.choice([path for path in sorted(store.rglob("*")) if path.is_file() and path.name != ".lock"])
    flip(path, draw.randrange(8 * path.stat().st_size))
    name = path.relative_to(store).as_posix()
    assert_told(store, name)


def test_the_command_line_tells_it_in_one_line(store, tmp_path):
    truncate(store / "total_time_s" / "c.0.0.0.0")
    result = CliRunner().invoke(app, ["export", str(store), "-o", str(tmp_path / "t.csv")])
    assert result.exit_code == 2
    assert "is damaged: total_time_s/c.0.0.0.0 does not have its checksum" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.csv*"))


def test_a_chunk_that_is_lost_after_opening(store):
    opened = open_sweep(store)
    (store / "total_time_s" / "c.0.0.0.0").unlink()
    with pytest.raises(DamagedStore, match=r"total_time_s/c\.0\.0\.0\.0 is missing"):
        opened["total_time_s"].load()


def test_an_opened_store_can_be_sent_to_another_process(store):
    opened = open_sweep(store)
    sent = pickle.loads(pickle.dumps(opened))
    xr.testing.assert_identical(sent.load(), opened.load())
    told = pickle.loads(pickle.dumps(DamagedStore("r.zarr", "zarr.json", "is missing")))
    assert isinstance(told, DamagedStore)
    assert str(told) == '"r.zarr" is damaged: zarr.json is missing; the same sweep into this store mends it.'


def test_another_sweep_does_not_mend(store):
    other = Sweep.from_toml(LARGE)
    truncate(store / "zarr.json")
    before = files(store)
    with pytest.raises(DamagedStore, match=r"is damaged: zarr\.json .*; compute the sweep again under another name"):
        migkit.sweep(other, store=store)
    assert files(store) == before
    truncate(store / "outcome" / "zarr.json")
    (store / "zarr.json").write_bytes(b"")
    shutil.rmtree(store / CHECKSUMS)
    with pytest.raises(DamagedStore, match="under another name"):
        fill(store)


def test_damaged_batches_of_another_model_are_not_computed_again(store, monkeypatch):
    flip(store / "outcome" / "c.0.0.0.0", 133)
    before = files(store)
    monkeypatch.setattr("migkit.run.store.MODEL_VERSION", "another")
    with pytest.raises(DamagedStore, match=r"outcome/c\.0\.0\.0\.0 .*; compute the sweep again under another name"):
        fill(store)
    assert files(store) == before


@pytest.fixture
def without_checksums(tmp_path):
    """Stores that the last commit without checksums has written, a finished one and one with one of four batches."""
    shutil.unpack_archive(HERE / "data" / "stores-80a5241.zip", tmp_path)
    return tmp_path / "finished.zarr", tmp_path / "unfinished.zarr"


def test_stores_without_checksums(without_checksums, monkeypatch):
    finished, unfinished = without_checksums
    opened = open_sweep(finished)
    assert opened.attrs["migrations_missing"] == 0
    described = Sweep.from_toml(opened.attrs["sweep"])
    computed = migkit.sweep(described)
    monkeypatch.setattr(Layout, "run", lambda *_: pytest.fail("computed something"))
    before = files(finished)
    returned = migkit.sweep(described, store=finished)
    assert files(finished) == before
    assert set(computed.variables) - set(returned.variables) == set(LATER)
    for name in returned.variables:
        np.testing.assert_array_equal(returned[name], computed[name], name)
    assert open_sweep(unfinished).attrs["migrations_missing"] == 6
    with pytest.raises(AnotherSweep, match=r"was begun by another model \(1, and this is \d+\)"):
        migkit.sweep(described, store=unfinished)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("total_time_s/c.0.0", truncate),
        ("total_time_s/c.0.0", remove),
        ("total_time_s/zarr.json", truncate),
        ("zarr.json", truncate),
        ("zarr.json", no_description),
        ("link.bandwidth/zarr.json", remove),
        ("sessions", remove),
        ("sessions/zarr.json", empty),
        ("policy", remove),
    ],
)
def test_damage_of_a_store_without_checksums(without_checksums, name, harm):
    finished, _ = without_checksums
    described = Sweep.from_toml(open_sweep(finished).attrs["sweep"])
    harm(finished / name)
    for act in (lambda: open_sweep(finished).load(), lambda: migkit.sweep(described, store=finished).load()):
        with pytest.raises(DamagedStore) as told:
            act()
        assert f"is damaged: {name}" in str(told.value)
        assert str(told.value).endswith("; compute the sweep again under another name.")


def test_checksums_name_what_is_damaged(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"c")
    noted = Checksums.of(tmp_path, (2, 3))
    noted.write(tmp_path)
    assert Checksums.read(tmp_path) == noted
    assert not list(noted.damaged(tmp_path))
    (tmp_path / "a").write_bytes(b"b")
    (tmp_path / "b" / "c").unlink()
    assert list(noted.damaged(tmp_path)) == ["a", "b/c"]


def test_a_store_that_is_filled_by_another_call_is_not_called_damaged(tmp_path):
    layout = Layout(SWEEP)
    store = Store.at(tmp_path / "r.zarr", layout, BATCH_ROWS)
    with store.session("one") as missing:
        for batch in missing[:3]:
            store.write(batch, layout.run(store.batches.places(batch)))
            open_sweep(store.path).load()
