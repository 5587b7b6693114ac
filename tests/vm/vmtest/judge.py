# SPDX-License-Identifier: Apache-2.0
"""What has to hold after any crash: every relay's vmcore equals the memory that QEMU saw."""

from __future__ import annotations

import re

from . import oracle
from .kernelmem import KernelMemory
from .scenario import Scenario
from .vmcore import KdumpCore, Vmcore, open_vmcore

# Pages that change while they are dumped, or until the machine resets, and why. Text and
# rodata never pass.
MAY_DIFFER = (
    r"\bheld \w+",                  # the sender's own, as the module lists them
    r"module dumpcast",             # its variables
    # Rings and buffers of the cards' drivers.
    r"points? at packets|copies of sent packets|a frame that came in",
    r"; wiped",                     # when such buffers were taken (init_on_alloc); not many
    r"module (virtio_net|e1000e?|vmxnet3|8139cp)|vmalloc (e1000|vmxnet3|cp_)\w+",
    r"ring whose generation turned|used ring of a virtqueue",
    r"stack that a processor was on",
    r"per-CPU area",                # time, interrupts, the page allocator's lists
    r"slab skbuff_\w+",             # heads of the frames that replies came in
    r"struct page",                 # reference counts of pages that replies came in
    r"zones of node",               # the page allocator's lists and counters
    r"(data|bss): .*(printk|__log_buf|console|\btext\b)",  # the console speaks meanwhile
    r"(data|bss): .*(jiffies|timekeeper|tk_core|clock|hpet|watchdog|tick)",
    r"(data|bss): .*\bvm_(zone|node)_stat\b",  # the page allocator's counters
    r"(data|bss): .*\b(base_crng|input_pool)\b",  # a slab's new page is filled in a random order
    r"data: .*\binit_task\b",      # the idle task, when it is what died
    r"(data|bss): .*(panic|reboot|system_state|debug_locks|rcu_cpu_stall|i8042|"
    r"crashing_cpu|crash_ipi_issued|nmi_desc)",  # the kernel stops the processors when they have helped
)
# And a few counters in structures that have no name.
FEW, SMALL = 16, 64
# Pages that were free when the dump began, and that the card's driver took for replies, or the
# page allocator for its lists at that.
LATE = 64
# The other way round: pages that a driver gave back, or that a processor's own list had and gave
# back, beside those that the dump's struct pages show on such a list. 6.12 lets go of up to its batch
# (15 in a guest of 256 MiB) << PCP_BATCH_SCALE_MAX (5) at once; mm/page_alloc.c, nr_pcp_free().
GIVEN_BACK = 15 << 5
# Pages that were wiped: only card drivers take any meanwhile (test_hook.py shows that).
WIPED = 256


def dump_equals_memory(run: Scenario, both: bool = False) -> tuple[KdumpCore, KernelMemory]:
    """Compares the kdump-compressed vmcore with the memory of the guest, which must have stopped.

    both: the ELF, too, which the same blocks are read for. For who wants to look further: the
    kdump-compressed vmcore and the memory.
    """
    kdump, memory = open_vmcore(run.fetch("kdump")), run.memory()
    assert not kdump.incomplete
    assert kdump.dump_level == run.level
    *kernels_own, crash_time = kdump.vmcoreinfo.splitlines()
    assert kernels_own == memory.vmcoreinfo.splitlines()
    assert re.fullmatch(r"CRASHTIME=\d{10}", crash_time)
    equals(run, kdump, memory, None)
    if both:
        equals(run, open_vmcore(run.fetch("elf")), memory, kdump)
    return kdump, memory


def equals(run: Scenario, core: Vmcore, memory: KernelMemory, presence: KdumpCore | None) -> None:
    report = oracle.compare(core, memory, run.level, presence)
    print(f"{run.kernel.series} {run.nics} {run.cpus} {type(core).__name__}\n{report}")
    assert not report.unexcused and not report.strays and not report.secrets, report
    assert len(report.late) <= LATE, report
    assert sum("; wiped" in finding.what for finding in report.differing) <= WIPED, report
    unexplained = report.unexplained(MAY_DIFFER, FEW, SMALL)
    assert not unexplained, "\n".join(map(str, unexplained))
    assert report.equal > 1000, report
    assert set(report.not_excluded) <= {"free"} and report.not_excluded["free"] <= GIVEN_BACK, report
