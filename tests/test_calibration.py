"""Costs of a host, fitted to measured runs."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("pyarrow")

from migkit import HostCosts, ScenarioError
from migkit.qemu import calibrate, runs
from migkit.qemu.calibration import _fitted_first_pass, workloads
from migkit.qemu.costs import MIB, NORMAL_PAGE_WIRE_BYTES, PAGE_BYTES

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
