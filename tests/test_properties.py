"""What holds for every migration: bytes are conserved, parts add up, and what theory says is monotone is."""

import random

import numpy as np
import pytest
from cases import BLOCK, MIB, MS, RAM, VFIO, S, case, device, random_case, region
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import Outputs, kernels, to_parameters

from migkit.kernels.state import COMPLETED

check = settings(derandomize=True, database=None, deadline=None, max_examples=60)
both_engines = pytest.mark.parametrize("engine", kernels.ENGINES)
random_cases = st.integers(0, 10**9).map(lambda k: random_case(random.Random(k)))


def migrate(engine, *cases, **options):
    return kernels.run(to_parameters(cases), engine, **options)


# ---------------------------------------------------------------- books


def header_bytes(c, timeline):
    """Bytes of the stream that are not data, from what each turn sent: sections, and what stands before a block."""
    total = 18 * int((timeline.ram_returned >= 0).sum())
    for d, kind in enumerate(c["device_kind"]):
        sent = timeline.device_sent[:, d]
        if kind == VFIO:
            total += 34 * int((sent > 0).sum()) + 18 * int((sent == 0).sum())
        elif kind == BLOCK:
            total += 20 * int((-(-sent[sent > 0] // MIB)).sum()) + 18 * int((sent >= 0).sum())
    return total


@both_engines
@given(c=random_cases)
@check
def test_books_balance(engine, c):
    outputs, timeline = kernels.record(to_parameters([c]), engine)
    o = {name: column[0] for name, column in zip(Outputs._fields, outputs, strict=True)}
    ram = c["device_kind"].index(RAM)
    # every byte belongs to a device or to a header
    assert len(timeline.t_ns) == o["turns"]
    assert o["bytes_sent"] == o["device_bytes"].sum() + header_bytes(c, timeline)
    normal = o["ram_pages_sent"] - o["ram_zero_pages"]
    assert o["device_bytes"][ram] == normal * (c["page_size"] + 8) + 9 * o["ram_zero_pages"]
    assert 0 <= o["ram_zero_pages"] <= o["ram_pages_sent"]
    switched = o["ram_pages_sent"] - timeline.ram_pages.sum()
    assert switched >= 0
    assert o["ram_calls"] == (timeline.ram_returned >= 0).sum()
    assert o["ram_calls_done"] == (timeline.ram_returned == 1).sum()
    assert (np.diff(timeline.t_ns) > 0).all()
    # initial data is sent, or left
    for d, kind in enumerate(c["device_kind"]):
        if kind == VFIO:
            assert 0 <= o["device_initial_left"][d] <= c["device_initial_bytes"][d]
            first, sent, ack = (o[f"device_{name}_ns"][d] for name in ("first_call", "initial_sent", "ack"))
            assert (sent >= 0) == (o["device_initial_left"][d] == 0 and o["device_calls"][d] > 0)
            if sent >= 0:
                assert c["setup_ns"] <= first <= sent
            if ack >= 0:
                assert c["switchover_ack"]
                assert 0 <= sent <= ack - c["device_load_ns"][d] - c["rtt_ns"]
            assert 0 <= o["device_starved_ns"][d] <= o["total_ns"]
    if o["outcome"] == COMPLETED:
        assert o["ram_pages_sent"] >= c["ram_pages"]
        parts = ("stop", "ram", "devices", "state", "destination")
        assert o["downtime_ns"] == sum(o[f"downtime_{part}_ns"] for part in parts)
        assert o["total_ns"] == o["stop_ns"] + o["downtime_ns"]
        assert o["pending"] == 0 or o["pending"] <= o["threshold"]
        if c["switchover_ack"]:
            acks = [o["device_ack_ns"][d] for d, kind in enumerate(c["device_kind"]) if kind == VFIO]
            assert all(0 <= ack <= o["stop_ns"] for ack in acks)
    else:
        assert o["downtime_ns"] == o["stop_ns"] == -1
        assert o["switchover_bytes"] == 0


@both_engines
@given(c=random_cases, seed=st.integers(0, 2**31))
@check
def test_with_one_device_all_policies_are_equal(engine, c, seed):
    c.update(device_count=1, switchover_ack=0, **{name: [value] for name, value in device(RAM).items()})
    first, *others = (migrate(engine, {**c, "policy": policy}, seed=seed) for policy in (0, 1))
    for other in others:
        for name, a, b in zip(Outputs._fields, first, other, strict=True):
            assert np.array_equal(a, b), name


# ---------------------------------------------------------------- monotone for an idle guest


def idle(bytes_per_s, ram_pages, **columns):
    return case(
        "9.0",
        ram_pages=ram_pages,
        link_ns_per_byte=1e9 / bytes_per_s,
        **{"turn_ns": 20_000, "time_limit_ns": 3600 * S, "return_path": 1, **columns},
    )


def ladder(low, high):
    """Values in rising order."""
    return st.lists(st.integers(low, high), min_size=4, max_size=8, unique=True).map(sorted)


@both_engines
@given(speeds=ladder(10**6, 10**8), lazy=st.integers(0, 1), page_cost=st.sampled_from([0.0, 500.0, 30_000.0]))
@check
def test_idle_more_link_is_never_later(engine, speeds, lazy, page_cost):
    # every byte is sent once; what can differ is how many turns, and whether the last pages come before the stop
    outputs = migrate(engine, *(idle(s, 3000, lazy_clear=lazy, page_cost_ns=page_cost) for s in speeds))
    assert (outputs.outcome == COMPLETED).all()
    assert (outputs.ram_pages_sent == 3000).all()
    turns = 20_000 * outputs.turns + MS * outputs.sync_count
    assert (np.diff(outputs.total_ns - turns) <= 0).all()
    assert (outputs.total_ns[-1] - outputs.total_ns[0]) <= turns[-1]


@both_engines
@given(limits=ladder(10**5, 10**7))
@check
def test_idle_a_higher_limit_is_never_later_by_more_than_a_window(engine, limits):
    # the last window is not filled to the end
    outputs = migrate(engine, *(idle(2e7, 1500, max_bandwidth=limit) for limit in limits))
    assert (outputs.outcome == COMPLETED).all()
    assert (np.diff(outputs.total_ns) <= 100 * MS).all()
    # a window carries the limit, and less than a group of 32 pages more
    budget = np.array(limits) // 10
    windows = (outputs.stop_ns - 10 * MS) / (100 * MS)
    carried = outputs.bytes_sent - outputs.switchover_bytes
    assert (carried <= (windows + 1) * (budget + 33 * 4104)).all()


@both_engines
@given(sizes=ladder(64, 20_000), limit=st.sampled_from([0, 10_000_000]), lazy=st.integers(0, 1))
@check
def test_idle_more_ram_takes_longer(engine, sizes, limit, lazy):
    outputs = migrate(engine, *(idle(3e7, n, max_bandwidth=limit, lazy_clear=lazy) for n in sizes))
    assert (outputs.outcome == COMPLETED).all()
    assert outputs.ram_pages_sent.tolist() == sizes
    turns = 20_000 * outputs.turns + MS * outputs.sync_count
    assert (np.diff(outputs.total_ns - turns) >= (0 if limit == 0 else -100 * MS)).all()
    assert (np.diff(outputs.bytes_sent) > 0).all()


@given(seed=st.integers(0, 10**6), more=st.integers(2, 20))
@check
def test_a_longer_time_limit_changes_nothing_but_what_had_no_time(seed, more):
    c = random_case(random.Random(seed))
    short, long = (migrate("bitmap", {**c, "time_limit_ns": c["time_limit_ns"] // part}) for part in (more, 1))
    if short.outcome[0] == COMPLETED:
        for name, a, b in zip(Outputs._fields, short, long, strict=True):
            assert np.array_equal(a, b), name
    else:
        assert long.outcome[0] != COMPLETED or long.stop_ns[0] >= c["time_limit_ns"] // more


# ---------------------------------------------------------------- units


@given(
    share=st.floats(0.05, 0.8),
    part=st.sampled_from([0.25, 0.5, 1.0]),
    lazy=st.integers(0, 1),
    sequential=st.integers(0, 1),
    limited=st.booleans(),
    policy=st.integers(0, 1),
)
@check
def test_bytes_and_rates_scaled_by_one_factor(share, part, lazy, sequential, limited, policy):
    """Times, the outcome and counts of turns stay; bytes and pages scale.

    Not to the bit: headers, the check of every 64 pages, and whole pages and nanoseconds do not scale. The decisions of
    the loop may fall the other way by that little, so the cases lie far from them.
    """
    pages, speed = 200_000, 4e9

    def scaled(factor):
        rate = share * speed / 4104 * factor
        vfio = device(VFIO, initial_bytes=8 * MIB * factor, chunk_bytes=MIB * factor, stop_copy_bytes=MIB * factor)
        return case(
            ram_pages=pages * factor,
            chunk_pages=8192 * factor,
            regions=[region(0, int(pages * part) * factor, rate, sequential=sequential)],
            devices=[device(RAM), vfio],
            lazy_clear=lazy,
            policy=policy,
            link_ns_per_byte=1e9 / (speed * factor),
            max_bandwidth=int(speed * 0.7 * factor) if limited else 0,
            downtime_limit_ms=1000.0,
            turn_ns=50_000,
            zero_cost_ns=0.0,
            time_limit_ns=60 * S,
        )

    small, large = (migrate("expected", scaled(factor)) for factor in (1, 8))
    for name in ("outcome", "culprit", "turns", "sync_count", "ram_calls", "device_calls", "throttle"):
        assert np.array_equal(getattr(small, name), getattr(large, name)), name
    grain_ns = float(2 * 64 * 4104 / speed * 1e9 * (1 + small.ram_calls[0]))
    for name in ("total_ns", "stop_ns", "downtime_ns", "downtime_ram_ns", "downtime_devices_ns"):
        assert getattr(large, name)[0] == pytest.approx(getattr(small, name)[0], rel=0.001, abs=grain_ns), name
    grain = float(2 * 64 * (1 + small.ram_calls[0]))
    for name, unit in (("ram_pages_sent", 1), ("bytes_sent", 4104), ("pending", 4096), ("threshold", 4096)):
        value = getattr(large, name)[0] / 8
        assert value == pytest.approx(getattr(small, name)[0], rel=0.001, abs=grain * unit), name
