"""Files and folders are there whole or not at all, and temporary names harm nobody."""

import errno
import os
import re
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from migkit.run import whole_file as module
from migkit.run.whole_file import is_partial, new_file, whole_file, whole_folder


@pytest.fixture(params=["without a name", "with a temporary name"], autouse=True)
def how(request, monkeypatch):
    if request.param == "with a temporary name":
        monkeypatch.setattr(module, "_OPEN_FILES", "/nowhere")
    return request.param


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_complete(tmp_path, how):
    with whole_file(tmp_path / "a.txt") as file:
        file.write(b"all of it")
        there = names(tmp_path)
        assert not there if how == "without a name" else is_partial(*there)
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"all of it"


def test_a_new_file_never_replaces_one(tmp_path):
    with new_file(tmp_path / "a.txt") as file:
        file.write(b"first")
    with pytest.raises(FileExistsError) as caught, new_file(tmp_path / "a.txt") as file:
        file.write(b"second")
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"first"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    (tmp_path / "a.txt").write_bytes(b"old")

    def write():
        with whole_file(tmp_path / "a.txt") as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"old"


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path):
    with pytest.raises(OSError, match="No space left") as caught, whole_file(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "nowhere" / "a.txt"):
        pass
    assert caught.value.filename == str(tmp_path / "nowhere" / "a.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught, whole_file(tmp_path / "folder"):
        pass
    assert caught.value.filename == str(tmp_path / "folder")
    with pytest.raises(OSError, match="other") as caught, whole_file(tmp_path / "a.txt"):
        raise OSError(errno.EIO, "other", "other.toml")
    assert caught.value.filename == "other.toml"
    assert names(tmp_path) == ["folder"]


def test_permissions(tmp_path):
    with whole_file(tmp_path / "new"):
        pass
    (tmp_path / "usual").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode
    (tmp_path / "usual").chmod(0o640)
    with whole_file(tmp_path / "usual"):
        pass
    assert stat.S_IMODE((tmp_path / "usual").stat().st_mode) == 0o640


def test_a_link_is_followed_to_the_file_that_is_meant(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "there" / "a.txt")
    with whole_file(tmp_path / "link.txt") as file:
        file.write(b"x")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "there" / "a.txt").read_bytes() == b"x"


def test_a_link_at_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr("secrets.token_hex", lambda size: "00" * size)
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / f".a.txt.{'0' * 16}.partial").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError), whole_file(tmp_path / "a.txt") as file:
        file.write(b"x")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with whole_folder(tmp_path / "deep" / "r.zarr") as new:
        new.mkdir()
        (new / "a").touch()
        assert not (tmp_path / "deep" / "r.zarr").exists()
    assert names(tmp_path / "deep") == ["r.zarr"]
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "deep" / "r.zarr").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    (tmp_path / "r.zarr").mkdir()
    (tmp_path / "r.zarr" / "old").touch()

    def make():
        with whole_folder(tmp_path / "r.zarr", replaced=tmp_path / "r.old") as new:
            new.mkdir()
            raise error

    with pytest.raises(error):
        make()
    assert names(tmp_path) == ["r.zarr"]
    assert names(tmp_path / "r.zarr") == ["old"]


def test_a_folder_is_replaced_only_when_asked(tmp_path):
    for name in ("old", "new"):
        with whole_folder(tmp_path / "r.zarr", replaced=tmp_path / "r.old") as folder:
            folder.mkdir()
            (folder / name).touch()
    assert names(tmp_path) == ["r.zarr"]
    assert names(tmp_path / "r.zarr") == ["new"]
    with pytest.raises(FileExistsError), whole_folder(tmp_path / "r.zarr") as folder:
        folder.mkdir()
    assert names(tmp_path) == ["r.zarr"]


def test_one_of_many_threads_makes_the_folder(tmp_path):
    ready = threading.Barrier(8)

    def make(number):
        with whole_folder(tmp_path / "r.zarr") as new:
            new.mkdir()
            (new / str(number)).touch()
            ready.wait()
        return number

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(make, number) for number in range(8)]
    failed = [future.exception() for future in futures if future.exception()]
    assert len(failed) == 7
    assert all(isinstance(error, OSError) and error.filename == str(tmp_path / "r.zarr") for error in failed)
    assert names(tmp_path) == ["r.zarr"]
    assert len(names(tmp_path / "r.zarr")) == 1


def test_only_left_overs_of_the_own_pattern_and_of_long_ago_are_removed(tmp_path):
    named = (".r.zarr.abcd_123.new", ".r.zarr.efgh_456.new", ".r.zarr.mine.new")
    own, live, other = (tmp_path / name for name in named)
    for folder in (own, live, other):
        (folder / "r.zarr").mkdir(parents=True)
    link = tmp_path / ".r.zarr.link_678.new"
    link.symlink_to(other)
    for folder in (own, other, link):
        for path in (folder / "r.zarr", folder):
            os.utime(path, (0, 0), follow_symlinks=False)
    with whole_folder(tmp_path / "r.zarr") as new:
        new.mkdir()
    assert names(tmp_path) == sorted(["r.zarr", live.name, other.name, link.name])
    assert re.fullmatch(r"\.r\.zarr\.[a-z0-9_]{8}\.new", own.name)
    assert Path(other, "r.zarr").is_dir()
