# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the cluster tests. `--all` (or DUMPCAST_TEST_ALL=1) adds the long ones."""

from __future__ import annotations

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
# Networks, relays and processes are those of the VM tests.
sys.path[:0] = [str(HERE), str(HERE.parent / "vm")]

from clusterlib import Cluster, Image  # noqa: E402  (the path above comes first)
from vmtest import util  # noqa: E402

pytest_plugins = ["vmtest.plugin"]


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """The memory of the crashed host that all tests send."""
    folder = tmp_path_factory.mktemp("image")
    yield Image(folder / "vmcore")
    (folder / "vmcore").unlink()


@pytest.fixture
def scratch():
    """A folder of this test's own, removed at its end: vmcores are too big to keep."""
    with util.scratch_dir("dumpcast-cluster-") as folder:
        yield folder


@pytest.fixture
def cluster(scratch):
    """Makes clusters: `with cluster(relays=3) as c:`. Folders are numbered within scratch."""
    made = []

    def make(**options):
        made.append(scratch / f"cluster{len(made)}")
        return Cluster(made[-1], **options)

    return make
