# SPDX-License-Identifier: Apache-2.0
"""Who was right: compares a vmcore that came over the network with QEMU's own memory image.

Two questions, page by page. Is every dumped page equal to the guest's memory? Is every
page that was not dumped one that the dump level excludes, by a witness that never saw
our sender? The witness is kernelmem's classification of struct page, itself laid beside
makedumpfile's (tests/vm/test_harness.py does that).
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import re
import struct
from typing import Iterator, Sequence

from .kernelmem import CACHE, CACHE_PRIVATE, LEVEL_OF_CLASS, OWN_LIST, ZERO, KernelMemory
from .memory import PAGE
from .vmcore import Vmcore

ZEROS = bytes(PAGE)
# Frames that cards may have put into memory meanwhile: to a card's own address (net.py gives
# them) with IPv4, ARP or IPv6 in them, IPv6 multicast (neighbour discovery), or an ARP question to all.
FRAME = re.compile(rb"(\x52\x54\x00\x68.\x02.{6}(\x08[\x00\x06]|\x86\xdd)|\x33\x33.{10}\x86\xdd|"
                   rb"\xff{6}.{6}\x08\x06)",
                   re.DOTALL)
# The sender's own frames, by IPv4: vmxnet3's driver copies their beginnings for the card.
SENT = re.compile(rb"\x52\x54\x00\x68.\x02\x08\x00\x45.{35}DCST", re.DOTALL)
FRAGMENT = 8  # pages that drivers take at once for frames (SKB_FRAG_PAGE_ORDER)
NT_PRSTATUS = 1
PRSTATUS_RSP = 112 + 19 * 8  # struct elf_prstatus: pr_reg, and rsp in it (user_regs_struct)
CACHE_LINE = 64
QUEUE_ENTRIES = 1024         # QEMU's largest for a network card
LARGEST_FRAME = 1 << 16
STACK = 4 * PAGE             # THREAD_SIZE


@dataclasses.dataclass(frozen=True)
class Finding:
    """One page of interest: its number, its class, the kernel section it is in, and its names.

    changed: how many bytes differ; 0 for a page that was not dumped.
    """

    pfn: int
    kind: str
    section: str | None
    what: str
    changed: int = 0

    def __str__(self) -> str:
        what = self.what if len(self.what) <= 400 else f"{self.what[:150]} ... {self.what[-240:]}"
        bytes_differ = f", {self.changed} bytes differ" if self.changed else ""
        return f"pfn {self.pfn:#x} ({self.kind}{bytes_differ}): {what}"


@dataclasses.dataclass
class Report:
    """What compare() found.

    dumped, missing: pages by class. differing: dumped, but not as the guest's memory is.
    unexcused: not dumped although the dump level keeps them. late: the same, but they were free
    before, as their struct pages in the dump say or who points at them now: drivers took them for
    frames that came in during the dump, or the allocator put them on a processor's own list, as it
    takes more than one block at a time, where they may still be. strays: dumped, but not
    RAM by the kernel's own map. given_back: dumped from
    a processor's own list of free pages, as their struct pages say in the dump, and free for all
    since. not_excluded: others that were dumped although the level would have allowed to skip them.
    secrets: dumped, though they hold the sender's keys.
    """

    equal: int = 0
    dumped: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    missing: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    given_back: int = 0
    not_excluded: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    differing: list[Finding] = dataclasses.field(default_factory=list)
    unexcused: list[Finding] = dataclasses.field(default_factory=list)
    late: list[Finding] = dataclasses.field(default_factory=list)
    strays: list[int] = dataclasses.field(default_factory=list)
    secrets: list[int] = dataclasses.field(default_factory=list)

    def unexplained(self, patterns: Sequence[str], few: int, small: int) -> list[Finding]:
        """Differing pages whose description no pattern finds; text and rodata never pass.

        At most `few` others pass, outside of the kernel's image, with at most `small` bytes
        that differ: counters, on pages of the allocators.
        """
        left = [finding for finding in self.differing
                if finding.section in ("text", "rodata")
                or not any(re.search(pattern, finding.what) for pattern in patterns)]
        counters = [finding for finding in left
                    if finding.section is None and finding.changed <= small]
        return left if len(counters) > few else [item for item in left if item not in counters]

    def __str__(self) -> str:
        lines = [f"equal {self.equal}, differing {len(self.differing)}, missing "
                 f"{sum(self.missing.values())} of them unexcused {len(self.unexcused)}, "
                 f"late {len(self.late)} ({sum(OWN_LIST in finding.what for finding in self.late)} "
                 f"{OWN_LIST}), strays {len(self.strays)}",
                 f"dumped by class: {dict(self.dumped)}",
                 f"missing by class: {dict(self.missing)}",
                 f"dumped though excludable: {dict(self.not_excluded)}; given back since: {self.given_back}"]
        for name in ("differing", "unexcused"):
            lines += [f"{name}: {finding}" for finding in getattr(self, name)[:40]]
        return "\n".join(lines)


def excusable(kind: str, level: int) -> bool:
    """Whether a dump level excludes a class of page (zero pages apart)."""
    if kind in ("hwpoison", "offline"):  # not to be read
        return True
    if kind == "cache":
        return bool(level & (CACHE | CACHE_PRIVATE))
    return bool(LEVEL_OF_CLASS.get(kind, 0) & level)


def compare(vmcore: Vmcore, memory: KernelMemory, level: int,
            presence: Vmcore | None = None) -> Report:
    """Compares every page of RAM.

    presence: the same dump in the kdump-compressed format, when vmcore is an ELF: its
    bitmap says which pages were dumped, and which the ELF only fills with zeros.
    """
    report = Report()
    differing: dict[int, bytes] = {}
    present = None if presence is None else set(presence.pfns())
    ram = memory.classes
    secret = memory.pages_of("held secrets")
    for pfn, kind in ram.items():
        want, got = memory.image.page(pfn), vmcore.page(pfn)
        if present is not None and pfn not in present and got == ZEROS:
            got = None
        if got is None:
            zero = bool(level & ZERO) and want == ZEROS
            report.missing["zero" if zero else kind] += 1
            if not zero and not excusable(kind, level) and pfn not in secret:
                report.unexcused.append(_finding(memory, pfn, kind))
            continue
        report.dumped[kind] += 1
        if pfn in secret:
            report.secrets.append(pfn)
        if excusable(kind, level):
            report.not_excluded[kind] += 1
        if got == want:
            report.equal += 1
        else:
            differing[pfn] = got
    taken = _pointed_at(memory, differing)
    were_free = memory.were_free({finding.pfn for finding in report.unexcused}, vmcore.page)
    # A whole block that nothing points at any more, with nothing in it yet: taken for frames, and wiped (vmxnet3).
    empty = collections.Counter(finding.pfn // FRAGMENT for finding in report.unexcused
                                if _wiped(memory.image.page(finding.pfn)))
    taken |= {block for block, pages in empty.items() if pages == FRAGMENT}
    report.late = [finding for finding in report.unexcused
                   if finding.pfn // FRAGMENT in taken or finding.pfn in were_free or OWN_LIST in finding.what]
    report.unexcused = [finding for finding in report.unexcused if finding not in report.late]
    report.differing = _explain(memory, _stacks(vmcore, memory), differing)
    surplus = [pfn for pfn, kind in ram.items()
               if kind == "free" and excusable(kind, level) and vmcore.page(pfn) is not None and
               (present is None or pfn in present)]
    report.given_back = len(memory.were_on_processors_lists(surplus, vmcore.page))
    report.not_excluded["free"] -= report.given_back
    report.not_excluded = +report.not_excluded
    report.strays = [pfn for pfn in vmcore.pfns() if pfn not in ram]
    return report


def _finding(memory: KernelMemory, pfn: int, kind: str) -> Finding:
    return Finding(pfn, kind, memory.kernel_section(pfn), memory.describe(pfn))


def _pointed_at(memory: KernelMemory, differing: dict[int, bytes]) -> set[int]:
    """Numbers of the blocks of FRAGMENT pages that words written during the dump point into."""
    blocks = set()
    for pfn, got in differing.items():
        for word in _written(got, memory.image.page(pfn)):
            blocks.update(page // FRAGMENT for page in memory.pages_pointed_at(word))
    return blocks


def _written(got: bytes, want: bytes) -> Iterator[int]:
    """The 64-bit words of a page that were written after it was dumped, as they are in want."""
    for before, after in zip(struct.unpack("<512Q", got), struct.unpack("<512Q", want)):
        if before != after:
            yield after


def _explain(memory: KernelMemory, stacks: set[int],
             differing: dict[int, bytes]) -> list[Finding]:
    """Says of each differing page what is known of it, and of what changed in it.

    Card drivers' structures have no names. What they hold gives them away: addresses of the
    sender's packets, or of frames that relays sent meanwhile. Free pages that they take for
    frames to come are wiped (init_on_alloc).
    """
    changed = {pfn: _changed(got, memory.image.page(pfn)) for pfn, got in differing.items()}
    frames = {pfn for pfn, got in differing.items()
              if FRAME.search(got) or FRAME.search(memory.image.page(pfn))}
    packets = frames | memory.pages_of("held ")

    def points(page: bytes) -> bool:
        return any(packets.intersection(memory.pages_pointed_at(word))
                   for word in set(struct.unpack("<512Q", page)))

    pointing = {pfn for pfn, got in differing.items()
                if points(got) or points(memory.image.page(pfn))}
    # A ring's indexes lie behind its addresses, which may be the same again after a whole turn.
    before = {pfn - 1 for pfn in differing if pfn - 1 in memory.classes}
    pointing |= {pfn for pfn in before - set(differing) if points(memory.image.page(pfn))}
    # A frame may lie in a page that was not dumped, or was after it had come. A card may write over
    # the address that it put a frame at (e1000e), or leave it.
    holds_frame = functools.cache(
        lambda pfn: pfn in memory.classes and bool(FRAME.search(memory.image.page(pfn))))
    pointing |= {pfn for pfn, got in differing.items() if pfn not in pointing and any(
        holds_frame(page) for words in (_written(got, memory.image.page(pfn)), _written(memory.image.page(pfn), got))
        for word in words
        for page in memory.pages_pointed_at(word))}
    findings = []
    for pfn, got in differing.items():
        what = memory.describe(pfn, changed[pfn])
        if pfn in stacks:
            what += "; stack that a processor was on"
        if pfn in frames:
            what += "; holds a frame that came in"
        elif SENT.search(got) and SENT.search(memory.image.page(pfn)):
            what += "; copies of sent packets"
        elif _wiped(memory.image.page(pfn)):
            what += "; wiped"
        if pfn in pointing:
            what += "; points at packets"
        elif pfn - 1 in pointing:
            what += "; follows a page that points at packets"
        if _generation_turned(got, memory.image.page(pfn), changed[pfn]):
            what += "; ring whose generation turned"
        if used_ring(got, memory.image.page(pfn), changed[pfn]):
            what += "; used ring of a virtqueue"
        what += "; " + _sample(got, memory.image.page(pfn), changed[pfn])
        findings.append(Finding(pfn, memory.classes[pfn], memory.kernel_section(pfn), what,
                                len(changed[pfn])))
    return findings


def _wiped(page: bytes) -> bool:
    """Zeroes, but for the reference counts of packets' heads that were made of it since
    (skb_shared_info.dataref)."""
    return set(struct.unpack("<512Q", page)) <= {0, 1}


def _changed(got: bytes, want: bytes) -> list[int]:
    return [at for at, (before, after) in enumerate(zip(got, want)) if before != after]


def _generation_turned(got: bytes, want: bytes, changed: Sequence[int]) -> bool:
    """Whether a page is like a ring of vmxnet3's completions (drivers/net/vmxnet3/vmxnet3_defs.h).

    Entries are of 16 bytes; bit 31 of the last word of each turns whenever it is written.
    """
    return all((got[at | 15] ^ want[at | 15]) & 0x80 for at in changed)


def used_ring(got: bytes, want: bytes, changed: Sequence[int]) -> bool:
    """Whether all that changed in a page is the used ring of a virtqueue (virtio 1.2, 2.7.8).

    le16 flags, le16 index, then le32 buffer and le32 bytes written of each entry. Linux lets it begin
    with a cache line.
    """
    ring = changed[0] & ~(CACHE_LINE - 1)
    if changed[0] - ring not in (2, 3):
        return False
    entries = {ring + 4 + (at - ring - 4 & ~7) for at in changed if at >= ring + 4}
    return bool(entries) and all(
        buffer < QUEUE_ENTRIES and written <= LARGEST_FRAME
        for at in entries if at + 8 <= PAGE for page in (got, want)
        for buffer, written in [struct.unpack_from("<II", page, at)])


def _sample(got: bytes, want: bytes, changed: Sequence[int]) -> str:
    """The first few words that differ, for who has to find out what a page is."""
    first = sorted({at & ~7 for at in changed})[:4]
    return ", ".join(f"{at:#x}: {got[at:at + 8].hex()} then {want[at:at + 8].hex()}"
                     for at in first)


def _stacks(vmcore: Vmcore, memory: KernelMemory) -> set[int]:
    """Pages of the stacks that the NT_PRSTATUS notes' RSPs are on (x86-64: 16 KiB each)."""
    pages = set()
    for owner, kind, content in vmcore.notes:
        if owner != "CORE" or kind != NT_PRSTATUS:
            continue
        rsp = struct.unpack_from("<Q", content, PRSTATUS_RSP)[0]
        for address in range(rsp & ~(STACK - 1), (rsp | (STACK - 1)) + 1, PAGE):
            physical = memory.translate(address)
            if physical is not None:
                pages.add(physical // PAGE)
    return pages


def expected_counts(memory: KernelMemory, level: int) -> dict[str, int]:
    """Pages by class as makedumpfile's report counts them.

    It asks for zero last (of what is left), and counts a page once.
    """
    counts: collections.Counter = collections.Counter()
    for pfn, kind in memory.classes.items():
        if excusable(kind, level):
            counts[kind] += 1
        elif level & ZERO and memory.image.page(pfn) == ZEROS:
            counts["zero"] += 1
        else:
            counts["remaining"] += 1
    return dict(counts)
