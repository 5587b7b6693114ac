# SPDX-License-Identifier: Apache-2.0
"""A file by TCP: `tcp.py receive PORT FILE`, and `tcp.py send FILE ADDRESS:PORT...` to all of them side by side."""

from __future__ import annotations

import os
import socket
import sys
import threading


def receive(port: str, path: str) -> None:
    with socket.create_server(("", int(port))) as listening:
        connection, _ = listening.accept()
    buffer = memoryview(bytearray(1 << 20))
    with connection, open(path, "wb", buffering=0) as file:
        while got := connection.recv_into(buffer):
            file.write(buffer[:got])


def send_one(path: str, to: str) -> None:
    host, port = to.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection, open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if connection.sendfile(file) != size:
            raise OSError(f"{to} has not taken all of it")


def main() -> int:
    what, arguments = sys.argv[1], sys.argv[2:]
    if what == "receive":
        receive(*arguments)
        return 0
    threads = [threading.Thread(target=send_one, args=(arguments[0], to)) for to in arguments[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
