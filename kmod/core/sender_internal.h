/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What struct dcast_sender is made of, and the functions that its files share. Nobody
 * but kmod/core and its tests uses what is declared here.
 *
 *   setup.c     configuration, scratch, questions
 *   sender.c    phases, timers, step()
 *   fill.c      the next block: NAK answer or walk
 *   jobs.c      blocks that are asked for, taken by some processor, and made
 *   codec.c     which codec makes the dump shortest
 *   walk.c      which block is next; presence slices
 *   encode.c    one block into one slot
 *   fec.c       parity symbols
 *   nak.c       queue of what relays asked for
 *   symbols.c   packets cut from slots, and all other packets, on every path
 *   paths.c     which path can send
 *   pace.c      token bucket
 *   relays.c    relay table, admission, commits
 *   input.c     packets from relays
 *
 * Context of every function here: as dcast_sender.h says, unless its own line differs.
 */
#ifndef DUMPCAST_KMOD_CORE_SENDER_INTERNAL_H
#define DUMPCAST_KMOD_CORE_SENDER_INTERNAL_H

#include "kmod/core/dcast_sender.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DCAST_MAX_SLOTS	   16 /* interleaved; as many again may be with helpers */
#define DCAST_CODECS	   3
#define DCAST_NAK_QUEUE	   512
#define DCAST_STEP_PACKETS 64	/* most packets of one step() */
#define DCAST_STEP_WINDOWS 2048 /* most windows looked at in one step() */
#define DCAST_NEVER	   (~0ull)
#define DCAST_COARSE_BITS  (1u << 18) /* of a class: where it has blocks, for a second look */

#define DCAST_MS	       1000000ull
#define DCAST_STALL_NS	       (5 * DCAST_MS)	 /* without a buffer: the path is stalled */
#define DCAST_RETRY_NS	       (20 * DCAST_MS)	 /* a stalled path is tried again */
#define DCAST_PROGRESS_NS      (500 * DCAST_MS)	 /* between ANNOUNCEs of a dump */
#define DCAST_COPY_NS	       (10 * DCAST_MS)	 /* between copies of one ANNOUNCE */
#define DCAST_END_NS	       (200 * DCAST_MS)	 /* between ENDs while lingering */
#define DCAST_META_NS	       (5000 * DCAST_MS) /* META again */
#define DCAST_WAY_BACK_NS      (2000 * DCAST_MS) /* relays known, silent since: still expected */
#define DCAST_BLIND_LINGER_NS  (1000 * DCAST_MS) /* END unanswered: on to the next pass */
#define DCAST_PACE_AGE_NS      (5000 * DCAST_MS) /* a relay silent that long has no say */
#define DCAST_PARITY_REVIEW_NS (250 * DCAST_MS)	 /* longer than relays take to tell */
#define DCAST_HELP_NS	       (200 * DCAST_MS)	 /* a helper that has not made its block is lost */

/* Whose a slot is. Only who calls step() leaves IDLE and MADE; others turn ASKED to TAKEN to MADE. */
enum dcast_slot_state {
	DCAST_SLOT_IDLE,  /* free, or its symbols are being sent */
	DCAST_SLOT_ASKED, /* a block is wanted: number, block_class and codec are set */
	DCAST_SLOT_TAKEN, /* some processor encodes it */
	DCAST_SLOT_MADE,
};

/* A block that is being encoded or sent. */
struct dcast_slot {
	__u32 state; /* enum dcast_slot_state, atomic */
	__u8 *data;  /* scratch: encoding, zero-padded to whole symbols */
	__u64 number;
	__u64 digest;
	__u64 pending;	/* bit i: symbol i is still to be sent; 0: none */
	__u64 taken_ns; /* since when TAKEN was seen, 0: not yet */
	__u64 encode_ns;
	__u32 len; /* encoded bytes */
	__u32 raw_len;
	__u8 block_class;
	__u8 k, m;
	__u8 lane;
	__u8 flags;
	__u8 codec; /* asked for; used, once it is made */
	__u8 named; /* presence names it */
	__u8 empty; /* made, and there are no pages */
	__u8 zero_pages, unreadable_pages;
	__u8 encoder; /* who made it */
	__u8 lost;    /* given up: what comes is not used */
	__u8 again;   /* lost, and to be asked of another */
};

/* One processor's own. */
struct dcast_encoder {
	__u8 *raw; /* scratch: one window */
};

/* What a codec has cost so far; halved now and then, so that it follows what memory holds. */
struct dcast_codec_cost {
	__u64 raw, encoded, ns;
};

struct dcast_codec_state {
	struct dcast_codec_cost cost[DCAST_CODECS];
	__u64 step_bytes;	   /* of this step's packets, on one path */
	__u64 sent_bytes, sent_ns; /* what handing packets over costs, on all paths */
	__u64 window_ns,
		window_bytes; /* when the present window of time began, and sent before it */
	__u64 stepped_ns, blocked_ns; /* last step; how long of the window nothing could leave */
	__u32 wire_ns_kib;	      /* what the network takes for a KiB; 0: more than was sent */
	__u8 blocked;		      /* since the last step */
	__u8 best;		      /* enum dcast_codec */
};

struct dcast_path_state {
	__u64 blocked_ns; /* since when there is no buffer; 0: there was one */
	__u64 retry_ns;	  /* stalled: when to try again */
	__u8 stalled;
};

enum dcast_out_kind {
	DCAST_OUT_NONE,
	DCAST_OUT_SYMBOL,
	DCAST_OUT_EMPTY,
	DCAST_OUT_ANNOUNCE,
	DCAST_OUT_END,
};

/* The packet that is being handed to the paths. */
struct dcast_out {
	__u8 kind;
	__u8 paths; /* mask of paths that it still has to go to */
	__u8 took;  /* mask of paths that have taken it */
	__u8 slot, index;
	__u8 lane;
	__u8 block_class;
	__u64 number;
	__u8 parity_ready; /* scratch parity holds this symbol */
};

/* Presence of one slice, made piece by piece. */
struct dcast_presence_job {
	struct dcast_presence *bits; /* scratch */
	__u64 slice;
	__u32 next; /* next window of the slice to look at */
	__u8 active;
};

enum dcast_walk_stage {
	DCAST_WALK_STREAMS,  /* class 0 but for presence */
	DCAST_WALK_PRESENCE, /* of the slice; then its class 1 */
	DCAST_WALK_CORE,
	DCAST_WALK_REST, /* class 2 and 3, all windows */
	DCAST_WALK_END,
};

struct dcast_walk {
	__u8 stage;
	__u8 stream; /* index into the order of streams */
	__u8 block_class;
	__u64 number; /* next chunk or window */
	__u64 slice;
	/* What dcast_walk_next() found. */
	__u8 found_class;
	__u8 named; /* presence names it: it is answered with EMPTY when it has no pages */
	__u64 found;
};

struct dcast_nak_queue {
	struct dcast_nak_item {
		__u64 number, digest, mask; /* digest 0: whole blocks */
		__u32 count;
		__u8 block_class;
	} items[DCAST_NAK_QUEUE];
	__u32 head, used;
};

/* Credit is counted in bytes * DCAST_PACE_BYTE, so that no rate is rounded. */
#define DCAST_PACE_BYTE 1953125ull /* 2 * 10^9 / 1024 */
struct dcast_pace_state {
	__u64 credit;
	__u64 filled_ns;
	__u32 kib_s; /* 0: no limit */
	__u64 burst;
	__u64 review_ns; /* when the relays' paces are looked at again */
};

/* What END says of a lane and class, in host byte order. */
struct dcast_lane_sum {
	__u64 blocks, id_sum;
};

struct dcast_sender {
	struct dcast_config config;
	struct dcast_rim rim;
	struct dcast_stats stats;

	/* Scratch. */
	struct dcast_slot slots[DCAST_MAX_SLOTS + DCAST_MAX_HELPERS];
	__u8 nr_slots;
	struct dcast_encoder encoders[1 + DCAST_MAX_HELPERS];
	struct dcast_codec_state codec;
	__u8 *parity; /* one symbol */
	struct dcast_fec_lists *fec_lists;
	struct dcast_presence_job walk_presence, nak_presence;
	/*
	 * Bit (w >> coarse_shift) of class c at [c - 2]: presence named a block of it thereabouts. One
	 * window a bit in small memory; 4 MiB of 1 TiB.
	 */
	__u64 *coarse[2];
	__u8 coarse_shift;

	/* The dump. */
	__u8 phase;	/* enum dcast_phase */
	__u8 finishing; /* in LINGER: only DONE announcements are left */
	__u8 dump_flags;
	__u8 continues; /* another sender's dump: dcast_sender_continue() */
	__u8 window_pages;
	const struct dcast_range *ranges;
	__u32 nr_ranges;
	__u32 pass; /* 1 while the first pass runs; 0: before it, only when it continues */
	__u64 memory_bytes;
	__u64 window_end, slices;
	struct dcast_meta meta;	       /* all of it */
	struct dcast_meta public_meta; /* what leaves as META */
	__u64 begin_ns;
	struct dcast_lane_sum end[DCAST_MAX_LANES][DCAST_CLASSES];
	__u64 end_unreadable;
	__u64 pass_done, pass_total; /* total counts while presence is made */
	__u8 total_known;
	struct dcast_walk walk;
	__u32 parity_debt;    /* percent of symbols owed, way back only */
	__u32 parity_percent; /* now, way back only; config's is where it begins */
	__u32 parity_blocks;  /* sent since the last review */
	__u64 parity_review_ns;
	__u8 parity_changed; /* at the last review */
	__u8 parity_quiet;   /* reviews in a row in which no relay lacked much */
	__u8 parity_wait;    /* so many of them lower it */
	__u8 parity_lowered; /* since it was raised last */

	/* What leaves next. */
	struct dcast_out out;
	__u8 empty_pending; /* an EMPTY waits to become out */
	__u8 empty_class;
	__u8 last_fill_nak;
	__u8 next_slot;
	__u8 next_path; /* stripe */
	__u64 empty_number;
	__u64 seq[DCAST_MAX_PATHS][DCAST_MAX_LANES];
	struct dcast_path_state paths[DCAST_MAX_PATHS];
	struct dcast_pace_state pace;

	/* Timers, ns on the caller's clock. */
	__u64 wake_ns;
	__u64 announce_ns;
	__u8 announce_state;
	__u8 announce_copies; /* still to be sent in quick succession */
	__u8 end_lane;	      /* next lane to send END on; lanes: none */
	__u64 end_ns;
	__u64 meta_ns;
	__u64 linger_start_ns;
	__u64 last_reply_ns;

	/* Relays. */
	struct dcast_relay_info relays[DCAST_MAX_RELAYS];
	__u64 wait_until_ns[DCAST_MAX_RELAYS];
	__u32 nr_relays;
	__u64 heard_ns;	  /* last valid packet of any relay; 0: never */
	__u32 verdict;	  /* of all relays together */
	__u64 verdict_ns; /* WAIT: until then */
	struct dcast_nak_queue naks;
};

/* Bits set. Not the builtin: the kernel has no libgcc to call. */
static inline unsigned int dcast_popcount(__u64 v)
{
	v -= (v >> 1) & 0x5555555555555555ull;
	v = (v & 0x3333333333333333ull) + ((v >> 2) & 0x3333333333333333ull);
	v = (v + (v >> 4)) & 0x0f0f0f0f0f0f0f0full;
	return (unsigned int)((v * 0x0101010101010101ull) >> 56);
}

/* ---- fec.c ---- */
/* Scratch: of each bit, where the symbols begin whose factor has it. */
struct dcast_fec_lists {
	__u32 n[8];
	__u32 offset[8][DCAST_MAX_SYMBOLS];
};

/* dst[0..len) = parity symbol index (k..63) of k data symbols, stride bytes apart. len: multiple of 8. */
void dcast_fec_parity(const __u8 *data, __u32 stride, unsigned int k, unsigned int index, __u32 len,
		      __u8 *dst, struct dcast_fec_lists *lists);
/* Ways to compute it, from the slowest. Kernels have the first. */
enum dcast_fec_way { DCAST_FEC_WORDS, DCAST_FEC_AVX2, DCAST_FEC_GFNI };
/* The fastest that this processor has, which dcast_fec_parity() takes. */
enum dcast_fec_way dcast_fec_best(void);
void dcast_fec_parity_by(enum dcast_fec_way way, const __u8 *data, __u32 stride, unsigned int k,
			 unsigned int index, __u32 len, __u8 *dst, struct dcast_fec_lists *lists);
/* Inverse of x (1..63) in GF(2^8) with polynomial 0x11d. */
__u8 dcast_fec_inverse(unsigned int x);

/* ---- sender.c ---- */
/* A packet is on its way out, or there are more to come from what is encoded. */
int dcast_outgoing(const struct dcast_sender *s);

/* ---- fill.c ---- */
enum dcast_fill {
	DCAST_FILL_NONE,  /* there is nothing to send */
	DCAST_FILL_WAIT,  /* there is, when an EMPTY has left or a slot is free */
	DCAST_FILL_AGAIN, /* windows were looked at: go on */
	DCAST_FILL_BLOCK,
};
/* At most one block into a free slot. */
enum dcast_fill dcast_fill(struct dcast_sender *s, __u64 now_ns);
/* The walk has nothing more, or the relays want no more than the log. */
int dcast_walk_over(const struct dcast_sender *s);

/* ---- encode.c ---- */
/*
 * The block that slot names, into slot. bits: for PRESENCE chunks. Changes nothing but the slot and
 * the encoder's scratch. Its digest is still to come when the rim computes digests.
 */
void dcast_encode_block(const struct dcast_sender *s, unsigned int encoder, struct dcast_slot *slot,
			const struct dcast_presence *bits);
/* Digests of n blocks, at most DCAST_MAX_ENCODINGS, that were encoded, when the rim computes digests. */
void dcast_digest_blocks(const struct dcast_sender *s, struct dcast_slot *const *slots,
			 unsigned int n);
__u64 dcast_stream_chunks(const struct dcast_sender *s, unsigned int stream);

/* ---- jobs.c ---- */
struct dcast_slot *dcast_free_slot(struct dcast_sender *s);
/* Names a block to a free slot; it is encoded by whoever takes it first. */
void dcast_job_ask(struct dcast_sender *s, struct dcast_slot *slot, unsigned int block_class,
		   __u64 number, int named);
/* The same, encoded at once. again: it was sent before. bits: for PRESENCE chunks. */
void dcast_job_make(struct dcast_sender *s, struct dcast_slot *slot, unsigned int block_class,
		    __u64 number, int named, int again, const struct dcast_presence *bits);
/* Encodes one block that nobody has taken yet. False when there is none. */
int dcast_job_do(struct dcast_sender *s);
/* A slot that is made, or NULL; it is IDLE then, and counted. */
struct dcast_slot *dcast_job_made(struct dcast_sender *s);
/* Looks for helpers that are lost, and asks others for their blocks. */
void dcast_jobs_review(struct dcast_sender *s, __u64 now_ns);
/* Blocks that are still to come. */
unsigned int dcast_jobs_open(const struct dcast_sender *s);
/* Nobody waits for any of them any more. */
void dcast_jobs_drop(struct dcast_sender *s);

/* ---- codec.c ---- */
void dcast_codec_init(struct dcast_sender *s);
/* again: a block that was sent before, which should come out the same. */
enum dcast_codec dcast_codec_pick(struct dcast_sender *s, __u64 number, int again);
/* A block was made. */
void dcast_codec_learn(struct dcast_sender *s, const struct dcast_slot *slot);
/* A step has ended, and its packets have left, in ns; blocked: more would have, if they could. */
void dcast_codec_stepped(struct dcast_sender *s, __u64 now_ns, __u64 ns, int blocked);

/* ---- walk.c ---- */
enum dcast_walk_result { DCAST_WALK_DONE, DCAST_WALK_AGAIN, DCAST_WALK_BLOCK };
void dcast_walk_start(struct dcast_sender *s);
/* Moves to the next candidate; *windows is how many windows may still be looked at. */
enum dcast_walk_result dcast_walk_next(struct dcast_sender *s, __u32 *windows);
/* True when the presence of slice is complete in the job. */
int dcast_presence_build(struct dcast_sender *s, struct dcast_presence_job *job, __u64 slice,
			 __u32 *windows, int count);
/* Smallest window >= window that overlaps RAM, or window_end. */
__u64 dcast_next_ram_window(const struct dcast_sender *s, __u64 window);

/* ---- nak.c ---- */
void dcast_nak_push(struct dcast_sender *s, unsigned int block_class, __u64 number, __u32 count,
		    __u64 digest, __u64 mask);
/* The oldest item's first block, without taking it. 0 when there is none. */
int dcast_nak_peek(const struct dcast_sender *s, struct dcast_nak_item *item);
void dcast_nak_pop(struct dcast_sender *s);

/* ---- paths.c ---- */
unsigned int dcast_paths_usable(const struct dcast_sender *s, __u64 now_ns);
/* A packet buffer, or NULL: then the path is either stalled now or worth waiting for. */
void *dcast_path_get(struct dcast_sender *s, unsigned int path, __u64 now_ns);
/* When a blocked path becomes stalled or a stalled one is tried; DCAST_NEVER when all are well. */
__u64 dcast_paths_wake(const struct dcast_sender *s);

/* ---- symbols.c ---- */
/* Symbols of a pass: data and parity by DESIGN's rule. */
void dcast_slot_plan(struct dcast_sender *s, struct dcast_slot *slot, __u64 now_ns);
/* Hands out to its paths; adds to *sent. True when out is done with, false when it must wait. */
int dcast_out_serve(struct dcast_sender *s, __u64 now_ns, unsigned int *sent);
__u32 dcast_out_len(const struct dcast_sender *s);

/* ---- pace.c ---- */
void dcast_pace_init(struct dcast_sender *s, __u64 now_ns);
void dcast_pace_review(struct dcast_sender *s, __u64 now_ns);
int dcast_pace_ready(struct dcast_sender *s, __u64 now_ns);
void dcast_pace_spend(struct dcast_sender *s, __u32 bytes);
__u64 dcast_pace_wake(const struct dcast_sender *s);

/* ---- relays.c ---- */
struct dcast_relay_info *dcast_relay_find(struct dcast_sender *s, __u64 id, __u64 now_ns);
/* True when a relay was heard since the dump began, or may be expected to be. */
int dcast_way_back(const struct dcast_sender *s, __u64 now_ns);
int dcast_heard_in_dump(const struct dcast_sender *s);
/* Whether a relay has a say: heard lately, or nobody was heard in this dump yet. */
int dcast_relay_counts(const struct dcast_sender *s, const struct dcast_relay_info *relay,
		       __u64 now_ns);
unsigned int dcast_commits_wanted(const struct dcast_sender *s);
void dcast_verdict_review(struct dcast_sender *s, __u64 now_ns);
/* True while relays say LOG_ONLY and one that is known, and still expected, has not answered. */
int dcast_verdict_open(const struct dcast_sender *s, __u64 now_ns);

#ifdef __cplusplus
}
#endif

#endif
