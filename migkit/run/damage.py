"""What may be damaged in a store, and the error that says so."""

from __future__ import annotations

from pathlib import Path

from migkit.results import SWEEP_VARIABLES
from migkit.run.checksums import CHECKSUMS, is_whole
from migkit.run.former_names import FORMER_VARIABLES
from migkit.scenario.errors import DamagedStore

__all__ = [
    "CHANGED",
    "DIMS",
    "ELSEWHERE",
    "LAST",
    "MISSING",
    "UNREADABLE",
    "chunk_damage",
    "damage",
    "has_checksums",
    "is_chunk",
]

LAST = "outcome"
"""The variable that is written last: a batch with an outcome is finished."""
MISSING, UNREADABLE, CHANGED = "is missing", "is missing or cannot be read", "does not have its checksum"
ELSEWHERE = "compute the sweep again under another name"
BLOSC_HEADER = 16
DIMS = {variable.name: variable.dims for variable in SWEEP_VARIABLES}
DIMS |= {old: DIMS[new] for old, new in FORMER_VARIABLES.items()}
"""Dimensions behind the axes, by variable."""


def has_checksums(path: Path) -> bool:
    """Whether the store at `path` was written with checksums, be they lost or not."""
    if (path / CHECKSUMS).exists():
        return True
    try:
        return b'"crc32c"' in (path / LAST / "zarr.json").read_bytes()
    except OSError:
        return False


def damage(path: Path, file: str, how: str) -> DamagedStore:
    """The error that names a damaged file of the store at `path`, and says what to do."""
    return DamagedStore(path, file, how, *(() if has_checksums(path) else (ELSEWHERE,)))


def is_chunk(file: str) -> bool:
    """Whether this path in a store is that of a variable's chunk; those of coordinates are named otherwise."""
    name, _, chunk = file.rpartition("/")
    return name in DIMS and (chunk == "c" or chunk.startswith("c."))


def chunk_damage(path: Path, file: str, data: bytes | None) -> str:
    """What is wrong with a chunk of the store at `path`, by the path of its file; "" if nothing is.

    Parameters
    ----------
    path : Path
    file : str
    data : bytes or None
        What the file holds; None if it is missing, which is no damage before its batch is finished.
    """
    if data is None:
        name, chunk = file.split("/")
        last = chunk.rpartition(".")[0] if DIMS[name] else chunk
        return MISSING if name != LAST and (path / LAST / last).exists() else ""
    if (path / CHECKSUMS).exists():
        return "" if is_whole(data) else CHANGED
    from numcodecs import Blosc

    # Blosc notes the length in its header, and reads beyond the end of what is shorter.
    if len(data) < BLOSC_HEADER or int.from_bytes(data[BLOSC_HEADER - 4 : BLOSC_HEADER], "little") != len(data):
        return "has another length than was written"
    try:
        Blosc().decode(data)
    except (RuntimeError, ValueError):
        return "cannot be decompressed"
    return ""
