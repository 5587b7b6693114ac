# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the VM tests. `--all` (or DUMPCAST_TEST_ALL=1) adds the long ones."""

from __future__ import annotations

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from vmtest import kernels, util  # noqa: E402  (the path above comes first)

pytest_plugins = ["vmtest.plugin"]


@pytest.fixture(scope="session")
def kernel_of():
    """Series -> Kernel, looked up once, so that a run sees one release throughout."""
    found: dict[str, kernels.Kernel] = {}

    def find(series: str) -> kernels.Kernel:
        if series not in found:
            found[series] = kernels.find(series)
        return found[series]

    return find


@pytest.fixture(scope="session")
def vmlinux_of(request):
    """Kernel -> its vmlinux with debug info. --all fetches it (1 GB); else a test without is skipped."""

    def find(kernel: kernels.Kernel) -> pathlib.Path:
        path = kernel.vmlinux(fetch=request.config.getoption("--all"))
        if path is None:
            pytest.skip(f"crash and drgn need the debug package of {kernel.release} (1 GB): --all, or "
                        f"python3 -m vmtest.kernels --debug {kernel.release}, fetches it")
        return path

    return find


@pytest.fixture(scope="session")
def snapshots(request):
    """For Vm.snapshots: with --all many cells begin with the same machine."""
    return util.cache_dir() / "snapshots" if request.config.getoption("--all") else None


@pytest.fixture
def scratch():
    """A folder of this test's own, removed at its end: memory images are too big to keep."""
    with util.scratch_dir() as folder:
        yield folder
