"""Real QEMU: the measured migrations and what they say about the cost of a host."""

from migkit.qemu.costs import measured_costs
from migkit.qemu.traces import Trace, runs, table, trace

__all__ = ["Trace", "measured_costs", "runs", "table", "trace"]
