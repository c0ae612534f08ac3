"""Who computes the blocks of a sweep: threads of this process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from migkit.chunks import Block
from migkit.parameters import Outputs
from migkit.store import Store

__all__ = ["compute_block", "on_threads"]

PIECES = 16
"""Parts of a block that threads take at a time, so that all are busy to the end."""
BLOCKS_IN_FLIGHT = 1
"""Blocks being computed while one is written: memory holds no more."""


def compute_block(store: Store, block: Block) -> int:
    """Compute and write one block; the number of its migrations."""
    places = store.chunks.places(block)
    store.write(block, store.layout.run(places, parallel=False))
    return places.shape[1]


def on_threads(store: Store, blocks: list[Block], threads: int, advance: Callable[[int], object]) -> None:
    """Compute blocks on threads of this process and write them, the first ones first.

    Parameters
    ----------
    store : Store
        Where they go.
    blocks : list of Block
        What is missing.
    threads : int
        How many compute; this one writes beside them.
    advance : callable
        Told the number of migrations of each block that is finished.
    """
    running: deque[tuple[Block, list[Future[Outputs]]]] = deque()

    def finish() -> None:
        block, pieces = running.popleft()
        parts = [piece.result() for piece in pieces]
        outputs = Outputs(*map(np.concatenate, zip(*parts, strict=True))) if len(parts) > 1 else parts[0]
        store.write(block, outputs)
        advance(len(outputs.outcome))

    pool = ThreadPoolExecutor(threads, "migkit")
    try:
        for block in blocks:
            places = store.chunks.places(block)
            pieces = np.array_split(places, min(PIECES, places.shape[1]), axis=1)
            running.append((block, [pool.submit(store.layout.run, piece, False) for piece in pieces]))
            if len(running) > BLOCKS_IN_FLIGHT:
                finish()
        while running:
            finish()
    finally:
        pool.shutdown(cancel_futures=True)
