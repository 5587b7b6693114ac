# SPDX-License-Identifier: Apache-2.0
"""Locks that stopped processors hold for ever: the dump leaves all the same.

tests/vm/panicker takes them, on the other processor with interrupts off or on its own, and panics.
"""

from __future__ import annotations

import pytest

from vmtest import build, words
from vmtest.scenario import Scenario


@pytest.mark.slow
@pytest.mark.parametrize("series,nic,how,own", [
    ("6.1", "virtio-net-pci", "tx", False),
    ("6.1", "e1000e", "tx", True),
    ("6.12", "virtio-net-pci", "frozen", False),
    ("6.12", "virtio-net-pci", "zone", False),
    ("6.1", "virtio-net-pci", "zone", False),
    ("6.1", "e1000e", "zone", True),
    ("6.1", "virtio-net-pci", "napi", False),
    ("6.12", "e1000e", "napi", False),
    ("6.1", "e1000e", "none", False),
])
def test_lock_that_nobody_will_release(series, nic, how, own, kernel_of, scratch):
    kernel = kernel_of(series)
    with Scenario(scratch, kernel, [nic], 2, relay_count=2,
                  guest_kmods=[build.panicker(kernel)]) as run:
        run.vm.shell.send(f"modprobe panicker how={how} dev=net0 own={int(own)}")
        run.vm.wait_console("dumpcast: sending dump", 120)
        for dump in run.wait_sealed():
            assert dump["reason"].startswith(f"panicker: {how} held")
        run.vm.wait_reset()
        said = words.report(run.vm.console())
        print(f"{series} {nic} {how} {own}: {said}\n{run.summary()}")
        if how == "zone":
            # Receiving would refill the ring from that zone, and never come back.
            assert said.ours["net0"] == 0 and not said.committed
        else:
            assert said.committed and said.relays_done == 2
        assert ("its lock was broken" in run.summary()) == (how in ("tx", "frozen"))
