"""How kernels are compiled, in one place."""

from __future__ import annotations

import numba

from migkit.kernels.stamp import source_digest

# Only other kernels call most kernels: wrappers for Python and C would cost a quarter of the compile time.
_INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}

JIT = {"error_model": "numpy", "fastmath": False, "nogil": True, "cache": True}


def _compiled(function, **options):
    dispatcher = numba.njit(**JIT, **options)(function)
    # Numba renews a cached function when its own file changes, not when a function that it calls does: without this
    # an upgrade could run yesterday's loop.
    stored = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if hasattr(stored, "_source_stamp"):
        stored._source_stamp = source_digest()
    return dispatcher


def kernel(function):
    """Compile a kernel that allocates nothing: no Python objects, no GIL, division by zero as NumPy does it.

    Without the runtime that counts references: the loop's functions are small, and counting the arrays they pass on
    would cost more than what they do.
    """
    return _compiled(function, _nrt=False, **_INNER)


def inlined_kernel(function):
    """Compile a kernel that the loop calls once a turn or sync: what it passes on costs more than the call's work."""
    return _compiled(function, _nrt=False, forceinline=True, **_INNER)


def open_kernel(function):
    """Compile a kernel that Python calls too."""
    return _compiled(function, _nrt=False)


def allocating_kernel(function):
    """Compile a kernel that allocates its scratch, once for many migrations."""
    return _compiled(function)


def parallel_kernel(function):
    """Compile a kernel with ``prange``; floats are never reduced across it."""
    return _compiled(function, parallel=True)
