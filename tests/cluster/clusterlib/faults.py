# SPDX-License-Identifier: Apache-2.0
"""Faults at random moments, and the oracle: what a relay has promised it must have afterwards."""

from __future__ import annotations

import collections
import os
import pathlib
import random
import re
import secrets
import time
from typing import Callable, Collection, Sequence

import pytest
from vmtest.net import Loss
from vmtest.util import wait_until

from .cluster import COMPLETE, PATIENCE_S, Cluster, Sender
from .image import MIB, Image

# A host that answers for longer than any relay is away.
LINGER_S = 170


class SmallImage(Image):
    """4 MiB, so that many dumps of it take little time."""

    RANGES = ((1 * MIB, 4 * MIB), (6 * MIB, 7 * MIB))
    TEXT = (2 * MIB, 3 * MIB)


def rounds(config: pytest.Config, everything: int) -> int:
    """How often: all with --all, a few by default."""
    return everything if config.getoption("--all") else max(everything // 50, 1)


def seeded() -> random.Random:
    """Moments and victims; the seed is printed, and with it what a failure was made of."""
    seed = int(os.environ.get("DUMPCAST_CLUSTER_SEED") or secrets.randbelow(1 << 31))
    print(f"DUMPCAST_CLUSTER_SEED={seed} plays these moments again")
    return random.Random(seed)


def durable_blocks(dump: dict, relay_name: str) -> int:
    """The blocks that a relay calls durable: what it says of itself among the holders."""
    return next(int(h.get("blocks", 0)) for h in dump["holders"] if h["relay_name"] == relay_name)


def memory_peak_bytes(c: Cluster, relay: int) -> int:
    """The most that a relay's process has had resident since it started, or since forget_memory_peak()."""
    status = _proc(c, relay, "status").read_text(encoding="ascii")
    return int(re.findall(r"^VmHWM:\s*(\d+) kB$", status, re.M)[0]) << 10


def forget_memory_peak(c: Cluster, relay: int) -> None:
    _proc(c, relay, "clear_refs").write_text("5", encoding="ascii")  # proc(5): resets VmHWM


def cpu_seconds(c: Cluster, relay: int) -> float:
    """What a relay's process has computed, in user and kernel mode."""
    fields = _proc(c, relay, "stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime, stime


def _proc(c: Cluster, relay: int, name: str) -> pathlib.Path:
    process = c.relays[relay].process
    assert process is not None
    return pathlib.Path(f"/proc/{process.pid}/{name}")


class Oracle:
    """What each relay has promised of each dump.

    Of blocks: it called them durable. Of dumps: it said complete, in its log, to a client, or to the
    host by COMMIT. All of it is a lower bound of what must be there after any fault.
    """

    def __init__(self, c: Cluster) -> None:
        self.c = c
        self.images: dict[str, Image] = {}
        self.durable: dict[int, dict[str, int]] = collections.defaultdict(dict)
        self.complete: dict[int, set[str]] = collections.defaultdict(set)

    def note(self, relay: int) -> None:
        """Asks a relay that runs, and reads its log."""
        for dump in self.c.client(relay).dumps():
            known = self.durable[relay]
            durable = durable_blocks(dump, self.c.relays[relay].name)
            known[dump["dump_id"]] = max(known.get(dump["dump_id"], 0), durable)
            if dump["state"] == COMPLETE:
                self.complete[relay].add(dump["dump_id"])
        self.note_log(relay)

    def stage(self, relay: int, dump_id: str) -> str:
        """How far a relay is with a dump, by what it has promised."""
        return "complete" if dump_id in self.complete[relay] else \
            "partly durable" if self.durable[relay].get(dump_id) else \
            "nothing durable" if dump_id in self.durable[relay] else "not begun"

    def note_log(self, relay: int) -> None:
        for dump_id in re.findall(r"complete and durable: .* dump=([0-9a-f]{32})", self.c.relays[relay].log()):
            self.complete[relay].add(dump_id)

    def note_commits(self, sender: Sender, dump_id: str) -> list[int]:
        """The relays whose COMMIT the host has heard."""
        names = re.findall(r"^relay [0-9a-f]{16} (\S+): committed$", sender.words(), re.M)
        committed = [relay.index for relay in self.c.relays if relay.name in names]
        for relay in committed:
            self.complete[relay].add(dump_id)
        return committed

    def check(self, relay: int, look_at: Collection[str]) -> None:
        """All that a relay has promised is there; the bytes of the dumps in look_at are compared.

        The relay should be alone, or peers may have brought what it lost.
        """
        name = self.c.relays[relay].name
        shown = {dump["dump_id"]: dump for dump in self.c.client(relay).dumps()}
        for dump_id in self.durable[relay].keys() | self.complete[relay]:
            dump, durable = shown.get(dump_id), self.durable[relay].get(dump_id, 0)
            assert dump is not None, f"{name} has forgotten dump {dump_id}\n{self.c.words()}"
            has, expected = durable_blocks(dump, name), int(dump["blocks_expected"])
            assert has >= durable, f"{name}: {has} of {durable} durable blocks of {dump_id}\n{self.c.words()}"
            if dump_id in self.complete[relay]:
                assert has == expected > 0, f"{name} had promised {dump_id}, has {has} of {expected}\n{self.c.words()}"
        for dump_id in look_at:
            dump = shown.get(dump_id)
            # Without META there is no view.
            if dump is None or not dump.get("hostname"):
                continue
            whole = dump["state"] == COMPLETE or dump_id in self.complete[relay]
            path = self.c.fetch(relay, "elf", dump_id)
            wrong = self.images[dump_id].differences(path, partial=not whole)
            path.unlink()
            assert wrong == [], f"{name}, {dump['state']}, {dump_id}: {wrong}\n{self.c.words()}"


def await_moment(c: Cluster, rng: random.Random, sender: Sender, dump_id: str) -> None:
    """Until some relay holds a random number of the dump's blocks, and a little longer."""
    watched = rng.choice([relay.index for relay in c.relays])
    blocks = rng.choice((0, rng.randrange(10), rng.randrange(80)))  # SmallImage has 69

    def held() -> bool:
        dump = c.show(watched, dump_id)
        return not sender.running() or (dump is not None and (
            dump["state"] == COMPLETE or int(dump["blocks_held"]) >= blocks))
    wait_until(held, PATIENCE_S, lambda: f"relay {watched} to hold {blocks} blocks\n{c.words()}", 0.01)
    time.sleep(rng.random() * 0.2)


def await_equal(c: Cluster, dump_id: str | None = None) -> None:
    """Until the dump is complete on every relay, and the same: a second encoding of a block may come later."""
    c.wait_state(dump_id=dump_id)

    def etags() -> set[str]:
        shown = [c.show(relay.index, dump_id) for relay in c.relays if relay.running()]
        return {dump["etag"] if dump else "" for dump in shown}
    wait_until(lambda: len(etags()) == 1, PATIENCE_S, lambda: f"equal sets of blocks: {etags()}\n{c.words()}", 0.2)


def survive(c: Cluster, images: Sequence[Image], rng: random.Random, count: int,
            die: Callable[[int], None], revive: Callable[[int], None]) -> collections.Counter[str]:
    """count dumps, during and after each of which relays die; how often, by what of the dump was durable.

    Each comes back alone first and must have what it had promised; then with its peers, and must
    have everything.
    """
    oracle, deaths = Oracle(c), collections.Counter[str]()
    everybody = [relay.index for relay in c.relays]

    def strike(victims: Sequence[int], dump_id: str) -> None:
        for relay in victims:
            die(relay)
            oracle.note_log(relay)
            deaths[oracle.stage(relay, dump_id)] += 1
        older = rng.choice(list(oracle.images))
        for relay in rng.sample(victims, len(victims)):
            c.net.set_alone(relay, True)
            revive(relay)
            oracle.check(relay, {dump_id, older})
            c.net.set_alone(relay, False)

    for number in range(count):
        dump_id, image = secrets.token_hex(16), rng.choice(images)
        oracle.images[dump_id] = image
        c.net.set_loss(Loss(percent=rng.choice((0, 0, 2, 10))))
        sender = c.send(image, "--rate", rng.choice((0.2, 0.5, 2)), "--linger", LINGER_S,
                        "--commits", rng.randint(1, len(everybody)), dump_id=dump_id)
        for _ in range(rng.randint(1, 2)):
            await_moment(c, rng, sender, dump_id)
            victims = rng.sample(everybody, rng.randint(1, len(everybody)))
            for relay in victims:
                oracle.note(relay)
            time.sleep(rng.random() * 0.1)  # promises go on; those noted are the least
            strike(victims, dump_id)
        assert sender.wait(2 * LINGER_S) == 0, f"round {number}\n{c.words()}"
        committed = oracle.note_commits(sender, dump_id)
        assert committed, sender.words()
        # The host has gone, trusting whom it heard.
        victim = rng.choice(committed)
        strike([victim], dump_id)
        await_equal(c, dump_id)
        c.check_views(image, dump_id=dump_id)
    for dump_id, image in oracle.images.items():
        await_equal(c, dump_id)
        c.check_views(image, dump_id=dump_id)
    return deaths
