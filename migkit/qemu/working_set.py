"""Fit what a guest writes to how much it dirtied in windows of several lengths.

A guest that writes ``r`` bytes per second, page by page, at random into a working set of ``W`` bytes has dirtied
``W (1 - exp(-r t / W))`` after ``t`` seconds (QEMU commit 34a68001f1); one that goes round and round,
``min(W, r t)``. A guest may have a hot and a colder set. Which of the three holds, the sizes, the rates, and how
unsteady the guest is, are drawn from their posterior by sequential Monte Carlo (N. Chopin, Biometrika 89, 2002), with
priors that are flat in the logarithms. What the windows cannot tell stays as wide in the draws as it was before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from migkit.results import bytes_text
from migkit.scenario.errors import ScenarioError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DirtyVolumes", "WorkingSet", "fit_working_set"]

PAGE = 4096
FASTEST = 20e9
"""Bytes per second, page writes times the page size: no guest is taken to write faster."""
UNSTEADINESS = 0.01, 0.5
"""Range of the relative deviation of a window that sampling does not explain."""
PARTICLES, STAGES, MOVES = 1500, 60, 5
KINDS = "uniform", "sequential", "hot and cold"
"""What the guest is taken to be: one set written at random, one in order, or two sets written at random."""
_SEEN = 0.1
"""Share of the volume that the hot set has at least in the shortest window, and the colder one in the longest."""
_OFF = 1e-3
"""Half the width of a measured volume, relative, where it was not rounded."""


@dataclass(frozen=True, eq=False)
class DirtyVolumes:
    """How much a guest dirtied in some windows.

    Attributes
    ----------
    window_s : array (n, k)
        Lengths of the windows, seconds; a volume may be the sum of those of several, each counted anew, and a row ends
        with zeroes where it has fewer.
    low_bytes, high_bytes : array
        The volume dirtied in it, or in them, lies between these.
    sampled_pages : array
        Pages on which the volume was estimated; infinite if all were counted.
    """

    window_s: np.ndarray
    low_bytes: np.ndarray
    high_bytes: np.ndarray
    sampled_pages: np.ndarray

    @classmethod
    def of_rates(
        cls, window_s: Any, rate_bytes_per_s: Any, sampled_pages: Any = np.inf, step: float = 0.0
    ) -> DirtyVolumes:
        """Volumes of measured dirty rates.

        Parameters
        ----------
        window_s, rate_bytes_per_s : array
            Windows and rates.
        sampled_pages : float or array, default infinite
            Pages on which a rate was estimated.
        step : float, default 0
            Rates were rounded down to multiples of this, bytes per second; 0: they were not rounded.

        Raises
        ------
        ScenarioError
            If there is no window, or a value is out of its range.

        Examples
        --------
        >>> DirtyVolumes.of_rates([1.0, 2.0], [3e6, 2e6], step=1e6).high_bytes.tolist()
        [4000000.0, 6000000.0]
        """
        window, rate, sampled = np.broadcast_arrays(
            np.asarray(window_s, float), np.asarray(rate_bytes_per_s, float), np.asarray(sampled_pages, float)
        )
        if window.ndim != 1 or not len(window):
            raise ScenarioError("must be at least one time", "window_s", window_s)
        for name, values, fine in (
            ("window_s", window, window > 0),
            ("rate_bytes_per_s", rate, (rate >= 0) & np.isfinite(rate)),
            ("sampled_pages", sampled, sampled > 0),
        ):
            if not np.all(fine):
                raise ScenarioError("is not a number in its range", name, float(values[~fine][0]))
        if step:
            low, high = np.where(rate < step / 2, -np.inf, rate), rate + step
        else:
            low, high = np.where(rate > 0, rate * (1 - _OFF), -np.inf), np.maximum(rate * (1 + _OFF), PAGE / window)
        return cls(window[:, None], low * window, high * window, sampled)

    @classmethod
    def together(cls, parts: Sequence[DirtyVolumes]) -> DirtyVolumes:
        """All windows of several."""
        most = max(part.window_s.shape[1] for part in parts)
        windows = [np.pad(part.window_s, ((0, 0), (0, most - part.window_s.shape[1]))) for part in parts]
        rest = [np.concatenate([getattr(part, name) for part in parts])
                for name in ("low_bytes", "high_bytes", "sampled_pages")]  # fmt: skip
        return cls(np.concatenate(windows), *rest)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.window_s)


@dataclass(frozen=True, eq=False)
class WorkingSet:
    """What a guest writes, as draws from what the windows leave open.

    Attributes
    ----------
    draws : DataFrame
        One row a draw, all equally probable: ``kind`` (of `KINDS`), ``size_bytes`` and ``rate_bytes_per_s`` of the set,
        ``cold_bytes`` and ``cold_rate_bytes_per_s`` of the colder one (0 without), ``unsteadiness``.
    kinds : dict
        Probability of each kind.
    windows : DataFrame
        One row a volume: ``window_s`` (the longest of it), ``measured_bytes``, ``fitted_bytes`` (median of the draws),
        ``off``: how far that is outside of what was measured, relative.
    ram_bytes : int
        RAM of the guest.
    """

    draws: pd.DataFrame
    kinds: dict[str, float]
    windows: pd.DataFrame
    ram_bytes: int

    def dirty_bytes(self, window_s: float) -> np.ndarray:
        """Bytes that the guest dirties in a window, by draw.

        Examples
        --------
        >>> fit = fit_working_set(DirtyVolumes.of_rates([1.0, 2.0, 4.0], [60e6, 40e6, 24e6]), 2**30)
        >>> bool(55e6 < np.median(fit.dirty_bytes(1.0)) < 65e6)
        True
        """
        table = self.draws
        sequential = (table["kind"] == "sequential").to_numpy()
        hot = _volume(table["size_bytes"].to_numpy(), table["rate_bytes_per_s"].to_numpy(), window_s, sequential)
        return hot + _volume(table["cold_bytes"].to_numpy(), table["cold_rate_bytes_per_s"].to_numpy(), window_s, False)

    def of(self, numbers: Any) -> WorkingSet:
        """The same with some of the draws, one or several times each."""
        table = self.draws.iloc[numbers].reset_index(drop=True)
        shares = {kind: float((table["kind"] == kind).mean()) for kind in KINDS}
        return WorkingSet(table, shares, self.windows, self.ram_bytes)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What the windows cannot tell, a sentence each."""
        found = []
        kind = max(self.kinds, key=lambda name: self.kinds[name])
        same = self.draws[self.draws["kind"] == kind]
        size, rate = same["size_bytes"] + same["cold_bytes"], same["rate_bytes_per_s"]
        longest = bytes_text(float(np.median(self.dirty_bytes(float(self.windows["window_s"].max())))))
        if _ratio(size) > 3.0:
            found.append(
                f"the size of the working set: {longest} are dirty after the longest window, longer ones may show more"
            )
        if _ratio(rate) > 3.0:
            found.append("how fast it writes to pages that are dirty already: shorter windows would show it")
        if max(self.kinds.values()) < 0.9:
            shares = ", ".join(f"{kind} {share:.0%}" for kind, share in self.kinds.items() if share >= 0.01)
            found.append(f"how it writes ({shares})")
        return tuple(found)

    def summary(self) -> str:
        """The fit in a few lines: sizes and rates with the middle 90 %, and how well it fits."""
        kind = max(self.kinds, key=lambda name: self.kinds[name])
        same = self.draws[self.draws["kind"] == kind]
        lines = [f"{kind}, probability {self.kinds[kind]:.2f}; middle 90 % of the draws:"]
        for name, label in (("size", "working set"), ("cold", "cold set"))[: 1 + (kind == KINDS[2])]:
            sizes = [bytes_text(value) for value in _middle(same[f"{name}_bytes"])]
            column = "rate_bytes_per_s" if name == "size" else "cold_rate_bytes_per_s"
            rates = [f"{float(f'{value / 1e6:.3g}'):.10g} MB/s" for value in _middle(same[column])]
            lines.append(f"  {label:12}{sizes[1]} ({sizes[0]} to {sizes[2]}), written at {rates[1]} "
                         f"({rates[0]} to {rates[2]})")  # fmt: skip
        off = float(np.sqrt(np.mean(self.windows["off"] ** 2)))
        lines.append(f"  fit         {off:.1%} off in the root mean square of {len(self.windows)} windows")
        return "\n".join(lines)


def _middle(values: Any) -> np.ndarray:
    return np.quantile(np.asarray(values, float), [0.05, 0.5, 0.95])


def _ratio(values: Any) -> float:
    low, _, high = _middle(values)
    return float(high / max(low, 1.0))


def _volume(size: Any, rate: Any, window_s: Any, sequential: Any) -> np.ndarray:
    """Bytes dirtied in a window; 0 where nothing is written."""
    written = rate * window_s
    with np.errstate(divide="ignore", invalid="ignore"):
        uniform = -size * np.expm1(-written / size)
    return np.where(size > 0, np.where(sequential, np.minimum(written, size), uniform), 0.0)


class _Model:
    """One kind of guest: its parameters are natural logarithms, flat within a box and a rule."""

    def __init__(self, kind: str, volumes: DirtyVolumes, ram_bytes: int) -> None:
        self.kind, self.volumes, self.ram = kind, volumes, float(ram_bytes)
        slowest = PAGE / float(volumes.window_s.max()) / 10
        one = [(PAGE, self.ram - 2 * PAGE), (slowest, FASTEST)]
        sets = 2 if kind == KINDS[2] else 1
        self.low, self.high = np.log(np.array([*one * sets, UNSTEADINESS])).T

    def volume(self, x: np.ndarray) -> np.ndarray:
        """Volume of each window (columns) for each row of `x`."""
        given, window = np.exp(x)[:, :, None, None], self.volumes.window_s
        total = _volume(given[:, 0], given[:, 1], window, self.kind == "sequential")
        if self.kind == KINDS[2]:
            total = total + _volume(given[:, 2], given[:, 3], window, False)
        return total.sum(axis=-1)

    def log_likelihood(self, x: np.ndarray) -> np.ndarray:
        """Of the windows: the volume is normal, with the spread of the sample and the unsteadiness of the guest."""
        from scipy.special import log_ndtr

        seen, volume = self.volumes, self.volume(x)
        share = np.clip(volume / self.ram, 0.5 / seen.sampled_pages, 1 - 0.5 / seen.sampled_pages)
        of_sample = self.ram**2 * share * (1 - share) / seen.sampled_pages
        spread = np.sqrt(of_sample + (np.exp(x[:, -1:]) * volume) ** 2 + (PAGE / 2) ** 2)
        low, high = (seen.low_bytes - volume) / spread, (seen.high_bytes - volume) / spread
        low, high = np.where(low > 0, -high, low), np.where(low > 0, -low, high)  # the tail that is not rounded to 1
        upper, lower = log_ndtr(high), log_ndtr(low)
        return np.sum(upper + np.log1p(-np.exp(np.minimum(lower - upper, -1e-12))), axis=1)

    def allowed(self, x: np.ndarray) -> np.ndarray:
        """Whether the parameters are in their box, fit into RAM, and the first set is the hotter one."""
        inside = np.all((x >= self.low) & (x <= self.high), axis=1)
        if self.kind == KINDS[2]:
            inside &= np.exp(x[:, 0]) + np.exp(x[:, 2]) <= self.ram - 2 * PAGE
            inside &= x[:, 1] - x[:, 0] > x[:, 3] - x[:, 2]
            # Without this it is one of the other kinds, with a set that nobody can see.
            size, rate, colder, slower = np.exp(x[:, :4]).T
            window = self.volumes.window_s[self.volumes.window_s > 0]
            for at, least in ((window.min(), 0), (window.max(), 1)):
                both = _volume(size, rate, at, False), _volume(colder, slower, at, False)
                inside &= both[least] >= _SEEN * (both[0] + both[1])
        return inside

    def prior(self, rng: np.random.Generator) -> np.ndarray:
        """Draws of the prior."""
        found = np.empty((0, len(self.low)))
        while len(found) < PARTICLES:
            x = rng.uniform(self.low, self.high, (2 * PARTICLES, len(self.low)))
            found = np.concatenate([found, x[self.allowed(x)]])
        return found[:PARTICLES]

    def posterior(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Draws of the posterior, equally probable, and the logarithm of the evidence."""
        x, exponent, evidence = self.prior(rng), 0.0, 0.0
        fits = self.log_likelihood(x)
        for _ in range(STAGES):
            step = _step(fits, 1.0 - exponent)
            weights = np.exp(step * (fits - fits.max()))
            evidence += float(np.log(weights.mean()) + step * fits.max())
            exponent += step
            chosen = _resampled(weights, rng)
            x, fits = x[chosen], fits[chosen]
            scale = 2.38 / np.sqrt(x.shape[1])
            for move in range(MOVES):
                factor = np.linalg.cholesky(np.cov(x.T) + 1e-12 * np.eye(x.shape[1]))
                moved = x + scale * 0.5 ** (move % 3) * rng.standard_normal(x.shape) @ factor.T
                inside = self.allowed(moved)
                there = np.full(len(x), -np.inf)
                there[inside] = self.log_likelihood(moved[inside])
                taken = np.log(rng.random(len(x))) < exponent * (there - fits)
                x[taken], fits[taken] = moved[taken], there[taken]
            if exponent >= 1.0:
                break
        return x, evidence


def _step(fits: np.ndarray, most: float) -> float:
    """The largest step of the exponent of the likelihood that leaves half of the draws effective."""
    from scipy.optimize import brentq

    def excess(step: float) -> float:
        weights = np.exp(step * (fits - fits.max()))
        return float(weights.sum() ** 2 / np.sum(weights**2) / len(fits) - 0.5)

    return most if excess(most) >= 0 else float(brentq(excess, 0.0, most))


def _resampled(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Systematic resampling: which draws go on, as often as their weight says."""
    edges = np.cumsum(weights) / weights.sum()
    places = (rng.random() + np.arange(len(weights))) / len(weights)
    return np.minimum(np.searchsorted(edges, places), len(weights) - 1)


def fit_working_set(volumes: DirtyVolumes, ram_bytes: int, draws: int = 200, seed: int = 0) -> WorkingSet:
    """Fit a working set, or a hot and a colder one, to dirty volumes.

    Parameters
    ----------
    volumes : DirtyVolumes
        At least one window; windows of several lengths tell size and rate apart.
    ram_bytes : int
        RAM of the guest, at least 64 KiB.
    draws : int, default 200
        Draws to return, 1 to 1000.
    seed : int, default 0
        Of the draws.

    Returns
    -------
    WorkingSet

    Raises
    ------
    ScenarioError
        If an argument is out of its range.

    Examples
    --------
    >>> volumes = DirtyVolumes.of_rates([0.2, 1.0, 5.0], [95e6, 78e6, 25e6], sampled_pages=8192, step=2**20)
    >>> fit = fit_working_set(volumes, 2**30)
    >>> bool(100e6 < fit.draws["size_bytes"].median() < 200e6)
    True
    """
    import pandas as pd

    if ram_bytes < 16 * PAGE:
        raise ScenarioError("must be at least 64 KiB", "ram_bytes", ram_bytes)
    if not 1 <= draws <= 1000:
        raise ScenarioError("must be a whole number from 1 to 1000", "draws", draws)
    rng = np.random.default_rng(seed)
    found = [_Model(kind, volumes, ram_bytes).posterior(rng) for kind in KINDS]
    evidence = np.array([each for _, each in found])
    shares = np.exp(evidence - evidence.max()) / np.exp(evidence - evidence.max()).sum()
    counts = np.bincount(np.searchsorted(np.cumsum(shares), (rng.random() + np.arange(draws)) / draws).clip(max=2),
                         minlength=len(KINDS))  # fmt: skip
    tables = []
    for kind, (x, _), count in zip(KINDS, found, counts, strict=True):
        values = np.exp(x[rng.choice(len(x), count, replace=False)])
        cold = values[:, 2:4] if kind == KINDS[2] else np.zeros((count, 2))
        columns = {"size_bytes": values[:, 0], "rate_bytes_per_s": values[:, 1], "cold_bytes": cold[:, 0],
                   "cold_rate_bytes_per_s": cold[:, 1], "unsteadiness": values[:, -1]}  # fmt: skip
        tables.append(pd.DataFrame({"kind": [kind] * count} | columns))
    table = pd.concat([each for each in tables if len(each)], ignore_index=True)
    fit = WorkingSet(table, dict(zip(KINDS, shares.tolist(), strict=True)), pd.DataFrame(), int(ram_bytes))
    low, high = np.maximum(volumes.low_bytes, 0.0), volumes.high_bytes
    measured = (low + high) / 2
    fitted = np.array([np.median(sum(fit.dirty_bytes(part) for part in parts)) for parts in volumes.window_s])
    off = (fitted - np.clip(fitted, low, high)) / measured
    windows = {"window_s": volumes.window_s.max(axis=1), "measured_bytes": measured, "fitted_bytes": fitted, "off": off}
    return WorkingSet(table, fit.kinds, pd.DataFrame(windows), int(ram_bytes))
