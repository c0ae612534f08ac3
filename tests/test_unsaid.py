"""What a scenario leaves unsaid is named in its result, and so is what has no effect."""

import json

import pytest

from migkit import Guest, HostCosts, Link, Migration, Region, Scenario, Vfio, simulate

MIB = 2**20
# public report: 192 GiB of RAM, 24 GiB rewritten at 1500 MiB/s, 22 Gbit/s: it completed in 34.7 s
LARGE = Scenario(
    guest=Guest(
        ram="192 GiB",
        zero_share=0.977,
        regions=[Region(size="24 GiB", start="4 GiB", write_rate="1500 MiB/s", pattern="sequential", phase=0.0)],
    ),
    link=Link(bandwidth="22 Gbit/s"),
    migration=Migration(max_bandwidth=0),
    qemu="8.2",
    time_limit="300 s",
)


def named(scenario, field):
    return [each for each in scenario.assumed if field in each]


def test_a_sync_of_more_ram_than_was_measured_is_assumed_and_the_outcome_hangs_on_it():
    found = simulate(LARGE)
    (sync,) = named(LARGE, "costs.bitmap_sync_per_gib")
    assert sync == (
        "a bitmap sync of 192 GiB takes 9.06 ms as published of 256 GiB, measured up to 1 GiB: "
        "costs.bitmap_sync_per_gib"
    )
    assert found.converged
    more = simulate(LARGE.replace_all({"costs.bitmap_sync_per_gib": "0.28515625 ms", "costs.bitmap_sync": "0 s"}))
    assert more.cause == "sync cost"
    (hangs,) = [each for each in found.assumed if "hangs on costs.bitmap" in each]
    assert "with syncs of 54.8 ms, as before QEMU commit e8a6d158db, it does not complete" in hangs
    assert f"assumed       {hangs}" in found.summary()
    assert hangs in json.loads(json.dumps(found.to_dict()))["assumed"]
    assert not any("hangs on" in each for each in more.assumed)


def test_an_outcome_that_does_not_hang_on_it_does_not_say_so():
    found = simulate(LARGE.replace("guest.regions.0.write_rate", "100 MB/s"))
    assert named(found.scenario, "bitmap_sync_per_gib")
    assert not any("hangs on costs.bitmap" in each for each in found.assumed)


def test_a_sync_cost_that_is_given_or_small_is_not_assumed():
    assert named(LARGE.replace("costs.bitmap_sync_per_gib", "0.05 ms"), "bitmap_sync") == []
    assert named(LARGE.replace("costs.bitmap_sync", "1 ms"), "bitmap_sync") == []
    assert named(LARGE.replace_all({"guest.ram": "17 GiB", "guest.regions.0.size": "4 GiB"}), "bitmap_sync") == []
    tight = {"guest.ram": "17 GiB", "guest.regions.0.size": "4 GiB", "migration.downtime_limit": "10 ms"}
    assert len(named(LARGE.replace_all(tight), "bitmap_sync")) == 1


@pytest.mark.parametrize(
    ("migration", "cost"),
    [
        ({}, "costs.page, 2.1 us"),
        ({"multifd": True}, "costs.channel_page, 3.8 us"),
        ({"multifd": True, "multifd_channels": 16}, "costs.multifd_page, 1 us"),
    ],
)
def test_a_thread_that_binds_by_a_cost_that_was_not_given(migration, cost):
    changes = {f"migration.{name}": value for name, value in migration.items()}
    fast = LARGE.replace_all(changes | {"link.bandwidth": "100 Gbit/s"})
    assert fast.binds == "thread"
    (thread,) = named(fast, "RAM is held to")
    assert cost in thread
    assert named(fast.replace_all({f"costs.{cost.split('.')[1].split(',')[0]}": "50 ns"}), cost) == []
    assert named(LARGE.replace("link.bandwidth", "10 Gbit/s"), "RAM is held to") == []


def test_other_things_that_no_field_says():
    assert named(LARGE.replace("guest.page_size", "16 KiB"), "costs.copy_share, while all measured pages have 4 KiB")
    assert named(LARGE, "copy_share") == []
    assert named(LARGE.replace("guest.used", "30 GiB"), "guest.used_at")
    assert named(LARGE.replace_all({"guest.used": "30 GiB", "guest.used_at": "end"}), "used_at") == []
    gpu = LARGE.replace("devices", [Vfio(initial_bytes=0, stop_copy_bytes="2 GiB")])
    assert "read in 716 ms: devices.0.read_rate, 3 GB/s" not in "".join(gpu.assumed)  # the link is slower
    fast = gpu.replace("link.bandwidth", "100 Gbit/s")
    assert named(fast, "read in 716 ms: devices.0.read_rate, 3 GB/s")
    assert named(fast.replace("devices.0.read_rate", "10 GB/s"), "read_rate") == []


def test_a_paced_guest_is_not_taken_for_a_busy_one_in_silence():
    throttled = LARGE.replace("migration.auto_converge", True)
    assert named(throttled, "guest.regions.0.vcpu_share, 1 where it is not given")
    assert named(throttled.replace("guest.regions.0.vcpu_share", 0.3), "vcpu_share") == []
    assert named(LARGE, "vcpu_share") == []


def test_post_copy_that_nothing_starts():
    allowed = LARGE.replace_all({"migration.postcopy_ram": True})
    assert named(allowed, "never started: migration.postcopy_at")
    for starts in (
        {"migration.postcopy_at": "5 s"}, {"changes": [{"at": "5 s", "command": "migrate-start-postcopy"}]},
    ):  # fmt: skip
        assert named(allowed.replace_all(starts), "never started") == []


def test_a_device_that_is_loaded_in_no_time():
    card = LARGE.replace("devices", [Vfio(initial_bytes="200 MB")])
    assert named(card, "loads 200 MB of initial data in 300 us: devices.0.load_time")
    assert named(card.replace("devices.0.load_time", "1480 ms"), "load_time") == []


def test_zero_pages_that_take_a_good_part_of_the_time():
    empty = simulate(Scenario(guest=Guest(ram="64 GiB", zero_share=1.0), link=Link(bandwidth="10 Gbit/s")))
    (scan,) = [each for each in empty.assumed if "zero pages take" in each]
    assert scan.startswith("zero pages take 3.36 s of the ")
    given = simulate(empty.scenario.replace("costs.zero_page", "1 us"))
    assert not any("zero pages take" in each for each in given.assumed)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"migration": {"multifd_channels": 8}},
         "migration.multifd_channels = 8 has no effect without migration.multifd"),
        ({"migration": {"max_postcopy_bandwidth": "1 GB/s"}},
         "migration.max_postcopy_bandwidth = 1 GB/s has no effect without migration.postcopy_ram"),
        ({"migration": {"cpu_throttle_initial": 40}},
         "migration.cpu_throttle_initial = 40 has no effect without migration.auto_converge"),
        ({"migration": {"switchover_ack": True, "return_path": True}},
         "migration.switchover_ack = true has no effect without a VFIO device: none has to acknowledge"),
        ({"link": {"fresh_bandwidth": "3 GB/s"}},
         "link.fresh_bandwidth = 3 GB/s has no effect: the link carries no more than 1 GB/s"),
        ({"migration": {"xbzrle_cache_size": "1 GiB"}},
         "migration.xbzrle_cache_size = 1 GiB has no effect without migration.xbzrle"),
        ({"migration": {"vcpu_dirty_limit": 50}},
         "migration.vcpu_dirty_limit = 50 has no effect without migration.dirty_limit"),
        ({"migration": {"zero_page_detection": "legacy"}},
         "migration.zero_page_detection = legacy has no effect without migration.multifd: the migration thread looks "
         "for zero pages"),
        ({"link": {"bandwidth": "1 GB/s", "compression_ratio": 3.0}},
         "link.compression_ratio = 3.0 has no effect without migration.multifd_compression"),
        ({"costs": {"xbzrle_page": "2 us"}}, "costs.xbzrle_page = 2 us has no effect without migration.xbzrle"),
        ({"costs": {"fresh_after": "1 GiB"}}, "costs.fresh_after = 1 GiB has no effect without costs.fresh_page"),
        ({"devices": [{"kind": "vfio", "initial_bytes": "1 MiB", "dirty_max": "1 MiB"}]},
         "devices.0.dirty_max = 1 MiB has no effect without dirty_rate"),
        ({"devices": [{"kind": "vfio", "initial_bytes": "0 B", "stop_copy_bytes": "1 MiB", "load_time": "2 s"}]},
         "devices.0.load_time = 2 s has no effect: it is that of initial data, and initial_bytes is 0"),
    ],
)  # fmt: skip
def test_a_field_without_effect_is_named(fields, says):
    plain = {"guest": {"ram": "1 GiB"}, "link": {"bandwidth": "1 GB/s"}}
    given = {name: fields.get(name, {}) for name in ("migration", "costs")} | {
        "link": plain["link"] | fields.get("link", {})
    }
    scenario = Scenario(guest=plain["guest"], devices=fields.get("devices", []), **given)
    assert scenario.without_effect == (says,)
    found = simulate(scenario)
    assert f"no effect     {says}" in found.summary()
    assert found.to_dict()["without_effect"] == [says]
    bare = {"load_time": "0.3 ms", "dirty_max": "0 B"}
    devices = [{k: bare.get(k, v) for k, v in device.items()} for device in fields.get("devices", [])]
    same = simulate(Scenario(**plain, devices=devices))
    assert same.scenario.without_effect == ()
    if "switchover_ack" not in fields.get("migration", {}):  # the return path that it needs has an effect
        assert (same.total_time_s, same.downtime_s) == (found.total_time_s, found.downtime_s)


def test_nothing_is_said_of_fields_that_have_their_effect():
    scenario = Scenario(
        guest=Guest(ram="1 GiB"),
        link=Link(bandwidth="1 GB/s", fresh_bandwidth="0.5 GB/s", fresh_after="128 MiB"),
        migration=Migration(auto_converge=True, cpu_throttle_initial=40, multifd=True, multifd_channels=8),
        costs=HostCosts(fresh_page="1 us", fresh_after="1 GiB"),
    )
    assert scenario.without_effect == ()
    assert "no effect" not in simulate(scenario).summary()


def test_an_outcome_that_hangs_on_the_cost_of_a_zero_page_says_so_without_jitter():
    """Public report: 278 MiB, 100 MiB rewritten, pages that compress to nothing; mostly 1 s, sometimes 44 s."""
    region = Region(size="100 MiB", start="1 MiB", write_rate="3.48 GB/s", pattern="sequential", zero_share=1.0)
    at_edge = Scenario(
        guest=Guest(ram="285064 KiB", accel="tcg", zero_share=1.0, regions=[region]),
        link=Link(bandwidth="10 Gbit/s"),
        migration=Migration(max_bandwidth=0),
        costs=HostCosts(zero_page="1.24 us", bitmap_sync="0.1 ms"),
        qemu="8.2",
        time_limit="60 s",
    )
    found = simulate(at_edge)
    assert found.converged
    (hangs,) = [each for each in found.assumed if "hangs on" in each]
    assert hangs == (
        "with 1.55 us a zero page it does not complete: the outcome hangs on costs.zero_page, and costs.jitter with "
        "replicates gives a probability of each"
    )
    assert not simulate(at_edge.replace("costs.zero_page", "1.55 us")).converged
    assert not [each for each in simulate(at_edge.replace("costs.jitter", 0.3)).assumed if "hangs on" in each]
    assert not [each for each in simulate(at_edge.replace("costs.zero_page", "0.5 us")).assumed if "hangs on" in each]
