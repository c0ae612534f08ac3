"""The recorder against the QEMU of this machine: ``make test-qemu``. Outcomes and wide bounds, no figures."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from migkit import ScenarioError, Unfinished, qemu
from migkit.qemu import processes as supervised

pytest.importorskip("qemu.qmp", reason="qemu.qmp is not installed: pip install 'migkit[qemu]'")
pytestmark = [
    pytest.mark.qemu,
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="there is no qemu-system-x86_64 here"),
]
ROOT = Path(__file__).parents[1]
SMALL = {"ram": "64 MiB", "regions": [{"size": "16 MiB", "rate": "20 MB/s"}], "max_bandwidth": "64 MiB/s"}


@pytest.fixture(autouse=True)
def folder_for_sockets(tmp_path_factory, monkeypatch):
    """A folder of its own, in which every test looks for what is left behind; short, as sockets have short names."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="mk", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)
        until(lambda: not os.listdir(folder) and not running(folder), "a process or a socket is left")


def running(folder):
    """Processes whose command names the folder."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdecimal():
            try:
                command = (each / "cmdline").read_bytes()
            except OSError:
                continue
            if str(folder).encode() in command and b"pytest" not in command:
                found.append(command)
    return found


def until(condition, what, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def test_a_run_is_recorded_and_read(tmp_path):
    regions = [{"size": "16 MiB", "rate": "20 MB/s"}, {"size": "8 MiB", "start": "32 MiB", "pattern": "sequential"}]
    regions[1]["rate"] = "2 MB/s"
    (name,) = qemu.record(tmp_path, ram="128 MiB", regions=regions, max_bandwidth="128 MiB/s", trace=True)
    row = qemu.runs(tmp_path).loc[name]
    assert row["outcome"] == "completed"
    assert row["sync_count"] >= 2
    assert 128 << 20 <= row["transferred"] + 4096 * row["duplicate"] < 2 * (128 << 20)
    assert row["total_ms"] > 700, "the limit is kept"
    before = qemu.table("regions", tmp_path).set_index("region")["pre_writes_s"]
    assert 0.8 < before[0] / 4883 < 1.2
    assert 0.8 < before[1] / 488 < 1.2
    trace = qemu.trace(name, tmp_path)
    assert len(trace.samples) > 10
    assert {"STOP", "RESUME"} <= set(trace.events["event"])
    if row["traced"]:
        assert len(trace.syncs) == row["sync_count"]
        assert row["iterations"] >= 5


def test_a_writer_at_full_speed_never_converges_and_is_cancelled(tmp_path):
    fields = SMALL | {"regions": [{"size": "32 MiB", "rate": "max"}], "max_bandwidth": "16 MiB/s", "time_limit": "5 s"}
    fields["downtime_limit"] = "20 ms"
    (name,) = qemu.record(tmp_path, **fields)
    row = qemu.runs(tmp_path).loc[name]
    assert row["outcome"] == "not_converged"
    assert row["writes_max"]
    assert row["sync_count"] >= 1
    assert row["mig_writes_s"] > 10_000


def test_zero_pages_are_left_in_their_share(tmp_path):
    (name,) = qemu.record(tmp_path, ram="64 MiB", zero_share=0.5, max_bandwidth=0)
    row = qemu.runs(tmp_path).loc[name]
    assert 0.4 < row["duplicate"] / (64 << 8) < 0.6


def test_the_link_is_slower_than_max_bandwidth(tmp_path):
    (name,) = qemu.record(tmp_path, **SMALL | {"max_bandwidth": 0, "link": "30 MB/s", "regions": []})
    row = qemu.runs(tmp_path).loc[name]
    assert row["outcome"] == "completed"
    assert row["total_ms"] > 0.8 * (64 << 20) / 30e6 * 1e3


def test_parameters_change_and_post_copy_starts_while_it_runs(tmp_path):
    fast = SMALL | {"max_bandwidth": "2 MB/s", "changes": ["500 ms: max-bandwidth = 1 GiB/s"], "time_limit": "60 s"}
    (name,) = qemu.record(tmp_path, name="faster", **fast)
    assert qemu.runs(tmp_path).loc[name, "total_ms"] < 20_000
    assert list(qemu.table("changes", tmp_path)["parameter"]) == ["max-bandwidth"]
    hot = {"ram": "64 MiB", "regions": [{"size": "32 MiB", "rate": "max"}], "max_bandwidth": "16 MiB/s"}
    hot |= {"downtime_limit": "20 ms", "capabilities": ["postcopy-ram"], "postcopy_at": "1 s"}
    try:
        (name,) = qemu.record(tmp_path, name="postcopy", **hot)
    except (ScenarioError, Unfinished) as error:
        if "ostcopy" in str(error) or "userfault" in str(error):
            pytest.skip(f"no post-copy here: {error}")
        raise
    row = qemu.runs(tmp_path).loc[name]
    assert row["outcome"] == "completed"
    assert row["postcopy_sent_ms"] >= 1000


@pytest.mark.parametrize("capability", ["auto-converge", "multifd", "xbzrle", "return-path"])
def test_capabilities_are_set(tmp_path, capability):
    extra = {"parameters": {"cpu-throttle-initial": 40}} if capability == "auto-converge" else {}
    (name,) = qemu.record(tmp_path, **SMALL, capabilities=[capability], **extra)
    row = qemu.runs(tmp_path).loc[name]
    assert row["outcome"] == "completed"
    assert capability in row["caps"]
    assert (row["multifd_bytes"] > 0) == (capability == "multifd")


def test_kvm_runs_the_same_guest(tmp_path):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/kvm, or no permission to use it")
    (name,) = qemu.record(tmp_path, **SMALL, accel="kvm")
    row = qemu.runs(tmp_path).loc[name]
    assert (row["outcome"], row["accel"]) == ("completed", "kvm")


def test_a_notebook_with_an_event_loop_records_too(tmp_path):
    import asyncio

    async def cell():
        return qemu.record(tmp_path, **SMALL)

    assert len(asyncio.run(cell())) == 1


def test_what_this_qemu_refuses_is_said(tmp_path):
    with pytest.raises(ScenarioError, match="refuses migrate-set-parameters"):
        qemu.record(tmp_path / "new", **SMALL, parameters={"cpu-throttle-initial": 1000})
    assert not (tmp_path / "new").exists()
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ScenarioError, match="cannot be listened at"):
        qemu.record(tmp_path, **SMALL, port=taken.getsockname()[1])


def test_a_guest_that_never_gets_ready_is_said(tmp_path, monkeypatch):
    from migkit.qemu import migrate

    monkeypatch.setattr(migrate, "image", lambda *_: bytes(65536 - 16) + b"\xf4\xeb\xfd" + bytes(13))  # hlt
    monkeypatch.setattr(migrate, "READY_S", 0.5)
    monkeypatch.setattr(migrate, "READY_PER_GIB_S", 0.0)
    with pytest.raises(Unfinished, match="not ready within"):
        qemu.record(tmp_path, **SMALL)


@pytest.mark.parametrize("victim", ["source", "destination", "link"])
def test_a_qemu_that_dies_midway_is_said_and_earlier_runs_are_kept(tmp_path, monkeypatch, victim):
    started = []
    start = supervised.Processes.start

    async def noted(self, name, argv, environment):
        await start(self, name, argv, environment)
        started.append((name, self.pids[name]))

    monkeypatch.setattr(supervised.Processes, "start", noted)
    slow = SMALL | {"max_bandwidth": "20 MB/s", "link": "1 GB/s", "regions": []}
    killed = threading.Event()

    def kill():
        until(lambda: [name for name, _ in started].count("link") == 2, "no second run", 60.0)
        time.sleep(2.5)
        os.kill([pid for name, pid in started if name == victim][1], signal.SIGKILL)
        killed.set()

    killer = threading.Thread(target=kill)
    killer.start()
    who = "relay" if victim == "link" else f"{victim} QEMU"
    with pytest.raises(
        Unfinished, match=rf"The {who} was killed by signal 9.*1 of 3 runs were recorded before and are kept"
    ):
        qemu.record(tmp_path, **slow, repeats=3)
    killer.join()
    assert killed.is_set()
    assert len(qemu.runs(tmp_path)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("after_s", [0.4, 1.3, 2.4, 4.2])
def test_an_interrupted_recorder_leaves_whole_runs_only(tmp_path, number, after_s):
    command = [sys.executable, "-m", "migkit", "record", str(tmp_path), "--ram", "64MiB", "--max-bandwidth", "0"]
    command += ["--link", "60MB/s", "--region", "size=16MiB,rate=20MB/s", "--repeats", "20"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    recorder = subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )  # fmt: skip
    time.sleep(after_s)
    recorder.send_signal(number)
    said, errors = recorder.communicate(timeout=60)
    if number == signal.SIGINT and after_s > 1:  # before that Python may still be importing
        assert recorder.returncode == 130
        assert "interrupted; " in errors
    written = os.listdir(tmp_path)
    assert all(name.endswith(".json.gz") for name in written)
    assert len(said.splitlines()) <= len(written)
    if written:
        assert len(qemu.runs(tmp_path)) == len(written)
