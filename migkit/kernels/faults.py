"""What the guest asks for after the switch to post-copy (migration/postcopy-ram.c): page faults, in the mean.

Faults are counted region by region; a writer that waits for a page writes nothing (docs/model.md, section 12). The
destination places a host page at a time, so that a fault asks for one, and waits for all of it.
"""

from __future__ import annotations

import numpy as np

from migkit.kernels.guest import writer_ns
from migkit.kernels.memory import remaining
from migkit.kernels.options import kernel
from migkit.kernels.ram import page_bytes, ram_save_pages


@kernel
def fault_ns(s, streams):
    """How long a fault waits for its host page, ns: a round trip and the page, behind what the socket holds.

    With ``streams`` the background sends, the send buffer is full, and half a host page is to go in the mean. With
    postcopy-preempt pages that are asked for have a channel of their own, and wait behind nothing
    (migration/ram.c:ram_save_host_page_urgent).
    """
    case, link = s.case, s.link
    wire = page_bytes(case, 1, 0) * link.ns_per_byte
    each = max(wire, case.page_cost_ns)
    if streams == 1 and case.postcopy_preempt == 0:
        return link.rtt_ns + each * (case.host_pages + 0.5 * (case.host_pages - 1)) + link.slack_ns * (each / wire)
    return link.rtt_ns + each * case.host_pages


@kernel
def count_faults(s, until, pages, streams):
    """Faults of the guest on the destination since the last count; whole ones, the rest is carried.

    A fault brings a host page. The rest is that of pages:

    A writer that would touch ``a`` pages in ``dt``, of which a share ``f`` is missing, and waits ``w`` for each, faults
    ``a f / (1 + a f w / dt)`` times. The share of missing pages falls in all regions as it does in RAM, or faster where
    faults have brought more of a region: no page faults twice.

    Parameters
    ----------
    s : Migration
    until : int, ns
    pages : float
        Missing meanwhile.
    streams : int
        1: the background sends.
    """
    case, state = s.case, s.state
    since = state.faults_t
    if until <= since or state.postcopy_pages == 0:
        return np.int64(0)
    share = pages / state.postcopy_pages
    waits = fault_ns(s, streams) / (until - since)
    total = state.fault_part
    for r in range(case.region_count):
        region, writer = s.regions[r], s.writers.now[r]
        if region.pages > 0 and region.writes_per_s > 0.0:
            worked = writer_ns(s.writers, r, until) - writer_ns(s.writers, r, since)
            left = writer.missing - writer.faulted
            touched = region.writes_per_s * (worked * 1e-9) * (min(writer.missing * share, left) / region.pages)
            faults = min(touched / (1.0 + touched * waits), left / case.host_pages)
            writer.faulted += faults * case.host_pages
            total += faults
    count = np.int64(total)
    state.fault_part = total - count
    state.faults_t = until
    return count


@kernel
def postcopy_pull(s, until):
    """Send the pages that the guest asks for while the rate limit sleeps, past the limit.

    A request wakes the thread (migration/ram.c:ram_save_queue_pages, migration_make_urgent_request).
    """
    state = s.state
    missing = remaining(s.ram)
    host = s.case.host_pages
    count = min(missing, count_faults(s, until, float(missing), 0) * host)
    if count == 0:
        return
    state.faults += (count + host - 1) // host
    size = ram_save_pages(s, state.t, count)
    state.bytes_sent += size
    state.counted += size
