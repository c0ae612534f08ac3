"""The study: its experiments, the derived verdicts, and that the two are held against each other."""

import numpy as np
import pytest

from migkit import study


@pytest.fixture(scope="module")
def datasets():
    return {name: study.run(experiment) for name, experiment in study.experiments(12).items()}


def test_category_says_who_converges():
    serialized = np.array([True, False, True, False])
    unserialized = np.array([True, True, False, False])
    assert study.category(serialized, unserialized).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("hot_set", "expected"),
    [(30e6, study.BOTH), (100e6, study.ONLY_UNSERIALIZED), (300e6, study.ONLY_UNSERIALIZED), (600e6, study.NEITHER)],
)
def test_band_of_the_reference(hot_set, expected):
    """1.25 GB/s, 300 ms: between a slice of 64 MB and a threshold of 375 MB a serialized walk starves the device."""
    assert study.derived_verdict(100e9, hot_set, 1.25e9, np.inf, 1) == expected


def test_unserialized_starves_above_1_96_times_max_bandwidth():
    limit = 128 * 2**20
    below, above = (study.derived_verdict(40e9, 32 * 2**20, ratio * limit, limit, 1) for ratio in (1.9, 2.05))
    assert (below, above) == (study.ONLY_UNSERIALIZED, study.NEITHER)


def test_thread_is_the_link_above_its_own_speed():
    assert study.effective_link(1e9) == pytest.approx(1e9 * 4096 / 4104)
    assert study.effective_link(50e9) == pytest.approx(4096 / 2.1e-6)


def test_simulation_and_derivation_agree_but_at_the_edges(datasets):
    found = study.findings(datasets)
    assert found.agree.min() > 0.96
    assert study.edge_distance(datasets) < 1.0, "no point may differ more than a step of this coarse grid from an edge"


def test_every_point_has_one_category(datasets):
    found = study.findings(datasets)
    assert (found[list(study.CATEGORIES)].sum(axis=1) == found.points).all()
    assert datasets["convergence"].sizes["count"] == 9


def test_without_a_device_policies_agree(datasets):
    plane = datasets["convergence"]["category"].sel(count=0)
    assert set(np.unique(plane)) <= {study.BOTH, study.NEITHER}


def test_only_a_device_behind_ram_starves(datasets):
    ended = study.outcomes(datasets).set_index(["experiment", "policy"])
    assert ended.loc[("convergence", "unserialized"), "initial_data_starved"] == 0
    assert ended.loc[("convergence", "serialized"), "initial_data_starved"] > 0
    assert ended.loc[("starvation", "unserialized"), "initial_data_starved"] > 0


def test_stored_result_reads_back(datasets, tmp_path):
    experiment = study.experiments(12)["band"]
    study.store(datasets["band"], tmp_path)
    again = study.load(experiment, tmp_path)
    assert again["category"].equals(datasets["band"]["category"])
    assert study.load(study.experiments(12)["starvation"], tmp_path) is None


def test_report_says_what_was_found_and_what_was_derived(datasets):
    text = study.report(datasets)
    assert "L > 1.96 M" in text
    assert "convergence, 8 devices" in text
