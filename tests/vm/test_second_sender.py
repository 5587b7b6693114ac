# SPDX-License-Identifier: Apache-2.0
"""A crash kernel as the second sender: `dumpcast-send --kdump` finishes the dump of the first.

tests/vm/crasher stops the first sender half way, or has its code fault there.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
from typing import Iterator

import pytest

from vmtest import build, judge, oracle, tools, words
from vmtest.guest import Guest
from vmtest.kernels import Kernel
from vmtest.memory import PAGE
from vmtest.scenario import HOST_KEY_PATH, Scenario
from vmtest.util import REPO, HarnessError
from vmtest.vmcore import open_vmcore

KEXEC = pathlib.Path("/sbin/kexec")
MEMORY_MIB, RESERVED_MIB = 800, 256
LOW_PAGES = (1 << 20) // PAGE  # the crash kernel uses the first MiB, too
# The first kernel leaves its memory alone when it has ended; its cards go on until the second
# kernel's drivers reset them, and the oracle knows a ring only by what it points at.
RING_BYTES = 512
# And starting the second kernel is work of the first, and of the task that panicked, which may
# lie in a part of bss that was given to the allocators at boot.
MAY_DIFFER = (*judge.MAY_DIFFER, r"(data|bss): .*(kexec|vmcoreinfo|ftrace_enabled)",
              r"slab task_struct")
# Or of an oops, when the first sender faults.
OOPS = r"(data|bss): .*(global_trace|tainted_mask|oops_in_progress)"
UNHEARD = "time_limit_s = 4\nlinger_ms = 1000"  # nobody will answer the first sender
HALF_WAY = {
    "stopped half way": ("stop=50", "crasher: the sender is stopped at block", "the first kernel gave up"),
    "faults half way": ("fault=600", "dumpcast: a second fault ends the dump",
                        "the first kernel was cut off in it"),
}
# QEMU 7.2 ends with this assertion (!msix_enabled) now and then while the second kernel's driver begins: it
# seems that its timer for interrupts without MSI-X has not run out when MSI-X is turned on.
QEMU_FAULT = "e1000e_core.c:143:"
TRIES = 4
SECOND = "DUMPCAST_LINGER=8 dumpcast-kdump"  # packaging/kdump


@contextlib.contextmanager
def armed(kernel: Kernel, scratch: pathlib.Path, nic: str, *, relays: int = 1,
          extra: str = "", identity: pathlib.Path | None = None) -> Iterator[Scenario]:
    """An armed guest with a crash kernel loaded, whose initramfs has a second sender and the key."""
    scratch.mkdir(exist_ok=True)
    image = Guest(kernel, binaries={"/bin/dumpcast-send": build.binary("dumpcast-send")},
                  files={"/bin/dumpcast-kdump": REPO / "packaging/kdump/dumpcast-kdump",
                         "/etc/dumpcast/README": "keys\n"}).build(scratch / "kdump.img")
    with Scenario(scratch, kernel, [nic], 2, memory_mib=MEMORY_MIB, relay_count=relays,
                  arm_extra=extra, identity=identity, guest_kmods=[build.crasher(kernel)], cmdline=f"crashkernel={RESERVED_MIB}M",
                  guest_binaries={"/sbin/kexec": KEXEC},
                  guest_files={"/boot/vmlinuz": kernel.vmlinuz, "/boot/kdump.img": image}) as run:
        # The key is made with the relays, so it comes as a second archive.
        run.vm.sh(f"cd / && echo {HOST_KEY_PATH[1:]} | cpio -o -H newc >/tmp/key.cpio && "
                  "cat /boot/kdump.img /tmp/key.cpio >/tmp/initrd", check=True)
        same = run.vm.sh("cat /proc/cmdline", check=True)[1].replace(f"crashkernel={RESERVED_MIB}M", "")
        run.vm.sh("kexec -s -p /boot/vmlinuz --initrd=/tmp/initrd "
                  f"--append='{same.strip()} maxcpus=1 panic=0 reset_devices'", timeout_s=180,
                  check=True)
        run.vm.sh("rm /tmp/initrd /tmp/key.cpio /boot/kdump.img /boot/vmlinuz", check=True)
        yield run


def die(run: Scenario) -> words.Report:
    """Panics the guest; the first sender's report, once the crash kernel has its shell."""
    run.crash()
    run.vm.wait_console("dumpcast: dump sent", timeout_s=300)
    run.vm.wait_shell(300)
    return words.report(run.vm.console())


def die_half_way(run: Scenario, how: str) -> tuple[int, str]:
    """Panics the guest, and its first sender comes to an early end; how many blocks relay 0 holds
    once the crash kernel has its shell, and why, as the second sender will tell it."""
    crasher, says, because = HALF_WAY[how]
    run.vm.sh(f"modprobe crasher dev=net0 die=none {crasher}", check=True)
    run.crash()
    run.vm.wait_console(says, timeout_s=300)
    run.vm.wait_shell(300)
    held = int(run.show()["blocks_held"])
    assert held > 0
    return held, because


def second(run: Scenario, more: str = "") -> tuple[int, str]:
    code, said = run.vm.sh(f"{SECOND} {more}", timeout_s=600)
    print(said)
    return code, said


def first_id(run: Scenario) -> str:
    return re.search(r"dumpcast: sending dump ([0-9a-f]{32})", run.vm.console())[1]


def dump_equals_first_memory(run: Scenario) -> None:
    """Every page that the crash kernel has left alone. The guest stands still afterwards."""
    elf, kdump = open_vmcore(run.fetch("elf")), open_vmcore(run.fetch("kdump"))
    assert not kdump.incomplete
    run.vm.pause()
    memory = run.memory()
    start, end = re.search(r"([0-9a-f]+)-([0-9a-f]+) : Crash kernel", run.notes.iomem).groups()
    reserved = range(int(start, 16) // PAGE, int(end, 16) // PAGE + 1)

    def first(findings):
        return [item for item in findings if item.pfn >= LOW_PAGES and item.pfn not in reserved]
    for core, presence in ((kdump, None), (elf, kdump)):
        report = oracle.compare(core, memory, run.level, presence)
        report.unexcused, report.late = first(report.unexcused), first(report.late)
        report.differing = first(report.differing)
        print(f"{run.kernel.series} {run.nics} {type(core).__name__}\n{report}")
        assert not report.unexcused and not report.secrets, report
        assert len(report.late) <= judge.LATE, report
        unexplained = report.unexplained((*MAY_DIFFER, OOPS), judge.FEW, RING_BYTES)
        assert not unexplained, "\n".join(map(str, unexplained))
        assert report.equal > 1000, report
        assert not report.not_excluded, report


@pytest.mark.matrix("A crash kernel finishes the dump")
@pytest.mark.parametrize("first", [
    "stopped half way", pytest.param("faults half way", marks=pytest.mark.slow)])
@pytest.mark.parametrize("series,nic", [
    ("6.1", "virtio-net-pci"),
    pytest.param("6.12", "virtio-net-pci", marks=pytest.mark.slow),
    pytest.param("6.1", "e1000e", marks=pytest.mark.slow),
    pytest.param("6.12", "e1000e", marks=pytest.mark.slow)])
def test_what_the_first_sender_could_not_send(series, nic, first, kernel_of, scratch, record_property):
    for left in reversed(range(TRIES)):
        try:
            with armed(kernel_of(series), scratch / f"{left}", nic) as run:
                second_finishes(run, first, record_property)
            return
        except HarnessError as error:
            if QEMU_FAULT not in str(error) or not left:
                raise
            print(f"{error}\nonce more")


def second_finishes(run: Scenario, first: str, record) -> None:
    held, because = die_half_way(run, first)
    code, said = second(run)
    assert code == 0, said
    assert f"{because}: sending what relays miss" in said
    sent = int(re.search(r"sent in .*: (\d+) blocks", said)[1])
    dump = run.wait_sealed()[0]
    expected = int(dump["blocks_expected"])
    assert dump["blocks_held"] == str(expected)
    assert 0 < sent < expected and held < expected, "it sends what is missing, not all"
    assert run.dump_id() == first_id(run)
    assert len([dump for dump in run.client.dumps() if not dump["test"]]) == 1
    log = run.log()
    assert "Kernel panic - not syncing: sysrq triggered crash" in log
    record("cell", f"{held} of {expected} blocks, then all")
    dump_equals_first_memory(run)


@pytest.mark.slow
def test_an_encrypted_dump_is_finished_under_its_keys(kernel_of, scratch):
    """Which the second sender reads from the memory of the first kernel."""
    with armed(kernel_of("6.1"), scratch, "virtio-net-pci", identity=scratch / "identity") as run:
        held, because = die_half_way(run, "stopped half way")
        code, said = second(run)
        assert code == 0 and f"{because}: sending what relays miss" in said, said
        dump = run.wait_sealed()[0]
        assert dump["encrypted"] and held < int(dump["blocks_expected"])
        assert run.dump_id() == first_id(run)
        assert "sysrq triggered crash" in run.log()
        dump_equals_first_memory(run)


@pytest.mark.slow
def test_debuggers_open_what_two_senders_sent(kernel_of, scratch, vmlinux_of):
    kernel = kernel_of("6.1")
    vmlinux = vmlinux_of(kernel)
    with armed(kernel, scratch, "virtio-net-pci") as run:
        die_half_way(run, "stopped half way")
        run.wait_sealed(state="DUMP_STATE_INCOMPLETE")  # a crash kernel may take its time
        assert second(run)[0] == 0
        run.wait_sealed()
        for form in ("elf", "kdump"):
            said = tools.crash(vmlinux, run.fetch(form), ["bt", "ps", "log"])
            assert "sysrq_handle_crash" in said["bt"], form
            assert "swapper/1" in said["ps"], form
            assert "sysrq triggered crash" in said["log"], form


@pytest.mark.slow
def test_nothing_to_do_when_the_first_sender_was_done(kernel_of, scratch):
    with armed(kernel_of("6.1"), scratch, "virtio-net-pci") as run:
        assert die(run).committed
        run.wait_sealed()
        run.vm.sh("ip link set dev net0 down", check=True)  # it needs no network for that
        code, said = second(run)
        assert (code, "relays have it all: nothing to do" in said) == (0, True)
        assert first_id(run) in said


@pytest.mark.slow
def test_all_of_it_when_the_first_sender_had_no_network(kernel_of, scratch):
    with armed(kernel_of("6.1"), scratch, "virtio-net-pci", relays=2, extra=UNHEARD) as run:
        run.vm.set_link(0, up=False)
        run.crash()
        run.vm.wait_console("dumpcast: dump sent", timeout_s=300)
        assert run.show() is None
        run.vm.set_link(0, up=True)
        run.vm.wait_shell(300)
        assert second(run)[0] == 0
        run.wait_sealed()
        assert run.dump_id() == first_id(run)
        dump_equals_first_memory(run)


@pytest.mark.slow
def test_all_of_it_when_the_hook_never_ran(kernel_of, scratch):
    """kdump ahead of our hook, as it is when nobody set crash_kexec_post_notifiers."""
    with armed(kernel_of("6.1"), scratch, "virtio-net-pci") as run:
        run.vm.sh("echo 0 >/sys/module/kernel/parameters/crash_kexec_post_notifiers", check=True)
        armed_id = re.search(r"dump_id=([0-9a-f]{32})",
                             run.vm.sh("cat /sys/kernel/config/dumpcast/status", check=True)[1])[1]
        run.crash()
        run.vm.wait_shell(300)
        assert not words.began(run.vm.console())
        run.vm.sh("echo the log of the crashed kernel >/tmp/dmesg", check=True)
        code, said = second(run, "--log-file /tmp/dmesg")
        assert code == 0
        assert "the first kernel did not begin it: sending all" in said
        run.wait_sealed()
        assert run.dump_id() == armed_id
        assert "Kernel panic - not syncing: sysrq triggered crash" in run.log()
        dump_equals_first_memory(run)


@pytest.mark.slow
def test_kdump_goes_on_when_no_relay_answers(kernel_of, scratch):
    with armed(kernel_of("6.1"), scratch, "virtio-net-pci", extra=UNHEARD) as run:
        for relay in run.relays:
            relay.kill()
        assert not die(run).committed
        code, said = second(run)
        assert code == 1, said
        assert "too few relays committed" in said
        # Who armed with another key, or not at all, is told so, and kdump goes on as well.
        run.vm.sh("sed 's/[0-9a-f]$/0/; s/00$/01/' /etc/dumpcast/cluster.key >/tmp/key && "
                  "chmod 600 /tmp/key", check=True)
        code, said = second(run, "--key-file /tmp/key")
        assert (code, "its MAC does not match the key file" in said) == (3, True)
