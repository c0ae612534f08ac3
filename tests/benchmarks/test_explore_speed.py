"""From a moved control to finished pictures, in the kernel: timelines and point, and the map that follows.

The goal is 200 ms for the first. ``extra_info`` has the quantiles over 200 random moves of all controls.
"""

import asyncio
import random
import time

import numpy as np

from migkit import explore
from migkit.study import experiments as study

MOVES = 200


def random_moves():
    """Seconds of each move, and of the move with its map at full resolution."""

    async def moves():
        explorer = explore(study.experiments(2)["convergence"].scenario)
        await explorer._refining
        rng, moved, mapped = random.Random(0), [], []
        while len(moved) < MOVES:
            # the profiles that this scenario can have: one that is refused draws nothing
            name = rng.choice(list(explorer.controls))
            control = explorer.controls[name]
            label = rng.choice([label for label in control.options if label not in (control.value, "7.2")])
            began = time.perf_counter()
            control.value = label
            moved.append(time.perf_counter() - began)
            await explorer._refining
            mapped.append(time.perf_counter() - began)
        return moved, mapped

    return asyncio.run(moves())


def test_random_moves(benchmark):
    moved, mapped = benchmark.pedantic(random_moves, rounds=1, warmup_rounds=0)
    for name, seconds in (("move_ms", moved), ("move_and_map_ms", mapped)):
        quantiles = np.quantile(seconds, [0, 0.5, 0.9, 0.95, 0.99, 1]) * 1e3
        benchmark.extra_info[f"{name}_0_50_90_95_99_100"] = [round(value) for value in quantiles]
        print(name, benchmark.extra_info[f"{name}_0_50_90_95_99_100"])
