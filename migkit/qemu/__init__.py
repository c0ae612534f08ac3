"""Real QEMU: measured migrations, the costs of their host, and predictions of them."""

from migkit.qemu.calibration import Calibration, calibrate
from migkit.qemu.costs import measured_costs
from migkit.qemu.traces import Trace, runs, table, trace

__all__ = ["Calibration", "Trace", "calibrate", "measured_costs", "runs", "table", "trace"]
