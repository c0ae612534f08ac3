"""Reading the measured migrations in ``data/qemu-traces``.

``data/qemu-traces/README.md`` says how they were measured and describes every file and column. Times in
columns ``t_ms`` are milliseconds since just before the ``migrate`` command.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "qemu-traces"


def runs(path: str | os.PathLike | None = None) -> pd.DataFrame:
    """Configuration and outcome of every measured migration.

    Parameters
    ----------
    path : path, optional
        Folder with the Parquet files. Without it the folder ``qemu-traces`` in the directory named by the
        environment variable ``MIGKIT_DATA``, or in ``data/`` beside the package in a checkout.

    Returns
    -------
    DataFrame
        One row a run, indexed by its name ``group__name__build__rR``. The main columns:

        - ``group``, ``name``, ``build`` (``unser``, ``ser``, ``deb72``), ``accel`` (``tcg``, ``kvm``), ``rep``
        - ``ram_mib``, ``ws_mib``, ``bw_mib_s`` (max-bandwidth, 0 = no limit), ``link_mib_s`` (0 = loopback, not
          paced), ``dt_limit_ms``
        - ``target_writes_s``, ``pre_writes_s``, ``mig_writes_s``: page writes per second asked for, and measured
          before and during the migration; ``writes_max``: the guest writes in a tight loop
        - ``caps``: capabilities, a tuple of names
        - ``outcome`` (``completed``, ``not_converged``), ``total_ms``, ``downtime_ms``, ``stop_at_ms``
        - ``transferred``, ``precopy_bytes``, ``downtime_bytes`` (bytes), ``normal``, ``duplicate`` (pages)
        - ``downtime_start_ms``, ``vm_stopped_ms``, ``iterable_saved_ms``, ``non_iterable_saved_ms``,
          ``downtime_end_ms``: the checkpoints of the downtime
        - ``link_first_pass_bytes_per_s``: bytes of normal pages over time inside RAM calls, up to the first sync
        - ``link_imposed_bytes_per_s``: of paced links
        - ``other_cpu``: CPU used by other processes, in CPUs

        All columns are in ``data/qemu-traces/README.md``.
    """
    return table("runs", path).set_index("run")


def trace(run: str, path: str | os.PathLike | None = None) -> Trace:
    """What was recorded of one migration, down to single turns of the iteration loop.

    Parameters
    ----------
    run : str
        Name of the run, a label of the index of :func:`runs`.
    path : path, optional
        As in :func:`runs`.

    Returns
    -------
    Trace
    """
    if run not in _rows_of_runs("runs", _folder(path)):
        raise KeyError(f"no measured run is called {run!r}; migkit.qemu.runs().index has the names")
    return Trace(run, _folder(path))


def table(name: str, path: str | os.PathLike | None = None) -> pd.DataFrame:
    """One whole Parquet file, all runs below each other.

    Parameters
    ----------
    name : str
        File name without its ending, such as ``"windows"``.
    path : path, optional
        As in :func:`runs`.

    Returns
    -------
    DataFrame
        A copy; the column ``run`` names the run.
    """
    return _read(name, _folder(path)).copy()


@dataclass(frozen=True)
class Trace:
    """One measured migration. Each property is a DataFrame in the order of recording.

    Runs without a trace (``traced`` of :func:`runs` is false) have empty tables, except ``samples``, ``events``,
    ``guest_writes`` and ``devices``.

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
        """Bitmap syncs, the first in setup and the last after the stop.

        ``t_ms`` (end), ``us`` (microseconds), ``dirty_pages_period`` (new dirty pages since the period was reset),
        ``estimate_before``, ``exact_after`` (pending bytes, missing in setup and after the stop).
        """
        return self._of("syncs")

    @cached_property
    def iterations(self) -> pd.DataFrame:
        """Walks of the device list: ``turn``, ``t_ms`` (start), ``estimate``, ``exact`` (pending bytes or missing).

        Where ``iterations_thinned`` of :func:`runs` is true most turns are missing and ``turn`` only counts rows.
        """
        return self._of("iterations")

    @cached_property
    def handler_calls(self) -> pd.DataFrame:
        """Calls in each walk: ``turn``, ``position``, ``section``, ``us`` (microseconds), ``returned``.

        ``returned`` is 1 when the handler found nothing left, 0 otherwise, and -5 in the call that a cancel broke.
        """
        return self._of("handler_calls")

    @cached_property
    def handler_totals(self) -> pd.DataFrame:
        """All calls of each ``section``: ``calls``, ``ret1``, ``ret0``, ``us`` and ``max_us`` (microseconds)."""
        return self._of("handler_totals")

    @cached_property
    def walks_per_100ms(self) -> pd.DataFrame:
        """Of thinned runs: ``t_ms`` (start of the 100 ms), ``walks``, ``section``, ``calls``, ``us``."""
        return self._of("walks_per_100ms")

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
        """``query-migrate`` about every 50 ms: ``t_ms``, ``status``, bytes, pages, rates; see README.md."""
        return self._of("samples")

    @cached_property
    def events(self) -> pd.DataFrame:
        """QMP events of both sides and trace points: ``t_ms``, ``source``, ``event``, ``detail``."""
        return self._of("events")

    @cached_property
    def guest_writes(self) -> pd.DataFrame:
        """The guest's own counters: ``when``, ``t_ms``, ``writes`` (pages), ``overruns``, ``wakeups``."""
        return self._of("guest_writes")

    @cached_property
    def devices(self) -> pd.DataFrame:
        """Devices, configured and as they ended: one row a ``device``, bytes and milliseconds since setup."""
        return self._of("devices")

    def _of(self, name):
        start, stop = _rows_of_runs(name, self.folder).get(self.run, (0, 0))
        return _read(name, self.folder).iloc[start:stop].drop(columns="run").reset_index(drop=True)


def _folder(path):
    """The folder with the Parquet files."""
    if path is not None:
        folder = Path(path)
    elif os.environ.get("MIGKIT_DATA"):
        folder = Path(os.environ["MIGKIT_DATA"]) / FOLDER
    else:
        folder = Path(__file__).parents[2] / "data" / FOLDER
    if not (folder / "runs.parquet").is_file():
        raise FileNotFoundError(
            f"{folder} does not hold the measured migrations: give the folder with runs.parquet, "
            "or set MIGKIT_DATA to the data directory of a migkit checkout."
        )
    return folder.resolve()


@lru_cache(maxsize=64)
def _read(name, folder):
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


@lru_cache(maxsize=64)
def _rows_of_runs(name, folder):
    """First row and row after the last of each run; the rows of a run lie together."""
    names = _read(name, folder)["run"].to_numpy()
    out = {}
    for row, run in enumerate(names):
        start, _ = out.get(run, (row, None))
        out[run] = start, row + 1
    return out
