# SPDX-License-Identifier: Apache-2.0
"""kill -9 of any relays at random moments. DUMPCAST_CLUSTER_SEED plays the same moments again."""

from __future__ import annotations

import pytest
from clusterlib.faults import SmallImage, rounds, seeded, survive


def test_nothing_promised_is_lost(cluster, scratch, pytestconfig):
    images = [SmallImage(scratch / f"image{seed}", seed) for seed in range(3)]
    count = rounds(pytestconfig, 100)
    with cluster(relays=3) as c:
        deaths = survive(c, images, seeded(), count, lambda relay: c.relays[relay].kill(),
                         lambda relay: c.relays[relay].start())
        assert deaths.total() >= 2 * count
        print(f"{count} dumps, {deaths.total()} kills: {dict(deaths)}")


def test_the_oracle_sees_a_loss(cluster, scratch):
    """A relay that comes back with an empty disk has broken its promises."""
    images = [SmallImage(scratch / "image")]
    with cluster(relays=2) as c:
        def die(relay: int) -> None:
            c.relays[relay].kill()
            c.wipe(relay)
        with pytest.raises(AssertionError, match="has forgotten dump|durable blocks of|had promised"):
            survive(c, images, seeded(), 1, die, lambda relay: c.relays[relay].start())
