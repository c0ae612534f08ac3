"""From scenarios to the records that the kernels take: one NumPy expression a field.

The tables of :mod:`migkit.kernels.state` say which fields there are. An expression takes a scenario, or a
:class:`migkit.scenario.views.View` of many, and gives a number or a column of them: the same expressions serve a single
migration, a list of scenarios and the grid of a sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.kernels import state
from migkit.kernels.state import Records
from migkit.scenario.device_list import copies, placed
from migkit.scenario.errors import ScenarioError
from migkit.scenario.policy import (
    POLICY_FIELDS,
    Policy,
    policies_remember,
    policies_settle,
    policy_code,
    policy_level,
)
from migkit.scenario.versions import profile
from migkit.scenario.views import View, columns_of, each
from migkit.scenario.wire import (
    PAGE_BYTES,
    PAGE_HEADER,
    XBZRLE_HEADER,
    cached_share,
    channel_page_s,
    compressed_page_bytes,
    compression_ratio,
    main_page_s,
    page_cost_s,
    stream_count,
    wire,
    written_pages,
)

if TYPE_CHECKING:
    from migkit.scenario.scenario import Scenario

__all__ = ["cases", "changes", "devices", "links", "most_rates", "rates", "records", "regions"]

Expression = Callable[..., Any]

KINDS = {"ram": state.RAM, "vfio": state.VFIO, "block": state.BLOCK}
"""Codes of the kinds of devices."""


# --- expressions ---------------------------------------------------------------------------------


def _ns(seconds: Any) -> Any:
    """Whole nanoseconds, halves to even."""
    return np.rint(seconds * 1e9)


def _cost_ns(seconds: Any) -> Any:
    """Nanoseconds to a millionth: 1.8 us is 1800 ns, and not the nearest product of two binary fractions."""
    return each(lambda value: round(value * 1e9, 6), seconds)


def _start_ns(at: Any) -> int:
    """When post-copy is to start, nanoseconds; far away for never."""
    return state.NO_LIMIT if at is None else round(float(at) * 1e9)


def _of_profile(name: str) -> Expression:
    """A field of the version's profile."""
    return lambda s: each(lambda qemu: getattr(profile(qemu), name), s.qemu)


def _policy(name: str) -> Expression:
    """The code of a policy; that of the version where none is given."""
    return lambda s: each(lambda given, qemu: policy_code(name, given, profile(qemu)), getattr(s, name), s.qemu)


def _fresh_ns_per_byte(s: Any, bandwidth: Any = None) -> Any:
    """Nanoseconds a byte of pages that the destination writes for the first time."""
    return _fresh_on(s, wire(s, bandwidth))


def _fresh_on(s: Any, carried: Any) -> Any:
    """The same where the wire carries so many bytes/s of other pages."""
    slowest = np.minimum(np.where(s.link.fresh_bandwidth > 0, s.link.fresh_bandwidth, np.inf), carried)
    beyond = np.where(s.link.fresh_bandwidth > 0, 0.0, s.costs.fresh_page * 1e9 / (PAGE_BYTES + PAGE_HEADER))
    return 1e9 / slowest + beyond


def _fresh_after_pages(s: Any) -> Any:
    ram = s.guest.ram // s.guest.page_size
    of_host = np.where(s.costs.fresh_page > 0, s.costs.fresh_after // s.guest.page_size, ram)
    return np.minimum(ram, np.where(s.link.fresh_bandwidth > 0, s.link.fresh_after // s.guest.page_size, of_host))


def _managed(of: Callable[[Policy], Any], otherwise: Any = 0) -> Expression:
    """What a management policy says, of a scenario that has one."""
    return lambda s: each(lambda given: of(given) if isinstance(given, Policy) else otherwise, s.management)


def _idle_used(s: Any) -> Any:
    """RAM outside the regions that is in use, bytes; all of it where the scenario does not say."""
    written = sum(region.size for region in s.guest.regions)
    return np.where(s.guest.used > 0, s.guest.used, s.guest.ram) - written


def _detects(s: Any) -> Any:
    """Whether anybody looks for zero pages; where nobody does they are pages as any other."""
    return each(lambda given: given != "none", s.migration.zero_page_detection)


def _on_channels(s: Any) -> Any:
    """Whether the channels of multifd look for zero pages; that of the version where it is not given."""
    return each(
        lambda given, qemu: profile(qemu).multifd_zero_pages if given is None else int(given == "multifd"),
        s.migration.zero_page_detection,
        s.qemu,
    )


def _idle_zero_share(s: Any) -> Any:
    """Share of zero pages outside the regions, where what is in use lies."""
    idle = s.guest.ram - sum(region.size for region in s.guest.regions)
    spread = each(lambda place: place == "spread", s.guest.used_at) & (s.guest.used > 0)
    share = np.where(idle > 0, _idle_used(s) / np.maximum(idle, 1), 1.0)
    return np.where(spread, 1.0 - share * (1.0 - s.guest.zero_share), s.guest.zero_share) * _detects(s)


def _used_edges(s: Any) -> tuple[Any, Any]:
    """First and last page between which RAM outside the regions is in use."""
    pages, idle_used = s.guest.ram // s.guest.page_size, _idle_used(s) // s.guest.page_size
    at_start, at_end = (
        each(lambda place, here=here: place == here, s.guest.used_at) & (s.guest.used > 0) for here in ("start", "end")
    )
    stop, first = idle_used, pages - idle_used
    starts, ends = (
        [getattr(region, name) // s.guest.page_size for region in s.guest.regions] for name in ("start", "size")
    )
    ends = [start + size for start, size in zip(starts, ends, strict=True)]
    # the regions that lie before the edge move it by their size, and so may reach the next one
    for _ in starts if np.any(at_start | at_end) else ():
        edges = stop, first
        stop = idle_used + sum(np.where(start < stop, end - start, 0) for start, end in zip(starts, ends, strict=True))
        first = (
            pages
            - idle_used
            - sum(np.where(end > first, end - start, 0) for start, end in zip(starts, ends, strict=True))
        )
        if np.all(edges[0] == stop) and np.all(edges[1] == first):
            break
    return np.where(at_end & _detects(s), first, 0), np.where(at_start & _detects(s), stop, pages)


def _channels_slack_ns(s: Any, ns_per_byte: Any) -> Any:
    """What the link needs for the send buffers of all streams of RAM."""
    return np.floor(stream_count(s) * s.link.send_buffer * ns_per_byte)


CASES: Mapping[str, Expression] = {
    "ram_pages": lambda s: s.guest.ram // s.guest.page_size,
    "page_size": lambda s: s.guest.page_size,
    "track_pages": lambda s: np.maximum(s.guest.tracking, s.guest.page_size) // s.guest.page_size,
    "host_pages": lambda s: np.maximum(s.guest.backing, s.guest.page_size) // s.guest.page_size,
    "chunk_pages": lambda s: 1 << s.migration.x_clear_bitmap_shift,
    # accel/kvm/kvm-all.c: a dirty ring is protected again when it is emptied, not chunk by chunk
    "lazy_clear": lambda s: each(lambda accel: accel == "kvm", s.guest.accel) & (s.guest.dirty_ring_size == 0),
    "dirty_ring_pages": lambda s: s.guest.dirty_ring_size,
    "idle_zero_share": _idle_zero_share,
    "used_first": lambda s: _used_edges(s)[0],
    "used_stop": lambda s: _used_edges(s)[1],
    "region_count": lambda s: len(s.guest.regions),
    "device_count": lambda s: sum(copies(device) for device in placed(s.devices)),
    "max_bandwidth": lambda s: np.rint(s.migration.max_bandwidth),
    "downtime_limit_ms": lambda s: _ns(s.migration.downtime_limit) / 1e6,
    "avail_switchover_bandwidth": lambda s: np.rint(s.migration.avail_switchover_bandwidth),
    "switchover_ack": lambda s: s.migration.switchover_ack,
    # migration/migration.c:migration_connect: post-copy needs a return path, and opens one
    "return_path": lambda s: s.migration.return_path | s.migration.postcopy_ram,
    "auto_converge": lambda s: s.migration.auto_converge,
    "dirty_limit": lambda s: s.migration.dirty_limit,
    "vcpu_dirty_limit": lambda s: s.migration.vcpu_dirty_limit,
    "dirty_limit_period_ms": lambda s: np.rint(s.migration.x_vcpu_dirty_limit_period * 1e3),
    "postcopy_ram": lambda s: s.migration.postcopy_ram,
    "postcopy_ns": lambda s: each(_start_ns, s.migration.postcopy_at),
    "postcopy_preempt": lambda s: s.migration.postcopy_preempt,
    "max_postcopy_bandwidth": lambda s: np.rint(s.migration.max_postcopy_bandwidth),
    "xbzrle": lambda s: s.migration.xbzrle,
    "multifd_channels": lambda s: np.where(s.migration.multifd, s.migration.multifd_channels, 0),
    "throttle_trigger_threshold": lambda s: s.migration.throttle_trigger_threshold,
    "cpu_throttle_initial": lambda s: s.migration.cpu_throttle_initial,
    "cpu_throttle_increment": lambda s: s.migration.cpu_throttle_increment,
    "max_cpu_throttle": lambda s: s.migration.max_cpu_throttle,
    "cpu_throttle_tailslow": lambda s: s.migration.cpu_throttle_tailslow,
    "policy": _policy("policy"),
    "sync_policy": _policy("sync_policy"),
    "bandwidth_policy": _policy("bandwidth_policy"),
    "policies_repeat": lambda s: each(min, *(each(policy_level, getattr(s, name)) for name in POLICY_FIELDS)),
    "policies_remember": lambda s: each(max, *(each(policies_remember, getattr(s, name)) for name in POLICY_FIELDS)),
    "rates_change": lambda s: any(_steps(region) for region in s.guest.regions),
    "may_stop_early": lambda s: each(min, *(each(policies_settle, getattr(s, name)) for name in POLICY_FIELDS)),
    "complete_rule": _of_profile("complete_rule"),
    "ram_exact_always": _of_profile("ram_exact_always"),
    "vfio_counts": _of_profile("vfio_counts"),
    "vfio_always_done": _of_profile("vfio_always_done"),
    "flush_pages": _of_profile("flush_pages"),
    "counts_all_syncs": _of_profile("counts_all_syncs"),
    "avail_per_ms_exact": _of_profile("avail_per_ms_exact"),
    "throttle_timer_ns": _of_profile("throttle_timer_ns"),
    "multifd_flush_after_each_section": _of_profile("multifd_flush_after_each_section"),
    "multifd_sends_full_queue": _of_profile("multifd_sends_full_queue"),
    "multifd_counts_late": _of_profile("multifd_counts_late"),
    "multifd_zero_pages": _on_channels,
    "multifd_syncs_at_end": _of_profile("multifd_syncs_at_end"),
    "postcopy_rule": _of_profile("postcopy_rule"),
    "setup_ns": lambda s: _ns(s.costs.setup),
    "iteration_ns": lambda s: _ns(s.costs.iteration),
    "wakeup_ns": lambda s: _ns(s.costs.wakeup),
    "sync_ns": lambda s: _ns(s.costs.bitmap_sync + s.costs.bitmap_sync_per_gib * (s.guest.ram / 2**30)),
    "throttle_late_ns": lambda s: _ns(s.costs.throttle_late),
    "throttle_loss": lambda s: s.costs.throttle_loss,
    "jitter": lambda s: s.costs.jitter,
    "page_cost_ns": lambda s: _cost_ns(main_page_s(s)),
    "zero_cost_ns": lambda s: _cost_ns(page_cost_s(s, s.costs.zero_page)),
    "compressed_page_bytes": compressed_page_bytes,
    "xbzrle_page_ns": lambda s: _cost_ns(page_cost_s(s, s.costs.xbzrle_page)),
    "xbzrle_page_bytes": lambda s: np.minimum(s.link.xbzrle_page, s.guest.page_size) + XBZRLE_HEADER,
    "xbzrle_pages": written_pages,
    "xbzrle_share": cached_share,
    "multifd_page_ns": lambda s: _cost_ns(s.costs.multifd_page),
    "channel_page_ns": lambda s: _cost_ns(channel_page_s(s)),
    "channel_page_bytes": lambda s: s.guest.page_size / compression_ratio(s),
    "vm_stop_ns": lambda s: _ns(s.costs.vm_stop),
    "device_state_ns": lambda s: _ns(s.costs.device_state),
    "destination_load_ns": lambda s: _ns(s.costs.destination_load),
    "discard_ns": lambda s: _cost_ns(s.costs.discard),
    "time_limit_ns": lambda s: _ns(s.time_limit),
    "change_count": lambda s: len(s.changes),
    "management": _policy("management"),
    "management_first_ns": _managed(lambda given: given.first_ns),
    "management_poll_ns": _managed(lambda given: given.poll_ns),
    "management_syncs": _managed(lambda given: given.after_syncs),
    "management_settings": _managed(lambda given: given.settings, (0.0,) * state.MANAGEMENT_SETTINGS),
}
"""Fields of a case, of the scenario."""

LINKS: Mapping[str, Expression] = {
    "ns_per_byte": lambda s: 1e9 / wire(s),
    "slack_ns": lambda s: np.floor(s.link.send_buffer * (1e9 / wire(s))),
    "fresh_ns_per_byte": _fresh_ns_per_byte,
    "fresh_slack_ns": lambda s: np.floor(s.link.send_buffer * _fresh_ns_per_byte(s)),
    "fresh_after_pages": _fresh_after_pages,
    "channels_ns_per_byte": lambda s: 1e9 / s.link.bandwidth,
    "channels_slack_ns": lambda s: _channels_slack_ns(s, 1e9 / s.link.bandwidth),
    "channels_fresh_ns_per_byte": lambda s: _fresh_on(s, s.link.bandwidth),
    "channels_fresh_slack_ns": lambda s: _channels_slack_ns(s, _fresh_on(s, s.link.bandwidth)),
    "rtt_ns": lambda s: _ns(s.link.rtt),
}
"""Fields of a link, of the scenario."""


def _steps(region: Any) -> list[tuple[int, float]]:
    """The rates of a region: for how many nanoseconds, and bytes/s; none if it has but one."""
    found = [(int(_ns(lasts)), float(rate)) for lasts, rate in region.rates]
    times = [int(_ns(time)) for time, _ in region.curve]
    lasts = np.diff(times, append=times[-1:])
    found += [(int(each), float(rate)) for each, (_, rate) in zip(lasts, region.curve, strict=True)]
    return found if len(found) > 1 else []


def _highest(region: Any) -> Any:
    """The highest of a region's rates, bytes/s."""
    rates = [float(rate) for _, rate in region.rates + region.curve]
    return max(rates) if rates else region.write_rate


def _worth(region: Any) -> list[int]:
    """What each rate of a region is worth at the highest one, nanoseconds."""
    return [int(lasts * _share(rate, region)) for lasts, rate in _steps(region)]


def _share(rate: float, region: Any) -> float:
    return rate / (_highest(region) or 1.0)


def _first_rate(region: Any, s: Any) -> int:
    """How many rates the regions before it have."""
    before = next(i for i, each in enumerate(s.guest.regions) if each is region)
    return sum(_step_count(each) for each in s.guest.regions[:before])


def _step_count(region: Any) -> int:
    """How many rates a region has, 0 if it has but one."""
    count = len(region.rates) + len(region.curve)
    return count if count > 1 else 0


REGIONS: Mapping[str, Expression] = {
    "start": lambda region, s: region.start // s.guest.page_size,
    "pages": lambda region, s: region.size // s.guest.page_size,
    "writes_per_s": lambda region, s: _highest(region) / s.guest.page_size,
    "rate_first": lambda region, s: _first_rate(region, s),
    "rate_count": lambda region, s: _step_count(region),
    "period_ns": lambda region, s: np.where(region.periodic, sum(lasts for lasts, _ in _steps(region)), 0),
    "period_work_ns": lambda region, s: np.where(region.periodic, sum(_worth(region)), 0),
    "vcpu_share": lambda region, s: np.rint(region.vcpu_share * state.WHOLE_VCPU),
    "phase": lambda region, s: each(lambda phase: state.DRAWN if phase is None else phase, region.phase),
    "sequential": lambda region, s: each(lambda pattern: pattern == "sequential", region.pattern),
    "zero_share": lambda region, s: region.zero_share * _detects(s),
}
"""Fields of a region, of the region and the scenario."""


def _given(value: Any, otherwise: float) -> Any:
    """What a change gives, `otherwise` where it gives nothing."""
    return each(lambda given: otherwise if given is None else float(given), value)


def _of_new_link(value: Callable[[Any, Any], Any]) -> Expression:
    """A field of the link from a change on, of the scenario and the new bandwidth; 0 where the link stays."""

    def expression(change: Any, s: Any) -> Any:
        if change.link_bandwidth is None:
            return 0
        return value(s, change.link_bandwidth)

    return expression


_COMMANDS = {
    None: state.KEEP,
    "stop": state.STOP_VM,
    "migrate_cancel": state.CANCEL,
    "migrate-start-postcopy": state.START_POSTCOPY,
}

CHANGES: Mapping[str, Expression] = {
    "at_ns": lambda change, s: _ns(change.at),
    "max_bandwidth": lambda change, s: np.rint(_given(change.max_bandwidth, -1.0)),
    "downtime_limit_ms": lambda change, s: np.where(
        _given(change.downtime_limit, -1.0) < 0, -1.0, _ns(_given(change.downtime_limit, 0.0)) / 1e6
    ),
    "ns_per_byte": _of_new_link(lambda s, new: 1e9 / wire(s, new)),
    "slack_ns": _of_new_link(lambda s, new: np.floor(s.link.send_buffer * (1e9 / wire(s, new)))),
    "fresh_ns_per_byte": _of_new_link(_fresh_ns_per_byte),
    "fresh_slack_ns": _of_new_link(lambda s, new: np.floor(s.link.send_buffer * _fresh_ns_per_byte(s, new))),
    "channels_ns_per_byte": _of_new_link(lambda s, new: 1e9 / new),
    "channels_slack_ns": _of_new_link(lambda s, new: _channels_slack_ns(s, 1e9 / new)),
    "channels_fresh_ns_per_byte": _of_new_link(_fresh_on),
    "channels_fresh_slack_ns": _of_new_link(lambda s, new: _channels_slack_ns(s, _fresh_on(s, new))),
    "link_bandwidth": _of_new_link(lambda s, new: np.rint(new)),
    "command": lambda change, s: each(lambda given: _COMMANDS[given], change.command),
}
"""Fields of a change, of the change and the scenario."""


def _of_kind(vfio: Expression | None = None, block: Expression | None = None) -> Expression:
    """What a device of a kind has, 0 for any other kind."""
    expressions = {"vfio": vfio, "block": block}

    def expression(device: Any) -> Any:
        of_kind = expressions.get(device.kind)
        return 0 if of_kind is None else of_kind(device)

    return expression


DEVICES: Mapping[str, Expression] = {
    "kind": lambda device: KINDS[device.kind],
    "initial_bytes": _of_kind(vfio=lambda device: device.initial_bytes, block=lambda device: device.size),
    "dirty_rate": _of_kind(vfio=lambda device: device.dirty_rate),
    "dirty_max": _of_kind(vfio=lambda device: device.dirty_max),
    "stop_copy_bytes": _of_kind(vfio=lambda device: device.stop_copy_bytes),
    "chunk_bytes": _of_kind(vfio=lambda device: device.chunk),
    "read_ns_per_byte": _of_kind(
        vfio=lambda device: 1e9 / device.read_rate, block=lambda device: 1e9 / device.read_rate
    ),
    "load_ns": _of_kind(vfio=lambda device: _ns(device.load_time)),
}
"""Fields of a device, of the device."""


# --- records -------------------------------------------------------------------------------------


_CASE, _LINK, _REGION, _DEVICE, _RATE, _CHANGE = map(
    state.dtype_of, (state.CASE, state.LINK, state.REGION, state.DEVICE, state.RATE, state.CHANGE)
)


def cases(scenario: Any, rows: int) -> np.ndarray:
    """The cases of scenarios of one structure: a view of so many rows."""
    found = np.zeros(rows, _CASE)
    for name, expression in CASES.items():
        found[name] = expression(scenario)
    return found


def links(scenario: Any, rows: int) -> np.ndarray:
    """The links of scenarios of one structure."""
    found = np.zeros(rows, _LINK)
    for name, expression in LINKS.items():
        found[name] = expression(scenario)
    return found


def regions(scenario: Any, rows: int, width: int) -> np.ndarray:
    """The regions of scenarios of one structure; rows are padded with zeroes to `width`."""
    found = np.zeros((rows, width), _REGION)
    for place, region in enumerate(scenario.guest.regions):
        for name, expression in REGIONS.items():
            found[name][:, place] = expression(region, scenario)
    return found


def devices(scenario: Any, rows: int, width: int) -> np.ndarray:
    """The devices of scenarios of one structure, in list order; rows are padded with zeroes to `width`.

    Scenarios of one structure have the same entries in their device lists, but an entry may stand for more devices in
    one than in another, and those behind it then have other places.
    """
    found = np.zeros((rows, width), _DEVICE)
    first: Any = 0
    for device in placed(scenario.devices):
        count = copies(device)
        at: Any = np.s_[:, first : first + count] if _is_single(first, count) else _spread(rows, first, count)
        row = np.s_[:, None] if isinstance(at[0], slice) else at[0]
        for name, expression in DEVICES.items():
            value = expression(device)
            found[name][at] = value if _is_single(value) else value[row]
        first = first + count
    return found


def rates(scenario: Any, rows: int, width: int) -> np.ndarray:
    """The rates of all regions whose rate changes, one region after the other; rows are padded to `width`."""
    found = np.zeros((rows, width), _RATE)
    first = 0
    for region in scenario.guest.regions:
        given = _steps(region)
        here = found[:, first : first + len(given)]
        if given:
            here["from_ns"] = np.cumsum([0, *(lasts for lasts, _ in given[:-1])])
            here["share"] = [_share(rate, region) for _, rate in given]
            here["before_ns"] = np.cumsum([0, *_worth(region)[:-1]])
        first += len(given)
    return found


def changes(scenario: Any, rows: int, width: int) -> np.ndarray:
    """The changes of scenarios of one structure; rows are padded with zeroes to `width`."""
    found = np.zeros((rows, width), _CHANGE)
    for place, change in enumerate(scenario.changes):
        for name, expression in CHANGES.items():
            found[name][:, place] = expression(change, scenario)
    return found


def most_rates(scenarios: Sequence[Any]) -> int:
    """Width of the rates of scenarios, at least 1."""
    return max(1, *(sum(len(_steps(region)) for region in scenario.guest.regions) for scenario in scenarios))


def _is_single(*values: Any) -> bool:
    return not any(isinstance(value, np.ndarray) for value in values)


def _spread(rows: int, first: Any, count: Any) -> tuple[np.ndarray, np.ndarray]:
    """Row and place of every device, where each row has `count` of them in a row from place `first` on."""
    first, count = np.broadcast_to(first, rows), np.broadcast_to(count, rows)
    row = np.repeat(np.arange(rows), count)
    return row, np.arange(len(row)) - np.repeat(np.cumsum(count) - count - first, count)


def _structure(scenario: Scenario) -> tuple[Any, ...]:
    """What scenarios must share to be seen as one view."""
    rates = tuple((region.rates, region.curve) for region in scenario.guest.regions)
    given = tuple(tuple(value is None for value in change.__dict__.values()) for change in scenario.changes)
    return rates, given, *(device.kind for device in scenario.devices)


def records(scenarios: Sequence[Scenario]) -> Records:
    """Turn scenarios into the records that a kernel takes, one row a scenario.

    Parameters
    ----------
    scenarios : sequence of Scenario
        One or more.

    Returns
    -------
    Records
        Of the dtypes of :mod:`migkit.kernels.state`. Regions and devices are padded with zeroes to the widest row;
        bandwidth limits are rounded to whole bytes per second, times to nanoseconds.

    Raises
    ------
    ScenarioError
        If there is no scenario.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> one = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="8 Gbit/s"))
    >>> records([one, one.replace("guest.ram", "2 GiB")]).cases.ram_pages
    array([262144, 524288])
    """
    alike: dict[tuple[Any, ...], list[int]] = {}
    for row, scenario in enumerate(scenarios):
        alike.setdefault(_structure(scenario), []).append(row)
    if not alike:
        raise ScenarioError("needs at least one scenario", "records()")
    seen = [(len(rows), _view([scenarios[row] for row in rows])) for rows in alike.values()]
    most_regions = max(1, *(len(view.guest.regions) for _, view in seen))
    width = most_rates([view for _, view in seen])
    most_changes = max(1, *(len(view.changes) for _, view in seen))
    most_devices = max(int(np.max(CASES["device_count"](view))) for _, view in seen)
    order = np.argsort(np.concatenate([np.array(rows) for rows in alike.values()]))

    def joined(parts: list[np.ndarray]) -> np.ndarray:
        # np.take copies a record as bytes; indexing copies it field by field
        whole = parts[0] if len(parts) == 1 else np.take(np.concatenate(parts), order, axis=0)
        return whole.view(np.recarray)

    return Records(
        joined([cases(view, rows) for rows, view in seen]),
        joined([links(view, rows) for rows, view in seen]),
        joined([regions(view, rows, most_regions) for rows, view in seen]),
        joined([devices(view, rows, most_devices) for rows, view in seen]),
        joined([rates(view, rows, width) for rows, view in seen]),
        joined([changes(view, rows, most_changes) for rows, view in seen]),
    )


def _view(scenarios: Sequence[Scenario]) -> Any:
    """Scenarios of one structure as one; a single one as it is."""
    columns = dict(columns_of(scenarios))
    return View(scenarios[0], columns) if columns else scenarios[0]
