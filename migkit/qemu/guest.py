"""The guest that is recorded: the boot program ``guest.S``, its parameters, and what it says on the serial port."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from importlib import resources
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import PlainSerializer, PlainValidator

from migkit.scenario.errors import ScenarioError
from migkit.scenario.fields import Part, Rule, quantity, whole_number
from migkit.scenario.units import Bytes, Rate, parse_rate

PAGE = 4096
IMAGE_BYTES = 65_536
"""Size of the firmware; QEMU takes a multiple of this, and the program is at its end."""
FIRST_START = Bytes(2 << 20)
"""Regions begin here or above: the page below holds the counters and the stack of the guest."""
MOST_REGIONS = 8
FULL_SPEED = 0xFFFFFFFF
BURST_WRITES = 4096
"""Writes at full speed between two looks at the clock, without a delay."""
REPORT_MS, LATE_MS = 250, 50
"""Time between two lines with counters; and how much of a stall is caught up for."""
_FASTEST = Rate(1e12)
_HEAD = struct.Struct("<4s7I")
_REGION = struct.Struct("<8I")
_COUNTERS = re.compile(rb"C ([0-9a-f]{16})((?: [0-9a-f]{8}){2,})")
_READY = re.compile(rb"READY ([0-9a-f]{8})")


def _rate(value: Any) -> Rate | str:
    if value == "max":
        return "max"
    rate = parse_rate(value)
    if rate > _FASTEST:
        raise ScenarioError(f'is outside the allowed range: it must be up to {_FASTEST}, or "max"', value=value)
    return Rate(rate)


def checked(broken: bool, error: ScenarioError) -> Rule:
    """Make a rule of a part that is never an axis: what is broken is known at once."""
    return Rule(lambda: broken, lambda: error)


class Writer(Part):
    """A region of the guest's RAM and how it is written to, one word a page.

    Parameters
    ----------
    size : bytes
        Whole pages of 4 KiB.
    start : bytes, default 2 MiB
        Where the region begins, 2 MiB or above; whole pages.
    rate : bytes/s or "max", default 0 B/s
        Page writes per second times 4096, whole pages a second, or in a tight loop. A rate is kept by waking 1000 times
        a second; a stall of more than 50 ms is caught up for 50 ms.
    pattern : {"uniform", "sequential"}, default "uniform"
        Random pages (xorshift32, with replacement), or one page after the other, round and round.
    delay : int, default 0
        Turns of an empty loop after each write: work of the CPU, which makes a guest at full speed slower.

    Examples
    --------
    >>> Writer(size="128 MiB", rate="200 MB/s").writes_per_s
    48828
    """

    size: Annotated[Bytes, quantity("4 KiB", "3 GiB")]
    start: Annotated[Bytes, quantity("2 MiB", "3 GiB")] = FIRST_START
    rate: Annotated[Rate | Literal["max"], PlainValidator(_rate), PlainSerializer(str)] = Rate(0)
    pattern: Literal["uniform", "sequential"] = "uniform"
    delay: Annotated[int, whole_number(0, 1_000_000_000)] = 0

    def _rules(self: Any) -> Iterator[Rule]:
        for field in ("size", "start"):
            value = getattr(self, field)
            yield checked(
                value % PAGE != 0, ScenarioError("is not a whole number of pages of 4 KiB", field, str(value))
            )

    @property
    def writes_per_s(self) -> int | None:
        """Page writes per second; none at full speed."""
        return None if self.rate == "max" else round(float(self.rate) / PAGE)


class Counters(NamedTuple):
    """What the guest counted at one time.

    Parameters
    ----------
    time : float
        Seconds since 1970 at which the line arrived.
    cycles : int
        Time stamp counter of the guest.
    overruns : int
        Stalls of more than 50 ms.
    wakeups : int
        Interrupts of the timer that it waited for.
    writes : tuple of int
        Page writes of each region.
    """

    time: float
    cycles: int
    overruns: int
    wakeups: int
    writes: tuple[int, ...]


def image(ram_bytes: int, zero_share: float, writers: tuple[Writer, ...], seed: int = 2463534242) -> bytes:
    """Build the firmware that QEMU runs.

    Parameters
    ----------
    ram_bytes : int
        RAM of the guest.
    zero_share : float
        Share of its pages that stay zero until a region is written, evenly spread, 0 to 1.
    writers : tuple of Writer
        At most 8 regions.
    seed : int, optional
        Start of the random numbers, above 0.

    Returns
    -------
    bytes
        65536 of them.

    Examples
    --------
    >>> len(image(64 << 20, 0.0, (Writer(size="8 MiB"),)))
    65536
    """
    share = min(round(zero_share * 2**32), 2**32 - 1)
    parameters = _HEAD.pack(b"MGKT", ram_bytes, share, seed, REPORT_MS, LATE_MS, len(writers), 0)
    for writer in writers:
        rate = FULL_SPEED if writer.writes_per_s is None else writer.writes_per_s
        burst = max(1, BURST_WRITES // (1 + writer.delay // 64))
        fields = (writer.start, writer.size // PAGE, rate, writer.pattern == "sequential", writer.delay, burst, 0, 0)
        parameters += _REGION.pack(*fields)
    program = resources.files("migkit.qemu").joinpath("guest.bin").read_bytes()
    program = parameters + program[len(parameters) :]
    return bytes(IMAGE_BYTES - len(program)) + program


class SerialPort:
    """The text that the guest writes, read as it comes.

    Attributes
    ----------
    ready_at : float or None
        Seconds since 1970 at which memory was ready.
    cycles_per_s : int or None
        Frequency of the time stamp counter, as the guest measured it.
    counters : list of Counters
        In the order of arrival.
    """

    def __init__(self) -> None:
        self.ready_at: float | None = None
        self.cycles_per_s: int | None = None
        self.counters: list[Counters] = []
        self._line = b""

    def feed(self, data: bytes, time: float) -> None:
        r"""Read some bytes that arrived at a time; a line that begins or ends elsewhere is left out.

        Examples
        --------
        >>> port = SerialPort()
        >>> port.feed(b"READY 08954400\nC 00000000000000ff 00000001 00000002 0000000a\n", 1.5)
        >>> port.ready_at, port.counters
        (1.5, [Counters(time=1.5, cycles=255, overruns=1, wakeups=2, writes=(10,))])
        """
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            if ready := _READY.fullmatch(line):
                self.ready_at, self.cycles_per_s = time, int(ready[1], 16) * 16
            elif found := _COUNTERS.fullmatch(line):
                overruns, wakeups, *writes = (int(word, 16) for word in found[2].split())
                self._append(Counters(time, int(found[1], 16), overruns, wakeups, tuple(writes)))

    def _append(self, new: Counters) -> None:
        """Append counters; writes count modulo 2^32 in the guest, and on from there here."""
        if self.counters:
            before = self.counters[-1].writes
            writes = (b + (w - b) % 2**32 for b, w in zip(before, new.writes, strict=False))
            new = new._replace(writes=tuple(writes))
        self.counters.append(new)
