"""Build the scenario of a measured run from its configuration and from other runs on its host.

Three measurements of the run itself are used, all known before the migration loop decides anything: how fast a guest at
full speed wrote before the migration, where a sequential writer stood and, where the link is not paced, how fast the
first pass went.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING, Any

from migkit.qemu.calibration import Calibration, calibrate, uncalibrated
from migkit.qemu.costs import MIB, NORMAL_PAGE_WIRE_BYTES, NOT_MODELLED, XBZRLE_PAGE_S
from migkit.qemu.guest import FIRST_START
from migkit.qemu.traces import Folder, folder_now, runs, table
from migkit.scenario.changes import Change
from migkit.scenario.errors import ScenarioError
from migkit.scenario.parts import Block, Guest, HostCosts, Link, Migration, Region, Vfio
from migkit.scenario.scenario import Scenario
from migkit.scenario.units import Bytes, Rate, Seconds, parse_bytes
from migkit.scenario.versions import profile

if TYPE_CHECKING:
    import pandas as pd

BUILDS = {
    "unser": ("9.0-rc0", "unserialized"),
    "ser": ("9.0-rc0", "serialized"),
    "deb72": ("7.2", "serialized"),
    "v82": ("8.2", "serialized"),
    "deb100": ("10.0", "unserialized"),
    "v102": ("10.2", "unserialized"),
    "deb111": ("11.1", "unserialized"),
}
"""Profile and policy of the builds in ``data/qemu-traces``."""
DEVICE_ON_7_2 = {"qemu": "9.0-rc0", "policy": "serialized", "sync_policy": "7.2"}
"""Rules for a preloaded device on 7.2: its profile has no VFIO, so when to sync is that of 7.2, the rest of 9.0-rc0."""
PAGE = 4096
OTHER_RAM_BYTES = 335_872
"""RAM besides the guest's main memory: firmware, display, option ROMs; 82 pages."""
ENCODED_PAGE_BYTES = 2
"""What XBZRLE makes of a page of the boot program, which changes one word of it: 1.4 to 2.9 bytes behind the headers in
the runs of ``tests/data/xbzrle``, those counted in that were not changed."""
ZERO_PAGES = (160, 102), (-77, 77)
"""Ranges of zero pages, (first page, pages): below 1 MiB, and at the end of RAM (counted from there)."""
BUSY_WRITES_PER_S = 1e6
"""Page writes per second to the one page that every sync finds dirty: far more than there are syncs per second."""
STATE_BYTES = {"tcg": 107_430, "kvm": 107_755}
"""Headers and non-iterable state in the byte count of 9.0-rc0."""
STATE_BYTES_OF_BUILDS = {"deb72": 0, "v82": 107_261, "deb100": 112_788, "v102": 112_788, "deb111": 109_926}
"""The same for other builds; 7.2 counts them after the migration."""
PACED_VCPU_SHARE = 1 / 6
"""A paced guest catches up 50 ms of a stall, and a throttled vCPU runs 10 ms at a time (CPU_THROTTLE_TIMESLICE_NS of
system/cpu-throttle.c): 60 ms of writes in 10 ms, so it keeps its rate until less than this share is left of it, or less
than its writes take, with the work behind each of them."""
BLOCK_READ_BYTES_PER_S = 8 * 2**30
"""The disk is read ahead of what is sent, so it does not limit."""
BLOCK_STATE_BYTES = 90
"""What a disk adds to the byte count besides its data and section headers."""
NO_WIRE_BYTES_PER_S = 100e9
"""Loopback under max-bandwidth: the wire is never what the thread waits for."""
LOOPBACK_BUFFER = 10 * 2**20
"""What the sockets of a loopback connection hold, in which a page that a fault asks for waits behind others, bytes: the
largest that Linux gives a sender and a receiver by default (4 and 6 MiB; net.ipv4.tcp_wmem, tcp_rmem)."""
RTT_S = 0.05e-3
"""Round trip on one host: the time of an acknowledgement where RAM has next to nothing to send."""
DEFAULT_CHANNELS = Migration.model_fields["multifd_channels"].default
HELD_MIB_S = 256
"""Largest max-bandwidth (MiB/s) that is well below what loopback carries."""


def nearest_profile(version: str) -> str:
    """Find the profile that a version of QEMU is predicted with.

    Parameters
    ----------
    version : str
        Such as ``"10.0.2"``; x.y.50 and up are snapshots of what follows x.y.

    Returns
    -------
    str
        A key of :data:`migkit.scenario.versions.PROFILES`: that of the version.

    Raises
    ------
    ScenarioError
        If it is older or newer than all that are known.

    Examples
    --------
    >>> nearest_profile("7.2.22"), nearest_profile("9.1.0"), nearest_profile("10.2.2"), nearest_profile("11.1.3")
    ('7.2', '9.1', '10.2', '11.1')
    """
    try:
        return profile(version).name
    except ScenarioError as error:
        raise ScenarioError(error.problem, "version", version) from None


def rules_of(build: str, version: str | None = None, device: bool = False) -> dict[str, Any]:
    """Say by which rules a build is predicted.

    Parameters
    ----------
    build : str
        Such as ``"deb100"``.
    version : str, optional
        Such as ``"10.0.2"``; needed for a build that is not in `BUILDS`.
    device : bool, default False
        Whether it has a device behind RAM.

    Returns
    -------
    dict
        ``qemu`` and ``policy`` of a scenario, and ``sync_policy`` for a device on 7.2.

    Raises
    ------
    ScenarioError
        If neither the build nor its version is known.

    Examples
    --------
    >>> rules_of("deb100")
    {'qemu': '10.0', 'policy': 'unserialized'}
    >>> rules_of("deb91", "9.1.2")
    {'qemu': '9.1', 'policy': 'unserialized'}
    """
    if build in BUILDS:
        qemu, policy = BUILDS[build]
    elif isinstance(version, str) and re.fullmatch(r"\d+\.\d+(\.\d+)*", version):
        qemu = nearest_profile(version)
        policy = profile(qemu).default_policy
    else:
        raise ScenarioError("is not a build that is known, and its version is not recorded", "build", build)
    if device and qemu == "7.2":
        return dict(DEVICE_ON_7_2)
    return {"qemu": qemu, "policy": policy}


def counters(start: int) -> Region:
    """The page below what a guest writes, in which it counts: every sync finds it dirty.

    Examples
    --------
    >>> counters(1 << 21).start
    2044 KiB
    """
    return Region(size=Bytes(PAGE), start=Bytes(start - PAGE), write_rate=Rate(BUSY_WRITES_PER_S * PAGE))


def guest_of(
    ram: int,
    accel: str,
    written: Sequence[Region],
    zero_share: float = 0.0,
    dirty_ring_size: int = 0,
    backing: int = 0,
) -> Guest:
    """Build the guest of a recording: what it writes to, and the pages that are zero.

    Parameters
    ----------
    ram : int
        Bytes of its main memory.
    accel : {"tcg", "kvm"}
        Who runs it.
    written : list of Region
        What it writes to, the page of its :func:`counters` among them.
    zero_share : float, default 0
        Share of its other pages that are zero.
    dirty_ring_size : int, default 0
        Entries of its dirty ring, 0 for none.
    backing : int, default 0
        Bytes of the huge pages that its main memory is in, 0 for none. The rest of RAM, which is in none, is then left
        out.

    Returns
    -------
    Guest

    Examples
    --------
    >>> len(guest_of(1 << 30, "tcg", [counters(1 << 21)]).regions)
    3
    """
    total = ram if backing else ram + OTHER_RAM_BYTES
    zeros = [
        Region(size=Bytes(pages * PAGE), start=Bytes(first % (total // PAGE) * PAGE), zero_share=1.0)
        for first, pages in ZERO_PAGES
    ]
    return Guest(
        ram=Bytes(total),
        accel=accel,
        regions=(*written, *zeros),
        zero_share=zero_share,
        dirty_ring_size=dirty_ring_size,
        backing=Bytes(backing),
    )


def is_held(run: pd.Series) -> bool:
    """Whether a paced link or max-bandwidth, well below what loopback carries, sets the speed of a run.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`.

    Returns
    -------
    bool

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> is_held(runs().loc["A5__unl_ws256_max__unser__r0"])
    False
    """
    return bool(run["link_mib_s"] > 0 or 0 < run["bw_mib_s"] <= HELD_MIB_S)


def is_modelled(run: pd.Series) -> bool:
    """Whether the model has all capabilities of a run.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`.

    Returns
    -------
    bool

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> is_modelled(runs().loc["M__mf2_bw128_r000__v82__r0"])
    True
    """
    return not set(run["caps"]) & set(NOT_MODELLED)


def starts_postcopy(run: pd.Series) -> bool:
    """Whether post-copy is started in a run.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`.

    Returns
    -------
    bool

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> starts_postcopy(runs().loc["P__pc3_bw128_r150__v82__r0"])
    True
    """
    at = run.get("postcopy_at_s", math.nan)
    return at == at and "postcopy-ram" in run["caps"]


def other_runs(run: pd.Series, path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """Select the runs that may tell something of the host of a run: those of its campaign that are not in its group.

    If no other group has its accelerator, also the other configurations of its group; for a run under auto-converge, if
    no other group has that, also the other runs of its group that have.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    DataFrame

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> found = other_runs(runs().loc["A6__link200_unl_r050__v82__r0"])
    >>> set(found["campaign"]), "A6" in set(found["group"])
    ({'2026-11-26'}, False)
    """
    everything = runs(path)
    of_host = everything[everything["campaign"] == run["campaign"]]
    column = "group" if of_host[of_host["accel"] == run["accel"]]["group"].nunique() > 1 else "name"
    throttled = of_host["caps"].map(_is_throttled) & (of_host.index != run.name)
    others = of_host[column] != run[column]
    if _is_throttled(run["caps"]) and not (throttled & others).any():
        others |= throttled
    return of_host[others]


def _is_throttled(caps: Any) -> bool:
    return "auto-converge" in caps


def calibration_of(run: pd.Series, path: str | os.PathLike[str] | None = None) -> Calibration:
    """Fit the costs of the host of a run from :func:`other_runs`, those like it where there are enough.

    If none of them shows a cost, because each is untraced or was recorded on a busy host, the costs are the defaults.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`, of which the configuration is read.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    Calibration

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> calibration_of(runs().loc["A2__bw128_rand_r050__unser__r0"]).costs.page
    2147 ns
    """
    like = {
        "accel": run["accel"],
        "load": "max" if run["writes_max"] else "quiet",
        "link": "paced" if run["link_mib_s"] else "loopback",
        "devices": bool(run["ndev"]),
    }
    others = other_runs(run, path)
    return _calibration(tuple(others.index), f"campaign {run['campaign']} without {run['group']}", *like.items(),
                        folder=folder_now(path))  # fmt: skip


def calibrations_of(measured: pd.DataFrame, path: str | os.PathLike[str] | None = None) -> list[Calibration]:
    """Fit the costs of the hosts of many runs: :func:`calibration_of` of each, computed once for runs that share it.

    Parameters
    ----------
    measured : DataFrame
        Rows of :func:`migkit.qemu.runs`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    list of Calibration
        One for each row.

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> measured = runs().query("group == 'A6' and build == 'v82'")
    >>> len(calibrations_of(measured)) == len(measured)
    True
    """
    # all that calibration_of reads of a run
    read = zip(*(measured[name] for name in ("campaign", "group", "name", "accel", "writes_max")),
               measured["link_mib_s"] != 0, measured["ndev"] != 0, strict=True)  # fmt: skip
    found: dict[tuple[Any, ...], Calibration] = {}
    out = []
    for row, shared in enumerate(read):
        key = (*shared, measured.index[row] if _is_throttled(measured["caps"].iloc[row]) else "")
        if key not in found:
            found[key] = calibration_of(measured.iloc[row], path)
        out.append(found[key])
    return out


@lru_cache(maxsize=512)
def _calibration(names: tuple[str, ...], name: str, *like: tuple[str, Any], folder: Folder) -> Calibration:
    try:
        return calibrate(runs(folder.path).loc[list(names)], folder.path, name, dict(like))
    except ScenarioError:  # no other run, or none on a quiet host
        return uncalibrated("default")


def link_of(run: pd.Series, calibration: Calibration) -> Link:
    """Link of one run.

    - A paced link carries the imposed pace, as far as other runs say.
    - Loopback under max-bandwidth (:func:`is_held`) has no wire to wait for: the thread copies, and its time is in the
      cost of a page.
    - Loopback with multifd has none either: the threads of the channels copy.
    - Loopback without such a limit carries what the thread copies in later passes, and in the first pass what the run
      itself carried there.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`.
    calibration : Calibration
        Costs of its host.

    Returns
    -------
    Link

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> run = runs().loc["A2__bw128_rand_r050__unser__r0"]
    >>> link_of(run, calibration_of(run)).bandwidth
    100 GB/s
    """
    fresh = 0.0
    if run["link_mib_s"]:
        bandwidth = run["link_mib_s"] * MIB * calibration.value("link_over_pace", 1.0)
    elif is_held(run):
        bandwidth = NO_WIRE_BYTES_PER_S
    elif "multifd" in run["caps"]:
        bandwidth = NO_WIRE_BYTES_PER_S
        own = run["link_first_pass_bytes_per_s"]
        fresh = own if own == own else 0.0
    else:
        bandwidth = NORMAL_PAGE_WIRE_BYTES / calibration.costs.page
        own = run["link_first_pass_bytes_per_s"]
        fresh = own if own == own else bandwidth  # three runs were not traced
    buffer = int(calibration.value("send_buffer", 0))
    if starts_postcopy(run) and not run["link_mib_s"]:
        buffer = LOOPBACK_BUFFER
    return Link(
        bandwidth=Rate(bandwidth),
        rtt=Seconds(RTT_S),
        send_buffer=Bytes(buffer),
        fresh_bandwidth=Rate(fresh),
    )


def phase_of(run: pd.Series, path: str | os.PathLike[str] | None = None) -> float:
    """Where a sequential writer stands when the migration begins, as a share of its region.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    float
        From 0 to below 1: from what the guest had counted just before, if its rate is known; 0 if not.

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> phase_of(runs().loc["A2__bw128_rand_r050__unser__r0"])
    0.0
    """
    if run["mode"] != "seq" or not run["ws_pages"] or run["pre_writes_s"] != run["pre_writes_s"]:
        return 0.0
    counted = table("guest_writes", path)
    counted = counted[(counted["run"] == run.name) & (counted["when"] == "start")]
    if not len(counted):
        return 0.0
    at, writes = counted.iloc[0][["t_ms", "writes"]]
    return float((writes - run["pre_writes_s"] * at * 1e-3) % run["ws_pages"] / run["ws_pages"])


def written_regions(run: pd.Series, path: str | os.PathLike[str] | None = None) -> tuple[Region, ...]:
    """What the guest of a measured run writes, the page that every sync finds dirty first.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`.
    path : path, optional
        As in :func:`migkit.qemu.runs`; of a recorded run the table ``regions`` has all regions, else there is one.

    Returns
    -------
    tuple of Region

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> [str(region.size) for region in written_regions(runs().loc["A2__bw128_rand_r050__unser__r0"])]
    ['4 KiB', '128 MiB']
    """
    if "zero_share" in run.index:  # a recorded run: its page of counters is below where regions may begin
        start = int(FIRST_START)
        try:
            rows = table("regions", path)
        except FileNotFoundError:
            found = []
        else:
            found = rows[rows["run"] == run.name].to_dict("records")
        regions = [
            _region(
                int(row["start_bytes"]),
                int(row["size_bytes"]),
                _own_writes(row, run) * PAGE if row["at_full_speed"] else float(row["rate_bytes_per_s"]),
                str(row["pattern"]),
                1.0 if row["at_full_speed"] else _paced_share(row, run, path),
            )
            for row in found
        ]
    else:
        start = int(run["region_start_bytes"])
        writes = run["pre_writes_s"] if run["writes_max"] else run["target_writes_s"]
        pattern = {"rand": "uniform", "seq": "sequential"}[run["mode"]]
        size = int(run["ws_pages"]) * PAGE
        share = 1.0 if run["writes_max"] else PACED_VCPU_SHARE
        regions = [_region(start, size, float(writes) * PAGE, pattern, share)] if size else []
    if len(regions) == 1 and regions[0].pattern == "sequential":  # counters of several writers are told together
        regions = [regions[0].changed(phase=phase_of(run, path))]
    return counters(start), *regions


def _own_writes(row: dict[str, Any], run: pd.Series) -> float:
    """Page writes per second of a region at full speed; of the guest where its counters tell them together."""
    own = float(row["pre_writes_s"])
    return own if own == own else float(run["pre_writes_s"])


def _paced_share(row: dict[str, Any], run: pd.Series, path: str | os.PathLike[str] | None) -> float:
    """Share of its vCPU that a paced writer needs; what its work takes is what other runs wrote without a pace."""
    if not row["delay"]:
        return PACED_VCPU_SHARE
    rows = table("regions", path)
    rows = rows[rows["at_full_speed"] & (rows["delay"] == row["delay"])]
    measured = runs(path).loc[rows["run"]]
    alike = (measured["accel"] == run["accel"]).to_numpy()
    same = alike & (measured["build"] == run["build"]).to_numpy()
    kept = same if same.any() else alike
    if not kept.any():
        return PACED_VCPU_SHARE
    writes = [_own_writes(each, measured.loc[each["run"]]) for each in rows[kept].to_dict("records")]
    return float(min(1.0, max(PACED_VCPU_SHARE, row["rate_bytes_per_s"] / PAGE / median(writes))))


def _region(start: int, size: int, write_rate: float, pattern: str, vcpu_share: float) -> Region:
    return Region(
        size=Bytes(size),
        start=Bytes(start),
        write_rate=Rate(write_rate),
        pattern=pattern,
        phase=0.0 if pattern == "sequential" else None,
        vcpu_share=vcpu_share,
    )


_CACHE_BYTES = int(Migration.model_fields["xbzrle_cache_size"].default)


def _zero_share(run: pd.Series) -> float:
    share = run.get("zero_share", 0.0)
    return 0.0 if share != share else float(share)


def _whole(run: pd.Series, name: str, otherwise: int) -> int:
    """A column that earlier runs do not have."""
    value = run.get(name, math.nan)
    return otherwise if value != value else int(value)


_CHANGES: dict[str, Callable[[float], dict[str, Any]]] = {
    "max-bandwidth": lambda value: {"max_bandwidth": Rate(value)},
    "downtime-limit": lambda value: {"downtime_limit": Seconds(value * 1e-3)},
}
"""Parameters whose change while a migration runs is modelled, as a change of a scenario."""


def changes_of(run: pd.Series, path: str | os.PathLike[str] | None = None) -> tuple[Change, ...]:
    """Say what was changed while a measured run went on.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    tuple of Change

    Raises
    ------
    ScenarioError
        If it is something that the model lacks.

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> changes_of(runs().loc["A2__bw128_rand_r050__unser__r0"])
    ()
    """
    try:
        made = table("changes", path)
    except FileNotFoundError:  # the runs that come with migkit have none
        return ()
    found = []
    for _, row in made[made["run"] == run.name].sort_values("t_ms").iterrows():
        if row["parameter"] == "migrate-start-postcopy":  # its time is in the row of the run
            continue
        if row["parameter"] not in _CHANGES:
            raise ScenarioError(f"changes {row['parameter']} while it runs, which has no model", "run", str(run.name))
        change = _CHANGES[row["parameter"]](float(row["value"]))
        found.append(Change(at=Seconds(round(row["t_ms"] * 1e-3, 6)), **change))
    return tuple(found)


def scenario_of(
    run: pd.Series, path: str | os.PathLike[str] | None = None, calibration: Calibration | None = None
) -> Scenario:
    """Build the scenario of one measured run from its configuration.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.
    calibration : Calibration, optional
        Costs of its host; those of :func:`calibration_of` by default.

    Returns
    -------
    Scenario

    Raises
    ------
    ScenarioError
        If the run has a capability that the model lacks.

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> scenario_of(runs().loc["A2__bw128_rand_r050__unser__r0"]).migration.max_bandwidth
    128 MiB/s
    """
    if not is_modelled(run):
        which = next(name for name in run["caps"] if name in NOT_MODELLED)
        raise ScenarioError(f"needs {which}, which has no model: {NOT_MODELLED[which]}", "run", str(run.name))
    calibration = calibration_of(run, path) if calibration is None else calibration
    costs = calibration.costs
    if starts_postcopy(run):
        # what is fitted ends with the word of the destination that it has loaded everything, 40 ms late as often as
        # not; a switch does not wait for that word
        costs = costs.changed(destination_load=HostCosts.model_fields["destination_load"].default)
    link = link_of(run, calibration)
    if "xbzrle" in run["caps"]:
        link = link.changed(xbzrle_page=Bytes(ENCODED_PAGE_BYTES))
        costs = costs.changed(xbzrle_page=Seconds(XBZRLE_PAGE_S))
    devices: list[Block | Vfio] = []
    if run["blk_mib"]:
        devices.append(Block(size=Bytes(int(run["blk_mib"]) * MIB), read_rate=Rate(BLOCK_READ_BYTES_PER_S)))
    if run["ndev"]:
        load_s = calibration.value("device_load", Vfio.model_fields["load_time"].default)
        read_s = calibration.value("device_read", MIB / Vfio.model_fields["read_rate"].default)
        devices.append(
            Vfio(
                count=int(run["ndev"]),
                initial_bytes=Bytes(round(run["dev_init_mib"] * MIB)),
                stop_copy_bytes=Bytes(round(run["dev_stop_mib"] * MIB)),
                dirty_rate=Rate(run["dev_rate_mib_s"] * MIB),
                dirty_max=Bytes(round(run["dev_max_mib"] * MIB)),
                read_rate=Rate(MIB / read_s),
                load_time=Seconds(
                    load_s + (0.0 if run["dev_load_ms"] != run["dev_load_ms"] else run["dev_load_ms"]) * 1e-3
                ),
            )
        )
    return Scenario(
        name=run.name,
        guest=guest_of(
            int(run["ram_mib"]) * MIB,
            run["accel"],
            written_regions(run, path),
            _zero_share(run),
            _whole(run, "dirty_ring_size", 0),
            int(parse_bytes(run["backing"])) if isinstance(run.get("backing"), str) else 0,
        ),
        devices=tuple(devices),
        link=link,
        migration=Migration(
            max_bandwidth=Rate(int(run["bw_mib_s"]) * MIB),
            downtime_limit=Seconds(run["dt_limit_ms"] * 1e-3),
            avail_switchover_bandwidth=Rate(run["avail_mib_s"] * MIB),
            switchover_ack="switchover-ack" in run["caps"],
            return_path="return-path" in run["caps"],
            auto_converge="auto-converge" in run["caps"],
            dirty_limit="dirty-limit" in run["caps"],
            vcpu_dirty_limit=_whole(run, "vcpu_dirty_limit", 1),
            x_vcpu_dirty_limit_period=Seconds(_whole(run, "dirty_limit_period_ms", 1000) * 1e-3),
            xbzrle="xbzrle" in run["caps"],
            xbzrle_cache_size=Bytes(_whole(run, "xbzrle_cache_bytes", _CACHE_BYTES)),
            multifd="multifd" in run["caps"],
            multifd_channels=int(run["multifd_channels"]) if "multifd" in run["caps"] else DEFAULT_CHANNELS,
            postcopy_ram="postcopy-ram" in run["caps"],
            postcopy_preempt="postcopy-preempt" in run["caps"],
            postcopy_at=Seconds(float(run["postcopy_sent_ms"]) * 1e-3) if starts_postcopy(run) else None,
        ),
        costs=costs,
        changes=changes_of(run, path),
        time_limit=Seconds(float(run["limit_s"])),
        **rules_of(run["build"], run.get("qemu_version"), bool(run["ndev"])),
    )
