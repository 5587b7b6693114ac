# SPDX-License-Identifier: Apache-2.0
"""The whole path at once: relays, an armed guest, a crash, and everything to judge it by."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import time
from typing import Callable, Mapping, Sequence

from . import build
from .guest import Guest
from .kernelmem import KernelMemory, Notes
from .kernels import Kernel
from .net import Net
from .qemu import Vm
from .relays import Client, Relays
from .util import HarnessError, Stacked, wait_until
from .words import Report, report

GROUP, GROUP6 = "239.192.68.67", "ff08::4443"
AFTER_RESET_S = 180  # relays have what they will ever have
HOST_KEY_PATH = "/etc/dumpcast/cluster.key"


def arm_toml(devices: int, level: int, rate_mib_s: float = 0, extra: str = "",
             group: str = GROUP, time_limit_s: int = 0) -> str:
    """/etc/dumpcast/arm.toml of the guest: one path a card, all to one group."""
    lines = [f'key_file = "{HOST_KEY_PATH}"', f"dump_level = {level}", "fix_kernel = true",
             "reboot_after_s = 1"]
    if rate_mib_s:
        lines.append(f"rate_mib_s = {rate_mib_s}")
    if time_limit_s:
        lines.append(f"time_limit_s = {time_limit_s}")
    lines.append(extra)
    for device in range(devices):
        lines += ["[[path]]", f'device = "net{device}"', f'destinations = ["{group}"]']
    return "\n".join(lines) + "\n"


@dataclasses.dataclass
class Scenario(Stacked):
    """Boots kernel K with cards N and memory M under relays, and arms it.

    `with Scenario(...) as run:` gives the armed guest. Then run.crash(how), run.wait_sealed(),
    run.fetch(format), run.memory(). folder keeps consoles, logs, vmcores and memory images.
    """

    folder: pathlib.Path
    kernel: Kernel
    nics: Sequence[str] = ("virtio-net-pci",)
    cpus: int = 1
    memory_mib: int = 256
    relay_count: int = 3
    level: int = 31
    rate_mib_s: float = 0
    time_limit_s: int = 0  # 0: the module's default
    relay_flags: Sequence[str] = ()
    arm_extra: str = ""
    group: str = GROUP
    armed: bool = True  # else the test arms it
    identity: pathlib.Path | None = None  # dumps are encrypted for it; it is made when it is not there
    cmdline: str = ""  # more of the kernel's
    guest_binaries: Mapping[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    guest_kmods: Sequence[pathlib.Path] = ()
    guest_files: Mapping[str, pathlib.Path | str] = dataclasses.field(default_factory=dict)
    guest_modules: Sequence[str] = ()  # more of the kernel's own
    mtu: int = 1500
    queues: int = 1
    devices: Sequence[str] = ()  # more of QEMU's arguments
    snapshots: pathlib.Path | None = None  # of Vm
    before_boot: Callable[["Scenario"], None] | None = None  # when the relays run

    def __post_init__(self) -> None:
        super().__init__()
        self.net: Net
        self.relays: Relays
        self.vm: Vm
        self.notes: Notes
        self.name = ""  # of the dump, once it was seen

    def _start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        kmod = build.kmod(self.kernel)
        self.net = self._stack.enter_context(
            Net(len(self.nics), self.relay_count, self.mtu, self.queues))
        self.relays = self._stack.enter_context(
            Relays(self.net, self.folder / "relays", self.relay_flags))
        guest = Guest(
            self.kernel, kmods=[kmod, *self.guest_kmods], modules=self.guest_modules,
            binaries={"/bin/dumpcast-arm": build.binary("dumpcast-arm"), **self.guest_binaries},
            files=self.guest_files)
        initramfs = guest.build(self.folder / "initramfs")
        if self.before_boot:
            self.before_boot(self)
        self.vm = self._stack.enter_context(
            Vm(self.kernel, initramfs, self.folder / "vm", self.net, self.nics, self.memory_mib,
               self.cpus, self.cmdline, self.devices, snapshots=self.snapshots))
        extra = self.arm_extra
        if self.identity:
            if not self.identity.exists():
                self.client.run("keygen", "-O", self.identity)
            recipient = re.search("recipient: ([0-9a-f]{64})", self.identity.read_text(encoding="ascii"))[1]
            extra += f'\nrecipients = ["{recipient}"]'
        # Behind the boot: machines that differ in this only begin with the same snapshot.
        toml = arm_toml(len(self.nics), self.level, self.rate_mib_s, extra, self.group,
                        self.time_limit_s)
        key = self.relays.key.read_text(encoding="ascii").strip()
        self.vm.sh(f"umask 077; mkdir -p /etc/dumpcast; printf '%s\n' '{key}' >{HOST_KEY_PATH}; "
                   f"printf '%s' '{toml}' >/etc/dumpcast/arm.toml", check=True)
        if self.armed:
            self.vm.sh("dumpcast-arm arm", timeout_s=120, check=True)
            self.wait_armed()

    # The relays' view.

    @property
    def client(self) -> Client:
        """Asks the relays that run now."""
        return self.relays.client(*[relay.index for relay in self.relays if relay.running()])

    def wait_armed(self, timeout_s: float = 120) -> dict:
        """Until every running relay has heard a heartbeat of the guest; its Host as JSON."""
        def probe():
            heard = [relay for relay in self.relays if relay.running()]
            hosts = [self.relays.client(relay.index).hosts() for relay in heard]
            armed = [[host for host in answer if host["state"] == "HOST_STATE_ARMED"]
                     for answer in hosts]
            return armed[0][0] if all(armed) else None
        return wait_until(probe, timeout_s, lambda: f"the guest to be armed\n{self.words()}", 0.5)

    def crash(self, how: str = "sysrq") -> None:
        """Takes notes for the oracle, then panics the guest."""
        self.notes = Notes.take(self.vm)
        self.notes.save(self.folder / "notes")
        self.vm.crash(how)

    def show(self, relay: int | None = None) -> dict | None:
        """The newest dump that is no test, as one relay (or the first that answers) tells it."""
        client = self.client if relay is None else self.relays.client(relay)
        dumps = [dump for dump in client.dumps() if not dump["test"]]
        return dumps[0] if dumps else None

    def wait_sealed(self, timeout_s: float = 600, state: str = "DUMP_STATE_COMPLETE",
                    relays: Sequence[int] | None = None) -> list[dict]:
        """Until the dump has this state on each of the relays (those that run, by default)."""
        chosen = [relay.index for relay in self.relays if relay.running()] \
            if relays is None else list(relays)

        ran = time.monotonic()

        def probe():
            nonlocal ran
            dumps = [self.show(index) for index in chosen]
            if all(dump and dump["state"] == state for dump in dumps):
                return dumps
            self.vm.check_alive()
            if self.vm.process is None or self.vm.status() == "running":
                ran = time.monotonic()
            elif time.monotonic() - ran > AFTER_RESET_S:
                raise HarnessError(f"the guest has reset, and no {state} on relays {chosen}\n"
                                   f"{self.words()}")
            return None
        dumps = wait_until(probe, timeout_s,
                           lambda: f"{state} on relays {chosen}\n{self.words()}", 0.5)
        self.name = dumps[0]["name"]
        return dumps

    def dump_id(self) -> str:
        if not self.name:
            raise HarnessError("no dump was sealed yet: wait_sealed() first")
        return self.name.rpartition("/")[2]

    def _opening(self) -> list[object]:
        """What the client is told so that it can read the dump."""
        return ["--identity", self.identity] if self.identity else []

    def fetch(self, form: str, relay: int | None = None, complete: bool = True) -> pathlib.Path:
        """`dumpcast get`: form is elf or kdump; complete: no other dump will do."""
        client = self.client if relay is None else self.relays.client(relay)
        target = self.folder / f"vmcore-{'any' if relay is None else relay}.{form}"
        client.run("get", self.dump_id(), *self._opening(), "--format", form, "--output-file", target, "--force",
                   *(["--require-complete"] if complete else []), timeout=900)
        return target

    def log(self) -> str:
        """The kernel log by `dumpcast log`."""
        return self.client.run("log", self.dump_id(), *self._opening()).stdout

    def log_of(self, dump: dict) -> str:
        """The same of a dump that may still be arriving; empty while there is none."""
        return self.client.run("log", dump["dump_id"], *self._opening(), check=False).stdout

    # The hypervisor's view.

    def memory(self) -> KernelMemory:
        """QEMU's memory image with the notes taken before the crash; the guest must have stopped."""
        image = self.vm.save_memory(self.folder / "memory")
        self._stack.callback(image.close)
        return KernelMemory(image, self.notes)

    def report(self) -> Report:
        """The module's own last words; a dump with a limit of time has kept it, by its own clock."""
        said = report(self.vm.console())
        assert not self.time_limit_s or said.seconds <= self.time_limit_s, said
        return said

    def volume(self) -> tuple[int, int]:
        """MiB of memory that the module sent, and as how many."""
        sent = re.search(r"(\d+) MiB of memory as (\d+) MiB", self.vm.console())
        return int(sent[1]), int(sent[2])

    def summary(self) -> str:
        """The module's own last words on the console."""
        return "\n".join(re.findall(r"dumpcast: .*", self.vm.console()))

    def words(self) -> str:
        """For a failure: the end of the console and of every relay's log."""
        return f"console:\n{self.vm.console()[-3000:]}\n{self.relays.logs()}"
