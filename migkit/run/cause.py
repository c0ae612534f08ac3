"""Why a migration does not complete: one cause of a closed list, its margin, and the sentence that says both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from migkit.results import DOWNTIME_PARTS, Outcome, by_postcopy, bytes_text, legible, never_sent, seconds_text
from migkit.scenario.device_list import placed
from migkit.scenario.parts import Region, Vfio
from migkit.scenario.scenario import Scenario
from migkit.scenario.unsaid import sync_s as sync_time_s
from migkit.scenario.wire import on_wire_bytes

__all__ = ["CAUSES", "Explanation", "Margin", "explain"]

Cause = Literal[
    "link", "stream ceiling", "migration thread", "max-bandwidth", "sync cost", "downtime limit", "stop-copy",
    "device behind RAM", "acknowledgement", "time limit", "cancelled",
]  # fmt: skip
CAUSES: tuple[Cause, ...] = Cause.__args__  # type: ignore[attr-defined]
"""Every cause. The first four are what carries RAM; which of them, :attr:`migkit.Scenario.binds` says."""
_WINDOW_S = 0.1
_CALL_S = 0.051
"""The longest call of RAM's handler (``migration/ram.c:MAX_WAIT``)."""
_CALL_HOST_PAGES = 65
"""Of a call where huge pages back RAM and the first is sent before that: the clock is read after number 1 and 65."""
_CARRIERS: dict[str, Cause] = {
    "link": "link",
    "stream": "stream ceiling",
    "thread": "migration thread",
    "max-bandwidth": "max-bandwidth",
}
_CARRIES = {
    "link": "the link carries",
    "stream": "one stream carries",
    "thread": "the migration thread sends",
    "max-bandwidth": "max-bandwidth allows",
}
_CHANNELS_CARRY = {"stream": "the streams of all channels carry", "thread": "the threads of multifd send"}


class Margin(NamedTuple):
    """What would be needed, and what there is.

    Parameters
    ----------
    needed, available : float
        `needed` is above `available` where there is a cause; NaN where it is not known.
    unit : {"B/s", "B", "s", "calls"}
    """

    needed: float
    available: float
    unit: str

    def __str__(self) -> str:
        if math.isnan(self.needed):
            return f"{_text(self.available, self.unit)} available; what is needed is not known"
        return f"{self.needed_text} needed, {_text(self.available, self.unit)} available"

    @property
    def needed_text(self) -> str:
        """What would be needed, as text that is not that of what there is."""
        needed, available = _text(self.needed, self.unit), _text(self.available, self.unit)
        return f"a little more than {needed}" if needed == available and self.needed > self.available else needed


class Explanation(NamedTuple):
    """Why a migration ended as it did.

    Parameters
    ----------
    cause : str or None
        One of :data:`CAUSES`; None for a completed migration.
    margin : Margin or None
        What the cause is short of. Of a migration that completed with a downtime above its limit: that downtime.
    sentence : str
        Both in words.
    """

    cause: Cause | None
    margin: Margin | None
    sentence: str


def explain(
    scenario: Scenario,
    numbers: Mapping[str, Any],
    labels: Sequence[str],
    in_time: Callable[[], float] = lambda: math.nan,
    not_cancelled: Callable[[], tuple[float, Explanation]] | None = None,
) -> Explanation:
    """Say why a migration ended as it did.

    RAM whose pages become dirty faster than they are carried is never sent, whatever the downtime limit: over a time
    T the regions make ``D(T)`` bytes dirty, ``size * (1 - exp(-rate * T / size))`` of uniform and ``min(size, rate *
    T)`` of sequential writes, and ``D(T) / T`` is largest for short times. What must fit is what is dirtied while as
    much is sent as the downtime limit allows. If that is carried, what is left is due to bitmap syncs, where one
    takes as long as the downtime limit or takes so much of a window that the rest does not carry it, and else to the
    limit. ``savevm.c:qemu_savevm_state_iterate`` and ``migration.c:migration_iteration_run`` decide; this names what
    they lack.

    Parameters
    ----------
    scenario : Scenario
        What was simulated.
    numbers : mapping
        Its result variables by name.
    labels : sequence of str
        Labels of the devices.
    in_time : callable, optional
        Gives the seconds after which the migration completes with more time than its limit, NaN if it does not; asked
        only where the time limit was reached.
    not_cancelled : callable, optional
        Gives the seconds after which a migration that was cancelled completes with the limits that it had in the end,
        NaN if it does not, and the explanation of that; asked only where it was cancelled.

    Returns
    -------
    Explanation

    Examples
    --------
    >>> from migkit import Guest, Link, Migration, Region, Scenario, simulate
    >>> hot = Guest(ram="8 GiB", regions=[Region(size="4 GiB", write_rate="2 GB/s")])
    >>> slow = Scenario(guest=hot, link=Link(bandwidth="10 Gbit/s"), migration=Migration(max_bandwidth=0))
    >>> found = simulate(slow).explanation
    >>> found.cause, str(found.margin)
    ('link', '1870 MB/s needed, 1250 MB/s available')
    """
    outcome, case = Outcome(int(numbers["outcome"])), _Case(in_force(scenario, numbers), numbers, labels)
    if outcome is Outcome.COMPLETED:
        return case.completed()
    if outcome is Outcome.INITIAL_DATA_STARVED:
        return case.starved()
    if outcome is Outcome.STOP_COPY_ABOVE_THRESHOLD:
        return case.stop_copy()
    if outcome is Outcome.RAM_ABOVE_LINK:
        return case.ram()
    if outcome is Outcome.CANCELLED:
        return case.cancelled(_who_cancelled(scenario, numbers), not_cancelled)
    return case.time_limit(in_time())


def in_force(scenario: Scenario, numbers: Mapping[str, Any]) -> Scenario:
    """The scenario with the limits that it had in the end, without what changed them.

    Parameters
    ----------
    scenario : Scenario
    numbers : mapping
        Its result variables by name.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, simulate
    >>> changes = [{"at": "10 ms", "downtime_limit": "50 ms"}, {"at": "1 h", "link_bandwidth": "1 MB/s"}]
    >>> found = simulate(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"), changes=changes))
    >>> then = in_force(found.scenario, found.numbers)
    >>> then.migration.downtime_limit, then.link.bandwidth, then.changes
    (50 ms, 1 GB/s, ())
    """
    if not scenario.changes and scenario.management in (None, "fixed"):
        return scenario
    values: dict[str, Any] = {
        "management": None,
        "changes": (),
        "migration.max_bandwidth": f"{int(numbers['final_max_bandwidth'])} B/s",
        "migration.downtime_limit": f"{round(float(numbers['final_downtime_limit_s']), 9)!r} s",  # whole nanoseconds
    }
    for change in scenario.changes:
        if change.link_bandwidth is not None and float(change.at) <= float(numbers["verdict_time_s"]):
            values["link.bandwidth"] = change.link_bandwidth
    return scenario.replace_all(values)


def _who_cancelled(scenario: Scenario, numbers: Mapping[str, Any]) -> str:
    """Who cancelled the migration: the management policy by its name, or the change at a given time."""
    end = float(numbers["verdict_time_s"])
    if any(change.command == "migrate_cancel" and float(change.at) <= end for change in scenario.changes):
        return "at the given time"
    return f"by {legible(str(scenario.management), 80)}"


class _Case:
    """One migration that is explained."""

    def __init__(self, scenario: Scenario, numbers: Mapping[str, Any], labels: Sequence[str]) -> None:
        self.scenario, self.numbers, self.labels = scenario, numbers, labels
        self.pending, self.threshold = float(numbers["pending_bytes"]), float(numbers["threshold_bytes"])
        self.limit_s = float(scenario.migration.downtime_limit)
        self.binds = scenario.binds
        self.limits = scenario.wire_limits()
        self.carried = self.limits[self.binds]
        self.carries = _CARRIES[self.binds]
        if scenario.migration.multifd:
            self.carries = _CHANNELS_CARRY.get(self.binds, self.carries)
        self.devices = [each for entry in placed(scenario.devices) for each in [entry] * getattr(entry, "count", 1)]
        slept_s = float(numbers.get("dirty_limit_throttle_s", math.nan))
        self.sleep_s = 0.0 if math.isnan(slept_s) else slept_s
        self.stop_bytes = sum(float(each.stop_copy_bytes) for each in self.devices if isinstance(each, Vfio))

    def name(self, index: int) -> str:
        return legible(self.labels[index], 40) if 0 <= index < len(self.labels) else "a device"

    def of_device(self, key: str, index: int) -> float:
        return float(np.asarray(self.numbers[key])[index])

    def written(self, duration_s: float) -> float:
        """Bytes on the wire of the pages, and of dirty data of devices, that become dirty in a time."""
        return self.of_ram(duration_s) + self.of_devices(duration_s)

    def of_ram(self, duration_s: float) -> float:
        """Bytes on the wire of the pages that become dirty in a time."""
        percent = int(self.numbers["throttle_percent"]) / 100.0
        page = int(self.scenario.guest.page_size)
        tracked = max(page, int(self.scenario.guest.tracking))
        total = 0.0
        for region in self.scenario.guest.regions:
            throttle = _asleep(region, self.sleep_s, self.scenario) if self.sleep_s > 0 else percent
            total += _dirtied(region, duration_s, throttle, page, tracked) * on_wire_bytes(self.scenario) / page
        return total

    def of_devices(self, duration_s: float) -> float:
        """Bytes of dirty data of devices that come in a time."""
        return sum(
            min(float(device.dirty_max), float(device.dirty_rate) * duration_s)
            for device in self.devices
            if isinstance(device, Vfio)
        )

    @property
    def over_s(self) -> float:
        """The time in which as much is sent as fits, seconds."""
        return max(self.limit_s - self.stop_bytes / self.carried, 1e-6)

    def needed_rate(self) -> float:
        """How fast pages become dirty over the time in which as much is sent as fits, bytes/s on the wire."""
        return self.written(self.over_s) / self.over_s

    def become_dirty(self, rate: float, available: float) -> str:
        """What becomes dirty at such a rate, told apart from what can be sent."""
        what = "pages and device data" if self.of_devices(1.0) > 0 else "pages"
        return f"{Margin(rate, available, 'B/s').needed_text} of {what} become dirty"

    def completed(self) -> Explanation:
        total, downtime = float(self.numbers["total_time_s"]), float(self.numbers["downtime_s"])
        text = f"Completed in {seconds_text(total)} with a downtime of {seconds_text(downtime)}"
        postcopy = by_postcopy(self.numbers)
        if postcopy or not downtime > self.limit_s:
            return Explanation(None, None, f"{text}{postcopy}.")
        parts = {meaning: float(self.numbers[name]) for name, meaning in DOWNTIME_PARTS.items()}
        longest = max(parts, key=lambda meaning: parts[meaning])
        why = f"{longest} took {seconds_text(parts[longest])}"
        over = f"above the limit of {seconds_text(self.limit_s)}"
        told = float(self.scenario.migration.avail_switchover_bandwidth)
        if self.limit_s == 0:
            over += ", with which the loop stops the VM when nothing is known to be dirty, before it has synced"
        elif told > self.carried:
            over += (
                f", which is counted with an avail-switchover-bandwidth of {rate_text(told)}, while "
                f"{self.carries} {rate_text(self.carried)}"
            )
        else:
            over += ", which counts what is sent and nothing else"
        return Explanation(None, Margin(downtime, self.limit_s, "s"), f"{text}, {over}: {why}.")

    def starved(self) -> Explanation:
        culprit = int(self.numbers["culprit"])
        name, calls = self.name(culprit), int(self.of_device("device_calls", culprit))
        whole, left = (self.of_device(key, culprit) for key in ("device_initial_bytes", "device_initial_left_bytes"))
        if left == 0:
            margin = Margin(calls + 1, calls, "calls")
            what = f"{name}'s initial data was sent, but not the flag that says so, for which one more call is needed"
        else:
            margin = Margin(whole, whole - left, "B")
            what = never_sent(name, calls, int(self.numbers["iterations"]))
            what += f"; {bytes_text(left)} of {bytes_text(whole)} were left"
        so = (
            "so the destination never acknowledged"
            if self.scenario.migration.switchover_ack
            else f"and {bytes_text(self.pending)} were pending, of which {bytes_text(self.threshold)} fit into the "
            "downtime limit"
        )
        return Explanation("device behind RAM", margin, f"{what}, {so}.")

    def stop_copy(self) -> Explanation:
        names = [
            label
            for label, device in zip(self.labels, self.devices, strict=True)
            if isinstance(device, Vfio) and device.stop_copy_bytes > 0
        ]
        whose = f"what {legible(names[0], 40)} must send" if len(names) == 1 else "what the devices must send"
        margin = Margin(self.stop_bytes, self.threshold, "B")
        fits = f"only {bytes_text(self.threshold)} fit into the downtime limit of {seconds_text(self.limit_s)}"
        waiting = self.waiting()
        if waiting and self.stop_bytes <= self.carried * self.limit_s:
            return Explanation(
                "acknowledgement", margin,
                f"While the loop waits for the acknowledgement of {waiting} with next to nothing to send, its windows "
                f"carry next to nothing: {fits}, and {whose} while the VM is stopped is {margin.needed_text}.",
            )  # fmt: skip
        quiet = (
            f"; windows that had more to send would give up to {bytes_text(self.carried * self.limit_s)}"
            if self.stop_bytes <= self.carried * self.limit_s
            else ""
        )
        return Explanation(
            "stop-copy", margin,
            f"The downtime limit is too short for {whose} while the VM is stopped, {margin.needed_text}: "
            f"{fits}{quiet}{self.ram_too()}.",
        )  # fmt: skip

    def ram_too(self) -> str:
        """That RAM does not fit into the downtime limit either, were there no device, "" if it does."""
        over_s = max(self.limit_s, 1e-6)
        needed = self.written(over_s) / over_s
        if needed <= self.carried:
            return ""
        dirty = self.become_dirty(needed, self.carried)
        return f"; RAM is not sent within it either: {dirty}, {self.carries} {rate_text(self.carried)}"

    def waiting(self) -> str:
        """The first device that has sent all its initial data and is not acknowledged, "" if there is none."""
        if not self.scenario.migration.switchover_ack:
            return ""
        for index in range(len(self.labels)):
            sent, acknowledged = (self.of_device(key, index) for key in ("device_initial_sent_s", "device_ack_s"))
            if not math.isnan(sent) and math.isnan(acknowledged):
                return self.name(index)
        return ""

    def ram(self) -> Explanation:
        needed = self.needed_rate()
        left = f"{bytes_text(float(self.numbers['ram_remaining_bytes']))} were dirty after the last sync"
        fit = f"only {bytes_text(self.threshold)} fit into the downtime limit of {seconds_text(self.limit_s)}"
        throttled = int(self.numbers["throttle_percent"])
        alone = self.of_ram(self.over_s) / self.over_s > self.carried
        who = "RAM" if alone or self.of_devices(1.0) == 0 else "RAM and the devices"
        writes = f"{who}, throttled to {throttled} %," if throttled else who
        if self.sleep_s > 0:
            writes = f"{who} of vCPUs that sleep {seconds_text(self.sleep_s)} whenever their dirty ring is full"
        writes += " is" if who == "RAM" else " are"
        carried = f"{self.carries} {rate_text(self.carried)}"
        rates = f"{self.become_dirty(needed, self.carried)}, {carried}"
        if needed > self.carried:
            return Explanation(
                _CARRIERS[self.binds], Margin(needed, self.carried, "B/s"),
                f"{writes} written faster than {self.carries.rsplit(' ', 1)[0]} can take it: {rates}"
                f"{self.beside()}; {left}, and {fit}.",
            )  # fmt: skip
        sync_s = sync_time_s(self.scenario)
        in_sync, measured = self.written(sync_s), self.measured()
        if self.sleep_s >= self.limit_s:
            return Explanation(
                "sync cost", Margin(self.pending, self.threshold, "B"),
                f"A bitmap sync waits up to {seconds_text(self.sleep_s)} for a vCPU that sleeps because its dirty ring "
                f"is full, and finds up to a ring written: {bytes_text(self.pending)} were pending, and {fit}.",
            )  # fmt: skip
        if sync_s >= self.limit_s and in_sync > self.threshold:
            return Explanation(
                "sync cost", (written := Margin(in_sync, self.threshold, "B")),
                f"A bitmap sync takes {seconds_text(sync_s)}, in which {written.needed_text} are written, and {fit}.",
            )  # fmt: skip
        if needed > measured and 1.0 - measured / self.carried <= 2.0 * sync_s / (sync_s + _WINDOW_S):
            return Explanation(
                "sync cost", Margin(needed, measured, "B/s"),
                f"Bitmap syncs of {seconds_text(sync_s)} take time from sending: "
                f"{self.become_dirty(needed, measured)}, {carried}{self.beside()}, and {rate_text(measured)} with "
                f"a sync in every window; {left}, and {fit}.",
            )  # fmt: skip
        waits = Margin(self.pending, self.threshold, "B")
        # RAM falls below the threshold by one call's worth of pages, which then is all that may have become dirty
        call = self.carried * (_CALL_S if self.binds != "max-bandwidth" else _WINDOW_S)
        if self.scenario.guest.backing > self.scenario.guest.page_size:
            call = max(call, _CALL_HOST_PAGES * float(self.scenario.guest.backing))
        if needed < self.carried and self.threshold > 2.0 * call:
            between = self.written(sync_s * self.carried / (self.carried - needed))
            if between > 2.0 * call:
                return Explanation(
                    "sync cost", waits,
                    f"Bitmap syncs of {seconds_text(sync_s)} take time from sending: {rates}{self.beside()}, so that "
                    f"{bytes_text(between)} are written from one sync to the next; {waits.needed_text} were "
                    f"pending, and {fit}.",
                )  # fmt: skip
        return Explanation(
            "downtime limit", waits,
            "The downtime limit is too short for what is written in one iteration: "
            f"{waits.needed_text} were pending, and {fit}, although what is written can be sent "
            f"({rates}{self.beside()}).",
        )  # fmt: skip

    def measured(self) -> float:
        """The bandwidth that the last window gave, bytes/s; infinite where no window gives the threshold."""
        if self.scenario.migration.avail_switchover_bandwidth > 0 or self.limit_s == 0:
            return math.inf
        return self.threshold / self.limit_s

    def beside(self) -> str:
        """What a link faster than the thread or a stream would carry."""
        if self.binds in ("thread", "stream") and self.limits["link"] > self.carried:
            return f" (the link would carry {rate_text(self.limits['link'])})"
        return ""

    def cancelled(self, how: str, not_cancelled: Callable[[], tuple[float, Explanation]] | None) -> Explanation:
        end, syncs = float(self.numbers["verdict_time_s"]), int(self.numbers["sync_count"])
        said = (
            f"Cancelled {how}, after {seconds_text(end)} and {syncs} sync{'' if syncs == 1 else 's'}: "
            f"{bytes_text(self.pending)} were pending, and {bytes_text(self.threshold)} fit into the downtime limit of "
            f"{seconds_text(self.limit_s)}"
        )
        needed_s, otherwise = (math.nan, None) if not_cancelled is None else not_cancelled()
        if not math.isnan(needed_s):
            return Explanation(
                "cancelled", Margin(max(needed_s, math.nextafter(end, math.inf)), end, "s"),
                f"{said}; with its last limits from the start it completes in {seconds_text(needed_s)}.",
            )  # fmt: skip
        if otherwise is None or otherwise.cause in (None, "time limit"):
            return Explanation("cancelled", Margin(math.nan, end, "s"), f"{said}.")
        return Explanation(
            otherwise.cause, otherwise.margin, f"{said}; with its last limits it never completes: {otherwise.sentence}"
        )

    def time_limit(self, needed_s: float) -> Explanation:
        verdict, syncs = float(self.numbers["verdict_time_s"]), int(self.numbers["sync_count"])
        reached = (
            f"The time limit was reached after {seconds_text(verdict)} and {syncs} sync{'' if syncs == 1 else 's'}"
        )
        if int(self.numbers["iterations"]) == 0:
            return Explanation("time limit", Margin(needed_s, verdict, "s"), f"{reached}, before the first iteration.")
        sizes = (
            f"{bytes_text(self.pending)} were pending, and {bytes_text(self.threshold)} fit into the downtime limit of "
            f"{seconds_text(self.limit_s)}"
        )
        waiting = self.waiting()
        if waiting and self.pending <= self.threshold:
            index = [legible(label, 40) for label in self.labels].index(waiting)
            waited = verdict - self.of_device("device_initial_sent_s", index)
            load = self.devices[index]
            needed = max(float(load.load_time) if isinstance(load, Vfio) else math.nan, waited)
            if math.isnan(needed_s) or needed_s <= verdict:
                margin = Margin(math.nextafter(needed, math.inf), waited, "s")
            else:
                margin = Margin(needed_s - verdict + waited, waited, "s")
            return Explanation(
                "acknowledgement", margin,
                f"{reached}: {waiting} had sent its initial data, and the destination had not acknowledged after "
                f"{seconds_text(waited)}.",
            )  # fmt: skip
        if not math.isnan(needed_s):
            return Explanation(
                "time limit", Margin(needed_s, verdict, "s"),
                f"{reached}: {sizes}; it completes after {seconds_text(needed_s)}.",
            )  # fmt: skip
        if self.numbers["ram_remaining_bytes"] > 0 and syncs > 1 and self.needed_rate() > self.carried:
            return self.ram()
        return Explanation("time limit", Margin(math.nan, verdict, "s"), f"{reached}: {sizes}.")


def _asleep(region: Region, sleep_s: float, scenario: Scenario) -> float:
    """Share of time for which the vCPU of a region sleeps under dirty-limit, at its highest rate."""
    ring, pages = int(scenario.guest.dirty_ring_size), int(region.size) // int(scenario.guest.page_size)
    writes = float(region.highest_rate) / int(scenario.guest.page_size)
    if ring >= pages or writes == 0:
        return 0.0
    filled = ring if region.pattern == "sequential" else -math.log1p(-ring / pages) * pages
    busy_s = filled / writes * float(region.vcpu_share)
    return sleep_s / (busy_s + sleep_s)


def _dirtied(region: Region, duration_s: float, throttle: float, page: int, tracked: int) -> float:
    """Bytes of the pages of a region that become dirty in a time at its highest rate, by a guest that is throttled."""
    size = max(page, int(region.size) // page * page)
    share = min(1.0, (1.0 - throttle) / float(region.vcpu_share))
    writes = float(region.highest_rate) * share * duration_s
    if region.pattern == "sequential":
        return min(size, writes)
    return size * -math.expm1(-writes * tracked / page / size)  # a write dirties all that is tracked as one


def rate_text(value: float) -> str:
    """Format a rate with four significant digits: ``1250 MB/s``, ``12.5 GB/s``."""
    return f"{value / 1e6:.4g} MB/s" if value < 1e10 else f"{value / 1e9:.4g} GB/s"


def _text(value: float, unit: str) -> str:
    if math.isnan(value):
        return "an unknown time"
    if unit == "calls":
        return f"{value:.0f} calls"
    return {"B/s": rate_text, "B": bytes_text, "s": seconds_text}[unit](value)
