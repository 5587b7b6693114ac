# SPDX-License-Identifier: Apache-2.0
"""The memory of a host that never was, as the ELF vmcore that dumpcast-send takes."""

from __future__ import annotations

import pathlib
import random
import struct

from vmtest.vmcore import PHDR, PT_LOAD, PT_NOTE, open_vmcore

PAGE = 4096
MIB = 1 << 20
TEXT_VADDR, DIRECT_MAP = 0xFFFFFFFF81000000, 0xFFFF888000000000
ET_CORE, EM_X86_64, NT_PRSTATUS = 4, 62, 1
PRSTATUS_BYTES = 336  # struct elf_prstatus of x86-64, linux/elfcore.h


def _note(owner: bytes, kind: int, content: bytes) -> bytes:
    owner += b"\0"
    return (struct.pack("<III", len(owner), len(content), kind) +
            owner.ljust(-(-len(owner) // 4) * 4, b"\0") +
            content.ljust(-(-len(content) // 4) * 4, b"\0"))


class Image:
    """A vmcore of two RAM ranges with a hole between, kernel text mapped a second time.

    Of each eight pages in a row, three are zeros, three compress well and two not at all; in
    places whole windows are of one kind. The same seed gives the same bytes.
    """

    #: Physical ranges that are RAM, bytes.
    RANGES = ((1 * MIB, 25 * MIB), (40 * MIB, 56 * MIB))
    TEXT = (16 * MIB, 18 * MIB)
    VMCOREINFO = b"OSRELEASE=6.1.0-cluster\nPAGESIZE=4096\nCRASHTIME=1700000000\n"

    def __init__(self, path: pathlib.Path, seed: int = 68) -> None:
        self.path = path
        rng = random.Random(seed)
        self.pages: dict[int, bytes] = {}
        for start, end in self.RANGES:
            for pfn in range(start // PAGE, end // PAGE):
                self.pages[pfn] = self._page(pfn, rng)
        self._write()

    @staticmethod
    def _page(pfn: int, rng: random.Random) -> bytes:
        window, kind = pfn // 16, "zzztttrr"[pfn % 8]
        if window % 16 == 3:
            kind = "z"
        elif window % 16 in (5, 6):
            kind = "r"
        if kind == "z":
            return bytes(PAGE)
        if kind == "r":
            return rng.randbytes(PAGE)
        return (b"%08x task_struct inode dentry page " % pfn * (PAGE // 32))[:PAGE]

    def _write(self) -> None:
        notes = (_note(b"CORE", NT_PRSTATUS, bytes(PRSTATUS_BYTES)) +
                 _note(b"VMCOREINFO", 0, self.VMCOREINFO))
        body, at, loads = [], PAGE, []
        for start, end in self.RANGES:
            loads.append((DIRECT_MAP + start, start, end - start, at))
            body += [self.pages[pfn] for pfn in range(start // PAGE, end // PAGE)]
            at += end - start
        text, text_end = self.TEXT
        loads.insert(0, (TEXT_VADDR, text, text_end - text, PAGE + text - self.RANGES[0][0]))
        table = 64
        notes_at = table + (1 + len(loads)) * PHDR.size
        headers = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", ET_CORE, EM_X86_64, 1, 0,
                              table, 0, 0, 64, PHDR.size, 1 + len(loads), 0, 0, 0)
        headers += PHDR.pack(PT_NOTE, 0, notes_at, 0, 0, len(notes), len(notes), 0)
        for vaddr, paddr, size, offset in loads:
            headers += PHDR.pack(PT_LOAD, 7, offset, vaddr, paddr, size, size, 0)
        headers += notes
        assert len(headers) <= PAGE
        with open(self.path, "wb") as out:
            out.write(headers.ljust(PAGE, b"\0"))
            out.writelines(body)

    def differences(self, vmcore: pathlib.Path, partial: bool = False) -> list[str]:
        """How the pages of a vmcore differ from these; empty when they do not.

        partial: pages may be missing, those that are there must be right.
        """
        view, found = open_vmcore(vmcore), []
        there = set(view.pfns())
        missing, extra = set(self.pages) - there, there - set(self.pages)
        if missing and not partial:
            found.append(f"{len(missing)} pages are missing, such as {min(missing):#x}")
        if extra:
            found.append(f"{len(extra)} pages too many, such as {min(extra):#x}")
        wrong = [pfn for pfn in sorted(there & set(self.pages)) if view.page(pfn) != self.pages[pfn]]
        if wrong:
            found.append(f"{len(wrong)} pages are wrong, such as {wrong[0]:#x}")
        return found
