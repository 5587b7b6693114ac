// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Which block comes into a free slot: an answer to a NAK, or the next one of the walk. */
#include "kmod/core/sender_internal.h"

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
	dcast_job_make(s, slot, item.block_class, item.number, 1, 1, s->nak_presence.bits);
	if (slot->empty) {
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

/* A block of the walk that has pages, or not, as it turned out. Context: any; must not allocate. */
static int dcast_fill_take(struct dcast_sender *s, struct dcast_slot *slot, __u64 now_ns)
{
	if (!slot->empty) {
		dcast_slot_plan(s, slot, now_ns);
		if (s->pass == 1)
			s->end_unreadable += slot->unreadable_pages;
	} else if (slot->named) {
		dcast_empty(s, slot->block_class, slot->number);
	} else {
		return 0;
	}
	s->pass_done++;
	return 1;
}

/* What was encoded since the last step. Whether there is any. Context: any; must not allocate. */
static int dcast_fill_collect(struct dcast_sender *s, __u64 now_ns)
{
	struct dcast_slot *slot;
	int any = 0;

	while (!s->empty_pending && (slot = dcast_job_made(s)))
		any |= dcast_fill_take(s, slot, now_ns);
	return any;
}

/*
 * The next block of the walk, encoded; with helpers as many as there are free slots, to be encoded.
 * Context: any; bounded; must not allocate.
 */
static enum dcast_fill dcast_fill_walk(struct dcast_sender *s, __u64 now_ns, __u32 *windows)
{
	enum dcast_fill fill = DCAST_FILL_NONE;
	struct dcast_slot *slot;

	while (!dcast_walk_over(s) && (slot = dcast_free_slot(s))) {
		enum dcast_walk_result r;

		if (s->verdict == DCAST_ADMIT_WAIT && s->walk.stage != DCAST_WALK_STREAMS)
			break;
		r = dcast_walk_next(s, windows);
		if (r != DCAST_WALK_BLOCK)
			return r == DCAST_WALK_AGAIN ? DCAST_FILL_AGAIN : fill;
		if (s->walk.found_class && s->config.helpers) {
			dcast_job_ask(s, slot, s->walk.found_class, s->walk.found, s->walk.named);
			fill = DCAST_FILL_AGAIN;
			continue;
		}
		dcast_job_make(s, slot, s->walk.found_class, s->walk.found, s->walk.named,
			       s->pass > 1, s->walk_presence.bits);
		if (dcast_fill_take(s, slot, now_ns))
			return DCAST_FILL_BLOCK;
	}
	return fill;
}

/* Answers first, but at most every second time while walking. Context: any; bounded. */
static enum dcast_fill dcast_fill_next(struct dcast_sender *s, __u64 now_ns)
{
	const int walking = s->phase == DCAST_PHASE_WALK || s->phase == DCAST_PHASE_PASS;
	struct dcast_slot *slot = dcast_free_slot(s);
	__u32 windows = DCAST_STEP_WINDOWS;
	enum dcast_fill walk = DCAST_FILL_NONE;

	if (!slot || s->empty_pending)
		return DCAST_FILL_WAIT;
	if (walking && (s->last_fill_nak || !s->naks.used)) {
		walk = dcast_fill_walk(s, now_ns, &windows);
		if (walk == DCAST_FILL_BLOCK || s->config.helpers)
			s->last_fill_nak = 0;
		if (walk != DCAST_FILL_NONE)
			return walk;
	}
	s->last_fill_nak = 1;
	return dcast_fill_nak(s, slot, &windows);
}

/* Context: any; bounded. */
enum dcast_fill dcast_fill(struct dcast_sender *s, __u64 now_ns)
{
	enum dcast_fill fill;
	int made = 0;

	if (s->phase == DCAST_PHASE_ARMED || s->phase == DCAST_PHASE_DONE || s->finishing)
		return DCAST_FILL_NONE;
	if (s->config.helpers) {
		dcast_jobs_review(s, now_ns);
		made = dcast_fill_collect(s, now_ns);
		/* Who sends encodes when there is nothing to send, or nothing leaves. */
		if ((s->codec.blocked || !dcast_outgoing(s)) && dcast_job_do(s))
			made |= dcast_fill_collect(s, now_ns);
	}
	fill = dcast_fill_next(s, now_ns);
	if (made)
		return DCAST_FILL_BLOCK;
	return fill == DCAST_FILL_NONE && dcast_jobs_open(s) ? DCAST_FILL_AGAIN : fill;
}
