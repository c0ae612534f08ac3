"""What the figures draw: labels, categories, lines; and that two runs write the same bytes."""

import errno
import itertools
import json
import os

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import migkit
from migkit.analysis import closed_form as derivation
from migkit.figures import frontier, planes, probability, quantities, sensitivity, style
from migkit.figures.save import data_hash, save_figure
from migkit.figures.timeline import given_over_time, pending_over_time, shares, shares_over_time
from migkit.study import atlas
from migkit.study import experiments as study


@pytest.fixture(scope="module")
def datasets():
    small = study.experiments(10) | study.further_experiments(points=9, replicates=16, samples=16)
    return {name: study.run(experiment) for name, experiment in small.items()}


@pytest.fixture(scope="module")
def measured():
    rows = {"held": [True, False, True], "total_ms_measured": [2e3, 9e2, np.nan], "total_ms_predicted": [2.1e3, 8e2, 5]}
    return pd.DataFrame(rows)


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
    inputs = derivation.Inputs.of(study.experiments(2)["convergence"].scenario)
    assert inputs.sync_s == pytest.approx(36e-6 + 16 * 0.047e-3)
    xs, ys = drains.get_data()
    np.testing.assert_allclose(ys, derivation.starving_write_rate(inputs._replace(link=xs)))
    xs, ys = fits.get_data()
    wanted = derivation.fitting_write_rate(inputs._replace(link=xs, devices=8))
    inside = ys < eight.get_ylim()[1]
    np.testing.assert_allclose(ys[inside], wanted[inside])
    assert (wanted[~inside] >= eight.get_ylim()[1]).all()


def test_plane_draws_the_ratio_and_the_default(datasets):
    with style.style():
        figure = atlas.starvation_plane(datasets["starvation"])
    ratio, default = figure.axes[0].lines
    xs, ys = ratio.get_data()
    np.testing.assert_allclose(ys, derivation.effective_link(xs, 2.1e-6, 4096) * 0.51)
    assert set(default.get_ydata()) == {128 * 2**20}
    assert [words.get_text() for words in figure.axes[0].texts] == ["device starved", "RAM does not fit"]


def test_band_draws_slice_and_threshold(datasets):
    with style.style():
        figure = atlas.starvation_band(datasets["band"])
    edge, threshold = figure.axes[0].lines
    np.testing.assert_allclose(threshold.get_ydata() / edge.get_ydata(), 0.3 / derivation.SLICE_S)


def another_guest(**changes):
    """A scenario in which everything that the lines depend on differs from the study."""
    scenario = migkit.Scenario(
        guest=migkit.Guest(
            ram="8 GiB", page_size="64 KiB", regions=[migkit.Region(size="1 GiB", start="2 GiB", write_rate="1 GB/s")]
        ),
        devices=[migkit.Vfio(initial_bytes="8 MiB", stop_copy_bytes="4 MiB")],
        link=migkit.Link(bandwidth="10 Gbit/s"),
        migration={"max_bandwidth": 0, "downtime_limit": "500 ms", "switchover_ack": True, "return_path": True},
        costs=migkit.HostCosts(page="20 us", copy_share=0, bitmap_sync="1 ms", bitmap_sync_per_gib="0.5 ms"),
    )
    for path, value in changes.items():
        scenario = scenario.replace(path.replace("__", "."), value)
    return scenario


RATE, POLICIES = "guest.regions.0.write_rate", ["serialized", "unserialized"]
RATES, LINKS = {"geomspace": ["100 MB/s", "40 GB/s", 6]}, {"geomspace": ["2 Gbit/s", "100 Gbit/s", 7]}


def pushed(links):
    """What the migration thread of this guest pushes: a page takes 20 us, or 65544 bytes of the link."""
    return 65536 / np.maximum(65544 / links, 20e-6)


def rate_of(share, hot_set, span_s):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(share < 1, -np.log(1 - share) * hot_set / span_s, np.inf)


def test_map_of_another_guest_has_its_own_lines():
    axes = {
        "devices.0.count": [0, 2, 5],
        "policy": POLICIES,
        RATE: RATES,
        "link.bandwidth": LINKS,
    }
    with style.style():
        figure = atlas.convergence_map(migkit.sweep(another_guest(), axes))
    assert [ax.get_title() for ax in figure.axes] == [f"{count} VFIO devices" for count in (0, 2, 5)]
    hot_set, span_s = 2**30, 0.051 + 1e-3 + 8 * 0.5e-3
    for ax, count in zip(figure.axes, (0, 2, 5), strict=True):
        fits, *drains = ax.lines
        assert len(drains) == (count > 0)
        for line in drains:
            xs, ys = line.get_data()
            wanted = rate_of(0.051 * pushed(xs) / hot_set, hot_set, span_s)
            np.testing.assert_allclose(ys, np.minimum(wanted, 3 * ax.get_ylim()[1]))
        xs, ys = fits.get_data()
        above = np.maximum(hot_set + 0.051 * pushed(xs) + count * 4 * 2**20 - 0.5 * pushed(xs), 1)
        wanted = rate_of(0.051 * pushed(xs) / above, hot_set, span_s)
        np.testing.assert_allclose(ys, np.minimum(wanted, 3 * ax.get_ylim()[1]))
        assert (ys < ax.get_ylim()[1]).any()


def test_map_below_a_max_bandwidth_has_lines_of_that_limit():
    axes = {"devices.0.count": [1], "policy": POLICIES, RATE: RATES, "link.bandwidth": LINKS}
    dataset = migkit.sweep(another_guest(migration__max_bandwidth="50 MB/s"), axes)
    with style.style():
        (ax,) = atlas.convergence_map(dataset).axes
    fits, drains = ax.lines
    for line, share in ((drains, 5e6 / 2**30), (fits, 5e6 / (2**30 + 5e6 + 4 * 2**20 - 25e6))):
        np.testing.assert_allclose(line.get_ydata(), rate_of(np.array(share), 2**30, 0.1))


def test_plane_of_another_guest_has_its_own_ratio():
    limits = {"geomspace": ["32 MiB/s", "4 GiB/s", 6]}
    axes = {"policy": POLICIES, "migration.max_bandwidth": limits, "link.bandwidth": LINKS}
    with style.style():
        (ax,) = atlas.starvation_plane(migkit.sweep(another_guest(), axes)).axes
    ratio, default = ax.lines
    xs, ys = ratio.get_data()
    np.testing.assert_allclose(ys, 0.51 * pushed(xs))
    assert pushed(xs)[-1] == 65536 / 20e-6, "the thread is slower than the fastest link"
    assert set(default.get_ydata()) == {128 * 2**20}


def test_band_of_another_guest_has_its_own_slice_and_threshold():
    sizes = {"geomspace": ["16 MiB", "4 GiB", 6], "multiple": "64 KiB"}
    axes = {"policy": POLICIES, "guest.regions.0.size": sizes, "link.bandwidth": LINKS}
    with style.style():
        figure = atlas.starvation_band(migkit.sweep(another_guest(), axes))
    edge, threshold = figure.axes[0].lines
    np.testing.assert_allclose(edge.get_ydata(), 0.051 * pushed(edge.get_xdata()))
    np.testing.assert_allclose(threshold.get_ydata(), 0.5 * pushed(threshold.get_xdata()))
    assert threshold.get_label() == "threshold: bandwidth x 500 ms"


def test_an_axis_comes_before_the_scenario():
    limits, sizes = ["100 ms", "900 ms"], ["64 MiB", "256 MiB", "1 GiB"]
    axes = {"policy": POLICIES, "guest.regions.0.size": sizes, "link.bandwidth": LINKS}
    dataset = migkit.sweep(another_guest(), {"migration.downtime_limit": limits} | axes)
    for number, seconds in enumerate((0.1, 0.9)):
        with style.style():
            figure = atlas.starvation_band(dataset.isel({dataset["outcome"].dims[0]: number}))
        threshold = figure.axes[0].lines[1]
        np.testing.assert_allclose(threshold.get_ydata(), seconds * pushed(threshold.get_xdata()))


@pytest.mark.parametrize(
    ("scenario", "axes", "words"),
    [
        (another_guest(guest__regions=[]), {"link.bandwidth": LINKS}, "has no derived boundaries"),
        (another_guest(devices=[migkit.Block(size="1 GiB")]), {"link.bandwidth": LINKS}, "has no derived boundaries"),
        (another_guest(), {"policy": ["serialized"], "link.bandwidth": LINKS}, "both policies as an axis"),
        (another_guest(), {"link.bandwidth": LINKS}, "guest.regions.0.size is not an axis of this Dataset"),
        (
            another_guest(),
            {"host": {"link.bandwidth": ["1 Gbit/s", "2 Gbit/s"], "guest.regions.0.size": ["64 MiB", "128 MiB"]}},
            "link.bandwidth is not an axis of this Dataset",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(scenario, axes, words):
    with pytest.raises(migkit.ScenarioError) as refused:
        atlas.starvation_band(migkit.sweep(scenario, {"policy": POLICIES} | axes))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


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
    from migkit.run.simulate import simulate

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


def test_syncs_are_above_the_frame_and_a_threshold_that_vanishes_is_marked():
    timeline = pd.DataFrame({"time_s": [0.0, 1.0, 2.0, 3.0], "pending_bytes": [2.0**30, 2.0**26, 2.0**26, 2.0**26]})
    timeline = timeline.assign(threshold_bytes=[0.0, 2.0**27, 2.0**27, 0.0], synced=[False, True, True, True])
    ax = pending_over_time(timeline, _drawn())
    low, high = (ax.transAxes.transform((0, height))[1] for height in (0, 1))
    assert [line.get_label() for line in ax.lines] == ["pending", "threshold", "sync", "threshold below the frame"]
    pending, _, syncs, below = ax.lines
    assert (syncs.get_transform().transform(syncs.get_xydata())[:, 1] > high).all()
    assert list(below.get_xdata()) == [3.0]
    heights = pending.get_transform().transform(pending.get_xydata())[:, 1]
    assert (heights > low).all()


def test_shares_add_up_and_many_devices_are_summed():
    from migkit.run.simulate import simulate

    scenario = study.experiments(2)["convergence"].scenario.replace("policy", "unserialized")
    few, many = (simulate(scenario.replace("devices.0.count", count)).timeline for count in (3, 5))
    share = shares(few, 20)
    assert list(share) == ["ram", "vfio0", "vfio1", "vfio2"]
    np.testing.assert_allclose(share.sum(axis=1)[share.notna().all(axis=1)], 1.0)
    assert share["vfio1"].iloc[0] > 0
    sent = few[["ram_bytes", "vfio0_bytes", "vfio1_bytes", "vfio2_bytes"]]
    whole = shares(few, 1).iloc[0]
    np.testing.assert_allclose(whole, sent.sum() / sent.sum().sum())
    assert list(shares(many)) == ["ram", "5 other devices"]
    ax = shares_over_time(share, _drawn())
    assert (ax.get_ylabel(), ax.get_ylim()) == ("share of bytes sent (%)", (0.0, 100.0))
    stack = {patch.get_label(): patch.get_data() for patch in ax.patches}
    assert list(stack) == ["vfio2", "vfio1", "vfio0", "ram"]  # RAM on top
    np.testing.assert_allclose(stack["ram"].values[share.notna().all(axis=1)], 100)
    np.testing.assert_allclose(stack["vfio0"].values - stack["vfio0"].baseline, 100 * share["vfio0"].fillna(0))
    assert len({patch.get_hatch() or patch.get_facecolor() for patch in ax.patches}) == 4


def test_shares_say_how_each_case_ended():
    with style.style():
        figure, timelines = atlas.device_shares()
    ends = [ax.get_title().rpartition(":\n")[2] for ax in figure.axes]
    assert ends == ["initial data starved", "completed", "initial data starved", "completed"]
    assert [len(ax.texts) for ax in figure.axes] == [1, 0, 0, 0], "a panel of RAM alone says so"
    assert {ax.get_xlim()[0] for ax in figure.axes} == {0}
    assert [len(timeline) for timeline in timelines] == [304, 268, 404, 463]


def _drawn():
    with style.style():
        return Figure().subplots()


def test_small_multiple_has_a_panel_for_every_count(datasets):
    with style.style():
        figure = atlas.count_map(datasets["convergence"])
    wanted = ["1 VFIO device" if n == 1 else f"{n} VFIO devices" for n in range(9)]
    assert [ax.get_title() for ax in figure.axes] == wanted
    for count, ax in enumerate(figure.axes):
        plane = datasets["convergence"]["category"].sel(count=count).transpose("write_rate", "bandwidth").values
        np.testing.assert_array_equal(np.asarray(ax.collections[0].get_array()).reshape(plane.shape), plane)
    assert {ax.get_xlabel() for ax in figure.axes[6:]} == {"link (Gbit/s)"}
    assert {ax.get_ylabel() for ax in figure.axes[::3]} == {"dirty rate (MB/s)"}


def test_maps_say_that_they_have_no_interval(datasets):
    with style.style():
        figures = [atlas.convergence_map(datasets["convergence"]), atlas.count_map(datasets["convergence"]),
                   atlas.starvation_plane(datasets["starvation"]), atlas.starvation_band(datasets["band"])]  # fmt: skip
    for figure in figures:
        assert style.NO_INTERVAL in [legend.get_title().get_text() for legend in figure.legends]


def test_figures_are_as_wide_as_the_column_or_the_page_with_all_they_show(datasets, measured):
    with style.style():
        figures = {name: draw(datasets) for name, (_, draw) in atlas.FIGURES.items()}
        figures |= {name: draw()[0] for name, draw in atlas.SIMULATED.items()}
        figures["validation"] = atlas.validation_figure(measured)
        for name, figure in figures.items():
            assert figure.get_figwidth() in (style.COLUMN_IN, style.PAGE_IN)
            figure.draw_without_rendering()
            shown = figure.get_tightbbox()
            assert shown.x0 > -0.01, name
            assert shown.x1 < figure.get_figwidth() + 0.01, name
            assert shown.y0 > -0.01, name
            assert shown.y1 < figure.get_figheight() + 0.01, name


def test_critical_values_are_drawn_with_units(datasets):
    one = datasets["frontier"].sel(count=1, policy="serialized")
    ax = frontier.critical_values(one, _drawn(), "bandwidth", "serialized")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("link (Gbit/s)", "critical dirty rate (MB/s)")
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), one["critical"].isel(flip=0))
    assert ax.lines[0].get_label() == "serialized (expected engine, no interval)"
    assert ax.lines[0].get_marker() == "o"
    assert not ax.collections, "nothing to shade"


def test_interval_of_the_bitmap_engine_is_shaded(datasets):
    bitmap = datasets["frontier_bitmap"].isel(flip=[0])
    ax = frontier.critical_values(bitmap, _drawn(), "bandwidth", "bitmap")
    assert ax.lines[0].get_label() == "bitmap"
    (shade,) = ax.collections
    reach = shade.get_paths()[0].get_extents()
    assert reach.y0 == pytest.approx(bitmap["single_low"].min().item())
    assert reach.y1 == pytest.approx(bitmap["single_high"].max().item())


def test_band_shades_between_both_flips(datasets):
    band = datasets["hot_set_band"]
    assert (band["flips"] == 2).all()
    ax = frontier.critical_band(band, _drawn(), "bandwidth", "starves")
    (shade,) = ax.collections
    assert shade.get_hatch() == "////"
    assert shade.get_label() == "starves (expected engine, no interval)"
    low, high = (line.get_ydata() for line in ax.lines)
    assert (low < high).all()
    np.testing.assert_array_equal(low, band["critical"].isel(flip=0))
    reach = shade.get_paths()[0].get_extents()
    np.testing.assert_allclose([reach.y0, reach.y1], [low.min(), high.max()])
    assert ax.get_ylabel() == "hot set (MiB)"
    apart = frontier.critical_band(band, _drawn(), "bandwidth", "starves", joined=False)
    assert {line.get_linestyle() for line in apart.lines} == {"None"}
    np.testing.assert_array_equal(apart.lines[0].get_ydata(), low)


def test_where_a_frontier_ends_it_says_none_beyond():
    critical = [[[1.0], [2.0], [np.nan]], [[1.0], [5.0], [np.nan]], [[1.0], [1.0], [1.0]]]
    found = xr.Dataset({"critical": (("policy", "link", "flip"), critical)}, {"link": [1.0, 2.0, 3.0]})
    (text,) = frontier.none_beyond(found, _drawn(), "link").texts
    assert (text.get_text(), text.xy) == ("none\nbeyond", (2.0, 5.0))
    assert not frontier.none_beyond(found.isel(policy=[2]), _drawn(), "link").texts


def test_deviation_has_both_intervals_in_percent(datasets):
    bitmap, expected = datasets["frontier_bitmap"], datasets["frontier_expected"]
    ax = frontier.critical_deviation(bitmap, expected, _drawn(), "bandwidth")
    labels = ax.get_legend_handles_labels()[1]
    assert labels == ["middle 95 % of single migrations", style.NO_INTERVAL, "bitmap: median, 95 % interval"]
    points = ax.containers[0].lines[0].get_ydata()
    ratio = bitmap["critical"].isel(flip=0) / expected["critical"].isel(flip=0)
    np.testing.assert_allclose(points, 100 * (ratio - 1))
    assert (abs(points) < 5).all()
    bars = np.array(ax.containers[0].lines[2][0].get_segments())
    base = expected["critical"].isel(flip=0)
    ends = [100 * (bitmap[name].isel(flip=0) / base - 1) for name in ("median_low", "median_high")]
    np.testing.assert_allclose(bars[:, :, 1].T, ends)
    assert "(%)" in ax.get_ylabel()


def test_frontier_figure_names_its_lines(datasets):
    with style.style():
        figure = atlas.frontier_figure(datasets)
    rates = figure.axes[0]
    assert [text.get_text() for text in rates.get_legend().get_texts()] == [
        "either, no device", "serialized, 1 device", "unserialized, 8 devices"
    ]  # fmt: skip
    looks = {(line.get_linestyle(), line.get_marker()) for line in rates.lines if line.get_label()[0] != "_"}
    assert len(looks) == 3, "distinct without colour"
    assert [text.get_text() for text in rates.texts] == ["none\nbeyond"]
    low, high = rates.get_xlim()
    links = datasets["frontier"]["bandwidth"]
    assert low < links.min() < links.max() < high, "no marker is cut"


def test_lines_that_coincide_are_told_apart():
    looks = [style.line_look(number) for number in range(5)]
    assert sorted((look["linewidth"] for look in looks), reverse=True) == [look["linewidth"] for look in looks]
    assert [look["markerfacecolor"] == "none" for look in looks] == [False, True, True, True, True]
    assert all(first["markersize"] < second["markersize"] for first, second in itertools.pairwise(looks))


def test_probability_has_wilson_bars(datasets):
    from migkit.analysis.uncertainty import convergence

    sure = convergence(datasets["edge"]).sel(policy="serialized")
    ax = probability.convergence_probability(sure, _drawn(), "write_rate", "serialized")
    line, _, (bars,) = ax.containers[0].lines
    np.testing.assert_allclose(line.get_xdata(), sure["write_rate"] / 1e6)
    np.testing.assert_array_equal(line.get_ydata(), sure["probability"])
    ends = np.array(bars.get_segments())[:, :, 1]
    np.testing.assert_allclose(ends, np.array([sure["probability_low"], sure["probability_high"]]).T, atol=1e-12)
    assert ax.get_xlabel() == "dirty rate (MB/s)"
    assert ax.get_ylabel() == "migrations that complete,\n16 replicates, Wilson 95 %"


def test_edge_is_crossed_by_the_serialized_walk_only(datasets):
    with style.style():
        ax = atlas.probability_figure(datasets["edge"]).axes[0]
    serialized, unserialized = (container.lines[0] for container in ax.containers)
    assert serialized.get_ydata()[0] == 1
    assert serialized.get_ydata()[-1] == 0
    assert set(unserialized.get_ydata()) == {1.0}
    assert serialized.get_marker() != unserialized.get_marker()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["serialized", "unserialized"]


def test_sensitivity_bars_have_hatches_values_and_intervals(datasets):
    indices = datasets["sensitivity"].sel(policy="serialized", output="convergence")
    ax = sensitivity.sensitivity_bars(indices, _drawn())
    first, total = (container for container in ax.containers if hasattr(container, "patches"))
    np.testing.assert_allclose([bar.get_width() for bar in first], indices["first"])
    np.testing.assert_allclose([bar.get_width() for bar in total], indices["total"])
    assert {bar.get_hatch() for bar in total} == {"////"}
    assert not any(bar.get_hatch() for bar in first)
    ends = np.array(total.errorbar.lines[2][0].get_segments())[:, :, 0]
    half = indices["total_conf"].values
    np.testing.assert_allclose(ends, np.array([indices["total"] - half, indices["total"] + half]).T)
    names = ["dirty rate", "hot set", "link", "max-bandwidth", "downtime-limit", "initial data", "stop-copy",
             "VFIO devices"]  # fmt: skip
    assert [label.get_text() for label in ax.get_yticklabels()] == names
    assert ax.get_xlabel() == "share of the variance"


def test_sensitivity_of_what_does_not_vary_says_so():
    nothing = ("parameter", [np.nan, np.nan])
    names = ("first", "first_conf", "total", "total_conf")
    indices = xr.Dataset(dict.fromkeys(names, nothing), {"parameter": ["link.rtt", "costs.setup"]})
    ax = sensitivity.sensitivity_bars(indices, _drawn())
    assert [text.get_text() for text in ax.texts] == ["does not vary"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["rtt", "setup"]


def test_sensitivity_figure_has_a_panel_for_each_policy_and_output(datasets):
    with style.style():
        figure = atlas.sensitivity_figure(datasets["sensitivity"])
    assert [ax.get_title() for ax in figure.axes] == [
        f"{policy}: {output}" for policy in study.POLICIES for output in ("convergence", "total time", "downtime")
    ]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["first-order", "total"]
    assert "95 % interval" in legend.get_title().get_text()


def test_quantities_have_their_units():
    assert quantities.quantity("devices.0.count").axis_label == "VFIO devices"
    assert quantities.quantity("migration.downtime_limit").axis_label == "downtime-limit (ms)"
    assert quantities.quantity("link.rtt", "s").axis_label == "rtt (s)"


@pytest.mark.parametrize(
    ("unit", "low", "high", "texts"),
    [
        ("s", 2e-5, 3e-2, ["100 µs", "1 ms", "10 ms"]),
        ("B", 2e3, 2e6, ["10 kB", "100 kB", "1 MB"]),
        ("1", 2, 40, ["2", "5", "10", "20"]),
    ],
)
def test_other_quantities_have_the_prefix_that_fits(unit, low, high, texts):
    ax = _drawn()
    ax.plot([low, high], [1, 2])
    ax.set_xlim(low, high)
    quantities.quantity_axis("x", ax, quantities.quantity("costs.zero_page", unit))
    assert [label.get_text() for label in ax.get_xticklabels()] == texts
    assert ax.get_xlabel() == "zero-page"


def test_errors_of_predictions_are_a_distribution(measured):
    with style.style():
        ax = atlas.validation_figure(measured).axes[1]
    held, unpaced = ax.lines
    assert [line.get_label() for line in ax.lines] == ["held, median 5 %", "unpaced, median 11 %"]
    assert held.get_xdata()[-1] == pytest.approx(5)
    assert unpaced.get_xdata()[-1] == pytest.approx(100 / 9)
    assert held.get_ydata()[-1] == unpaced.get_ydata()[-1] == 1
    assert held.get_linestyle() != unpaced.get_linestyle(), "distinct without colour"
    assert ax.get_xlabel() == "relative error of the total time (%)"


def test_measured_runs_that_completed_are_drawn(measured):
    with style.style():
        ax = atlas.validation_figure(measured).axes[0]
    assert [len(points.get_offsets()) for points in ax.collections] == [1, 1]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("measured total time (s)", "predicted total time (s)")


def test_two_runs_write_the_same_bytes(datasets, measured, tmp_path):
    for folder in ("one", "two"):
        atlas.write_all(datasets, tmp_path / folder, measured)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 4 * 10
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
    for path in (tmp_path / "one").glob("*.json"):
        notes = json.loads(path.read_text())
        assert set(notes) == {"figure", "data_sha256", "migkit", "engine", "seed"}, path.name
    assert json.loads((tmp_path / "one" / "probability.json").read_text())["engine"] == "bitmap"


def test_figures_without_their_results_are_left_out(datasets, tmp_path):
    written = atlas.write_all({"band": datasets["band"]}, tmp_path)
    assert {path.stem for path in written} == {"starvation-band", *atlas.SIMULATED}


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


def test_a_figure_on_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(_, file, **__):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match="No space left") as told:
        save_figure(Figure(), tmp_path / "map", {})
    assert told.value.filename == str(tmp_path / "map.pdf")
    assert not list(tmp_path.iterdir())
