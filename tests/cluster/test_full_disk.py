# SPDX-License-Identifier: Apache-2.0
"""A relay's disk is full."""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets

import pytest
from vmtest.util import run, wait_until

PATIENCE_S = 120
# What an image takes must be known: the codec is not left to what is the fastest.
PACKED = ("--codec", "lz4")
FLAGS = ["--min-free", "20MiB", "--silent-after", "3s", "--seal-after", "2s"]


@pytest.fixture
def small_disk(scratch):
    """A tmpfs of 54 MiB where relay 0 of the first cluster will have its store.

    Above --min-free there is room for two dumps of the image as stored (13 MiB each), not for three.
    """
    store = scratch / "cluster0" / "relays" / "relay-0"
    store.mkdir(parents=True)
    run(["mount", "-t", "tmpfs", "-o", "size=54m", "dumpcast-test", store])
    with contextlib.ExitStack() as stack:
        stack.callback(run, ["umount", "--lazy", store])
        yield store


def resize(store: pathlib.Path, mib: int) -> None:
    run(["mount", "-o", f"remount,size={mib}m", store])


def eat(store: pathlib.Path) -> pathlib.Path:
    """Somebody else fills the file system to the last byte."""
    path = store / "eaten"
    with open(path, "wb") as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(1 << 20))
            out.flush()
    return path


def errors(c) -> list[str]:
    return [line for line in c.relays[0].log().splitlines() if " error " in line]


def expect_whole(c, image, dump_ids) -> None:
    for dump_id in dump_ids:
        c.wait_state(dump_id=dump_id)
        c.check_views(image, dump_id=dump_id)


def expect_new_dump_refused(c, image) -> None:
    c.dump_id = secrets.token_hex(16)
    assert c.send(image, *PACKED, "--linger", 2).wait() == 1
    assert c.show(0) is None
    assert any("no new dump is begun" in line and c.dump_id in line for line in errors(c)), errors(c)


def test_disk_fills_with_dumps(cluster, image, small_disk):
    """Dumps come until one finds no room; no sealed one suffers; deleting one is all it takes."""
    with cluster(relays=1, flags=FLAGS) as c:
        sealed = []
        for _ in range(5):
            c.dump_id = secrets.token_hex(16)
            if c.send(image, *PACKED, "--linger", 2).wait() != 0:
                break
            c.wait_state()
            sealed.append(c.dump_id)
        assert 1 <= len(sealed) < 5
        # The one that found no room is sealed as what it is, and says why.
        cut = c.dump_id
        dump = c.wait_state("DUMP_STATE_INCOMPLETE")[0]
        assert "the disk of this relay was full" in dump["incomplete_reason"]
        assert 0 < int(dump["blocks_held"]) < int(dump["blocks_expected"])
        expect_new_dump_refused(c, image)
        expect_whole(c, image, sealed)
        assert c.relays[0].stop() == 0, c.relays[0].log()[-2000:]
        c.relays[0].start()
        expect_whole(c, image, sealed)
        assert len(errors(c)) < 40, "a full disk fills the log, too"

        # Whoever deletes dumps gets room, without a restart.
        c.client(0).run("rm", "--yes", sealed.pop(0))
        c.client(0).run("rm", "--yes", cut)
        free = os.statvfs(small_disk)
        wait_until(lambda: os.statvfs(small_disk).f_bavail > free.f_bavail + 1024 or
                   os.statvfs(small_disk).f_bavail * free.f_frsize > 34 << 20, PATIENCE_S,
                   lambda: "the deleted dumps' space: " + ", ".join(
                       f"{entry.name} {entry.stat().st_size}" for entry in small_disk.iterdir()))
        c.dump_id = secrets.token_hex(16)
        assert c.send(image, *PACKED).wait() == 0, c.words()
        expect_whole(c, image, [*sealed, c.dump_id])


def test_disk_filled_by_others(cluster, image, small_disk):
    """Writes fail in the middle of a dump, not even a byte is left; then the space comes back."""
    resize(small_disk, 150)
    with cluster(relays=1, flags=FLAGS) as c:
        first = c.dump_id
        assert c.send(image, *PACKED).wait() == 0, c.words()
        c.wait_state()
        c.dump_id = secrets.token_hex(16)
        sender = c.send(image, *PACKED, "--rate", 4, "--linger", 3)
        c.wait_held(0, 150)
        eaten = eat(small_disk)
        assert sender.wait() == 1
        expect_new_dump_refused(c, image)
        expect_whole(c, image, [first])
        eaten.unlink()
        c.dump_id = secrets.token_hex(16)

        def sent():
            return c.send(image, *PACKED, "--linger", 3).wait() == 0
        wait_until(sent, PATIENCE_S, c.words)
        expect_whole(c, image, [first, c.dump_id])
        assert len(errors(c)) < 60, "a full disk fills the log, too"
        assert c.relays[0].stop() == 0
        c.relays[0].start()
        expect_whole(c, image, [first, c.dump_id])


def test_room_comes_during_the_dump(cluster, image, small_disk):
    """The host still answers when the operator makes room: the dump is completed."""
    resize(small_disk, 26)
    with cluster(relays=1, flags=["--min-free", "16MiB"]) as c:
        sender = c.send(image, *PACKED, "--linger", 120, "--rate", 10)
        wait_until(lambda: any("the store refuses blocks" in line for line in errors(c)), PATIENCE_S,
                   lambda: f"words about the disk\n{c.relays[0].log()[-3000:]}")
        assert sender.running()
        resize(small_disk, 200)
        assert sender.wait() == 0, c.words()
        assert "the store takes blocks again" in c.relays[0].log()
        c.wait_state()
        c.check_views(image)
