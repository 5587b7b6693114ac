#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""From the panic to a durable dump: dumpcast beside kdump, in the same virtual machine.

Each round boots one guest twice, with the same kernel, card, memory and content, and panics it:
armed by dumpcast with two relays, and with a crash kernel whose initramfs has nothing but busybox,
Debian's makedumpfile and the card's driver, and sends to one receiver. All times count from the panic's line on the
console, by the host's clock. Needs root, as tests/vm does.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import os
import pathlib
import re
import statistics
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]
sys.path.insert(0, str(REPO / "tests" / "vm"))

from vmtest import kernels, tools  # noqa: E402  (the path above comes first)
from vmtest.cpio import Archive  # noqa: E402
from vmtest.guest import Guest, module_paths, read_module  # noqa: E402
from vmtest.net import Net  # noqa: E402
from vmtest.qemu import NIC_MODULES, Vm  # noqa: E402
from vmtest.scenario import Scenario  # noqa: E402
from vmtest.util import HarnessError, run, scratch_dir, wait_until  # noqa: E402

PANIC = "Kernel panic - not syncing"
LOG_LINE = b"sysrq triggered crash"
CORE_PORT, LOG_PORT = 9000, 9001
RESERVATIONS = (64, 80, 96, 112, 128, 160, 192)  # MiB, tried in this order
GIVE_UP_S = 240
DURABLE_S = 20
# QEMU emulates REP MOVSB a byte at a time, and the kernel uses it to copy where a processor says that it is fast.
PROCESSOR = ("-cpu", "max,-erms,-fsrm")

# What is in memory: a fifth of it that does not compress and a fifth that does, in files, as page cache.
FILL = ("mkdir -p /root/fill; mount -t tmpfs -o size=90% fill /root/fill; "
        "dd if=/dev/urandom of=/root/fill/noise bs=1M count={mib}; "
        "yes 'a line that is in memory many times, with a number' | head -c {bytes} >/root/fill/text")

# What Debian's kdump-tools gives the crash kernel, without what a guest of one card does not need.
CRASH_CMDLINE = "reset_devices nr_cpus=1 irqpoll nousb quiet console=ttyS0 panic=1 cgroup_disable=memory"
# makedumpfile writes to the socket itself: through a pipe busybox's nc copies 1 KiB at a time, which takes four times as long.
CRASH_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in {modules}; do insmod /lib/$module; done
tries=0
while [ ! -e /sys/class/net/eth0 ] && [ $tries -lt 200 ]; do sleep 0.05; tries=$((tries + 1)); done
ip link set dev eth0 mtu {mtu} up
ip addr add {address}/24 dev eth0
until nc -w 1 {receiver} {log_port} </dev/null || [ $tries -ge 400 ]; do sleep 0.05; tries=$((tries + 1)); done
makedumpfile --dump-dmesg /proc/vmcore /log && nc {receiver} {log_port} </log
nc {receiver} {core_port} -e makedumpfile -F -l -d {level} /proc/vmcore
# FIN_WAIT1: the receiver has not acknowledged all of it.
while grep -q '^ *[0-9]*: [^ ]* [^ ]* 04 ' /proc/net/tcp; do sleep 0.05; done
reboot -f
"""

# Writes what comes to a file, makes it durable, and says when; a port that is only probed is left open.
RECEIVER = """
import os, socket, sys, threading, time
def serve(port, path, first):
    listening = socket.create_server(("", port))
    print("listening", flush=True)
    while True:
        connection, _ = listening.accept()
        size = 0
        with open(path, "wb") as file:
            while data := connection.recv(1 << 20):
                file.write(data)
                size += len(data)
            file.flush()
            os.fsync(file.fileno())
        connection.close()
        if size:
            break
    print(first, time.time(), size, flush=True)
log = threading.Thread(target=serve, args=({log_port}, sys.argv[2], "log"))
log.start()
serve({core_port}, sys.argv[1], "core")
"""


@dataclasses.dataclass
class Result:
    durable_s: float   # until all of it is on disk: of two relays, of one receiver
    log_s: float       # until the first line of the log can be read
    sent_mib: float    # by the host's card
    held_mib: float    # of memory, while nothing has crashed


class PanicWatch:
    """When the panic's line came on the console, by the host's clock."""

    def __init__(self, vm: Vm) -> None:
        self._vm, self._at = vm, 0.0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        until = time.time() + GIVE_UP_S
        while not self._at and time.time() < until:
            with contextlib.suppress(FileNotFoundError):
                if PANIC.encode() in self._vm.console_path.read_bytes():
                    self._at = time.time()
            time.sleep(0.005)

    def at(self) -> float:
        self._thread.join()
        if not self._at:
            raise HarnessError(f"no panic on the console:\n{self._vm.console()[-3000:]}")
        return self._at


def sent_bytes(net: Net) -> int:
    """What the guest's card 0 has sent, as the host's end of it counts."""
    path = f"/sys/class/net/{net.port(0).tap}/statistics/rx_bytes"
    return int(net.run_in(net.switch, ["cat", path]).stdout)


def durable_times(run_: Scenario) -> list[float]:
    """When each relay said that it has all of it on disk; empty until both have."""
    found = []
    for relay in run_.relays:
        line = re.search(r"^(\S+) .*complete and durable", relay.log(), re.M)
        if not line:
            return []
        found.append(datetime.datetime.fromisoformat(line[1]).timestamp())
    return found


def by_dumpcast(kernel, nic, args, level: int, encrypted: bool, folder: pathlib.Path) -> Result:
    with Scenario(folder, kernel, [nic], args.cpus, memory_mib=args.memory, relay_count=2, level=level,
                  mtu=args.mtu, devices=PROCESSOR, identity=folder / "identity" if encrypted else None) as scenario:
        scenario.net.spare_client()
        fill(scenario.vm, args.memory)
        held = re.search(r"(\d+) KiB held for a dump", scenario.vm.console() + scenario.vm.sh("dmesg")[1])
        before = sent_bytes(scenario.net)
        watch = PanicWatch(scenario.vm)
        scenario.vm.crash()
        began = watch.at()
        logged = wait_until(lambda: read_log(scenario), GIVE_UP_S, lambda: f"the log\n{scenario.words()}", 0.02)
        durable = wait_until(lambda: durable_times(scenario), GIVE_UP_S,
                             lambda: f"two durable copies\n{scenario.words()}", 0.05)
        scenario.vm.wait_reset()
        return Result(max(durable) - began, logged - began, (sent_bytes(scenario.net) - before) / (1 << 20),
                      int(held[1]) / 1024)


def read_log(scenario: Scenario) -> float | None:
    dump = scenario.show(0)
    if dump and LOG_LINE.decode() in scenario.log_of(dump):
        return time.time()
    return None


def fill(vm: Vm, memory_mib: int) -> None:
    vm.sh(FILL.format(mib=memory_mib // 5, bytes=memory_mib // 5 << 20), timeout_s=300, check=True)
    vm.sh("sync; echo 1 >/proc/sys/vm/compact_memory; true")


def crash_initramfs(kernel, nic: str, net: Net, level: int, target: pathlib.Path) -> pathlib.Path:
    archive = Archive()
    for path in ("/proc", "/sys", "/dev", "/tmp"):
        archive.folder(path)
    archive.device("/dev/console", 5, 1)
    archive.device("/dev/null", 1, 3, 0o666)
    archive.file("/bin/busybox", pathlib.Path("/bin/busybox").read_bytes(), 0o755)
    Guest.add_binary(archive, "/bin/makedumpfile", pathlib.Path("/usr/bin/makedumpfile"))
    names = []
    for path in module_paths(kernel, NIC_MODULES[nic]):
        names.append(path.name.removesuffix(".xz"))
        archive.file(f"/lib/{names[-1]}", read_module(path), 0o644)
    archive.file("/init", CRASH_INIT.format(
        modules=" ".join(names), mtu=net.mtu, address=net.guest_address(), receiver=net.relay_address(0), level=level,
        core_port=CORE_PORT, log_port=LOG_PORT).encode(), 0o755)
    return archive.write(target)


def by_kdump(kernel, nic, args, level: int, reserved: int, folder: pathlib.Path) -> Result:
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(Net(1, 1, args.mtu))
        net.spare_client()
        image = crash_initramfs(kernel, nic, net, level, folder / "kdump.img")
        guest = Guest(kernel, binaries={"/sbin/kexec": pathlib.Path("/sbin/kexec")},
                      files={"/boot/vmlinuz": kernel.vmlinuz, "/boot/kdump.img": image})
        vm = stack.enter_context(Vm(kernel, guest.build(folder / "initramfs"), folder / "vm", net, [nic],
                                    args.memory, args.cpus, f"crashkernel={reserved}M", PROCESSOR))
        core, log = folder / "core.flat", folder / "log"
        with open(folder / "receiver", "w", encoding="utf-8") as said:
            receiver = net.spawn_in(net.relay_ns(0), [sys.executable, "-c", RECEIVER.replace(
                "{core_port}", str(CORE_PORT)).replace("{log_port}", str(LOG_PORT)), core, log], stdout=said)
        stack.callback(receiver.wait)
        stack.callback(receiver.kill)
        vm.sh(f"kexec -s -p /boot/vmlinuz --initrd=/boot/kdump.img --append='{CRASH_CMDLINE}'", timeout_s=120, check=True)
        vm.sh("rm /boot/kdump.img /boot/vmlinuz", check=True)
        fill(vm, args.memory)
        before = sent_bytes(net)
        watch = PanicWatch(vm)
        vm.crash()
        began = watch.at()

        rebooted: list[float] = []

        def ended():
            text = (folder / "receiver").read_text(encoding="utf-8")
            times = {name: float(at) for name, at, _ in re.findall(r"^(log|core) (\S+) (\d+)$", text, re.M)}
            if vm.status() != "running":
                rebooted.append(time.monotonic())
            # The receiver may still make it durable.
            if rebooted and "core" not in times and time.monotonic() - rebooted[0] > DURABLE_S:
                raise HarnessError(f"the crash kernel has ended without a dump:\n{vm.console()[-2000:]}")
            return times if len(times) == 2 else None
        times = wait_until(ended, GIVE_UP_S, lambda: f"kdump's dump\n{vm.console()[-3000:]}", 0.05)
        sent = sent_bytes(net) - before
        with open(core, "rb") as flat:
            run(["makedumpfile", "-R", folder / "core"], stdin=flat)
        if LOG_LINE not in log.read_bytes() or LOG_LINE.decode() not in tools.dump_dmesg(folder / "core"):
            raise HarnessError("kdump's dump has not the log of the crash")
        return Result(times["core"] - began, times["log"] - began, sent / (1 << 20), reserved)


def least_reservation(kernel, nic, args, folder: pathlib.Path) -> int:
    """The first of RESERVATIONS with which kdump brings a dump."""
    for reserved in RESERVATIONS:
        try:
            by_kdump(kernel, nic, args, 31, reserved, folder / f"try-{reserved}")
        except HarnessError as error:
            print(f"crashkernel={reserved}M: no dump ({str(error).splitlines()[0]})", flush=True)
            continue
        print(f"crashkernel={reserved}M: works", flush=True)
        return reserved
    raise HarnessError(f"kdump brings no dump with crashkernel={RESERVATIONS[-1]}M")


def median(results: list[Result]) -> Result:
    return Result(*(statistics.median(getattr(result, field.name) for result in results)
                    for field in dataclasses.fields(Result)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", help="folder of the programs (default build/dev)")
    parser.add_argument("--kernel", default="6.1", help="series or release (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each (default %(default)s)")
    parser.add_argument("--memory", type=int, default=1024, help="MiB of the guest (default %(default)s)")
    parser.add_argument("--cpus", type=int, default=2, help="of the guest (default %(default)s)")
    parser.add_argument("--nic", default="virtio-net-pci", help="(default %(default)s)")
    parser.add_argument("--mtu", type=int, default=1500, help="of the network (default %(default)s)")
    parser.add_argument("--level", type=int, action="append", help="dump level; may be repeated (default 31 and 1)")
    parser.add_argument("--reserved", type=int, help="MiB for the crash kernel (default: the least that works)")
    args = parser.parse_args()
    if args.build:
        os.environ["DUMPCAST_BUILD_DIR"] = str(pathlib.Path(args.build).resolve())
    kernel = kernels.find(args.kernel)
    levels = args.level or [31, 1]
    ways = ("dumpcast", "dumpcast, encrypted", "kdump")
    seen: dict[tuple[int, str], list[Result]] = {(level, way): [] for level in levels for way in ways}
    with scratch_dir("dumpcast-bench-") as top:
        reserved = args.reserved or least_reservation(kernel, args.nic, args, top)
        for number in range(args.rounds):
            for level in levels:
                for way in ways:
                    folder = top / f"{number}-{level}-{way.replace(', ', '-')}"
                    result = by_kdump(kernel, args.nic, args, level, reserved, folder) if way == "kdump" else \
                        by_dumpcast(kernel, args.nic, args, level, "encrypted" in way, folder)
                    seen[level, way].append(result)
                    print(f"round {number + 1}, -d {level}, {way}: {result.durable_s:.2f} s to durable, "
                          f"{result.log_s:.2f} s to the log, {result.sent_mib:.0f} MiB sent, "
                          f"{result.held_mib:.1f} MiB held", flush=True)
                    run(["rm", "-rf", folder])
    print(f"\n{kernel.release}, {args.nic}, {args.memory} MiB, {args.cpus} processors, MTU {args.mtu}, medians of {args.rounds}\n")
    print(f"| | {' | '.join(f'-d {level}, {way}' for level in levels for way in ways)} |\n|---|"
          + "---|" * len(seen))
    rows = {"seconds to durable": "durable_s", "seconds to the first line of the log": "log_s",
            "MiB sent by the host": "sent_mib", "MiB held or reserved": "held_mib"}
    middle = {key: median(results) for key, results in seen.items()}
    for title, field in rows.items():
        print(f"| {title} | " + " | ".join(f"{getattr(middle[key], field):.2f}" for key in seen) + " |")
    for level in levels:
        theirs = middle[level, "kdump"]
        for way in ways[:2]:
            ours = middle[level, way]
            print(f"-d {level}, {way}: kdump takes {theirs.durable_s / ours.durable_s:.1f} times as long to durable, "
                  f"{theirs.log_s / ours.log_s:.1f} times to the log, and {theirs.held_mib / ours.held_mib:.0f} times the memory")
    return 0


if __name__ == "__main__":
    sys.exit(main())
