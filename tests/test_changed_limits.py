"""Limits that were changed while a real QEMU migrated, against what migkit computes from what was known before.

``tests/data/changed-limits``: six runs of QEMU 7.2.22 on a machine with two cores that did other work too, 512 MiB and
a writer of 64 MiB. *raised*: max-bandwidth from 32 to 128 MiB/s at 4 s; *lowered*: the reverse at 2 s; *patience*: a
writer at full speed, and downtime-limit from 300 ms to 3 s at 20 s.
"""

from pathlib import Path

import numpy as np
import pytest

from migkit import qemu, simulate
from migkit.qemu.predict import scenario_of

FOLDER = Path(__file__).parent / "data" / "changed-limits"
RUNS = qemu.runs(FOLDER)


@pytest.fixture(scope="module")
def predicted():
    scenarios = {name: scenario_of(run, FOLDER) for name, run in RUNS.iterrows()}
    return {name: (simulate(each), simulate(each.replace("changes", ()))) for name, each in scenarios.items()}


@pytest.mark.parametrize("name", RUNS.index)
def test_a_change_is_where_it_was_made(name):
    (change,) = scenario_of(RUNS.loc[name], FOLDER).changes
    kind = name.split("__")[1]
    assert float(change.at) == pytest.approx({"raised": 4.0, "lowered": 2.0, "patience": 20.3}[kind], abs=0.4)
    given = {"raised": 128 * 2**20, "lowered": 32 * 2**20}.get(kind)
    assert (change.max_bandwidth, change.downtime_limit) == (given, 3.0 if kind == "patience" else None)


@pytest.mark.parametrize("name", RUNS.index)
def test_the_outcome_is_right_and_the_change_decides_it(name, predicted):
    found, without = predicted[name]
    measured = RUNS.loc[name]
    assert found.converged
    assert found.total_time_s == pytest.approx(measured["total_ms"] * 1e-3, rel=0.06)
    assert found.numbers["bytes_sent"] == pytest.approx(measured["transferred"], rel=0.03)
    assert abs(found.sync_count - measured["sync_count"]) <= 2
    assert abs(without.verdict_time_s - measured["total_ms"] * 1e-3) > 0.5 * found.total_time_s or not without.converged


def test_times_are_within_two_percent_in_the_median(predicted):
    measured_s = {name: RUNS.loc[name]["total_ms"] * 1e-3 for name in predicted}
    wrong = [abs(found.total_time_s / measured_s[name] - 1) for name, (found, _) in predicted.items()]
    assert np.median(wrong) < 0.02
