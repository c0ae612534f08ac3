"""What a guest writes, fitted to how much it dirtied in windows of several lengths."""

import numpy as np
import pytest

from migkit import ScenarioError
from migkit.qemu.working_set import KINDS, DirtyVolumes, fit_working_set

RAM, SAMPLED, MB = 1 << 30, 16384, 1e6
WINDOWS = (0.05, 0.1, 0.2, 0.5, 1.0, 3.0, 0.1, 0.3, 1.0, 2.0)


def uniform(size, rate):
    return lambda t: size * (1 - np.exp(-rate * t / size))


def sequential(size, rate):
    return lambda t: np.minimum(size, rate * t)


def fitted(volume, seed=0, windows=WINDOWS):
    """Fit what a sample of pages would have shown of it."""
    rng = np.random.default_rng(seed)
    window = np.array(windows)
    seen = rng.binomial(SAMPLED, np.clip(volume(window) / RAM, 0, 1)) / SAMPLED * RAM
    rates = np.floor(seen / window / 2**20) * 2**20
    return fit_working_set(DirtyVolumes.of_rates(window, rates, SAMPLED, 2**20), RAM, seed=seed)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("volume", "kind", "size", "rate"),
    [(uniform(64 * MB, 60 * MB), 0, 64 * MB, 60 * MB), (sequential(64 * MB, 60 * MB), 1, 64 * MB, 60 * MB)],
)
def test_size_rate_and_pattern_are_found(volume, kind, size, rate, seed):
    fit = fitted(volume, seed)
    same = fit.draws[fit.draws["kind"] == KINDS[kind]]
    assert fit.kinds[KINDS[kind]] > 0.4
    assert same["size_bytes"].median() == pytest.approx(size, rel=0.15)
    assert same["rate_bytes_per_s"].median() == pytest.approx(rate, rel=0.15)


def test_a_hot_and_a_colder_set_are_told_apart():
    hot, cold = uniform(20 * MB, 400 * MB), uniform(600 * MB, 30 * MB)
    fit = fitted(lambda t: hot(t) + cold(t))
    assert fit.kinds["hot and cold"] > 0.9
    assert fit.draws["size_bytes"].median() == pytest.approx(20 * MB, rel=0.3)
    assert fit.draws["cold_rate_bytes_per_s"].median() == pytest.approx(30 * MB, rel=0.4)


def test_the_middle_90_percent_hold_the_truth_about_that_often():
    """Over many guests: the volume in a window that was not measured."""
    rng = np.random.default_rng(5)
    inside = 0
    for number in range(12):
        volume = uniform(10 ** rng.uniform(7, 8.8), 10 ** rng.uniform(6.5, 9))
        low, high = np.quantile(fitted(volume, number).dirty_bytes(1.5), [0.05, 0.95])
        inside += low <= volume(1.5) <= high
    assert inside >= 8


def test_what_the_windows_do_not_tell_is_said_and_stays_wide():
    """Only the beginning of the curve is seen: nothing says how large the set is."""
    fit = fitted(uniform(900 * MB, 10 * MB))
    assert any("size of the working set" in each for each in fit.unknown)
    low, high = np.quantile(fit.draws["size_bytes"] + fit.draws["cold_bytes"], [0.05, 0.95])
    assert high / low > 3
    low, high = np.quantile(fit.dirty_bytes(1.0), [0.05, 0.95])
    assert high / low < 1.4, "but how much a second dirties is known"


def test_a_set_that_is_written_faster_than_the_shortest_window():
    fit = fitted(uniform(64 * MB, 1e11))
    assert any("dirty already" in each for each in fit.unknown)
    assert np.median(fit.dirty_bytes(1.0)) == pytest.approx(64 * MB, rel=0.05)


def test_a_guest_that_writes_nothing():
    fit = fitted(lambda t: 0.0 * t)
    assert np.quantile(fit.dirty_bytes(1.0), 0.95) < 2 * MB
    assert (fit.windows["off"] == 0).all()


def test_a_guest_that_writes_everything():
    fit = fitted(lambda t: RAM + 0.0 * t)
    assert np.median(fit.dirty_bytes(3.0)) > 0.97 * RAM


def test_unsteady_windows_widen_the_fit():
    rates = np.array([60.0, 30.0, 90.0, 45.0]) * MB
    steady = fit_working_set(DirtyVolumes.of_rates([1.0] * 4, np.full(4, 56 * MB)), RAM)
    unsteady = fit_working_set(DirtyVolumes.of_rates([1.0] * 4, rates), RAM)
    assert unsteady.draws["unsteadiness"].median() > 5 * steady.draws["unsteadiness"].median()


def test_the_same_seed_gives_the_same_draws():
    one, other, third = (fitted(uniform(64 * MB, 60 * MB), seed) for seed in (3, 3, 4))
    assert one.draws.equals(other.draws)
    assert not one.draws.equals(third.draws)


@pytest.mark.parametrize(
    ("window", "rate", "sampled", "name"),
    [([], [], 1, "window_s"), ([0.0], [1.0], 1, "window_s"), ([1.0], [-1.0], 1, "rate"),
     ([1.0], [np.nan], 1, "rate"), ([1.0], [1.0], 0, "sampled_pages")],
)  # fmt: skip
def test_what_is_out_of_its_range_is_refused(window, rate, sampled, name):
    with pytest.raises(ScenarioError, match=name):
        DirtyVolumes.of_rates(window, rate, sampled)
