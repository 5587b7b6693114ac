#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the sources to "What holds it together" (docs/architecture.md).

Reads every #include of C and C++ files, every import of .proto files and every
dumpcast_* target that a CMakeLists.txt links, and fails with file:line and the rule.
Paths in quotes are looked up beside the file, then from the tree's root, then
among the generated protobuf headers; whatever is found nowhere is somebody else's.

    tools/check_includes.py [--root DIR]

Exit status: 0 all rules kept, 1 some broken, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
PROTO_IMPORT = re.compile(r'^\s*import\s+(?:public\s+|weak\s+)?"([^"]+)"')
CONDITION = re.compile(r"^\s*#\s*(if|ifdef|ifndef|else|elif|endif)\b(.*)")
TARGET = re.compile(r"\bdumpcast_(wire|keys|core|proto|vmcore|store|relay_lib|client_lib|arm_lib)\b")
SKIPPED = {".git", "build", ".cache", "fixtures"}

TARGET_FOLDER = {
    "wire": "protos/wire", "keys": "protos/keys", "core": "kmod/core", "proto": "protos/dumpcast",
    "vmcore": "store/vmcore", "store": "store", "relay_lib": "relay",
    "client_lib": "client", "arm_lib": "kmod/arm",
}

# What a freestanding C compiler has, string.h, and the kernel's types as user space sees
# them too: all that the sans-IO core and the packet format may use. immintrin.h is the compiler's
# own; a kernel's build, which has no vector registers, fails where it is not inside #ifdef __SSE2__.
FREESTANDING = {"stdint.h", "stddef.h", "stdbool.h", "limits.h", "string.h", "linux/types.h",
                "immintrin.h"}
KERNEL_PREFIXES = ("linux/", "asm/", "net/", "generated/", "uapi/", "asm-generic/", "crypto/")
DATABASE_AND_RPC = ("rocksdb/", "grpc/", "grpcpp/", "dumpcast/v1/")


@dataclasses.dataclass(frozen=True)
class Part:
    """A folder, the folders whose headers it may include, and what else is closed to it."""

    folder: str
    knows: tuple[str, ...]
    rule: str


# The longest folder that holds a file decides.
PARTS = (
    Part("protos/wire", (), "protos/ knows nobody"),
    Part("protos", ("protos",), "protos/ knows nobody"),
    Part("kmod/core", ("protos/wire",), "kmod/core knows protos/wire only"),
    Part("kmod/core/send", ("kmod/core", "protos/wire", "protos/keys"),
         "kmod/core/send knows kmod/core, protos/wire and protos/keys"),
    Part("kmod/linux", ("kmod/core", "protos/wire"), "kmod/linux knows kmod/core and protos/wire"),
    Part("kmod/arm", ("kmod/core", "protos/wire", "protos/keys"),
         "kmod/arm knows kmod/core, protos/wire and protos/keys"),
    Part("relay", ("store", "protos"), "relay/ knows store/ and protos/"),
    Part("store", ("protos",), "store/ knows protos/"),
    Part("store/vmcore", ("protos/wire", "protos/keys"),
         "store/vmcore knows protos/wire and protos/keys"),
    Part("client", ("protos", "store/vmcore"), "client/ knows protos/ and store/vmcore only"),
    Part("tests", ("protos", "kmod", "relay", "store", "client"), "tests/ may know everybody"),
)


def within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def part_of(path: str) -> Part | None:
    """The part that owns a path relative to the root, None outside all parts."""
    owners = [part for part in PARTS if within(path, part.folder)]
    return max(owners, key=lambda part: len(part.folder), default=None)


def may_know(part: Part, target: str) -> bool:
    """Whether a file of `part` may include the file `target` (relative to the root)."""
    owner = part_of(target)
    if owner is None or owner == part:
        return True
    # store may use store/vmcore, which lies inside it; never the other way round.
    if within(owner.folder, part.folder) and part.folder == "store":
        return True
    for folder in part.knows:
        if not within(target, folder):
            continue
        # "knows store/vmcore" names a sub-part; "knows store" covers those below.
        return True
    return False


class Checker:
    def __init__(self, root: pathlib.Path):
        self.root = root
        self.broken: list[str] = []

    def fail(self, path: str, line: int, found: str, rule: str) -> None:
        self.broken.append(f"{path}:{line}: {found}: {rule}")

    def resolve(self, path: str, name: str) -> str | None:
        """The file of the tree that an include means, relative to the root; None if foreign."""
        beside = (self.root / path).parent / name
        for candidate in (beside, self.root / name, self.root / "kmod/core" / name,
                          self.root / "protos/wire" / name):
            if candidate.is_file():
                try:
                    return candidate.resolve().relative_to(self.root).as_posix()
                except ValueError:
                    return None
        if name.startswith("dumpcast/v1/"):
            return "protos/" + name
        return None

    def check_include(self, path: str, line: int, name: str, in_kernel: bool) -> None:
        part = part_of(path)
        if part is None:
            return
        target = self.resolve(path, name)
        if target is not None:
            if not may_know(part, target):
                self.fail(path, line, f"includes {target}", part.rule)
            return
        if part.folder in ("kmod/core", "protos/wire"):
            byte_order = part.folder == "protos/wire" and name == "endian.h"
            kernel = in_kernel and name.startswith(("linux/", "asm/"))
            if name not in FREESTANDING and not byte_order and not kernel:
                self.fail(path, line, f"includes <{name}>",
                          f"{part.folder} is compiled in the kernel and out of it: string.h, "
                          "linux/types.h and the freestanding headers only; linux/ and asm/ ones "
                          "inside #ifdef __KERNEL__")
        elif part.folder == "kmod/linux" and not name.startswith(KERNEL_PREFIXES):
            self.fail(path, line, f"includes <{name}>",
                      "kmod/linux uses kernel headers, kmod/core and protos/wire only")
        elif part.folder in ("store/vmcore", "client") and name.startswith("rocksdb/"):
            self.fail(path, line, f"includes <{name}>", f"{part.folder} has no database")
        elif part.folder == "store/vmcore" and name.startswith(DATABASE_AND_RPC):
            self.fail(path, line, f"includes <{name}>", "store/vmcore has no database and no gRPC")

    def check_c(self, path: str, text: str) -> None:
        kernel_depth: list[bool] = []
        for number, line in enumerate(text.splitlines(), 1):
            condition = CONDITION.match(line)
            if condition:
                word, rest = condition.groups()
                if word in ("if", "ifdef"):
                    kernel_depth.append("__KERNEL__" in rest and "!" not in rest)
                elif word == "ifndef":
                    kernel_depth.append(False)
                elif word in ("else", "elif") and kernel_depth:
                    kernel_depth[-1] = word == "elif" and "__KERNEL__" in rest
                elif word == "endif" and kernel_depth:
                    kernel_depth.pop()
                continue
            match = INCLUDE.match(line)
            if match:
                self.check_include(path, number, match[1] or match[2], any(kernel_depth))

    def check_proto(self, path: str, text: str) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            match = PROTO_IMPORT.match(line)
            if match and not match[1].startswith(("google/", "dumpcast/v1/")):
                self.fail(path, number, f"imports {match[1]}", "protos/ knows nobody")

    def check_cmake(self, path: str, text: str) -> None:
        folder = pathlib.PurePosixPath(path).parent.as_posix()
        part = part_of(folder)
        if part is None:
            return
        for number, line in enumerate(text.splitlines(), 1):
            for name in TARGET.findall(line.split("#")[0]):
                target = TARGET_FOLDER[name]
                # A folder's build file may define the targets of the folders below it.
                if not within(target, part.folder) and not may_know(part, target + "/x"):
                    self.fail(path, number, f"names the target dumpcast_{name}", part.rule)

    def run(self) -> int:
        files = 0
        for file in sorted(self.root.rglob("*")):
            path = file.relative_to(self.root).as_posix()
            if SKIPPED.intersection(path.split("/")) or not file.is_file():
                continue
            if file.suffix in (".c", ".h", ".cc", ".hpp", ".cpp", ".S"):
                check = self.check_c
            elif file.suffix == ".proto":
                check = self.check_proto
            elif file.name == "CMakeLists.txt":
                check = self.check_cmake
            else:
                continue
            files += 1
            check(path, file.read_text(encoding="utf-8", errors="replace"))
        return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent.parent,
                        help="the tree to check (default: this one)")
    checker = Checker(parser.parse_args().root.resolve())
    files = checker.run()
    for line in checker.broken:
        print(line)
    print(f"includes: {files} files, {len(checker.broken)} rules broken", file=sys.stderr)
    return 1 if checker.broken else 0


if __name__ == "__main__":
    sys.exit(main())
