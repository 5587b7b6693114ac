#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The whole dump path beside plain memcpy of the same pages, in the same panic hook.

By codec, number of processors, and with encryption or without. Each boot: the filter looks at all of
memory, the pages that leave are copied once, then they are dumped; nobody receives, so that nothing but the
host decides. Then a large guest, for the filter alone. Needs root, as tests/vm does.
"""

from __future__ import annotations

import argparse
import itertools
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
from vmtest.util import run, scratch_dir  # noqa: E402

MEMORY_MIB, FILL_MIB = 384, 64
TEBIBYTE_PAGES = 1 << 28
ARM = """key_file = "/etc/dumpcast/cluster.key"
fix_kernel = true
dump_level = {level}
codec = "{codec}"
{recipients}
parity_percent_blind = 4
blind_passes = 0
linger_ms = 100
time_limit_s = 300
[[path]]
device = "net0"
destinations = ["239.192.68.67"]
"""


def recipients(folder: pathlib.Path, encrypted: bool) -> str:
    if not encrypted:
        return ""
    run([binary("dumpcast"), "keygen", "-O", folder / "identity"])
    text = (folder / "identity").read_text(encoding="ascii")
    return f'recipients = ["{re.search("recipient: ([0-9a-f]{64})", text)[1]}"]'


def boot(kernel, kmod, args, folder: pathlib.Path, *, codec: str = "auto", cpus: int = 1, encrypted: bool = False,
         level: int = 0, memory_mib: int = MEMORY_MIB, fill_mib: int = FILL_MIB) -> dict[str, float]:
    key = write_key(folder / "cluster.key")
    guest = Guest(kernel, kmods=[kmod], binaries={"/bin/dumpcast-arm": binary("dumpcast-arm")},
                  files={"/etc/dumpcast/arm.toml": ARM.format(level=level, codec=codec,
                                                              recipients=recipients(folder, encrypted)),
                         "/etc/dumpcast/cluster.key": key})
    with Net(1, 0) as net, Vm(kernel, guest.build(folder / "initramfs"), folder / "vm", net, [args.nic],
                              memory_mib=memory_mib, cpus=cpus) as vm:
        # Half of what is added does not compress; the rest of the guest is as it is.
        vm.sh(f"dd if=/dev/urandom of=/tmp/noise bs=1M count={fill_mib} && "
              f"yes 'a line of text that is in memory many times' | head -c {fill_mib << 20} >/tmp/text && dumpcast-arm arm",
              timeout_s=300, check=True)
        vm.crash()
        filtered = vm.wait_console(r"bench: filter (\d+) struct pages in (\d+) us", 300)
        copied = vm.wait_console(r"bench: copied (\d+) pages in (\d+) us", 300)
        dumped = vm.wait_console(r"bench: dump (\d+) pages, (\d+) blocks, (\d+) by helpers, (\d+) raw bytes as (\d+) in "
                                 r"(\d+) us", 600)
        vm.wait_reset()
    pages, blocks, helped, raw, encoded, us = map(int, dumped.groups())
    return {"pages_s": int(filtered[1]) / int(filtered[2]) * 1e6,
            "copy_mib_s": int(copied[1]) / 256 / int(copied[2]) * 1e6,
            "dump_mib_s": pages / 256 / us * 1e6, "blocks_s": blocks / us * 1e6,
            "helped": helped / blocks, "kept": raw / encoded}


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
    middle["ratio"] = statistics.median(row["dump_mib_s"] / row["copy_mib_s"] for row in rows)
    return middle


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", help="folder of the programs (default build/dev)")
    parser.add_argument("--kernel", default="6.1", help="series or release (default %(default)s)")
    parser.add_argument("--boots", type=int, default=3, help="of each (default %(default)s)")
    parser.add_argument("--nic", default="virtio-net-pci", help="(default %(default)s)")
    parser.add_argument("--codec", action="append", help="may be repeated (default none, lz4, zstd, auto)")
    parser.add_argument("--cpus", type=int, action="append", help="may be repeated (default 1 and 2)")
    parser.add_argument("--large", type=int, default=8192, help="MiB of the guest for the filter (default %(default)s)")
    args = parser.parse_args()
    if args.build:
        os.environ["DUMPCAST_BUILD_DIR"] = str(pathlib.Path(args.build).resolve())
    kernel = kernels.find(args.kernel)
    kmod = bench_kmod(kernel, "path", ["dcast_sender_step"])
    cells = list(itertools.product(args.codec or ["none", "lz4", "zstd", "auto"], args.cpus or [1, 2], (False, True)))
    seen: dict[tuple, list[dict[str, float]]] = {cell: [] for cell in cells}
    filters = []
    for number in range(args.boots):
        for cell in cells:
            codec, cpus, encrypted = cell
            with scratch_dir() as folder:
                seen[cell].append(boot(kernel, kmod, args, folder, codec=codec, cpus=cpus, encrypted=encrypted))
            one = seen[cell][-1]
            print(f"boot {number + 1} {codec}, {cpus} processors{', encrypted' if encrypted else ''}: "
                  f"{one['dump_mib_s']:.0f} MiB/s, memcpy {one['copy_mib_s']:.0f} MiB/s", flush=True)
        with scratch_dir() as folder:
            filters.append(boot(kernel, kmod, args, folder, level=31, memory_mib=args.large)["pages_s"])
            print(f"boot {number + 1} filter, {args.large} MiB: {filters[-1] / 1e6:.1f} million struct pages/s", flush=True)
    print(f"\n{kernel.release}, {args.nic}, medians of {args.boots} boots\n\n| codec | processors | encrypted | memcpy, MiB/s "
          "| dump path, MiB/s | to memcpy | blocks/s | by helpers | raw to encoded |\n|---|---|---|---|---|---|---|---|---|")
    for (codec, cpus, encrypted), rows in seen.items():
        m = medians(rows)
        print(f"| {codec} | {cpus} | {'yes' if encrypted else 'no'} | {m['copy_mib_s']:.0f} | {m['dump_mib_s']:.0f} | "
              f"{m['ratio']:.3f} | {m['blocks_s']:.0f} | {m['helped']:.0%} | {m['kept']:.2f} |")
    rate = statistics.median(filters)
    print(f"\nfilter at level 31, {args.large} MiB: {rate / 1e6:.1f} million struct pages/s; 1 TiB would take "
          f"{TEBIBYTE_PAGES / rate:.1f} s")
    best = max((medians(rows)["ratio"], cell) for cell, rows in seen.items())
    print(f"ratio of the dump path to memcpy, best: {best[0]:.3f} ({', '.join(map(str, best[1]))})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
