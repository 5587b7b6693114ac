# SPDX-License-Identifier: Apache-2.0
"""Nothing that a relay says reaches the host: parity and further passes must do."""

from __future__ import annotations

import pytest
from vmtest.net import Loss


@pytest.mark.parametrize("relays, paths, loss", [
    # One relay and one path: no peer and no other path can help.
    pytest.param(1, 1, 1, id="alone-1percent"),
    pytest.param(1, 1, 8, id="alone-8percent", marks=pytest.mark.slow),
    pytest.param(3, 2, 1, id="three-1percent"),
])
def test_replies_dropped(cluster, image, relays, paths, loss):
    with cluster(relays=relays) as c:
        c.net.drop_replies(True)
        c.net.set_loss(Loss(percent=loss))
        sender = c.send(image, paths=range(paths))
        assert sender.wait() == 1, "no commit can have reached the host"
        done = sender.summary()
        assert done["naks"] == 0
        dump = c.wait_state()[0]
        assert done["blocks"] >= 3 * int(dump["blocks_expected"]), "it sent no further passes"
        counters = [c.counters(r) for r in range(relays)]
        assert all(n["blocks_fec"] > 0 for n in counters), counters
        if relays == 1:
            assert counters[0].get("blocks_peer", 0) == 0
        c.check_views(image)


def test_parts_become_a_dump(cluster, image):
    """One pass: of a good part of the blocks no relay has enough symbols, all of them together do."""
    with cluster(relays=4) as c:
        c.net.drop_replies(True)
        c.net.set_loss(Loss(percent=12))
        sender = c.send(image, "--blind-passes", 0, "--parity-blind", 10, paths=[0])
        assert sender.wait() == 1, "no commit can have reached the host"
        c.wait_state()
        assert all(c.counters(r)["symbols_peer"] > 0 for r in range(4))
        c.check_views(image)


def test_way_back_comes_late(cluster, image):
    """Replies are dropped at first; once one arrives, NAKs drive the rest."""
    with cluster(relays=2) as c:
        c.net.drop_replies(True)
        c.net.set_loss(Loss(percent=5))
        sender = c.send(image, "--rate", 6, "--blind-passes", 100)
        c.wait_held(0, 200)
        c.net.drop_replies(False)
        assert sender.wait() == 0, c.words()
        c.wait_state()
        c.check_views(image)
