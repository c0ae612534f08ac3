"""Constants of QEMU's migration that more than one floor needs, with unit and source.

Files are relative to the QEMU tree.
"""

from __future__ import annotations

SERIALIZED, UNSERIALIZED = 0, 1
"""Values of the column ``policy``."""

POLICIES = {"serialized": SERIALIZED, "unserialized": UNSERIALIZED}
"""Scheduling policies by name: whether the walk of the device list stops at the first unfinished device
(2009, commit 90697be889) or goes on (9.0, commit 4e1871c450); ``migration/savevm.c:qemu_savevm_state_iterate``."""

MAX_DOWNTIME_LIMIT_S = 2000
"""Largest downtime-limit, seconds; ``migration/options.c``."""

THROTTLE_TIMER_NS = 5_000_000_000
"""Period of the sync timer of auto-converge, nanoseconds; 9.2 and later, ``migration/cpu-throttle.c``."""

FLUSH_PAGES = 32
"""Normal pages after which the stream is flushed and its bytes count, pages: 64 vectors, two a page;
8.2 and later, ``migration/qemu-file.c``."""

LOOP_SIZES = ("estimate", "exact", "threshold", "pending")
"""Sizes of the loop itself in a timeline, where they have ``_bytes`` behind; no device may be called so."""

ENGINES = ("expected", "bitmap")
"""The two models of RAM: expected values, and a page-exact bitmap."""
