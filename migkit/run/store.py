"""Results of a sweep on disk: a Zarr store that is filled batch by batch and says what is missing.

Every variable is an array with one Zarr chunk a batch. A chunk is written whole or not at all, and the outcome of a
batch is written last: a batch is finished when its outcome is there. Whatever kills the process, the next one computes
only what is missing, and the arrays end as those of a run that was never interrupted, byte for byte.

Every file has a checksum. Opening a store compares those of metadata and coordinates and asks for all chunks of the
finished batches; reading compares those of the chunks; filling compares all, and writes again what is damaged.

A store holds the results of one sweep and one model, :data:`~migkit.kernels.state.MODEL_VERSION`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.kernels.state import MODEL_VERSION, Reports
from migkit.provenance import provenance
from migkit.results import SWEEP_VARIABLES, Variable, attributes, stored, validated
from migkit.run.batches import Batch, Batches
from migkit.run.checksums import CHECKSUMS, Checksums, read_group, with_checksum, write_group
from migkit.run.damage import (
    CHANGED,
    DIMS,
    ELSEWHERE,
    LAST,
    MISSING,
    UNREADABLE,
    chunk_damage,
    damage,
    has_checksums,
)
from migkit.run.design import Sweep, differences
from migkit.run.former_names import renamed_dataset, renamed_toml, with_verdicts, without_postcopy
from migkit.run.grid import Layout
from migkit.run.whole_file import checked_path, is_partial, whole_file, whole_folder
from migkit.scenario.errors import AnotherSweep, DamagedStore, ScenarioError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["BATCH_ROWS", "Store", "coordinates", "open_sweep"]

BATCH_ROWS = {"expected": 131072, "bitmap": 512}
"""Migrations of a batch, by engine: a second or less on one core."""
NOT_YET = -1
"""Outcome of a migration that is not computed yet."""
_SESSIONS = "sessions"
_LOCK = "outcome/.lock"
"""The lock file. In the folder of an array, because zarr warns of files it does not know in the folder of a group."""
_TIMES = {"scale_factor": 1e-9, "_FillValue": -1}
"""Times are nanoseconds on disk and seconds for readers (CF conventions)."""
_OF_A_SESSION = ("git_commit", "python_version", "numpy_version", "numba_version")
"""What may differ from one session to the next."""
_TEXTS = ("sweep", "sweep_sha256", "migkit_version")
"""Attributes that every store has."""
_LOG = logging.getLogger(__name__)


# --- Zarr chunks ---------------------------------------------------------------------------------
#
# Written without zarr, which takes about a millisecond a chunk, a tenth of what the kernels take for its migrations. A
# test compares the bytes with those that zarr writes.

_CODEC: dict[str, Any] = {"cname": "lz4", "clevel": 5}  # some GB/s
_KEYS: dict[str, Any] = {"name": "default", "separator": "."}
"""How zarr names chunks: all files of an array in one folder, because a folder takes longer to make than a file."""


@cache
def _blosc() -> Any:
    from numcodecs import Blosc

    return Blosc(**_CODEC, shuffle=Blosc.SHUFFLE)


def _chunk_name(chunk: tuple[int, ...]) -> str:
    """Name of a chunk's file in the folder of its array."""
    return ".".join(("c", *map(str, chunk)))


def _write_chunk(array: Path, chunk: tuple[int, ...], values: np.ndarray, shape: tuple[int, ...], fill: int) -> None:
    """Write a chunk, by its number along every dimension, whole or not at all.

    At the end of an array there may be fewer `values` than the `shape` of a chunk; the rest gets the value `fill`.
    """
    if values.shape != shape:
        whole = np.full(shape, fill, values.dtype)
        whole[tuple(map(slice, values.shape))] = values
        values = whole
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    with whole_file(array / _chunk_name(chunk)) as file:
        file.write(with_checksum(_blosc().encode(little)))


# --- what is there, and whole --------------------------------------------------------------------


def _chunk_of(name: str, batch: Batch) -> str:
    """Name of the file with a batch of a variable."""
    return _chunk_name((*batch, *(0 for _ in DIMS[name])))


def _root_attributes(path: Path) -> dict[str, Any] | None:
    """Attributes of the store's root; None if they are not those that migkit writes."""
    try:
        found = json.loads((path / "zarr.json").read_bytes())["attributes"]
        return found if all(isinstance(found[name], str) for name in _TEXTS) else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None


def _is_store(path: Path) -> bool:
    """Whether migkit has written what is at `path`, whatever it has lost since."""
    parts = (path / CHECKSUMS).is_dir(), (path / _SESSIONS).is_dir() and (path / LAST).is_dir()
    return any(parts) or _root_attributes(path) is not None


def _whole_attributes(path: Path) -> dict[str, Any]:
    """Attributes of the root of a store whose metadata and coordinates are whole.

    Raises
    ------
    DamagedStore
        If a file is missing or damaged.
    """
    root = _root_attributes(path)
    if has_checksums(path):
        checksums = Checksums.read(path)
        if checksums is None:
            raise damage(path, f"{CHECKSUMS}/zarr.json", UNREADABLE)
        for name in checksums.damaged(path):
            raise damage(path, name, CHANGED if (path / name).exists() else MISSING)
    else:
        _check_without_checksums(path, root)
    if root is None:
        raise damage(path, "zarr.json", UNREADABLE)
    if _sessions(path) is None:
        raise damage(path, f"{_SESSIONS}/zarr.json", UNREADABLE)
    return root


def _check_without_checksums(path: Path, root: dict[str, Any] | None) -> None:
    """Refuse a store of the time before checksums if its metadata cannot be read."""
    import zarr

    for name in sorted({LAST, *(each.name for each in path.iterdir() if each.is_dir())}):
        try:
            zarr.open(path, path=name, mode="r")
        except Exception:  # whatever zarr makes of metadata with other bytes
            raise damage(path, f"{name}/zarr.json", UNREADABLE) from None
    try:
        renamed_toml(root["sweep"] if root else "")
    except Exception:  # whatever is made of text that is no description
        raise damage(path, "zarr.json", "holds no description") from None


def _sessions(path: Path) -> list[Any] | None:
    """The notes on who filled the store at `path`; None if they are missing or damaged."""
    if (path / CHECKSUMS).exists():
        return (read_group(path / _SESSIONS) or {}).get(_SESSIONS)
    try:
        found = json.loads((path / _SESSIONS / "zarr.json").read_bytes())["attributes"][_SESSIONS]
        return found if isinstance(found, list) and all(isinstance(each, dict) for each in found) else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return None


def _batches_of(path: Path) -> Batches:
    """The batches of the store at `path`."""
    import zarr

    outcome = zarr.open_array(path, path=LAST, mode="r")
    return Batches(outcome.shape, outcome.chunks)


def _chunks_of(path: Path) -> dict[str, set[str]]:
    """Names of the files of every variable of the store at `path`; those of the outcome are looked up first."""
    names = sorted((name for name in DIMS if (path / name).is_dir()), key=lambda name: name != LAST)
    return {name: set(os.listdir(path / name)) for name in names}


def _missing(path: Path, batches: Batches) -> list[Batch]:
    """The batches that are not finished in the store at `path`, or lack a file of any variable."""
    there = _chunks_of(path)
    return [batch for batch in batches if any(_chunk_of(name, batch) not in there[name] for name in there)]


def _lost(path: Path, batches: Batches) -> str | None:
    """A file that a finished batch of the store at `path` lacks."""
    there = _chunks_of(path)
    finished = [batch for batch in batches if _chunk_name(batch) in there[LAST]]
    lost = (f"{name}/{_chunk_of(name, batch)}" for name in there for batch in finished
            if _chunk_of(name, batch) not in there[name])  # fmt: skip
    return next(lost, None)


# --- stores --------------------------------------------------------------------------------------


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
        """The store at `path`, created if there is none.

        Raises
        ------
        ScenarioError
            If something else is there: a folder that is no store, another sweep, or one that another model has begun
            and not finished.
        OSError
            If it cannot be created.
        """
        if not path.exists():
            rows = batch_rows or BATCH_ROWS[layout.sweep.engine]
            _create(path, layout, Batches.of(layout.shape, rows))
        if not _is_store(path):
            raise ScenarioError("is there already and is not a store that migkit has written: give another name",
                                value=str(path))  # fmt: skip
        try:
            root = _whole_attributes(path)
        except DamagedStore as found:
            _mend(path, layout, found)
            root = _whole_attributes(path)
        _refuse_another_sweep(path, root, layout.sweep)
        store = cls(path, layout, _batches_of(path))
        if store.missing():
            if not has_checksums(path) and (lost := _lost(path, store.batches)) is not None:
                raise damage(path, lost, MISSING)
            _refuse_another_model(path, root)
        return store

    def missing(self) -> list[Batch]:
        """The batches that are not finished."""
        return _missing(self.path, self.batches)

    def damaged(self) -> Iterator[tuple[Batch, DamagedStore]]:
        """The finished batches of which a file is damaged; reads all files."""
        names = _chunks_of(self.path)
        missing = set(self.missing())
        for batch in self.batches:
            files = (f"{name}/{_chunk_of(name, batch)}" for name in names if batch not in missing)
            for file in files:
                if how := chunk_damage(self.path, file, (self.path / file).read_bytes()):
                    yield batch, damage(self.path, file, how)
                    break

    def write(self, batch: Batch, reports: Reports) -> None:
        """Write a batch; `reports` has a row for each of its migrations, the last dimension fastest."""
        lengths = self.batches.shape_of(batch)
        for variable in sorted(self._variables(), key=lambda each: each.name == LAST):
            column = stored(reports, variable)
            values = column.reshape(*lengths, *column.shape[1:]).astype(_stored_type(variable), copy=False)
            shape = (*self.batches.lengths, *column.shape[1:])
            number = (*batch, *(0 for _ in column.shape[1:]))
            _write_chunk(self.path / _name_in(self.path, variable), number, values, shape, _not_yet(variable))
        _LOG.debug("%s: batch %s written", self.path, _chunk_name(batch))

    def _variables(self) -> list[Variable]:
        """The variables that this store has: one begun before a variable was added goes on without it."""
        known = [variable for variable in SWEEP_VARIABLES if (self.path / _name_in(self.path, variable)).is_dir()]
        if not _is_former(self.path):
            return known
        return [variable for variable in known if variable.name != "total_time_s"]

    @contextlib.contextmanager
    def session(self, workers: str) -> Iterator[list[Batch]]:
        """Fill the store, with an exclusive lock; gives the batches that are missing.

        Notes in the store when the session began, how long it took and what computed.

        Raises
        ------
        ScenarioError
            If another process is filling it.
        DamagedStore
            If a batch is damaged that this model did not compute.
        """
        with _exclusive_lock(self.path):
            _remove_partial_files(self.path)
            self._forget_damaged()
            notes: dict[str, Any] = provenance(self.layout.sweep.engine, self.layout.sweep.seed)
            notes |= {"started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "workers": workers}
            missing = self.missing()
            notes |= {"batches_missing": len(missing)}
            if done := len(self.batches) - len(missing):
                _LOG.info("%s: resumed, %d of %d batches are skipped: they are finished", self.path, done,
                          len(self.batches))  # fmt: skip
            began = time.perf_counter()
            number = self._note(None, notes)
            try:
                yield missing
                _remove_partial_files(self.path)  # of workers that were killed
            finally:
                done = len(missing) - len(self.missing())
                took = {"seconds": round(time.perf_counter() - began, 3), "batches": done}
                with contextlib.suppress(OSError):  # a full disk must not hide the first error
                    self._note(number, notes | took)

    def _forget_damaged(self) -> None:
        """Remove the outcome of batches that are damaged or lack a file: they are not finished."""
        for batch, found in self.damaged():
            try:
                _refuse_another_model(self.path, _whole_attributes(self.path))
            except AnotherSweep:
                raise found.but(ELSEWHERE) from None
            _LOG.warning("%s", found)
            (self.path / LAST / _chunk_name(batch)).unlink()
        for batch in self.missing():
            (self.path / LAST / _chunk_name(batch)).unlink(missing_ok=True)

    def _note(self, number: int | None, notes: dict[str, Any]) -> int:
        """Write the notes of a session, by its number in the list or as a new one; return the number."""
        sessions = _sessions(self.path) or []
        if number is None:
            number = len(sessions)
            sessions.append(notes)
        else:
            sessions[number] = notes
        write_group(self.path / _SESSIONS, {_SESSIONS: sessions})
        return number


def _stored_type(variable: Variable) -> str:
    return variable.dtype if variable.dtype in ("int8", "bool") else "int64"


def _not_yet(variable: Variable) -> int:
    """What a variable holds before it is computed."""
    return 0 if variable.dtype == "bool" else NOT_YET


def _is_former(path: Path) -> bool:
    """Whether the store at `path` is of the time when ``total_time_s`` held the time of every verdict."""
    return not (path / "verdict_time_s").is_dir()


def _name_in(path: Path, variable: Variable) -> str:
    """Name of a variable's array in the store at `path`."""
    return "total_time_s" if variable.name == "verdict_time_s" and _is_former(path) else variable.name


def _create(path: Path, layout: Layout, batches: Batches) -> None:
    """Create an empty store, whole or not at all; leave one that another process or thread creates meanwhile."""
    try:
        with whole_folder(path) as new:
            _write_empty(new, layout, batches)
    except OSError:
        if not _is_store(path):
            raise
    else:
        _LOG.debug("%s: created, %d batches of up to %d migrations", path, len(batches), batches.most_rows)


def coordinates(layout: Layout) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
    """All coordinates of a sweep, the devices among them, as xarray takes them: dimension, values, attributes."""
    # Text as objects, which xarray stores as variable-length text in Zarr: fixed-length text has no specification.
    labels = np.array(layout.devices, dtype=object)
    return layout.coordinates() | {"device": ("device", labels, {"long_name": "device, in list order"})}


def _write_empty(path: Path, layout: Layout, batches: Batches) -> None:
    import xarray as xr
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

    dataset = xr.Dataset(coords=coordinates(layout))
    if (present := layout.present()) is not None:
        dataset["device_present"] = present
    notes = {name: value for name, value in layout.notes().items() if name not in _OF_A_SESSION}
    dataset.attrs = notes | {"model_version": MODEL_VERSION}
    dataset.to_zarr(path, consolidated=False)
    group = zarr.open_group(path, mode="r+")
    # Arrays of one shape differ in their attributes only; creating them together takes a third of the time.
    made: dict[tuple[str, tuple[str, ...]], Any] = {}
    rest = {}
    for variable in SWEEP_VARIABLES:
        described = attributes(variable) | (_TIMES if variable.unit == "s" else {})
        kind = _stored_type(variable), variable.dims
        if kind in made:
            rest[variable.name] = dataclasses.replace(made[kind].metadata, attributes=described)
            continue
        devices = (len(layout.devices),) if variable.dims else ()
        made[kind] = group.create_array(
            variable.name,
            shape=(*batches.shape, *devices),
            chunks=(*batches.lengths, *devices),
            dtype=_stored_type(variable),
            fill_value=_not_yet(variable),
            compressors=[BloscCodec(**_CODEC, shuffle="shuffle"), Crc32cCodec()],
            chunk_key_encoding=_KEYS,
            dimension_names=(*layout.dims, *variable.dims),
            attributes=described,
        )
    list(zarr.create_hierarchy(store=group.store, nodes=rest))  # the iterator does the work
    Checksums.of(path, batches.lengths).write(path)
    write_group(path / _SESSIONS, {_SESSIONS: []})


def _mend(path: Path, layout: Layout, found: DamagedStore) -> None:
    """Write metadata and coordinates of a store again where they are missing or damaged.

    Raises
    ------
    DamagedStore
        `found` with another remedy, if the sweep of `layout` would write other ones.
    """
    if not has_checksums(path):
        raise found
    checksums, root = Checksums.read(path), _root_attributes(path)
    if root is not None and (checksums is None or "zarr.json" not in checksums.damaged(path)):
        _refuse_another_sweep(path, root, layout.sweep)
    (path / LAST).mkdir(exist_ok=True)
    with _exclusive_lock(path), tempfile.TemporaryDirectory() as temporary:
        try:
            if checksums is None:
                _refuse_another_model(path, root or {})
            lengths = checksums.lengths if checksums else _batches_of(path).lengths
            new = Path(temporary, path.name)
            _write_empty(new, layout, Batches(layout.shape, lengths))
        except Exception:  # lengths of another sweep, or metadata that zarr cannot read
            raise found.but(ELSEWHERE) from None
        written = Checksums.of(new, lengths)
        wanted = checksums or Checksums.read(new) or written
        damaged = list(wanted.damaged(path))
        for name in damaged:
            if written.files.get(name) != wanted.files[name]:
                raise damage(path, name, CHANGED).but(ELSEWHERE)
        for name in damaged:
            _LOG.warning("%s: %s was damaged and is written again", path, name)
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path / name) as file:
                file.write((new / name).read_bytes())
        if checksums is None:
            wanted.write(path)
        if _sessions(path) is None:
            write_group(path / _SESSIONS, {_SESSIONS: []})


def _refuse_another_sweep(path: Path, root: dict[str, Any], sweep: Sweep) -> None:
    if root["sweep_sha256"] == sweep.sha256:
        return
    # The digest also changes when a field is added to the description; its default means the same sweep.
    try:
        text = root["sweep"] if "model_version" in root else renamed_toml(root["sweep"])
        found = differences(sweep, Sweep.from_toml(text))
    except ScenarioError:
        found = [f"it was written by migkit {root['migkit_version']}"]
    if not found and root.get("policies", "{}") != json.dumps(sweep.policies):
        found = [f"a policy has the source of another function ({', '.join(sweep.policies)})"]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise AnotherSweep(f"holds another sweep: {found[0]}{more}; give another name", value=str(path))


def _refuse_another_model(path: Path, root: dict[str, Any]) -> None:
    import migkit

    if root.get("model_version") != MODEL_VERSION:
        which = f" ({root['model_version']}, and this is {MODEL_VERSION})" if "model_version" in root else ""
        raise AnotherSweep(f"is not finished and was begun by another model{which}: it can still be opened for "
                           "reading, to compute the rest give another name", value=str(path))  # fmt: skip
    if root["migkit_version"] != migkit.__version__:
        raise AnotherSweep(f"was begun with migkit {root['migkit_version']}, and this is {migkit.__version__}: finish "
                           "it with that version, or give another name", value=str(path))  # fmt: skip


@contextlib.contextmanager
def _exclusive_lock(path: Path) -> Iterator[None]:
    """Lock the store at `path`; the system releases the lock however the process ends."""
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(FileLock(path / _LOCK, timeout=0))
        except Timeout:
            raise ScenarioError("is being filled by another process: wait for it, or give another name",
                                value=str(path)) from None  # fmt: skip
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):  # a file system without locks
                raise
        yield


def _remove_partial_files(path: Path) -> None:
    """Remove the temporary files of killed processes, and nothing else."""
    for folder in filter(os.path.isdir, (path / name for name in (*_chunks_of(path), _SESSIONS, CHECKSUMS))):
        for entry in os.scandir(folder):
            if is_partial(entry.name):
                Path(entry).unlink(missing_ok=True)


def open_sweep(path: str | Path) -> xr.Dataset:
    """Open the results of a sweep, whole or in part; values are read when they are used.

    Parameters
    ----------
    path : str or Path
        A store that :func:`migkit.sweep` or ``migkit sweep`` has written, with this model or another. It may be one
        that is being filled.

    Returns
    -------
    xarray.Dataset
        As :func:`migkit.sweep` returns it. What is not computed yet has the outcome -1 and is not ``completed``. The
        attributes say how it was made: ``model_version``, versions of the libraries, seed and description; ``sessions``
        (JSON) has an entry for each process that worked on it, with versions, start and duration; ``seconds`` is their
        sum, ``migrations_missing`` what is not computed yet. Stores written when ``total_time_s`` was the time of every
        verdict open with the variables of today.

    Raises
    ------
    ScenarioError
        If there is no such store.
    DamagedStore
        If a file is missing, or has other bytes than were written; also raised when values are read. The same sweep
        into this store computes what is damaged again, and only that.

    Examples
    --------
    >>> import migkit, tempfile
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     dataset = migkit.sweep(scenario, {"link.bandwidth": ["1 Gbit/s"]}, store=f"{folder}/result.zarr")
    ...     int(migkit.open_sweep(f"{folder}/result.zarr").attrs["migrations_missing"])
    0
    """
    import xarray as xr

    from migkit.run.checked_files import CheckedFiles

    path = checked_path("store", path)
    if not _is_store(path):
        raise ScenarioError("is not a store that migkit has written", value=str(path))
    _whole_attributes(path)
    batches = _batches_of(path)
    if (lost := _lost(path, batches)) is not None:
        raise damage(path, lost, MISSING)
    dataset = xr.open_zarr(CheckedFiles(path), consolidated=False, chunks=None)
    for dim in dataset.dims:
        if dim not in dataset.coords:
            raise damage(path, f"{dim}/zarr.json", MISSING)
    if "model_version" not in dataset.attrs:
        dataset = renamed_dataset(dataset)
    if _is_former(path):
        dataset = with_verdicts(dataset)
    dataset = without_postcopy(dataset)
    known = [variable.name for variable in SWEEP_VARIABLES if variable.name in dataset]
    dataset = dataset[known + [name for name in dataset.data_vars if name not in known]]
    # Text of any length as objects, as in a sweep in memory.
    texts = {name: array for name, array in dataset.coords.items() if array.dtype.kind == "T"}
    dataset = dataset.assign_coords(
        {name: (array.dims, array.values.astype(object), array.attrs) for name, array in texts.items()}
    )
    missing = sum(map(batches.rows, _missing(path, batches)))
    sessions = _sessions(path) or []
    last = {name: sessions[-1][name] for name in _OF_A_SESSION if name in sessions[-1]} if sessions else {}
    dataset.attrs |= last | {
        "sessions": json.dumps(sessions),
        "seconds": float(sum(session.get("seconds", 0.0) for session in sessions)),
        "migrations_missing": missing,
    }
    return validated(dataset, "sweep")
