"""Numbers of migrations that are kept while others are computed, for results that are not the grid of a sweep.

A frontier or a sensitivity computes migrations that are not known before, so that no store of a sweep fits. What is
computed is kept in a folder instead: a file a batch, each written whole or not at all. Whatever ends the process, the
same call reads them and computes the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from migkit.kernels.state import MODEL_VERSION
from migkit.run.progress import tell
from migkit.run.whole_file import checked_path, is_partial, whole_file
from migkit.scenario.errors import AnotherSweep, ScenarioError, Unfinished

__all__ = ["Kept", "kept_in"]

_LOG = logging.getLogger(__name__)
_QUESTION = "question.json"
_LOCK = ".lock"


class Kept:
    """Rows of numbers by the number of a migration, in memory and, if there is a folder, on disk.

    Parameters
    ----------
    dtype : numpy.dtype
        What is kept of a migration.
    folder : Path, optional
        Where; without one nothing is kept when the process ends.

    Attributes
    ----------
    numbers : int64 array
        The migrations that are known, in rising order.
    rows : array
        What is known of them.
    """

    def __init__(self, dtype: np.dtype, folder: Path | None = None) -> None:
        self._folder = folder
        self._written = 0
        self.numbers, self.rows = np.zeros(0, np.int64), np.zeros(0, dtype)
        if folder is None:
            return
        pieces = sorted(folder.glob("*.npz"))
        self._written = 1 + max((int(piece.stem) for piece in pieces), default=-1)
        for piece in pieces:
            try:
                with open(piece, "rb") as file, np.load(file) as found:  # np.load alone leaves a damaged file open
                    numbers, rows = found["numbers"], found["rows"].astype(dtype, casting="no", copy=False)
            except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, TypeError):
                _LOG.warning("%s: is damaged and removed; what it held is computed again.", piece)
                piece.unlink()
            else:
                self._learn(numbers, rows)

    def _learn(self, numbers: np.ndarray, rows: np.ndarray) -> None:
        every = np.concatenate([self.numbers, numbers])
        self.numbers, first = np.unique(every, return_index=True)
        self.rows = np.concatenate([self.rows, rows])[first]

    def has(self, numbers: np.ndarray) -> np.ndarray:
        """Which of these migrations are known."""
        return np.isin(numbers, self.numbers, assume_unique=True)

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """What is known of migrations that are."""
        return self.rows[np.searchsorted(self.numbers, numbers)]

    def keep(self, numbers: np.ndarray, rows: np.ndarray) -> None:
        """Add a batch, in memory and on disk."""
        if self._folder is not None:
            with whole_file(self._folder / f"{self._written:08d}.npz") as file:
                np.savez(file, numbers=numbers, rows=rows)
            self._written += 1
        self._learn(numbers, rows)

    def __len__(self) -> int:
        return len(self.numbers)


@contextlib.contextmanager
def kept_in(store: Any, question: Mapping[str, Any], dtype: Any) -> Iterator[Kept]:
    """Keep what is computed in a folder, and say what is kept in the error that ends the computation.

    Parameters
    ----------
    store : str, path or None
        The folder, made if there is none; None keeps nothing.
    question : mapping
        What is computed, as JSON holds it: a folder that was filled for another question is refused.
    dtype : numpy.dtype
        What is kept of a migration.

    Yields
    ------
    Kept

    Raises
    ------
    ScenarioError
        If something else is in the folder, or if another process is filling it.
    Unfinished
        If the disk is full. A KeyboardInterrupt has a note on what is kept.
    """
    folder = None if store is None else checked_path("store", store)
    with contextlib.ExitStack() as stack:
        if folder is not None:
            stack.enter_context(_opened(folder, question))
        kept = Kept(np.dtype(dtype), folder)
        before = len(kept)
        try:
            yield kept
            if before and len(kept) == before:
                tell(f"{folder}: nothing was computed, all {before} migrations are there")
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(_said(folder, kept))
            raise
        except OSError as error:
            if folder is None:
                raise
            raise Unfinished(f"{folder}: {error.strerror or error}; {_said(folder, kept)}.") from error


def _said(folder: Path | None, kept: Kept) -> str:
    if folder is None:
        return f"{len(kept)} migrations were finished and nothing is kept, with store= they would be"
    return f"{folder}: {len(kept)} migrations are finished and kept, the same call goes on from there"


@contextlib.contextmanager
def _opened(folder: Path, question: Mapping[str, Any]) -> Iterator[None]:
    """Make the folder or hold it against the question, and lock it."""
    from filelock import FileLock, Timeout

    text = json.dumps({**question, "model_version": MODEL_VERSION}, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    asked = folder / _QUESTION
    if folder.exists() and not asked.exists() and (not folder.is_dir() or _holds_something(folder)):
        raise ScenarioError("is there already and holds no finished migrations: give another name", "store",
                            str(folder))  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / _LOCK, timeout=0):
            if not asked.exists():
                with whole_file(asked) as file:
                    file.write(json.dumps({"sha256": digest, "migkit": json.loads(text)}, indent=2).encode())
            elif _digest(asked) != digest:
                raise AnotherSweep("holds the migrations of another question or of another model: give another name",
                                   "store", str(folder))  # fmt: skip
            for entry in folder.iterdir():  # of processes that were killed
                if is_partial(entry.name):
                    entry.unlink(missing_ok=True)
            yield
    except Timeout:
        raise ScenarioError("is being filled by another process: wait for it, or give another name", "store",
                            str(folder)) from None  # fmt: skip


def _holds_something(folder: Path) -> bool:
    return any(entry.name != _LOCK and not is_partial(entry.name) for entry in folder.iterdir())


def _digest(asked: Path) -> str:
    try:
        return str(json.loads(asked.read_text(encoding="utf-8"))["sha256"])
    except (ValueError, KeyError, TypeError):
        return ""
