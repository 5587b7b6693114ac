# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel flavours, and the packages on a Debian host."""

from __future__ import annotations

import pytest

from vmtest import kernels, words
from vmtest.scenario import Scenario

# e1000e is absent from the cloud flavour: all have virtio-net.
NIC = "virtio-net-pci"


@pytest.mark.matrix("Kernel flavours")
@pytest.mark.parametrize("series", [
    pytest.param(name, marks=() if name == "6.12-rt" else pytest.mark.slow)
    for name in kernels.ALL])
def test_crash_and_test_dump(series, kernel_of, scratch, record_property):
    """Loads, arms, sends a test dump and a whole one; the way back works, the console tells."""
    with Scenario(scratch, kernel_of(series), [NIC], 2, relay_count=2) as run:
        assert "committed by 2 relays" in run.vm.sh("dumpcast-arm test", timeout_s=120,
                                                    check=True)[1]
        before = run.vm.console()
        for word in ("BUG:", "WARNING:", "Call Trace"):
            assert word not in before, before[-3000:]
        run.vm.crash()
        for dump in run.wait_sealed():
            assert dump["kernel_release"] == run.kernel.release
            assert dump["blocks_held"] == dump["blocks_expected"] != "0"
        run.vm.wait_reset()
        console = run.vm.console()
        said = words.report(console)
        print(run.summary())
        assert said.committed and said.relays_done == 2 and said.ours["net0"] > 0
        # What the kernel complained of while the hook ran, if anything.
        hook = console[console.index("dumpcast: sending dump"):console.index("dumpcast: dump sent")]
        for word in ("BUG:", "WARNING:", "Call Trace", "scheduling while atomic"):
            assert word not in hook, hook[:6000]
        assert "Kernel panic - not syncing: sysrq triggered crash" in run.log()
        record_property("cell", f"{said.blocks} blocks")
