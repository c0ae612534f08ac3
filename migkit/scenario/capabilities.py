"""Capabilities of the migration: which versions have them, which exclude each other, and what they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from migkit.scenario.errors import ScenarioError
from migkit.scenario.fields import Rule
from migkit.scenario.versions import profile
from migkit.scenario.views import each

__all__ = ["capability_rules", "lacks", "named"]


def named(scenario: Any) -> str:
    """Name the profile of a scenario, for a sentence.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> named(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"), qemu="9.0"))
    'profile "9.0"'
    """
    return f'profile "{scenario.qemu}"'


def lacks(scenario: Any, what: str) -> Any:
    """Whether the version does not have something, by the name of the profile's field.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"), qemu="8.0")
    >>> bool(lacks(scenario, "supports_dirty_limit"))
    True
    """
    return each(lambda qemu: not getattr(profile(qemu), what), scenario.qemu)


def capability_rules(scenario: Any) -> Iterator[Rule]:
    """What must hold of the capabilities of a scenario, and of what they need in its other parts.

    Examples
    --------
    >>> from migkit import Guest, Link, Migration, Scenario
    >>> Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"), migration=Migration(dirty_limit=True))
    Traceback (most recent call last):
    ...
    migkit.ScenarioError: migration.dirty_limit = True needs guest.dirty_ring_size: a vCPU sleeps when its ring is full.
    """
    yield Rule(
        lambda: scenario.migration.switchover_ack & lacks(scenario, "supports_switchover_ack"),
        lambda: ScenarioError(f"is not available in {named(scenario)}: use 8.1 or later", "migration.switchover_ack",
                              True),
    )  # fmt: skip
    yield Rule(
        lambda: scenario.migration.dirty_limit & lacks(scenario, "supports_dirty_limit"),
        lambda: ScenarioError(f"is not available in {named(scenario)}: use 8.1 or later", "migration.dirty_limit",
                              True),
    )  # fmt: skip
    yield Rule(
        lambda: scenario.migration.dirty_limit & (scenario.guest.dirty_ring_size == 0),
        lambda: ScenarioError('needs guest.dirty_ring_size: a vCPU sleeps when its ring is full',
                              "migration.dirty_limit", True),
    )  # fmt: skip
    yield Rule(
        lambda: (
            (scenario.migration.avail_switchover_bandwidth > 0) & lacks(scenario, "supports_avail_switchover_bandwidth")
        ),
        lambda: ScenarioError(
            f"is not available in {named(scenario)}: use 8.2 or later",
            "migration.avail_switchover_bandwidth",
            str(scenario.migration.avail_switchover_bandwidth),
        ),
    )
    yield Rule(
        lambda: (
            scenario.migration.multifd & scenario.migration.postcopy_ram & lacks(scenario, "supports_multifd_postcopy")
        ),
        lambda: ScenarioError(f"cannot be on together with migration.postcopy_ram in {named(scenario)}: use 10.1 or "
                              "later", "migration.multifd", True),
    )  # fmt: skip
    yield from _may_compress(scenario)
    yield Rule(
        lambda: scenario.migration.xbzrle & (scenario.migration.xbzrle_cache_size < scenario.guest.page_size),
        lambda: ScenarioError(f"is less than a page of {scenario.guest.page_size}", "migration.xbzrle_cache_size",
                              str(scenario.migration.xbzrle_cache_size)),
    )  # fmt: skip
    yield _of_xbzrle(scenario, "link.xbzrle_page", lambda: scenario.link.xbzrle_page)
    yield _of_xbzrle(scenario, "costs.xbzrle_page", lambda: scenario.costs.xbzrle_page)


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
            each(lambda method: method in methods, scenario.migration.multifd_compression) & lacks(scenario, what)
        ),
        lambda: ScenarioError(
            f"is not available in {named(scenario)}: use {since} or later", "migration.multifd_compression",
            scenario.migration.multifd_compression,
        ),
        monotone=False,
    )  # fmt: skip


def _of_xbzrle(scenario: Any, field: str, given: Callable[[], Any]) -> Rule:
    return Rule(
        lambda: scenario.migration.xbzrle & (given() == 0),
        lambda: ScenarioError(f"needs {field}: only a try with this guest tells it", "migration.xbzrle", True),
    )


def _is_known(scenario: Any, field: str, given: Callable[[], Any]) -> Rule:
    return Rule(
        lambda: each(lambda method: method != "none", scenario.migration.multifd_compression) & (given() == 0),
        lambda: ScenarioError(
            f"needs {field}: only a try with this guest tells it", "migration.multifd_compression",
            scenario.migration.multifd_compression,
        ),
        monotone=False,
    )  # fmt: skip
