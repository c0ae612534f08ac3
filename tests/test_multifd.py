"""RAM on channels of its own: closed forms, the edges of the fields, and the measured runs of group M."""

import numpy as np
import pytest
from cases import MS, RAM, S, case, device
from rows import kernels, to_parameters

import migkit
from migkit import Guest, HostCosts, Link, Migration, Region, Scenario, ScenarioError, Vfio
from migkit.kernels.drivers import run
from migkit.qemu.predict import scenario_of
from migkit.qemu.traces import runs, table
from migkit.qemu.validation import predictions
from migkit.run.design import Sweep
from migkit.scenario.rows import records
from migkit.scenario.versions import PROFILES

GIB = 2**30
PACKET, HEADER = 525_632, 1344
"""Bytes of a full packet, and of one without pages, for pages of 4 KiB."""


def scenario(**fields):
    link = {"bandwidth": "100 Gbit/s", "rtt": "0 s"} | fields.pop("link", {})
    migration = {"max_bandwidth": 0, "multifd": True} | fields.pop("migration", {})
    costs = {"multifd_page": "0.1 us", "channel_page": "0.5 us"} | fields.pop("costs", {})
    guest = {"ram": "4 GiB", "accel": "tcg"} | fields.pop("guest", {})
    return Scenario(
        guest=Guest(**guest), link=Link(**link), migration=Migration(**migration), costs=HostCosts(**costs), **fields
    )


def rate_of(given, engine="expected"):
    """Bytes/s of the pages, with a header each, of a guest that writes nothing."""
    found = migkit.simulate(given, engine)
    assert found.outcome.name == "COMPLETED"
    pages = given.guest.ram // given.guest.page_size
    return pages * (given.guest.page_size + 8) / (found.total_time_s - float(given.costs.setup))


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
def test_channels_carry_as_many_times_the_ceiling_of_a_stream(channels):
    given = scenario(link={"stream_bandwidth": "600 MB/s"}, migration={"multifd_channels": channels})
    assert given.binds == "stream"
    assert rate_of(given) == pytest.approx(channels * 600e6, rel=0.01)


@pytest.mark.parametrize(
    ("binds", "expected", "fields"),
    [
        ("link", 1.25e9, {"link": {"bandwidth": "10 Gbit/s", "stream_bandwidth": "600 MB/s"}}),
        ("thread", 4104 / 0.4e-6, {"costs": {"multifd_page": "0.4 us"}}),
        ("thread", 4 * 4104 / 3e-6, {"costs": {"channel_page": "3 us"}}),
    ],
)
def test_the_link_or_a_thread_binds_where_the_streams_carry_more(binds, expected, fields):
    given = scenario(**fields, migration={"multifd_channels": 4})
    assert given.binds == binds
    assert given.wire_limits()[binds] == pytest.approx(expected)
    assert rate_of(given) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("limit", ["0 B/s", "512 MiB/s"])
def test_one_channel_is_nearly_one_stream(limit):
    one = scenario(
        link={"bandwidth": "10 Gbit/s"},
        migration={"multifd_channels": 1, "max_bandwidth": limit},
        guest={"regions": [Region(size="512 MiB", write_rate="200 MB/s")]},
        costs={"page": "0.5 us"},
    )
    single = migkit.simulate(one.replace("migration.multifd", False))
    assert migkit.simulate(one).total_time_s == pytest.approx(single.total_time_s, rel=0.03)


def test_more_channels_make_a_guest_converge_that_one_stream_does_not():
    hot = scenario(
        link={"stream_bandwidth": "600 MB/s"},
        guest={"regions": [Region(size="2 GiB", write_rate="900 MB/s")]},
        migration={"multifd_channels": 4},
    )
    alone = migkit.simulate(hot.replace("migration.multifd", False))
    assert (alone.outcome.name, alone.explanation.cause) == ("RAM_ABOVE_LINK", "stream ceiling")
    assert migkit.simulate(hot).outcome.name == "COMPLETED"
    two = migkit.simulate(hot.replace("migration.multifd_channels", 1))
    assert two.explanation.cause == "stream ceiling"
    assert "the streams of all channels carry 600 MB/s" in two.explanation.sentence


def test_bytes_are_those_of_the_packets():
    """64 a channel, 1344 a packet, 4096 a page; SYNCs of setup, of the search that ends in vain, one more up to 9.2."""
    given = scenario(migration={"multifd_channels": 3, "downtime_limit": "1 s"}, link={"bandwidth": "10 Gbit/s"})
    pages = 4 * GIB // 4096
    for qemu, syncs in (("8.2", 3), ("9.2", 3), ("10.0", 2), ("11.1", 2)):
        found = migkit.simulate(given.replace("qemu", qemu), "bitmap")
        sent = 64 * 3 + HEADER * (pages // 128 + 3 * syncs) + 4096 * pages + 8 * syncs
        assert found.numbers["bytes_sent"] == sent + 18 * found.numbers["device_calls"][0], qemu


def test_a_window_carries_what_channels_had_not_written_when_it_closed():
    """W = (n + a) P + 18 with n the first packet above the budget and a up to the number of channels."""
    budget = 128 * 2**20 // 10
    packets = budget // PACKET + 1
    for channels in (1, 2, 4):
        given = scenario(
            qemu="10.0", migration={"multifd_channels": channels, "max_bandwidth": "128 MiB/s"},
            costs={"multifd_page": "1 us", "channel_page": f"{2 * channels} us", "wakeup": "0 s"},
        )  # fmt: skip
        timeline = migkit.simulate(given, "bitmap").timeline
        threshold = timeline["threshold_bytes"].iloc[5]
        assert threshold == int(((packets + channels) * PACKET + 18) / 100 * 300), channels


def test_a_section_counts_when_it_is_handed_over_up_to_8_0():
    budget = 128 * 2**20 // 10
    given = scenario(qemu="8.0", migration={"multifd_channels": 4, "max_bandwidth": "128 MiB/s"})
    timeline = migkit.simulate(given, "bitmap").timeline
    sent = (budget // PACKET + 1) * PACKET + 4 * HEADER + 18  # each call ends with a SYNC
    assert timeline["threshold_bytes"].iloc[5] == int(sent / 100 * 300)


@pytest.mark.parametrize(("qemu", "per_page"), [("8.2", 9.0), ("9.0", 10.5), ("11.1", 10.5)])
def test_zero_pages_are_slots_of_a_packet_from_9_0_on(qemu, per_page):
    given = scenario(qemu=qemu, guest={"ram": "1 GiB", "zero_share": 1.0}, migration={"multifd_channels": 2})
    found = migkit.simulate(given)
    assert found.numbers["bytes_sent"] == pytest.approx(per_page * GIB / 4096, rel=0.01)
    pages = GIB // 4096
    cost = {"8.2": float(given.costs.zero_page)}.get(qemu, max(1e-7, float(given.costs.zero_page) / 2))
    assert found.total_time_s == pytest.approx(pages * cost, rel=0.2)


def test_vfio_data_of_pre_copy_stays_on_the_main_stream():
    given = scenario(
        link={"stream_bandwidth": "500 MB/s"},
        migration={"multifd_channels": 8, "switchover_ack": True, "return_path": True},
        devices=[Vfio(initial_bytes="1 GiB", read_rate="100 GB/s")],
    )  # fmt: skip
    sent = migkit.simulate(given).numbers["device_initial_sent_s"][1]
    assert sent > GIB / 500e6


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_engines_are_one_where_nothing_is_drawn(engine):
    for k, profile in enumerate(("7.2", "8.1", "8.2", "9.0", "10.0", "11.1")):
        c = case(
            profile, devices=[device(RAM)], ram_pages=5000, multifd_channels=1 + k, multifd_page_ns=1500.0,
            channel_page_ns=4000.0, channels_ns_per_byte=1.7, link_ns_per_byte=1.7 * (1 + k % 2),
            max_bandwidth=20_000_000 * (k % 3), page_size=16384, time_limit_ns=60 * S, sync_ns=MS,
        )  # fmt: skip
        found = [kernels.run(to_parameters([c]), each) for each in ("bitmap", engine)]
        for one, other in zip(*found, strict=True):
            np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------- the fields


@pytest.mark.parametrize(
    ("migration", "sentence"),
    [
        ({"multifd_channels": 0}, "multifd_channels = 0 is outside the allowed range: it must be from 1 to 255"),
        ({"multifd_channels": 256}, "multifd_channels = 256 is outside the allowed range"),
        ({"multifd_channels": "four"}, 'multifd_channels = "four"'),
        ({"multifd_channels": 2.5}, "multifd_channels = 2.5"),
        ({"multifd": 3}, "multifd = 3"),
    ],
)
def test_what_is_no_number_of_channels(migration, sentence):
    with pytest.raises(ScenarioError, match=sentence.replace(".", r"\.")):
        scenario(migration=migration)


def test_most_channels_with_the_smallest_and_the_largest_pages():
    for page in ("512 B", "64 KiB"):
        given = scenario(guest={"page_size": page, "ram": "1 GiB"}, migration={"multifd_channels": 255})
        assert migkit.simulate(given).outcome.name == "COMPLETED"


@pytest.mark.parametrize("qemu", PROFILES)
def test_every_version_has_multifd_and_some_allow_post_copy_beside_it(qemu):
    assert migkit.simulate(scenario(qemu=qemu)).outcome.name == "COMPLETED"
    fields = {"postcopy_ram": True, "postcopy_at": "0.1 s"}
    hot = {"regions": [Region(size="3 GiB", write_rate="5 GB/s")]}
    if not PROFILES[qemu].supports_multifd_postcopy:
        with pytest.raises(ScenarioError, match=r"migration\.multifd = True cannot be on together with"):
            scenario(qemu=qemu, migration=fields)
        return
    slow = {"bandwidth": "10 Gbit/s"}
    found = migkit.simulate(scenario(qemu=qemu, migration=fields, guest=hot, link=slow))
    assert found.numbers["postcopy_time_s"] > 0


def test_a_disk_goes_before_the_channels_have_anything_to_do():
    given = scenario(qemu="8.2", devices=[migkit.Block(size="64 MiB")], link={"bandwidth": "1 GB/s"})
    found = migkit.simulate(given)
    assert found.outcome.name == "COMPLETED"
    assert found.numbers["device_bytes"][0] == 64 * 2**20


def test_without_the_capability_the_number_of_channels_means_nothing():
    off = scenario(migration={"multifd": False})
    given = records([off, off.replace("migration.multifd_channels", 9)])
    assert given.cases["multifd_channels"].tolist() == [0, 0]
    found = run(given)
    assert found.migrations[0] == found.migrations[1]


def test_a_batch_of_all_numbers_of_channels_is_what_each_is_alone():
    axes = {"migration.multifd": [False, True], "migration.multifd_channels": [1, 2, 7, 31]}
    base = scenario(guest={"regions": [Region(size="1 GiB", write_rate="500 MB/s")]}, link={"bandwidth": "25 Gbit/s"})
    ds = migkit.sweep(base, axes)
    for channels in axes["migration.multifd_channels"]:
        at = {"migration.multifd": True, "migration.multifd_channels": channels}
        alone = migkit.simulate(base.replace(at))
        assert float(ds["total_time_s"].sel(at)) == alone.total_time_s


def test_older_descriptions_keep_their_digests():
    off = Sweep(scenario=scenario(migration={"multifd": False}, costs={}), axes={"link.rtt": ["1 ms", "2 ms"]})
    assert "multifd" not in off.scenario.migration.model_dump_json(exclude_defaults=True)
    on = Sweep(scenario=scenario(costs={}), axes={"link.rtt": ["1 ms", "2 ms"]})
    assert off.sha256 != on.sha256


# ---------------------------------------------------------------- measured runs


@pytest.fixture(scope="module")
def measured():
    found = predictions()
    return found[found["group"] == "M"]


def test_outcomes_and_syncs_of_the_measured_runs(measured):
    assert len(measured) == 54
    assert measured["right"].all()
    assert measured["syncs_error"].abs().max() <= 1


def test_times_and_bytes_of_the_measured_runs_that_a_limit_holds(measured):
    held = measured[measured["held"]]
    assert len(held) == 27
    assert held["total_error"].abs().median() < 0.02
    assert held["bytes_error"].abs().median() < 1e-3


def test_windows_of_the_measured_runs_to_the_packet():
    """The median window of each run under max-bandwidth carries what is predicted, within one packet."""
    windows = table("windows")
    for name, measured_run in runs().query("group == 'M' and bw_mib_s > 0").iterrows():
        timeline = migkit.simulate(scenario_of(measured_run)).timeline
        predicted = timeline["threshold_bytes"][timeline["threshold_bytes"] > 0].median() / 300 * 100
        was = windows[windows["run"] == name]["bytes"].iloc[1:].median()
        assert abs(predicted - was) <= PACKET, name


# ---------------------------------------------------------------- in the words of others


def test_a_running_guest_has_its_channels():
    from migkit.qemu.running import _migration

    parameters = {"max-bandwidth": 0, "downtime-limit": 300, "multifd-channels": 6}
    found = _migration(parameters, ["multifd"], "10.0")
    assert (found.multifd, found.multifd_channels) == (True, 6)
    found = _migration(parameters, [], "10.0")
    assert not found.multifd


def test_a_plan_of_a_recording_has_its_channels():
    from migkit.qemu import Plan
    from migkit.qemu.planned import scenario_of_plan

    plan = Plan(regions=[{"size": "64 MiB", "rate": "50 MB/s"}], capabilities=["multifd"], multifd_channels=4)
    found = scenario_of_plan(plan, "10.0.2").migration
    assert (found.multifd, found.multifd_channels) == (True, 4)


def test_layers_are_told_or_say_that_they_cannot():
    from migkit.analysis.layers import DIALECTS, commands

    given = scenario(migration={"multifd_channels": 4})
    said = {dialect: commands(given, dialect, 600.0) for dialect in DIALECTS}
    assert '"multifd-channels": 4' in said["qemu"].text
    assert '{"capability": "multifd", "state": true}' in said["qemu"].text
    assert "--parallel --parallel-connections 4" in said["libvirt"].text
    assert said["kubevirt"].as_run.migration.multifd_channels == 8
    for dialect in ("nova", "ovirt"):
        assert not said[dialect].as_run.migration.multifd
        assert any(each.startswith("multifd") for each in said[dialect].cannot), dialect


# ---------------------------------------------------------------- multifd-compression

ZSTD = {"multifd_compression": "zstd", "multifd_channels": 4}


def test_compressed_pages_take_less_of_link_and_limit_and_more_of_the_channels():
    for binds, fields in (
        ("link", {"link": {"bandwidth": "1 Gbit/s", "compression_ratio": 4.0}}),
        ("max-bandwidth", {"link": {"compression_ratio": 4.0}, "migration": ZSTD | {"max_bandwidth": "125 MB/s"}}),
    ):
        given = scenario(**{"migration": ZSTD, "costs": {"compress_page": "1 us"}} | fields)
        assert given.binds == binds
        assert given.wire_limits()[binds] == pytest.approx(500e6)
        assert rate_of(given) == pytest.approx(500e6, rel=0.05)
    slow = scenario(migration=ZSTD, link={"compression_ratio": 4.0}, costs={"compress_page": "7.5 us"})
    assert slow.binds == "thread"
    assert rate_of(slow) == pytest.approx(4 * 4104 / 8e-6, rel=0.01)


def test_the_threshold_counts_compressed_bytes_and_what_is_pending_whole_pages():
    """A guest that is carried when it is compressed, and whose threshold is too small by the ratio."""
    given = scenario(
        link={"bandwidth": "1 Gbit/s", "compression_ratio": 4.0}, migration=ZSTD, costs={"compress_page": "1 us"},
        guest={"regions": [Region(size="100 MiB", write_rate="2 GB/s")]}, qemu="10.0", time_limit="1 min",
    )  # fmt: skip
    assert migkit.simulate(given.replace("migration.multifd_compression", "none")).outcome.name != "COMPLETED"
    found = migkit.simulate(given)
    assert found.numbers["threshold_bytes"] == pytest.approx(125e6 * 0.3, rel=0.05)
    told = migkit.simulate(given.replace("migration.avail_switchover_bandwidth", "500 MB/s"))
    assert found.outcome.name != "COMPLETED"
    assert told.outcome.name == "COMPLETED"
    assert told.downtime_s < 0.3


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"migration": {"multifd": False, "multifd_compression": "zstd"}}, "needs multifd = True"),
        ({"migration": ZSTD, "costs": {"compress_page": "1 us"}}, "needs link.compression_ratio"),
        ({"migration": ZSTD, "link": {"compression_ratio": 2.0}}, "needs costs.compress_page"),
        ({"link": {"compression_ratio": 0.5}}, "compression_ratio = 0.5 is below 1"),
        ({"migration": {"multifd_compression": "qpl"}, "qemu": "9.0"}, "use 9.1 or later"),
        ({"migration": {"multifd_compression": "qatzip"}, "qemu": "9.1"}, "use 9.2 or later"),
        ({"migration": {"multifd_compression": "lz4"}}, "multifd_compression"),
    ],
)
def test_compression_that_is_not_there_or_not_known_is_refused(fields, sentence):
    with pytest.raises(ScenarioError) as told:
        scenario(**fields)
    assert sentence in str(told.value)


def test_compression_of_one_is_none():
    plain = scenario(migration={"multifd_channels": 4}, costs={"channel_page": "2 us"}, guest={"ram": "1 GiB"})
    same = plain.replace(
        {"migration.multifd_compression": "zlib", "link.compression_ratio": 1.0, "costs.channel_page": "1 us",
         "costs.compress_page": "1 us"}
    )  # fmt: skip
    for engine in ("expected", "bitmap"):
        one, other = migkit.simulate(plain, engine).numbers, migkit.simulate(same, engine).numbers
        assert one["total_time_s"] == other["total_time_s"]
        assert one["bytes_sent"] == other["bytes_sent"]
