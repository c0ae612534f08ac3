"""How a result was made: versions, the commit, the arguments."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path

import numpy as np

__all__ = ["provenance"]


@functools.cache
def _git_commit() -> str | None:
    checkout = Path(__file__).parent.parent
    if not (checkout / ".git").exists():  # installed: a repository around it is another project's
        return None
    # git status takes no optional lock, which would make a concurrent commit fail.
    git = ["git", "--no-optional-locks", "-C", str(checkout)]
    try:
        head, changes = (
            subprocess.run([*git, *words], capture_output=True, text=True, timeout=10, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}-dirty" if changes else head


def provenance(engine: str, seed: int, description: str = "") -> dict[str, str | int]:
    """Describe how a result was made, as attributes that every file format can hold.

    Parameters
    ----------
    engine : str
        Memory model, ``"expected"`` or ``"bitmap"``.
    seed : int
        Root seed of the random draws.
    description : str, optional
        What was computed; for a scenario its TOML text.

    Returns
    -------
    dict
        Versions of migkit, Python, NumPy and Numba, the commit if migkit runs from a checkout (with
        ``-dirty`` if files were changed), and the arguments.
    """
    from importlib.metadata import version

    import migkit

    notes: dict[str, str | int] = {
        "migkit_version": migkit.__version__,
        "python_version": platform.python_version(),
        "numpy_version": np.__version__,
        "numba_version": version("numba"),
        "engine": engine,
        "seed": int(seed),
    }
    if (commit := _git_commit()) is not None:
        notes["git_commit"] = commit
    if description:
        notes["description"] = description
    return notes
