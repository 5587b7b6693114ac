# SPDX-License-Identifier: Apache-2.0
"""What leaves first: a dump that was cut off at a tenth of its bytes still opens in crash.

The guest has 1 GiB of busy memory: page cache, slab, 200 processes with memory of their own.
A first guest's dump is taken whole, and weighed; a second one, busy in the same way, loses its
plug when a relay holds a tenth of that weight.
"""

from __future__ import annotations

import re

import pytest

from vmtest import tools
from vmtest.build import guest_program
from vmtest.scenario import Scenario
from vmtest.util import wait_until

PART = 0.10
PROCESSES = 200
BUSY = (
    # Page cache and slab: a file system in memory, with names and inodes.
    "dd if=/dev/urandom of=/tmp/cached bs=1M count=64",
    "memory files 80000",
    f"memory anon 1 {PROCESSES}",
)


def scenario(kernel, scratch, level, **more) -> Scenario:
    # With a log that is not in the kernel's image, as on hosts with many processors.
    return Scenario(scratch, kernel, ["virtio-net-pci"], 2, memory_mib=1024, level=level,
                    relay_count=1, cmdline="log_buf_len=2M", guest_binaries={"/bin/memory": guest_program("memory")}, **more)


def make_busy(run: Scenario) -> set[int]:
    """Makes memory busy; the process ids that the guest has then."""
    for command in BUSY:
        run.vm.sh(command, timeout_s=300, check=True)
    # Twice: the shells that list them, and workers that come and go, are not meant.
    listed = [run.vm.sh("cd /proc && echo [0-9]*", check=True)[1].split() for _ in range(2)]
    return {int(pid) for pid in set(listed[0]) & set(listed[1])}


def listed_by_crash(text: str) -> set[int]:
    """Process ids in the output of crash's ps."""
    return {int(pid) for pid in re.findall(r"^>?\s+(\d+)\s+\d+\s+\d+\s+[0-9a-f]{16} ", text, re.M)}


def weigh(kernel, scratch, level) -> int:
    """Bytes that a whole dump of the busy guest takes on a relay."""
    with scenario(kernel, scratch / "whole", level) as run:
        make_busy(run)
        run.vm.crash()
        dump, = run.wait_sealed()
        return int(dump["stored_bytes"])


@pytest.mark.parametrize("series,level", [
    ("6.1", 31),
    pytest.param("6.1", 1, marks=pytest.mark.slow),
    pytest.param("6.12", 31, marks=pytest.mark.slow),
])
def test_a_tenth_of_a_dump_opens(series, level, kernel_of, vmlinux_of, scratch, record_property):
    kernel = kernel_of(series)
    vmlinux = vmlinux_of(kernel)
    whole = weigh(kernel, scratch, level)
    with scenario(kernel, scratch / "cut", level, rate_mib_s=max(whole * PART / 16e6, 0.25),
                  relay_flags=["--silent-after", "3s", "--seal-after", "4s"]) as run:
        pids = make_busy(run)

        def held() -> int:
            run.vm.check_alive()
            dump = run.show(0)
            return int(dump["stored_bytes"]) if dump else 0

        run.vm.crash()
        wait_until(lambda: held() >= 0.96 * PART * whole, 300,
                   lambda: f"a tenth of {whole} bytes\n{run.words()}")
        run.vm.kill()
        dump, = run.wait_sealed(state="DUMP_STATE_INCOMPLETE")
        stored = int(dump["stored_bytes"])
        print(f"{stored} of {whole} bytes: {stored / whole:.1%}")
        assert stored <= PART * whole
        core = run.fetch("kdump", complete=False)
        # 6.12 is newer than Debian 12's crash 8.0.2.
        for newer in (False, True) if series == "6.1" else (True,):
            said = tools.crash(vmlinux, core, ["log", "bt", "ps"], newer=newer)
            assert "sysrq triggered crash" in said["log"], said["log"][-2000:]
            assert "sysrq_handle_crash" in said["bt"], said["bt"]
            found = listed_by_crash(said["ps"])
            print(f"crash {'8.0.6' if newer else '8.0.2'}: {len(found)} tasks of {len(pids)}")
        assert len(pids) > PROCESSES
        assert pids <= found, sorted(pids - found)
        record_property("cell", f"{stored / whole:.1%} of {whole >> 20} MiB")
