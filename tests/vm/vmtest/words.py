# SPDX-License-Identifier: Apache-2.0
"""What the module says on the guest's console while it dumps; kmod/linux/panic.c writes it."""

from __future__ import annotations

import dataclasses
import re

from .util import HarnessError

STACK_BYTES = 32 << 10  # DCAST_STACK_BYTES, the hook's own


def began(console: str) -> bool:
    return "dumpcast: sending dump" in console


def dump_seconds(console: str) -> int:
    """Guest's seconds from the first packet to its last line of progress; 0 before that."""
    found = re.findall(r"dumpcast: (\d+) s: ", console)
    return int(found[-1]) if found else 0


def percent(console: str) -> int:
    """How much of the pass had left by the last line of progress."""
    found = re.findall(r"dumpcast: \d+ s: (\d+) %,", console)
    return int(found[-1]) if found else 0


@dataclasses.dataclass(frozen=True)
class Report:
    """The last lines of a dump. packets and ours: by path name, what left, and what came for us.

    seconds: of the hook, by the guest's clock. stack: bytes of the hook's own stack that were used
    at most. helpers: processors that encoded; helped: blocks that they did. by_codec: blocks as they
    are, by LZ4, by zstd. silent: a processor was stopped inside an allocator, which may happen to any
    that runs, or in the scheduler where the card has an XDP program, so that nothing was received.
    stacks_searched: those that could not be unwound, where old words give false alarms of that.
    """

    committed: bool
    relays_done: int
    relays: int
    seconds: float
    blocks: int
    naks: int
    sent_again: int
    packets: dict[str, int]
    ours: dict[str, int]
    stack: int
    helpers: int
    by_codec: tuple[int, int, int]
    helped: int
    helpers_lost: int
    silent: bool
    stacks_searched: int


def report(console: str) -> Report:
    """HarnessError when the dump has not ended with its report."""
    done = re.search(r"dumpcast: dump sent: (\d+) blocks, .* in ([\d.]+) s; (\d+) of (\d+) relays "
                     r"have it all: (not )?committed", console)
    replies = re.search(r"dumpcast: replies: (\d+) NAKs?, (\d+) symbols sent again", console)
    paths = re.findall(r"dumpcast: path (\S+): (\d+) packets, .*, (\d+) for us", console)
    stack = re.search(rf"dumpcast: stack: (\d+) of {STACK_BYTES} bytes used", console)
    encoded = re.search(r"dumpcast: encoded: (\d+) blocks as they are, (\d+) by LZ4, (\d+) by zstd; "
                        r"(\d+) of all by helpers, (\d+) helpers lost", console)
    stacks = re.search(r"dumpcast: stacks: \d+ unwound, (\d+) searched", console)
    helpers = re.search(r"dumpcast: sending dump .* (\d+) processors help", console)
    if not (done and replies and paths and stack and encoded and helpers and stacks):
        raise HarnessError(f"the module's report is not on the console:\n{console[-3000:]}")
    return Report(done[5] is None, int(done[3]), int(done[4]), float(done[2]), int(done[1]),
                  int(replies[1]), int(replies[2]), {name: int(sent) for name, sent, _ in paths},
                  {name: int(ours) for name, _, ours in paths}, int(stack[1]), int(helpers[1]),
                  (int(encoded[1]), int(encoded[2]), int(encoded[3])), int(encoded[4]),
                  int(encoded[5]), "so no replies are read" in console, int(stacks[1]))
