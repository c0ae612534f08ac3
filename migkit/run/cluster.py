"""The batches of a sweep on a Dask cluster: the workers compute batches and write them to the store themselves."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from migkit.run.batches import Batch
from migkit.run.store import Store
from migkit.run.threads import compute_batch
from migkit.scenario.errors import ClusterLost, ScenarioError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["connected", "on_cluster"]

BATCHES_PER_THREAD = 4
"""Batches that are waiting or running for every thread of the cluster."""


def connected(address: str) -> Client:
    """Connect to a Dask scheduler.

    Parameters
    ----------
    address : str
        Such as ``tcp://10.0.0.1:8786``, as ``dask scheduler`` prints it.

    Raises
    ------
    ScenarioError
        If Dask is not installed, or no scheduler answers at the address.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ScenarioError("needs Dask: pip install 'migkit[dask]'", "--dask", address) from None
    try:
        return Client(address, timeout="10s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise ScenarioError(
            f"is not the address of a Dask scheduler that answers: {error}", "--dask", address
        ) from None


def on_cluster(store: Store, batches: list[Batch], client: Any, advance: Callable[[int], object]) -> None:
    """Compute batches on the workers of a cluster, which share the store's file system.

    A batch of a worker that is lost is computed by another one; writing it twice writes the same bytes.

    Parameters
    ----------
    store : Store
        Where the results go; its path must name the same folder on every worker.
    batches : list of Batch
        What to compute.
    client : distributed.Client
        The cluster.
    advance : callable
        Called with the number of migrations of each batch that is finished.

    Raises
    ------
    ScenarioError
        If there are no workers.
    ClusterLost
        If the workers or the scheduler are lost before all batches are computed.
    """
    from distributed import KilledWorker, as_completed
    from distributed.comm.core import CommClosedError

    threads = sum(client.nthreads().values())
    if not threads:
        raise ScenarioError("has no workers: start some with dask worker", "the cluster", client.scheduler.address)
    if not batches:
        return
    everywhere = client.scatter(store, broadcast=True, hash=False)
    waiting = iter(batches)

    def submitted(batch: Batch) -> Any:
        return client.submit(compute_batch, everywhere, batch, pure=False, retries=2)

    first = [submitted(batch) for batch in itertools.islice(waiting, BATCHES_PER_THREAD * threads)]
    running = as_completed(first, loop=client.loop)
    try:
        for future in running:
            if future.status == "cancelled":
                raise ClusterLost("the scheduler is gone")
            advance(future.result())
            if (batch := next(waiting, None)) is not None:
                running.add(submitted(batch))
    except (KilledWorker, CommClosedError) as error:
        raise ClusterLost(f"the cluster lost too many workers ({type(error).__name__})") from error
    finally:
        if client.status == "running":
            client.cancel(list(running.futures), force=True)
