"""Numba kernels: the migration loop over two models of RAM.

``run`` computes many migrations at once, ``record`` one of them turn by turn. Both take the columns of
:class:`migkit.kernels.parameters.Parameters`; checking and labelling happen above.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from migkit.kernels import records
from migkit.kernels.parameters import Outputs, Parameters

ENGINES = ("expected", "bitmap")


class Timeline(NamedTuple):
    """One migration turn by turn; int64 columns, times in nanoseconds, sizes in bytes or pages as named."""

    t_ns: np.ndarray
    estimate: np.ndarray
    exact: np.ndarray  # -1: not asked
    threshold: np.ndarray
    pending: np.ndarray
    synced: np.ndarray
    throttle: np.ndarray
    ram_pages: np.ndarray
    ram_returned: np.ndarray  # -1: not called
    remaining_pages: np.ndarray
    sync_count: np.ndarray
    device_sent: np.ndarray  # turns x devices, without headers of sections; -1: not called


BLOCK_ROWS = {"expected": 64, "bitmap": 4}
"""Rows a thread takes at a time."""


def _memory(engine, blocks, cases, regions):
    """Records of the engine's memory, a row for each block of migrations; bitmaps are allocated by the kernel."""
    from migkit.kernels import bitmap, drivers, expected

    if engine == "bitmap":
        chunks = int((-(-cases["ram_pages"] // cases["chunk_pages"])).max())
        memory, head = np.zeros((blocks, chunks), bitmap.CHUNK), bitmap.BITMAP_HEAD
    else:
        segments = drivers.widest(cases, regions)
        memory, head = np.zeros((blocks, segments), expected.SEGMENT), expected.EXPECTED_HEAD
    return memory.view(np.recarray), np.zeros((blocks, 1), head).view(np.recarray)


def _rows(engine, packed, stops_early, seed, replicates, timeline, sent, parallel):
    from migkit.kernels import drivers
    from migkit.kernels.verdict import LAP

    cases, regions, devices = packed
    rows = cases.shape[0]
    parallel = parallel and rows > BLOCK_ROWS[engine]
    block = BLOCK_ROWS[engine] if parallel else rows
    blocks = -(-rows // block)
    states = np.zeros(blocks, records.STATE).view(np.recarray)
    lives = np.zeros((blocks, devices.shape[1]), records.LIVE).view(np.recarray)
    memory, heads = _memory(engine, blocks, cases, regions)
    laps = np.zeros((blocks, 1), LAP).view(np.recarray)
    reports = np.empty(rows, records.REPORT).view(np.recarray)  # every field is set by the kernel
    device_reports = np.empty(devices.shape, records.REPORT_DEVICE).view(np.recarray)
    draws = (seed, replicates) if engine == "bitmap" else (stops_early,)
    rest = (*draws, timeline, sent)
    with np.errstate(over="ignore"):  # 64-bit draws wrap around when the JIT is off
        if parallel:
            rows_of = drivers.expected_parallel if engine == "expected" else drivers.bitmap_parallel
            rows_of(block, cases, regions, devices, states, lives, reports, device_reports, memory, heads, laps, *rest)
        else:
            rows_of = drivers.expected_rows if engine == "expected" else drivers.bitmap_rows
            rows_of(
                0, rows, cases, regions, devices, states[0], lives[0], reports, device_reports, memory[0], heads[0],
                laps[0], *rest,
            )  # fmt: skip
    return records.unpack(reports, device_reports)


def run(
    parameters: Parameters | records.Packed,
    engine: str = "expected",
    seed: int = 0,
    replicate: int | np.ndarray = 0,
    parallel: bool = True,
    stops_early: bool = True,
) -> Outputs:
    """Migrate every row.

    Parameters
    ----------
    parameters : Parameters or Packed
        Columns, one row a migration; or records, as :meth:`migkit.run.grid.Grid.records_at` lays them out.
    engine : {"expected", "bitmap"}
        Model of RAM.
    seed : int
        Root of the draws; 0 or more. The expected engine draws nothing.
    replicate : int or array of int
        Number of the replicate, for all rows or one a row.
    parallel : bool
        On all of Numba's threads. The results are the same bits.
    stops_early : bool
        Stop at a state that repeats (expected engine); the verdict is that of running on to the time limit.

    Returns
    -------
    Outputs

    Examples
    --------
    >>> from migkit.scenario.rows import columns
    >>> from migkit import Guest, Link, Scenario
    >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> int(run(columns([scenario])).outcome[0])
    0
    """
    packed = parameters if isinstance(parameters, records.Packed) else records.pack(parameters)
    rows = packed.cases.shape[0]
    replicates = np.array(np.broadcast_to(replicate, (rows,)), np.int64)  # a copy: kernels are compiled for writable
    timeline = np.zeros(0, records.TURN).view(np.recarray)
    sent = np.zeros((0, 1), np.int64)
    return _rows(engine, packed, int(stops_early), seed, replicates, timeline, sent, parallel)


def record(
    parameters: Parameters, engine: str = "expected", seed: int = 0, replicate: int = 0, most: int = 200_000
) -> tuple[Outputs, Timeline]:
    """Migrate one row and keep its turns, at most the first ``most`` of them.

    The migration is computed twice: once to count its turns, once to write them down.
    """
    packed = records.pack(parameters)
    replicates = np.full(1, replicate, np.int64)
    none = np.zeros(0, records.TURN).view(np.recarray)
    devices = packed[2].shape[1]
    outputs = _rows(engine, packed, 1, seed, replicates, none, np.zeros((0, devices), np.int64), False)
    turns = min(most, int(outputs.turns[0]))
    timeline = np.zeros(max(1, turns), records.TURN).view(np.recarray)
    sent = np.full((max(1, turns), devices), -1, np.int64)
    outputs = _rows(engine, packed, 1, seed, replicates, timeline, sent, False)
    turns = min(turns, int(outputs.turns[0]))
    columns = {name: np.ascontiguousarray(timeline[name][:turns]) for name in records.TURN.names}
    return outputs, Timeline(**columns, device_sent=sent[:turns])
