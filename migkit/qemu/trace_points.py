"""Trace points of the migration loop, through the log backend of stock builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def arguments(log: Path) -> list[str]:
    """Options of QEMU that write the trace points to a file."""
    return []


def read(log: Path, started: float) -> dict[str, Any] | None:
    """Read."""
    return None
