"""Predicting a running guest: what it is asked, what is said of it, and what is told when it cannot be asked."""

import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import migkit
from migkit import Guest, Link, Scenario, ScenarioError, Unfinished, predict_running
from migkit.analysis.forecast import forecast
from migkit.cli import app
from migkit.qemu import running
from migkit.qemu.running import ask_running, profile_of
from migkit.qemu.working_set import DirtyVolumes, fit_working_set

MIB, GIB = 1 << 20, 1 << 30
PARAMETERS = {"max-bandwidth": 128 * MIB, "downtime-limit": 300, "cpu-throttle-initial": 30, "max-cpu-throttle": 80}


class FakeQemu:
    """A QMP server that answers as a QEMU does, whose guest writes at random; what it is asked is kept in `asked`."""

    def __init__(self, path, version=(10, 0, 2), size=64e6, rate=60e6, ram=GIB, **answers):
        self.version, self.size, self.rate, self.ram = version, size, rate, ram
        self.asked, self.answers, self._draw = [], answers, np.random.default_rng(2)
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self):
        self.server.close()
        self.thread.join(5)

    def _serve(self):
        try:
            connection, _ = self.server.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            self._talk(connection)

    def _talk(self, connection):
        greeting = self.answers.get("greeting", {"QMP": {"version": {}, "capabilities": []}})
        if greeting is None:
            time.sleep(3)
            return
        connection.sendall((greeting if isinstance(greeting, str) else json.dumps(greeting) + "\n").encode())
        heard = ""
        while data := connection.recv(65536):
            heard += data.decode()
            while heard.strip():  # commands end without a line break
                said, end = json.JSONDecoder().raw_decode(heard.lstrip())
                heard = heard.lstrip()[end:]
                self.asked.append((said["execute"], said.get("arguments", {})))
                answer = self._answer(*self.asked[-1])
                if answer is None:
                    return
                named = {name: said[name] for name in said if name == "id"}
                connection.sendall((json.dumps(answer | named) + "\n").encode())

    def _answer(self, command, arguments):
        if command in self.answers:
            given = self.answers[command]
            return None if given is None else given if "error" in given else {"return": given["return"]}
        if command == "query-dirty-rate":
            return {"return": self.measured}
        if command == "calc-dirty-rate":
            seconds = arguments["calc-time"] * (1e-3 if arguments.get("calc-time-unit") == "millisecond" else 1.0)
            pages = arguments["sample-pages"] * self.ram // GIB
            volume = self.size * (1 - np.exp(-self.rate * seconds / self.size))
            seen = self._draw.binomial(pages, volume / self.ram) / pages * self.ram
            self.measured = {"status": "measured", "sample-pages": arguments["sample-pages"],
                             "dirty-rate": int(seen / seconds / MIB), "mode": "page-sampling"}  # fmt: skip
            return {"return": {}}
        major, minor, micro = self.version
        return {
            "return": {
                "query-version": {"qemu": {"major": major, "minor": minor, "micro": micro}, "package": ""},
                "query-migrate": {},
                "query-status": {"status": "running", "running": True},
                "query-memory-size-summary": {"base-memory": self.ram, "plugged-memory": 0},
                "query-migrate-capabilities": [{"capability": "auto-converge", "state": False}],
                "query-migrate-parameters": PARAMETERS,
                "query-kvm": {"enabled": True, "present": True},
                "query-cpus-fast": [],
                "qom-list": [{"name": "net0", "type": "child<virtio-net-pci>"}],
            }.get(command, {})
        }


@pytest.fixture
def path():
    with tempfile.TemporaryDirectory(prefix="mk", dir="/tmp") as folder:  # a socket has a short name
        yield Path(folder) / "qmp"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """The fake measures at once."""
    real = running.asyncio.sleep
    monkeypatch.setattr(running.asyncio, "sleep", lambda seconds: real(min(seconds, 0.001)))


@pytest.fixture
def fake(path):
    pytest.importorskip("qemu.qmp", reason="qemu.qmp is not installed: pip install 'migkit[qemu]'")
    started = []

    def start(**given):
        started.append(FakeQemu(path, **given))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_what_qemu_says_is_in_the_answer(fake, path):
    qemu = fake()
    guest = ask_running(path)
    assert (guest.version, guest.profile, guest.accel, guest.ram_bytes) == ("10.0.2", "10.0", "kvm", GIB)
    assert guest.migration.downtime_limit == 0.3
    assert guest.migration.cpu_throttle_initial == 30
    assert guest.migration.max_cpu_throttle == 80
    assert len(guest.dirty_rates) == 10
    assert guest.untouched_bytes is None
    assert guest.vcpu_use is None
    assert [name for name, _ in qemu.asked if not name.startswith("query-")] == (
        ["qmp_capabilities", "qom-list", "qom-list"] + ["calc-dirty-rate"] * 10
    ), "nothing else is sent"
    assert {said["mode"] for name, said in qemu.asked if name == "calc-dirty-rate"} == {"page-sampling"}


def test_older_versions_are_asked_for_whole_seconds(fake, path):
    qemu = fake(version=(7, 2, 22))
    guest = ask_running(path)
    assert guest.profile == "7.2"
    assert not any("calc-time-unit" in said for _, said in qemu.asked)
    assert all(isinstance(said["calc-time"], int) for name, said in qemu.asked if name == "calc-dirty-rate")


def test_fractions_of_a_second_are_refused_by_older_versions(fake, path):
    fake(version=(7, 2, 22))
    with pytest.raises(ScenarioError, match=r"calc_times = \[0.5\] must be whole seconds up to QEMU 8.1"):
        ask_running(path, calc_times=["500 ms"])


@pytest.mark.parametrize(
    "version", [(7, 0, 0), (7, 2, 1), (8, 0, 0), (8, 1, 0), (8, 2, 3), (9, 1, 0), (9, 2, 0), (11, 0, 0)]
)
def test_every_version_between_has_the_profile_with_its_rules(version):
    wanted = {(7, 0): "7.2", (7, 2): "7.2", (8, 0): "8.0", (8, 1): "8.1", (8, 2): "8.2", (9, 1): "9.1", (9, 2): "9.2",
              (11, 0): "11.0"}  # fmt: skip
    name, note = profile_of(version[:2])
    assert name == wanted[version[:2]]
    assert (note == "") == (version[:2] in {(7, 2), (8, 2)})


def test_the_prediction_and_its_uncertainty(fake, path):
    fake()
    answer = predict_running(path, "10 Gbit/s", draws=60)
    assert answer.completed == 1.0
    assert answer.changes == ()
    low, middle, high = answer.total_time_s
    assert low <= middle <= high
    assert 8.0 < middle < 9.5, "1 GiB, and some of 64 MB again, at 128 MiB/s"
    assert "Nothing was changed in the guest" in answer.summary()
    assert any("costs of the hosts: assumed" in each for each in answer.assumed)
    assert migkit.simulate(answer.scenario).converged
    assert Scenario.from_toml(answer.to_dict()["scenario"]) == answer.scenario


def test_what_would_let_it_converge_is_told_and_does(fake, path):
    fake(size=400e6, rate=900e6)
    answer = predict_running(path, "10 Gbit/s", draws=60)
    assert answer.completed == 0.0
    assert answer.sentence.startswith("It does not converge: 0 of 60 draws complete.")
    assert answer.total_time_s is None
    bandwidth, downtime, throttled = answer.changes
    assert list(bandwidth.parameters) == ["max-bandwidth"]
    assert list(downtime.parameters) == ["downtime-limit"]
    assert throttled.parameters == {"auto-converge": True}
    assert bandwidth.enough
    assert downtime.enough
    for change, field, less in ((bandwidth, "max_bandwidth", 0.85), (downtime, "downtime_limit", 0.85)):
        (value,) = change.parameters.values()
        changed = answer.scenario.replace(f"migration.{field}", value)
        assert migkit.simulate(changed).converged
        changed = answer.scenario.replace(f"migration.{field}", type(value)(float(value) * less))
        assert not migkit.simulate(changed).converged, "it is the least"
    assert "To make 95 % of the draws complete, change:" in answer.summary()


def test_a_link_that_is_too_slow_needs_more_than_bandwidth():
    fit = fit_working_set(DirtyVolumes.of_rates([0.1, 0.5, 1.0, 3.0], [3e8, 2.8e8, 2.5e8, 1.5e8]), GIB, draws=40)
    scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 Gbit/s"))
    found = forecast(scenario, fit)
    assert found.completed == 0.0
    free = found.changes[0]
    assert free.parameters == {"max-bandwidth": 0}
    assert not free.enough
    assert set(found.changes[3].parameters) == {"max-bandwidth", "downtime-limit"}
    assert found.changes[1].enough
    assert "Not enough:" in found.advice


def test_memory_that_was_never_touched_is_sent_as_zero_pages():
    fit = fit_working_set(DirtyVolumes.of_rates([1.0, 3.0], [2e6, 2e6]), GIB, draws=30)
    scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"))
    full = forecast(scenario, fit).total_time_s[1]
    empty = forecast(scenario, fit, untouched_bytes=GIB // 2).total_time_s[1]
    assert empty == pytest.approx(full / 2, rel=0.1)


def test_a_guest_that_uses_little_of_its_vcpu_is_throttled_in_vain_longer():
    fit = fit_working_set(DirtyVolumes.of_rates([0.1, 0.5, 1.0, 3.0], [3e8, 2.8e8, 2.5e8, 1.5e8]), GIB, draws=30)
    scenario = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"), migration={"auto_converge": True})
    busy, paced = (forecast(scenario, fit, vcpu_share=share).total_time_s[1] for share in (1.0, 0.1))
    assert paced > 1.3 * busy


def test_what_is_not_modelled_is_noted(fake, path):
    on = [{"capability": name, "state": True} for name in ("compress", "postcopy-ram")]
    vfio = [{"name": "gpu", "type": "child<vfio-pci>"}]
    fake(**{"query-migrate-capabilities": {"return": on}, "qom-list": {"return": vfio}})
    notes = ask_running(path).notes
    assert any("compress is on, and not in the answer" in note for note in notes)
    assert any("VFIO device" in note for note in notes)


# --- capabilities of which QMP does not tell all --------------------------------------------------


def _on(*names, **parameters):
    return {
        "query-migrate-capabilities": {"return": [{"capability": name, "state": True} for name in names]},
        "query-migrate-parameters": {
            "return": PARAMETERS | {name.replace("_", "-"): value for name, value in parameters.items()}
        },
    }


def test_dirty_limit_has_its_parameters_and_a_ring_that_is_assumed_or_given(fake, path):
    fake(**_on("dirty-limit", vcpu_dirty_limit=40, x_vcpu_dirty_limit_period=500))
    found = predict_running(path, "10 Gbit/s", calc_times=["1 s"], draws=20)
    migration = found.scenario.migration
    assert (migration.dirty_limit, migration.vcpu_dirty_limit, migration.x_vcpu_dirty_limit_period) == (True, 40, 0.5)
    assert found.scenario.guest.dirty_ring_size == 4096
    told = "the dirty ring of a vCPU has 4096 entries: QMP does not tell, and dirty-limit needs one"
    assert told in found.assumed
    assert "dirty-limit: each set is written by one vCPU" in found.assumed


def test_a_ring_that_is_given_is_taken(fake, path):
    fake(**_on("dirty-limit"))
    found = predict_running(path, "10 Gbit/s", calc_times=["1 s"], draws=20, dirty_ring_size=8192)
    assert found.scenario.guest.dirty_ring_size == 8192
    assert not any("entries: QMP does not tell" in each for each in found.assumed)


def test_a_ring_is_read_from_the_command_line(tmp_path, monkeypatch):
    (tmp_path / "cmdline").write_bytes(b"qemu-system-x86_64\0-accel\0kvm,dirty-ring-size=16384\0-m\01G\0")
    monkeypatch.setattr(running, "_process", lambda thread: tmp_path)
    assert running._ring([1]) == 16384
    (tmp_path / "cmdline").write_bytes(b"qemu-system-x86_64\0-accel\0kvm\0")
    assert running._ring([1]) == 0
    monkeypatch.setattr(running, "_process", lambda thread: None)
    assert running._ring([1]) is None


def test_a_guest_that_dirty_limit_does_not_help_may_have_auto_converge_instead():
    fit = fit_working_set(DirtyVolumes.of_rates([0.1, 0.5, 1.0, 3.0], [3e8, 2.8e8, 2.5e8, 1.5e8]), GIB, draws=30)
    given = Scenario(
        guest=Guest(ram="1 GiB", dirty_ring_size=4096), link=Link(bandwidth="500 Mbit/s"),
        migration={"dirty_limit": True, "vcpu_dirty_limit": 1000, "max_bandwidth": 0}, time_limit="2 min",
    )  # fmt: skip
    changes = forecast(given, fit, vcpu_share=1.0).changes
    assert {"dirty-limit": False, "auto-converge": True} in [each.parameters for each in changes]
    assert any(each.sentence.startswith("dirty-limit = off and auto-converge = on") for each in changes)
    other = forecast(given.replace({"migration.dirty_limit": False}), fit, vcpu_share=1.0).changes
    assert {"dirty-limit": True} in [each.parameters for each in other]


def test_xbzrle_is_in_the_answer_where_the_size_of_an_encoded_page_is_given(fake, path):
    fake(**_on("xbzrle", xbzrle_cache_size=1 << 30))
    without = predict_running(path, "10 Gbit/s", calc_times=["1 s"], draws=20)
    assert not without.scenario.migration.xbzrle
    assert any("xbzrle is on, and not in the answer" in each for each in without.assumed)


def test_xbzrle_of_a_size_that_is_given(fake, path):
    fake(**_on("xbzrle", xbzrle_cache_size=1 << 30))
    found = predict_running(path, "10 Gbit/s", calc_times=["1 s"], draws=20, xbzrle_page="300 B")
    assert found.scenario.migration.xbzrle
    assert found.scenario.migration.xbzrle_cache_size == 1 << 30
    assert found.scenario.link.xbzrle_page == 300
    assert "an encoded page of this guest takes 300 B, as given" in found.assumed
    assert any("costs.xbzrle_page, which was not measured" in each for each in found.assumed)


@pytest.mark.parametrize(
    ("names", "said", "detection"),
    [((), "multifd", None), ((), "none", "none"), (("multifd",), "legacy", "legacy"),
     (("multifd",), "multifd", "multifd")],
)  # fmt: skip
def test_who_looks_for_zero_pages_is_read(fake, path, names, said, detection):
    fake(**_on(*names, zero_page_detection=said, cpu_throttle_tailslow=True))
    migration = ask_running(path).migration
    assert migration.zero_page_detection == detection
    assert migration.cpu_throttle_tailslow


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "kind", "sentence"),
    [
        ({"greeting": "HTTP/1.1 400 Bad Request\r\n\r\n"}, ScenarioError, "is not a QMP socket"),
        ({"greeting": '{"hello": 1}\n'}, ScenarioError, "is not a QMP socket"),
        ({"greeting": ""}, Unfinished, "closed the connection|does not answer|answers at"),
        ({"greeting": None}, Unfinished, "takes one QMP client at a time"),
        ({"query-memory-size-summary": None}, Unfinished, "ended, or closed the connection, before it answered"),
        ({"query-dirty-rate": None}, Unfinished, "before it answered query-dirty-rate"),
        ({"query-dirty-rate": {"return": {"status": "measuring"}}}, Unfinished, "did not finish measuring"),
        ({"query-version": {"return": {"qemu": "new"}}}, ScenarioError, "does not say its version"),
        ({"query-memory-size-summary": {"return": {}}}, ScenarioError, "answers query-memory-size-sum"),
        ({"query-migrate-capabilities": {"return": [3]}}, ScenarioError, "answers query-migrate-cap.* as no"),
        ({"version": (12, 0, 0)}, ScenarioError, r'version = "12.0" is a version of QEMU whose rules are not known'),
        ({"version": (5, 2, 0)}, ScenarioError, "whose rules are not known"),
        ({"query-migrate": {"return": {"status": "active"}}}, ScenarioError, "is being migrated"),
        ({"query-status": {"return": {"status": "paused", "running": False}}}, ScenarioError, "a guest that is paused"),
        ({"query-status": {"return": {"status": "inmigrate", "running": False}}}, ScenarioError, "waits for an incom"),
        ({"query-migrate-capabilities": {"return": [{"capability": "x-colo", "state": True}]}}, ScenarioError,
         "x-colo is on"),
        ({"ram": 64 * MIB}, ScenarioError, "less than 128 MiB"),
        ({"calc-dirty-rate": {"error": {"class": "GenericError", "desc": "still in progress"}}}, ScenarioError,
         "cannot measure the dirty rate: still in progress"),
        ({"query-kvm": {"error": {"class": "CommandNotFound", "desc": "no such command"}}}, ScenarioError,
         "refuses query-kvm: no such command"),
    ],
)  # fmt: skip
def test_each_fault_is_one_sentence(fake, path, monkeypatch, answers, kind, sentence):
    monkeypatch.setattr(running, "CONNECT_S", 0.5)
    monkeypatch.setattr(running, "ANSWER_S", 0.3)
    fake(**answers)
    with pytest.raises(kind, match=sentence) as error:
        predict_running(path, "10 Gbit/s", calc_times=["1 s"], draws=20)
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert len(text) < 350


def test_an_unknown_version_can_be_given_a_profile(fake, path):
    fake(version=(12, 0, 0))
    assert ask_running(path, profile="11.1").profile == "11.1"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open every socket")
def test_a_socket_without_permission(fake, path):
    fake()
    os.chmod(path, 0)
    with pytest.raises(ScenarioError, match="no permission"):
        ask_running(path)


def test_no_socket_no_qemu_and_no_permission(path, monkeypatch):
    pytest.importorskip("qemu.qmp", reason="qemu.qmp is not installed: pip install 'migkit[qemu]'")
    with pytest.raises(ScenarioError, match="does not exist"):
        ask_running(path)
    path.write_text("")
    with pytest.raises(ScenarioError, match="is not a socket"):
        ask_running(path)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with pytest.raises(ScenarioError, match="the QEMU that made it is gone"):
        ask_running(path)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(running.sockets.socket, "connect", refuse, raising=False)
    with pytest.raises(ScenarioError, match="run as the user that runs QEMU"):
        ask_running(path)


def test_without_qemu_qmp_the_package_is_named(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "qemu.qmp", None)
    with pytest.raises(ScenarioError, match=r"migkit predict needs the package qemu.qmp: pip install 'migkit\[qemu\]'"):
        ask_running(path)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"draws": 5}, "draws = 5"), ({"zero_share": 2}, "zero_share = 2"), ({"calc_times": []}, "calc_times"),
     ({"calc_times": ["90 s"]}, "50 ms to 60 s"), ({"qemu": "6.0"}, "whose rules are not known"),
     ({"costs": "missing.toml"}, "missing.toml")],
)  # fmt: skip
def test_arguments_are_refused_before_anything_is_asked(path, given, sentence):
    with pytest.raises(ScenarioError, match=sentence):
        predict_running(path, "10 Gbit/s", **given)


def test_the_command(fake, path, tmp_path):
    fake()
    target = tmp_path / "scenario.toml"
    command = ["predict", "--qmp", str(path), "--link", "10 Gbit/s", "--draws", "20", "--json", "-q", "-o", str(target)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["completed"] == 1.0
    assert said["guest"]["version"] == "10.0.2"
    assert migkit.simulate(Scenario.from_toml(target)).converged


def test_the_command_says_what_is_wrong_on_one_line(path):
    result = CliRunner().invoke(app, ["predict", "--qmp", str(path), "--link", "10 Gbit/s"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "does not exist" in result.stderr
