"""Predict the migration of a guest before anything is migrated, with what is not known about it left open.

What a guest writes is known as draws (:class:`migkit.qemu.working_set.WorkingSet`). Each draw is a migration of its
own: how many of them complete, and how far their times differ, is the uncertainty of the answer.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.analysis.frontier import frontier
from migkit.qemu.costs import XBZRLE_PAGE_S
from migkit.qemu.drawn import LEAST_SHARE, draw_in_the_middle, drawn_regions, guest_of, rounded_guest, swept
from migkit.qemu.running import RunningGuest, ask_running
from migkit.qemu.working_set import PAGE, WorkingSet, fit_working_set
from migkit.results import Outcome, bytes_text, seconds_text
from migkit.run.simulate import simulate
from migkit.scenario.errors import ScenarioError
from migkit.scenario.parts import Guest, HostCosts, Link, Migration
from migkit.scenario.scenario import Scenario
from migkit.scenario.units import Bytes, Rate, Seconds, parse_rate
from migkit.scenario.versions import MAX_DOWNTIME_LIMIT_S, profile

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Change", "Forecast", "forecast", "predict_running"]

WANTED = 0.95
"""Share of the draws that must complete before a change is said to make the migration converge."""
MIDDLE = 0.05, 0.5, 0.95
"""Quantiles that are told."""
SCAN, TOLERANCE = 9, 0.01
RING = 4096
"""Entries of a dirty ring whose size nobody tells: an assumption, which the answer names."""
_MIB = 1 << 20


@dataclass(frozen=True)
class Change:
    """A change of parameters, and what it does.

    Attributes
    ----------
    parameters : dict
        QMP's names and the values to set; a max-bandwidth of 0 is no limit.
    completed : float
        Share of the draws that complete with it.
    total_time_s, downtime_s : tuple of float or None
        Quantiles 0.05, 0.5 and 0.95 over these; None if none completes.
    throttle_percent : float
        Median throttle of the vCPUs at the end.
    """

    parameters: dict[str, Any]
    completed: float
    total_time_s: tuple[float, ...] | None
    downtime_s: tuple[float, ...] | None
    throttle_percent: float

    @property
    def enough(self) -> bool:
        """Whether at least 95 % of the draws complete."""
        return self.completed >= WANTED

    @property
    def sentence(self) -> str:
        """What it does, in one sentence."""
        what = " and ".join(f"{name} = {_shown(value)}" for name, value in self.parameters.items())
        text = f"{what}: {_share(self.completed)} of the draws complete"
        if self.total_time_s is not None and self.downtime_s is not None:
            text += f", in {seconds_text(self.total_time_s[1])}, downtime {seconds_text(self.downtime_s[1])}"
        if self.throttle_percent > 0:
            text += f", vCPUs throttled by {self.throttle_percent:.0f} %"
        return f"{text}."


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Rate):
        return "0 (no limit)" if not value else f"{value / _MIB:g} MiB/s"
    return f"{float(value) * 1e3:g} ms" if isinstance(value, Seconds) else str(value)


def _share(share: float) -> str:
    return f"{share:.1%}".replace(".0%", "%")


@dataclass(frozen=True, eq=False)
class Forecast:
    """A migration that has not begun, predicted.

    Attributes
    ----------
    scenario : Scenario
        The migration with the draw in the middle: :func:`migkit.simulate` and others take it.
    draws : Dataset
        What :func:`migkit.sweep` returns over the dimension ``draw``.
    working_set : WorkingSet
        What the guest writes.
    changes : tuple of Change
        The least change of each kind that makes 95 % of the draws complete, or what the largest one reaches. Empty if
        so many complete without.
    assumed : tuple of str
        What was not measured and not given, a sentence each.
    guest : RunningGuest or None
        What QEMU said, if it was asked.
    """

    scenario: Scenario
    draws: xr.Dataset
    working_set: WorkingSet
    changes: tuple[Change, ...]
    assumed: tuple[str, ...]
    guest: RunningGuest | None = None

    @property
    def completed(self) -> float:
        """Share of the draws that complete: how probable it is that the migration converges, as far as is known."""
        return float(np.mean(self.draws["outcome"].values == Outcome.COMPLETED))

    @property
    def total_time_s(self) -> tuple[float, ...] | None:
        """Total time of the draws that complete: quantiles 0.05, 0.5 and 0.95; None if none does."""
        return _quantiles(self.draws, "total_time_s")

    @property
    def downtime_s(self) -> tuple[float, ...] | None:
        """Downtime of these, likewise."""
        return _quantiles(self.draws, "downtime_s")

    @property
    def sentence(self) -> str:
        """Whether it converges, in one sentence."""
        count, most = round(self.completed * self.draws.sizes["draw"]), self.draws.sizes["draw"]
        if self.completed >= WANTED:
            return f"It converges: {count} of {most} draws complete."
        if self.completed <= 1 - WANTED:
            return f"It does not converge: {count} of {most} draws complete. {simulate(self.scenario).sentence}"
        return f"It may converge: {count} of {most} draws complete."

    @property
    def advice(self) -> str:
        """Which change would make it converge, in a few sentences."""
        if not self.changes:
            return "No change is needed."
        lines = [change.sentence for change in self.changes if change.enough]
        if not lines:
            return "None of the changes that were tried makes it converge: " + " ".join(
                change.sentence for change in self.changes
            )
        rest = [change.sentence for change in self.changes if not change.enough]
        return "It converges with any of: " + " ".join(lines) + (f" Not enough: {' '.join(rest)}" if rest else "")

    def summary(self) -> str:
        """The answer as plain text, the sentence first."""
        lines = [self.sentence]
        for name, label in (("total_time_s", "total time"), ("downtime_s", "downtime"), ("bytes_sent", "sent")):
            found = _quantiles(self.draws, name)
            if found is not None:
                text = bytes_text if name == "bytes_sent" else seconds_text
                lines.append(f"{label:12}{text(found[1])}, {text(found[0])} to {text(found[2])} in 90 % of the draws")
        migration = self.scenario.migration
        limits = f"max-bandwidth {_shown(migration.max_bandwidth)}, downtime-limit {_shown(migration.downtime_limit)}"
        lines += [f"{'limits':12}{limits}, auto-converge {'on' if migration.auto_converge else 'off'}"]
        if self.changes:
            lines += ["", "To make 95 % of the draws complete, change:"]
            lines += [f"  {change.sentence}" for change in self.changes if change.enough]
            if rest := [change for change in self.changes if not change.enough]:
                lines += ["Not enough:", *(f"  {change.sentence}" for change in rest)]
        else:
            lines += ["", "No change is needed."]
        if self.guest is not None:
            guest = self.guest
            use = "" if guest.vcpu_use is None else f", vCPUs busy {guest.vcpu_use:.0%} of the time"
            lines += ["", f"QEMU {guest.version} (profile {guest.profile}), {guest.accel}, "
                      f"{bytes_text(guest.ram_bytes)}{use}"]  # fmt: skip
        lines += ["", f"Working set: {self.working_set.summary()}"]
        lines += [f"The windows do not tell {each}." for each in self.working_set.unknown]
        lines += ["", "Assumed:", *(f"  {each}." for each in self.assumed)]
        if self.guest is not None:
            lines += ["", *(f"Note: {each}." for each in self.guest.notes)]
            lines += ["Nothing was changed in the guest: QEMU was asked, and read samples of its memory."]
        return "\n".join(lines).replace("\n\n\n", "\n\n")

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain Python values; ``migkit predict --json`` prints it."""
        table: dict[str, Any] = {
            "sentence": self.sentence,
            "completed": self.completed,
            "draws": int(self.draws.sizes["draw"]),
            "quantiles": list(MIDDLE),
        }
        for name in ("total_time_s", "downtime_s", "bytes_sent"):
            found = _quantiles(self.draws, name)
            table[name] = None if found is None else list(found)
        table["changes"] = [
            {
                "parameters": {name: value if value is True else float(value) for name, value in c.parameters.items()},
                "completed": c.completed,
                "total_time_s": None if c.total_time_s is None else list(c.total_time_s),
                "downtime_s": None if c.downtime_s is None else list(c.downtime_s),
            }
            for c in self.changes
        ]
        kinds = self.working_set.kinds
        windows = self.working_set.windows.to_dict("records")
        table["working_set"] = {"kinds": kinds, "unknown": list(self.working_set.unknown), "windows": windows}
        table["assumed"] = list(self.assumed)
        if self.guest is not None:
            guest = self.guest
            table["guest"] = {
                "version": guest.version, "profile": guest.profile, "accel": guest.accel,
                "ram_bytes": guest.ram_bytes, "capabilities": list(guest.capabilities),
                "untouched_bytes": guest.untouched_bytes, "vcpu_use": guest.vcpu_use, "notes": list(guest.notes),
            }  # fmt: skip
        table["scenario"] = self.scenario.to_toml()
        return json.loads(json.dumps(table))

    def __repr__(self) -> str:
        return f"<Forecast: {self.sentence}>"


def _quantiles(draws: xr.Dataset, name: str) -> tuple[float, ...] | None:
    values = draws[name].values[draws["outcome"].values == Outcome.COMPLETED]
    return tuple(float(each) for each in np.quantile(values, MIDDLE)) if len(values) else None


def predict_running(
    socket: str | os.PathLike[str],
    link: Link | str | float,
    *,
    costs: HostCosts | str | os.PathLike[str] | None = None,
    calc_times: Sequence[Any] | None = None,
    zero_share: float | None = None,
    dirty_ring_size: int | None = None,
    xbzrle_page: Any = None,
    qemu: str | None = None,
    draws: int = 200,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Forecast:
    """Predict the migration of a running guest, before anything is migrated.

    QEMU is asked through QMP for memory, parameters, capabilities, version and, in windows of several lengths, the
    dirty rate. Nothing is changed in the guest.

    Parameters
    ----------
    socket : path
        QMP socket of the running QEMU; it takes one client at a time.
    link : Link or rate
        The network to the destination, which QEMU cannot know: ``"10 Gbit/s"``.
    costs : HostCosts or path, optional
        Of the host, as ``migkit calibrate`` writes them; those of another machine by default, which the answer names.
    calc_times : sequence of times, optional
        As in :func:`migkit.qemu.running.ask_running`.
    zero_share : float, optional
        Share of memory that is zero, 0 to 1; by default what the guest never touched, where this machine tells it.
    dirty_ring_size : int, optional
        Entries of KVM's dirty ring, as in `Guest.dirty_ring_size`; by default what the command line of QEMU says, where
        this machine tells it, and :data:`RING` where dirty-limit is on and it does not.
    xbzrle_page : size, optional
        What XBZRLE makes of a page of this guest, as in `Link.xbzrle_page`, of which only a migration of it tells; with
        the capability xbzrle on and nothing given the answer is one without.
    qemu : str, optional
        Profile of a QEMU whose version is not known.
    draws : int, default 200
        Draws of what the guest writes, 20 to 1000.
    seed : int, default 0
        Of the draws.
    progress : callable, optional
        Is given a sentence about each step.

    Returns
    -------
    Forecast

    Raises
    ------
    ScenarioError
        If an argument is refused, or the guest cannot be asked (:func:`migkit.qemu.running.ask_running`).
    Unfinished
        If QEMU ends meanwhile, or does not answer.

    Examples
    --------
    >>> import migkit
    >>> answer = migkit.predict_running("/run/qemu/guest.qmp", link="10 Gbit/s")  # doctest: +SKIP
    >>> print(answer.sentence, answer.advice)  # doctest: +SKIP
    It converges: 200 of 200 draws complete. No change is needed.
    """
    network = link if isinstance(link, Link) else Link(bandwidth=Rate(parse_rate(link)))
    host = costs if isinstance(costs, HostCosts) else HostCosts() if costs is None else HostCosts.from_toml(Path(costs))
    _check_share("zero_share", zero_share)
    _check_draws(draws)
    if dirty_ring_size is not None:
        Guest(ram="1 GiB", dirty_ring_size=dirty_ring_size)
    if xbzrle_page is not None:
        network = network.changed(xbzrle_page=xbzrle_page)
    guest = ask_running(socket, calc_times, qemu, progress)
    said = progress or (lambda sentence: None)
    said("what the guest writes")
    fit = fit_working_set(guest.volumes, guest.ram_bytes, draws, seed)
    untouched = guest.untouched_bytes if zero_share is None else round(zero_share * guest.ram_bytes)
    said("migrations")
    page = guest.ram_bytes // PAGE * PAGE
    ring, of_ring = _ring(guest, dirty_ring_size)
    migration, host, of_xbzrle = _encoding(guest.migration, network, host)
    scenario = Scenario(
        guest=Guest(ram=Bytes(page), accel=guest.accel, dirty_ring_size=ring),
        link=network,
        migration=migration,
        costs=host,
        qemu=guest.profile,
    )
    found = forecast(scenario, fit, untouched_bytes=untouched, vcpu_share=guest.vcpu_use, seed=seed)
    assumed = list(found.assumed)
    if zero_share is not None:
        assumed[0] = f"{zero_share:.1%} of memory is zero, as given"
    elif untouched is not None:
        how = "as /proc of this machine tells"
        assumed[0] = f"{bytes_text(untouched)} that the guest never touched are zero, {how}, and nothing else is"
        if untouched == 0:
            assumed[0] = f"no page is zero: the guest has touched all of its memory, {how}"
    assumed.append("a page counts as dirty if its contents differ: what is written without a change is dirty too, and "
                   "cannot be seen by page sampling")  # fmt: skip
    assumed += [*of_ring, *of_xbzrle]
    return Forecast(found.scenario, found.draws, fit, found.changes, tuple(assumed), guest)


def _ring(guest: RunningGuest, given: int | None) -> tuple[int, list[str]]:
    """Entries of the dirty ring, and what is assumed about it."""
    limited = guest.migration.dirty_limit
    said = given if given is not None else guest.dirty_ring_size
    # QEMU refuses the capability without a ring (migration/options.c:migrate_caps_check)
    ring = RING if limited and not said else said or 0
    told = []
    if limited and not said:
        told.append(f"the dirty ring of a vCPU has {ring} entries: QMP does not tell, and dirty-limit needs one")
    if limited:
        told.append("dirty-limit: each set is written by one vCPU")
    return ring, told


def _encoding(migration: Migration, link: Link, host: HostCosts) -> tuple[Migration, HostCosts, list[str]]:
    """With XBZRLE where it is on and known what it makes of a page; and what is assumed about it."""
    if not migration.xbzrle:
        return migration, host, []
    if link.xbzrle_page == 0:
        unknown = (
            "xbzrle is on, and not in the answer: only a migration tells how large an encoded page is (xbzrle_page)"
        )
        return migration.changed(xbzrle=False), host, [unknown]
    told = [f"an encoded page of this guest takes {link.xbzrle_page}, as given"]
    if not host.xbzrle_page:
        host = host.changed(xbzrle_page=Seconds(XBZRLE_PAGE_S))
        told.append(f"the migration thread needs {host.xbzrle_page} for it: costs.xbzrle_page, which was not measured")
    return migration, host, told


def _check_share(name: str, share: float | None) -> None:
    if share is not None and not 0 <= share <= 1:
        raise ScenarioError("must be from 0 to 1", name, share)


def _check_draws(draws: int) -> None:
    if isinstance(draws, bool) or not isinstance(draws, int) or not 20 <= draws <= 1000:
        raise ScenarioError("must be a whole number from 20 to 1000", "draws", draws)


def forecast(
    scenario: Scenario,
    working_set: WorkingSet,
    *,
    untouched_bytes: int | None = None,
    vcpu_share: float | None = None,
    seed: int = 0,
) -> Forecast:
    """Simulate a migration for every draw of what its guest writes, and search the least change that lets it converge.

    Parameters
    ----------
    scenario : Scenario
        The migration; regions of its guest are replaced.
    working_set : WorkingSet
        What the guest writes.
    untouched_bytes : int, optional
        Memory that is zero and is not written; 0 by default.
    vcpu_share : float, optional
        Share of its vCPU that the guest uses; drawn from 0.1 to 1 by default. Only a throttled guest needs it.
    seed : int, default 0
        Of what is drawn besides: where a set lies, and where a sequential writer stands.

    Returns
    -------
    Forecast

    Raises
    ------
    ScenarioError
        If the working set does not fit into the guest's RAM.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> from migkit.qemu.working_set import DirtyVolumes, fit_working_set
    >>> fit = fit_working_set(DirtyVolumes.of_rates([0.2, 1.0, 5.0], [95e6, 78e6, 25e6]), 2**30, draws=50)
    >>> found = forecast(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s")), fit)
    >>> found.completed > 0.9
    True
    """
    if working_set.ram_bytes > scenario.guest.ram + PAGE:
        raise ScenarioError("is smaller than the guest whose working set was fitted", "guest.ram",
                            str(scenario.guest.ram))  # fmt: skip
    axes = drawn_regions(scenario.guest, working_set, untouched_bytes or 0, vcpu_share, seed)
    base = scenario.replace("guest", guest_of(scenario.guest, axes, 0))
    draws = swept(base, axes)
    scenario = base.replace("guest", rounded_guest(guest_of(base.guest, axes, draw_in_the_middle(draws))))
    completed = float(np.mean(draws["outcome"].values == Outcome.COMPLETED))
    changes = () if completed >= WANTED else tuple(_changes(base, axes))
    assumed = [
        "no page that is not written is zero",
        f"the link carries {_gbit(scenario.link.bandwidth)}, as given, with a round trip of {scenario.link.rtt}",
        f"costs of the hosts: {scenario.costs.label}",
        "the guest goes on writing as it did while it was measured, each set at a place in RAM that is drawn",
    ]
    if untouched_bytes:
        assumed[0] = f"{bytes_text(untouched_bytes)} of memory are zero"
    if vcpu_share is None:
        assumed.append(f"a throttled guest: it needs {LEAST_SHARE:.0%} to 100% of its vCPU, drawn")
    else:
        assumed.append("a throttled guest: it writes as before until less of its vCPU is left than it used")
    return Forecast(scenario, draws, working_set, changes, tuple(assumed))


def _gbit(rate: float) -> str:
    return f"{rate * 8e-9:.4g} Gbit/s"


def _changes(scenario: Scenario, axes: Mapping[str, list[Any]]) -> list[Change]:
    """The least change of each kind; two at once only where none alone is enough."""
    migration = scenario.migration
    found = []
    if migration.max_bandwidth > 0:
        found.append(_least_bandwidth(scenario, axes))
    found.append(_least_downtime(scenario, axes, {}))
    throttled = {"dirty-limit": False, "auto-converge": True} if migration.dirty_limit else {"auto-converge": True}
    if not migration.auto_converge:
        found.append(_changed(scenario, axes, throttled))
    if scenario.guest.dirty_ring_size > 0 and not migration.dirty_limit and profile(scenario.qemu).supports_dirty_limit:
        off = {"auto-converge": False} if migration.auto_converge else {}
        found.append(_changed(scenario, axes, off | {"dirty-limit": True}))
    if migration.max_bandwidth > 0 and not any(change.enough for change in found[:1]):
        freed = {"max-bandwidth": Rate(0)}
        found.append(_least_downtime(scenario, axes, freed))
        if not migration.auto_converge and not found[2].enough:
            found.append(_changed(scenario, axes, freed | throttled))
    return found


_FIELDS = {
    "max-bandwidth": "max_bandwidth",
    "downtime-limit": "downtime_limit",
    "auto-converge": "auto_converge",
    "dirty-limit": "dirty_limit",
}


def _with(scenario: Scenario, parameters: Mapping[str, Any]) -> Scenario:
    for name, value in parameters.items():
        scenario = scenario.replace(f"migration.{_FIELDS[name]}", value)
    return scenario


def _changed(scenario: Scenario, axes: Mapping[str, list[Any]], parameters: dict[str, Any]) -> Change:
    """What some parameters do, simulated."""
    draws = swept(_with(scenario, parameters), axes)
    completed = draws["outcome"].values == Outcome.COMPLETED
    throttle = float(np.median(draws["throttle_percent"].values[completed])) if completed.any() else 0.0
    return Change(parameters, float(completed.mean()), _quantiles(draws, "total_time_s"),
                  _quantiles(draws, "downtime_s"), throttle)  # fmt: skip


def _least_bandwidth(scenario: Scenario, axes: Mapping[str, list[Any]]) -> Change:
    """The least max-bandwidth, up to where the link is the limit; else none."""
    now, most = float(scenario.migration.max_bandwidth), 2 * float(scenario.link.bandwidth)
    if now < most:
        least = _least(scenario, axes, "migration.max_bandwidth", Rate(now), Rate(most))
        if least is not None:
            value = Rate(math.ceil(least / _MIB) * _MIB)
            change = _changed(scenario, axes, {"max-bandwidth": value})
            if change.enough:
                return change
    return _changed(scenario, axes, {"max-bandwidth": Rate(0)})


def _least_downtime(scenario: Scenario, axes: Mapping[str, list[Any]], others: dict[str, Any]) -> Change:
    """The least downtime-limit, in whole milliseconds."""
    changed = _with(scenario, others)
    now = max(float(changed.migration.downtime_limit), 1e-3)
    least = _least(changed, axes, "migration.downtime_limit", Seconds(now), Seconds(MAX_DOWNTIME_LIMIT_S))
    limit = MAX_DOWNTIME_LIMIT_S if least is None else math.ceil(least * 1e3) * 1e-3
    return _changed(scenario, axes, others | {"downtime-limit": Seconds(limit)})


def _least(
    scenario: Scenario, axes: Mapping[str, list[Any]], field: str, low: Rate | Seconds, high: Rate | Seconds
) -> float | None:
    """The least value of a field with which enough of the draws complete, and go on to complete above it."""
    found = frontier(scenario, field, [low, high], {"draw": dict(axes)}, scan=SCAN, tolerance=TOLERANCE)
    above = found["above"].values  # of the last flip: the first value from which the draw completes
    flips = np.isfinite(above).sum(axis=-1)
    last = np.take_along_axis(above, np.maximum(flips - 1, 0)[:, None], axis=-1)[:, 0]
    needed = np.where(found["converges_at_high"].values, np.where(flips > 0, last, low), np.inf)
    value = float(np.sort(needed)[math.ceil(WANTED * len(needed)) - 1])
    return value if np.isfinite(value) else None
