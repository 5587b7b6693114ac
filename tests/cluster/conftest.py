# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the cluster tests. `--all` (or DUMPCAST_TEST_ALL=1) adds the long ones."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
# Networks, relays and processes are those of the VM tests.
sys.path[:0] = [str(HERE), str(HERE.parent / "vm")]

from clusterlib import Cluster, Image  # noqa: E402  (the path above comes first)
from vmtest import util  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", default=bool(os.environ.get("DUMPCAST_TEST_ALL")),
                     help="run every cell of the matrices, not only the default ones")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: only with --all")
    # A stopped run must unwind, or its namespaces and mounts would wait for the next sweep.
    util.exit_on_signals()


def pytest_collection_modifyitems(config, items):
    if os.geteuid() != 0:
        raise pytest.UsageError("the cluster tests make network namespaces and bridges: run as root")
    if not config.getoption("--all"):
        skip = pytest.mark.skip(reason="only with --all")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


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
