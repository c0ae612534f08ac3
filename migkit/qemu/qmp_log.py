"""Read QMP: answers, greetings, events and commands, one after the other, on one line each or pretty-printed."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from migkit.qemu.columns import MEASUREMENT_STATES, MIGRATION_STATES, Said, scaled

__all__ = ["read_qmp"]

_MIB = 2.0**20
_TOP = {
    "total-time": ("total_time_s", 1e-3),
    "expected-downtime": ("expected_downtime_s", 1e-3),
    "downtime": ("downtime_s", 1e-3),
    "setup-time": ("setup_time_s", 1e-3),
    "remaining": ("all_remaining_bytes", 1.0),
    "cpu-throttle-percentage": ("throttle_percent", 1.0),
    "dirty-limit-throttle-time-per-round": ("dirty_limit_throttle_s", 1e-6),
    "dirty-limit-ring-full-time": ("dirty_limit_ring_full_s", 1e-6),
    "postcopy-blocktime": ("postcopy_blocktime_s", 1e-3),
}
_PARTS = {
    "ram": {
        "total": ("ram_total_bytes", 1.0),
        "transferred": ("transferred_bytes", 1.0),
        "remaining": ("ram_remaining_bytes", 1.0),
        "mbps": ("bandwidth_bytes_per_s", 1e6 / 8),
        "pages-per-second": ("pages_per_s", 1.0),
        "dirty-pages-rate": ("dirty_pages_per_s", 1.0),
        "dirty-sync-count": ("sync_count", 1.0),
        "normal": ("normal_pages", 1.0),
        "duplicate": ("zero_pages", 1.0),
        "skipped": ("skipped_pages", 1.0),
        "normal-bytes": ("normal_bytes", 1.0),
        "page-size": ("page_size_bytes", 1.0),
        "precopy-bytes": ("precopy_bytes", 1.0),
        "downtime-bytes": ("downtime_bytes", 1.0),
        "postcopy-bytes": ("postcopy_bytes", 1.0),
        "postcopy-requests": ("postcopy_requests", 1.0),
        "multifd-bytes": ("multifd_bytes", 1.0),
        "dirty-sync-missed-zero-copy": ("zero_copy_fallbacks", 1.0),
    },
    "disk": {
        "transferred": ("disk_transferred_bytes", 1.0),
        "remaining": ("disk_remaining_bytes", 1.0),
        "total": ("disk_total_bytes", 1.0),
    },
    "vfio": {"transferred": ("vfio_bytes", 1.0)},
    "xbzrle-cache": {
        "cache-size": ("xbzrle_cache_bytes", 1.0),
        "bytes": ("xbzrle_bytes", 1.0),
        "pages": ("xbzrle_pages", 1.0),
        "cache-miss": ("xbzrle_cache_misses", 1.0),
        "cache-miss-rate": ("xbzrle_cache_miss_rate", 1.0),
        "encoding-rate": ("xbzrle_encoding_rate", 1.0),
        "overflow": ("xbzrle_overflows", 1.0),
    },
}
# MigrationInfo's "disk" has the members of MigrationStats; those of RAM mean nothing there.

# "<- " and "-> " of QEMU's documentation, or the time of a log, before a message
_PREFIX = re.compile(r"^[ \t]*(?:(?:<-|->)|\[?\d{4}-\d\d-\d\d[T ][\d:.,+Z-]+\]?:?)[ \t]*(?=[\[{])", re.MULTILINE)
_REST = re.compile(r'^\s*["\]}]|"\s*:')


def read_qmp(text: str, said: Said) -> None:
    """Read a log of QMP into `said`.

    Parameters
    ----------
    text : str
        JSON values one after the other. Other lines between them, such as prompts, are skipped.
    said : Said
        Is filled.

    Raises
    ------
    ScenarioError
        If JSON is cut off or invalid, a value has the wrong type, or nothing is about a migration or dirty rate.
    """
    log = _Log(said)
    for message, line in _messages(text, said):
        log.take(message, line)
    if not said.rows:
        raise log.nothing()


def _messages(text: str, said: Said) -> Iterator[tuple[Any, int]]:
    """The JSON values and the lines on which they begin."""
    text = _PREFIX.sub(lambda found: " " * len(found.group()), text)
    starts = [0, *(found.end() for found in re.finditer("\n", text))]
    decoder = json.JSONDecoder(parse_constant=_refuse)
    place = 0
    while found := re.compile(r"[^\s,]").search(text, place):
        place = found.start()
        line = bisect_right(starts, place)
        if text[place] not in "[{":
            end = text.find("\n", place)
            end = len(text) if end < 0 else end
            if _REST.search(text[place:end]):
                raise said.error("is a part of JSON whose beginning is missing: give the whole answer", line)
            said.skip(text[place:end], line)
            place = end
            continue
        try:
            message, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
                raise said.error("begins JSON that does not end: the file is cut off", line) from None
            raise said.error(f"is not JSON: {error.msg}", bisect_right(starts, error.pos)) from None
        except (ValueError, RecursionError):
            raise said.error("has JSON that cannot be read: NaN, a number of thousands of digits, or nested too deeply",
                             line) from None  # fmt: skip
        yield message, line


def _refuse(name: str) -> float:
    raise ValueError(name)


class _Log:
    """The messages of one log, in their order."""

    def __init__(self, said: Said) -> None:
        self.said = said
        self.empty_answers: list[int] = []
        self.errors: list[tuple[int, str]] = []

    def nothing(self) -> Exception:
        """Why a log without an answer cannot be used."""
        if self.errors:
            line, text = self.errors[0]
            return self.said.error(f"has an error of QEMU and no answer: {text}", line)
        if self.empty_answers:
            return self.said.error("has empty answers only: QEMU says so of a guest that was never migrated", 0)
        return self.said.error("has JSON but no answer of query-migrate or query-dirty-rate", 0)

    def take(self, message: Any, line: int) -> None:
        if isinstance(message, list):
            if message and all(isinstance(each, dict) and "capability" in each for each in message):
                self._capabilities(message)
                return
            for each in message:
                self.take(each, line)
        elif not isinstance(message, dict):
            raise self.said.error("has JSON that is not an object of QMP", line)
        elif "QMP" in message:
            self._version(_object(message["QMP"]).get("version"))
        elif "event" in message:
            self._event(message, line)
        elif "execute" in message or "exec-oob" in message:
            self._command(message, line)
        elif "error" in message and not {"status", "ram"} & set(message):
            self.errors.append((line, str(_object(message["error"]).get("desc", "no description"))))
        else:
            self._answer(message.get("return", message), _unix_time(message.get("timestamp")), line)

    def _version(self, version: Any) -> None:
        numbers = _object(_object(version).get("qemu"))
        if {"major", "minor", "micro"} <= set(numbers):
            self.said.version = ".".join(str(numbers[part]) for part in ("major", "minor", "micro"))

    def _event(self, message: dict[str, Any], line: int) -> None:
        data = _object(message.get("data"))
        detail = data.get("status", data.get("pass"))
        self.said.events.append(
            {
                "line": line,
                "time_s": _unix_time(message.get("timestamp")),
                "event": str(message["event"]),
                "detail": None if detail is None else str(detail),
            }
        )

    def _command(self, message: dict[str, Any], line: int) -> None:
        """What a command sets holds for the answers behind it."""
        arguments = _object(message.get("arguments"))
        command = message.get("execute")
        if command == "migrate-set-parameters":
            self.said.limit(self._numbers(arguments, line), line)
        elif command == "migrate_set_speed":
            self.said.limit(self._numbers({"max-bandwidth": arguments.get("value")}, line), line)
        elif command == "migrate-set-capabilities" and isinstance(arguments.get("capabilities"), list):
            self._capabilities(arguments["capabilities"])

    def _capabilities(self, states: list[Any]) -> None:
        on = dict.fromkeys(self.said.capabilities or ())
        for each in map(_object, states):
            if each.get("state"):
                on[str(each.get("capability"))] = None
            else:
                on.pop(str(each.get("capability")), None)
        self.said.capabilities = tuple(on)

    def _numbers(self, found: dict[str, Any], line: int) -> dict[str, float]:
        names = ("max-bandwidth", "downtime-limit", "avail-switchover-bandwidth")
        return {name: self._number(found[name], name, line) for name in names if found.get(name) is not None}

    def _number(self, value: Any, name: str, line: int) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e30:
            raise self.said.error("must be a number", line, name, value)
        return float(value)

    def _answer(self, answer: Any, time: float | None, line: int) -> None:
        if isinstance(answer, list):
            self.take(answer, line)
            return
        if answer in ({}, None):
            self.empty_answers.append(line)
            return
        if not isinstance(answer, dict):
            self.said.skip(str(answer), line)
            return
        if "calc-time" in answer or answer.get("status") in MEASUREMENT_STATES:
            self._dirty_rate(answer, time, line)
        elif answer.get("status") in MIGRATION_STATES:
            self._migration(answer, time, line)
        elif {"ram", "total-time"} & set(answer):
            raise self.said.error("is not a status of a migration that QEMU has", line, "status", answer.get("status"))
        elif "qemu" in answer:
            self._version(answer)
        elif {"max-bandwidth", "downtime-limit"} & set(answer):
            self.said.limit(self._numbers(answer, line), line)
        elif "running" not in answer:  # query-status
            self.said.note("an answer to another command was skipped", line)

    def _migration(self, answer: dict[str, Any], time: float | None, line: int) -> None:
        row = self.said.begin("migration", line)
        self.said.put(row, "status", answer["status"])
        if time is not None:
            self.said.put(row, "time_s", time)
        if "error-desc" in answer:
            self.said.put(row, "error", str(answer["error-desc"]))
        self._put(row, answer, _TOP, "", line)
        for part, names in _PARTS.items():
            if part in answer:
                if not isinstance(answer[part], dict):
                    raise self.said.error("must be an object", line, part, answer[part])
                self._put(row, answer[part], names, f"{part}.", line)

    def _put(
        self, row: dict[str, Any], found: dict[str, Any], names: dict[str, tuple[str, float]], where: str, line: int
    ) -> None:
        for name, (column, factor) in names.items():
            if found.get(name) is not None:
                self.said.put(row, column, scaled(self._number(found[name], f"{where}{name}", line), factor), line)

    def _dirty_rate(self, answer: dict[str, Any], time: float | None, line: int) -> None:
        row = self.said.begin("dirty rate", line)
        self.said.put(row, "status", str(answer.get("status", "measured")))
        if time is not None:
            self.said.put(row, "time_s", time)
        if "mode" in answer:
            self.said.put(row, "mode", str(answer["mode"]))
        if "start-time" in answer:
            self.said.put(row, "start_s", self._number(answer["start-time"], "start-time", line), line)
        if "calc-time" in answer:
            unit = {"second": 1.0, "millisecond": 1e-3}.get(answer.get("calc-time-unit", "second"))
            if unit is None:
                raise self.said.error('must be "second" or "millisecond"', line, "calc-time-unit",
                                      answer["calc-time-unit"])  # fmt: skip
            put_calc_time(self.said, row, scaled(self._number(answer["calc-time"], "calc-time", line), unit), line)
        if answer.get("sample-pages"):  # 0 in the modes that do not sample
            self.said.put(row, "sample_pages_per_gib", self._number(answer["sample-pages"], "sample-pages", line))
        rate = answer.get("dirty-rate")
        if rate is not None and row["status"] == "measured" and self._number(rate, "dirty-rate", line) >= 0:
            self.said.put(row, "dirty_bytes_per_s", rate * _MIB)
        vcpus = answer.get("vcpu-dirty-rate")
        if isinstance(vcpus, list) and vcpus:
            rates = tuple(
                self._number(_object(each).get("dirty-rate"), "vcpu-dirty-rate", line) * _MIB for each in vcpus
            )
            self.said.put(row, "vcpu_dirty_bytes_per_s", rates)


def put_calc_time(said: Said, row: dict[str, Any], seconds: float, line: int) -> None:
    """Write how long a dirty rate was measured; whole seconds do not hold less than one."""
    if seconds > 0:
        said.put(row, "calc_time_s", seconds, line)
    else:
        said.note("a calc-time of 0 s stands for less than a second: it is left out, ask for milliseconds", line)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _unix_time(stamp: Any) -> float | None:
    """QMP's timestamp in seconds; QEMU writes -1 where the host's clock could not be read."""
    if isinstance(stamp, int | float) and not isinstance(stamp, bool):
        return float(stamp)
    seconds, micro = _object(stamp).get("seconds"), _object(stamp).get("microseconds", 0)
    if not isinstance(seconds, int) or not isinstance(micro, int) or seconds < 0:
        return None
    return seconds + micro / 1e6
