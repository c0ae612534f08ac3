"""RAM on channels of their own (migration/multifd.c): packets, who waits for whom, and when their bytes count.

The migration thread gathers pages in a queue and hands full queues over to the channels; each of them writes one packet
at a time. Computed packet by packet, and in one step while the packets of a call repeat.
"""

from __future__ import annotations

import numpy as np

from migkit.kernels.jitter import SLICES, varied
from migkit.kernels.memory import remaining, stretch, tail, take
from migkit.kernels.options import kernel
from migkit.kernels.qemu_file import COPY_BUFFER, FAR, count_copied, pages_at_one_rate, window_room
from migkit.kernels.ram import CHECK_PAGES, SLICE_NS, ZERO_PAGE_BYTES, finish_section, release_flags, zeros_of
from migkit.kernels.state import NO_LIMIT, PAGE_HEADER

PACKET_BYTES = 524_288  # pages of a full packet (migration/multifd.h: MULTIFD_PACKET_SIZE)
HEADER_BYTES, SLOT_BYTES = 320, 8  # before them, and for each page there may be (MultiFDPacket_t)
CONNECT_BYTES = 64  # a channel says which one it is (MultiFDInit_t)
HOUR_NS = 3_600_000_000_000
FLUSH_BYTES = 8  # RAM_SAVE_FLAG_MULTIFD_FLUSH on the main stream


@kernel
def packet_pages(case):
    """Pages of a full packet (migration/multifd.c:multifd_ram_page_count)."""
    return max(1, PACKET_BYTES // case.page_size)


@kernel
def packet_header(case):
    """Bytes of a packet without pages: of a SYNC."""
    return HEADER_BYTES + SLOT_BYTES * packet_pages(case)


@kernel
def packet_size(case, normal):
    """Bytes of a packet with so many normal pages, compressed where they are."""
    return packet_header(case) + int(normal * case.channel_page_bytes)


@kernel
def multifd_setup(s):
    """The channels are connected and have written a first SYNC (migration/ram.c:ram_save_setup)."""
    case, state = s.case, s.state
    for c in range(case.multifd_channels):
        channel = s.channels[c]
        channel.written_at, channel.drained_at, channel.uncounted = 0, 0, 0
    size = case.multifd_channels * (CONNECT_BYTES + packet_header(case))
    if case.multifd_flush_after_each_section == 0:
        size += FLUSH_BYTES
    state.counted, state.mark, state.bytes_sent, state.ram_put = size, size, size, size
    state.tail_sync = -1
    set_channels_rate(s)


@kernel
def set_channels_rate(s):
    """Take the rate that is in force for the pages that are put next, as set_page_rate does for one stream."""
    case, link, state = s.case, s.link, s.state
    if link.fresh_after_pages <= state.ram_pages_sent < case.ram_pages:
        ns_per_byte, slack_ns = link.channels_fresh_ns_per_byte, link.channels_fresh_slack_ns
    else:
        ns_per_byte, slack_ns = link.channels_ns_per_byte, link.channels_slack_ns
    ns_per_byte *= state.pace
    if ns_per_byte != state.page_ns_per_byte or slack_ns != state.page_slack_ns:
        state.page_ns_per_byte = ns_per_byte
        state.page_slack_ns = slack_ns
        state.events += 1


@kernel
def count_packet(state, channel):
    """Count what a channel has written."""
    state.counted += channel.uncounted
    state.in_flight -= channel.uncounted
    channel.uncounted = 0


@kernel
def multifd_settle(s):
    """Count the packets that have been written before now (migration/multifd.c:multifd_send_thread)."""
    state = s.state
    if state.in_flight == 0:
        return
    for c in range(s.case.multifd_channels):
        channel = s.channels[c]
        if channel.uncounted > 0 and channel.written_at < state.t:
            count_packet(state, channel)


@kernel
def write_packet(s, c, size, cpu):
    """Let a channel write a packet as soon as it has written the one before.

    The link carries the bytes of all channels one after the other; a stream has its ceiling, and the channel its CPU
    time; the write is over when the rest fits into the send buffers.
    """
    case, state, channel = s.case, s.state, s.channels[c]
    if channel.written_at <= state.t:
        count_packet(state, channel)
    begins = max(state.t, channel.written_at)
    state.drained_at = max(state.drained_at, begins) + int(size * state.page_ns_per_byte)
    channel.drained_at = max(channel.drained_at, begins) + int(size * s.link.ns_per_byte * state.pace)
    stream, link = channel.drained_at - s.link.slack_ns, state.drained_at - state.page_slack_ns
    channel.written_at = max(begins + cpu, max(stream, link))
    state.busy_until = max(state.busy_until, max(channel.written_at, channel.drained_at))
    if case.multifd_counts_late == 1:
        channel.uncounted += size
        state.in_flight += size
    else:
        state.counted += size
    state.bytes_sent += size
    state.ram_put += size


@kernel
def multifd_send_pages(s):
    """Hand the queue over to the next idle channel in turn, as soon as there is one (migration/multifd.c)."""
    case, state = s.case, s.state
    count = case.multifd_channels
    idle_t = s.channels[0].written_at
    for c in range(1, count):
        idle_t = min(idle_t, s.channels[c].written_at)
    state.t = max(state.t, idle_t)
    multifd_settle(s)
    c = state.next_channel
    while s.channels[c].written_at > state.t:
        c = c + 1 if c + 1 < count else 0
    cpu = int((state.queued_normal * case.channel_page_ns + state.queued_zero * case.zero_cost_ns) * state.pace)
    write_packet(s, c, packet_size(case, state.queued_normal), cpu)
    state.next_channel = c + 1 if c + 1 < count else 0
    state.queued_normal, state.queued_zero = 0, 0
    state.effort += 1


@kernel
def multifd_send_sync_main(s):
    """Send what is queued and a SYNC on each channel, and wait for all of them (migration/multifd.c)."""
    case, state = s.case, s.state
    if state.queued_normal + state.queued_zero > 0:
        multifd_send_pages(s)
    written_t = state.t
    for c in range(case.multifd_channels):
        write_packet(s, c, packet_header(case), np.int64(0))
        written_t = max(written_t, s.channels[c].written_at)
    state.t = written_t
    for c in range(case.multifd_channels):
        count_packet(state, s.channels[c])
    if case.multifd_flush_after_each_section == 0:
        state.bytes_sent += FLUSH_BYTES
        state.ram_put += FLUSH_BYTES
        state.counted += FLUSH_BYTES
    state.counted += state.buffered
    state.buffered = 0
    if state.flags_buffered > 0:
        release_flags(s, state.t, state.drained_at)
    state.effort += case.multifd_channels


@kernel
def find_dirty_block(s):
    """Search the next dirty page; where that passes the end of RAM, all channels sync first.

    migration/ram.c:find_dirty_block; a search that finds nothing passes the end too.

    Returns
    -------
    found : bool
    """
    case, state = s.case, s.state
    if state.tail_sync != state.syncs:
        state.tail_sync = state.syncs
        state.tail_pages = tail(s.ram, case)
    if state.tail_pages == 0:
        if case.multifd_flush_after_each_section == 0:
            multifd_send_sync_main(s)
        state.tail_pages = remaining(s.ram)
    return remaining(s.ram) > 0


@kernel
def pages_until(left_ns, each_ns):
    """Pages of so many nanoseconds each that take ``left_ns`` or more; ``FAR`` for an hour and more."""
    if left_ns <= 0:
        return np.int64(0)
    if each_ns <= 0.0 or left_ns > HOUR_NS:
        return FAR
    pages = np.int64(left_ns / each_ns)
    while pages > 0 and (pages - 1) * each_ns >= left_ns:
        pages -= 1
    while pages * each_ns < left_ns:
        pages += 1
    return pages


@kernel
def pages_until_slice_ends(left_ns, pages, each_ns):
    """Pages from here on after which a look at the clock, at the earliest in ``left_ns``, ends the call."""
    first = (1 - pages) % CHECK_PAGES
    if first == 0:
        first = np.int64(CHECK_PAGES)
    further = pages_until(left_ns, each_ns) - first
    if further <= 0:
        return first
    return FAR if further >= FAR - first else first + (further + CHECK_PAGES - 1) // CHECK_PAGES * CHECK_PAGES


@kernel
def pages_until_counted(s, each_ns):
    """Pages from here on after which packets that were written meanwhile have used up the budget; 1 or more."""
    state = s.state
    room = window_room(state)
    if room < 0:
        return 1
    if state.in_flight <= room:
        return FAR
    written, t = np.int64(0), state.t - 1
    while written <= room:
        following = FAR
        for c in range(s.case.multifd_channels):
            channel = s.channels[c]
            if channel.uncounted > 0 and channel.written_at > t:
                following = min(following, channel.written_at)
        t = following
        for c in range(s.case.multifd_channels):
            channel = s.channels[c]
            if channel.uncounted > 0 and channel.written_at == t:
                written += channel.uncounted
    return max(1, pages_until(t + 1 - state.t, each_ns))


@kernel
def pages_to_queue(case, state, share):
    """Pages from here on until the queue is full; ``FAR`` where all are zero pages that do not go into it."""
    free = packet_pages(case) - state.queued_normal - state.queued_zero
    if share <= 0.0 or case.multifd_zero_pages == 1:
        return free
    return FAR if share >= 1.0 else np.int64(np.ceil(free / (1.0 - share)))


@kernel
def pages_to_flush(case, state, share):
    """Pages from here on whose zero pages fill the buffer of the main stream, or the budget where each counts."""
    if case.flush_pages == 1:
        if state.max_bandwidth == 0:
            return FAR
        zeros = max(0, window_room(state)) // ZERO_PAGE_BYTES + 1
    else:
        zeros = (COPY_BUFFER - state.buffered + ZERO_PAGE_BYTES - 1) // ZERO_PAGE_BYTES
    return max(1, np.int64(np.ceil(zeros / share)))


@kernel
def queue_full(case, state):
    """Whether the queue holds a whole packet."""
    return state.queued_normal + state.queued_zero >= packet_pages(case)


@kernel
def pages_ahead(s):
    """Dirty pages from the cursor on that cost the same, up to the end of RAM or another rate, and their zero share."""
    pages, share = stretch(s.ram, s.case, s.regions, s.state.t)
    most = min(s.state.tail_pages, pages_at_one_rate(s.case, s.link, s.state.ram_pages_sent))
    return min(pages, most), share


@kernel
def take_pages(s, count):
    """Take pages from the cursor on."""
    take(s.ram, s.case, count)
    s.state.tail_pages -= count


@kernel
def put_queued(s, count, share, page_ns, zero_ns):
    """Put pages into the queue, zero pages of some versions into the main stream.

    Returns
    -------
    put : int
        Bytes of the pages, each with 8 beside it.
    """
    case, state = s.case, s.state
    zeros = zeros_of(count, share)
    normal = count - zeros
    take_pages(s, count)
    state.queued_normal += normal
    state.ram_pages_sent += count
    state.ram_zero_pages += zeros
    put = normal * (case.page_size + PAGE_HEADER)
    if case.multifd_zero_pages == 1:
        state.queued_zero += zeros
        state.t += count * page_ns
        return put + zeros * SLOT_BYTES
    state.t += normal * page_ns + zeros * zero_ns
    if zeros > 0:
        copied, held = zeros * ZERO_PAGE_BYTES, state.buffered
        state.bytes_sent += copied
        state.ram_put += copied
        put += copied
        count_copied(case, state, copied)
        if held + copied >= COPY_BUFFER and state.flags_buffered > 0:
            release_flags(s, state.t, state.drained_at)
    return put


@kernel
def multifd_save_pages(s, slice_end_t, limited, most_bytes):
    """Send dirty pages from the cursor on, to the first limit or the last page (migration/ram.c).

    Parameters
    ----------
    s : Migration
    slice_end_t : int, ns
        The first look at the clock from here on ends it.
    limited : int
        1: the budget of the window does.
    most_bytes : int
        So many bytes of pages do.

    Returns
    -------
    returned : int
        1 if nothing was left, else 0.
    """
    case, state = s.case, s.state
    page_ns, zero_ns = int(case.multifd_page_ns * state.pace), int(case.zero_cost_ns * state.pace)
    pages, put, packets = np.int64(0), np.int64(0), np.int64(0)
    seen_t, seen_pages = state.t, pages
    remember_packets(s)
    while True:
        multifd_settle(s)
        if limited == 1 and window_room(state) < 0:
            return 0
        if not find_dirty_block(s):
            return 1
        set_channels_rate(s)
        ahead, share = pages_ahead(s)
        level = int(share * 1e15)
        if level != state.zero_level:
            state.zero_level = level
            state.events += 1
        on_main = share > 0.0 and case.multifd_zero_pages == 0
        if case.multifd_sends_full_queue == 0 and share < 1.0 + case.multifd_zero_pages and queue_full(case, state):
            multifd_send_pages(s)
            packets += 1
        if packets == case.multifd_channels:
            # each channel has had a packet: do they do again what they did before?
            if share == 0.0 and most_bytes == NO_LIMIT and same_packets(s, seen_t):
                span, count = state.t - seen_t, pages - seen_pages
                times = min((ahead - 1) // max(1, count), (slice_end_t - 1 - state.t) // span)
                times = repeated_packets(s, limited, times, count)
                if times > 0:
                    repeat_packets(s, times, span, count)
                    pages += times * count
                    ahead -= times * count
            remember_packets(s)
            seen_t, seen_pages, packets = state.t, pages, np.int64(0)
        each_ns = float(page_ns)
        if on_main:
            each_ns = page_ns * (1.0 - share) + zero_ns * share
        count = min(ahead, pages_to_queue(case, state, share))
        count = min(count, pages_until_slice_ends(slice_end_t - state.t, pages, each_ns))
        if limited == 1:
            count = min(count, pages_until_counted(s, each_ns))
        if on_main:
            count = min(count, pages_to_flush(case, state, share))
        if most_bytes < NO_LIMIT:
            slot = SLOT_BYTES if case.multifd_zero_pages == 1 else ZERO_PAGE_BYTES
            size = (case.page_size + PAGE_HEADER) * (1.0 - share) + slot * share
            count = min(count, max(1, np.int64(np.ceil((most_bytes - put) / size))))
        put += put_queued(s, count, share, page_ns, zero_ns)
        pages += count
        if case.multifd_sends_full_queue == 1 and queue_full(case, state):
            multifd_send_pages(s)
            packets += 1
        if (pages % CHECK_PAGES == 1 and state.t >= slice_end_t) or put >= most_bytes:
            return 0


@kernel
def multifd_save_iterate(s, most_bytes):
    """One call of RAM's handler (migration/ram.c:ram_save_iterate) with multifd; as ram_save_iterate of ram.py."""
    case, state = s.case, s.state
    returned = 0
    if state.bulk == 0:
        before = state.ram_pages_sent
        state.pace = varied(case, state, SLICES, state.ram_calls)
        set_channels_rate(s)
        limited = np.int64(state.max_bandwidth > 0)
        returned = multifd_save_pages(s, state.t + SLICE_NS, limited, most_bytes)
        if case.multifd_flush_after_each_section == 1:
            multifd_send_sync_main(s)
        state.ram_pages += state.ram_pages_sent - before
    multifd_settle(s)
    if state.flags_buffered > 0:
        release_flags(s, state.t, state.drained_at)
    finish_section(state, np.int64(0), np.int64(0))
    return returned


@kernel
def multifd_save_complete(s):
    """Send all dirty pages, without a limit, and wait for all channels (migration/ram.c:ram_save_complete)."""
    case, state = s.case, s.state
    state.pace = varied(case, state, SLICES, state.ram_calls)
    set_channels_rate(s)
    multifd_save_pages(s, np.int64(NO_LIMIT), np.int64(0), np.int64(NO_LIMIT))  # of the types of the other call
    for _ in range(case.multifd_syncs_at_end):
        multifd_send_sync_main(s)


@kernel
def ahead_of(t, now):
    """How far a time lies ahead; what has passed has passed, however long ago."""
    return max(0, t - now)


@kernel
def remember_packets(s):
    """Note how far each channel is, and the link."""
    state = s.state
    for c in range(s.case.multifd_channels):
        channel = s.channels[c]
        channel.was_written = ahead_of(channel.written_at, state.t)
        channel.was_drained = ahead_of(channel.drained_at, state.t)
        channel.was_uncounted = channel.uncounted
    state.was_drained = ahead_of(state.drained_at, state.t)
    state.was_next = state.next_channel


@kernel
def same_packets(s, seen_t):
    """Whether the channels and the link are as far ahead of the migration thread as they were at ``seen_t``."""
    state = s.state
    if state.t <= seen_t or state.next_channel != state.was_next:
        return False
    if ahead_of(state.drained_at, state.t) != state.was_drained:
        return False
    for c in range(s.case.multifd_channels):
        channel = s.channels[c]
        if (
            ahead_of(channel.written_at, state.t) != channel.was_written
            or ahead_of(channel.drained_at, state.t) != channel.was_drained
            or channel.uncounted != channel.was_uncounted
        ):
            return False
    return True


@kernel
def repeated_packets(s, limited, most_times, pages):
    """How often the last packets, one a channel, can repeat: until something else than they decides."""
    case, state = s.case, s.state
    most = packet_pages(case)
    if pages != case.multifd_channels * most or state.queued_zero > 0:
        return np.int64(0)
    times = most_times
    if limited == 1:
        size = packet_size(case, most)
        times = min(times, (window_room(state) - state.in_flight) // (case.multifd_channels * size) - 1)
    return times


@kernel
def repeat_packets(s, times, span, pages):
    """Let the last packets, one a channel, repeat so often."""
    case, state = s.case, s.state
    size = times * case.multifd_channels * packet_size(case, packet_pages(case))
    take_pages(s, times * pages)
    state.ram_pages_sent += times * pages
    state.t += times * span
    state.drained_at += times * span
    state.busy_until += times * span
    for c in range(case.multifd_channels):
        channel = s.channels[c]
        channel.written_at += times * span
        channel.drained_at += times * span
    state.counted += size
    state.bytes_sent += size
    state.ram_put += size
