"""What is changed at given times while a migration runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from migkit.scenario.errors import ScenarioError
from migkit.scenario.fields import Part, Rule, quantity
from migkit.scenario.parts import Limit, SpeedAboveZero
from migkit.scenario.units import Seconds
from migkit.scenario.versions import MAX_DOWNTIME_LIMIT_S

__all__ = ["Change", "in_order"]

_CHANGED = ("max_bandwidth", "downtime_limit", "link_bandwidth", "command")


class Change(Part):
    """A change of parameters, of the link or of the VM at a given time; what is not given stays as it is.

    Parameters
    ----------
    at : seconds
        When, since the migrate command, as ``total-time`` of query-migrate counts; 0 to 168 h. The loop sees it in the
        first pass at or after that time.
    max_bandwidth : bytes/s, optional
        As `Migration.max_bandwidth`, from the next check of the budget on
        (``migration/options.c:migrate_params_apply``).
    downtime_limit : seconds, optional
        As `Migration.downtime_limit`, from the next update of the counters on, at most 100 ms later.
    link_bandwidth : bytes/s, optional
        As `Link.bandwidth`: what other traffic leaves of the link. Bytes that wait in the send buffer keep their time.
    command : {"stop", "migrate_cancel", "migrate-start-postcopy"}, optional
        ``stop`` stops the VM, which brings the switchover about, since nothing is written any more; the downtime begins
        there. ``migrate_cancel`` ends the migration, and the guest stays where it is. ``migrate-start-postcopy`` is
        another way to write `Migration.postcopy_at`; it needs `Migration.postcopy_ram`.

    Examples
    --------
    >>> Change(at="10 s", max_bandwidth="1 GiB/s").downtime_limit is None
    True
    >>> Change(at="10 s")
    Traceback (most recent call last):
    ...
    migkit.ScenarioError: at = "10 s" changes nothing: give max_bandwidth, downtime_limit, link_bandwidth or command.
    """

    at: Annotated[Seconds, quantity("0 s", "168 h")]
    max_bandwidth: Limit | None = None
    downtime_limit: Annotated[Seconds, quantity("0 s", f"{MAX_DOWNTIME_LIMIT_S} s")] | None = None
    link_bandwidth: SpeedAboveZero | None = None
    command: Literal["stop", "migrate_cancel", "migrate-start-postcopy"] | None = None

    def _rules(self: Any) -> Iterator[Rule]:
        nothing = all(getattr(self, name) is None for name in _CHANGED)
        yield Rule(
            lambda: nothing,
            lambda: ScenarioError(f"changes nothing: give {', '.join(_CHANGED[:-1])} or {_CHANGED[-1]}", "at",
                                  str(self.at)),
        )  # fmt: skip


def in_order(changes: Sequence[Any]) -> Iterator[Rule]:
    """The rule that changes stand in the order of their times.

    Examples
    --------
    >>> changes = [Change(at="2 s", command="stop"), Change(at="1 s", link_bandwidth="1 GB/s")]
    >>> [rule.broken() for rule in in_order(changes)]
    [True]
    """
    for i, (earlier, later) in enumerate(pairwise(changes)):
        yield _not_before(earlier, later, f"changes.{i + 1}.at")


def _not_before(earlier: Any, later: Any, field: str) -> Rule:
    return Rule(
        lambda: later.at < earlier.at,
        lambda: ScenarioError(
            "is before the change ahead of it: changes stand in the order of their times", field, str(later.at)
        ),
    )
