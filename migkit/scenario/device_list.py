"""The devices of a scenario as the loop meets them: RAM in its place, and a name for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from migkit.scenario.parts import Ram


def name_of(device: Any) -> Any:
    """The name that a device was given, "" for none."""
    return "" if device.kind == "ram" else device.name


def copies(device: Any) -> Any:
    """How many devices an entry of the list stands for."""
    return device.count if device.kind == "vfio" else 1


_RAM = Ram()


def placed(devices: Sequence[Any]) -> list[Any]:
    """The device list with RAM in its place.

    QEMU lists block devices before RAM and VFIO devices behind it; RAM that the scenario does not place therefore
    stands behind the disks that its list begins with.
    """
    found = list(devices)
    if not any(device.kind == "ram" for device in found):
        first = next((i for i, device in enumerate(found) if device.kind != "block"), len(found))
        found.insert(first, _RAM)
    return found


def device_labels(scenario: Any) -> list[str]:
    """Name the devices, in the order of the records.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, Vfio
    >>> device_labels(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"),
    ...                        devices=[Vfio(count=2, initial_bytes="8 MiB"), Vfio(name="gpu", initial_bytes=0)]))
    ['ram', 'vfio0', 'vfio1', 'gpu']
    """
    return list(labels(tuple((device.kind, name_of(device), copies(device)) for device in scenario.devices)))


@dataclass(frozen=True)
class _Entry:
    kind: str
    name: str
    count: int


@lru_cache(maxsize=1024)
def labels(entries: tuple[tuple[str, str, int], ...]) -> tuple[str, ...]:
    """Labels of the devices of a list, each entry a kind, a name and how many there are."""
    disks = sum(kind == "block" and not name for kind, name, _ in entries)
    seen: dict[str, int] = {}
    found: list[str] = []
    for device in placed([_Entry(*entry) for entry in entries]):
        if device.kind == "ram":
            found.append("ram")
            continue
        base = device.name or ("vfio" if device.kind == "vfio" else "disk")
        numbered = (not device.name or device.count != 1) if device.kind == "vfio" else not device.name and disks > 1
        for _ in range(device.count):
            found.append(f"{base}{seen.get(base, 0)}" if numbered else base)
            seen[base] = seen.get(base, 0) + 1
    return tuple(found)
