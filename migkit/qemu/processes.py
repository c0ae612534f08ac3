"""The processes of one recording, started and ended through ``supervisor.py``."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from migkit.scenario.errors import Unfinished

SUPERVISOR = Path(__file__).with_name("supervisor.py")
_ANSWER_S, _END_S = 30.0, 15.0
_SHOWN_CHARACTERS = 200


class Processes:
    """Processes that end with the recorder, and a private folder that is removed with them.

    An asynchronous context manager; on leaving it every process is killed and reaped, and the folder removed.

    Attributes
    ----------
    folder : Path
        The private folder.
    pids : dict
        Process ids by name, of every process that was started.
    ended : dict
        Exit status by name, negative for a signal.
    """

    folder: Path

    def __init__(self) -> None:
        self.pids: dict[str, int] = {}
        self.ended: dict[str, int] = {}
        self._errors: dict[str, str] = {}
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SUPERVISOR)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches the recorder, which then ends this one
        )
        try:
            assert self._process.stdout is not None
            reader = asyncio.StreamReader()
            self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout
            )
            first = await asyncio.wait_for(reader.readline(), _ANSWER_S)
            if not first:
                raise Unfinished("No private folder for sockets could be made: check TMPDIR, and that it is not full.")
            self.folder = Path(json.loads(first)["folder"])
            self._listener = asyncio.create_task(self._listen(reader))
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._listener.cancel()
        self._close()

    def _close(self) -> None:
        """End the supervisor, and with it all others; without a pause in which a second Ctrl-C would be lost."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # the kernel then kills what it started
            self._process.wait()
        if transport := getattr(self, "_transport", None):
            transport.close()
        elif self._process.stdout is not None:
            self._process.stdout.close()
        if folder := getattr(self, "folder", None):
            shutil.rmtree(folder, ignore_errors=True)  # where the supervisor itself was killed

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            said = json.loads(line)
            if "pid" in said:
                self.pids[said["name"]] = said["pid"]
            elif "error" in said:
                self._errors[said["name"]] = said["error"]
            else:
                self.ended[said["name"]] = said["status"]
            self._changed.set()
        for name in self.pids.keys() - self.ended.keys():
            self.ended[name] = -9  # the supervisor is gone, and they with it
        self._changed.set()

    def _tell(self, **command: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{json.dumps(command)}\n".encode())
            self._process.stdin.flush()
        except OSError:
            raise Unfinished("The process that starts and ends QEMU was killed: record again.") from None

    async def _until(self, name: str, *states: dict[str, Any], seconds: float) -> bool:
        """Wait until a process is in one of some dictionaries; false if it takes longer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not any(name in state for state in states):
                    self._changed.clear()
                    await self._changed.wait()
        return any(name in state for state in states)

    async def start(self, name: str, argv: list[str], environment: dict[str, str]) -> None:
        """Start a process.

        Parameters
        ----------
        name : str
            By which it is known; each name is used once.
        argv : list of str
            The command.
        environment : dict
            All variables of its environment.

        Raises
        ------
        Unfinished
            If it cannot be started.
        """
        self._tell(name=name, argv=argv, environment=environment, output=str(self._output(name)))
        if not await self._until(name, self.pids, self._errors, seconds=_ANSWER_S) or name in self._errors:
            why = self._errors.get(name, "no answer")
            raise Unfinished(f"The {name} could not be started ({argv[0]}): {why}.")

    async def end(self, name: str) -> None:
        """Kill a process and wait until it is gone."""
        if name not in self.ended:
            self._tell(name=name)
            await self._until(name, self.ended, seconds=_END_S)

    async def has_ended(self, name: str, seconds: float) -> bool:
        """Whether a process ends within some seconds."""
        return await self._until(name, self.ended, seconds=seconds)

    def said(self, name: str) -> str:
        """The last line that a process wrote to its standard output or error, cut to one short sentence's length."""
        lines = self.output(name).strip().splitlines()
        return lines[-1][-_SHOWN_CHARACTERS:] if lines else ""

    def output(self, name: str) -> str:
        """What a process wrote to its standard output and error."""
        with contextlib.suppress(OSError):
            return self._output(name).read_text(errors="replace")
        return ""

    def how_it_ended(self, name: str) -> str:
        """What is known about the end of a process, for a sentence."""
        status = self.ended.get(name)
        how = "is gone" if status is None else f"ended with status {status}"
        if status is not None and status < 0:
            how = f"was killed by signal {-status}"
        said = self.said(name)
        return f"{how}: {said}" if said else how

    def _output(self, name: str) -> Path:
        return self.folder / f"{name}.out"
