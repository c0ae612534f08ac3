"""What differs between QEMU versions, one profile a version, and the constants of QEMU that a scenario needs.

Files are relative to the QEMU tree; the meaning of a profile's fields is that of ``docs/model.md``, sections 4 to 8.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from migkit.kernels.state import SYNC_7_2, SYNC_8_2, SYNC_9_0, SYNC_11_1
from migkit.scenario.errors import ScenarioError, choices
from migkit.scenario.pasted_version import PastedVersion, read_version

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
        size too (11.1, commit 6234505ce8). 3: exact is the stop size alone, and there is no handler that an iteration
        could call (8.0).
    vfio_always_done : int
        1: ``vfio_save_iterate`` returns 1 whatever is left (8.1, 8.2); 0: it says the truth (9.0, commit 3f6ed59ec4).
    flush_pages : int, pages
        1: bytes count when put into the stream (up to 8.0), or each look at the limit flushes it first (8.1,
        ``migration/migration-stats.c:migration_transferred_bytes``). 32: when it is flushed (8.2 and later),
        ``migration/qemu-file.c:qemu_file_transferred``.
    counts_all_syncs : int
        1: setup, timer and final syncs count in ``dirty-sync-count``; 0: exact queries of the loop only (11.1).
    avail_per_ms_exact : int
        0: ``avail-switchover-bandwidth / 1000`` is an integer division (8.2 to 10.2); 1: it is not (11.0 and later).
    throttle_timer_ns : int, nanoseconds
        Period of auto-converge's sync timer, 0 = none; ``migration/cpu-throttle.c`` (9.2 and later).
    postcopy_rule : int
        ``migration/migration.c:migration_iteration_run``. 0: a migration that can complete does so before post-copy
        starts, and post-copy ends when what is left fits the downtime limit (8.0 to 10.0; 7.2 is taken to do the same).
        1: post-copy starts first, and ends with nothing left (10.1 and later, commit 7aaa1fc072).
    multifd_flush_after_each_section : int
        1: the channels of multifd sync after each call of RAM's handler (7.2, 8.0),
        ``migration/ram.c:ram_save_iterate``.
        0: where the search for dirty pages passes the end of RAM (8.1 and later), ``migration/ram.c:find_dirty_block``.
    multifd_sends_full_queue : int
        1: the page that fills the queue hands it over to a channel (up to 8.2); 0: the page behind it does,
        ``migration/multifd.c:multifd_queue_page``.
    multifd_counts_late : int
        1: a packet counts when its channel has written it (8.1 and later), ``migration/multifd.c:multifd_send_thread``.
        0: when it is handed over, ``migration/multifd.c:multifd_send_pages``.
    multifd_zero_pages : int
        1: the channels look for zero pages, zero-page-detection = multifd (9.0 and later),
        ``migration/multifd-zero-page.c``. 0: the migration thread does, and writes them to the main stream. What
        ``Migration.zero_page_detection`` is where it is not given.
    multifd_syncs_at_end : int
        Syncs of the channels behind the last page of the switchover, besides those that are made where a search passes
        the end of RAM (up to 9.2: 1), ``migration/ram.c:ram_save_complete``.
    supports_multifd_postcopy : bool
        multifd and postcopy-ram may be on together: 10.1 and later, ``migration/options.c:migrate_caps_check``.
    supports_postcopy_preempt : bool
        The capability as it is since 8.0, ``migration/ram.c:ram_save_host_page_urgent``; 7.2 has another one.
    supports_zero_page_detection : bool
        The parameter exists since 9.0, ``qapi/migration.json``.
    supports_qpl_uadk, supports_qatzip : bool
        Methods of multifd-compression: qpl and uadk since 9.1, qatzip since 9.2, ``qapi/migration.json``.
    default_policy : str
        ``"serialized"`` before commit 4e1871c450 (9.0-rc0), ``"unserialized"`` since,
        ``migration/savevm.c:qemu_savevm_state_iterate``.
    supports_vfio : bool
        Whether VFIO devices are modelled: 8.0 and later; those of 7.2 have another protocol, which was experimental.
    supports_vfio_precopy : bool
        Whether they have initial and dirty data, which pre-copy sends: 8.1 and later (commit eda7362af9).
    supports_compress : bool
        The capability was removed in 9.1.
    supports_block : bool
        Block migration was removed in 9.1 (commit eef0bae3a7).
    supports_switchover_ack : bool
        The capability exists since 8.1.
    supports_dirty_limit : bool
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
    postcopy_rule: int = 0
    multifd_flush_after_each_section: int = 0
    multifd_sends_full_queue: int = 0
    multifd_counts_late: int = 1
    multifd_zero_pages: int = 1
    multifd_syncs_at_end: int = 0
    supports_multifd_postcopy: bool = False
    supports_postcopy_preempt: bool = True
    supports_zero_page_detection: bool = True
    supports_qpl_uadk: bool = True
    supports_qatzip: bool = True
    default_policy: str = "unserialized"
    supports_vfio: bool = True
    supports_vfio_precopy: bool = True
    supports_compress: bool = True
    supports_block: bool = True
    supports_switchover_ack: bool = True
    supports_dirty_limit: bool = True
    supports_avail_switchover_bandwidth: bool = True


_REMOVED_IN_9_1: dict[str, Any] = {"supports_compress": False, "supports_block": False}
_NO_ACCELERATORS: dict[str, Any] = {"supports_qpl_uadk": False, "supports_qatzip": False}
_MULTIFD_8_2: dict[str, Any] = _NO_ACCELERATORS | {
    "multifd_sends_full_queue": 1,
    "multifd_zero_pages": 0,
    "supports_zero_page_detection": False,
    "multifd_syncs_at_end": 1,
}
_MULTIFD_8_0 = _MULTIFD_8_2 | {"multifd_flush_after_each_section": 1, "multifd_counts_late": 0}

_ALL = (
    Profile(
        name="7.2",
        exact_rule=SYNC_7_2,
        flush_pages=1,
        **_MULTIFD_8_0,
        default_policy="serialized",
        supports_postcopy_preempt=False,
        supports_vfio=False,
        supports_vfio_precopy=False,
        supports_switchover_ack=False,
        supports_dirty_limit=False,
        supports_avail_switchover_bandwidth=False,
    ),
    Profile(
        name="8.0",
        exact_rule=SYNC_8_2,
        ram_exact_always=0,
        vfio_counts=3,
        vfio_always_done=1,
        flush_pages=1,
        **_MULTIFD_8_0,
        default_policy="serialized",
        supports_vfio_precopy=False,
        supports_switchover_ack=False,
        supports_dirty_limit=False,
        supports_avail_switchover_bandwidth=False,
    ),
    Profile(
        name="8.1",
        exact_rule=SYNC_8_2,
        ram_exact_always=0,
        vfio_always_done=1,
        flush_pages=1,
        **_MULTIFD_8_2,
        default_policy="serialized",
        supports_avail_switchover_bandwidth=False,
    ),
    Profile(
        name="8.2",
        exact_rule=SYNC_8_2,
        ram_exact_always=0,
        vfio_always_done=1,
        **_MULTIFD_8_2,
        default_policy="serialized",
    ),
    Profile(name="9.0-rc0", exact_rule=SYNC_8_2, **_MULTIFD_8_2 | {"multifd_sends_full_queue": 0}),
    Profile(name="9.0", exact_rule=SYNC_9_0, multifd_syncs_at_end=1, **_NO_ACCELERATORS),
    Profile(
        name="9.1",
        exact_rule=SYNC_9_0,
        multifd_syncs_at_end=1,
        supports_qatzip=False,
        **_REMOVED_IN_9_1,
    ),
    Profile(
        name="9.2",
        exact_rule=SYNC_9_0,
        vfio_counts=1,
        throttle_timer_ns=THROTTLE_TIMER_NS,
        multifd_syncs_at_end=1,
        **_REMOVED_IN_9_1,
    ),
    Profile(
        name="10.0",
        exact_rule=SYNC_9_0,
        vfio_counts=1,
        throttle_timer_ns=THROTTLE_TIMER_NS,
        **_REMOVED_IN_9_1,
    ),
    *(
        Profile(
            name=name,
            exact_rule=SYNC_9_0,
            complete_rule=1,
            vfio_counts=1,
            avail_per_ms_exact=avail_per_ms_exact,
            throttle_timer_ns=THROTTLE_TIMER_NS,
            postcopy_rule=1,
            supports_multifd_postcopy=True,
            **_REMOVED_IN_9_1,
        )
        for name, avail_per_ms_exact in (("10.1", 0), ("10.2", 0), ("11.0", 1))
    ),
    Profile(
        name="11.1",
        exact_rule=SYNC_11_1,
        complete_rule=1,
        vfio_counts=2,
        counts_all_syncs=0,
        avail_per_ms_exact=1,
        throttle_timer_ns=THROTTLE_TIMER_NS,
        postcopy_rule=1,
        supports_multifd_postcopy=True,
        **_REMOVED_IN_9_1,
    ),
)

PROFILES = {each.name: each for each in _ALL}
"""Profiles by version, oldest first."""

MEASURED = frozenset({"7.2", "8.2", "9.0-rc0", "10.0", "10.2", "11.1"})
"""Profiles that runs of ``data/qemu-traces`` were measured with; the others were read in the source alone."""

_OLDEST = (7, 0)
_BEFORE_CANDIDATES = "9.0-rc0"


class KnownVersion(NamedTuple):
    """A version of QEMU, and what stands for it.

    Parameters
    ----------
    profile : Profile
    notes : tuple of str
        Sentences without a full stop: by which profile the version is computed, where that is not its own name.
    warnings : tuple of str
        Sentences on a build that may have other rules than its number says.
    """

    profile: Profile
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def profile(name: object) -> Profile:
    """Look up the profile of a version.

    Parameters
    ----------
    name : str
        The name of a profile, or a version as :func:`known_version` takes it.

    Raises
    ------
    ScenarioError
        If there is none for it.

    Examples
    --------
    >>> profile("9.0").exact_rule, profile("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)").name
    (2, '7.2')
    """
    if not isinstance(name, str):
        raise ScenarioError("is not text", value=name)
    return PROFILES.get(name) or known_version(name).profile


@functools.lru_cache(maxsize=256)
def known_version(given: str) -> KnownVersion:
    """Find what stands for a version of QEMU, and say how sure that is.

    Parameters
    ----------
    given : str
        The name of a profile, or a version as :func:`migkit.scenario.pasted_version.read_version` takes it.

    Returns
    -------
    KnownVersion

    Raises
    ------
    ScenarioError
        If it is no version, or one whose rules are not known.

    Examples
    --------
    >>> known_version("9.1.3").notes
    ('QEMU 9.1.3 is computed by the rules of profile 9.1, of which no run was measured',)
    >>> known_version("9.1").notes, known_version("v9.0.0-rc1").profile.name
    ((), '9.0')
    >>> print(*known_version("qemu-kvm-7.2.0-11.el9").warnings)
    Oracle Linux 9 has commit 4e1871c450 in its 7.2.0-11.el9 and later: policy = "unserialized" computes such a build
    """
    if given in PROFILES:
        return KnownVersion(PROFILES[given])
    try:
        pasted = read_version(given)
    except ScenarioError as error:
        if error.problem.startswith("is a machine type"):
            raise
        # A near version is no typing error, so all of them are listed.
        raise ScenarioError(f"is not a QEMU profile: use {choices(PROFILES)}, or a version as QEMU says it",
                            value=given) from None  # fmt: skip
    found = _of_release(pasted)
    measured = "" if found.name in MEASURED else ", of which no run was measured"
    note = f"QEMU {pasted.shown} is computed by the rules of profile {found.name}{measured}"
    if pasted.candidate is not None and found.name != _BEFORE_CANDIDATES:
        note += "; those of a tree before its release may differ"
    return KnownVersion(found, (note,), tuple(_warnings(pasted, found)))


def _of_release(pasted: PastedVersion) -> Profile:
    """The profile of a version: its own, or the nearest with the same rules."""
    name = ".".join(map(str, pasted.release))
    if pasted.release == (9, 0) and pasted.candidate is not None and pasted.candidate <= 0:
        return PROFILES[_BEFORE_CANDIDATES]
    if name in PROFILES:
        return PROFILES[name]
    if _OLDEST <= pasted.release < (7, 2):
        return PROFILES["7.2"]
    raise ScenarioError(
        "is a version of QEMU whose rules are not known: name the profile that comes nearest, such as "
        f'"{_ALL[-1].name}"',
        value=pasted.text,
    )


_ORACLE = re.compile(r"7\.2\.0-(\d+)\.el9\b(?!_)")
_FIRST_OF_ORACLE = 11
_DEBIAN_12 = re.compile(r"7\.2\S*deb12")


def _warnings(pasted: PastedVersion, found: Profile) -> list[str]:
    """Where a build of a distribution has, or may have, commit 4e1871c450, which its number does not tell."""
    if found.default_policy != "serialized":
        return []
    oracle = _ORACLE.search(pasted.text)
    if oracle is not None and int(oracle[1]) >= _FIRST_OF_ORACLE:
        return ['Oracle Linux 9 has commit 4e1871c450 in its 7.2.0-11.el9 and later: policy = "unserialized" computes '
                "such a build"]  # fmt: skip
    if _DEBIAN_12.search(pasted.text):
        return []  # measured: serialized
    return [f"a distribution's build of {pasted.shown} may have commit 4e1871c450, which none but Oracle Linux 9 is "
            'known to have below 9.0: policy = "unserialized" computes such a build']  # fmt: skip
