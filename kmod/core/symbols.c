// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Which symbols of a block leave in a pass, and every packet on every path it goes to. */
#include "kmod/core/sender_internal.h"

#define DCAST_PARITY_BLOCKS   64
#define DCAST_PARITY_MAX      25 /* percent */
#define DCAST_PARITY_WAIT_MAX 32 /* reviews */

/*
 * Blocks that the relay which lacks most lacked symbols of, since the last review; -1 when one does not tell.
 * Context: any; bounded by the relay table; must not allocate.
 */
static __s64 dcast_parity_lacking(struct dcast_sender *s, __u64 now_ns)
{
	__s64 most = -1;
	unsigned int i, silent = 0;

	for (i = 0; i < s->nr_relays; i++) {
		struct dcast_relay_info *relay = &s->relays[i];
		__s64 lacking = (__s64)relay->lacking - relay->lacking_seen;

		if (!dcast_relay_counts(s, relay, now_ns))
			continue;
		silent += !relay->lacking;
		relay->lacking_seen = relay->lacking;
		if (lacking > most)
			most = lacking;
	}
	return silent && most < 1 ? -1 : most;
}

/*
 * More parity while a relay lacks symbols of many blocks, which then are fetched from a peer, or read and
 * encoded once more; less while few do. What was lowered in vain is lowered later next time.
 * Where more than a quarter lack it is about doubled: of blocks of 48 symbols, at 5 percent of loss,
 * half lack with 4 percent of parity, and a tenth with 9.
 * Context: any; must not allocate.
 */
static void dcast_parity_review(struct dcast_sender *s, __u64 now_ns)
{
	const __u32 begun = s->config.parity_percent, before = s->parity_percent;
	const __u32 most = begun > DCAST_PARITY_MAX ? begun : DCAST_PARITY_MAX;
	const __s64 blocks = ++s->parity_blocks;
	__s64 lacking;

	if (blocks < DCAST_PARITY_BLOCKS || now_ns < s->parity_review_ns || !begun)
		return;
	s->parity_blocks = 0;
	s->parity_review_ns = now_ns + DCAST_PARITY_REVIEW_NS;
	lacking = dcast_parity_lacking(s, now_ns);
	if (s->parity_changed) { /* told of blocks from before */
		s->parity_changed = 0;
		return;
	}
	s->parity_quiet = lacking >= 0 && lacking * 64 < blocks ? s->parity_quiet + 1 : 0;
	if (lacking * 6 > blocks) {
		s->parity_percent += 1 + (lacking * 4 > blocks ? before : before / 4);
		if (s->parity_percent > most)
			s->parity_percent = most;
		if (s->parity_lowered && s->parity_wait < DCAST_PARITY_WAIT_MAX)
			s->parity_wait *= 2;
		s->parity_lowered = 0;
	} else if (s->parity_quiet >= s->parity_wait && before) {
		s->parity_percent -= before / 4 + 1;
		s->parity_quiet = 0;
		s->parity_lowered = 1;
	}
	s->parity_changed = s->parity_percent != before;
}

/* Parity symbols of the first pass for a block of k. Context: any; must not allocate. */
static unsigned int dcast_parity_count(struct dcast_sender *s, unsigned int k, __u64 now_ns)
{
	const unsigned int room = DCAST_MAX_SYMBOLS - k;
	unsigned int m;

	if (s->pass == 1 && dcast_way_back(s, now_ns)) {
		dcast_parity_review(s, now_ns);
		/* What small blocks are owed goes to the next large one. */
		s->parity_debt += k * s->parity_percent;
		if (k < 8)
			return 0;
		m = s->parity_debt / 100;
		if (m > (k + 3) / 4)
			m = (k + 3) / 4;
		if (m > room)
			m = room;
		s->parity_debt -= m * 100;
		if (s->parity_debt > 800)
			s->parity_debt = 800;
		return m;
	}
	m = (k * s->config.parity_percent_blind + 99) / 100;
	return m < room ? m : room;
}

/*
 * Odd passes send the data and m parity symbols, even ones 2m parity symbols; parity goes
 * round through k..63, so that each pass brings symbols that were not sent before while
 * there are any. Context: any; must not allocate.
 */
void dcast_slot_plan(struct dcast_sender *s, struct dcast_slot *slot, __u64 now_ns)
{
	const unsigned int k = slot->k, room = DCAST_MAX_SYMBOLS - k;
	unsigned int m = dcast_parity_count(s, k, now_ns);
	const unsigned int round = (s->pass - 1) / 2;
	unsigned int first = 3 * m * round, i;

	slot->pending = 0;
	if (s->pass & 1 || !m) {
		slot->pending = (1ull << k) - 1;
	} else {
		first += m;
		m = 2 * m < room ? 2 * m : room;
	}
	for (i = 0; i < m; i++)
		slot->pending |= 1ull << (k + (first + i) % room);
	slot->m = (__u8)m;
	if (s->pass > 1)
		slot->flags |= DCAST_F_REPEAT;
}

/* Bytes after the header of the packet in out. Context: any; pure. */
static __u32 dcast_out_payload(const struct dcast_sender *s)
{
	const struct dcast_slot *slot = &s->slots[s->out.slot];

	switch (s->out.kind) {
	case DCAST_OUT_SYMBOL:
		return dcast_symbol_len(slot->len, s->config.symbol_size, slot->k, s->out.index);
	case DCAST_OUT_ANNOUNCE:
		return sizeof(struct dcast_announce);
	case DCAST_OUT_END:
		return sizeof(struct dcast_end);
	default:
		return 0;
	}
}

/* Context: any; pure. */
__u32 dcast_out_len(const struct dcast_sender *s)
{
	return sizeof(struct dcast_hdr) + dcast_out_payload(s);
}

/* Context: any, also panic with interrupts off; must not allocate. */
static void dcast_fill_symbol(struct dcast_sender *s, struct dcast_hdr *hdr, __u32 len)
{
	const struct dcast_slot *slot = &s->slots[s->out.slot];
	const __u8 *src = slot->data + (__u32)s->out.index * s->config.symbol_size;

	hdr->type = DCAST_SYMBOL;
	hdr->flags = slot->flags;
	hdr->number = dcast_to_le64(slot->number);
	hdr->digest = dcast_to_le64(slot->digest);
	hdr->encoded_len = dcast_to_le32(slot->len);
	hdr->symbol_size = dcast_to_le16(s->config.symbol_size);
	hdr->block_class = slot->block_class;
	hdr->index = s->out.index;
	hdr->k = slot->k;
	hdr->m = slot->m;
	if (s->out.index >= slot->k) {
		if (!s->out.parity_ready)
			dcast_fec_parity(slot->data, s->config.symbol_size, slot->k, s->out.index,
					 (len + 7) & ~7u, s->parity, s->fec_lists);
		s->out.parity_ready = 1;
		src = s->parity;
	}
	memcpy(hdr + 1, src, len);
}

/* Context: any, also panic with interrupts off; must not allocate. */
static void dcast_fill_announce(struct dcast_sender *s, struct dcast_hdr *hdr)
{
	struct dcast_announce *a = (struct dcast_announce *)(hdr + 1);

	hdr->type = DCAST_ANNOUNCE;
	memset(a, 0, sizeof(*a));
	memcpy(a->boot_id, s->config.boot_id, DCAST_ID_BYTES);
	if (s->phase != DCAST_PHASE_ARMED)
		a->unix_ns = s->meta.crash_unix_ns;
	else if (s->rim.unix_ns)
		a->unix_ns = dcast_to_le64(s->rim.unix_ns(s->rim.ctx));
	a->memory_bytes = dcast_to_le64(s->memory_bytes);
	if (s->phase != DCAST_PHASE_ARMED) {
		a->blocks_done = dcast_to_le64(s->pass_done);
		a->blocks_total = dcast_to_le64(s->total_known ? s->pass_total : 0);
	}
	a->interval_ms = dcast_to_le32(s->config.heartbeat_ms);
	a->state = s->announce_state;
	a->paths = s->config.paths;
	a->lanes = s->config.lanes;
	a->dump_level = s->config.dump_level;
	memcpy(a->hostname, s->config.hostname, sizeof(a->hostname));
	memcpy(a->release, s->config.release, sizeof(a->release));
}

/* Context: any, also panic with interrupts off; must not allocate. */
static void dcast_fill_end(struct dcast_sender *s, struct dcast_hdr *hdr)
{
	const int log_only = s->verdict == DCAST_ADMIT_LOG_ONLY;
	struct dcast_end *end = (struct dcast_end *)(hdr + 1);
	unsigned int c;

	hdr->type = DCAST_END;
	memset(end, 0, sizeof(*end));
	for (c = 0; c < (log_only ? 1 : DCAST_CLASSES); c++) {
		end->cls[c].blocks = dcast_to_le64(s->end[s->out.lane][c].blocks);
		end->cls[c].id_sum = dcast_to_le64(s->end[s->out.lane][c].id_sum);
	}
	end->unreadable_pages = dcast_to_le64(s->end_unreadable);
	end->pass = dcast_to_le32(s->pass);
	end->lanes = s->config.lanes;
	end->flags = log_only ? DCAST_END_LOG_ONLY : 0;
}

/* Builds out in buf and hands it to one path. Context: any; must not allocate. */
static void dcast_out_send(struct dcast_sender *s, unsigned int path, void *buf)
{
	struct dcast_hdr *hdr = (struct dcast_hdr *)buf;
	const __u32 payload = dcast_out_payload(s);
	const __u32 len = sizeof(*hdr) + payload;

	memset(hdr, 0, sizeof(*hdr));
	hdr->flags = s->dump_flags;
	switch (s->out.kind) {
	case DCAST_OUT_SYMBOL:
		dcast_fill_symbol(s, hdr, payload);
		break;
	case DCAST_OUT_EMPTY:
		hdr->type = DCAST_EMPTY;
		hdr->number = dcast_to_le64(s->out.number);
		hdr->block_class = s->out.block_class;
		break;
	case DCAST_OUT_ANNOUNCE:
		dcast_fill_announce(s, hdr);
		break;
	default:
		dcast_fill_end(s, hdr);
		break;
	}
	hdr->magic = dcast_to_le32(DCAST_MAGIC);
	hdr->major = DCAST_VERSION_MAJOR;
	hdr->minor = DCAST_VERSION_MINOR;
	memcpy(hdr->host_id, s->config.host_id, DCAST_ID_BYTES);
	memcpy(hdr->dump_id, s->config.dump_id, DCAST_ID_BYTES);
	hdr->origin = dcast_to_le64(s->config.origin);
	hdr->seq = dcast_to_le64(++s->seq[path][s->out.lane]);
	hdr->payload_len = dcast_to_le16((__u16)payload);
	hdr->key_epoch = dcast_to_le16(s->config.key_epoch);
	hdr->path = (__u8)path;
	hdr->lane = s->out.lane;
	if (!s->rim.writes_macs)
		hdr->mac = dcast_to_le64(dcast_packet_mac(&s->config.secrets->wire, hdr, len));
	s->rim.tx_put(s->rim.ctx, path, buf, len, s->out.lane);
	s->stats.packets[path]++;
	s->stats.bytes[path] += len;
	s->out.took |= (__u8)(1u << path);
}

/* One path takes it, the next in turn that can. Context: any; must not sleep. */
static int dcast_serve_stripe(struct dcast_sender *s, __u64 now_ns, unsigned int *sent)
{
	unsigned int i;

	for (i = 0; i < s->config.paths; i++) {
		const unsigned int path = (s->next_path + i) % s->config.paths;
		void *buf = dcast_path_get(s, path, now_ns);

		if (!buf) {
			if (s->paths[path].stalled)
				s->stats.skipped[path]++;
			continue;
		}
		dcast_out_send(s, path, buf);
		s->next_path = (__u8)((path + 1) % s->config.paths);
		++*sent;
		return 1;
	}
	return 0;
}

/* Context: any, also panic with interrupts off; must not sleep. */
int dcast_out_serve(struct dcast_sender *s, __u64 now_ns, unsigned int *sent)
{
	const int data = s->out.kind == DCAST_OUT_SYMBOL || s->out.kind == DCAST_OUT_EMPTY;
	/*
	 * What is repeated may have been lost on a path that does not know that it is dead. Of a block that
	 * changes at each read no half is ever made whole: by all of them.
	 */
	const int repeat = s->out.kind == DCAST_OUT_SYMBOL &&
			   s->slots[s->out.slot].flags & DCAST_F_REPEAT;
	unsigned int path;

	if (data && !repeat && s->config.mode == DCAST_STRIPE)
		return dcast_serve_stripe(s, now_ns, sent);
	if (data && !s->out.took && !s->out.paths) /* all were stalled: try again */
		s->out.paths = (__u8)dcast_paths_usable(s, now_ns);
	for (path = 0; path < s->config.paths; path++) {
		void *buf;

		if (!(s->out.paths >> path & 1))
			continue;
		buf = dcast_path_get(s, path, now_ns);
		if (buf) {
			dcast_out_send(s, path, buf);
			++*sent;
		} else if (!s->paths[path].stalled) {
			continue; /* worth waiting for */
		}
		s->out.paths &= (__u8) ~(1u << path);
	}
	if (s->out.paths || (data && !s->out.took))
		return 0;
	for (path = 0; data && path < s->config.paths; path++)
		s->stats.skipped[path] += !(s->out.took >> path & 1);
	return 1;
}
