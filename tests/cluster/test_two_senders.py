# SPDX-License-Identifier: Apache-2.0
"""The same dump comes more than once: by two paths, and from two senders."""

from __future__ import annotations

import secrets

import pytest
from vmtest.net import Loss


@pytest.mark.parametrize("senders", [1, 2])
def test_nothing_is_stored_twice(cluster, image, senders):
    with cluster(relays=2) as c:
        c.net.set_loss(Loss(percent=1))
        boot = secrets.token_hex(16)
        # One codec: which is the fastest may not be the same for both, nor all the time.
        how = ("--rate", 8, "--boot-id", boot, "--codec", "lz4")
        running = [c.send(image, *how) for _ in range(senders)]
        assert [sender.wait() for sender in running] == [0] * senders, c.words()
        for relay, dump in enumerate(c.wait_state()):
            blocks = int(dump["blocks_expected"])
            assert int(dump["blocks_held"]) == blocks
            # The etag ends in the number of keys held, in hex: one encoding of each block.
            assert int(dump["etag"].rpartition("-")[2], 16) == blocks
            n = c.counters(relay)
            came = ("blocks", "blocks_peer", "blocks_replicated")
            assert sum(n.get(name, 0) for name in came) == blocks, n
            twice = n["symbols_duplicate"] + n["symbols_held"] + n.get("symbols_sealed", 0)
            assert twice > 0
            assert n["symbols"] + n.get("symbols_peer", 0) == n["symbols_stored"] + twice, n
            by_path = {(p["origin"], p["path"]): int(p["duplicates"]) for p in dump["paths"]}
            assert len(by_path) == 2 * senders, by_path
            assert sum(by_path.values()) == twice - n.get("symbols_sealed", 0), by_path
        c.check_views(image)


def test_senders_that_encode_otherwise(cluster, image):
    """META of two senders differs in its boot id: both encodings are kept, views agree on one."""
    with cluster(relays=2) as c:
        running = [c.send(image, "--rate", 8), c.send(image, "--rate", 8, "--parity", 0)]
        assert [sender.wait() for sender in running] == [0, 0], c.words()
        c.wait_state()
        c.check_views(image)
