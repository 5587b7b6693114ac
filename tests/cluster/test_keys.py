# SPDX-License-Identifier: Apache-2.0
"""The life of keys: replaced with an overlap, revoked for one host, and known to one host alone."""

from __future__ import annotations

import os
import pathlib
import secrets
import signal

import pytest
from vmtest.util import wait_until


def epochs(path: pathlib.Path, *lines: str) -> pathlib.Path:
    path.touch(mode=0o600)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return path


def reread(c, wanted: str) -> None:
    """Tells every relay that its key file has changed, and waits until it says so."""
    for relay in c.relays:
        before = relay.log().count(wanted)
        relay.process.send_signal(signal.SIGHUP)
        wait_until(lambda: relay.log().count(wanted) > before, 30, lambda: f"{wanted!r} of {relay.name}\n{relay.log()[-2000:]}")


def send(c, image, key: pathlib.Path, dump_id: str, commits: int = 2, *more: object):
    return c.send(image, "--key-file", key, "--commits", commits, *more, dump_id=dump_id, with_key=False)


@pytest.fixture
def dump_ids():
    return [secrets.token_hex(16) for _ in range(3)]


def test_a_key_is_replaced_while_hosts_still_use_the_old_one(cluster, image, scratch, dump_ids):
    with cluster(relays=2) as c:
        first = c.relays.key.read_text(encoding="ascii").splitlines()[-1]
        second = f"2 {secrets.token_hex(32)}"
        old, new = epochs(scratch / "old", first), epochs(scratch / "new", second)

        # A host that is ahead of the relays is not believed.
        early = send(c, image, new, dump_ids[0], 1, "--linger", 1, "--blind-passes", 0)
        assert early.wait() == 1
        assert all(c.counters(relay)["refused_unknown_epoch"] > 0 for relay in range(2))
        assert not c.client(0).dumps()

        epochs(c.relays.key, first, second)
        reread(c, "keys are read again: 2 epochs, the newest is 2; 0 hosts are revoked")
        for key, dump_id in ((old, dump_ids[1]), (new, dump_ids[2])):
            assert send(c, image, key, dump_id).wait() == 0, c.words()
            c.wait_state(dump_id=dump_id)

        # The end of the overlap. What was sent under the old key stays.
        epochs(c.relays.key, second)
        reread(c, "keys are read again: 1 epochs, the newest is 2")
        late = send(c, image, old, dump_ids[0], 1, "--linger", 1, "--blind-passes", 0)
        assert late.wait() == 1
        assert {dump["dump_id"] for dump in c.client(0).dumps()} == set(dump_ids[1:])
        c.check_views(image, dump_id=dump_ids[1])


def test_one_host_is_revoked(cluster, image, dump_ids):
    with cluster(relays=2) as c:
        key = c.relays.key.read_text(encoding="ascii").splitlines()[-1]
        assert c.send(image, dump_id=dump_ids[0]).wait() == 0, c.words()
        c.wait_state(dump_id=dump_ids[0])

        own = epochs(c.folder / "own", key)
        epochs(c.relays.key, key, f"revoked {c.host_id} 1")
        reread(c, "1 hosts are revoked")
        stolen = send(c, image, own, dump_ids[1], 1, "--linger", 1, "--blind-passes", 0)
        assert stolen.wait() == 1
        assert all(c.counters(relay)["refused_revoked"] > 0 for relay in range(2))
        # Others are believed, and what it sent before is there.
        trusted, c.host_id = c.host_id, secrets.token_hex(16)
        assert send(c, image, own, dump_ids[2]).wait() == 0, c.words()
        c.wait_state(dump_id=dump_ids[2])
        assert {dump["dump_id"] for dump in c.client(1).dumps()} == {dump_ids[0], dump_ids[2]}

        # It is given a key of the next epoch.
        c.host_id, again = trusted, f"2 {secrets.token_hex(32)}"
        epochs(c.relays.key, key, again, f"revoked {c.host_id} 1")
        reread(c, "2 epochs")
        fresh = epochs(c.folder / "fresh", again)
        assert send(c, image, fresh, secrets.token_hex(16)).wait() == 0, c.words()


def test_a_key_file_that_is_wrong_changes_nothing(cluster, image):
    with cluster(relays=2) as c:
        key = c.relays.key.read_text(encoding="ascii")
        for bad, says in ((lambda: os.chmod(c.relays.key, 0o644), "chmod 600"),
                          (lambda: epochs(c.relays.key, "no key"), "wanted `epoch key`"),
                          (c.relays.key.unlink, "No such file")):
            bad()
            reread(c, "the keys stay as they were")
            assert says in c.relays[0].log()
            epochs(c.relays.key, *key.splitlines())
            c.relays.key.chmod(0o600)
        assert c.send(image).wait() == 0, c.words()


def test_a_host_needs_only_its_own_key(cluster, image, scratch):
    with cluster(relays=2) as c:
        line = c.client(0).run("hostkey", "--key-file", c.relays.key, c.host_id).stdout
        assert line.startswith("host 1 ") and c.relays.key.read_text(encoding="ascii").split()[-1] not in line
        own = epochs(scratch / "host.key", line.strip())
        assert send(c, image, own, c.dump_id).wait() == 0, c.words()
        c.wait_state()
        # It is of no use for another host.
        c.host_id = secrets.token_hex(16)
        other = send(c, image, own, secrets.token_hex(16), 1, "--linger", 1, "--blind-passes", 0)
        assert other.wait() == 1
        assert c.counters(0)["refused_mac"] > 0
