"""Compare the prediction of every measured run with the measurement: ``migkit validate``.

Two classes of runs are reported apart. A *held* run has a paced link or a max-bandwidth well below what loopback
carries, so its configuration determines how long it takes. An *unpaced* run is as fast as its host was at that time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from migkit import results
from migkit.kernels.state import VFIO
from migkit.qemu.costs import BUSY_CPUS, LATE_END_MS, NORMAL_PAGE_WIRE_BYTES
from migkit.qemu.predict import (
    BLOCK_STATE_BYTES,
    STATE_BYTES,
    STATE_BYTES_OF_BUILDS,
    calibrations_of,
    is_held,
    is_modelled,
    rules_of,
    scenario_of,
    starts_postcopy,
)
from migkit.qemu.traces import folder_now, runs, table
from migkit.run.kept_table import kept_table
from migkit.run.whole_file import checked_path
from migkit.scenario.rows import records
from migkit.scenario.versions import PROFILES

if TYPE_CHECKING:
    import os

    import pandas as pd

    from migkit.kernels.state import Records
    from migkit.qemu.calibration import Calibration

CONFIGURATION = ["group", "name", "build", "accel"]
"""Columns that repeats of a run have in common."""
GOALS = {
    "total time, median": ("total_error", 0.5, 0.01),
    "total time, 90th percentile": ("total_error", 0.9, 0.03),
    "bytes, median": ("bytes_error", 0.5, 0.01),
    "syncs, median": ("syncs_error", 0.5, 1.0),
    "downtime, median": ("downtime_error_ms", 0.5, 10.0),
}
"""Goals for the held runs that complete: column, quantile of its absolute value, and the most this may be."""
LARGE_TOTAL_ERROR, LARGE_SYNCS_ERROR = 0.04, 2
"""A held run with a larger error, in total time (relative) or in syncs, is a miss."""
KEPT_RATE = 0.95
"""Share of its rate that a guest keeps on a host that is not too busy."""
RELEASES = {
    "deb72": "7.2.22", "v82": "8.2.0", "unser": "9.0.0-rc0", "ser": "9.0.0-rc0", "deb100": "10.0.2", "v102": "10.2.2",
    "deb111": "11.1.3",
}  # fmt: skip
"""Version of the builds in ``data/qemu-traces``; recorded runs say it themselves."""


def predictions(
    path: str | os.PathLike[str] | None = None,
    engine: str = "expected",
    calibration: Calibration | None = None,
    kept: str | os.PathLike[str] | None = None,
) -> pd.DataFrame:
    """Predict every measured run that the model has the capabilities of, from its configuration.

    Parameters
    ----------
    path : path, optional
        As in :func:`migkit.qemu.runs`.
    engine : {"expected", "bitmap"}, optional
        Model of RAM.
    calibration : Calibration, optional
        Costs of the host; predicts the runs that they were fitted to. By default every run is predicted with costs
        fitted to other groups of its campaign (:func:`migkit.qemu.predict.calibration_of`).
    kept : path, optional
        Folder where the table is kept; it is made again when a run or any of the code has changed.

    Returns
    -------
    DataFrame
        Indexed by run. ``campaign``, ``group``, ``name``, ``build``, ``accel``, ``rep``; ``held``; ``other_cpu``
        (CPUs); ``outcome``, ``total_ms``, ``downtime_ms``, ``syncs``, ``bytes`` and ``initial_ms`` (when the initial
        data of the last device had left, since the migrate command), each with ``_predicted`` and ``_measured``, of
        which ``total_ms_predicted`` is missing unless the migration completes; ``verdict`` (the predicted outcome by
        name); ``right`` (whether the outcomes are equal); ``total_error`` and
        ``bytes_error`` (relative), ``downtime_error_ms``, ``syncs_error`` and ``initial_error_ms``, missing unless both
        complete; ``faults_predicted`` and ``faults_measured`` (postcopy-requests as last polled), missing unless
        post-copy is started; and two measurements that explain a miss, ``slow_link_ms`` (time lost on the paced link,
        beyond what is predicted) and ``late_end_ms`` (end of the downtime in its late mode).

    Examples
    --------
    >>> table = predictions()
    >>> int(table["right"].sum()), len(table)
    (721, 724)
    """
    given = "" if calibration is None else calibration.parameters.to_json() + repr(calibration.runs)
    return _kept(kept, "predictions", path, [engine, given], lambda: _predictions(path, engine, calibration))


def _kept(
    folder: str | os.PathLike[str] | None,
    name: str,
    path: str | os.PathLike[str] | None,
    given: list[str],
    make: Callable[[], pd.DataFrame],
) -> pd.DataFrame:
    """A table that is made from measured runs, kept in a folder if there is one."""
    if folder is None:
        return make()
    files = [sha256(file.read_bytes()).hexdigest() for file in folder_now(path).files]
    return kept_table(checked_path("kept", folder), name, given + files, make)


def _predictions(path: str | os.PathLike[str] | None, engine: str, calibration: Calibration | None) -> pd.DataFrame:
    import pandas as pd

    measured = _modelled(path)
    if calibration is not None:
        measured = measured[measured.index.isin(calibration.runs)]
    found, numbers = _computed(measured, path, engine, calibration)
    out = measured[["campaign", *CONFIGURATION, "rep", "other_cpu"]].copy()
    out["held"] = [is_held(run) for _, run in measured.iterrows()]
    completed = numbers["outcome"] == results.Outcome.COMPLETED
    out["verdict"] = [results.Outcome(code).label for code in numbers["outcome"]]
    out["outcome_predicted"] = np.where(completed, "completed", "not_converged")
    out["outcome_measured"] = measured["outcome"]
    out["right"] = out["outcome_predicted"] == out["outcome_measured"]
    state = measured["build"].map(STATE_BYTES_OF_BUILDS).fillna(measured["accel"].map(STATE_BYTES))
    state = state + BLOCK_STATE_BYTES * (measured["blk_mib"] > 0)
    switched = pd.Series([starts_postcopy(run) for _, run in measured.iterrows()], measured.index)
    initial = numbers["device_initial_sent_s"].max(axis=1, where=found.devices["kind"] == VFIO, initial=-1)
    pairs = {
        "total_ms": (numbers["total_time_s"] * 1e3, measured["total_ms"]),
        # QEMU leaves the destination out of what it reports after a switch to post-copy
        "downtime_ms": (
            numbers["downtime_s"] * 1e3,
            measured["downtime_ms"].where(~switched, measured["downtime_wall_ms"]),
        ),
        "syncs": (numbers["sync_count"], measured["sync_count"]),
        "bytes": (numbers["bytes_sent"] + np.where(completed, state, 0), measured["transferred"]),
        "initial_ms": (np.where(initial >= 0, initial * 1e3, np.nan), _initial_ms(measured, path)),
    }
    for name, (predicted, was) in pairs.items():
        out[f"{name}_predicted"], out[f"{name}_measured"] = predicted, was
    both = completed & (measured["outcome"] == "completed")
    for name in ("total_ms", "bytes"):
        error = out[f"{name}_predicted"] / out[f"{name}_measured"] - 1
        out[name.removesuffix("_ms") + "_error"] = error.where(both)
    out["syncs_error"] = (out["syncs_predicted"] - out["syncs_measured"]).where(both)
    out["downtime_error_ms"] = (out["downtime_ms_predicted"] - out["downtime_ms_measured"]).where(both)
    out["initial_error_ms"] = out["initial_ms_predicted"] - out["initial_ms_measured"]
    out["faults_predicted"] = pd.Series(numbers["postcopy_faults"], measured.index).where(switched)
    out["faults_measured"] = _requests(measured, path).where(switched)
    links = found.links
    fresh = (found.cases["ram_pages"] - links["fresh_after_pages"]) * NORMAL_PAGE_WIRE_BYTES
    foreseen = fresh * (links["fresh_ns_per_byte"] - links["ns_per_byte"]) * 1e-6
    pace = pd.Series(1e6 / links["ns_per_byte"], measured.index)
    out["slow_link_ms"] = _slow_link_ms(measured, pace, path) - foreseen
    end = measured["downtime_end_ms"] - measured["non_iterable_saved_ms"]
    out["late_end_ms"] = end.where(end > LATE_END_MS)
    return out


def _modelled(path: str | os.PathLike[str] | None) -> pd.DataFrame:
    """The runs with capabilities that the model has."""
    everything = runs(path)
    return everything[[is_modelled(run) for _, run in everything.iterrows()]]


def _computed(
    measured: pd.DataFrame,
    path: str | os.PathLike[str] | None,
    engine: str,
    calibration: Calibration | None = None,
) -> tuple[Records, dict[str, np.ndarray]]:
    """Simulate the measured runs; their records and the results."""
    from migkit.kernels import drivers

    of_hosts = calibrations_of(measured, path) if calibration is None else [calibration] * len(measured)
    each = zip(measured.iterrows(), of_hosts, strict=True)
    found = records([scenario_of(run, path, of_host) for (_, run), of_host in each])
    return found, results.values(drivers.run(found, engine, stops_early=False))


def _requests(measured: pd.DataFrame, path: str | os.PathLike[str] | None) -> pd.Series:
    """Pages that the destination had asked for when that was last polled."""
    import pandas as pd

    samples = table("samples", path)
    if "postcopy_requests" not in samples:
        return pd.Series(np.nan, measured.index)
    return samples.groupby("run")["postcopy_requests"].max().reindex(measured.index).astype(float)


def _slow_link_ms(measured: pd.DataFrame, pace: pd.Series, path: str | os.PathLike[str] | None) -> pd.Series:
    """Time by which windows on a paced link took longer than its rate (bytes/ms) explains.

    Missing where max-bandwidth limits too. The first window, which fills the send buffer, is left out.
    """
    windows = table("windows", path)
    windows = windows[windows.groupby("run").cumcount() > 0]
    short = (windows["ms"] - windows["bytes"] / windows["run"].map(pace).astype(float)).groupby(windows["run"]).sum()
    unlimited = (measured["bw_mib_s"] == 0) | (measured["bw_mib_s"] > measured["link_mib_s"])
    return short.reindex(measured.index).where(unlimited & (measured["link_mib_s"] > 0))


def _initial_ms(measured: pd.DataFrame, path: str | os.PathLike[str] | None) -> pd.Series:
    """When the initial data of the last device had left; missing if some never left or there is none."""
    done = table("devices", path)
    done = done[done["initial_bytes"] > 0]
    never = done.groupby("run")["init_done_ms"].agg(lambda times: times.isna().any() or (times < 0).any())
    last = done.groupby("run")["init_done_ms"].max().where(~never)
    return last.reindex(measured.index) + measured["setup_ms"].fillna(0)


def device_times(
    path: str | os.PathLike[str] | None = None, kept: str | os.PathLike[str] | None = None
) -> pd.DataFrame:
    """Compare when the initial data of each device had left.

    Parameters
    ----------
    path : path, optional
        As in :func:`migkit.qemu.runs`.
    kept : path, optional
        As for :func:`predictions`.

    Returns
    -------
    DataFrame
        One row for each device with initial data: ``run``, ``device``, ``predicted_ms`` and ``measured_ms`` since
        setup (missing: never), ``error_ms``.
    """
    return _kept(kept, "device_times", path, [], lambda: _device_times(path))


def _device_times(path: str | os.PathLike[str] | None) -> pd.DataFrame:
    import pandas as pd

    measured = _modelled(path)
    measured = measured[measured["ndev"] > 0]
    if not len(measured):
        return pd.DataFrame(columns=["run", "device", "predicted_ms", "measured_ms", "error_ms"])
    simulated, numbers = _computed(measured, path, "expected")
    found = table("devices", path)
    found = found[found["run"].isin(measured.index) & (found["initial_bytes"] > 0)]
    rows = measured.index.get_indexer(found["run"])
    predicted = numbers["device_initial_sent_s"][rows, 1 + found["device"].to_numpy()] * 1e3
    done = found["init_done_ms"].astype(float)
    out = pd.DataFrame({"run": found["run"], "device": found["device"], "predicted_ms": predicted})
    out["predicted_ms"] -= simulated.cases["setup_ns"][rows] * 1e-6
    out["measured_ms"] = done.where(done >= 0)
    out["error_ms"] = out["predicted_ms"] - out["measured_ms"]
    return out.reset_index(drop=True)


def by_configuration(runs_table: pd.DataFrame) -> pd.DataFrame:
    """Summarise the repeats of each configuration.

    Parameters
    ----------
    runs_table : DataFrame
        From :func:`predictions`.

    Returns
    -------
    DataFrame
        Indexed by group, name, build and accel: ``held``, ``repeats``, ``completed_measured`` and
        ``completed_predicted`` (how many), ``agree`` (whether the measured repeats have one outcome), ``right``
        (repeats with the right outcome), and medians over the runs that completed in both.
    """
    frame = runs_table.assign(
        completed_measured=runs_table["outcome_measured"] == "completed",
        completed_predicted=runs_table["outcome_predicted"] == "completed",
    )
    groups = frame.groupby(CONFIGURATION)
    out = groups.agg(
        held=("held", "first"),
        repeats=("rep", "size"),
        completed_measured=("completed_measured", "sum"),
        completed_predicted=("completed_predicted", "sum"),
        right=("right", "sum"),
    )
    out.insert(4, "agree", out["completed_measured"].isin([0]) | (out["completed_measured"] == out["repeats"]))
    both = frame[frame["completed_measured"] & frame["completed_predicted"]].groupby(CONFIGURATION)
    names = ("total_ms", "downtime_ms", "syncs", "bytes", "initial_ms")
    values = [f"{name}_{side}" for name in names for side in ("predicted", "measured")]
    values += ["total_error", "bytes_error", "syncs_error", "downtime_error_ms", "initial_error_ms"]
    return out.join(both[values].median())


def goals(runs_table: pd.DataFrame, path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Compare the errors of the held runs that complete with :data:`GOALS`.

    Parameters
    ----------
    runs_table : DataFrame
        From :func:`predictions`.
    path : path, optional
        Folder of the measured runs, as for :func:`predictions`.

    Returns
    -------
    DataFrame
        Indexed by goal: ``goal`` (the most it may be), and the value reached in ``all`` held runs, in those on a
        ``quiet`` host, over ``loopback``, over a ``paced`` link, and in each campaign. Errors of total times and bytes
        are relative, those of downtimes milliseconds, those of syncs counts. The last row, ``runs``, has the number of
        runs.
    """
    import pandas as pd

    frame = runs_table[runs_table["held"] & runs_table["total_error"].notna()]
    paced = frame.index.isin(runs(path).query("link_mib_s > 0").index)
    parts = {"all": slice(None), "quiet": frame["other_cpu"] <= BUSY_CPUS, "loopback": ~paced, "paced": paced}
    parts |= {str(campaign): frame["campaign"] == campaign for campaign in sorted(frame["campaign"].unique())}
    table = pd.DataFrame({part: reached(frame[rows_of]) for part, rows_of in parts.items()})
    table.insert(0, "goal", pd.Series({goal: most for goal, (_, _, most) in GOALS.items()}))
    table.loc["runs"] = [np.nan, *(len(frame[rows_of]) for rows_of in parts.values())]
    return table


def reached(errors: pd.DataFrame) -> pd.Series:
    """Say how large the errors that :data:`GOALS` names are.

    Parameters
    ----------
    errors : DataFrame
        With the errors of :func:`predictions` or, in the median of repeats, of :func:`by_configuration`.

    Returns
    -------
    Series
        By goal.

    Examples
    --------
    >>> import pandas as pd
    >>> names = ("total_error", "bytes_error", "syncs_error", "downtime_error_ms")
    >>> reached(pd.DataFrame({name: [-0.02, 0.01, 0.03] for name in names}))["total time, median"].item()
    0.02
    """
    import pandas as pd

    return pd.Series({goal: errors[column].abs().quantile(share) for goal, (column, share, _) in GOALS.items()})


def fit_text(calibration: Calibration, path: str | os.PathLike[str] | None = None) -> str:
    """Say how well a calibration fits the runs that it was fitted to.

    Parameters
    ----------
    calibration : Calibration
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    str
    """
    table = predictions(path, calibration=calibration)
    held = table[table["held"] & table["total_error"].notna()]
    text = f"With these costs the outcome is right in {int(table['right'].sum())} of {len(table)} runs"
    if not len(held):
        return f"{text}; none of them is held by a paced link or max-bandwidth and completes."
    total, end = held["total_error"].abs(), held["downtime_error_ms"].abs()
    return (
        f"{text}; total times of {len(held)} runs that a paced link or max-bandwidth holds are off by "
        f"{total.median():.2%} in the median, {total.quantile(0.9):.2%} at the 90th percentile, downtimes by "
        f"{end.median():.1f} ms."
    )


def by_profile(runs_table: pd.DataFrame, path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Count what was measured of each profile, and how well it is predicted.

    Parameters
    ----------
    runs_table : DataFrame
        From :func:`predictions`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    DataFrame
        Indexed by ``profile`` and ``build``, the profiles without runs last: ``runs``, those with ``devices``, with
        ``auto_converge`` and under ``kvm``; ``right`` outcomes; medians of the absolute ``total_error`` (relative) and
        ``downtime_error_ms`` of the held runs that complete.
    """
    import pandas as pd

    measured = runs(path).reindex(runs_table.index)
    frame = runs_table.assign(
        profile=[rules_of(run["build"], run.get("qemu_version"))["qemu"] for _, run in measured.iterrows()],
        devices=measured["ndev"] > 0,
        auto_converge=_with_capability(measured, "auto-converge"),
        kvm=measured["accel"] == "kvm",
    )
    groups = frame.groupby(["profile", "build"])
    out = groups[["devices", "auto_converge", "kvm", "right"]].sum()
    out.insert(0, "runs", groups.size())
    held = frame[frame["held"]].groupby(["profile", "build"])
    for name in ("total_error", "downtime_error_ms"):
        out[name] = held[name].agg(lambda errors: errors.dropna().abs().median())
    rest = [(name, "") for name in PROFILES if name not in set(frame["profile"])]
    empty = pd.DataFrame(0, pd.MultiIndex.from_tuples(rest, names=out.index.names), out.columns[:5])
    return pd.concat([out, empty])


def _versions(measured: pd.DataFrame) -> pd.Series:
    """The version of QEMU of each run, of its build where the run does not say it; missing where neither is known."""
    of_builds = measured["build"].map(RELEASES)
    return measured["qemu_version"].fillna(of_builds) if "qemu_version" in measured else of_builds


def _with_capability(measured: pd.DataFrame, name: str) -> pd.Series:
    """Which runs have a capability."""
    return measured["caps"].map(lambda names: name in names)


def by_version(runs_table: pd.DataFrame, path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Summarise how well the runs of each version of QEMU are predicted.

    Parameters
    ----------
    runs_table : DataFrame
        From :func:`predictions`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    DataFrame
        Indexed by ``version`` (of the build, where a run does not say it) and ``build``, oldest first: ``profile``,
        ``runs``, ``right`` outcomes, ``completed`` (in both), ``decisive`` configurations (whose repeats agree, and
        whose guests wrote at the rate that they were to keep), and how many of those are ``decisive_right``; of the
        held runs that complete in both, ``total_error`` (median) and ``total_error_90`` (90th percentile),
        ``bytes_error``, ``syncs_error``, ``downtime_error_ms`` (medians), all absolute values; ``other_cpu`` (median).
    """
    import pandas as pd

    measured = runs(path).reindex(runs_table.index)
    frame = runs_table.assign(
        version=_versions(measured).fillna(measured["build"]),
        slowed=slowed(runs_table, path),
    )
    rows = {}
    for (version, build), of_version in frame.groupby(["version", "build"]):
        run = measured.loc[of_version.index[0]]
        held = of_version[of_version["held"] & of_version["total_error"].notna()]
        configurations = of_version.groupby(CONFIGURATION)
        decisive = (configurations["outcome_measured"].nunique() == 1) & ~configurations["slowed"].any()
        errors = {name: held[name].abs() for name in ("total_error", "bytes_error", "syncs_error", "downtime_error_ms")}
        rows[version, build] = {
            "profile": rules_of(build, run.get("qemu_version"))["qemu"],
            "runs": len(of_version),
            "right": int(of_version["right"].sum()),
            "completed": int(of_version["total_error"].notna().sum()),
            "decisive": int(decisive.sum()),
            "decisive_right": int((configurations["right"].all() & decisive).sum()),
            **{name: values.median() for name, values in errors.items()},
            "total_error_90": errors["total_error"].quantile(0.9),
            "other_cpu": of_version["other_cpu"].median(),
        }
    out = pd.DataFrame.from_dict(rows, orient="index").rename_axis(["version", "build"])
    return out.loc[sorted(out.index, key=lambda key: [int(n) for n in re.findall(r"\d+", key[0])])]


def slowed(runs_table: pd.DataFrame, path: str | os.PathLike[str] | None = None) -> pd.Series:
    """Whether a guest wrote less than :data:`KEPT_RATE` of the rate that it was to keep, though nothing throttled it.

    Parameters
    ----------
    runs_table : DataFrame
        From :func:`predictions`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    Series of bool
        Indexed as `runs_table`. A host that is too busy does that.
    """
    measured = runs(path).reindex(runs_table.index)
    free = ~measured["caps"].map(lambda names: "auto-converge" in names) & (measured["target_writes_s"] > 0)
    return free & (measured["mig_writes_s"] < KEPT_RATE * measured["target_writes_s"])


KINDS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "uniform": lambda run: (run["mode"] == "rand") & (run["target_writes_s"] > 0),
    "sequential": lambda run: (run["mode"] == "seq") & (run["target_writes_s"] > 0),
    "full speed": lambda run: run["writes_max"],
    "max-bandwidth": lambda run: run["bw_mib_s"] > 0,
    "paced link": lambda run: run["link_mib_s"] > 0,
    "device": lambda run: run["ndev"] > 0,
    "switchover-ack": lambda run: _with_capability(run, "switchover-ack"),
    "auto-converge": lambda run: _with_capability(run, "auto-converge"),
    "block": lambda run: run["blk_mib"] > 0,
    "KVM": lambda run: run["accel"] == "kvm",
    "multifd": lambda run: _with_capability(run, "multifd"),
    "post-copy": lambda run: _with_capability(run, "postcopy-ram"),
}
"""Kinds of runs by name; any with a capability of :data:`migkit.qemu.costs.NOT_MODELLED` are measured only."""


def coverage(path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Count the measured runs of each version by kind, and name the profile that stands for it.

    Parameters
    ----------
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    DataFrame
        Indexed by ``profile``, ``version`` and ``build``; ``runs``, and a column for each of :data:`KINDS`. A profile
        without a measured run has one row, of zeroes.

    Examples
    --------
    >>> table = coverage()
    >>> int(table.loc[("9.0", "", ""), "runs"]), int(table.xs("deb72", level="build")["device"].sum())
    (0, 0)
    """
    import pandas as pd

    measured = runs(path)
    versions = _versions(measured).fillna("")
    profiles = [rules_of(run["build"], run.get("qemu_version"))["qemu"] for _, run in measured.iterrows()]
    kinds = pd.DataFrame({name: has(measured) for name, has in KINDS.items()}).astype(int)
    groups = kinds.assign(runs=1, profile=profiles, version=versions, build=measured["build"])
    counted = groups.groupby(["profile", "version", "build"])[["runs", *KINDS]].sum()
    rest = [(name, "", "") for name in PROFILES if name not in set(profiles)]
    empty = pd.DataFrame(0, pd.MultiIndex.from_tuples(rest, names=counted.index.names), counted.columns)
    order = list(PROFILES)
    return pd.concat([counted, empty]).sort_index(
        level=0, sort_remaining=True, key=lambda level: level.map(order.index) if level.name == "profile" else level
    )


def misses(runs_table: pd.DataFrame) -> pd.DataFrame:
    """Select the predictions that missed, with the cause of each.

    A prediction misses if its outcome is wrong, and that of a held run also if its total time or its syncs are off by
    more than :data:`LARGE_TOTAL_ERROR` or :data:`LARGE_SYNCS_ERROR`.

    Parameters
    ----------
    runs_table : DataFrame
        From :func:`predictions`.

    Returns
    -------
    DataFrame
        Rows of `runs_table`, with ``cause`` added.
    """
    from migkit.qemu.causes import cause

    large = runs_table["total_error"].abs() > LARGE_TOTAL_ERROR
    large |= runs_table["syncs_error"].abs() > LARGE_SYNCS_ERROR
    found = runs_table[~runs_table["right"] | (runs_table["held"] & large)]
    return found.assign(cause=[cause(run) for _, run in found.iterrows()])


__all__ = [
    "by_configuration",
    "by_profile",
    "by_version",
    "coverage",
    "device_times",
    "fit_text",
    "goals",
    "misses",
    "predictions",
    "slowed",
]
