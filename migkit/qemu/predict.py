"""Build the scenario of a measured run from its configuration.

Two measurements of the run itself are used, both known before the migration loop decides anything: how fast a guest
at full speed wrote before the migration and, where the link is not paced, how fast the first pass went.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING

from migkit.qemu.costs import (
    FAST_FIRST_PASS_BYTES,
    MIB,
    NORMAL_PAGE_WIRE_BYTES,
    PHASES,
    first_pass_steps,
    measured_costs,
)
from migkit.qemu.traces import FIRST_CAMPAIGN
from migkit.scenario.parts import Block, Guest, HostCosts, Link, Migration, Region, Vfio
from migkit.scenario.scenario import Scenario
from migkit.scenario.units import Bytes, Rate, Seconds

if TYPE_CHECKING:
    import pandas as pd

BUILDS = {"unser": ("9.0-rc0", "unserialized"), "ser": ("9.0-rc0", "serialized"), "deb72": ("7.2", "serialized")}
"""Profile and policy of each build."""
PAGE = 4096
OTHER_RAM_BYTES = 335_872
"""RAM besides the guest's main memory: firmware, display, option ROMs; 82 pages."""
ZERO_PAGES = (160, 102), (-77, 77)
"""Ranges of zero pages, (first page, pages): below 1 MiB, and at the end of RAM (counted from there)."""
BUSY_WRITES_PER_S = 1e6
"""Page writes per second to the one page that every sync finds dirty: far more than there are syncs per second."""
STATE_BYTES = {"tcg": 107_430, "kvm": 107_755}
"""Headers and non-iterable state in the byte count of 9.0-rc0; 7.2 counts them after the migration."""
BLOCK_READ_BYTES_PER_S = 8 * 2**30
"""The disk is read ahead of what is sent, so it does not limit."""
BLOCK_STATE_BYTES = 90
"""What a disk adds to the byte count besides its data and section headers."""
NO_WIRE_BYTES_PER_S = 100e9
"""Loopback under max-bandwidth: the wire is never what the thread waits for."""
RTT_S = 0.05e-3
"""Round trip on one host: the time of an acknowledgement where RAM has next to nothing to send."""
HELD_MIB_S = 256
"""Largest max-bandwidth (MiB/s) that is well below what loopback carries."""


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


def _medians(path: str | os.PathLike[str] | None) -> pd.Series:
    """Medians of the measured costs, by cost and case."""
    return _medians_in(None if path is None else os.fspath(path))


@lru_cache(maxsize=4)
def _medians_in(path: str | None) -> pd.Series:
    return measured_costs(path)["median"]


def host_costs(run: pd.Series, path: str | os.PathLike[str] | None = None) -> HostCosts:
    """Costs of the host for one run: medians over the measured runs with its accelerator and kind of guest.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`, of which the configuration is read.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    HostCosts

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> round(host_costs(runs().loc["A2__bw128_rand_r050__unser__r0"]).page * 1e6, 3)
    2.104
    """
    median = _medians(path)
    load = "max" if run["writes_max"] else "quiet"
    host = f"{run['accel']} {load}"
    setups = [name for name in median["setup"].index if name.startswith(host)]
    wanted = f"{host}, {'devices' if run['ndev'] else 'no device'}"
    return HostCosts(
        setup=Seconds(median["setup", wanted if wanted in setups else setups[0]] * 1e-3),
        iteration=Seconds(median["iteration", f"after longer handlers, {load}"] * 1e-6),
        wakeup=Seconds((median["window, mean of each run", "all"] - 100) * 1e-3),
        bitmap_sync_per_gib=Seconds(median["sync per GiB", host] * 1e-6),
        page=Seconds(median["page", f"tcp {load}, later passes"] * 1e-6),
        vm_stop=Seconds(median["VM stop", host] * 1e-3),
        device_state=Seconds(median["non-iterable state", host] * 1e-3),
        destination_load=Seconds(median["end of downtime", f"return path, loopback {load}"] * 1e-3),
    )


@lru_cache(maxsize=4)
def _late_speed(fresh_after: int, path: str | None) -> float:
    """Bytes over time on the paced link in the first campaign, from so many bytes of the first pass on."""
    steps = first_pass_steps(path).query(f"link == 'paced' and campaign == '{FIRST_CAMPAIGN}'")
    late = steps[steps["begin_pages"] * PAGE >= fresh_after]
    return float(late["pages"].sum() * NORMAL_PAGE_WIRE_BYTES / (late["us"].sum() * 1e-6))


def link_of(run: pd.Series, path: str | os.PathLike[str] | None = None) -> Link:
    """Link of one run.

    - A paced link has the imposed pace.
    - Loopback under max-bandwidth (:func:`is_held`) has no wire to wait for: the thread copies, and its time is in the
      cost of a page.
    - Loopback without such a limit carries what the thread copies in later passes.

    In the first pass the destination faults in the memory that it writes. After a number of bytes that is the same for
    all runs, a paced link is then slower than its pace, and a page over held loopback takes longer. Loopback without
    a limit has the speed of the run's own first pass.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    Link

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> link_of(runs().loc["A2__bw128_rand_r050__unser__r0"]).bandwidth
    100 GB/s
    """
    median = _medians(path)
    load = "max" if run["writes_max"] else "quiet"
    fresh_after = 0
    if run["link_mib_s"]:
        bandwidth = run["link_imposed_bytes_per_s"]
        fresh_after = int(median["first pass slows down", "paced at 200 MiB/s"] * MIB)
        fresh = _late_speed(fresh_after, None if path is None else os.fspath(path))
    elif is_held(run):
        bandwidth = NO_WIRE_BYTES_PER_S
        fresh = NORMAL_PAGE_WIRE_BYTES / (median["page", f"tcp {load}, {PHASES[1]}"] * 1e-6)
        fresh_after = FAST_FIRST_PASS_BYTES
    else:
        bandwidth = NORMAL_PAGE_WIRE_BYTES / (median["page", f"tcp {load}, {PHASES[2]}"] * 1e-6)
        own = run["link_first_pass_bytes_per_s"]
        fresh = min(own, bandwidth) if own == own else bandwidth  # three runs were not traced
    return Link(
        bandwidth=Rate(bandwidth),
        rtt=Seconds(RTT_S),
        send_buffer=Bytes(int(median["send buffer", "paced, first window against the others"])),
        fresh_bandwidth=Rate(fresh),
        fresh_after=Bytes(fresh_after),
    )


def scenario_of(run: pd.Series, path: str | os.PathLike[str] | None = None) -> Scenario:
    """Build the scenario of one measured run from its configuration.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.runs`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    Scenario

    Examples
    --------
    >>> from migkit.qemu import runs
    >>> scenario_of(runs().loc["A2__bw128_rand_r050__unser__r0"]).migration.max_bandwidth
    128 MiB/s
    """
    qemu, policy = BUILDS[run["build"]]
    ram = int(run["ram_mib"]) * MIB + OTHER_RAM_BYTES
    writes = run["pre_writes_s"] if run["writes_max"] else run["target_writes_s"]
    start = int(run["region_start_bytes"])
    busy = Region(size=Bytes(PAGE), start=Bytes(start - PAGE), write_rate=Rate(BUSY_WRITES_PER_S * PAGE))
    working_set = Region(
        size=Bytes(int(run["ws_pages"]) * PAGE),
        start=Bytes(start),
        write_rate=Rate(float(writes) * PAGE),
        pattern={"rand": "uniform", "seq": "sequential"}[run["mode"]],
        phase=0.0,  # the runs do not say where the writer stood
    )
    devices: list[Block | Vfio] = []
    if run["blk_mib"]:
        devices.append(Block(size=Bytes(int(run["blk_mib"]) * MIB), read_rate=Rate(BLOCK_READ_BYTES_PER_S)))
    if run["ndev"]:
        load = "max" if run["writes_max"] else "quiet"
        devices.append(
            Vfio(
                count=int(run["ndev"]),
                initial_bytes=Bytes(round(run["dev_init_mib"] * MIB)),
                stop_copy_bytes=Bytes(round(run["dev_stop_mib"] * MIB)),
                dirty_rate=Rate(run["dev_rate_mib_s"] * MIB),
                dirty_max=Bytes(round(run["dev_max_mib"] * MIB)),
                read_rate=Rate(MIB / (_medians(path)["device read", f"loopback {load}"] * 1e-6)),
                load_time=Seconds(_medians(path)["ack, from that call on", "loopback, rate-limited"] * 1e-3),
            )
        )
    zeros = [
        Region(size=Bytes(pages * PAGE), start=Bytes(first % (ram // PAGE) * PAGE), zero_share=1.0)
        for first, pages in ZERO_PAGES
    ]
    return Scenario(
        name=run.name,
        guest=Guest(ram=Bytes(ram), accel=run["accel"], regions=(busy, working_set, *zeros)),
        devices=tuple(devices),
        link=link_of(run, path),
        migration=Migration(
            max_bandwidth=Rate(int(run["bw_mib_s"]) * MIB),
            downtime_limit=Seconds(run["dt_limit_ms"] * 1e-3),
            switchover_ack="switchover-ack" in run["caps"],
            return_path="return-path" in run["caps"],
            auto_converge="auto-converge" in run["caps"],
        ),
        costs=host_costs(run, path),
        qemu=qemu,
        policy=policy,
        time_limit=Seconds(float(run["limit_s"])),
    )
