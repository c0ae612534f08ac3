"""A process that starts the processes of one recording and ends them when the recorder is gone, however that ended.

It is run as a script of its own and imports nothing of migkit, so that it starts within milliseconds. It makes the
private folder for sockets first and prints its name. Each line on standard input is a command in JSON: start a process,
or end it. What happened is printed, one JSON object a line. When standard input ends, which the kernel sees to if the
recorder is killed, every process is killed and reaped and the folder removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
from typing import Any

PR_SET_PDEATHSIG = 1
LONGEST_FOLDER = 60
"""A socket's path has at most 107 bytes; this leaves room for the name in the folder."""


def _say(**what: Any) -> None:
    with contextlib.suppress(OSError):  # the recorder is gone: standard input says so too
        os.write(1, f"{json.dumps(what)}\n".encode())


def _start(command: dict[str, Any], parent: int) -> subprocess.Popen[bytes]:
    """Start a process that the kernel kills if this one is killed."""
    libc = ctypes.CDLL(None)

    def tied_to_parent() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if os.getppid() != parent:
            os._exit(1)

    with open(command["output"], "wb") as output:
        return subprocess.Popen(
            command["argv"],
            env=command["environment"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=tied_to_parent,
        )


def _obey(line: bytes, children: dict[str, subprocess.Popen[bytes]]) -> None:
    command = json.loads(line)
    name = command["name"]
    if "argv" in command:
        try:
            children[name] = _start(command, os.getpid())
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            _say(name=name, error=getattr(error, "strerror", None) or str(error))
        else:
            _say(name=name, pid=children[name].pid)
    elif name in children:
        children[name].kill()


def _reap(children: dict[str, subprocess.Popen[bytes]]) -> None:
    for name in [name for name, child in children.items() if child.poll() is not None]:
        _say(name=name, status=children.pop(name).returncode)


def _supervise(children: dict[str, subprocess.Popen[bytes]], wake: int) -> None:
    """Obey until standard input ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(wake, selectors.EVENT_READ)
        text = b""
        while True:
            for key, _ in selector.select():
                got = os.read(key.fd, 65536)
                if key.fd == wake:
                    continue
                if not got:
                    return
                *lines, text = (text + got).split(b"\n")
                for line in lines:
                    _obey(line, children)
            _reap(children)


def main() -> None:
    """Supervise the processes of one recording."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    wake, woken = os.pipe()
    for end in (wake, woken):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    where = tempfile.gettempdir()
    folder = tempfile.mkdtemp(prefix="migkit-", dir=where if len(where) <= LONGEST_FOLDER else "/tmp")
    children: dict[str, subprocess.Popen[bytes]] = {}
    try:
        _say(folder=folder)
        _supervise(children, wake)
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for child in children.values():
            child.kill()
        for child in children.values():
            child.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
