# SPDX-License-Identifier: Apache-2.0
"""One of the host's two paths dies."""

from __future__ import annotations

import pytest
from vmtest.net import Loss

# (path, blocks that relay 0 holds when it is cut, what the host's card sees, mode)
DEFAULT = [(0, 150, "carrier", "mirror"), (1, 150, "unseen", "stripe")]
CUTS = [(path, held, how, mode) for path in (0, 1) for held in (0, 1, 150, 400, 600)
        for how in ("carrier", "unseen") for mode in ("mirror", "stripe")]


def cut(c, path: int, how: str) -> None:
    if how == "carrier":
        c.net.set_host_link(path, False)
    else:
        c.net.swallow(path, True)


@pytest.mark.parametrize("path, held, how, mode", [
    pytest.param(*cell, id="path{}-at{}-{}-{}".format(*cell),
                 marks=[] if cell in DEFAULT else pytest.mark.slow) for cell in CUTS])
def test_path_cut(cluster, image, path, held, how, mode):
    with cluster(relays=2) as c:
        c.net.set_loss(Loss(percent=1))
        if held == 0:
            cut(c, path, how)
        sender = c.send(image, "--rate", 6 if mode == "mirror" else 3, "--mode", mode)
        if held:
            c.wait_held(0, held)
            cut(c, path, how)
        assert sender.wait() == 0, c.words()
        dumps = c.wait_state()
        assert {int(d["blocks_held"]) for d in dumps} == {int(dumps[0]["blocks_expected"])}
        c.check_views(image)


def test_paths_take_turns_in_dying(cluster, image):
    with cluster(relays=2) as c:
        sender = c.send(image, "--rate", 4)
        c.wait_held(0, 100)
        c.net.set_host_link(0, False)
        c.wait_held(0, 250)
        c.net.set_host_link(0, True)
        c.net.set_host_link(1, False)
        assert sender.wait() == 0, c.words()
        c.wait_state()
        c.check_views(image)
