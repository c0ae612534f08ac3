"""Migrations as columns with the names of tests/naive.py, and the kernels over them.

The kernels take and leave records (``migkit/kernels/state.py``); the naive loop and the cases of tests/cases.py name
plain numbers. Here is the one place where the names meet.
"""

from collections import namedtuple

import numpy as np

from migkit.kernels import drivers
from migkit.kernels.state import ENGINES

PARAMETERS = (
    "ram_pages", "page_size", "track_pages", "host_pages", "chunk_pages", "lazy_clear", "idle_zero_share", "used_first",
    "used_stop", "rates_change", "rate_from_ns", "rate_share", "rate_before_ns", "region_rate_first",
    "region_rate_count", "region_period_ns", "region_period_work_ns", "region_count", "region_start",
    "region_pages", "region_writes_per_s", "region_sequential", "region_zero_share", "region_vcpu_share",
    "region_phase", "device_count", "device_kind", "device_initial_bytes", "device_dirty_rate", "device_dirty_max",
    "device_stop_copy_bytes", "device_chunk_bytes",
    "device_read_ns_per_byte", "device_load_ns", "link_ns_per_byte", "send_slack_ns", "fresh_ns_per_byte",
    "fresh_slack_ns", "fresh_after_pages", "rtt_ns", "max_bandwidth", "downtime_limit_ms",
    "avail_switchover_bandwidth", "switchover_ack", "return_path", "auto_converge",
    "dirty_ring_pages", "dirty_limit", "vcpu_dirty_limit", "dirty_limit_period_ms",
    "compressed_page_bytes", "xbzrle", "xbzrle_page_ns", "xbzrle_page_bytes", "xbzrle_pages", "xbzrle_share",
    "multifd_channels", "multifd_flush_after_each_section", "multifd_sends_full_queue", "multifd_counts_late",
    "multifd_zero_pages", "multifd_syncs_at_end", "multifd_page_ns", "channel_page_ns", "channel_page_bytes",
    "channels_ns_per_byte",
    "channels_slack_ns", "channels_fresh_ns_per_byte", "channels_fresh_slack_ns",
    "postcopy_ram", "postcopy_preempt", "postcopy_ns", "max_postcopy_bandwidth", "postcopy_rule", "discard_ns",
    "throttle_trigger_threshold",
    "cpu_throttle_initial", "cpu_throttle_increment", "max_cpu_throttle", "cpu_throttle_tailslow",
    "policy", "exact_rule", "complete_rule",
    "ram_exact_always", "vfio_counts", "vfio_always_done", "flush_pages", "counts_all_syncs", "avail_per_ms_exact",
    "throttle_timer_ns", "setup_ns", "turn_ns", "wakeup_ns", "sync_ns", "throttle_late_ns", "throttle_loss", "jitter",
    "page_cost_ns",
    "zero_cost_ns",
    "vm_stop_ns", "device_state_ns", "destination_load_ns", "time_limit_ns",
    "change_count", "change_at_ns", "change_max_bandwidth", "change_downtime_limit_ms", "change_ns_per_byte",
    "change_slack_ns", "change_fresh_ns_per_byte", "change_fresh_slack_ns", "change_channels_ns_per_byte",
    "change_channels_slack_ns", "change_channels_fresh_ns_per_byte", "change_channels_fresh_slack_ns",
    "change_link_bandwidth", "change_command",
)  # fmt: skip
OUTPUTS = (
    "outcome", "culprit", "total_ns", "downtime_ns", "stop_ns", "downtime_stop_ns", "downtime_ram_ns",
    "downtime_devices_ns", "downtime_state_ns", "downtime_destination_ns", "sync_count", "turns", "bytes_sent",
    "ram_pages_sent", "ram_zero_pages", "switchover_bytes", "ram_calls", "ram_calls_done", "threshold", "pending",
    "ram_remaining", "throttle", "steps",
    "postcopy_ns", "postcopy_bytes", "postcopy_faults", "device_bytes", "device_calls", "device_first_call_ns",
    "device_initial_sent_ns", "device_ack_ns", "device_starved_ns", "device_initial_left",
)  # fmt: skip
LATER_OUTPUTS = ("downtime_paused_ns", "changed", "max_bandwidth", "downtime_limit_ns", "limit_sleep_ns")
"""Those that the stored results of tests/golden do not have."""
Parameters = namedtuple("Parameters", PARAMETERS)
Outputs = namedtuple("Outputs", OUTPUTS + LATER_OUTPUTS)
Turns = namedtuple("Turns", (*drivers.ITERATION.names, "device_sent"))

LINK = {
    "link_ns_per_byte": "ns_per_byte",
    "send_slack_ns": "slack_ns",
    "fresh_ns_per_byte": "fresh_ns_per_byte",
    "fresh_slack_ns": "fresh_slack_ns",
    "fresh_after_pages": "fresh_after_pages",
    "channels_ns_per_byte": "channels_ns_per_byte",
    "channels_slack_ns": "channels_slack_ns",
    "channels_fresh_ns_per_byte": "channels_fresh_ns_per_byte",
    "channels_fresh_slack_ns": "channels_fresh_slack_ns",
    "rtt_ns": "rtt_ns",
}
CASE = {"turn_ns": "iteration_ns", "exact_rule": "sync_policy"}
REPORT = {"turns": "iterations"}
SCALARS = ("region_count", "device_count", "device_state_ns", "change_count")


def is_list(name):
    """Whether a case has a list under this name: one entry a region, device or rate."""
    return name.startswith(("region_", "device_", "rate_", "change_")) and name not in SCALARS


def place_of(name):
    """Which part of Records holds a column, and the name of its field there."""
    if is_list(name):
        kind, _, field = name.partition("_")
        return {"region": "regions", "device": "devices", "rate": "rates", "change": "changes"}[kind], field
    return ("links", LINK[name]) if name in LINK else ("cases", CASE.get(name, name))


def empty_records(rows, regions, devices, rates, changes):
    return drivers.Records(
        *(
            np.zeros(shape, dtype).view(np.recarray)
            for shape, dtype in (
                (rows, drivers.CASE), (rows, drivers.LINK), ((rows, regions), drivers.REGION),
                ((rows, devices), drivers.DEVICE), ((rows, rates), drivers.RATE), ((rows, changes), drivers.CHANGE),
            )
        )
    )  # fmt: skip


def to_parameters(cases):
    """Columns with one row a case, padded to the widest."""
    columns = {}
    records = empty_records(1, 1, 1, 1, 1)
    for name in PARAMETERS:
        part, field = place_of(name)
        dtype = getattr(records, part).dtype[field]
        if is_list(name):
            columns[name] = np.zeros((len(cases), max(1, *(len(c[name]) for c in cases))), dtype)
            for row, c in zip(columns[name], cases, strict=True):
                row[: len(c[name])] = c[name]
        else:
            columns[name] = np.array([c[name] for c in cases], dtype)
    return Parameters(**columns)


def to_records(parameters):
    """Columns as the kernels take them."""
    records = empty_records(
        len(parameters.ram_pages),
        *(
            column.shape[1]
            for column in (
                parameters.region_start,
                parameters.device_kind,
                parameters.rate_share,
                parameters.change_at_ns,
            )
        ),
    )
    for name, column in parameters._asdict().items():
        part, field = place_of(name)
        getattr(records, part)[field] = column
    records.cases["policies_repeat"] = 2
    records.cases["may_stop_early"] = 2
    return records


def to_columns(records):
    """Records as columns."""
    return Parameters(
        **{name: np.ascontiguousarray(getattr(records, part)[field])
           for name, (part, field) in zip(PARAMETERS, map(place_of, PARAMETERS), strict=True)}
    )  # fmt: skip


def to_outputs(reports):
    """Reports as columns."""
    columns = {}
    for name in Outputs._fields:
        if name.startswith("device_"):
            columns[name] = np.ascontiguousarray(reports.devices[name.removeprefix("device_")])
        else:
            columns[name] = np.ascontiguousarray(reports.migrations[REPORT.get(name, name)])
    return Outputs(**columns)


class kernels:
    """The kernels over columns."""

    ENGINES = ENGINES

    @staticmethod
    def run(parameters, engine="expected", seed=0, replicate=0, stops_early=True):
        return to_outputs(drivers.run(to_records(parameters), engine, seed, replicate, stops_early))

    @staticmethod
    def record(parameters, engine="expected", seed=0, replicate=0, most=200_000):
        reports, timeline = drivers.record(to_records(parameters), engine, seed, replicate, most)
        fields = [np.ascontiguousarray(timeline.iterations[name]) for name in drivers.ITERATION.names]
        return to_outputs(reports), Turns(*fields, timeline.sent)


def columns(scenarios):
    """Scenarios as columns."""
    from migkit.scenario.rows import records

    return to_columns(records(scenarios))


def computed(cases, scenarios, engine):
    """Results of kernel cases and of scenarios, one below the other, as columns by name."""
    parts = [
        kernels.run(parameters, engine, seed=7, replicate=np.arange(len(parameters.ram_pages)) % 3)
        for parameters in (to_parameters(cases), columns(scenarios))
    ]
    table = {}
    for name in OUTPUTS:
        found = [getattr(part, name) for part in parts]
        width = max(column.shape[-1] for column in found) if found[0].ndim == 2 else 0
        padded = [np.pad(c, ((0, 0), (0, width - c.shape[1])), constant_values=-9) if width else c for c in found]
        table[name] = np.concatenate(padded)
    return table
