# SPDX-License-Identifier: Apache-2.0
"""Where multicast does not reach: the host sends to each relay's own address."""

from __future__ import annotations

import json

import pytest

from vmtest import words
from vmtest.scenario import Scenario, arm_toml
from vmtest.util import wait_until


@pytest.mark.slow
@pytest.mark.parametrize("series,nic,v6", [
    ("6.1", "e1000e", False),
    ("6.12", "virtio-net-pci", True),
])
def test_network_without_multicast(series, nic, v6, kernel_of, scratch):
    flags = ["--group", "none", "--group6", "none"]
    with Scenario(scratch, kernel_of(series), [nic], 2, relay_count=2, relay_flags=flags,
                  armed=False) as run:
        relays = [run.net.relay_address(relay.index, v6=v6) for relay in run.relays]
        toml = arm_toml(1, 31, group='", "'.join(relays))
        run.vm.sh(f"printf '%s' '{toml}' >/etc/dumpcast/arm.toml; dumpcast-arm arm", check=True)
        run.wait_armed()

        def status() -> dict:
            return json.loads(run.vm.sh("dumpcast-arm status -o json", check=True)[1])
        wait_until(lambda: status()["paths"][0]["next_hops"] == "2/2" and
                   len(status()["relays"]) == 2, 60, lambda: str(status()), 0.5)
        assert "committed by 2 relays" in run.vm.sh("dumpcast-arm test", 120, check=True)[1]
        run.vm.crash()
        run.wait_sealed()
        run.vm.wait_reset()
        said = words.report(run.vm.console())
        print(f"{series} {nic} {relays}: {said}")
        assert said.silent or (said.committed and said.relays_done == 2)
