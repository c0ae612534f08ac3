"""The study: its experiments, the derived verdicts, and that the two are held against each other."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from migkit.analysis import closed_form as derivation
from migkit.cli import app
from migkit.run.design import Sweep
from migkit.run.grid import Layout
from migkit.run.store import Store
from migkit.scenario.errors import ScenarioError
from migkit.study import atlas, findings
from migkit.study import experiments as study

MIB = 2**20
POINT = derivation.Inputs(
    write_rate=100e9, hot_set=320 * MIB, link=1.25e9, max_bandwidth=np.inf, devices=1, stop_copy=0,
    downtime_limit_s=0.3, sync_s=0.0, page_s=2.1e-6, page_size=4096,
)  # fmt: skip


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
def test_band_of_a_10_gbit_link(hot_set, expected):
    """1.25 GB/s, 300 ms: between a slice of 64 MB and a threshold of 375 MB serialized iteration starves the device."""
    assert derivation.derived_verdict(POINT._replace(hot_set=hot_set)) == expected


def test_unserialized_starves_above_1_96_times_max_bandwidth():
    limited = POINT._replace(write_rate=40e9, hot_set=32 * MIB, max_bandwidth=128 * MIB)
    below, above = (derivation.derived_verdict(limited._replace(link=ratio * 128 * MIB)) for ratio in (1.9, 2.05))
    assert (below, above) == (derivation.ONLY_UNSERIALIZED, derivation.NEITHER)


@pytest.mark.parametrize(("page_s", "page_size"), [(2.1e-6, 4096), (9e-6, 65536), (1e-3, 512)])
def test_thread_is_the_link_above_its_own_speed(page_s, page_size):
    own = page_size / page_s
    half = 0.5 * own * page_size / (page_size + 8)
    assert derivation.effective_link(0.5 * own, page_s, page_size) == pytest.approx(half)
    assert derivation.effective_link(50 * own, page_s, page_size) == pytest.approx(own)


CASES = {
    "no limit": {},
    "other pages": {"page_s": 9e-6, "page_size": 65536, "link": 12.5e9, "hot_set": 2048 * MIB},
    "max-bandwidth": {"max_bandwidth": 800e6, "hot_set": 300 * MIB},
    "low max-bandwidth": {"max_bandwidth": 200e6, "hot_set": 50 * MIB},
    "half a second": {"downtime_limit_s": 0.5, "hot_set": 500 * MIB},
    "less than a slice": {"downtime_limit_s": 0.01},
}


@pytest.mark.parametrize("change", CASES.values(), ids=CASES)
@pytest.mark.parametrize("stop_copy", [0, 8 * MIB])
def test_boundaries_are_those_of_the_verdict(change, stop_copy):
    """The verdict changes at the boundaries, whatever guest, link and limits."""
    point = POINT._replace(stop_copy=stop_copy, **change)
    alone = point._replace(devices=0)
    rates = np.geomspace(1e6, 1e13, 5001)
    drains, fits = derivation.starving_write_rate(point), derivation.fitting_write_rate(point)
    verdict = derivation.derived_verdict(point._replace(write_rate=rates))
    np.testing.assert_array_equal(verdict == derivation.BOTH, rates <= drains)
    link = derivation.effective_link(point.link, point.page_s, point.page_size)
    limited = 0.051 * link > 0.1 * point.max_bandwidth
    np.testing.assert_array_equal(verdict == derivation.NEITHER, rates > (drains if limited else fits))
    verdict = derivation.derived_verdict(alone._replace(write_rate=rates))
    np.testing.assert_array_equal(verdict == derivation.BOTH, rates <= derivation.fitting_write_rate(alone))


def test_a_window_of_syncs_gives_a_lower_threshold():
    point = POINT._replace(write_rate=400e9, hot_set=370e6, sync_s=2.24e-3)
    assert derivation.derived_verdict(point) == derivation.ONLY_UNSERIALIZED
    assert derivation.derived_verdict(point, window_syncs=True) == derivation.NEITHER


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


class Killed(BaseException):
    """Nothing in migkit catches it, as nothing catches a kill."""


@pytest.mark.parametrize("name", ["category/c/0/0", "bandwidth/zarr.json", "zarr.json", "checksums"])
@pytest.mark.parametrize("harm", ["flip", "remove"])
def test_a_damaged_result_is_told_and_computed_again(datasets, tmp_path, caplog, name, harm):
    experiment = study.experiments(12)["band"]
    path = study.store(datasets["band"], tmp_path) / name
    if path.is_dir():
        path = path / "zarr.json"
    if harm == "remove":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert study.load(experiment, tmp_path) is None
    (said,) = [record.getMessage() for record in caplog.records]
    assert name in said
    assert said.endswith("is not what was written; it is computed again")


def test_a_damaged_frontier_is_computed_again(tmp_path):
    experiment = study.further_experiments(2, 1, 2)["hot_set_band"]
    first = study.result(experiment, tmp_path)
    (tmp_path / "hot_set_band.zarr" / "flips" / "c" / "0").write_bytes(b"")
    assert study.load(experiment, tmp_path) is None
    assert study.result(experiment, tmp_path).equals(first)
    assert study.load(experiment, tmp_path) is not None


def killed_at(monkeypatch, number):
    """The process ends at this call of what moves and removes folders, before or after it; then none happens."""
    calls = []

    def dying(function):
        def called(*arguments, **more):
            calls.append(function)
            if len(calls) >= number:
                raise Killed
            done = function(*arguments, **more)
            calls.append(function)
            if len(calls) >= number:
                raise Killed
            return done

        return called

    monkeypatch.setattr(study.shutil, "rmtree", dying(study.shutil.rmtree))
    monkeypatch.setattr(study.Path, "rename", dying(study.Path.rename))
    return calls


@pytest.mark.parametrize("number", range(1, 14))
def test_a_result_that_is_replaced_is_there_at_every_moment(datasets, tmp_path, number):
    experiment = study.experiments(12)["band"]
    study.store(datasets["band"].assign_attrs(made="first"), tmp_path)
    with pytest.MonkeyPatch.context() as patched:
        calls = killed_at(patched, number)
        try:
            study.store(datasets["band"].assign_attrs(made="second"), tmp_path)
        except Killed:
            assert len(calls) >= number
        else:
            assert number == 13, f"all calls were tried: {len(calls)}"
    left = study.load(experiment, tmp_path)
    assert left.attrs["made"] in ("first", "second")
    assert left["category"].equals(datasets["band"]["category"])
    study.store(datasets["band"].assign_attrs(made="third"), tmp_path)
    assert study.load(experiment, tmp_path).attrs["made"] == "third"
    # a temporary folder that a killed process left may be in use by another one
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["band.zarr"]


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
    """With a hot set above the threshold, too, there are rates at which only unserialized iteration converges."""
    found = findings.wedge(datasets)
    plane = datasets["convergence"]["category"] == derivation.ONLY_UNSERIALIZED
    threshold = 0.3 * derivation.effective_link(plane["bandwidth"], 2.1e-6, 4096)
    assert found == int((plane & (threshold < 320 * MIB)).sum()) > 0
    other = datasets["convergence"].assign_attrs(
        description=study.experiments(2)["convergence"].scenario.replace("migration.downtime_limit", "1 s").to_toml()
    )
    assert findings.wedge({"convergence": other}) < found


def test_the_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # one is enough to see that they are drawn; all are drawn in test_figures.py
    monkeypatch.setattr(atlas, "FIGURES", {"convergence-map": atlas.FIGURES["convergence-map"]})
    monkeypatch.setattr(atlas, "SIMULATED", {})
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


def test_categories_are_added_to_a_sweep_with_variables_of_the_users_own(datasets):
    plain = datasets["band"].drop_vars(["category", "derived", "derived_window_syncs"])
    plain["hours"] = plain["total_time_s"] / 3600
    found = derivation.categories(plain)
    for name in ("category", "derived", "derived_window_syncs"):
        assert found[name].identical(datasets["band"][name])
    assert found["hours"].identical(plain["hours"])
    assert "category" not in plain


def test_a_scenario_without_derived_categories_is_refused_before_it_is_computed(monkeypatch):
    band = study.experiments(3)["band"]
    two = band.scenario.replace("guest.regions", [{"size": "1 MiB"}, {"size": "1 MiB", "start": "1 GiB"}])
    monkeypatch.setattr(study, "_swept", None)
    with pytest.raises(ScenarioError, match="has no derived boundaries"):
        study.run(study.Experiment("mine", "Why?", two, band.axes))
