# SPDX-License-Identifier: Apache-2.0
"""dumpcast-arm on a living host: status, test dumps, refusals, and leaving without a trace."""

from __future__ import annotations

import json

import pytest

from vmtest import words
from vmtest.scenario import GROUP, HOST_KEY_PATH, Scenario, arm_toml
from vmtest.util import wait_until
from vmtest.vmcore import open_vmcore

CARDS = ["virtio-net-pci", "e1000e"]
TROUBLE = ("BUG:", "WARNING:", "Oops", "Call Trace", "refcount", "use-after-free")


@pytest.fixture(scope="module", params=["6.1", pytest.param("6.12", marks=pytest.mark.slow)])
def armed(request, kernel_of, tmp_path_factory):
    """One guest for all of these tests: each leaves it armed."""
    folder = tmp_path_factory.mktemp("arm")
    with Scenario(folder, kernel_of(request.param), CARDS, 2, relay_count=2) as run:
        yield run
        said = run.vm.console().split("sysrq: Trigger a crash")[0]
        for word in TROUBLE:
            assert word not in said, said[-6000:]


def status(run: Scenario) -> dict:
    return json.loads(run.vm.sh("dumpcast-arm status -o json", check=True)[1])


def host_state(run: Scenario, relay: int) -> str:
    hosts = run.relays.client(relay).hosts()
    assert len(hosts) == 1
    return hosts[0]["state"]


def wait_host(run: Scenario, state: str) -> None:
    for relay in run.relays:
        wait_until(lambda index=relay.index: host_state(run, index) == state, 60,
                   lambda: f"the host to be {state}\n{run.words()}", 0.2)


def arm_with(run: Scenario, toml: str, *flags: str) -> tuple[int, str]:
    """`dumpcast-arm arm` with another file than the guest's own."""
    quoted = toml.replace("'", "'\\''")
    return run.vm.sh(f"printf '%s' '{quoted}' >/tmp/arm.toml; "
                     f"dumpcast-arm arm --config /tmp/arm.toml {' '.join(flags)}")


def test_relays_that_answer_are_listed_by_path(armed):
    def answered():
        now = status(armed)
        ages = {relay["name"]: relay["answered_ms_ago"] for relay in now["relays"]}
        return now if set(ages) == {"relay-0", "relay-1"} and all(
            set(age) == {"net0", "net1"} for age in ages.values()) else None
    now = wait_until(answered, 60, lambda: f"HELLOs on both paths:\n{status(armed)}", 0.5)
    assert now["state"] == "armed" and now["bad_mac"] == 0
    assert [(path["name"], path["up"], path["error"]) for path in now["paths"]] == [
        ("net0", True, ""), ("net1", True, "")]
    text = armed.vm.sh("dumpcast-arm status", check=True)[1]
    print(text)
    for word in ("armed: the next dump is " + now["dump_id"], "relay-0", "relay-1",
                 "ANSWERED ON net0", "ANSWERED ON net1", GROUP):
        assert word in text, text
    for relay in armed.relays:
        host = armed.relays.client(relay.index).hosts()[0]
        assert int(host["paths_heard"]) == int(host["paths"]) == 2


def test_test_dump_arrives_and_the_host_goes_on(armed):
    before = status(armed)["dump_id"]
    said = armed.vm.sh("dumpcast-arm test", timeout_s=120, check=True)[1]
    print(said)
    assert "committed by 2 relays" in said
    after = status(armed)
    assert after["test"]["ok"] and after["test"]["relays"] == 2
    assert after["dump_id"] != before, "the next dump must have an id of its own"
    for relay in armed.relays:
        client = armed.relays.client(relay.index)
        dump, = [dump for dump in client.dumps() if dump["dump_id"] == before]
        assert dump["test"] and dump["live"] and dump["state"] == "DUMP_STATE_COMPLETE"
        row, = [line for line in client.run("ls").stdout.splitlines() if line.startswith(before[:8])]
        assert "(test)" in row.split() and "complete" in row.split()
        core = armed.folder / "test.elf"
        client.run("get", before, "--output-file", core, "--force", "--require-complete")
        assert f"OSRELEASE={armed.kernel.release}\n" in open_vmcore(core).vmcoreinfo
        assert "Linux version" in client.run("log", before).stdout
    wait_host(armed, "HOST_STATE_ARMED")
    assert "Kernel panic" not in armed.vm.console()
    assert not words.began(armed.vm.console())
    # Once more: a test is no exception.
    assert "committed by 2 relays" in armed.vm.sh("dumpcast-arm test", timeout_s=120, check=True)[1]


def test_wrong_key_file_toml_or_device_is_refused_and_the_host_stays_armed(armed):
    now = status(armed)["dump_id"]
    own = arm_toml(2, 31)
    armed.vm.sh(f"cp {HOST_KEY_PATH} /tmp/key && chmod 644 /tmp/key", check=True)
    bad = {
        "key": (own.replace(HOST_KEY_PATH, "/tmp/key"), 1, "chmod 600 /tmp/key"),
        "line": (own.replace("dump_level = 31", "dump_level = 32"), 2, "arm.toml:2: dump_level wants"),
        "word": (own.replace("dump_level", "dump_lvel"), 2, "arm.toml:2: unknown key dump_lvel"),
        "toml": (own.replace("fix_kernel = true", "fix_kernel = "), 2, "arm.toml:3: "),
        "device": (own.replace('"net1"', '"net7"'), 1, "no network device net7"),
    }
    for name, (toml, code, wanted) in bad.items():
        got, said = arm_with(armed, toml)
        print(f"{name}: exit status {got}: {said.strip()}")
        assert (got, wanted in said) == (code, True), (name, got, said)
        assert status(armed)["state"] == "armed", name
    assert status(armed)["dump_id"] == now


def test_settings_that_keep_a_dump_from_happening_are_said_and_set(armed):
    oops, timeout = "/proc/sys/kernel/panic_on_oops", "/proc/sys/kernel/panic"
    post = "/sys/module/kernel/parameters/crash_kexec_post_notifiers"

    def settings() -> list[str]:
        return armed.vm.sh(f"cat {oops} {timeout} {post}", check=True)[1].split()
    assert settings() == ["1", "1", "Y"], "fix_kernel had set them when the guest was armed"
    armed.vm.sh(f"echo 0 >{oops}; echo 0 >{timeout}; echo 0 >{post}", check=True)
    toml = arm_toml(2, 31).replace("fix_kernel = true\n", "")
    got, said = arm_with(armed, toml)
    print(said)
    assert got == 0
    for word in ("PROBLEM: panic_on_oops is 0", f"echo 1 >{oops}", "warning: panic_timeout is 0",
                 f"echo 1 >{timeout}", "warning: crash_kexec_post_notifiers is off"):
        assert word in said, (word, said)
    assert settings() == ["0", "0", "N"], "nobody asked for them to be set"
    got, said = armed.vm.sh("dumpcast-arm check --config /tmp/arm.toml")
    assert got == 5 and "PROBLEM: panic_on_oops" in said
    got, said = armed.vm.sh("dumpcast-arm check --config /tmp/arm.toml --fix")
    assert got == 0 and "nothing keeps a dump from happening" in said, said
    assert settings() == ["1", "1", "Y"]
    wait_host(armed, "HOST_STATE_ARMED")


def test_card_that_is_pulled_and_comes_back(armed):
    """The module lets go of a card that leaves, and takes it again when it is back."""
    pci = armed.vm.sh("readlink -f /sys/class/net/net1/device", check=True)[1].strip()
    armed.vm.sh(f"echo 1 >{pci}/remove", timeout_s=60, check=True)
    gone = status(armed)["paths"][1]
    assert not gone["up"] and "no network device net1" in gone["error"]
    assert "committed by 2 relays" in armed.vm.sh("dumpcast-arm test", timeout_s=120, check=True)[1]
    armed.vm.sh("echo 1 >/sys/bus/pci/rescan", check=True)
    port = armed.net.port(1)
    wait_until(lambda: armed.vm.sh(f"grep -l {port.mac} /sys/class/net/*/address")[0] == 0, 60,
               "the card to be found again", 0.2)
    armed.vm.sh(f"""
        card=$(grep -l {port.mac} /sys/class/net/*/address | cut -d/ -f5)
        ip link set dev $card down; ip link set dev $card name net1
        ip link set dev net1 up && ip -4 addr add {port.v4} dev net1""", check=True)
    wait_until(lambda: status(armed)["paths"][1]["up"], 60, lambda: str(status(armed)), 0.5)
    assert "committed by 2 relays" in armed.vm.sh("dumpcast-arm test", timeout_s=120, check=True)[1]


def test_disarm_and_rmmod_leave_nothing(armed):
    armed.vm.sh("dumpcast-arm disarm", check=True)
    code, said = armed.vm.sh("dumpcast-arm status")
    assert code == 3 and "disarmed" in said
    wait_host(armed, "HOST_STATE_DISARMED")
    armed.vm.sh("rmmod dumpcast", timeout_s=60, check=True)
    left = armed.vm.sh("""
        ls -d /sys/kernel/config/dumpcast /sys/module/dumpcast 2>/dev/null
        grep dumpcast /proc/modules /proc/vmallocinfo /proc/kallsyms
        grep -i ':6662 ' /proc/net/udp /proc/net/udp6
        ps | grep '[[]dumpcast'""")[1]
    assert left == ""
    assert armed.vm.sh("dumpcast-arm status")[0] == 3
    code, said = armed.vm.sh("dumpcast-arm test")
    assert code == 3 and "not armed" in said
    armed.vm.sh("dumpcast-arm arm", timeout_s=60, check=True)
    wait_host(armed, "HOST_STATE_ARMED")


def test_crash_in_the_midst_of_a_test_dump(armed):
    """The last one: the guest is gone afterwards. Two dumps, each by itself."""
    code, said = arm_with(armed, arm_toml(2, 31, rate_mib_s=0.5))
    assert code == 0, said
    known = {dump["dump_id"] for dump in armed.client.dumps()}

    def new() -> list[dict]:
        return [dump for dump in armed.client.dumps() if dump["dump_id"] not in known]
    armed.vm.sh("dumpcast-arm test >/tmp/test 2>&1 &", check=True)
    broken, = wait_until(new, 60, lambda: f"the test dump to begin\n{armed.words()}")
    assert broken["test"] and broken["state"] == "DUMP_STATE_RECEIVING"
    armed.vm.crash()
    crashed, = {dump["dump_id"] for dump in armed.wait_sealed()}
    assert crashed != broken["dump_id"] and crashed not in known
    armed.vm.wait_reset()
    assert words.report(armed.vm.console()).committed
    assert "sysrq triggered crash" in armed.log()
    left, = [dump for dump in new() if dump["dump_id"] != crashed]
    assert left["dump_id"] == broken["dump_id"] and left["test"]
    assert left["state"] != "DUMP_STATE_COMPLETE"
