"""Report of the validation: a summary for the terminal; Markdown and tables for a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.qemu.costs import BUSY_CPUS
from migkit.qemu.iterations import agreement, compare_iterations
from migkit.qemu.validation import (
    by_configuration,
    by_profile,
    by_version,
    coverage,
    device_times,
    goals,
    misses,
    slowed,
)

if TYPE_CHECKING:
    import os

    import pandas as pd

COMPARED_RUNS = (
    "A2__bw128_rand_r050__unser__r0",
    "B5__bw128_r90_dev1_init16__unser__r2",
    "B7__link200_ws10_dev1_init8__ser__r0",
    "B8__link200_r070_dev1_init8__ser__r2",
    "B3__link200_bw110_dev1_init8__unser__r0",
)
"""Runs that the report compares iteration by iteration."""
SHOWN = ("outcome", "total_ms", "downtime_ms", "syncs", "bytes", "initial_ms")
"""Quantities of :func:`run_text`."""


def run_text(run: pd.Series, devices: pd.DataFrame) -> str:
    """Format one run, predicted beside measured, as a table in plain text.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.validation.predictions`.
    devices : DataFrame
        From :func:`migkit.qemu.validation.device_times`.

    Returns
    -------
    str
    """
    lines = [f"{run.name} ({'held' if run['held'] else 'unpaced'})"]
    lines += [f"{'':24}{'predicted':>16}{'measured':>16}{'error':>12}"]
    for name in SHOWN:
        pair = run[f"{name}_predicted"], run[f"{name}_measured"]
        lines.append(_line(name, *pair))
    for _, device in devices[devices["run"] == run.name].iterrows():
        lines.append(_line(f"device {device['device']} initial_ms", device["predicted_ms"], device["measured_ms"]))
    return "\n".join(lines)


def _line(name: str, predicted: Any, measured: Any) -> str:
    if isinstance(predicted, str):
        return f"{name:24}{predicted:>16}{measured:>16}{'' if predicted == measured else 'wrong':>12}"
    error = "" if np.isnan(predicted) or np.isnan(measured) else f"{predicted - measured:+.6g}"
    texts = ["-" if np.isnan(number) else f"{number:.10g}" for number in (round(predicted, 1), round(measured, 1))]
    return f"{name:24}{texts[0]:>16}{texts[1]:>16}{error:>12}"


def summary(runs_table: pd.DataFrame) -> str:
    """Format goals, outcomes and misses as Markdown that can be read as plain text.

    Parameters
    ----------
    runs_table : DataFrame
        From :func:`migkit.qemu.validation.predictions`.

    Returns
    -------
    str
    """
    configurations = by_configuration(runs_table)
    reached = goals(runs_table)
    held = runs_table["held"]
    lines = [
        f"{len(runs_table)} runs in {len(configurations)} configurations; {int(held.sum())} runs are held by a paced "
        "link or by max-bandwidth, the others run at the speed of loopback. "
        f"The outcome is right in {int(runs_table['right'].sum())} runs "
        f"(held: {int(runs_table['right'][held].sum())} of {int(held.sum())}).",
        "",
        "Errors of the held runs that complete in both, as absolute values:",
        "",
        _markdown(["", "goal", "all", "quiet host", "loopback", "paced", *reached.columns[5:]], goal_rows(reached)),
        "",
        "A quiet host is one on which other processes used at most 0.2 CPUs.",
        "",
        "## Profiles",
        "",
        _markdown(
            ["profile", "build", "runs", "devices", "auto-converge", "KVM", "right outcome", "total time", "downtime"],
            _profile_rows(by_profile(runs_table)),
        ),
        "",
        "Errors are medians over the held runs that complete. Not measured: VFIO hardware, links of another pace than "
        "200 MiB/s, KVM with any build but 9.0-rc0, post-copy with max-postcopy-bandwidth, multifd on a paced link, "
        "with devices or with zero pages.",
        "",
        "## Profile against version",
        "",
        "Measured runs by kind; `-` is not measured. A run may be of several kinds.",
        "",
        coverage_text(),
        "",
        "`migkit validate --record` measures the kinds from *uniform* to *max-bandwidth*, and auto-converge, with the "
        "versions that are installed on your machine, and prints this report of them.",
        "",
        "## Post-copy",
        "",
        "Predicted, then measured, of the runs in which it is started. The downtime is that of the switch, from the "
        "stop of the source to the running destination, of which QEMU reports the part of the source alone; its costs "
        "per stale run of pages come from these runs. Faults are QEMU's postcopy-requests when they were last polled.",
        "",
        _markdown(
            ["run", "total time", "", "syncs", "", "bytes", "", "downtime", "", "faults", ""],
            _postcopy_rows(runs_table),
        ),
        "",
        "## multifd",
        "",
        "Medians of the repeats, predicted, then measured; the error is that of these two medians. The two costs of"
        " multifd come from these runs and no others, on two cores that guest, source and destination share. A run "
        "without a limit goes through its first pass as fast as its own first window went. With four channels the "
        "switchover comes a window of 100 ms early, after one with a threshold of 30 packets in place of 29. Where "
        "the guest wrote (`bw0_r050`) as many bytes took two to three times as long while it was stopped as where "
        "it did not; the traces do not say why.",
        "",
        _markdown(
            ["configuration", "class", "total time", "", "error", "syncs", "", "bytes", "", "downtime", ""],
            _multifd_rows(configurations),
        ),
        "",
        "## Outcomes",
        "",
        _markdown(
            ["configuration", "class", "completed, measured", "completed, predicted", "repeats agree"],
            _outcome_rows(configurations),
        ),
        "",
        "All other configurations have the right outcome in every repeat.",
        "",
        "## Misses",
        "",
        "Wrong outcomes, and held runs off by more than 4 % in total time or more than 2 syncs:",
        "",
        _markdown(["run", "class", "total time", "syncs", "cause"], _miss_rows(misses(runs_table))),
    ]
    return "\n".join(lines)


def coverage_text(path: str | os.PathLike[str] | None = None) -> str:
    """Format what has been measured of each version, and what has not, as a Markdown table.

    Parameters
    ----------
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    str
    """
    found = coverage(path)
    rows = [
        [profile, f"{version} (`{build}`)" if build else "none", *(f"{count}" if count else "-" for count in row)]
        for (profile, version, build), row in found.iterrows()
    ]
    return _markdown(["profile", "version", *found.columns], rows)


def of_recorded(runs_table: pd.DataFrame, path: str | os.PathLike[str]) -> str:
    """Format the predictions of runs that were recorded on one machine, by version of QEMU.

    Parameters
    ----------
    runs_table : DataFrame
        From :func:`migkit.qemu.validation.predictions`.
    path : path
        Folder of the runs.

    Returns
    -------
    str
        Markdown that can be read as plain text.
    """
    versions = by_version(runs_table, path)
    slow = slowed(runs_table, path)
    rows = [
        [
            f"{version} (`{build}`)",
            row["profile"],
            f"{row['runs']}",
            f"{row['right']} of {row['runs']}",
            f"{row['decisive_right']} of {row['decisive']}",
            *(["-"] * 5 if np.isnan(row["total_error"]) else [
                f"{row['total_error']:.2%}", f"{row['total_error_90']:.2%}", f"{row['bytes_error']:.2%}",
                f"{row['syncs_error']:g}", f"{row['downtime_error_ms']:.1f} ms",
            ]),
            f"{row['other_cpu']:.1f}",
        ]
        for (version, build), row in versions.iterrows()
    ]  # fmt: skip
    head = ["QEMU", "profile", "runs", "right outcome", "decisive", "total time", "90 %", "bytes", "syncs", "downtime"]
    lines = [
        f"{len(runs_table)} runs that were recorded on this machine, each predicted from its configuration and the "
        "costs that the other groups of runs show. Errors are absolute values, medians over the runs that a link or "
        "max-bandwidth holds and that complete in both; *90 %* is the 90th percentile of total times. A configuration "
        "is decisive if its repeats agree and its guest kept its rate. *Other CPUs*: what other processes used.",
        "",
        _markdown([*head, "other CPUs"], rows),
        "",
    ]
    if runs_table["other_cpu"].min() > BUSY_CPUS:
        lines += ["No run was recorded on a quiet host: costs, and times, are those of a busy one.", ""]
    wrong = runs_table[~runs_table["right"]]
    if not len(wrong):
        lines.append("All outcomes are right.")
        return "\n".join([*lines, "", "Measured:", "", coverage_text(path)])
    rows = [
        [
            name,
            run["verdict"].replace("_", " "),
            run["outcome_measured"].replace("_", " "),
            "the host was too busy: the guest did not keep its rate" if slow[name] else "",
        ]
        for name, run in wrong.iterrows()
    ]
    lines += ["Wrong outcomes:", "", _markdown(["run", "predicted", "measured", "note"], rows)]
    return "\n".join([*lines, "", "Measured:", "", coverage_text(path)])


def goal_rows(reached: pd.DataFrame) -> list[list[str]]:
    """Format a table like that of :func:`migkit.qemu.validation.goals`, a row of texts for each measure."""

    def text(name: str, value: float) -> str:
        if np.isnan(value):
            return ""
        if name.startswith("downtime"):
            return f"{value:.1f} ms"
        return f"{value:g}" if name.startswith(("syncs", "runs")) else f"{value:.2%}"

    return [[name, *(text(name, value) for value in row)] for name, row in reached.iterrows()]


def _postcopy_rows(runs_table: pd.DataFrame) -> list[list[str]]:
    rows = []
    for name, run in runs_table[runs_table["faults_predicted"].notna()].iterrows():
        row = [str(name)]
        for what, text in (("total_ms", "{:.0f} ms"), ("syncs", "{:.0f}"), ("bytes", "{:,.0f}"),
                           ("downtime_ms", "{:.1f} ms"), ("faults", "{:.0f}")):  # fmt: skip
            row += [text.format(run[f"{what}_{side}"]) for side in ("predicted", "measured")]
        rows.append(row)
    return rows


def _multifd_rows(configurations: pd.DataFrame) -> list[list[str]]:
    rows = []
    for name, found in configurations[configurations.index.get_level_values("group") == "M"].iterrows():
        row = [" ".join(name[1:3]), "held" if found["held"] else "unpaced"]
        for what, text in (("total_ms", "{:.0f} ms"), ("syncs", "{:.0f}"), ("bytes", "{:,.0f}"),
                           ("downtime_ms", "{:.1f} ms")):  # fmt: skip
            row += [text.format(found[f"{what}_{side}"]) for side in ("predicted", "measured")]
            if what == "total_ms":
                row.append(f"{found['total_ms_predicted'] / found['total_ms_measured'] - 1:+.1%}")
        rows.append(row)
    return rows


def _profile_rows(profiles: pd.DataFrame) -> list[list[str]]:
    rows = []
    for (profile, build), row in profiles.iterrows():
        counts = [f"{int(row[name])}" for name in ("runs", "devices", "auto_converge", "kvm")]
        if not row["runs"]:
            rows.append([profile, "not measured", *counts, "", "", ""])
            continue
        errors = ["", ""] if np.isnan(row["total_error"]) else [
            f"{row['total_error']:.2%}", f"{row['downtime_error_ms']:.1f} ms",
        ]  # fmt: skip
        rows.append([profile, build, *counts, f"{int(row['right'])}", *errors])
    return rows


def _outcome_rows(configurations: pd.DataFrame) -> list[list[str]]:
    wrong = configurations[(configurations["right"] < configurations["repeats"]) | ~configurations["agree"]]
    return [
        [
            " ".join(name),
            "held" if row["held"] else "unpaced",
            f"{row['completed_measured']} of {row['repeats']}",
            f"{row['completed_predicted']} of {row['repeats']}",
            "yes" if row["agree"] else "no",
        ]
        for name, row in wrong.iterrows()
    ]


def _miss_rows(found: pd.DataFrame) -> list[list[str]]:
    rows = []
    for name, run in found.iterrows():
        off = ["wrong outcome", ""]
        if run["right"]:
            off = [f"{run['total_error']:+.1%}", f"{run['syncs_error']:+g}"]
        rows.append([name, "held" if run["held"] else "unpaced", *off, run["cause"]])
    return rows


def iterations_text(path: str | os.PathLike[str] | None = None) -> str:
    """Format the agreement of the runs in :data:`COMPARED_RUNS` as a Markdown table.

    Parameters
    ----------
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    str
    """
    rows = []
    for name in COMPARED_RUNS:
        found = agreement(compare_iterations(name, path))
        rows.append(
            [
                name,
                f"{found['iterations_predicted']:g} / {found['iterations_measured']:g}",
                *(f"{found[column]:.1%}" for column in ("synced_alike", "called_alike", "returned_alike")),
                f"{found['slice_ms_median_difference']:.2f}",
                f"{found['pages_median_difference']:g}",
                f"{found['device_bytes_predicted'] / 2**20:g} / {found['device_bytes_measured'] / 2**20:g}",
            ]
        )
    head = ["run", "iterations", "same sync", "same calls", "same returns", "slice off by (ms)", "pages off by"]
    return _markdown([*head, "device MiB"], rows)


def markdown(runs_table: pd.DataFrame, path: str | os.PathLike[str] | None = None) -> str:
    """Format the report as Markdown.

    Parameters
    ----------
    runs_table : DataFrame
        From :func:`migkit.qemu.validation.predictions`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    str
    """
    devices = device_times(path).merge(runs_table["held"], left_on="run", right_index=True)
    both = devices.dropna(subset=["error_ms"])
    same = (devices["predicted_ms"].isna() == devices["measured_ms"].isna()).sum()
    timing = "; ".join(
        f"{'held' if held else 'unpaced'}: median error {part.abs().median():.1f} ms, 90th percentile "
        f"{part.abs().quantile(0.9):.1f} ms, {len(part)} devices"
        for held, part in both.groupby("held")["error_ms"]
    )
    return "\n".join(
        [
            "# Predicted beside measured",
            "",
            "Written by `migkit validate -o DIR` from the measured migrations in `data/qemu-traces`. Every run is "
            "predicted from its configuration, from how fast a guest at full speed wrote before the migration, from "
            "where a sequential writer stood then, and from the costs of its host, fitted to the quiet runs of the "
            "other groups of its campaign (`migkit.qemu.calibrate`; group K is the only one under KVM, so its other "
            "configurations count too, and group D the only one under auto-converge, so that for a throttled run the "
            "other throttled runs do). The prediction of an unpaced run also uses the speed of its own first pass. "
            "Nothing is fitted to a run.",
            "",
            summary(runs_table),
            "",
            "## Initial data of devices",
            "",
            f"Sent, or never sent, as measured: {same} of {len(devices)} devices. Time at which it had left: {timing}.",
            "",
            "## Iteration by iteration",
            "",
            "Predicted / measured. Iterations are matched by their number, so that one more shifts all that follow. "
            "Differences are medians.",
            "",
            iterations_text(path),
            "",
        ]
    )


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    import pandas as pd

    table = pd.DataFrame(rows, columns=head)
    return str(table.to_markdown(index=False, tablefmt="github", disable_numparse=True))  # the cells are text


def write(runs_table: pd.DataFrame, folder: str | Path, path: str | os.PathLike[str] | None = None) -> None:
    """Write ``runs``, ``configurations`` and ``devices`` (CSV and Parquet) and ``validation.md`` into a folder.

    Parameters
    ----------
    runs_table : DataFrame
        From :func:`migkit.qemu.validation.predictions`.
    folder : path
        Created if it does not exist.
    path : path, optional
        As in :func:`migkit.qemu.runs`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "runs": runs_table.reset_index(),
        "configurations": by_configuration(runs_table).reset_index(),
        "devices": device_times(path),
    }
    for name, frame in tables.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    text = markdown(runs_table) if path is None else of_recorded(runs_table, path)
    (folder / "validation.md").write_text(text, encoding="utf-8")
