"""What people have of a migration is read for what it says: units, versions, and what it does not say."""

import gzip
import importlib.util
import json
import random
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from migkit import ScenarioError
from migkit.cli import app
from migkit.qemu import read
from migkit.qemu.columns import COLUMNS
from migkit.qemu.monitor_text import without_typing

DATA = Path(__file__).parent / "data"
PAGE = Path(__file__).parents[1] / "docs" / "generate_reading.py"
RUNS = Path(__file__).parents[1] / "data" / "qemu-traces"
QMP = DATA / "qmp-11.1.3.jsonl"
measured = pytest.mark.skipif(not RUNS.is_dir(), reason="the measured runs are part of a checkout only")

# A report of 2018, QEMU 2.12 on POWER8, as it stands in a mail.
MAIL = """\
> info migrate_parameters
> max-bandwidth: 9223372036853727232 bytes/second
> downtime-limit: 300 milliseconds
> block-incremental: off
>
> Migration status: active
> total time: 130874 milliseconds
> expected downtime: 1475 milliseconds
> setup: 3475 milliseconds
> transferred ram: 18197383 kbytes
> throughput: 866.83 mbps
> remaining ram: 376892 kbytes
> total ram: 8388864 kbytes
> duplicate: 1678265 pages
> skipped: 0 pages
> normal: 4536795 pages
> normal bytes: 18147180 kbytes
> dirty sync count: 6
> page size: 4 kbytes
> dirty pages rate: 39044 pages
"""
# The samples of the patches that changed the format in 2025.
SHORT_2025 = """\
(qemu) info migrate
Status: postcopy-active
Time (ms): total=40504, setup=14, down=145
RAM info:
  Bandwidth (mbps): 6102.65
  Sizes (KB): psize=4, total=16777992
    transferred=37673019, remain=2136404,
    precopy=3, multifd=26108780, postcopy=11563855
  Pages: normal=9394288, zero=600672, rate_per_sec=185875
  Others: dirty_syncs=3, dirty_pages_rate=278378, postcopy_req=4078
(qemu) info migrate -a
Status:                 postcopy-active
Time (ms):              total=47317, setup=5, down=8
RAM info:
  Throughput (Mbps):    1342.83
  Sizes:                pagesize=4 KiB, total=4.02 GiB
  Transfers:            transferred=1.41 GiB, remain=2.46 GiB
    Channels:           precopy=15.2 MiB, multifd=0 B, postcopy=1.39 GiB, vfio=1.5 MiB
    Page Types:         normal=367713, zero=41195
  Page Rates (pps):     transfer=40900, dirty=4
  Others:               dirty_syncs=2, postcopy_req=57503
Globals:
  store-global-state: on
XBZRLE: size=67108864, transferred=0, pages=0, miss=188451
  miss_rate=0.00, encode_rate=0.00, overflow=0
CPU Throttle (%): 30
"""
RUNNING = """\
$ virsh domjobinfo guest
Job type:         Unbounded
Operation:        Outgoing migration
Time elapsed:     5016         ms
Data processed:   100.231 MiB
Data remaining:   140.632 MiB
Data total:       256.508 MiB
Memory processed: 100.231 MiB
Memory remaining: 140.632 MiB
Memory total:     256.508 MiB
Memory bandwidth: 19.841 MiB/s
Dirty rate:       0            pages/s
Page size:        4096         bytes
Iteration:        3
Postcopy requests: 0
Constant pages:   4064
Normal pages:     25600
Normal data:      100.000 MiB
Expected downtime: 300          ms
Setup time:       2            ms
Compression cache: 64.000 MiB
Compressed data:  0.000 B
Auto converge throttle: 30
"""
COMPLETED = """\
Job type:         Completed
Operation:        Outgoing migration
Time elapsed:     5727         ms
Time elapsed w/o network: 5725         ms
Memory processed: 1.234 GiB
Memory remaining: 0.000 B
Memory total:     1.003 GiB
Total downtime:   65           ms
Downtime w/o network: 63           ms
"""


def one(text):
    (row,) = read(text).table.to_dict("records")
    return row


def test_columns_are_named_once_and_have_their_unit():
    names = [column.name for column in COLUMNS]
    assert len(set(names)) == len(names)
    for column in COLUMNS:
        assert column.meaning
        if column.unit in ("B", "B/s", "s", "%", "1/s"):
            end = {"B": "_bytes", "B/s": "_bytes_per_s", "s": "_s", "%": "_percent", "1/s": "_per_s"}[column.unit]
            assert column.name.endswith(end)


def test_the_page_is_current():
    spec = importlib.util.spec_from_file_location("generate_reading", PAGE)
    generate_reading = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate_reading)
    assert generate_reading.PAGE.read_text(encoding="utf-8") == generate_reading.page(), (
        "run: python docs/generate_reading.py"
    )


# -- QMP


def test_a_session_of_11_1():
    answers = read(QMP)
    assert (answers.kind, answers.version, answers.source) == ("QMP", "11.1.3", QMP.name)
    first, last = answers.migrations.iloc[1], answers.migrations.iloc[-1]
    assert answers.migrations["status"].to_list()[:2] == ["setup", "active"]
    assert first["total_time_s"] == 1.0
    assert first["ram_remaining_bytes"] == 231350272
    assert first["all_remaining_bytes"] == 233447424
    assert first["bandwidth_bytes_per_s"] == pytest.approx(168.10128e6 / 8)
    assert first["pages_per_s"] == 5120
    assert (last["total_time_s"], last["downtime_s"], last["sync_count"]) == (5.739, 0.001, 2)
    assert last["page_size_bytes"] == 4096
    assert first["max_bandwidth_bytes_per_s"] == 128 * 2**20
    assert first["downtime_limit_s"] == 0.3
    assert list(answers.events["event"])[-1] == "SHUTDOWN"
    stop = answers.events.set_index("event").loc["STOP"]
    assert stop["time_s"] == 1795727543.001248


def test_what_is_not_measured_is_absent():
    """QEMU prints a dirty rate of 0 until it has one; a migration that has not stopped has no downtime."""
    answers = read(QMP)
    assert "dirty_pages_per_s" not in answers.table
    assert answers.migrations["downtime_s"].isna().sum() == 6
    assert "max_bandwidth_bytes_per_s" not in answers.dirty_rates
    assert any("dirty rate of 0" in note and "lines 19, 20, 21" in note for note in answers.notes)


def test_dirty_rates_at_several_calc_times():
    rates = read(QMP).dirty_rates
    assert rates["status"].to_list() == ["measuring", "measuring", "measured", "measured", "measured"]
    assert rates["calc_time_s"].to_list() == [1.0, 1.0, 1.003, 1.0, 1.0]
    assert rates["dirty_bytes_per_s"].to_list()[2:] == [2**20, 2**20, 0]
    assert rates["mode"].to_list()[-1] == "dirty-bitmap"
    assert rates["sample_pages_per_gib"].isna().to_list() == [False] * 4 + [True]


def test_the_dirty_ring_says_each_vcpu():
    answer = {
        "status": "measured",
        "mode": "dirty-ring",
        "calc-time": 1,
        "dirty-rate": 7,
        "vcpu-dirty-rate": [{"id": 0, "dirty-rate": 3}, {"id": 1, "dirty-rate": 4}],
    }
    row = one(json.dumps({"return": answer}, indent=1))
    assert row["vcpu_dirty_bytes_per_s"] == (3 * 2**20, 4 * 2**20)
    assert row["dirty_bytes_per_s"] == 7 * 2**20


def test_old_qemu_says_minus_1_for_no_dirty_rate():
    row = one('{"status": "measuring", "dirty-rate": -1, "start-time": 1, "calc-time": 1}\n')
    assert "dirty_bytes_per_s" not in row


def test_less_than_a_second_in_whole_seconds_is_told():
    answers = read('{"status": "measured", "dirty-rate": 5, "start-time": 1, "calc-time": 0}\n')
    assert "calc_time_s" not in answers.table
    assert "ask for milliseconds (line 1)" in answers.notes[0]


def test_with_and_without_envelope_pretty_printed_or_not():
    messages = [json.loads(line) for line in QMP.read_text().splitlines()]
    expected = read(QMP).table.drop(columns="line")
    pretty = "\n".join(json.dumps(message, indent=2) for message in messages)
    bare = "\n".join(json.dumps(message.get("return", message)) for message in messages)
    array = json.dumps(messages, indent=4)
    arrows = "\n".join(f"<- {json.dumps(message)}" for message in messages)
    log = "\n".join(f"2026-11-26 21:12:03.123+0000: {json.dumps(message)}" for message in messages)
    mail = "\n".join(f"> {json.dumps(message)}" for message in messages)
    for text in (pretty, bare, array, arrows, log, mail):
        found = read(text)
        assert found.version == "11.1.3"
        assert found.table.drop(columns="line").equals(expected)
    assert read(pretty).table["line"].is_monotonic_increasing


def test_what_commands_set_holds_for_the_answers_behind_them():
    answers = read(
        '{"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 1000000, "downtime-limit": 500}}\n'
        '{"execute": "migrate-set-capabilities", "arguments": {"capabilities": '
        '[{"capability": "auto-converge", "state": true}, {"capability": "xbzrle", "state": false}]}}\n'
        '{"return": {"status": "active", "total-time": 2000}}\n'
        '{"execute": "migrate_set_speed", "arguments": {"value": 9223372036853727232}}\n'
        '{"return": {"status": "active", "total-time": 3000}, "timestamp": {"seconds": 9, "microseconds": 500000}}\n'
    )
    assert answers.table["max_bandwidth_bytes_per_s"].to_list() == [1e6, 0.0]
    assert answers.table["downtime_limit_s"].to_list() == [0.5, 0.5]
    assert answers.table["time_s"].to_list()[1] == 9.5
    assert answers.capabilities == ("auto-converge",)
    assert "no limit" in answers.notes[0]


def test_all_parts_of_an_answer():
    row = one(
        json.dumps(
            {
                "status": "failed",
                "error-desc": "Unable to write",
                "total-time": 10000,
                "cpu-throttle-percentage": 40,
                "ram": {"dirty-pages-rate": 10, "page-size": 4096, "dirty-sync-count": 3, "multifd-bytes": 5},
                "disk": {"transferred": 1, "remaining": 2, "total": 3},
                "vfio": {"transferred": 4},
                "xbzrle-cache": {"cache-size": 64, "cache-miss": 7},
                "dirty-limit-throttle-time-per-round": 2000,
            }
        )
        + "\n"
    )
    assert row["error"] == "Unable to write"
    assert row["dirty_bytes_per_s"] == 40960
    assert (row["throttle_percent"], row["disk_total_bytes"], row["vfio_bytes"]) == (40, 3, 4)
    assert (row["xbzrle_cache_misses"], row["dirty_limit_throttle_s"], row["multifd_bytes"]) == (7, 0.002, 5)


def test_a_counter_below_0_is_absent_and_told():
    answers = read('{"status": "active", "total-time": 1, "ram": {"remaining": -4096}}\n')
    assert "ram_remaining_bytes" not in answers.table
    assert "below 0" in answers.notes[0]


# -- the monitor


@pytest.mark.parametrize(("version", "syncs"), [("7.2.22", 3), ("10.0.2", 3), ("11.1.3", 2)])
def test_sessions_of_three_versions(version, syncs):
    """Recorded from a terminal: prompts, escape sequences of the line editor, and a limit that is set on the way."""
    answers = read(DATA / f"monitor-{version}.txt")
    assert (answers.kind, answers.version) == ("monitor", version)
    table = answers.migrations
    assert table["status"].to_list() == ["setup", "active", "active", "completed"]
    assert table["sync_count"].iloc[-1] == syncs
    assert table["max_bandwidth_bytes_per_s"].to_list() == [20 * 2**20] * 4
    assert np.isnan(table["total_time_s"].iloc[0])
    assert (table["bandwidth_bytes_per_s"].dropna() / 2**20).between(19.5, 20.5).all()
    assert table["page_size_bytes"].iloc[-1] == 4096
    assert table["downtime_s"].iloc[-1] == 0.002
    assert 0.99 < table["transferred_bytes"].iloc[-1] / (116 * 2**20) < 1.01
    rates = answers.dirty_rates
    assert len(rates) == 2
    assert "dirty_bytes_per_s" not in rates
    assert any("Start Time is seconds" in note for note in answers.notes)
    assert any("three digits" in note for note in answers.notes) == (version == "11.1.3")


def test_a_mail_of_2018():
    answers = read(MAIL)
    row = answers.table.iloc[0]
    assert row["total_time_s"] == 130.874
    assert row["transferred_bytes"] == 18197383 * 1024
    assert row["bandwidth_bytes_per_s"] == pytest.approx(866.83e6 / 8)
    assert row["dirty_bytes_per_s"] == 39044 * 4096
    assert row["max_bandwidth_bytes_per_s"] == 0  # libvirt's number
    assert row["downtime_limit_s"] == 0.3
    assert answers.version is None
    assert answers.capabilities is None


def test_the_formats_of_2025():
    first, second = read(SHORT_2025).table.to_dict("records")
    assert first["transferred_bytes"] == 37673019 * 1024
    assert first["page_size_bytes"] == 4096
    assert first["ram_total_bytes"] == 16777992 * 1024
    assert first["dirty_pages_per_s"] == 278378
    assert first["postcopy_requests"] == 4078
    assert second["ram_remaining_bytes"] == 2.46 * 2**30
    assert second["postcopy_bytes"] == 1.39 * 2**30
    assert second["vfio_bytes"] == 1.5 * 2**20
    assert second["dirty_pages_per_s"] == 4
    assert (second["xbzrle_cache_bytes"], second["xbzrle_cache_misses"]) == (67108864, 188451)
    assert second["throttle_percent"] == 30


def test_answers_without_a_status_are_told_apart_by_what_is_said_twice():
    table = read("total time: 100 ms\ntransferred ram: 1 kbytes\ntotal time: 200 ms\n").table
    assert table["total_time_s"].to_list() == [0.1, 0.2]
    assert table["transferred_bytes"].isna().to_list() == [False, True]


def test_a_remaining_below_0_as_qemu_5_2_printed_it():
    answers = read("Migration status: active\ntotal time: 43826 ms\nremaining ram: 18446744073709551612 kbytes\n"
                   "total ram: 21234188 kbytes\ntransferred ram: 65981 kbytes\n")  # fmt: skip
    assert "ram_remaining_bytes" not in answers.table
    assert "(line 3)" in answers.notes[0]


def test_a_total_time_of_a_cancelled_migration_is_absent():
    answers = read("Migration status: cancelled\ntotal time: 0 ms\n")
    assert "total_time_s" not in answers.table


def test_capabilities_limits_and_reasons():
    answers = read("capabilities: xbzrle: off auto-converge: on \nMigration status: failed (Unable to write)\n"
                   "total time: 7 milliseconds\n")  # fmt: skip
    assert answers.capabilities == ("auto-converge",)
    assert answers.table.loc[0, "error"] == "Unable to write"
    later = read(
        "(qemu) migrate_set_speed 1g\n(qemu) migrate_set_downtime 0.5\n(qemu) migrate_set_capability xbzrle on\n"
        "(qemu) info migrate\nMigration status: active\ntotal time: 7 ms\n"
    )
    assert later.table.loc[0, "max_bandwidth_bytes_per_s"] == 2**30
    assert later.table.loc[0, "downtime_limit_s"] == 0.5
    assert later.capabilities == ("xbzrle",)


def test_lines_of_people_are_skipped_and_told():
    answers = read("So I tried this\nMigration status: active\ntotal time: 7 ms\n")
    assert answers.notes == ('1 line was skipped, the first is line 1: "So I tried this".',)


def test_info_dirty_rate():
    row = one("Status: measured\nStart Time: 1795727469 (ms)\nSample Pages: 512 (per GB)\nPeriod: 10 (sec)\n"
              "Mode: dirty-ring\nDirty rate: 108 (MB/s)\nvcpu[0], Dirty rate: 100 (MB/s)\n"
              "vcpu[1], Dirty rate: 8 (MB/s)\n")  # fmt: skip
    assert (row["dirty_bytes_per_s"], row["calc_time_s"], row["start_s"]) == (108 * 2**20, 10.0, 1795727469)
    assert row["vcpu_dirty_bytes_per_s"] == (100 * 2**20, 8 * 2**20)


def test_a_terminal_that_deletes():
    assert without_typing("(qemu) info migx\x1b[D\x1b[Krate\r") == "(qemu) info migrate"
    assert without_typing("ab\x08c") == "ac"


# -- virsh


def test_domjobinfo_of_a_running_and_a_completed_job():
    answers = read(RUNNING + "\n" + COMPLETED)
    assert answers.kind == "domjobinfo"
    running, completed = answers.table.to_dict("records")
    assert (running["status"], completed["status"]) == ("unbounded", "completed")
    assert running["operation"] == "Outgoing migration"
    assert running["total_time_s"] == 5.016
    assert running["transferred_bytes"] == pytest.approx(100.231 * 2**20)
    assert running["bandwidth_bytes_per_s"] == pytest.approx(19.841 * 2**20)
    assert running["page_size_bytes"] == 4096
    assert (running["sync_count"], running["zero_pages"], running["throttle_percent"]) == (3, 4064, 30)
    assert running["dirty_pages_per_s"] == 0  # after the second sync it is measured
    assert running["expected_downtime_s"] == 0.3
    assert np.isnan(running["downtime_s"])
    assert (completed["downtime_s"], completed["downtime_without_network_s"]) == (0.065, 0.063)
    assert completed["transferred_bytes"] == pytest.approx(1.234 * 2**30)
    assert completed["ram_remaining_bytes"] == 0
    assert np.isnan(completed["bandwidth_bytes_per_s"])


def test_domjobinfo_of_no_job_with_comma_and_old_units():
    answers = read("Job type:         None        \n\n")
    assert answers.table["status"].to_list() == ["none"]
    answers = read("Job type: Unbounded\nTime elapsed: 5 ms\nMemory processed: 1,500 MB\n")
    assert answers.table.loc[0, "transferred_bytes"] == 1.5 * 2**20
    assert len(answers.notes) == 2


# -- recorded runs


@measured
def test_a_recorded_run():
    name = "B2__link200_dev1_init8__unser__r0"
    answers = read(name)
    assert answers.kind == "recorded run"
    assert answers.table.equals(read(RUNS, name).table)
    table = answers.table
    assert "line" not in table
    assert table["time_s"].is_monotonic_increasing
    assert table["status"].iloc[-1] == "completed"
    assert table["downtime_limit_s"].iloc[0] == 0.3
    assert table["ram_total_bytes"].max() == 537206784
    assert "STOP" in set(answers.events["event"])
    assert "events" in answers.capabilities


@measured
def test_a_run_that_is_not_there():
    with pytest.raises(ScenarioError, match=r'run = "A__b__c" is not a recorded run'):
        read("A__b__c")
    with pytest.raises(
        ScenarioError, match=r"holds \d+ runs: name one of them by run \(--run on the command line\), such as A1_"
    ):
        read(RUNS)


def test_a_file_that_was_recorded_is_read_as_it_is_and_unpacked(tmp_path):
    path = DATA / "dirty-limit" / "R__q1__deb100__r0.json.gz"
    answers = read(path)
    assert answers.source == "R__q1__deb100__r0"
    assert answers.kind == "recorded run"
    assert answers.table.equals(read(path.parent, "R__q1__deb100__r0").table)
    unpacked = tmp_path / "mine.json"
    unpacked.write_bytes(gzip.decompress(path.read_bytes()))
    assert read(unpacked).table.equals(answers.table)
    assert read(unpacked).source == "mine"
    done = CliRunner().invoke(app, ["read", str(path)])
    assert done.exit_code == 0
    assert "answers about a migration in R__q1__deb100__r0" in done.output
    (tmp_path / "cut.json.gz").write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(ScenarioError, match="is not a recorded run: it is truncated"):
        read(tmp_path / "cut.json.gz")
    (tmp_path / "log.gz").write_bytes(gzip.compress(MAIL.encode()))
    with pytest.raises(ScenarioError, match=r"log\.gz is compressed: unpack it first"):
        read(tmp_path / "log.gz")


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(ScenarioError, match="does not hold the measured migrations"):
        read(tmp_path)
    (tmp_path / "runs.parquet").write_bytes(b"PAR1")
    with pytest.raises(ScenarioError, match="cannot be read"):
        read(tmp_path)


# -- what is refused

CUT = QMP.read_text()[:-3000]
REFUSED = [
    ("", "file.txt is empty"),
    ("\n\n", "file.txt is empty"),
    ("Dear list,\nit hangs.\n", 'line 1 of file.txt = "Dear list," is none of what migkit reads'),
    (CUT, r"line \d+ of file.txt begins JSON that does not end: the file is cut off"),
    (QMP.read_text()[150 + 400 :], "line 1 of file.txt is a part of JSON whose beginning is missing"),
    ('{"return": {"status": "active", }}', "line 1 of file.txt is not JSON"),
    ('{"return": {"status": "active", "total-time": NaN}}', "line 1 of file.txt has JSON that cannot be read"),
    ("[" * 100000, "line 1 of file.txt"),
    ('{"return": {}}\n{"return": {}}', "a guest that was never migrated"),
    ('{"return": {}}\n{"error": {"class": "X", "desc": "no such command"}}', "line 2 .* no such command"),
    ('{"name": "left-pad"}', "has JSON but no answer of query-migrate"),
    ('{"return": {"status": "flying", "total-time": 1}}', 'line 1 of file.txt, status = "flying" is not a status'),
    ('{"status": "active", "total-time": "soon"}', 'line 1 of file.txt, total-time = "soon" must be a number'),
    ('{"status": "active",\n "ram": [1]}', "line 1 of file.txt, ram = .* must be an object"),
    ('{"status": "measured", "calc-time": 1, "calc-time-unit": "hour"}', 'calc-time-unit = "hour" must be "second"'),
    ("Migration status: flying\n", 'line 1 of file.txt, status = "flying" is not a status'),
    ("Migration status: active\ntotal time: 5 s\n", 'line 2 of file.txt, total time = "5 s" must be a number of ms'),
    ("Migration status: active\ntransferred ram: 4096 MB\n", "line 2 of file.txt, transferred ram = .*of kbytes"),
    ("total time: 5 ms\ntransferred ram: 18197", "line 2 of file.txt, transferred ram"),
    ("total time: 5 ms\nMigration status: active\n", "line 2 of file.txt begins an answer that ends behind"),
    ("Status: active\nTime (ms): total=5\nRemaining: 3 parsecs\n", "line 3 of file.txt, Remaining = .*a size such as"),
    ("Status: measured\nDirty rate: 5 (pages)\n", "line 2 of file.txt, Dirty rate"),
    ("max-bandwidth: 5 furlongs\n", "line 1 of file.txt, max-bandwidth"),
    ("max-bandwidth: 5 bytes/second\n", "has no answer of info migrate"),
    ("Job type: Flying\n", 'line 1 of file.txt, Job type = "Flying"'),
    ("Job type: Unbounded\n", "line 1 of file.txt begins an answer that ends behind"),
    ("Job type: Unbounded\nTime elapsed: 5 s\n", "line 2 of file.txt, Time elapsed"),
    ("Job type: Unbounded\nTime elapsed: 5 ms\nMemory total: 5\n", "line 3 of file.txt, Memory total"),
    (MAIL + QMP.read_text(), "line 21 of file.txt begins JSON of QMP and line 2 text of QEMU's monitor"),
    (MAIL + RUNNING, "begins text of domjobinfo and line 2 text of QEMU's monitor: give each in a file of its own"),
]


@pytest.mark.parametrize(("text", "sentence"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused(text, sentence, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=sentence) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"Status: active\nTime\0\1\2", "line 2 of file.bin is not text"),
        (b"Status: active\n\xff\xfa", "line 2 of file.bin is not text in UTF-8"),
        (b"\x1f\x8b\x08\0\0\0", "file.bin is compressed"),
        (b"\0\0\0\0", "file.bin is empty"),
    ],
)
def test_binary_files_are_refused(data, sentence, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(data)
    with pytest.raises(ScenarioError, match=sentence):
        read(path)


def test_files_of_other_systems_are_read(tmp_path):
    path = tmp_path / "file.txt"
    for data in (b"\xef\xbb\xbf" + MAIL.encode(), MAIL.encode("utf-16"), MAIL.replace("\n", "\r\n").encode()):
        path.write_bytes(data)
        assert read(path).table.equals(read(MAIL).table)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(ScenarioError, match="does not exist"):
        read(tmp_path / "nothing.txt")
    with pytest.raises(ScenarioError, match=r"run = .* is for a folder of recorded runs only"):
        read(QMP, "A")
    with pytest.raises(ScenarioError, match="cannot be read"):
        read("a\0b")


def damaged(text, generator):
    """The text with a piece cut out, doubled, or replaced."""
    for _ in range(generator.randint(1, 4)):
        start = generator.randrange(len(text))
        end = min(len(text), start + generator.randint(1, 40))
        piece = generator.choice(["", text[start:end] * 2, "9" * 400, "-1", "{", '"', "\n", "NaN", "\x1b[", "null"])
        text = text[:start] + piece + text[end:] or "\n"
    return text


@pytest.mark.parametrize("seed", range(200))
def test_damaged_text_is_read_or_refused_in_one_sentence(seed):
    generator = random.Random(seed)
    texts = [MAIL, SHORT_2025, RUNNING, COMPLETED, QMP.read_text(), (DATA / "monitor-11.1.3.txt").read_text()]
    text = damaged(generator.choice(texts), generator)
    sentence = ""
    try:
        answers = read(f"{text}\n")
    except ScenarioError as error:
        sentence = str(error)
    else:
        assert answers.summary()
        assert set(answers.table) <= {column.name for column in COLUMNS}
    assert "\n" not in sentence


# -- the command


def run(*arguments, **options):
    return CliRunner().invoke(app, ["read", *map(str, arguments)], **options)


def test_the_command_prints_the_table():
    result = run(QMP)
    assert result.exit_code == 0
    assert result.stdout == read(QMP).summary() + "\n"


def test_the_command_prints_json_without_what_is_absent():
    rows = [json.loads(line) for line in run(QMP, "--json").stdout.splitlines()]
    assert rows[0]["answer"] == "dirty rate"
    assert rows[-1]["downtime_s"] == 0.001
    assert all(value is not None for row in rows for value in row.values())


def test_the_command_refuses_in_one_line(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    result = run(path)
    assert result.exit_code == 2
    assert result.stderr.startswith("migkit: empty is empty: give a log of QMP")
    assert result.stderr.count("\n") == 1
