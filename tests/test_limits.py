"""One migration is bounded, whatever it asks for, and Ctrl-C ends it."""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cases import random_case
from rows import to_parameters, to_records

import migkit
from migkit.kernels import drivers
from migkit.run import limits
from migkit.scenario.errors import ScenarioError

ROOT = Path(__file__).parent.parent
ENDLESS = migkit.Scenario(
    guest=migkit.Guest(ram="864 KiB", regions=[migkit.Region(size="432 KiB", write_rate="100 kB/s")]),
    link=migkit.Link(bandwidth="8 Mbit/s"),
    devices=[migkit.Vfio(initial_bytes=0, stop_copy_bytes="1 GiB")],
    costs=migkit.HostCosts(iteration="1 us"),
    time_limit="168 h",
)
"""The page-exact engine would compute 6e11 iterations of this one."""


def test_a_migration_that_takes_more_than_the_limit_is_refused():
    with pytest.raises(ScenarioError, match=r"the migration takes more than 200 ms of computing: use a shorter time_"):
        migkit.simulate(ENDLESS, "bitmap", limit="200 ms")
    assert migkit.simulate(ENDLESS.replace("time_limit", "2 s"), "bitmap", limit="2 s").iterations > 1000


def test_the_limit_is_counted_and_not_timed():
    row = to_records(to_parameters([random_case(random.Random("limit 3"))]))
    needed = 1
    while True:
        try:
            drivers.run(row, "bitmap", limit=needed)
        except drivers.OverLimit:
            needed *= 2
        else:
            break
    assert needed > 1000
    for _ in range(2):
        with pytest.raises(drivers.OverLimit):
            drivers.run(row, "bitmap", limit=needed // 2)
        drivers.run(row, "bitmap", limit=needed)


def test_a_sweep_names_the_migration_and_keeps_what_is_finished(tmp_path):
    axes = {"time_limit": ["1 s", "2 s", "168 h"], "replicate": [0, 1]}
    options = {"store": tmp_path / "r.zarr", "batch_rows": 1, "threads": 1}
    with pytest.raises(ScenarioError, match=r"^the migration at time_limit = 604800.0, replicate = 0 takes more than"):
        migkit.sweep(ENDLESS, axes, "bitmap", limit="500 ms", **options)
    assert migkit.open_sweep(tmp_path / "r.zarr").attrs["migrations_missing"] == 2


@pytest.mark.parametrize("limit", ["0 s", "-1 s", "31 d", 3, None, "3", "1 GiB", "nan s"])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ScenarioError, match=r"^limit "):
        migkit.simulate(ENDLESS, limit=limit)


def test_a_bitmap_larger_than_the_memory_is_refused(monkeypatch):
    scenario = ENDLESS.replace("guest.ram", "64 GiB")
    monkeypatch.setattr(limits, "machine_memory", lambda: 2.0**20)
    with pytest.raises(
        ScenarioError, match=r"^guest.ram = \"64 GiB\" has a dirty bitmap and a dirty log of 4 MiB, more"
    ):
        migkit.simulate(scenario, "bitmap")
    with pytest.raises(ScenarioError, match=r"^guest.ram = \"64 GiB\" has a dirty bitmap"):
        migkit.sweep(scenario, {"replicate": [0, 1]}, "bitmap")


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_pauses_change_nothing(engine, monkeypatch):
    records = to_records(to_parameters([random_case(random.Random(f"pause {k}")) for k in range(40)]))
    whole = drivers.run(records, engine, seed=3)
    driver, asked = drivers.compiled_driver(engine), []

    def often(records, reports, ram, scratch, how, *functions):
        asked.append(how.first)
        return driver(records, reports, ram, scratch, how._replace(pause=1), *functions)  # between any two iterations

    monkeypatch.setattr(drivers, "_loop", lambda *asked: often)
    paused = drivers.run(records, engine, seed=3)
    assert len(asked) > len(records.cases)
    for one, other in zip(whole, paused, strict=True):
        np.testing.assert_array_equal(one, other)


def _hear_ctrl_c():
    # a shell starts what runs in the background with SIGINT ignored, and children inherit that
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_ctrl_c_ends_a_migration_that_runs_for_hours(tmp_path, command):
    migkit.simulate(ENDLESS.replace("time_limit", "1 s"), "bitmap")  # compiled, and in the cache
    described = migkit.Sweep(scenario=ENDLESS, axes={"replicate": [0, 1]}, engine="bitmap")
    (tmp_path / "a.toml").write_text((ENDLESS if command == "run" else described).to_toml())
    options = ["--engine", "bitmap"] if command == "run" else ["--threads", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "migkit", command, "a.toml", "--limit", "400 h", *options],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, preexec_fn=_hear_ctrl_c,
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(6)
    assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert time.monotonic() - began < 20


def test_a_migration_says_what_it_was_allowed():
    migration = migkit.simulate(ENDLESS.replace("time_limit", "1 s"), limit="3 s")
    assert migration.limit == "3 s"
    with pytest.raises(ScenarioError, match="takes more than 50 ns of computing"):
        _ = dataclasses.replace(migration, engine="bitmap", limit="50 ns").timeline
