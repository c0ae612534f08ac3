"""The published formulas give the published numbers."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from migkit import ScenarioError, textbook

DATA = Path(__file__).parent / "data"
PAGE = Path(__file__).parents[1] / "docs" / "generate_textbook.py"
TABLE = json.loads((DATA / "predict-migration-2023.json").read_text(encoding="utf-8"))
VOLUMES = pd.read_csv(DATA / "dirty-volume-34a68001f1.csv", comment="#")


def seconds(cell):
    """Cells are "-", "48" or "1m07"."""
    if cell == "-":
        return np.inf
    minutes, _, rest = cell.rpartition("m")
    return 60.0 * int(minutes or 0) + int(rest)


def test_all_48_cells_of_the_prediction_table():
    share = TABLE["n_total_pages"] / TABLE["n_sampled_pages"]
    zero = TABLE["n_zero_pages_in_sample"] * share
    rows = TABLE["bandwidth_gbit_s_binary"]
    # the table says which unit it means: 2^30 bits, and 2^20 bits in the row of 100 Mbit/s
    bandwidth = [100 * 2**20 / 8 if "Mbit" in name else float(name) * 2**30 / 8 for name in rows]
    predicted = textbook.predicted_total_time(
        np.array(TABLE["period_ms"]) / 1e3,
        np.array(TABLE["n_dirty_pages_in_sample"]) * share,
        TABLE["n_total_pages"] - zero,
        zero,
        np.array(bandwidth)[:, None],
        np.array([float(limit) / 1e3 for limit in TABLE["downtime_ms"]]),
        page_size=TABLE["page_size"],
    )
    published = np.array([[seconds(cell) for cell in row] for row in rows.values()])
    assert published.size == 48
    assert np.array_equal(np.ceil(predicted), published)


def test_the_27_rows_of_dirty_volume_against_window():
    assert len(VOLUMES) == 27
    memory, window = VOLUMES["memory_gib"] * 2.0**30, VOLUMES["window_ms"] / 1e3
    rate = textbook.dirty_volume(memory, 3e6, window) / window / 2**20
    assert np.allclose(rate, VOLUMES["theory"], rtol=0.005)
    # page sampling agrees with the formula as well as QEMU's commit says: closely where memory is small
    small = VOLUMES["memory_gib"] == 1
    assert np.allclose(rate[small], VOLUMES["page_sampling"][small], rtol=0.03)


def test_the_geometric_series_is_its_sum():
    memory, ratio, threshold = 4e9, np.array([0.1, 0.3, 0.5, 0.9]), 0.3e9
    series = textbook.geometric_precopy(memory, ratio * 1e9, 1e9, threshold)
    for each, rounds, total, downtime in zip(ratio, series.rounds, series.total_time_s, series.downtime_s, strict=True):
        volumes = [memory]
        while volumes[-1] > threshold:
            volumes.append(volumes[-1] * each)
        assert rounds == len(volumes) - 1
        assert total == pytest.approx(sum(volumes) / 1e9)
        assert downtime == pytest.approx(volumes[-1] / 1e9)


def test_the_ends_of_the_geometric_series():
    exact = textbook.geometric_precopy(8e9, 0.5e9, 1e9, 1e9)
    assert (exact.rounds, exact.total_time_s) == (3, 15.0)
    assert textbook.geometric_precopy(1e9, 0.0, 1e9, 1e6)[:3] == (1, 1e9, 1.0)
    assert textbook.geometric_precopy(1e9, 2e9, 1e9, 1e9).rounds == 0
    assert textbook.geometric_precopy(2e9, 1e9, 1e9, 1e9).total_time_s == np.inf
    assert textbook.geometric_precopy(1e9, 0.1e9, 1e9, 1e9, 0.02).downtime_s == pytest.approx(1.02)


def test_uniform_writes_of_five_implementations():
    """Half the bandwidth, 300 ms: five independent programs gave 4 rounds, 7.298 to 7.301 s, 179.5 to 179.9 ms."""
    rounds = textbook.uniform_precopy(2**32, 0.5e9, 1e9, 0.3e9)
    assert rounds.rounds == 4
    assert rounds.total_time_s == pytest.approx(7.2984, abs=1e-4)
    assert rounds.downtime_s == pytest.approx(0.1796, abs=1e-4)


def test_uniform_writes_above_the_bandwidth_settle():
    for ratio in (1.1, 1.5, 3.0):
        left = textbook.uniform_remainder(ratio)
        assert left == pytest.approx(-np.expm1(-ratio * left))
        memory = 2.0**32
        assert textbook.uniform_precopy(memory, ratio * 1e9, 1e9, 0.99 * left * memory).rounds == np.inf
        assert np.isfinite(textbook.uniform_precopy(memory, ratio * 1e9, 1e9, 1.01 * left * memory).total_time_s)
    assert textbook.uniform_precopy(2.0**40, 1e9, 1e9, 1.0).rounds == np.inf  # 2^41 rounds
    assert np.array_equal(textbook.uniform_remainder([0.0, 0.5, 1.0]), np.zeros(3))


def test_cloud_hypervisor_ends_as_its_own_test_says():
    """Its test of a stressed guest: a downtime of 1 ms and a timeout of 1 s, so that the receiver fails."""
    stressed = {"memory_bytes": 4e9, "written_bytes": 1e9, "dirty_bytes_per_s": 5e9, "bandwidth_bytes_per_s": 1e9}
    failed = textbook.cloud_hypervisor_precopy(**stressed, downtime_s=0.001, timeout_s=1.0)
    assert np.isinf(failed.total_time_s)
    # ignored, the iteration that runs at the timeout is finished: of 4 s, and one with all that is written
    paused = textbook.cloud_hypervisor_precopy(**stressed, downtime_s=0.001, timeout_s=1.0, timeout_strategy="ignore")
    assert paused.rounds == 1
    assert paused.total_time_s == pytest.approx(4.0 + paused.downtime_s)
    assert paused.downtime_s == pytest.approx(1.0, rel=1e-6)


def test_cloud_hypervisor_iterates_until_the_timeout():
    settled = {"memory_bytes": 4e9, "written_bytes": 1e9, "dirty_bytes_per_s": 2e9, "bandwidth_bytes_per_s": 1e9}
    left = float(textbook.uniform_remainder(2.0))
    paused = textbook.cloud_hypervisor_precopy(**settled, timeout_s=600.0, timeout_strategy="ignore")
    assert paused.downtime_s == pytest.approx(left, rel=1e-9)
    assert 600.0 <= paused.total_time_s - paused.downtime_s <= 600.0 + left + 1e-9
    assert np.isinf(textbook.cloud_hypervisor_precopy(**settled, timeout_s=600.0).total_time_s)
    quiet = textbook.cloud_hypervisor_precopy(4e9, 1e9, 0.0, 1e9)
    assert (quiet.rounds, quiet.total_time_s, quiet.downtime_s) == (1.0, 4.0, 0.0)


def test_downtime_limits_of_management_layers():
    time, limit = textbook.nova_downtime_limits(0.4, 10, 30, 3)
    assert np.array_equal(time, np.arange(11) * 90.0)
    assert np.allclose(limit * 1e3, np.arange(40, 401, 36))
    assert textbook.nova_downtime_limits(0.5, 10, 75, 1)[0][1] == 150  # below 2 GiB counts as 2
    steps = textbook.kubevirt_downtime_limits(1.05)
    assert np.allclose(steps * 1e3, [150, 278, 406, 534, 662, 790, 918, 1046, 1050])
    assert np.allclose(textbook.kubevirt_downtime_limits(0.1), [0.1])


def test_a_curve_that_touches_zero_ends():
    total = textbook.predicted_total_time([1.0, 2.0], [0.0, 0.0], 1000, 0, 1e9, 0.0)
    assert total == pytest.approx(1000 * 4104 / 1e9)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: textbook.geometric_precopy(0, 1, 1, 1), "memory_bytes = 0.0 must be above 0"),
        (lambda: textbook.geometric_precopy(1, [1, -2], 1, 1), "dirty_bytes_per_s = -2.0 must be 0 or more"),
        (lambda: textbook.dirty_volume(100, 1, 1), "memory_bytes = 100.0 must be at least page_size"),
        (lambda: textbook.uniform_remainder(np.nan), "ratio = nan must be 0 or more"),
        (lambda: textbook.interpolated_dirty_pages(1, [2, 1], [1, 2]), "must be two or more ascending times"),
        (lambda: textbook.interpolated_dirty_pages(1, [1, 2], [1]), "must have one number for each period"),
        (lambda: textbook.nova_downtime_limits(0.5, 0, 75, 4), "steps = 0 must be a whole number, 1 or more"),
        (lambda: textbook.cloud_hypervisor_precopy(1e9, 2e9, 1e9, 1e9), "no more than memory_bytes"),
        (lambda: textbook.cloud_hypervisor_precopy(1e9, 1e9, 1e9, 1e9, timeout_strategy="stop"), 'must be "cancel" or'),
        (lambda: textbook.kubevirt_stalled([0, 1], [1]), "must have one number for each time"),
        (lambda: textbook.cloudsim_time(1, 1, 0), "share = 0 must be above 0 and at most 1"),
    ],
)
def test_what_is_refused(call, text):
    with pytest.raises(ScenarioError, match=text):
        call()


def test_the_page_is_current():
    spec = importlib.util.spec_from_file_location("generate_textbook", PAGE)
    generate_textbook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate_textbook)
    written = generate_textbook.PAGE.read_text(encoding="utf-8")
    assert written == generate_textbook.page(), "run: python docs/generate_textbook.py"
