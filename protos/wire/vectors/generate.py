#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
"""Writes the golden vectors of packet format 1.0 beside itself.

A second implementation, from WIRE.md alone: it shares no code with the header, so that the
tests, which read the vectors with the header's structures, hold the one to the other.
Run it after a change of the format, and look at the difference.

    protos/wire/vectors/generate.py            write
    protos/wire/vectors/generate.py --check    exit 1 when what is checked in differs
"""
import hashlib
import hmac
import os
import struct
import sys

from nacl import bindings

HERE = os.path.dirname(os.path.abspath(__file__))
M64 = (1 << 64) - 1

CLUSTER_KEY = bytes(range(0x20, 0x40))
HOST_ID = bytes.fromhex("00112233445566778899aabbccddeeff")
DUMP_ID = bytes.fromhex("d0d1d2d3d4d5d6d7d8d9dadbdcdddedf")
BOOT_ID = bytes.fromhex("b0b1b2b3b4b5b6b7b8b9babbbcbdbebf")
EPOCH = 3
SENDER = 0x5E5E5E5E00000001
RELAY = 0x7E7E7E7E00000002
HOST_KEY = hmac.new(CLUSTER_KEY, b"dumpcast host key v1" + HOST_ID + struct.pack("<H", EPOCH),
                    hashlib.sha256).digest()


DUMP_KEY = bytes(range(0x80, 0xA0))
IDENTITY = bytes(range(0xC0, 0xE0))
RECIPIENT = bindings.crypto_scalarmult_base(IDENTITY)


def siphash(key, data, bits=64):
    """SipHash-2-4; an integer of 64 bits of output, or 128 as bytes."""
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D,
         k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rotl(x, b):
        return ((x << b) | (x >> (64 - b))) & M64

    def rounds(n):
        for _ in range(n):
            v[0] = (v[0] + v[1]) & M64
            v[1] = rotl(v[1], 13) ^ v[0]
            v[0] = rotl(v[0], 32)
            v[2] = (v[2] + v[3]) & M64
            v[3] = rotl(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & M64
            v[3] = rotl(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & M64
            v[1] = rotl(v[1], 17) ^ v[2]
            v[2] = rotl(v[2], 32)

    if bits == 128:
        v[1] ^= 0xEE
    tail = len(data) % 8
    padded = data + bytes(7 - tail) + bytes([len(data) & 0xFF])
    for (word,) in struct.iter_unpack("<Q", padded):
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xEE if bits == 128 else 0xFF
    rounds(4)
    first = v[0] ^ v[1] ^ v[2] ^ v[3]
    if bits == 64:
        return first
    v[1] ^= 0xDD
    rounds(4)
    return struct.pack("<QQ", first, v[0] ^ v[1] ^ v[2] ^ v[3])


def subkey(dump_key, number, length):
    return hashlib.blake2b(b"", digest_size=length, key=dump_key, person=b"dumpcast" + bytes(8),
                           salt=struct.pack("<QQ", number, 0)).digest()


def encrypted(dump_key, block_class, number, encoding):
    """Header, nonce, ciphertext and tag of an encrypted block."""
    hdr = struct.pack("<IBBBB8x", len(encoding), 0, 1, 0, 40)
    ad = hdr + DUMP_ID + struct.pack("<QQ", number, block_class)
    nonce = siphash(subkey(dump_key, 2, 16), ad + encoding, 128) + \
        struct.pack("<Q", number * 4 + block_class)
    sealed = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
        encoding, ad, nonce, subkey(dump_key, 1, 32))
    return hdr, nonce, sealed[:-16], sealed[-16:]


def key_box(dump_key, recipient, ephemeral):
    """As crypto_box_seal, which draws the ephemeral secret key at random."""
    public = bindings.crypto_scalarmult_base(ephemeral)
    nonce = hashlib.blake2b(public + recipient, digest_size=24).digest()
    return public + bindings.crypto_box(dump_key, nonce, recipient, ephemeral)


def digest(block_class, number, encoded):
    prefix = struct.pack("<QQ", number, len(encoded) << 32 | block_class)
    return siphash(HOST_KEY[16:], prefix + encoded) or 1


def gf_mul(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11D
        b >>= 1
    return product


def gf_inverse(a):
    return next(x for x in range(1, 256) if gf_mul(a, x) == 1)


def parity(encoded, size, k, index):
    padded = encoded.ljust(k * size, b"\0")
    out = bytearray(size)
    for j in range(k):
        factor = gf_inverse(index ^ j)
        products = [gf_mul(factor, x) for x in range(256)]
        for n, byte in enumerate(padded[j * size:(j + 1) * size]):
            out[n] ^= products[byte]
    return bytes(out[:min(len(encoded), size)])


def id_mix(block_class, number):
    z = (number * 4 + block_class + 0x9E3779B97F4A7C15) & M64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & M64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & M64
    return z ^ (z >> 31)


class Fields:
    """Bytes with a name and a meaning each."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.rows = []

    def number(self, name, size, value, meaning=""):
        self.rows.append((name, value.to_bytes(size, "little"), value, meaning))

    def raw(self, name, data, meaning=""):
        self.rows.append((name, data, None, meaning))

    def text(self, name, size, value):
        self.rows.append((name, value.encode().ljust(size, b"\0"), None, repr(value)))

    def bytes(self):
        return b"".join(row[1] for row in self.rows)


def header(type_, payload, *, relay=False, flags=0, seq, number=0, dig=0, encoded_len=0,
           symbol_size=0, path=0, lane=0, block_class=0, index=0, k=0, m=0):
    h = Fields("hdr")
    h.number("magic", 4, 0x54534344, "DCST")
    h.number("major", 1, 1)
    h.number("minor", 1, 0)
    h.number("type", 1, type_)
    h.number("flags", 1, flags)
    h.raw("host_id", HOST_ID)
    h.raw("dump_id", DUMP_ID)
    h.number("origin", 8, RELAY if relay else SENDER, "relay id" if relay else "sender")
    h.number("seq", 8, seq)
    h.number("number", 8, number)
    h.number("digest", 8, dig)
    h.number("encoded_len", 4, encoded_len)
    h.number("payload_len", 2, len(payload))
    h.number("key_epoch", 2, EPOCH)
    h.number("symbol_size", 2, symbol_size)
    h.number("path", 1, path)
    h.number("lane", 1, lane)
    h.number("block_class", 1, block_class)
    h.number("index", 1, index)
    h.number("k", 1, k)
    h.number("m", 1, m)
    mac = siphash(HOST_KEY[:16], h.bytes() + payload)
    h.rows.insert(0, ("mac", mac.to_bytes(8, "little"), mac, "SipHash-2-4 of all that follows"))
    return h


def dump_fields(fields):
    out = []
    for name, data, value, meaning in fields.rows:
        label = f"{fields.prefix}.{name}"
        note = f"{label}" + (f" = {value}" if value is not None else "") + \
            (f": {meaning}" if meaning else "")
        chunks = [data[i:i + 32] for i in range(0, len(data), 32)]
        for i, chunk in enumerate(chunks):
            out.append(chunk.hex(" ") + (f"  # {note}" if i == 0 else ""))
    return out


def render(title, parts, extra=()):
    """Hex with meanings; `= name value` lines are what a reader must find in it."""
    lines = [f"# {title}", "# Made by generate.py from WIRE.md; `= name value`: what must be read.",
             f"= cluster_key {CLUSTER_KEY.hex()}", f"= host_key {HOST_KEY.hex()}"]
    for part in parts:
        for name, _, value, _ in part.rows:
            if value is not None:
                lines.append(f"= {part.prefix}.{name} {value}")
    lines += [f"= {name} {value}" for name, value in extra]
    for part in parts:
        lines += dump_fields(part)
    return "\n".join(lines) + "\n"


def packet(title, type_, payload, **kwargs):
    body = payload.bytes() if payload else b""
    return render(title, [header(type_, body, **kwargs)] + ([payload] if payload else []))


def block():
    """Window 0x1234, class 1: page 1 text, page 4 zero, page 15 unreadable."""
    page = bytes((i * 7 + i // 256) & 0xFF for i in range(4096))
    hdr = Fields("block")
    hdr.number("raw_len", 4, 4096)
    hdr.number("codec", 1, 0, "none")
    hdr.number("cipher", 1, 0)
    hdr.number("page_shift", 1, 12)
    hdr.number("hdr_len", 1, 16)
    hdr.number("present", 2, 1 << 1 | 1 << 4 | 1 << 15)
    hdr.number("zero", 2, 1 << 4)
    hdr.number("unreadable", 2, 1 << 15)
    hdr.number("reserved", 2, 0)
    return hdr, hdr.bytes() + page, page


def vectors():
    announce = Fields("announce")
    announce.raw("boot_id", BOOT_ID)
    announce.number("unix_ns", 8, 1_700_000_000_000_000_000)
    announce.number("memory_bytes", 8, 256 << 20)
    announce.number("blocks_done", 8, 100)
    announce.number("blocks_total", 8, 4000)
    announce.number("interval_ms", 4, 10000)
    announce.number("state", 1, 3, "DUMPING")
    announce.number("paths", 1, 2)
    announce.number("lanes", 1, 4)
    announce.number("dump_level", 1, 31)
    announce.raw("reserved", bytes(8))
    announce.text("hostname", 64, "db-17.example")
    announce.text("release", 64, "6.1.0-56-amd64")
    yield "announce", packet("ANNOUNCE: a host that is dumping", 1, announce, seq=7, path=1)

    block_hdr, encoded, page = block()
    number, size, k = 0x1234, 1376, 3
    dig = digest(1, number, encoded)
    body = Fields("block")
    body.rows = block_hdr.rows + [("payload", page, None, "page 1 of the window")]
    yield "block", render("An encoding: window 0x1234, class 1; page 1 text, 4 zero, 15 unreadable",
                          [body], [("digest", dig), ("number", number), ("block_class", 1)])
    outer, nonce, ciphertext, tag = encrypted(DUMP_KEY, 1, number, encoded)
    hidden = Fields("encrypted")
    hidden.raw("hdr", outer, "raw_len 4112, cipher 1, hdr_len 40")
    hidden.raw("nonce", nonce)
    hidden.raw("ciphertext", ciphertext, "block.hex")
    hidden.raw("tag", tag)
    yield "encrypted", render(
        "The encoding of block.hex, encrypted", [hidden],
        [("digest", digest(1, number, hidden.bytes())), ("number", number), ("block_class", 1),
         ("dump_key", DUMP_KEY.hex()), ("dump_id", DUMP_ID.hex()),
         ("cipher_key", subkey(DUMP_KEY, 1, 32).hex()), ("nonce_key", subkey(DUMP_KEY, 2, 16).hex())])
    box = Fields("box")
    box.raw("recipient", hashlib.blake2b(RECIPIENT, digest_size=16).digest())
    box.raw("box", key_box(DUMP_KEY, RECIPIENT, bytes(range(1, 33))),
            "the dump key for the recipient; the ephemeral secret key is 01 02 .. 20")
    yield "keys", render("Stream KEYS of a dump for one recipient", [box],
                         [("dump_key", DUMP_KEY.hex()), ("identity", IDENTITY.hex()),
                          ("recipient", RECIPIENT.hex())])
    common = dict(number=number, dig=dig, encoded_len=len(encoded), symbol_size=size,
                  block_class=1, k=k, m=1, lane=number % 4)
    last = Fields("symbol")
    last.raw("payload", encoded[2 * size:], "bytes 2752.. of the encoding in block.hex")
    yield "symbol-data", packet("SYMBOL: the last data symbol of block.hex", 2, last, seq=41,
                                index=2, **common)
    fec = Fields("symbol")
    fec.raw("payload", parity(encoded, size, k, 63), "sum of inverse(63 ^ j) * d_j")
    yield "symbol-parity", packet("SYMBOL: parity symbol 63 of block.hex, sent again", 2, fec,
                                  seq=42, flags=4, index=63, **common)
    yield "empty", packet("EMPTY: window 77 has no pages of class 2 any more", 3, None, seq=43,
                          number=77, block_class=2, lane=77 % 4)

    end = Fields("end")
    held = {0: [0, 1 << 48, 5 << 48], 1: [0x1234], 2: [], 3: [4, 8]}
    for c in range(4):
        end.number(f"cls[{c}].blocks", 8, len(held[c]))
        end.number(f"cls[{c}].id_sum", 8, sum(id_mix(c, n) for n in held[c]) & M64,
                   f"blocks {[hex(n) for n in held[c]]}")
    end.number("unreadable_pages", 8, 1)
    end.number("pass", 4, 1)
    end.number("lanes", 1, 4)
    end.number("flags", 1, 0)
    end.raw("reserved", bytes(2))
    yield "end", packet("END: lane 0 of 4", 4, end, seq=44)

    hello = Fields("hello")
    hello.number("announce_seq", 8, 7)
    hello.number("lane_mask", 8, 0xF)
    hello.number("pace_kib_s", 4, 102400)
    hello.number("reserved", 4, 0)
    hello.text("name", 64, "relay-0")
    yield "hello", packet("HELLO: answers announce.hex", 65, hello, relay=True, seq=1, path=1)

    nak = Fields("nak")
    nak.number("entries", 4, 2)
    nak.number("entry_bytes", 4, 32)
    nak.number("entry[0].number", 8, number)
    nak.number("entry[0].digest", 8, dig)
    nak.number("entry[0].mask", 8, 1 << 1 | 1 << 40, "symbols 1 and 40")
    nak.number("entry[0].count", 4, 1)
    nak.number("entry[0].block_class", 1, 1)
    nak.number("entry[0].flags", 1, 1, "HAS_DIGEST")
    nak.raw("entry[0].reserved", bytes(2))
    nak.number("entry[1].number", 8, 500)
    nak.number("entry[1].digest", 8, 0)
    nak.number("entry[1].mask", 8, 0)
    nak.number("entry[1].count", 4, 12, "blocks 500..511")
    nak.number("entry[1].block_class", 1, 3)
    nak.number("entry[1].flags", 1, 0)
    nak.raw("entry[1].reserved", bytes(2))
    yield "nak", packet("NAK: two symbols of block.hex, and a run of whole blocks", 66, nak,
                        relay=True, seq=2)

    pace = Fields("pace")
    pace.number("kib_s", 4, 51200)
    pace.number("lacking", 4, 18)
    yield "pace", packet("PACE: 50 MiB/s", 67, pace, relay=True, seq=3)

    admit = Fields("admit")
    admit.number("verdict", 4, 1, "WAIT")
    admit.number("wait_ms", 4, 1500)
    yield "admit", packet("ADMIT: wait your turn", 68, admit, relay=True, seq=4)

    commit = Fields("commit")
    commit.number("lane_mask", 8, 0x5)
    commit.number("blocks", 8, 3999)
    yield "commit", packet("COMMIT: lanes 0 and 2", 69, commit, relay=True, seq=5)


def main():
    differs = False
    for name, text in vectors():
        path = os.path.join(HERE, name + ".hex")
        if sys.argv[1:] == ["--check"]:
            with open(path, encoding="ascii") as f:
                if f.read() != text:
                    print(f"{path} differs from what generate.py makes", file=sys.stderr)
                    differs = True
        else:
            with open(path, "w", encoding="ascii") as f:
                f.write(text)
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
