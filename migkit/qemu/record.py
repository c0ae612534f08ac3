"""Record migrations of real QEMU on this machine: ``migkit record``."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from migkit.qemu import host, preloaded
from migkit.qemu.binary import Binary, find
from migkit.qemu.migrate import migrate
from migkit.qemu.plan import Plan
from migkit.run.whole_file import new_file
from migkit.scenario.errors import ScenarioError, Unfinished

SUFFIX = ".json.gz"
Result = TypeVar("Result")
_WORD = re.compile(r"[A-Za-z0-9.=+-]+(_[A-Za-z0-9.=+-]+)*")


def record(
    output: str | os.PathLike[str],
    plan: Plan | None = None,
    *,
    repeats: int = 1,
    name: str | None = None,
    group: str = "R",
    qemu: str | Binary | None = None,
    qemu_root: str | os.PathLike[str] | None = None,
    progress: Callable[[str], None] | None = None,
    **fields: Any,
) -> list[str]:
    """Record migrations between two QEMUs on this machine.

    Each run starts a source and a destination, lets a small boot program dirty memory, migrates over loopback, polls
    ``query-migrate`` every 50 ms, and writes one file when it is over. However it ends, processes and sockets are gone
    afterwards.

    Parameters
    ----------
    output : path
        Folder for the runs; made if it is missing. Runs in it are kept: repeats are numbered on.
    plan : Plan, optional
        Guest, link, parameters and capabilities.
    repeats : int, default 1
        Runs to record, at least 1.
    name, group : str, optional
        Of the runs, which are called ``group__name__build__rREPEAT``; letters, digits and single underscores. Runs of
        one name are repeats of one another; the default is made from the plan, by :func:`name_of`.
    qemu : str or Binary, optional
        Program, a command that ends with it, or one that :func:`migkit.qemu.binary.installed` found. The default is the
        system's ``qemu-system-x86_64``.
    qemu_root : path, optional
        Folder with unpacked packages of Debian, instead of `qemu`.
    progress : callable, optional
        Is given a sentence about each run.
    **fields
        Fields of :class:`Plan`, which replace those of `plan`.

    Returns
    -------
    list of str
        Names of the runs, for :func:`migkit.qemu.trace` and :func:`migkit.qemu.runs` with `output` as their `path`.

    Raises
    ------
    ScenarioError
        If a value is not allowed, there is no such QEMU, no KVM or too little memory, or QEMU refuses a setting.
    Unfinished
        If a run cannot be finished; those before it are kept.

    Examples
    --------
    >>> from migkit import qemu
    >>> names = qemu.record("runs", ram="512 MiB", regions=[{"size": "64 MiB", "rate": "50 MB/s"}])  # doctest: +SKIP
    >>> qemu.runs("runs").loc[names[0], "outcome"]  # doctest: +SKIP
    'completed'
    """
    plan = _planned(plan, fields)
    name = name_of(plan) if name is None else name
    for field, value in (("name", name), ("group", group)):
        if not _WORD.fullmatch(value):
            raise ScenarioError("is not made of letters, digits and single underscores", field, value)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= 1000:
        raise ScenarioError(
            "is outside the allowed range: it must be a whole number from 1 to 1000", "repeats", repeats
        )
    binary = qemu if isinstance(qemu, Binary) else find(qemu, qemu_root)
    if plan.device is not None:
        preloaded.environment(plan.device, binary.version)  # an unknown version is refused before anything starts
    host.check(plan.ram, plan.accel, plan.backing)
    folder = Path(output)
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _repeated(folder, plan, binary, repeats, f"{group}__{name}__{binary.build}", progress)
    finally:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if nothing was recorded


def _planned(plan: Plan | None, fields: dict[str, Any]) -> Plan:
    if plan is None:
        return Plan(**fields)
    if not isinstance(plan, Plan):
        raise ScenarioError("is not a Plan: give a migkit.qemu.Plan, or its fields by name", "plan", plan)
    return plan.changed(**fields) if fields else plan


def name_of(plan: Plan) -> str:
    """Make the name of a configuration: what is read most often, and a digest of all of it.

    Parameters
    ----------
    plan : Plan
        The configuration.

    Returns
    -------
    str

    Examples
    --------
    >>> name_of(Plan(regions=[{"size": "64 MiB", "rate": "50 MB/s"}], downtime_limit="100 ms"))[:-5]
    'bw128_ws64_uniform_12207_dt100'
    """
    words = [f"bw{_mib(plan.max_bandwidth)}"]
    if plan.link:
        words.append(f"link{_mib(plan.link)}")
    for region in plan.regions[:1]:
        writes = "max" if region.writes_per_s is None else region.writes_per_s
        words.append(f"ws{_mib(region.size)}_{region.pattern}_{writes}")
    words.append(f"dt{round(float(plan.downtime_limit) * 1e3)}")
    digest = hashlib.sha256(plan.model_dump_json().encode()).hexdigest()[:4]
    return "_".join([*words, *plan.capabilities, digest])


def _mib(value: float) -> str:
    return f"{value / (1 << 20):.4g}"


def _repeated(
    folder: Path, plan: Plan, binary: Binary, repeats: int, configuration: str, progress: Callable[[str], None] | None
) -> list[str]:
    """Record run after run; each is written before the next one starts."""
    names: list[str] = []
    try:
        for _ in range(repeats):
            host.check(plan.ram, plan.accel, plan.backing)
            recording = finished(migrate(plan, binary))
            names.append(write(folder, configuration, recording))
            if progress is not None:
                progress(sentence(names[-1], recording))
    except Unfinished as unfinished:
        kept = f" {len(names)} of {repeats} runs were recorded before and are kept." if names else ""
        raise Unfinished(f"{unfinished}{kept}") from None
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"{len(names)} of {repeats} runs were recorded and are in {folder}")
        raise
    return names


def finished(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, in a thread where a notebook has an event loop of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    done: list[Any] = []
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)

    def run() -> None:
        try:
            done.append((loop.run_until_complete(task), None))
        except BaseException as error:
            done.append((None, error))
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    result, error = done[0]
    if error is not None:
        raise error
    return result


def write(folder: Path, configuration: str, recording: dict[str, Any]) -> str:
    """Write one recording as a file of its own, numbered after those that are there.

    Parameters
    ----------
    folder : path
        Where.
    configuration : str
        ``group__name__build``.
    recording : dict
        From :func:`migkit.qemu.migrate.migrate`; its configuration is completed with these names.

    Returns
    -------
    str
        The name of the run.
    """
    group, name, build = configuration.split("__")
    number = len(list(folder.glob(f"{configuration}__r*{SUFFIX}")))
    while True:
        recording["config"] |= {"group": group, "name": name, "build": build, "rep": number}
        data = gzip.compress(json.dumps(recording, separators=(",", ":")).encode(), mtime=0)
        try:
            with new_file(folder / f"{configuration}__r{number}{SUFFIX}") as file:
                file.write(data)
        except FileExistsError:
            number += 1
            continue
        return f"{configuration}__r{number}"


def sentence(run: str, recording: dict[str, Any]) -> str:
    """Say in a sentence how a recorded migration ended.

    Parameters
    ----------
    run : str
        Its name.
    recording : dict
        The recording.

    Returns
    -------
    str

    Examples
    --------
    >>> sentence("R__a__deb72__r0", {"outcome": "completed", "total_time_ms": 1200, "downtime_ms": 40,
    ...                              "final": {"ram": {"transferred": 2 * 10**8, "dirty-sync-count": 4}}})
    'R__a__deb72__r0: completed in 1.200 s, downtime 40 ms, 200 MB, 4 syncs'
    """
    ram = recording["final"].get("ram") or recording.get("final_active", {}).get("ram") or {}
    sent = f"{ram.get('transferred', 0) / 1e6:.0f} MB, {ram.get('dirty-sync-count', 0)} syncs"
    if recording["outcome"] == "completed":
        seconds = recording["total_time_ms"] / 1e3
        return f"{run}: completed in {seconds:.3f} s, downtime {recording['downtime_ms']} ms, {sent}"
    return f"{run}: not converged, cancelled after {recording['cancelled_at_s']:.1f} s, {sent}"
