"""How kernels are compiled, in one place."""

from __future__ import annotations

import numba

JIT = {"error_model": "numpy", "fastmath": False, "nogil": True, "cache": True}

kernel = numba.njit(**JIT)
parallel_kernel = numba.njit(parallel=True, **JIT)
