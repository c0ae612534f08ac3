"""The parts of a scenario: guest, devices, link, migration parameters, host costs."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, Field

from migkit.scenario.errors import ScenarioError
from migkit.scenario.fields import SHORT_LIST, Flag, Part, Rule, Share, Text, number, quantity, whole_number
from migkit.scenario.ranges import in_ram, overlap, overlap_error, whole_pages
from migkit.scenario.toml import read_toml
from migkit.scenario.units import Bytes, Rate, Seconds, format_bytes, parse_bytes, parse_time
from migkit.scenario.versions import MAX_DOWNTIME_LIMIT_S
from migkit.scenario.views import each

# Upper bounds keep every product the kernel forms inside 64 bits; they are far above any real machine.
Size = Annotated[Bytes, quantity("0 B", "1024 TiB")]
SizeAboveZero = Annotated[Bytes, quantity("1 B", "1024 TiB")]
Speed = Annotated[Rate, quantity("0 B/s", "1 TB/s")]
SpeedAboveZero = Annotated[Rate, quantity("1 kB/s", "1 TB/s")]
Limit = Annotated[Rate, quantity("1 kB/s", "1000 TB/s", or_zero=True)]
Cost = Annotated[Seconds, quantity("0 s", "1 h")]
PageCost = Annotated[Seconds, quantity("0 s", "1 ms")]
Percent = Annotated[int, whole_number(1, 99)]
Step = tuple[Annotated[Seconds, quantity("1 ms", "168 h")], Speed]
Point = tuple[Annotated[Seconds, quantity("0 s", "168 h")], Speed]
MOST_TRACKED_PAGES = 4096
"""Pages of a tracked unit: 16 MiB of pages of 4 KiB."""
LEAST_RING = 1024
"""Entries of a dirty ring (``qemu-options.hx``: dirty-ring-size)."""


def _power_of_two(value: Bytes) -> Bytes:
    if value & (value - 1):
        raise ScenarioError("is not a power of two, such as 4 KiB or 64 KiB", value=str(value))
    return value


# No target of QEMU has a larger page than 64 KiB, which is that of Hexagon's user mode.
TargetPage = Annotated[
    Bytes,
    quantity("512 B", "64 KiB", above="no target of QEMU has a larger page; huge pages behind RAM are guest.backing, "
             "and what is tracked as one is guest.tracking"),
    AfterValidator(_power_of_two),
]  # fmt: skip
"""``TARGET_PAGE_SIZE``."""


def _ring(value: int) -> int:
    if value and (value < LEAST_RING or value & (value - 1)):
        raise ScenarioError(f"is not 0 or a power of two from {LEAST_RING} to 65536", value=value)
    return value


Ring = Annotated[int, whole_number(0, 65536), AfterValidator(_ring)]


class Region(Part):
    """A range of RAM that the guest writes to; RAM outside all regions is never written.

    Parameters
    ----------
    size : bytes
        Whole pages, above 0.
    start : bytes, default 0 B
        Where the region begins in RAM; whole pages. Regions do not overlap.
    write_rate : bytes/s, default 0 B/s
        Page writes per second times the page size; up to 1 TB/s. A write dirties one page; several writes to one page
        between two syncs dirty it once. With a larger `Guest.tracking` it dirties that much: of a dirty rate that was
        measured in such units give ``page_size / tracking`` for uniform writes.
    rates : list of (duration, bytes/s), default none
        Write rates that follow one another, instead of `write_rate`: each for its duration of the writer's time, 1 ms
        to 168 h, and the last one from then on; up to 1024. The writer's time begins with the migration and is slowed
        by auto-converge as the writer is.
    periodic : bool, default False
        Whether `rates`, two or more, begin again when the last one has passed.
    curve : list of (time, bytes/s), default none
        A measured rate instead: each value holds from its time, which grows from 0 s, to the next one; up to 1024.
    pattern : {"uniform", "sequential"}, default "uniform"
        Independent writes to random pages, or one page after the other, round and round.
    phase : float, optional
        Where a sequential writer stands when the migration begins, as a share of the region, 0 to 1. By default it is
        drawn, anew in each replicate, with either engine. Refused for uniform writes, which stand nowhere.
    vcpu_share : float, default 1
        Share of its vCPU that the writer needs at `write_rate`, 0.0001 to 1. Auto-converge takes the vCPU's idle time
        first: a writer that is paced by its work slows down when the throttle leaves less than this, one that writes
        as fast as it can (1) slows down at once.
    zero_share : float, default 0
        Share of the region's pages that hold only zeroes, 0 to 1
        (``migration/ram.c:save_zero_page``: 9 bytes on the wire).

    Examples
    --------
    >>> Region(size="2 GiB", write_rate="400 MB/s").size
    2 GiB
    >>> backup = Region(size="2 GiB", rates=[("10 min", "5 MB/s"), ("20 s", "1 GB/s")], periodic=True)
    >>> backup.highest_rate
    1 GB/s
    """

    size: SizeAboveZero
    start: Size = Bytes(0)
    write_rate: Speed = Rate(0)
    rates: Annotated[tuple[Step, ...], SHORT_LIST] = ()
    periodic: Flag = False
    curve: Annotated[tuple[Point, ...], SHORT_LIST] = ()
    pattern: Literal["uniform", "sequential"] = "uniform"
    phase: Share | None = None
    vcpu_share: Annotated[float, number(1e-4, 1)] = 1.0
    zero_share: Share = 0.0

    @property
    def highest_rate(self) -> Rate:
        """The highest of its rates, bytes/s."""
        return max((rate for _, rate in self.rates + self.curve), default=self.write_rate)

    def _rules(self: Any) -> Iterator[Rule]:
        given = [name for name in ("rates", "curve") if getattr(self, name)]
        if len(given) > 1:
            yield Rule(lambda: True, lambda: ScenarioError("cannot be given beside rates: give one of them", "curve"))
        if given:
            yield Rule(
                lambda: self.write_rate > 0,
                lambda: ScenarioError(f"cannot be given beside {given[0]}: give one of them", "write_rate",
                                      str(self.write_rate)),
            )  # fmt: skip
        if len(self.rates) < 2:
            yield Rule(
                lambda: self.periodic,
                lambda: ScenarioError("needs rates, two or more: they begin again", "periodic", True),
            )
        # in a sweep an axis may have no effect at some values of another one, and is refused where it has none at all
        yield Rule(
            lambda: np.all(
                each(lambda phase: phase is not None, self.phase) & each(lambda how: how == "uniform", self.pattern)
            ),
            lambda: ScenarioError('has no effect on uniform writes: give pattern = "sequential", or no phase', "phase",
                                  self.phase),
        )  # fmt: skip
        times = [time for time, _ in self.curve]
        wrong = times[0] != 0 or any(later <= time for time, later in pairwise(times)) if times else False
        yield Rule(
            lambda: wrong,
            lambda: ScenarioError("has times that do not grow from 0 s: each value holds from its time on", "curve"),
        )


class Guest(Part):
    """The guest's memory and who writes to it.

    Parameters
    ----------
    ram : bytes
        Size of RAM, whole pages, up to 1024 TiB.
    page_size : bytes, default 4 KiB
        The target's page (``TARGET_PAGE_SIZE``), a power of two from 512 B to 64 KiB: what is sent as one, and one bit
        of a dirty bitmap. It is 4 KiB on x86, Arm, POWER and s390 whatever backs the guest and whatever pages the host
        has: RAM in huge pages is sent page by page too.
    backing : bytes, default 0 B
        Page of what backs RAM (``-object memory-backend-memfd,hugetlb=on,hugetlbsize=``), such as 2 MiB or 1 GiB; 0 =
        `page_size`, else a power of two from `page_size` to 1 GiB, of which `ram` is a multiple. Above a page a call of
        RAM sends host page after host page, and the rate limit acts, and may sleep, within it
        (``migration/ram.c:ram_save_host_page``); in post-copy a fault brings a whole one. Transparent huge pages are
        none: QEMU sees the page size of the file or the memory that it mapped.
    tracking : bytes, default 0 B
        Size at which writes are tracked, where that is larger than a page: a write then dirties so much at once, as
        with 16 MiB pages on POWER, a host with pages of 64 KiB, or an IOMMU that tracks in 2 MiB. 0 = `page_size`, else
        a power of two from `page_size` to 4096 pages. KVM on x86 splits huge pages and tracks 4 KiB.
    accel : {"kvm", "tcg"}, default "kvm"
        Who keeps the dirty log. ``kvm``: re-protected lazily, chunk by chunk, just before its pages are sent
        (``migration/ram.c:migration_clear_memory_region_dirty_bitmap``); ``tcg``: at the sync.
    zero_share : float, default 0
        Share of zero pages outside the regions, 0 to 1; of what is in use there if `used` is given.
    used : bytes, default 0 B
        RAM in use, the regions included; all else are zero pages. 0 = all of it.
    used_at : {"spread", "start", "end"}, default "spread"
        Where that lies outside the regions: anywhere, or together at the first or the last addresses. It decides when
        in the first pass the zero pages come, and needs `used`.
    dirty_ring_size : int, default 0
        Entries of the dirty ring that KVM keeps for each vCPU (``-accel kvm,dirty-ring-size=``), a power of two from
        1024 to 65536; 0 = a dirty log instead. With a ring nothing is re-protected chunk by chunk. A region is written
        by one vCPU.
    regions : list of Region, default none
        What is written to, up to 1024 entries.

    Examples
    --------
    >>> guest = Guest(ram="16 GiB", regions=[Region(size="1 GiB", write_rate="200 MB/s")])
    >>> guest.ram // guest.page_size
    4194304
    """

    ram: SizeAboveZero
    page_size: TargetPage = Bytes(4096)
    backing: Annotated[Bytes, quantity("512 B", "1 GiB", or_zero=True), AfterValidator(_power_of_two)] = Bytes(0)
    tracking: Annotated[Bytes, quantity("512 B", "1 GiB", or_zero=True), AfterValidator(_power_of_two)] = Bytes(0)
    accel: Literal["kvm", "tcg"] = "kvm"
    zero_share: Share = 0.0
    used: Size = Bytes(0)
    used_at: Literal["spread", "start", "end"] = "spread"
    dirty_ring_size: Ring = 0
    regions: Annotated[tuple[Region, ...], SHORT_LIST] = ()

    def _rules(self: Any) -> Iterator[Rule]:
        yield whole_pages(self, lambda: self.ram, "ram")
        yield whole_pages(self, lambda: self.used, "used")
        yield Rule(
            lambda: (self.backing > 0) & (self.backing < self.page_size),
            lambda: ScenarioError(
                f"is less than a page: it must be 0, or from {self.page_size}", "backing", str(self.backing)
            ),
        )
        yield Rule(
            lambda: self.ram % np.maximum(self.backing, 1) != 0,
            lambda: ScenarioError(f"is not a whole number of huge pages of {self.backing}: give a multiple, or another "
                                  "guest.backing", "ram", str(self.ram)),
            monotone=False,
        )  # fmt: skip
        yield Rule(
            lambda: (self.tracking > 0) & (self.tracking < self.page_size),
            lambda: ScenarioError(f"is less than a page: it must be 0, or from {self.page_size}", "tracking",
                                  str(self.tracking)),
        )  # fmt: skip
        yield Rule(
            lambda: self.tracking > MOST_TRACKED_PAGES * self.page_size,
            lambda: ScenarioError(f"has more than {MOST_TRACKED_PAGES} pages of {self.page_size}: the most that are "
                                  "tracked as one", "tracking", str(self.tracking)),
        )  # fmt: skip
        yield Rule(
            lambda: (self.dirty_ring_size > 0) & each(lambda accel: accel != "kvm", self.accel),
            lambda: ScenarioError('needs accel = "kvm": no other accelerator has a dirty ring', "dirty_ring_size",
                                  self.dirty_ring_size),
        )  # fmt: skip
        yield Rule(
            lambda: (self.dirty_ring_size > 0) & (self.tracking > self.page_size),
            lambda: ScenarioError("cannot be given beside tracking above a page: an entry of the ring is a page",
                                  "dirty_ring_size", self.dirty_ring_size),
        )  # fmt: skip
        yield Rule(
            lambda: (self.used > 0) & (self.used < sum(region.size for region in self.regions)),
            lambda: ScenarioError("is less than the regions, which are in use: they have "
                                  f"{format_bytes(sum(each.size for each in self.regions))}", "used", str(self.used)),
        )  # fmt: skip
        yield Rule(
            lambda: np.all(each(lambda place: place != "spread", self.used_at) & (self.used == 0)),
            lambda: ScenarioError("has no effect without used: give how much of RAM is in use", "used_at",
                                  self.used_at),
        )  # fmt: skip
        yield Rule(
            lambda: self.used > self.ram,
            lambda: ScenarioError(f"is more than the {self.ram} of RAM", "used", str(self.used)),
        )
        for i, region in enumerate(self.regions):
            yield from in_ram(self, region, f"regions.{i}")
        yield Rule(lambda: overlap(self.regions), lambda: overlap_error(self.regions), monotone=False)


class Ram(Part):
    """The place of RAM in the device list; needed only to put it elsewhere than QEMU does.

    Parameters
    ----------
    kind : "ram"
        What it is, in TOML.

    Examples
    --------
    >>> Ram()
    Ram(kind='ram')
    """

    kind: Literal["ram"] = "ram"


class Vfio(Part):
    """One VFIO device, or several equal ones, that can be read while the guest runs.

    Parameters
    ----------
    kind : "vfio"
        What it is, in TOML.
    name : str, default ""
        Label in results; numbered when `count` is not 1. Without one, devices are ``vfio0``, ``vfio1``, ...
    count : int, default 1
        How many of them, 0 to 64, one behind the other in the list.
    initial_bytes : bytes
        Initial pre-copy data (``initial_bytes`` of the kernel's VFIO_MIG_GET_PRECOPY_INFO); until it is sent and
        loaded, switchover-ack holds the migration back.
    dirty_rate : bytes/s, default 0 B/s
        How fast the device's state is rewritten once the migration runs, up to 1 TB/s.
    dirty_max : bytes, default 0 B
        The most that can be dirty at once; needed when `dirty_rate` is above 0.
    stop_copy_bytes : bytes, default 0 B
        State that can only be read once the device has stopped.
    chunk : bytes, default 1 MiB
        The most one read returns (``hw/vfio/migration.c:vfio_save_iterate``: one read a call, of at most 1 MiB).
    read_rate : bytes/s, default 3 GB/s
        How fast the device hands out its data, from 1 kB/s to 1 TB/s. The default is near the 0.3 to 0.5 ms per MiB
        measured with the synthetic device of ``data/qemu-traces``.
    load_time : seconds, default 0.3 ms
        What the destination needs to load the initial data before it can acknowledge; 0 to 1 h.

    Examples
    --------
    >>> Vfio(count=2, initial_bytes="256 MiB").chunk
    1 MiB
    """

    kind: Literal["vfio"] = "vfio"
    name: Text = ""
    count: Annotated[int, whole_number(0, 64)] = 1
    initial_bytes: Size
    dirty_rate: Speed = Rate(0)
    dirty_max: Size = Bytes(0)
    stop_copy_bytes: Size = Bytes(0)
    chunk: SizeAboveZero = Bytes(2**20)
    read_rate: SpeedAboveZero = Rate(3e9)
    load_time: Cost = Seconds(0.3e-3)

    def _rules(self: Any) -> Iterator[Rule]:
        yield Rule(
            lambda: (self.dirty_rate > 0) & (self.dirty_max == 0),
            lambda: ScenarioError(f"must be above 0 when dirty_rate is ({self.dirty_rate}): it is the most that can be "
                                  "dirty at once", "dirty_max", str(self.dirty_max)),
        )  # fmt: skip


class Block(Part):
    """A disk sent by block migration, in profiles up to 9.0 (``migration/block.c``, removed in 9.1).

    QEMU lists it before RAM, and RAM that is not placed in the list stands behind the disks it begins with.

    Parameters
    ----------
    kind : "block"
        What it is, in TOML.
    name : str, default ""
        Label in results; without one, ``disk``, or ``disk0``, ``disk1``, ... if there are several.
    size : bytes
        Size of the disk, above 0.
    read_rate : bytes/s, default 2 GB/s
        How fast the disk is read, from 1 kB/s to 1 TB/s; the default is that of `Vfio`, not measured for disks.

    Examples
    --------
    >>> Block(size="256 MiB").size // 2**20
    256
    """

    kind: Literal["block"] = "block"
    name: Text = ""
    size: SizeAboveZero
    read_rate: SpeedAboveZero = Rate(2e9)


Device = Annotated[Ram | Vfio | Block, Field(discriminator="kind")]


class Link(Part):
    """The network between source and destination.

    Parameters
    ----------
    bandwidth : bytes/s
        What the wire carries, from 1 kB/s to 1 TB/s.
    rtt : seconds, default 0.1 ms
        Round trip, 0 to 1 h; an acknowledgement takes one.
    stream_bandwidth : bytes/s, default 0 B/s
        Most that one stream carries, 0 = no ceiling, else from 1 kB/s to 1 TB/s. Under TLS the thread that writes to a
        stream also encrypts it (``io/channel-tls.c``), so that a stream has a ceiling on whatever link. With
        `Migration.multifd` each channel has a stream of its own.
    send_buffer : bytes, default 0 B
        What the socket of a stream takes before the sender waits for the wire.
    compression_ratio : float, default 0
        Bytes of a page over those that `Migration.multifd_compression` or `compress` makes of it, in the mean over the
        normal pages of this guest; 1 to 1000, 0 = not known, which is refused with compression.
    xbzrle_page : bytes, default 0 B
        What `Migration.xbzrle` makes of a page of this guest that is in its cache, in the mean: 2 to 4 bytes for each
        run of changed bytes, and these; a page that was not changed counts as none, one that would be longer as whole.
        0 = not known, which is refused with xbzrle.
    fresh_bandwidth : bytes/s, default 0 B/s
        What the link carries of RAM pages that the destination writes for the first time, 0 = as `HostCosts.fresh_page`
        says, else from 1 kB/s to 1 TB/s; above `bandwidth` it changes nothing. In the first pass the destination faults
        in each page that it is sent (``migration/ram.c:ram_load_precopy`` copies into memory that was never touched)
        and may take less than the wire brings; later passes and the data of devices go at `bandwidth`.
    fresh_after : bytes, default 0 B
        RAM that is sent at `bandwidth` before that begins, 0 to 1024 TiB, rounded down to whole pages: a host may have
        faster memory to give out at first, such as free huge pages. Needs `fresh_bandwidth`.

    Examples
    --------
    >>> Link(bandwidth="25 Gbit/s", rtt="50 us").bandwidth / 1e9
    3.125
    >>> Link(bandwidth="25 Gbit/s", fresh_bandwidth="1 GB/s", fresh_after="4 GiB").fresh_bandwidth
    1 GB/s
    """

    bandwidth: SpeedAboveZero
    rtt: Cost = Seconds(1e-4)
    stream_bandwidth: Annotated[Rate, quantity("1 kB/s", "1 TB/s", or_zero=True)] = Rate(0)
    send_buffer: Size = Bytes(0)
    compression_ratio: Annotated[float, number(0, 1000)] = 0.0
    xbzrle_page: Size = Bytes(0)
    fresh_bandwidth: Annotated[Rate, quantity("1 kB/s", "1 TB/s", or_zero=True)] = Rate(0)
    fresh_after: Size = Bytes(0)

    def _rules(self: Any) -> Iterator[Rule]:
        yield Rule(
            lambda: (self.compression_ratio > 0) & (self.compression_ratio < 1),
            lambda: ScenarioError("is below 1: it must be 0, or from 1 to 1000", "compression_ratio",
                                  self.compression_ratio),
        )  # fmt: skip
        yield Rule(
            lambda: (self.fresh_after > 0) & (self.fresh_bandwidth == 0),
            lambda: ScenarioError("needs fresh_bandwidth above 0: the bandwidth from there on", "fresh_after",
                                  str(self.fresh_after)),
        )  # fmt: skip


class Migration(Part):
    """Migration parameters and capabilities, by QMP name with underscores and with QEMU's defaults.

    All from ``migration/options.c`` and ``qapi/migration.json``.

    Parameters
    ----------
    max_bandwidth : bytes/s, default 128 MiB/s
        Limit of each 100 ms window; 0 = no limit, else 1 kB/s to 1000 TB/s.
    downtime_limit : seconds, default 300 ms
        With the measured bandwidth it gives the threshold; 0 to 2000 s.
    avail_switchover_bandwidth : bytes/s, default 0
        Bandwidth to assume at switchover; 0 = the measured one, else 1 kB/s to 1000 TB/s. It limits nothing. Since 8.2.
    switchover_ack : bool, default False
        Wait until the destination has loaded the initial data of all VFIO devices. Since 8.1; needs `return_path`.
    return_path : bool, default False
        A channel from destination to source; the migration ends when the destination says so.
    auto_converge : bool, default False
        Slow the vCPUs when RAM is dirtied faster than it is sent.
    dirty_limit : bool, default False
        Slow each vCPU down to `vcpu_dirty_limit` when RAM is dirtied faster than it is sent, by a sleep when its dirty
        ring is full. Since 8.1; not beside `auto_converge`; needs `Guest.dirty_ring_size`.
    vcpu_dirty_limit : int, MB/s, default 1
        What a vCPU may dirty, in QEMU's MB/s of 2**20 bytes/s; 1 to 1000000. Within 25 MB/s of it nothing is changed.
    x_vcpu_dirty_limit_period : seconds, default 1 s
        How often the dirty rates are measured and the sleeps adjusted; 1 ms to 1 s, whole milliseconds.
    xbzrle : bool, default False
        From the second pass on a page that was sent before, and is still in the cache, travels as its changes; needs
        `Link.xbzrle_page` and `HostCosts.xbzrle_page`. Not beside `multifd`.
    xbzrle_cache_size : bytes, default 64 MiB
        Of the cache; QEMU takes the power of two below. From a page to 1024 TiB.
    compress : bool, default False
        Threads compress pages of the main stream with zlib. Up to 9.0; not beside `multifd`, `postcopy_ram`, `xbzrle`;
        needs `Link.compression_ratio` and `HostCosts.compress_page`, which have the level in them.
    compress_threads : int, default 8
        How many with `compress`, 1 to 255.
    multifd : bool, default False
        RAM travels on channels of their own, each with a thread and a stream; devices stay on the main stream.
    multifd_channels : int, default 2
        How many with `multifd`, 1 to 255.
    multifd_compression : {"none", "zlib", "zstd", "qpl", "uadk", "qatzip"}, default "none"
        What the channels compress pages with; needs `multifd`, `Link.compression_ratio` and `HostCosts.compress_page`,
        which have the level in them. qpl and uadk since 9.1, qatzip since 9.2.
    zero_page_detection : {"none", "legacy", "multifd"}, optional
        Who looks for zero pages: nobody, so that they travel as any other page; the migration thread, which writes them
        to the main stream; the channels, which without `multifd` is the migration thread. Since 9.0; by default what
        the version does: the migration thread up to 9.0-rc0, the channels later.
    postcopy_ram : bool, default False
        RAM may follow after the switch to post-copy. Not beside VFIO devices, which refuse it, and not beside disks. A
        return path is open with it. Beside `multifd` since 10.1. Merely on, it makes 9.0-rc0 and 11.1 sync in every
        iteration.
    postcopy_at : seconds, optional
        When ``migrate-start-postcopy`` is given, 0 to 168 h since the ``migrate`` command; never by default. Needs
        `postcopy_ram`.
    postcopy_preempt : bool, default False
        Pages that the guest asks for after the switch travel on a channel of their own, past what the stream holds.
        Since 8.0 (7.2 has it in another way, which was not read); needs `postcopy_ram`.
    max_postcopy_bandwidth : bytes/s, default 0
        Limit of each 100 ms window after the switch; 0 = no limit, else 1 kB/s to 1000 TB/s. Pages that the guest asks
        for pass it.
    throttle_trigger_threshold : int, percent, default 50
        Dirtied bytes, in percent of those transferred, from which a period counts as high; 1 to 100.
    cpu_throttle_initial : int, percent, default 20
        First throttle, 1 to 99.
    cpu_throttle_increment : int, percent, default 10
        Added each time, 1 to 99.
    max_cpu_throttle : int, percent, default 99
        Largest throttle, from `cpu_throttle_initial` to 99.
    cpu_throttle_tailslow : bool, default False
        Add less than `cpu_throttle_increment` where that is enough to bring the writes down to the trigger.
    x_clear_bitmap_shift : int, default 18
        One chunk of the dirty log, re-protected at once, has 2 to this power pages; 6 to 31.

    Examples
    --------
    >>> Migration(max_bandwidth="1 GiB/s").downtime_limit
    300 ms
    """

    max_bandwidth: Limit = Rate(128 * 2**20)
    downtime_limit: Annotated[Seconds, quantity("0 s", f"{MAX_DOWNTIME_LIMIT_S} s")] = Seconds(0.3)
    avail_switchover_bandwidth: Limit = Rate(0)
    switchover_ack: Flag = False
    return_path: Flag = False
    auto_converge: Flag = False
    dirty_limit: Flag = False
    vcpu_dirty_limit: Annotated[int, whole_number(1, 1_000_000)] = 1
    x_vcpu_dirty_limit_period: Annotated[Seconds, quantity("1 ms", "1 s")] = Seconds(1.0)
    xbzrle: Flag = False
    xbzrle_cache_size: SizeAboveZero = Bytes(64 * 2**20)
    compress: Flag = False
    compress_threads: Annotated[int, whole_number(1, 255)] = 8
    multifd: Flag = False
    multifd_channels: Annotated[int, whole_number(1, 255)] = 2
    multifd_compression: Literal["none", "zlib", "zstd", "qpl", "uadk", "qatzip"] = "none"
    zero_page_detection: Literal["none", "legacy", "multifd"] | None = None
    postcopy_ram: Flag = False
    postcopy_at: Annotated[Seconds, quantity("0 s", "168 h")] | None = None
    postcopy_preempt: Flag = False
    max_postcopy_bandwidth: Limit = Rate(0)
    throttle_trigger_threshold: Annotated[int, whole_number(1, 100)] = 50
    cpu_throttle_initial: Percent = 20
    cpu_throttle_increment: Percent = 10
    max_cpu_throttle: Percent = 99
    cpu_throttle_tailslow: Flag = False
    x_clear_bitmap_shift: Annotated[int, whole_number(6, 31)] = 18

    def _rules(self: Any) -> Iterator[Rule]:
        yield Rule(
            lambda: each(lambda at, may: at is not None and not may, self.postcopy_at, self.postcopy_ram),
            lambda: ScenarioError("needs postcopy_ram = True: post-copy starts only with the capability", "postcopy_at",
                                  str(self.postcopy_at)),
        )  # fmt: skip
        yield Rule(
            lambda: np.logical_and(self.postcopy_preempt, np.logical_not(self.postcopy_ram)),
            lambda: ScenarioError("needs postcopy_ram = True: QEMU refuses it without", "postcopy_preempt", True),
        )
        yield Rule(
            lambda: np.logical_and(self.switchover_ack, np.logical_not(self.return_path)),
            lambda: ScenarioError("needs return_path = True: the acknowledgement travels on it", "switchover_ack",
                                  True),
        )  # fmt: skip
        yield Rule(
            lambda: each(lambda method, on: method != "none" and not on, self.multifd_compression, self.multifd),
            lambda: ScenarioError("needs multifd = True: its channels compress", "multifd_compression",
                                  self.multifd_compression),
            monotone=False,
        )  # fmt: skip
        yield Rule(
            lambda: np.logical_and(self.xbzrle, self.multifd),
            lambda: ScenarioError("cannot be on together with multifd: QEMU refuses it, use one of the two", "xbzrle",
                                  True),
        )  # fmt: skip
        yield Rule(
            lambda: np.logical_and(self.dirty_limit, self.auto_converge),
            lambda: ScenarioError("cannot be on together with auto_converge: QEMU refuses it, use one of the two",
                                  "dirty_limit", True),
        )  # fmt: skip
        yield Rule(
            lambda: np.abs(self.x_vcpu_dirty_limit_period * 1e3 - np.rint(self.x_vcpu_dirty_limit_period * 1e3)) > 1e-6,
            lambda: ScenarioError("is not a whole number of milliseconds, as QEMU takes it",
                                  "x_vcpu_dirty_limit_period", str(self.x_vcpu_dirty_limit_period)),
            monotone=False,
        )  # fmt: skip
        yield Rule(
            lambda: self.max_cpu_throttle < self.cpu_throttle_initial,
            lambda: ScenarioError(f"is below cpu_throttle_initial: it must be from {self.cpu_throttle_initial} to 99",
                                  "max_cpu_throttle", self.max_cpu_throttle),
        )  # fmt: skip


_ASSUMED = tomllib.loads(files("migkit.scenario").joinpath("hosts", "default.toml").read_text(encoding="utf-8"))


def _assumed(name: str) -> Seconds:
    return Seconds(parse_time(_ASSUMED[name]))


class HostCosts(Part):
    """What the hosts need time for, apart from the link.

    All are times from 0 to 1 h, if not said otherwise. The defaults are in ``migkit/scenario/hosts/default.toml``; they
    come from measured migrations of real QEMU on one machine with two cores (``data/qemu-traces``): another machine
    has others, which ``migkit calibrate`` computes.

    Parameters
    ----------
    name : str, default ""
        What results call these costs; see :attr:`label`.
    setup : seconds, default 2 ms
        From the ``migrate`` command to the first iteration (``migration/savevm.c:qemu_savevm_state_setup``).
    iteration : seconds, default 50 us
        One iteration of the migration thread, apart from what the devices do; from 1 us.
    wakeup : seconds, default 66 us
        How late the sleep of the rate limit ends: windows of 100.066 ms in the mean.
    bitmap_sync : seconds, default 36 us
        The part of a bitmap sync that does not grow with RAM; up to 1 min.
    bitmap_sync_per_gib : seconds, default 0.047 ms
        The part that does, per GiB of RAM; up to 1 s. As published: 12 ms for 256 GiB (QEMU commit e8a6d158db). With
        it and `bitmap_sync` 512 MiB take what was measured, 60 us.
    page : seconds, default 2.1 us
        CPU time of the migration thread for a normal page of 4 KiB; up to 1 ms.
    zero_page : seconds, default 0.2 us
        The same for a page that turns out to be zero; up to 1 ms.
    multifd_page : seconds, default 1 us
        CPU time of the migration thread for a page of any size that it hands over to a channel of multifd, of which it
        reads no byte; up to 1 ms. From the measured runs: no more than what a page took in the fastest window, 1.02 us.
        Not fitted by `migkit calibrate`.
    channel_page : seconds, default 3.8 us
        CPU time of the thread of a channel for a normal page of 4 KiB, up to 1 ms; a zero page, where channels look for
        them, costs it `zero_page`. From the measured runs with two channels, on two cores that guest, source and
        destination shared; there four channels carried a tenth more than two. Not fitted by `migkit calibrate`.
    compress_page : seconds, default 0 s
        CPU time of a thread to compress a normal page of 4 KiB, up to 1 ms; needed with `Migration.compress` and
        `Migration.multifd_compression`. No measured run has it. Not fitted by `migkit calibrate`.
    xbzrle_page : seconds, default 0 s
        CPU time of the migration thread for a page of 4 KiB that XBZRLE encodes, instead of `page`; up to 1 ms, needed
        with `Migration.xbzrle`. Not fitted by `migkit calibrate`.
    copy_share : float, default 1
        Share of `page`, `zero_page`, `channel_page` and `compress_page` that goes with the bytes of a page and not with
        the page, 0 to 1: a page of another size costs ``page (1 - copy_share + copy_share page_size / 4 KiB)``. The
        measured runs have pages of 4 KiB only, which say nothing about it: 1 is assumed, so that a larger page never
        makes the thread faster.
    fresh_page : seconds, default 0 s
        What 4 KiB need on their way, beyond the bytes on the wire, when the destination writes them for the first time;
        up to 1 ms. `Link.fresh_bandwidth` stands above it.
    fresh_after : bytes, default 0 B
        RAM that is sent before that begins, 0 to 1024 TiB, rounded down to whole pages.
    throttle_late : seconds, default 0 s
        How late a pause of a vCPU that auto-converge slows ends, taken from the 10 ms that it then has; up to 9 ms.
        It does not vary: the measured runs do not tell by how much.
    throttle_loss : float, default 0
        What such a vCPU then loses besides, 0 to 1: with a pause of ``n`` times 10 ms before them, 10 ms do the work of
        ``10 ms / (1 + n throttle_loss)``, since caches and clock are those of others.
    jitter : float, default 0
        Share of RAM's slices (link and thread), of wake-ups and of syncs that is drawn, anew for each of them and in
        each replicate, with either engine; 0 to 0.9. They keep their means, and it is their relative standard
        deviation. Not fitted, since one number does not fit them all: slices have 0.03 on the measured paced link and
        0.09 on loopback, syncs 0.2 (KVM) to 0.9 (TCG); docs/model.md, section 5. 0.1 makes islands vanish.
    discard : seconds, default 2.5 us
        The destination drops a run of pages that became dirty again, when post-copy starts; up to 1 ms. From what the
        measured runs need between the stop of the source and the running destination, less `destination_load`. Not
        fitted by `migkit calibrate`.
    vm_stop : seconds, default 0.1 ms
        Stopping the vCPUs.
    device_state : seconds, default 1.2 ms
        Saving the state of all other devices, in the downtime.
    destination_load : seconds, default 1 ms
        From the last byte to a running guest on the destination.

    Examples
    --------
    >>> HostCosts(iteration="20 us").page
    2.1 us
    """

    name: Text = ""
    setup: Cost = _assumed("setup")
    iteration: Annotated[Seconds, quantity("1 us", "1 h")] = _assumed("iteration")
    wakeup: Cost = _assumed("wakeup")
    bitmap_sync: Annotated[Seconds, quantity("0 s", "1 min")] = _assumed("bitmap_sync")
    bitmap_sync_per_gib: Annotated[Seconds, quantity("0 s", "1 s")] = _assumed("bitmap_sync_per_gib")
    page: PageCost = _assumed("page")
    zero_page: PageCost = _assumed("zero_page")
    multifd_page: PageCost = _assumed("multifd_page")
    channel_page: PageCost = _assumed("channel_page")
    compress_page: PageCost = _assumed("compress_page")
    xbzrle_page: PageCost = _assumed("xbzrle_page")
    copy_share: Share = _ASSUMED["copy_share"]
    fresh_page: PageCost = _assumed("fresh_page")
    fresh_after: Size = Bytes(parse_bytes(_ASSUMED["fresh_after"]))
    throttle_late: Annotated[Seconds, quantity("0 s", "9 ms")] = _assumed("throttle_late")
    throttle_loss: Share = _ASSUMED["throttle_loss"]
    jitter: Annotated[float, number(0, 0.9)] = _ASSUMED["jitter"]
    discard: PageCost = _assumed("discard")
    vm_stop: Cost = _assumed("vm_stop")
    device_state: Cost = _assumed("device_state")
    destination_load: Cost = _assumed("destination_load")

    @property
    def label(self) -> str:
        """What results call these costs.

        `name`; without one ``"assumed"`` where all have their defaults, else ``"assumed except"`` those that have not.

        Examples
        --------
        >>> HostCosts().label, HostCosts(page="1 us").label, HostCosts(name="rack 3").label
        ('assumed', 'assumed except page', 'rack 3')
        """
        if self.name:
            return self.name
        given = [name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default]
        return f"{_ASSUMED['name']} except {', '.join(given)}" if given else str(_ASSUMED["name"])

    @classmethod
    def from_toml(cls, source: str | Path) -> HostCosts:
        """Read the costs of a host, such as ``migkit calibrate`` writes them.

        Parameters
        ----------
        source : str or path
            A file, or TOML text: text is what holds a ``=`` or a line break. A file that gives no name has its own.

        Raises
        ------
        ScenarioError
            If the file cannot be read, is not TOML, or holds no costs.

        Examples
        --------
        >>> HostCosts.from_toml('page = "1 us"').page
        1 us
        """
        table, _ = read_toml(source)
        if isinstance(source, Path) or not ("\n" in source or "=" in source):
            table = {"name": Path(source).name} | table
        return cls(**table)
