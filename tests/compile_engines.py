"""Compile both engines at once, each in a process of its own.

Processes of pytest that begin together would all compile the same; after this they find both engines on disk.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import migkit
from migkit.kernels.drivers import compiled_driver


def compiled(engine: str) -> str:
    """Compile an engine; what it finds of a guest that writes nothing."""
    compiled_driver(engine)
    quiet = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="1 GB/s"))
    return migkit.simulate(quiet, engine=engine).outcome


if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        outcomes = list(pool.map(compiled, ["expected", "bitmap"]))
    if outcomes != ["completed", "completed"]:
        raise SystemExit(f"A quiet guest of 1 GiB on 1 GB/s must complete; the engines found {outcomes}.")
