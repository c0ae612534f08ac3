"""Files and folders that are written whole or not at all.

A file has no name until it is complete, where the file system has such files (Linux, O_TMPFILE): a killed process
leaves nothing. Elsewhere, and for folders, what is being written has a temporary name in the same folder, random and
created exclusively, so that two processes never share one and a symbolic link in its place is not followed; it is
removed on any exception, and a killed process leaves it behind. (A loss of power may take data still in memory.)
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from migkit.scenario.errors import ScenarioError

__all__ = ["checked_path", "is_partial", "new_file", "whole_file", "whole_folder"]

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{16}\.partial")
_OPEN_FILES = "/proc/self/fd"
_FOLDER_SUFFIX = ".new"
_LEFT_OVER_AFTER_S = 3600.0
"""A folder is filled within seconds; one that has not changed for so long belongs to a process that was killed."""


def checked_path(field: str, given: Any) -> Path:
    """Return what was given as a path if it can be one.

    Parameters
    ----------
    field : str
        What it is called, for the error.
    given : str or path

    Raises
    ------
    ScenarioError
        If it is neither, or empty, or holds what no name of a file can hold.

    Examples
    --------
    >>> checked_path("store", "result.zarr").name
    'result.zarr'
    """
    if not isinstance(given, str | os.PathLike) or not isinstance(text := os.fspath(given), str) or not text:
        raise ScenarioError("is not the path of a file or folder", field, given)
    try:
        unusable = b"\0" in os.fsencode(text)
    except UnicodeEncodeError:  # half a character
        unusable = True
    if unusable:
        raise ScenarioError("cannot be the name of a file or folder", field, text)
    return Path(given)


def is_partial(name: str) -> bool:
    """Whether this is the temporary name of a file of :func:`whole_file`.

    Examples
    --------
    >>> is_partial(".table.csv.0123456789abcdef.partial"), is_partial("notes.partial")
    (True, False)
    """
    return _PARTIAL.fullmatch(name) is not None


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file that takes its name when the ``with`` statement ends without an exception.

    A file of this name is replaced and its permissions are kept; a symbolic link is followed, as by :func:`open`.

    Parameters
    ----------
    path : str or path
        The file's name; its folder must exist.

    Yields
    ------
    BinaryIO
        The file, open for reading and writing.

    Raises
    ------
    OSError
        If it cannot be written; ``filename`` is `path`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(f"{folder}/a.txt") as file:
    ...         size = file.write(b"all of it")
    ...     os.listdir(folder)
    ['a.txt']
    """
    final = os.path.realpath(path)
    partial = _partial_name(final)
    with _named_in_errors(path, partial), _incomplete(partial) as (file, name_it):
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(final).st_mode
            if stat.S_ISREG(mode):
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
        yield file
        file.close()
        name_it()
        os.replace(partial, final)


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[BinaryIO]:
    """Write a file as :func:`whole_file` does, but never replace one.

    Parameters
    ----------
    path : str or path
        The file's name; its folder must exist.

    Yields
    ------
    BinaryIO
        The file, open for reading and writing.

    Raises
    ------
    FileExistsError
        If there is something of this name when the file is complete.
    OSError
        If it cannot be written; ``filename`` is `path`.
    """
    partial = _partial_name(os.path.abspath(path))
    with _named_in_errors(path, partial), _incomplete(partial) as (file, name_it):
        yield file
        file.close()
        name_it()
        os.link(partial, path)
        os.unlink(partial)


def _partial_name(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name[:40]}.{secrets.token_hex(8)}.partial")


@contextlib.contextmanager
def _incomplete(partial: str) -> Iterator[tuple[BinaryIO, Callable[[], None]]]:
    """Open a file, and give what lets it have the name `partial` once it is written, if it has none before.

    Who writes it may close it.
    """
    folder, name = os.path.split(partial)
    with contextlib.ExitStack() as stack:
        stack.callback(_unlink_if_there, partial)
        try:
            if not os.path.isdir(_OPEN_FILES):
                raise OSError
            own = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o666)
        except (AttributeError, OSError):
            yield stack.enter_context(open(partial, "x+b", opener=_exclusively)), lambda: None
            return
        stack.callback(os.close, own)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        stack.callback(os.close, directory)
        # With dst_dir_fd Python calls linkat, which follows the link in /proc; link would not.
        yield (
            stack.enter_context(open(os.dup(own), "w+b")),
            lambda: os.link(f"{_OPEN_FILES}/{own}", name, dst_dir_fd=directory, follow_symlinks=True),
        )


def _unlink_if_there(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _exclusively(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


@contextlib.contextmanager
def whole_folder(path: str | Path, replaced: Path | None = None) -> Iterator[Path]:
    """Fill a folder that takes its name when the ``with`` statement ends without an exception.

    Parameters
    ----------
    path : str or path
        The folder's name; the folder it lies in is made if it is missing.
    replaced : path, optional
        Replace a folder of the name `path`. A folder cannot be renamed over another one: the earlier one is renamed to
        `replaced` while the new one takes its place, then removed.

    Yields
    ------
    Path
        A name in a temporary folder, at which to make the folder.

    Raises
    ------
    FileExistsError
        If there is something of this name and it is not to be replaced.
    OSError
        If it cannot be written; ``filename`` is `path`.
    """
    final = Path(os.path.abspath(path))
    prefix = f".{final.name}."
    with _named_in_errors(path, str(final.parent / prefix)):
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_over_folders(final)
        with tempfile.TemporaryDirectory(_FOLDER_SUFFIX, prefix, final.parent, ignore_cleanup_errors=True) as temporary:
            new = Path(temporary, final.name)
            yield new
            if replaced is not None and final.is_dir():
                shutil.rmtree(replaced, ignore_errors=True)
                final.rename(replaced)
            elif os.path.lexists(final):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            new.rename(final)
            if replaced is not None:
                shutil.rmtree(replaced, ignore_errors=True)


def _remove_left_over_folders(path: Path) -> None:
    """Remove what killed processes have left; a folder that may be in use, on this host or another, stays."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}{re.escape(_FOLDER_SUFFIX)}")
    for left in path.parent.iterdir():
        if not name.fullmatch(left.name) or left.is_symlink():
            continue
        with contextlib.suppress(OSError):  # another process removes it too
            newest = max(each.lstat().st_mtime for each in (left, *left.iterdir()))
            if time.time() - newest > _LEFT_OVER_AFTER_S:
                shutil.rmtree(left)


@contextlib.contextmanager
def _named_in_errors(path: str | Path, partial: str) -> Iterator[None]:
    """Name `path` in an OSError that names no file or the temporary one, and say so if its folder is not there."""
    try:
        yield
    except OSError as error:
        folder = os.path.dirname(os.path.abspath(path))
        if isinstance(error, FileNotFoundError) and not os.path.isdir(folder):
            raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}", str(path)) from None
        if error.filename is None or str(error.filename).startswith(partial):
            error.filename, error.filename2 = str(path), None
        raise
