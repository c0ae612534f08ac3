"""Many migrations: every combination of axis values, as one labelled Dataset."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit import results
from migkit.errors import ScenarioError
from migkit.grid import Grid
from migkit.parameters import Outputs
from migkit.simulate import check_engine, check_whole_number

if TYPE_CHECKING:
    import xarray as xr

    from migkit.scenario import Scenario

__all__ = ["sweep"]

REPLICATE = "replicate"
"""The one axis that is no field of a scenario: repetitions with their own random draws."""

BLOCK_ROWS = 65536  # rows handed to the kernel at once: a few ten MB of columns
_FIRST_BLOCK_ROWS = 64
_SECONDS_A_BLOCK = 0.5  # with a progress bar, so that it moves


def sweep(
    scenario: Scenario,
    axes: Mapping[str, Sequence[Any]],
    engine: str = "expected",
    seed: int = 0,
    threads: int | None = None,
    progress: bool = False,
    *,
    names: Mapping[str, str] | None = None,
    block_rows: int | None = None,
) -> xr.Dataset:
    """Simulate every combination of axis values.

    Parameters
    ----------
    scenario : Scenario
        What all migrations share.
    axes : mapping of str to sequence
        Values by the dotted path of a field of the scenario, written as in a scenario: text with units
        (``"link.bandwidth": ["10 Gbit/s", "25 Gbit/s"]``), plain numbers for counts, words for policies.
        The path ``"replicate"`` takes whole numbers and repeats each migration with its own random draws.
    engine : {"expected", "bitmap"}, optional
        RAM as expected values or as a page-exact bitmap.
    seed : int, optional
        Root seed of the random draws. A draw does not depend on the place in the grid: migrations with
        the same replicate share theirs, so that differences between them are those of the axes.
    threads : int, optional
        Threads to compute on; by default all that Numba has.
    progress : bool, optional
        Show a progress bar with the time left.
    names : mapping of str to str, optional
        Dimension by path. By default a dimension has the shortest tail of its path that tells the axes
        apart: ``count``, or ``devices_0_count`` beside ``devices_1_count``.
    block_rows : int, optional
        Migrations handed to the kernel at once. Changes memory and nothing else.

    Returns
    -------
    xarray.Dataset
        The variables of :data:`migkit.results.VARIABLES` with one dimension per axis, in the order of
        `axes`; coordinates in SI units (``units`` in their attributes) or words. ``device_present`` tells
        which devices take part where an axis changes their number. Attributes say how it was made.

    Raises
    ------
    ScenarioError
        If an axis is unknown, empty, has a value twice or one that the field refuses, if values do not go
        together, or if `engine`, `seed`, `threads`, `names` or `block_rows` is none. Nothing is computed then.

    Notes
    -----
    Combinations of values that lay out RAM (sizes and places of regions) are all checked; of other
    combinations those of the ends of the axes.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, sweep
    >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> ds = sweep(scenario, {"migration.max_bandwidth": ["64 MiB/s", 0], "qemu": ["8.2", "9.0"]})
    >>> ds["total_time_s"].dims
    ('max_bandwidth', 'qemu')
    """
    check_engine(engine)
    seed = check_whole_number("seed", seed)
    if block_rows is not None:
        block_rows = check_whole_number("block_rows", block_rows, least=1)
    if not isinstance(axes, Mapping) or not axes:
        raise ScenarioError('needs at least one, such as {"link.bandwidth": ["10 Gbit/s", "25 Gbit/s"]}', "axes")
    if not all(isinstance(path, str) for path in axes):
        raise ScenarioError("must be text: the dotted path of a field", "axes", next(iter(axes)))
    threads = _checked_threads(threads)
    names = dict(names or {})
    replicates = _replicates(axes.get(REPLICATE, [0]))
    grid = Grid(scenario, {path: values for path, values in axes.items() if path != REPLICATE}, names)

    outputs = _computed(grid, replicates, engine, seed, threads, progress, block_rows)
    coords: dict[str, Any] = {REPLICATE: (replicates, {"units": "1", "long_name": "replicate"})}
    coords |= {axis.dim: (axis.coordinate, axis.notes()) for axis in grid.axes}
    notes = results.provenance(engine, seed, scenario.to_toml())
    dataset = results.to_dataset(outputs, coords, grid.devices, notes)
    if REPLICATE not in axes:
        dataset = dataset.isel({REPLICATE: 0}, drop=True)
    dims = {axis.path: axis.dim for axis in grid.axes}
    order = [dims.get(path, path) for path in axes]
    if (present := grid.present()) is not None:
        shape = (*grid.shape, len(grid.devices))
        dataset["device_present"] = (
            (*(axis.dim for axis in grid.axes), "device"),
            present.reshape(shape),
            {"long_name": "the device takes part in the migration"},
        )
    return dataset.transpose(*order, "device")


def _replicates(given: Any) -> np.ndarray:
    if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
        raise ScenarioError("is not a list of values: write range(n) for n repetitions", REPLICATE, given)
    numbers = [check_whole_number(REPLICATE, number) for number in given]
    if not numbers:
        raise ScenarioError("has no values: an axis needs at least one", REPLICATE)
    if len(set(numbers)) < len(numbers):
        raise ScenarioError("has a value twice", REPLICATE, max(numbers, key=numbers.count))
    return np.array(numbers, dtype=np.int64)


def _checked_threads(threads: int | None) -> int | None:
    if threads is None:
        return None
    from numba import config

    if check_whole_number("threads", threads, least=1) > config.NUMBA_NUM_THREADS:
        raise ScenarioError(f"is more than Numba was started with, {config.NUMBA_NUM_THREADS}", "threads", threads)
    return int(threads)


@contextlib.contextmanager
def _on_threads(threads: int | None) -> Iterator[None]:
    """Compute on this many threads, and leave Numba as it was."""
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(threads or before)
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _computed(
    grid: Grid,
    replicates: np.ndarray,
    engine: str,
    seed: int,
    threads: int | None,
    progress: bool,
    block_rows: int | None,
) -> Outputs:
    """All rows of the sweep, the replicates slowest, computed block by block."""
    from migkit import kernels

    total = grid.points * len(replicates)
    whole: dict[str, np.ndarray] = {}
    with _on_threads(threads), _bar(total, progress) as advance:
        size = block_rows or (_FIRST_BLOCK_ROWS if progress else BLOCK_ROWS)
        start = 0
        while start < total:
            began = time.perf_counter()
            rows = np.arange(start, min(start + size, total))
            points, repetition = rows % grid.points, replicates[rows // grid.points]
            found = kernels.run(grid.columns(points), engine, seed, repetition, threads != 1)
            for name, column in grid.aligned(found, points)._asdict().items():
                if name not in whole:
                    whole[name] = np.empty((total, *column.shape[1:]), column.dtype)
                whole[name][rows] = column
            advance(len(rows))
            start += len(rows)
            if progress and not block_rows:
                # Longer blocks keep the threads busy, shorter ones keep the bar moving.
                wanted = size * _SECONDS_A_BLOCK / max(time.perf_counter() - began, 1e-6)
                size = int(np.clip(wanted, max(size // 4, 1), min(size * 4, BLOCK_ROWS)))
    return Outputs(**whole)


@contextlib.contextmanager
def _bar(total: int, shown: bool) -> Iterator[Any]:
    if not shown:
        yield lambda rows: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, unit="migration", unit_scale=True, desc="sweep") as bar:
        yield bar.update
