"""Results for other programs: tidy tables and netCDF, each with a note of how it was made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from migkit.results import to_frame
from migkit.run.batches import Batches
from migkit.run.store import open_sweep
from migkit.scenario.errors import ScenarioError, choices

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["FORMATS", "export", "frames", "write_json_lines"]

FORMATS = (".parquet", ".csv", ".jsonl", ".nc")
"""By the end of the file's name: Parquet, CSV, JSON Lines, netCDF."""
ROWS = 65536
"""Migrations in memory at once."""


def frames(dataset: xr.Dataset, devices: bool = False) -> Iterator[pd.DataFrame]:
    """The tidy table in parts, in the order of the dimensions.

    Parameters
    ----------
    dataset : xarray.Dataset
        From :func:`migkit.sweep` or :func:`migkit.open_sweep`.
    devices : bool, optional
        As for :func:`migkit.results.to_frame`.
    """
    dims = dataset["outcome"].dims
    if not dims:
        yield to_frame(dataset, devices)
        return
    batches = Batches.of(dataset["outcome"].shape, ROWS)
    for batch in batches:
        yield to_frame(dataset.isel(dict(zip(dims, batches.region(batch), strict=True))).load(), devices)


def write_json_lines(dataset: xr.Dataset, file: TextIO, devices: bool = False) -> None:
    """Write one JSON object a migration; what never happened is null."""
    for frame in frames(dataset, devices):
        frame.to_json(file, orient="records", lines=True, double_precision=15)


def export(source: xr.Dataset | str | Path, path: str | Path, devices: bool = False) -> Path:
    """Write results as a table or as netCDF.

    Parameters
    ----------
    source : xarray.Dataset, str or path
        A Dataset of :func:`migkit.sweep`, or a store that holds one.
    path : str or path
        A name that ends in ``.parquet``, ``.csv``, ``.jsonl`` (tidy, one row a migration) or ``.nc`` (netCDF, with all
        dimensions). Parquet and netCDF hold the attributes of the Dataset, which say how it was made; beside a CSV or
        JSON Lines file they are written to ``NAME.provenance.json``.
    devices : bool, optional
        One row a migration and device.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ScenarioError
        If the name ends in none of these, if netCDF is asked for and its library is missing, or if there is no store.

    Examples
    --------
    >>> import migkit, tempfile
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> dataset = migkit.sweep(scenario, {"link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(dataset, f"{folder}/table.parquet").name
    'table.parquet'
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ScenarioError(f"must end in {choices(FORMATS)}", "output", str(path))
    if path.suffix == ".nc" and devices:
        raise ScenarioError("is for tables: netCDF has a dimension for the devices", "devices", True)
    dataset = open_sweep(source) if isinstance(source, str | Path) else source
    notes = {name: value.item() if hasattr(value, "item") else value for name, value in dataset.attrs.items()}
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        if path.suffix == ".parquet":
            _parquet(dataset, unfinished, devices, notes)
        elif path.suffix == ".nc":
            _netcdf(dataset, unfinished)
        else:
            with unfinished.open("w", encoding="utf-8", newline="") as file:
                if path.suffix == ".csv":
                    for number, frame in enumerate(frames(dataset, devices)):
                        frame.to_csv(file, index=False, header=number == 0)
                else:
                    write_json_lines(dataset, file, devices)
            beside = path.with_name(f"{path.name}.provenance.json")
            beside.write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _parquet(dataset: xr.Dataset, path: Path, devices: bool, notes: dict[str, Any]) -> None:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for frame in frames(dataset, devices):
            words = [name for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)]
            table = pa.Table.from_pandas(frame, preserve_index=False)
            schema = table.schema
            for name in words:  # each part has its own categories, the file has one type
                field = pa.field(name, pa.dictionary(pa.int32(), pa.string()))
                schema = schema.set(schema.get_field_index(name), field)
            table = table.cast(schema)
            if writer is None:
                metadata = {**(schema.metadata or {}), b"migkit": json.dumps(notes).encode()}
                writer = pq.ParquetWriter(path, schema.with_metadata(metadata))
            writer.write_table(table.replace_schema_metadata(writer.schema.metadata))
    finally:
        if writer is not None:
            writer.close()


def _netcdf(dataset: xr.Dataset, path: Path) -> None:
    try:
        import h5netcdf  # noqa: F401
        import h5py  # noqa: F401
    except ImportError:
        raise ScenarioError("needs h5netcdf: pip install 'migkit[netcdf]'", "netCDF") from None
    dataset.to_netcdf(path, engine="h5netcdf")
