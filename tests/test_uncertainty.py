"""What replicates say: intervals against hand-computed cases, other implementations, and their own coverage."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import migkit
from migkit import Guest, Link, Migration, Region, Scenario, ScenarioError, results, sweep
from migkit.analysis.intervals import order_statistics, paired_interval, sample_quantile, wilson
from migkit.analysis.uncertainty import convergence, paired, quantiles

STARVED = 1
SCENARIO = Scenario(
    guest=Guest(ram="256 MiB", regions=[Region(size="256 MiB", write_rate="300 MB/s")]),
    link=Link(bandwidth="10 Gbit/s"),
    migration=Migration(max_bandwidth=0, downtime_limit="5 ms"),
    time_limit="3 s",
)


def made(outcome, total=None, downtime=None, **coords):
    """A Dataset as a sweep makes it: the replicates are the last dimension."""
    outcome = np.asarray(outcome, np.int8)
    dims = (*coords, "replicate")
    total = np.ones(outcome.shape) if total is None else np.asarray(total, float)
    downtime = np.full(outcome.shape, 0.1) if downtime is None else np.asarray(downtime, float)
    variables = {
        "outcome": (dims, outcome, {"units": "1"}),
        "total_time_s": (dims, total, {"units": "s", "long_name": "total time"}),
        "downtime_s": (dims, downtime, {"units": "s", "long_name": "downtime"}),
        "device_bytes": ((*dims, "device"), np.ones((*outcome.shape, 2))),
    }
    coords = {name: list(values) for name, values in coords.items()} | {"replicate": np.arange(outcome.shape[-1])}
    return xr.Dataset(variables, coords, {"engine": "bitmap", "seed": 0})


# ---------------------------------------------------------------- intervals


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_wilson_is_that_of_scipy(n, confidence):
    low, high = wilson(np.arange(n + 1), n, confidence)
    for k in range(n + 1):
        known = stats.binomtest(k, n).proportion_ci(confidence, "wilson")
        assert low[k] == pytest.approx(known.low, abs=1e-12)
        assert high[k] == pytest.approx(known.high, abs=1e-12)
    assert low[0] == 0.0
    assert high[n] == 1.0


def test_wilson_of_no_trials_is_unknown():
    low, high = wilson([0, 0], [0, 3])
    assert np.isnan([low[0], high[0]]).all()
    assert np.isfinite([low[1], high[1]]).all()


@pytest.mark.parametrize("q", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("n", [1, 5, 6, 30, 100])
def test_interval_of_a_quantile_is_that_of_scipy(n, q):
    values = np.random.default_rng(n).normal(size=n)
    known = stats.quantile_test(values, q=0.0, p=q).confidence_interval(0.95)
    _, low, high = sample_quantile(values, q)
    np.testing.assert_equal([float(low), float(high)], [known.low, known.high])


def test_a_median_needs_six_values_for_95_percent():
    low, high = order_statistics(np.array([0, 5, 6, 20]), 0.5)
    assert low.tolist() == [-1, -1, 0, 5]
    assert high.tolist() == [-1, -1, 5, 14]


def test_order_statistics_hold_their_confidence():
    for n in (6, 19, 200):
        for q in (0.1, 0.5, 0.95):
            low, high = (int(place) for place in order_statistics(n, q))
            inside = stats.binom.cdf(high if high >= 0 else n, n, q) - stats.binom.cdf(low, n, q)
            assert inside >= 0.95


def test_sample_quantiles_are_numpys_and_leave_out_what_is_missing():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(4, 5, 33))
    values[rng.random(values.shape) < 0.3] = np.nan
    values[0, 0] = [1.0] + [np.nan] * 32  # one value
    for q in (0.0, 0.05, 0.5, 0.77, 1.0):
        found = sample_quantile(values, q)[0]
        for place in np.ndindex(found.shape):
            there = values[place][np.isfinite(values[place])]
            assert found[place] == pytest.approx(np.quantile(there, q), rel=1e-14)
    assert all(np.isnan(part).all() for part in sample_quantile(np.full((2, 3), np.nan), 0.5))
    assert all(part.shape == (2,) and np.isnan(part).all() for part in sample_quantile(np.empty((2, 0)), 0.5))


def test_paired_interval_of_published_tables():
    # Fagerland, Lydersen, Laake, Statistical Analysis of Contingency Tables (2017), chapter 8: Cavo et al. (2012),
    # 59 both, 6 only the one, 16 only the other, 80 neither; as the authors' package contingencytables prints it
    low, high = paired_interval(59, 16, 6, 80)
    assert (round(float(low), 4), round(float(high), 4)) == (-0.1186, -0.0046)
    # the other way round
    low, high = paired_interval(59, 6, 16, 80)
    assert (round(float(low), 4), round(float(high), 4)) == (0.0046, 0.1186)


def test_paired_interval_at_the_edges():
    for n in (1, 10):
        # all differ in one direction; margins are 0 and 1, so that phi is 0: Wilson's bounds, squared and added
        low, high = paired_interval(0, 0, n, 0)
        edge = float(wilson(0, n)[1])
        assert float(high) == 1.0
        assert float(low) == pytest.approx(1 - math.sqrt(2) * edge)
        # nothing differs
        low, high = paired_interval(n, 0, 0, 0)
        assert float(low) == pytest.approx(-edge)
        assert float(high) == pytest.approx(edge)
    assert np.isnan(paired_interval(0, 0, 0, 0)).all()


@pytest.mark.parametrize("probabilities", [(0.5, 0.1, 0.2, 0.2), (0.05, 0.02, 0.13, 0.8), (0.2, 0.3, 0.3, 0.2)])
def test_paired_interval_covers(probabilities):
    rng = np.random.default_rng(2)
    both, first, second, neither = rng.multinomial(40, probabilities, size=20_000).T
    low, high = paired_interval(both, first, second, neither)
    truth = probabilities[2] - probabilities[1]
    assert 0.935 < ((low <= truth) & (truth <= high)).mean() < 0.98


@pytest.mark.parametrize("probability", [0.05, 0.5, 0.9])
def test_wilson_covers(probability):
    drawn = np.random.default_rng(3).binomial(30, probability, size=20_000)
    low, high = wilson(drawn, 30)
    assert 0.93 < ((low <= probability) & (probability <= high)).mean() < 0.985


def test_interval_of_a_quantile_covers_whatever_the_distribution():
    values = np.random.default_rng(4).exponential(size=(20_000, 40))
    for q in (0.5, 0.8):
        _, low, high = sample_quantile(values, q)
        truth = -math.log(1 - q)
        # two order statistics: at least 95 %
        assert 0.948 < ((low <= truth) & (truth <= high)).mean() < 0.98


# ---------------------------------------------------------------- Datasets


def test_convergence_by_hand():
    ds = convergence(made([[0, 0, 0, 0], [0, STARVED, 2, 4], [STARVED] * 4], write_rate=[1.0, 2.0, 3.0]))
    assert ds["probability"].dims == ("write_rate",)
    assert ds["probability"].values.tolist() == [1.0, 0.25, 0.0]
    assert ds["completed"].values.tolist() == [4, 1, 0]
    assert ds["replicates"].values.tolist() == [4, 4, 4]
    known = stats.binomtest(1, 4).proportion_ci(0.95, "wilson")
    assert ds["probability_low"].values.tolist() == pytest.approx([1 / (1 + 3.841459 / 4), known.low, 0.0])
    assert ds["probability_high"].values[2] == pytest.approx(1 - 1 / (1 + 3.841459 / 4))
    assert ds["probability"].attrs["units"] == "1"
    assert ds.attrs["confidence"] == 0.95
    assert ds.attrs["seed"] == 0


def test_one_replicate():
    one = made([[0], [STARVED]], write_rate=[1.0, 2.0])
    ds = convergence(one)
    assert ds["probability"].values.tolist() == [1.0, 0.0]
    assert ds["probability_low"].values[0] == pytest.approx(1 / (1 + 3.841459))
    spread = quantiles(one)
    assert spread["total_time_s"].values.tolist() == [[1.0] * 3, [pytest.approx(np.nan, nan_ok=True)] * 3]
    assert np.isnan(spread["total_time_s_low"]).all()


def test_quantiles_leave_out_what_did_not_complete():
    swept = made([[0, STARVED, 0, 0], [STARVED] * 4], total=[[1, 100, 2, 4], [9] * 4], write_rate=[1.0, 2.0])
    ds = quantiles(swept, q=[0.0, 0.5, 1.0])
    assert ds["total_time_s"].dims == ("write_rate", "quantile")
    assert ds["total_time_s"].values[0].tolist() == [1.0, 2.0, 4.0]
    assert np.isnan(ds["total_time_s"].values[1]).all()
    assert ds["completed"].values.tolist() == [3, 0]
    assert ds["quantile"].values.tolist() == [0.0, 0.5, 1.0]
    (meaning,) = (each.meaning for each in results.SWEEP_VARIABLES if each.name == "total_time_s")
    assert ds["total_time_s"].attrs == {"units": "s", "long_name": meaning}
    assert "lower bound" in ds["downtime_s_low"].attrs["long_name"]


def test_paired_by_hand():
    first = [0, 0, 0, STARVED, STARVED, 0]
    second = [0, 0, 0, 0, STARVED, STARVED]
    times = [[10, 20, 30, 99, 99, 99], [11, 22, 33, 1, 1, 1]]
    ds = paired(made([first, second], total=times, policy=["serialized", "unserialized"]), "policy")
    assert [int(ds[name]) for name in ("both", "only_first", "only_second", "neither")] == [3, 1, 1, 1]
    known = stats.ttest_1samp([1, 2, 3], 0).confidence_interval(0.95)
    assert float(ds["total_time_s_difference"]) == pytest.approx(2.0)
    assert float(ds["total_time_s_difference_low"]) == pytest.approx(known.low)
    assert float(ds["total_time_s_difference_high"]) == pytest.approx(known.high)
    assert ds["total_time_s_difference"].attrs["units"] == "s"
    assert float(ds["probability_difference"]) == 0.0
    low, high = paired_interval(3, 1, 1, 1)
    assert float(ds["probability_difference_low"]) == pytest.approx(float(low))
    assert float(ds["probability_difference_high"]) == pytest.approx(float(high))
    assert ds.attrs["first"] == "serialized"


@pytest.mark.parametrize(("pairs", "known"), [(0, False), (1, True)])
def test_paired_with_too_few_pairs(pairs, known):
    outcome = np.ones((2, 4), np.int8)
    outcome[:, :pairs] = 0
    ds = paired(made(outcome, total=[[1.0] * 4, [3.0] * 4], link=[1.0, 2.0]), "link")
    assert np.isfinite(float(ds["total_time_s_difference"])) == known
    assert np.isnan(float(ds["total_time_s_difference_low"]))


def test_paired_takes_any_two_values_of_an_axis_in_either_order():
    whole = made(np.zeros((3, 2, 5)), total=np.arange(30.0).reshape(3, 2, 5), link=[1.0, 2.0, 4.0], policy=["a", "b"])
    ds = paired(whole, "link", values=(4.0, 1.0))
    assert ds["total_time_s_difference"].dims == ("policy",)
    assert ds["total_time_s_difference"].values.tolist() == [-20.0, -20.0]
    assert (ds["total_time_s_difference_low"] == -20.0).all()


def test_replicates_of_a_real_sweep_share_their_draws():
    rates = {"guest.regions.0.write_rate": ["300 MB/s", "40 GB/s"]}
    axes = {"rtt": {"link.rtt": ["1 ms", "3 ms"]}, "write_rate": rates, "replicate": range(12)}
    ds = sweep(SCENARIO, axes, "bitmap")
    sure = convergence(ds)
    assert sure["probability"].dims == ("rtt", "write_rate")
    difference = paired(ds, "rtt")
    spread = quantiles(ds)
    completes = sure["probability"].values[0] == 1
    assert completes.tolist() == [True, False]
    # the wider spread of the times is in both, and drops out of their difference
    width = difference["total_time_s_difference_high"] - difference["total_time_s_difference_low"]
    alone = spread["total_time_s"].sel(quantile=0.95) - spread["total_time_s"].sel(quantile=0.05)
    assert float(width[0]) < 0.1 * float(alone[0, 0])
    assert np.isnan(difference["total_time_s_difference"].values[1])
    assert migkit.uncertainty.convergence is convergence


# ---------------------------------------------------------------- what is refused

GOOD = made(np.zeros((2, 3)), policy=["serialized", "unserialized"])
REFUSED = {
    "no dataset": (convergence, (5,), "not a result of migkit.sweep"),
    "no outcome": (convergence, (xr.Dataset(),), "not a result of migkit.sweep"),
    "no replicates": (convergence, (GOOD.isel(replicate=0),), "has no replicates"),
    "expected": (convergence, (GOOD.assign_attrs(engine="expected"),), "draws nothing"),
    "confidence": (convergence, (GOOD, 95), "confidence = 95 is not a level"),
    "q": (quantiles, (GOOD, [50]), "q = 50 is not a quantile"),
    "q no list": (quantiles, (GOOD, 0.5), "q = 0.5 is not a list"),
    "variable": (quantiles, (GOOD, [0.5], ["total_time"]), 'did you mean "total_time_s"?'),
    "per device": (quantiles, (GOOD, [0.5], ["device_bytes"]), "not a result with one value a migration"),
    "axis": (paired, (GOOD, "polcy"), 'polcy is not an axis of this sweep: did you mean "policy"?'),
    "no axis": (paired, (GOOD.isel(policy=0), "policy"), "has none beside its replicates"),
    "value": (paired, (GOOD, "policy", ("serialized", "x")), 'policy = "x" is not a value'),
    "same": (paired, (GOOD, "policy", ("serialized", "serialized")), "two different values"),
    "three": (paired, (made(np.zeros((3, 2)), link=[1.0, 2.0, 3.0]), "link"), "has 3 values: say which two"),
}


@pytest.mark.parametrize(("function", "arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_sentence(function, arguments, words):
    with pytest.raises(ScenarioError) as caught:
        function(*arguments)
    assert words in str(caught.value)
    assert str(caught.value).endswith((".", "?"))
