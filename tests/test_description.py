"""A sweep is a description: axes, rules, designs; in Python and TOML; refused in one sentence."""

import re

import numpy as np
import pytest
from killed_sweep import DESCRIPTION

from migkit import Guest, Link, Migration, Region, Scenario, Vfio, sweep
from migkit.results import to_frame
from migkit.run.design import Sweep, differences
from migkit.run.grid import MOST_MIGRATIONS, Layout
from migkit.run.simulate import simulate
from migkit.run.values import Design, Range
from migkit.scenario.errors import ScenarioError

BASE = Scenario(
    guest=Guest(ram="256 MiB", regions=[Region(size="16 MiB", write_rate="20 MB/s")]),
    devices=[Vfio(initial_bytes="4 MiB", stop_copy_bytes="1 MiB")],
    link=Link(bandwidth="10 Gbit/s"),
    migration=Migration(max_bandwidth=0, switchover_ack=True, return_path=True),
    time_limit="5 s",
)
RATE, LINK, COUNT = "guest.regions.0.write_rate", "link.bandwidth", "devices.0.count"


def test_toml_says_the_same_as_python():
    described = Sweep.from_toml(DESCRIPTION)
    again = Sweep.from_toml(described.to_toml())
    assert again == described
    assert again.sha256 == described.sha256
    assert hash(again) == hash(described)
    assert list(again.axes) == ["policy", COUNT, RATE, LINK]
    assert len(again.axes[RATE]) == 12


def test_a_digest_does_not_depend_on_the_spelling():
    one = Sweep(scenario=BASE, axes={LINK: ["10 Gbit/s", "1 Gbit/s"], COUNT: [1, 2]})
    other = Sweep(scenario=BASE.model_dump(), axes={LINK: ("1.25 GB/s", "125 MB/s"), COUNT: np.array([1, 2])})
    assert one == other
    assert one.sha256 == other.sha256
    assert one.sha256 != Sweep(scenario=BASE, axes={COUNT: [1, 2], LINK: ["10 Gbit/s", "1 Gbit/s"]}).sha256


def test_the_digest_of_a_description_stays_from_one_version_of_migkit_to_the_next():
    """Stores know their sweep by it."""
    described = Sweep.from_toml(DESCRIPTION)
    assert described.sha256 == "01b3afffa9a1ac92efebe2a0996be1bd372e391e9362d4573a296cfbea026983"
    given = described.changed(scenario=described.scenario.replace("sync_policy", "11.1"))
    assert given.sha256 != described.sha256
    assert Sweep.from_toml(given.to_toml()) == given


def test_rules_and_lists_are_the_same_axes():
    rules = {LINK: {"linspace": ["1 Gbit/s", "3 Gbit/s", 3]}, COUNT: {"linspace": [1, 3, 3]}}
    lists = {LINK: ["1 Gbit/s", "2 Gbit/s", "3 Gbit/s"], COUNT: [1, 2, 3]}
    assert Sweep(scenario=BASE, axes=rules) == Sweep(scenario=BASE, axes=lists)


@pytest.mark.parametrize(
    ("field", "name"), [("policy", "serialized"), ("sync_policy", "8.2"), ("bandwidth_policy", "window")]
)
def test_the_policy_of_the_profile_can_be_written(field, name):
    described = Sweep(scenario=BASE, axes={field: [None, name]})
    assert f'{field} = [\n    "default",' in described.to_toml()
    assert Sweep.from_toml(described.to_toml()) == described


def test_a_scenario_can_be_a_file_beside_the_description(tmp_path):
    (tmp_path / "guest.toml").write_text(BASE.to_toml())
    (tmp_path / "sweep.toml").write_text('scenario = "guest.toml"\n[axes]\npolicy = ["serialized"]\n')
    assert Sweep.from_toml(tmp_path / "sweep.toml").scenario == BASE


def test_fields_that_move_together_are_one_dimension():
    host = {LINK: ["1 Gbit/s", "10 Gbit/s", "25 Gbit/s"], "migration.max_bandwidth": ["64 MiB/s", 0, "64 MiB/s"]}
    ds = sweep(BASE, {"policy": ["serialized", "unserialized"], "host": host})
    assert dict(ds.sizes) == {"policy": 2, "host": 3, "device": 2}
    assert ds[LINK].dims == ("host",)
    assert ds["migration.max_bandwidth"].values.tolist() == [64 << 20, 0, 64 << 20]
    for place in range(3):
        scenario = BASE.replace("policy", "unserialized")
        for path, values in host.items():
            scenario = scenario.replace(path, values[place])
        assert float(ds["total_time_s"].sel(policy="unserialized")[place]) == simulate(scenario).total_time_s
    assert {"host", LINK, "migration.max_bandwidth"} <= set(to_frame(ds).columns)


@pytest.mark.parametrize("method", ["sobol", "latin_hypercube"])
def test_the_points_of_a_design_lie_along_one_dimension(method):
    ranges = {
        LINK: {"geomspace": ["1 Gbit/s", "100 Gbit/s"]},
        "guest.regions.0.size": {"linspace": ["1 MiB", "128 MiB"], "multiple": "4 KiB"},
        COUNT: {"linspace": [0, 4]},
    }
    described = Sweep(
        scenario=BASE, axes={"policy": ["serialized", "unserialized"]},
        design={"method": method, "points": 16, "ranges": ranges, "seed": 3},
    )  # fmt: skip
    ds = sweep(described)
    assert ds["outcome"].dims == ("scenario", "policy")
    assert ds.sizes["scenario"] == 16
    assert np.unique(np.floor(16 * np.log(ds[LINK] / 125e6) / np.log(100))).size == 16  # one in each stratum
    assert (ds["guest.regions.0.size"].values % 4096 == 0).all()
    assert set(ds[COUNT].values) <= {0, 1, 2, 3, 4}
    point = ds.isel(scenario=5).sel(policy="serialized")
    scenario = BASE.replace("policy", "serialized")
    values = described.design.values()
    for path in ranges:
        scenario = scenario.replace(path, values[path][5])
    assert float(point["total_time_s"]) == simulate(scenario).total_time_s
    assert Sweep.from_toml(described.to_toml()) == described
    assert described.design.values() == values
    assert described.design.changed(seed=4).values() != values


def test_ends_of_a_range_are_reached_and_not_passed():
    ends = np.array([0.0, 1.0])
    assert [*map(str, Range(geomspace=["1 Gbit/s", "100 Gbit/s"]).values(ends))] == ["1 Gbit/s", "100 Gbit/s"]
    assert Range(linspace=[0, 4]).values(ends) == (0, 4)
    assert Range(linspace=[0.0, 0.3]).values(ends) == (0.0, 0.3)


def test_a_design_of_one_field_may_have_a_value_twice():
    design = {"method": "latin_hypercube", "points": 7, "ranges": {COUNT: {"linspace": [0, 2]}}}
    ds = sweep(Sweep(scenario=BASE, design=design))
    assert ds[COUNT].dims == ("scenario",)
    assert set(ds[COUNT].values) == {0, 1, 2}


def test_replicates_are_the_last_dimension():
    described = Sweep(scenario=BASE, axes={LINK: ["1 Gbit/s"]}, replicates=3, engine="bitmap")
    ds = sweep(described)
    assert ds["outcome"].dims == (LINK, "replicate")
    assert described == Sweep.from_toml(described.to_toml())
    np.testing.assert_array_equal(
        ds["ram_pages_sent"], sweep(BASE, {LINK: ["1 Gbit/s"], "replicate": range(3)}, "bitmap")["ram_pages_sent"]
    )


GOOD = {"scenario": BASE, "axes": {LINK: ["1 Gbit/s"]}}
DESIGN = {"method": "sobol", "points": 4, "ranges": {LINK: {"geomspace": ["1 Gbit/s", "2 Gbit/s"]}}}
REFUSED = {
    "nothing varies": ({"axes": {}}, "needs at least one axis, a design or replicates"),
    "typo": ({"axis": {}}, 'axis is not a field of Sweep: did you mean "axes"?'),
    "unknown path": ({"axes": {"link.bandwith": ["1 Gbit/s"]}}, 'did you mean "bandwidth"?'),
    "empty": ({"axes": {LINK: []}}, "link.bandwidth has no values"),
    "unit": ({"axes": {LINK: ["1 GiB"]}}, 'link.bandwidth = "1 GiB" is a size, but a rate is needed'),
    "engine": ({"engine": "bitmp"}, 'did you mean "bitmap"?'),
    "seed": ({"seed": -1}, "seed = -1 is outside the allowed range"),
    "replicates": ({"replicates": 0}, "replicates = 0 is outside the allowed range"),
    "replicates, too many": ({"replicates": 10**9}, "must be from 1 to 1000000"),
    "a name of its own": ({"axes": {"scenario": {LINK: ["1 Gbit/s"]}}}, "is the dimension of a design"),
    "endless": ({"axes": {COUNT: range(10**12)}}, "devices.0.count has more than 1000000 values"),
    "endless replicates": ({"axes": {"replicate": range(10**12)}}, "replicate has more than 1000000 values"),
    "rule of too many": ({"axes": {COUNT: {"linspace": [0, 4, 10**12]}}}, "give a whole number of 2 or more, up to"),
    "rule of quantities, too many": (
        {"axes": {LINK: {"geomspace": ["1 GB/s", "2 GB/s", 10**12]}}}, "give a whole number of 2 or more, up to"
    ),
    "rule to infinity": ({"axes": {COUNT: {"linspace": [0, float("inf"), 3]}}}, "inf is not a finite number"),
    "rule from nan": ({"axes": {COUNT: {"geomspace": [float("nan"), 2, 3]}}}, "nan is not a finite number"),
    "rule to what no float holds": ({"axes": {COUNT: {"linspace": [0, 10**400, 3]}}}, "is not a finite number"),
    "replicates twice": ({"replicates": 2, "axes": {"replicate": [0]}}, "is given twice"),
    "two rules": ({"axes": {LINK: {"linspace": ["1 GB/s", "2 GB/s", 2], "geomspace": [1, 2, 3]}}}, "needs one rule"),
    "rule typo": (
        {"axes": {LINK: {"linspace": ["1 GB/s", "2 GB/s", 2], "multipel": 1}}}, 'did you mean "multiple"?'
    ),
    "rule too long": ({"axes": {LINK: {"linspace": ["1 GB/s", "2 GB/s", 2, 3]}}}, "linspace"),
    "rule from 0": ({"axes": {LINK: {"geomspace": ["0 B/s", "2 GB/s", 3]}}}, "cannot start or end at 0"),
    "halves of a device": ({"axes": {COUNT: {"linspace": [1, 2, 3]}}}, "devices.0.count = 1.5"),
    "together, other lengths": (
        {"axes": {"host": {LINK: ["1 Gbit/s", "2 Gbit/s"], "link.rtt": ["1 ms"]}}}, "different numbers of values"
    ),
    "together, a taken name": ({"axes": {"outcome": {LINK: ["1 Gbit/s"]}}}, "cannot be the name of a dimension"),
    "a field twice": ({"axes": {LINK: ["1 Gbit/s"], "host": {LINK: ["1 Gbit/s"]}}}, "is on two axes"),
    "design and axis": ({"design": DESIGN}, "is on two axes"),
    "sobol of 5": ({"design": {**DESIGN, "points": 5}}, "points = 5 is not a power of two"),
    "too many points": ({"design": {**DESIGN, "points": 1 << 20}}, "is outside the allowed range"),
    "method": ({"design": {**DESIGN, "method": "random"}}, "is not allowed"),
    "range reversed": (
        {"axes": {}, "design": {**DESIGN, "ranges": {LINK: {"geomspace": ["2 Gbit/s", "1 Gbit/s"]}}}}, "wrong way round"
    ),
    "range unit": (
        {"axes": {}, "design": {**DESIGN, "ranges": {LINK: {"geomspace": ["1 MiB", "2 MiB"]}}}}, "a rate is needed"
    ),
    "no ranges": ({"axes": {}, "design": {**DESIGN, "ranges": {}}}, "has no fields"),
    "beyond RAM": (
        {"axes": {}, "design": {**DESIGN, "ranges": {"guest.regions.0.size": {"linspace": ["4 KiB", "1 GiB"],
                                                                             "multiple": "4 KiB"}}}},
        "beyond the 256 MiB of RAM",
    ),
    "too many": (
        {"axes": {LINK: {"linspace": ["1 GB/s", "2 GB/s", 9]}, "replicate": range(1 << 12)}, "replicates": None},
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "words"), REFUSED.values(), ids=REFUSED)
def test_bad_descriptions_are_refused_in_one_sentence(change, words):
    if words is None:
        assert Layout(Sweep(**GOOD | change)).migrations == 9 << 12
        return
    with pytest.raises(ScenarioError) as caught:
        Layout(Sweep(**GOOD | change))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith((".", "?"))


def test_a_product_too_large_to_count_is_refused():
    axes = {
        path: {"linspace": ["1 MB/s", "1 GB/s", 2000]} for path in (RATE, LINK, "migration.max_bandwidth")
    } | {COUNT: {"linspace": [0, 60, 61]}}  # fmt: skip
    with pytest.raises(ScenarioError, match=f"at most {MOST_MIGRATIONS} can be laid out"):
        Layout(Sweep(scenario=BASE, axes=axes, replicates=1000))


def test_a_sweep_whose_results_do_not_fit_into_memory_is_refused():
    rates, counts = ({"linspace": [low, high, 1000]} for low, high in (("1 MB/s", "1 GB/s"), ("1 GB/s", "9 GB/s")))
    axes = {RATE: rates, LINK: counts, "migration.max_bandwidth": rates, COUNT: range(10)}
    with pytest.raises(ScenarioError) as caught:
        sweep(BASE, axes)
    assert "has 10000000000 migrations (1000 guest.regions.0.write_rate x 1000 link.bandwidth x" in str(caught.value)
    assert 'give a store=, such as store="result.zarr"' in str(caught.value)


def test_ranges_are_refused_in_one_sentence():
    for given, words in (
        ({"linspace": [float("nan"), 1]}, "nan is not a finite number"),
        ({"linspace": [0, 10**400]}, "is not a finite number"),
        ({"linspace": [0, 4], "multiple": "x"}, 'multiple = "x" is not'),
        ({"geomspace": ["1e-300 s", "1e300 s"]}, "has ends that are too far apart"),
    ):
        with pytest.raises(ScenarioError, match=re.escape(words)):
            Range(**given)


def test_differences_are_named():
    one = Sweep(scenario=BASE, axes={LINK: ["1 Gbit/s"]})
    assert differences(one, one) == []
    other = Sweep(scenario=BASE, axes={LINK: ["1 Gbit/s"]}, design=Design(
        method="latin_hypercube", points=3, ranges={COUNT: {"linspace": [0, 3]}}))  # fmt: skip
    assert any("design" in words for words in differences(other, one))
