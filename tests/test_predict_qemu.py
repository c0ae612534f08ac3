"""A running QEMU is predicted, then migrated for real and compared: ``make test-qemu``. Outcomes and wide bounds."""

import asyncio
import os
import shutil

import pytest

from migkit import predict_running, simulate
from migkit.qemu.binary import find
from migkit.qemu.migrate import _Migration
from migkit.qemu.monitor import Monitor
from migkit.qemu.plan import Plan
from migkit.qemu.processes import Processes
from migkit.scenario.errors import ScenarioError

pytest.importorskip("qemu.qmp", reason="qemu.qmp is not installed: pip install 'migkit[qemu]'")
ROOTS = [root for root in os.environ.get("MIGKIT_QEMU_ROOTS", "").split(":") if root]
"""Further versions to test: folders as --qemu-root takes them."""
HERE = [None] * (shutil.which("qemu-system-x86_64") is not None) + ROOTS
pytestmark = [pytest.mark.qemu, pytest.mark.skipif(not HERE, reason="there is no qemu-system-x86_64 here")]
BASE = {"ram": "256 MiB", "max_bandwidth": "64 MiB/s", "time_limit": "25 s"}


class Predicted(_Migration):
    """A recording whose guest is predicted just before it migrates."""

    async def _warm_up(self):
        await super()._warm_up()
        path = str(self.processes.folder / "source.qmp")
        await self.monitors["source"].close()
        # Zero pages between others share huge pages with them, so the kernel does not tell them apart.
        zero = self.plan.zero_share * (1 - sum(region.size for region in self.plan.regions) / self.plan.ram)
        self.said = await asyncio.to_thread(predict_running, path, "20 Gbit/s", draws=60, zero_share=zero or None)
        self.monitors["source"] = Monitor("source", self.processes)
        await self.monitors["source"].connect(path)
        for change in self.changed(self.said):
            await self._parameters(change)

    def changed(self, said):
        """Parameters to set before it migrates."""
        return []


class Changed(Predicted):
    """Follows the first advice, and a quarter more: at the least value it converges as slowly as one likes."""

    def changed(self, said):
        """The max-bandwidth."""
        return [{name: int(value * 1.25) for name, value in said.changes[0].parameters.items()}]


async def _run(kind, plan, root):
    async with Processes() as processes:
        migration = kind(plan, find(root=root), processes)
        try:
            return migration, await migration.run()
        finally:
            await migration.close()


def quiet(recording):
    """Whether the host had time for this run: times are compared only then."""
    return recording["host"]["other_cpu_s"] < 0.2 * recording["host"]["wall_s"]


def predicted_and_measured(root, kind=Predicted, **fields):
    """The prediction and the recording."""
    migration, recording = asyncio.run(_run(kind, Plan(**BASE | fields), root))
    return migration.said, recording


@pytest.mark.parametrize("root", HERE)
@pytest.mark.parametrize(("pattern", "zero"), [("uniform", 0.0), ("sequential", 0.25)])
def test_a_guest_that_converges(root, pattern, zero):
    regions = [{"size": "64 MiB", "rate": "30 MB/s", "pattern": pattern}]
    said, recording = predicted_and_measured(root, regions=regions, zero_share=zero)
    assert said.completed >= 0.95
    assert recording["outcome"] == "completed"
    low, middle, high = said.total_time_s
    measured = recording["total_time_ms"] / 1e3
    print(said.guest.version, said.total_time_s, measured, said.downtime_s, recording["downtime_ms"])
    if quiet(recording):
        assert 0.9 * low < measured < 1.1 * high
        assert abs(middle - measured) < 0.15 * measured
        assert abs(said.downtime_s[1] * 1e3 - recording["downtime_ms"]) < 200


@pytest.mark.parametrize("root", HERE)
def test_a_guest_that_does_not_converge_and_what_would_let_it(root):
    regions = [{"size": "96 MiB", "rate": "150 MB/s"}]
    said, recording = predicted_and_measured(root, regions=regions, downtime_limit="100 ms", time_limit="12 s")
    assert said.completed <= 0.05
    assert recording["outcome"] == "not_converged"
    assert said.changes[0].enough
    said, recording = predicted_and_measured(root, Changed, regions=regions, downtime_limit="100 ms")
    (least,) = said.changes[0].parameters.values()
    total = simulate(said.scenario.replace("migration.max_bandwidth", type(least)(1.25 * least))).total_time_s
    print(said.guest.version, least, total, recording["total_time_ms"], recording["downtime_ms"])
    assert recording["outcome"] == "completed"
    if quiet(recording):
        # the largest of these limits is above what this host carries over loopback, for some tenths of a second
        assert abs(total - recording["total_time_ms"] / 1e3) < 0.4 * total + 0.5


def test_a_guest_that_is_too_small_is_refused():
    with pytest.raises(ScenarioError, match="less than 128 MiB"):
        predicted_and_measured(HERE[0], ram="64 MiB")


def test_nothing_is_changed_in_the_guest():
    """Its counters go on as before, and QEMU's parameters are what they were."""
    regions = [{"size": "64 MiB", "rate": "30 MB/s"}]
    _, recording = predicted_and_measured(HERE[0], regions=regions)
    counters = recording["guest"]["counters"]["rows"]
    source = [row for row in counters if row[1] == "src" and row[0] < 0]
    seconds = (source[-1][0] - source[0][0]) / 1e3
    assert (source[-1][-1] - source[0][-1]) / seconds == pytest.approx(30e6 / 4096, rel=0.1)
