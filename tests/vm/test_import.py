# SPDX-License-Identifier: Apache-2.0
"""`dumpcast import` of what makedumpfile makes of a real kernel's vmcore, compressed in each of its ways."""

from __future__ import annotations

import pathlib

from vmtest import tools
from vmtest.relays import Relays
from vmtest.scenario import Scenario
from vmtest.util import run, wait_until
from vmtest.vmcore import open_vmcore

# Debian's has neither snappy nor zstd; unit tests have files of those.
COMPRESSIONS = ("-c", "-l")


def pages(path: pathlib.Path) -> dict[int, int]:
    core = open_vmcore(path)
    return {pfn: hash(core.page(pfn)) for pfn in core.pfns()}


def import_(relays: Relays, path: pathlib.Path) -> dict:
    client = relays.client()
    before = {dump["dump_id"] for dump in client.dumps()}
    client.import_(path, "--key-file", relays.key, timeout=600)

    def complete():
        dumps = [dump for dump in client.dumps() if dump["dump_id"] not in before]
        return dumps[0] if dumps and dumps[0]["state"] == "DUMP_STATE_COMPLETE" else None
    return wait_until(complete, 120, relays.logs)


def test_vmcores_of_makedumpfile(kernel_of, scratch):
    kernel = kernel_of("6.1")
    with Scenario(scratch, kernel, ["virtio-net-pci"], 2, relay_count=2) as scenario:
        scenario.crash()
        scenario.wait_sealed()
        scenario.vm.wait_reset()
        original = scenario.fetch("kdump")
        wanted = pages(original)
        assert len(wanted) > 1000
        log = scenario.log()
        for how in COMPRESSIONS:
            compressed = scratch / f"compressed{how}"
            run(["makedumpfile", how, "-d", "0", original, compressed])
            assert compressed.stat().st_size < original.stat().st_size
            dump = import_(scenario.relays, compressed)
            assert dump["kernel_release"] == kernel.release
            again = scratch / f"again{how}"
            scenario.client.run("get", dump["dump_id"], "--format", "kdump", "-O", again)
            assert pages(again) == wanted, how
            assert scenario.client.run("log", dump["dump_id"]).stdout == log
            assert "sysrq triggered crash" in tools.dump_dmesg(again)
            for path in (compressed, again):
                path.unlink()
