"""The scheduling lab: every proposed fix on the four known ways never to end, and over a designed set of scenarios."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from migkit.analysis.intervals import paired_interval
from migkit.run.design import Sweep
from migkit.run.many import sweep
from migkit.run.simulate import simulate
from migkit.run.values import Design
from migkit.scenario.errors import ScenarioError
from migkit.scenario.parts import Guest, Link, Migration, Region, Vfio
from migkit.scenario.policy import Policy, policy
from migkit.scenario.scenario import Scenario
from migkit.study.proposals import (
    BANDWIDTHS,
    SYNCS,
    WALKS,
    all_initial_data_before_ram,
    busy_windows,
    initial_data_first,
    largest_of_the_last,
    resume_behind_the_last,
)

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["Fix", "compare", "designed", "fixes", "four_ways", "own_policy", "text"]

BASELINE = "unserialized"
POINTS = 1024
TIME_LIMIT = "120 s"


class Fix(NamedTuple):
    """An answer to each of the three questions of the loop.

    Parameters
    ----------
    name : str
    policy, sync_policy, bandwidth_policy : str or Policy
        As :class:`migkit.Scenario` takes them.
    """

    name: str
    policy: str | Policy = BASELINE
    sync_policy: str | Policy = "9.0"
    bandwidth_policy: str | Policy = "window"

    def applied(self, scenario: Scenario) -> Scenario:
        """The scenario with these answers."""
        return scenario.replace(
            policy=self.policy, sync_policy=self.sync_policy, bandwidth_policy=self.bandwidth_policy
        )


def fixes(own: Sequence[Policy] = ()) -> list[Fix]:
    """Every fix: QEMU's two walks, each proposal alone, and combinations of a walk with a bandwidth.

    Parameters
    ----------
    own : sequence of Policy, optional
        Further ones, each alone.

    Examples
    --------
    >>> [fix.name for fix in fixes()][:2]
    ['serialized', 'unserialized']
    """
    questions = {"next_device": "policy", "syncs": "sync_policy", "bandwidth": "bandwidth_policy"}
    found = [Fix("serialized", "serialized"), Fix(BASELINE)]
    found += [Fix(str(each), **{questions[each.question]: each}) for each in (*WALKS, *SYNCS, *BANDWIDTHS)]
    for walk in (resume_behind_the_last, initial_data_first, all_initial_data_before_ram):
        for bandwidth in (largest_of_the_last, busy_windows):
            found.append(Fix(f"{walk} + {bandwidth}", walk, bandwidth_policy=bandwidth))
    return found + [Fix(str(each), **{questions[each.question]: each}) for each in own]


def four_ways() -> dict[str, Scenario]:
    """One scenario for each known way never to end.

    Returns
    -------
    dict
        ``"RAM first"``: hot RAM before a device in a serialized walk; ``"budget"``: RAM that uses up every window;
        ``"initial data"``: more of it than the threshold, in a serialized walk, without switchover-ack;
        ``"acknowledgement"``: a quiet guest waits for a slow one, and its windows carry nothing.

    Examples
    --------
    >>> from migkit import simulate
    >>> [simulate(each.replace(policy="unserialized")).converged for each in four_ways().values()]
    [True, False, True, False]
    """
    acknowledged = {"switchover_ack": True, "return_path": True}

    def hot(size: str, rate: str) -> Guest:
        return Guest(ram="4 GiB", regions=[Region(size=size, start="1 GiB", write_rate=rate)])

    link, common = Link(bandwidth="10 Gbit/s"), {"qemu": "9.0", "time_limit": TIME_LIMIT}
    return {
        "RAM first": Scenario(
            guest=hot("100 MiB", "40 GB/s"),
            devices=[Vfio(initial_bytes="16 MiB", stop_copy_bytes="1 MiB")],
            link=link,
            migration=Migration(max_bandwidth=0, **acknowledged),
            **common,
        ),
        "budget": Scenario(
            guest=hot("32 MiB", "40 GB/s"),
            devices=[Vfio(initial_bytes="8 MiB", stop_copy_bytes="1 MiB")],
            link=link,
            migration=Migration(max_bandwidth="128 MiB/s", **acknowledged),
            **common,
        ),
        "initial data": Scenario(
            guest=hot("300 MiB", "4 GB/s"),
            devices=[Vfio(count=8, initial_bytes="64 MiB", stop_copy_bytes="2 MiB")],
            link=Link(bandwidth="25 Gbit/s"),
            migration=Migration(max_bandwidth=0),
            **common,
        ),
        "acknowledgement": Scenario(
            guest=Guest(ram="4 GiB"),
            devices=[Vfio(initial_bytes="64 MiB", stop_copy_bytes="64 MiB", load_time="1 s")],
            link=link,
            migration=Migration(max_bandwidth=0, **acknowledged),
            **common,
        ),
    }


def designed(points: int, chosen: Sequence[Fix]) -> Sweep:
    """The designed set: Sobol points over nine fields, each with every fix.

    Parameters
    ----------
    points : int
        A power of two.
    chosen : sequence of Fix

    Returns
    -------
    Sweep
        With the axis ``fix``.
    """
    scenario = Scenario(
        guest=Guest(ram="4 GiB", regions=[Region(size="64 MiB", start="1 GiB", write_rate="1 GB/s")]),
        devices=[Vfio(initial_bytes="16 MiB", stop_copy_bytes="1 MiB")],
        link=Link(bandwidth="10 Gbit/s"),
        migration=Migration(switchover_ack=True, return_path=True),
        qemu="9.0",
        time_limit=TIME_LIMIT,
    )
    ranges = {
        "guest.regions.0.write_rate": {"geomspace": ["10 MB/s", "20 GB/s"]},
        "guest.regions.0.size": {"geomspace": ["8 MiB", "2 GiB"], "multiple": "1 MiB"},
        "link.bandwidth": {"geomspace": ["1 Gbit/s", "100 Gbit/s"]},
        "migration.max_bandwidth": {"geomspace": ["64 MiB/s", "8 GiB/s"]},
        "migration.downtime_limit": {"geomspace": ["50 ms", "1 s"]},
        "devices.0.count": {"linspace": [1, 8]},
        "devices.0.initial_bytes": {"geomspace": ["1 MiB", "512 MiB"]},
        "devices.0.stop_copy_bytes": {"geomspace": ["100 kB", "100 MB"]},
        "devices.0.load_time": {"geomspace": ["1 ms", "2 s"]},
    }
    axis = {name: [getattr(fix, name) for fix in chosen] for name in ("policy", "sync_policy", "bandwidth_policy")}
    return Sweep(scenario=scenario, axes={"fix": axis}, design=Design(method="sobol", points=points, ranges=ranges))


def compare(chosen: Sequence[Fix], dataset: xr.Dataset) -> pd.DataFrame:
    """The table: each fix over the designed set, against the walk of 9.0, and on the four ways.

    Parameters
    ----------
    chosen : sequence of Fix
        In the order of the axis ``fix``; :data:`BASELINE` among them.
    dataset : Dataset
        Of the sweep that :func:`designed` describes.

    Returns
    -------
    DataFrame
        By fix. ``completed``: share of the scenarios; ``more``, ``more_low``, ``more_high``: that share less the
        baseline's, with Newcombe's interval for pairs; ``won`` and ``lost``: scenarios that complete with it only, or
        with the baseline only; ``total_time``: median ratio to the baseline's where both complete; ``above_limit``:
        share of the completed ones whose downtime is above its limit; ``waited_s``: largest time that iterations
        ended before a device, 95th percentile of the completed ones; and for each of the four ways its total
        time in seconds, NaN if it does not complete.

    Examples
    --------
    >>> chosen = [fix for fix in fixes() if fix.name in ("serialized", "unserialized")]
    >>> from migkit import sweep
    >>> compare(chosen, sweep(designed(16, chosen)))["won"].tolist()
    [0, 0]
    """
    import pandas as pd

    whole = dataset.transpose("fix", ...)
    completed = whole["completed"].values
    total, downtime = whole["total_time_s"].values, whole["downtime_s"].values
    limit = whole["migration.downtime_limit"].values
    waited = whole["device_starved_s"].max("device").transpose("fix", ...).values
    base = next(place for place, fix in enumerate(chosen) if fix.name == BASELINE)
    ways = four_ways()
    rows = []
    for place, fix in enumerate(chosen):
        done, both = completed[place], completed[place] & completed[base]
        won, lost = int((done & ~completed[base]).sum()), int((~done & completed[base]).sum())
        low, high = paired_interval(int(both.sum()), lost, won, int((~done & ~completed[base]).sum()))
        rows.append({
            "fix": fix.name,
            "completed": done.mean(),
            "more": (won - lost) / len(done), "more_low": float(low), "more_high": float(high),
            "won": won, "lost": lost,
            "total_time": float(np.median(total[place][both] / total[base][both])) if both.any() else np.nan,
            "above_limit": float((downtime[place][done] > limit[done]).mean()) if done.any() else np.nan,
            "waited_s": float(np.quantile(waited[place][done], 0.95)) if done.any() else np.nan,
            **{name: simulate(fix.applied(way)).total_time_s for name, way in ways.items()},
        })  # fmt: skip
    return pd.DataFrame(rows).set_index("fix")


def run(
    points: int = POINTS, own: Sequence[Policy] = (), store: Path | None = None, progress: bool = False
) -> pd.DataFrame:
    """Compute :func:`compare` for all :func:`fixes`; with a store, what is finished is kept.

    Raises
    ------
    ScenarioError
        If `points` is no power of two.
    """
    chosen = fixes(own)
    dataset = sweep(designed(points, chosen), store=store, progress=progress)
    return compare(chosen, dataset.load())


def own_policy(given: str) -> Policy:
    """Load a policy of the user's own.

    Parameters
    ----------
    given : str
        ``FILE.py:NAME``: a function, or one that :func:`migkit.policy` decorates.

    Raises
    ------
    ScenarioError
        If there is no such file, it cannot be read as Python, or has no such function.
    """
    path, colon, name = given.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise ScenarioError("is not FILE.py:NAME", "--policy", given)
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found: Any = getattr(module, name)
    except ScenarioError:
        raise
    except AttributeError:
        raise ScenarioError(f"has no function {name}", "--policy", path) from None
    except Exception as error:
        raise ScenarioError(f"cannot be read: {type(error).__name__}: {error}", "--policy", path) from None
    return found if isinstance(found, Policy) else policy(found)


def text(table: pd.DataFrame, points: int) -> str:
    """The table as Markdown, with how to read it.

    Parameters
    ----------
    table : DataFrame
        Of :func:`compare`.
    points : int
        Scenarios behind it.
    """
    ways = list(four_ways())
    shown = table.copy()
    for name in ("completed", "above_limit"):
        shown[name] = [f"{value:.1%}" for value in table[name]]
    shown["more"] = [f"{a:+.1%} ({b:+.1%} to {c:+.1%})" for a, b, c in
                     table[["more", "more_low", "more_high"]].itertuples(index=False)]  # fmt: skip
    shown["total_time"] = [f"{value:.3f}" for value in table["total_time"]]
    shown["waited_s"] = [f"{value:.2f}" for value in table["waited_s"]]
    for name in ways:
        shown[name] = ["never" if value != value else f"{value:.1f}" for value in table[name]]
    head = {"completed": "complete", "more": "than 9.0 (95 %)", "total_time": "total time / 9.0",
            "above_limit": "downtime above limit", "waited_s": "device waited (s)"}  # fmt: skip
    columns = ["completed", "more", "won", "lost", "total_time", "above_limit", "waited_s", *ways]
    body: str = shown[columns].rename(columns=head).to_markdown()
    removes = [str(name) for name, row in table.iterrows() if not row[ways].isna().any()]
    best = f"All four ways end with: {', '.join(removes)}." if removes else "No fix ends all four ways."
    return (
        f"{best}\n\n{body}\n\n{points} scenarios, Sobol points over dirty rate, hot set, link, max-bandwidth, "
        "downtime-limit, devices, initial data, stop-copy and load time, with switchover-ack, rules of QEMU 9.0 but "
        f"for the fix, expected engine, {TIME_LIMIT} to complete in. The last four columns are total times in seconds. "
        "`won` and `lost`: scenarios that complete with the fix only, or without it only.\n"
    )
