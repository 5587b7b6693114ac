# SPDX-License-Identifier: Apache-2.0
"""What a kernel that asks for signatures does with the module; docs/secure-boot.md explains it."""

from __future__ import annotations

import pathlib
import shutil

import pytest

from vmtest import build
from vmtest.scenario import Scenario
from vmtest.util import run as run_tool


def signed(kernel, folder: pathlib.Path) -> pathlib.Path:
    """The module with a signature of a key that no kernel knows, as DKMS signs."""
    folder.mkdir()
    key, cert, module = folder / "mok.key", folder / "mok.pub", folder / "dumpcast.ko"
    run_tool(["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
              "-subj", "/CN=dumpcast test", "-outform", "DER", "-keyout", key, "-out", cert])
    shutil.copy(build.kmod(kernel), module)
    sign = next((kernel.headers().parent.parent / "lib").glob("linux-kbuild-*/scripts/sign-file"))
    run_tool([sign, "sha256", key, cert, module])
    assert module.read_bytes().endswith(b"~Module signature appended~\n")
    return module


@pytest.mark.slow
@pytest.mark.parametrize("series", ["6.1", "6.12"])
@pytest.mark.parametrize("how", ["module.sig_enforce=1", "lockdown=integrity"])
def test_module_without_a_trusted_signature_is_refused(series, how, kernel_of, scratch):
    """Said plainly, and nothing is left armed in part. A trusted key needs firmware and shim."""
    kernel = kernel_of(series)
    other = signed(kernel, scratch / "signed")
    with Scenario(scratch / "run", kernel, cmdline=how, armed=False, relay_count=1,
                  guest_files={"/root/signed.ko": other}) as run:
        for module in ("", "--module /root/signed.ko"):
            code, said = run.vm.sh(f"dumpcast-arm {module} arm")
            print(f"{series} {how} {module}: {code} {said}")
            assert code == 1 and ("signature" in said or "not permitted" in said.lower()
                                  or "key" in said.lower()), said
            assert run.vm.sh("dumpcast-arm status")[0] == 3
            assert run.vm.sh("test -d /sys/module/dumpcast")[0] != 0
        # What the kernel itself is signed with loads: the refusal is not for everything.
        run.vm.sh("modprobe lz4_compress", check=True)
