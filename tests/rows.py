"""From the plain dicts of tests/cases.py to the columns of a kernel."""

import numpy as np

from migkit.kernels.parameters import Parameters

FLOATS = {
    "idle_zero_share",
    "region_writes_per_s",
    "region_zero_share",
    "device_dirty_rate",
    "device_read_ns_per_byte",
    "link_ns_per_byte",
    "fresh_ns_per_byte",
    "downtime_limit_ms",
    "page_cost_ns",
    "zero_cost_ns",
}


def is_list(name):
    """Whether a case has a list under this name: one entry a region or device."""
    return name.startswith(("region_", "device_")) and name not in ("region_count", "device_count", "device_state_ns")


def to_parameters(cases):
    """Columns with one row a case, padded to the widest."""
    widths = {"region_": max(1, *(c["region_count"] for c in cases)), "device_": max(c["device_count"] for c in cases)}
    columns = {}
    for name in Parameters._fields:
        dtype = np.float64 if name in FLOATS else np.int64
        if is_list(name):
            columns[name] = np.zeros((len(cases), widths[name[:7]]), dtype)
            for row, c in zip(columns[name], cases, strict=True):
                row[: len(c[name])] = c[name]
        else:
            columns[name] = np.array([c[name] for c in cases], dtype)
    return Parameters(**columns)


def computed(cases, scenarios, engine):
    """Results of kernel cases and of scenarios, one below the other, as columns by name."""
    from migkit import kernels
    from migkit.scenario.rows import columns

    parts = [
        kernels.run(parameters, engine, seed=7, replicate=np.arange(len(parameters.ram_pages)) % 3)
        for parameters in (to_parameters(cases), columns(scenarios))
    ]
    table = {}
    for name, *found in zip(parts[0]._fields, *parts, strict=True):
        width = max(column.shape[-1] for column in found) if found[0].ndim == 2 else 0
        padded = [np.pad(c, ((0, 0), (0, width - c.shape[1])), constant_values=-9) if width else c for c in found]
        table[name] = np.concatenate(padded)
    return table
