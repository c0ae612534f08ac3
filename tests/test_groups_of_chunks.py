"""Large guests with the expected engine: segments of several chunks, against the bitmap engine and chunk by chunk."""

import random

import numpy as np
import pytest
from rows import columns, kernels

from migkit import Guest, Link, Migration, Region, Scenario, Vfio
from migkit.kernels import ram_expected
from migkit.kernels.options import open_kernel
from migkit.scenario.rows import records
from migkit.scenario.units import Bytes, Rate

GIB = 2**30


def written(ram, rate, **migration):
    """A guest that writes all of its RAM, on 1 GB/s."""
    return Scenario(
        guest=Guest(ram=Bytes(ram), regions=[Region(size=Bytes(ram), write_rate=rate)]),
        link=Link(bandwidth="1 GB/s"),
        migration=Migration(max_bandwidth=0, **migration),
        time_limit="48 h",
    )


def both(scenario, replicates):
    mean = kernels.run(columns([scenario]), "expected")
    drawn = kernels.run(columns([scenario] * replicates), "bitmap", replicate=np.arange(replicates))
    assert (drawn.outcome == 0).all()
    assert mean.outcome[0] == 0
    return mean, drawn


@pytest.mark.parametrize(
    ("gib", "shift", "replicates"),
    # groups of 1, 4, 8 and 16 chunks
    [(16, 18, 2), (64, 18, 2), (4, 13, 4), (4, 12, 4)],
)
def test_the_mean_is_the_bitmap_engines(gib, shift, replicates):
    mean, drawn = both(written(gib * GIB, "500 MB/s", x_clear_bitmap_shift=shift), replicates)
    assert mean.total_ns[0] == pytest.approx(drawn.total_ns.mean(), rel=1e-3)
    assert mean.bytes_sent[0] == pytest.approx(drawn.bytes_sent.mean(), rel=1e-3)
    assert mean.sync_count[0] == pytest.approx(drawn.sync_count.mean(), abs=1)


def test_syncs_in_the_middle_of_a_group():
    """One call of RAM a sync cuts a group anew each time; what lies behind the cursor is joined again."""
    scenario = written(4 * GIB, "300 MB/s", x_clear_bitmap_shift=13, postcopy_ram=True).replace("qemu", "11.1")
    mean, drawn = both(scenario, 4)
    assert mean.sync_count[0] > 60
    assert mean.total_ns[0] == pytest.approx(drawn.total_ns.mean(), rel=1e-3)
    assert mean.bytes_sent[0] == pytest.approx(drawn.bytes_sent.mean(), rel=1e-3)


def test_regions_that_end_within_a_chunk_and_sequential_ones_keep_their_chunks():
    regions = [
        Region(size="1000 MiB", start="100 MiB", write_rate="200 MB/s"),
        Region(size="900 MiB", start="1200 MiB", write_rate="100 MB/s", pattern="sequential", phase=0.25),
    ]
    scenario = written(4 * GIB, "1 MB/s", x_clear_bitmap_shift=12).replace("guest.regions", regions)
    mean, drawn = both(scenario, 6)
    assert mean.total_ns[0] == pytest.approx(drawn.total_ns.mean(), rel=2e-3)
    assert mean.bytes_sent[0] == pytest.approx(drawn.bytes_sent.mean(), rel=2e-3)


def test_no_kind_of_guest_ends_otherwise_than_with_the_bitmap_engine():
    """Random regions, limits and versions: within what the bitmap engine draws, or 1 % of it."""
    for k in range(12):
        rng = random.Random(f"groups {k}")
        size = rng.randint(600, 1900) * 2**20
        scenario = Scenario(
            guest=Guest(
                ram="2 GiB",
                accel=rng.choice(["kvm", "tcg"]),
                regions=[Region(size=Bytes(size), start=Bytes(rng.randint(0, 100) * 2**20), write_rate=Rate(
                    rng.uniform(0.05, 0.7) * 5e8))],
            ),
            devices=[Vfio(initial_bytes="16 MiB")] if rng.random() < 0.5 else [],
            link=Link(bandwidth="500 MB/s"),
            migration=Migration(
                max_bandwidth=rng.choice([0, "400 MiB/s"]),
                x_clear_bitmap_shift=rng.choice([11, 12, 13]),
                auto_converge=rng.random() < 0.3,
            ),
            qemu=rng.choice(["8.1", "9.0", "10.0", "11.1"]),
        )  # fmt: skip
        mean, drawn = both(scenario, 8)
        total = mean.total_ns[0]
        assert 0.99 * drawn.total_ns.min() <= total <= 1.01 * drawn.total_ns.max(), (k, scenario)


def test_a_large_guest_has_no_more_segments_than_a_small_one():
    room = [ram_expected.widest(*parts_of(written(gib * GIB, "500 MB/s"))) for gib in (64, 1024, 24 * 1024)]
    assert max(room) - min(room) <= 4
    assert max(room) <= 2 * ram_expected.widest(*parts_of(written(4 * GIB, "500 MB/s")))


def parts_of(scenario):
    made = records([scenario])
    return made.cases, made.regions


def test_memory_is_laid_out_for_what_each_migration_says_it_needs():
    most = open_kernel(getattr(ram_expected.most_segments, "py_func", ram_expected.most_segments))
    rng = random.Random("widths")
    for _ in range(40):
        at, regions = 0, []
        for _ in range(rng.randint(1, 4)):
            at += rng.randint(0, 3000)
            size = rng.randint(1, 40_000)
            pattern = rng.choice(["uniform", "sequential"])
            regions.append(
                Region(size=Bytes(size * 2**20), start=Bytes(at * 2**20), write_rate=rng.choice([0, "1 MB/s"]))
                if pattern == "uniform"
                else Region(
                    size=Bytes(size * 2**20), start=Bytes(at * 2**20), write_rate="1 MB/s", pattern=pattern, phase=0.1
                )
            )
            at += size
        cases, rows = parts_of(written(256 * GIB, "1 MB/s").replace("guest.regions", regions))
        assert most(cases[0], rows[0]) == ram_expected.widest(cases, rows)
