# SPDX-License-Identifier: Apache-2.0
"""The cards that a dump leaves by, and the states that a panic finds them in."""

from __future__ import annotations

import itertools
import pathlib

import pytest

from vmtest import judge, kernels, words
from vmtest.scenario import Scenario

# QEMU's models; rtl8139 is what many an old guest was given. A number behind virtio-net is of queues.
CARDS = ("virtio-net-pci", "virtio-net-pci:4", "e1000", "e1000e", "vmxnet3", "rtl8139")
DEFAULT = (("6.1", "vmxnet3"), ("6.12", "virtio-net-pci:4"))

TOOLS = {"/sbin/ethtool": pathlib.Path("/usr/sbin/ethtool"),
         "/sbin/ip": pathlib.Path("/usr/sbin/ip")}  # busybox has no ethtool, and a poor ip


def cells(rows, default) -> list:
    """Every kernel with every row; those not in default only with --all."""
    return [pytest.param(series, *row, marks=() if (series, *row) in default else pytest.mark.slow)
            for series, row in itertools.product(kernels.SERIES, rows)]


def check(run: Scenario, record) -> words.Report:
    """Sealed complete on every relay, committed, and the machine gone back to its policy."""
    for dump in run.wait_sealed():
        assert dump["blocks_held"] == dump["blocks_expected"] != "0", dump
    run.vm.wait_reset()
    said = words.report(run.vm.console())
    print(f"{said}\n{run.summary()}")
    assert said.committed and said.relays_done == said.relays == run.relay_count
    record("cell", f"{sum(said.ours.values())} replies")
    return said


@pytest.mark.matrix("Network cards")
@pytest.mark.parametrize("series,nic", cells([(card,) for card in CARDS], DEFAULT))
def test_card(series, nic, kernel_of, scratch, record_property):
    model, _, queues = nic.partition(":")
    with Scenario(scratch, kernel_of(series), [model], 2, relay_count=2,
                  queues=int(queues or 1), guest_binaries=TOOLS) as run:
        if queues:
            # The driver starts with as many as there are processors.
            run.vm.sh(f"ethtool -L net0 combined {queues}", check=True)
            assert len(run.vm.sh("ls -d /sys/class/net/net0/queues/tx-*")[1].split()) == int(queues)
            run.wait_armed()
        run.crash()
        said = check(run, record_property)
        assert said.ours["net0"], "no reply was read"
        judge.dump_equals_memory(run)
