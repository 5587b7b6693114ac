// SPDX-License-Identifier: GPL-2.0-only
/*
 * The engine's world, twice: packets through the rings of tx.c at panic, through sockets
 * while the host lives. The rest is the same for both.
 * Context: that of whoever calls the engine.
 */
#include "dumpcast.h"
#include "hot.h"

#include <linux/ktime.h>
#include <linux/lz4.h>
#include <linux/net.h>
#include <net/sock.h>

static void dcast_rim_classes(void *ctx, __u64 window, __u8 cls[DCAST_MAX_WINDOW_PAGES])
{
	struct dcast_run *run = ctx;
	unsigned int i;
	u64 first;

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
	first = window << (DCAST_WINDOW_SHIFT - PAGE_SHIFT);
	for (i = 0; i < DCAST_WINDOW_BYTES >> PAGE_SHIFT; i++)
		if (dcast_secrets_in(run->host, first + i))
			cls[i] = DCAST_CLASS_EXCLUDED;
}

static __u64 dcast_rim_skip(void *ctx, __u64 window)
{
	const struct dcast_run *run = ctx;

	if (window < run->window_first)
		return run->window_first;
	if (window >= run->window_end)
		return ~0ull;
	return dcast_window_skip(run->config.dump_level, window);
}

static int dcast_rim_page(void *ctx, __u64 pfn, void *dst)
{
	return dcast_page_read(pfn, dst);
}

static int dcast_rim_stream(void *ctx, unsigned int stream, __u64 offset, void *dst, __u32 len)
{
	return dcast_stream_read(ctx, stream, offset, dst, len);
}

/*
 * The fastest level, in blocks of 16 KiB: for 64 KiB at once it would want 304 KB and not 120 for
 * each encoder, and make memory smaller by another hundredth.
 */
static zstd_parameters dcast_zstd_parameters(void)
{
	zstd_parameters params = zstd_get_params(1, DCAST_WINDOW_BYTES);

	params.cParams.windowLog = 14;
	return params;
}

/* Memory that one encoder's codecs need. Context: process. */
size_t dcast_workspace_bytes(const struct dcast_config *config)
{
	const zstd_parameters params = dcast_zstd_parameters();
	size_t bytes = LZ4_MEM_COMPRESS;

	if (config->codecs >> DCAST_CODEC_ZSTD & 1)
		bytes = max(bytes, zstd_cctx_workspace_bound(&params.cParams));
	return ALIGN(bytes, 64);
}

/* Context: any that may call the engine, and helpers. */
static __u32 dcast_rim_compress(void *ctx, unsigned int encoder, enum dcast_codec codec,
				const void *src, __u32 len, void *dst, __u32 cap)
{
	struct dcast_run *run = ctx;
	void *space = run->workspaces + encoder * run->workspace_bytes;
	zstd_cctx *cctx;
	size_t size;
	int out;

	if (codec != DCAST_CODEC_ZSTD) {
		out = LZ4_compress_fast(src, dst, len, cap, LZ4_ACCELERATION_DEFAULT, space);
		return out > 0 ? out : 0;
	}
	/* LZ4 may have used the same space since. */
	cctx = zstd_init_cctx(space, run->workspace_bytes);
	size = cctx ? zstd_compress_cctx(cctx, dst, cap, src, len, &run->zstd) : 0;
	return size <= cap ? size : 0; /* errors are large numbers */
}

/* Context: any that may call the engine, and helpers. */
static void dcast_rim_encrypt(void *ctx, void *data, __u32 len, const struct dcast_encrypt_ad *ad,
			      const __u8 nonce[DCAST_NONCE_BYTES])
{
	struct dcast_run *run = ctx;

	dcast_xchacha20poly1305_encrypt(run->config.secrets->end_to_end.cipher, data, len, ad,
					sizeof(*ad), nonce);
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

static __u64 dcast_rim_panic_clock(void *ctx)
{
	return dcast_now_ns();
}

static __u64 dcast_rim_clock(void *ctx)
{
	return ktime_get_ns();
}

/* sockets: true for the heartbeat and tests, false for a panic. */
void dcast_rim_init(struct dcast_run *run, bool sockets)
{
	run->workspace_bytes = dcast_workspace_bytes(&run->config);
	run->zstd = dcast_zstd_parameters();
	run->rim = (struct dcast_rim){
		.ctx = run,
		.window_classes = dcast_rim_classes,
		.skip = dcast_rim_skip,
		.read_page = dcast_rim_page,
		.read_stream = dcast_rim_stream,
		.compress = dcast_rim_compress,
		.encrypt = dcast_rim_encrypt,
		.tx_get = sockets ? dcast_rim_sock_get : dcast_rim_ring_get,
		.tx_put = sockets ? dcast_rim_sock_put : dcast_rim_ring_put,
		.path_up = sockets ? dcast_rim_sock_up : dcast_rim_ring_up,
		.unix_ns = dcast_rim_unix_ns,
		.clock_ns = sockets ? dcast_rim_clock : dcast_rim_panic_clock,
	};
}
