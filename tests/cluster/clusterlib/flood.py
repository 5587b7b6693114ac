# SPDX-License-Identifier: Apache-2.0
"""Sends packets as fast as it can, a bounded number for a bounded time: what an attacker would run.

    flood.py FILE SOURCE GROUP PORT COUNT SECONDS

FILE: packets, each after its length (le16). Sent by the leg that has the address SOURCE, over and over.
Prints how many went and how long it took.
"""

from __future__ import annotations

import pathlib
import socket
import struct
import sys
import time


def main() -> None:
    path, source, group, port, count, seconds = sys.argv[1:]
    content, packets = pathlib.Path(path).read_bytes(), []
    while content:
        end = 2 + struct.unpack_from("<H", content)[0]
        packets.append(content[2:end])
        content = content[end:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
        out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        out.connect((group, int(port)))
        begun, sent = time.monotonic(), 0
        while sent < int(count) and time.monotonic() < begun + float(seconds):
            for packet in packets:
                out.send(packet)
            sent += len(packets)
    print(sent, time.monotonic() - begun)


if __name__ == "__main__":
    main()
