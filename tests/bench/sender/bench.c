// SPDX-License-Identifier: GPL-2.0-only
/*
 * Built into a copy of dumpcast.ko by tests/bench/bench_sender.py, never into the real one. The
 * linker's --wrap puts it around dcast_sender_step(): when the panic hook makes its first step,
 * packets that are ready-made go out first, by the module's own ring, for a while; then the dump
 * runs as ever, and its first pass is timed.
 *
 *   dumpcast: bench: ready-made N packets in T us
 *   dumpcast: bench: dump N packets, B bytes in T us
 *   dumpcast: bench: us of it: encode E, classes C, read R, compress L, parity F, put P, poll O
 *
 * classes, read and compress are parts of encode; put is headers, checksum and the driver. What is
 * in none of them is the engine itself, which is mostly the packets' MACs.
 */
#include "dumpcast.h"

#include <linux/lz4.h>

#define BENCH_NS    (3 * NSEC_PER_SEC)
#define BENCH_BATCH 64 /* packets between polls, as many as one step() of the engine sends */

unsigned int __real_dcast_sender_step(struct dcast_sender *s, __u64 now_ns);
unsigned int __wrap_dcast_sender_step(struct dcast_sender *s, __u64 now_ns);

static u64 bench_began_ns, bench_packets;
static bool bench_done;

static void bench_poll(struct dcast_host *host, struct dcast_path *path)
{
	dcast_tx_flush(path);
	dcast_poll(host, path);
	dcast_tx_flush(path);
}

static void bench_ready_made(struct dcast_host *host, struct dcast_path *path)
{
	u32 len = path->payload_bytes, header = dcast_frame_header_len(path), i;
	u64 began, packets;

	/* Each packet of the ring is built, and leaves once; from then on it is as it is. */
	for (i = 0; i < path->ring_len;) {
		u8 *payload = dcast_tx_get(path);

		if (payload) {
			memset(payload, 0xda, len);
			dcast_tx_put(path, payload, len, 0);
			i++;
		} else {
			bench_poll(host, path);
		}
	}
	began = dcast_now_ns();
	packets = path->tx_frames;
	while (dcast_now_ns() - began < BENCH_NS) {
		for (i = 0; i < BENCH_BATCH; i++) {
			struct sk_buff *skb = dcast_tx_take(path);
			u8 *payload;

			if (!skb)
				break;
			payload = skb->head + path->payload_at;
			dcast_tx_queue(path, skb, payload - header, payload + len);
		}
		bench_poll(host, path);
	}
	pr_emerg("bench: ready-made %llu packets in %llu us\n", path->tx_frames - packets,
		 (dcast_now_ns() - began) / NSEC_PER_USEC);
}

/* Where a dump's time goes: the same trick, with a clock, around functions between files. */
#define BENCH_TIMED(type, name, params, args)              \
	type __real_##name params;                         \
	type __wrap_##name params;                         \
	static u64 bench_ns_##name;                        \
	type __wrap_##name params                          \
	{                                                  \
		u64 began = dcast_now_ns();                \
		type result = __real_##name args;          \
                                                           \
		bench_ns_##name += dcast_now_ns() - began; \
		return result;                             \
	}
#define BENCH_TIMED_VOID(name, params, args)               \
	void __real_##name params;                         \
	void __wrap_##name params;                         \
	static u64 bench_ns_##name;                        \
	void __wrap_##name params                          \
	{                                                  \
		u64 began = dcast_now_ns();                \
                                                           \
		__real_##name args;                        \
		bench_ns_##name += dcast_now_ns() - began; \
	}

BENCH_TIMED_VOID(dcast_encode_block,
		 (const struct dcast_sender *s, unsigned int encoder, struct dcast_slot *slot,
		  const struct dcast_presence *bits),
		 (s, encoder, slot, bits))
BENCH_TIMED_VOID(dcast_window_classes, (const struct dcast_map *map, u8 level, u64 window, u8 *cls),
		 (map, level, window, cls))
BENCH_TIMED(int, dcast_page_read, (u64 pfn, void *dst), (pfn, dst))
BENCH_TIMED(int, LZ4_compress_fast,
	    (const char *src, char *dst, int len, int cap, int acceleration, void *mem),
	    (src, dst, len, cap, acceleration, mem))
BENCH_TIMED_VOID(dcast_fec_parity,
		 (const __u8 *data, __u32 stride, unsigned int k, unsigned int index, __u32 len,
		  __u8 *dst, struct dcast_fec_lists *lists),
		 (data, stride, k, index, len, dst, lists))
BENCH_TIMED_VOID(dcast_tx_put, (struct dcast_path * path, u8 *payload, u32 len, unsigned int lane),
		 (path, payload, len, lane))
BENCH_TIMED_VOID(dcast_poll, (struct dcast_host * host, struct dcast_path *path), (host, path))

static void bench_profile(bool print)
{
	if (print)
		pr_emerg("bench: us of it: encode %llu, classes %llu, read %llu, compress %llu, parity %llu, put %llu, poll %llu\n",
			 bench_ns_dcast_encode_block / NSEC_PER_USEC,
			 bench_ns_dcast_window_classes / NSEC_PER_USEC,
			 bench_ns_dcast_page_read / NSEC_PER_USEC,
			 bench_ns_LZ4_compress_fast / NSEC_PER_USEC,
			 bench_ns_dcast_fec_parity / NSEC_PER_USEC,
			 bench_ns_dcast_tx_put / NSEC_PER_USEC,
			 bench_ns_dcast_poll / NSEC_PER_USEC);
	bench_ns_dcast_encode_block = 0;
	bench_ns_dcast_window_classes = 0;
	bench_ns_dcast_page_read = 0;
	bench_ns_LZ4_compress_fast = 0;
	bench_ns_dcast_fec_parity = 0;
	bench_ns_dcast_tx_put = 0;
	bench_ns_dcast_poll = 0;
}

unsigned int __wrap_dcast_sender_step(struct dcast_sender *s, __u64 now_ns)
{
	struct dcast_host *host = dcast_armed;
	struct dcast_path *path;

	if (!host || s != &host->panic->sender || bench_done)
		return __real_dcast_sender_step(s, now_ns);
	path = host->paths[0];
	if (!bench_began_ns) {
		bench_ready_made(host, path);
		bench_began_ns = dcast_now_ns();
		bench_packets = path->tx_frames;
		bench_profile(false);
	} else if (dcast_sender_phase(s) != DCAST_PHASE_WALK) {
		bench_done = true;
		pr_emerg("bench: dump %llu packets, %llu bytes in %llu us\n",
			 path->tx_frames - bench_packets, dcast_sender_stats(s)->bytes[0],
			 (dcast_now_ns() - bench_began_ns) / NSEC_PER_USEC);
		bench_profile(true);
	}
	return __real_dcast_sender_step(s, dcast_now_ns());
}
