# SPDX-License-Identifier: Apache-2.0
"""Processes, deadlines and files: what every other module of the harness needs."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from typing import Callable, Iterator, Sequence


class HarnessError(Exception):
    """The harness could not do what a test asked; the message says what to do."""


REPO = pathlib.Path(__file__).resolve().parents[3]


def cache_dir() -> pathlib.Path:
    """$DUMPCAST_CACHE, or ~/.cache/dumpcast; created."""
    path = pathlib.Path(os.environ.get("DUMPCAST_CACHE") or "~/.cache/dumpcast").expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def run(argv: Sequence[object], *, check: bool = True, timeout: float = 600, **kwargs):
    """subprocess.run with captured text; a failure carries the command and its words."""
    argv = [str(arg) for arg in argv]
    kwargs.setdefault("stdout", subprocess.PIPE)
    kwargs.setdefault("stderr", subprocess.PIPE)
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    kwargs.setdefault("text", True)
    try:
        done = subprocess.run(argv, timeout=timeout, check=False, **kwargs)
    except FileNotFoundError as error:
        raise HarnessError(f"{argv[0]}: not found; `./dev` installs what the tests need") from error
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"{shlex.join(argv)}: still running after {timeout:.0f} s") from error
    if check and done.returncode != 0:
        words = "\n".join(str(text).strip() for text in (done.stdout, done.stderr) if text)
        raise HarnessError(f"{shlex.join(argv)}: exit status {done.returncode}\n{words}")
    return done


def die_with_parent() -> None:
    """preexec_fn: the kernel kills this child when the thread that started it ends.

    Start long-lived children from the main thread only, for that reason.
    """
    pr_set_pdeathsig = 1  # linux/prctl.h
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


def spawn(argv: Sequence[object], **kwargs) -> subprocess.Popen:
    """Popen of a child that never outlives the harness, even when that is killed."""
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    argv = [str(arg) for arg in argv]
    try:
        return subprocess.Popen(argv, preexec_fn=die_with_parent, **kwargs)
    except FileNotFoundError as error:
        raise HarnessError(f"{argv[0]}: not found; `./dev` installs what the tests need") from error


def stop(process: subprocess.Popen | None, grace_s: float = 5) -> int | None:
    """SIGTERM, a grace, then SIGKILL; the exit status, None when there was no process."""
    if process is None:
        return None
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def wait_until(probe: Callable[[], object], timeout_s: float, what: str | Callable[[], str],
               every_s: float = 0.05):
    """Calls probe until it returns something true, which is returned.

    The deadline only bounds a test that hangs: no test asserts how long a thing took.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            words = what() if callable(what) else what
            raise HarnessError(f"waited {timeout_s:.0f} s in vain for {words}")
        time.sleep(every_s)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[None]:
    """Holds an exclusive flock on path: one process fills a cache entry at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def one_of(count: int, folder: pathlib.Path) -> Iterator[None]:
    """Waits for one of count places, shared by everybody on the machine, and holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        handles = [stack.enter_context(open(folder / f"place-{index}", "w", encoding="ascii"))
                   for index in range(count)]
        while True:
            for handle in handles:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    yield
                    return
            time.sleep(0.5)


@contextlib.contextmanager
def scratch_dir(prefix: str = "dumpcast-vm-") -> Iterator[pathlib.Path]:
    """A temporary folder in $DUMPCAST_TMP or the system's; removed at the end."""
    base = os.environ.get("DUMPCAST_TMP") or None
    with tempfile.TemporaryDirectory(prefix=prefix, dir=base) as name:
        # A child in another namespace or apt's sandbox user may need to enter it.
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


class Stacked:
    """A context whose parts end in reverse order, also when its start fails half way.

    Subclasses start their parts in _start() and put them on _stack.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_exc) -> None:
        self._stack.close()

    def _start(self) -> None:
        raise NotImplementedError


def exit_on_signals(ends: Callable[[int], BaseException] = SystemExit) -> None:
    """Makes SIGTERM and SIGHUP unwind like Ctrl-C, so that every `with` cleans up.

    ends: what is raised, made of an exit status. SystemExit only fails one test of pytest's.
    """
    def leave(number, _frame):
        raise ends(128 + number)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def say(text: str) -> None:
    """A line of progress on stderr; stdout belongs to results."""
    print(text, file=sys.stderr, flush=True)
