"""Predictions of the measured runs of real QEMU, and the goals for their errors."""

import shutil
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

from migkit.qemu import runs
from migkit.qemu.iterations import agreement, compare_iterations
from migkit.qemu.predict import link_of, scenario_of
from migkit.qemu.report import COMPARED_RUNS, run_text, summary, write
from migkit.qemu.validation import GOALS, by_configuration, device_times, goals, misses, predictions

DATA = Path(__file__).parents[1] / "data" / "qemu-traces"
EDGE = {
    "B3__lo_bw512_dev1_init8__unser__r0",
    "B9__link200_bw100_dev1_init8__unser__r4",
    "B9__link200_bw104_dev1_init8__unser__r0",
}
"""Runs with another outcome than some of their repeats."""

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
    assert len(predicted) == 342
    assert (
        predicted[["outcome_predicted", "total_ms_predicted", "syncs_predicted", "bytes_predicted"]]
        .notna()
        .all(axis=None)
    )
    assert predicted["held"].sum() == 252


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


@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("hosts", ["all", "quiet", "loopback"])
def test_goals_of_held_runs(reached, goal, hosts):
    assert reached.loc[goal, hosts] <= reached.loc[goal, "goal"]


def test_only_unpaced_runs_are_told_their_own_first_pass():
    for name, told in (("B1__unl_dev1_init16__unser__r0", True), ("A2__bw128_rand_r050__unser__r0", False),
                       ("B2__link200_dev1_init8__unser__r0", False)):  # fmt: skip
        run = runs().loc[name]
        slower = run.copy()
        slower["link_first_pass_bytes_per_s"] /= 2
        assert (link_of(slower) != link_of(run)) == told
        assert (link_of(slower).bandwidth, link_of(slower).fresh_after) == (
            link_of(run).bandwidth, link_of(run).fresh_after,
        )  # fmt: skip


def test_every_miss_has_a_cause(predicted):
    found = misses(predicted)
    assert (found["cause"] != "not found").all(), found.loc[found["cause"] == "not found"].index.tolist()


def test_initial_data_of_devices():
    devices = device_times()
    assert len(devices) == 218
    assert (devices["predicted_ms"].isna() != devices["measured_ms"].isna()).sum() <= 6
    assert devices["error_ms"].abs().median() < 5.0


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
    assert found["iterations_predicted"] == found["iterations_measured"]
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
