"""Causes of the predictions that missed, from the trace of each run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_BUDGET_ENDS_SLICE = (
    "on an even link the budget of a window is used up after {used} ms, late in the first pass at its mean speed after "
    "{late} ms, both before the clock ends a slice (51 ms), so that the device is never called; here the slices there "
    "took 51 to 58 ms, the clock ended them, and eight calls are enough"
)
KNOWN = {
    "B3__link200_bw110_dev1_init8__unser__r1": "on a busy host every other slice sent as little as 450 to 2750 pages",
    "B9__link200_bw100": _BUDGET_ENDS_SLICE.format(used="45.2", late="47.8"),
    "B9__link200_bw104": _BUDGET_ENDS_SLICE.format(used="47.0", late="50.4"),
    "B3__lo_bw512": "slow slices late in the first pass (4300 to 6700 pages in 51 to 54 ms, before 13000 in 33 to "
    "49 ms) were ended by the clock, and the device got its eight calls",
    "D__bw128_cpubound_ac__": "the pauses of a throttled vCPU ended 0.1 to 3.2 ms late, from run to run, and the "
    "guest's own speed changed by 5 %; near the fixed point that decides when it fits",
    "A3__bw256_rand_r050__unser__r2": "the first pass stood still for 0.1 s: a RAM call of 94 ms, and a window of "
    "112 ms that carried 4.5 MB instead of 26.9 MB",
    "B5__bw128_r90_dev1_init16__unser__r2": "the acknowledgement took 0.9 ms instead of 0.25 ms, and until it came "
    "every iteration of 0.1 ms synced",
}
"""Causes found by reading traces; a key is the beginning of a run's name, one run or a configuration."""
NAMED_SHARE = 0.25
"""A measured delay is named if it is more than this share of the error."""


def cause(run: pd.Series) -> str:
    """Describe why the prediction of a run missed.

    Parameters
    ----------
    run : Series
        A row of :func:`migkit.qemu.validation.predictions`.

    Returns
    -------
    str
        The entry of :data:`KNOWN`, then each measured delay that explains a part of the error (a slow link, a late end
        of the downtime, other processes on the host). ``"not found"`` if there is none.

    Examples
    --------
    >>> import pandas as pd
    >>> cause(pd.Series({"total_ms_measured": 9000.0, "total_ms_predicted": 8500.0, "slow_link_ms": 400.0,
    ...                  "late_end_ms": float("nan"), "other_cpu": 0.0}))
    'link slower than in other runs, mostly late in the first pass: 400 of 500 ms'
    """
    parts = [text for name, text in KNOWN.items() if str(run.name).startswith(name)][:1]
    missing = run["total_ms_measured"] - run["total_ms_predicted"]
    if missing > 0 and run["slow_link_ms"] > NAMED_SHARE * missing:
        parts.append(
            "link slower than in other runs, mostly late in the first pass: "
            f"{run['slow_link_ms']:.0f} of {missing:.0f} ms"
        )
    if missing < 0 and run["slow_link_ms"] < NAMED_SHARE * missing:
        parts.append(f"link faster than in other runs of its host: {-run['slow_link_ms']:.0f} of {-missing:.0f} ms")
    if missing > 0 and run["late_end_ms"] > NAMED_SHARE * missing:
        parts.append(f"late end of the downtime: 40 of {missing:.0f} ms")
    if run["other_cpu"] > 0.2:
        parts.append(f"other processes used {run['other_cpu']:.1f} CPUs of two")
    return "; ".join(parts) or "not found"
