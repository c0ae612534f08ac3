"""Never is a result: why a migration did not complete, and recognising early that it will not.

Syncs are grouped into *laps*: long enough for the cursor to pass all that is dirty, for two syncs and for a window of
the rate limit. A lap keeps two distances: how far the exact pending bytes stayed above the threshold, and how many
pages were left when RAM's turn was over, which is what a device behind RAM waits for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from migkit.kernels.link import WINDOW_NS, WINDOWS_PER_S, pages_at_one_rate
from migkit.kernels.memory import fraction, remaining
from migkit.kernels.options import kernel
from migkit.kernels.parameters import VFIO
from migkit.kernels.ram import PAGE_HEADER, SECTION_BYTES

COMPLETED, INITIAL_DATA_STARVED, RAM_ABOVE_LINK, STOP_COPY_ABOVE_THRESHOLD, TIME_LIMIT = range(5)
OUTCOME_NONE = -1
STALLED_SYNCS = 3  # a device that got nothing in as many syncs waits
LAPS = 4  # laps that are compared
THROTTLE_LAP_NS = 6_000_000_000  # sees the 5 s timer, or two evaluations of the throttle
OVERSHOOT = 1 << 21  # more than a window can carry beyond its budget: one block of a device and a flush
FAR = 1e300

LAP = np.dtype(
    [
        ("began_t", np.int64),
        ("began_pages", np.int64),
        ("began_sync", np.int64),
        ("began_turns", np.int64),
        ("began_initial", np.int64),  # initial data left on all devices
        ("flags_missing", np.int64),
        ("throttle", np.int64),
        ("count", np.int64),  # laps since something other than RAM changed
        ("gap", np.float64),  # least pending above threshold of this lap, bytes; below 0: it fitted
        ("gap_is_stop", np.int64),  # 1: at the least gap the stop-copy alone was above the threshold
        ("left", np.float64),  # least pages left after RAM's turn
        ("never_fits", np.int64),  # 1: the stop-copy is above any threshold that can still come
        ("total", np.int64),  # laps so far
        ("half", np.int64),  # laps after which the newer half becomes the older one
        ("old_least", np.float64),
        ("new_least", np.float64),
        ("most", np.float64),  # most pages left after a turn
        ("last_gap", np.float64),
        ("last_gap_is_stop", np.int64),
        ("gap0", np.float64),
        ("gap1", np.float64),
        ("gap2", np.float64),
        ("gap3", np.float64),
        ("left0", np.float64),
        ("left1", np.float64),
        ("left2", np.float64),
        ("left3", np.float64),
        ("most0", np.float64),
        ("most1", np.float64),
        ("most2", np.float64),
        ("most3", np.float64),
    ]
)


class Scratch(NamedTuple):
    """What the last window, the last turn and the last laps began with."""

    window: np.ndarray  # int64
    window_devices: np.ndarray  # int64, devices x fields
    turn: np.ndarray  # the same for the last turn
    turn_devices: np.ndarray
    lap: np.ndarray  # one record LAP
    stops_early: int  # 1: stop at a state that repeats


@kernel
def lap_begin(case, state, live, report, lap):
    """Begin a lap here."""
    lap.began_t = state.t
    lap.began_pages = report.ram_pages_sent
    lap.began_sync = state.syncs
    lap.began_turns = report.turns
    lap.began_initial = initial_left(case, live)
    lap.flags_missing = state.flags_missing
    lap.throttle = state.throttle
    lap.gap = FAR
    lap.gap_is_stop = 0
    lap.left = FAR
    lap.most = 0.0


@kernel
def lap_forget(case, state, live, report, lap):
    """Begin the first lap of a migration."""
    lap.count = 0
    lap.total = 0
    lap.never_fits = 0
    lap.half = 1
    lap.old_least, lap.new_least = FAR, FAR
    lap.gap0, lap.gap1, lap.gap2, lap.gap3 = FAR, FAR, FAR, FAR
    lap.left0, lap.left1, lap.left2, lap.left3 = FAR, FAR, FAR, FAR
    lap.most0, lap.most1, lap.most2, lap.most3 = 0.0, 0.0, 0.0, 0.0
    lap.last_gap = FAR
    lap.last_gap_is_stop = 0
    lap_begin(case, state, live, report, lap)


@kernel
def initial_left(case, live):
    """Initial data left on all devices."""
    total = 0
    for d in range(case.device_count):
        total += live[d].initial
    return total


@kernel
def lap_turn(ram, case, state, lap):
    """Take a turn into the lap; after the walk."""
    left = remaining(ram) + fraction(ram)
    lap.left = min(lap.left, left)
    lap.most = max(lap.most, left)
    if state.exact >= 0 and state.synced > 0:
        gap = float(state.pending - state.threshold) + state.sync_fraction * case.page_size
        if gap < lap.gap:
            lap.gap = gap
            lap.gap_is_stop = 1 if state.stop_copy >= state.threshold else 0


@kernel
def lap_ends(ram, case, state, report, lap):
    """Whether the lap has passed all that is dirty, two syncs, four turns and two windows; the throttle's timer too."""
    return (
        state.syncs - lap.began_sync >= 2
        and report.turns - lap.began_turns >= 4
        and state.t - lap.began_t >= (THROTTLE_LAP_NS if case.auto_converge == 1 else 2 * WINDOW_NS)
        and 2 * (report.ram_pages_sent - lap.began_pages) >= 3 * remaining(ram)
    )


@kernel
def closes(a, b, c, d, laps_left):
    """Whether a distance seen in four laps can still reach 0 in ``laps_left`` more.

    It cannot if all four are above 0, lie close together, and fall so slowly that even a speeding up, as after a
    narrow passage (``x' = e + x**2`` needs ``pi / sqrt(e)``), would take longer than what is left.
    """
    least = min(min(a, b), min(c, d))
    most = max(max(a, b), max(c, d))
    if least <= 0.0 or most >= FAR:
        return True
    if most - least > 0.5 * least:
        return True
    fall = max(0.0, max(a - d, max(a - c, b - d))) / 2.0
    return fall * laps_left * laps_left > least


@kernel
def drifts(a, b, c, d):
    """Whether four laps in a row went the same way by a page or more: slices that shift against the window."""
    return (a > b > c > d and a - d > 3.0) or (a < b < c < d and d - a > 3.0)


@kernel
def lap_end(case, state, live, report, lap):
    """Close a lap and compare it with the three before; true if nothing can change any more."""
    if (
        initial_left(case, live) != lap.began_initial
        or state.flags_missing != lap.flags_missing
        or state.throttle != lap.throttle
        or (state.flags_missing == 0 and state.ack_t > state.t)
        # a link that is slow in the first pass gives higher thresholds later
        or pages_at_one_rate(case, lap.began_pages) <= case.ram_pages
    ):
        lap.count = 0
    else:
        lap.count += 1
    lap.gap0, lap.gap1, lap.gap2, lap.gap3 = lap.gap1, lap.gap2, lap.gap3, lap.gap
    lap.left0, lap.left1, lap.left2, lap.left3 = lap.left1, lap.left2, lap.left3, lap.left
    lap.total += 1
    if lap.total > lap.half:
        lap.half *= 2
        lap.old_least, lap.new_least = lap.new_least, FAR
    lap.new_least = min(lap.new_least, lap.gap)
    lap.most0, lap.most1, lap.most2, lap.most3 = lap.most1, lap.most2, lap.most3, lap.most
    lap.last_gap = lap.gap
    lap.last_gap_is_stop = lap.gap_is_stop
    stuck = False
    if lap.count >= LAPS:
        laps_left = (case.time_limit_ns - state.t) / max(1, state.t - lap.began_t)
        stuck = not closes(lap.gap0, lap.gap1, lap.gap2, lap.gap3, laps_left)
        if case.switchover_ack == 1 and state.flags_missing > 0 and lap.gap3 < 0.0:
            # pending fits and only the acknowledgement is missing: can RAM ever leave a turn to the device?
            stuck = stuck or not closes(lap.left0, lap.left1, lap.left2, lap.left3, laps_left)
        stuck = stuck and not drifts(lap.most0, lap.most1, lap.most2, lap.most3)
    lap_begin(case, state, live, report, lap)
    return stuck


@kernel
def highest_threshold(ram, case, regions, devices, state, live):
    """No window from here on can give a threshold above this, bytes.

    A window carries at most its budget and an overshoot, or what the link takes; and once RAM and the devices are
    drained, at most what the guest writes in the window and in the turn before it.
    """
    if case.avail_switchover_bandwidth > 0:
        return float(state.threshold)
    per_ms = (1.0 + case.send_slack_ns / WINDOW_NS) / case.link_ns_per_byte * 1e6
    if case.max_bandwidth > 0:
        per_ms = min(per_ms, (case.max_bandwidth // WINDOWS_PER_S + OVERSHOOT) / 100.0)
    if remaining(ram) == 0:
        writes = 0.0
        for r in range(case.region_count):
            writes += regions[r].writes_per_s
        sections = case.device_count * (SECTION_BYTES + 16) * (1e6 / case.turn_ns)
        drained = True
        for d in range(case.device_count):
            own = live[d]
            if own.initial > 0 or own.left > 0 or devices[d].dirty_rate > 0.0:
                drained = False
        if drained:
            # the window that is running has what it carried before
            carried = (state.counted - state.mark) / 100.0
            per_ms = min(per_ms, carried + 1.6 * writes * (case.page_size + PAGE_HEADER) / 1000.0 + sections)
    return 1.01 * per_ms * case.downtime_limit_ms


@kernel
def never_fits(ram, case, regions, devices, state, live):
    """Whether the stop-copy is above any threshold that can still come, looked at after a turn with a sync."""
    if state.threshold > 0 and state.stop_copy > state.threshold:
        return state.stop_copy > highest_threshold(ram, case, regions, devices, state, live)
    return False


@kernel
def first_waiting(case, devices, state, live):
    """The first device whose initial data did not move for three syncs, -1 if there is none."""
    for d in range(case.device_count):
        own = live[d]
        if devices[d].kind == VFIO and own.initial > 0 and state.syncs - own.progress_sync >= STALLED_SYNCS:
            return d
    return -1


@kernel
def classify(case, devices, state, live, report, lap, stuck):
    """Why a migration did not complete before the time limit; sets the culprit.

    Parameters
    ----------
    case, devices, state, live, report, lap : records
        As in :func:`migkit.kernels.loop.migrate`, at the end.
    stuck : bool
        Whether :func:`lap_end` said that nothing can change any more.

    Returns
    -------
    outcome : int
        Stop-copy or RAM above the threshold if pending bytes never fitted in the last laps; else the device whose
        initial data waits; ``TIME_LIMIT`` where there was still progress.
    """
    if state.syncs == 0:
        return TIME_LIMIT
    if lap.never_fits == 1:
        return STOP_COPY_ABOVE_THRESHOLD
    gap, is_stop = lap.last_gap, lap.last_gap_is_stop
    if lap.gap < gap:
        gap, is_stop = lap.gap, lap.gap_is_stop
    if gap > 0.0:
        if is_stop == 1:
            return STOP_COPY_ABOVE_THRESHOLD
        if gap < initial_left(case, live):
            # it would fit but for initial data that nobody was asked for
            waiting = first_waiting(case, devices, state, live)
            if waiting >= 0:
                report.culprit = waiting
                return INITIAL_DATA_STARVED
        if stuck:
            return RAM_ABOVE_LINK
        if lap.total < LAPS or lap.old_least - lap.new_least > lap.new_least:
            # too early to tell, or falling fast enough to get there in as long again
            return TIME_LIMIT
        return RAM_ABOVE_LINK
    if case.switchover_ack == 1:
        report.culprit = first_waiting(case, devices, state, live)
        if report.culprit >= 0:
            return INITIAL_DATA_STARVED
    return TIME_LIMIT
