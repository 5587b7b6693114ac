# SPDX-License-Identifier: Apache-2.0
"""A switch's tagged ports (IEEE 802.1Q), for guests: python3 -m vmtest.tagger VLAN PLAIN TAGGED...

Carries every frame that comes in on PLAIN to each TAGGED interface with the tag, and those that
come in there with this tag to PLAIN without it. For machines whose kernel has no VLANs.
"""

from __future__ import annotations

import selectors
import socket
import struct
import sys

ALL, VLAN = 0x0003, 0x8100
SOL_PACKET, PACKET_AUXDATA, PACKET_VNET_HDR = 263, 8, 15
SO_RCVBUFFORCE = 33
# struct tpacket_auxdata of linux/if_packet.h: the kernel takes the tag out of the frame.
AUXDATA = struct.Struct("=IIIHHHH")
VLAN_VALID = 0x10
# struct virtio_net_hdr in front of every frame: checksums that are still to be made stay so.
OFFLOAD = struct.Struct("=BBHHHH")
NEEDS_CSUM, TAG_BYTES = 1, 4
BUFFER_BYTES = 64 << 20


def open_link(name: str) -> socket.socket:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    link.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    link.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    link.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    link.bind((name, ALL))
    return link


def receive(link: socket.socket) -> tuple[bytes, int | None] | None:
    """A frame (behind OFFLOAD) without tag and its VLAN; None for what the machine itself sent."""
    frame, extra, _, (_, _, kind, *_) = link.recvmsg(1 << 17, 64)
    if kind == socket.PACKET_OUTGOING:
        return None
    for level, what, data in extra:
        if (level, what) == (SOL_PACKET, PACKET_AUXDATA):
            state, _, _, _, _, tci, _ = AUXDATA.unpack(data[:AUXDATA.size])
            if state & VLAN_VALID:
                return frame, tci & 0xFFF
    return frame, None


def with_tag(frame: bytes, tag: bytes) -> bytes:
    flags, kind, header, size, start, offset = OFFLOAD.unpack(frame[:OFFLOAD.size])
    if flags & NEEDS_CSUM:
        start += TAG_BYTES
    if header:
        header += TAG_BYTES
    addresses = OFFLOAD.size + 12
    return OFFLOAD.pack(flags, kind, header, size, start, offset) + \
        frame[OFFLOAD.size:addresses] + tag + frame[addresses:]


def main(vlan: int, plain_name: str, names: list[str]) -> None:
    tag = struct.pack("!HH", VLAN, vlan)
    plain, tagged = open_link(plain_name), [open_link(name) for name in names]
    chooser = selectors.DefaultSelector()
    for link in (plain, *tagged):
        chooser.register(link, selectors.EVENT_READ)
    while True:
        for key, _ in chooser.select():
            try:
                got = receive(key.fileobj)
                if got is None:
                    continue
                frame, own = got
                if key.fileobj is not plain:
                    if own == vlan:
                        plain.send(frame)
                elif own is None:
                    for link in tagged:
                        link.send(with_tag(frame, tag))
            except OSError as error:  # a link is down just now, or its queue is full
                print(f"tagger: {error}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
