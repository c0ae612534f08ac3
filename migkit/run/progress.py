"""What a user sees of a computation: a progress bar, and a sentence when the kernels are compiled."""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["COMPILING", "UNCACHED", "announce_compilation", "progress_bar", "tell"]

COMPILING = "compiling the simulation, once, about 40 s"
UNCACHED = (
    "compiling the simulation, about 40 s at each start: Numba finds no folder for its cache that it can write, "
    "NUMBA_CACHE_DIR names one"
)
_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def progress_bar(shown: bool, what: str, total: int | None = None, done: int = 0) -> Iterator[Callable[[int], object]]:
    """Show a progress bar that counts migrations, with the time left.

    Parameters
    ----------
    shown : bool
        Without it nothing is shown.
    what : str
        What is computed.
    total : int, optional
        Number of migrations, if it is known.
    done : int, default 0
        How many of them are finished already.

    Yields
    ------
    callable
        To be called with the number of migrations that were finished since the last call.

    Examples
    --------
    >>> with progress_bar(False, "sweep", total=2) as advance:
    ...     advance(2)
    """
    if not shown:
        yield lambda migrations: None
        return
    from tqdm.auto import tqdm

    interval_s = 0.1 if _has_reader() else 10.0  # a log file gets a line now and then
    with tqdm(total=total, initial=done, unit="migration", unit_scale=True, desc=what, mininterval=interval_s) as bar:
        _BARS.append(bar)
        try:
            yield bar.update
        finally:
            _BARS.remove(bar)


def _has_reader() -> bool:
    """Whether standard error is a terminal or a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


_BARS: list[Any] = []
"""The bars that are shown now: who sees one sees sentences too, also in a file."""


def tell(sentence: str) -> None:
    """Tell a sentence: by the logger ``migkit`` if that shows INFO, else on a terminal, in a notebook or above a bar.

    Examples
    --------
    >>> tell("nothing was computed")
    """
    if _LOG.isEnabledFor(logging.INFO):
        _LOG.info(sentence)
    elif _BARS and "ipykernel" not in sys.modules:
        _BARS[-1].write(f"migkit: {sentence}", file=sys.stderr)
    elif _has_reader():
        print(f"migkit: {sentence}", file=sys.stderr, flush=True)


@functools.cache
def announce_compilation() -> None:
    """Tell, once a process, when Numba begins to compile a kernel; kernels from its cache are not compiled.

    The sentence goes to the logger ``migkit`` if that shows INFO, else to standard error of a terminal or notebook, or
    wherever a progress bar is shown.
    Called by every function that runs kernels.
    """
    from numba.core import event

    from migkit.kernels.options import uncached

    class Announcement(event.Listener):
        announced = False

        def on_start(self, event: Any) -> None:
            kernel = event.data["dispatcher"].py_func
            if not self.announced and (kernel.__module__ or "").startswith("migkit.kernels."):
                self.announced = True
                said = UNCACHED if uncached else COMPILING
                if uncached and not _LOG.isEnabledFor(logging.INFO):
                    print(f"migkit: {said}", file=sys.stderr, flush=True)
                else:
                    tell(said)

        def on_end(self, event: Any) -> None:
            pass

    event.register("numba:compile", Announcement())
