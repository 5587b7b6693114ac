# SPDX-License-Identifier: Apache-2.0
"""The harness itself: that it boots, crashes and reads real kernels, and that the oracle bites."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import signal
import struct
import subprocess
import sys

import pytest

from vmtest import kernelmem, kernels, net, oracle, tools, util, vmcore
from vmtest.guest import Guest
from vmtest.memory import PAGE, MemoryImage
from vmtest.net import Loss, Net
from vmtest.qemu import Vm

LEVEL = 31


@dataclasses.dataclass
class Crashed:
    """A guest that panicked, as its hypervisor remembers it."""

    series: str
    console: str
    status: str
    image: MemoryImage
    memory: kernelmem.KernelMemory
    elf: pathlib.Path


# For what only tools of Debian 12 can judge: they know kernels up to 6.1.
only_6_1 = pytest.mark.parametrize("crashed", ["6.1"], indirect=True)


@pytest.fixture(scope="module")
def crashes(kernel_of):
    """Series -> Crashed; each kernel is booted and crashed once, whichever tests run."""
    with contextlib.ExitStack() as stack:
        made: dict[str, Crashed] = {}

        def crash(series: str) -> Crashed:
            if series not in made:
                made[series] = stack.enter_context(crash_once(series, kernel_of(series)))
            return made[series]

        yield crash


@pytest.fixture(params=kernels.SERIES)
def crashed(request, crashes):
    return crashes(request.param)


@contextlib.contextmanager
def crash_once(series: str, kernel: kernels.Kernel):
    """Boots, uses both networks and some memory, panics, and keeps the memory."""
    with util.scratch_dir() as folder, Net(relays=1) as network:
        initramfs = Guest(kernel, files={"/srv/hello": "hello\n"}).build(folder / "initramfs")
        with Vm(kernel, initramfs, folder / "vm", network, ["virtio-net-pci", "e1000e"], cpus=2,
                cmdline="panic=1") as vm:
            assert vm.sh("uname -r") == (0, kernel.release + "\n")
            assert vm.sh("cat /srv/hello; echo oops >&2; exit 3") == (3, "hello\noops\n")
            for bridge in range(2):
                vm.sh(f"ping -c 1 -W 10 {network.relay_address(0, bridge)}", check=True)
                vm.sh(f"ping -c 1 -W 10 {network.relay_address(0, bridge, v6=True)}", check=True)
            # Something for each class of page: page cache, process memory.
            vm.sh("dd if=/dev/urandom of=/tmp/cached bs=1M count=8", check=True)
            vm.sh("(text=$(head -c 200000 /dev/urandom | base64); sleep 1000) >/dev/null & sleep 2",
                  check=True)
            notes = kernelmem.Notes.take(vm)
            vm.crash()
            vm.wait_console("Kernel panic - not syncing: sysrq triggered crash")
            vm.wait_reset()
            image = vm.save_memory(folder / "memory")
            elf = vm.dump_elf(folder / "core.elf")
            yield Crashed(series, vm.console(), vm.status(), image,
                          kernelmem.KernelMemory(image, notes), elf)
            image.close()


def test_memory_outlives_the_reset(crashed):
    assert crashed.status == "shutdown"
    assert list(crashed.image.find(b"sysrq triggered crash"))
    banner = crashed.memory.translate(crashed.memory.symbols["linux_banner"])
    assert crashed.image.read(banner, 15) == b"Linux version 6"
    assert crashed.memory.kernel_section(banner // PAGE) == "rodata"
    assert "linux_banner" in crashed.memory.describe(banner // PAGE)


def test_modules_are_found_through_the_page_tables(crashed):
    pages = crashed.memory.pages_of("module e1000e")
    assert pages
    assert any(b"Intel(R) PRO/1000 Network Driver" in crashed.image.page(pfn) for pfn in pages)


def test_page_classes_agree_with_makedumpfile(crashed):
    """Two implementations, one guest. Pages outside the kernel's RAM only makedumpfile counts."""
    ours = oracle.expected_counts(crashed.memory, LEVEL)
    theirs = tools.makedumpfile(crashed.elf, LEVEL).counts
    assert theirs["cache"] == ours["cache"] > 8 << 20 >> 12
    assert theirs["cache-private"] == ours.get("cache-private", 0)
    assert theirs["free"] == ours["free"] > 0
    if crashed.series == "6.1":
        assert theirs["user"] == ours["user"] > 0
        outside = sum(theirs[name] - ours[name] for name in ("zero", "remaining"))
        whole = sum(size for size in (item.size for item in crashed.image.ranges)) // PAGE
        assert 0 <= outside <= crashed.image.ranges[-1].start // PAGE + whole - len(
            crashed.memory.classes)
    else:
        # 1.7.2 takes slab pages of 6.12 for anonymous ones: PG_slab is a page type by then.
        assert theirs["user"] >= ours["user"] > 0


@only_6_1
def test_oracle_passes_makedumpfiles_own_file(crashed):
    filtered = tools.makedumpfile(crashed.elf, LEVEL)
    report = oracle.compare(vmcore.open_vmcore(filtered.path), crashed.memory, LEVEL)
    assert not report.differing and not report.unexcused, report
    assert not report.not_excluded, report
    assert report.equal > 1000 and report.missing["free"] + report.missing["zero"] > 1000, report


class Damaged(vmcore.Vmcore):
    """A core with one page changed and one missing."""

    def __init__(self, core: vmcore.Vmcore, changed: int, gone: int) -> None:
        self.core, self.changed, self.gone = core, changed, gone
        self.notes = core.notes

    def page(self, pfn):
        page = self.core.page(pfn)
        if pfn == self.gone:
            return None
        return b"\xff" + page[1:] if pfn == self.changed else page

    def pfns(self):
        return (pfn for pfn in self.core.pfns() if pfn != self.gone)


def test_oracle_finds_a_changed_page_and_a_missing_one(crashed):
    whole = vmcore.open_vmcore(crashed.elf)
    symbols = crashed.memory.symbols
    changed = crashed.memory.translate(symbols["linux_banner"]) // PAGE
    gone = crashed.memory.translate(symbols["init_task"]) // PAGE
    report = oracle.compare(Damaged(whole, changed, gone), crashed.memory, LEVEL)
    assert [finding.pfn for finding in report.differing] == [changed]
    assert [finding.pfn for finding in report.unexcused] == [gone]
    assert report.unexplained([".*"], few=16, small=PAGE), "rodata must never be explained away"


def test_oracle_knows_a_used_ring():
    def page(index: int, *entries: tuple[int, int]) -> bytes:
        ring = struct.pack("<HH", 0, index) + b"".join(struct.pack("<II", *entry) for entry in entries)
        return (bytes(0x240) + ring).ljust(oracle.PAGE, b"\0")

    def known(got: bytes, want: bytes) -> bool:
        return oracle.used_ring(got, want, [at for at in range(oracle.PAGE) if got[at] != want[at]])
    before = page(29, (0, 0x66), (1, 0xca))
    assert known(before, page(267, (0x19, 0xfe), (0x17, 0x9e), (0x16, 0x4fe)))
    assert not known(before, page(29, (0x19, 0xfe))), "the index did not move"
    assert not known(before, page(30)[:0x248] + struct.pack("<Q", 0xffff888001234000).ljust(oracle.PAGE - 0x248, b"\0"))
    assert not known(before, b"\1" + page(30, (2, 0x66))[1:])


@only_6_1
def test_dmesg_of_makedumpfile_shows_the_panic(crashed):
    assert "sysrq triggered crash" in tools.dump_dmesg(crashed.elf)


@only_6_1
def test_crash_and_drgn_open_what_was_saved(crashed, kernel_of, vmlinux_of):
    vmlinux = vmlinux_of(kernel_of("6.1"))
    filtered = tools.makedumpfile(crashed.elf, LEVEL).path
    said = tools.crash(vmlinux, filtered, ["bt", "log"])
    assert "sysrq_handle_crash" in said["bt"]
    assert "sysrq triggered crash" in said["log"]
    count = tools.drgn(vmlinux, filtered, "from drgn.helpers.linux.pid import for_each_task\n"
                                          "print(sum(1 for _ in for_each_task(prog)))\n")
    assert int(count) > 20


@pytest.mark.parametrize("how", ["break", "nmi"])
def test_panics_from_an_interrupt(how, kernel_of, scratch):
    kernel = kernel_of("6.1")
    initramfs = Guest(kernel).build(scratch / "initramfs")
    with Vm(kernel, initramfs, scratch / "vm", cmdline="panic=1") as vm:
        vm.crash(how)
        vm.wait_console("Kernel panic - not syncing: (sysrq triggered crash|NMI: Not continuing)")
        vm.wait_reset()


@pytest.mark.slow
def test_memory_above_the_hole_is_saved(kernel_of, scratch):
    kernel = kernel_of("6.1")
    initramfs = Guest(kernel).build(scratch / "initramfs")
    with Vm(kernel, initramfs, scratch / "vm", memory_mib=3072) as vm:
        notes = kernelmem.Notes.take(vm)
        vm.pause()
        image = vm.save_memory(scratch / "memory")
        assert image.ranges[-1].start == 1 << 32
        memory = kernelmem.KernelMemory(image, notes)
        assert max(memory.classes) > (1 << 32) // PAGE
        assert memory.read(memory.symbols["linux_banner"], 13) == b"Linux version"
        image.close()


def namespaces(prefix: str) -> list[str]:
    names = [line.split()[0] for line in util.run(["ip", "netns", "list"]).stdout.splitlines()]
    return [name for name in names if name.startswith(prefix)]


def test_network_is_removed_after_an_exception():
    with pytest.raises(RuntimeError):
        with Net() as network:
            prefix = network.prefix
            assert len(namespaces(prefix)) == 5
            raise RuntimeError("a test failed")
    assert namespaces(prefix) == []


CHILD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from vmtest import net, util
util.exit_on_signals()
with net.Net(relays=1) as network:
    print(network.prefix, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_network_of_a_killed_test_is_removed(number):
    with subprocess.Popen([sys.executable, "-c", CHILD, str(pathlib.Path(__file__).parent)],
                          stdout=subprocess.PIPE, text=True) as child:
        prefix = child.stdout.readline().strip()
        assert len(namespaces(prefix)) == 3
        child.send_signal(number)
        child.wait(60)
    if number == signal.SIGKILL:
        assert len(namespaces(prefix)) == 3, "nobody could have removed it yet"
        net.sweep()
    assert namespaces(prefix) == []


def blast(network: Net, count: int) -> None:
    """Sends datagrams from relay 1 to the wire port of relay 0, over bridge 0."""
    program = ("import socket,sys\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
               f"[s.sendto(b'x', (sys.argv[1], {net.WIRE_PORT})) for _ in range({count})]\n")
    network.run_in(network.relay_ns(1), [sys.executable, "-c", program, network.relay_address(0)])


def test_loss_rules_lose_what_they_say():
    with Net(bridges=1, relays=2) as network:
        blast(network, 100)
        assert network.dropped(0) == 0
        network.set_loss(Loss(percent=100), relays=[0])
        blast(network, 100)
        assert network.dropped(0) == 100
        network.set_loss(Loss(burst_packets=10, burst_every=100), relays=[0])
        blast(network, 1000)
        assert network.dropped(0) == 100
        network.set_loss(Loss(percent=20), relays=[0])
        blast(network, 10000)
        assert 1000 < network.dropped(0) < 3000
        network.set_loss(Loss())
        network.drop_replies(True, relays=[1])
        blast(network, 10)
        assert network.dropped(1) == 10


def test_interrupted_fetch_leaves_nothing_behind(monkeypatch, tmp_path):
    monkeypatch.setenv("DUMPCAST_CACHE", str(tmp_path))
    kernel = kernels.Kernel("6.1.0-1-amd64")

    def torn(_self, target):
        (target / "boot").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(kernels.Kernel, "_fill_image", torn)
    with pytest.raises(KeyboardInterrupt):
        kernel.image()
    assert [path.name for path in kernel.root.iterdir()] == [".image.lock"]


def test_killed_fetch_is_cleared_away_by_the_next(monkeypatch, tmp_path):
    monkeypatch.setenv("DUMPCAST_CACHE", str(tmp_path))
    kernel = kernels.Kernel("6.1.0-1-amd64")
    (kernel.root / ".image.partial-killed" / "boot").mkdir(parents=True)
    monkeypatch.setattr(kernels.Kernel, "_fill_image",
                        lambda _self, target: (target / "whole").touch())
    assert (kernel.image() / "whole").exists()
    assert sorted(path.name for path in kernel.root.iterdir()) == [".image.lock", "image"]


@pytest.mark.parametrize("series", kernels.SERIES)
def test_headers_build_a_module(series, kernel_of, scratch):
    (scratch / "Kbuild").write_text("obj-m := hello.o\n")
    (scratch / "hello.c").write_text("#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n")
    headers = kernel_of(series).headers()
    util.run(["make", "-C", headers, f"M={scratch}", "modules"],
             env={**os.environ, "MAKEFLAGS": ""})
    release = util.run(["modinfo", "-F", "vermagic", scratch / "hello.ko"]).stdout.split()[0]
    assert release == kernel_of(series).release
