"""How the cost of a migration grows with guest, devices, regions and replicates; one figure in ``.benchmarks``."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from migkit import Guest, Link, Migration, Region, Scenario, Vfio
from migkit.figures.style import style
from migkit.kernels import drivers
from migkit.scenario.rows import records
from migkit.scenario.units import Bytes, Rate

GIB = 2**30
FOLDER = Path(__file__).parents[2] / ".benchmarks"
SIZES = {
    "guest (GiB)": (1, 4, 16, 64, 256, 1024),
    "VFIO devices": (1, 2, 4, 8, 16, 32, 64),
    "regions": (1, 2, 4, 8, 16, 32, 64),
    "replicates": (1, 4, 16, 64, 256),
}
ENGINES = {"expected": "o", "bitmap": "s"}
COPIES = 64
PAGES_AT_MOST = 64 * GIB  # with the bitmap engine


def guest(gib, devices=0, regions=1):
    """A guest that writes all its RAM at half the link, and devices with initial data."""
    size = gib * GIB // regions
    return Scenario(
        guest=Guest(
            ram=Bytes(gib * GIB),
            regions=[
                Region(size=Bytes(size), start=Bytes(k * size), write_rate=Rate(5e8 / regions)) for k in range(regions)
            ],
        ),
        devices=[Vfio(count=devices, initial_bytes="1 MiB", stop_copy_bytes="100 kB")] if devices else [],
        link=Link(bandwidth="1 GB/s"),
        migration=Migration(max_bandwidth=0),
        time_limit="4 h",
    )


def of_a_point(what, size):
    """The migrations of a point."""
    if what == "guest (GiB)":
        return [guest(size)]
    if what == "VFIO devices":
        return [guest(1, devices=size)]
    if what == "regions":
        return [guest(1, regions=size)]
    return [guest(1)] * size


def microseconds(scenarios, engine):
    """CPU of all of these migrations, the least of some runs; copies share what a call costs."""
    copies = COPIES if engine == "expected" else 1
    rows, least, spent = records(scenarios * copies), np.inf, 0.0
    replicate = np.arange(len(rows.cases))
    drivers.run(rows, engine, replicate=replicate)
    while spent < 0.3:
        began = time.process_time()
        drivers.run(rows, engine, replicate=replicate)
        least = min(least, time.process_time() - began)
        spent += time.process_time() - began
    return least / copies * 1e6


def drawn(table, stem):
    """One panel for each size, both engines, and what grows in proportion as a thin line."""
    import matplotlib.pyplot as plt

    with style():
        figure, axes = plt.subplots(1, len(SIZES), figsize=(11, 3), sharey=True, layout="constrained")
        for ax, what in zip(axes, SIZES, strict=True):
            for (engine, marker), line in zip(ENGINES.items(), ("-", "--"), strict=True):
                one = table[(table["what"] == what) & (table["engine"] == engine)]
                ax.plot(one["size"], one["us"], marker=marker, linestyle=line, label=engine)
                ax.plot(one["size"], one["us"].iloc[0] * one["size"] / one["size"].iloc[0], color="0.7", linewidth=0.6)
            ax.lines[-1].set_label("in proportion")
            ax.set(xscale="log", yscale="log", xlabel="replicates, all together" if what == "replicates" else what)
            ax.set_xscale("log", base=2)
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes[0].set_ylabel("CPU time (µs)")
        axes[0].legend()
        for suffix in ("png", "pdf"):
            figure.savefig(f"{stem}.{suffix}", metadata={"CreationDate": None} if suffix == "pdf" else None)
        plt.close(figure)


@pytest.mark.benchmark(timer=time.process_time)
def test_growth(benchmark):
    found = [
        {"what": what, "size": size, "engine": engine, "us": microseconds(of_a_point(what, size), engine)}
        for what, sizes in SIZES.items()
        for size in sizes
        for engine in ENGINES
        if engine == "expected" or what != "guest (GiB)" or size * GIB <= PAGES_AT_MOST
    ]
    table = pd.DataFrame(found)
    FOLDER.mkdir(exist_ok=True)
    table.to_csv(FOLDER / "growth.csv", index=False)
    drawn(table, FOLDER / "growth")
    benchmark(drivers.run, records([guest(4)]))
    for (what, engine), one in table.groupby(["what", "engine"]):
        benchmark.extra_info[f"{what}, {engine}"] = dict(zip(map(str, one["size"]), one["us"].round(1), strict=True))
