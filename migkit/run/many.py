"""Many migrations: every combination of axis values, as one labelled Dataset, in memory or on disk."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit import results
from migkit.kernels.parameters import Outputs
from migkit.run.design import Sweep
from migkit.run.grid import Layout
from migkit.run.simulate import check_whole_number
from migkit.scenario.errors import ClusterLost, ScenarioError, Unfinished
from migkit.scenario.scenario import Scenario

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

    from migkit.run.batches import Block
    from migkit.run.store import Store

__all__ = ["sweep"]


def sweep(
    scenario: Scenario | Sweep,
    axes: Mapping[str, Any] | None = None,
    engine: str = "expected",
    seed: int = 0,
    threads: int | None = None,
    progress: bool = False,
    *,
    store: str | Path | None = None,
    dask: Client | str | None = None,
    names: Mapping[str, str] | None = None,
    block_rows: int | None = None,
) -> xr.Dataset:
    """Simulate every combination of axis values.

    Parameters
    ----------
    scenario : Scenario or Sweep
        What all migrations share; or the whole description, and then neither `axes` nor `engine` nor `seed`.
    axes : mapping
        Values by the dotted path of a field of the scenario, written as in a scenario: text with units
        (``"link.bandwidth": ["10 Gbit/s", "25 Gbit/s"]``), plain numbers for counts, words for policies; rules for
        values, and fields that move together, as :class:`migkit.Sweep` takes them.
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
    store : str or path, optional
        Write the results to this Zarr store, block by block, and go on with what is missing if it is there already.
        Memory holds a few blocks at a time.
    dask : distributed.Client or str, optional
        Compute on this cluster (or that of the scheduler at this address), whose workers write to the `store`
        themselves and must see it under the same path.
    names : mapping of str to str, optional
        Dimension by path. By default a dimension has the path of its field for a name; a mapping of one field in `axes`
        gives it another one too, such as ``"bandwidth": {"link.bandwidth": [...]}``.
    block_rows : int, optional
        Migrations computed as one block, or held by a chunk of a new store. Changes memory, the steps of the progress
        bar and the size of the store's files, and nothing else.

    Returns
    -------
    xarray.Dataset
        The variables of :data:`migkit.results.VARIABLES` with one dimension per axis, in the order of
        `axes`; coordinates in SI units (``units`` in their attributes) or words. ``device_present`` tells
        which devices take part where an axis changes their number. Attributes say how it was made.
        With a `store`, what :func:`migkit.open_sweep` gives.

    Raises
    ------
    ScenarioError
        If an axis is unknown, empty, has a value twice or one that the field refuses, if any combination of values
        makes no possible migration, if the results do not fit into memory, if another argument makes no sense, or if
        the `store` holds another sweep. Nothing is computed then.
    Unfinished
        If the disk is full or the cluster is lost; says what the `store` keeps. So does a KeyboardInterrupt's note.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, sweep
    >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> ds = sweep(scenario, {"limit": {"migration.max_bandwidth": ["64 MiB/s", 0]}, "qemu": ["8.2", "9.0"]})
    >>> ds["total_time_s"].dims
    ('limit', 'qemu')
    """
    if isinstance(scenario, Sweep):
        if axes is not None:
            raise ScenarioError("are part of the description: give a scenario and axes, or a description alone", "axes")
        described = scenario
    else:
        if not isinstance(axes, Mapping) or not axes:
            raise ScenarioError('needs at least one, such as {"link.bandwidth": ["10 Gbit/s", "25 Gbit/s"]}', "axes")
        described = Sweep(scenario=scenario, axes=axes, engine=engine, seed=seed)
    if block_rows is not None:
        block_rows = check_whole_number("block_rows", block_rows, least=1)
    if dask is not None and store is None:
        raise ScenarioError("is missing: the workers of a cluster write to it", "store")
    threads = checked_threads(threads)
    layout = Layout(described, names)
    if store is not None:
        return _stored(layout, Path(store), threads, dask, progress, block_rows)
    layout.check_memory()
    outputs = _computed(layout, threads, progress, block_rows)
    return _labelled(layout, outputs)


def _labelled(layout: Layout, outputs: Outputs) -> xr.Dataset:
    """Columns in memory as a Dataset."""
    coords = layout.coordinates()
    sizes = {dim: coords[dim][1:] for dim in layout.dims}
    dataset = results.to_dataset(outputs, sizes, layout.devices, layout.notes())
    dataset = dataset.assign_coords({name: entry for name, entry in coords.items() if name not in layout.dims})
    if (present := layout.present()) is not None:
        dataset["device_present"] = present
    return dataset


def checked_threads(threads: int | None) -> int:
    """Return `threads`, or say in one sentence how many there can be; None stands for all."""
    from numba import config

    if threads is None:
        return config.NUMBA_NUM_THREADS
    if check_whole_number("threads", threads, least=1) > config.NUMBA_NUM_THREADS:
        raise ScenarioError(f"is more than Numba was started with, {config.NUMBA_NUM_THREADS}", "threads", threads)
    return int(threads)


def _computed(layout: Layout, threads: int, progress: bool, block_rows: int | None) -> Outputs:
    """All migrations of the sweep, computed block by block."""
    from migkit.run.threads import BLOCK_PIECES, PIECE_ROWS, on_threads

    total = layout.migrations
    size = block_rows or BLOCK_PIECES * threads * PIECE_ROWS[layout.sweep.engine]
    whole = layout.empty(total)

    def blocks() -> Iterator[tuple[np.ndarray, Outputs]]:
        for start in range(0, total, size):
            rows = np.arange(start, min(start + size, total))
            places = np.array(np.unravel_index(rows, layout.shape))
            yield places, Outputs(*(column[start : start + size] for column in whole))

    with _bar(total, 0, progress) as advance, contextlib.closing(on_threads(layout, blocks(), threads)) as computed:
        for block in computed:
            advance(len(block.outcome))
    return whole


def _stored(
    layout: Layout,
    path: Path,
    threads: int,
    dask: Client | str | None,
    progress: bool,
    block_rows: int | None,
) -> xr.Dataset:
    """Fill the store at `path` with what is missing, and open it."""
    from migkit.run.store import Store, open_sweep

    filled = Store.at(path, layout, block_rows)
    client = None
    if dask is not None:
        from migkit.run import cluster

        client = cluster.connected(dask) if isinstance(dask, str) else dask
    who = f"{threads} threads" if client is None else f"Dask, {sum(client.nthreads().values())} threads"
    try:
        with _told_what_is_kept(filled), filled.session(who) as missing:
            todo = sum(filled.chunks.size(block) for block in missing)
            with _bar(layout.migrations, layout.migrations - todo, progress) as advance:
                if client is None:
                    _filled(filled, missing, threads, advance)
                else:
                    cluster.on_cluster(filled, missing, client, advance)
    finally:
        if isinstance(dask, str):
            client.close()
    return open_sweep(path)


def _filled(store: Store, missing: list[Block], threads: int, advance: Callable[[int], Any]) -> None:
    """Compute blocks on threads of this process; this one writes beside them."""
    from migkit.run.threads import AHEAD, on_threads

    # Memory for the blocks that are being computed, used again and again.
    room = [store.layout.empty(store.chunks.most) for _ in range(min(AHEAD + 1, len(missing)))]

    def blocks() -> Iterator[tuple[np.ndarray, Outputs]]:
        for number, block in enumerate(missing):
            places = store.chunks.places(block)
            yield places, Outputs(*(column[: places.shape[1]] for column in room[number % len(room)]))

    with contextlib.closing(on_threads(store.layout, blocks(), threads)) as computed:
        for block, outputs in zip(missing, computed, strict=True):
            store.write(block, outputs)
            advance(len(outputs.outcome))


@contextlib.contextmanager
def _told_what_is_kept(store: Store) -> Iterator[None]:
    """Say, when the work ends early, what is finished and how to go on."""

    def kept() -> str:
        count = store.chunks.count
        done = count - len(store.missing())
        return f"{done} of {count} blocks are finished and kept, the same call goes on from there"

    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"{store.path}: {kept()}")
        raise
    except OSError as error:
        raise Unfinished(f"{store.path}: {error.strerror or error}; {kept()}.") from error
    except ClusterLost as error:
        raise Unfinished(f"{store.path}: {error}; {kept()}.") from error


@contextlib.contextmanager
def _bar(total: int, done: int, shown: bool) -> Iterator[Callable[[int], Any]]:
    if not shown:
        yield lambda rows: None
        return
    from tqdm.auto import tqdm

    # a log gets a line now and then, a person sees it move
    often = 0.1 if sys.stderr.isatty() or "ipykernel" in sys.modules else 10.0
    with tqdm(total=total, initial=done, unit="migration", unit_scale=True, desc="sweep", mininterval=often) as bar:
        yield bar.update
