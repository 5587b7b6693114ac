// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* One block into one slot: header, pages or stream bytes, compression, encryption, digest. */
#include "kmod/core/sender_internal.h"

/* Context: any; pure. */
static int dcast_is_zero(const __u8 *page, __u32 len)
{
	__u32 i;

	for (i = 0; i < len; i += 32) {
		__u64 v[4];

		memcpy(v, page + i, 32);
		if (v[0] | v[1] | v[2] | v[3])
			return 0;
	}
	return 1;
}

/* Context: any; pure. */
__u64 dcast_stream_chunks(const struct dcast_sender *s, unsigned int stream)
{
	if (stream == DCAST_STREAM_PRESENCE)
		return s->slices;
	return (dcast_le64(s->meta.stream_len[stream]) + DCAST_WINDOW_BYTES - 1) >>
	       DCAST_WINDOW_SHIFT;
}

/*
 * Pages of one class of a window into raw. Bytes, with the bitmaps in hdr.
 * Context: any, also panic with interrupts off; must not allocate; reads cannot fault.
 */
static __u32 dcast_gather_pages(const struct dcast_sender *s, struct dcast_slot *slot, __u8 *raw,
				struct dcast_block_hdr *hdr)
{
	const unsigned int shift = s->config.page_shift;
	const __u32 page_bytes = 1u << shift;
	unsigned int present = 0, zero = 0, unreadable = 0, i;
	__u8 cls[DCAST_MAX_WINDOW_PAGES] = { 0 };
	__u32 len = 0;

	s->rim.window_classes(s->rim.ctx, slot->number, cls);
	for (i = 0; i < s->window_pages; i++) {
		const __u64 pfn = slot->number * s->window_pages + i;

		if (s->continues ? cls[i] == DCAST_CLASS_EXCLUDED : cls[i] != slot->block_class)
			continue;
		present |= 1u << i;
		if (s->rim.read_page(s->rim.ctx, pfn, raw + len) < 0)
			unreadable |= 1u << i;
		else if (dcast_is_zero(raw + len, page_bytes))
			zero |= 1u << i;
		else
			len += page_bytes;
	}
	hdr->page_shift = (__u8)shift;
	hdr->present = dcast_to_le16((__u16)present);
	hdr->zero = dcast_to_le16((__u16)zero);
	hdr->unreadable = dcast_to_le16((__u16)unreadable);
	slot->zero_pages = (__u8)dcast_popcount(zero);
	slot->unreadable_pages = (__u8)dcast_popcount(unreadable);
	return len;
}

/*
 * Bytes of a class 0 chunk into raw; how many.
 * Context: any, also panic with interrupts off; must not allocate.
 */
static __u32 dcast_gather_stream(const struct dcast_sender *s, __u64 number,
				 const struct dcast_presence *bits, __u8 *raw)
{
	const unsigned int stream = (unsigned int)(number >> DCAST_STREAM_SHIFT);
	const __u64 offset = (number & ((1ull << DCAST_STREAM_SHIFT) - 1)) << DCAST_WINDOW_SHIFT;
	const __u64 left = dcast_le64(s->meta.stream_len[stream]) - offset;
	const __u32 len = left < DCAST_WINDOW_BYTES ? (__u32)left : DCAST_WINDOW_BYTES;

	switch (stream) {
	case DCAST_STREAM_META:
		memcpy(raw, (const __u8 *)&s->public_meta + offset, len);
		return len;
	case DCAST_STREAM_WHOLE_META:
		memcpy(raw, (const __u8 *)&s->meta + offset, len);
		return len;
	case DCAST_STREAM_MEMMAP:
		memcpy(raw, (const __u8 *)s->ranges + offset, len);
		return len;
	case DCAST_STREAM_PRESENCE:
		memcpy(raw, bits, sizeof(*bits));
		return sizeof(*bits);
	default:
		if (s->rim.read_stream(s->rim.ctx, stream, offset, raw, len) < 0)
			memset(raw, 0, len);
		return len;
	}
}

/* Context: any; pure. */
static int dcast_is_encrypted(const struct dcast_sender *s, const struct dcast_slot *slot)
{
	return s->config.secrets->encrypted &&
	       (slot->block_class ||
		!dcast_stream_is_clear((unsigned int)(slot->number >> DCAST_STREAM_SHIFT)));
}

/*
 * The encoding of len bytes that lies where an encrypted one has it, in place; its new length.
 * Context: any, also panic with interrupts off; must not allocate.
 */
static __u32 dcast_encrypt_block(const struct dcast_sender *s, struct dcast_slot *slot, __u32 len)
{
	__u8 *encoding = slot->data + DCAST_ENCRYPTED_HDR_BYTES;
	__u8 nonce[DCAST_NONCE_BYTES];
	struct dcast_encrypt_ad ad;

	dcast_encrypt_ad_init(&ad, len, s->config.dump_id, slot->block_class, slot->number);
	dcast_encrypt_nonce(&s->config.secrets->end_to_end.nonce, &ad, encoding, len, nonce);
	memcpy(slot->data, &ad.hdr, sizeof(ad.hdr));
	memcpy(slot->data + sizeof(ad.hdr), nonce, sizeof(nonce));
	s->rim.encrypt(s->rim.ctx, encoding, len, &ad, nonce);
	return DCAST_ENCRYPTED_HDR_BYTES + len + DCAST_TAG_BYTES;
}

/* Context: any, also panic with interrupts off; must not allocate; reads cannot fault. */
void dcast_encode_block(const struct dcast_sender *s, unsigned int encoder, struct dcast_slot *slot,
			const struct dcast_presence *bits)
{
	const __u64 began = s->rim.clock_ns ? s->rim.clock_ns(s->rim.ctx) : 0;
	const int encrypted = dcast_is_encrypted(s, slot);
	__u8 *encoding = slot->data + (encrypted ? DCAST_ENCRYPTED_HDR_BYTES : 0);
	__u8 *payload = encoding + sizeof(struct dcast_block_hdr);
	/* What is not to be compressed is read to where it leaves from. */
	__u8 *raw = slot->codec == DCAST_CODEC_NONE ? payload : s->encoders[encoder].raw;
	struct dcast_block_hdr hdr;
	__u32 raw_len, len = 0, cap, k;

	memset(&hdr, 0, sizeof(hdr));
	hdr.hdr_len = sizeof(hdr);
	slot->encoder = (__u8)encoder;
	slot->empty = 0;
	slot->zero_pages = 0;
	slot->unreadable_pages = 0;
	if (slot->block_class) {
		raw_len = dcast_gather_pages(s, slot, raw, &hdr);
		if (!hdr.present) {
			slot->empty = 1;
			return;
		}
	} else {
		raw_len = dcast_gather_stream(s, slot->number, bits, raw);
	}
	hdr.raw_len = dcast_to_le32(raw_len);
	cap = raw_len - raw_len / 16;
	if (slot->codec != DCAST_CODEC_NONE && cap < raw_len)
		len = s->rim.compress(s->rim.ctx, encoder, (enum dcast_codec)slot->codec, raw,
				      raw_len, payload, cap);
	if (len && len <= cap) {
		hdr.codec = slot->codec;
	} else {
		hdr.codec = DCAST_CODEC_NONE;
		if (raw != payload)
			memcpy(payload, raw, raw_len);
		len = raw_len;
	}
	memcpy(encoding, &hdr, sizeof(hdr));
	len += sizeof(hdr);
	if (encrypted)
		len = dcast_encrypt_block(s, slot, len);
	k = (len + s->config.symbol_size - 1) / s->config.symbol_size;
	memset(slot->data + len, 0, (__u64)k * s->config.symbol_size - len);

	slot->raw_len = raw_len;
	slot->len = len;
	slot->k = (__u8)k;
	slot->m = 0;
	slot->flags = s->dump_flags;
	slot->lane = (__u8)dcast_block_lane(slot->block_class, slot->number, s->config.lanes);
	if (!s->rim.digests)
		slot->digest = dcast_block_digest(&s->config.secrets->wire, slot->block_class,
						  slot->number, slot->data, len);
	slot->encode_ns = s->rim.clock_ns ? s->rim.clock_ns(s->rim.ctx) - began : 0;
}

/* Context: any; must not allocate. */
void dcast_digest_blocks(const struct dcast_sender *s, struct dcast_slot *const *slots,
			 unsigned int n)
{
	struct dcast_encoding encodings[DCAST_MAX_ENCODINGS];
	unsigned int i, used = 0;

	if (!s->rim.digests)
		return;
	for (i = 0; i < n; i++) {
		const struct dcast_slot *slot = slots[i];

		if (slot->empty)
			continue;
		encodings[used].data = slot->data;
		encodings[used].number = slot->number;
		encodings[used].len = slot->len;
		encodings[used++].block_class = slot->block_class;
	}
	if (used)
		s->rim.digests(s->rim.ctx, encodings, used);
	for (i = 0, used = 0; i < n; i++)
		if (!slots[i]->empty)
			slots[i]->digest = encodings[used++].digest;
}
