// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engine's world, twice: packets through the rings of tx.c at panic, through sockets
 * while the host lives. The rest is the same for both.
 * Context: that of whoever calls the engine.
 */
#include "dumpcast.h"
#include "hot.h"

#include <linux/lz4.h>
#include <linux/net.h>
#include <net/sock.h>

static void dcast_rim_classes(void *ctx, __u64 window, __u8 cls[DCAST_MAX_WINDOW_PAGES])
{
	struct dcast_run *run = ctx;

	if (window < run->window_first || window >= run->window_end) {
		memset(cls, DCAST_CLASS_EXCLUDED, DCAST_MAX_WINDOW_PAGES);
		return;
	}
	dcast_window_classes(run->map, run->config.dump_level, window, cls);
	if (run->struct_pages)
		dcast_vmemmap_classes(run->struct_pages, run->map, run->config.dump_level, window,
				      cls);
	if (run->hot)
		dcast_hot_classes(run->hot, window, cls);
}

static int dcast_rim_page(void *ctx, __u64 pfn, void *dst)
{
	return dcast_page_read(pfn, dst);
}

static int dcast_rim_stream(void *ctx, unsigned int stream, __u64 offset, void *dst, __u32 len)
{
	return dcast_stream_read(ctx, stream, offset, dst, len);
}

static __u32 dcast_rim_compress(void *ctx, const void *src, __u32 len, void *dst, __u32 cap)
{
	struct dcast_run *run = ctx;
	int out = LZ4_compress_fast(src, dst, len, cap, LZ4_ACCELERATION_DEFAULT, run->lz4);

	return out > 0 ? out : 0;
}

static void *dcast_rim_ring_get(void *ctx, unsigned int path)
{
	struct dcast_run *run = ctx;

	return dcast_tx_get(run->host->paths[path]);
}

static void dcast_rim_ring_put(void *ctx, unsigned int path, void *buf, __u32 len,
			       unsigned int lane)
{
	struct dcast_run *run = ctx;

	dcast_tx_put(run->host->paths[path], buf, len, lane);
}

static int dcast_rim_ring_up(void *ctx, unsigned int path)
{
	struct dcast_run *run = ctx;

	return dcast_path_usable(run->host->paths[path]);
}

static void *dcast_rim_sock_get(void *ctx, unsigned int path)
{
	struct dcast_run *run = ctx;
	struct dcast_path *p = run->host->paths[path];

	return p->sock && sock_writeable(p->sock->sk) ? p->sock_buf : NULL;
}

static void dcast_rim_sock_put(void *ctx, unsigned int path, void *buf, __u32 len,
			       unsigned int lane)
{
	struct dcast_run *run = ctx;

	dcast_sock_send(run->host->paths[path], buf, len, lane);
}

static int dcast_rim_sock_up(void *ctx, unsigned int path)
{
	struct dcast_run *run = ctx;
	struct dcast_path *p = run->host->paths[path];

	return p->sock && netif_running(p->upper) && netif_carrier_ok(p->upper);
}

/* NMI-safe; heartbeats tell an old ANNOUNCE from a new one by it. */
static __u64 dcast_rim_unix_ns(void *ctx)
{
	return dcast_unix_ns();
}

/* sockets: true for the heartbeat and tests, false for a panic. */
void dcast_rim_init(struct dcast_run *run, bool sockets)
{
	run->rim = (struct dcast_rim){
		.ctx = run,
		.window_classes = dcast_rim_classes,
		.read_page = dcast_rim_page,
		.read_stream = dcast_rim_stream,
		.compress = dcast_rim_compress,
		.tx_get = sockets ? dcast_rim_sock_get : dcast_rim_ring_get,
		.tx_put = sockets ? dcast_rim_sock_put : dcast_rim_ring_put,
		.path_up = sockets ? dcast_rim_sock_up : dcast_rim_ring_up,
		.unix_ns = dcast_rim_unix_ns,
	};
}
