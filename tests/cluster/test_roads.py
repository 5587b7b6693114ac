# SPDX-License-Identifier: Apache-2.0
"""Other roads than one IPv4 group: lanes, unicast, IPv6, jumbo frames; each with loss."""

from __future__ import annotations

import pytest
from vmtest.net import Loss


@pytest.mark.parametrize("road", ["lanes", "unicast", "ipv6", "jumbo"])
def test_road(cluster, image, road):
    flags = ["--group", "none", "--group6", "none"] if road == "unicast" else []
    with cluster(relays=2, flags=flags, mtu=9000 if road == "jumbo" else 1500) as c:
        c.net.set_loss(Loss(percent=3))
        how = {"lanes": ["--lanes", 4], "ipv6": ["--group", "ff08::4443"],
               "jumbo": ["--mtu", 9000], "unicast": []}[road]
        if road == "unicast":
            # A path reaches a relay by the relay's address on that path's network.
            for relay in range(2):
                how += ["--relay", c.net.relay_address(relay)]
        sender = c.send(image, *how, paths=[0] if road == "unicast" else None)
        assert sender.wait() == 0, c.words()
        c.wait_state()
        assert all(c.net.dropped(relay) > 0 for relay in range(2))
        c.check_views(image)


def test_fewer_lanes_than_the_host_uses(cluster, image):
    """Relay 1 hears two of four lanes and has the rest from its peer."""
    with cluster(relays=2) as c:
        c.relays[1].stop()
        c.relays[1].flags = ("--lanes", "2")
        c.relays[1].start()
        assert c.send(image, "--lanes", 4, "--commits", 1).wait() == 0, c.words()
        c.wait_state()
        assert c.counters(1)["blocks_peer"] > 0
        c.check_views(image)
