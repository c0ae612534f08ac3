"""The list of all fields, what notebooks show of scenarios and sweeps, and the forms of replace."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from typer.testing import CliRunner

import migkit
from migkit import Block, Guest, Link, Region, Scenario, ScenarioError, Sweep, Vfio, fields
from migkit.cli import app
from migkit.run.values import Design
from migkit.scenario.catalogue import notes
from migkit.scenario.scenario import field, read_values
from migkit.scenario.shown import differing

pytestmark = pytest.mark.short

SCENARIO = Scenario(
    guest=Guest(ram="1 GiB", regions=[Region(size="1 MiB")]),
    devices=[Vfio(initial_bytes="1 MiB")],
    link=Link(bandwidth="10 Gbit/s"),
    changes=[{"at": "1 s", "command": "stop"}],
)
WITH_DISK = SCENARIO.replace("devices", [Block(size="1 GiB")])
NOTES = {f"{note.path} of {note.part}": note for note in notes()}


def leaves(part, path=""):
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, tuple) and value:
            for i, each in enumerate(value):
                yield from leaves(each, f"{path}{name}.{i}.")
        elif hasattr(type(value), "model_fields"):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def of(note):
    """A scenario that has the field."""
    return WITH_DISK if note.part == "Block" else SCENARIO


def test_every_field_is_listed_once():
    listed = [(note.path, note.part) for note in notes()]
    assert len(set(listed)) == len(listed)
    assert {path for path, part in listed if part != "Ram"} == {*leaves(SCENARIO), *leaves(WITH_DISK)}
    assert list(fields()["path"]) == [path for path, _ in listed]


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES)
def test_a_field_is_described_by_its_docstring_and_type(note):
    assert note.meaning
    assert "``" not in note.meaning
    assert note.allowed
    numeric = note.unit != ""
    assert numeric == bool(re.search(r"from [\d.]+.* to [\d.]+", note.allowed))


RANGED = {name: note for name, note in NOTES.items() if note.unit}


@pytest.mark.parametrize("note", RANGED.values(), ids=RANGED)
def test_the_range_is_what_is_allowed(note):
    def read(value):
        return read_values(of(note), note.path, [value])[0]

    low, high = re.search(r"from (.*) to (.*)", note.allowed).groups()
    if note.unit in ("1", "%"):
        low, high = (float(end) if "." in end else int(end) for end in (low, high))
        refused = [low - 1, high + 1]
    else:
        number, unit = high.split()
        refused = [f"{2 * float(number)} {unit}"]
    assert read(low) <= read(high)
    for value in refused:
        with pytest.raises(ScenarioError, match="is outside the allowed range"):
            read(value)
    if note.default not in ("", "none"):
        default = note.default if note.unit not in ("1", "%") else float(note.default)
        read(int(default) if isinstance(default, float) and default.is_integer() else default)
    if note.unit in ("B", "B/s", "s"):
        assert migkit.run.design.SI_UNITS[type(read(low))] == note.unit


CHOICES = {name: note for name, note in NOTES.items() if note.default not in ("", "none") and not note.unit}


@pytest.mark.parametrize("note", CHOICES.values(), ids=CHOICES)
def test_the_default_is_that_of_the_scenario(note):
    value = field(of(note), note.path)
    assert note.default == (str(value).lower() if isinstance(value, bool) else str(value) or '""')


def test_a_list_of_pairs_is_one_field():
    steps = fields("rates").iloc[0]
    assert steps[["path", "part", "default", "allowed"]].tolist() == [
        "guest.regions.0.rates", "Region", "none", "list of (duration, bytes/s)"]  # fmt: skip
    assert SCENARIO.replace(steps["path"], [("5 s", "1 GB/s")]).guest.regions[0].highest_rate == 1e9
    assert list(fields("curve")["allowed"]) == ["list of (time, bytes/s)"]


def test_one_of_a_pair_is_no_axis():
    stepped = SCENARIO.replace("guest.regions.0.rates", [("5 s", "1 GB/s")])
    assert stepped.replace("guest.regions.0.rates.0.1", "2 GB/s").guest.regions[0].highest_rate == 2e9
    with pytest.raises(ScenarioError, match=r"guest\.regions\.0\.rates\.0\.1 cannot be an axis: it is one of a pair"):
        migkit.sweep(stepped, {"guest.regions.0.rates.0.1": ["1 GB/s", "2 GB/s"]})


def test_a_word_finds_paths_parts_and_meanings():
    assert list(fields("downtime")["path"]) == ["migration.downtime_limit", "changes.0.downtime_limit"]
    assert list(fields("max-bandwidth")["path"]) == ["migration.max_bandwidth", "changes.0.max_bandwidth"]
    assert set(fields("Vfio")["part"]) == {"Vfio"}
    assert list(fields("zeroes")["path"]) == ["guest.regions.0.zero_share"]  # only what is said of it has the word
    with pytest.raises(ScenarioError, match='"bandwith" is in no field: did you mean "bandwidth"'):
        fields("bandwith")
    with pytest.raises(ScenarioError, match="is not a word"):
        fields(3)


def test_the_command_prints_the_list_and_what_a_word_finds():
    shown = CliRunner().invoke(app, ["fields"])
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) == len(notes())
    assert "link.bandwidth  (B/s)  must be given; from 1 kB/s to 1 TB/s" in shown.stdout.splitlines()
    found = CliRunner().invoke(app, ["fields", "rtt"]).stdout.splitlines()
    assert found == ["link.rtt  (s)  default 100 us; from 0 s to 1 h",
                     "    Round trip, 0 to 1 h; an acknowledgement takes one."]  # fmt: skip
    wrong = CliRunner().invoke(app, ["fields", "bandwith"])
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)


def test_the_command_loads_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from migkit.cli import app; "
        "assert CliRunner().invoke(app, ['fields']).exit_code == 0; "
        "print(sorted({'numba', 'pandas', 'xarray'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- what notebooks show


class Cells(HTMLParser):
    """Text of the cells of tables, and of everything else."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.rest, self.open = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.cells if "td" in self.open else self.rest).append(data)


def test_a_scenario_shows_what_differs_from_the_defaults():
    changed = SCENARIO.replace({"link.rtt": "1 ms", "guest.regions.0.pattern": "sequential"}, policy="serialized")
    paths = [each.path for each in differing(changed)]
    given = ["guest.ram", "guest.regions.0.size", "devices.0.kind", "devices.0.initial_bytes", "link.bandwidth",
             "changes.0.at", "changes.0.command"]  # fmt: skip
    assert set(paths) - set(given) == {"link.rtt", "guest.regions.0.pattern", "policy"}
    cells = Cells(changed._repr_html_()).cells
    assert cells[cells.index("link.rtt") + 1 :][:2] == ["1 ms", "100 us"]
    assert cells[cells.index("guest.ram") + 1] == "1 GiB"
    assert "migration.downtime_limit" not in cells


def test_a_scenario_of_many_parts_shows_how_many_are_left():
    many = SCENARIO.replace("devices", [Vfio(initial_bytes="1 MiB")] * 30)
    shown = Cells(many._repr_html_())
    assert len([each for each in shown.cells if each.startswith("devices.")]) < 40
    assert any("more fields" in each for each in shown.rest)


def test_names_are_escaped():
    named = SCENARIO.replace(name="<script>alert(1)</script>")
    assert "<script" not in named._repr_html_()
    assert "<script" not in Sweep(scenario=named, axes={"<b>": {"link.rtt": ["1 ms"]}})._repr_html_()
    assert "<b>" not in Sweep(scenario=named, axes={"<b>": {"link.rtt": ["1 ms"]}})._repr_html_()


def described(**more):
    axes = {
        "policy": [None, "serialized"],
        "link.bandwidth": {"geomspace": ["1 Gbit/s", "100 Gbit/s", 5]},
        "limits": {"migration.max_bandwidth": ["1 GB/s", 0, "2 GB/s"], "migration.downtime_limit": ["1 s"] * 3},
    }
    return Sweep(**{"scenario": SCENARIO, "axes": axes} | more)


DESCRIBED = {
    "axes": described(),
    "replicates": described(replicates=3),
    "axis of replicates": described(axes={"replicate": range(4), "link.rtt": ["1 ms", "2 ms"]}),
    "design": described(
        axes={"policy": ["serialized", "unserialized"]},
        design=Design(method="sobol", points=4, ranges={"link.bandwidth": {"linspace": ["1 GB/s", "2 GB/s"]}}),
        replicates=2,
    ),
}


@pytest.mark.parametrize("sweep", DESCRIBED.values(), ids=DESCRIBED)
def test_sizes_and_length_are_those_of_the_dataset(sweep):
    dataset = migkit.sweep(sweep)
    assert list(sweep.sizes.items()) == [(dim, dataset.sizes[dim]) for dim in dataset["outcome"].dims]
    assert len(sweep) == dataset["outcome"].size
    shown = Cells(sweep._repr_html_())
    assert any(f"Sweep of {len(sweep)} migrations" in each for each in shown.rest)
    for dim, size in sweep.sizes.items():
        assert shown.cells[shown.cells.index(dim) + 1] == str(size)
    assert "guest.ram" in shown.cells


def test_a_sweep_shows_the_ends_of_its_axes():
    cells = Cells(described()._repr_html_()).cells
    assert cells[cells.index("link.bandwidth") :][:5] == [
        "link.bandwidth",
        "5",
        "link.bandwidth",
        "1 Gbit/s",
        "100 Gbit/s",
    ]
    assert cells[cells.index("policy") :][:5] == ["policy", "2", "policy", "default", "serialized"]
    assert cells[cells.index("limits") + 3 :][:2] == ["1 GB/s, 1 s", "2 GB/s, 1 s"]


# --- replace


def test_the_forms_of_replace_are_one():
    wanted = SCENARIO.replace("policy", "serialized").replace("link.rtt", "1 ms")
    assert SCENARIO.replace({"policy": "serialized", "link.rtt": "1 ms"}) == wanted
    assert SCENARIO.replace({"link.rtt": "1 ms"}, policy="serialized") == wanted
    assert SCENARIO.replace("link.rtt", "1 ms", policy="serialized") == wanted
    assert SCENARIO.replace(policy="serialized", time_limit="10 s") == SCENARIO.replace_all(
        {"policy": "serialized", "time_limit": "10 s"}
    )
    assert wanted.replace(policy=None).policy is None
    assert wanted.replace("policy", None).policy is None
    assert SCENARIO.replace({}) == SCENARIO


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.replace(), "replace needs a path and a value"),
        (lambda s: s.replace("policy"), "policy is given no value"),
        (lambda s: s.replace({"link.rtt": "1 ms"}, "1 s"), 'value = "1 s" is given beside a mapping'),
        (lambda s: s.replace({"policy": None}, policy="serialized"), "policy is given twice"),
        (lambda s: s.replace(bandwidth="1 GB/s"), r'bandwidth is not a field of Scenario: write "link\.bandwidth"'),
        (lambda s: s.replace(polic="serialized"), 'did you mean "policy"'),
        (lambda s: s.replace(None, "serialized"), "is not a path"),
        (lambda s: s.replace(policy="serialised"), 'did you mean "serialized"'),
    ],
)
def test_what_is_wrong_with_a_replacement_is_told(change, said):
    with pytest.raises(ScenarioError, match=said):
        change(SCENARIO)
