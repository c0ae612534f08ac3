"""Cases for the kernels and for the naive loop: dicts of plain numbers, named as migkit.parameters.Parameters."""

import random

RAM, VFIO, BLOCK = 0, 1, 2
SERIALIZED, UNSERIALIZED = 0, 1

MS = 1_000_000
S = 1_000_000_000
KIB = 1024
MIB = 1024 * 1024

PROFILE_NAMES = (
    "exact_rule",
    "complete_rule",
    "ram_exact_always",
    "vfio_counts",
    "vfio_always_done",
    "flush_pages",
    "counts_all_syncs",
    "avail_per_ms_exact",
    "throttle_timer_ns",
)
PROFILES = {
    name: dict(zip(PROFILE_NAMES, values, strict=True))
    for name, values in {
        "7.2": (0, 0, 1, 0, 0, 1, 1, 0, 0),
        "8.2": (1, 0, 0, 0, 1, 32, 1, 0, 0),
        "9.0-rc0": (1, 0, 1, 0, 0, 32, 1, 0, 0),
        "9.0": (2, 0, 1, 0, 0, 32, 1, 0, 0),
        "10.0": (2, 0, 1, 1, 0, 32, 1, 0, 5 * S),
        "11.1": (3, 1, 1, 2, 0, 32, 0, 1, 5 * S),
    }.items()
}


LATER_PROFILES = {
    name: dict(zip(PROFILE_NAMES, values, strict=True))
    for name, values in {
        "8.0": (1, 0, 0, 3, 1, 1, 1, 0, 0),
        "8.1": (1, 0, 0, 0, 1, 1, 1, 0, 0),
        "9.1": (2, 0, 1, 0, 0, 32, 1, 0, 0),
        "9.2": (2, 0, 1, 1, 0, 32, 1, 0, 5 * S),
        "10.1": (2, 1, 1, 1, 0, 32, 1, 0, 5 * S),
        "10.2": (2, 1, 1, 1, 0, 32, 1, 0, 5 * S),
        "11.0": (2, 1, 1, 1, 0, 32, 1, 1, 5 * S),
    }.items()
}
"""Profiles that came when the cases drawn from `PROFILES` named a model already."""


def region(
    start, pages, writes_per_s, *, sequential=0, zero_share=0.0, vcpu_share=10_000, phase=0.0, rates=(), periodic=False
):
    """A region; `rates` are (nanoseconds, share of writes_per_s), :func:`case` gives them their place."""
    return {
        "region_start": start,
        "region_pages": pages,
        "region_writes_per_s": float(writes_per_s),
        "region_sequential": sequential,
        "region_zero_share": float(zero_share),
        "region_vcpu_share": vcpu_share,
        "region_phase": float(phase),
        "region_rates": list(rates),
        "region_period_ns": sum(duration for duration, _ in rates) if periodic else 0,
    }


def rates_of(regions):
    """The rates of all regions, one region after the other, and where each has its own."""
    columns = {"rate_from_ns": [], "rate_share": [], "rate_before_ns": []}
    columns |= {"region_rate_first": [], "region_rate_count": [], "region_period_work_ns": []}
    for each in regions:
        columns["region_rate_first"].append(len(columns["rate_share"]))
        columns["region_rate_count"].append(len(each["region_rates"]))
        begin = work = 0
        for duration, share in each["region_rates"]:
            columns["rate_from_ns"].append(begin)
            columns["rate_share"].append(share)
            columns["rate_before_ns"].append(work)
            begin += duration
            work += int(duration * share)
        columns["region_period_work_ns"].append(work if each["region_period_ns"] else 0)
    return columns | {"rates_change": int(any(columns["region_rate_count"]))}


def device(
    kind,
    *,
    initial_bytes=0,
    dirty_rate=0.0,
    dirty_max=0,
    stop_copy_bytes=0,
    chunk_bytes=MIB,
    read_ns_per_byte=0.0,
    load_ns=0,
):
    return {
        "device_kind": kind,
        "device_initial_bytes": initial_bytes,
        "device_dirty_rate": float(dirty_rate),
        "device_dirty_max": dirty_max,
        "device_stop_copy_bytes": stop_copy_bytes,
        "device_chunk_bytes": chunk_bytes,
        "device_read_ns_per_byte": float(read_ns_per_byte),
        "device_load_ns": load_ns,
    }


def change(at_ns, *, max_bandwidth=-1, downtime_limit_ms=-1.0, ns_per_byte=0.0, slack_ns=0, command=0):
    """What is changed at a time; on a link with a new rate the pages of the first pass have a lower one."""
    return {
        "change_at_ns": at_ns,
        "change_max_bandwidth": max_bandwidth,
        "change_downtime_limit_ms": downtime_limit_ms,
        "change_ns_per_byte": ns_per_byte,
        "change_slack_ns": slack_ns,
        "change_fresh_ns_per_byte": 1.5 * ns_per_byte,
        "change_fresh_slack_ns": slack_ns + slack_ns // 2,
        "change_channels_ns_per_byte": 0.7 * ns_per_byte,
        "change_channels_slack_ns": 2 * slack_ns,
        "change_channels_fresh_ns_per_byte": 0.9 * ns_per_byte,
        "change_channels_fresh_slack_ns": 3 * slack_ns,
        "change_link_bandwidth": 0,
        "change_command": command,
    }


def changes_of(changes):
    """Changes, in the order of their times, as columns."""
    ordered = sorted(changes, key=lambda each: each["change_at_ns"])
    return {name: [each[name] for each in ordered] for name in change(0)} | {"change_count": len(ordered)}


def case(profile="9.0", *, regions=(), devices=None, **columns):
    """A whole case: an idle guest of 1000 pages on a link of 2000 pages per second, unless told otherwise."""
    devices = [device(RAM)] if devices is None else devices
    result = {
        "ram_pages": 1000,
        "page_size": 4096,
        "track_pages": 1,
        "host_pages": 1,
        "used_first": 0,
        "used_stop": columns.get("ram_pages", 1000),
        "chunk_pages": 64,
        "lazy_clear": 0,
        "idle_zero_share": 0.0,
        "region_count": len(regions),
        "device_count": len(devices),
        "link_ns_per_byte": 1e9 / (2000 * 4104),
        "send_slack_ns": 0,
        "fresh_ns_per_byte": 0.0,
        "fresh_slack_ns": 0,
        "fresh_after_pages": 1 << 40,
        "rtt_ns": 0,
        "max_bandwidth": 0,
        "downtime_limit_ms": 300.0,
        "avail_switchover_bandwidth": 0,
        "switchover_ack": 0,
        "return_path": 0,
        "auto_converge": 0,
        "xbzrle": 0,
        "xbzrle_page_ns": 0.0,
        "xbzrle_page_bytes": 0.0,
        "xbzrle_pages": 0,
        "xbzrle_share": 0.0,
        "dirty_ring_pages": 0,
        "dirty_limit": 0,
        "vcpu_dirty_limit": 1,
        "dirty_limit_period_ms": 1000,
        "multifd_channels": 0,
        "multifd_flush_after_each_section": int(profile in ("7.2", "8.0")),
        "multifd_sends_full_queue": int(profile in ("7.2", "8.0", "8.1", "8.2")),
        "multifd_counts_late": int(profile not in ("7.2", "8.0")),
        "multifd_zero_pages": int(profile not in ("7.2", "8.0", "8.1", "8.2", "9.0-rc0")),
        "multifd_syncs_at_end": int(profile in ("7.2", "8.0", "8.1", "8.2", "9.0-rc0", "9.0", "9.1", "9.2")),
        "multifd_page_ns": 0.0,
        "channel_page_ns": 0.0,
        "compressed_page_bytes": 0,
        "channel_page_bytes": float(columns.get("page_size", 4096)),
        "channels_ns_per_byte": 1e9 / (2000 * 4104),
        "channels_slack_ns": 0,
        "channels_fresh_ns_per_byte": 0.0,
        "channels_fresh_slack_ns": 0,
        "postcopy_ram": 0,
        "postcopy_ns": 1 << 60,
        "postcopy_preempt": 0,
        "max_postcopy_bandwidth": 0,
        "postcopy_rule": int(profile in ("10.1", "10.2", "11.0", "11.1")),
        "discard_ns": 0.0,
        "throttle_trigger_threshold": 50,
        "cpu_throttle_initial": 20,
        "cpu_throttle_increment": 10,
        "max_cpu_throttle": 99,
        "cpu_throttle_tailslow": 0,
        "policy": UNSERIALIZED,
        "setup_ns": 10 * MS,
        "turn_ns": 200_000,
        "wakeup_ns": 0,
        "sync_ns": 1 * MS,
        "throttle_late_ns": 0,
        "throttle_loss": 0.0,
        "jitter": 0.0,
        "page_cost_ns": 0.0,
        "zero_cost_ns": 1000.0,
        "vm_stop_ns": 2 * MS,
        "device_state_ns": 3 * MS,
        "destination_load_ns": 0,
        "time_limit_ns": 20 * S,
        **(PROFILES | LATER_PROFILES)[profile],
        **changes_of(()),
    }
    for name in region(0, 0, 0):
        if name != "region_rates":
            result[name] = [r[name] for r in regions]
    result |= rates_of(regions)
    for name in device(RAM):
        result[name] = [d[name] for d in devices]
    unknown = set(columns) - set(result)
    if unknown:
        raise TypeError(f"no such column: {sorted(unknown)}")
    result.update(columns)
    return result


# ---------------------------------------------------------------- random cases


def log_uniform(rng, low, high):
    return low * (high / low) ** rng.random()


def maybe(rng, probability, value, otherwise=0):
    """``value()`` with this probability."""
    return value() if rng.random() < probability else otherwise


def random_share(rng):
    return rng.choice([0.0, 0.0, 0.0, 1.0, rng.random(), rng.random()])


def random_regions(rng, ram_pages, pages_per_s):
    """Up to three regions that do not overlap; their edges fall anywhere."""
    edges = sorted(rng.sample(range(ram_pages + 1), 2 * rng.choice([0, 1, 1, 2, 3])))
    regions = []
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        # many cases with a working set of about a slice or a threshold
        pages = rng.choice([end - start, min(end - start, rng.randint(1, 400))])
        regions.append(
            region(
                start,
                pages,
                maybe(rng, 0.93, lambda: log_uniform(rng, 0.01, 4) * pages_per_s, 0.0),
                sequential=rng.randint(0, 1),
                zero_share=random_share(rng),
            )
        )
    rng.shuffle(regions)
    # draws of their own, so that the cases are those of before
    own = random.Random(f"guest {ram_pages} {pages_per_s} {regions}")
    for each in regions:
        each["region_vcpu_share"] = maybe(own, 0.5, lambda: own.randint(1, 10_000), 10_000)
        each["region_phase"] = own.choice([0.0, 1.0, -1.0, own.random()])
    return regions


def random_vfio(rng, link_bytes_per_s):
    chunk_bytes = rng.choice([16 * KIB, 32 * KIB - 34, 64 * KIB, rng.randint(1 * KIB, 256 * KIB)])
    dirty_rate = maybe(rng, 0.5, lambda: log_uniform(rng, 0.001, 0.7) * link_bytes_per_s, 0.0)
    return device(
        VFIO,
        initial_bytes=maybe(rng, 0.85, lambda: int(chunk_bytes * log_uniform(rng, 0.3, 40))),
        dirty_rate=dirty_rate,
        dirty_max=maybe(rng, 0.9, lambda: int(chunk_bytes * log_uniform(rng, 0.1, 20))) if dirty_rate else 0,
        stop_copy_bytes=maybe(rng, 0.7, lambda: int(link_bytes_per_s * log_uniform(rng, 0.001, 0.4))),
        chunk_bytes=chunk_bytes,
        read_ns_per_byte=maybe(rng, 0.6, lambda: log_uniform(rng, 0.01, 2) * 1e9 / link_bytes_per_s, 0.0),
        load_ns=maybe(rng, 0.5, lambda: rng.randint(0, 300 * MS)),
    )


def random_fresh(rng, of):
    """A link that is slower in the first pass, from some page on."""
    factor = log_uniform(rng, 1.01, 8)
    return {
        "fresh_ns_per_byte": of["link_ns_per_byte"] * factor,
        "fresh_slack_ns": int(of["send_slack_ns"] * factor),
        "fresh_after_pages": rng.choice([0, rng.randint(0, of["ram_pages"])]),
    }


def random_case(rng: random.Random, profiles: dict = PROFILES) -> dict:
    """A valid case of any kind that the naive loop computes in a fraction of a second."""
    profile = rng.choice(list(profiles))
    ram_pages = rng.choice([rng.randint(200, 4000), 64 * rng.randint(4, 40), rng.randint(200, 1000)])
    page_size = rng.choice([4096, 4096, 4096, 16384])
    # 51 ms are from a few to a few hundred pages
    pages_per_s = log_uniform(rng, 150, 8000)
    bytes_per_s = pages_per_s * (page_size + 8)
    page_ns = 1e9 / pages_per_s
    regions = random_regions(rng, ram_pages, pages_per_s)

    devices = [device(RAM)]
    if profile != "7.2":
        devices += [random_vfio(rng, bytes_per_s) for _ in range(rng.choice([0, 1, 1, 2, 3]))]
    if profile not in ("9.1", "9.2", "10.0", "10.1", "10.2", "11.0", "11.1") and rng.random() < 0.2:
        disk = int(bytes_per_s * log_uniform(rng, 0.01, 3))
        read_ns = maybe(rng, 0.5, lambda: 1e9 / bytes_per_s * rng.random(), 0.0)
        devices.insert(0, device(BLOCK, initial_bytes=disk, read_ns_per_byte=read_ns))

    max_bandwidth = maybe(rng, 0.6, lambda: int(bytes_per_s * log_uniform(rng, 0.1, 3)))
    throttle_timer_ns = profiles[profile]["throttle_timer_ns"]
    if throttle_timer_ns:
        throttle_timer_ns = rng.choice([throttle_timer_ns, rng.randint(300, 3000) * MS])
    turn_ns = rng.choice([200_000, 500_000, rng.randint(200_000, 5 * MS)])
    sync_ns = rng.choice([0, rng.randint(0, MS), rng.randint(0, 30 * MS)])
    # a storm syncs once per turn: make that dear, or the migration short
    duration_ns = int(S * log_uniform(rng, 1, 30))
    storm_turns = 250_000 // ram_pages
    if duration_ns > storm_turns * (turn_ns + sync_ns) and rng.random() < 0.9:
        sync_ns = max(sync_ns, min(duration_ns // storm_turns, 40 * MS) - turn_ns)
    else:
        duration_ns = min(duration_ns, max(storm_turns * (turn_ns + sync_ns), 300 * MS))

    found = case(
        profile,
        regions=regions,
        devices=devices,
        ram_pages=ram_pages,
        page_size=page_size,
        chunk_pages=rng.choice([64, 128, 512, 4096]),
        lazy_clear=rng.randint(0, 1),
        idle_zero_share=random_share(rng),
        link_ns_per_byte=rng.choice([1e9 / bytes_per_s, float(round(1e9 / bytes_per_s)) + 1.0]),
        send_slack_ns=maybe(rng, 0.4, lambda: int(page_ns * log_uniform(rng, 0.5, 200))),
        rtt_ns=maybe(rng, 0.5, lambda: rng.randint(0, 20 * MS)),
        max_bandwidth=max_bandwidth,
        downtime_limit_ms=rng.choice([300.0, float(rng.randint(1, 2000)), log_uniform(rng, 1, 1000)]),
        avail_switchover_bandwidth=0
        if profile == "7.2"
        else maybe(rng, 0.2, lambda: int(bytes_per_s * log_uniform(rng, 0.2, 3))),
        switchover_ack=0 if profile == "7.2" else maybe(rng, 0.6, lambda: 1),
        return_path=rng.randint(0, 1),
        auto_converge=maybe(rng, 0.4, lambda: 1),
        throttle_trigger_threshold=rng.choice([50, rng.randint(1, 100)]),
        cpu_throttle_initial=rng.choice([20, rng.randint(1, 60)]),
        cpu_throttle_increment=rng.choice([10, rng.randint(1, 60)]),
        max_cpu_throttle=rng.choice([99, rng.randint(60, 99)]),
        policy=rng.randint(0, 1),
        throttle_timer_ns=throttle_timer_ns,
        setup_ns=maybe(rng, 0.8, lambda: rng.randint(0, 200 * MS)),
        turn_ns=turn_ns,
        wakeup_ns=rng.choice([0, 0, 66_000]),
        sync_ns=sync_ns,
        page_cost_ns=maybe(rng, 0.6, lambda: page_ns * rng.random() * 1.3, 0.0),
        zero_cost_ns=maybe(rng, 0.9, lambda: page_ns * rng.random() * 0.5, 0.0),
        vm_stop_ns=rng.randint(0, 20 * MS),
        device_state_ns=rng.randint(0, 20 * MS),
        destination_load_ns=rng.randint(0, 50 * MS),
        time_limit_ns=duration_ns,
    )
    return found | maybe(rng, 0.5, lambda: random_fresh(rng, found), {})


def random_later_case(rng: random.Random) -> dict:
    """A case of one of the profiles that came later, with what its version has."""
    found = random_case(rng, LATER_PROFILES)
    if found["flush_pages"] == 1:  # 8.0 and 8.1
        found["avail_switchover_bandwidth"] = 0
    if found["vfio_counts"] == 3:  # 8.0: VFIO has no pre-copy, and nobody acknowledges
        found["switchover_ack"] = 0
        of_vfio = [kind == VFIO for kind in found["device_kind"]]
        for name in ("device_initial_bytes", "device_dirty_rate", "device_dirty_max"):
            found[name] = [0 * value if vfio else value for value, vfio in zip(found[name], of_vfio, strict=True)]
    return found


def random_postcopy_case(rng: random.Random) -> dict:
    """A case with the capability postcopy-ram; in most of them post-copy starts, early or late."""
    own = random.Random(f"post-copy {rng.random()}")
    found = random_case(rng, PROFILES | LATER_PROFILES)
    ram = [kind == RAM for kind in found["device_kind"]]
    for name in device(RAM):
        found[name] = [value for value, keep in zip(found[name], ram, strict=True) if keep]
    pass_ns = int(found["ram_pages"] * (found["page_size"] + 8) * found["link_ns_per_byte"])
    bytes_per_s = 1e9 / found["link_ns_per_byte"]
    return found | {
        "device_count": 1,
        "postcopy_ram": 1,
        "return_path": 1,
        "postcopy_ns": own.choice([0, 1 << 60, int(pass_ns * own.random()), int(pass_ns * 3 * own.random())]),
        "postcopy_preempt": int(random.Random(f"preempt {pass_ns}").random() < 0.3),
        "max_postcopy_bandwidth": own.choice([0, 0, int(bytes_per_s * log_uniform(own, 0.02, 2))]),
        "discard_ns": own.choice([0.0, 2500.0, own.random() * 1e5]),
        "jitter": own.choice([0.0, 0.0, 0.3]),
    }


def random_multifd_case(rng: random.Random) -> dict:
    """A case with multifd: few pages a packet, so that there are many, and limits that take turns to bind."""
    own = random.Random(f"multifd {rng.random()}")
    draw = own.choice([random_case, random_case, random_later_case, random_changing_case, random_postcopy_case])
    found = draw(rng)
    channels = own.choice([1, 2, 2, 3, 4, 8, 17])
    page_size = own.choice([4096, 16384, 65536, 65536, 131072, 524288])
    # times and limits stay those of the same pages per second
    factor = (page_size + 8) / (found["page_size"] + 8)
    slower = own.choice([1.0, 1.0, own.random(), 1.0 / channels, 2.0])
    page_ns = found["link_ns_per_byte"] * (found["page_size"] + 8)
    stream = found["link_ns_per_byte"] / factor
    wire = stream * slower
    fresh = log_uniform(own, 1.0, 4)
    found |= {
        "page_size": page_size,
        "link_ns_per_byte": stream,
        "fresh_ns_per_byte": found["fresh_ns_per_byte"] / factor,
        "max_bandwidth": int(found["max_bandwidth"] * factor),
        "multifd_channels": channels,
        "multifd_page_ns": own.choice([0.0, page_ns * own.random(), page_ns * own.random() * 2, 1000.0]),
        "channel_page_ns": own.choice([0.0, page_ns * own.random() * channels, page_ns * own.random() * 3 * channels]),
        "channels_ns_per_byte": wire,
        "channels_slack_ns": own.choice([0, found["send_slack_ns"] * channels, own.randint(0, 20 * MS)]),
        "channels_fresh_ns_per_byte": wire * fresh,
        "channels_fresh_slack_ns": own.choice([0, own.randint(0, 20 * MS)]),
    }  # fmt: skip
    found["channel_page_bytes"] = float(page_size)
    if own.random() < 0.2:
        found["multifd_zero_pages"] = 0  # zero-page-detection = legacy
    if own.random() < 0.1:
        found |= {"jitter": 0.3}
    return found


def random_limited_case(rng: random.Random) -> dict:
    """A case with dirty-limit: large pages, so that rates are far above the tolerance of its controller."""
    own = random.Random(f"limited {rng.random()}")
    draw = own.choice([random_case, random_later_case, random_changing_case, random_postcopy_case, random_multifd_case])
    found = draw(rng)
    page_size = own.choice([65536, 262144, 1048576])
    factor = (page_size + 8) / (found["page_size"] + 8)
    for name in ("link_ns_per_byte", "fresh_ns_per_byte", "channels_ns_per_byte", "channels_fresh_ns_per_byte"):
        found[name] /= factor
    largest = max(found["region_pages"], default=100)
    found |= {
        "page_size": page_size,
        "channel_page_bytes": float(page_size),
        "track_pages": 1,
        "lazy_clear": 0,
        "auto_converge": 0,
        "max_bandwidth": int(found["max_bandwidth"] * factor),
        "dirty_limit": 1,
        "dirty_ring_pages": own.choice([16, 64, max(1, largest // 10), max(1, largest // 2), largest + 1]),
        "vcpu_dirty_limit": own.choice([1, 1, own.randint(1, 40), int(log_uniform(own, 1, 1000))]),
        "dirty_limit_period_ms": own.choice([1000, own.randint(1, 50), own.randint(1, 1000)]),
        "throttle_trigger_threshold": own.choice([1, 10, 50]),
        # long enough for two periods of the trigger, with no more syncs than before
        "time_limit_ns": max(found["time_limit_ns"], own.randint(3, 8) * S),
        "sync_ns": max(found["sync_ns"], 25 * MS),
        "downtime_limit_ms": own.choice([found["downtime_limit_ms"], 20.0]),
    }
    faster = own.choice([1.0, 3.0, 10.0])
    found["region_writes_per_s"] = [rate * faster for rate in found["region_writes_per_s"]]
    if own.random() < 0.3:  # stopped, so that the last writes before it are found afterwards
        found |= changes_of([change(own.randint(0, found["time_limit_ns"]), command=3)])
    return found


def random_xbzrle_case(rng: random.Random) -> dict:
    """A case with XBZRLE, and a cache that has room for all that is written, or for part of it."""
    own = random.Random(f"xbzrle {rng.random()}")
    draw = own.choice([random_case, random_later_case, random_changing_case, random_postcopy_case])
    found = draw(rng)
    written = zip(found["region_pages"], found["region_writes_per_s"], strict=True)
    return found | {
        "xbzrle": 1,
        "xbzrle_page_ns": own.choice([0.0, found["page_cost_ns"] * 2, own.random() * 1e9 / 2000]),
        "xbzrle_page_bytes": 11.0 + own.choice([0.0, own.random() * 500, own.random() * found["page_size"]]),
        "xbzrle_pages": sum(pages for pages, rate in written if rate > 0),
        "xbzrle_share": own.choice([1.0, 1.0, own.random()]),
        "downtime_limit_ms": own.choice([found["downtime_limit_ms"], 20.0]),
        "sync_ns": max(found["sync_ns"], 10 * MS),
    }


def random_huge_case(rng: random.Random) -> dict:
    """A case whose RAM is in huge pages, of a few pages each or of a good part of RAM."""
    own = random.Random(f"huge {rng.random()}")
    draw = own.choice([random_case, random_case, random_later_case, random_changing_case, random_postcopy_case,
                       random_xbzrle_case])  # fmt: skip
    found = draw(rng)
    host = own.choice([size for size in (2, 4, 8, 16, 64, 128, 512) if size <= found["ram_pages"]])
    pages = -(-found["ram_pages"] // host) * host
    if found["used_stop"] == found["ram_pages"]:
        found["used_stop"] = pages
    if own.random() < 0.2:
        found |= {"jitter": 0.3}
    return found | {"ram_pages": pages, "host_pages": host}


def random_compressed_case(rng: random.Random) -> dict:
    """A case whose channels compress; or one under auto-converge with tail-slow."""
    own = random.Random(f"compressed {rng.random()}")
    if own.random() < 0.7:
        found = random_multifd_case(rng)
        return found | {"channel_page_bytes": found["page_size"] / own.choice([1.0, 2.5, 1.0 + 9.0 * own.random()])}
    found = random_case(rng)
    # long enough for several throttles
    more = {"time_limit_ns": max(found["time_limit_ns"], 8 * S), "sync_ns": max(found["sync_ns"], 25 * MS)}
    return found | more | {"auto_converge": 1, "cpu_throttle_tailslow": 1, "downtime_limit_ms": 5.0}


def random_threads_case(rng: random.Random) -> dict:
    """A case with compress: pages of the main stream that are smaller, and copied as a whole."""
    own = random.Random(f"threads {rng.random()}")
    found = own.choice([random_case, random_later_case, random_changing_case])(rng)
    size = found["page_size"] / own.choice([1.0, 2.5, 1.0 + 9.0 * own.random(), 50.0])
    return found | {"compressed_page_bytes": round(size) + 12}


def random_changing_case(rng: random.Random) -> dict:
    """A case in which rates change, writes are tracked in larger units, or only part of memory is in use."""
    own = random.Random(f"changing {rng.random()}")
    found = random_case(rng)
    pages = found["ram_pages"]
    unit = own.choice([1, 1, 2, 8, 32, 64, 128])
    unit = min(unit, found["chunk_pages"])
    regions, end = [], 0
    for start, size, rate in sorted(
        zip(found["region_start"], found["region_pages"], found["region_writes_per_s"], strict=True)
    ):
        first, last = max(end, start // unit * unit), min(pages // unit, -(-(start + size) // unit)) * unit
        if last <= first:
            continue
        end = last
        rates = [
            (own.randint(1, 3000) * MS // own.choice([1, 10, 1000]), own.choice([0.0, 1.0, own.random()]))
            for _ in range(own.choice([0, 1, 2, 3, 9]))
        ]
        regions.append(
            region(
                first, last - first, rate, sequential=own.randint(0, 1),
                zero_share=own.choice([0.0, 0.0, own.random()]),
                vcpu_share=own.choice([10_000, own.randint(1, 10_000)]), phase=own.choice([-1.0, 0.0, own.random()]),
                rates=rates, periodic=own.random() < 0.6 and bool(rates),
            )
        )  # fmt: skip
    for name in region(0, 0, 0):
        if name != "region_rates":
            found[name] = [each[name] for each in regions]
    first, stop = sorted(own.randint(0, pages) for _ in range(2))
    used = own.choice([(0, pages), (0, stop), (first, pages), (first, stop)])
    return found | rates_of(regions) | {
        "region_count": len(regions), "track_pages": unit, "used_first": used[0], "used_stop": used[1],
        "auto_converge": own.randint(0, 1), "jitter": own.choice([0.0, 0.01, 0.3, 0.9]),
        "throttle_late_ns": own.choice([0, own.randint(0, 9 * MS)]),
        "throttle_loss": own.choice([0.0, own.random()]),
    }  # fmt: skip
