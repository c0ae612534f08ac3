"""Many migrations: a thin loop over rows, one compiled serial and one parallel, for either model of RAM."""

from __future__ import annotations

import numba
import numpy as np

from migkit.kernels.bitmap import BitmapRam
from migkit.kernels.expected import ExpectedRam, most_segments
from migkit.kernels.loop import migrate
from migkit.kernels.options import allocating_kernel, kernel, parallel_kernel
from migkit.kernels.random import BLOCK_WORDS, MOST_HITS
from migkit.kernels.verdict import Scratch
from migkit.kernels.windows import DEVICE_FIELDS, FIELDS


@allocating_kernel
def scratch_for(devices, lap, stops_early):
    """What one running migration needs besides its memory."""
    return Scratch(
        np.zeros(FIELDS, np.int64),
        np.zeros((devices, DEVICE_FIELDS), np.int64),
        np.zeros(FIELDS, np.int64),
        np.zeros((devices, DEVICE_FIELDS), np.int64),
        lap,
        stops_early,
    )


@allocating_kernel
def widest(cases, regions):
    """Segments of the expected engine that have room for any of these migrations."""
    most = 0
    for i in range(cases.shape[0]):
        most = max(most, most_segments(cases[i], regions[i]))
    return most


@allocating_kernel
def expected_rows(
    first, last, cases, regions, devices, state, live, reports, device_reports, segments, head, lap, stops_early,
    timeline, sent,
):  # fmt: skip
    """Migrate rows ``first`` to ``last`` (exclusive) with the expected engine, one after the other."""
    ram = ExpectedRam(segments, head[0])
    scratch = scratch_for(devices.shape[1], lap, stops_early)
    for i in range(first, last):
        migrate(
            ram, cases[i], regions[i], devices[i], state, live, reports[i], device_reports[i], scratch, 0, 0,
            timeline, sent,
        )  # fmt: skip


@allocating_kernel
def bitmap_ram(words, log_words, chunks, head):
    """Memory of the bitmap engine: ``words`` of 64 pages, of them ``log_words`` with a dirty log."""
    return BitmapRam(
        np.empty(words, np.uint64),
        np.empty(log_words, np.uint64),
        chunks,
        head,
        np.empty((2, BLOCK_WORDS), np.uint64),
        np.empty((2, MOST_HITS), np.uint64),
        np.full(2, -1.0),
    )


@allocating_kernel
def bitmap_rows(
    first, last, cases, regions, devices, state, live, reports, device_reports, chunks, head, lap, seed, replicates,
    timeline, sent,
):  # fmt: skip
    """Migrate rows ``first`` to ``last`` (exclusive) with the bitmap engine; ``replicates`` has one number a row."""
    words, log_words = 1, 1
    for i in range(first, last):
        words = max(words, (cases[i].ram_pages + 63) // 64)
        if cases[i].lazy_clear == 1:
            log_words = words
    ram = bitmap_ram(words, log_words, chunks, head)
    scratch = scratch_for(devices.shape[1], lap, 0)
    for i in range(first, last):
        migrate(
            ram, cases[i], regions[i], devices[i], state, live, reports[i], device_reports[i], scratch, seed,
            replicates[i], timeline, sent,
        )  # fmt: skip


@kernel
def blocks_of(rows, block):
    """Blocks of ``block`` rows; the last one may be shorter."""
    return (rows + block - 1) // block


@kernel
def spread(j, rows, block):
    """The ``j``-th block to visit and its rows: neighbours, that cost alike, go to different threads.

    Returns
    -------
    b, first, last : int
        Number of the block; its rows, ``last`` exclusive.
    """
    blocks = blocks_of(rows, block)
    stride = 7919 if blocks % 7919 != 0 else 7907
    b = (j * stride) % blocks
    return b, b * block, min(rows, (b + 1) * block)


@parallel_kernel
def expected_parallel(
    block, cases, regions, devices, states, lives, reports, device_reports, segments, heads, laps, stops_early,
    timeline, sent,
):  # fmt: skip
    """Migrate all rows with the expected engine, ``block`` at a time, on all threads."""
    for j in numba.prange(blocks_of(cases.shape[0], block)):
        b, first, last = spread(j, cases.shape[0], block)
        expected_rows(
            first, last, cases, regions, devices, states[b], lives[b], reports, device_reports,
            segments[b], heads[b], laps[b], stops_early, timeline, sent,
        )  # fmt: skip


@parallel_kernel
def bitmap_parallel(
    block, cases, regions, devices, states, lives, reports, device_reports, chunks, heads, laps, seed, replicates,
    timeline, sent,
):  # fmt: skip
    """Migrate all rows with the bitmap engine, ``block`` at a time, on all threads."""
    for j in numba.prange(blocks_of(cases.shape[0], block)):
        b, first, last = spread(j, cases.shape[0], block)
        bitmap_rows(
            first, last, cases, regions, devices, states[b], lives[b], reports, device_reports,
            chunks[b], heads[b], laps[b], seed, replicates, timeline, sent,
        )  # fmt: skip
