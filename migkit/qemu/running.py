"""Ask a running QEMU for what decides a migration, through its QMP socket; nothing is changed in the guest.

Only commands that query are sent, and ``calc-dirty-rate`` in the mode ``page-sampling``, in which QEMU reads a sample
of pages twice and compares them. The other modes start dirty logging, which slows the guest, and the mode
``dirty-bitmap`` ends QEMU 7.2 under TCG. The dirty rate that QEMU last measured is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket as sockets
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migkit.qemu.monitor import Refused, client
from migkit.qemu.record import finished
from migkit.qemu.working_set import DirtyVolumes
from migkit.results import legible
from migkit.scenario.errors import ScenarioError, Unfinished
from migkit.scenario.parts import Migration
from migkit.scenario.units import Bytes, Rate, Seconds, parse_time

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RunningGuest", "ask_running", "profile_of"]

CONNECT_S, ANSWER_S = 10.0, 20.0
GIB, MIB = 1 << 30, 1 << 20
IN_MILLISECONDS = (8, 2)
"""First version whose calc-dirty-rate takes milliseconds; before it takes whole seconds, from 1 s."""
CALC_TIMES_S = {True: (0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 0.1, 0.3, 1.0, 2.0), False: (1.0, 2.0, 1.0, 4.0, 1.0)}
"""Windows by whether milliseconds can be asked for."""
MOST_PAGES, SAMPLE_RANGE = 32_768, (128, 16_384)
"""Pages that a measurement reads, and what QEMU takes as sample-pages (per GiB)."""
LEAST_BLOCK = 128 * MIB
"""Blocks of RAM smaller than this are left out of page sampling (migration/dirtyrate.c:MIN_RAMBLOCK_SIZE)."""
_NO_PRECOPY = {
    "background-snapshot": "it writes a snapshot and moves nothing",
    "x-colo": "it never ends by itself",
    "mapped-ram": "it writes to a file",
}
"""Capabilities with which a migration is no pre-copy over a link."""
_NOTED = {
    "compress": "compress is on, and not in the answer: only a migration tells what it makes of pages",
    "postcopy-ram": "postcopy-ram is on: the answer is that of a migration in which post-copy is never started",
    "block": "block is on: disks that are migrated with RAM are not in the answer",
    "x-ignore-shared": "x-ignore-shared is on: shared RAM is counted, though it is not sent",
    "pause-before-switchover": "pause-before-switchover is on: how long it pauses is added to the downtime",
    "zero-copy-send": "zero-copy-send is on, which is not modelled: a page takes less CPU time",
    "rdma-pin-all": "rdma-pin-all is on, which is not modelled",
}
_MIGRATING = ("setup", "active", "pre-switchover", "device", "postcopy-active", "postcopy-paused", "postcopy-recover",
              "postcopy-device", "wait-unplug", "cancelling", "colo")  # fmt: skip
_GONE = {
    "inmigrate": "waits for an incoming migration",
    "finish-migrate": "is being migrated",
    "postmigrate": "has been migrated away",
    "shutdown": "is shut down",
    "guest-panicked": "has panicked",
    "internal-error": "has stopped with an internal error",
    "prelaunch": "has not been started",
}


@dataclass(frozen=True, eq=False)
class RunningGuest:
    """What a running QEMU said.

    Attributes
    ----------
    socket : str
        Where it was asked.
    version : str
        Such as ``"10.0.2"``.
    profile : str
        The profile that has its rules.
    accel : {"kvm", "tcg"}
    ram_bytes : int
        Memory of the guest, with what is plugged.
    migration : Migration
        Parameters and capabilities.
    capabilities : tuple of str
        Those that are on.
    dirty_rates : DataFrame
        One row a window: ``window_s``, ``dirty_bytes_per_s``, ``sample_pages_per_gib``, ``sampled_pages``.
    untouched_bytes : int or None
        Memory that the guest never touched, where ``/proc`` of this machine tells it.
    vcpu_use : float or None
        Share of their time that the vCPUs ran while the dirty rate was measured, each weighted by its own use.
    notes : tuple of str
        What the answer leaves out, and what differs from what is modelled.
    dirty_ring_size : int or None
        Entries of KVM's dirty ring, where the command line in ``/proc`` of this machine tells them; 0: a dirty log.
    """

    socket: str
    version: str
    profile: str
    accel: str
    ram_bytes: int
    migration: Migration
    capabilities: tuple[str, ...]
    dirty_rates: pd.DataFrame
    untouched_bytes: int | None
    vcpu_use: float | None
    notes: tuple[str, ...] = ()
    dirty_ring_size: int | None = None

    @property
    def volumes(self) -> DirtyVolumes:
        """The dirty rates as volumes; QEMU rounds them down to MiB/s."""
        rates = self.dirty_rates
        return DirtyVolumes.of_rates(rates["window_s"], rates["dirty_bytes_per_s"], rates["sampled_pages"], MIB)


def profile_of(version: tuple[int, int]) -> tuple[str, str]:
    """Find the profile of a version.

    Parameters
    ----------
    version : (int, int)
        Major and minor number.

    Returns
    -------
    profile : str
    note : str
        How the version differs from the one that was measured; empty if it is that.

    Raises
    ------
    ScenarioError
        If it is older or newer than all that are known.

    Examples
    --------
    >>> profile_of((9, 1))[0], profile_of((7, 1))[0]
    ('9.1', '7.2')
    """
    from migkit.scenario.versions import MEASURED, known_version

    shown = ".".join(map(str, version))
    try:
        name = known_version(f"{shown}.0").profile.name
    except ScenarioError as error:
        raise ScenarioError(error.problem, "version", shown) from None
    measured = name == shown and name in MEASURED
    return name, "" if measured else f"QEMU {shown} has the profile {name}, and no measured run here"


def ask_running(
    socket: str | os.PathLike[str],
    calc_times: Sequence[Any] | None = None,
    profile: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> RunningGuest:
    """Ask a running QEMU for its memory, parameters, capabilities, version and dirty rate.

    Parameters
    ----------
    socket : path
        Its QMP socket (``-qmp unix:PATH,server=on,wait=off``); it takes one client at a time.
    calc_times : sequence of times, optional
        Windows in which the dirty rate is measured, one after the other, each 50 ms to 60 s; up to QEMU 8.1 whole
        seconds. By default ten of 50 ms to 3 s, up to QEMU 8.1 five of 1 to 4 s: nine seconds in all.
    profile : str, optional
        Profile of a QEMU whose version is not known.
    progress : callable, optional
        Is given a sentence about what is being measured.

    Returns
    -------
    RunningGuest

    Raises
    ------
    ScenarioError
        If there is no such socket, no permission, or it is not QMP; if a migration is in progress, or the guest cannot
        be measured.
    Unfinished
        If QEMU ends meanwhile or does not answer.

    Examples
    --------
    >>> from migkit.qemu.running import ask_running
    >>> ask_running("/run/qemu/guest.qmp").ram_bytes  # doctest: +SKIP
    17179869184
    """
    from migkit.scenario.versions import profile as known

    if profile is not None:
        known(profile)
    times = None if calc_times is None else [float(parse_time(each)) for each in calc_times]
    if times is not None and not (1 <= len(times) <= 100 and all(0.05 <= each <= 60 for each in times)):
        raise ScenarioError("must be 1 to 100 times from 50 ms to 60 s", "calc_times", calc_times)
    return finished(_ask(os.fspath(socket), times, profile, progress or (lambda sentence: None)))


async def _ask(
    path: str, times: list[float] | None, profile: str | None, progress: Callable[[str], None]
) -> RunningGuest:
    conversation = _Conversation(path)
    try:
        await conversation.connect()
        return await _asked(conversation, times, profile, progress)
    except ScenarioError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise ScenarioError(f"answers {conversation.asked} as no QEMU does", "--qmp", path) from None
    finally:
        await conversation.close()


async def _asked(
    qmp: _Conversation, times: list[float] | None, profile: str | None, progress: Callable[[str], None]
) -> RunningGuest:
    import pandas as pd

    notes: list[str] = []
    version, package = await _version(qmp)
    if profile is None:
        profile, note = profile_of(version[:2])
        notes += [note] if note else []
        notes += _warnings(version, package)
    await _check_state(qmp)
    memory = await qmp.ask("query-memory-size-summary")
    ram = int(memory["base-memory"]) + int(memory.get("plugged-memory") or 0)
    capabilities = tuple(each["capability"] for each in await qmp.ask("query-migrate-capabilities") if each["state"])
    for name in capabilities:
        if name in _NO_PRECOPY:
            raise ScenarioError(f"is on, and then a migration is no pre-copy over a link: {_NO_PRECOPY[name]}", name)
    notes += [_NOTED[name] for name in capabilities if name in _NOTED]
    parameters = await qmp.ask("query-migrate-parameters")
    if "multifd" in capabilities and parameters.get("multifd-compression", "none") != "none":
        method = parameters["multifd-compression"]
        notes.append(f"multifd-compression is {method}, and not in the answer: only a migration tells what it makes of "
                     "pages")  # fmt: skip
    migration = _migration(parameters, capabilities, profile)
    accel = "kvm" if (await qmp.ask("query-kvm")).get("enabled") else "tcg"
    notes += await _devices(qmp)
    threads = [int(each["thread-id"]) for each in await qmp.ask("query-cpus-fast")]
    before = {thread: _cpu_time(thread) for thread in threads}
    rates = await _dirty_rates(qmp, ram, version[:2], times, progress)
    use = _use(before, {thread: _cpu_time(thread) for thread in threads})
    untouched = _untouched(threads, int(memory["base-memory"])) if threads else None
    table = pd.DataFrame(rates, columns=["window_s", "dirty_bytes_per_s", "sample_pages_per_gib", "sampled_pages"])
    return RunningGuest(qmp.path, ".".join(map(str, version)), profile, accel, ram, migration, capabilities, table,
                        untouched, use, tuple(notes), _ring(threads) if threads else None)  # fmt: skip


async def _version(qmp: _Conversation) -> tuple[tuple[int, int, int], str]:
    """Version and package."""
    said = await qmp.ask("query-version")
    try:
        numbers = said["qemu"]
        version = int(numbers["major"]), int(numbers["minor"]), int(numbers["micro"])
        return version, str(said.get("package") or "")
    except (KeyError, TypeError, ValueError):
        raise ScenarioError("does not say its version as QEMU does", "--qmp", qmp.path) from None


def _warnings(version: tuple[int, int, int], package: str) -> tuple[str, ...]:
    """What a distribution's build of the version may have besides."""
    from migkit.scenario.pasted_version import read_version
    from migkit.scenario.versions import known_version

    numbers = dict(zip(("major", "minor", "micro"), version, strict=True))
    return known_version(read_version({"qemu": numbers, "package": package}).text).warnings if package else ()


async def _check_state(qmp: _Conversation) -> None:
    """Refuse a guest that cannot be migrated now, or that writes nothing because it is stopped."""
    status = (await qmp.ask("query-migrate")).get("status")
    if status in _MIGRATING:
        raise ScenarioError(f"is being migrated (its status is {status}): ask again when that is over, or give what "
                            "query-migrate says to migkit read", "--qmp", qmp.path)  # fmt: skip
    state = await qmp.ask("query-status")
    if not state.get("running"):
        how = _GONE.get(state.get("status"), f"is {state.get('status')}")
        raise ScenarioError(f"has a guest that {how}: what it writes can be measured only while it runs", "--qmp",
                            qmp.path)  # fmt: skip


def _migration(parameters: Mapping[str, Any], capabilities: Sequence[str], profile: str) -> Migration:
    """Parameters as QMP names them; libvirt's number for no limit is read as 0."""
    from migkit.scenario.versions import profile as rules

    def rate(name: str) -> Rate:
        value = int(parameters.get(name) or 0)
        return Rate(0 if value >= 1e15 else value)

    supported = rules(profile)
    numbers = ("throttle_trigger_threshold", "cpu_throttle_initial", "cpu_throttle_increment", "max_cpu_throttle")
    given: dict[str, Any] = {
        name: int(parameters[name.replace("_", "-")]) for name in numbers if name.replace("_", "-") in parameters
    }
    limited = "dirty-limit" in capabilities and supported.supports_dirty_limit
    if limited:
        period_ms = int(parameters.get("x-vcpu-dirty-limit-period") or 1000)
        given |= {"vcpu_dirty_limit": int(parameters.get("vcpu-dirty-limit") or 1),
                  "x_vcpu_dirty_limit_period": Seconds(period_ms * 1e-3)}  # fmt: skip
    if "xbzrle" in capabilities and "xbzrle-cache-size" in parameters:
        given["xbzrle_cache_size"] = Bytes(int(parameters["xbzrle-cache-size"]))
    # without multifd the two other values are one
    detection = parameters.get("zero-page-detection")
    if supported.supports_zero_page_detection and (detection == "none" or "multifd" in capabilities):
        given["zero_page_detection"] = detection
    avail = rate("avail-switchover-bandwidth") if supported.supports_avail_switchover_bandwidth else Rate(0)
    return Migration(
        max_bandwidth=rate("max-bandwidth"),
        downtime_limit=Seconds(int(parameters["downtime-limit"]) * 1e-3),
        avail_switchover_bandwidth=avail,
        auto_converge="auto-converge" in capabilities,
        cpu_throttle_tailslow=bool(parameters.get("cpu-throttle-tailslow", False)),
        dirty_limit=limited,
        xbzrle="xbzrle" in capabilities,
        multifd="multifd" in capabilities,
        multifd_channels=int(parameters.get("multifd-channels") or Migration.model_fields["multifd_channels"].default),
        return_path="return-path" in capabilities or "switchover-ack" in capabilities,
        postcopy_ram="postcopy-ram" in capabilities,
        switchover_ack="switchover-ack" in capabilities and supported.supports_switchover_ack,
        **given,
    )


async def _devices(qmp: _Conversation) -> list[str]:
    """Devices with a state of their own that QMP does not tell the size of."""
    found = []
    for path in ("/machine/peripheral", "/machine/peripheral-anon"):
        with contextlib.suppress(Refused):
            found += [each["name"] for each in await qmp.ask("qom-list", path=path) if "<vfio-pci" in each["type"]]
    if not found:
        return []
    return [f"{len(found)} VFIO device{'s are' if len(found) > 1 else ' is'} not in the answer: QMP does not tell how "
            "much state there is"]  # fmt: skip


async def _dirty_rates(
    qmp: _Conversation, ram: int, version: tuple[int, int], times: list[float] | None,
    progress: Callable[[str], None],
) -> list[tuple[float, float, int, int]]:  # fmt: skip
    """Measure the dirty rate in one window after the other."""
    if ram < LEAST_BLOCK:
        raise ScenarioError("is less than 128 MiB, and QEMU's page sampling leaves such RAM out: its dirty rate cannot "
                            "be measured without a change in the guest", "RAM", f"{ram >> 20} MiB")  # fmt: skip
    fine = version >= IN_MILLISECONDS
    times = list(CALC_TIMES_S[fine]) if times is None else times
    if not fine and any(each != round(each) for each in times):
        raise ScenarioError("must be whole seconds up to QEMU 8.1", "calc_times", times)
    sample = min(max(MOST_PAGES * GIB // ram, SAMPLE_RANGE[0]), SAMPLE_RANGE[1])
    found = []
    for number, seconds in enumerate(times, start=1):
        progress(f"dirty rate over {seconds:g} s, {number} of {len(times)}")
        # Whole seconds from a second on: the unit is a newer name.
        unit = {"calc-time-unit": "millisecond"} if fine and seconds != round(seconds) else {}
        asked = round(seconds * 1e3) if unit else round(seconds)
        arguments = {"calc-time": asked, "sample-pages": sample, "mode": "page-sampling", **unit}
        try:
            await qmp.ask("calc-dirty-rate", **arguments)
        except Refused as refused:
            raise ScenarioError(f"cannot measure the dirty rate: {refused}", "--qmp", qmp.path) from None
        until = time.monotonic() + seconds + ANSWER_S
        await asyncio.sleep(seconds)
        while (answer := await qmp.ask("query-dirty-rate")).get("status") != "measured":
            if time.monotonic() > until:
                raise Unfinished(f"The QEMU at {qmp.shown} did not finish measuring the dirty rate over {seconds:g} s.")
            await asyncio.sleep(0.02)
        pages = int(answer.get("sample-pages") or sample)
        rate = float(answer.get("dirty-rate", 0))
        found.append((seconds, max(rate, 0.0) * MIB, pages, max(1, pages * ram // GIB)))
    return found


# --- this machine's /proc ------------------------------------------------------------------------


def _process(thread: int) -> Path | None:
    """The folder of the process of a thread in ``/proc``, if it is a QEMU of this machine."""
    try:
        status = Path(f"/proc/{thread}/status").read_text()
        group = next(line.split()[1] for line in status.splitlines() if line.startswith("Tgid:"))
        folder = Path("/proc") / group
        return folder if b"qemu" in (folder / "cmdline").read_bytes().lower() else None
    except (OSError, StopIteration):
        return None


def _cpu_time(thread: int) -> tuple[float, float] | None:
    """Seconds of CPU that a vCPU's thread has used, and when."""
    if (folder := _process(thread)) is None:
        return None
    try:
        fields = (folder / "task" / str(thread) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), time.monotonic()


def _use(before: Mapping[int, Any], after: Mapping[int, Any]) -> float | None:
    """Share of their time that vCPUs ran, each weighted by its use: busy ones are those that write."""
    pairs = [(before[thread], after[thread]) for thread in before]
    if not pairs or any(first is None or last is None for first, last in pairs):
        return None
    uses = [min(1.0, (last[0] - first[0]) / (last[1] - first[1])) for first, last in pairs]
    return sum(use * use for use in uses) / sum(uses) if sum(uses) > 0 else 0.0


def _untouched(threads: Sequence[int], ram: int) -> int | None:
    """Memory of the guest that was never touched, from the mapping that has its size; swapped pages were touched."""
    if (folder := _process(threads[0])) is None:
        return None
    try:
        lines = (folder / "smaps").read_text().splitlines()
    except OSError:
        return None
    sizes: dict[str, int] = {}
    for line in lines:
        name, _, rest = line.partition(":")
        if name == "Size":
            sizes = {}
        if name in ("Size", "Rss", "Swap", "Private_Hugetlb", "Shared_Hugetlb"):
            sizes[name] = int(rest.split()[0]) * 1024
        if name == "VmFlags" and sizes.get("Size") == ram:
            return max(0, ram - sum(size for kind, size in sizes.items() if kind != "Size"))
    return None


def _ring(threads: Sequence[int]) -> int | None:
    """Entries of the dirty ring, from the command line of QEMU; 0 where it asks for none."""
    if (folder := _process(threads[0])) is None:
        return None
    try:
        found = re.search(rb"dirty-ring-size=(\d+)", (folder / "cmdline").read_bytes())
    except OSError:
        return None
    return int(found[1]) if found else 0


# --- QMP -----------------------------------------------------------------------------------------


@dataclass
class _Conversation:
    """A QMP connection to a QEMU that somebody else has started."""

    path: str
    asked: str = "nothing"
    _client: Any = field(default=None, repr=False)
    _socket: sockets.socket | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The path, for a sentence."""
        return legible(self.path, 120)

    async def connect(self) -> None:
        """Connect, or say why not."""
        self._client = client("predict", "migkit predict")
        self._socket = _opened(self.path)
        from qemu.qmp import ConnectError

        try:
            await asyncio.wait_for(self._client.connect(self._socket), CONNECT_S)
        except TimeoutError:
            raise Unfinished(
                f"Nothing answers at {self.shown} within {CONNECT_S:g} s: QEMU takes one QMP client at a time and "
                "another one may be connected, or it is stopped."
            ) from None
        except ConnectError as error:
            cause = error.__cause__ or error.__context__
            if isinstance(cause, EOFError | ConnectionError | BrokenPipeError):
                raise Unfinished(f"The program at {self.shown} closed the connection before it answered.") from None
            raise ScenarioError("is not a QMP socket: what answers there does not greet as QEMU does; the option is "
                                "-qmp unix:PATH,server=on,wait=off", "--qmp", self.path) from None  # fmt: skip

    async def ask(self, command: str, **arguments: Any) -> Any:
        """Run a command.

        Raises
        ------
        Refused
            If QEMU refuses it.
        Unfinished
            If QEMU is gone or does not answer.
        """
        from qemu.qmp import ExecuteError, QMPError

        self.asked = command
        try:
            return await asyncio.wait_for(self._client.execute(command, arguments or None), ANSWER_S)
        except ExecuteError as error:
            if command in ("calc-dirty-rate", "qom-list"):
                raise Refused(str(error).rstrip(".")) from None
            raise ScenarioError(f"refuses {command}: {str(error).rstrip('.')}", "--qmp", self.path) from None
        except TimeoutError:
            raise Unfinished(f"The QEMU at {self.shown} does not answer {command} within {ANSWER_S:g} s.") from None
        except (QMPError, OSError, EOFError):
            raise Unfinished(f"The QEMU at {self.shown} ended, or closed the connection, before it answered "
                             f"{command}.") from None  # fmt: skip

    async def close(self) -> None:
        """Disconnect, whatever state the connection is in."""
        if self._client is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._client.disconnect(), 2.0)
        if self._socket is not None:
            self._socket.close()


def _opened(path: str) -> sockets.socket:
    """Connect to a socket, or say why not."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.EACCES:
            raise ScenarioError("cannot be reached: no permission to enter its folder", "--qmp", path) from None
        raise ScenarioError("does not exist: give the QMP socket of a running QEMU, made with "
                            "-qmp unix:PATH,server=on,wait=off", "--qmp", path) from None  # fmt: skip
    if not stat.S_ISSOCK(mode):
        raise ScenarioError("is not a socket: give the QMP socket of a running QEMU", "--qmp", path)
    opened = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
    opened.settimeout(CONNECT_S)
    try:
        opened.connect(path)
    except OSError as error:
        opened.close()
        if isinstance(error, PermissionError):
            raise ScenarioError("cannot be opened: no permission; run as the user that runs QEMU, or as root", "--qmp",
                                path) from None  # fmt: skip
        if isinstance(error, ConnectionRefusedError):
            raise ScenarioError("has nobody behind it: the QEMU that made it is gone", "--qmp", path) from None
        if isinstance(error, TimeoutError | BlockingIOError):
            raise Unfinished(f"Nothing answers at {legible(path, 120)} within {CONNECT_S:g} s.") from None
        raise ScenarioError(f"cannot be opened: {error.strerror or error}", "--qmp", path) from None
    opened.setblocking(False)
    return opened
