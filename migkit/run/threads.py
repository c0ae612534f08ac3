"""The threads of this process that compute the migrations of a sweep, a piece of a few thousand at a time."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from migkit.kernels.state import Reports
from migkit.run.batches import Batch
from migkit.run.grid import Layout
from migkit.run.progress import announce_compilation
from migkit.run.store import Store

__all__ = ["AHEAD", "BATCH_PIECES", "PIECE_ROWS", "compute_batch", "on_threads"]

Stop = Callable[[], bool]

PIECE_ROWS = {"expected": 4096, "bitmap": 16}
"""Migrations of a piece: few enough that what a thread needs for them stays in its cache."""
AHEAD = 1
"""Batches computed beside the one that is waited for, so that no thread is idle at its end."""
BATCH_PIECES = 4
"""Pieces of each thread in a batch of a sweep in memory."""
_LEAST_ROWS = {"expected": 64, "bitmap": 1}
_PIECES_PER_THREAD = 8  # of a small batch, so that all threads are busy to its end
_LARGE = 1 << 24


def _keep_freed_memory() -> None:
    # The GNU allocator returns freed memory to the system, and every piece would get fresh pages, which costs a tenth
    # of what the kernels do. It keeps allocations up to the size of the largest one freed so far.
    np.empty(_LARGE, np.uint8)


def _pieces(rows: int, most: int) -> list[slice]:
    return [slice(first, min(first + most, rows)) for first in range(0, rows, most)]


def _rows_of(reports: Reports, rows: slice) -> Reports:
    return Reports(*(part[rows] for part in reports))


def _compute(layout: Layout, places: np.ndarray, target: Reports, rows: slice, stop: Stop) -> None:
    layout.run(places, into=_rows_of(target, rows), stop=stop)


def compute_batch(store: Store, batch: Batch) -> int:
    """Compute and write one batch on this thread; return the number of its migrations."""
    _keep_freed_memory()
    places = store.batches.places(batch)
    reports = store.layout.empty(places.shape[1])
    for rows in _pieces(places.shape[1], PIECE_ROWS[store.layout.sweep.engine]):
        store.layout.run(places[:, rows], into=_rows_of(reports, rows))
    store.write(batch, reports)
    return places.shape[1]


def on_threads(
    layout: Layout,
    batches: Iterable[tuple[np.ndarray, Any]],
    threads: int,
    compute: Callable[[Layout, np.ndarray, Any, slice, Stop], None] = _compute,
) -> Generator[Any, None, None]:
    """Compute migrations batch by batch. Close the generator to end early: the threads end within a second.

    Parameters
    ----------
    layout : Layout
        The sweep.
    batches : iterable of (places, target)
        Place along every dimension (dimensions, migrations), and where the results go. A batch is requested when
        `AHEAD` others are being computed, and not before the one before those was taken.
    threads : int
        How many compute.
    compute : callable, optional
        ``compute(layout, places, target, rows, stop)`` computes some rows of a batch and writes them to its target;
        called on the threads. ``stop()`` says whether to end without them. By default the target is a ``Reports`` with
        a row for each migration.

    Yields
    ------
    object
        The targets, in the order of `batches`, filled.
    """
    announce_compilation()
    _keep_freed_memory()
    engine = layout.sweep.engine
    running: deque[tuple[Any, list[Future[None]]]] = deque()

    def finished() -> Any:
        target, pieces = running.popleft()
        for piece in pieces:
            piece.result()
        return target

    pool, ending = ThreadPoolExecutor(threads, "migkit"), threading.Event()
    try:
        for places, target in batches:
            fair = math.ceil(places.shape[1] / (_PIECES_PER_THREAD * threads))
            most = max(_LEAST_ROWS[engine], min(PIECE_ROWS[engine], fair))
            pieces = [
                pool.submit(compute, layout, places[:, rows], target, rows, ending.is_set)
                for rows in _pieces(places.shape[1], most)
            ]
            running.append((target, pieces))
            if len(running) > AHEAD:
                yield finished()
        while running:
            yield finished()
    finally:
        ending.set()
        pool.shutdown(cancel_futures=True)
