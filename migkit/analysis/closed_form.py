"""Who converges, derived from the constants of the loop without running it.

With ``L`` what the migration thread pushes through the link, ``M`` max-bandwidth, ``H`` the hot set, ``w`` its write
rate, ``D`` the downtime limit and ``T`` the time of a turn:

- a turn sends ``S = min(0.051 s L, 0.1 s M)`` and dirties the share ``p = 1 - exp(-w T / H)`` of what is clean;
- ``H p <= S``: RAM is drained in every turn, and all devices get theirs;
- else RAM settles at ``x = H + S - S / p`` after a sync. It fits if ``x`` is below the threshold ``min(L, M) D`` less
  what the devices send when stopped;
- a serialized walk then never reaches a device behind RAM; an unserialized one does, unless RAM uses up the window:
  ``0.051 s L > 0.1 s M``, that is ``L > 1.96 M``.

For a hot set that is rewritten within a turn (``p = 1``) this is the band ``S < H < threshold``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

    from migkit.scenario.scenario import Scenario

BOTH, ONLY_UNSERIALIZED, ONLY_SERIALIZED, NEITHER = range(4)
CATEGORIES = ("both converge", "only unserialized", "only serialized", "neither converges")

SLICE_S = 0.051
"""A call of RAM ends when more than 50 whole milliseconds have passed (``migration/ram.c:ram_save_iterate``)."""
WINDOW_S = 0.1
"""Rate-limit window (``migration/migration-stats.h``)."""
STARVES_ABOVE = WINDOW_S / SLICE_S
"""Link over max-bandwidth above which RAM alone uses up each window: 1.96."""


def category(serialized: Any, unserialized: Any) -> Any:
    """Number of the category (:data:`CATEGORIES`) from who converges."""
    return np.select(
        [serialized & unserialized, ~serialized & unserialized, serialized & ~unserialized],
        [BOTH, ONLY_UNSERIALIZED, ONLY_SERIALIZED],
        NEITHER,
    )


def written_share(write_rate: Any, hot_set: Any, span_s: Any) -> Any:
    """Share of a hot set that is written in a span: ``1 - exp(-w t / H)``."""
    return -np.expm1(-write_rate * span_s / hot_set)


def effective_link(link: Any, page_s: float = 2.1e-6, page_size: int = 4096) -> Any:
    """Rate at which the migration thread can push page contents, bytes/s: the link's, or its own if that is less.

    Examples
    --------
    >>> round(float(effective_link(12.5e9)) / 1e9, 2)
    1.95
    """
    return page_size / np.maximum((page_size + 8) / link, page_s)


def derived_verdict(
    write_rate: Any,
    hot_set: Any,
    link: Any,
    max_bandwidth: Any,
    devices: Any,
    downtime_limit_s: Any = 0.3,
    sync_s: Any = 0.0,
    stop_copy: Any = 0,
    window_syncs: bool = False,
) -> Any:
    """Who converges; the category of each point.

    Parameters
    ----------
    write_rate, link, max_bandwidth : float or array
        Bytes/s; max_bandwidth may be infinite.
    hot_set : float or array
        Bytes.
    devices : int or array
        VFIO devices with initial data.
    downtime_limit_s : float or array
        Seconds.
    sync_s : float or array
        Cost of a bitmap sync, seconds: a turn in which the exact query runs is longer by it.
    stop_copy : float or array
        What each device sends when stopped, bytes.
    window_syncs : bool, default False
        Take the threshold from a window in which every turn syncs, and so carries less, instead of from one
        without a sync.

    Returns
    -------
    category : array of int

    Examples
    --------
    >>> CATEGORIES[int(derived_verdict(20e9, 200e6, 1.25e9, np.inf, 1))]
    'only unserialized'
    """
    link = effective_link(link)
    limited = SLICE_S * link > WINDOW_S * max_bandwidth
    sent = np.where(limited, WINDOW_S * max_bandwidth, SLICE_S * link)
    # without a limit turns follow each other; below the link's speed the thread sleeps the window out
    sleeps = max_bandwidth < link
    turn = np.where(sleeps, WINDOW_S, SLICE_S + sync_s)
    share = written_share(write_rate, hot_set, turn)
    drained = hot_set * share <= sent
    settled = hot_set + sent - sent / np.maximum(share, 1e-300)
    carried = np.where(sleeps, max_bandwidth, sent / turn if window_syncs else link)
    fits = drained | (settled < carried * downtime_limit_s - devices * stop_copy)
    alone = devices == 0
    return category(fits & (drained | alone), fits & (drained | alone | ~limited))


def starving_write_rate(hot_set: Any, link: Any, sync_s: float = 0.0) -> Any:
    """Write rate above which a slice no longer drains RAM (no max-bandwidth), bytes/s; infinite if any is drained."""
    return _rate_of_share(SLICE_S * effective_link(link) / hot_set, hot_set, SLICE_S + sync_s)


def fitting_write_rate(
    hot_set: Any, link: Any, sync_s: float = 0.0, stop_copy: float = 0.0, downtime_limit_s: float = 0.3
) -> Any:
    """Write rate above which RAM no longer fits the threshold (no max-bandwidth), bytes/s; infinite if it always does.

    Examples
    --------
    >>> float(fitting_write_rate(320 * 2**20, 1.25e9))  # less than 0.3 s of the link
    inf
    """
    pushed = effective_link(link)
    sent = SLICE_S * pushed
    above = np.maximum(hot_set + sent - pushed * downtime_limit_s + stop_copy, 1e-300)
    return _rate_of_share(sent / above, hot_set, SLICE_S + sync_s)


def _rate_of_share(share: Any, hot_set: Any, span_s: float) -> Any:
    """The write rate that writes this share of the hot set in a span; the inverse of :func:`written_share`."""
    share = np.asarray(share, dtype=float)
    rate = -np.log1p(-np.where(share < 1.0, share, 0.0)) * hot_set / span_s
    return np.where(share < 1.0, rate, np.inf)


def sync_seconds(scenario: Scenario) -> float:
    """What a bitmap sync of this guest costs, seconds."""
    costs = scenario.costs
    return float(costs.bitmap_sync + costs.bitmap_sync_per_gib * scenario.guest.ram / 2**30)


def derived_at(dataset: xr.Dataset, scenario: Scenario, window_syncs: bool = False) -> xr.DataArray:
    """The derived category of every point of a sweep, from its axes and, for all else, its scenario.

    Parameters
    ----------
    dataset : Dataset
        From :func:`migkit.sweep`, with the policy as an axis.
    scenario : Scenario
        What was swept: one region, one entry of devices.
    window_syncs : bool, default False
        As for :func:`derived_verdict`.
    """
    import xarray as xr

    axes = {coordinate.attrs.get("long_name"): coordinate for coordinate in dataset.coords.values()}
    region, device = scenario.guest.regions[0], scenario.devices[0]
    limit = axes.get("migration.max_bandwidth", scenario.migration.max_bandwidth)
    verdict = xr.apply_ufunc(
        derived_verdict,
        axes.get("guest.regions.0.write_rate", region.write_rate),
        axes.get("guest.regions.0.size", region.size),
        axes.get("link.bandwidth", scenario.link.bandwidth),
        xr.where(limit > 0, limit, np.inf),
        axes.get("devices.0.count", device.count),
        scenario.migration.downtime_limit,
        sync_seconds(scenario),
        device.stop_copy_bytes,
        kwargs={"window_syncs": window_syncs},
    ).astype(np.int8)
    points = dataset["outcome"].isel(policy=0, drop=True)
    return verdict.broadcast_like(points).transpose(*points.dims)
