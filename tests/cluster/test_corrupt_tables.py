# SPDX-License-Identifier: Apache-2.0
"""Bytes of one relay's tables are changed by its disk."""

from __future__ import annotations

import random

import pytest
from clusterlib.cluster import COMPLETE
from clusterlib.faults import await_equal, seeded
from vmtest.util import wait_until

PATIENCE_S = 60
# Smaller tables have hardly a block but records and index.
BLOCK_TABLE_BYTES = 256 << 10
# The footer, the index and the properties of a table are at its end.
DATA_PART = 0.75


def flip(c, relay: int, rng: random.Random) -> int:
    """Changes a bit in every 128 KiB of the tables of blocks, where these have data; how many."""
    flipped = 0
    for table in sorted(c.relays[relay].store.glob("*.sst")):
        size = table.stat().st_size
        if size < BLOCK_TABLE_BYTES:
            continue
        with open(table, "r+b") as file:
            for part in range(0, int(size * DATA_PART), 128 << 10):
                at = part + rng.randrange(min(128 << 10, int(size * DATA_PART) - part))
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ 1 << rng.randrange(8)]))
                flipped += 1
    return flipped


@pytest.fixture(params=["stopped", "running"])
def corrupted(request, cluster, image):
    """Two relays with a dump; the tables of relay 1, which is alone, are wrong."""
    with cluster(relays=2) as c:
        assert c.send(image).wait() == 0, c.words()
        await_equal(c)
        c.net.set_alone(1, True)
        if request.param == "stopped":
            assert c.relays[1].stop() == 0
        flipped = flip(c, 1, seeded())
        assert flipped >= 20, flipped
        if request.param == "stopped":
            c.relays[1].start()
        yield c


def served(c, image, *relays: int, partial: bool = False) -> str:
    """What a client gets of these relays: "right", "wrong", or the words that it is refused with."""
    path = c.folder / "served.elf"
    path.unlink(missing_ok=True)
    done = c.relays.client(*relays).run("get", c.dump_id, "--format", "elf", "--output-file", path,
                                        "--force", "--quiet", check=False)
    if done.returncode != 0:
        return done.stderr
    return "wrong" if image.differences(path, partial=partial) else "right"


def test_no_wrong_byte_is_served(corrupted, image):
    """Alone the relay says that its data are lost; a client that knows both has what it wants."""
    c = corrupted
    alone = served(c, image, 1)
    assert "DATA_LOSS" in alone, alone
    # It has not given the dump away, and goes on.
    assert c.show(1) is not None and c.relays[1].running()
    assert served(c, image, 1, 0) == "right"
    c.net.set_alone(1, False)
    c.check_views(image, relays=[0])


def test_a_peer_is_not_infected(corrupted, image):
    """Relay 0 loses its disk and has only the corrupt copy to fill it from: what comes is right."""
    c = corrupted
    c.relays[0].kill()
    c.wipe(0)
    c.net.set_alone(1, False)
    c.relays[0].start()
    wait_until(lambda: (dump := c.show(0)) is not None and int(dump["blocks_held"]) > 0, PATIENCE_S,
               lambda: f"anything to come from the corrupt copy\n{c.words()}")
    # It cannot all come, and nobody says that it has.
    dump = c.show(0)
    assert dump["state"] != COMPLETE
    if dump["hostname"]:
        # Where the memory map is among what was lost, there is nothing to make a file of.
        came = served(c, image, 0, partial=True)
        assert came == "right" or "the memory map (stream MEMMAP) has not arrived" in came, came
    # Whoever still has the memory sends it again.
    assert c.send(image, "--linger", 60, "--commits", 2).wait() == 0, c.words()
    c.wait_state(relays=[0])
    c.check_views(image, relays=[0])


def test_healed_from_the_peer(corrupted, image):
    """What a client has met comes from the peer; then the relay serves all of it, alone and after a restart."""
    c = corrupted
    assert "DATA_LOSS" in served(c, image, 1)
    c.net.set_alone(1, False)
    wait_until(lambda: " healed " in c.relays[1].log(), PATIENCE_S, lambda: f"healing\n{c.relays[1].log()[-3000:]}")
    c.net.set_alone(1, True)
    wait_until(lambda: served(c, image, 1) == "right", PATIENCE_S, lambda: served(c, image, 1)[-3000:])
    c.check_views(image, relays=[1])
    assert c.relays[1].stop() == 0
    c.relays[1].start()
    assert served(c, image, 1) == "right"


def test_found_by_scrubbing(cluster, image):
    """Nobody reads the dump: the relay finds by itself what its disk has changed."""
    with cluster(relays=2, flags=["--scrub-rate", 100]) as c:
        assert c.send(image).wait() == 0, c.words()
        await_equal(c)
        assert flip(c, 1, seeded()) >= 20
        wait_until(lambda: " healed " in c.relays[1].log(), PATIENCE_S, lambda: f"healing\n{c.relays[1].log()[-3000:]}")
        c.net.set_alone(1, True)
        assert served(c, image, 1) == "right"
