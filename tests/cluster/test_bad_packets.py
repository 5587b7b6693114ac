# SPDX-License-Identifier: Apache-2.0
"""Packets that are damaged, forged, replayed, of another version or another cluster."""

from __future__ import annotations

import random
import secrets
import threading

import pytest
from clusterlib import packets
from clusterlib.packets import Forge, Recorder, Voice
from vmtest.net import CLIENT_NUMBER, Loss
from vmtest.util import wait_until

LEG1 = f"10.68.1.{CLIENT_NUMBER}"  # the client's namespace, bridge 1
PATIENCE_S = 60


def state_of(c, relay: int = 0):
    """All that a relay knows, but for what passing time changes."""
    dumps = [{k: v for k, v in d.items() if k != "holders"} for d in c.client(relay).dumps()]
    hosts = [{k: v for k, v in h.items() if k not in ("state", "paths_heard")}
             for h in c.client(relay).hosts()]
    return dumps, hosts


def flip(packet: bytes, at: int) -> bytes:
    return packet[:at] + bytes([packet[at] ^ 0x40]) + packet[at + 1:]


@pytest.fixture
def attacked(cluster, image):
    """A relay with a sealed dump, the packets of that dump, its key, and a voice on the network."""
    with cluster(relays=1) as c:
        recorder = Recorder(c.net.client_ns, LEG1)
        try:
            assert c.send(image).wait() == 0, c.words()
        finally:
            heard = recorder.packets()
        c.wait_state()
        voice = Voice(c.net.client_ns, LEG1)
        yield c, heard, voice
        voice.close()


def bad_packets(c, heard) -> dict[str, list[bytes]]:
    """By the counter that each must end in."""
    epoch, key = packets.read_key(c.relays.key)
    own = Forge(key, epoch, c.host_id, c.dump_id)
    other_cluster = Forge(secrets.token_bytes(32), epoch, c.host_id, c.dump_id)
    unknown = Forge(key, epoch + 6, c.host_id, c.dump_id)
    nobody = Forge(packets.unauthenticated_key(), 0, c.host_id, secrets.token_hex(16))
    real = next(p for p in heard if packets.header_of(p)["type"] == packets.SYMBOL and len(p) > 1000)
    newer = bytearray(own.symbol())
    newer[12] = 2
    unknown_type = bytearray(own.packet(packets.EMPTY, number=1, block_class=1))
    unknown_type[14] = 33
    return {
        "refused_truncated": [real[:8], real[:13], real[:95], real[:-8], real[:96]],
        "refused_magic": [b"GET / HTTP/1.1\r\n\r\n", bytes(1400), real[4:], flip(real, 8)],
        "refused_version": [bytes(newer), own.remac(bytes(newer))],
        "refused_unknown_epoch": [unknown.symbol(), unknown.announce(packets.DUMPING),
                                  nobody.announce(packets.ARMED), nobody.announce(packets.DUMPING),
                                  nobody.symbol(), nobody.packet(packets.END, bytes(80))],
        "refused_mac": [flip(real, 0), flip(real, 64), flip(real, 93), flip(real, len(real) - 1),
                        flip(real, 20),  # another host's id: another host key
                        other_cluster.symbol(), other_cluster.announce(packets.DUMPING),
                        other_cluster.packet(packets.EMPTY, number=3, block_class=1)],
        "refused_format": [own.symbol(block_class=4), own.symbol(k=2), own.symbol(k=62),
                           own.symbol(symbol_size=1377), own.symbol(symbol_size=8), own.symbol(dig=0),
                           own.symbol(encoded_len=1 << 30), own.symbol(index=64),
                           own.symbol(lane=64), own.symbol(path=8), own.symbol(number=1 << 40),
                           own.packet(packets.ANNOUNCE, bytes(191)),
                           own.packet(packets.END, bytes(79)),
                           own.remac(own.symbol() + b"\0"),
                           own.packet(packets.NAK, b"\xff" * 8, relay=True)],
        "refused_type": [own.remac(bytes(unknown_type))],
        "refused_replay": [p for p in heard[-60:]
                           if packets.header_of(p)["type"] in (packets.ANNOUNCE, packets.END)],
    }


def test_bad_packets_are_counted_and_change_nothing(attacked):
    c, heard, voice = attacked
    before = state_of(c)
    for reason, bad in bad_packets(c, heard).items():
        assert bad, reason
        was = c.counters(0)
        voice.say(bad)
        wait_until(lambda: c.counters(0).get("received", 0) >= was["received"] + len(bad),
                   PATIENCE_S, f"the relay to count {reason}")
        now = c.counters(0)
        risen = {name: now[name] - was.get(name, 0) for name in now if now[name] != was.get(name, 0)}
        assert risen == {"received": len(bad), reason: len(bad)}, reason
        assert voice.answers(0) == [], f"{reason}: the relay has answered"
        assert state_of(c) == before, reason
    assert "packets of format version 2.0 are refused" in c.relays[0].log()


def test_whole_dump_replayed(attacked, image):
    """Every packet of a sealed dump comes again, then again after the relay has forgotten seqs."""
    c, heard, voice = attacked
    before = state_of(c)
    assert voice.say(heard) > 5000
    voice.say(heard)
    c.relays[0].kill()
    c.relays[0].start()
    voice.say(heard)
    wait_until(lambda: c.counters(0).get("received", 0) > len(heard) // 2, PATIENCE_S,
               "the replayed packets to arrive")
    n = c.counters(0)
    assert n.get("blocks", 0) == 0 and n["symbols_sealed"] > 0, n

    def still(dumps):
        return [{k: v for k, v in d.items() if k not in ("paths", "blocks_announced")} for d in dumps]
    assert still(state_of(c)[0]) == still(before[0])
    c.check_views(image)

    # A deleted dump stays deleted.
    c.client(0).run("rm", "--yes", c.dump_id)
    was = c.counters(0)
    voice.say(heard)
    wait_until(lambda: c.counters(0).get("received", 0) > was["received"], PATIENCE_S,
               "the replayed packets to arrive")
    c.relays[0].kill()
    c.relays[0].start()
    voice.say(heard)
    wait_until(lambda: c.counters(0).get("symbols_declined", 0) > 0, PATIENCE_S,
               lambda: f"packets of a deleted dump to be declined: {c.counters(0)}")
    assert c.client(0).dumps() == []


def test_old_announces_do_not_turn_time_back(attacked):
    """The host has booted again and is armed; the heartbeats of its former boot are replayed."""
    c, heard, voice = attacked
    epoch, key = packets.read_key(c.relays.key)
    boot = bytes.fromhex(secrets.token_hex(16))
    now_armed = Forge(key, epoch, c.host_id, secrets.token_hex(16), origin=0xABCD)
    voice.say([now_armed.announce(packets.ARMED, boot, "crashed.test")])

    def boot_of_host():
        return {h["boot_id"] for h in c.client(0).hosts()}
    wait_until(lambda: boot_of_host() == {boot.hex()}, PATIENCE_S, "the new boot to be heard")
    old = [p for p in heard if packets.header_of(p)["type"] == packets.ANNOUNCE]
    for _ in range(2):
        was = c.counters(0)
        voice.say(old)
        wait_until(lambda: c.counters(0).get("received", 0) >= was.get("received", 0) + len(old),
                   PATIENCE_S, "the replayed heartbeats to arrive")
        n = c.counters(0)
        assert n["refused_replay"] - was.get("refused_replay", 0) == len(old), n
        assert boot_of_host() == {boot.hex()}
        assert len(c.client(0).dumps()) == 1
        # What the relay has in memory only is gone; what it wrote down must do.
        c.relays[0].kill()
        c.relays[0].start()


def test_noise_during_a_dump(cluster, image):
    """While a dump arrives with loss, its own packets come again, damaged and undamaged."""
    with cluster(relays=2) as c:
        c.net.set_loss(Loss(percent=2))
        recorder, voice = Recorder(c.net.client_ns, LEG1), Voice(c.net.client_ns, LEG1)
        over, said = threading.Event(), []

        def disturb():
            rng = random.Random(5)
            while not over.is_set():
                heard = recorder.so_far()
                if heard:
                    some = [rng.choice(heard) for _ in range(100)]
                    voice.say(some)
                    said.append(voice.say(flip(p, rng.randrange(len(p))) for p in some))
                over.wait(0.01)
        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            sender = c.send(image, "--rate", 6, "--codec", "lz4")
            assert sender.wait() == 0, c.words()
            dumps = c.wait_state()
        finally:
            over.set()
            thread.join()
            recorder.packets()
            voice.close()
        assert len(said) > 10, "there was no noise"
        n = c.counters(0)
        assert n["refused_mac"] > 100 and n["refused_replay"] > 100, n
        assert {int(d["etag"].rpartition("-")[2], 16) for d in dumps} == \
            {int(dumps[0]["blocks_expected"])}
        c.check_views(image)


def test_sender_without_a_key(cluster, image):
    """Epoch 0, which everybody can compute, means nothing to relays with a key file."""
    with cluster(relays=1) as c:
        sender = c.send(image, "--rate", 20, "--blind-passes", 0, with_key=False)
        assert sender.wait() == 1
        assert "WARNING" in sender.words()
        n = c.counters(0)
        assert n["refused_unknown_epoch"] == n["received"] > 1000, n
        assert c.client(0).dumps() == [] and c.client(0).hosts() == []
