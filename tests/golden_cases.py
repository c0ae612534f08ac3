"""The migrations whose results name the model: random cases of the kernels, and scenarios of every profile and device.

    python tests/golden_cases.py

writes ``tests/golden/results.npz`` anew. Do that only together with another ``MODEL_VERSION``, and say in CHANGELOG.md
which results changed and why.
"""

import itertools
import random
from pathlib import Path

import numpy as np
from cases import random_case

from migkit import Block, Guest, HostCosts, Link, Migration, Ram, Region, Scenario, Vfio
from migkit.scenario.versions import PROFILES

STORED = Path(__file__).parent / "golden" / "results.npz"
RANDOM_CASES = 200
FIRST_PROFILES = ("7.2", "8.2", "9.0-rc0", "9.0", "10.0", "11.1")
SCENARIOS_OF_A_PROFILE, SCENARIOS_OF_A_LATER_PROFILE = 30, 12
POLICIES = ("serialized", "unserialized", None)


def kernel_cases():
    """Cases as tests/cases.py draws them: plain numbers, no scenario behind them."""
    return [random_case(random.Random(f"golden {k}")) for k in range(RANDOM_CASES)]


def device_lists(draw, has):
    """One device list of each kind that a profile can have."""
    card = {"initial_bytes": f"{draw.randint(1, 24)} MiB", "stop_copy_bytes": f"{draw.randint(0, 3000)} KiB"}
    lists = [[], [Ram()]]
    if has.supports_vfio and not has.supports_vfio_precopy:
        card["initial_bytes"] = 0
        lists += [[Vfio(**card)], [Vfio(count=2, **card), Block(size="9 MiB")]]
        return lists
    if has.supports_vfio:
        dirty = {"dirty_rate": f"{draw.randint(1, 40)} MB/s", "dirty_max": f"{draw.randint(1, 8)} MiB"}
        lists += [
            [Vfio(**card)],
            [Vfio(count=draw.randint(2, 5), **card)],
            [Vfio(**card, **dirty, chunk="300 KiB", load_time=f"{draw.randint(0, 900)} ms")],
            [Vfio(name="gpu", **card), Ram(), Vfio(count=0, **card), Vfio(**card, **dirty)],
        ]
    if has.supports_block:
        lists.append([Block(size=f"{draw.randint(1, 90)} MiB")])
    if has.supports_block and has.supports_vfio:
        lists.append([Block(size=f"{draw.randint(1, 30)} MiB"), Vfio(**card)])
    return lists


def random_regions(draw, ram_mib):
    regions, start = [], draw.randint(0, ram_mib // 4)
    for _ in range(draw.choice([0, 1, 1, 2])):
        size = draw.randint(1, ram_mib // 4)
        regions.append(
            Region(
                size=f"{size} MiB",
                start=f"{start} MiB",
                write_rate=f"{draw.choice([1, 20, 100, 400, 2000]) * draw.uniform(0.5, 2):.3f} MB/s",
                pattern=draw.choice(["uniform", "uniform", "sequential"]),
                zero_share=draw.choice([0, 0, 0.3, 1]),
            )
        )
        start += size + draw.randint(0, ram_mib // 4 - 1)
    return regions


def random_scenario(draw, qemu, devices):
    has = PROFILES[qemu]
    ack = has.supports_switchover_ack and draw.random() < 0.6
    bandwidth = draw.choice([0.4, 1, 2, 5, 10, 25, 100]) * draw.uniform(0.8, 1.25)
    fresh = {"fresh_bandwidth": f"{bandwidth * 0.7:.4f} Gbit/s", "fresh_after": "40 MiB"} if draw.random() < 0.3 else {}
    avail = f"{draw.randint(50, 2000)} MB/s" if has.supports_avail_switchover_bandwidth and draw.random() < 0.2 else 0
    ram_mib = draw.choice([64, 128, 256])
    return Scenario(
        guest=Guest(
            ram=f"{ram_mib} MiB",
            page_size=draw.choice(["4 KiB", "4 KiB", "16 KiB"]),
            accel=draw.choice(["kvm", "tcg"]),
            zero_share=draw.choice([0, 0, 0.5]),
            regions=random_regions(draw, ram_mib),
        ),
        devices=devices,
        link=Link(
            bandwidth=f"{bandwidth:.4f} Gbit/s",
            rtt=f"{draw.randint(0, 3000)} us",
            send_buffer=draw.choice(["0 B", "512 KiB", "4 MiB"]),
            **fresh,
        ),
        migration=Migration(
            max_bandwidth=draw.choice(["0 B/s", "0 B/s", "128 MiB/s", f"{draw.randint(20, 900)} MB/s"]),
            downtime_limit=draw.choice(["300 ms", "20 ms", "1 s"]),
            avail_switchover_bandwidth=avail,
            switchover_ack=ack,
            return_path=ack or draw.random() < 0.5,
            auto_converge=draw.random() < 0.3,
            x_clear_bitmap_shift=draw.choice([18, 12]),
        ),
        costs=HostCosts(
            iteration=draw.choice(["50 us", "200 us"]),
            page=draw.choice(["2.1 us", "0.4 us"]),
            bitmap_sync="0 s",
            bitmap_sync_per_gib="0.14 ms",
        ),
        qemu=qemu,
        policy=draw.choice(POLICIES),
        time_limit=f"{draw.choice([3, 8])} s",
    )


def scenarios():
    """Every profile with every kind of device list that it can have."""
    found = []
    # behind the others, whose rows stay where they are
    for qemu in [*FIRST_PROFILES, *(name for name in PROFILES if name not in FIRST_PROFILES)]:
        draw = random.Random(f"golden {qemu}")
        count = SCENARIOS_OF_A_PROFILE if qemu in FIRST_PROFILES else SCENARIOS_OF_A_LATER_PROFILE
        for _, devices in zip(range(count), itertools.cycle(device_lists(draw, PROFILES[qemu]))):
            found.append(random_scenario(draw, qemu, devices))
    return found + postcopy_scenarios()


def postcopy_scenarios():
    """With the capability postcopy-ram: two of each profile in which post-copy starts, one in which it never does."""
    found = []
    for qemu in PROFILES:
        draw = random.Random(f"golden post-copy {qemu}")
        for at in ("0 s", f"{draw.randint(100, 2000)} ms", None):
            one = random_scenario(draw, qemu, [])
            limit = draw.choice(["0 B/s", "0 B/s", f"{draw.randint(5, 100)} MB/s"])
            more = {"migration.postcopy_ram": True, "migration.max_postcopy_bandwidth": limit}
            found.append(one.replace(more if at is None else more | {"migration.postcopy_at": at}))
    return found


def results(engine):
    """What this model makes of all of them: columns of int64 by name, kernel cases before scenarios."""
    from rows import computed

    return computed(kernel_cases(), scenarios(), engine)


def stored():
    """Results of the model, and the version it had, as they were written."""
    with np.load(STORED) as file:
        return {name: file[name] for name in file.files}


def write():
    from migkit.kernels.state import MODEL_VERSION

    table = {"model_version": np.array(MODEL_VERSION)}
    for engine in ("expected", "bitmap"):
        table |= {f"{engine} {name}": column for name, column in results(engine).items()}
    STORED.parent.mkdir(exist_ok=True)
    np.savez_compressed(STORED, **table)


if __name__ == "__main__":
    write()
