# SPDX-License-Identifier: Apache-2.0
"""The relay's log as JSON: every line an object, the dump's and the host's ids as fields."""

from __future__ import annotations

import json


def test_json_lines(cluster, image):
    with cluster(relays=2, flags=["--log-format", "json"]) as c:
        assert c.send(image).wait() == 0, c.words()
        c.wait_state()
        lines = [json.loads(line) for line in c.relays[0].log().splitlines()]
        assert all({"time", "level", "message"} <= line.keys() for line in lines)
        events = {line["event"]: line for line in lines if "event" in line}
        assert {"dump_begun", "class0_held", "sealed_complete"} <= events.keys()
        for name in ("dump_begun", "class0_held", "sealed_complete"):
            assert (events[name]["dump"], events[name]["host"]) == (c.dump_id, c.host_id)
            assert "dump=" not in events[name]["message"]
        assert 'host name "crashed.test"' in events["class0_held"]["message"]
