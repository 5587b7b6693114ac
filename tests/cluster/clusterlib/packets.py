# SPDX-License-Identifier: Apache-2.0
"""Packets made by hand, and sockets to send and record them inside a namespace.

The makers are those of the golden vectors (protos/wire/vectors/generate.py), which know
WIRE.md and none of our C and C++.
"""

from __future__ import annotations

import ctypes
import hashlib
import hmac
import importlib.util
import os
import pathlib
import select
import socket
import struct
import threading
import time
from typing import Iterable

from vmtest.util import REPO, HarnessError

GROUP, PORT = "239.192.68.67", 26210
ANNOUNCE, SYMBOL, EMPTY, END, NAK = 1, 2, 3, 4, 66
ARMED, GOODBYE, DUMPING = 1, 2, 3
HEADER_BYTES = 96


def header_of(packet: bytes) -> dict[str, int | bytes]:
    """The fields that tests look at."""
    mac, magic, major, minor, kind, flags = struct.unpack_from("<QIBBBB", packet)
    origin, seq, number = struct.unpack_from("<QQQ", packet, 48)
    return {"mac": mac, "major": major, "type": kind, "flags": flags, "host_id": packet[16:32],
            "dump_id": packet[32:48], "origin": origin, "seq": seq, "number": number,
            "epoch": struct.unpack_from("<H", packet, 86)[0], "path": packet[90],
            "block_class": packet[92], "state": packet[HEADER_BYTES + 52] if kind == ANNOUNCE else 0}


class Forge:
    """Makes packets of one sender with whatever keys it was given.

    key: the cluster key, 32 bytes. epoch: which the header claims; the host key is derived for it.
    """

    def __init__(self, key: bytes, epoch: int, host_id: str, dump_id: str, origin: int = 0xF0F0) -> None:
        spec = importlib.util.spec_from_file_location(
            "dumpcast_vectors", REPO / "protos" / "wire" / "vectors" / "generate.py")
        self._make = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._make)
        self._make.HOST_ID, self._make.DUMP_ID = bytes.fromhex(host_id), bytes.fromhex(dump_id)
        self._make.EPOCH, self._make.SENDER = epoch, origin
        self._make.HOST_KEY = hmac.new(
            key, b"dumpcast host key v1" + bytes.fromhex(host_id) + struct.pack("<H", epoch),
            hashlib.sha256).digest()
        self._seq = 1

    def packet(self, kind: int, payload: bytes = b"", **fields: int) -> bytes:
        """A packet with a right MAC (under this forge's key) and the fields given."""
        self._seq += 1
        return self._make.header(kind, payload, seq=self._seq, **fields).bytes() + payload

    def remac(self, packet: bytes) -> bytes:
        """The same bytes with the MAC that they should have."""
        mac = self._make.siphash(self._make.HOST_KEY[:16], packet[8:])
        return struct.pack("<Q", mac) + packet[8:]

    def announce(self, state: int, boot_id: bytes = bytes(range(16)), hostname: str = "forged.test"
                 ) -> bytes:
        return self.packet(ANNOUNCE, boot_id + struct.pack("<QQQQIBBBB8x", time.time_ns(), 1 << 30, 0, 0, 10000,
                                                           state, 1, 1, 0)
                           + hostname.encode().ljust(64, b"\0") + b"6.1.0".ljust(64, b"\0"))

    def symbol(self, number: int = 0x40, encoded: bytes = b"", **fields: int) -> bytes:
        """The only symbol of a small class 1 block, one zero page in window `number`."""
        encoded = encoded or struct.pack("<IBBBBHHHH", 0, 0, 0, 12, 16, 1, 1, 0, 0)
        values = {"number": number, "dig": self._make.digest(1, number, encoded),
                  "encoded_len": len(encoded), "symbol_size": 1376, "block_class": 1, "k": 1, **fields}
        return self.packet(SYMBOL, encoded, **values)


def unauthenticated_key() -> bytes:
    """The cluster key of epoch 0, which everybody can compute (WIRE.md, Keys)."""
    return hashlib.sha256(b"dumpcast unauthenticated").digest()


def read_key(path: pathlib.Path) -> tuple[int, bytes]:
    """(epoch, key) of a key file with one key."""
    for line in path.read_text(encoding="ascii").splitlines():
        if line and not line.startswith("#"):
            epoch, key = line.split()
            return int(epoch), bytes.fromhex(key)
    raise HarnessError(f"{path}: no key")


def socket_in(namespace: str) -> socket.socket:
    """A UDP socket inside a network namespace; it stays there, its maker does not."""
    clone_newnet = 0x40000000  # linux/sched.h
    made: list[socket.socket] = []
    wrong: list[int] = []

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{namespace}", "rb") as handle:
            if libc.setns(handle.fileno(), clone_newnet) != 0:
                wrong.append(ctypes.get_errno())
                return
        made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    # setns() moves only the thread that calls it.
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    if not made:
        raise HarnessError(f"cannot enter namespace {namespace}: {os.strerror(wrong[0])}")
    return made[0]


class Voice:
    """Says packets to the group from inside a namespace, by one of its legs."""

    def __init__(self, namespace: str, address: str) -> None:
        self._socket = socket_in(namespace)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        self._socket.bind((address, 0))

    def say(self, packets: Iterable[bytes]) -> int:
        """Sends each once to lane 0; how many."""
        count = 0
        for packet in packets:
            self._socket.sendto(packet, (GROUP, PORT))
            count += 1
        return count

    def answers(self, wait_s: float) -> list[bytes]:
        """What has come back, waiting at most so long for the first."""
        came = []
        while select.select([self._socket], [], [], 0 if came else wait_s)[0]:
            came.append(self._socket.recv(65536))
        return came

    def close(self) -> None:
        self._socket.close()


class Recorder:
    """Hears lane 0 in a namespace from its making on; packets() ends it."""

    def __init__(self, namespace: str, address: str) -> None:
        self._socket = socket_in(namespace)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                                socket.inet_aton(GROUP) + socket.inet_aton(address))
        self._socket.bind((GROUP, PORT))
        self._packets: list[bytes] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while select.select([self._socket], [], [], 0.1)[0] or not self._ending.is_set():
            if select.select([self._socket], [], [], 0)[0]:
                self._packets.append(self._socket.recv(65536))

    def so_far(self) -> list[bytes]:
        return list(self._packets)

    def packets(self) -> list[bytes]:
        """All that it has heard; it hears no more."""
        self._ending.set()
        self._thread.join()
        self._socket.close()
        return self._packets
