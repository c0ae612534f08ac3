"""The preloaded device: what is written, the library, the log, and real binaries.

The tests marked ``qemu`` run the QEMU of the path and those below the folders in ``MIGKIT_QEMU_ROOTS`` (made with
``dpkg -x``, separated by colons).
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from migkit.qemu import device as device_module
from migkit.qemu.device import Device, environment, library, read_log, table_version
from migkit.scenario.errors import ScenarioError

needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="gcc is not installed")


# What is written


def test_a_device_is_read_from_one_line():
    read = Device.parse(" initial = 64MiB, stop=2MiB,dirty=1MB/s,dirty_max=16MiB,load=100ms,count=2")
    assert read == Device(
        initial="64 MiB", stop="2 MiB", dirty="1 MB/s", dirty_max="16 MiB", load="100 ms", count=2
    )  # fmt: skip
    assert Device.parse("initial=0,stop=8MiB").initial == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", 'device = "" is not a device: write one such as "initial=64MiB,stop=1MiB".'),
        (None, 'device = None is not a device: write one such as "initial=64MiB,stop=1MiB".'),
        ("stop=1MiB", "device.initial is missing: it has no default."),
        ("initial", 'device = "initial" has no value: write one such as "initial=64MiB".'),
        ("initial=64", 'device.initial = "64" has no unit: write a size such as "16 GiB" or "512 MB".'),
        ("load=1s", "device.initial is missing: it has no default."),
        ("initial=1MiB,load=5B",
         'device.load = "5B" is a size, but a time is needed: write a time such as "300 ms" or "2 s".'),
        ("initial=1MiB,initial=2MiB", 'device.initial = "2MiB" is given twice: give it once.'),
        ("initial=1MiB,inital=2MiB", 'device = "inital=2MiB" has no such value: did you mean "initial"?'),
        ("initial=1MiB,dirty=1MB/s",
         'device.dirty_max = "0 B" must be above 0 when dirty is (1 MB/s): it is the most that can be dirty at once.'),
        ("initial=1MiB,count=65", "device.count = 65 is outside the allowed range: it must be from 1 to 64."),
        ("initial=1MiB,count=1.5", 'device.count = "1.5" is not a whole number: it must be from 1 to 64.'),
    ],
)  # fmt: skip
def test_what_is_not_a_device_is_told_in_one_sentence(text, message):
    with pytest.raises(ScenarioError) as error:
        Device.parse(text)
    assert str(error.value) == message


def test_the_part_of_a_scenario_is_the_same_device():
    part = Device.parse("initial=64MiB,stop=2MiB,dirty=1MB/s,dirty_max=16MiB,load=100ms,count=3").scenario()
    assert (part.initial_bytes, part.stop_copy_bytes, part.dirty_max) == (64 << 20, 2 << 20, 16 << 20)
    assert (part.dirty_rate, part.load_time, part.count, part.chunk) == (1e6, 0.1, 3, 1 << 20)


@pytest.mark.parametrize(
    ("version", "table"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) 2003-2022", "7.2"),
        ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2+deb13u1~bpo12+1)", "10.0"),
        ("QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds-1~bpo13+1)", "11.1"),
        ("11.1", "11.1"),
    ],
)
def test_a_version_has_a_table_of_handlers(version, table):
    assert table_version(version) == table


@pytest.mark.parametrize("version", ["8.2.2", "10.1.0", "110.0.2", "1.10.0", "7.2.50", "12.0", "", "master"])
def test_an_unknown_version_is_refused(version):
    with pytest.raises(ScenarioError) as error:
        Device(initial="1 MiB").environment(version)
    assert str(error.value) == (
        f'version = "{version}" has no device: its table of handlers is not known, use QEMU "7.2", "10.0" or "11.1".'
    )


def test_the_number_of_devices_is_checked():
    with pytest.raises(ScenarioError, match="device = 0 is not a number of devices: it must be from 1 to 64"):
        environment([], "7.2")
    with pytest.raises(ScenarioError, match="device = 65 is not"):
        environment([Device(initial=0, count=64), Device(initial=0)], "7.2")


# The library


def test_without_gcc_a_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ScenarioError, match=r"^gcc is needed to compile the device and is not installed: install gcc"):
        library()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["with space", "with:colon"])
def test_a_cache_that_cannot_be_preloaded_from_is_refused(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / folder))
    with pytest.raises(ScenarioError, match="has a space or colon, which LD_PRELOAD cannot carry"):
        library()


@needs_gcc
def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ScenarioError, match=r"cannot be written .* set XDG_CACHE_HOME to a folder that can"):
        library()


@needs_gcc
def test_the_library_is_compiled_once_for_each_source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = library()
    made = first.stat().st_mtime_ns
    assert library() == first
    assert first.stat().st_mtime_ns == made
    changed = tmp_path / "device.c"
    changed.write_bytes(device_module.SOURCE.read_bytes() + b"/* changed */\n")
    monkeypatch.setattr(device_module, "SOURCE", changed)
    assert library() != first
    changed.write_text("no C at all\n")
    with pytest.raises(ScenarioError, match="cannot compile the device: "):
        library()
    assert len(list((tmp_path / "migkit").iterdir())) == 2


@needs_gcc
def test_the_environment_names_library_version_devices_and_log(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LD_PRELOAD", "")
    devices = [
        Device.parse("initial=1MiB,stop=0,load=2ms"),
        Device.parse("initial=0,dirty=1.5kB/s,dirty_max=2B,count=2"),
    ]
    assert environment(devices[:1], "10.0.2", tmp_path / "log") == {
        "LD_PRELOAD": str(library()),
        "MIGKIT_DEVICE_QEMU": "10.0",
        "MIGKIT_DEVICES": "1048576:0:0.0:0:2000000",
        "MIGKIT_DEVICE_LOG": str(tmp_path / "log"),
    }
    assert environment(devices, "7.2")["MIGKIT_DEVICES"].split(";")[1:] == 2 * ["0:1048576:1500.0:2:0"]


@needs_gcc
def test_other_programs_do_not_notice_the_library(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    variables = os.environ | Device(initial=0).environment("7.2", tmp_path / "log")
    assert subprocess.run(["true"], env=variables, capture_output=True).stderr == b""
    assert not (tmp_path / "log").exists()


# The log


LOG = """\
1000000000 10 0 registered 10.0 2097152 1048576 0 0 5000000 500000000
1000000001 20 0 registered 10.0 2097152 1048576 0 0 5000000 500000000
1100000000 20 0 load_setup
1100000000 10 0 setup 1
1150000000 10 0 iterate 1048576 1048576 0
1200000000 10 0 iterate 1048576 0 4096
1200000001 10 0 initial_sent
1201000000 20 0 initial_received 2097152
1206000000 20 0 ack 0
1300000000 10 0 iterate 4096 0 0
1400000000 10 0 complete 1048576 800
1500000000 10 0 end 4 7 2097152 4096 4096
1500000000 20 0 loaded 3149824
"""


def test_a_log_becomes_the_keys_of_a_trace(tmp_path):
    (tmp_path / "log").write_text(LOG)
    read = read_log(tmp_path / "log", started=1.5)
    assert read["device_iter"] == {
        "cols": ["t_ms", "dev", "sent", "init_left", "dirty_left"],
        "rows": [[150.0, 0, 1048576, 1048576, 0], [200.0, 0, 1048576, 0, 4096], [300.0, 0, 4096, 0, 0]],
        "total": 4,
        "thinned": True,
    }
    (source,), (target,) = read["devices"], read["devices_dst"]
    assert source == {
        "st_iter_calls": 4, "st_exact_calls": 7, "st_init_bytes": 2097152, "st_dirty_bytes": 4096,
        "st_hw_dirtied": 4096, "st_complete_bytes": 1048576, "st_complete_us": 800, "st_load_bytes": 0,
        "st_setup_ms": 1600, "st_first_iter_ms": 1650, "st_init_sent_ms": 1700, "st_last_iter_ms": 1800,
    }  # fmt: skip
    assert (target["st_load_bytes"], target["st_iter_calls"]) == (3149824, 0)
    assert read["ack_ms"] == [206.0]
    assert read["complete_ms"] == [400.0]


def test_a_log_that_ends_early_counts_what_it_has(tmp_path):
    (tmp_path / "log").write_text("".join(LOG.splitlines(keepends=True)[:6]))
    read = read_log(tmp_path / "log", started=1.5)
    assert read["devices"][0]["st_init_bytes"] == 2097152
    assert read["device_iter"]["total"] == 2
    assert read["ack_ms"] == read["complete_ms"] == [None]


@pytest.mark.parametrize(("text", "problem"), [("", "is empty: this QEMU"), ("a line\n", "is not a log of devices")])
def test_what_is_no_log_is_told(tmp_path, text, problem):
    (tmp_path / "log").write_text(text)
    with pytest.raises(ScenarioError, match=problem):
        read_log(tmp_path / "log")


def test_a_missing_log_is_told(tmp_path):
    with pytest.raises(ScenarioError, match=r"cannot be read: No such file"):
        read_log(tmp_path / "log")


# Real binaries


HOT_GUEST = """
.code16
start:
    cli
    lgdtl %cs:descriptor - start
    movl $0x11, %eax
    movl %eax, %cr0
    ljmpl $8, $0xf0000 + protected - start
.balign 8
gdt:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
descriptor:
    .word 23
    .long 0xf0000 + gdt - start
.code32
protected:
    movw $16, %ax
    movw %ax, %ds
again:
    movl $0x200000, %edi
page:
    incl (%edi)
    addl $4096, %edi
    cmpl $0x200000 + BYTES, %edi
    jb page
    jmp again
.org 0xfff0
.code16
    jmp start
.org 0x10000
"""
"""Firmware that rewrites BYTES of memory from 2 MiB on, as fast as it can; 0 bytes: one page."""


def binaries():
    found = shutil.which("qemu-system-x86_64")
    if found:
        yield [found]
    for root in filter(None, os.environ.get("MIGKIT_QEMU_ROOTS", "").split(":")):
        binary, loader = Path(root, "usr/bin/qemu-system-x86_64"), Path(root, "usr/lib64/ld-linux-x86-64.so.2")
        own = [str(loader), "--library-path", f"{root}/usr/lib/x86_64-linux-gnu"] if loader.exists() else []
        yield [*own, str(binary)]


def with_device():
    for command in binaries():
        said = subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
        with contextlib.suppress(ScenarioError):
            yield pytest.param(table_version(said), command, id=table_version(said))


QEMUS = list(with_device()) if shutil.which("gcc") else []
real = pytest.mark.skipif(not QEMUS, reason="no QEMU with a known table of handlers, or no gcc")
each_qemu = pytest.mark.parametrize(("version", "command"), QEMUS or [("", [])])


class Qmp:
    """The monitor of one QEMU."""

    def __init__(self, command, path, variables):
        arguments = ["-nodefaults", "-display", "none", "-machine", "q35", "-m", "128",
                     "-qmp", f"unix:{path},server=on,wait=off"]  # fmt: skip
        with open(f"{path}.stderr", "wb") as said:
            self.process = subprocess.Popen([*command[0], *arguments, *command[1]], env=variables, stderr=said)
        deadline = time.monotonic() + 30
        self.socket = socket.socket(socket.AF_UNIX)
        while self.socket.connect_ex(str(path)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(Path(f"{path}.stderr").read_text())
            time.sleep(0.01)
        self.lines = self.socket.makefile("r")
        self.lines.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        names = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.socket.sendall(json.dumps({"execute": command, "arguments": names}).encode())
        for line in self.lines:
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]
        raise RuntimeError("QEMU is gone")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.socket.close()
        if hasattr(self, "lines"):
            self.lines.close()


def relay(listener, port, bytes_per_s):
    """Carry one connection to a port of this machine at a pace; the way back has none."""

    def carry(source, target, pace):
        due = time.monotonic()
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                due = max(due + len(data) / pace, time.monotonic() - 0.01)
                time.sleep(max(0.0, due - time.monotonic()))
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve():
        with contextlib.suppress(OSError):
            source, _ = listener.accept()
            with source, socket.create_connection(("127.0.0.1", port)) as target:
                back = threading.Thread(target=carry, args=(target, source, 1e12))
                back.start()
                carry(source, target, bytes_per_s)
                back.join()

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.fixture
def migrate(tmp_path, monkeypatch):
    """Migrate a guest that rewrites `hot` bytes; return the last query-migrate and the log."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def run(version, command, device, hot=0, seconds=8.0, ack=True, link=0, paused=False, limit_ms=300):
        source_s, rom = tmp_path / "guest.s", tmp_path / "guest.bin"
        source_s.write_text(HOT_GUEST.replace("BYTES", str(hot or 4096)))
        subprocess.run(["as", "--32", "-o", tmp_path / "guest.o", source_s], check=True)
        subprocess.run(
            ["ld", "-m", "elf_i386", "-Ttext=0", "-e", "0", "--oformat=binary", "-o", rom, tmp_path / "guest.o"],
            check=True,
        )
        variables = os.environ | Device.parse(device).environment(version, tmp_path / "log")
        options = ["-accel", "tcg", "-bios", str(rom), *(["-S"] if paused else [])]
        with contextlib.ExitStack() as stack:
            target = Qmp((command, [*options, "-incoming", "defer"]), tmp_path / "target", variables)
            stack.callback(target.close)
            source = Qmp((command, options), tmp_path / "source", variables)
            stack.callback(source.close)
            capabilities = ["return-path"] if version == "7.2" or not ack else ["return-path", "switchover-ack"]
            for side in (target, source):
                on = [{"capability": name, "state": True} for name in capabilities]
                side("migrate-set-capabilities", capabilities=on)
            source("migrate-set-parameters", max_bandwidth=0, downtime_limit=limit_ms)
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            target("migrate-incoming", uri=f"tcp:127.0.0.1:{port}")
            time.sleep(0.5)  # the guest writes
            if link:
                listener = socket.create_server(("127.0.0.1", 0))
                thread = relay(listener, port, link)
                stack.callback(thread.join)
                stack.callback(source.close)
                stack.callback(listener.close)
                port = listener.getsockname()[1]
            started = time.time()
            source("migrate", uri=f"tcp:127.0.0.1:{port}")
            while (answer := source("query-migrate"))["status"] not in ("completed", "failed"):
                if time.time() > started + seconds:
                    break
                time.sleep(0.05)
            if answer["status"] != "completed":
                source("migrate_cancel")
                while source("query-migrate")["status"] == "cancelling":
                    time.sleep(0.05)
            else:  # the destination cleans up after the source is done
                while target("query-status")["status"] == "inmigrate":
                    time.sleep(0.05)
                time.sleep(0.2)
        return answer, read_log(tmp_path / "log", started)

    return run


@pytest.mark.qemu
@real
@each_qemu
def test_a_quiet_guest_migrates_with_the_device(migrate, version, command):
    answer, log = migrate(version, command, "initial=8MiB,stop=3MiB,dirty=4MiB/s,dirty_max=2MiB,load=50ms")
    assert answer["status"] == "completed"
    (source,), (target,) = log["devices"], log["devices_dst"]
    assert source["st_init_bytes"] == 8 << 20
    assert source["st_complete_bytes"] >= 3 << 20
    sent = sum(row[2] for row in log["device_iter"]["rows"])
    assert target["st_load_bytes"] == sent + source["st_complete_bytes"]
    assert max(row[2] for row in log["device_iter"]["rows"]) <= 1 << 20
    assert source["st_hw_dirtied"] > 0
    if version == "7.2":
        assert log["ack_ms"] == [None]
    else:
        assert source["st_init_sent_ms"]
        done = next(row[0] for row in log["device_iter"]["rows"] if row[3] == 0)
        assert done + 50 <= log["ack_ms"][0] <= log["complete_ms"][0]


@pytest.mark.qemu
@real
@each_qemu
def test_a_paused_guest_sends_the_device_after_the_stop(migrate, version, command):
    # Nothing but the device is left to send, so windows carry bytes: only a limit of 2000 s makes a threshold of it.
    answer, log = migrate(version, command, "initial=8MiB,stop=3MiB,count=2", paused=True, limit_ms=2_000_000)
    assert answer["status"] == "completed"
    for source, target in zip(log["devices"], log["devices_dst"], strict=True):
        assert source["st_iter_calls"] == 0
        assert source["st_complete_bytes"] == target["st_load_bytes"] == 11 << 20


@pytest.mark.qemu
@real
@each_qemu
def test_busy_ram_starves_the_device_of_7_2_only(migrate, version, command):
    # 100 MiB/s for 300 ms: a threshold of 30 MiB. RAM has 16 MiB to send in each iteration, 5 MiB are sent in 51 ms.
    answer, log = migrate(
        version, command, "initial=64MiB", hot=16 << 20, link=100 << 20, seconds=20 - 12 * (version == "7.2")
    )
    (source,) = log["devices"]
    if version == "7.2":
        assert answer["status"] == "active"
        assert source["st_init_bytes"] < 8 << 20
    else:
        assert answer["status"] == "completed"
        assert source["st_init_bytes"] == 64 << 20
        assert log["ack_ms"][0]


@pytest.mark.qemu
@real
@each_qemu
@pytest.mark.parametrize("load", ["0s", "1s"])
def test_a_quiet_guest_does_not_complete_after_a_slow_acknowledgement(migrate, version, command, load):
    if version == "7.2":
        pytest.skip("7.2 has no acknowledgement")
    answer, log = migrate(version, command, f"initial=96MiB,stop=20MiB,load={load}", seconds=5.0)
    assert log["ack_ms"][0]
    assert answer["status"] == ("completed" if load == "0s" else "active")


@pytest.mark.qemu
@real
@each_qemu
def test_another_version_than_the_binary_is_refused(tmp_path, monkeypatch, version, command):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for other in {"7.2", "10.0", "11.1"} - {version}:
        variables = os.environ | Device(initial=0).environment(other)
        said = subprocess.run([*command, "--version"], env=variables, capture_output=True, text=True)
        assert said.returncode == 1
        assert said.stderr.startswith(f'MIGKIT_DEVICE_QEMU = "{other}" is not the version of this QEMU')
