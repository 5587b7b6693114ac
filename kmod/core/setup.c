// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Configuration, scratch layout, and what can be asked of a sender. */
#include "kmod/core/sender_internal.h"

#define DCAST_ALIGN 64u

/* Context: any; pure. */
static __u32 dcast_aligned(__u32 bytes)
{
	return (bytes + DCAST_ALIGN - 1) & ~(DCAST_ALIGN - 1);
}

/* Context: any; pure. */
static __u32 dcast_slot_bytes(const struct dcast_config *config)
{
	return dcast_aligned(DCAST_MAX_ENCODED_BYTES + config->symbol_size);
}

/* Context: any; pure. */
__u32 dcast_sender_scratch_bytes(const struct dcast_config *config)
{
	return (config->slots + config->helpers) * dcast_slot_bytes(config) +
	       (1 + config->helpers) * DCAST_WINDOW_BYTES + dcast_aligned(config->symbol_size) +
	       dcast_aligned(sizeof(struct dcast_fec_lists)) +
	       2 * dcast_aligned(sizeof(struct dcast_presence)) + 2 * DCAST_COARSE_BITS / 8;
}

/* What is wrong with the configuration, or NULL. Context: any; pure. */
static const char *dcast_config_check(const struct dcast_config *c)
{
	if (c->paths < 1 || c->paths > DCAST_MAX_PATHS)
		return "paths: wanted 1..8";
	if (c->lanes < 1 || c->lanes > DCAST_MAX_LANES)
		return "lanes: wanted 1..64";
	if (c->mode > DCAST_STRIPE)
		return "mode: wanted 0 (mirror) or 1 (stripe)";
	if (c->page_shift < 12 || c->page_shift > DCAST_WINDOW_SHIFT)
		return "page_shift: wanted 12..16 (pages of 4 KiB to 64 KiB)";
	if (c->slots < 1 || c->slots > DCAST_MAX_SLOTS)
		return "slots: wanted 1..16";
	if (c->helpers > DCAST_MAX_HELPERS)
		return "helpers: wanted 0..16";
	if (!c->codecs || c->codecs >> DCAST_CODECS)
		return "codecs: wanted 1..7, a bit for each of none, LZ4, zstd";
	if (c->symbol_size < DCAST_MIN_SYMBOL_BYTES || c->symbol_size > DCAST_MAX_SYMBOL_BYTES ||
	    c->symbol_size % 8)
		return "symbol_size: wanted a multiple of 8 in 1088..8840 (MTU - 48 - 96 for IPv6)";
	if (c->commits_wanted > DCAST_MAX_RELAYS)
		return "commits_wanted: wanted 0..64 (the relay table)";
	if (c->parity_percent > 100 || c->parity_percent_blind > 100)
		return "parity_percent, parity_percent_blind: wanted 0..100";
	if (!c->secrets)
		return "secrets: wanted keys";
	if (!c->origin)
		return "origin: wanted a random number other than 0";
	return NULL;
}

/* Context: any; must not allocate. */
int dcast_sender_init(struct dcast_sender *s, const struct dcast_config *config,
		      const struct dcast_rim *rim, void *scratch, const char **why)
{
	__u8 *at = (__u8 *)scratch;
	unsigned int i;

	*why = dcast_config_check(config);
	if (*why)
		return -22;
	memset(s, 0, sizeof(*s));
	s->config = *config;
	s->rim = *rim;
	s->nr_slots = (__u8)(config->slots + config->helpers);
	for (i = 0; i < s->nr_slots; i++) {
		s->slots[i].data = at;
		at += dcast_slot_bytes(config);
	}
	for (i = 0; i <= config->helpers; i++) {
		s->encoders[i].raw = at;
		at += DCAST_WINDOW_BYTES;
	}
	s->parity = at;
	at += dcast_aligned(config->symbol_size);
	s->fec_lists = (struct dcast_fec_lists *)(void *)at;
	at += dcast_aligned(sizeof(struct dcast_fec_lists));
	s->walk_presence.bits = (struct dcast_presence *)at;
	at += dcast_aligned(sizeof(struct dcast_presence));
	s->nak_presence.bits = (struct dcast_presence *)at;
	at += dcast_aligned(sizeof(struct dcast_presence));
	for (i = 0; i < 2; i++) {
		s->coarse[i] = (__u64 *)(void *)at;
		at += DCAST_COARSE_BITS / 8;
	}

	s->phase = DCAST_PHASE_ARMED;
	s->window_pages = (__u8)(DCAST_WINDOW_BYTES >> config->page_shift);
	s->memory_bytes = config->memory_bytes;
	s->end_lane = config->lanes;
	s->verdict = DCAST_ADMIT_FULL;
	s->verdict_ns = DCAST_NEVER;
	s->announce_state = DCAST_ST_ARMED;
	if (config->heartbeat_ms)
		s->announce_copies = 1;
	else
		s->announce_ns = DCAST_NEVER;
	dcast_codec_init(s);
	dcast_pace_init(s, 0);
	return 0;
}

/* Context: any; pure. */
__u64 dcast_sender_wake_ns(const struct dcast_sender *s)
{
	return s->wake_ns;
}

/* Context: any; pure. */
enum dcast_phase dcast_sender_phase(const struct dcast_sender *s)
{
	return (enum dcast_phase)s->phase;
}

/* Context: any; pure. */
const struct dcast_stats *dcast_sender_stats(const struct dcast_sender *s)
{
	return &s->stats;
}

/* Context: any; pure. */
void dcast_sender_progress(const struct dcast_sender *s, __u64 *done, __u64 *total)
{
	*done = s->pass_done;
	*total = s->total_known ? s->pass_total : 0;
}

/* Context: any; pure. */
const struct dcast_relay_info *dcast_sender_relay(const struct dcast_sender *s, unsigned int i)
{
	return i < s->nr_relays ? &s->relays[i] : NULL;
}
