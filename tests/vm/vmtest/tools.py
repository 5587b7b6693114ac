# SPDX-License-Identifier: Apache-2.0
"""Runs the field's own tools on vmcores: crash, drgn, makedumpfile.

Debian 12's know kernels up to 6.1. For 6.12 there is a Debian 13 (trixie) folder with
newer ones, made once with debootstrap and kept in the cache.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import shutil
import tempfile
from typing import Sequence

from .util import HarnessError, cache_dir, locked, run, say, scratch_dir

MIRROR = "http://deb.debian.org/debian"
COUNTS = {"zero": "Pages filled with zero", "cache": "Non-private cache pages",
          "cache-private": "Private cache pages", "user": "User process data pages",
          "free": "Free pages", "hwpoison": "Hwpoison pages", "offline": "Offline pages",
          "remaining": "Remaining pages"}


def trixie() -> pathlib.Path:
    """The root folder of a Debian 13 with makedumpfile, crash and drgn; made when missing."""
    final = cache_dir() / "trixie"
    if final.is_dir():
        return final
    with locked(cache_dir() / ".trixie.lock"):
        if final.is_dir():
            return final
        for stale in cache_dir().glob(".trixie.partial-*"):
            shutil.rmtree(stale)
        partial = pathlib.Path(tempfile.mkdtemp(prefix=".trixie.partial-", dir=cache_dir()))
        partial.chmod(0o755)
        say("fetching Debian 13's crash, drgn and makedumpfile")
        run(["debootstrap", "--variant=minbase", "--include=makedumpfile,crash,python3-drgn",
             "trixie", partial, MIRROR], timeout=1800)
        partial.rename(final)
    return final


def run_in_trixie(argv: Sequence[object], **kwargs):
    """Runs a tool of Debian 13; arguments that are a pathlib.Path name files of this machine.

    The whole file system is seen at /mnt in there, by mounts that only this command has.
    """
    inner = ('mount --rbind / "$1/mnt" && mount --bind /proc "$1/proc" && root="$1" && shift '
             '&& exec chroot "$root" /usr/bin/env -C /mnt/tmp "$@"')
    inside = [f"/mnt{arg.resolve()}" if isinstance(arg, pathlib.Path) else arg for arg in argv]
    return run(["unshare", "--mount", "sh", "-c", inner, "sh", trixie(), *inside], **kwargs)


@dataclasses.dataclass(frozen=True)
class Filtered:
    """What makedumpfile made of a core: its report (class -> pages) and the filtered file."""

    counts: dict[str, int]
    path: pathlib.Path
    report: str


def makedumpfile(core: pathlib.Path, level: int, newer: bool = False,
                 flags: Sequence[str] = ()) -> Filtered:
    """Filters an ELF core at a dump level into <core>.d<level>, uncompressed, with a report."""
    out = core.with_name("".join([f"{core.name}.d{level}", *flags]))
    out.unlink(missing_ok=True)
    argv = ["makedumpfile", "--work-dir", core.parent, *flags, "-d", level, "--message-level", "16",
            core, out]
    done = (run_in_trixie if newer else run)(argv)
    report = done.stdout + done.stderr
    counts = {}
    for name, label in COUNTS.items():
        match = re.search(rf"{label}\s*: 0x([0-9a-f]+)", report)
        if match is None:
            raise HarnessError(f"makedumpfile: no {label!r} in its report:\n{report[-2000:]}")
        counts[name] = int(match[1], 16)
    return Filtered(counts, out, report)


def dump_dmesg(core: pathlib.Path) -> str:
    """The kernel log by `makedumpfile --dump-dmesg`."""
    with scratch_dir() as folder:
        run(["makedumpfile", "--dump-dmesg", core.resolve(), folder / "log"])
        return (folder / "log").read_text(encoding="utf-8", errors="replace")


def crash(vmlinux: pathlib.Path, core: pathlib.Path, commands: Sequence[str],
          newer: bool = False) -> dict[str, str]:
    """Runs commands in crash: command -> what it printed."""
    mark = "=== vmtest ==="
    script = "".join(f"!echo '{mark}'\n{command}\n" for command in commands) + "quit\n"
    with scratch_dir() as folder:
        (folder / "script").write_text(script, encoding="utf-8")
        argv = ["env", "TERM=dumb", "HOME=/nonexistent", "crash", "-s", "-i", folder / "script",
                vmlinux, core]
        done = (run_in_trixie if newer else run)(argv, check=False)
    parts = done.stdout.split(mark + "\n")
    if len(parts) != len(commands) + 1:
        raise HarnessError(f"crash could not open {core}:\n{done.stdout[-3000:]}"
                           f"{done.stderr[-3000:]}")
    return dict(zip(commands, parts[1:]))


def drgn(vmlinux: pathlib.Path, core: pathlib.Path, script: str) -> str:
    """Runs a drgn script (prog is defined) on a core; what it printed."""
    with scratch_dir() as folder:
        path = folder / "script.py"
        path.write_text(script, encoding="utf-8")
        return run(["drgn", "-q", "-c", core, "-s", vmlinux, path]).stdout
