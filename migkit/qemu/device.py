"""A synthetic device in an unmodified QEMU: ``device.c``, compiled on first use and preloaded."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from migkit.scenario.errors import ScenarioError, choices, did_you_mean
from migkit.scenario.fields import Part, Rule, whole_number
from migkit.scenario.parts import Cost, Size, Speed, Vfio
from migkit.scenario.units import Bytes, Rate, Seconds

VERSIONS = ("7.2", "10.0", "11.1")
"""Versions of QEMU whose table of handlers ``device.c`` has, each with all its stable releases."""

SOURCE = Path(__file__).with_name("device.c")
_COMPILE = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra")
_LONGEST = 200


class Device(Part):
    """A device that registers behind RAM and migrates as a VFIO device does.

    Source and destination are started with the same devices. The device sends at most 1 MiB a call: initial data first,
    then dirty data; what is left and the stop-copy data follow after the VM has stopped. With switchover-ack the
    destination acknowledges once the initial data has arrived and `load` is over (not in 7.2, which has no
    acknowledgement). A VM that is paused when the migration starts sends everything after the stop, as VFIO does.

    Parameters
    ----------
    initial : bytes
        Initial data, never refilled.
    stop : bytes, default 1 MiB
        Stop-copy data.
    dirty : bytes/s, default 0 B/s
        How fast dirty data grows from the setup of a migration on, up to 1 TB/s.
    dirty_max : bytes, default 0 B
        The most that can be dirty at once; needed when `dirty` is above 0.
    load : seconds, default 0 s
        How long the destination takes before it acknowledges, 0 to 1 h; its main loop answers nothing meanwhile.
    count : int, default 1
        How many of them, 1 to 64.

    Examples
    --------
    >>> Device(initial="64 MiB", load="100 ms").stop
    1 MiB
    """

    initial: Size
    stop: Size = Bytes(2**20)
    dirty: Speed = Rate(0)
    dirty_max: Size = Bytes(0)
    load: Cost = Seconds(0)
    count: Annotated[int, whole_number(1, 64)] = 1

    def _rules(self: Any) -> Iterator[Rule]:
        yield Rule(
            lambda: (self.dirty > 0) & (self.dirty_max == 0),
            lambda: ScenarioError(
                f"must be above 0 when dirty is ({self.dirty}): it is the most that can be dirty at once",
                "dirty_max",
                str(self.dirty_max),
            ),
        )

    @classmethod
    def parse(cls, text: str) -> Device:
        """Read a device from one line, as the command line takes it.

        Parameters
        ----------
        text : str
            ``name=value`` pairs with a comma between them; the names are the parameters of `Device`.

        Returns
        -------
        Device

        Raises
        ------
        ScenarioError
            If a name or value is not understood.

        Examples
        --------
        >>> Device.parse("initial=64MiB,stop=1MiB,dirty=1MB/s,dirty_max=16MiB,load=100ms").dirty_max
        16 MiB
        """
        if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST:
            raise ScenarioError('is not a device: write one such as "initial=64MiB,stop=1MiB"', "device", text)
        values: dict[str, Any] = {}
        for pair in text.split(","):
            name, equals, value = (each.strip() for each in pair.partition("="))
            if name not in cls.model_fields:
                raise ScenarioError(
                    f"has no such value: {did_you_mean(name, cls.model_fields)}", "device", pair.strip()
                )
            if not equals or not value:
                raise ScenarioError(
                    f'has no value: write one such as "{name}={_EXAMPLES[name]}"', "device", pair.strip()
                )
            if name in values:
                raise ScenarioError("is given twice: give it once", f"device.{name}", value)
            values[name] = int(value) if name == "count" and value.isdecimal() else value
        try:
            return cls(**values)
        except ScenarioError as error:
            raise error.within("device") from None

    def environment(self, version: str, log: str | os.PathLike[str] | None = None) -> dict[str, str]:
        """Compile the library if that was not done before, and say what both QEMUs are to be started with.

        Parameters
        ----------
        version : str
            Version of the QEMU, such as ``"10.0.2"``, or what ``qemu-system-x86_64 --version`` prints.
        log : path, optional
            File that both QEMUs append to, for `read_log`.

        Returns
        -------
        dict of str
            Variables to set in the environment of source and destination.

        Raises
        ------
        ScenarioError
            If the version is not known or the library cannot be compiled.
        """
        return environment([self], version, log)

    def scenario(self) -> Vfio:
        """Return the part of a scenario that stands for the device.

        Examples
        --------
        >>> Device.parse("initial=64MiB,load=1s").scenario().load_time
        1 s
        """
        load = {"load_time": self.load} if self.load else {}
        return Vfio(
            initial_bytes=self.initial,
            stop_copy_bytes=self.stop,
            dirty_rate=self.dirty,
            dirty_max=self.dirty_max,
            count=self.count,
            **load,
        )


_EXAMPLES = {"initial": "64MiB", "stop": "1MiB", "dirty": "1MB/s", "dirty_max": "16MiB", "load": "100ms", "count": "2"}


def table_version(version: str) -> str:
    """Find the table of handlers for a version of QEMU.

    Parameters
    ----------
    version : str
        As for `Device.environment`.

    Returns
    -------
    str
        One of `VERSIONS`.

    Raises
    ------
    ScenarioError
        If there is none.

    Examples
    --------
    >>> table_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)")
    '10.0'
    """
    found = re.search(r"(?<![\d.])(\d+\.\d+)(?:\.(\d+))?(?![\d.])", version)
    # x.y.50 and up are snapshots of the next version, whose table may be another one
    if not found or found.group(1) not in VERSIONS or int(found.group(2) or 0) >= 50:
        raise ScenarioError(
            f"has no device: its table of handlers is not known, use QEMU {choices(VERSIONS)}", "version", version
        )
    return found.group(1)


def environment(devices: Sequence[Device], version: str, log: str | os.PathLike[str] | None = None) -> dict[str, str]:
    """Do for several devices, in the order of the list, what `Device.environment` does for one.

    Parameters
    ----------
    devices : sequence of Device
        Up to 64 with their counts.
    version, log
        As for `Device.environment`.

    Returns
    -------
    dict of str

    Raises
    ------
    ScenarioError
        As `Device.environment`, and if there are no devices or more than 64.
    """
    table = table_version(version)
    number = sum(device.count for device in devices)
    if not 1 <= number <= 64:
        raise ScenarioError("is not a number of devices: it must be from 1 to 64", "device", number)
    preload = [str(library()), *filter(None, [os.environ.get("LD_PRELOAD")])]
    configured = [
        f"{int(each.initial)}:{int(each.stop)}:{float(each.dirty)!r}:{int(each.dirty_max)}:{round(each.load * 1e9)}"
        for each in devices
        for _ in range(each.count)
    ]
    variables = {
        "LD_PRELOAD": ":".join(preload),
        "MIGKIT_DEVICE_QEMU": table,
        "MIGKIT_DEVICES": ";".join(configured),
    }
    return variables if log is None else variables | {"MIGKIT_DEVICE_LOG": str(Path(log).absolute())}


def library() -> Path:
    """Compile ``device.c`` with gcc, once for each content of that file.

    Returns
    -------
    Path
        The library, in the folder ``migkit`` of the user's cache (``XDG_CACHE_HOME``, or else ``~/.cache``).

    Raises
    ------
    ScenarioError
        If there is no gcc, it fails, or the cache cannot be written.
    """
    source = SOURCE.read_bytes()
    digest = hashlib.sha256(source + " ".join((*_COMPILE, os.uname().machine)).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "migkit"
    path = folder.absolute() / f"device-{digest}.so"
    if re.search(r"[\s:]", str(path)):
        # ld.so takes both as the end of a path
        raise ScenarioError(
            "has a space or colon, which LD_PRELOAD cannot carry: name another folder", "XDG_CACHE_HOME", str(folder)
        )
    if path.exists():
        return path
    if not (gcc := shutil.which("gcc")):
        raise ScenarioError("is needed to compile the device and is not installed: install gcc, or record without a "
                            "device", "gcc")  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".device-", suffix=".so", dir=folder)
        os.close(handle)
    except OSError as error:
        raise ScenarioError(f"cannot be written ({error.strerror}): set XDG_CACHE_HOME to a folder that can", "cache",
                            str(folder)) from None  # fmt: skip
    try:
        made = subprocess.run(
            [gcc, *_COMPILE, "-o", name, str(SOURCE), "-ldl"], capture_output=True, text=True, errors="replace"
        )
        if made.returncode:
            said = (made.stderr.strip().splitlines() or ["no message"])[-1]
            raise ScenarioError(f"cannot compile the device: {said}", "gcc", gcc)
        os.chmod(name, 0o755)
        os.replace(name, path)  # another process may have made the same meanwhile
    finally:
        Path(name).unlink(missing_ok=True)
    return path


def read_log(path: str | os.PathLike[str], started: float = 0.0) -> dict[str, Any]:
    """Read what the devices of a source and a destination did.

    Parameters
    ----------
    path : path
        The log that both appended to, of one migration; of several, the last one is read.
    started : float, default 0
        Origin of ``t_ms``, in seconds since the epoch.

    Returns
    -------
    dict
        As in the traces of ``data/qemu-traces``: ``devices`` and ``devices_dst``, one dict a device with the counters
        ``st_...``, and ``device_iter`` with ``cols``, ``rows``, ``total`` and ``thinned`` (calls that found nothing are
        logged 20,000 times, then counted). ``ack_ms`` has, for each device, when the destination acknowledged, or None;
        ``complete_ms`` when its data was sent after the stop, or None. Counters of a source that was killed are those
        of the calls in the log.

    Raises
    ------
    ScenarioError
        If the file is missing, is no such log, or no QEMU registered a device.
    """
    try:
        text = Path(path).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise ScenarioError(f"cannot be read: {error.strerror}", "log", str(path)) from None
    sides: dict[tuple[int, int], _Side] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4 or not all(word.isdecimal() for word in words[:3]):
            raise ScenarioError("is not a log of devices", "log", str(path))
        ns, process, index = map(int, words[:3])
        sides.setdefault((process, index), _Side(index)).take(ns, words[3], words[4:])
    if not sides:
        raise ScenarioError(
            "is empty: this QEMU does not export its functions or did not start, so it had no device", "log", str(path)
        )
    sources = sorted((side for side in sides.values() if side.role == "source"), key=lambda side: side.at)
    targets = sorted((side for side in sides.values() if side.role == "destination"), key=lambda side: side.at)
    source = {side.index: side for side in sources}
    target = {side.index: side for side in targets}
    indices = sorted({side.index for side in sides.values()})
    none = {index: _Side(index) for index in indices}
    rows = sorted(
        ([round(side.epoch_ms(ns) - started * 1e3, 3), side.index, *row] for side in source.values()
         for ns, *row in side.rows),
        key=lambda row: row[0],
    )  # fmt: skip
    total = sum(side.counters["st_iter_calls"] for side in source.values())

    def moments(sides: dict[int, _Side], name: str) -> list[float | None]:
        times = [getattr(sides.get(index, none[index]), name) for index in indices]
        return [time and round(time - started * 1e3, 3) for time in times]

    return {
        "devices": [source.get(index, none[index]).counters for index in indices],
        "devices_dst": [target.get(index, none[index]).counters for index in indices],
        "device_iter": {
            "cols": ["t_ms", "dev", "sent", "init_left", "dirty_left"],
            "rows": rows,
            "total": total,
            "thinned": len(rows) < total,
        },
        "ack_ms": moments(target, "ack_ms"),
        "complete_ms": moments(source, "complete_ms"),
    }


class _Side:
    """One device of one process, as its lines of the log tell it."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.role = ""
        self.at = 0
        self.to_epoch_ns = 0
        self.begin()

    def begin(self) -> None:
        self.counters = dict.fromkeys(_COUNTERS, 0)
        self.rows: list[tuple[int, int, int, int]] = []
        self.ack_ms: float | None = None
        self.complete_ms: float | None = None
        self.left: int | None = None

    def epoch_ms(self, ns: int) -> float:
        return (ns + self.to_epoch_ns) / 1e6

    def take(self, ns: int, event: str, values: list[str]) -> None:
        seen, time = self.counters, round(self.epoch_ms(ns))
        match event, values:
            case "registered", [_, initial, _, _, _, _, offset]:
                self.to_epoch_ns, self.initial = int(offset), int(initial)
            case "setup", _:
                self.begin()
                self.counters["st_setup_ms"], self.role, self.at = time, "source", ns
                self.left = self.initial
            case "iterate", [sent, initial_left, dirty_left]:
                self._iterate(ns, time, int(sent), int(initial_left), int(dirty_left))
            case "complete", [sent, us]:
                # 11.1 calls once more at the end of post-copy, when nothing is left
                seen["st_complete_bytes"] += int(sent)
                seen["st_complete_us"] += int(us)
                self.complete_ms = self.complete_ms or self.epoch_ms(ns)
            case "end", [calls, exact, initial, dirty, dirtied]:
                names = ("st_iter_calls", "st_exact_calls", "st_init_bytes", "st_dirty_bytes", "st_hw_dirtied")
                seen.update(zip(names, map(int, (calls, exact, initial, dirty, dirtied)), strict=True))
            case "load_setup", _:
                self.begin()
                self.role, self.at = "destination", ns
            case "ack", ["0"]:
                self.ack_ms = self.epoch_ms(ns)
            case (("initial_received" | "loaded"), [loaded]):
                seen["st_load_bytes"] = int(loaded)
            case _:
                pass  # initial_sent, and what a later version may add

    def _iterate(self, ns: int, time: int, sent: int, initial_left: int, dirty_left: int) -> None:
        seen = self.counters
        self.rows.append((ns, sent, initial_left, dirty_left))
        seen["st_iter_calls"] += 1
        seen["st_first_iter_ms"] = seen["st_first_iter_ms"] or time
        seen["st_last_iter_ms"] = time
        if initial_left == 0:
            seen["st_init_sent_ms"] = seen["st_init_sent_ms"] or time
        before = initial_left if self.left is None else self.left
        first = min(sent, max(0, before - initial_left))
        self.left = initial_left
        seen["st_init_bytes"] += first
        seen["st_dirty_bytes"] += sent - first


_COUNTERS = (
    "st_iter_calls",
    "st_init_bytes",
    "st_dirty_bytes",
    "st_complete_bytes",
    "st_setup_ms",
    "st_first_iter_ms",
    "st_init_sent_ms",
    "st_last_iter_ms",
    "st_exact_calls",
    "st_load_bytes",
    "st_complete_us",
    "st_hw_dirtied",
)
