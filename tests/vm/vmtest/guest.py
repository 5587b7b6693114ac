# SPDX-License-Identifier: Apache-2.0
"""What runs inside the VM: an initramfs of busybox, modules, and what a test adds.

/init (guest_init.sh beside this file) mounts the kernel's file systems, loads the
modules and sets the addresses that the kernel command line names (written by
qemu.py), and serves commands on ttyS1; ttyS0 is the kernel's console.
"""

from __future__ import annotations

import dataclasses
import lzma
import pathlib
import re
import shutil
from typing import Mapping, Sequence

from .cpio import Archive
from .kernels import Kernel
from .util import HarnessError, run, scratch_dir

BUSYBOX = pathlib.Path("/bin/busybox")

# Cards, buses, and what the sender may need. Names that are built into a kernel are
# skipped; names a kernel does not have at all are an error unless listed as optional.
MODULES = ("virtio_pci", "virtio_net", "e1000", "e1000e", "vmxnet3", "configfs", "lz4_compress",
           "qemu_fw_cfg", "8021q")
OPTIONAL_MODULES = ("8139cp", "libchacha20poly1305", "chacha20poly1305", "zstd_compress")


@dataclasses.dataclass
class Guest:
    """What to put into the initramfs.

    binaries: guest path -> host executable, taken along with its shared libraries.
    files: guest path -> host file, or the content itself as str or bytes. A host file keeps its
        mode, so that a key readable by its owner only stays so; content gets 0644.
    kmods: modules from outside the kernel's package (dumpcast.ko); they are found by
        `modprobe NAME` in the guest and not loaded at boot.
    modules: more of the kernel's own modules than MODULES.
    """

    kernel: Kernel
    binaries: Mapping[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    files: Mapping[str, pathlib.Path | str | bytes] = dataclasses.field(default_factory=dict)
    kmods: Sequence[pathlib.Path] = ()
    modules: Sequence[str] = ()

    def build(self, target: pathlib.Path) -> pathlib.Path:
        """Writes the initramfs to target (uncompressed: the guest starts sooner)."""
        archive = Archive()
        for path in ("/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/etc", "/var/lib"):
            archive.folder(path)
        archive.device("/dev/console", 5, 1)
        archive.device("/dev/null", 1, 3, 0o666)
        archive.file("/init", (pathlib.Path(__file__).parent / "guest_init.sh").read_bytes(), 0o755)
        self._add_busybox(archive)
        self._add_modules(archive)
        for path, binary in self.binaries.items():
            self.add_binary(archive, path, pathlib.Path(binary))
        for path, content in self.files.items():
            if isinstance(content, pathlib.Path):
                archive.file(path, content.read_bytes(), content.stat().st_mode & 0o777)
            else:
                archive.file(path, content)
        return archive.write(target)

    @staticmethod
    def _add_busybox(archive: Archive) -> None:
        if not BUSYBOX.is_file() or "=>" in run(["ldd", BUSYBOX], check=False).stdout:
            raise HarnessError(f"wanted a static {BUSYBOX}: install busybox-static")
        archive.file("/bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in run([BUSYBOX, "--list"]).stdout.split():
            if applet != "busybox":
                archive.link(f"/bin/{applet}", "busybox")
        for name in ("sbin", "usr/bin", "usr/sbin"):
            archive.folder(name)
        # Where the kernel (/proc/sys/kernel/modprobe) and programs look for it.
        archive.link("/sbin/modprobe", "/bin/busybox")

    @staticmethod
    def add_binary(archive: Archive, path: str, binary: pathlib.Path) -> None:
        """A program of the host's, with its shared libraries."""
        if not binary.is_file():
            raise HarnessError(f"{binary}: no such executable; build it first")
        archive.file(path, binary.read_bytes(), 0o755)
        done = run(["ldd", binary], check=False)
        missing = re.findall(r"^\s*(\S+) => not found", done.stdout, re.M)
        if missing:
            raise HarnessError(f"{binary}: shared libraries not found: {', '.join(missing)}")
        # "libc.so.6 => /lib/... (0x...)" and "/lib64/ld-linux-x86-64.so.2 (0x...)"
        for library in re.findall(r"(/\S+) \(0x[0-9a-f]+\)", done.stdout):
            if not archive.has(library):
                archive.file(library, pathlib.Path(library).read_bytes(), 0o755)

    def _add_modules(self, archive: Archive) -> None:
        release, source = self.kernel.release, self.kernel.modules
        wanted = [*MODULES, *self.modules]
        for kmod in self.kmods:
            wanted += _depends(kmod)
        with scratch_dir() as top:
            target = top / "lib" / "modules" / release
            target.mkdir(parents=True)
            for name in ("modules.builtin", "modules.order"):
                shutil.copy(source / name, target)
            if (source / "modules.builtin.modinfo").is_file():
                shutil.copy(source / "modules.builtin.modinfo", target)
            optional = OPTIONAL_MODULES
            if self.kernel.flavour == "cloud":
                optional += ("e1000", "e1000e")
            for relative in _closure(source, wanted, optional):
                _copy_module(source / relative, target / relative)
            for kmod in self.kmods:
                _copy_module(pathlib.Path(kmod), target / "extra" / kmod.name)
            run(["depmod", "-b", top, release])
            archive.tree(top / "lib" / "modules", "/lib/modules")


def _depends(kmod: pathlib.Path) -> list[str]:
    if not pathlib.Path(kmod).is_file():
        raise HarnessError(f"{kmod}: no such module; build it with `./dev kmod`")
    names = run(["modinfo", "-F", "depends", kmod]).stdout.strip()
    return [name for name in names.split(",") if name]


def _module_name(path: str) -> str:
    return re.sub(r"\.ko(\.\w+)?$", "", path.rpartition("/")[2]).replace("-", "_")


def _closure(source: pathlib.Path, wanted: Sequence[str], optional: Sequence[str]) -> list[str]:
    """Paths (relative to source) of the modules and all that they need, by modules.dep, each after what it needs."""
    needs: dict[str, list[str]] = {}
    by_name: dict[str, str] = {}
    for line in (source / "modules.dep").read_text(encoding="ascii").splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
        by_name[_module_name(path)] = path
    builtin = {_module_name(line) for line in
               (source / "modules.builtin").read_text(encoding="ascii").split()}
    chosen: dict[str, None] = {}
    for name in [*wanted, *optional]:
        path = by_name.get(name.replace("-", "_"))
        if path is not None:
            chosen.update(dict.fromkeys([*reversed(needs[path]), path]))
        elif name.replace("-", "_") not in builtin and name not in optional:
            raise HarnessError(f"module {name}: neither in {source} nor built in")
    return list(chosen)


def module_paths(kernel: Kernel, wanted: Sequence[str]) -> list[pathlib.Path]:
    """Files of these modules of the kernel's and of all that they need, in an order to load them in."""
    return [kernel.modules / path for path in _closure(kernel.modules, wanted, ())]


def read_module(path: pathlib.Path) -> bytes:
    """Unpacked: Debian 6.12 ships .ko.xz."""
    content = path.read_bytes()
    return lzma.decompress(content) if path.suffix == ".xz" else content


def _copy_module(source: pathlib.Path, target: pathlib.Path) -> None:
    """Unpacked, so that the guest's depmod names fit either way."""
    target.parent.mkdir(parents=True, exist_ok=True)
    (target.with_suffix("") if source.suffix == ".xz" else target).write_bytes(read_module(source))
