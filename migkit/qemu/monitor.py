"""QMP to one QEMU, through the package ``qemu.qmp``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any

from migkit.scenario.errors import ScenarioError, Unfinished

if TYPE_CHECKING:
    from migkit.qemu.processes import Processes

CONNECT_S, COMMAND_S = 30.0, 60.0
_RETRY_S = 0.01


def check_client(command: str) -> None:
    """Find out whether QMP can be spoken, before anything is announced or started; `command` is who needs it.

    Raises
    ------
    ScenarioError
        If the package qemu.qmp is not installed.
    """
    try:
        import qemu.qmp  # noqa: F401
    except ImportError:
        raise ScenarioError("needs the package qemu.qmp: pip install 'migkit[qemu]'", command) from None


def client(name: str, command: str) -> Any:
    """Make a QMP client; `command` is who needs it.

    Raises
    ------
    ScenarioError
        If the package qemu.qmp is not installed.
    """
    check_client(command)
    from qemu.qmp import QMPClient

    # What goes wrong is raised; without a handler Python would print it too.
    logger = logging.getLogger("qemu.qmp")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return QMPClient(name)


class Refused(Exception):
    """QEMU refuses a command; the message is QEMU's."""


class Monitor:
    """The QMP connection to one QEMU of a recording.

    Parameters
    ----------
    name : str
        Name of the process, which errors use.
    processes : Processes
        Of which it is one.

    Attributes
    ----------
    events : list
        ``(seconds since 1970, event, data)``, in the order of arrival; :meth:`collect` fills it.
    """

    def __init__(self, name: str, processes: Processes) -> None:
        self.name, self._processes = name, processes
        self._client = client(name, "migkit record")
        self.events: list[tuple[float, str, dict[str, Any]]] = []

    async def connect(self, path: str) -> None:
        """Connect to a socket that QEMU is about to make.

        Raises
        ------
        Unfinished
            If QEMU ends before that, or takes longer than 30 s.
        """
        from qemu.qmp import ConnectError

        async def connected() -> None:
            while True:
                if os.path.exists(path):
                    with contextlib.suppress(ConnectError):
                        return await self._client.connect(path)
                if self.name in self._processes.ended:
                    raise self._gone("started")
                await asyncio.sleep(_RETRY_S)

        try:
            await asyncio.wait_for(connected(), CONNECT_S)
        except TimeoutError:
            raise Unfinished(f"The {self.name} QEMU did not answer on QMP within {CONNECT_S:.0f} s.") from None

    async def ask(self, command: str, **arguments: Any) -> Any:
        """Run a command; underscores in names of arguments become hyphens.

        Raises
        ------
        Refused
            If QEMU refuses it.
        Unfinished
            If QEMU is gone, or does not answer within 60 s.
        """
        from qemu.qmp import ExecuteError, QMPError

        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        try:
            return await asyncio.wait_for(self._client.execute(command, named or None), COMMAND_S)
        except ExecuteError as error:
            raise Refused(str(error).rstrip(".")) from None
        except (TimeoutError, QMPError, OSError, EOFError):
            if await self._processes.has_ended(self.name, 2.0):
                raise self._gone(f"answered {command}") from None
            raise Unfinished(f"The {self.name} QEMU does not answer {command} any more.") from None

    def _gone(self, before: str) -> Unfinished:
        return Unfinished(f"The {self.name} QEMU {self._processes.how_it_ended(self.name)} (before it {before}).")

    async def collect(self) -> None:
        """Append the events that have arrived to `events`."""
        while not self._client.events.empty():
            message = await self._client.events.get()
            stamp = message["timestamp"]
            time = stamp["seconds"] + stamp["microseconds"] * 1e-6
            self.events.append((time, message["event"], dict(message.get("data") or {})))

    async def close(self) -> None:
        """Disconnect, whatever state the connection is in."""
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._client.disconnect(), 2.0)
