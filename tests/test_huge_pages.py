"""RAM in huge pages: where a call of RAM ends, who is reached then, post-copy, and 14 recorded runs.

``tests/data/huge-pages``: QEMU 7.2.22 and 10.0.2 under TCG, RAM in pages of 2 MiB (``migkit record --backing 2MiB
--trace``). Each is predicted from its configuration, with the default costs.
"""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest
from cases import MS, S, random_huge_case
from rows import kernels, to_parameters
from test_against_naive import LARGE, distances, large, writes

import migkit
from migkit import Guest, Link, Migration, Region, Scenario, ScenarioError, Vfio, qemu, simulate
from migkit.analysis.closed_form import Inputs
from migkit.qemu.plan import Plan
from migkit.qemu.planned import scenario_of_plan

FOLDER = Path(__file__).parent / "data" / "huge-pages"
RUNS = qemu.runs(FOLDER)
BACKING = "guest.backing"
ENGINES = pytest.mark.parametrize("engine", ["expected", "bitmap"])


def scenario(hot="100 MiB", qemu="8.2", **fields):
    """A serialized migration that starves its device with pages of 4 KiB: a call carries 62 MB, 375 MB fit."""
    region = Region(size=hot, start="512 MiB", write_rate="4 GB/s")
    devices = (Vfio(initial_bytes="16 MiB", stop_copy_bytes="1 MiB"),)
    given = {"max_bandwidth": 0, "switchover_ack": True, "return_path": True} | fields.pop("migration", {})
    return Scenario(guest=Guest(ram="2 GiB", regions=[region]), devices=devices, link=Link(bandwidth="10 Gbit/s"),
                    migration=Migration(**given), qemu=qemu, time_limit="60 s", **fields)  # fmt: skip


# ---------------------------------------------------------------- the field


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"backing": "3 MiB"}, "backing = .*power of two"),
        ({"backing": "1 KiB"}, "backing = .*less than a page"),
        ({"backing": "2 GiB"}, "backing = .*1 GiB"),
        ({"backing": "1 GiB"}, "ram = .*whole number of huge pages of 1 GiB"),
    ],
)
def test_a_size_that_cannot_back_the_guest_is_refused(fields, sentence):
    with pytest.raises(ScenarioError, match=sentence):
        Guest(ram="1536 MiB", **fields)


def test_huge_pages_on_channels_are_refused():
    with pytest.raises(ScenarioError, match=r"guest\.backing = .*multifd"):
        Scenario(guest=Guest(ram="2 GiB", backing="2 MiB"), link=Link(bandwidth="10 Gbit/s"),
                 migration=Migration(multifd=True))  # fmt: skip


def test_the_page_of_the_target_is_the_default_and_has_no_effect():
    plain = scenario()
    same = plain.replace(BACKING, "4 KiB")
    assert simulate(same).numbers["iterations"] == simulate(plain).numbers["iterations"]
    assert [each for each in same.without_effect if "guest.backing" in each]
    assert not [each for each in plain.replace(BACKING, "2 MiB").without_effect if "guest.backing" in each]
    sweeps = [migkit.Sweep(scenario=each, axes={"link.rtt": ["1 ms", "2 ms"]}) for each in (plain, same)]
    assert sweeps[0].sha256 == migkit.Sweep(scenario=plain.replace(BACKING, "0 B"), axes=sweeps[0].axes).sha256
    assert sweeps[0].sha256 != sweeps[1].sha256


def test_it_is_read_from_toml_and_swept():
    text = scenario().replace(BACKING, "2 MiB").to_toml()
    assert Scenario.from_toml(text).guest.backing == 2 << 20
    swept = migkit.sweep(scenario(), {BACKING: ["4 KiB", "2 MiB", "1 GiB"]})
    alone = [simulate(scenario().replace(BACKING, size)).verdict_time_s for size in ("4 KiB", "2 MiB", "1 GiB")]
    assert swept["verdict_time_s"].values.tolist() == alone


def test_what_is_derived_for_small_pages_is_refused():
    with pytest.raises(ScenarioError, match=r"backing"):
        Inputs.of(scenario().replace(BACKING, "2 MiB"))


# ---------------------------------------------------------------- where a call ends


@ENGINES
def test_a_call_has_65_host_pages(engine):
    """2 MiB at 10 Gbit/s take 1.7 ms: the clock is read after host page 1 and then after number 65."""
    turns = simulate(scenario().replace(BACKING, "2 MiB"), engine).timeline
    assert turns["ram_pages"].iloc[:10].tolist() == [65 * 512] * 10
    small = simulate(scenario(), engine).timeline
    assert small["ram_pages"].iloc[0] < 16_000


@ENGINES
def test_a_host_page_that_takes_51_ms_is_a_call(engine):
    turns = simulate(scenario().replace(BACKING, "1 GiB"), engine).timeline
    assert turns["ram_pages"].iloc[:2].tolist() == [1 << 18] * 2


@ENGINES
def test_the_budget_ends_a_call_only_where_a_host_page_ends(engine):
    """26 flushes of 32 pages a window and 16 a host page: after 8 windows, 13 host pages, they end together."""
    slow = scenario(migration={"max_bandwidth": "32 MiB/s"}).replace(BACKING, "2 MiB")
    turns = simulate(slow, engine).timeline
    assert turns["ram_pages"].iloc[:8].tolist() == [13 * 512] * 8
    assert np.diff(turns["time_s"].iloc[:8]) == pytest.approx(0.8, abs=0.01)
    assert np.allclose(turns["threshold_bytes"].iloc[1:8], 0.3 * 26 * 131_328 * 10, rtol=0.01)
    # up to 8.1 each page counts: 3272 pages a window never end with a host page
    early = simulate(scenario(qemu="8.1", migration={"max_bandwidth": "128 MiB/s"}).replace(BACKING, "2 MiB"), engine)
    assert early.timeline["ram_pages"].iloc[:5].tolist() == [65 * 512] * 5


def test_scattered_pages_are_sent_as_small_ones():
    """One dirty page in each host page: each ends one, and the clock is read after 64 of them, as without."""
    one = dict(large(64_000, [writes(0, 64_000, 0.0005)], downtime_limit_ms=0.5, time_limit_ns=3 * S), turn_ns=5 * MS)
    for host in (1, 16):
        assert kernels.run(to_parameters([one | {"host_pages": host}]), "bitmap").outcome[0] >= 0
    outputs = [kernels.run(to_parameters([one | {"host_pages": host}]), "bitmap") for host in (1, 16)]
    assert outputs[1].ram_pages_sent[0] == pytest.approx(outputs[0].ram_pages_sent[0], rel=0.01)


# ---------------------------------------------------------------- who is reached


@ENGINES
def test_serialized_a_hot_set_of_64_host_pages_is_drained_in_a_call(engine):
    """S < W < threshold starves the device with 4 KiB (docs/model.md, section 17)."""
    assert simulate(scenario(), engine).outcome == "initial_data_starved"
    assert simulate(scenario().replace(BACKING, "2 MiB"), engine).converged
    # 200 MiB are 100 host pages: two calls, so that none returns 1
    assert simulate(scenario("200 MiB").replace(BACKING, "2 MiB"), engine).outcome == "initial_data_starved"
    # and a host page of 1 GiB takes 51 ms by itself, which ends each call
    assert simulate(scenario().replace(BACKING, "1 GiB"), engine).outcome == "initial_data_starved"


@ENGINES
def test_a_low_limit_starves_no_device_behind_huge_pages(engine):
    """L > 1.96 M, unserialized: RAM uses up each window with 4 KiB, and sleeps in its call with 2 MiB."""
    slow = scenario("24 MiB", "10.0", migration={"max_bandwidth": "128 MiB/s"})
    starved = simulate(slow, engine)
    assert starved.outcome == "initial_data_starved"
    assert starved.cause == "device behind RAM"
    found = simulate(slow.replace(BACKING, "2 MiB"), engine)
    assert found.converged
    # a block of 1 MiB follows each call of RAM: 65 host pages in the first pass
    calls = found.timeline
    assert calls["vfio0_bytes"].iloc[0] == 1 << 20
    assert calls["time_s"].iloc[1] - calls["time_s"].iloc[0] == pytest.approx(130 / 128, abs=0.2)


@ENGINES
@pytest.mark.parametrize(("limit", "flushes"), [(96, 77), (112, 90), (120, 96), (128, 103), (140, 112), (256, 205)])
def test_windows_of_whole_host_pages_starve_it_all_the_same(limit, flushes, engine):
    """n flushes of 32 pages a window: with n a multiple of 16 every window ends with a host page of 2 MiB."""
    assert (limit << 20) // 10 // 131_328 + 1 == flushes
    slow = scenario("24 MiB", "10.0", migration={"max_bandwidth": f"{limit} MiB/s"}).replace(BACKING, "2 MiB")
    assert simulate(slow, engine).converged == (flushes % 16 != 0)


def test_a_device_that_did_not_starve_gets_less():
    fast = scenario("24 MiB", "10.0").replace("link.bandwidth", "200 MiB/s")
    first = [simulate(fast.replace(BACKING, size)).timeline.query("time_s < 5")["vfio0_bytes"].sum()
             for size in ("4 KiB", "2 MiB")]  # fmt: skip
    assert first[0] == 16 << 20
    assert 5 << 20 < first[1] < 9 << 20  # 5 s / 0.65 s


@ENGINES
def test_a_guest_alone_syncs_less_often_and_sends_more(engine):
    region = Region(size="256 MiB", start="512 MiB", write_rate="60 MB/s")
    alone = Scenario(guest=Guest(ram="1 GiB", regions=[region]), link=Link(bandwidth="1 GB/s"),
                     migration=Migration(max_bandwidth="128 MiB/s"))  # fmt: skip
    small, huge = (simulate(alone.replace(BACKING, size), engine) for size in ("4 KiB", "2 MiB"))
    assert huge.converged
    assert huge.numbers["sync_count"] <= small.numbers["sync_count"]
    assert huge.bytes_sent["ram"] > small.bytes_sent["ram"]


# ---------------------------------------------------------------- the expected engine


@pytest.mark.parametrize("host_pages", [16, 512, 4096])
@pytest.mark.parametrize("name", [name for name in LARGE if not name.startswith(("never", "one sequential"))])
def test_the_expected_engine_is_the_mean_of_the_bitmap_engine(name, host_pages):
    pages = -(-LARGE[name]["ram_pages"] // host_pages) * host_pages
    used = LARGE[name]["used_stop"]
    stop = pages if used == LARGE[name]["ram_pages"] else used
    found = distances(LARGE[name] | {"host_pages": host_pages, "ram_pages": pages, "used_stop": stop})
    assert max(found.values()) <= 1.0, found


def test_without_writes_the_engines_are_one():
    for k in range(20):
        c = random_huge_case(random.Random(f"idle {k}"))
        if c["jitter"] or (c["region_zero_share"] and max(c["region_zero_share"]) > 0) or c["idle_zero_share"] % 1 > 0:
            continue
        c["region_writes_per_s"] = [0.0] * c["region_count"]
        c["region_zero_share"] = [0.0] * c["region_count"]
        bitmap, mean = (kernels.run(to_parameters([c]), engine, stops_early=False) for engine in ("bitmap", "expected"))
        for name in ("total_ns", "bytes_sent", "ram_pages_sent", "ram_calls", "sync_count", "downtime_ns"):
            assert getattr(bitmap, name)[0] == getattr(mean, name)[0], (k, name)


# ---------------------------------------------------------------- post-copy


def switched(host_pages, **columns):
    c = large(98_304, [writes(20_000, 30_001, 1.5), writes(60_500, 10_000, 0.0002)], downtime_limit_ms=2.0,
              postcopy_ram=1, return_path=1, postcopy_ns=900 * MS, host_pages=host_pages, **columns)  # fmt: skip
    return c | {"lazy_clear": 0}


@pytest.mark.parametrize("columns", [{}, {"max_postcopy_bandwidth": 200_000_000}])
def test_post_copy_sends_whole_host_pages(columns):
    sent = {}
    for host in (1, 512, 4096):
        outputs = kernels.run(to_parameters([switched(host, **columns)] * 8), "bitmap", replicate=np.arange(8))
        mean = kernels.run(to_parameters([switched(host, **columns)]), "expected")
        assert (outputs.postcopy_bytes > 0).all()
        # under a limit the end comes with that of a call, which is long
        for name, error in (
            ("postcopy_bytes", 0.02),
            ("switchover_bytes", 0.1),
            ("postcopy_ns", 0.5 if columns else 0.03),
        ):
            assert getattr(mean, name)[0] == pytest.approx(getattr(outputs, name).mean(), rel=error), (host, name)
        sent[host] = mean
        if host > 1:
            pages = (outputs.postcopy_bytes // 4104) // host
            assert (outputs.postcopy_faults <= pages + 1).all()
    assert sent[1].postcopy_bytes[0] < sent[512].postcopy_bytes[0] < sent[4096].postcopy_bytes[0]
    assert sent[1].switchover_bytes[0] > sent[512].switchover_bytes[0] > sent[4096].switchover_bytes[0]
    assert sent[1].postcopy_faults[0] > 10 * sent[512].postcopy_faults[0] > 0


# ---------------------------------------------------------------- measured


def configured(name):
    recording = json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
    plan = {field: value for field, value in recording["config"]["plan"].items() if value is not None}
    return scenario_of_plan(Plan(**plan), recording["qemu"]["version"])


@pytest.fixture(scope="module")
def predicted():
    return {name: simulate(configured(name), engine="bitmap") for name in RUNS.index}


@pytest.mark.parametrize("name", RUNS.index)
def test_outcome_time_bytes_and_calls_are_those_of_the_recorded_run(name, predicted):
    found, run = predicted[name], RUNS.loc[name]
    assert run["backing"] == "2 MiB"
    assert found.converged == (run["outcome"] == "completed")
    calls = int(found.numbers["device_calls"][0])
    assert abs(calls - run["ram_calls"]) <= max(2, 0.05 * run["ram_calls"])
    if found.converged:
        assert found.total_time_s == pytest.approx(run["total_ms"] * 1e-3, rel=0.05)
        assert sum(found.bytes_sent.values()) == pytest.approx(run["transferred"], rel=0.05)
        assert found.numbers["sync_count"] == pytest.approx(run["sync_count"], abs=2)


def test_two_outcomes_are_those_of_huge_pages(predicted):
    """A device that 4 KiB starves: serialized with RAM above a call, unserialized under a low limit."""
    for name in ("H__busy__deb72__r0", "H__budget__deb100__r0"):
        assert RUNS.loc[name]["outcome"] == "completed"
        assert predicted[name].converged
        assert simulate(configured(name).replace(BACKING, "0 B"), "bitmap").outcome == "initial_data_starved"


def test_recorded_calls_that_end_with_the_budget_leave_the_device_out(predicted):
    """Windows of 6 host pages, from the third call to the end of the first pass: each ends a call, and the walk."""
    turns = predicted["H__low120__deb100__r0"].timeline
    alone = turns["vfio0_bytes"].isna()
    assert turns["ram_pages"][alone].unique().tolist() == [6 * 512]
    recording = json.loads(gzip.decompress((FOLDER / "H__low120__deb100__r0.json.gz").read_bytes()))
    sections = [[name for name, _, _ in row[3]] for row in recording["trace"]["iterations"]["rows"]]
    assert [len(each) == 1 for each in sections[:23]] == alone.iloc[:23].tolist()


def test_the_longest_recorded_calls_are_of_65_host_pages():
    for build in ("deb72", "deb100"):
        assert RUNS.loc[f"H__limit128__{build}__r0"]["ram_max_call_ms"] == pytest.approx(130 / 128 * 1e3, rel=0.03)
        assert RUNS.loc[f"H__link200__{build}__r0"]["ram_max_call_ms"] == pytest.approx(130 / 200 * 1e3, rel=0.1)


def test_post_copy_sent_what_whole_host_pages_are(predicted):
    for build in ("deb72", "deb100"):
        name = f"H__postcopy__{build}__r0"
        assert sum(predicted[name].bytes_sent.values()) == pytest.approx(RUNS.loc[name]["transferred"], rel=0.002)
