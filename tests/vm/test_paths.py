# SPDX-License-Identifier: Apache-2.0
"""A path dies in the midst of a dump, by its link or its card, and comes back where it can."""

from __future__ import annotations

import itertools
import re

import pytest

from test_cut import wait_part
from vmtest import build, kernels, words
from vmtest.scenario import Scenario
from vmtest.util import wait_until

# net0 is the one that dies; the other one carries on.
OTHER = {"virtio-net-pci": "e1000e", "e1000e": "virtio-net-pci"}
DEFAULT = (("6.1", "virtio-net-pci", "stripe"),)


def cells(rows, default=()) -> list:
    return [pytest.param(series, *row, marks=() if (series, *row) in default else pytest.mark.slow)
            for series, row in itertools.product(kernels.SERIES, rows)]


MODES = [(nic, mode) for nic in OTHER for mode in ("mirror", "stripe")]


def pair(folder, kernel, nic: str, mode: str, **more) -> Scenario:
    """A guest with two paths, slow enough for things to happen on the way."""
    return Scenario(folder, kernel, [nic, OTHER[nic]], 2, relay_count=2, rate_mib_s=3, level=17,
                    arm_extra=f'mode = "{mode}"', **more)


def fill(run: Scenario) -> None:
    run.vm.sh("dd if=/dev/urandom of=/tmp/cached bs=1M count=32", check=True)


def said_of(run: Scenario, path: str) -> list[str]:
    """What the host said of a path's state, in its order."""
    return re.findall(rf"dumpcast: path {path}: net\d (has no link|takes nothing|works again),",
                      run.vm.console())


def wait_said(run: Scenario, path: str, wanted: str) -> None:
    wait_until(lambda: said_of(run, path)[-1:] == [wanted], 120,
               lambda: f"path {path}: {wanted}\n{run.words()}", 0.2)


def packets_of(run: Scenario, path: int) -> int:
    """Packets that relay 0 has counted on a path."""
    paths = {entry["path"]: int(entry["packets"]) for entry in (run.show(0) or {}).get("paths", [])}
    return paths.get(path, 0)


def check(run: Scenario, record) -> words.Report:
    for dump in run.wait_sealed():
        assert dump["blocks_held"] == dump["blocks_expected"] != "0", dump
    run.vm.wait_reset()
    said = words.report(run.vm.console())
    print(f"{said}\n{run.summary()}")
    assert said.silent or (said.committed and said.relays_done == 2)
    # A busy machine may starve the other card for a moment.
    assert said_of(run, "net1")[-1:] in ([], ["works again"])
    record("cell", f"{said.sent_again} sent again")
    return said


@pytest.mark.matrix("Paths")
@pytest.mark.parametrize("series,nic,mode", cells(MODES, DEFAULT))
def test_link_lost_and_found(series, nic, mode, kernel_of, scratch, record_property):
    with pair(scratch, kernel_of(series), nic, mode) as run:
        fill(run)
        run.vm.crash()
        wait_part(run, 0.1)
        run.vm.set_link(0, up=False)
        wait_said(run, "net0", "has no link")
        before = wait_part(run, 0.3)
        run.vm.set_link(0, up=True)
        wait_said(run, "net0", "works again")
        carried = packets_of(run, 0)
        wait_until(lambda: packets_of(run, 0) > carried, 120,
                   lambda: f"packets by net0 again\n{run.words()}", 0.2)
        assert before < 1, "the dump was over before the link came back"
        check(run, record_property)
        assert said_of(run, "net0")[:2] == ["has no link", "works again"]


@pytest.mark.matrix("Paths")
@pytest.mark.parametrize("series,nic,mode", cells(MODES))
def test_card_that_is_reset(series, nic, mode, kernel_of, scratch, record_property):
    """Its rings are gone, and nobody sets it up again: the other card brings all."""
    kernel = kernel_of(series)
    with pair(scratch, kernel, nic, mode, guest_kmods=[build.crasher(kernel)]) as run:
        run.vm.sh("modprobe crasher dev=net0 die=none reset=300", check=True)
        run.vm.crash()
        check(run, record_property)
        assert "net0 was reset" in run.vm.console()
        assert said_of(run, "net0")[-1:] not in ([], ["works again"])


@pytest.mark.matrix("Paths")
@pytest.mark.parametrize("series,nic,mode", cells(MODES))
def test_card_that_was_down_at_the_panic(series, nic, mode, kernel_of, scratch, record_property):
    """Another processor was stopped between taking it down and up again."""
    kernel = kernel_of(series)
    with pair(scratch, kernel, nic, mode, guest_kmods=[build.crasher(kernel)]) as run:
        run.vm.sh("modprobe crasher dev=net0 die=panic hold=closed", check=True)
        run.vm.shell.send("echo 1 >/sys/module/crasher/parameters/go")
        run.vm.wait_console("dumpcast: sending dump .* on 1 of 2 paths", 120)
        said = check(run, record_property)
        assert said.packets["net0"] == 0 and said.packets["net1"] > 0
