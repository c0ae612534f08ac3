"""What one migration may cost: computing, which is counted and not timed, and memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from migkit.kernels.state import EFFORT_NS, Records
from migkit.scenario.errors import ScenarioError
from migkit.scenario.units import Bytes, Seconds, parse_time

__all__ = ["LIMIT", "check_bitmap", "effort", "machine_memory", "within"]

LIMIT = "20 s"
"""Computing that one migration may take unless the caller allows more."""
_MOST_S = 30 * 24 * 3600.0


def effort(limit: Any) -> int:
    """Translate the computing that one migration may take to the units in which the kernels count it.

    The kernels count iterations, devices and the pages or segments of a sync, so that a migration is refused on every
    machine or on none; a second of it takes about a second.

    Parameters
    ----------
    limit : duration
        Such as "5 min", above 0 and up to 30 days.

    Raises
    ------
    ScenarioError
        If `limit` is refused.

    Examples
    --------
    >>> effort("20 s")
    400000000
    """
    try:
        seconds = parse_time(limit)
    except ScenarioError as error:
        raise ScenarioError(error.problem, "limit", *error.given) from None
    if not 0.0 < seconds <= _MOST_S:
        raise ScenarioError("must be above 0 s and at most 30 days", "limit", str(Seconds(seconds)))
    return max(1, round(seconds * 1e9 / EFFORT_NS))


@contextlib.contextmanager
def within(limit: int, described: Callable[[int], str] | None = None) -> Iterator[None]:
    """Report a migration that takes more computing than `limit`, or whose policy errs, in one sentence.

    Parameters
    ----------
    limit : int
        As :func:`effort` returns it.
    described : callable, optional
        Which migration it is, by its row.

    Raises
    ------
    ScenarioError
        In place of :class:`migkit.kernels.drivers.OverLimit` and :class:`~migkit.kernels.drivers.UnknownCommand`.
    """
    from migkit.kernels.drivers import OverLimit, UnknownCommand

    try:
        yield
    except UnknownCommand as error:
        which = "" if described is None else f" at {described(error.row)}"
        raise ScenarioError(
            f"answers with the command {error.command}, which is none or has a value out of range: a downtime-limit is "
            "from 0 to 2000000 ms, a max-bandwidth 0 or from 1000 B/s, and post-copy needs migration.postcopy_ram",
            f"the management policy{which}"
        ) from None  # fmt: skip
    except OverLimit as error:
        which = "" if described is None else f" at {described(error.row)}"
        raise ScenarioError(
            f"takes more than {Seconds(limit * EFFORT_NS / 1e9)} of computing: use a shorter time_limit, or allow "
            'more, such as limit="10 min"', f"the migration{which}"
        ) from None  # fmt: skip


def machine_memory() -> float:
    """Bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return 1 << 40


def check_bitmap(records: Records) -> None:
    """Refuse a guest whose bitmaps the machine cannot hold.

    Parameters
    ----------
    records : Records
        Of the bitmap engine.

    Raises
    ------
    ScenarioError
        If two bits a page are more than the machine's memory.
    """
    pages = int(np.max(records.cases["ram_pages"], initial=0))
    if pages / 4 > machine_memory():
        size = Bytes(pages * int(records.cases["page_size"][0]))
        raise ScenarioError(
            f"has a dirty bitmap and a dirty log of {Bytes(pages // 4)}, more than this machine's memory: use the "
            "expected engine", "guest.ram", str(size)
        )  # fmt: skip
