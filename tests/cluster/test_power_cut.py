# SPDX-License-Identifier: Apache-2.0
"""The power of relays is cut at random moments: what was written and not synced is gone.

A store lies on an ext4 of its own. The cut is ext4's shutdown ioctl without a flush of the journal, as
xfstests use it: in one moment nothing more reaches the disk, neither data in the page cache nor metadata
that no fsync has committed. Then comes SIGKILL; the next mount replays the journal.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import struct
from typing import Iterator

import pytest
from clusterlib.faults import SmallImage, rounds, seeded, survive
from vmtest.util import run

# fs/ext4/ext4.h: EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32); EXT4_GOING_FLAGS_NOLOGFLUSH.
IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
# The journal commits by itself every 5 s and at a rename over a file: here only when asked to.
MOUNT = "loop,commit=300,noauto_da_alloc"
# So small that no relay takes its disk for full.
FLAGS = ["--min-free", "16MiB"]


class Disk:
    """An ext4 in a file, mounted at `where`."""

    def __init__(self, image: pathlib.Path, where: pathlib.Path) -> None:
        self.image, self.where = image, where
        with open(image, "wb") as out:
            out.truncate(1 << 30)
        run(["mkfs.ext4", "-q", "-F", image])
        where.mkdir(parents=True)
        self.mount()

    def mount(self) -> None:
        run(["mount", "-o", MOUNT, self.image, self.where])

    def cut(self) -> None:
        """From now on nothing reaches the disk."""
        handle = os.open(self.where, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def unmount(self) -> None:
        """Whoever had files there has ended."""
        run(["umount", self.where])


@pytest.fixture
def disks(scratch) -> Iterator[list[Disk]]:
    """Those of the relays of the first cluster."""
    # Shared, so that unmounting reaches the mount namespaces that `ip netns exec` has made.
    run(["mount", "--bind", scratch, scratch])
    with contextlib.ExitStack() as stack:
        stack.callback(run, ["umount", "--lazy", "--recursive", scratch])
        run(["mount", "--make-rshared", scratch])
        yield [Disk(scratch / f"disk{relay}", scratch / "cluster0" / "relays" / f"relay-{relay}")
               for relay in range(3)]


def test_a_cut_drops_what_was_not_synced(disks):
    """The judge itself: without fsync a file is lost, with it a file stays."""
    disk = disks[0]
    before, after = disk.where / "before", disk.where / "after"
    for path, synced in ((disk.where / "unsynced", False), (before, True)):
        with open(path, "wb") as out:
            out.write(b"x" * 100_000)
            out.flush()
            if synced:
                os.fsync(out.fileno())
    # Also metadata alone: a rename that no sync follows did not happen.
    before.rename(after)
    disk.cut()
    with pytest.raises(OSError):
        (disk.where / "late").write_bytes(b"x")
    disk.unmount()
    disk.mount()
    assert before.read_bytes() == b"x" * 100_000 and not after.exists()
    unsynced = disk.where / "unsynced"
    assert not unsynced.exists() or unsynced.stat().st_size == 0


def test_nothing_promised_is_lost(cluster, scratch, disks, pytestconfig):
    images = [SmallImage(scratch / f"image{seed}", seed) for seed in range(3)]
    count = rounds(pytestconfig, 100)
    with cluster(relays=3, flags=FLAGS) as c:
        def die(relay: int) -> None:
            disks[relay].cut()
            c.relays[relay].kill()
            disks[relay].unmount()

        def revive(relay: int) -> None:
            disks[relay].mount()
            c.relays[relay].start()
        cuts = survive(c, images, seeded(), count, die, revive)
        assert cuts.total() >= 2 * count
        print(f"{count} dumps, {cuts.total()} power cuts: {dict(cuts)}")
