# SPDX-License-Identifier: Apache-2.0
"""The panic hook itself: what it calls, what becomes of its own faults, who gets the machine back."""

from __future__ import annotations

import itertools
import re

import pytest

from vmtest import build, kernels, tools, words
from vmtest.scenario import Scenario
from vmtest.util import wait_until

CELLS = [pytest.param(series, nic, id=f"{series}-{nic}",
                      marks=[] if (series, nic) == ("6.1", "e1000e") else [pytest.mark.slow])
         for series, nic in itertools.product(kernels.SERIES, ("virtio-net-pci", "e1000e"))]
# What was called while a driver was in the hook's hands.
CALLED = re.compile(r"crasher: in (.+): (\S+) (\d+) times")
# Calls that take pages or objects, by which a held lock of an allocator would be waited for.
TAKES = re.compile(r"alloc|get_page_from_freelist")
# Calls that give them back, which can need such a lock, too.
GIVES = re.compile(r"free")
# What every kernel has of the slow paths of locks, and of sleep.
SLOW_PATHS = ("native_queued_spin_lock_slowpath", "queued_read_lock_slowpath",
              "queued_write_lock_slowpath", "mutex_lock", "down", "down_read", "down_write", "schedule",
              "schedule_timeout", "wait_for_completion", "synchronize_rcu", "synchronize_irq", "msleep")


def guest(scratch, kernel, nic, **more) -> Scenario:
    return Scenario(scratch, kernel, [nic], 2, relay_count=2, guest_kmods=[build.crasher(kernel)],
                    **more)


@pytest.mark.matrix("What the hook calls that it must not")
@pytest.mark.parametrize("series,nic", CELLS)
@pytest.mark.parametrize("held", [
    "none", *(pytest.param(what, marks=pytest.mark.slow) for what in ("zones", "slab"))])
def test_nothing_is_allocated_and_nobody_waited_for(series, nic, held, kernel_of, scratch,
                                                    record_property):
    """The allocators and the slow paths of locks are traps from the hook's begin on."""
    with guest(scratch, kernel_of(series), nic) as run:
        die = "none" if held == "none" else "panic"
        run.vm.sh(f"modprobe crasher dev=net0 die={die} hold={held} trap=1", check=True)
        watched = re.search(r"crasher: (\d+) functions are watched", run.vm.console())
        assert int(watched[1]) >= 25, watched
        unwatched = set(re.findall(r"crasher: no probe on (\S+)", run.vm.console()))
        assert not unwatched & set(SLOW_PATHS), unwatched
        if die == "none":
            run.vm.crash()
        else:
            run.vm.shell.send("echo 1 >/sys/module/crasher/parameters/go")
        run.wait_sealed()
        run.vm.wait_reset()
        console = run.vm.console()
        print("\n".join(re.findall(r"crasher: .*", console)), run.summary(), sep="\n")
        over = re.search(r"crasher: trapped in ours (\d+); traps on purpose work; hook ran", console)
        assert over, console[-3000:]
        assert over[1] == "0"
        called = CALLED.findall(console)
        waited = [name for _, name, _ in called if not TAKES.search(name) and not GIVES.search(name)]
        assert not waited, called
        taken = [call for call in called if TAKES.search(call[1])]
        assert not [place for place, _, _ in taken if "poll" not in place], taken
        if held != "none":  # what a driver's refill does is not entered at all
            assert not taken
        record_property("cell", "driver's refill: " + (", ".join(
            f"{name} {times}" for _, name, times in taken) or "not entered"))


@pytest.mark.matrix("The hook's own fault")
@pytest.mark.parametrize("series,nic", CELLS)
def test_second_fault_in_the_hook(series, nic, kernel_of, scratch):
    """The hook gives up, what has left is kept, and the machine reboots."""
    flags = ["--silent-after", "3s", "--seal-after", "4s"]
    with guest(scratch, kernel_of(series), nic, relay_flags=flags) as run:
        run.vm.sh("modprobe crasher dev=net0 die=none fault=600", check=True)
        run.vm.crash()
        run.vm.wait_reset()
        console = run.vm.console()
        assert "dumpcast: sending dump" in console
        assert re.search(r"RIP: .*dcast_sender_step", console), console[-3000:]
        assert "dumpcast: a second fault ends the dump; relays keep what they have" in console
        assert "dumpcast: dump sent" not in console
        for dump in run.wait_sealed(state="DUMP_STATE_INCOMPLETE"):
            assert int(dump["blocks_held"]) > 0
        assert "sysrq triggered crash" in run.log()


@pytest.mark.slow
@pytest.mark.parametrize("series", kernels.SERIES)
def test_watchdog_is_fed_until_the_dump_has_left(series, kernel_of, scratch):
    with guest(scratch, kernel_of(series), "virtio-net-pci", rate_mib_s=1,
               guest_modules=["lpc_ich", "i2c_i801", "iTCO_wdt"],
               devices=("-global", "ICH9-LPC.noreboot=off", "-action", "watchdog=reset")) as run:
        run.vm.sh("modprobe lpc_ich; modprobe i2c_i801; modprobe iTCO_wdt heartbeat=6; "
                  "watchdog -T 6 -t 1 /dev/watchdog; echo 0 >/proc/sys/kernel/panic", check=True)
        # Watchdogs are looked for every few seconds.
        wait_until(lambda: "watchdog0 is fed while a dump leaves" in run.vm.sh("dmesg")[1], 60,
                   "the module to find the watchdog", 1)
        run.vm.crash()
        run.wait_sealed()
        console = run.vm.console()
        assert words.dump_seconds(console) > 2 * 6, "the dump was too short to prove anything"
        # The policy is to stay; nobody feeds the watchdog then, and it does what it is for.
        run.vm.wait_reset()
        assert "end Kernel panic" in run.vm.console()
        assert any(event["event"] == "WATCHDOG" for event in run.vm.qmp.events)


@pytest.mark.slow
@pytest.mark.parametrize("timeout", (0, 7))
def test_machine_goes_back_to_its_own_policy(timeout, kernel_of, scratch):
    with guest(scratch, kernel_of("6.12"), "virtio-net-pci") as run:
        run.vm.sh(f"echo {timeout} >/proc/sys/kernel/panic", check=True)
        run.vm.crash()
        run.wait_sealed()
        run.vm.wait_console("dumpcast: dump sent")
        if timeout:
            run.vm.wait_reset()
            assert f"Rebooting in {timeout} seconds" in run.vm.console()
        else:
            run.vm.wait_console("end Kernel panic")
            assert run.vm.status() == "running"


@pytest.mark.slow
@pytest.mark.parametrize("series", kernels.SERIES)
def test_backtrace_of_every_processor(series, kernel_of, vmlinux_of, scratch):
    """Also of one that sat with interrupts off. Of an ELF, crash takes another processor's registers only
    when it finds the kernel's own NMI handler on its stack: docs/vmcore.md."""
    kernel = kernel_of(series)
    vmlinux = vmlinux_of(kernel)
    with guest(scratch, kernel, "virtio-net-pci") as run:
        run.vm.sh("modprobe crasher dev=net0 die=panic hold=rtnl", check=True)
        run.vm.shell.send("echo 1 >/sys/module/crasher/parameters/go")
        run.wait_sealed()
        run.vm.wait_reset()
        # 6.12 is newer than Debian 12's crash.
        said = tools.crash(vmlinux, run.fetch("kdump"), ["bt -a"], newer=series != "6.1")["bt -a"]
        print(said)
        dying, holding = re.split(r"(?m)^PID: ", said)[1:]
        assert "die_panic" in dying or "dier" in dying
        assert "crasher_stuck" in holding and "holder_run" in holding
