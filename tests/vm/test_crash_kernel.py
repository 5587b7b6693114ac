# SPDX-License-Identifier: Apache-2.0
"""A crash kernel that is loaded: it would be started ahead of our hook, and no dump be sent."""

from __future__ import annotations

import pathlib

import pytest

from vmtest import words
from vmtest.scenario import Scenario

POST = "/sys/module/kernel/parameters/crash_kexec_post_notifiers"
KEXEC = pathlib.Path("/sbin/kexec")


@pytest.mark.slow
def test_crash_kernel_starts_after_the_dump(kernel_of, scratch):
    kernel = kernel_of("6.1")
    with Scenario(scratch, kernel, ["virtio-net-pci"], 2, memory_mib=640, relay_count=1,
                  cmdline="crashkernel=192M", guest_binaries={"/sbin/kexec": KEXEC},
                  guest_files={"/boot/vmlinuz": kernel.vmlinuz}) as run:
        run.vm.sh(f"echo 0 >{POST}", check=True)
        run.vm.sh("kexec -s -p /boot/vmlinuz --append='console=ttyS0 maxcpus=1 panic=0'",
                  timeout_s=120, check=True)
        assert run.vm.read_file("/sys/kernel/kexec_crash_loaded").strip() == b"1"

        run.vm.sh("sed '/fix_kernel/d' /etc/dumpcast/arm.toml >/tmp/arm.toml", check=True)
        code, said = run.vm.sh("dumpcast-arm check --config /tmp/arm.toml")
        print(said)
        assert code == 5
        assert "PROBLEM: a crash kernel is loaded and is started before our hook" in said
        assert f"fix: echo 1 >{POST}" in said
        assert run.vm.sh("dumpcast-arm check --config /tmp/arm.toml --fix")[0] == 0
        assert run.vm.read_file(POST).strip() == b"Y"

        boots = run.vm.console().count("Linux version")
        run.vm.crash()
        run.wait_sealed()
        run.vm.wait_console("dumpcast: dump sent")
        assert words.report(run.vm.console()).committed
        # The machine goes to the crash kernel then, as it does without us.
        run.vm.wait_console(r"(?s)dumpcast: dump sent.*Linux version")
        assert run.vm.console().count("Linux version") == boots + 1
        reserved = run.vm.console()
        assert "Reserving 192MB of memory" in reserved
        assert int(run.show()["memory_bytes"]) < (640 - 192) << 20
