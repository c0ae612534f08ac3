"""The study: its experiments, the derived verdicts, and that the two are held against each other."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from migkit.analysis import closed_form as derivation
from migkit.cli import app
from migkit.run.design import Sweep
from migkit.run.layout import Layout
from migkit.run.store import Store
from migkit.scenario.errors import ScenarioError
from migkit.study import experiments as study
from migkit.study import findings

MIB = 2**20


@pytest.fixture(scope="module")
def datasets():
    return {name: study.run(experiment) for name, experiment in study.experiments(12).items()}


def test_category_says_who_converges():
    serialized = np.array([True, False, True, False])
    unserialized = np.array([True, True, False, False])
    assert derivation.category(serialized, unserialized).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("hot_set", "expected"),
    [
        (30e6, derivation.BOTH),
        (100e6, derivation.ONLY_UNSERIALIZED),
        (300e6, derivation.ONLY_UNSERIALIZED),
        (600e6, derivation.NEITHER),
    ],
)
def test_band_of_the_reference(hot_set, expected):
    """1.25 GB/s, 300 ms: between a slice of 64 MB and a threshold of 375 MB a serialized walk starves the device."""
    assert derivation.derived_verdict(100e9, hot_set, 1.25e9, np.inf, 1) == expected


def test_unserialized_starves_above_1_96_times_max_bandwidth():
    limit = 128 * 2**20
    below, above = (derivation.derived_verdict(40e9, 32 * 2**20, ratio * limit, limit, 1) for ratio in (1.9, 2.05))
    assert (below, above) == (derivation.ONLY_UNSERIALIZED, derivation.NEITHER)


def test_thread_is_the_link_above_its_own_speed():
    assert derivation.effective_link(1e9) == pytest.approx(1e9 * 4096 / 4104)
    assert derivation.effective_link(50e9) == pytest.approx(4096 / 2.1e-6)


def test_slower_writes_starve_above_the_rate_that_a_slice_drains():
    edge = derivation.starving_write_rate(320 * MIB, 1.25e9)
    slower, faster = (derivation.derived_verdict(edge * f, 320 * MIB, 1.25e9, np.inf, 1) for f in (0.999, 1.001))
    assert (slower, faster) == (derivation.BOTH, derivation.ONLY_UNSERIALIZED)


def test_ram_fits_below_its_rate_and_stop_copy_takes_its_part():
    for stop_copy in (0, 8 * MIB):
        edge = derivation.fitting_write_rate(320 * MIB, 0.5e9, stop_copy=stop_copy)
        rates = np.array([0.999, 1.001]) * edge
        slower, faster = derivation.derived_verdict(rates, 320 * MIB, 0.5e9, np.inf, 1, stop_copy=stop_copy)
        assert (slower, faster) == (derivation.ONLY_UNSERIALIZED, derivation.NEITHER)
    assert derivation.fitting_write_rate(320 * MIB, 1.25e9) == np.inf


def test_a_window_of_syncs_gives_a_lower_threshold():
    point = {"write_rate": 400e9, "hot_set": 370e6, "link": 1.25e9, "max_bandwidth": np.inf, "devices": 1}
    assert derivation.derived_verdict(**point, sync_s=2.24e-3) == derivation.ONLY_UNSERIALIZED
    assert derivation.derived_verdict(**point, sync_s=2.24e-3, window_syncs=True) == derivation.NEITHER


def test_simulation_and_derivation_agree_but_at_the_edges(datasets):
    found = findings.findings(datasets)
    assert found["agree"].min() > 0.98
    assert found["rest from edge"].max() < 1.0, "no point may differ more than a step of this coarse grid from an edge"


def test_every_point_has_one_category(datasets):
    found = findings.findings(datasets)
    assert (found[list(derivation.CATEGORIES)].sum(axis=1) == found.points).all()
    assert datasets["convergence"].sizes["count"] == 9


def test_without_a_device_policies_agree(datasets):
    plane = datasets["convergence"]["category"].sel(count=0)
    assert set(np.unique(plane)) <= {derivation.BOTH, derivation.NEITHER}


def test_only_a_device_behind_ram_starves(datasets):
    ended = findings.outcomes(datasets).set_index(["experiment", "policy"])
    assert ended.loc[("convergence", "unserialized"), "initial_data_starved"] == 0
    assert ended.loc[("convergence", "serialized"), "initial_data_starved"] > 0
    assert ended.loc[("starvation", "unserialized"), "initial_data_starved"] > 0


def test_stored_result_reads_back(datasets, tmp_path):
    experiment = study.experiments(12)["band"]
    study.store(datasets["band"], tmp_path)
    again = study.load(experiment, tmp_path)
    assert again["category"].equals(datasets["band"]["category"])
    assert study.load(study.experiments(12)["starvation"], tmp_path) is None
    assert study.load(study.experiments(13)["band"], tmp_path) is None, "other axes"


def test_result_is_computed_once(tmp_path, monkeypatch):
    experiment = study.experiments(4)["band"]
    first = study.result(experiment, tmp_path)
    monkeypatch.setattr(study, "run", None)
    again = study.result(experiment, tmp_path)
    assert again["category"].equals(first["category"])
    assert [path.name for path in tmp_path.iterdir()] == ["band.zarr"], "what was kept on the way is gone"


def test_interrupted_sweep_goes_on(tmp_path):
    """What an interrupted run left is used; the result is that of a run in memory."""
    experiment = study.experiments(4)["band"]
    begun = Sweep(scenario=experiment.scenario, axes=experiment.axes)
    left = Store.at(tmp_path / "band.sweep.zarr", Layout(begun), batch_rows=7)
    batch = left.missing()[0]
    rows = np.array(np.unravel_index(np.arange(32).reshape(2, 4, 4)[left.batches.region(batch)].ravel(), (2, 4, 4)))
    left.write(batch, left.layout.run(rows))
    before = len(left.missing())
    found = study.run(experiment, folder=tmp_path)
    (session,) = json.loads(found.attrs["sessions"])
    assert (session["batches_missing"], session["batches"]) == (before, before)
    alone = study.run(experiment)
    for name in alone.data_vars:
        np.testing.assert_array_equal(found[name].values, alone[name].values, err_msg=name)


def test_a_sweep_that_another_process_is_filling_is_not_thrown_away(tmp_path):
    experiment = study.experiments(3)["band"]
    store = Store.at(tmp_path / "band.sweep.zarr", Layout(Sweep(scenario=experiment.scenario, axes=experiment.axes)))
    with store.session("one"), pytest.raises(ScenarioError, match="is being filled by another process"):
        study.run(experiment, folder=tmp_path)
    assert store.missing()
    assert store.path.is_dir()


def test_sweep_that_was_begun_with_other_axes_begins_anew(tmp_path):
    study.run(study.experiments(3)["band"], folder=tmp_path)
    found = study.run(study.experiments(4)["band"], folder=tmp_path)
    assert found.sizes["bandwidth"] == 4


@pytest.mark.parametrize("name", ["frontier_bitmap", "edge", "sensitivity"])
def test_further_experiments_store_and_read_back(name, tmp_path):
    experiment = study.further_experiments(points=3, replicates=2, samples=2)[name]
    assert experiment.question.endswith("?")
    first = study.result(experiment, tmp_path)
    again = study.load(experiment, tmp_path)
    for variable in first.data_vars:
        np.testing.assert_array_equal(again[variable].values, first[variable].values, err_msg=variable)
    other = study.further_experiments(points=3, replicates=4, samples=4)[name]
    assert study.load(other, tmp_path) is None


def test_result_of_another_model_is_not_read(tmp_path, monkeypatch):
    experiment = study.experiments(3)["band"]
    study.result(experiment, tmp_path)
    monkeypatch.setattr(study, "MODEL_VERSION", "another")
    assert study.load(experiment, tmp_path) is None


def test_report_says_what_was_found_and_what_was_derived(datasets):
    text = " ".join(findings.report(datasets).split())
    assert "L > 1.96 M" in text
    assert "convergence, 8 devices" in text
    assert f"The two differ in {findings.findings(datasets)['differ'].sum()} of" in text


def test_slow_links_starve_too(datasets):
    """Below the threshold's link the hot set is larger than the threshold, and still a wedge of it starves."""
    assert findings.wedge(datasets) > 0


def test_the_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ran = CliRunner().invoke(app, ["study", "--points", "4", "-o", "here"])
    assert ran.exit_code == 0, ran.output
    assert "agree" in ran.stdout
    assert (tmp_path / "here" / "convergence.zarr").is_dir()
    four = study.experiments(4)
    monkeypatch.setattr(study, "experiments", lambda points=110: four)
    monkeypatch.setattr(study, "further_experiments", dict)
    monkeypatch.setattr(study, "run", None)  # stored: not run again
    drawn = CliRunner().invoke(app, ["figures", "--results", "here", "-o", "there"])
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "there" / "convergence-map.pdf").read_bytes().startswith(b"%PDF")


def test_ctrl_c_leaves_with_one_sentence(tmp_path, monkeypatch):
    def interrupted(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "run", interrupted)
    ran = CliRunner().invoke(app, ["study", "-o", str(tmp_path)])
    assert ran.exit_code == 130
    assert "interrupted" in ran.stderr
    assert "Traceback" not in ran.output


def test_points_out_of_range(tmp_path):
    assert CliRunner().invoke(app, ["study", "--points", "1", "-o", str(tmp_path)]).exit_code == 2
