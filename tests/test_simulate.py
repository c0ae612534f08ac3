"""One migration: numbers, sentence, text, HTML and timeline."""

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import pytest

import migkit
from migkit import results
from migkit.kernels import drivers
from migkit.results import Outcome
from migkit.run.simulate import simulate
from migkit.scenario.errors import ScenarioError
from migkit.scenario.rows import records
from migkit.scenario.scenario import Guest, Link, Migration, Region, Scenario, Vfio

QUIET = Scenario(
    guest=Guest(ram="256 MiB", regions=[Region(size="32 MiB", write_rate="20 MB/s")]),
    devices=[Vfio(count=2, initial_bytes="8 MiB", stop_copy_bytes="1 MiB")],
    link=Link(bandwidth="10 Gbit/s"),
    migration=Migration(max_bandwidth=0, switchover_ack=True, return_path=True),
)
HOT = QUIET.replace("guest.regions.0.size", "128 MiB").replace("guest.regions.0.write_rate", "900 GB/s")
HOT = HOT.replace("migration.downtime_limit", "20 ms").replace("time_limit", "20 s")


@pytest.fixture(scope="module")
def completed():
    return simulate(QUIET)


@pytest.fixture(scope="module")
def never():
    return simulate(HOT)


def test_numbers_are_those_of_the_kernel(completed):
    table = results.values(drivers.run(records([QUIET])))
    for name, column in table.items():
        np.testing.assert_array_equal(np.asarray(completed.numbers[name]), column[0], name)
    assert completed.total_time_s == table["total_time_s"][0]
    assert completed.downtime_s == table["downtime_s"][0]
    assert completed.sync_count == table["sync_count"][0]
    assert completed.iterations == table["iterations"][0]


def test_a_migration_that_completes(completed):
    assert completed.outcome is Outcome.COMPLETED
    assert completed.converged
    assert completed.sentence.startswith("Completed in ")
    assert math.isclose(sum(completed.downtime_parts_s.values()), completed.downtime_s, rel_tol=1e-9)
    assert completed.bytes_sent.keys() == {"ram", "vfio0", "vfio1"}
    assert sum(completed.bytes_sent.values()) <= completed.numbers["bytes_sent"]


def test_a_migration_that_never_completes(never):
    assert never.outcome is Outcome.RAM_ABOVE_LINK
    assert not never.converged
    assert math.isnan(never.downtime_s)
    assert never.sentence.startswith("RAM is written faster than the link can take it: ")
    assert "verdict after" in never.summary()
    assert "nan" not in never.summary()


def test_a_starved_device_is_named():
    # docs/model.md: serialized, and a hot set larger than one slice but smaller than the threshold.
    scenario = Scenario(
        guest=Guest(ram="1 GiB", regions=[Region(size="100 MiB", write_rate="900 GB/s")]),
        devices=[Vfio(initial_bytes="32 MiB")],
        link=Link(bandwidth="10 Gbit/s"),
        migration=Migration(max_bandwidth=0, switchover_ack=True, return_path=True),
        policy="serialized",
        time_limit="60 s",
    )
    starved = simulate(scenario)
    assert starved.outcome is Outcome.INITIAL_DATA_STARVED
    assert starved.sentence.startswith("vfio0's initial data was never sent")
    assert "of 32 MiB were left, so the destination never acknowledged." in starved.sentence
    assert simulate(scenario.replace("policy", "unserialized")).converged


def test_device_table(completed):
    table = completed.devices
    assert list(table.columns) == [
        "device",
        "bytes",
        "calls",
        "first_call_s",
        "initial_sent_s",
        "ack_s",
        "starved_s",
        "initial_left_bytes",
    ]
    assert list(table["device"]) == ["ram", "vfio0", "vfio1"]
    assert np.isnan(table["ack_s"][0])
    assert table["ack_s"][1] > table["initial_sent_s"][1] >= table["first_call_s"][1]


def test_timeline_has_a_row_per_iteration_and_a_column_per_device(completed):
    timeline = completed.timeline
    assert len(timeline) == completed.iterations
    assert timeline["time_s"].is_monotonic_increasing
    assert timeline["synced"].dtype == bool
    assert [name for name in timeline if name.startswith("vfio")] == ["vfio0_bytes", "vfio1_bytes"]
    for label in ("ram", "vfio0", "vfio1"):
        assert 0 < timeline[f"{label}_bytes"].sum() <= completed.bytes_sent[label]
    assert 0 < timeline["ram_pages"].sum() <= completed.numbers["ram_pages_sent"]
    assert timeline["exact_bytes"].isna().any()
    assert (timeline["exact_bytes"].dropna() >= 0).all()


def test_timeline_is_computed_once_and_only_when_asked_for(monkeypatch):
    asked = []
    record = drivers.record
    monkeypatch.setattr(drivers, "record", lambda *given, **more: asked.append(1) or record(*given, **more))
    migration = simulate(QUIET)
    migration.summary()
    migration._repr_html_()
    assert not asked
    assert migration.timeline is migration.timeline
    assert asked == [1]


def test_text_starts_with_the_sentence_and_has_a_line_per_device(completed):
    lines = completed.summary().splitlines()
    assert lines[0] == completed.sentence
    assert "QEMU 9.0, unserialized, expected engine, costs: assumed" in lines
    assert [line.split()[0] for line in lines[-3:]] == ["ram", "vfio0", "vfio1"]
    assert not [line for line in lines if line != line.rstrip()]


def test_repr_is_one_line(completed, never):
    for migration in (completed, never):
        assert repr(migration) == f"<SimulatedMigration: {migration.sentence}>"
        assert "\n" not in repr(migration)


def test_html_is_small_escaped_and_without_scripts():
    name = "<script>alert(1)</script>" + "&" * 200
    many = QUIET.replace("devices", [Vfio(name=name, count=64, initial_bytes="1 MiB")])
    text = simulate(many.replace("time_limit", "1 s"))._repr_html_()
    assert len(text.encode()) < 5000
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "57 more devices" in text
    assert "color" not in text  # the page's own, dark or light


def test_the_result_does_not_change(completed):
    with pytest.raises(dataclasses.FrozenInstanceError):
        completed.seed = 1


def test_numbers_as_json(never):
    table = json.loads(json.dumps(never.to_dict(), allow_nan=False))
    assert table["outcome"] == "ram_above_link"
    assert table["converged"] is False
    assert table["downtime_s"] is None
    assert table["devices"]["vfio0"]["calls"] == int(never.numbers["device_calls"][1])
    assert table["provenance"]["engine"] == "expected"


def test_bitmap_replicates_have_their_own_draws():
    first, again, other = (simulate(QUIET, "bitmap", seed=5, replicate=number) for number in (0, 0, 1))
    assert first.numbers["ram_pages_sent"] == again.numbers["ram_pages_sent"]
    assert first.numbers["ram_pages_sent"] != other.numbers["ram_pages_sent"]
    assert "bitmap engine, seed 5, replicate 1" in other.summary()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"engine": "expcted"}, 'engine = "expcted" is not an engine: did you mean "expected"?'),
        ({"engine": 3}, 'is not an engine: use "expected" or "bitmap".'),
        ({"seed": -1}, "seed = -1 must be a whole number of 0 or more."),
        ({"seed": 2**63}, "must be a whole number"),
        ({"replicate": 1.5}, "replicate = 1.5 must be a whole number"),
        ({"replicate": True}, "must be a whole number"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(arguments, words):
    with pytest.raises(ScenarioError) as caught:
        simulate(QUIET, **arguments)
    assert words in str(caught.value)


def test_a_mapping_of_fields_is_a_scenario(completed):
    given = simulate(QUIET.model_dump(exclude_none=True))
    assert given.scenario == QUIET
    assert given.summary() == completed.summary()
    with pytest.raises(ScenarioError, match=r'"QUIET" is not a scenario: give a migkit.Scenario, or a mapping'):
        simulate("QUIET")
    with pytest.raises(ScenarioError, match="guest is missing"):
        simulate({})


def test_the_class_can_be_reached(completed):
    assert isinstance(completed, migkit.SimulatedMigration)


def test_a_later_process_loads_no_compiler():
    # linear algebra and typed lists are what Numba imports to compile anything
    code = (
        "import sys, migkit\n"
        "migkit.simulate(migkit.Scenario(guest=migkit.Guest(ram='1 GiB'), link=migkit.Link(bandwidth='1 GB/s')))\n"
        "print(*(name for name in ('scipy.linalg', 'numba.typed.typedlist') if name in sys.modules))"
    )
    for _ in range(2):  # the first may compile
        found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == ""
