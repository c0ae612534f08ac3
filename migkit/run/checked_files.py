"""The files of a store as zarr reads them: chunks that are damaged end the reading with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zarr.storage import LocalStore

from migkit.run.damage import chunk_damage, damage, is_chunk

__all__ = ["CheckedFiles"]


class CheckedFiles(LocalStore):
    """A store for reading.

    Zarr itself takes a chunk that is missing for one of fill values, and raises errors that do not name the file.

    Parameters
    ----------
    root : Path
        Folder of the store.
    read_only : bool
        Must be True; a parameter because zarr gives it.
    """

    def __init__(self, root: Path | str, *, read_only: bool = True) -> None:
        super().__init__(root, read_only=read_only)

    # zarr reads with one or the other, depending on its version and on the codecs
    async def get(self, key: str, *arguments: Any, **named: Any) -> Any:
        """As of LocalStore; raises DamagedStore."""
        return self._checked(key, await super().get(key, *arguments, **named))

    def get_sync(self, key: str, **named: Any) -> Any:
        """As of LocalStore; raises DamagedStore."""
        return self._checked(key, super().get_sync(key, **named))

    def _checked(self, key: str, value: Any) -> Any:
        if is_chunk(key) and (how := chunk_damage(self.root, key, None if value is None else value.to_bytes())):
            raise damage(self.root, key, how)
        return value
