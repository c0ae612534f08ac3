"""The claim, on the user's own machine: ``migkit claim``.

A device behind RAM is starved by a QEMU that iterates serialized and served by one that iterates unserialized; and a
quiet guest whose destination is slow to acknowledge never completes. Stock binaries show both, with the preloaded
device of :mod:`migkit.qemu.device`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.qemu.binary import Binary
from migkit.qemu.device import VERSIONS, Device, table_version
from migkit.qemu.monitor import check_client
from migkit.qemu.plan import Plan
from migkit.qemu.planned import scenario_of_plan
from migkit.qemu.predict import nearest_profile
from migkit.qemu.record import record
from migkit.qemu.traces import runs, table
from migkit.results import bytes_text, seconds_text
from migkit.scenario.errors import ScenarioError
from migkit.scenario.versions import profile

if TYPE_CHECKING:
    import pandas as pd

GROUP = "claim"
ACKNOWLEDGED = ("return-path", "switchover-ack")
"""Capabilities of a version that has the acknowledgement."""
_COMMON: dict[str, Any] = {"ram": "128 MiB", "link": "100 MiB/s", "max_bandwidth": 0}


@dataclass(frozen=True)
class Experiment:
    """A guest and a device, and what is claimed of it.

    Attributes
    ----------
    plan : Plan
        Without capabilities, which depend on the version.
    what : str
        What it shows.
    expected : dict of str
        Outcome for ``"serialized"`` and ``"unserialized"``; a version whose policy is missing is not recorded.
    """

    plan: Plan
    what: str
    expected: dict[str, str]


EXPERIMENTS = {
    "busy": Experiment(
        Plan(
            **_COMMON,
            regions=({"size": "24 MiB", "rate": "400 MB/s"},),
            device="initial=64MiB,stop=1MiB",
            time_limit="15 s",
        ),
        "a guest that rewrites 24 MiB faster than the link carries them",
        {"serialized": "not_converged", "unserialized": "completed"},
    ),
    "quiet": Experiment(
        Plan(**_COMMON, device="initial=64MiB,stop=20MiB", time_limit="8 s"),
        "a quiet guest, acknowledged at once",
        {"unserialized": "completed"},
    ),
    "slow": Experiment(
        Plan(**_COMMON, device="initial=64MiB,stop=20MiB,load=1s", time_limit="8 s"),
        "the same guest, acknowledged after 1 s",
        {"unserialized": "not_converged"},
    ),
}
"""What is recorded with each version, by name."""


@dataclass(frozen=True, eq=False)
class Claim:
    """What was recorded, beside what is predicted.

    Attributes
    ----------
    runs : DataFrame
        Indexed by run: ``experiment``, ``version``, ``policy``; ``initial_bytes`` of the device,
        ``initial_sent_bytes``, ``initial_s`` (when all of it had left; missing: never), ``total_s`` (missing: not
        complete), ``outcome``, each with ``_predicted`` and ``_measured``; ``limit_s``; ``syncs_measured``;
        ``expected`` (the outcome that is claimed) and ``shown`` (whether it came out so).
    initial : DataFrame
        Initial data of the busy guest's device over time: ``run``, ``version``, ``policy``, ``source`` (``measured``,
        ``predicted``), ``t_s``, ``sent_bytes``.
    syncs : DataFrame
        Bitmap syncs of the quiet guests over time: ``run``, ``version``, ``experiment``, ``t_s``, ``syncs``.
    """

    runs: pd.DataFrame
    initial: pd.DataFrame
    syncs: pd.DataFrame

    @property
    def policies(self) -> set[str]:
        """Policies of the versions that were recorded."""
        return set(self.runs["policy"])

    @property
    def shown(self) -> bool:
        """Whether both policies were recorded, and every run ended as is claimed."""
        return self.policies == {"serialized", "unserialized"} and bool(self.runs["shown"].all())


def policy_of(version: str) -> str:
    """The policy of a version of QEMU as it was released.

    Examples
    --------
    >>> policy_of("7.2.22"), policy_of("10.0.2")
    ('serialized', 'unserialized')
    """
    return profile(nearest_profile(version)).default_policy


def plan_of(experiment: str, version: str) -> Plan:
    """The plan of an experiment, with the capabilities of a version.

    Parameters
    ----------
    experiment : str
        A key of `EXPERIMENTS`.
    version : str
        Of QEMU.

    Returns
    -------
    Plan

    Examples
    --------
    >>> plan_of("busy", "10.0.2").capabilities, plan_of("busy", "7.2.22").capabilities
    (('return-path', 'switchover-ack'), ())
    """
    plan = EXPERIMENTS[experiment].plan
    return (
        plan.changed(capabilities=ACKNOWLEDGED) if profile(nearest_profile(version)).supports_switchover_ack else plan
    )


def claim(output: str | os.PathLike[str], binaries: Sequence[Binary], progress: Callable[[str], None] = print) -> Claim:
    """Record the experiments with each QEMU, and compare them with what is predicted.

    Parameters
    ----------
    output : path
        Folder for the runs; runs in it are kept.
    binaries : sequence of Binary
        From :func:`migkit.qemu.binary.installed`. Those without a table of handlers are left out, and said.
    progress : callable, optional
        Is given a sentence about each run.

    Returns
    -------
    Claim

    Raises
    ------
    ScenarioError
        If no QEMU is left, or this machine cannot run them.
    Unfinished
        If a run cannot be finished; those before it are kept.

    Examples
    --------
    >>> from migkit.qemu.binary import installed
    >>> found = claim("claim", installed())  # doctest: +SKIP
    >>> found.shown  # doctest: +SKIP
    True
    """
    usable = []
    for binary in binaries:
        try:
            table_version(binary.version)
        except ScenarioError:
            progress(f"QEMU {binary.version} is left out: the device knows {', '.join(VERSIONS)} only.")
        else:
            usable.append(binary)
    if not usable:
        raise ScenarioError(f"are missing: {missing_text(())}", "QEMU 7.2 and 10.0")
    check_client("migkit claim")
    names: list[str] = []
    try:
        for binary in usable:
            for name, experiment in EXPERIMENTS.items():
                if policy_of(binary.version) in experiment.expected:
                    plan = plan_of(name, binary.version)
                    names += record(output, plan, name=name, group=GROUP, qemu=binary, progress=progress)
    except KeyboardInterrupt as interrupt:
        interrupt.__notes__ = [f"{len(names)} runs were recorded and are in {os.fspath(output)}"]
        raise
    return compared(names, output)


def compared(names: Iterable[str], path: str | os.PathLike[str]) -> Claim:
    """Compare recorded runs of the experiments with what is predicted.

    Parameters
    ----------
    names : iterable of str
        Names of runs that :func:`claim` recorded.
    path : path
        Their folder.

    Returns
    -------
    Claim
    """
    import pandas as pd

    from migkit.run.simulate import simulate

    measured = runs(path).loc[list(names)]
    calls, devices, samples = table("device_iter", path), table("devices", path), table("samples", path)
    rows, initial, syncs = {}, [], []
    for run, row in measured.iterrows():
        version, name = row["qemu_version"], row["name"]
        plan, policy = plan_of(name, version), policy_of(version)
        assert plan.device is not None
        whole = int(Device.parse(plan.device).initial)
        predicted = simulate(scenario_of_plan(plan, version))
        device = devices[devices["run"] == run].iloc[0]
        never = not device["init_done_ms"] >= 0  # missing too
        expected = EXPERIMENTS[name].expected[policy]
        rows[run] = {
            "experiment": name,
            "version": version,
            "policy": policy,
            "limit_s": row["limit_s"],
            "initial_bytes": whole,
            "initial_sent_bytes_predicted": whole - int(predicted.numbers["device_initial_left_bytes"][-1]),
            "initial_sent_bytes_measured": int(device["initial_sent_bytes"]),
            "initial_s_predicted": float(predicted.numbers["device_initial_sent_s"][-1]),
            "initial_s_measured": np.nan if never else (device["init_done_ms"] + (row["setup_ms"] or 0)) / 1e3,
            "total_s_predicted": float(predicted.numbers["total_time_s"]) if predicted.converged else np.nan,
            "total_s_measured": row["total_ms"] / 1e3 if row["outcome"] == "completed" else np.nan,
            "outcome_predicted": "completed" if predicted.converged else "not_converged",
            "outcome_measured": row["outcome"],
            "syncs_measured": row["sync_count"],
            "expected": expected,
        }
        of_run = {"run": run, "version": version, "policy": policy}
        if name == "busy":
            own = calls[(calls["run"] == run) & (calls["device"] == 0)]
            end = rows[run]["total_s_measured"]
            end = row["limit_s"] if end != end else end
            for source, t_s, sent in (
                ("measured", own["t_ms"] / 1e3, whole - own["initial_left"]),
                ("predicted", predicted.timeline["time_s"], _initial_sent(predicted.timeline, whole)),
            ):
                initial.append(_line(t_s, sent, max(end, *t_s.tail(1), 0.0)).assign(source=source, **of_run))
        else:
            own = samples[(samples["run"] == run) & samples["dirty_sync_count"].notna()]
            line = pd.DataFrame({"t_s": own["t_ms"] / 1e3, "syncs": own["dirty_sync_count"].astype(float)})
            syncs.append(line.assign(experiment=name, **of_run))
    frame = pd.DataFrame.from_dict(rows, orient="index").rename_axis("run")
    frame["shown"] = frame["outcome_measured"] == frame["expected"]
    busy = frame["experiment"] == "busy"
    served = frame["initial_sent_bytes_measured"] == frame["initial_bytes"]
    frame.loc[busy, "shown"] &= served[busy] == (frame["policy"][busy] == "unserialized")
    return Claim(frame, _joined(initial, "sent_bytes", "source"), _joined(syncs, "syncs", "experiment"))


def _joined(lines: list[pd.DataFrame], *values: str) -> pd.DataFrame:
    """The lines of all runs; the columns where there are none."""
    import pandas as pd

    return pd.concat(lines, ignore_index=True) if lines else pd.DataFrame(columns=["t_s", "run", "version", *values])


def _initial_sent(timeline: pd.DataFrame, whole: int) -> pd.Series:
    """Initial data that the device has sent after each iteration: it goes first."""
    column = next(name for name in timeline.columns if name.startswith("vfio"))
    return timeline[column].fillna(0).cumsum().clip(upper=whole)


def _line(t_s: pd.Series, sent: pd.Series, end_s: float) -> pd.DataFrame:
    """A line from the start of the migration to its end, at which nothing more was sent."""
    import pandas as pd

    last = float(sent.iloc[-1]) if len(sent) else 0.0
    return pd.DataFrame({"t_s": [0.0, *t_s, end_s], "sent_bytes": [0.0, *sent, last]}).astype(float)


def text(found: Claim) -> str:
    """Format what was recorded as a table, with what it shows and which version is missing.

    Parameters
    ----------
    found : Claim

    Returns
    -------
    str
    """
    import pandas as pd

    rows = []
    for _, row in found.runs.iterrows():
        cells = [row["experiment"], row["version"], row["policy"]]
        for side in ("predicted", "measured"):
            cells.append(_initial(row, side))
        for side in ("predicted", "measured"):
            total = row[f"total_s_{side}"]
            cells.append("never" if total != total else f"in {seconds_text(total)}")
        rows.append([*cells, "yes" if row["shown"] else "NO"])
    head = [
        "guest",
        "QEMU",
        "policy",
        "initial data, predicted",
        "measured",
        "completes, predicted",
        "measured",
        "shown",
    ]
    frame = pd.DataFrame(rows, columns=head)
    lines = [str(frame.to_markdown(index=False, tablefmt="github", disable_numparse=True)), ""]
    for name, experiment in EXPERIMENTS.items():
        lines.append(f"{name}: {experiment.what}.")
    limits = ", ".join(
        f"{seconds_text(limit)} ({name})"
        for name, limit in found.runs.groupby("experiment", sort=False)["limit_s"].first().items()
    )
    lines += [f"Never means: not within {limits}; the migration was then cancelled.", "", verdict(found)]
    missing = missing_text(found.runs["version"])
    return "\n".join([*lines, missing] if missing else lines)


def _initial(row: pd.Series, side: str) -> str:
    sent, whole, at = row[f"initial_sent_bytes_{side}"], row["initial_bytes"], row[f"initial_s_{side}"]
    if sent < whole or at != at:
        return f"{bytes_text(sent)} of {bytes_text(whole)}"
    return f"{bytes_text(whole)} by {seconds_text(at)}"


def verdict(found: Claim) -> str:
    """Say in a sentence what the runs show, or which of them contradict.

    Parameters
    ----------
    found : Claim

    Returns
    -------
    str
    """
    wrong = found.runs[~found.runs["shown"]]
    if len(wrong):
        which = ", ".join(f"{row['experiment']} on {row['version']}" for _, row in wrong.iterrows())
        return f"Not shown: {which} ended otherwise than is claimed. A machine that is busy or slow does that too."
    said = []
    for policy, ends in (("serialized", "starved"), ("unserialized", "served")):
        versions = sorted(set(found.runs.query("experiment == 'busy' and policy == @policy")["version"]))
        if versions:
            said.append(f"{' and '.join(versions)} ({policy}) {ends} the device behind RAM")
    slow = sorted(set(found.runs.query("experiment == 'slow'")["version"]))
    if slow:
        said.append(f"a quiet guest with a slow acknowledgement never completed on {' and '.join(slow)}")
    return f"Shown{'' if found.shown else ' in part'}: {'; '.join(said)}."


def missing_text(versions: Iterable[str]) -> str:
    """Say which versions are missing, and how to get them beside the system's; empty if none is.

    Parameters
    ----------
    versions : iterable of str
        Those that were recorded.

    Returns
    -------
    str

    Examples
    --------
    >>> missing_text(["7.2.22", "10.0.2", "11.1.3"])
    ''
    >>> missing_text(["7.2.22"]).split(":")[0]
    'QEMU 10.0 (or 11.1, unserialized) is missing'
    """
    have = {table_version(version) for version in versions}
    how = "docs/record.md says how to unpack it beside the system's (dpkg -x); then give --qemu-root FOLDER"
    policies = {policy_of(f"{version}.0") for version in have}
    said = []
    if "serialized" not in policies:
        said.append("QEMU 7.2 (serialized) is missing")
    if "unserialized" not in policies:
        said.append("QEMU 10.0 (or 11.1, unserialized) is missing")
    elif not said:
        said += [f"QEMU {version} was not found" for version in VERSIONS if version not in have]
    return f"{'; '.join(said)}: {how}." if said else ""


__all__ = ["EXPERIMENTS", "Claim", "Experiment", "claim", "compared", "missing_text", "text", "verdict"]
