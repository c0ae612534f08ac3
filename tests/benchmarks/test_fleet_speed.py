"""A drain of 50 guests on one link, and how many at a time are best.

Beside SimGrid's plugin a drain is measured in ``test_simgrid.py``.
"""

import migkit
from migkit import Guest, Link, Migration, Region, Scenario

WEB = Scenario(
    guest=Guest(ram="8 GiB", regions=[Region(size="512 MiB", write_rate="100 MB/s")]),
    link=Link(bandwidth="25 Gbit/s"),
    migration=Migration(max_bandwidth=0),
    time_limit="20 min",
)
DATABASE = WEB.replace({
    "guest.ram": "64 GiB", "guest.regions.0.size": "4 GiB", "guest.regions.0.write_rate": "700 MB/s",
})  # fmt: skip
GUESTS = {f"web{n}": WEB for n in range(45)} | {f"db{n}": DATABASE for n in range(5)}


def test_a_drain_of_fifty_guests(benchmark):
    found = benchmark.pedantic(migkit.fleet, (GUESTS,), {"link": "25 Gbit/s", "parallel": 2}, rounds=3, warmup_rounds=1)
    assert len(found.table) == len(GUESTS)


def test_how_many_at_a_time(benchmark):
    benchmark.pedantic(
        migkit.how_many, (GUESTS, "25 Gbit/s"), {"parallel": [1, 2, 4]}, rounds=3, warmup_rounds=1
    )  # fmt: skip
