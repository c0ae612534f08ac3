"""The settings of a migration in the words of QEMU and of the layers that manage it, ready to paste.

What a layer calls a setting, its unit and its default are those of the sources that
:mod:`migkit.scenario.management` names. A layer does not have all settings: what it lacks is said, and
:attr:`Commands.as_run` is the migration that comes of what it has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from migkit.scenario.errors import ScenarioError, did_you_mean
from migkit.scenario.management import kubevirt, legacy_steps, nova, ovirt, proxmox
from migkit.scenario.scenario import Scenario
from migkit.scenario.units import Rate, Seconds
from migkit.scenario.versions import PROFILES

__all__ = ["DIALECTS", "Commands", "checked_dialect", "commands"]

_MIB, _GB = 1 << 20, 10**9
_QEMU_DOWNTIME_MS, _QEMU_INITIAL, _QEMU_INCREMENT = 300, 20, 10
_KUBEVIRT_CHANNELS = 8
_PROXMOX_MOST = 16 << 30  # bytes/s, where no limit is set
_NO_DIRTY_LIMIT = "dirty-limit is not set by it."
_NOVA_STEPS, _NOVA_LEAST_DELAY_S, _NOVA_LEAST_DOWNTIME_MS = 3, 3, 100


class Commands(NamedTuple):
    """The settings of a migration in the words of one layer.

    Parameters
    ----------
    dialect : str
        One of :data:`DIALECTS`.
    text : str
        What is pasted: QMP as one JSON object a line, virsh and Proxmox as shell lines, KubeVirt as YAML, Nova and
        oVirt as INI.
    cannot : tuple of str
        What the layer cannot set or does otherwise, a sentence each.
    as_run : Scenario
        The migration as the layer runs it with these settings.
    """

    dialect: str
    text: str
    cannot: tuple[str, ...]
    as_run: Scenario

    def __str__(self) -> str:
        """The text; sentences as comments above it, where the dialect has comments."""
        if self.dialect == "qemu":
            return self.text
        return "\n".join([*(f"# {sentence}" for sentence in self.cannot), self.text])

    def summary(self) -> str:
        """What is to be set, and beside it what the layer cannot set, as plain text."""
        notes = [f"# {self.dialect}", *(f"# {sentence}" for sentence in self.cannot)]
        return "\n".join([*notes, self.text])


class _Wanted(NamedTuple):
    """Settings in the units of the layers."""

    scenario: Scenario
    completion_s: float

    @property
    def downtime_ms(self) -> int:
        return max(1, math.floor(float(self.scenario.migration.downtime_limit) * 1e3 + 1e-6))

    @property
    def max_bandwidth(self) -> int:
        """Bytes/s; 0: no limit."""
        return round(float(self.scenario.migration.max_bandwidth))

    @property
    def link_mib(self) -> int:
        """The link in MiB/s, for layers that have no word for no limit."""
        return max(1, math.ceil(float(self.scenario.link.bandwidth) / _MIB))

    @property
    def max_mib(self) -> int:
        """MiB/s, rounded down; 0: no limit."""
        return max(1, self.max_bandwidth // _MIB) if self.max_bandwidth else 0

    @property
    def throttle(self) -> tuple[int, int]:
        return self.scenario.migration.cpu_throttle_initial, self.scenario.migration.cpu_throttle_increment

    @property
    def ram_bytes(self) -> int:
        return int(self.scenario.guest.ram)

    def otherwise(self, **values: Any) -> Scenario:
        """The migration with other settings."""
        return self.scenario.replace_all({
            f"migration.{name}" if name != "management" else name: value for name, value in values.items()
        })  # fmt: skip

    def lacks(self, *names: str) -> list[str]:
        """Sentences about settings that the layer does not have, where they are not QEMU's defaults."""
        migration, found = self.scenario.migration, []
        if "avail_switchover_bandwidth" in names and migration.avail_switchover_bandwidth > 0:
            found.append("avail-switchover-bandwidth cannot be set: QEMU takes the bandwidth it measured.")
        if "throttle" in names and migration.auto_converge and self.throttle != (_QEMU_INITIAL, _QEMU_INCREMENT):
            found.append(
                f"cpu-throttle-initial = {self.throttle[0]} and cpu-throttle-increment = {self.throttle[1]} cannot be "
                f"set: QEMU has {_QEMU_INITIAL} and {_QEMU_INCREMENT}."
            )
        if "switchover_ack" in names and migration.switchover_ack:
            found.append("switchover-ack cannot be set.")
        if "multifd" in names and migration.multifd:
            found.append("multifd is not set by it: QEMU sends one stream.")
        if migration.dirty_limit:
            found.append(_NO_DIRTY_LIMIT)
        if migration.multifd_compression != "none" and migration.multifd:
            found.append("multifd-compression is not set by it.")
        if migration.compress:
            found.append("compress is not set by it.")
        if migration.zero_page_detection is not None:
            found.append("zero-page-detection is not set by it.")
        if migration.cpu_throttle_tailslow and migration.auto_converge:
            found.append("cpu-throttle-tailslow is not set by it.")
        return found

    def without_these(self) -> dict[str, Any]:
        """Values that QEMU has where a layer sets neither the throttle nor the switchover bandwidth."""
        values: dict[str, Any] = {"cpu_throttle_initial": _QEMU_INITIAL, "cpu_throttle_increment": _QEMU_INCREMENT}
        if self.scenario.migration.avail_switchover_bandwidth > 0:
            values["avail_switchover_bandwidth"] = Rate(0)
        if self.scenario.migration.multifd:
            values["multifd"] = False
        return values | self.without_others()

    def without_others(self) -> dict[str, Any]:
        """Values of what no layer sets, where they are not QEMU's defaults."""
        none: dict[str, Any] = {
            "dirty_limit": False,
            "multifd_compression": "none",
            "compress": False,
            "zero_page_detection": None,
            "cpu_throttle_tailslow": False,
        }
        return {name: value for name, value in none.items() if getattr(self.scenario.migration, name) != value}


def _qemu(wanted: _Wanted) -> Commands:
    migration = wanted.scenario.migration
    profile = PROFILES[wanted.scenario.qemu]
    capabilities = {"auto-converge": migration.auto_converge}
    parameters: dict[str, Any] = {
        "max-bandwidth": wanted.max_bandwidth,
        "downtime-limit": wanted.downtime_ms,
        "cpu-throttle-initial": wanted.throttle[0],
        "cpu-throttle-increment": wanted.throttle[1],
    }
    if profile.supports_switchover_ack:
        capabilities |= {"switchover-ack": migration.switchover_ack}
    if migration.postcopy_ram:
        capabilities |= {"postcopy-ram": True}
        if migration.postcopy_preempt:
            capabilities |= {"postcopy-preempt": True}
    if migration.multifd:
        capabilities |= {"multifd": True}
        parameters["multifd-channels"] = migration.multifd_channels
        if migration.multifd_compression != "none":
            parameters["multifd-compression"] = migration.multifd_compression
    if migration.compress:
        capabilities |= {"compress": True}
        parameters["compress-threads"] = migration.compress_threads
    if migration.zero_page_detection is not None:
        parameters["zero-page-detection"] = migration.zero_page_detection
    if migration.dirty_limit:
        capabilities |= {"dirty-limit": True}
        parameters["vcpu-dirty-limit"] = migration.vcpu_dirty_limit
        parameters["x-vcpu-dirty-limit-period"] = round(float(migration.x_vcpu_dirty_limit_period) * 1e3)
    if migration.cpu_throttle_tailslow:
        parameters["cpu-throttle-tailslow"] = True
    if migration.return_path:
        capabilities = {"return-path": True} | capabilities
    if profile.supports_avail_switchover_bandwidth:
        parameters["avail-switchover-bandwidth"] = round(float(migration.avail_switchover_bandwidth))
    states = [{"capability": name, "state": bool(state)} for name, state in capabilities.items()]
    lines = [
        {"execute": "migrate-set-capabilities", "arguments": {"capabilities": states}},
        {"execute": "migrate-set-parameters", "arguments": parameters},
    ]
    cannot = (
        f"QEMU has no deadline: send migrate_cancel where the migration has not ended after "
        f"{Seconds(wanted.completion_s)}.",
        "Capabilities must be the same on the destination.",
    )
    return Commands("qemu", "\n".join(json.dumps(line) for line in lines), cannot, wanted.scenario)


def _libvirt(wanted: _Wanted) -> Commands:
    migration = wanted.scenario.migration
    words = ["virsh migrate --live"]
    if wanted.max_mib:
        words.append(f"--bandwidth {wanted.max_mib}")
    if migration.auto_converge:
        words.append("--auto-converge --auto-converge-initial {} --auto-converge-increment {}".format(*wanted.throttle))
    if migration.multifd:
        words.append(f"--parallel --parallel-connections {migration.multifd_channels}")
    available = round(float(migration.avail_switchover_bandwidth)) // _MIB
    if available:
        words.append(f"--available-switchover-bandwidth {available}")
    words.append('"$GUEST" "$DESTINATION" &')
    lines = [" ".join(words), "sleep 1", f'virsh migrate-setmaxdowntime "$GUEST" {wanted.downtime_ms}', "wait"]
    cannot = [
        "GUEST is the name of the domain, DESTINATION a URI such as qemu+ssh://host/system.",
        f"virsh has no deadline that cancels (--timeout stops the guest): run virsh domjobabort after "
        f"{Seconds(wanted.completion_s)}.",
        "The downtime limit is set once the migration runs: it is QEMU's for the first second.",
    ]
    if not wanted.max_mib:
        cannot.append("Without --bandwidth libvirt sets no limit.")
    if available:
        cannot.append("--available-switchover-bandwidth needs libvirt 11.1.")
    cannot += wanted.lacks("switchover_ack")
    if migration.dirty_limit:
        cannot.append("virsh migrate --dirty-limit was proposed in 2023 and is in no release that is known here.")
    as_run = wanted.otherwise(**wanted.without_others(), max_bandwidth=Rate(wanted.max_mib * _MIB))
    return Commands("libvirt", "\n".join(lines), tuple(cannot), as_run)


def _kubevirt(wanted: _Wanted) -> Commands:
    size = math.ceil(wanted.ram_bytes / _GB)
    timeout = max(1, math.floor(wanted.completion_s / size))
    limit = f"{wanted.max_mib}Mi" if wanted.max_mib else "0"
    converge = str(wanted.scenario.migration.auto_converge).lower()
    lines = [
        "spec:",
        "  configuration:",
        "    migrations:",
        f"      bandwidthPerMigration: {json.dumps(limit)}",
        f"      allowAutoConverge: {converge}",
        "      allowPostCopy: false",
        f"      completionTimeoutPerGiB: {timeout}",
    ]
    cannot = [f"completionTimeoutPerGiB counts 10^9 bytes, here {size}: cancelled after {timeout * size} s."]
    if timeout * size > wanted.completion_s:
        cannot.append(f"A shorter end than 1 s for 10^9 bytes cannot be set: {Seconds(wanted.completion_s)} is less.")
    if wanted.downtime_ms != _QEMU_DOWNTIME_MS:
        cannot.append(
            f"downtime-limit = {wanted.downtime_ms} ms cannot be set: it is QEMU's {_QEMU_DOWNTIME_MS} ms, unless the "
            f"feature gate MigrationDowntimeTuning (alpha) is on, with maxDowntimeMs: {wanted.downtime_ms}."
        )
    cannot += wanted.lacks("avail_switchover_bandwidth", "throttle", "switchover_ack")
    if not wanted.scenario.migration.multifd:
        cannot.append("Eight multifd channels, which it uses unless the pod has CPU limits, are not in this answer.")
    elif wanted.scenario.migration.multifd_channels != _KUBEVIRT_CHANNELS:
        cannot.append("multifd-channels cannot be set: it has eight unless the pod has CPU limits.")
    channels = {"multifd": True, "multifd_channels": _KUBEVIRT_CHANNELS} if wanted.scenario.migration.multifd else {}
    as_run = wanted.otherwise(
        **wanted.without_these() | channels,
        max_bandwidth=Rate(wanted.max_mib * _MIB),
        downtime_limit=Seconds(_QEMU_DOWNTIME_MS / 1e3),
        management=kubevirt(completion_timeout=f"{timeout} s"),
    )
    return Commands("kubevirt", "\n".join(lines), tuple(cannot), as_run)


def _nova(wanted: _Wanted) -> Commands:
    gib = max(2.0, wanted.ram_bytes / 2**30)
    timeout = max(1, math.floor(wanted.completion_s / gib))
    delay = max(_NOVA_LEAST_DELAY_S, timeout)
    downtime = max(_NOVA_LEAST_DOWNTIME_MS, _NOVA_STEPS * wanted.downtime_ms)
    lines = [
        "[libvirt]",
        f"live_migration_downtime = {downtime}",
        f"live_migration_downtime_steps = {_NOVA_STEPS}",
        f"live_migration_downtime_delay = {delay}",
        f"live_migration_completion_timeout = {timeout}",
        "live_migration_timeout_action = abort",
        f"live_migration_bandwidth = {wanted.max_mib}",
        f"live_migration_permit_auto_converge = {str(wanted.scenario.migration.auto_converge).lower()}",
        "live_migration_permit_post_copy = false",
    ]
    cannot = [
        f"A constant downtime limit cannot be set: Nova begins with live_migration_downtime / steps, here "
        f"{downtime // _NOVA_STEPS} ms, and the next step is not before the abort.",
        f"Both times are per GiB of RAM, of which this guest has {gib:g}: aborted after {math.floor(timeout * gib)} s.",
    ]
    if downtime > _NOVA_STEPS * wanted.downtime_ms:
        cannot.append(f"A first step below {_NOVA_LEAST_DOWNTIME_MS} / {_NOVA_STEPS} ms cannot be set.")
    cannot += wanted.lacks("avail_switchover_bandwidth", "throttle", "switchover_ack", "multifd")
    as_run = wanted.otherwise(
        **wanted.without_these(),
        max_bandwidth=Rate(wanted.max_mib * _MIB),
        management=nova(
            downtime=f"{downtime} ms", steps=_NOVA_STEPS, delay=f"{delay} s", completion_timeout=f"{timeout} s"
        ),
    )
    return Commands("nova", "\n".join(lines), tuple(cannot), as_run)


def _ovirt(wanted: _Wanted) -> Commands:
    mib = wanted.max_mib or wanted.link_mib
    switch = "on" if wanted.scenario.migration.auto_converge else "off"
    steps = ", ".join(map(str, legacy_steps(wanted.downtime_ms)))
    lines = ["[vars]", f"migration_downtime = {wanted.downtime_ms}", f"migration_max_bandwidth = {mib}"]
    cannot = [
        "These lines are for /etc/vdsm/vdsm.conf on the hosts, and for clusters with the migration policy Legacy and "
        "the bandwidth limit Hypervisor default.",
        f"Auto-converge is an option of the cluster: Auto Converge migrations {switch}.",
        f"A constant downtime limit cannot be set: it is {steps} ms, a step with each new iteration and no faster than "
        "every 10 s; after 42 iterations the migration is aborted.",
        f"A deadline cannot be set: cancel the migration where it has not ended after {Seconds(wanted.completion_s)}.",
    ]
    if not wanted.max_mib:
        cannot.append(f"No limit cannot be set: {mib} MiB/s is the link.")
    cannot += wanted.lacks("avail_switchover_bandwidth", "throttle", "switchover_ack", "multifd")
    as_run = wanted.otherwise(
        **wanted.without_these(),
        max_bandwidth=Rate(mib * _MIB),
        management=ovirt(schedule="legacy", downtime=f"{wanted.downtime_ms} ms"),
    )
    return Commands("ovirt", "\n".join(lines), tuple(cannot), as_run)


def _proxmox(wanted: _Wanted) -> Commands:
    migration = wanted.scenario.migration
    limit = wanted.max_bandwidth // 1024
    migrate = ["qm migrate", '"$VMID"', '"$NODE"', "--online"] + ([f"--bwlimit {limit}"] if limit else [])
    lines = [f'qm set "$VMID" --migrate_speed 0 --migrate_downtime {wanted.downtime_ms / 1e3:g}', " ".join(migrate)]
    cannot = [
        "VMID is the number of the guest, NODE the name of the destination; migrate_downtime is in seconds, bwlimit in "
        "KiB/s.",
        "A constant downtime limit cannot be set: it doubles whenever a look has shown more left than the one before "
        "for the sixth time.",
        f"A deadline cannot be set: cancel the task where it has not ended after {Seconds(wanted.completion_s)}.",
        "xbzrle is always on, with a cache of a tenth of the RAM; this answer is computed without it.",
    ]
    if not limit:
        cannot.append("Without bwlimit the one of the data centre holds, and without that 16 GiB/s.")
    if not migration.auto_converge:
        cannot.append("auto-converge cannot be switched off.")
    as_run = wanted.otherwise(
        **wanted.without_these(),
        auto_converge=True,
        max_bandwidth=Rate(limit * 1024 or _PROXMOX_MOST),
        management=proxmox(migrate_downtime=f"{wanted.downtime_ms} ms"),
    )
    slowed = wanted.otherwise(auto_converge=True, dirty_limit=False)
    cannot += _Wanted(slowed, wanted.completion_s).lacks(
        "avail_switchover_bandwidth", "throttle", "switchover_ack", "multifd"
    )
    if migration.dirty_limit:
        cannot.append(_NO_DIRTY_LIMIT)
    return Commands("proxmox", "\n".join(lines), tuple(cannot), as_run)


_LAYERS: dict[str, Callable[[_Wanted], Commands]] = {
    "qemu": _qemu,
    "libvirt": _libvirt,
    "kubevirt": _kubevirt,
    "nova": _nova,
    "ovirt": _ovirt,
    "proxmox": _proxmox,
}
DIALECTS = tuple(_LAYERS)
"""QEMU, and the layers that manage it."""


def commands(scenario: Scenario, dialect: str, completion_s: float) -> Commands:
    """Write the settings of a migration in the words of a layer.

    Parameters
    ----------
    scenario : Scenario
        Its settings are those of `migration`.
    dialect : str
        One of :data:`DIALECTS`.
    completion_s : float
        Seconds after which the migration should be given up, for the layers that have a deadline.

    Returns
    -------
    Commands

    Raises
    ------
    ScenarioError
        If `dialect` is none.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> scenario = Scenario(guest=Guest(ram="16 GiB"), link=Link(bandwidth="10 Gbit/s"))
    >>> print(commands(scenario, "ovirt", 300.0).text)
    [vars]
    migration_downtime = 300
    migration_max_bandwidth = 128
    """
    return _LAYERS[checked_dialect(dialect)](_Wanted(scenario, completion_s))


def checked_dialect(dialect: str) -> str:
    """Return a dialect that is known.

    Raises
    ------
    ScenarioError
        If it is none.

    Examples
    --------
    >>> checked_dialect("nova")
    'nova'
    """
    if not isinstance(dialect, str) or dialect not in _LAYERS:
        raise ScenarioError(f"is not a dialect: {did_you_mean(str(dialect), DIALECTS)}", "dialect", dialect)
    return dialect
