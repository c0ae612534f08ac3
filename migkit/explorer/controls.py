"""Controls of the explorer: the field of the scenario that each sets, and the values it offers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from migkit.scenario.parts import Region, Vfio
from migkit.scenario.scenario import POLICIES, PROFILES, Scenario, field
from migkit.scenario.units import Bytes, Rate, Seconds, parse_bytes, parse_rate, parse_time

MIB = 2**20
GBIT = 1e9 / 8
# 21 steps per decade, among them common links and defaults; four steps per doubling.
_DECIMAL = (1, 1.12, 1.25, 1.4, 1.6, 1.8, 2, 2.25, 2.5, 2.8, 3, 3.2, 3.6, 4, 4.5, 5, 5.6, 6.4, 7.2, 8, 9)
_BINARY = (1, 1.25, 1.5, 1.75)
_MOST_HOT_MIB = 8192
PROFILE_DEFAULT = "the profile's default"
"""Label of the policy None."""


@dataclass(frozen=True)
class Control:
    """One field of the scenario and the values that it can be set to.

    Attributes
    ----------
    path : str
        The field's dotted path.
    values : dict of str to object
        Values of the field by label, numbers in increasing order; the scenario's value is among them.
    initial : str
        Label of the scenario's value.
    is_numeric : bool
        True for numbers (a slider), False for names (a menu).
    """

    path: str
    values: Mapping[str, Any]
    initial: str
    is_numeric: bool = True


def with_slider_targets(scenario: Scenario) -> Scenario:
    """Add the region and the VFIO entry that the sliders set, if the scenario has none.

    The migration stays the same: a region without writes is like RAM outside all regions, an entry with a count of 0
    is like no entry.
    """
    guest = scenario.guest
    if not guest.regions:
        pages = max(1, min(256 * MIB, guest.ram) // guest.page_size)
        scenario = scenario.replace("guest.regions", [Region(size=f"{pages * guest.page_size} B")])
    if not any(isinstance(device, Vfio) for device in scenario.devices):
        scenario = scenario.replace("devices", [*scenario.devices, Vfio(count=0, initial_bytes="16 MiB")])
    return scenario


def controls_of(scenario: Scenario) -> dict[str, Control]:
    """Return the controls of a scenario, by name, in the order of display.

    Parameters
    ----------
    scenario : Scenario
        From :func:`with_slider_targets`.

    Returns
    -------
    dict of str to Control

    Examples
    --------
    >>> from migkit import Guest, Link
    >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="26 Gbit/s"))
    >>> link = controls_of(with_slider_targets(scenario))["link"]
    >>> list(link.values)[28:32]
    ['22.5 Gbit/s', '25 Gbit/s', '26 Gbit/s', '28 Gbit/s']
    """
    guest = scenario.guest
    region = guest.regions[0]
    place = next(i for i, device in enumerate(scenario.devices) if isinstance(device, Vfio))
    rates = [0, *_series(_DECIMAL, 10, 0.01, 20)]
    ram: int = guest.ram
    room = min(_MOST_HOT_MIB, (ram - region.start) / MIB)
    sizes = [size for size in _series(_BINARY, 2, min(4, room / 64), room) if round(size * MIB) % guest.page_size == 0]
    initial = [0, *_series(_BINARY, 2, 1, 4096)]
    slowest = max(1, scenario.link.fresh_bandwidth / GBIT)  # a link cannot be slower than in the first pass
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
    profiles = {name: name for name in [*PROFILES, scenario.qemu]}
    controls["profile"] = Control("qemu", profiles, scenario.qemu, is_numeric=False)
    policies = {PROFILE_DEFAULT: None} | {name: name for name in POLICIES}
    controls["policy"] = Control("policy", policies, scenario.policy or PROFILE_DEFAULT, is_numeric=False)
    return controls


def _series(mantissas: Sequence[float], base: int, low: float, high: float) -> Iterator[float]:
    """Products of mantissas and powers of `base` from `low` to `high`, in increasing order."""
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
"""By unit of a scale: the type of the field, and the parser of a label."""


def _scale(scenario: Scenario, path: str, unit: str, numbers: Iterable[float]) -> Control:
    """A slider over increasing numbers of a unit, with the scenario's value inserted in order."""
    kind, read = _READ[unit]
    labels = [f"{number:.6g} {unit}".strip() for number in numbers]
    values = {label: kind(read(label)) for label in labels}
    if path == "migration.max_bandwidth":
        values["no limit"] = kind(0)
    own = field(scenario, path)
    if own not in values.values():
        label = f"{own / kind(read(f'1 {unit}')):.6g} {unit}".strip()
        if kind(read(label)) != own:
            label = str(own)  # the unit in which it is exact
        below = {label: value for label, value in values.items() if value < own and label != "no limit"}
        values = below | {label: own} | values
    initial = next(label for label, value in values.items() if value == own)
    return Control(path, values, initial)
