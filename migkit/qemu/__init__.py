"""Real QEMU: measured migrations, the costs of their host, and predictions of them."""

from migkit.qemu.answers import Answers, read
from migkit.qemu.calibration import Calibration, calibrate
from migkit.qemu.costs import measured_costs
from migkit.qemu.guest import Writer
from migkit.qemu.log_fit import LogCalibration, calibrate_log
from migkit.qemu.plan import Plan
from migkit.qemu.record import record
from migkit.qemu.traces import Trace, runs, table, trace

__all__ = [
    "Answers",
    "Calibration",
    "LogCalibration",
    "Plan",
    "Trace",
    "Writer",
    "calibrate",
    "calibrate_log",
    "measured_costs",
    "read",
    "record",
    "runs",
    "table",
    "trace",
]
