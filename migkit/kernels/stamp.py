"""What the kernels are: a digest of their source, without compiling or importing them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def source_digest() -> str:
    """SHA-256 of everything that is compiled, hexadecimal: results are those of one model if it is the same."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py")))).hexdigest()
