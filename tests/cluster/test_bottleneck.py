# SPDX-License-Identifier: Apache-2.0
"""The way to the relays is slower than the host: they ask it to send what gets through, and no more."""

from __future__ import annotations

import os

MIB = 1 << 20
DUMP_MIB = 256
PORT = ["rate", "200mbit", "burst", "64k", "limit", "256k"]  # of a switch: its queue holds 10 ms
# Of the dump's bytes, what leaves the host: half of them before it is told, at 1 Gbit/s. Without a limit by the
# network, or with repair that loses what it asked for, it is 3 to 5 times.
MOST_SENT = 2.5


def test_the_network_sets_the_pace(cluster, scratch):
    memory = scratch / "memory"
    memory.write_bytes(os.urandom(DUMP_MIB * MIB))
    with cluster(relays=3, bridges=1) as c:
        for relay in range(3):
            c.net.run_in(c.net.switch, ["tc", "qdisc", "add", "dev", c.net.relay_port(relay), "root", "tbf", *PORT])
        before = c.net.host_sent_bytes()
        sender = c.send_file(memory, "--format", "raw", "--codec", "none")
        assert sender.wait() == 0, c.words()
        sent = (c.net.host_sent_bytes() - before) / MIB
        c.wait_state()
        print(f"{sent:.0f} MiB sent for {DUMP_MIB}\n{sender.words()}")
        assert DUMP_MIB <= sent < MOST_SENT * DUMP_MIB
