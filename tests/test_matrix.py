"""The matrix of ``migkit validate --record``: what is recorded, what is kept, and what the report says."""

import shutil
import sys

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from typer.testing import CliRunner

from migkit import ScenarioError, Unfinished, qemu
from migkit.cli import app
from migkit.qemu import matrix as matrix_module
from migkit.qemu.binary import Binary, installed
from migkit.qemu.matrix import matrix, record_matrix, seconds_of
from migkit.qemu.migrate import config
from migkit.qemu.planned import scenario_of_plan
from migkit.qemu.predict import PACED_VCPU_SHARE, nearest_profile, rules_of, scenario_of
from migkit.qemu.record import name_of, write
from migkit.qemu.report import coverage_text, of_recorded, run_text
from migkit.qemu.validation import by_version, coverage, device_times, predictions, slowed
from migkit.run.simulate import simulate
from migkit.scenario.versions import PROFILES

OLD, NEW = Binary(("qemu",), "7.2.22", "Debian"), Binary(("qemu",), "10.0.2", "Debian")


def recording(plan, binary, completed=True, kept=1.0, seconds=5.0):
    """A recorded run without a trace, which ended so; its guest kept that share of its rate."""
    rates = [region.writes_per_s for region in plan.regions]
    rate = 65_000 if None in rates else sum(rates)
    reading = {"t": 100.0, "writes": 5, "tsc": 9, "overruns": 0, "wakeups": 3}
    counters = [[t, "src", 0, 0, 0, round(rate * (t / 1e3 + 1) * kept)] for t in (0.0, 1000.0, 2000.0)]
    return {
        "config": config(plan, binary),
        "qemu": {"version": binary.version},
        "started": 1e9,
        "host": {"wall_s": 2.0, "other_cpu_s": 0.0, "loadavg0": 1.0, "steal_s": 0.0},
        "outcome": "completed" if completed else "not_converged",
        "total_time_ms": round(seconds * 1e3) if completed else None,
        "downtime_ms": 100 if completed else None,
        "downtime_wall_ms": None,
        "stop_at_ms": None,
        "final": {"setup-time": 2, "ram": {"dirty-sync-count": 4, "transferred": 550_000_000}},
        "final_active": {},
        "guest": {
            "pre_pages_s": float(rate), "pre": [reading, reading], "mid": None, "end": None,
            "counters": {"rows": counters},
        },
        "samples": {
            "cols": ["t_ms", "status", "dirty_pages_rate", "throttle_pct", "dirty_sync_count", "normal"], "rows": [],
        },
        "events": [],
        "trace": None,
    }  # fmt: skip


def ends(plan, version="10.0.2"):
    """Whether the plan is predicted to complete; a guest at full speed is taken to, under auto-converge."""
    try:
        return simulate(scenario_of_plan(plan, version)).converged
    except ScenarioError:
        return True


@pytest.fixture
def recorded(tmp_path):
    """The short matrix as it is predicted to end, for two versions."""
    for binary in (OLD, NEW):
        for group, plan in matrix(short=True):
            write(tmp_path, f"{group}__{name_of(plan)}__{binary.build}", recording(plan, binary, ends(plan)))
    return tmp_path


def test_the_matrix_has_what_the_documentation_says():
    runs = matrix()
    assert len({name_of(plan) for _, plan in runs}) == len(runs), "each has a name of its own"
    rates = {}
    for group, plan in runs:
        if group == "V1":
            rates.setdefault(plan.regions[0].pattern, []).append(float(plan.regions[0].rate / plan.max_bandwidth))
    assert rates == {pattern: [0.25, 0.5, 0.75, 1.0, 1.5, 2.0] for pattern in ("uniform", "sequential")}
    assert [float(plan.downtime_limit) for group, plan in runs if group == "V2"] == [0.05, 0.1, 1.0]
    throttled = [plan for group, plan in runs if group == "V3"]
    assert all("auto-converge" in plan.capabilities for plan in throttled)
    assert [plan.regions[0].rate == "max" for plan in throttled] == [False, True]
    assert not any(plan.device or plan.link for _, plan in runs)
    assert all(run in runs for run in matrix(short=True))


@pytest.mark.parametrize("version", ["7.2.22", "10.0.2", "11.1.3"])
def test_no_configuration_is_near_the_edge(version):
    """Outcomes do not depend on a few percent: those that a busy host takes away."""
    for _, plan in matrix():
        if plan.regions[0].rate == "max" or plan.capabilities:
            continue
        scenario = scenario_of_plan(plan, version)
        outcomes = set()
        for share in (0.95, 1.0, 1.05):
            if plan.regions[0].pattern == "sequential" and plan.regions[0].rate == plan.max_bandwidth and share < 1:
                continue  # sequential writes as fast as max-bandwidth are on it
            rate = float(scenario.guest.regions[1].write_rate) * share
            outcomes.add(simulate(scenario.replace("guest.regions.1.write_rate", f"{rate} B/s")).converged)
        assert len(outcomes) == 1, name_of(plan)


def test_the_short_matrix_takes_less_than_3_minutes_for_3_versions():
    seconds = [seconds_of(plan, version) for _, plan in matrix(short=True) for version in ("7.2", "10.0", "11.1")]
    assert sum(seconds) < 180
    assert sum(seconds_of(plan, "10.0.2") for _, plan in matrix()) < 330


class Recorder:
    """In the place of :func:`migkit.qemu.record.record`: writes synthetic runs, and may fail."""

    def __init__(self):
        self.asked, self.fails_at = [], None
        self.error = Unfinished("The source QEMU was killed by signal 9.")

    def __call__(self, output, plan, *, group, qemu, progress):
        if self.fails_at == len(self.asked):
            raise self.error
        self.asked.append((group, name_of(plan), qemu.version))
        output.mkdir(exist_ok=True)
        name = write(output, f"{group}__{name_of(plan)}__{qemu.build}", recording(plan, qemu))
        progress(f"{name}: completed")
        return [name]


@pytest.fixture
def recorder(monkeypatch):
    made = Recorder()
    monkeypatch.setattr(matrix_module, "record", made)
    return made


def test_only_what_is_missing_is_recorded(recorder, tmp_path):
    said = []
    recorder.fails_at = 3
    kept = f"3 of 10 runs are in {tmp_path}, and the same command records the rest"
    with pytest.raises(Unfinished) as unfinished:
        record_matrix(tmp_path, [OLD, NEW], short=True, progress=said.append)
    assert str(unfinished.value) == f"The source QEMU was killed by signal 9. {kept}."
    recorder.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as interrupt:
        record_matrix(tmp_path, [OLD, NEW], short=True, progress=[].append)
    assert interrupt.value.__notes__ == [kept]
    assert said[0].startswith("10 runs with QEMU 7.2.22, 10.0.2 are to be recorded, about ")
    assert said[1].startswith("[1/10, about ")
    first = list(recorder.asked)
    recorder.fails_at = None
    record_matrix(tmp_path, [OLD, NEW], short=True, progress=said.append)
    assert len(recorder.asked) == 10
    assert len(set(recorder.asked)) == 10
    assert recorder.asked[:3] == first
    assert any("7 runs" in line and "; 3 of 10 are there." in line for line in said)
    assert record_matrix(tmp_path, [OLD, NEW], short=True, progress=said.append) == []
    assert said[-1] == "0 runs with QEMU 7.2.22, 10.0.2 are to be recorded, about 0 s; 10 of 10 are there."
    record_matrix(tmp_path, [NEW], short=True, repeats=2, progress=said.append)
    assert len(recorder.asked) == 15


def test_what_cannot_be_recorded_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match="QEMU is missing: install"):
        record_matrix(tmp_path, [])
    with pytest.raises(ScenarioError, match="--repeats = 0 is outside"):
        record_matrix(tmp_path, [NEW], repeats=0)


@pytest.mark.parametrize(
    ("command", "called"),
    [(["claim", "out"], "migkit claim"), (["validate", "out", "--record"], "migkit validate --record")],
)
def test_without_qemu_qmp_the_command_is_named_before_anything_is_announced(command, called, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("migkit.qemu.binary.installed", lambda *_: [NEW])
    monkeypatch.setitem(sys.modules, "qemu.qmp", None)
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 2
    assert done.output == f"migkit: {called} needs the package qemu.qmp: pip install 'migkit[qemu]'.\n"


def test_the_report_of_recorded_runs(recorded):
    table = predictions(recorded)
    assert table["right"].all()
    versions = by_version(table, recorded)
    assert list(versions.index) == [("7.2.22", "deb72"), ("10.0.2", "deb100")]
    assert list(versions["profile"]) == ["7.2", "10.0"]
    assert (versions["right"] == 5).all()
    assert (versions["decisive"] == 5).all()
    assert (versions["decisive_right"] == 5).all()
    said = of_recorded(table, recorded)
    assert "| 7.2.22 (`deb72`)  | 7.2       | 5      | 5 of 5 " in said
    assert "All outcomes are right." in said
    assert scenario_of(qemu.runs(recorded).iloc[0], recorded).costs.label == "default"
    assert len(device_times(recorded)) == 0
    assert "total_ms" in run_text(table.iloc[0], device_times(recorded))


def test_a_wrong_outcome_and_a_guest_that_did_not_keep_its_rate_are_said(tmp_path):
    plans = [plan for group, plan in matrix() if group == "V1"]
    for plan, completed, kept in ((plans[5], True, 0.5), (plans[4], True, 1.0), (plans[0], True, 1.0)):
        write(tmp_path, f"V1__{name_of(plan)}__deb100", recording(plan, NEW, completed, kept))
    table = predictions(tmp_path)
    assert table["right"].sum() == 1
    assert slowed(table, tmp_path).sum() == 1
    row = by_version(table, tmp_path).iloc[0]
    assert (row["decisive"], row["decisive_right"]) == (2, 1)
    said = of_recorded(table, tmp_path)
    assert said.count("the guest did not keep its rate") == 1
    assert "Wrong outcomes:" in said


def test_what_was_measured_and_what_not(recorded):
    found = coverage(recorded)
    assert found.loc[("10.0", "10.0.2", "deb100"), ["runs", "uniform", "sequential", "device"]].tolist() == [5, 3, 1, 0]
    assert found.loc[("9.0", "", ""), "runs"] == 0
    lines = coverage_text(recorded).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(PROFILES)
    assert len({len(line) for line in lines}) == 1


def test_a_paced_guest_needs_a_share_of_its_vcpu(tmp_path):
    """What it catches up, or more where its work takes more: another run says how fast it is without a pace."""
    paced_plan, full_plan = (plan for group, plan in matrix() if group == "V3")

    def share_of_paced():
        runs = qemu.runs(tmp_path)
        paced = runs[~runs["writes_max"].astype(bool)].iloc[0]
        return scenario_of(paced, tmp_path).guest.regions[1].vcpu_share

    write(tmp_path, f"V3__{name_of(paced_plan)}__deb100", recording(paced_plan, NEW))
    assert share_of_paced() == PACED_VCPU_SHARE
    write(tmp_path, f"V3__{name_of(full_plan)}__deb100", recording(full_plan, NEW))
    runs = qemu.runs(tmp_path)
    full = runs[runs["writes_max"].astype(bool)].iloc[0]
    writes = float(paced_plan.regions[0].rate) / 4096
    assert share_of_paced() == pytest.approx(min(1, max(PACED_VCPU_SHARE, writes / full["pre_writes_s"])))
    assert share_of_paced() > PACED_VCPU_SHARE
    assert scenario_of(full, tmp_path).guest.regions[1].vcpu_share == 1


@pytest.mark.parametrize(
    ("version", "profile"),
    [("7.1.0", "7.2"), ("8.0.4", "8.0"), ("8.2.90", "9.0-rc0"), ("8.2.91", "9.0"), ("9.1.3", "9.1"), ("9.2.0", "9.2"),
     ("10.1.2", "10.1"), ("11.0.1", "11.0"), ("11.0.92", "11.1"), ("11.1.0", "11.1")],
)  # fmt: skip
def test_builds_that_are_not_in_the_measured_runs_have_the_profile_of_their_version(version, profile):
    assert nearest_profile(version) == profile
    assert rules_of("v999", version)["qemu"] == profile


@pytest.mark.parametrize("version", ["6.2.0", "12.0"])
def test_a_version_beyond_those_that_are_known_is_refused(version):
    with pytest.raises(ScenarioError, match="is a version of QEMU whose rules are not known"):
        rules_of("v999", version)


def test_a_build_of_which_nothing_is_known_is_refused():
    for version in (None, "", "ten", float("nan")):
        with pytest.raises(ScenarioError, match="is not a build that is known"):
            rules_of("v999", version)


def test_the_command(recorded, recorder, tmp_path, monkeypatch):
    monkeypatch.setattr("migkit.qemu.binary.installed", lambda *_: [OLD, NEW])
    done = CliRunner().invoke(app, ["validate", str(recorded), "--record", "--short", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "10 of 10 are there" in done.output
    assert "All outcomes are right." in done.output
    assert {"validation.md", "runs.csv", "validation.pdf"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert "recorded on this machine" in (tmp_path / "out" / "validation.md").read_text(encoding="utf-8")
    assert recorder.asked == []
    done = CliRunner().invoke(app, ["validate", "--short"])
    assert done.exit_code == 2
    assert "--record is needed by" in done.stderr
    done = CliRunner().invoke(app, ["validate", str(tmp_path / "nothing")])
    assert done.exit_code == 2
    assert "does not hold the measured migrations" in done.stderr


@pytest.mark.qemu
def test_the_short_matrix_on_this_machine(tmp_path):
    """Outcomes, and bounds that a busy machine keeps."""
    pytest.importorskip("qemu.qmp", reason="qemu.qmp is not installed: pip install 'migkit[qemu]'")
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("there is no qemu-system-x86_64 here")
    names = record_matrix(tmp_path, installed()[:2], short=True)
    table = predictions(tmp_path)
    assert set(table.index) == set(names)
    kept = ~slowed(table, tmp_path)
    assert table["right"][kept].all(), of_recorded(table, tmp_path)
    both = table[kept & table["total_error"].notna()]
    assert len(both) >= 2 or not kept.all()
    assert np.all(both["total_error"].abs() < 1.0)
    assert np.all(both["bytes_error"].abs() < 0.5)
