"""Read what QEMU's monitor prints: ``info migrate`` of all versions, ``info dirty_rate``, ``info migrate_parameters``.

Up to 10.0 ``info migrate`` prints a quantity a line, in kbytes, pages and mbps. From 10.1 on it prints several on a
line, with sizes of three digits.
"""

from __future__ import annotations

import re
from typing import Any

from migkit.qemu.columns import MEASUREMENT_STATES, MIGRATION_STATES, Said, scaled
from migkit.qemu.qmp_log import put_calc_time

__all__ = ["MARK", "read_monitor", "without_typing"]

MARK = re.compile(
    r"^(?:Migration status|Status|total time|expected downtime|transferred ram|remaining ram|Time \(ms\)|RAM info|"
    r"max-bandwidth|downtime-limit):|^Dirty rate: (?:\(not ready|-?\d+ \()",
    re.MULTILINE,
)
"""Lines that only the monitor prints."""

_UNITS = {
    "ms": (r"ms|milliseconds", 1e-3),
    "us": (r"us", 1e-6),
    "kbytes": (r"kbytes", 1024.0),
    "bytes": (r"bytes", 1.0),
    "mbps": (r"mbps", 1e6 / 8),
    "pages": (r"pages(?:/s)?", 1.0),
    "times": (r"times", 1.0),
    "": (r"", 1.0),
}
_LONG = {
    "total time": ("total_time_s", "ms"),
    "expected downtime": ("expected_downtime_s", "ms"),
    "downtime": ("downtime_s", "ms"),
    "setup": ("setup_time_s", "ms"),
    "transferred ram": ("transferred_bytes", "kbytes"),
    "throughput": ("bandwidth_bytes_per_s", "mbps"),
    "remaining ram": ("ram_remaining_bytes", "kbytes"),
    "total ram": ("ram_total_bytes", "kbytes"),
    "duplicate": ("zero_pages", "pages"),
    "skipped": ("skipped_pages", "pages"),
    "normal": ("normal_pages", "pages"),
    "normal bytes": ("normal_bytes", "kbytes"),
    "dirty sync count": ("sync_count", ""),
    "page size": ("page_size_bytes", "kbytes"),
    "multifd bytes": ("multifd_bytes", "kbytes"),
    "pages-per-second": ("pages_per_s", ""),
    "dirty pages rate": ("dirty_pages_per_s", "pages"),
    "postcopy request count": ("postcopy_requests", ""),
    "precopy ram": ("precopy_bytes", "kbytes"),
    "downtime ram": ("downtime_bytes", "kbytes"),
    "postcopy ram": ("postcopy_bytes", "kbytes"),
    "Zero-copy-send fallbacks happened": ("zero_copy_fallbacks", "times"),
    "transferred disk": ("disk_transferred_bytes", "kbytes"),
    "remaining disk": ("disk_remaining_bytes", "kbytes"),
    "total disk": ("disk_total_bytes", "kbytes"),
    "cache size": ("xbzrle_cache_bytes", "bytes"),
    "xbzrle transferred": ("xbzrle_bytes", "kbytes"),
    "xbzrle pages": ("xbzrle_pages", "pages"),
    "xbzrle cache miss": ("xbzrle_cache_misses", "pages"),
    "xbzrle cache miss rate": ("xbzrle_cache_miss_rate", ""),
    "xbzrle encoding rate": ("xbzrle_encoding_rate", ""),
    "xbzrle overflow": ("xbzrle_overflows", ""),
    "cpu throttle percentage": ("throttle_percent", ""),
    "dirty-limit throttle time": ("dirty_limit_throttle_s", "us"),
    "dirty-limit ring full time": ("dirty_limit_ring_full_s", "us"),
    "vfio device transferred": ("vfio_bytes", "kbytes"),
}
"""Up to 10.0: a line each."""

_ALONE = {
    "Remaining": ("all_remaining_bytes", "size"),
    "Throughput (Mbps)": ("bandwidth_bytes_per_s", "mbps"),
    "Throughput (mbps)": ("bandwidth_bytes_per_s", "mbps"),
    "Bandwidth (mbps)": ("bandwidth_bytes_per_s", "mbps"),
    "CPU Throttle (%)": ("throttle_percent", ""),
    "Dirty-limit Throttle (us)": ("dirty_limit_throttle_s", "us"),
    "Dirty-limit Ring Full (us)": ("dirty_limit_ring_full_s", "us"),
    "Postcopy Blocktime (ms)": ("postcopy_blocktime_s", "ms"),
}
"""From 10.1 on: a name and one value."""
_PAIRS: dict[str, dict[str, tuple[str, str]]] = {
    "Time": {
        "total": ("total_time_s", "ms"),
        "setup": ("setup_time_s", "ms"),
        "exp_down": ("expected_downtime_s", "ms"),
        "down": ("downtime_s", "ms"),
    },
    "XBZRLE": {
        "size": ("xbzrle_cache_bytes", "size"),
        "transferred": ("xbzrle_bytes", "size"),
        "pages": ("xbzrle_pages", ""),
        "miss": ("xbzrle_cache_misses", ""),
        "miss_rate": ("xbzrle_cache_miss_rate", ""),
        "encode_rate": ("xbzrle_encoding_rate", ""),
        "overflow": ("xbzrle_overflows", ""),
    },
    "": {
        "psize": ("page_size_bytes", "size"),
        "pagesize": ("page_size_bytes", "size"),
        "total": ("ram_total_bytes", "size"),
        "transferred": ("transferred_bytes", "size"),
        "remain": ("ram_remaining_bytes", "size"),
        "precopy": ("precopy_bytes", "size"),
        "multifd": ("multifd_bytes", "size"),
        "postcopy": ("postcopy_bytes", "size"),
        "vfio": ("vfio_bytes", "size"),
        "normal": ("normal_pages", ""),
        "zero": ("zero_pages", ""),
        "rate_per_sec": ("pages_per_s", ""),
        "transfer": ("pages_per_s", ""),
        "dirty": ("dirty_pages_per_s", ""),
        "dirty_pages_rate": ("dirty_pages_per_s", ""),
        "dirty_syncs": ("sync_count", ""),
        "postcopy_req": ("postcopy_requests", ""),
        "downtime_bytes": ("downtime_bytes", ""),
        "zerocopy_fallbacks": ("zero_copy_fallbacks", ""),
    },
}
"""From 10.1 on: what ``name=value`` means on a line that begins with this word, or with another one."""
_SIZES = {"B": 1.0} | {f"{prefix}iB": 1024.0 ** (power + 1) for power, prefix in enumerate("KMGTPE")}
_PARAMETERS = {
    "max-bandwidth": r"(\d+) bytes/second",
    "downtime-limit": r"(\d+) (?:ms|milliseconds)",
    "avail-switchover-bandwidth": r"(\d+) bytes/second",
}

_ESCAPE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x08")
_QUOTE = re.compile(r"^(?:\s*[>|])*\s*")
_PROMPT = re.compile(r"^\((?:qemu|QEMU)\)")
_BANNER = re.compile(r"^QEMU (\d+\.\d+\.\d+)\S* monitor")
_VERSION = re.compile(r"^(\d+\.\d+\.\d+)(?:[A-Za-z (].*|)$")
_STATUS = re.compile(r"^(?:Migration status|Status):\s*([\w-]+)\s*(?:\((.*)\))?$")
_PAIR = re.compile(r"([a-z_]+)\s*=\s*([^,]*)")
_MEASURED = re.compile(r"^(Start Time|Sample Pages|Period|Mode|Dirty rate):\s*(.*)$")
_VCPU = re.compile(r"^vcpu\[\d+\], Dirty rate:\s*(\d+) \(M(?:i)?B/s\)$")


def without_typing(line: str) -> str:
    r"""A line as a terminal shows it in the end, without the marks of quotation of a mail.

    Parameters
    ----------
    line : str
        With the escape sequences of QEMU's line editor, which writes a command anew after every key, or without.

    Examples
    --------
    >>> without_typing("> > total time: 43826 ms ")
    'total time: 43826 ms'
    >>> without_typing("(qemu) i\x1b[K\x1b[Din\x1b[K")
    '(qemu) in'
    """
    if "\x1b" in line or "\b" in line:
        line = _shown(line)
    return _QUOTE.sub("", line).rstrip()


def _shown(line: str) -> str:
    """Carry out what the line editor uses: the cursor to the left, and erasing to the end of the line."""
    shown: list[str] = []
    cursor = place = 0
    for escape in [*_ESCAPE.finditer(line), None]:
        text = line[place : escape.start() if escape else len(line)].replace("\r", "")
        shown[cursor : cursor + len(text)] = text
        cursor += len(text)
        if escape is None:
            break
        place = escape.end()
        if escape.group(2) in ("D", None):
            cursor = max(0, cursor - int(escape.group(1) or 1))
        elif escape.group(2) == "K":
            del shown[cursor:]
    return "".join(shown)


def read_monitor(text: str, said: Said) -> None:
    """Read text of the monitor into `said`; every status begins an answer, and so does a quantity that is said twice.

    Parameters
    ----------
    text : str
        What the monitor printed, with prompts, escape sequences and quotation marks of a mail or without.
    said : Said
        Is filled.

    Raises
    ------
    ScenarioError
        If a quantity has no number or another unit than QEMU's, a status is not QEMU's, or the text ends in the middle.
    """
    reader = _Monitor(said)
    for number, line in enumerate(text.split("\n"), start=1):
        reader.take(without_typing(line), number)
    reader.end()


class _Monitor:
    """What the monitor printed, line by line."""

    def __init__(self, said: Said) -> None:
        self.said = said
        self.row: dict[str, Any] | None = None
        self.group = ""
        self.scale: float | None = None

    def take(self, line: str, number: int) -> None:
        if not line:
            return
        if found := _PROMPT.match(line):
            self._command(line[found.end() :].split(), number)
            return
        if found := _BANNER.match(line) or _VERSION.match(line):
            self.said.version = found.group(1)
        elif line.startswith(("Migration status:", "Status:")):
            self._status(line, number)
        elif found := _MEASURED.match(line):
            self._measurement(found.group(1), found.group(2), number)
        elif found := _VCPU.match(line):
            if self.row is not None:
                rates = (*self.row.get("vcpu_dirty_bytes_per_s", ()), float(found.group(1)) * 2**20)
                self.said.put(self.row, "vcpu_dirty_bytes_per_s", rates, number)
        elif line.startswith("capabilities:"):
            states = re.findall(r"([\w-]+): (on|off)", line.removeprefix("capabilities:"))
            self.said.capabilities = tuple(name for name, state in states if state == "on")
        else:
            self._quantity(line, number)

    def _command(self, words: list[str], number: int) -> None:
        """What is set at the prompt holds for the answers behind it; without a unit a rate is MiB/s."""
        self.group = ""
        names = {"migrate_set_speed": "max-bandwidth", "migrate_set_downtime": "downtime-limit"}
        if len(words) == 3 and words[0] == "migrate_set_parameter" and words[1] in _PARAMETERS:
            name, value, factor = words[1], words[2], 1.0
        elif len(words) == 2 and words[0] in names:  # up to 5.2; the downtime in seconds
            name, value, factor = names[words[0]], words[1], 1e3
        elif words[:1] == ["migrate_set_capability"] and words[2:] in (["on"], ["off"]):
            on = dict.fromkeys(self.said.capabilities or ())
            on = on | {words[1]: None} if words[2] == "on" else {each: None for each in on if each != words[1]}
            self.said.capabilities = tuple(on)
            return
        else:
            return
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([bBkKmMgGtT]?)", value)
        if not found or (name == "downtime-limit" and found.group(2)):
            raise self.said.error("must be a number with a unit of QEMU's", number, name, value)
        power = "bkmgt".index(found.group(2).lower() or "m")
        factor = factor if name == "downtime-limit" else 1024.0**power
        self.said.limit({name: float(found.group(1)) * factor}, number)

    def end(self) -> None:
        """Refuse a last answer that QEMU would have gone on with."""
        if not self.said.rows:
            raise self.said.error("has no answer of info migrate or info dirty_rate", 0)
        last = self.said.rows[-1]
        parts = (
            {"total_time_s", "transferred_bytes"} if last.get("status") in ("active", "completed", "device") else set()
        )
        if parts and not parts & set(last):
            raise self.said.error(f'begins an answer that ends behind "{last["status"]}": the text is cut off',
                                  last["line"])  # fmt: skip

    def _status(self, line: str, number: int) -> None:
        found = _STATUS.match(line)
        status, reason = found.groups() if found else (line.partition(":")[2].strip(), None)
        if status in MEASUREMENT_STATES:
            self.row = self.said.begin("dirty rate", number)
        elif status in MIGRATION_STATES:
            self.row = self.said.begin("migration", number)
        else:
            raise self.said.error("is not a status that QEMU has", number, "status", status)
        self.said.put(self.row, "status", status)
        if reason:
            self.said.put(self.row, "error", reason)
        self.group, self.scale = "", None

    def _put(self, column: str, value: float, number: int) -> None:
        row = self.row
        if row is None or row["answer"] != "migration" or column in row:
            row = self.row = self.said.begin("migration", number)
        self.said.put(row, column, value, number)

    def _quantity(self, line: str, number: int) -> None:
        name, colon, value = line.partition(":")
        value = value.strip()
        if colon and name in _LONG:
            column, unit = _LONG[name]
            pattern, factor = _UNITS[unit]
            found = (
                re.fullmatch(rf"(\d+(?:\.\d+)?)(?:\s+(?:{pattern}))" + ("?" if unit == "pages" else ""), value)
                if (unit)
                else re.fullmatch(r"(\d+(?:\.\d+)?)", value)
            )
            if not found:
                raise self.said.error(
                    f"must be a number of {unit}" if unit else "must be a number", number, name, value
                )
            amount = scaled(float(found.group(1)), factor)
            if unit == "kbytes" and amount >= 2.0**63:
                amount = -1.0  # an unsigned counter below 0, divided by 1024
            self._put(column, amount, number)
        elif colon and name in _ALONE:
            column, unit = _ALONE[name]
            self._put(column, self._amount(value, unit, name, number), number)
        elif colon and name in _PARAMETERS:
            if not (found := re.fullmatch(_PARAMETERS[name], value)):
                raise self.said.error("has another unit than QEMU prints", number, name, value)
            self.said.limit({name: float(found.group(1))}, number)
        elif _PAIR.match(value if colon else line):
            self._pairs(name if colon else "", value if colon else line, number)
        elif not colon and not re.match(r"[\[\]]", line):
            self.said.skip(line, number)
        else:
            self.group = ""  # another heading, such as Globals

    def _pairs(self, heading: str, pairs: str, number: int) -> None:
        """``Sizes (KiB): pagesize=4, total=16777992``; a line without a heading goes on with the one before."""
        if heading:
            word, _, unit = heading.partition(" (")
            self.group = word
            if unit.rstrip(")") in ("KB", "KiB"):
                self.scale = 1024.0
            elif word in ("Sizes", "Transfers", "Channels"):
                self.scale = None
        names = _PAIRS.get(self.group, _PAIRS[""])
        for name, value in _PAIR.findall(pairs):
            if name not in names:
                self.said.note(f"{name} is not known and was skipped", number)
                continue
            column, unit = names[name]
            scaled = self.group in ("Sizes", "Transfers", "Channels") and self.scale is not None
            self._put(column, self._amount(value.strip(), unit, name, number, self.scale if scaled else None), number)

    def _amount(self, text: str, unit: str, name: str, number: int, scale: float | None = None) -> float:
        found = re.fullmatch(r"(-?\d+(?:\.\d+)?)(?:\s*([KMGTPE]?i?B))?", text)
        if not found or (found.group(2) and (unit != "size" or found.group(2) not in _SIZES)):
            wanted = "a size such as 38.1 MiB" if unit == "size" else "a number"
            raise self.said.error(f"must be {wanted}", number, name, text)
        amount = float(found.group(1))
        if found.group(2):
            if found.group(2) != "B":
                self.said.note("sizes are printed with three digits", number)
            return amount * _SIZES[found.group(2)]
        if unit == "size":
            return amount * (1.0 if scale is None else scale)
        return scaled(amount, _UNITS[unit][1])

    def _measurement(self, name: str, value: str, number: int) -> None:
        row = self.row
        if row is None or row["answer"] != "dirty rate":
            row = self.row = self.said.begin("dirty rate", number)
        number_of = re.match(r"(-?\d+)\b", value)
        if name == "Mode":
            self.said.put(row, "mode", value)
        elif name == "Dirty rate" and value == "(not ready)":
            return
        elif not number_of or (name == "Dirty rate" and not re.fullmatch(r"-?\d+ \(Mi?B/s\)", value)):
            raise self.said.error("must be a number with QEMU's unit", number, name, value)
        elif name == "Dirty rate":
            row.setdefault("status", "measured")
            if float(number_of.group(1)) >= 0:
                self.said.put(row, "dirty_bytes_per_s", float(number_of.group(1)) * 2**20)
        elif name == "Start Time":
            self.said.put(row, "start_s", float(number_of.group(1)), number)
            if value.endswith("(ms)"):
                self.said.note('Start Time is seconds although QEMU prints "(ms)"', number)
        elif name == "Period":
            put_calc_time(self.said, row, float(number_of.group(1)), number)
        elif float(number_of.group(1)) > 0:  # 0 in the modes that do not sample
            self.said.put(row, "sample_pages_per_gib", float(number_of.group(1)))
