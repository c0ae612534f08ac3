"""Batches of a sweep: migrations that are computed, written and, after an interruption, found again together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["Batch", "Batches"]

Batch = tuple[int, ...]
"""Number of a batch along every dimension."""


@dataclass(frozen=True)
class Batches:
    """A grid cut into batches of equal lengths; the last batch along a dimension may be shorter.

    Iterating gives all batches, the last dimension fastest; ``len`` is their number.

    Parameters
    ----------
    shape : tuple of int
        Length of the grid along every dimension, each 1 or more.
    lengths : tuple of int
        Length of a batch along every dimension, each 1 or more.

    Examples
    --------
    >>> batches = Batches.of((9, 2, 110, 110), 65536)
    >>> batches.lengths, len(batches)
    ((2, 2, 110, 110), 5)
    """

    shape: tuple[int, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], rows: int) -> Batches:
        """Cut a grid into batches of at most `rows` migrations (a row is one migration).

        A batch is whole along the last dimensions, has an even part of the one before them, and one place along those
        before that.
        """
        lengths = [1] * len(shape)
        room = rows
        for axis in reversed(range(len(shape))):
            parts = math.ceil(shape[axis] / max(1, room))
            lengths[axis] = math.ceil(shape[axis] / parts)
            room //= lengths[axis]
            if parts > 1:
                break
        return cls(tuple(shape), tuple(lengths))

    @property
    def _counts(self) -> tuple[int, ...]:
        return tuple(math.ceil(size / length) for size, length in zip(self.shape, self.lengths, strict=True))

    def __len__(self) -> int:
        return math.prod(self._counts)

    def __iter__(self) -> Iterator[Batch]:
        return itertools.product(*map(range, self._counts))

    @property
    def most_rows(self) -> int:
        """Migrations of the largest batch."""
        return self.rows((0,) * len(self.shape))

    def region(self, batch: Batch) -> tuple[slice, ...]:
        """The part of the grid that a batch covers."""
        return tuple(
            slice(number * length, min(size, (number + 1) * length))
            for number, length, size in zip(batch, self.lengths, self.shape, strict=True)
        )

    def shape_of(self, batch: Batch) -> tuple[int, ...]:
        """Length of a batch along every dimension."""
        return tuple(part.stop - part.start for part in self.region(batch))

    def rows(self, batch: Batch) -> int:
        """Migrations of a batch."""
        return math.prod(self.shape_of(batch))

    def places(self, batch: Batch) -> np.ndarray:
        """Place along every dimension (dimensions, migrations) of the migrations of a batch, the last one fastest."""
        region = self.region(batch)
        lines = np.meshgrid(*(np.arange(part.start, part.stop) for part in region), indexing="ij")
        return np.array([line.ravel() for line in lines])
