"""The blocks of a sweep on a Dask cluster: each worker computes blocks and writes its own regions of the store."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from migkit.run.batches import Block
from migkit.run.store import Store
from migkit.run.threads import compute_block
from migkit.scenario.errors import ClusterLost, ScenarioError

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["connected", "on_cluster"]

BLOCKS_A_WORKER = 4
"""Blocks that are waiting or running for every thread of the cluster."""


def connected(address: str) -> Client:
    """Connect to a Dask scheduler.

    Parameters
    ----------
    address : str
        Such as ``tcp://10.0.0.1:8786``, as ``dask scheduler`` prints it.

    Raises
    ------
    ScenarioError
        If Dask is not installed, or nobody answers at the address.
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


def on_cluster(store: Store, blocks: list[Block], client: Any, advance: Callable[[int], object]) -> None:
    """Compute blocks on the workers of a cluster, which share the store's file system.

    A block of a worker that is lost is computed by another one; writing it twice writes the same bytes.

    Parameters
    ----------
    store : Store
        Where they go; its path must mean the same folder on every worker.
    blocks : list of Block
        What is missing.
    client : distributed.Client
        The cluster.
    advance : callable
        Told the number of migrations of each block that is finished.

    Raises
    ------
    ScenarioError
        If there are no workers.
    ClusterLost
        If they are lost on the way.
    """
    from distributed import KilledWorker, as_completed
    from distributed.comm import CommClosedError

    threads = sum(client.nthreads().values())
    if not threads:
        raise ScenarioError("has no workers: start some with dask worker", "the cluster", client.scheduler.address)
    if not blocks:
        return
    everywhere = client.scatter(store, broadcast=True, hash=False)
    waiting = iter(blocks)

    def submitted(block: Block) -> Any:
        return client.submit(compute_block, everywhere, block, pure=False, retries=2)

    first = [submitted(block) for block in itertools.islice(waiting, BLOCKS_A_WORKER * threads)]
    running = as_completed(first, loop=client.loop)
    try:
        for future in running:
            if future.status == "cancelled":
                raise ClusterLost("the scheduler is gone")
            advance(future.result())
            if (block := next(waiting, None)) is not None:
                running.add(submitted(block))
    except (KilledWorker, CommClosedError) as error:
        raise ClusterLost(f"the cluster lost too many workers ({type(error).__name__})") from error
    finally:
        if client.status == "running":
            client.cancel(list(running.futures), force=True)
