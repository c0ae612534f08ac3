"""Fit the costs of a host from measured runs: ``migkit calibrate``.

A cost is the median over runs of what each run shows of it, so that a long run counts as much as a short one. The speed
of the first pass is fitted to all its pieces at once. Nothing is fitted to the outcome of a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from migkit.qemu.costs import MIB, NORMAL_PAGE_WIRE_BYTES, PAGE_BYTES, PHASES, first_pass_steps, run_medians
from migkit.qemu.traces import Folder, folder_now, table
from migkit.scenario.errors import ScenarioError
from migkit.scenario.parts import HostCosts
from migkit.scenario.units import Seconds

if TYPE_CHECKING:
    import pandas as pd

LEAST_RUNS = 3
"""A cost is fitted from the runs of one kind if so many show it, else from runs of all kinds."""
DIGITS = 4
"""Significant digits of what was fitted: no fit knows more."""
_OF_THE_MEDIAN = np.sqrt(np.pi / 2)
"""Standard error of a median over that of a mean, for normal values and many runs."""
_OF_THE_NORMAL = NormalDist().inv_cdf(0.75)
"""Median absolute deviation of a normal variable over its standard deviation. Not from ``scipy.stats``, since to import
it takes longer than a fit."""


class _Source(NamedTuple):
    """Where a parameter is read."""

    costs: tuple[str, ...]
    """Costs of :func:`migkit.qemu.costs.observations`."""
    unit: str
    scale: float
    """SI units in one unit of the observations."""
    wanted: Callable[[str], bool] = lambda case: True
    """Cases that count."""
    alike: tuple[str, ...] = ()
    """What the runs have in common with that which is predicted, if there are enough of them."""
    shortest: bool = False
    """Whether only the case with the least median counts: in the others something else takes time too."""
    less: float = 0.0
    """What is taken off an observation first."""
    missing: str = ""
    """What the runs lack if none shows it."""
    most: float = np.inf
    """The most that a scenario takes."""


_NO_CHECKPOINTS = "has a trace of its downtime, whose checkpoints QEMU has from 8.2 on"
SOURCES: Mapping[str, _Source] = {
    "setup": _Source(("setup",), "s", 1e-3, alike=("accel", "load", "devices"), missing="no run has a traced setup"),
    "iteration": _Source(
        ("iteration",), "s", 1e-6, lambda case: case.startswith("after longer"), ("accel", "load"),
        missing="no run has two iterations in one window",
    ),
    "wakeup": _Source(
        ("window, mean of each run",), "s", 1e-3, less=100.0, missing="max-bandwidth ends no window of any run"
    ),
    "bitmap_sync_per_gib": _Source(
        ("sync per GiB",), "s", 1e-6, lambda case: "," not in case, ("accel", "load"),
        missing="no run syncs in the loop",
    ),
    "page": _Source(
        ("page",), "s", 1e-6, lambda case: case.startswith("tcp") and case.endswith(PHASES[2]), ("load",),
        missing="no run under max-bandwidth sends more than RAM once over a link that is faster",
    ),
    "vm_stop": _Source(
        ("VM stop",), "s", 1e-3, alike=("accel", "load"), missing=f"no completed run {_NO_CHECKPOINTS}"
    ),
    "device_state": _Source(
        ("non-iterable state",), "s", 1e-3, alike=("accel", "load"), missing=f"no completed run {_NO_CHECKPOINTS}"
    ),
    "destination_load": _Source(
        ("end of downtime", "end of downtime, late"), "s", 1e-3, lambda case: case.startswith("return path"), ("link",),
        missing=f"no completed run with a return path {_NO_CHECKPOINTS}",
    ),
    "throttle_late": _Source(
        ("throttled pause, late",), "s", 1e-3, alike=("accel",), most=9e-3,
        missing="no guest that writes at random as fast as it can is throttled by auto-converge at three values",
    ),
    "throttle_loss": _Source(
        ("throttled pause, lost behind it",), "1", 1.0, alike=("accel",), most=1.0,
        missing="no guest that writes at random as fast as it can is throttled by auto-converge at three values",
    ),
    "link_over_pace": _Source(
        ("link over its pace",), "1", 1.0, missing="no run has a paced link without max-bandwidth"
    ),
    "send_buffer": _Source(("send buffer",), "B", 1.0, missing="no run has a paced link without max-bandwidth"),
    "device_read": _Source(
        ("device read",), "s/MiB", 1e-6, lambda case: case.startswith("loopback"), ("load",),
        missing="no device is read over a link that is faster",
    ),
    "device_load": _Source(
        ("ack, from that call on",), "s", 1e-3, shortest=True, missing="no destination acknowledges",
    ),
}  # fmt: skip
"""Parameters that are medians; those from ``link_over_pace`` on are no costs of a host but of links and devices."""
_NOT_FITTED = (
    "name",
    "copy_share",
    "jitter",
    "discard",
    "multifd_page",
    "channel_page",
    "compress_page",
    "xbzrle_page",
)
_FITTED = tuple(name for name in HostCosts.model_fields if name not in _NOT_FITTED)
"""Costs of a host that are fitted: all runs have pages of one size."""
_NO_COSTS = "link_over_pace", "send_buffer", "device_read", "device_load"
_FIRST_PASS = {"fresh_page": "s", "fresh_after": "B"}
_NOT_SEEN = {
    "bitmap_sync": "the runs have one size of RAM: what does not grow with it is part of bitmap_sync_per_gib",
    "zero_page": "no run has enough zero pages",
    "first pass": "no first pass is free of max-bandwidth, or on loopback traced",
}


@dataclass(frozen=True, eq=False)
class Calibration:
    """Costs of a host, fitted from measured runs.

    Attributes
    ----------
    costs : HostCosts
        What was fitted; a cost that no run shows keeps its default.
    parameters : DataFrame
        Indexed by parameter: ``value`` and ``standard_error`` in ``unit`` (missing error: one run), ``runs`` that show
        it, and ``note``: where the value comes from, or why it is assumed. Besides the costs, ``link_over_pace`` (what
        a paced link carries over the pace it is given), ``send_buffer``, ``device_read`` and
        ``device_load``.
    workloads : DataFrame
        Indexed by run: the region that the guest writes to (``start``, ``size``, bytes; ``pattern``),
        ``writes_per_s`` before the migration, ``standard_error`` of it over the repeats, and ``phase``: where a
        sequential writer stands when the migration begins, as a share of the region.
    runs : tuple of str
        The runs that were given.
    """

    costs: HostCosts
    parameters: pd.DataFrame
    workloads: pd.DataFrame
    runs: tuple[str, ...]

    @property
    def assumed(self) -> tuple[str, ...]:
        """Costs that no run shows: they have their defaults."""
        names = self.parameters.index[self.parameters["runs"] == 0]
        return tuple(name for name in names if name not in _NO_COSTS)

    def value(self, parameter: str, default: float) -> float:
        """A fitted value by the name of its parameter, `default` where no run shows it."""
        row = self.parameters.loc[parameter]
        return float(row["value"]) if row["runs"] else default

    def to_toml(self) -> str:
        """Write the costs as a scenario reads them, each with its standard error and where it comes from."""
        lines = [f"# Costs of a host, fitted by migkit calibrate to {len(self.runs)} runs."]
        lines += [f'name = "{self.costs.name}"'] if self.costs.name else []
        for name in _FITTED:
            row = self.parameters.loc[name]
            if not row["runs"]:
                note = f"assumed: {row['note']}"
            else:
                error = f"+- {_text(name, row['standard_error'])}, " if np.isfinite(row["standard_error"]) else ""
                note = f"{error}{row['runs']} runs"
            value = getattr(self.costs, name)
            text = f"{value}" if type(value) is float else f'"{value}"'
            lines.append(f"{name} = {text}  # {note}")
        return "\n".join(lines) + "\n"

    def summary(self) -> str:
        """Every parameter with its standard error, and what the runs cannot tell, as plain text."""
        lines = [f"{len(self.runs)} runs:"]
        for name, row in self.parameters[self.parameters["runs"] > 0].iterrows():
            error = _text(name, row["standard_error"]) if np.isfinite(row["standard_error"]) else "unknown"
            lines.append(
                f"  {name:22}{_text(name, row['value']):>14} +- {error:12}{row['runs']:>5} runs  {row['note']}"
            )
        rest = self.parameters[self.parameters["runs"] == 0]
        lines += [f"{name} is assumed: {row['note']}." for name, row in rest.iterrows()]
        return "\n".join(lines)


def rounded(value: float) -> float:
    """A fitted number with the digits that a fit knows.

    Examples
    --------
    >>> rounded(301070788.4932216)
    301100000.0
    """
    return float(f"{value:.{DIGITS}g}")


def _text(name: str, value: float) -> str:
    if name in ("fresh_after", "send_buffer"):
        return f"{value / MIB:.4g} MiB"
    if name in ("link_over_pace", "throttle_loss"):
        return f"{value:.4g}"
    return str(Seconds(float(f"{value:.3g}"))) + ("/MiB" if name == "device_read" else "")


def calibrate(
    runs: pd.DataFrame,
    path: str | os.PathLike[str] | None = None,
    name: str = "",
    like: Mapping[str, Any] | None = None,
) -> Calibration:
    """Fit the costs of a host, with uncertainties, from measured runs.

    Parameters
    ----------
    runs : DataFrame
        Rows of :func:`migkit.qemu.runs`: runs of one host. Those on a busy host, with multifd or with post-copy are
        left out.
    path : path, optional
        Where the traces are, as in :func:`migkit.qemu.runs`.
    name : str, default ""
        What results call the costs.
    like : mapping, optional
        What is to be predicted: ``accel`` (``"tcg"``, ``"kvm"``), ``load`` (``"quiet"``, ``"max"``), ``link``
        (``"paced"``, ``"loopback"``), ``devices`` (bool). A cost that depends on one of them is fitted from the runs
        that have it, if three show the cost.

    Returns
    -------
    Calibration

    Raises
    ------
    ScenarioError
        If no run is given, or none of them shows any cost.

    Examples
    --------
    >>> from migkit import qemu
    >>> found = qemu.calibrate(qemu.runs().query("campaign == '2026-11-26'"))
    >>> found.costs.page, found.assumed
    (2949 ns, ('bitmap_sync', 'zero_page'))
    """
    import pandas as pd

    if not len(runs):
        raise ScenarioError("is empty: give at least one measured run", "runs")
    like = dict(like or {})
    known = _known(folder_now(path))
    chosen = known.names.isin(runs.index)
    seen, steps = (each[chosen[each["run"]]] for each in (known.medians, known.steps))
    if not len(seen) and not len(steps) and not runs["traced"].any():
        raise ScenarioError("have no trace of the loop, which tells the costs: record them with migkit record --trace",
                            "runs")  # fmt: skip
    if not len(seen) and not len(steps):
        raise ScenarioError("hold nothing that is traced on a quiet host, so no cost can be computed", "runs")
    rows: dict[str, dict[str, Any]] = {}
    for parameter, source in SOURCES.items():
        shown = known.shown[parameter]
        rows[parameter] = _median(shown[chosen[shown["run"]]], source, like)
    _split_sync(rows, seen, like)
    share = rows["link_over_pace"]
    rows |= _first_pass(steps, share["value"] if share["runs"] else 1.0, like)
    rows["zero_page"] = _nothing("s", _NOT_SEEN["zero_page"])
    fitted: dict[str, Any] = {"name": name}
    for parameter in _FITTED:
        row = rows[parameter]
        default = HostCosts.model_fields[parameter].default
        if row["runs"]:
            fitted[parameter] = type(default)(rounded(row["value"]))
        else:
            row["value"] = float(default)
    order = [*_FITTED, *_NO_COSTS]
    parameters = pd.DataFrame([rows[parameter] for parameter in order], index=pd.Index(order, name="parameter"))
    return Calibration(HostCosts(**fitted), parameters, workloads(runs, path), tuple(map(str, runs.index)))


def uncalibrated(name: str = "") -> Calibration:
    """The default costs as a calibration: nothing of them was seen.

    Parameters
    ----------
    name : str, default ""
        What results call the costs.

    Returns
    -------
    Calibration

    Examples
    --------
    >>> found = uncalibrated()
    >>> found.costs == HostCosts(name=""), len(found.runs), "page" in found.assumed
    (True, 0, True)
    """
    import pandas as pd

    names = [parameter for parameter in HostCosts.model_fields if parameter != "name"] + list(_NO_COSTS)
    rows = []
    for parameter in names:
        default = HostCosts.model_fields[parameter].default if parameter in HostCosts.model_fields else np.nan
        unit = SOURCES[parameter].unit if parameter in SOURCES else _FIRST_PASS.get(parameter, "s")
        rows.append(_nothing(unit, "no run is given") | {"value": float(default)})
    parameters = pd.DataFrame(rows, index=pd.Index(names, name="parameter"))
    return Calibration(HostCosts(name=name), parameters, pd.DataFrame(), ())


def _nothing(unit: str, why: str) -> dict[str, Any]:
    return {"value": np.nan, "standard_error": np.nan, "unit": unit, "runs": 0, "note": why}


def _alike(rows: pd.DataFrame, columns: tuple[str, ...], like: Mapping[str, Any]) -> tuple[pd.DataFrame, str]:
    """The runs that are like the one wanted, if there are enough of them, and what they have in common."""
    names = [column for column in columns if column in like]
    while names:  # the last of them matters least
        same = rows[np.all([rows[name] == like[name] for name in names], axis=0)]
        if same["run"].nunique() >= LEAST_RUNS:
            words = [f"devices: {like[name]}" if name == "devices" else str(like[name]) for name in names]
            return same, ", ".join(words)
        names.pop()
    return rows, "all kinds of runs" if like and columns else ""


class _Known(NamedTuple):
    """What the runs of a folder show, each run by its number: a fit looks at it once a parameter."""

    names: pd.Index
    """Of the runs."""
    medians: pd.DataFrame
    """:func:`migkit.qemu.costs.run_medians`."""
    shown: Mapping[str, pd.DataFrame]
    """Of these, the rows that each of the :data:`SOURCES` wants."""
    steps: pd.DataFrame
    """:func:`migkit.qemu.costs.first_pass_steps`."""


@lru_cache(maxsize=4)
def _known(folder: Folder) -> _Known:
    names = table("runs", folder.path).set_index("run").index
    medians, steps = run_medians(folder.path), first_pass_steps(folder.path)
    medians["run"], steps["run"] = names.get_indexer(medians["run"]), names.get_indexer(steps["run"])
    shown = {
        parameter: medians[medians["cost"].isin(source.costs) & medians["case"].map(source.wanted).astype(bool)]
        for parameter, source in SOURCES.items()
    }
    return _Known(names, medians, shown, steps)


def _median(rows: pd.DataFrame, source: _Source, like: Mapping[str, Any]) -> dict[str, Any]:
    """The median over runs of what each of them shows."""
    if not len(rows):
        return _nothing(source.unit, source.missing)
    if source.shortest:
        cases = rows.groupby("case")["value"].agg(["median", "size"])
        enough = cases[cases["size"] >= LEAST_RUNS]
        rows = rows[rows["case"] == (enough if len(enough) else cases)["median"].idxmin()]
    rows, note = _alike(rows, source.alike, like)
    values = (rows.groupby("run")["value"].median().to_numpy() - source.less) * source.scale
    error = np.nan
    if len(values) > 1:
        deviation = np.median(np.abs(values - np.median(values))) / _OF_THE_NORMAL
        error = _OF_THE_MEDIAN * deviation / np.sqrt(len(values))
    value = min(max(float(np.median(values)), 0.0), source.most)
    return {"value": value, "standard_error": error, "unit": source.unit, "runs": len(values), "note": note}


def _split_sync(rows: dict[str, dict[str, Any]], seen: pd.DataFrame, like: Mapping[str, Any]) -> None:
    """Divide the cost of a sync into the part that grows with RAM and the rest, if the runs have sizes enough."""
    from scipy.optimize import nnls

    rows["bitmap_sync"] = _nothing("s", _NOT_SEEN["bitmap_sync"])
    of_loop = seen[(seen["cost"] == "sync") & ~seen["case"].str.contains(",")]
    of_loop, note = _alike(of_loop, ("accel", "load"), like)
    runs = of_loop.groupby("ram_mib")["run"].nunique()
    if (runs >= LEAST_RUNS).sum() < 2:
        return
    by_run = of_loop.groupby(["ram_mib", "run"])["value"].median().mul(1e-6).reset_index()
    design = np.column_stack([np.ones(len(by_run)), by_run["ram_mib"] / 1024])
    (fixed, per_gib), _ = nnls(design, by_run["value"].to_numpy())
    off = by_run["value"].to_numpy() - design @ (fixed, per_gib)
    inverse = np.linalg.inv(design.T @ design)
    covariance = inverse @ (design.T * off**2) @ design @ inverse
    for parameter, value, variance in zip(
        ("bitmap_sync", "bitmap_sync_per_gib"), (fixed, per_gib), np.diag(covariance), strict=True
    ):
        rows[parameter] = {
            "value": value, "standard_error": np.sqrt(variance), "unit": "s", "runs": len(by_run), "note": note,
        }  # fmt: skip


def _first_pass(steps: pd.DataFrame, link_over_pace: float, like: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Fit what a page needs beyond its bytes when the destination writes it for the first time, and from where on.

    The runs of one kind of link are used: paced ones where there are any, since on loopback the wire takes no time and
    the whole of a page's time is found. A piece of the first pass takes ``pages * wire + late * fresh_page`` with the
    pages that lie behind ``fresh_after``. Least squares over the pieces, which follow the mean: slow and ordinary
    windows alternate, and a median would leave out the slow ones.
    """
    link = like.get("link", "paced")
    runs = steps.groupby("link")["run"].nunique()
    if runs.get(link, 0) < min(LEAST_RUNS, runs.max() if len(runs) else 0):
        link = str(runs.idxmax())
    of_link = steps[steps["link"] == link]
    if not len(of_link):
        return {name: _nothing(unit, _NOT_SEEN["first pass"]) for name, unit in _FIRST_PASS.items()}
    ram = of_link["ram_pages"].mode()[0]  # other sizes of RAM take other memory of the host
    of_link = of_link[of_link["ram_pages"] == ram]
    fit = _fitted_first_pass(of_link, float(ram), link_over_pace if link == "paced" else None)
    note = f"{link} runs with {ram * PAGE_BYTES // MIB} MiB of RAM"
    return {
        name: {"value": value, "standard_error": error, "unit": unit, "runs": of_link["run"].nunique(), "note": note}
        for (name, unit), value, error in zip(_FIRST_PASS.items(), *fit, strict=True)
    }


def _fitted_first_pass(
    steps: pd.DataFrame, ram: float, link_over_pace: float | None
) -> tuple[tuple[float, float], tuple[float, float]]:
    """``fresh_page`` (seconds) and ``fresh_after`` (bytes), and their standard errors.

    A paced link carries `link_over_pace` of its pace; the time of a page on loopback (None) is fitted too.
    """
    from scipy.optimize import least_squares, nnls

    begin, pages, us = (steps[name].to_numpy(float) for name in ("begin_pages", "pages", "us"))
    known = np.zeros(len(us))
    if link_over_pace is not None:
        wire = NORMAL_PAGE_WIRE_BYTES / (steps["link_mib_s"].to_numpy(float) * MIB * link_over_pace) * 1e6
        known = pages * wire

    def design(after: float) -> np.ndarray:
        late = np.clip(begin + pages - after, 0.0, pages)
        # On loopback the pages behind take their whole time, not something on top of the thread's.
        return late[:, None] if link_over_pace is not None else np.column_stack([late, pages - late])

    def off(x: np.ndarray) -> np.ndarray:
        return design(x[0] * ram) @ x[1:] + known - us

    tried = [(*nnls(design(share * ram), np.maximum(us - known, 0)), share) for share in np.linspace(0, 0.95, 39)]
    best = min(([share, *found] for found, _, share in tried), key=lambda x: float(np.sum(off(np.array(x)) ** 2)))
    start = np.clip(best, 1e-6, [0.97, *[np.inf] * (len(best) - 1)])
    found = least_squares(off, start, bounds=([0.0] * len(best), [0.98, *[np.inf] * (len(best) - 1)]), x_scale="jac")
    # The pieces of a run are slow together: errors are summed over runs first.
    inverse = np.linalg.pinv(found.jac.T @ found.jac)
    by_run = [found.jac[rows].T @ found.fun[rows] for rows in steps.groupby("run").indices.values()]
    errors = np.sqrt(np.diag(inverse @ sum(np.outer(each, each) for each in by_run) @ inverse))
    if len(by_run) < 2:
        errors[:] = np.nan
    bytes_of_ram = ram * PAGE_BYTES
    after = round(found.x[0] * ram) * PAGE_BYTES
    return (found.x[1] * 1e-6, after), (errors[1] * 1e-6, errors[0] * bytes_of_ram)


def workloads(runs: pd.DataFrame, path: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """What the guests of measured runs wrote, as far as the runs say it.

    Parameters
    ----------
    runs : DataFrame
        Rows of :func:`migkit.qemu.runs`.
    path : path, optional
        As in :func:`migkit.qemu.runs`.

    Returns
    -------
    DataFrame
        :attr:`Calibration.workloads`.

    Examples
    --------
    >>> from migkit import qemu
    >>> from migkit.qemu.calibration import workloads
    >>> row = workloads(qemu.runs().query("name == 'bw128_rand_r050' and build == 'unser'")).iloc[0]
    >>> row["pattern"], round(row["writes_per_s"]), int(row["size"]) // 2**20
    ('uniform', 16379, 128)
    """
    import pandas as pd

    rates = runs["pre_writes_s"]
    repeats = rates.groupby([runs[name] for name in ("group", "name", "build", "accel")])
    start = table("guest_writes", path).query("when == 'start'").set_index("run").reindex(runs.index)
    position = (start["writes"] - rates * start["t_ms"] * 1e-3) % runs["ws_pages"] / runs["ws_pages"]
    return pd.DataFrame(
        {
            "start": runs["region_start_bytes"],
            "size": runs["ws_pages"] * PAGE_BYTES,
            "pattern": runs["mode"].map({"rand": "uniform", "seq": "sequential"}),
            "writes_per_s": rates,
            "standard_error": repeats.transform("std") / np.sqrt(repeats.transform("count")),
            "phase": position.where(runs["mode"] == "seq"),
        }
    )


__all__ = ["Calibration", "calibrate", "uncalibrated", "workloads"]
