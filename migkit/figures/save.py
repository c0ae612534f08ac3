"""Writing a figure: PDF, SVG and PNG, the same bytes each time, and what it was made from beside them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migkit.run.whole_file import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# no dates and no program versions: two runs give the same bytes
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": None},
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
}


def data_hash(*datasets: Any) -> str:
    """SHA-256 of the numbers in Datasets or DataFrames, in order of their variables' names."""
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
    """Write ``stem`` with .pdf, .svg and .png, and ``notes`` as .json.

    Parameters
    ----------
    figure : Figure
    stem : Path
        Without suffix; the folder is made.
    notes : dict
        Data hash, version, seed: what someone needs to make it again.

    Returns
    -------
    list of Path
        What was written.
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
