# SPDX-License-Identifier: Apache-2.0
"""The machine: boots a kernel in QEMU, runs commands in it, crashes it, reads its memory.

Emulated always (-accel tcg), so that a test sees the same on every machine. A guest
that resets is paused instead, so its memory stays readable over QMP.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
import re
import shlex
import socket
import struct
import subprocess
import threading
import time
from typing import ClassVar, Sequence

from .kernels import Kernel
from .memory import PAGE, MemoryImage, Range
from .net import STATE, Net
from .util import HarnessError, one_of, spawn, stop, wait_until

# QEMU's device name -> the guest's modules for it.
NIC_MODULES = {
    "virtio-net-pci": ("virtio_pci", "virtio_net"),
    "e1000": ("e1000",),
    "e1000e": ("e1000e",),
    "vmxnet3": ("vmxnet3",),
    "rtl8139": ("8139cp",),
}

# With more than one processor, QEMU 7.2's translated code may be older than what the guest's kernel has
# patched meanwhile: a breakpoint fires that is not there, while the kernel boots. Nothing of ours
# runs then, and the machine is started again.
STALE_CODE = r"int3: 0000 \[#1\]"

# QEMU's sockets close before it has ended.
CLOSES_S = 1

# Files in Vm.snapshots, of about 100 MB; the ones that were used last.
SNAPSHOTS = 16


def _model(nic: str) -> str:
    return nic.partition(",")[0]


class Qmp:
    """QEMU's control socket (docs/interop/qmp-spec.txt). Thread-safe."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = b""
        self._lock = threading.Lock()
        self.events: list[dict] = []
        self._receive(30)  # the greeting
        self.execute("qmp_capabilities")

    def execute(self, command: str, timeout_s: float = 300, **arguments):
        """Runs one command; its return value, or HarnessError with QEMU's own words."""
        with self._lock:
            message = {"execute": command, "arguments": arguments}
            self._socket.sendall(json.dumps(message).encode() + b"\n")
            deadline = time.monotonic() + timeout_s
            while True:
                answer = self._receive(deadline - time.monotonic())
                if "error" in answer:
                    raise HarnessError(f"QMP {command} {arguments}: {answer['error'].get('desc')}")
                if "return" in answer:
                    return answer["return"]
                self.events.append(answer)

    def monitor(self, line: str, cpu: int = 0) -> str:
        """A command of the human monitor, for what QMP does not offer; as a processor has it."""
        return self.execute("human-monitor-command", **{"command-line": line, "cpu-index": cpu})

    def close(self) -> None:
        self._socket.close()

    def _receive(self, timeout_s: float) -> dict:
        self._socket.settimeout(max(timeout_s, 0.01))
        while b"\n" not in self._buffer:
            try:
                data = self._socket.recv(65536)
            except (TimeoutError, ConnectionError) as error:
                raise HarnessError(f"QMP: no answer from QEMU ({error!r})") from error
            if not data:
                raise HarnessError("QMP: QEMU is gone")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return json.loads(line)


class Shell:
    """The other end of guest_init.sh's command loop. One command at a time; thread-safe."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._buffer = b""
        self._lock = threading.Lock()
        self._serial = 0

    def wait_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self._line(deadline) != "READY":
            pass

    def send(self, command: str) -> int:
        """Sends a command without waiting for its answer (a crash gives none)."""
        self._serial += 1
        text = base64.b64encode(command.encode()).decode()
        self._socket.settimeout(30)
        self._socket.sendall(f"{self._serial} {text}\n".encode())
        return self._serial

    def run(self, command: str, timeout_s: float) -> tuple[int, bytes]:
        with self._lock:
            serial = self.send(command)
            deadline = time.monotonic() + timeout_s
            while self._line(deadline) != f"BEGIN {serial}":
                pass
            output = []
            while True:
                line = self._line(deadline)
                if line.startswith(f"END {serial} "):
                    return int(line.split()[2]), base64.b64decode("".join(output))
                output.append(line)

    def close(self) -> None:
        self._socket.close()

    def _line(self, deadline: float) -> str:
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise HarnessError("the guest's shell did not answer in time") from error
            if not data:
                raise HarnessError("the guest's shell is gone")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode(errors="replace").strip()


@dataclasses.dataclass
class Vm:
    """One virtual machine; `with Vm(...) as vm:` boots it up to its shell.

    nics: QEMU device names, with more options behind a comma; card i is plugged into bridge i
        (named net<i> in the guest).
    devices: more of QEMU's arguments, in front of the cards.
    snapshots: a folder for what a machine was like when its shell was ready, so that the next one
        with the same kernel, initramfs and hardware goes on from there. Its addresses (KASLR) are
        the same then.
    workdir: for sockets, the console log and what a test saves; kept when the VM ends.
    """

    kernel: Kernel
    initramfs: pathlib.Path
    workdir: pathlib.Path
    net: Net | None = None
    nics: Sequence[str] = ()
    memory_mib: int = 256
    cpus: int = 1
    cmdline: str = ""
    devices: Sequence[str] = ()
    boot_timeout_s: float = 240
    snapshots: pathlib.Path | None = None

    def __post_init__(self) -> None:
        unknown = {_model(nic) for nic in self.nics} - set(NIC_MODULES)
        if unknown:
            raise HarnessError(f"network cards {sorted(unknown)}: wanted {sorted(NIC_MODULES)}")
        if self.nics and (self.net is None or len(self.nics) > self.net.bridges):
            raise HarnessError(f"{len(self.nics)} network cards need a Net with as many bridges")
        self.workdir.mkdir(parents=True, exist_ok=True)
        self.console_path = self.workdir / "console.log"
        self.process: subprocess.Popen | None = None
        self._has_place = False
        self.qmp: Qmp
        self.shell: Shell

    def __enter__(self) -> "Vm":
        self._take_place()
        try:
            snapshot = self._snapshot()
            if snapshot and snapshot.is_file():
                self._start("-incoming", "defer")
                self._go_on_from(snapshot)
            else:
                self._boot()
                if snapshot:
                    self._keep(snapshot)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc) -> None:
        self.close()

    def close(self) -> None:
        """Ends QEMU at once; the console log stays."""
        self._end()
        self._leave_place()

    def _end(self) -> None:
        for name in ("qmp", "shell"):
            if hasattr(self, name):
                getattr(self, name).close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        stop(self.process)
        if hasattr(self, "_console_writer"):
            self._console_writer.join(10)
            self._console_socket.close()

    def kill(self) -> None:
        """SIGKILL to QEMU: as if somebody pulled the guest's plug. The console log stays."""
        self.check_alive()
        self.process.kill()
        self.process.wait()
        self.process = None
        self._console_writer.join(10)

    # An emulated processor takes a real one: with more machines than that, all time out. A process
    # takes one place for all its machines, or it would wait for itself.
    _place: ClassVar[contextlib.ExitStack] = contextlib.ExitStack()
    _machines: ClassVar[int] = 0

    def _take_place(self) -> None:
        if not Vm._machines:
            Vm._place.enter_context(
                one_of(os.cpu_count() or 1, STATE.with_name("dumpcast-vmtest-machines")))
        Vm._machines += 1
        self._has_place = True

    def _leave_place(self) -> None:
        if self._has_place:
            self._has_place = False
            Vm._machines -= 1
            if not Vm._machines:
                Vm._place.close()

    # What the guest says and does.

    def console(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self.console_path.read_text(encoding="utf-8", errors="replace").replace("\r", "")
        return ""

    def wait_console(self, pattern: str, timeout_s: float = 120) -> re.Match:
        """The first match of a regular expression anywhere on the console."""
        def probe():
            match = re.search(pattern, self.console(), re.M)
            if match is None:
                self.check_alive()
            return match
        return wait_until(probe, timeout_s,
                          lambda: f"{pattern!r} on the console:\n{self.console()[-3000:]}", 0.1)

    def wait_shell(self, timeout_s: float) -> None:
        """Until another kernel's shell is ready: a crash kernel's."""
        try:
            self.shell.wait_ready(timeout_s)
        except HarnessError as error:
            self.check_alive(CLOSES_S)
            raise HarnessError(f"{error}\nconsole:\n{self.console()[-3000:]}") from error

    def sh(self, command: str, timeout_s: float = 60, check: bool = False) -> tuple[int, str]:
        """Runs a shell command as root in the guest: (exit status, stdout and stderr)."""
        try:
            status, output = self.shell.run(command, timeout_s)
        except HarnessError as error:
            self.check_alive(CLOSES_S)
            raise HarnessError(f"{error}: {command}\nconsole:\n{self.console()[-3000:]}") from error
        text = output.decode(errors="replace")
        if check and status != 0:
            raise HarnessError(f"in the guest: {command}: exit status {status}\n{text}")
        return status, text

    def read_file(self, path: str, timeout_s: float = 60) -> bytes:
        """A file of the guest, binary, also from /proc and /sys."""
        # Compressed: the serial port is the slowest part of the machine.
        return self._read(f"gzip -c {shlex.quote(path)}", path, timeout_s)

    def read_file_lines(self, path: str, pattern: str, timeout_s: float = 60) -> list[str]:
        """The lines of a text file of the guest that an extended regular expression finds."""
        command = f"grep -E {shlex.quote(pattern)} {shlex.quote(path)} | gzip -c"
        return self._read(command, path, timeout_s).decode(errors="replace").splitlines()

    def _read(self, command: str, path: str, timeout_s: float) -> bytes:
        status, data = self.shell.run(f"test -r {shlex.quote(path)} && {command}", timeout_s)
        if status != 0:
            raise HarnessError(f"guest: {path}: {data.decode(errors='replace').strip()}")
        return gzip.decompress(data)

    def crash(self, how: str = "sysrq") -> None:
        """Panics the guest and returns at once.

        sysrq: from a process; break: sysrq from the serial port's interrupt; nmi: an unknown
        NMI; hang: with interrupts off on another processor is not among them.
        """
        if how == "sysrq":
            self.shell.send("echo c >/proc/sysrq-trigger")
        elif how == "break":
            self.sh("echo 1 >/proc/sys/kernel/sysrq", check=True)
            self.qmp.execute("chardev-send-break", id="console")
            self._console_socket.sendall(b"c")
        elif how == "nmi":
            self.sh("echo 1 >/proc/sys/kernel/unknown_nmi_panic", check=True)
            self.nmi()
        else:
            raise HarnessError(f"crash({how!r}): wanted sysrq, break or nmi")

    # What the hypervisor says and does.

    def nmi(self) -> None:
        """An NMI for every processor, as a management controller sends one."""
        self.qmp.execute("inject-nmi")

    def status(self) -> str:
        """QEMU's run state: running, paused, shutdown (the guest has reset), ..."""
        return self.qmp.execute("query-status")["status"]

    def wait_reset(self, timeout_s: float = 300) -> None:
        """Waits for the guest to reboot or power off; it is stopped then, memory intact."""
        wait_until(lambda: self.status() in ("shutdown", "paused"), timeout_s,
                   lambda: f"the guest to reset; console:\n{self.console()[-3000:]}", 0.2)

    def pause(self) -> None:
        self.qmp.execute("stop")

    def resume(self) -> None:
        self.qmp.execute("cont")

    def set_link(self, nic: int, up: bool) -> None:
        """Carrier of a card, as the guest's driver sees it (Net.set_link cuts unseen)."""
        self.qmp.execute("set_link", name=f"nic{nic}", up=up)

    def stacks(self) -> list[list[int]]:
        """Of each processor its program counter, then the words at its stack pointer."""
        found = []
        for cpu in range(self.cpus):
            registers = self.qmp.monitor("info registers", cpu)
            counter, pointer = (re.search(rf"{name}=([0-9a-f]+)", registers)[1] for name in ("RIP", "RSP"))
            words = re.findall(r" 0x([0-9a-f]{16})", self.qmp.monitor(f"x /256gx 0x{pointer}", cpu))
            found.append([int(word, 16) for word in [counter, *words]])
        return found

    def ram_ranges(self) -> list[tuple[int, int]]:
        """(start, size) of RAM as the guest's processors address it, merged; bytes."""
        text = self.qmp.monitor("info mtree -f")
        found: list[tuple[int, int]] = []
        in_memory = False
        for line in text.splitlines():
            if line.startswith("FlatView"):
                if found:
                    break
                in_memory = False
            elif re.match(r'\s*AS "memory"', line):
                in_memory = True
            elif in_memory:
                match = re.match(r"\s+([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ram\): (?:pc|dimm\d+)\.ram",
                                 line)
                if match:
                    start, end = int(match[1], 16), int(match[2], 16) + 1
                    if found and sum(found[-1]) == start:
                        found[-1] = (found[-1][0], end - found[-1][0])
                    else:
                        found.append((start, end - start))
        if not found:
            raise HarnessError(f"no pc.ram in QEMU's memory tree:\n{text[:2000]}")
        return [(start, size) for start, size in found if size >= PAGE]

    def save_memory(self, folder: pathlib.Path) -> MemoryImage:
        """All RAM, one file a range (below and above the hole under 4 GiB). Stop the guest first."""
        if self.status() == "running":
            raise HarnessError("save_memory: the guest runs; pause() it or wait_reset() first")
        folder.mkdir(parents=True, exist_ok=True)
        ranges = []
        for start, size in self.ram_ranges():
            path = folder / f"ram-{start:x}"
            self.qmp.execute("pmemsave", val=start, size=size, filename=str(path.resolve()))
            ranges.append(Range(start, size, path))
        return MemoryImage(ranges)

    def dump_elf(self, path: pathlib.Path) -> pathlib.Path:
        """QEMU's own ELF dump with the guest's vmcoreinfo, as makedumpfile reads it.

        makedumpfile 1.7 wants the program headers right behind the ELF header, where QEMU puts
        section headers; and the flash at the top of 4 GiB is no RAM. Both are set right.
        """
        self.qmp.execute("dump-guest-memory", timeout_s=600, paging=False,
                         protocol=f"file:{path.resolve()}")
        size = struct.calcsize("<IIQQQQQQ")
        with open(path, "r+b") as core:
            head = bytearray(core.read(64))
            table, = struct.unpack_from("<Q", head, 32)
            count, = struct.unpack_from("<H", head, 56)
            core.seek(table)
            entries = [core.read(size) for _ in range(count)]
            # The first one is the PT_NOTE; p_paddr is at 24.
            flash = 0xFF000000
            kept = [entry for entry in entries
                    if not flash <= struct.unpack_from("<Q", entry, 24)[0] < 1 << 32]
            struct.pack_into("<QQ", head, 32, len(head), 0)
            struct.pack_into("<HHHHH", head, 54, size, len(kept), 0, 0, 0)
            core.seek(0)
            core.write(head + b"".join(kept))
        return path

    # Inner parts.

    def _command(self) -> list[str]:
        # A Unix socket's path holds 107 bytes and workdir may be deep: QEMU runs in it.
        command = [
            "qemu-system-x86_64", "-name", "dumpcast-vmtest", "-machine", "q35",
            "-accel", "tcg,thread=multi", "-cpu", "max", "-m", str(self.memory_mib),
            "-smp", str(self.cpus), "-nodefaults", "-display", "none",
            "-action", "reboot=shutdown,shutdown=pause",
            # QEMU waits for us, who write the log: its own logfile= has characters twice
            # when the socket was full for a moment.
            "-chardev", "socket,id=console,path=console.sock,server=on,wait=on",
            "-serial", "chardev:console",
            "-chardev", "socket,id=shell,path=shell.sock,server=on,wait=off",
            "-serial", "chardev:shell",
            "-qmp", "unix:qmp.sock,server=on,wait=off",
            "-device", "vmcoreinfo",
            "-kernel", str(self.kernel.vmlinuz), "-initrd", str(self.initramfs.resolve()),
            "-append", self._append(),
        ]
        command += self.devices
        for index, nic in enumerate(self.nics):
            port = self.net.port(index)
            queues = self.net.queues
            backend = f"tap,id=net{index},ifname={port.tap},script=no,downscript=no"
            card = f"{nic},id=nic{index},netdev=net{index},mac={port.mac},romfile="
            if queues > 1:
                backend += f",queues={queues},vhost=off"
                card += f",mq=on,vectors={2 * queues + 2}"
            command += ["-netdev", backend, "-device", card]
        if self.net is not None:
            command = ["ip", "netns", "exec", self.net.switch, *command]
        return command

    def _append(self) -> str:
        words = ["console=ttyS0,115200"]
        if "-rt-" in self.kernel.release:
            # Handlers are threads there: when one is late, its serial port's interrupt counts as
            # nobody's and is switched off, and the shell with it.
            words.append("noirqdebug")
        modules = dict.fromkeys(name for nic in self.nics for name in NIC_MODULES[_model(nic)])
        words.append("vmmod=" + ",".join([*modules, "configfs", "qemu_fw_cfg"]))
        for index in range(len(self.nics)):
            port = self.net.port(index)
            words.append(f"vmnet=net{index},{port.mac},{port.v4},{port.v6},{self.net.mtu}")
        return " ".join([*words, self.cmdline]).strip()

    def _snapshot(self) -> pathlib.Path | None:
        if self.snapshots is None:
            return None
        what = [str(self.kernel.vmlinuz), self._append(), repr(list(self.nics)),
                repr(list(self.devices)), f"{self.memory_mib} {self.cpus}",
                str(self.net.queues if self.net else 0)]
        digest = hashlib.sha256("\n".join(what).encode())
        digest.update(self.initramfs.read_bytes())
        return self.snapshots / digest.hexdigest()[:24]

    def _keep(self, snapshot: pathlib.Path) -> None:
        """Saves the machine, and lets it go on."""
        self.snapshots.mkdir(parents=True, exist_ok=True)
        partial = snapshot.with_name(f".{snapshot.name}.{os.getpid()}")
        self.qmp.execute("stop")
        self.qmp.execute("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
        self.qmp.execute("migrate", uri=f"exec:cat >{shlex.quote(str(partial))}")
        self._wait_migrated()
        partial.rename(snapshot)
        self.qmp.execute("cont")
        kept = sorted(self.snapshots.glob("[!.]*"), key=lambda path: path.stat().st_mtime)
        for old in kept[:-SNAPSHOTS]:
            old.unlink(missing_ok=True)

    def _go_on_from(self, snapshot: pathlib.Path) -> None:
        os.utime(snapshot)
        self.qmp.execute("migrate-incoming", uri=f"exec:cat {shlex.quote(str(snapshot))}")
        self._wait_migrated()
        self.qmp.execute("cont")
        self.sh(f"date -s @{time.time():.0f}", check=True)

    def _wait_migrated(self) -> None:
        def done() -> bool:
            said = self.qmp.execute("query-migrate")
            if said.get("status") == "failed":
                raise HarnessError(f"QEMU: migration: {said}")
            return said.get("status") == "completed"
        wait_until(done, 60, "QEMU to move the guest's state", 0.02)

    def _boot(self) -> None:
        for attempt in range(2):
            self._start()
            if self._wait_ready():
                return
            if attempt:
                raise HarnessError(f"twice in a row {STALE_CODE!r} at boot:\n"
                                   f"{self.console()[-4000:]}")
            self._end()

    def _start(self, *more: str) -> None:
        command = [*self._command(), *more]
        for name in ("console.sock", "shell.sock", "qmp.sock", "console.log"):
            (self.workdir / name).unlink(missing_ok=True)
        with open(self.workdir / "qemu.log", "w", encoding="utf-8") as log:
            log.write(shlex.join(command) + "\n")
            log.flush()
            self.process = spawn(command, cwd=self.workdir, stdout=log, stderr=log)
        self._console_socket = self._connect("console.sock")
        self._console_writer = threading.Thread(
            target=_write_log, args=(self._console_socket, self.console_path), daemon=True)
        self._console_writer.start()
        self.qmp = Qmp(self._connect("qmp.sock"))
        self.shell = Shell(self._connect("shell.sock"))

    def _wait_ready(self) -> bool:
        """Until the guest's shell answers; False when QEMU let the guest down, see STALE_CODE."""
        deadline = time.monotonic() + self.boot_timeout_s
        while True:
            try:
                self.shell.wait_ready(min(5.0, deadline - time.monotonic()))
                return True
            except HarnessError as error:
                self.check_alive()
                console = self.console()
                if re.search(STALE_CODE, console):
                    return False
                if time.monotonic() >= deadline:
                    raise HarnessError(f"{self.kernel.release} did not reach its shell: {error}\n"
                                       f"console:\n{console[-4000:]}") from error

    def _connect(self, name: str) -> socket.socket:
        path = self.workdir / name

        def probe() -> socket.socket | None:
            self.check_alive()
            attempt = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                attempt.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                # Not bound yet, or bound and not listening yet.
                attempt.close()
                return None
            return attempt

        return wait_until(probe, 30, f"QEMU to open {path}")

    def check_alive(self, grace_s: float = 0) -> None:
        """HarnessError with QEMU's words and the console when QEMU has ended, or ends within grace_s."""
        if self.process is not None and grace_s:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(grace_s)
        if self.process is not None and self.process.poll() is not None:
            log = (self.workdir / "qemu.log").read_text(encoding="utf-8", errors="replace")
            raise HarnessError(f"QEMU ended with status {self.process.returncode}:\n{log[-3000:]}\n"
                               f"console:\n{self.console()[-3000:]}")


def _write_log(source: socket.socket, path: pathlib.Path) -> None:
    """Until QEMU ends."""
    with contextlib.suppress(OSError), open(path, "ab", buffering=0) as log:
        while data := source.recv(65536):
            log.write(data)
