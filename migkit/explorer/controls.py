"""What can be moved: which field of the scenario, and the values it can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from migkit.scenario.parts import Region, Vfio
from migkit.scenario.scenario import POLICIES, PROFILES, Scenario, field
from migkit.scenario.units import Bytes, Rate, Seconds, parse_bytes, parse_rate, parse_time

MIB = 2**20
GBIT = 1e9 / 8
# About twenty steps a decade, with what links, defaults and people use among them; four steps a doubling
_DECIMAL = (1, 1.12, 1.25, 1.4, 1.6, 1.8, 2, 2.25, 2.5, 2.8, 3, 3.2, 3.6, 4, 4.5, 5, 5.6, 6.4, 7.2, 8, 9)
_BINARY = (1, 1.25, 1.5, 1.75)
_MOST_HOT_MIB = 8192
PROFILES_OWN = "the profile's own"


@dataclass(frozen=True)
class Control:
    """One field of the scenario and the values it can be moved to.

    Attributes
    ----------
    path : str
        The field's dotted path.
    values : dict of str to object
        Values of the field by label, numbers in rising order; the scenario's own is among them.
    start : str
        The label of the scenario's own value.
    is_scale : bool
        Whether the values are numbers, for a slider, or names, for a menu.
    """

    path: str
    values: Mapping[str, Any]
    start: str
    is_scale: bool = True


def movable(scenario: Scenario) -> Scenario:
    """The same migration, with a region and a VFIO entry for the sliders to move.

    A region that nobody writes to is like RAM outside all regions, and an entry of 0 devices is like none.
    """
    guest = scenario.guest
    if not guest.regions:
        pages = max(1, min(256 * MIB, guest.ram) // guest.page_size)
        scenario = scenario.replace("guest.regions", [Region(size=f"{pages * guest.page_size} B")])
    if not any(isinstance(device, Vfio) for device in scenario.devices):
        scenario = scenario.replace("devices", [*scenario.devices, Vfio(count=0, initial_bytes="16 MiB")])
    return scenario


def controls_of(scenario: Scenario) -> dict[str, Control]:
    """The controls of a scenario that is :func:`movable`, by name, in the order they are shown.

    Examples
    --------
    >>> from migkit import Guest, Link
    >>> link = controls_of(movable(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="26 Gbit/s"))))["link"]
    >>> list(link.values)[28:32]
    ['22.5 Gbit/s', '25 Gbit/s', '26 Gbit/s', '28 Gbit/s']
    """
    guest = scenario.guest
    region = guest.regions[0]
    place = next(i for i, device in enumerate(scenario.devices) if isinstance(device, Vfio))
    rates = [0, *_series(_DECIMAL, 10, 0.01, 20)]
    room = min(_MOST_HOT_MIB, (guest.ram - region.start) / MIB)
    sizes = [size for size in _series(_BINARY, 2, min(4, room / 64), room) if round(size * MIB) % guest.page_size == 0]
    initial = [0, *_series(_BINARY, 2, 1, 4096)]
    slowest = max(1, scenario.link.fresh_bandwidth / GBIT)  # a link is no slower than its own first pass
    links = _series(_DECIMAL, 10, slowest, max(100, 10 * slowest))
    scales = {
        "dirty rate": ("guest.regions.0.write_rate", "GB/s", rates),
        "hot set": ("guest.regions.0.size", "MiB", sizes),
        "link": ("link.bandwidth", "Gbit/s", links),
        "max-bandwidth": ("migration.max_bandwidth", "MiB/s", _series(_BINARY, 2, 16, 16384)),
        "downtime-limit": ("migration.downtime_limit", "ms", _series(_DECIMAL, 10, 10, 10_000)),
        "devices": (f"devices.{place}.count", "", range(9)),
        "initial data": (f"devices.{place}.initial_bytes", "MiB", initial),
    }
    controls = {name: _scale(scenario, path, unit, numbers) for name, (path, unit, numbers) in scales.items()}
    controls["profile"] = Control("qemu", {name: name for name in PROFILES}, scenario.qemu, is_scale=False)
    policies = {PROFILES_OWN: None} | {name: name for name in POLICIES}
    controls["policy"] = Control("policy", policies, scenario.policy or PROFILES_OWN, is_scale=False)
    return controls


def _series(mantissas: Sequence[float], base: int, low: float, high: float) -> Iterator[float]:
    """Preferred numbers from `low` to `high`: mantissas times powers of the base."""
    power = 1.0
    while power > low:
        power /= base
    while power <= high:
        yield from (power * mantissa for mantissa in mantissas if low <= power * mantissa <= high)
        power *= base


_READ: dict[str, tuple[type, Callable[[str], Any]]] = {
    "GB/s": (Rate, parse_rate),
    "Gbit/s": (Rate, parse_rate),
    "MiB/s": (Rate, parse_rate),
    "MiB": (Bytes, parse_bytes),
    "ms": (Seconds, parse_time),
    "": (int, int),
}
"""Units of the scales: the type a scenario holds, and how a label is read."""


def _scale(scenario: Scenario, path: str, unit: str, numbers: Iterable[float]) -> Control:
    """A slider over rising numbers of a unit, with the scenario's own value in its place."""
    kind, read = _READ[unit]
    labels = [f"{number:.6g} {unit}".strip() for number in numbers]
    values = {label: kind(read(label)) for label in labels}
    if path == "migration.max_bandwidth":
        values["no limit"] = kind(0)
    own = field(scenario, path)
    if own not in values.values():
        label = f"{own / kind(read(f'1 {unit}')):.6g} {unit}".strip()
        if kind(read(label)) != own:
            label = str(own)  # in the unit that writes it exactly
        below = {label: value for label, value in values.items() if value < own and label != "no limit"}
        values = below | {label: own} | values
    start = next(label for label, value in values.items() if value == own)
    return Control(path, values, start)
