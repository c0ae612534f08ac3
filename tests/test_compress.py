"""compress: threads that compress the main stream, up to 9.0."""

import numpy as np
import pytest

import migkit
from migkit import Guest, HostCosts, Link, Migration, Region, Scenario, ScenarioError

ENGINES = ["expected", "bitmap"]


def scenario(**fields):
    migration = {"max_bandwidth": 0, "compress": True} | fields.pop("migration", {})
    link = {"bandwidth": "1 Gbit/s", "compression_ratio": 4.0, "rtt": "0 s"} | fields.pop("link", {})
    costs = {"compress_page": "40 us", "page": "1 us"} | fields.pop("costs", {})
    return Scenario(guest=Guest(ram="1 GiB", accel="tcg", **fields.pop("guest", {})), link=Link(**link),
                    costs=HostCosts(**costs), migration=Migration(**migration), **{"qemu": "8.2"} | fields)  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("threads", "binds", "page_s"), [(8, "link", 1036 / 125e6), (2, "thread", 20e-6)])
def test_the_link_carries_compressed_pages_or_the_threads_hold_them(engine, threads, binds, page_s):
    given = scenario(migration={"compress_threads": threads})
    assert given.binds == binds
    found = migkit.simulate(given, engine)
    pages = 262144
    assert found.total_time_s == pytest.approx(pages * page_s, rel=0.01)
    assert found.numbers["bytes_sent"] == pytest.approx(pages * 1036, rel=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_guest_above_the_link_converges_where_its_pages_are_compressed(engine):
    hot = scenario(guest={"regions": [Region(size="256 MiB", write_rate="200 MB/s")]}, time_limit="2 min")
    assert migkit.simulate(hot, engine).converged
    assert not migkit.simulate(hot.replace("migration.compress", False), engine).converged


def test_max_bandwidth_sees_compressed_bytes():
    limited = migkit.simulate(scenario(migration={"max_bandwidth": "20 MB/s"}))
    assert limited.total_time_s == pytest.approx(262144 * 1036 / 20e6, rel=0.02)


def test_zero_pages_are_none_of_it():
    found = migkit.simulate(scenario(guest={"zero_share": 1.0}))
    assert found.numbers["bytes_sent"] == pytest.approx(262144 * 9, rel=1e-3)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"qemu": "9.1"}, 'was removed in 9.1 and is not in profile "9.1": use multifd with multifd_compression, or'),
        ({"qemu": "11.1"}, "was removed in 9.1"),
        (
            {"migration": {"multifd": True}},
            "compress = True cannot be on together with migration.multifd: QEMU refuses it",
        ),
        ({"migration": {"postcopy_ram": True}}, "cannot be on together with migration.postcopy_ram"),
        ({"migration": {"xbzrle": True}}, "cannot be on together with migration.xbzrle"),
        ({"link": {"compression_ratio": 0}}, "migration.compress = True needs link.compression_ratio"),
        ({"costs": {"compress_page": "0 s"}}, "migration.compress = True needs costs.compress_page"),
        ({"migration": {"compress_threads": 0}}, "compress_threads"),
    ],
)
def test_what_is_refused_says_so_in_one_sentence(fields, sentence):
    with pytest.raises(ScenarioError) as told:
        scenario(**fields)
    assert sentence in str(told.value)


def test_9_0_still_has_it():
    assert migkit.simulate(scenario(qemu="9.0")).converged


def test_a_sweep_over_the_threads_is_the_migrations_one_by_one():
    given = scenario()
    swept = migkit.sweep(given, {"migration.compress_threads": [1, 4, 8]})
    one_by_one = [migkit.simulate(given.replace("migration.compress_threads", n)).total_time_s for n in (1, 4, 8)]
    assert np.array_equal(swept["total_time_s"].to_numpy(), one_by_one)


def test_qemu_is_told_and_other_layers_say_that_they_cannot():
    from migkit.analysis.layers import commands

    told = commands(scenario(migration={"compress_threads": 4}), "qemu", 600.0)
    assert '{"capability": "compress", "state": true}' in told.text
    assert '"compress-threads": 4' in told.text
    other = commands(scenario(), "nova", 600.0)
    assert "compress is not set by it." in other.cannot
    assert not other.as_run.migration.compress
