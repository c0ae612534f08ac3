"""What comes out: outcomes and their sentences, the registry of result variables, labelled tables.

A kernel fills integer columns (:class:`migkit.kernels.parameters.Outputs`): nanoseconds, bytes, pages, and -1
where something never happened. People get SI units, ``NaN`` for *never*, names that carry their unit, and
a note of how the numbers were made. The change from one to the other happens here and nowhere else.
"""

from __future__ import annotations

import functools
import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from migkit.kernels.parameters import Outputs

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = [
    "VARIABLES",
    "Outcome",
    "Variable",
    "attributes",
    "provenance",
    "sentence",
    "to_dataset",
    "to_frame",
    "values",
]


class Outcome(IntEnum):
    """How a migration ended. *Never* is a result: every other value says why it did not complete."""

    COMPLETED = 0
    """The guest runs on the destination."""
    INITIAL_DATA_STARVED = 1
    """With switchover-ack: a device's initial data was never sent, so the destination never acknowledged."""
    RAM_ABOVE_LINK = 2
    """RAM is rewritten faster than it can be sent; it never fits into the downtime limit."""
    STOP_COPY_ABOVE_THRESHOLD = 3
    """What devices must send after the switchover never fits into the downtime limit."""
    TIME_LIMIT = 4
    """The time limit was reached before anything was decided."""

    @property
    def label(self) -> str:
        """The name in lower case, as tables and legends show it."""
        return self.name.lower()


class Variable(NamedTuple):
    """One result variable: what a kernel column is called outside, and what it means."""

    name: str
    column: str
    """Name of the kernel column in :class:`~migkit.parameters.Outputs`."""
    dims: tuple[str, ...]
    """Dimensions beside those of the sweep: none, or ``("device",)``."""
    dtype: str
    unit: str
    """UCUM-like: ``s``, ``B`` (bytes), ``%``, ``1`` (a count or a code)."""
    meaning: str


def _variable(column: str, name: str, unit: str, meaning: str) -> Variable:
    dims = ("device",) if column.startswith("device_") else ()
    dtype = "int8" if column == "outcome" else "float64" if unit == "s" else "int64"
    return Variable(name, column, dims, dtype, unit, meaning)


VARIABLES: tuple[Variable, ...] = (
    _variable("outcome", "outcome", "1", "how the migration ended"),
    _variable("culprit", "culprit", "1", "index of the device that prevents convergence, -1 if none"),
    _variable("total_ns", "total_time_s", "s", "from the migrate command to the end, or to the verdict"),
    _variable("downtime_ns", "downtime_s", "s", "from the decision to stop the VM to the end"),
    _variable("stop_ns", "stop_time_s", "s", "when the VM was stopped"),
    _variable("downtime_stop_ns", "downtime_stop_s", "s", "part of the downtime: VM stop and final sync"),
    _variable("downtime_ram_ns", "downtime_ram_s", "s", "part of the downtime: the dirty RAM that was left"),
    _variable("downtime_devices_ns", "downtime_devices_s", "s", "part of the downtime: stop-copy of devices"),
    _variable("downtime_state_ns", "downtime_state_s", "s", "part of the downtime: non-iterable device state"),
    _variable("downtime_destination_ns", "downtime_destination_s", "s",
              "part of the downtime: last bytes on the wire, load at the destination, round trip"),
    _variable("sync_count", "sync_count", "1", "bitmap syncs, as dirty-sync-count reports them"),
    _variable("turns", "iterations", "1", "calls of qemu_savevm_state_iterate"),
    _variable("bytes_sent", "bytes_sent", "B", "everything put into the stream"),
    _variable("ram_pages_sent", "ram_pages_sent", "1", "RAM pages sent, normal and zero, with the switchover"),
    _variable("ram_zero_pages", "ram_zero_pages", "1", "zero pages among them"),
    _variable("switchover_bytes", "switchover_bytes", "B", "bytes sent while the VM was stopped"),
    _variable("ram_calls", "ram_calls", "1", "calls of the RAM handler"),
    _variable("ram_calls_done", "ram_calls_done", "1", "calls of the RAM handler that found nothing left"),
    _variable("threshold", "threshold_bytes", "B", "last threshold: what fits into the downtime limit"),
    _variable("pending", "pending_bytes", "B", "last pending size that was compared with the threshold"),
    _variable("ram_remaining", "ram_remaining_bytes", "B", "dirty RAM after the last sync of the loop"),
    _variable("throttle", "throttle_percent", "%", "share of time that auto-converge takes from the vCPUs"),
    _variable("steps", "steps", "1", "turns that were computed one by one; the rest were jumped over"),
    _variable("device_bytes", "device_bytes", "B", "bytes of the device put into the stream"),
    _variable("device_calls", "device_calls", "1", "calls of the device's iterate handler"),
    _variable("device_first_call_ns", "device_first_call_s", "s", "first call of the handler"),
    _variable("device_initial_sent_ns", "device_initial_sent_s", "s", "when the initial data had left"),
    _variable("device_ack_ns", "device_ack_s", "s", "when the destination's acknowledgement arrived"),
    _variable("device_starved_ns", "device_starved_s", "s", "time in which the walk ended before the device"),
    _variable("device_initial_left", "device_initial_left_bytes", "B", "initial data that was never sent"),
)  # fmt: skip
"""The registry: every column of ``Outputs``, in its order."""


def values(outputs: Outputs) -> dict[str, np.ndarray]:
    """Kernel columns as people read them.

    Parameters
    ----------
    outputs : Outputs
        Columns of a kernel, one row per migration.

    Returns
    -------
    dict of str to ndarray
        One array per :class:`Variable`, in the order of :data:`VARIABLES`; times in seconds with ``NaN``
        for *never*, everything else unchanged but for the type, and not copied if that is right.
    """
    table = {}
    for variable in VARIABLES:
        column = np.asarray(getattr(outputs, variable.column))
        if variable.unit == "s":
            table[variable.name] = np.asarray(column * 1e-9)
            table[variable.name][column < 0] = np.nan
        else:
            table[variable.name] = column.astype(variable.dtype, copy=False)
    return table


# --- sentences -----------------------------------------------------------------------------------


def bytes_text(size: float) -> str:
    """A size with three significant digits and a binary prefix: ``335 MiB``."""
    for prefix in ("", "Ki", "Mi", "Gi"):
        if abs(size) < 1023.5:
            return f"{size:.3g} {prefix}B" if size < 999.5 else f"{size:.0f} {prefix}B"
        size /= 1024
    return f"{size:.3g} TiB" if size < 999.5 else f"{size:.0f} TiB"


def seconds_text(duration: float) -> str:
    """A duration with three significant digits: ``13.6 s``, ``243 ms``; ``never`` for NaN."""
    if math.isnan(duration):
        return "never"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if duration >= 0.9995 * scale:
            number = duration / scale
            return f"{number:.3g} {unit}" if number < 999.5 else f"{number:.0f} {unit}"
    return f"{duration / 1e-9:.0f} ns" if duration else "0 s"


def sentence(numbers: Mapping[str, Any], devices: Sequence[str] = ()) -> str:
    """One plain sentence that says how a migration ended, and why.

    Parameters
    ----------
    numbers : mapping
        Result variables of one migration by their registered names, for instance
        ``dataset.isel(...)`` of a sweep. ``device_initial_bytes`` (what each device had to send
        initially, bytes) is used if it is there.
    devices : sequence of str, optional
        Labels of the devices; by default the ``device`` coordinate of `numbers`, if it has one.

    Returns
    -------
    str

    Examples
    --------
    >>> sentence({"outcome": 0, "culprit": -1, "total_time_s": 13.6, "downtime_s": 0.243})
    'Completed in 13.6 s with a downtime of 243 ms.'
    """
    outcome, culprit = Outcome(int(numbers["outcome"])), int(numbers["culprit"])
    if not len(devices) and "device" in numbers:
        devices = [str(label) for label in np.asarray(numbers["device"])]
    name = devices[culprit] if 0 <= culprit < len(devices) else f"device {culprit}" if culprit >= 0 else ""

    def size(key: str) -> str:
        return bytes_text(float(numbers[key]))

    if outcome is Outcome.COMPLETED:
        total, downtime = (seconds_text(float(numbers[key])) for key in ("total_time_s", "downtime_s"))
        return f"Completed in {total} with a downtime of {downtime}."
    if outcome is Outcome.INITIAL_DATA_STARVED:
        return _starved(numbers, culprit, name)
    threshold, pending = size("threshold_bytes"), size("pending_bytes")
    if outcome is Outcome.RAM_ABOVE_LINK:
        beside = (
            ""
            if int(numbers["ram_remaining_bytes"]) >= int(numbers["threshold_bytes"])
            else ("beside what the devices must send, ")
        )
        return (
            f"RAM is written faster than it can be sent: {size('ram_remaining_bytes')} were dirty after the "
            f"last sync, and {beside}only {threshold} fit into the downtime limit."
        )
    if outcome is Outcome.STOP_COPY_ABOVE_THRESHOLD:
        whose = f"what {name} must send" if name else "what the devices must send"
        return (
            f"The downtime limit is too small for {whose} while the VM is stopped: "
            f"{pending} were pending, and only {threshold} fit."
        )
    return (
        f"The time limit was reached after {seconds_text(float(numbers['total_time_s']))} and "
        f"{int(numbers['sync_count'])} syncs: {pending} were pending, and {threshold} fit into the downtime limit."
    )


def _starved(numbers: Mapping[str, Any], culprit: int, name: str) -> str:
    def of_device(key: str) -> int:
        return int(np.asarray(numbers[key])[culprit])

    name = name or "a device"
    calls, left, turns = of_device("device_calls"), of_device("device_initial_left_bytes"), int(numbers["iterations"])
    whole = f" of {bytes_text(of_device('device_initial_bytes'))}" if "device_initial_bytes" in numbers else ""
    if calls == 0:
        what = f"{name}'s initial data was never sent: the walk ended before reaching it in every turn"
    elif left:
        what = f"{name}'s initial data was never sent in full: the walk reached it in {calls} of {turns} turns"
    else:
        what = f"{name}'s initial data was sent, but not the flag that says so"
    left_text = f"{bytes_text(left)}{whole} were left, " if left else ""
    return f"{what}; {left_text}so the destination never acknowledged."


# --- provenance ----------------------------------------------------------------------------------


@functools.cache
def _git_commit() -> str | None:
    checkout = Path(__file__).parent.parent
    if not (checkout / ".git").exists():  # installed: a repository around it would be somebody else's
        return None
    # No optional locks: looking must not get in the way of a commit that is being made.
    git = ["git", "--no-optional-locks", "-C", str(checkout)]
    try:
        head, changes = (
            subprocess.run([*git, *words], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}-dirty" if changes else head


def provenance(engine: str, seed: int, description: str = "") -> dict[str, str | int]:
    """How a result was made, as attributes that every file format can hold.

    Parameters
    ----------
    engine : str
        Memory model, ``"expected"`` or ``"bitmap"``.
    seed : int
        Root seed of the random draws.
    description : str, optional
        What was computed; for a scenario its TOML text.

    Returns
    -------
    dict
        Versions of migkit, Python, NumPy and Numba, the commit if migkit runs from a checkout (with
        ``-dirty`` if files were changed), and the arguments.
    """
    from importlib.metadata import version

    import migkit

    notes: dict[str, str | int] = {
        "migkit_version": migkit.__version__,
        "python_version": platform.python_version(),
        "numpy_version": np.__version__,
        "numba_version": version("numba"),
        "engine": engine,
        "seed": int(seed),
    }
    if (commit := _git_commit()) is not None:
        notes["git_commit"] = commit
    if description:
        notes["description"] = description
    return notes


# --- labelled tables -----------------------------------------------------------------------------


def attributes(variable: Variable) -> dict[str, Any]:
    """Attributes of a variable: what it is, in which unit, and what its codes mean."""
    notes: dict[str, Any] = {"long_name": variable.meaning, "units": variable.unit}
    if variable.name == "outcome":
        notes |= {"flag_values": [int(o) for o in Outcome], "flag_meanings": " ".join(o.label for o in Outcome)}
    return notes


def to_dataset(
    outputs: Outputs,
    coords: Mapping[str, Any],
    devices: Sequence[str],
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Kernel columns as a labelled Dataset.

    Parameters
    ----------
    outputs : Outputs
        One row per migration; the last of `coords` varies fastest.
    coords : mapping of str to (values, attributes) or values
        One entry per dimension, in order. Empty for a single migration.
    devices : sequence of str
        Labels of the device columns.
    attrs : mapping, optional
        Attributes of the Dataset, such as :func:`provenance`.

    Returns
    -------
    xarray.Dataset
        The variables of :data:`VARIABLES`, each with ``units`` and ``long_name``.

    Raises
    ------
    ValueError
        If the number of rows is not the product of the lengths of `coords`.
    """
    import xarray as xr

    labelled = {}
    for dim, entry in coords.items():
        array, notes = entry if isinstance(entry, tuple) else (entry, {})
        labelled[dim] = (dim, np.asarray(array), dict(notes))
    shape = tuple(len(entry[1]) for entry in labelled.values())
    rows = len(np.asarray(outputs.outcome))
    if rows != math.prod(shape):
        raise ValueError(f"{rows} rows do not fill the dimensions {dict(zip(labelled, shape, strict=True))}.")
    # Words as objects: what xarray stores as variable-length text in Zarr; fixed-length text has no
    # specification there.
    words = np.array(list(devices), dtype=object)
    labelled["device"] = ("device", words, {"long_name": "device, in list order"})

    table = values(outputs)
    variables = {}
    for variable in VARIABLES:
        array = table[variable.name]
        if variable.dims:
            array = array[:, : len(devices)]
        reshaped = array.reshape((*shape, *array.shape[1:]))
        variables[variable.name] = ((*coords, *variable.dims), reshaped, attributes(variable))
    return xr.Dataset(variables, labelled, dict(attrs or {}))


def to_frame(dataset: xr.Dataset, devices: bool = False) -> pd.DataFrame:
    """The tidy table of a Dataset: one row per migration, one column per axis and per variable.

    Parameters
    ----------
    dataset : xarray.Dataset
        From :func:`migkit.sweep` or a part of it.
    devices : bool, optional
        With True one row per migration *and device*: the per-device variables beside the others, and
        the label in the column ``device``.

    Returns
    -------
    pandas.DataFrame
        ``outcome`` (names), ``culprit`` (device labels) and axes of words are categorical, in the order
        of the codes, devices and axes.
    """
    import pandas as pd

    per_device = [str(name) for name in dataset.data_vars if "device" in dataset[name].dims]
    labels = [str(label) for label in np.atleast_1d(dataset["device"].values)] if "device" in dataset.coords else []
    flat = dataset if devices else dataset.drop_vars(per_device).drop_dims("device", errors="ignore")
    # A file lists variables in any order.
    known = [variable.name for variable in VARIABLES if variable.name in flat]
    flat = flat[known + [name for name in flat.data_vars if name not in known]]
    dims = [str(dim) for dim in flat.sizes if dim != "device"] + (["device"] if devices else [])
    if dims:
        frame = flat.to_dataframe(dim_order=dims).reset_index()
    else:  # a single migration has no axis to lay out
        frame = pd.DataFrame({str(name): [array.values[()]] for name, array in flat.variables.items()})

    codes = frame["outcome"].to_numpy()
    frame["outcome"] = pd.Categorical.from_codes(codes, [outcome.label for outcome in Outcome])
    frame["culprit"] = pd.Categorical.from_codes(frame["culprit"].to_numpy(), labels)
    for dim in dims:
        if dataset[dim].dtype.kind in "UOT":
            frame[dim] = pd.Categorical(frame[dim], categories=pd.unique(dataset[dim].values))
    if devices and "device_present" in frame:
        frame = frame[frame.pop("device_present")].reset_index(drop=True)
    return frame
