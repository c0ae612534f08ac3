"""Advice: what is recommended holds, what is not cannot be helped, and every layer's words can be read."""

from __future__ import annotations

import configparser
import json
import re
import shlex

import numpy as np
import pytest
import yaml

import migkit
from migkit import Guest, Link, Migration, Region, Scenario, Vfio
from migkit.analysis.advise import COSTS, SETTINGS
from migkit.analysis.layers import DIALECTS

LINK = Link(bandwidth="10 Gbit/s")


def writing(rate, ram="8 GiB", size="1 GiB", **more):
    return Scenario(guest=Guest(ram=ram, regions=[Region(size=size, write_rate=rate)]), link=LINK, **more)


QUIET, BUSY, HOT = writing("20 MB/s"), writing("400 MB/s"), writing("1.6 GB/s")
CASES = {
    "quiet": (QUIET, "400 ms", "5 min"),
    "busy": (BUSY, "300 ms", "1 min"),
    "hot": (HOT, "300 ms", "5 min"),
    "strict": (BUSY, "40 ms", "1 min"),
    "device": (
        writing("300 MB/s", devices=[Vfio(initial_bytes="16 MiB", stop_copy_bytes="64 MiB")]),
        "400 ms",
        "2 min",
    ),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    scenario, downtime, completion = CASES[request.param]
    return migkit.advise(scenario, downtime, completion)


def test_what_is_recommended_meets_the_demands(case):
    run = migkit.simulate(case.recommended)
    assert run.converged
    assert run.downtime_s <= case.downtime_s
    assert run.total_time_s <= case.completion_s
    row = case.table[case.table["recommended"]].iloc[0]
    assert (row["total_time_s"], row["downtime_s"]) == (run.total_time_s, run.downtime_s)
    assert row["bytes_sent"] == run.numbers["bytes_sent"]


def test_each_row_is_what_a_simulation_says(case):
    for _, row in case.table.iloc[:: len(case.table) // 7].iterrows():
        run = migkit.simulate(case.nearest.replace_all({f"migration.{name}": _given(name, row[name])
                                                        for name in SETTINGS})
                              .replace("time_limit", f"{case.completion_s} s"))  # fmt: skip
        assert row["outcome"] == run.outcome
        assert row["downtime_s"] == pytest.approx(run.downtime_s, nan_ok=True)


def _given(name, value):
    if "bandwidth" in name:
        return f"{value!r} B/s"
    return f"{value!r} s" if name == "downtime_limit" else value


def test_no_row_of_the_pareto_set_is_dominated(case):
    costs = case.table.loc[case.table["meets"], list(COSTS)].to_numpy(float)
    pareto = case.pareto[list(COSTS)].to_numpy(float)
    assert len(pareto)
    assert case.table["pareto"].iloc[: len(pareto)].all()
    assert case.pareto["meets"].all()
    for row in pareto:
        assert not ((costs <= row).all(axis=1) & (costs < row).any(axis=1)).any()
    # and what is left out is beaten, or equal to one that is in
    for row in costs:
        assert (pareto <= row).all(axis=1).any()


def test_the_figure_has_every_setting_that_meets_the_demands(case):
    figure = case.plot()
    (ax,) = figure.axes
    meet = case.table[case.table["meets"]]
    drawn = {each.get_label(): each.get_offsets() for each in ax.collections}
    (best,) = drawn.pop("recommended")
    row = meet[meet["recommended"]].iloc[0]
    assert best.tolist() == pytest.approx([row["total_time_s"], 1e3 * row["downtime_s"]])
    assert len(drawn.pop("beaten", [])) == (~meet["pareto"]).sum()
    assert sum(map(len, drawn.values())) == meet["pareto"].sum()
    throttles = sorted(meet["throttle_percent"][meet["pareto"]].unique())
    assert list(drawn) == [f"throttle {percent:g} %" for percent in throttles]
    assert ax.lines[0].get_ydata()[0] == pytest.approx(1e3 * case.downtime_s)
    assert case.sentence in migkit.plot.caption(figure)


def test_the_margin_is_the_share_of_simulated_worlds(case):
    """Drawn again here, one migration after another."""
    factors = np.random.default_rng(0).uniform(0.8, 1.2, (100, 2))
    held = 0
    for writes, link in factors:
        region = case.recommended.guest.regions[0]
        run = migkit.simulate(case.recommended.replace_all({
            "guest.regions.0.write_rate": f"{float(writes * region.write_rate)!r} B/s",
            "link.bandwidth": f"{float(link * case.recommended.link.bandwidth)!r} B/s",
        }))  # fmt: skip
        held += run.converged and run.downtime_s <= case.downtime_s and run.total_time_s <= case.completion_s
    assert case.margin.held == held
    assert 0 <= case.margin.low <= held / 100 <= case.margin.high <= 1


def test_what_needs_nothing_is_left_as_it_is():
    found = migkit.advise(QUIET, "400 ms", "5 min")
    assert found.changed == {}
    assert found.recommended.migration == QUIET.migration
    assert found.sentence.startswith("Nothing needs to be set: it completes in ")


def test_a_hot_guest_is_throttled_no_more_than_is_needed():
    found = migkit.advise(HOT, "300 ms", "5 min")
    assert found.recommended.migration.auto_converge
    safe = found.table[found.table["share"] >= 0.95]
    row = found.table[found.table["recommended"]].iloc[0]
    assert row["throttle_percent"] == safe["throttle_percent"].min() > 0
    assert not migkit.simulate(HOT).converged


def test_what_cannot_be_helped_says_why():
    found = migkit.advise(writing("20 MB/s", ram="64 GiB"), "400 ms", "30 s")
    assert found.recommended is None
    assert found.margin is None
    assert found.changed == {}
    assert re.search(
        r"since it sends 6\d\.\d GiB and the link carries 1\.16 GiB/s; nearest comes max-bandwidth = 0", found.sentence
    )
    assert found.sentence.count(". ") == 0
    with pytest.raises(migkit.ScenarioError, match="nothing to set"):
        found.commands("qemu")
    held = migkit.simulate(found.nearest)
    assert held.converged
    assert held.total_time_s > 30


def test_a_stop_copy_that_does_not_fit_is_named():
    scenario = writing("20 MB/s", devices=[Vfio(initial_bytes="16 MiB", stop_copy_bytes="2 GiB")])
    found = migkit.advise(scenario, "300 ms", "5 min")
    assert found.recommended is None
    assert re.search(r"shortest downtime is 2\.\d+ s, \d\.\d+ s of it for devices", found.sentence)


def test_a_wider_spread_holds_in_fewer_worlds():
    narrow, wide = (
        migkit.advise(HOT, "300 ms", "12 s", dirty_rate_spread=spread, link_spread=spread) for spread in (0.05, 0.6)
    )
    assert narrow.margin.share > wide.margin.share
    assert "no more than" in wide.sentence


def test_the_factors_of_the_margin_are_edges():
    found = migkit.advise(BUSY, "300 ms", "1 min")
    assert 1 < found.margin.write_factor < 4

    def holds(factor):
        run = migkit.simulate(found.recommended.replace("guest.regions.0.write_rate", f"{factor * 4e8!r} B/s"))
        return run.converged and run.downtime_s <= 0.3

    assert holds(found.margin.write_factor)
    assert not holds(found.margin.write_factor * 1.06)


@pytest.mark.parametrize("name", ["busy", "hot"])
def test_the_words_of_each_layer_can_be_read(name):
    scenario, downtime, completion = CASES[name]
    found = migkit.advise(scenario, downtime, completion)
    migration = found.recommended.migration
    told = {dialect: found.commands(dialect) for dialect in DIALECTS}
    assert all(each.cannot for each in told.values())

    capabilities, parameters = map(json.loads, str(told["qemu"]).splitlines())
    states = {each["capability"]: each["state"] for each in capabilities["arguments"]["capabilities"]}
    assert states["auto-converge"] == migration.auto_converge
    assert parameters["execute"] == "migrate-set-parameters"
    assert parameters["arguments"]["max-bandwidth"] == round(float(migration.max_bandwidth))
    assert parameters["arguments"]["downtime-limit"] == round(1000 * float(migration.downtime_limit))

    words = shlex.split(str(told["libvirt"]), comments=True)
    assert words[:3] == ["virsh", "migrate", "--live"]
    assert words[words.index("migrate-setmaxdowntime") + 2] == f"{round(1000 * float(migration.downtime_limit))}"
    assert ("--auto-converge" in words) == migration.auto_converge
    assert ("--bandwidth" in words) == (migration.max_bandwidth > 0)

    spec = yaml.safe_load(str(told["kubevirt"]))["spec"]["configuration"]["migrations"]
    assert spec["allowAutoConverge"] == migration.auto_converge
    assert spec["completionTimeoutPerGiB"] * 9 <= found.completion_s

    nova = configparser.ConfigParser()
    nova.read_string(str(told["nova"]))
    assert nova["libvirt"].getint("live_migration_downtime") == 3 * round(1000 * float(migration.downtime_limit))
    assert nova["libvirt"].getboolean("live_migration_permit_auto_converge") == migration.auto_converge
    assert nova["libvirt"].getint("live_migration_completion_timeout") * 8 <= found.completion_s

    ovirt = configparser.ConfigParser()
    ovirt.read_string(str(told["ovirt"]))
    assert ovirt["vars"].getint("migration_downtime") == round(1000 * float(migration.downtime_limit))
    assert ovirt["vars"].getint("migration_max_bandwidth") > 0

    words = shlex.split(str(told["proxmox"]), comments=True)
    assert float(words[words.index("--migrate_downtime") + 1]) == float(migration.downtime_limit)
    assert ("--bwlimit" in words) == (migration.max_bandwidth > 0)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_layer_says_what_becomes_of_the_migration_as_it_runs_it(dialect):
    found = migkit.advise(HOT, "300 ms", "5 min")
    told = found.commands(dialect)
    run = migkit.simulate(told.as_run)
    met = run.converged and run.downtime_s <= 0.3 and run.total_time_s <= 300
    assert told.cannot[-1] == f"So it {'meets' if met else 'does not meet'} the demands: {run.sentence}"


def test_nova_keeps_its_first_step_until_it_aborts():
    found = migkit.advise(HOT, "300 ms", "5 min")
    run = migkit.simulate(found.commands("nova").as_run)
    assert run.numbers["final_downtime_limit_s"] == float(found.recommended.migration.downtime_limit)


def test_proxmox_slows_the_guest_whatever_is_recommended():
    quiet = BUSY.replace("guest.regions.0.write_rate", "10 MB/s").replace("migration.max_bandwidth", "100 MiB/s")
    found = migkit.advise(quiet, "300 ms", "5 min", worlds=10)
    told = found.commands("proxmox")
    assert told.as_run.migration.auto_converge
    assert not found.recommended.migration.auto_converge
    assert "auto-converge cannot be switched off." in told.cannot
    speed = float(found.recommended.migration.max_bandwidth)
    assert float(told.as_run.migration.max_bandwidth) == (speed // 1024 * 1024 if speed else 16 * 2**30)


def test_kubevirt_has_no_downtime_limit():
    found = migkit.advise(BUSY, "40 ms", "1 min")
    told = found.commands("kubevirt")
    assert "downtime-limit" in found.changed
    assert any("MigrationDowntimeTuning" in sentence for sentence in told.cannot)
    assert told.as_run.migration.downtime_limit == 0.3
    assert told.cannot[-1].startswith("So it does not meet the demands: ")


def test_switchover_ack_goes_only_where_nothing_else_helps():
    """A serialized walk never reaches the device behind RAM that no throttle cools: nothing of it is acknowledged."""
    scenario = Scenario(
        guest=Guest(ram="2 GiB", regions=[Region(size="200 MiB", write_rate="4 GB/s", vcpu_share=0.01)]),
        devices=[Vfio(initial_bytes="16 MiB", stop_copy_bytes="1 MiB")],
        link=LINK,
        migration=Migration(switchover_ack=True, return_path=True),
        qemu="8.2",
    )
    found = migkit.advise(scenario, "400 ms", "30 s", worlds=10)
    assert found.changed["switchover-ack"] is False
    assert "switchover-ack = off" in found.sentence
    kept = migkit.advise(scenario.replace(policy="unserialized"), "400 ms", "30 s", worlds=10)
    assert kept.recommended is not None
    assert "switchover-ack" not in kept.changed


RINGED = HOT.replace("guest.dirty_ring_size", 4096)
"""The hot guest, with the ring that dirty-limit needs."""


@pytest.fixture(scope="module")
def limited():
    return migkit.advise(RINGED, "300 ms", "5 min", worlds=20)


def test_dirty_limit_is_tried_beside_auto_converge_where_there_is_a_ring(limited):
    table = limited.table
    assert set(table["vcpu_dirty_limit"][table["dirty_limit"]]) >= {1}
    assert table["auto_converge"].any()
    assert not (table["dirty_limit"] & table["auto_converge"]).any()
    assert table["meets"][table["dirty_limit"]].any()
    assert any(sentence.startswith("dirty-limit slows the vCPUs that write more") for sentence in limited.assumed)


@pytest.mark.parametrize("more", [{"guest.dirty_ring_size": 0}, {"qemu": "8.0"}])
def test_dirty_limit_is_not_tried_where_it_cannot_be(more):
    found = migkit.advise(RINGED.replace(more), "300 ms", "5 min", worlds=10)
    assert not found.table["dirty_limit"].any()
    told = [sentence for sentence in found.assumed if "dirty-limit" in sentence]
    assert told == ([] if "qemu" in more else [
        "dirty-limit was not tried: it needs a dirty ring (guest.dirty_ring_size), which a guest has from its start "
        "(-accel kvm,dirty-ring-size=4096)."
    ])  # fmt: skip


def test_what_dirty_limit_takes_from_the_guest_is_what_its_writer_sleeps(limited):
    slept = limited.table["throttle_percent"] > 0  # what completes before the trigger acts never sleeps
    rows = limited.table[limited.table["dirty_limit"] & limited.table["meets"] & slept]
    assert len(rows) > 12
    free = 1.6e9
    for _, row in rows.iloc[:: max(1, len(rows) // 12)].iterrows():
        assert row["throttle_percent"] <= 99
        run = migkit.simulate(limited.nearest.replace_all({f"migration.{name}": _given(name, row[name])
                                                           for name in SETTINGS}))  # fmt: skip
        slept_s, fill_s = run.numbers["dirty_limit_throttle_s"], 4096 * 4096 / free
        # pages of a region are hit more than once before the ring is full, by R / 2N
        assert row["throttle_percent"] == pytest.approx(100 * slept_s / (slept_s + fill_s), abs=1.5)


def test_dirty_limit_that_was_given_is_varied_and_told(limited):
    given = RINGED.replace({"migration.dirty_limit": True, "migration.vcpu_dirty_limit": 1})
    found = migkit.advise(given, "300 ms", "5 min", worlds=10)
    assert found.table["dirty_limit"].any()
    assert (~found.table["dirty_limit"]).any()
    off = migkit.advise(
        QUIET.replace({"guest.dirty_ring_size": 4096, "migration.dirty_limit": True}), "400 ms", "5 min"
    )
    assert off.changed == {}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_layers_say_dirty_limit_or_that_they_cannot(limited, dialect):
    from migkit.analysis.layers import commands

    row = limited.table[limited.table["dirty_limit"] & limited.table["meets"]].iloc[0]
    scenario = RINGED.replace(
        {"migration.dirty_limit": True, "migration.vcpu_dirty_limit": int(row["vcpu_dirty_limit"])}
    )
    told = commands(scenario, dialect, 300.0)
    if dialect == "qemu":
        assert '{"capability": "dirty-limit", "state": true}' in told.text
        assert f'"vcpu-dirty-limit": {row["vcpu_dirty_limit"]}' in told.text
    else:
        assert "dirty-limit is not set by it." in told.cannot
        assert not told.as_run.migration.dirty_limit


def test_draws_are_in_the_margin_and_named():
    region = Region(size="1 GiB", write_rate="1 GB/s", pattern="sequential")
    found = migkit.advise(Scenario(guest=Guest(ram="4 GiB", regions=[region]), link=LINK), "300 ms", "1 min")
    assert any("guest.regions.0.phase" in sentence for sentence in found.assumed)
    again = migkit.advise(Scenario(guest=Guest(ram="4 GiB", regions=[region]), link=LINK), "300 ms", "1 min")
    assert found.table.equals(again.table)


def test_worlds_stay_within_what_a_scenario_allows():
    region = Region(size="4 GiB", write_rate="900 GB/s", vcpu_share=0.5)
    fast = Scenario(guest=Guest(ram="8 GiB", regions=[region]), link=Link(bandwidth="1 TB/s"))
    assert migkit.advise(fast, "10 s", "5 min", worlds=10).margin.worlds == 10
    slow = Scenario(guest=Guest(ram="64 MiB"), link=Link(bandwidth="1 kB/s"))
    assert migkit.advise(slow, "10 s", "48 h", worlds=10).margin.worlds == 10


def test_without_demands_those_of_the_scenario_count():
    found = migkit.advise(BUSY)
    assert (found.downtime_s, found.completion_s) == (0.3, 1800.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"downtime": "300"}, "has no unit"),
        ({"downtime": "0 s"}, "outside the allowed range 1 ms to"),
        ({"completion": "10 ms"}, "outside the allowed range 1 s to"),
        ({"completion": "1 GiB"}, "is a size, but a time is needed"),
        ({"dirty_rate_spread": 1.5}, "must be a number from 0 to 0.9"),
        ({"link_spread": "20 %"}, "must be a number from 0 to 0.9"),
        ({"worlds": 3}, "must be a whole number of 10 or more"),
        ({"worlds": 10**6}, "must be from 10 to 10000"),
        ({"seed": -1}, "must be a whole number of 0 or more"),
    ],
)
def test_bad_input_in_one_sentence(given, message):
    with pytest.raises(migkit.ScenarioError, match=re.escape(message)) as caught:
        migkit.advise(BUSY, **given)
    assert "\n" not in str(caught.value)
    assert next(iter(given)) in str(caught.value)


@pytest.mark.parametrize(
    "more",
    [
        {"migration.postcopy_at": "10 s"},
        {"changes": [{"at": "10 s", "command": "migrate-start-postcopy"}]},
        {"management": "nova(permit_post_copy=True)"},
    ],
)
def test_post_copy_is_refused_where_it_would_start(more):
    allowed = BUSY.replace("migration.postcopy_ram", True)
    with pytest.raises(migkit.ScenarioError, match="starts post-copy, for which there is no advice"):
        migkit.advise(allowed.replace(more))
    found = migkit.advise(allowed, "300 ms", "1 min", worlds=10)
    assert '"postcopy-ram", "state": true' in str(found.commands("qemu"))


def test_an_unknown_dialect_is_refused():
    with pytest.raises(migkit.ScenarioError, match='did you mean "kubevirt"'):
        migkit.advise(QUIET, "400 ms", "5 min").commands("kubvirt")


def test_it_is_shown_small(case):
    assert len(case._repr_html_()) < 6000
    assert case.sentence in case.summary()
    assert json.loads(json.dumps(case.to_dict()))["sentence"] == case.sentence


def test_the_demands_are_told_and_where_the_rest_of_the_settings_is():
    found = migkit.advise(BUSY)
    assert "\nDemanded: a migration within 30 min (the scenario's time_limit) with a downtime of at most 300 ms (its " \
           "downtime-limit).\n" in found.summary()  # fmt: skip
    rest = len(found.pareto) - 6
    assert rest > 0
    assert (
        f"\n... and {rest} more, which migkit advise --json prints and migkit.advise(...).pareto has\n"
        in found.summary()
    )
    assert len(found.to_dict()["pareto"]) == len(found.pareto)
    asked = migkit.advise(BUSY, "400 ms", "5 min").demanded
    assert asked == "Demanded: a migration within 5 min with a downtime of at most 400 ms."


def test_the_command_line_says_what_the_function_says(tmp_path):
    from typer.testing import CliRunner

    from migkit.cli import app

    path = tmp_path / "busy.toml"
    path.write_text(BUSY.to_toml())
    how = ["--downtime", "300 ms", "--completion", "1 min"]
    told = CliRunner().invoke(app, ["advise", str(path), *how, "--words", "nova"])
    found = migkit.advise(BUSY, "300 ms", "1 min")
    assert told.exit_code == 0
    assert told.stdout == f"{found.summary()}\n\n{found.commands('nova').summary()}\n"
    told = CliRunner().invoke(app, ["advise", str(path), *how, "--json", "--words", "qemu"])
    table = json.loads(told.stdout)
    assert table.pop("words")["qemu"]["text"] == found.commands("qemu").text
    assert table == json.loads(json.dumps(found.to_dict()))
    told = CliRunner().invoke(app, ["advise", str(path), "--downtime", "300"])
    assert told.exit_code == 2
    told = CliRunner().invoke(app, ["advise", str(path), "--words", "xen"])
    assert told.exit_code == 2
    assert told.stderr.startswith('migkit: dialect = "xen" is not a dialect: use "qemu"')
