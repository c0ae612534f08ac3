"""Who converges, derived from the constants of the loop without running it.

With ``L`` the rate at which the migration thread pushes pages through the link, ``M`` max-bandwidth, ``H`` the hot set,
``w`` its write rate, ``D`` the downtime limit and ``T`` the time of an iteration:

- an iteration sends ``S = min(0.051 s L, 0.1 s M)`` and dirties the share ``p = 1 - exp(-w T / H)`` of what is clean;
- ``H p <= S``: RAM is drained in every iteration, and all devices send their initial data;
- else RAM settles at ``x = H + S - S / p`` after a sync. It fits if ``x`` is below the threshold ``min(L, M) D`` less
  what the devices send when stopped;
- serialized iteration then never reaches a device behind RAM; unserialized iteration does, unless RAM uses up the
  window: ``0.051 s L > 0.1 s M``, that is ``L > 1.96 M``.

For a hot set that is rewritten within an iteration (``p = 1``) this is the band ``S < H < threshold``.

The derivation is for one hot region and at most one entry of VFIO devices behind RAM, with switchover-ack. Every
quantity comes from the scenario and from the axes of the sweep that is held against it (:class:`Inputs`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from migkit.kernels.state import PAGE_HEADER
from migkit.results import CATEGORIES, Outcome, validated
from migkit.scenario.errors import ScenarioError
from migkit.scenario.scenario import Scenario

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "BOTH",
    "CATEGORIES",
    "NEITHER",
    "ONLY_SERIALIZED",
    "ONLY_UNSERIALIZED",
    "POLICIES",
    "SLICE_S",
    "STARVES_ABOVE",
    "WINDOW_S",
    "Inputs",
    "categories",
    "category",
    "coordinate",
    "derived_verdict",
    "effective_link",
    "fitting_write_rate",
    "slice_bytes",
    "starving_write_rate",
    "swept_scenario",
    "threshold_bytes",
    "written_share",
]

POLICIES = ("serialized", "unserialized")
"""The two that a category compares."""
BOTH, ONLY_UNSERIALIZED, ONLY_SERIALIZED, NEITHER = range(len(CATEGORIES))

SLICE_S = 0.051
"""A call of RAM ends when more than 50 whole milliseconds have passed (``migration/ram.c:ram_save_iterate``)."""
WINDOW_S = 0.1
"""Rate-limit window (``migration/migration-stats.h``)."""
STARVES_ABOVE = WINDOW_S / SLICE_S
"""Link over max-bandwidth above which RAM alone uses up each window: 1.96."""


class Inputs(NamedTuple):
    """What the derivation takes: numbers or arrays that broadcast, in SI units.

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario, Vfio
    >>> scenario = Scenario(
    ...     guest=Guest(ram="16 GiB", regions=[Region(size="256 MiB", write_rate="20 GB/s")]),
    ...     devices=[Vfio(initial_bytes="16 MiB")],
    ...     link=Link(bandwidth="10 Gbit/s"),
    ...     migration={"max_bandwidth": 0},
    ... )
    >>> inputs = Inputs.of(scenario)
    >>> inputs.page_size, inputs.max_bandwidth
    (4096, inf)
    >>> CATEGORIES[int(derived_verdict(inputs))]
    'only unserialized'
    """

    write_rate: Any
    """Of the hot set, bytes/s, above 0."""
    hot_set: Any
    """Size of the region that is written, bytes."""
    link: Any
    """Bytes/s."""
    max_bandwidth: Any
    """Bytes/s; infinite for no limit."""
    devices: Any
    """VFIO devices with initial data, a count."""
    stop_copy: Any
    """What each device sends when stopped, bytes."""
    downtime_limit_s: Any
    """Seconds."""
    sync_s: Any
    """Cost of a bitmap sync, seconds: an iteration in which the exact query runs is longer by it."""
    page_s: Any
    """CPU time of the migration thread for a page, seconds."""
    page_size: Any
    """Bytes."""

    @classmethod
    def of(cls, scenario: Scenario) -> Inputs:
        """Read a scenario.

        Raises
        ------
        ScenarioError
            If it has another number of regions than one, or other devices than one entry of VFIO devices behind RAM.
        """
        return cls._read(scenario, lambda path: _field(scenario, path))

    @classmethod
    def at(cls, dataset: xr.Dataset) -> Inputs:
        """Read a sweep, or a part of one: what is an axis comes from its coordinate, all else from the scenario.

        Parameters
        ----------
        dataset : Dataset
            Of :func:`migkit.sweep`, or what was selected from it; its attributes hold the scenario.

        Returns
        -------
        Inputs
            With a DataArray for each axis, and numbers for the rest and for axes of which one value was selected.

        Raises
        ------
        ScenarioError
            As for :meth:`of`; also if the Dataset does not say which scenario was swept.
        """
        scenario = swept_scenario(dataset)

        def value(path: str) -> Any:
            found = coordinate(dataset, path)
            if found is None:
                return _field(scenario, path)
            return found if found.ndim else found.item()

        return cls._read(scenario, value)

    @classmethod
    def _read(cls, scenario: Scenario, value: Callable[[str], Any]) -> Inputs:
        kinds = [device.kind for device in scenario.devices]
        if len(scenario.guest.regions) != 1 or kinds not in ([], ["vfio"], ["ram"], ["ram", "vfio"]):
            raise ScenarioError("has no derived boundaries: they are for one region of the guest, and at most one "
                                "entry of VFIO devices behind RAM", "scenario")  # fmt: skip
        region = scenario.guest.regions[0]
        if region.rates or region.curve:
            raise ScenarioError("has no derived boundaries: its rate changes", "scenario.guest.regions.0")
        if region.pattern == "sequential":
            raise ScenarioError("has no derived boundaries: its writer is sequential, and they are for uniform writes",
                                "scenario.guest.regions.0")  # fmt: skip
        if scenario.guest.tracking > scenario.guest.page_size:
            raise ScenarioError("has no derived boundaries: writes are tracked in units above a page",
                                "scenario.guest.tracking", str(scenario.guest.tracking))  # fmt: skip
        if np.any(value("guest.backing") > value("guest.page_size")):
            raise ScenarioError("has no derived boundaries: a call of RAM in huge pages ends elsewhere",
                                "scenario.guest.backing", str(scenario.guest.backing))  # fmt: skip
        if np.any(value("migration.compress")):
            raise ScenarioError("has no derived boundaries: its pages are compressed", "scenario.migration.compress",
                                True)  # fmt: skip
        if np.any(value("migration.multifd")):
            raise ScenarioError("has no derived boundaries: its pages travel on channels", "scenario.migration.multifd",
                                True)  # fmt: skip
        share, page_size = value("costs.copy_share"), value("guest.page_size")
        vfio = f"devices.{kinds.index('vfio')}" if "vfio" in kinds else ""
        return cls(
            write_rate=value("guest.regions.0.write_rate"),
            hot_set=value("guest.regions.0.size"),
            link=np.minimum(value("link.bandwidth"), _no_limit(value("link.stream_bandwidth"))),
            max_bandwidth=_no_limit(value("migration.max_bandwidth")),
            devices=value(f"{vfio}.count") if vfio else 0,
            stop_copy=value(f"{vfio}.stop_copy_bytes") if vfio else 0,
            downtime_limit_s=value("migration.downtime_limit"),
            sync_s=value("costs.bitmap_sync") + value("costs.bitmap_sync_per_gib") * value("guest.ram") / 2**30,
            page_s=value("costs.page") * (1 - share + share * (page_size / 4096)),
            page_size=page_size,
        )


def _no_limit(limit: Any) -> Any:
    """A limit of which 0 stands for none, infinite where it is none; an array keeps its coordinates."""
    return limit.where(limit > 0, np.inf) if hasattr(limit, "where") else limit or np.inf


def _field(scenario: Scenario, path: str) -> int | float:
    value: Any = scenario
    for part in path.split("."):
        value = value[int(part)] if part.isdigit() else getattr(value, part)
    return int(value) if isinstance(value, int) else float(value)


def swept_scenario(dataset: xr.Dataset) -> Scenario:
    """The scenario that a Dataset of migkit was computed from, without the values of its axes.

    Raises
    ------
    ScenarioError
        If the Dataset does not say.
    """
    if "description" not in dataset.attrs:
        raise ScenarioError("does not say which scenario it was computed from: its attribute description is missing",
                            "dataset")  # fmt: skip
    return Scenario.from_toml(dataset.attrs["description"])


def coordinate(dataset: xr.Dataset | xr.DataArray, path: str) -> xr.DataArray | None:
    """The coordinate of a field of the scenario by its dotted path, whatever its name; None if the field is no axis."""
    return next((each for each in dataset.coords.values() if each.attrs.get("long_name") == path), None)


def category(serialized: Any, unserialized: Any) -> Any:
    """Number of the category (:data:`CATEGORIES`).

    Parameters
    ----------
    serialized, unserialized : bool or array of bool
        Whether the migration completes under the policy.

    Examples
    --------
    >>> CATEGORIES[int(category(False, True))]
    'only unserialized'
    """
    serialized, unserialized = np.asarray(serialized, bool), np.asarray(unserialized, bool)
    return np.select(
        [serialized & unserialized, ~serialized & unserialized, serialized & ~unserialized],
        [BOTH, ONLY_UNSERIALIZED, ONLY_SERIALIZED],
        NEITHER,
    )


def written_share(write_rate: Any, hot_set: Any, span_s: Any) -> Any:
    """Share of a hot set that is written in a span: ``1 - exp(-w t / H)``.

    Parameters
    ----------
    write_rate : float or array
        Bytes/s.
    hot_set : float or array
        Bytes.
    span_s : float or array
        Seconds.

    Examples
    --------
    >>> round(float(written_share(1e9, 1e9, 1.0)), 3)
    0.632
    """
    return -np.expm1(-write_rate * span_s / hot_set)


def effective_link(link: Any, page_s: Any, page_size: Any) -> Any:
    """Rate at which the migration thread can push page contents: the link's, or its own if that is less.

    Parameters
    ----------
    link : float or array
        Bytes/s.
    page_s : float or array
        CPU time of the migration thread for a page, seconds (``HostCosts.page``).
    page_size : int or array
        Bytes (``Guest.page_size``).

    Returns
    -------
    float or array
        Bytes/s.

    Examples
    --------
    >>> round(float(effective_link(12.5e9, 2.1e-6, 4096)) / 1e9, 2)
    1.95
    """
    return page_size / np.maximum((page_size + PAGE_HEADER) / link, page_s)


class _Iteration(NamedTuple):
    """What an iteration can do."""

    limited: Any
    """Whether RAM alone uses up the window."""
    sleeps: Any
    """Whether the thread waits for the end of the window."""
    sent: Any
    """Bytes."""
    duration_s: Any
    carried: Any
    """Rate of a window without a sync, bytes/s."""


def _iteration(inputs: Inputs) -> _Iteration:
    link, limit = effective_link(inputs.link, inputs.page_s, inputs.page_size), inputs.max_bandwidth
    limited = SLICE_S * link > WINDOW_S * limit
    # without a limit iterations follow each other; with one below the link the thread sleeps until the window ends
    sleeps = limit < link
    return _Iteration(
        limited,
        sleeps,
        np.minimum(SLICE_S * link, WINDOW_S * limit),
        np.where(sleeps, WINDOW_S, SLICE_S + inputs.sync_s),
        np.minimum(limit, link),
    )


def slice_bytes(inputs: Inputs) -> Any:
    """What one iteration sends of RAM, bytes: a smaller hot set is drained, however fast it is written.

    Parameters
    ----------
    inputs : Inputs

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario
    >>> guest = Guest(ram="16 GiB", regions=[Region(size="512 MiB", write_rate="20 GB/s")])
    >>> inputs = Inputs.of(Scenario(guest=guest, link=Link(bandwidth="10 Gbit/s"), migration={"max_bandwidth": 0}))
    >>> round(float(slice_bytes(inputs)) / 2**20, 1)  # MiB
    60.7
    """
    return _iteration(inputs).sent


def threshold_bytes(inputs: Inputs) -> Any:
    """The threshold after a window without a sync, bytes.

    Parameters
    ----------
    inputs : Inputs

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario
    >>> guest = Guest(ram="16 GiB", regions=[Region(size="512 MiB", write_rate="20 GB/s")])
    >>> inputs = Inputs.of(Scenario(guest=guest, link=Link(bandwidth="10 Gbit/s"), migration={"max_bandwidth": 0}))
    >>> round(float(threshold_bytes(inputs)) / 2**20, 1)  # MiB
    356.9
    """
    return _iteration(inputs).carried * inputs.downtime_limit_s


def derived_verdict(inputs: Inputs, window_syncs: bool = False) -> Any:
    """Under which policies the migration converges.

    Parameters
    ----------
    inputs : Inputs
    window_syncs : bool, default False
        Take the threshold from a window in which every iteration syncs, and which therefore carries less, instead of
        from one without a sync.

    Returns
    -------
    int or array of int
        Category of each point (:data:`CATEGORIES`).

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario
    >>> guest = Guest(ram="16 GiB", regions=[Region(size="512 MiB", write_rate="20 GB/s")])
    >>> inputs = Inputs.of(Scenario(guest=guest, link=Link(bandwidth="10 Gbit/s"), migration={"max_bandwidth": 0}))
    >>> CATEGORIES[int(derived_verdict(inputs))]
    'neither converges'
    >>> CATEGORIES[int(derived_verdict(inputs._replace(downtime_limit_s=0.5)))]
    'both converge'
    """
    loop = _iteration(inputs)
    share = written_share(inputs.write_rate, inputs.hot_set, loop.duration_s)
    drained = inputs.hot_set * share <= loop.sent
    settled = inputs.hot_set + loop.sent - loop.sent / np.maximum(share, 1e-300)
    carried = np.where(loop.sleeps, loop.carried, loop.sent / loop.duration_s) if window_syncs else loop.carried
    fits = drained | (settled < carried * inputs.downtime_limit_s - inputs.devices * inputs.stop_copy)
    alone = np.asarray(inputs.devices) == 0
    return category(fits & (drained | alone), fits & (drained | alone | ~loop.limited))


def starving_write_rate(inputs: Inputs) -> Any:
    """Write rate above which an iteration no longer drains RAM: serialized iteration then starves a device behind it.

    Parameters
    ----------
    inputs : Inputs
        Its `write_rate` is not used.

    Returns
    -------
    float or array
        Bytes/s; infinite if RAM is drained at any rate.

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario
    >>> guest = Guest(ram="16 GiB", regions=[Region(size="512 MiB", write_rate="20 GB/s")])
    >>> inputs = Inputs.of(Scenario(guest=guest, link=Link(bandwidth="10 Gbit/s"), migration={"max_bandwidth": 0}))
    >>> round(float(starving_write_rate(inputs)) / 1e6)  # MB/s
    1308
    """
    loop = _iteration(inputs)
    return _rate_of_share(loop.sent / inputs.hot_set, inputs.hot_set, loop.duration_s)


def fitting_write_rate(inputs: Inputs) -> Any:
    """Write rate above which RAM no longer fits the threshold.

    Parameters
    ----------
    inputs : Inputs
        Its `write_rate` is not used.

    Returns
    -------
    float or array
        Bytes/s; infinite if RAM fits at any rate.

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario
    >>> guest = Guest(ram="16 GiB", regions=[Region(size="512 MiB", write_rate="20 GB/s")])
    >>> inputs = Inputs.of(Scenario(guest=guest, link=Link(bandwidth="10 Gbit/s"), migration={"max_bandwidth": 0}))
    >>> round(float(fitting_write_rate(inputs)) / 1e6)  # MB/s
    3423
    """
    loop = _iteration(inputs)
    above = inputs.hot_set + loop.sent + inputs.devices * inputs.stop_copy - threshold_bytes(inputs)
    edge = _rate_of_share(loop.sent / np.maximum(above, 1e-300), inputs.hot_set, loop.duration_s)
    return np.maximum(edge, starving_write_rate(inputs))  # what is drained fits


def _rate_of_share(share: Any, hot_set: Any, span_s: Any) -> Any:
    """The write rate that writes this share of the hot set in a span; the inverse of :func:`written_share`."""
    share = np.asarray(share, dtype=float)
    rate = -np.log1p(-np.where(share < 1.0, share, 0.0)) * hot_set / span_s
    return np.where(share < 1.0, rate, np.inf)


def categories(dataset: xr.Dataset) -> xr.Dataset:
    """Add to a sweep under which policies its migrations converge, simulated and derived.

    Parameters
    ----------
    dataset : Dataset
        Of :func:`migkit.sweep`, with both policies as an axis.

    Returns
    -------
    Dataset
        `dataset` with ``category``, ``derived``, and ``derived_window_syncs`` (see :func:`derived_verdict`), which have
        all its axes but the policy.

    Raises
    ------
    ScenarioError
        If the Dataset does not have both policies as an axis, or the scenario has no derived boundaries
        (:class:`Inputs`).

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario, sweep
    >>> scenario = Scenario(
    ...     guest=Guest(ram="1 GiB", regions=[Region(size="64 MiB", write_rate="1 GB/s")]),
    ...     link=Link(bandwidth="10 Gbit/s"),
    ... )
    >>> ds = sweep(scenario, {"policy": ["serialized", "unserialized"], "link.bandwidth": ["2 Gbit/s", "20 Gbit/s"]})
    >>> [CATEGORIES[number] for number in categories(ds)["category"].values]
    ['neither converges', 'neither converges']
    """
    import xarray as xr

    policy = coordinate(dataset, "policy")
    if policy is None or not set(POLICIES) <= set(np.atleast_1d(policy.values)):
        raise ScenarioError("needs both policies as an axis: sweep over policy", "dataset")
    completed = dataset["outcome"] == Outcome.COMPLETED
    serialized, unserialized = (completed.sel({policy.dims[0]: name}, drop=True) for name in POLICIES)
    simulated = serialized.copy(data=category(serialized.values, unserialized.values).astype(np.int8))
    found = {"category": simulated}
    for name, window_syncs in (("derived", False), ("derived_window_syncs", True)):
        verdict = xr.apply_ufunc(_verdict, *Inputs.at(dataset), kwargs={"window_syncs": window_syncs}, keep_attrs=False)
        found[name] = xr.DataArray(verdict).broadcast_like(simulated).transpose(*simulated.dims)
    # a Dataset may have variables of the user's own beside those of the sweep
    return dataset.assign(validated(xr.Dataset(found), "study"))


def _verdict(*inputs: Any, window_syncs: bool) -> np.ndarray:
    return np.asarray(derived_verdict(Inputs(*inputs), window_syncs), np.int8)
