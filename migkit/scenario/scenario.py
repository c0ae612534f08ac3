"""One migration as a person describes it: in Python, in TOML, and changed field by field."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, PlainValidator, field_validator

from migkit.results import legible
from migkit.scenario.capabilities import capability_rules, lacks, named
from migkit.scenario.changes import Change, in_order
from migkit.scenario.errors import ScenarioError, show
from migkit.scenario.fields import SHORT_LIST, Part, Rule, Text, check_keys, quantity, unknown_field
from migkit.scenario.parts import Block, Device, Guest, HostCosts, Link, Migration, Ram, Region, Vfio
from migkit.scenario.pasted_version import read_version
from migkit.scenario.policy import POLICIES, read_policy
from migkit.scenario.shown import differing, html_table
from migkit.scenario.toml import read_toml
from migkit.scenario.units import Seconds
from migkit.scenario.versions import LOOP_SIZES, PROFILES, Profile, known_version, profile
from migkit.scenario.views import each
from migkit.scenario.wire import LIMITS, binds, wire_limits

__all__ = [
    "POLICIES",
    "PROFILES",
    "Block",
    "Change",
    "Guest",
    "HostCosts",
    "Link",
    "Migration",
    "Ram",
    "Region",
    "Scenario",
    "ScenarioError",
    "Vfio",
    "as_scenario",
    "device_labels",
    "field",
    "read_toml",
    "read_values",
    "with_costs",
]

_YEAR_S = 365 * 86400
_NOT_GIVEN: Any = object()


def _read_qemu(given: Any) -> Any:
    """A version on one line, the name of a profile where it is one."""
    if isinstance(given, Mapping):
        given = read_version(given).text
    return read_version(given).text if isinstance(given, str) and known_version(given).notes else given


def _policy(field: str) -> PlainValidator:
    """Declare a field that names a policy, None for that of the version, for use in ``Annotated``."""
    return PlainValidator(lambda given: read_policy(field, given))


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
        Iterative devices in list order (``migration/savevm.c:qemu_savevm_state_iterate``), up to 1024 entries. RAM is
        added if it is not in the list: first, or behind the disks the list begins with.
    link : Link
        The network.
    migration : Migration
        Parameters and capabilities, QEMU's defaults.
    costs : HostCosts, or path
        What the hosts need time for, or the file of a host that holds it; `from_toml` sees the path from the folder of
        the scenario. Results name the costs.
    qemu : str, default "9.0"
        Version: one of the profiles ``"7.2"``, ``"8.0"``, ``"8.1"``, ``"8.2"``, ``"9.0-rc0"``, ``"9.0"``, ``"9.1"``,
        ``"9.2"``, ``"10.0"``, ``"10.1"``, ``"10.2"``, ``"11.0"`` and ``"11.1"``, or a version as QEMU, a package or
        query-version says it, which is computed by the profile that :attr:`assumed` names.
    policy : {"serialized", "unserialized"} or Policy, optional
        Whether an iteration goes on to the next device when one is not finished; None is the profile's own rule.
    sync_policy : {"7.2", "8.2", "9.0", "11.1"} or Policy, optional
        When the loop syncs the bitmaps: the rule of a version, whatever the profile; None is the profile's own.
    bandwidth_policy : {"window"} or Policy, optional
        Which bandwidth the threshold is computed from: that of the last window, as None.
    management : {"fixed"} or Policy, optional
        What a management layer changes while the migration runs: ``"fixed"``, as None, is nothing; ``"nova"``,
        ``"ovirt"``, ``"proxmox"`` and others of :mod:`migkit.management`, with settings as in
        ``'nova(completion_timeout="400 s")'``, or one of one's own.
    changes : list of Change, default none
        What is changed at given times, in their order, up to 1024.
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
    devices: Annotated[tuple[Device, ...], SHORT_LIST] = ()
    link: Link
    migration: Migration = Migration()
    costs: HostCosts = HostCosts()
    qemu: Annotated[Text, BeforeValidator(_read_qemu)] = "9.0"
    policy: Annotated[Text | None, _policy("policy")] = None
    sync_policy: Annotated[Text | None, _policy("sync_policy")] = None
    bandwidth_policy: Annotated[Text | None, _policy("bandwidth_policy")] = None
    management: Annotated[Text | None, _policy("management")] = None
    changes: Annotated[tuple[Change, ...], SHORT_LIST] = ()
    time_limit: Annotated[Seconds, quantity("1 ms", "168 h")] = Seconds(1800)

    @field_validator("costs", mode="before")
    @classmethod
    def _costs_of_a_file(cls, given: Any) -> Any:
        return HostCosts.from_toml(Path(given)) if isinstance(given, str | os.PathLike) else given

    @property
    def profile(self) -> Profile:
        """What this QEMU version does."""
        return profile(self.qemu)

    @property
    def assumed(self) -> tuple[str, ...]:
        """What the version of QEMU leaves open: by which profile it is computed, and what its build may have besides.

        Sentences without a full stop; empty if `qemu` is a profile.

        Examples
        --------
        >>> from migkit import Guest, Link, Scenario
        >>> Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"), qemu="v10.2.2").assumed
        ('QEMU 10.2.2 is computed by the rules of profile 10.2',)
        """
        known = known_version(self.qemu)
        return known.notes + (known.warnings if self.policy is None else ())

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

    @property
    def binds(self) -> str:
        """What limits how fast RAM is sent: ``"link"``, ``"stream"``, ``"thread"`` or ``"max-bandwidth"``.

        The least of :meth:`wire_limits`; equal ones in that order.

        Examples
        --------
        >>> from migkit import Guest, Link, Scenario
        >>> Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="100 Gbit/s")).binds
        'max-bandwidth'
        """
        return LIMITS[int(binds(self))]

    def wire_limits(self) -> dict[str, float]:
        """What the link, one stream, the migration thread and max-bandwidth let through of normal pages, bytes/s.

        Infinite where there is no limit. The thread's is the size of a page on the wire over its cost.

        Examples
        --------
        >>> from migkit import Guest, Link, Scenario
        >>> limits = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s")).wire_limits()
        >>> round(limits["link"] / 1e6), round(limits["thread"] / 1e6)
        (1250, 1954)
        """
        return {name: float(value) for name, value in wire_limits(self).items()}

    def drawn_fields(self) -> list[str]:
        """List the fields that are drawn for each replicate, with either engine: phases not given, and jitter above 0.

        Returns
        -------
        list of str
            Dotted paths.

        Examples
        --------
        >>> from migkit import Guest, Link, Region, Scenario
        >>> region = Region(size="64 MiB", write_rate="100 MB/s", pattern="sequential")
        >>> Scenario(guest=Guest(ram="1 GiB", regions=[region]), link=Link(bandwidth="1 GB/s")).drawn_fields()
        ['guest.regions.0.phase']
        """
        phases = [
            f"guest.regions.{i}.phase"
            for i, region in enumerate(self.guest.regions)
            if region.pattern == "sequential" and region.phase is None and region.highest_rate > 0
        ]
        return phases + (["costs.jitter"] if self.costs.jitter > 0 else [])

    def _rules(self: Any) -> Iterator[Rule]:
        for i, device in enumerate(self.devices):
            if device.kind != "ram":
                yield from _version_has_device(self, device, f"devices.{i}")
                yield _allows_postcopy(self, device, f"devices.{i}")
        yield Rule(
            lambda: sum(device.kind == "ram" for device in self.devices) > 1,
            lambda: ScenarioError("holds RAM more than once: at most one entry may be of kind ram", "devices"),
        )
        yield Rule(
            lambda: self.guest.tracking > self.guest.page_size << self.migration.x_clear_bitmap_shift,
            lambda: ScenarioError("is more than a chunk of the dirty log: raise migration.x_clear_bitmap_shift, or use "
                                  "less", "guest.tracking", str(self.guest.tracking)),
        )  # fmt: skip
        yield from capability_rules(self)
        yield from in_order(self.changes)
        yield from _may_start_postcopy(self)
        yield from _names_differ(self.devices)
        yield from _within_a_year(self)

    def replace(self, path: str | Mapping[str, Any] | None = None, value: Any = _NOT_GIVEN, **fields: Any) -> Scenario:
        """Return a scenario with fields changed, validated as a whole.

        Three forms, which may be put together: a path and a value, a mapping of values by path, and keywords for the
        scenario's own fields.

        Parameters
        ----------
        path : str or mapping
            Dotted path, with indices for lists: ``"migration.max_bandwidth"``, ``"guest.regions.0.write_rate"``; or
            values by path.
        value : object
            What the constructor of that part would take.
        **fields : object
            Values of ``policy``, ``qemu``, ``time_limit`` and so on.

        Raises
        ------
        ScenarioError
            If a path is none, a value is refused, or the values do not go together.

        Examples
        --------
        >>> from migkit import Guest, Link, Scenario
        >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"))
        >>> scenario.replace("link.rtt", "1 ms").link.rtt
        1 ms
        >>> scenario.replace({"link.rtt": "1 ms", "guest.ram": "2 GiB"}, policy="serialized").guest.ram
        2 GiB
        >>> scenario.replace(policy="serialised")
        Traceback (most recent call last):
        ...
        migkit.ScenarioError: policy = "serialised" is not a scheduling policy: did you mean "serialized"?
        """
        values: dict[str, Any] = {}
        if isinstance(path, Mapping):
            if value is not _NOT_GIVEN:
                raise ScenarioError("is given beside a mapping of values by path: put it there", "value", value)
            values |= path
        elif path is not None or value is not _NOT_GIVEN:
            *_, last = _steps(path)
            if value is _NOT_GIVEN:
                raise ScenarioError(f"is given no value: write replace({show(path)}, value)", last)
            values[str(path)] = value
        elif not fields:
            raise ScenarioError('needs a path and a value, values by path, or keywords such as policy="serialized"',
                                "replace")  # fmt: skip
        if twice := values.keys() & fields.keys():
            raise ScenarioError("is given twice", min(twice))
        return self.replace_all(values | fields)

    def replace_all(self, values: Mapping[str, Any]) -> Scenario:
        """Return a scenario with several fields changed at once, validated as a whole.

        Values that fit only together, such as more RAM and a larger region, can be given in any order.

        Parameters
        ----------
        values : mapping
            Values by dotted path, as `replace` takes them.

        Raises
        ------
        ScenarioError
            If a path is none, a value is refused, or the values do not go together.

        Examples
        --------
        >>> from migkit import Guest, Link, Scenario
        >>> scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"))
        >>> scenario.replace_all({"link.bandwidth": "2 GB/s", "link.rtt": "1 ms"}).link.rtt
        1 ms
        """
        if not isinstance(values, Mapping):
            raise ScenarioError('is not a mapping of values by path, such as {"link.rtt": "1 ms"}', value=values)
        changes: dict[str, Any] = {}
        for path, value in values.items():
            *steps, last = _steps(path)
            inner = changes
            for step in steps:
                inner = inner.setdefault(step, {})
                if isinstance(inner, _New):
                    raise ScenarioError("lies within another field that is changed too: give one of them", path)
            if last in inner:
                raise ScenarioError("holds another field that is changed too: give one of them", path)
            inner[last] = _New(value)
        return _changed(self, changes, ())

    def _repr_html_(self) -> str:
        """What must be given and what differs from the defaults, as a table."""
        name = f"{html.escape(legible(self.name, 80))}: " if self.name else ""
        return (
            f"<div><p><strong>{name}QEMU {html.escape(self.qemu)}, {html.escape(self.walk_policy)}</strong>; what is "
            f"not here has its default (migkit.fields())</p>"
            f"{html_table(('field', 'value', 'default'), differing(self), 'fields')}</div>"
        )

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
        table, folder = read_toml(source)
        return cls(**with_costs(table, folder))


def _may_start_postcopy(scenario: Any) -> Iterator[Rule]:
    """Post-copy is started by a change or a management policy only with the capability."""
    for i, change in enumerate(scenario.changes):
        yield _needs_postcopy_ram(scenario, change, "command", f"changes.{i}.command")
    yield _needs_postcopy_ram(scenario, scenario, "management", "management")


def _needs_postcopy_ram(scenario: Any, part: Any, name: str, field: str) -> Rule:
    def broken(given: Any, may: bool) -> bool:
        return not may and (given == "migrate-start-postcopy" or getattr(given, "starts_postcopy", False))

    return Rule(
        lambda: each(broken, getattr(part, name), scenario.migration.postcopy_ram),
        lambda: ScenarioError("starts post-copy, which needs migration.postcopy_ram = True", field,
                              str(getattr(part, name))),
    )  # fmt: skip


def _allows_postcopy(scenario: Any, device: Any, field: str) -> Rule:
    if device.kind == "vfio":
        return Rule(
            lambda: (device.count > 0) & scenario.migration.postcopy_ram,
            lambda: ScenarioError("is a VFIO device, which refuses to migrate with postcopy-ram "
                                  "(hw/vfio/migration.c:vfio_save_prepare): turn migration.postcopy_ram off", field),
        )  # fmt: skip
    return Rule(
        lambda: scenario.migration.postcopy_ram,
        lambda: ScenarioError("is a block device, and a disk cannot follow after a switch to post-copy: turn "
                              "migration.postcopy_ram off", field),
    )  # fmt: skip


def _version_has_device(scenario: Any, device: Any, field: str) -> Iterator[Rule]:
    if device.kind == "vfio":
        yield Rule(
            lambda: (device.count > 0) & lacks(scenario, "supports_vfio"),
            lambda: ScenarioError(f"is a VFIO device, which {named(scenario)} does not have: use 8.0 or later", field),
        )
        yield Rule(
            lambda: (
                (device.count > 0)
                & ((device.initial_bytes > 0) | (device.dirty_rate > 0))
                & lacks(scenario, "supports_vfio_precopy")
            ),
            lambda: ScenarioError(f"has initial or dirty data, and VFIO of {named(scenario)} has no pre-copy: use 8.1 "
                                  "or later, or stop_copy_bytes alone", field),
        )  # fmt: skip
        return
    yield Rule(
        lambda: lacks(scenario, "supports_block"),
        lambda: ScenarioError(f"is a block device, which {named(scenario)} no longer has: use 9.0 or earlier", field),
    )


def _names_differ(devices: Sequence[Any]) -> Iterator[Rule]:
    """No two devices have one name, and none has that of a column of a timeline."""
    for i, device in enumerate(devices):
        if device.kind != "ram":
            yield _no_name_of_the_loop(device, f"devices.{i}.name")
    kinds = tuple(device.kind for device in devices)

    def named() -> list[Any]:
        return [value for device in devices for value in (name_of(device), copies(device))]

    def labels(*given: Any) -> tuple[str, ...]:
        return _labels(tuple(zip(kinds, given[::2], given[1::2], strict=True)))

    def doubled(*given: Any) -> bool:
        found = labels(*given)
        return len(set(found)) < len(found)

    def error() -> ScenarioError:
        found = labels(*named())
        twice = max(found, key=found.count)
        return ScenarioError(f'gives the name "{twice}" to more than one device: names must differ', "devices")

    yield Rule(lambda: each(doubled, *named()), error, monotone=False)


def _no_name_of_the_loop(device: Any, field: str) -> Rule:
    return Rule(
        lambda: each(lambda name: name in LOOP_SIZES, device.name),
        lambda: ScenarioError("is what a timeline calls a column of its own: choose another name", field, device.name),
    )


def _within_a_year(scenario: Any) -> Iterator[Rule]:
    """Times are 64-bit nanoseconds: what takes a year for one copy would not fit after some rounds."""
    devices = [device for device in scenario.devices if device.kind != "ram"]

    def sent() -> Any:
        size = scenario.guest.ram + scenario.link.send_buffer
        return size + sum(1.0 * copies(device) * _size(device) for device in devices)

    def error(field: str) -> ScenarioError:
        given = str(getattr(scenario.link, field))
        return ScenarioError("needs more than a year to carry RAM and devices once: raise it", f"link.{field}", given)

    yield Rule(
        lambda: sum(copies(device) * _size(device) / device.read_rate for device in devices) > _YEAR_S,
        lambda: ScenarioError("need more than a year to be read once: raise their read_rate", "devices"),
    )
    yield Rule(
        lambda: (scenario.link.stream_bandwidth > 0) & (sent() > _YEAR_S * scenario.link.stream_bandwidth),
        lambda: error("stream_bandwidth"),
    )
    yield Rule(
        lambda: (scenario.link.fresh_bandwidth > 0) & (sent() > _YEAR_S * scenario.link.fresh_bandwidth),
        lambda: error("fresh_bandwidth"),
    )
    yield Rule(lambda: sent() > _YEAR_S * scenario.link.bandwidth, lambda: error("bandwidth"))


def name_of(device: Any) -> Any:
    """The name that a device was given, "" for none."""
    return "" if device.kind == "ram" else device.name


def copies(device: Any) -> Any:
    """How many devices an entry of the list stands for."""
    return device.count if device.kind == "vfio" else 1


def _size(device: Any) -> Any:
    return device.size if device.kind == "block" else device.initial_bytes + device.dirty_max + device.stop_copy_bytes


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


def device_labels(scenario: Scenario) -> list[str]:
    """Name the devices, in the order of the records.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario, Vfio
    >>> device_labels(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"),
    ...                        devices=[Vfio(count=2, initial_bytes="8 MiB"), Vfio(name="gpu", initial_bytes=0)]))
    ['ram', 'vfio0', 'vfio1', 'gpu']
    """
    return list(_labels(tuple((device.kind, name_of(device), copies(device)) for device in scenario.devices)))


@dataclass(frozen=True)
class _Entry:
    kind: str
    name: str
    count: int


@lru_cache(maxsize=1024)
def _labels(entries: tuple[tuple[str, str, int], ...]) -> tuple[str, ...]:
    """Labels of the devices of a list, each entry a kind, a name and how many there are."""
    disks = sum(kind == "block" and not name for kind, name, _ in entries)
    seen: dict[str, int] = {}
    labels: list[str] = []
    for device in placed([_Entry(*entry) for entry in entries]):
        if device.kind == "ram":
            labels.append("ram")
            continue
        base = device.name or ("vfio" if device.kind == "vfio" else "disk")
        numbered = (not device.name or device.count != 1) if device.kind == "vfio" else not device.name and disks > 1
        for _ in range(device.count):
            labels.append(f"{base}{seen.get(base, 0)}" if numbered else base)
            seen[base] = seen.get(base, 0) + 1
    return tuple(labels)


class _New(NamedTuple):
    value: Any


def _changed(holder: Any, changes: Mapping[str, Any], done: tuple[str, ...]) -> Any:
    """Rebuild `holder` with fields changed, a mapping of changes for what lies further in; all else is shared."""
    new = {}
    for step, change in changes.items():
        inner = _child(holder, step, done)
        new[step] = change.value if isinstance(change, _New) else _changed(inner, change, (*done, step))
    if isinstance(holder, tuple):
        return tuple(new.get(str(i), value) for i, value in enumerate(holder))
    try:
        return holder.changed(**new)
    except ScenarioError as error:
        raise error.within(".".join(done)) from None


def _steps(path: Any) -> list[str]:
    if not isinstance(path, str) or not path:
        raise ScenarioError('is not a path to a field, such as "migration.max_bandwidth"', value=path)
    return path.split(".")


def _child(holder: Any, step: str, done: tuple[str, ...]) -> Any:
    """What lies one step further along a path."""
    path = ".".join((*done, step))
    if isinstance(holder, tuple):
        index = int(step) if re.fullmatch("[0-9]{1,9}", step) else len(holder)
        if index >= len(holder):
            have = f"0 to {len(holder) - 1}" if holder else "none, the list is empty"
            raise ScenarioError(f"does not exist: indices here are {have}", path)
        if step != str(index):  # a field has one path only
            raise ScenarioError(f"is not how an index is written: write {index}", path)
        return holder[index]
    if not isinstance(holder, Part):
        raise ScenarioError(f"does not exist: {'.'.join(done)} has no fields", path)
    fields = type(holder).model_fields
    if step not in fields:
        raise unknown_field(step, type(holder), path)
    return getattr(holder, step)


def field(scenario: Scenario, path: str) -> Any:
    """The value of a field by its dotted path.

    Raises
    ------
    ScenarioError
        If there is no such field.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> field(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s")), "link.bandwidth")
    1 GB/s
    """
    value: Any = scenario
    done: tuple[str, ...] = ()
    for step in _steps(path):
        value = _child(value, step, done)
        done = (*done, step)
    return value


def read_values(scenario: Scenario, path: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """Read and check single values of a field by its dotted path; errors name the path.

    Raises
    ------
    ScenarioError
        If there is no such field, if it does not hold single numbers or words, or if it refuses a value.

    Examples
    --------
    >>> from migkit import Guest, Link, Scenario
    >>> read_values(Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s")), "link.bandwidth", ["16 Gbit/s"])
    (2 GB/s,)
    """
    if isinstance(field(scenario, path), Part | tuple):  # rates and curve too
        raise ScenarioError("cannot be an axis: its values are not single numbers or words", path)
    inside, _, name = path.rpartition(".")
    if name == "kind":
        raise ScenarioError("cannot be an axis: the kinds of the devices are those of the scenario", path)
    part = type(field(scenario, inside) if inside else scenario)
    if not issubclass(part, Part):  # a time or a rate of a pair in rates or curve
        raise ScenarioError("cannot be an axis: it is one of a pair, in a list that is no field with one value", path)
    try:
        return part.read_all(name, values)
    except ScenarioError as error:
        raise error.within(inside) from None


def with_costs(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A table of a scenario in which the costs are read, if it names a file of them.

    Parameters
    ----------
    table : mapping
        As `Scenario` takes it.
    folder : path
        Where the path of the file is seen from.

    Raises
    ------
    ScenarioError
        If the file cannot be read or holds no costs.

    Examples
    --------
    >>> with_costs({"costs": {"page": "1 us"}}, Path())
    {'costs': {'page': '1 us'}}
    """
    given = table.get("costs")
    if not isinstance(given, str):
        return dict(table)
    try:
        return {**table, "costs": HostCosts.from_toml(folder / given)}
    except ScenarioError as error:
        raise error.within("costs") from None


def as_scenario(given: Any) -> Scenario:
    """Take a scenario, or make one of a mapping of its fields.

    Raises
    ------
    ScenarioError
        If it is neither, or if the fields describe no possible migration.

    Examples
    --------
    >>> as_scenario({"guest": {"ram": "1 GiB"}, "link": {"bandwidth": "1 GB/s"}}).guest.ram
    1 GiB
    """
    if isinstance(given, Scenario):
        return given
    if isinstance(given, Mapping):
        check_keys(given, "scenario")
        return Scenario(**given)
    raise ScenarioError("is not a scenario: give a migkit.Scenario, or a mapping of its fields", value=given)
