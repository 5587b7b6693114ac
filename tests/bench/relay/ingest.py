# SPDX-License-Identifier: Apache-2.0
"""The fastest lossless ingest of one relay, beside that of the least a receiver can do (wire.cc).

Both get the same recorded packets of one dump, over the same bridge, at a rate that rises until something is lost; what
counts is the payload over the time from the first packet until all of it is on disk.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import re
import shutil
import statistics
import time
from typing import Callable

from clusterlib.cluster import HostNet
from vmtest.build import binary
from vmtest.net import WIRE_PORT
from vmtest.relays import Relays, write_key
from vmtest.util import HarnessError, run, stop

GROUP, LANES = "239.192.68.67", 4
HOST_ID = "5a" * 16
RECORD_PORT, RECORD_MIB_S = 9000, 100
FIRST_MIB_S, FASTER, BISECTIONS = 60, 1.5, 3
NEARLY = 0.9  # of the rate that was asked for; a sender below it cannot send faster
METHODS = ("recvmmsg", "gro", "packet")
SETTLE_S = 4  # a relay that has not all of it so long after the last packet has lost some


@dataclasses.dataclass
class Ingest:
    mib_s: float    # of payload, first packet to durable
    cpu_s: float    # of all receivers, for each GiB
    rss_mib: float  # at its peak


def words(text: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)", text)}


class Bench:
    """Packets of a dump of so many MiB that do not compress, each of so many bytes of UDP payload."""

    def __init__(self, wire: pathlib.Path, folder: pathlib.Path, payload: int, mib: int, receivers: int = 1) -> None:
        self.wire, self.folder, self.mib = wire, folder, mib
        folder.mkdir(parents=True)
        self.receivers = receivers
        self.net = HostNet(1, receivers, 9000 if payload > 1472 else 1500)
        self.key = write_key(folder / "cluster.key")
        self.packets_path = folder / "packets"
        self.payload = payload
        self.packets = 0
        self.trials = 0
        self.sent_mib_s = 0.0  # of the last trial

    def record(self) -> None:
        image = self.folder / "image"
        with open(image, "wb") as file:
            for _ in range(self.mib):
                file.write(os.urandom(1 << 20))
        address = self.net.guest_address()
        with open(self.folder / "recorded", "w", encoding="ascii") as said:
            recorder = self.net.spawn_in(self.net.host_ns, [self.wire, "record", address, RECORD_PORT, self.packets_path],
                                         stdout=said)
        try:
            self._ready(self.folder / "recorded")
            self.net.run_in(self.net.host_ns, [
                binary("dumpcast-send"), "--file", image, "--format", "raw", "--key-file", self.key, "--host-id", HOST_ID,
                "--relay", f"{address}:{RECORD_PORT}", "--rate", RECORD_MIB_S, "--codec", "none", "--blind",
                "--parity-blind", 0, "--blind-passes", 0, "--arm", 0, "--linger", 0, "--lanes", LANES,
                "--symbol-size", self.payload - 96], check=False)
            recorder.wait(60)
        finally:
            stop(recorder)
        self.packets = int(words((self.folder / "recorded").read_text(encoding="ascii"))["packets"])
        image.unlink()
        if self.packets < self.mib * (1 << 20) / (self.payload - 96):
            raise HarnessError(f"the recorder lost packets: {self.packets} of {self.mib} MiB")

    def host_key(self) -> str:
        return run([binary("dumpcast"), "hostkey", "--key-file", self.key, HOST_ID]).stdout.split()[2]

    def bare(self, method: str, mib_s: float, to_disk: bool = True) -> Ingest | None:
        """One trial of a program for each receiver; None when one has lost something."""
        logs = [self.folder / f"received{index}" for index in range(self.receivers)]
        processes, usages = [], []
        try:
            for index, log in enumerate(logs):
                with open(log, "w", encoding="ascii") as said:
                    processes.append(self.net.spawn_in(self.net.relay_ns(index), [
                        self.wire, "receive", GROUP, WIRE_PORT, self.net.relay_address(index), LANES, self.host_key(), method,
                        log.with_suffix(".out") if to_disk else "none", self.packets], stdout=said))
            for log in logs:
                self._ready(log)
            self._send(mib_s)
            for process in processes:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                usages.append(usage)
        finally:
            for process in processes:
                stop(process)
        seen = [words(log.read_text(encoding="ascii")) for log in logs]
        for log in logs:
            log.with_suffix(".out").unlink(missing_ok=True)
        if any(one["packets"] < self.packets for one in seen):
            return None
        if any(one["bad_mac"] for one in seen):
            raise HarnessError(f"packets with a wrong MAC: {seen}")
        return self._ingest(max(one["durable"] for one in seen) - min(one["first"] for one in seen),
                            sum(usage.ru_utime + usage.ru_stime for usage in usages), max(usage.ru_maxrss for usage in usages) / 1024)

    def relay(self, mib_s: float) -> Ingest | None:
        self.trials += 1
        folder = self.folder / f"relay{self.trials}"
        with_key = Relays(self.net, folder)
        relay = with_key[0]
        relay.key = self.key
        with with_key:
            sent = self._send(mib_s)
            until = time.monotonic() + SETTLE_S
            while not (done := re.search(r"^(\S+) .*complete and durable", relay.log(), re.M)) and time.monotonic() < until:
                time.sleep(0.05)
            counters = relay.counters()
            status = pathlib.Path(f"/proc/{relay.process.pid}/status").read_text(encoding="ascii")
            times = pathlib.Path(f"/proc/{relay.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        shutil.rmtree(folder)
        if not done or counters["socket_drops"] or counters["received"] < self.packets:
            return None
        cpu = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
        return self._ingest(datetime.datetime.fromisoformat(done[1]).timestamp() - sent["began"], cpu,
                            int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024)

    def _ingest(self, seconds: float, cpu_s: float, rss_mib: float) -> Ingest:
        return Ingest(self.mib / seconds, cpu_s * 1024 / self.mib, rss_mib)

    def _send(self, mib_s: float) -> dict[str, float]:
        sent = words(self.net.run_in(self.net.host_ns, [self.wire, "send", self.packets_path, GROUP, WIRE_PORT,
                                                        self.net.guest_address(), mib_s]).stdout)
        self.sent_mib_s = sent["bytes"] / (1 << 20) / (sent["ended"] - sent["began"])
        return sent

    def fastest(self, trial: Callable[[float], Ingest | None]) -> Ingest:
        """Of the trials that lost nothing, over rates that rise by half, to what can be sent at all, and are then bisected."""
        good, low, high, rate = [], 0.0, 0.0, FIRST_MIB_S
        while not high and self.sent_mib_s >= NEARLY * low:
            if result := trial(rate):
                good.append(result)
                low, rate = rate, rate * FASTER
            else:
                high = rate
        for _ in range(BISECTIONS if high else 0):
            rate = (low + high) / 2
            if result := trial(rate):
                good.append(result)
                low = rate
            else:
                high = rate
        if not good:
            raise HarnessError(f"something is lost even at {FIRST_MIB_S} MiB/s")
        return max(good, key=lambda result: result.mib_s)

    @staticmethod
    def _ready(path: pathlib.Path) -> None:
        until = time.monotonic() + 10
        while "ready" not in path.read_text(encoding="ascii"):
            if time.monotonic() > until:
                raise HarnessError(f"{path.name}: the program is not ready")
            time.sleep(0.02)


def least(wire: pathlib.Path, folder: pathlib.Path, mib: int, receivers: int, rounds: int) -> list[float]:
    """Seconds until the bare programs have all of it on disk, of the fastest trial of each round that lost nothing."""
    bench = Bench(wire, folder, 1400, mib, receivers)
    with bench.net:
        bench.record()
        return [mib / bench.fastest(lambda rate: bench.bare("gro", rate)).mib_s for _ in range(rounds)]


def direct_write_mib_s(folder: pathlib.Path, mib: int) -> float:
    target, began = folder / "direct", time.monotonic()
    run(["dd", "if=/dev/zero", f"of={target}", "bs=4M", f"count={mib // 4}", "oflag=direct", "conv=fdatasync"])
    seconds = time.monotonic() - began
    target.unlink()
    return mib / seconds


def medians(results: list[Ingest]) -> Ingest:
    return Ingest(*(statistics.median(getattr(result, field.name) for result in results)
                    for field in dataclasses.fields(Ingest)))


def compare(wire: pathlib.Path, folder: pathlib.Path, payload: int, mib: int, rounds: int) -> float:
    """Prints a table; the ratio of the relay's rate to the bare program's, of medians."""
    bench = Bench(wire, folder, payload, mib)
    with bench.net:
        bench.record()
        methods = {method: bench.fastest(lambda rate, m=method: bench.bare(m, rate)) for method in METHODS}
        for method, result in methods.items():
            print(f"{payload} bytes, bare program by {method}: {result.mib_s:.0f} MiB/s", flush=True)
        best = max(methods, key=lambda method: methods[method].mib_s)
        bare, relay, only, disk = [], [], [], []
        for number in range(rounds):
            bare.append(bench.fastest(lambda rate: bench.bare(best, rate)))
            relay.append(bench.fastest(bench.relay))
            only.append(bench.fastest(lambda rate: bench.bare(best, rate, to_disk=False)))
            disk.append(direct_write_mib_s(folder, mib))
            print(f"{payload} bytes, round {number + 1}: bare {bare[-1].mib_s:.0f}, relay {relay[-1].mib_s:.0f}, receive "
                  f"only {only[-1].mib_s:.0f}, disk {disk[-1]:.0f} MiB/s", flush=True)
    ratio = medians(relay).mib_s / medians(bare).mib_s
    print(f"\n{payload} bytes of payload, {mib} MiB, medians of {rounds}\n\n| | MiB/s | CPU s/GiB | peak MiB |\n|---|---|---|---|")
    for name, one in ((f"bare, {best}", medians(bare)), ("relay", medians(relay)), ("receive only", medians(only))):
        print(f"| {name} | {one.mib_s:.0f} | {one.cpu_s:.2f} | {one.rss_mib:.0f} |")
    print(f"| disk, direct | {statistics.median(disk):.0f} | | |\n\n{payload} bytes: relay to bare {ratio:.2f}", flush=True)
    return ratio
