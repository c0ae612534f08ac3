"""The loop as plain Python, for the first migrations on a machine where nothing is compiled yet.

To compile the loop takes half a minute, to interpret a migration a tenth of a second: who asks for a few is answered by
Python. The functions are those that are compiled, over the same records, so that the results are the same bits and a
migration that was begun here can be finished by machine code.
"""

from __future__ import annotations

import sys
from functools import cache
from types import CellType, FunctionType
from typing import Any

from numba.core.dispatcher import Dispatcher

PACKAGE = __name__.rpartition(".")[0] + "."


@cache
def interpreted(kernel: Any) -> Any:
    """The plain Python of a kernel, which calls the plain Python of other kernels.

    Parameters
    ----------
    kernel : Dispatcher or function
        Of this package.

    Returns
    -------
    function

    Notes
    -----
    The compiled loop takes ``exp``, ``expm1`` and ``log1p`` from the library that Python's ``math`` takes them from.
    NumPy has its own, which differ in the last bit: kernels do not use them.
    """
    function = kernel.py_func if isinstance(kernel, Dispatcher) else kernel
    closure = function.__closure__ and tuple(CellType(_plain(cell.cell_contents)) for cell in function.__closure__)
    names = _names_of(function.__module__)
    plain = FunctionType(function.__code__, names, function.__name__, function.__defaults__, closure)
    plain.__module__ = function.__module__  # the names may be yet to come
    return plain


_names: dict[str, dict[str, Any]] = {}


def _names_of(module: str) -> dict[str, Any]:
    """The names of a module, its kernels as plain Python; modules of this package name each other's."""
    if module not in _names:
        found = _names[module] = {}  # known before it is filled
        found |= {name: _plain(value) for name, value in vars(sys.modules[module]).items()}
    return _names[module]


def _plain(value: Any) -> Any:
    ours = isinstance(value, Dispatcher | FunctionType) and str(value.__module__).startswith(PACKAGE)
    return interpreted(value) if ours else value
