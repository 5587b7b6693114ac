# SPDX-License-Identifier: Apache-2.0
"""The hypervisor's view of guest memory, addressed physically."""

from __future__ import annotations

import dataclasses
import mmap
import pathlib
from typing import Iterator

from .util import HarnessError

PAGE = 4096


@dataclasses.dataclass(frozen=True)
class Range:
    """Guest-physical RAM [start, start + size), held in a file of exactly that size."""

    start: int
    size: int
    path: pathlib.Path


class MemoryImage:
    """Physical memory of a stopped guest. read() refuses addresses that are not RAM."""

    def __init__(self, ranges: list[Range]) -> None:
        self.ranges = sorted(ranges, key=lambda item: item.start)
        self._maps = []
        for item in self.ranges:
            with open(item.path, "rb") as handle:
                mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
            if len(mapped) != item.size:
                raise HarnessError(f"{item.path}: wanted {item.size} bytes, found {len(mapped)}")
            self._maps.append((item.start, item.start + item.size, mapped))

    def has(self, address: int, size: int = 1) -> bool:
        return any(start <= address and address + size <= end for start, end, _ in self._maps)

    def read(self, address: int, size: int) -> bytes:
        for start, end, mapped in self._maps:
            if start <= address and address + size <= end:
                return mapped[address - start:address - start + size]
        raise HarnessError(f"physical {address:#x}+{size:#x} is not in the guest's RAM: " +
                           ", ".join(f"{start:#x}-{end:#x}" for start, end, _ in self._maps))

    def page(self, pfn: int) -> bytes:
        return self.read(pfn * PAGE, PAGE)

    def pfns(self) -> Iterator[int]:
        """Numbers of the whole pages in RAM, ascending."""
        for start, end, _ in self._maps:
            yield from range(-(-start // PAGE), end // PAGE)

    def find(self, needle: bytes) -> Iterator[int]:
        """Physical addresses of needle, ascending (not across ranges)."""
        for start, _, mapped in self._maps:
            at = mapped.find(needle)
            while at >= 0:
                yield start + at
                at = mapped.find(needle, at + 1)

    def close(self) -> None:
        for _, _, mapped in self._maps:
            mapped.close()
        self._maps = []
