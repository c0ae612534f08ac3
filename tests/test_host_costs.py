"""Costs of a host: the shipped file, files of one's own, and what results say of them."""

import numpy as np
import pytest

from migkit import Guest, HostCosts, Link, Scenario, ScenarioError, Sweep, simulate, sweep
from migkit.scenario.rows import records

PLAIN = Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"))


def test_the_defaults_are_those_of_the_shipped_file():
    from importlib.resources import files

    shipped = HostCosts.from_toml(files("migkit.scenario").joinpath("hosts", "default.toml").read_text())
    assert shipped.name == "assumed"
    assert shipped.changed(name="") == HostCosts()
    assert HostCosts().page == 2.1e-6
    assert HostCosts().bitmap_sync == 36e-6
    assert HostCosts().bitmap_sync_per_gib == 0.047e-3


def test_label():
    assert HostCosts().label == "assumed"
    assert HostCosts(page="1 us", setup="1 ms").label == "assumed except setup, page"
    assert HostCosts(name="rack 3", page="1 us").label == "rack 3"


def test_a_scenario_names_a_file_beside_it(tmp_path, monkeypatch):
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts" / "mine.toml").write_text('page = "1 us"\n')
    (tmp_path / "run.toml").write_text('costs = "hosts/mine.toml"\nguest.ram = "1 GiB"\nlink.bandwidth = "1 GB/s"\n')
    found = Scenario.from_toml(tmp_path / "run.toml")
    assert found.costs == HostCosts(name="mine.toml", page="1 us")
    assert Scenario.from_toml(found.to_toml()) == found
    (tmp_path / "hosts" / "mine.toml").write_text('name = "rack 3"\npage = "1 us"\n')
    assert Scenario.from_toml(tmp_path / "run.toml").costs.label == "rack 3"
    monkeypatch.chdir(tmp_path / "hosts")
    assert PLAIN.replace("costs", "mine.toml").costs.page == 1e-6


def test_a_sweep_names_a_file_beside_it(tmp_path):
    (tmp_path / "mine.toml").write_text('page = "1 us"\n')
    scenario = '[scenario]\ncosts = "mine.toml"\nguest.ram = "1 GiB"\nlink.bandwidth = "1 GB/s"\n'
    (tmp_path / "sweep.toml").write_text('[axes]\n"link.bandwidth" = ["1 GB/s", "2 GB/s"]\n' + scenario)
    assert Sweep.from_toml(tmp_path / "sweep.toml").scenario.costs.page == 1e-6


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, 'costs = ".* is not a file that exists'),
        ('pages = "1 us"', r"costs\.pages is not a field of HostCosts: did you mean"),
        ('page = "1 s"', r'costs\.page = "1 s" is outside the allowed range'),
        ("page = ", "is not valid TOML"),
    ],
)
def test_a_file_that_holds_no_costs(tmp_path, text, says):
    if text is not None:
        (tmp_path / "nowhere.toml").write_text(text)
    (tmp_path / "run.toml").write_text('costs = "nowhere.toml"\nguest.ram = "1 GiB"\nlink.bandwidth = "1 GB/s"\n')
    with pytest.raises(ScenarioError, match=says):
        Scenario.from_toml(tmp_path / "run.toml")
    with pytest.raises(ScenarioError, match=says):
        Scenario(guest=Guest(ram="1 GiB"), link=Link(bandwidth="1 GB/s"), costs=str(tmp_path / "nowhere.toml"))


def test_results_name_the_costs():
    assert simulate(PLAIN).costs == "assumed"
    assert simulate(PLAIN).to_dict()["provenance"]["costs"] == "assumed"
    named = PLAIN.replace("costs.name", "rack 3")
    assert sweep(named, {"link.bandwidth": ["1 GB/s"]}).attrs["costs"] == "rack 3"


def test_descriptions_keep_their_digests():
    one = Sweep(scenario=PLAIN, axes={"link.bandwidth": ["1 GB/s"]})
    assert one.sha256 == "93c3f690df89a2e7e8ad240cb05d998c23fd8b87b17fa07b1d39f6d0ad4bdbc6"
    assert Sweep(scenario=PLAIN.replace("costs.fresh_page", "1 us"), axes=one.axes).sha256 != one.sha256


def test_fresh_pages_of_the_host():
    page = 4096 + 8

    def link(**changes):
        return records([PLAIN.replace_all({path.replace("__", "."): value for path, value in changes.items()})]).links[
            0
        ]

    plain = link()
    assert plain.fresh_ns_per_byte == plain.ns_per_byte == 1.0
    assert plain.fresh_after_pages == 2**18
    slow = link(costs__fresh_page="4104 ns", costs__fresh_after="512 MiB")
    assert slow.fresh_ns_per_byte == pytest.approx(1 + 4104 / page)
    assert slow.fresh_after_pages == 2**17
    # On a slower link the destination takes as long for a page as before.
    slower = link(costs__fresh_page="4104 ns", link__bandwidth="0.5 GB/s")
    assert slower.fresh_ns_per_byte == pytest.approx(2 + 4104 / page)
    assert slower.fresh_after_pages == 0
    # What the scenario says of the link stands above the host.
    given = link(costs__fresh_page="4104 ns", link__fresh_bandwidth="0.5 GB/s", link__fresh_after="256 MiB")
    assert (given.fresh_ns_per_byte, given.fresh_after_pages) == (2.0, 2**16)


def test_a_link_slower_than_the_first_pass():
    slow = PLAIN.replace_all({"link.fresh_bandwidth": "0.2 GB/s", "link.bandwidth": "0.1 GB/s"})
    plain = PLAIN.replace("link.bandwidth", "0.1 GB/s")
    assert records([slow]).links.fresh_ns_per_byte == records([plain]).links.fresh_ns_per_byte
    assert simulate(slow).total_time_s == simulate(plain).total_time_s


def test_fresh_pages_take_longer():
    times = [
        simulate(PLAIN.replace_all({"migration.max_bandwidth": 0, "costs.fresh_page": cost})).total_time_s
        for cost in ("0 s", "4 us")
    ]
    assert np.diff(times)[0] == pytest.approx(2**18 * 4e-6, rel=0.01)
