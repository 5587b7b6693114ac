# SPDX-License-Identifier: Apache-2.0
"""What the conftest.py of the VM tests and of the cluster tests have in common: --all, shards, and root."""

from __future__ import annotations

import os

import pytest

from . import matrix, util


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", default=bool(os.environ.get("DUMPCAST_TEST_ALL")),
                     help="run every cell of the matrices, not only the default ones")
    parser.addoption("--shard", default="1/1", metavar="I/N", help="every N-th matrix cell and other test, from the I-th")
    parser.addoption("--resume", action="store_true",
                     help="leave out matrix cells that have passed at this revision")
    parser.addoption("--table", metavar="FILE", help="write the matrices' tables, in Markdown")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: only with --all")
    config.addinivalue_line("markers", "matrix(title): a cell of a matrix, see vmtest/matrix.py")
    config.pluginmanager.register(matrix.Plugin(config))
    # A stopped run must unwind, or its namespaces, mounts and VMs would wait for the next sweep.
    util.exit_on_signals(lambda status: pytest.exit.Exception("terminated", status))


def pytest_collection_modifyitems(config, items):
    if os.geteuid() != 0:
        raise pytest.UsageError("these tests make network namespaces, bridges and taps: run as root")
    if not config.getoption("--all"):
        skip = pytest.mark.skip(reason="only with --all")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)
