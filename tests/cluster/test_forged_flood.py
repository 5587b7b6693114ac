# SPDX-License-Identifier: Apache-2.0
"""A flood of forged packets during a real dump. It prints what the flood costs; nothing asserts a time."""

from __future__ import annotations

import pathlib
import re
import secrets
import struct
import subprocess
import sys

from clusterlib import flood, packets
from clusterlib.faults import await_equal, cpu_seconds, forget_memory_peak, memory_peak_bytes
from clusterlib.packets import Forge
from vmtest.net import CLIENT_NUMBER
from vmtest.util import stop, wait_until

LEG1 = f"10.68.1.{CLIENT_NUMBER}"  # the client's namespace, bridge 1
COUNT, SECONDS = 300_000, 20
MEMORY_MIB = 16
# Each datagram ends in exactly one of these (docs/relay.md, Counters).
OUTCOMES = ("refused_truncated", "refused_magic", "refused_version", "refused_unknown_epoch", "refused_revoked",
            "refused_mac", "refused_format", "refused_type", "refused_replay", "refused_own", "announces",
            "symbols", "empties", "ends", "peer_packets")
# Forged packets, half of them of the host that dumps, half of hosts that nobody knows.
PACKETS = 1000


def forged(c, dump_id: str) -> list[bytes]:
    """Full-size symbols that look right but for their MAC: of the very dump, and of hosts never heard of."""
    epoch, _ = packets.read_key(c.relays.key)
    wrong_key, made = secrets.token_bytes(32), []
    body = bytes(1376)
    own = Forge(wrong_key, epoch, c.host_id, dump_id)
    for number in range(PACKETS):
        of = own if number % 2 else Forge(wrong_key, epoch, secrets.token_hex(16), secrets.token_hex(16))
        made.append(of.packet(packets.SYMBOL, body, number=number, dig=number + 1, encoded_len=len(body),
                              symbol_size=1376, block_class=1, k=1))
    return made


def seconds_of(sender) -> float:
    return float(re.findall(r"sent in ([\d.]+) s", sender.words())[0])


def test_the_dump_completes_under_a_flood(cluster, image, scratch):
    limits = ["--memory", f"{MEMORY_MIB}MiB", "--dump-memory", f"{MEMORY_MIB}MiB"]
    with cluster(relays=2, flags=limits) as c:
        calm, flooded = secrets.token_hex(16), secrets.token_hex(16)
        cpu = [cpu_seconds(c, relay) for relay in range(2)]
        quiet = c.send(image, "--codec", "lz4", dump_id=calm)
        assert quiet.wait() == 0, c.words()
        await_equal(c, calm)
        calm_cost = [cpu_seconds(c, relay) - was for relay, was in enumerate(cpu)]
        before = [c.counters(relay) for relay in range(2)]
        peak = [memory_peak_bytes(c, relay) for relay in range(2)]
        for relay in range(2):
            forget_memory_peak(c, relay)

        cpu = [cpu_seconds(c, relay) for relay in range(2)]
        ammunition = scratch / "packets"
        ammunition.write_bytes(b"".join(struct.pack("<H", len(p)) + p for p in forged(c, flooded)))
        attacker = c.net.spawn_in(
            c.net.client_ns, [sys.executable, pathlib.Path(flood.__file__), ammunition, LEG1,
                              packets.GROUP, packets.PORT, COUNT, SECONDS],
            stdout=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: all(c.counters(relay).get("refused_mac", 0) for relay in range(2)), 60,
                       lambda: f"the flood to arrive\n{c.words()}")
            assert attacker.poll() is None, "the flood was over before the dump began"
            sender = c.send(image, "--codec", "lz4", "--arm", 0.2, "--linger", 170, dump_id=flooded)
            assert sender.wait() == 0, c.words()
            said = attacker.communicate(timeout=180)[0]
        finally:
            stop(attacker)
        sent, lasted = int(said.split()[0]), float(said.split()[1])
        await_equal(c, flooded)
        flood_peak = [memory_peak_bytes(c, relay) for relay in range(2)]
        cost = [cpu_seconds(c, relay) - was for relay, was in enumerate(cpu)]
        c.check_views(image, dump_id=flooded)
        c.check_views(image, dump_id=calm)

        ratio = seconds_of(sender) / seconds_of(quiet)
        print(f"flood: {sent} packets in {lasted:.1f} s; the dump took {seconds_of(sender):.2f} s, without "
              f"{seconds_of(quiet):.2f} s: {ratio:.2f} times as long")
        for relay in range(2):
            n = c.counters(relay)
            assert n["received"] == sum(n.get(name, 0) for name in OUTCOMES), n
            assert n["refused_mac"] > before[relay].get("refused_mac", 0)
            # No host, no dump, no block came of it.
            assert {host["host_id"] for host in c.client(relay).hosts()} == {c.host_id}
            assert {dump["dump_id"] for dump in c.client(relay).dumps()} == {calm, flooded}
            now = flood_peak[relay]
            print(f"relay {relay}: {n['refused_mac']} refused, {n.get('socket_drops', 0)} dropped at the socket; "
                  f"{cost[relay]:.2f} s of a processor for flood and dump, {calm_cost[relay]:.2f} s for the dump "
                  f"alone; peak {now >> 20} MiB, without {peak[relay] >> 20} MiB")
            # A refused packet costs no memory; what the dump itself may take more is bounded.
            assert now <= peak[relay] + (MEMORY_MIB << 20), f"{peak[relay] >> 20} MiB became {now >> 20} MiB"
