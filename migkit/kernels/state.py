"""The state of a migration: every field once, with type, unit and meaning.

Record dtypes, the translation from scenarios (:mod:`migkit.scenario.rows`) and the page ``docs/state.md`` come from
these tables. Kernels take records of these dtypes and nothing else.

``when`` tells what a scheduling policy may rely on while windows repeat and are jumped over
(:mod:`migkit.kernels.fast_forward`): a field that *repeats* has the same values in equal iterations and windows, one of
*windows* in equal windows only; one that *falls* only gets smaller, and one that *varies* does anything. One that
*counts* repeats too, and goes up at every sync for as long as the migration runs; one that *grows* does so until the
next sync.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

MODEL_VERSION = "7"
"""Names what the kernels compute: another one when a golden result changes (``tests/golden``), never for a comment."""

ENGINES = ("expected", "bitmap")
"""The two models of RAM: expected values, and a page-exact bitmap."""

RAM, VFIO, BLOCK = 0, 1, 2
"""Kinds of devices."""

SERIALIZED, UNSERIALIZED, OWN = 0, 1, 2
"""Which device comes next: the two built-in rules, and the function of the migration's policy."""
SYNC_7_2, SYNC_8_2, SYNC_9_0, SYNC_11_1, SYNC_OWN = 0, 1, 2, 3, 4
"""When to sync: the rule of each version, and the function of the migration's policy."""
WINDOW, BANDWIDTH_OWN = 0, 1
"""Which bandwidth to believe: the raw window, and the function of the migration's policy."""
POLICY_NUMBERS = 16
"""Numbers of its own that a policy keeps from one question to the next."""
KINDS = 16
"""Different sets of these numbers that are compared before a verdict (:mod:`migkit.kernels.memory_of_policies`)."""
UNMANAGED, MANAGED = 0, 1
"""Who manages the migration: nobody, and the function of its management policy."""
KEEP, SET_DOWNTIME_LIMIT, SET_MAX_BANDWIDTH, STOP_VM, CANCEL, START_POSTCOPY = range(6)
"""What a management policy answers: nothing is changed; a new downtime-limit (ms) or max-bandwidth (B/s, 0 for none);
the VM is stopped, which brings the switchover about; migrate_cancel; post-copy starts, where the capability is on."""
SET_LINK_BANDWIDTH = 6
"""Beside them, in what was changed: the bandwidth of the link (B/s), which no management policy sets."""
STATUS_ACTIVE, STATUS_POSTCOPY = 0, 1
"""Status of the migration in query-migrate: active; postcopy-active is reserved."""
MANAGEMENT_NUMBERS = 512
"""Numbers that a management policy keeps from one poll to the next."""
MANAGEMENT_SETTINGS = 16
"""Settings of a management policy: its last numbers, which begin with them."""
KEPT_CALLS = 4
"""Calls of RAM in a window that are noted, to know when a jump over windows passes a page."""
NEVER = 1 << 60
"""A time that does not come."""
NO_LIMIT = 1 << 60
"""Bytes that a handler may send when the policy sets no limit."""
END = -1
"""In place of a device: the iteration ends."""

PAGE_HEADER = 8
"""Bytes on the wire before a page: address and flags."""

COMPLETED, INITIAL_DATA_STARVED, RAM_ABOVE_LINK, STOP_COPY_ABOVE_THRESHOLD, TIME_LIMIT, CANCELLED = range(6)
"""How a migration ends."""
RUNNING = -1
"""Outcome of a migration that has not ended."""
DRAWN = -1.0
"""A phase that is drawn for each replicate."""
WHOLE_VCPU = 10_000
"""A vCPU that is busy all the time, in the units of ``vcpu_share``."""
TIMESLICE_NS = 10_000_000
"""Of vCPU between two pauses of a throttle (system/cpu-throttle.c: CPU_THROTTLE_TIMESLICE_NS)."""
EFFORT_NS = 50
"""What one unit of effort stands for: computing is counted, not timed, so that it is the same on every machine."""

INT, FLOAT = np.int64, np.float64


class Field(NamedTuple):
    """One field of a record."""

    name: str
    dtype: type
    unit: str
    meaning: str
    when: str = ""
    shape: tuple[int, ...] = ()


CASE = (
    # guest
    Field("ram_pages", INT, "pages", "guest memory"),
    Field("page_size", INT, "B", "one bit of a dirty bitmap, one page on the wire"),
    Field("track_pages", INT, "pages", "that one write makes dirty together; a power of two, no more than a chunk has"),
    Field(
        "host_pages", INT, "pages", "of a huge page that backs the guest; 1: it is backed by pages of the target's size"
    ),
    Field("chunk_pages", INT, "pages", "covered by one bit of the clear bitmap, 2**x-clear-bitmap-shift"),
    Field("lazy_clear", INT, "flag", "1: the dirty log is re-protected chunk by chunk (KVM)"),
    Field("dirty_ring_pages", INT, "pages", "entries of the dirty ring of a vCPU, 0: there is none"),
    Field("idle_zero_share", FLOAT, "1", "share of zero pages outside the regions"),
    Field("used_first", INT, "page", "outside the regions all pages before this one are zero pages"),
    Field("used_stop", INT, "page", "outside the regions this page and all behind it are zero pages"),
    Field("region_count", INT, "1", "regions of this migration; rows are padded"),
    Field("device_count", INT, "1", "devices of this migration, RAM among them; rows are padded"),
    # parameters and capabilities at the start
    Field("max_bandwidth", INT, "B/s", "limit of a window at the start, 0 for none"),
    Field("downtime_limit_ms", FLOAT, "ms", "downtime-limit at the start"),
    Field("avail_switchover_bandwidth", INT, "B/s", "assumed at the switchover, 0 to use the estimate"),
    Field("switchover_ack", INT, "flag", "the capability"),
    Field("return_path", INT, "flag", "the capability"),
    Field("auto_converge", INT, "flag", "the capability"),
    Field("dirty_limit", INT, "flag", "the capability"),
    Field("vcpu_dirty_limit", INT, "MB/s", "vcpu-dirty-limit, in units of 2**20 B/s"),
    Field("dirty_limit_period_ms", INT, "ms", "x-vcpu-dirty-limit-period"),
    Field("postcopy_ram", INT, "flag", "the capability"),
    Field("postcopy_ns", INT, "ns", "when migrate-start-postcopy is given, NO_LIMIT for never"),
    Field("postcopy_preempt", INT, "flag", "the capability"),
    Field("max_postcopy_bandwidth", INT, "B/s", "limit of a window after the switch to post-copy, 0 for none"),
    Field("xbzrle", INT, "flag", "the capability"),
    Field("multifd_channels", INT, "1", "multifd-channels, 0 without the capability multifd"),
    Field("throttle_trigger_threshold", INT, "%", "dirtied bytes of a period, in percent of those sent"),
    Field("cpu_throttle_initial", INT, "%", "first throttle"),
    Field("cpu_throttle_increment", INT, "%", "added each time"),
    Field("max_cpu_throttle", INT, "%", "largest throttle"),
    Field("cpu_throttle_tailslow", INT, "flag", "1: no more is added than brings the writes to the trigger"),
    # policies
    Field("policy", INT, "code", "which device comes next: SERIALIZED, UNSERIALIZED or OWN"),
    Field("sync_policy", INT, "code", "when to sync: SYNC_7_2 .. SYNC_11_1 or SYNC_OWN"),
    Field("bandwidth_policy", INT, "code", "which bandwidth to believe: WINDOW or BANDWIDTH_OWN"),
    Field("policies_repeat", INT, "code", "policies repeat: 0 never, 1 in equal windows, 2 in equal iterations"),
    Field("policies_remember", INT, "flag", "1: a policy of the user's own keeps numbers"),
    Field("rates_change", INT, "flag", "1: a writer's rate changes, so that nothing is settled before the time limit"),
    Field("may_stop_early", INT, "code", "verdicts are final: 0 none, 1 of laps, 2 all: syncs are asked for by size"),
    # what differs between versions (docs/model.md, section 4)
    Field("complete_rule", INT, "code", "0: pending < threshold; 1: pending <= threshold (10.1)"),
    Field("ram_exact_always", INT, "flag", "0: RAM's exact query syncs only below the threshold (8.0 to 8.2)"),
    Field("vfio_counts", INT, "code", "what VFIO reports: 0 from 8.1 to 9.1, 1 up to 11.0, 2 from 11.1 on; 3 in 8.0"),
    Field("vfio_always_done", INT, "flag", "1: VFIO's iterate returns 1 whatever is left (8.0 to 8.2)"),
    Field("flush_pages", INT, "pages", "normal pages after which bytes count: 1 (up to 8.1) or 32"),
    Field("counts_all_syncs", INT, "flag", "1: setup, timer and final syncs are counted (up to 11.0)"),
    Field("avail_per_ms_exact", INT, "flag", "1: avail-switchover-bandwidth / 1000 is no integer division (11.0)"),
    Field("throttle_timer_ns", INT, "ns", "period of auto-converge's sync timer, 0 for none"),
    Field("multifd_flush_after_each_section", INT, "flag", "1: channels sync after each call of RAM (up to 8.0)"),
    Field("multifd_sends_full_queue", INT, "flag", "1: the page that fills the queue sends it (8.2); 0: the next one"),
    Field("multifd_counts_late", INT, "flag", "1: a packet counts when it is written (8.1); 0: when it is handed over"),
    Field("multifd_zero_pages", INT, "flag", "1: the channels look for zero pages (9.0); 0: the migration thread"),
    Field("multifd_syncs_at_end", INT, "1", "syncs of the channels behind the last page"),
    Field("postcopy_rule", INT, "code", "0: post-copy ends below the threshold; 1: with nothing left (10.1)"),
    # what a host costs
    Field("setup_ns", INT, "ns", "from the migrate command to the first iteration"),
    Field("iteration_ns", INT, "ns", "an iteration, apart from what the devices do; 1 or more"),
    Field("wakeup_ns", INT, "ns", "how late the sleep of the rate limit ends"),
    Field("sync_ns", INT, "ns", "a bitmap sync"),
    Field("throttle_late_ns", INT, "ns", "how late a pause of a throttled vCPU ends; below a slice"),
    Field("throttle_loss", FLOAT, "1", "of a pause of a throttled vCPU, that its work takes longer behind it"),
    Field("jitter", FLOAT, "1", "share of slices, wake-ups and syncs that is drawn, of the same mean; below 1"),
    Field("page_cost_ns", FLOAT, "ns", "migration thread, for a normal page"),
    Field("zero_cost_ns", FLOAT, "ns", "migration thread, for a zero page"),
    Field("compressed_page_bytes", INT, "B", "normal page on the main stream with compress, 0 without"),
    Field("xbzrle_page_ns", FLOAT, "ns", "migration thread, for a page that it encodes"),
    Field("xbzrle_page_bytes", FLOAT, "B", "on the wire of a page that it encodes"),
    Field("xbzrle_pages", INT, "pages", "that are written to, and compete for the cache"),
    Field("xbzrle_share", FLOAT, "1", "of them, that the cache has room for"),
    Field("multifd_page_ns", FLOAT, "ns", "migration thread, for a page that it hands over to a channel"),
    Field("channel_page_ns", FLOAT, "ns", "thread of a channel, for a normal page"),
    Field("channel_page_bytes", FLOAT, "B", "normal page in a packet, compressed or not"),
    Field("vm_stop_ns", INT, "ns", "stopping the vCPUs"),
    Field("device_state_ns", INT, "ns", "saving all non-iterable state"),
    Field("destination_load_ns", INT, "ns", "from the last byte to a running guest"),
    Field("discard_ns", FLOAT, "ns", "the destination drops a run of stale pages, at the switch to post-copy"),
    Field("time_limit_ns", INT, "ns", "when the migration is given up"),
    # who changes what while it runs
    Field("change_count", INT, "1", "changes at given times; rows are padded"),
    Field("management", INT, "code", "UNMANAGED, or MANAGED by the function of its management policy"),
    Field("management_first_ns", INT, "ns", "the policy's first poll"),
    Field("management_poll_ns", INT, "ns", "from one poll to the next"),
    Field("management_syncs", INT, "flag", "1: the policy is asked after every sync too (the event MIGRATION_PASS)"),
    Field("management_settings", FLOAT, "", "settings of the policy", "", (MANAGEMENT_SETTINGS,)),
)
"""Per migration: what does not change while it runs."""

CHANGE = (
    Field("at_ns", INT, "ns", "when, since the migrate command"),
    Field("max_bandwidth", INT, "B/s", "from then on, 0 for none; -1: stays"),
    Field("downtime_limit_ms", FLOAT, "ms", "from then on; -1: stays"),
    Field("ns_per_byte", FLOAT, "ns/B", "the wire from then on; 0: the link stays"),
    Field("slack_ns", INT, "ns", "the wire needs for a full send buffer"),
    Field("fresh_ns_per_byte", FLOAT, "ns/B", "RAM pages that the destination writes for the first time"),
    Field("fresh_slack_ns", INT, "ns", "a full send buffer then needs"),
    Field("channels_ns_per_byte", FLOAT, "ns/B", "the wire of all channels of multifd together"),
    Field("channels_slack_ns", INT, "ns", "it needs for the send buffers of all channels"),
    Field("channels_fresh_ns_per_byte", FLOAT, "ns/B", "pages that the destination writes for the first time"),
    Field("channels_fresh_slack_ns", INT, "ns", "all send buffers then need"),
    Field("link_bandwidth", INT, "B/s", "of the link, for the list of what was changed"),
    Field("command", INT, "code", "KEEP, STOP_VM or CANCEL"),
)
"""Per change of a migration at a given time, in the order of their times."""

LINK = (
    Field("ns_per_byte", FLOAT, "ns/B", "the wire"),
    Field("slack_ns", INT, "ns", "the wire needs for a full send buffer"),
    Field("fresh_ns_per_byte", FLOAT, "ns/B", "RAM pages that the destination writes for the first time"),
    Field("fresh_slack_ns", INT, "ns", "a full send buffer then needs"),
    Field("fresh_after_pages", INT, "pages", "of the first pass at full speed; ram_pages: all"),
    Field("channels_ns_per_byte", FLOAT, "ns/B", "the wire of all channels of multifd together"),
    Field("channels_slack_ns", INT, "ns", "it needs for the send buffers of all channels"),
    Field("channels_fresh_ns_per_byte", FLOAT, "ns/B", "pages that the destination writes for the first time"),
    Field("channels_fresh_slack_ns", INT, "ns", "all send buffers then need"),
    Field("rtt_ns", INT, "ns", "round trip"),
)
"""Per migration: the link."""

REGION = (
    Field("start", INT, "pages", "first page"),
    Field("pages", INT, "pages", "size"),
    Field("writes_per_s", FLOAT, "1/s", "page writes per second of the writer's guest time; the highest rate"),
    Field("rate_first", INT, "index", "its first rate among those of the migration"),
    Field("rate_count", INT, "1", "rates, one after the other; 0: always the highest"),
    Field("period_ns", INT, "ns", "guest time after which they begin again; 0: the last one stays"),
    Field("period_work_ns", INT, "ns", "what that is worth at the highest rate"),
    Field("vcpu_share", INT, "1e-4", "of its vCPU, needed at full rate; WHOLE_VCPU: writes as fast as it can"),
    Field("phase", FLOAT, "1", "where a sequential writer begins, as a share of the region, or DRAWN"),
    Field("sequential", INT, "flag", "0: uniform; 1: sequential"),
    Field("zero_share", FLOAT, "1", "share of zero pages"),
)
"""Per region of a migration."""

RATE = (
    Field("from_ns", INT, "ns", "guest time at which it begins"),
    Field("share", FLOAT, "1", "of the highest rate"),
    Field("before_ns", INT, "ns", "what the time before it is worth at the highest rate"),
)
"""Per rate of a region whose rate changes."""

DEVICE = (
    Field("kind", INT, "code", "RAM, VFIO or BLOCK", "repeats"),
    Field("initial_bytes", INT, "B", "initial data; of a block device the disk", "repeats"),
    Field("dirty_rate", FLOAT, "B/s", "how fast its state is rewritten", "repeats"),
    Field("dirty_max", INT, "B", "most that is dirty at once", "repeats"),
    Field("stop_copy_bytes", INT, "B", "read only when the device has stopped", "repeats"),
    Field("chunk_bytes", INT, "B", "most that one read returns", "repeats"),
    Field("read_ns_per_byte", FLOAT, "ns/B", "reading from the device", "repeats"),
    Field("load_ns", INT, "ns", "the destination loads the initial data", "repeats"),
)
"""Per device of a migration, in list order, RAM among them."""

STATE = (
    Field("outcome", INT, "code", "RUNNING, or how it ended"),
    Field("culprit", INT, "index", "the device that prevents convergence, -1 if none"),
    Field("device_count", INT, "1", "devices, RAM among them", "repeats"),
    Field("t", INT, "ns", "now, since the migrate command", "varies"),
    Field("seed", INT, "1", "root of the draws", "repeats"),
    Field("replicate", INT, "1", "number of the replicate", "repeats"),
    Field("pace", FLOAT, "1", "what RAM's call takes over what it takes in the mean; 1 without jitter", "varies"),
    # what a management layer may change while the migration runs
    Field("max_bandwidth", INT, "B/s", "limit of a window, 0 for none", "repeats"),
    Field("downtime_limit_ms", FLOAT, "ms", "downtime-limit", "repeats"),
    Field("throttle", INT, "%", "share of time taken from the vCPUs", "repeats"),
    Field("stopped_t", INT, "ns", "when a management layer stopped the VM, -1: it runs", "repeats"),
    Field("managed_t", INT, "ns", "when the next change or poll is due, NEVER without one", "repeats"),
    Field("postcopy_t", INT, "ns", "from when on post-copy is to start, NO_LIMIT for never", "repeats"),
    # the rate-limit window
    Field("window_t", INT, "ns", "when it began", "varies"),
    Field("mark", INT, "B", "bytes counted when it began", "varies"),
    Field("counted", INT, "B", "bytes that the rate limit has seen", "varies"),
    Field("buffered", INT, "B", "put into the stream and not flushed", "varies"),
    Field("threshold", INT, "B", "what fits the downtime limit", "repeats"),
    Field("window_bytes", INT, "B", "what the last whole window carried", "repeats"),
    Field("window_ms", INT, "ms", "how long it was", "repeats"),
    Field("window_syncs", INT, "1", "syncs in this window", "repeats"),
    Field("window_drained", INT, "1", "iterations in this window in which RAM had nothing left", "windows"),
    Field("window_calls", INT, "1", "calls of RAM in this window", "windows"),
    Field("last_calls", INT, "1", "calls of RAM in the window before", "windows"),
    Field("call_t", INT, "ns", "when the first calls of RAM in a window began", "", (KEPT_CALLS,)),
    Field("call_pages", INT, "pages", "that RAM had sent then", "", (KEPT_CALLS,)),
    Field("call_backlog", INT, "ns", "that the link was behind then", "", (KEPT_CALLS,)),
    Field("slice_pages", INT, "pages", "after which 51 ms had gone in a call that began as follows, 0 if none did"),
    Field("slice_backlog", INT, "ns", "that the link was behind when it began"),
    Field("slice_share", FLOAT, "1", "zero share of its pages"),
    Field("slice_events", INT, "1", "`events` then, so that pages had another cost where there are more now"),
    # the socket
    Field("drained_at", INT, "ns", "when its send buffer is empty", "varies"),
    Field("link_ns_per_byte", FLOAT, "ns/B", "the link", "repeats"),
    Field("page_ns_per_byte", FLOAT, "ns/B", "the link, for RAM pages now", "repeats"),
    Field("page_slack_ns", INT, "ns", "a full send buffer, for RAM pages now", "repeats"),
    # a normal page
    Field("page_put", INT, "B", "on the wire, in the mean", "repeats"),
    Field("page_copied", INT, "B", "of these, copied into the stream buffer", "repeats"),
    Field("page_cpu_ns", FLOAT, "ns", "migration thread", "repeats"),
    Field("xbzrle_cover", FLOAT, "1", "share of the pages written to that were sent since XBZRLE began", "counts"),
    Field("xbzrle_seen", INT, "pages", "sent by RAM when that was last counted", "counts"),
    # multifd
    Field("queued_normal", INT, "pages", "in the queue of the migration thread", "varies"),
    Field("queued_zero", INT, "pages", "zero pages there", "varies"),
    Field("next_channel", INT, "index", "from which an idle channel is looked for", "varies"),
    Field("in_flight", INT, "B", "handed over to channels and not counted", "varies"),
    Field("busy_until", INT, "ns", "when all channels have written all, and it has left", "varies"),
    Field("tail_pages", INT, "pages", "dirty pages from the cursor to the end of RAM", "varies"),
    Field("tail_sync", INT, "1", "syncs when they were counted", "varies"),
    Field("was_drained", INT, "ns", "how far drained_at was ahead, packets ago", "varies"),
    Field("was_next", INT, "index", "next_channel then", "varies"),
    # syncs and throttle
    Field("syncs", INT, "1", "bitmap syncs that were made, without that of setup", "counts"),
    Field("sync_count", INT, "1", "dirty-sync-count", "counts"),
    Field("synced_at", INT, "ns", "when the last sync was", "counts"),
    Field("sync_span", INT, "ns", "from the sync before to the last one", "repeats"),
    Field("sync_found", INT, "B", "of RAM that the last sync found written", "repeats"),
    Field("since_sync", INT, "ns", "from the last sync to the beginning of this iteration", "grows"),
    Field("period_new", INT, "pages", "dirtied in this period of the throttle", "repeats"),
    Field("last_eval", INT, "ns", "when the period began", "counts"),
    Field("xfer_prev", INT, "B", "bytes counted then", "counts"),
    Field("high", INT, "1", "periods above the trigger, at most one", "repeats"),
    Field("timer_due", INT, "ns", "next tick of the sync timer", "varies"),
    Field("timer_count", INT, "1", "sync_count at the last tick", "varies"),
    Field("limit_due", INT, "ns", "dirty-limit: when the period ends, NEVER before there is a quota", "varies"),
    Field("limit_highest", INT, "MB/s", "highest rate of a vCPU that it measured", "repeats"),
    Field("limit_us", INT, "us", "longest sleep of a vCPU at a full ring", "repeats"),
    Field("limit_changes", INT, "1", "periods and vCPUs in which that changed", "repeats"),
    # switchover-ack
    Field("flags_missing", INT, "1", "devices whose initial-data-sent flag has not left", "repeats"),
    Field("flags_buffered", INT, "1", "flags that wait in the stream buffer", "repeats"),
    Field("ack_t", INT, "ns", "when the last acknowledgement known so far arrives", "repeats"),
    Field("acknowledged", INT, "flag", "1: nothing but pending bytes holds the switchover back", "repeats"),
    # the decision of this iteration
    Field("iteration", INT, "1", "its number, from 1", "varies"),
    Field("iteration_t", INT, "ns", "when it began", "varies"),
    Field("ram_bytes", INT, "B", "dirty RAM", "falls"),
    Field("precopy_bytes", INT, "B", "what pre-copy can still send: RAM and caches of the devices", "falls"),
    Field("estimate", INT, "B", "pending bytes from the caches", "falls"),
    Field("exact", INT, "B", "pending bytes of the exact query, -1 if it did not run", "falls"),
    Field("pending", INT, "B", "what was compared with the threshold", "falls"),
    Field("compared", INT, "B", "the threshold then: with huge pages windows end within an iteration", "repeats"),
    Field("synced", INT, "1", "syncs of this iteration", "repeats"),
    Field("sync_fraction", FLOAT, "pages", "what whole pages leave of the last sync", "repeats"),
    # this call of qemu_savevm_state_iterate
    Field("previous", INT, "index", "the device served before, -1 when the iteration begins", "repeats"),
    Field("returned", INT, "code", "what its handler returned: 1 finished, 0 not", "repeats"),
    Field("calls", INT, "1", "handlers called in this iteration", "repeats"),
    Field("budget", INT, "B", "what the window has left, NO_LIMIT without a limit", "windows"),
    Field("ram_pages", INT, "pages", "sent by RAM in this iteration", "repeats"),
    Field("ram_returned", INT, "code", "what RAM returned, -1 if it was not called", "repeats"),
    Field("bulk", INT, "flag", "1: a block device is in its bulk phase", "repeats"),
    # post-copy
    Field("postcopy", INT, "flag", "1: the guest is on the destination", "repeats"),
    Field("resume_t", INT, "ns", "when it runs there", "repeats"),
    Field("postcopy_pages", INT, "pages", "dirty at the switch", "repeats"),
    Field("postcopy_from", INT, "B", "sent before the first page after the switch", "repeats"),
    Field("faults", INT, "1", "pages that the guest waited for", "varies"),
    Field("fault_part", FLOAT, "1", "what whole faults left of the last count", "varies"),
    Field("faults_t", INT, "ns", "until when they are counted", "varies"),
    # what repeats
    Field("zero_level", INT, "1e-15", "zero share of the pages sent last", "repeats"),
    Field("events", INT, "1", "changes that end a run of equal windows", "counts"),
    Field("drained", INT, "1", "iterations in a row in which only devices sent", "varies"),
    Field("stops_early", INT, "flag", "1: the migration ends when nothing can change any more", "repeats"),
    Field("jumps", INT, "code", "what is jumped over: 0 nothing, 1 windows, 2 iterations too", "repeats"),
    # totals
    Field("stop_copy", INT, "B", "stop-copy of all devices", "repeats"),
    Field("bytes_sent", INT, "B", "everything put into the stream", "varies"),
    Field("ram_put", INT, "B", "put by RAM, without section headers", "varies"),
    Field("ram_pages_sent", INT, "pages", "normal and zero", "varies"),
    Field("ram_zero_pages", INT, "pages", "zero pages among them", "varies"),
    Field("ram_calls", INT, "1", "calls of the RAM handler", "varies"),
    Field("ram_calls_done", INT, "1", "calls that found nothing left", "varies"),
    Field("ram_parts", INT, "1", "times that the rate limit was at work within a call of RAM: huge pages", "varies"),
    Field("ram_remaining", INT, "B", "dirty RAM after the last sync of the loop", "repeats"),
    Field("steps", INT, "1", "iterations that were computed one by one", "varies"),
    Field("effort", INT, "1", "computing done, of about EFFORT_NS each", "varies"),
    Field("pause_at", INT, "1", "effort at which the computation pauses", "varies"),
    # what the policies keep from one question to the next
    Field("own", FLOAT, "", "numbers of the rule which device comes next", "", (POLICY_NUMBERS,)),
    Field("sync_own", FLOAT, "", "numbers of the rule when to sync", "", (POLICY_NUMBERS,)),
    Field("bandwidth_own", FLOAT, "", "numbers of the rule which bandwidth to believe", "", (POLICY_NUMBERS,)),
    Field("bandwidth_anew", FLOAT, "", "the same, begun anew with zeros while it runs", "", (POLICY_NUMBERS,)),
    Field("sync_before", FLOAT, "", "sync_own before the question", "", (POLICY_NUMBERS,)),
    Field("capped", INT, "flag", "1: the rule which device comes next has limited a call"),
    Field("blind", INT, "flag", "1: the rule when to sync would not sync below the threshold either"),
)
"""Of a running migration (docs/model.md, section 1)."""

WRITER = (
    Field("t0", INT, "ns", "when its speed last changed"),
    Field("tau0", INT, "ns", "guest time of the writer then"),
    Field("gets", INT, "1e-4", "of its vCPU, since then"),
    Field("needs", INT, "1e-4", "of its vCPU, at full rate"),
    Field("was_t0", INT, "ns", "t0 at the last sync, where its speed has changed since"),
    Field("was_tau0", INT, "ns", "tau0 then"),
    Field("was_gets", INT, "1e-4", "gets then"),
    Field("first", INT, "pages", "into the region, where a sequential writer began"),
    Field("missing", FLOAT, "pages", "of the region, dirty at the switch to post-copy"),
    Field("faulted", FLOAT, "pages", "of these, asked for by faults"),
    Field("limit_us", INT, "us", "dirty-limit: its vCPU sleeps when the ring is full"),
    Field("limit_fill", FLOAT, "ns", "in which it fills the ring; 0: its vCPU does not sleep"),
    Field("limit_since", INT, "ns", "when the ring was last emptied by a sync or the end of a period"),
    Field("limit_tau", INT, "ns", "guest time when the period began"),
    Field("limit_work", INT, "ns", "what that was worth at the highest rate"),
)
"""Per region of a running migration: how far its writer has got."""

LIVE = (
    Field("initial", INT, "B", "initial data left in the hardware", "varies"),
    Field("initial_waits", INT, "flag", "1: some of it is left", "repeats"),
    Field("dirty", INT, "B", "dirty bytes of the hardware at dirty_t", "varies"),
    Field("dirty_t", INT, "ns", "when some were last taken", "varies"),
    Field("dirty_rate", FLOAT, "B/s", "how fast its state is rewritten; 0 once the VM is stopped", "repeats"),
    Field("initial_cached", INT, "B", "initial data as the last query left it", "varies"),
    Field("dirty_cached", INT, "B", "dirty bytes, the same", "varies"),
    Field("stop_cached", INT, "B", "stop size, the same", "varies"),
    Field("left", INT, "B", "of a disk", "varies"),
    Field("flag", INT, "code", "initial-data-sent: 0 not yet, 1 in the stream buffer, 2 left", "repeats"),
    Field("called", INT, "1", "calls of the handler", "varies"),
    Field("iteration", INT, "1", "number of the iteration that called it last", "varies"),
    Field("progress_sync", INT, "1", "syncs when its initial data last moved", "varies"),
    Field("sent", INT, "B", "in its last iteration, without section headers", "varies"),
    Field("ack_t", INT, "ns", "when its acknowledgement arrives, -1 for never", "repeats"),
    Field("initial_sent_t", INT, "ns", "when the initial data had left, -1 for never", "repeats"),
    Field("first_t", INT, "ns", "first call of the handler, -1 for never", "repeats"),
    Field("starved", INT, "ns", "time in which iterations ended before it", "varies"),
    Field("bytes", INT, "B", "sent so far", "varies"),
)
"""Of a device of a running migration: hardware, caches, history."""

CHANNEL = (
    Field("written_at", INT, "ns", "when it has written the packets that it was given"),
    Field("drained_at", INT, "ns", "when these have left its stream"),
    Field("uncounted", INT, "B", "of them, not counted"),
    Field("was_written", INT, "ns", "how far written_at was ahead, packets ago"),
    Field("was_drained", INT, "ns", "how far drained_at was ahead then"),
    Field("was_uncounted", INT, "B", "uncounted then"),
)
"""Per channel of multifd of a running migration."""

SHOWN = (
    Field("total_time_ms", INT, "ms", "total-time: since the migrate command"),
    Field("remaining", INT, "B", "ram.remaining"),
    Field("transferred", INT, "B", "ram.transferred"),
    Field("total", INT, "B", "ram.total"),
    Field("mbps", FLOAT, "Mbit/s", "ram.mbps, of the last window"),
    Field("dirty_sync_count", INT, "1", "ram.dirty-sync-count"),
    Field("expected_downtime_ms", FLOAT, "ms", "expected-downtime"),
    Field("downtime_limit_ms", FLOAT, "ms", "downtime-limit"),
    Field("max_bandwidth", INT, "B/s", "max-bandwidth, 0 for none"),
    Field("throttle", INT, "%", "cpu-throttle-percentage"),
    Field("status", INT, "code", "STATUS_ACTIVE"),
    Field("vm_stopped", INT, "flag", "1: the VM does not run (query-status)"),
    Field("has_vfio", INT, "flag", "1: the guest has a VFIO device, which who manages it knows"),
    Field("polled", INT, "flag", "1: the poll is due; 0: a sync has just been made"),
)
"""What a management policy sees: query-migrate and query-migrate-parameters, by name with underscores."""

MANAGER = (
    Field("poll_t", INT, "ns", "the next poll"),
    Field("next_change", INT, "index", "the next change at a given time"),
    Field("seen_syncs", INT, "1", "syncs when the policy was last asked"),
    Field("stops_early", INT, "flag", "1: verdicts are final once nothing is left that changes"),
    Field("changed", INT, "1", "changes that were made"),
    Field("refused", INT, "code", "an answer of a policy of the batch that is none of the known ones, 0 if none was"),
    Field("expected_downtime_ms", FLOAT, "ms", "the last one known"),
    Field("own", FLOAT, "", "numbers of the policy", "", (MANAGEMENT_NUMBERS,)),
)
"""Who manages a running migration."""

EVENT = (
    Field("t_ns", INT, "ns", "when"),
    Field("command", INT, "code", "SET_DOWNTIME_LIMIT .. CANCEL, or SET_LINK_BANDWIDTH"),
    Field("value", FLOAT, "", "what it was set to, in ms or B/s"),
    Field("planned", INT, "flag", "1: a change at a given time; 0: of the management policy"),
)
"""What was changed while a migration ran."""

REPORT = (
    Field("outcome", INT, "code", "COMPLETED .. CANCELLED"),
    Field("culprit", INT, "index", "the device that prevents convergence, -1 if none"),
    Field("total_ns", INT, "ns", "end, or when the verdict was reached"),
    Field("downtime_ns", INT, "ns", "from the decision to stop the VM until a guest runs again"),
    Field("stop_ns", INT, "ns", "when the VM was stopped"),
    Field("downtime_paused_ns", INT, "ns", "from a stop by a management layer to the switchover"),
    Field("downtime_stop_ns", INT, "ns", "VM stop and final sync"),
    Field("downtime_ram_ns", INT, "ns", "the dirty RAM that was left; in post-copy its discards"),
    Field("downtime_devices_ns", INT, "ns", "stop-copy of all other devices"),
    Field("downtime_state_ns", INT, "ns", "non-iterable state"),
    Field("downtime_destination_ns", INT, "ns", "last bytes on the wire, load, round trip"),
    Field("sync_count", INT, "1", "dirty-sync-count"),
    Field("iterations", INT, "1", "calls of qemu_savevm_state_iterate"),
    Field("bytes_sent", INT, "B", "everything put into the stream"),
    Field("ram_pages_sent", INT, "pages", "normal and zero, with the switchover"),
    Field("ram_zero_pages", INT, "pages", "zero pages among them"),
    Field("switchover_bytes", INT, "B", "sent while the VM was stopped"),
    Field("ram_calls", INT, "1", "calls of the RAM handler"),
    Field("ram_calls_done", INT, "1", "calls that found nothing left"),
    Field("threshold", INT, "B", "the last one"),
    Field("pending", INT, "B", "the last size compared with it"),
    Field("ram_remaining", INT, "B", "dirty RAM after the last sync of the loop"),
    Field("throttle", INT, "%", "at the end"),
    Field("steps", INT, "1", "iterations that were computed one by one"),
    Field("changed", INT, "1", "changes that were made while it ran"),
    Field("max_bandwidth", INT, "B/s", "at the end, 0 for none"),
    Field("downtime_limit_ns", INT, "ns", "at the end"),
    Field("postcopy_ns", INT, "ns", "from the guest running on the destination to its last page there"),
    Field("postcopy_bytes", INT, "B", "of RAM, sent after the switch to post-copy"),
    Field("postcopy_faults", INT, "1", "pages that the guest waited for on the destination"),
    Field("limit_sleep_ns", INT, "ns", "dirty-limit: longest sleep of a vCPU at a full ring, at the end"),
)
"""What a kernel leaves of a migration; times are -1 where something never happened."""

DEVICE_REPORT = (
    Field("bytes", INT, "B", "put into the stream"),
    Field("calls", INT, "1", "of the handler"),
    Field("first_call_ns", INT, "ns", "first call"),
    Field("initial_sent_ns", INT, "ns", "when the initial data had left"),
    Field("ack_ns", INT, "ns", "when the acknowledgement arrived"),
    Field("starved_ns", INT, "ns", "time in which iterations ended before the device"),
    Field("initial_left", INT, "B", "initial data that was never sent"),
)
"""What a kernel leaves of a device."""

ITERATION = (
    Field("t_ns", INT, "ns", "start of the iteration"),
    Field("estimate", INT, "B", "pending bytes from the caches"),
    Field("exact", INT, "B", "pending bytes of the exact query, -1 if it did not run"),
    Field("threshold", INT, "B", "what fits the downtime limit"),
    Field("pending", INT, "B", "what was compared with it"),
    Field("synced", INT, "1", "syncs of the iteration"),
    Field("throttle", INT, "%", "share of time taken from the vCPUs"),
    Field("ram_pages", INT, "pages", "sent by RAM"),
    Field("ram_returned", INT, "code", "what RAM returned, -1 if it was not called"),
    Field("remaining_pages", INT, "pages", "dirty RAM at the end"),
    Field("sync_count", INT, "1", "dirty-sync-count"),
)
"""One row of a timeline."""


SEGMENT = (
    Field("start", FLOAT, "pages", "first page"),
    Field("length", FLOAT, "pages", "size"),
    Field("dirty", FLOAT, "1", "probability that a page is to be sent"),
    Field("known", FLOAT, "1", "probability that a page is in the dirty log since its chunk was cleared"),
    Field("region", INT, "index", "-1 outside the regions"),
    Field("chunk", INT, "index", "of the dirty log, -1 where nothing is written"),
    Field("waits", INT, "flag", "1: the log of the chunk is to be cleared before a page of it is sent"),
    Field("clear_t", INT, "ns", "time of the last clear; of its first chunk, where there are several"),
    Field("grouped", INT, "flag", "1: it has several chunks, which are cleared one after the other"),
    Field("left_t", INT, "ns", "when the cursor had passed all of its chunks"),
)
"""Expected engine: a range of pages of one region that are alike, in one chunk or in a group of chunks."""

EXPECTED_HEAD = (
    Field("count", INT, "1", "segments"),
    Field("most", INT, "1", "segments there may be"),
    Field("remaining", INT, "pages", "dirty pages, whole"),
    Field("cursor", INT, "index", "segment the cursor is in"),
    Field("sync_t", INT, "ns", "time of the last sync"),
    Field("taken", INT, "pages", "taken since the one in which the cursor came into its segment, that one included"),
    Field("shared", FLOAT, "pages", "what of that one lies in the segment before"),
    Field("ahead", INT, "pages", "dirty pages that follow with nothing in between and one cost, 0 if not known"),
    Field("share", FLOAT, "1", "zero share of these"),
    Field("fraction", FLOAT, "pages", "what the whole pages left of the last sync's sum"),
    Field("offset", FLOAT, "pages", "fraction of a page carried to the next sync"),
    Field("effort", INT, "1", "of a sync: segments"),
    Field("group_pages", INT, "pages", "most pages of a segment that has several chunks, 0 if none has"),
    Field("open", INT, "index", "segment with several chunks that the cursor has begun to clear, -1 if there is none"),
)
"""Expected engine: the cursor and the sums."""

CHUNK = (
    Field("dirty", INT, "pages", "dirty pages"),
    Field("pending", INT, "flag", "1: to be cleared before its first page is sent (RAMBlock.clear_bmap)"),
    Field("clear_t", INT, "ns", "time of the last clear"),
)
"""Bitmap engine: a chunk of the clear bitmap."""

BITMAP_HEAD = (
    Field("remaining", INT, "pages", "dirty pages"),
    Field("cursor", INT, "page", "behind the last one sent"),
    Field("sync_t", INT, "ns", "time of the last sync"),
    Field("pending", INT, "1", "chunks to be cleared"),
    Field("any_zero", INT, "flag", "1: some page is a zero page"),
    Field("seed", INT, "1", "root of the draws"),
    Field("replicate", INT, "1", "number of the replicate"),
    Field("stretch", INT, "pages", "dirty pages to the end of a chunk that was cleared, 0 if not counted"),
    Field("effort", INT, "1", "of a sync: 128 pages each"),
)
"""Bitmap engine: the cursor and the counts."""

LAPS = 4
"""Laps of the cursor that are compared before a verdict."""
LAP = (
    Field("began_t", INT, "ns", "when it began"),
    Field("began_pages", INT, "pages", "sent by RAM then"),
    Field("began_sync", INT, "1", "syncs then"),
    Field("began_iteration", INT, "1", "iterations then"),
    Field("seen_sync", INT, "1", "syncs after the last iteration"),
    Field("began_initial", INT, "B", "initial data left on all devices then"),
    Field("flags_missing", INT, "1", "then"),
    Field("throttle", INT, "%", "then"),
    Field("limit_changes", INT, "1", "then"),
    Field("xbzrle_cover", FLOAT, "1", "then"),
    Field("count", INT, "1", "laps since something other than RAM changed"),
    Field("total", INT, "1", "laps so far"),
    Field("half", INT, "1", "laps after which the newer half becomes the older one"),
    Field("gap", FLOAT, "B", "least pending above threshold of this lap; below 0: it fitted"),
    Field("gap_is_stop", INT, "flag", "1: at the least gap the stop-copy alone was above the threshold"),
    Field("left", FLOAT, "pages", "fewest left after an iteration"),
    Field("most", FLOAT, "pages", "most left after an iteration"),
    Field("last_gap", FLOAT, "B", "gap of the lap before"),
    Field("last_gap_is_stop", INT, "flag", "of the lap before"),
    Field("same_reason", INT, "1", "laps in a row that have it alike"),
    Field("old_least", FLOAT, "B", "least gap of the older half"),
    Field("new_least", FLOAT, "B", "least gap of the newer half"),
    Field("never_fits", INT, "flag", "1: the stop-copy is above any threshold that can still come"),
    Field("stuck", INT, "flag", "1: the last lap showed that nothing can change any more"),
    Field("gaps", FLOAT, "B", "gaps of the last laps", "", (LAPS,)),
    Field("lefts", FLOAT, "pages", "fewest left of the last laps", "", (LAPS,)),
    Field("mosts", FLOAT, "pages", "most left of the last laps", "", (LAPS,)),
    # what policies keep (memory_of_policies)
    Field("noted", INT, "1", "iterations noted in this round"),
    Field("kinds", INT, "1", "different numbers of the walk and the rule when to sync in it, KINDS + 1: too many"),
    Field("kinds_before", INT, "1", "in the round before, -1: there is none"),
    Field("new_kinds", INT, "1", "of this round's that the one before had not"),
    Field("rounds_alike", INT, "1", "rounds in a row that had the numbers of the round before"),
    Field("now", FLOAT, "", "numbers of this round, one set behind the other", "", (2 * POLICY_NUMBERS * KINDS,)),
    Field("before", FLOAT, "", "numbers of the round before", "", (2 * POLICY_NUMBERS * KINDS,)),
    Field("apart", FLOAT, "", "bandwidth_own from bandwidth_anew, when that was begun", "", (POLICY_NUMBERS,)),
    Field("lowest", FLOAT, "", "least of bandwidth_own since then", "", (POLICY_NUMBERS,)),
    Field("highest", FLOAT, "", "largest of bandwidth_own since then", "", (POLICY_NUMBERS,)),
)
"""Verdict: a lap of the cursor over all that is dirty."""


def dtype_of(table: tuple[Field, ...]) -> np.dtype:
    """The record dtype of a table."""
    return np.dtype([(field.name, field.dtype, field.shape) for field in table])


def as_bytes(records: np.ndarray) -> np.ndarray:
    """Whole records as bytes, to be copied: NumPy copies structures field by field."""
    return records.view(np.ndarray).view(f"V{records.dtype.itemsize}")


def _nothing(table: tuple[Field, ...]) -> np.ndarray:
    """One report of what never happened: times -1."""
    report = np.zeros(1, dtype_of(table))
    for name in report.dtype.names:
        if name.endswith("_ns") or name == "culprit":
            report[name] = -1
    return report


NO_REPORT, NO_DEVICE_REPORT = _nothing(REPORT), _nothing(DEVICE_REPORT)
"""What a report holds before its migration."""


class Records(NamedTuple):
    """Migrations as the kernels take them: one row each, regions and devices padded with zeroes to the widest row."""

    cases: np.ndarray  # records CASE
    links: np.ndarray  # records LINK
    regions: np.ndarray  # records REGION, rows x width
    devices: np.ndarray  # records DEVICE, rows x width
    rates: np.ndarray  # records RATE, rows x width: of all regions, one region after the other
    changes: np.ndarray  # records CHANGE, rows x width


class Reports(NamedTuple):
    """What the kernels leave of migrations, one row each."""

    migrations: np.ndarray  # records REPORT
    devices: np.ndarray  # records DEVICE_REPORT, rows x width

    @classmethod
    def empty(cls, rows: int, devices: int) -> Reports:
        """Room for the reports of migrations."""
        shapes = {REPORT: (rows,), DEVICE_REPORT: (rows, devices)}
        return cls(*(np.empty(shape, dtype_of(table)).view(np.recarray) for table, shape in shapes.items()))

    def clear(self) -> None:
        """Let every report say that nothing happened."""
        for records, nothing in zip(self, (NO_REPORT, NO_DEVICE_REPORT), strict=True):
            as_bytes(records)[:] = as_bytes(nothing)


class Writers(NamedTuple):
    """The writers of a running migration."""

    now: np.ndarray  # records WRITER, as the regions
    regions: np.ndarray  # records REGION
    rates: np.ndarray  # records RATE


class Mark(NamedTuple):
    """What a window, or an iteration, began with: the fields that grow while it repeats."""

    state: np.record  # STATE
    live: np.ndarray  # records LIVE


class Marks(NamedTuple):
    """What the last window and the last iteration in which only devices sent began with."""

    window: Mark
    iteration: Mark


class Timeline(NamedTuple):
    """A migration iteration by iteration; times in nanoseconds, sizes in bytes or pages as named."""

    iterations: np.ndarray  # records ITERATION
    sent: np.ndarray  # int64, iterations x devices, without section headers; -1: not called
    events: np.ndarray  # records EVENT


class Managing(NamedTuple):
    """What changes a running migration from outside."""

    manager: np.record  # MANAGER
    shown: np.record  # SHOWN
    changes: np.ndarray  # records CHANGE
    policy: Any  # function of the management policy, called where the case says so
    events: np.ndarray  # records EVENT, filled as far as they go


class Migration(NamedTuple):
    """One running migration: what QEMU keeps in MigrationState, beside the records of its case."""

    case: np.record  # CASE
    link: np.record  # LINK
    regions: np.ndarray  # records REGION
    devices: np.ndarray  # records DEVICE, in list order
    state: np.record  # STATE
    live: np.ndarray  # records LIVE, as `devices`
    channels: np.ndarray  # records CHANNEL
    writers: Writers
    ram: NamedTuple  # memory of the engine: its type chooses the engine when the loop is compiled
    report: np.record  # REPORT
    policies: NamedTuple  # Policies of migkit.kernels.policies
