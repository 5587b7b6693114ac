# SPDX-License-Identifier: Apache-2.0
"""The way back two minutes into a dump, when no neighbour remembers the host any more; and none.

A panicked kernel answers neither ARP nor ND: the module's polled receive does. Relays learn
the host's address anew from it, or their NAKs and COMMITs end in their own kernel.
"""

from __future__ import annotations

import pytest

from vmtest import words
from vmtest.net import Loss
from vmtest.scenario import GROUP, GROUP6, Scenario
from vmtest.util import wait_until

LATE_S = 120       # of the guest's time since the first packet
FORGET_MS = 1000   # after which a relay's kernel no longer trusts a neighbour entry


def forget_quickly(run: Scenario, v6: bool) -> None:
    """Lets neighbour entries expire within seconds, so that each relay asks again and again."""
    family = "ipv6" if v6 else "ipv4"
    for relay in run.relays:
        for bridge in range(run.net.bridges):
            top = f"net.{family}.neigh.leg{bridge}"
            run.net.run_in(run.net.relay_ns(relay.index), [
                "sysctl", "-q", f"{top}.base_reachable_time_ms={FORGET_MS}",
                f"{top}.gc_stale_time=1", f"{top}.delay_first_probe_time=1"])


def wait_neighbours(run: Scenario, v6: bool, known: bool) -> None:
    """Until every relay has asked on every bridge, and was answered (known) or was not."""
    wanted = ("REACHABLE", "DELAY", "PROBE", "STALE") if known else ("FAILED", "INCOMPLETE", "NONE")
    legs = [(relay.index, bridge) for relay in run.relays for bridge in range(run.net.bridges)]

    def probe():
        run.vm.check_alive()
        return all(run.net.neighbour_state(*leg, v6) in wanted for leg in legs)
    wait_until(probe, 120, lambda: f"the guest to be {wanted} for all: " + ", ".join(
        f"relay {leg[0]} leg{leg[1]} {run.net.neighbour_state(*leg, v6)}" for leg in legs) +
        f"\n{run.words()}", 0.2)


def total(run: Scenario, name: str) -> int:
    return sum(relay.counters()[name] for relay in run.relays)


@pytest.mark.slow
@pytest.mark.parametrize("series,nic,group,rate_mib_s", [
    ("6.1", "virtio-net-pci", GROUP, 0.1),
    ("6.12", "e1000e", GROUP6, 0.1),
])
def test_neighbours_that_forgot_the_host(series, nic, group, rate_mib_s, kernel_of, scratch):
    v6 = group == GROUP6
    with Scenario(scratch, kernel_of(series), [nic], 2, relay_count=2, level=31,
                  rate_mib_s=rate_mib_s, group=group) as run:
        run.vm.crash()
        run.vm.wait_console("dumpcast: sending dump")
        forget_quickly(run, v6)
        wait_until(lambda: words.dump_seconds(run.vm.console()) > LATE_S or run.vm.check_alive(),
                   900, run.words, 0.5)
        assert words.percent(run.vm.console()) < 90, "the dump must not be nearly over by now"

        # Without the host's answers the way back is closed: what makes it work is they alone.
        run.net.drop_neighbour_answers(True)
        for relay in run.relays:
            run.net.flush_neighbours(relay.index)
        wait_neighbours(run, v6, known=False)
        run.net.drop_neighbour_answers(False)
        wait_neighbours(run, v6, known=True)

        # Symbols that neither relay heard can come from nobody but the host.
        naks_before = total(run, "naks_sent")
        run.net.set_loss(Loss(percent=30))
        run.wait_sealed(900)
        run.vm.wait_reset()
        assert all(run.net.dropped(relay.index) for relay in run.relays)
        assert total(run, "naks_sent") > naks_before
        said = words.report(run.vm.console())
        print(f"{series} {nic} {group}: {said}")
        print(run.summary())
        assert words.dump_seconds(run.vm.console()) > LATE_S
        assert said.committed and said.relays_done == 2
        assert said.naks and said.sent_again


@pytest.mark.slow
def test_no_way_back_at_all(kernel_of, scratch):
    """Nothing that a relay says reaches the host: parity and further passes make up for it."""
    with Scenario(scratch, kernel_of("6.1"), ["virtio-net-pci"], 2, relay_count=1) as run:
        run.net.drop_replies(True)
        run.net.set_loss(Loss(percent=1))
        run.vm.crash()
        run.wait_sealed()
        run.vm.wait_reset()
        assert all(run.net.dropped(relay.index) for relay in run.relays)
        said = words.report(run.vm.console())
        print(f"{said}\n{run.summary()}")
        assert not said.committed and said.ours["net0"] == 0
