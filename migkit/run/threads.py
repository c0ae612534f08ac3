"""Who computes the migrations of a sweep: threads of this process, each a few at a time."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from migkit.kernels.parameters import Outputs
from migkit.run.batches import Block
from migkit.run.grid import Layout
from migkit.run.store import Store

__all__ = ["AHEAD", "BLOCK_PIECES", "PIECE_ROWS", "compute_block", "on_threads"]

PIECE_ROWS = {"expected": 4096, "bitmap": 16}
"""Migrations a thread takes at a time: so few that what they need stays in its cache."""
AHEAD = 1
"""Parts being computed beside the one that is waited for, so that no thread is idle at its end."""
BLOCK_PIECES = 4
"""Pieces of each thread in a block in memory."""
_LEAST_ROWS = {"expected": 64, "bitmap": 1}
_PIECES_A_THREAD = 8  # of a small part, so that all threads are busy to its end
_LARGE = 1 << 24


def _keep_freed_memory() -> None:
    # The GNU allocator hands what is freed back to the system, and every piece would get fresh pages, which costs a
    # tenth of what the kernels do; it keeps blocks up to the largest one freed so far.
    np.empty(_LARGE, np.uint8)


def _pieces(rows: int, most: int) -> list[slice]:
    return [slice(first, min(first + most, rows)) for first in range(0, rows, most)]


def _fill(layout: Layout, places: np.ndarray, columns: Outputs) -> None:
    """Compute migrations on this thread."""
    for rows in _pieces(places.shape[1], PIECE_ROWS[layout.sweep.engine]):
        for column, found in zip(columns, layout.run(places[:, rows]), strict=True):
            column[rows] = found


def compute_block(store: Store, block: Block) -> int:
    """Compute and write one block on this thread; the number of its migrations."""
    _keep_freed_memory()
    places = store.chunks.places(block)
    outputs = store.layout.empty(places.shape[1])
    _fill(store.layout, places, outputs)
    store.write(block, outputs)
    return places.shape[1]


def on_threads(
    layout: Layout, parts: Iterable[tuple[np.ndarray, Outputs]], threads: int
) -> Generator[Outputs, None, None]:
    """Compute migrations part by part; to be closed when the work ends early, which drops what is not begun.

    Parameters
    ----------
    layout : Layout
        Whose migrations.
    parts : iterable of (places, Outputs)
        Place along every dimension (dimensions, migrations), and where the results go, a row for each. A part is asked
        for when `AHEAD` others are being computed, and not before the one before those was taken.
    threads : int
        How many compute.

    Yields
    ------
    Outputs
        Those of `parts`, in their order, filled.
    """
    _keep_freed_memory()
    engine = layout.sweep.engine
    running: deque[tuple[Outputs, list[Future[None]]]] = deque()

    def finished() -> Outputs:
        columns, pieces = running.popleft()
        for piece in pieces:
            piece.result()
        return columns

    pool = ThreadPoolExecutor(threads, "migkit")
    try:
        for places, columns in parts:
            fair = math.ceil(places.shape[1] / (_PIECES_A_THREAD * threads))
            most = max(_LEAST_ROWS[engine], min(PIECE_ROWS[engine], fair))
            pieces = [
                pool.submit(_fill, layout, places[:, rows], Outputs(*(column[rows] for column in columns)))
                for rows in _pieces(places.shape[1], most)
            ]
            running.append((columns, pieces))
            if len(running) > AHEAD:
                yield finished()
        while running:
            yield finished()
    finally:
        pool.shutdown(cancel_futures=True)
