# SPDX-License-Identifier: Apache-2.0
"""Debian's kernel flavours, and the packages on a Debian host."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from vmtest import build, debian, judge, kernels, words
from vmtest.qemu import Vm
from vmtest.scenario import Scenario, arm_toml
from vmtest.util import REPO, run as run_tool

# e1000e is absent from the cloud flavour: all have virtio-net.
NIC = "virtio-net-pci"


@pytest.mark.matrix("Kernel flavours")
@pytest.mark.parametrize("series", [
    pytest.param(name, marks=() if name == "6.12-rt" else pytest.mark.slow)
    for name in kernels.ALL])
def test_crash_and_test_dump(series, kernel_of, scratch, record_property):
    """Loads, arms, sends a test dump and a whole one; the way back works, the console tells."""
    with Scenario(scratch, kernel_of(series), [NIC], 2, relay_count=2) as run:
        assert "committed by 2 relays" in run.vm.sh("dumpcast-arm test", timeout_s=120,
                                                    check=True)[1]
        before = run.vm.console()
        for word in ("BUG:", "WARNING:", "Call Trace"):
            assert word not in before, before[-3000:]
        run.vm.crash()
        for dump in run.wait_sealed():
            assert dump["kernel_release"] == run.kernel.release
            assert dump["blocks_held"] == dump["blocks_expected"] != "0"
        run.vm.wait_reset()
        console = run.vm.console()
        said = words.report(console)
        print(run.summary())
        # Another processor may have been in an allocator, but old words on a stack do not count.
        assert said.stacks_searched == 0
        assert said.silent or said.committed and said.relays_done == 2 and said.ours["net0"] > 0
        # What the kernel complained of while the hook ran, if anything.
        hook = console[console.index("dumpcast: sending dump"):console.index("dumpcast: dump sent")]
        for word in ("BUG:", "WARNING:", "Call Trace", "scheduling while atomic"):
            assert word not in hook, hook[:6000]
        assert "Kernel panic - not syncing: sysrq triggered crash" in run.log()
        record_property("cell", f"{said.blocks} blocks" + (", no replies read" if said.silent else ""))


@pytest.fixture(scope="module")
def packages() -> dict[str, pathlib.Path]:
    """Built by `./dev package`, which refuses lintian's errors."""
    done = run_tool([REPO / "dev", "package", "--no-deps"], timeout=1800)
    paths = [pathlib.Path(line) for line in done.stdout.splitlines()]
    return {path.name.partition("_")[0]: path for path in paths}


def test_packages_bring_what_they_say(packages):
    version = packages["dumpcast-dkms"].name.split("_")[1]
    brought = debian.contents(packages["dumpcast-dkms"])
    source = f"usr/src/dumpcast-{version}/"
    sources = [name for name in brought if not name.startswith("usr/share/doc/")]
    assert all(name.startswith(source) for name in sources), sources
    for name in ("dkms.conf", "kmod/linux/Kbuild", "kmod/core/sender.c", "protos/wire/dumpcast_wire.h"):
        assert source + name in sources
    brought = debian.contents(packages["dumpcast-arm"])
    for name in ("etc/dumpcast/arm.toml", "usr/sbin/dumpcast-arm",
                 "lib/systemd/system/dumpcast-arm.service", "usr/share/man/man8/dumpcast-arm.8.gz",
                 "usr/share/bash-completion/completions/dumpcast-arm"):
        assert name in brought
    brought = debian.contents(packages["dumpcast-kdump"])
    for name in ("usr/bin/dumpcast-send", "usr/share/man/man1/dumpcast-send.1.gz", "usr/lib/dumpcast/dumpcast-kdump",
                 "usr/lib/systemd/system/kdump-tools-dump.service.d/dumpcast.conf"):
        assert name in brought
    assert run_tool(["dpkg-deb", "-I", packages["dumpcast-arm"], "conffiles"]).stdout.split() == [
        "/etc/dumpcast/arm.toml"]


@pytest.fixture(scope="module")
def dkms_modules(packages, kernel_of):
    """Flavour -> the module that DKMS built for it, in one Debian root with everybody's headers."""
    package = packages["dumpcast-dkms"]
    version = package.name.split("_")[1]
    with debian.root(kernel_of("6.1")) as root:
        root.sh(f"dpkg -i {root.take(package)}")
        built = {}
        for series in kernels.ALL:
            kernel = kernel_of(series)
            headers = kernel.headers()
            root.copy(headers.parents[2], f"headers/{series}")
            print(root.sh(f"dkms build dumpcast/{version} -k {kernel.release} "
                          f"--kernelsourcedir /headers/{series}/usr/src/{headers.name}"))
            built[series] = root.path / root.find(
                f"var/lib/dkms/dumpcast/{version}/{kernel.release}/x86_64/module/dumpcast.ko")[0]
        yield built


@pytest.mark.slow
@pytest.mark.matrix("Kernel flavours")
@pytest.mark.parametrize("series", kernels.ALL)
def test_module_built_by_DKMS(series, dkms_modules, kernel_of, scratch, monkeypatch, record_property):
    monkeypatch.setattr(build, "kmod", lambda _kernel: dkms_modules[series])
    with Scenario(scratch, kernel_of(series), [NIC], 2, relay_count=2) as run:
        run.crash()
        run.wait_sealed()
        run.vm.wait_reset()
        said = words.report(run.vm.console())
        assert said.committed
        judge.dump_equals_memory(run)
        record_property("cell", f"{said.blocks} blocks")


@pytest.mark.slow
def test_install_upgrade_crash_and_purge(packages, kernel_of, scratch, monkeypatch):
    """By dpkg in a Debian root; the guest that crashes then runs what DKMS built there."""
    kernel = kernel_of("6.1")
    dkms, arm = packages["dumpcast-dkms"], packages["dumpcast-arm"]
    version = dkms.name.split("_")[1]
    with debian.root(kernel) as root:
        before = set(root.find("lib/modules/*/*", "etc/*", "usr/src/*", "var/lib/dkms/*"))
        # The libraries of dumpcast-arm; apt takes them from the mirror.
        said = root.sh(f"apt-get -q update && apt-get -q -y --no-install-recommends install "
                       f"{root.take(dkms)} {root.take(arm)}")
        print(said[-3000:])
        module = f"lib/modules/{kernel.release}/updates/dkms/dumpcast.ko"
        assert (root.path / module).is_file(), said
        assert f"{version}, {kernel.release}, x86_64: installed" in root.sh("dkms status dumpcast")
        assert root.sh("systemctl is-enabled dumpcast-arm").strip() == "enabled"
        unit = (root.path / "lib/systemd/system/dumpcast-arm.service").read_text(encoding="utf-8")
        assert "ConditionPathExists=/etc/dumpcast/cluster.key" in unit
        assert not root.find("etc/dumpcast/cluster.key"), "armed by nobody's wish"

        newer = debian.with_version(dkms, version, f"{version}.1", scratch)
        root.sh("echo '# mine' >>/etc/dumpcast/arm.toml")
        root.sh(f"dpkg -i {root.take(newer)} && dpkg -i {root.take(arm)}")
        status = root.sh("dkms status dumpcast")
        assert f"{version}.1, {kernel.release}" in status and f"{version}," not in status, status
        assert "# mine" in (root.path / "etc/dumpcast/arm.toml").read_text(encoding="utf-8")

        (scratch / "dumpcast.ko").write_bytes((root.path / module).read_bytes())
        (scratch / "dumpcast-arm").write_bytes((root.path / "usr/sbin/dumpcast-arm").read_bytes())
        root.sh("dpkg --purge dumpcast-arm dumpcast-dkms")
        after = set(root.find("lib/modules/*/*", "etc/*", "usr/src/*", "var/lib/dkms/*"))
        left = {name for name in after - before if "dumpcast" in name or "updates" in name}
        assert not left, left
        assert not root.find("etc/systemd/system/*/dumpcast*", "usr/src/dumpcast*", "etc/dumpcast",
                             "var/lib/systemd/deb-systemd-helper-*/*dumpcast*")

    binary = build.binary
    monkeypatch.setattr(build, "kmod", lambda _kernel: scratch / "dumpcast.ko")
    monkeypatch.setattr(build, "binary", lambda name: scratch / name
                        if name == "dumpcast-arm" else binary(name))
    with Scenario(scratch / "run", kernel, [NIC], relay_count=1) as run:
        run.vm.crash()
        run.wait_sealed()
        run.vm.wait_reset()
        assert words.report(run.vm.console()).committed


def armed_times(run: Scenario, vm: Vm) -> int:
    """How often the guest was armed; relays hear of the last time."""
    run.wait_armed()
    return vm.console().count("dumpcast: armed: ")


@pytest.mark.slow
def test_systemd_arms_upgrades_crashes_comes_back_and_purges(packages, kernel_of, scratch):
    """A whole Debian in the guest: what postinst, prerm and the unit do there."""
    kernel = kernel_of("6.1")
    dkms, arm = packages["dumpcast-dkms"], packages["dumpcast-arm"]
    version = dkms.name.split("_")[1]
    newer = {name: debian.with_version(package, version, f"{version}.1", scratch)
             for name, package in packages.items() if name in ("dumpcast-dkms", "dumpcast-arm")}
    disk = scratch / "disk"
    with Scenario(scratch / "run", kernel, [NIC], 2, memory_mib=1024, relay_count=2, armed=False,
                  cmdline="vmroot=/dev/vda", guest_modules=["virtio_blk", "ext4", "crc32c_generic"],
                  devices=("-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"),
                  before_boot=lambda run: install(run, kernel, [dkms, arm], newer, disk)) as run:
        vm = run.vm
        assert armed_times(run, vm) == 1
        assert vm.sh("systemctl is-active dumpcast-arm")[1].strip() == "active"
        assert f"{version}\n" in vm.sh("dumpcast-arm --version")[1]

        vm.sh(f"dpkg -i /root/{newer['dumpcast-arm'].name}", timeout_s=600, check=True)
        assert armed_times(run, vm) == 2
        # DKMS runs gcc in the guest: a quarter of an hour where it is emulated.
        print(vm.sh(f"dpkg -i /root/{newer['dumpcast-dkms'].name}", timeout_s=3600, check=True)[1])
        assert armed_times(run, vm) == 3
        assert f"{version}.1, {kernel.release}" in vm.sh("dkms status dumpcast")[1]

        vm.sh("sync", check=True)  # or the module that DKMS has just installed is lost
        vm.crash()
        run.wait_sealed()
        vm.wait_reset()
        assert words.report(vm.console()).committed
        vm.close()
        with dataclasses.replace(vm, workdir=scratch / "run" / "again") as again:
            assert armed_times(run, again) == 1
            said = again.sh("dpkg --purge dumpcast-arm dumpcast-dkms", timeout_s=600, check=True)[1]
            print(said)
            left = again.sh("ls -d /sys/module/dumpcast /usr/src/dumpcast* /var/lib/dkms/dumpcast "
                            "2>/dev/null; ls /etc/dumpcast; systemctl is-active dumpcast-arm; "
                            "find /lib/modules -name 'dumpcast*'")[1]
            assert left.split() == ["cluster.key", "inactive"], left


def install(run: Scenario, kernel, debs, newer, disk) -> None:
    """Both packages in a Debian root, as a disk; the key and the card are the scenario's."""
    with debian.root(kernel) as root:
        root.sh("apt-get -q update && apt-get -q -y --no-install-recommends install " +
                " ".join(root.take(deb) for deb in debs))
        for deb in newer.values():
            root.take(deb)
        key = root.path / "etc/dumpcast/cluster.key"
        key.write_bytes(run.relays.key.read_bytes())
        key.chmod(0o600)
        (root.path / "etc/dumpcast/arm.toml").write_text(arm_toml(1, 31), encoding="utf-8")
        root.disk(disk)
