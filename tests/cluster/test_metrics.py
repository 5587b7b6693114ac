# SPDX-License-Identifier: Apache-2.0
"""What Prometheus reads of a relay: http://RELAY:26212/metrics."""

from __future__ import annotations

import re
import sys

import pytest
from vmtest.net import Loss
from vmtest.util import run, wait_until

SAMPLE = re.compile(r'^dumpcast_relay_(\w+?)(?:\{\w+="([^"]*)"\})? (\S+)$', re.M)
READ = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"


def scrape(c, relay: int) -> dict[tuple[str, str], float]:
    """Values by (series, label)."""
    text = c.net.run_in(c.net.client_ns, [sys.executable, "-c", READ,
                                          f"http://{c.net.relay_address(relay)}:26212/metrics"]).stdout
    return {(name, label): float(value) for name, label, value in SAMPLE.findall(text)}


def total(seen: dict[tuple[str, str], float], series: str) -> float:
    return sum(value for (name, _), value in seen.items() if name == series)


def test_sums_close_and_are_those_of_the_log(cluster, image):
    with cluster(relays=2) as c:
        c.net.set_loss(Loss(percent=5))
        assert c.send(image).wait() == 0, c.words()
        c.wait_state()
        for relay in range(2):
            seen, logged = scrape(c, relay), c.counters(relay)
            assert seen["symbols_total", "stored"] == logged["symbols_stored"] > 0
            assert total(seen, "symbols_total") == seen["datagrams_total", "symbols"] + seen["symbols_peer_total", ""]
            assert total(seen, "stored_symbols_total") + seen["waiting_symbols", ""] == seen["symbols_total", "stored"]
            # Heartbeats may have come between the two.
            assert logged["symbols"] <= total(seen, "datagrams_total") <= logged["received"]
            assert seen["dumps", "complete"] == 1
            assert seen["store_accepting", ""] == 1


def test_a_full_disk_is_seen(cluster, scratch):
    store = scratch / "cluster0" / "relays" / "relay-0"
    store.mkdir(parents=True)
    run(["mount", "-t", "tmpfs", "-o", "size=64m", "dumpcast-test", store])
    try:
        with cluster(relays=1, flags=["--min-free", "20MiB"]) as c:
            assert scrape(c, 0)["store_accepting", ""] == 1
            (store / "eaten").write_bytes(bytes(50 << 20))
            wait_until(lambda: "health: not serving" in c.relays[0].log(), 60, lambda: c.words())
            assert scrape(c, 0)["store_accepting", ""] == 0
            (store / "eaten").unlink()
            wait_until(lambda: "health: serving again" in c.relays[0].log(), 60, lambda: c.words())
    finally:
        run(["umount", "--lazy", store])


@pytest.mark.parametrize("address", ["none", "0.0.0.0:7000"])
def test_the_address_can_be_another_or_none(cluster, address):
    with cluster(relays=1, flags=["--metrics", address]) as c:
        listening = c.net.run_in(c.net.relay_ns(0), ["ss", "-Hltn"]).stdout
        assert ":26212 " not in listening
        assert (":7000 " in listening) == (address != "none")
