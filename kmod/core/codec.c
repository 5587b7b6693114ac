// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Which codec makes the dump shortest. Three things take their time for each KiB of memory:
 * encoding it, which every processor can do; handing its packets over, which one does; and
 * the network. What each costs is measured while the dump runs, and the codec is used for which the
 * slowest of the three is the fastest.
 */
#include "kmod/core/sender_internal.h"

#define DCAST_CODEC_SAMPLE (128u << 10) /* raw bytes before a codec's cost is believed */
/*
 * Raw bytes, at which what was measured is halved: of what is in use, and of what is only tried. Memory
 * changes its nature within a few MiB: what does not compress would have all that follows sent as it is.
 */
#define DCAST_CODEC_FORGET	 (512u << 10)
#define DCAST_CODEC_FORGET_TRIED (2 * DCAST_CODEC_SAMPLE)
/* Blocks, of which each codec gets one; and LZ4, which costs little either way, one of so many. */
#define DCAST_CODEC_TURNS     128
#define DCAST_CODEC_LZ4_TURNS 16
#define DCAST_CODEC_WINDOW    (20 * DCAST_MS)
#define DCAST_CODEC_FAIR_NS   (50 * DCAST_MS) /* a step that took longer was not the work's */

/* ns for a KiB of memory that is encoded by codec c. Context: any; pure. */
static __u64 dcast_codec_time(const struct dcast_sender *s, unsigned int c)
{
	const struct dcast_codec_state *state = &s->codec;
	const struct dcast_codec_cost *cost = &state->cost[c];
	const __u64 lost = s->stats.helpers_lost;
	const __u64 processors = 1 + (lost < s->config.helpers ? s->config.helpers - lost : 0);
	const __u64 encode = cost->ns * 1024 / cost->raw;
	const __u64 kept = cost->encoded * 1024 / cost->raw; /* of 1024 bytes */
	const __u64 send = state->sent_bytes ? state->sent_ns * kept / state->sent_bytes : 0;
	__u64 wire = state->wire_ns_kib * kept / 1024, all = (encode + send) / processors;

	if (s->pace.kib_s && kept * 1000000000ull / 1024 / s->pace.kib_s > wire)
		wire = kept * 1000000000ull / 1024 / s->pace.kib_s;
	all = send > all ? send : all;
	return wire > all ? wire : all;
}

/*
 * The codec whose dump is the shortest; the present one, unless another is better by a sixteenth: a
 * block that is asked for again should come out the same. Context: any; must not allocate.
 */
static unsigned int dcast_codec_best(struct dcast_sender *s)
{
	struct dcast_codec_state *state = &s->codec;
	unsigned int c;

	for (c = 0; c < DCAST_CODECS; c++)
		if (s->config.codecs >> c & 1 && state->cost[c].raw >= DCAST_CODEC_SAMPLE &&
		    (state->cost[state->best].raw < DCAST_CODEC_SAMPLE ||
		     dcast_codec_time(s, c) * 16 < dcast_codec_time(s, state->best) * 15))
			state->best = (__u8)c;
	return state->best;
}

/* Context: any; must not allocate. */
void dcast_codec_init(struct dcast_sender *s)
{
	unsigned int c;

	memset(&s->codec, 0, sizeof(s->codec));
	/* Until more is known: LZ4, which costs little; else the strongest that there is. */
	for (c = 0; c < DCAST_CODECS; c++)
		if (s->config.codecs >> c & 1 &&
		    !(c > DCAST_CODEC_LZ4 && s->config.codecs >> DCAST_CODEC_LZ4 & 1))
			s->codec.best = (__u8)c;
}

/*
 * The codec that block `number` is to try, DCAST_CODECS for none: memory changes its nature on the way, and
 * what was worse may be better now. By its number, so that a block that is asked for again comes out the
 * same. Context: any; pure.
 */
static unsigned int dcast_codec_turn(const struct dcast_sender *s, __u64 number)
{
	const unsigned int turn = number % DCAST_CODEC_TURNS;
	const unsigned int c = turn % DCAST_CODEC_LZ4_TURNS == DCAST_CODEC_LZ4 ? DCAST_CODEC_LZ4 :
										 turn;

	return c < DCAST_CODECS && s->config.codecs >> c & 1 ? c : DCAST_CODECS;
}

/* Context: any; must not allocate. */
enum dcast_codec dcast_codec_pick(struct dcast_sender *s, __u64 number, int again)
{
	struct dcast_codec_state *state = &s->codec;
	unsigned int c;

	if (!s->rim.clock_ns)
		return (enum dcast_codec)state->best;
	for (c = 0; c < DCAST_CODECS && !again; c++)
		if (s->config.codecs >> c & 1 && state->cost[c].raw < DCAST_CODEC_SAMPLE)
			return (enum dcast_codec)c;
	c = dcast_codec_turn(s, number);
	if (c == DCAST_CODECS)
		c = again ? state->best : dcast_codec_best(s);
	return (enum dcast_codec)c;
}

/* Context: any; must not allocate. */
void dcast_codec_learn(struct dcast_sender *s, const struct dcast_slot *slot)
{
	struct dcast_codec_cost *cost = &s->codec.cost[slot->codec];

	s->stats.codec_blocks[slot->codec]++;
	s->stats.codec_raw_bytes[slot->codec] += slot->raw_len;
	s->stats.codec_encoded_bytes[slot->codec] += slot->len;
	if (!slot->block_class || slot->encode_ns > DCAST_CODEC_FAIR_NS)
		return;
	cost->raw += slot->raw_len;
	cost->encoded += slot->len;
	cost->ns += slot->encode_ns;
	if (cost->raw <
	    (slot->codec == s->codec.best ? DCAST_CODEC_FORGET : DCAST_CODEC_FORGET_TRIED))
		return;
	cost->raw /= 2;
	cost->encoded /= 2;
	cost->ns /= 2;
}

/* Context: any; must not allocate. */
void dcast_codec_stepped(struct dcast_sender *s, __u64 now_ns, __u64 ns, int blocked)
{
	struct dcast_codec_state *state = &s->codec;
	const __u64 elapsed = now_ns - state->window_ns, bytes = state->step_bytes;

	/* What was sent until now left in the time until now: this step's bytes are the next's. */
	if (state->blocked)
		state->blocked_ns += now_ns - state->stepped_ns;
	state->stepped_ns = now_ns;
	state->blocked = (__u8)blocked;
	if (elapsed >= DCAST_CODEC_WINDOW) {
		const __u64 kib_ns = state->window_bytes ? elapsed * 1024 / state->window_bytes : 0;

		/*
		 * Held up by the network, if only for a part of the time: its queue was full, so that
		 * this is what it takes. Else it takes at most as much.
		 */
		if (kib_ns && (state->blocked_ns > elapsed / 8 || kib_ns < state->wire_ns_kib))
			state->wire_ns_kib = kib_ns < 0xffffffffu ? (__u32)kib_ns : 0xffffffffu;
		state->window_ns = now_ns;
		state->window_bytes = 0;
		state->blocked_ns = 0;
	}
	state->step_bytes = 0;
	state->window_bytes += bytes;
	if (!bytes || ns > DCAST_CODEC_FAIR_NS)
		return;
	state->sent_bytes += bytes;
	state->sent_ns += ns;
	if (state->sent_bytes < DCAST_CODEC_FORGET)
		return;
	state->sent_bytes /= 2;
	state->sent_ns /= 2;
}
