"""Costs of the host on which the runs were measured, computed from the traces.

Every number comes from the Parquet files in ``data/qemu-traces``. The README.md there has the table and says which
costs depend on load.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from migkit.qemu.traces import runs, table

if TYPE_CHECKING:
    import os

    import numpy.typing as npt
    import pandas as pd

MIB = 1 << 20
NORMAL_PAGE_WIRE_BYTES = 4104
LATE_END_MS = 20.0
"""Separates the two modes of the end of the downtime: up to 12 ms, and about 42 ms."""
FAST_FIRST_PASS_BYTES = 256 * MIB
"""The first pass of most unpaced runs slows down after this many bytes."""
PHASES = "first pass, up to 256 MiB", "first pass, from 256 MiB on", "later passes"


def measured_costs(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Compute the costs of the host on which the runs were measured.

    Parameters
    ----------
    path : path, optional
        As in :func:`migkit.qemu.runs`.

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
    import pandas as pd

    data = _Data(path)
    rows = []
    measures = (
        _setup, _windows, _syncs, _downtime, _iterations, _pages, _devices, _ack, _paced_link, _paced_first_pass,
    )  # fmt: skip
    for measure in measures:
        for cost, case, unit, observed in measure(data):
            values = np.asarray(observed, float)
            values = values[np.isfinite(values)]
            if len(values):
                q1, median, q3 = np.percentile(values, [25, 50, 75])
                rows.append((cost, case, q1, median, q3, len(values), unit))
    columns = ["cost", "case", "q1", "median", "q3", "n", "unit"]
    return pd.DataFrame(rows, columns=columns).set_index(["cost", "case"])


Measured = Iterator[tuple[str, str, str, "npt.ArrayLike"]]
"""Cost, case, unit and the observed values."""


class _Data:
    """The tables without busy runs, joined with the columns of the runs that the costs are grouped by."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self.path = path
        frame = runs(path)
        frame = frame[frame["other_cpu"] <= 0.2]
        frame["load"] = frame["writes_max"].map({True: "max", False: "quiet"})
        frame["paced"] = frame["link_mib_s"] > 0
        frame["link"] = frame["paced"].map({True: "paced", False: "loopback"})
        frame["return_path"] = frame["caps"].map(lambda names: "return-path" in names)
        self.runs = frame
        self.first_pass_end = self._first_pass_end()

    def table(self, name: str) -> pd.DataFrame:
        columns = ["accel", "build", "load", "paced", "link", "bw_mib_s", "ndev", "ram_mib", "transport"]
        columns += ["return_path", "iterations_thinned", "device_iter_thinned"]
        return table(name, self.path).merge(self.runs[columns], left_on="run", right_index=True)

    def calls(self) -> pd.DataFrame:
        """Handler calls, with the start of each (ms)."""
        calls = table("handler_calls", self.path).merge(self.table("iterations"), on=["run", "iteration"])
        before = calls.groupby(["run", "iteration"])["us"].cumsum() - calls["us"]
        calls["start_ms"] = calls["t_ms"] + before / 1e3
        return calls

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
    begin = begin.assign(ms=begin["run"].map(first) - begin["t_ms"])
    begin["devices"] = np.where(begin["ndev"] > 0, "devices", "no device")
    for (accel, load, devices), part in begin.groupby(["accel", "load", "devices"]):
        yield "setup", f"{accel} {load}, {devices}", "ms", part["ms"]


def _windows(data: _Data) -> Measured:
    """Windows that used up their budget: from one reset to the next, with the sleep and its wake-up."""
    windows = data.table("windows")
    windows["period"] = windows.groupby("run")["t_ms"].diff()
    full = windows[(windows["bw_mib_s"] > 0) & (windows["bytes"] > windows["bw_mib_s"] * MIB // 10)]
    full = full[full["period"] < 115]
    yield "window", "all", "ms", full["period"]
    yield "window, mean of each run", "all", "ms", full.groupby("run")["period"].mean()


def _syncs(data: _Data) -> Measured:
    syncs = data.table("syncs")
    number = syncs.groupby("run").cumcount()
    start = syncs["run"].map(data.runs["downtime_start_ms"]).fillna(syncs["run"].map(data.runs["stop_at_ms"]))
    final = syncs["t_ms"] >= start
    gib = syncs["ram_mib"] / 1024
    for name, rows in (("in setup", number == 0), ("", (number > 0) & ~final), ("final", (number > 0) & final)):
        for (accel, load), part in syncs[rows].groupby(["accel", "load"]):
            case = ", ".join(filter(None, (f"{accel} {load}", name)))
            yield "sync", case, "us", part["us"]
            yield "sync per GiB", case, "us/GiB", part["us"] / gib[part.index]


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
    windows = {run: part["t_ms"].to_numpy() for run, part in data.table("windows").groupby("run")}
    same_window = np.zeros(len(iterations), bool)
    for run, part in iterations.groupby("run"):
        ends = windows.get(run, np.empty(0))
        next_ms = following.loc[part.index, "t_ms"].to_numpy()
        same_window[part.index] = np.searchsorted(ends, part["t_ms"]) == np.searchsorted(ends, next_ms)
    plain = same_window & following["t_ms"].notna() & following["exact"].isna()
    short = iterations["us"] < 100
    for load in ("quiet", "max"):
        rows = plain & (iterations["load"] == load)
        yield "iteration", f"after handlers of less than 0.1 ms, {load}", "us", gap[rows & short]
        yield "iteration", f"after longer handlers, {load}", "us", gap[rows & ~short]
    storms = data.table("iterations_per_100ms")
    storms = storms[(storms["iterations"] > 200) & (storms["section"] == "ram")]
    yield "iteration with a sync, handlers included", "sync storm", "us", 1e5 / storms["iterations"]
    yield "RAM call", "sync storm, about one dirty page", "us", storms["us"] / storms["calls"]
    ram = calls[(calls["section"] == "ram") & (calls["returned"] == 1) & ~calls["paced"] & (calls["us"] < 100)]
    yield "RAM call", "at most a few dirty pages, loopback", "us", ram["us"]
    empty = calls[calls["section"].str.startswith("migtest") & (calls["us"] < 50)]
    yield "device call", "nothing to read", "us", empty["us"]


def _pages(data: _Data) -> Measured:
    """Time per page where one RAM call used up the budget of a window, so that the link is not the limit."""
    import pandas as pd

    calls = data.calls()
    windows = data.table("windows")
    windows = windows[(windows["bw_mib_s"] > 0) & ~windows["paced"]]
    windows["sent"] = windows.groupby("run")["bytes"].cumsum()
    windows = windows[windows["bytes"] > windows["bw_mib_s"] * MIB // 10]
    found = []
    by_run = dict(list(calls.groupby("run")))
    for run, part in windows.groupby("run"):
        of_run = by_run[run]
        window = np.searchsorted(part["t_ms"].to_numpy(), of_run["t_ms"].to_numpy())
        single = of_run.groupby(window)["us"].agg(["size", "sum"])
        ram_only = of_run.groupby(window)["section"].agg(lambda names: set(names) == {"ram"})
        single = single[(single["size"] == 1) & ram_only & (single.index < len(part))]
        rows = part.iloc[single.index]
        cost = single["sum"].to_numpy() / (rows["bytes"].to_numpy() // NORMAL_PAGE_WIRE_BYTES)
        first = rows["t_ms"].to_numpy() < data.first_pass_end.get(run, np.inf)
        late = rows["sent"].to_numpy() > FAST_FIRST_PASS_BYTES
        found.append(rows.assign(cost=cost, phase=np.where(first, np.where(late, PHASES[1], PHASES[0]), PHASES[2])))
    found = pd.concat(found)
    for (transport, load, phase), part in found[found["ram_mib"] == 512].groupby(["transport", "load", "phase"]):
        yield "page", f"{transport} {load}, {phase}", "us", part["cost"]


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
        yield "device read", f"{link} {load}", "us/MiB", part["us"]


def _ack(data: _Data) -> Measured:
    """From the read of the last initial data to the acknowledgement, divided at the next RAM call."""
    events = data.table("events")
    acks = events[events["event"] == "source_return_path_thread_switchover_acked"].set_index("run")["t_ms"]
    calls = data.calls()
    ram = dict(list(calls[calls["section"] == "ram"].groupby("run")["start_ms"]))
    read = table("device_iter", data.path)
    read = read[read["initial_left"] == 0].groupby(["run", "device"])["t_ms"].first().groupby("run").max()
    parts: dict[str, list[tuple[float, float, float]]] = {}
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
        parts.setdefault(case, []).append((following[0] - last, ack - following[0], ack - last))
    for case, rows in parts.items():
        wait, after, total = np.array(rows).T
        yield "ack, until the next RAM call", case, "ms", wait
        yield "ack, from that call on", case, "ms", after
        yield "ack, both", case, "ms", total


def _paced_link(data: _Data) -> Measured:
    """Rate of the paced link and size of its send buffer, from the first pass of runs without a limit."""
    first_iteration = table("iterations", data.path).query("iteration == 0").set_index("run")["t_ms"]
    windows = data.table("windows")
    windows = windows[windows["paced"] & (windows["bw_mib_s"] == 0)]
    windows = windows[windows["t_ms"] < windows["run"].map(data.first_pass_end).fillna(np.inf)]
    rate, mean_rate, buffer = [], [], []
    for run, part in windows.groupby("run"):
        if len(part) < 8:
            continue
        t_ms, sent = part["t_ms"].to_numpy(), part["bytes"].to_numpy()
        speed = np.median(sent[1:] / np.diff(t_ms))
        rate.append(speed * 1e3 / MIB)
        mean_rate.append(sent[1:].sum() / (t_ms[-1] - t_ms[0]) * 1e3 / MIB)
        buffer.append(sent[0] - speed * (t_ms[0] - first_iteration[run]))
    yield "link", "paced at 200 MiB/s, median window of each run", "MiB/s", rate
    yield "link", "paced at 200 MiB/s, mean over the first pass", "MiB/s", mean_rate
    yield "send buffer", "paced, first window against the others", "bytes", buffer
    calls = data.calls()
    ram = calls[(calls["section"] == "ram") & (calls["bw_mib_s"] == 0) & (calls["us"] > 50_900)]
    for link, part in ram.groupby("link"):
        yield "RAM slice", f"{link}, no limit", "ms", part["us"] / 1e3


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


def _paced_first_pass(data: _Data) -> Measured:
    """Where the paced link falls below its pace, while the destination writes its RAM for the first time."""
    windows = data.table("windows")
    windows = windows[windows["paced"] & (windows["bw_mib_s"] == 0)]
    windows["end"] = windows.groupby("run")["bytes"].cumsum()
    windows["begin"] = windows["end"] - windows["bytes"]
    # The first window fills the send buffer.
    windows = windows[(windows["begin"] > 0) & (windows["end"] <= windows["ram_mib"] * MIB)]
    at = [
        _slows_down_at(part["begin"].to_numpy(), (part["bytes"] / part["ms"]).to_numpy())
        for _, part in windows.groupby("run")
        if len(part) > 8
    ]
    yield "first pass slows down", "paced at 200 MiB/s", "MiB", np.array(at) / MIB
    for case, late in (("until it slows down", False), ("after it slows down", True)):
        part = windows[(windows["begin"] >= np.median(at)) == late].groupby("run")[["bytes", "ms"]].sum()
        part["speed"] = part["bytes"] / part["ms"] * 1e3 / MIB
        yield "link", f"paced at 200 MiB/s, first pass {case}", "MiB/s", part["speed"]
    # Slow and ordinary windows alternate. Bytes over time includes both, a median does not.
    pooled = part["bytes"].sum() / part["ms"].sum() * 1e3 / MIB
    yield "link", "paced at 200 MiB/s, first pass after it slows down, all runs together", "MiB/s", [pooled]
