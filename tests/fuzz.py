"""Input that people and programs get wrong, drawn at random, and a judge of what becomes of it.

A case is one mutated input: a TOML text, a path, a quantity, an axis, a design, or arguments of the command line. It
goes as far as the records of the kernels, which are laid out and never run. The judge knows four faults:

- a *traceback*: any exception but the one with a sentence;
- *no sentence*: a message that has several lines, or more than a few hundred characters, or does not end like one;
- a *hang*: more CPU time than any input may take;
- a *silent default*: input that is accepted, and of which a part has no effect.

``python tests/fuzz.py --cases 100000`` runs many cases and prints what it needs to run one of them again.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import os
import random
import re
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import click
import tomli_w
import typer
from click.testing import CliRunner

from migkit.run.design import Sweep
from migkit.run.grid import Layout
from migkit.scenario.errors import ScenarioError
from migkit.scenario.fields import Part
from migkit.scenario.scenario import Scenario, field
from migkit.scenario.units import (
    format_bytes,
    format_rate,
    format_time,
    geomspace,
    linspace,
    parse_bytes,
    parse_rate,
    parse_time,
)

LIMIT_S = 10.0
"""CPU seconds of a case; all but a few take milliseconds."""
LONGEST = 620
"""Characters of a sentence: a path, a value and what is allowed, each cut."""

SCENARIO: dict[str, Any] = {
    "name": "base",
    "time_limit": "20 min",
    "qemu": "9.0",
    "policy": "serialized",
    "guest": {
        "ram": "8 GiB",
        "zero_share": 0.25,
        "accel": "tcg",
        "regions": [
            {"size": "1 GiB", "write_rate": "200 MB/s"},
            {"size": "2 GiB", "start": "4 GiB", "write_rate": "50 MB/s", "pattern": "sequential", "zero_share": 0.5},
        ],
    },
    "devices": [
        {"kind": "vfio", "name": "gpu", "count": 2, "initial_bytes": "64 MiB", "stop_copy_bytes": "5 MiB"},
        {"kind": "vfio", "initial_bytes": "1 MiB", "dirty_rate": "1 MB/s", "dirty_max": "2 MiB"},
    ],
    "link": {"bandwidth": "10 Gbit/s", "rtt": "50 us"},
    "migration": {"downtime_limit": "250 ms", "switchover_ack": True, "return_path": True, "cpu_throttle_initial": 30},
    "costs": {"iteration": "60 us", "page": "3 us"},
}
SWEEP: dict[str, Any] = {
    "engine": "bitmap",
    "seed": 3,
    "replicates": 2,
    "axes": {
        "link.bandwidth": ["1 Gbit/s", "10 Gbit/s"],
        "devices.0.count": {"linspace": [0, 4, 3]},
        "both": {"link.rtt": ["1 ms", "2 ms"], "devices.1.initial_bytes": ["1 MiB", "2 MiB"]},
    },
    "design": {
        "method": "sobol",
        "points": 8,
        "ranges": {
            "guest.regions.0.write_rate": {"geomspace": ["1 MB/s", "1 GB/s"]},
            "guest.zero_share": {"linspace": [0, 0.5]},
        },
    },
    "scenario": SCENARIO,
}
GOOD: dict[str, list[Any]] = {
    "guest.zero_share": [0.125, 0.75],
    "guest.regions.0.write_rate": ["1 MB/s", "2 GB/s"],
    "devices.0.count": [1, 5],
    "devices.1.initial_bytes": ["1 MiB", "9 MiB"],
    "link.bandwidth": ["1 Gbit/s", "25 Gbit/s"],
    "link.rtt": ["10 us", "2 ms"],
    "migration.cpu_throttle_initial": [5, 60],
    "costs.page": ["1 us", "4 us"],
}
"""Two values that go with all others, by path."""
DEEP = "[" * 3000
VALUES: list[Any] = [
    0, 1, -1, 2, 3.5, True, False, 2**31, 2**63, 10**18, 10**400, -(10**18), float("inf"), float("-inf"), float("nan"),
    1e308, 5e-324, "", " ", "0", "1", "x", "default", "nan", "inf", "1 GiB", "1 MiB", "4 KiB", "1 B", "300 ms", "2 s",
    "10 Gbit/s", "1 kB/s", "1e999 B", "1e999 B/s", "1e-999 s", "1e400 GiB", "10 Gb/s", "1_000 MB", "-1 s", "9" * 400,
    "1" * 16000 + " B", "a" * 5000, "\0", "a\0b", "\x1b[31mred", "a\nb", "\u0663 GiB", "\u202e", "=cmd|' /C calc'!A0",
    "$x^$", "../../x", "zarr.json", "sessions", "outcome", "device", "7.2", "8.2", "10.0", "unserialized", "kvm",
    "sequential", "vfio", "block", "ram", "expected", "sobol", "latin_hypercube", [], [1], ["1 GiB"], ["1 ms", "2 ms"],
    [[1]], {}, {"kind": "ram"}, {"kind": "block", "size": "1 GiB"}, {"linspace": [0, 1, 10**8]},
    {"linspace": [0, 3, 4]}, {"geomspace": ["1 MB/s", "1e999 B/s", 3]}, {"linspace": ["1 ms", "9 ms", 10**18]},
    {"geomspace": [1, 8, 4]}, {"self": 1}, {"link.rtt": ["1 ms"]},
]  # fmt: skip
ALIEN: list[Any] = [
    None, object(), 10**5000, b"1 GiB", 1j, ("1 GiB",), {1: 2}, {"a"}, Fraction(1, 3), int, range(10**18), "\ud800",
    Scenario, [10**5000], lambda: 1,
]  # fmt: skip
"""What no TOML can hold."""
TOKENS = [
    "=", "[", "]", "{", "}", ".", ",", '"', "'", '"""', "\n", "#", " ", "\\u0000", "\\ud800", "\0", "\x1b", "\ud800",
    "self = 1\n", "[[devices]]\n", "[guest]\n", "inf", "nan", "1e999", "9" * 5000, DEEP, "{a=" * 3000, "a." * 3000,
    "2020-01-01", "true", "0x10", "-0", "é", "\ufeff", "guest.ram", '"1 TiB"', "\t",
]  # fmt: skip
STEPS = [
    "guest", "ram", "regions", "devices", "0", "1", "2", "00", "01", "-1", "+0", "\u0660", "\u00b2", "0_0", " 0", "1e0",
    "", "link", "bandwidth", "rtt", "costs", "page", "count", "name", "kind", "migration", "self", "__class__", "model",
    "policy", "qemu", "size", "start", "zero_share", "initial_bytes", "time_limit", "replicate", "x" * 500, "9" * 500,
    "a\nb", "\0", "\ud800", "model_fields", "devices.0",
]  # fmt: skip
UNITS = ["B", "bit", "GiB", "MiB", "KiB", "kB", "GB", "TB", "B/s", "Gbit/s", "MB/s", "kbit/s", "MiB/s", "s", "ms", "us",
         "ns", "min", "h", "", "Gb", "Gbps", "gib", "b", "K", "µs", "sec", "%", "B/s/s", "\ud800", "\0"]  # fmt: skip
NUMBERS = ["0", "1", "1.5", "-1", "+2", ".5", "5.", "1e3", "1E-3", "1e999", "1e-999", "1e99999", "1_000", "_1", "1__0",
           "1.000000000000000000001", "9" * 99, "9" * 101, "9" * 16000, "0x10", "inf", "nan", "\u0663", "1,5", "1 2",
           "",
           "0." + "0" * 90 + "1", "18446744073709551616"]  # fmt: skip
READERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], str]]] = {
    "size": (parse_bytes, format_bytes),
    "rate": (parse_rate, format_rate),
    "time": (parse_time, format_time),
}


class Case(NamedTuple):
    """One mutated input."""

    kind: str
    given: str
    """What was given, cut."""
    act: Callable[[], str]
    """Takes the input; returns what of it has no effect, "" for nothing."""


def _cut(given: object) -> str:
    try:
        return ascii(given)[:300]
    except ValueError:  # an int of thousands of digits somewhere in it
        return f"<{type(given).__name__}>"


# --- mutations -----------------------------------------------------------------------------------


def _misspelt(draw: random.Random, word: str) -> str:
    at = draw.randrange(len(word) + 1)
    return draw.choice(
        [word[:at] + word[at + 1 :], word[:at] + word[at : at + 1] * 2 + word[at + 1 :], word.upper(), f"{word} ",
         f"{word}_", word[:at] + draw.choice("xé0.-") + word[at:]]
    )  # fmt: skip


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every table or list of a tree, with every key or index."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _mutated(draw: random.Random, base: dict[str, Any], values: list[Any]) -> dict[str, Any]:
    tree = copy.deepcopy(base)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        places = list(_places(tree))
        if not places:
            break
        holder, key = draw.choice(places)
        act = draw.randrange(6)
        if act == 0 and isinstance(key, str):
            holder[_misspelt(draw, key)] = holder.pop(key)
        elif act == 1:
            del holder[key]
        elif act == 2 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif act == 3 and isinstance(holder, dict):
            holder[draw.choice(STEPS[:-9])] = copy.deepcopy(draw.choice(values))
        else:
            holder[key] = copy.deepcopy(draw.choice(values))
    return tree


def _mangled(draw: random.Random, text: str) -> str:
    for _ in range(draw.choice([1, 1, 2, 5])):
        at, to = sorted(draw.randrange(len(text) + 1) for _ in range(2))
        to = min(to, at + draw.choice([1, 1, 3, 30]))
        text = draw.choice(
            [text[:at] + text[to:], text[:at] + draw.choice(TOKENS) + text[at:],
             text[:at] + text[at:to] * 2 + text[to:],
             text[:at] + chr(draw.choice([*range(128), 0xE9, 0x660, 0x2028, 0x1F600])) + text[to:], text[: max(at, 1)]]
        )  # fmt: skip
    return text


# --- what is read must have been given -----------------------------------------------------------


def unread(table: dict[str, Any], part: Part, path: str = "") -> str:
    """The first key of a table that a part does not hold as it is written there; "" if there is none."""
    for key, value in table.items():
        here = f"{path}{key}"
        if key not in type(part).model_fields:
            return here
        held = getattr(part, key)
        if isinstance(value, dict) and isinstance(held, Part):
            if found := unread(value, held, f"{here}."):
                return found
        elif isinstance(value, list | tuple) and isinstance(held, tuple):
            if len(value) != len(held):
                return here
            for i, (one, of) in enumerate(zip(value, held, strict=True)):
                if found := unread(one, of, f"{here}.{i}."):
                    return found
        elif type(part).read(key, value) != held:
            return here
    return ""


def _paths(part: Part, before: str = "") -> Iterator[str]:
    """All paths of a scenario, each in its one spelling."""
    for name in type(part).model_fields:
        held = getattr(part, name)
        yield f"{before}{name}"
        if isinstance(held, Part):
            yield from _paths(held, f"{before}{name}.")
        elif isinstance(held, tuple):
            for i, one in enumerate(held):
                yield f"{before}{name}.{i}"
                yield from _paths(one, f"{before}{name}.{i}.")


def _scenario_kept(table: dict[str, Any], scenario: Scenario) -> str:
    return unread(table, scenario) or ("round trip" if Scenario.from_toml(scenario.to_toml()) != scenario else "")


def _sweep_kept(table: dict[str, Any], sweep: Sweep) -> str:
    """What of a table of a sweep has no effect on its description or its layout."""
    if unknown := next((key for key in table if key not in Sweep.model_fields), ""):
        return unknown
    for name in ("engine", "seed", "replicates"):
        if name in table and getattr(sweep, name) != table[name]:
            return name
    if isinstance(table["scenario"], dict) and (found := unread(table["scenario"], sweep.scenario)):
        return f"scenario.{found}"
    if list(sweep.axes) != list(table.get("axes", {})):
        return "axes"
    layout = Layout(sweep)
    again = Sweep.from_toml(sweep.to_toml())
    if again != sweep or again.sha256 != sweep.sha256:
        return "round trip"
    axes = list(_axes_of(sweep))
    if sorted(layout.paths().values()) != sorted(path for path, _ in axes):
        return "a path"
    known = set(_paths(sweep.scenario))
    coordinates = {path: layout.coordinates()[name][1] for name, path in layout.paths().items()}
    for path, number in axes:
        if path not in known:
            return f"{path}, which is no canonical path"
        if len(coordinates[path]) != number:
            return f"values of {path}"
    if "replicates" in table and layout.coordinates()["replicate"][1].size != table["replicates"]:
        return "replicates"
    return ""


def _axes_of(sweep: Sweep) -> Iterator[tuple[str, int]]:
    """Every field that a sweep varies, and how many values it has."""
    for key, given in sweep.axes.items():
        if key != "replicate":
            for path, values in (given if isinstance(given, dict) else {key: given}).items():
                yield path, len(values)
    if sweep.design is not None:
        for path in sweep.design.ranges:
            yield path, sweep.design.points


# --- the kinds of cases --------------------------------------------------------------------------


def _toml(draw: random.Random) -> Case:
    base, cls = draw.choice([(SCENARIO, Scenario), (SWEEP, Sweep)])
    if draw.random() < 0.5:
        text = tomli_w.dumps(_mutated(draw, base, [value for value in VALUES if value != 10**400]))
    else:
        text = _mangled(draw, tomli_w.dumps(base))
    if draw.random() < 0.03:
        text = draw.choice(TOKENS) + "=" + draw.choice(TOKENS) * draw.choice([1, 100])

    def act() -> str:
        read: Any = cls.from_toml(text if "\n" in text or "=" in text else f"\n{text}")
        table = tomllib.loads(text)
        return _scenario_kept(table, read) if cls is Scenario else _sweep_kept(table, read)

    return Case("TOML", text, act)


def _mapping(draw: random.Random) -> Case:
    base, cls = draw.choice([(SCENARIO, Scenario), (SWEEP, Sweep)])
    table = _mutated(draw, base, VALUES + ALIEN)

    def act() -> str:
        read: Any = cls(**table)
        return _scenario_kept(table, read) if cls is Scenario else _sweep_kept(table, read)

    return Case("mapping", _cut(table), act)


def _path(draw: random.Random) -> Case:
    scenario = Scenario(**SCENARIO)
    known = list(_paths(scenario))
    if draw.random() < 0.5:
        path = ".".join(draw.choice(STEPS) for _ in range(draw.choice([1, 2, 3, 4])))
    else:
        path = draw.choice(known)
        if draw.random() < 0.6:
            steps = path.split(".")
            at = draw.randrange(len(steps))
            steps[at] = draw.choice([draw.choice(STEPS), _misspelt(draw, steps[at])])
            path = ".".join(steps)
    path = draw.choice([path, path, path, path, path, path, draw.choice(ALIEN)])
    value = draw.choice(VALUES + ALIEN)
    if draw.random() < 0.4:
        path = draw.choice([path, *GOOD])
        value = draw.choice(GOOD.get(path, VALUES) if isinstance(path, str) else VALUES)

    def act() -> str:
        changed = scenario.replace(path, value)
        if path not in known:
            return "a path that is not canonical"
        held = field(changed, path)
        if isinstance(held, Part | tuple):
            return _scenario_kept({}, changed)
        inside, _, name = path.rpartition(".")
        wanted = type(field(changed, inside) if inside else changed).read(name, value)
        return "" if held == wanted and Scenario.from_toml(changed.to_toml()) == changed else path

    return Case("path", f"{_cut(path)} = {_cut(value)}", act)


_PLAIN_NUMBER = re.compile(r"[+]?([0-9]+(?:_[0-9]+)*)?\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?")
_SCALES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_TIMES = {"ns": 10**9, "us": 10**6, "µs": 10**6, "ms": 10**3, "s": 1}


def _meant(number: str, unit: str) -> Fraction | None:
    """A quantity as a person reads it, in SI units; None for what only the program reads."""
    if not (match := _PLAIN_NUMBER.fullmatch(number)) or not match[1]:
        return None
    whole, part, power = match[1].replace("_", ""), match[2] or "", int(match[3] or 0)
    value = Fraction(int(whole + part), 10 ** len(part)) * Fraction(10) ** power
    if unit in _TIMES:
        return value / _TIMES[unit]
    for word, factor in (("bit", Fraction(1, 8)), ("B", Fraction(1))):
        prefix = unit.removesuffix("/s").removesuffix(word)
        if unit.removesuffix("/s").endswith(word) and prefix in _SCALES:
            return value * factor * _SCALES[prefix]
    return None


def _quantity(draw: random.Random) -> Case:
    number, unit = draw.choice(NUMBERS), draw.choice(UNITS)
    if draw.random() < 0.3:
        number = f"{draw.randrange(10 ** draw.randrange(1, 18))}{draw.choice(['', '.25', 'e2', '_0'])}"
    kind = draw.choice(list(READERS))
    read, write = READERS[kind]
    text: Any = f"{number}{draw.choice(['', ' ', '  '])}{unit}"
    if other := draw.random() < 0.1:
        text = draw.choice(ALIEN + VALUES)

    def act() -> str:
        value = read(text)
        if read(write(value)) != value:
            return "the number: it is not written as it is read"
        wanted = None if other else _meant(number, unit)
        return "" if wanted is None or abs(Fraction(value) - wanted) <= wanted * Fraction(1, 10**15) else "the number"

    return Case("quantity", f"{kind} {_cut(text)}", act)


def _spacing(draw: random.Random) -> Case:
    space = draw.choice([linspace, geomspace])
    ends = [f"{draw.choice(NUMBERS)} {draw.choice(UNITS[:19])}" for _ in range(2)]
    if draw.random() < 0.5:
        unit = draw.choice(UNITS[:19])
        ends = [f"{draw.randrange(1, 10**6)} {unit}" for _ in range(2)]
    num = draw.choice([2, 3, 17, 0, -1, 1.5, True, None, 10**8, 10**18, 10**5000, "3"])
    multiple = draw.choice([None, None, "4 KiB", "1 B/s", "1 ms", "0 s", "1e-999 s", 3])

    def act() -> str:
        return "" if len(space(*ends, num, multiple)) == num else "the number of values"

    return Case("spacing", f"{space.__name__} {_cut(ends)} {_cut(num)} {multiple}", act)


def _axes(draw: random.Random) -> Case:
    scenario = Scenario(**SCENARIO)
    known = list(_paths(scenario))
    axes: dict[Any, Any] = {}
    for _ in range(draw.choice([1, 1, 2, 3])):
        key = draw.choice([draw.choice(known), draw.choice(known), draw.choice(STEPS), draw.choice(VALUES[16:])])
        if not isinstance(key, str):
            key = draw.choice([1, None, "replicate", b"link.rtt"])
        values: Any = [draw.choice(VALUES) for _ in range(draw.choice([0, 1, 2, 2, 3]))]
        if draw.random() < 0.4 and key in known and not isinstance(field(scenario, key), Part | tuple):
            held = field(scenario, key)
            values = [str(held) if not isinstance(held, bool | int | float | None) else held]
        axes[key] = draw.choice([values, values, values, {draw.choice(known): values}, draw.choice(VALUES + ALIEN)])
    names = draw.choice([None, None, None, {draw.choice(known): draw.choice(VALUES)}, draw.choice(ALIEN)])

    def act() -> str:
        sweep = Sweep(scenario=scenario, axes=axes)
        if names is not None:
            Layout(sweep, names)
        return _sweep_kept({"scenario": SCENARIO, "axes": axes}, sweep)

    return Case("axes", f"{_cut(axes)} names {_cut(names)}", act)


def _design(draw: random.Random) -> Case:
    scenario = Scenario(**SCENARIO)
    known = [path for path in _paths(scenario) if not isinstance(field(scenario, path), Part | tuple)]
    ranges: dict[Any, Any] = {}
    for _ in range(draw.choice([1, 2, 3])):
        ends = draw.choice(
            [[0, 1], [1, 8], ["1 ms", "9 ms"], ["1 MB/s", "1 GB/s"], ["1 MiB", "2 MiB"], [0, float("inf")],
             [float("nan"), 1], [5e-324, 1e308], [0, 10**400], ["1 B", "1e999 B"], [1], [3, 2], None, ["0 s", "1 h"],
             [draw.choice(VALUES), draw.choice(VALUES)]]
        )  # fmt: skip
        rule: Any = {draw.choice(["linspace", "geomspace", "linspace", "logspace"]): ends}
        if draw.random() < 0.3:
            rule["multiple"] = draw.choice(["1 KiB", "1 ms", "1e-999 s", 0, 5e-324, float("nan"), 1, 0.25, "1 B/s"])
        path = draw.choice([draw.choice(known), draw.choice(known), draw.choice(STEPS)])
        if draw.random() < 0.5:
            path = draw.choice(list(GOOD))
            rule = {draw.choice(["linspace", "linspace", "geomspace"]): GOOD[path]}
        ranges[path] = rule
    table = {
        "method": draw.choice(["sobol", "latin_hypercube", "sobol", "latin_hypercube", "halton"]),
        "points": draw.choice([2, 4, 16, 64, 2, 4, 8, 32, 3, 0, 2**40, 10**18, True, "4"]),
        "ranges": ranges,
    }
    if draw.random() < 0.2:
        table[draw.choice(["seed", "point", "self"])] = draw.choice(VALUES)

    def act() -> str:
        return _sweep_kept({"scenario": SCENARIO, "design": table}, Sweep(scenario=scenario, design=table))

    return Case("design", _cut(table), act)


def _command_line(draw: random.Random) -> Case:
    command = draw.choice(["run", "sweep", "export"])
    words = [word for word in (value for value in VALUES + TOKENS + STEPS if isinstance(value, str)) if len(word) < 600]
    arguments: list[str] = [draw.choice(["good.toml", "bad.toml", "none.toml", ".", draw.choice(words)])]
    options = [
        "--engine",
        "--seed",
        "--replicate",
        "--json",
        "--timeline",
        "--output",
        "-o",
        "--threads",
        "--dask",
        "-q",
    ]
    for _ in range(draw.choice([0, 1, 1, 2])):
        arguments += [draw.choice([*options, _misspelt(draw, draw.choice(options))]), draw.choice(words)]
    text = draw.choice(
        [tomli_w.dumps(SCENARIO if command == "run" else SWEEP), _mangled(draw, tomli_w.dumps(SCENARIO))]
    )
    command = draw.choice([command, command, command, _misspelt(draw, command)])

    def act() -> str:
        for name, content in (("good.toml", text), ("bad.toml", text[: len(text) // 2])):
            with open(name, "wb") as file:
                file.write(content.encode(errors="surrogatepass"))
        ended = CliRunner().invoke(_cli(), [command, *arguments])
        if ended.exception is not None and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        said = [line for line in ended.stderr.splitlines() if line.startswith("migkit: ")]
        if ended.exit_code not in (0, 1, 2) or "Traceback" in ended.output:
            raise RuntimeError(f"exit status {ended.exit_code}")
        if said and (len(said) > 1 or said != ended.stderr.splitlines()):
            raise NoSentence(ascii(ended.stderr[:300]))
        for line in said:
            check_sentence(line)
        return ""

    return Case("command line", _cut([command, *arguments]), act)


@functools.cache
def _cli() -> click.Command:
    """The command line, made once: that takes longer than a case."""
    from migkit.cli import app

    return typer.main.get_command(app)


KINDS = [_toml, _toml, _mapping, _mapping, _path, _quantity, _spacing, _axes, _axes, _design, _command_line]


def case(seed: int, number: int) -> Case:
    """Draw a case; the same two numbers give the same one."""
    draw = random.Random(f"{seed}:{number}")
    return draw.choice(KINDS)(draw)


# --- the judge -----------------------------------------------------------------------------------


class NoSentence(Exception):
    """A message that is not one sentence."""


class Hang(BaseException):
    """A case took too long; no ``except Exception`` catches it."""


def check_sentence(text: str) -> None:
    """Refuse a message that is not one line of a few hundred characters that ends like a sentence."""
    if not text.isprintable() or len(text) > LONGEST or not text.endswith((".", "?")) or "pydantic" in text:
        raise NoSentence(ascii(text[:300]))


def _stop(*_: object) -> None:
    raise Hang


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise `Hang` in a body that takes more CPU time than this."""
    before = signal.signal(signal.SIGPROF, _stop)
    began = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)  # again, if something swallows the first
    try:
        yield
        if time.process_time() - began > seconds:  # in one call of a C function
            raise Hang
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fault(one: Case, limit_s: float = LIMIT_S) -> str:
    """What is wrong with what becomes of a case; "" if nothing is."""
    try:
        with limited(limit_s):
            try:
                dropped = one.act()
            except ScenarioError as error:
                check_sentence(str(error))
                return ""
        return f"silent default: {dropped} has no effect" if dropped else ""
    except Hang:
        return "hang"
    except NoSentence as error:
        return f"no sentence: {error}"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {ascii(str(error))[:200]}"


class _Ended:
    """What a command gets in place of a result."""

    timeline: Any = None
    converged = True

    def to_dict(self) -> dict[str, Any]:
        return {}

    def summary(self) -> str:
        return ""


@contextlib.contextmanager
def nothing_simulated() -> Iterator[None]:
    """Commands stop at the records, in an empty folder that they may write to."""
    from unittest import mock

    import migkit.cli

    def simulate(scenario: Scenario, *_: object) -> _Ended:
        from migkit.scenario.rows import records

        records([scenario])
        return _Ended()

    def sweep(described: Sweep, **_: object) -> None:
        Layout(described)

    before = os.getcwd()
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("migkit.run.simulate.simulate", simulate),
        mock.patch("migkit.run.many.sweep", sweep),
        mock.patch.object(migkit.cli, "_counts", return_value=""),
        mock.patch.object(migkit.cli, "_write_timeline", return_value=None),
        mock.patch("migkit.run.export.write_json_lines", return_value=None),
    ):
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def faults(seed: int, numbers: range, progress: Callable[[int], object] = lambda number: None) -> Iterator[str]:
    """Judge cases, and give a line for each one that has a fault."""
    with nothing_simulated():
        for number in numbers:
            one = case(seed, number)
            if found := fault(one):
                yield f"seed {seed}, case {number} ({one.kind}): {found}; given {one.given[:300]!a}"
            progress(number)


def main() -> int:
    """Judge many cases; the exit status is 1 if one has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=None, help="another one each time by default")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**9) if given.seed is None else given.seed
    print(f"fuzz: seed {seed}, {given.cases} cases", flush=True)
    began, wrong = time.monotonic(), 0

    def progress(number: int) -> None:
        done = number - given.first + 1
        if done % 2000 == 0:
            took = time.monotonic() - began
            print(f"fuzz: {done} cases, {done / took:.0f} a second, {wrong} faults", flush=True)

    for line in faults(seed, range(given.first, given.first + given.cases), progress):
        wrong += 1
        print(line, flush=True)
    print(f"fuzz: seed {seed}: {given.cases} cases, {wrong} faults", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
