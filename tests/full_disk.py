"""Commands that may not write more than some bytes to a file, as on a full disk."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import resource, signal, sys
import h5netcdf, h5py, pandas, pyarrow.parquet, xarray, zarr
from migkit.cli import app
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails with EFBIG
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
app(sys.argv[2:])
"""


def run_on_full_disk(most_bytes, *arguments):
    """Run a command of migkit and assert that it ends with one line; gives the line."""
    command = [sys.executable, "-c", CODE, str(most_bytes), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    *others, line = done.stderr.splitlines()
    assert line.startswith("migkit: "), done.stderr
    assert "File too large" in line
    assert not [other for other in others if "migkit" in other or "Error" in other], done.stderr
    return line
