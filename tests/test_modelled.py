"""What is modelled: one table, in the README and behind the errors."""

from pathlib import Path

import pytest

import migkit
from migkit import Guest, Link, Scenario, ScenarioError
from migkit.scenario import modelled
from migkit.scenario.parts import Migration

pytestmark = pytest.mark.short

SCENARIO = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"))
NOT_MODELLED = [name for row in modelled.ROWS if row.status == "not modelled" for name in (*row.names, *row.others)]


def test_the_readme_has_the_table():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (table,) = [part for part in text.split("\n\n") if part.startswith("| | QEMU's names |")]
    assert table == modelled.table()


def test_a_name_is_in_one_row_only():
    names = [name for row in modelled.ROWS for name in (*row.names, *row.others)]
    assert sorted(names) == sorted(set(names))
    assert [name for name in names if "_" in name or name != name.lower()] == []


def test_the_parameters_that_are_modelled_are_those_of_a_scenario():
    named = {name.replace("-", "_") for row in modelled.ROWS if row.part for name in row.names}
    # when a command is given is no parameter of QEMU's
    assert named | {"postcopy_at"} == set(Migration.model_fields)


@pytest.mark.parametrize("name", NOT_MODELLED)
def test_what_is_not_modelled_is_told_and_not_taken_for_a_misspelt_name(name):
    for given in (name, name.replace("-", "_"), name.upper()):
        for make in (
            lambda given=given: Scenario(guest=SCENARIO.guest, link=SCENARIO.link, migration={given: True}),
            lambda given=given: SCENARIO.replace(f"migration.{given}", True),
            lambda given=given: migkit.sweep(SCENARIO, {f"migration.{given}": [True, False]}),
        ):
            with pytest.raises(ScenarioError, match="is not modelled: ") as told:
                make()
            assert str(told.value).startswith(f"migration.{given} ")
            assert "did you mean" not in str(told.value)


@pytest.mark.parametrize("name", ["postcopy-blocktime", "decompress-threads", "zerocopy", "mapped-ram"])
def test_names_that_people_try_are_there(name):
    assert name in NOT_MODELLED


def test_what_is_approximated_says_how():
    with pytest.raises(ScenarioError, match=r"migration\.tls is not a field of Migration but approximated: a ceiling"):
        SCENARIO.replace("migration.tls", True)


def test_what_is_modelled_elsewhere_is_said_where():
    with pytest.raises(ScenarioError, match=r"^downtime-limit is not a field of Scenario: write migration\.downtime_"):
        Scenario(guest=SCENARIO.guest, link=SCENARIO.link, **{"downtime-limit": "1 s"})
    with pytest.raises(ScenarioError, match=r"block is not a field of Migration but modelled: .* kind = .block"):
        SCENARIO.replace("migration.block", True)


def test_a_misspelt_name_still_gets_the_near_one():
    with pytest.raises(ScenarioError, match='did you mean "max_bandwidth"'):
        SCENARIO.replace("migration.max-bandwidth", 0)
    with pytest.raises(ScenarioError, match='did you mean "downtime_limit"'):
        SCENARIO.replace("migration.downtime_limmit", "1 s")
