# SPDX-License-Identifier: Apache-2.0
"""Many hosts crash alike, or at once: the first in full, others in turn, or the log alone."""

from __future__ import annotations

import secrets

import pytest

LOG = """[    5.{number:06}] BUG: unable to handle page fault for address: ffff{number:04}
[    5.100000] RIP: 0010:bad_driver_poll+0x1f/0x40
[    5.200000] Kernel panic - not syncing: Fatal exception in interrupt
[    5.300000] Call Trace:
[    5.300001]  <IRQ>
[    5.300002]  bad_driver_poll+0x1f/0x40
[    5.300003]  net_rx_action+0x10/0x20
"""


@pytest.fixture
def crash(image, scratch):
    """A host of its own crashes, always the same way; its sender."""
    count = 0

    def begin(c, *flags: object):
        nonlocal count
        count += 1
        log = scratch / f"log{count}"
        log.write_text(LOG.format(number=count), encoding="ascii")
        c.host_id = secrets.token_hex(16)
        dump_id = secrets.token_hex(16)
        return dump_id, c.send(image, "--log-file", log, *flags, dump_id=dump_id)
    return begin


def test_of_a_bad_roll_out_the_first_are_taken_in_full(cluster, crash):
    with cluster(relays=2, flags=["--full-dumps", "2", "--silent-after", "3s", "--seal-after", "2s"]) as c:
        told = []
        for number in range(4):
            dump_id, sender = crash(c)
            assert sender.wait() == 0, c.words()
            told.append((dump_id, sender.words()))
            c.wait_state("DUMP_STATE_COMPLETE" if number < 2 else "DUMP_STATE_INCOMPLETE", dump_id=dump_id)
        for number, (dump_id, words) in enumerate(told):
            assert ("only the log is sent" in words) == (number >= 2), words
            dump = c.show(0, dump_id)
            log = c.client(0).run("log", dump_id).stdout
            assert "bad_driver_poll" in log
            # A relay that had not spoken yet when the other one's word was taken does not know why.
            assert ("only the log was taken" in dump["incomplete_reason"]) == (number >= 2), dump
            whys = [c.show(relay, dump_id)["incomplete_reason"] for relay in range(2)]
            assert any("2 dumps of this signature" in why for why in whys) == (number >= 2), whys
        # One line of a listing.
        group, = c.client(1).json("ls", "--by-signature")
        assert (group["dumps"], group["complete"], group["hosts"]) == (4, 2, 4)
        assert len(c.client(1).json("ls", "--filter", f"signature={group['signature']}")) == 4
        # A relay that was started again has not forgotten.
        for relay in c.relays:
            assert relay.stop() == 0
            relay.start()
        dump_id, sender = crash(c)
        assert sender.wait() == 0 and "only the log is sent" in sender.words(), sender.words()


def test_the_most_generous_relay_wins(cluster, crash):
    with cluster(relays=2, absent=[1], flags=["--full-dumps", "1"]) as c:
        assert crash(c)[1].wait() == 0
        c.relays[1].flags = ("--full-dumps", "0")
        c.relays[1].start()
        dump_id, sender = crash(c)
        assert sender.wait() == 0, c.words()
        c.wait_state(dump_id=dump_id)


def test_too_many_at_once_take_turns(cluster, crash):
    with cluster(relays=2, flags=["--full-dumps", "0", "--concurrent-dumps", "1"]) as c:
        begun = [crash(c, "--rate", 4) for _ in range(3)]
        for _, sender in begun:
            assert sender.wait() == 0, c.words()
        for dump_id, _ in begun:
            c.wait_state(dump_id=dump_id)
        waited = ["memory waits" in sender.words() for _, sender in begun]
        assert sum(waited) == 2, waited
        assert all("memory is sent now" in sender.words() for (_, sender), w in zip(begun, waited) if w)


def test_a_wait_expires(cluster, crash):
    with cluster(relays=1, flags=["--full-dumps", "0", "--concurrent-dumps", "1", "--wait", "2s"]) as c:
        first_id, first = crash(c, "--rate", 1)
        c.wait_held(0, 20, first_id)
        dump_id, second = crash(c)
        assert second.wait() == 0, c.words()
        assert "memory waits" in second.words()
        assert first.running(), "it has not waited for the first to end"
        c.wait_state(dump_id=dump_id)
        first.kill()
