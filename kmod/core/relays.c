// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The relay table, admission verdicts and commits. */
#include "kmod/core/sender_internal.h"

#define DCAST_RELAY_FORGET_NS (60000 * DCAST_MS)

/* Context: any; pure. */
static __u64 dcast_relay_last_heard(const struct dcast_sender *s,
				    const struct dcast_relay_info *relay)
{
	__u64 last = 0;
	unsigned int p;

	for (p = 0; p < s->config.paths; p++)
		if (relay->heard_ns[p] > last)
			last = relay->heard_ns[p];
	return last;
}

/* Context: any; must not allocate. */
static struct dcast_relay_info *dcast_relay_clear(struct dcast_sender *s, unsigned int i, __u64 id)
{
	memset(&s->relays[i], 0, sizeof(s->relays[i]));
	s->relays[i].id = id;
	s->relays[i].verdict = DCAST_VERDICT_NONE;
	s->relays[i].lacking_seen = 1; /* what it tells that lacks nothing */
	s->wait_until_ns[i] = 0;
	return &s->relays[i];
}

/*
 * The relay's entry, a new one when it was not known; NULL when the table is full of relays
 * that are alive or have committed. A restarted relay has a new id, so that the entry of one
 * long silent is given up. Context: any; must not allocate; bounded by the table.
 */
struct dcast_relay_info *dcast_relay_find(struct dcast_sender *s, __u64 id, __u64 now_ns)
{
	unsigned int i, oldest = DCAST_MAX_RELAYS;

	for (i = 0; i < s->nr_relays; i++)
		if (s->relays[i].id == id)
			return &s->relays[i];
	if (s->nr_relays < DCAST_MAX_RELAYS)
		return dcast_relay_clear(s, s->nr_relays++, id);
	for (i = 0; i < DCAST_MAX_RELAYS; i++) {
		const struct dcast_relay_info *relay = &s->relays[i];

		if (!relay->commit_mask &&
		    dcast_relay_last_heard(s, relay) + DCAST_RELAY_FORGET_NS < now_ns &&
		    (oldest == DCAST_MAX_RELAYS ||
		     dcast_relay_last_heard(s, relay) <
			     dcast_relay_last_heard(s, &s->relays[oldest])))
			oldest = i;
	}
	if (oldest < DCAST_MAX_RELAYS)
		return dcast_relay_clear(s, oldest, id);
	s->stats.relay_table_full++;
	return NULL;
}

/*
 * Context: process or panic; src may belong to a stopped CPU and be half written, so its
 * fields are taken one by one and made harmless.
 */
void dcast_sender_adopt_relays(struct dcast_sender *s, const struct dcast_sender *src)
{
	unsigned int n = src->nr_relays, i, p;

	if (n > DCAST_MAX_RELAYS)
		n = DCAST_MAX_RELAYS;
	for (i = 0; i < n; i++) {
		const struct dcast_relay_info *from = &src->relays[i];
		struct dcast_relay_info *to;

		if (!from->id)
			continue;
		to = dcast_relay_find(s, from->id, 1);
		if (!to)
			return;
		to->last_seq = from->last_seq;
		to->lane_mask = from->lane_mask;
		to->pace_kib_s = from->pace_kib_s;
		/* "Some time before": src may have run on another clock. */
		for (p = 0; p < s->config.paths; p++)
			to->heard_ns[p] = from->heard_ns[p] != 0;
		memcpy(to->name, from->name, sizeof(to->name));
		to->name[sizeof(to->name) - 1] = 0;
	}
}

/* Context: any; pure. */
int dcast_heard_in_dump(const struct dcast_sender *s)
{
	return s->phase != DCAST_PHASE_ARMED && s->heard_ns != 0;
}

/* Context: any; pure. */
int dcast_way_back(const struct dcast_sender *s, __u64 now_ns)
{
	return dcast_heard_in_dump(s) || (s->nr_relays && now_ns < s->begin_ns + DCAST_WAY_BACK_NS);
}

/* Context: any; bounded by the table. */
int dcast_verdict_open(const struct dcast_sender *s, __u64 now_ns)
{
	unsigned int i;

	if (s->verdict != DCAST_ADMIT_LOG_ONLY || now_ns >= s->begin_ns + DCAST_WAY_BACK_NS)
		return 0;
	for (i = 0; i < s->nr_relays; i++)
		if (s->relays[i].verdict == DCAST_VERDICT_NONE)
			return 1;
	return 0;
}

/* Context: any; pure. */
unsigned int dcast_commits_wanted(const struct dcast_sender *s)
{
	if (s->config.commits_wanted)
		return s->config.commits_wanted;
	return s->nr_relays >= 2 ? 2 : 1;
}

/* Context: any; bounded by lanes times relays. */
int dcast_sender_committed(const struct dcast_sender *s)
{
	unsigned int lane, i;

	if (s->phase == DCAST_PHASE_ARMED)
		return 0;
	for (lane = 0; lane < s->config.lanes; lane++) {
		unsigned int have = 0, could = 0, wanted = s->config.commits_wanted;

		for (i = 0; i < s->nr_relays; i++) {
			have += s->relays[i].commit_mask >> lane & 1;
			could += (s->relays[i].lane_mask | s->relays[i].commit_mask) >> lane & 1;
		}
		if (!wanted)
			wanted = could >= 2 ? 2 : 1;
		if (have < wanted)
			return 0;
	}
	return 1;
}

enum dcast_verdict dcast_sender_verdict(const struct dcast_sender *s, __u64 now_ns, __u64 *wait_ns)
{
	*wait_ns = s->verdict == DCAST_ADMIT_WAIT && s->verdict_ns > now_ns ?
			   s->verdict_ns - now_ns :
			   0;
	return (enum dcast_verdict)s->verdict;
}

/*
 * The most generous answer wins and silence says nothing: FULL when any relay says so, when
 * a WAIT has expired, or when none has answered; WAIT until the first WAIT expires;
 * LOG_ONLY when every relay that answered says so. Context: any; bounded by the table.
 */
void dcast_verdict_review(struct dcast_sender *s, __u64 now_ns)
{
	__u32 verdict = DCAST_VERDICT_NONE;
	__u64 until = DCAST_NEVER;
	unsigned int i;

	for (i = 0; i < s->nr_relays; i++) {
		__u32 v = s->relays[i].verdict;

		if (v == DCAST_ADMIT_WAIT && now_ns >= s->wait_until_ns[i])
			v = DCAST_ADMIT_FULL;
		if (v == DCAST_ADMIT_WAIT && s->wait_until_ns[i] < until)
			until = s->wait_until_ns[i];
		if (v < verdict) /* FULL < WAIT < LOG_ONLY < NONE */
			verdict = v;
	}
	if (verdict == DCAST_VERDICT_NONE)
		verdict = DCAST_ADMIT_FULL;
	/* What was committed of the log alone is no commit of the memory. */
	if (s->verdict == DCAST_ADMIT_LOG_ONLY && verdict != DCAST_ADMIT_LOG_ONLY)
		for (i = 0; i < s->nr_relays; i++)
			s->relays[i].commit_mask = 0;
	s->verdict = verdict;
	s->verdict_ns = s->verdict == DCAST_ADMIT_WAIT ? until : DCAST_NEVER;
}
