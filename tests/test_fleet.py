"""Migrations that share a link: one alone, shares that add up, causality, cases with a closed form, bad input."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from migkit import Change, Guest, Link, Migration, Region, Scenario, ScenarioError, fleet, how_many, plot, simulate
from migkit.analysis.fleet import fair_level, read_fleet
from migkit.cli import app

GBIT = 1e9 / 8


def guest(ram="4 GiB", rate="0 B/s", size="256 MiB", **more):
    regions = [] if rate == "0 B/s" else [Region(size=size, write_rate=rate)]
    migration = {"max_bandwidth": 0} | more.pop("migration", {})
    return Scenario(
        guest=Guest(ram=ram, regions=regions), link=Link(bandwidth="1 Gbit/s"), migration=Migration(**migration),
        **({"time_limit": "10 min"} | more),
    )  # fmt: skip


@given(
    bandwidth=st.floats(1, 100),
    flows=st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.1, 10)), min_size=1, max_size=8),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_level_is_that_of_max_min_fairness(bandwidth, flows):
    """The link is full, or every flow has its most; and a flow that has less than its most has the level."""
    most, weights = np.array(flows).T
    level = fair_level(bandwidth, list(most), list(weights))
    has = np.minimum(most, weights * level)
    assert has.sum() <= bandwidth * (1 + 1e-9)
    if has.sum() < bandwidth * (1 - 1e-9):
        assert np.array_equal(has, most)


def test_one_alone_is_a_migration_on_that_link():
    scenario = guest(rate="200 MB/s")
    alone = simulate(scenario.replace("link.bandwidth", "10 Gbit/s"))
    found = fleet({"only": scenario}, "10 Gbit/s")
    assert found.ends_s["only"] == alone.total_time_s == found.table["total_time_s"]["only"]
    assert found.sentence.startswith("The migration completed in ")


def test_one_after_the_other_takes_the_sum():
    scenarios = [guest(ram) for ram in ("1 GiB", "2 GiB", "4 GiB")]
    found = fleet(scenarios, "10 Gbit/s", parallel=1)
    alone = [simulate(each.replace("link.bandwidth", "10 Gbit/s")).total_time_s for each in scenarios]
    assert list(found.ends_s.values()) == pytest.approx(np.cumsum(alone))
    assert list(found.starts_s.values())[1:] == list(found.ends_s.values())[:-1]


def test_two_share_until_one_ends():
    """Quiet guests of 2 and 4 GiB on one link: the first ends when 2 x 2 GiB have been sent, the other after 6 GiB."""
    found = fleet([guest("2 GiB"), guest("4 GiB")], "8 Gbit/s")
    of_link = (1 << 30) * (4104 / 4096) / 1e9
    assert found.ends_s["vm0"] == pytest.approx(4 * of_link, rel=0.02)
    assert found.ends_s["vm1"] == pytest.approx(6 * of_link, rel=0.02)
    assert [round(share.bytes_per_s / GBIT) for share in found.shares if share.name == "vm1"] == [4, 8]


def test_a_migration_with_a_limit_leaves_the_rest():
    slow = guest("1 GiB", migration={"max_bandwidth": "125 MB/s"})
    found = fleet({"slow": slow, "fast": guest("8 GiB")}, "10 Gbit/s")
    first = {share.name: share.bytes_per_s / GBIT for share in found.shares if share.from_s == 0}
    assert first == {"slow": 1.0, "fast": 9.0}


def test_weights_divide_the_link():
    found = fleet({"a": guest(), "b": guest()}, "9 Gbit/s", weights={"a": 2.0})
    first = {share.name: share.bytes_per_s / GBIT for share in found.shares if share.from_s == 0}
    assert first == pytest.approx({"a": 6.0, "b": 3.0})
    assert found.ends_s["a"] < found.ends_s["b"]


def test_one_that_cannot_converge_beside_others_does_when_they_have_ended():
    hot = guest("4 GiB", "700 MB/s", "2 GiB")
    assert not simulate(hot.replace("link.bandwidth", "5 Gbit/s")).converged
    found = fleet({"hot": hot, "other": guest("16 GiB")}, "10 Gbit/s")
    assert found.migration("hot").converged
    assert found.ends_s["hot"] > found.ends_s["other"]


def test_one_that_never_completes_holds_its_place_until_its_time_limit():
    hot = guest("4 GiB", "5 GB/s", "2 GiB", time_limit="30 s")
    found = fleet([hot, guest("1 GiB")], "10 Gbit/s", parallel=1)
    assert found.ends_s["vm0"] == found.starts_s["vm1"] == 30
    assert "1 of 2 migrations completed" in found.sentence
    assert "not vm0" in found.sentence


def test_a_management_layer_gives_up_earlier():
    hot = guest("4 GiB", "5 GB/s", "2 GiB", changes=[Change(at="7 s", command="migrate_cancel")])
    found = fleet([hot, guest("1 GiB")], "10 Gbit/s", parallel=1)
    assert found.ends_s["vm0"] == pytest.approx(7, abs=0.2)


@given(
    sizes=st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=5),
    rates=st.lists(st.sampled_from([0, 50, 300]), min_size=5, max_size=5),
    parallel=st.integers(1, 4),
)
@settings(max_examples=15, deadline=None)
def test_the_books_balance(sizes, rates, parallel):
    scenarios = [guest(f"{size} GiB", f"{rate} MB/s" if rate else "0 B/s")
                 for size, rate in zip(sizes, rates, strict=False)]  # fmt: skip
    found = fleet(scenarios, "10 Gbit/s", parallel)
    times = sorted({time for share in found.shares for time in (share.from_s, share.to_s)})
    for begin, end in pairwise(times):
        now = [share.bytes_per_s for share in found.shares if share.from_s <= begin and share.to_s >= end]
        assert len(now) <= parallel
        assert sum(now) <= 10 * GBIT * (1 + 1e-9)
    for name, scenario in found.scenarios.items():
        assert simulate(scenario, replicate=list(found.scenarios).index(name)).verdict_time_s <= (
            found.ends_s[name] - found.starts_s[name] + 1e-9
        )
        held = sum((share.to_s - share.from_s) * share.bytes_per_s for share in found.shares if share.name == name)
        assert int(found.table["bytes_sent"][name]) <= held * 1.01 + 2e6


def test_orders():
    scenarios = {"b": guest("2 GiB"), "a": guest("1 GiB"), "c": guest("4 GiB")}
    for order, expected in (
        ("given", "bac"),
        ("smallest first", "abc"),
        ("largest first", "cba"),
        (list("cab"), "cab"),
    ):
        assert "".join(fleet(scenarios, "10 Gbit/s", 1, order).scenarios) == expected


def test_how_many_at_once():
    table = how_many([guest("2 GiB", "300 MB/s")] * 4, "10 Gbit/s", [1, 4])
    assert table.index.tolist() == [1, 4]
    assert table["total_time_s"][1] < table["total_time_s"][4]
    assert (table["completed"] == 4).all()
    assert how_many([guest("1 GiB")] * 3, "10 Gbit/s").index.tolist() == [1, 2, 3]
    with pytest.raises(ScenarioError, match="parallel = 0"):
        how_many([guest("1 GiB")], "10 Gbit/s", [0])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([], "10 Gbit/s"), r"migrations has 0 scenarios: 1 to 1000"),
        (("x.toml", "10 Gbit/s"), "is not a list of scenarios"),
        ((5, "10 Gbit/s"), "is not a list of scenarios"),
        (([guest()], "10 Gbit"), r'link = "10 Gbit" is a size'),
        (([guest()], 10), "link = 10 has no unit"),
        (([guest()], "1 B/s"), "not between 1 kB/s and 1 TB/s"),
        (([guest()], "1 GB/s", 0), "parallel = 0"),
        (([guest()], "1 GB/s", 1, "smalest first"), 'did you mean "smallest first"'),
        (([guest()], "1 GB/s", 1, ["x"]), "does not have the name of each migration once"),
        (([guest()], "1 GB/s", 1, "given", {"vm1": 2}), "weights = \"vm1\" is not a migration"),
        (([guest()], "1 GB/s", 1, "given", {"vm0": -2}), r"weights\.vm0 = -2 is no weight"),
        (([guest(changes=[Change(at="1 s", link_bandwidth="1 GB/s")])], "1 GB/s"), "which the fleet decides"),
    ],
)  # fmt: skip
def test_bad_input_ends_in_a_sentence(arguments, words):
    with pytest.raises(ScenarioError, match=words):
        fleet(*arguments)


TOML = """
link = "10 Gbit/s"
parallel = 2
[[migrations]]
name = "web"
count = 3
scenario = {guest = {ram = "1 GiB"}, link = {bandwidth = "1 Gbit/s"}}
[[migrations]]
weight = 2
scenario = "db.toml"
"""


def test_the_command(tmp_path):
    (tmp_path / "db.toml").write_text('guest = {ram = "2 GiB"}\nlink = {bandwidth = "1 Gbit/s"}\n')
    described = tmp_path / "drain.toml"
    described.write_text(TOML)
    done = CliRunner().invoke(app, ["fleet", str(described), "-o", str(tmp_path / "who")])
    assert done.exit_code == 0, done.output
    assert "All 4 migrations completed" in done.output
    assert "| web2" in done.output
    notes = json.loads((tmp_path / "who.json").read_text())
    assert set(notes["scenarios"]) == {"web0", "web1", "web2", "vm1"}
    compared = CliRunner().invoke(app, ["fleet", str(described), "--parallel", "1", "--parallel", "4"])
    assert compared.exit_code == 0, compared.output
    assert compared.output.count("\n|") == 3
    described.write_text(TOML.replace("weight", "wieght"))
    refused = CliRunner().invoke(app, ["fleet", str(described)])
    assert refused.exit_code == 2
    assert 'migrations.1.wieght is not a field of a fleet: did you mean "weight"?' in refused.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('link = "1 GB/s"', "migrations is missing"),
        ('link = "1 GB/s"\nmigrations = 3', "is not a list of tables"),
        ('link = "1 GB/s"\n[[migrations]]\nname = "a"', r"migrations\.0\.scenario is missing"),
        ('link = "1 GB/s"\n[[migrations]]\nscenario = {guest = 3}', r"migrations\.0\.scenario\.guest"),
        (TOML.replace("count = 3", "count = 10000"), "more than 1000"),
        (TOML.replace("count = 3", "count = -1"), r"migrations\.0\.count = -1"),
    ],
)
def test_descriptions_that_are_refused(text, words):
    with pytest.raises(ScenarioError, match=words):
        read_fleet(text)


def test_the_figure_has_every_migration():
    found = fleet([guest("1 GiB"), guest("2 GiB", "5 GB/s", "1 GiB", time_limit="20 s")], "10 Gbit/s")
    figure = found.plot()
    upper, lower = figure.axes
    assert [text.get_text() for text in upper.get_legend().get_texts()] == ["vm0", "vm1", "link, 10 Gbit/s"]
    assert [text.get_text() for text in lower.get_legend().get_texts()] == ["completed", "did not complete"]
    assert [label.get_text() for label in lower.get_yticklabels()] == ["vm0", "vm1"]
    assert lower.get_xlim()[1] == found.makespan_s == 20
    assert "dashed" in plot.caption(figure)


def test_the_example_of_the_page(capsys, tmp_path, monkeypatch):
    """Its numbers are those of its text: four databases beside each other write faster than their shares."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    text = (Path(__file__).parents[1] / "docs" / "fleet.md").read_text(encoding="utf-8")
    names = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    capsys.readouterr()
    compared = how_many(names["guests"], "25 Gbit/s", parallel=[1, 2])
    share = 25e9 / 8 / 4
    said, makespan_s = " ".join(text.split()), compared["makespan_s"]
    assert f"Two at a time take {makespan_s[2]:.0f} s, one after the other {makespan_s[1]:.0f} s" in said
    assert f"four at a time leave each database {share / 1e6:.0f} MB/s of the link" in said
    assert share < names["database"].guest.regions[0].write_rate == 900e6
    table = names["found"].table
    assert sorted(table.index[table["outcome"] != "completed"]) == ["db0", "db1", "db2", "db3"]
    assert (compared["completed"] == 24).all()


def test_every_one_of_many_migrations_is_named_in_the_figure():
    figure = fleet([guest("64 MiB")] * 30, "10 Gbit/s", parallel=6).plot()
    upper, lower = figure.axes
    names = [text.get_text() for text in upper.get_legend().get_texts()]
    assert names == ["30 migrations, those that began first below", "link, 10 Gbit/s"]
    assert len(lower.get_yticklabels()) == 30
    figure.canvas.draw()
    boxes = [label.get_window_extent() for label in lower.get_yticklabels()]
    assert all(upper.y0 > lower.y1 - 1 for upper, lower in pairwise(boxes)), "no name is on another"
