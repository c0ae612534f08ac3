"""What of QEMU is modelled, approximated, and not modelled, by QEMU's names: the table of the README.

A field that a scenario does not have is looked up here before it is taken for a misspelt one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

__all__ = ["ROWS", "Row", "Status", "answer", "table"]

Status = Literal["modelled", "approximated", "not modelled"]


class Row(NamedTuple):
    """Parts of QEMU that are treated alike.

    Parameters
    ----------
    status : {"modelled", "approximated", "not modelled"}
    names : tuple of str
        Parameters and capabilities by their QMP names.
    what : str
        What is computed for them, or instead of them; of modelled parts, where they are set.
    others : tuple of str
        What else they are called, apart from spelling: looked up, and not in the table.
    part : str
        The part of a scenario that has a field for each of the names.
    """

    status: Status
    names: tuple[str, ...]
    what: str
    others: tuple[str, ...] = ()
    part: str = ""


ROWS: tuple[Row, ...] = (
    Row("modelled", (), "the migration thread: iterations, 100 ms rate-limit windows, threshold, switchover"),
    Row("modelled", ("max-bandwidth", "downtime-limit", "avail-switchover-bandwidth", "throttle-trigger-threshold",
                     "cpu-throttle-initial", "cpu-throttle-increment", "max-cpu-throttle", "x-clear-bitmap-shift",
                     "cpu-throttle-tailslow", "auto-converge", "dirty-limit", "vcpu-dirty-limit",
                     "x-vcpu-dirty-limit-period", "xbzrle", "xbzrle-cache-size", "switchover-ack", "return-path",
                     "compress", "compress-threads", "multifd", "multifd-channels", "multifd-compression",
                     "zero-page-detection", "postcopy-ram", "postcopy-preempt", "max-postcopy-bandwidth"),
        "fields of `migration`, with underscores", part="migration"),
    Row("modelled", ("block",), "block migration, up to 9.0: a device with `kind = \"block\"`",
        ("blk", "block-incremental")),
    Row("modelled", (), "RAM: dirty bitmap, bitmap sync, lazy clear in chunks (KVM), circular cursor, the 50 ms rule, "
        "zero pages"),
    Row("modelled", (), "VFIO pre-copy: initial data, dirty data, stop-copy; several devices"),
    Row("modelled", ("migrate-set-parameters", "migrate-cancel"),
        "max-bandwidth and downtime-limit while the migration runs, cancel and stop: at given times (`changes`) and by "
        "a management layer (`management`)", ("cancel",)),
    Row("modelled", (), "rules of 7.2, 8.0, 8.1, 8.2, 9.0-rc0, 9.0, 9.1, 9.2, 10.0, 10.1, 10.2, 11.0 and 11.1 "
        "([docs/profiles.md](docs/profiles.md))"),
    Row("modelled", ("migrate-start-postcopy",), "post-copy, started at `migration.postcopy_at` or by a management "
        "layer: the switch, the rest in the background, its end; RAM alone",
        ("postcopy", "post-copy", "x-postcopy-ram", "start-postcopy")),
    Row("approximated", (), "page faults in post-copy: their number in the mean, region by region, of guests that "
        "write; a request passes the limit and moves no cursor"),
    Row("approximated", (), "multifd: packets, channels and syncs are QEMU's; the channels share the link in the order "
        "in which they get packets, and the CPU without contention"),
    Row("approximated", ("multifd-zlib-level", "multifd-zstd-level", "multifd-qatzip-level"), "multifd-compression: "
        "one ratio for all normal pages (`link.compression_ratio`) and one cost (`costs.compress_page`), which have "
        "the level in them"),
    Row("approximated", (), "xbzrle: one size for all pages that are encoded (`link.xbzrle_page`) and one cost "
        "(`costs.xbzrle_page`); the share of hits is that of the cache in what is written to, once it is filled"),
    Row("approximated", ("hugetlb", "hugetlbsize"), "RAM in huge pages (`guest.backing`): a call of RAM sends host "
        "page after host page and may sleep in one, a fault of post-copy brings a whole one; not with multifd, and "
        "what changes within a call takes effect at its end",
        ("huge-pages", "hugepages", "hugepage", "hugepage-size", "mem-path", "mem-prealloc")),
    Row("approximated", ("dirty-ring-size",), "dirty-limit: a region is written by one vCPU, whose sleeps take from "
        "its rate evenly; rings of `guest.dirty_ring_size` entries", ("dirty-ring",)),
    Row("approximated", (), "guest writes: rates on fixed regions, constant, in steps or measured, uniform or "
        "sequential; a throttled vCPU writes its share of time, or what its work needs (`vcpu_share`)"),
    Row("approximated", (), "link: constant rate, round trip and send buffer, with another rate for the first pass; no "
        "loss, competing traffic only as a rate that changes (`changes`)"),
    Row("approximated", ("tls-creds", "tls-hostname", "tls-authz"), "a ceiling of the stream: `link.stream_bandwidth`",
        ("tls",)),
    Row("approximated", (), "host: times per iteration, page, sync, VM stop, device state and load, constant or with "
        "`jitter`; defaults from one machine with two cores and guests of up to 1 GiB, and for a sync "
        "of more RAM as published of 256 GiB"),
    Row("approximated", (), "non-iterable device state: one constant time"),
    Row("approximated", (), "VFIO devices: constant read rate and load time; sizes up to 9.1 count initial and dirty "
        "data once"),
    Row("approximated", (), "engine `expected`: expected values; departs from `bitmap` near an edge "
        "([docs/model.md](docs/model.md), section 9)"),
    Row("approximated", ("compress-level",), "compress, up to 9.0: one ratio for all normal pages and one cost, which "
        "have the level in them; its threads are never behind", ("compression",)),
    Row("not modelled", ("compress-wait-thread", "decompress-threads"), "where all threads that compress are busy QEMU "
        "waits; the destination unpacks as fast as pages come"),
    Row("not modelled", ("postcopy-blocktime",), "how long each vCPU waits for pages"),
    Row("not modelled", ("mapped-ram", "direct-io"), "the stream goes to a destination, not to a file",
        ("fixed-ram",)),
    Row("not modelled", ("zero-copy-send", "rdma-pin-all"),
        "a page takes its time on the migration thread (`costs.page`) and its bytes on the link, whatever carries it",
        ("zero-copy", "zerocopy", "rdma")),
    Row("not modelled", ("background-snapshot", "x-colo", "x-checkpoint-delay", "cpr-reboot"),
        "only live migration between two hosts", ("colo", "cpr", "cpr-transfer")),
    Row("not modelled", ("pause-before-switchover",), "the VM stops when the loop decides"),
    Row("not modelled", ("x-ignore-shared", "release-ram"), "all RAM is sent and kept", ("ignore-shared",)),
    Row("not modelled", ("dirty-bitmaps",), "nor htab and CMMA", ("htab", "cmma")),
    Row("not modelled", ("x-migration-multifd-transfer",), "VFIO devices send their data, that of the stop too, on the "
        "main stream, with `multifd` and 10.0 or later too; nor `VFIO_PRECOPY_INFO_REINIT`",
        ("vfio-precopy-info-reinit",)),
    Row("not modelled", ("migrate-recover",), "failure and recovery; other parameters changed while the migration runs",
        ("recover",)),
)  # fmt: skip


def _looked_up(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def answer(name: str, holder: str = "Scenario") -> str | None:
    """Say how a part of QEMU is treated, so that it follows the name of a field that no scenario has.

    Parameters
    ----------
    name : str
        QEMU's name of a parameter or capability; underscores count as hyphens.
    holder : str
        The part of a scenario that was given the field.

    Returns
    -------
    str or None
        None if the table does not have the name.

    Examples
    --------
    >>> print(answer("direct-io"))
    is not modelled: the stream goes to a destination, not to a file (README, "What is modelled")
    >>> answer("bandwith") is None
    True
    """
    wanted = _looked_up(name)
    for row in ROWS:
        if wanted in (*row.names, *row.others):
            what = row.what.replace("`", "")
            if row.part:
                return f"is not a field of {holder}: write {row.part}.{wanted.replace('-', '_')}"
            if row.status != "not modelled":
                return f"is not a field of {holder} but {row.status}: {what}"
            return f'is not modelled: {what} (README, "What is modelled")'
    return None


def _lines() -> Iterator[str]:
    yield "| | QEMU's names | what is computed |"
    yield "|---|---|---|"
    status = ""
    for row in ROWS:
        first = f"**{row.status}**" if row.status != status else ""
        status = row.status
        cells = (first, ", ".join(f"`{name}`" for name in row.names), row.what)
        yield " ".join(["|", " | ".join(cells), "|"])


def table() -> str:
    """The table as Markdown, as the README has it.

    Examples
    --------
    >>> table().splitlines()[0]
    "| | QEMU's names | what is computed |"
    """
    return "\n".join(_lines())
