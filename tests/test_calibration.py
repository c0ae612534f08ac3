"""Costs of a host, fitted to measured runs."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("pyarrow")

from migkit import Guest, HostCosts, Link, Migration, Region, Scenario, ScenarioError, simulate
from migkit.qemu import calibrate, costs, runs
from migkit.qemu.calibration import _fitted_first_pass, workloads
from migkit.qemu.costs import MIB, NORMAL_PAGE_WIRE_BYTES, PAGE_BYTES
from migkit.qemu.predict import other_runs
from migkit.qemu.validation import predictions

DATA = Path(__file__).parents[1] / "data" / "qemu-traces"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the measured runs are part of a checkout only")


@pytest.fixture(scope="module")
def second():
    return calibrate(runs().query("campaign == '2026-11-26'"), name="second")


def made_first_pass(link_mib_s, fresh_us, after, runs=6, noise=0.0):
    """Pieces of first passes of 131072 pages that take what the model says."""
    draw = np.random.default_rng(3)
    begin = np.arange(0, 131072, 5120.0)
    pages = np.minimum(5120.0, 131072 - begin)
    late = np.clip(begin + pages - after, 0, pages)
    us = pages * NORMAL_PAGE_WIRE_BYTES / (link_mib_s * MIB) * 1e6 + late * fresh_us
    parts = [
        pd.DataFrame(
            {
                "run": f"r{i}",
                "begin_pages": begin,
                "pages": pages,
                "link_mib_s": link_mib_s,
                "us": us * (1 + noise * draw.standard_normal(len(us))),
            }
        )
        for i in range(runs)
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("link", [60, 150, 400])
def test_the_first_pass_is_found_again_on_any_link(link):
    (page, after), _ = _fitted_first_pass(made_first_pass(link, 5.0, 90_000), 131072.0, 1.0)
    assert page == pytest.approx(5e-6, rel=1e-3)
    assert after == pytest.approx(90_000 * PAGE_BYTES, rel=1e-3)


def test_the_first_pass_of_several_links_at_once():
    steps = pd.concat([made_first_pass(link, 5.0, 90_000, noise=0.02).assign(run=lambda t, k=link: t["run"] + str(k))
                       for link in (60, 200, 400)])  # fmt: skip
    (page, after), errors = _fitted_first_pass(steps, 131072.0, 1.0)
    assert abs(page - 5e-6) < 4 * errors[0]
    assert abs(after - 90_000 * PAGE_BYTES) < 4 * errors[1] + 64 * PAGE_BYTES
    assert 0 < errors[0] < 1e-6


def test_values_and_errors(second):
    table = second.parameters
    fitted = table[table["runs"] > 1]
    assert (fitted["standard_error"] > 0).all()
    assert second.costs.page == pytest.approx(table.loc["page", "value"], rel=1e-3)
    assert 2e-6 < second.costs.page < 4e-6
    assert 3e-6 < second.costs.fresh_page < 8e-6
    assert second.costs.label == "second"


def test_what_no_run_shows_keeps_its_default_and_is_named(second):
    assert second.assumed == ("bitmap_sync", "zero_page")
    assert second.costs.zero_page == HostCosts().zero_page
    assert "zero_page is assumed: no run has enough zero pages." in second.summary()
    idle = calibrate(runs().query("group == 'A1' and campaign == '2026-11-26'"))
    assert {"destination_load", "zero_page"} <= set(idle.assumed)
    assert idle.costs.destination_load == HostCosts().destination_load


def test_toml_is_read_as_the_same_costs(second, tmp_path):
    file = tmp_path / "host.toml"
    file.write_text(second.to_toml())
    assert HostCosts.from_toml(file) == second.costs
    assert "# assumed: no run has enough zero pages" in second.to_toml()


@pytest.mark.parametrize(("late_ms", "loss"), [(0.0, 0.0), (0.8, 0.0), (2.5, 0.0), (0.3, 0.06), (1.0, 0.3)])
def test_what_a_throttle_costs_is_found_again(late_ms, loss, monkeypatch):
    """Syncs of a simulated guest under auto-converge, page by page, tell what it was simulated with."""
    guest = Guest(ram="512 MiB", accel="tcg", regions=[Region(size="256 MiB", write_rate="280 MB/s")])
    busy = Scenario(
        guest=guest, link=Link(bandwidth="1 GB/s"), qemu="10.0", time_limit="60 s",
        migration=Migration(max_bandwidth="128 MiB/s", auto_converge=True, downtime_limit="100 ms"),
        costs=HostCosts(throttle_late=f"{late_ms} ms", throttle_loss=loss),
    )  # fmt: skip
    timeline = simulate(busy, "bitmap").timeline
    synced = timeline[timeline["synced"] & timeline["exact_bytes"].notna()]
    assert timeline["throttle_percent"].max() >= 40
    tables = {
        "syncs": pd.DataFrame({
            "run": "a", "t_ms": np.r_[0.0, synced["time_s"] * 1e3],
            "estimate_before": np.r_[np.nan, synced["estimate_bytes"]],
            "exact_after": np.r_[np.nan, synced["exact_bytes"]],
        }),
        "samples": pd.DataFrame({
            "run": "a", "t_ms": timeline["time_s"] * 1e3 + 1.0,  # a sync sets the throttle, and is polled behind it
            "throttle_pct": timeline["throttle_percent"],
        }),
    }  # fmt: skip
    monkeypatch.setattr(costs, "table", lambda name, path: tables[name])
    known = {
        "accel": "tcg",
        "caps": ("auto-converge",),
        "writes_max": True,
        "mode": "rand",
        "ws_pages": 65536,
        "pre_writes_s": 280e6 / 4096,
    }
    runs_of_it = pd.DataFrame([known], index=pd.Index(["a"], name="run"))
    late, lost = costs._throttle(SimpleNamespace(runs=runs_of_it, path=None))
    assert (late[:3], lost[:3]) == (
        ("throttled pause, late", "tcg", "ms"), ("throttled pause, lost behind it", "tcg", "1"),
    )  # fmt: skip
    assert late[3]["a"] == pytest.approx(late_ms, abs=0.15)  # a percent of its speed is 0.1 ms
    assert lost[3]["a"] == pytest.approx(loss, abs=0.02)


def test_a_throttled_run_is_predicted_with_the_pauses_of_others():
    measured = runs().query("group == 'D' and name == 'bw128_cpubound_ac'")
    one = measured.iloc[0]
    assert one.name not in other_runs(one).index
    assert set(measured.index[1:]) & set(other_runs(one).index)
    off = predictions().loc[measured.index, "total_error"]
    assert off.abs().median() < 0.08  # 0.16 with pauses that end in time
    assert abs(off.median()) < 0.06


def test_one_run_has_no_errors():
    one = calibrate(runs().loc[["A6__link200_unl_r000__v82__r0"]])
    assert one.parameters.loc["fresh_page", "runs"] == 1
    assert one.parameters["standard_error"].isna().all()
    assert "+- unknown" in one.summary()


def test_costs_of_what_is_alike():
    first = runs().query("campaign == '2026-11-22'")
    kvm, tcg = (calibrate(first, like={"accel": accel}).costs for accel in ("kvm", "tcg"))
    assert kvm.bitmap_sync_per_gib > 10 * tcg.bitmap_sync_per_gib


def test_nothing_to_fit():
    with pytest.raises(ScenarioError, match="runs is empty"):
        calibrate(runs().iloc[:0])
    with pytest.raises(ScenarioError, match="runs hold nothing that is traced"):
        calibrate(runs().query("group == 'M'"))


def test_what_a_version_does_not_trace_is_named():
    """QEMU 7.2 completes migrations and has no checkpoints of the downtime."""
    old = runs().query("build == 'deb72'")
    assert (old["outcome"] == "completed").any()
    said = calibrate(old).summary()
    missing = "has a trace of its downtime, whose checkpoints QEMU has from 8.2 on."
    assert f"vm_stop is assumed: no completed run {missing}" in said
    assert f"device_state is assumed: no completed run {missing}" in said
    assert f"destination_load is assumed: no completed run with a return path {missing}" in said


def test_runs_without_a_trace_are_to_be_recorded_with_one():
    with pytest.raises(
        ScenarioError, match=r"runs have no trace of the loop, .*: record them with migkit record --trace"
    ):
        calibrate(runs().query("not traced"))


def test_workloads_say_where_a_sequential_writer_stands():
    table = workloads(runs().query("mode == 'seq' and not writes_max"))
    assert table["phase"].between(0, 1).all()
    assert table["phase"].nunique() > 3
    assert workloads(runs().query("mode == 'rand'"))["phase"].isna().all()


def test_command(tmp_path):
    from typer.testing import CliRunner

    from migkit.cli import app

    out = tmp_path / "host.toml"
    done = CliRunner().invoke(app, ["calibrate", str(DATA), "--campaign", "2026-11-26", "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "zero_page is assumed" in done.output
    assert "the outcome is right in" in done.output
    assert HostCosts.from_toml(out).label == "host.toml"
    done = CliRunner().invoke(app, ["calibrate", str(DATA)])
    assert done.exit_code == 2
    assert "--campaign is missing" in done.output
    done = CliRunner().invoke(app, ["calibrate", str(tmp_path)])
    assert done.exit_code == 2
    assert "does not hold the measured migrations" in done.output


def test_runs_recorded_meanwhile_count(tmp_path):
    """What is remembered of a folder holds only as long as nothing is added to it."""
    first, second = sorted((Path(__file__).parent / "data" / "matrix").glob("V1__*uniform_16384*__deb100__r*"))[:2]
    for number, file in enumerate((first, second), 1):
        shutil.copy(file, tmp_path)
        found = calibrate(runs(tmp_path), tmp_path)
        assert found.parameters.loc["bitmap_sync_per_gib", "runs"] == number
        assert costs.observations(tmp_path)["run"].nunique() == number
