# SPDX-License-Identifier: Apache-2.0
"""Runs a receiver until it ends or there is FILE.done, makes FILE durable, and says when.

receiver.py FILE PROGRAM ARGUMENT...
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time


def main() -> int:
    target, argv = sys.argv[1], sys.argv[2:]
    with subprocess.Popen(argv) as process:
        try:
            while process.poll() is None and not os.path.exists(f"{target}.done"):
                time.sleep(0.005)
        finally:
            ended = process.poll()
            process.terminate()
    if ended:
        print(f"exit status {ended}", flush=True)
        return ended
    fd = os.open(target, os.O_RDONLY)
    os.fsync(fd)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"ended={time.time():.6f} cpu={used.ru_utime + used.ru_stime:.3f} rss_mib={used.ru_maxrss / 1024:.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
