"""Read what ``virsh domjobinfo`` prints, of a running job or with ``--completed``."""

from __future__ import annotations

import re
from typing import Any

from migkit.qemu.columns import Said, scaled
from migkit.qemu.monitor_text import without_typing

__all__ = ["MARK", "read_domjobinfo"]

MARK = re.compile(
    r"^(?:Job type|Time elapsed|Data processed|Memory processed|Memory remaining|Memory total):", re.MULTILINE
)
"""Lines that only domjobinfo prints."""

_JOBS = frozenset({"none", "bounded", "unbounded", "completed", "failed", "cancelled"})
_QUANTITIES = {
    "Time elapsed": ("total_time_s", "ms"),
    "Time elapsed w/o network": ("total_time_without_network_s", "ms"),
    "Time remaining": ("remaining_time_s", "ms"),
    "Data processed": ("all_processed_bytes", "size"),
    "Data remaining": ("all_remaining_bytes", "size"),
    "Data total": ("all_total_bytes", "size"),
    "Memory processed": ("transferred_bytes", "size"),
    "Memory remaining": ("ram_remaining_bytes", "size"),
    "Memory total": ("ram_total_bytes", "size"),
    "Memory bandwidth": ("bandwidth_bytes_per_s", "size/s"),
    "Dirty rate": ("dirty_pages_per_s", "pages/s"),
    "Page size": ("page_size_bytes", "bytes"),
    "Iteration": ("sync_count", ""),
    "Postcopy requests": ("postcopy_requests", ""),
    "File processed": ("disk_transferred_bytes", "size"),
    "File remaining": ("disk_remaining_bytes", "size"),
    "File total": ("disk_total_bytes", "size"),
    "File bandwidth": ("disk_bandwidth_bytes_per_s", "size/s"),
    "Constant pages": ("zero_pages", ""),
    "Normal pages": ("normal_pages", ""),
    "Normal data": ("normal_bytes", "size"),
    "Total downtime": ("downtime_s", "ms"),
    "Expected downtime": ("expected_downtime_s", "ms"),
    "Downtime w/o network": ("downtime_without_network_s", "ms"),
    "Setup time": ("setup_time_s", "ms"),
    "Compression cache": ("xbzrle_cache_bytes", "size"),
    "Compressed data": ("xbzrle_bytes", "size"),
    "Compressed pages": ("xbzrle_pages", ""),
    "Compression cache misses": ("xbzrle_cache_misses", ""),
    "Compression overflows": ("xbzrle_overflows", ""),
    "Auto converge throttle": ("throttle_percent", ""),
}
_PREFIXES = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_SIZE = re.compile(r"(\d+(?:[.,]\d+)?)\s+(?:bytes|([KMGTPE]?)(i?)B)")


def read_domjobinfo(text: str, said: Said) -> None:
    """Read text of domjobinfo into `said`; every job type begins an answer, and so does a quantity said twice.

    Parameters
    ----------
    text : str
        What ``virsh`` printed in English, with prompts or without.
    said : Said
        Is filled.

    Raises
    ------
    ScenarioError
        If a quantity has no number or another unit than virsh's, a job type is not libvirt's, or the text is cut off.
    """
    row: dict[str, Any] | None = None
    for number, typed in enumerate(text.split("\n"), start=1):
        name, colon, value = without_typing(typed).partition(":")
        value = value.strip()
        if colon and name == "Job type":
            if value.lower() not in _JOBS:
                raise said.error("is not a job type that libvirt has", number, name, value)
            row = said.begin("migration", number)
            said.put(row, "status", value.lower())
        elif colon and name == "Operation":
            row = said.begin("migration", number) if row is None or "operation" in row else row
            said.put(row, "operation", value)
        elif colon and name in _QUANTITIES:
            column, unit = _QUANTITIES[name]
            row = said.begin("migration", number) if row is None or column in row else row
            said.put(row, column, _amount(value, unit, name, number, said), number)
        elif name.strip() and not name.startswith(("virsh", "#", "$")):
            said.skip(f"{name}{colon}{value}", number)
    last = said.rows[-1]
    if (
        last.get("status", "none") != "none"
        and "total_time_s" not in last
        and last["status"] not in ("failed", "cancelled")
    ):
        raise said.error(f'begins an answer that ends behind "{last["status"]}": the text is cut off',
                         last["line"])  # fmt: skip


def _amount(value: str, unit: str, name: str, line: int, said: Said) -> float:
    if unit in ("size", "size/s"):
        found = _SIZE.fullmatch(value.removesuffix("/s") if unit == "size/s" else value)
        if not found or (unit == "size/s") != value.endswith("/s"):
            raise said.error(f"must be a size such as 1.234 GiB{'/s' if unit == 'size/s' else ''}", line, name, value)
        number, prefix, binary = found.groups()
        if "," in number:
            said.note("a comma is read as a decimal point: virsh prints no thousands separator", line)
        if prefix and not binary:
            said.note("KB, MB and GB are read as KiB, MiB and GiB, which is what old versions of virsh mean", line)
        return float(number.replace(",", ".")) * 1024.0 ** _PREFIXES[prefix or ""]
    found = re.fullmatch(r"(\d+)" + (rf"\s+{re.escape(unit)}" if unit else ""), value)
    if not found:
        raise said.error(f"must be a whole number of {unit}" if unit else "must be a whole number", line, name, value)
    return scaled(float(found.group(1)), 1e-3 if unit == "ms" else 1.0)
