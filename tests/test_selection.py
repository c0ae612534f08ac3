"""Parts of a Dataset by values as people write them."""

import numpy as np
import pytest
import xarray as xr

import migkit
from migkit import Guest, Link, Scenario, ScenarioError, Vfio, sel
from migkit.run.selection import written

LINK, RATE = "link.bandwidth", "migration.max_bandwidth"
LINKS = ["2.5 Gbit/s", "10 Gbit/s", "25 Gbit/s"]


@pytest.fixture(scope="module")
def swept():
    scenario = Scenario(
        guest=Guest(ram="256 MiB"), devices=[Vfio(initial_bytes="1 MiB")], link=Link(bandwidth=LINKS[0])
    )
    together = {RATE: ["64 MiB/s", "128 MiB/s"], "migration.downtime_limit": ["300 ms", "1 s"]}
    axes = {"policy": ["serialized", "unserialized"], LINK: LINKS, "limits": together, "devices.0.count": [0, 2]}
    return migkit.sweep(scenario, axes)


def test_a_value_with_its_unit_is_that_of_the_number(swept):
    xr.testing.assert_identical(sel(swept, {LINK: "25 Gbit/s"}), swept.isel({LINK: 2}))
    xr.testing.assert_identical(sel(swept, {LINK: "25000 Mbit/s"}), swept.isel({LINK: 2}))
    xr.testing.assert_identical(sel(swept, {LINK: 3.125e9}), swept.isel({LINK: 2}))
    xr.testing.assert_identical(sel(swept, {LINK: np.float64(3.125e9)}), swept.isel({LINK: 2}))


def test_the_end_of_a_path_is_enough(swept):
    xr.testing.assert_identical(sel(swept, bandwidth="10 Gbit/s", policy="serialized", count=2),
                                swept.isel({LINK: 1, "policy": 0, "devices.0.count": 1}))  # fmt: skip


def test_lists_and_slices_keep_the_dimension(swept):
    xr.testing.assert_identical(sel(swept, bandwidth=["25 Gbit/s", "2.5 Gbit/s"]), swept.isel({LINK: [2, 0]}))
    xr.testing.assert_identical(sel(swept, bandwidth=slice("10 Gbit/s", "25 Gbit/s")), swept.isel({LINK: [1, 2]}))
    xr.testing.assert_identical(sel(swept, bandwidth=slice(None, "9 Gbit/s")), swept.isel({LINK: [0]}))


def test_fields_that_move_together_and_devices(swept):
    xr.testing.assert_identical(sel(swept, {"migration.downtime_limit": "1 s"}), swept.isel(limits=1))
    assert sel(swept, device="vfio1")["device_bytes"].dims == ("policy", LINK, "limits", "devices.0.count")


def test_the_nearest_is_taken_only_when_asked(swept):
    with pytest.raises(ScenarioError, match=r'link.bandwidth = "24 Gbit/s" .* "10 Gbit/s" and "25 Gbit/s"'):
        sel(swept, bandwidth="24 Gbit/s")
    xr.testing.assert_identical(sel(swept, bandwidth="24 Gbit/s", method="nearest"), swept.isel({LINK: 2}))


def test_what_is_near_is_told_in_the_unit_that_was_asked_with():
    links = migkit.units.geomspace("1 Gbit/s", "100 Gbit/s", 30)
    wide = migkit.sweep(Scenario(guest=Guest(ram="256 MiB"), link=Link(bandwidth="1 GB/s")), {LINK: links})
    with pytest.raises(ScenarioError, match=r'near it are "23.9503 Gbit/s" and "28.0722 Gbit/s", of which'):
        sel(wide, bandwidth="25 Gbit/s")
    with pytest.raises(ScenarioError, match=r'near it are "2.99378 GB/s" and "3.50902 GB/s", of which'):
        sel(wide, bandwidth="3.1 GB/s")
    with pytest.raises(ScenarioError, match=r'near it are "1 Gbit/s" and '):
        sel(wide, bandwidth="0")
    with pytest.raises(ScenarioError, match=r'"2554199.64732 kB/s" and "2993783.27498 kB/s"'):
        sel(wide, bandwidth=3e9)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"link.bandwith": "25 Gbit/s"}, 'is not an axis of this Dataset: did you mean "link.bandwidth"'),
        ({LINK: "25 GiB"}, "link.bandwidth"),
        ({"policy": "serialised"}, 'did you mean "serialized"'),
        ({"nothing": 0}, "is not an axis of this Dataset"),
        ({RATE: "64 MiB/s", "migration.downtime_limit": "1 s"}, "limits is selected twice"),
        ({"policy": slice("a", "b")}, "give a list"),
        ([LINK], "is not a mapping"),
    ],
)
def test_what_is_not_there_is_told_in_a_sentence(swept, values, said):
    with pytest.raises(ScenarioError, match=said):
        sel(swept, values)


def test_an_axis_that_is_gone_is_told(swept):
    with pytest.raises(ScenarioError, match="it is 25 Gbit/s everywhere"):
        sel(sel(swept, bandwidth="25 Gbit/s"), bandwidth="10 Gbit/s")


def test_every_value_of_a_rule_is_found_as_it_is_written():
    links = migkit.units.geomspace("1 Gbit/s", "100 Gbit/s", 40)
    swept = migkit.sweep(Scenario(guest=Guest(ram="256 MiB"), link=Link(bandwidth="1 GB/s")), {LINK: links})
    for place, link in enumerate(links):
        assert float(sel(swept, bandwidth=link)[LINK]) == swept[LINK].values[place]
        assert float(sel(swept, bandwidth=written(swept[LINK].values[place], "B/s"))[LINK]) == swept[LINK].values[place]


def test_it_selects_from_other_datasets_too():
    scenario = Scenario(guest=Guest(ram="256 MiB", regions=[{"size": "64 MiB"}]), link=Link(bandwidth="1 GB/s"))
    found = migkit.frontier(
        scenario, "guest.regions.0.write_rate", ["10 MB/s", "20 GB/s"], {LINK: LINKS}, tolerance=0.3
    )
    assert sel(found, bandwidth="25 Gbit/s")["critical"].dims == ("flip",)
    assert set(migkit.words(found, "outcome_below").values.ravel()) == {"completed"}
    frame = migkit.to_frame(found)
    assert (frame["outcome_below"] == "completed").all()
    assert set(frame["outcome_above"]) <= {"ram_above_link", "time_limit"}


@pytest.mark.parametrize("method", [None, "nearest"])
def test_no_point_is_near_what_is_no_number(method):
    dataset = xr.Dataset(coords={"link.bandwidth": ("link.bandwidth", [1e9, 2e9], {"units": "B/s"})})
    with pytest.raises(ScenarioError, match="bandwidth = nan is not on this axis: it must be a finite number"):
        migkit.sel(dataset, bandwidth=float("nan"), method=method)
