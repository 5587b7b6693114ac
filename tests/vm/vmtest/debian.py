# SPDX-License-Identifier: Apache-2.0
"""A Debian root to install packages in: made once, kept in the cache, unpacked for each test.

As a disk (Root.disk) it is what a guest boots, systemd and all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib
import shutil
from typing import Iterator, Sequence

from .kernels import Kernel
from .util import cache_dir, locked, run, say, scratch_dir

SOURCES = pathlib.Path("/etc/apt/sources.list.d/debian.sources")
MIRROR = "http://deb.debian.org/debian"
PACKAGES = ("systemd", "systemd-sysv", "udev", "dbus", "kmod", "iproute2", "dkms", "gcc", "make",
            "lz4", "openssl", "pahole")
# Behind what the packages start at boot.
SHELL_UNIT = """[Unit]
After=dumpcast-arm.service
[Service]
ExecStart=/usr/lib/vmtest serve
[Install]
WantedBy=multi-user.target
"""


def _tarball(kernel: Kernel) -> pathlib.Path:
    """bookworm with what DKMS needs for a kernel: a download of about 150 MB."""
    packages = [*PACKAGES, f"linux-headers-{kernel.release}"]
    name = hashlib.sha256(" ".join(packages).encode()).hexdigest()[:16]
    final = cache_dir() / "roots" / f"bookworm-{name}.tar"
    final.parent.mkdir(parents=True, exist_ok=True)
    with locked(final.parent / f".{name}.lock"):
        if not final.is_file():
            say(f"making a Debian root with {' '.join(packages)}")
            partial = final.with_name(f".{final.name}.partial.tar")
            run(["mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}",
                 "--aptopt=APT::Install-Recommends \"false\"", "bookworm", partial,
                 SOURCES if SOURCES.is_file() else MIRROR], timeout=3600)
            partial.rename(final)
    return final


@dataclasses.dataclass
class Root:
    """An unpacked root; no systemd runs in it."""

    path: pathlib.Path
    kernel: Kernel

    def sh(self, command: str, check: bool = True, timeout_s: float = 1200) -> str:
        """Runs a shell command in it as root; what it printed."""
        inner = ('mount -t proc proc "$1/proc" && mount --bind /dev "$1/dev" && '
                 'exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin '
                 'DEBIAN_FRONTEND=noninteractive LC_ALL=C sh -c "$2" 2>&1')
        return run(["unshare", "--mount", "sh", "-c", inner, "sh", self.path, command],
                   check=check, timeout=timeout_s).stdout

    def find(self, *patterns: str) -> list[str]:
        """Paths in it that match globs, without the leading slash."""
        return sorted(str(found.relative_to(self.path))
                      for pattern in patterns for found in self.path.glob(pattern))

    def disk(self, target: pathlib.Path, size: str = "3G") -> pathlib.Path:
        """An ext4 image of the root, with the kernel's modules, whose systemd starts the shell that
        qemu.Shell speaks to."""
        modules = self.path / "lib" / "modules" / self.kernel.release
        run(["cp", "-a", f"{self.kernel.modules}/.", modules])
        self.sh(f"depmod {self.kernel.release}")
        shutil.copy(pathlib.Path(__file__).with_name("guest_init.sh"), self.path / "usr/lib/vmtest")
        (self.path / "usr/lib/vmtest").chmod(0o755)
        unit = self.path / "etc/systemd/system/vmtest.service"
        unit.write_text(SHELL_UNIT, encoding="ascii")
        self.sh("systemctl enable vmtest.service")
        run(["mke2fs", "-q", "-t", "ext4", "-d", self.path, target, size], timeout=600)
        return target

    def copy(self, folder: pathlib.Path, target: str) -> None:
        """A folder as it is."""
        shutil.copytree(folder, self.path / target, symlinks=True)

    def take(self, package: pathlib.Path) -> str:
        """Copies a file to /root; its path in there."""
        (self.path / "root" / package.name).write_bytes(package.read_bytes())
        return f"/root/{package.name}"


@contextlib.contextmanager
def root(kernel: Kernel) -> Iterator[Root]:
    tarball = _tarball(kernel)
    with scratch_dir() as folder:
        run(["tar", "x", "-p", "--numeric-owner", "-f", tarball, "-C", folder], timeout=600)
        yield Root(folder, kernel)


def with_version(package: pathlib.Path, old: str, new: str, folder: pathlib.Path) -> pathlib.Path:
    """The same package as another version, in its control file, its paths and its texts."""
    tree = folder / f"{package.name}.tree"
    run(["dpkg-deb", "-R", package, tree])
    for path in sorted(tree.rglob("*"), reverse=True):
        if path.is_file() and (path.name == "dkms.conf" or path.parent.name == "DEBIAN"):
            path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        if old in path.name:
            path.rename(path.with_name(path.name.replace(old, new)))
    target = folder / package.name.replace(old, new)
    run(["dpkg-deb", "--root-owner-group", "-b", tree, target])
    return target


def contents(package: pathlib.Path) -> Sequence[str]:
    """Files of a package, folders left out."""
    lines = run(["dpkg-deb", "-c", package]).stdout.splitlines()
    return [line.split(None, 5)[5].removeprefix("./") for line in lines if line[0] != "d"]
