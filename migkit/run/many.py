"""Many migrations: every combination of axis values, as one labelled Dataset, in memory or on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit import results
from migkit.kernels.state import Reports
from migkit.run.design import Sweep
from migkit.run.grid import Layout
from migkit.run.limits import LIMIT
from migkit.run.progress import progress_bar, tell
from migkit.run.simulate import check_whole_number, numba_threads
from migkit.run.whole_file import checked_path
from migkit.scenario.errors import ClusterLost, ScenarioError, Unfinished
from migkit.scenario.scenario import Scenario

if TYPE_CHECKING:
    import xarray as xr
    from distributed import Client

    from migkit.run.batches import Batch
    from migkit.run.store import Store

__all__ = ["checked_threads", "sweep"]


def sweep(
    scenario: Scenario | Sweep | Mapping[str, Any],
    axes: Mapping[str, Any] | None = None,
    engine: str | None = None,
    seed: int | None = None,
    threads: int | None = None,
    progress: bool = False,
    *,
    store: str | Path | None = None,
    dask: Client | str | None = None,
    names: Mapping[str, str] | None = None,
    replicates: int | None = None,
    batch_rows: int | None = None,
    limit: str = LIMIT,
) -> xr.Dataset:
    """Simulate every combination of axis values.

    Parameters
    ----------
    scenario : Scenario, mapping or Sweep
        What all migrations share, as a scenario or as its fields by name; or the whole description of the sweep, and
        then `axes`, `engine`, `seed` and `replicates` must not be given.
    axes : mapping
        Values by the dotted path of a field of the scenario, written as in a scenario: text with units
        (``"link.bandwidth": ["10 Gbit/s", "25 Gbit/s"]``), plain numbers for counts, words for policies; rules for
        values, and fields that move together, as :class:`migkit.Sweep` takes them.
        The path ``"replicate"`` takes whole numbers and repeats each migration with its own random draws.
    engine : {"expected", "bitmap"}, default "expected"
        RAM as expected values or as a page-exact bitmap.
    seed : int, default 0
        Root seed of the random draws, 0 or more. A draw does not depend on the place in the grid: migrations with the
        same replicate share theirs, so that differences between them are those of the axes.
    threads : int, optional
        Threads that compute, 1 or more; by default all that Numba has.
    progress : bool, default False
        Show a progress bar with the time left.
    store : str or path, optional
        Write the results to this Zarr store, batch by batch. If it exists, what is missing is computed; a finished one
        is opened, whichever model computed it. Memory holds a few batches at a time.
    dask : distributed.Client or str, optional
        Compute on this cluster (or that of the scheduler at this address), whose workers write to the `store`
        themselves and must see it under the same path.
    names : mapping of str to str, optional
        Dimension by path. By default a dimension has the path of its field for a name; a mapping of one field in `axes`
        gives it another one too, such as ``"bandwidth": {"link.bandwidth": [...]}``.
    replicates : int, optional
        Repeat each migration with this many different random draws (:class:`migkit.Sweep`).
    batch_rows : int, optional
        Most migrations of a batch, 1 or more: of what is computed together and, in a new store, of a Zarr chunk.
        Changes memory, the steps of the progress bar and the size of the store's files, and nothing else.
    limit : duration, default "20 s"
        Computing that one migration may take (:func:`migkit.run.limits.effort`).

    Returns
    -------
    xarray.Dataset
        The variables of :data:`migkit.results.SWEEP_VARIABLES` with one dimension per axis, in the order of
        `axes`; coordinates in SI units (``units`` in their attributes) or words. ``device_present`` tells
        which devices take part where an axis changes their number. The attributes say how it was made.
        With a `store`, what :func:`migkit.open_sweep` returns; ``migrations_computed`` in its attributes counts those
        of this call, and one line says so if there were none.

    Raises
    ------
    ScenarioError
        If an axis is unknown, empty, has a value twice or one that the field refuses, if any combination of values
        makes no possible migration, if the results do not fit into memory, if another argument makes no sense, or if
        the `store` holds another sweep, was begun by another model or is being filled by another process. Nothing is
        computed then.
    Unfinished
        If the disk is full or the cluster is lost; says what the `store` keeps. A KeyboardInterrupt has a note that
        says the same.
    OSError
        If the `store` cannot be created.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, sweep
    >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> ds = sweep(scenario, {"limit": {"migration.max_bandwidth": ["64 MiB/s", 0]}, "qemu": ["8.2", "9.0"]})
    >>> ds["total_time_s"].dims
    ('limit', 'qemu')
    """
    if isinstance(scenario, Sweep):
        _refuse_beside_description(axes=axes, engine=engine, seed=seed, replicates=replicates)
        described = scenario
    else:
        if not isinstance(axes, Mapping) or not axes:
            raise ScenarioError('needs at least one, such as {"link.bandwidth": ["10 Gbit/s", "25 Gbit/s"]}', "axes")
        given: dict[str, Any] = {"scenario": scenario, "axes": axes, "engine": engine, "seed": seed,
                                 "replicates": replicates}  # fmt: skip
        described = Sweep(**{name: value for name, value in given.items() if value is not None})
    if batch_rows is not None:
        batch_rows = check_whole_number("batch_rows", batch_rows, least=1)
    if store is not None:
        store = checked_path("store", store)
    if dask is not None and not (isinstance(dask, str) or hasattr(dask, "nthreads")):
        raise ScenarioError("is neither a distributed.Client nor the address of a scheduler", "dask", dask)
    if dask is not None and store is None:
        raise ScenarioError("is missing: the workers of a cluster write to it", "store")
    threads = checked_threads(threads)
    layout = Layout(described, names, limit)
    if store is not None:
        return _stored(layout, store, threads, dask, progress, batch_rows)
    layout.check_memory()
    return _in_memory(layout, threads, progress, batch_rows)


def _refuse_beside_description(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ScenarioError("is part of the description: give a scenario with axes, engine, seed and "
                                "replicates, or a description alone", name)  # fmt: skip


def checked_threads(threads: int | None) -> int:
    """Return `threads`, or the number that Numba has for None.

    Raises
    ------
    ScenarioError
        If `threads` is no whole number from 1 to the number that Numba has.
    """
    most = numba_threads()
    if threads is None:
        return most
    if check_whole_number("threads", threads, least=1) > most:
        raise ScenarioError(f"is more than Numba was started with, {most}", "threads", threads)
    return int(threads)


# --- in memory -----------------------------------------------------------------------------------


def _in_memory(layout: Layout, threads: int, progress: bool, batch_rows: int | None) -> xr.Dataset:
    """Compute all migrations of a sweep into one Dataset."""
    from migkit.run.threads import BATCH_PIECES, PIECE_ROWS, on_threads

    total = layout.migrations
    size = batch_rows or BATCH_PIECES * threads * PIECE_ROWS[layout.sweep.engine]
    table = {
        variable.name: np.empty((total, len(layout.devices)) if variable.dims else total, variable.dtype)
        for variable in results.SWEEP_VARIABLES
    }

    def batches() -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
        for start in range(0, total, size):
            rows = np.arange(start, min(start + size, total))
            places = np.array(np.unravel_index(rows, layout.shape))
            yield places, {name: column[start : start + size] for name, column in table.items()}

    with (
        progress_bar(progress, "sweep", total) as advance,
        contextlib.closing(on_threads(layout, batches(), threads, _compute)) as computed,
    ):
        for part in computed:
            advance(len(part["outcome"]))
    return _labelled(layout, table)


def _compute(
    layout: Layout, places: np.ndarray, target: dict[str, np.ndarray], rows: slice, stop: Callable[[], bool]
) -> None:
    """Write results in SI units to their place, on the thread that computed them: they are in its cache."""
    for name, values in results.values(layout.run(places, stop=stop)).items():
        target[name][rows] = values


def _labelled(layout: Layout, table: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Label columns that have a row for each migration of the sweep, the last dimension fastest."""
    import xarray as xr

    from migkit.run.store import coordinates

    variables = {}
    for variable in results.SWEEP_VARIABLES:
        column = table[variable.name]
        values = column.reshape(*layout.shape, *column.shape[1:])
        variables[variable.name] = ((*layout.dims, *variable.dims), values, results.attributes(variable))
    dataset = xr.Dataset(variables, coordinates(layout), layout.notes())
    if (present := layout.present()) is not None:
        dataset["device_present"] = present
    return results.validated(dataset, "sweep")


# --- on disk -------------------------------------------------------------------------------------


def _stored(
    layout: Layout,
    path: Path,
    threads: int,
    dask: Client | str | None,
    progress: bool,
    batch_rows: int | None,
) -> xr.Dataset:
    """Compute what is missing in the store at `path`, and open it."""
    from migkit.run.store import Store, open_sweep

    store = Store.at(path, layout, batch_rows)
    if not store.missing() and not any(store.damaged()):
        tell(f"{path}: nothing was computed, all {layout.migrations} migrations are there")
        return open_sweep(path).assign_attrs(migrations_computed=0)
    client = None
    if dask is not None:
        from migkit.run import cluster

        client = cluster.connected(dask) if isinstance(dask, str) else dask
    workers = f"{threads} threads" if client is None else f"Dask, {sum(client.nthreads().values())} threads"
    try:
        with _report_what_is_kept(store), store.session(workers) as missing:
            todo = sum(map(store.batches.rows, missing))
            with progress_bar(progress, "sweep", layout.migrations, layout.migrations - todo) as advance:
                if client is None:
                    _fill(store, missing, threads, advance)
                else:
                    cluster.on_cluster(store, missing, client, advance)
    finally:
        if isinstance(dask, str) and client is not None:
            client.close()
    return open_sweep(path).assign_attrs(migrations_computed=todo)


def _fill(store: Store, missing: list[Batch], threads: int, advance: Callable[[int], object]) -> None:
    """Compute batches on threads of this process; the calling thread writes beside them."""
    from migkit.run.threads import AHEAD, on_threads

    # Memory for the batches that are being computed, used again and again.
    room = [store.layout.empty(store.batches.most_rows) for _ in range(min(AHEAD + 1, len(missing)))]

    def batches() -> Iterator[tuple[np.ndarray, Reports]]:
        for number, batch in enumerate(missing):
            places = store.batches.places(batch)
            yield places, Reports(*(part[: places.shape[1]] for part in room[number % len(room)]))

    with contextlib.closing(on_threads(store.layout, batches(), threads)) as computed:
        for batch, reports in zip(missing, computed, strict=True):
            store.write(batch, reports)
            advance(len(reports.migrations))


@contextlib.contextmanager
def _report_what_is_kept(store: Store) -> Iterator[None]:
    """Say in the error that ends a session how many batches are finished and how to go on."""

    def kept() -> str:
        count = len(store.batches)
        done = count - len(store.missing())
        return f"{done} of {count} batches are finished and kept, the same call goes on from there"

    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"{store.path}: {kept()}")
        raise
    except OSError as error:
        raise Unfinished(f"{store.path}: {error.strerror or error}; {kept()}.") from error
    except ClusterLost as error:
        raise Unfinished(f"{store.path}: {error}; {kept()}.") from error
