// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Blocks that are asked for, taken by some processor, and made. A slot's state says whose it is
 * (enum dcast_slot_state); taking is one compare-and-exchange, and whoever has taken may
 * never come back.
 */
#include "kmod/core/sender_internal.h"

/* Context: any. */
static __u32 dcast_slot_state(const struct dcast_slot *slot)
{
	return __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
}

/* Context: any. */
static void dcast_slot_turn(struct dcast_slot *slot, enum dcast_slot_state state)
{
	__atomic_store_n(&slot->state, (__u32)state, __ATOMIC_RELEASE);
}

/* Context: any. */
static int dcast_slot_take(struct dcast_slot *slot, enum dcast_slot_state to)
{
	__u32 asked = DCAST_SLOT_ASKED;

	return __atomic_compare_exchange_n(&slot->state, &asked, (__u32)to, 0, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

/* Context: any; pure. */
struct dcast_slot *dcast_free_slot(struct dcast_sender *s)
{
	unsigned int i;

	for (i = 0; i < s->nr_slots; i++)
		if (dcast_slot_state(&s->slots[i]) == DCAST_SLOT_IDLE && !s->slots[i].pending)
			return &s->slots[i];
	return NULL;
}

/* Context: any; must not allocate. */
static void dcast_job_name(struct dcast_sender *s, struct dcast_slot *slot,
			   unsigned int block_class, __u64 number, int named, int again)
{
	slot->block_class = (__u8)block_class;
	slot->number = number;
	slot->named = (__u8)named;
	slot->codec = (__u8)dcast_codec_pick(s, number, again);
	slot->taken_ns = 0;
	slot->lost = 0;
	slot->again = 0;
}

/* Context: any; must not allocate. */
static void dcast_job_count(struct dcast_sender *s, const struct dcast_slot *slot)
{
	if (slot->empty)
		return;
	s->stats.blocks++;
	s->stats.helped_blocks += slot->encoder != 0;
	s->stats.raw_bytes += slot->raw_len;
	s->stats.encoded_bytes += slot->len;
	s->stats.zero_pages += slot->zero_pages;
	s->stats.unreadable_pages += slot->unreadable_pages;
	dcast_codec_learn(s, slot);
}

/* Context: any; must not allocate. */
void dcast_job_ask(struct dcast_sender *s, struct dcast_slot *slot, unsigned int block_class,
		   __u64 number, int named)
{
	dcast_job_name(s, slot, block_class, number, named, s->pass > 1);
	dcast_slot_turn(slot, DCAST_SLOT_ASKED);
}

/* Context: any, also panic with interrupts off; must not allocate. */
void dcast_job_make(struct dcast_sender *s, struct dcast_slot *slot, unsigned int block_class,
		    __u64 number, int named, int again, const struct dcast_presence *bits)
{
	dcast_job_name(s, slot, block_class, number, named, again);
	dcast_encode_block(s, 0, slot, bits);
	dcast_digest_blocks(s, &slot, 1);
	dcast_job_count(s, slot);
}

/* Context: any, also panic with interrupts off; must not allocate. */
static int dcast_job_serve(struct dcast_sender *s, unsigned int encoder)
{
	const unsigned int most = s->rim.digests ? DCAST_MAX_ENCODINGS : 1;
	struct dcast_slot *taken[DCAST_MAX_ENCODINGS] = { NULL };
	unsigned int i, n = 0;

	for (i = 0; i < s->nr_slots && n < most; i++) {
		struct dcast_slot *slot = &s->slots[i];

		if (dcast_slot_state(slot) == DCAST_SLOT_ASKED &&
		    dcast_slot_take(slot, DCAST_SLOT_TAKEN)) {
			dcast_encode_block(s, encoder, slot, NULL);
			taken[n++] = slot;
		}
	}
	dcast_digest_blocks(s, taken, n);
	for (i = 0; i < n; i++)
		dcast_slot_turn(taken[i], DCAST_SLOT_MADE);
	return n != 0;
}

/* Context: any, also panic with interrupts off; must not allocate. */
int dcast_job_do(struct dcast_sender *s)
{
	return dcast_job_serve(s, 0);
}

/* Context: any, on any processor, also in an NMI; must not allocate, lock or wait. */
int dcast_sender_help(struct dcast_sender *s, unsigned int helper)
{
	return dcast_job_serve(s, helper);
}

/* Context: any; pure. */
int dcast_sender_wants_help(const struct dcast_sender *s)
{
	unsigned int i, asked = 0;

	for (i = 0; i < s->nr_slots; i++)
		asked += dcast_slot_state(&s->slots[i]) == DCAST_SLOT_ASKED;
	return asked * 2 >= s->nr_slots;
}

/* Context: any; must not allocate. */
struct dcast_slot *dcast_job_made(struct dcast_sender *s)
{
	unsigned int i;

	for (i = 0; i < s->nr_slots; i++) {
		struct dcast_slot *slot = &s->slots[i];

		if (dcast_slot_state(slot) != DCAST_SLOT_MADE)
			continue;
		dcast_slot_turn(slot, DCAST_SLOT_IDLE);
		if (slot->lost && !slot->again) /* another has made it */
			continue;
		slot->lost = 0;
		slot->again = 0;
		dcast_job_count(s, slot);
		return slot;
	}
	return NULL;
}

/* Context: any; must not allocate. */
void dcast_jobs_review(struct dcast_sender *s, __u64 now_ns)
{
	unsigned int i;

	for (i = 0; i < s->nr_slots; i++) {
		struct dcast_slot *slot = &s->slots[i], *other;

		if (dcast_slot_state(slot) != DCAST_SLOT_TAKEN)
			continue;
		if (!slot->taken_ns)
			slot->taken_ns = now_ns ? now_ns : 1;
		if (!slot->lost && now_ns >= slot->taken_ns + DCAST_HELP_NS) {
			slot->lost = 1;
			slot->again = 1;
			s->stats.helpers_lost++;
		}
		other = slot->again ? dcast_free_slot(s) : NULL;
		if (other) {
			slot->again = 0;
			dcast_job_ask(s, other, slot->block_class, slot->number, slot->named);
		}
	}
}

/* Context: any; pure. */
unsigned int dcast_jobs_open(const struct dcast_sender *s)
{
	unsigned int i, n = 0;

	for (i = 0; i < s->nr_slots; i++) {
		const struct dcast_slot *slot = &s->slots[i];

		n += dcast_slot_state(slot) != DCAST_SLOT_IDLE && (!slot->lost || slot->again);
	}
	return n;
}

/* Context: any; must not allocate. */
void dcast_jobs_drop(struct dcast_sender *s)
{
	unsigned int i;

	for (i = 0; i < s->nr_slots; i++) {
		struct dcast_slot *slot = &s->slots[i];

		slot->pending = 0;
		if (dcast_slot_take(slot, DCAST_SLOT_IDLE))
			continue;
		slot->lost = 1; /* matters only while it is with a helper */
		slot->again = 0;
	}
}
