# SPDX-License-Identifier: Apache-2.0
"""Relays, one in each relay namespace of a Net, and the client that asks them."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import secrets
import signal
import subprocess
from typing import Sequence

from .build import binary
from .net import Net
from .util import HarnessError, stop, wait_until

GRPC_PORT = 26211


def write_key(path: pathlib.Path, epoch: int = 1) -> pathlib.Path:
    """A cluster key file: `epoch hex64` lines, readable by its owner only."""
    path.touch(mode=0o600)
    path.write_text(f"# made by a test\n{epoch} {secrets.token_hex(32)}\n", encoding="ascii")
    return path


class Relay:
    """One dumpcast-relay process; its store and log outlive it.

    Not started by the constructor. Log lines of all its lives are in log_path.
    """

    def __init__(self, net: Net, index: int, folder: pathlib.Path, key: pathlib.Path,
                 flags: Sequence[str] = ()) -> None:
        self.net, self.index, self.key, self.flags = net, index, key, tuple(flags)
        self.name = f"relay-{index}"
        self.store = folder / self.name
        self.log_path = folder / f"{self.name}.log"
        self.process: subprocess.Popen | None = None

    @property
    def address(self) -> str:
        """host:port for gRPC, on bridge 0."""
        return f"{self.net.relay_address(self.index)}:{GRPC_PORT}"

    def start(self) -> None:
        """Starts it and waits until it answers gRPC."""
        if self.running():
            raise HarnessError(f"{self.name} runs already")
        peers = [f"{self.net.relay_address(other)}:{GRPC_PORT}"
                 for other in range(self.net.relays) if other != self.index]
        argv = [binary("dumpcast-relay"), "--name", self.name, "--store", self.store,
                "--listen", f"0.0.0.0:{GRPC_PORT}", "--key-file", self.key]
        for bridge in range(self.net.bridges):
            argv += ["--interface", f"leg{bridge}"]
        if peers:
            argv += ["--peers", ",".join(peers)]
        self.store.mkdir(parents=True, exist_ok=True)
        with open(self.log_path, "a", encoding="utf-8") as log:
            self.process = self.net.spawn_in(self.net.relay_ns(self.index), [*argv, *self.flags],
                                             stdout=log, stderr=log)
        client = Client(self.net, [self.address])

        def ready():
            if not self.running():
                raise HarnessError(f"{self.name} ended with status {self.process.returncode}:\n"
                                   f"{self.log()[-3000:]}")
            return client.run("hosts", check=False).returncode == 0
        wait_until(ready, 60, lambda: f"{self.name} to answer gRPC:\n{self.log()[-3000:]}", 0.2)

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL: what it had not made durable is lost."""
        if self.running():
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int | None:
        """SIGTERM; its exit status."""
        return stop(self.process, grace_s=30)

    def log(self) -> str:
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def counters(self) -> collections.Counter:
        """Its counters now, by the names of relay/counters.h; those that are 0 are not in it."""
        mark = " counters: "
        before = self.log().count(mark)
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: self.log().count(mark) > before and self.log().endswith("\n"), 30,
                   lambda: f"{self.name} to log its counters:\n{self.log()[-3000:]}")
        line = self.log().rpartition(mark)[2].splitlines()[0]
        return collections.Counter({name: int(value) for name, value in
                                    (word.split("=") for word in line.split())})


class Client:
    """The `dumpcast` command, run in the client's namespace."""

    def __init__(self, net: Net, servers: Sequence[str]) -> None:
        self.net, self.servers = net, list(servers)

    def argv(self, *args: object) -> list[object]:
        return [binary("dumpcast"), "--server", ",".join(self.servers), *args]

    def run(self, *args: object, **kwargs) -> subprocess.CompletedProcess:
        """Runs one command; util.run's keywords."""
        return self.net.run_in(self.net.client_ns, self.argv(*args), **kwargs)

    def json(self, *args: object, **kwargs):
        """The same with `-o json`, decoded."""
        return json.loads(self.run(*args, "-o", "json", **kwargs).stdout)

    def import_(self, path: pathlib.Path, *args: object, **kwargs) -> subprocess.CompletedProcess:
        """`dumpcast import`, by the dumpcast-send of the same build."""
        path_ = f"PATH={binary('dumpcast-send').parent}:{os.environ['PATH']}"
        return self.net.run_in(self.net.client_ns, ["env", path_, *self.argv("import", path, *args)], **kwargs)

    def spawn(self, *args: object, **kwargs) -> subprocess.Popen:
        return self.net.spawn_in(self.net.client_ns, self.argv(*args), **kwargs)

    def dumps(self) -> list[dict]:
        return self.json("ls")

    def hosts(self) -> list[dict]:
        return self.json("hosts")


class Relays:
    """All relays of a Net, as a context manager that starts and ends them.

    flags: for every relay. Their logs are left in folder.
    """

    def __init__(self, net: Net, folder: pathlib.Path, flags: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.net, self.folder = net, folder
        self.key = write_key(folder / "cluster.key")
        self.relays = [Relay(net, index, folder, self.key, flags) for index in range(net.relays)]

    def __enter__(self) -> "Relays":
        try:
            for relay in self.relays:
                relay.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc) -> None:
        self.close()

    def __getitem__(self, index: int) -> Relay:
        return self.relays[index]

    def __iter__(self):
        return iter(self.relays)

    def close(self) -> None:
        for relay in self.relays:
            if relay.running():
                relay.process.terminate()
        for relay in self.relays:
            stop(relay.process, grace_s=20)

    def client(self, *indexes: int) -> Client:
        """A client of the named relays, in order; of all without a name."""
        chosen = [self.relays[index] for index in indexes] or self.relays
        return Client(self.net, [relay.address for relay in chosen])

    def logs(self) -> str:
        """The end of every relay's log, for a failure's message."""
        return "\n".join(f"--- {relay.name}\n{relay.log()[-2000:]}" for relay in self.relays)
