"""What carries RAM: link, stream, migration thread and max-bandwidth, and which of them binds."""

import numpy as np
import pytest

import migkit
from migkit.scenario.errors import ScenarioError
from migkit.scenario.wire import LIMITS, binds

FAST = migkit.Scenario(
    guest=migkit.Guest(ram="8 GiB", regions=[migkit.Region(size="1 GiB", start="1 GiB", write_rate="100 MB/s")]),
    link=migkit.Link(bandwidth="100 Gbit/s"),
    migration=migkit.Migration(max_bandwidth=0),
)


def test_the_least_limit_binds():
    cases = {
        "thread": {},
        "max-bandwidth": {"migration.max_bandwidth": "128 MiB/s"},
        "link": {"link.bandwidth": "10 Gbit/s"},
        "stream": {"link.stream_bandwidth": "5.27 Gbit/s"},
    }
    for name, changes in cases.items():
        migration = migkit.simulate(FAST.replace_all(changes))
        assert migration.binds == name == migration.to_dict()["binds"]
        assert f"limited by    {name}, " in migration.summary()
        # the first pass, which is most of it, goes at that limit
        rate = migration.bytes_sent["ram"] / migration.total_time_s
        assert rate == pytest.approx(migration.scenario.wire_limits()[name], rel=0.03)


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_a_stream_with_a_ceiling_is_a_link_of_that_speed(engine):
    scenario = FAST.replace("guest.ram", "2 GiB")
    ceiling = migkit.simulate(scenario.replace("link.stream_bandwidth", "659 MB/s"), engine)
    link = migkit.simulate(scenario.replace("link.bandwidth", "659 MB/s"), engine)
    assert ceiling.total_time_s == link.total_time_s
    assert ceiling.downtime_s == link.downtime_s
    above = migkit.simulate(scenario.replace("link.stream_bandwidth", "200 Gbit/s"), engine)
    assert above.total_time_s == migkit.simulate(scenario, engine).total_time_s


def test_what_binds_along_axes():
    from migkit.scenario.views import View

    rates = np.array([1e8, 1e9, 1e10])
    assert [LIMITS[each] for each in binds(View(FAST, {"link.bandwidth": rates}))] == ["link", "link", "thread"]


def test_a_limit_of_some_kilobytes_holds_a_guest_of_zero_pages():
    # 18.7 MB/s went out under 100 kB/s
    scenario = FAST.replace_all({
        "guest": migkit.Guest(ram="1 GiB", zero_share=1.0), "migration.max_bandwidth": "100 kB/s", "time_limit": "1 h",
    })  # fmt: skip
    for engine in ("expected", "bitmap"):
        migration = migkit.simulate(scenario, engine)
        # a window ends with the flush of 32 KiB that passes the limit of 10 kB
        assert migration.bytes_sent["ram"] / migration.total_time_s == pytest.approx(327_690, rel=0.05)


@pytest.mark.parametrize("value", ["1 B/s", "2 TB/s", "-1 B/s", "fast"])
def test_a_ceiling_that_is_none_is_refused(value):
    with pytest.raises(ScenarioError, match="stream_bandwidth"):
        migkit.Link(bandwidth="1 GB/s", stream_bandwidth=value)


def test_a_ceiling_that_would_take_a_year_is_refused():
    with pytest.raises(ScenarioError, match=r"link\.stream_bandwidth .*more than a year"):
        FAST.replace_all({"link.stream_bandwidth": "1 kB/s", "guest.ram": "256 GiB"})
