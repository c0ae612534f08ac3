"""Real QEMU: measured migrations, the costs of their host, and predictions of them."""

from migkit.qemu.answers import Answers, read
from migkit.qemu.costs import measured_costs
from migkit.qemu.traces import Trace, runs, table, trace

__all__ = ["Answers", "Trace", "measured_costs", "read", "runs", "table", "trace"]
