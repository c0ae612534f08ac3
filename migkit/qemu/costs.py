"""Costs of the hosts on which the runs were measured, computed from the traces.

A cost belongs to a host and a day: :func:`observations` lists what each run shows, and names the campaign and the
group of the run, so that a cost can be computed from any part of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from migkit.kernels.state import TIMESLICE_NS
from migkit.qemu.traces import FIRST_CAMPAIGN, Folder, folder_now, runs, table

if TYPE_CHECKING:
    import pandas as pd

MIB = 1 << 20
PAGE_BYTES = 4096
NORMAL_PAGE_WIRE_BYTES = 4104
LATE_END_MS = 20.0
"""Separates the two modes of the end of the downtime: up to 12 ms, and about 42 ms."""
FAST_FIRST_PASS_BYTES = 256 * MIB
"""The first pass of most unpaced runs slows down after this many bytes."""
PHASES = "first pass, up to 256 MiB", "first pass, from 256 MiB on", "later passes"
BUSY_CPUS = 0.2
"""A host is quiet if other processes use at most this many CPUs."""
_POLL_MS = 60.0  # a throttle that was set is polled within that
_NEARLY_ALL = 0.95  # of the pages written: how often does not show any more
_LEAST_THROTTLES = 3  # values of the throttle that a run needs to tell what it costs
XBZRLE_PAGE_S = 4e-6
"""What the migration thread is taken to need for a page that it encodes, seconds: not measured."""
NOT_MODELLED = {
    "compress": "only the run tells what it makes of pages",
}
"""Capabilities that a prediction lacks, with why; runs with them give no costs and are not predicted."""
WITHOUT_COSTS = (*NOT_MODELLED, "xbzrle", "multifd", "postcopy-ram")
"""Capabilities of runs that give no costs: pages are encoded, or copied by no migration thread, or the end of a run is
another one, where post-copy starts."""


def measured_costs(path: str | os.PathLike[str] | None = None, campaign: str = FIRST_CAMPAIGN) -> pd.DataFrame:
    """Compute the costs of the host on which the runs of a campaign were measured.

    Parameters
    ----------
    path : path, optional
        As in :func:`migkit.qemu.runs`.
    campaign : str, default "2026-11-22"
        Column ``campaign`` of :func:`migkit.qemu.runs`.

    Returns
    -------
    DataFrame
        Indexed by ``cost`` and ``case``: ``q1``, ``median``, ``q3`` (quartiles over the observations), ``n`` and
        ``unit``. ``case`` names the runs that were used: ``quiet`` if the guest writes at a fixed rate or not at all,
        ``max`` if it keeps a core busy. Runs during which other processes used more than 0.2 CPUs are left out.

    Examples
    --------
    >>> from migkit.qemu import measured_costs
    >>> costs = measured_costs()
    >>> float(costs.loc[("sync", "tcg max"), "median"]), costs.loc[("sync", "tcg max"), "unit"]
    (57.0, 'us')
    """
    found = observations(path)
    groups = found[found["campaign"] == campaign].groupby(["cost", "case"], sort=False)
    out = groups["value"].quantile([0.25, 0.5, 0.75]).unstack().set_axis(["q1", "median", "q3"], axis=1)
    return out.assign(n=groups.size(), unit=groups["unit"].first())


def observations(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """List what the runs show of the costs of their hosts.

    Parameters
    ----------
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    DataFrame
        One row an observation: ``cost``, ``case``, ``unit``, ``run`` and ``value``; of the run, ``campaign``,
        ``accel``, ``load`` (``quiet``, ``max``), ``link`` (``paced``, ``loopback``), ``devices`` (whether it has any)
        and ``ram_mib``. Runs on a busy host are left out, if there are others, and those with a capability of
        :data:`WITHOUT_COSTS`.

    Examples
    --------
    >>> from migkit.qemu.costs import observations
    >>> found = observations()
    >>> found[(found["cost"] == "VM stop") & (found["accel"] == "kvm")]["run"].nunique()
    7
    """
    return _observations(folder_now(path)).copy()


@lru_cache(maxsize=4)
def _observations(folder: Folder) -> pd.DataFrame:
    import pandas as pd

    data = _Data(folder.path)
    if not data.runs["traced"].any():
        return pd.DataFrame(columns=["cost", "case", "unit", "run", "value", *_OF_THE_RUN])
    parts = []
    measures = (_setup, _windows, _syncs, _downtime, _iterations, _pages, _devices, _ack, _paced_link, _throttle)
    for measure in measures:
        for cost, case, unit, values in measure(data):
            rows = pd.DataFrame({"run": np.asarray(values.index), "value": values.to_numpy(float)})
            parts.append(rows[np.isfinite(rows["value"])].assign(cost=cost, case=case, unit=unit))
    found = pd.concat(parts, ignore_index=True)
    found = found.join(data.runs[_OF_THE_RUN], on="run")
    return found[["cost", "case", "unit", "run", "value", *_OF_THE_RUN]]


def run_medians(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Take the median of the observations of each run, by cost and case.

    Parameters
    ----------
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    DataFrame
        The columns of :func:`observations`.

    Examples
    --------
    >>> from migkit.qemu.costs import run_medians
    >>> found = run_medians()
    >>> bool(found.duplicated(["cost", "case", "run"]).any())
    False
    """
    return _run_medians(folder_now(path)).copy()


@lru_cache(maxsize=4)
def _run_medians(folder: Folder) -> pd.DataFrame:
    found = _observations(folder)
    if not len(found):
        return found
    groups = found.groupby(["cost", "case", "run"], sort=False)
    first = groups[["unit", *_OF_THE_RUN]].first()
    return first.assign(value=groups["value"].median()).reset_index()


_OF_THE_RUN = ["campaign", "accel", "load", "link", "devices", "ram_mib"]
Measured = Iterator[tuple[str, str, str, "pd.Series"]]
"""Cost, case, unit and the observed values, indexed by run."""


class _Data:
    """The tables without busy runs, if there are others, joined with columns of the runs: costs are grouped by them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._joined: dict[str, pd.DataFrame] = {}
        frame = runs(path)
        frame = frame[~frame["caps"].map(set(WITHOUT_COSTS).intersection).astype(bool)]
        # with huge pages a call of RAM sleeps: its time is no cost of pages
        if "backing" in frame:
            huge = frame["backing"].map(lambda backing: isinstance(backing, str) and backing != "")
            frame = frame[~huge.astype(bool)]
        quiet = frame["other_cpu"] <= BUSY_CPUS
        if quiet.any():  # a host that was never quiet has the costs of a busy one
            frame = frame[quiet]
        frame = frame.copy()
        frame["load"] = frame["writes_max"].map({True: "max", False: "quiet"})
        frame["paced"] = frame["link_mib_s"] > 0
        frame["link"] = frame["paced"].map({True: "paced", False: "loopback"})
        frame["devices"] = frame["ndev"] > 0
        frame["return_path"] = frame["caps"].map(lambda names: "return-path" in names)
        self.runs = frame
        self.first_pass_end = self._first_pass_end()

    def table(self, name: str) -> pd.DataFrame:
        """The rows of these runs, with columns of the runs; a copy."""
        if name not in self._joined:
            columns = ["campaign", "accel", "build", "load", "paced", "link", "bw_mib_s", "ndev", "ram_mib"]
            columns += ["transport", "return_path", "iterations_thinned", "device_iter_thinned"]
            found = table(name, self.path).merge(self.runs[columns], left_on="run", right_index=True)
            self._joined[name] = found
        return self._joined[name].copy()

    def calls(self) -> pd.DataFrame:
        """Handler calls, with the start of each (ms); a copy."""
        if "calls" not in self._joined:
            calls = table("handler_calls", self.path).merge(self.table("iterations"), on=["run", "iteration"])
            before = calls.groupby(["run", "iteration"])["us"].cumsum() - calls["us"]
            self._joined["calls"] = calls.assign(start_ms=calls["t_ms"] + before / 1e3)
        return self._joined["calls"].copy()

    def _first_pass_end(self) -> pd.Series:
        """Time of the first sync after setup (ms), by run."""
        syncs = table("syncs", self.path)
        second = syncs[syncs.groupby("run").cumcount() == 1]
        return second.set_index("run")["t_ms"]


def _setup(data: _Data) -> Measured:
    """From the state *setup* to the first iteration."""
    first = table("iterations", data.path).query("iteration == 0").set_index("run")["t_ms"]
    events = data.table("events")
    begin = events[(events["event"] == "migrate_set_state") & (events["detail"] == "new state setup")]
    begin = begin.assign(ms=begin["run"].map(first).astype(float) - begin["t_ms"])
    begin["devices"] = np.where(begin["ndev"] > 0, "devices", "no device")
    for (accel, load, devices), part in begin.groupby(["accel", "load", "devices"]):
        yield "setup", f"{accel} {load}, {devices}", "ms", _by_run(part, "ms")


def _windows(data: _Data) -> Measured:
    """Windows that used up their budget: from one reset to the next, with the sleep and its wake-up."""
    windows = data.table("windows")
    windows["period"] = windows.groupby("run")["t_ms"].diff()
    full = windows[(windows["bw_mib_s"] > 0) & (windows["bytes"] > windows["bw_mib_s"] * MIB // 10)]
    full = full[full["period"] < 115]
    yield "window", "all", "ms", _by_run(full, "period")
    yield "window, mean of each run", "all", "ms", full.groupby("run")["period"].mean()


def _window_of(rows: pd.DataFrame, windows: pd.DataFrame) -> pd.Series:
    """Number of the window, among `windows`, in which each row of the same run is; -1 behind the last one."""
    import pandas as pd

    ends = windows[["run", "t_ms"]].assign(window=np.arange(len(windows))).sort_values("t_ms")
    sorted_rows = rows[["run", "t_ms"]].sort_values("t_ms")
    found = pd.merge_asof(sorted_rows, ends, on="t_ms", by="run", direction="forward")["window"]
    return pd.Series(found.fillna(-1).to_numpy(int), sorted_rows.index).reindex(rows.index)


def _by_run(rows: pd.DataFrame, column: str) -> pd.Series:
    return rows.set_index("run")[column]


def _syncs(data: _Data) -> Measured:
    syncs = data.table("syncs")
    number = syncs.groupby("run").cumcount()
    start = (
        syncs["run"].map(data.runs["downtime_start_ms"]).astype(float).fillna(syncs["run"].map(data.runs["stop_at_ms"]))
    )
    final = syncs["t_ms"] >= start
    syncs["us_per_gib"] = syncs["us"] / (syncs["ram_mib"] / 1024)
    for name, rows in (("in setup", number == 0), ("", (number > 0) & ~final), ("final", (number > 0) & final)):
        for (accel, load), part in syncs[rows].groupby(["accel", "load"]):
            case = ", ".join(filter(None, (f"{accel} {load}", name)))
            yield "sync", case, "us", _by_run(part, "us")
            yield "sync per GiB", case, "us/GiB", _by_run(part, "us_per_gib")


def _downtime(data: _Data) -> Measured:
    frame = data.runs[data.runs["outcome"] == "completed"]
    for (accel, load), part in frame.groupby(["accel", "load"]):
        yield "VM stop", f"{accel} {load}", "ms", part["vm_stopped_ms"] - part["downtime_start_ms"]
        state = part["non_iterable_saved_ms"] - part["iterable_saved_ms"]
        yield "non-iterable state", f"{accel} {load}", "ms", state
    for (load, return_path, link), part in frame.groupby(["load", "return_path", "link"]):
        end = part["downtime_end_ms"] - part["non_iterable_saved_ms"]
        if not return_path:
            yield "end of downtime", f"no return path, {link} {load}", "ms", end
            continue
        late = end > LATE_END_MS
        yield "end of downtime", f"return path, {link} {load}", "ms", end[~late]
        yield "end of downtime, late", f"return path, {link} {load}", "ms", end[late]


def _iterations(data: _Data) -> Measured:
    """From the last handler of one iteration to the first of the next, without a window update in between."""
    calls = data.calls()
    calls = calls[~calls["iterations_thinned"]]
    iterations = calls.groupby(["run", "iteration"]).agg(
        t_ms=("t_ms", "first"), us=("us", "sum"), exact=("exact", "first"), load=("load", "first"), n=("us", "size")
    )
    iterations = iterations.reset_index()
    following = iterations.groupby("run")[["t_ms", "exact"]].shift(-1)
    gap = (following["t_ms"] - iterations["t_ms"]) * 1e3 - iterations["us"]
    iterations["gap"] = gap
    window = _window_of(iterations, data.table("windows"))
    same_window = window == window.groupby(iterations["run"]).shift(-1)
    plain = same_window & following["t_ms"].notna() & following["exact"].isna()
    short = iterations["us"] < 100
    for load in ("quiet", "max"):
        rows = plain & (iterations["load"] == load)
        yield "iteration", f"after handlers of less than 0.1 ms, {load}", "us", _by_run(iterations[rows & short], "gap")
        yield "iteration", f"after longer handlers, {load}", "us", _by_run(iterations[rows & ~short], "gap")
    storms = data.table("iterations_per_100ms")
    storms = storms[(storms["iterations"] > 200) & (storms["section"] == "ram")]
    yield "iteration with a sync, handlers included", "sync storm", "us", 1e5 / _by_run(storms, "iterations")
    yield "RAM call", "sync storm, about one dirty page", "us", _by_run(storms, "us") / _by_run(storms, "calls")
    ram = calls[(calls["section"] == "ram") & (calls["returned"] == 1) & ~calls["paced"] & (calls["us"] < 100)]
    yield "RAM call", "at most a few dirty pages, loopback", "us", _by_run(ram, "us")
    empty = calls[calls["section"].str.startswith("migtest") & (calls["us"] < 50)]
    yield "device call", "nothing to read", "us", _by_run(empty, "us")


def _pages(data: _Data) -> Measured:
    """Time per page where one RAM call used up the budget of a window, so that the link is not the limit."""
    windows = data.table("windows")
    windows = windows[(windows["bw_mib_s"] > 0) & ~windows["paced"]]
    windows["sent"] = windows.groupby("run")["bytes"].cumsum()
    windows = windows[windows["bytes"] > windows["bw_mib_s"] * MIB // 10].reset_index(drop=True)
    calls = data.calls()
    calls = calls.assign(window=_window_of(calls, windows), ram=calls["section"] == "ram")
    inside = calls[calls["window"] >= 0].groupby("window")
    inside = inside.agg(calls=("us", "size"), us=("us", "sum"), ram=("ram", "all"))
    single = inside[(inside["calls"] == 1) & inside["ram"]]
    found = windows.loc[single.index].copy()
    found["cost"] = single["us"].to_numpy() / (found["bytes"] // NORMAL_PAGE_WIRE_BYTES)
    first = found["t_ms"] < found["run"].map(data.first_pass_end).astype(float).fillna(np.inf)
    late = found["sent"] > FAST_FIRST_PASS_BYTES
    found["phase"] = np.where(first, np.where(late, PHASES[1], PHASES[0]), PHASES[2])
    for (transport, load, phase), part in found[found["ram_mib"] == 512].groupby(["transport", "load", "phase"]):
        yield "page", f"{transport} {load}, {phase}", "us", _by_run(part, "cost")


def _device_calls(data: _Data) -> pd.DataFrame:
    """Calls of devices, with the bytes that each read."""
    calls = data.calls()
    calls = calls[calls["section"].str.startswith("migtest") & ~calls["device_iter_thinned"]]
    calls = calls[~calls["iterations_thinned"]]
    calls["device"] = calls["section"].str.removeprefix("migtest").astype(int)
    calls["call"] = calls.groupby(["run", "device"]).cumcount()
    read = table("device_iter", data.path)
    read["call"] = read.groupby(["run", "device"]).cumcount()
    keys = ["run", "device", "call"]
    return calls.merge(read[[*keys, "bytes", "initial_left"]], on=keys)


def _devices(data: _Data) -> Measured:
    """Device calls that read a whole MiB."""
    calls = _device_calls(data)
    full = calls[calls["bytes"] == MIB]
    for (link, load), part in full.groupby(["link", "load"]):
        yield "device read", f"{link} {load}", "us/MiB", _by_run(part, "us")


def _ack(data: _Data) -> Measured:
    """From the read of the last initial data to the acknowledgement, divided at the next RAM call."""
    import pandas as pd

    events = data.table("events")
    acks = events[events["event"] == "source_return_path_thread_switchover_acked"].set_index("run")["t_ms"]
    calls = data.calls()
    ram = dict(list(calls[calls["section"] == "ram"].groupby("run")["start_ms"]))
    read = table("device_iter", data.path)
    read = read[read["initial_left"] == 0].groupby(["run", "device"])["t_ms"].first().groupby("run").max()
    parts: dict[str, dict[str, tuple[float, float, float]]] = {}
    for run, ack in acks.items():
        last = read.get(run)
        starts = ram[run].to_numpy()
        following = starts[starts >= last - 0.02] if last is not None else starts[:0]
        if data.runs.loc[run, "iterations_thinned"] or not len(following):
            continue
        limited = "no limit" if data.runs.loc[run, "bw_mib_s"] == 0 else "rate-limited"
        if data.runs.loc[run, "bw_mib_s"] > data.runs.loc[run, "link_mib_s"] > 0:
            limited = "no limit"  # a limit above the link is never reached
        case = f"{data.runs.loc[run, 'link']}, {limited}"
        parts.setdefault(case, {})[str(run)] = following[0] - last, ack - following[0], ack - last
    for case, found in parts.items():
        rows = pd.DataFrame.from_dict(found, orient="index")
        for column, name in enumerate(("ack, until the next RAM call", "ack, from that call on", "ack, both")):
            yield name, case, "ms", rows[column]


def _paced_link(data: _Data) -> Measured:
    """Rate of the paced link and size of its send buffer, from the first pass of runs without a limit."""
    import pandas as pd

    first_iteration = table("iterations", data.path).query("iteration == 0").set_index("run")["t_ms"]
    windows = data.table("windows")
    windows = windows[windows["paced"] & (windows["bw_mib_s"] == 0)]
    windows = windows[windows["t_ms"] < windows["run"].map(data.first_pass_end).astype(float).fillna(np.inf)]
    found: dict[str, tuple[float, ...]] = {}
    for run, part in windows.groupby("run"):
        if len(part) < 8:
            continue
        t_ms, sent = part["t_ms"].to_numpy(), part["bytes"].to_numpy()
        begin = np.cumsum(sent) - sent
        speed = np.median(sent[1:] / np.diff(t_ms))
        mean = sent[1:].sum() / (t_ms[-1] - t_ms[0])
        buffer = sent[0] - speed * (t_ms[0] - first_iteration[run])
        slow_from = _slows_down_at(begin[1:], sent[1:] / np.diff(t_ms))
        found[str(run)] = speed * 1e3 / MIB, mean * 1e3 / MIB, buffer, slow_from / MIB
    rows = pd.DataFrame.from_dict(found, orient="index", columns=["median", "mean", "buffer", "slow_from"])
    pace = data.runs["link_mib_s"].reindex(rows.index)
    for mib_s, part in rows.groupby(pace):
        yield "link", f"paced at {mib_s:g} MiB/s, median window of each run", "MiB/s", part["median"]
        yield "link", f"paced at {mib_s:g} MiB/s, mean over the first pass", "MiB/s", part["mean"]
        yield "first pass slows down", f"paced at {mib_s:g} MiB/s", "MiB", part["slow_from"]
    yield "link over its pace", "median window of each run", "1", rows["median"] / pace
    yield "send buffer", "paced, first window against the others", "bytes", rows["buffer"]
    calls = data.calls()
    ram = calls[(calls["section"] == "ram") & (calls["bw_mib_s"] == 0) & (calls["us"] > 50_900)]
    for link, part in ram.groupby("link"):
        yield "RAM slice", f"{link}, no limit", "ms", _by_run(part, "us") / 1e3


def _throttle(data: _Data) -> Measured:
    """What a throttle costs a guest that keeps a core busy besides its pauses: what it writes, with and without.

    Of ``W`` pages that are written at random at ``w`` a second, a sync ``t`` seconds after the one before finds
    ``(W - dirty) (1 - exp(-w t / W))`` new. At a throttle of ``p`` a vCPU has ``1 - p`` of its time, in slices of 10 ms
    behind pauses of ``n = p / (1 - p)`` slices (system/cpu-throttle.c). Pauses that end ``late``, and work that takes
    longer behind them, leave ``w = w0 (1 - p) (1 - late / 10 ms) / (1 + n loss)`` of what was written before the
    migration: ``w0 (1 - p) / w`` is a line in ``n``, which is fitted to the syncs of a run, each by its length. A
    guest's own speed changes by 5 %, so that a run tells them only if it was throttled at some values.
    """
    import pandas as pd

    throttled = data.runs["caps"].map(lambda names: "auto-converge" in names)
    wanted = data.runs[throttled & data.runs["writes_max"] & (data.runs["mode"] == "rand")]
    tables = (table(name, data.path) for name in ("syncs", "samples"))
    syncs, samples = (dict(list(each[each["run"].isin(wanted.index)].groupby("run"))) for each in tables)
    late: dict[str, dict[str, float]] = {}
    loss: dict[str, dict[str, float]] = {}
    for run, part in syncs.items():
        if run not in samples:
            continue
        pages, free, end_ms = wanted.loc[run, "ws_pages"], wanted.loc[run, "pre_writes_s"], part["t_ms"].to_numpy(float)
        polled = samples[run][["t_ms", "throttle_pct"]].fillna(0.0).to_numpy(float)
        known = part[["estimate_before", "exact_after"]].to_numpy(float) / PAGE_BYTES
        seen = []
        for began, end, (dirty, after) in zip(end_ms[:-1], end_ms[1:], known[1:], strict=True):
            inside = np.unique(polled[(polled[:, 0] > began + _POLL_MS) & (polled[:, 0] <= end), 1])
            new = after - dirty
            if len(inside) == 1 and inside[0] > 0.0 and 0.0 < new < _NEARLY_ALL * (pages - dirty):
                seconds = (end - began) * 1e-3
                writes = -np.log1p(-new / (pages - dirty)) * pages / seconds
                left = 1.0 - inside[0] / 100.0
                seen.append((inside[0] / 100.0 / left, free * left / writes, seconds))
        if len({pause for pause, _, _ in seen}) >= _LEAST_THROTTLES:
            pauses, slower, seconds = np.array(seen).T
            slope, intercept = np.polyfit(pauses, slower, 1, w=np.sqrt(seconds))
            if intercept <= 0.0:  # a guest that writes more the more it is throttled does something else
                continue
            accel = str(wanted.loc[run, "accel"])
            late.setdefault(accel, {})[run] = TIMESLICE_NS * 1e-6 * (1.0 - 1.0 / intercept)
            loss.setdefault(accel, {})[run] = slope / intercept
    for cost, unit, found in (("throttled pause, late", "ms", late), ("throttled pause, lost behind it", "1", loss)):
        for accel, values in found.items():
            yield cost, accel, unit, pd.Series(values)


def _slows_down_at(sent: np.ndarray, speed: np.ndarray) -> float:
    """Find where the mean speed changes: the split into two levels with the least sum of squares.

    Parameters
    ----------
    sent, speed : array
        Bytes sent when each window began, and the speed of the window.

    Returns
    -------
    float
        One of `sent`.
    """
    squares = [speed[:i].var() * i + speed[i:].var() * (len(speed) - i) for i in range(1, len(speed))]
    return float(sent[1 + int(np.argmin(squares))])


def first_pass_steps(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """List how long the pieces of the first pass took, where nothing but the link or the hosts sets the speed.

    Parameters
    ----------
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    DataFrame
        One row a piece: ``run``, ``begin_pages`` (RAM sent before it), ``pages`` and ``us``; of the run,
        ``campaign``, ``group``, ``accel``, ``load``, ``link``, ``link_mib_s`` and ``ram_pages``. On a paced link
        without a limit a piece is a window, but the first, which fills the send buffer; on loopback, a RAM call.

    Examples
    --------
    >>> from migkit.qemu.costs import first_pass_steps
    >>> steps = first_pass_steps()
    >>> late = steps[(steps["link"] == "loopback") & (steps["begin_pages"] > 100_000)]
    >>> bool(late["us"].sum() / late["pages"].sum() > 4)
    True
    """
    return _first_pass_steps(folder_now(path)).copy()


@lru_cache(maxsize=4)
def _first_pass_steps(folder: Folder) -> pd.DataFrame:
    import pandas as pd

    data = _Data(folder.path)
    columns = ["campaign", "group", "accel", "load", "link", "link_mib_s", "ram_mib"]
    if not data.runs["traced"].any():
        return pd.DataFrame(columns=["run", "pages", "us", "begin_pages", *columns[:-1], "ram_pages"])
    end = data.first_pass_end
    windows = data.table("windows")
    windows = windows[windows["paced"] & (windows["bw_mib_s"] == 0)]
    windows = windows[windows["t_ms"] < windows["run"].map(end).astype(float).fillna(np.inf)]
    windows["pages"] = windows["bytes"] / NORMAL_PAGE_WIRE_BYTES
    windows["us"] = windows.groupby("run")["t_ms"].diff() * 1e3
    calls = data.calls()
    calls = calls[(calls["section"] == "ram") & ~calls["paced"] & ~calls["iterations_thinned"] & (calls["ndev"] == 0)]
    following = calls.groupby("run")["estimate"].shift(-1)
    calls["pages"] = (calls["estimate"] - following) / PAGE_BYTES
    calls = calls[(calls["pages"] > 0) & (calls["t_ms"] < calls["run"].map(end).astype(float).fillna(np.inf))]
    found = pd.concat([windows[["run", "pages", "us"]], calls[["run", "pages", "us"]]], ignore_index=True)
    found["begin_pages"] = found.groupby("run")["pages"].cumsum() - found["pages"]
    found = found.join(data.runs[columns], on="run")
    found["ram_pages"] = found.pop("ram_mib") * (MIB // PAGE_BYTES)
    return found.dropna(subset=["us", "pages"]).reset_index(drop=True)


__all__ = ["first_pass_steps", "measured_costs", "observations", "run_medians"]
