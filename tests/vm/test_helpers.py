# SPDX-License-Identifier: Apache-2.0
"""The other processors encode; and the codecs, each and whichever is the fastest."""

from __future__ import annotations

import itertools

import pytest

from vmtest import build, judge, kernels, words
from vmtest.scenario import Scenario

NICS = ("virtio-net-pci", "e1000e")
CODECS = ("none", "lz4", "zstd")  # in the order of the report


def guest(scratch, kernel, nic, cpus=2, extra="", **more) -> Scenario:
    return Scenario(scratch, kernel, [nic], cpus, relay_count=2, arm_extra=extra,
                    guest_kmods=[build.crasher(kernel)], **more)


def check(run: Scenario) -> words.Report:
    run.wait_sealed()
    run.vm.wait_reset()
    said = run.report()
    print(f"{said}\n{run.summary()}")
    assert said.silent or (said.committed and said.relays_done == 2)
    judge.dump_equals_memory(run)
    return said


@pytest.mark.matrix("Processors that help")
@pytest.mark.parametrize("series,nic", [
    pytest.param(series, nic, marks=[] if (series, nic) == ("6.12", "e1000e") else [pytest.mark.slow])
    for series, nic in itertools.product(kernels.SERIES, NICS)])
@pytest.mark.parametrize("cpus", (2, pytest.param(1, marks=pytest.mark.slow),
                                  pytest.param(4, marks=pytest.mark.slow)))
def test_every_processor_helps(series, nic, cpus, kernel_of, scratch, record_property):
    with guest(scratch, kernel_of(series), nic, cpus) as run:
        run.crash()
        said = check(run)
        assert said.helpers == cpus - 1 and not said.helpers_lost
        assert bool(said.helped) == (cpus > 1)
        record_property("cell", f"{said.helped} of {said.blocks} blocks")


@pytest.mark.matrix("Processors that help")
@pytest.mark.parametrize("series,nic", [
    pytest.param(series, nic, marks=[] if (series, nic) == ("6.1", "virtio-net-pci")
                 else [pytest.mark.slow])
    for series, nic in itertools.product(kernels.SERIES, NICS)])
@pytest.mark.parametrize("how", ("stuck", pytest.param("faults", marks=pytest.mark.slow)))
def test_helper_that_does_not_come_back(series, nic, how, kernel_of, scratch):
    """The block that it took is encoded by another, and the machine goes back to its policy."""
    with guest(scratch, kernel_of(series), nic) as run:
        run.vm.sh(f"modprobe crasher dev=net0 die=none helper={how}", check=True)
        run.crash()
        said = check(run)
        assert said.helpers == 1 and said.helpers_lost == 1


@pytest.mark.slow
@pytest.mark.parametrize("series", kernels.SERIES)
@pytest.mark.parametrize("before,extra", [
    ("echo 0 >/sys/module/kernel/parameters/crash_kexec_post_notifiers", ""),
    ("true", "helpers = 0")], ids=("no NMI", "not wanted"))
def test_nobody_helps(series, before, extra, kernel_of, scratch):
    with guest(scratch, kernel_of(series), "virtio-net-pci", extra=extra) as run:
        run.vm.sh(before, check=True)
        run.crash()
        said = check(run)
        assert not said.helpers and not said.helped


@pytest.mark.matrix("Codecs")
@pytest.mark.parametrize("series,nic", [
    pytest.param(series, nic, marks=[] if (series, nic) == ("6.12", "virtio-net-pci")
                 else [pytest.mark.slow])
    for series, nic in itertools.product(kernels.SERIES, NICS)])
@pytest.mark.parametrize("codec", (pytest.param("none", marks=pytest.mark.slow),
                                   pytest.param("lz4", marks=pytest.mark.slow), "zstd"))
def test_codec(series, nic, codec, kernel_of, scratch, record_property):
    with guest(scratch, kernel_of(series), nic, extra=f'codec = "{codec}"') as run:
        run.crash()
        said = check(run)
        mine = said.by_codec[CODECS.index(codec)]
        assert mine == said.blocks > 0
        raw, sent = run.volume()
        record_property("cell", f"{raw / sent:.2f} to 1")
        assert sent < raw or codec == "none"
