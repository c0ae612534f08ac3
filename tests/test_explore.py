"""The explorer without a browser: controls, messages, pictures, source text."""

import asyncio
import builtins
import gc
import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.image import imread

import migkit
from migkit.explorer import plane, widget
from migkit.explorer.controls import PROFILE_DEFAULT, controls_of, with_slider_targets
from migkit.explorer.pictures import Map, Timelines
from migkit.explorer.printed import as_python
from migkit.explorer.widget import Explorer
from migkit.figures.timeline import given_columns, thinned
from migkit.run.simulate import simulate
from migkit.study import experiments as study
from migkit.study import lab

STARVED = (
    study.experiments(2)["convergence"]
    .scenario.replace("guest.ram", "4 GiB")
    .replace("guest.regions.0.write_rate", "4 GB/s")
)
# by control: another value, and whether the scenario has it
MOVES = {
    "dirty rate": ("0.1 GB/s", lambda s: s.guest.regions[0].write_rate == 1e8),
    "hot set": ("16 MiB", lambda s: s.guest.regions[0].size == 2**24),
    "link": ("40 Gbit/s", lambda s: s.link.bandwidth == 5e9),
    "max-bandwidth": ("128 MiB/s", lambda s: s.migration.max_bandwidth == 2**27),
    "downtime-limit": ("30 ms", lambda s: s.migration.downtime_limit == 0.03),
    "devices": ("3", lambda s: s.devices[0].count == 3),
    "initial data": ("64 MiB", lambda s: s.devices[0].initial_bytes == 2**26),
    "profile": ("8.2", lambda s: s.qemu == "8.2"),
    "policy": ("serialized", lambda s: s.policy == "serialized"),
}


def pictures(explorer):
    return explorer._timelines_image.value, explorer._map_image.value


def pixels(png):
    return imread(io.BytesIO(png))


def sentences(explorer):
    return explorer._sentences.value


@pytest.fixture(scope="module")
def fresh():
    return Explorer(STARVED)


@pytest.fixture
def explorer(fresh):
    """An explorer with its initial values."""
    for name, control in fresh._control_of.items():
        fresh.controls[name].value = control.initial
    assert fresh.scenario == STARVED
    return fresh


def test_every_control_is_moved_here(explorer):
    assert list(explorer.controls) == list(MOVES)


@pytest.mark.parametrize("name", MOVES)
def test_a_change_updates_scenario_sentences_and_pictures(explorer, name):
    timelines, of_map = pictures(explorer)
    before = sentences(explorer)
    label, is_moved = MOVES[name]
    assert not is_moved(explorer.scenario)
    explorer.controls[name].value = label
    assert is_moved(explorer.scenario)
    assert sentences(explorer) != before
    if name == "policy":  # Both are always drawn; the policy is a mark in the sentences.
        assert pictures(explorer)[0] == timelines
    elif name != "profile":  # 8.2 and 9.0 give the same lines for this migration
        assert pictures(explorer)[0] != timelines
    if name in ("dirty rate", "link"):
        assert pictures(explorer)[1] != of_map


def test_sentences_are_those_of_simulate_and_the_scenarios_is_bold(explorer):
    for policy, migration in explorer.migrations.items():
        assert migration.sentence == simulate(explorer.scenario.replace("policy", policy)).sentence
    serialized, unserialized = sentences(explorer).split("</div>")[:2]
    assert "never sent" in serialized
    assert "normal" in serialized
    assert "unserialized (the scenario's): Completed in" in unserialized
    assert "bold" in unserialized
    explorer.controls["policy"].value = "serialized"
    assert "bold" in sentences(explorer).split("</div>")[0]


def test_invalid_values_show_an_error_and_change_nothing_else(explorer):
    before = (explorer.scenario, sentences(explorer), *pictures(explorer))
    explorer.controls["profile"].value = "7.2"
    assert "which profile &quot;7.2&quot; does not have: use 8.0 or later." in explorer._error.value
    assert "Traceback" not in explorer._error.value
    assert (explorer.scenario, sentences(explorer), *pictures(explorer)) == before
    explorer.controls["profile"].value = "9.0"
    assert "use 8.0" not in explorer._error.value


def test_values_that_are_valid_only_together_are_taken_once_they_are_valid():
    explorer = Explorer(STARVED.replace("migration.switchover_ack", False))
    explorer.controls["profile"].value = "7.2"
    assert explorer.scenario.qemu == "9.0"
    explorer.controls["devices"].value = "0"
    assert (explorer.scenario.qemu, explorer.scenario.devices[0].count) == ("7.2", 0)
    assert "use 8.0" not in explorer._error.value


def test_links_are_not_slower_than_in_the_first_pass():
    explorer = Explorer(STARVED.replace("link", migkit.Link(bandwidth="30 Gbit/s", fresh_bandwidth="20 Gbit/s")))
    assert next(iter(explorer.controls["link"].options)) == "20 Gbit/s"
    assert "no map" not in explorer._error.value


def test_a_map_that_cannot_be_computed_shows_an_error(monkeypatch):
    def refused(*_):
        raise migkit.ScenarioError("is too large", "guest.ram", "1 EiB")

    monkeypatch.setattr(widget, "levels", refused)
    assert "There is no map: guest.ram = &quot;1 EiB&quot; is too large." in Explorer(STARVED)._error.value


def test_the_source_texts_build_an_equal_scenario(explorer):
    assert explorer._texts.layout.display == "none"
    button = next(child for child in explorer.children if getattr(child, "description", "") == "Print the scenario")
    button.click()
    assert explorer._texts.layout.display == ""
    explorer.controls["link"].value = "25 Gbit/s"
    names = {}
    exec(explorer._python.value, names)
    assert names["scenario"] == explorer.scenario
    assert migkit.Scenario.from_toml(explorer._toml.value) == explorer.scenario


def test_python_source_of_every_kind_of_field():
    scenario = migkit.Scenario(
        name='two "guests",\n one \\ é',
        guest=migkit.Guest(
            ram="8 GiB",
            accel="tcg",
            zero_share=0.25,
            regions=[
                migkit.Region(size="1 GiB", write_rate="123456789.125 B/s", pattern="sequential"),
                migkit.Region(size="1 MiB", start="2 GiB", zero_share=1),
            ],
        ),
        devices=[
            migkit.Block(size="1 GiB"),
            migkit.Ram(),
            migkit.Vfio(name="gpu", count=2, initial_bytes=0, dirty_rate="1 MB/s", dirty_max="1 MiB"),
        ],
        link=migkit.Link(bandwidth="10 Gbit/s", rtt="1 ms"),
        migration=migkit.Migration(auto_converge=True, cpu_throttle_initial=30),
        costs=migkit.HostCosts(iteration="20 us"),
        qemu="8.2",
        policy="unserialized",
        time_limit="1 h",
    )
    names = {}
    exec(as_python(scenario), names)
    assert names["scenario"] == scenario
    assert max(map(len, as_python(scenario).splitlines())) <= 120


def test_added_region_and_device_do_not_change_the_migration():
    bare = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    with_parts = with_slider_targets(bare)
    assert (len(with_parts.guest.regions), len(with_parts.devices)) == (1, 1)
    assert simulate(with_parts).numbers["total_time_s"] == simulate(bare).numbers["total_time_s"]
    assert simulate(with_parts).numbers["bytes_sent"] == simulate(bare).numbers["bytes_sent"]
    explorer = Explorer(bare)
    assert explorer.controls["dirty rate"].value == "0 GB/s"
    explorer.controls["devices"].value = "2"
    assert list(explorer.migrations["serialized"].labels) == ["ram", "vfio0", "vfio1"]


def test_sliders_set_the_first_vfio_entry():
    disk_first = STARVED.replace("devices", [migkit.Block(size="1 GiB"), *STARVED.devices])
    assert controls_of(disk_first)["devices"].path == "devices.1.count"


@pytest.mark.parametrize(
    ("path", "value", "name", "label"),
    [
        ("link.bandwidth", "26 Gbit/s", "link", "26 Gbit/s"),
        ("link.bandwidth", "400 Gbit/s", "link", "400 Gbit/s"),
        ("guest.regions.0.write_rate", "1 MB/s", "dirty rate", "0.001 GB/s"),
        ("guest.regions.0.size", "200 MiB", "hot set", "200 MiB"),
        ("migration.max_bandwidth", "1 TB/s", "max-bandwidth", "1000 GB/s"),
        ("migration.downtime_limit", "0 s", "downtime-limit", "0 ms"),
        ("devices.0.count", 20, "devices", "20"),
        ("devices.0.initial_bytes", "5 GiB", "initial data", "5120 MiB"),
    ],
)
def test_the_scenarios_value_is_inserted_in_order(path, value, name, label):
    scenario = STARVED.replace(path, value)
    control = controls_of(scenario)[name]
    assert control.initial == label
    values = [value or np.inf if name == "max-bandwidth" else value for value in control.values.values()]
    assert values == sorted(values)
    assert scenario.replace(path, control.values[label]) == scenario


def test_every_value_of_every_control_is_valid():
    for control in controls_of(STARVED).values():
        for value in control.values.values():
            if value not in ("7.2", "8.0"):  # which have no VFIO devices, or none with pre-copy
                STARVED.replace(control.path, value)


def test_hot_sets_are_whole_pages():
    scenario = STARVED.replace("guest.page_size", "64 KiB")
    assert {size % 2**16 for size in controls_of(scenario)["hot set"].values.values()} == {0}


def test_the_map_equals_a_sweep():
    rates, links = (1e7, 2e10), (1.25e8, 1.25e10)
    found = [level for level in plane.levels(STARVED, rates, links) if level is not None]
    assert [level.shape for level in found] == [(11, 11), (21, 21), (41, 41)]
    for coarse, fine in pairwise(found):
        np.testing.assert_array_equal(coarse.values, fine.values[::2, ::2])
        assert (coarse.write_rate.values[-1], coarse.bandwidth.values[-1]) == (rates[1], links[1])
    some = found[0]
    axes = {"policy": ["serialized", "unserialized"]}
    axes |= {plane.RATE: [f"{rate!r} B/s" for rate in some.write_rate.values.tolist()]}
    axes |= {plane.LINK: [f"{link!r} B/s" for link in some.bandwidth.values.tolist()]}
    completed = migkit.sweep(STARVED, axes)["outcome"].values == 0
    np.testing.assert_array_equal(some.values % 2, ~completed[0])
    np.testing.assert_array_equal(some.values // 2, ~completed[1])
    assert len(np.unique(found[-1].values)) >= 3


def test_the_map_depends_on_everything_but_its_axes_and_the_policy():
    key = plane.plane_key(STARVED)
    same = {plane.RATE: "2 GB/s", plane.LINK: "1 Gbit/s", "policy": "serialized"}
    for path, value in same.items():
        assert plane.plane_key(STARVED.replace(path, value)) == key
    for path, value in {"devices.0.count": 2, "qemu": "8.2", "migration.downtime_limit": "1 s"}.items():
        assert plane.plane_key(STARVED.replace(path, value)) != key


def test_a_later_change_cancels_the_map_of_an_earlier_one():
    async def changes():
        explorer = Explorer(STARVED)
        first = explorer._map_task
        explorer.controls["devices"].value = "4"
        second = explorer._map_task
        explorer.controls["dirty rate"].value = "0.2 GB/s"  # does not need another map
        assert explorer._map_task is second
        await asyncio.wait([first, second])
        assert first.cancelled()
        assert second.exception() is None
        return pictures(explorer)[1]

    drawn = asyncio.run(changes())
    alone = Explorer(STARVED.replace("devices.0.count", 4).replace(plane.RATE, "0.2 GB/s"))
    # The value is on its scale, so the axes have the same range.
    assert drawn == pictures(alone)[1]


def test_pictures_are_png_of_one_size_with_the_point_in_place():
    of_map = Map((1e7, 1e10), (1e8, 1e10))
    low, high = (pixels(of_map.draw(rate, 1e9)) for rate in (1e7, 1e10))
    assert low.shape == high.shape
    rows = np.flatnonzero((low != high).any(axis=(1, 2)))
    assert (high[rows[0] : rows[0] + 20] < 0.2).any(), "the ring at the upper edge"
    np.testing.assert_array_equal(low, pixels(of_map.draw(0, 1e9)), "a rate of 0 is on the lower edge")
    dimmed = pixels(of_map.draw(0, 1e9, dimmed=True))
    assert (dimmed >= 0.74).mean() > 0.98, "all but the point"


def test_both_timelines_have_the_same_axes_and_name_the_outcomes():
    timelines = Timelines()
    scenario = STARVED.replace("devices.0.count", 6).replace("devices.0.name", "a device with a long name")
    migrations = {policy: simulate(scenario.replace("policy", policy)) for policy in ("serialized", "unserialized")}
    for _ in range(2):  # the second drawing removes the first
        timelines.draw(migrations)
        upper, lower = timelines._axes
        assert [ax.get_title() for ax in upper] == ["serialized: initial data starved", "unserialized: completed"]
        assert len({ax.get_xlim() for ax in timelines._axes.flat}) == 1
        assert upper[0].get_ylim() == upper[1].get_ylim()
        assert [len(ax.lines) for ax in (*upper, *lower)] == [3, 3, 4, 4]
        legends = [[text.get_text() for text in legend.get_texts()] for legend in timelines._figure.legends]
        assert legends == [
            ["above:", "pending", "threshold", "sync"],
            ["below:", "ram", "a device with…", "a device with…", "a device with…", "(3 between not drawn)"],
        ]


def test_the_legend_of_the_timelines_names_a_threshold_that_is_below_the_frame():
    timelines = Timelines()
    waiting = lab.four_ways()["acknowledgement"]
    both = {policy: simulate(waiting.replace(policy=policy)) for policy in ("serialized", "unserialized")}
    told = waiting.replace("migration.avail_switchover_bandwidth", "1 GiB/s")
    enough = {policy: simulate(told.replace(policy=policy)) for policy in both}
    for migrations, count in ((enough, 3), (both, 4), (enough, 3)):
        timelines.draw(migrations)
        assert len(timelines._figure.legends[0].get_texts()) == 1 + count
        low, high = timelines._axes[0, 0].get_ylim()
        pending = [each.timeline.pending_bytes / 2**20 for each in migrations.values()]
        assert low < min(each.min() for each in pending) < max(each.max() for each in pending) < high


def test_thinned_timeline_keeps_sums_extremes_and_ends():
    timeline = simulate(STARVED).timeline
    assert thinned(timeline, len(timeline)) is timeline
    thin = thinned(timeline, 20)
    assert len(thin) <= 42
    assert thin.time_s.iloc[[0, -1]].tolist() == timeline.time_s.iloc[[0, -1]].tolist()
    for extreme in ("min", "max"):
        assert getattr(thin.pending_bytes, extreme)() == getattr(timeline.pending_bytes, extreme)()
    for column in ["ram_pages", *given_columns(timeline)]:
        whole = timeline[column].fillna(0).clip(lower=0).cumsum()
        np.testing.assert_allclose(thin[column].cumsum(), whole[thin.index])
    assert thin.synced.any() == timeline.synced.any()


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collection_of_the_process_is_left_as_it_was(explorer, monkeypatch, enabled):
    found = []
    monkeypatch.setattr(explorer, "_update", lambda: found.append(gc.isenabled()))
    if not enabled:
        gc.disable()
    try:
        frozen = gc.get_freeze_count()
        control = explorer.controls["link"]
        control.value = next(label for label in control.options if label != control.value)
        assert found == [False]
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() == frozen
    finally:
        gc.enable()


def test_an_argument_that_is_not_a_scenario_is_refused():
    with pytest.raises(migkit.ScenarioError, match=r"is not a Scenario: make one with migkit\.Scenario"):
        migkit.explore("scenario.toml")


def test_without_ipywidgets_the_error_says_how_to_install_it(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "ipywidgets":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'^migkit\.explore needs ipywidgets: pip install "migkit\[notebook\]"$'):
        migkit.explore(STARVED)


def test_importing_migkit_does_not_import_widgets():
    code = "import sys, migkit; migkit.explore; print('ipywidgets' in sys.modules, callable(migkit.explore))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_the_policy_menu_starts_at_the_profiles_default(explorer):
    assert explorer.controls["policy"].value == PROFILE_DEFAULT
    assert explorer.scenario.policy is None
