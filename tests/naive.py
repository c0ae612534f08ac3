"""The migration of docs/model.md, page by page, in plain Python.

Slow and obvious on purpose, and written from docs/model.md alone: it shares no code with migkit. The
bitmap engine is held against it bit for bit. Section numbers below are those of docs/model.md; functions
carry the names of QEMU's.

``migrate(case, seed, replicate)`` takes one migration as a dict with the names of
``rows.Parameters`` (numbers; lists for ``region_*`` and ``device_*``) and returns a dict with the names of
``rows.Outputs`` and ``timeline``, one dict per iteration.

The rules of the loop can be replaced by functions: ``next_device(migration, previous, returned)`` gives the index of
a device and the bytes it may take, or None to end the iteration; ``syncs(migration, estimate)`` and
``bandwidth(migration, bytes, milliseconds)`` are the other two. They keep what they like in ``migration.notes``.

``managed_by`` is a management policy: a :class:`Manager`, or anything with its ``first_ns``, ``poll_ns``,
``after_syncs`` and ``answer(shown)``, which gives a command and a value for what query-migrate shows.
"""

import math

RAM, VFIO, BLOCK = 0, 1, 2
SERIALIZED, UNSERIALIZED = 0, 1
COMPLETED, TIME_LIMIT, CANCELLED = 0, 4, 5
KEEP, SET_DOWNTIME_LIMIT, SET_MAX_BANDWIDTH, STOP_VM, CANCEL, START_POSTCOPY = 0, 1, 2, 3, 4, 5

MILLISECOND = 1_000_000
WINDOW_NS = 100 * MILLISECOND
MAX_WAIT_NS = 51 * MILLISECOND
SECTION_BYTES = 18
NO_LIMIT = 1 << 60
MIB = 1024 * 1024


# ---------------------------------------------------------------- random draws (section 5)

MASK = 2**64 - 1


def mix(z):
    """The finalizer of splitmix64."""
    z &= MASK
    z ^= z >> 30
    z = (z * 0xBF58476D1CE4E5B9) & MASK
    z ^= z >> 27
    z = (z * 0x94D049BB133111EB) & MASK
    z ^= z >> 31
    return z


def rand64(key, counter):
    return mix(key + counter * 0x9E3779B97F4A7C15)


def draw_key(seed, replicate, stream, sync_number):
    return mix(mix(mix(seed) + replicate) + stream * 2**32 + sync_number)


def draw_is_below(key, page, limit, bits=53):
    """``U < limit`` for the draw of a page, a number of that many bits.

    The bits of ``U`` come one by one, most significant first, so the comparison stops at the first
    bit that differs, as when one compares two written numbers.
    """
    if limit >= 2**bits:
        return True
    if limit == 0:
        return False
    word, lane = page // 64, page % 64
    for j in range(bits):
        bit_of_draw = rand64(key, word * 64 + j) >> lane & 1
        bit_of_limit = limit >> (bits - 1 - j) & 1
        if bit_of_draw != bit_of_limit:
            return bit_of_draw < bit_of_limit
    return False


def poisson_number(draw, mean):
    """How many writes: the first number whose cumulative probability is above a 53-bit draw."""
    number = 0
    term = total = math.exp(-mean)
    while draw >= int(total * 2**53):
        number += 1
        term *= mean / number
        total += term
        if number == 159 or (number > mean and term < 2**-60):
            break
    return number


# ---------------------------------------------------------------- the guest


class Region:
    """A part of RAM that the guest writes to."""

    def __init__(self, case, index):
        self.index = index
        self.start = case["region_start"][index]
        self.pages = case["region_pages"][index]
        self.writes_per_s = case["region_writes_per_s"][index]
        self.sequential = case["region_sequential"][index]
        self.vcpu_share = case["region_vcpu_share"][index]  # in 1/10000
        self.slice_ns = 10 * MILLISECOND - case["throttle_late_ns"]
        self.loss = case["throttle_loss"]
        self.phase = case["region_phase"][index]
        self.zero_share = case["region_zero_share"][index]
        first = case["region_rate_first"][index]
        numbers = range(first, first + case["region_rate_count"][index])
        self.rates = [(case["rate_from_ns"][n], case["rate_share"][n]) for n in numbers]
        self.period_ns = case["region_period_ns"][index]
        self.ring_pages = case["dirty_ring_pages"]
        self.track_pages = case["track_pages"]

    def writes_so_far(self, work_ns):
        """Sequential: how many writes happened until then, counted from the first page of the region."""
        return self.first + math.floor(self.writes_per_s * (work_ns * 1e-9))

    def work_until(self, tau_ns):
        """What guest time is worth at the highest rate: the sum over all rates until then."""
        if not self.rates:
            return tau_ns
        if self.period_ns:
            periods, rest = divmod(tau_ns, self.period_ns)
            return periods * self.work_of_one_pass(self.period_ns) + self.work_of_one_pass(rest)
        return self.work_of_one_pass(tau_ns)

    def work_of_one_pass(self, tau_ns):
        work = 0
        ends = [begin for begin, _ in self.rates[1:]] + [math.inf]
        for (begin, share), end in zip(self.rates, ends, strict=True):
            if tau_ns > begin:
                work += int((min(tau_ns, end) - begin) * share)
        return work

    def begin(self, t, seed, replicate):
        """Guest time 0 is at ``t``; a phase below 0 is drawn."""
        phase = self.phase
        if phase < 0:
            phase = (rand64(draw_key(seed, replicate, 1 + 3 * self.index, 0), 0) >> 11) * 2.0**-53
        self.first = math.floor(phase * self.pages)
        self.speeds = [(t, 0, self.vcpu_share)]  # from when, guest time then, share of the vCPU
        self.sleep_us, self.fill_ns, self.emptied_at = 0, 0.0, t
        self.stopped = False

    def stop(self, t):
        self.changes_speed(t, 0)
        self.stopped = True

    def changes_speed(self, t, gets):
        self.speeds.append((t, self.guest_time(t), gets))

    def guest_time(self, t):
        """What the writer has had of its time until ``t``: all of it while its vCPU has as much as it needs."""
        since, then, gets = [speed for speed in self.speeds if speed[0] <= t][-1]
        return then + (t - since) * gets // self.vcpu_share

    def work(self, t):
        return self.work_until(self.guest_time(t))

    def resumes(self, stopped, t):
        """On the destination: no time passes in between, and there is no throttle."""
        self.speeds.append((t, self.guest_time(stopped), self.vcpu_share))

    def throttled(self, t, percent):
        if self.stopped:
            return
        pauses = percent / (100 - percent)  # in slices
        share = 100 * (100 - percent) * self.slice_ns // (10 * MILLISECOND)
        gets = min(self.vcpu_share, math.floor(share / (1 + self.loss * pauses)))
        if gets != self.speeds[-1][2]:
            self.changes_speed(t, gets)

    # -- dirty-limit (section 14)

    def ring_full_ns(self):
        """Work after which the ring is full; infinity where it never is."""
        if not self.writes_per_s or self.pages <= self.ring_pages:
            return math.inf
        if self.sequential:
            return self.ring_pages / self.writes_per_s * 1e9
        return -math.log1p(-self.ring_pages / self.pages) * self.pages / self.writes_per_s * 1e9

    def begins_period(self, t):
        self.period_began = t

    def ends_period(self, t, period_ms, quota, limiter):
        """Measure what became dirty in a period, and sleep longer or shorter from now on."""
        guest = self.guest_time(t) - self.guest_time(self.period_began)
        worked = self.work(t) - self.work(self.period_began)
        self.period_began = t
        full = self.ring_full_ns()
        fills = worked > 0 and full < math.inf and full * guest <= worked * (period_ms * 1e6)
        writes = self.writes_per_s * (worked * 1e-9)
        if fills:
            pages = int(self.ring_pages * (worked / full))
        elif self.sequential:
            pages = int(min(self.pages, writes))
        else:
            pages = int(-math.expm1(-writes / self.pages) * self.pages) if self.pages else 0
        self.sleep_us = limiter.sleep_us(self.sleep_us, pages, quota)
        gets, self.fill_ns = self.vcpu_share, 0.0
        if fills and self.sleep_us:
            self.fill_ns = full * (guest / worked)
            busy = self.fill_ns * (self.vcpu_share / 10_000)
            gets = max(1, min(gets, int(10_000 * (busy / (busy + self.sleep_us * 1000)))))
        self.emptied_at = t
        self.changes_speed(t, gets)

    def asleep_ns(self, t):
        """For how long its vCPU still sleeps: since the ring was emptied it fills it, sleeps, and so on."""
        if self.fill_ns == 0:
            return 0
        cycle = self.fill_ns + self.sleep_us * 1000
        at = float(t - self.emptied_at)
        at -= math.floor(at / cycle) * cycle
        return int(cycle - at) if at >= self.fill_ns else 0

    def tracked_with(self, page):
        """The pages that are dirty as soon as one of them is written: the tracked unit of a page."""
        begin = page - page % self.track_pages
        return range(begin, begin + self.track_pages)

    def sequential_writes_hit(self, page, since, until):
        """Is the page among those that the writes number first .. last - 1 hit?"""
        first, last = self.writes_so_far(since), self.writes_so_far(until)
        writes_until_this_page = (page - self.start - first) % self.pages
        return writes_until_this_page < last - first


class Limiter:
    """[system/dirtylimit.c]: what a vCPU sleeps when its ring is full, by what was measured."""

    def __init__(self, case):
        self.ring_mib = case["dirty_ring_pages"] * case["page_size"] // MIB
        self.page_size, self.period_ms = case["page_size"], case["dirty_limit_period_ms"]
        self.highest = 0

    def sleep_us(self, before, pages, quota):
        rate = pages * 1000 * self.page_size // MIB // self.period_ms
        if abs(rate - quota) <= 25:
            return before
        if rate == 0:
            return 0
        self.highest = max(self.highest, rate)
        full_us = self.ring_mib * 1_000_000 // self.highest
        percent = abs(rate - quota) * 100 // max(rate, quota)
        step = int(full_us * percent / (100 - percent)) if percent > 50 else full_us // 10
        wanted = before + step if rate > quota else before - step
        return max(0, min(wanted, 99 * full_us))


class UniformWrites:
    """The independent writes to a region since the last sync, as a chunk's dirty log sees them.

    A page is known with ``1 - exp(-mean)``; if it was in the log of a chunk that was cleared only the writes after the
    clear count, ``1 - exp(-late)``. Part of the writes is drawn page by page, the rest one by one.
    """

    def __init__(self, region, block_pages, since, cleared_at, now, page_key, early_key, late_key):
        self.block_pages = block_pages
        self.page_key, self.early_key, self.late_key = page_key, early_key, late_key
        self.cleared = cleared_at is not None
        mean = region.writes_per_s * ((now - since) * 1e-9) / region.pages
        late = region.writes_per_s * ((now - cleared_at) * 1e-9) / region.pages if self.cleared else 0.0
        self.bits = 0
        early_rest, late_rest = mean - late, late
        if mean > 1 / 64:
            self.bits = min(53, 7 + int(mean / 0.6931471805599453))
            self.limit_in_log, late_rest = self.split(late)
            self.limit, early_rest = self.split(mean - late_rest)
        self.early_hits, self.late_hits = early_rest * block_pages, late_rest * block_pages
        self.hit_pages = {}

    def split(self, mean):
        """A probability of ``bits`` bits, and the mean of the writes that it leaves."""
        limit = min(2**self.bits - 1, int(-math.expm1(-mean) * 2**self.bits))
        if self.bits == 53:
            return limit, 0.0
        return limit, max(0.0, mean + math.log1p(-limit / 2**self.bits))

    def hit(self, key, mean, block):
        """The pages of a block that writes drawn one by one hit."""
        if (key, block) not in self.hit_pages:
            counter = block * self.block_pages  # 64 numbers belong to each word of 64 pages
            number = poisson_number(rand64(key, counter) >> 11, mean)
            places = [rand64(key, counter + 1 + n // 5) >> (12 * (n % 5)) for n in range(number)]
            self.hit_pages[key, block] = {block * self.block_pages + place % self.block_pages for place in places}
        return self.hit_pages[key, block]

    def known(self, page, in_log):
        in_log = in_log and self.cleared
        if self.bits and draw_is_below(self.page_key, page, self.limit_in_log if in_log else self.limit, self.bits):
            return True
        block = page // self.block_pages
        if page in self.hit(self.late_key, self.late_hits, block):
            return True
        return not in_log and page in self.hit(self.early_key, self.early_hits, block)


# ---------------------------------------------------------------- RAM (section 5)


class Ram:
    kind = RAM

    def __init__(self, migration, case, seed, replicate):
        self.m = migration
        self.pages = case["ram_pages"]
        self.page_size = case["page_size"]
        self.page_cost_ns = case["page_cost_ns"]
        self.zero_cost_ns = case["zero_cost_ns"]
        self.host_pages = case["host_pages"]
        self.seed, self.replicate = seed, replicate

        self.region_of = [None] * self.pages
        self.regions = [Region(case, index) for index in range(case["region_count"])]
        for region in self.regions:
            region.begin(case["setup_ns"], seed, replicate)
            for page in range(region.start, region.start + region.pages):
                self.region_of[page] = region
        self.used = range(case["used_first"], case["used_stop"])
        self.is_zero = [self.draw_zero_page(page, case["idle_zero_share"]) for page in range(self.pages)]

        # the migration bitmap, all ones at first
        self.bmap = [1] * self.pages
        self.dirty_pages = self.pages
        self.cursor = 0
        # the dirty log
        self.lazy_clear = case["lazy_clear"]
        self.chunk_pages = case["chunk_pages"]
        self.log = [1] * self.pages
        self.cleared_at = self.no_chunk_cleared()
        self.last_sync = case["setup_ns"]
        self.sync_number = 0
        self.uniform_writes = {}

        self.calls = self.calls_done = 0
        self.calls_over = self.parts = 0
        self.pages_sent = self.zero_pages_sent = 0
        self.pages_in_call = 0
        self.bytes = 0
        self.first_call_ns = -1
        self.remaining_after_sync = self.pending()
        self.pace = 1.0
        self.cover, self.covered = 0.0, 0  # section 15
        self.plain_pages()
        self.channels = Channels(migration, self) if case["multifd_channels"] else None

    def draw_zero_page(self, page, idle_zero_share):
        region = self.region_of[page]
        share = region.zero_share if region else idle_zero_share if page in self.used else 1.0
        return draw_is_below(draw_key(self.seed, self.replicate, 0, 0), page, int(share * 2**53))

    def no_chunk_cleared(self):
        return [None] * (self.pages // self.chunk_pages + 1)

    def pending(self):
        return self.dirty_pages * self.page_size

    estimate = exact = precopy_bytes = pending

    def refresh(self):
        """RAM's exact query is the sync, which the turn does by itself."""

    # -- dirty log

    def uniform_known(self, region, page, cleared_at, now):
        name = (region.index, cleared_at)
        if name not in self.uniform_writes:
            keys = (draw_key(self.seed, self.replicate, 1 + 3 * region.index + n, self.sync_number) for n in range(3))
            block_pages = min(self.chunk_pages, 4096)
            times = [region.work(self.last_sync), cleared_at, region.work(now)]
            if cleared_at is not None:
                times[1] = region.work(cleared_at)
            self.uniform_writes[name] = UniformWrites(region, block_pages, *times, *keys)
        return self.uniform_writes[name].known(page, self.log[page])

    def known_written(self, page, now):
        """What the dirty log says about a page at a sync."""
        region = self.region_of[page]
        cleared_at = self.cleared_at[page // self.chunk_pages] if self.lazy_clear else None
        if self.lazy_clear and cleared_at is None and self.log[page]:
            return True
        if region is None:
            return False
        unit = region.tracked_with(page)
        if unit[0] not in self.known_units:
            self.known_units[unit[0]] = any(self.known_alone(region, each, cleared_at, now) for each in unit)
        return self.known_units[unit[0]]

    def known_alone(self, region, page, cleared_at, now):
        """The same for writes to this very page."""
        if region.sequential:
            since = self.last_sync if cleared_at is None or not self.log[page] else cleared_at
            return region.sequential_writes_hit(page, region.work(since), region.work(now))
        return self.uniform_known(region, page, cleared_at, now)

    def migration_bitmap_sync(self, now):
        """Move the log into the migration bitmap; return how many pages became dirty."""
        self.end_of_pass()
        self.sync_number += 1
        self.uniform_writes, self.known_units = {}, {}
        new = 0
        for page in range(self.pages):
            known = self.known_written(page, now)
            self.log[page] = int(known)
            if known and not self.bmap[page]:
                self.bmap[page] = 1
                new += 1
        self.cleared_at = self.no_chunk_cleared()
        self.last_sync = now
        self.dirty_pages += new
        return new

    def clear_chunk_of(self, page, now):
        """Re-protect the chunk of a page that is about to be sent, once per sync."""
        chunk = page // self.chunk_pages
        if self.lazy_clear and self.cleared_at[chunk] is None:
            self.cleared_at[chunk] = now

    # -- sending

    def link_for_next_page(self):
        """(ns per byte, ns of a full send buffer) for the page that is sent next."""
        m = self.m
        if m.fresh_after_pages <= self.pages_sent < self.pages:
            return m.fresh_ns_per_byte * self.pace, m.fresh_slack_ns
        return m.link_ns_per_byte * self.pace, m.send_slack_ns

    def find_dirty_page(self):
        """The next dirty page from the circular cursor, or None."""
        if self.dirty_pages == 0:
            return None
        page = self.cursor % self.pages
        while not self.bmap[page]:
            page = (page + 1) % self.pages
        return page

    def take(self, page):
        self.bmap[page] = 0
        self.dirty_pages -= 1
        self.cursor = page + 1
        self.pages_sent += 1
        if self.is_zero[page]:
            self.zero_pages_sent += 1

    # -- XBZRLE (section 15)

    def plain_pages(self):
        self.encoding = self.m.compressed_page_bytes > 0
        self.page_put, self.page_copied, self.page_cpu_ns = self.page_size + 8, 8, self.page_cost_ns
        if self.encoding:
            self.page_put = self.page_copied = self.m.compressed_page_bytes

    def encode_pages(self):
        """What a normal page of this call takes: encoded, or not."""
        m = self.m
        if not m.xbzrle or self.pages_sent < self.pages or m.postcopy:
            return
        self.encoding = True
        share, whole = m.xbzrle_share * self.cover, self.page_size + 8
        self.page_put = self.page_copied = int(whole - share * (whole - m.xbzrle_page_bytes) + 0.5)
        self.page_cpu_ns = self.page_cost_ns + share * (m.xbzrle_page_ns - self.page_cost_ns)

    def end_of_pass(self):
        """What was sent since the last sync, and after the first pass, is in the cache now."""
        sent = self.pages_sent - max(self.covered, self.pages)
        self.covered = self.pages_sent
        if self.m.xbzrle and sent > 0 and self.m.xbzrle_pages:
            self.cover += (1.0 - self.cover) * min(1.0, sent / self.m.xbzrle_pages)

    def wire_bytes(self, normal, zero):
        return normal * self.page_put + 9 * zero

    def cpu_ns(self, normal, zero):
        return int((normal * self.page_cpu_ns + zero * self.zero_cost_ns) * self.pace)

    def ram_save_iterate(self, most):
        m = self.m
        counted, buffered = m.counted, m.buffered  # at the start of the call
        self.pace = m.varied(2**20, self.calls - 1)
        link = self.link_for_next_page()  # for the whole call
        self.encode_pages()
        normal = zero = 0
        held, copied = 0, buffered  # normal pages and copied bytes since the last flush
        elapsed, _ = m.after_put(0, 0, link)  # above 0 if what waits left the link slower
        done = 0
        while not m.block_bulk():
            if m.exceeded():
                break
            page = self.find_dirty_page()
            if page is None:
                done = 1
                break
            self.clear_chunk_of(page, m.t + elapsed)
            self.take(page)
            if self.is_zero[page]:
                zero += 1
                copied += 9
            else:
                normal += 1
                held += not self.encoding
                copied += self.page_copied
            elapsed, drained_at = m.after_put(self.wire_bytes(normal, zero), self.cpu_ns(normal, zero), link)
            if m.flush_pages == 1:
                m.counted = counted + self.wire_bytes(normal, zero)
            elif held == 32 or copied >= 32768:
                m.counted = counted + buffered + self.wire_bytes(normal, zero)
                m.flags_leave(m.waiting_flags(), m.t + elapsed, drained_at)
                held = copied = 0
            if (normal + zero) % 64 == 1 and elapsed >= MAX_WAIT_NS:
                break
            if self.wire_bytes(normal, zero) >= most:
                break

        sent_bytes = self.wire_bytes(normal, zero)
        m.put_bytes(sent_bytes, self.cpu_ns(normal, zero), link)
        m.put += sent_bytes + SECTION_BYTES
        m.counted = counted + buffered + sent_bytes + SECTION_BYTES
        m.buffered = 0
        m.flags_leave(m.waiting_flags(), m.t, m.drained_at)

        self.bytes += sent_bytes
        self.pages_in_call = normal + zero
        self.calls_done += done
        return done

    # -- huge pages (section 17)

    def begin_part(self):
        """What holds until the rate limit next does something."""
        m = self.m
        self.pace = m.varied(2**20, self.calls - 1 + self.parts)
        self.encode_pages()
        return m.counted, m.buffered, self.link_for_next_page()

    def end_part(self, normal, zero, counted, buffered, link):
        m, sent_bytes = self.m, self.wire_bytes(normal, zero)
        m.put_bytes(sent_bytes, self.cpu_ns(normal, zero), link)
        m.put += sent_bytes
        m.buffered = buffered + sent_bytes - (m.counted - counted)
        self.bytes += sent_bytes
        self.pages_in_call += normal + zero

    def ram_save_host_pages(self, most):
        """Host page after host page; the rate limit is asked after each page, and may sleep."""
        m = self.m
        began, bytes_before = m.t, self.bytes
        self.pages_in_call = done = hosts = normal = zero = 0
        counted, buffered, link = self.begin_part()
        held, copied = 0, buffered
        elapsed, _ = m.after_put(0, 0, link)
        whole = True
        while True:
            if whole and m.exceeded():
                break
            page = self.find_dirty_page()
            if page is None:
                done = 1
                break
            self.clear_chunk_of(page, m.t + elapsed)
            self.take(page)
            if self.is_zero[page]:
                zero += 1
                copied += 9
            else:
                normal += 1
                held += not self.encoding
                copied += self.page_copied
            elapsed, drained_at = m.after_put(self.wire_bytes(normal, zero), self.cpu_ns(normal, zero), link)
            if m.flush_pages == 1:
                m.counted = counted + self.wire_bytes(normal, zero)
            elif held == 32 or copied >= 32768:
                m.counted = counted + buffered + self.wire_bytes(normal, zero)
                m.flags_leave(m.waiting_flags(), m.t + elapsed, drained_at)
                held = copied = 0
            following = self.find_dirty_page()
            whole = following is None or following <= page or following // self.host_pages != page // self.host_pages
            if whole:
                self.cursor = (page // self.host_pages + 1) * self.host_pages
            now = m.t + elapsed
            sent = self.bytes - bytes_before + self.wire_bytes(normal, zero)
            if now - m.win_t >= WINDOW_NS or m.exceeded():
                self.end_part(normal, zero, counted, buffered, link)
                self.parts += 1
                if m.postcopy:
                    m.faults += min(self.dirty_pages, m.count_faults(m.t, float(self.dirty_pages), streams=True))
                m.migration_rate_limit()
                now = m.t
                counted, buffered, link = self.begin_part()
                normal = zero = 0
                elapsed, _ = m.after_put(0, 0, link)
                if now >= m.time_limit_ns:
                    break
            if whole:
                hosts += 1
                if hosts % 64 == 1 and now - began >= MAX_WAIT_NS:
                    break
            if sent >= most:
                break
        self.end_part(normal, zero, counted, buffered, link)
        m.put += SECTION_BYTES
        m.counted += m.buffered + SECTION_BYTES
        m.buffered = 0
        m.flags_leave(m.waiting_flags(), m.t, m.drained_at)
        self.calls_done += done
        return done

    def dirty_in_whole_host_pages(self):
        """[postcopy_chunk_hostpages_pass]"""
        for first in range(0, self.pages, self.host_pages):
            host_page = slice(first, first + self.host_pages)
            if any(self.bmap[host_page]):
                self.bmap[host_page] = [1] * self.host_pages
        self.dirty_pages = sum(self.bmap)

    def iterate(self, most):
        if self.calls == 0:
            self.first_call_ns = self.m.t
        self.calls += 1
        returned = self.one_call(most)
        self.calls_over += 1
        return returned

    def one_call(self, most):
        if self.channels and not self.m.postcopy:
            return self.multifd_save_iterate(most)
        if self.host_pages > 1 and not self.m.block_bulk():
            return self.ram_save_host_pages(most)
        return self.ram_save_iterate(most)

    def complete(self, most=NO_LIMIT):
        """Send up to ``most`` pages, all by default, whatever the rate limit says."""
        if self.channels and not self.m.postcopy:
            return self.multifd_save_complete()
        normal = zero = 0
        sent_bytes = 0
        self.pace = self.m.varied(2**20, self.calls_over)
        link = self.link_for_next_page()
        self.encode_pages()
        last = self.pages_sent + most
        while self.pages_sent < last and (page := self.find_dirty_page()) is not None:
            if self.link_for_next_page() != link:
                sent_bytes += self.put_pages(normal, zero, link)
                normal = zero = 0
                link = self.link_for_next_page()
            self.take(page)
            if self.is_zero[page]:
                zero += 1
            else:
                normal += 1
        sent_bytes += self.put_pages(normal, zero, link)
        self.m.put += sent_bytes
        self.bytes += sent_bytes
        return sent_bytes

    # -- multifd (section 13)

    def next_page_of_multifd(self):
        """The next dirty page, or None; what passes the end of RAM on the way waits for all channels."""
        page = self.cursor
        while page < self.pages and not self.bmap[page]:
            page += 1
        if page == self.pages:
            if not self.m.multifd_flush_after_each_section:
                self.channels.flush_and_sync()
            if self.dirty_pages == 0:
                return None
            page = self.bmap.index(1)
        return page

    def put_page_of_multifd(self, page):
        """Put a page into the queue, or, if it is zero, in some versions into the main stream; its bytes there, or 8
        beside those of the page."""
        m, channels = self.m, self.channels
        self.clear_chunk_of(page, m.t)
        zero = self.is_zero[page]
        self.take(page)
        if zero and not m.multifd_zero_pages:
            m.t += int(self.zero_cost_ns * self.pace)
            self.bytes += 9
            return 9
        if not m.multifd_sends_full_queue and channels.queued == channels.most:
            channels.hand_over()
        m.t += int(m.multifd_page_ns * self.pace)
        channels.queue(zero)
        if m.multifd_sends_full_queue and channels.queued == channels.most:
            channels.hand_over()
        return self.page_size * (not zero) + 8

    def begin_of_multifd(self, number):
        self.pace = self.m.varied(2**20, number)
        self.channels.link = self.channels_link()

    def channels_link(self):
        m = self.m
        if m.fresh_after_pages <= self.pages_sent < self.pages:
            return m.channels_fresh_ns_per_byte * self.pace, m.channels_fresh_slack_ns
        return m.channels_ns_per_byte * self.pace, m.channels_slack_ns

    def multifd_save_pages(self, limited, most):
        """Send pages until none is left (True), or until budget, clock or ``most`` bytes say otherwise, if limited."""
        m, channels = self.m, self.channels
        start = m.t
        queued = self.pages_in_call = 0
        while True:
            channels.settle()
            if limited and m.exceeded():
                return False
            page = self.next_page_of_multifd()
            if page is None:
                return True
            channels.link = self.channels_link()
            put = self.put_page_of_multifd(page)
            self.pages_in_call += 1
            queued += put
            if put == 9:
                m.count_device_bytes(9)
                m.flags_leave(m.counted_flags(), m.t, m.drained_at)
            if limited and self.pages_in_call % 64 == 1 and m.t - start >= MAX_WAIT_NS:
                return False
            if queued >= most:
                return False

    def multifd_save_iterate(self, most):
        m, channels = self.m, self.channels
        self.begin_of_multifd(self.calls - 1)
        self.pages_in_call = done = 0
        if not m.block_bulk():
            done = int(self.multifd_save_pages(True, most))
            if m.multifd_flush_after_each_section:
                channels.flush_and_sync()
        channels.settle()
        m.put += SECTION_BYTES
        m.counted += m.buffered + SECTION_BYTES
        m.buffered = 0
        m.flags_leave(m.waiting_flags(), m.t, m.drained_at)
        self.calls_done += done
        return done

    def multifd_save_complete(self):
        before = self.bytes
        self.begin_of_multifd(self.calls)
        self.multifd_save_pages(False, NO_LIMIT)
        for _ in range(self.m.multifd_syncs_at_end):
            self.channels.flush_and_sync()
        return self.bytes - before

    # -- post-copy

    def stale_runs(self):
        """Runs of pages that are dirty, side by side."""
        return sum(dirty and (page == 0 or not self.bmap[page - 1]) for page, dirty in enumerate(self.bmap))

    def missing_of(self, region):
        return sum(self.bmap[region.start : region.start + region.pages])

    def put_pages(self, normal, zero, link):
        sent_bytes = self.wire_bytes(normal, zero)
        self.m.put_bytes(sent_bytes, self.cpu_ns(normal, zero), link)
        return sent_bytes


# ---------------------------------------------------------------- multifd (section 13)


class Channel:
    """A thread with a stream of its own, which writes one packet at a time."""

    def __init__(self):
        self.written_at = 0  # when it will have written what it was given
        self.drained_at = 0  # when that will have left its socket
        self.uncounted = 0


class Channels:
    """[multifd_send_state]: the channels, and the queue in which the migration thread gathers a packet."""

    def __init__(self, migration, ram):
        self.m, self.ram = migration, ram
        self.most = max(1, 524288 // ram.page_size)
        self.header = 320 + 8 * self.most
        self.all = [Channel() for _ in range(migration.multifd_channels)]
        self.next = 0
        self.normal = self.zero = 0  # in the queue
        self.link = ram.channels_link()
        self.put = 0  # by the channels

    def setup(self):
        """Bytes before the first window: what each channel says when it connects, and the first SYNC."""
        flush = 0 if self.m.multifd_flush_after_each_section else 8
        return (64 + self.header) * len(self.all) + flush

    @property
    def queued(self):
        return self.normal + self.zero

    def queue(self, zero):
        if zero:
            self.zero += 1
        else:
            self.normal += 1

    def settle(self):
        """Count the packets that have been written before now."""
        for channel in self.all:
            if channel.written_at < self.m.t:
                self.count(channel)

    def count(self, channel):
        self.m.counted += channel.uncounted
        channel.uncounted = 0

    def write(self, channel, size, cpu):
        m = self.m
        if channel.written_at <= m.t:
            self.count(channel)
        begins = max(m.t, channel.written_at)
        ns_per_byte, slack_ns = self.link
        m.drained_at = max(m.drained_at, begins) + int(size * ns_per_byte)
        channel.drained_at = max(channel.drained_at, begins) + int(size * m.link_ns_per_byte * self.ram.pace)
        channel.written_at = max(begins + cpu, channel.drained_at - m.send_slack_ns, m.drained_at - slack_ns)
        if m.multifd_counts_late:
            channel.uncounted += size
        else:
            m.counted += size
        m.put += size
        self.put += size
        self.ram.bytes += size

    def hand_over(self):
        """[multifd_send_pages]: wait for an idle channel, the next one in turn, and give it the queue."""
        m = self.m
        m.t = max(m.t, min(channel.written_at for channel in self.all))
        self.settle()
        while self.all[self.next].written_at > m.t:
            self.next = (self.next + 1) % len(self.all)
        cpu = int((self.normal * m.channel_page_ns + self.zero * m.zero_cost_ns) * self.ram.pace)
        self.write(self.all[self.next], self.header + int(self.normal * m.channel_page_bytes), cpu)
        self.next = (self.next + 1) % len(self.all)
        self.normal = self.zero = 0

    def flush_and_sync(self):
        """[multifd_send_sync_main]: all that is queued, a SYNC packet on each channel, and wait for all of them."""
        m = self.m
        if self.queued:
            self.hand_over()
        for channel in self.all:
            self.write(channel, self.header, 0)
        m.t = max([m.t, *(channel.written_at for channel in self.all)])
        for channel in self.all:
            self.count(channel)
        if not m.multifd_flush_after_each_section:
            m.put += 8
            m.counted += 8
            self.ram.bytes += 8
        m.counted += m.buffered
        m.buffered = 0
        m.flags_leave(m.waiting_flags(), m.t, m.drained_at)


# ---------------------------------------------------------------- devices (section 7)


class Vfio:
    kind = VFIO

    def __init__(self, migration, case, index):
        self.m = migration
        self.counts = case["vfio_counts"]
        self.always_done = case["vfio_always_done"]
        self.switchover_ack = case["switchover_ack"]
        self.rtt_ns = case["rtt_ns"]
        self.dirty_rate = case["device_dirty_rate"][index]
        self.dirty_max = case["device_dirty_max"][index]
        self.stop_copy_bytes = case["device_stop_copy_bytes"][index]
        self.chunk_bytes = case["device_chunk_bytes"][index]
        self.read_ns_per_byte = case["device_read_ns_per_byte"][index]
        self.load_ns = case["device_load_ns"][index]

        # the hardware
        self.initial_bytes = self.initial = case["device_initial_bytes"][index]
        self.dirty_then, self.dirty_since = 0, migration.t
        self.stopped_t = None
        # what the migration thread believes
        self.refresh()
        # INIT_DATA_SENT: position of its last byte in the stream, None while not sent
        self.flag_position = None
        self.ack_due = None

        self.calls = 0
        self.bytes = 0
        self.first_call_ns = self.initial_sent_ns = -1
        self.starved_ns = 0

    # -- the hardware

    def dirty(self, t):
        if self.stopped_t is not None:
            t = self.dirty_since
        return min(self.dirty_max, self.dirty_then + int(self.dirty_rate * (t - self.dirty_since) * 1e-9))

    def stop(self, t):
        self.dirty_then, self.dirty_since = self.dirty(t), t
        self.stopped_t = t

    def stop_size(self, t):
        if self.counts == 0:
            return self.stop_copy_bytes
        return self.stop_copy_bytes + self.initial + self.dirty(t)

    def read(self, t, most):
        """One read: initial data first. Returns the number of bytes."""
        dirty = self.dirty(t)
        n = min(self.chunk_bytes, most, self.initial + dirty)
        from_initial = min(n, self.initial)
        from_dirty = n - from_initial
        self.initial -= from_initial
        if from_dirty > 0:
            self.dirty_then, self.dirty_since = dirty - from_dirty, t
        return n

    # -- what QEMU believes

    def refresh(self):
        self.init_c = self.initial
        self.dirty_c = self.dirty(self.m.t)
        self.stop_c = self.stop_size(self.m.t)

    def precopy_bytes(self):
        return self.init_c + self.dirty_c

    def estimate(self):
        if self.counts == 3:
            return 0
        if self.counts == 2:
            return self.precopy_bytes() + max(0, self.stop_c - self.precopy_bytes())
        return self.precopy_bytes()

    def exact(self):
        """After a refresh."""
        if self.counts == 0:
            return self.stop_c + self.precopy_bytes()
        if self.counts in (1, 3):
            return self.stop_c
        return self.estimate()

    def update_caches(self, n):
        if n == 0:
            self.init_c = self.dirty_c = 0
            return
        from_initial = min(n, self.init_c)
        self.init_c -= from_initial
        self.dirty_c = max(0, self.dirty_c - (n - from_initial))
        self.stop_c = max(0, self.stop_c - n)

    # -- sending

    def vfio_save_iterate(self, most):
        m = self.m
        n = self.read(m.t, most)
        if n > 0:
            wire = n + 34
            m.t += int(n * self.read_ns_per_byte)
            m.put_bytes(wire, 0)
        else:
            wire = SECTION_BYTES
        self.bytes += n
        self.update_caches(n)
        m.count_device_bytes(wire)
        if self.switchover_ack and self.init_c == 0 and self.flag_position is None:
            self.flag_position = m.main_stream()
        m.flags_leave(m.counted_flags(), m.t, m.drained_at)
        if self.initial == 0 and self.initial_sent_ns == -1:
            self.initial_sent_ns = m.t
        return 1 if self.always_done or self.precopy_bytes() == 0 else 0

    def iterate(self, most):
        if self.counts == 3:
            return 1
        if self.calls == 0:
            self.first_call_ns = self.m.t
        self.calls += 1
        return self.vfio_save_iterate(most)

    def complete(self):
        m = self.m
        n = self.initial + self.dirty(m.stop_t) + self.stop_copy_bytes
        m.t += int(n * self.read_ns_per_byte)
        m.put_bytes(n, 0)
        m.put += n
        self.bytes += n
        return n


class Block:
    kind = BLOCK

    def __init__(self, migration, case, index):
        self.m = migration
        self.left = case["device_initial_bytes"][index]
        self.read_ns_per_byte = case["device_read_ns_per_byte"][index]
        self.calls = 0
        self.bytes = 0
        self.first_call_ns = -1

    def estimate(self):
        return max(MIB, min(16 * MIB, self.left)) if self.left > 0 else 0

    exact = precopy_bytes = estimate

    def refresh(self):
        """Nothing is cached."""

    def block_save_iterate(self, most):
        m = self.m
        blocks = read = 0
        while self.left > 0 and blocks < 16 and read < most and not m.exceeded():
            n = min(MIB, self.left)
            self.left -= n
            read += n
            m.t += int(n * self.read_ns_per_byte)
            m.put_bytes(n + 20, 0)
            m.count_device_bytes(n + 20)
            self.bytes += n
            blocks += 1
        m.count_device_bytes(SECTION_BYTES)
        m.flags_leave(m.counted_flags(), m.t, m.drained_at)
        return 1

    def iterate(self, most):
        if self.calls == 0:
            self.first_call_ns = self.m.t
        self.calls += 1
        return self.block_save_iterate(most)

    def complete(self):
        m = self.m
        n = self.left
        m.t += int(n * self.read_ns_per_byte)
        m.put_bytes(n, 0)
        m.put += n
        self.bytes += n
        return n


# ---------------------------------------------------------------- the loop


class Migration:
    def __init__(self, case, seed, replicate, next_device, syncs, bandwidth, managed_by):
        self.case = case
        self.seed, self.replicate = seed, replicate
        self.next_device = next_device or self.next_of_the_list
        self.syncs, self.bandwidth = syncs, bandwidth
        self.notes = {}
        for name, value in case.items():
            if not isinstance(value, list):
                setattr(self, name, value)  # the scalars: self.max_bandwidth and so on

        # section 2: setup
        self.t = case["setup_ns"]
        self.win_t, self.mark = self.t, 0
        self.put = self.counted = self.buffered = 0
        self.drained_at = 0
        self.thr = 0
        self.sync_count = 1
        # section 6
        self.last_eval, self.period_new, self.xfer_prev = self.t, 0, 0
        self.synced_at, self.sync_span, self.sync_found = self.t, 0, 0
        self.hi = self.throttle = 0
        self.next_tick, self.count_prev = self.t + self.throttle_timer_ns, 0
        # section 14
        self.limiter, self.period_ends, self.limit_sleep_us = Limiter(case), None, None
        # section 12
        self.postcopy = False
        self.faults, self.fault_part, self.put_before_postcopy = 0, 0.0, 0
        # devices in list order
        self.devices = []
        for index in range(case["device_count"]):
            kind = case["device_kind"][index]
            if kind == RAM:
                self.ram = Ram(self, case, seed, replicate)
                self.devices.append(self.ram)
            elif kind == VFIO:
                self.devices.append(Vfio(self, case, index))
            else:
                self.devices.append(Block(self, case, index))
        if self.ram.channels:
            self.ram.bytes = self.put = self.counted = self.mark = self.ram.channels.setup()
        self.vfio = [d for d in self.devices if d.kind == VFIO]
        self.block = [d for d in self.devices if d.kind == BLOCK]
        # what the result needs
        self.pending = 0
        self.timeline = []
        self.walks = 0
        self.walk_started, self.starving = self.t, []
        self.stop_t = -1
        # section 11
        self.cancelled, self.paused_t = False, None
        names = [name for name in case if name.startswith("change_") and name != "change_count"]
        rows = zip(*(case[name] for name in names), strict=True)
        self.changes = [dict(zip(names, row, strict=True)) for row in rows]
        self.changed = []
        self.managed_by = managed_by
        self.next_poll = managed_by.first_ns if managed_by else None
        self.syncs_seen = 0
        self.last_window = (0, 0)
        self.expected_downtime = self.downtime_limit_ms

    # -- section 5: jitter

    def varied(self, stream, number):
        """What an event takes over its mean: a constant part, and an exponential one."""
        if self.jitter == 0.0:
            return 1.0
        drawn = (rand64(draw_key(self.seed, self.replicate, stream, number), 0) >> 11) * 2.0**-53
        return 1.0 - self.jitter - self.jitter * math.log1p(-drawn)

    def sync_cost(self):
        return int(self.sync_ns * self.varied(2**20 + 1, self.ram.sync_number))

    # -- section 1: the link

    def after_put(self, b, cpu, link):
        """(elapsed, drained_at) if ``b`` bytes were put now on a link of (ns per byte, ns of a full send buffer)."""
        ns_per_byte, slack_ns = link
        backlog = max(self.drained_at - self.t, 0)
        wire = int(b * ns_per_byte)
        elapsed = max(cpu, backlog + wire - slack_ns, 0)
        drained_at = max(max(self.drained_at, self.t) + wire, self.t + elapsed)
        return elapsed, drained_at

    def put_bytes(self, b, cpu, link=None):
        elapsed, self.drained_at = self.after_put(b, cpu, link or (self.link_ns_per_byte, self.send_slack_ns))
        self.t += elapsed

    # -- section 1: counting

    def count_device_bytes(self, b):
        """[qemu_file_transferred] for a device other than RAM."""
        self.put += b
        if self.flush_pages == 1:
            self.counted += b
            return
        self.buffered += b
        flushed = self.buffered // 32768 * 32768
        self.buffered -= flushed
        self.counted += flushed

    def settle(self):
        """Section 13: what the channels have written by now counts."""
        if self.ram.channels:
            self.ram.channels.settle()

    def exceeded(self):
        """[migration_rate_exceeded]"""
        return self.max_bandwidth > 0 and self.counted - self.mark > self.max_bandwidth // 10

    # -- section 7: INIT_DATA_SENT and its acknowledgement

    def main_stream(self):
        """Bytes put, apart from those of the channels."""
        return self.put - (self.ram.channels.put if self.ram.channels else 0)

    def waiting_flags(self):
        return [d for d in self.vfio if d.flag_position is not None and d.ack_due is None]

    def counted_flags(self):
        return [d for d in self.waiting_flags() if d.flag_position <= self.main_stream() - self.buffered]

    def flags_leave(self, devices, t, drained_at):
        for d in devices:
            d.ack_due = max(drained_at, t) + d.load_ns + d.rtt_ns

    def can_switchover(self):
        """[migration_can_switchover]"""
        if not self.switchover_ack:
            return True
        return all(d.ack_due is not None and d.ack_due <= self.t for d in self.vfio)

    # -- throttle

    def set_throttle(self, percent):
        self.throttle = percent
        for region in self.ram.regions:
            region.throttled(self.t, percent)

    def block_bulk(self):
        return any(d.left > 0 for d in self.block)

    def migration_trigger_throttle(self):
        xfer = self.counted - self.xfer_prev
        if self.period_new * self.page_size > xfer * self.throttle_trigger_threshold // 100:
            self.hi += 1
            if self.hi >= 2:
                self.hi = 0
                if self.dirty_limit:
                    self.migration_dirty_limit_guest()
                elif self.throttle == 0:
                    self.set_throttle(self.cpu_throttle_initial)
                else:
                    more = self.cpu_throttle_increment
                    if self.cpu_throttle_tailslow:
                        now = 100 - self.throttle
                        ratio = (xfer * self.throttle_trigger_threshold // 100) / (self.period_new * self.page_size)
                        more = min(more, now - int(now * ratio))
                    self.set_throttle(min(self.throttle + more, self.max_cpu_throttle))

    def migration_dirty_limit_guest(self):
        """The quota is set once."""
        if self.limit_sleep_us is None and self.paused_t is None:
            self.limit_sleep_us = 0
            self.period_ends = self.t + self.dirty_limit_period_ms * MILLISECOND
            for region in self.ram.regions:
                region.begins_period(self.t)

    def dirtylimit_process(self, until):
        """All periods that end by then."""
        while self.period_ends is not None and self.period_ends <= until:
            asleep = self.asleep_ns(self.period_ends)
            if asleep:
                self.period_ends += asleep
                continue
            for region in self.ram.regions:
                region.ends_period(self.period_ends, self.dirty_limit_period_ms, self.vcpu_dirty_limit, self.limiter)
            self.limit_sleep_us = max((region.sleep_us for region in self.ram.regions), default=0)
            self.period_ends += self.dirty_limit_period_ms * MILLISECOND

    def guest_stops(self, t):
        """No more periods; how long a vCPU still sleeps."""
        self.dirtylimit_process(t)
        self.period_ends = None
        return self.asleep_ns(t)

    def asleep_ns(self, t):
        """How long the last vCPU to wake still sleeps."""
        if self.paused_t is not None:
            return 0
        return max((region.asleep_ns(t) for region in self.ram.regions), default=0)

    def wait_for_vcpus(self):
        """[kvm_dirty_ring_flush]"""
        self.dirtylimit_process(self.t)
        self.t += self.asleep_ns(self.t)
        self.dirtylimit_process(self.t)

    def migration_bitmap_sync(self):
        """A sync of the loop, now. Its cost has been paid."""
        self.dirtylimit_process(self.t)
        for region in self.ram.regions:
            region.emptied_at = self.t
        new = self.ram.migration_bitmap_sync(self.t)
        self.period_new += new
        self.sync_found = new * self.page_size
        self.sync_span, self.synced_at = self.t - self.synced_at, self.t
        self.ram.remaining_after_sync = self.ram.pending()
        if (self.t - self.last_eval) // MILLISECOND > 1000:
            if (self.auto_converge or self.dirty_limit) and not self.block_bulk():
                self.migration_trigger_throttle()
            self.xfer_prev = self.counted
            self.last_eval = self.t
            self.period_new = 0

    def cpu_throttle_dirty_sync_timer_tick(self):
        if not self.auto_converge or self.throttle_timer_ns == 0 or self.t < self.next_tick or self.postcopy:
            return
        while self.next_tick <= self.t:
            self.next_tick += self.throttle_timer_ns
        if self.sync_count > 1 and self.sync_count == self.count_prev:
            self.t += self.sync_cost()
            self.migration_bitmap_sync()
            self.sync_count += self.counts_all_syncs
        self.count_prev = self.sync_count

    # -- section 3: the loop

    def migration_thread(self):
        """True if the migration completed."""
        while True:
            if self.t >= self.time_limit_ns:
                self.account_starvation(self.t)
                return False
            self.settle()
            self.manage()
            if self.cancelled:
                return False
            if not self.exceeded():
                self.cpu_throttle_dirty_sync_timer_tick()
                decided = self.migration_iteration_run()
                if decided == "complete":
                    if self.postcopy:
                        self.migration_completion_postcopy()
                    else:
                        self.migration_completion()
                    return True
                if decided == "start post-copy":
                    self.postcopy_start()
                    continue
                self.t += self.turn_ns
                if self.postcopy:
                    missing = 0.5 * (self.missing_before + self.ram.dirty_pages)
                    self.faults += min(self.missing_before, self.count_faults(self.t, missing, streams=True))
                self.manage()
                if self.cancelled:
                    return False
            self.migration_rate_limit()

    def migration_rate_limit(self):
        self.settle()
        if self.t - self.win_t >= WINDOW_NS:
            self.migration_update_counters()
        if self.exceeded():
            late = int(self.wakeup_ns * self.varied(2**20 + 2, self.walks + self.ram.parts))
            wakes = max(self.t, self.win_t + WINDOW_NS + late)
            if self.postcopy:
                self.send_what_is_asked_for(wakes)
            self.t = max(self.t, wakes)

    def migration_update_counters(self):
        milliseconds = (self.t - self.win_t) // MILLISECOND
        bytes_per_ms = (self.counted - self.mark) / milliseconds
        if self.avail_switchover_bandwidth:
            if self.avail_per_ms_exact:
                bytes_per_ms = self.avail_switchover_bandwidth / 1000.0
            else:
                bytes_per_ms = float(self.avail_switchover_bandwidth // 1000)
        elif self.bandwidth is not None:
            bytes_per_ms = self.bandwidth(self, self.counted - self.mark, milliseconds)
        self.thr = int(bytes_per_ms * self.downtime_limit_ms)
        self.last_window = (self.counted - self.mark, milliseconds)
        self.mark = self.counted
        self.win_t = self.t

    # -- section 11: what is changed from outside

    def manage(self):
        while self.changes and self.changes[0]["change_at_ns"] <= self.t and not self.cancelled:
            self.change(self.changes.pop(0))
        if self.managed_by is None or self.cancelled or self.postcopy:
            return
        due = self.t >= self.next_poll
        if due or (self.managed_by.after_syncs and self.ram.sync_number != self.syncs_seen):
            command, value = self.managed_by.answer(self.query_migrate(due))
            if command != KEEP:
                self.carry_out(command, value)
            self.syncs_seen = self.ram.sync_number
        while self.next_poll <= self.t:
            self.next_poll += self.managed_by.poll_ns

    def change(self, change):
        if change["change_max_bandwidth"] >= 0 and not self.postcopy:
            self.carry_out(SET_MAX_BANDWIDTH, change["change_max_bandwidth"])
        if change["change_downtime_limit_ms"] >= 0 and not self.postcopy:
            self.carry_out(SET_DOWNTIME_LIMIT, change["change_downtime_limit_ms"])
        if change["change_ns_per_byte"] > 0:
            for name in ("ns_per_byte", "slack_ns", "fresh_ns_per_byte", "fresh_slack_ns"):
                setattr(self, f"channels_{name}", change[f"change_channels_{name}"])
            self.link_ns_per_byte, self.send_slack_ns = change["change_ns_per_byte"], change["change_slack_ns"]
            self.fresh_ns_per_byte = change["change_fresh_ns_per_byte"]
            self.fresh_slack_ns = change["change_fresh_slack_ns"]
            self.changed.append((self.t, "link"))
        if change["change_command"] != KEEP and not self.postcopy:
            self.carry_out(change["change_command"], 0)

    def carry_out(self, command, value):
        if command == STOP_VM and self.paused_t is not None:
            return
        self.changed.append((self.t, command, value))
        if command == SET_MAX_BANDWIDTH:
            self.max_bandwidth = int(value)
        elif command == SET_DOWNTIME_LIMIT:
            self.downtime_limit_ms = float(value)
        elif command == STOP_VM:
            self.guest_stops(self.t)
            self.paused_t = self.t
            for each in (*self.ram.regions, *self.vfio):
                each.stop(self.t)
        elif command == CANCEL:
            self.cancelled = True
        elif command == START_POSTCOPY:
            self.postcopy_ns = min(self.postcopy_ns, self.t)

    def query_migrate(self, due):
        window_bytes, window_ms = self.last_window
        per_ms = window_bytes / max(1, window_ms)
        if self.vfio_counts == 2:
            known = self.sync_count > 1 and per_ms > 0
            self.expected_downtime = self.pending / per_ms if known else self.downtime_limit_ms
        elif self.ram.sync_number > 0 and window_bytes > 10_000:
            self.expected_downtime = self.ram.remaining_after_sync / per_ms
        return {
            "total_time_ms": self.t // MILLISECOND,
            "remaining": self.ram.pending(),
            "transferred": self.counted,
            "total": self.ram.pages * self.page_size,
            "mbps": per_ms * 8 / 1000,
            "dirty_sync_count": self.sync_count,
            "expected_downtime_ms": self.expected_downtime,
            "downtime_limit_ms": self.downtime_limit_ms,
            "max_bandwidth": self.max_bandwidth,
            "throttle": self.throttle,
            "status": 0,
            "vm_stopped": int(self.paused_t is not None),
            "has_vfio": int(bool(self.vfio)),
            "polled": int(due),
        }

    # -- section 4: one iteration

    def must_ask_exactly(self, estimate):
        if self.syncs is not None:
            return self.syncs(self, estimate)
        if self.postcopy_ram and self.exact_rule in (1, 3):
            return True
        if self.exact_rule == 0:
            return self.ram.pending() < self.thr
        if self.exact_rule == 1:
            return estimate <= self.thr
        if self.exact_rule == 2:
            return estimate < self.thr
        return estimate <= self.thr or sum(d.precopy_bytes() for d in self.devices) == 0

    def state_pending_exact(self):
        """[qemu_savevm_state_pending_exact]: (bytes, whether RAM synced)"""
        ram_syncs = bool(self.ram_exact_always) or self.ram.pending() < self.thr
        if ram_syncs:
            self.wait_for_vcpus()
            self.t += self.sync_cost()
        for d in self.devices:
            d.refresh()
        if ram_syncs:
            self.migration_bitmap_sync()
            self.sync_count += 1
        return sum(d.exact() for d in self.devices), ram_syncs

    def small_enough(self, pending):
        if self.complete_rule == 1:
            return pending <= self.thr
        return pending == 0 or pending < self.thr

    def migration_iteration_run(self):
        """Decide, then iterate once, unless the migration is to be completed or post-copy is to start."""
        started = self.t
        if self.postcopy:
            self.missing_before = self.ram.dirty_pages
            self.pending = self.ram.pending()
            if self.pending == 0 or (self.postcopy_rule == 0 and self.pending < self.thr):
                return "complete"
            self.iterate_once(started, self.pending, None, False)
            return "iterate"
        estimate = sum(d.estimate() for d in self.devices)
        exact, synced = None, False
        if self.must_ask_exactly(estimate):
            exact, synced = self.state_pending_exact()
        self.pending = estimate if exact is None else exact
        begins = self.postcopy_ram and self.t >= self.postcopy_ns and self.can_switchover()
        if begins and self.postcopy_rule == 1:
            return "start post-copy"
        if self.small_enough(self.pending) and self.can_switchover():
            return "complete"
        if begins:
            return "start post-copy"
        self.account_starvation(started)
        self.iterate_once(started, estimate, exact, synced)
        return "iterate"

    def iterate_once(self, started, estimate, exact, synced):
        turn = {
            "t_ns": started,
            "estimate": estimate,
            "exact": exact,
            "threshold": self.thr,
            "synced": synced,
            "throttle": self.throttle,
        }
        self.walk_started = started
        turn.update(self.qemu_savevm_state_iterate())
        turn["remaining"] = self.ram.dirty_pages
        self.timeline.append(turn)

    def next_of_the_list(self, _, previous, returned):
        if self.policy == SERIALIZED and returned != 1:
            return None
        return (0 if previous is None else previous + 1), NO_LIMIT

    def qemu_savevm_state_iterate(self):
        """One iteration over the devices."""
        self.walks += 1
        ram_returned, ram_pages = None, 0
        device_sent = [None] * len(self.devices)  # data, without headers
        previous, returned = None, 1
        for _ in range(1024):
            self.settle()
            if self.exceeded():
                break
            chosen = self.next_device(self, previous, returned)
            if chosen is None or not 0 <= chosen[0] < len(self.devices):
                break
            index, most = chosen
            d = self.devices[index]
            before, called = d.bytes, d.calls
            returned = d.iterate(most)
            if d.calls > called:
                device_sent[index] = (device_sent[index] or 0) + d.bytes - before
            if d is self.ram:
                ram_returned, ram_pages = returned, ram_pages + self.ram.pages_in_call
            previous = index
        self.starving = [
            d
            for d, sent in zip(self.devices, device_sent, strict=True)
            if d.kind == VFIO and sent is None and d.initial > 0
        ]
        return {"ram_pages": ram_pages, "ram_returned": ram_returned, "device_sent": device_sent}

    def account_starvation(self, until):
        """The devices that the last iteration left out waited from its start until now."""
        for d in self.starving:
            d.starved_ns += until - self.walk_started
        self.starving = []

    def initial_data_left(self):
        """What pre-copy has not sent of the initial data (block: of the disk), per device."""
        left = []
        for d in self.devices:
            if d.kind == VFIO:
                left.append(d.initial)
            elif d.kind == BLOCK:
                left.append(d.left)
            else:
                left.append(0)
        return left

    # -- section 8

    def migration_completion(self):
        self.stop_t = self.t
        self.t += self.guest_stops(self.stop_t)
        self.account_starvation(self.stop_t)
        self.t += self.vm_stop_ns
        self.t += self.sync_cost()
        self.downtime_stop = self.t - self.stop_t
        self.ram.migration_bitmap_sync(self.stop_t)
        self.sync_count += self.counts_all_syncs
        self.switchover_bytes = 0
        self.initial_left = self.initial_data_left()
        self.downtime_ram = self.downtime_devices = 0
        for d in self.devices:
            before = self.t
            self.switchover_bytes += d.complete()
            if d is self.ram:
                self.downtime_ram += self.t - before
            else:
                self.downtime_devices += self.t - before
        self.t += self.device_state_ns
        before = self.t
        if self.return_path:
            end = max(self.t, self.drained_at)
            loaded = [
                (d.initial_sent_ns if d.initial == 0 else end) + d.load_ns
                for d in self.devices
                if d.kind == VFIO and d.initial_bytes > 0
            ]
            self.t = max([end, *loaded]) + self.destination_load_ns + self.rtt_ns
        self.downtime_destination = self.t - before

    # -- section 12

    def postcopy_start(self):
        ram = self.ram
        self.stop_t = self.t
        self.t += self.guest_stops(self.stop_t)
        self.t += self.vm_stop_ns
        self.t += self.sync_cost()
        self.downtime_stop = self.t - self.stop_t
        ram.migration_bitmap_sync(self.stop_t)
        ram.remaining_after_sync = ram.pending()
        self.sync_count += self.counts_all_syncs
        ram.cursor = 0
        ram.dirty_in_whole_host_pages()
        runs = ram.stale_runs()
        stale = 16 * runs + 14 * math.ceil(runs / 12)
        before = self.t
        if ram.channels:
            ram.channels.flush_and_sync()
        self.put_bytes(stale, 0)
        self.put += stale
        self.counted += stale
        self.switchover_bytes = stale
        self.downtime_ram, self.downtime_devices = self.t - before, 0
        self.t += self.device_state_ns
        arrives = max(self.t, self.drained_at) + self.rtt_ns // 2
        self.resume_t = arrives + int(runs * self.discard_ns) + self.destination_load_ns
        self.downtime_destination = self.resume_t - self.t
        self.postcopy = True
        ram.plain_pages()
        self.put_before_postcopy = self.put
        self.missing_at_switch = ram.dirty_pages
        self.faults_until = self.resume_t
        self.max_bandwidth = self.max_postcopy_bandwidth
        self.initial_left = self.initial_data_left()
        for region in ram.regions:
            region.missing, region.faulted = ram.missing_of(region), 0.0
            region.resumes(self.stop_t, self.resume_t)

    def fault_ns(self, streams):
        wire = (self.page_size + 8) * self.link_ns_per_byte
        each = max(wire, self.page_cost_ns)
        waits = streams and not self.postcopy_preempt
        pages = self.host_pages + (0.5 * (self.host_pages - 1) if waits else 0.0)
        return self.rtt_ns + each * pages + (self.send_slack_ns * (each / wire) if waits else 0.0)

    def count_faults(self, until, missing, streams):
        """Whole faults since the last count; the fraction is carried."""
        since = self.faults_until
        if until <= since or self.missing_at_switch == 0:
            return 0
        total = self.fault_part
        for region in self.ram.regions:
            if region.pages and region.writes_per_s:
                worked_s = (region.work(until) - region.work(since)) * 1e-9
                left = region.missing - region.faulted
                share = min(region.missing * (missing / self.missing_at_switch), left) / region.pages
                touched = region.writes_per_s * worked_s * share
                faults = touched / (1.0 + touched * (self.fault_ns(streams) / (until - since)))
                faults = min(faults, left / self.host_pages)
                region.faulted += faults * self.host_pages
                total += faults
        whole = int(total)
        self.fault_part = total - whole
        self.faults_until = until
        return whole

    def send_what_is_asked_for(self, until):
        missing = self.ram.dirty_pages
        asked = min(missing, self.count_faults(until, float(missing), streams=False) * self.host_pages)
        if asked:
            self.faults += math.ceil(asked / self.host_pages)
            self.counted += self.ram.complete(asked)

    def migration_completion_postcopy(self):
        missing = self.ram.dirty_pages
        if missing:
            self.ram.complete()
            self.faults += min(missing, self.count_faults(self.t, 0.5 * missing, streams=True))
        half = self.rtt_ns // 2
        whole = max(max(self.t, self.drained_at) + half, self.resume_t)
        self.t = whole + self.rtt_ns - half
        self.postcopy_time = whole - self.resume_t


class Manager:
    """A management policy: what it answers, and when it is asked."""

    def __init__(self, answer, first_ns, poll_ns, after_syncs=False):
        self.answer, self.first_ns, self.poll_ns, self.after_syncs = answer, first_ns, poll_ns, after_syncs


def migrate(case, seed=0, replicate=0, next_device=None, syncs=None, bandwidth=None, managed_by=None):
    """One migration."""
    m = Migration(case, seed, replicate, next_device, syncs, bandwidth, managed_by)
    completed = m.migration_thread()
    m.dirtylimit_process(m.t)
    stopped = completed or m.postcopy
    ram = m.ram
    stopped_t = m.stop_t if m.paused_t is None else m.paused_t
    result = {
        "outcome": COMPLETED if completed else CANCELLED if m.cancelled else TIME_LIMIT,
        "culprit": -1,
        "total_ns": m.t,
        "downtime_ns": (m.resume_t if m.postcopy else m.t) - stopped_t if stopped else -1,
        "stop_ns": stopped_t if stopped else -1,
        "downtime_paused_ns": m.stop_t - stopped_t if stopped else -1,
        "downtime_stop_ns": m.downtime_stop if stopped else -1,
        "downtime_ram_ns": m.downtime_ram if stopped else -1,
        "downtime_devices_ns": m.downtime_devices if stopped else -1,
        "downtime_state_ns": m.device_state_ns if stopped else -1,
        "downtime_destination_ns": m.downtime_destination if stopped else -1,
        "sync_count": m.sync_count,
        "turns": len(m.timeline),
        "bytes_sent": m.put,
        "ram_pages_sent": ram.pages_sent,
        "ram_zero_pages": ram.zero_pages_sent,
        "switchover_bytes": m.switchover_bytes if stopped else 0,
        "ram_calls": ram.calls,
        "ram_calls_done": ram.calls_done,
        "threshold": m.thr,
        "pending": m.pending,
        "ram_remaining": ram.remaining_after_sync,
        "throttle": m.throttle,
        "steps": len(m.timeline),
        "changed": len(m.changed),
        "max_bandwidth": m.max_bandwidth,
        "downtime_limit_ns": int(m.downtime_limit_ms * 1e6),
        "postcopy_ns": m.postcopy_time if m.postcopy and completed else -1,
        "postcopy_bytes": m.put - m.put_before_postcopy if m.postcopy else 0,
        "postcopy_faults": m.faults,
        "limit_sleep_ns": -1 if m.limit_sleep_us is None else m.limit_sleep_us * 1000,
        "device_bytes": [d.bytes for d in m.devices],
        "device_calls": [d.calls for d in m.devices],
        "device_first_call_ns": [d.first_call_ns for d in m.devices],
        "device_initial_sent_ns": [d.initial_sent_ns if d.kind == VFIO else -1 for d in m.devices],
        "device_ack_ns": [d.ack_due if d.kind == VFIO and d.ack_due is not None else -1 for d in m.devices],
        "device_starved_ns": [d.starved_ns if d.kind == VFIO else 0 for d in m.devices],
        "device_initial_left": m.initial_left if completed else m.initial_data_left(),
        "timeline": m.timeline,
    }
    return result
