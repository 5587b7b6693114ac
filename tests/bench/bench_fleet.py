#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Thousands of hosts and 30 relays in virtual time: what tests/fleet prints.

Arguments after -- go to the program: `./dev bench fleet -- --hosts 1000`.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]
EVERYTHING = "rollout-all"  # without admission


def build() -> pathlib.Path:
    """The program of the dev build: a release build has no tests."""
    folder = REPO / "build" / "dev"
    subprocess.run(["cmake", "--preset", "dev"], cwd=REPO, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--target", "fleet"], check=True, stdout=subprocess.DEVNULL)
    return folder / "tests" / "fleet" / "fleet"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", help="not used: a release build has no tests")
    _, rest = parser.parse_known_args()
    sent = {}  # MiB by scenario: the second column of the first table
    with subprocess.Popen([build(), *rest], stdout=subprocess.PIPE, text=True) as fleet:
        assert fleet.stdout is not None
        for line in fleet.stdout:
            print(line, end="", flush=True)
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) > 2 and cells[1] not in ("", "---", "scenario"):
                sent.setdefault(cells[1], float(cells[2]))
    if "rollout" in sent and EVERYTHING in sent:
        ratio = sent["rollout"] / sent[EVERYTHING]
        print(f"\nbytes sent in a roll-out, with admission to without: {ratio:.3f}")
    return fleet.returncode


if __name__ == "__main__":
    os.environ.setdefault("LC_ALL", "C")
    sys.exit(main())
