"""What a scenario leaves unsaid: costs that are used where nothing was measured, and fields that have no effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from migkit.results import seconds_text
from migkit.scenario.units import Bytes, Seconds
from migkit.scenario.wire import LIMITS, PAGE_BYTES, binds, page_cost_s, stream_count, wire, wire_limits

__all__ = [
    "LARGEST_MEASURED",
    "MOST_PUBLISHED_SYNC_PER_GIB",
    "assumed_costs",
    "sync_is_assumed",
    "sync_s",
    "without_effect",
]

LARGEST_MEASURED = 2**30
"""RAM of the largest guest of the measured runs, bytes."""
MOST_PUBLISHED_SYNC_PER_GIB = Seconds(73e-3 / 256)
"""The most that was published of large guests under KVM, seconds: 73 ms for 256 GiB (before QEMU commit e8a6d158db,
with which it is 12 ms, the default; 64 vCPUs and several vhost devices)."""
_NOTED_SYNC_S = 5e-3
_NOTED_SHARE = 0.1


def _is_default(part: Any, *names: str) -> bool:
    return all(getattr(part, name) == type(part).model_fields[name].default for name in names)


def sync_s(scenario: Any) -> float:
    """What a bitmap sync takes, seconds."""
    costs = scenario.costs
    return float(costs.bitmap_sync) + float(costs.bitmap_sync_per_gib) * float(scenario.guest.ram) / 2**30


def sync_is_assumed(scenario: Any) -> bool:
    """Whether a sync may decide something, and takes the default cost of more RAM than it was measured with.

    It may if at the most that was published it takes a twentieth of a window of the rate limit, or a tenth of the
    downtime limit.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> large = Scenario(guest=Guest(ram="192 GiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> sync_is_assumed(large), sync_is_assumed(large.replace("costs.bitmap_sync_per_gib", "0.05 ms"))
    (True, False)
    """
    most_s = float(MOST_PUBLISHED_SYNC_PER_GIB) * float(scenario.guest.ram) / 2**30
    return (
        scenario.guest.ram > LARGEST_MEASURED
        and _is_default(scenario.costs, "bitmap_sync", "bitmap_sync_per_gib")
        and most_s >= min(_NOTED_SYNC_S, _NOTED_SHARE * float(scenario.migration.downtime_limit))
    )


def assumed_costs(scenario: Any) -> tuple[str, ...]:
    """What is taken for granted because the scenario does not say it, where the result may hang on it.

    Parameters
    ----------
    scenario : Scenario

    Returns
    -------
    tuple of str
        Sentences without a full stop, each with the field that says otherwise.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> large = Scenario(guest=Guest(ram="64 GiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> for each in assumed_costs(large):
    ...     print(each)
    a bitmap sync of 64 GiB takes 3.04 ms as published of 256 GiB, measured up to 1 GiB: costs.bitmap_sync_per_gib
    """
    return tuple(_assumed(scenario))


def _assumed(scenario: Any) -> Iterator[str]:
    guest, costs = scenario.guest, scenario.costs
    if sync_is_assumed(scenario):
        yield (
            f"a bitmap sync of {guest.ram} takes {seconds_text(sync_s(scenario))} as published of 256 GiB, measured "
            f"up to {Bytes(LARGEST_MEASURED)}: costs.bitmap_sync_per_gib"
        )
    if guest.page_size != PAGE_BYTES and _is_default(costs, "copy_share"):
        yield (
            f"a page of {guest.page_size} costs what its bytes cost: costs.copy_share, while all measured pages have "
            f"{Bytes(PAGE_BYTES)}"
        )
    if LIMITS[int(binds(scenario))] == "thread":
        channel_s = float(page_cost_s(scenario, costs.channel_page) / stream_count(scenario))
        name = "channel_page" if channel_s > costs.multifd_page else "multifd_page"
        name = name if scenario.migration.multifd else "page"
        if _is_default(costs, name):
            yield (
                f"RAM is held to {float(wire_limits(scenario)['thread']) / 1e6:.4g} MB/s by costs.{name}, "
                f"{getattr(costs, name)} as on the one machine that was measured"
            )
    if guest.used_at == "spread" and guest.used > 0:
        yield "what is in use outside the regions is spread over RAM: guest.used_at"
    for index, region in enumerate(guest.regions):
        if scenario.migration.auto_converge and region.highest_rate > 0 and _is_default(region, "vcpu_share"):
            yield (
                f"the guest writes as fast as its vCPU lets it, and slows down with any throttle: "
                f"guest.regions.{index}.vcpu_share, 1 where it is not given"
            )
            break  # once is enough
    if scenario.migration.postcopy_ram and not _starts_postcopy(scenario):
        yield "post-copy is allowed and never started: migration.postcopy_at"
    for index, device in enumerate(scenario.devices):
        if device.kind == "vfio" and device.count > 0:
            yield from _of_device(scenario, index, device)


def _of_device(scenario: Any, index: int, device: Any) -> Iterator[str]:
    read_s = device.count * device.stop_copy_bytes / float(device.read_rate)
    noted_s = _NOTED_SHARE * float(scenario.migration.downtime_limit)
    if _is_default(device, "read_rate") and device.read_rate < wire(scenario) and read_s > noted_s:
        yield (
            f"what the stopped devices send is read in {seconds_text(read_s)}: devices.{index}.read_rate, "
            f"{device.read_rate} as of a synthetic device"
        )
    if device.initial_bytes > 0 and _is_default(device, "load_time"):
        yield (
            f"the destination loads {device.initial_bytes} of initial data in {device.load_time}: "
            f"devices.{index}.load_time, as of a synthetic device"
        )


def _starts_postcopy(scenario: Any) -> bool:
    return (
        scenario.migration.postcopy_at is not None
        or any(change.command == "migrate-start-postcopy" for change in scenario.changes)
        or bool(getattr(scenario.management, "starts_postcopy", False))
    )


def without_effect(scenario: Any) -> tuple[str, ...]:
    """Fields that were given and have no effect with the others: parameters whose capability is off, and the like.

    QEMU takes these parameters too. What cannot be meant is refused instead, such as a phase of uniform writes.

    Parameters
    ----------
    scenario : Scenario

    Returns
    -------
    tuple of str
        Sentences without a full stop.

    Examples
    --------
    >>> from migkit import Guest, Link, Migration, Scenario
    >>> channels = Migration(multifd_channels=8)
    >>> without_effect(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"), migration=channels))
    ('migration.multifd_channels = 8 has no effect without migration.multifd',)
    """
    return tuple(_idle_fields(scenario))


_NEEDS = {
    "multifd_channels": "multifd",
    "compress_threads": "compress",
    "max_postcopy_bandwidth": "postcopy_ram",
    "throttle_trigger_threshold": "auto_converge",
    "cpu_throttle_initial": "auto_converge",
    "cpu_throttle_increment": "auto_converge",
    "max_cpu_throttle": "auto_converge",
    "cpu_throttle_tailslow": "auto_converge",
    "vcpu_dirty_limit": "dirty_limit",
    "x_vcpu_dirty_limit_period": "dirty_limit",
    "xbzrle_cache_size": "xbzrle",
}
"""Parameters of a migration, and the capability without which they do nothing."""
_OF_PAGES = (
    ("link", "compression_ratio", "multifd_compression"),
    ("costs", "compress_page", "multifd_compression"),
    ("link", "xbzrle_page", "xbzrle"),
    ("costs", "xbzrle_page", "xbzrle"),
)
"""What a method makes of pages, and the method."""


def _idle_fields(scenario: Any) -> Iterator[str]:
    migration, link, costs = scenario.migration, scenario.link, scenario.costs
    for name, capability in _NEEDS.items():
        if not getattr(migration, capability) and not _is_default(migration, name):
            value = getattr(migration, name)
            yield f"migration.{name} = {value} has no effect without migration.{capability}"
    if migration.zero_page_detection in ("legacy", "multifd") and not migration.multifd:
        yield (
            f"migration.zero_page_detection = {migration.zero_page_detection} has no effect without migration.multifd: "
            f"the migration thread looks for zero pages"
        )
    for part, name, needed in _OF_PAGES:
        value, used = getattr(getattr(scenario, part), name), getattr(migration, needed)
        if value > 0 and used in (False, "none") and not (needed == "multifd_compression" and migration.compress):
            yield f"{part}.{name} = {value} has no effect without migration.{needed}"
    if scenario.guest.backing == scenario.guest.page_size:
        yield f"guest.backing = {scenario.guest.backing} has no effect: it is the target's page, the default"
    devices = [device for device in scenario.devices if device.kind == "vfio" and device.count > 0]
    if migration.switchover_ack and not devices:
        yield "migration.switchover_ack = true has no effect without a VFIO device: none has to acknowledge"
    if 0 < link.bandwidth <= link.fresh_bandwidth:
        yield (
            f"link.fresh_bandwidth = {link.fresh_bandwidth} has no effect: the link carries no more than "
            f"{link.bandwidth}"
        )
    if costs.fresh_after > 0 and costs.fresh_page == 0:
        yield f"costs.fresh_after = {costs.fresh_after} has no effect without costs.fresh_page"
    for index, device in enumerate(scenario.devices):
        if device.kind != "vfio" or device.count == 0:
            continue
        if device.dirty_max > 0 and device.dirty_rate == 0:
            yield f"devices.{index}.dirty_max = {device.dirty_max} has no effect without dirty_rate"
        if device.initial_bytes == 0 and not migration.switchover_ack and not _is_default(device, "load_time"):
            yield (
                f"devices.{index}.load_time = {device.load_time} has no effect: it is that of initial data, and "
                f"initial_bytes is 0"
            )
