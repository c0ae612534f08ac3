"""What the figures draw: labels, categories, lines; and that two runs write the same bytes."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from migkit import derivation, study
from migkit.figures import atlas, planes, style
from migkit.figures.save import data_hash, save_figure
from migkit.figures.timeline import given_over_time, pending_over_time


@pytest.fixture(scope="module")
def datasets():
    return {name: study.run(experiment) for name, experiment in study.experiments(10).items()}


def test_map_has_a_panel_for_each_count_with_units(datasets):
    with style.style():
        figure = atlas.convergence_map(datasets["convergence"], counts=(0, 8))
    axes = figure.axes
    assert [ax.get_title() for ax in axes] == ["0 VFIO devices", "8 VFIO devices"]
    assert axes[0].get_xlabel() == "link (Gbit/s)"
    assert axes[0].get_ylabel() == "dirty rate (MB/s)"
    drawn = axes[1].collections[0].get_array()
    wanted = datasets["convergence"]["category"].sel(count=8).transpose("write_rate", "bandwidth").values
    np.testing.assert_array_equal(np.asarray(drawn).reshape(wanted.shape), wanted)


def test_map_draws_the_derived_edges(datasets):
    with style.style():
        figure = atlas.convergence_map(datasets["convergence"], counts=(0, 8))
    none, eight = figure.axes
    assert len(none.lines) == 1, "without a device only RAM has to fit"
    fits, drains = eight.lines
    sync_s = 16 * 0.14e-3
    xs, ys = drains.get_data()
    np.testing.assert_allclose(ys, derivation.starving_write_rate(320 * 2**20, xs, sync_s))
    xs, ys = fits.get_data()
    wanted = derivation.fitting_write_rate(320 * 2**20, xs, sync_s, 8 * 2**20)
    inside = ys < eight.get_ylim()[1]
    np.testing.assert_allclose(ys[inside], wanted[inside])
    assert (wanted[~inside] >= eight.get_ylim()[1]).all()


def test_plane_draws_the_ratio_and_the_default(datasets):
    with style.style():
        figure = atlas.starvation_plane(datasets["starvation"])
    ratio, default = figure.axes[0].lines
    np.testing.assert_allclose(ratio.get_xdata() / ratio.get_ydata(), derivation.STARVES_ABOVE)
    assert set(default.get_ydata()) == {128 * 2**20}
    assert [words.get_text() for words in figure.axes[0].texts] == ["device starved", "RAM does not fit"]


def test_band_draws_slice_and_threshold(datasets):
    with style.style():
        figure = atlas.starvation_band(datasets["band"])
    edge, threshold = figure.axes[0].lines
    np.testing.assert_allclose(threshold.get_ydata() / edge.get_ydata(), 0.3 / derivation.SLICE_S)


def test_categories_differ_in_grey_too():
    from matplotlib.colors import to_rgb

    grey = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in map(to_rgb, style.CATEGORY_COLOURS)]
    signs = list(zip(np.round(grey, 1), style.CATEGORY_HATCHES, strict=True))
    assert len(set(signs)) == len(signs)
    assert len(planes.CATEGORIES) == len(signs)


def test_legend_names_only_what_occurs():
    with style.style():
        figure = Figure()
        legend = planes.category_legend(figure, {0, 3})
    assert [text.get_text() for text in legend.get_texts()] == ["both converge", "neither converges"]
    assert all(isinstance(handle, Patch) for handle in legend.legend_handles)


def test_timeline_shows_pending_threshold_and_shares():
    from migkit.simulate import simulate

    scenario = study.experiments(2)["convergence"].scenario.replace("guest.ram", "2 GiB")
    timeline = simulate(scenario).timeline
    figure = Figure()
    upper, lower = figure.subplots(2)
    pending_over_time(timeline, upper)
    given_over_time(timeline, lower)
    assert [line.get_label() for line in upper.lines] == ["pending", "threshold", "sync"]
    assert [line.get_label() for line in lower.lines] == ["ram", "vfio0"]
    assert lower.lines[1].get_ydata()[-1] == pytest.approx(16, rel=0.01)
    assert lower.get_xlabel() == "time (s)"


def test_two_runs_write_the_same_bytes(datasets, tmp_path):
    for folder in ("one", "two"):
        atlas.write_all(datasets, tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 4 * 5  # three files and a sidecar each
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name


def test_sidecar_says_what_it_was_made_from(datasets, tmp_path):
    with style.style():
        save_figure(Figure(), tmp_path / "empty", {"data_sha256": data_hash(datasets["band"][["category"]])})
    notes = json.loads((tmp_path / "empty.json").read_text())
    assert len(notes["data_sha256"]) == 64
    assert {path.suffix for path in tmp_path.iterdir()} == {".pdf", ".svg", ".png", ".json"}


def test_style_leaves_matplotlib_as_it_was():
    import matplotlib as mpl

    before = mpl.rcParams["font.size"]
    with style.style():
        assert mpl.rcParams["pdf.fonttype"] == 42
    assert mpl.rcParams["font.size"] == before
