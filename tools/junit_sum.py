#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up JUnit XML as ctest and pytest write it: prints `passed failed skipped`.

    tools/junit_sum.py FILE [EXIT_STATUS]

EXIT_STATUS is what the runner ended with. A runner that failed without a failed test
in its file (a crash, a collection error, nothing collected), or that wrote no file,
counts as one failure: a part never passes by not having run. With --failures the
names of the failed tests are printed instead, one a line.
"""

from __future__ import annotations

import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def cases(path: pathlib.Path):
    """(name, outcome) of each test case; outcome is passed, failed or skipped."""
    for case in ElementTree.parse(path).iter("testcase"):
        # pytest splits a test's name in two; ctest gives the whole twice.
        name = "::".join(dict.fromkeys(filter(None, (case.get("classname"), case.get("name")))))
        tags = {child.tag: child for child in case}
        status = case.get("status", "run")
        # ctest also calls a test skipped whose program is missing; a test that skipped
        # itself says so by the property that matched.
        by_ctest = status == "notrun" and "skipped" in tags
        missing = by_ctest and not tags["skipped"].get("message", "").startswith("SKIP_")
        if {"failure", "error"} & set(tags) or status == "fail" or missing:
            yield name, "failed"
        elif "skipped" in tags or status in ("notrun", "disabled"):
            yield name, "skipped"
        else:
            yield name, "passed"


def totals(path: pathlib.Path, exit_status: int) -> tuple[int, int, int]:
    """(passed, failed, skipped) of one runner."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    try:
        for _, outcome in cases(path):
            counts[outcome] += 1
    except (OSError, ElementTree.ParseError):
        exit_status = exit_status or 1
    if counts["failed"] == 0 and (exit_status != 0 or not sum(counts.values())):
        counts["failed"] = 1
    return counts["passed"], counts["failed"], counts["skipped"]


def main(argv: list[str]) -> int:
    if len(argv) == 3 and argv[1] == "--failures":
        try:
            names = [name for name, outcome in cases(pathlib.Path(argv[2])) if outcome == "failed"]
        except (OSError, ElementTree.ParseError) as error:
            names = [f"{argv[2]}: {error}"]
        print("\n".join(names))
        return 0
    if len(argv) not in (2, 3) or argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    print(*totals(pathlib.Path(argv[1]), int(argv[2]) if len(argv) == 3 else 0))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
