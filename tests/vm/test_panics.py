# SPDX-License-Identifier: Apache-2.0
"""Panics that find the kernel in other states than a shell's sysrq: the whole road each time."""

from __future__ import annotations

import pytest

from vmtest import words
from vmtest.scenario import Scenario

EAT = ("echo 1 >/proc/sys/vm/panic_on_oom; mount -o remount,size=90% /tmp; "
       "dd if=/dev/zero of=/tmp/all bs=1M; tail /dev/zero")
REASON = {"oom": "out of memory", "break": "sysrq triggered crash", "nmi": "NMI"}


@pytest.mark.slow
@pytest.mark.parametrize("series,nic,how", [
    ("6.1", "virtio-net-pci", "oom"),     # no page is free
    ("6.12", "virtio-net-pci", "oom"),
    ("6.1", "e1000e", "break"),           # in the serial port's interrupt
    ("6.12", "virtio-net-pci", "nmi"),
])
def test_panic_with_the_way_back_open(series, nic, how, kernel_of, scratch):
    with Scenario(scratch, kernel_of(series), [nic], 2, relay_count=2) as run:
        if how == "oom":
            run.vm.shell.send(EAT)
        else:
            run.vm.crash(how)
        run.vm.wait_console("dumpcast: sending dump", 240)
        for dump in run.wait_sealed():
            assert REASON[how].lower() in dump["reason"].lower(), dump["reason"]
        run.vm.wait_reset()
        said = words.report(run.vm.console())
        print(f"{series} {nic} {how}: {said}\n{run.summary()}")
        assert said.committed and said.relays_done == 2
        assert said.ours["net0"] > 0
        assert "Kernel panic - not syncing" in run.log()
