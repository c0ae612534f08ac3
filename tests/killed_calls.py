"""Repeat a call in processes that are killed at random moments, then once to its end.

    python killed_calls.py frontier|sensitivity FOLDER SEED
    python killed_calls.py export FOLDER SEED STORE

Writes ``FOLDER/result.nc``, or the tables of a store into FOLDER, and prints the files in FOLDER after each kill. What
is kept on the way is in ``FOLDER/kept``; ``FOLDER/whole`` has what comes out undisturbed.

A process of its own, because it forks: the children begin with compiled kernels and live for milliseconds.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import migkit
from migkit.analysis import frontier as of_frontiers
from migkit.analysis import sensitivity as of_sensitivities
from migkit.run.export import export

SCENARIO = migkit.Scenario(
    guest=migkit.Guest(ram="1 GiB", regions=[migkit.Region(size="512 MiB", write_rate="1 GB/s")]),
    link=migkit.Link(bandwidth="10 Gbit/s"),
    migration=migkit.Migration(max_bandwidth=0),
)
RATE = "guest.regions.0.write_rate"
FORMATS = "csv", "parquet", "jsonl", "nc"
KILLS = 6


def frontier(kept):
    over = {"link.bandwidth": ["5 Gbit/s", "10 Gbit/s", "20 Gbit/s"]}
    return migkit.frontier(SCENARIO, RATE, ["10 MB/s", "20 GB/s"], over=over, store=kept)


def sensitivity(kept):
    ranges = {
        "link.bandwidth": {"geomspace": ["1 Gbit/s", "20 Gbit/s"]},
        RATE: {"geomspace": ["10 MB/s", "20 GB/s"]},
    }
    return migkit.sensitivity(SCENARIO, ranges, points=64, store=kept)


def compute(what, folder, store=None):
    for module in (of_frontiers, of_sensitivities):
        module.BATCH_ROWS = {"expected": 4, "bitmap": 4}
    if what == "export":
        for suffix in FORMATS:
            export(store, Path(folder, f"table.{suffix}"))
    else:
        call = {"frontier": frontier, "sensitivity": sensitivity}[what]
        call(Path(folder, "kept")).to_netcdf(Path(folder, "result.nc"))


def main(what, folder, seed, *store):
    for name in ("whole", "again"):  # the first time it imports and compiles, the second shows how long it takes
        path = Path(folder, name)
        path.mkdir()
        before = time.monotonic()
        compute(what, path, *store)
        took = time.monotonic() - before
    draw = random.Random(int(seed))
    for _ in range(KILLS):
        child = os.fork()
        if child == 0:
            compute(what, folder, *store)
            os._exit(0)
        time.sleep(draw.uniform(0, took))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        print(*sorted(path.name for path in Path(folder).iterdir() if path.is_file()))
    compute(what, folder, *store)


if __name__ == "__main__":
    main(*sys.argv[1:])
