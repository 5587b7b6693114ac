// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * What relays asked for, oldest first. Bounded: what does not fit is dropped and counted,
 * relays ask again. Requests for the same block are joined, so that three relays that
 * missed one block cost one answer.
 */
#include "kmod/core/sender_internal.h"

/* Context: any; pure. */
static struct dcast_nak_item *dcast_nak_at(struct dcast_nak_queue *q, __u32 i)
{
	return &q->items[(q->head + i) % DCAST_NAK_QUEUE];
}

/*
 * True when item now asks for [number, number + count) as well.
 * Context: any; must not allocate.
 */
static int dcast_nak_join(struct dcast_nak_item *item, unsigned int block_class, __u64 number,
			  __u32 count, __u64 digest, __u64 mask)
{
	const __u64 item_end = item->number + item->count;
	const __u64 end = number + count;
	__u64 low, high;

	if (item->block_class != block_class)
		return 0;
	if (item->digest && digest) {
		if (item->number != number)
			return 0;
		item->mask |= mask;
		if (item->digest != digest) /* one snapshot serves both encodings' holders */
			item->digest = 0;
		return 1;
	}
	if (digest) { /* whole blocks are on their way, also this one? */
		if (number < item->number || number >= item_end)
			return 0;
		if (item->count == 1)
			item->mask |= mask;
		return 1;
	}
	if (item->digest) {
		if (item->number < number || item->number >= end)
			return 0;
		item->digest = 0;
	} else if (number > item_end || end < item->number) {
		return 0;
	}
	low = number < item->number ? number : item->number;
	high = end > item_end ? end : item_end;
	if (high - low > 0xffffffffull)
		return 0;
	item->number = low;
	item->count = (__u32)(high - low);
	item->mask = item->count == 1 ? item->mask | mask : 0;
	return 1;
}

/* Context: any; must not allocate; bounded by the queue's length. */
void dcast_nak_push(struct dcast_sender *s, unsigned int block_class, __u64 number, __u32 count,
		    __u64 digest, __u64 mask)
{
	struct dcast_nak_queue *q = &s->naks;
	struct dcast_nak_item *item;
	__u32 i;

	for (i = 0; i < q->used; i++)
		if (dcast_nak_join(dcast_nak_at(q, i), block_class, number, count, digest, mask))
			return;
	if (q->used == DCAST_NAK_QUEUE) {
		s->stats.nak_dropped++;
		return;
	}
	item = dcast_nak_at(q, q->used++);
	item->number = number;
	item->count = count;
	item->digest = digest;
	item->mask = mask;
	item->block_class = (__u8)block_class;
}

/* Context: any; must not allocate. */
int dcast_nak_peek(const struct dcast_sender *s, struct dcast_nak_item *item)
{
	if (!s->naks.used)
		return 0;
	*item = s->naks.items[s->naks.head];
	return 1;
}

/* Takes the first block of the oldest item. Context: any; must not allocate. */
void dcast_nak_pop(struct dcast_sender *s)
{
	struct dcast_nak_queue *q = &s->naks;
	struct dcast_nak_item *item = &q->items[q->head];

	if (!q->used)
		return;
	if (item->count > 1) {
		item->number++;
		item->count--;
		return;
	}
	q->head = (q->head + 1) % DCAST_NAK_QUEUE;
	q->used--;
}
