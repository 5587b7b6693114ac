# SPDX-License-Identifier: Apache-2.0
"""One file that does not compress to several receivers: dumpcast beside uftp, udpcast and TCP.

The same bytes over the same bridge, with the same loss and cap for all; the time ends when every receiver has it on disk
(fsync returned), and every copy is then compared. Each peer's settings are its best of those tried, see SETTINGS.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time
from typing import Callable, Sequence

from clusterlib.cluster import HostNet
from relay.ingest import words
from vmtest.build import binary
from vmtest.relays import Relays
from vmtest.util import HarnessError, run, stop
from vmtest.vmcore import open_vmcore

MTU = 1500
CAP = ["rate", "1gbit", "burst", "256kb", "latency", "20ms"]
PATIENCE_S = 120
TCP_PORT = 9100
SOCKET_BYTES = 64 << 20
HERE = pathlib.Path(__file__).resolve().parent
RECEIVER = HERE / "receiver.py"

# What each was tried with, the best first. uftp has no congestion control that pays here, so it gets the rate
# of the link; -1 is none. udpcast without a rate sends as fast as its window lets it.
SETTINGS = {
    "uftp": {"capped": ["-R", "930000"], "uncapped": ["-R", "-1"]},
    "udpcast": {"capped": ["--full-duplex"], "uncapped": ["--full-duplex"]},
    "udpcast, FEC": {"capped": ["--full-duplex", "--fec", "8x8/128"], "uncapped": ["--full-duplex", "--fec", "8x8/128"]},
}


@dataclasses.dataclass(frozen=True)
class Cell:
    receivers: int
    loss: str       # of LOSSES
    capped: bool

    def __str__(self) -> str:
        return f"{self.receivers} receivers, {self.loss} loss, {'1 Gbit/s' if self.capped else 'uncapped'}"


# What a receiver's port loses, as nftables has it. A burst lasts a time, whatever is sent in it: all protocols are in
# a set for these milliseconds.
BURST_MS, BURST_EVERY_MS = 4, 400
LOSSES = {"no": "", "1 %": "numgen random mod 10000 < 100", "5 %": "numgen random mod 10000 < 500",
          f"bursts of {BURST_MS} ms, 1 %": "meta protocol @burst"}


@dataclasses.dataclass
class Result:
    seconds: float
    cpu_s: float    # of all programs, for each GiB sent
    rss_mib: float  # of the largest receiver


class Bench:
    def __init__(self, cell: Cell, image: pathlib.Path, folder: pathlib.Path) -> None:
        self.cell, self.image, self.folder = cell, image, folder
        self.net = HostNet(1, cell.receivers, MTU)
        self.bytes = image.stat().st_size
        self.bursts: threading.Thread | None = None
        self.quiet = threading.Event()

    def __enter__(self) -> "Bench":
        self.net.__enter__()
        try:
            # What crosses the link are packets of its MTU, each of which may be lost by itself, as on a wire.
            for namespace in (self.net.host_ns, *(self.net.relay_ns(i) for i in range(self.cell.receivers))):
                self.net.run_in(namespace, ["ethtool", "-K", "leg0", "tso", "off", "gso", "off", "tx-udp-segmentation", "off"])
            self.net.run_in(self.net.host_ns, ["ethtool", "-K", "leg0", "gro", "on"])
            self.net.join_received()
            self.net.spare_client()
            if self.cell.capped:
                self.net.run_in(self.net.host_ns, ["tc", "qdisc", "add", "dev", "leg0", "root", "tbf", *CAP])
            rule = LOSSES[self.cell.loss]
            for receiver in range(self.cell.receivers) if rule else ():
                # Whatever protocol it is of; in the switch, where they are single packets.
                self.net.run_in(self.net.switch, [
                    "nft", f"table netdev bench{receiver} {{\n set burst {{\n  type ether_type;\n  flags timeout;\n }}\n"
                    f" chain out {{\n  type filter hook egress device \"{self.net.relay_port(receiver)}\" priority 0;\n"
                    f"  meta l4proto {{ tcp, udp }} {rule} counter drop\n }}\n}}"])
            if "@burst" in rule:
                self._start_bursts()
        except BaseException:
            self._end_bursts()
            self.net.remove()
            raise
        return self

    def __exit__(self, *_exc) -> None:
        self._end_bursts()
        self.net.remove()

    def _start_bursts(self) -> None:
        """Of one receiver after another, until _end_bursts()."""
        nft = self.net.spawn_in(self.net.switch, ["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

        def run() -> None:
            for receiver in itertools.cycle(range(self.cell.receivers)):
                if self.quiet.wait(BURST_EVERY_MS / 1000 / self.cell.receivers):
                    break
                nft.stdin.write(f"add element netdev bench{receiver} burst {{ ip timeout {BURST_MS}ms }}\n")
                nft.stdin.flush()
            nft.stdin.close()
            nft.wait()

        self.bursts = threading.Thread(target=run)
        self.bursts.start()

    def _end_bursts(self) -> None:
        self.quiet.set()
        if self.bursts:
            self.bursts.join()

    # Each way: the seconds from its start until all receivers have it on disk.

    def dumpcast(self) -> Result:
        folder = self.folder / "dumpcast"
        log = folder / "sender.log"
        relays = Relays(self.net, folder)
        with relays:
            with open(log, "w", encoding="utf-8") as said:
                sender = self.net.spawn_in(self.net.host_ns, [
                    binary("dumpcast-send"), "--file", self.image, "--format", "raw", "--key-file", relays.key, "--codec", "none",
                    "--interface", "leg0", "--commits", self.cell.receivers, "--lanes", 4, "--helpers", 1], stdout=said, stderr=said)
            try:
                status, usage = waited(sender)
            finally:
                stop(sender)
            text = log.read_text(encoding="utf-8")
            if status != 0:
                raise HarnessError(f"dumpcast-send: exit status {status}\n{text[-2000:]}\n{relays.logs()}")
            began = log.stat().st_mtime - float(re.search(r"sent in ([\d.]+) s", text)[1])
            ended = [datetime.datetime.fromisoformat(re.search(r"^(\S+) .*complete and durable", relay.log(), re.M)[1]).timestamp()
                     for relay in relays]
            cpu, rss = usage.ru_utime + usage.ru_stime, 0.0
            for relay in relays:
                process = pathlib.Path(f"/proc/{relay.process.pid}")
                times = (process / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
                cpu += (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
                rss = max(rss, int(re.search(r"VmHWM:\s+(\d+)", (process / "status").read_text(encoding="ascii"))[1]) / 1024)
            for index, relay in enumerate(relays):
                client, target = relays.client(index), folder / f"vmcore{index}"
                client.run("get", client.dumps()[0]["dump_id"], "--format", "elf", "-O", target, "--quiet", timeout=600)
                self._check_vmcore(target)
                target.unlink()
        shutil.rmtree(folder)
        return Result(max(ended) - began, cpu * (1 << 30) / self.bytes, rss)

    def tcp(self) -> Result:
        return self._peer(
            lambda receiver, target: [sys.executable, HERE / "tcp.py", "receive", TCP_PORT, target],
            [sys.executable, HERE / "tcp.py", "send", self.image, *(f"{self.net.relay_address(i)}:{TCP_PORT}"
                                                                  for i in range(self.cell.receivers))])

    def udpcast(self, name: str = "udpcast") -> Result:
        return self._peer(
            lambda receiver, target: ["udp-receiver", "--interface", "leg0", "--nokbd", "--file", target],
            ["udp-sender", "--interface", "leg0", "--nokbd", "--min-receivers", self.cell.receivers, "--file", self.image,
             *self._settings(name)])

    def udpcast_fec(self) -> Result:
        return self.udpcast("udpcast, FEC")

    def uftp(self) -> Result:
        def receiver(index: int, target: pathlib.Path) -> Sequence[object]:
            # A daemon: it says that it has the file by a script of ours.
            script = target.parent / "script"
            script.write_text(f"#!/bin/sh\n: >{target}.done\n", encoding="ascii")
            script.chmod(0o700)
            return ["uftpd", "-d", "-t", "-I", "leg0", "-B", SOCKET_BYTES, "-D", target.parent, "-s", script]
        return self._peer(receiver, ["uftp", "-I", "leg0", "-b", 1400, "-B", SOCKET_BYTES, "-r", "0.05", "-D", "target",
                                     *self._settings("uftp"), self.image])

    def _settings(self, name: str) -> Sequence[str]:
        return SETTINGS[name]["capped" if self.cell.capped else "uncapped"]

    def _peer(self, receiver: Callable[[int, pathlib.Path], Sequence[object]], sender: Sequence[object]) -> Result:
        folders = [self.folder / f"receiver{index}" for index in range(self.cell.receivers)]
        receivers: list[subprocess.Popen] = []
        try:
            for index, folder in enumerate(folders):
                folder.mkdir(parents=True)
                target = folder / "target"
                with open(folder / "said", "w", encoding="utf-8") as said:
                    receivers.append(self.net.spawn_in(self.net.relay_ns(index), [
                        sys.executable, RECEIVER, target, *receiver(index, target)], stdin=subprocess.PIPE, stdout=said, stderr=said))
            time.sleep(1)  # until they listen
            began = time.time()
            with open(self.folder / "sender", "w", encoding="utf-8") as said:
                process = self.net.spawn_in(self.net.host_ns, sender, stdout=said, stderr=said)
            try:
                status, usage = waited(process)
            finally:
                stop(process)
            for process in receivers:
                process.stdin.close()
                waited(process)
            said = [(folder / "said").read_text(encoding="utf-8", errors="replace") for folder in folders]
            found = [words(text) for text in said]
            if status != 0 or not all("durable" in one for one in found):
                raise HarnessError(f"{sender[0]}: exit status {status}\n"
                                   f"{(self.folder / 'sender').read_text(encoding='utf-8', errors='replace')[-2000:]}\n" +
                                   "\n".join(text[-2000:] for text in said))
            for folder in folders:
                self._check(folder / "target")
        finally:
            for process in receivers:
                stop(process)
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
        cpu = usage.ru_utime + usage.ru_stime + sum(one["cpu"] for one in found)
        return Result(max(one["durable"] for one in found) - began, cpu * (1 << 30) / self.bytes, max(one["rss_mib"] for one in found))

    def _check(self, copy: pathlib.Path) -> None:
        if digest(copy) != digest(self.image):
            raise HarnessError(f"{copy} is not what was sent")

    def _check_vmcore(self, path: pathlib.Path) -> None:
        core, wanted = open_vmcore(path), self.image.read_bytes()
        for pfn in range(self.bytes // 4096):
            if core.page(pfn) != wanted[pfn * 4096:(pfn + 1) * 4096]:
                raise HarnessError(f"{path}: page {pfn:#x} is not what was sent")


WAYS: dict[str, Callable[[Bench], Result]] = {
    "dumpcast": Bench.dumpcast, "uftp": Bench.uftp, "udpcast": Bench.udpcast, "udpcast, FEC": Bench.udpcast_fec, "TCP": Bench.tcp}


def waited(process: subprocess.Popen):
    """Its exit status and what it used."""
    until = time.monotonic() + PATIENCE_S
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage
        if time.monotonic() > until:
            raise HarnessError(f"{process.args}: still running after {PATIENCE_S} s")
        time.sleep(0.01)


def digest(path: pathlib.Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def make_image(path: pathlib.Path, mib: int) -> pathlib.Path:
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
    run(["sync", "-f", path])
    return path
