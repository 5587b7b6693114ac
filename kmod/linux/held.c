// SPDX-License-Identifier: GPL-2.0-only
/*
 * What `held` prints: the pages that the armed module holds for a dump, which change while
 * the dump runs. One line a run of pages, physical, end excluded, in no order:
 *
 *   0x10f4000-0x10f8000 stack
 *
 * What: settings, secrets (never dumped), handover, map, hot, vmemmap, log, notes, engine, scratch, codecs, vmcoreinfo,
 * helpers, stack, ring, packet.
 */
#include "dumpcast.h"
#include "handover.h"
#include "hot.h"

#include <linux/io.h>
#include <linux/mm.h>
#include <linux/skbuff.h>

static u64 dcast_page_of(const void *p)
{
	u64 offset = offset_in_page(p);

	return (is_vmalloc_addr(p) ? page_to_phys(vmalloc_to_page(p)) + offset :
				     virt_to_phys((void *)p)) -
	       offset;
}

/* The pages of one piece of memory; none, for NULL. Context: process. */
void dcast_print_held(struct dcast_out_text *out, const char *what, const void *p, size_t bytes)
{
	const u8 *at = p, *end = at + bytes;
	u64 start, next;

	if (!p || !bytes)
		return;
	at -= offset_in_page(at);
	start = next = dcast_page_of(at);
	for (; at < end; at += PAGE_SIZE, next += PAGE_SIZE) {
		u64 page = dcast_page_of(at);

		if (page == next)
			continue;
		dcast_print(out, "%#llx-%#llx %s\n", start, next, what);
		start = next = page;
	}
	dcast_print(out, "%#llx-%#llx %s\n", start, next, what);
}

static void dcast_print_run(struct dcast_out_text *out, const struct dcast_run *run)
{
	dcast_print_held(out, "engine", run, sizeof(*run));
	dcast_print_held(out, "scratch", run->scratch, dcast_sender_scratch_bytes(&run->config));
	dcast_print_held(out, "codecs", run->workspaces,
			 (1 + run->config.helpers) * dcast_workspace_bytes(&run->config));
	dcast_print_held(out, "vmcoreinfo", run->vmcoreinfo, DCAST_VMCOREINFO_BYTES);
}

static void dcast_print_ring(struct dcast_out_text *out, const struct dcast_path *path)
{
	u32 i;

	dcast_print_held(out, "settings", path, sizeof(*path));
	dcast_print_held(out, "ring", path->ring, DCAST_MAX_RING * sizeof(*path->ring));
	dcast_print_held(out, "packet", path->sock_buf, path->payload_bytes);
	for (i = 0; i < path->ring_size; i++) {
		const struct sk_buff *skb = path->ring[i];

		dcast_print_held(out, "packet", skb, sizeof(*skb));
		dcast_print_held(out, "packet", skb->head,
				 skb_end_offset(skb) + sizeof(struct skb_shared_info));
	}
}

/* Context: process, under dcast_config_lock. */
void dcast_held_print(struct dcast_out_text *out)
{
	struct dcast_host *host = dcast_armed;
	unsigned int i;

	if (!host)
		return;
	mutex_lock(&host->lock);
	dcast_print_held(out, "settings", host, sizeof(*host));
	dcast_print_held(out, "secrets", host->secrets, PAGE_SIZE);
	dcast_print_held(out, "handover", host->handover, dcast_handover_bytes(host));
	dcast_print_held(out, "map", host->map, struct_size(host->map, ranges, host->map->nr));
	dcast_print_held(out, "stack", host->stack, DCAST_STACK_BYTES);
	dcast_helpers_held(out, host);
	dcast_print_held(out, "hot", host->hot, dcast_hot_bytes());
	dcast_print_held(out, "vmemmap", host->struct_pages, dcast_vmemmap_bytes());
	dcast_print_held(out, "log", host->log, DCAST_LOG_BYTES);
	dcast_print_held(out, "notes", host->notes, host->notes_cap);
	dcast_print_held(out, "packet", host->sock_rx, DCAST_RX_BYTES);
	dcast_print_run(out, host->panic);
	dcast_print_run(out, host->armed);
	for (i = 0; i < host->nr_paths; i++)
		dcast_print_ring(out, host->paths[i]);
	mutex_unlock(&host->lock);
}
