/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Keyed hashes of the packet format: packet MAC and block digest.
 *
 * SipHash-2-4 as Aumasson and Bernstein define it (64-bit output). A host has one
 * 32-byte host key, derived outside the kernel:
 *   host key = HMAC-SHA-256(cluster key, "dumpcast host key v1" || host_id || le16 key_epoch)
 * Bytes 0..15 are the MAC key, 16..31 the digest key.
 */
#ifndef DUMPCAST_PROTOS_WIRE_AUTH_H
#define DUMPCAST_PROTOS_WIRE_AUTH_H

#include "bytes.h"
#include "dumpcast_wire.h"

#define DCAST_HOST_KEY_BYTES 32
#define DCAST_HOST_KEY_LABEL "dumpcast host key v1"

struct dcast_siphash_key {
	__u64 k0, k1;
};

struct dcast_keys {
	struct dcast_siphash_key mac;
	struct dcast_siphash_key digest;
};

static inline void dcast_keys_init(struct dcast_keys *keys,
				   const __u8 host_key[DCAST_HOST_KEY_BYTES])
{
	keys->mac.k0 = dcast_load64(host_key);
	keys->mac.k1 = dcast_load64(host_key + 8);
	keys->digest.k0 = dcast_load64(host_key + 16);
	keys->digest.k1 = dcast_load64(host_key + 24);
}

struct dcast_sip {
	__u64 v0, v1, v2, v3;
};

static inline __u64 dcast_rotl(__u64 x, int b)
{
	return (x << b) | (x >> (64 - b));
}

static inline void dcast_sip_round(struct dcast_sip *s)
{
	s->v0 += s->v1;
	s->v1 = dcast_rotl(s->v1, 13);
	s->v1 ^= s->v0;
	s->v0 = dcast_rotl(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = dcast_rotl(s->v3, 16);
	s->v3 ^= s->v2;
	s->v0 += s->v3;
	s->v3 = dcast_rotl(s->v3, 21);
	s->v3 ^= s->v0;
	s->v2 += s->v1;
	s->v1 = dcast_rotl(s->v1, 17);
	s->v1 ^= s->v2;
	s->v2 = dcast_rotl(s->v2, 32);
}

static inline void dcast_sip_word(struct dcast_sip *s, __u64 m)
{
	s->v3 ^= m;
	dcast_sip_round(s);
	dcast_sip_round(s);
	s->v0 ^= m;
}

static inline void dcast_sip_begin(struct dcast_sip *s, const struct dcast_siphash_key *key)
{
	s->v0 = key->k0 ^ 0x736f6d6570736575ull;
	s->v1 = key->k1 ^ 0x646f72616e646f6dull;
	s->v2 = key->k0 ^ 0x6c7967656e657261ull;
	s->v3 = key->k1 ^ 0x7465646279746573ull;
}

/* The data after before_bytes others (a multiple of 8), which are their words. */
static inline void dcast_sip_data(struct dcast_sip *s, __u64 before_bytes, const void *data,
				  __u64 len)
{
	const __u8 *p = (const __u8 *)data;
	const __u8 *end = p + (len & ~7ull);
	__u64 last = (before_bytes + len) << 56;
	unsigned int i;

	for (; p != end; p += 8)
		dcast_sip_word(s, dcast_load64(p));
	for (i = 0; i < (len & 7); i++)
		last |= (__u64)p[i] << (8 * i);
	dcast_sip_word(s, last);
}

static inline __u64 dcast_sip_end(struct dcast_sip *s)
{
	unsigned int i;

	for (i = 0; i < 4; i++)
		dcast_sip_round(s);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

/* SipHash-2-4 of prefix[0..prefix_words) (words already in host order) followed by data. */
static inline __u64 dcast_siphash_prefixed(const struct dcast_siphash_key *key, const __u64 *prefix,
					   unsigned int prefix_words, const void *data, __u64 len)
{
	struct dcast_sip s;
	unsigned int i;

	dcast_sip_begin(&s, key);
	for (i = 0; i < prefix_words; i++)
		dcast_sip_word(&s, prefix[i]);
	dcast_sip_data(&s, prefix_words * 8ull, data, len);
	s.v2 ^= 0xff;
	return dcast_sip_end(&s);
}

/* The same with 128 bits of output (SipHash's own variant), as two words. */
static inline void dcast_siphash128_prefixed(const struct dcast_siphash_key *key,
					     const __u64 *prefix, unsigned int prefix_words,
					     const void *data, __u64 len, __u64 out[2])
{
	struct dcast_sip s;
	unsigned int i;

	dcast_sip_begin(&s, key);
	s.v1 ^= 0xee;
	for (i = 0; i < prefix_words; i++)
		dcast_sip_word(&s, prefix[i]);
	dcast_sip_data(&s, prefix_words * 8ull, data, len);
	s.v2 ^= 0xee;
	out[0] = dcast_sip_end(&s);
	s.v1 ^= 0xdd;
	out[1] = dcast_sip_end(&s);
}

static inline __u64 dcast_siphash(const struct dcast_siphash_key *key, const void *data, __u64 len)
{
	return dcast_siphash_prefixed(key, NULL, 0, data, len);
}

/* MAC of a packet: packet points at its dcast_hdr, len is the UDP payload's length. */
static inline __u64 dcast_packet_mac(const struct dcast_keys *keys, const void *packet, __u64 len)
{
	return dcast_siphash(&keys->mac, (const __u8 *)packet + 8, len - 8);
}

/*
 * Digest of a block's encoding (dcast_block_hdr and what follows). 0 is kept for
 * "no digest": a hash of 0 becomes 1.
 */
static inline __u64 dcast_block_digest(const struct dcast_keys *keys, unsigned int block_class,
				       __u64 number, const void *encoded, __u32 encoded_len)
{
	const __u64 prefix[2] = { number, (__u64)encoded_len << 32 | block_class };
	__u64 digest = dcast_siphash_prefixed(&keys->digest, prefix, 2, encoded, encoded_len);

	return digest ? digest : 1;
}

#endif
