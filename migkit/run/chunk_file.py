"""One Zarr chunk as a file.

The bytes are those that zarr writes; a test compares them. Going through zarr takes about a millisecond a chunk, a
tenth of what the kernels take for its migrations.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.run.whole_file import whole_file

if TYPE_CHECKING:
    from zarr.codecs import BloscCodec

__all__ = ["KEYS", "chunk_name", "compressor", "write_chunk"]

_CODEC: dict[str, Any] = {"cname": "lz4", "clevel": 5}
KEYS: dict[str, Any] = {"name": "default", "separator": "."}
"""How zarr names chunks: all files of an array in one folder, because a folder takes longer to make than a file."""


def compressor() -> BloscCodec:
    """The codec of the arrays, as zarr takes it: LZ4 over shuffled bytes, some GB/s."""
    from zarr.codecs import BloscCodec

    return BloscCodec(**_CODEC, shuffle="shuffle")


@cache
def _blosc() -> Any:
    from numcodecs import Blosc

    return Blosc(**_CODEC, shuffle=Blosc.SHUFFLE)


def chunk_name(chunk: tuple[int, ...]) -> str:
    """Name of a chunk's file in the folder of its array."""
    return ".".join(("c", *map(str, chunk)))


def write_chunk(array: Path, chunk: tuple[int, ...], values: np.ndarray, shape: tuple[int, ...], fill: int) -> None:
    """Write a chunk whole or not at all.

    Parameters
    ----------
    array : Path
        Folder of the array.
    chunk : tuple of int
        Number of the chunk along every dimension.
    values : ndarray
        Its values, in the array's type; fewer than `shape` at the array's end.
    shape : tuple of int
        Shape of a chunk.
    fill : int
        Value beyond the array's end.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    if values.shape != shape:
        whole = np.full(shape, fill, values.dtype)
        whole[tuple(map(slice, values.shape))] = values
        values = whole
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    with whole_file(array / chunk_name(chunk)) as file:
        file.write(_blosc().encode(little))
