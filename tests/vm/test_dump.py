# SPDX-License-Identifier: Apache-2.0
"""From panic to vmcore on real kernels: armed, crashed, received, compared with QEMU's memory."""

from __future__ import annotations

import itertools

import pytest

from vmtest import judge, kernels, tools
from vmtest.kernelmem import LEVEL_OF_CLASS
from vmtest.scenario import Scenario

LEVEL = 31

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
        kdump, memory = judge.dump_equals_memory(run, both=True)

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
