"""Time from a change of a control to the timelines and point, and to the complete map.

The goal for the former is 200 ms. ``extra_info`` has quantiles over 200 random changes of all controls.
"""

import asyncio
import random
import time

import numpy as np

from migkit import explore
from migkit.study import experiments as study

MOVES = 200


def random_moves():
    """Seconds of each change, without and with its map at full resolution."""

    async def moves():
        explorer = explore(study.experiments(2)["convergence"].scenario)
        await explorer._map_task
        rng, moved, mapped = random.Random(0), [], []
        while len(moved) < MOVES:
            # Without the profile 7.2, which this scenario cannot have: an invalid value draws nothing.
            name = rng.choice(list(explorer.controls))
            control = explorer.controls[name]
            label = rng.choice([label for label in control.options if label not in (control.value, "7.2")])
            began = time.perf_counter()
            control.value = label
            moved.append(time.perf_counter() - began)
            await explorer._map_task
            mapped.append(time.perf_counter() - began)
        return moved, mapped

    return asyncio.run(moves())


def test_random_moves(benchmark):
    moved, mapped = benchmark.pedantic(random_moves, rounds=1, warmup_rounds=0)
    for name, seconds in (("move_ms", moved), ("move_and_map_ms", mapped)):
        quantiles = np.quantile(seconds, [0, 0.5, 0.9, 0.95, 0.99, 1]) * 1e3
        benchmark.extra_info[f"{name}_0_50_90_95_99_100"] = [round(value) for value in quantiles]
        print(name, benchmark.extra_info[f"{name}_0_50_90_95_99_100"])
