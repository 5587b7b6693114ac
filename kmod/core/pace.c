// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Token bucket. It runs at the pace of the k-th fastest relay, k being the commits wanted:
 * one slow relay does not hold the dump, and enough relays can keep up.
 */
#include "kmod/core/sender_internal.h"

#define DCAST_PACE_MAX_KIB    (1u << 28)
#define DCAST_PACE_MAX_GAP_NS 10000000000ull
#define DCAST_PACE_REVIEW_NS  (100 * DCAST_MS)
#define DCAST_PACE_BURST      32 /* packets, at least */

/*
 * Pace of one relay in terms of symbols sent once: in mirror mode it hears each of them on
 * every path that reaches it. 0: no limit. Context: any; pure.
 */
static __u32 dcast_relay_pace(const struct dcast_sender *s, const struct dcast_relay_info *relay)
{
	unsigned int copies = 0, p;

	if (s->config.mode == DCAST_STRIPE || !relay->pace_kib_s)
		return relay->pace_kib_s;
	for (p = 0; p < s->config.paths; p++)
		copies += relay->heard_ns[p] != 0;
	if (copies > 1 && relay->pace_kib_s >= copies)
		return relay->pace_kib_s / copies;
	return relay->pace_kib_s;
}

/* Context: any; pure. */
int dcast_relay_counts(const struct dcast_sender *s, const struct dcast_relay_info *relay,
		       __u64 now_ns)
{
	unsigned int p;

	if (!dcast_heard_in_dump(s))
		return 1;
	for (p = 0; p < s->config.paths; p++)
		if (relay->heard_ns[p] >= s->begin_ns &&
		    relay->heard_ns[p] + DCAST_PACE_AGE_NS > now_ns)
			return 1;
	return 0;
}

/*
 * Pace of the k-th fastest relay, of the slowest when there are fewer; 0: no limit.
 * Context: any; bounded by the relay table.
 */
static __u32 dcast_kth_pace(const struct dcast_sender *s, __u64 now_ns)
{
	unsigned int wanted = dcast_commits_wanted(s), i;
	__u64 taken = 0; /* mask of relays */
	__u32 pace = 0;

	while (wanted--) {
		int best = -1;

		for (i = 0; i < s->nr_relays; i++) {
			/* No limit is the fastest: 0 - 1 is the largest number. */
			if (!(taken >> i & 1) && dcast_relay_counts(s, &s->relays[i], now_ns) &&
			    (best < 0 || dcast_relay_pace(s, &s->relays[i]) - 1 >
						 dcast_relay_pace(s, &s->relays[best]) - 1))
				best = (int)i;
		}
		if (best < 0)
			break;
		taken |= 1ull << best;
		pace = dcast_relay_pace(s, &s->relays[best]);
	}
	return pace;
}

/* Context: any; must not allocate. */
void dcast_pace_review(struct dcast_sender *s, __u64 now_ns)
{
	struct dcast_pace_state *pace = &s->pace;
	const __u32 packet = sizeof(struct dcast_hdr) + s->config.symbol_size;
	__u64 kib = s->config.rate_kib_s;
	const __u32 relays = dcast_kth_pace(s, now_ns);

	if (s->config.mode == DCAST_STRIPE) {
		const unsigned int live = dcast_popcount(dcast_paths_usable(s, now_ns));

		kib *= live ? live : 1;
	}
	if (relays && (!kib || relays < kib))
		kib = relays;
	pace->kib_s = kib > DCAST_PACE_MAX_KIB ? DCAST_PACE_MAX_KIB : (__u32)kib;
	pace->burst = DCAST_PACE_BURST * packet;
	if (pace->burst < 2ull * pace->kib_s) /* 2 ms */
		pace->burst = 2ull * pace->kib_s;
	pace->review_ns = now_ns + DCAST_PACE_REVIEW_NS;
}

/* Context: any; must not allocate. */
void dcast_pace_init(struct dcast_sender *s, __u64 now_ns)
{
	memset(&s->pace, 0, sizeof(s->pace));
	s->pace.filled_ns = now_ns;
	dcast_pace_review(s, now_ns);
	s->pace.credit = s->pace.burst * DCAST_PACE_BYTE;
}

/* Context: any; pure. */
static __u64 dcast_pace_need(const struct dcast_sender *s)
{
	return (sizeof(struct dcast_hdr) + s->config.symbol_size) * DCAST_PACE_BYTE;
}

/* True when a full packet may leave now. Context: any; must not allocate. */
int dcast_pace_ready(struct dcast_sender *s, __u64 now_ns)
{
	struct dcast_pace_state *pace = &s->pace;
	const __u64 full = pace->burst * DCAST_PACE_BYTE;
	__u64 gap = now_ns > pace->filled_ns ? now_ns - pace->filled_ns : 0;

	if (now_ns >= pace->review_ns)
		dcast_pace_review(s, now_ns);
	if (gap > DCAST_PACE_MAX_GAP_NS)
		gap = DCAST_PACE_MAX_GAP_NS;
	pace->credit += gap * 2 * pace->kib_s;
	if (pace->credit > full)
		pace->credit = full;
	pace->filled_ns = now_ns;
	return !pace->kib_s || pace->credit >= dcast_pace_need(s);
}

/* Context: any; must not allocate. */
void dcast_pace_spend(struct dcast_sender *s, __u32 bytes)
{
	const __u64 cost = bytes * DCAST_PACE_BYTE;

	s->pace.credit = s->pace.credit > cost ? s->pace.credit - cost : 0;
}

/* When a full packet may leave. Context: any; pure. */
__u64 dcast_pace_wake(const struct dcast_sender *s)
{
	const __u64 need = dcast_pace_need(s);

	if (!s->pace.kib_s || s->pace.credit >= need)
		return s->pace.filled_ns;
	return s->pace.filled_ns + (need - s->pace.credit) / (2ull * s->pace.kib_s) + 1;
}
