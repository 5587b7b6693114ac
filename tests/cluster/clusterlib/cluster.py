# SPDX-License-Identifier: Apache-2.0
"""A crashed host and its relays, each in a network namespace of its own."""

from __future__ import annotations

import hashlib
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
from typing import Sequence

from vmtest.build import binary
from vmtest.net import CLIENT_NUMBER, GUEST_NUMBER, Net
from vmtest.relays import Client, Relays
from vmtest.util import HarnessError, Stacked, stop, wait_until

from .image import Image

COMPLETE, INCOMPLETE = "DUMP_STATE_COMPLETE", "DUMP_STATE_INCOMPLETE"
RECEIVING = "DUMP_STATE_RECEIVING"
# A dump that stands still is a failure, a slow machine is not.
PATIENCE_S = 180


class HostNet(Net):
    """A Net whose host is a namespace with a leg on each bridge, in place of a VM."""

    @property
    def host_ns(self) -> str:
        return f"{self.prefix}-h"

    def _build(self) -> None:
        super()._build()
        self._leaf(self.host_ns, "h", GUEST_NUMBER)

    def set_host_link(self, bridge: int, up: bool) -> None:
        """Pulls or plugs the host's cable: its card loses the carrier."""
        self._ip(self.switch, "link", "set", self._near("h", bridge), "up" if up else "down")

    def host_sent_bytes(self, bridge: int = 0) -> int:
        """What the host's card has sent, with Ethernet's headers."""
        counter = f"/sys/class/net/leg{bridge}/statistics/tx_bytes"
        return int(self.run_in(self.host_ns, ["cat", counter]).stdout)

    def swallow(self, bridge: int, on: bool) -> None:
        """A path that dies unseen: the carrier stays, every packet of the host is lost."""
        lines = [f'chain from{bridge} {{ type filter hook ingress device '
                 f'"{self._near("h", bridge)}" priority 0;', "counter drop", "}"] if on else []
        self._nft(self.switch, [f"table netdev host{bridge} {{", *lines, "}"])

    def set_alone(self, relay: int, alone: bool, hears_host: bool = False) -> None:
        """Cuts a relay off from its peers, and from the host unless hears_host; clients reach it."""
        numbers = (CLIENT_NUMBER, GUEST_NUMBER) if hears_host else (CLIENT_NUMBER,)
        v4 = [self._v4(bridge, number) for bridge in range(self.bridges) for number in numbers]
        v6 = [self._v6(bridge, number) for bridge in range(self.bridges) for number in numbers]
        lines = ["chain incoming { type filter hook input priority 0;", 'iifname "lo" accept',
                 f"ip saddr {{ {', '.join(v4)} }} accept", f"ip6 saddr {{ {', '.join(v6)} }} accept",
                 "meta l4proto icmpv6 accept", "counter drop", "}"] if alone else []
        self._nft(self.relay_ns(relay), ["table inet alone {", *lines, "}"])


class Sender:
    """One `dumpcast-send` in the host's namespace; its words are in log_path."""

    def __init__(self, net: HostNet, log_path: pathlib.Path, argv: Sequence[object]) -> None:
        self.log_path = log_path
        with open(log_path, "w", encoding="utf-8") as log:
            self.process = net.spawn_in(net.host_ns, argv, stdout=log, stderr=log)

    def words(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit status: 0 when enough relays committed, 1 when they did not."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise HarnessError(f"dumpcast-send still runs after {timeout_s:.0f} s:\n"
                               f"{self.words()[-2000:]}") from error

    def kill(self) -> None:
        """SIGKILL: the host is gone, in the middle of a word."""
        if self.running():
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def summary(self) -> dict[str, int]:
        """Numbers of the words it ends with."""
        words = self.words()
        found = {}
        for name, pattern in {"blocks": r"sent in [\d.]+ s: (\d+) blocks",
                              "parity": r"parity (\d+) symbols",
                              "repeated": r"repeated (\d+),", "naks": r"NAKs (\d+) ",
                              "bad_mac": r"refused: MAC (\d+)",
                              "replayed": r"replayed (\d+)"}.items():
            match = re.search(pattern, words)
            if not match:
                raise HarnessError(f"dumpcast-send did not print its {name}:\n{words[-2000:]}")
            found[name] = int(match.group(1))
        return found


class Cluster(Stacked):
    """`with Cluster(folder, relays=3) as c:` gives running relays and a host that may crash.

    flags: for every relay; relays that are to start later are named in `absent`.
    """

    def __init__(self, folder: pathlib.Path, relays: int = 3, bridges: int = 2,
                 flags: Sequence[str] = (), absent: Sequence[int] = (), mtu: int = 1500) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.net = HostNet(bridges, relays, mtu)
        self.relays = Relays(self.net, folder / "relays", flags)
        self.absent = set(absent)
        self.host_id, self.dump_id = secrets.token_hex(16), secrets.token_hex(16)
        self.senders: list[Sender] = []
        super().__init__()

    def _start(self) -> None:
        self._stack.enter_context(self.net)
        self._stack.callback(self._close)
        for relay in self.relays:
            if relay.index not in self.absent:
                relay.start()

    def _close(self) -> None:
        for sender in self.senders:
            stop(sender.process)
        self.relays.close()

    def words(self) -> str:
        """Ends of all logs, for a failure's message."""
        senders = "\n".join(f"--- sender {i}\n{s.words()[-1500:]}" for i, s in enumerate(self.senders))
        return f"{self.relays.logs()}\n{senders}"

    # The host.

    def send(self, image: Image, *flags: object, dump_id: str | None = None,
             paths: Sequence[int] | None = None, with_key: bool = True) -> Sender:
        """Crashes the host: starts sending the image, over every bridge by default."""
        return self.send_file(image.path, *flags, dump_id=dump_id, paths=paths, with_key=with_key)

    def send_file(self, path: pathlib.Path, *flags: object, dump_id: str | None = None,
                  paths: Sequence[int] | None = None, with_key: bool = True) -> Sender:
        """The same of any file that dumpcast-send reads."""
        argv: list[object] = [
            binary("dumpcast-send"), "--file", path,
            *(["--key-file", self.relays.key] if with_key else []),
            "--host-id", self.host_id, "--dump-id", dump_id or self.dump_id,
            "--hostname", "crashed.test"]
        for bridge in range(self.net.bridges) if paths is None else paths:
            argv += ["--interface", f"leg{bridge}"]
        log = self.folder / f"sender{len(self.senders)}.log"
        self.senders.append(Sender(self.net, log, [*argv, *flags]))
        return self.senders[-1]

    # The relays' view.

    def client(self, relay: int) -> Client:
        return self.relays.client(relay)

    def show(self, relay: int, dump_id: str | None = None) -> dict | None:
        """The dump as one relay tells it; None when it does not know it."""
        wanted = dump_id or self.dump_id
        return next((d for d in self.client(relay).dumps() if d["dump_id"] == wanted), None)

    def wait_held(self, relay: int, blocks: int, dump_id: str | None = None) -> dict:
        """Until a relay holds so many blocks."""
        def probe():
            dump = self.show(relay, dump_id)
            return dump if dump and int(dump["blocks_held"]) >= blocks else None
        return wait_until(probe, PATIENCE_S,
                          lambda: f"relay {relay} to hold {blocks} blocks\n{self.words()}")

    def wait_state(self, state: str = COMPLETE, relays: Sequence[int] | None = None,
                   dump_id: str | None = None) -> list[dict]:
        """Until the dump has this state on each of the relays (those that run, by default)."""
        chosen = [r.index for r in self.relays if r.running()] if relays is None else list(relays)
        seen: dict[int, dict | None] = {}

        def probe():
            for index in chosen:
                if not seen.get(index) or seen[index]["state"] != state:
                    seen[index] = self.show(index, dump_id)
            return all(d and d["state"] == state for d in seen.values())
        wait_until(probe, PATIENCE_S, lambda: f"{state} on relays {chosen}, who say "
                   f"{[d and d['state'] for d in seen.values()]}\n{self.words()}", 0.2)
        # Once more all at one time: a state that does not last is none.
        return [self.show(index, dump_id) for index in chosen]

    def counters(self, relay: int) -> dict[str, int]:
        """The relay's counters now, by name; those that are 0 are left out."""
        relay_ = self.relays[relay]
        lines = relay_.log().count(" counters:")
        relay_.process.send_signal(signal.SIGUSR1)

        def told():
            if not relay_.running():
                raise HarnessError(f"relay {relay} ended with status {relay_.process.returncode}")
            return relay_.log().count(" counters:") > lines
        wait_until(told, PATIENCE_S,
                   lambda: f"relay {relay} to log its counters\n{relay_.log()[-2000:]}")
        return last_counters(relay_.log())

    def fetch(self, relay: int, form: str, dump_id: str | None = None,
              name: str = "vmcore", *flags: object) -> pathlib.Path:
        target = self.folder / f"{name}-{relay}.{form}"
        self.client(relay).run("get", dump_id or self.dump_id, "--format", form, "--output-file",
                               target, "--force", "--quiet", *flags)
        return target

    def check_views(self, image: Image, relays: Sequence[int] | None = None,
                    dump_id: str | None = None) -> None:
        """The dump's views are the same bytes on each relay, and their pages the image's."""
        chosen = [r.index for r in self.relays if r.running()] if relays is None else list(relays)
        for form in ("elf", "kdump"):
            digests = {}
            for index in chosen:
                path = self.fetch(index, form, dump_id)
                with open(path, "rb") as view:
                    digests[index] = hashlib.file_digest(view, "sha256").hexdigest()
                if index == chosen[0]:
                    assert image.differences(path) == []
                path.unlink()
            assert len(set(digests.values())) == 1, f"{form} views differ: {digests}"

    def wipe(self, relay: int) -> None:
        """Empties the disk of a relay that does not run."""
        if self.relays[relay].running():
            raise HarnessError(f"relay {relay} runs: stop it before its disk is taken away")
        shutil.rmtree(self.relays[relay].store, ignore_errors=True)


def last_counters(log: str) -> dict[str, int]:
    """The newest counters of a relay's log. Each name is followed by a number."""
    line = [part for part in log.splitlines() if " counters:" in part][-1]
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)}
