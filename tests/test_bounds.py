"""Lengths and counts are bounded before they are expanded, and what is given by mistake is told in a sentence."""

import signal

import fuzz
import numpy as np
import pytest

import migkit
from migkit import Design, Guest, Link, Scenario, ScenarioError, Sweep, Vfio
from migkit.run.grid import Layout
from migkit.run.values import Range, Spacing
from migkit.scenario.units import geomspace, linspace, parse_bytes, parse_time

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="needs a timer of CPU time")
SCENARIO = Scenario(
    guest=Guest(ram="1 GiB"), link=Link(bandwidth="10 Gbit/s"), devices=[Vfio(name="gpu", initial_bytes="1 MiB")]
)
RTT = {"link.rtt": ["1 ms"]}


def laid_out(axes=None, names=None, scenario=SCENARIO, **description):
    return Layout(Sweep(scenario=scenario, axes=axes or {}, **description), names)


def design(points=4, **rule):
    return laid_out(design={"method": "sobol", "points": points, "ranges": {"guest.zero_share": rule}})


def frontier(**arguments):
    return migkit.frontier(SCENARIO, "link.rtt", ["1 ms", "2 ms"], **arguments)


def sensitivity(**arguments):
    ranges = {"link.rtt": {"linspace": ["1 ms", "2 ms"]}, "guest.zero_share": {"linspace": [0, 1]}}
    return migkit.sensitivity(SCENARIO, ranges, **arguments)


REFUSED = [
    # one path a field
    (lambda: laid_out({"devices.0.count": [1], "devices.00.count": [2]}), "devices.00 is not how an index is written"),
    (lambda: laid_out({"devices.\u0660.count": [1]}), "indices here are 0 to 0"),
    (lambda: SCENARIO.replace_all({"devices.00.count": 2, "devices.0.count": 3}), "is not how an index is written"),
    (lambda: migkit.frontier(SCENARIO, "devices.00.count", [0, 2]), "is not how an index is written"),
    (lambda: SCENARIO.replace_all(None), "None is not a mapping of values by path"),
    # quantities
    (lambda: parse_bytes("1" * 16000 + " B"), "is not a number with a unit"),
    (lambda: parse_time("1e-999 s"), '"1e-999 s" is too small to be told from 0'),
    (lambda: linspace("1 B/s", "1e999 B/s", 3), "is too large"),
    (lambda: geomspace("1 B/s", "1e999 B/s", 3), "is too large"),
    (lambda: linspace("1 B/s", "2 B/s", 10**8), "up to 1000000"),
    (lambda: linspace("1 B/s", "2 B/s", 10**18), "up to 1000000"),
    (lambda: linspace("1 B", "2 B", 120_000), 'gives the value "1 B" more than once'),
    # axes
    (lambda: laid_out({"devices.0.count": range(10**18)}), "has more than 1000000 values"),
    (lambda: laid_out({"replicate": [0] * 120_000}), "replicate = 0 has a value twice"),
    (lambda: laid_out({"replicate": range(10**18)}), "has more than 1000000 values"),
    (lambda: laid_out(replicates=2**31), "must be from 1 to 1000000"),
    (lambda: laid_out({"link.rtt": Scenario}), "is not a list of values"),
    (lambda: laid_out({"link.rtt": {1: 2}}), "link.rtt has the key 1"),
    (lambda: laid_out({"link.rtt": {"linspace": ["1 ms", "2 ms", 2], 1: 2}}), "link.rtt has the key 1"),
    (lambda: design(**{"linspace": [0, 1]}) and laid_out(design={"ranges": {"link.rtt": {1: 2}}}), "has the key 1"),
    (lambda: laid_out({"a\0": RTT}), 'axes = "a\\x00" holds a NUL'),
    (lambda: laid_out({"\ud800": RTT}), 'axes = "\\ud800" holds half a character'),
    (lambda: laid_out({"sessions": RTT}), '"sessions" cannot be the name of a dimension'),
    (lambda: laid_out({"zarr.json": RTT}), '"zarr.json" cannot be the name of a dimension'),
    (lambda: laid_out({"../../x": RTT}), '"../../x" cannot be the name of a dimension'),
    (lambda: laid_out({"\U0001f600" * 90: RTT}), "cannot be the name of a dimension"),
    (lambda: laid_out(RTT, names=["x"]), "names = ['x'] is no mapping"),
    (lambda: laid_out(RTT, names={3: "x"}), "names = 3 is named but is not an axis"),
    (lambda: Spacing(linspace=[0, 1]).values(), "linspace = [0, 1] has too few values"),
    (lambda: Spacing(linspace=[0, 1, 2, 3]), "has too many values: it must be a list of 3"),
    (lambda: Spacing(linspace=[-1e308, 1e308, 3]).values(), "has ends that are too far apart"),
    # designs
    (lambda: design(linspace=[0, float("inf")]), "inf is not a finite number"),
    (lambda: design(linspace=[0, float("nan")]), "nan is not a finite number"),
    (lambda: design(linspace=[0, 1], multiple=5e-324), "multiple = 5e-324 is too small to round to"),
    (lambda: design(2**40, linspace=[0, 1]), "must be from 2 to 131072"),
    (
        lambda: Design(method="sobol", points=2, ranges={f"x{i}": Range(linspace=[0, 1]) for i in range(1001)}),
        "has 1001 fields",
    ),
    (
        lambda: Design(method="sobol", points=1 << 17, ranges={f"x{i}": Range(linspace=[0, 1]) for i in range(33)}),
        "more than 4194304 values",
    ),
    # lists of parts
    (lambda: SCENARIO.replace("devices", range(10**18)), "devices has more than 1024 entries"),
    (lambda: SCENARIO.replace("devices", [{"kind": 10**5000}]), "devices.0.kind = <int> is not a kind of device"),
    (lambda: Guest(ram="1 GiB", regions=[{"size": "4 KiB"}] * 2000), "regions has more than 1024 entries"),
    (
        lambda: laid_out(
            {"devices.0.count": range(65)},
            scenario=SCENARIO.replace("devices", [Vfio(initial_bytes=0, count=64)] * 1024),
        ),
        "change a list of 65537 devices in 65 ways",
    ),
    # TOML
    (lambda: Scenario.from_toml(".".join("a" * 100_000) + " = 1"), "has a key of too many names"),
    (lambda: Scenario.from_toml(f"a = {{ {'.'.join('a' * 100_000)} = 1 }}"), "has a key of too many names"),
    # frontier and sensitivity
    (lambda: frontier(tolerance=5e-324), "takes more than 1000000000 values"),
    (lambda: frontier(tolerance=1e-300), "takes more than 1000000000 values"),
    (lambda: frontier(outcome=["completed"]), "outcome = ['completed'] is not an outcome"),
    (lambda: sensitivity(outputs=5), "outputs = 5 is not a list of outputs"),
    (lambda: sensitivity(outputs=[["convergence"]]), "is not an output"),
    (lambda: sensitivity(points=2**20000), "points = <int> must be a whole number"),
    # files
    (lambda: migkit.sweep(SCENARIO, RTT, store="a\0b"), 'store = "a\\x00b" cannot be the name of a file or folder'),
    (lambda: migkit.sweep(SCENARIO, RTT, store="\ud800"), 'store = "\\ud800" cannot be the name of a file'),
    (lambda: migkit.sweep(SCENARIO, RTT, store=3), "store = 3 is not the path of a file or folder"),
    (lambda: migkit.sweep(SCENARIO, RTT, store=""), 'store = "" is not the path of a file or folder'),
    (lambda: migkit.sweep(SCENARIO, RTT, store="x", dask=3), "dask = 3 is neither a distributed.Client"),
    (lambda: migkit.open_sweep(3), "store = 3 is not the path"),
    (lambda: migkit.export(3, "x.csv"), "store = 3 is not the path"),
    (lambda: migkit.export("x.zarr", 3), "output = 3 is not the path"),
]


@pytest.mark.parametrize(("make", "says"), REFUSED, ids=[ascii(says[:50]) for _, says in REFUSED])
def test_refused_in_one_sentence_and_soon(make, says):
    with fuzz.limited(fuzz.LIMIT_S), pytest.raises(ScenarioError) as caught:
        make()
    assert says in str(caught.value)
    fuzz.check_sentence(str(caught.value))


def test_a_scan_of_more_than_all_nodes_is_all_of_them(monkeypatch):
    every = migkit.frontier(SCENARIO, "devices.0.count", [0, 8], scan=9)
    more = migkit.frontier(SCENARIO, "devices.0.count", [0, 8], scan=10**12)
    assert every.attrs["migrations"] == more.attrs["migrations"] == 9
    assert every.identical(more)
    monkeypatch.setattr("migkit.analysis.frontier.machine_memory", lambda: 100)
    with pytest.raises(ScenarioError, match="9 are computed first: they do not fit into memory"):
        migkit.frontier(SCENARIO, "devices.0.count", [0, 8])


def test_what_a_value_cannot_be_shown_as_is_not_written_out():
    for value in ({i: i for i in range(10**6)}, set(range(10**6)), b"x" * 10**8, np.zeros((1000, 1000))):
        error = ScenarioError("is refused", "field", value)
        assert len(str(error)) < 200


@pytest.mark.parametrize("count", [300, 1024])
def test_many_devices_and_regions_are_laid_out_soon(count):
    devices = SCENARIO.replace("devices", [Vfio(initial_bytes="1 MiB")] * count)
    regions = [{"size": "4 KiB", "start": f"{4 * i} KiB"} for i in range(count)]
    with fuzz.limited(fuzz.LIMIT_S):
        assert laid_out(
            {"guest.ram": ["1 GiB", "2 GiB"]}, scenario=SCENARIO.replace("guest.regions", regions)
        ).shape == (2,)
        assert laid_out({"link.rtt": ["1 ms", "2 ms"]}, scenario=devices).shape == (2,)
        with pytest.raises(ScenarioError, match=r"devices\.0 is a VFIO device"):
            laid_out({"qemu": ["9.0", "7.2"]}, scenario=devices)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("link.bandwidth", lambda i: f"{10**6 + i} kB/s"),
        ("link.rtt", lambda i: f"{i} us"),
        ("devices.0.initial_bytes", lambda i: f"{i} B"),
        ("guest.zero_share", lambda i: i / 120_000),
        ("name", lambda i: f"n{i}"),
    ],
)
def test_a_wide_axis_is_laid_out_soon(path, value):
    with fuzz.limited(fuzz.LIMIT_S):
        assert laid_out({path: [value(i) for i in range(120_000)]}).shape == (120_000,)
