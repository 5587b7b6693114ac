# SPDX-License-Identifier: Apache-2.0
"""The store's vmcore views before debuggers: a real kernel's memory, cut into blocks without a
sender, a network or a store (tests/vmcore/make_views.cc), read back by everybody else's tools."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib
import re
import struct

import pytest

from vmtest import build, kernelmem, kernels, oracle, tools, util
from vmtest.guest import Guest
from vmtest.memory import PAGE, MemoryImage
from vmtest.qemu import Vm
from vmtest.vmcore import PHDR, PT_NOTE, ElfCore, KdumpCore

LEVEL = 31
WINDOW = 1 << 16

# Pages as make_views wants them: kernel pages go, as class 2 where they are no part of the image.
EXCLUDED, CORE, OTHER, UNREADABLE = "-", "1", "2", "u"


@dataclasses.dataclass
class Views:
    """A crashed guest and what make_views made of it. incomplete: the same with windows lost."""

    series: str
    kernel: kernels.Kernel
    dmesg: str
    console: str
    memory: kernelmem.KernelMemory
    folder: pathlib.Path
    incomplete: pathlib.Path
    lost: list[int]

    @property
    def elf(self) -> pathlib.Path:
        return self.folder / "vmcore.elf"

    @property
    def kdump(self) -> pathlib.Path:
        return self.folder / "vmcore.kdump"

    def log(self, folder: pathlib.Path | None = None) -> tuple[str, str]:
        """(where it came from, the text)."""
        text = ((folder or self.folder) / "log").read_text(encoding="utf-8", errors="replace")
        origin, rest = text.split("\n", 1)
        return origin.split()[0], rest


def page_letter(memory: kernelmem.KernelMemory, pfn: int) -> str:
    kind = memory.classes.get(pfn)
    if kind is None or oracle.excusable(kind, LEVEL):
        return UNREADABLE if kind == "hwpoison" else EXCLUDED
    return CORE if memory.kernel_section(pfn) else OTHER


def make_views(folder: pathlib.Path, image: MemoryImage, memory: kernelmem.KernelMemory,
               notes: bytes, lost: list[tuple[int, int]]) -> None:
    folder.mkdir()
    (folder / "notes").write_bytes(notes)
    (folder / "vmcoreinfo").write_text(memory.vmcoreinfo + "\n", encoding="utf-8")
    symbols = memory.symbols
    start, end = symbols["_text"], symbols["_end"]
    page_offset, = struct.unpack("<Q", memory.read(symbols["page_offset_base"], 8))
    spec = [f"page_offset {page_offset:#x}",
            f"text {start:#x} {memory.translate(start):#x} {end - start:#x}",
            f"notes {folder}/notes", f"vmcoreinfo {folder}/vmcoreinfo", "cpus 2"]
    for first, last in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) : System RAM", memory.notes.iomem,
                                  re.M):
        spec.append(f"ram {int(first, 16):#x} {int(last, 16) + 1:#x}")
    for item in image.ranges:
        pfns = range(item.start // PAGE, (item.start + item.size) // PAGE)
        letters = folder / f"classes-{item.start:x}"
        letters.write_text("".join(page_letter(memory, pfn) for pfn in pfns), encoding="ascii")
        spec.append(f"image {item.start:#x} {item.path} {letters}")
    spec += [f"drop {cls} {window}" for cls, window in lost]
    (folder / "spec").write_text("\n".join(spec) + "\n", encoding="utf-8")
    tool = build.build_dir() / "tests" / "vmcore" / "vmcore_make_views"
    if not tool.is_file():
        raise util.HarnessError(f"{tool} is not there: build it with `./dev build`")
    said = util.run([tool, folder / "spec", folder])
    assert not said.stderr, said.stderr


def elf_notes(path: pathlib.Path) -> bytes:
    with open(path, "rb") as core:
        head = core.read(64)
        table, = struct.unpack_from("<Q", head, 32)
        core.seek(table)
        kind, _, offset, _, _, size, _, _ = PHDR.unpack(core.read(PHDR.size))
        assert kind == PT_NOTE
        core.seek(offset)
        return core.read(size)


@contextlib.contextmanager
def crash_and_view(series: str, kernel: kernels.Kernel):
    with util.scratch_dir() as folder:
        initramfs = Guest(kernel).build(folder / "initramfs")
        with Vm(kernel, initramfs, folder / "vm", cpus=2, cmdline="panic=1") as vm:
            vm.sh("dd if=/dev/urandom of=/tmp/cached bs=1M count=8", check=True)
            vm.sh("for i in 1 2 3 4 5; do sleep 1000 & done >/dev/null 2>&1", check=True)
            vm.sh(r"printf 'first line\nsecond line \033[1m\n' >/dev/kmsg", check=True)
            dmesg = vm.sh("dmesg", check=True)[1]
            notes = kernelmem.Notes.take(vm)
            vm.crash()
            vm.wait_console("Kernel panic - not syncing: sysrq triggered crash")
            vm.wait_reset()
            image = vm.save_memory(folder / "memory")
            core = vm.dump_elf(folder / "core.elf")
            memory = kernelmem.KernelMemory(image, notes)
            make_views(folder / "whole", image, memory, elf_notes(core), [])
            # Lost: every block of some windows that have class 2 pages (not all of them zero, which
            # the oracle would excuse) and none of class 1.
            per_window = WINDOW // PAGE
            letters: dict[int, set[str]] = {}
            for pfn in memory.classes:
                letter = page_letter(memory, pfn)
                if letter != OTHER or image.page(pfn) != oracle.ZEROS:
                    letters.setdefault(pfn // per_window, set()).add(letter)
            lost = [window for window, found in sorted(letters.items())
                    if OTHER in found and CORE not in found][-60::20]
            make_views(folder / "incomplete", image, memory, elf_notes(core),
                       [(2, window) for window in lost])
            yield Views(series, kernel, dmesg, vm.console(), memory, folder / "whole",
                        folder / "incomplete", lost)
            image.close()


@pytest.fixture(scope="module")
def made(kernel_of):
    """Series -> Views; each kernel is crashed once, whichever tests run."""
    with contextlib.ExitStack() as stack:
        found: dict[str, Views | Exception] = {}

        def make(series: str) -> Views:
            if series not in found:
                try:
                    found[series] = stack.enter_context(crash_and_view(series, kernel_of(series)))
                except Exception as error:
                    found[series] = error  # booting again for every test would not help
            if isinstance(found[series], Exception):
                raise found[series]
            return found[series]

        yield make


@pytest.fixture(params=kernels.SERIES)
def views(request, made):
    return made(request.param)


def test_every_page_is_the_guests_own(views):
    kdump, elf = KdumpCore(views.kdump), ElfCore(views.elf)
    assert not kdump.incomplete
    for core, presence in ((kdump, None), (elf, kdump)):
        report = oracle.compare(core, views.memory, LEVEL, presence)
        assert not report.differing and not report.unexcused, report
        assert not report.not_excluded and not report.strays, report
        assert report.equal > 5000, report
    assert kdump.vmcoreinfo.splitlines() == views.memory.vmcoreinfo.splitlines()
    assert elf.vmcoreinfo.splitlines() == views.memory.vmcoreinfo.splitlines()


def test_elf_gives_kernel_addresses(views):
    """The image and the direct map, as a debugger that knows only program headers sees them."""
    elf = ElfCore(views.elf)
    banner = views.memory.symbols["linux_banner"]
    for paddr, vaddr, filesz, _, _ in elf.loads:
        if vaddr <= banner < vaddr + filesz:
            page = elf.page((paddr + banner - vaddr) // PAGE)
            assert page[banner % PAGE:].startswith(b"Linux version 6")
            break
    else:
        pytest.fail("linux_banner is in no PT_LOAD")


def test_our_log_is_what_dmesg_said(views):
    origin, text = views.log()
    assert origin == "memory"
    assert text.startswith(views.dmesg.replace("\033", "\\x1b"))
    assert "] second line \\x1b[1m\n" in text
    rest = text[len(views.dmesg):]
    assert "Kernel panic - not syncing: sysrq triggered crash" in rest
    assert "sysrq_handle_crash" in rest


def without_prefixes(text: str) -> list[str]:
    """Lines without time stamps: makedumpfile indents the further lines of a message instead."""
    return [re.sub(r"^(\[ *\d+\.\d+\] | {15})", "", line) for line in text.splitlines()]


@pytest.mark.parametrize("form", ["elf", "kdump"])
def test_makedumpfile_reads_the_same_log(views, form):
    theirs = tools.dump_dmesg(getattr(views, form)).replace("\033", "\\x1b")
    assert without_prefixes(theirs) == without_prefixes(views.log()[1])


@pytest.mark.parametrize("form", ["elf", "kdump"])
def test_drgn_reads_physical_memory_without_debug_info(views, form):
    """Both formats, pages of every kind; no vmlinux, so that it also holds for 6.12."""
    wanted = [pfn for pfn in views.memory.classes
              if page_letter(views.memory, pfn) in (CORE, OTHER)][::29]
    script = views.folder / "read.py"
    script.write_text(
        "import drgn, hashlib, sys\nprog = drgn.Program()\nprog.set_core_dump(sys.argv[1])\n"
        f"for pfn in {wanted}:\n"
        "    page = prog.read(pfn << 12, 4096, physical=True)\n"
        "    print(pfn, hashlib.sha256(page).hexdigest())\n", encoding="utf-8")
    said = util.run(["/usr/bin/python3", script, getattr(views, form)]).stdout.split("\n")
    assert said[:-1] == [f"{pfn} {hashlib.sha256(views.memory.image.page(pfn)).hexdigest()}"
                         for pfn in wanted]


@pytest.mark.parametrize("form", ["elf", "kdump"])
def test_crash_and_drgn_debug_it(made, form, vmlinux_of):
    views = made("6.1")
    vmlinux = vmlinux_of(views.kernel)
    core = getattr(views, form)
    said = tools.crash(vmlinux, core, ["bt", "log", "sys"])
    assert "sysrq_handle_crash" in said["bt"]
    assert without_prefixes(said["log"].replace("\033", "."))[:300] == \
        without_prefixes(views.log()[1].replace("\\x1b", "."))[:300]
    assert "sysrq triggered crash" in said["sys"]
    count = int(tools.drgn(vmlinux, core, "from drgn.helpers.linux.pid import for_each_task\n"
                                          "print(sum(1 for _ in for_each_task(prog)))\n"))
    assert count > 20
    if (util.cache_dir() / "trixie").is_dir():
        # crash 8.0.2 finds no task but the running ones: docs/vmcore.md says why.
        said = tools.crash(vmlinux, core, ["ps"], newer=True)["ps"]
        tasks = [line for line in said.splitlines() if re.match(r"^>?\s+\d+\s+\d+\s+\d", line)]
        idle = sum("[swapper/" in line for line in tasks)
        assert len(tasks) - idle == count


def test_lost_windows_are_gaps(views):
    """In the ELF a page that was lost lies in no segment; kdump-compressed says incomplete."""
    kdump = KdumpCore(views.incomplete / "vmcore.kdump")
    elf = ElfCore(views.incomplete / "vmcore.elf")
    assert kdump.incomplete and len(views.lost) == 3
    per_window = WINDOW // PAGE
    for pfn in views.memory.classes:
        inside = any(paddr <= pfn * PAGE < paddr + memsz for paddr, _, _, memsz, _ in elf.loads)
        assert inside == (pfn // per_window not in views.lost), hex(pfn)
    report = oracle.compare(kdump, views.memory, LEVEL)
    assert not report.differing
    assert {finding.pfn // per_window for finding in report.unexcused} == set(views.lost)
    assert "Kernel panic" in views.log(views.incomplete)[1]
