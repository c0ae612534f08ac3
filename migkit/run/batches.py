"""Blocks of a sweep: what is computed, written and, after an interruption, found again as one piece."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Block", "Chunks"]

Block = tuple[int, ...]
"""Number of a block along every dimension."""


class Chunks(NamedTuple):
    """A grid of `shape` in blocks of `chunk`; the last block along a dimension may be shorter.

    Examples
    --------
    >>> chunks = Chunks.of((9, 2, 110, 110), 65536)
    >>> chunks.chunk, chunks.count
    ((2, 2, 110, 110), 5)
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], most: int) -> Chunks:
        """Blocks of about `most` places: whole along the last dimensions, even parts along the first of the others."""
        chunk = [1] * len(shape)
        room = most
        for axis in reversed(range(len(shape))):
            parts = math.ceil(shape[axis] / max(1, room))
            chunk[axis] = math.ceil(shape[axis] / parts)
            room //= chunk[axis]
            if parts > 1:
                break
        return cls(tuple(shape), tuple(chunk))

    @property
    def grid(self) -> tuple[int, ...]:
        """Blocks along every dimension."""
        return tuple(math.ceil(size / part) for size, part in zip(self.shape, self.chunk, strict=True))

    @property
    def count(self) -> int:
        """Blocks in all."""
        return math.prod(self.grid)

    @property
    def most(self) -> int:
        """Migrations of the largest block."""
        return self.size((0,) * len(self.shape))

    def blocks(self) -> Iterator[Block]:
        """All blocks, the last dimension fastest."""
        return itertools.product(*map(range, self.grid))

    def region(self, block: Block) -> tuple[slice, ...]:
        """What a block covers."""
        return tuple(
            slice(number * part, min(size, (number + 1) * part))
            for number, part, size in zip(block, self.chunk, self.shape, strict=True)
        )

    def lengths(self, block: Block) -> tuple[int, ...]:
        """How long a block is along every dimension."""
        return tuple(part.stop - part.start for part in self.region(block))

    def size(self, block: Block) -> int:
        """Migrations of a block."""
        return math.prod(self.lengths(block))

    def places(self, block: Block) -> np.ndarray:
        """Place along every dimension (dimensions, migrations) of the migrations of a block, the last one fastest."""
        region = self.region(block)
        lines = np.meshgrid(*(np.arange(part.start, part.stop) for part in region), indexing="ij")
        return np.array([line.ravel() for line in lines])
