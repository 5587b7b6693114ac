#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what every file and folder of the tree must carry.

- the SPDX line of its folder, within the first three lines of a source file;
- a README.md in each folder that design and newcomers meet, its first line saying
  what the folder is and whom it knows;
- no notes of unfinished work: those belong in an issue.

    tools/check_tree.py [--root DIR]

Exit status: 0 clean, 1 something is missing, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import subprocess
import sys

SOURCES = {".c", ".h", ".cc", ".hpp", ".S", ".proto", ".py", ".sh", ".cmake", ".toml", ".yaml",
           ".yml", ".tpl"}
NAMED = {"CMakeLists.txt", "Kbuild", "Makefile", "Dockerfile", "dev", "run", ".clang-format",
         ".clang-tidy", "_helpers.tpl"}
README_FOLDERS = ("protos", "protos/wire", "kmod", "kmod/core", "kmod/linux", "kmod/arm", "relay",
                  "store", "store/vmcore", "client", "helm", "tests", "tests/unit", "tests/cluster",
                  "tests/vm", "tests/fuzz", "tests/helm", "tools", "docs")
README_KNOWS = re.compile(r"\bknows?\b|\binclude", re.IGNORECASE)
# Spelled in pieces, so that this file does not report itself.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")
SPDX = re.compile(r"SPDX-License-Identifier:\s*(.+?)[\s*/}>-]*$")  # less a comment's end


def expected_licence(path: str) -> tuple[str, ...]:
    """The licence expressions that a file may carry, by its folder."""
    both = "GPL-2.0-only OR Apache-2.0"
    if path.startswith(("kmod/linux/", "tests/vm/crasher/", "tests/vm/lkdtm/",
                        "tests/bench/path/", "tests/bench/sender/")):
        return ("GPL-2.0-only",)
    if path.startswith(("kmod/core/", "protos/wire/")):
        return (both,)
    if path.startswith("kmod/") and path.count("/") == 1:
        return ("GPL-2.0-only", both)  # Kbuild files that serve both folders
    return ("Apache-2.0",)


def tracked(root: pathlib.Path) -> list[str]:
    """Files that git knows or would add; every file when root is no git checkout."""
    done = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"],
                          capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return sorted(name for name in done.stdout.split("\0") if name and (root / name).is_file())
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def check(root: pathlib.Path) -> tuple[int, list[str]]:
    """The number of files looked at, and a line for each fault."""
    faults = []
    names = [name for name in tracked(root) if "/fixtures/" not in name]
    for name in names:
        path = root / name
        if path.suffix in SOURCES or path.name in NAMED:
            head = path.read_text(encoding="utf-8", errors="replace").split("\n")
            match = next((SPDX.search(line) for line in head[:3] if SPDX.search(line)), None)
            wanted = expected_licence(name)
            if match is None:
                faults.append(f"{name}:1: no SPDX line: wanted "
                              f"`SPDX-License-Identifier: {wanted[0]}` in the first three lines")
            elif match[1] not in wanted:
                faults.append(f"{name}:1: SPDX says {match[1]!r}: wanted {' or '.join(wanted)}")
        if path.suffix in SOURCES | {".md"} or path.name in NAMED:
            for number, line in enumerate(
                    path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
                if UNFINISHED.search(line):
                    faults.append(f"{name}:{number}: {UNFINISHED.search(line)[1]}: finish it, or "
                                  "open an issue and say here what holds now")
    for folder in README_FOLDERS:
        if not any(name.startswith(folder + "/") for name in names):
            continue
        readme = root / folder / "README.md"
        if not readme.is_file():
            faults.append(f"{folder}: no README.md: its first line says what the folder is and "
                          "whom it may know")
        elif not README_KNOWS.search(readme.read_text(encoding="utf-8").split("\n\n")[0]):
            faults.append(f"{folder}/README.md:1: the first paragraph does not say whom the "
                          "folder knows")
    return len(names), faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent.parent,
                        help="the tree to check (default: this one)")
    files, faults = check(parser.parse_args().root.resolve())
    for line in faults:
        print(line)
    print(f"tree: {files} files, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
