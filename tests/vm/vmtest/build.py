# SPDX-License-Identifier: Apache-2.0
"""Where the binaries under test are: $DUMPCAST_BUILD_DIR, or build/dev."""

from __future__ import annotations

import functools
import os
import pathlib
import shutil
from typing import Sequence

from .kernels import Kernel
from .util import REPO, HarnessError, locked, run

WHERE = {"dumpcast-relay": "relay", "dumpcast": "client", "dumpcast-arm": "kmod/arm",
         "dumpcast-send": "kmod/core/send"}


def build_dir() -> pathlib.Path:
    return pathlib.Path(os.environ.get("DUMPCAST_BUILD_DIR") or REPO / "build" / "dev")


def binary(name: str) -> pathlib.Path:
    """The path of one of our programs; HarnessError with the command that builds it."""
    for path in (build_dir() / WHERE[name] / name, build_dir() / "bin" / name, build_dir() / name):
        if path.is_file():
            return path
    raise HarnessError(f"{name} is not in {build_dir()}: build it with `./dev build`")


@functools.cache
def kmod(kernel: Kernel) -> pathlib.Path:
    """dumpcast.ko for a kernel, built by `./dev kmod` (which rebuilds only what changed)."""
    done = run([REPO / "dev", "kmod", "--no-deps", "--kernel", kernel.release], timeout=1200)
    path = pathlib.Path(done.stdout.strip().splitlines()[-1])
    if not path.is_file():
        raise HarnessError(f"./dev kmod --kernel {kernel.release} printed {path}: no such file")
    return path


@functools.cache
def crasher(kernel: Kernel) -> pathlib.Path:
    """tests/vm/crasher built for a kernel: a module that brings it down in many ways."""
    return _test_module(kernel, "crasher", [REPO / "tests" / "vm" / "crasher"])


@functools.cache
def lkdtm(kernel: Kernel) -> pathlib.Path:
    """Linux's own crash test module, built from Debian's source of the kernel."""
    return _test_module(kernel, "lkdtm", [kernel.lkdtm(), REPO / "tests" / "vm" / "lkdtm"])


def _test_module(kernel: Kernel, name: str, sources: Sequence[pathlib.Path]) -> pathlib.Path:
    out = REPO / "build" / name / kernel.release
    with locked(out / ".lock"):
        for source in (path for folder in sources for path in folder.glob("[!R]*")):
            if not (out / source.name).exists() or \
                    (out / source.name).read_bytes() != source.read_bytes():
                shutil.copy(source, out)
        run(["make", "-C", kernel.headers(), f"M={out}", "W=1", "modules"], timeout=600)
    return out / f"{name}.ko"


def guest_program(name: str) -> pathlib.Path:
    """tests/vm/guest_programs/<name>.c, compiled so that it needs nothing of the guest."""
    source = REPO / "tests" / "vm" / "guest_programs" / f"{name}.c"
    out = REPO / "build" / "guest_programs" / name
    with locked(out.with_suffix(".lock")):
        if not out.exists() or out.stat().st_mtime < source.stat().st_mtime:
            run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-o", out, source])
    return out
