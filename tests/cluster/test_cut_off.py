# SPDX-License-Identifier: Apache-2.0
"""The host dies half way through its dump."""

from __future__ import annotations

LOG = "".join(f"[ {n:4}.000000] line {n} of the kernel's log\n" for n in range(300)) + \
    "[  301.000000] Kernel panic - not syncing: sysrq triggered crash\n"


def test_host_killed_half_way(cluster, image, scratch):
    log = scratch / "dmesg"
    log.write_text(LOG, encoding="ascii")
    with cluster(relays=2, flags=["--silent-after", "3s", "--seal-after", "2s"]) as c:
        sender = c.send(image, "--rate", 3, "--log-file", log)
        c.wait_held(0, 250)
        sender.kill()
        dumps = c.wait_state("DUMP_STATE_INCOMPLETE")
        for relay, dump in enumerate(dumps):
            held, expected = int(dump["blocks_held"]), int(dump["blocks_expected"])
            assert 250 <= held < expected
            assert f"{expected - held} of {expected} blocks are missing" in \
                dump["incomplete_reason"], dump["incomplete_reason"]
            client = c.client(relay)
            assert client.run("log", c.dump_id).stdout == LOG
            shown = client.run("show", c.dump_id).stdout
            assert "incomplete" in shown and f"{expected - held}" in shown, shown
            assert client.run("show", c.dump_id, "--require-complete", check=False).returncode == 4
        for form in ("elf", "kdump"):
            views = [c.fetch(relay, form) for relay in range(2)]
            # The peers have shared what each had: the same half on both.
            assert views[0].read_bytes() == views[1].read_bytes()
            assert image.differences(views[0], partial=True) == []
            assert image.differences(views[0]) != []

        # A second sender, as in a kdump kernel, brings the rest.
        assert c.send(image, "--log-file", log).wait() == 0, c.words()
        c.wait_state()
        c.check_views(image)
