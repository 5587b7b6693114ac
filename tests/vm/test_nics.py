# SPDX-License-Identifier: Apache-2.0
"""The cards that a dump leaves by, and the states that a panic finds them in."""

from __future__ import annotations

import itertools
import json
import pathlib
import sys
import time

import pytest

from test_cut import wait_part
from vmtest import build, judge, kernels, util, words
from vmtest.scenario import GROUP, GROUP6, Scenario, arm_toml
from vmtest.util import wait_until

# QEMU's models; rtl8139 is what many an old guest was given. A number behind virtio-net is of queues.
CARDS = ("virtio-net-pci", "virtio-net-pci:4", "e1000", "e1000e", "vmxnet3", "rtl8139")
DEFAULT = (("6.12", "virtio-net-pci:4"), ("6.1", "vmxnet3"), ("6.1", "e1000"), ("6.12", "rtl8139"))
JOIN = '", "'  # of destinations in arm.toml

IP = "/sbin/ip"  # by its path: busybox's shell takes its own, poor one for `ip`
TOOLS = {"/sbin/ethtool": pathlib.Path("/usr/sbin/ethtool"), IP: pathlib.Path("/usr/sbin/ip")}


def cells(rows, default) -> list:
    """Every kernel with every row; those not in default only with --all."""
    return [pytest.param(series, *row, marks=() if (series, *row) in default else pytest.mark.slow)
            for series, row in itertools.product(kernels.SERIES, rows)]


def check(run: Scenario, record) -> words.Report:
    """Sealed complete on every relay, committed, and the machine gone back to its policy."""
    for dump in run.wait_sealed():
        assert dump["blocks_held"] == dump["blocks_expected"] != "0", dump
    run.vm.wait_reset()
    said = words.report(run.vm.console())
    print(f"{said}\n{run.summary()}")
    assert said.silent or (said.committed and said.relays_done == said.relays == run.relay_count)
    record("cell", "no replies read" if said.silent else f"{sum(said.ours.values())} replies")
    return said


@pytest.mark.matrix("Network cards")
@pytest.mark.parametrize("series,nic", cells([(card,) for card in CARDS], DEFAULT))
def test_card(series, nic, kernel_of, scratch, record_property):
    model, _, queues = nic.partition(":")
    with Scenario(scratch, kernel_of(series), [model], 2, relay_count=2,
                  queues=int(queues or 1), guest_binaries=TOOLS) as run:
        if queues:
            # The driver starts with as many as there are processors.
            run.vm.sh(f"ethtool -L net0 combined {queues}", check=True)
            assert len(run.vm.sh("ls -d /sys/class/net/net0/queues/tx-*")[1].split()) == int(queues)
            run.wait_armed()
        run.crash()
        said = check(run, record_property)
        assert said.silent or said.ours["net0"], "no reply was read"
        judge.dump_equals_memory(run)


# What is stacked on net0 (and net1) before the host is armed, and the device that its path names.
ADDRESS = "10.68.0.2/24"
BOND = ("modprobe bonding max_bonds=0; ip link add bond0 type bond mode {mode} miimon 100 {more}; "
        "for port in net0 net1; do ip link set $port down; ip addr flush dev $port; "
        "ip link set $port master bond0; done; ip link set bond0 up; ")
BRIDGE = ("ip link add br0 type bridge; ip link add tap0 type veth peer name tap1; "
          "for port in {ports} tap0; do ip addr flush dev $port; ip link set $port master br0; "
          "ip link set $port up; done; ip link set br0 up; ")
STACKS = {
    "vlan": ("net0.7", "ip addr flush dev net0; ip link add link net0 name net0.7 type vlan id 7"),
    "macvlan": ("macvlan0", "ip addr flush dev net0; "
                            "ip link add link net0 name macvlan0 type macvlan mode bridge"),
    "bridge": ("br0", BRIDGE.format(ports="net0")),
    "bridge of two cards": ("br0", BRIDGE.format(ports="net0 net1")),
    "active-backup": ("bond0", BOND.format(mode="active-backup", more="primary net0")),
    "active-backup, own MACs": ("bond0", BOND.format(mode="active-backup",
                                                     more="primary net0 fail_over_mac active")),
    "LACP": ("bond0", BOND.format(mode="802.3ad", more="lacp_rate fast")),
    "LACP without a partner": ("bond0", BOND.format(mode="802.3ad", more="lacp_rate fast")),
    "vlan on bond": ("bond0.7", BOND.format(mode="active-backup", more="") +
                     "ip link add link bond0 name bond0.7 type vlan id 7"),
    "bridge on bond": ("br0", BOND.format(mode="active-backup", more="") +
                       BRIDGE.format(ports="bond0")),
    "macvlan on bond": ("macvlan0", BOND.format(mode="active-backup", more="") +
                        "ip link add link bond0 name macvlan0 type macvlan mode bridge"),
}
STACK_MODULES = ("bonding", "bridge", "macvlan", "8021q", "veth")
TWO = {name for name, (_, how) in STACKS.items() if "net1" in how}


def stacked(folder, kernel, nic: str, stack: str, **more) -> Scenario:
    """A guest with the stack's cards; stack_up() builds and arms it."""
    nics = [nic, "e1000e" if nic != "e1000e" else "virtio-net-pci"] if stack in TWO else [nic]
    return Scenario(folder, kernel, nics, 2, relay_count=2, armed=False, guest_binaries=TOOLS,
                    guest_modules=STACK_MODULES, **more)


def status(run: Scenario) -> dict:
    return json.loads(run.vm.sh("dumpcast-arm status -o json", check=True)[1])


def path_card(run: Scenario) -> str:
    """The card that the path leaves by, as the host says."""
    return status(run)["paths"][0]["card"]


def wait_card(run: Scenario, wanted: str) -> None:
    wait_until(lambda: path_card(run) == wanted, 60,
               lambda: f"the path to leave by {wanted}: {status(run)}\n{run.words()}", 0.5)


def wait_relays(run: Scenario, count: int = 2) -> None:
    wait_until(lambda: len(status(run)["relays"]) == count, 60,
               lambda: f"{count} relays: {status(run)}\n{run.words()}", 0.5)


def stack_up(run: Scenario, stack: str) -> str:
    """Builds the stack, here and in the guest, and arms the host with it; the named device."""
    device, how = STACKS[stack]
    if stack in TWO and stack != "bridge of two cards":
        run.net.join_cards(lacp=stack == "LACP")
    if device.endswith(".7"):
        run.net.tag_cards(7)
    run.vm.sh(f"{how.rstrip('; ')}; ip link set {device} up; ip addr add {ADDRESS} dev {device}", check=True)
    toml = arm_toml(1, 31).replace("net0", device)
    # A bond finds its ports' links, and LACP its partner, a while later.
    run.vm.sh(f"for dev in net0 {'net1' if stack in TWO else ''} {device}; do for i in $(seq 100); do "
              "[ $(cat /sys/class/net/$dev/carrier) = 1 ] && break; sleep 0.2; done; done; "
              f"printf '%s' '{toml}' >/etc/dumpcast/arm.toml; dumpcast-arm arm",
              120, check=True)
    run.wait_armed()
    wait_relays(run)
    return device


STACK_DEFAULT = (("6.12", "virtio-net-pci", "active-backup"), ("6.1", "e1000e", "vlan"),
                 ("6.1", "virtio-net-pci", "LACP"), ("6.12", "virtio-net-pci", "bridge"))
STACK_CELLS = [("virtio-net-pci", stack) for stack in STACKS] + \
    [("e1000e", stack) for stack in ("vlan", "macvlan", "bridge", "active-backup", "LACP")] + \
    [("vmxnet3", stack) for stack in ("vlan", "active-backup")]


@pytest.mark.matrix("Stacked devices")
@pytest.mark.parametrize("series,nic,stack", cells(STACK_CELLS, STACK_DEFAULT))
def test_stack(series, nic, stack, kernel_of, scratch, record_property):
    with stacked(scratch, kernel_of(series), nic, stack) as run:
        device = stack_up(run, stack)
        said = run.vm.sh("dumpcast-arm check")[1]
        assert "PROBLEM" not in said, said
        card = path_card(run)
        assert card in ("net0", "net1"), status(run)
        run.vm.crash()
        said = check(run, record_property)
        assert said.silent or said.ours[device], "no reply was read"
        assert f"path {device}: by {card}" in run.summary()


@pytest.mark.matrix("Stacked devices")
@pytest.mark.parametrize("series,nic", cells([("virtio-net-pci",)], ()))
def test_failover_while_armed(series, nic, kernel_of, scratch, record_property):
    """The active port loses its link: the path goes by the other one, and back."""
    with stacked(scratch, kernel_of(series), nic, "active-backup") as run:
        device = stack_up(run, "active-backup")
        wait_card(run, "net0")
        run.vm.set_link(0, up=False)
        wait_card(run, "net1")
        run.vm.set_link(0, up=True)
        wait_card(run, "net0")
        run.vm.set_link(0, up=False)
        wait_card(run, "net1")
        assert f"{device} leaves by net1" in run.vm.console()
        assert f"{device} by net1" in run.vm.sh("dumpcast-arm status", check=True)[1]
        run.vm.crash()
        said = check(run, record_property)
        assert (said.silent or said.ours[device]) and f"path {device}: by net1" in run.summary()


@pytest.mark.matrix("Stacked devices")
@pytest.mark.parametrize("series,nic", cells([("virtio-net-pci",), ("e1000e",)], ()))
def test_failover_during_the_dump(series, nic, kernel_of, scratch, record_property):
    """Nobody runs the bond any more: the sender sees the link go, and takes the other port."""
    with stacked(scratch, kernel_of(series), nic, "active-backup", rate_mib_s=4) as run:
        device = stack_up(run, "active-backup")
        run.vm.crash()
        wait_part(run, 0.2)
        run.vm.set_link(0, up=False)
        said = check(run, record_property)
        assert said.silent or said.ours[device]
        assert f"path {device}: net0 has no link, on by net1" in run.summary()


@pytest.mark.matrix("Stacked devices")
@pytest.mark.parametrize("series,nic", cells([("virtio-net-pci",)], ()))
def test_bridge_port_that_changes_while_armed(series, nic, kernel_of, scratch, record_property):
    """The relays move from behind one port of the bridge to behind the other."""
    with stacked(scratch, kernel_of(series), nic, "bridge of two cards") as run:
        # Only one network has them: else either port would do.
        for relay in run.relays:
            util.run(["ip", "-n", run.net.relay_ns(relay.index), "link", "set", "leg1", "down"])
        device = stack_up(run, "bridge of two cards")
        wait_card(run, "net0")
        run.net.move_card(0, 1)
        run.net.move_card(1, 0)
        wait_card(run, "net1")
        run.vm.crash()
        said = check(run, record_property)
        assert (said.silent or said.ours[device]) and f"path {device}: by net1" in run.summary()


NETWORKS = [(nic, how, v6) for nic in ("virtio-net-pci", "e1000e", "vmxnet3")
            for how, v6 in (("multicast", "IPv4"), ("multicast", "IPv6"),
                            ("unicast", "IPv4"), ("unicast", "IPv6"))]


@pytest.mark.matrix("Network cards")
@pytest.mark.parametrize("series,nic,how,family", cells(
    NETWORKS, (("6.1", "virtio-net-pci", "unicast", "IPv6"),)))
def test_jumbo_frames(series, nic, how, family, kernel_of, scratch, record_property):
    """An MTU of 9000 from end to end."""
    v6 = family == "IPv6"
    with Scenario(scratch, kernel_of(series), [nic], 2, relay_count=2, mtu=9000, armed=False,
                  relay_flags=[] if how == "multicast" else ["--group", "none", "--group6", "none"],
                  ) as run:
        where = [run.net.relay_address(relay.index, v6=v6) for relay in run.relays] \
            if how == "unicast" else [GROUP6 if v6 else GROUP]
        run.vm.sh(f"printf '%s' '{arm_toml(1, 31, group=JOIN.join(where))}' "
                  ">/etc/dumpcast/arm.toml; dumpcast-arm arm", 120, check=True)
        run.wait_armed()
        wait_relays(run)
        assert status(run)["symbol_bytes"] > 8000
        run.crash()
        said = check(run, record_property)
        assert said.silent or said.ours["net0"], "no reply was read"


@pytest.mark.matrix("Network cards")
@pytest.mark.parametrize("series,nic", cells([("virtio-net-pci",)], ()))
def test_next_hop_that_changes_its_MAC(series, nic, kernel_of, scratch, record_property):
    """A relay's address moves to another card while the host is armed: unicast follows it."""
    with Scenario(scratch, kernel_of(series), [nic], 2, relay_count=2, armed=False,
                  relay_flags=["--group", "none", "--group6", "none"]) as run:
        relays = [run.net.relay_address(relay.index) for relay in run.relays]
        run.vm.sh(f"printf '%s' '{arm_toml(1, 31, group=JOIN.join(relays))}' "
                  ">/etc/dumpcast/arm.toml; dumpcast-arm arm", 120, check=True)
        run.wait_armed()
        wait_relays(run)
        run.net.change_mac(0)
        wait_until(lambda: "02:dc:00:00:00:aa" in run.vm.sh("cat /proc/net/arp")[1], 60,
                   lambda: "the guest to learn the new MAC", 0.5)
        time.sleep(6)  # the heartbeat looks at next hops every 5 s
        run.vm.crash()
        said = check(run, record_property)
        assert said.silent or said.ours["net0"], "no reply was read"


IOMMU = ("-device", "intel-iommu,intremap=off")
# A card's model, and what makes it go through the IOMMU.
TRANSLATED = {"virtio-net-pci": "virtio-net-pci,disable-legacy=on,iommu_platform=on",
              "e1000e": "e1000e"}
HOLD_IOVA = "strict, its lock held for ever"


@pytest.mark.matrix("Network cards")
@pytest.mark.parametrize("series,nic,iommu", cells(
    [(nic, how) for how in ("strict", "lazy", HOLD_IOVA) for nic in TRANSLATED],
    (("6.1", "e1000e", "strict"),)))
def test_iommu(series, nic, iommu, kernel_of, scratch, record_property):
    """Every packet has to be mapped for the card; the sender's are before anything happens."""
    kernel = kernel_of(series)
    strict = iommu.startswith("strict")
    with Scenario(scratch, kernel, [TRANSLATED[nic]], 2, relay_count=2, devices=IOMMU,
                  guest_kmods=[build.crasher(kernel)],
                  cmdline=f"intel_iommu=on iommu.passthrough=0 iommu.strict={int(strict)}") as run:
        device = run.vm.sh("d=$(readlink -f /sys/class/net/net0/device); "
                           "[ -e $d/iommu_group ] || d=${d%/*}; echo $d", check=True)[1].strip()
        kind = run.vm.sh(f"cat {device}/iommu_group/type", check=True)[1].strip()
        assert kind == ("DMA" if strict else "DMA-FQ"), kind
        if iommu == HOLD_IOVA:
            run.vm.sh("modprobe crasher dev=net0 die=panic hold=iommu", check=True)
            run.vm.shell.send("echo 1 >/sys/module/crasher/parameters/go")
            run.vm.wait_console("crasher: asked for")
            run.wait_sealed()
            run.vm.wait_reset()
            said = words.report(run.vm.console())
            print(f"{said}\n{run.summary()}")
            # A driver that receives maps buffers, and would wait for that lock.
            assert not said.ours["net0"] and not said.committed
            record_property("cell", "no replies read")
            return
        run.crash()
        said = check(run, record_property)
        assert said.silent or said.ours["net0"], "no reply was read"


# What the card's guest does before it panics.
XDP_PASS = """
__attribute__((section("xdp"), used)) int pass(void *ctx) { return 2; /* XDP_PASS */ }
char _license[] __attribute__((section("license"), used)) = "GPL";
"""
STATES = {
    "GRO on": ["ethtool -K net0 gro on"],
    "GRO off": ["ethtool -K net0 gro off"],
    "RPS and RFS": ["echo 3 >/sys/class/net/net0/queues/rx-0/rps_cpus",
                    "echo 4096 >/proc/sys/net/core/rps_sock_flow_entries",
                    "echo 4096 >/sys/class/net/net0/queues/rx-0/rps_flow_cnt"],
    "XDP generic": [f"{IP} link set dev net0 xdpgeneric obj /pass.o sec xdp"],
    "XDP native": [f"{IP} link set dev net0 xdpdrv obj /pass.o sec xdp"],
}
NATIVE_XDP = ("virtio-net-pci",)  # virtio needs two queues for it
STATE_CELLS = [(nic, state) for state in STATES for nic in ("virtio-net-pci", "e1000e", "vmxnet3")
               if state != "XDP native" or nic in NATIVE_XDP]


def xdp_program(folder: pathlib.Path) -> pathlib.Path:
    (folder / "pass.c").write_text(XDP_PASS, encoding="ascii")
    util.run(["clang-14", "-O2", "-target", "bpf", "-c", folder / "pass.c", "-o", folder / "pass.o"])
    return folder / "pass.o"


@pytest.mark.matrix("Network cards")
@pytest.mark.parametrize("series,nic,state", cells(
    STATE_CELLS, (("6.12", "virtio-net-pci", "XDP native"), ("6.1", "e1000e", "RPS and RFS"))))
def test_state(series, nic, state, kernel_of, scratch, record_property):
    files = {"/pass.o": xdp_program(scratch)} if "XDP" in state else {}
    with Scenario(scratch, kernel_of(series), [nic], 2, relay_count=2, guest_binaries=TOOLS,
                  guest_files=files, queues=4 if state == "XDP native" else 1) as run:
        for command in STATES[state]:
            run.vm.sh(command, check=True)
        assert ("xdp" in run.vm.sh(f"{IP} link show dev net0", check=True)[1]) == ("XDP" in state)
        run.wait_armed()
        wait_relays(run)
        run.crash()
        said = check(run, record_property)
        assert said.silent or said.ours["net0"], "no reply was read"


@pytest.mark.matrix("Network cards")
@pytest.mark.parametrize("series,nic,state", cells(
    [(nic, "traffic both ways") for nic in ("virtio-net-pci", "e1000e", "vmxnet3", "rtl8139")],
    (("6.1", "e1000e", "traffic both ways"),)))
def test_traffic(series, nic, state, kernel_of, scratch, record_property):
    """Strangers' packets fill both rings when the host panics, and keep coming for 20 s."""
    flood = ("import socket,time,sys;s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);"
             "e=time.monotonic()+20\n"
             "while time.monotonic()<e:\n for _ in range(20): s.sendto(bytes(1400),(sys.argv[1],9))\n"
             " time.sleep(.002)")
    with Scenario(scratch, kernel_of(series), [nic], 2, relay_count=2) as run:
        there, here = run.net.relay_address(0), run.net.guest_address(0)
        run.vm.sh("for i in 1 2; do (timeout 60 sh -c 'while :; do head -c 64000 /dev/zero | "
                  f"nc -u -w 1 {there} 9; done' >/dev/null 2>&1 &); done")
        stranger = run.net.spawn_in(run.net.relay_ns(1), [sys.executable, "-c", flood, here])
        try:
            time.sleep(1)
            run.crash()
            sealed = run.wait_sealed()
            run.vm.wait_reset()
        finally:
            util.stop(stranger)
        console = run.vm.console()
        if "a processor was stopped while it received" not in console:
            assert check(run, record_property).ours["net0"], "no reply was read"
            return
        # Its driver is asked again last of all (decision 12), and then faults, or finds no frame any more
        # in a ring whose index was not moved, or goes on.
        faulted = "a second fault ends the dump" in console
        assert not faulted or ": all sent," in console, console
        for dump in sealed:
            assert dump["blocks_held"] == dump["blocks_expected"] != "0", dump
        replies = 0 if faulted else run.report().ours["net0"]
        record_property("cell", f"{replies} replies" if replies else "no replies read")
