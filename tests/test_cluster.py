"""A sweep on a Dask cluster: two worker processes, one of which is killed on the way."""

import os
import signal

import pytest
from killed_sweep import BATCH_ROWS, DESCRIPTION
from test_store import files

from migkit.run.cluster import connected
from migkit.run.design import Sweep
from migkit.run.grid import Layout
from migkit.run.many import sweep
from migkit.run.store import Store
from migkit.scenario.errors import ScenarioError

distributed = pytest.importorskip("distributed")
SWEEP = Sweep.from_toml(DESCRIPTION)


@pytest.fixture
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as running:
        yield running


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # sockets of the worker that is killed
def test_a_worker_that_is_killed_is_no_loss(tmp_path, cluster, monkeypatch):
    alone = tmp_path / "alone.zarr"
    sweep(SWEEP, store=alone, batch_rows=BATCH_ROWS)
    with distributed.Client(cluster, set_as_default=False) as client:
        workers = client.run(os.getpid)
        assert len(set(workers.values())) == 2
        finished = []

        def after_some_batches(rows):
            finished.append(rows)
            if len(finished) == 5:
                # as if it were killed between writing a chunk and renaming it
                (store.path / "culprit" / ".c.0.0.2.1.0123456789abcdef.partial").write_bytes(b"half a chunk")
                os.kill(next(iter(workers.values())), signal.SIGKILL)

        from migkit.run.cluster import on_cluster

        store = Store.at(tmp_path / "r.zarr", Layout(SWEEP), BATCH_ROWS)
        with store.session("test") as missing:
            on_cluster(store, missing, client, after_some_batches)
    assert len(finished) == len(missing) > 20
    assert sum(finished) == Layout(SWEEP).migrations
    assert files(store.path) == files(alone)


def test_a_sweep_takes_a_client_or_an_address(tmp_path, cluster):
    alone = tmp_path / "alone.zarr"
    sweep(SWEEP, store=alone, batch_rows=100)
    with distributed.Client(cluster, set_as_default=False) as client:
        sweep(SWEEP, store=tmp_path / "client.zarr", dask=client, batch_rows=100)
    sweep(SWEEP, store=tmp_path / "address.zarr", dask=cluster.scheduler_address, batch_rows=100)
    assert files(tmp_path / "client.zarr") == files(tmp_path / "address.zarr") == files(alone)


def test_nobody_at_the_address():
    with pytest.raises(ScenarioError, match="is not the address of a Dask scheduler that answers"):
        connected("tcp://127.0.0.1:1")


def test_no_address():
    with pytest.raises(ScenarioError, match="is not the address of a Dask scheduler that answers"):
        connected("over there")


def test_a_cluster_needs_a_store():
    with pytest.raises(ScenarioError, match="store is missing: the workers of a cluster write to it"):
        sweep(SWEEP, dask="tcp://127.0.0.1:1")
