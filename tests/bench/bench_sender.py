#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How fast the panic hook transmits, beside pktgen, the kernel's own packet generator.

In each boot of one guest, on one card: pktgen with packets that it sends again and again, and
with packets that it makes one by one; then a panic, and inside the hook ready-made packets by the
module's own ring, and the first pass of a whole dump. Frames have the same size in all four, and
nobody receives them: the tap's bridge has no other port. Needs root, as tests/vm does.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import re
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]
sys.path[:0] = [str(HERE), str(REPO / "tests" / "vm")]

from benchlib import bench_kmod  # noqa: E402  (the path above comes first)
from vmtest import kernels  # noqa: E402
from vmtest.build import binary  # noqa: E402
from vmtest.guest import Guest  # noqa: E402
from vmtest.net import Net  # noqa: E402
from vmtest.qemu import Vm  # noqa: E402
from vmtest.relays import write_key  # noqa: E402
from vmtest.util import HarnessError, scratch_dir  # noqa: E402

FRAME = 1514          # bytes of every frame in all four
PKTGEN_COUNT = 150000
FILL_MIB = 96         # of random bytes in the guest: memory that does not compress
WAYS = {"pktgen_same": "pktgen, one packet again and again",
        "pktgen_new": "pktgen, each packet made",
        "hook_ready": "hook, ready-made packets",
        "hook_dump": "hook, whole dump path"}

# Functions that sender/bench.c puts a clock around.
WRAPPED = ("dcast_sender_step", "dcast_encode_block", "dcast_window_classes", "dcast_page_read",
           "LZ4_compress_fast", "dcast_fec_parity", "dcast_tx_put", "dcast_poll")
# What the dump's time goes into. Parts of encode are told apart; engine is the rest, mostly MACs.
STAGES = {"filter": "classes", "read": "read", "compress": "compress", "digest, zero test": None,
          "parity": "parity", "headers, checksum, driver": "put", "poll": "poll", "engine, MAC": None}

ARM = """key_file = "/etc/dumpcast/cluster.key"
fix_kernel = true
dump_level = 0
parity_percent_blind = 4
blind_passes = 0
linger_ms = 100
time_limit_s = 120
[[path]]
device = "net0"
destinations = ["239.192.68.67"]
"""

PKTGEN = """set -e
set_to() {{ echo "$2" >/proc/net/pktgen/$1; }}
modprobe pktgen
set_to kpktgend_0 rem_device_all
set_to kpktgend_0 "add_device net0"
set_to net0 "count {count}"
set_to net0 "pkt_size {frame}"
set_to net0 "delay 0"
set_to net0 "clone_skb {clone}"
set_to net0 "burst {burst}"
set_to net0 "dst 239.192.68.67"
set_to net0 "dst_mac 01:00:5e:40:44:43"
set_to pgctrl start
cat /proc/net/pktgen/net0
"""


def pktgen(vm: Vm, clone: int, burst: int) -> float:
    """Packets a second."""
    code, said = vm.sh(PKTGEN.format(count=PKTGEN_COUNT, frame=FRAME, clone=clone, burst=burst),
                       timeout_s=300)
    found = re.search(r"Result: OK: (\d+)\(.*?\) usec, (\d+) \(", said)
    if code or not found:
        raise HarnessError(f"pktgen: exit status {code}\n{said}")
    return int(found[2]) / int(found[1]) * 1e6


def boot(kernel: kernels.Kernel, kmod: pathlib.Path, nic: str, folder: pathlib.Path) -> dict[str, float]:
    """Packets a second by way, and "dump_mib_s", payload of the dump."""
    key = write_key(folder / "cluster.key")
    guest = Guest(kernel, kmods=[kmod], modules=["pktgen"],
                  binaries={"/bin/dumpcast-arm": binary("dumpcast-arm")},
                  files={"/etc/dumpcast/arm.toml": ARM, "/etc/dumpcast/cluster.key": key})
    with Net(1, 0) as net, Vm(kernel, guest.build(folder / "initramfs"), folder / "vm", net, [nic],
                              memory_mib=320, cpus=1) as vm:
        rates = {"pktgen_same": pktgen(vm, 1 << 30, 32), "pktgen_new": pktgen(vm, 0, 1)}
        vm.sh(f"dd if=/dev/urandom of=/tmp/fill bs=1M count={FILL_MIB} && dumpcast-arm arm",
              timeout_s=180, check=True)
        vm.crash()
        ready = vm.wait_console(r"bench: ready-made (\d+) packets in (\d+) us", 300)
        dump = vm.wait_console(r"bench: dump (\d+) packets, (\d+) bytes in (\d+) us", 300)
        spent = vm.wait_console(r"bench: us of it: (.*)", 60)[1]
        vm.wait_reset()
        rates["hook_ready"] = int(ready[1]) / int(ready[2]) * 1e6
        rates["hook_dump"] = int(dump[1]) / int(dump[3]) * 1e6
        rates["dump_mib_s"] = int(dump[2]) / int(dump[3]) * 1e6 / (1 << 20)
        rates.update(stages(int(dump[3]), spent))
        return rates


def stages(whole_us: int, spent: str) -> dict[str, float]:
    """Share of the dump's time by stage, from what bench.c says."""
    us = {name: int(value) for name, value in re.findall(r"(\w+) (\d+)", spent)}
    # The presence's look at every window is not part of an encode.
    inside = min(us["encode"], us["classes"] + us["read"] + us["compress"])
    share = {stage: us[name] for stage, name in STAGES.items() if name}
    share["digest, zero test"] = us["encode"] - inside
    share["engine, MAC"] = whole_us - us["encode"] - us["parity"] - us["put"] - us["poll"]
    return {f"share {stage}": share[stage] / whole_us for stage in STAGES}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", help="folder of the programs (default build/dev)")
    parser.add_argument("--kernel", default="6.1", help="series or release (default %(default)s)")
    parser.add_argument("--boots", type=int, default=3, help="of each card (default %(default)s)")
    parser.add_argument("--nic", action="append", help="card; may be repeated "
                        "(default virtio-net-pci and e1000e)")
    args = parser.parse_args()
    if args.build:
        os.environ["DUMPCAST_BUILD_DIR"] = str(pathlib.Path(args.build).resolve())
    nics = args.nic or ["virtio-net-pci", "e1000e"]
    kernel = kernels.find(args.kernel)
    kmod = bench_kmod(kernel, "sender", WRAPPED)
    seen: dict[str, list[dict[str, float]]] = {nic: [] for nic in nics}
    for number in range(args.boots):
        for nic in nics:
            with scratch_dir() as folder:
                rates = boot(kernel, kmod, nic, folder)
            seen[nic].append(rates)
            print(f"boot {number + 1} {nic}: " + ", ".join(
                f"{way} {rates[way] / 1000:.1f} k/s" for way in WAYS), flush=True)
    print(f"\n{kernel.release}, frames of {FRAME} bytes, medians of {args.boots} boots")
    print("| card | " + " | ".join(WAYS.values()) + " |\n|---|" + "---|" * len(WAYS))
    ratios = []
    for nic in nics:
        median = {way: statistics.median(rates[way] for rates in seen[nic]) for way in seen[nic][0]}
        print(f"| {nic} | " + " | ".join(
            f"{median[way] / 1000:.1f} k/s, {median[way] * FRAME / (1 << 20):.0f} MiB/s"
            for way in WAYS) + " |")
        faster = [max(rates["pktgen_same"], rates["pktgen_new"]) for rates in seen[nic]]
        ratio = {way: statistics.median(rates[way] / best for rates, best in zip(seen[nic], faster))
                 for way in ("hook_ready", "hook_dump")}
        ratios.append(f"{nic} ready-made {ratio['hook_ready']:.2f}, dump {ratio['hook_dump']:.2f}")
    print("\nwhere the dump's time goes, shares\n| card | " + " | ".join(STAGES) +
          " |\n|---|" + "---|" * len(STAGES))
    for nic in nics:
        print(f"| {nic} | " + " | ".join(
            f"{statistics.median(rates[f'share {stage}'] for rates in seen[nic]):.0%}"
            for stage in STAGES) + " |")
    print(f"\nratio to the faster pktgen of the same boot: {'; '.join(ratios)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
