"""Many migrations: one loop over the rows of a batch, compiled once for either model of RAM."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import cache
from types import FunctionType
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from migkit.kernels import state
from migkit.kernels.fast_forward import remember
from migkit.kernels.interpreted import interpreted
from migkit.kernels.management import copy_link, management_setup
from migkit.kernels.migration import migration_thread, write_report
from migkit.kernels.options import PART, WHOLE, compiled_for, kept_for
from migkit.kernels.policies import Policies
from migkit.kernels.ram_bitmap import BitmapRam
from migkit.kernels.ram_expected import ExpectedRam, widest
from migkit.kernels.random import DRAW_WORDS, MOST_HITS
from migkit.kernels.savevm import qemu_savevm_state_setup
from migkit.kernels.state import (
    RUNNING,
    Managing,
    Mark,
    Marks,
    Migration,
    Records,
    Reports,
    Timeline,
    Writers,
    dtype_of,
)
from migkit.kernels.verdict import begin_first_lap

CASE, LINK, REGION, DEVICE, RATE, CHANGE, STATE, LIVE, WRITER, ITERATION, LAP = (
    dtype_of(getattr(state, name))
    for name in ("CASE", "LINK", "REGION", "DEVICE", "RATE", "CHANGE", "STATE", "LIVE", "WRITER", "ITERATION", "LAP")
)
SHOWN, MANAGER, EVENT, CHANNEL = (dtype_of(getattr(state, name)) for name in ("SHOWN", "MANAGER", "EVENT", "CHANNEL"))
SEGMENT, EXPECTED_HEAD, CHUNK, BITMAP_HEAD = (
    dtype_of(getattr(state, name)) for name in ("SEGMENT", "EXPECTED_HEAD", "CHUNK", "BITMAP_HEAD")
)


PAUSE = 4_000_000
"""Effort after which the loop returns, for Python to hear Ctrl-C."""
LIMIT = 400_000_000
"""Effort that one migration may take unless a caller allows more: 20 s."""
INTERPRETED_S = 4.0
"""Time that a process interprets before it compiles."""
INTERPRETED_ROWS = 16
"""Most migrations, asked for at once, that are interpreted."""
_INTERPRETED_PAUSE = 500
"""The same as `PAUSE` for the interpreted loop: a quarter of a second."""


class OverLimit(Exception):
    """A migration takes more computing than it may.

    Attributes
    ----------
    row : int
        Which one of the batch.
    """

    def __init__(self, row: int):
        super().__init__(f"row {row} takes more computing than it may")
        self.row = row


class UnknownCommand(Exception):
    """A management policy answered with what is no command, or with a value out of range.

    Attributes
    ----------
    row : int
        Which one of the batch.
    command : int
        Its answer.
    """

    def __init__(self, row: int, command: int):
        super().__init__(f"the management policy of row {row} answers {command}, or a value out of range")
        self.row, self.command = row, command


class Scratch(NamedTuple):
    """Memory that the migrations of a batch use one after the other."""

    state: np.record  # STATE
    link: np.record  # LINK: a copy, since the link of a case may change while its migration runs
    manager: np.record  # MANAGER
    shown: np.record  # SHOWN
    live: np.ndarray  # records LIVE
    channels: np.ndarray  # records CHANNEL
    writers: np.ndarray  # records WRITER
    marks: Marks
    lap: np.record  # LAP
    words: tuple[np.ndarray, np.ndarray]  # state and live as 64-bit words, to be zeroed at once


class Run(NamedTuple):
    """How a batch is run."""

    seed: int
    replicates: np.ndarray  # int64, one number a row
    stops_early: int  # 1: end at a state that repeats
    pause: int  # effort after which the loop returns
    limit: int  # effort of a migration at which it pauses for good
    first: int  # row to begin with
    goes_on: int  # 1: that row was paused, its migration is in the scratch memory
    timeline: Timeline


def _empty(shape, dtype) -> Any:
    return np.zeros(shape, dtype).view(np.recarray)


def _scratch(devices: int, regions: int, channels: int = 1) -> Scratch:
    state, live = _empty(1, STATE), _empty(devices, LIVE)
    marks = Marks(*(Mark(_empty(1, STATE)[0], _empty(devices, LIVE)) for _ in Marks._fields))
    words = tuple(records.view(np.ndarray).view(np.int64) for records in (state, live))
    link, manager, shown = (_empty(1, each)[0] for each in (LINK, MANAGER, SHOWN))
    return Scratch(
        state[0], link, manager, shown, live, _empty(channels, CHANNEL), _empty(regions, WRITER), marks,
        _empty(1, LAP)[0], words,
    )  # fmt: skip


class _Spare(threading.local):
    """Scratch memory of a thread that its last batch has left; to make it takes longer than some migrations."""

    shape: tuple[int, int, int] | None = None
    scratch: Scratch | None = None

    def take(self, shape: tuple[int, int, int]) -> Scratch:
        """Scratch memory for so many devices, regions and channels; another batch gets other memory meanwhile."""
        found = self.scratch if self.shape == shape else None
        self.shape = self.scratch = None
        return _scratch(*shape) if found is None else found

    def leave(self, shape: tuple[int, int, int], scratch: Scratch) -> None:
        """Keep it for the next batch."""
        self.shape, self.scratch = shape, scratch


_spare = _Spare()


def _memory(engine: str, records: Records) -> BitmapRam | ExpectedRam:
    """Memory of the engine for the largest of these migrations."""
    cases, regions = records.cases.view(np.ndarray), records.regions.view(np.ndarray)
    if engine == "expected":
        return ExpectedRam(_empty(widest(cases, regions), SEGMENT), _empty(1, EXPECTED_HEAD)[0])
    words = int(cases["ram_pages"].max() + 63) // 64
    return BitmapRam(
        np.empty(words, np.uint64),
        np.empty(words if cases["lazy_clear"].any() else 1, np.uint64),
        _empty(int((-(-cases["ram_pages"] // cases["chunk_pages"])).max()), CHUNK),
        _empty(1, BITMAP_HEAD)[0],
        np.empty((2, DRAW_WORDS), np.uint64),
        np.empty((2, MOST_HITS), np.uint64),
        np.full(2, -1.0),
    )


def migrate_rows(records, reports, ram, scratch, run, next_device, syncs, bandwidth, management):
    """Migrate the rows of a batch one after the other, for about as long as ``run.pause`` says.

    Parameters
    ----------
    records, reports, scratch, run : Records, Reports, Scratch, Run
    ram : BitmapRam or ExpectedRam
        Its type chooses the engine when this function is compiled.
    next_device, syncs, bandwidth, management : functions
        Of the policies, called where a case says so (:mod:`migkit.kernels.policies`).

    Returns
    -------
    row : int
        To go on with, in the middle of its migration if the outcome of that is RUNNING; the number of rows at the end.
        A row whose management policy errs.
    """
    policies_ = Policies(next_device, syncs, bandwidth)
    effort = 0
    for i in range(run.first, records.cases.shape[0]):
        if effort >= run.pause:
            return i
        goes_on = run.goes_on == 1 and i == run.first
        if not goes_on:
            scratch.words[0].fill(0)
            scratch.words[1].fill(0)
            copy_link(records.links[i], scratch.link)
        s = Migration(
            records.cases[i],
            scratch.link,
            records.regions[i],
            records.devices[i],
            scratch.state,
            scratch.live,
            scratch.channels,
            Writers(scratch.writers, records.regions[i], records.rates[i]),
            ram,
            reports.migrations[i],
            policies_,
        )
        managing = Managing(scratch.manager, scratch.shown, records.changes[i], management, run.timeline.events)
        if not goes_on:
            qemu_savevm_state_setup(s, run.seed, run.replicates[i])
            s.state.effort = s.ram.head.effort
            s.state.stops_early = run.stops_early * min(1, s.case.may_stop_early) * (1 - s.case.rates_change)
            if s.case.postcopy_ns < s.case.time_limit_ns:
                s.state.stops_early = 0  # post-copy will end it
            s.state.jumps = s.case.policies_repeat if run.timeline.iterations.shape[0] == 0 else 0
            if s.case.jitter > 0.0 or s.case.host_pages > 1:
                # with jitter nothing repeats, and chance may undo what four laps show; with huge pages windows end
                # within a call of RAM
                s.state.jumps, s.state.stops_early = 0, 0
            management_setup(s, managing)
            remember(s, scratch.marks.window)
            begin_first_lap(s, scratch.lap)
        before = s.state.effort
        s.state.pause_at = min(run.limit, before + run.pause)
        migration_thread(s, scratch.marks, scratch.lap, managing, run.timeline)
        if s.state.outcome == RUNNING:
            return i
        effort += s.state.effort - before
        write_report(s, scratch.manager, reports.devices[i])
        if scratch.manager.refused != 0:
            return i
    return records.cases.shape[0]


_RECORDS = (numba.from_dtype(STATE), numba.from_dtype(DEVICE)[::1], numba.from_dtype(LIVE)[::1])
_OWN = types.NestedArray(types.float64, (state.POLICY_NUMBERS,))
SIGNATURES = {
    "next_device": types.UniTuple(types.int64, 2)(*_RECORDS, _OWN),
    "syncs": types.boolean(*_RECORDS, _OWN),
    "bandwidth": types.float64(*_RECORDS, _OWN),
    "management": types.Tuple((types.int64, types.float64))(
        numba.from_dtype(SHOWN), types.NestedArray(types.float64, (state.MANAGEMENT_NUMBERS,))
    ),
}
"""Signature of the function that answers each question of a policy."""


@cache
def compiled_policy(question: str, function: Any) -> Any:
    """Compile a function that answers a question of the loop.

    Parameters
    ----------
    question : {"next_device", "syncs", "bandwidth", "management"}
    function : function
        Plain Python, or already compiled by Numba.
    """
    function = getattr(function, "py_func", function)
    if numba.config.DISABLE_JIT:
        return function
    return numba.njit(SIGNATURES[question], **WHOLE)(_calling_compiled(function))


@cache
def _calling_compiled(function: FunctionType) -> FunctionType:
    """A plain function that calls compiled ones where it called plain ones of its module."""
    called = {
        name: numba.njit(**PART)(_calling_compiled(value))
        for name, value in function.__globals__.items()
        if name in function.__code__.co_names and isinstance(value, FunctionType) and value is not function
    }
    if not called:
        return function
    other = FunctionType(
        function.__code__, function.__globals__ | called, function.__name__, function.__defaults__, function.__closure__
    )
    other.__kwdefaults__ = function.__kwdefaults__
    return other


class _NotAsked:
    """Stands for the function of a question that no case asks; it has no address."""

    def __wrapper_address__(self) -> int:
        return -1


@cache
def _argument_types(engine: str) -> tuple[Any, ...]:
    """Types of the arguments of the loop over rows, for Numba."""
    one = Records(_empty(1, CASE), _empty(1, LINK), *(_empty((1, 1), each) for each in (REGION, DEVICE, RATE, CHANGE)))
    reports = Reports.empty(1, 1)
    one.cases["ram_pages"], one.cases["chunk_pages"] = 64, 64
    run = _run_of(1, 0, 0, True, LIMIT, None)
    given = [numba.typeof(each) for each in (one, reports, _memory(engine, one), _scratch(1, 1), run)]
    return (*given, *(types.FunctionType(signature) for signature in SIGNATURES.values()))


@cache
def _kept_driver(engine: str) -> Any:
    """The compiled loop over rows if it is on disk, else None."""
    return kept_for(migrate_rows, _argument_types(engine))


@cache
def compiled_driver(engine: str) -> Any:
    """The compiled loop over rows."""
    return _kept_driver(engine) or compiled_for(migrate_rows, _argument_types(engine))


class _Interpreter:
    """The interpreted loop over rows, for as long as a process may use it."""

    def __init__(self) -> None:
        self.left_s = INTERPRETED_S
        self._making = threading.Lock()  # of the loop: what one thread has half made another one may not call

    def __call__(self, records: Records, reports: Reports, ram: Any, scratch: Scratch, how: Run, *asked: Any) -> int:
        began, how = time.monotonic(), how._replace(pause=_INTERPRETED_PAUSE)
        with self._making:
            loop = interpreted(migrate_rows)
        try:
            with np.errstate(all="ignore"):
                return loop(records, reports, ram, scratch, how, *asked)
        except (ArithmeticError, ValueError):
            # Python refuses a division or a logarithm that machine code makes: that begins this row anew
            self.left_s = 0.0
            scratch.state.outcome = state.COMPLETED
            return how.first + int(np.argmax(reports.migrations["total_ns"][how.first :] < 0))
        finally:
            self.left_s -= time.monotonic() - began


_interpreter = _Interpreter()


def _loop(engine: str, rows: int, asks: bool) -> Any:
    """The loop over rows: compiled, or interpreted where nothing is compiled yet and little is to be done.

    Parameters
    ----------
    engine : str
    rows : int
        Migrations.
    asks : bool
        Whether functions of the user's own are asked: they are compiled, with what that does to their numbers.
    """
    little = engine == "expected" and rows <= INTERPRETED_ROWS and not asks and _interpreter.left_s > 0.0
    if little and _kept_driver(engine) is None:
        return _interpreter
    _interpreter.left_s = 0.0
    return compiled_driver(engine)


@cache
def _no_timeline() -> Timeline:
    return Timeline(_empty(0, ITERATION), np.zeros((0, 1), np.int64), _empty(0, EVENT))


def _run_of(rows: int, seed: int, replicate: Any, stops_early: bool, limit: int, timeline: Timeline | None) -> Run:
    if timeline is None:
        timeline = _no_timeline()
    replicates = np.array(np.broadcast_to(replicate, (rows,)), np.int64)  # a copy: the kernel takes a writable one
    return Run(int(seed), replicates, int(stops_early), PAUSE, limit, 0, 0, timeline)


def run(
    records: Records,
    engine: str = "expected",
    seed: int = 0,
    replicate: Any = 0,
    stops_early: bool = True,
    own: tuple[Any, Any, Any, Any] | None = None,
    timeline: Timeline | None = None,
    into: Reports | None = None,
    limit: int = LIMIT,
    stop: Callable[[], bool] = lambda: False,
) -> Reports:
    """Migrate every row.

    Parameters
    ----------
    records : Records
        One row a migration.
    engine : {"expected", "bitmap"}
        Model of RAM.
    seed : int
        Root of the draws; 0 or more. The expected engine draws phases and jitter, and nothing else.
    replicate : int or array of int
        Number of the replicate, for all rows or one a row.
    stops_early : bool
        End at a state that repeats (expected engine); the verdict is that of running on to the time limit.
    own : tuple of four functions, optional
        Answers to the four questions, from :func:`compiled_policy`, for cases that ask for them.
    timeline : Timeline, optional
        Filled iteration by iteration, as far as it goes; for one row.
    into : Reports, optional
        Where the reports go; new memory by default.
    limit : int
        Most effort of one migration.
    stop : callable
        Asked now and then, on this thread: whether to end without the reports.

    Returns
    -------
    Reports

    Raises
    ------
    OverLimit
        If a migration takes more.
    UnknownCommand
        If a management policy answers with what is no command.
    CancelledError
        If `stop` said so.
    """
    rows, width = records.devices.shape
    reports = Reports.empty(rows, width) if into is None else into
    reports.clear()
    stops_early = stops_early and engine == "expected"
    how = _run_of(rows, seed, replicate, stops_early, limit, timeline)
    functions = tuple(_NotAsked() if function is None else function for function in own or (None,) * len(SIGNATURES))
    with np.errstate(over="ignore"):  # 64-bit draws wrap around when the JIT is off
        ram = _memory(engine, records)
        shape = width, records.regions.shape[1], int(max(1, records.cases["multifd_channels"].max()))
        scratch = _spare.take(shape)
        while (row := _loop(engine, rows, any(own or ()))(records, reports, ram, scratch, how, *functions)) < rows:
            if scratch.manager.refused != 0:
                raise UnknownCommand(row, int(scratch.manager.refused))
            paused = scratch.state.outcome == RUNNING
            if paused and scratch.state.effort >= limit:
                raise OverLimit(row)
            if stop():
                raise CancelledError
            how = how._replace(first=row, goes_on=int(paused))
    _spare.leave(shape, scratch)
    return reports


def record(
    records: Records,
    engine: str = "expected",
    seed: int = 0,
    replicate: int = 0,
    most: int = 200_000,
    own: tuple[Any, Any, Any, Any] | None = None,
    limit: int = LIMIT,
) -> tuple[Reports, Timeline]:
    """Migrate one row and keep its iterations, at most the first ``most`` of them, and what was changed meanwhile.

    The migration is computed twice: once to count its iterations, once to write them down.
    """
    reports = run(records, engine, seed, replicate, own=own, limit=limit)
    rows = min(most, int(reports.migrations["iterations"][0]))
    sent = np.full((max(1, rows), records.devices.shape[1]), -1, np.int64)
    changed = int(reports.migrations["changed"][0])
    timeline = Timeline(_empty(max(1, rows), ITERATION), sent, _empty(changed, EVENT))
    reports = run(records, engine, seed, replicate, own=own, timeline=timeline, limit=limit)
    rows = min(rows, int(reports.migrations["iterations"][0]))
    return reports, Timeline(timeline.iterations[:rows], sent[:rows], timeline.events)
