"""One migration as a person describes it: in Python, in TOML, and changed field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, model_validator

from migkit.scenario.constants import LOOP_SIZES, POLICIES
from migkit.scenario.errors import ScenarioError, did_you_mean
from migkit.scenario.fields import Part, Text, quantity
from migkit.scenario.parts import Block, Device, Guest, HostCosts, Link, Migration, Ram, Region, Vfio
from migkit.scenario.rows import columns, device_labels, device_list
from migkit.scenario.toml_source import read_toml
from migkit.scenario.units import Seconds
from migkit.scenario.versions import PROFILES, Profile, policy_id, profile

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
    "columns",
    "device_labels",
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
