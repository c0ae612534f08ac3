"""A scenario is fitted to what QEMU or libvirt said, and what they do not tell is named."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from migkit import HostCosts, Scenario, ScenarioError, qemu, simulate
from migkit.cli import app
from migkit.results import bytes_text

DATA = Path(__file__).parent / "data"
RUNS = Path(__file__).parents[1] / "data" / "qemu-traces"
measured = pytest.mark.skipif(not RUNS.is_dir(), reason="the measured runs are part of a checkout only")
MIB, GIB = 1 << 20, 1 << 30
MAIL = """\
Migration status: active
total time: 60000 milliseconds
expected downtime: 1475 milliseconds
setup: 20 milliseconds
transferred ram: 6300000 kbytes
throughput: 860.00 mbps
remaining ram: 376892 kbytes
total ram: 4194304 kbytes
duplicate: 20000 pages
skipped: 0 pages
normal: 1560000 pages
normal bytes: 6240000 kbytes
dirty sync count: 6
page size: 4 kbytes
dirty pages rate: 9000 pages
"""
DOMJOBINFO = """\
Job type:         Completed
Operation:        Outgoing migration
Time elapsed:     12950        ms
Memory processed: 1.567 GiB
Memory remaining: 0.000 B
Memory total:     2.020 GiB
Memory bandwidth: 124.1 MiB/s
Dirty rate:       0            pages/s
Page size:        4096         bytes
Iteration:        4
Constant pages:   127000
Normal pages:     409800
Normal data:      1.563 GiB
Total downtime:   104          ms
Setup time:       6            ms
"""


def dirty_rates(size, rate, windows, ram=GIB):
    """Answers of query-dirty-rate about a guest that writes at random."""
    lines = []
    for seconds in windows:
        volume = size * (1 - np.exp(-rate * seconds / size))
        answer = {"status": "measured", "dirty-rate": int(volume / seconds / MIB), "calc-time": round(seconds * 1000),
                  "calc-time-unit": "millisecond", "sample-pages": 8192, "mode": "page-sampling"}  # fmt: skip
        lines.append(json.dumps({"return": answer}))
    return qemu.read("\n".join([*lines, ""]))


@measured
@pytest.mark.parametrize(
    ("name", "size", "rate", "off"),
    [
        ("A2__bw128_rand_r050__unser__r0", 128 * MIB, 16384 * 4096, 0.03),
        ("A2__bw128_rand_r090__deb111__r0", 128 * MIB, 29491 * 4096, 0.03),
        ("A6__link200_unl_r050__v82__r0", 128 * MIB, 25600 * 4096, 0.06),
    ],
)
def test_a_recorded_migration_is_found_again(name, size, rate, off):
    found = qemu.calibrate_log(qemu.read(name), accel="tcg", draws=100)
    for window in (0.3, 1.0, 3.0):
        truth = size * (1 - np.exp(-rate * window / size))
        low, high = np.quantile(found.working_set.dirty_bytes(window), [0.05, 0.95])
        assert 0.8 * low < truth < 1.2 * high
    checks = found.checks
    assert checks.loc["completed", "middle"] > 0.9
    assert checks.loc["total_time_s", "middle"] == pytest.approx(checks.loc["total_time_s", "measured"], rel=off)
    assert abs(checks.loc["sync_count", "middle"] - checks.loc["sync_count", "measured"]) <= 1
    assert simulate(found.scenario).converged


@measured
def test_what_limits_is_told_apart():
    limited = qemu.calibrate_log(qemu.read("A2__bw128_rand_r050__unser__r0"), draws=20)
    assert limited.scenario.migration.max_bandwidth == 128 * MIB
    assert "throughput" in limited.parameters.index
    assert any("what the link carries" in each for each in limited.unknown)
    paced = qemu.calibrate_log(qemu.read("A6__link200_unl_r050__v82__r0"), draws=20)
    row = paced.parameters.loc["link.bandwidth"]
    assert row["value"] == pytest.approx(200 * MIB, rel=0.12)
    assert 0 < row["standard_error"] < 0.1 * row["value"]
    assert any("CPU time of a page is the limit" in each for each in paced.unknown)


@measured
def test_a_link_that_is_known_shows_the_cost_of_a_page():
    found = qemu.calibrate_log(qemu.read("A6__link200_unl_r050__v82__r0"), link="10 Gbit/s", draws=20)
    assert found.costs.page == pytest.approx(4104 / (200 * MIB), rel=0.12)
    assert found.scenario.link.bandwidth == 1.25e9


@measured
def test_a_link_that_carries_less_than_went_out_is_told():
    found = qemu.calibrate_log(qemu.read("A6__link200_unl_r050__v82__r0"), link="1 Gbit/s", draws=20)
    assert found.scenario.link.bandwidth == pytest.approx(200 * MIB, rel=0.12)
    assert "Note: More went out than the link that was given carries: 1 Gbit/s of " in found.summary()


def test_dirty_rates_alone_need_ram_and_a_link():
    answers = dirty_rates(200e6, 150e6, [0.1, 0.3, 1.0, 3.0, 6.0])
    with pytest.raises(ScenarioError, match="ram is missing"):
        qemu.calibrate_log(answers)
    with pytest.raises(ScenarioError, match="link is missing"):
        qemu.calibrate_log(answers, ram="1 GiB")
    found = qemu.calibrate_log(answers, ram="1 GiB", link="10 Gbit/s", draws=100)
    assert found.working_set.draws["size_bytes"].median() == pytest.approx(200e6, rel=0.3)
    assert found.checks.empty
    assert any("how fast bytes go out" in each for each in found.unknown)


def test_dirty_rates_and_a_migration_of_one_guest_together():
    rates = dirty_rates(40e6, 60e6, [0.1, 1.0, 5.0], 257 * MIB)
    found = qemu.calibrate_log([rates, qemu.read(DATA / "qmp-11.1.3.jsonl")], draws=50)
    assert len(found.sources) == 2
    assert found.scenario.qemu == "11.1"
    assert len(found.working_set.windows) >= 3


@pytest.mark.parametrize("file", ["qmp-11.1.3.jsonl", "monitor-7.2.22.txt", "monitor-10.0.2.txt", "monitor-11.1.3.txt"])
def test_a_quiet_guest_in_every_format(file):
    found = qemu.calibrate_log(qemu.read(DATA / file), draws=50)
    checks = found.checks
    assert checks.loc["total_time_s", "middle"] == pytest.approx(checks.loc["total_time_s", "measured"], rel=0.05)
    assert checks.loc["bytes_sent", "middle"] == pytest.approx(checks.loc["bytes_sent", "measured"], rel=0.05)
    assert found.scenario.qemu == file.split("-")[1].rsplit(".", 2)[0]
    assert found.costs.setup == pytest.approx({"qmp": 0.002}.get(file[:3], found.costs.setup))


def test_one_answer_of_a_mail():
    found = qemu.calibrate_log(qemu.read(MAIL), draws=50)
    assert found.scenario.link.bandwidth == pytest.approx(860e6 / 8, rel=0.03)
    assert any("the mean time between syncs is taken" in note for note in found.notes)
    rate = np.median(found.working_set.dirty_bytes(10.0)) / 10.0
    assert rate == pytest.approx(9000 * 4096, rel=0.4)
    assert any("downtime-limit" in each for each in found.unknown)


def test_a_completed_job_of_libvirt():
    found = qemu.calibrate_log(qemu.read(DOMJOBINFO), draws=50)
    checks = found.checks
    assert found.scenario.migration.max_bandwidth == 128 * MIB
    assert any("default max-bandwidth" in note for note in found.notes)
    assert checks.loc["total_time_s", "middle"] == pytest.approx(12.95, rel=0.08)
    assert checks.loc["bytes_sent", "middle"] == pytest.approx(checks.loc["bytes_sent", "measured"], rel=0.06)


def test_a_throttled_guest_is_not_taken_for_a_slow_one():
    rows = []
    for number in range(1, 9):
        ram = {"total": GIB, "transferred": number * 134217728, "remaining": 400 * MIB, "mbps": 1073.0,
               "dirty-sync-count": number, "normal": number * 32768, "duplicate": 0, "page-size": 4096,
               "dirty-pages-rate": 60000 if number < 3 else 600 * number}  # fmt: skip
        answer = {"status": "active", "total-time": number * 1000 + 5, "setup-time": 5, "ram": ram}
        rows.append(json.dumps({"return": answer | ({"cpu-throttle-percentage": 90} if number >= 3 else {})}))
    found = qemu.calibrate_log(qemu.read("\n".join([*rows, ""])), draws=50)
    assert np.median(found.working_set.dirty_bytes(1.0)) > 0.6 * 60000 * 4096
    assert found.scenario.migration.auto_converge


@pytest.mark.parametrize(
    ("given", "sentence"),
    [({"draws": 3}, "draws = 3"), ({"ram": "3 TiB"}, "is not the"), ({"qemu": "6.0"}, "whose rules are not known"),
     ({"link": "10 GiB"}, "a rate is needed"), ({"accel": "xen"}, "accel")],
)  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(given, sentence):
    with pytest.raises(ScenarioError, match=sentence):
        qemu.calibrate_log(qemu.read(DATA / "qmp-11.1.3.jsonl"), **given)


def test_what_tells_nothing_is_refused():
    with pytest.raises(ScenarioError, match="answers must be what"):
        qemu.calibrate_log([])
    never = qemu.read('{"return": {"status": "setup", "total-time": 1, "ram": {"total": 1073741824}}}\n\n')
    with pytest.raises(ScenarioError, match="link is missing"):
        qemu.calibrate_log(never)


def test_the_command_writes_a_scenario_and_costs(tmp_path):
    costs, scenario = tmp_path / "host.toml", tmp_path / "scenario.toml"
    command = ["calibrate", str(DATA / "qmp-11.1.3.jsonl"), "-o", str(costs), "--scenario", str(scenario)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "The answers do not tell" in result.stdout
    assert HostCosts.from_toml(costs).setup == 0.002
    assert "assumed: the answers do not tell it" in costs.read_text()
    assert simulate(Scenario.from_toml(scenario)).converged
    written = scenario.read_text()
    assert written.startswith("# Fitted by migkit calibrate to qmp-11.1.3.jsonl.\n# The scenario has draw ")
    (drawn,) = re.findall(r"The scenario has draw \d+ of 200, whose total time is in the middle: .*", result.stdout)
    assert drawn in written
    region = Scenario.from_toml(scenario).guest.regions[0]
    assert f"{bytes_text(region.size)} written at {region.write_rate / 1e6:.4g} MB/s" in drawn
    fit = Scenario.from_toml(scenario)
    fitted = [fit.link.bandwidth, fit.guest.zero_share, *(each.write_rate for each in fit.guest.regions)]
    assert [float(f"{each:.4g}") for each in fitted] == fitted
    assert "The draws miss the downtime_s that was measured: the fit does not explain it." in result.stdout
    assert "The draws miss the total_time_s" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ram", "1 GiB"], "--ram = .* is for files that migkit read reads only"),
        ([str(DATA / "qmp-11.1.3.jsonl"), "--campaign", "x"], "--campaign = .* is for a folder of measured runs only"),
        ([str(DATA / "qmp-11.1.3.jsonl"), str(DATA)], "is given with others"),
        ([str(DATA / "missing")], "does not exist"),
    ],
)
def test_the_command_refuses_in_one_sentence(arguments, sentence):
    result = CliRunner().invoke(app, ["calibrate", *arguments])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert re.search(sentence, result.stderr)


@measured
def test_a_guest_that_stopped_in_the_first_pass_tells_nothing_of_what_it_writes():
    found = qemu.calibrate_log(qemu.read("A4__bw512_dt1000_r050__v82__r0"), accel="tcg")
    assert found.working_set is None
    assert any("what the guest writes" in each for each in found.unknown)
    assert simulate(found.scenario).converged
