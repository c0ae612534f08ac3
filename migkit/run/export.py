"""Results for other programs: tidy tables and netCDF, each with its provenance."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import numpy as np

from migkit.results import to_frame
from migkit.run.batches import Batches
from migkit.run.store import open_sweep
from migkit.run.whole_file import checked_path, whole_file
from migkit.scenario.errors import ScenarioError, choices

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["FORMATS", "export", "frames", "without_formulas", "write_json_lines"]

FORMATS = (".parquet", ".csv", ".jsonl", ".nc")
"""Parquet, CSV, JSON Lines, netCDF, by the suffix of the file's name."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a formula begins in a spreadsheet."""
ROWS = 65536
"""Migrations in memory at once."""


def frames(dataset: xr.Dataset, devices: bool = False) -> Iterator[pd.DataFrame]:
    """Give the tidy table in parts, in the order of the dimensions.

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
        part = dataset.isel(dict(zip(dims, batches.region(batch), strict=True))).load()
        yield to_frame(part, devices)


def _as_text(frame: pd.DataFrame, dataset: xr.Dataset) -> pd.DataFrame:
    """Times in whole nanoseconds, which they are, without the noise of a float: 0.3, not 0.30000000000000004."""
    times = [name for name in frame if name in dataset.data_vars and dataset[name].attrs.get("units") == "s"]
    frame[times] = frame[times].round(9)
    return frame


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Put an apostrophe before every text of a table that a spreadsheet would take for a formula.

    A device or an axis may have any name, and a CSV file has no other way to say that a cell is text.

    Examples
    --------
    >>> import pandas as pd
    >>> without_formulas(pd.DataFrame({"=1+1": ["=cmd|' /C calc'!A0", "gpu"]})).to_csv(index=False).split()[0]
    "'=1+1"
    """
    import pandas as pd

    def written(cell: Any) -> Any:
        return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell

    found = frame.rename(columns=written)
    for name in found:
        column = found[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            if any(written(word) != word for word in column.cat.categories):
                found[name] = column.astype(object).map(written)
        elif not pd.api.types.is_numeric_dtype(column.dtype):
            found[name] = column.map(written)
    return found


def write_json_lines(dataset: xr.Dataset, file: TextIO, devices: bool = False) -> None:
    """Write one JSON object per migration; null stands for never."""
    for frame in frames(dataset, devices):
        _as_text(frame, dataset).to_json(file, orient="records", lines=True, double_precision=15)


def export(source: xr.Dataset | str | Path, path: str | Path, devices: bool = False) -> Path:
    """Write results as a table or as netCDF, whole or not at all.

    Parameters
    ----------
    source : xarray.Dataset, str or path
        A Dataset of :func:`migkit.sweep`, or a store that holds one.
    path : str or path
        A name that ends in ``.parquet``, ``.csv``, ``.jsonl`` (tidy, one row per migration) or ``.nc`` (netCDF, with
        all dimensions). Parquet and netCDF hold the attributes of the Dataset, which say how it was made; those of a
        CSV or JSON Lines file are written to ``NAME.provenance.json`` beside it. In CSV, text that a spreadsheet would
        take for a formula has an apostrophe before it. What an unfinished store does not have yet is empty in tables.
    devices : bool, default False
        One row per migration and device.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ScenarioError
        If the name ends in none of these, if the library for netCDF is missing, or if there is no store.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import migkit, tempfile
    >>> scenario = migkit.Scenario(guest=migkit.Guest(ram="1 GiB"), link=migkit.Link(bandwidth="10 Gbit/s"))
    >>> dataset = migkit.sweep(scenario, {"link.bandwidth": ["1 Gbit/s", "10 Gbit/s"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(dataset, f"{folder}/table.parquet").name
    'table.parquet'
    """
    path = checked_path("output", path)
    if path.suffix not in FORMATS:
        raise ScenarioError(f"must end in {choices(FORMATS)}", "output", str(path))
    if path.suffix == ".nc" and devices:
        raise ScenarioError("is for tables: netCDF has a dimension for the devices", "devices", True)
    dataset: Any = source if hasattr(source, "data_vars") else open_sweep(source)
    notes = {name: value.item() if hasattr(value, "item") else value for name, value in dataset.attrs.items()}
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(whole_file(path))
        if path.suffix in (".csv", ".jsonl"):  # takes its name before the table does
            beside = stack.enter_context(whole_file(path.with_name(f"{path.name}.provenance.json")))
            beside.write((json.dumps(notes, indent=2) + "\n").encode())
        if path.suffix == ".parquet":
            _write_parquet(dataset, file, devices, notes)
        elif path.suffix == ".nc":
            _write_netcdf(dataset, file)
        else:
            with io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
                if path.suffix == ".csv":
                    for number, frame in enumerate(frames(dataset, devices)):
                        without_formulas(_as_text(frame, dataset)).to_csv(text, index=False, header=number == 0)
                else:
                    write_json_lines(dataset, text, devices)
    return path


def _write_parquet(dataset: xr.Dataset, file: BinaryIO, devices: bool, notes: dict[str, Any]) -> None:
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
                writer = pq.ParquetWriter(file, schema.with_metadata(metadata))
            writer.write_table(table.replace_schema_metadata(writer.schema.metadata))
    finally:
        if writer is not None:
            writer.close()


def _write_netcdf(dataset: xr.Dataset, file: BinaryIO) -> None:
    try:
        import h5netcdf
        import h5py  # noqa: F401
    except ImportError:
        raise ScenarioError("needs h5netcdf: pip install 'migkit[netcdf]'", "netCDF") from None
    from xarray.backends import H5NetCDFStore

    hdf5 = _FileForHdf5(file)
    dataset = dataset.copy()
    for array in dataset.data_vars.values():
        if "flag_values" in array.attrs:  # CF: of the type of the variable
            array.attrs = array.attrs | {"flag_values": np.array(array.attrs["flag_values"], array.dtype)}
    try:
        with h5netcdf.File(hdf5, mode="w") as written:
            dataset.dump_to_store(H5NetCDFStore(written))
    except Exception:
        if hdf5.error is None:
            raise
    finally:
        hdf5.abandoned = True
    if hdf5.error is not None:
        raise hdf5.error


class _FileForHdf5(io.RawIOBase):
    """A file that HDF5 never sees fail: a failed write, or a file closed too early, crashes the process.

    Attributes
    ----------
    error : OSError or None
        The first error. Nothing is written after it.
    abandoned : bool
        Whether nothing is to be written any more: HDF5 may hold the file longer than an exception lets it be open.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.error: OSError | None = None
        self.abandoned = False
        self._file = file
        self._position = self._size = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self._try(lambda: self._file.read(len(view))) or bytes(len(view))
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self._try(lambda: self._file.write(data))
        self._position += size
        self._size = max(self._size, self._position)
        return size

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        self._try(lambda: self._file.truncate(self._size))
        return self._size

    def flush(self) -> None:
        self._try(self._file.flush)

    def _try(self, act: Callable[[], Any]) -> Any:
        """Act at the position; None if nothing is to be done any more."""
        if self.error is not None or self.abandoned:
            return None
        try:
            self._file.seek(self._position)
            return act()
        except OSError as error:
            self.error = error
            return None
