"""Plots of one's own results, from Datasets that are not the study's: labels, units and lines against the numbers."""

import json

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import LogNorm, to_hex
from matplotlib.contour import QuadContourSet

import migkit
from migkit import Guest, Link, Region, Scenario, ScenarioError, Vfio, plot
from migkit.analysis.closed_form import categories
from migkit.figures.fitting import cells, fitting
from migkit.figures.quantities import Quantity
from migkit.figures.style import COLUMN_IN, PAGE_IN
from migkit.results import Outcome
from migkit.scenario.units import geomspace, linspace

mpl.use("agg")

RATE, LINK, POLICIES = "guest.regions.0.write_rate", "link.bandwidth", ["serialized", "unserialized"]
ACK = {"max_bandwidth": 0, "switchover_ack": True, "return_path": True}
HUGE = Scenario(
    guest=Guest(ram="8 TiB", regions=[Region(size="1 GiB", write_rate="20 GB/s")]),
    devices=[Vfio(initial_bytes="1 GiB")],
    link=Link(bandwidth="100 Gbit/s"),
    migration=ACK,
    costs={"bitmap_sync_per_gib": "1 us"},
    time_limit="5 h",
)
SIXTEEN = Scenario(
    guest=Guest(ram="64 GiB", regions=[Region(size="300 MiB", write_rate="3 GB/s")]),
    devices=[Vfio(initial_bytes="64 MiB", stop_copy_bytes="1 MiB", count=16)],
    link=Link(bandwidth="25 Gbit/s"),
    migration=ACK,
    time_limit="5 min",
)
SMALL = Scenario(
    guest=Guest(ram="256 MiB", regions=[Region(size="64 MiB", write_rate="300 MB/s")]),
    link=Link(bandwidth="1 Gbit/s"),
    migration={"max_bandwidth": 0},
    time_limit="6 s",
)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def huge():
    axes = {
        "policy": POLICIES,
        RATE: geomspace("100 MB/s", "200 GB/s", 8),
        LINK: geomspace("10 Gbit/s", "400 Gbit/s", 6),
    }
    return migkit.sweep(HUGE, axes)


@pytest.fixture(scope="module")
def another():
    """Over axes that the study does not have: words, and a downtime limit."""
    limits = ["50 ms", "100 ms", "200 ms", "500 ms"]
    return migkit.sweep(SIXTEEN, {"qemu": ["8.2", "9.0", "11.1"], "migration.downtime_limit": limits})


@pytest.fixture(scope="module")
def repeated():
    axes = {"time_limit": ["4 s", "6 s"], RATE: linspace("40 MB/s", "200 MB/s", 5), "replicate": range(6)}
    return migkit.sweep(SMALL, axes, "bitmap")


def labels(ax, axis):
    ax.figure.canvas.draw()
    return [text.get_text() for text in getattr(ax, f"get_{axis}ticklabels")() if text.get_text()]


def legend(ax):
    return [text.get_text() for text in (ax.get_legend() or ax.figure.legends[0]).get_texts()]


def mesh(ax):
    return np.asarray(ax.collections[0].get_array())


def test_a_map_of_both_policies_shows_the_categories_and_the_derived_edges(huge):
    ax = plot.map(huge)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("link (Gbit/s)", "dirty rate (GB/s)")
    found = categories(huge)
    drawn = mesh(ax).reshape(16, 12)
    np.testing.assert_array_equal(drawn[::2, ::2], found["category"].values)
    np.testing.assert_array_equal(drawn[1::2, 1::2], found["category"].values)
    contours = [each for each in ax.collections if isinstance(each, QuadContourSet)]
    derived = [each for each in contours if len(each.get_edgecolor()) and to_hex(each.get_edgecolor()[0]) == "#d55e00"]
    occur = len(np.unique(found["derived"]))
    assert len(derived) == (occur if occur > 1 else 0)
    assert ("derived" in legend(ax)) == (occur > 1)
    assert plot.caption(ax).startswith("Policies under which migrations converge, by link and dirty rate; ")


def test_a_map_of_one_policy_shows_how_migrations_end(huge):
    ax = plot.map(huge, x=RATE, y="bandwidth", at={"policy": "serialized"})
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("dirty rate (GB/s)", "link (Gbit/s)")
    outcome = huge["outcome"].sel(policy="serialized").transpose(LINK, RATE).values
    np.testing.assert_array_equal(mesh(ax).reshape(12, 16)[::2, ::2], outcome)
    named = [each.label.replace("_", " ").replace("ram ", "RAM ") for each in Outcome if (outcome == each).any()]
    assert legend(ax) == named
    assert "policy serialized" in plot.caption(ax)


def test_axes_of_words_and_short_ones_have_their_values_as_ticks(another):
    ax = plot.map(another)
    assert labels(ax, "y") == ["8.2", "9.0", "11.1"]
    assert ax.get_xlabel() == "downtime-limit (ms)"
    assert {"50", "100", "200", "500"} >= set(labels(ax, "x"))
    assert ax.get_ylim()[0] == pytest.approx(-0.5, abs=0.01)  # whole cells


def test_cells_end_in_the_middle_between_values():
    plane = xr.DataArray(np.arange(6).reshape(2, 3), {"y": [1.0, 3.0], "x": [1.0, 10.0, 100.0]}, ("y", "x"))
    found = cells(plane, "x", "y")
    np.testing.assert_allclose(found["y"], [0, 2, 2, 4], atol=1e-4)
    np.testing.assert_allclose(found["x"], [10**-0.5, 10**0.5, 10**0.5, 10**1.5, 10**1.5, 10**2.5], rtol=1e-4)
    np.testing.assert_array_equal(found.values[::2, ::2], plane.values)


def test_a_heat_map_has_the_numbers_in_a_unit_that_fits(another):
    ax = plot.heatmap(another, "downtime_s")
    bar = ax.figure.axes[1]
    assert bar.get_ylabel() == "downtime (ms)"
    drawn = np.ma.filled(ax.collections[0].get_array().astype(float), np.nan).reshape(3, 4)
    np.testing.assert_allclose(drawn[::-1], 1e3 * another["downtime_s"].values)
    assert np.isnan(drawn).any()
    assert "hatched is never" in plot.caption(ax)
    assert (legend(ax), ax.patch.get_hatch()) == (["never"], "////")
    assert labels(ax, "x") == ["50", "100", "200", "500"]
    assert labels(ax, "y") == ["8.2", "9.0", "11.1"]


def test_ticks_of_a_heat_map_are_numbers_as_people_write_them(huge):
    values = huge.isel(policy=0).assign_coords({RATE: np.geomspace(1.2345e8, 9.87e10, huge[RATE].size)})
    texts = labels(plot.heatmap(values, "bytes_sent", x=LINK, y=RATE), "y")
    assert {text.strip("0.") for text in texts} == {"1", "2", "5"}, "round, not those of the cells"
    few = labels(plot.heatmap(values.isel({RATE: slice(0, 3)}), "bytes_sent", x=LINK, y=RATE), "y")
    assert few[0] == "123", "cells that all have a label have their own"


def test_a_heat_map_says_what_is_held_and_colours_decades_alike(huge):
    ax = plot.heatmap(huge, "verdict_time_s", at={"policy": "unserialized"})
    assert ax.get_title() == "policy unserialized"
    times = huge["verdict_time_s"]
    for ratio, logarithmic in ((8, False), (200, True)):
        times = times.copy(data=np.resize(np.geomspace(10, 10 * ratio, times.size // 2), times.shape))
        varied = huge.assign(verdict_time_s=times).sel(policy="serialized")
        ax = plot.heatmap(varied, "verdict_time_s")
        assert isinstance(ax.collections[0].norm, LogNorm) == logarithmic
    assert ax.get_title() == "policy serialized"
    bar = [text.get_text() for text in ax.figure.axes[1].get_yticklabels()]
    assert {"20", "50", "100"} <= set(bar)
    assert not any("e" in text or "$" in text for text in bar), bar


def test_a_heat_map_of_any_variable(huge):
    sent = migkit.sel(huge, policy="unserialized")
    assert plot.heatmap(sent, "bytes_sent").figure.axes[1].get_ylabel() == "bytes sent (TiB)"
    assert plot.heatmap(sent, "sync_count").figure.axes[1].get_ylabel() == "sync count"
    assert plot.heatmap(sent, "completed").figure.axes[1].get_ylabel() == "completed"


def test_lines_are_the_numbers_and_policies_have_a_line_each(huge):
    rate = float(huge[RATE][0])
    ax = plot.compare(huge, "verdict_time_s", at={RATE: rate})
    assert legend(ax) == POLICIES
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("link (Gbit/s)", "verdict time (s)")
    for line, policy in zip(ax.lines, POLICIES, strict=True):
        wanted = huge["verdict_time_s"].sel({RATE: rate, "policy": policy})
        np.testing.assert_allclose(line.get_xdata(), huge[LINK])
        np.testing.assert_allclose(line.get_ydata(), wanted)
    assert ax.lines[0].get_linestyle() != ax.lines[1].get_linestyle()
    assert "dirty rate 100 MB/s" in plot.caption(ax)


def test_what_never_completes_is_said_and_not_an_empty_panel(another):
    never = migkit.sel(another, qemu="8.2")
    assert not never["completed"].any()
    ax = plot.compare(never, "total_time_s")
    assert [text.get_text() for text in ax.texts] == ["total time: never"]
    assert "8.2 (never)" in legend(plot.compare(another, "total_time_s", by="qemu"))


def test_points_that_never_complete_are_marked_above_the_lines():
    swept = migkit.sweep(SMALL, {RATE: linspace("40 MB/s", "300 MB/s", 6)})
    total = swept["total_time_s"]
    assert 0 < total.isnull().sum() < 6
    ax = plot.compare(swept)
    (marks,) = (line for line in ax.lines if line.get_marker() == "x")
    np.testing.assert_allclose(marks.get_xdata(), total[RATE][total.isnull()])
    lowest = marks.get_transform().transform(marks.get_xydata())[:, 1].min()
    assert ax.transData.transform((1e8, float(total.max())))[1] < lowest
    assert legend(ax) == ["never"]


def test_what_completed_is_yes_or_no_in_steps(huge):
    ax = plot.compare(huge, "completed", at={RATE: float(huge[RATE][0])})
    assert labels(ax, "y") == ["no", "yes"]
    assert {line.get_drawstyle() for line in ax.lines} == {"steps-mid"}


def test_times_that_reach_a_second_are_in_seconds():
    assert fitting(Quantity("downtime", "s", 1), [0.2, 0.3, 1.8]).unit == "s"
    assert fitting(Quantity("downtime", "s", 1), [0.001, 0.002, 1.8]).unit == "ms"
    assert fitting(Quantity("downtime", "s", 1), [0.2, 0.3, 0.9]).unit == "ms"


def test_replicates_are_a_median_with_a_band(repeated):
    repeated = repeated.isel({RATE: slice(0, 2)})
    assert repeated["completed"].all()
    ax = plot.compare(repeated, "total_time_s", by="time_limit")
    assert legend(ax) == ["4 s", "6 s"]
    wanted = repeated["total_time_s"].isel(time_limit=0)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), wanted.median("replicate"))
    (band, _) = (each.get_paths()[0].vertices for each in ax.collections)
    assert band[:, 1].min() == pytest.approx(wanted.quantile(0.05, "replicate").min())
    assert band[:, 1].max() == pytest.approx(wanted.quantile(0.95, "replicate").max())
    assert "median and middle 90 % over 6 replicates" in plot.caption(ax)
    assert ax.get_ylabel() == "total time (s),\nmedian, middle 90 % of 6 replicates"


def test_of_replicates_the_share_that_completes_has_wilson_intervals(repeated):
    ax = plot.compare(repeated, "completed", by="time_limit")
    sure = migkit.uncertainty.convergence(repeated)
    assert "Wilson" in ax.get_ylabel()
    for number, container in enumerate(ax.containers):
        np.testing.assert_allclose(container.lines[0].get_ydata(), sure["probability"].isel(time_limit=number))
        np.testing.assert_allclose(container.lines[0].get_xdata(), sure[RATE] / 1e6)
    assert ax.get_xlabel() == "dirty rate (MB/s)"


def test_over_replicates_a_heat_map_is_the_mean(repeated):
    ax = plot.heatmap(repeated, "sync_count", x=RATE, y="time_limit")
    assert ax.figure.axes[1].get_ylabel() == "mean sync count"
    np.testing.assert_allclose(np.asarray(ax.collections[0].get_array()).reshape(2, 5)[::-1],
                               repeated["sync_count"].mean("replicate"))  # fmt: skip


def test_a_frontier_has_a_line_for_each_policy():
    over = {LINK: geomspace("2 Gbit/s", "20 Gbit/s", 4)}
    scenario = SIXTEEN.replace("devices.0.count", 2)
    found = migkit.frontier(scenario, RATE, ["10 MB/s", "50 GB/s"], over, policy=POLICIES, tolerance=0.05)
    ax = plot.frontier(found)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("link (Gbit/s)", "critical dirty rate (MB/s)")
    assert legend(ax) == POLICIES
    np.testing.assert_allclose(ax.lines[0].get_ydata(), found["critical"].sel(policy="serialized").isel(flip=0))
    assert "from 10 MB/s to 50 GB/s" in plot.caption(ax)


def test_a_migration_draws_itself():
    figure = migkit.simulate(SIXTEEN.replace("devices.0.count", 1)).plot()
    upper, lower = figure.axes
    assert upper.get_title() == "completed" or upper.get_title() == "initial data starved"
    assert legend(lower) == ["ram", "vfio0"]
    assert figure.get_size_inches()[0] == COLUMN_IN


def test_sixteen_devices_are_two_lines():
    migrations = {policy: migkit.simulate(SIXTEEN.replace(policy=policy)) for policy in POLICIES}
    figure = plot.timeline(migrations)
    assert figure.get_size_inches()[0] == PAGE_IN
    assert [ax.get_title() for ax in figure.axes[:2]] == ["serialized: initial data starved", "unserialized: completed"]
    lower = figure.axes[2]
    assert legend(lower) == ["ram", "least of 16 devices", "most of 16 devices"]
    sent = list(migrations["serialized"].bytes_sent.values())[1:]
    assert [line.get_ydata()[-1] * 2**20 for line in lower.lines[1:]] == pytest.approx([min(sent), max(sent)], rel=0.02)
    assert all(each.sentence.rstrip(".") in plot.caption(figure) for each in migrations.values())


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda ds: plot.map(ds, x="bandwith"), 'did you mean "link.bandwidth"'),
        (lambda ds: plot.heatmap(ds), "policy is an axis too and is not drawn"),
        (lambda ds: plot.heatmap(ds, "outcome"), "is no variable with numbers"),
        (lambda ds: plot.compare(ds, "total_time"), 'did you mean "total_time_s"'),
        (lambda ds: plot.compare(ds, by=RATE), "at most 5 lines are drawn"),
        (lambda ds: plot.compare(ds), f"{RATE} is an axis too"),
        (lambda ds: plot.frontier(ds), "is not a Dataset of migkit.frontier"),
        (lambda _: plot.map(3), "is not a Dataset of migkit.sweep"),
        (lambda _: plot.timeline({}), "from 1 to 4 are drawn"),
        (lambda _: plot.caption(plt.figure()), "was not drawn by migkit.plot"),
        (lambda ds: plot.latex(ds, ["total_time"]), 'did you mean "total_time_s"'),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_sentence(huge, draw, said):
    with pytest.raises(ScenarioError, match=said):
        draw(huge)


def test_a_saved_figure_has_its_source_beside_it_and_the_width_of_a_column(huge, tmp_path):
    from PIL import Image

    *pictures, notes = plot.save(plot.map(huge), tmp_path / "mine.pdf")
    assert [path.name for path in (*pictures, notes)] == ["mine.pdf", "mine.svg", "mine.png", "mine.json"]
    told = json.loads(notes.read_text())
    assert Scenario.from_toml(told["description"]) == HUGE
    assert told["caption"].startswith("Policies under which")
    assert told["engine"] == "expected"
    with Image.open(pictures[-1]) as image:
        assert image.width == round(300 * COLUMN_IN)
    first = pictures[0].read_bytes()
    assert plot.save(plot.map(huge), tmp_path / "mine")[0].read_bytes() == first


def test_figures_are_drawn_into_the_axes_that_are_given(another):
    figure, (one, other) = plt.subplots(1, 2)
    assert plot.map(another, ax=one) is one
    assert plot.compare(another, "downtime_s", by="qemu", ax=other) is other
    assert plot.caption(figure).count(";") >= 2
    assert "How migrations end" in plot.caption(figure)
    assert "Downtime by downtime-limit" in plot.caption(figure)


def test_the_table_has_the_numbers_with_their_units(another):
    text = plot.latex(another)
    assert text.startswith("% migkit ")
    rows = [line.removesuffix(r"\\").split("&") for line in text.splitlines() if "&" in line]
    head, *body = [[cell.strip() for cell in row] for row in rows]
    assert head == ["qemu", "downtime-limit (ms)", "outcome", "total time (s)", "downtime (ms)"]
    frame = migkit.to_frame(another)
    assert [row[2].replace(" ", "_") for row in body] == frame["outcome"].tolist()
    assert [row[4] == "--" for row in body] == frame["downtime_s"].isna().tolist()
    downtime = [float(row[4]) for row in body if row[4] != "--"]
    assert downtime == pytest.approx((1e3 * frame["downtime_s"].dropna()).tolist(), rel=5e-3)
    assert r"\begin{tabular}" in plot.latex(migkit.simulate(SMALL))


def test_what_was_drawn_once_is_said(tmp_path):
    """A sequential writer begins anywhere: a line over an axis has a draw in it unless there are replicates."""
    region = Region(size="64 MiB", write_rate="100 MB/s", pattern="sequential")
    scenario = Scenario(guest=Guest(ram="256 MiB", regions=[region]), link=Link(bandwidth="10 Gbit/s"))
    axes = {"policy": ["serialized", "unserialized"], "link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]}
    once = plot.compare(migkit.sweep(scenario, axes))
    often = plot.compare(migkit.sweep(scenario, axes | {"replicate": range(3)}))
    assert "one draw of guest.regions.0.phase" in plot.caption(once)
    assert "one draw" not in plot.caption(often)


def test_edges_are_derived_for_uniform_writers_only():
    found = {}
    for pattern in ("uniform", "sequential"):
        region = Region(size="200 MiB", write_rate="100 MB/s", pattern=pattern)
        scenario = Scenario(guest=Guest(ram="1 GiB", regions=[region]), link=Link(bandwidth="10 Gbit/s"))
        dataset = migkit.sweep(scenario, {
            "policy": ["serialized", "unserialized"],
            "guest.regions.0.write_rate": ["10 MB/s", "100 GB/s"], "link.bandwidth": ["1 Gbit/s", "10 Gbit/s"],
        })  # fmt: skip
        ax = plot.map(dataset)
        found[pattern] = [text.get_text() for legend in ax.figure.legends for text in legend.get_texts()]
    assert "derived" in found["uniform"]
    assert "derived" not in found["sequential"]


def test_another_format_is_refused(tmp_path):
    ax = plot.compare(migkit.sweep(Scenario(guest=Guest(ram="64 MiB"), link=Link(bandwidth="10 Gbit/s")),
                                   {"link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]}))  # fmt: skip
    with pytest.raises(ScenarioError, match=r"mine\.docx.*is not written"):
        plot.save(ax, "mine.docx")
    assert [path.name for path in plot.save(ax, tmp_path / "limit-0.5")][:1] == ["limit-0.5.pdf"]


def test_a_timeline_shows_what_was_changed(tmp_path):
    scenario = migkit.Scenario(
        guest=migkit.Guest(ram="1 GiB", regions=[migkit.Region(size="512 MiB", write_rate="3 GB/s")]),
        link=migkit.Link(bandwidth="10 Gbit/s"),
        migration=migkit.Migration(max_bandwidth=0),
        time_limit="10 min",
    )
    ramp = migkit.simulate(scenario.replace("management", "ovirt"))
    figure = plot.timeline({"ovirt": ramp, "fixed": migkit.simulate(scenario)})
    labels = [ax.get_ylabel() for ax in figure.axes]
    assert labels[0::2] == ["pending (MiB)", "sent so far (MiB)", "downtime limit (ms)"]
    limit = next(ax for ax in figure.axes if ax.get_ylabel() == "downtime limit (ms)")
    steps = limit.lines[0]
    drawn = ramp.changes[ramp.changes["what"] == "downtime-limit"]
    assert steps.get_xdata()[1:-1].tolist() == drawn["time_s"].tolist()
    assert steps.get_ydata()[0] == 300
    assert steps.get_ydata()[1:-1].tolist() == pytest.approx((drawn["value"] * 1e3).tolist())
    several = [{"at": "1 s", "link_bandwidth": "5 Gbit/s"}, {"at": "2 s", "max_bandwidth": "1 GB/s"},
               {"at": "3 s", "command": "stop"}]  # fmt: skip
    figure = plot.timeline(migkit.simulate(scenario.replace("changes", several)))
    *_, rates = figure.axes
    assert rates.get_ylabel() == "MB/s"
    assert rates.get_ylim()[1] > 1250
    assert rates.lines[-1].get_xdata()[0] == pytest.approx(3.0, abs=0.1)  # where the VM was stopped
    plot.save(figure, tmp_path / "changed.png")
