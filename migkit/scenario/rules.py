"""What the fields of a scenario must be together: versions, capabilities, devices, times that can be counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from migkit.scenario.changes import in_order
from migkit.scenario.device_list import copies, labels, name_of
from migkit.scenario.errors import ScenarioError
from migkit.scenario.fields import Rule
from migkit.scenario.versions import LOOP_SIZES, profile
from migkit.scenario.views import each
from migkit.scenario.wire import compresses

_YEAR_S = 365 * 86400


def rules(scenario: Any) -> Iterator[Rule]:
    """What the fields of a scenario must be together, or the columns of a sweep."""
    for i, device in enumerate(scenario.devices):
        if device.kind != "ram":
            yield from _version_has_device(scenario, device, f"devices.{i}")
            yield _allows_postcopy(scenario, device, f"devices.{i}")
    yield Rule(
        lambda: scenario.migration.switchover_ack & _lacks(scenario, "supports_switchover_ack"),
        lambda: ScenarioError(f"is not available in {_named(scenario)}: use 8.1 or later", "migration.switchover_ack",
                              True),
    )  # fmt: skip
    yield Rule(
        lambda: scenario.migration.dirty_limit & _lacks(scenario, "supports_dirty_limit"),
        lambda: ScenarioError(f"is not available in {_named(scenario)}: use 8.1 or later", "migration.dirty_limit",
                              True),
    )  # fmt: skip
    yield Rule(
        lambda: scenario.migration.dirty_limit & (scenario.guest.dirty_ring_size == 0),
        lambda: ScenarioError('needs guest.dirty_ring_size: each vCPU sleeps when its ring of KVM is full',
                              "migration.dirty_limit", True),
    )  # fmt: skip
    yield Rule(
        lambda: (
            (scenario.migration.avail_switchover_bandwidth > 0)
            & _lacks(scenario, "supports_avail_switchover_bandwidth")
        ),
        lambda: ScenarioError(
            f"is not available in {_named(scenario)}: use 8.2 or later",
            "migration.avail_switchover_bandwidth",
            str(scenario.migration.avail_switchover_bandwidth),
        ),
    )
    yield Rule(
        lambda: sum(device.kind == "ram" for device in scenario.devices) > 1,
        lambda: ScenarioError("holds RAM more than once: at most one entry may be of kind ram", "devices"),
    )
    yield Rule(
        lambda: scenario.guest.tracking > scenario.guest.page_size << scenario.migration.x_clear_bitmap_shift,
        lambda: ScenarioError("is more than a chunk of the dirty log: raise migration.x_clear_bitmap_shift, or use "
                              "less", "guest.tracking", str(scenario.guest.tracking)),
    )  # fmt: skip
    yield Rule(
        lambda: scenario.migration.multifd & (scenario.guest.backing > scenario.guest.page_size),
        lambda: ScenarioError("is not modelled beside migration.multifd: give 0 B, and calls of RAM are as short as "
                              "with pages of the target's size", "guest.backing", str(scenario.guest.backing)),
    )  # fmt: skip
    yield Rule(
        lambda: (
            scenario.migration.multifd & scenario.migration.postcopy_ram
            & _lacks(scenario, "supports_multifd_postcopy")
        ),
        lambda: ScenarioError(f"cannot be on together with migration.postcopy_ram in {_named(scenario)}: use 10.1 or "
                              "later", "migration.multifd", True),
    )  # fmt: skip
    yield Rule(
        lambda: scenario.migration.postcopy_preempt & _lacks(scenario, "supports_postcopy_preempt"),
        lambda: ScenarioError(f"is another one in {_named(scenario)}, which was not read: use 8.0 or later",
                              "migration.postcopy_preempt", True),
    )  # fmt: skip
    yield from _may_compress(scenario)
    yield Rule(
        lambda: (
            each(lambda given: given is not None, scenario.migration.zero_page_detection)
            & _lacks(scenario, "supports_zero_page_detection")
        ),
        lambda: ScenarioError(f"is not available in {_named(scenario)}: use 9.0 or later",
                              "migration.zero_page_detection", scenario.migration.zero_page_detection),
    )  # fmt: skip
    yield Rule(
        lambda: scenario.migration.xbzrle & (scenario.migration.xbzrle_cache_size < scenario.guest.page_size),
        lambda: ScenarioError(f"is less than a page of {scenario.guest.page_size}", "migration.xbzrle_cache_size",
                              str(scenario.migration.xbzrle_cache_size)),
    )  # fmt: skip
    yield from _may_use_threads(scenario)
    yield _of_xbzrle(scenario, "link.xbzrle_page", lambda: scenario.link.xbzrle_page)
    yield _of_xbzrle(scenario, "costs.xbzrle_page", lambda: scenario.costs.xbzrle_page)
    yield from in_order(scenario.changes)
    yield from _may_start_postcopy(scenario)
    yield from _names_differ(scenario.devices)
    yield from _within_a_year(scenario)


def _named(scenario: Any) -> str:
    return f'profile "{scenario.qemu}"'


def _lacks(scenario: Any, what: str) -> Any:
    """Whether the version does not have something, by the name of the profile's field."""
    return each(lambda qemu: not getattr(profile(qemu), what), scenario.qemu)


_METHODS = {"supports_qpl_uadk": ("9.1", ("qpl", "uadk")), "supports_qatzip": ("9.2", ("qatzip",))}
"""Methods of multifd-compression that earlier versions lack, and since when there are any."""


def _may_compress(scenario: Any) -> Iterator[Rule]:
    """Compression has a method that the version has, and what it makes of the pages is known."""
    for what in _METHODS:
        yield _has_method(scenario, what)
    yield _is_known(scenario, "link.compression_ratio", lambda: scenario.link.compression_ratio)
    yield _is_known(scenario, "costs.compress_page", lambda: scenario.costs.compress_page)


def _has_method(scenario: Any, what: str) -> Rule:
    since, methods = _METHODS[what]
    return Rule(
        lambda: (
            each(lambda method: method in methods, scenario.migration.multifd_compression) & _lacks(scenario, what)
        ),
        lambda: ScenarioError(
            f"is not available in {_named(scenario)}: use {since} or later", "migration.multifd_compression",
            scenario.migration.multifd_compression,
        ),
        monotone=False,
    )  # fmt: skip


_WITHOUT_COMPRESS = {
    "multifd": "QEMU refuses it, use multifd_compression",
    "postcopy_ram": "QEMU refuses it, use one of the two",
    "xbzrle": "compression ends where xbzrle begins, which is not modelled, use one of the two",
}


def _may_use_threads(scenario: Any) -> Iterator[Rule]:
    """The capability compress: up to 9.0, not beside others, and what it makes of the pages is known."""
    yield Rule(
        lambda: scenario.migration.compress & _lacks(scenario, "supports_compress"),
        lambda: ScenarioError(f"was removed in 9.1 and is not in {_named(scenario)}: use multifd with "
                              "multifd_compression, or 9.0 or earlier", "migration.compress", True),
    )  # fmt: skip
    for name, why in _WITHOUT_COMPRESS.items():
        yield _excludes(scenario, name, why)
    yield _needs_known(scenario, "link.compression_ratio", lambda: scenario.link.compression_ratio)
    yield _needs_known(scenario, "costs.compress_page", lambda: scenario.costs.compress_page)


def _excludes(scenario: Any, name: str, why: str) -> Rule:
    return Rule(
        lambda: scenario.migration.compress & getattr(scenario.migration, name),
        lambda: ScenarioError(f"cannot be on together with migration.{name}: {why}", "migration.compress", True),
    )


def _needs_known(scenario: Any, field: str, given: Callable[[], Any]) -> Rule:
    return Rule(
        lambda: scenario.migration.compress & (given() == 0),
        lambda: ScenarioError(f"needs {field}: only a try with this guest tells it", "migration.compress", True),
    )


def _of_xbzrle(scenario: Any, field: str, given: Callable[[], Any]) -> Rule:
    return Rule(
        lambda: scenario.migration.xbzrle & (given() == 0),
        lambda: ScenarioError(f"needs {field}: only a try with this guest tells it", "migration.xbzrle", True),
    )


def _is_known(scenario: Any, field: str, given: Callable[[], Any]) -> Rule:
    return Rule(
        lambda: compresses(scenario) & (given() == 0),
        lambda: ScenarioError(
            f"needs {field}: only a try with this guest tells it", "migration.multifd_compression",
            scenario.migration.multifd_compression,
        ),
        monotone=False,
    )  # fmt: skip


def _may_start_postcopy(scenario: Any) -> Iterator[Rule]:
    """Post-copy is started by a change or a management policy only with the capability."""
    for i, change in enumerate(scenario.changes):
        yield _needs_postcopy_ram(scenario, change, "command", f"changes.{i}.command")
    yield _needs_postcopy_ram(scenario, scenario, "management", "management")


def _needs_postcopy_ram(scenario: Any, part: Any, name: str, field: str) -> Rule:
    def broken(given: Any, may: bool) -> bool:
        return not may and (given == "migrate-start-postcopy" or getattr(given, "starts_postcopy", False))

    return Rule(
        lambda: each(broken, getattr(part, name), scenario.migration.postcopy_ram),
        lambda: ScenarioError("starts post-copy, which needs migration.postcopy_ram = True", field,
                              str(getattr(part, name))),
    )  # fmt: skip


def _allows_postcopy(scenario: Any, device: Any, field: str) -> Rule:
    if device.kind == "vfio":
        return Rule(
            lambda: (device.count > 0) & scenario.migration.postcopy_ram,
            lambda: ScenarioError("is a VFIO device, which refuses to migrate with postcopy-ram "
                                  "(hw/vfio/migration.c:vfio_save_prepare): turn migration.postcopy_ram off", field),
        )  # fmt: skip
    return Rule(
        lambda: scenario.migration.postcopy_ram,
        lambda: ScenarioError("is a block device, and a disk cannot follow after a switch to post-copy: turn "
                              "migration.postcopy_ram off", field),
    )  # fmt: skip


def _version_has_device(scenario: Any, device: Any, field: str) -> Iterator[Rule]:
    if device.kind == "vfio":
        yield Rule(
            lambda: (device.count > 0) & _lacks(scenario, "supports_vfio"),
            lambda: ScenarioError(f"is a VFIO device, which {_named(scenario)} does not have: use 8.0 or later", field),
        )
        yield Rule(
            lambda: (
                (device.count > 0)
                & ((device.initial_bytes > 0) | (device.dirty_rate > 0))
                & _lacks(scenario, "supports_vfio_precopy")
            ),
            lambda: ScenarioError(f"has initial or dirty data, and VFIO of {_named(scenario)} has no pre-copy: use 8.1 "
                                  "or later, or stop_copy_bytes alone", field),
        )  # fmt: skip
        return
    yield Rule(
        lambda: _lacks(scenario, "supports_block"),
        lambda: ScenarioError(f"is a block device, which {_named(scenario)} no longer has: use 9.0 or earlier", field),
    )


def _names_differ(devices: Sequence[Any]) -> Iterator[Rule]:
    """No two devices have one name, and none has that of a column of a timeline."""
    for i, device in enumerate(devices):
        if device.kind != "ram":
            yield _no_name_of_the_loop(device, f"devices.{i}.name")
    kinds = tuple(device.kind for device in devices)

    def named() -> list[Any]:
        return [value for device in devices for value in (name_of(device), copies(device))]

    def of_all(*given: Any) -> tuple[str, ...]:
        return labels(tuple(zip(kinds, given[::2], given[1::2], strict=True)))

    def doubled(*given: Any) -> bool:
        found = of_all(*given)
        return len(set(found)) < len(found)

    def error() -> ScenarioError:
        found = of_all(*named())
        twice = max(found, key=found.count)
        return ScenarioError(f'gives the name "{twice}" to more than one device: names must differ', "devices")

    yield Rule(lambda: each(doubled, *named()), error, monotone=False)


def _no_name_of_the_loop(device: Any, field: str) -> Rule:
    return Rule(
        lambda: each(lambda name: name in LOOP_SIZES, device.name),
        lambda: ScenarioError("is what a timeline calls a column of its own: choose another name", field, device.name),
    )


def _size(device: Any) -> Any:
    return device.size if device.kind == "block" else device.initial_bytes + device.dirty_max + device.stop_copy_bytes


def _within_a_year(scenario: Any) -> Iterator[Rule]:
    """Times are 64-bit nanoseconds: what takes a year for one copy would not fit after some rounds."""
    devices = [device for device in scenario.devices if device.kind != "ram"]

    def sent() -> Any:
        size = scenario.guest.ram + scenario.link.send_buffer
        return size + sum(1.0 * copies(device) * _size(device) for device in devices)

    def error(field: str) -> ScenarioError:
        given = str(getattr(scenario.link, field))
        return ScenarioError("needs more than a year to carry RAM and devices once: raise it", f"link.{field}", given)

    yield Rule(
        lambda: sum(copies(device) * _size(device) / device.read_rate for device in devices) > _YEAR_S,
        lambda: ScenarioError("need more than a year to be read once: raise their read_rate", "devices"),
    )
    yield Rule(
        lambda: (scenario.link.stream_bandwidth > 0) & (sent() > _YEAR_S * scenario.link.stream_bandwidth),
        lambda: error("stream_bandwidth"),
    )
    yield Rule(
        lambda: (scenario.link.fresh_bandwidth > 0) & (sent() > _YEAR_S * scenario.link.fresh_bandwidth),
        lambda: error("fresh_bandwidth"),
    )
    yield Rule(lambda: sent() > _YEAR_S * scenario.link.bandwidth, lambda: error("bandwidth"))
