"""The naive loop by itself, against closed forms and the boundaries of the reference."""

import random
from itertools import pairwise

import pytest
from cases import (
    BLOCK,
    KIB,
    MS,
    RAM,
    SERIALIZED,
    UNSERIALIZED,
    VFIO,
    S,
    case,
    device,
    random_case,
    region,
)
from naive import COMPLETED, TIME_LIMIT, draw_is_below, draw_key, migrate, mix, rand64

PAGE = 4104  # bytes of a normal page on the wire
PAGES_PER_S = 2000  # the link of cases.case
SLICE = PAGES_PER_S * 51 // 1000  # pages in 51 ms, give or take the check every 64 pages


# ---------------------------------------------------------------- draws


def test_mix_is_the_splitmix64_finalizer():
    # the first outputs of splitmix64 seeded with 1234567 (published with the generator at rosettacode.org)
    first = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [rand64(1234567, k) for k in (1, 2, 3)] == first
    assert mix(2**64 + 5) == mix(5)


def test_bitwise_comparison_is_the_comparison_of_numbers():
    rng = random.Random(1)
    key = draw_key(7, 2, 1, 3)
    for page in range(0, 400, 3):
        u53 = 0
        for j in range(53):
            u53 = 2 * u53 + (rand64(key, page // 64 * 64 + j) >> (page % 64) & 1)
        for limit in (0, 1, u53, u53 + 1, rng.randrange(2**53), 2**53):
            assert draw_is_below(key, page, limit) == (u53 < limit)


def test_share_of_draws():
    key = draw_key(1, 0, 1, 1)
    hits = sum(draw_is_below(key, page, int(0.3 * 2**53)) for page in range(20_000))
    assert abs(hits - 6000) < 4 * (20_000 * 0.3 * 0.7) ** 0.5


# ---------------------------------------------------------------- an idle guest


@pytest.mark.parametrize("profile", ["7.2", "8.2", "9.0", "10.0", "11.1"])
@pytest.mark.parametrize("lazy_clear", [0, 1])
def test_idle_guest_sends_each_page_once(profile, lazy_clear):
    c = case(profile, ram_pages=3000, link_ns_per_byte=10.0, lazy_clear=lazy_clear, max_bandwidth=0)
    r = migrate(c)
    pages_ns = 3000 * PAGE * 10
    assert r["outcome"] == COMPLETED
    assert r["ram_pages_sent"] == 3000
    assert r["bytes_sent"] == 3000 * PAGE + 18 * r["ram_calls"]
    syncs = sum(t["synced"] for t in r["timeline"]) + 1  # and that of the turn that completed
    turns = r["turns"]
    assert r["stop_ns"] == 10 * MS + (pages_ns - r["downtime_ram_ns"]) + turns * 200_000 + syncs * MS
    assert r["downtime_ns"] == 2 * MS + MS + r["downtime_ram_ns"] + 3 * MS
    assert r["total_ns"] == r["stop_ns"] + r["downtime_ns"]


def test_zero_pages_are_nine_bytes():
    r = migrate(case(idle_zero_share=1.0, ram_pages=640))
    assert r["ram_zero_pages"] == r["ram_pages_sent"] == 640
    assert r["device_bytes"] == [640 * 9]


def test_slices_end_at_the_first_check_after_51_ms():
    r = migrate(case(ram_pages=2000))
    # pages 1, 65, 129: the 129th is the first check after the 102 pages that take 51 ms
    assert {t["ram_pages"] for t in r["timeline"][:8]} == {129}


def test_parallel_link_buffer_hides_time_not_bytes():
    plain = migrate(case(return_path=1))
    buffered = migrate(case(return_path=1, send_slack_ns=40 * MS))
    assert buffered["device_bytes"] == plain["device_bytes"]
    assert buffered["stop_ns"] < plain["stop_ns"]


# ---------------------------------------------------------------- budget


@pytest.mark.parametrize(("profile", "group"), [("7.2", 1), ("9.0", 32)])
def test_budget_windows_are_a_tenth_of_max_bandwidth(profile, group):
    budget_pages = 60
    max_bandwidth = 10 * (budget_pages * PAGE) + 5
    c = case(profile, ram_pages=1000, max_bandwidth=max_bandwidth, downtime_limit_ms=1.0)
    r = migrate(c)
    budget = max_bandwidth // 10
    # the first number of pages, seen in groups, that exceeds the budget
    expected = next(n for n in range(group, 1000, group) if n * PAGE > budget)
    windows = 1000 // expected
    for k, turn in enumerate(r["timeline"][:windows]):
        assert turn["t_ns"] == 10 * MS + k * 100 * MS
        assert turn["ram_pages"] == expected
    assert r["timeline"][1]["threshold"] == int((expected * PAGE + 18) / 100 * 1.0)


def test_measured_window_of_128_mib_per_s():
    """qemu-precopy.md, 1.4: 3271 pages x 4104 B + 18 B."""
    c = case("7.2", ram_pages=4000, max_bandwidth=128 * 1024 * KIB, link_ns_per_byte=0.8, downtime_limit_ms=1.0)
    r = migrate(c)
    assert r["timeline"][0]["ram_pages"] == 3271
    assert r["timeline"][1]["threshold"] == int(13_424_202 / 100)


# ---------------------------------------------------------------- rounds


@pytest.mark.parametrize("lazy_clear", [0, 1])
def test_rounds_of_a_constant_writer_are_geometric(lazy_clear):
    ratio = 0.5
    c = case(
        ram_pages=4000,
        regions=[region(0, 4000, ratio * PAGES_PER_S, sequential=1)],
        lazy_clear=lazy_clear,
        chunk_pages=64,
        downtime_limit_ms=5.0,
        turn_ns=200_000,
        sync_ns=0,
    )
    r = migrate(c)
    assert r["outcome"] == COMPLETED
    rounds, pages = [], 0
    for turn in r["timeline"]:
        if turn["synced"]:
            rounds.append(pages)
            pages = 0
        pages += turn["ram_pages"]
    assert len(rounds) >= 4
    assert rounds[0] == pytest.approx(4000, rel=0.01)
    if lazy_clear:
        # writes to pages that wait are free: each round is at most the protect-at-sync one
        assert all(b <= ratio * a * 1.05 + 70 for a, b in pairwise(rounds[:5]))
    else:
        for a, b in pairwise(rounds[:5]):
            assert b == pytest.approx(ratio * a, rel=0.05, abs=10)


def test_uniform_writer_fills_like_a_coupon_collector():
    pages = 2000
    c = case("7.2", ram_pages=pages, regions=[region(0, pages, 500)], downtime_limit_ms=1.0, time_limit_ns=1200 * MS)
    r = migrate(c)
    sync = next(t for t in r["timeline"] if t["synced"])
    written = sync["exact"] / 4096
    expected = pages * (1 - 2.718281828 ** (-500 * (sync["t_ns"] + MS - 10 * MS) * 1e-9 / pages))
    # all pages had been sent but the few under the threshold, so dirty pages are the written ones
    assert abs(written - expected) < 4 * expected**0.5 + 10


def test_lazy_clear_sends_less():
    regions = [region(100, 800, 3000)]
    eager, lazy = (
        migrate(case(regions=regions, lazy_clear=flag, time_limit_ns=3 * S, downtime_limit_ms=30.0)) for flag in (0, 1)
    )
    assert lazy["outcome"] == eager["outcome"] == TIME_LIMIT
    first = [next(t for t in r["timeline"] if t["synced"]) for r in (eager, lazy)]
    assert first[1]["exact"] < first[0]["exact"]


# ---------------------------------------------------------------- starvation


def hot_guest(hot_pages, **columns):
    """A hot set rewritten every 20 ms, and a VFIO device behind RAM."""
    settings = {
        "ram_pages": 1500,
        "regions": [region(200, hot_pages, hot_pages * 50, sequential=1)],
        "devices": [device(RAM), device(VFIO, initial_bytes=20 * 16 * KIB, chunk_bytes=16 * KIB)],
        "switchover_ack": 1,
        "downtime_limit_ms": 300.0,
        "time_limit_ns": 10 * S,
        "turn_ns": 500_000,
    }
    return case(settings.pop("profile", "9.0-rc0"), **{**settings, **columns})


HOT = 300  # slice (102 to 129 pages) < HOT < threshold (600 pages)


def test_serialized_starves_between_slice_and_threshold():
    r = migrate(hot_guest(HOT, policy=SERIALIZED))
    assert r["outcome"] == TIME_LIMIT
    assert r["device_ack_ns"] == [-1, -1]
    assert r["device_initial_left"][1] > 0
    assert r["device_starved_ns"][1] > 8 * S
    assert 129 < HOT < r["threshold"] / 4096


def test_the_same_case_completes_without_ack():
    r = migrate(hot_guest(HOT, policy=SERIALIZED, switchover_ack=0))
    assert r["outcome"] == COMPLETED


def test_the_same_case_completes_unserialized():
    r = migrate(hot_guest(HOT, policy=UNSERIALIZED))
    assert r["outcome"] == COMPLETED
    assert 0 < r["device_initial_sent_ns"][1] <= r["device_ack_ns"][1] <= r["stop_ns"]
    assert r["device_initial_left"] == [0, 0]


def test_serialized_completes_below_the_slice():
    assert migrate(hot_guest(60, policy=SERIALIZED))["outcome"] == COMPLETED


def test_above_the_threshold_nothing_completes_even_without_ack():
    for policy in (SERIALIZED, UNSERIALIZED):
        r = migrate(hot_guest(800, policy=policy, switchover_ack=0, time_limit_ns=5 * S))
        assert r["outcome"] == TIME_LIMIT


@pytest.mark.parametrize(("link_over_max", "starves"), [(0.9, False), (1.5, False), (2.6, True), (4.0, True)])
def test_unserialized_starves_when_the_link_is_faster_than_196_percent(link_over_max, starves):
    link = PAGES_PER_S * PAGE
    max_bandwidth = int(link / link_over_max)
    hot = int(max_bandwidth * 0.2 / PAGE)  # max_bandwidth / 10 < hot set < threshold = 0.3 s of max_bandwidth
    r = migrate(hot_guest(hot, max_bandwidth=max_bandwidth, policy=UNSERIALIZED))
    assert (r["outcome"] == TIME_LIMIT) == starves
    if starves:
        assert r["device_calls"][1] <= 1
        assert migrate(hot_guest(hot, max_bandwidth=max_bandwidth, switchover_ack=0))["outcome"] == COMPLETED


def test_with_ram_alone_policies_are_equal():
    for seed in range(40):
        c = random_case(random.Random(seed))
        c.update(device_count=1, switchover_ack=0, **{k: [device(RAM)[k]] for k in device(RAM)})
        results = [migrate({**c, "policy": policy}, seed) for policy in (SERIALIZED, UNSERIALIZED)]
        assert results[0] == results[1]


# ---------------------------------------------------------------- stop-copy, throttle, block


@pytest.mark.parametrize("profile", ["8.2", "9.0", "10.0", "11.1"])
def test_stop_copy_above_the_threshold_never_completes(profile):
    threshold = 0.3 * PAGES_PER_S * PAGE
    outcomes = []
    for factor in (0.5, 1.5):
        vfio = device(VFIO, initial_bytes=64 * KIB, stop_copy_bytes=int(factor * threshold), chunk_bytes=64 * KIB)
        # with little to do the bandwidth, and so the threshold, falls: name the bandwidth
        columns = {"avail_switchover_bandwidth": PAGES_PER_S * PAGE, "time_limit_ns": 4 * S, "turn_ns": 5 * MS}
        outcomes.append(migrate(case(profile, devices=[device(RAM), vfio], **columns))["outcome"])
    assert outcomes == [COMPLETED, TIME_LIMIT]


def test_auto_converge_throttles_until_it_completes():
    columns = {
        "ram_pages": 1500,
        "regions": [region(0, 1200, 2600, sequential=1)],
        "downtime_limit_ms": 100.0,
        "time_limit_ns": 60 * S,
        "cpu_throttle_increment": 20,
    }
    free = migrate(case(**{**columns, "time_limit_ns": 10 * S}))
    throttled = migrate(case(auto_converge=1, **columns))
    assert free["outcome"] == TIME_LIMIT
    assert free["throttle"] == 0
    assert throttled["outcome"] == COMPLETED
    seen = []
    for turn in throttled["timeline"]:
        if turn["throttle"] not in seen:
            seen.append(turn["throttle"])
    assert seen[:3] == [0, 20, 40]
    assert throttled["throttle"] >= seen[-1]


def test_throttle_timer_syncs_by_itself():
    columns = {"ram_pages": 3000, "regions": [region(0, 2900, 3000, sequential=1)], "time_limit_ns": 9 * S}
    columns |= {"downtime_limit_ms": 100.0, "auto_converge": 1, "throttle_trigger_threshold": 99}
    without = migrate(case("10.0", throttle_timer_ns=0, **columns))
    for profile, counts in (("10.0", True), ("11.1", False)):
        with_timer = migrate(case(profile, throttle_timer_ns=500 * MS, **columns))
        asked = sum(t["synced"] for t in with_timer["timeline"])
        assert without["sync_count"] == 1 + sum(t["synced"] for t in without["timeline"])
        assert (with_timer["sync_count"] > 1 + asked) == counts


def test_ram_waits_for_the_bulk_phase_of_a_block_device():
    disk = 20 * 1024 * KIB + 5
    r = migrate(case("8.2", devices=[device(BLOCK, initial_bytes=disk), device(RAM)], downtime_limit_ms=1.0))
    assert r["outcome"] == COMPLETED
    assert r["device_bytes"][0] == disk
    sent = [t["device_sent"] for t in r["timeline"]]
    assert sent[0] == [16 * 1024 * KIB, 0]
    assert sent[1][0] == disk - 16 * 1024 * KIB
    assert sent[1][1] > 0


# ---------------------------------------------------------------- random cases


@pytest.mark.parametrize("seed", range(80))
def test_books_balance(seed):
    c = random_case(random.Random(seed))
    r = migrate(c, seed)
    kinds = c["device_kind"]
    ram = kinds.index(RAM)
    normal = r["ram_pages_sent"] - r["ram_zero_pages"]
    assert r["device_bytes"][ram] == normal * (c["page_size"] + 8) + 9 * r["ram_zero_pages"]
    headers = r["bytes_sent"] - sum(r["device_bytes"])
    assert headers >= 18 * sum(r["device_calls"])
    in_walks = [sum(t["device_sent"][i] or 0 for t in r["timeline"]) for i in range(len(kinds))]
    assert sum(in_walks) + r["switchover_bytes"] == sum(r["device_bytes"])
    for i, kind in enumerate(kinds):
        calls = [t["device_sent"][i] is not None for t in r["timeline"]]
        assert sum(calls) == r["device_calls"][i]
        if kind == VFIO and c["device_initial_bytes"][i] and not any(calls) and r["timeline"]:
            end = r["stop_ns"] if r["outcome"] == COMPLETED else r["total_ns"]
            assert r["device_starved_ns"][i] == end - r["timeline"][0]["t_ns"]
    times = [t["t_ns"] for t in r["timeline"]]
    assert times == sorted(times)
    assert r["ram_pages_sent"] >= (c["ram_pages"] if r["outcome"] == COMPLETED else 0)
    if r["outcome"] == COMPLETED:
        parts = ("stop", "ram", "devices", "state", "destination")
        assert r["downtime_ns"] == sum(r[f"downtime_{part}_ns"] for part in parts)
        if c["switchover_ack"]:
            assert all(0 <= r["device_ack_ns"][i] <= r["stop_ns"] for i, kind in enumerate(kinds) if kind == VFIO)
    else:
        assert r["total_ns"] >= c["time_limit_ns"]
        assert r["downtime_ns"] == -1


def test_random_cases_are_diverse():
    cases = [random_case(random.Random(seed)) for seed in range(200)]
    for column in ("exact_rule", "policy", "lazy_clear", "region_count", "device_count", "switchover_ack"):
        assert len({c[column] for c in cases}) > 1, column
    assert {kind for c in cases for kind in c["device_kind"]} == {RAM, VFIO, BLOCK}


def test_same_seed_same_migration():
    c = random_case(random.Random(3))
    c.update(region_count=1, region_start=[0], region_pages=[150], region_writes_per_s=[300.0])
    c.update(region_sequential=[0], region_zero_share=[0.5], time_limit_ns=2 * S)
    c.update(region_vcpu_share=[10_000], region_phase=[0])
    c.update(region_rate_first=[0], region_rate_count=[0], region_period_ns=[0])
    assert migrate(c, 5, 1) == migrate(c, 5, 1)
    assert migrate(c, 5, 1) != migrate(c, 5, 2)
    assert migrate(c, 5, 1) != migrate(c, 6, 1)
