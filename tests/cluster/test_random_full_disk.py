# SPDX-License-Identifier: Apache-2.0
"""The disk of a relay is full at random moments, to the last byte or nearly. DUMPCAST_CLUSTER_SEED plays
the same moments again."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import random
import secrets
import time

import pytest
from clusterlib.cluster import INCOMPLETE
from clusterlib.faults import LINGER_S, Oracle, SmallImage, await_equal, await_moment, rounds, seeded
from vmtest.net import Loss
from vmtest.util import run, wait_until

PATIENCE_S = 180
DISK_MIB = 300
FLAGS = ["--min-free", "16MiB", "--silent-after", "3s", "--seal-after", "2s"]


@pytest.fixture
def small_disk(scratch):
    """A tmpfs of its own where relay 0 of the first cluster will have its store."""
    store = scratch / "cluster0" / "relays" / "relay-0"
    store.mkdir(parents=True)
    run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "dumpcast-test", store])
    with contextlib.ExitStack() as stack:
        stack.callback(run, ["umount", "--lazy", store])
        yield store


def eat(store: pathlib.Path, left_kib: int) -> None:
    """Somebody else takes all room but left_kib."""
    with open(store / "eaten", "wb") as out, contextlib.suppress(OSError):
        while (free := os.statvfs(store).f_bavail * os.statvfs(store).f_frsize - (left_kib << 10)) > 0:
            out.write(bytes(min(free, 1 << 20)))
            out.flush()


def full_for_a_while(c, oracle: Oracle, rng: random.Random, sender, dump_id: str, disk: pathlib.Path) -> str:
    """Fills the disk at a random moment, and empties it at another; how far the dump was, and what happened."""
    await_moment(c, rng, sender, dump_id)
    oracle.note(0)
    stage = oracle.stage(0, dump_id)
    eat(disk, rng.choice((0, 0, 8, 64, 1024, 20 << 10)))
    time.sleep(rng.random() * 4)
    what = rng.choice(("nothing", "nothing", "killed full", "killed emptied"))
    if what == "killed full" or not c.relays[0].running():
        c.relays[0].kill()
        (disk / "eaten").unlink()
    else:
        oracle.note(0)  # also with a full disk it answers, and breaks no promise
        (disk / "eaten").unlink()
        if what == "killed emptied":
            c.relays[0].kill()
    oracle.note_log(0)
    if not c.relays[0].running():
        c.net.set_alone(0, True)
        c.relays[0].start()
        oracle.check(0, {dump_id, rng.choice(list(oracle.images))})
        c.net.set_alone(0, False)
    return f"{stage}, {what}"


def test_nothing_promised_is_lost(cluster, scratch, small_disk, pytestconfig):
    """Relay 0's disk fills up while it receives; relay 1's does not, and completes it later."""
    rng, count = seeded(), rounds(pytestconfig, 100)
    images = [SmallImage(scratch / f"image{seed}", seed) for seed in range(3)]
    with cluster(relays=2, flags=FLAGS) as c:
        oracle, happened = Oracle(c), []
        for number in range(count):
            dump_id, image = secrets.token_hex(16), rng.choice(images)
            oracle.images[dump_id] = image
            c.net.set_loss(Loss(percent=rng.choice((0, 2))))
            sender = c.send(image, "--rate", rng.choice((0.2, 0.5, 2)), "--commits", 1, "--linger", LINGER_S,
                            dump_id=dump_id)
            happened.append(full_for_a_while(c, oracle, rng, sender, dump_id, small_disk))
            assert sender.wait(2 * LINGER_S) == 0, f"round {number}\n{c.words()}"
            oracle.note_commits(sender, dump_id)
            await_equal(c, dump_id)
            c.check_views(image, dump_id=dump_id)
        for dump_id, image in oracle.images.items():
            c.check_views(image, dump_id=dump_id)
        print(f"{count} dumps: {dict(collections.Counter(happened))}")


def test_alone_it_tells_what_it_lacks(cluster, scratch, small_disk):
    """No peer: the host gives up, and the dump is sealed for what it is; nothing older suffers."""
    rng, image = seeded(), SmallImage(scratch / "image")
    with cluster(relays=1, flags=FLAGS) as c:
        assert c.send(image, dump_id=(whole := secrets.token_hex(16))).wait() == 0, c.words()
        c.wait_state(dump_id=whole)
        # Beyond --min-free there is room for a part of the 1.5 MiB that it takes.
        eat(small_disk, (16 << 10) + rng.randrange(200, 1000))
        sender = c.send(image, "--codec", "lz4", "--rate", 1, "--linger", 3,
                        dump_id=(cut := secrets.token_hex(16)))
        assert sender.wait() == 1, c.words()
        (small_disk / "eaten").unlink()
        dump = c.wait_state(INCOMPLETE, dump_id=cut)[0]
        assert 0 < int(dump["blocks_held"]) < int(dump["blocks_expected"])
        assert "the disk of this relay was full" in dump["incomplete_reason"], dump
        assert image.differences(c.fetch(0, "elf", cut), partial=True) == []
        c.check_views(image, dump_id=whole)
        # Sent again, it is completed.
        wait_until(lambda: c.send(image, "--linger", 3, dump_id=cut).wait() == 0, PATIENCE_S, c.words)
        c.wait_state(dump_id=cut)
        c.check_views(image, dump_id=cut)
