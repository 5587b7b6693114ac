# SPDX-License-Identifier: Apache-2.0
"""The judge itself: a wrong, a missing and an extra page are found, and losses really lose."""

from __future__ import annotations

from clusterlib import image as images
from vmtest.vmcore import ElfCore


def test_a_wrong_byte_is_found(image, tmp_path):
    assert image.differences(image.path) == []
    data = bytearray(image.path.read_bytes())
    paddr, _, _, _, offset = ElfCore(image.path).loads[-1]
    data[offset + 5 * images.PAGE + 77] ^= 1
    wrong = tmp_path / "wrong"
    wrong.write_bytes(data)
    assert image.differences(wrong) == [
        f"1 pages are wrong, such as {paddr // images.PAGE + 5:#x}"]


def test_missing_and_extra_pages_are_found(image, tmp_path):
    pages = dict(image.pages)
    try:
        image.pages[1] = bytes(images.PAGE)
        assert "1 pages are missing" in image.differences(image.path)[0]
        assert image.differences(image.path, partial=True) == []
        del image.pages[1], image.pages[0x100]
        assert "1 pages too many" in image.differences(image.path)[0]
    finally:
        image.pages = pages


def test_the_same_seed_is_the_same_memory(image, tmp_path):
    assert images.Image(tmp_path / "again").path.read_bytes() == image.path.read_bytes()
    assert images.Image(tmp_path / "other", seed=1).pages != image.pages
