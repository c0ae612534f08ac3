"""The window of the rate limit (migration/migration.c): when it ends, what the threshold becomes, and the sleep.

The loop asks after each iteration; with huge pages RAM asks after each page too (host_pages.py).
"""

from __future__ import annotations

from migkit.kernels.faults import postcopy_pull
from migkit.kernels.jitter import WAKEUPS, varied
from migkit.kernels.multifd import multifd_settle
from migkit.kernels.options import inlined_kernel
from migkit.kernels.policies import bandwidth
from migkit.kernels.qemu_file import WINDOW_NS, migration_rate_exceeded


@inlined_kernel
def migration_rate_limit(s):
    """Begin a new window when 100 ms have passed; sleep until then when the budget is used up.

    migration/migration.c:migration_rate_limit
    """
    state = s.state
    if s.case.multifd_channels > 0:
        multifd_settle(s)
    if state.t - state.window_t >= WINDOW_NS:
        migration_update_counters(s)
    if migration_rate_exceeded(state):
        late = s.case.wakeup_ns
        if s.case.jitter > 0.0:
            late = int(late * varied(s.case, state, WAKEUPS, state.iteration + state.ram_parts))
        wakes = max(state.t, state.window_t + WINDOW_NS + late)
        if state.postcopy == 1:
            postcopy_pull(s, wakes)
        state.t = max(state.t, wakes)


@inlined_kernel
def migration_update_counters(s):
    """Set the threshold from the window that ends, begin a new one (migration/migration.c:migration_update_counters).

    ``threshold = bytes / ms * downtime-limit``: one raw window, no smoothing, if the policy does not say otherwise.
    """
    case, state = s.case, s.state
    state.window_ms = (state.t - state.window_t) // 1_000_000
    state.window_bytes = state.counted - state.mark
    if case.avail_switchover_bandwidth > 0:
        if case.avail_per_ms_exact == 1:
            per_ms = case.avail_switchover_bandwidth / 1000.0
        else:
            per_ms = float(case.avail_switchover_bandwidth // 1000)
    else:
        per_ms = bandwidth(s)
    state.threshold = int(per_ms * state.downtime_limit_ms)
    state.mark = state.counted
    state.window_t = state.t
    state.window_syncs, state.window_drained = 0, 0
    state.last_calls, state.window_calls = state.window_calls, 0
