"""Fit a scenario to what QEMU or libvirt said of a migration: ``migkit calibrate`` of what ``migkit read`` reads.

Such answers tell of the migration as a whole, at the times at which somebody asked. What they tell is fitted: how fast
bytes went out, what was dirtied between syncs, the zero pages, the setup and the downtime. What they do not tell keeps
its default and is named.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.qemu.answers import Answers
from migkit.qemu.calibration import rounded
from migkit.qemu.costs import NORMAL_PAGE_WIRE_BYTES
from migkit.qemu.drawn import draw_in_the_middle, drawn_regions, guest_of, rounded_guest, swept
from migkit.qemu.running import profile_of
from migkit.qemu.working_set import PAGE, DirtyVolumes, WorkingSet, fit_working_set
from migkit.results import Outcome, bytes_text, legible, seconds_text
from migkit.scenario.errors import ScenarioError
from migkit.scenario.parts import Guest, HostCosts, Link, Migration
from migkit.scenario.scenario import Scenario
from migkit.scenario.units import Bytes, Rate, Seconds, format_rate, parse_bytes, parse_rate
from migkit.scenario.versions import profile as known_profile

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LogCalibration", "calibrate_log"]

MIB, GIB = 1 << 20, 1 << 30
DEFAULT_BANDWIDTH = 128 * MIB
LIMITED = 0.03
"""Throughput that is so near to max-bandwidth, relative, is limited by it."""
LEAST_PERIOD_S = 1.0
"""QEMU reports a dirty rate of at least a second."""
_NOT_SEEN = 0.3
"""Relative deviation of a period between syncs that no answer saw begin."""
_AT_THE_END = {
    "total_time_s": ("total_time_s", "s"),
    "downtime_s": ("downtime_s", "s"),
    "bytes_sent": ("transferred_bytes", "B"),
    "sync_count": ("sync_count", "1"),
}
"""What a completed migration says, by the result variable: column of the answers, and unit."""
_CANDIDATES = 600
"""Draws of which those are kept that end as the migration did."""
_CLOSE = {"total_time_s": 0.03, "bytes_sent": 0.03, "sync_count": 0.2}
"""How close, relative: a standard deviation."""
_MISSED = 0.05
"""A quantity that was measured is missed if it lies this much outside of the draws, relative."""
_BLOCK_S, _BLOCKS = 0.3, 12
"""A speed is the mean over at most so many blocks, at least so long: windows of 100 ms beat with polls."""


@dataclass(frozen=True, eq=False)
class LogCalibration:
    """A scenario that was fitted to answers about one migration.

    Attributes
    ----------
    scenario : Scenario
        The migration with the draw in the middle, ready to be simulated and changed.
    parameters : DataFrame
        Indexed by field: ``value``, ``standard_error`` (missing where there is one value only), ``unit``, ``answers``
        that tell it, ``note``: from what.
    working_set : WorkingSet or None
        What the guest writes; None if nothing tells it.
    checks : DataFrame
        How well it fits: one row a quantity that was measured at the end, ``measured`` beside ``low``, ``middle`` and
        ``high`` of the simulated draws (quantiles 0.05, 0.5, 0.95), in SI units.
    unknown : tuple of str
        What the answers do not tell, a sentence each.
    notes : tuple of str
        How ambiguous answers were read.
    sources : tuple of str
        The files.
    drawn : str
        Which draw the scenario has, in a sentence; empty if nothing is drawn.
    """

    scenario: Scenario
    parameters: pd.DataFrame
    working_set: WorkingSet | None
    checks: pd.DataFrame
    unknown: tuple[str, ...]
    notes: tuple[str, ...]
    sources: tuple[str, ...]
    drawn: str = ""

    @property
    def costs(self) -> HostCosts:
        """What was fitted of the host; the rest has its defaults."""
        return self.scenario.costs

    def to_toml(self) -> str:
        """Write the costs as a scenario reads them, each with where it comes from."""
        lines = [f"# Costs of a host, fitted by migkit calibrate to {legible(', '.join(self.sources), 300)}."]
        lines += [f'name = "{self.costs.name}"'] if self.costs.name else []
        for name in (name for name in HostCosts.model_fields if name != "name"):
            told = f"costs.{name}" in self.parameters.index
            note = self.parameters.loc[f"costs.{name}", "note"] if told else "assumed: the answers do not tell it"
            value = getattr(self.costs, name)
            written = f'"{value}"' if isinstance(value, Seconds | Bytes) else repr(value)  # shares are numbers
            lines.append(f"{name} = {written}  # {note}")
        return "\n".join(lines) + "\n"

    def scenario_toml(self) -> str:
        """Write the scenario as TOML, below a comment that says what it was fitted to and which draw it has."""
        sentences = [f"Fitted by migkit calibrate to {legible(', '.join(self.sources), 300)}.", self.drawn]
        return "".join(f"# {each}\n" for each in sentences if each) + self.scenario.to_toml()

    def summary(self) -> str:
        """What was fitted, how well it fits and what the answers do not tell, as plain text."""
        lines = [f"Fitted to {legible(', '.join(self.sources), 300)}:"]
        for name, row in self.parameters.iterrows():
            error = f" +- {_text(row['standard_error'], row['unit'])}" if np.isfinite(row["standard_error"]) else ""
            lines.append(f"  {name:34}{_text(row['value'], row['unit']) + error:30}{row['note']}")
        if self.working_set is not None:
            lines += ["", f"Working set: {self.working_set.summary()}", "", self.drawn]
        if len(self.checks):
            lines += ["", "Measured, and simulated with the fit (5 %, 50 % and 95 % of the draws):"]
            for name, row in self.checks.iterrows():
                cells = [_text(row[column], row["unit"]) for column in ("measured", "low", "middle", "high")]
                lines.append(f"  {name:16}{cells[0]:>12}    {', '.join(cells[1:])}")
                if _is_missed(row):
                    lines.append(f"  The draws miss the {name} that was measured: the fit does not explain it.")
        lines += ["", *(f"The answers do not tell {each}." for each in self.unknown)]
        lines += [f"Note: {note}" for note in self.notes]
        return "\n".join(lines)


def _is_missed(row: pd.Series) -> bool:
    """Whether a measured quantity lies more than a little outside of the draws."""
    slack = _MISSED * abs(row["measured"])
    return not row["low"] - slack <= row["measured"] <= row["high"] + slack


def _text(value: float, unit: str) -> str:
    if unit == "s":
        return seconds_text(float(value))
    if unit == "B":
        return bytes_text(float(value))
    return f"{value / 1e6:.4g} MB/s" if unit == "B/s" else f"{value:.4g}"


def calibrate_log(
    answers: Answers | Sequence[Answers],
    *,
    ram: Any = None,
    link: Any = None,
    accel: str = "kvm",
    qemu: str | None = None,
    name: str = "",
    draws: int = 200,
    seed: int = 0,
) -> LogCalibration:
    """Fit a scenario to what QEMU or libvirt said of one migration, or of a guest before it.

    Parameters
    ----------
    answers : Answers or sequence of Answers
        What :func:`migkit.qemu.read` read; several are about one guest, such as dirty rates and a migration.
    ram : size, optional
        RAM of the guest, where no answer has it: dirty rates alone do not.
    link : rate, optional
        What the network carries, where that is known: then a slower stream shows the cost of a page.
    accel : {"kvm", "tcg"}, default "kvm"
        Answers do not tell it.
    qemu : str, optional
        Profile, where no answer tells the version.
    name : str, default ""
        What results call the costs.
    draws : int, default 200
        Draws of what the guest writes, 20 to 1000.
    seed : int, default 0
        Of the draws.

    Returns
    -------
    LogCalibration

    Raises
    ------
    ScenarioError
        If the answers tell neither how fast bytes went out nor what the guest writes, no RAM is known, or an argument
        is refused.

    Examples
    --------
    >>> from migkit import qemu
    >>> text = '''
    ... {"return": {"status": "completed", "total-time": 9000, "downtime": 80, "setup-time": 2, "ram": {
    ...   "total": 1073741824, "transferred": 1180000000, "mbps": 1049, "dirty-sync-count": 3,
    ...   "normal": 287500, "duplicate": 100, "page-size": 4096}}}
    ... '''
    >>> found = qemu.calibrate_log(qemu.read(text))
    >>> found.scenario.migration.max_bandwidth, found.costs.setup
    (128 MiB/s, 2 ms)
    """
    several = (answers,) if isinstance(answers, Answers) else tuple(answers)
    if not several or not all(isinstance(each, Answers) for each in several):
        raise ScenarioError("must be what migkit.qemu.read returns, one or several", "answers")
    if isinstance(draws, bool) or not isinstance(draws, int) or not 20 <= draws <= 1000:
        raise ScenarioError("must be a whole number from 20 to 1000", "draws", draws)
    log = _Log(several)
    log.take_ram(None if ram is None else int(parse_bytes(ram)))
    log.take_version(qemu)
    log.take_limits()
    log.take_speed(None if link is None else float(parse_rate(link)))
    log.take_zero_pages()
    log.take_costs(name)
    volumes = log.volumes()
    if volumes is None and log.rate is None:
        raise ScenarioError("tell neither how fast bytes went out nor what the guest writes: a migration that has "
                            "begun, or measured dirty rates, are needed", "answers")  # fmt: skip
    fit = None if volumes is None else fit_working_set(volumes, log.ram, _CANDIDATES, seed)
    return log.result(fit, accel, draws, seed)


class _Log:
    """The answers of one guest, and what has been fitted so far."""

    def __init__(self, answers: tuple[Answers, ...]) -> None:
        import pandas as pd

        self.answers = answers
        tables = [each.migrations for each in answers if len(each.migrations)]
        rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame({"status": []})
        if "page_size_bytes" in rows and (rows["page_size_bytes"].dropna() != PAGE).any():
            raise ScenarioError("has pages of another size than 4 KiB, which is not fitted here", answers[0].source)
        self.rows = rows
        self.parameters: dict[str, dict[str, Any]] = {}
        self.unknown: list[str] = []
        self.notes = [note for each in answers for note in each.notes]
        self.capabilities = next((each.capabilities for each in answers if each.capabilities is not None), None)
        self.rate: float | None = None
        self.fresh = 0.0
        self.zero_bytes = 0
        self.link = 0.0

    def column(self, name: str) -> pd.Series:
        """A column of the migrations, missing values left out."""
        import pandas as pd

        return self.rows[name].dropna() if name in self.rows else pd.Series(dtype=float)

    def fitted(self, field: str, value: float, error: float, unit: str, answers: int, note: str) -> None:
        """Keep what was fitted of a field."""
        self.parameters[field] = {
            "value": value, "standard_error": error, "unit": unit, "answers": answers, "note": note,
        }  # fmt: skip

    @property
    def ended(self) -> pd.Series | None:
        """The answer about the completed migration, if there is one."""
        rows = self.rows[self.rows["status"] == "completed"]
        return rows.iloc[-1] if len(rows) else None

    @property
    def under_way(self) -> pd.DataFrame:
        """Answers while pre-copy ran, one for each time, in their order."""
        rows = self.rows[self.rows["status"].isin(["active", "unbounded", "bounded"])]
        if not {"total_time_s", "transferred_bytes"} <= set(rows):
            return rows.iloc[:0]
        rows = rows.dropna(subset=["total_time_s", "transferred_bytes"]).sort_values("total_time_s")
        if "downtime_bytes" in rows:
            rows = rows[~(rows["downtime_bytes"] > 0)]  # the guest has stopped
        return rows.drop_duplicates("total_time_s")

    # --- one quantity after the other

    def take_ram(self, given: int | None) -> None:
        """RAM: what the answers say, or what was given."""
        said = self.column("ram_total_bytes")
        if len(said):
            if given is not None and abs(given - said.iloc[-1]) > 0.05 * given:
                raise ScenarioError(f"is not the {int(said.iloc[-1])} bytes that the answers say: leave it out", "ram",
                                    given)  # fmt: skip
            self.ram = int(said.iloc[-1]) // PAGE * PAGE
            self.fitted("guest.ram", self.ram, np.nan, "B", len(said), "as the answers say")
        elif given is not None:
            self.ram = given // PAGE * PAGE
        else:
            raise ScenarioError("is missing: the answers do not say how much RAM the guest has", "ram")

    def take_version(self, given: str | None) -> None:
        """The profile: that of the version, or what was given."""
        version = next((each.version for each in self.answers if each.version is not None), None)
        if given is not None:
            self.profile = known_profile(given).name
        elif version is not None:
            major, minor, *_ = (int(part) for part in version.split("."))
            self.profile, note = profile_of((major, minor))
            self.notes += [f"{note}."] if note else []
        else:
            self.profile = Scenario.model_fields["qemu"].default
            self.unknown.append(f"the version of QEMU: profile {self.profile} is assumed")

    def take_limits(self) -> None:
        """max-bandwidth and downtime-limit, where the answers say them."""
        self.limits: dict[str, Any] = {}
        for name, column, default in (
            ("max_bandwidth", "max_bandwidth_bytes_per_s", None),
            ("downtime_limit", "downtime_limit_s", 0.3),
        ):
            said = self.column(column)
            if len(said):
                if said.nunique() > 1:
                    self.notes.append(f"{name} changed while it ran: the last value is taken.")
                kind = Rate if name == "max_bandwidth" else Seconds
                self.limits[name] = kind(float(said.iloc[-1]))
            elif default is not None:
                self.unknown.append(f"the downtime-limit: QEMU's default, {default * 1e3:g} ms, is assumed")

    def first_pass(self, rows: pd.DataFrame) -> np.ndarray:
        """Which answers came during the first pass."""
        if {"normal_pages", "zero_pages"} <= set(rows):
            return ((rows["normal_pages"] + rows["zero_pages"]) * PAGE < 0.999 * self.ram).to_numpy()
        if "sync_count" in rows:
            return (rows["sync_count"] <= 1).to_numpy()
        return np.ones(len(rows), dtype=bool)

    def take_speed(self, link: float | None) -> None:
        """How fast bytes went out, in the first pass and later, and whether max-bandwidth or the link was the limit."""
        rows = self.under_way
        found: dict[bool, tuple[float, float, int]] = {}
        if len(rows):
            first, time, sent = self._progress(rows)
            for phase in (True, False):
                pieces = (first[1:] == phase) & (first[:-1] == phase) & (np.diff(time) > 0)
                if pieces.any():
                    found[phase] = _speed(np.diff(time)[pieces], np.diff(sent)[pieces])
        found = {phase: each for phase, each in found.items() if each[0] > 0}
        from_what = "transferred over time"
        if not found:
            ended = self.ended
            source = rows if len(rows) else self.rows
            rates = source["bandwidth_bytes_per_s"].dropna() if "bandwidth_bytes_per_s" in source else []
            if ended is not None and {"total_time_s", "transferred_bytes"} <= set(ended.dropna().index):
                busy = ended["total_time_s"] - _or(ended.get("setup_time_s"), 0.0) - _or(ended.get("downtime_s"), 0.0)
                if busy > 0:
                    found[True] = float(ended["transferred_bytes"] / busy), np.nan, 1
                    from_what = "transferred over the whole time, a mean"
            elif len(rates):
                found[True] = _speed(np.ones(len(rates)), np.asarray(rates, float))
                from_what = "the throughput of single windows"
        if not found:
            self.unknown.append("how fast bytes go out")
            self.link = link if link is not None else 0.0
            if not self.link:
                raise ScenarioError("is missing: the answers do not say how fast bytes go out", "link")
            return
        self.rate, error, count = found.get(False, found.get(True, (0.0, 0.0, 0)))
        if False in found and True in found and found[False][2] < 3 <= found[True][2]:
            self.rate, error, count = found[True]
        limit = float(self.limits.get("max_bandwidth", 0.0))
        if "max_bandwidth" not in self.limits:
            if abs(self.rate / DEFAULT_BANDWIDTH - 1) < LIMITED:
                limit = float(DEFAULT_BANDWIDTH)
                self.limits["max_bandwidth"] = Rate(limit)
                self.notes.append("The throughput is that of QEMU's default max-bandwidth, 128 MiB/s, which is taken "
                                  "for the limit.")  # fmt: skip
            else:
                self.unknown.append("whether max-bandwidth or the link was the limit: the link is taken for it")
                self.limits["max_bandwidth"] = Rate(0)
        windows = rows["bandwidth_bytes_per_s"].dropna() if "bandwidth_bytes_per_s" in rows else []
        fastest = max([each for each, *_ in found.values()] + ([float(np.median(windows))] if len(windows) else []))
        if limit and fastest > (1 - LIMITED) * limit:
            self.fitted("throughput", self.rate, error, "B/s", count, f"{from_what}: max-bandwidth is the limit")
            self.link = link if link is not None else rounded(10 * self.rate)
            if link is None:
                self.unknown.append("what the link carries: more than max-bandwidth, ten times that is assumed")
            return
        if link is not None and link > self.rate / (1 - LIMITED):
            page = NORMAL_PAGE_WIRE_BYTES / self.rate
            self.fitted("costs.page", page, error / self.rate * page, "s", count,
                        f"{from_what}: the thread is slower than the link that was given")  # fmt: skip
            self.link = link
        else:
            self.fitted("link.bandwidth", self.rate, error, "B/s", count, from_what)
            self.link = rounded(self.rate)
            if link is not None and link < (1 - LIMITED) * self.rate:
                self.notes.append(f"More went out than the link that was given carries: {format_rate(Rate(link))} of "
                                  f"{self.rate / 1e6:.4g} MB/s; what went out is taken.")  # fmt: skip
            if link is None:
                self.unknown.append("whether the network, the destination or the CPU time of a page is the limit: it "
                                    "is all in link.bandwidth")  # fmt: skip
        if True in found and False in found and min(found[True][2], found[False][2]) >= 3:
            slow, slow_error, slow_count = found[True]
            if slow < self.rate - 3 * np.hypot(slow_error, error) and slow < (1 - LIMITED) * self.rate:
                self.fresh = slow
                self.fitted("link.fresh_bandwidth", slow, slow_error, "B/s", slow_count, f"{from_what}, first pass")

    def _progress(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whether it was in the first pass, when, and bytes sent: from the end of setup to the stop of the guest."""
        first = [True, *self.first_pass(rows)]
        time = [_or(rows["setup_time_s"].iloc[-1] if "setup_time_s" in rows else None, 0.0), *rows["total_time_s"]]
        sent = [0.0, *rows["transferred_bytes"]]
        ended = self.ended
        if ended is not None and {"total_time_s", "transferred_bytes", "downtime_s", "downtime_bytes"} <= set(
            ended.dropna().index
        ):
            first.append(False)
            time.append(ended["total_time_s"] - ended["downtime_s"])
            sent.append(ended["transferred_bytes"] - ended["downtime_bytes"])
            if len(rows) == 1 or first[-2]:  # else a piece would be missing between the passes
                first[-1] = first[-2]
        order = np.argsort(time, kind="stable")
        return np.array(first)[order], np.array(time, float)[order], np.array(sent, float)[order]

    def take_zero_pages(self) -> None:
        """Zero pages of the first pass."""
        said = self.column("zero_pages")
        if not len(said):
            self.unknown.append("how many pages are zero: none is assumed")
            return
        rows = self.rows.dropna(subset=["zero_pages"])
        first = rows[self.first_pass(rows)] if "normal_pages" in rows else rows.iloc[:0]
        whole = rows["zero_pages"].iloc[-1] if len(first) < len(rows) else first["zero_pages"].iloc[-1]
        if len(first) == len(rows):
            self.notes.append("No answer came after the first pass: pages that were not sent yet may be zero too.")
        self.zero_bytes = int(min(whole * PAGE, self.ram))
        self.fitted("zero pages", self.zero_bytes, np.nan, "B", len(rows), "pages sent as zero pages")

    def take_costs(self, name: str) -> None:
        """Setup, the part of the downtime in which nothing is sent, and the cost of a page where it shows."""
        given: dict[str, Any] = {"name": name}
        setup = self.column("setup_time_s")
        if len(setup):
            self.fitted("costs.setup", float(setup.iloc[-1]), np.nan, "s", len(setup), "setup time")
            given["setup"] = Seconds(float(setup.iloc[-1]))
        ended, defaults = self.ended, HostCosts()
        told = ended is not None and {"downtime_s", "downtime_bytes"} <= set(ended.dropna().index)
        if ended is not None and told and self.rate:
            rest = float(ended["downtime_s"] - ended["downtime_bytes"] / self.rate)
            rest -= float(defaults.vm_stop) + float(defaults.device_state)
            given["destination_load"] = Seconds(max(rest, 0.0))
            self.fitted("costs.destination_load", max(rest, 0.0), np.nan, "s", 1,
                        "downtime without what is sent in it, less the assumed vm_stop and device_state")  # fmt: skip
        if "costs.page" in self.parameters:
            given["page"] = Seconds(self.parameters["costs.page"]["value"])
        elif self.rate and NORMAL_PAGE_WIRE_BYTES / self.rate < float(defaults.page):
            most = NORMAL_PAGE_WIRE_BYTES / self.rate
            given["page"] = Seconds(most)
            self.fitted("costs.page", most, np.nan, "s", 1, "at most this, or the throughput could not be reached")
        default = [cost for cost in HostCosts.model_fields if cost not in given]
        self.unknown.append(f"these costs, which have their defaults: {', '.join(default)}")
        self.costs = HostCosts(**given)

    # --- what the guest writes

    def volumes(self) -> DirtyVolumes | None:
        """Dirty volumes of windows: measured dirty rates, those that query-migrate reports, and what was sent again."""
        parts = [*self._measured(), *self._reported()]
        parts += [] if parts else self._sent_again()
        if not parts:
            self.unknown.append("what the guest writes: nothing is assumed to be written")
            return None
        return DirtyVolumes.together(parts)

    def _measured(self) -> list[DirtyVolumes]:
        """Of calc-dirty-rate."""
        found = []
        for each in self.answers:
            rows = each.dirty_rates
            if not {"dirty_bytes_per_s", "calc_time_s"} <= set(rows):
                continue
            rows = rows.dropna(subset=["dirty_bytes_per_s", "calc_time_s"])
            if not len(rows):
                continue
            sampled = np.full(len(rows), np.inf)
            if "sample_pages_per_gib" in rows:
                pages = rows["sample_pages_per_gib"].to_numpy() * self.ram / GIB
                sampled = np.where(np.isfinite(pages), np.maximum(pages, 1.0), np.inf)
            found.append(DirtyVolumes.of_rates(rows["calc_time_s"], rows["dirty_bytes_per_s"], sampled, MIB))
        return found

    def _reported(self) -> list[DirtyVolumes]:
        """Of query-migrate: the rate of the period between two syncs that are at least a second apart."""
        rows = self.rows
        if not {"dirty_pages_per_s", "total_time_s"} <= set(rows):
            return []
        rows = rows[rows["status"].isin(["active", "unbounded", "bounded"])].dropna(subset=["total_time_s"])
        rows = rows.sort_values("total_time_s")
        if "throttle_percent" in rows:
            rows = rows[~(rows["throttle_percent"] > 0)]  # a throttled guest writes less than it would
        rows = rows.reset_index(drop=True)
        rate = rows["dirty_pages_per_s"].to_numpy(float) * PAGE
        time = rows["total_time_s"].to_numpy(float)
        syncs = _filled(rows, "sync_count", np.nan)
        left = _filled(rows, "ram_remaining_bytes", 0.0)
        setup = _or(rows["setup_time_s"].iloc[-1] if "setup_time_s" in rows and len(rows) else None, 0.0)
        found: list[tuple[list[float], float, float]] = []
        intervals: list[float] = []
        synced, count, unsent, blur = setup, 1.0, 0.0, 0.0
        for number in range(len(rows)):
            before = time[number - 1] if number else synced
            more = syncs[number] - count
            reported = np.isfinite(rate[number]) and (number == 0 or rate[number] != rate[number - 1])
            if number == 0 and reported:  # it is not known when the last sync was, nor since when the rate is
                mean = max((time[0] - setup) / max(_or(syncs[0], 1.0), 1.0), 1e-3)
                intervals = [mean] * max(1, math.ceil(LEAST_PERIOD_S / mean))
                blur, synced, count = _NOT_SEEN * sum(intervals), time[0] - mean / 2, _or(syncs[0], 1.0)
            elif more >= 1 or (reported and not intervals):
                at = (time[number] + before) / 2  # when the sync was, between two answers
                times = max(int(_or(more, 1.0)), 1)
                intervals += [(at - synced) / times] * times
                # What was not sent yet is dirty already, and not counted again: in the first pass a piece of RAM like
                # any other, later a piece of the working set.
                waiting = left[number - 1] if number else 0.0
                unsent += waiting * (waiting / self.ram if count <= 1 else 1.0)
                blur += (time[number] - before) / 2
                synced, count = at, syncs[number] if np.isfinite(syncs[number]) else count
            if reported:
                period = max(sum(intervals), LEAST_PERIOD_S)
                blurred = min(blur / period, 0.5)
                volume = rate[number] * period
                found.append((intervals, volume * (1 - blurred), volume * (1 + blurred) + unsent))
                intervals, unsent, blur = [], 0.0, 0.0
        if not found:
            return []
        if len(rows) == 1:
            self.notes.append(
                "One dirty rate was reported, and not for how long: the mean time between syncs is taken."
            )
        longest = max(len(each) for each, *_ in found)
        windows = np.array([[*each, *[0.0] * (longest - len(each))] for each, *_ in found])
        low = np.array([each for _, each, _ in found])
        high = np.array([each for *_, each in found])
        # Pages that are dirtied in several windows count in each.
        low = np.minimum(low, 0.999 * self.ram * (windows > 0).sum(axis=1))
        return [DirtyVolumes(windows, low, np.maximum(high, low + PAGE), np.full(len(found), np.inf))]

    def _sent_again(self) -> list[DirtyVolumes]:
        """Of a completed migration: pages beyond the first pass, all dirtied since it began."""
        ended = self.ended
        needed = {"normal_pages", "zero_pages", "sync_count", "transferred_bytes"}
        if ended is None or not needed <= set(ended.dropna().index) or not self.rate:
            return []
        before_stop = ended["transferred_bytes"] - _or(ended.get("downtime_bytes"), 0.0)
        if before_stop < 0.95 * (self.ram - self.zero_bytes):
            return []  # the guest stopped before the first pass was over: what it wrote was sent only once
        again = (ended["normal_pages"] + ended["zero_pages"]) * PAGE - self.ram
        passes = max(float(ended["sync_count"]) - (1.0 if self.profile != "11.1" else 0.0), 1.0)
        first_pass_s = max((self.ram - self.zero_bytes) / (self.fresh or self.rate), 0.01)
        high = max(float(again), 0.0) + PAGE
        self.notes.append("The working set is fitted to how much was sent again: the second pass had at least the mean "
                          "of all later ones and at most all of it.")  # fmt: skip
        one = np.ones(1)
        low = np.full(1, -np.inf) if again < PAGE else max(float(again), 0.0) / passes * one
        return [DirtyVolumes(first_pass_s * one[:, None], np.minimum(low, 0.999 * self.ram), high * one, np.inf * one)]

    # --- the result

    def result(self, fit: WorkingSet | None, accel: str, count: int, seed: int) -> LogCalibration:
        """The scenario, and how what it predicts compares with the end of the migration."""
        import pandas as pd

        on = self.capabilities or ()
        throttled = bool((self.column("throttle_percent") > 0).any())
        if self.capabilities is None:
            self.unknown.append("which capabilities are on"
                                + (", but that the vCPUs were throttled" if throttled else "")
                                + ": no others are assumed")  # fmt: skip
        migration = Migration(**self.limits, auto_converge="auto-converge" in on or throttled,
                              return_path="return-path" in on)  # fmt: skip
        guest = Guest(ram=Bytes(self.ram), accel=accel, zero_share=min(self.zero_bytes / self.ram, 1.0))
        link = Link(bandwidth=Rate(self.link), fresh_bandwidth=Rate(rounded(self.fresh)))
        scenario = Scenario(guest=guest, link=link, migration=migration, costs=self.costs, qemu=self.profile)
        self.unknown.append(f"the accelerator: {accel} is assumed, which decides how the dirty log is kept")
        drawn = ""
        if fit is None:
            draws = swept(scenario, {"guest.zero_share": [float(guest.zero_share)]})
        else:
            axes = drawn_regions(guest, fit, self.zero_bytes, None, seed)
            draws = swept(scenario.replace("guest", guest_of(guest, axes, 0)), axes)
            kept = self._kept(draws, count, seed)
            axes, draws = (
                {path: [values[each] for each in kept] for path, values in axes.items()},
                draws.isel(draw=kept),
            )
            fit = fit.of(kept)
            middle = draw_in_the_middle(draws)
            scenario = scenario.replace("guest", rounded_guest(guest_of(guest, axes, middle)))
            drawn = _drawn(middle, count, str(fit.draws["kind"].iloc[middle]), scenario.guest)
            self.unknown += [*fit.unknown, "where in RAM the working set lies: it is drawn"]
        parameters = pd.DataFrame.from_dict(self.parameters, orient="index")
        parameters.index.name = "field"
        return LogCalibration(scenario, parameters, fit, self._checks(draws), tuple(self.unknown), tuple(self.notes),
                              tuple(each.source for each in self.answers), drawn)  # fmt: skip

    def _kept(self, draws: Any, count: int, seed: int) -> np.ndarray:
        """Draws that end as the migration did, as often as they are close to it; all alike where none is close."""
        rng, ended = np.random.default_rng([seed, 2]), self.ended
        weights = np.ones(draws.sizes["draw"])
        if ended is not None and not (self.column("throttle_percent") > 0).any():
            far = np.zeros(len(weights))
            for name, close in _CLOSE.items():
                measured = _or(ended.get(_AT_THE_END[name][0]), np.nan)
                if np.isfinite(measured):
                    far += ((draws[name].values / max(measured, 1e-3) - 1) / close) ** 2
            completed = draws["outcome"].values == Outcome.COMPLETED
            close_by = np.where(completed, np.exp(-far / 2), 0.0)
            if close_by.sum() ** 2 >= 5 * np.sum(close_by**2) > 0:
                weights = close_by
            else:
                self.notes.append("Hardly a draw of what the guest writes ends as the migration did, so all of them "
                                  "are kept: see how well they fit.")  # fmt: skip
        edges = np.cumsum(weights) / weights.sum()
        places = (rng.random() + np.arange(count)) / count
        return np.minimum(np.searchsorted(edges, places), len(weights) - 1)

    def _checks(self, draws: Any) -> pd.DataFrame:
        import pandas as pd

        ended, found = self.ended, {}
        completed = draws["outcome"].values == Outcome.COMPLETED
        if ended is None:
            return pd.DataFrame()
        found["completed"] = {"measured": 1.0, "low": completed.mean(), "middle": completed.mean(),
                              "high": completed.mean(), "unit": "1"}  # fmt: skip
        for name, (column, unit) in _AT_THE_END.items():
            if _or(ended.get(column), -1.0) >= 0 and completed.any():
                low, middle, high = np.quantile(draws[name].values[completed].astype(float), [0.05, 0.5, 0.95])
                found[name] = {
                    "measured": float(ended[column]), "low": low, "middle": middle, "high": high, "unit": unit,
                }  # fmt: skip
        return pd.DataFrame.from_dict(found, orient="index")


def _drawn(number: int, count: int, kind: str, guest: Guest) -> str:
    """Which draw a scenario has, in a sentence."""
    written = " and ".join(f"{bytes_text(region.size)} written at {_text(region.write_rate, 'B/s')}"
                           for region in guest.regions if region.size > PAGE or region.write_rate >= 1e3)  # fmt: skip
    share = guest.regions[0].vcpu_share
    return (f"The scenario has draw {number} of {count}, whose total time is in the middle: {kind}, {written}, by a "
            f"writer that needs {100 * share:.3g} % of its vCPU.")  # fmt: skip


def _filled(rows: pd.DataFrame, name: str, missing: float) -> np.ndarray:
    return rows[name].fillna(missing).to_numpy(float) if name in rows else np.full(len(rows), missing)


def _or(value: Any, default: float) -> float:
    return default if value is None or value != value else float(value)


def _speed(seconds: np.ndarray, sent: np.ndarray) -> tuple[float, float, int]:
    """Mean speed of some pieces of time, its standard error, and how many there are."""
    speed = float(sent.sum() / seconds.sum())
    blocks = int(np.clip(seconds.sum() / _BLOCK_S, 1, min(_BLOCKS, len(seconds))))
    parts = np.array_split(np.arange(len(seconds)), blocks)
    seconds, sent = (np.array([values[part].sum() for part in parts]) for values in (seconds, sent))
    count = len(seconds)
    if count < 2:
        return speed, np.nan, count
    off = sent - speed * seconds
    return speed, float(np.sqrt(np.sum(off**2) * count / (count - 1)) / seconds.sum()), count
