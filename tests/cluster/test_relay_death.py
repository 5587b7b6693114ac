# SPDX-License-Identifier: Apache-2.0
"""Relays die, come back, or come late."""

from __future__ import annotations

from vmtest.net import Loss


def same_blocks(dumps) -> bool:
    """An etag is made of the number and the sum of all keys that a relay holds."""
    return len({d["etag"] for d in dumps}) == 1


def test_killed_and_empty_without_the_host(cluster, image):
    """Relay 1 is killed mid-dump, relay 2 starts with an empty disk; both after the host is gone."""
    with cluster(relays=3, absent=[2]) as c:
        c.net.set_loss(Loss(percent=2))
        sender = c.send(image, "--rate", 6, "--commits", 1)
        c.wait_held(1, 150)
        c.relays[1].kill()
        assert sender.wait() == 0, c.words()
        c.wait_state(relays=[0])
        assert not sender.running()
        c.relays[1].start()
        c.relays[2].start()
        dumps = c.wait_state(relays=[0, 1, 2])
        assert same_blocks(dumps), [d["etag"] for d in dumps]
        assert c.counters(2).get("symbols", 0) == 0, "the host was not gone"
        c.check_views(image)


def test_killed_and_back_while_the_host_sends(cluster, image):
    with cluster(relays=3) as c:
        c.net.set_loss(Loss(percent=2))
        # One codec, so that a block that is sent again is the same bytes.
        sender = c.send(image, "--codec", "lz4", "--rate", 4, "--commits", 3)
        c.wait_held(1, 150)
        c.relays[1].kill()
        c.wait_held(0, 300)
        c.relays[1].start()
        c.wait_held(0, 400)
        c.relays[2].kill()
        c.relays[2].start()
        assert sender.wait() == 0, c.words()
        dumps = c.wait_state()
        assert same_blocks(dumps), [d["etag"] for d in dumps]
        c.check_views(image)


def test_sealed_dump_survives_kill(cluster, image):
    """A COMMIT is a promise: the relay is killed as soon as the host has heard it."""
    with cluster(relays=1) as c:
        assert c.send(image, "--commits", 1).wait() == 0, c.words()
        c.relays[0].kill()
        c.relays[0].start()
        c.wait_state()
        c.check_views(image)


def test_disk_lost_after_the_dump(cluster, image):
    with cluster(relays=2) as c:
        assert c.send(image).wait() == 0, c.words()
        before = c.wait_state()
        c.relays[1].kill()
        c.wipe(1)
        c.relays[1].start()
        after = c.wait_state()
        assert same_blocks(before + after), [d["etag"] for d in before + after]
        c.check_views(image)
