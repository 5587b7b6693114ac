# SPDX-License-Identifier: Apache-2.0
"""64 hosts (16 without --all) dump at once to the same relays. It prints how fair that was; nothing asserts a time."""

from __future__ import annotations

import re
import secrets
import statistics
import sys

from clusterlib.faults import SmallImage, memory_peak_bytes
from vmtest.net import Loss
from vmtest.util import wait_until

HOSTS = 64
FEW_HOSTS = 16
# 256 KiB a host: less than half of what eight interleaved blocks take.
MEMORY_MIB = 16
PATIENCE_S = 600
FLAGS = ["--memory", f"{MEMORY_MIB}MiB", "--dump-memory", "1MiB"]
# What a relay may have beyond --memory (docs/relay.md, Size): encodings that wait for the store, write
# buffers, caches; and what the allocator has not given back.
BESIDE_MIB = 128 + 128 + 68 + 64
READ = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"


def assembly_bytes(c, relay: int) -> tuple[int, int]:
    """(memory of incomplete blocks, the most that it may be)."""
    page = c.net.run_in(c.net.client_ns, [sys.executable, "-c", READ,
                                          f"http://{c.net.relay_address(relay)}:26212/metrics"]).stdout
    values = dict(re.findall(r"^dumpcast_relay_assembly_(bytes|limit_bytes) (\S+)$", page, re.M))
    return int(float(values["bytes"])), int(float(values["limit_bytes"]))


def check_assembly(c, relay: int, limit_mib: int) -> int:
    """What incomplete blocks take now; never more than the flag allows."""
    used, limit = assembly_bytes(c, relay)
    assert used <= limit == limit_mib << 20, f"relay {relay}: {used} of {limit} bytes"
    return used


def test_all_complete_within_the_memory(cluster, scratch, pytestconfig):
    images = [SmallImage(scratch / f"image{seed}", seed) for seed in range(4)]
    count = HOSTS if pytestconfig.getoption("--all") else FEW_HOSTS
    with cluster(relays=2, flags=FLAGS) as c:
        idle = [memory_peak_bytes(c, relay) for relay in range(2)]
        # Lossy, so that blocks stay incomplete for a while.
        c.net.set_loss(Loss(percent=2))
        hosts = []
        for number in range(count):
            c.host_id, dump_id = secrets.token_hex(16), secrets.token_hex(16)
            image = images[number % len(images)]
            hosts.append((dump_id, image, c.send(image, "--codec", "lz4", "--linger", PATIENCE_S, dump_id=dump_id)))
        peaks = [0, 0]

        def ended() -> bool:
            for relay in range(2):
                peaks[relay] = max(peaks[relay], check_assembly(c, relay, MEMORY_MIB))
            return not any(sender.running() for _, _, sender in hosts)
        wait_until(ended, PATIENCE_S, c.words, 0.2)
        failed = [sender.words()[-1000:] for _, _, sender in hosts if sender.wait() != 0]
        assert not failed, f"{len(failed)} hosts had no two commits\n{failed[0]}"

        took = sorted(float(re.findall(r"sent in ([\d.]+) s", sender.words())[0]) for _, _, sender in hosts)
        print(f"{count} dumps took {took[0]:.1f} to {took[-1]:.1f} s, median {statistics.median(took):.1f} s: "
              f"the slowest {took[-1] / statistics.median(took):.2f} times the median")
        received = [memory_peak_bytes(c, relay) >> 20 for relay in range(2)]
        for dump_id, _, _ in hosts:
            c.wait_state(dump_id=dump_id)
        for relay in range(2):
            n = c.counters(relay)
            peak = memory_peak_bytes(c, relay)
            print(f"relay {relay}: incomplete blocks took at most {peaks[relay] >> 10} of {MEMORY_MIB << 10} KiB, "
                  f"{n.get('blocks_evicted', 0)} evicted, {n.get('symbols_memory', 0)} symbols found no room; "
                  f"resident at most {received[relay]} MiB, {peak >> 20} MiB with the listings, "
                  f"{idle[relay] >> 20} MiB when idle")
            assert peak <= idle[relay] + (MEMORY_MIB + BESIDE_MIB << 20)
        for dump_id, image, _ in hosts:
            assert image.differences(path := c.fetch(0, "elf", dump_id)) == []
            path.unlink()


def test_memory_is_enforced(cluster, scratch):
    """Nobody can be asked and a third of all packets is lost: incomplete blocks of 16 hosts want many times
    the memory that there is. Then relays are heard again, and every dump becomes complete."""
    image, limit_mib = SmallImage(scratch / "image"), 2
    limits = ["--memory", f"{limit_mib}MiB", "--dump-memory", "1MiB"]
    with cluster(relays=2, flags=limits) as c:
        c.net.drop_replies(True)
        c.net.set_loss(Loss(percent=33))
        for relay in range(2):
            c.net.set_alone(relay, True, hears_host=True)
        hosts = []
        for _ in range(FEW_HOSTS):
            c.host_id, dump_id = secrets.token_hex(16), secrets.token_hex(16)
            hosts.append((dump_id, c.send(image, "--codec", "lz4", "--linger", PATIENCE_S, "--blind-passes", 1000,
                                          "--parity-blind", 0, dump_id=dump_id, paths=[0])))
        peaks = [0, 0]

        def pressed() -> bool:
            for relay in range(2):
                peaks[relay] = max(peaks[relay], check_assembly(c, relay, limit_mib))
            return min(peaks) > limit_mib << 19 and \
                all(c.counters(relay).get("blocks_evicted", 0) > 1000 for relay in range(2))
        wait_until(pressed, PATIENCE_S, lambda: f"half of the memory in use, and blocks dropped, not {peaks}\n{c.words()}", 0.2)
        c.net.drop_replies(False)
        c.net.set_loss(Loss(percent=2))
        for relay in range(2):
            c.net.set_alone(relay, False)
        for dump_id, sender in hosts:
            assert sender.wait(PATIENCE_S) == 0, c.words()
            c.wait_state(dump_id=dump_id)
            check_assembly(c, 0, limit_mib)
        for relay in range(2):
            print(f"relay {relay}: {c.counters(relay)['blocks_evicted']} blocks evicted, at most {peaks[relay] >> 10} "
                  f"of {limit_mib << 10} KiB")
        for dump_id, _ in hosts:
            assert image.differences(path := c.fetch(1, "elf", dump_id)) == []
            path.unlink()
