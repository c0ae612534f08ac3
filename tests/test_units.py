"""Units at the edge: nothing is lost, nothing is guessed."""

import math
import pickle

import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from migkit import units
from migkit.scenario.errors import ScenarioError
from migkit.scenario.units import Bytes, Rate, Seconds

pytestmark = pytest.mark.short


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16 GiB", 16 * 2**30),
        ("16GiB", 16 * 2**30),
        ("  1.5 KiB ", 1536),
        ("1 kB", 1000),
        ("1 KB", 1000),
        ("2e3 B", 2000),
        ("1_000 bytes", 1000),
        ("8 bit", 1),
        ("1 Mbit", 125_000),
        ("1 TiB", 2**40),
        (0, 0),
        ("0", 0),
    ],
)
def test_sizes(text, size):
    assert units.parse_bytes(text) == size
    assert type(units.parse_bytes(text)) is int


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10 Gbit/s", 1.25e9),
        ("10 GB/s", 1e10),
        ("128 MiB/s", 128 * 2**20),
        ("1 Mbit/s", 125_000),
        ("1 Mibit/s", 131_072),
    ],
)
def test_rates(text, rate):
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "time"),
    [("300 ms", 0.3), ("50 us", 5e-5), ("50 µs", 5e-5), ("7 ns", 7e-9), ("1.5 min", 90.0), ("2 h", 7200.0), (0.0, 0.0)],
)
def test_times(text, time):
    assert units.parse_time(text) == time


@pytest.mark.parametrize(
    ("read", "value", "says"),
    [
        (units.parse_rate, "10 Gb/s", 'write "10 Gbit/s" or "10 GB/s"'),
        (units.parse_rate, "10Gbps", 'write "10 Gbit/s" or "10 GB/s"'),
        (units.parse_rate, "10 GBps", 'write "10 GB/s"'),
        (units.parse_bytes, "10 Gb", 'write "10 Gbit" or "10 GB"'),
        (units.parse_bytes, "16G", 'write "16 GiB" or "16 GB"'),
        (units.parse_bytes, "16 gib", 'did you mean "16 GiB"?'),
        (units.parse_bytes, 17179869184, "has no unit"),
        (units.parse_bytes, "17179869184", "has no unit"),
        (units.parse_rate, 1.5, "has no unit"),
        (units.parse_bytes, "300 ms", "is a time, but a size is needed"),
        (units.parse_rate, "16 GiB", "is a size, but a rate is needed"),
        (units.parse_time, "1 GB/s", "is a rate, but a time is needed"),
        (units.parse_bytes, Rate(3), "is a rate, but a size is needed"),
        (units.parse_time, "5 m", "use ns, us, ms, s, min or h"),
        (units.parse_time, "5 apples", '"apples", which is not understood'),
        (units.parse_bytes, "-1 B", "is negative"),
        (units.parse_bytes, "0.1 GiB", 'the nearest is "107374182 B"'),
        (units.parse_bytes, "nan B", "is not a number with a unit"),
        (units.parse_bytes, "1__0 B", "is not a number with a unit"),
        (units.parse_bytes, "1.2.3 B", "is not a number with a unit"),
        (units.parse_bytes, "", "is not a number with a unit"),
        (units.parse_bytes, "1e9999 B", "is not understood"),
        (units.parse_time, "1e999 s", "is too large"),
        (units.parse_bytes, None, "is not a size"),
        (units.parse_bytes, True, "is not a size"),
        (units.parse_bytes, math.nan, "has no unit"),
        (units.parse_rate, Rate(math.inf), "is not finite"),
        (units.parse_time, Seconds(math.nan), "is not finite"),
        (units.parse_bytes, "9" * 100_000 + " B", "is not a number with a unit"),
        (units.parse_bytes, "1e999 B", "is too large"),
    ],
)
def test_refused_in_one_sentence(read, value, says):
    with pytest.raises(ScenarioError) as caught:
        read(value)
    text = str(caught.value)
    assert says in text
    assert "\n" not in text
    assert text.endswith((".", "?"))
    assert str(pickle.loads(pickle.dumps(caught.value))) == text


@given(st.integers(0, 2**62))
def test_sizes_come_back(size):
    assert units.parse_bytes(units.format_bytes(size)) == size
    assert units.parse_bytes(Bytes(size)) == size


@given(st.floats(0, allow_infinity=False))
def test_rates_and_times_come_back(value):
    assert units.parse_rate(units.format_rate(value)) == value
    assert units.parse_time(units.format_time(value)) == value
    assert units.parse_rate(Rate(value)) == value
    assert units.parse_time(Seconds(value)) == value


@given(st.integers(1, 10**6), st.sampled_from(["kbit/s", "Mbit/s", "Gbit/s", "kB/s", "MiB/s"]))
def test_what_is_printed_is_short(amount, unit):
    text = f"{amount} {unit}"
    printed = units.format_rate(units.parse_rate(text))
    assert len(printed.split()[0]) <= len(text.split()[0])


def test_a_quantity_is_a_number_that_prints_with_its_unit():
    assert f"{Bytes(4096)} {Seconds(0.3)!r} {Rate(1e9):.0f}" == "4 KiB 300 ms 1000000000"
    assert type(Bytes(4096) * 2) is int
    assert pickle.loads(pickle.dumps(Rate(5.0))) == Rate(5.0)


def test_pint():
    ureg = pint.UnitRegistry()
    assert units.parse_bytes(ureg.Quantity(16, "GiB")) == 16 * 2**30
    assert units.parse_bytes(ureg.Quantity(0.1, "MB")) == 100_000
    assert units.parse_rate(ureg.Quantity(10, "Gbit/s")) == 1.25e9
    assert units.parse_time(ureg.Quantity(300, "ms")) == pytest.approx(0.3, rel=1e-15)


@pytest.mark.parametrize(
    ("read", "amount", "unit"),
    [
        (units.parse_bytes, 3, "s"),
        (units.parse_bytes, 3, "dimensionless"),
        (units.parse_bytes, [1, 2], "GiB"),
        (units.parse_rate, 3, "1/s"),
        (units.parse_rate, 3, "GiB"),
        (units.parse_time, 3, "GiB"),
        (units.parse_time, float("inf"), "s"),
        (units.parse_time, -1, "s"),
    ],
)
def test_pint_refused(read, amount, unit):
    with pytest.raises(ScenarioError, match=r"is not|is negative"):
        read(pint.UnitRegistry().Quantity(amount, unit))


def test_linspace():
    assert units.linspace("0 Gbit/s", "10 Gbit/s", 3) == ("0 B/s", "5 Gbit/s", "10 Gbit/s")
    assert units.linspace(0, "1 s", 3) == ("0 s", "500 ms", "1 s")
    pages = units.linspace("1 MiB", "1 GiB", 7, multiple="4 KiB")
    assert all(units.parse_bytes(text) % 4096 == 0 for text in pages)
    assert (pages[0], pages[-1]) == ("1 MiB", "1 GiB")


def test_geomspace():
    assert units.geomspace("10 ms", "10 s", 4) == ("10 ms", "100 ms", "1 s", "10 s")
    assert units.geomspace("1 s", "10 ms", 3) == ("1 s", "100 ms", "10 ms")
    assert units.geomspace("1 MiB", "4 MiB", 3) == ("1 MiB", "2 MiB", "4 MiB")


@pytest.mark.parametrize(
    ("space", "arguments", "says"),
    [
        (units.linspace, ("0 B", "1 s", 3), "is a size, but a time is needed"),
        (units.linspace, (0, 1, 3), "needs a unit"),
        (units.linspace, ("0 B", "1 MiB", 1), "2 or more"),
        (units.linspace, ("0 B", "1 MiB", 2.5), "2 or more"),
        (units.linspace, ("0 B", "2 B", 9), "more than once"),
        (units.linspace, ("0 B", "2 B", 3, "0 B"), "multiple"),
        (units.geomspace, ("0 B", "1 MiB", 3), "use linspace"),
        (units.linspace, ("0 B", "1 GiB", 10**9), "up to 1000000"),
        (units.geomspace, ("1e-300 s", "1e300 s", 9), "ends too far apart"),
    ],
)
def test_axes_refused(space, arguments, says):
    with pytest.raises(ScenarioError, match=says):
        space(*arguments)
