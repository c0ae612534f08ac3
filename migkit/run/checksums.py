"""Checksums of the files of a store, and the Zarr groups that hold them.

A chunk that is written later ends with its own checksum (Zarr's codec ``crc32c``). The checksums of the files that are
written once, metadata and coordinates, are the attributes of the group ``checksums``. The attributes of such a group
have a checksum themselves.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c

from migkit.run.whole_file import whole_file

__all__ = ["CHECKSUMS", "Checksums", "is_whole", "read_group", "with_checksum", "write_group"]

CHECKSUMS = "checksums"
"""Name of the group."""
_OWN = "crc32c"
_BYTES = 4


def with_checksum(data: bytes) -> bytes:
    """The data and its CRC-32C, as Zarr's codec ``crc32c`` writes them.

    Examples
    --------
    >>> with_checksum(b"123456789").hex(" ", -4)
    '31323334 35363738 39839206 e3'
    """
    return b"%b%b" % (data, google_crc32c.value(data).to_bytes(_BYTES, "little"))


def is_whole(data: bytes) -> bool:
    """Whether data ends with the checksum of what is before it.

    Examples
    --------
    >>> data = with_checksum(b"123456789")
    >>> is_whole(data), is_whole(data[:-1]), is_whole(b"")
    (True, False, False)
    """
    return len(data) >= _BYTES and google_crc32c.value(data[:-_BYTES]).to_bytes(_BYTES, "little") == data[-_BYTES:]


def write_group(path: Path, attributes: Mapping[str, Any]) -> None:
    """Write a Zarr group without members, whole or not at all; its folder is made if it is missing."""
    path.mkdir(exist_ok=True)
    group = {"attributes": {**attributes, _OWN: _of(attributes)}, "zarr_format": 3, "node_type": "group"}
    with whole_file(path / "zarr.json") as file:
        file.write((json.dumps(group, indent=2) + "\n").encode())


def read_group(path: Path) -> dict[str, Any] | None:
    """The attributes of a group of :func:`write_group`; None if they are missing or damaged."""
    try:
        group = json.loads((path / "zarr.json").read_bytes())
        wanted = group["attributes"].pop(_OWN)
        attributes = dict(group["attributes"])
        return attributes if wanted == _of(attributes) else None
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None


def _of(attributes: Mapping[str, Any]) -> int:
    return google_crc32c.value(json.dumps(attributes, sort_keys=True).encode())


class Checksums(NamedTuple):
    """What a store held when it was created."""

    lengths: tuple[int, ...]
    """Lengths of its batches."""
    files: Mapping[str, int]
    """Checksum by the path of the file in the store."""

    @classmethod
    def of(cls, store: Path, lengths: tuple[int, ...] = ()) -> Checksums:
        """Those of all files that are in the folder `store`."""
        paths = sorted(path for path in store.rglob("*") if path.is_file())
        return cls(lengths, {path.relative_to(store).as_posix(): _of_file(path) for path in paths})

    @classmethod
    def read(cls, store: Path) -> Checksums | None:
        """Those that are noted in a store; None if they are missing or damaged."""
        found = read_group(store / CHECKSUMS)
        return None if found is None else cls(tuple(found["lengths"]), found["files"])

    def write(self, store: Path) -> None:
        """Note them in a store."""
        write_group(store / CHECKSUMS, {"lengths": list(self.lengths), "files": dict(self.files)})

    def damaged(self, store: Path) -> Iterator[str]:
        """The files of a store that are missing or have other bytes."""
        for name, wanted in self.files.items():
            try:
                if _of_file(store / name) != wanted:
                    yield name
            except OSError:
                yield name


def _of_file(path: Path) -> int:
    return google_crc32c.value(path.read_bytes())
