# SPDX-License-Identifier: Apache-2.0
"""Relays that share a dump's lanes: each receives some, and all have all of it in the end."""

from __future__ import annotations

import pytest
from vmtest.net import Loss


@pytest.mark.parametrize("loss", [0, 5])
def test_lanes_spread_over_relays(cluster, image, loss):
    shares = ["1", "2", "3"]
    with cluster(relays=3) as c:
        for relay, share in zip(c.relays, shares):
            relay.stop()
            relay.flags = ("--own-lanes", share)
            relay.start()
        c.net.set_loss(Loss(percent=loss))
        # No lane but 0 has two relays: the host asks for as many commits as it can have.
        sender = c.send(image, "--lanes", 4)
        assert sender.wait() == 0, c.words()
        c.wait_state()
        received = [c.counters(relay) for relay in range(3)]
        blocks = sender.summary()["blocks"]
        for counters in received:
            assert 0 < counters["blocks"] < blocks
            assert counters.get("blocks_peer", 0) + counters.get("blocks_replicated", 0) > 0
        c.check_views(image)


def test_a_lane_without_a_relay_is_lost_and_told(cluster, image):
    with cluster(relays=2, flags=["--own-lanes", "0-2", "--silent-after", "2s", "--seal-after", "2s"]) as c:
        assert c.send(image, "--lanes", 4, "--linger", 2).wait() == 1, c.words()
        for dump in c.wait_state("DUMP_STATE_INCOMPLETE"):
            assert "blocks are missing, and no peer has them" in dump["incomplete_reason"]
