// SPDX-License-Identifier: GPL-2.0-only
/*
 * Built into a copy of dumpcast.ko by tests/bench/bench_path.py, never into the real one. The linker
 * puts it around dcast_sender_step() (--wrap): when the panic hook makes its first step, the filter
 * looks at all of memory, and the pages that leave are copied, for comparison; then the dump's
 * first pass is timed.
 *
 *   dumpcast: bench: filter N struct pages in T us
 *   dumpcast: bench: copied P pages in T us
 *   dumpcast: bench: dump P pages, B blocks, H by helpers, R raw bytes as E in T us
 */
#include "dumpcast.h"

#include <linux/mm.h>

#define BENCH_WINDOWS (1u << 20) /* 64 GiB */
#define BENCH_PAGES   (DCAST_WINDOW_BYTES >> PAGE_SHIFT)

unsigned int __real_dcast_sender_step(struct dcast_sender *s, __u64 now_ns);
unsigned int __wrap_dcast_sender_step(struct dcast_sender *s, __u64 now_ns);

static u16 bench_leaves[BENCH_WINDOWS]; /* bit i: page i of the window leaves */
static u8 bench_page[PAGE_SIZE] __aligned(PAGE_SIZE);
static u64 bench_began_ns;
static bool bench_done;

static u64 bench_us(u64 began_ns)
{
	return (dcast_now_ns() - began_ns) / NSEC_PER_USEC;
}

static void bench_filter(struct dcast_run *run)
{
	u64 window, end = min_t(u64, run->sender.window_end, BENCH_WINDOWS), began = dcast_now_ns();
	u8 cls[DCAST_MAX_WINDOW_PAGES];
	unsigned int i;

	for (window = run->rim.skip(run, 0); window < end;
	     window = run->rim.skip(run, window + 1)) {
		run->rim.window_classes(run, window, cls);
		for (i = 0; i < BENCH_PAGES; i++)
			bench_leaves[window] |= (cls[i] != DCAST_CLASS_EXCLUDED) << i;
	}
	pr_emerg("bench: filter %llu struct pages in %llu us\n", end * BENCH_PAGES,
		 bench_us(began));
}

static void bench_copy(void)
{
	u64 began = dcast_now_ns(), pages = 0;
	unsigned int window, i;

	for (window = 0; window < BENCH_WINDOWS; window++) {
		for (i = 0; i < BENCH_PAGES && bench_leaves[window]; i++) {
			if (!(bench_leaves[window] >> i & 1))
				continue;
			memcpy(bench_page, pfn_to_kaddr((u64)window * BENCH_PAGES + i), PAGE_SIZE);
			barrier_data(bench_page);
			pages++;
		}
	}
	pr_emerg("bench: copied %llu pages in %llu us\n", pages, bench_us(began));
}

unsigned int __wrap_dcast_sender_step(struct dcast_sender *s, __u64 now_ns)
{
	struct dcast_host *host = dcast_armed;
	const struct dcast_stats *stats = dcast_sender_stats(s);

	if (!host || s != &host->panic->sender || bench_done)
		return __real_dcast_sender_step(s, now_ns);
	if (!bench_began_ns) {
		bench_filter(host->panic);
		bench_copy();
		bench_began_ns = dcast_now_ns();
	} else if (dcast_sender_phase(s) != DCAST_PHASE_WALK) {
		bench_done = true;
		pr_emerg("bench: dump %llu pages, %llu blocks, %llu by helpers, %llu raw bytes as %llu in %llu us\n",
			 (stats->raw_bytes >> PAGE_SHIFT) + stats->zero_pages, stats->blocks,
			 stats->helped_blocks, stats->raw_bytes, stats->encoded_bytes,
			 bench_us(bench_began_ns));
	}
	return __real_dcast_sender_step(s, dcast_now_ns());
}
