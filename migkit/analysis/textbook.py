"""Published formulas of live migration, one function each, to compare with the simulation.

None of them knows QEMU's loop: its rate-limit windows, its lazy clear of the dirty bitmap, its devices. What they take
is in SI units; a rate is bytes per second. Arguments broadcast as NumPy does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from migkit.scenario.errors import ScenarioError

__all__ = [
    "Precopy",
    "cloud_hypervisor_precopy",
    "cloudsim_time",
    "dirty_volume",
    "dissect_dirtied",
    "geometric_precopy",
    "interpolated_dirty_pages",
    "kubevirt_downtime_limits",
    "kubevirt_stalled",
    "nova_downtime_limits",
    "predicted_total_time",
    "uniform_precopy",
    "uniform_remainder",
]

PAGE_SIZE = 4096
"""Bytes of a page where a formula needs one and none is given."""
_MOST_ROUNDS = 10_000
_MOST_UNIFORM_ROUNDS = 1_000_000


class Precopy(NamedTuple):
    """What a formula says of a migration, numbers or arrays; infinite where it never ends.

    Examples
    --------
    >>> geometric_precopy(4e9, 0.5e9, 1e9, 0.3e9).rounds
    array(4.)
    """

    rounds: Any
    """Rounds after the first, a count."""
    sent_bytes: Any
    """Bytes of all rounds, the last one included."""
    total_time_s: Any
    """Seconds until the last byte is sent."""
    downtime_s: Any
    """Seconds that the last round and the resume take."""


def geometric_precopy(
    memory_bytes: Any,
    dirty_bytes_per_s: Any,
    bandwidth_bytes_per_s: Any,
    threshold_bytes: Any,
    resume_s: Any = 0.0,
) -> Precopy:
    r"""Pre-copy as a geometric series: a guest that dirties new bytes at a constant rate.

    With :math:`\lambda = D / B` round :math:`i` sends :math:`V_i = M \lambda^i`, the rounds end at the first
    :math:`n` with :math:`V_n \le V_{th}`, so :math:`n = \lceil \log_\lambda(V_{th} / M) \rceil`; together they send
    :math:`M (1 - \lambda^{n+1}) / (1 - \lambda)`, and the downtime is :math:`V_n / B + T_r`.

    Parameters
    ----------
    memory_bytes : float or array
        M, above 0.
    dirty_bytes_per_s : float or array
        D, 0 or more.
    bandwidth_bytes_per_s : float or array
        B, above 0.
    threshold_bytes : float or array
        Left bytes that fit the downtime, above 0; with a downtime limit d it is B d.
    resume_s : float or array, default 0
        Time to switch over and resume, 0 or more.

    Returns
    -------
    Precopy
        Infinite where the guest dirties at least as fast as the link sends and does not fit the threshold at once. The
        total time is without `resume_s`, as published.

    Raises
    ------
    ScenarioError
        If an argument is out of its range.

    Notes
    -----
    H. Liu, C.-Z. Xu, H. Jin, J. Gong, X. Liao: Performance and energy modeling for live migration of virtual machines,
    HPDC 2011, the model with a constant dirty rate. The same series is behind the time-outs of KubeVirt's
    proposal VEP 248 (2026). The formula was taken from texts that cite the paper.

    Examples
    --------
    >>> series = geometric_precopy(4e9, 0.5e9, 1e9, 0.3e9)
    >>> float(series.total_time_s), float(series.downtime_s)
    (7.75, 0.25)
    """
    memory, bandwidth = _above_0("memory_bytes", memory_bytes), _above_0("bandwidth_bytes_per_s", bandwidth_bytes_per_s)
    threshold = _above_0("threshold_bytes", threshold_bytes)
    resume, dirty = _not_below_0("resume_s", resume_s), _not_below_0("dirty_bytes_per_s", dirty_bytes_per_s)
    memory, share, threshold, bandwidth, resume = np.broadcast_arrays(
        memory, dirty / bandwidth, threshold, bandwidth, resume
    )
    fits = memory <= threshold
    shrinks = (share > 0.0) & (share < 1.0)
    usual = np.where(shrinks, share, 0.5)
    rounds = np.ceil(np.log(np.where(fits, 1.0, threshold / memory)) / np.log(usual))
    # the logarithms may round an exact number of rounds up
    rounds = np.where((rounds > 0) & (memory * usual ** (rounds - 1) <= threshold), rounds - 1, rounds)
    sent = memory * (1.0 - usual ** (rounds + 1)) / (1.0 - usual)
    last = memory * usual**rounds
    # without writes nothing is left after the first round
    rounds = np.select([fits, share == 0.0, shrinks], [0.0, 1.0, rounds], np.inf)
    sent = np.select([fits | (share == 0.0), shrinks], [memory, sent], np.inf)
    last = np.select([fits, share == 0.0, shrinks], [memory, 0.0, last], np.inf)
    return Precopy(rounds, sent, sent / bandwidth, last / bandwidth + resume)


def dirty_volume(memory_bytes: Any, writes_per_s: Any, window_s: Any, page_size: Any = PAGE_SIZE) -> Any:
    r"""Bytes that random writes dirty in a window: :math:`M (1 - (1 - P / M)^{w t})`.

    The expected number of distinct pages that :math:`w t` writes hit, each at a page drawn uniformly: a page counts
    once however often it is written. What ``calc-dirty-rate`` reports is this volume over the window.

    Parameters
    ----------
    memory_bytes : float or array
        M, the memory that is written, at least a page.
    writes_per_s : float or array
        w, page writes per second, 0 or more.
    window_s : float or array
        t, seconds, 0 or more.
    page_size : float or array, default 4096
        P, bytes, above 0.

    Returns
    -------
    float or array
        Bytes.

    Raises
    ------
    ScenarioError
        If an argument is out of its range.

    Notes
    -----
    QEMU commit 34a68001f1 (September 2023), the message and the description of ``calc-dirty-rate`` in
    ``qapi/migration.json``. Its table of 27 rows is reproduced within 0.5 %.

    Examples
    --------
    >>> volume = dirty_volume(4 * 2**30, 3e6, 1.0)
    >>> round(float(volume) / 2**20)  # MiB; the published row says 3865
    3862
    """
    memory, page = _above_0("memory_bytes", memory_bytes), _above_0("page_size", page_size)
    writes, window = _not_below_0("writes_per_s", writes_per_s), _not_below_0("window_s", window_s)
    if np.any(memory < page):
        raise ScenarioError("must be at least page_size", "memory_bytes", _first(memory, memory < page))
    with np.errstate(divide="ignore", invalid="ignore"):  # a memory of one page: log 0
        missed = np.exp(writes * window * np.log1p(-page / memory))
    return memory * (1.0 - np.where(writes * window == 0.0, 1.0, missed))


def uniform_precopy(
    memory_bytes: float, dirty_bytes_per_s: float, bandwidth_bytes_per_s: float, threshold_bytes: float
) -> Precopy:
    r"""Pre-copy of a guest that writes pages at random: :math:`V_{i+1} = M (1 - e^{-\lambda V_i / M})`.

    Each round dirties what :func:`dirty_volume` says for its duration, in the limit of small pages; the rounds end at
    the first that fits the threshold.

    Parameters
    ----------
    memory_bytes : float
        M, the memory that is written and sent, above 0.
    dirty_bytes_per_s : float
        D, page writes per second times the page size, 0 or more.
    bandwidth_bytes_per_s : float
        B, above 0.
    threshold_bytes : float
        Above 0.

    Returns
    -------
    Precopy
        Infinite where what is left settles above the threshold (:func:`uniform_remainder`), or takes more than a
        million rounds.

    Raises
    ------
    ScenarioError
        If an argument is out of its range.

    Notes
    -----
    The rounds of :func:`geometric_precopy` with the volume of QEMU commit 34a68001f1.

    Examples
    --------
    >>> rounds = uniform_precopy(4 * 2**30, 0.5e9, 1e9, 0.3e9)
    >>> round(float(rounds.total_time_s), 2), round(float(rounds.downtime_s), 2)
    (7.3, 0.18)
    """
    memory = float(_above_0("memory_bytes", memory_bytes))
    bandwidth = float(_above_0("bandwidth_bytes_per_s", bandwidth_bytes_per_s))
    threshold = float(_above_0("threshold_bytes", threshold_bytes))
    ratio = float(_not_below_0("dirty_bytes_per_s", dirty_bytes_per_s)) / bandwidth
    if float(uniform_remainder(ratio)) * memory > threshold:
        return Precopy(np.inf, np.inf, np.inf, np.inf)
    volume = sent = memory
    rounds = 0
    while volume > threshold:
        following = -memory * float(np.expm1(-ratio * volume / memory))
        # at a ratio near 1 the volumes fall as slowly as one likes
        if not following < volume or rounds >= _MOST_UNIFORM_ROUNDS:
            return Precopy(np.inf, np.inf, np.inf, np.inf)
        volume, sent, rounds = following, sent + following, rounds + 1
    return Precopy(float(rounds), sent, sent / bandwidth, volume / bandwidth)


def cloud_hypervisor_precopy(
    memory_bytes: float,
    written_bytes: float,
    dirty_bytes_per_s: float,
    bandwidth_bytes_per_s: float,
    downtime_s: float = 0.3,
    timeout_s: float = 3600.0,
    timeout_strategy: str = "cancel",
) -> Precopy:
    r"""Pre-copy of cloud-hypervisor, whose loop has no windows, no threshold for devices and no throttle.

    It sends all memory, then takes the dirty log before each iteration: :math:`V_{i+1} = W (1 - e^{-D t_i / W})`, with
    :math:`t_i` the time of the iteration before. It pauses the guest where nothing is dirty, or where :math:`V / B`
    is no more than the downtime, with B the bandwidth of the iteration before, and sends V.

    Parameters
    ----------
    memory_bytes : float
        M, what the first iteration sends, above 0.
    written_bytes : float
        W, memory that the guest writes at random, above 0 and no more than M.
    dirty_bytes_per_s : float
        D, page writes per second times the page size, 0 or more.
    bandwidth_bytes_per_s : float
        B, above 0.
    downtime_s : float, default 0.3
        ``downtime_ms`` / 1000, seconds, above 0.
    timeout_s : float, default 3600
        ``timeout_s``, seconds since the start, above 0; asked before each iteration, so that one may go beyond it.
    timeout_strategy : {"cancel", "ignore"}, default "cancel"
        What follows: the migration fails, or the guest is paused whatever is left.

    Returns
    -------
    Precopy
        Infinite where it is cancelled.

    Raises
    ------
    ScenarioError
        If an argument is out of its range.

    Notes
    -----
    cloud-hypervisor of 2026, ``vm.send-migration`` with its ``downtime_ms`` and ``timeout_s``. Writes are drawn as in
    :func:`dirty_volume`, in the limit of small pages; the time between iterations and devices are left out.

    Examples
    --------
    >>> rounds = cloud_hypervisor_precopy(4e9, 4e9, 0.5e9, 1e9)
    >>> int(rounds.rounds), round(float(rounds.downtime_s), 2)
    (4, 0.17)
    """
    memory = float(_above_0("memory_bytes", memory_bytes))
    written = float(_above_0("written_bytes", written_bytes))
    if written > memory:
        raise ScenarioError("must be no more than memory_bytes", "written_bytes", written_bytes)
    bandwidth = float(_above_0("bandwidth_bytes_per_s", bandwidth_bytes_per_s))
    dirty = float(_not_below_0("dirty_bytes_per_s", dirty_bytes_per_s))
    most = float(_above_0("downtime_s", downtime_s)) * bandwidth
    timeout = float(_above_0("timeout_s", timeout_s))
    if timeout_strategy not in ("cancel", "ignore"):
        raise ScenarioError('must be "cancel" or "ignore"', "timeout_strategy", timeout_strategy)
    sent = volume = memory
    rounds = 0
    while rounds < _MOST_UNIFORM_ROUNDS:
        before = volume
        volume = -written * float(np.expm1(-dirty * volume / bandwidth / written))
        rounds += 1
        late = sent / bandwidth >= timeout
        if late and volume > most and timeout_strategy == "cancel":
            break
        if volume <= most or late:
            return Precopy(float(rounds), sent + volume, (sent + volume) / bandwidth, volume / bandwidth)
        sent += volume
        if volume == before:  # settled: the same iteration until the time is up
            again = max(0.0, np.ceil((timeout - sent / bandwidth) / (volume / bandwidth)))
            rounds, sent = rounds + int(again), sent + again * volume
    return Precopy(np.inf, np.inf, np.inf, np.inf)


def uniform_remainder(ratio: Any) -> Any:
    r"""Share of memory that random writes leave after any number of rounds: :math:`x = 1 - e^{-\lambda x}`.

    Parameters
    ----------
    ratio : float or array
        :math:`\lambda`, dirty rate over bandwidth, 0 or more.

    Returns
    -------
    float or array
        From 0 to 1; 0 for every ratio up to 1: random writes converge as long as the link is not slower.

    Raises
    ------
    ScenarioError
        If `ratio` is below 0.

    Notes
    -----
    The fixed point of the volume of QEMU commit 34a68001f1; solved with Lambert's W.

    Examples
    --------
    >>> round(float(uniform_remainder(1.5)), 3)
    0.583
    """
    from scipy.special import lambertw

    above = np.maximum(_not_below_0("ratio", ratio), 1.0)
    with np.errstate(under="ignore"):
        left = 1.0 + lambertw(-above * np.exp(-above)).real / above
    return np.where(above > 1.0, np.clip(left, 0.0, 1.0), 0.0)  # W is not finite at the branch point, a ratio of 1


def interpolated_dirty_pages(window_s: Any, period_s: Any, dirty_pages: Any, most_pages: Any = np.inf) -> Any:
    """Dirty pages after a window, by lines through what ``calc-dirty-rate`` measured at several periods.

    Parameters
    ----------
    window_s : float or array
        Seconds, 0 or more.
    period_s : array
        Measured periods, seconds, ascending; two or more.
    dirty_pages : array
        Dirty pages at each period.
    most_pages : float, default infinite
        Pages that can be dirty.

    Returns
    -------
    float or array
        Pages, from 0 to `most_pages`. Left of the first period it is on the line through the first two points, right
        of the last on the line through the last two.

    Raises
    ------
    ScenarioError
        If there are not two ascending periods, or not one number of pages for each.

    Notes
    -----
    A. Gudkov: ``predict_migration.py``, qemu-devel, 27 April 2023 (cover.1682598010), not merged.

    Examples
    --------
    >>> float(interpolated_dirty_pages(1.5, [1.0, 2.0], [100.0, 150.0]))
    125.0
    """
    window = _not_below_0("window_s", window_s)
    period, pages = np.asarray(period_s, dtype=float), np.asarray(dirty_pages, dtype=float)
    if period.ndim != 1 or len(period) < 2 or not np.all(np.diff(period) > 0.0):
        raise ScenarioError("must be two or more ascending times", "period_s", period_s)
    if pages.shape != period.shape:
        raise ScenarioError("must have one number for each period", "dirty_pages", dirty_pages)
    slope = np.diff(pages) / np.diff(period)
    piece = np.clip(np.searchsorted(period, window, side="right") - 1, 0, len(slope) - 1)
    return np.clip(pages[piece] + slope[piece] * (window - period[piece]), 0.0, most_pages)


def predicted_total_time(
    period_s: Any,
    dirty_pages: Any,
    normal_pages: float,
    zero_pages: float,
    bandwidth_bytes_per_s: Any,
    downtime_limit_s: Any,
    deadline_s: float = 3600.0,
    page_size: int = PAGE_SIZE,
) -> Any:
    """Total time predicted from a measured curve of dirty pages.

    The first round sends all pages, a normal one as its contents and 8 bytes and a zero page as 8 bytes; each further
    one sends the pages that :func:`interpolated_dirty_pages` gives for the time of the round before. The migration
    ends with the first round that takes no longer than the downtime limit.

    Parameters
    ----------
    period_s, dirty_pages : array
        Measured points, as for :func:`interpolated_dirty_pages`.
    normal_pages, zero_pages : float
        Pages of the guest, 0 or more.
    bandwidth_bytes_per_s : float or array
        Above 0.
    downtime_limit_s : float or array
        Seconds, 0 or more; infinite ends the migration with the first round.
    deadline_s : float, default 3600
        Seconds, above 0.
    page_size : int, default 4096
        Bytes.

    Returns
    -------
    array
        Seconds; infinite if the migration does not end by the deadline.

    Raises
    ------
    ScenarioError
        If an argument is out of its range.

    Notes
    -----
    A. Gudkov: ``predict_migration.py`` and the cover letter, qemu-devel, 27 April 2023 (cover.1682598010), not merged.
    All 48 cells of its table are reproduced, rounded up to seconds.

    Examples
    --------
    >>> total = predicted_total_time([1.0, 2.0], [1000.0, 1500.0], 262144, 0, 125e6, 0.3)
    >>> round(float(total), 3)
    8.764
    """
    bandwidth, limit = np.broadcast_arrays(
        _above_0("bandwidth_bytes_per_s", bandwidth_bytes_per_s), _not_below_0("downtime_limit_s", downtime_limit_s)
    )
    normal, zero = _not_below_0("normal_pages", normal_pages), _not_below_0("zero_pages", zero_pages)
    deadline = _above_0("deadline_s", deadline_s)
    wire = _above_0("page_size", page_size) + 8.0
    duration = (normal * wire + zero * 8.0) / bandwidth
    total = duration.copy()
    running = duration > limit
    for _ in range(_MOST_ROUNDS):
        running &= total <= deadline
        if not running.any():
            break
        duration = np.where(
            running, interpolated_dirty_pages(duration, period_s, dirty_pages, normal) * wire / bandwidth, duration
        )
        total = np.where(running, total + duration, total)
        running &= duration > limit
    return np.where(running | (total > deadline), np.inf, total)


def nova_downtime_limits(
    downtime_limit_s: float, steps: int, delay_s_per_gib: float, data_gib: float
) -> tuple[np.ndarray, np.ndarray]:
    """The steps in which OpenStack Nova raises the downtime limit.

    Step i of 0 to n is set i w after the start, w the delay times the size, and is b + i (D - b) / n with b = D / n.

    Parameters
    ----------
    downtime_limit_s : float
        D, the last limit (``live_migration_downtime``), above 0.
    steps : int
        n (``live_migration_downtime_steps``), 1 or more.
    delay_s_per_gib : float
        ``live_migration_downtime_delay``, seconds, 0 or more.
    data_gib : float
        RAM and copied disks, GiB; below 2 counts as 2.

    Returns
    -------
    time_s, limit_s : array
        n + 1 times after the start and the limits that hold from then on, in whole seconds and milliseconds.

    Raises
    ------
    ScenarioError
        If an argument is out of its range.

    Notes
    -----
    Nova, ``nova/virt/libvirt/migration.py:downtime_steps``.

    Examples
    --------
    >>> time_s, limit_s = nova_downtime_limits(0.4, 10, 30, 3)
    >>> time_s[:3], limit_s[:3]
    (array([  0.,  90., 180.]), array([0.04 , 0.076, 0.112]))
    """
    limit = float(_above_0("downtime_limit_s", downtime_limit_s)) * 1e3
    delay = int(_not_below_0("delay_s_per_gib", delay_s_per_gib) * max(2.0, float(_above_0("data_gib", data_gib))))
    number = np.arange(_count("steps", steps) + 1)
    base = limit / steps
    # 1e-9: a limit in milliseconds that seconds cannot hold exactly is not rounded down by 1 ms
    return (number * delay).astype(float), np.floor(base + number * (limit - base) / steps + 1e-9) / 1e3


def kubevirt_downtime_limits(most_s: float, initial_s: float = 0.15, steps: int = 7) -> np.ndarray:
    """The steps in which KubeVirt raises the downtime limit, one at a time, 10 s apart, from the third iteration on.

    Parameters
    ----------
    most_s : float
        ``maxDowntimeMs`` in seconds, above 0.
    initial_s : float, default 0.15
        First limit, seconds, above 0.
    steps : int, default 7
        1 or more.

    Returns
    -------
    array
        Limits in seconds, whole milliseconds, ascending to `most_s`.

    Raises
    ------
    ScenarioError
        If an argument is out of its range.

    Notes
    -----
    KubeVirt, VEP 291 (2026), as its code computes it: a step is the whole milliseconds of (most - initial) / steps. The
    proposal prints steps of 150 ms for 1050 ms, which that rule does not give.

    Examples
    --------
    >>> kubevirt_downtime_limits(0.9)
    array([0.15 , 0.257, 0.364, 0.471, 0.578, 0.685, 0.792, 0.899, 0.9  ])
    """
    most = round(float(_above_0("most_s", most_s)) * 1e3)
    first = min(round(float(_above_0("initial_s", initial_s)) * 1e3), most)
    step = max(1, (most - first) // _count("steps", steps))
    return np.append(np.arange(first, most, step), most) / 1e3


def kubevirt_stalled(time_s: Any, remaining_bytes: Any, window_s: float = 40.0, margin: float = 0.04) -> np.ndarray:
    """Which samples KubeVirt's detector calls stalled: no progress beyond a margin within a window.

    Sample i is stalled if it has at least 1 - m times the least that was left in any sample older than the window.

    Parameters
    ----------
    time_s : array
        Times of the samples, ascending, seconds.
    remaining_bytes : array
        What was left at each, bytes.
    window_s : float, default 40
        Seconds, above 0.
    margin : float, default 0.04
        m, from 0 to 1.

    Returns
    -------
    array of bool
        One per sample; false as long as no sample is old enough.

    Raises
    ------
    ScenarioError
        If the arrays differ in length or an argument is out of its range.

    Notes
    -----
    KubeVirt, VEP 248 (2026), the rule as proposed there.

    Examples
    --------
    >>> kubevirt_stalled([0, 30, 60, 90], [8e9, 4e9, 3.9e9, 3.9e9])
    array([False, False, False,  True])
    """
    time, left = np.asarray(time_s, dtype=float), np.asarray(remaining_bytes, dtype=float)
    if time.ndim != 1 or time.shape != left.shape:
        raise ScenarioError("must have one number for each time", "remaining_bytes", remaining_bytes)
    if np.any(np.diff(time) < 0.0):
        raise ScenarioError("must ascend", "time_s", time_s)
    if not 0.0 <= margin <= 1.0:
        raise ScenarioError("must be from 0 to 1", "margin", margin)
    old = np.searchsorted(time, time - _above_0("window_s", window_s), side="right")
    least = np.concatenate([[np.inf], np.minimum.accumulate(left)])[old]
    return (old > 0) & (left >= (1.0 - margin) * least)


def cloudsim_time(memory_bytes: Any, bandwidth_bytes_per_s: Any, share: float = 0.5) -> Any:
    """Migration time of CloudSim: memory over a share of the bandwidth; dirty pages do not enter.

    Parameters
    ----------
    memory_bytes : float or array
        0 or more.
    bandwidth_bytes_per_s : float or array
        Of the host, above 0.
    share : float, default 0.5
        Part of the bandwidth that migrations may use, above 0 and up to 1.

    Returns
    -------
    float or array
        Seconds.

    Raises
    ------
    ScenarioError
        If an argument is out of its range.

    Notes
    -----
    CloudSim 7 and CloudSim Plus 9, where half of the bandwidth is the default.

    Examples
    --------
    >>> float(cloudsim_time(4e9, 1e9))
    8.0
    """
    if not 0.0 < share <= 1.0:
        raise ScenarioError("must be above 0 and at most 1", "share", share)
    return _not_below_0("memory_bytes", memory_bytes) / (
        _above_0("bandwidth_bytes_per_s", bandwidth_bytes_per_s) * share
    )


def dissect_dirtied(memory_bytes: Any, dirtied_per_s: Any, window_s: Any) -> Any:
    """Bytes that a task dirties in a window in DISSECT-CF: a share of its memory, at most all of it.

    Parameters
    ----------
    memory_bytes : float or array
        Memory of the task, 0 or more.
    dirtied_per_s : float or array
        Share of it that is dirtied per second, 0 or more.
    window_s : float or array
        Seconds, 0 or more.

    Returns
    -------
    float or array
        Bytes.

    Raises
    ------
    ScenarioError
        If an argument is below 0.

    Notes
    -----
    DISSECT-CF; V. De Maio, G. Kecskemeti, R. Prodan: An improved model for live migration in data centre simulators,
    UCC 2016. A guest adds this up over its tasks.

    Examples
    --------
    >>> float(dissect_dirtied(1e9, 0.2, [1.0, 10.0]).sum())
    1200000000.0
    """
    share = _not_below_0("dirtied_per_s", dirtied_per_s) * _not_below_0("window_s", window_s)
    return np.minimum(1.0, share) * _not_below_0("memory_bytes", memory_bytes)


def _above_0(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value, dtype=float)
    if not np.all((array > 0.0) & np.isfinite(array)):
        raise ScenarioError("must be above 0", name, _first(array, ~((array > 0.0) & np.isfinite(array))))
    return array


def _not_below_0(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value, dtype=float)
    if not np.all(array >= 0.0):
        raise ScenarioError("must be 0 or more", name, _first(array, ~(array >= 0.0)))
    return array


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ScenarioError("must be a whole number, 1 or more", name, value)
    return int(value)


def _first(array: np.ndarray, wrong: np.ndarray) -> float:
    return float(array[wrong][0] if array.ndim else array)
