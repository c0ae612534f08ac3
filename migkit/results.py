"""The results: outcomes and their sentences, the registry of variables, labelled tables.

A kernel leaves integers (:class:`migkit.kernels.state.Reports`): nanoseconds, bytes, pages, and -1 where something
never happened. Users get SI units, ``NaN`` for *never*, names that carry their unit, and attributes that say
how the numbers were made. That conversion is done here and nowhere else.

:data:`VARIABLES` declares every variable of every Dataset that migkit returns; :func:`validated` holds a Dataset
against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from migkit.kernels import state
from migkit.kernels.state import Reports

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = [
    "CATEGORIES",
    "DOWNTIME_PARTS",
    "SWEEP_VARIABLES",
    "VARIABLES",
    "Kind",
    "Outcome",
    "Variable",
    "attributes",
    "never_sent",
    "sentence",
    "stored",
    "to_dataset",
    "to_frame",
    "validated",
    "values",
    "words",
]


class Outcome(IntEnum):
    """How a migration ended. A migration that does not complete is a result too: its outcome says why.

    It is shown as a word and compares with words. In arrays of a Dataset it is a code (:func:`words`).

    Examples
    --------
    >>> f"{Outcome.COMPLETED}", Outcome.COMPLETED == "completed", Outcome.COMPLETED in {"completed", "time_limit"}
    ('completed', True, True)
    >>> (np.array([0, 4]) == Outcome.COMPLETED).tolist()
    [True, False]
    """

    COMPLETED = state.COMPLETED
    """The guest runs on the destination."""
    INITIAL_DATA_STARVED = state.INITIAL_DATA_STARVED
    """With switchover-ack: a device's initial data was never sent, so the destination never acknowledged."""
    RAM_ABOVE_LINK = state.RAM_ABOVE_LINK
    """RAM is written faster than it can be sent; what is dirty never fits into the downtime limit."""
    STOP_COPY_ABOVE_THRESHOLD = state.STOP_COPY_ABOVE_THRESHOLD
    """What the devices must send after the switchover never fits into the downtime limit."""
    TIME_LIMIT = state.TIME_LIMIT
    """The time limit was reached first."""
    CANCELLED = state.CANCELLED
    """A management layer cancelled it; the guest runs on where it was."""

    @property
    def label(self) -> str:
        """The name in lower case, for tables and legends."""
        return self.name.lower()

    def __eq__(self, other: object) -> Any:
        return self.label == other if isinstance(other, str) else int.__eq__(self, other)

    def __ne__(self, other: object) -> Any:
        return self.label != other if isinstance(other, str) else int.__ne__(self, other)

    def __hash__(self) -> int:  # of the word, so that a set or a dict of words finds it
        return hash(self.label)

    def __str__(self) -> str:
        return self.label

    def __format__(self, spec: str) -> str:
        return format(self.label, spec)


DOWNTIME_PARTS = {
    "downtime_paused_s": "the stop before the switchover",
    "downtime_stop_s": "VM stop and final sync",
    "downtime_ram_s": "RAM",
    "downtime_devices_s": "devices",
    "downtime_state_s": "device state",
    "downtime_destination_s": "destination",
}
"""Name of each part of the downtime by result variable."""

CATEGORIES = ("both converge", "only unserialized", "only serialized", "neither converges")
"""Under which policy a migration converges; a category is a place in this list."""

Kind = Literal[
    "sweep", "study", "frontier", "frontier_of_replicates", "convergence", "quantiles", "paired", "sensitivity"
]
"""The kinds of Datasets: of :func:`migkit.sweep` and :func:`migkit.open_sweep`; a sweep with the categories of
:func:`migkit.analysis.closed_form.categories`; of :func:`migkit.frontier` with the expected engine, and with the bitmap
engine; of the three functions of :mod:`migkit.uncertainty`; of :func:`migkit.sensitivity`."""

_INCLUDES: dict[str, str] = {"study": "sweep"}
_NAME, _GIVEN = "{name}", "{unit}"


class Variable(NamedTuple):
    """One variable of a kind of Dataset."""

    kind: Kind
    name: str
    """``{name}`` stands for the name of a result with one value a migration, such as ``total_time_s``."""
    dims: tuple[str, ...]
    """Dimensions behind the axes."""
    dtype: str
    unit: str
    """UCUM-like: ``s``, ``B`` (bytes), ``%``, ``1`` (a count or a code); ``{unit}``: that of the quantity it describes;
    empty: the values have different units."""
    meaning: str
    """May refer to attributes of the Dataset (``{axis}``), and with a ``{name}`` to its ``{meaning}``."""
    column: str = ""
    """Of a sweep: the field of the records of :class:`~migkit.kernels.state.Reports` that it comes from."""
    everywhere: bool = True
    """Whether it has all the axes of the Dataset; if False, some of them."""
    flags: Mapping[int, str] | None = None
    """What the values of a code stand for."""

    def describes(self, name: str) -> str | None:
        """What ``{name}`` stands for in `name`, "" without a template; None if `name` is another variable."""
        if not self.name.startswith(_NAME):
            return "" if name == self.name else None
        suffix = self.name.removeprefix(_NAME)
        return name.removesuffix(suffix) if name.endswith(suffix) else None


_OUTCOMES = {int(outcome): outcome.label for outcome in Outcome}


def _of_sweep(column: str, name: str, unit: str, meaning: str) -> Variable:
    dims = ("device",) if column.startswith("device_") else ()
    column = column.removeprefix("device_") if dims else column
    dtype = "bool" if name == "completed" else "int8" if name == "outcome" else "float64" if unit == "s" else "int64"
    return Variable("sweep", name, dims, dtype, unit, meaning, column, flags=_OUTCOMES if name == "outcome" else None)


SWEEP_VARIABLES: tuple[Variable, ...] = (
    _of_sweep("outcome", "outcome", "1", "how the migration ended"),
    _of_sweep("outcome", "completed", "1", "the guest runs on the destination"),
    _of_sweep("culprit", "culprit", "1", "index of the device that prevents convergence, -1 if none"),
    _of_sweep("total_ns", "total_time_s", "s", "from the migrate command to the end; never unless completed"),
    _of_sweep("total_ns", "verdict_time_s", "s", "from the migrate command to when the outcome was known; of a "
              "completed migration its total time"),
    _of_sweep("downtime_ns", "downtime_s", "s", "from when the VM was stopped to the end; with post-copy to the guest "
              "running on the destination"),
    _of_sweep("stop_ns", "stop_time_s", "s", "when the VM was stopped"),
    _of_sweep("downtime_paused_ns", "downtime_paused_s", "s",
              "part of the downtime: from a stop by a management layer to the switchover"),
    _of_sweep("downtime_stop_ns", "downtime_stop_s", "s", "part of the downtime: VM stop and final sync"),
    _of_sweep("downtime_ram_ns", "downtime_ram_s", "s", "part of the downtime: the remaining dirty RAM; with post-copy "
              "the word which of it is stale"),
    _of_sweep("downtime_devices_ns", "downtime_devices_s", "s", "part of the downtime: stop-copy of devices"),
    _of_sweep("downtime_state_ns", "downtime_state_s", "s", "part of the downtime: non-iterable device state"),
    _of_sweep("downtime_destination_ns", "downtime_destination_s", "s",
              "part of the downtime: last bytes on the wire, load at the destination, round trip"),
    _of_sweep("sync_count", "sync_count", "1", "bitmap syncs, as dirty-sync-count reports them"),
    _of_sweep("iterations", "iterations", "1", "calls of qemu_savevm_state_iterate"),
    _of_sweep("bytes_sent", "bytes_sent", "B", "everything put into the stream"),
    _of_sweep("ram_pages_sent", "ram_pages_sent", "1", "RAM pages sent, normal and zero, with the switchover"),
    _of_sweep("ram_zero_pages", "ram_zero_pages", "1", "zero pages among them"),
    _of_sweep("switchover_bytes", "switchover_bytes", "B", "bytes sent while the VM was stopped"),
    _of_sweep("ram_calls", "ram_calls", "1", "calls of the RAM handler"),
    _of_sweep("ram_calls_done", "ram_calls_done", "1", "calls of the RAM handler that found nothing left"),
    _of_sweep("threshold", "threshold_bytes", "B", "last threshold: what fits into the downtime limit"),
    _of_sweep("pending", "pending_bytes", "B", "last pending size that was compared with the threshold"),
    _of_sweep("ram_remaining", "ram_remaining_bytes", "B", "dirty RAM after the last sync of the loop"),
    _of_sweep("throttle", "throttle_percent", "%", "share of time that auto-converge takes from the vCPUs"),
    _of_sweep("steps", "steps", "1", "iterations computed one by one"),
    _of_sweep("changed", "changes", "1", "changes of parameters, link or VM while it ran"),
    _of_sweep("max_bandwidth", "final_max_bandwidth", "B/s", "max-bandwidth at the end, 0 for none"),
    _of_sweep("downtime_limit_ns", "final_downtime_limit_s", "s", "downtime-limit at the end"),
    _of_sweep("postcopy_ns", "postcopy_time_s", "s", "from the guest running on the destination until all of its RAM "
              "is there; never without a switch to post-copy"),
    _of_sweep("postcopy_bytes", "postcopy_bytes", "B", "RAM sent after the switch to post-copy"),
    _of_sweep("postcopy_faults", "postcopy_faults", "1", "pages that the guest waited for on the destination"),
    _of_sweep("limit_sleep_ns", "dirty_limit_throttle_s", "s", "dirty-limit: longest sleep of a vCPU at a full dirty "
              "ring, at the end (dirty-limit-throttle-time-per-round); never before it has begun"),
    _of_sweep("device_bytes", "device_bytes", "B", "bytes of the device put into the stream"),
    _of_sweep("device_calls", "device_calls", "1", "calls of the device's iterate handler"),
    _of_sweep("device_first_call_ns", "device_first_call_s", "s", "first call of the handler"),
    _of_sweep("device_initial_sent_ns", "device_initial_sent_s", "s", "when all of the initial data had been sent"),
    _of_sweep("device_ack_ns", "device_ack_s", "s", "when the destination's acknowledgement arrived"),
    _of_sweep("device_starved_ns", "device_starved_s", "s", "time of the iterations that ended before the device"),
    _of_sweep("device_initial_left", "device_initial_left_bytes", "B", "initial data that was never sent"),
)  # fmt: skip
"""The variables that come from a field of a report, in its order; two fields give two variables each."""

_FLIPS = {-1: "no_flip"} | _OUTCOMES


def _of_frontier(kind: Kind, *repeated: str) -> tuple[Variable, ...]:
    """The variables that both kinds of frontiers have; with the bitmap engine each replicate has its own."""
    flip = (*repeated, "flip")
    return (
        Variable(kind, "below", flip, "float64", _GIVEN, "last value below the flip"),
        Variable(kind, "above", flip, "float64", _GIVEN, "first value above the flip"),
        Variable(kind, "outcome_below", flip, "int8", "1", "outcome below the flip", flags=_FLIPS),
        Variable(kind, "outcome_above", flip, "int8", "1", "outcome above the flip", flags=_FLIPS),
        Variable(kind, "converges_at_low", repeated, "bool", "1", "completes at the low end"),
        Variable(kind, "converges_at_high", repeated, "bool", "1", "completes at the high end"),
    )


def _of_replicates(name: str, dims: tuple[str, ...], dtype: str, unit: str, meaning: str) -> Variable:
    return Variable("frontier_of_replicates", name, dims, dtype, unit, meaning)


def _of_categories(name: str, meaning: str) -> Variable:
    flags = dict(enumerate(word.replace(" ", "_") for word in CATEGORIES))
    return Variable("study", name, (), "int8", "1", meaning, everywhere=False, flags=flags)


VARIABLES: tuple[Variable, ...] = (
    *SWEEP_VARIABLES,
    Variable("sweep", "device_present", ("device",), "bool", "1", "the device takes part in the migration",
             everywhere=False),
    _of_categories("category", "policies under which the migration converges"),
    _of_categories("derived", "policies under which the migration converges, derived"),
    _of_categories("derived_window_syncs", "the same, with the threshold of a window in which every iteration syncs"),
    *_of_frontier("frontier"),
    Variable("frontier", "critical", ("flip",), "float64", _GIVEN, "critical {axis}"),
    Variable("frontier", "flips", (), "int64", "1", "flips that were found"),
    *_of_frontier("frontier_of_replicates", "replicate"),
    _of_replicates("critical", ("flip",), "float64", _GIVEN, "critical {axis}: median over the replicates"),
    _of_replicates("median_low", ("flip",), "float64", _GIVEN, "lower bound of the median, confidence {confidence}"),
    _of_replicates("median_high", ("flip",), "float64", _GIVEN, "upper bound of the median, confidence {confidence}"),
    _of_replicates("single_low", ("flip",), "float64", _GIVEN, "lower end of the middle {confidence} of migrations"),
    _of_replicates("single_high", ("flip",), "float64", _GIVEN, "upper end of the middle {confidence} of migrations"),
    _of_replicates("sample", ("replicate", "flip"), "float64", _GIVEN, "critical {axis} of each replicate"),
    _of_replicates("share", ("flip",), "float64", "1", "share of the replicates with this flip"),
    _of_replicates("flips", (), "int64", "1", "flips that at least half of the replicates have"),
    _of_replicates("replicate_flips", ("replicate",), "int64", "1", "flips of each replicate"),
    Variable("convergence", "probability", (), "float64", "1", "probability that the migration completes"),
    Variable("convergence", "probability_low", (), "float64", "1", "lower bound of the probability"),
    Variable("convergence", "probability_high", (), "float64", "1", "upper bound of the probability"),
    Variable("convergence", "completed", (), "int64", "1", "replicates that completed"),
    Variable("convergence", "replicates", (), "int64", "1", "replicates"),
    Variable("quantiles", "{name}", ("quantile",), "float64", _GIVEN, "{meaning}"),
    Variable("quantiles", "{name}_low", ("quantile",), "float64", _GIVEN, "{meaning}: lower bound of the quantile"),
    Variable("quantiles", "{name}_high", ("quantile",), "float64", _GIVEN, "{meaning}: upper bound of the quantile"),
    Variable("quantiles", "completed", (), "int64", "1", "replicates that completed"),
    Variable("paired", "probability_difference", (), "float64", "1",
             "difference of the probabilities to complete: {compared} {second} less {first}"),
    Variable("paired", "probability_difference_low", (), "float64", "1", "lower bound of that difference"),
    Variable("paired", "probability_difference_high", (), "float64", "1", "upper bound of that difference"),
    Variable("paired", "{name}_difference", (), "float64", _GIVEN,
             "mean difference where both completed: {compared} {second} less {first}"),
    Variable("paired", "{name}_difference_low", (), "float64", _GIVEN, "lower bound of the mean difference"),
    Variable("paired", "{name}_difference_high", (), "float64", _GIVEN, "upper bound of the mean difference"),
    Variable("paired", "both", (), "int64", "1", "replicates in which both completed"),
    Variable("paired", "only_first", (), "int64", "1", "replicates in which only the first completed"),
    Variable("paired", "only_second", (), "int64", "1", "replicates in which only the second completed"),
    Variable("paired", "neither", (), "int64", "1", "replicates in which neither completed"),
    Variable("sensitivity", "first", ("output", "parameter"), "float64", "1",
             "first-order index: share of the variance that the field explains alone"),
    Variable("sensitivity", "first_conf", ("output", "parameter"), "float64", "1",
             "half the width of the interval of the first-order index, confidence {confidence}"),
    Variable("sensitivity", "total", ("output", "parameter"), "float64", "1",
             "total index: share of the variance with all interactions of the field"),
    Variable("sensitivity", "total_conf", ("output", "parameter"), "float64", "1",
             "half the width of the interval of the total index, confidence {confidence}"),
    Variable("sensitivity", "mean", ("output",), "float64", "", "mean of the output, in its unit"),
    Variable("sensitivity", "variance", ("output",), "float64", "", "variance of the output, in its unit squared"),
    Variable("sensitivity", "completed", (), "float64", "1", "share of the migrations that completed"),
)  # fmt: skip
"""The registry: every variable of every Dataset that migkit returns."""


def stored(reports: Reports, variable: Variable) -> np.ndarray:
    """The numbers of a variable as the kernels left them: integers, -1 for a time that never came, truth values."""
    migrations = reports.migrations.view(np.ndarray)
    column = (reports.devices.view(np.ndarray) if variable.dims else migrations)[variable.column]
    if variable.name == "completed":
        return column == state.COMPLETED
    if variable.name == "total_time_s":  # the kernels note when the outcome was known, whatever it was
        return np.where(migrations["outcome"] == state.COMPLETED, column, -1)
    if variable.column == "ack_ns":  # the kernels note when it is due, which may be beyond the end
        return np.where(column > migrations["total_ns"][..., None], -1, column)
    return column


def values(reports: Reports) -> dict[str, np.ndarray]:
    """Convert what the kernels left to result variables.

    Parameters
    ----------
    reports : Reports
        One row per migration.

    Returns
    -------
    dict of str to ndarray
        One array for each of :data:`SWEEP_VARIABLES`, in that order; times in seconds with ``NaN`` for *never*,
        everything else unchanged but for the type.
    """
    table = {}
    for variable in SWEEP_VARIABLES:
        column = stored(reports, variable)
        if variable.unit == "s":
            table[variable.name] = column * 1e-9
            table[variable.name][column < 0] = np.nan
        else:
            table[variable.name] = column.astype(variable.dtype)
    return table


def bytes_text(size: float) -> str:
    """Format a size with three significant digits and a binary prefix: ``335 MiB``."""
    for prefix in ("", "Ki", "Mi", "Gi"):
        if abs(size) < 1023.5:
            return f"{size:.3g} {prefix}B" if size < 999.5 else f"{size:.0f} {prefix}B"
        size /= 1024
    return f"{size:.3g} TiB" if size < 999.5 else f"{size:.0f} TiB"


def seconds_text(duration: float) -> str:
    """Format a duration with three significant digits: ``13.6 s``, ``243 ms``; ``never`` for NaN."""
    if math.isnan(duration):
        return "never"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if duration >= 0.9995 * scale:
            number = duration / scale
            return f"{number:.3g} {unit}" if number < 999.5 else f"{number:.0f} {unit}"
    return f"{duration / 1e-9:.0f} ns" if duration else "0 s"


def legible(text: str, most: int = 80) -> str:
    r"""Text on one line, of at most so many characters, with escapes for those that cannot be printed.

    Names are data: one may hold a line break, or a sequence that a terminal would obey.

    Examples
    --------
    >>> print(legible("gpu" + chr(27) + "[31m"))
    gpu\x1b[31m
    """
    text = " ".join(text[: 4 * most].split())
    if not text.isprintable():
        text = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def sentence(numbers: Mapping[str, Any], devices: Sequence[str] = ()) -> str:
    """Say in one sentence how a migration ended, from its numbers alone.

    Why it did, the scenario tells too: :func:`migkit.run.cause.explain`.

    Parameters
    ----------
    numbers : mapping
        Result variables of one migration by their registered names, for instance ``dataset.isel(...)`` of a sweep.
        ``device_initial_bytes`` (initial data of each device, bytes) is used if present.
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
    name = legible(devices[culprit], 40) if 0 <= culprit < len(devices) else f"device {culprit}" if culprit >= 0 else ""

    def size(key: str) -> str:
        return bytes_text(float(numbers[key]))

    if outcome is Outcome.COMPLETED:
        total, downtime = (seconds_text(float(numbers[key])) for key in ("total_time_s", "downtime_s"))
        return f"Completed in {total} with a downtime of {downtime}{by_postcopy(numbers)}."
    if outcome is Outcome.INITIAL_DATA_STARVED:
        return _starved(numbers, culprit, name)
    threshold, pending = size("threshold_bytes"), size("pending_bytes")
    if outcome is Outcome.RAM_ABOVE_LINK:
        fits_alone = int(numbers["ram_remaining_bytes"]) < int(numbers["threshold_bytes"])
        beside = "beside what the devices must send, " if fits_alone else ""
        return (
            f"RAM never fits into the downtime limit: {size('ram_remaining_bytes')} were dirty after the last sync, "
            f"and {beside}only {threshold} fit."
        )
    if outcome is Outcome.STOP_COPY_ABOVE_THRESHOLD:
        whose = f"what {name} must send" if name else "what the devices must send"
        return (
            f"The downtime limit is too short for {whose} while the VM is stopped: with it {pending} were pending, "
            f"and only {threshold} fit."
        )
    if outcome is Outcome.CANCELLED:
        return (
            f"Cancelled after {seconds_text(float(numbers['verdict_time_s']))} and {int(numbers['sync_count'])} syncs: "
            f"{pending} were pending, and {threshold} fit into the downtime limit."
        )
    return (
        f"The time limit was reached after {seconds_text(float(numbers['verdict_time_s']))} and "
        f"{int(numbers['sync_count'])} syncs: {pending} were pending, and {threshold} fit into the downtime limit."
    )


def by_postcopy(numbers: Mapping[str, Any]) -> str:
    """What post-copy did in a migration that completed, to go on a sentence with; empty if it never started.

    Examples
    --------
    >>> by_postcopy({"postcopy_time_s": 0.325, "postcopy_bytes": 372475743, "postcopy_faults": 16})
    ': post-copy sent 355 MiB, and the guest ran for 325 ms and 16 faults on the destination before it was whole'
    """
    lasted = float(numbers.get("postcopy_time_s", math.nan))
    if math.isnan(lasted):
        return ""
    faults = int(numbers["postcopy_faults"])
    many = "1 fault" if faults == 1 else f"{faults} faults"
    return (
        f": post-copy sent {bytes_text(float(numbers['postcopy_bytes']))}, and the guest ran for "
        f"{seconds_text(lasted)} and {many} on the destination before it was whole"
    )


def _starved(numbers: Mapping[str, Any], culprit: int, name: str) -> str:
    def of_device(key: str) -> int:
        return int(np.asarray(numbers[key])[culprit])

    name = name or "a device"
    calls, left = of_device("device_calls"), of_device("device_initial_left_bytes")
    whole = f" of {bytes_text(of_device('device_initial_bytes'))}" if "device_initial_bytes" in numbers else ""
    what = (
        never_sent(name, calls, int(numbers["iterations"]))
        if calls == 0 or left
        else f"{name}'s initial data was sent, but not the flag that says so"
    )
    return f"{what}; {bytes_text(left)}{whole} were left." if left else f"{what}."


def never_sent(name: str, calls: int, iterations: int) -> str:
    """Say of a device that its initial data was never sent, or never in full, by how often it was called.

    Examples
    --------
    >>> never_sent("vfio0", 4, 224)
    "vfio0's initial data was never sent in full: 4 of 224 iterations reached it"
    """
    if calls == 0:
        return f"{name}'s initial data was never sent: every iteration ended before reaching it"
    return f"{name}'s initial data was never sent in full: {calls} of {iterations} iterations reached it"


def attributes(variable: Variable, words: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Attributes of a variable: meaning, unit, and what its codes stand for.

    Parameters
    ----------
    variable : Variable
    words : mapping, optional
        What the meaning refers to in braces.

    Returns
    -------
    dict
        ``long_name``; ``units`` unless they depend on another quantity; ``flag_values`` and ``flag_meanings`` of codes.
    """
    notes: dict[str, Any] = {"long_name": variable.meaning.format_map(words or {})}
    if variable.unit not in ("", _GIVEN):
        notes["units"] = variable.unit
    if variable.flags is not None:
        notes |= {"flag_values": list(variable.flags), "flag_meanings": " ".join(variable.flags.values())}
    return notes


def validated(dataset: xr.Dataset, kind: Kind) -> xr.Dataset:
    """Hold a Dataset against the registry, and fill in the attributes of its variables.

    Every function that returns a Dataset calls this last.

    Parameters
    ----------
    dataset : xarray.Dataset
        Its own attributes must be set: meanings refer to them. Variables get ``long_name``, ``units`` and the meaning
        of codes from :data:`VARIABLES`. Variables that have the unit of another quantity must have it already.
    kind : str
        One of :data:`Kind`.

    Returns
    -------
    xarray.Dataset
        `dataset` itself.

    Raises
    ------
    RuntimeError
        If a variable is not registered for this kind, or has another type, unit or dimensions than registered: a fault
        of migkit, not of its input.

    Examples
    --------
    >>> import xarray as xr
    >>> dataset = xr.Dataset({"probability": ("link", [0.5])})
    >>> validated(dataset, "convergence")["probability"].attrs["long_name"]
    'probability that the migration completes'
    >>> validated(dataset.astype("float32"), "convergence")
    Traceback (most recent call last):
    ...
    RuntimeError: internal error: probability of a convergence Dataset has the type float32, not float64
    """
    known = [variable for variable in VARIABLES if variable.kind in (kind, _INCLUDES.get(kind))]
    own = {dim for variable in known for dim in variable.dims}
    arrays = {str(name): dataset.variables[name] for name in dataset.data_vars}
    axes = max(([dim for dim in array.dims if dim not in own] for array in arrays.values()), key=len, default=[])
    for name, array in arrays.items():
        variable = _entry(known, name)
        if variable is None:
            raise RuntimeError(f"internal error: {name} is not registered for a {kind} Dataset")
        described = variable.describes(name)
        of = next((one for one in SWEEP_VARIABLES if one.name == described), None)
        filled = attributes(variable, {**dataset.attrs, "meaning": of.meaning if of else described})
        if variable.unit == _GIVEN:
            filled["units"] = array.attrs.get("units", of.unit if of else None)
        on = axes if variable.everywhere else [dim for dim in axes if dim in array.dims]
        unit = filled.get("units")
        for what, has, wanted in (
            ("type", array.dtype, np.dtype(variable.dtype)),
            ("dimensions", array.dims, (*on, *variable.dims)),
            ("unit", array.attrs.get("units", unit), unit),
        ):
            if has != wanted:
                raise RuntimeError(f"internal error: {name} of a {kind} Dataset has the {what} {has}, not {wanted}")
        if unit is None and variable.unit:
            raise RuntimeError(f"internal error: {name} of a {kind} Dataset has no unit")
        array.attrs = filled
    return dataset


def _entry(known: Iterable[Variable], name: str) -> Variable | None:
    """The variable of this name; of several templates the longest."""
    fitting = [variable for variable in known if variable.describes(name) is not None]
    return max(fitting, key=lambda variable: (variable.name == name, len(variable.name)), default=None)


def to_dataset(
    reports: Reports,
    coords: Mapping[str, Any],
    devices: Sequence[str],
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Label what the kernels left: the Dataset of a sweep.

    Parameters
    ----------
    reports : Reports
        One row per migration; the last of `coords` varies fastest.
    coords : mapping of str to (values, attributes) or values
        One entry per dimension, in order. Empty for a single migration.
    devices : sequence of str
        Labels of the columns of devices.
    attrs : mapping, optional
        Attributes of the Dataset, such as :func:`provenance`.

    Returns
    -------
    xarray.Dataset
        The variables of :data:`SWEEP_VARIABLES`, each with ``units`` and ``long_name``.

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
    rows = len(reports.migrations)
    if rows != math.prod(shape):
        raise ValueError(f"{rows} rows do not fill the dimensions {dict(zip(labelled, shape, strict=True))}.")
    # Text as objects, which xarray stores as variable-length text in Zarr: fixed-length text has no specification.
    words = np.array(list(devices), dtype=object)
    labelled["device"] = ("device", words, {"long_name": "device, in list order"})

    table = values(reports)
    variables = {}
    for variable in SWEEP_VARIABLES:
        array = table[variable.name]
        if variable.dims:
            array = array[:, : len(devices)]
        variables[variable.name] = ((*coords, *variable.dims), array.reshape((*shape, *array.shape[1:])))
    return validated(xr.Dataset(variables, labelled, dict(attrs or {})), "sweep")


def words(dataset: xr.Dataset, name: str) -> xr.DataArray:
    """The words that a code of a Dataset stands for.

    Parameters
    ----------
    dataset : xarray.Dataset
        Any that migkit returns, or a part of it.
    name : str
        A variable that holds codes: ``"outcome"``, ``"culprit"`` (labels of devices), ``"outcome_below"``,
        ``"outcome_above"``, ``"category"``.

    Returns
    -------
    xarray.DataArray
        With the dimensions of the variable; empty where there is none, as before a migration is computed.

    Raises
    ------
    KeyError, ValueError
        If the Dataset has no such variable, or it holds no codes.

    Examples
    --------
    >>> import migkit
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> ds = migkit.sweep(scenario, {"link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]})
    >>> (words(ds, "outcome") == "completed").values.tolist()
    [True, True]
    """
    array = dataset[name]
    if (meanings := _meanings(dataset, name)) is None:
        raise ValueError(f"{name} holds no codes: its values are what they say.")
    found = np.full(array.shape, "", dtype=object)
    for code, word in meanings.items():
        found[array.values == code] = word
    return array.copy(data=found).drop_attrs().assign_attrs(long_name=array.attrs.get("long_name", name))


def _meanings(dataset: xr.Dataset, name: str) -> dict[int, str] | None:
    """What the codes of a variable stand for, in their order; None if it holds none."""
    notes = dataset[name].attrs
    if name == "culprit" and "device" in dataset.coords:
        return dict(enumerate(str(label) for label in np.atleast_1d(dataset["device"].values)))
    if "flag_values" not in notes:
        return None
    return dict(zip(np.atleast_1d(notes["flag_values"]).tolist(), notes["flag_meanings"].split(), strict=True))


def to_frame(dataset: xr.Dataset, devices: bool = False) -> pd.DataFrame:
    """Make the tidy table of a Dataset: one row per migration, one column per axis and per variable.

    Parameters
    ----------
    dataset : xarray.Dataset
        From :func:`migkit.sweep` or another function of migkit, or a part of it.
    devices : bool, optional
        Make one row per migration *and device*: the variables of devices beside the others, and the label in the column
        ``device``.

    Returns
    -------
    pandas.DataFrame
        Codes, such as ``outcome`` (words) and ``culprit`` (device labels), and axes of words are categorical, in the
        order of the codes, devices and axes: ``frame[frame["outcome"] == "completed"]``. Results that a store does not
        have yet are missing values.
    """
    import pandas as pd

    per_device = [str(name) for name in dataset.data_vars if "device" in dataset[name].dims]
    flat = dataset if devices else dataset.drop_vars(per_device).drop_dims("device", errors="ignore")
    # The columns have the order of the registry, whatever the order in a file.
    first = [variable.name for variable in SWEEP_VARIABLES if variable.name in flat]
    flat = flat[first + [name for name in flat.data_vars if name not in first]]
    dims = [str(dim) for dim in flat.sizes if dim != "device"] + (["device"] if devices else [])
    if dims:
        frame = flat.to_dataframe(dim_order=dims).reset_index()
    else:  # a single migration has no axis
        frame = pd.DataFrame({str(name): [array.values[()]] for name, array in flat.variables.items()})

    for name in flat.data_vars:
        if (meanings := _meanings(dataset, str(name))) is not None:
            known = pd.Index(list(meanings))
            frame[name] = pd.Categorical.from_codes(known.get_indexer(frame[name]), list(meanings.values()))
    for dim in dims:
        if dataset[dim].dtype.kind in "UOT":
            frame[dim] = pd.Categorical(frame[dim], categories=pd.unique(dataset[dim].values))
    if devices and "device_present" in frame:
        frame = frame[frame.pop("device_present")].reset_index(drop=True)
    return _without_the_missing(frame, dataset)


def _without_the_missing(frame: pd.DataFrame, dataset: xr.Dataset) -> pd.DataFrame:
    """Empty the results of migrations that a store does not have yet: no number stands for what is not computed."""
    if "outcome" not in frame or not int(dataset.attrs.get("migrations_missing", 0)):
        return frame
    missing = frame["outcome"].isna()
    for name in (name for name in frame if name in dataset.data_vars):
        column = frame[name]
        if column.dtype.kind in "biu":  # pandas has types of the same width that have missing values
            kind = "boolean" if column.dtype.kind == "b" else column.dtype.name.replace("ui", "UI").replace("in", "In")
            column = column.astype(kind)
        frame[name] = column.mask(missing)
    return frame
