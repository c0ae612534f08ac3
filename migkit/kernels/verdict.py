"""Why a migration does not converge, and recognising early that it will not; not QEMU's.

Syncs are grouped into *laps*: long enough for the cursor to pass all that is dirty, for two syncs and for a window of
the rate limit. A lap keeps two distances: how far the exact pending bytes stayed above the threshold, and how many
pages were left when RAM's call was over, which is what a device behind RAM waits for.
"""

from __future__ import annotations

from migkit.kernels.memory import fraction, remaining
from migkit.kernels.memory_of_policies import begin_memory, end_memory, note_memory
from migkit.kernels.multifd import FLUSH_BYTES, packet_header, packet_pages
from migkit.kernels.options import inlined_kernel, kernel
from migkit.kernels.qemu_file import WINDOW_NS, WINDOWS_PER_S, pages_at_one_rate
from migkit.kernels.ram import SECTION_BYTES
from migkit.kernels.state import (
    BANDWIDTH_OWN,
    INITIAL_DATA_STARVED,
    LAPS,
    PAGE_HEADER,
    RAM_ABOVE_LINK,
    RUNNING,
    STOP_COPY_ABOVE_THRESHOLD,
    TIME_LIMIT,
    VFIO,
)

STALLED_SYNCS = 3  # a device that got nothing in as many syncs waits
THROTTLE_LAP_NS = 6_000_000_000  # sees the 5 s timer, or two evaluations of the throttle
SETTLED_COVER = 1e-3  # XBZRLE encodes more and more pages until the cache has what it has room for
OVERSHOOT = 1 << 21  # more than a window can carry beyond its budget: one block of a device and a flush
FAR = 1e300


@inlined_kernel
def verdict(s, lap):
    """After an iteration: end the migration if nothing can change any more.

    Returns
    -------
    ended : bool
    """
    state = s.state
    synced = state.syncs != lap.seen_sync  # in the iteration, or before it by auto-converge's timer
    lap.seen_sync = state.syncs
    note_iteration(s, lap, synced)
    if not synced:
        return False
    outcome = RUNNING
    if lap_ends(s, lap):
        end_lap(s, lap)
        if lap.stuck == 1:
            outcome = classify(s, lap)
    if state.synced > 0 and never_fits(s):
        lap.never_fits = 1
        outcome = STOP_COPY_ABOVE_THRESHOLD
    if outcome == RUNNING or state.stops_early == 0:
        state.culprit = -1
        return False
    account_starvation(s, state.t)
    state.outcome = outcome
    return True


@inlined_kernel
def time_is_up(s, lap):
    """The time limit is reached: say why the migration has not completed."""
    account_starvation(s, s.state.t)
    lap.stuck = 0
    s.state.outcome = TIME_LIMIT if s.state.postcopy == 1 else classify(s, lap)


@inlined_kernel
def account_starvation(s, until):
    """Devices that the last iteration left out, and that have initial data, have waited from its start until now."""
    state = s.state
    for d in range(state.device_count):
        own = s.live[d]
        if own.iteration != state.iteration and own.initial > 0 and s.devices[d].kind == VFIO:
            own.starved += until - state.iteration_t


@inlined_kernel
def begin_lap(s, lap):
    """Begin a lap here."""
    state = s.state
    lap.began_t = state.t
    lap.began_pages = state.ram_pages_sent
    lap.began_sync = state.syncs
    lap.began_iteration = state.iteration
    lap.began_initial = initial_left(s)
    lap.flags_missing = state.flags_missing
    lap.throttle = state.throttle
    lap.limit_changes = state.limit_changes
    lap.xbzrle_cover = state.xbzrle_cover
    lap.gap = FAR
    lap.gap_is_stop = 0
    lap.left = FAR
    lap.most = 0.0


@kernel
def begin_first_lap(s, lap):
    """Begin the first lap of a migration."""
    lap.seen_sync = s.state.syncs
    lap.count = 0
    lap.total = 0
    lap.never_fits = 0
    lap.stuck = 0
    lap.half = 1
    lap.old_least, lap.new_least = FAR, FAR
    for k in range(LAPS):
        lap.gaps[k], lap.lefts[k], lap.mosts[k] = FAR, FAR, 0.0
    lap.last_gap = FAR
    lap.last_gap_is_stop, lap.same_reason = 0, 0
    begin_lap(s, lap)
    begin_memory(s, lap)


@inlined_kernel
def initial_left(s):
    """Initial data left on all devices."""
    total = 0
    for d in range(s.case.device_count):
        total += s.live[d].initial
    return total


@inlined_kernel
def note_iteration(s, lap, synced):
    """Take an iteration into the lap."""
    state = s.state
    left = remaining(s.ram) + fraction(s.ram)
    lap.left = min(lap.left, left)
    lap.most = max(lap.most, left)
    note_memory(s, lap)
    if state.exact >= 0 and state.synced > 0:
        gap = float(state.pending - state.compared) + state.sync_fraction * s.case.page_size
        if gap < lap.gap:
            lap.gap = gap
            lap.gap_is_stop = 1 if state.stop_copy >= state.compared else 0
    elif synced or state.blind == 1:  # what the timer has synced is exact
        gap = float(state.pending - state.compared)
        if gap < lap.gap:
            lap.gap = gap
            if state.blind == 1:
                lap.gap_is_stop = 0  # an estimate has no stop-copy


@inlined_kernel
def throttles(case):
    """Whether the loop may slow the guest down."""
    return case.auto_converge == 1 or case.dirty_limit == 1


@inlined_kernel
def lap_ends(s, lap):
    """Whether the lap has passed all that is dirty, two syncs, four iterations and two windows; the timer too."""
    state = s.state
    return (
        state.syncs - lap.began_sync >= 2
        and state.iteration - lap.began_iteration >= 4
        and state.t - lap.began_t >= (THROTTLE_LAP_NS if throttles(s.case) else 2 * WINDOW_NS)
        and 2 * (state.ram_pages_sent - lap.began_pages) >= 3 * remaining(s.ram)
    )


@kernel
def closes(distances, laps_left):
    """Whether a distance seen in the last laps can still reach 0 in ``laps_left`` more.

    It cannot if all are above 0, lie close together, and fall so slowly that even a speeding up, as after a
    narrow passage (``x' = e + x**2`` needs ``pi / sqrt(e)``), would take longer than what is left.
    """
    a, b, c, d = distances[0], distances[1], distances[2], distances[3]
    least = min(min(a, b), min(c, d))
    most = max(max(a, b), max(c, d))
    if least <= 0.0 or most >= FAR:
        return True
    if most - least > 0.5 * least:
        return True
    fall = max(0.0, max(a - d, max(a - c, b - d))) / 2.0
    return fall * laps_left * laps_left > least


@kernel
def saws(distances, laps_left):
    """Whether a distance that is thrown back now and then falls from lap to lap, so that it may reach 0 after all.

    Calls of limited size are more or fewer in a pass, which moves the distance at once.
    """
    fall = 0.0
    for k in range(LAPS - 1):
        fall = max(fall, distances[k] - distances[k + 1])
    return fall * laps_left * laps_left > distances[LAPS - 1]


@kernel
def drifts(values):
    """Whether the last laps went the same way by a page or more: slices that shift against the window."""
    a, b, c, d = values[0], values[1], values[2], values[3]
    return (a > b > c > d and a - d > 3.0) or (a < b < c < d and d - a > 3.0)


@kernel
def append(values, value):
    """Move the values of the last laps up by one."""
    for k in range(LAPS - 1):
        values[k] = values[k + 1]
    values[LAPS - 1] = value


@inlined_kernel
def end_lap(s, lap):
    """Close a lap and compare it with the three before: set ``stuck`` if nothing can change any more."""
    case, state = s.case, s.state
    if (
        initial_left(s) != lap.began_initial
        or state.flags_missing != lap.flags_missing
        or state.throttle != lap.throttle
        or state.limit_changes != lap.limit_changes
        or state.xbzrle_cover - lap.xbzrle_cover > SETTLED_COVER
        or (state.flags_missing == 0 and state.ack_t > state.t)
        # a link that is slow in the first pass gives higher thresholds later
        or pages_at_one_rate(case, s.link, lap.began_pages) <= case.ram_pages
        or case.policies_repeat == 0
    ):
        lap.count = 0
        begin_memory(s, lap)
    else:
        lap.count += 1
    append(lap.gaps, lap.gap)
    append(lap.lefts, lap.left)
    lap.total += 1
    if lap.total > lap.half:
        lap.half *= 2
        lap.old_least, lap.new_least = lap.new_least, FAR
    lap.new_least = min(lap.new_least, lap.gap)
    append(lap.mosts, lap.most)
    lap.last_gap = lap.gap
    lap.same_reason = lap.same_reason + 1 if lap.gap_is_stop == lap.last_gap_is_stop else 1
    lap.last_gap_is_stop = lap.gap_is_stop
    stuck = False
    if end_memory(s, lap) and lap.count >= LAPS:
        laps_left = (case.time_limit_ns - state.t) / max(1, state.t - lap.began_t)
        stuck = not closes(lap.gaps, laps_left) and not (state.capped == 1 and saws(lap.gaps, laps_left))
        if case.switchover_ack == 1 and state.flags_missing > 0 and lap.gap < 0.0:
            # pending fits and only the acknowledgement is missing: can RAM ever leave an iteration to the device?
            stuck = stuck or not closes(lap.lefts, laps_left)
        stuck = stuck and not drifts(lap.mosts)
        if (case.may_stop_early == 1 or case.policies_remember == 1) and lap.same_reason < LAPS:
            stuck = False  # exact sizes and estimates, or thresholds above the stop-copy and below it, take turns
    lap.stuck = 1 if stuck else 0
    begin_lap(s, lap)


@kernel
def highest_threshold(s):
    """No window from here on can give a threshold above this, bytes.

    A window carries at most its budget and an overshoot, or what the link takes; and once RAM and the devices are
    drained, at most what the guest writes in the window and in the iteration before it.
    """
    case, state = s.case, s.state
    if case.avail_switchover_bandwidth > 0:
        return float(state.threshold)
    per_ms = (1.0 + s.link.slack_ns / WINDOW_NS) / s.link.ns_per_byte * 1e6 / (1.0 - case.jitter)
    overshoot, section = OVERSHOOT, SECTION_BYTES + 16
    if case.multifd_channels > 0:
        channels, packet = case.multifd_channels, packet_header(case) + packet_pages(case) * case.page_size
        slack = s.link.channels_slack_ns + (channels + 1) * packet * s.link.channels_ns_per_byte
        per_ms = (1.0 + slack / WINDOW_NS) / s.link.channels_ns_per_byte * 1e6 / (1.0 - case.jitter)
        overshoot += (channels + 1) * packet
        section += 2 * (FLUSH_BYTES + channels * packet_header(case))
    if state.max_bandwidth > 0:
        per_ms = min(per_ms, (state.max_bandwidth // WINDOWS_PER_S + overshoot) / 100.0)
    if remaining(s.ram) == 0:
        writes = 0.0
        for r in range(case.region_count):
            writes += s.regions[r].writes_per_s * case.track_pages
        sections = case.device_count * section * (1e6 / case.iteration_ns)
        drained = True
        for d in range(case.device_count):
            own = s.live[d]
            if own.initial > 0 or own.left > 0 or s.devices[d].dirty_rate > 0.0:
                drained = False
        if drained:
            # the window that is running has what it carried before
            carried = (state.counted - state.mark) / 100.0
            per_ms = min(per_ms, carried + 1.6 * writes * (case.page_size + PAGE_HEADER) / 1000.0 + sections)
    return 1.01 * per_ms * state.downtime_limit_ms


@inlined_kernel
def never_fits(s):
    """Whether the stop-copy is above any threshold that can still come; asked after an iteration with a sync."""
    state = s.state
    if state.threshold <= 0 or state.stop_copy <= state.threshold or s.case.bandwidth_policy == BANDWIDTH_OWN:
        return False
    if s.case.may_stop_early < 2 or state.blind == 1:
        return False  # the rule when to sync may let it complete on an estimate, which has no stop-copy
    return state.stop_copy > highest_threshold(s)


@kernel
def first_waiting(s):
    """The first device whose initial data did not move for three syncs, -1 if there is none."""
    for d in range(s.case.device_count):
        own = s.live[d]
        if s.devices[d].kind == VFIO and own.initial > 0 and s.state.syncs - own.progress_sync >= STALLED_SYNCS:
            return d
    return -1


@kernel
def classify(s, lap):
    """Classify a migration that does not complete before the time limit; sets the culprit.

    Parameters
    ----------
    s : Migration
        At the end.
    lap : record LAP

    Returns
    -------
    outcome : int
        Stop-copy or RAM above the threshold if pending bytes never fitted in the last laps; else the device whose
        initial data waits; ``TIME_LIMIT`` where there was still progress.
    """
    state = s.state
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
        if gap < initial_left(s):
            # it would fit but for initial data that nobody was asked for
            waiting = first_waiting(s)
            if waiting >= 0:
                state.culprit = waiting
                return INITIAL_DATA_STARVED
        if lap.stuck == 1:
            return RAM_ABOVE_LINK
        if lap.total < LAPS or lap.old_least - lap.new_least > lap.new_least:
            # too early to tell, or falling fast enough to get there in as long again
            return TIME_LIMIT
        return RAM_ABOVE_LINK
    if s.case.switchover_ack == 1:
        state.culprit = first_waiting(s)
        if state.culprit >= 0:
            return INITIAL_DATA_STARVED
    return TIME_LIMIT
