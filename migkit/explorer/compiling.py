"""Say so when the kernels are compiled, which takes a while once per installation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

SENTENCE = "Compiling the kernels, about 20 s; this is done once per installation."


@contextlib.contextmanager
def told_when_compiling() -> Iterator[None]:
    """Print one sentence when the first kernel is compiled; none when all come from Numba's cache."""
    from numba.core import event

    class _Once(event.Listener):
        told = False

        def on_start(self, event: Any) -> None:
            if not self.told:
                print(SENTENCE, flush=True)
            self.told = True

        def on_end(self, event: Any) -> None:
            pass

    with event.install_listener("numba:compile", _Once()):
        yield
