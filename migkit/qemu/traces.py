"""Read the measured migrations in ``data/qemu-traces``.

``data/qemu-traces/README.md`` says how they were measured and describes every file and column. Columns ``t_ms``
are milliseconds since just before the ``migrate`` command.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from migkit.qemu import tables

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "qemu-traces"
"""Name of the folder with the Parquet files."""
INSTALLED = Path(__file__).with_name("measured")
"""Where the Parquet files are in an installed package; a checkout has them in ``data``."""
FIRST_CAMPAIGN = "2026-11-22"
"""The campaign in which the default costs were measured."""


def runs(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Read the configuration and outcome of every measured migration.

    Parameters
    ----------
    path : path, optional
        Folder with the Parquet files, or with runs of :func:`migkit.qemu.record`. The default is the folder
        ``qemu-traces`` in the directory named by the environment variable ``MIGKIT_DATA``, or else the runs that come
        with migkit.

    Returns
    -------
    DataFrame
        One row a run, indexed by its name ``group__name__build__rR``. ``data/qemu-traces/README.md`` lists all
        columns. The main ones:

        - ``campaign``: first day of the campaign; the runs of one have one host
        - ``group``, ``name``, ``build`` (``unser``, ``ser``, ``deb72``, ``v82``, ``deb100``, ``v102``, ``deb111``),
          ``accel`` (``tcg``, ``kvm``), ``rep``
        - ``ram_mib``, ``ws_mib``, ``bw_mib_s`` (max-bandwidth, 0 = no limit), ``link_mib_s`` (0 = loopback, not
          paced), ``dt_limit_ms``
        - ``target_writes_s``, ``pre_writes_s``, ``mig_writes_s``: page writes per second, requested, and measured
          before and during the migration; ``writes_max``: the guest writes in a tight loop
        - ``caps``: capabilities, a tuple of names
        - ``outcome`` (``completed``, ``not_converged``), ``total_ms``, ``downtime_ms``, ``stop_at_ms``
        - ``transferred``, ``precopy_bytes``, ``downtime_bytes`` (bytes), ``normal``, ``duplicate`` (pages)
        - ``downtime_start_ms``, ``vm_stopped_ms``, ``iterable_saved_ms``, ``non_iterable_saved_ms``,
          ``downtime_end_ms``: the checkpoints of the downtime
        - ``link_first_pass_bytes_per_s``: bytes of normal pages over time inside RAM's handler, until the first sync
        - ``link_imposed_bytes_per_s``: pace of a paced link
        - ``other_cpu``: CPUs used by other processes

    Raises
    ------
    FileNotFoundError
        If the folder does not hold the Parquet files.

    Examples
    --------
    >>> from migkit import qemu
    >>> qemu.runs()["outcome"].value_counts().to_dict()
    {'completed': 535, 'not_converged': 189}
    """
    return table("runs", path).set_index("run")


def trace(run: str, path: str | os.PathLike[str] | None = None) -> Trace:
    """Read what was recorded of one migration.

    Parameters
    ----------
    run : str
        Name of the run, from the index of :func:`runs`.
    path : path, optional
        As in :func:`runs`.

    Returns
    -------
    Trace

    Raises
    ------
    KeyError
        If no run is called `run`.

    Examples
    --------
    >>> from migkit import qemu
    >>> len(qemu.trace("B2__link200_dev1_init8__unser__r0").iterations)
    51
    """
    if run not in _rows_of_runs("runs", _folder(path)):
        raise KeyError(f"no measured run is called {run!r}; migkit.qemu.runs().index has the names")
    return Trace(run, _folder(path))


def table(name: str, path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Read one Parquet file, with the rows of all runs.

    Parameters
    ----------
    name : str
        File name without its suffix, such as ``"windows"``.
    path : path, optional
        As in :func:`runs`.

    Returns
    -------
    DataFrame
        A copy; the column ``run`` names the run.

    Raises
    ------
    FileNotFoundError
        If there is no such file.

    Examples
    --------
    >>> from migkit import qemu
    >>> qemu.table("windows")["run"].nunique()
    721
    """
    return _read(name, _folder(path)).copy()


@dataclass(frozen=True)
class Trace:
    """One measured migration. Each property is a DataFrame in the order of recording.

    For a run without a trace (``traced`` of :func:`runs` is false) all tables are empty except ``samples``,
    ``events``, ``guest_writes`` and ``devices``.

    Attributes
    ----------
    run : str
        Name of the run.
    folder : Path
        Where the Parquet files are.
    """

    run: str
    folder: Path

    @cached_property
    def config(self) -> pd.Series:
        """The row of :func:`runs`."""
        return self._of("runs").iloc[0].rename(self.run)

    @cached_property
    def windows(self) -> pd.DataFrame:
        """Rate-limit windows: ``t_ms`` (end), ``bytes``, ``ms``, ``bytes_per_ms``, ``threshold`` (bytes)."""
        return self._of("windows")

    @cached_property
    def syncs(self) -> pd.DataFrame:
        """Bitmap syncs; the first is in setup, the last after the VM was stopped.

        ``t_ms`` (end), ``us`` (microseconds), ``dirty_pages_period`` (new dirty pages since the period began),
        ``estimate_before``, ``exact_after`` (pending bytes, missing in setup and after the VM was stopped).
        """
        return self._of("syncs")

    @cached_property
    def iterations(self) -> pd.DataFrame:
        """Iterations: ``iteration`` (from 0), ``t_ms`` (start), ``estimate``, ``exact`` (pending bytes or missing).

        An iteration is one call of ``qemu_savevm_state_iterate``. Where ``iterations_thinned`` of :func:`runs` is true
        most of them are missing and ``iteration`` counts rows.
        """
        return self._of("iterations")

    @cached_property
    def handler_calls(self) -> pd.DataFrame:
        """Calls of handlers: ``iteration``, ``position``, ``section``, ``us`` (microseconds), ``returned``.

        ``returned`` is 1 if the handler found nothing left, 0 if not, and -5 in a call that ``migrate_cancel`` ended.
        """
        return self._of("handler_calls")

    @cached_property
    def handler_totals(self) -> pd.DataFrame:
        """Totals over the calls of a ``section``: ``calls``, ``ret1``, ``ret0``, ``us``, ``max_us`` (microseconds)."""
        return self._of("handler_totals")

    @cached_property
    def iterations_per_100ms(self) -> pd.DataFrame:
        """Of thinned runs: ``t_ms`` (start of the 100 ms), ``iterations``, ``section``, ``calls``, ``us``."""
        return self._of("iterations_per_100ms")

    @cached_property
    def device_iter(self) -> pd.DataFrame:
        """Calls of devices: ``t_ms`` (end), ``device``, ``bytes``, and in bytes ``initial_left``, ``dirty_left``."""
        return self._of("device_iter")

    @cached_property
    def big_waits(self) -> pd.DataFrame:
        """RAM calls ended by the 50 ms rule: ``t_ms`` (end), ``elapsed_ms``, ``pages``. At most 60 rows a run."""
        return self._of("big_waits")

    @cached_property
    def completion(self) -> pd.DataFrame:
        """Handlers in the downtime: ``t_ms`` (end), ``section``, ``us`` (microseconds)."""
        return self._of("completion")

    @cached_property
    def samples(self) -> pd.DataFrame:
        """``query-migrate`` about every 50 ms: ``t_ms``, ``status``, bytes, pages, rates."""
        return self._of("samples")

    @cached_property
    def events(self) -> pd.DataFrame:
        """QMP events of both sides and trace points: ``t_ms``, ``source``, ``event``, ``detail``."""
        return self._of("events")

    @cached_property
    def guest_writes(self) -> pd.DataFrame:
        """Counters kept by the guest: ``when``, ``t_ms``, ``writes`` (pages), ``overruns``, ``wakeups``."""
        return self._of("guest_writes")

    @cached_property
    def devices(self) -> pd.DataFrame:
        """One row a ``device``: its configuration, what it sent (bytes) and when (milliseconds since setup)."""
        return self._of("devices")

    def _of(self, name: str) -> pd.DataFrame:
        start, stop = _rows_of_runs(name, self.folder).get(self.run, (0, 0))
        return _read(name, self.folder).iloc[start:stop].drop(columns="run").reset_index(drop=True)


def _folder(path: str | os.PathLike[str] | None) -> Path:
    """Resolve the folder with the Parquet files."""
    if path is not None:
        folder = Path(path)
    elif os.environ.get("MIGKIT_DATA"):
        folder = Path(os.environ["MIGKIT_DATA"]) / FOLDER
    elif INSTALLED.is_dir():
        folder = INSTALLED
    else:
        folder = Path(__file__).parents[2] / "data" / FOLDER
    if not (folder / "runs.parquet").is_file() and not tables.files(folder):
        raise FileNotFoundError(
            f"{folder} does not hold the measured migrations: give the folder with runs.parquet or with recorded runs, "
            "or set MIGKIT_DATA to the data directory of a migkit checkout."
        )
    return folder.resolve()


class Folder(NamedTuple):
    """A folder with measured runs as it is now: what is remembered of it holds for as long as this is equal."""

    path: Path
    stamps: tuple[tuple[Path, int, int], ...]
    """Name, time and size of each recorded run; none of the Parquet files, which stay as they are."""

    @property
    def files(self) -> list[Path]:
        """All files that tables are read from."""
        return [file for file, *_ in self.stamps] or sorted(self.path.glob("*.parquet"))


def folder_now(path: str | os.PathLike[str] | None = None) -> Folder:
    """Find a folder with measured runs.

    Parameters
    ----------
    path : path, optional
        As in :func:`runs`.

    Returns
    -------
    Folder

    Raises
    ------
    FileNotFoundError
        If it does not hold measured runs.

    Examples
    --------
    >>> folder_now() == folder_now()
    True
    """
    folder = _folder(path)
    return Folder(folder, () if (folder / "runs.parquet").is_file() else _stamps(folder))


def _read(name: str, folder: Path) -> pd.DataFrame:
    if (folder / "runs.parquet").is_file():
        return _parquet(name, folder)
    found = _recorded(_stamps(folder))
    if name not in found:
        raise FileNotFoundError(f"{folder} has no table {name!r}; it has {', '.join(sorted(found))}.")
    return found[name]


def _stamps(folder: Path) -> tuple[tuple[Path, int, int], ...]:
    """The recorded runs of a folder; what is remembered of them holds as long as these are the same."""
    return tuple((path, (status := path.stat()).st_mtime_ns, status.st_size) for path in tables.files(folder))


@lru_cache(maxsize=8)
def _recorded(stamps: tuple[tuple[Path, int, int], ...]) -> dict[str, pd.DataFrame]:
    found = tables.tables([path for path, *_ in stamps])
    found["runs"]["caps"] = found["runs"]["caps"].map(tuple)
    return found


@lru_cache(maxsize=64)
def _parquet(name: str, folder: Path) -> pd.DataFrame:
    import pandas as pd

    file = folder / f"{name}.parquet"
    if not file.is_file():
        known = ", ".join(sorted(f.stem for f in folder.glob("*.parquet")))
        raise FileNotFoundError(f"{folder} has no table {name!r}; it has {known}.")
    frame = pd.read_parquet(file)
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("category"), "str"))
    if "caps" in frame:
        frame["caps"] = frame["caps"].map(tuple)
    return frame


def _rows_of_runs(name: str, folder: Path) -> dict[str, tuple[int, int]]:
    """First row of each run and the row after its last one; the rows of a run are contiguous."""
    return _bounds(name, folder_now(folder))


@lru_cache(maxsize=64)
def _bounds(name: str, folder: Folder) -> dict[str, tuple[int, int]]:
    names = _read(name, folder.path)["run"].to_numpy()
    out: dict[str, tuple[int, int]] = {}
    for row, run in enumerate(names):
        start, _ = out.get(run, (row, row))
        out[run] = start, row + 1
    return out
