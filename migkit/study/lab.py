"""The scheduling lab: every proposed fix on the four known ways never to end, and over a designed set of scenarios."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from migkit.analysis.intervals import paired_interval
from migkit.figures.lab import WAYS
from migkit.run.design import Sweep
from migkit.run.kept_table import kept_table
from migkit.run.many import sweep
from migkit.run.progress import progress_bar
from migkit.run.simulate import simulate
from migkit.run.store import open_sweep
from migkit.run.values import Design
from migkit.scenario.errors import ScenarioError
from migkit.scenario.parts import Block, Guest, Link, Migration, Region, Vfio
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
    link_alone,
    resume_behind_the_last,
)

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = [
    "WAYS",
    "Fix",
    "block_first",
    "compare",
    "computed",
    "designed",
    "fixes",
    "four_ways",
    "own_policy",
    "printed",
    "run",
    "text",
]

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
        for bandwidth in (largest_of_the_last, busy_windows, link_alone):
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


GUEST_AND_LINK = {
    "guest.regions.0.write_rate": {"geomspace": ["10 MB/s", "20 GB/s"]},
    "guest.regions.0.size": {"geomspace": ["8 MiB", "2 GiB"], "multiple": "1 MiB"},
    "link.bandwidth": {"geomspace": ["1 Gbit/s", "100 Gbit/s"]},
    "migration.max_bandwidth": {"geomspace": ["64 MiB/s", "8 GiB/s"]},
    "migration.downtime_limit": {"geomspace": ["50 ms", "1 s"]},
}
DEVICES = {
    "devices.0.count": {"linspace": [1, 8]},
    "devices.0.initial_bytes": {"geomspace": ["1 MiB", "512 MiB"]},
    "devices.0.stop_copy_bytes": {"geomspace": ["100 kB", "100 MB"]},
    "devices.0.load_time": {"geomspace": ["1 ms", "2 s"]},
}
SMALL = {
    "guest.regions.0.size": {"geomspace": ["8 MiB", "256 MiB"], "multiple": "1 MiB"},
    "devices.0.initial_bytes": {"geomspace": ["1 MiB", "64 MiB"]},
    "devices.0.stop_copy_bytes": {"geomspace": ["100 kB", "10 MB"]},
}
"""Of guests that the bitmap engine computes."""
CHECKED = 16
"""How many it computes."""
JITTER = 0.3
"""Of the host, where the bitmap engine computes."""


def block_first() -> Scenario:
    """The case that the serialized walk was made for in 2009: a disk before RAM that is written all the time.

    Without the rule, RAM would be sent over and over while the disk is copied (commit 90697be889).

    Examples
    --------
    >>> block_first().walk_policy
    'unserialized'
    """
    return Scenario(
        guest=Guest(ram="4 GiB", regions=[Region(size="256 MiB", start="1 GiB", write_rate="1 GB/s")]),
        devices=[Block(size="8 GiB")],
        link=Link(bandwidth="10 Gbit/s"),
        migration=Migration(max_bandwidth=0),
        qemu="9.0",
        time_limit=TIME_LIMIT,
    )


def designed(points: int, fix: Fix) -> Sweep:
    """The designed set: Sobol points over nine fields, with a fix.

    Parameters
    ----------
    points : int
        A power of two.
    fix : Fix

    Returns
    -------
    Sweep

    Examples
    --------
    >>> designed(16, fixes()[0]).sizes
    {'scenario': 16}
    """
    return Sweep(scenario=fix.applied(_base()), design=_design(points, GUEST_AND_LINK | DEVICES))


def _base() -> Scenario:
    return Scenario(
        guest=Guest(ram="4 GiB", regions=[Region(size="64 MiB", start="1 GiB", write_rate="1 GB/s")]),
        devices=[Vfio(initial_bytes="16 MiB", stop_copy_bytes="1 MiB")],
        link=Link(bandwidth="10 Gbit/s"),
        migration=Migration(switchover_ack=True, return_path=True),
        qemu="9.0",
        time_limit=TIME_LIMIT,
    )


def _design(points: int, ranges: dict[str, Any]) -> Design:
    return Design(method="sobol", points=points, ranges=ranges)


def _sets(points: int, fix: Fix) -> dict[str, Sweep]:
    """What is computed for a fix: the designed set, guests without devices, and a few small guests by both engines."""
    scenario = fix.applied(_base())
    alone = scenario.replace({"devices": [], "migration.switchover_ack": False})
    small = scenario.replace({"guest.ram": "512 MiB", "guest.regions.0.start": "64 MiB", "time_limit": "20 s"})
    few = _design(min(points, CHECKED), GUEST_AND_LINK | DEVICES | SMALL)
    return {
        "designed": designed(points, fix),
        "alone": Sweep(scenario=alone, design=_design(max(2, points // 4), GUEST_AND_LINK)),
        "expected": Sweep(scenario=small, design=few),
        "bitmap": Sweep(scenario=small.replace("costs.jitter", JITTER), design=few, engine="bitmap"),
    }


def computed(points: int, fix: Fix, folder: Path | None = None, progress: bool = False) -> dict[str, xr.Dataset]:
    """Compute what :func:`compare` needs of a fix.

    Parameters
    ----------
    points : int
        Scenarios of the designed set, a power of two.
    fix : Fix
    folder : Path, optional
        Where results are kept, by fix and set: what is finished is read again, a policy that was changed is computed.
    progress : bool, default False
        Count the migrations while they are computed.

    Returns
    -------
    dict of str to Dataset
        ``"designed"``; ``"alone"``: guests without devices; ``"expected"`` and ``"bitmap"``: the same few scenarios
        by both engines, the second with jitter of the host.

    Raises
    ------
    ScenarioError
        If `points` is no power of two.
    """
    found = {}
    for name, description in _sets(points, fix).items():
        kept = folder and folder / f"{fix.name.replace(' ', '')}-{name}-{description.sha256[:12]}.zarr"
        whole = _finished(kept) if kept else None
        found[name] = sweep(description, store=kept, progress=progress).load() if whole is None else whole
    return found


def _finished(store: Path) -> xr.Dataset | None:
    """Read a store that is there and whole."""
    try:
        dataset = open_sweep(store)
        return None if dataset.attrs["migrations_missing"] else dataset.load()
    except ScenarioError:  # none, or one that is damaged, which the sweep tells and mends
        return None


def compare(chosen: Sequence[Fix], found: Mapping[str, Mapping[str, xr.Dataset]]) -> pd.DataFrame:
    """The table: each fix over the designed set, against the walk of 9.0, and on the four ways.

    Parameters
    ----------
    chosen : sequence of Fix
        :data:`BASELINE` among them.
    found : mapping
        What :func:`computed` returns, by the name of the fix.

    Returns
    -------
    DataFrame
        By fix. ``completed``: share of the scenarios; ``more``, ``more_low``, ``more_high``: that share less the
        baseline's, with Newcombe's interval for pairs; ``won`` and ``lost``: scenarios that complete with it only, or
        with the baseline only; ``total_time``, ``total_low``, ``total_high``, ``total_worst``: median, 5th and 95th
        percentile and largest ratio of the total time to the baseline's where both complete; ``sent``: median ratio
        of the bytes there; ``above_limit``: share of the completed ones whose downtime is above its limit;
        ``downtime_worst``: the largest downtime over its limit; ``waited_s``: largest time that iterations ended
        before a device, 95th percentile of the completed ones; ``fairness``: Jain's index of the shares of its initial
        data that each device sent in a second, mean over scenarios with several devices; ``alone_more``,
        ``alone_time``, ``alone_worst``: ``more``, ``total_time`` and ``total_worst`` of guests without devices;
        ``block_first``: total time of the case that the rule of 2009 was made for, over the baseline's; ``engines``:
        share of the scenarios that both engines computed in which the outcomes agree; and for each of the four ways
        its total time in seconds, NaN if it does not complete.

    Examples
    --------
    >>> chosen = [fix for fix in fixes() if fix.name in ("serialized", "unserialized")]
    >>> table = compare(chosen, {fix.name: computed(16, fix) for fix in chosen})
    >>> table["won"].tolist()
    [0, 0]
    """
    import pandas as pd

    ways, disk = four_ways(), block_first()
    before = found[BASELINE]
    base = before["designed"]
    block_s = simulate(Fix(BASELINE).applied(disk)).total_time_s
    rows = []
    for fix in chosen:
        whole, alone = found[fix.name]["designed"], found[fix.name]["alone"]
        done = whole["completed"].values
        over = (whole["downtime_s"].values / whole["migration.downtime_limit"].values)[done]
        waited = whole["device_starved_s"].max("device").values[done]
        pairs, lonely = _pairs(whole, base), _pairs(alone, before["alone"])
        rows.append({
            "fix": fix.name,
            "completed": done.mean(),
            **pairs,
            "above_limit": float((over > 1).mean()) if done.any() else np.nan,
            "downtime_worst": float(over.max()) if done.any() else np.nan,
            "waited_s": float(np.quantile(waited, 0.95)) if done.any() else np.nan,
            "fairness": _fairness(whole),
            **{f"alone_{name}": lonely[of] for name, of in _ALONE.items()},
            "block_first": simulate(fix.applied(disk)).total_time_s / block_s,
            "engines": float((found[fix.name]["expected"]["completed"].values
                              == found[fix.name]["bitmap"]["completed"].values).mean()),
            **{name: simulate(fix.applied(way)).total_time_s for name, way in ways.items()},
        })  # fmt: skip
    return pd.DataFrame(rows).set_index("fix")


_ALONE = {"more": "more", "time": "total_time", "worst": "total_worst"}


def _pairs(whole: xr.Dataset, base: xr.Dataset) -> dict[str, float]:
    """Scenario by scenario, with a fix and with the baseline."""
    done, done_before = whole["completed"].values, base["completed"].values
    both = done & done_before
    won, lost = int((done & ~done_before).sum()), int((~done & done_before).sum())
    low, high = paired_interval(int(both.sum()), lost, won, int((~done & ~done_before).sum()))
    if not both.any():
        total = sent = np.array([np.nan])
    else:
        total = whole["total_time_s"].values[both] / base["total_time_s"].values[both]
        sent = whole["bytes_sent"].values[both] / base["bytes_sent"].values[both]
    total_low, total_time, total_high = np.quantile(total, [0.05, 0.5, 0.95])
    return {
        "more": (won - lost) / len(done), "more_low": float(low), "more_high": float(high),
        "won": won, "lost": lost,
        "total_time": float(total_time), "total_low": float(total_low), "total_high": float(total_high),
        "total_worst": float(total.max()), "sent": float(np.median(sent)),
    }  # fmt: skip


def _fairness(whole: xr.Dataset) -> float:
    """Jain's index of the shares of its initial data that each device sent in a second, mean over the scenarios.

    (sum x)^2 / (n sum x^2): R. Jain, D. Chiu, W. Hawe, DEC-TR-301, 1984. Scenarios in which none
    sent are left out.
    """
    there = whole["device_present"].transpose(..., "device").values[..., 1:]
    sent_s = whole["device_initial_sent_s"].transpose(..., "device").values[..., 1:]
    left = whole["device_initial_left_bytes"].transpose(..., "device").values[..., 1:]
    initial = whole["devices.0.initial_bytes"].values[:, None]
    until = np.where(np.isnan(sent_s), whole["verdict_time_s"].values[:, None], sent_s)
    rate = np.where(there, (1 - left / initial) / until, 0)
    count, squares = there.sum(axis=1), (rate**2).sum(axis=1)
    counted = (count > 1) & (squares > 0)
    return float((rate.sum(axis=1)[counted] ** 2 / (count[counted] * squares[counted])).mean())


def run(
    points: int = POINTS, own: Sequence[Policy] = (), folder: Path | None = None, progress: bool = False
) -> pd.DataFrame:
    """Compute :func:`compare` for all :func:`fixes`; with a folder, what is finished is kept.

    Raises
    ------
    ScenarioError
        If `points` is no power of two.
    """
    chosen = fixes(own)
    if folder is None:
        return _compared(points, chosen, None, progress)
    made_from = [description.sha256 for fix in chosen for description in _sets(points, fix).values()]
    return kept_table(folder, f"lab-{points}", made_from, lambda: _compared(points, chosen, folder, progress))


def _compared(points: int, chosen: Sequence[Fix], folder: Path | None, progress: bool) -> pd.DataFrame:
    found = {}
    with progress_bar(progress, f"lab, {len(chosen)} fixes", len(chosen) * _migrations(points)) as advance:
        for fix in chosen:
            found[fix.name] = computed(points, fix, folder)
            advance(_migrations(points))
    return compare(chosen, found)


def _migrations(points: int) -> int:
    """Migrations that are computed for each fix."""
    return sum(description.design.points for description in _sets(points, Fix(BASELINE)).values() if description.design)


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
    if not Path(path).is_file():
        raise ScenarioError(
            "does not exist: give FILE.py:NAME, a file of Python and a function in it", "--policy", path
        )
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
    """The table as Markdown in two parts, what it decides and what it costs, with how to read it.

    Parameters
    ----------
    table : DataFrame
        Of :func:`compare`.
    points : int
        Scenarios behind it.
    """
    ways = list(WAYS)
    shown = printed(table).astype({"won": object, "lost": object})
    shown.loc[shown.index == BASELINE, ["more", "won", "lost"]] = "-"  # it is what the others are compared with
    removes = [str(name) for name, row in table.iterrows() if not row[ways].isna().any()]
    best = f"All four ways end with: {', '.join(removes)}." if removes else "No fix ends all four ways."
    parts = [
        shown[list(names)].rename(columns=names).to_markdown(disable_numparse=True) for names in (_DECIDES, _COSTS)
    ]
    return "\n\n".join([
        best,
        parts[0],
        "`more`: migrations that complete, less those of 9.0, with a 95 % interval; `won` and `lost`: scenarios that "
        "complete with the fix only, or without it only. The last four columns are the four ways never to end, total "
        "time in seconds.",
        parts[1],
        "`total`: total time over that of 9.0 where both complete: median, 5 to 95 %, and the largest; `sent`: median "
        "of the bytes, the same; `over`: completed migrations whose downtime is above its limit, and the largest over "
        "its limit; `waited`: longest time that iterations ended before a device, 95th percentile; `fair`: Jain's "
        "index of how fast devices sent their initial data; `alone`: guests without devices: more that complete, total "
        "time (median, largest); `2009`: total time with a disk before RAM; `engines`: scenarios in which the bitmap "
        f"engine, on a host with a jitter of {JITTER}, has the same outcome.",
        f"{points} scenarios, Sobol points over dirty rate, hot set, link, max-bandwidth, downtime-limit, devices, "
        "initial data, stop-copy and load time, with switchover-ack, rules of QEMU 9.0 but for the fix, expected "
        f"engine, {TIME_LIMIT} to complete in; {max(2, points // 4)} without devices, {min(points, CHECKED)} small "
        "ones by both engines.\n",
    ])  # fmt: skip


_TOTALS = ["total_time", "total_low", "total_high", "total_worst"]
_DECIDES = {"completed": "complete", "more": "more", "won": "won", "lost": "lost"} | {way: way for way in WAYS}
_COSTS = {
    "total": "total", "sent": "sent", "over": "over", "waited_s": "waited (s)", "fairness": "fair", "alone": "alone",
    "block_first": "2009", "engines": "engines",
}  # fmt: skip


def printed(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of the table as they are printed."""
    shown = table.copy()
    shown["completed"] = [f"{value:.1%}" for value in table["completed"]]
    shown["more"] = [f"{a:+.1%} ({b:+.1%} to {c:+.1%})" for a, b, c in
                     table[["more", "more_low", "more_high"]].itertuples(index=False)]  # fmt: skip
    shown["total"] = [f"{a:.3f}, {b:.2f} to {c:.2f}, {d:.2f}"
                      for a, b, c, d in table[_TOTALS].itertuples(index=False)]  # fmt: skip
    shown["over"] = [f"{a:.1%}, {b:.1f}" for a, b in table[["above_limit", "downtime_worst"]].itertuples(index=False)]
    shown["alone"] = [f"{a:+.1%}, {b:.3f}, {c:.2f}" for a, b, c in
                      table[["alone_more", "alone_time", "alone_worst"]].itertuples(index=False)]  # fmt: skip
    shown["engines"] = [f"{value:.0%}" for value in table["engines"]]
    for name, digits in {"sent": 3, "waited_s": 2, "fairness": 3, "block_first": 3}.items():
        shown[name] = [f"{value:.{digits}f}" for value in table[name]]
    for name in WAYS:
        shown[name] = ["never" if value != value else f"{value:.1f}" for value in table[name]]
    return shown
