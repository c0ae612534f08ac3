"""Write a figure as PDF, SVG and PNG, reproducible to the byte, with its provenance as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migkit.run.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# without dates and program versions two runs write the same bytes
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}


def data_hash(*datasets: Any) -> str:
    """Hash the numbers of Datasets or DataFrames.

    Parameters
    ----------
    *datasets : Dataset or DataFrame

    Returns
    -------
    str
        SHA-256 of the values, variable by variable in alphabetical order, hexadecimal.

    Examples
    --------
    >>> import pandas as pd
    >>> data_hash(pd.DataFrame({"total_time_s": [1.0, 2.0]}))[:8]
    '7840e51b'
    """
    import hashlib

    import numpy as np

    digest = hashlib.sha256()
    for dataset in datasets:
        for name in sorted(map(str, dataset.keys())):
            values = np.asarray(dataset[name].values)
            digest.update(name.encode())
            digest.update(repr(values.tolist()).encode() if values.dtype == object else values.tobytes())
    return digest.hexdigest()


def save_figure(figure: Figure, stem: Path, notes: dict[str, Any]) -> list[Path]:
    """Write a figure to ``stem.pdf``, ``stem.svg`` and ``stem.png``, and `notes` to ``stem.json``.

    Parameters
    ----------
    figure : Figure
    stem : Path
        Path without suffix; its folder is made.
    notes : dict
        Data hash, version, seed: what is needed to reproduce the figure.

    Returns
    -------
    list of Path
        The files.

    Examples
    --------
    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in save_figure(Figure(), Path(folder) / "empty", {"seed": 0})]
    ['empty.pdf', 'empty.svg', 'empty.png', 'empty.json']
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, metadata in _METADATA.items():
        path = stem.with_name(f"{stem.name}.{suffix}")
        with whole_file(path) as file:
            figure.savefig(file, format=suffix, metadata=metadata)
        written.append(path)
    path = stem.with_name(f"{stem.name}.json")
    with whole_file(path) as file:
        file.write((json.dumps(notes, indent=2, sort_keys=True) + "\n").encode())
    return [*written, path]
