# SPDX-License-Identifier: Apache-2.0
"""What the armed module holds: printed, bounded, and the same whatever memory the host has."""

from __future__ import annotations

import json
import re

import pytest

from vmtest import words
from vmtest.scenario import Scenario

LIMIT = 8 << 20
CARDS = ("virtio-net-pci", "e1000e")
CELLS = [pytest.param(mib, paths, id=f"{mib}-{paths}",
                      marks=() if (mib, paths) == (256, 2) else pytest.mark.slow)
         for mib in (256, 4096, 16384) for paths in (1, 2)]


def pages_listed(held: str) -> int:
    """Physical pages of the module's own list, each counted once."""
    runs = re.findall(r"^0x([0-9a-f]+)-0x([0-9a-f]+) ", held, re.M)
    return len({page for start, end in runs for page in range(int(start, 16), int(end, 16), 4096)})


@pytest.mark.matrix("Memory held")
@pytest.mark.parametrize("mib,paths", CELLS)
def test_memory_held_is_bounded_and_enough(mib, paths, kernel_of, scratch, record_property):
    """level 31 leaves most of a large idle guest out: the dump stays small, the walk does not."""
    with Scenario(scratch, kernel_of("6.1"), CARDS[:paths], 2, memory_mib=mib, relay_count=1) as run:
        status = json.loads(run.vm.sh("dumpcast-arm status -o json", check=True)[1])
        assert status["memory_bytes"] > mib * 0.9 * (1 << 20)
        assert 1 << 20 < status["held_bytes"] < LIMIT
        listed = pages_listed(run.vm.sh("cat /sys/kernel/config/dumpcast/held", check=True)[1])
        # Whole pages of small things that are shared with others count here.
        assert status["held_bytes"] // 4096 <= listed < LIMIT // 4096
        record_property("cell", f"{status['held_bytes'] >> 10} KiB")
        text = run.vm.sh("dumpcast-arm status", check=True)[1]
        assert f"{status['held_bytes'] / (1 << 20):.1f} MiB held" in text
        run.vm.crash()
        for dump in run.wait_sealed(timeout_s=900):
            assert dump["blocks_held"] == dump["blocks_expected"] != "0"
        run.vm.wait_reset()
        print(f"{mib} MiB, {paths} paths: {status['held_bytes']} bytes, {listed} pages\n"
              f"{run.summary()}")
        assert words.report(run.vm.console()).committed
