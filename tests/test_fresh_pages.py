"""A link that is slower while pages are sent for the first time: closed forms."""

import numpy as np
import pytest
from cases import MS, RAM, VFIO, S, case, device, region
from rows import Outputs, kernels, to_parameters

from migkit.kernels.state import COMPLETED

PAGE = 4104
PAGES_PER_S = 2000  # a slice ends at the first check after 102 pages: the 129th page; at half the speed the 65th
WIRE_NS = 1e9 / PAGES_PER_S
HALF = {"fresh_ns_per_byte": 2 * WIRE_NS / PAGE}
both_engines = pytest.mark.parametrize("engine", kernels.ENGINES)


def migrate(engine, c, **options):
    return kernels.run(to_parameters([c]), engine, **options)


def sent_in_ns(outputs, c):
    """What the wire took: all of the time but turns, syncs, setup and switchover."""
    syncs = outputs.sync_count[0] - 1
    rest = c["setup_ns"] + c["turn_ns"] * outputs.turns[0] + c["sync_ns"] * syncs
    return outputs.total_ns[0] - rest - c["vm_stop_ns"] - c["device_state_ns"]


@pytest.mark.nojit
@both_engines
@pytest.mark.parametrize("slices_before", [0, 1, 5])
def test_an_idle_first_pass_takes_the_time_of_both_rates(engine, slices_before):
    before = slices_before * 129
    c = case(ram_pages=1000, downtime_limit_ms=1.0, **HALF, fresh_after_pages=before)
    outputs = migrate(engine, c)
    assert outputs.outcome[0] == COMPLETED
    wire = before * WIRE_NS + (1000 - before) * 2 * WIRE_NS
    assert sent_in_ns(outputs, c) == pytest.approx(wire, abs=float(outputs.ram_calls[0] + 2))


@both_engines
def test_the_rate_of_a_call_is_that_of_its_first_page(engine):
    c = case(ram_pages=1000, downtime_limit_ms=1.0, **HALF, fresh_after_pages=130)
    turns = kernels.record(to_parameters([c]), engine)[1]
    assert turns.ram_pages[:4].tolist() == [129, 129, 65, 65]


@both_engines
def test_later_passes_have_the_full_rate(engine):
    c = case(
        ram_pages=1000, regions=[region(0, 400, 2000, sequential=1)], downtime_limit_ms=20.0, time_limit_ns=4 * S,
        **HALF, fresh_after_pages=258,
    )  # fmt: skip
    turns = kernels.record(to_parameters([c]), engine)[1]
    begins = np.cumsum(turns.ram_pages) - turns.ram_pages
    full = turns.ram_pages[turns.ram_returned == 0]
    begins = begins[turns.ram_returned == 0]
    assert set(full[begins < 258]) == {129}
    assert set(full[(begins >= 258) & (begins < 1000)]) == {65}
    assert set(full[begins >= 1000]) == {129}
    assert len(full[begins >= 1000]) > 10


@pytest.mark.nojit
@both_engines
def test_the_downtime_is_put_group_by_group(engine):
    # 100 pages of the first slice are left when the VM stops: with a threshold of 950 pages that is after one window
    settings = {"ram_pages": 1000, "downtime_limit_ms": 1000.0, "turn_ns": MS}
    plain = migrate(engine, case(**settings))
    left = plain.switchover_bytes[0] // PAGE
    sent = 1000 - left
    assert sent > 0
    assert left > 300
    c = case(**settings, **HALF, fresh_after_pages=sent + 50)
    outputs = migrate(engine, c)
    assert outputs.switchover_bytes[0] == plain.switchover_bytes[0]
    wire = 50 * WIRE_NS + (left - 50) * 2 * WIRE_NS
    assert outputs.downtime_ram_ns[0] == pytest.approx(wire, abs=3)


@both_engines
@pytest.mark.parametrize("limit", [0, 2_000_000])
def test_a_fresh_rate_that_is_that_of_the_link_changes_nothing(engine, limit):
    settings = {
        "ram_pages": 3000, "regions": [region(100, 900, 700)], "max_bandwidth": limit, "send_slack_ns": 3 * MS,
        "downtime_limit_ms": 100.0,
    }  # fmt: skip
    plain = case(**settings)
    same = case(
        **settings, fresh_ns_per_byte=plain["link_ns_per_byte"], fresh_slack_ns=plain["send_slack_ns"],
        fresh_after_pages=700,
    )  # fmt: skip
    for name, a, b in zip(Outputs._fields, migrate(engine, plain), migrate(engine, same), strict=True):
        if name != "steps":  # windows are not jumped over beyond the place where the rate might change
            np.testing.assert_array_equal(a, b, err_msg=name)


@both_engines
def test_windows_are_jumped_over_on_both_sides_of_the_change(engine):
    # budget of 24 pages, in groups of 32, on a link that sends them in 16 and 32 ms
    c = case(
        ram_pages=20_000, max_bandwidth=10 * 24 * PAGE, downtime_limit_ms=1.0, time_limit_ns=100 * S, **HALF,
        fresh_after_pages=10_000,
    )  # fmt: skip
    jumped = migrate(engine, c)
    stepped = kernels.record(to_parameters([c]), engine)[0]
    for name, a, b in zip(Outputs._fields, jumped, stepped, strict=True):
        if name != "steps":
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert jumped.turns[0] > 600
    assert jumped.steps[0] < 40


def test_a_stop_copy_that_fits_only_at_the_full_rate_is_no_verdict():
    # 300 ms of the link are 600 pages, at half the speed 300; the device stops with 350, and 200 are always dirty
    c = case(
        "10.0", ram_pages=1000, regions=[region(0, 200, 4000, sequential=1)],
        devices=[device(RAM), device(VFIO, stop_copy_bytes=350 * PAGE)], **HALF, fresh_after_pages=0,
    )  # fmt: skip
    early, late = (migrate("expected", c, stops_early=stops) for stops in (True, False))
    assert early.outcome[0] == late.outcome[0] == COMPLETED
    assert early.total_ns[0] == late.total_ns[0]
    assert early.ram_pages_sent[0] > 1000
    never = {**c, "fresh_after_pages": 1 << 40, "link_ns_per_byte": HALF["fresh_ns_per_byte"]}
    assert migrate("expected", never).outcome[0] != COMPLETED
