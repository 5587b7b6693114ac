# SPDX-License-Identifier: Apache-2.0
"""What the pages of a stopped guest are, read from its memory without debug info.

Notes taken before the crash (Notes.take: /proc/kallsyms, iomem, vmallocinfo, modules,
what the armed module holds, and where vmcoreinfo lies) plus the memory image answer: which page of memory a kernel
address is, what struct page says of each page, and what to call it. The rules of page
classes are makedumpfile's (__exclude_unnecessary_pages of its 1.7.x), so that its
report can be laid beside ours.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import struct
from typing import Callable, Iterable, Iterator, Sequence

from .memory import PAGE, MemoryImage
from .util import HarnessError

KERNEL_MAP = 0xFFFFFFFF80000000  # __START_KERNEL_map, arch/x86/include/asm/page_64_types.h

KERNEL_HALF = 1 << 63

# dump level bits, as makedumpfile's -d
ZERO, CACHE, CACHE_PRIVATE, USER, FREE = 1, 2, 4, 8, 16
LEVEL_OF_CLASS = {"zero": ZERO, "cache": CACHE, "cache-private": CACHE_PRIVATE, "user": USER,
                  "free": FREE, "offline": FREE}


TEXTS = ("kallsyms", "iomem", "vmallocinfo", "modules", "held", "offline")


TOP_ORDER = 10  # of the page allocator's blocks: 4 MiB (include/linux/mmzone.h)
OWN_LIST = "on a processor's own list of free pages"  # in describe()


@dataclasses.dataclass(frozen=True)
class Notes:
    """What only the living guest tells."""

    vmcoreinfo_address: int
    vmcoreinfo_size: int
    kallsyms: str
    iomem: str
    vmallocinfo: str
    modules: str
    held: str  # /sys/kernel/config/dumpcast/held; empty without the module
    offline: str  # the size of a memory block, then the numbers of those offline; all hexadecimal

    @classmethod
    def take(cls, vm) -> "Notes":
        """Reads them from a running Vm, last thing before the crash: addresses move."""
        # Else vmallocinfo has hashes in the place of addresses (Documentation/admin-guide/sysctl).
        vm.sh("echo 1 >/proc/sys/kernel/kptr_restrict", check=True)
        where = vm.read_file("/sys/kernel/vmcoreinfo").decode().split()
        texts = [_read_kallsyms(vm), *(vm.read_file(f"/proc/{name}").decode(errors="replace")
                                       for name in ("iomem", "vmallocinfo", "modules"))]
        texts.append(vm.sh("cat /sys/kernel/config/dumpcast/held 2>/dev/null")[1])
        texts.append(vm.sh("cd /sys/devices/system/memory && cat block_size_bytes && for m in memory*; "
                           "do grep -q offline $m/state && cat $m/phys_index; done; true",
                           check=True)[1])
        # Both numbers are hexadecimal; the second has no 0x (kernel/ksysfs.c).
        return cls(int(where[0], 16), int(where[1], 16), *texts)

    def save(self, path: pathlib.Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        for name in TEXTS:
            (path / name).write_text(getattr(self, name), encoding="utf-8")
        (path / "vmcoreinfo").write_text(
            f"{self.vmcoreinfo_address:#x} {self.vmcoreinfo_size:x}\n", encoding="utf-8")

    def symbol_at(self, address: int) -> str:
        """The last symbol at or below an address of the kernel's text; "" when there is none."""
        found = max(((int(at, 16), name) for at, kind, name, *_ in
                     (line.split() for line in self.kallsyms.splitlines())
                     if kind in "tT" and int(at, 16) <= address), default=(0, ""))
        return found[1]

    @classmethod
    def load(cls, path: pathlib.Path) -> "Notes":
        where = (path / "vmcoreinfo").read_text(encoding="utf-8").split()
        return cls(int(where[0], 16), int(where[1], 16),
                   *((path / name).read_text(encoding="utf-8")
                     for name in TEXTS))


def _read_kallsyms(vm) -> str:
    """/proc/kallsyms. The kernel's own part, long for a serial port, is read once for a kernel, and
    moved to where this boot has it."""
    build = hashlib.sha256(vm.read_file("/sys/kernel/notes")).hexdigest()[:16]
    known = vm.kernel.root / f"kallsyms-{build}"
    if not known.is_file():
        partial = known.with_name(f".{known.name}.{os.getpid()}")
        partial.write_bytes(vm.read_file("/proc/kallsyms", timeout_s=300))
        partial.rename(known)
    own = [line.split() for line in known.read_text(encoding="utf-8").splitlines()
           if "[" not in line]
    here = vm.read_file_lines("/proc/kallsyms", r" _text$|\[", timeout_s=300)
    text = {name: int(address, 16) for address, _, name, *_ in map(str.split, here)}["_text"]
    moved = text - next(int(address, 16) for address, _, name in own if name == "_text")
    lines = [f"{int(address, 16) + (moved if int(address, 16) >= KERNEL_MAP else 0):016x} {kind} {name}"
             for address, kind, name in own]
    return "\n".join([*lines, *(line for line in here if "[" in line)]) + "\n"


class KernelMemory:
    """The crashed kernel's own view of its memory."""

    def __init__(self, image: MemoryImage, notes: Notes) -> None:
        self.image, self.notes = image, notes
        note = image.read(notes.vmcoreinfo_address, notes.vmcoreinfo_size)
        size_of_owner, size, _ = struct.unpack_from("<III", note)
        start = 12 + -(-size_of_owner // 4) * 4
        self.vmcoreinfo = note[start:start + size].rstrip(b"\0").decode(errors="replace")
        self.info = dict(line.split("=", 1) for line in self.vmcoreinfo.splitlines() if "=" in line)
        self._phys_base = int(self.info["NUMBER(phys_base)"])
        self._root = self._kernel_map(int(self.info["SYMBOL(swapper_pg_dir)"], 16))
        self._levels = 5 if self.info.get("NUMBER(pgtable_l5_enabled)") == "1" else 4

    # Addresses.

    def _kernel_map(self, address: int) -> int:
        return address - KERNEL_MAP + self._phys_base

    @functools.lru_cache(maxsize=65536)
    def _table_entry(self, address: int) -> int:
        return struct.unpack("<Q", self.image.read(address, 8))[0]

    def translate(self, address: int) -> int | None:
        """The physical address of a kernel virtual one, through init_top_pgt; None if unmapped."""
        table = self._root
        for level in range(self._levels, 0, -1):
            shift = 12 + 9 * (level - 1)
            entry = self._table_entry(table + (address >> shift & 511) * 8)
            if not entry & 1:
                return None
            frame = entry & 0x000FFFFFFFFFF000
            if level == 1 or (level < 4 and entry & 0x80):
                mask = (1 << shift) - 1
                return (frame & ~mask) | (address & mask)
            table = frame
        return None

    def read(self, address: int, size: int) -> bytes:
        """Kernel virtual memory; does not cross a page that is not mapped."""
        out = b""
        while size:
            physical = self.translate(address)
            if physical is None:
                raise HarnessError(f"kernel address {address:#x} is not mapped")
            step = min(size, PAGE - address % PAGE)
            out += self.image.read(physical, step)
            address, size = address + step, size - step
        return out

    @functools.cached_property
    def symbols(self) -> dict[str, int]:
        """Name -> address, kernel and modules; the first of equal names (static functions)."""
        found: dict[str, int] = {}
        for address, _, name, _ in self._kallsyms():
            found.setdefault(name, address)
        return found

    def _kallsyms(self) -> Iterator[tuple[int, str, str, str]]:
        for line in self.notes.kallsyms.splitlines():
            parts = line.split()
            if len(parts) >= 3:
                yield int(parts[0], 16), parts[1], parts[2], parts[3] if len(parts) > 3 else ""

    @functools.cached_property
    def cpus(self) -> int:
        """Processors that the kernel found (setup_nr_cpu_ids)."""
        return struct.unpack("<I", self.read(self.symbols["nr_cpu_ids"], 4))[0]

    # Pages.

    @functools.cached_property
    def ram(self) -> list[range]:
        """Page ranges that the kernel calls System RAM (/proc/iomem), whole pages only."""
        return [range(-(-int(first, 16) // PAGE), (int(last, 16) + 1) // PAGE) for first, last in
                re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM", self.notes.iomem, re.M)]

    def _number(self, name: str, default: int | None = None) -> int:
        value = self.info.get(name)
        if value is None:
            if default is None:
                raise HarnessError(f"vmcoreinfo has no {name}")
            return default
        return int(value)

    def _bit(self, flags: int, name: str) -> bool:
        number = self._number(f"NUMBER({name})", -1)
        return number >= 0 and bool(flags >> number & 1)

    @functools.cached_property
    def _page_structs(self) -> dict[int, bytes]:
        size = self._number("SIZE(page)")
        structs: dict[int, bytes] = {}
        pages: dict[int, int | None] = {}
        for pfns in self.ram:
            for pfn in pfns:
                at = self._vmemmap + pfn * size
                if at // PAGE not in pages:
                    pages[at // PAGE] = self.translate(at // PAGE * PAGE)
                where = pages[at // PAGE]
                if where is not None and self.image.has(where, PAGE):
                    structs[pfn] = self.image.read(where + at % PAGE, size)
        return structs

    @functools.cached_property
    def classes(self) -> dict[int, str]:
        """pfn -> class, for every page of RAM.

        free, cache, cache-private, user, offline, hwpoison, or kernel: the rest, which every
        dump level keeps. Zero pages are not told apart here.
        """
        return dict(self._classify())

    @functools.cached_property
    def offline(self) -> list[range]:
        """Page ranges of the memory blocks that are offline: their struct pages mean nothing."""
        size, *numbers = (int(word, 16) for word in self.notes.offline.split())
        return [range(number * size // PAGE, (number + 1) * size // PAGE) for number in numbers]

    @functools.cached_property
    def memory_map(self) -> dict[int, range]:
        """Pages of vmemmap -> the pages that they describe."""
        each = PAGE // self._number("SIZE(page)")
        found = {}
        # Holes between ranges of RAM are described, too.
        for first in range(0, max(pfns.stop for pfns in self.ram), each):
            physical = self.translate(self._vmemmap + first // each * PAGE)
            if physical is not None:
                found[physical // PAGE] = range(first, first + each)
        return found

    @functools.cached_property
    def reserved(self) -> set[int]:
        """Pages that were never the page allocator's: PG_reserved, whose bit is not in vmcoreinfo.

        The kernel's text is, and has no other flag; what is above the flags is the page's zone.
        """
        text = self._page_structs[self._kernel_map(self.symbols["_text"]) // PAGE]
        low = struct.unpack_from("<I", text)[0] & 0xFFFFFF
        if low.bit_count() != 1:
            raise HarnessError(f"the first page of the kernel's text has flags {low:#x}: "
                               "wanted PG_reserved alone")
        return {pfn for pfn, raw in self._page_structs.items()
                if struct.unpack_from("<I", raw)[0] & low}

    def on_processors_list(self, pfn: int) -> bool:
        """Whether a page lies unused on a processor's own list of free pages.

        It has no flags and no users, and it, or the first page of the small block (of order 3 at
        most, PAGE_ALLOC_COSTLY_ORDER) that it is part of, is linked: mm/page_alloc.c,
        rmqueue_bulk(). makedumpfile takes it for the kernel's.
        """
        return self._unused(pfn) and any(
            self._unused(first) and self._linked(first)
            for first in {pfn >> order << order for order in range(4)})

    def were_on_processors_lists(self, pfns: Iterable[int],
                                 dumped: Callable[[int], bytes | None]) -> set[int]:
        """Those of pfns that lay on such a list when their struct pages were dumped.

        dumped: pfn -> the page as a vmcore has it. They had no flags and no users, and were in no
        block of the page allocator's own.
        """
        wanted = set(pfns)
        without = {pfn for pfn in wanted if (raw := self._struct_in(pfn, dumped)) and self._without_users(raw)}
        return without - self.were_free(without, dumped)

    def were_free(self, pfns: Iterable[int], dumped: Callable[[int], bytes | None]) -> set[int]:
        """Those of pfns that were in a block of the page allocator's own when their struct pages were
        dumped."""
        def free(pfn: int) -> bool:
            for order in range(TOP_ORDER + 1):
                raw = self._struct_in(pfn >> order << order, dumped)
                if raw and self._has_type(raw, self._buddy) and order <= struct.unpack_from(
                        "<Q", raw, self._number("OFFSET(page.private)"))[0]:
                    return True
            return False
        return {pfn for pfn in pfns if free(pfn)}

    def _struct_in(self, pfn: int, dumped: Callable[[int], bytes | None]) -> bytes | None:
        """A page's struct page as a vmcore has it."""
        size = self._number("SIZE(page)")
        where = self.translate(self._vmemmap + pfn * size)
        page = None if where is None else dumped(where // PAGE)
        return page[where % PAGE:where % PAGE + size] if page else None

    def _unused(self, pfn: int) -> bool:
        raw = self._page_structs.get(pfn)
        return raw is not None and self.classes[pfn] == "kernel" and self._without_users(raw)

    def _without_users(self, raw: bytes) -> bool:
        return struct.unpack_from("<I", raw)[0] & 0xFFFFFF == 0 and \
            struct.unpack_from("<I", raw, self._number("OFFSET(page._refcount)"))[0] == 0

    def _linked(self, pfn: int) -> bool:
        """Whether both neighbours of a page's list head point at it."""
        at = self._number("OFFSET(page.lru)")
        link = self._vmemmap + pfn * self._number("SIZE(page)") + at
        following, preceding = struct.unpack_from("<2Q", self._page_structs[pfn], at)
        back = struct.pack("<Q", link)
        return self._read_or_none(following + 8, 8) == back and \
            self._read_or_none(preceding, 8) == back

    def _classify(self) -> Iterator[tuple[int, str]]:
        size, structs = self._number("SIZE(page)"), self._page_structs
        at = {field: self._number(f"OFFSET(page.{field})") for field in
              ("flags", "mapping", "private", "compound_head")}
        offline = self._number("NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)", 0) & 0xFFFFFFFF
        hugetlb = self._number("NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)", 0) & 0xFFFFFFFF
        hugetlb_dtor = self._number("NUMBER(HUGETLB_PAGE_DTOR)", -1)
        dtor_at = self._number("OFFSET(page.compound_dtor)", -1)

        def word(raw: bytes, field: str) -> int:
            return struct.unpack_from("<Q", raw, at[field])[0]

        def is_hugetlb(head: int, raw: bytes) -> bool:
            if hugetlb:
                return self._has_type(raw, hugetlb)
            second = structs.get(head + 1)
            return hugetlb_dtor >= 0 and dtor_at >= 0 and second is not None and \
                bool(word(raw, "flags") & self._head_mask) and \
                second[dtor_at] == hugetlb_dtor

        free_until = -1
        off = {pfn for pfns in self.offline for pfn in pfns}
        for pfn in sorted(structs):
            if pfn in off:
                yield pfn, "offline"
                continue
            if pfn < free_until:
                yield pfn, "free"
                continue
            raw = structs[pfn]
            if self._has_type(raw, self._buddy):
                free_until = pfn + (1 << word(raw, "private"))
                yield pfn, "free"
                continue
            head = pfn
            link = word(raw, "compound_head")
            if link & 1:
                head = (link - 1 - self._vmemmap) // size
                if head not in structs:
                    raise HarnessError(f"page {pfn:#x}: its compound head {head:#x} is not RAM")
            top = structs[head]
            flags, mapping = word(top, "flags"), word(top, "mapping")
            slab = self._is_slab(top, flags)
            anonymous = bool(mapping & 1) and not slab
            cache = self._bit(flags, "PG_lru") or (self._bit(flags, "PG_swapcache") and
                                                   self._bit(flags, "PG_swapbacked"))
            if self._bit(word(raw, "flags"), "PG_hwpoison"):
                yield pfn, "hwpoison"
            elif cache and not anonymous:
                yield pfn, "cache-private" if self._bit(flags, "PG_private") else "cache"
            elif anonymous or is_hugetlb(head, top):
                yield pfn, "user"
            elif not slab and self._has_type(raw, offline):
                yield pfn, "offline"
            else:
                yield pfn, "kernel"

    @functools.cached_property
    def _buddy(self) -> int:
        return self._number("NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)") & 0xFFFFFFFF

    def _has_type(self, raw: bytes, value: int) -> bool:
        # Up to 6.10 one bit is cleared in the whole; from 6.11 on (commit 4ffca5a96678)
        # the top byte names the type and the rest may hold something else.
        kind = struct.unpack_from("<I", raw, self._number("OFFSET(page._mapcount)"))[0]
        if value and value & 0x00FFFFFF == 0:
            return kind >> 24 == value >> 24
        return bool(value) and kind == value

    @functools.cached_property
    def _head_mask(self) -> int:
        return self._number("NUMBER(PG_head_mask)")

    def _is_slab(self, raw: bytes, flags: int) -> bool:
        kind = self._number("NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)", 0) & 0xFFFFFFFF
        return self._has_type(raw, kind) if kind else self._bit(flags, "PG_slab")

    # Names.

    def _slab_cache(self, pfn: int) -> str | None:
        """The name of the cache that a slab page belongs to, as far as it can be found.

        Neither struct slab nor struct kmem_cache is in vmcoreinfo: the cache is the third or the
        first word behind the flags (since 6.2), and somewhere in it is a pointer to its name.
        """
        raw = self._page_structs.get(pfn)
        if raw is not None and struct.unpack_from(
                "<Q", raw, self._number("OFFSET(page.compound_head)"))[0] & 1:
            link, = struct.unpack_from("<Q", raw, self._number("OFFSET(page.compound_head)"))
            raw = self._page_structs.get((link - 1 - self._vmemmap) // self._number("SIZE(page)"))
        if raw is None or self.classes.get(pfn) != "kernel":
            return None
        for at in (8, 24):
            cache = self._read_or_none(struct.unpack_from("<Q", raw, at)[0], 32 * 8)
            for word in struct.unpack("<32Q", cache) if cache else ():
                name = re.match(rb"([a-z][\w:.-]{3,40})\0", self._read_or_none(word, 48) or b"")
                if word > KERNEL_HALF and name:
                    return name[1].decode()
        return None

    def _read_or_none(self, address: int, size: int) -> bytes | None:
        where = self.translate(address) if address > KERNEL_HALF else None
        if where is None or where % PAGE + size > PAGE or not self.image.has(where, size):
            return None
        return self.image.read(where, size)

    def describe(self, pfn: int, changed: Sequence[int] = ()) -> str:
        """What a page is, for people: symbols, who mapped it, or its class.

        changed: offsets into the page; of an image page only the symbols that hold them are
        named then.
        """
        words = []
        image = self._image_ranges
        index = bisect.bisect_right(image, (pfn * PAGE, 1 << 64)) - 1
        if index >= 0 and image[index][0] <= pfn * PAGE < image[index][1]:
            words.append(self._symbols_in(pfn, changed))
        words += self._mapped.get(pfn, [])
        cache = self._slab_cache(pfn)
        if cache:
            words.append(f"slab {cache}")
        if not words:
            words.append(self.classes.get(pfn, "not RAM"))
        raw = self._page_structs.get(pfn)
        if raw is not None:
            words.append(f"flags {struct.unpack_from('<Q', raw, 0)[0]:#x}, users "
                         f"{struct.unpack_from('<i', raw, self._number('OFFSET(page._refcount)'))[0]}")
            if self.on_processors_list(pfn):
                words.append(OWN_LIST)
        return "; ".join(words)

    def pages_pointed_at(self, word: int) -> tuple[int, int, int]:
        """The pages that a 64-bit word means if it is a physical address, one of the direct map,
        or that of a page's struct page or something in it (lists link their lru)."""
        return (word // PAGE, (word - self._direct_map) // PAGE,
                (word - self._vmemmap) // self._number("SIZE(page)"))

    @functools.cached_property
    def _direct_map(self) -> int:
        return struct.unpack("<Q", self.read(self.symbols["page_offset_base"], 8))[0]

    @functools.cached_property
    def _vmemmap(self) -> int:
        return struct.unpack("<Q", self.read(self.symbols["vmemmap_base"], 8))[0]

    def kernel_section(self, pfn: int) -> str | None:
        """text, rodata, data or bss when a page belongs to the kernel's image, else None.

        What was freed after boot is anybody's.
        """
        address = pfn * PAGE
        if pfn not in self.reserved:
            return None
        for name, start, end in self._sections:
            if start <= address < end:
                return name
        return None

    @functools.cached_property
    def _sections(self) -> list[tuple[str, int, int]]:
        marks = (("text", "_text", "_etext"), ("rodata", "__start_rodata", "__end_rodata"),
                 ("data", "_sdata", "_edata"), ("bss", "__bss_start", "__bss_stop"))
        return [(name, self._kernel_map(self.symbols[start]), self._kernel_map(self.symbols[end]))
                for name, start, end in marks]

    @functools.cached_property
    def _image_ranges(self) -> list[tuple[int, int]]:
        return [(self._kernel_map(self.symbols["_text"]), self._kernel_map(self.symbols["_end"]))]

    @functools.cached_property
    def _image_symbols(self) -> list[tuple[int, str]]:
        return sorted((self._kernel_map(address), name)
                      for address, _, name, module in self._kallsyms()
                      if not module and address >= KERNEL_MAP)

    def _symbols_in(self, pfn: int, changed: Sequence[int]) -> str:
        names, start = self._image_symbols, pfn * PAGE
        if changed:
            last = [max(bisect.bisect_right(names, (start + at, "\x7f")) - 1, 0) for at in changed]
            inside = sorted({names[index][1] for index in last})
        else:
            first = max(bisect.bisect_right(names, (start, "\x7f")) - 1, 0)
            end = bisect.bisect_left(names, (start + PAGE, ""))
            inside = [name for _, name in names[first:end]]
        return f"{self.kernel_section(pfn) or 'kernel image'}: {', '.join(inside)}"

    @functools.cached_property
    def _mapped(self) -> dict[int, list[str]]:
        """pfn -> whose it is: vmalloc areas (by caller), modules, per-CPU areas, zones, the sender's."""
        found: dict[int, list[str]] = {}
        areas = [(int(first, 16), int(last, 16), "vmalloc " + caller) for first, last, caller in
                 re.findall(r"^0x([0-9a-f]+)-0x([0-9a-f]+)\s+\d+ (\S+)(?!.*ioremap)",
                            self.notes.vmallocinfo, re.M)]
        for line in self.notes.modules.splitlines():
            parts = line.split()
            start = int(parts[5], 16)
            areas.append((start, start + int(parts[1]), f"module {parts[0]}"))
        unit = struct.unpack("<i", self.read(self.symbols["pcpu_unit_size"], 4))[0]
        offsets = self.symbols["__per_cpu_offset"]
        for cpu in range(self.cpus):
            start = struct.unpack("<Q", self.read(offsets + 8 * cpu, 8))[0]
            areas.append((start, start + unit, f"per-CPU area {cpu}"))
        for node in range(self._number("LENGTH(node_data)")):
            start = struct.unpack("<Q", self.read(self.symbols["node_data"] + 8 * node, 8))[0]
            if start:
                areas.append((start, start + self._number("SIZE(pglist_data)"), f"zones of node {node}"))
        if self._page_structs:
            size = self._number("SIZE(page)")
            areas += [(self._vmemmap + pfns.start * size, self._vmemmap + pfns.stop * size,
                       "struct page") for pfns in self.ram]
        for start, end, name in areas:
            for address in range(start - start % PAGE, end, PAGE):
                physical = self.translate(address)
                if physical is not None:
                    found.setdefault(physical // PAGE, []).append(name)
        for first, end, what in re.findall(r"^0x([0-9a-f]+)-0x([0-9a-f]+) (\w+)$",
                                           self.notes.held, re.M):
            for pfn in range(int(first, 16) // PAGE, int(end, 16) // PAGE):
                found.setdefault(pfn, []).append(f"held {what}")
        return found

    def pages_of(self, name: str) -> set[int]:
        """Pages that a module or a vmalloc caller whose description contains name has mapped."""
        return {pfn for pfn, words in self._mapped.items()
                if any(name in word for word in words)}
