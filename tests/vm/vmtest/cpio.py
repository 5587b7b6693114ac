# SPDX-License-Identifier: Apache-2.0
"""Writes an initramfs: a cpio archive in the "newc" format.

Format: Linux Documentation/driver-api/early-userspace/buffer-format.rst. Own code
instead of cpio(1), since device nodes and owners then need no root and no staging.
"""

from __future__ import annotations

import pathlib
import stat


class Archive:
    """Collects entries by absolute path; folders above an entry are made as needed."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, bytes, tuple[int, int]]] = {}

    def folder(self, path: str, mode: int = 0o755) -> None:
        self._add(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, data: bytes | str, mode: int = 0o644) -> None:
        self._add(path, stat.S_IFREG | mode, data.encode() if isinstance(data, str) else data)

    def link(self, path: str, target: str) -> None:
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        self._add(path, stat.S_IFCHR | mode, b"", (major, minor))

    def tree(self, source: pathlib.Path, path: str) -> None:
        """Everything below source, with its modes; links stay links."""
        for item in sorted(source.rglob("*")):
            where = f"{path}/{item.relative_to(source)}"
            if item.is_symlink():
                self.link(where, str(item.readlink()))
            elif item.is_dir():
                self.folder(where)
            else:
                self.file(where, item.read_bytes(), item.stat().st_mode & 0o777)

    def has(self, path: str) -> bool:
        return path.strip("/") in self._entries

    def write(self, target: pathlib.Path) -> pathlib.Path:
        with open(target, "wb") as out:
            for inode, name in enumerate(sorted(self._entries), 1):
                out.write(self._member(inode, name, *self._entries[name]))
            out.write(self._member(0, "TRAILER!!!", 0, b"", (0, 0)))
        return target

    def _add(self, path: str, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        name = path.strip("/")
        above = name.rpartition("/")[0]
        if above and above not in self._entries:
            self.folder(above)
        self._entries[name] = (mode, data, device)

    @staticmethod
    def _member(inode: int, name: str, mode: int, data: bytes, device: tuple[int, int]) -> bytes:
        raw = name.encode() + b"\0"
        # magic, ino, mode, uid, gid, nlink, mtime, size, dev, rdev, name size, checksum
        fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        head += b"\0" * (-len(head) % 4)
        return head + data + b"\0" * (-len(data) % 4)
