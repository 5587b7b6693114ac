# SPDX-License-Identifier: Apache-2.0
"""Processors that go and come while the host is armed."""

from __future__ import annotations

import pytest

from vmtest import words
from vmtest.scenario import Scenario

ONLINE = "/sys/devices/system/cpu/cpu{}/online"


@pytest.mark.slow
@pytest.mark.parametrize("series", ["6.1", "6.12"])
def test_processors_that_go_and_come(series, kernel_of, scratch):
    """One stays away, one is back: armed throughout, and the dump says how many there are."""
    with Scenario(scratch, kernel_of(series), cpus=4, relay_count=1) as run:
        for cpu in (2, 3):
            run.vm.sh(f"echo 0 >{ONLINE.format(cpu)}", check=True)
        assert "committed by 1 relays" in run.vm.sh("dumpcast-arm test", timeout_s=120,
                                                    check=True)[1]
        run.vm.sh(f"echo 1 >{ONLINE.format(3)}", check=True)
        assert run.vm.sh("cat /sys/devices/system/cpu/online", check=True)[1].strip() == "0-1,3"
        # From the processor that came back.
        run.vm.shell.send("taskset 8 sh -c 'echo c >/proc/sysrq-trigger'")
        for dump in run.wait_sealed():
            assert dump["cpus"] in (3, 4), dump["cpus"]
            assert dump["blocks_held"] == dump["blocks_expected"] != "0"
        run.vm.wait_reset()
        assert words.report(run.vm.console()).committed
        assert "CPU: 3 " in run.log()
