#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""`./dev demo`: from panic to backtrace, on this machine.

Three relays in network namespaces, a Debian kernel in QEMU with two network cards on two
bridges, armed. It crashes; while its memory leaves, one relay is killed with SIGKILL and
one card's link is cut. Ends with the dump committed by the two that are left, its log and
the vmcore fetched over gRPC and, with --backtrace, crash's own `bt`. Nothing is left running.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import shutil
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from vmtest import kernels, tools, util  # noqa: E402  (the path above comes first)
from vmtest.relays import Client  # noqa: E402
from vmtest.scenario import Scenario  # noqa: E402

KILLED_RELAY, CUT_BRIDGE = 2, 1
KILL_AT, CUT_AT = 0.2, 0.4  # of the blocks announced


class Story:
    """What the demo prints: one step a line, with seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._open_line = False

    def step(self, text: str) -> None:
        with self._lock:
            self._close_line()
            print(f"[{time.monotonic() - self._start:6.1f} s] {text}", flush=True)

    def block(self, title: str, lines: list[str]) -> None:
        self.step(title)
        for line in lines:
            print(f"    {line}", flush=True)

    def progress(self, text: str) -> None:
        """Redrawn in place on a terminal; elsewhere a line each time."""
        with self._lock:
            if sys.stdout.isatty():
                print(f"\r\x1b[K           {text}", end="", flush=True)
                self._open_line = True
            else:
                print(f"           {text}", flush=True)

    def _close_line(self) -> None:
        if self._open_line:
            print()
            self._open_line = False


def bar(part: float, width: int = 30) -> str:
    filled = round(part * width)
    return "[" + "#" * filled + "." * (width - filled) + f"] {part * 100:3.0f} %"


def fraction(dump: dict) -> float:
    expected = int(dump["blocks_announced"]) or int(dump["blocks_expected"])
    return min(int(dump["blocks_held"]) / expected, 1.0) if expected else 0.0


class Watcher:
    """Reads `dumpcast watch -o json` of a relay that survives; remembers the newest state."""

    def __init__(self, client: Client) -> None:
        self.dump: dict | None = None
        self._process = client.spawn("watch", "--until", "sealed", "-o", "json", stdout=-1,
                                     text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            dump = json.loads(line)["dump"]
            if not dump["test"]:
                self.dump = dump

    def running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        util.stop(self._process)


def watch_the_dump(run: Scenario, story: Story) -> None:
    """Shows progress, and breaks things on the way, until the dump is sealed."""
    watcher = Watcher(run.relays.client(0))
    try:
        killed = cut = False
        shown = None
        while watcher.running():
            time.sleep(0.1)
            dump = watcher.dump
            if dump is None or dump is shown:
                run.vm.check_alive()
                continue
            shown, part = dump, fraction(dump)
            story.progress(f"{bar(part)}  {int(dump['blocks_held'])} of "
                           f"{int(dump['blocks_announced'])} blocks announced, "
                           f"{int(dump['stored_bytes']) >> 20} MiB stored on relay-0")
            if not killed and part >= KILL_AT:
                killed = True
                run.relays[KILLED_RELAY].kill()
                story.step(f"killed {run.relays[KILLED_RELAY].name} with SIGKILL")
            if not cut and part >= CUT_AT:
                cut = True
                run.net.set_link(CUT_BRIDGE, up=False)
                story.step(f"cut the link of the host's second card (net{CUT_BRIDGE})")
        if not (killed and cut):
            raise util.HarnessError("the dump was over before a relay was killed and a link cut: "
                                    "give it more memory (--memory) or a lower --rate")
    finally:
        watcher.close()


def tell(args: argparse.Namespace, story: Story) -> None:
    kernel = kernels.find(args.kernel)
    folder = args.output.resolve()
    vmlinux = None
    if args.backtrace:
        story.step(f"looking for the debug package of {kernel.release} (1 GB, fetched once)")
        vmlinux = kernel.vmlinux()
    story.step(f"starting three relays, and Linux {kernel.release} with {args.memory} MiB in QEMU")
    with Scenario(folder, kernel, ["virtio-net-pci", "e1000e"], cpus=2, memory_mib=args.memory,
                  rate_mib_s=args.rate) as run:
        host = run.wait_armed()
        story.step(f"host {host['hostname']} is armed: heartbeats heard on {host['paths_heard']} of "
                   f"{host['paths']} paths")
        story.block("dumpcast-arm status, on the host:",
                    run.vm.sh("dumpcast-arm status")[1].rstrip().splitlines())
        story.step("crashing the host: echo c >/proc/sysrq-trigger")
        run.vm.crash()
        watch_the_dump(run, story)
        dumps = run.wait_sealed()
        story.step(f"sealed {dumps[0]['state'].removeprefix('DUMP_STATE_').lower()} by "
                   f"{len(dumps)} relays: {dumps[0]['blocks_held']} blocks of "
                   f"{int(dumps[0]['memory_bytes']) >> 20} MiB of memory")
        run.vm.wait_reset()
        committed = re.findall(r"dumpcast: dump sent: .*", run.vm.console())
        story.block("the host's last words, on its console:", committed or ["(none)"])
        if not committed:
            raise util.HarnessError(f"the module did not report its dump:\n{run.words()}")
        log = run.log().splitlines()
        panic = [line for line in log if "Kernel panic - not syncing" in line]
        if not panic:
            raise util.HarnessError("no panic line in the log that came over gRPC:\n" +
                                    "\n".join(log[-20:]))
        story.block("dumpcast log: the panic line and what came last, from the vmcore:",
                    [panic[0], "...", *log[-5:]])
        core = run.fetch("elf")
        story.step(f"dumpcast get: {core} ({core.stat().st_size >> 20} MiB)")
        if vmlinux is not None:
            said = tools.crash(vmlinux, core, ["bt"])["bt"].rstrip()
            story.block("crash's bt of the task that panicked:", said.splitlines())
            if "sysrq_handle_crash" not in said:
                raise util.HarnessError("crash's bt does not show sysrq_handle_crash")
        dump_id = run.dump_id()
    shutil.rmtree(folder / "memory", ignore_errors=True)
    story.step("all is stopped and removed; left for you:")
    for path, what in ((core, "the vmcore"), (folder / "vm" / "console.log", "the host's console"),
                       (folder / "relays", "the relays' stores and logs")):
        print(f"    {path}  {what}")
    print("\nTry next:")
    debug = vmlinux or f"$(PYTHONPATH=tests/vm /usr/bin/python3 -m vmtest.kernels --debug {kernel.release})"
    print(f"    crash {debug} {core}")
    print(f"    drgn -c {core} -s {debug}")
    print(f"    build/dev/relay/dumpcast-relay --store {folder}/relays/relay-0 "
          f"--key-file {folder}/relays/cluster.key")
    print(f"    build/dev/client/dumpcast show {dump_id[:8]}   # in another terminal, while that runs")


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev demo", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backtrace", action="store_true",
                        help="open the vmcore in crash; fetches the kernel's debug package once")
    parser.add_argument("--kernel", default="6.1", metavar="VERSION",
                        help="a series or a release of Debian's kernels (default: 6.1)")
    parser.add_argument("--memory", type=int, default=512, metavar="MIB",
                        help="of the host that crashes (default: 512)")
    parser.add_argument("--rate", type=float, default=10, metavar="MIB/S",
                        help="ceiling of each path, so that there is something to watch; 0: none "
                             "(default: 10)")
    parser.add_argument("--output", type=pathlib.Path, metavar="DIR",
                        default=util.cache_dir() / "demo",
                        help="folder for the vmcore and logs, made anew (default: %(default)s)")
    args = parser.parse_args()
    util.exit_on_signals()
    mark = args.output / ".dumpcast-demo"
    if args.output.exists():
        if not mark.exists() and any(args.output.iterdir()):
            util.say(f"demo: {args.output} is not empty and not an earlier demo's: name another "
                     "folder with --output")
            return 2
        shutil.rmtree(args.output)
    args.output.mkdir(parents=True)
    mark.touch()
    try:
        tell(args, Story())
    except util.HarnessError as error:
        util.say(f"demo: {error}")
        return 1
    except KeyboardInterrupt:
        util.say("demo: stopped; nothing is left running")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
