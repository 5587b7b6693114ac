# SPDX-License-Identifier: Apache-2.0
"""Packets of another dump of the same host are replayed while it dumps."""

from __future__ import annotations

import random
import secrets
import threading

from clusterlib.faults import await_equal
from clusterlib.image import Image
from clusterlib.packets import Recorder, Voice
from vmtest.net import CLIENT_NUMBER, Loss

LEG1 = f"10.68.1.{CLIENT_NUMBER}"  # the client's namespace, bridge 1


def test_another_dump_replayed_during_a_dump(cluster, image, scratch):
    """All of an older dump comes again, many times and in any order, to a relay that has it sealed and to
    one that has never heard of it: both dumps are what was sent, and blocks are never mixed."""
    other = Image(scratch / "other", seed=69)
    with cluster(relays=2) as c:
        older, newer = secrets.token_hex(16), secrets.token_hex(16)
        recorder = Recorder(c.net.client_ns, LEG1)
        try:
            assert c.send(other, dump_id=older).wait() == 0, c.words()
        finally:
            heard = recorder.packets()
        await_equal(c, older)
        # Relay 1 loses its disk: to it the replayed dump is a new one.
        c.relays[1].kill()
        c.wipe(1)
        c.net.set_alone(1, True, hears_host=True)
        voice, over, said = Voice(c.net.client_ns, LEG1), threading.Event(), []

        def replay() -> None:
            rng = random.Random(7)
            while not over.is_set():
                said.append(voice.say(rng.choices(heard, k=50)))
                over.wait(0.005)
        thread = threading.Thread(target=replay)
        c.net.set_loss(Loss(percent=2))
        c.relays[1].start()
        before = c.counters(0)
        thread.start()
        try:
            assert c.send(image, "--rate", 6, "--linger", 170, dump_id=newer).wait() == 0, c.words()
            c.wait_state(dump_id=newer)
        finally:
            over.set()
            thread.join()
            voice.close()
        assert sum(said) > 1000, "hardly anything was replayed"
        n = [c.counters(relay) for relay in range(2)]
        assert n[0].get("symbols_sealed", 0) > before.get("symbols_sealed", 0), n[0]
        assert n[0].get("symbols_mismatch", 0) == n[1].get("symbols_mismatch", 0) == 0, n
        assert n[0].get("blocks_bad_digest", 0) == n[1].get("blocks_bad_digest", 0) == 0, n
        c.net.set_alone(1, False)
        await_equal(c, newer)
        c.check_views(image, dump_id=newer)
        # Its true peer has completed what the attacker has begun there.
        await_equal(c, older)
        c.check_views(other, dump_id=older)
        assert {dump["dump_id"] for dump in c.client(1).dumps()} == {older, newer}
