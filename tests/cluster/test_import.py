# SPDX-License-Identifier: Apache-2.0
"""`dumpcast import`: vmcores that exist already. Those of makedumpfile are in tests/vm/test_import.py."""

from __future__ import annotations

import pathlib
import struct

import pytest


def flatten(path: pathlib.Path, to: pathlib.Path, piece: int = 100_000) -> pathlib.Path:
    """As it comes out of `makedumpfile -F`: a header of 4 KiB, records of offset and length, big-endian."""
    content = path.read_bytes()
    with open(to, "wb") as out:
        out.write((b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1)).ljust(4096, b"\0"))
        for at in range(0, len(content), piece):
            out.write(struct.pack(">qq", at, len(content[at:at + piece])) + content[at:at + piece])
        out.write(struct.pack(">qq", -1, -1))
    return to


def import_(c, path: pathlib.Path, *flags: object) -> str:
    """The id of the dump that it became; complete on every relay."""
    before = {dump["dump_id"] for dump in c.client(0).dumps()}
    c.relays.client().import_(path, "--key-file", c.relays.key, *flags)
    dumps = {dump["dump_id"] for dump in c.client(0).dumps()} - before
    assert len(dumps) == 1, dumps
    c.wait_state(dump_id=(dump_id := dumps.pop()))
    return dump_id


def test_files_of_every_kind_become_the_same_memory(cluster, image, scratch):
    with cluster(relays=2) as c:
        elf = import_(c, image.path)
        c.check_views(image, dump_id=elf)
        kdump = c.fetch(0, "kdump", elf, "exported")
        flat_elf, flat_kdump = flatten(image.path, scratch / "flat.elf"), flatten(kdump, scratch / "flat.kdump")
        again = import_(c, kdump)
        c.check_views(image, dump_id=again)
        # A flattened file is the file that it stands for: these dumps are there already.
        for path in (flat_elf, flat_kdump, image.path):
            said = c.relays.client().import_(path, "--key-file", c.relays.key)
            assert "2 of 2" in said.stderr or "committed" in said.stderr, said.stderr
        assert {dump["dump_id"] for dump in c.client(1).dumps()} == {elf, again}


def test_who_it_was(cluster, image, scratch):
    with cluster(relays=1) as c:
        log = scratch / "log"
        log.write_text("[ 1.0] Kernel panic - not syncing: imported\n", encoding="ascii")
        dump_id = import_(c, image.path, "--hostname", "db7", "--host-id", "ab" * 16, "--log-file", log)
        dump = c.show(0, dump_id)
        assert (dump["hostname"], dump["host_id"]) == ("db7", "ab" * 16)
        assert "imported" in c.client(0).run("log", dump_id).stdout


@pytest.mark.parametrize("content, wanted", ids=("elf", "kdump", "flattened"), argvalues=[
    (b"\x7fELF" + bytes(100), "ELF64"), (b"KDUMP   " + bytes(5000), "header version 0"),
    (b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1) + bytes(4064), "incomplete, fetch it again")])
def test_a_file_that_is_none_is_refused(cluster, scratch, content, wanted):
    with cluster(relays=1) as c:
        (scratch / "bad").write_bytes(content)
        done = c.client(0).import_(scratch / "bad", "--key-file", c.relays.key, check=False)
        assert done.returncode == 2 and wanted in done.stderr, done
        assert not c.client(0).dumps()
