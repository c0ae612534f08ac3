"""How kernels are compiled, in one place."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numba
from numba.core.caching import FunctionCache

from migkit.kernels.linking import PartCompiler, WholeCompiler

JIT = {"error_model": "numpy", "fastmath": False, "nogil": True}
# Without the runtime that counts references: the loop's functions are small, and counting the arrays they pass on would
# cost more than what they do.
# Inlining is said of every function: one that does not say it takes it from the function that calls it first.
WHOLE = JIT | {"_nrt": False, "forceinline": False, "pipeline_class": WholeCompiler}
"""Options of a function that is called through its address."""
PART = WHOLE | {"pipeline_class": PartCompiler, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of a function that only kernels call."""


@cache
def _source_digest() -> str:
    """SHA-256 of everything that is compiled, hexadecimal."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


uncached = []
"""Names of the kernels that Numba does not keep on disk, because it has no folder that it can write."""


def kernel(function):
    """Compile a kernel that only other kernels call.

    It allocates nothing: no Python objects, no GIL, division by zero as NumPy does it.
    """
    return numba.njit(**PART)(function)


def inlined_kernel(function):
    """Compile a kernel that the loop calls once an iteration or sync: what it passes on costs more than its work."""
    return numba.njit(**PART | {"forceinline": True})(function)


class _KeptKernel(FunctionCache):
    """What is kept on disk of a kernel, loaded without what only a compiler needs.

    Numba first imports all that it can compile (linear algebra of scipy, typed lists, ...): half the time that a later
    process takes to start. Machine code needs none of it.
    """

    def load_overload(self, sig, target_context):
        """The code for these argument types, or None."""
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


def open_kernel(function):
    """Compile a kernel that Python calls too, and keep it on disk."""
    try:
        dispatcher = numba.njit(cache=True, **WHOLE)(function)
    except RuntimeError:  # no place for the cache
        uncached.append(function.__name__)
        dispatcher = numba.njit(**WHOLE)(function)
    else:
        if not numba.config.DISABLE_JIT and hasattr(FunctionCache, "_load_overload"):
            dispatcher._cache = _KeptKernel(dispatcher.py_func)
    # Numba renews a cached function when its own file changes, not when a function that it calls does: without this
    # an upgrade could run yesterday's loop. The version is compared before anything else of the file is read.
    stored = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if hasattr(stored, "_version"):
        stored._version = f"{numba.__version__} {_source_digest()}"
    return dispatcher


def kept_for(function, types):
    """The kernel for these argument types as it is kept on disk, or None; nothing is compiled.

    What is returned is called as what :func:`compiled_for` returns.
    """
    if numba.config.DISABLE_JIT:
        return function
    dispatcher = open_kernel(function)
    if not isinstance(dispatcher._cache, _KeptKernel):
        return None
    kept = dispatcher._cache.load_overload(types, dispatcher.targetctx)
    return None if kept is None else kept.entry_point


def compiled_for(function, types):
    """Compile a kernel for these argument types, or load it from the disk cache.

    What is returned takes arguments of exactly these types and does not look at them: a dispatcher would search for
    conversions at each call, for a millisecond. A function of the type ``numba.types.FunctionType`` among them is
    called through its address, so that the kernel is not compiled again for another function.
    """
    if numba.config.DISABLE_JIT:
        return function
    dispatcher = open_kernel(function)
    dispatcher.compile(types)
    (compiled,) = dispatcher.overloads.values()
    return compiled.entry_point
