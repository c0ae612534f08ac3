"""Never is a result: recognising that a migration will not complete, and why."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from migkit.kernels.options import kernel
from migkit.parameters import VFIO

COMPLETED, INITIAL_DATA_STARVED, RAM_ABOVE_LINK, STOP_COPY_ABOVE_THRESHOLD, TIME_LIMIT = range(5)
OUTCOME_NONE = -1
STALLED_SYNCS = 3  # no progress in as many syncs counts as none


class Scratch(NamedTuple):
    """What the last window and the last lap of syncs began with."""

    window: np.ndarray  # int64
    window_devices: np.ndarray  # int64, devices x fields
    lap: np.ndarray  # int64
    stops_early: int  # 1: stop at a state that repeats


@kernel
def lap_begin(lap):
    """Forget the lap."""
    lap[:] = 0


@kernel
def stop_copy_of(case, devices):
    """Bytes that only the switchover can send."""
    total = 0
    for d in range(case.device_count):
        if devices[d].kind == VFIO:
            total += devices[d].stop_copy_bytes
    return total


@kernel
def classify(case, devices, state, live, report):
    """Why a migration that reached the time limit did not complete; sets the culprit."""
    stalled = state.syncs - state.low_sync >= STALLED_SYNCS
    stop_copy = stop_copy_of(case, devices)
    if state.syncs == 0:
        return TIME_LIMIT
    if stop_copy > 0 and stop_copy >= state.threshold:
        return STOP_COPY_ABOVE_THRESHOLD
    if stalled and report.ram_remaining + stop_copy >= state.threshold:
        return RAM_ABOVE_LINK
    if case.switchover_ack == 1:
        for d in range(case.device_count):
            own = live[d]
            if devices[d].kind == VFIO and own.initial > 0 and state.syncs - own.progress_sync >= STALLED_SYNCS:
                report.culprit = d
                return INITIAL_DATA_STARVED
    return TIME_LIMIT


@kernel
def never(ram, case, devices, state, live, report, lap):
    """A verdict if the state repeats, else none."""
    return OUTCOME_NONE
