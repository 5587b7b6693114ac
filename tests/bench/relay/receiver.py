# SPDX-License-Identifier: Apache-2.0
"""Runs a receiver until it ends or there is FILE.done, makes FILE durable, and says when.

receiver.py FILE PROGRAM ARGUMENT...

A receiver that does not end by itself goes on, since its sender may want more of it, until standard input is closed.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time


def main() -> int:
    target, argv = sys.argv[1], sys.argv[2:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and the program with it
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None and not os.path.exists(f"{target}.done"):
                time.sleep(0.005)
            if process.returncode:
                print(f"exit status {process.returncode}", flush=True)
                return process.returncode
            fd = os.open(target, os.O_RDONLY)
            os.fsync(fd)
            durable = time.time()
            sys.stdin.read()
        finally:
            process.terminate()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"durable={durable:.6f} cpu={used.ru_utime + used.ru_stime:.3f} rss_mib={used.ru_maxrss / 1024:.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
