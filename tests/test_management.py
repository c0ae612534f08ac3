"""Management policies: their ladders as published, what they do to a migration, and how a scenario names them."""

import pickle
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

import migkit
from migkit import Guest, Link, Migration, Region, Scenario, ScenarioError, Vfio, management, simulate, sweep
from migkit.kernels.state import MANAGEMENT_NUMBERS, MANAGEMENT_SETTINGS
from migkit.scenario.management import CANCEL, KEEP, SET_DOWNTIME_LIMIT, STOP_VM
from migkit.scenario.policy import read_policy

GIB = 2**30
HOPELESS = Scenario(
    guest=Guest(ram="4 GiB", regions=[Region(size="1 GiB", start="1 GiB", write_rate="3 GB/s")]),
    link=Link(bandwidth="10 Gbit/s"),
    migration=Migration(max_bandwidth=0),
    time_limit="2 h",
)


def shown(seconds, **given):
    """What QMP shows after a time, of a guest of 4 GiB that never gets below 1 GiB."""
    default = {
        "total_time_ms": round(seconds * 1e3), "remaining": GIB, "transferred": int(seconds * 1e9), "total": 4 * GIB,
        "mbps": 8000.0, "dirty_sync_count": 1, "expected_downtime_ms": 300.0, "downtime_limit_ms": 300.0,
        "max_bandwidth": 0, "throttle": 0, "status": 0, "vm_stopped": 0, "has_vfio": 0, "polled": 1,
    }  # fmt: skip
    return SimpleNamespace(**default | given)


def answers(policy, until, of=lambda t: {}):
    """What a policy answers but KEEP, (seconds, command, value), asked at its polls; `of` is what differs at a time."""
    made = read_policy("management", policy)
    own = [0.0] * (MANAGEMENT_NUMBERS - MANAGEMENT_SETTINGS) + list(made.settings)
    found, t = [], made.first_ns
    while t <= until * 1e9:
        command, value = made.function(shown(t * 1e-9, **of(t * 1e-9)), own)
        if command != KEEP:
            found.append((round(t * 1e-9, 6), command, value))
            if command == CANCEL:
                break
        t += made.poll_ns
    return found


def limits(found):
    return [value for _, command, value in found if command == SET_DOWNTIME_LIMIT]


def times(found):
    return [time for time, _, _ in found]


# ---------------------------------------------------------------- ladders


def test_nova_as_its_docstring_has_it():
    found = answers('nova(downtime="400 ms", delay="30 s")', 1000, lambda t: {"total": 3 * GIB})
    assert limits(found) == [40, 76, 112, 148, 184, 220, 256, 292, 328, 364, 400]
    assert np.diff(times(found)).tolist() == [90.0] * 10


def test_nova_by_default():
    found = answers("nova", 5000)
    assert limits(found) == [50 + 45 * i for i in range(11)]
    assert times(found)[1:-1] == pytest.approx([300.0 * i + 0.5 for i in range(1, 11)])  # strictly later
    assert found[-1][:2] == (3200.5, CANCEL)


def test_nova_counts_two_gib_at_least_and_the_disks():
    small = answers("nova", 2000, lambda t: {"total": GIB})
    assert small[-1][:2] == (1600.5, CANCEL)
    disk = answers('nova(disk="2 GiB")', 6000)
    assert disk[-1][:2] == (4800.5, CANCEL)


def test_nova_forces_in_the_poll_after_the_timeout():
    found = answers('nova(timeout_action="force_complete")', 3300)
    assert found[-1] == (3201.0, STOP_VM, 0.0)
    assert not [each for each in found if each[1] == CANCEL]


def test_nova_without_a_timeout_goes_on():
    assert answers('nova(completion_timeout="0 s")', 20_000)[-1][1] == SET_DOWNTIME_LIMIT


@pytest.mark.parametrize(
    ("schedule", "ladder"),
    [
        ("minimal downtime", [100, 150, 200, 300, 400, 500]),
        ("suspend workload", [100, 150, 200, 300, 400, 500, 5000]),
        ("very large VMs", [300, 400, 500, 700, 1000, 1500, 5000]),
    ],
)
def test_ovirt_does_one_thing_a_poll(schedule, ladder):
    found = answers(f'ovirt(schedule="{schedule}")', 300, lambda t: {"dirty_sync_count": 1 + int(t)})
    assert limits(found) == ladder
    assert found[-1][1] == CANCEL
    # the first poll sees the first iteration; then ten pass in each poll, and one thing is done in it
    assert times(found) == [0.0, *(20.0 + 10.0 * i for i in range(len(ladder)))]


def test_ovirt_waits_for_its_iterations():
    found = answers("ovirt", 300, lambda t: {"dirty_sync_count": 1 + int(t / 20)})
    # iterations since the first poll, at 10 s: one every second poll; done when more have passed than the head says
    assert times(found) == [0.0, 40.0, 60.0, 80.0, 100.0, 140.0, 160.0]
    assert answers("ovirt", 1000, lambda t: {"dirty_sync_count": 3}) == [(0.0, SET_DOWNTIME_LIMIT, 100.0)]


def test_legacy_of_ovirt_is_its_formula():
    steps, limit = 5, 500
    formula = [int(limit / steps + (limit - limit / steps) ** (i / (steps - 1))) for i in range(steps)]
    found = answers('ovirt(schedule="legacy")', 1000, lambda t: {"dirty_sync_count": 1 + int(t / 10)})
    assert limits(found) == [*formula, 500]
    assert found[-2][0] == 10.0 + 10 * 43
    assert found[-1][:2] == (450.0, CANCEL)


@pytest.mark.parametrize(
    ("most", "ladder"),
    [
        (900, [150, 257, 364, 471, 578, 685, 792, 899, 900]),
        (1050, [150, 278, 406, 534, 662, 790, 918, 1046, 1050]),
    ],
)
def test_the_ramp_of_kubevirt(most, ladder):
    policy = f'kubevirt_downtime_tuning(max_downtime="{most} ms")'
    falling = {"remaining": 0}

    def of(t):
        return {"dirty_sync_count": 1 + int(t / 10), "remaining": 8 * GIB - int(t * 1e6)}

    found = answers(policy, 300, of)
    assert limits(found) == ladder
    assert falling["remaining"] == 0
    assert times(found)[0] == pytest.approx(0.4)
    assert times(found)[1] == pytest.approx(20.0)  # iteration 3; 10 s after the first have long passed
    assert all(9.9 < later - earlier < 10.5 for earlier, later in pairwise(times(found)[1:]))


def test_kubevirt_cancels_at_its_deadline():
    found = answers("kubevirt", 5000, lambda t: {"total": 8 * GIB, "remaining": int(9e12 - t * 1e6)})
    assert found[-1][1] == CANCEL
    assert 150 * 9 < found[-1][0] <= 150 * 9 + 1.5  # 8 GiB are 9 GB
    forced = answers(
        "kubevirt(allow_workload_disruption=True)", 5000, lambda t: {"total": 8 * GIB, "remaining": int(9e12 - t * 1e6)}
    )
    assert [command for _, command, _ in forced] == [STOP_VM, CANCEL]
    assert 2 * 150 * 9 < forced[-1][0] <= 2 * 150 * 9 + 1.5
    vfio = answers(
        "kubevirt(allow_workload_disruption=True)", 2000,
        lambda t: {"total": 8 * GIB, "remaining": int(9e12 - t * 1e6), "has_vfio": 1},
    )  # fmt: skip
    assert limits(vfio) == [2_000_000.0]


def test_progress_of_kubevirt_is_less_than_in_the_poll_before():
    stalled = answers("kubevirt", 1000)
    assert stalled[-1][1] == CANCEL
    assert 150 < stalled[-1][0] <= 152
    # a saw-tooth that climbs falls now and then, and never stalls
    saw = answers(
        'kubevirt(completion_timeout="0 s")', 1000, lambda t: {"remaining": GIB + int(t * 1e6) + int(t) % 7 * 10**8}
    )
    assert saw == []


def test_proxmox_doubles_at_the_sixth_rise():
    def of(t):
        look = round(t)
        return {"remaining": 3 * GIB + (look if look % 2 else -look) * 2**20, "transferred": GIB + look}

    found = answers("proxmox", 60, of)
    assert limits(found) == [100.0 * 2**k for k in range(len(found))]
    # looks at 1, 2, 3 s ..: it rises at every second one, and the falls between do not reset the count
    assert np.diff(times(found)[1:]).tolist() == pytest.approx([12.0] * (len(found) - 2))


def test_proxmox_looks_more_often_near_the_end_and_stops_at_2000_s():
    found = answers("proxmox", 60, lambda t: {"remaining": 0, "transferred": int(t * 1e9)})
    assert limits(found)[-1] == 2_000_000.0
    assert limits(found)[:5] == [100.0, 200.0, 400.0, 800.0, 1600.0]
    assert np.diff(times(found)[2:8]).tolist() == pytest.approx([0.6] * 5)


def test_libvirt_and_cloudstack():
    assert answers('libvirt(timeout="60 s")', 1000) == [(60.5, STOP_VM, 0.0)]
    assert answers("cloudstack", 1000) == []
    found = answers(
        'cloudstack(downtime="2 s", pause_after="5 s", wait="9 s")', 20, lambda t: {"vm_stopped": int(t > 5.15)}
    )
    assert [(round(time, 3), command, value) for time, command, value in found] == [
        (1.0, SET_DOWNTIME_LIMIT, 2000.0), (5.1, STOP_VM, 0.0),
    ]  # fmt: skip
    assert answers('cloudstack(wait="9 s")', 20)[-1][1] == CANCEL


# ---------------------------------------------------------------- the stall detector


def stalls(left, until=400, policy="kubevirt_stall_detection"):
    """Answers when a sync every second leaves `left(second)` bytes, at 1 GB/s."""
    made = read_policy("management", policy)
    own = [0.0] * (MANAGEMENT_NUMBERS - MANAGEMENT_SETTINGS) + list(made.settings)
    found = []
    for tick in range(int(until / 0.4)):
        t = tick * 0.4
        command, value = made.function(shown(t, remaining=int(left(t)), dirty_sync_count=1 + int(t)), own)
        if command != KEEP:
            found.append((t, command, value))
            if command == CANCEL:
                break
    return found


def test_a_stall_near_the_limit_switches_over():
    found = stalls(lambda t: max(1.0e9, 3e9 - 1e8 * t))  # from 20 s on 1 s is left
    assert found[0] == (0.0, SET_DOWNTIME_LIMIT, 300.0)
    assert 60 <= found[1][0] < 62  # 40 s after the least was first seen
    assert found[1][1:] == (SET_DOWNTIME_LIMIT, 900.0)
    # 1 s is above 900 ms: it may never fire, and is cancelled a minute later
    assert found[2][1] == CANCEL
    assert 60 < found[2][0] - found[1][0] < 62


def test_a_stall_far_above_the_limit_is_cancelled_or_forced():
    assert [command for _, command, _ in stalls(lambda t: 3e9)] == [SET_DOWNTIME_LIMIT, CANCEL]
    forced = stalls(lambda t: 3e9, 80, "kubevirt_stall_detection(allow_workload_disruption=True)")
    assert limits(forced) == [300.0, 2_000_000.0]


def test_a_migration_that_gets_on_is_not_stalled():
    # 4 % in 40 s are a tenth of a percent a second
    assert len(stalls(lambda t: 40e9 * 0.998**t, 300)) == 1
    assert stalls(lambda t: 40e9 * 0.9995**t, 300)[-1][1] == CANCEL


# ---------------------------------------------------------------- in a migration


def test_nova_in_a_migration():
    found = simulate(HOPELESS.replace("management", "nova"))
    assert found.outcome == "cancelled"
    changes = found.changes
    assert changes["what"].tolist() == ["downtime-limit"] * 11 + ["migrate_cancel"]
    assert changes["value"].tolist()[:-1] == pytest.approx([0.050 + 0.045 * i for i in range(11)])
    assert ((changes["time_s"] - [0.5, *(300.0 * i for i in range(1, 11)), 3200.5]).abs() < 0.6).all()
    assert found.verdict_time_s == pytest.approx(3200.25, abs=0.3)
    assert found.cause == "link"
    assert found.sentence.startswith("Cancelled by nova, after ")
    assert found.to_dict()["changes"][0]["what"] == "downtime-limit"
    assert "nova: 12 changes" in found.summary()


def test_a_migration_that_would_have_completed_says_so():
    late = HOPELESS.replace_all({
        "guest.regions.0.write_rate": "1 MB/s", "management": 'cloudstack(wait="2 s")', "link.bandwidth": "2 Gbit/s",
    })  # fmt: skip
    found = simulate(late)
    assert (found.outcome, found.cause) == ("cancelled", "cancelled")
    alone = simulate(late.replace("management", None))
    assert found.margin.needed == pytest.approx(alone.total_time_s)
    assert found.margin.available == found.verdict_time_s
    assert "it completes in 17." in found.sentence


def test_force_complete_stops_the_vm():
    found = simulate(HOPELESS.replace("management", 'nova(timeout_action="force_complete")'))
    assert found.converged
    assert found.changes["what"].iloc[-1] == "stop"
    assert found.downtime_s == pytest.approx(sum(found.downtime_parts_s.values()))
    assert found.numbers["stop_time_s"] == pytest.approx(3200.75, abs=0.3)
    stopped = simulate(HOPELESS.replace("changes", [{"at": "5 s", "command": "stop"}]))
    assert stopped.numbers["downtime_paused_s"] > 0.2
    assert "the stop before the switchover took" in stopped.sentence


def test_a_migration_without_a_change_is_the_same_under_a_policy():
    quiet = HOPELESS.replace("guest.regions", [])
    plain, watched = (simulate(quiet.replace("management", each)) for each in ("fixed", 'libvirt(timeout="1 h")'))
    different = {
        name for name in plain.numbers if not np.array_equal(plain.numbers[name], watched.numbers[name], equal_nan=True)
    }
    assert different <= {"steps"}
    assert watched.changes.empty


@pytest.mark.parametrize("engine", ["expected", "bitmap"])
def test_policies_are_an_axis(engine):
    small = HOPELESS.replace_all({"guest.ram": "256 MiB", "guest.regions.0.start": 0, "guest.regions.0.size": "128 MiB",
                                  "link.bandwidth": "1 Gbit/s", "time_limit": "10 min"})  # fmt: skip
    policies = [None, "fixed", "nova", management.nova(completion_timeout="20 s"), "proxmox"]
    found = sweep(small, {"management": policies, "link.rtt": ["0 s", "1 ms"]}, engine, threads=2)
    for place, policy in enumerate(policies):
        alone = simulate(small.replace("management", policy), engine)
        assert found["outcome"].values[place, 0] == alone.outcome
        assert found["verdict_time_s"].values[place, 0] == alone.verdict_time_s
    assert found["management"].values.tolist()[3] == "nova(completion_timeout='20 s')"
    assert migkit.words(found, "outcome").values[3, 0] == "cancelled"


def test_changes_are_axes():
    scenario = HOPELESS.replace("changes", [{"at": "5 s", "link_bandwidth": "20 Gbit/s"}])
    axes = {
        "changes.0.at": ["1 s", "5 s"],
        "changes.0.link_bandwidth": ["10 Gbit/s", "40 Gbit/s"],
        "link.send_buffer": ["0 B", "1 MiB"],
    }
    found = sweep(scenario, axes)
    for i, at in enumerate(axes["changes.0.at"]):
        for k, rate in enumerate(axes["changes.0.link_bandwidth"]):
            alone = simulate(scenario.replace({"changes.0.at": at, "changes.0.link_bandwidth": rate}))
            assert found["verdict_time_s"].values[i, k, 0] == alone.verdict_time_s
    with pytest.raises(ScenarioError, match=r"changes\.1\.at = \"3 s\" is before the change ahead of it"):
        sweep(scenario.replace("changes", [{"at": "1 s", "command": "stop"}, {"at": "3 s", "command": "stop"}]),
              {"changes.0.at": ["2 s", "4 s"]})  # fmt: skip


def test_a_slower_link_is_a_slower_link():
    fast = Scenario(guest=Guest(ram="4 GiB"), link=Link(bandwidth="10 Gbit/s"), migration=Migration(max_bandwidth=0))
    halved = simulate(fast.replace("changes", [{"at": "1 s", "link_bandwidth": "5 Gbit/s"}]))
    whole = simulate(fast)
    assert halved.total_time_s == pytest.approx(2 * whole.total_time_s - 1, abs=0.1)
    limited = simulate(fast.replace("changes", [{"at": "1 s", "max_bandwidth": "128 MiB/s"}]))
    assert limited.total_time_s == pytest.approx(1 + (whole.total_time_s - 1) * 1.25e9 / (128 * 2**20), rel=0.04)


# ---------------------------------------------------------------- post-copy

POSTCOPY = HOPELESS.replace("migration.postcopy_ram", True)


@pytest.mark.parametrize(
    ("policy", "after_s"),
    [
        ('nova(timeout_action="force_complete", permit_post_copy=True, completion_timeout="5 s")', 21.0),
        ('libvirt(timeout="6 s", action="postcopy")', 6.5),
        ("libvirt_postcopy_after_precopy", 3.5),
        ('kubevirt(allow_post_copy=True, completion_timeout="2 s")', 11.2),
        ('ovirt(schedule="post-copy")', 40.0),
        ("kubevirt_stall_detection(allow_post_copy=True)", 45.0),
    ],
)
def test_policies_start_post_copy(policy, after_s):
    found = simulate(POSTCOPY.replace("management", policy))
    assert found.converged
    assert found.changes["what"].iloc[-1] == "migrate-start-postcopy"
    assert found.changes["time_s"].iloc[-1] == pytest.approx(after_s, abs=1.0)
    assert found.numbers["stop_time_s"] >= found.changes["time_s"].iloc[-1]
    assert found.numbers["postcopy_bytes"] > 2**28
    assert found.downtime_s < 0.3


def test_post_copy_after_the_first_pass_comes_at_once_where_every_iteration_syncs():
    """With 11.1 the second sync comes after one call of RAM, with 10.0 after the first pass."""
    policy = POSTCOPY.replace("management", "libvirt_postcopy_after_precopy")
    began = [simulate(policy.replace("qemu", version)).changes["time_s"].iloc[-1] for version in ("10.0", "11.1")]
    assert began == pytest.approx([3.223, 0.054], abs=0.005)


def test_post_copy_by_a_change_is_that_at_its_time():
    changed = simulate(POSTCOPY.replace("changes", [{"at": "5 s", "command": "migrate-start-postcopy"}]))
    fixed = simulate(POSTCOPY.replace("migration.postcopy_at", "5 s"))
    assert changed.total_time_s == fixed.total_time_s
    assert changed.numbers["postcopy_faults"] == fixed.numbers["postcopy_faults"]
    with pytest.raises(ScenarioError, match=r"changes\.0\.command = .* needs migration\.postcopy_ram = True"):
        HOPELESS.replace("changes", [{"at": "5 s", "command": "migrate-start-postcopy"}])


def test_a_guest_on_the_destination_is_not_cancelled():
    slow = POSTCOPY.replace({"migration.max_postcopy_bandwidth": "20 MB/s", "migration.postcopy_at": "5 s",
                             "management": 'cloudstack(wait="8 s")'})  # fmt: skip
    found = simulate(slow)
    assert found.converged
    assert found.total_time_s > 15
    assert found.changes.empty


def test_a_policy_of_ones_own_that_starts_it_without_the_capability_is_told():
    def starts_at_once(shown, own):
        return management.START_POSTCOPY, 0.0

    made = migkit.policy(starts_at_once, question="management")
    assert simulate(POSTCOPY.replace("management", made)).converged
    with pytest.raises(ScenarioError, match=r"post-copy needs migration\.postcopy_ram"):
        simulate(HOPELESS.replace("management", made))


# ---------------------------------------------------------------- one's own


@migkit.policy(question="management", poll="2 s")
def twice_as_long(shown, own):
    """Halve the bandwidth at first, and double the downtime limit every two seconds."""
    own[0] += 1.0
    if own[0] == 1.0:
        return management.SET_MAX_BANDWIDTH, 500e6
    return SET_DOWNTIME_LIMIT, min(8000.0, 2.0 * shown.downtime_limit_ms)


def test_one_of_ones_own():
    found = simulate(HOPELESS.replace("management", twice_as_long))
    assert found.converged
    assert found.changes["what"].tolist()[:3] == ["max-bandwidth", "downtime-limit", "downtime-limit"]
    assert found.changes["value"].tolist()[:3] == [5e8, 0.6, 1.2]
    assert set(found.changes["by"]) == {"twice_as_long"}


def test_what_is_refused():
    with pytest.raises(ScenarioError, match="must take two parameters"):
        migkit.policy(lambda state, devices, live, own: (0, 0.0), question="management")

    def changes_what_it_sees(shown, own):
        shown.remaining = 0
        return KEEP, 0.0

    def nova(shown, own):
        return KEEP, 0.0

    def odd(shown, own):
        return 9, 0.0

    with pytest.raises(ScenarioError, match="changes nothing but its own numbers"):
        migkit.policy(changes_what_it_sees, question="management")
    with pytest.raises(ScenarioError, match="is the name of a built-in policy"):
        migkit.policy(nova, question="management")
    with pytest.raises(ScenarioError, match=r'poll = "2 h" is outside'):
        migkit.policy(odd, question="management", poll="2 h")
    with pytest.raises(ScenarioError, match="no other policy is polled"):
        migkit.policy(odd, poll="2 s")
    made = migkit.policy(odd, question="management")
    with pytest.raises(ScenarioError, match="the management policy answers with the command 9"):
        simulate(HOPELESS.replace("management", made))
    with pytest.raises(ScenarioError, match=r"the management policy at .* answers with the command 9"):
        sweep(HOPELESS, {"management": ["nova", made]})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("novva", 'did you mean "nova"'),
        ("nova(steps=1)", "must be a whole number from 3 to 1000"),
        ("nova(step=3)", 'did you mean "steps"'),
        ("nova(5)", "is not written as a call"),
        ("nova(steps=", "is not written as a call"),
        ("libvirt", "is missing: write libvirt"),
        ('libvirt(timeout="5 s", action="postcopy")', "needs migration.postcopy_ram = True"),
        ("libvirt_postcopy_after_precopy", "needs migration.postcopy_ram = True"),
        ("kubevirt(allow_post_copy=True)", "needs migration.postcopy_ram = True"),
        ('ovirt(schedule="post-copy")', "needs migration.postcopy_ram = True"),
        ("nova(permit_post_copy=True)", "needs migration.postcopy_ram = True"),
        ('nova(downtime="1 ms")', "is outside the allowed range"),
        ('nova(delay="soon")', "management.nova.delay"),
    ],
)
def test_a_name_that_is_none_is_told(text, said):
    with pytest.raises(ScenarioError) as told:
        HOPELESS.replace("management", text)
    assert said in str(told.value)
    assert str(told.value).count(".\n") == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([{"at": "5 s"}], "changes nothing"),
        ([{"at": "5 s", "command": "halt"}], "changes.0.command"),
        ([{"at": "5 s", "max_bandwidth": "1 B/s"}], "is outside the allowed range"),
        ([{"at": "-1 s", "command": "stop"}], "changes.0.at"),
        ([{"command": "stop"}], "changes.0.at is missing"),
        ([5], "changes.0"),
        (5, "changes"),
    ],
)
def test_a_change_that_is_none_is_told(changes, said):
    with pytest.raises(ScenarioError) as told:
        HOPELESS.replace("changes", changes)
    assert said in str(told.value)


def test_scenarios_with_policies_and_changes_are_written_and_read():
    scenario = HOPELESS.replace_all({
        "management": management.nova(completion_timeout="400 s", steps=5),
        "changes": [{"at": "1 s", "downtime_limit": "20 ms", "max_bandwidth": 0}, {"at": "2 s", "command":
        "migrate_cancel"}],
    })  # fmt: skip
    again = Scenario.from_toml(scenario.to_toml())
    assert again == scenario
    assert again.management.settings == scenario.management.settings
    copied = pickle.loads(pickle.dumps(scenario.management))
    assert (copied, copied.settings, copied.poll_ns) == (
        scenario.management, scenario.management.settings, scenario.management.poll_ns,
    )  # fmt: skip
    own = pickle.loads(pickle.dumps(twice_as_long))
    assert (own.poll_ns, own.question) == (2_000_000_000, "management")
    assert simulate(again).outcome == "cancelled"


def test_the_identity_of_a_sweep_has_the_settings():
    one, two = (migkit.Sweep(scenario=HOPELESS.replace("management", text), axes={"link.rtt": ["0 s"]})
                for text in ("nova", "nova(steps=5)"))  # fmt: skip
    assert one.policies["nova"] != two.policies["nova(steps=5)"]
    plain = migkit.Sweep(scenario=HOPELESS, axes={"link.rtt": ["0 s"]})
    assert len({one.sha256, two.sha256, plain.sha256}) == 3


def test_a_policy_sees_a_vfio_device():
    scenario = HOPELESS.replace_all({
        "devices": [Vfio(initial_bytes="8 MiB", stop_copy_bytes="8 MiB")],
        "management": 'kubevirt(allow_workload_disruption=True, completion_timeout="2 s")',
    })  # fmt: skip
    found = simulate(scenario)
    assert found.converged
    assert found.changes["value"].tolist() == [20.0]  # twice 2 s for each of 5 GB


# ---------------------------------------------------------------- published outcomes


def kubevirt_guest(mbit_per_s, lull_at=None):
    """The guest of VEP 291: 8 GiB over 1 Gbit/s, which makes so much dirty in a second.

    QEMU counts pages that became dirty in a second, each once: a set of that size, written at random and several times
    a second. How it writes is not published: written round and round the same set needs 625 ms and 32 s after the bulk.
    With `lull_at` it pauses for a second every minute, which is assumed too: a fixed limit needs that to converge.
    """
    size = f"{int(mbit_per_s * 1e6 / 8) // 4096 * 4096} B"
    busy = {"write_rate": "400 MB/s"}
    if lull_at is not None:
        rates = [(f"{lull_at} s", "400 MB/s"), ("1 s", 0), (f"{60.1 - lull_at} s", "400 MB/s")]
        busy = {"rates": rates, "periodic": True}
    return Scenario(
        guest=Guest(ram="8 GiB", regions=[Region(size=size, start="256 MiB", **busy)] if mbit_per_s else []),
        link=Link(bandwidth="1 Gbit/s"),
        migration=Migration(max_bandwidth=0),
        time_limit="20 min",
        qemu="10.0",
    )


RAMP = 'kubevirt_downtime_tuning(max_downtime="1050 ms")'


def test_the_ramp_converges_as_measured():
    found = simulate(kubevirt_guest(650).replace("management", RAMP))
    bulk_s = simulate(kubevirt_guest(0)).total_time_s  # all of RAM once
    assert 19 <= found.total_time_s - bulk_s <= 30  # ten measured runs: 19 to 30 s
    assert found.downtime_s == pytest.approx(0.611, rel=0.25)
    assert simulate(kubevirt_guest(650)).outcome == "ram_above_link"


def test_with_a_fixed_limit_it_waits_for_a_lull():
    after_bulk = {"fixed": [], RAMP: []}
    downtime = {"fixed": [], RAMP: []}
    for lull_at in np.linspace(3, 57, 10).round(1):
        for policy in after_bulk:
            found = simulate(kubevirt_guest(650, lull_at).replace("management", policy))
            after_bulk[policy].append(found.total_time_s - 67.5)
            downtime[policy].append(found.downtime_s)
    assert 24 <= np.mean(after_bulk["fixed"]) <= 93  # ten measured runs: 24 to 93 s
    assert np.mean(after_bulk[RAMP]) < np.mean(after_bulk["fixed"])
    assert max(after_bulk[RAMP]) <= 30
    assert np.mean(downtime[RAMP]) > np.mean(downtime["fixed"])


def test_a_busier_guest_converges_only_with_the_ramp_and_a_longer_downtime():
    busy = kubevirt_guest(900)
    assert simulate(busy).outcome == "ram_above_link"
    found = simulate(busy.replace("management", RAMP))
    assert found.converged
    calmer = simulate(kubevirt_guest(650).replace("management", RAMP))
    assert 1.2 * calmer.downtime_s < found.downtime_s <= 1.05  # measured: "about 1 s", of a guest that is not described


def test_an_idle_guest_has_the_shorter_downtime_of_the_ramp():
    idle = kubevirt_guest(0)
    assert simulate(idle.replace("management", RAMP)).downtime_s == pytest.approx(0.129, rel=0.25)
    assert simulate(idle).downtime_s == pytest.approx(0.244, rel=0.25)


def test_nova_aborts_a_guest_of_16_gib_after_12800_s():
    guest = Guest(ram="16 GiB", regions=[Region(size="8 GiB", write_rate="20 GB/s")])
    found = simulate(HOPELESS.replace({"guest": guest, "management": "nova", "time_limit": "4 h"}))
    assert found.outcome == "cancelled"
    assert found.verdict_time_s == pytest.approx(12_800.5, abs=0.6)


@pytest.mark.parametrize(("below", "outcome"), [(80, "completed"), (45, "cancelled")])
def test_the_deadline_of_kubevirt_is_met_from_55_mbit_per_s_below_the_link(below, outcome):
    """VEP 248: at 150 s per GiB pre-copy alone converges if the dirty rate is 55 Mbit/s or more below the bandwidth."""
    dirty = f"{(1000 - below) / 8 * 4096 / 4104} MB/s"  # so much of the link with its page headers
    scenario = Scenario(
        guest=Guest(ram="8 GiB", regions=[Region(size="8 GiB", write_rate=dirty, pattern="sequential", phase=0.0)]),
        link=Link(bandwidth="1 Gbit/s"),
        migration=Migration(max_bandwidth=0),
        management="kubevirt",
        time_limit="1 h",
    )
    assert simulate(scenario).outcome == outcome
