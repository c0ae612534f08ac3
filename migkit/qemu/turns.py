"""One measured run and its prediction side by side, turn by turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from migkit import kernels
from migkit.kernels.parameters import RAM, VFIO, Parameters
from migkit.kernels.ram import PAGE_HEADER
from migkit.qemu.predict import PAGE, scenario_of
from migkit.qemu.traces import runs, trace
from migkit.scenario.rows import columns
from migkit.scenario.scenario import device_labels

if TYPE_CHECKING:
    import pandas as pd

    from migkit.kernels import Timeline
    from migkit.qemu.traces import Trace


def compare_turns(run: str, path=None, engine: str = "expected") -> pd.DataFrame:
    """Predicted and measured turns of one run, the first of one beside the first of the other.

    Parameters
    ----------
    run : str
        Name of a run whose turns were recorded (`iterations_thinned` is false).
    path : path, optional
        As in :func:`migkit.qemu.runs`.
    engine : {"expected", "bitmap"}, optional
        Model of RAM.

    Returns
    -------
    DataFrame
        Indexed by ``turn``, as many rows as the longer of the two has; two levels of columns, a quantity and
        ``predicted`` or ``measured``:

        - ``start_ms``: start of the turn since the migrate command
        - ``synced``: 1 if the exact query ran
        - ``slice_ms``: time inside RAM's handler
        - ``pages``: pages RAM sent in the call
        - ``called``: sections that were called, joined by ``+``
        - ``returned``: what they returned, one digit each
        - ``device_bytes``: bytes of all devices in the turn

        Measured pages are those by which the pending bytes fell, and so are missing in the last turn.

    Examples
    --------
    >>> from migkit.qemu.turns import compare_turns
    >>> turns = compare_turns("B5__bw128_r90_dev1_init16__unser__r0")
    >>> turns.loc[0, "pages"].tolist()
    [3398.0, 3398.0]
    """
    import pandas as pd

    config = runs(path).loc[run]
    scenario = scenario_of(config, path)
    parameters = columns([scenario])
    predicted = _predicted(kernels.record(parameters, engine)[1], parameters, device_labels(scenario))
    measured = _measured(trace(run, path))
    table = pd.concat({"predicted": predicted, "measured": measured}, axis=1).swaplevel(axis=1)
    order = [(name, side) for name in predicted.columns for side in ("predicted", "measured")]
    return table[order].rename_axis(index="turn", columns=[None, None])


def agreement(turns: pd.DataFrame) -> pd.Series:
    """Summarise :func:`compare_turns`.

    Parameters
    ----------
    turns : DataFrame
        From :func:`compare_turns`.

    Returns
    -------
    Series
        Numbers of turns; shares (0 to 1) of the turns both have in which they synced alike, called the same sections
        and got the same answers; medians and 90th percentiles of the differences in slice (ms) and pages; bytes of
        the devices.
    """
    import pandas as pd

    both = turns.dropna(subset=[("start_ms", "predicted"), ("start_ms", "measured")])
    found = {side: int(turns["start_ms", side].notna().sum()) for side in ("predicted", "measured")}
    out = {"turns_predicted": found["predicted"], "turns_measured": found["measured"]}
    for name in ("synced", "called", "returned"):
        out[f"{name}_alike"] = (both[name, "predicted"] == both[name, "measured"]).mean()
    for name in ("slice_ms", "pages"):
        difference = (both[name, "predicted"] - both[name, "measured"]).abs()
        out[f"{name}_median_difference"] = difference.median()
        out[f"{name}_p90_difference"] = difference.quantile(0.9)
    for side in ("predicted", "measured"):
        out[f"device_bytes_{side}"] = turns["device_bytes", side].sum()
    return pd.Series(out)


def _predicted(timeline: Timeline, parameters: Parameters, labels: list[str]) -> pd.DataFrame:
    import pandas as pd

    kinds = parameters.device_kind[0, : len(labels)]
    names, seen = [], 0
    for kind in kinds:
        names.append("ram" if kind == RAM else f"migtest{seen}" if kind == VFIO else "block")
        seen += kind == VFIO
    sent = timeline.device_sent[:, : len(labels)]
    called, returned = [], []
    left = parameters.device_initial_bytes[0, : len(labels)].copy()
    for row, ram_returned in zip(sent, timeline.ram_returned, strict=True):
        on = [i for i, kind in enumerate(kinds) if (ram_returned >= 0 if kind == RAM else row[i] >= 0)]
        left -= np.where((kinds == VFIO) & (row > 0), row, 0)
        answers = [ram_returned if kinds[i] == RAM else int(left[i] <= 0) if kinds[i] == VFIO else 1 for i in on]
        called.append("+".join(names[i] for i in on))
        returned.append("".join(str(int(a)) for a in answers))
    return pd.DataFrame(
        {
            "start_ms": timeline.t_ns * 1e-6,
            "synced": timeline.synced.astype(float),
            "slice_ms": _slices_ms(timeline, parameters),
            "pages": timeline.ram_pages.astype(float),
            "called": called,
            "returned": returned,
            "device_bytes": np.where(sent > 0, sent, 0)[:, kinds != RAM].sum(axis=1).astype(float),
        }
    )


def _slices_ms(timeline: Timeline, parameters: Parameters) -> np.ndarray:
    """Time inside RAM's calls, replayed: docs/model.md, section 1, with what each call put."""
    one = {name: getattr(parameters, name)[0] for name in Parameters._fields}
    drained, sent = 0.0, 0
    slices = np.zeros(len(timeline.t_ns))
    for turn, t in enumerate(timeline.t_ns.astype(float)):
        t += one["sync_ns"] * timeline.synced[turn]
        for kind, size, read in zip(
            one["device_kind"], timeline.device_sent[turn], one["device_read_ns_per_byte"], strict=True
        ):
            pages = timeline.ram_pages[turn] if kind == RAM else 0
            put = pages * (PAGE + PAGE_HEADER) if kind == RAM else max(0, size)
            t += 0 if kind == RAM else put * read
            fresh = kind == RAM and one["fresh_after_pages"] <= sent < one["ram_pages"]
            wire = put * one["fresh_ns_per_byte" if fresh else "link_ns_per_byte"]
            slack = one["fresh_slack_ns" if fresh else "send_slack_ns"]
            backlog = max(drained - t, 0.0)
            took = max(pages * one["page_cost_ns"], backlog + wire - slack, 0.0)
            sent += pages
            drained = max(max(drained, t) + wire, t + took)
            t += took
            if kind == RAM:
                slices[turn] = took * 1e-6
    return slices


def _measured(run: Trace) -> pd.DataFrame:
    """The recorded turns, with the pages by which pending fell."""
    import pandas as pd

    walks = run.iterations.set_index("turn")
    calls = run.handler_calls
    ram = calls[calls["section"] == "ram"].set_index("turn")["us"].reindex(walks.index)
    by_turn = calls.groupby("turn")
    blocks = run.device_iter["bytes"].to_numpy()
    device_calls = calls["section"].str.startswith("migtest")
    sizes = pd.Series(0.0, calls.index)
    sizes[device_calls] = np.resize(np.append(blocks, np.zeros(max(0, device_calls.sum() - len(blocks)))),
                                    device_calls.sum())  # fmt: skip
    device_bytes = sizes.groupby(calls["turn"]).sum().reindex(walks.index, fill_value=0.0)
    stop = run.devices["stop_bytes"].sum() if len(run.devices) else 0
    before = walks["exact"].sub(stop).fillna(walks["estimate"])
    return pd.DataFrame(
        {
            "start_ms": walks["t_ms"],
            "synced": walks["exact"].notna().astype(float),
            "slice_ms": ram / 1e3,
            "pages": (before - walks["estimate"].shift(-1) - device_bytes) / PAGE,
            "called": by_turn["section"].agg("+".join).reindex(walks.index),
            "returned": by_turn["returned"].agg(lambda values: "".join(str(int(v)) for v in values)),
            "device_bytes": device_bytes,
        }
    )
