"""One chunk of a Zarr array as a file.

The bytes are those that zarr writes; a test holds them against it. Going through zarr costs about a millisecond a
chunk, a tenth of the time that the kernels need for what is in it.
"""

from __future__ import annotations

import os
import uuid
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from zarr.codecs import BloscCodec

__all__ = ["KEYS", "UNFINISHED", "compressor", "name_of", "write_chunk"]

_CODEC = {"cname": "lz4", "clevel": 5}
KEYS = {"name": "default", "separator": "."}
"""How zarr names chunks: all files of an array in one folder, as making folders costs more than writing the files."""
UNFINISHED = ".partial"
"""How the name of a file ends that is being written, here and in zarr."""


def compressor() -> BloscCodec:
    """The codec of the arrays, as zarr takes it: LZ4 over shuffled bytes, some GB/s."""
    from zarr.codecs import BloscCodec

    return BloscCodec(**_CODEC, shuffle="shuffle")


@cache
def _blosc() -> Any:
    from numcodecs import Blosc

    return Blosc(**_CODEC, shuffle=Blosc.SHUFFLE)


def name_of(chunk: tuple[int, ...]) -> str:
    """Name of a chunk's file in the folder of its array."""
    return ".".join(("c", *map(str, chunk)))


def write_chunk(array: Path, chunk: tuple[int, ...], values: np.ndarray, shape: tuple[int, ...], fill: int) -> None:
    """Write a chunk; it is there as a whole or not at all.

    Parameters
    ----------
    array : Path
        Folder of the array.
    chunk : tuple of int
        Number of the chunk along every dimension.
    values : array
        What it holds, in the array's type; shorter than `shape` at the array's end.
    shape : tuple of int
        Shape of a chunk.
    fill : int
        What stands beyond the array's end.
    """
    if values.shape != shape:
        whole = np.full(shape, fill, values.dtype)
        whole[tuple(map(slice, values.shape))] = values
        values = whole
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    path = array / name_of(chunk)
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}{UNFINISHED}")
    try:
        unfinished.write_bytes(_blosc().encode(little))
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
