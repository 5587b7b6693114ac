// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Packets from relays. Nothing is believed before the MAC is checked; after that a packet
 * may still be malformed or old, and then changes nothing but a counter.
 */
#include "kmod/core/sender_internal.h"

/* Context: any; must not allocate. */
static void dcast_input_nak_entry(struct dcast_sender *s, const struct dcast_nak_entry *e)
{
	const unsigned int block_class = e->block_class;
	const __u64 number = dcast_le64(e->number);
	const int has_digest = e->flags & DCAST_NAK_HAS_DIGEST;
	__u64 digest = 0, mask = 0, limit;
	__u32 count = dcast_le32(e->count);

	s->stats.nak_entries++;
	if (block_class >= DCAST_CLASSES || !count)
		goto bad;
	if (block_class) {
		limit = s->window_end;
	} else {
		const __u64 stream = number >> DCAST_STREAM_SHIFT;

		if (stream >= DCAST_STREAMS)
			goto bad;
		limit = dcast_class0_number((unsigned int)stream,
					    dcast_stream_chunks(s, (unsigned int)stream));
	}
	if (number >= limit)
		goto bad;
	if (count > limit - number)
		count = (__u32)(limit - number);
	if (has_digest) {
		digest = dcast_le64(e->digest);
		mask = dcast_le64(e->mask);
		if (!digest || !mask)
			goto bad;
		count = 1;
	}
	dcast_nak_push(s, block_class, number, count, digest, mask);
	return;
bad:
	s->stats.rx_bad_format++;
}

/* Context: any; must not allocate; bounded by the packet's length times the queue's. */
static int dcast_input_nak(struct dcast_sender *s, const __u8 *payload, __u32 len)
{
	struct dcast_nak nak;
	__u32 entries, entry_bytes, i;

	if (len < sizeof(nak))
		return 0;
	memcpy(&nak, payload, sizeof(nak));
	entries = dcast_le32(nak.entries);
	entry_bytes = dcast_le32(nak.entry_bytes);
	if (entry_bytes < sizeof(struct dcast_nak_entry) || entry_bytes > len ||
	    entries > (len - sizeof(nak)) / entry_bytes)
		return 0;
	s->stats.naks++;
	for (i = 0; i < entries; i++) {
		struct dcast_nak_entry e;

		memcpy(&e, payload + sizeof(nak) + i * entry_bytes, sizeof(e));
		dcast_input_nak_entry(s, &e);
	}
	return 1;
}

/* Context: any; must not allocate. */
static int dcast_input_hello(struct dcast_relay_info *relay, const __u8 *payload, __u32 len)
{
	struct dcast_hello hello;

	if (len < sizeof(hello))
		return 0;
	memcpy(&hello, payload, sizeof(hello));
	relay->lane_mask = dcast_le64(hello.lane_mask);
	relay->pace_kib_s = dcast_le32(hello.pace_kib_s);
	memcpy(relay->name, hello.name, sizeof(relay->name));
	relay->name[sizeof(relay->name) - 1] = 0;
	return 1;
}

/* Context: any; must not allocate. */
static int dcast_input_admit(struct dcast_sender *s, struct dcast_relay_info *relay, __u64 now_ns,
			     const __u8 *payload, __u32 len)
{
	struct dcast_admit admit;

	if (len < sizeof(admit))
		return 0;
	memcpy(&admit, payload, sizeof(admit));
	if (dcast_le32(admit.verdict) > DCAST_ADMIT_LOG_ONLY)
		return 0;
	relay->verdict = dcast_le32(admit.verdict);
	s->wait_until_ns[relay - s->relays] = now_ns + dcast_le32(admit.wait_ms) * DCAST_MS;
	dcast_verdict_review(s, now_ns);
	return 1;
}

/* True when the payload was what its type says. Context: any; must not allocate. */
static int dcast_input_payload(struct dcast_sender *s, struct dcast_relay_info *relay, __u64 now_ns,
			       unsigned int type, const __u8 *payload, __u32 len)
{
	struct dcast_pace pace;
	struct dcast_commit commit;
	const int dumping = s->phase != DCAST_PHASE_ARMED;

	switch (type) {
	case DCAST_HELLO:
		return dcast_input_hello(relay, payload, len);
	case DCAST_PACE:
		if (len < sizeof(pace))
			return 0;
		memcpy(&pace, payload, sizeof(pace));
		relay->pace_kib_s = dcast_le32(pace.kib_s);
		relay->lacking = dcast_le32(pace.lacking);
		return 1;
	case DCAST_NAK:
		if (!dumping)
			return 1;
		s->last_reply_ns = now_ns;
		return dcast_input_nak(s, payload, len);
	case DCAST_ADMIT:
		return !dumping || dcast_input_admit(s, relay, now_ns, payload, len);
	case DCAST_COMMIT:
		if (len < sizeof(commit))
			return 0;
		memcpy(&commit, payload, sizeof(commit));
		/*
		 * Each END is answered with one: only a new one is worth waiting on. One that comes
		 * while the walk goes on is of an END before it: of the log only.
		 */
		if (dumping && dcast_walk_over(s) &&
		    dcast_le64(commit.lane_mask) & ~relay->commit_mask) {
			relay->commit_mask |= dcast_le64(commit.lane_mask);
			s->last_reply_ns = now_ns;
		}
		return 1;
	default: /* of a newer minor version */
		return 1;
	}
}

/* Context: any, also panic with interrupts off; must not allocate. */
void dcast_sender_input(struct dcast_sender *s, __u64 now_ns, unsigned int path, const void *packet,
			__u32 len)
{
	struct dcast_relay_info *relay;
	struct dcast_hdr hdr;
	__u64 id, seq;

	if (path >= s->config.paths)
		return;
	if (len < sizeof(hdr) || len > 65535) {
		s->stats.rx_bad_format++;
		return;
	}
	memcpy(&hdr, packet, sizeof(hdr));
	if (dcast_le32(hdr.magic) != DCAST_MAGIC || hdr.major != DCAST_VERSION_MAJOR ||
	    dcast_le16(hdr.payload_len) != len - sizeof(hdr)) {
		s->stats.rx_bad_format++;
		return;
	}
	if (memcmp(hdr.host_id, s->config.host_id, DCAST_ID_BYTES) ||
	    memcmp(hdr.dump_id, s->config.dump_id, DCAST_ID_BYTES) || hdr.type < DCAST_HELLO) {
		s->stats.rx_foreign++;
		return;
	}
	if (dcast_packet_mac(&s->config.secrets->wire, packet, len) != dcast_le64(hdr.mac)) {
		s->stats.rx_bad_mac++;
		return;
	}
	id = dcast_le64(hdr.origin);
	seq = dcast_le64(hdr.seq);
	if (!id || !seq) {
		s->stats.rx_bad_format++;
		return;
	}
	relay = dcast_relay_find(s, id, now_ns);
	if (!relay)
		return;
	if (seq <= relay->last_seq) {
		s->stats.rx_replayed++;
		return;
	}
	relay->last_seq = seq;
	relay->heard_ns[path] = now_ns ? now_ns : 1;
	s->heard_ns = relay->heard_ns[path];
	if (!dcast_input_payload(s, relay, now_ns, hdr.type, (const __u8 *)packet + sizeof(hdr),
				 len - sizeof(hdr)))
		s->stats.rx_bad_format++;
	dcast_pace_review(s, now_ns);
	s->wake_ns = 0;
}
