"""What differs between QEMU versions, one profile a version, and the constants of QEMU that a scenario needs.

Files are relative to the QEMU tree; the meaning of a profile's fields is that of ``docs/model.md``, sections 4 to 8.
"""

from __future__ import annotations

from dataclasses import dataclass

from migkit.kernels.state import SYNC_7_2, SYNC_8_2, SYNC_9_0, SYNC_11_1
from migkit.scenario.errors import ScenarioError, choices

MAX_DOWNTIME_LIMIT_S = 2000
"""Largest downtime-limit, seconds; ``migration/options.c``."""

THROTTLE_TIMER_NS = 5_000_000_000
"""Period of the sync timer of auto-converge, nanoseconds; 9.2 and later, ``migration/cpu-throttle.c``."""

FLUSH_PAGES = 32
"""Normal pages after which the stream is flushed and its bytes count, pages: 64 vectors, two a page;
8.2 and later, ``migration/qemu-file.c``."""

LOOP_SIZES = ("estimate", "exact", "threshold", "pending")
"""Sizes of the loop itself in a timeline, where they have ``_bytes`` behind; no device may be called so."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How one version of QEMU decides, counts and schedules.

    Parameters
    ----------
    name : str
        The version.
    exact_rule : int
        When the exact pending query runs, ``migration/migration.c:migration_iteration_run``. SYNC_7_2 (0): RAM syncs
        when its own remaining is below the threshold (7.2, one query ``save_live_pending``). SYNC_8_2 (1): estimate <=
        threshold (8.0 to 9.0-rc0). SYNC_9_0 (2): estimate < threshold (9.0, commit 910c164736). SYNC_11_1 (3):
        estimate <= threshold, or nothing left that pre-copy can send (11.1).
    complete_rule : int
        0: pending < threshold. 1: pending <= threshold (10.1 and later, commit 7aaa1fc072), decided on the
        exact values when they were asked for.
    ram_exact_always : int
        0: RAM's exact query syncs only if RAM's own remaining is below the threshold (8.0 to 8.2),
        ``migration/ram.c:ram_state_pending_exact``. 1: always.
    vfio_counts : int
        What a VFIO device reports, ``hw/vfio/migration.c``. 0: exact adds stop-copy to initial and dirty (8.1 to 9.1).
        1: exact is the stop size alone (9.2 to 11.0, commit 3b5948f808). 2: the estimate holds the stop
        size too (11.1, commit 6234505ce8).
    vfio_always_done : int
        1: ``vfio_save_iterate`` returns 1 whatever is left (8.1, 8.2); 0: it says the truth (9.0, commit 3f6ed59ec4).
    flush_pages : int, pages
        1: bytes count when put into the stream (up to 8.0). 32: when it is flushed (8.2),
        ``migration/qemu-file.c:qemu_file_transferred``.
    counts_all_syncs : int
        1: setup, timer and final syncs count in ``dirty-sync-count``; 0: exact queries of the loop only (11.1).
    avail_per_ms_exact : int
        0: ``avail-switchover-bandwidth / 1000`` is an integer division (before 11.0); 1: it is not.
    throttle_timer_ns : int, nanoseconds
        Period of auto-converge's sync timer, 0 = none; ``migration/cpu-throttle.c`` (9.2 and later).
    default_policy : str
        ``"serialized"`` before commit 4e1871c450 (9.0-rc0), ``"unserialized"`` since,
        ``migration/savevm.c:qemu_savevm_state_iterate``.
    supports_vfio : bool
        Whether VFIO devices are modelled: pre-copy of VFIO exists since 8.1 (commit eda7362af9).
    supports_block : bool
        Block migration was removed in 9.1 (commit eef0bae3a7).
    supports_switchover_ack : bool
        The capability exists since 8.1.
    supports_avail_switchover_bandwidth : bool
        The parameter exists since 8.2 (commit 8b2395970a).

    Examples
    --------
    >>> profile("8.2").default_policy, profile("9.0").default_policy
    ('serialized', 'unserialized')
    """

    name: str
    exact_rule: int
    complete_rule: int = 0
    ram_exact_always: int = 1
    vfio_counts: int = 0
    vfio_always_done: int = 0
    flush_pages: int = FLUSH_PAGES
    counts_all_syncs: int = 1
    avail_per_ms_exact: int = 0
    throttle_timer_ns: int = 0
    default_policy: str = "unserialized"
    supports_vfio: bool = True
    supports_block: bool = True
    supports_switchover_ack: bool = True
    supports_avail_switchover_bandwidth: bool = True


_ALL = (
    Profile(
        name="7.2",
        exact_rule=SYNC_7_2,
        flush_pages=1,
        default_policy="serialized",
        supports_vfio=False,
        supports_switchover_ack=False,
        supports_avail_switchover_bandwidth=False,
    ),
    Profile(name="8.2", exact_rule=SYNC_8_2, ram_exact_always=0, vfio_always_done=1, default_policy="serialized"),
    Profile(name="9.0-rc0", exact_rule=SYNC_8_2),
    Profile(name="9.0", exact_rule=SYNC_9_0),
    Profile(name="10.0", exact_rule=SYNC_9_0, vfio_counts=1, throttle_timer_ns=THROTTLE_TIMER_NS, supports_block=False),
    Profile(
        name="11.1",
        exact_rule=SYNC_11_1,
        complete_rule=1,
        vfio_counts=2,
        counts_all_syncs=0,
        avail_per_ms_exact=1,
        throttle_timer_ns=THROTTLE_TIMER_NS,
        supports_block=False,
    ),
)

PROFILES = {each.name: each for each in _ALL}
"""Profiles by version, oldest first."""


def profile(name: object) -> Profile:
    """Look up a profile.

    Raises
    ------
    ScenarioError
        If there is none of that name.

    Examples
    --------
    >>> profile("9.0").exact_rule
    2
    """
    if not isinstance(name, str) or name not in PROFILES:
        # A near version is no typing error, so all of them are listed.
        raise ScenarioError(f"is not a QEMU profile: use {choices(PROFILES)}", value=name)
    return PROFILES[name]
