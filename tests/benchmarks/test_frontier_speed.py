"""Frontier of the study's map: points a second, and migrations computed against those of a grid as fine."""

import time

import pytest

from migkit import frontier
from migkit.study import experiments as study

POINTS = 24  # links; the study has 110


@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("name", ["convergence", "starvation", "band"])
def test_frontier_of_the_study(benchmark, name):
    experiment = study.experiments(POINTS)[name]
    axes = dict(experiment.axes)
    given = axes.pop({"convergence": "write_rate", "starvation": "max_bandwidth", "band": "size"}[name])
    ((axis, values),) = given.items()
    between = [values[0], values[-1]]
    frontier(experiment.scenario, axis, between, axes, tolerance=0.1)  # compiled
    found = benchmark(frontier, experiment.scenario, axis, between, axes)
    points = found["flips"].size
    benchmark.extra_info["points"] = points
    benchmark.extra_info["points_a_second"] = points / benchmark.stats.stats.min
    for key in ("nodes", "migrations", "migrations_of_a_grid"):
        benchmark.extra_info[key] = found.attrs[key]
    benchmark.extra_info["times_fewer"] = found.attrs["migrations_of_a_grid"] / found.attrs["migrations"]
    benchmark.extra_info["migrations_a_point"] = found.attrs["migrations"] / points


def test_frontier_of_the_bitmap_engine(benchmark):
    experiment = study.experiments(4)["band"]
    scenario = experiment.scenario.replace("guest.ram", "9 GiB")
    axes = {"link.bandwidth": ["2 Gbit/s", "5 Gbit/s"]}
    arguments = {"policy": "unserialized", "engine": "bitmap", "replicates": 8}
    between = ["64 MiB", "512 MiB"]
    frontier(scenario, "guest.regions.0.size", between, axes, tolerance=0.3, **arguments)
    found = benchmark.pedantic(frontier, (scenario, "guest.regions.0.size", between, axes), arguments, rounds=1)
    benchmark.extra_info["migrations"] = found.attrs["migrations"]
    benchmark.extra_info["us_a_migration"] = benchmark.stats.stats.min / found.attrs["migrations"] * 1e6
    benchmark.extra_info["times_fewer"] = found.attrs["migrations_of_a_grid"] / found.attrs["migrations"]
