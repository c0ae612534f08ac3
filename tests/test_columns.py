"""From scenarios to records: every number where the kernels expect it."""

import numpy as np
import pytest

from migkit import Block, Guest, HostCosts, Link, Migration, Ram, Region, Scenario, ScenarioError, Vfio
from migkit.kernels import state
from migkit.kernels.state import BLOCK, RAM, UNSERIALIZED, VFIO, Records
from migkit.scenario.device_list import device_labels
from migkit.scenario.rows import CASES, CHANGES, DEVICES, LINKS, REGIONS, cases, records
from migkit.scenario.versions import PROFILES
from migkit.scenario.views import View

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


@pytest.mark.parametrize(
    ("expressions", "table"),
    [
        (CASES, state.CASE),
        (LINKS, state.LINK),
        (REGIONS, state.REGION),
        (DEVICES, state.DEVICE),
        (CHANGES, state.CHANGE),
    ],
    ids=["case", "link", "region", "device", "change"],
)
def test_every_field_of_a_table_has_one_expression(expressions, table):
    assert list(expressions) == [field.name for field in table]


def test_numbers():
    found = records([FULL, PLAIN])
    case = {
        "ram_pages": 524288,
        "page_size": 4096,
        "chunk_pages": 64,
        "lazy_clear": 0,
        "idle_zero_share": 0.25,
        "region_count": 2,
        "device_count": 4,
        "max_bandwidth": 12_500_000,
        "downtime_limit_ms": 570.0,
        "avail_switchover_bandwidth": 0,
        "switchover_ack": 0,
        "return_path": 1,
        "policy": UNSERIALIZED,
        "sync_policy": state.SYNC_8_2,
        "bandwidth_policy": state.WINDOW,
        "ram_exact_always": 0,
        "vfio_always_done": 1,
        "iteration_ns": 50_000,
        "sync_ns": 5_000_000,
        "page_cost_ns": 1800.0,
        "time_limit_ns": 60_000_000_000,
    }
    assert {name: found.cases[name][0] for name in case} == case
    link = {
        "ns_per_byte": 0.8,
        "slack_ns": int(2**19 * 0.8),
        "fresh_ns_per_byte": 1.6,
        "fresh_slack_ns": int(2**19 * 1.6),
        "fresh_after_pages": 2**18,
        "rtt_ns": 200_000,
    }
    assert {name: found.links[name][0] for name in link} == link
    region = {
        "start": [1024, 0],
        "pages": [256, 1],
        "writes_per_s": [1953.125, 1.0],
        "rate_first": [0, 0],
        "rate_count": [0, 0],
        "period_ns": [0, 0],
        "period_work_ns": [0, 0],
        "vcpu_share": [10_000, 10_000],
        "phase": [-1.0, -1.0],
        "sequential": [0, 1],
        "zero_share": [0.0, 0.5],
    }
    assert {name: found.regions[name][0].tolist() for name in REGIONS} == region
    device = {
        "kind": [BLOCK, RAM, VFIO, VFIO],
        "initial_bytes": [64 * 2**20, 0, 2**23, 2**23],
        "dirty_rate": [0.0, 0.0, 1e6, 1e6],
        "dirty_max": [0, 0, 2**21, 2**21],
        "stop_copy_bytes": [0, 0, 3 * 2**20, 3 * 2**20],
        "chunk_bytes": [0, 0, 2**19, 2**19],
        "read_ns_per_byte": [1.0, 0.0, 0.25, 0.25],
        "load_ns": [0, 0, 7_000_000, 7_000_000],
    }
    assert {name: found.devices[name][0].tolist() for name in DEVICES} == device


def test_shapes_and_types():
    found = records([FULL, PLAIN, FULL])
    tables = (state.CASE, state.LINK, state.REGION, state.DEVICE, state.RATE, state.CHANGE)
    assert [part.dtype.names for part in found] == [state.dtype_of(table).names for table in tables]
    assert [part.shape for part in found] == [(3,), (3,), (3, 2), (3, 4), (3, 1), (3, 1)]
    assert found.cases.region_count.tolist() == [2, 0, 2]
    assert found.cases.device_count.tolist() == [4, 1, 4]
    assert not found.regions.pages[1].any()
    assert not found.devices.kind[1, 1:].any()
    assert records([PLAIN]).regions.shape == (1, 1)
    np.testing.assert_array_equal(found.cases[[0]], found.cases[[2]])


def test_a_row_does_not_depend_on_the_others():
    """Scenarios of several structures, entries that stand for several devices among them."""
    several = [
        FULL, PLAIN, PLAIN.replace("guest.ram", "3 GiB"), FULL.replace("devices.2.count", 0),
        FULL.replace("devices.2.count", 3).replace("link.rtt", "1 ms"), PLAIN.replace("qemu", "7.2"),
    ]  # fmt: skip
    together = records(several)
    for row, scenario in enumerate(several):
        for name, part, alone in zip(Records._fields, together, records([scenario]), strict=True):
            width = alone.shape[1:]
            assert part[row][tuple(slice(size) for size in width)].tobytes() == alone[0].tobytes(), name
            assert width == () or not part[row, width[0] :].tobytes().strip(b"\0"), name


def test_costs_are_rounded_as_python_rounds():
    rng = np.random.default_rng(0)
    costs = [f"{cost!r} s" for cost in [1.8e-6, 2.5e-13, 3.5e-13, 0.5e-15, *rng.uniform(0, 1e-3, 200).tolist(), 1e-3]]
    found = records([PLAIN.replace("costs.page", cost) for cost in costs]).cases.page_cost_ns
    assert found.tolist() == [round(float(cost.split()[0]) * 1e9, 6) for cost in costs]


def test_profiles():
    found = records([PLAIN.replace("qemu", name) for name in PROFILES]).cases
    for name in ("complete_rule", "vfio_counts", "flush_pages", "counts_all_syncs", "throttle_timer_ns"):
        assert found[name].tolist() == [getattr(each, name) for each in PROFILES.values()]
    assert found.sync_policy.tolist() == [each.exact_rule for each in PROFILES.values()] == [
        0, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 3,
    ]  # fmt: skip
    assert found.policy.tolist() == [0] * 4 + [1] * 9


def test_policies_that_are_given_replace_those_of_the_version():
    versions = [PLAIN.replace("qemu", name) for name in PROFILES]
    for code, name in enumerate(["7.2", "8.2", "9.0", "11.1"]):
        found = records([one.replace("sync_policy", name) for one in versions]).cases
        assert set(found.sync_policy.tolist()) == {code}
        assert found.complete_rule.tolist() == [each.complete_rule for each in PROFILES.values()]
    assert records([PLAIN.replace("bandwidth_policy", "window")]).cases.bandwidth_policy.tolist() == [state.WINDOW]


def test_the_largest_numbers_fit():
    big = Scenario(
        guest=Guest(ram="1024 TiB", regions=[Region(size="512 TiB", write_rate="1 TB/s")]),
        link=Link(bandwidth="1 TB/s", rtt="1 h"),
        migration=Migration(max_bandwidth="1000 TB/s", downtime_limit="2000 s", x_clear_bitmap_shift=31),
        costs=HostCosts(bitmap_sync="0 s", bitmap_sync_per_gib="1 s", page="1 ms"),
        time_limit="168 h",
    )
    case = records([big]).cases[0]
    assert case.sync_ns == 2**20 * 10**9
    assert case.ram_pages * case.page_cost_ns < 2**62
    assert case.max_bandwidth / 1000 * case.downtime_limit_ms < 2**62


def test_a_view_reads_like_a_scenario():
    reads = set()
    sizes = np.array([2**31, 2**32])
    found = cases(View(FULL, {"guest.ram": sizes, "link.rtt": np.zeros(2)}, reads=reads), 2)
    assert found["ram_pages"].tolist() == (sizes // 4096).tolist()
    assert found["sync_ns"].tolist() == [5_000_000, 9_000_000]
    assert found["page_size"].tolist() == [4096, 4096]
    assert reads == {"guest.ram"}


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
        records([])
