# SPDX-License-Identifier: Apache-2.0
"""Every way to die, and whatever another processor holds for ever: the dump leaves all the same.

tests/vm/crasher brings the guest down. Each cell: the dump is complete and committed within its
time limit, it equals the guest's memory, the registers are those of where each processor was, and
the machine goes back to the kernel's own policy.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import struct
from typing import Sequence

import pytest

from vmtest import build, judge, kernels, words
from vmtest.kernelmem import Notes
from vmtest.oracle import NT_PRSTATUS
from vmtest.scenario import Scenario
from vmtest.util import HarnessError, wait_until
from vmtest.vmcore import KdumpCore

NICS = ("virtio-net-pci", "e1000e")
COLUMNS = list(itertools.product(kernels.SERIES, NICS))
PRSTATUS_RIP = 112 + 16 * 8  # struct elf_prstatus: pr_reg, and rip in it (user_regs_struct)
BEGINS_S = 90  # watchdogs take their time
TIME_LIMIT_S = 120  # by the module's own clock; a dump that it ends would not be complete
GO = "echo 1 >/sys/module/crasher/parameters/go"
BUSY = "while :; do ls -lR /proc/sys >/dev/null; dumpcast-arm status >/dev/null; done"
EAT = ("echo 1 >/proc/sys/vm/panic_on_oom; mount -o remount,size=90% /tmp; "
       "dd if=/dev/zero of=/tmp/all bs=1M; tail /dev/zero")


@dataclasses.dataclass(frozen=True)
class Way:
    """crasher: its parameters, or none. before: commands; then `how` of Vm.crash, or a command."""

    name: str
    crasher: str
    says: str  # on the console, a regular expression
    before: Sequence[str] = ()
    how: str = GO

    def __str__(self) -> str:
        return self.name


def sysctl(**values: int) -> list[str]:
    return [f"echo {value} >/proc/sys/kernel/{name}" for name, value in values.items()]


NULL = "kernel NULL pointer dereference"
WAYS = (
    Way("sysrq-c", "", "sysrq triggered crash", how="sysrq"),
    Way("sysrq-c from the serial interrupt", "", "sysrq triggered crash", how="break"),
    Way("NULL in process context", "die=null", NULL),
    Way("NULL in a softirq timer", "die=null_softirq", NULL),
    Way("NULL in a hard interrupt", "die=null_hardirq", NULL),
    Way("panic in NMI", "die=nmi", "crasher: in NMI"),
    Way("NULL in NMI", "die=null_nmi", NULL),
    Way("unknown NMI", "", "NMI: Not continuing", how="nmi"),
    Way("BUG in a kthread", "die=bug", r"kernel BUG at .*die\.c"),
    Way("stack overflow", "die=stack_overflow", "stack guard page was hit"),
    Way("task stack with 2 KiB left", "die=stack_nearly_full", "crasher: asked for"),
    Way("double fault", "die=double_fault", "double fault|stack guard page"),
    Way("list corruption", "die=list", "list_del corruption"),
    Way("slab corruption", "die=slab", r"kernel BUG at mm/slub\.c"),
    Way("hung task", "die=hung_task", "hung_task: blocked tasks",
        sysctl(hung_task_panic=1, hung_task_timeout_secs=1)),
    Way("soft lockup", "die=soft_lockup", "softlockup: hung tasks",
        sysctl(watchdog_thresh=1, softlockup_panic=1)),
    Way("hard lockup (simulated: panic from NMI)", "die=hard_lockup", "hard lockup"),
    Way("out of memory", "", "[Oo]ut of memory", how=EAT),
)

NMI_PANICS = sysctl(unknown_nmi_panic=1)

# Where the road out itself is walked by who dies, by card.
DRIVER = {
    "transmit": {"virtio-net-pci": "virtio_net:start_xmit", "e1000e": "e1000e:e1000_xmit_frame"},
    "poll": {"virtio-net-pci": "virtio_net:virtnet_poll", "e1000e": "e1000e:e1000e_poll"},
    "interrupt": {"virtio-net-pci": "virtio_net:skb_recv_done",
                  "e1000e": "e1000e:e1000_intr_msix_rx"},
}

# What the other processor holds. Those with an allocator's lock allow no replies; a list of pages
# may be that processor's own, which nobody else waits for. virtio_net has no lock of its own that
# a living card takes.
HELD = ("irqs_off", "tx", "frozen", "napi", "rtnl", "slab", "zones", "page_list", "console",
        "printk", "log_record", "uart", "rcu", "timer", "run_queue", "driver")
SILENT = ("slab", "zones")
# Interrupts go to the other processor, where frames of the relays' come in.
RECEIVE = ["for irq in /proc/irq/*/smp_affinity; do echo 2 >$irq; done; true"]
OWN = ("tx", "frozen", "napi", "zones", "rtnl", "console")

DEFAULT = {
    ("6.1", "virtio-net-pci"): ("NULL in a hard interrupt", "soft lockup", "poll", "slab", "rcu"),
    ("6.12", "e1000e"): ("stack overflow", "double fault", "transmit", "driver", "timer"),
    ("6.12", "virtio-net-pci"): ("panic in NMI", "slab corruption", "task stack with 2 KiB left",
                                 "zones", "page_list"),
    ("6.1", "e1000e"): ("NULL in NMI", "out of memory", "interrupt", "tx", "log_record"),
}


def cells(values: Sequence) -> list:
    return [pytest.param(series, nic, value, id=f"{series}-{nic}-{value}",
                         marks=[] if str(value) in DEFAULT[series, nic] else [pytest.mark.slow])
            for value in values for series, nic in COLUMNS]


@dataclasses.dataclass
class Crashed:
    """A guest that came to its end, and what there is of it."""

    run: Scenario
    core: KdumpCore
    by_nmi: bool

    def said(self) -> words.Report:
        return self.run.report()

    def where(self, cpu: int) -> str:
        """The symbol that a processor's saved program counter is in."""
        notes = [content for owner, kind, content in self.core.notes
                 if owner == "CORE" and kind == NT_PRSTATUS]
        rip = struct.unpack_from("<Q", notes[cpu], PRSTATUS_RIP)[0]
        return self.run.notes.symbol_at(rip)


def processors_are_in(run: Scenario) -> str:
    """Functions that each processor's stack names, old ones included."""
    text = (0xffffffff80000000, 0xffffffffff000000)
    return "; ".join(f"processor {cpu}: " + " ".join(
        run.notes.symbol_at(word) for word in stack if text[0] <= word < text[1])
        for cpu, stack in enumerate(run.vm.stacks()))


def wait_begun(run: Scenario, within_s: float) -> None:
    # Not the console: it may be what is stuck.
    wait_until(lambda: run.show(0), within_s,
               lambda: f"a dump to begin\n{run.words()}\n{processors_are_in(run)}", 0.5)


def crash(run: Scenario, parameters: str, way: Way, by_nmi_after_s: float | None = None) -> Crashed:
    """by_nmi_after_s: for who may wait for a lock of its own before the kernel panics. It gets an NMI then, as a
    watchdog or a management controller sends one; that panics only who has not panicked yet."""
    by_nmi = False
    if parameters:
        run.vm.sh(f"modprobe crasher dev=net0 {parameters}", check=True)
    for command in way.before:
        run.vm.sh(command, check=True)
    run.notes = Notes.take(run.vm)
    if way.how in ("sysrq", "break", "nmi"):
        run.vm.crash(way.how)
    else:
        run.vm.shell.send(way.how)
    try:
        wait_begun(run, by_nmi_after_s or BEGINS_S)
    except HarnessError:
        by_nmi = by_nmi_after_s is not None and any(
            run.notes.symbol_at(stack[0]).endswith("spin_lock_slowpath") for stack in run.vm.stacks())
        if not by_nmi:
            raise
        print(processors_are_in(run))
        run.vm.nmi()
        wait_begun(run, BEGINS_S)
    dumps = run.wait_sealed()
    # Who waits for its own lock may do so again before it resets, and write nothing on the console.
    (run.vm.pause if by_nmi else run.vm.wait_reset)()
    print(run.summary())
    for dump in dumps:
        assert dump["blocks_held"] == dump["blocks_expected"] != "0"
    core, _ = judge.dump_equals_memory(run)
    assert re.search(way.says, run.log())
    return Crashed(run, core, by_nmi)


def guest(scratch, kernel, nic, snapshots) -> Scenario:
    return Scenario(scratch, kernel, [nic], 2, relay_count=2, time_limit_s=TIME_LIMIT_S,
                    guest_kmods=[build.crasher(kernel)], snapshots=snapshots)


@pytest.mark.matrix("Ways to die")
@pytest.mark.parametrize("series,nic,way", cells(WAYS))
def test_way_to_die(series, nic, way, kernel_of, scratch, snapshots, record_property):
    with guest(scratch, kernel_of(series), nic, snapshots) as run:
        check_answered(crash(run, way.crasher, way), record_property)


@pytest.mark.matrix("Ways to die")
@pytest.mark.parametrize("series,nic,place", cells(tuple(DRIVER)))
def test_panic_in_the_driver(series, nic, place, kernel_of, scratch, snapshots, record_property):
    """A timer would call the driver anyway: frames of the relays' heartbeats come in, and leave."""
    way = Way(place, "", "crasher: asked for")
    with guest(scratch, kernel_of(series), nic, snapshots) as run:
        check_answered(crash(run, f"die=panic at={DRIVER[place][nic]}", way), record_property)


@pytest.mark.matrix("Held for ever by another processor")
@pytest.mark.parametrize("series,nic,what", [
    cell for cell in cells(HELD) if cell.values[1:] != ("virtio-net-pci", "driver")])
def test_held_by_another(series, nic, what, kernel_of, scratch, snapshots, record_property):
    # panic() itself writes a backtrace, for which it would wait for printk's own lock.
    die = "null" if what == "printk" else "panic"
    way = Way(what, "", NULL if die == "null" else "crasher: asked for")
    with guest(scratch, kernel_of(series), nic, snapshots) as run:
        crashed = crash(run, f"die={die} hold={what}", way)
        check_held(crashed, what, record_property)
        assert crashed.where(1).startswith("crasher_stuck"), crashed.where(1)


@pytest.mark.slow
@pytest.mark.matrix("Held for ever by another processor")
@pytest.mark.parametrize("series,nic", list(itertools.product(kernels.SERIES, ("vmxnet3", "rtl8139"))))
def test_lock_of_the_transmit_function(series, nic, kernel_of, scratch, snapshots, record_property):
    """It would be waited for without end: the card is left alone, and the other one brings all."""
    kernel = kernel_of(series)
    with Scenario(scratch, kernel, [nic, "virtio-net-pci"], 2, relay_count=2,
                  time_limit_s=TIME_LIMIT_S, guest_kmods=[build.crasher(kernel)], snapshots=snapshots) as run:
        crashed = crash(run, "die=panic hold=driver_tx", Way("driver_tx", "", "crasher: asked for"))
        assert crashed.where(1).startswith("crasher_stuck"), crashed.where(1)
        said = crashed.said()
        # Who sent has just allocated, and its stack may still say so.
        silent = "an allocator's lock is held" in run.vm.console()
        (check_silent if silent else check_committed)(said)
        barred = "path net0: net0 is not used: a processor was stopped while it sent" in run.summary()
        assert barred == (said.packets["net0"] == 0)
        assert said.packets["net1"] > 0
        record_property("cell", "its card is not used" if barred else "by another queue of its card")


@pytest.mark.slow
@pytest.mark.matrix("Held for ever by another processor")
@pytest.mark.parametrize("series,nic", list(itertools.product(kernels.SERIES, ("rtl8139",))))
def test_no_path_is_left(series, nic, kernel_of, scratch, snapshots):
    """Its only card is left alone: no dump, and the machine goes back to its policy at once."""
    with guest(scratch, kernel_of(series), nic, snapshots) as run:
        run.vm.sh("modprobe crasher dev=net0 die=panic hold=driver_tx", check=True)
        run.vm.shell.send(GO)
        run.vm.wait_reset()
        assert "dumpcast: no dump: no path can be used" in run.vm.console()


@pytest.mark.slow
@pytest.mark.matrix("Held for ever by another processor")
@pytest.mark.parametrize("series,nic,what", [
    (series, nic, f"{what} without notes")
    for what in ("irqs_off", "slab", "rtnl") for series, nic in COLUMNS])
def test_held_without_notes(series, nic, what, kernel_of, scratch, snapshots, record_property):
    """crash_kexec_post_notifiers is 0: processors are stopped as in a reboot, and leave no registers."""
    what = what.partition(" ")[0]
    with guest(scratch, kernel_of(series), nic, snapshots) as run:
        way = Way(what, "", "crasher: asked for",
                  ["echo 0 >/sys/module/kernel/parameters/crash_kexec_post_notifiers"])
        crashed = crash(run, f"die=panic hold={what}", way)
        said = crashed.said()
        check_reached(said, record_property)
        assert what != "slab" or not said.committed


@pytest.mark.matrix("Held for ever by another processor")
@pytest.mark.parametrize("series,nic,what", cells(("receive",)))
def test_stopped_while_receiving(series, nic, what, kernel_of, scratch, snapshots, record_property):
    """Its poll function must not be entered again before all was sent: e1000e's faults then."""
    way = Way(what, "", "crasher: asked for", RECEIVE)
    with guest(scratch, kernel_of(series), nic, snapshots) as run:
        crashed = crash(run, f"die=panic hold={what}", way)
        assert crashed.where(1).startswith("crasher_stuck"), crashed.where(1)
        check_unanswered_first(run, record_property)


@pytest.mark.matrix("Ways to die")
@pytest.mark.parametrize("series,nic,place", cells(("receive",)))
def test_die_while_receiving(series, nic, place, kernel_of, scratch, snapshots, record_property):
    with guest(scratch, kernel_of(series), nic, snapshots) as run:
        crash(run, "die=panic at=napi_gro_receive", Way(place, "", "crasher: asked for"))
        check_unanswered_first(run, record_property)


def check_unanswered_first(run: Scenario, record) -> None:
    console = run.vm.console()
    assert "path net0: a processor was stopped while it received" in console
    if "a second fault ends the dump" not in console:
        check_reached(run.report(), record)


@pytest.mark.matrix("Held by the processor that dies")
@pytest.mark.parametrize("series,nic,what", cells(OWN))
def test_held_by_itself(series, nic, what, kernel_of, scratch, snapshots, record_property):
    with guest(scratch, kernel_of(series), nic, snapshots) as run:
        check_held(crash(run, f"die=panic hold={what} own=1",
                         Way(what, "", "crasher: asked for")), what, record_property)


@pytest.mark.slow
@pytest.mark.matrix("Held by the processor that dies")
@pytest.mark.parametrize("series,nic,unlock,after", [
    (series, nic, unlock, after)
    for unlock in ("_raw_spin_unlock", "_raw_spin_unlock_irq", "_raw_spin_unlock_irqrestore")
    for after in (0, 30, 1000) for series, nic in COLUMNS])
def test_at_an_unlock(series, nic, unlock, after, kernel_of, scratch, snapshots, record_property):
    """A spinlock of anybody's: the one that is given back after so many others."""
    way = Way(unlock, "", f"{NULL}|NMI: Not continuing", NMI_PANICS, how=f"{GO}; {BUSY}")
    with guest(scratch, kernel_of(series), nic, snapshots) as run:
        crashed = crash(run, f"die=null at={unlock} after={after}", way, by_nmi_after_s=BEGINS_S)
        if crashed.by_nmi:  # as below: nobody knows which lock it is
            record_property("cell", "by an NMI")
        else:
            check_reached(crashed.said(), record_property)


@pytest.mark.slow
@pytest.mark.matrix("Held by the processor that dies")
@pytest.mark.parametrize("series,nic", COLUMNS)
def test_lock_that_an_oops_wants(series, nic, kernel_of, scratch, snapshots, record_property):
    """The console's semaphore's own: the oops waits for it before there is a panic. An NMI ends that."""
    way = Way("console_sem", "", "NMI: Not continuing", NMI_PANICS)
    with guest(scratch, kernel_of(series), nic, snapshots) as run:
        crashed = crash(run, "die=null hold=console_sem own=1", way, by_nmi_after_s=10)
        assert crashed.by_nmi
        record_property("cell", "by an NMI")


def check_answered(crashed: Crashed, record) -> None:
    """Committed; but the other processor was stopped anywhere, also with an allocator's lock."""
    said = crashed.said()
    assert 0 < said.stack < words.STACK_BYTES * 3 // 4, said
    if "an allocator's lock is held" in crashed.run.vm.console():
        record("cell", f"{said.stack} bytes of stack, no replies read")
        check_silent(said)
    else:
        record("cell", f"{said.stack} bytes of stack")
        check_committed(said)


def check_reached(said: words.Report, record) -> None:
    """The same of what a processor holds: any may have been stopped with an allocator's lock, too."""
    record("cell", "no replies read" if said.silent else "")
    (check_silent if said.silent else check_committed)(said)


def check_committed(said: words.Report) -> None:
    assert said.committed and said.relays_done == 2


def check_silent(said: words.Report) -> None:
    """Receiving would refill the card's ring with that lock, and never come back."""
    assert said.ours["net0"] == 0 and not said.committed


def check_held(crashed: Crashed, what: str, record) -> None:
    if what == "log_record" and crashed.run.kernel.series == "6.1":
        # The console's reader stops there, too; what was dumped of the log does not.
        assert "crasher: asked for" not in crashed.run.vm.console()
        return
    said = crashed.said()
    if what in SILENT:
        check_silent(said)
    elif what == "page_list":
        assert said.committed == (said.ours["net0"] > 0)
    else:
        check_reached(said, record)
    broken = "its lock was broken" in crashed.run.summary()
    assert broken == (what in ("tx", "frozen"))
