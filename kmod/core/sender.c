// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Phases, timers, and one step: at most one block into a slot, then packets out. */
#include "kmod/core/sender_internal.h"

/* Context: any; pure. */
static unsigned int dcast_busy_slots(const struct dcast_sender *s)
{
	unsigned int i, busy = 0;

	for (i = 0; i < s->nr_slots; i++)
		busy += s->slots[i].pending != 0;
	return busy;
}

/* Context: any; pure. */
int dcast_outgoing(const struct dcast_sender *s)
{
	return s->out.kind != DCAST_OUT_NONE || s->empty_pending || dcast_busy_slots(s);
}

/* Nothing is on its way out, or will be. Context: any; pure. */
static int dcast_idle(const struct dcast_sender *s)
{
	return !dcast_outgoing(s) && !dcast_jobs_open(s);
}

/* Context: any; must not allocate. */
static void dcast_say(struct dcast_sender *s, __u64 now_ns, unsigned int state, unsigned int copies)
{
	s->announce_state = (__u8)state;
	s->announce_copies = (__u8)copies;
	s->announce_ns = now_ns;
}

/* Context: any; must not allocate. */
static void dcast_out_begin(struct dcast_sender *s, unsigned int kind, unsigned int lane,
			    __u64 now_ns)
{
	memset(&s->out, 0, sizeof(s->out));
	s->out.kind = (__u8)kind;
	s->out.lane = (__u8)lane;
	s->out.paths = (__u8)dcast_paths_usable(s, now_ns);
}

/* Context: any; must not allocate. */
static void dcast_pick_symbol(struct dcast_sender *s, __u64 now_ns)
{
	unsigned int i;

	for (i = 0; i < s->nr_slots; i++) {
		const unsigned int at = (s->next_slot + i) % s->nr_slots;
		struct dcast_slot *slot = &s->slots[at];

		if (!slot->pending)
			continue;
		dcast_out_begin(s, DCAST_OUT_SYMBOL, slot->lane, now_ns);
		s->out.slot = (__u8)at;
		s->out.index = (__u8)__builtin_ctzll(slot->pending);
		s->next_slot = (__u8)((at + 1) % s->nr_slots);
		if (s->out.index >= slot->k)
			s->stats.parity_symbols++;
		if (slot->flags & DCAST_F_REPEAT)
			s->stats.repeat_symbols++;
		return;
	}
}

/* Time to the next ANNOUNCE of the present state, 0: none. Context: any; pure. */
static __u64 dcast_announce_period(const struct dcast_sender *s)
{
	switch (s->announce_state) {
	case DCAST_ST_ARMED:
		return s->config.heartbeat_ms * DCAST_MS;
	case DCAST_ST_DUMPING:
	case DCAST_ST_LINGER:
		return DCAST_PROGRESS_NS;
	default:
		return 0;
	}
}

/* Chooses what leaves next. False when nothing may leave now. Context: any. */
static int dcast_pick(struct dcast_sender *s, __u64 now_ns)
{
	if (s->announce_copies && now_ns >= s->announce_ns) {
		const __u64 period = dcast_announce_period(s);
		const int hurry = s->announce_state == DCAST_ST_GOODBYE;

		dcast_out_begin(s, DCAST_OUT_ANNOUNCE, 0, now_ns);
		s->announce_ns = --s->announce_copies ? now_ns + (hurry ? 0 : DCAST_COPY_NS) :
				 period		      ? now_ns + period :
							DCAST_NEVER;
		return 1;
	}
	if (s->end_lane < s->config.lanes) {
		dcast_out_begin(s, DCAST_OUT_END, s->end_lane++, now_ns);
		return 1;
	}
	if ((!s->empty_pending && !dcast_busy_slots(s)) || !dcast_pace_ready(s, now_ns))
		return 0;
	if (s->empty_pending) {
		dcast_out_begin(s, DCAST_OUT_EMPTY,
				dcast_block_lane(s->empty_class, s->empty_number, s->config.lanes),
				now_ns);
		s->out.block_class = s->empty_class;
		s->out.number = s->empty_number;
		s->empty_pending = 0;
	} else {
		dcast_pick_symbol(s, now_ns);
	}
	dcast_pace_spend(s, dcast_out_len(s));
	s->codec.step_bytes += dcast_out_len(s);
	return 1;
}

/* Out has left. True when that made a slot free. Context: any; must not allocate. */
static int dcast_out_done(struct dcast_sender *s)
{
	int freed = 0;

	if (s->out.kind == DCAST_OUT_SYMBOL) {
		struct dcast_slot *slot = &s->slots[s->out.slot];

		slot->pending &= ~(1ull << s->out.index);
		freed = !slot->pending;
	}
	s->out.kind = DCAST_OUT_NONE;
	return freed;
}

/* Context: any; must not allocate. */
static void dcast_finish(struct dcast_sender *s, __u64 now_ns)
{
	dcast_jobs_drop(s);
	s->naks.used = 0;
	s->empty_pending = 0;
	s->out.kind = DCAST_OUT_NONE;
	s->end_lane = s->config.lanes;
	s->phase = DCAST_PHASE_LINGER;
	s->finishing = 1;
	dcast_say(s, now_ns, DCAST_ST_DONE, 3);
}

/* Context: any; must not allocate. */
static void dcast_send_end(struct dcast_sender *s, __u64 now_ns)
{
	/* Who has not walked has nothing to sum up. */
	s->end_lane = s->pass ? 0 : s->config.lanes;
	s->end_ns = now_ns + DCAST_END_NS;
	s->meta_ns = now_ns + DCAST_META_NS;
	dcast_nak_push(s, 0, dcast_class0_number(DCAST_STREAM_META, 0), 1, 0, 0);
}

/* Context: any; must not allocate. */
static void dcast_enter_linger(struct dcast_sender *s, __u64 now_ns)
{
	s->phase = DCAST_PHASE_LINGER;
	s->linger_start_ns = now_ns;
	s->last_reply_ns = now_ns;
	dcast_send_end(s, now_ns);
	dcast_say(s, now_ns, DCAST_ST_LINGER, 1);
}

/* How many passes there are without an answer. Context: any; pure. */
static __u32 dcast_passes(const struct dcast_sender *s)
{
	return s->config.blind_passes + !s->continues;
}

/* Context: any; pure. */
int dcast_sender_unanswered(const struct dcast_sender *s)
{
	return s->phase == DCAST_PHASE_LINGER && s->pass >= dcast_passes(s) && dcast_walk_over(s) &&
	       !dcast_heard_in_dump(s);
}

/* Context: any; must not allocate. */
static void dcast_linger(struct dcast_sender *s, __u64 now_ns)
{
	const int quiet = dcast_idle(s) && !s->naks.used && s->end_lane == s->config.lanes;
	const int deaf = !dcast_heard_in_dump(s);
	const __u64 patience = s->pass ? DCAST_BLIND_LINGER_NS : s->config.linger_ns;

	if (dcast_sender_committed(s) && !dcast_verdict_open(s, now_ns)) {
		dcast_finish(s, now_ns);
	} else if (!dcast_walk_over(s)) { /* a relay came that wants it in full */
		s->phase = s->pass == 1 ? DCAST_PHASE_WALK : DCAST_PHASE_PASS;
		dcast_say(s, now_ns, DCAST_ST_DUMPING, 1);
	} else if (quiet && deaf && s->pass < dcast_passes(s) &&
		   ((s->pass && !s->nr_relays) || now_ns >= s->linger_start_ns + patience)) {
		s->pass++;
		s->phase = DCAST_PHASE_PASS;
		dcast_walk_start(s);
		dcast_say(s, now_ns, DCAST_ST_DUMPING, 1);
	} else if (quiet && now_ns >= s->last_reply_ns + s->config.linger_ns) {
		dcast_finish(s, now_ns);
	} else if (now_ns >= s->end_ns) {
		dcast_send_end(s, now_ns);
	}
}

/* What is due by time. Context: any; must not allocate. */
static void dcast_timers(struct dcast_sender *s, __u64 now_ns)
{
	const __u64 limit = s->config.time_limit_ns;

	if (!s->announce_copies && now_ns >= s->announce_ns)
		s->announce_copies = 1;
	if (s->phase == DCAST_PHASE_ARMED || s->phase == DCAST_PHASE_DONE)
		return;
	if (s->finishing) {
		if (!s->announce_copies && s->out.kind == DCAST_OUT_NONE)
			s->phase = DCAST_PHASE_DONE;
		return;
	}
	if (now_ns >= s->verdict_ns)
		dcast_verdict_review(s, now_ns);
	if (limit && now_ns >= s->begin_ns + limit) {
		dcast_finish(s, now_ns);
		return;
	}
	if (s->phase == DCAST_PHASE_LINGER) {
		dcast_linger(s, now_ns);
		return;
	}
	/* Once relays are heard, they ask for what they miss. */
	if (s->phase == DCAST_PHASE_PASS && dcast_heard_in_dump(s))
		s->walk.stage = DCAST_WALK_END;
	if (now_ns >= s->meta_ns) {
		s->meta_ns = now_ns + DCAST_META_NS;
		dcast_nak_push(s, 0, dcast_class0_number(DCAST_STREAM_META, 0), 1, 0, 0);
	}
	if (dcast_walk_over(s) && dcast_idle(s))
		dcast_enter_linger(s, now_ns);
}

/* Context: any; pure. */
static __u64 dcast_next_wake(struct dcast_sender *s, __u64 now_ns, enum dcast_fill fill,
			     int blocked)
{
	const __u64 limit = s->config.time_limit_ns;
	__u64 wake = s->announce_ns, at;

	if (s->phase == DCAST_PHASE_DONE)
		return DCAST_NEVER;
	if (blocked) { /* also for an ANNOUNCE that is due */
		wake = dcast_paths_wake(s);
	} else if (dcast_busy_slots(s) || s->empty_pending) {
		at = dcast_pace_wake(s);
		wake = at < wake ? at : wake;
	}
	if (s->phase == DCAST_PHASE_ARMED)
		return wake;
	if (s->finishing)
		return s->announce_copies || blocked ? wake : now_ns;
	if (fill > DCAST_FILL_WAIT && dcast_free_slot(s) && !s->empty_pending)
		return now_ns;
	if (!blocked && dcast_jobs_open(s)) /* made any moment */
		return now_ns;
	wake = s->verdict_ns < wake ? s->verdict_ns : wake;
	at = limit ? s->begin_ns + limit : DCAST_NEVER;
	wake = at < wake ? at : wake;
	if (s->phase == DCAST_PHASE_LINGER) {
		at = s->last_reply_ns + s->config.linger_ns;
		wake = at < wake && at > now_ns ? at : wake;
		at = s->end_ns;
	} else {
		/* The pass may have ended with this step's last packet. */
		at = dcast_walk_over(s) && dcast_idle(s) ? now_ns : s->meta_ns;
	}
	return at < wake ? at : wake;
}

/* Context: any. */
static __u64 dcast_clock(const struct dcast_sender *s)
{
	return s->rim.clock_ns ? s->rim.clock_ns(s->rim.ctx) : 0;
}

/* Context: any, also panic with interrupts off; bounded; must not allocate or sleep. */
unsigned int dcast_sender_step(struct dcast_sender *s, __u64 now_ns)
{
	unsigned int limit = DCAST_STEP_PACKETS, sent = 0;
	enum dcast_fill fill;
	int blocked = 0, held = 0;
	__u64 began;

	dcast_timers(s, now_ns);
	fill = dcast_fill(s, now_ns);
	began = dcast_clock(s);
	/* While slots are still being filled, one round of symbols keeps them interleaved. */
	if (fill > DCAST_FILL_WAIT && dcast_free_slot(s))
		limit = (dcast_busy_slots(s) + 1) * s->config.paths;
	if (limit > DCAST_STEP_PACKETS)
		limit = DCAST_STEP_PACKETS;
	while (sent + s->config.paths <= limit) {
		if (s->out.kind == DCAST_OUT_NONE && !dcast_pick(s, now_ns)) {
			held = dcast_outgoing(s); /* by its pace */
			break;
		}
		if (!dcast_out_serve(s, now_ns, &sent)) {
			blocked = 1;
			break;
		}
		if (dcast_out_done(s) && fill != DCAST_FILL_NONE)
			break;
	}
	dcast_codec_stepped(s, now_ns, dcast_clock(s) - began, blocked || held);
	s->wake_ns = dcast_next_wake(s, now_ns, fill, blocked);
	return sent;
}

/* Leaves what an encrypted dump shows everybody. Context: any; pure. */
static void dcast_meta_least(struct dcast_meta *meta)
{
	meta->flags |= dcast_to_le64(DCAST_META_ENCRYPTED);
	meta->page_offset = 0;
	meta->text_vaddr = 0;
	meta->text_paddr = 0;
	meta->text_bytes = 0;
	meta->vmemmap_vaddr = 0;
	meta->crash_cpu = 0;
	memset(meta->reason, 0, sizeof(meta->reason));
}

/* Context: any; must not allocate. */
void dcast_sender_begin(struct dcast_sender *s, __u64 now_ns, const struct dcast_range *ranges,
			__u32 nr_ranges, const struct dcast_meta *meta, __u8 flags)
{
	unsigned int stream;
	__u64 chunk;
	__u32 i;

	s->phase = DCAST_PHASE_WALK;
	s->begin_ns = now_ns;
	s->dump_flags = flags & (DCAST_F_LIVE | DCAST_F_TEST);
	s->ranges = ranges;
	s->nr_ranges = nr_ranges;
	s->memory_bytes = 0;
	s->window_end = 0;
	for (i = 0; i < nr_ranges; i++) {
		const __u64 end = dcast_le64(ranges[i].end);
		const __u64 windows = (end + DCAST_WINDOW_BYTES - 1) >> DCAST_WINDOW_SHIFT;

		s->memory_bytes += end - dcast_le64(ranges[i].start);
		if (windows > s->window_end)
			s->window_end = windows;
	}
	s->slices = (s->window_end + DCAST_SLICE_WINDOWS - 1) / DCAST_SLICE_WINDOWS;
	s->coarse_shift = 0;
	while (s->window_end >> s->coarse_shift >= DCAST_COARSE_BITS)
		s->coarse_shift++;
	memset(s->coarse[0], 0, DCAST_COARSE_BITS / 8);
	memset(s->coarse[1], 0, DCAST_COARSE_BITS / 8);

	memcpy(&s->meta, meta, sizeof(s->meta));
	s->meta.size = dcast_to_le32(sizeof(s->meta));
	s->meta.page_shift = s->config.page_shift;
	s->meta.dump_level = s->config.dump_level;
	s->meta.lanes = dcast_to_le32(s->config.lanes);
	s->meta.symbol_size = dcast_to_le32(s->config.symbol_size);
	s->meta.window_end = dcast_to_le64(s->window_end);
	s->meta.stream_len[DCAST_STREAM_META] = dcast_to_le64(sizeof(s->meta));
	s->meta.stream_len[DCAST_STREAM_MEMMAP] = dcast_to_le64((__u64)nr_ranges * sizeof(*ranges));
	s->meta.stream_len[DCAST_STREAM_PRESENCE] =
		dcast_to_le64(s->slices * sizeof(struct dcast_presence));
	if (s->config.secrets->encrypted)
		s->meta.stream_len[DCAST_STREAM_WHOLE_META] = dcast_to_le64(sizeof(s->meta));
	else
		s->meta.stream_len[DCAST_STREAM_WHOLE_META] = 0;
	s->public_meta = s->meta;
	if (s->config.secrets->encrypted)
		dcast_meta_least(&s->public_meta);

	s->pass = 1;
	s->parity_percent = s->config.parity_percent;
	s->parity_wait = 1;
	s->parity_review_ns = now_ns + DCAST_PARITY_REVIEW_NS;
	for (i = 0; i < s->nr_relays; i++) {
		s->relays[i].lacking = 0;
		s->relays[i].lacking_seen = 1;
	}
	memset(s->end, 0, sizeof(s->end));
	s->pass_total = 0;
	s->total_known = s->slices == 0;
	for (stream = 0; stream < DCAST_STREAMS; stream++) {
		for (chunk = 0; chunk < dcast_stream_chunks(s, stream); chunk++) {
			s->end[0][0].blocks++;
			s->end[0][0].id_sum += dcast_id_mix(0, dcast_class0_number(stream, chunk));
			s->pass_total++;
		}
	}
	dcast_walk_start(s);
	s->heard_ns = 0;
	s->end_lane = s->config.lanes;
	s->meta_ns = now_ns + DCAST_META_NS;
	dcast_verdict_review(s, now_ns);
	dcast_pace_init(s, now_ns);
	dcast_say(s, now_ns, DCAST_ST_DUMPING, 3);
	s->wake_ns = now_ns;
}

/* Context: any; must not allocate. */
void dcast_sender_continue(struct dcast_sender *s, __u64 now_ns)
{
	s->continues = 1;
	s->pass = 0;
	s->walk.stage = DCAST_WALK_END;
	dcast_enter_linger(s, now_ns);
	dcast_say(s, now_ns, DCAST_ST_LINGER, 3);
}

/* Context: any; must not allocate. */
void dcast_sender_renew(struct dcast_sender *s, const __u8 dump_id[DCAST_ID_BYTES])
{
	if (s->phase != DCAST_PHASE_ARMED)
		return;
	memcpy(s->config.dump_id, dump_id, DCAST_ID_BYTES);
	s->announce_ns = 0;
	s->wake_ns = 0;
}

/* Context: any; must not allocate. */
void dcast_sender_stop(struct dcast_sender *s, __u64 now_ns)
{
	if (s->phase == DCAST_PHASE_ARMED || s->phase == DCAST_PHASE_DONE || s->finishing)
		return;
	dcast_finish(s, now_ns);
	s->wake_ns = now_ns;
}

/* Context: any; must not allocate. */
void dcast_sender_goodbye(struct dcast_sender *s, __u64 now_ns)
{
	if (s->phase != DCAST_PHASE_ARMED)
		return;
	dcast_say(s, now_ns, DCAST_ST_GOODBYE, 3);
	s->wake_ns = now_ns;
}
