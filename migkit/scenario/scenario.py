"""One migration as a person describes it: in Python, in TOML, and changed field by field."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, model_validator

from migkit.scenario.errors import ScenarioError, did_you_mean, show
from migkit.scenario.fields import Part, Text, quantity
from migkit.scenario.parts import Block, Device, Guest, HostCosts, Link, Migration, Ram, Region, Vfio
from migkit.scenario.units import Seconds
from migkit.scenario.versions import LOOP_SIZES, POLICIES, PROFILES, Profile, policy_id, profile

__all__ = [
    "POLICIES",
    "PROFILES",
    "Block",
    "Guest",
    "HostCosts",
    "Link",
    "Migration",
    "Ram",
    "Region",
    "Scenario",
    "ScenarioError",
    "Vfio",
    "device_labels",
    "device_list",
    "read_toml",
]

_YEAR_S = 365 * 86400


def _known_profile(name: str) -> str:
    return profile(name).name


def _known_policy(name: str | None) -> str | None:
    if name is not None:
        policy_id(name)
    return name


class Scenario(Part):
    """One live migration: guest, devices, link, parameters, host costs and QEMU version.

    Immutable; `replace` gives a changed copy. Quantities are written with units and held in SI units.

    Parameters
    ----------
    name : str, default ""
        A label.
    guest : Guest
        The guest's memory and who writes to it.
    devices : list of Ram, Vfio or Block, default none
        Iterative devices in list order (``migration/savevm.c:qemu_savevm_state_iterate``). RAM is added if it is not in
        the list: first, or behind the disks the list begins with.
    link : Link
        The network.
    migration : Migration
        Parameters and capabilities, QEMU's defaults.
    costs : HostCosts
        What the hosts need time for.
    qemu : str, default "9.0"
        Profile: ``"7.2"``, ``"8.2"``, ``"9.0-rc0"``, ``"9.0"``, ``"10.0"`` or ``"11.1"``.
    policy : {"serialized", "unserialized"}, optional
        How the walk of the device list is scheduled; None is the profile's own way.
    time_limit : seconds, default 30 min
        When to give up, 1 ms to 168 h.

    Examples
    --------
    >>> from migkit import Guest, Link, Region, Scenario
    >>> scenario = Scenario(
    ...     guest=Guest(ram="16 GiB", regions=[Region(size="1 GiB", write_rate="200 MB/s")]),
    ...     link=Link(bandwidth="10 Gbit/s"),
    ... )
    >>> scenario.replace("guest.regions.0.write_rate", "1 GB/s").guest.regions[0].write_rate
    1 GB/s
    >>> Scenario.from_toml(scenario.to_toml()) == scenario
    True
    """

    name: Text = ""
    guest: Guest
    devices: tuple[Device, ...] = ()
    link: Link
    migration: Migration = Migration()
    costs: HostCosts = HostCosts()
    qemu: Annotated[Text, AfterValidator(_known_profile)] = "9.0"
    policy: Annotated[Text | None, AfterValidator(_known_policy)] = None
    time_limit: quantity(Seconds, "1 ms", "168 h") = Seconds(1800)

    @property
    def profile(self) -> Profile:
        """What this QEMU version does."""
        return PROFILES[self.qemu]

    @property
    def walk_policy(self) -> str:
        """The scheduling policy in force: `policy`, or the profile's own.

        Examples
        --------
        >>> from migkit import Guest, Link, Scenario
        >>> Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"), qemu="8.2").walk_policy
        'serialized'
        """
        return self.policy or self.profile.default_policy

    @model_validator(mode="after")
    def _version_has_it(self) -> Scenario:
        has, migration, name = self.profile, self.migration, f'profile "{self.qemu}"'
        for i, device in enumerate(self.devices):
            if isinstance(device, Vfio) and device.count and not has.supports_vfio:
                raise ScenarioError(f"is a VFIO device, which {name} does not have: use 8.2 or later", f"devices.{i}")
            if isinstance(device, Block) and not has.supports_block:
                raise ScenarioError(
                    f"is a block device, which {name} no longer has: use 9.0 or earlier", f"devices.{i}"
                )
        if migration.switchover_ack and not has.supports_switchover_ack:
            raise ScenarioError(f"is not available in {name}: use 8.2 or later", "migration.switchover_ack", True)
        if migration.avail_switchover_bandwidth and not has.supports_avail_switchover_bandwidth:
            given = str(migration.avail_switchover_bandwidth)
            raise ScenarioError(
                f"is not available in {name}: use 8.2 or later", "migration.avail_switchover_bandwidth", given
            )
        return self

    @model_validator(mode="after")
    def _devices_have_names(self) -> Scenario:
        if sum(isinstance(device, Ram) for device in self.devices) > 1:
            raise ScenarioError("holds RAM more than once: at most one entry may be of kind ram", "devices")
        labels = device_labels(self)
        for i, device in enumerate(self.devices):
            if getattr(device, "name", "") in LOOP_SIZES:
                raise ScenarioError("is what a timeline calls a column of its own: choose another name",
                                    f"devices.{i}.name", device.name)  # fmt: skip
        if len(set(labels)) < len(labels):
            twice = max(labels, key=labels.count)
            raise ScenarioError(f'gives the name "{twice}" to more than one device: names must differ', "devices")
        return self

    @model_validator(mode="after")
    def _ends_some_day(self) -> Scenario:
        # Times are 64-bit nanoseconds: what takes a year for one copy would not fit after some rounds.
        reads, sent = 0.0, self.guest.ram + self.link.send_buffer
        for device in device_list(self):
            if isinstance(device, Ram):
                continue
            if isinstance(device, Block):
                size: int = device.size
            else:
                size = device.initial_bytes + device.dirty_max + device.stop_copy_bytes
            sent += size
            reads += size / device.read_rate
        if reads > _YEAR_S:
            raise ScenarioError("need more than a year to be read once: raise their read_rate", "devices")
        slowest = "fresh_bandwidth" if self.link.fresh_bandwidth else "bandwidth"
        bandwidth = getattr(self.link, slowest)
        if sent / bandwidth > _YEAR_S:
            raise ScenarioError(
                "needs more than a year to carry RAM and devices once: raise it", f"link.{slowest}", str(bandwidth)
            )
        return self

    def replace(self, path: str, value: Any) -> Scenario:
        """Return a scenario with one field changed, validated as a whole.

        Parameters
        ----------
        path : str
            Dotted path, with indices for lists: ``"migration.max_bandwidth"``, ``"guest.regions.0.write_rate"``.
        value : object
            What the constructor of that part would take.

        Examples
        --------
        >>> from migkit import Guest, Link, Scenario
        >>> Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s")).replace("policy", "serialised")
        Traceback (most recent call last):
        ...
        migkit.ScenarioError: policy = "serialised" is not a scheduling policy: did you mean "serialized"?
        """
        if not isinstance(path, str) or not path:
            raise ScenarioError('is not a path to a field, such as "migration.max_bandwidth"', value=path)
        return _replaced(self, path.split("."), value, ())

    def to_toml(self) -> str:
        """Write the scenario as TOML that `from_toml` reads back to an equal one."""
        import tomli_w

        return tomli_w.dumps(self.model_dump(exclude_none=True))

    @classmethod
    def from_toml(cls, source: str | Path) -> Scenario:
        """Read a scenario.

        Parameters
        ----------
        source : str or path
            A file, or TOML text: text is what holds a ``=`` or a line break.

        Raises
        ------
        ScenarioError
            If the file cannot be read, is not TOML, or describes no possible migration.
        """
        table, _ = read_toml(source)
        return cls(**table)


def device_list(scenario: Scenario) -> list[Ram | Vfio | Block]:
    """Expand the device list: RAM put in its place, one entry for each of several equal devices.

    QEMU lists block devices before RAM and VFIO devices behind it; RAM that the scenario does not place
    therefore stands behind the disks its list begins with.
    """
    placed = list(scenario.devices)
    if not any(isinstance(device, Ram) for device in placed):
        first = next((i for i, device in enumerate(placed) if not isinstance(device, Block)), len(placed))
        placed.insert(first, Ram())
    return [device for device in placed for _ in range(device.count if isinstance(device, Vfio) else 1)]


def device_labels(scenario: Scenario) -> list[str]:
    """Name the devices, in the order of the columns.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, Vfio
    >>> device_labels(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"),
    ...                        devices=[Vfio(count=2, initial_bytes="8 MiB"), Vfio(name="gpu", initial_bytes=0)]))
    ['ram', 'vfio0', 'vfio1', 'gpu']
    """
    disks = sum(isinstance(device, Block) and not device.name for device in scenario.devices)
    seen: dict[str, int] = {}
    labels = []
    for device in device_list(scenario):
        if isinstance(device, Ram):
            labels.append("ram")
            continue
        base = device.name or ("vfio" if isinstance(device, Vfio) else "disk")
        numbered = (not device.name or device.count != 1) if isinstance(device, Vfio) else not device.name and disks > 1
        labels.append(f"{base}{seen.get(base, 0)}" if numbered else base)
        seen[base] = seen.get(base, 0) + 1
    return labels


def _replaced(holder: Any, steps: list[str], value: Any, done: tuple[str, ...]) -> Any:
    """Rebuild `holder` with the field at the end of `steps` changed; parts off the path are shared."""
    step, *rest = steps
    path = ".".join((*done, step))
    if isinstance(holder, tuple):
        if not (step.isdecimal() and int(step) < len(holder)):
            have = f"0 to {len(holder) - 1}" if holder else "none, the list is empty"
            raise ScenarioError(f"does not exist: indices here are {have}", path)
        i = int(step)
        new = _replaced(holder[i], rest, value, (*done, step)) if rest else value
        return (*holder[:i], new, *holder[i + 1 :])
    if not isinstance(holder, Part):
        raise ScenarioError(f"does not exist: {'.'.join(done)} has no fields", path)
    fields = type(holder).model_fields
    if step not in fields:
        raise ScenarioError(f"is not a field of {type(holder).__name__}: {did_you_mean(step, fields)}", path)
    new = _replaced(getattr(holder, step), rest, value, (*done, step)) if rest else value
    try:
        return holder.changed(**{step: new})
    except ScenarioError as error:
        raise error.within(".".join(done)) from None


def read_toml(source: str | Path) -> tuple[dict[str, Any], Path]:
    """Read TOML.

    Parameters
    ----------
    source : str or path
        A file, or TOML text: text is what holds a ``=`` or a line break.

    Returns
    -------
    table : dict
    folder : Path
        Where paths in it are seen from: the folder of the file, for text the current one.

    Raises
    ------
    ScenarioError
        If the file cannot be read, or is not TOML.

    Examples
    --------
    >>> read_toml("seed = 3")[0]
    {'seed': 3}
    """
    if isinstance(source, str) and ("\n" in source or "=" in source):
        text, where, folder = source, "TOML text", Path()
    else:
        where, folder = show(str(source)), Path(source).parent
        try:
            text = Path(source).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ScenarioError("is not a file that exists", value=str(source)) from None
        except UnicodeDecodeError:
            raise ScenarioError("is not a text file in UTF-8", value=str(source)) from None
        except OSError as error:
            raise ScenarioError(f"cannot be read: {error.strerror}", value=str(source)) from None
    try:
        return tomllib.loads(text), folder
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{where} is not valid TOML: {error}") from None
