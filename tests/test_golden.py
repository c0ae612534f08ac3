"""The results that name the model: the same numbers as long as ``MODEL_VERSION`` is the same."""

from functools import cache

import numpy as np
import pytest
from golden_cases import results, scenarios, stored

from migkit.kernels.state import MODEL_VERSION
from migkit.scenario.versions import PROFILES

pytestmark = pytest.mark.short

OTHER_MODEL = "these kernels are another model: give MODEL_VERSION another number, and say why in CHANGELOG.md"


@cache
def golden():
    return stored()


def test_results_are_those_of_this_model_version():
    assert str(golden()["model_version"]) == MODEL_VERSION


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_results_are_the_same_numbers(engine):
    for name, column in results(engine).items():
        np.testing.assert_array_equal(column, golden()[f"{engine} {name}"], f"{engine} {name}: {OTHER_MODEL}")


def test_they_cover_what_there_is():
    found = scenarios()
    assert {scenario.qemu for scenario in found} == set(PROFILES)
    assert {device.kind for scenario in found for device in scenario.devices} == {"ram", "vfio", "block"}
    assert {scenario.walk_policy for scenario in found} == {"serialized", "unserialized"}
    assert {scenario.qemu for scenario in found if scenario.migration.postcopy_ram} == set(PROFILES)
    assert (golden()["expected postcopy_faults"] > 0).any()
    outcomes = golden()["expected outcome"]
    assert set(outcomes.tolist()) == {0, 1, 2, 3, 4}
    assert (golden()["expected throttle"] > 0).any()
