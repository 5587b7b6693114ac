# SPDX-License-Identifier: Apache-2.0
"""Live dumps: the whole memory of a host that goes on, on request."""

from __future__ import annotations

import json
import re

import pytest

from vmtest import tools, words
from vmtest.scenario import Scenario
from vmtest.util import wait_until
from vmtest.vmcore import open_vmcore

CARDS = ["virtio-net-pci", "e1000e"]
TROUBLE = ("BUG:", "WARNING:", "Oops", "Call Trace", "refcount", "use-after-free", "blocked for more")
SLOWLY = "--rate 1"


@pytest.fixture(scope="module", params=["6.1", pytest.param("6.12", marks=pytest.mark.slow)])
def armed(request, kernel_of, tmp_path_factory):
    """One guest for all of these tests: each leaves it armed."""
    folder = tmp_path_factory.mktemp("live")
    with Scenario(folder, kernel_of(request.param), CARDS, 2, relay_count=2,
                  relay_flags=("--seal-after", "3s")) as run:
        yield run
        said = run.vm.console().split("sysrq: Trigger a crash")[0]
        for word in TROUBLE:
            assert word not in said, said[-6000:]


def status(run: Scenario) -> dict:
    return json.loads(run.vm.sh("dumpcast-arm status -o json", check=True)[1])


def begin(run: Scenario, command: str) -> dict:
    """Starts a dump in the background; the status in which it is under way."""
    run.vm.sh(f"({command} >/tmp/said 2>&1; echo exit $? >>/tmp/said) & echo", check=True)

    def under_way():
        now = status(run)
        return now if now.get("running", {}).get("packets") else None
    return wait_until(under_way, 60, lambda: f"a dump under way:\n{status(run)}", 0.1)


def wait_exit(run: Scenario) -> str:
    """What the command in the background said, its exit status last."""
    def ended():
        said = run.vm.sh("cat /tmp/said")[1]
        return said if "\nexit " in f"\n{said}" else None
    return wait_until(ended, 120, lambda: f"the dump to end\n{status(run)}", 0.2)


def dump_on(run: Scenario, relay: int, dump_id: str) -> dict | None:
    return next((dump for dump in run.relays.client(relay).dumps() if dump["dump_id"] == dump_id),
                None)


def test_whole_memory_leaves_while_the_host_goes_on(armed, vmlinux_of):
    before = status(armed)["dump_id"]
    said = armed.vm.sh("dumpcast-arm dump --rate 0", timeout_s=300, check=True)[1]
    print(said)
    assert "the live dump is committed by 2 relays" in said
    after = status(armed)
    assert after["live"]["ok"] and "running" not in after
    assert after["dump_id"] != before, "the next dump must have an id of its own"
    for relay in armed.relays:
        client = armed.relays.client(relay.index)
        wait_until(lambda index=relay.index: dump_on(armed, index, before)["state"]
                   == "DUMP_STATE_COMPLETE", 60, "the live dump to be sealed")
        dump = dump_on(armed, relay.index, before)
        assert dump["live"] and not dump["test"] and dump["dump_level"] == 31
        row, = [line for line in client.run("ls").stdout.splitlines() if line.startswith(before[:8])]
        assert "(live)" in row.split() and "complete" in row.split()
        assert re.search(r"^kind +live$", client.run("show", before).stdout, re.M)
        assert f"{before[:12]} (live)" in client.run("hosts").stdout
        assert before[:8] in client.run("ls", "--filter", "live = true").stdout
    core = armed.folder / "live.elf"
    armed.client.run("get", before, "--output-file", core, "--force", "--require-complete")
    assert f"OSRELEASE={armed.kernel.release}\n" in open_vmcore(core).vmcoreinfo
    assert "Kernel panic" not in armed.vm.console() and not words.began(armed.vm.console())
    if armed.kernel.series != "6.1":
        return  # newer than Debian 12's debuggers
    vmlinux = vmlinux_of(armed.kernel)
    # 8.0.2 lists running tasks only, on Debian's 6.1.
    told = tools.crash(vmlinux, core, ["ps", "log", "bt 1"], newer=True)
    assert "kthreadd" in told["ps"] and "Linux version" in told["log"] and "PID: 1 " in told["bt 1"]
    tasks = tools.drgn(vmlinux, core, "from drgn.helpers.linux.pid import for_each_task\n"
                       "print(sum(1 for _ in for_each_task(prog)))\n")
    assert int(tasks) > 20


def test_status_does_not_wait_and_another_dump_is_refused(armed):
    first = begin(armed, f"dumpcast-arm dump {SLOWLY} --level 0")["running"]
    # Many questions while the dump is not over: none waited for its end.
    seen = [status(armed)["running"] for _ in range(5)]
    assert {now["dump_id"] for now in seen} == {first["dump_id"]}
    assert seen[-1]["packets"] > first["packets"] and not first["test"]
    text = armed.vm.sh("dumpcast-arm status", check=True)[1]
    assert f"a live dump is under way: {first['dump_id']}" in text
    for again in ("dump", "test"):
        code, said = armed.vm.sh(f"dumpcast-arm {again}")
        assert code == 1 and f"another dump is under way: {first['dump_id']}" in said
    armed.vm.sh("kill -INT $(pidof dumpcast-arm)", check=True)
    said = wait_exit(armed)
    print(said)
    assert "the live dump was ended early" in said and said.endswith("exit 1\n")
    assert "running" not in status(armed)
    for relay in armed.relays:
        wait_until(lambda index=relay.index: dump_on(armed, index, first["dump_id"])["state"]
                   == "DUMP_STATE_INCOMPLETE", 90, lambda: armed.words(), 0.5)
        dump = dump_on(armed, relay.index, first["dump_id"])
        assert dump["live"] and "ended on the host" in dump["incomplete_reason"], dump


def test_disarming_ends_it(armed):
    begin(armed, f"dumpcast-arm dump {SLOWLY} --level 0")
    armed.vm.sh("dumpcast-arm disarm", timeout_s=30, check=True)
    assert "was ended early" in wait_exit(armed)
    code, said = armed.vm.sh("dumpcast-arm dump")
    assert code == 3 and "not armed" in said
    armed.vm.sh("dumpcast-arm arm", timeout_s=60, check=True)
    armed.wait_armed()


def test_panic_in_the_midst_of_it_is_dumped_whole(armed):
    """The last one: the guest is gone afterwards."""
    live = begin(armed, f"dumpcast-arm dump {SLOWLY} --level 0")["running"]["dump_id"]
    armed.vm.crash()

    def crashed():
        dumps = [[dump for dump in armed.relays.client(relay.index).dumps() if not dump["live"]]
                 for relay in armed.relays]
        armed.vm.check_alive()
        return [own[0] for own in dumps] if all(
            own and own[0]["state"] == "DUMP_STATE_COMPLETE" for own in dumps) else None
    for dump in wait_until(crashed, 300, armed.words, 0.5):
        assert dump["dump_id"] != live and "sysrq triggered crash" in dump["reason"]
        assert dump["blocks_held"] == dump["blocks_expected"] != "0"
    armed.vm.wait_reset()
    said = words.report(armed.vm.console())
    assert said.committed or said.silent
    for relay in armed.relays:
        left = dump_on(armed, relay.index, live)
        assert left["live"] and left["state"] != "DUMP_STATE_COMPLETE"
