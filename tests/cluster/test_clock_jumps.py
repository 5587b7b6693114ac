# SPDX-License-Identifier: Apache-2.0
"""Wall clocks jump, of relays and of the host, forth and back. The machine's own clock is not touched:
clock/jumping_clock.c gives each process a wall clock of its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import secrets
import struct
import time
from typing import Iterator
from unittest import mock

import pytest
from clusterlib.faults import await_equal
from vmtest.net import Loss
from vmtest.util import run, wait_until

SOURCE = pathlib.Path(__file__).resolve().parent / "clock" / "jumping_clock.c"
HOUR, DAY, YEAR = 3600, 86400, 365 * 86400
PATIENCE_S = 120


class Clock:
    """The wall clock of whoever is started within running()."""

    def __init__(self, library: pathlib.Path, file: pathlib.Path) -> None:
        self._library, self._file = library, file
        file.write_bytes(bytes(8))

    def set(self, offset_s: int) -> None:
        """So far from the machine's own, at once, for all that run by it."""
        with open(self._file, "r+b") as out:  # in place: it is mapped
            out.write(struct.pack("<q", offset_s * 10**9))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with mock.patch.dict(os.environ, {"LD_PRELOAD": str(self._library), "CLOCK_OFFSET_FILE": str(self._file)}):
            yield


@pytest.fixture
def clocks(scratch):
    """Makes clocks."""
    library = scratch / "jumping_clock.so"
    run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library, SOURCE])
    return (Clock(library, scratch / f"clock{number}") for number in itertools.count())


def start(c, relay: int, clock: Clock) -> None:
    """Starts a relay that lives by the clock."""
    with clock.running():
        c.relays[relay].start()


def year_of_reception(c, relay: int, dump_id: str | None = None) -> int:
    """As the relay's clock had it."""
    dump = c.show(relay, dump_id)
    assert dump is not None
    return int(dump["receive_time"][:4])


def test_the_clocks_are_believed(cluster, image, clocks):
    """The judge itself: a relay writes down what its clock says, and no other process does."""
    clock = next(clocks)
    clock.set(-20 * YEAR)
    with cluster(relays=1, absent=[0]) as c:
        start(c, 0, clock)
        assert c.send(image).wait() == 0, c.words()
        c.wait_state()
        this_year = time.gmtime().tm_year
        assert this_year - 21 <= year_of_reception(c, 0) <= this_year - 19
        clock.set(30 * YEAR)
        other = secrets.token_hex(16)
        assert c.send(image, dump_id=other).wait() == 0, c.words()
        c.wait_state(dump_id=other)
        assert this_year + 29 <= year_of_reception(c, 0, other) <= this_year + 31


def test_clocks_jump_during_a_dump(cluster, image, clocks):
    """Both relays' and the host's, to and fro, while packets are lost; then the relays restart elsewhen."""
    ours = [next(clocks) for _ in range(3)]
    jumps = ((YEAR, -DAY, 0), (-DAY, YEAR, -YEAR), (0, -20 * YEAR, DAY), (HOUR, 0, -HOUR), (-HOUR, DAY, 0))
    with cluster(relays=2, absent=[0, 1]) as c:
        for relay in range(2):
            start(c, relay, ours[relay])
        c.net.set_loss(Loss(percent=3))
        with ours[2].running():
            sender = c.send(image, "--rate", 3, "--linger", 170)
        for part, offsets in enumerate(jumps):
            c.wait_held(0, 100 * (part + 1))
            for clock, offset in zip(ours, offsets):
                clock.set(offset)
        assert sender.wait() == 0, c.words()
        await_equal(c)
        for relay in c.relays:
            # No jump is taken for the host's silence.
            assert "nothing from the host for" not in relay.log(), relay.log()[-2000:]
            relay.kill()
        for relay, offset in enumerate((-YEAR, YEAR)):
            ours[relay].set(offset)
            start(c, relay, ours[relay])
        await_equal(c)
        c.check_views(image)


def test_the_host_boots_with_its_clock_lost(cluster, image, clocks):
    """The battery is empty: the second crash is years before the first, and is taken all the same."""
    clock = next(clocks)
    with cluster(relays=2) as c:
        dump_ids = [secrets.token_hex(16) for _ in range(2)]
        for dump_id, offset in zip(dump_ids, (0, -20 * YEAR)):
            clock.set(offset)
            with clock.running():
                sender = c.send(image, dump_id=dump_id)
            assert sender.wait() == 0, c.words()
            c.wait_state(dump_id=dump_id)
        for dump_id in dump_ids:
            c.check_views(image, dump_id=dump_id)


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forth", "back"])
def test_a_relay_that_has_jumped_is_completed_by_its_peer(cluster, image, clocks, jump):
    """Relay 1 has no route to the host and lives by replication alone; its clock jumps before the dump."""
    clock = next(clocks)
    with cluster(relays=2, absent=[1]) as c:
        c.net.set_loss(Loss(percent=100), relays=[1])
        start(c, 1, clock)
        first = secrets.token_hex(16)
        assert c.send(image, "--commits", 1, dump_id=first).wait() == 0, c.words()
        c.wait_state(dump_id=first)
        clock.set(jump)
        assert c.send(image, "--commits", 1).wait() == 0, c.words()
        wait_until(lambda: (dump := c.show(1)) is not None and dump["state"] == "DUMP_STATE_COMPLETE", PATIENCE_S,
                   lambda: f"relay 1 to be completed after its clock has jumped by {jump} s\n{c.words()}", 0.2)
        await_equal(c)
        c.check_views(image)
