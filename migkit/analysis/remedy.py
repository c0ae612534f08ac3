"""The least change of one parameter that makes a migration converge."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from migkit.kernels.state import COMPLETED
from migkit.results import seconds_text
from migkit.run.limits import LIMIT, check_bitmap, effort
from migkit.run.simulate import SPREAD_REPLICATES, check_engine, check_whole_number
from migkit.scenario.errors import ScenarioError
from migkit.scenario.policy import own_functions
from migkit.scenario.rows import records
from migkit.scenario.scenario import Scenario, as_scenario
from migkit.scenario.units import Rate, Seconds, format_rate

__all__ = ["Remedies", "Remedy", "remedy"]

WANTED = 0.95
"""Share of the replicates that must complete, where something is drawn."""
_VALUES, _ROUNDS, _DIGITS = 17, 3, 3
_SWITCH_FACTOR = 2.0
"""A switch counts as much as a parameter that is doubled."""
_LONGEST_LIMIT, _LONGEST_TIME = Seconds(2000), Seconds(168 * 3600)
_LARGEST_RATE = 1e12


class Remedy(NamedTuple):
    """One parameter, changed as little as is enough.

    Parameters
    ----------
    path : str
        Dotted path of the field; ``"guest.regions"`` stands for the write rates of all regions together.
    before, after : object
        Its value, and the one with which the migration converges.
    factor : float
        By which it is changed, above 1; of a switch 2, so that remedies can be put in order.
    completed : float
        Share of the replicates that complete.
    total_time_s, downtime_s : float
        Medians of those that complete.
    """

    path: str
    before: Any
    after: Any
    factor: float
    completed: float
    total_time_s: float
    downtime_s: float

    @property
    def is_switch(self) -> bool:
        """Whether something is turned on, off or into another word: then `factor` is for the order only."""
        return isinstance(self.before, bool | str) or self.before == 0

    @property
    def sentence(self) -> str:
        """The change and what comes of it."""
        name = self.path.rpartition(".")[2].replace("_", "-") if self.path.startswith("migration.") else self.path
        ends = f"in {seconds_text(self.total_time_s)} with a downtime of {seconds_text(self.downtime_s)}"
        if self.path == "guest.regions":
            return f"a guest that writes {self.after:.3g} times as much converges {ends}"
        return (
            f"{name} = {_shown(self.after, self.before)} instead of {_shown(self.before, self.before)} converges {ends}"
        )


class Remedies(NamedTuple):
    """Every parameter whose change alone makes a migration converge.

    Parameters
    ----------
    scenario : Scenario
        What does not converge.
    found : tuple of Remedy
        The least change first.
    not_enough : tuple of str
        Paths of those that do not, however far they are changed.
    not_known : tuple of str
        Paths of those that take more computing than is allowed.
    """

    scenario: Scenario
    found: tuple[Remedy, ...]
    not_enough: tuple[str, ...]
    not_known: tuple[str, ...] = ()

    @property
    def least(self) -> Remedy | None:
        """The least change of a parameter of the migration, the link or QEMU; None if none is enough."""
        return next((each for each in self.found if each.path != "guest.regions"), None)

    @property
    def sentence(self) -> str:
        """The least change, or that there is none."""
        if self.least is None:
            return "No change of a single parameter makes it converge."
        return f"The least change that makes it converge: {self.least.sentence}."

    def __repr__(self) -> str:
        return f"<Remedies: {self.sentence}>"

    def summary(self) -> str:
        """All of it in some lines of plain text, the least change first."""
        lines = [self.sentence]
        lines += [f"Or: {each.sentence}." for each in self.found if each is not self.least]
        lines += [f"{text}: {', '.join(paths)}." for text, paths in (
            ("Not enough, however far it is changed", self.not_enough),
            ("Not known, since it takes too much computing", self.not_known),
        ) if paths]  # fmt: skip
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain Python values; ``migkit run --json`` prints it. The factor of a switch is None."""

        def plain(value: Any) -> Any:
            return float(value) if isinstance(value, float) else value

        found = [{name: plain(value) for name, value in each._asdict().items()}
                 | {"factor": None if each.is_switch else each.factor,
                    "total_time_s": round(each.total_time_s, 9), "downtime_s": round(each.downtime_s, 9)}
                 for each in self.found]  # fmt: skip
        return {"sentence": self.sentence, "found": found, "not_enough": list(self.not_enough),
                "not_known": list(self.not_known)}  # fmt: skip


def remedy(
    scenario: Scenario, engine: str = "expected", seed: int = 0, replicate: int = 0, limit: str = LIMIT
) -> Remedies:
    """Search the least change of one parameter that makes a migration converge.

    Tried are max-bandwidth, the link, one stream's ceiling, downtime-limit, the time limit, avail-switchover-bandwidth,
    auto-converge, switchover-ack, the walk of QEMU 9.0, and a guest that writes less. A quantity counts from where it
    and all larger values that are tried (smaller ones for the guest) converge, so that a value at which a migration
    completes by chance is none.

    Parameters
    ----------
    scenario : Scenario
        The migration.
    engine : {"expected", "bitmap"}
    seed, replicate : int
        As :func:`migkit.simulate` takes them; where something is drawn, :data:`WANTED` of 20 replicates must complete.
    limit : duration, default "20 s"
        Computing that one migration may take.

    Returns
    -------
    Remedies

    Raises
    ------
    ScenarioError
        If the migration converges already, or an argument is refused.

    Examples
    --------
    >>> from migkit import Guest, Link, Migration, Region, Scenario
    >>> hot = Guest(ram="8 GiB", regions=[Region(size="4 GiB", write_rate="2 GB/s")])
    >>> slow = Scenario(guest=hot, link=Link(bandwidth="10 Gbit/s"), migration=Migration(max_bandwidth=0))
    >>> found = remedy(slow)
    >>> found.least.path, found.least.before
    ('link.bandwidth', 10 Gbit/s)
    """
    scenario = as_scenario(scenario)
    trial = _Trial(scenario, check_engine(engine), check_whole_number("seed", seed),
                   check_whole_number("replicate", replicate), effort(limit))  # fmt: skip
    if trial.converges(scenario):
        _, total, downtime = trial.of(scenario)
        raise ScenarioError(
            f"converges as it is, in {seconds_text(total)} with a downtime of {seconds_text(downtime)}", "scenario"
        )
    found, not_enough, not_known = [], [], []
    for path, search in _searches(scenario):
        try:
            one = search(trial)
        except _TooMuch:
            not_known.append(path)
            continue
        if one is None:
            not_enough.append(path)
        else:
            found.append(one)
    found.sort(key=lambda each: each.factor)
    return Remedies(scenario, tuple(found), tuple(not_enough), tuple(not_known))


class _TooMuch(Exception):
    """A migration takes more computing than is allowed."""


class _Trial(NamedTuple):
    """How scenarios are tried."""

    scenario: Scenario
    engine: str
    seed: int
    replicate: int
    effort: int

    @property
    def replicates(self) -> np.ndarray:
        """Those that count: some where anything is drawn, else the one that was asked for."""
        drawn = self.engine == "bitmap" or bool(self.scenario.drawn_fields())
        return np.arange(SPREAD_REPLICATES) if drawn else np.array([self.replicate])

    def ends(self, scenario: Scenario, replicates: np.ndarray) -> np.ndarray:
        """The reports of these replicates."""
        from migkit.kernels.drivers import OverLimit, run

        rows = records([scenario for _ in replicates])
        if self.engine == "bitmap":
            check_bitmap(rows)
        try:
            reports = run(rows, self.engine, self.seed, replicates, own=own_functions(scenario), limit=self.effort)
        except OverLimit:
            raise _TooMuch from None
        return reports.migrations.view(np.ndarray).reshape(len(replicates))

    def of(self, scenario: Scenario) -> tuple[float, float, float]:
        """Share of the replicates that complete, median total time and downtime of these."""
        row = self.ends(scenario, self.replicates)
        done = row[row["outcome"] == COMPLETED]
        total, downtime = (
            float(np.median(done[name])) * 1e-9 if len(done) else math.nan for name in ("total_ns", "downtime_ns")
        )
        return len(done) / len(row), total, downtime

    def converges(self, scenario: Scenario) -> bool:
        """Whether enough of the replicates complete; the rest are not simulated once too many have not."""
        replicates = self.replicates
        allowed, failed, begin = len(replicates) * (1.0 - WANTED) + 1e-9, 0, 0
        for end in (2, 6, len(replicates)):  # a migration that does not complete takes the most computing
            some = replicates[begin:end]
            failed += int(np.count_nonzero(self.ends(scenario, some)["outcome"] != COMPLETED)) if len(some) else 0
            begin = end
            if failed > allowed:
                return False
        return True


_Search = Callable[[_Trial], Remedy | None]


def _searches(scenario: Scenario) -> list[tuple[str, _Search]]:
    """What is tried for a scenario, by path."""
    migration, link = scenario.migration, scenario.link
    streams = migration.multifd_channels if migration.multifd else 1
    wire = min(float(link.bandwidth), streams * float(link.stream_bandwidth) or math.inf)
    out: list[tuple[str, _Search]] = []

    def number(path: str, before: float, most: float, kind: type[Rate] | type[Seconds], shown: Any = None) -> None:
        if before < most:
            out.append((path, lambda trial: _least(trial, path, before, most, kind, shown)))

    def switch(path: str, before: Any, after: Any) -> None:
        out.append((path, lambda trial: _switched(trial, path, before, after)))

    if migration.max_bandwidth > 0:
        number("migration.max_bandwidth", float(migration.max_bandwidth), 2 * wire, Rate)
    number("link.bandwidth", float(link.bandwidth), min(100 * float(link.bandwidth), _LARGEST_RATE), Rate)
    if link.stream_bandwidth > 0:
        number("link.stream_bandwidth", float(link.stream_bandwidth), float(link.bandwidth), Rate)
    number("migration.downtime_limit", max(float(migration.downtime_limit), 1e-3), float(_LONGEST_LIMIT), Seconds,
           migration.downtime_limit)  # fmt: skip
    number("time_limit", float(scenario.time_limit), float(_LONGEST_TIME), Seconds)
    if not migration.avail_switchover_bandwidth > 0:
        carried = float(min(scenario.wire_limits().values()))
        digits = _DIGITS - 1 - math.floor(math.log10(carried))
        told = max(math.floor(carried * 10.0**digits) / 10.0**digits, 1000.0)  # no more than is carried
        switch("migration.avail_switchover_bandwidth", Rate(0), Rate(told))
    if not migration.auto_converge:
        switch("migration.auto_converge", False, True)
    if migration.switchover_ack:
        switch("migration.switchover_ack", True, False)
    if scenario.walk_policy == "serialized":
        switch("policy", "serialized", "unserialized")
    if any(region.highest_rate > 0 for region in scenario.guest.regions):
        out.append(("guest.regions", _less_written))
    return out


def _least(
    trial: _Trial, path: str, before: float, most: float, kind: type[Rate] | type[Seconds], shown: Any
) -> Remedy | None:
    def changed(value: float) -> Scenario:
        return trial.scenario.replace(path, kind(value))

    value = _first(trial, changed, before, most)
    if value is None:
        return None
    digits = _DIGITS - 1 - math.floor(math.log10(value))
    rounded = min(math.ceil(value * 10.0**digits - 1e-9) / 10.0**digits, most)
    value = rounded if trial.converges(changed(rounded)) else value
    end = trial.of(changed(value))
    return Remedy(path, kind(before) if shown is None else shown, kind(value), value / before, *end)


def _first(trial: _Trial, changed: Callable[[float], Scenario], before: float, most: float) -> float | None:
    """The first of the values between two, evenly spaced in their logarithms, from which on all converge."""
    low, high = before, most
    for turn in range(_ROUNDS):
        values = np.geomspace(low, high, _VALUES)
        values[-1] = high
        if not trial.converges(changed(float(values[-1]))):
            return None
        first = _VALUES - 1
        while first > 0 and trial.converges(changed(float(values[first - 1]))):
            first -= 1
        if first == 0:
            return float(values[0]) if turn == 0 else low
        low, high = float(values[first - 1]), float(values[first])
    return high


def _switched(trial: _Trial, path: str, before: Any, after: Any) -> Remedy | None:
    try:
        changed = trial.scenario.replace(path, after)
    except ScenarioError:  # this version of QEMU has no such parameter
        return None
    if not trial.converges(changed):
        return None
    return Remedy(path, before, after, _SWITCH_FACTOR, *trial.of(changed))


def _less_written(trial: _Trial) -> Remedy | None:
    def changed(divisor: float) -> Scenario:
        values: dict[str, Any] = {}
        for index, region in enumerate(trial.scenario.guest.regions):
            for name in ("rates", "curve"):
                if steps := getattr(region, name):
                    values[f"guest.regions.{index}.{name}"] = [
                        (time, Rate(float(rate) / divisor)) for time, rate in steps
                    ]
            values[f"guest.regions.{index}.write_rate"] = Rate(float(region.write_rate) / divisor)
        return trial.scenario.replace_all(values)

    divisor = _first(trial, changed, 1.0, 1000.0)
    if divisor is None:
        return None
    share = math.floor(1000.0 / divisor) / 1000.0 or 1.0 / divisor
    if not trial.converges(changed(1.0 / share)):
        share = 1.0 / divisor
    return Remedy("guest.regions", 1.0, share, 1.0 / share, *trial.of(changed(1.0 / share)))


def _shown(value: Any, given: Any) -> str:
    """A value as text, a rate in bits if it was given in them."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if not isinstance(value, Rate):
        return str(value)
    if value <= 0:
        return "0"
    if "bit" not in str(given):
        return format_rate(value)
    bits = 8.0 * float(value)
    return f"{bits / 1e9:.4g} Gbit/s" if bits >= 1e9 else f"{bits / 1e6:.4g} Mbit/s"
