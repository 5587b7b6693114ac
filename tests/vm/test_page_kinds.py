# SPDX-License-Identifier: Apache-2.0
"""Pages that are not like others: huge, offline, broken, lent to the hypervisor, plugged in late.

One guest has them all; it dies once at dump level 0, which leaves out only what must not be
read, and once at 31. Every kind is a cell: that the kernel really made such pages, and that each of
them is in the dump, equal, or left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import pathlib
import re

import pytest

from vmtest import judge
from vmtest.build import guest_program
from vmtest.kernelmem import CACHE, CACHE_PRIVATE, USER, KernelMemory
from vmtest.scenario import Scenario
from vmtest.util import scratch_dir, wait_until
from vmtest.vmcore import KdumpCore, open_vmcore

MIB = 256            # pages
PLUGGED_MIB = 256    # two of the guest's memory blocks
BALLOON_MIB = 64
MEMORY_MIB = 512
DEVICES = ("-m", "slots=2,maxmem=2G", "-device", "virtio-balloon-pci,id=balloon")
DEFAULT = ("6.1", 0)  # the guest whose cells run without --all
LEAST = {"hugetlb": 8 * MIB, "transparent huge": 8 * MIB, "transparent huge, shared": 8 * MIB,
         "ballooned": BALLOON_MIB * MIB, "offline block": 128 * MIB, "plugged while armed": 8 * MIB}


@dataclasses.dataclass(frozen=True)
class Kind:
    """What kernelmem calls such pages, and which bits of the dump level leave them out.

    excluded_by: None when they are left out at every level, as they must not be read.
    """

    classes: frozenset[str]
    excluded_by: int | None


KINDS = {
    "hugetlb": Kind(frozenset({"user"}), USER),
    "transparent huge": Kind(frozenset({"user"}), USER),
    "transparent huge, shared": Kind(frozenset({"cache"}), CACHE | CACHE_PRIVATE),
    "poisoned": Kind(frozenset({"hwpoison"}), None),
    "soft-offlined": Kind(frozenset({"hwpoison"}), None),
    "ballooned": Kind(frozenset({"offline"}), None),
    "offline block": Kind(frozenset({"offline"}), None),
    "reserved": Kind(frozenset({"kernel"}), 0),
    "plugged while armed": Kind(frozenset({"user"}), USER),
}


@dataclasses.dataclass
class Died:
    """A guest's dump, its memory, and the pages of each kind."""

    level: int
    kdump: KdumpCore
    memory: KernelMemory
    pages: dict[str, set[int]]


def make(run: Scenario, kind: str, mib: int) -> set[int]:
    """memory.c makes pages; their numbers."""
    said = run.vm.sh(f"memory {kind} {mib}", timeout_s=300, check=True)[1]
    pages = {pfn for first, last in re.findall(rf"^{kind} ([0-9a-f]+)-([0-9a-f]+)$", said, re.M)
             for pfn in range(int(first, 16), int(last, 16) + 1)}
    assert pages, said
    return pages


def plug(run: Scenario) -> range:
    """Plugs a DIMM into the armed guest; the pages it has."""
    before = set(run.vm.sh("ls /sys/devices/system/memory", check=True)[1].split())
    run.vm.qmp.execute("object-add", **{"qom-type": "memory-backend-ram", "id": "dimm0.ram",
                                        "size": PLUGGED_MIB << 20})
    run.vm.qmp.execute("device_add", driver="pc-dimm", id="dimm0", memdev="dimm0.ram")

    def probe():
        now = set(run.vm.sh("ls /sys/devices/system/memory", check=True)[1].split()) - before
        return sorted(now, key=lambda name: int(name[6:])) if len(now) == 2 else None
    blocks = wait_until(probe, 60, "two memory blocks of the DIMM", 0.5)
    first = int(blocks[0][6:])
    for block in blocks:
        state = f"/sys/devices/system/memory/{block}/state"
        run.vm.sh(f"grep -q online {state} || echo online_movable >{state}", check=True)
    # Nothing lives in the second one: it can be taken offline again.
    run.vm.sh(f"echo offline >/sys/devices/system/memory/{blocks[1]}/state", check=True)
    block_pages = 128 * MIB
    return range(first * block_pages, (first + 2) * block_pages)


def die(kernel, level: int, folder: pathlib.Path, keep: contextlib.ExitStack) -> Died:
    run = keep.enter_context(Scenario(
        folder, kernel, ["virtio-net-pci"], 1, memory_mib=MEMORY_MIB, level=level, relay_count=1,
        devices=DEVICES, guest_modules=["virtio_balloon"],
        guest_binaries={"/bin/memory": guest_program("memory")}))
    pages: dict[str, set[int]] = {}
    run.vm.sh("modprobe virtio_balloon", check=True)
    run.vm.sh("echo 6 >/proc/sys/vm/nr_hugepages && "
              "mount -t tmpfs -o huge=always,size=64M shm /dev/shm", check=True)
    plugged = plug(run)
    pages["hugetlb"] = make(run, "hugetlb", 8)
    pages["transparent huge"] = make(run, "thp", 8)
    pages["transparent huge, shared"] = make(run, "shmem", 8)
    pages["poisoned"] = make(run, "poison", 1)
    pages["soft-offlined"] = make(run, "soft-offline", 1)
    pages["plugged while armed"] = make(run, "anon", 48) & set(plugged)
    target = (MEMORY_MIB + PLUGGED_MIB - BALLOON_MIB) << 20
    run.vm.qmp.execute("balloon", value=target)
    wait_until(lambda: run.vm.qmp.execute("query-balloon")["actual"] <= target, 120,
               "the balloon to fill", 0.5)
    run.crash()
    run.wait_sealed()
    run.vm.wait_reset()
    kdump, memory = judge.dump_equals_memory(run)
    pages["offline block"] = set(plugged[len(plugged) // 2:])
    pages["ballooned"] = {pfn for pfn, kind in memory.classes.items()
                          if kind == "offline"} - pages["offline block"]
    pages["reserved"] = memory.reserved
    return Died(level, kdump, memory, pages)


@pytest.fixture(scope="module")
def died_of(kernel_of):
    """(series, level) -> Died; a guest dies once for all its cells."""
    with contextlib.ExitStack() as keep:
        folder = keep.enter_context(scratch_dir())
        yield functools.cache(lambda series, level: die(
            kernel_of(series), level, folder / f"{series}-{level}", keep))


@pytest.mark.matrix("Page kinds")
@pytest.mark.parametrize("series,level,kind", [
    pytest.param(series, level, kind, id=f"{series}-{level}-{kind.replace(' ', '_')}",
                 marks=[] if (series, level) == DEFAULT else [pytest.mark.slow])
    for series in ("6.1", "6.12") for level in (0, 31) for kind in KINDS])
def test_kind(series, level, kind, died_of, record_property):
    guest = died_of(series, level)
    pages, expected = guest.pages[kind], KINDS[kind]
    assert len(pages) >= LEAST.get(kind, 1), (kind, len(pages))
    classes = {guest.memory.classes.get(pfn) for pfn in pages}
    assert classes <= expected.classes, (kind, classes)
    left_out = expected.excluded_by is None or bool(level & expected.excluded_by)
    for pfn in pages:
        page = guest.kdump.page(pfn)
        if left_out:
            assert page is None, f"{kind}: page {pfn:#x} is in the dump"
        else:
            assert page is not None, f"{kind}: page {pfn:#x} is not in the dump"
            # The reserved ones change meanwhile; judge says which may.
            assert kind == "reserved" or page == guest.memory.image.page(pfn), f"{kind}: {pfn:#x}"
    record_property("cell", f"{len(pages)} pages {'left out' if left_out else 'dumped'}")


@pytest.mark.slow
@pytest.mark.matrix("Page kinds")
@pytest.mark.parametrize("series,kind", [("6.1", "gigantic"), ("6.12", "gigantic")])
def test_gigantic(series, kind, kernel_of, scratch, record_property):
    """A huge page of 1 GiB: its head is 2^18 pages away from its last tail."""
    with Scenario(scratch, kernel_of(series), ["virtio-net-pci"], 1, memory_mib=2304, level=31,
                  relay_count=1, cmdline="hugepagesz=1G hugepages=1 nokaslr",
                  guest_binaries={"/bin/memory": guest_program("memory")}) as run:
        pages = make(run, kind, 1024)
        assert len(pages) == 1 << 18
        run.crash()
        run.wait_sealed()
        kdump = open_vmcore(run.fetch("kdump"))
        assert not kdump.incomplete
        assert not [pfn for pfn in pages if kdump.page(pfn) is not None]
        record_property("cell", f"{len(pages)} pages left out")
