"""Ticks of a logarithmic axis at round numbers of its unit, as many as its range needs."""

from __future__ import annotations

import numpy as np
from matplotlib.ticker import Locator, MaxNLocator

LADDERS = ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0))
"""Multiples of the powers of ten: the first that gives enough ticks is taken."""
FEWEST, MOST = 3, 10


class RoundTicks(Locator):
    """Powers of ten of a unit; 1, 2 and 5 times these, or closer, where fewer than three would be seen.

    Parameters
    ----------
    per_unit : float
        The unit, in what the axis is drawn in.

    Examples
    --------
    >>> RoundTicks(1e6).tick_values(0.9e6, 2e8)
    [1000000.0, 10000000.0, 100000000.0]
    >>> RoundTicks(1.0).tick_values(2.1, 9.0)
    [3.0, 4.0, 6.0, 8.0]
    >>> RoundTicks(1.0).tick_values(100.0, 111.0)
    [100.0, 105.0, 110.0]
    """

    def __init__(self, per_unit: float):
        self.per_unit = per_unit

    def __call__(self) -> list[float]:
        """Ticks of the axis as it is seen now."""
        assert self.axis is not None
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """Ticks from `vmin` to `vmax`, both above 0."""
        low, high = vmin / self.per_unit, vmax / self.per_unit
        decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        ladders = [np.outer(decades, steps).ravel() for steps in LADDERS]
        for ticks in (*ladders, np.asarray(MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high))):
            inside = ticks[(ticks >= 0.999 * low) & (ticks <= 1.001 * high)]
            if len(inside) >= FEWEST:
                break
        return (self.per_unit * inside[:: -(-len(inside) // MOST) or 1]).tolist()
