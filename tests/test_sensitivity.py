"""Sobol indices: analytic cases, what migrations that never complete count as, and bad input."""

import numpy as np
import pytest
import xarray as xr

import migkit
from migkit.analysis.sensitivity import OUTPUTS, _measured, _scenarios
from migkit.analysis.sensitivity import sensitivity as analysed
from migkit.run.values import Range

pytest.importorskip("SALib")

RATE, LINK, RTT = "guest.regions.0.write_rate", "link.bandwidth", "link.rtt"


@pytest.fixture(scope="module")
def scenario():
    return migkit.Scenario(
        guest=migkit.Guest(ram="256 MiB", regions=[migkit.Region(size="64 MiB", write_rate="1 MB/s")]),
        link=migkit.Link(bandwidth="10 Gbit/s"),
        migration={"max_bandwidth": 0},
        time_limit="20 s",
    )


@pytest.fixture(scope="module")
def crossing(scenario):
    """Some migrations complete and some do not."""
    ranges = {RATE: {"geomspace": ["100 MB/s", "20 GB/s"]}, LINK: {"geomspace": ["500 Mbit/s", "8 Gbit/s"]},
              RTT: {"linspace": ["1 us", "2 us"]}}  # fmt: skip
    return analysed(scenario, ranges, points=128)


def test_a_downtime_of_one_field_is_all_of_that_field(scenario):
    """The device state's time is a part of the downtime; the other two fields do not touch it."""
    ranges = {"costs.device_state": {"linspace": ["1 ms", "100 ms"]}, "costs.setup": {"linspace": ["1 ms", "2 s"]},
              "time_limit": {"linspace": ["50 s", "90 s"]}}  # fmt: skip
    quiet = scenario.replace("guest.regions", [])
    found = analysed(quiet, ranges, outputs=["downtime_s"], points=256)
    first, total = (found[name].sel(output="downtime_s").values for name in ("first", "total"))
    assert first[0] == pytest.approx(1, abs=0.05)
    assert total[0] == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(total[1:], 0, atol=0.02)
    np.testing.assert_allclose(first[1:], 0, atol=0.02)
    # uniform over 99 ms
    assert found["variance"].item() == pytest.approx(0.099**2 / 12, rel=0.02)


def test_a_sum_of_two_fields_splits_by_their_variances(scenario):
    """Total time has setup and device state as summands: indices are 4/5 and 1/5 for ranges of 2 to 1."""
    quiet = scenario.replace("guest.regions", [])
    ranges = {"costs.setup": {"linspace": ["0 s", "2 s"]}, "costs.device_state": {"linspace": ["0 s", "1 s"]}}
    found = analysed(quiet, ranges, outputs="total_time_s", points=1024).squeeze()
    np.testing.assert_allclose(found["first"], [0.8, 0.2], atol=0.03)
    np.testing.assert_allclose(found["total"], [0.8, 0.2], atol=0.03)
    assert (abs(found["first"] - [0.8, 0.2]) < 2 * found["first_conf"]).all()


def test_what_never_completes_counts_as_documented():
    table = {"total_time_s": np.array([1.0, 3.0, 7.0]), "downtime_s": np.array([0.1, 0.3, np.nan])}
    completed = np.array([True, True, False])
    assert _measured("convergence", table, completed, 20.0).tolist() == [1, 1, 0]
    assert _measured("total_time_s", table, completed, 20.0).tolist() == [1, 3, 20]
    np.testing.assert_allclose(_measured("downtime_s", table, completed, 20.0), [0.1, 0.3, 0.2])


def test_dirty_rate_and_link_decide_and_round_trip_does_not(crossing):
    assert 0.1 < crossing.attrs["completed"] < 0.9
    assert crossing["mean"].sel(output="convergence") == pytest.approx(crossing.attrs["completed"])
    total = crossing["total"].sel(output="convergence")
    assert (total.sel(parameter=[RATE, LINK]) > 0.1).all()
    assert total.sel(parameter=RTT) < 0.02
    assert (crossing["total"] >= crossing["first"] - crossing["first_conf"]).all()


def test_the_dataset_says_what_it_is(crossing):
    assert crossing["first"].dims == ("output", "parameter")
    assert crossing["output"].values.tolist() == list(OUTPUTS)
    assert crossing["parameter"].values.tolist() == [RATE, LINK, RTT]
    assert all("long_name" in crossing[name].attrs for name in crossing.data_vars)
    assert crossing.attrs["migrations"] == 128 * 5
    assert crossing.attrs["engine"] == "expected"
    assert "link.bandwidth: 500 Mbit/s to 8 Gbit/s" in crossing.attrs["ranges"]


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_the_same_seed_gives_the_same_numbers_and_another_does_not(scenario, engine):
    ranges = {RATE: {"geomspace": ["10 MB/s", "20 GB/s"]}, LINK: {"geomspace": ["500 Mbit/s", "8 Gbit/s"]}}
    one, same, other = (analysed(scenario, ranges, points=16, seed=seed, engine=engine) for seed in (0, 0, 1))
    xr.testing.assert_identical(one.drop_attrs(), same.drop_attrs())
    assert not one["total"].equals(other["total"])


def test_an_output_that_does_not_vary_has_no_indices(scenario):
    ranges = {RATE: {"linspace": ["1 MB/s", "2 MB/s"]}, RTT: {"linspace": ["1 us", "2 us"]}}
    found = analysed(scenario, ranges, outputs="convergence", points=8)
    assert np.isnan(found["total"]).all()
    assert found["variance"] == 0


def test_every_row_of_the_design_is_its_own_scenario(scenario):
    """Replacing one field a row gives what replacing all of them gives."""
    from SALib.sample import sobol

    paths = [RATE, LINK, "guest.regions.0.size"]
    rules = [Range(geomspace=["1 MB/s", "1 GB/s"]), Range(geomspace=["1 Gbit/s", "9 Gbit/s"]),
             Range(geomspace=["4 MiB", "128 MiB"], multiple="4 KiB")]  # fmt: skip
    problem = {"num_vars": 3, "names": paths, "bounds": [[0, 1]] * 3}
    shares = sobol.sample(problem, 4, calc_second_order=False, seed=np.random.default_rng(3))
    values = [rule.values(shares[:, number]) for number, rule in enumerate(rules)]
    made = list(_scenarios(scenario, paths, values))
    assert len(made) == len(shares) == 4 * 5
    for number, one in enumerate(made):
        wanted = scenario
        for path, column in zip(paths, values, strict=True):
            wanted = wanted.replace(path, column[number])
        assert one == wanted, number
    assert len({one.to_toml() for one in made}) == len(made)


def test_counts_are_whole(scenario):
    device = scenario.replace("devices", [migkit.Vfio(initial_bytes="1 MiB")])
    ranges = {"devices.0.count": {"linspace": [1, 4]}, RATE: {"geomspace": ["1 MB/s", "1 GB/s"]}}
    assert analysed(device, ranges, points=8).sizes["parameter"] == 2


TWO = {RATE: {"linspace": ["1 MB/s", "2 MB/s"]}, LINK: {"linspace": ["1 Gbit/s", "2 Gbit/s"]}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ranges": {}}, "two or more fields"),
        ({"ranges": {LINK: TWO[LINK]}}, "two or more fields"),
        ({"ranges": TWO | {"link.bandwith": TWO[LINK]}}, "link.bandwith"),
        ({"ranges": TWO | {RTT: ["1 us", "2 us"]}}, "is no range"),
        ({"ranges": TWO | {RTT: {"linspace": ["2 us", "1 us"]}}}, "link.rtt"),
        ({"ranges": TWO | {RTT: {"linspace": ["1 GiB", "2 GiB"]}}}, "link.rtt"),
        ({"outputs": []}, "outputs"),
        ({"outputs": ["downtime"]}, "downtime_s"),
        ({"outputs": ["convergence", "convergence"]}, "once"),
        ({"points": 1000}, "power of two"),
        ({"points": 1 << 20}, "power of two from 2 to 32768"),
        ({"seed": -1}, "seed"),
        ({"engine": "exact"}, "engine"),
        ({"confidence": 1}, "confidence"),
    ],
)
def test_bad_input_is_one_sentence(scenario, change, words):
    with pytest.raises(migkit.ScenarioError) as refused:
        analysed(**{"scenario": scenario, "ranges": TWO, "points": 8} | change)
    text = str(refused.value)
    assert words in text
    assert "\n" not in text


def test_no_salib_is_one_sentence(scenario, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "SALib.analyze", None)
    with pytest.raises(migkit.ScenarioError, match="needs SALib"):
        analysed(scenario, TWO, points=8)


def test_regions_may_need_the_ram_that_another_range_brings(scenario):
    ranges = {"guest.regions.0.size": {"linspace": ["64 MiB", "512 MiB"], "multiple": "4 KiB"},
              "guest.ram": {"linspace": ["512 MiB", "1 GiB"], "multiple": "4 KiB"}}  # fmt: skip
    found = analysed(scenario, ranges, points=8)
    assert found.attrs["migrations"] == 8 * 4
