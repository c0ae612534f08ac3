"""Several migrations on one link: which share each has, when each ends, and how many at once are best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from migkit.kernels.state import CANCELLED, COMPLETED
from migkit.results import seconds_text
from migkit.run.limits import LIMIT, check_bitmap, effort
from migkit.run.simulate import SimulatedMigration, check_engine, check_whole_number, simulate
from migkit.scenario.changes import Change
from migkit.scenario.errors import ScenarioError, did_you_mean
from migkit.scenario.policy import own_functions
from migkit.scenario.rows import records
from migkit.scenario.scenario import Scenario, as_scenario
from migkit.scenario.toml import read_toml
from migkit.scenario.units import Rate, Seconds, parse_rate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["ORDERS", "Fleet", "Share", "fair_level", "fleet", "how_many", "read_fleet"]

ORDERS = ("given", "smallest first", "largest first")
"""Orders in which migrations begin: as given, or by the guest's RAM."""
MOST = 1000
"""Migrations of a fleet, at most."""
_SECOND_NS = 1_000_000_000


class Share(NamedTuple):
    """What one migration may take of the link for a while.

    Parameters
    ----------
    name : str
    from_s, to_s : float
        Seconds since the fleet began.
    bytes_per_s : float
        Of the link, or what the migration can send at most, if that is less.
    """

    name: str
    from_s: float
    to_s: float
    bytes_per_s: float


class Fleet:
    """Migrations that shared one link, as :func:`fleet` returns them.

    Attributes
    ----------
    link : float
        Bandwidth of the shared link, bytes/s.
    parallel : int
        Migrations that ran at once, at most.
    scenarios : dict of str to Scenario
        By name, in the order in which they began; what was left of the link stands in their ``changes``.
    starts_s, ends_s : dict of str to float
        Seconds since the fleet began. A migration that never completes ends at its time limit.
    shares : list of Share
    """

    def __init__(
        self,
        link: float,
        parallel: int,
        engine: str,
        seed: int,
        scenarios: dict[str, Scenario],
        starts_s: dict[str, float],
        ends_s: dict[str, float],
        shares: list[Share],
    ) -> None:
        self.link, self.parallel, self.engine, self.seed = link, parallel, engine, seed
        self.scenarios, self.starts_s, self.ends_s, self.shares = scenarios, starts_s, ends_s, shares
        self._simulated: dict[str, SimulatedMigration] = {}

    def migration(self, name: str) -> SimulatedMigration:
        """One of the migrations, with its timeline.

        Parameters
        ----------
        name : str

        Raises
        ------
        ScenarioError
            If there is none of that name.
        """
        if name not in self.scenarios:
            raise ScenarioError(f"is not a migration of this fleet: {did_you_mean(name, self.scenarios)}", "name", name)
        if name not in self._simulated:
            replicate = list(self.scenarios).index(name)
            self._simulated[name] = simulate(self.scenarios[name], self.engine, self.seed, replicate)
        return self._simulated[name]

    @property
    def makespan_s(self) -> float:
        """When the last migration ended, seconds."""
        return max(self.ends_s.values())

    @property
    def table(self) -> pd.DataFrame:
        """One row a migration: when it began and ended, how, its times, its bytes, its mean share of the link."""
        import pandas as pd

        rows = []
        for name in self.scenarios:
            found, held = self.migration(name), [share for share in self.shares if share.name == name]
            sent = sum((share.to_s - share.from_s) * share.bytes_per_s for share in held)
            duration = self.ends_s[name] - self.starts_s[name]
            rows.append({
                "name": name,
                "starts_s": self.starts_s[name],
                "ends_s": self.ends_s[name],
                "outcome": str(found.outcome),
                "total_time_s": found.total_time_s,
                "downtime_s": found.downtime_s,
                "bytes_sent": int(found.numbers["bytes_sent"]),
                "share_bytes_per_s": sent / duration if duration else math.nan,
            })  # fmt: skip
        return pd.DataFrame(rows).set_index("name")

    @property
    def sentence(self) -> str:
        """How many completed, in what time, at most how many at once."""
        table = self.table
        done = table[table["outcome"] == "completed"]
        ended = f"{len(done)} of {len(table)} migrations completed" if len(done) < len(table) else (
            f"All {len(table)} migrations completed" if len(table) > 1 else "The migration completed"
        )  # fmt: skip
        text = f"{ended} in {seconds_text(self.makespan_s)}, {self.parallel} at a time"
        if len(done):
            text += f"; downtimes {seconds_text(done['downtime_s'].min())} to {seconds_text(done['downtime_s'].max())}"
        never = [str(name) for name in table.index[table["outcome"] != "completed"]]
        if never:
            some = ", ".join(never[:5]) + (f" and {len(never) - 5} more" if len(never) > 5 else "")
            text += f"; not {some}"
        return f"{text}."

    def plot(self) -> Figure:
        """Draw who had what of the link, and when each ran (:func:`migkit.figures.fleet.fleet_figure`)."""
        import importlib

        figure: Figure = importlib.import_module("migkit.figures.fleet").fleet_figure(self)  # a room above this one
        return figure

    def __repr__(self) -> str:
        return f"Fleet({self.sentence})"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self.sentence)}</p>{self.table.round(3).to_html()}"


def fair_level(bandwidth: float, most: Sequence[float], weights: Sequence[float]) -> float:
    """How much of a link a flow of weight 1 gets, when none gets more than it can send (max-min fairness).

    Parameters
    ----------
    bandwidth : float
        Of the link, bytes/s.
    most : sequence of float
        What each flow can send at most, bytes/s.
    weights : sequence of float

    Returns
    -------
    float
        The level: a flow has the smaller of its most and its weight times the level. Infinite if all have their most.

    Notes
    -----
    D. Bertsekas, R. Gallager, *Data Networks*, section 6.5.2; what TCP flows of one round trip come near to.

    Examples
    --------
    >>> fair_level(10.0, [2.0, 100.0, 100.0], [1.0, 1.0, 1.0])
    4.0
    """
    left, weight = bandwidth, float(sum(weights))
    for limit, own in sorted(zip(most, weights, strict=True), key=lambda flow: flow[0] / flow[1]):
        if limit * weight >= left * own:
            return left / weight
        left, weight = left - limit, weight - own
        if weight <= 1e-12 * own:
            break
    return math.inf


def fleet(
    migrations: Mapping[str, Any] | Iterable[Any],
    link: Any,
    parallel: int | None = None,
    order: str | Sequence[str] = "given",
    weights: Mapping[str, float] | None = None,
    engine: str = "expected",
    seed: int = 0,
    limit: str = LIMIT,
) -> Fleet:
    """Simulate migrations that share one link.

    Each has its own guest, devices, limits and policies. The next one begins when one has ended. Those that run share
    the link by max-min fairness: none gets more than its max-bandwidth, its migration thread or its stream can send,
    and what these leave is divided among the others by their weights. Shares change when a migration begins or ends;
    each is simulated with the shares that it had (``Scenario.changes``).

    Parameters
    ----------
    migrations : mapping of str to Scenario, or sequence of Scenario
        By name; without names they are ``vm0``, ``vm1``, ... Mappings stand for scenarios, as for
        :func:`migkit.simulate`. Bandwidths of their links are not used, round trips and buffers are.
    link : bytes/s
        Bandwidth of the shared link, as text with its unit.
    parallel : int, optional
        How many run at once; by default all.
    order : {"given", "smallest first", "largest first"} or sequence of str, default "given"
        In which order they begin: by the RAM of the guest, or their names.
    weights : mapping of str to float, optional
        Of the flows, above 0; by default 1 each. Channels of the same kind on one link would count as weights.
    engine : {"expected", "bitmap"}
    seed : int
        Root of the draws; each migration is a replicate of its own.
    limit : duration, default "20 s"
        Computing that one migration may take.

    Returns
    -------
    Fleet

    Raises
    ------
    ScenarioError
        If there is no migration, a scenario is refused or changes its link itself, or an argument is refused.

    Examples
    --------
    >>> from migkit import Guest, Link, Migration, Scenario
    >>> idle = Scenario(guest=Guest(ram="4 GiB"), link=Link(bandwidth="1 Gbit/s"), migration=Migration(max_bandwidth=0))
    >>> two = fleet([idle, idle], link="10 Gbit/s")
    >>> two.sentence
    'All 2 migrations completed in 6.9 s, 2 at a time; downtimes 272 ms to 272 ms.'
    """
    given = _named(migrations)
    names = _ordered(given, order)
    wide = _bandwidth(link)
    at_once = len(names) if parallel is None else check_whole_number("parallel", parallel, least=1)
    heavy = _weights(given, weights)
    running = _Running(given, heavy, wide, check_engine(engine), check_whole_number("seed", seed), effort(limit), names)
    return running.to_the_end(min(at_once, len(names)))


def _bandwidth(link: Any) -> float:
    try:
        value = parse_rate(link)
    except ScenarioError as error:
        raise ScenarioError(error.problem, "link", link) from None
    if not 1e3 <= value <= 1e12:
        raise ScenarioError("is not between 1 kB/s and 1 TB/s", "link", str(link))
    return value


def _named(migrations: Any) -> dict[str, Scenario]:
    if isinstance(migrations, Scenario | str | bytes):
        raise ScenarioError("is not a list of scenarios, nor a mapping of names to scenarios", "migrations")
    try:
        items = list(migrations.items() if isinstance(migrations, Mapping) else enumerate(migrations))
    except TypeError:
        raise ScenarioError("is not a list of scenarios, nor a mapping of names to scenarios", "migrations") from None
    if not 1 <= len(items) <= MOST:
        raise ScenarioError(f"has {len(items)} scenarios: 1 to {MOST} are allowed", "migrations")
    found = {}
    for key, each in items:
        name = key if isinstance(key, str) else f"vm{key}"
        scenario = as_scenario(each)
        if any(change.link_bandwidth is not None for change in scenario.changes):
            raise ScenarioError("changes the bandwidth of its link, which the fleet decides", f"migrations.{name}")
        found[name] = scenario
    return found


def _ordered(given: dict[str, Scenario], order: Any) -> list[str]:
    names = list(given)
    if isinstance(order, str):
        if order not in ORDERS:
            raise ScenarioError(f"is not an order, nor a list of names: {did_you_mean(order, ORDERS)}", "order", order)
        sign = {"given": 0, "smallest first": 1, "largest first": -1}[order]
        return sorted(names, key=lambda name: sign * int(given[name].guest.ram))
    chosen = list(order)
    if sorted(map(str, chosen)) != sorted(names):
        raise ScenarioError("does not have the name of each migration once", "order", str(chosen))
    return [str(name) for name in chosen]


def _weights(given: dict[str, Scenario], weights: Mapping[str, float] | None) -> dict[str, float]:
    for name, value in (weights or {}).items():
        if name not in given:
            raise ScenarioError(f"is not a migration: {did_you_mean(name, given)}", "weights", name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1e-6 <= value <= 1e6:
            raise ScenarioError("is no weight: a number above 0 is needed", f"weights.{name}", value)
    return {name: float((weights or {}).get(name, 1.0)) for name in given}


class _Running:
    """A fleet while it runs: an event is a migration that begins or ends."""

    def __init__(
        self,
        given: dict[str, Scenario],
        weights: dict[str, float],
        link: float,
        engine: str,
        seed: int,
        most_effort: int,
        names: list[str],
    ) -> None:
        self.given, self.weights, self.link, self.names = given, weights, link, names
        self.engine, self.seed, self.most_effort = engine, seed, most_effort
        self.starts: dict[str, int] = {}  # nanoseconds since the fleet began
        self.ends: dict[str, int] = {}  # of those that run: as their shares are now
        self.scenarios: dict[str, Scenario] = {}
        self.levels: dict[str, list[tuple[int, float]]] = {}  # since when it has which share of the link
        self.shares: list[Share] = []

    def to_the_end(self, parallel: int) -> Fleet:
        """Run until all have ended."""
        waiting, now = list(self.names), 0
        running: list[str] = []
        finished: dict[str, int] = {}
        while waiting or running:
            while waiting and len(running) < parallel:
                name = waiting.pop(0)
                self.starts[name] = now
                running.append(name)
            self._divide(running, now)
            now = min(self.ends[name] for name in running)
            for name in [name for name in running if self.ends[name] == now]:
                running.remove(name)
                finished[name] = now
        for name, levels in self.levels.items():
            until = [begin for begin, _ in levels[1:]] + [finished[name]]
            most = self._most(name)
            self.shares += [
                Share(name, begin / _SECOND_NS, end / _SECOND_NS, min(level, most))
                for (begin, level), end in zip(levels, until, strict=True)
            ]
        scenarios = {name: self.scenarios[name] for name in self.names}
        starts_s, ends_s = (
            {name: times[name] / _SECOND_NS for name in self.names} for times in (self.starts, finished)
        )
        return Fleet(self.link, parallel, self.engine, self.seed, scenarios, starts_s, ends_s, self.shares)

    def _most(self, name: str) -> float:
        """What a migration can send at most, whatever the link."""
        return min(float(value) for which, value in self.given[name].wire_limits().items() if which != "link")

    def _divide(self, running: list[str], now: int) -> None:
        """Give each its share from now on, and look when it ends with it."""
        most, weights = [self._most(name) for name in running], [self.weights[name] for name in running]
        level = fair_level(self.link, most, weights)
        for name, weight in zip(running, weights, strict=True):
            share = min(self.link, weight * level)
            levels = self.levels.setdefault(name, [])
            if levels and levels[-1][1] == share:
                continue
            if levels and levels[-1][0] == now:
                levels.pop()
            levels.append((now, share))
            self.scenarios[name] = self._shared(name)
            self.ends[name] = self.starts[name] + self._takes(name)

    def _shared(self, name: str) -> Scenario:
        """The scenario with the shares that it has had so far, and the last one from then on."""
        scenario, start = self.given[name], self.starts[name]
        (_, first), *later = self.levels[name]
        changes = [Change(at=Seconds((at - start) / _SECOND_NS), link_bandwidth=Rate(share)) for at, share in later]
        both = sorted([*scenario.changes, *changes], key=lambda change: float(change.at))
        return scenario.replace({"link.bandwidth": Rate(first)}, changes=both)

    def _takes(self, name: str) -> int:
        """How long a migration runs, nanoseconds: one that never completes is given up at its time limit."""
        from migkit.kernels.drivers import OverLimit, run

        scenario = self.scenarios[name]
        rows = records([scenario])
        if self.engine == "bitmap":
            check_bitmap(rows)
        replicate = np.array([self.names.index(name)])
        try:
            report = run(rows, self.engine, self.seed, replicate, own=own_functions(scenario), limit=self.most_effort)
        except OverLimit:
            raise ScenarioError('takes more computing than is allowed: allow more, such as limit="10 min"',
                                f"migrations.{name}") from None  # fmt: skip
        ended = report.migrations.view(np.ndarray)[0]
        if ended["outcome"] in (COMPLETED, CANCELLED):
            return int(ended["total_ns"])
        return int(rows.cases["time_limit_ns"][0])


def read_fleet(source: Any) -> dict[str, Any]:
    """Read the arguments of :func:`fleet` from TOML.

    Parameters
    ----------
    source : str or path
        A file or text: ``link``, and if wanted ``parallel``, ``order``, ``engine``, ``seed``, ``limit``; and for each
        kind of guest a table ``[[migrations]]`` with ``scenario`` (a file, or the table of a scenario), and if wanted
        ``name``, ``count`` and ``weight``.

    Returns
    -------
    dict

    Raises
    ------
    ScenarioError
        If it cannot be read, or a key is unknown or missing.

    Examples
    --------
    >>> text = 'link = "10 Gbit/s"' + chr(10) + '[[migrations]]' + chr(10) + 'name = "web"' + chr(10) + 'count = 3'
    >>> text += chr(10) + 'scenario = {guest = {ram = "1 GiB"}, link = {bandwidth = "10 Gbit/s"}}'
    >>> list(read_fleet(text)["migrations"])
    ['web0', 'web1', 'web2']
    """
    table, folder = read_toml(source)
    allowed = ("link", "parallel", "order", "engine", "seed", "limit", "migrations")
    _known(table, allowed, "")
    for needed in ("link", "migrations"):
        if needed not in table:
            raise ScenarioError("is missing", needed)
    kinds = table.pop("migrations")
    if not isinstance(kinds, list) or not all(isinstance(kind, dict) for kind in kinds):
        raise ScenarioError("is not a list of tables: write [[migrations]] before each", "migrations")
    migrations: dict[str, Scenario] = {}
    weights: dict[str, Any] = {}
    for number, kind in enumerate(kinds):
        where = f"migrations.{number}"
        _known(kind, ("name", "count", "weight", "scenario"), where)
        if "scenario" not in kind:
            raise ScenarioError("is missing: a file, or the table of a scenario", f"{where}.scenario")
        given = kind["scenario"]
        try:
            scenario = Scenario.from_toml(folder / given) if isinstance(given, str) else as_scenario(given)
        except ScenarioError as error:
            raise error.within(f"{where}.scenario") from None
        count = check_whole_number(f"{where}.count", kind.get("count", 1), least=1)
        if len(migrations) + count > MOST:
            raise ScenarioError(f"gives more than {MOST} migrations", f"{where}.count", count)
        name = kind.get("name", f"vm{number}-" if count > 1 else f"vm{number}")
        for each in range(count):
            label = f"{name}{each}" if count > 1 else str(name)
            if label in migrations:
                raise ScenarioError("is the name of two migrations", f"{where}.name", label)
            migrations[label] = scenario
            weights[label] = kind.get("weight", 1.0)
    return table | {"migrations": migrations, "weights": weights}


def _known(table: Mapping[str, Any], allowed: Sequence[str], where: str) -> None:
    for key in table:
        if key not in allowed:
            field = f"{where}.{key}" if where else key
            raise ScenarioError(f"is not a field of a fleet: {did_you_mean(key, allowed)}", field)


def how_many(
    migrations: Mapping[str, Any] | Iterable[Any], link: Any, parallel: Sequence[int] = (1, 2, 4, 8), **given: Any
) -> pd.DataFrame:
    """Compare numbers of migrations at once.

    Parameters
    ----------
    migrations, link
        As :func:`fleet` takes them.
    parallel : sequence of int, default 1, 2, 4 and 8
        Numbers above that of the migrations are all of them at once, and are compared once.
    **given
        Further arguments of :func:`fleet`.

    Returns
    -------
    DataFrame
        By number: how many ``completed``, ``makespan_s``, mean and largest total time and downtime of these, and
        the bytes that all sent.

    Raises
    ------
    ScenarioError
        As :func:`fleet`.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> idle = Scenario(guest=Guest(ram="4 GiB"), link=Link(bandwidth="1 Gbit/s"))
    >>> how_many([idle] * 4, "10 Gbit/s", [1, 4])["makespan_s"].round().tolist()
    [127.0, 32.0]
    """
    import pandas as pd

    migrations = _named(migrations)
    rows = []
    at_once = [min(check_whole_number("parallel", number, least=1), len(migrations)) for number in parallel]
    for number in dict.fromkeys(at_once):
        found = fleet(migrations, link, number, **given)
        table = found.table
        done = table[table["outcome"] == "completed"]
        rows.append({
            "parallel": number,
            "completed": len(done),
            "makespan_s": found.makespan_s,
            "total_time_s": done["total_time_s"].mean(), "longest_s": done["total_time_s"].max(),
            "downtime_s": done["downtime_s"].mean(), "longest_downtime_s": done["downtime_s"].max(),
            "bytes_sent": int(table["bytes_sent"].sum()),
        })  # fmt: skip
    return pd.DataFrame(rows).set_index("parallel")
