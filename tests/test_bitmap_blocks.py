"""Draws of the bitmap engine in chunks of many blocks: bit for bit those of the naive loop."""

import random

import pytest
from cases import MS, S, case, region
from naive import migrate
from rows import Outputs, kernels, to_parameters

PAGES = 13_000  # three blocks of 4096 pages and a part of one
PAGES_PER_S = 20_000
OTHERWISE_SAID = ("outcome", "culprit", "steps")  # the naive loop gives no verdict


def two_regions(seed):
    """Regions that begin and end at any page, with few and with many writes to a page between syncs."""
    rng = random.Random(seed)
    first = region(rng.randint(0, 3000), rng.randint(1, 5000), PAGES_PER_S * rng.choice([0.01, 0.1, 0.5, 2, 300]))
    start = first["region_start"] + first["region_pages"] + rng.choice([0, 0, rng.randint(0, 200)])
    second = region(start, rng.randint(1, PAGES - start), PAGES_PER_S * rng.choice([0.002, 0.03, 0.1, 0.3, 0.6]))
    return case(
        rng.choice(["7.2", "9.0", "11.1"]),
        ram_pages=PAGES,
        regions=[first, second],
        link_ns_per_byte=1e9 / PAGES_PER_S / 4104,
        chunk_pages=(4096, 8192, 1 << 18)[seed % 3],
        lazy_clear=int(seed % 4 > 0),
        max_bandwidth=0,
        downtime_limit_ms=rng.choice([1.0, 20.0, 100.0]),
        time_limit_ns=2 * S,
        turn_ns=100_000,
        sync_ns=5 * MS,
    )


@pytest.mark.parametrize("seed", range(8))
def test_blocks_are_those_of_the_naive_loop(seed):
    c = two_regions(seed)
    naive = migrate(c, seed=seed, replicate=1)
    outputs = kernels.run(to_parameters([c]), "bitmap", seed=seed, replicate=1)
    for name in set(Outputs._fields) - set(OTHERWISE_SAID):
        if not name.startswith("device_"):
            assert int(getattr(outputs, name)[0]) == naive[name], name
