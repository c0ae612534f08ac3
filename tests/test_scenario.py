"""Scenarios: what is accepted comes back, what is refused is told in one sentence."""

import importlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import migkit
from migkit import Block, Guest, HostCosts, Link, Migration, Ram, Region, Scenario, ScenarioError, Vfio
from migkit.scenario.errors import show
from migkit.scenario.scenario import as_scenario, field, read_values
from migkit.scenario.units import Rate, Seconds
from migkit.scenario.versions import PROFILES, profile


def guest(**fields):
    return Guest(**{"ram": "1 GiB", **fields})


def scenario(**fields):
    return Scenario(**{"guest": guest(), "link": Link(bandwidth="10 Gbit/s"), **fields})


REFUSED = [
    # units and ranges
    (lambda: guest(ram=17179869184), 'ram = 17179869184 has no unit: write a size such as "16 GiB" or "512 MB".'),
    (lambda: guest(ram="300 ms"), "is a time, but a size is needed"),
    (lambda: Link(bandwidth="10 Gb/s"), 'write "10 Gbit/s" or "10 GB/s"'),
    (lambda: Link(bandwidth="2000 GB/s"), "must be from 1 kB/s to 1 TB/s"),
    (lambda: Link(bandwidth="1 GB/s", fresh_bandwidth="1 B/s"), "must be 0, or from 1 kB/s to 1 TB/s"),
    (lambda: Link(bandwidth="1 GB/s", fresh_after="1 GiB"), "needs fresh_bandwidth above 0"),
    (lambda: Migration(downtime_limit="2001 s"), "must be from 0 s to 2000 s"),
    (lambda: Migration(max_bandwidth="1 B/s"), "must be 0, or from 1 kB/s"),
    (lambda: HostCosts(iteration=0), "must be from 1 us to 1 h"),
    (lambda: Vfio(initial_bytes=0, count=65), "count = 65 is outside the allowed range: it must be from 0 to 64."),
    (lambda: Vfio(initial_bytes=0, count=1.5), "is not a whole number"),
    (lambda: Vfio(initial_bytes=0, count=True), "is not a whole number"),
    (lambda: guest(zero_share=1.5), "must be from 0 to 1"),
    (lambda: guest(zero_share=float("nan")), "must be from 0 to 1"),
    (lambda: guest(zero_share="half"), "is not a number"),
    (lambda: Migration(cpu_throttle_initial=100), "must be from 1 to 99"),
    (lambda: Migration(cpu_throttle_initial=50, max_cpu_throttle=40), "max_cpu_throttle = 40 is below"),
    (lambda: Migration(auto_converge="on"), "must be true or false"),
    (lambda: Migration(auto_converge=1), "must be true or false"),
    # names
    (
        lambda: Migration(max_bandwith="1 GB/s"),
        'max_bandwith is not a field of Migration: did you mean "max_bandwidth"?',
    ),
    (lambda: scenario(link={"bandwith": "1 GB/s"}), "link.bandwith is not a field of Link"),
    (lambda: guest(colour=1), 'is not a field of Guest: use "ram"'),
    (lambda: Scenario(guest=guest()), "link is missing"),
    (lambda: scenario(devices=[{"kind": "vfio"}]), "devices.0.initial_bytes is missing"),
    (lambda: guest(accel="kmv"), 'accel = "kmv" is not allowed: use "kvm" or "tcg".'),
    (lambda: Region(size="1 MiB", pattern="sequentially"), 'did you mean "sequential"?'),
    (lambda: scenario(qemu="nine"), 'use "7.2", "8.0", "8.1", "8.2", "9.0-rc0", "9.0", "9.1", "9.2", "10.0"'),
    (lambda: scenario(qemu="6.2.0"), "is a version of QEMU whose rules are not known"),
    (lambda: scenario(qemu="11.2"), 'name the profile that comes nearest, such as "11.1"'),
    (lambda: scenario(qemu="pc-q35-8.2"), "is a machine type, which says nothing about the QEMU that runs it"),
    (lambda: scenario(qemu={"major": 9}), "is no version of QEMU"),
    (lambda: scenario(qemu="7.2", devices=[Vfio(initial_bytes=0)]), "is a VFIO device, which profile"),
    (lambda: scenario(qemu="8.0", devices=[Vfio(initial_bytes="1 MiB")]), "has no pre-copy: use 8.1 or later"),
    (lambda: scenario(qemu="8.0", migration=Migration(switchover_ack=True, return_path=True)), "use 8.1 or later"),
    (lambda: scenario(qemu="8.1", migration=Migration(avail_switchover_bandwidth="1 GB/s")), "use 8.2 or later"),
    (lambda: scenario(qemu="9.1", devices=[Block(size="1 GiB")]), "use 9.0 or earlier"),
    (lambda: scenario(qemu=9.0), "qemu = 9.0 is not text"),
    (lambda: scenario(policy="serialised"), 'did you mean "serialized"?'),
    (lambda: scenario(name=3), "name = 3 is not text"),
    # memory
    (lambda: guest(ram="10000 B"), 'ram = "10 kB" is not a whole number of 4 KiB pages: the nearest is 8 KiB.'),
    (lambda: guest(page_size="5000 B"), "is not a power of two"),
    (lambda: guest(regions=[Region(size="1 MB")]), "regions.0.size"),
    (lambda: guest(regions=[Region(size="4 KiB", start="1 kB")]), "regions.0.start"),
    (lambda: guest(regions=[Region(size="1 GiB", start="4 KiB")]), "beyond the 1 GiB of RAM"),
    (
        lambda: scenario(
            guest={"ram": "1 GiB", "regions": [Region(size="1 MiB", start="512 KiB"), Region(size="1 MiB")]}
        ),
        "guest.regions.0 starts at 512 KiB and overlaps region 1 of the list, which ends at 1 MiB",
    ),
    # devices
    (lambda: scenario(devices=[{"kind": "gpu"}]), 'devices.0.kind = "gpu" is not a kind of device'),
    (lambda: scenario(devices=[{"size": "1 MiB"}]), 'devices.0.kind is missing: use "ram", "vfio" or "block"'),
    (lambda: scenario(devices=[3]), "devices.0 = 3 is not a device"),
    (lambda: scenario(devices=3), "devices = 3 is not a list"),
    (lambda: scenario(devices=[Ram(), Ram()]), "holds RAM more than once"),
    (lambda: scenario(devices=[Vfio(name="ram", initial_bytes=0)]), 'gives the name "ram" to more than one device'),
    (lambda: scenario(devices=[Vfio(name="pending", initial_bytes=0)]), '"pending" is what a timeline calls'),
    (lambda: Vfio(initial_bytes=0, dirty_rate="1 MB/s"), "dirty_max"),
    # parts that do not fit together
    (lambda: scenario(migration={"switchover_ack": True}), "migration.switchover_ack = True needs return_path = True"),
    (lambda: scenario(qemu="7.2", devices=[Vfio(initial_bytes=0)]), "devices.0 is a VFIO device"),
    (lambda: scenario(qemu="10.0", devices=[Block(size="1 MiB")]), "devices.0 is a block device"),
    (
        lambda: scenario(qemu="7.2", migration=Migration(return_path=True, switchover_ack=True)),
        'migration.switchover_ack = True is not available in profile "7.2"',
    ),
    (
        lambda: scenario(qemu="7.2", migration=Migration(avail_switchover_bandwidth="1 GB/s")),
        "migration.avail_switchover_bandwidth",
    ),
    (lambda: scenario(guest=Guest(ram="64 GiB"), link=Link(bandwidth="1 kB/s")), "more than a year to carry"),
    (
        lambda: scenario(guest=Guest(ram="64 GiB"), link=Link(bandwidth="1 GB/s", fresh_bandwidth="1 kB/s")),
        'link.fresh_bandwidth = "1 kB/s" needs more than a year to carry',
    ),
    (lambda: scenario(devices=[Vfio(initial_bytes="1 TiB", read_rate="1 kB/s")]), "more than a year to be read"),
    (lambda: scenario(guest=3), "guest = 3 is not a Guest"),
    (lambda: Scenario.model_validate({"guest": {"ram": 3}}), "guest.ram = 3 has no unit"),
    # replace
    (lambda: scenario().replace("guest.regions.0.size", "1 MiB"), "guest.regions.0 does not exist"),
    (lambda: scenario().replace("guest.ramm", "1 MiB"), "guest.ramm is not a field of Guest"),
    (lambda: scenario().replace("qemu.x", 1), "qemu.x does not exist"),
    (lambda: scenario().replace("guest.ram", 5), "guest.ram = 5 has no unit"),
    (lambda: scenario().replace("", 5), "is not a path"),
    (lambda: scenario(devices=[Ram()]).replace("devices.1.count", 2), "indices here are 0 to 0"),
    (lambda: scenario(devices=[Vfio(initial_bytes=0)]).replace("devices.0.count", 99), "devices.0.count = 99"),
    (lambda: scenario(devices=[Vfio(initial_bytes=0)]).replace("qemu", "7.2"), "devices.0 is a VFIO device"),
    # never changes
    (lambda: setattr(scenario(), "name", "x"), "name cannot be set"),
    (lambda: delattr(scenario(), "name"), "name cannot be deleted"),
    # TOML
    (lambda: Scenario.from_toml("a = = 1"), "TOML text is not valid TOML"),
    (lambda: Scenario.from_toml("no-such-file.toml"), '"no-such-file.toml" is not a file that exists'),
    (lambda: Scenario.from_toml("."), "cannot be read"),
    (lambda: Scenario.from_toml('[gest]\nram = "1 GiB"\n'), 'gest is not a field of Scenario: did you mean "guest"?'),
    (lambda: Scenario.from_toml(None), "None is not TOML"),
    (lambda: Scenario.from_toml(b"a = 1"), "is not TOML"),
    (lambda: Scenario.from_toml("self = 1"), "self is not a field of Scenario"),
    (lambda: Scenario.from_toml("a = " + "1" * 5000), "TOML text holds a number of too many digits"),
    (lambda: Scenario.from_toml("a = " + "[" * 3000 + "]" * 3000), "TOML text has too many brackets within brackets"),
    (lambda: Scenario.from_toml("a\0b"), '"a\\x00b" cannot be the name of a file'),
    (lambda: Scenario.from_toml("\ud800"), '"\\ud800" cannot be the name of a file'),
    (lambda: Scenario.from_toml("x" * 9999 + " = 1"), "... is not a field of Scenario"),
    # more policies
    (lambda: scenario(sync_policy="9.1"), 'sync_policy = "9.1" is not a sync policy: use "7.2"'),
    (lambda: scenario(sync_policy="serialized"), 'use "7.2", "8.2", "9.0"'),
    (lambda: scenario(bandwidth_policy="mean"), 'bandwidth_policy = "mean" is not a bandwidth policy: use "window"'),
    # whatever a program gives
    (lambda: as_scenario("x"), '"x" is not a scenario: give a migkit.Scenario, or a mapping of its fields'),
    (lambda: as_scenario(None), "None is not a scenario"),
    (lambda: as_scenario({1: 2}), "scenario has the key 1, which is not the name of a field"),
    (lambda: as_scenario({"guest": {2: 3}}), "guest has the key 2"),
    (lambda: scenario(devices=[{4: 5}]), "devices has the key 4"),
    (lambda: migkit.simulate("x"), '"x" is not a scenario'),
    (lambda: migkit.frontier("x", "link.rtt", ["1 ms", "2 ms"]), '"x" is not a scenario'),
    (lambda: scenario(name="a\0"), 'name = "a\\x00" holds a NUL character'),
    (lambda: scenario(name="\ud800"), 'name = "\\ud800" holds half a character'),
    (lambda: guest(ram=10**5000), "ram = <int> has no unit"),
    (lambda: guest(ram="9" * 9999 + " B"), "is not a number with a unit"),
    (lambda: guest(zero_share=10**5000), "must be from 0 to 1"),
    (lambda: guest(zero_share=float("inf")), "must be from 0 to 1"),
    (lambda: Link(bandwidth=Rate("inf")), "bandwidth = inf is not finite"),
    (lambda: Link(bandwidth="1 GB/s", rtt=Seconds("nan")), "rtt = nan is not finite"),
    (lambda: scenario().replace("x" * 9999, 1), "... is not a field of Scenario"),
    (lambda: scenario().replace("a\n\0", 1), "a \\x00 is not a field"),
    (lambda: scenario().replace(["a"], 1), "['a'] is not a path"),
    (lambda: scenario(policy="x" * 9999), "is not a scheduling policy"),
    # one path a field
    (lambda: scenario(devices=[Ram()]).replace("devices.00", Ram()), "is not how an index is written: write 0"),
    (lambda: scenario(devices=[Ram()]).replace("devices.\u0660", Ram()), "indices here are 0 to 0"),
    (lambda: scenario(devices=[Ram()]).replace(f"devices.{'1' * 9999}", Ram()), "indices here are 0 to 0"),
    # several fields at once
    (
        lambda: scenario().replace_all({"link": Link(bandwidth="1 GB/s"), "link.rtt": "1 ms"}),
        "link.rtt lies within another field that is changed too",
    ),
    (
        lambda: scenario().replace_all({"link.rtt": "1 ms", "link": Link(bandwidth="1 GB/s")}),
        "link holds another field that is changed too",
    ),
]


@pytest.mark.parametrize(("make", "says"), REFUSED, ids=[ascii(says[:50]) for _, says in REFUSED])
def test_refused_in_one_sentence(make, says):
    with pytest.raises(ScenarioError) as caught:
        make()
    text = str(caught.value)
    assert says in text
    assert text.isprintable()
    assert len(text) < 400
    assert "pydantic" not in text
    assert text.endswith((".", "?"))
    # What a notebook prints below the sentence: no second error that caused this one.
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_files(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(scenario(name="é").to_toml(), encoding="utf-8")
    assert Scenario.from_toml(path) == Scenario.from_toml(str(path)) == scenario(name="é")
    path.write_text(scenario().to_toml(), encoding="utf-8-sig")
    assert Scenario.from_toml(path) == scenario()
    path.write_bytes(b"\xff")
    with pytest.raises(ScenarioError, match="UTF-8"):
        Scenario.from_toml(path)
    path.write_text("a = ")
    with pytest.raises(ScenarioError, match=r"a\.toml.* is not valid TOML"):
        Scenario.from_toml(path)


def test_replace_leaves_the_original_and_reaches_everything():
    first = scenario(
        guest=guest(regions=[Region(size="1 MiB")]), devices=[Vfio(initial_bytes="1 MiB"), Vfio(initial_bytes="2 MiB")]
    )
    changed = first.replace("guest.regions.0.write_rate", "1 MB/s").replace("devices.1.count", np.int64(3))
    assert (first.guest.regions[0].write_rate, first.devices[1].count) == (0, 1)
    assert (changed.guest.regions[0].write_rate, changed.devices[1].count) == (1e6, 3)
    assert changed.devices[0] is first.devices[0]
    assert first.replace("guest.ram", changed.guest.ram) == first
    assert first.replace("policy", "serialized").walk_policy == "serialized"
    assert first.replace("devices.0", Ram()).devices[0] == Ram()
    assert first.replace("guest.zero_share", np.float32(0.5)).guest.zero_share == 0.5


def test_values_that_fit_only_together_are_replaced_together():
    first = scenario(guest=guest(regions=[Region(size="1 MiB")]))
    values = {"guest.regions.0.size": "2 GiB", "guest.ram": "4 GiB", "qemu": "8.2"}
    changed = first.replace_all(values)
    larger = first.replace("guest.ram", "4 GiB")
    assert changed == larger.replace("guest.regions.0.size", "2 GiB").replace("qemu", "8.2")
    assert changed.link is first.link
    assert first.replace_all({}) == first


def test_fields_are_found_and_read_by_path():
    one = scenario(devices=[Vfio(initial_bytes="1 MiB")])
    assert field(one, "devices.0.initial_bytes") == 2**20
    assert repr(read_values(one, "devices.0.initial_bytes", ["2 MiB", "3 MiB"])) == "(2 MiB, 3 MiB)"
    with pytest.raises(ScenarioError, match=r'devices\.0\.initial_bytes = "2 s" is a time'):
        read_values(one, "devices.0.initial_bytes", ["2 MiB", "2 s", "3 s"])
    assert read_values(one, "policy", [None]) == (None,)
    assert read_values(one, "devices.0.count", [np.int64(3)]) == (3,)


def test_a_scenario_can_be_given_as_a_mapping():
    one = scenario()
    assert as_scenario(one) is one
    assert as_scenario(one.model_dump()) == one


def test_policies_are_those_of_the_version_unless_given():
    one = scenario()
    assert (one.policy, one.sync_policy, one.bandwidth_policy) == (None, None, None)
    assert "policy" not in one.to_toml()
    given = scenario(sync_policy="11.1", bandwidth_policy="window")
    assert 'sync_policy = "11.1"' in given.to_toml()
    assert Scenario.from_toml(given.to_toml()) == given


def test_defaults_are_those_of_qemu():
    defaults = scenario().migration
    assert (defaults.max_bandwidth, defaults.downtime_limit) == (128 * 2**20, 0.3)
    assert (defaults.switchover_ack, defaults.return_path, defaults.auto_converge) == (False, False, False)
    assert [scenario(qemu=name).walk_policy for name in PROFILES] == ["serialized"] * 4 + ["unserialized"] * 9


def test_profiles_differ_where_qemu_does():
    def those(has):
        return [each.name for each in PROFILES.values() if has(each)]

    assert [each.exact_rule for each in PROFILES.values()] == [0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 3]
    assert [each.vfio_counts for each in PROFILES.values()] == [0, 3, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2]
    assert those(lambda each: each.flush_pages == 1) == ["7.2", "8.0", "8.1"]
    assert those(lambda each: each.throttle_timer_ns) == ["9.2", "10.0", "10.1", "10.2", "11.0", "11.1"]
    assert those(lambda each: not each.ram_exact_always) == ["8.0", "8.1", "8.2"]
    assert those(lambda each: each.vfio_always_done) == ["8.0", "8.1", "8.2"]
    assert those(lambda each: each.complete_rule) == ["10.1", "10.2", "11.0", "11.1"]
    assert those(lambda each: each.avail_per_ms_exact) == ["11.0", "11.1"]
    assert those(lambda each: not each.counts_all_syncs) == ["11.1"]
    assert those(lambda each: each.supports_block) == ["7.2", "8.0", "8.1", "8.2", "9.0-rc0", "9.0"]
    assert those(lambda each: not each.supports_switchover_ack) == ["7.2", "8.0"]
    assert those(lambda each: not each.supports_avail_switchover_bandwidth) == ["7.2", "8.0", "8.1"]
    assert profile("9.0") is scenario().profile


@pytest.mark.short
def test_repr_pickle_and_hash():
    one = scenario(devices=[Vfio(initial_bytes="1 MiB")])
    names = {cls.__name__: cls for cls in (Guest, HostCosts, Link, Migration, Ram, Region, Scenario, Vfio)}
    assert eval(repr(one), names) == one
    assert pickle.loads(pickle.dumps(one)) == one
    assert hash(one) == hash(scenario(devices=[Vfio(initial_bytes="1 MiB")]))


PAGES = st.integers(1, 2**20).map(lambda n: f"{4 * n} KiB")
SHARES = st.floats(0, 1)
RATES = st.floats(1e3, 1e12).map(lambda x: f"{x!r} B/s")
BANDWIDTHS = st.floats(1e4, 1e12).map(lambda x: f"{x!r} B/s")  # the largest scenario drawn takes less than a year
TIMES = st.floats(1e-6, 1e-3).map(lambda x: f"{x!r} s")


@st.composite
def guests(draw):
    sizes = draw(st.lists(st.integers(1, 1000), max_size=4))
    regions, start = [], 0
    for size in sizes:
        start += draw(st.integers(0, 10))
        regions.append(
            Region(
                size=f"{size * 4} KiB",
                start=f"{start * 4} KiB",
                write_rate=draw(RATES),
                pattern=draw(st.sampled_from(["uniform", "sequential"])),
                zero_share=draw(SHARES),
            )
        )
        start += size
    ram = f"{(start + draw(st.integers(1, 10**6))) * 4} KiB"
    return Guest(ram=ram, regions=regions, zero_share=draw(SHARES), accel=draw(st.sampled_from(["kvm", "tcg"])))


VFIO = st.builds(Vfio, initial_bytes=PAGES, dirty_rate=RATES, dirty_max=PAGES, load_time=TIMES, count=st.integers(0, 3))
SCENARIOS = st.builds(
    Scenario,
    name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    guest=guests(),
    devices=st.lists(VFIO, max_size=3),
    link=st.builds(Link, bandwidth=BANDWIDTHS, rtt=TIMES, send_buffer=PAGES),
    migration=st.builds(
        Migration, max_bandwidth=RATES, downtime_limit=TIMES, return_path=st.just(True), switchover_ack=st.booleans()
    ),
    costs=st.builds(HostCosts, iteration=TIMES, page=TIMES, bitmap_sync_per_gib=TIMES),
    qemu=st.sampled_from(["8.2", "9.0", "11.1"]),
    policy=st.none() | st.sampled_from(["serialized", "unserialized"]),
)


@settings(max_examples=50, deadline=None)
@given(SCENARIOS)
@pytest.mark.short
def test_toml_loses_nothing(one):
    assert Scenario.from_toml(one.to_toml() + "\n") == one


def test_errors_cut_long_values():
    assert len(show("x" * 500)) == 80


@pytest.mark.short
def test_importing_migkit_is_light():
    code = (
        "import sys, migkit; print([m for m in ('numpy', 'pydantic', 'pint', 'numba', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.short
def test_scenarios_do_not_need_pint():
    code = "import sys, migkit; migkit.Link(bandwidth='1 GB/s'); print('pint' in sys.modules, 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"


def test_the_front_door():
    assert migkit.Scenario is Scenario
    assert migkit.units.parse_bytes("1 KiB") == 1024
    assert set(migkit.__all__) <= set(dir(migkit))
    # Importing the module must not hide the function of the same name.
    assert callable(importlib.import_module("migkit.run.simulate").simulate)
    assert callable(migkit.simulate)
    assert callable(migkit.sweep)
    with pytest.raises(AttributeError, match="nothing"):
        _ = migkit.nothing


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Link("10 Gbit/s"), 'Link("10 Gbit/s") takes its fields by name: write Link(bandwidth="10 Gbit/s").'),
        (lambda: Guest("1 GiB", []), 'Guest("1 GiB") takes its fields by name: write Guest(ram="1 GiB").'),
        (lambda: Scenario(1), "Scenario(1) takes its fields by name: write Scenario(guest=1)."),
    ],
)
def test_fields_without_their_names_are_refused_in_a_sentence(made, said):
    with pytest.raises(ScenarioError) as error:
        made()
    assert str(error.value) == said
