# SPDX-License-Identifier: Apache-2.0
"""Dumps that only some can read, of real kernels; and keys, which nothing of a host ever shows."""

from __future__ import annotations

import contextlib
import pathlib
import re
from typing import Iterator

import pytest

from vmtest import build, judge
from vmtest.kernelmem import Notes
from vmtest.memory import PAGE, MemoryImage
from vmtest.scenario import Scenario
from vmtest.util import wait_until

# From where a processor panics: in an NMI nothing of ours may use the FPU, and helpers always are in one.
WAYS = ("sysrq", "die=nmi", "die=null_hardirq")
DEFAULT = (("6.1", "virtio-net-pci", "die=nmi"), ("6.12", "e1000e", "sysrq"))
CELLS = [pytest.param(series, nic, way, id=f"{series}-{nic}-{way}",
                      marks=() if (series, nic, way) in DEFAULT else pytest.mark.slow)
         for series in ("6.1", "6.12") for nic in ("virtio-net-pci", "e1000e") for way in WAYS]
SECRET = b"sysrq triggered crash"

# struct dcast_secrets of kmod/core/dcast_sender.h: {MAC key, digest key}, cipher key, {nonce key}, {signature key}.
KEYS = {"MAC": (0, 16), "digest": (16, 32), "cipher": (32, 64), "nonce": (64, 80), "signature": (80, 96)}


def crash(run: Scenario, way: str) -> None:
    if way == "sysrq":
        run.crash()
        return
    run.vm.sh(f"modprobe crasher dev=net0 {way}", check=True)
    run.notes = Notes.take(run.vm)
    run.vm.shell.send("echo 1 >/sys/module/crasher/parameters/go")
    wait_until(lambda: run.show(0), 90, lambda: f"a dump to begin\n{run.words()}", 0.5)


@pytest.mark.parametrize("series,nic,way", CELLS)
def test_dump_equals_memory_and_relays_cannot_read_it(series, nic, way, kernel_of, scratch):
    kernel = kernel_of(series)
    with Scenario(scratch, kernel, [nic], 2, relay_count=2, identity=scratch / "identity", guest_kmods=[build.crasher(kernel)]) as run:
        crash(run, way)
        for dump in run.wait_sealed():
            assert dump["blocks_held"] == dump["blocks_expected"] != "0"
            assert dump["encrypted"] and not dump["reason"]
            assert re.fullmatch("[0-9a-f]{32}", dump["signature"]) and int(dump["signature"], 16)
            assert dump["kernel_release"] == kernel.release
        run.vm.wait_reset()
        core, _ = judge.dump_equals_memory(run, both=True)
        assert "Kernel panic" in run.log()
        assert run.report().committed
        assert kernel.release in core.vmcoreinfo

        refused = run.client.run("get", run.dump_id(), "-O", scratch / "none", check=False)
        assert refused.returncode != 0 and "--identity" in refused.stderr and not (scratch / "none").exists()
        other = scratch / "other"
        run.client.run("keygen", "-O", other)
        refused = run.client.run("log", run.dump_id(), "--identity", other, check=False)
        assert refused.returncode != 0 and "1 other recipient" in refused.stderr, refused.stderr
        for relay in run.relays:
            relay.stop()
            stored = list(relay.store.rglob("*"))
            assert sum(path.stat().st_size for path in stored if path.is_file()) > 1 << 20
            for path in stored:
                assert not path.is_file() or SECRET not in path.read_bytes(), path


def secrets_page(run: Scenario) -> int:
    held = run.vm.sh("cat /sys/kernel/config/dumpcast/held", check=True)[1]
    start, end = re.search(r"^0x([0-9a-f]+)-0x([0-9a-f]+) secrets$", held, re.M).groups()
    assert int(end, 16) - int(start, 16) == PAGE
    return int(start, 16) // PAGE


def keys_in(page: bytes) -> dict[str, bytes]:
    assert page[96] == 1, "encrypted"
    found = {name: page[start:end] for name, (start, end) in KEYS.items()}
    assert all(len(set(key)) > 4 for key in found.values()), "keys, and no zeros"
    return found


def searched(keys: dict[str, bytes]) -> dict[str, bytes]:
    """As bytes, in halves, and as the hex digits that they are written in."""
    wanted = {}
    for name, key in keys.items():
        for at in range(0, len(key), 16):
            wanted[f"{name}+{at}"] = key[at:at + 16]
            wanted[f"{name}+{at} in hex"] = key[at:at + 16].hex().encode()
    return wanted


def places(image: MemoryImage, wanted: dict[str, bytes]) -> dict[str, set[int]]:
    """Frames of the memory that each is in."""
    return {name: {address // PAGE for address in image.find(key)} for name, key in wanted.items()}


@contextlib.contextmanager
def memory_now(run: Scenario, folder: pathlib.Path) -> Iterator[MemoryImage]:
    """Of the guest, which goes on."""
    run.vm.pause()
    image = run.vm.save_memory(folder)
    run.vm.resume()
    with contextlib.closing(image):
        yield image


@pytest.mark.parametrize("series", ["6.1", pytest.param("6.12", marks=pytest.mark.slow)])
def test_keys_are_in_one_page_which_never_leaves(series, kernel_of, scratch):
    """Dump level 0: every page leaves but that one. A test dump before it has used the keys, too."""
    with Scenario(scratch, kernel_of(series), ["virtio-net-pci"], 2, relay_count=2, level=0, identity=scratch / "identity") as run:
        run.vm.sh("dumpcast-arm test", timeout_s=60, check=True)
        page = secrets_page(run)
        with memory_now(run, scratch / "armed") as image:
            keys = keys_in(image.page(page))
            wanted = searched(keys)
            for name, frames in places(image, wanted).items():
                assert frames == (set() if "hex" in name else {page}), (name, frames, page)
        run.crash()
        run.wait_sealed()
        run.vm.wait_reset()
        core, memory = judge.dump_equals_memory(run, both=True)
        assert core.page(page) is None
        assert keys_in(memory.image.page(page)) == keys
        for form in ("elf", "kdump"):
            content = run.fetch(form).read_bytes()
            assert SECRET in content  # what is there is found
            for name, key in wanted.items():
                assert key not in content, (form, name)


def test_disarming_wipes_the_keys(kernel_of, scratch):
    with Scenario(scratch, kernel_of("6.1"), ["virtio-net-pci"], 2, relay_count=1, identity=scratch / "identity") as run:
        page = secrets_page(run)
        with memory_now(run, scratch / "armed") as image:
            wanted = searched(keys_in(image.page(page)))
        run.vm.sh("dumpcast-arm disarm", check=True)
        with memory_now(run, scratch / "disarmed") as image:
            for name, frames in places(image, wanted).items():
                assert not frames, (name, frames)


def test_each_arming_has_keys_of_its_own(kernel_of, scratch):
    with Scenario(scratch, kernel_of("6.1"), ["virtio-net-pci"], 1, relay_count=1, identity=scratch / "identity") as run:
        seen = []
        for number in range(2):
            with memory_now(run, scratch / f"memory{number}") as image:
                seen.append(keys_in(image.page(secrets_page(run))))
            run.vm.sh("dumpcast-arm arm", timeout_s=60, check=True)
        assert seen[0]["cipher"] != seen[1]["cipher"] and seen[0]["nonce"] != seen[1]["nonce"]
        # Of the host, and of who may read.
        assert seen[0]["MAC"] == seen[1]["MAC"] and seen[0]["signature"] == seen[1]["signature"]
        run.vm.sh("sed -i /recipients/d /etc/dumpcast/arm.toml && dumpcast-arm arm", timeout_s=60, check=True)
        assert "encrypted for 0 recipients" in run.vm.sh("dmesg", check=True)[1].rpartition("armed:")[2]


def test_equal_crashes_have_equal_signatures(kernel_of, scratch):
    """Of two hosts that were armed for the same recipients, and of another kind of crash."""
    kernel, said = kernel_of("6.1"), []
    for number, way in enumerate(("sysrq", "sysrq", "die=bug")):
        with Scenario(scratch / str(number), kernel, ["virtio-net-pci"], 2, relay_count=1, identity=scratch / "identity",
                      guest_kmods=[build.crasher(kernel)]) as run:
            crash(run, way)
            said.append(run.wait_sealed()[0]["signature"])
            run.vm.wait_reset()
    assert said[0] == said[1] != said[2], said
