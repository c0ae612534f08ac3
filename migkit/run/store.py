"""Results of a sweep on disk: a Zarr store that is filled batch by batch and says what is missing.

Every variable is an array with one Zarr chunk a batch. A chunk is written to a file of another name and renamed, so
that it is there as a whole or not at all, and the outcome of a batch is written last: a batch is finished when its
outcome is there. Whatever kills the process, the next one computes only what is missing, and the arrays end
as those of a run that was never interrupted, byte for byte. (A loss of power may take files that were still in memory.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.kernels.parameters import Outputs
from migkit.kernels.stamp import source_digest
from migkit.results import VARIABLES, attributes, provenance
from migkit.run.batches import Batch, Batches
from migkit.run.chunk_file import KEYS, UNFINISHED, compressor, name_of, write_chunk
from migkit.run.design import Sweep, differences
from migkit.run.layout import Layout
from migkit.scenario.errors import AnotherSweep, ScenarioError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["BATCH_ROWS", "Store", "open_sweep"]

BATCH_ROWS = {"expected": 131072, "bitmap": 512}
"""Migrations of a batch, by engine: a second or less on one core."""
NOT_YET = -1
"""Outcome of what is not computed yet."""
_LAST = "outcome"
_SESSIONS = "sessions"
_TIMES = {"scale_factor": 1e-9, "_FillValue": -1}
"""Times are nanoseconds on disk and seconds for who reads them (CF conventions)."""


def _root(path: Path) -> dict[str, Any] | None:
    """Attributes of the store's root; None if it is none of ours."""
    import json

    try:
        notes = json.loads((path / "zarr.json").read_text(encoding="utf-8"))["attributes"]
        return notes if "sweep" in notes else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _batches_of(path: Path) -> Batches:
    """The batches of the store at `path`."""
    import zarr

    outcome = zarr.open_array(path, path=_LAST, mode="r")
    return Batches(outcome.shape, outcome.chunks)


def _missing(path: Path, batches: Batches) -> list[Batch]:
    """The batches that are not finished in the store at `path`."""
    finished = set(os.listdir(path / _LAST))
    return [batch for batch in batches if name_of(batch) not in finished]


class Store:
    """A store that is being filled.

    Parameters
    ----------
    path : Path
        Folder of the store.
    layout : Layout
        What it holds.
    batches : Batches
        Its batches.
    """

    def __init__(self, path: Path, layout: Layout, batches: Batches) -> None:
        self.path, self.layout, self.batches = path, layout, batches

    @classmethod
    def at(cls, path: Path, layout: Layout, batch_rows: int | None = None) -> Store:
        """The store at `path`, made if there is none.

        Raises
        ------
        ScenarioError
            If something else is there: a folder that is no store, another sweep, or one computed by another model.
        """
        if not path.exists():
            rows = batch_rows or BATCH_ROWS[layout.sweep.engine]
            _create(path, layout, Batches.of(layout.shape, rows))
        notes = _root(path)
        if notes is None:
            raise ScenarioError("is there already and is not a store that migkit has written: give another name",
                                value=str(path))  # fmt: skip
        _refuse_another(path, notes, layout.sweep)
        return cls(path, layout, _batches_of(path))

    def missing(self) -> list[Batch]:
        """The batches that are not finished."""
        return _missing(self.path, self.batches)

    def write(self, batch: Batch, outputs: Outputs) -> None:
        """Write a batch; `outputs` has a row for each of its migrations, the last dimension fastest."""
        lengths = self.batches.shape_of(batch)
        for variable in sorted(VARIABLES, key=lambda each: each.name == _LAST):
            column = getattr(outputs, variable.column)
            values = column.reshape(*lengths, *column.shape[1:]).astype(_stored(variable), copy=False)
            shape = (*self.batches.lengths, *column.shape[1:])
            number = (*batch, *(0 for _ in column.shape[1:]))
            write_chunk(self.path / variable.name, number, values, shape, NOT_YET)

    @contextlib.contextmanager
    def session(self, workers: str) -> Iterator[list[Batch]]:
        """Fill the store alone, and note when, for how long and with what; gives the batches that are missing.

        Raises
        ------
        ScenarioError
            If another process is filling it.
        """
        with _alone(self.path):
            _sweep_up(self.path)
            notes = provenance(self.layout.sweep.engine, self.layout.sweep.seed)
            notes |= {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "workers": workers}
            missing = self.missing()
            notes |= {"batches_missing": len(missing)}
            began = time.perf_counter()
            number = self._note(None, notes)
            try:
                yield missing
                _sweep_up(self.path)  # what a worker that was killed on the way has left
            finally:
                done = len(missing) - len(self.missing())
                took = {"seconds": round(time.perf_counter() - began, 3), "batches": done}
                with contextlib.suppress(OSError):  # a full disk shall not hide what went wrong first
                    self._note(number, notes | took)

    def _note(self, number: int | None, notes: dict[str, Any]) -> int:
        import zarr

        group = zarr.open_group(self.path, path=_SESSIONS, mode="r+")
        sessions = list(group.attrs[_SESSIONS])
        if number is None:
            number = len(sessions)
            sessions.append(notes)
        else:
            sessions[number] = notes
        group.attrs[_SESSIONS] = sessions
        return number


def _stored(variable) -> str:
    return "int8" if variable.name == "outcome" else "int64"


def _create(path: Path, layout: Layout, batches: Batches) -> None:
    """Make an empty store; it takes its name when it is whole."""
    import xarray as xr
    import zarr

    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*.new"):
        if not _runs(left.name.split(".")[-2]):
            shutil.rmtree(left, ignore_errors=True)
    fresh = path.parent / f".{path.name}.{os.getpid()}.new"
    labels = np.array(layout.devices, dtype=object)
    device = {"device": ("device", labels, {"long_name": "device, in list order"})}
    dataset = xr.Dataset(coords=layout.coordinates() | device)
    if (present := layout.present()) is not None:
        dataset["device_present"] = present
    notes = {name: value for name, value in layout.notes().items() if name not in _OF_A_SESSION}
    dataset.attrs = notes | {"model_sha256": source_digest()}
    dataset.to_zarr(fresh, consolidated=False)
    group = zarr.open_group(fresh, mode="r+")
    group.create_group(_SESSIONS, attributes={_SESSIONS: []})
    # Arrays of one shape differ in their attributes only; made at once they take a third of the time.
    made: dict[tuple[str, tuple[str, ...]], Any] = {}
    rest = {}
    for variable in VARIABLES:
        notes = attributes(variable) | (_TIMES if variable.unit == "s" else {})
        kind = _stored(variable), variable.dims
        if kind in made:
            rest[variable.name] = dataclasses.replace(made[kind].metadata, attributes=notes)
            continue
        devices = (len(labels),) if variable.dims else ()
        made[kind] = group.create_array(
            variable.name,
            shape=(*batches.shape, *devices),
            chunks=(*batches.lengths, *devices),
            dtype=_stored(variable),
            fill_value=NOT_YET,
            compressors=compressor(),
            chunk_key_encoding=KEYS,
            dimension_names=(*layout.dims, *variable.dims),
            attributes=notes,
        )
    list(zarr.create_hierarchy(store=group.store, nodes=rest))  # the iterator does the work
    try:
        fresh.rename(path)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)
        if not path.exists():
            raise


_OF_A_SESSION = ("git_commit", "python_version", "numpy_version", "numba_version")
"""What may be another from one session to the next."""


def _runs(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _refuse_another(path: Path, notes: dict[str, Any], sweep: Sweep) -> None:
    """Refuse a store of another sweep, or of the same one computed by another model."""
    import migkit

    def refused(problem: str) -> AnotherSweep:
        return AnotherSweep(problem, value=str(path))

    if notes["sweep_sha256"] != sweep.sha256:
        try:
            found = differences(sweep, Sweep.from_toml(notes["sweep"]))
        except ScenarioError:
            found = [f"it was written by migkit {notes['migkit_version']}"]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise refused(f"holds another sweep: {found[0]}{more}; give another name")
    if notes["migkit_version"] != migkit.__version__:
        raise refused(f"was begun with migkit {notes['migkit_version']}, and this is {migkit.__version__}: finish it "
                      "with that version, or give another name")  # fmt: skip
    if notes["model_sha256"] != source_digest():
        raise refused("was begun with other kernels than these: one store holds the results of one model, give "
                      "another name")  # fmt: skip


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the store's folder; the system lets go of it however the process ends."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ScenarioError("is being filled by another process: wait for it, or give another name",
                                value=str(path)) from None  # fmt: skip
        except OSError:  # a file system without locks, such as some network ones
            pass
        yield
    finally:
        os.close(folder)


def _sweep_up(path: Path) -> None:
    """Remove what a killed process had not renamed yet."""
    for left in path.rglob(f"*{UNFINISHED}"):
        left.unlink(missing_ok=True)


def open_sweep(path: str | Path) -> xr.Dataset:
    """Open the results of a sweep, whole or in part; values are read when they are used.

    Parameters
    ----------
    path : str or Path
        A store that :func:`migkit.sweep` or ``migkit sweep`` has written. It may be one that is being filled.

    Returns
    -------
    xarray.Dataset
        As :func:`migkit.sweep` returns it. What is not computed yet has the outcome -1. Attributes say how it was made:
        ``sessions`` (JSON) has an entry for each process that worked on it, with versions, start and duration;
        ``seconds`` is their sum, ``migrations_missing`` what is not computed yet.

    Raises
    ------
    ScenarioError
        If there is no such store.

    Examples
    --------
    >>> import migkit, tempfile
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dataset = migkit.sweep(scenario, {"link.bandwidth": ["1 Gbit/s"]}, store=f"{folder}/result.zarr")
    ...     int(migkit.open_sweep(f"{folder}/result.zarr").attrs["migrations_missing"])
    0
    """
    import json

    import xarray as xr
    import zarr

    path = Path(path)
    if _root(path) is None:
        raise ScenarioError("is not a store that migkit has written", value=str(path))
    dataset = xr.open_zarr(path, consolidated=False, chunks=None)
    names = [variable.name for variable in VARIABLES]
    dataset = dataset[names + [name for name in dataset.data_vars if name not in names]]
    # text of any length as objects, as a sweep in memory has it
    words = {name: array for name, array in dataset.coords.items() if array.dtype.kind == "T"}
    dataset = dataset.assign_coords(
        {name: (array.dims, array.values.astype(object), array.attrs) for name, array in words.items()}
    )
    batches = _batches_of(path)
    missing = sum(map(batches.rows, _missing(path, batches)))
    sessions = list(zarr.open_group(path, path=_SESSIONS, mode="r").attrs[_SESSIONS])
    last = {name: sessions[-1][name] for name in _OF_A_SESSION if name in sessions[-1]} if sessions else {}
    dataset.attrs |= last | {
        "sessions": json.dumps(sessions),
        "seconds": float(sum(session.get("seconds", 0.0) for session in sessions)),
        "migrations_missing": missing,
    }
    return dataset
