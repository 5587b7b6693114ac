# SPDX-License-Identifier: Apache-2.0
"""Every dump level leaves out what makedumpfile's -d leaves out, page class by page class.

The guest has pages of every class. Its dump is compared page by page with QEMU's memory and
kernelmem's classes (6.1 and 6.12), and its counts with makedumpfile's own on QEMU's dump of the
same guest (6.1; later kernels are newer than Debian 12's makedumpfile).
"""

from __future__ import annotations

import collections

import pytest

from vmtest import judge, oracle, tools
from vmtest.build import guest_program
from vmtest.kernelmem import ZERO
from vmtest.memory import PAGE
from vmtest.oracle import ZEROS, excusable
from vmtest.scenario import Scenario
from vmtest.vmcore import open_vmcore

# One cell of each kernel, and the two levels that no other test has, without --all.
DEFAULT = (("6.1", 17), ("6.12", 1))
MATRIX = [pytest.param(series, level, id=f"{series}-{level:02}",
                       marks=[] if (series, level) in DEFAULT else [pytest.mark.slow])
          for level in range(32) for series in ("6.1", "6.12")]

# Page cache, page cache with buffers (of a block device: "private"), user pages.
FILL = (
    "dd if=/dev/urandom of=/tmp/cached bs=1M count=8",
    "dd if=/dev/zero of=/tmp/disk bs=1M count=8 && modprobe loop && losetup /dev/loop0 /tmp/disk",
    # Held open: with the last close of a block device its cache goes.
    "(exec 9<>/dev/loop0; exec sleep 1000000) >/dev/null 2>&1 &",
    "dd if=/dev/urandom of=/dev/loop0 bs=64k count=64",
    "memory anon 8",
)
EVERY_CLASS = {"cache", "cache-private", "user", "free", "kernel"}


@pytest.mark.matrix("Dump levels")
@pytest.mark.parametrize("series,level", MATRIX)
def test_level(series, level, kernel_of, scratch, snapshots, record_property):
    with Scenario(scratch, kernel_of(series), ["virtio-net-pci"], 1, level=level, relay_count=1,
                  guest_binaries={"/bin/memory": guest_program("memory")},
                  guest_modules=["loop"], snapshots=snapshots) as run:
        for command in FILL:
            run.vm.sh(command, check=True)
        run.crash()
        run.wait_sealed()
        run.vm.wait_reset()
        kdump, memory = judge.dump_equals_memory(run)
        assert EVERY_CLASS <= set(memory.classes.values()), set(memory.classes.values())

        missing: collections.Counter = collections.Counter()
        zero = changed = 0
        for pfn, kind in memory.classes.items():
            page = kdump.page(pfn)
            missing[kind] += page is None
            zero += page == ZEROS
            changed += page not in (None, memory.image.page(pfn))
        if series == "6.1":
            theirs = tools.makedumpfile(run.vm.dump_elf(scratch / "qemu.elf"), level).counts
            for kind in ("cache", "cache-private", "user", "free", "hwpoison", "offline"):
                assert missing[kind] == theirs[kind], (kind, missing, theirs)
            # A zero page is a bit in every dump; the vmcore has it as a page at every level. Some
            # pages were zero when they left, or became zero until the machine ended.
            if level & ZERO:
                assert abs(zero - theirs["zero"]) <= changed, (zero, changed, theirs)
        left = (len(memory.classes) - sum(missing.values())) * PAGE >> 20
        record_property("cell", f"{left} MiB left")


@pytest.mark.slow
@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_unused_parts_of_the_memory_map(series, kernel_of, vmlinux_of, scratch):
    """exclude_unused_vmemmap: pages of vmemmap that describe nothing which was dumped."""
    kernel = kernel_of(series)
    # Debian 12's makedumpfile -e reads a kernel's page tables as if they had four levels.
    cmdline = "no5lvl" if series == "6.1" else ""
    with Scenario(scratch, kernel, ["virtio-net-pci"], 1, memory_mib=1024, level=31, relay_count=1,
                  cmdline=cmdline, arm_extra="exclude_unused_vmemmap = true") as run:
        run.crash()
        run.wait_sealed()
        run.vm.wait_reset()
        core = run.fetch("kdump")
        kdump, memory = open_vmcore(core), run.memory()
        left_out = {pfn for pfn, kind in memory.classes.items() if excusable(kind, 31)}
        of_map = memory.memory_map
        unused = {page for page, described in of_map.items()
                  if all(pfn in left_out or pfn not in memory.classes for pfn in described)}
        gone = {pfn for pfn in of_map if kdump.page(pfn) is None}
        print(f"{len(of_map)} pages of the map, {len(unused)} unused, {len(gone)} left out")
        assert len(unused) > len(of_map) // 4
        # Nothing else is lost. Free pages that were taken while the dump left were free, and so their map
        # unused, before.
        report = oracle.compare(kdump, memory, 31)
        assert {finding.pfn for finding in report.unexcused} <= set(of_map), report
        assert len(report.late) <= judge.LATE, report
        assert len(gone ^ unused) <= judge.LATE, (sorted(gone - unused), sorted(unused - gone))
        if series != "6.1":  # newer than Debian 12's makedumpfile and crash
            return
        qemu = run.vm.dump_elf(scratch / "qemu.elf")
        cores = [open_vmcore(tools.makedumpfile(qemu, 31, flags=flags).path)
                 for flags in ([], ["-e"])]
        theirs = {pfn for pfn in memory.classes
                  if cores[0].page(pfn) is not None and cores[1].page(pfn) is None}
        print(f"makedumpfile -e leaves out {len(theirs)}")
        # It looks at 128 MiB at a time only.
        assert len(theirs) > judge.LATE
        assert len(theirs - gone) <= judge.LATE, sorted(theirs - gone)
        said = tools.crash(vmlinux_of(kernel), core, ["log", "bt", "ps"])
        assert "sysrq triggered crash" in said["log"]
        assert "sysrq_handle_crash" in said["bt"]
