// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The order in which blocks leave: class 0, then slice by slice the presence of the slice
 * and its class 1, then class 2 and class 3 of everything. The walk holds no list of
 * blocks; it looks at each window when it comes by.
 */
#include "kmod/core/sender_internal.h"

/* Context: any; pure. */
__u64 dcast_next_ram_window(const struct dcast_sender *s, __u64 window)
{
	const __u64 addr = window << DCAST_WINDOW_SHIFT;
	__u32 low = 0, high = s->nr_ranges;

	if (window >= s->window_end)
		return s->window_end;
	while (low < high) { /* first range that ends above addr */
		const __u32 mid = low + (high - low) / 2;

		if (dcast_le64(s->ranges[mid].end) > addr)
			high = mid;
		else
			low = mid + 1;
	}
	if (low == s->nr_ranges)
		return s->window_end;
	if (addr < dcast_le64(s->ranges[low].start))
		return dcast_le64(s->ranges[low].start) >> DCAST_WINDOW_SHIFT;
	return window;
}

/*
 * Bit c of the result: the window has a page of class c.
 * Context: any, also panic with interrupts off; must not fault.
 */
static unsigned int dcast_window_mask(struct dcast_sender *s, __u64 window)
{
	__u8 cls[DCAST_MAX_WINDOW_PAGES] = { 0 };
	unsigned int mask = 0, i;

	s->rim.window_classes(s->rim.ctx, window, cls);
	for (i = 0; i < s->window_pages; i++)
		mask |= 1u << (cls[i] & 3);
	return mask & ~1u;
}

/* Context: any; must not allocate. */
static void dcast_count_block(struct dcast_sender *s, unsigned int c, __u64 number)
{
	struct dcast_lane_sum *end = &s->end[dcast_block_lane(c, number, s->config.lanes)][c];

	end->blocks++;
	end->id_sum += dcast_id_mix(c, number);
	s->pass_total++;
}

/* Context: any, also panic with interrupts off; must not fault. */
static __u64 dcast_skip(const struct dcast_sender *s, __u64 window)
{
	return s->rim.skip ? s->rim.skip(s->rim.ctx, window) : window;
}

/* Context: any. */
static void dcast_coarse_set(struct dcast_sender *s, unsigned int c, __u64 window)
{
	const __u64 bit = window >> s->coarse_shift;

	s->coarse[c - 2][bit / 64] |= 1ull << (bit % 64);
}

/*
 * Smallest window from this one on whose coarse bit of class c is set, or window_end.
 * Context: any; bounded by the map.
 */
static __u64 dcast_coarse_next(const struct dcast_sender *s, unsigned int c, __u64 window)
{
	__u64 bit = window >> s->coarse_shift, word = s->coarse[c - 2][bit / 64] >> (bit % 64);

	if (word & 1)
		return window;
	while (!word) {
		bit = (bit / 64 + 1) * 64;
		if (bit << s->coarse_shift >= s->window_end)
			return s->window_end;
		word = s->coarse[c - 2][bit / 64];
	}
	return (bit + (unsigned int)__builtin_ctzll(word)) << s->coarse_shift;
}

/* Context: any, also panic with interrupts off; bounded by *windows. */
int dcast_presence_build(struct dcast_sender *s, struct dcast_presence_job *job, __u64 slice,
			 __u32 *windows, int count)
{
	const __u64 first = slice * DCAST_SLICE_WINDOWS;

	if (!job->active || job->slice != slice) {
		memset(job->bits, 0, sizeof(*job->bits));
		job->slice = slice;
		job->next = 0;
		job->active = 1;
	}
	while (job->next < DCAST_SLICE_WINDOWS) {
		const __u64 window = dcast_next_ram_window(s, first + job->next);
		unsigned int mask, c;
		__u64 next;
		__u32 w;

		if (window >= s->window_end || window - first >= DCAST_SLICE_WINDOWS) {
			job->next = DCAST_SLICE_WINDOWS;
			break;
		}
		if (!*windows)
			return 0;
		--*windows;
		next = dcast_skip(s, window);
		if (next > window) {
			job->next = next - first < DCAST_SLICE_WINDOWS ? (__u32)(next - first) :
									 DCAST_SLICE_WINDOWS;
			continue;
		}
		w = (__u32)(window - first);
		mask = dcast_window_mask(s, window);
		for (c = 1; c < DCAST_CLASSES; c++) {
			if (!(mask >> c & 1))
				continue;
			job->bits->bits[c - 1][w / 8] |= (__u8)(1u << (w % 8));
			if (c > 1)
				dcast_coarse_set(s, c, window);
			if (count)
				dcast_count_block(s, c, window);
		}
		job->next = w + 1;
	}
	return 1;
}

/* Context: any; must not allocate. */
void dcast_walk_start(struct dcast_sender *s)
{
	memset(&s->walk, 0, sizeof(s->walk));
	s->walk.stage = DCAST_WALK_STREAMS;
	s->walk_presence.active = 0;
	s->pass_done = 0;
}

/* Context: any; must not allocate. */
static enum dcast_walk_result dcast_walk_found(struct dcast_sender *s, unsigned int block_class,
					       __u64 number, int named)
{
	s->walk.found_class = (__u8)block_class;
	s->walk.found = number;
	s->walk.named = (__u8)named;
	return DCAST_WALK_BLOCK;
}

/* Next window of the slice whose class 1 presence bit is set, or the slice's end. */
static __u64 dcast_walk_core_window(const struct dcast_sender *s)
{
	const __u8 *bits = s->walk_presence.bits->bits[0];
	const __u64 first = s->walk.slice * DCAST_SLICE_WINDOWS;
	__u32 w = (__u32)(s->walk.number - first);

	while (w < DCAST_SLICE_WINDOWS) {
		if (bits[w / 8] >> (w % 8) & 1)
			break;
		w = bits[w / 8] >> (w % 8) ? w + 1 : (w / 8 + 1) * 8;
	}
	return first + w;
}

/* What opens a dump first, then what tells most. */
static const __u8 dcast_stream_order[] = {
	DCAST_STREAM_META,  DCAST_STREAM_KEYS,	 DCAST_STREAM_WHOLE_META, DCAST_STREAM_VMCOREINFO,
	DCAST_STREAM_NOTES, DCAST_STREAM_MEMMAP, DCAST_STREAM_LOG,
};

/* Context: any, also panic with interrupts off; bounded by *windows. */
enum dcast_walk_result dcast_walk_next(struct dcast_sender *s, __u32 *windows)
{
	struct dcast_walk *w = &s->walk;
	unsigned int stream;
	__u64 number;

	for (;;) {
		switch (w->stage) {
		case DCAST_WALK_STREAMS:
			if (w->stream == sizeof(dcast_stream_order)) {
				/* A verdict of the relays may stop the walk here. */
				w->stage = s->slices ? DCAST_WALK_PRESENCE : DCAST_WALK_END;
				w->slice = 0;
				return DCAST_WALK_AGAIN;
			}
			stream = dcast_stream_order[w->stream];
			if (w->number < dcast_stream_chunks(s, stream)) {
				number = dcast_class0_number(stream, w->number++);
				return dcast_walk_found(s, 0, number, 1);
			}
			w->stream++;
			w->number = 0;
			break;
		case DCAST_WALK_PRESENCE:
			if (!dcast_presence_build(s, &s->walk_presence, w->slice, windows,
						  s->pass == 1))
				return DCAST_WALK_AGAIN;
			w->stage = DCAST_WALK_CORE;
			w->number = w->slice * DCAST_SLICE_WINDOWS;
			if (w->slice + 1 == s->slices)
				s->total_known = 1;
			number = dcast_class0_number(DCAST_STREAM_PRESENCE, w->slice);
			return dcast_walk_found(s, 0, number, 1);
		case DCAST_WALK_CORE:
			w->number = dcast_walk_core_window(s);
			if (w->number < (w->slice + 1) * DCAST_SLICE_WINDOWS)
				return dcast_walk_found(s, 1, w->number++, 1);
			w->slice++;
			w->stage = DCAST_WALK_PRESENCE;
			if (w->slice == s->slices) {
				w->stage = DCAST_WALK_REST;
				w->block_class = 2;
				w->number = 0;
			}
			break;
		case DCAST_WALK_REST:
			if (w->number < s->window_end)
				w->number = dcast_coarse_next(s, w->block_class, w->number);
			w->number = dcast_next_ram_window(s, w->number);
			if (w->number < s->window_end) {
				if (!*windows)
					return DCAST_WALK_AGAIN;
				--*windows;
				number = dcast_skip(s, w->number);
				if (number == w->number)
					return dcast_walk_found(s, w->block_class, w->number++, 0);
				w->number = number;
				break;
			}
			w->number = 0;
			if (++w->block_class == DCAST_CLASSES)
				w->stage = DCAST_WALK_END;
			break;
		default:
			return DCAST_WALK_DONE;
		}
	}
}
