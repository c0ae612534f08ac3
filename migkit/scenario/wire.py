"""What carries RAM: the link, one stream, the migration thread and max-bandwidth, and which of them is the least."""

from __future__ import annotations

from typing import Any

import numpy as np

from migkit.scenario.views import each

__all__ = [
    "LIMITS",
    "PAGE_BYTES",
    "PAGE_HEADER",
    "XBZRLE_HEADER",
    "binds",
    "cached_share",
    "channel_page_s",
    "compressed_page_bytes",
    "compresses",
    "compression_ratio",
    "main_page_s",
    "on_wire_bytes",
    "page_cost_s",
    "stream_count",
    "wire",
    "wire_limits",
    "written_pages",
]

PAGE_HEADER = 8
"""Bytes on the wire before those of a page (``migration/ram.c:save_page_header``)."""
COMPRESS_HEADER = PAGE_HEADER + 4
"""The same before a page that the capability compress has compressed, with its length (``migration/ram.c``)."""
XBZRLE_HEADER = PAGE_HEADER + 3
"""The same before a page that is encoded, with method and length (``migration/ram.c:save_xbzrle_page``)."""
PAGE_BYTES = 4096
"""The page that costs of a host are told for: that of the measured runs."""
LIMITS = ("link", "stream", "thread", "max-bandwidth")
"""What can limit how fast RAM is sent, in the order in which equal ones are named."""


def page_cost_s(scenario: Any, cost: Any) -> Any:
    """Thread time of one page of the guest, seconds, where `cost` is that of a page of 4 KiB.

    Examples
    --------
    >>> from migkit import Guest, HostCosts, Link, Scenario
    >>> scenario = Scenario(guest=Guest(ram="1 GiB", page_size="64 KiB"), link=Link(bandwidth="1 GB/s"),
    ...                     costs=HostCosts(page="2 us", copy_share=0.75))
    >>> round(float(page_cost_s(scenario, scenario.costs.page)) * 1e6, 6)
    24.5
    """
    share = scenario.costs.copy_share
    return cost * ((1.0 - share) + share * (scenario.guest.page_size / PAGE_BYTES))


def stream_count(scenario: Any) -> Any:
    """How many streams carry RAM: one, or the channels of multifd.

    Examples
    --------
    >>> from migkit import Guest, Link, Migration, Scenario
    >>> int(stream_count(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 GB/s"),
    ...                           migration=Migration(multifd=True, multifd_channels=8))))
    8
    """
    return np.where(scenario.migration.multifd, scenario.migration.multifd_channels, 1)


def cached_share(scenario: Any) -> Any:
    """Share of the pages written to that the cache of XBZRLE has room for.

    Examples
    --------
    >>> from migkit import Guest, Link, Migration, Region, Scenario
    >>> guest = Guest(ram="1 GiB", regions=[Region(size="256 MiB", write_rate="1 MB/s")])
    >>> float(cached_share(Scenario(guest=guest, link=Link(bandwidth="1 GB/s"))))
    0.25
    """
    # migration/page_cache.c:cache_init: QEMU takes a power of two
    slots = each(
        lambda size, page: (1 << (int(size).bit_length() - 1)) // int(page),
        scenario.migration.xbzrle_cache_size,
        scenario.guest.page_size,
    )
    return np.minimum(1.0, slots / np.maximum(written_pages(scenario), 1))


def written_pages(scenario: Any) -> Any:
    """Pages of the regions that are written to.

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario
    >>> regions = [Region(size="1 MiB", write_rate="1 MB/s"), Region(size="1 MiB", start="1 MiB")]
    >>> guest = Guest(ram="1 GiB", regions=regions)
    >>> int(written_pages(Scenario(guest=guest, link=Link(bandwidth="1 GB/s"))))
    256
    """
    pages: Any = 0
    for region in scenario.guest.regions:
        rates = [float(rate) for _, rate in region.rates + region.curve]
        writes = max(rates) > 0 if rates else np.asarray(region.write_rate) > 0
        pages = pages + np.where(writes, region.size // scenario.guest.page_size, 0)
    return pages


def on_wire_bytes(scenario: Any) -> Any:
    """What a page that is written again and again takes on the wire, with its header; XBZRLE's cache is filled.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> float(on_wire_bytes(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"))))
    4104.0
    """
    compressed = compressed_page_bytes(scenario)
    whole = np.where(compressed > 0, compressed, scenario.guest.page_size + PAGE_HEADER)
    encoded = np.minimum(scenario.link.xbzrle_page, scenario.guest.page_size) + XBZRLE_HEADER
    return whole - np.where(scenario.migration.xbzrle, cached_share(scenario), 0.0) * (whole - encoded)


def compressed_page_bytes(scenario: Any) -> Any:
    """What a normal page takes on the main stream with the capability compress, with its headers; 0 without it.

    Examples
    --------
    >>> from migkit import Guest, HostCosts, Link, Migration, Scenario
    >>> given = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s", compression_ratio=4.0), qemu="8.2",
    ...                  migration=Migration(compress=True), costs=HostCosts(compress_page="20 us"))
    >>> int(compressed_page_bytes(given))
    1036
    """
    ratio = np.maximum(scenario.link.compression_ratio, 1.0)
    size = np.rint(scenario.guest.page_size / ratio) + COMPRESS_HEADER
    return np.where(scenario.migration.compress, size, 0)


def main_page_s(scenario: Any) -> Any:
    """What a normal page takes on the main stream, seconds: of the migration thread, or of the threads that compress.

    Examples
    --------
    >>> from migkit import Guest, HostCosts, Link, Migration, Scenario
    >>> given = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s", compression_ratio=4.0), qemu="8.2",
    ...                  migration=Migration(compress=True), costs=HostCosts(compress_page="20 us"))
    >>> float(main_page_s(given))
    2.5e-06
    """
    costs = scenario.costs
    workers = np.where(scenario.migration.compress, costs.compress_page / scenario.migration.compress_threads, 0.0)
    return page_cost_s(scenario, np.maximum(costs.page, workers))


def compresses(scenario: Any) -> Any:
    """Whether the channels of multifd compress pages.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> bool(compresses(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"))))
    False
    """
    return each(lambda method: method != "none", scenario.migration.multifd_compression)


def compression_ratio(scenario: Any) -> Any:
    """Bytes of a page over those that multifd or compress make of it; 1 where it is not compressed.

    Examples
    --------
    >>> from migkit import Guest, HostCosts, Link, Migration, Scenario
    >>> float(compression_ratio(Scenario(guest=Guest(ram="1 GiB"), costs=HostCosts(compress_page="2 us"),
    ...                                  link=Link(bandwidth="1 GB/s", compression_ratio=3.0),
    ...                                  migration=Migration(multifd=True, multifd_compression="zstd"))))
    3.0
    """
    compressed = compresses(scenario) | scenario.migration.compress
    return np.where(compressed, scenario.link.compression_ratio, 1.0)


def channel_page_s(scenario: Any) -> Any:
    """What the thread of a channel needs for a normal page, seconds: to send it, and to compress it where it does.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> float(channel_page_s(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"))))
    3.8e-06
    """
    costs = scenario.costs
    return page_cost_s(scenario, costs.channel_page + np.where(compresses(scenario), costs.compress_page, 0.0))


def wire(scenario: Any, bandwidth: Any = None) -> Any:
    """What one stream gets through, bytes/s: the link, or the ceiling of one stream.

    Parameters
    ----------
    scenario : Scenario or View
    bandwidth : bytes/s, optional
        Of the link, in place of the scenario's.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> float(wire(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 GB/s", stream_bandwidth="659 MB/s"))))
    659000000.0
    """
    ceiling = np.where(scenario.link.stream_bandwidth > 0, scenario.link.stream_bandwidth, np.inf)
    return np.minimum(scenario.link.bandwidth if bandwidth is None else bandwidth, ceiling)


def wire_limits(scenario: Any) -> dict[str, Any]:
    """What each of :data:`LIMITS` lets through of normal pages, with their headers; bytes/s, infinity for no limit.

    With multifd ``stream`` is that of all channels, and ``thread`` the slower of the migration thread and the threads
    of all channels together. Pages that are compressed count as they were.

    Parameters
    ----------
    scenario : Scenario or View
        One, or many of one structure.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> limits = wire_limits(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="100 Gbit/s")))
    >>> {name: round(float(value) / 1e6) for name, value in limits.items() if np.isfinite(value)}
    {'link': 12500, 'thread': 1954, 'max-bandwidth': 134}
    """
    page, limit = main_page_s(scenario), scenario.migration.max_bandwidth
    stream, multifd = scenario.link.stream_bandwidth, scenario.migration.multifd
    streams = stream_count(scenario)
    # with multifd the threads are the migration thread, and those of the channels: the slower of the two
    handed, channel, ratio = scenario.costs.multifd_page, channel_page_s(scenario), compression_ratio(scenario)
    page = np.where(multifd, np.maximum(handed, channel / streams), page)
    with np.errstate(divide="ignore"):
        thread = np.divide(scenario.guest.page_size + PAGE_HEADER, page, dtype=np.float64)
    return {
        "link": scenario.link.bandwidth * ratio,
        "stream": np.where(stream > 0, stream * streams * ratio, np.inf),
        "thread": thread,
        "max-bandwidth": np.where(limit > 0, limit * ratio, np.inf),
    }


def binds(scenario: Any) -> Any:
    """Which of :data:`LIMITS` is the least, by its place in that list.

    Parameters
    ----------
    scenario : Scenario or View
        One, or many of one structure.

    Examples
    --------
    >>> from migkit import Guest, Link, Migration, Scenario
    >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="100 Gbit/s"),
    ...                     migration=Migration(max_bandwidth=0))
    >>> LIMITS[int(binds(scenario))]
    'thread'
    """
    values = np.broadcast_arrays(*(np.asarray(value, np.float64) for value in wire_limits(scenario).values()))
    return np.argmin(np.array(values), axis=0)
