"""Fill a store in processes that are killed at random moments, until one ends by itself.

    python killed_sweep.py STORE SEED

Prints how many batches were finished after each death.

A process of its own, because it forks: the children begin with compiled kernels and live for milliseconds.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from migkit.run.design import Sweep
from migkit.run.grid import Layout
from migkit.run.many import sweep

DESCRIPTION = """
[axes]
policy = ["serialized", "unserialized"]
"devices.0.count" = [1, 3]
"guest.regions.0.write_rate" = { geomspace = ["10 MB/s", "50 GB/s", 12] }
"link.bandwidth" = { geomspace = ["1 Gbit/s", "100 Gbit/s", 11] }

[scenario]
time_limit = "20 s"
guest = { ram = "1 GiB", regions = [ { size = "64 MiB", write_rate = "20 MB/s" } ] }
devices = [ { kind = "vfio", initial_bytes = "4 MiB", stop_copy_bytes = "1 MiB" } ]
link = { bandwidth = "10 Gbit/s" }
migration = { max_bandwidth = 0, switchover_ack = true, return_path = true }
"""
BATCH_ROWS = 4
SWEEP = Sweep.from_toml(DESCRIPTION)
EARLY_DEATHS = 5


def fill(store, progress=False):
    return sweep(SWEEP, store=store, batch_rows=BATCH_ROWS, threads=2, progress=progress)


def finished(store):
    return sum(1 for _ in Path(store, "outcome").glob("c.*"))


def main(store, seed):
    import xarray  # noqa: F401
    import zarr  # noqa: F401

    import migkit.run.store
    import migkit.run.threads  # noqa: F401

    layout = Layout(SWEEP)
    layout.run(np.zeros((len(layout.dims), 1), dtype=np.int64))  # compiled before the first fork
    draw = random.Random(seed)
    states = []  # finished batches after each death
    while True:
        child = os.fork()
        if child == 0:
            fill(store)
            os._exit(0)
        if len(states) < EARLY_DEATHS:  # while it begins: imports, the making of the store, the first batches
            time.sleep(draw.uniform(0.0, 0.5))
        else:  # somewhere in the next batches
            wanted = (states[-1] if states else 0) + draw.randint(0, 25)
            while finished(store) < wanted and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                time.sleep(0.001)
            time.sleep(draw.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0, status
            break
        states.append(finished(store))
    print(*states)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
