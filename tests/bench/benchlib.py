# SPDX-License-Identifier: Apache-2.0
"""What benchmarks build for themselves."""

from __future__ import annotations

import pathlib
import shutil
import sys
from typing import Sequence

HERE = pathlib.Path(__file__).resolve().parent
REPO = HERE.parents[1]
sys.path.insert(0, str(REPO / "tests" / "vm"))

from vmtest.kernels import Kernel  # noqa: E402  (the path above comes first)
from vmtest.util import run  # noqa: E402


def bench_kmod(kernel: Kernel, folder: str, wrapped: Sequence[str]) -> pathlib.Path:
    """dumpcast.ko with folder/bench.c in it, and the linker's --wrap of these functions."""
    out = REPO / "build" / "bench" / folder / kernel.release
    shutil.rmtree(out, ignore_errors=True)
    for part in ("kmod/core", "kmod/linux", "protos/wire"):
        shutil.copytree(REPO / part, out / part)
    shutil.copy(HERE / folder / "bench.c", out / "kmod/linux")
    with open(out / "kmod/linux/Kbuild", "a", encoding="ascii") as kbuild:
        kbuild.write("dumpcast-y += bench.o\n")
        kbuild.writelines(f"ldflags-y += --wrap={name}\n" for name in wrapped)
    run(["make", "-C", kernel.headers(), f"M={out / 'kmod/linux'}", "-j2", "modules"], timeout=900)
    return out / "kmod/linux/dumpcast.ko"


def bench_program(source: str) -> pathlib.Path:
    """The program of one C++ file of this folder, with optimization."""
    out = REPO / "build" / "bench" / pathlib.Path(source).stem
    out.parent.mkdir(parents=True, exist_ok=True)
    run(["g++", "-std=c++20", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{REPO}", HERE / source, "-o", out, "-pthread"])
    return out
