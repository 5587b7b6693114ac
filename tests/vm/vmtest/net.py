# SPDX-License-Identifier: Apache-2.0
"""Test networks: bridges the VM's cards are plugged into, and namespaces for relays.

                 switch namespace                      one namespace per relay
    QEMU ══ tap 0 ── bridge 0 ── veth ───────────────── leg0  relay r0 … r(n-1), client
    QEMU ══ tap 1 ── bridge 1 ── veth ───────────────── leg1

Everything, bridges and taps too, lives in network namespaces of its own, so the
machine's own network is never touched and deleting the namespaces removes all of it.
Names carry a prefix that no other test has. What a killed test left behind is removed
by the next one (sweep).

Addresses on bridge b: guest 10.68.b.2, relay j 10.68.b.(10+j), client 10.68.b.100; the
same numbers in IPv6 as fd68:0:0:b::N/64 (in hexadecimal).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import secrets
import subprocess
import sys
from typing import Sequence

from .util import HarnessError, run, say, spawn, stop

STATE = pathlib.Path("/run/dumpcast-vmtest")
GUEST_NUMBER, RELAY_NUMBER, CLIENT_NUMBER = 2, 10, 100
WIRE_PORT = 26210


@dataclasses.dataclass(frozen=True)
class Port:
    """Where one network card of the VM is plugged in."""

    bridge: int
    tap: str
    mac: str
    v4: str  # address/length
    v6: str


@dataclasses.dataclass(frozen=True)
class Loss:
    """What one leg of a relay loses of the sender's packets (UDP to the wire port).

    percent: random, 0 to 100. burst_packets of every burst_every in a row are lost.
    """

    percent: float = 0
    burst_packets: int = 0
    burst_every: int = 0

    def rules(self, leg: str) -> list[str]:
        match = f'iifname "{leg}" udp dport {WIRE_PORT}'
        rules = []
        if self.percent >= 100:
            rules.append(f"{match} counter drop")
        elif self.percent:
            rules.append(f"{match} numgen random mod 10000 < {round(self.percent * 100)} counter drop")
        if self.burst_packets:
            if self.burst_every <= self.burst_packets:
                raise HarnessError(f"a burst of {self.burst_packets} needs a longer period than "
                                   f"{self.burst_every} packets")
            rules.append(f"{match} numgen inc mod {self.burst_every} < {self.burst_packets} "
                         "counter drop")
        return rules


class Net:
    """N bridges, a tap on each for the guest, and namespaces with one leg on each bridge.

    queues: of each card. Use as a context manager. Needs root. A process started in a namespace
    must be stopped before the Net is left.
    """

    def __init__(self, bridges: int = 2, relays: int = 3, mtu: int = 1500, queues: int = 1) -> None:
        self.bridges, self.relays, self.mtu, self.queues = bridges, relays, mtu, queues
        # Interface names hold 15 characters: 8 of prefix, "-", and 6 of our own.
        self.prefix = "dc" + secrets.token_hex(3)
        self.switch = f"{self.prefix}-sw"
        self._loss: dict[tuple[int, int], Loss] = {}
        self._replies_dropped: set[int] = set()
        self._helpers: list[subprocess.Popen] = []

    def __enter__(self) -> "Net":
        if os.geteuid() != 0:
            raise HarnessError("network namespaces, bridges and taps need root")
        sweep()
        STATE.mkdir(parents=True, exist_ok=True)
        (STATE / self.prefix).write_text(_identity(os.getpid()), encoding="ascii")
        try:
            self._build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_exc) -> None:
        self.remove()

    def remove(self) -> None:
        """Removes everything; harmless when called twice."""
        for helper in self._helpers:
            stop(helper)
        self._helpers.clear()
        _remove(self.prefix)

    def relay_ns(self, relay: int) -> str:
        return f"{self.prefix}-r{relay}"

    def relay_port(self, relay: int, bridge: int = 0) -> str:
        """The switch's port to it."""
        return self._near(f"r{relay}", bridge)

    @property
    def client_ns(self) -> str:
        return f"{self.prefix}-cl"

    def port(self, bridge: int) -> Port:
        return Port(bridge, f"{self.prefix}-t{bridge}", f"52:54:00:68:{bridge:02x}:02",
                    self._v4(bridge, GUEST_NUMBER) + "/24", self._v6(bridge, GUEST_NUMBER) + "/64")

    def ports(self) -> list[Port]:
        return [self.port(bridge) for bridge in range(self.bridges)]

    def guest_address(self, bridge: int = 0, v6: bool = False) -> str:
        return (self._v6 if v6 else self._v4)(bridge, GUEST_NUMBER)

    def relay_address(self, relay: int, bridge: int = 0, v6: bool = False) -> str:
        return (self._v6 if v6 else self._v4)(bridge, RELAY_NUMBER + relay)

    def set_link(self, bridge: int, up: bool) -> None:
        """Cuts or restores the cable between the guest's card and a bridge."""
        self._ip(self.switch, "link", "set", self.port(bridge).tap, "up" if up else "down")

    def set_loss(self, loss: Loss, relays: Sequence[int] | None = None,
                 bridges: Sequence[int] | None = None) -> None:
        """Sets the loss of the named legs (all by default); Loss() ends it."""
        for relay in range(self.relays) if relays is None else relays:
            for bridge in range(self.bridges) if bridges is None else bridges:
                self._loss[relay, bridge] = loss
            self._load_rules(relay)

    def join_cards(self, lacp: bool = False) -> None:
        """Plugs every card into bridge 0; lacp: as one aggregated link, with a partner."""
        taps = [port.tap for port in self.ports()]
        for tap in taps:
            self._ip(self.switch, "link", "set", tap, "master", f"{self.prefix}-b0")
            if lacp:  # what one port of a switch's aggregator sends out, no other port does
                self.run_in(self.switch, ["bridge", "link", "set", "dev", tap, "isolated", "on"])
        if lacp:
            self._helper("vmtest.lacp", *taps)

    def move_card(self, card: int, bridge: int) -> None:
        """Plugs a card into another bridge."""
        self._ip(self.switch, "link", "set", self.port(card).tap, "master",
                 f"{self.prefix}-b{bridge}")

    def change_mac(self, relay: int, bridge: int = 0) -> None:
        """The relay's leg gets another MAC, and tells its neighbours nothing."""
        leg, namespace = f"leg{bridge}", self.relay_ns(relay)
        self._ip(namespace, "link", "set", leg, "address", "02:dc:00:00:00:aa")

    def tag_cards(self, vlan: int) -> None:
        """The cards' bridges take their frames with this 802.1Q tag only, and send them with it."""
        plain, inner = f"{self.prefix}-p", f"{self.prefix}-q"
        taps = [port.tap for port in self.ports()]
        for tap in taps:
            self._ip(self.switch, "link", "set", tap, "nomaster")
        self._ip(self.switch, "link", "add", plain, "mtu", self.mtu, "type", "veth", "peer", "name",
                 inner, "mtu", self.mtu)
        self._ip(self.switch, "link", "set", plain, "up")
        self._ip(self.switch, "link", "set", inner, "master", f"{self.prefix}-b0", "up")
        self._helper("vmtest.tagger", vlan, plain, *taps)

    def _helper(self, module: str, *args: object) -> None:
        self._helpers.append(self.spawn_in(self.switch, [sys.executable, "-m", module, *args],
                                           cwd=pathlib.Path(__file__).parent.parent))

    def drop_replies(self, drop: bool, relays: Sequence[int] | None = None) -> None:
        """No way back: nothing a relay says in UDP leaves its namespace (gRPC still does)."""
        for relay in range(self.relays) if relays is None else relays:
            (self._replies_dropped.add if drop else self._replies_dropped.discard)(relay)
            self._load_rules(relay)

    def drop_neighbour_answers(self, drop: bool) -> None:
        """The guest's answers to ARP and ND get lost, as if nobody gave any; all else passes."""
        lines = [line for port in self.ports() if drop
                 for line in (f"chain from{port.bridge} {{ type filter hook ingress device "
                              f'"{port.tap}" priority 0;',
                              "ether type arp counter drop",
                              "icmpv6 type nd-neighbor-advert counter drop", "}")]
        self._nft(self.switch, ["table netdev neighbours {", *lines, "}"])

    def spare_client(self) -> None:
        """No multicast goes to the client, which joins no group, as in a switch that snoops."""
        for bridge in range(self.bridges):
            self.run_in(self.switch, ["bridge", "link", "set", "dev", self._near("cl", bridge), "mcast_flood", "off"])

    def join_received(self) -> None:
        """Relays' cards join what they receive (GRO), as drivers of real cards do, and veth only when told to."""
        for relay in range(self.relays):
            for bridge in range(self.bridges):
                self.run_in(self.relay_ns(relay), ["ethtool", "-K", f"leg{bridge}", "gro", "on"])
                # It joins only what comes from a card that cannot cut.
                self.run_in(self.switch, ["ethtool", "-K", self.relay_port(relay, bridge), "tso", "off"])

    def flush_neighbours(self, relay: int) -> None:
        """A relay forgets who has which address, as time would have it forget."""
        self._ip(self.relay_ns(relay), "neigh", "flush", "all")

    def neighbour_state(self, relay: int, bridge: int = 0, v6: bool = False) -> str:
        """What the relay's kernel knows of the guest: REACHABLE, STALE, FAILED, ... or NONE."""
        words = self.run_in(self.relay_ns(relay), [
            "ip", "neigh", "show", "to", self.guest_address(bridge, v6), "dev",
            f"leg{bridge}"]).stdout.split()
        return words[-1] if words else "NONE"

    def dropped(self, relay: int) -> int:
        """Packets to and from a relay that its rules have dropped since they were set."""
        words = []
        for namespace, table in ((self.relay_ns(relay), ["inet", "vmtest"]),
                                 (self.switch, ["netdev", f"relay{relay}"])):
            words += self.run_in(namespace, ["nft", "list", "table", *table],
                                 check=False).stdout.split()
        return sum(int(words[i + 2]) for i, word in enumerate(words)
                   if word == "counter" and words[i + 1] == "packets")

    def run_in(self, namespace: str, argv: Sequence[object], **kwargs):
        """util.run inside a namespace."""
        return run(["ip", "netns", "exec", namespace, *argv], **kwargs)

    def spawn_in(self, namespace: str, argv: Sequence[object], **kwargs) -> subprocess.Popen:
        """util.spawn inside a namespace; `ip netns exec` replaces itself, so pid is the program's."""
        return spawn(["ip", "netns", "exec", namespace, *argv], **kwargs)

    def _build(self) -> None:
        self._namespace(self.switch)
        # A switch has no firewall; where the module is loaded, the kernel's bridge asks one of each packet.
        for family in ("iptables", "ip6tables"):
            self.run_in(self.switch, ["sysctl", "-q", "-e", "-w", f"net.bridge.bridge-nf-call-{family}=0"], check=False)
        for bridge in range(self.bridges):
            name, tap = f"{self.prefix}-b{bridge}", self.port(bridge).tap
            self._ip(self.switch, "link", "add", name, "mtu", self.mtu, "type", "bridge",
                     "mcast_snooping", "0", "stp_state", "0", "forward_delay", "0")
            self._ip(self.switch, "tuntap", "add", "dev", tap, "mode", "tap",
                     *(["multi_queue"] if self.queues > 1 else []))
            self._ip(self.switch, "link", "set", tap, "mtu", self.mtu, "master", name, "up")
            self._ip(self.switch, "link", "set", name, "up")
        for relay in range(self.relays):
            self._leaf(self.relay_ns(relay), f"r{relay}", RELAY_NUMBER + relay)
        self._leaf(self.client_ns, "cl", CLIENT_NUMBER)

    def _leaf(self, namespace: str, short: str, number: int) -> None:
        self._namespace(namespace)
        for bridge in range(self.bridges):
            near, leg = self._near(short, bridge), f"leg{bridge}"
            self._ip(self.switch, "link", "add", near, "mtu", self.mtu, "type", "veth",
                     "peer", "name", leg, "mtu", self.mtu, "netns", namespace)
            self._ip(self.switch, "link", "set", near, "master", f"{self.prefix}-b{bridge}", "up")
            self._ip(namespace, "link", "set", leg, "up")
            self._ip(namespace, "addr", "add", self._v4(bridge, number) + "/24", "brd", "+", "dev", leg)
            self._ip(namespace, "addr", "add", self._v6(bridge, number) + "/64", "dev", leg, "nodad")

    def _load_rules(self, relay: int) -> None:
        incoming = [rule for bridge in range(self.bridges)
                    for rule in self._loss.get((relay, bridge), Loss()).rules(f"leg{bridge}")]
        self._nft(self.relay_ns(relay), [
            "table inet vmtest {", "chain incoming { type filter hook prerouting priority -300;",
            *incoming, "}", "}"])
        # In the switch, behind the relay's back: its own firewall would tell the relay EPERM.
        cut = [line for bridge in range(self.bridges) if relay in self._replies_dropped
               for line in (f"chain from{bridge} {{ type filter hook ingress device "
                            f'"{self._near(f"r{relay}", bridge)}" priority 0;',
                            "meta l4proto udp counter drop", "}")]
        self._nft(self.switch, [f"table netdev relay{relay} {{", *cut, "}"])

    @staticmethod
    def _nft(namespace: str, table: list[str]) -> None:
        """Replaces one table; its first line names it."""
        name = table[0].rstrip(" {")
        # `add` before `delete`, so that the first load does not fail.
        rules = "\n".join([f"add {name}", f"delete {name}", *table])
        with subprocess.Popen(["ip", "netns", "exec", namespace, "nft", "-f", "-"],
                              stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as nft:
            _, words = nft.communicate(rules + "\n", timeout=60)
        if nft.returncode != 0:
            raise HarnessError(f"nft refused:\n{rules}\n{words}")

    def _near(self, short: str, bridge: int) -> str:
        return f"{self.prefix}-{short}{bridge}"[:15]

    @staticmethod
    def _namespace(name: str) -> None:
        run(["ip", "netns", "add", name])
        run(["ip", "-n", name, "link", "set", "lo", "up"])

    @staticmethod
    def _ip(namespace: str, *args: object) -> None:
        run(["ip", "-n", namespace, *args])

    @staticmethod
    def _v4(bridge: int, number: int) -> str:
        return f"10.68.{bridge}.{number}"

    @staticmethod
    def _v6(bridge: int, number: int) -> str:
        return f"fd68:0:0:{bridge:x}::{number:x}"


def _identity(pid: int) -> str:
    """A process by pid and start time (field 22 of /proc/PID/stat), since pids come round."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return f"{pid} {stat.rpartition(')')[2].split()[19]}"
    return ""


def _remove(prefix: str) -> None:
    listing = run(["ip", "netns", "list"], check=False).stdout
    for line in listing.splitlines():
        name = line.split()[0] if line.split() else ""
        if name.startswith(prefix + "-"):
            done = run(["ip", "netns", "del", name], check=False)
            if done.returncode != 0:
                say(f"vmtest: ip netns del {name}: {done.stderr.strip()}")
    (STATE / prefix).unlink(missing_ok=True)


def sweep() -> None:
    """Removes the networks whose owner is gone (killed with SIGKILL, or the power went)."""
    if not STATE.is_dir():
        return
    for entry in STATE.iterdir():
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            owner = entry.read_text(encoding="ascii")
            if not owner or _identity(int(owner.split()[0])) != owner:
                _remove(entry.name)
