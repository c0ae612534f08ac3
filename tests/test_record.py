"""The recorder of real QEMU without QEMU: its plan, its guest's image and serial port, its files and its processes."""

import asyncio
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from migkit import Guest, Link, Region, Scenario, ScenarioError, Unfinished, qemu, simulate
from migkit.qemu import host, tables
from migkit.qemu.binary import Binary, find
from migkit.qemu.guest import IMAGE_BYTES, SerialPort, Writer, image
from migkit.qemu.migrate import config
from migkit.qemu.plan import Change, Plan
from migkit.qemu.predict import PACED_VCPU_SHARE, written_regions
from migkit.qemu.processes import Processes
from migkit.qemu.record import name_of, write
from migkit.qemu.trace_points import read as read_trace

SOURCE = Path(qemu.__file__).parent
BINARY = Binary(("qemu",), "7.2.22", "Debian 1:7.2+dfsg-7")


@pytest.mark.skipif(not all(map(shutil.which, ("as", "ld"))), reason="binutils is not installed")
def test_the_bytes_of_the_guest_are_its_source_assembled(tmp_path):
    program = tmp_path / "guest.o"
    done = subprocess.run(
        ["as", "--32", SOURCE / "guest.S", "-o", program], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"this assembler is not for x86: {done.stderr.splitlines()[0]}")
    options = ["-m", "elf_i386", "-e", "base", "-Ttext", "0xff000", "--oformat", "binary"]
    subprocess.run(["ld", *options, program, "-o", tmp_path / "guest.bin"], check=True)
    assert (tmp_path / "guest.bin").read_bytes() == (SOURCE / "guest.bin").read_bytes()


def test_the_image_has_the_parameters_and_the_reset_vector():
    regions = (Writer(size="8 MiB", rate="10 MB/s"), Writer(size="4 MiB", start="16 MiB", rate="max", delay=640))
    whole = image(64 << 20, 0.25, regions, seed=7)
    assert len(whole) == IMAGE_BYTES
    assert whole[: IMAGE_BYTES - 4096] == bytes(IMAGE_BYTES - 4096)
    numbers = [int.from_bytes(whole[at : at + 4], "little") for at in range(IMAGE_BYTES - 4096, IMAGE_BYTES, 4)]
    assert whole[IMAGE_BYTES - 4096 :][:4] == b"MGKT"
    assert numbers[1:4] == [64 << 20, 1 << 30, 7]
    assert numbers[6] == 2
    assert numbers[8:14] == [2 << 20, 2048, 2441, 0, 0, 4096]
    assert numbers[16:22] == [16 << 20, 1024, 0xFFFFFFFF, 0, 640, 4096 // 11]
    assert whole[-16] == 0xEA


def test_counters_count_on_where_the_guest_wraps():
    port = SerialPort()
    for time_s, text in enumerate(["C " + "0" * 16 + " 0000", "0000 00000000 fffffff0\nC ", "half a line\n"]):
        port.feed(text.encode(), time_s)
    port.feed(b"C 0000000000000010 00000001 00000005 00000010\n", 9.0)
    assert [each.writes for each in port.counters] == [(0xFFFFFFF0,), (0x100000010,)]
    assert port.ready_at is None


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"ram": "4 GiB"}, "must be from 64 MiB to 3 GiB"),
        ({"ram": "100.5 MiB"}, "whole number of MiB"),
        ({"regions": [{"size": "1 GiB"}]}, "regions.0 ends at 1026 MiB"),
        ({"regions": [{"size": "8 MiB"}] * 2}, "must not share pages"),
        ({"regions": [{"size": "4 KiB", "start": f"{i} MiB"} for i in range(2, 11)]}, "at most 8"),
        ({"regions": [{"size": "8 MiB", "rate": "fast"}]}, "regions.0.rate"),
        ({"regions": [{"size": "5000 B"}]}, "whole number of pages"),
        ({"capabilities": ["autoconverge"]}, 'did you mean "auto-converge"'),
        ({"postcopy_at": "1 s"}, 'needs the capability "postcopy-ram"'),
        ({"parameters": {"max-bandwith": "1 MiB/s"}}, 'did you mean "max-bandwidth"'),
        ({"parameters": {"max-cpu-throttle": "much"}}, "not a whole number"),
        ({"changes": ["1 s max-bandwidth"]}, "write it as"),
        ({"zero_share": 1.5}, "from 0 to 1"),
        ({"link": "1 kB/s"}, "0, or from 1 MB/s to 10 GB/s"),
        ({"rom": 1}, "is not a field of Plan"),
    ],
)
def test_what_cannot_be_recorded_is_refused(fields, sentence):
    with pytest.raises(ScenarioError, match=sentence):
        Plan(**fields)


def test_changes_are_read_from_text_and_sorted():
    plan = Plan(changes=["2 s: downtime-limit = 1 s", ("500 ms", "max-bandwidth", "1 GiB/s")])
    assert plan.changes == (Change(0.5, "max-bandwidth", 1 << 30), Change(2.0, "downtime-limit", 1000))
    assert Plan(**json.loads(plan.model_dump_json()) | {"changes": ()}).ram == plan.ram
    assert name_of(plan) != name_of(Plan())


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"qemu": "/nowhere/qemu"}, "is not a program here"),
        ({"qemu": sys.executable}, "is not QEMU"),
        ({"qemu": "'"}, "cannot be read as a command"),
        ({"root": "/nowhere"}, "does not hold usr/bin/qemu-system-x86_64"),
        ({"qemu": "a", "root": "b"}, "exclude each other"),
    ],
)
def test_what_is_not_qemu_is_refused(given, sentence):
    with pytest.raises(ScenarioError, match=sentence):
        find(**given)


def test_kvm_needs_its_device_and_memory_must_hold_two_guests(monkeypatch):
    monkeypatch.setattr(host, "KVM", "/nowhere/kvm")
    with pytest.raises(ScenarioError, match="which this machine does not have"):
        host.check(64 << 20, "kvm")
    monkeypatch.setattr(host, "KVM", __file__)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ScenarioError, match="join the group kvm"):
        host.check(64 << 20, "kvm")
    with pytest.raises(ScenarioError, match="two guests run"):
        host.check(1 << 50, "tcg")


def recording(plan=None):
    plan = plan or Plan(
        regions=[{"size": "8 MiB", "rate": "4 MB/s"}, {"size": "4 MiB", "start": "32 MiB", "rate": "max"}]
    )
    reading = {"t": 100.5, "writes": 5, "tsc": 9, "overruns": 0, "wakeups": 3}
    ram = {"transferred": 1000, "normal": 7, "duplicate": 2, "dirty-sync-count": 3}
    counters = [[-1000.0, "src", 0, 0, 0, 0, 0], [-10.0, "src", 9, 0, 0, 990, 99], [5.0, "src", 9, 0, 0, 1000, 100]]
    counters += [[1005.0, "src", 9, 0, 0, 2000, 200], [2005.0, "src", 9, 0, 0, 3500, 500], [9.0, "dst", 9, 0, 0, 1, 1]]
    return {
        "config": config(plan, BINARY),
        "started": 100.0,
        "host": {"wall_s": 2.0, "other_cpu_s": 0.5, "loadavg0": 1.0, "steal_s": 0.0},
        "outcome": "completed",
        "total_time_ms": 1200,
        "downtime_ms": 40,
        "downtime_wall_ms": 41.5,
        "stop_at_ms": 1160.0,
        "cancelled_at_s": None,
        "final": {"status": "completed", "setup-time": 1, "ram": ram},
        "final_active": {},
        "changes": [[500.0, "max-bandwidth", 1 << 30]],
        "guest": {
            "pre_pages_s": 1.0,
            "pre": [reading, reading],
            "mid": None,
            "end": reading,
            "counters": {"rows": counters},
        },
        "samples": {"cols": ["t_ms", "status", "dirty_pages_rate", "throttle_pct", "dirty_sync_count", "normal"],
                    "rows": [[0.5, "active", 10, None, 1, 5]]},
        "events": [[1.0, "src", "MIGRATION", {"status": "setup"}]],
        "trace": None,
    }  # fmt: skip


def test_recorded_runs_are_read_like_the_measured_ones(tmp_path):
    names = [write(tmp_path, "R__a__deb72", recording()) for _ in range(2)]
    assert names == ["R__a__deb72__r0", "R__a__deb72__r1"]
    runs = qemu.runs(tmp_path)
    assert list(runs.index) == names
    row = runs.loc[names[1]]
    assert (row["total_ms"], row["sync_count"], row["writes_max"], row["other_cpu"]) == (1200, 3, True, 0.25)
    assert row["caps"] == ("events",)
    assert row["mig_writes_s"] == 1800.0
    trace = qemu.trace(names[0], tmp_path)
    assert trace.windows.empty
    assert trace.syncs.empty
    assert list(trace.events["detail"]) == ["setup"]
    regions = qemu.table("regions", tmp_path)
    assert list(regions["mig_writes_s"]) == [1500.0, 300.0] * 2
    assert list(qemu.table("changes", tmp_path)["value"]) == [str(1 << 30)] * 2
    write(tmp_path, "R__a__deb72", recording())
    assert len(qemu.runs(tmp_path)) == 3, "what was read before is not taken for what is there"


def test_the_scenario_of_a_recorded_run_has_all_regions(tmp_path):
    name = write(tmp_path, "R__a__deb72", recording())
    busy, paced, full = written_regions(qemu.runs(tmp_path).loc[name], tmp_path)
    assert (busy.start, busy.size) == ((2 << 20) - 4096, 4096)
    assert (paced.start, paced.size, paced.vcpu_share) == (2 << 20, 8 << 20, PACED_VCPU_SHARE)
    assert paced.write_rate == pytest.approx(4e6, rel=1e-3)
    assert (full.start, full.size, full.vcpu_share) == (32 << 20, 4 << 20, 1.0)
    assert full.write_rate == pytest.approx(100 * 4096, rel=1e-3), "as it wrote before the migration"
    idle = write(tmp_path, "R__idle__deb72", recording(Plan()))
    assert len(written_regions(qemu.runs(tmp_path).loc[idle], tmp_path)) == 1


def test_a_paced_guest_under_auto_converge_is_slowed_as_late_as_measured():
    """Recorded with 7.2.22: 31.6 s, 36 syncs, throttled to 99 %; 256 MiB written at random at 1.5 x max-bandwidth."""
    region = Region(size="256 MiB", start="2 MiB", write_rate="201 MB/s", vcpu_share=PACED_VCPU_SHARE)
    scenario = Scenario(
        guest=Guest(ram="512 MiB", accel="tcg", regions=[region]),
        link=Link(bandwidth="100 GB/s"),
        migration={"auto_converge": True},
        qemu="7.2",
    )
    found = simulate(scenario)
    assert found.total_time_s == pytest.approx(31.6, rel=0.1)
    assert abs(found.sync_count - 36) <= 6
    assert found.numbers["throttle_percent"] == 99
    assert simulate(scenario.replace("guest.regions.0.vcpu_share", 1.0)).total_time_s < 15, "as if it were never idle"


def test_every_column_of_the_measured_runs_is_there(tmp_path):
    pytest.importorskip("pyarrow")
    data = Path(__file__).parents[1] / "data" / "qemu-traces"
    if not data.is_dir():
        pytest.skip("the measured runs are part of a checkout only")
    write(tmp_path, "R__a__deb72", recording())
    for file in data.glob("*.parquet"):
        if file.stem in tables.TABLES:
            assert set(qemu.table(file.stem)) <= set(qemu.table(file.stem, tmp_path)), file.stem


@pytest.mark.parametrize("damage", ["cut", "text", "other", "part"])
def test_a_damaged_run_is_named(tmp_path, damage):
    write(tmp_path, "R__a__deb72", recording())
    (path,) = tmp_path.glob("*.json.gz")
    whole = path.read_bytes()
    part = recording()
    del part["config"]["ram"]
    path.write_bytes(
        {
            "cut": whole[: len(whole) // 2],
            "text": b"no gzip",
            "other": gzip.compress(b"[1, 2]"),
            "part": gzip.compress(json.dumps(part).encode()),
        }[damage]
    )
    with pytest.raises(ScenarioError, match=r"R__a__deb72__r0\.json\.gz\" is not a recorded run"):
        qemu.runs(tmp_path)


def test_a_run_never_replaces_another_and_is_written_whole(tmp_path):
    done = [threading.Thread(target=write, args=(tmp_path, "R__a__deb72", recording())) for _ in range(8)]
    for thread in done:
        thread.start()
    for thread in done:
        thread.join()
    assert sorted(os.listdir(tmp_path)) == [f"R__a__deb72__r{i}.json.gz" for i in range(8)]


TRACES = {
    "7.2": """\
1@100.000500:migrate_set_state new state setup
1@100.001000:migration_bitmap_sync_start
1@100.001300:migration_bitmap_sync_end dirty_pages 0
1@100.002000:migrate_pending pending size 8192 max 0 (pre = 8192 compat=0 post=0)
1@100.002100:savevm_state_iterate
1@100.002200:savevm_section_start ram, section_id 2
1@100.052200:savevm_section_end ram, section_id 2 -> 0
1@100.052300:migration_rate_limit_pre 48 ms
1@100.100000:migrate_transferred transferred 13425283 time_spent 100 bandwidth 134252 max_size 40275848
1@100.200000:migration_completion_vm_stop ret 0
1@100.200100:savevm_section_start ram, section_id 2
1@100.210100:savevm_section_end ram, section_id 2 -> 0
1@100.3000""",
    "11.1": """\
1970-01-01T00:01:39.900000Z migrate_set_state new state none
1970-01-01T00:01:40.000500Z migrate_set_state new state setup
1970-01-01T00:01:40.002000Z qemu_savevm_query_pending exact=0, final=0, precopy=8192, stopcopy=0, postcopy=0, total=8192
1970-01-01T00:01:40.002050Z migration_bitmap_sync_start\x20
1970-01-01T00:01:40.002350Z migration_bitmap_sync_end dirty_pages 4
1970-01-01T00:01:40.002400Z qemu_savevm_query_pending exact=1, final=0, precopy=9, stopcopy=0, postcopy=0, total=12288
1970-01-01T00:01:40.002410Z savevm_state_iterate\x20
1970-01-01T00:01:40.002500Z savevm_section_start ram, section_id 1
1970-01-01T00:01:40.052500Z savevm_section_end ram, section_id 1 -> 1
1970-01-01T00:01:40.100000Z migrate_transferred transferred 13530924 time_spent 100 bandwidth 1 max_size 7
1970-01-01T00:01:40.200000Z vmstate_downtime_checkpoint src-downtime-start
""",
}


@pytest.mark.parametrize("version", TRACES)
def test_trace_points_of_stock_builds_are_read(tmp_path, version):
    log = tmp_path / "source.log"
    log.write_text(TRACES[version])
    trace = read_trace(log, 100.0)
    assert trace["iterations_total"] == 1
    assert trace["sections"]["ram"]["calls"] == 1
    assert trace["sections"]["ram"]["us"] == 50_000
    (window,) = trace["windows"]["rows"]
    assert window[0] == 100.0
    if version == "7.2":
        assert window[1:] == [13425283, 100, 134252, 40275848]
        assert trace["syncs"]["rows"] == [[1.3, 300, 0, None, None]]
        assert trace["misc"][-1] == [210.1, "savevm_section_end", "ram, section_id 2 -> 0", 10_000]
        assert trace["rate_limit_requested_ms"] == 48
    else:
        assert trace["syncs"]["rows"] == [[2.35, 300, 4, 8192, 12288]]
        assert trace["iterations"]["rows"][0][:3] == [2.41, 8192, 12288]
        assert (trace["estimate_calls"], trace["exact_calls"]) == (1, 1)
    assert read_trace(tmp_path / "none", 0.0) is None


def ended(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_processes_end_with_the_recorder_and_say_how():
    async def work():
        async with Processes() as processes:
            assert os.stat(processes.folder).st_mode & 0o777 == 0o700
            await processes.start("a", [sys.executable, "-c", "print('told'); raise SystemExit(3)"], dict(os.environ))
            await processes.start("b", ["sleep", "1000"], dict(os.environ))
            assert await processes.has_ended("a", 20.0)
            assert processes.how_it_ended("a") == "ended with status 3: told"
            with pytest.raises(Unfinished, match=r"The c could not be started \(/nowhere/c\): No such file"):
                await processes.start("c", ["/nowhere/c"], {})
            return processes.folder, processes.pids["b"]

    folder, pid = asyncio.run(work())
    assert not folder.exists()
    assert ended(pid)


HOLDER = """
import asyncio, sys, os, signal
from migkit.qemu.processes import Processes
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
async def work():
    async with Processes() as processes:
        await processes.start("a", ["sleep", "1000"], dict(os.environ))
        print(processes.folder, processes.pids["a"], processes._process.pid, flush=True)
        await asyncio.sleep(1000)
asyncio.run(work())
"""


@pytest.mark.parametrize("victim", ["recorder", "supervisor"])
def test_a_kill_leaves_no_process_and_no_folder(victim):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parents[1])}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True, env=environment)
    with holder:
        folder, pid, supervisor = holder.stdout.readline().split()
        os.kill({"recorder": holder.pid, "supervisor": int(supervisor)}[victim], signal.SIGKILL)
        until(lambda: ended(int(pid)))
        holder.kill() if victim == "recorder" else holder.send_signal(signal.SIGINT)
    until(lambda: not Path(folder).exists())


def test_the_relay_keeps_its_pace_and_carries_both_ways():
    relay = [sys.executable, "-I", "-S", str(SOURCE / "link_relay.py"), "20000000", "65536", "65536"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        link = subprocess.Popen([*relay, str(server.getsockname()[1])], stdout=subprocess.PIPE, text=True)
        try:
            source = socket.create_connection(("127.0.0.1", int(link.stdout.readline())))
            destination, _ = server.accept()
            with source, destination:
                begin = time.monotonic()
                sender = threading.Thread(target=lambda: (source.sendall(bytes(4_000_000)), source.shutdown(1)))
                sender.start()
                received = 0
                while data := destination.recv(1 << 20):
                    received += len(data)
                sender.join()
                assert received == 4_000_000
                assert time.monotonic() - begin > 0.9 * (4_000_000 - 65_536) / 20e6, "no faster than its pace"
                destination.sendall(b"back")
                assert source.recv(4) == b"back"
        finally:
            link.kill()
            link.communicate()
