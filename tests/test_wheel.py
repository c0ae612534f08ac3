"""What a wheel holds: the package, what it reads, and the measured runs."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from migkit.qemu import traces
from migkit.qemu.tables import TABLES

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "data" / "qemu-traces"
READ = [
    "figures/migkit.mplstyle", "py.typed", "qemu/device.c", "qemu/guest.S", "qemu/guest.bin", "qemu/link_relay.py",
    "scenario/hosts/default.toml",
]  # fmt: skip
"""Files of the package that are not only imported."""

pytestmark = pytest.mark.skipif(not (SOURCE / "runs.parquet").is_file(), reason="only a checkout is made a wheel of")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="hatchling builds the wheel, and is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_has_what_the_package_reads_and_the_measured_runs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert {f"migkit/{name}" for name in READ} <= names
        shipped = {path.name for path in SOURCE.glob("*.parquet")}
        assert {f"migkit/qemu/measured/{name}" for name in shipped} <= names
        same = archive.read("migkit/qemu/measured/runs.parquet")
    assert same == (SOURCE / "runs.parquet").read_bytes()
    assert not [name for name in names if name.endswith("build.py")]
    assert wheel.stat().st_size < 8 << 20, "a few MB are fine"


def test_an_installed_package_finds_the_measured_runs(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import migkit; from migkit import qemu; from migkit.qemu.record import record; "
        "print(len(qemu.runs()), qemu.runs.__code__.co_filename)"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"]
    done = subprocess.run(command, cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, file = done.stdout.split()
    assert int(count) == len(traces.runs())
    assert file.startswith(str(tmp_path))


def test_the_configuration_of_the_wheel_ships_the_runs():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert wheel["wheel"]["sources"] == {"data/qemu-traces": f"migkit/qemu/{traces.INSTALLED.name}"}
    assert {path.stem for path in SOURCE.glob("*.parquet")} <= set(TABLES)
