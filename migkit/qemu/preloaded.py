"""The preloaded device of a recording: what it adds to the environment of QEMU, and what it logged."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from migkit.scenario.errors import ScenarioError


def _module() -> Any:
    """``migkit.qemu.device``, which compiles a library on first use and is imported only for a recording with one."""
    try:
        return importlib.import_module("migkit.qemu.device")
    except ModuleNotFoundError:
        raise ScenarioError("cannot be given: this installation has no preloaded device", "device") from None


def environment(device: str, version: str, log: Path | None = None) -> dict[str, str]:
    """Variables with which both QEMUs are started.

    Parameters
    ----------
    device : str
        Such as ``"initial=64MiB,stop=1MiB"``.
    version : str
        Of QEMU.
    log : path, optional
        File that the device writes to.

    Returns
    -------
    dict
    """
    found: dict[str, str] = _module().Device.parse(device).environment(version, log)
    return found


def read_log(log: Path, started: float) -> dict[str, Any]:
    """Read what the devices did, in the keys of ``data/qemu-traces``.

    Parameters
    ----------
    log : path
        The file.
    started : float
        Origin of times, in seconds since 1970.

    Returns
    -------
    dict
    """
    found: dict[str, Any] = _module().read_log(log, started)
    return found


def sizes(device: str) -> list[dict[str, Any]]:
    """The configuration of each device, in the keys of ``data/qemu-traces``.

    Parameters
    ----------
    device : str
        Such as ``"initial=64MiB,stop=1MiB"``.

    Returns
    -------
    list of dict
        Bytes, bytes per second and, for ``load``, milliseconds.
    """
    part = _module().Device.parse(device)
    one = {
        "init": int(part.initial),
        "stop": int(part.stop),
        "rate": float(part.dirty),
        "max": int(part.dirty_max),
        "load": float(part.load) * 1e3,
    }
    return [one] * part.count
