"""Every other way to schedule that was proposed for QEMU's loop, as policies.

The walks come from the discussion of commit 4e1871c450 on qemu-devel, the rules when to sync and the bandwidths from
what was measured since; those without a name are migkit's. Each docstring has the change to QEMU that it stands for.
"""

from __future__ import annotations

from migkit.kernels.state import END, NO_LIMIT, RAM, VFIO
from migkit.scenario.policy import Policy, policy

__all__ = ["BANDWIDTHS", "SYNCS", "WALKS"]

BLOCK = 1 << 20
"""What VFIO reads in one call (``hw/vfio/migration.c:VFIO_MIG_DEFAULT_DATA_BUFFER_SIZE``)."""
QUANTUM = 4 * BLOCK
"""Of a round robin whose quantum is larger than a block."""


# ---------------------------------------------------------------- which device comes next, how many bytes it may take


@policy
def serialized_once_acknowledged(state, devices, live, own):
    """Unserialized until only pending bytes hold the switchover back, then serialized.

    The first version of the patch (Avihai Horon): ``if (ret <= 0 && migration_can_switchover(s)) break;`` in
    ``qemu_savevm_state_iterate``. No new state. A device is served in every iteration whose budget RAM leaves.
    """
    if state.previous >= 0 and state.returned != 1 and state.acknowledged == 1:
        return END, NO_LIMIT
    return state.previous + 1, NO_LIMIT


@policy
def serialized_until_acknowledged(state, devices, live, own):
    """The reverse: serialized while the acknowledgement is missing, then not.

    ``if (ret <= 0 && !migration_can_switchover(s)) break;``. No new state; for comparison.
    """
    if state.previous >= 0 and state.returned != 1 and state.acknowledged == 0:
        return END, NO_LIMIT
    return state.previous + 1, NO_LIMIT


@policy
def ram_alone_in_the_first_pass(state, devices, live, own):
    """RAM has precedence until it has once found nothing left, as in the first pass; then unserialized.

    Avihai Horon's proposal of a precedence "in the first iteration only": ``if (ret <= 0 && !s->bulk_done) break;``.
    New state: one flag, set when RAM's handler returns 1.
    """
    if state.previous >= 0 and devices[state.previous].kind == RAM:
        if state.returned == 1:
            own[0] = 1.0
        elif own[0] == 0.0:
            return END, NO_LIMIT
    return state.previous + 1, NO_LIMIT


@policy
def resume_behind_the_last(state, devices, live, own):
    """Begin behind the device that was served last (Peter Xu).

    ``se = s->last ? next(s->last) : first; ... s->last = se;`` New state: a pointer to the last handler. Every device
    is called once in as many windows as there are devices, since the first of a window always has budget.
    """
    if state.calls >= state.device_count:
        return END, NO_LIMIT
    device = int(own[0])
    own[0] = (device + 1) % state.device_count
    return device, NO_LIMIT


@policy
def equal_share_of_the_window(state, devices, live, own):
    """Each device takes at most its share of the window in a call (Peter Xu: a portion for each device).

    ``limit = rate_limit / nr_handlers`` given to each ``save_live_iterate``. No new state; handlers must obey a limit
    of their own. Without max-bandwidth there is no window to share, and the walk is that of 9.0.
    """
    if state.max_bandwidth == 0:
        return state.previous + 1, NO_LIMIT
    return state.previous + 1, state.max_bandwidth // 10 // state.device_count


@policy
def half_of_the_window_for_ram(state, devices, live, own):
    """A share by weight: RAM takes at most half of the window in a call, the devices together the other half.

    ``limit = rate_limit * se->weight / sum_of_weights``. New state: a weight for each handler. Without max-bandwidth
    there is no window to share, and the walk is that of 9.0.
    """
    device = state.previous + 1
    if state.max_bandwidth == 0 or device >= state.device_count or state.device_count == 1:
        return device, NO_LIMIT
    half = state.max_bandwidth // 20
    return device, half if devices[device].kind == RAM else half // (state.device_count - 1)


@policy
def initial_data_first(state, devices, live, own):
    """Devices that have initial data left come before RAM, one call each (Lei Wang: priorities of handlers).

    ``foreach (se with initial data) iterate(se); iterate(ram); foreach (the other) iterate(se);``. New state: none, the
    query of pending sizes tells who has some. A device with initial data is called in every iteration that begins with
    budget, so in every window.
    """
    if state.ram_returned < 0:
        for device in range(state.previous + 1, state.device_count):
            if devices[device].kind == VFIO and live[device].initial_waits == 1:
                return device, NO_LIMIT
        for device in range(state.device_count):
            if devices[device].kind == RAM:
                return device, NO_LIMIT
    start = state.previous + 1
    if state.previous >= 0 and devices[state.previous].kind == RAM:
        start = 0
    for device in range(start, state.device_count):
        if devices[device].kind != RAM and live[device].initial_waits == 0:
            return device, NO_LIMIT
    return END, NO_LIMIT


@policy
def round_robin_of_blocks(state, devices, live, own):
    """Deficit round robin with a quantum of one block: every device, RAM among them, takes at most 1 MiB in its turn.

    ``se->deficit += 1 MiB; se->deficit -= iterate(se, se->deficit);``: a call never takes more than its quantum, so no
    deficit is left. New state: none. The next iteration begins behind the last device, as the round goes on.
    """
    if state.calls >= state.device_count:
        return END, NO_LIMIT
    device = int(own[0])
    own[0] = (device + 1) % state.device_count
    return device, BLOCK


@policy
def round_robin_of_four_blocks(state, devices, live, own):
    """Deficit round robin with a quantum of four blocks: RAM takes at most 4 MiB in its turn, a VFIO device four reads.

    ``se->deficit += 4 MiB; while (se->deficit > 0 && pending(se)) se->deficit -= iterate(se, se->deficit);``: what the
    end of a window leaves of a deficit is used in the next one; a device without initial data keeps none. New state: a
    pointer to the handler whose turn it is, and its deficit.
    """
    if state.previous < 0:
        own[2] = 0.0  # turns that ended in this iteration
    device = int(own[0])
    reads_on = devices[device].kind == VFIO and live[device].initial_waits == 1 and own[1] < QUANTUM // BLOCK
    if own[1] > 0.0 and not reads_on:
        device = (device + 1) % state.device_count
        own[0], own[1] = device, 0.0
        own[2] += 1.0
    if own[2] >= state.device_count:
        return END, NO_LIMIT
    own[1] += 1.0
    return device, QUANTUM


@policy
def vfio_checks_the_limit(state, devices, live, own):
    """The walk of 9.0, with a VFIO handler that looks at the limit and sends no more than the window has left.

    ``if (migration_rate_exceeded(f)) return 0;`` in ``vfio_save_iterate``. No new state.
    """
    device = state.previous + 1
    if device < state.device_count and devices[device].kind == VFIO:
        return device, state.budget
    return device, NO_LIMIT


@policy
def all_initial_data_before_ram(state, devices, live, own):
    """No RAM before the initial data of every device has left, then the walk of 9.0; migkit's own.

    ``foreach (se with initial data) while (!done && !rate_exceeded) iterate(se);`` before the walk. New state: none.
    The initial data has to be sent anyway and is never dirtied again, so RAM waits once, for no longer than that takes,
    and the destination loads and acknowledges while RAM is in its first pass.
    """
    for device in range(state.device_count):
        if devices[device].kind == VFIO and live[device].initial_waits == 1:
            return device, NO_LIMIT
    if state.previous >= 0 and state.ram_returned < 0:
        for device in range(state.device_count):
            if devices[device].kind == RAM:
                return device, NO_LIMIT
    return state.previous + 1, NO_LIMIT


# ---------------------------------------------------------------- when to sync


@policy(question="syncs")
def once_a_window(state, devices, live, own):
    """The rule of 9.0, at most once in a window of 100 ms: ``if (pending < threshold && !s->synced_in_window)``.

    An iteration without the exact query decides on the estimate, which has no stop-copy: the migration may then
    complete although the devices send more than fits.
    """
    return state.estimate < state.threshold and state.window_syncs == 0


@policy(question="syncs")
def not_for_an_acknowledgement(state, devices, live, own):
    """The rule of 9.0, but not again while every flag has left and only the acknowledgement is missing.

    ``if (pending < threshold && (can_switchover || flags_missing))``. No new state.
    """
    return state.estimate < state.threshold and (state.acknowledged == 1 or state.flags_missing > 0)


@policy(question="syncs")
def by_expected_gain(state, devices, live, own):
    """The rule of 9.0, and also when writes since the last sync are expected to be an eighth of the dirty RAM.

    ``if (pending < threshold || 8 * dirty_rate * (now - synced_at) > dirty) sync();`` with the rate that the last sync
    found. New state: when that was, and the rate. A sync finds pages that were written again before they were sent:
    they are sent once, not twice.
    """
    if state.estimate < state.threshold:
        return True
    return 8.0 * state.sync_found / max(1, state.sync_span) * state.since_sync > state.ram_bytes


@policy(question="syncs")
def every_iteration(state, devices, live, own):
    """A sync in every iteration, as 11.1 does where postcopy-ram is merely enabled: ``sync();``. No new state."""
    return True


# ---------------------------------------------------------------- which bandwidth to believe


@policy(question="bandwidth")
def largest_of_the_last(state, devices, live, own):
    """The largest of the last eight windows: an idle window is not a slow link. New state: eight numbers."""
    for each in range(7, 0, -1):
        own[each] = own[each - 1]
    own[0] = state.window_bytes / state.window_ms
    most = 0.0
    for each in range(8):
        most = max(most, own[each])
    return most


@policy(question="bandwidth")
def moving_average(state, devices, live, own):
    """An exponentially weighted average, a quarter for the last window. New state: one number."""
    now = state.window_bytes / state.window_ms
    own[0] = now if own[0] == 0.0 else own[0] + 0.25 * (now - own[0])
    return own[0]


@policy(question="bandwidth")
def busy_windows(state, devices, live, own):
    """Only windows in which RAM always had something to send: a drained one tells nothing. New state: one number."""
    if state.window_drained == 0 or own[0] == 0.0:
        own[0] = state.window_bytes / state.window_ms
    return own[0]


@policy(question="bandwidth")
def link_alone(state, devices, live, own):
    """What the link carries, whatever the windows say: avail-switchover-bandwidth set to the link (8.2 and later).

    ``expected_bw_per_ms = avail_switchover_bandwidth / 1000``. No new state, but somebody has to know the link, and a
    migration thread that is slower than it is then believed too fast.
    """
    return 1e6 / state.link_ns_per_byte


WALKS: tuple[Policy, ...] = (
    serialized_once_acknowledged,
    serialized_until_acknowledged,
    ram_alone_in_the_first_pass,
    resume_behind_the_last,
    equal_share_of_the_window,
    half_of_the_window_for_ram,
    initial_data_first,
    round_robin_of_blocks,
    round_robin_of_four_blocks,
    vfio_checks_the_limit,
    all_initial_data_before_ram,
)
"""Which device comes next."""
SYNCS: tuple[Policy, ...] = (
    once_a_window,
    not_for_an_acknowledgement,
    by_expected_gain,
    every_iteration,
)
"""When to sync."""
BANDWIDTHS: tuple[Policy, ...] = (largest_of_the_last, moving_average, busy_windows, link_alone)
"""Which bandwidth to believe."""
