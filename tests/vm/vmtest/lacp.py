# SPDX-License-Identifier: Apache-2.0
"""A switch's side of a link aggregation (IEEE 802.1AX, LACP), for one guest: python3 -m vmtest.lacp TAP...

Answers every LACPDU that comes in on one of the interfaces as a partner that is in step with
it, all interfaces being ports of one aggregator. For machines whose kernel has no bonding.
"""

from __future__ import annotations

import selectors
import socket
import sys

SLOW_PROTOCOLS = 0x8809
GROUP = bytes.fromhex("0180c2000002")
SYSTEM = bytes.fromhex("02dc00000001")
# LACPDU, version 1: offsets behind the Ethernet header, of TLV type, length and 18 bytes.
ACTOR, PARTNER, TLV_BYTES, PDU_BYTES = 2, 22, 20, 110
# Activity, short timeout, aggregation, synchronisation, collecting, distributing.
STATE = 0b0011_1111


def answer(port: int, mac: bytes, pdu: bytes) -> bytes:
    """The frame that answers a LACPDU (without Ethernet header) on this port."""
    actor = bytes([1, TLV_BYTES]) + (0x8000).to_bytes(2, "big") + SYSTEM + \
        (1).to_bytes(2, "big") + (0x8000).to_bytes(2, "big") + (port + 1).to_bytes(2, "big") + \
        bytes([STATE, 0, 0, 0])
    partner = bytes([2, TLV_BYTES]) + pdu[ACTOR + 2:ACTOR + TLV_BYTES]
    collector = bytes([3, 16]) + bytes(14)
    body = bytes([1, 1]) + actor + partner + collector
    return GROUP + mac + SLOW_PROTOCOLS.to_bytes(2, "big") + body.ljust(PDU_BYTES, b"\0")


def main(names: list[str]) -> None:
    chooser = selectors.DefaultSelector()
    for port, name in enumerate(names):
        link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(SLOW_PROTOCOLS))
        link.bind((name, SLOW_PROTOCOLS))
        chooser.register(link, selectors.EVENT_READ, port)
    while True:
        for key, _ in chooser.select():
            try:
                frame, (_, _, kind, *_) = key.fileobj.recvfrom(2048)
                if kind != socket.PACKET_OUTGOING and frame[14:16] == b"\x01\x01":
                    mac = SYSTEM[:5] + bytes([key.data + 2])
                    key.fileobj.send(answer(key.data, mac, frame[14:]))
            except OSError as error:  # the link is down just now
                print(f"lacp: {names[key.data]}: {error}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
