/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * End-to-end encryption of a block, all but the cipher itself; "Encryption" in WIRE.md explains it.
 *
 * An encrypted encoding is an outer dcast_block_hdr (cipher 1, hdr_len 40, raw_len the length of the
 * encoding within, all else 0), the nonce, that encoding by XChaCha20-Poly1305, and the tag:
 *
 *   0        16      40                       40 + raw_len   56 + raw_len
 *   | header | nonce | encoding, encrypted    | tag         |
 */
#ifndef DUMPCAST_PROTOS_WIRE_ENCRYPT_H
#define DUMPCAST_PROTOS_WIRE_ENCRYPT_H

#include "auth.h"

#define DCAST_NONCE_BYTES	   24
#define DCAST_TAG_BYTES		   16
#define DCAST_ENCRYPTED_HDR_BYTES  (16 + DCAST_NONCE_BYTES) /* before what is encrypted */
#define DCAST_END_TO_END_KEY_BYTES 32
#define DCAST_CIPHER_KEY_BYTES	   32

/* The cipher's additional data, which is authenticated with the encoding. */
struct dcast_encrypt_ad {
	struct dcast_block_hdr hdr; /* the outer one */
	__u8 dump_id[DCAST_ID_BYTES];
	__le64 number;
	__le64 block_class;
};
DCAST_ASSERT(sizeof(struct dcast_encrypt_ad) == 48);

/* What an encoding is encrypted under; both are derived from the dump's key. */
struct dcast_cipher_keys {
	__u8 cipher[DCAST_CIPHER_KEY_BYTES];
	struct dcast_siphash_key nonce;
};

/* Whether a class 0 stream leaves as it is, also in an encrypted dump: relays need it, or readers. */
static inline int dcast_stream_is_clear(unsigned int stream)
{
	return stream == DCAST_STREAM_META || stream == DCAST_STREAM_PRESENCE ||
	       stream == DCAST_STREAM_KEYS;
}

/* The outer header of an encoding of len bytes. */
static inline void dcast_encrypted_hdr(struct dcast_block_hdr *hdr, __u32 len)
{
	memset(hdr, 0, sizeof(*hdr));
	hdr->raw_len = dcast_to_le32(len);
	hdr->cipher = DCAST_CIPHER_XCHACHA20_POLY1305;
	hdr->hdr_len = DCAST_ENCRYPTED_HDR_BYTES;
}

/* Of an encoding of len bytes; ad->hdr is its outer header. */
static inline void dcast_encrypt_ad_init(struct dcast_encrypt_ad *ad, __u32 len,
					 const __u8 dump_id[DCAST_ID_BYTES],
					 unsigned int block_class, __u64 number)
{
	dcast_encrypted_hdr(&ad->hdr, len);
	memcpy(ad->dump_id, dump_id, sizeof(ad->dump_id));
	ad->number = dcast_to_le64(number);
	ad->block_class = dcast_to_le64(block_class);
}

/*
 * The nonce: a keyed hash of all that the cipher is given, and the block. Two inputs share it only if
 * they are of the same block and their 128-bit hashes collide.
 */
static inline void dcast_encrypt_nonce(const struct dcast_siphash_key *key,
				       const struct dcast_encrypt_ad *ad, const void *encoding,
				       __u32 len, __u8 nonce[DCAST_NONCE_BYTES])
{
	__u64 words[sizeof(*ad) / 8], hash[2];
	unsigned int i;

	for (i = 0; i < sizeof(*ad) / 8; i++)
		words[i] = dcast_load64((const __u8 *)ad + i * 8);
	dcast_siphash128_prefixed(key, words, sizeof(*ad) / 8, encoding, len, hash);
	dcast_store64(nonce, hash[0]);
	dcast_store64(nonce + 8, hash[1]);
	dcast_store64(nonce + 16, dcast_le64(ad->number) * 4 + dcast_le64(ad->block_class));
}

#endif
