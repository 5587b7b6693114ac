# SPDX-License-Identifier: Apache-2.0
"""A relay is asked to end in the middle of a dump."""

from __future__ import annotations

import signal


def test_sigterm_mid_dump(cluster, image):
    with cluster(relays=2) as c:
        sender = c.send(image, "--rate", 4, "--commits", 2)
        before = int(c.wait_held(1, 200)["blocks_held"])
        assert c.relays[1].stop() == 0, c.relays[1].log()
        assert "everything received is durable" in c.relays[1].log()
        c.relays[1].start()
        assert int(c.show(1)["blocks_held"]) >= before, "what it had was not durable"
        assert sender.wait() == 0, c.words()
        c.wait_state()
        c.check_views(image)


def test_sigterm_when_idle_and_when_sealed(cluster, image):
    with cluster(relays=1) as c:
        assert c.relays[0].stop() == 0
        c.relays[0].start()
        assert c.send(image).wait() == 0
        c.wait_state()
        assert c.relays[0].stop() == 0
        c.relays[0].start()
        c.wait_state()
        c.check_views(image)


def test_signals_at_any_moment(cluster):
    """Also one that comes while another is served ends nothing, or ends it cleanly."""
    with cluster(relays=1) as c:
        relay = c.relays[0]
        for _ in range(3000):
            relay.process.send_signal(signal.SIGUSR1)
        assert c.counters(0) == {} and relay.running()
        for _ in range(100):
            relay.process.send_signal(signal.SIGUSR1)
        assert relay.stop() == 0
