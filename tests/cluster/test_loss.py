# SPDX-License-Identifier: Apache-2.0
"""Packets are lost on their way to every relay."""

from __future__ import annotations

import pytest
from vmtest.net import Loss

RANDOM = [Loss(percent=0), Loss(percent=1), Loss(percent=5), Loss(percent=20)]
BURSTS = Loss(burst_packets=100, burst_every=2000)


def name(loss: Loss) -> str:
    return f"{loss.percent:g}percent" if loss.percent or not loss.burst_packets else "bursts"


@pytest.mark.parametrize("loss", [
    pytest.param(loss, id=name(loss), marks=[] if loss.percent == 5 else pytest.mark.slow)
    for loss in RANDOM] + [pytest.param(BURSTS, id="bursts")])
def test_lossy_paths(cluster, image, loss):
    with cluster(relays=3) as c:
        c.net.set_loss(loss)
        sender = c.send(image)
        assert sender.wait() == 0, c.words()
        dumps = c.wait_state()
        if loss != Loss():
            assert all(c.net.dropped(r) > 0 for r in range(3)), "the rules have dropped nothing"
        assert {int(d["blocks_held"]) for d in dumps} == {int(dumps[0]["blocks_expected"])}
        print(sender.words())
        c.check_views(image)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [pytest.param(loss, id=name(loss)) for loss in [*RANDOM, BURSTS]])
def test_lossy_single_path(cluster, image, loss):
    """No other path has what this one loses: parity, peers and NAKs must bring it."""
    with cluster(relays=3, bridges=1) as c:
        c.net.set_loss(loss)
        sender = c.send(image)
        assert sender.wait() == 0, c.words()
        c.wait_state()
        print(sender.words())
        c.check_views(image)
