"""Cause, margin, sentence and remedy of a migration that does not complete: public reports, and random scenarios."""

import json
import math
import random
import re

import pytest
from typer.testing import CliRunner

import migkit
from migkit import Guest, HostCosts, Link, Migration, Region, Scenario, ScenarioError, Vfio, simulate
from migkit.analysis.remedy import WANTED
from migkit.cli import app
from migkit.results import Outcome
from migkit.run.cause import CAUSES, Margin, in_force
from migkit.scenario.scenario import as_scenario
from migkit.scenario.units import Bytes, Rate, Seconds

MIB, GIB = 1 << 20, 1 << 30
TLS = Guest(
    ram="192 GiB",
    zero_share=0.857,
    regions=[Region(size="24 GiB", start="4 GiB", write_rate="1500 MiB/s", pattern="sequential", phase=0)],
)


def case(guest, bandwidth, migration=None, devices=(), **fields):
    return Scenario(guest=guest, link=Link(bandwidth=bandwidth), devices=list(devices),
                    migration=Migration(**({"max_bandwidth": 0} | (migration or {}))), **fields)  # fmt: skip


def hot(size, rate, ram="16 GiB", **fields):
    return Guest(ram=ram, regions=[Region(size=size, write_rate=rate, **fields)])


# ---------------------------------------------------------------- public reports


@pytest.mark.parametrize(("gigabits", "carried"), [(5.27, 659e6), (8.33, 1041e6)])
def test_tls_streams_that_are_slower_than_the_guest(gigabits, carried):
    link = Link(bandwidth="22 Gbit/s", stream_bandwidth=f"{gigabits} Gbit/s")
    found = simulate(
        Scenario(guest=TLS, link=link, migration=Migration(max_bandwidth=0), qemu="8.2", time_limit="300 s")
    )
    assert not found.converged
    assert found.cause == "stream ceiling"
    assert found.margin.needed == pytest.approx(1500 * MIB, rel=0.01)
    assert found.margin.available == pytest.approx(carried, rel=0.01)


def test_a_link_above_the_thread_says_so():
    answers = []
    for bandwidth in ("20 Gbit/s", "100 Gbit/s", "400 Gbit/s"):
        found = simulate(case(hot("8 GiB", "2.1 GB/s", "64 GiB"), bandwidth))
        assert found.cause == "migration thread"
        assert "the link would carry" in found.sentence
        answers.append((found.outcome, found.margin))
    assert len(set(answers)) == 1
    assert simulate(case(hot("8 GiB", "1 GB/s"), "400 Gbit/s")).summary().count("limited by    thread, 1954 MB/s") == 1


def test_a_sync_in_every_window_is_the_cause_and_not_the_link():
    guest = Guest(ram="192 GiB", zero_share=0.977, regions=TLS.regions)
    costs = HostCosts(page="0.4 us", zero_page="0.15 us", bitmap_sync_per_gib="0.14 ms")
    found = simulate(case(guest, "17480 Mbit/s", costs=costs, qemu="8.2"))
    assert found.cause == "sync cost"
    assert found.margin.needed == pytest.approx(1500 * MIB, rel=0.01)
    assert found.margin.available < found.margin.needed < 2185e6
    free = simulate(case(guest, "17480 Mbit/s", qemu="8.2",
                         costs=HostCosts(page="0.4 us", zero_page="0.15 us", bitmap_sync_per_gib="0 s")))  # fmt: skip
    assert free.converged


def test_syncs_that_no_longer_downtime_limit_makes_up_for_are_the_cause():
    # 1 TiB: a sync takes 143 ms, the thread sends a little more than is written, and it takes seconds to catch up
    regions = [
        Region(size="200 GiB", write_rate="1.2 GB/s"),
        Region(size="16 GiB", start="400 GiB", write_rate="600 MB/s"),
    ]
    found = simulate(case(Guest(ram="1 TiB", regions=regions), "25 Gbit/s", {"downtime_limit": "1 s"}, qemu="8.2"))
    assert found.cause == "sync cost"
    assert (found.margin.needed, found.margin.available) == (
        found.numbers["pending_bytes"], found.numbers["threshold_bytes"])  # fmt: skip
    read_sentence(found)
    assert not simulate(found.scenario.replace("migration.downtime_limit", "8 s")).converged
    assert simulate(found.scenario.replace("costs.bitmap_sync_per_gib", "0 s")).converged


def test_dirty_data_of_devices_is_no_ram():
    cards = [Vfio(count=8, initial_bytes="8 MiB", dirty_rate="50 MB/s", dirty_max="64 MiB")]
    found = simulate(case(hot("2 GiB", "200 MB/s", "8 GiB"), "4 Gbit/s", devices=cards, qemu="9.0"))
    assert found.cause == "link"
    assert found.sentence.startswith("RAM and the devices are written faster than the link can take it: ")
    assert "MB/s of pages and device data become dirty" in found.sentence
    assert found.margin.needed == pytest.approx(600e6, rel=0.03)


def test_without_switchover_ack_no_acknowledgement_is_missed():
    devices = [Vfio(count=8, initial_bytes="64 MiB", stop_copy_bytes="2 MiB")]
    found = simulate(case(hot("300 MiB", "4 GB/s"), "25 Gbit/s", devices=devices, qemu="8.2"))
    assert found.cause == "device behind RAM"
    assert "acknowledge" not in found.sentence
    assert found.margin == (64 * MIB, 3 * MIB, "B")


@pytest.mark.parametrize("qemu", ["7.2", "8.2", "9.0", "10.0", "11.1"])
def test_a_throttled_guest_above_the_link_is_that_in_every_version(qemu):
    guest = hot("3000 MiB", "40 GB/s", "4 GiB")
    found = simulate(case(guest, "199 MB/s", {"auto_converge": True, "downtime_limit": "500 ms"}, qemu=qemu,
                          time_limit="24 h"))  # fmt: skip
    assert found.outcome == "ram_above_link"
    assert found.verdict_time_s < 1000
    assert found.cause == "link"
    assert "throttled to 99 %" in found.sentence


def test_what_a_device_sends_after_the_stop_is_not_what_is_pending():
    devices = [Vfio(initial_bytes="8 MiB", stop_copy_bytes="380 MB")]
    acknowledged = {"switchover_ack": True, "return_path": True}
    found = simulate(case(hot("2 GiB", "900 MB/s", "8 GiB"), "10 Gbit/s", acknowledged, devices, qemu="9.0"))
    assert found.cause == "stop-copy"
    assert found.margin.needed == 380e6
    assert found.margin.available < 375.5e6
    assert "vfio0 must send while the VM is stopped, 362 MiB" in found.sentence


def test_a_limit_that_is_too_short_is_the_cause_and_not_the_write_rate():
    found = simulate(case(hot("4 GiB", "800 MB/s"), "10 Gbit/s", {"downtime_limit": "3 ms"},
                          costs=HostCosts(bitmap_sync_per_gib="0.14 ms")))  # fmt: skip
    assert found.cause == "downtime limit"
    assert "801.3 MB/s of pages become dirty" in found.sentence
    assert "the link carries 1250 MB/s" in found.sentence


def test_zero_pages_keep_to_max_bandwidth():
    found = simulate(Scenario(guest=Guest(ram="4 GiB", zero_share=1.0), link=Link(bandwidth="10 Gbit/s"),
                              migration=Migration(max_bandwidth="100 kB/s"), qemu="9.0"))  # fmt: skip
    assert found.converged
    assert found.numbers["bytes_sent"] / found.total_time_s < 1.1 * 100e3 * 4  # in windows of at least 32 KiB


def test_a_slow_acknowledgement_of_a_quiet_guest():
    devices = [Vfio(initial_bytes="200 MB", stop_copy_bytes="100 MB", load_time="1480 ms")]
    acknowledged = {"switchover_ack": True, "return_path": True}
    found = simulate(case(Guest(ram="4 GiB"), "10 Gbit/s", acknowledged, devices, qemu="9.0"))
    assert found.cause == "acknowledgement"
    assert found.margin.needed == 100e6
    assert found.margin.available < 100e6
    assert migkit.remedy(found.scenario).least.path == "migration.avail_switchover_bandwidth"


@pytest.mark.parametrize("load_s", [0.0, 0.5, 1.48])
def test_what_is_not_loaded_at_the_switchover_is_in_the_downtime(load_s):
    devices = [Vfio(initial_bytes="200 MB", stop_copy_bytes="100 MB", load_time=Seconds(load_s))]
    scenario = case(Guest(ram="4 GiB"), "10 Gbit/s", {"return_path": True}, devices, qemu="8.2")
    found, without = simulate(scenario), simulate(scenario.replace("devices.0.load_time", "0 s"))
    assert found.converged
    assert found.downtime_s - without.downtime_s == pytest.approx(load_s, abs=0.001)
    if load_s > 0:
        assert "destination took" in found.sentence


def test_pages_that_are_tracked_in_units_of_16_mib():
    dirtied = 39044 * 4096
    guest = Guest(
        ram="8 GiB", tracking="16 MiB", regions=[Region(size="512 MiB", write_rate=f"{dirtied / 4096:.0f} B/s")]
    )
    found = simulate(case(guest, "867 Mbit/s", time_limit="131 s"))
    assert found.cause == "link"
    assert found.margin.needed == pytest.approx(dirtied, rel=0.05)
    assert found.margin.available == 867e6 / 8


def test_rates_that_change():
    guest = Guest(ram="4 GiB", regions=[Region(size="1 GiB", rates=[("5 s", "10 MB/s"), ("10 min", "3 GB/s")])])
    found = simulate(case(guest, "10 Gbit/s", {"downtime_limit": "100 ms"}, time_limit="60 s"))
    if found.converged:  # before the rate rises
        assert found.total_time_s < 5.5
    slow = simulate(case(guest, "2 Gbit/s", {"downtime_limit": "100 ms"}, time_limit="60 s"))
    assert slow.cause == "link"
    assert {each.path for each in migkit.remedy(slow.scenario).found} >= {"guest.regions", "link.bandwidth"}


def test_steps_of_the_downtime_limit():
    guest = hot("512 MiB", "155 MB/s", "4 GiB")
    found = migkit.remedy(case(guest, "1 Gbit/s", {"downtime_limit": "714 ms"}))
    (longer,) = [each for each in found.found if each.path == "migration.downtime_limit"]
    steps = [0.714 + 0.612 * k for k in range(8)]
    first = next(k for k, step in enumerate(steps) if step >= longer.after)
    for k in (first - 1, first):
        fits = simulate(found.scenario.replace("migration.downtime_limit", f"{steps[k] * 1000:.0f} ms"))
        assert fits.converged == (k == first)


def test_a_downtime_above_its_limit_says_why():
    devices = [Vfio(initial_bytes="8 MiB", stop_copy_bytes="300 MB")]
    found = simulate(case(Guest(ram="1 GiB"), "10 Gbit/s", devices=devices))
    assert found.converged
    assert found.downtime_s > 0.3
    assert found.cause is None
    assert found.margin == (found.downtime_s, 0.3, "s")
    assert "above the limit of 300 ms" in found.sentence
    assert "devices took" in found.sentence


def test_a_time_limit_says_when_it_would_complete():
    found = simulate(case(Guest(ram="8 GiB"), "1 Gbit/s", time_limit="10 s"))
    assert found.cause == "time limit"
    longer = simulate(found.scenario.replace("time_limit", "10 min"))
    assert found.margin == (longer.total_time_s, pytest.approx(10, abs=0.2), "s")


def test_limits_in_force_are_allowed_ones():
    # Proxmox VE doubles the limit; a double of milliseconds is a little above the largest that is allowed
    scenario = case(hot("1 GiB", "1 GB/s"), "1 Gbit/s", management="proxmox")
    numbers = dict(simulate(scenario).numbers) | {"final_downtime_limit_s": 2000.0000000000002}
    assert in_force(scenario, numbers).migration.downtime_limit == 2000


def test_what_is_needed_never_reads_like_what_there_is():
    cards = [Vfio(initial_bytes="1 MiB", stop_copy_bytes="37.5 MB")]
    scenario = case(Guest(ram="1 GiB"), "1 Gbit/s", {"downtime_limit": "300 ms"}, cards, qemu="9.0")
    fits = simulate(scenario.replace("devices.0.stop_copy_bytes", "38 MB")).numbers["threshold_bytes"]
    found = simulate(scenario.replace("devices.0.stop_copy_bytes", f"{fits + 100} B"))
    assert found.cause == "stop-copy"
    assert str(found.margin).startswith("a little more than 35.")
    read_sentence(found)


# ---------------------------------------------------------------- random scenarios


def some_scenario(draw):
    def of(*values):
        return draw.choice(values)

    def about(low, high):
        return math.exp(draw.uniform(math.log(low), math.log(high)))

    ram = round(about(256 * MIB, 32 * GIB) / MIB) * MIB
    regions, start = [], 0
    for _ in range(draw.randint(0, 2)):
        size = max(MIB, round(about(MIB, ram / 3) / MIB) * MIB)
        phase, pattern = draw.random(), of("uniform", "sequential")
        regions.append({"size": Bytes(size), "start": Bytes(start), "write_rate": Rate(about(1e6, 2e10)),
                        "phase": phase if pattern == "sequential" else None, "pattern": pattern,
                        "vcpu_share": of(1.0, 0.3)})  # fmt: skip
        start += size
    devices = [
        {"kind": "vfio", "initial_bytes": Bytes(about(1e5, 1e9)), "stop_copy_bytes": Bytes(about(1e3, 5e8)),
         "load_time": Seconds(about(1e-4, 3)), "count": draw.randint(1, 3)}
        for _ in range(draw.randint(0, 2))
    ]  # fmt: skip
    acknowledged = of(True, False)
    return as_scenario({
        "guest": {"ram": Bytes(ram), "regions": regions, "zero_share": of(0.0, 0.5)},
        "devices": devices,
        "link": {"bandwidth": Rate(about(1e7, 5e10)), "stream_bandwidth": Rate(of(0.0, about(1e8, 1e10)))},
        "migration": {
            "max_bandwidth": Rate(of(0.0, about(1e6, 1e9))), "downtime_limit": Seconds(about(1e-3, 5)),
            "auto_converge": of(True, False), "switchover_ack": acknowledged, "return_path": acknowledged,
        },
        "costs": {"bitmap_sync_per_gib": Seconds(about(1e-6, 1e-2)), "page": Seconds(about(1e-7, 1e-5))},
        "qemu": of("8.2", "9.0", "10.0", "11.1"),
        "time_limit": Seconds(about(10, 20_000)),
    })  # fmt: skip


SIZE = r"[\d.]+ (?:[KMGT]i)?B\b(?!/s)"
WORDS = {
    "link": r"faster than the link can take it",
    "stream ceiling": r"faster than (?:one stream|the streams of all channels) can take it",
    "migration thread": r"faster than the (?:migration thread|threads of multifd) can take it",
    "max-bandwidth": r"faster than max-bandwidth can take it",
    "sync cost": r"(?:A bitmap sync takes|Bitmap syncs of)",
    "downtime limit": r"The downtime limit is too short for what is written",
    "stop-copy": r"The downtime limit is too short for what .* must send while the VM is stopped",
    "device behind RAM": r"initial data was",
    "acknowledgement": r"(?:acknowledgement of|had not acknowledged)",
    "time limit": r"The time limit was reached",
    "cancelled": r"Cancelled",
}


def read_sentence(found):
    """Hold a sentence against the numbers of its migration."""
    sentence, numbers = found.sentence, found.numbers
    scenario = in_force(found.scenario, numbers)  # what it is about: the limits in the end
    assert sentence.endswith(".")
    assert "nan" not in sentence.lower().split()
    assert "\n" not in sentence
    if found.converged:
        assert found.cause is None
        assert sentence.startswith("Completed in ")
        above = found.downtime_s > float(scenario.migration.downtime_limit)
        above = above and math.isnan(numbers["postcopy_time_s"])
        assert ("above the limit" in sentence) == above == (found.margin is not None)
        return
    assert found.cause in CAUSES
    assert re.search(WORDS[found.cause], sentence) or sentence.startswith("Cancelled"), (found.cause, sentence)
    if sentence.startswith("Cancelled"):  # and why it would not complete with its last limits, in a second sentence
        return
    others = [cause for cause, words in WORDS.items() if cause != found.cause and re.match(words, sentence)]
    assert not others, (found.cause, sentence)
    margin = found.margin
    assert margin.needed > margin.available or math.isnan(margin.needed), (margin, sentence)
    for value in (margin.needed, margin.available):
        if margin.unit in ("B", "B/s") and value > 0 and found.cause != "device behind RAM":
            text = str(margin).split(" needed")[0] if value == margin.needed else str(margin).split(", ")[1]
            assert text.removesuffix(" available") in sentence, (margin, sentence)
    if found.cause in ("link", "stream ceiling", "migration thread", "max-bandwidth"):
        limits = {"stream ceiling": "stream", "migration thread": "thread"}
        assert margin.available == scenario.wire_limits()[limits.get(found.cause, found.cause)]
        assert margin.available == min(scenario.wire_limits().values())
        assert numbers["pending_bytes"] > numbers["threshold_bytes"]
    if found.cause == "downtime limit":
        assert (margin.needed, margin.available) == (numbers["pending_bytes"], numbers["threshold_bytes"])
    if found.cause == "stop-copy":
        assert found.outcome is Outcome.STOP_COPY_ABOVE_THRESHOLD
        assert margin.available == numbers["threshold_bytes"]
    if "acknowledge" in sentence:
        assert scenario.migration.switchover_ack
    if found.cause == "device behind RAM":
        assert found.outcome is Outcome.INITIAL_DATA_STARVED
        assert found.labels[numbers["culprit"]] in sentence
    assert len(re.findall(SIZE, sentence)) <= 4


@pytest.mark.parametrize("seed", range(12))
def test_sentence_cause_margin_and_numbers_agree(seed):
    draw = random.Random(seed)
    for _ in range(10):
        read_sentence(simulate(some_scenario(draw)))


def unusual(scenario, draw):
    """The same with some of what few guests have."""
    values = {}

    def about(low, high):
        return math.exp(draw.uniform(math.log(low), math.log(high)))

    def some(share, **given):
        if draw.random() < share:
            values.update({name.replace("__", "."): value for name, value in given.items()})

    some(0.4, migration__multifd=True, migration__multifd_channels=draw.randint(1, 16))
    some(0.3, guest__tracking=draw.choice(["64 KiB", "1 MiB"]))
    some(0.2, guest__page_size=draw.choice(["16 KiB", "64 KiB"]))
    hot = sum(region.size for region in scenario.guest.regions)
    some(0.3, guest__used=Bytes(hot + (scenario.guest.ram - hot) // 4 // MIB * MIB + MIB),
         guest__used_at=draw.choice(["spread", "start", "end"]))  # fmt: skip
    for index in range(len(scenario.guest.regions)):
        rates = [(Seconds(about(0.1, 60)), Rate(about(1e6, 1e10))) for _ in range(draw.randint(2, 3))]
        if draw.random() < 0.3:
            region = f"guest.regions.{index}."
            values |= {f"{region}rates": rates, f"{region}write_rate": 0, f"{region}periodic": draw.random() < 0.6}
    for index in range(len(scenario.devices)):
        dirty = {"dirty_rate": Rate(about(1e5, 5e8)), "dirty_max": Bytes(int(about(1e5, 5e8)))}
        if draw.random() < 0.5:
            values |= {f"devices.{index}.{name}": value for name, value in dirty.items()}
    some(0.05, costs__jitter=0.1)
    some(0.15, management=draw.choice(["nova", "kubevirt", "ovirt", "proxmox"]))
    some(0.2, changes=[{"at": Seconds(about(0.1, 30)), "max_bandwidth": Rate(about(1e6, 1e9))}])
    some(0.2, migration__avail_switchover_bandwidth=Rate(about(1e6, 1e10)))
    if not scenario.devices and not values.get("migration.multifd"):
        some(0.3, migration__postcopy_ram=True, migration__postcopy_at=Seconds(about(0.1, 300)))
    return scenario.replace_all(values)


@pytest.mark.parametrize("seed", range(6))
def test_they_agree_for_unusual_guests_too(seed):
    draw = random.Random(500 + seed)
    for _ in range(10):
        read_sentence(simulate(unusual(some_scenario(draw), draw)))


# ---------------------------------------------------------------- remedies


@pytest.mark.parametrize("seed", range(3))
def test_a_remedy_converges_and_half_of_it_does_not(seed):
    draw = random.Random(1000 + seed)
    tried = 0
    while tried < 2:
        scenario = some_scenario(draw)
        if simulate(scenario).converged:
            continue
        tried += 1
        found = migkit.remedy(scenario)
        assert {each.path for each in found.found}.isdisjoint(found.not_enough)
        assert [each.factor for each in found.found] == sorted(each.factor for each in found.found)
        for each in found.found:
            assert each.completed >= WANTED
            if each.path == "guest.regions":
                continue
            after = simulate(scenario.replace(each.path, each.after))
            assert after.converged, each
            assert (after.total_time_s, after.downtime_s) == pytest.approx((each.total_time_s, each.downtime_s))
            if (
                isinstance(each.after, float)
                and each.path != "migration.avail_switchover_bandwidth"
                and each.factor > 1.05
            ):
                less = type(each.after)(float(each.after) * 0.985)
                assert not simulate(scenario.replace(each.path, less)).converged, each
        assert found.sentence.endswith(".")


def test_of_what_is_drawn_enough_replicates_must_complete():
    guest = hot("512 MiB", "1.3 GB/s", "2 GiB", pattern="sequential")
    found = migkit.remedy(case(guest, "10 Gbit/s"))
    assert all(each.completed >= WANTED for each in found.found)


def test_what_converges_needs_no_remedy():
    with pytest.raises(ScenarioError, match="scenario converges as it is, in"):
        migkit.remedy(case(Guest(ram="1 GiB"), "10 Gbit/s"))


def test_the_command_line_says_cause_and_remedy(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(case(hot("4 GiB", "2 GB/s", "8 GiB"), "10 Gbit/s").to_toml())
    done = CliRunner().invoke(app, ["run", str(path)])
    assert "cause         link: 18" in done.output
    assert "The least change that makes it converge: " in done.output
    table = json.loads(CliRunner().invoke(app, ["run", str(path), "--json"]).output)
    assert table["cause"] == "link"
    assert table["margin"]["unit"] == "B/s"
    assert table["remedy"]["found"][0]["completed"] == 1.0


# ---------------------------------------------------------------- a guest with devices behind a slow stream


FOUR = Scenario(
    guest=hot("8 GiB", "1.5 GB/s", "64 GiB", pattern="sequential"),
    devices=[Vfio(count=4, initial_bytes="1 GiB", stop_copy_bytes="200 MB")],
    link=Link(bandwidth="25 Gbit/s", stream_bandwidth="6 Gbit/s"),
    migration=Migration(max_bandwidth=0, switchover_ack=True, return_path=True),
)


def test_stop_copy_says_that_ram_does_not_fit_either():
    assert simulate(FOUR).sentence.endswith(
        "; RAM is not sent within it either: 1503 MB/s of pages become dirty, one stream carries 750 MB/s."
    )
    quiet = FOUR.replace("guest.regions.0.write_rate", "100 MB/s")
    assert simulate(quiet).cause == "stop-copy"
    assert "either" not in simulate(quiet).sentence


def test_a_margin_whose_numbers_read_the_same_says_that_they_are_not():
    assert str(Margin(639.21e6, 639.18e6, "B/s")) == "a little more than 639.2 MB/s needed, 639.2 MB/s available"
    assert str(Margin(2e6, 1e6, "B/s")) == "2 MB/s needed, 1 MB/s available"


def test_a_time_limit_within_the_setup_tells_no_sizes():
    found = simulate(FOUR.replace("time_limit", "1 ms"))
    assert (found.cause, found.sentence) == (
        "time limit", "The time limit was reached after 2 ms and 1 sync, before the first iteration.")  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"migration.downtime_limit": "0 s"}, "the loop stops the VM when nothing is known to be dirty"),
        (
            {"migration.avail_switchover_bandwidth": "10 Gbit/s", "migration.downtime_limit": "1 s"},
            "is counted with an avail-switchover-bandwidth of 1250 MB/s, while one stream carries 750 MB/s",
        ),
    ],
)
def test_a_downtime_above_its_limit_has_its_reason(change, said):
    found = simulate(FOUR.replace(change).replace("guest.regions.0.write_rate", "100 MB/s"))
    assert found.converged
    assert said in found.sentence


def test_no_more_is_simulated_than_the_search_of_a_remedy_needs(monkeypatch):
    from migkit.kernels import drivers

    counted, real = [0], drivers.run

    def counting(rows, *given, **named):
        out = real(rows, *given, **named)
        counted[0] += int((out.migrations["outcome"] != 0).sum())
        return out

    monkeypatch.setattr(drivers, "run", counting)
    found = migkit.remedy(FOUR)
    assert len(found.found) == 1
    assert counted[0] <= 3 * 10 * len(found.not_enough + found.found), "of 20 replicates 2 to 6 tell that it fails"


def test_a_remedy_in_json_has_no_factor_of_a_switch_and_no_noise():
    hot = Guest(ram="8 GiB", regions=[Region(size="1 GiB", write_rate="4 GB/s")])
    found = migkit.remedy(Scenario(guest=hot, link=Link(bandwidth="10 Gbit/s")))
    assert repr(found) == f"<Remedies: {found.sentence}>"
    told = {each["path"]: each for each in found.to_dict()["found"]}
    assert told["migration.auto_converge"]["factor"] is None
    assert told["migration.downtime_limit"]["factor"] > 1
    for each in told.values():
        assert len(repr(each["total_time_s"]).partition(".")[2]) <= 9


def test_what_is_needed_may_not_be_known():
    assert str(Margin(math.nan, 1800.0, "s")) == "1800 s available; what is needed is not known"


def test_counts_and_rates_of_the_summary():
    wide = Scenario(guest=Guest(ram="64 MiB"), link=Link(bandwidth="100 Gbit/s"), migration=Migration(max_bandwidth=0))
    found = simulate(wide)
    said = found.summary()
    assert "link 12.5 GB/s" in said
    assert found.iterations == found.sync_count == 1 or "1 iterations" not in said
    assert "1 iteration, " in simulate(wide.replace("guest.zero_share", 1.0)).summary()
    table = found.to_dict()
    assert table["total_time_s"] == round(found.total_time_s, 9)
    late = simulate(
        wide.replace(changes=[{"at": "300 us", "downtime_limit": "300 ms"}], **{"link.bandwidth": "1 Gbit/s"})
    )
    assert [change["value"] for change in late.to_dict()["changes"]] == [0.3]
