/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The sender's engine: what to send next, of which block, on which path.
 *
 * Sans-IO: memory pages, streams, packet buffers and time come from the rim through
 * struct dcast_rim; nothing here allocates, sleeps, locks or looks at a clock. The same
 * source runs in the kernel at panic, in dumpcast-send and in the simulation.
 *
 * Context: one caller at a time per struct dcast_sender, but for dcast_sender_help(), which
 * other processors may call meanwhile; any context, also panic with interrupts off. All memory
 * is the caller's and fixed: sizeof(struct dcast_sender) plus one scratch area of
 * dcast_sender_scratch_bytes(config).
 */
#ifndef DUMPCAST_KMOD_CORE_DCAST_SENDER_H
#define DUMPCAST_KMOD_CORE_DCAST_SENDER_H

#include "protos/wire/encrypt.h"
#include "protos/wire/dumpcast_wire.h"

#define DCAST_CLASS_EXCLUDED 0 /* as a page's class: not dumped at this dump level */
#define DCAST_MAX_HELPERS    16

#ifdef __cplusplus
extern "C" {
#endif

enum dcast_path_mode { DCAST_MIRROR = 0, DCAST_STRIPE = 1 };

/*
 * What the engine asks of the world. ctx is handed back untouched. With helpers,
 * window_classes(), read_page(), compress(), encrypt() and clock_ns() are called on several
 * processors at once.
 */
/* A block that is encoded, and what its digest is. */
struct dcast_encoding {
	const __u8 *data;
	__u64 number;
	__u64 digest;
	__u32 len;
	__u8 block_class;
};
#define DCAST_MAX_ENCODINGS 4 /* of one call of digests() */

struct dcast_rim {
	void *ctx;
	/*
	 * Class (1..3, or DCAST_CLASS_EXCLUDED) of each page of a window. Pages outside RAM are
	 * excluded. Must not fault.
	 */
	void (*window_classes)(void *ctx, __u64 window, __u8 cls[DCAST_MAX_WINDOW_PAGES]);
	/*
	 * Smallest window from this one on that may have a page of class 1..3: what is left out in
	 * large pieces is not looked at window by window. May be NULL.
	 */
	__u64 (*skip)(void *ctx, __u64 window);
	/* Copies one page to dst. 0, or negative when it cannot be read. Must not fault. */
	int (*read_page)(void *ctx, __u64 pfn, void *dst);
	/*
	 * Copies len bytes at offset of a class 0 stream: VMCOREINFO, NOTES, LOG or KEYS (the engine
	 * makes the others itself). The same bytes every time for the same dump.
	 * 0, or negative: the chunk is then sent as zeros.
	 */
	int (*read_stream)(void *ctx, unsigned int stream, __u64 offset, void *dst, __u32 len);
	/*
	 * LZ4 block format or a zstd frame, by codec; only those that config.codecs has are asked for.
	 * Bytes written, or 0 when the result would not fit into cap. encoder: 0 for who calls step(),
	 * else that of dcast_sender_help(); each may have a workspace of its own.
	 */
	__u32 (*compress)(void *ctx, unsigned int encoder, enum dcast_codec codec, const void *src,
			  __u32 len, void *dst, __u32 cap);
	/*
	 * XChaCha20-Poly1305 under secrets->end_to_end.cipher, in place: the tag of DCAST_TAG_BYTES
	 * goes behind the len bytes. Asked for only with secrets->encrypted.
	 */
	void (*encrypt)(void *ctx, void *data, __u32 len, const struct dcast_encrypt_ad *ad,
			const __u8 nonce[DCAST_NONCE_BYTES]);
	/*
	 * A buffer for one packet (96 + symbol_size bytes, 8-byte aligned) on a path, or
	 * NULL when the path cannot take one now. Every buffer is handed to tx_put() before
	 * tx_get() is called again, for whichever path.
	 */
	void *(*tx_get)(void *ctx, unsigned int path);
	/* Sends the packet that was built in buf: len bytes of UDP payload. Unicast paths copy it to each relay. */
	void (*tx_put)(void *ctx, unsigned int path, void *buf, __u32 len, unsigned int lane);
	/* False while a path is known to be unable to send (no carrier). */
	int (*path_up)(void *ctx, unsigned int path);
	/* The host's clock for heartbeats, ns since 1970. May be NULL: then they carry 0. */
	__u64 (*unix_ns)(void *ctx);
	/*
	 * A clock that goes on within a step, ns. May be NULL: nothing can be measured then, and of
	 * several codecs LZ4 is used, or else the strongest.
	 */
	__u64 (*clock_ns)(void *ctx);
	/* Not 0: the rim itself writes the MACs (dcast_packet_mac()) of what tx_put() gives it. */
	int writes_macs;
	/*
	 * Digests (dcast_block_digest() under secrets->wire) of up to DCAST_MAX_ENCODINGS at once, for
	 * whoever encodes. May be NULL: the engine computes each where it encodes.
	 */
	void (*digests)(void *ctx, struct dcast_encoding *encodings, unsigned int n);
};

/*
 * All that must not leave, in one place, so that it can be kept out of the dump. The dump's own key is
 * not here: what it is encrypted under is derived from it.
 */
struct dcast_secrets {
	struct dcast_keys wire;
	struct dcast_cipher_keys end_to_end;
	struct dcast_siphash_key signature; /* of crash signatures */
	__u8 encrypted;			    /* blocks leave encrypted under end_to_end */
};

struct dcast_config {
	__u8 host_id[DCAST_ID_BYTES];
	__u8 dump_id[DCAST_ID_BYTES];
	__u8 boot_id[DCAST_ID_BYTES];
	const struct dcast_secrets *secrets; /* the caller's; read whenever the engine runs */
	__u64 origin;			     /* random id of this sender instance */
	__u16 key_epoch;
	__u16 symbol_size;
	__u8 paths; /* 1..DCAST_MAX_PATHS */
	__u8 lanes; /* 1..DCAST_MAX_LANES */
	__u8 mode;  /* enum dcast_path_mode */
	__u8 page_shift;
	__u8 dump_level;
	__u8 commits_wanted; /* 0: default: 2, or every relay known when fewer */
	__u8 slots;	     /* blocks interleaved, 1..16 */
	__u8 helpers;	     /* processors that encode beside who calls step(), 0..16 */
	/*
	 * Bit c: enum dcast_codec c may be used. Of several, whichever makes the dump shortest as
	 * measured while it runs. A block that none makes smaller leaves as it is.
	 */
	__u8 codecs;
	/*
	 * Parity of the first pass with a way back, in percent of the data symbols, spread over the
	 * blocks of 8 and more symbols so that the sum is right; NAKs cover the smaller ones.
	 */
	__u8 parity_percent;	   /* at first; it follows what relays lack, 0 to 25 */
	__u8 parity_percent_blind; /* when nothing is heard: m = ceil(k * percent / 100) */
	__u32 heartbeat_ms;
	__u32 rate_kib_s; /* ceiling of UDP payload on one path; 0: only PACE limits */
	__u64 linger_ns; /* after END: as long as NAKs and COMMITs come, and this long after the last */
	__u64 time_limit_ns; /* whole dump; 0: none */
	__u32 blind_passes;  /* further passes when nothing was ever heard */
	__u64 memory_bytes;  /* RAM, for heartbeats; a dump counts its ranges */
	char hostname[64];
	char release[64];
};

#define DCAST_VERDICT_NONE 0xffffffffu /* the relay has not answered the question */

/* What is known of one relay. Kept from HELLOs while armed, and through the dump. */
struct dcast_relay_info {
	__u64 id;
	__u64 last_seq;
	__u64 heard_ns[DCAST_MAX_PATHS]; /* 0: never on that path */
	__u64 lane_mask;		 /* lanes it receives */
	__u64 commit_mask;		 /* lanes it has committed of this dump */
	__u32 pace_kib_s;		 /* 0: no limit */
	__u32 lacking;			 /* as in PACE */
	__u32 lacking_seen;		 /* of it, at the last review of parity */
	__u32 verdict;			 /* enum dcast_verdict, or DCAST_VERDICT_NONE */
	char name[64];
};

struct dcast_stats {
	__u64 packets[DCAST_MAX_PATHS];
	__u64 bytes[DCAST_MAX_PATHS];
	__u64 skipped[DCAST_MAX_PATHS]; /* symbols not sent since the path was stalled */
	__u64 blocks, raw_bytes, encoded_bytes, parity_symbols, repeat_symbols;
	__u64 zero_pages, unreadable_pages, empties;
	__u64 helped_blocks; /* of blocks: encoded by helpers */
	__u64 helpers_lost;  /* helpers that took a block and did not bring it */
	__u64 codec_blocks[3], codec_raw_bytes[3], codec_encoded_bytes[3]; /* by enum dcast_codec */
	__u64 naks, nak_entries, nak_dropped;
	__u64 rx_bad_mac, rx_bad_format, rx_foreign, rx_replayed, relay_table_full;
};

enum dcast_phase {
	DCAST_PHASE_ARMED, /* heartbeats, HELLOs */
	DCAST_PHASE_WALK,  /* first pass */
	DCAST_PHASE_PASS,  /* further passes */
	DCAST_PHASE_LINGER,
	DCAST_PHASE_DONE, /* ended, and every path was told so: step() has nothing left to do */
};

struct dcast_sender; /* defined in sender_internal.h; fields are the engine's own */

/* Bytes of scratch that dcast_sender_init() needs, 64-byte aligned. */
__u32 dcast_sender_scratch_bytes(const struct dcast_config *config);

/* 0, or -22 with *why set to what is wrong with the configuration. */
int dcast_sender_init(struct dcast_sender *s, const struct dcast_config *config,
		      const struct dcast_rim *rim, void *scratch, const char **why);

/*
 * Copies what src knows of the relays; src may be mid-update (it is only read, and checked).
 * Call it between dcast_sender_init() and dcast_sender_begin().
 */
void dcast_sender_adopt_relays(struct dcast_sender *s, const struct dcast_sender *src);

/*
 * Begins a dump: ranges (ascending, disjoint, not empty, kept by reference) is the memory map; meta
 * (copied) is complete but for size, window_end and stream_len[META, MEMMAP, PRESENCE, WHOLE_META],
 * which the engine sets. Of an encrypted dump META leaves with the least that relays need, and as it is in
 * WHOLE_META. flags: DCAST_F_LIVE, DCAST_F_TEST.
 */
void dcast_sender_begin(struct dcast_sender *s, __u64 now_ns, const struct dcast_range *ranges,
			__u32 nr_ranges, const struct dcast_meta *meta, __u8 flags);

/*
 * Called right after dcast_sender_begin(): another sender of the same dump_id has begun this dump
 * and memory no longer changes. Nothing is walked; relays say what they miss, and a block, of
 * whatever class, is answered with all pages of its window that are not excluded, since who
 * classed them first may have known better. Only when nothing is heard for linger_ns, and
 * blind_passes allow it, is everything sent once.
 */
void dcast_sender_continue(struct dcast_sender *s, __u64 now_ns);

/*
 * Does a bounded piece of work: at most one block encoded and at most 64 packets sent.
 * Returns the number of packets sent; 0 means that nothing can be done before
 * dcast_sender_wake_ns() or before a path or packet buffer becomes free.
 */
unsigned int dcast_sender_step(struct dcast_sender *s, __u64 now_ns);

/*
 * Encodes one block that waits for it, if there is one; returns whether there was. Between
 * dcast_sender_begin() and DCAST_PHASE_DONE, or later: it may be called at any time then, on other processors, by one
 * caller for each helper 1..config.helpers. Touches the slot that it takes and its own scratch, no
 * lock, and waits for nobody; nobody waits for it: a block that does not come is encoded by another.
 */
int dcast_sender_help(struct dcast_sender *s, unsigned int helper);
/* True when half of the slots wait for somebody to encode them: helpers that sleep should be woken. */
int dcast_sender_wants_help(const struct dcast_sender *s);

/*
 * When step() wants to be called again at the latest, ns on the caller's clock: at once when it is
 * not later than now, never when it is ~0. Changes with step(), input(), begin() and goodbye().
 */
__u64 dcast_sender_wake_ns(const struct dcast_sender *s);

/* One UDP payload that came in on a path. Checked here; anything wrong is counted and dropped. */
void dcast_sender_input(struct dcast_sender *s, __u64 now_ns, unsigned int path, const void *packet,
			__u32 len);

/* Heartbeats go on, under the id of the next dump; what is known of relays stays. */
void dcast_sender_renew(struct dcast_sender *s, const __u8 dump_id[DCAST_ID_BYTES]);

/* Says goodbye (armed) on every path; call step() until it returns 0 afterwards. */
void dcast_sender_goodbye(struct dcast_sender *s, __u64 now_ns);

/*
 * Ends a dump before its time, as its time limit would: relays are told, and seal what they have.
 * Call step() until the phase is DONE afterwards.
 */
void dcast_sender_stop(struct dcast_sender *s, __u64 now_ns);

enum dcast_phase dcast_sender_phase(const struct dcast_sender *s);
/*
 * True in DCAST_PHASE_LINGER when everything was sent as often as it is without answers, and
 * none has come.
 */
int dcast_sender_unanswered(const struct dcast_sender *s);
/* True when every lane has the commits wanted. */
int dcast_sender_committed(const struct dcast_sender *s);
const struct dcast_stats *dcast_sender_stats(const struct dcast_sender *s);
/* What the relays' answers come to: what is sent, and with WAIT for how long nothing is, ns. */
enum dcast_verdict dcast_sender_verdict(const struct dcast_sender *s, __u64 now_ns, __u64 *wait_ns);
/* Blocks done and in all of the present pass; total is 0 until the first pass knows it. */
void dcast_sender_progress(const struct dcast_sender *s, __u64 *done, __u64 *total);
/* i-th relay known, or NULL. */
const struct dcast_relay_info *dcast_sender_relay(const struct dcast_sender *s, unsigned int i);

#ifdef __cplusplus
}
#endif

#include "kmod/core/sender_internal.h"

#endif
