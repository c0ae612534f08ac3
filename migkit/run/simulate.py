"""One migration: its outcome in a sentence, its numbers, and its timeline."""

from __future__ import annotations

import contextlib
import functools
import html
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit import results
from migkit.kernels.state import (
    CANCEL,
    ENGINES,
    EVENT,
    SET_DOWNTIME_LIMIT,
    SET_LINK_BANDWIDTH,
    SET_MAX_BANDWIDTH,
    START_POSTCOPY,
    STOP_VM,
    Timeline,
    dtype_of,
)
from migkit.provenance import provenance
from migkit.results import DOWNTIME_PARTS, Outcome, bytes_text, legible, seconds_text
from migkit.run.cause import Explanation, Margin, explain, in_force, rate_text
from migkit.run.limits import LIMIT, check_bitmap, effort, within
from migkit.run.progress import announce_compilation
from migkit.scenario.device_list import device_labels
from migkit.scenario.errors import ScenarioError, did_you_mean
from migkit.scenario.parts import HostCosts
from migkit.scenario.policy import Policy, own_functions
from migkit.scenario.rows import records
from migkit.scenario.scenario import Scenario, as_scenario
from migkit.scenario.units import Seconds
from migkit.scenario.unsaid import MOST_PUBLISHED_SYNC_PER_GIB, sync_is_assumed, sync_s
from migkit.scenario.wire import page_cost_s

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["SimulatedMigration", "check_engine", "check_whole_number", "numba_threads", "simulate"]

_LONGEST_TIME_LIMIT, _LIMIT_OF_LONGEST = "168 h", "2 s"
_LONG_ENOUGH = "30 min"
_NOTED_SHARE = 0.1
_OTHER_COSTS = 0.8, 1.25
"""Times the cost of a zero page: what the outcome is tried with where it may hang on it."""
_HTML_DEVICES = 8  # rows of the device table in a notebook; the DataFrame has them all


_CHANGED = {
    SET_DOWNTIME_LIMIT: "downtime-limit",
    SET_MAX_BANDWIDTH: "max-bandwidth",
    SET_LINK_BANDWIDTH: "link bandwidth",
    STOP_VM: "stop",
    CANCEL: "migrate_cancel",
    START_POSTCOPY: "migrate-start-postcopy",
}
_SCALES = {SET_DOWNTIME_LIMIT: 1e-3, SET_MAX_BANDWIDTH: 1.0, SET_LINK_BANDWIDTH: 1.0}
SPREAD_REPLICATES = 20
"""Replicates behind what is said of a scenario that leaves something to draws."""


def check_engine(engine: str) -> str:
    """Return `engine` if it is one.

    Raises
    ------
    ScenarioError
        If `engine` is none of :data:`ENGINES`; names them.
    """
    if engine not in ENGINES:
        raise ScenarioError(f"is not an engine: {did_you_mean(engine, ENGINES)}", "engine", engine)
    return engine


def check_whole_number(name: str, value: Any, least: int = 0) -> int:
    """Return `value` as an int if it is a whole number.

    Raises
    ------
    ScenarioError
        If `value` is no whole number, is less than `least`, or does not fit into 63 bits.
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or not least <= value < 2**63:
        raise ScenarioError(f"must be a whole number of {least} or more", name, value)
    return int(value)


def numba_threads() -> int:
    """Threads that Numba was started with.

    Raises
    ------
    ScenarioError
        If the environment variable NUMBA_NUM_THREADS is below 1, with which Numba cannot be imported.
    """
    given = 1
    with contextlib.suppress(KeyError, ValueError):  # Numba warns of what is no number and ignores it
        given = int(os.environ["NUMBA_NUM_THREADS"])
    check_whole_number("NUMBA_NUM_THREADS", given, least=1)
    from numba import config

    return int(config.NUMBA_NUM_THREADS)


@dataclass(frozen=True, repr=False, eq=False)
class SimulatedMigration:
    """One simulated migration, as :func:`simulate` returns it.

    A notebook shows it as a small table; ``summary()`` is the same as text. The timeline is computed when it is first
    read.

    Attributes
    ----------
    scenario : Scenario
        What was simulated.
    engine : {"expected", "bitmap"}
    seed : int
    replicate : int
    labels : tuple of str
        Labels of the devices in list order, RAM among them.
    numbers : mapping of str to number or ndarray
        Every result variable by its registered name (:data:`migkit.results.VARIABLES`); ``outcome`` is an
        :class:`~migkit.results.Outcome`, those of devices are arrays in the order of `labels`. Also
        ``device_initial_bytes``, the initial data of each device.
    limit : str
        Computing that it may take.
    """

    scenario: Scenario
    engine: str
    seed: int
    replicate: int
    labels: tuple[str, ...]
    numbers: Mapping[str, Any]
    limit: str = LIMIT

    @property
    def outcome(self) -> Outcome:
        """How the migration ended; compares with words: ``migration.outcome == "completed"``."""
        return Outcome(int(self.numbers["outcome"]))

    @property
    def converged(self) -> bool:
        """Whether the migration completed."""
        return self.outcome is Outcome.COMPLETED

    @functools.cached_property
    def explanation(self) -> Explanation:
        """Why the migration ended as it did: :func:`migkit.run.cause.explain`."""
        return explain(self.scenario, self.numbers, self.labels, self._in_time, self._not_cancelled)

    def _not_cancelled(self) -> tuple[float, Explanation]:
        """When it completes with the limits that it had in the end and a long time limit, and why it does not."""
        found = simulate(
            in_force(self.scenario, self.numbers).replace("time_limit", _LONG_ENOUGH), self.engine, self.seed,
            self.replicate, self.limit,
        )  # fmt: skip
        return found.total_time_s, found.explanation

    def _in_time(self) -> float:
        """When it completes with the longest time limit; NaN if it does not, or if that takes too long to compute."""
        longest = self.scenario.replace("time_limit", _LONGEST_TIME_LIMIT)
        try:
            found = simulate(longest, self.engine, self.seed, self.replicate, _LIMIT_OF_LONGEST)
        except ScenarioError:
            return math.nan
        return found.total_time_s

    @property
    def cause(self) -> str | None:
        """Why it does not complete, one of :data:`migkit.run.cause.CAUSES`; None for a completed migration."""
        return self.explanation.cause

    @property
    def margin(self) -> Margin | None:
        """What the cause is short of; of a completed migration a downtime above its limit, else None."""
        return self.explanation.margin

    @property
    def sentence(self) -> str:
        """One sentence on how the migration ended, and why."""
        return self.explanation.sentence

    @functools.cached_property
    def assumed(self) -> tuple[str, ...]:
        """What is taken for granted, since no field says it, and whether the outcome hangs on it.

        That of the scenario (:attr:`migkit.Scenario.assumed`), and what the numbers show to matter.
        """
        on_costs = (*self._hangs_on_sync(), *self._hangs_on_zero_pages(), *self._hangs_on_zero_page_cost())
        return (*self.scenario.assumed, *on_costs)

    def _otherwise(self, other: Scenario) -> SimulatedMigration | None:
        """The migration of another scenario, if its outcome is another one and it takes little computing."""
        try:
            found = simulate(other, self.engine, self.seed, self.replicate, _LIMIT_OF_LONGEST)
        except ScenarioError:  # takes too much computing
            return None
        return found if found.converged != self.converged else None

    def _hangs_on_sync(self) -> Iterator[str]:
        """Whether it would end otherwise with the dearest of the published syncs, where that cost is assumed."""
        if not sync_is_assumed(self.scenario):
            return
        other = self.scenario.replace("costs.bitmap_sync_per_gib", MOST_PUBLISHED_SYNC_PER_GIB)
        if (found := self._otherwise(other)) is not None:
            how = f"it completes in {seconds_text(found.total_time_s)}"
            yield (
                f"with syncs of {seconds_text(sync_s(other))}, as before QEMU commit e8a6d158db, "
                f"{how if found.converged else 'it does not complete'}: the outcome hangs on "
                "costs.bitmap_sync_per_gib"
            )

    def _hangs_on_zero_pages(self) -> Iterator[str]:
        """What zero pages take, where that is a good part of the time."""
        costs = self.scenario.costs
        scan_s = int(self.numbers["ram_zero_pages"]) * float(page_cost_s(self.scenario, costs.zero_page))
        if costs.zero_page == HostCosts().zero_page and scan_s > _NOTED_SHARE * self.verdict_time_s > 0:
            yield (
                f"zero pages take {seconds_text(scan_s)} of the {seconds_text(self.verdict_time_s)}: costs.zero_page, "
                f"{costs.zero_page} as on the one machine that was measured"
            )

    def _hangs_on_zero_page_cost(self) -> Iterator[str]:
        """Whether it would end otherwise with another cost of a zero page, where these take a good part of the time."""
        cost = self.scenario.costs.zero_page
        scan_s = int(self.numbers["ram_zero_pages"]) * float(page_cost_s(self.scenario, cost))
        if scan_s <= _NOTED_SHARE * self.verdict_time_s or self.scenario.costs.jitter > 0:
            return
        for factor in _OTHER_COSTS:
            other = self.scenario.replace("costs.zero_page", Seconds(factor * float(cost)))
            if (found := self._otherwise(other)) is not None:
                how = "completes" if found.converged else "does not complete"
                yield (
                    f"with {other.costs.zero_page} a zero page it {how}: the outcome hangs on costs.zero_page, and "
                    "costs.jitter with replicates gives a probability of each"
                )

    @property
    def total_time_s(self) -> float:
        """Seconds from the migrate command to the end; NaN unless the migration completed."""
        return float(self.numbers["total_time_s"])

    @property
    def verdict_time_s(self) -> float:
        """Seconds from the migrate command to when the outcome was known; of a completed migration its total time."""
        return float(self.numbers["verdict_time_s"])

    @property
    def downtime_s(self) -> float:
        """Seconds during which no guest ran; NaN if the VM was never stopped."""
        return float(self.numbers["downtime_s"])

    @property
    def downtime_parts_s(self) -> dict[str, float]:
        """Parts of the downtime by name, seconds; the stop before the switchover only if there was one."""
        parts = {meaning: float(self.numbers[name]) for name, meaning in DOWNTIME_PARTS.items()}
        first = DOWNTIME_PARTS["downtime_paused_s"]
        return {meaning: value for meaning, value in parts.items() if meaning != first or value > 0}

    @property
    def costs(self) -> str:
        """Which costs of a host were used: ``"assumed"`` where the scenario gives none (:attr:`HostCosts.label`)."""
        return self.scenario.costs.label

    @property
    def binds(self) -> str:
        """What limits how fast RAM is sent (:attr:`migkit.Scenario.binds`): the link, a stream, the thread, a limit."""
        return self.scenario.binds

    @property
    def sync_count(self) -> int:
        """Bitmap syncs, as ``dirty-sync-count`` reports them."""
        return int(self.numbers["sync_count"])

    @property
    def iterations(self) -> int:
        """Calls of ``qemu_savevm_state_iterate``."""
        return int(self.numbers["iterations"])

    @property
    def bytes_sent(self) -> dict[str, int]:
        """Bytes put into the stream, by label of the device."""
        return {label: int(size) for label, size in zip(self.labels, self.numbers["device_bytes"], strict=True)}

    @functools.cached_property
    def devices(self) -> pd.DataFrame:
        """One row per device: bytes, calls, and times of events (seconds, NaN for never)."""
        import pandas as pd

        names = ["device_bytes", "device_calls", "device_first_call_s", "device_initial_sent_s"]
        names += ["device_ack_s", "device_starved_s", "device_initial_left_bytes"]
        table = {name.removeprefix("device_"): self.numbers[name] for name in names}
        return pd.DataFrame({"device": list(self.labels)} | table)

    @functools.cached_property
    def timeline(self) -> pd.DataFrame:
        """One row per iteration: sizes in bytes, and what each device, RAM among them, sent in it.

        ``time_s`` is the start of the iteration. ``exact_bytes`` is NaN where the exact query did not run,
        ``ram_returned`` and ``<device>_bytes`` where the iteration ended before RAM or the device. Bytes are those of
        the stream without section headers; RAM's include its page headers. Has the first 200,000 iterations at most.
        """
        import pandas as pd

        timeline = self._recorded
        iterations = timeline.iterations
        table = {
            "time_s": iterations["t_ns"] * 1e-9,
            "estimate_bytes": iterations["estimate"],
            "exact_bytes": _never_is_nan(iterations["exact"]),
            "threshold_bytes": iterations["threshold"],
            "pending_bytes": iterations["pending"],
            "synced": iterations["synced"].astype(bool),
            "throttle_percent": iterations["throttle"],
            "ram_pages": iterations["ram_pages"],
            "ram_returned": _never_is_nan(iterations["ram_returned"]),
            "remaining_pages": iterations["remaining_pages"],
            "sync_count": iterations["sync_count"],
        }
        for index, label in enumerate(self.labels):
            table[f"{label}_bytes"] = _never_is_nan(timeline.sent[:, index])
        return pd.DataFrame(table)

    @functools.cached_property
    def _recorded(self) -> Timeline:
        from migkit.kernels import drivers

        own, most = own_functions(self.scenario), effort(self.limit)
        with within(most):
            _, timeline = drivers.record(
                records([self.scenario]), self.engine, self.seed, self.replicate, own=own, limit=most
            )
        return timeline

    @functools.cached_property
    def changes(self) -> pd.DataFrame:
        """What was changed while it ran, in order: one row a change.

        ``time_s`` is when the loop saw it. ``what`` is ``downtime-limit`` (``value`` in seconds), ``max-bandwidth``
        (bytes/s, 0 for none), ``link bandwidth`` (bytes/s), ``stop`` or ``migrate_cancel`` (both NaN); ``by`` is the
        management policy, or ``changes`` where the scenario gives the time.
        """
        import pandas as pd

        events = self._recorded.events if int(self.numbers["changes"]) else np.zeros(0, dtype_of(EVENT))
        scale = np.array([_SCALES.get(int(command), math.nan) for command in events["command"]])
        table = {
            "time_s": events["t_ns"] * 1e-9,
            "what": [_CHANGED[int(command)] for command in events["command"]],
            "value": events["value"] * scale,
            "by": ["changes" if planned else str(self.scenario.management) for planned in events["planned"]],
        }
        return pd.DataFrame(table).astype({"value": float})

    @functools.cached_property
    def spread(self) -> dict[str, Any]:
        """What the fields that are drawn leave open, over `SPREAD_REPLICATES` replicates; empty if none is drawn.

        ``fields`` names them (:meth:`migkit.Scenario.drawn_fields`), ``completed`` counts the replicates that complete,
        ``total_time_s`` and ``downtime_s`` are the least, median and largest among these.
        """
        if not (fields := self.scenario.drawn_fields()):
            return {}
        from migkit.kernels import drivers

        most = effort(self.limit)
        with within(most):
            reports = drivers.run(
                records([self.scenario] * SPREAD_REPLICATES), self.engine, self.seed, np.arange(SPREAD_REPLICATES),
                own=own_functions(self.scenario), limit=most,
            )  # fmt: skip
        table = results.values(reports)
        completed = table["outcome"] == Outcome.COMPLETED
        found: dict[str, Any] = {"fields": fields, "replicates": SPREAD_REPLICATES, "completed": int(completed.sum())}
        for name in ("total_time_s", "downtime_s") if completed.any() else ():
            found[name] = [float(each(table[name][completed])) for each in (np.min, np.median, np.max)]
        return found

    def plot(self) -> Figure:
        """Draw the migration over time (:func:`migkit.figures.plot.timeline`).

        Returns
        -------
        Figure
            Which :func:`migkit.figures.plot.save` writes.
        """
        import migkit

        figure: Figure = migkit.plot.timeline(self)  # by its public name: this room is below that of the figures
        return figure

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain Python values, ``None`` for never; ``migkit run --json`` prints it."""

        def plain(value: Any) -> Any:
            return None if isinstance(value, float) and math.isnan(value) else value

        table: dict[str, Any] = {"outcome": self.outcome.label, "converged": self.converged, "sentence": self.sentence}
        table["cause"] = self.cause
        table["margin"] = (
            None
            if self.margin is None
            else {
                name: plain(round(value, 9) if isinstance(value, float) else value)
                for name, value in self.margin._asdict().items()
            }
        )
        per_device: dict[str, dict[str, Any]] = {label: {} for label in self.labels}
        for variable in results.SWEEP_VARIABLES:
            number = np.asarray(self.numbers[variable.name])
            value = (
                np.round(number, 9) if variable.unit == "s" else number
            ).tolist()  # whole nanoseconds, without noise
            if variable.name == "outcome":
                continue
            if variable.name == "culprit":
                table["culprit"] = self.labels[value] if value >= 0 else None
            elif variable.dims:
                for label, one in zip(self.labels, value, strict=True):
                    per_device[label][variable.name.removeprefix("device_")] = plain(one)
            else:
                table[variable.name] = plain(value)
        table["binds"] = self.binds
        table["assumed"] = list(self.assumed)
        table["without_effect"] = list(self.scenario.without_effect)
        table["devices"] = per_device
        if self.numbers["changes"]:
            table["changes"] = [
                {name: plain(value) for name, value in row.items()} for row in self.changes.round(9).to_dict("records")
            ]
        if self.spread:
            table["spread"] = {
                name: [round(each, 9) for each in value] if name in ("total_time_s", "downtime_s") else value
                for name, value in self.spread.items()
            }
        table["provenance"] = provenance(self.engine, self.seed) | {
            "replicate": self.replicate, "costs": self.costs,
        }  # fmt: skip
        return table

    # --- as text

    def facts(self) -> list[tuple[str, str]]:
        """The main numbers as text: name and value."""
        number = self.numbers
        facts = [("total time" if self.converged else "verdict after", seconds_text(self.verdict_time_s))]
        if self.cause is not None:
            facts.append(("cause", f"{self.cause}: {self.margin}"))
        if not math.isnan(self.downtime_s):
            parts = [f"{seconds_text(value)} {name}" for name, value in self.downtime_parts_s.items() if value > 0]
            facts.append(("downtime", seconds_text(self.downtime_s) + (f" = {' + '.join(parts)}" if parts else "")))
        facts.append(("sent", bytes_text(int(number["bytes_sent"]))))
        if self.converged:
            facts[-1] = ("sent", f"{facts[-1][1]}, {bytes_text(int(number['switchover_bytes']))} of it at the end")
        facts += [("assumed", each) for each in self.assumed]
        facts += [("no effect", each) for each in self.scenario.without_effect]
        facts.append(("limited by", self._limits()))
        if number["changes"] or isinstance(self.scenario.management, Policy):
            who = [legible(str(self.scenario.management), 60)] if self.scenario.management else []
            who += ["changes at given times"] if self.scenario.changes else []
            count = int(number["changes"])
            facts.append(("management", f"{', '.join(who)}: {count} change{'' if count == 1 else 's'}"))
        counts = (self.iterations, "iteration"), (self.sync_count, "bitmap sync")
        facts.append(("loop", ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for count, what in counts)))
        if number["throttle_percent"]:
            facts.append(("throttle", f"{int(number['throttle_percent'])} %"))
        if not math.isnan(number["dirty_limit_throttle_s"]):
            slept = seconds_text(number["dirty_limit_throttle_s"])
            facts.append(("dirty-limit", f"a vCPU sleeps {slept} whenever its dirty ring is full"))
        if spread := self.spread:
            text = f"{spread['completed']} of {spread['replicates']} replicates complete"
            if spread["completed"]:
                least, _, most = (seconds_text(value) for value in spread["total_time_s"])
                text += f", in {least} to {most}"
            facts.append(("spread", f"{text}; drawn: {', '.join(spread['fields'])}"))
        return facts

    def _limits(self) -> str:
        """What limits how fast RAM is sent, and what the others would let through."""
        found = {name: rate_text(rate) for name, rate in self.scenario.wire_limits().items()
                 if not math.isinf(rate)}  # fmt: skip
        least = found.pop(self.binds)
        others = ", ".join(f"{name} {rate}" for name, rate in found.items())
        return f"{self.binds}, {least}" + (f" ({others})" if others else "")

    def _device_rows(self) -> list[tuple[str, ...]]:
        heads = ("device", "sent", "calls", "first call", "initial data sent", "acknowledged", "starved")
        rows: list[tuple[str, ...]] = [heads]
        times = ("device_first_call_s", "device_initial_sent_s", "device_ack_s", "device_starved_s")
        for index, label in enumerate(self.labels):
            size, calls = (int(self.numbers[name][index]) for name in ("device_bytes", "device_calls"))
            moments = [float(self.numbers[name][index]) for name in times]
            texts = ["-" if math.isnan(moment) else seconds_text(moment) for moment in moments]
            rows.append((legible(label, 40), bytes_text(size), str(calls), *texts))
        return rows

    def summary(self) -> str:
        """The migration in some lines of plain text, the sentence first."""
        facts, rows = self.facts(), self._device_rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [self.sentence, "", self._settings()]
        lines += [f"{name:<14}{text}" for name, text in facts] + [""]
        for label, *cells in rows:
            padded = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("  ".join([f"{label:<{widths[0]}}", *padded]))
        return "\n".join(lines)

    def _settings(self) -> str:
        text = f"QEMU {self.scenario.qemu}, {self.scenario.walk_policy}, {self.engine} engine"
        draws = self.engine == "bitmap" or self.scenario.drawn_fields()
        text += f", seed {self.seed}, replicate {self.replicate}" if draws else ""
        return f"{text}, costs: {self.costs}"

    def __repr__(self) -> str:
        return f"<SimulatedMigration: {self.sentence}>"

    def _repr_html_(self) -> str:
        """A small table without colours of its own, for dark and light pages."""
        facts = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for name, text in self.facts()
        )
        head, *rows = self._device_rows()
        more = f"<p>… and {len(rows) - _HTML_DEVICES} more devices.</p>" if len(rows) > _HTML_DEVICES else ""
        heads = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows[:_HTML_DEVICES]
        )
        return (
            f"<div><p><strong>{html.escape(self.sentence)}</strong><br>{html.escape(self._settings())}</p>"
            f"<table>{facts}</table><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{more}</div>"
        )


def _never_is_nan(column: np.ndarray) -> np.ndarray:
    return np.where(column < 0, np.nan, column)


def simulate(
    scenario: Scenario | Mapping[str, Any],
    engine: str = "expected",
    seed: int = 0,
    replicate: int = 0,
    limit: str = LIMIT,
) -> SimulatedMigration:
    """Simulate one migration.

    Parameters
    ----------
    scenario : Scenario or mapping
        What migrates, over which link, with which settings; or the fields of a scenario by name.
    engine : {"expected", "bitmap"}, default "expected"
        RAM as expected values (deterministic, microseconds) or as a page-exact bitmap.
    seed : int, default 0
        Root seed of the random draws, 0 or more: those of the bitmap engine, and of
        :meth:`migkit.Scenario.drawn_fields`.
    replicate : int, default 0
        Number of the repetition, 0 or more; each has its own draws, the same for every scenario.
    limit : duration, default "20 s"
        Computing that the migration may take (:func:`migkit.run.limits.effort`).

    Returns
    -------
    SimulatedMigration

    Raises
    ------
    ScenarioError
        If an argument is refused, the migration takes more computing than `limit`, or the bitmap engine more memory
        than the machine has.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, simulate
    >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> simulate(scenario).converged
    True
    """
    scenario = as_scenario(scenario)
    check_engine(engine)
    seed = check_whole_number("seed", seed)
    replicate = check_whole_number("replicate", replicate)
    numba_threads()
    announce_compilation()
    from migkit.kernels import drivers

    found = records([scenario])
    most = effort(limit)
    if engine == "bitmap":
        check_bitmap(found)
    labels = tuple(device_labels(scenario))
    numbers: dict[str, Any] = {}
    with within(most):
        reports = drivers.run(found, engine, seed, replicate, own=own_functions(scenario), limit=most)
    table = results.values(reports)
    for variable in results.SWEEP_VARIABLES:
        value = table[variable.name][0]
        numbers[variable.name] = value[: len(labels)] if variable.dims else value.item()
    numbers["outcome"] = Outcome(numbers["outcome"])
    numbers["device_initial_bytes"] = found.devices["initial_bytes"][0, : len(labels)]
    return SimulatedMigration(scenario, engine, seed, replicate, labels, numbers, limit)
