# SPDX-License-Identifier: Apache-2.0
"""Something is cut in the midst of a dump: the host's life, or the link of one of its cards."""

from __future__ import annotations

import os
import random

import pytest

from vmtest import tools, words
from vmtest.scenario import Scenario
from vmtest.util import wait_until
from vmtest.vmcore import open_vmcore

SEED = int(os.environ.get("DUMPCAST_SEED") or random.randrange(1 << 32))
CARDS = ["virtio-net-pci", "e1000e"]


def held_part(dump: dict | None) -> float:
    """How much of a dump a relay holds, of what the host has announced."""
    announced = int(dump["blocks_announced"]) if dump else 0
    return int(dump["blocks_held"]) / announced if announced else 0.0


def wait_part(run: Scenario, part: float) -> float:
    """Until relay 0 holds this part of the dump; how much it was."""
    def probe():
        run.vm.check_alive()
        now = held_part(run.show(0))
        return now if now >= part else None
    return wait_until(probe, 300, lambda: f"{part:.0%} of the dump\n{run.words()}")


@pytest.mark.parametrize("series,nic", [
    ("6.1", "virtio-net-pci"),
    pytest.param("6.12", "e1000e", marks=pytest.mark.slow),
])
def test_host_that_is_gone_half_way(series, nic, kernel_of, vmlinux_of, scratch):
    kernel = kernel_of(series)
    flags = ["--silent-after", "3s", "--seal-after", "4s"]
    # Page cache is dumped at this level, last: as on most hosts, the kernel's own memory is
    # less than half of the dump.
    with Scenario(scratch, kernel, [nic], 2, relay_count=2, rate_mib_s=4, relay_flags=flags,
                  level=17) as run:
        run.vm.sh("dd if=/dev/urandom of=/tmp/cached bs=1M count=48", check=True)
        run.vm.crash()
        wait_part(run, 0.5)
        run.vm.kill()
        dumps = run.wait_sealed(state="DUMP_STATE_INCOMPLETE")
        for index, dump in enumerate(dumps):
            assert 0.5 <= held_part(dump) < 1, dump
            assert dump["kernel_release"] == kernel.release
            assert "the host fell silent" in dump["incomplete_reason"]
            assert "blocks" in dump["incomplete_reason"] and "missing" in dump["incomplete_reason"]
            client = run.relays.client(index)
            shown = client.run("show", run.dump_id()).stdout
            print(f"{series} {nic} relay {index}:\n{shown}")
            missing = int(dump["blocks_announced"]) - int(dump["blocks_held"])
            assert f"sealed incomplete ({dump['incomplete_reason']})" in shown
            assert f"{missing} of {dump['blocks_announced']} blocks are missing" in shown
            said = client.run("log", run.dump_id()).stdout
            assert "Kernel panic - not syncing: sysrq triggered crash" in said
            refused = client.run("get", run.dump_id(), "--output-file", scratch / "no",
                                 "--require-complete", check=False)
            assert refused.returncode != 0 and not (scratch / "no").exists()

        elf, kdump = (open_vmcore(run.fetch(form, complete=False)) for form in ("elf", "kdump"))
        assert kdump.incomplete
        assert f"OSRELEASE={kernel.release}\n" in elf.vmcoreinfo
        pages = [pfn for pfn in range(run.vm.memory_mib * 256) if kdump.page(pfn) is not None]
        assert len(pages) > 1000
        assert all(elf.page(pfn) == kdump.page(pfn) for pfn in pages[::37])
        if series == "6.1":  # newer than makedumpfile 1.7.2 otherwise
            assert "sysrq triggered crash" in tools.dump_dmesg(scratch / "vmcore-any.elf")

        if series != "6.1":  # newer than Debian 12's crash
            return
        vmlinux = vmlinux_of(kernel)
        for form in ("elf", "kdump"):
            said = tools.crash(vmlinux, scratch / f"vmcore-any.{form}", ["log", "sys", "bt"])
            assert "sysrq triggered crash" in said["log"], form
            assert f"RELEASE: {kernel.release}" in said["sys"], form
            assert "sysrq_handle_crash" in said["bt"], form


def check_whole(dump: dict) -> int:
    """Blocks that a relay holds of a complete dump."""
    assert int(dump["blocks_held"]) == int(dump["blocks_expected"]) > 0, dump
    return int(dump["blocks_held"])


def cut(run: Scenario, card: int, how: str) -> None:
    if how == "cable":  # behind the switch: the card never hears of it
        run.net.set_link(card, up=False)
    else:               # the card's own carrier goes
        run.vm.set_link(card, up=False)


def choices() -> list:
    """Both cards and both ways; the seed chooses the one that runs by default."""
    rng = random.Random(SEED)
    every = [(card, how) for card in (0, 1) for how in ("cable", "carrier")]
    default = rng.choice(every)
    return [pytest.param(card, how, rng.uniform(0.02, 0.9), id=f"{CARDS[card]}-{how}",
                         marks=[] if (card, how) == default else [pytest.mark.slow])
            for card, how in every]


@pytest.mark.parametrize("card,how,part", choices())
def test_link_that_is_cut(card, how, part, kernel_of, scratch):
    print(f"DUMPCAST_SEED={SEED}: cut {CARDS[card]} ({how}) at {part:.0%}")
    with Scenario(scratch, kernel_of("6.1"), CARDS, 2, relay_count=2, rate_mib_s=4) as run:
        run.vm.crash()
        at = wait_part(run, part)
        cut(run, card, how)
        assert at < 1 and held_part(run.show(0)) < 1, "the dump was over before the cut"
        for dump in run.wait_sealed():
            check_whole(dump)
        run.vm.wait_reset()
        said = words.report(run.vm.console())
        print(f"cut at {at:.0%}: {said}")
        assert said.committed and said.relays_done == 2
        assert said.packets[f"net{1 - card}"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("card", (0, 1))
def test_link_that_is_cut_unseen_while_symbols_are_striped(card, kernel_of, scratch):
    """Half of what leaves is lost from then on, and the host's card says that all is well."""
    part = random.Random(SEED).uniform(0.1, 0.6)
    print(f"DUMPCAST_SEED={SEED}: cut {CARDS[card]} at {part:.0%}")
    with Scenario(scratch, kernel_of("6.1"), CARDS, 2, relay_count=2, rate_mib_s=2,
                  arm_extra='mode = "stripe"') as run:
        run.vm.crash()
        wait_part(run, part)
        cut(run, card, "cable")
        for dump in run.wait_sealed():
            check_whole(dump)
        run.vm.wait_reset()
        said = words.report(run.vm.console())
        print(f"{said}\n{run.summary()}")
        assert said.committed and said.relays_done == 2
        assert said.naks and said.sent_again


@pytest.mark.slow
def test_both_paths_bring_a_block_once(kernel_of, scratch):
    with Scenario(scratch, kernel_of("6.1"), CARDS, 2, relay_count=2) as run:
        run.vm.crash()
        dumps = run.wait_sealed()
        run.vm.wait_reset()
        print(run.summary())
        for relay, dump in zip(run.relays, dumps):
            counted = relay.counters()
            print(relay.name, counted)
            came = sum(counted[name] for name in
                       ("blocks", "blocks_empty", "blocks_peer", "blocks_replicated"))
            assert came == check_whole(dump)
            # What both paths carried came twice: all but what was lost or came by one alone. On a
            # busy machine one card may lag behind, and what it has no room for is passed over.
            twice = counted["symbols_duplicate"] + counted["symbols_held"]
            paths = {path["path"]: path for path in dump["paths"]}
            assert set(paths) == {0, 1}
            assert twice > min(int(path["packets"]) for path in paths.values()) // 2
            assert all(int(path["packets"]) for path in paths.values())
            assert sum(int(path["duplicates"]) for path in paths.values()) == twice
