"""From scenarios to columns: every number where the kernel expects it."""

import numpy as np
import pytest

from migkit import Block, Guest, HostCosts, Link, Migration, Ram, Region, Scenario, ScenarioError, Vfio
from migkit.kernels.parameters import BLOCK, RAM, VFIO, Parameters
from migkit.scenario.rows import columns
from migkit.scenario.scenario import device_labels
from migkit.scenario.versions import POLICIES, PROFILES

FULL = Scenario(
    guest=Guest(
        ram="2 GiB",
        accel="tcg",
        zero_share=0.25,
        regions=[
            Region(size="1 MiB", start="4 MiB", write_rate="8 MB/s"),
            Region(size="4 KiB", write_rate="4096 B/s", pattern="sequential", zero_share=0.5),
        ],
    ),
    devices=[
        Block(size="64 MiB", read_rate="1 GB/s"),
        Ram(),
        Vfio(
            count=2,
            initial_bytes="8 MiB",
            dirty_rate="1 MB/s",
            dirty_max="2 MiB",
            stop_copy_bytes="3 MiB",
            chunk="512 KiB",
            read_rate="4 GB/s",
            load_time="7 ms",
        ),
    ],
    link=Link(
        bandwidth="10 Gbit/s", rtt="0.2 ms", send_buffer="512 KiB", fresh_bandwidth="5 Gbit/s", fresh_after="1 GiB"
    ),
    migration=Migration(max_bandwidth="100 Mbit/s", downtime_limit="570 ms", x_clear_bitmap_shift=6, return_path=True),
    costs=HostCosts(bitmap_sync="1 ms", bitmap_sync_per_gib="2 ms", page="1.8 us"),
    qemu="8.2",
    policy="unserialized",
    time_limit="1 min",
)
PLAIN = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"), qemu="11.1")


def test_numbers():
    p = columns([FULL, PLAIN])
    first = {name: column[0].tolist() for name, column in p._asdict().items()}
    expected = {
        "ram_pages": 524288,
        "page_size": 4096,
        "chunk_pages": 64,
        "lazy_clear": 0,
        "idle_zero_share": 0.25,
        "region_count": 2,
        "region_start": [1024, 0],
        "region_pages": [256, 1],
        "region_writes_per_s": [1953.125, 1.0],
        "region_sequential": [0, 1],
        "region_zero_share": [0.0, 0.5],
        "device_count": 4,
        "device_kind": [BLOCK, RAM, VFIO, VFIO],
        "device_initial_bytes": [64 * 2**20, 0, 2**23, 2**23],
        "device_dirty_rate": [0.0, 0.0, 1e6, 1e6],
        "device_dirty_max": [0, 0, 2**21, 2**21],
        "device_stop_copy_bytes": [0, 0, 3 * 2**20, 3 * 2**20],
        "device_chunk_bytes": [0, 0, 2**19, 2**19],
        "device_read_ns_per_byte": [1.0, 0.0, 0.25, 0.25],
        "device_load_ns": [0, 0, 7_000_000, 7_000_000],
        "link_ns_per_byte": 0.8,
        "send_slack_ns": int(2**19 * 0.8),
        "fresh_ns_per_byte": 1.6,
        "fresh_slack_ns": int(2**19 * 1.6),
        "fresh_after_pages": 2**18,
        "rtt_ns": 200_000,
        "max_bandwidth": 12_500_000,
        "downtime_limit_ms": 570.0,
        "avail_switchover_bandwidth": 0,
        "switchover_ack": 0,
        "return_path": 1,
        "policy": POLICIES["unserialized"],
        "exact_rule": 1,
        "ram_exact_always": 0,
        "vfio_always_done": 1,
        "sync_ns": 5_000_000,
        "page_cost_ns": 1800.0,
        "time_limit_ns": 60_000_000_000,
    }
    assert {name: first[name] for name in expected} == expected


def test_shapes_and_types():
    p = columns([FULL, PLAIN, FULL])
    for name, column in zip(Parameters._fields, p, strict=True):
        assert column.dtype in (np.int64, np.float64), name
        assert column.flags.c_contiguous, name
        assert len(column) == 3, name
    assert p.region_start.shape == (3, 2)
    assert p.device_kind.shape == (3, 4)
    assert p.region_count.tolist() == [2, 0, 2]
    assert p.device_count.tolist() == [4, 1, 4]
    assert not p.region_pages[1].any()
    assert columns([PLAIN]).region_pages.shape == (1, 1)


def test_types_do_not_depend_on_the_values():
    for name, a, b in zip(Parameters._fields, columns([FULL]), columns([PLAIN]), strict=True):
        assert a.dtype == b.dtype, name


def test_profile_columns():
    p = columns([PLAIN.replace("qemu", name) for name in PROFILES])
    for name in ("exact_rule", "complete_rule", "vfio_counts", "flush_pages", "counts_all_syncs", "throttle_timer_ns"):
        assert getattr(p, name).tolist() == [getattr(each, name) for each in PROFILES.values()]
    assert p.policy.tolist() == [0, 0, 1, 1, 1, 1]


def test_the_largest_numbers_fit():
    big = Scenario(
        guest=Guest(ram="1024 TiB", regions=[Region(size="512 TiB", write_rate="1 TB/s")]),
        link=Link(bandwidth="1 TB/s", rtt="1 h"),
        migration=Migration(max_bandwidth="1000 TB/s", downtime_limit="2000 s", x_clear_bitmap_shift=31),
        costs=HostCosts(bitmap_sync_per_gib="1 s", page="1 ms"),
        time_limit="168 h",
    )
    p = columns([big])
    assert p.sync_ns[0] == 2**20 * 10**9
    assert p.ram_pages[0] * p.page_cost_ns[0] < 2**62
    assert p.max_bandwidth[0] / 1000 * p.downtime_limit_ms[0] < 2**62


def test_the_place_of_ram():
    disk, card = Block(size="1 MiB"), Vfio(initial_bytes="1 MiB")

    def labels(*devices):
        return device_labels(PLAIN.replace("qemu", "9.0").replace("devices", devices))

    assert labels() == ["ram"]
    assert labels(card) == ["ram", "vfio0"]
    assert labels(disk, card) == ["disk", "ram", "vfio0"]
    assert labels(card, disk) == ["ram", "vfio0", "disk"]
    assert labels(disk, disk, Ram()) == ["disk0", "disk1", "ram"]
    assert labels(card, Ram(), disk) == ["vfio0", "ram", "disk"]


def test_labels():
    named = Vfio(name="gpu", initial_bytes=0)
    several = Vfio(name="gpu", initial_bytes=0, count=2)
    plain = Vfio(initial_bytes=0, count=2)
    assert device_labels(PLAIN.replace("devices", [plain, named, plain])) == [
        "ram",
        "vfio0",
        "vfio1",
        "gpu",
        "vfio2",
        "vfio3",
    ]
    assert device_labels(PLAIN.replace("devices", [several])) == ["ram", "gpu0", "gpu1"]
    assert device_labels(PLAIN.replace("devices", [Vfio(initial_bytes=0, count=0)])) == ["ram"]
    with pytest.raises(ScenarioError, match="more than one device"):
        PLAIN.replace("devices", [named, named])


def test_no_scenario_is_an_error():
    with pytest.raises(ScenarioError, match="at least one"):
        columns([])
