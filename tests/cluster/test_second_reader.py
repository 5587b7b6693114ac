# SPDX-License-Identifier: Apache-2.0
"""An encrypted dump, read by another implementation: WIRE.md, Python and NaCl, and none of our code."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket
import struct
import subprocess

from nacl import bindings
from vmtest import build

HOST_ID, DUMP_ID = secrets.token_hex(16), secrets.token_hex(16)
SYMBOL = 2
META, WHOLE_META, KEYS = 0, 6, 7
PAGES = 160
QUIET_S = 3  # sockets' buffers are empty and the sender has ended


def rotl(x: int, b: int) -> int:
    return (x << b | x >> (64 - b)) & (1 << 64) - 1


def siphash(key: bytes, data: bytes) -> int:
    """SipHash-2-4 with 64 bits of output."""
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rounds(n: int) -> None:
        for _ in range(n):
            v[0] = (v[0] + v[1]) & (1 << 64) - 1
            v[1] = rotl(v[1], 13) ^ v[0]
            v[0] = rotl(v[0], 32)
            v[2] = (v[2] + v[3]) & (1 << 64) - 1
            v[3] = rotl(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & (1 << 64) - 1
            v[3] = rotl(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & (1 << 64) - 1
            v[1] = rotl(v[1], 17) ^ v[2]
            v[2] = rotl(v[2], 32)
    for (word,) in struct.iter_unpack("<Q", data + bytes(7 - len(data) % 8) + bytes([len(data) & 0xFF])):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def receive(sock: socket.socket, sender: subprocess.Popen) -> list[bytes]:
    packets = []
    sock.settimeout(QUIET_S)
    while True:
        try:
            packets.append(sock.recv(65536))
        except TimeoutError:
            if sender.poll() is not None:
                return packets


def join(packets: list[bytes], host_key: bytes) -> dict[tuple[int, int], bytes]:
    """(class, number) -> encoding, of data symbols; checks every MAC, and every digest."""
    symbols: dict[tuple, dict[int, bytes]] = {}
    for packet in packets:
        (mac,) = struct.unpack_from("<Q", packet)
        assert siphash(host_key[:16], packet[8:]) == mac
        if packet[14] != SYMBOL:
            continue
        number, digest, encoded_len = struct.unpack_from("<QQI", packet, 64)
        block_class, index, k = packet[92], packet[93], packet[94]
        if index < k:
            symbols.setdefault((block_class, number, digest, encoded_len, k), {})[index] = packet[96:]
    blocks = {}
    for (block_class, number, digest, encoded_len, k), parts in symbols.items():
        assert len(parts) == k, "loopback loses nothing"
        encoding = b"".join(parts[index] for index in range(k))
        assert len(encoding) == encoded_len
        prefix = struct.pack("<QQ", number, encoded_len << 32 | block_class)
        assert (siphash(host_key[16:], prefix + encoding) or 1) == digest
        blocks[block_class, number] = encoding
    return blocks


def subkey(dump_key: bytes, number: int, length: int) -> bytes:
    return hashlib.blake2b(b"", digest_size=length, key=dump_key, salt=struct.pack("<QQ", number, 0),
                           person=b"dumpcast" + bytes(8)).digest()


def decrypt(dump_key: bytes, block_class: int, number: int, block: bytes) -> bytes:
    assert struct.unpack_from("<IBBBBQ", block) == (len(block) - 56, 0, 1, 0, 40, 0)
    ad = block[:16] + bytes.fromhex(DUMP_ID) + struct.pack("<QQ", number, block_class)
    return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
        block[40:], ad, block[16:40], subkey(dump_key, 1, 32))


def payload(encoding: bytes) -> bytes:
    """Of an encoding that is not compressed."""
    raw_len, codec, cipher, _, hdr_len = struct.unpack_from("<IBBBB", encoding)
    assert codec == cipher == 0 and len(encoding) == hdr_len + raw_len
    return encoding[hdr_len:]


def test_second_reader(scratch):
    public, secret = bindings.crypto_box_keypair()
    other, _ = bindings.crypto_box_keypair()
    cluster_key = secrets.token_bytes(32)
    key_file = scratch / "cluster.key"
    key_file.touch(mode=0o600)
    key_file.write_text(f"5 {cluster_key.hex()}\n", encoding="ascii")
    memory = b"".join(bytes(4096) if page % 5 == 0 else os.urandom(4096) for page in range(PAGES))
    (scratch / "memory").write_bytes(memory)
    (scratch / "log").write_text("[    1.0] Kernel panic - not syncing: the secret reason\n", encoding="ascii")

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.bind(("127.0.0.1", 0))
        sender = subprocess.Popen(
            [build.binary("dumpcast-send"), "--file", scratch / "memory", "--format", "raw", "--log-file", scratch / "log",
             "--relay", f"127.0.0.1:{sock.getsockname()[1]}", "--key-file", key_file, "--host-id", HOST_ID,
             "--dump-id", DUMP_ID, "--codec", "none", "--blind", "--blind-passes", "0", "--linger", "0.1",
             "--arm", "0", "--rate", "4", "--quiet", "--recipient", other.hex(), "--recipient", public.hex()],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            packets = receive(sock, sender)
        finally:
            sender.kill()
            said, _ = sender.communicate()
    assert sender.returncode == 1, said  # nobody committed

    host_key = hmac.new(cluster_key, b"dumpcast host key v1" + bytes.fromhex(HOST_ID) + struct.pack("<H", 5),
                        hashlib.sha256).digest()
    blocks = join(packets, host_key)
    boxes = payload(blocks[0, KEYS << 48])
    assert len(boxes) == 2 * 96
    box = next(boxes[at + 16:at + 96] for at in (0, 96)
               if boxes[at:at + 16] == hashlib.blake2b(public, digest_size=16).digest())
    dump_key = bindings.crypto_box_seal_open(box, public, secret)

    # Memory, page by page.
    seen = 0
    for (block_class, number), block in blocks.items():
        if block_class == 0:
            continue
        encoding = decrypt(dump_key, block_class, number, block)
        present, zero, unreadable = struct.unpack_from("<HHH", encoding, 8)
        raw, at = payload(encoding), 0
        for page in range(16):
            if not present >> page & 1:
                continue
            assert not unreadable >> page & 1
            here = memory[(number * 16 + page) * 4096:][:4096]
            if zero >> page & 1:
                assert here == bytes(4096)
            else:
                assert raw[at:at + 4096] == here
                at += 4096
            seen += 1
    assert seen == PAGES

    # META tells the least; the log and the rest are within.
    (flags,) = struct.unpack_from("<Q", payload(blocks[0, META << 48]), 8)
    assert flags == 4
    (flags,) = struct.unpack_from("<Q", payload(decrypt(dump_key, 0, WHOLE_META << 48, blocks[0, WHOLE_META << 48])), 8)
    assert flags == 0
    log = payload(decrypt(dump_key, 0, 4 << 48, blocks[0, 4 << 48]))
    assert b"the secret reason" in log
    assert not any(b"the secret reason" in packet for packet in packets)
    assert not any(dump_key in packet for packet in packets)
