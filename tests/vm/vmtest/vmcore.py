# SPDX-License-Identifier: Apache-2.0
"""Reads vmcores page by page: ELF64 core files and the kdump-compressed format.

A reader of our own, so that the store's writers are judged by somebody else's eyes.
Formats: ELF64 as in elf(5); kdump-compressed as in makedumpfile's IMPLEMENTATION file
and diskdump_mod.h, header versions 3 to 6.
"""

from __future__ import annotations

import mmap
import pathlib
import struct
import zlib
from typing import Iterator

from .memory import PAGE
from .util import HarnessError

PT_LOAD, PT_NOTE, PN_XNUM = 1, 4, 0xFFFF
PHDR = struct.Struct("<IIQQQQQQ")  # type, flags, offset, vaddr, paddr, filesz, memsz, align


class Vmcore:
    """What both formats answer: page(pfn) is 4096 bytes, or None when the file does not have it.

    notes: (owner, type, content) of each ELF note.
    """

    incomplete = False
    notes: list[tuple[str, int, bytes]]

    def page(self, pfn: int) -> bytes | None:
        raise NotImplementedError

    def pfns(self) -> Iterator[int]:
        """Numbers of the pages that the file has, ascending."""
        raise NotImplementedError

    @property
    def vmcoreinfo(self) -> str:
        raise NotImplementedError


def open_vmcore(path: pathlib.Path) -> Vmcore:
    with open(path, "rb") as handle:
        magic = handle.read(8)
    if magic[:4] == b"\x7fELF":
        return ElfCore(path)
    if magic == b"KDUMP   ":
        return KdumpCore(path)
    raise HarnessError(f"{path}: wanted an ELF or a KDUMP file, found {magic!r}")


def _map(path: pathlib.Path) -> mmap.mmap:
    with open(path, "rb") as handle:
        return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)


def _notes(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """(owner, type, content) of each note; owner and content are padded to 4 bytes."""
    at = 0
    while at + 12 <= len(data):
        owner_size, size, kind = struct.unpack_from("<III", data, at)
        owner = data[at + 12:at + 12 + owner_size].rstrip(b"\0").decode(errors="replace")
        at += 12 + -(-owner_size // 4) * 4
        yield owner, kind, data[at:at + size]
        at += -(-size // 4) * 4


class ElfCore(Vmcore):
    """An ELF64 little-endian core file.

    loads: (paddr, vaddr, filesz, memsz, offset) of each PT_LOAD, in file order. Memory that
    is in no PT_LOAD's file part is not in the file; what memsz adds reads as zeros in crash
    but was not dumped, and counts as absent here.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._data = _map(path)
        if self._data[:7] != b"\x7fELF\x02\x01\x01":
            raise HarnessError(f"{path}: wanted ELF64 little-endian, found {self._data[:7]!r}")
        kind, machine = struct.unpack_from("<HH", self._data, 16)
        if (kind, machine) != (4, 62):
            raise HarnessError(f"{path}: wanted e_type 4 and e_machine 62, found {kind}, {machine}")
        table, = struct.unpack_from("<Q", self._data, 32)
        entry_size, count = struct.unpack_from("<HH", self._data, 54)
        if count == PN_XNUM:
            raise HarnessError(f"{path}: e_phnum is PN_XNUM, which crash reads literally")
        self.loads: list[tuple[int, int, int, int, int]] = []
        self.notes: list[tuple[str, int, bytes]] = []
        for index in range(count):
            kind, _, offset, vaddr, paddr, filesz, memsz, _ = PHDR.unpack_from(
                self._data, table + index * entry_size)
            if offset + filesz > len(self._data):
                raise HarnessError(f"{path}: segment {index} ends at {offset + filesz}, the file "
                                   f"at {len(self._data)}")
            if kind == PT_LOAD:
                self.loads.append((paddr, vaddr, filesz, memsz, offset))
            elif kind == PT_NOTE:
                self.notes += _notes(self._data[offset:offset + filesz])
        self._at: dict[int, int] = {}
        for paddr, _, filesz, _, offset in self.loads:
            for address in range(-(-paddr // PAGE) * PAGE, (paddr + filesz) // PAGE * PAGE, PAGE):
                # Kernel text is mapped twice; both must show the same bytes.
                where = offset + address - paddr
                first = self._at.setdefault(address // PAGE, where)
                if first != where and self._data[first:first + PAGE] != \
                        self._data[where:where + PAGE]:
                    raise HarnessError(f"{path}: page {address // PAGE:#x} is in two segments with "
                                       "different bytes")

    def page(self, pfn: int) -> bytes | None:
        at = self._at.get(pfn)
        return None if at is None else self._data[at:at + PAGE]

    def pfns(self) -> Iterator[int]:
        return iter(sorted(self._at))

    @property
    def vmcoreinfo(self) -> str:
        for owner, _, content in self.notes:
            if owner == "VMCOREINFO":
                return content.rstrip(b"\0").decode(errors="replace")
        raise HarnessError(f"{self.path}: no VMCOREINFO note")


class KdumpCore(Vmcore):
    """A kdump-compressed file (not flattened). Pages raw or zlib.

    ram: pages that bitmap 1 calls memory; pfns(): those of bitmap 2, which were dumped.
    """

    INCOMPLETE = 0x8  # DUMP_DH_COMPRESSED_INCOMPLETE, header version 3
    ZLIB = 0x1

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self._data = _map(path)
        self.version, = struct.unpack_from("<i", self._data, 8)
        (self.status, block, sub_blocks, bitmap_blocks, max_mapnr) = struct.unpack_from(
            "<IiiII", self._data, 424)
        if block != PAGE:
            raise HarnessError(f"{path}: wanted block size {PAGE}, found {block}")
        self.incomplete = bool(self.status & self.INCOMPLETE)
        sub = block
        self.phys_base, self.dump_level = struct.unpack_from("<qi", self._data, sub)
        self._info_at, self._info_size = struct.unpack_from("<QQ", self._data, sub + 32)
        note_at, note_size = struct.unpack_from("<QQ", self._data, sub + 48)
        self.notes = list(_notes(self._data[note_at:note_at + note_size])) \
            if self.version >= 4 else []
        self.max_mapnr = struct.unpack_from("<Q", self._data, sub + 96)[0] \
            if self.version >= 6 else max_mapnr
        at = (1 + sub_blocks) * block
        half = bitmap_blocks * block // 2
        if half * 8 < self.max_mapnr:
            raise HarnessError(f"{path}: bitmaps of {half} bytes for {self.max_mapnr} pages")
        self.ram = self._bits(self._data[at:at + half])
        dumped = self._bits(self._data[at + half:at + 2 * half])
        table = at + bitmap_blocks * block
        # One descriptor per set bit, in order.
        self._at = {pfn: table + 24 * index for index, pfn in enumerate(dumped)}
        outside = set(dumped) - set(self.ram)
        if outside:
            raise HarnessError(f"{path}: {len(outside)} dumped pages are not in bitmap 1, such as "
                               f"{min(outside):#x}")

    def _bits(self, bitmap: bytes) -> list[int]:
        found = []
        for index, byte in enumerate(bitmap):
            if byte:
                found += [index * 8 + bit for bit in range(8) if byte >> bit & 1]
        if found and found[-1] >= self.max_mapnr:
            raise HarnessError(f"{self.path}: bit {found[-1]:#x} is set, max_mapnr is "
                               f"{self.max_mapnr:#x}")
        return found

    def page(self, pfn: int) -> bytes | None:
        at = self._at.get(pfn)
        if at is None:
            return None
        offset, size, flags, _ = struct.unpack_from("<QIIQ", self._data, at)
        raw = self._data[offset:offset + size]
        if flags & self.ZLIB:
            raw = zlib.decompress(raw)
        elif flags:
            raise HarnessError(f"{self.path}: page {pfn:#x}: compression flags {flags:#x} are not "
                               "read here")
        if len(raw) != PAGE:
            raise HarnessError(f"{self.path}: page {pfn:#x}: {len(raw)} bytes")
        return raw

    def pfns(self) -> Iterator[int]:
        return iter(self._at)

    @property
    def vmcoreinfo(self) -> str:
        return self._data[self._info_at:self._info_at + self._info_size].rstrip(b"\0").decode(
            errors="replace")
