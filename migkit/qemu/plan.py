"""What is recorded: guest, link, parameters and capabilities of a migration, and what changes while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, PlainSerializer, PlainValidator

from migkit.qemu.guest import MOST_REGIONS, PAGE, Writer, checked
from migkit.scenario.errors import ScenarioError, did_you_mean
from migkit.scenario.fields import Flag, Part, Rule, Share, Text, quantity, whole_number
from migkit.scenario.parts import Ring
from migkit.scenario.units import Bytes, Rate, Seconds, format_bytes, parse_bytes, parse_rate, parse_time

CAPABILITIES = (
    "auto-converge",
    "dirty-limit",
    "multifd",
    "postcopy-ram",
    "postcopy-preempt",
    "release-ram",
    "return-path",
    "switchover-ack",
    "x-ignore-shared",
    "xbzrle",
    "zero-blocks",
)
"""Capabilities that may be set; the QEMU that is run says so if it lacks one."""
_RATES = ("max-bandwidth", "avail-switchover-bandwidth", "max-postcopy-bandwidth")
_SIZES = ("xbzrle-cache-size",)
_NUMBERS = (
    "cpu-throttle-increment",
    "cpu-throttle-initial",
    "max-cpu-throttle",
    "multifd-channels",
    "multifd-zlib-level",
    "multifd-zstd-level",
    "throttle-trigger-threshold",
    "vcpu-dirty-limit",
    "x-vcpu-dirty-limit-period",
)
_WORDS = ("multifd-compression", "zero-page-detection")
PARAMETERS = ("downtime-limit", *_RATES, *_SIZES, *_NUMBERS, *_WORDS)
"""Migration parameters that may be set, named as QMP names them."""


def parameter(name: str, value: Any) -> int | str:
    """Read a migration parameter as QMP wants it.

    Parameters
    ----------
    name : str
        QMP's name.
    value : object
        Rates in bytes per second, sizes, times with their units; numbers; words.

    Returns
    -------
    int or str

    Raises
    ------
    ScenarioError
        If it is not known, or the value does not fit it.

    Examples
    --------
    >>> parameter("max-bandwidth", "128 MiB/s"), parameter("downtime-limit", "300 ms")
    (134217728, 300)
    """
    if name not in PARAMETERS:
        raise ScenarioError(f"is not a migration parameter that is known here: {did_you_mean(name, PARAMETERS)}", name)
    try:
        if name == "downtime-limit":
            return round(float(parse_time(value)) * 1000)
        if name in _RATES:
            return int(parse_rate(value))
        if name in _SIZES:
            return int(parse_bytes(value))
    except ScenarioError as error:
        raise error.within(name) from None
    if name in _NUMBERS:
        try:
            return int(value)
        except (TypeError, ValueError):
            raise ScenarioError("is not a whole number", name, value) from None
    return str(value)


class Change(NamedTuple):
    """A parameter that is set while the migration runs.

    Parameters
    ----------
    time : Seconds
        Since the ``migrate`` command.
    parameter : str
        QMP's name.
    value : int or str
        As QMP wants it.
    """

    time: Seconds
    parameter: str
    value: int | str

    @classmethod
    def read(cls, given: Any) -> Self:
        """Read ``(time, parameter, value)`` with units, or ``"2 s: max-bandwidth = 64 MiB/s"``.

        Examples
        --------
        >>> Change.read("2 s: max-bandwidth = 64 MiB/s")
        Change(time=2 s, parameter='max-bandwidth', value=67108864)
        """
        if isinstance(given, cls):
            return given
        if isinstance(given, str):
            time, colon, rest = given.partition(":")
            name, equals, value = rest.partition("=")
            if not (colon and equals):
                raise ScenarioError('is not a change: write it as "2 s: max-bandwidth = 64 MiB/s"', value=given)
            given = time.strip(), name.strip(), value.strip()
        if not isinstance(given, list | tuple) or len(given) != 3:
            raise ScenarioError("is not a change: give a time, a parameter and a value", value=given)
        return cls(Seconds(parse_time(given[0])), given[1], parameter(given[1], given[2]))


def _changes(given: Any) -> tuple[Change, ...]:
    return tuple(sorted(map(Change.read, given)))


def _parameters(given: Any) -> dict[str, int | str]:
    return {name: parameter(name, value) for name, value in dict(given).items()}


class Plan(Part):
    """One migration to record.

    Parameters
    ----------
    ram : bytes, default 512 MiB
        RAM of the guest, 64 MiB to 3 GiB: the guest runs without paging, in the memory below 4 GiB. Two guests run.
    regions : list of Writer, default none
        At most 8, which do not overlap and end at least 64 KiB below the end of RAM.
    zero_share : float, default 0
        Share of pages that are zero until they are written, evenly spread, 0 to 1.
    accel : {"tcg", "kvm"}, default "tcg"
        Who runs the guest.
    dirty_ring_size : int, default 0
        Entries of KVM's dirty ring, a power of two from 1024 to 65536, which dirty-limit needs; 0: a dirty log. Needs
        `accel` ``"kvm"``.
    backing : bytes, default 0 B
        Huge pages behind RAM, such as 2 MiB (``memory-backend-memfd,hugetlb=on``), which must be reserved on this
        machine for two guests; `ram` is a multiple. 0: pages of 4 KiB.
    max_bandwidth : bytes/s, default 128 MiB/s
        0: no limit.
    downtime_limit : seconds, default 300 ms
        Whole milliseconds.
    link : bytes/s, default 0 B/s
        Rate of a relay between the two, whatever max-bandwidth says; 0: loopback alone. What a relay carries on this
        machine is the upper limit.
    link_burst : bytes, default 256 KiB
        What the relay takes at once after a pause, and the size of its receive buffer.
    capabilities : list of str, default none
        Names as in QMP.
    multifd_channels : int, default 2
        Used with the capability multifd.
    postcopy_at : seconds, optional
        When post-copy starts; needs the capability postcopy-ram.
    parameters : dict, default empty
        Further migration parameters, set before it starts; names as in QMP, values with units.
    changes : list of (seconds, str, value), default none
        Parameters that are set while it runs.
    time_limit : seconds, default 30 s
        A migration that is not complete by then is cancelled, which is a result.
    port : int, optional
        TCP port of the destination, on loopback; by default one that is free.
    device : str, optional
        A preloaded device, such as ``"initial=64MiB,stop=1MiB"``.
    trace : bool, default False
        Record the trace points of the loop too, where the build has the log backend.
    warm_up : seconds, default 1.25 s
        How long the guest runs before the migration, for its rate; at least 0.5 s.

    Examples
    --------
    >>> Plan(regions=[Writer(size="128 MiB", rate="200 MB/s")]).max_bandwidth
    128 MiB/s
    """

    ram: Annotated[Bytes, quantity("64 MiB", "3 GiB")] = Bytes(512 << 20)
    regions: tuple[Writer, ...] = ()
    zero_share: Share = 0.0
    accel: Literal["tcg", "kvm"] = "tcg"
    dirty_ring_size: Ring = 0
    backing: Annotated[Bytes, quantity("2 MiB", "1 GiB", or_zero=True)] = Bytes(0)
    max_bandwidth: Annotated[Rate, quantity("1 kB/s", "1000 TB/s", or_zero=True)] = Rate(128 << 20)
    downtime_limit: Annotated[Seconds, quantity("0 s", "2000 s")] = Seconds(0.3)
    link: Annotated[Rate, quantity("1 MB/s", "10 GB/s", or_zero=True)] = Rate(0)
    link_burst: Annotated[Bytes, quantity("64 KiB", "64 MiB")] = Bytes(256 << 10)
    capabilities: tuple[Text, ...] = ()
    multifd_channels: Annotated[int, whole_number(1, 255)] = 2
    postcopy_at: Annotated[Seconds, quantity("0 s", "1 h")] | None = None
    parameters: Annotated[dict[str, int | str], PlainValidator(_parameters)] = Field(default_factory=dict)
    changes: Annotated[
        tuple[Change, ...], PlainValidator(_changes), PlainSerializer(lambda changes: [list(each) for each in changes])
    ] = ()
    time_limit: Annotated[Seconds, quantity("100 ms", "1 h")] = Seconds(30.0)
    port: Annotated[int, whole_number(1, 65535)] | None = None
    device: Text | None = None
    trace: Flag = False
    warm_up: Annotated[Seconds, quantity("500 ms", "1 h")] = Seconds(1.25)

    def _rules(self: Any) -> Iterator[Rule]:
        yield checked(self.ram % (1 << 20) != 0, ScenarioError("is not a whole number of MiB", "ram", str(self.ram)))
        if self.backing:
            text = f"is not a whole number of huge pages of {self.backing}"
            yield checked(self.ram % self.backing != 0, ScenarioError(text, "ram", str(self.ram)))
        many = f"has {len(self.regions)} regions: the guest has at most {MOST_REGIONS}"
        yield checked(len(self.regions) > MOST_REGIONS, ScenarioError(many, "regions"))
        end = self.ram - 16 * PAGE
        for i, region in enumerate(self.regions):
            own_end = region.start + region.size
            text = f"ends at {format_bytes(own_end)}: it must end by {format_bytes(end)}"
            yield checked(own_end > end, ScenarioError(text, f"regions.{i}"))
        for a, b in pairwise(sorted(self.regions, key=lambda region: region.start)):
            text = f"overlap at {b.start}: regions must not share pages"
            yield checked(a.start + a.size > b.start, ScenarioError(text, "regions"))
        for i, name in enumerate(self.capabilities):
            text = f"is not a capability that is known here: {did_you_mean(name, CAPABILITIES)}"
            yield checked(name not in CAPABILITIES, ScenarioError(text, f"capabilities.{i}", name))
        yield checked(
            self.dirty_ring_size > 0 and self.accel != "kvm",
            ScenarioError('needs accel = "kvm"', "dirty_ring_size", self.dirty_ring_size),
        )
        yield checked(
            self.postcopy_at is not None and "postcopy-ram" not in self.capabilities,
            ScenarioError('needs the capability "postcopy-ram"', "postcopy_at", str(self.postcopy_at)),
        )
        own = "has fields of its own for max-bandwidth and downtime-limit: use them"
        yield checked(
            not {"max-bandwidth", "downtime-limit"}.isdisjoint(self.parameters), ScenarioError(own, "parameters")
        )

    @property
    def accelerator(self) -> str:
        """What QEMU's option ``-accel`` is given."""
        return f"{self.accel},dirty-ring-size={self.dirty_ring_size}" if self.dirty_ring_size else self.accel

    @property
    def memory(self) -> list[str]:
        """Options that say what RAM is and what it is backed by."""
        size = f"{self.ram >> 20}M"
        if not self.backing:
            return ["-machine", "pc", "-m", size]
        pages = f"memory-backend-memfd,id=huge,size={size},hugetlb=on,hugetlbsize={self.backing >> 20}M"
        return ["-object", pages, "-machine", "pc,memory-backend=huge", "-m", size]

    def qmp_parameters(self) -> dict[str, int | str]:
        """Parameters that are set before the migration, as QMP wants them."""
        parameters: dict[str, int | str] = {
            "max-bandwidth": int(self.max_bandwidth),
            "downtime-limit": round(float(self.downtime_limit) * 1000),
        }
        if "multifd" in self.capabilities:
            parameters["multifd-channels"] = self.multifd_channels
        return parameters | self.parameters
