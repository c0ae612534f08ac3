"""Who looks for zero pages: the migration thread, the channels, or nobody."""

import numpy as np
import pytest

import migkit
from migkit import Guest, HostCosts, Link, Migration, Region, Scenario, ScenarioError, Sweep

ENGINES = ("expected", "bitmap")
COSTS = {"multifd_page": "0.1 us", "channel_page": "0.5 us", "page": "0.5 us", "zero_page": "0.2 us"}


def scenario(qemu="10.0", multifd=True, guest=None, **migration):
    """A guest of 1 GiB of which three quarters are zero pages, and a link that does not bind."""
    return Scenario(
        guest=Guest(**{"ram": "1 GiB", "accel": "tcg", "zero_share": 0.75} | (guest or {})),
        link=Link(bandwidth="100 Gbit/s", rtt="0 s"),
        migration=Migration(max_bandwidth=0, multifd=multifd, **migration),
        costs=HostCosts(**COSTS),
        qemu=qemu,
    )


def same(one, other):
    return all(np.array_equal(one[name], other[name], equal_nan=True) for name in one)


def numbers(given, engine):
    found = migkit.simulate(given, engine)
    assert found.outcome.name == "COMPLETED"
    return found.numbers


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("multifd", [True, False])
def test_nobody_looks_and_zero_pages_travel_as_any_page(engine, multifd):
    given = scenario(
        multifd=multifd,
        guest={"used": "256 MiB", "used_at": "start", "zero_share": 0.5,
               "regions": [Region(size="64 MiB", start="16 MiB", write_rate="50 MB/s", zero_share=0.5)]},
    )  # fmt: skip
    full = given.replace(
        {"guest.used": "0 B", "guest.used_at": "spread", "guest.zero_share": 0.0, "guest.regions.0.zero_share": 0.0}
    )
    none, whole = numbers(given.replace("migration.zero_page_detection", "none"), engine), numbers(full, engine)
    assert none["ram_zero_pages"] == 0
    assert same(none, whole)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_migration_thread_looks_or_the_channels_do(engine):
    found = {how: numbers(scenario(zero_page_detection=how), engine) for how in ("legacy", "multifd", "none")}
    zeros, pages = found["legacy"]["ram_zero_pages"], 262144
    assert zeros == pytest.approx(0.75 * pages, rel=0.01)
    assert found["multifd"]["ram_zero_pages"] == pytest.approx(zeros, rel=1e-4)  # rounded call by call
    # bytes: 9 on the main stream; a slot of 8 in packets of 128 pages that are as many more; the whole page
    normal = pages - zeros
    packets = {"legacy": normal / 128, "multifd": pages / 128, "none": pages / 128}
    carried = {"legacy": normal * 4096 + zeros * 9, "multifd": normal * 4096, "none": pages * 4096}
    for how, each in found.items():
        assert each["bytes_sent"] == pytest.approx(carried[how] + packets[how] * 1344, rel=2e-4)
    # time: the migration thread's where it looks, that of two channels where they do
    thread = normal * 0.1e-6 + zeros * 0.2e-6
    channels = (normal * 0.5e-6 + zeros * 0.2e-6) / 2
    setup = 2e-3
    assert found["legacy"]["total_time_s"] - setup == pytest.approx(max(thread, normal * 0.5e-6 / 2), rel=0.1)
    assert found["multifd"]["total_time_s"] - setup == pytest.approx(channels, rel=0.1)
    assert found["none"]["total_time_s"] - setup == pytest.approx(pages * 4096 / 12.5e9, rel=0.1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("qemu", "how"), [("9.0", "multifd"), ("11.1", "multifd")])
def test_not_given_it_is_what_the_version_does(qemu, how, engine):
    given = scenario(qemu)
    assert same(numbers(given, engine), numbers(given.replace("migration.zero_page_detection", how), engine))


def test_without_multifd_the_channels_value_is_the_migration_thread():
    given = scenario(multifd=False)
    legacy, channels = (given.replace("migration.zero_page_detection", how) for how in ("legacy", "multifd"))
    assert same(numbers(legacy, "expected"), numbers(given, "expected"))
    assert same(numbers(channels, "expected"), numbers(given, "expected"))


@pytest.mark.parametrize("qemu", ["7.2", "8.0", "8.2", "9.0-rc0"])
@pytest.mark.parametrize("how", ["none", "legacy", "multifd"])
def test_versions_before_9_0_have_no_such_parameter(qemu, how):
    with pytest.raises(ScenarioError) as told:
        scenario(qemu, zero_page_detection=how)
    assert str(told.value) == (
        f'migration.zero_page_detection = "{how}" is not available in profile "{qemu}": use 9.0 or later.'
    )


def test_other_values_are_refused():
    with pytest.raises(ScenarioError, match="zero_page_detection"):
        scenario(zero_page_detection="channels")


def test_a_sweep_over_it_is_the_migrations_one_by_one():
    given = scenario(zero_page_detection="none")
    values = ["none", "legacy", "multifd"]
    swept = migkit.sweep(Sweep(scenario=given, axes={"migration.zero_page_detection": values}, engine="expected"))
    times = [numbers(given.replace("migration.zero_page_detection", how), "expected")["total_time_s"] for how in values]
    assert swept["total_time_s"].to_numpy().ravel().tolist() == times


def test_a_layer_that_cannot_set_it_says_so():
    from migkit.analysis.layers import commands

    given = scenario(zero_page_detection="legacy")
    assert '"zero-page-detection": "legacy"' in commands(given, "qemu", 600.0).text
    told = commands(given, "kubevirt", 600.0)
    assert "zero-page-detection is not set by it." in told.cannot
    assert told.as_run.migration.zero_page_detection is None
