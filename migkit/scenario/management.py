"""What management layers change while a migration runs: Nova, oVirt, KubeVirt, libvirt, Proxmox and CloudStack.

A management layer polls ``query-migrate`` and answers with a command. Each is a function of what QMP shows (``shown``,
:data:`migkit.kernels.state.SHOWN`) and of numbers of its own (``own``), compiled once whatever its settings, and a
function of its settings by which a scenario names it: ``Scenario(management='nova(completion_timeout="400 s")')``.
Times count from the migrate command. Those that start post-copy need `Migration.postcopy_ram`.
"""

from __future__ import annotations

import math
from typing import Any

from migkit.kernels.state import (
    CANCEL,
    KEEP,
    MANAGEMENT_NUMBERS,
    MANAGEMENT_SETTINGS,
    SET_DOWNTIME_LIMIT,
    SET_MAX_BANDWIDTH,
    START_POSTCOPY,
    STOP_VM,
)
from migkit.scenario import settings
from migkit.scenario.errors import ScenarioError
from migkit.scenario.settings import HARD_LIMIT_MS
from migkit.scenario.units import parse_bytes

__all__ = [
    "CANCEL",
    "KEEP",
    "SCHEDULES",
    "SET_DOWNTIME_LIMIT",
    "SET_MAX_BANDWIDTH",
    "START_POSTCOPY",
    "STOP_VM",
    "cloudstack",
    "kubevirt",
    "kubevirt_downtime_tuning",
    "kubevirt_stall_detection",
    "legacy_steps",
    "libvirt",
    "libvirt_postcopy_after_precopy",
    "nova",
    "ovirt",
    "proxmox",
]

SETTING = MANAGEMENT_NUMBERS - MANAGEMENT_SETTINGS
"""The first of the settings among the numbers of a policy."""


# ---------------------------------------------------------------- OpenStack Nova


def _nova(shown: Any, own: Any) -> tuple[int, float]:
    limit, steps, delay = own[SETTING], own[SETTING + 1], own[SETTING + 2]
    timeout, force, disk, postcopy = own[SETTING + 3], own[SETTING + 4], own[SETTING + 5], own[SETTING + 6]
    gib = max(2.0, shown.total / 1073741824.0) + disk
    seconds = shown.total_time_ms / 1000.0
    if own[1] == 1.0:  # forced in the poll before
        own[1] = 2.0
        return (START_POSTCOPY if postcopy == 1.0 else STOP_VM), 0.0
    if timeout > 0.0 and seconds > int(timeout * gib) and own[1] == 0.0:
        if force == 0.0:
            return CANCEL, 0.0
        own[1] = 1.0
        return KEEP, 0.0
    wait = float(int(delay * gib))
    step = 0.0
    while step < steps and seconds > (step + 1.0) * wait:
        step += 1.0
    if seconds <= 0.0:
        return KEEP, 0.0
    base = limit / steps
    value = float(int(base + step * (limit - base) / steps))
    if value == own[0]:
        return KEEP, 0.0
    own[0] = value
    return SET_DOWNTIME_LIMIT, value


@settings.named(_nova, poll="0.5 s")
def nova(
    *,
    downtime: Any = "500 ms",
    steps: int = 10,
    delay: Any = "75 s",
    completion_timeout: Any = "800 s",
    timeout_action: str = "abort",
    disk: Any = "0 B",
    permit_post_copy: bool = False,
) -> Any:
    """OpenStack Nova: a downtime limit that grows in steps, and an end after a time per GiB.

    With ``G = max(2, RAM in GiB) + disk`` and ``b = downtime / steps``, step ``i`` from 0 to `steps` sets
    ``b + i (downtime - b) / steps`` after ``i * int(delay * G)``; after ``int(completion_timeout * G)`` the migration
    is aborted, or forced to complete one poll later by post-copy or, without it, by stopping the VM. Polls every 0.5 s
    (``nova/virt/libvirt/migration.py:downtime_steps``, ``nova/virt/libvirt/driver.py:_live_migration_monitor``).

    Parameters
    ----------
    downtime : seconds, default 500 ms
        ``live_migration_downtime``, from 100 ms.
    steps : int, default 10
        ``live_migration_downtime_steps``, from 3.
    delay : seconds, default 75 s
        ``live_migration_downtime_delay``, per GiB, from 3 s.
    completion_timeout : seconds, default 800 s
        ``live_migration_completion_timeout``, per GiB; 0 s: none.
    timeout_action : {"abort", "force_complete"}, default "abort"
        ``live_migration_timeout_action``.
    disk : bytes, default 0 B
        Disks that are copied, which count as 2 GiB or more each in Nova.
    permit_post_copy : bool, default False
        ``live_migration_permit_post_copy``.

    Examples
    --------
    >>> print(nova(completion_timeout="400 s"))
    nova(completion_timeout='400 s')
    """
    return [
        settings.milliseconds("downtime", downtime, 100.0),
        settings.count("steps", steps, 3, 1000),
        settings.seconds("delay", delay, 3.0),
        settings.seconds("completion_timeout", completion_timeout),
        float(settings.word("timeout_action", timeout_action, "abort", "force_complete")),
        parse_bytes(disk) / 2**30,
        settings.flag("permit_post_copy", permit_post_copy),
    ]


# ---------------------------------------------------------------- oVirt

ABORT_MS, POSTCOPY_MS = -1.0, -2.0
SCHEDULES: dict[str, tuple[float, tuple[tuple[int, float], ...]]] = {
    "minimal downtime": (100, ((1, 150), (2, 200), (3, 300), (4, 400), (6, 500), (-1, ABORT_MS))),
    "suspend workload": (100, ((1, 150), (2, 200), (3, 300), (4, 400), (6, 500), (-1, 5000), (-1, ABORT_MS))),
    "post-copy": (100, ((1, 150), (2, 200), (-1, POSTCOPY_MS), (-1, ABORT_MS))),
    "very large VMs": (300, ((1, 400), (2, 500), (3, 700), (4, 1000), (6, 1500), (-1, 5000), (-1, ABORT_MS))),
    "legacy": (101, ((1, 104), (2, 120), (3, 189), (4, 500), (42, 500), (-1, ABORT_MS))),
}
"""oVirt's migration policies: the first downtime limit (ms), and what follows after how many iterations, -1 for the
next one; a limit of -1 aborts, one of -2 starts post-copy."""


def legacy_steps(downtime_ms: float) -> tuple[int, ...]:
    """The downtime limits of oVirt's schedule ``"legacy"``, ms.

    Examples
    --------
    >>> legacy_steps(500)
    (101, 104, 120, 189, 500)
    """
    first = downtime_ms / 5
    return tuple(int(first + (downtime_ms - first) ** (step / 4)) for step in range(5))


def _ovirt(shown: Any, own: Any) -> tuple[int, float]:
    passed = float(shown.dirty_sync_count)
    if own[0] == 0.0:
        own[0] = 1.0
        return SET_DOWNTIME_LIMIT, own[SETTING]
    if own[0] == 1.0:
        own[0], own[1], own[2] = 2.0, passed, passed
        return KEEP, 0.0
    if passed <= own[2]:
        return KEEP, 0.0
    own[2] = passed
    at = SETTING + 1 + 2 * int(own[3])
    if at + 1 >= MANAGEMENT_NUMBERS or own[at + 1] == 0.0 or own[at] >= passed - own[1]:
        return KEEP, 0.0
    own[3] += 1.0
    if own[at + 1] < 0.0:
        return (CANCEL if own[at + 1] == -1.0 else START_POSTCOPY), 0.0
    return SET_DOWNTIME_LIMIT, own[at + 1]


@settings.named(_ovirt, poll="10 s", first_poll="0 s")
def ovirt(*, schedule: str = "minimal downtime", downtime: Any = "500 ms") -> Any:
    """oVirt: a schedule of downtime limits by the number of iterations, and an abort at its end.

    Every 10 s VDSM looks whether QEMU has begun another pass. If it has, and more have passed since the first one seen
    than the head of the schedule says, it carries that out: one action a poll
    (``vdsm/lib/vdsm/virt/migration.py:MonitorThread``; the policies of oVirt's engine, ``MigrationPolicy``).

    Parameters
    ----------
    schedule : str, default "minimal downtime"
        One of :data:`SCHEDULES`: ``"minimal downtime"``, ``"suspend workload"``, ``"post-copy"``, ``"very large VMs"``
        or ``"legacy"``. Their auto-converge and bandwidth are fields of the scenario.
    downtime : seconds, default 500 ms
        ``migration_downtime`` of ``vdsm.conf``, the last step of the schedule ``"legacy"``; the others have their own.

    Examples
    --------
    >>> ovirt(schedule="legacy").settings[:3]
    (101.0, 1.0, 104.0)
    """
    settings.word("schedule", schedule, *SCHEDULES)
    first, then = SCHEDULES[schedule]
    last = settings.milliseconds("downtime", downtime)
    if schedule == "legacy":
        first, *steps = legacy_steps(last)
        then = (*enumerate(steps, start=1), (42, steps[-1]), (-1, ABORT_MS))
    elif last != 500.0:
        raise ScenarioError('is for the schedule "legacy" only', "downtime", str(downtime))
    return [float(first), *(float(number) for pair in then for number in pair)]


# ---------------------------------------------------------------- KubeVirt


def _kubevirt(shown: Any, own: Any) -> tuple[int, float]:
    per_gb, progress_timeout, disruption = own[SETTING], own[SETTING + 1], own[SETTING + 2]
    elapsed = float(shown.total_time_ms // 1000)
    if own[0] == 0.0:
        own[0] = 1.0
        own[1] = per_gb * math.ceil(shown.total / 1e9)
        own[2] = elapsed
        own[3] = shown.remaining
    if shown.remaining < own[3]:
        own[2] = elapsed  # progress: less than in the poll before
    own[3] = shown.remaining
    timeout = own[1]
    if timeout > 0.0 and elapsed > timeout and disruption == 1.0 and own[4] == 0.0:
        own[4] = 1.0
        if own[SETTING + 8] == 1.0 and shown.has_vfio == 0:
            return START_POSTCOPY, 0.0
        own[1] = 2.0 * timeout
        if shown.has_vfio == 1:
            return SET_DOWNTIME_LIMIT, min(2.0 * timeout * 1000.0, HARD_LIMIT_MS)
        return STOP_VM, 0.0
    if progress_timeout > 0.0 and elapsed - own[2] > progress_timeout:
        return CANCEL, 0.0
    if timeout > 0.0 and elapsed > timeout:
        return CANCEL, 0.0
    return _raised(shown, own, elapsed)


def _raised(shown: Any, own: Any, elapsed: float) -> tuple[int, float]:
    """The next downtime limit of the ramp, where there is one."""
    first, steps, start = own[SETTING + 3], own[SETTING + 4], own[SETTING + 5]
    cooldown, ceiling = own[SETTING + 6], own[SETTING + 7]
    if first == 0.0:
        return KEEP, 0.0
    if own[5] == 0.0:
        own[5], own[6] = min(first, ceiling), shown.total_time_ms
        return SET_DOWNTIME_LIMIT, own[5]
    if shown.dirty_sync_count < start or shown.total_time_ms - own[6] < cooldown * 1000.0 or own[5] >= ceiling:
        return KEEP, 0.0
    own[5] = min(own[5] + max(1.0, math.floor((ceiling - first) / steps)), ceiling)
    own[6] = shown.total_time_ms
    return SET_DOWNTIME_LIMIT, own[5]


def _timeouts(completion: Any, progress: Any, disruption: Any, post_copy: Any) -> list[float]:
    """The settings of KubeVirt's legacy monitor, without a ramp."""
    return [
        settings.seconds("completion_timeout", completion),
        settings.seconds("progress_timeout", progress),
        settings.flag("allow_workload_disruption", post_copy if disruption is None else disruption),
        *(0.0,) * 5,
        settings.flag("allow_post_copy", post_copy),
    ]


@settings.named(_kubevirt, poll="400 ms")
def kubevirt(
    *,
    completion_timeout: Any = "150 s",
    progress_timeout: Any = "150 s",
    allow_workload_disruption: bool | None = None,
    allow_post_copy: bool = False,
) -> Any:
    """KubeVirt: a completion timeout per GB and a progress timeout.

    Every 400 ms: a poll that shows less left than the poll before is progress. With ``A = completion_timeout * S``,
    ``S`` the RAM in GB of 10**9 bytes, rounded up: after ``A`` the VM is stopped if `allow_workload_disruption` (with
    VFIO the downtime limit becomes ``2 A``), and the migration gets ``2 A``; without progress for `progress_timeout`,
    or after ``A``, it is cancelled (``pkg/virt-launcher/virtwrap/live-migration-source.go``).

    Parameters
    ----------
    completion_timeout : seconds, default 150 s
        ``completionTimeoutPerGiB``; 0 s: none.
    progress_timeout : seconds, default 150 s
        ``progressTimeout``; 0 s: none.
    allow_workload_disruption : bool, optional
        ``allowWorkloadDisruption``; as `allow_post_copy` by default.
    allow_post_copy : bool, default False
        ``allowPostCopy``: post-copy in place of the stop, without VFIO.

    Examples
    --------
    >>> kubevirt().poll_ns
    400000000
    """
    return _timeouts(completion_timeout, progress_timeout, allow_workload_disruption, allow_post_copy)


@settings.named(_kubevirt, poll="400 ms")
def kubevirt_downtime_tuning(
    *,
    initial: Any = "150 ms",
    steps: int = 7,
    start_after_iteration: int = 3,
    cooldown: Any = "10 s",
    max_downtime: Any = "900 ms",
    completion_timeout: Any = "150 s",
    progress_timeout: Any = "150 s",
    allow_workload_disruption: bool | None = None,
    allow_post_copy: bool = False,
) -> Any:
    """KubeVirt with its downtime ramp (VEP 291): :func:`kubevirt` with a limit that grows.

    The first poll sets `initial`; from iteration `start_after_iteration` on, and `cooldown` after the last change, the
    limit grows by ``max(1, floor((max_downtime - initial) / steps))`` ms up to `max_downtime`
    (the feature gate ``MigrationDowntimeTuning``).

    Parameters
    ----------
    initial, max_downtime : seconds, default 150 ms, 900 ms
        ``initialDowntimeMs``, ``maxDowntimeMs``.
    steps : int, default 7
        ``steps``.
    start_after_iteration : int, default 3
        ``startAfterIteration``, as ``dirty-sync-count``.
    cooldown : seconds, default 10 s
        ``cooldownSeconds``.
    completion_timeout, progress_timeout, allow_workload_disruption, allow_post_copy : object
        As :func:`kubevirt`.

    Examples
    --------
    >>> kubevirt_downtime_tuning(max_downtime="1050 ms").settings[7]
    1050.0
    """
    timeouts = _timeouts(completion_timeout, progress_timeout, allow_workload_disruption, allow_post_copy)
    return [
        *timeouts[:3],
        settings.milliseconds("initial", initial),
        settings.count("steps", steps, 1, 10_000),
        settings.count("start_after_iteration", start_after_iteration, 0, 10**9),
        settings.seconds("cooldown", cooldown),
        settings.milliseconds("max_downtime", max_downtime),
        timeouts[8],
    ]


# where the stall detector keeps what
_SEEN, _RATE, _COUNT, _AGED, _STALLED, _BEST, _PATIENCE, _RELAX, _KEPT, _BEGUN, _BUDGET, _DEADLINE, _LAST, _FIRST = (
    range(14)
)
_CANDIDATES, _MOST_CANDIDATES = 16, 190  # pairs of a time and a size
_SMALLEST, _MOST_SMALLEST = 396, 100  # of the sizes since the stall, in order


def _kubevirt_stall(shown: Any, own: Any) -> tuple[int, float]:
    window, margin, alpha, possible = own[SETTING], own[SETTING + 1], own[SETTING + 2], own[SETTING + 3]
    minima, switchover, factor, limit = own[SETTING + 5], own[SETTING + 6], own[SETTING + 7], own[SETTING + 8]
    disruption, postcopy = own[SETTING + 10], own[SETTING + 11] == 1.0 and shown.has_vfio == 0
    now = shown.total_time_ms / 1000.0
    elapsed = math.floor(now)
    if own[_FIRST] == 0.0:
        own[_FIRST], own[_AGED] = 1.0, -1.0
        own[_BUDGET] = own[SETTING + 9] * math.ceil(shown.total / 1e9)
        own[_DEADLINE] = own[_BUDGET]
        own[_SEEN] = shown.dirty_sync_count
        return SET_DOWNTIME_LIMIT, min(limit, 300.0)
    if shown.polled == 1:
        measured = shown.mbps * 1e6 / 8.0
        own[_RATE] = measured if own[_RATE] == 0.0 else alpha * measured + (1.0 - alpha) * own[_RATE]
    whole = factor * own[_BUDGET]
    if shown.dirty_sync_count != own[_SEEN]:
        own[_SEEN] = shown.dirty_sync_count
        if own[_RATE] > 0.0 and own[_BEGUN] == 0.0:
            left = float(shown.remaining)
            own[_LAST] = left
            _note(own, now, left, window, margin)
            needed = left / own[_RATE]
            waits = own[_STALLED] == 0.0 or (minima == 1.0 and left > math.floor(own[_BEST] * (1.0 + margin)))
            if not waits and needed <= whole - elapsed:
                if disruption == 0.0 and needed * 1000.0 > possible * limit:
                    return CANCEL, 0.0
                own[_BEGUN], own[_DEADLINE] = 1.0, elapsed + switchover
                if disruption == 1.0 and postcopy:
                    return START_POSTCOPY, 0.0
                return SET_DOWNTIME_LIMIT, HARD_LIMIT_MS if disruption == 1.0 else limit
    if own[_DEADLINE] > 0.0 and elapsed > own[_DEADLINE]:
        possible_now = own[_RATE] > 0.0 and own[_BEGUN] == 0.0 and own[_LAST] / own[_RATE] <= whole - elapsed
        if possible_now and postcopy:
            own[_BEGUN] = 1.0
            return START_POSTCOPY, 0.0
        if not possible_now or disruption == 0.0:
            return CANCEL, 0.0
        own[_BEGUN], own[_DEADLINE], own[_BUDGET] = 1.0, elapsed + switchover, whole
        return SET_DOWNTIME_LIMIT, HARD_LIMIT_MS
    return KEEP, 0.0


def _note(own: Any, now: float, left: float, window: float, margin: float) -> None:
    """Take a size into the history, and see whether the migration has stalled."""
    if own[_STALLED] == 1.0:
        _keep_smallest(own, left)
        if now >= own[_RELAX]:
            own[_BEST] = _smallest(own)
            own[_PATIENCE] *= own[SETTING + 4]
            own[_RELAX] = now + own[_PATIENCE]
        return
    aged = 0
    while aged < own[_COUNT] and now - own[_CANDIDATES + 2 * aged] >= window:
        size = own[_CANDIDATES + 2 * aged + 1]
        own[_AGED] = size if own[_AGED] < 0.0 else min(own[_AGED], size)
        aged += 1
    count = int(own[_COUNT]) - aged
    for k in range(2 * count):
        own[_CANDIDATES + k] = own[_CANDIDATES + 2 * aged + k]
    last = own[_CANDIDATES + 2 * count - 1] if count > 0 else math.inf
    if (own[_AGED] < 0.0 or left <= own[_AGED]) and left < last:
        if count == _MOST_CANDIDATES:  # the newest gives way: the history does not hold more
            count -= 1
        own[_CANDIDATES + 2 * count], own[_CANDIDATES + 2 * count + 1] = now, left
        count += 1
    own[_COUNT] = count
    if own[_AGED] >= 0.0 and left >= math.floor(own[_AGED] * (1.0 - margin)):
        own[_STALLED] = 1.0
        own[_BEST] = min(own[_AGED], own[_CANDIDATES + 2 * count - 1]) if count > 0 else own[_AGED]
        own[_PATIENCE] = window
        own[_RELAX] = now + window


def _keep_smallest(own: Any, left: float) -> None:
    """Insert a size into the ordered list of the smallest ones."""
    count = int(own[_KEPT])
    if count == _MOST_SMALLEST:
        if left >= own[_SMALLEST + count - 1]:
            return
        count -= 1
    place = count
    while place > 0 and own[_SMALLEST + place - 1] > left:
        own[_SMALLEST + place] = own[_SMALLEST + place - 1]
        place -= 1
    own[_SMALLEST + place] = left
    own[_KEPT] = count + 1


def _smallest(own: Any) -> float:
    """Take the smallest size out of the list."""
    least = own[_SMALLEST]
    own[_KEPT] -= 1.0
    for k in range(int(own[_KEPT])):
        own[_SMALLEST + k] = own[_SMALLEST + k + 1]
    return float(least)


@settings.named(_kubevirt_stall, poll="400 ms", first_poll="0 s", after_syncs=True)
def kubevirt_stall_detection(
    *,
    stall_progress_timeout: Any = "40 s",
    margin: float = 0.04,
    ewma_alpha: float = 0.4,
    precopy_possible_factor: float = 1.5,
    patience_window_decay_factor: float = 0.5,
    search_local_minima: bool = True,
    switchover_timeout: Any = "60 s",
    completion_timeout_factor: float = 2.0,
    max_downtime: Any = "900 ms",
    completion_timeout: Any = "150 s",
    allow_workload_disruption: bool | None = None,
    allow_post_copy: bool = False,
) -> Any:
    """KubeVirt with its stall detector (VEP 248).

    Asked every 400 ms and after every bitmap sync. A migration has stalled when what is left is no less than
    ``1 - margin`` of the least that was left `stall_progress_timeout` ago. It then waits for a local minimum, with a
    patience that halves, and switches over if what is left takes no more than `precopy_possible_factor` times
    `max_downtime` at the smoothed bandwidth, by setting that limit (with `allow_workload_disruption` any limit), and is
    cancelled if not; also after the completion timeout, or `switchover_timeout` after it began to switch over (the
    feature gate ``MigrationStallDetection``). At most 190 candidates and 100 local minima are kept.

    Parameters
    ----------
    stall_progress_timeout : seconds, default 40 s
        ``stallProgressTimeout``; the proposal has 60 s.
    margin : float, default 0.04
        ``margin``, 0 to 1.
    ewma_alpha : float, default 0.4
        ``ewmaAlpha``, 0 to 1.
    precopy_possible_factor : float, default 1.5
        ``precopyPossibleFactor``, 0 to 100.
    patience_window_decay_factor : float, default 0.5
        ``patienceWindowDecayFactor``, 0 to 1.
    search_local_minima : bool, default True
        ``searchLocalMinima``.
    switchover_timeout : seconds, default 60 s
        ``switchoverTimeout``.
    completion_timeout_factor : float, default 2
        ``completionTimeoutFactor``, 0 to 100.
    max_downtime : seconds, default 900 ms
        ``maxDowntimeMs``.
    completion_timeout, allow_workload_disruption, allow_post_copy : object
        As :func:`kubevirt`.

    Examples
    --------
    >>> kubevirt_stall_detection(stall_progress_timeout="60 s").settings[0]
    60.0
    """
    return [
        settings.seconds("stall_progress_timeout", stall_progress_timeout),
        settings.share("margin", margin),
        settings.share("ewma_alpha", ewma_alpha),
        settings.share("precopy_possible_factor", precopy_possible_factor, 100.0),
        settings.share("patience_window_decay_factor", patience_window_decay_factor),
        settings.flag("search_local_minima", search_local_minima),
        settings.seconds("switchover_timeout", switchover_timeout),
        settings.share("completion_timeout_factor", completion_timeout_factor, 100.0),
        settings.milliseconds("max_downtime", max_downtime),
        settings.seconds("completion_timeout", completion_timeout),
        settings.flag(
            "allow_workload_disruption",
            allow_post_copy if allow_workload_disruption is None else allow_workload_disruption,
        ),
        settings.flag("allow_post_copy", allow_post_copy),
    ]


# ---------------------------------------------------------------- libvirt, Proxmox, CloudStack


def _libvirt(shown: Any, own: Any) -> tuple[int, float]:
    if own[0] == 1.0 or shown.total_time_ms <= own[SETTING] * 1000.0:
        return KEEP, 0.0
    own[0] = 1.0
    return (START_POSTCOPY if own[SETTING + 1] == 1.0 else STOP_VM), 0.0


@settings.named(_libvirt, poll="0.5 s")
def libvirt(*, timeout: Any, action: str = "suspend") -> Any:
    """libvirt: ``virsh migrate --timeout``, which after a time stops the VM or starts post-copy, and never cancels.

    Polls every 0.5 s (``tools/virsh-domain.c:virshMigrateTimeout``). Its other rule is
    :func:`libvirt_postcopy_after_precopy`.

    Parameters
    ----------
    timeout : seconds
        ``--timeout``.
    action : {"suspend", "postcopy"}, default "suspend"
        ``--timeout-suspend`` or ``--timeout-postcopy``.

    Examples
    --------
    >>> libvirt(timeout="60 s").settings[0]
    60.0
    """
    return [settings.seconds("timeout", timeout), float(settings.word("action", action, "suspend", "postcopy"))]


def _after_precopy(shown: Any, own: Any) -> tuple[int, float]:
    if own[0] == 1.0 or shown.dirty_sync_count < 2:
        return KEEP, 0.0
    own[0] = 1.0
    return START_POSTCOPY, 0.0


@settings.named(_after_precopy, poll="0.5 s", after_syncs=True, starts_postcopy=True)
def libvirt_postcopy_after_precopy() -> Any:
    """libvirt: ``virsh migrate --postcopy-after-precopy``, which starts post-copy when the second pass begins.

    It acts on QEMU's event of a new pass, that is after the sync that makes ``dirty-sync-count`` 2
    (``tools/virsh-domain.c:virshMigrateIteration``). With ``postcopy-ram`` enabled QEMU 11.1 syncs in every
    iteration, so that post-copy starts at once.

    Examples
    --------
    >>> libvirt_postcopy_after_precopy().poll_ns
    500000000
    """
    return []


def _proxmox(shown: Any, own: Any) -> tuple[int, float]:
    if own[0] == 0.0:
        own[0], own[1] = own[SETTING], 1000.0
        return SET_DOWNTIME_LIMIT, own[0]
    if shown.total_time_ms < own[1]:
        return KEEP, 0.0
    own[2] += 1.0
    if shown.remaining < shown.transferred / own[2]:
        own[3] = 1.0  # from now on it looks ten times a second
    own[1] = shown.total_time_ms + (100.0 if own[3] == 1.0 else 1000.0)
    if shown.transferred == own[4]:
        return KEEP, 0.0
    own[4] = shown.transferred
    if (own[2] > 1.0 and shown.remaining > own[5]) or shown.remaining == 0:
        own[6] += 1.0
    own[5] = shown.remaining
    if own[6] <= 5.0:
        return KEEP, 0.0
    own[6] = 0.0
    own[0] = min(2.0 * own[0], HARD_LIMIT_MS)
    return SET_DOWNTIME_LIMIT, own[0]


@settings.named(_proxmox, poll="100 ms", first_poll="0 s")
def proxmox(*, migrate_downtime: Any = "100 ms") -> Any:
    """Proxmox: a downtime limit that doubles when what is left has grown six times.

    It looks every second, and ten times a second once less is left than a poll has sent on average. Each look that
    shows more left than the one before, or nothing, counts; the sixth doubles the limit, up to 2000 s. A decrease does
    not reset the count. There is no timeout (``PVE/QemuMigrate.pm:phase2``; the cap since qemu-server 9.1.1). Proxmox
    also switches auto-converge and xbzrle on, which are not set here.

    Parameters
    ----------
    migrate_downtime : seconds, default 100 ms
        ``migrate_downtime``, set at the start.

    Examples
    --------
    >>> proxmox(migrate_downtime="200 ms").settings[0]
    200.0
    """
    return [settings.milliseconds("migrate_downtime", migrate_downtime)]


def _cloudstack(shown: Any, own: Any) -> tuple[int, float]:
    downtime, wait, pause_after = own[SETTING], own[SETTING + 1], own[SETTING + 2]
    if downtime > 0.0 and own[0] == 0.0 and shown.total_time_ms >= 1000:
        own[0] = 1.0
        return SET_DOWNTIME_LIMIT, downtime
    if shown.vm_stopped == 1:
        return KEEP, 0.0
    if wait > 0.0 and shown.total_time_ms > wait * 1000.0:
        return CANCEL, 0.0
    if pause_after > 0.0 and shown.total_time_ms > pause_after:
        return STOP_VM, 0.0
    return KEEP, 0.0


@settings.named(_cloudstack, poll="100 ms")
def cloudstack(*, downtime: Any = "0 s", wait: Any = "0 s", pause_after: Any = "0 s") -> Any:
    """CloudStack on KVM: a downtime limit set after a second, an end, and a stop of the VM; all off by default.

    Looks every 100 ms, at the clock and at whether the VM runs
    (``LibvirtMigrateCommandWrapper.java``).

    Parameters
    ----------
    downtime : seconds, default 0 s
        ``vm.migrate.downtime``, set at 1 s; 0 s: never.
    wait : seconds, default 0 s
        ``vm.migrate.wait``: after that it is cancelled if the VM runs; 0 s: never.
    pause_after : seconds, default 0 s
        ``vm.migrate.pauseafter``: after that the VM is stopped; 0 s: never.

    Examples
    --------
    >>> cloudstack(wait="10 min").settings[:3]
    (0.0, 600.0, 0.0)
    """
    return [
        settings.milliseconds("downtime", downtime, 0.0),
        settings.seconds("wait", wait),
        settings.seconds("pause_after", pause_after) * 1000.0,
    ]
