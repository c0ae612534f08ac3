"""The claim: what a table and a figure make of recorded runs, and the real programs."""

import os
import shutil

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from migkit import ScenarioError
from migkit.qemu import binary as binary_module
from migkit.qemu.binary import Binary, installed
from migkit.qemu.claim import EXPERIMENTS, claim, compared, missing_text, plan_of, policy_of, text, verdict
from migkit.qemu.device import table_version
from migkit.qemu.migrate import config
from migkit.qemu.planned import scenario_of_plan
from migkit.qemu.record import write

MIB = 1 << 20
VERSIONS = {"7.2.22": "deb72", "10.0.2": "deb100", "11.1.3": "deb111"}


def recording(experiment, version, outcome, sent_mib):
    """A small recorded run: the device has sent so many MiB, one a call, 50 ms between calls."""
    plan = plan_of(experiment, version)
    reading = {"t": 100.0, "writes": 5, "tsc": 9, "overruns": 0, "wakeups": 3}
    calls = [[50.0 * (n + 1), 0, MIB, (63 - n) * MIB, 0] for n in range(sent_mib)]
    counters = {
        "st_iter_calls": sent_mib,
        "st_init_bytes": sent_mib * MIB,
        "st_dirty_bytes": 0,
        "st_complete_bytes": 0,
        "st_setup_ms": 100_000,
        "st_first_iter_ms": 100_050 if sent_mib else 0,
        "st_init_sent_ms": 103_200 if sent_mib == 64 else 0,
        "st_last_iter_ms": 100_000 + 50 * sent_mib if sent_mib else 0,
        "st_exact_calls": 3,
        "st_complete_us": 0,
        "st_hw_dirtied": 0,
    }
    log = {"rows": calls, "total": len(calls), "thinned": False}
    done = outcome == "completed"
    build = Binary(("qemu",), version, "Debian", (), {})
    return {
        "config": config(plan, build),
        "qemu": {"version": version},
        "started": 100.0,
        "host": {"wall_s": 2.0, "other_cpu_s": 0.0, "loadavg0": 1.0, "steal_s": 0.0},
        "outcome": outcome,
        "total_time_ms": 3700 if done else None,
        "downtime_ms": 250 if done else None,
        "downtime_wall_ms": None,
        "stop_at_ms": None,
        "final": {"status": outcome, "setup-time": 2, "ram": {"dirty-sync-count": 40}},
        "final_active": {},
        "guest": {"pre_pages_s": 0.0, "pre": [reading, reading], "mid": None, "end": None, "counters": {"rows": []}},
        "devices": [counters],
        "devices_dst": [{"st_load_bytes": sent_mib * MIB}],
        "device_log": {"device_iter": log, "ack_ms": [3300.0 if sent_mib == 64 else None], "complete_ms": [None]},
        "samples": {
            "cols": ["t_ms", "status", "dirty_pages_rate", "throttle_pct", "dirty_sync_count", "normal"],
            "rows": [[0.5, "active", None, None, 1, 5], [3600.0, "active", None, None, 40, 5]],
        },
        "events": [],
        "trace": None,
    }


@pytest.fixture
def record_runs(tmp_path):
    def run(*each):
        names = []
        for experiment, version, outcome, sent in each:
            made = recording(experiment, version, outcome, sent)
            names.append(write(tmp_path, f"claim__{experiment}__{VERSIONS[version]}", made))
        return compared(names, tmp_path)

    return run


AS_CLAIMED = (
    ("busy", "7.2.22", "not_converged", 0),
    ("busy", "10.0.2", "completed", 64),
    ("quiet", "10.0.2", "completed", 64),
    ("slow", "10.0.2", "not_converged", 64),
)


def test_runs_that_end_as_is_claimed_show_it(record_runs):
    found = record_runs(*AS_CLAIMED)
    assert found.shown
    assert list(found.runs["policy"]) == ["serialized", "unserialized", "unserialized", "unserialized"]
    said = text(found)
    assert "| busy    | 7.2.22 | serialized   | 0 B of 64 MiB" in said
    assert "Shown: 7.2.22 (serialized) starved the device behind RAM; 10.0.2 (unserialized) served" in said
    assert "never completed on 10.0.2" in said
    assert "QEMU 11.1 was not found" in said
    measured = found.runs.set_index(["experiment", "version"])
    assert measured.loc[("busy", "10.0.2"), "initial_s_measured"] == pytest.approx(3.202)
    assert np.isnan(measured.loc[("busy", "7.2.22"), "initial_s_measured"])
    assert np.isnan(measured.loc[("slow", "10.0.2"), "total_s_measured"])


def test_the_predictions_are_those_of_the_claim(record_runs):
    """Each version, before anything is recorded; what was recorded does not change them."""
    found = record_runs(*AS_CLAIMED, ("busy", "11.1.3", "not_converged", 0)).runs
    assert list(found["outcome_predicted"]) == [
        *("not_converged", "completed", "completed", "not_converged"),
        "completed",
    ]
    assert list(found["initial_sent_bytes_predicted"] // MIB) == [0, 64, 64, 64, 64]


@pytest.mark.parametrize(
    ("index", "instead"),
    [
        (0, ("busy", "7.2.22", "not_converged", 64)),  # the device was served
        (0, ("busy", "7.2.22", "completed", 64)),
        (1, ("busy", "10.0.2", "not_converged", 0)),
        (1, ("busy", "10.0.2", "completed", 63)),
        (3, ("slow", "10.0.2", "completed", 64)),
    ],
)
def test_runs_that_end_otherwise_contradict(record_runs, index, instead):
    runs = list(AS_CLAIMED)
    runs[index] = instead
    found = record_runs(*runs)
    assert not found.shown
    assert verdict(found).startswith(f"Not shown: {instead[0]} on {instead[1]} ended otherwise")
    assert "| NO " in text(found)


def test_one_policy_alone_shows_nothing(record_runs):
    found = record_runs(AS_CLAIMED[0])
    assert not found.shown
    assert "QEMU 10.0 (or 11.1, unserialized) is missing: docs/record.md" in text(found)
    assert verdict(found) == "Shown in part: 7.2.22 (serialized) starved the device behind RAM."
    assert len(found.syncs) == 0
    assert missing_text(["11.1.3"]).startswith("QEMU 7.2 (serialized) is missing: ")


def test_the_figure_has_a_line_a_version(record_runs, tmp_path):
    from migkit.study.atlas import claim_figure, write_claim

    found = record_runs(*AS_CLAIMED)
    left, right = claim_figure(found).axes
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["7.2.22, serialized", "10.0.2, unserialized", "predicted"]
    starved, served, *predicted = left.lines
    assert max(starved.get_ydata()) == 0
    assert max(starved.get_xdata()) == 15
    assert max(served.get_ydata()) == 64
    assert starved.get_linestyle() != served.get_linestyle(), "told apart in grey"
    assert len(predicted) == 2
    quiet, slow = right.lines
    assert [quiet.get_marker(), slow.get_marker()] == [served.get_marker()] * 2, "a version has one marker"
    assert quiet.get_markerfacecolor() != slow.get_markerfacecolor() == "white"
    ends = [text.get_text().rpartition(": ")[2] for text in right.get_legend().get_texts()]
    assert ends == ["completed", "cancelled"]
    assert {line.get_drawstyle() for line in right.lines} == {"steps-post"}
    assert [ax.get_title()[:3] for ax in (left, right)] == ["(a)", "(b)"]
    (alone,) = claim_figure(record_runs(AS_CLAIMED[0])).axes
    assert alone.get_ylim()[0] < 0 < 64 < alone.get_ylim()[1], "nothing was sent of 64 MiB"
    written = write_claim(found, tmp_path / "out")
    assert {path.name for path in written} == {"claim.pdf", "claim.svg", "claim.png", "claim.json"}


def test_what_has_no_model_or_no_speed_is_refused():
    plan = EXPERIMENTS["busy"].plan
    for changed, sentence in (
        ({"link": 0}, "or max-bandwidth must be above 0"),
        ({"regions": [{"size": "1 MiB", "rate": "max"}]}, "only a run tells"),
        ({"changes": ["2 s: max-bandwidth = 64 MiB/s"]}, "changes has no model"),
        ({"parameters": {"multifd-channels": 4}}, 'parameters = "multifd-channels" has no model'),
    ):
        with pytest.raises(ScenarioError) as error:
            scenario_of_plan(plan.changed(**changed), "10.0.2")
        assert sentence in str(error.value)


def test_a_plan_becomes_its_scenario():
    plan = EXPERIMENTS["busy"].plan.changed(parameters={"avail-switchover-bandwidth": "1 GiB/s"})
    scenario = scenario_of_plan(plan, "10.0.2")
    assert scenario.migration.avail_switchover_bandwidth == 1 << 30
    assert (scenario.link.bandwidth, scenario.policy) == (100 * MIB, "unserialized")
    assert scenario.guest.regions[1].size == 24 * MIB
    assert scenario_of_plan(plan.changed(parameters={}), "7.2.22").sync_policy == "7.2"


def test_versions_are_found_once_each_and_sorted(monkeypatch):
    versions = {"/a": "10.0.2", "/b": "7.2.22", "/c": "10.0.2"}
    monkeypatch.setattr(
        binary_module, "find", lambda qemu=None, root=None: Binary((root or qemu,), versions[root or qemu], "")
    )
    said = []
    assert [each.version for each in installed(["/a"], ["/b", "/c"], said.append)] == ["7.2.22", "10.0.2"]
    assert said == ["QEMU 10.0.2 is given twice: /c is left out."]
    monkeypatch.setenv("MIGKIT_QEMU_ROOTS", "/b:")
    monkeypatch.setattr(binary_module.shutil, "which", lambda name: None)
    assert [each.argv for each in installed()] == [("/b",)]


def test_without_a_usable_version_it_is_said_how_to_get_one(tmp_path):
    said = []
    with pytest.raises(ScenarioError, match=r"docs/record.md says how"):
        claim(tmp_path, [Binary(("qemu",), "8.2.2", "")], said.append)
    assert said == ["QEMU 8.2.2 is left out: the device knows 7.2, 10.0, 11.1 only."]


def test_ctrl_c_says_what_is_kept(tmp_path, monkeypatch):
    asked = []

    def recorded(output, plan, **named):
        if asked:
            raise KeyboardInterrupt
        asked.append(named["name"])
        return ["claim__busy__deb100__r0"]

    monkeypatch.setattr("migkit.qemu.claim.record", recorded)
    with pytest.raises(KeyboardInterrupt) as interrupt:
        claim(tmp_path, [Binary(("qemu",), "10.0.2", "")])
    assert interrupt.value.__notes__ == [f"1 runs were recorded and are in {tmp_path}"]


@pytest.mark.qemu
def test_the_claim_on_this_machine(tmp_path):
    """Short: the busy guest alone, with every version that is here."""
    pytest.importorskip("qemu.qmp", reason="qemu.qmp is not installed: pip install 'migkit[qemu]'")
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc to compile the device")
    usable = []
    for binary in installed():
        try:
            table_version(binary.version)
        except ScenarioError:
            continue
        usable.append(binary)
    if not usable:
        pytest.skip("there is no QEMU with a known table of handlers here")
    quick = {"busy": EXPERIMENTS["busy"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("migkit.qemu.claim.EXPERIMENTS", quick)
        found = claim(tmp_path, usable)
    assert found.runs["shown"].all(), text(found)
    assert len(os.listdir(tmp_path)) == len(usable)
    for _, run in found.runs.iterrows():
        assert (run["initial_sent_bytes_measured"] == 0) == (policy_of(run["version"]) == "serialized")
