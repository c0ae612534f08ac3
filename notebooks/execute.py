"""Execute notebooks in place and reproducibly: without execution times and the version of Python.

python notebooks/execute.py [NOTEBOOK ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
TIMEOUT_S = 600


def compile_kernels() -> None:
    """Compile what the notebooks need into Numba's cache, so that no cell says that it is compiled."""
    from migkit.kernels.drivers import compiled_driver

    for engine in ("expected", "bitmap"):
        compiled_driver(engine)


def execute(path: Path) -> None:
    """Run all cells of a notebook in a new kernel, in the folder of the notebook, and write it."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    how = {"timeout": TIMEOUT_S, "kernel_name": "python3", "record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, resources=where, **how).execute()
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


if __name__ == "__main__":
    compile_kernels()
    for name in map(Path, sys.argv[1:] or sorted(HERE.glob("*.ipynb"))):
        print(name.name, flush=True)
        execute(name)
