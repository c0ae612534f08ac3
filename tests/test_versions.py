"""A version of QEMU as people paste it finds its profile, and says what it leaves open."""

import json

import pytest

from migkit import Guest, Link, Migration, Scenario, Vfio, simulate
from migkit.scenario.pasted_version import read_version
from migkit.scenario.versions import MEASURED, PROFILES, known_version, profile

DEBIAN_12 = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"
QUERY = {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2+dfsg-7+deb12u18"}

PASTED = [
    (DEBIAN_12, "7.2"),
    (f"{DEBIAN_12}\nCopyright (c) 2003-2022 Fabrice Bellard and the QEMU Project developers\n", "7.2"),
    (json.dumps({"return": QUERY}), "7.2"),
    ("7.1.0", "7.2"),
    ("8.0.4", "8.0"),
    ("8.1.5", "8.1"),
    ("8.2.2", "8.2"),
    ("1:8.2.2+ds-0ubuntu1.4", "8.2"),
    ("8.2.90", "9.0-rc0"),
    ("QEMU emulator version 8.2.91 (v9.0.0-rc1)", "9.0"),
    ("v9.0.0-rc0", "9.0-rc0"),
    ("v9.0.0-rc1", "9.0"),
    ("qemu-kvm-9.0.0-10.el9", "9.0"),
    ("pve-qemu-kvm 9.0.2-4", "9.0"),
    ("9.1.2", "9.1"),
    ("9.2.4", "9.2"),
    ("10.0.2+ds-2~bpo12", "10.0"),
    ("Running hypervisor: QEMU 10.1.0", "10.1"),
    ("v10.2.2", "10.2"),
    ("11.0.92", "11.1"),
]


def scenario(**fields):
    return Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"), **fields)


@pytest.mark.parametrize(("text", "name"), PASTED)
def test_a_pasted_version_finds_its_profile(text, name):
    found = scenario(qemu=text)
    assert found.profile is PROFILES[name]
    assert "\n" not in found.qemu
    assert profile(found.qemu) is profile(text)
    assert f"profile {name}" in found.assumed[0]
    assert ("no run was measured" in found.assumed[0]) == (name not in MEASURED)
    assert Scenario.from_toml(found.to_toml()) == found


def test_a_version_is_kept_as_it_was_given():
    assert scenario(qemu=DEBIAN_12).qemu == "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)" == scenario(qemu=QUERY).qemu
    assert scenario(qemu="qemu-kvm-9.0.0-10.el9").qemu == "qemu-kvm-9.0.0-10.el9"
    assert read_version("QEMU emulator version 8.2.2 (qemu-8.2.2-1.fc40)").package == "qemu-8.2.2-1.fc40"


def test_a_profile_is_no_guess():
    assert all(scenario(qemu=name).assumed == () for name in PROFILES)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (DEBIAN_12, ""),  # measured: serialized
        ("qemu-kvm-7.2.0-11.el9", "Oracle Linux 9 has commit 4e1871c450"),
        ("qemu-kvm-7.2.0-10.el9", "may have commit 4e1871c450"),
        ("qemu-kvm-7.2.0-14.el9_2.5", "may have commit 4e1871c450"),
        ("8.2.2", "may have commit 4e1871c450"),
        ("1:8.2.2+ds-0ubuntu1.4", "may have commit 4e1871c450"),
        ("9.0.0", ""),
        ("10.0.2+ds-2~bpo12", ""),
    ],
)
def test_builds_that_may_have_the_commit_under_study_are_named(text, says):
    warnings = known_version(text).warnings
    assert (says in warnings[0]) if says else warnings == ()


def test_a_migration_tells_what_was_assumed():
    migration = simulate(scenario(qemu="qemu-kvm-7.2.0-11.el9"))
    assert "computed by the rules of profile 7.2" in migration.summary()
    assert "Oracle Linux 9" in migration.summary()
    assert migration.to_dict()["assumed"] == list(migration.scenario.assumed)
    assert "assumed" not in simulate(scenario(qemu="9.1")).summary().split("costs:")[1].split("\n", 1)[1]


def test_versions_of_one_profile_give_the_same_numbers():
    given = {"devices": [Vfio(initial_bytes="8 MiB")], "migration": Migration(switchover_ack=True, return_path=True)}
    first, second = (simulate(scenario(qemu=qemu, **given)).total_time_s for qemu in ("10.2", "10.2.2"))
    assert first == second


def test_vfio_of_8_0_is_not_called_before_the_stop():
    migration = simulate(scenario(qemu="8.0", devices=[Vfio(initial_bytes=0, stop_copy_bytes="20 MiB")]))
    assert migration.devices.set_index("device").loc["vfio0", ["bytes", "calls"]].tolist() == [20 << 20, 0]
