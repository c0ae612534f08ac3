"""One migration of real QEMU: start both sides, migrate, poll, and say what was seen."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from migkit.qemu import host, preloaded, trace_points
from migkit.qemu.binary import Binary
from migkit.qemu.guest import PAGE, REPORT_MS, Counters, SerialPort, image
from migkit.qemu.monitor import Monitor, Refused
from migkit.qemu.plan import Change, Plan
from migkit.qemu.processes import Processes
from migkit.scenario.errors import ScenarioError, Unfinished

RELAY = Path(__file__).with_name("link_relay.py")
POLL_S = 0.05
READY_S, READY_PER_GIB_S = 30.0, 30.0
RESUME_S = 10.0
POSTCOPY_GRACE_S = 120.0
"""How much longer than the time limit a migration in post-copy may take: it cannot be cancelled."""
ENDED = "completed", "failed", "cancelled"
IN_POSTCOPY = "postcopy-active", "postcopy-device", "postcopy-paused", "postcopy-recover"
_RAM = {
    "transferred": "transferred",
    "remaining": "remaining",
    "total": "total",
    "duplicate": "duplicate",
    "normal": "normal",
    "mbps": "mbps",
    "dirty_pages_rate": "dirty-pages-rate",
    "pages_per_second": "pages-per-second",
    "dirty_sync_count": "dirty-sync-count",
    "precopy_bytes": "precopy-bytes",
    "downtime_bytes": "downtime-bytes",
}
SAMPLE = [
    "t_ms", "status", "total_time_ms", "expected_downtime_ms", "downtime_ms", "setup_time_ms", *_RAM, "throttle_pct",
    "disk_transferred", "disk_remaining", "poll_us",
]  # fmt: skip
SAMPLE_EXTRA = [
    "t_ms",
    "multifd_bytes",
    "postcopy_bytes",
    "postcopy_requests",
    "xbzrle_bytes",
    "xbzrle_pages",
    "xbzrle_cache_miss",
    "xbzrle_overflow",
    "dirty_limit_us",
]


async def migrate(plan: Plan, binary: Binary) -> dict[str, Any]:
    """Run one migration.

    Parameters
    ----------
    plan : Plan
        What to run.
    binary : Binary
        The QEMU for both sides.

    Returns
    -------
    dict
        The recording: configuration, outcome, answers, samples, events, counters of the guest, the host, and the trace
        where one was asked for. ``migkit.qemu.tables`` makes rows of it.

    Raises
    ------
    ScenarioError
        If this QEMU or this machine cannot do what the plan asks for.
    Unfinished
        If a process ends midway, does not answer, or the migration fails.
    """
    async with Processes() as processes:
        migration = _Migration(plan, binary, processes)
        try:
            return await migration.run()
        finally:
            await migration.close()


@dataclass
class _Migration:
    plan: Plan
    binary: Binary
    processes: Processes
    ports: dict[str, SerialPort] = field(default_factory=dict)
    monitors: dict[str, Monitor] = field(default_factory=dict)
    readers: list[asyncio.Task[None]] = field(default_factory=list)
    done: list[tuple[float, str, int | str]] = field(default_factory=list)
    samples: list[list[Any]] = field(default_factory=list)
    extra: list[list[Any]] = field(default_factory=list)
    active: dict[str, Any] = field(default_factory=dict)
    started: float = 0.0

    async def run(self) -> dict[str, Any]:
        """Start, migrate, and return the recording."""
        plan = self.plan
        (self.processes.folder / "guest.bin").write_bytes(image(plan.ram, plan.zero_share, plan.regions))
        await asyncio.gather(self._start("source"), self._start("destination"))
        port = await self._listen()
        if plan.link:
            port = await self._relay(port)
        await self._configure()
        ready_s = await self._ready()
        await self._warm_up()
        before = host.load(self.processes.pids)
        outcome, final, cancelled_at = await self._migrate(port)
        if outcome == "completed":
            await self._resumed()
            final = await self._poll()  # the state completes before the times of the migration are known
        ended = time.time()
        for monitor in self.monitors.values():
            await monitor.collect()
        return {
            "config": config(plan, self.binary),
            "build": self.binary.build,
            "accel": plan.accel,
            "qemu": {"version": self.binary.version, "package": self.binary.package, "argv": list(self.binary.argv)},
            "started": self.started,
            "host": host.used(before, host.load(self.processes.pids)),
            "outcome": outcome,
            "total_time_ms": final.get("total-time"),
            "downtime_ms": final.get("downtime"),
            **self._downtime(outcome),
            "end_ms": self._ms(ended),
            "cancelled_at_s": cancelled_at,
            "final": final,
            "final_active": self.active,
            "changes": [[self._ms(at), name, value] for at, name, value in self.done],
            "guest": self._guest(ready_s),
            **self._devices(),
            "samples": {"cols": SAMPLE, "rows": self.samples},
            "samples_extra": {"cols": SAMPLE_EXTRA, "rows": self.extra},
            "events": self._events(),
            "trace": trace_points.read(self._log, self.started) if plan.trace else None,
            "output": {name: self.processes.output(name)[-2000:] for name in self.monitors},
        }

    async def close(self) -> None:
        """Close connections; processes are ended elsewhere."""
        for reader in self.readers:
            reader.cancel()
        await asyncio.gather(*self.readers, return_exceptions=True)
        for monitor in self.monitors.values():
            await monitor.close()

    @property
    def _log(self) -> Path:
        return self.processes.folder / "source.log"

    def _ms(self, at: float) -> float:
        return round((at - self.started) * 1e3, 3)

    async def _start(self, name: str) -> None:
        """Start one side and connect to its monitor and its serial port."""
        folder, plan = self.processes.folder, self.plan
        sockets = {kind: str(folder / f"{name}.{kind}") for kind in ("qmp", "serial")}
        argv = [
            *self.binary.argv, "-name", f"migkit-{name}", "-no-user-config", "-nodefaults", "-display", "none",
            "-vga", "none", *plan.memory, "-accel", plan.accelerator, "-smp", "1",
            *self.binary.arguments, "-bios", str(folder / "guest.bin"), "-S",
        ]  # fmt: skip
        for kind, path in sockets.items():
            argv += ["-chardev", f"socket,id={kind},path={path},server=on,wait=off"]
        argv += ["-mon", "chardev=qmp,mode=control", "-serial", "chardev:serial"]
        if name == "destination":
            argv.remove("-S")
            argv += ["-incoming", "defer"]
        elif plan.trace:
            argv += trace_points.arguments(self._log)
        environment = os.environ | self.binary.environment
        if plan.device is not None:
            environment |= preloaded.environment(plan.device, self.binary.version, self.processes.folder / "device.log")
        await self.processes.start(name, argv, environment)
        monitor = self.monitors[name] = Monitor(name, self.processes)
        await monitor.connect(sockets["qmp"])
        port = self.ports[name] = SerialPort()
        reader, writer = await asyncio.open_unix_connection(sockets["serial"])
        self.readers.append(asyncio.create_task(_read(reader, writer, port)))

    async def _listen(self) -> int:
        """Let the destination listen; the port."""
        destination = self.monitors["destination"]
        await self._both("migrate-set-capabilities", capabilities=self._capabilities())
        await self._parameters({name: value for name, value in self._all_parameters().items() if "multifd" in name})
        wanted = self.plan.port
        try:
            await destination.ask("migrate-incoming", uri=f"tcp:127.0.0.1:{wanted or 0}")
        except Refused as refused:
            if wanted is not None:
                raise ScenarioError(f"cannot be listened at: {refused}", "port", wanted) from None
            raise Unfinished(f"The destination QEMU cannot listen on loopback: {refused}.") from None
        if wanted is not None:
            return wanted
        addresses = (await destination.ask("query-migrate")).get("socket-address") or []
        if not addresses:
            raise Unfinished("The destination QEMU does not say at which port it listens.")
        return int(addresses[0]["port"])

    async def _relay(self, port: int) -> int:
        """Start the paced link; the port at which it listens."""
        burst = str(int(self.plan.link_burst))
        argv = [sys.executable, "-I", "-S", str(RELAY), str(int(self.plan.link)), burst, burst, str(port)]
        await self.processes.start("link", argv, dict(os.environ))
        for _ in range(1000):
            said = self.processes.output("link")
            if said.endswith("\n") and said.strip().isdigit():
                return int(said)
            if "link" in self.processes.ended:
                raise Unfinished(f"The relay {self.processes.how_it_ended('link')}.")
            await asyncio.sleep(0.01)
        raise Unfinished("The relay does not say at which port it listens.")

    def _capabilities(self) -> list[dict[str, Any]]:
        return [{"capability": name, "state": True} for name in ("events", *self.plan.capabilities)]

    def _all_parameters(self) -> dict[str, int | str]:
        return self.plan.qmp_parameters()

    async def _both(self, command: str, **arguments: Any) -> None:
        for monitor in self.monitors.values():
            try:
                await monitor.ask(command, **arguments)
            except Refused as refused:
                raise ScenarioError(f"QEMU {self.binary.version} refuses {command}: {refused}") from None

    async def _parameters(self, parameters: dict[str, int | str]) -> None:
        if parameters:
            await self._both("migrate-set-parameters", **parameters)

    async def _configure(self) -> None:
        await self._parameters({n: value for n, value in self._all_parameters().items() if "multifd" not in n})

    async def _ready(self) -> float:
        """Start the guest and wait for its signal; how long it took."""
        source, port = self.monitors["source"], self.ports["source"]
        begin = time.time()
        await source.ask("cont")
        limit = READY_S + READY_PER_GIB_S * self.plan.ram / (1 << 30)
        while port.ready_at is None:
            if time.time() - begin > limit:
                raise Unfinished(f"The guest was not ready within {limit:.0f} s, so nothing was migrated.")
            status = (await source.ask("query-status"))["status"]
            if status != "running":
                raise Unfinished(f"The guest stopped before it was ready (its status is {status}).")
            await asyncio.sleep(0.02)
        return round(port.ready_at - begin, 3)

    async def _warm_up(self) -> None:
        """Let the guest write for as long as the plan says, and at least until it has counted twice."""
        port = self.ports["source"]
        assert port.ready_at is not None
        await asyncio.sleep(max(0.0, port.ready_at + float(self.plan.warm_up) - time.time()))
        for _ in range(400):
            if len(port.counters) >= 2:
                return
            await asyncio.sleep(0.05)
        raise Unfinished("The guest was ready but did not report its counters, so nothing was migrated.")

    async def _migrate(self, port: int) -> tuple[str, dict[str, Any], float | None]:
        """Migrate and poll; outcome, the last answer, and when it was cancelled (seconds)."""
        source, plan = self.monitors["source"], self.plan
        todo = sorted(
            [(float(change.time), change) for change in plan.changes]
            + ([(float(plan.postcopy_at), None)] if plan.postcopy_at is not None else []),
            key=lambda each: each[0],
        )
        limit, cancelled_at = float(plan.time_limit), None
        self.started = time.time()
        try:
            await source.ask("migrate", uri=f"tcp:127.0.0.1:{port}")
        except Refused as refused:
            raise ScenarioError(f"QEMU {self.binary.version} refuses to migrate: {refused}") from None
        while True:
            answer = await self._poll()
            status = answer.get("status")
            if status in ENDED:
                break
            for name in self.processes.ended:
                if cancelled_at is None or name == "source":  # the destination ends when the stream does
                    raise self._died(name)
            now = time.time() - self.started
            if now >= limit and status not in IN_POSTCOPY:
                if cancelled_at is None:
                    cancelled_at = round(now, 3)
                    await source.ask("migrate_cancel")
                elif now > cancelled_at + RESUME_S:
                    raise Unfinished(f"The migration could not be cancelled: its status is {status}.")
            elif now >= limit + POSTCOPY_GRACE_S:
                raise Unfinished(f"The migration is still in the state {status} after {now:.0f} s.")
            while todo and todo[0][0] <= now:
                await self._change(todo.pop(0)[1])
            next_poll = (now // POLL_S + 1) * POLL_S
            due = [at for at, _ in todo[:1]] + ([limit] if now < limit else [])
            await asyncio.sleep(max(0.0, min([next_poll, *due]) - (time.time() - self.started)))
        if status == "failed":
            for name in self.processes.pids:
                if await self.processes.has_ended(name, 0.5):
                    raise self._died(name)
            why = answer.get("error-desc") or self.processes.said("destination") or "QEMU does not say why"
            raise Unfinished(f"The migration failed: {str(why).rstrip('.')}.")
        return ("completed" if status == "completed" else "not_converged"), answer, cancelled_at

    def _died(self, name: str) -> Unfinished:
        who = "relay" if name == "link" else f"{name} QEMU"
        return Unfinished(f"The {who} {self.processes.how_it_ended(name)} (while it migrated).")

    async def _change(self, change: Change | None) -> None:
        """Change a parameter, or start post-copy."""
        source = self.monitors["source"]
        at = time.time()
        try:
            if change is None:
                await source.ask("migrate-start-postcopy")
                self.done.append((at, "migrate-start-postcopy", ""))
            else:
                await source.ask("migrate-set-parameters", **{change.parameter: change.value})
                self.done.append((at, change.parameter, change.value))
        except Refused as refused:
            what = "migrate-start-postcopy" if change is None else change.parameter
            status = (await source.ask("query-migrate")).get("status")
            if status not in ENDED:  # too late is no error: it has completed meanwhile
                raise ScenarioError(f"QEMU {self.binary.version} refuses {what}: {refused}") from None

    async def _poll(self) -> dict[str, Any]:
        """Ask how far the migration is, and append the answer to the samples."""
        source = self.monitors["source"]
        begin = time.time()
        answer = dict(await source.ask("query-migrate"))
        poll_us = round((time.time() - begin) * 1e6)
        await source.collect()
        ram, disk = answer.get("ram") or {}, answer.get("disk") or {}
        t_ms = round(self._ms(begin), 1)
        times = [answer.get(name) for name in ("total-time", "expected-downtime", "downtime", "setup-time")]
        sizes = [ram.get(name) for name in _RAM.values()]
        throttle = answer.get("cpu-throttle-percentage")
        row = [t_ms, answer.get("status"), *times, *sizes, throttle, disk.get("transferred"), disk.get("remaining")]
        self.samples.append([*row, poll_us])
        extra = [ram.get(name) for name in ("multifd-bytes", "postcopy-bytes", "postcopy-requests")]
        cache = answer.get("xbzrle-cache") or {}
        self.extra.append(
            [
                t_ms,
                *extra,
                cache.get("bytes"),
                cache.get("pages"),
                cache.get("cache-miss"),
                cache.get("overflow"),
                answer.get("dirty-limit-throttle-time-per-round"),
            ]
        )
        if answer.get("status") == "active":
            self.active = answer
        return answer

    async def _resumed(self) -> None:
        """Wait until the destination runs and its guest has counted."""
        destination, port = self.monitors["destination"], self.ports["destination"]
        begin = time.time()
        while time.time() - begin < RESUME_S:
            await destination.collect()
            if any(event == "RESUME" for _, event, _ in destination.events):
                break
            await asyncio.sleep(0.01)
        else:
            raise Unfinished(f"The migration completed but the destination did not run within {RESUME_S:.0f} s.")
        begin = time.time()
        while not port.counters and time.time() - begin < 4 * REPORT_MS / 1e3:
            await asyncio.sleep(0.02)

    def _devices(self) -> dict[str, Any]:
        """What the preloaded devices did."""
        if self.plan.device is None:
            return {"devices": [], "devices_dst": [], "device_log": None}
        log = preloaded.read_log(self.processes.folder / "device.log", self.started)
        return {"devices": log.pop("devices"), "devices_dst": log.pop("devices_dst"), "device_log": log}

    def _events(self) -> list[list[Any]]:
        rows = [
            [self._ms(at), {"source": "src", "destination": "dst"}[name], event, data]
            for name, monitor in self.monitors.items()
            for at, event, data in monitor.events
            if at >= self.started
        ]
        return sorted(rows, key=lambda row: row[0])

    def _downtime(self, outcome: str) -> dict[str, Any]:
        """When the source stopped, and for how long nobody ran."""
        stop = next((row[0] for row in self._events() if row[1:3] == ["src", "STOP"]), None)
        resume = next((row[0] for row in self._events() if row[1:3] == ["dst", "RESUME"]), None)
        wall = round(resume - stop, 3) if outcome == "completed" and stop is not None and resume is not None else None
        return {"stop_at_ms": stop, "downtime_wall_ms": wall}

    def _guest(self, ready_s: float) -> dict[str, Any]:
        """Counters of the guest: all, and those before, at the start, a second later and at the end."""
        port = self.ports["source"]
        before = [each for each in port.counters if each.time < self.started]
        during = [each for each in port.counters if each.time >= self.started]
        start = before[-1]
        first = next((each for each in reversed(before) if each.time <= start.time - 0.95), before[0])
        middle = next((each for each in during if each.time >= self.started + 1), None)
        rows = [
            [self._ms(each.time), side, each.cycles, each.overruns, each.wakeups, *each.writes]
            for side, name in (("src", "source"), ("dst", "destination"))
            for each in self.ports[name].counters
        ]
        rates = [region.writes_per_s for region in self.plan.regions]
        return {
            "ready_s": ready_s,
            "cycles_per_s": port.cycles_per_s,
            "pre": [_reading(first), _reading(start)],
            "mid": _reading(middle),
            "end": _reading(during[-1] if during else None),
            "target_pages_s": None if None in rates else sum(rate for rate in rates if rate is not None),
            "pre_pages_s": _rate(first, start),
            "counters": {"cols": ["t_ms", "side", "cycles", "overruns", "wakeups", "writes"], "rows": rows},
        }


def _reading(counters: Counters | None) -> dict[str, Any] | None:
    if counters is None:
        return None
    return {
        "t": counters.time,
        "writes": sum(counters.writes),
        "tsc": counters.cycles,
        "overruns": counters.overruns,
        "wakeups": counters.wakeups,
    }


def _rate(first: Counters, last: Counters) -> float | None:
    """Page writes per second between two times."""
    seconds = last.time - first.time
    return round((sum(last.writes) - sum(first.writes)) / seconds, 1) if seconds > 0 else None


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: SerialPort) -> None:
    """Read a serial port until it ends."""
    try:
        while data := await reader.read(65536):
            port.feed(data, time.time())
    except OSError:
        pass  # QEMU was killed: its monitor says so too
    finally:
        writer.close()


def config(plan: Plan, binary: Binary) -> dict[str, Any]:
    """The configuration of a recording, with the keys of the earlier ones; `plan` has all of it.

    Parameters
    ----------
    plan : Plan
        What was run.
    binary : Binary
        By which QEMU.

    Returns
    -------
    dict
    """
    first = plan.regions[0] if plan.regions else None
    rates = [region.writes_per_s for region in plan.regions]
    rate: int | str = "max" if None in rates else sum(rate for rate in rates if rate is not None)
    mib = 1 << 20
    return {
        "build": binary.build,
        "accel": plan.accel,
        "ram": plan.ram // mib,
        "ws": sum(region.size for region in plan.regions) / mib,
        "rate": rate,
        "mode": "seq" if first is not None and first.pattern == "sequential" else "rand",
        "bw": float(plan.max_bandwidth) / mib,
        "link": float(plan.link) / mib,
        "sndbuf": 0,
        "dt": round(float(plan.downtime_limit) * 1e3),
        "caps": [*plan.capabilities, "events"],
        "devs": [] if plan.device is None else preloaded.sizes(plan.device),
        "blk": 0,
        "limit": float(plan.time_limit),
        "warm": float(plan.warm_up),
        "poll": round(POLL_S * 1e3),
        "delay": first.delay if first is not None else 0,
        "extra": dict(plan.parameters),
        "transport": "tcp",
        "multifd": plan.multifd_channels if "multifd" in plan.capabilities else 0,
        "trace": plan.trace,
        "postcopy_at": None if plan.postcopy_at is None else float(plan.postcopy_at),
        "payload": {
            "ramend": int(plan.ram),
            "wsstart": int(first.start) if first is not None else 2 * mib,
            "wspages": first.size // PAGE if first is not None else 0,
            "maxb": None if first is None or first.writes_per_s is None else round(first.writes_per_s * 0.05),
        },
        "plan": plan.model_dump(mode="json"),
        "regions": [
            {
                "start_bytes": int(region.start),
                "size_bytes": int(region.size),
                "pattern": region.pattern,
                "rate_bytes_per_s": None if region.writes_per_s is None else float(region.writes_per_s * PAGE),
                "at_full_speed": region.writes_per_s is None,
                "delay": region.delay,
            }
            for region in plan.regions
        ],
    }
