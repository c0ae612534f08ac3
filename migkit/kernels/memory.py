"""The few operations through which the loop drives RAM, over either model of it.

With the JIT the model is chosen by type when the loop is compiled; without it, when an operation is called.
"""

from __future__ import annotations

from numba.extending import overload

from migkit.kernels.bitmap import (
    BitmapRam,
    bitmap_alike,
    bitmap_remaining,
    bitmap_reset,
    bitmap_stretch,
    bitmap_take,
)
from migkit.kernels.bitmap_sync import bitmap_sync
from migkit.kernels.expected import (
    expected_alike,
    expected_fraction,
    expected_remaining,
    expected_reset,
    expected_stretch,
    expected_take,
)
from migkit.kernels.expected_sync import expected_sync


def _is(ram, model):
    return getattr(ram, "instance_class", None) is model


def reset(ram, case, regions, seed, replicate):
    """Setup: all pages dirty."""
    if isinstance(ram, BitmapRam):
        bitmap_reset(ram, case, regions, seed, replicate)
    else:
        expected_reset(ram, case, regions)


@overload(reset)
def _reset(ram, case, regions, seed, replicate):
    if _is(ram, BitmapRam):
        return lambda ram, case, regions, seed, replicate: bitmap_reset(ram, case, regions, seed, replicate)
    return lambda ram, case, regions, seed, replicate: expected_reset(ram, case, regions)


def remaining(ram):
    """Dirty pages."""
    return bitmap_remaining(ram) if isinstance(ram, BitmapRam) else expected_remaining(ram)


@overload(remaining)
def _remaining(ram):
    if _is(ram, BitmapRam):
        return lambda ram: bitmap_remaining(ram)
    return lambda ram: expected_remaining(ram)


def fraction(ram):
    """Fraction of a page beyond the whole dirty pages; bitmaps have none."""
    return 0.0 if isinstance(ram, BitmapRam) else expected_fraction(ram)


@overload(fraction)
def _fraction(ram):
    if _is(ram, BitmapRam):
        return lambda ram: 0.0
    return lambda ram: expected_fraction(ram)


def stretch(ram, case, regions, tau):
    """Dirty pages from the cursor on that cost the same, and their share of zero pages."""
    if isinstance(ram, BitmapRam):
        return bitmap_stretch(ram, case, regions, tau)
    return expected_stretch(ram, case, regions, tau)


@overload(stretch)
def _stretch(ram, case, regions, tau):
    if _is(ram, BitmapRam):
        return lambda ram, case, regions, tau: bitmap_stretch(ram, case, regions, tau)
    return lambda ram, case, regions, tau: expected_stretch(ram, case, regions, tau)


def alike(ram, case, regions):
    """Dirty pages ahead that cost the same, with nothing in between; 0 if something comes first."""
    return bitmap_alike(ram) if isinstance(ram, BitmapRam) else expected_alike(ram, case, regions)


@overload(alike)
def _alike(ram, case, regions):
    if _is(ram, BitmapRam):
        return lambda ram, case, regions: bitmap_alike(ram)
    return lambda ram, case, regions: expected_alike(ram, case, regions)


def take(ram, case, count):
    """Send ``count`` pages."""
    if isinstance(ram, BitmapRam):
        bitmap_take(ram, case, count)
    else:
        expected_take(ram, count)


@overload(take)
def _take(ram, case, count):
    if _is(ram, BitmapRam):
        return lambda ram, case, count: bitmap_take(ram, case, count)
    return lambda ram, case, count: expected_take(ram, count)


def sync(ram, case, regions, state, t, number):
    """Bring the guest's writes into what is to be sent; the pages that became dirty."""
    if isinstance(ram, BitmapRam):
        return bitmap_sync(ram, case, regions, state, t, number)
    return expected_sync(ram, case, regions, state, t)


@overload(sync)
def _sync(ram, case, regions, state, t, number):
    if _is(ram, BitmapRam):
        return lambda ram, case, regions, state, t, number: bitmap_sync(ram, case, regions, state, t, number)
    return lambda ram, case, regions, state, t, number: expected_sync(ram, case, regions, state, t)
