"""Predictions of the measured runs of real QEMU, and the goals for their errors."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("pyarrow")

from migkit import ScenarioError
from migkit.qemu import runs
from migkit.qemu.iterations import agreement, compare_iterations
from migkit.qemu.predict import calibration_of, link_of, other_runs, scenario_of
from migkit.qemu.report import COMPARED_RUNS, run_text, summary, write
from migkit.qemu.validation import by_configuration, by_profile, device_times, goals, misses, predictions

DATA = Path(__file__).parents[1] / "data" / "qemu-traces"
EDGE = {
    "B3__lo_bw512_dev1_init8__unser__r0",
    "B9__link200_bw100_dev1_init8__unser__r4",
    "B9__link200_bw104_dev1_init8__unser__r0",
}
"""Runs with another outcome than some of their repeats."""

UNEXPLAINED = {
    "B3__link200_bw150_dev1_init8__deb111__r0",
    "B5__bw128_idle_dev1_init64__ser__r0",
    "B5__bw128_idle_dev1_init64__ser__r2",
    "B5__bw128_r50_dev1_init64__deb111__r0",
}
"""Misses without a cause that the traces show."""

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the measured runs are part of a checkout only")


@pytest.fixture(scope="module")
def predicted():
    return predictions()


@pytest.fixture(scope="module")
def reached(predicted):
    return goals(predicted)


def test_goals_are_read_where_the_runs_are(predicted, reached, tmp_path, monkeypatch):
    shutil.copytree(DATA, tmp_path / "copy")
    monkeypatch.setenv("MIGKIT_DATA", str(tmp_path / "nowhere"))
    assert goals(predicted, tmp_path / "copy").equals(reached)
    with pytest.raises(FileNotFoundError):
        goals(predicted)


def test_every_run_is_predicted(predicted):
    assert len(predicted) == 724
    assert predicted[["outcome_predicted", "syncs_predicted", "bytes_predicted"]].notna().all(axis=None)
    completed = predicted["outcome_predicted"] == "completed"
    assert (predicted["total_ms_predicted"].notna() == completed).all()
    assert predicted.groupby("campaign")["held"].sum().to_dict() == {"2026-11-22": 252, "2026-11-26": 220}


def test_scenario_knows_only_the_configuration():
    run = runs().loc["B2__link200_dev1_init8__unser__r0"]
    hidden = run.copy()
    for column in ("outcome", "total_ms", "transferred", "sync_count", "link_first_pass_bytes_per_s", "ack_ms"):
        hidden[column] = None
    assert scenario_of(hidden) == scenario_of(run)
    assert scenario_of(run).qemu == "9.0-rc0"
    assert scenario_of(run).policy == "unserialized"
    assert scenario_of(runs().loc["A9__bw128_rand_r000__deb72__r0"]).qemu == "7.2"


def test_outcomes(predicted):
    whole = by_configuration(predicted)
    agreeing = whole[whole["agree"]]
    assert (agreeing["right"] == agreeing["repeats"]).all()
    assert set(predicted.index[~predicted["right"]]) <= EDGE


@pytest.mark.parametrize("goal", ["total time, median", "bytes, median", "syncs, median", "downtime, median"])
@pytest.mark.parametrize("hosts", ["all", "quiet", "loopback", "2026-11-22", "2026-11-26"])
def test_goals_of_held_runs(reached, goal, hosts):
    assert reached.loc[goal, hosts] <= reached.loc[goal, "goal"]


def test_the_goal_that_paced_links_miss(reached):
    # Two paced runs of one configuration differ by up to 12 % in how slow their first pass is.
    name = "total time, 90th percentile"
    assert reached.loc[name, "loopback"] <= reached.loc[name, "goal"] < reached.loc[name, "paced"]
    assert reached.loc[name, "all"] < 0.05


def test_no_run_is_predicted_from_its_group():
    for name in ("A6__link200_unl_r050__deb111__r0", "A1__idle_bw128__unser__r0"):
        run = runs().loc[name]
        others = other_runs(run)
        assert run["group"] not in set(others["group"])
        assert set(others["campaign"]) == {run["campaign"]}
        assert set(calibration_of(run).runs) == set(others.index)
        assert scenario_of(run).costs.label == f"campaign {run['campaign']} without {run['group']}"
    kvm = runs().query("accel == 'kvm'").iloc[0]
    assert kvm["name"] not in set(other_runs(kvm)["name"])
    assert "kvm" in set(other_runs(kvm)["accel"])


def test_runs_without_a_model_are_refused():
    run = runs().loc["M__mf2_bw128_r000__v82__r0"].copy()
    run["caps"] = ["compress"]
    with pytest.raises(ScenarioError, match="needs compress, which has no model"):
        scenario_of(run)


def test_profiles(predicted):
    table = by_profile(predicted)
    assert table["runs"].sum() == 724
    assert table.loc[("9.0", ""), "runs"] == 0
    assert (table.loc["8.2"]["right"] == table.loc["8.2"]["runs"]).all()


def test_only_unpaced_runs_are_told_their_own_first_pass():
    for name, told in (("B1__unl_dev1_init16__unser__r0", True), ("A2__bw128_rand_r050__unser__r0", False),
                       ("B2__link200_dev1_init8__unser__r0", False)):  # fmt: skip
        run = runs().loc[name]
        slower = run.copy()
        slower["link_first_pass_bytes_per_s"] /= 2
        costs = calibration_of(run)
        assert (link_of(slower, costs) != link_of(run, costs)) == told
        assert link_of(slower, costs).bandwidth == link_of(run, costs).bandwidth


def test_every_miss_has_a_cause(predicted):
    found = misses(predicted)
    assert set(found.index[found["cause"] == "not found"]) <= UNEXPLAINED


def test_initial_data_of_devices(predicted):
    devices = device_times()
    assert len(devices) == 326
    assert (devices["predicted_ms"].isna() != devices["measured_ms"].isna()).sum() <= 6
    held = predicted["held"][devices["run"]].to_numpy()
    assert devices["error_ms"][held].abs().median() < 5.0
    assert devices["error_ms"].abs().median() < 10.0  # loopback without a limit carries what it likes


@pytest.mark.parametrize("run", [name for name in COMPARED_RUNS if not name.startswith("B3")])
def test_iterations_agree(run):
    found = agreement(compare_iterations(run))
    for name in ("synced_alike", "called_alike", "returned_alike"):
        assert found[name] >= 0.95
    assert found["pages_median_difference"] <= 64
    assert found["device_bytes_predicted"] == found["device_bytes_measured"]


def test_iterations_of_a_run_that_the_slower_first_pass_decides():
    # The clock ends a slice before the budget does, and the device is called, only while the link is below its pace.
    found = agreement(compare_iterations("B3__link200_bw110_dev1_init8__unser__r0"))
    assert abs(found["iterations_predicted"] - found["iterations_measured"]) <= 2
    assert found["device_bytes_predicted"] == found["device_bytes_measured"] == 8 * 2**20
    assert found["called_alike"] >= 0.9


def test_report(predicted, tmp_path):
    text = summary(predicted)
    assert "| total time, median" in text
    name = "B2__link200_dev1_init8__unser__r0"
    one = run_text(predicted.loc[name], device_times())
    assert "predicted" in one
    assert "device 0 initial_ms" in one
    write(predicted, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "configurations.csv", "configurations.parquet", "devices.csv", "devices.parquet", "runs.csv", "runs.parquet",
        "validation.md",
    }  # fmt: skip


def test_figure(predicted):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from migkit.figures.validation import validation

    ax = Figure().subplots()
    assert validation(by_configuration(predicted), ax) is ax
    assert "(s)" in ax.get_xlabel()
    assert len(ax.collections) == 2


def test_command(tmp_path):
    from typer.testing import CliRunner

    from migkit.cli import app

    done = CliRunner().invoke(app, ["validate", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "validation.pdf").is_file()
    done = CliRunner().invoke(app, ["validate", "--run", "B2__link"])
    assert done.exit_code == 2
    assert "not a measured run" in done.output


def test_what_is_kept_is_what_is_computed(tmp_path):
    few = Path(__file__).parent / "data" / "dirty-limit"
    made = predictions(few)
    for _ in range(2):  # written, then read
        pd.testing.assert_frame_equal(predictions(few, kept=tmp_path), made, check_exact=True)
    assert len(list(tmp_path.iterdir())) == 1
    assert not predictions(few, engine="bitmap", kept=tmp_path).equals(made)
