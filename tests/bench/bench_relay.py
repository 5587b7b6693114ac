#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The relay's ingest beside a bare program's, and whole dumps beside uftp, udpcast and TCP.

The part "least" has several bare programs receive what a bare one sends: how long it takes here to check MACs and write to disk,
with nothing else done and nothing lost.

Needs root: everything runs in network namespaces of its own, as tests/cluster does.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]
sys.path[:0] = [str(HERE), str(REPO / "tests" / "cluster"), str(REPO / "tests" / "vm")]

from benchlib import bench_program  # noqa: E402  (the path above comes first)
from relay import ingest, transfer  # noqa: E402
from vmtest.util import HarnessError, scratch_dir  # noqa: E402

PAYLOADS = (1400, 8896)  # of UDP, whose symbols are a multiple of 8 bytes


def run_ingest(args) -> None:
    wire = bench_program("relay/wire.cc")
    ratios = {}
    for payload in args.payload or PAYLOADS:
        with scratch_dir("dumpcast-bench-") as folder:
            ratios[payload] = ingest.compare(wire, folder / "ingest", payload, args.mib, args.rounds)
    print("ingest, relay to bare program: " + ", ".join(f"{ratio:.2f} at {payload} bytes" for payload, ratio in ratios.items()))


def run_least(args) -> None:
    wire = bench_program("relay/wire.cc")
    for receivers in args.receivers or [1, 3]:
        with scratch_dir("dumpcast-bench-") as folder:
            seen = ingest.least(wire, folder / "least", args.mib, receivers, args.rounds)
        print(f"{args.mib} MiB to {receivers} bare programs, no loss, uncapped: {statistics.median(seen):.2f} s "
              f"({', '.join(f'{one:.2f}' for one in seen)})", flush=True)


def run_transfer(args) -> None:
    cells = [transfer.Cell(*cell) for cell in itertools.product(args.receivers or [1, 3], args.loss or list(transfer.LOSSES),
                                                                [link == "capped" for link in args.link or ["capped", "uncapped"]])]
    ways = args.way or list(transfer.WAYS)
    seen: dict[tuple[transfer.Cell, str], list[transfer.Result]] = {(cell, way): [] for cell in cells for way in ways}
    with scratch_dir("dumpcast-bench-") as folder:
        image = transfer.make_image(folder / "image", args.mib)
        for number in range(args.rounds):
            for (cell, way), results in seen.items():
                with transfer.Bench(cell, image, folder / "work") as bench:
                    try:
                        results.append(transfer.WAYS[way](bench))
                    except HarnessError as error:
                        print(f"round {number + 1}, {cell}, {way}: {error}", flush=True)
                        continue
                print(f"round {number + 1}, {cell}, {way}: {results[-1].seconds:.2f} s", flush=True)
    print(f"\n{args.mib} MiB, medians of {args.rounds}: seconds until durable at all (CPU s/GiB, MiB of the largest receiver)\n\n"
          f"| | {' | '.join(ways)} |\n|---|{'---|' * len(ways)}")
    for cell in cells:
        row = [text(seen[cell, way]) for way in ways]
        print(f"| {cell} | {' | '.join(row)} |")
    if "dumpcast" in ways:
        for cell, way in itertools.product(cells, ways):
            if way != "dumpcast" and seen[cell, way] and seen[cell, "dumpcast"]:
                print(f"{cell}: {way} takes {seconds(seen[cell, way]) / seconds(seen[cell, 'dumpcast']):.2f} times as long")


def seconds(results: list[transfer.Result]) -> float:
    return statistics.median(result.seconds for result in results)


def text(results: list[transfer.Result]) -> str:
    if not results:
        return "failed"
    return (f"{seconds(results):.2f} ({statistics.median(one.cpu_s for one in results):.1f}, "
            f"{statistics.median(one.rss_mib for one in results):.0f})")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", help="folder of the programs (default build/dev)")
    parser.add_argument("--part", choices=("ingest", "transfer", "least"), action="append", help="default ingest and transfer")
    parser.add_argument("--rounds", type=int, default=5, help="of each (default %(default)s)")
    parser.add_argument("--mib", type=int, default=1024, help="of memory that is sent (default %(default)s)")
    parser.add_argument("--payload", type=int, choices=PAYLOADS, action="append", help="ingest: may be repeated (default both)")
    parser.add_argument("--receivers", type=int, action="append", help="transfer, least: may be repeated (default 1 and 3)")
    parser.add_argument("--loss", choices=transfer.LOSSES, action="append", help="transfer: may be repeated (default all)")
    parser.add_argument("--link", choices=("capped", "uncapped"), action="append", help="transfer: default both")
    parser.add_argument("--way", choices=transfer.WAYS, action="append", help="transfer: may be repeated (default all)")
    args = parser.parse_args()
    if args.build:
        os.environ["DUMPCAST_BUILD_DIR"] = str(pathlib.Path(args.build).resolve())
    parts = args.part or ["ingest", "transfer"]
    if "ingest" in parts:
        run_ingest(args)
    if "transfer" in parts:
        run_transfer(args)
    if "least" in parts:
        run_least(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
