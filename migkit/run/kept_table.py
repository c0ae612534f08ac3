"""A table that takes long to compute, kept as Parquet until the code or what it is made from changes."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from migkit.run.whole_file import whole_file

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["kept_table"]

_LIBRARIES = ("numba", "numpy", "pandas", "pyarrow", "scipy", "xarray")


@cache
def _code() -> bytes:
    """Digest of all of migkit's code, its default costs, and the versions of the libraries that numbers depend on."""
    digest = hashlib.sha256(" ".join(version(name) for name in _LIBRARIES).encode())
    for file in _files():
        digest.update(file.read_bytes())
    return digest.digest()


def _files() -> list[Path]:
    return sorted(file for file in Path(__file__).parents[1].rglob("*") if file.suffix in (".py", ".toml"))


def kept_table(folder: Path, name: str, made_from: Iterable[str], make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Read a table that was kept, or make it and keep it.

    Parameters
    ----------
    folder : Path
        Where tables are kept; made if it is missing.
    name : str
        Of the table. One is kept of each name: the last.
    made_from : iterable of str
        All that the table depends on besides the code.
    make : callable
        Makes it.

    Returns
    -------
    DataFrame

    Examples
    --------
    >>> import pandas as pd, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for number in (1, 2):
    ...         table = kept_table(Path(folder), "numbers", ["a question"], lambda: pd.DataFrame({"n": [number]}))
    >>> int(table["n"].iloc[0])
    1
    """
    import pandas as pd

    digest = hashlib.sha256(_code())
    for text in made_from:
        digest.update(hashlib.sha256(text.encode()).digest())
    file = folder / f"{name}-{digest.hexdigest()[:16]}.parquet"
    with contextlib.suppress(OSError, ValueError):  # there is none, or it is damaged
        return pd.read_parquet(file)
    table = make()
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as out:
        table.to_parquet(out)
    for other in folder.glob(f"{name}-{'?' * 16}.parquet"):
        if other != file:
            other.unlink(missing_ok=True)
    return table
