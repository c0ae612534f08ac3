"""The measured migrations and the costs computed from them."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import migkit.qemu.traces as traces
from migkit.qemu import measured_costs, runs, table, trace

DATA = Path(__file__).parents[1] / "data" / "qemu-traces"
DEVICE = "B2__link200_dev1_init8__unser__r0"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the measured runs are part of a checkout only")


@pytest.fixture(scope="module")
def all_runs():
    return runs()


@pytest.fixture(scope="module")
def costs():
    return measured_costs()


def test_all_runs_are_there(all_runs):
    assert len(all_runs) == 724
    assert all_runs.index.is_unique
    assert all_runs.groupby("campaign")["outcome"].value_counts().to_dict() == {
        ("2026-11-22", "completed"): 226, ("2026-11-22", "not_converged"): 116,
        ("2026-11-26", "completed"): 309, ("2026-11-26", "not_converged"): 73,
    }  # fmt: skip
    assert all_runs.groupby("campaign")["build"].unique().map(set).to_dict() == {
        "2026-11-22": {"unser", "ser", "deb72"}, "2026-11-26": {"v82", "deb100", "v102", "deb111"},
    }  # fmt: skip
    assert set(all_runs["caps"].iloc[0]) == {"events"}
    assert all_runs.loc[all_runs["writes_max"], "target_writes_s"].isna().all()


def test_every_table_speaks_of_known_runs(all_runs):
    names = {file.stem for file in DATA.glob("*.parquet")} - {"runs"}
    assert len(names) == 13
    for name in names:
        assert set(table(name)["run"]) <= set(all_runs.index), name


def test_data_stay_small():
    assert sum(file.stat().st_size for file in DATA.glob("*.parquet")) < 4e6


def test_totals_agree_with_the_rows(all_runs):
    """Iterations, calls and returns: as the recorder counted them, and in the rows where none are missing."""
    whole = all_runs[all_runs["traced"] & ~all_runs["iterations_thinned"]]
    iterations = table("iterations").groupby("run").size()
    assert (iterations[whole.index] == whole["iterations"]).all()
    calls = table("handler_calls")
    returned = calls[calls["section"] == "ram"].groupby("run")["returned"]
    assert (returned.size()[whole.index] == whole["ram_calls"]).all()
    assert (returned.agg(lambda values: (values == 1).sum())[whole.index] == whole["ram_ret1"]).all()


def test_transferred_is_pages_and_headers(all_runs):
    """Bytes on the wire of runs without devices: a constant, 4104 a page, 9 a zero page, 18 a RAM call."""
    done = all_runs[(all_runs["outcome"] == "completed") & (all_runs["ndev"] == 0) & (all_runs["blk_mib"] == 0)]
    done = done[
        done["traced"] & (done["build"] != "deb72") & (done["accel"] == "tcg") & ~done["group"].isin(["M", "P"])
    ]
    rest = done["transferred"] - 4104 * done["normal"] - 9 * done["duplicate"] - 18 * done["ram_calls"]
    state = {"unser": 107_430, "ser": 107_430, "v82": 107_261, "deb100": 112_788, "deb111": 109_926}
    assert (rest == done["build"].map(state)).all()
    assert set(done["build"]) == set(state)


def test_threshold_is_bandwidth_times_downtime_limit(all_runs):
    windows = table("windows").join(all_runs[["dt_limit_ms", "avail_mib_s"]], on="run")
    windows = windows[windows["avail_mib_s"] == 0]
    bandwidth = windows["bytes"] / windows["ms"]
    assert (windows["bytes_per_ms"] == bandwidth.astype(np.int64)).all()
    off = windows["threshold"] - bandwidth * windows["dt_limit_ms"]
    assert off.abs().max() <= 1000  # 7.2 multiplies the truncated bandwidth


def test_downtime_is_what_the_checkpoints_say(all_runs):
    # 8.2's query-migrate leaves out what post-copy adds.
    done = all_runs[all_runs["downtime_end_ms"].notna() & all_runs["postcopy_at_s"].isna()]
    assert len(done) > 200
    measured = done["downtime_end_ms"] - done["downtime_start_ms"]
    assert (measured - done["downtime_ms"]).abs().max() < 2.5


def test_first_pass_of_a_paced_run_shows_the_link(all_runs):
    paced = all_runs[(all_runs["link_mib_s"] > 0) & (all_runs["bw_mib_s"] == 0) & (all_runs["other_cpu"] < 0.2)]
    share = paced["link_first_pass_bytes_per_s"] / paced["link_imposed_bytes_per_s"]
    assert 0.97 < share.median() < 1.01
    assert all_runs.loc[all_runs["link_mib_s"] == 0, "link_imposed_bytes_per_s"].isna().all()


def test_a_trace():
    seen = trace(DEVICE)
    assert seen.config["name"] == "link200_dev1_init8"
    assert seen.config.name == DEVICE
    assert len(seen.windows) == 25
    assert seen.windows["bytes"].iloc[0] == 25_060_284
    assert len(seen.iterations) == seen.config["iterations"] == 51
    assert list(seen.handler_calls["section"][:2]) == ["ram", "migtest0"]
    assert seen.device_iter["initial_left"].iloc[7] == 0
    assert seen.syncs["exact_after"].notna().sum() == 3
    assert seen.devices.loc[0, "stop_bytes"] == 1 << 20
    assert "run" not in seen.samples
    assert "source_return_path_thread_switchover_acked" in set(seen.events["event"])
    with pytest.raises(AttributeError):
        seen.run = "other"


def test_a_run_without_trace_has_its_samples():
    seen = trace("U__notrace_bw128_r050__unser__r0")
    assert not seen.config["traced"]
    assert seen.windows.empty
    assert len(seen.samples) > 50


def test_tables_are_copies():
    first = table("windows")
    first["bytes"] = 0
    assert table("windows")["bytes"].min() > 0


def test_unknown_run():
    with pytest.raises(KeyError, match="no measured run is called 'nothing'"):
        trace("nothing")


def test_missing_data_say_so_in_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"does not hold the measured migrations: give the folder .*\.$"):
        runs(tmp_path)
    monkeypatch.setenv("MIGKIT_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="MIGKIT_DATA"):
        runs()
    monkeypatch.setenv("MIGKIT_DATA", str(DATA.parent))
    assert len(runs()) == 724
    with pytest.raises(FileNotFoundError, match="has no table 'other'; it has big_waits"):
        table("other")


def test_pandas_is_read_only_when_needed():
    code = "import sys, migkit.qemu; print('pandas' in sys.modules, 'pyarrow' in sys.modules)"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == ["False", "False"]


def test_costs_are_ordered_and_have_units(costs):
    assert (costs["q1"] <= costs["median"]).all()
    assert (costs["median"] <= costs["q3"]).all()
    assert (costs["n"] > 0).all()
    assert set(costs["unit"]) <= {"ms", "us", "us/GiB", "us/MiB", "MiB", "MiB/s", "bytes", "1"}
    assert costs.index.is_unique


@pytest.mark.parametrize(
    ("cost", "case", "low", "high"),
    [
        ("window, mean of each run", "all", 100.0, 100.2),
        ("sync", "tcg max", 30, 120),
        ("sync", "kvm quiet", 1800, 2800),
        ("VM stop", "tcg quiet", 0, 0.5),
        ("page", "tcp quiet, later passes", 1.5, 3.0),
        ("link", "paced at 200 MiB/s, median window of each run", 199, 201),
        ("first pass slows down", "paced at 200 MiB/s", 340, 400),
        ("send buffer", "paced, first window against the others", 0.8e6, 1.3e6),
        ("ack, both", "paced, no limit", 4, 6),
        ("end of downtime, late", "return path, loopback max", 40, 45),
        ("RAM slice", "loopback, no limit", 51.0, 51.6),
    ],
)
def test_costs_that_the_readme_quotes(costs, cost, case, low, high):
    assert low <= costs.loc[(cost, case), "median"] <= high


@pytest.mark.parametrize("campaign", ["2026-11-22", "2026-11-26"])
def test_readme_quotes_the_computed_table(campaign):
    costs = measured_costs(campaign=campaign)
    text = (DATA / "README.md").read_text()
    text = text[text.index(f"### Campaign {campaign}") :].split("### ", 2)[1]
    for (cost, case), row in costs.iterrows():
        quartiles = " | ".join(f"{row[name]:.4g}" for name in ("q1", "median", "q3"))
        line = f"| {cost} | {case} | {quartiles} | {row['n']} | {row['unit']} |"
        assert line in text, line


def test_build_reads_what_it_documents():
    """Every column that build.py writes is named in README.md."""
    spec = importlib.util.spec_from_file_location("build_traces", DATA / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    text = (DATA / "README.md").read_text()
    for name, fields in build.SCHEMAS.items():
        assert f"`{name}.parquet`" in text, name
        for column, _ in fields:
            assert f"`{column}`" in text, (name, column)


def test_folder_is_beside_the_package():
    assert traces._folder(None) == DATA.resolve()
