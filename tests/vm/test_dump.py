# SPDX-License-Identifier: Apache-2.0
"""From panic to vmcore on real kernels: armed, crashed, received, compared with QEMU's memory."""

from __future__ import annotations

import itertools
import re

import pytest

from vmtest import kernels, oracle, tools
from vmtest.kernelmem import LEVEL_OF_CLASS
from vmtest.scenario import Scenario
from vmtest.vmcore import open_vmcore

LEVEL = 31

# Pages that change while they are dumped, or until the machine resets, and why. Text and
# rodata never pass.
MAY_DIFFER = (
    r"\bheld \w+",                  # the sender's own, as the module lists them
    r"module dumpcast",             # its variables
    r"points? at packets|a frame that came in|taken for frames",  # rings and buffers of the cards' drivers
    r"module (virtio_net|e1000e)|vmalloc (e1000e|e1000_)\w+",
    r"stack that a processor was on",
    r"per-CPU area",                # time, interrupts, the page allocator's lists
    r"struct page",                 # reference counts of pages that replies came in
    r"(data|bss): .*(printk|__log_buf|console|\btext\b)",  # the console speaks meanwhile
    r"(data|bss): .*(jiffies|timekeeper|tk_core|clock|watchdog|tick)",
    r"(data|bss): .*\bvm_(zone|node)_stat\b",  # the page allocator's counters
    r"(data|bss): .*(panic|reboot|system_state|debug_locks|rcu_cpu_stall|i8042)",
)
# And a few counters in structures that have no name.
FEW, SMALL = 16, 64
# Pages that were free when the dump began, and that the card's driver took for replies, or the
# page allocator for its lists at that.
LATE = 64

# Each kernel, card and number of processors; without --all, cells that have each of them once.
DEFAULT = (("6.1", "virtio-net-pci", 2), ("6.12", "e1000e", 1))
MATRIX = [pytest.param(*cell, marks=() if cell in DEFAULT else pytest.mark.slow)
          for cell in itertools.product(kernels.SERIES, ("virtio-net-pci", "e1000e"), (1, 2))]


@pytest.mark.parametrize("series,nic,cpus", MATRIX)
def test_dump_equals_the_hypervisors_memory(series, nic, cpus, kernel_of, scratch):
    with Scenario(scratch, kernel_of(series), [nic], cpus, level=LEVEL, relay_count=2) as run:
        run.vm.sh("dd if=/dev/urandom of=/tmp/cached bs=1M count=8", check=True)
        run.crash()
        for dump in run.wait_sealed():
            assert dump["kernel_release"] == run.kernel.release
            assert dump["dump_level"] == LEVEL
            assert dump["cpus"] == cpus
            assert dump["blocks_held"] == dump["blocks_expected"] != "0"
        run.vm.wait_reset()
        log = run.log()
        assert "Kernel panic - not syncing: sysrq triggered crash" in log
        elf, kdump = open_vmcore(run.fetch("elf")), open_vmcore(run.fetch("kdump"))
        assert not kdump.incomplete
        assert kdump.dump_level == LEVEL

        memory = run.memory()
        *kernels_own, crash_time = elf.vmcoreinfo.splitlines()
        assert kernels_own == memory.vmcoreinfo.splitlines()
        assert re.fullmatch(r"CRASHTIME=\d{10}", crash_time)
        for core, presence in ((kdump, None), (elf, kdump)):
            report = oracle.compare(core, memory, LEVEL, presence)
            print(f"{series} {nic} {cpus} {type(core).__name__}\n{report}")
            assert not report.unexcused, report
            assert len(report.late) <= LATE, report
            unexplained = report.unexplained(MAY_DIFFER, FEW, SMALL)
            assert not unexplained, "\n".join(map(str, unexplained))
            assert report.equal > 1000, report
            assert not report.not_excluded, report

        if series == "6.1":
            theirs = tools.makedumpfile(run.vm.dump_elf(scratch / "qemu.elf"), LEVEL).counts
            for kind in set(LEVEL_OF_CLASS) - {"zero", "offline"}:
                missing = sum(1 for pfn, own in memory.classes.items()
                              if own == kind and kdump.page(pfn) is None)
                assert missing == theirs[kind], (kind, missing, theirs)


def test_debuggers_open_both_formats(kernel_of, scratch, vmlinux_of):
    kernel = kernel_of("6.1")
    vmlinux = vmlinux_of(kernel)
    with Scenario(scratch, kernel, ["virtio-net-pci"], 2, relay_count=1) as run:
        run.crash()
        run.wait_sealed()
        for form in ("elf", "kdump"):
            core = run.fetch(form)
            said = tools.crash(vmlinux, core, ["bt", "ps", "log"])
            assert "sysrq_handle_crash" in said["bt"], form
            assert "swapper/1" in said["ps"], form
            assert "sysrq triggered crash" in said["log"], form
            assert "sysrq triggered crash" in tools.dump_dmesg(core), form
        tasks = tools.drgn(vmlinux, run.fetch("elf"),
                           "from drgn.helpers.linux.pid import for_each_task\n"
                           "print(sum(1 for _ in for_each_task(prog)))\n")
        assert int(tasks) > 20
