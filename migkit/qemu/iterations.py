"""One measured run beside its prediction, iteration by iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from migkit.kernels.state import PAGE_HEADER, RAM, VFIO, Records, Timeline
from migkit.qemu.predict import PAGE, scenario_of
from migkit.qemu.traces import runs, trace
from migkit.scenario.device_list import device_labels
from migkit.scenario.rows import records

if TYPE_CHECKING:
    import os

    import pandas as pd

    from migkit.qemu.traces import Trace


def compare_iterations(run: str, path: str | os.PathLike[str] | None = None, engine: str = "expected") -> pd.DataFrame:
    """Compare the predicted and measured iterations of one run.

    Iterations are matched by their number: the first predicted one is beside the first measured one.

    Parameters
    ----------
    run : str
        Name of a run whose iterations were recorded (`iterations_thinned` is false).
    path : path, optional
        As in :func:`migkit.qemu.runs`.
    engine : {"expected", "bitmap"}, optional
        Model of RAM.

    Returns
    -------
    DataFrame
        Indexed by ``iteration``, from 0, with as many rows as the longer of the two has. The columns have two levels, a
        quantity and ``predicted`` or ``measured``:

        - ``start_ms``: start of the iteration since the migrate command
        - ``synced``: 1 if the exact query ran
        - ``slice_ms``: time inside RAM's handler
        - ``pages``: pages that RAM sent
        - ``called``: sections whose handler was called, joined by ``+``
        - ``returned``: what the handlers returned, one digit each
        - ``device_bytes``: bytes sent by all devices

        Measured pages are the decrease of the pending bytes until the next iteration, so the last iteration has none.

    Raises
    ------
    KeyError
        If no run is called `run`.

    Examples
    --------
    >>> from migkit.qemu.iterations import compare_iterations
    >>> iterations = compare_iterations("B5__bw128_r90_dev1_init16__unser__r0")
    >>> iterations["pages"].loc[0].tolist()
    [3398.0, 3398.0]
    """
    import pandas as pd

    config = runs(path).loc[run]
    scenario = scenario_of(config, path)
    from migkit.kernels import drivers

    found = records([scenario])
    predicted = _predicted(drivers.record(found, engine)[1], found, device_labels(scenario))
    measured = _measured(trace(run, path))
    table = pd.concat({"predicted": predicted, "measured": measured}, axis=1).swaplevel(axis=1)
    order = [(name, side) for name in predicted.columns for side in ("predicted", "measured")]
    return table[order].rename_axis(index="iteration", columns=[None, None])


def agreement(iterations: pd.DataFrame) -> pd.Series:
    """Summarise the agreement of predicted and measured iterations.

    Parameters
    ----------
    iterations : DataFrame
        From :func:`compare_iterations`.

    Returns
    -------
    Series
        ``iterations_predicted`` and ``iterations_measured``: how many there are. Over the iterations that both have:
        ``synced_alike``, ``called_alike`` and ``returned_alike`` (shares, 0 to 1), and
        ``slice_ms_median_difference``, ``slice_ms_p90_difference`` (ms), ``pages_median_difference`` and
        ``pages_p90_difference`` (median and 90th percentile of the absolute difference).
        ``device_bytes_predicted`` and ``device_bytes_measured``: totals.

    Examples
    --------
    >>> from migkit.qemu.iterations import agreement, compare_iterations
    >>> found = agreement(compare_iterations("B5__bw128_r90_dev1_init16__unser__r0"))
    >>> found[["device_bytes_predicted", "device_bytes_measured"]].div(2**20).tolist()
    [16.0, 16.0]
    """
    import pandas as pd

    both = iterations.dropna(subset=[("start_ms", "predicted"), ("start_ms", "measured")])
    out = {f"iterations_{side}": int(iterations["start_ms", side].notna().sum()) for side in ("predicted", "measured")}
    for name in ("synced", "called", "returned"):
        out[f"{name}_alike"] = (both[name, "predicted"] == both[name, "measured"]).mean()
    for name in ("slice_ms", "pages"):
        difference = (both[name, "predicted"] - both[name, "measured"]).abs()
        out[f"{name}_median_difference"] = difference.median()
        out[f"{name}_p90_difference"] = difference.quantile(0.9)
    for side in ("predicted", "measured"):
        out[f"device_bytes_{side}"] = iterations["device_bytes", side].sum()
    return pd.Series(out)


def _predicted(timeline: Timeline, found: Records, labels: list[str]) -> pd.DataFrame:
    import pandas as pd

    kinds = found.devices["kind"][0, : len(labels)]
    rows = timeline.iterations
    names, vfio_count = [], 0
    for kind in kinds:
        names.append("ram" if kind == RAM else f"migtest{vfio_count}" if kind == VFIO else "block")
        vfio_count += kind == VFIO
    sent = timeline.sent[:, : len(labels)]
    called, returned = [], []
    initial_left = found.devices["initial_bytes"][0, : len(labels)].copy()
    for row, ram_returned in zip(sent, rows["ram_returned"], strict=True):
        ran = [i for i, kind in enumerate(kinds) if (ram_returned >= 0 if kind == RAM else row[i] >= 0)]
        initial_left -= np.where((kinds == VFIO) & (row > 0), row, 0)
        answers = [
            ram_returned if kinds[i] == RAM else int(initial_left[i] <= 0) if kinds[i] == VFIO else 1 for i in ran
        ]
        called.append("+".join(names[i] for i in ran))
        returned.append("".join(str(int(answer)) for answer in answers))
    return pd.DataFrame(
        {
            "start_ms": rows["t_ns"] * 1e-6,
            "synced": rows["synced"].astype(float),
            "slice_ms": _slices_ms(timeline, found),
            "pages": rows["ram_pages"].astype(float),
            "called": called,
            "returned": returned,
            "device_bytes": np.where(sent > 0, sent, 0)[:, kinds != RAM].sum(axis=1).astype(float),
        }
    )


def _slices_ms(timeline: Timeline, found: Records) -> np.ndarray:
    """Time inside RAM's handler in each iteration, from docs/model.md, section 1, and the bytes that were put."""
    case, link, devices = found.cases[0], found.links[0], found.devices[0]
    rows = timeline.iterations
    drained, sent = 0.0, 0
    slices = np.zeros(len(rows))
    for i, t in enumerate(rows["t_ns"].astype(float)):
        t += case["sync_ns"] * rows["synced"][i]
        for kind, size, read in zip(devices["kind"], timeline.sent[i], devices["read_ns_per_byte"], strict=True):
            pages = rows["ram_pages"][i] if kind == RAM else 0
            put = pages * (PAGE + PAGE_HEADER) if kind == RAM else max(0, size)
            t += 0 if kind == RAM else put * read
            fresh = kind == RAM and link["fresh_after_pages"] <= sent < case["ram_pages"]
            wire = put * link["fresh_ns_per_byte" if fresh else "ns_per_byte"]
            slack = link["fresh_slack_ns" if fresh else "slack_ns"]
            backlog = max(drained - t, 0.0)
            elapsed = max(pages * case["page_cost_ns"], backlog + wire - slack, 0.0)
            sent += pages
            drained = max(max(drained, t) + wire, t + elapsed)
            t += elapsed
            if kind == RAM:
                slices[i] = elapsed * 1e-6
    return slices


def _measured(run: Trace) -> pd.DataFrame:
    """The recorded iterations; pages from the decrease of the pending bytes."""
    import pandas as pd

    iterations = run.iterations.set_index("iteration")
    calls = run.handler_calls
    ram = calls[calls["section"] == "ram"].set_index("iteration")["us"].reindex(iterations.index)
    by_iteration = calls.groupby("iteration")
    reads = run.device_iter["bytes"].to_numpy()
    device_calls = calls["section"].str.startswith("migtest")
    sizes = pd.Series(0.0, calls.index)
    sizes[device_calls] = np.resize(np.append(reads, np.zeros(max(0, device_calls.sum() - len(reads)))),
                                    device_calls.sum())  # fmt: skip
    device_bytes = sizes.groupby(calls["iteration"]).sum().reindex(iterations.index, fill_value=0.0)
    stop = run.devices["stop_bytes"].sum() if len(run.devices) else 0
    before = iterations["exact"].sub(stop).fillna(iterations["estimate"])
    return pd.DataFrame(
        {
            "start_ms": iterations["t_ms"],
            "synced": iterations["exact"].notna().astype(float),
            "slice_ms": ram / 1e3,
            "pages": (before - iterations["estimate"].shift(-1) - device_bytes) / PAGE,
            "called": by_iteration["section"].agg("+".join).reindex(iterations.index),
            "returned": by_iteration["returned"].agg(lambda values: "".join(str(int(v)) for v in values)),
            "device_bytes": device_bytes,
        }
    )
