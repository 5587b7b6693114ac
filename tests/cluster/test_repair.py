# SPDX-License-Identifier: Apache-2.0
"""What a relay has never heard, its peers bring: late joiners, no route to the host, disjoint losses."""

from __future__ import annotations

from clusterlib.cluster import INCOMPLETE
from clusterlib.faults import await_equal
from vmtest.net import Loss

DEAF = Loss(percent=100)
HOST_PACKETS = ("announces", "symbols", "empties", "ends")


def test_late_joiner_while_the_host_sends(cluster, image):
    """The host waits for the commit of a relay that was not there when it crashed."""
    with cluster(relays=3, absent=[2]) as c:
        c.net.set_loss(Loss(percent=2))
        sender = c.send(image, "--rate", 4, "--commits", 3, "--linger", 170)
        c.wait_held(0, 300)
        c.relays[2].start()
        assert sender.wait() == 0, c.words()
        await_equal(c)
        assert c.counters(2)["symbols"] > 0
        c.check_views(image)


def test_late_joiners_when_the_host_is_gone(cluster, image):
    """Two of three relays begin with nothing when only one is left that heard the host."""
    with cluster(relays=3, absent=[1, 2]) as c:
        assert c.send(image).wait() == 0, c.words()
        c.wait_state(relays=[0])
        c.relays[1].start()
        c.relays[2].start()
        await_equal(c)
        for relay in (1, 2):
            n = c.counters(relay)
            assert not any(n.get(name) for name in HOST_PACKETS), n
        c.check_views(image)


def test_no_route_to_the_host(cluster, image):
    """No packet of the host ever reaches relays 1 and 2; it waits for one commit, and is gone."""
    with cluster(relays=3) as c:
        c.net.set_loss(DEAF, relays=[1, 2])
        assert c.send(image, "--commits", 1).wait() == 0, c.words()
        await_equal(c)
        for relay in (1, 2):
            assert c.net.dropped(relay) > 0
            n = c.counters(relay)
            assert not any(n.get(name) for name in HOST_PACKETS), n
        c.check_views(image)


def test_disjoint_losses_without_the_host(cluster, image):
    """Relay 0 hears the first part, relay 1 the rest, and neither the other until the host is gone."""
    with cluster(relays=2, flags=["--silent-after", "3s", "--seal-after", "2s"]) as c:
        for relay in range(2):
            c.net.set_alone(relay, True, hears_host=True)
        c.net.set_loss(DEAF, relays=[1])
        # It hears nobody, sends once and no parity: nothing of it can come twice.
        sender = c.send(image, "--rate", 3, "--blind", "--blind-passes", 0, "--parity-blind", 0)
        c.wait_held(0, 200)
        c.net.set_loss(Loss(), relays=[1])
        # What was under way at the turn comes whole to relay 0.
        c.wait_held(0, int(c.wait_held(0, 1)["blocks_held"]) + 60)
        c.net.set_loss(DEAF, relays=[0])
        assert sender.wait() == 1, "no commit can have reached the host"

        first, second = c.wait_state(INCOMPLETE)
        held = [int(dump["blocks_held"]) for dump in (first, second)]
        expected = int(first["blocks_expected"])
        print(f"relay 0 holds {held[0]}, relay 1 {held[1]} of {expected} blocks")
        assert max(held) < expected <= sum(held)
        before = [c.counters(relay)["symbols"] for relay in range(2)]
        for relay in range(2):
            c.net.set_alone(relay, False)
        await_equal(c)
        assert [c.counters(relay)["symbols"] for relay in range(2)] == before, "the host has spoken again"
        c.check_views(image)
