"""The first migrations of a machine are interpreted: the same bits as compiled, and no compiler at work."""

import inspect
import os
import random
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numba
import numpy as np
import pytest
from cases import random_case
from golden_cases import scenarios
from rows import to_parameters, to_records

from migkit import Guest, Link, Migration, Region, Scenario, Sweep, simulate
from migkit.kernels import drivers, interpreted
from migkit.kernels.state import RUNNING
from migkit.run.progress import COMPILING
from migkit.scenario.rows import records

pytestmark = pytest.mark.skipif(numba.config.DISABLE_JIT, reason="everything is interpreted")

ROOT = Path(__file__).parents[1]
FIRST = (
    "import migkit\n"
    "s = migkit.Scenario(guest=migkit.Guest(ram='4 GiB'), link=migkit.Link(bandwidth='10 Gbit/s'))\n"
    "print(migkit.simulate(s).total_time_s)"
)

LONG = Scenario(
    guest=Guest(ram="16 GiB", regions=[Region(size="8 GiB", write_rate="900 MB/s")]),
    link=Link(bandwidth="10 Gbit/s"), migration=Migration(max_bandwidth=0),
)  # fmt: skip


@pytest.fixture
def nothing_compiled(monkeypatch):
    """As in a process that finds no compiled loop on disk, with all the time it wants."""
    interpreter = drivers._Interpreter()
    interpreter.left_s = np.inf
    monkeypatch.setattr(drivers, "_interpreter", interpreter)
    monkeypatch.setattr(drivers, "_kept_driver", lambda engine: None)
    return interpreter


def refused(engine):
    raise AssertionError("the compiled loop is asked for")


def assert_same(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("k", range(24))
def test_interpreted_and_compiled_give_the_same_bits(k, nothing_compiled, monkeypatch):
    some = scenarios()
    drawn = to_records(to_parameters([random_case(random.Random(f"interpreted {k}"))]))
    for each in (records([some[(7 * k + 3) % len(some)]]), drawn):
        monkeypatch.setattr(drivers, "_loop", lambda *asked: drivers.compiled_driver("expected"))
        wanted = drivers.run(each, seed=k)
        monkeypatch.setattr(drivers, "_loop", lambda *asked: nothing_compiled)
        assert_same(drivers.run(each, seed=k), wanted)


def test_a_migration_begun_in_python_is_finished_by_machine_code(nothing_compiled, monkeypatch):
    rows = to_records(to_parameters([random_case(random.Random(f"handed over {k}")) for k in range(12)]))
    compiled, asked = drivers.compiled_driver("expected"), []
    monkeypatch.setattr(drivers, "_loop", lambda *asked: compiled)
    wanted = drivers.run(rows, seed=1)
    monkeypatch.setattr(drivers, "_INTERPRETED_PAUSE", 40)

    def paused(*given):
        return compiled(*given[:4], given[4]._replace(pause=40), *given[5:])

    def in_turn(*given):
        asked.append(given)
        return paused if len(asked) % 2 else nothing_compiled

    monkeypatch.setattr(drivers, "_loop", in_turn)
    assert_same(drivers.run(rows, seed=1), wanted)
    assert len(asked) > 2 * len(rows.cases)


def test_when_its_time_is_over_the_loop_is_compiled(nothing_compiled):
    nothing_compiled.left_s = 1e-9
    first = simulate(LONG)
    assert nothing_compiled.left_s <= 0.0
    assert drivers._loop("expected", 1, False) is drivers.compiled_driver("expected")
    assert simulate(LONG).total_time_s == first.total_time_s


def test_threads_that_begin_together_all_interpret(nothing_compiled, monkeypatch):
    wanted, plain = simulate(LONG).total_time_s, interpreted._plain

    def slow(value):
        time.sleep(1e-5)  # lets another thread run
        return plain(value)

    monkeypatch.setattr(interpreted, "_plain", slow)
    monkeypatch.setattr(interpreted, "_names", {})
    interpreted.interpreted.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: simulate(LONG).total_time_s, range(4))) == [wanted] * 4


@pytest.mark.parametrize("error", [ZeroDivisionError, OverflowError, ValueError("math domain error")])
def test_what_python_refuses_is_computed_by_machine_code(error, nothing_compiled, monkeypatch):
    rows = to_records(to_parameters([random_case(random.Random(f"refused {k}")) for k in range(3)]))
    loop, plain, refused_at = drivers._loop, interpreted.interpreted(drivers.migrate_rows), []
    monkeypatch.setattr(drivers, "_loop", lambda *asked: drivers.compiled_driver("expected"))
    wanted = drivers.run(rows, seed=2)
    monkeypatch.setattr(drivers, "_loop", loop)
    monkeypatch.setattr(drivers, "_INTERPRETED_PAUSE", 10)

    def refuses(*given):
        row = plain(*given)
        if not refused_at and row < len(rows.cases) and given[3].state.outcome == RUNNING:
            refused_at.append(row)
            raise error
        return row

    monkeypatch.setattr(drivers, "interpreted", lambda kernel: refuses)
    assert_same(drivers.run(rows, seed=2), wanted)
    assert len(refused_at) == 1
    assert nothing_compiled.left_s <= 0.0


def test_who_asks_for_much_or_with_rules_of_his_own_is_not_interpreted(nothing_compiled, monkeypatch):
    monkeypatch.setattr(drivers, "compiled_driver", refused)
    assert drivers._loop("expected", drivers.INTERPRETED_ROWS, False) is nothing_compiled
    for asked in (("expected", drivers.INTERPRETED_ROWS + 1, False), ("bitmap", 1, False), ("expected", 1, True)):
        nothing_compiled.left_s = np.inf
        with pytest.raises(AssertionError, match="the compiled loop is asked for"):
            drivers._loop(*asked)


def test_kernels_take_their_functions_from_the_library_that_python_takes_them_from():
    # NumPy's differ in the last bit (interpreted)
    for path in sorted((ROOT / "migkit" / "kernels").glob("*.py")):
        found = re.findall(
            r"\bnp\.(?:exp|exp2|expm1|log|log1p|log2|log10|power|sqrt|sin|cos|tan|tanh)\b", path.read_text()
        )
        assert not found, path.name


def test_the_interpreted_loop_calls_no_dispatcher():
    names = interpreted.interpreted(drivers.migrate_rows).__globals__
    seen, waiting, kernels = set(), [names], 0
    while waiting:
        here = waiting.pop()
        for value in here.values():
            assert not isinstance(value, interpreted.Dispatcher)
            if inspect.isfunction(value) and str(value.__module__).startswith("migkit.kernels") and value not in seen:
                seen.add(value)
                kernels += 1
                waiting.append(value.__globals__)
                cells = [cell.cell_contents for cell in value.__closure__ or ()]
                assert not any(isinstance(each, interpreted.Dispatcher) for each in cells)
    assert kernels > 150


def cold(code_or_command, folder, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(folder / "numba")}
    command = [sys.executable, *code_or_command]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=300, **options
    )


def compiled_files(folder):
    return list((folder / "numba").rglob("*.nbc")) if (folder / "numba").exists() else []


def test_the_first_simulation_of_a_machine_compiles_nothing(tmp_path):
    done = cold(["-c", FIRST], tmp_path)
    warm = subprocess.run(
        [sys.executable, "-c", FIRST], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout == warm.stdout
    assert COMPILING not in done.stderr
    assert not compiled_files(tmp_path)


def test_a_sweep_of_four_points_from_the_command_line_compiles_nothing(tmp_path):
    scenario = Scenario(
        guest=Guest(ram="4 GiB", regions=[Region(size="1 GiB", write_rate="100 MB/s")]),
        link=Link(bandwidth="10 Gbit/s"),
    )
    described = Sweep(
        scenario=scenario, axes={"guest.regions.0.write_rate": ["100 MB/s", "300 MB/s", "600 MB/s", "2 GB/s"]}
    )
    (tmp_path / "four.toml").write_text(described.to_toml())
    done = cold(["-m", "migkit", "sweep", "four.toml"], tmp_path)
    assert "4" in done.stdout
    assert not compiled_files(tmp_path)


def test_time_is_what_ends_it(nothing_compiled, monkeypatch):
    times = iter(range(0, 1000, 3))
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    nothing_compiled.left_s = 4.0
    simulate(Scenario(guest=Guest(ram="64 MiB"), link=Link(bandwidth="10 Gbit/s")))
    assert nothing_compiled.left_s <= 1.0
