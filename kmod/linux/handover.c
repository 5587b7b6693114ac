// SPDX-License-Identifier: GPL-2.0-only
/*
 * The record that lets another kernel go on with a dump: who the host is, which dump, on which
 * paths, and where the class 0 streams lie in memory, so that a second sender says the same.
 * It is written whole each time and carries a MAC, so that half of it is none.
 */
#include "handover.h"

#include <linux/io.h>
#include <linux/mm.h>

#include "protos/wire/dumpcast_handover.h"

#define DCAST_HANDOVER_MAP_BYTES (16 * PAGE_SIZE) /* of the memory map, more is not handed over */

static u32 dcast_pages_for(size_t bytes)
{
	return DIV_ROUND_UP(bytes, PAGE_SIZE) + 1;
}

static u32 dcast_handover_frames(const struct dcast_host *host)
{
	return min_t(u32, DCAST_HANDOVER_MAX_FRAMES,
		     dcast_pages_for(DCAST_VMCOREINFO_BYTES) + dcast_pages_for(host->notes_cap) +
			     dcast_pages_for(DCAST_HANDOVER_MAP_BYTES) +
			     dcast_pages_for(DCAST_LOG_BYTES) +
			     dcast_pages_for(sizeof(host->set.key_boxes)));
}

/* Of the record with its frames, whole pages. Context: any. */
size_t dcast_handover_bytes(const struct dcast_host *host)
{
	return PAGE_ALIGN(sizeof(*host->handover) + dcast_handover_frames(host) * sizeof(__le64));
}

int dcast_handover_alloc(struct dcast_host *host)
{
	host->handover = alloc_pages_exact(dcast_handover_bytes(host), GFP_KERNEL | __GFP_ZERO);
	if (!host->handover)
		return -ENOMEM;
	host->held_bytes += dcast_handover_bytes(host);
	return 0;
}

void dcast_handover_free(struct dcast_host *host)
{
	if (!host->handover)
		return;
	/* Nobody shall find it in a page that is free. */
	memzero_explicit(host->handover, dcast_handover_bytes(host));
	free_pages_exact(host->handover, dcast_handover_bytes(host));
}

/* Where a stream lies, page by page. Context: any; reads page tables as data. */
static void dcast_handover_stream(struct dcast_host *host, unsigned int stream, const void *from,
				  u32 len)
{
	struct dcast_handover *h = host->handover;
	__le64 *frames = (__le64 *)(h + 1);
	const u8 *at = from, *end = at + len;
	u32 n = le32_to_cpu(h->nr_frames);

	h->streams[stream].frame = cpu_to_le32(DCAST_HANDOVER_NO_FRAME);
	if (!len || n + dcast_pages_for(len) > dcast_handover_frames(host))
		return;
	h->streams[stream].frame = cpu_to_le32(n);
	h->streams[stream].offset = cpu_to_le32(offset_in_page(at));
	for (at -= offset_in_page(at); at < end; at += PAGE_SIZE)
		frames[n++] = cpu_to_le64(is_vmalloc_addr(at) ? vmalloc_to_pfn(at) :
								PHYS_PFN(virt_to_phys((void *)at)));
	h->nr_frames = cpu_to_le32(n);
}

static void dcast_handover_path(struct dcast_handover_path *out, const struct dcast_path *path)
{
	unsigned int i;

	strscpy_pad(out->device, path->set.device, sizeof(out->device));
	out->family = path->v6 ? 6 : 4;
	out->nr_targets = path->set.nr_targets;
	out->ttl = path->set.ttl;
	out->port = cpu_to_le16(path->set.port);
	out->source_port = cpu_to_le16(path->set.source_port);
	for (i = 0; i < path->set.nr_targets; i++) {
		const struct dcast_addr *addr = &path->set.targets[i];

		if (path->v6)
			memcpy(out->targets[i], &addr->v6, sizeof(addr->v6));
		else
			memcpy(out->targets[i], &addr->v4, sizeof(addr->v4));
	}
}

static u8 dcast_handover_relays(const struct dcast_sender *s)
{
	unsigned int n = 0;

	while (dcast_sender_relay(s, n))
		n++;
	return n;
}

/* All but streams, META and state. Context: any. */
static void dcast_handover_begin(struct dcast_host *host)
{
	struct dcast_handover *h = host->handover;
	const struct dcast_config *config = &host->set.engine;
	unsigned int i;

	memset(h, 0, sizeof(*h));
	memcpy(h->magic, DCAST_HANDOVER_MAGIC, sizeof(h->magic));
	h->version = cpu_to_le16(DCAST_HANDOVER_VERSION);
	h->key_epoch = cpu_to_le16(config->key_epoch);
	h->paddr = cpu_to_le64(virt_to_phys(h));
	h->written_ns = cpu_to_le64(dcast_unix_ns());
	memcpy(h->host_id, config->host_id, sizeof(h->host_id));
	memcpy(h->boot_id, config->boot_id, sizeof(h->boot_id));
	memcpy(h->dump_id, host->dump_ids[READ_ONCE(host->dump_slot)], sizeof(h->dump_id));
	h->paths = host->nr_paths;
	h->mode = config->mode;
	h->lanes = config->lanes;
	h->page_shift = config->page_shift;
	h->dump_level = config->dump_level;
	h->commits_wanted = config->commits_wanted;
	h->slots = config->slots;
	h->parity_percent = config->parity_percent;
	h->parity_percent_blind = config->parity_percent_blind;
	h->symbol_size = cpu_to_le16(config->symbol_size);
	h->rate_kib_s = cpu_to_le32(config->rate_kib_s);
	h->secrets_paddr = cpu_to_le64(virt_to_phys(host->secrets));
	h->encrypted = host->secrets->encrypted;
	dcast_handover_stream(host, DCAST_STREAM_KEYS, host->set.key_boxes,
			      host->set.nr_key_boxes * sizeof(struct dcast_key_box));
	memcpy(h->hostname, config->hostname, sizeof(h->hostname));
	for (i = 0; i < host->nr_paths; i++)
		dcast_handover_path(&h->path[i], host->paths[i]);
}

/* Makes it valid. Context: any. */
static void dcast_handover_sign(struct dcast_host *host)
{
	struct dcast_handover *h = host->handover;
	u32 size = sizeof(*h) + le32_to_cpu(h->nr_frames) * sizeof(__le64);

	h->size = cpu_to_le32(size);
	h->mac = cpu_to_le64(dcast_siphash(&host->secrets->wire.mac,
					   (u8 *)h + DCAST_HANDOVER_MAC_FROM,
					   size - DCAST_HANDOVER_MAC_FROM));
}

void dcast_handover_arm(struct dcast_host *host)
{
	struct dcast_handover *h = host->handover;
	struct dcast_run *run = host->panic;

	dcast_handover_begin(host);
	h->state = DCAST_HANDOVER_ARMED;
	h->relays = dcast_handover_relays(&host->armed->sender);
	run->map = host->map;
	dcast_meta_fill(run, 0, "");
	h->meta = run->meta;
	run->map = NULL;
	dcast_handover_sign(host);
}

void dcast_handover_dump(struct dcast_host *host, bool ended)
{
	struct dcast_handover *h = host->handover;
	const struct dcast_run *run = host->panic;

	dcast_handover_begin(host);
	h->relays = dcast_handover_relays(&run->sender);
	h->meta = run->sender.meta;
	dcast_handover_stream(host, DCAST_STREAM_VMCOREINFO, run->vmcoreinfo, run->vmcoreinfo_len);
	dcast_handover_stream(host, DCAST_STREAM_NOTES, run->notes, run->notes_len);
	dcast_handover_stream(host, DCAST_STREAM_MEMMAP, run->map->ranges,
			      run->map->nr * sizeof(*run->map->ranges));
	dcast_handover_stream(host, DCAST_STREAM_LOG, run->log, run->log_len);
	h->state = !ended				? DCAST_HANDOVER_DUMPING :
		   dcast_sender_committed(&run->sender) ? DCAST_HANDOVER_COMMITTED :
							  DCAST_HANDOVER_ENDED;
	dcast_handover_sign(host);
}
