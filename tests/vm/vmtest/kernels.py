# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels: finds the newest of a series, fetches, unpacks and caches it.

Nothing is installed: packages are fetched with apt-get (which checks their
signatures' hashes) and unpacked under the cache folder:

    <cache>/kernels/<release>/image/     boot/vmlinuz-*, lib/modules/<release>/
                              headers/   usr/src/linux-headers-<release>/ and what it needs
                              debug/     vmlinux-<release>, System.map-<release>
                              lkdtm/     drivers/misc/lkdtm of the source

Every one of them is unpacked in a temporary folder and renamed when it is
complete, so a folder that exists is whole.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Callable

from .util import HarnessError, cache_dir, locked, run, say

SERIES = ("6.1", "6.12")
# Debian's flavours of each; a series alone means the plain one.
FLAVOURS = ("cloud", "rt")
ALL = tuple(f"{series}{flavour}" for series in SERIES
            for flavour in ("", *(f"-{name}" for name in FLAVOURS)))


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel release, such as 6.1.0-56-amd64; files appear as they are asked for."""

    release: str

    @property
    def root(self) -> pathlib.Path:
        return cache_dir() / "kernels" / self.release

    @property
    def series(self) -> str:
        return ".".join(re.split(r"[.+-]", self.release)[:2])

    @property
    def flavour(self) -> str:
        """cloud or rt; empty for the plain kernel."""
        return _flavour(self.release)

    @property
    def vmlinuz(self) -> pathlib.Path:
        return self.image() / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> pathlib.Path:
        """lib/modules/<release> with modules.dep in it."""
        return self.image() / "lib" / "modules" / self.release

    def image(self) -> pathlib.Path:
        """The unpacked image package; fetched when it is not there."""
        return self._part("image", self._fill_image)

    def headers(self) -> pathlib.Path:
        """The folder for `make -C <folder> M=...`; fetched when it is not there."""
        top = self._part("headers", self._fill_headers)
        return top / "usr" / "src" / f"linux-headers-{self.release}"

    def vmlinux(self, fetch: bool = True) -> pathlib.Path | None:
        """vmlinux with debug info (a download of about 1 GB), or None if not cached and not fetch."""
        if not fetch and not (self.root / "debug").is_dir():
            return None
        return self._part("debug", self._fill_debug) / f"vmlinux-{self.release}"

    def lkdtm(self) -> pathlib.Path:
        """The source of drivers/misc/lkdtm; fetched (140 MB) when it is not there."""
        return self._part("lkdtm", self._fill_lkdtm)

    def system_map(self) -> pathlib.Path | None:
        """System.map with real addresses; only there when the debug package was fetched."""
        path = self.root / "debug" / f"System.map-{self.release}"
        return path if path.is_file() else None

    def _part(self, name: str, fill: Callable[[pathlib.Path], None]) -> pathlib.Path:
        final = self.root / name
        if final.is_dir():
            return final
        with locked(self.root / f".{name}.lock"):
            if final.is_dir():
                return final
            for stale in self.root.glob(f".{name}.partial-*"):
                shutil.rmtree(stale)
            partial = pathlib.Path(tempfile.mkdtemp(prefix=f".{name}.partial-", dir=self.root))
            try:
                partial.chmod(0o755)
                fill(partial)
                partial.rename(final)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        return final

    def _fill_image(self, target: pathlib.Path) -> None:
        _unpack([f"linux-image-{self.release}"], target)
        # Debian's package leaves modules.dep to its postinst.
        run(["depmod", "-b", target, self.release])

    def _fill_headers(self, target: pathlib.Path) -> None:
        package = f"linux-headers-{self.release}"
        wanted = [package]
        for dependency in re.split(r"[,|]", _show(package).get("Depends", "")):
            name = dependency.split("(")[0].strip()
            if re.fullmatch(r"linux-headers-.*-common(-rt)?|linux-kbuild-.*", name):
                wanted.append(name)
        if len(wanted) != 3:
            raise HarnessError(f"{package}: wanted it to depend on one -common and one kbuild "
                               f"package, found {wanted[1:]}")
        _unpack(wanted, target)
        # The Makefile of the amd64 headers includes the common one by absolute path.
        makefile = target / "usr" / "src" / package / "Makefile"
        text = makefile.read_text(encoding="ascii")
        fixed, count = re.subn(
            r"(?m)^include /usr/src/",
            "include $(dir $(realpath $(lastword $(MAKEFILE_LIST))))../", text)
        if count != 1:
            raise HarnessError(f"{package}: wanted one `include /usr/src/...` in its Makefile, "
                               f"found {count}: {text!r}")
        makefile.write_text(fixed, encoding="ascii")

    def _fill_lkdtm(self, target: pathlib.Path) -> None:
        package = f"linux-source-{self.series}"
        deb = _download([package], target)[0]
        # The package holds one compressed tar.
        with subprocess.Popen(["dpkg", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as outer, \
                subprocess.Popen(["tar", "x", "-O", f"./usr/src/{package}.tar.xz"],
                                 stdin=outer.stdout, stdout=subprocess.PIPE) as inner:
            run(["tar", "x", "-J", "-C", target, "--strip-components=4",
                 f"{package}/drivers/misc/lkdtm"], stdin=inner.stdout, timeout=1800)
        deb.unlink()
        if not (target / "core.c").is_file():
            raise HarnessError(f"{package}: no drivers/misc/lkdtm/core.c in it")

    def _fill_debug(self, target: pathlib.Path) -> None:
        package = f"linux-image-{self.release}-dbg"
        unpacked_guess = 1 << 30
        need = int(_show(package).get("Size", "0")) + unpacked_guess
        free = shutil.disk_usage(target).free
        if free < need:
            raise HarnessError(f"{package} needs {need >> 20} MiB in {cache_dir()}, {free >> 20} "
                               "are free: free some, or set DUMPCAST_CACHE to another disk")
        deb = _download([package], target)[0]
        with subprocess.Popen(["dpkg", "--fsys-tarfile", str(deb)],
                              stdout=subprocess.PIPE) as tar:
            run(["tar", "x", "-C", target, "--strip-components=5", "--wildcards",
                 "./usr/lib/debug/boot/*"], stdin=tar.stdout, timeout=1800)
        if tar.returncode != 0:
            raise HarnessError(f"{deb.name}: dpkg --fsys-tarfile ended with {tar.returncode}")
        deb.unlink()
        if not (target / f"vmlinux-{self.release}").is_file():
            raise HarnessError(f"{package}: no vmlinux-{self.release} in its usr/lib/debug/boot")


def _show(package: str) -> dict[str, str]:
    """The fields of the candidate version of a package; empty values for unknown fields."""
    done = run(["apt-cache", "show", "--no-all-versions", package], check=False)
    if done.returncode != 0 or not done.stdout:
        raise HarnessError(f"{package}: apt does not know it; run `apt-get update`")
    fields = {}
    for line in done.stdout.splitlines():
        if line[:1].isalpha() and ": " in line:
            name, value = line.split(": ", 1)
            fields.setdefault(name, value)
    return fields


def _download(packages: list[str], folder: pathlib.Path) -> list[pathlib.Path]:
    """apt-get download into folder; refreshes apt's lists once, since old versions vanish."""
    for attempt in (1, 2):
        say(f"fetching {' '.join(packages)}")
        done = run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages],
                   check=False, cwd=folder, timeout=3600)
        if done.returncode == 0:
            break
        if attempt == 2:
            raise HarnessError(f"apt-get download {' '.join(packages)}:\n{done.stderr.strip()}")
        run(["apt-get", "-q", "update"], check=False)
    debs = sorted(folder.glob("*.deb"))
    if len(debs) != len(packages):
        raise HarnessError(f"wanted {len(packages)} packages, found {[deb.name for deb in debs]}")
    return debs


def _unpack(packages: list[str], target: pathlib.Path) -> None:
    for deb in _download(packages, target):
        run(["dpkg", "-x", deb, target])
        deb.unlink()


def _version_key(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release))


def _flavour(release: str) -> str:
    match = re.search(rf"-({'|'.join(FLAVOURS)})(?:-amd64)?$", release)
    return match[1] if match else ""


def _known(wanted: str) -> list[str]:
    """Releases that apt offers of a series ("6.1") or its flavour ("6.1-rt"), oldest first."""
    flavour = _flavour(wanted)
    series = wanted.removesuffix(f"-{flavour}")
    kind = f"-{flavour}" if flavour else ""
    pattern = rf"linux-image-({re.escape(series)}\.\d+(?:-\d+|\+[a-z0-9.]+)?{kind}-amd64)"
    done = run(["apt-cache", "search", "--names-only", f"^linux-image-{series}"])
    found = (re.match(pattern + r" - ", line) for line in done.stdout.splitlines())
    return sorted((match[1] for match in found if match), key=_version_key)


def _cached(wanted: str) -> list[str]:
    root = cache_dir() / "kernels"
    flavour = _flavour(wanted)
    series = wanted.removesuffix(f"-{flavour}")
    kernels = [Kernel(path.parent.name) for path in root.glob("*/image")]
    return sorted((kernel.release for kernel in kernels
                   if (kernel.series, kernel.flavour) == (series, flavour)), key=_version_key)


def find(wanted: str) -> Kernel:
    """The newest kernel of a series ("6.1") or of a flavour of it ("6.1-rt"), or exactly the
    release that was named.

    Without package lists the newest one in the cache serves, so that a second run needs
    no network.
    """
    if wanted.endswith("-amd64"):
        return Kernel(wanted)
    for releases in (_known(wanted), _cached(wanted)):
        if releases:
            return Kernel(releases[-1])
    run(["apt-get", "-q", "update"], check=False)
    releases = _known(wanted)
    if not releases:
        raise HarnessError(f"no package of a kernel {wanted}: wanted one of {', '.join(ALL)}, or a "
                           "release such as 6.1.0-56-amd64")
    return Kernel(releases[-1])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="vmtest.kernels", description="Finds and fetches Debian kernels for the VM tests.",
        epilog=f"VERSION is one of {', '.join(ALL)}, or a release (6.1.0-56-amd64). Paths go to "
               "standard output; the cache is $DUMPCAST_CACHE or ~/.cache/dumpcast.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="releases offered, and what is cached")
    what.add_argument("--find", metavar="VERSION", help="print the newest release of a series")
    what.add_argument("--fetch", metavar="VERSION", help="fetch the image; print vmlinuz's path")
    what.add_argument("--headers", metavar="VERSION",
                      help="fetch the headers; print the folder for `make -C`")
    what.add_argument("--debug", metavar="VERSION",
                      help="fetch the debug package (1 GB); print vmlinux's path")
    args = parser.parse_args(argv)
    try:
        if args.list:
            for series in ALL:
                for release in dict.fromkeys(_known(series) + _cached(series)):
                    parts = [name for name in ("image", "headers", "debug")
                             if (Kernel(release).root / name).is_dir()]
                    print(release, ("cached: " + ", ".join(parts)) if parts else "")
        elif args.find:
            print(find(args.find).release)
        elif args.fetch:
            print(find(args.fetch).vmlinuz)
        elif args.headers:
            print(find(args.headers).headers())
        else:
            print(find(args.debug).vmlinux())
    except HarnessError as error:
        say(f"vmtest.kernels: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
