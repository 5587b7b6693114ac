# SPDX-License-Identifier: Apache-2.0
"""Encrypted dumps through relays: views are those of the same dump in the clear, for who may see them."""

from __future__ import annotations

import hashlib
import re

from vmtest.net import Loss

LOG = "[    1.0] Kernel panic - not syncing: the secret reason\n"

def keygen(c, path) -> str:
    """An identity at path; its recipient."""
    return re.search("[0-9a-f]{64}", c.client(0).run("keygen", "-O", path).stdout)[0]


def digest(path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_views_are_those_of_the_dump_in_the_clear(cluster, image, scratch):
    with cluster(relays=2) as c:
        mine, other = scratch / "identity", scratch / "other"
        recipients = ["--recipient", keygen(c, other), "--recipient", keygen(c, mine)]
        c.net.set_loss(Loss(percent=3))
        (scratch / "log").write_text(LOG, encoding="ascii")
        same = ("--boot-id", "ab" * 16, "--log-file", scratch / "log")
        assert c.send(image, *same, *recipients).wait() == 0, c.words()
        assert all(dump["encrypted"] for dump in c.wait_state())
        plain = "cd" * 16
        assert c.send(image, *same, dump_id=plain).wait() == 0, c.words()
        assert not any(dump["encrypted"] for dump in c.wait_state(dump_id=plain))

        for form in ("elf", "kdump"):
            clear = c.fetch(0, form, plain, "clear")
            assert image.differences(clear) == []
            for relay in range(2):
                for identity in (mine, other):
                    opened = c.fetch(relay, form, None, "opened", "--identity", identity)
                    assert digest(opened) == digest(clear), (form, relay)
        said = c.client(0).run("log", c.dump_id, "--identity", mine).stdout
        assert said == c.client(0).run("log", plain).stdout == LOG


def test_a_relay_that_dies_is_completed_by_its_peer(cluster, image, scratch):
    """Peers copy ciphertext; nothing of it needs a key."""
    with cluster(relays=2) as c:
        identity = scratch / "identity"
        sender = c.send(image, "--recipient", keygen(c, identity), "--rate", 8, "--commits", 1)
        c.wait_held(1, 100)
        c.relays[1].kill()
        assert sender.wait() == 0, c.words()
        c.relays[1].start()
        c.wait_state()
        for relay in range(2):
            assert image.differences(c.fetch(relay, "elf", None, "opened", "--identity", identity)) == []
