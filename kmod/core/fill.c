// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Which block comes into a free slot: an answer to a NAK, or the next one of the walk. */
#include "kmod/core/sender_internal.h"

/* Context: any; pure. */
struct dcast_slot *dcast_free_slot(struct dcast_sender *s)
{
	unsigned int i;

	for (i = 0; i < s->config.slots; i++)
		if (!s->slots[i].pending)
			return &s->slots[i];
	return NULL;
}

/* Context: any; pure. */
int dcast_walk_over(const struct dcast_sender *s)
{
	return s->walk.stage == DCAST_WALK_END ||
	       (s->verdict == DCAST_ADMIT_LOG_ONLY && s->walk.stage != DCAST_WALK_STREAMS);
}

/* Context: any; must not allocate. */
static void dcast_empty(struct dcast_sender *s, unsigned int block_class, __u64 number)
{
	s->empty_pending = 1;
	s->empty_class = (__u8)block_class;
	s->empty_number = number;
	s->stats.empties++;
}

/* The next block that a relay asked for. Context: any; bounded; must not allocate. */
static enum dcast_fill dcast_fill_nak(struct dcast_sender *s, struct dcast_slot *slot,
				      __u32 *windows)
{
	struct dcast_nak_item item;

	if (!dcast_nak_peek(s, &item))
		return DCAST_FILL_NONE;
	if (!item.block_class && item.number >> DCAST_STREAM_SHIFT == DCAST_STREAM_PRESENCE) {
		const __u64 slice = item.number & ((1ull << DCAST_STREAM_SHIFT) - 1);

		if (!dcast_presence_build(s, &s->nak_presence, slice, windows, 0))
			return DCAST_FILL_AGAIN;
		s->nak_presence.active = 0;
	}
	dcast_nak_pop(s);
	if (dcast_encode_block(s, slot, item.block_class, item.number, s->nak_presence.bits)) {
		dcast_empty(s, item.block_class, item.number);
		return DCAST_FILL_BLOCK;
	}
	/* A new encoding goes whole; parity that was asked for makes up for what will be lost of it. */
	slot->pending = item.mask;
	if (!item.digest || item.digest != slot->digest)
		slot->pending |= (1ull << slot->k) - 1;
	slot->m = (__u8)dcast_popcount(slot->pending >> slot->k);
	slot->flags |= DCAST_F_REPEAT;
	return DCAST_FILL_BLOCK;
}

/* The next block of the walk. Context: any; bounded; must not allocate. */
static enum dcast_fill dcast_fill_walk(struct dcast_sender *s, struct dcast_slot *slot,
				       __u64 now_ns, __u32 *windows)
{
	if (dcast_walk_over(s))
		return DCAST_FILL_NONE;
	if (s->verdict == DCAST_ADMIT_WAIT && s->walk.stage != DCAST_WALK_STREAMS)
		return DCAST_FILL_NONE;
	for (;;) {
		const __u64 unreadable = s->stats.unreadable_pages;
		const enum dcast_walk_result r = dcast_walk_next(s, windows);

		if (r != DCAST_WALK_BLOCK)
			return r == DCAST_WALK_AGAIN ? DCAST_FILL_AGAIN : DCAST_FILL_NONE;
		if (!dcast_encode_block(s, slot, s->walk.found_class, s->walk.found,
					s->walk_presence.bits)) {
			dcast_slot_plan(s, slot, now_ns);
			if (s->pass == 1)
				s->end_unreadable += s->stats.unreadable_pages - unreadable;
		} else if (s->walk.named) {
			dcast_empty(s, s->walk.found_class, s->walk.found);
		} else {
			continue;
		}
		s->pass_done++;
		return DCAST_FILL_BLOCK;
	}
}

/* Answers first, but at most every second time while walking. Context: any; bounded. */
enum dcast_fill dcast_fill(struct dcast_sender *s, __u64 now_ns)
{
	struct dcast_slot *slot = dcast_free_slot(s);
	__u32 windows = DCAST_STEP_WINDOWS;
	enum dcast_fill walk = DCAST_FILL_NONE;
	const int walking = s->phase == DCAST_PHASE_WALK || s->phase == DCAST_PHASE_PASS;

	if (s->phase == DCAST_PHASE_ARMED || s->phase == DCAST_PHASE_DONE || s->finishing)
		return DCAST_FILL_NONE;
	if (!slot || s->empty_pending)
		return DCAST_FILL_WAIT;
	if (walking && (s->last_fill_nak || !s->naks.used)) {
		walk = dcast_fill_walk(s, slot, now_ns, &windows);
		if (walk == DCAST_FILL_BLOCK)
			s->last_fill_nak = 0;
		if (walk != DCAST_FILL_NONE)
			return walk;
	}
	s->last_fill_nak = 1;
	return dcast_fill_nak(s, slot, &windows);
}
