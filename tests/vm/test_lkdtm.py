# SPDX-License-Identifier: Apache-2.0
"""Linux's own crash test module: every type of crash of it that ends Debian's kernels."""

from __future__ import annotations

import itertools

import pytest

from vmtest import build, judge, kernels
from vmtest.kernelmem import Notes
from vmtest.scenario import Scenario

# Types that Debian's kernels only warn of, or survive, are left out; so are those for other
# architectures, HARDLOCKUP (its detector needs a PMU, which these machines have not), and
# WRITE_AFTER_FREE and its like, which damage memory and go on.
TYPES = (
    "PANIC", "BUG", "EXCEPTION", "EXHAUST_STACK", "CORRUPT_STACK", "CORRUPT_STACK_STRONG",
    "LOOP", "SOFTLOCKUP", "SPINLOCKUP", "HUNG_TASK", "CORRUPT_LIST_ADD", "CORRUPT_LIST_DEL",
    "STACK_GUARD_PAGE_LEADING", "STACK_GUARD_PAGE_TRAILING", "VMALLOC_LINEAR_OVERFLOW",
    "SLAB_FREE_DOUBLE", "WRITE_RO", "WRITE_RO_AFTER_INIT", "WRITE_KERN", "EXEC_DATA",
    "EXEC_STACK", "EXEC_KMALLOC", "EXEC_VMALLOC", "EXEC_RODATA", "EXEC_USERSPACE", "EXEC_NULL",
    "ACCESS_USERSPACE", "ACCESS_NULL", "USERCOPY_SLAB_SIZE_TO", "USERCOPY_SLAB_SIZE_FROM",
    "USERCOPY_SLAB_WHITELIST_TO", "USERCOPY_SLAB_WHITELIST_FROM", "USERCOPY_STACK_FRAME_TO",
    "USERCOPY_STACK_FRAME_FROM", "USERCOPY_STACK_BEYOND", "USERCOPY_FOLIO", "USERCOPY_KERNEL",
    "FORTIFY_STR_OBJECT", "FORTIFY_STR_MEMBER", "FORTIFY_MEM_OBJECT", "FORTIFY_STRSCPY",
)
NEWER = {"6.12": ("PANIC_STOP_IRQOFF",)}
DETECTORS = ("watchdog_thresh 1", "softlockup_panic 1", "hung_task_panic 1",
             "hung_task_timeout_secs 1")
CELLS = [cell
         for series, nic in itertools.product(kernels.SERIES, ("virtio-net-pci", "e1000e"))
         for cell in itertools.product([series], [nic], (*TYPES, *NEWER.get(series, ())))]


@pytest.mark.slow
@pytest.mark.matrix("LKDTM")
@pytest.mark.parametrize("series,nic,kind", CELLS)
def test_lkdtm(series, nic, kind, kernel_of, scratch, snapshots):
    kernel = kernel_of(series)
    with Scenario(scratch, kernel, [nic], 2, relay_count=2, time_limit_s=120,
                  guest_kmods=[build.lkdtm(kernel)], snapshots=snapshots) as run:
        run.vm.sh("modprobe lkdtm", check=True)
        for setting in DETECTORS:
            name, value = setting.split()
            run.vm.sh(f"echo {value} >/proc/sys/kernel/{name}", check=True)
        run.notes = Notes.take(run.vm)
        provoke = f"echo {kind} >/sys/kernel/debug/provoke-crash/DIRECT"
        # The first one only takes the lock.
        run.vm.shell.send(f"{provoke}; {provoke}" if kind == "SPINLOCKUP" else provoke)
        run.wait_sealed()
        run.vm.wait_reset()
        print(run.summary())
        said = run.report()
        assert said.committed and said.relays_done == 2
        judge.dump_equals_memory(run)
        assert f"lkdtm: Performing direct entry {kind}" in run.log()
