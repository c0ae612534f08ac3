"""Draws of what a guest writes, as a guest with two regions: a migration for each draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.qemu.calibration import rounded
from migkit.qemu.working_set import PAGE, WorkingSet
from migkit.results import Outcome
from migkit.run.many import sweep
from migkit.scenario.parts import Guest, Region
from migkit.scenario.scenario import Scenario
from migkit.scenario.units import Bytes, Rate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["LEAST_SHARE", "draw_in_the_middle", "drawn_regions", "guest_of", "rounded_guest", "swept"]

LEAST_SHARE = 0.1
"""Without a measurement, a writer needs this share of its vCPU or more at its full rate."""


def drawn_regions(
    guest: Guest, fit: WorkingSet, untouched_bytes: int = 0, vcpu_share: float | None = None, seed: int = 0
) -> dict[str, list[Any]]:
    """Fields of two regions for every draw, as axes that move together.

    Where they lie, where a sequential writer stands and, unless it is given, the share of the vCPU are drawn.

    Parameters
    ----------
    guest : Guest
        Its RAM and page size are used.
    fit : WorkingSet
        What it writes.
    untouched_bytes : int, default 0
        Memory outside the regions that is zero.
    vcpu_share : float, optional
        Share of its vCPU that a writer needs; drawn from 0.1 to 1, flat in the logarithm, by default.
    seed : int, default 0
        Of these draws.

    Returns
    -------
    dict
        A list for each dotted path of a field, with one value a draw.

    Examples
    --------
    >>> from migkit import Guest
    >>> from migkit.qemu.working_set import DirtyVolumes, fit_working_set
    >>> fit = fit_working_set(DirtyVolumes.of_rates([1.0, 4.0], [60e6, 16e6]), 2**30, draws=5)
    >>> len(drawn_regions(Guest(ram="1 GiB"), fit)["guest.regions.0.size"])
    5
    """
    table, pages = fit.draws, int(guest.ram) // PAGE
    rng = np.random.default_rng([seed, 1])
    count = len(table)
    hot = np.clip(np.rint(table["size_bytes"].to_numpy() / PAGE).astype(np.int64), 1, pages - 1)
    cold = np.clip(np.rint(table["cold_bytes"].to_numpy() / PAGE).astype(np.int64), 1, pages - hot)
    free = pages - hot - cold
    cuts = np.sort(rng.random((count, 2)), axis=1)
    before = np.floor(cuts[:, 0] * (free + 1)).astype(np.int64).clip(max=free)
    between = np.floor((cuts[:, 1] - cuts[:, 0]) * free).astype(np.int64)
    hot_first = rng.random(count) < 0.5
    hot_start = np.where(hot_first, before, before + cold + between)
    cold_start = np.where(hot_first, before + hot + between, before)
    drawn = np.exp(rng.uniform(np.log(LEAST_SHARE), 0.0, count))
    share = drawn if vcpu_share is None else np.full(count, np.clip(vcpu_share, 1e-4, 1.0))
    sequential, begins = (table["kind"] == "sequential").to_numpy(), rng.random(count).tolist()
    return {
        "guest.zero_share": np.clip(untouched_bytes / (np.maximum(free, 1) * PAGE), 0.0, 1.0).tolist(),
        "guest.regions.0.size": _sizes(hot),
        "guest.regions.0.start": _sizes(hot_start),
        "guest.regions.0.write_rate": _rates(table["rate_bytes_per_s"]),
        "guest.regions.0.pattern": np.where(sequential, "sequential", "uniform").tolist(),
        **({"guest.regions.0.phase": begins} if sequential.any() else {}),
        "guest.regions.0.vcpu_share": share.tolist(),
        "guest.regions.1.size": _sizes(cold),
        "guest.regions.1.start": _sizes(cold_start),
        "guest.regions.1.write_rate": _rates(table["cold_rate_bytes_per_s"]),
        "guest.regions.1.vcpu_share": share.tolist(),
    }


def _sizes(pages: np.ndarray) -> list[Bytes]:
    return [Bytes(int(each) * PAGE) for each in pages]


def _rates(values: Any) -> list[Rate]:
    return [Rate(float(each)) for each in values]


def guest_of(guest: Guest, axes: Mapping[str, list[Any]], draw: int) -> Guest:
    """The guest of one draw.

    Parameters
    ----------
    guest : Guest
        RAM, page size, accelerator and dirty ring.
    axes : mapping
        From :func:`drawn_regions`.
    draw : int
        Which.

    Returns
    -------
    Guest
    """
    fields: list[dict[str, Any]] = [{}, {}]
    for path, values in axes.items():
        if path.startswith("guest.regions."):
            _, _, number, name = path.split(".")
            fields[int(number)][name] = values[draw]
    if fields[0]["pattern"] == "uniform":
        fields[0].pop("phase", None)
    return Guest(
        ram=guest.ram,
        page_size=guest.page_size,
        accel=guest.accel,
        dirty_ring_size=guest.dirty_ring_size,
        zero_share=axes["guest.zero_share"][draw],
        regions=tuple(Region(**each) for each in fields),
    )


def rounded_guest(guest: Guest) -> Guest:
    """A guest of one draw, its rates and shares with the digits that a fit knows.

    Parameters
    ----------
    guest : Guest
        From :func:`guest_of`.

    Returns
    -------
    Guest
    """
    regions = tuple(
        region.changed(
            write_rate=Rate(rounded(region.write_rate)),
            vcpu_share=rounded(region.vcpu_share),
            phase=None if region.phase is None else rounded(region.phase),
        )
        for region in guest.regions
    )
    return guest.changed(zero_share=rounded(guest.zero_share), regions=regions)


def swept(scenario: Scenario, axes: Mapping[str, list[Any]]) -> xr.Dataset:
    """Simulate every draw; the dimension is ``draw``."""
    return sweep(scenario, {"draw": dict(axes)})


def draw_in_the_middle(draws: xr.Dataset) -> int:
    """The draw whose total time is in the middle of those that end as most do.

    Parameters
    ----------
    draws : Dataset
        From :func:`swept`.

    Returns
    -------
    int
    """
    completed = draws["outcome"].values == Outcome.COMPLETED
    alike = np.flatnonzero(completed == (completed.mean() >= 0.5))
    times = draws["total_time_s"].values[alike]
    return int(alike[np.argsort(times, kind="stable")[len(times) // 2]])
