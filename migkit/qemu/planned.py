"""The scenario of a recording that was not made yet: what a plan is predicted to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migkit.qemu.costs import NOT_MODELLED, XBZRLE_PAGE_S
from migkit.qemu.guest import FIRST_START
from migkit.qemu.predict import (
    ENCODED_PAGE_BYTES,
    NO_WIRE_BYTES_PER_S,
    PAGE,
    RTT_S,
    counters,
    guest_of,
    rules_of,
)
from migkit.scenario.errors import ScenarioError
from migkit.scenario.parts import HostCosts, Link, Migration, Region
from migkit.scenario.scenario import Scenario
from migkit.scenario.units import Bytes, Rate, Seconds

if TYPE_CHECKING:
    from migkit.qemu.plan import Plan

_PARAMETERS = (
    "avail-switchover-bandwidth",
    "cpu-throttle-increment",
    "cpu-throttle-initial",
    "max-cpu-throttle",
    "max-postcopy-bandwidth",
    "throttle-trigger-threshold",
    "vcpu-dirty-limit",
    "x-vcpu-dirty-limit-period",
    "xbzrle-cache-size",
    "zero-page-detection",
)
_CAPABILITIES = ("auto-converge", "dirty-limit", "multifd", "postcopy-preempt", "postcopy-ram", "return-path",
                 "switchover-ack", "xbzrle")  # fmt: skip
_RATES = ("avail-switchover-bandwidth", "max-postcopy-bandwidth")


def scenario_of_plan(plan: Plan, version: str, costs: HostCosts | None = None) -> Scenario:
    """Build the scenario of a plan, before anything is recorded.

    Parameters
    ----------
    plan : Plan
        With a link or max-bandwidth, as nothing else says how fast loopback is, and without regions at full speed.
    version : str
        Version of QEMU, such as ``"10.0.2"``.
    costs : HostCosts, optional
        Of the host; the default costs if it is not given.

    Returns
    -------
    Scenario

    Raises
    ------
    ScenarioError
        If the plan has what the model lacks, or does not say how fast the guest or the link is.

    Examples
    --------
    >>> from migkit.qemu import Plan
    >>> plan = Plan(regions=[{"size": "64 MiB", "rate": "50 MB/s"}])
    >>> scenario_of_plan(plan, "10.0.2").qemu
    '10.0'
    """
    for name in plan.capabilities:
        if name not in _CAPABILITIES:
            why = NOT_MODELLED.get(name, "the model does not have it")
            raise ScenarioError(f"has no model: {why}", "capabilities", name)
    for name in plan.parameters:
        if name not in _PARAMETERS:
            raise ScenarioError("has no model", "parameters", name)
    if plan.changes:
        raise ScenarioError("has no model: parameters are those of the start", "changes")
    if not plan.link and not plan.max_bandwidth:
        raise ScenarioError("or max-bandwidth must be above 0: how fast loopback is, only a run tells", "link", "0 B/s")
    written = [counters(FIRST_START)]
    for i, region in enumerate(plan.regions):
        if region.writes_per_s is None:
            raise ScenarioError("is full speed: how fast that is, only a run tells", f"regions.{i}.rate", "max")
        rate = Rate(float(region.writes_per_s * PAGE))
        written.append(Region(size=region.size, start=region.start, write_rate=rate, pattern=region.pattern))
    devices = []
    if plan.device is not None:
        from migkit.qemu.device import Device

        devices.append(Device.parse(plan.device).scenario())
    own = {name.replace("-", "_"): value for name, value in plan.parameters.items()}
    if period_ms := own.pop("x_vcpu_dirty_limit_period", None):
        own["x_vcpu_dirty_limit_period"] = f"{period_ms} ms"
    if "xbzrle_cache_size" in own:
        own["xbzrle_cache_size"] = Bytes(own["xbzrle_cache_size"])
    link = Link(bandwidth=plan.link or Rate(NO_WIRE_BYTES_PER_S), rtt=Seconds(RTT_S))
    host = HostCosts() if costs is None else costs
    if "xbzrle" in plan.capabilities:
        link = link.changed(xbzrle_page=Bytes(ENCODED_PAGE_BYTES))
        host = host.changed(xbzrle_page=host.xbzrle_page or Seconds(XBZRLE_PAGE_S))
    build = "".join(version.split(".")[:2])
    return Scenario(
        guest=guest_of(int(plan.ram), plan.accel, written, plan.zero_share, plan.dirty_ring_size, int(plan.backing)),
        devices=tuple(devices),
        link=link,
        migration=Migration(
            max_bandwidth=plan.max_bandwidth,
            downtime_limit=plan.downtime_limit,
            **{name.replace("-", "_"): name in plan.capabilities for name in _CAPABILITIES},
            multifd_channels=plan.multifd_channels,
            postcopy_at=plan.postcopy_at,
            **{name: Rate(value) if name.replace("_", "-") in _RATES else value for name, value in own.items()},
        ),
        costs=host,
        time_limit=plan.time_limit,
        **rules_of(build, version, plan.device is not None),
    )


__all__ = ["scenario_of_plan"]
