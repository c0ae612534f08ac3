"""Which settings make a migration converge within a downtime and a completion time, and what each of them costs."""

from __future__ import annotations

import functools
import html
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from migkit.analysis.intervals import wilson
from migkit.analysis.layers import Commands, commands
from migkit.analysis.pareto import undominated
from migkit.results import DOWNTIME_PARTS, Outcome, bytes_text, seconds_text, values
from migkit.run.limits import LIMIT, effort, within
from migkit.run.progress import announce_compilation
from migkit.run.simulate import check_whole_number, numba_threads, simulate
from migkit.scenario.errors import ScenarioError
from migkit.scenario.parts import Migration
from migkit.scenario.policy import own_functions
from migkit.scenario.rows import records
from migkit.scenario.scenario import Scenario, as_scenario
from migkit.scenario.shown import html_table
from migkit.scenario.units import Rate, Seconds, parse_time
from migkit.scenario.versions import MAX_DOWNTIME_LIMIT_S, PROFILES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["COSTS", "SETTINGS", "Advice", "Margin", "advise"]

SETTINGS = (
    "max_bandwidth",
    "downtime_limit",
    "avail_switchover_bandwidth",
    "auto_converge",
    "cpu_throttle_initial",
    "cpu_throttle_increment",
    "switchover_ack",
    "dirty_limit",
    "vcpu_dirty_limit",
)
"""Fields of the migration that are varied."""
COSTS = ("total_time_s", "downtime_s", "bytes_sent", "throttle_percent", "changed")
"""What a setting costs: none of the Pareto set is as good as another in all of these and worse in one."""
WANTED = 0.95
"""Share of the drawn worlds in which the demands must hold before a setting is called safe."""
_SHARES_OF_LINK = 0.25, 0.5, 0.75
_SHARES_OF_DOWNTIME = 1.0, 0.97, 0.9, 0.8, 0.65, 0.5, 0.3
_BEYOND, _LATER = (1.5, 2.0, 4.0, 8.0), 4.0
_SHARES_AVAILABLE = 1.0, 0.8
_THROTTLES = (20, 10), (50, 20), (80, 10)
_SHARES_FOR_WRITERS = 0.8, 0.5, 0.25
_TRIED_OF_A_KIND, _MOST_TRIED = 3, 24
_FACTORS = np.geomspace(1.0, 4.0, 29)
_MIB = 1 << 20
_SLOWEST_LINK, _FASTEST = 1e3, 1e12
_LONGEST_S = 168 * 3600.0
_ROWS_SHOWN = 6


class Margin(NamedTuple):
    """In how many drawn worlds the demands still hold, and how far the guest and the link may go one by one.

    Parameters
    ----------
    held, worlds : int
        Worlds in which they hold, and worlds that were drawn.
    low, high : float
        Wilson's interval of the share, 95 %.
    write_factor : float
        By how much more the guest may write until they no longer hold, all else as it is; 4 is the most that is tried.
    link_factor : float
        By how much slower the link may be, likewise; from 1/4.
    """

    held: int
    worlds: int
    low: float
    high: float
    write_factor: float
    link_factor: float

    @property
    def share(self) -> float:
        """Share of the worlds in which the demands hold."""
        return self.held / self.worlds

    @property
    def sentence(self) -> str:
        """All of it in one sentence."""
        writes = "4 times as much or more" if self.write_factor >= 4 else f"{self.write_factor:.2f} times as much"
        link = "a quarter of the link or less" if self.link_factor <= 0.25 else f"{self.link_factor:.2f} of the link"
        return (
            f"The demands hold in {self.held} of {self.worlds} drawn worlds (95 %: {100 * self.low:.0f} to "
            f"{100 * self.high:.0f} %), for a guest that writes up to {writes}, and down to {link}."
        )


@dataclass(frozen=True, eq=False, repr=False)
class Advice:
    """What to set, and what else could be set.

    Attributes
    ----------
    scenario : Scenario
        The migration as it was given.
    downtime_s, completion_s : float
        What is demanded.
    table : DataFrame
        One row for each setting that was tried, the Pareto set first: the fields of :data:`SETTINGS` in SI units,
        ``outcome`` (within `completion_s`), ``meets`` (the demands), ``pareto``, ``recommended``, the costs of
        :data:`COSTS` (``throttle_percent``: the largest share of time that auto-converge takes from the vCPUs, or that
        a vCPU sleeps at the end under dirty-limit;
        ``changed``: settings that differ from those given),
        and ``share``, ``share_low``, ``share_high`` of the worlds in which it holds, where that was tried.
    recommended : Scenario or None
        The migration with the settings to take; None if none that was tried meets the demands.
    nearest : Scenario
        What comes nearest to the demands, in up to four times the time; the recommended one if there is one.
    margin : Margin or None
        How sure the recommended one is.
    sentence : str
        What to set and what comes of it, or why nothing helps.
    assumed : tuple of str
        What the answer rests on and was not given, a sentence each.
    """

    scenario: Scenario
    downtime_s: float
    completion_s: float
    table: pd.DataFrame
    recommended: Scenario | None
    nearest: Scenario
    margin: Margin | None
    sentence: str
    assumed: tuple[str, ...]
    _limit: str = field(default=LIMIT)

    @property
    def changed(self) -> dict[str, Any]:
        """The settings to change, by QEMU's names; empty if none needs to be, or none helps."""
        return {} if self.recommended is None else _changed(self.scenario, self.recommended)

    @property
    def pareto(self) -> pd.DataFrame:
        """The first rows of the table: what no other setting beats."""
        return self.table[self.table["pareto"]]

    @property
    def demanded(self) -> str:
        """The demands in a sentence, and which of them are the scenario's own limits."""
        own_time = " (the scenario's time_limit)" if self.completion_s == self.scenario.time_limit else ""
        own_limit = " (its downtime-limit)" if self.downtime_s == self.scenario.migration.downtime_limit else ""
        return (
            f"Demanded: a migration within {Seconds(self.completion_s)}{own_time} with a downtime of at most "
            f"{Seconds(self.downtime_s)}{own_limit}."
        )

    def commands(self, dialect: str = "qemu") -> Commands:
        """The recommended settings in the words of a layer, ready to paste.

        Parameters
        ----------
        dialect : {"qemu", "libvirt", "kubevirt", "nova", "ovirt", "proxmox"}

        Returns
        -------
        Commands
            Text and what that layer cannot set; the last sentence says what becomes of the migration as it runs it.

        Raises
        ------
        ScenarioError
            If `dialect` is none, or nothing is recommended.
        """
        if self.recommended is None:
            raise ScenarioError("has nothing to set: no setting that was tried meets the demands", "commands()")
        found = commands(self.recommended, dialect, self.completion_s)
        run = simulate(found.as_run, limit=self._limit)
        met = run.converged and run.total_time_s <= self.completion_s and run.downtime_s <= self.downtime_s
        text = f"So it meets the demands: {run.sentence}" if met else f"So it does not meet the demands: {run.sentence}"
        return found._replace(cannot=(*found.cannot, text))

    def plot(self) -> Figure:
        """Draw what the settings cost that meet the demands (:func:`migkit.figures.advice.advice_figure`)."""
        import importlib

        figure: Figure = importlib.import_module("migkit.figures.advice").advice_figure(self)  # a room above this one
        return figure

    def summary(self) -> str:
        """The answer as plain text, the sentence first."""
        lines = [self.sentence, self.demanded]
        if self.margin is not None:
            lines.append(self.margin.sentence)
        head, *rows = self._shown()
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines += ["", *("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
                        for row in (head, *rows))]  # fmt: skip
        if len(self.pareto) > len(rows):
            lines.append(f"... and {len(self.pareto) - len(rows)} more, which migkit advise --json prints and "
                         "migkit.advise(...).pareto has")  # fmt: skip
        return "\n".join([*lines, "", "Assumed:", *(f"  {each}" for each in self.assumed)])

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain Python values; ``migkit advise --json`` prints it."""
        pareto = json.loads(self.pareto.to_json(orient="records", double_precision=15))
        changed = {name: value if isinstance(value, bool | int) else float(value) for name, value in
                   self.changed.items()}  # fmt: skip
        return {
            "sentence": self.sentence,
            "downtime_s": self.downtime_s,
            "completion_s": self.completion_s,
            "recommended": None if self.recommended is None else changed,
            "margin": None if self.margin is None else {**self.margin._asdict(), "share": self.margin.share},
            "pareto": pareto,
            "tried": len(self.table),
            "assumed": list(self.assumed),
        }

    def _shown(self) -> list[tuple[str, ...]]:
        """The recommended row and the next ones of the Pareto set as text, with a head."""
        rows: list[tuple[str, ...]] = [("setting", "total time", "downtime", "sent", "throttle", "holds")]
        first = self.pareto.sort_values(["recommended", "share"], ascending=False, kind="stable", na_position="last")
        for _, row in first.head(_ROWS_SHOWN).iterrows():
            told = _told(self.scenario, self.scenario.replace_all(_values(_setting_of(row))), ", ")
            holds = "" if math.isnan(row["share"]) else f"{100 * row['share']:.0f} %"
            rows.append((told or "as given", seconds_text(row["total_time_s"]),
                         seconds_text(row["downtime_s"]), bytes_text(row["bytes_sent"]),
                         f"{row['throttle_percent']:.0f} %", holds))  # fmt: skip
        return rows

    def __repr__(self) -> str:
        return f"<Advice: {self.sentence}>"

    def _repr_html_(self) -> str:
        """The sentence, the demands, the margin and the first rows of the Pareto set."""
        head, *rows = self._shown()
        margin = f"<br>{html.escape(self.demanded)}"
        margin += "" if self.margin is None else f"<br>{html.escape(self.margin.sentence)}"
        table = html_table(head, rows, "settings")
        return f"<div><p><strong>{html.escape(self.sentence)}</strong>{margin}</p>{table}</div>"


def advise(
    scenario: Scenario,
    downtime: Any = None,
    completion: Any = None,
    *,
    dirty_rate_spread: float = 0.2,
    link_spread: float = 0.2,
    worlds: int = 100,
    seed: int = 0,
    limit: str = LIMIT,
) -> Advice:
    """Say which settings make a migration converge within a downtime and a completion time.

    Some hundred settings are simulated with the expected engine: max-bandwidth (as given, none, parts of the link),
    downtime-limit (as given, parts of the demanded downtime), avail-switchover-bandwidth, auto-converge with several
    throttles, dirty-limit with several quotas where the guest has a dirty ring and the version the capability; and
    without switchover-ack where nothing else helps. Those that meet the demands and that no other beats
    are tried again in drawn worlds, in which the guest writes and the link carries more or less than was given.
    Recommended is what holds in :data:`WANTED` of the worlds, and of those what slows the guest least, then what
    changes least, then what is soonest done; where none holds in so many, what holds in most.

    Parameters
    ----------
    scenario : Scenario
        The migration.
    downtime : time, optional
        Most that the guest may stand still, 1 ms to 2000 s; by default the scenario's downtime-limit.
    completion : time, optional
        Most that the migration may take, 1 s to 168 h; by default the scenario's time_limit.
    dirty_rate_spread, link_spread : float, default 0.2
        How far the rates of the guest's writes, and those of the link, may be from what was given, 0 to 0.9: one factor
        for each is drawn uniformly from ``1 - spread`` to ``1 + spread``.
    worlds : int, default 100
        Worlds that are drawn, 10 to 10,000; each is a replicate of its own where phases or jitter are drawn.
    seed : int, default 0
        Of all draws.
    limit : duration, default "20 s"
        Computing that one migration may take.

    Returns
    -------
    Advice

    Raises
    ------
    ScenarioError
        If an argument is refused, or the scenario starts post-copy.

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario
    >>> busy = Guest(ram="8 GiB", regions=[Region(size="1 GiB", write_rate="400 MB/s")])
    >>> found = advise(Scenario(guest=busy, link=Link(bandwidth="10 Gbit/s")), "400 ms", "1 min")
    >>> found.changed
    {'max-bandwidth': 0 B/s}
    """
    scenario = as_scenario(scenario)
    _refuse_postcopy(scenario)
    downtime_s = _demand("downtime", downtime, float(scenario.migration.downtime_limit), 1e-3, MAX_DOWNTIME_LIMIT_S)
    completion_s = _demand("completion", completion, float(scenario.time_limit), 1.0, _LONGEST_S)
    spreads = _share("dirty_rate_spread", dirty_rate_spread), _share("link_spread", link_spread)
    worlds = check_whole_number("worlds", worlds, least=10)
    if worlds > 10_000:
        raise ScenarioError("must be from 10 to 10000", "worlds", worlds)
    seed = check_whole_number("seed", seed)
    numba_threads()
    announce_compilation()
    longest = Seconds(max(float(scenario.time_limit), completion_s))
    told = scenario.replace("time_limit", longest)
    # what has not completed in time need not be simulated any longer
    in_time = scenario.replace("time_limit", Seconds(completion_s))
    trial = _Trial(in_time, downtime_s, completion_s, spreads, worlds, seed, effort(limit))
    table = trial.table(list(_candidates(trial.scenario, downtime_s)))
    if not table["meets"].any() and scenario.migration.switchover_ack:
        table = trial.table(list(_candidates(trial.scenario, downtime_s, without_ack=True)))
    if not table["meets"].any():
        later = Seconds(min(float(longest), _LATER * completion_s))
        trial = replace(trial, scenario=scenario.replace("time_limit", later))
        table = trial.table(list(_candidates(trial.scenario, downtime_s, True, beyond=_BEYOND)))
        nearest = trial.of(_setting_of(table.loc[_nearest(table, trial)]))
        sentence = _nothing(trial, table, nearest, limit)
        return Advice(scenario, downtime_s, completion_s, _ordered(table), None, nearest, None, sentence,
                      _assumptions(trial), limit)  # fmt: skip
    best = _tried(trial, table)
    recommended = told.replace_all(_values(_setting_of(table.loc[best])))
    share_low, share_high = (float(table.loc[best, name]) for name in ("share_low", "share_high"))
    margin = Margin(round(float(table.loc[best, "share"]) * worlds), worlds, share_low, share_high,
                    *trial.factors(recommended))  # fmt: skip
    sentence = _sentence(trial, table.loc[best], recommended, margin)
    return Advice(scenario, downtime_s, completion_s, _ordered(table, best), recommended, recommended, margin, sentence,
                  _assumptions(trial), limit)  # fmt: skip


def _refuse_postcopy(scenario: Scenario) -> None:
    """A guest that runs before its RAM is there is slowed by faults, which are not among the costs."""
    starts = {
        "migration.postcopy_at": scenario.migration.postcopy_at is not None,
        "changes": any(change.command == "migrate-start-postcopy" for change in scenario.changes),
        "management": getattr(scenario.management, "starts_postcopy", False),
    }
    for name, does in starts.items():
        if does:
            raise ScenarioError("starts post-copy, for which there is no advice: leave it out", name)


def _demand(name: str, given: Any, otherwise: float, least: float, most: float) -> float:
    try:
        seconds = otherwise if given is None else parse_time(given)
    except ScenarioError as error:
        raise ScenarioError(error.problem, name, *error.given) from None
    if not least <= seconds <= most:
        raise ScenarioError(f"is outside the allowed range {Seconds(least)} to {Seconds(most)}", name,
                            str(Seconds(seconds)))  # fmt: skip
    return seconds


def _share(name: str, given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float | np.number) or not 0 <= given <= 0.9:
        raise ScenarioError("must be a number from 0 to 0.9", name, given)
    return float(given)


# ---------------------------------------------------------------- what is tried

_Setting = tuple[float, float, float, bool, int, int, bool, bool, int]
"""The values of SETTINGS."""


def _given(scenario: Scenario) -> _Setting:
    m = scenario.migration
    return (float(m.max_bandwidth), float(m.downtime_limit), float(m.avail_switchover_bandwidth), m.auto_converge,
            m.cpu_throttle_initial, m.cpu_throttle_increment, m.switchover_ack, m.dirty_limit,
            m.vcpu_dirty_limit)  # fmt: skip


def _whole(rate: float) -> float:
    """A rate in whole MiB/s, which every layer can say, where that changes it little."""
    return float(rate // _MIB * _MIB) if rate >= 16 * _MIB else float(math.floor(rate))


def _candidates(
    scenario: Scenario, downtime_s: float, without_ack: bool = False, beyond: Sequence[float] = ()
) -> Iterator[_Setting]:
    """The settings to try, each once, that which was given first."""
    given = _given(scenario)
    limits = scenario.wire_limits()
    wire = min(limits["link"], limits["stream"])
    bandwidths = [given[0], 0.0, *(_whole(share * wire) for share in _SHARES_OF_LINK)]
    shares = [*_SHARES_OF_DOWNTIME, *beyond]
    downtimes = [given[1], *(max(1, math.floor(share * downtime_s * 1e3 + 1e-6)) / 1e3 for share in shares)]
    available = [given[2]]
    if PROFILES[scenario.qemu].supports_avail_switchover_bandwidth:
        reached = min(wire, limits["thread"])
        available += [0.0, *(_whole(share * reached) for share in _SHARES_AVAILABLE)]
    off, unlimited = (False, *given[4:6]), (False, given[8])
    throttles = [
        (given[3:6], given[7:]),
        (off, unlimited),
        *(((True, *pair), unlimited) for pair in _THROTTLES if pair[0] <= scenario.migration.max_cpu_throttle),
        *((off, (True, quota)) for quota in _quotas(scenario, wire)),
    ]
    acks = [given[6], False] if without_ack else [given[6]]
    seen = set()
    for ack, (throttle, quota), avail, most, limit in itertools.product(
        acks, throttles, available, bandwidths, downtimes
    ):
        one = (most, min(limit, float(MAX_DOWNTIME_LIMIT_S)), avail, *throttle, ack, *quota)
        if one not in seen and (most == 0 or most >= 1000) and (avail == 0 or avail >= 1000):
            seen.add(one)
            yield one


def _may_limit(scenario: Scenario) -> bool:
    """Whether dirty-limit can be switched on: the version has it, and the guest a dirty ring."""
    return scenario.guest.dirty_ring_size > 0 and PROFILES[scenario.qemu].supports_dirty_limit


def _quotas(scenario: Scenario, wire: float) -> tuple[int, ...]:
    """Quotas of a vCPU to try, MB/s: QEMU's own, and parts of what is carried, divided among the vCPUs that write."""
    if not _may_limit(scenario):
        return ()
    writers = max(1, sum(region.highest_rate > 0 for region in scenario.guest.regions))
    shares = (int(share * wire / writers) // _MIB for share in _SHARES_FOR_WRITERS)
    return tuple(
        dict.fromkeys([Migration.model_fields["vcpu_dirty_limit"].default, *(max(1, each) for each in shares)])
    )


def _values(setting: _Setting) -> dict[str, Any]:
    """A setting as values by path."""
    kinds = (Rate, Seconds, Rate, bool, int, int, bool, bool, int)
    return {f"migration.{name}": kind(value) for name, kind, value in zip(SETTINGS, kinds, setting, strict=True)}


def _setting_of(row: pd.Series) -> _Setting:
    return tuple(row[name] for name in SETTINGS)


def _changed(before: Scenario, after: Scenario) -> dict[str, Any]:
    """The settings that differ, by QEMU's names; the throttle and the quota only where their capability is on."""
    found = {}
    for name in SETTINGS:
        value = getattr(after.migration, name)
        idle = name.startswith("cpu_throttle") and not after.migration.auto_converge
        idle = idle or (name == "vcpu_dirty_limit" and not after.migration.dirty_limit)
        if not idle and value != getattr(before.migration, name):
            found[name.replace("_", "-")] = value
    return found


def _told(before: Scenario, after: Scenario, last: str = " and ") -> str:
    """What differs, in words; the throttle as one, "" if nothing does."""
    words, limited = [], False
    for name, value in _changed(before, after).items():
        if isinstance(value, Rate):
            none = "0 (no limit)" if name == "max-bandwidth" else "0"
            words.append(f"{name} = {float(value) / _MIB:g} MiB/s" if value > 0 else f"{name} = {none}")
        elif isinstance(value, Seconds):
            words.append(f"{name} = {value}")
        elif name == "switchover-ack" or (name == "dirty-limit" and not value):
            words.append(f"{name} = {'on' if value else 'off'}")
        elif name in ("dirty-limit", "vcpu-dirty-limit"):
            limited = True
        elif after.migration.auto_converge:
            continue
        else:
            words.append("auto-converge = off")
    if any(name.startswith(("auto", "cpu")) for name in _changed(before, after)) and after.migration.auto_converge:
        initial, more = after.migration.cpu_throttle_initial, after.migration.cpu_throttle_increment
        words.append(f"auto-converge = on ({initial} %, then {more} % more)")
    if limited:
        words.append(f"dirty-limit = on (vcpu-dirty-limit = {after.migration.vcpu_dirty_limit} MB/s)")
    return last.join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


# ---------------------------------------------------------------- how it is tried


@dataclass(frozen=True, eq=False)
class _Trial:
    """How settings are tried."""

    scenario: Scenario
    downtime_s: float
    completion_s: float
    spreads: tuple[float, float]
    worlds: int
    seed: int
    effort: int

    def of(self, setting: _Setting) -> Scenario:
        return self.scenario.replace_all(_values(setting))

    def run(self, scenarios: Sequence[Scenario], replicates: Any = 0) -> dict[str, np.ndarray]:
        """The result variables of migrations."""
        from migkit.kernels.drivers import run

        with within(self.effort):
            reports = run(records(scenarios), "expected", self.seed, replicates, own=own_functions(self.scenario),
                          limit=self.effort)  # fmt: skip
        return values(reports)

    def meets(self, found: dict[str, np.ndarray]) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (found["completed"] & (found["downtime_s"] <= self.downtime_s)
                    & (found["total_time_s"] <= self.completion_s))  # fmt: skip

    def table(self, settings: list[_Setting]) -> pd.DataFrame:
        """What becomes of each setting."""
        import pandas as pd

        scenarios = [self.of(setting) for setting in settings]
        found = self.run(scenarios)
        table = pd.DataFrame(settings, columns=list(SETTINGS))
        table["outcome"] = [Outcome(code).label for code in found["outcome"]]
        table["meets"] = self.meets(found)
        table["pareto"] = False
        for name in COSTS[:-1]:
            table[name] = found[name]
        table["throttle_percent"] = np.maximum(found["throttle_percent"], _slept_percent(scenarios, found))
        table["changed"] = [len(_changed(self.scenario, scenario)) for scenario in scenarios]
        table[["share", "share_low", "share_high"]] = math.nan
        table["short_of"] = found["pending_bytes"] / np.maximum(found["threshold_bytes"], 1)
        among = table["meets"] if table["meets"].any() else table["outcome"] == Outcome.COMPLETED.label
        rows = np.flatnonzero(among.to_numpy())
        table.loc[rows[undominated(table.loc[rows, list(COSTS)].to_numpy(float))], "pareto"] = True
        return table

    def world(self, writes: float, link: float) -> dict[str, Any]:
        """What differs from the scenario in a world, as values by path."""
        changes: dict[str, Any] = {}
        for index, region in enumerate(self.scenario.guest.regions):
            for name in ("rates", "curve"):
                if steps := getattr(region, name):
                    changes[f"guest.regions.{index}.{name}"] = [
                        (t, Rate(min(writes * float(rate), _FASTEST))) for t, rate in steps
                    ]
            changes[f"guest.regions.{index}.write_rate"] = Rate(min(writes * float(region.write_rate), _FASTEST))
        for name in ("bandwidth", "stream_bandwidth", "fresh_bandwidth"):
            changes[f"link.{name}"] = _link(link * float(getattr(self.scenario.link, name)))
        for index, change in enumerate(self.scenario.changes):
            if change.link_bandwidth is not None:
                changes[f"changes.{index}.link_bandwidth"] = _link(link * float(change.link_bandwidth))
        return changes

    @functools.cached_property
    def drawn(self) -> list[Scenario]:
        """The worlds: a factor of the writes and one of the link each."""
        spread = np.array(self.spreads)
        factors = np.random.default_rng(self.seed).uniform(1.0 - spread, 1.0 + spread, (self.worlds, 2))
        return [self.scenario.replace_all(self.world(float(writes), float(link))) for writes, link in factors]

    @functools.cached_property
    def one_by_one(self) -> tuple[list[Scenario], list[Scenario]]:
        """Guests that write more and more, and links that carry less and less."""
        return (
            [self.scenario.replace_all(self.world(float(factor), 1.0)) for factor in _FACTORS],
            [self.scenario.replace_all(self.world(1.0, float(1 / factor))) for factor in _FACTORS],
        )

    def met(self, worlds: list[Scenario], scenario: Scenario, replicates: Any = 0) -> np.ndarray:
        """In which worlds a scenario's settings meet the demands; no world changes a setting, and none is checked."""
        changed = [world.model_copy(update={"migration": scenario.migration}) for world in worlds]
        return self.meets(self.run(changed, replicates))

    def held(self, scenario: Scenario) -> int:
        """In how many drawn worlds the demands hold."""
        return int(np.count_nonzero(self.met(self.drawn, scenario, np.arange(self.worlds))))

    def factors(self, scenario: Scenario) -> tuple[float, float]:
        """How much more may be written, and how much slower the link may be, until the demands no longer hold."""
        last = []
        for worlds in self.one_by_one:
            held = self.met(worlds, scenario)
            last.append(len(held) - 1 if held.all() else max(0, int(np.argmin(held)) - 1))
        return float(_FACTORS[last[0]]), float(1 / _FACTORS[last[1]])


def _slept_percent(scenarios: Sequence[Scenario], found: dict[str, np.ndarray]) -> np.ndarray:
    """Share of its time that a vCPU sleeps under dirty-limit at the end, whole percent; of that which sleeps most."""
    rows: Any = records(scenarios)
    ring = rows.cases.dirty_ring_pages[:, None].astype(float)
    pages, rate = rows.regions.pages.astype(float), rows.regions.writes_per_s
    fills = (pages > ring) & (rate > 0) & (ring > 0)
    # docs/model.md, section 14: the time in which a writer fills its ring
    entries = np.where(
        rows.regions.sequential == 1, ring, -np.log1p(-np.where(fills, ring / np.maximum(pages, 1), 0.0)) * pages
    )
    soonest_s = np.min(np.where(fills, entries / np.where(fills, rate, 1.0), np.inf), axis=1, initial=np.inf)
    slept_s = np.nan_to_num(found["dirty_limit_throttle_s"])
    return np.where(slept_s > 0, np.minimum(np.ceil(100.0 * slept_s / (slept_s + soonest_s)), 99.0), 0.0)


def _link(rate: float) -> Rate:
    """A rate of a link, within what a scenario allows; 0 stays 0."""
    return Rate(min(max(rate, _SLOWEST_LINK), _FASTEST) if rate > 0 else 0.0)


def _preference(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(["throttle_percent", "changed", "total_time_s", "downtime_s"], kind="stable")


def _tried(trial: _Trial, table: pd.DataFrame) -> int:
    """Try rows of the Pareto set in drawn worlds, from the least throttle on, until one is safe; the row to recommend.

    Of each throttle those that change least, and those that are furthest from the demands.
    """
    pareto = _preference(table[table["pareto"]])
    slack = _ratios(pareto, trial).max(axis=1).sort_values(kind="stable")
    tried: list[int] = []
    for _, level in pareto.groupby("throttle_percent", sort=True):
        furthest = slack.index[slack.index.isin(level.index)]
        chosen = [
            int(place) for place in dict.fromkeys([*level.index[:_TRIED_OF_A_KIND], *furthest[:_TRIED_OF_A_KIND]])
        ]
        for place in chosen:
            held = trial.held(trial.of(_setting_of(table.loc[place])))
            low, high = wilson(held, trial.worlds)
            table.loc[place, ["share", "share_low", "share_high"]] = held / trial.worlds, float(low), float(high)
        tried += chosen
        if (table.loc[tried, "share"] >= WANTED).any() or len(tried) >= _MOST_TRIED:
            break
    found = table.loc[tried]
    safe = found[found["share"] >= WANTED]
    return int(_preference(safe if len(safe) else found[found["share"] == found["share"].max()]).index[0])


def _ordered(table: pd.DataFrame, best: int | None = None) -> pd.DataFrame:
    """The Pareto set first, and in it what is soonest done; then what meets the demands, then the rest."""
    order = ["pareto", "meets", "total_time_s", "downtime_s"]
    table["recommended"] = table.index == best
    found = table.sort_values(order, ascending=[False, False, True, True], kind="stable", na_position="last")
    return found.drop(columns="short_of").reset_index(drop=True)


# ---------------------------------------------------------------- what is said


def _demands(trial: _Trial) -> str:
    return f"within {Seconds(trial.completion_s)} with a downtime of at most {Seconds(trial.downtime_s)}"


def _ends(row: pd.Series) -> str:
    return f"in {seconds_text(row['total_time_s'])} with a downtime of {seconds_text(row['downtime_s'])}"


def _sentence(trial: _Trial, row: pd.Series, recommended: Scenario, margin: Margin) -> str:
    told = _told(trial.scenario, recommended)
    slowed = f", the vCPUs slowed by up to {row['throttle_percent']:.0f} %" if row["throttle_percent"] > 0 else ""
    sure = "" if margin.share >= WANTED else (
        f", but in no more than {margin.held} of {margin.worlds} drawn worlds, the most that any setting reaches"
    )  # fmt: skip
    if not told:
        return f"Nothing needs to be set: it completes {_ends(row)}{slowed}{sure}."
    return f"Set {told}: it completes {_ends(row)}{slowed}{sure}."


def _ratios(table: pd.DataFrame, trial: _Trial) -> pd.DataFrame:
    """Downtime and total time, as parts of what is demanded."""
    return table[["downtime_s", "total_time_s"]] / [trial.downtime_s, trial.completion_s]


def _nearest(table: pd.DataFrame, trial: _Trial) -> int:
    """The row that exceeds the demands least; where none completes, what is least above its threshold."""
    done = table["outcome"] == Outcome.COMPLETED.label
    if not done.any():
        return int(_preference(table[table["short_of"] == table["short_of"].min()]).index[0])
    beyond = _ratios(table[done], trial).clip(lower=1.0).prod(axis=1)
    return int(_preference(table.loc[beyond.index[beyond <= beyond.min() * 1.001]]).index[0])


def _nothing(trial: _Trial, table: pd.DataFrame, nearest: Scenario, limit: str) -> str:
    """Why no setting helps, and what comes nearest."""
    near = simulate(nearest, seed=trial.seed, limit=limit)
    told = _told(trial.scenario, nearest) or "what was given"
    done = table[table["outcome"] == Outcome.COMPLETED.label]
    text = f"No setting that was tried completes {_demands(trial)}"
    if done.empty:
        return f"{text}: {near.sentence.rstrip('.')}; that is with {told}, which comes nearest."
    nearest_text = (
        f"nearest comes {told}, with which it completes in {seconds_text(near.total_time_s)} with a downtime of "
        f"{seconds_text(near.downtime_s)}"
    )
    if done["total_time_s"].min() > trial.completion_s:
        least = done["total_time_s"].idxmin()
        limits = trial.of(_setting_of(done.loc[least])).wire_limits()
        binds = min(limits, key=lambda name: limits[name])
        takes, sent = seconds_text(done.loc[least, "total_time_s"]), bytes_text(done.loc[least, "bytes_sent"])
        rate = bytes_text(limits[binds])
        why = f"the fastest takes {takes}, since it sends {sent} and {_BINDS[binds]} carries {rate}/s"
    elif done["downtime_s"].min() > trial.downtime_s:
        least = simulate(trial.of(_setting_of(done.loc[done["downtime_s"].idxmin()])), seed=trial.seed, limit=limit)
        parts = {name: float(least.numbers[name]) for name in DOWNTIME_PARTS}
        most = max(parts, key=lambda name: parts[name])
        why = (
            f"the shortest downtime is {seconds_text(least.downtime_s)}, {seconds_text(parts[most])} of it for "
            f"{DOWNTIME_PARTS[most]}"
        )
    else:
        soon = done[done["total_time_s"] <= trial.completion_s]["downtime_s"].min()
        short = done[done["downtime_s"] <= trial.downtime_s]["total_time_s"].min()
        why = (f"what is in time has a downtime of at least {seconds_text(soon)}, and what has so short a downtime "
               f"takes at least {seconds_text(short)}")  # fmt: skip
    return f"{text}: {why}; {nearest_text}."


_BINDS = {
    "link": "the link",
    "stream": "one stream",
    "thread": "the migration thread",
    "max-bandwidth": "max-bandwidth",
}


def _of_dirty_limit(scenario: Scenario) -> list[str]:
    """What dirty-limit costs, or why it was not tried where it could be had."""
    if not PROFILES[scenario.qemu].supports_dirty_limit or scenario.guest.accel != "kvm":
        return []
    if _may_limit(scenario):
        return ["dirty-limit slows the vCPUs that write more than the quota, auto-converge all of them: throttle is "
                "that of the one that is slowed most. Each region is written by one vCPU."]  # fmt: skip
    return ["dirty-limit was not tried: it needs a dirty ring (guest.dirty_ring_size), which a guest has from its "
            "start (-accel kvm,dirty-ring-size=4096)."]  # fmt: skip


def _assumptions(trial: _Trial) -> tuple[str, ...]:
    scenario = trial.scenario
    writes, link = (f"{100 * spread:g} %" for spread in trial.spreads)
    found = [
        f"The guest writes up to {writes} more or less than given, and the link carries up to {link} more or less: "
        f"each factor is drawn uniformly and for itself, in {trial.worlds} worlds (seed {trial.seed}).",
        "Expected engine: near an edge, migrations of real guests depart from it.",
        f"Costs of the hosts: {scenario.costs.label}.",
    ]
    if drawn := scenario.drawn_fields():
        found.append(f"Drawn anew in each world: {', '.join(drawn)}; the table has the first draw.")
    if scenario.management is not None:
        found.append(f"The management policy {scenario.management} runs beside the settings and may change them.")
    if scenario.changes:
        found.append("Changes over time of the scenario come after the settings and may override them.")
    if scenario.migration.switchover_ack:
        found.append("switchover-ack is kept, unless nothing helps with it.")
    found += _of_dirty_limit(scenario)
    found.append("One stream, no post-copy and no compression: they are not varied.")
    return tuple(found)
