// SPDX-License-Identifier: GPL-2.0-only
/*
 * Arming: takes every byte that a dump will need and starts the heartbeat. A panic finds
 * dcast_armed set, or does nothing.
 */
#include "dumpcast.h"
#include "handover.h"
#include "hot.h"

#include <linux/module.h>
#include <linux/mm.h>
#include <linux/random.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

struct dcast_host *dcast_armed;

/*
 * Zeroed memory that counts as held; NULL when there is none. Large pieces are vmalloc'ed.
 * Context: process.
 */
void *dcast_hold(struct dcast_host *host, size_t bytes)
{
	void *p = kvzalloc(bytes, GFP_KERNEL);

	if (p)
		host->held_bytes += bytes;
	return p;
}

void dcast_unhold(struct dcast_host *host, void *p, size_t bytes)
{
	if (p)
		host->held_bytes -= bytes;
	kvfree(p);
}

/*
 * What one run of the engine needs. dumps: with room for slots, as a dump needs; else for
 * heartbeats only. helpers: that may encode for it. NULL when memory is short.
 * Context: process.
 */
struct dcast_run *dcast_run_alloc(struct dcast_host *host, bool dumps, unsigned int helpers)
{
	struct dcast_run *run = dcast_hold(host, sizeof(*run));

	if (!run)
		return NULL;
	run->host = host;
	run->config = host->set.engine;
	memcpy(run->config.dump_id, host->dump_ids[host->dump_slot], DCAST_ID_BYTES);
	if (!dumps)
		run->config.slots = 1;
	run->config.helpers = helpers;
	run->window_end = ~0ull;
	run->scratch = dcast_hold(host, dcast_sender_scratch_bytes(&run->config));
	if (!run->scratch)
		goto failed;
	if (!dumps)
		return run;
	run->workspaces = dcast_hold(host, (1 + helpers) * dcast_workspace_bytes(&run->config));
	run->vmcoreinfo = dcast_hold(host, DCAST_VMCOREINFO_BYTES);
	if (run->workspaces && run->vmcoreinfo)
		return run;
failed:
	dcast_run_free(host, run);
	return NULL;
}

void dcast_run_free(struct dcast_host *host, struct dcast_run *run)
{
	if (!run)
		return;
	dcast_unhold(host, run->vmcoreinfo, DCAST_VMCOREINFO_BYTES);
	dcast_unhold(host, run->workspaces,
		     (1 + run->config.helpers) * dcast_workspace_bytes(&run->config));
	dcast_unhold(host, run->scratch, dcast_sender_scratch_bytes(&run->config));
	dcast_unhold(host, run, sizeof(*run));
}

/* Starts the engine that heartbeats. */
static int dcast_armed_engine(struct dcast_host *host)
{
	struct dcast_run *run = host->armed;
	const char *why = "";
	int err;

	run->config.origin = get_random_u64() | 1;
	dcast_rim_init(run, true);
	err = dcast_sender_init(&run->sender, &run->config, &run->rim, run->scratch, &why);
	if (err)
		pr_err("arm: %s\n", why);
	return err;
}

/*
 * Draws the dump_id of the next dump. A panic in the midst of it finds the old one whole.
 * Context: process, under host->lock.
 */
void dcast_new_dump_id(struct dcast_host *host)
{
	unsigned int slot = !host->dump_slot;

	get_random_bytes(host->dump_ids[slot], DCAST_ID_BYTES);
	smp_store_release(&host->dump_slot, slot);
	dcast_sender_renew(&host->armed->sender, host->dump_ids[slot]);
	dcast_handover_arm(host);
}

static void dcast_host_free(struct dcast_host *host)
{
	unsigned int i;

	dcast_watchdogs_let_go(host);
	dcast_run_free(host, host->armed);
	dcast_run_free(host, host->panic);
	dcast_secrets_free(host);
	for (i = 0; i < host->nr_paths; i++)
		dcast_path_free(host, host->paths[i]);
	dcast_helpers_free(host);
	vfree(host->stack);
	dcast_handover_free(host);
	kvfree(host->map);
	kvfree(host->log);
	kvfree(host->hot);
	kvfree(host->struct_pages);
	kvfree(host->notes);
	kvfree(host->sock_rx);
	kvfree(host);
}

static int dcast_arm_paths(struct dcast_host *host)
{
	struct dcast_path_settings *set;
	unsigned int symbol = DCAST_MAX_SYMBOL_BYTES;
	int i, n, err = 0;

	set = kcalloc(DCAST_MAX_PATHS, sizeof(*set), GFP_KERNEL);
	if (!set)
		return -ENOMEM;
	n = dcast_paths_collect(set, DCAST_MAX_PATHS);
	if (n == 0) {
		pr_err("arm: no path: make a folder in paths/ and set its device and destination\n");
		n = -EINVAL;
	}
	for (i = 0; i < n; i++) {
		struct dcast_path *path = dcast_path_alloc(host, &set[i], i);

		if (!path) {
			err = -ENOMEM;
			break;
		}
		host->paths[host->nr_paths++] = path;
		rtnl_lock();
		dcast_path_refresh(path);
		rtnl_unlock();
		if (!path->cards) {
			pr_err("arm: path %s: %s\n", path->set.name, path->error);
			err = -ENODEV;
			break;
		}
		symbol = min(symbol, dcast_path_mtu_symbol(path));
	}
	kfree(set);
	if (n < 0 || err)
		return n < 0 ? n : err;
	if (!host->set.engine.symbol_size) {
		host->set.engine.symbol_size = symbol;
	} else if (host->set.engine.symbol_size > symbol) {
		pr_err("arm: symbol_size %u needs a larger MTU: the paths carry %u\n",
		       host->set.engine.symbol_size, symbol);
		return -EINVAL;
	}
	if (host->set.engine.symbol_size < DCAST_MIN_SYMBOL_BYTES) {
		pr_err("arm: the paths' MTU carries symbols of %u bytes, wanted %u at least\n",
		       host->set.engine.symbol_size, DCAST_MIN_SYMBOL_BYTES);
		return -EINVAL;
	}
	host->set.engine.paths = host->nr_paths;
	for (i = 0; i < n; i++) {
		struct dcast_path *path = host->paths[i];

		path->payload_bytes = sizeof(struct dcast_hdr) + host->set.engine.symbol_size;
		path->sock_buf = dcast_hold(host, path->payload_bytes);
		if (!path->sock_buf)
			return -ENOMEM;
		err = dcast_path_ring_alloc(host, path);
		if (err)
			return err;
	}
	return 0;
}

static int dcast_arm_buffers(struct dcast_host *host)
{
	host->stack = __vmalloc(DCAST_STACK_BYTES, GFP_KERNEL);
	host->log = dcast_hold(host, DCAST_LOG_BYTES);
	host->hot = dcast_hold(host, dcast_hot_bytes());
	if (host->hot)
		dcast_hot_prepare(host->hot, host->map);
	if (host->set.exclude_unused_vmemmap)
		host->struct_pages = dcast_hold(host, dcast_vmemmap_bytes());
	host->notes_cap = dcast_notes_bytes();
	host->notes = dcast_hold(host, host->notes_cap);
	host->sock_rx = dcast_hold(host, DCAST_RX_BYTES);
	host->panic = dcast_run_alloc(host, true, host->nr_helpers);
	host->armed = dcast_run_alloc(host, false, 0);
	host->held_bytes += DCAST_STACK_BYTES;
	if ((host->set.exclude_unused_vmemmap && !host->struct_pages) || !host->stack ||
	    !host->log || !host->hot || !host->notes || !host->sock_rx || !host->panic ||
	    !host->armed)
		return -ENOMEM;
	memset(host->stack, DCAST_STACK_FILL, DCAST_STACK_BYTES);
	return dcast_handover_alloc(host);
}

/*
 * Arms with these settings and the paths that configfs has. 0, or negative with the reason
 * in the kernel log.
 * Context: process, under dcast_config_lock.
 */
int dcast_arm(const struct dcast_settings *set)
{
	struct dcast_host *host;
	const char *why = "";
	int err = -EINVAL;

	if (dcast_armed)
		return -EALREADY;
	if (!set->has_host_id) {
		pr_err("arm: host_id is not set\n");
		return -EINVAL;
	}
	host = kvzalloc(sizeof(*host), GFP_KERNEL);
	if (!host)
		return -ENOMEM;
	host->held_bytes = sizeof(*host);
	host->set = *set;
	mutex_init(&host->lock);
	init_waitqueue_head(&host->wake);
	get_random_bytes(host->dump_ids[0], DCAST_ID_BYTES);
	dcast_find_panic_text(host);
	err = dcast_secrets_take(host);
	if (!err)
		err = dcast_arm_paths(host);
	if (err)
		goto free;
	err = dcast_map_refresh(host);
	if (!err)
		err = dcast_helpers_alloc(host);
	if (!err)
		err = dcast_arm_buffers(host);
	if (err)
		goto free;
	host->panic->config.origin = get_random_u64() | 1;
	dcast_rim_init(host->panic, false);
	err = dcast_sender_init(&host->panic->sender, &host->panic->config, &host->panic->rim,
				host->panic->scratch, &why);
	if (err) {
		pr_err("arm: %s\n", why);
		goto free;
	}
	err = dcast_armed_engine(host);
	if (err)
		goto free;
	dcast_handover_arm(host);
	err = dcast_heartbeat_start(host);
	if (err)
		goto free;
	/* The module stays while the panic notifier may be called. */
	__module_get(THIS_MODULE);
	dcast_publish(host);
	pr_info("armed: %u paths, symbols of %u bytes, %u helpers, %llu KiB held for a dump; encrypted for %u recipients\n",
		host->nr_paths, host->set.engine.symbol_size, host->nr_helpers,
		host->held_bytes / 1024, host->set.nr_key_boxes);
	return 0;

free:
	if (err == -ENOMEM)
		pr_err("arm: out of memory\n");
	dcast_host_free(host);
	return err;
}

/*
 * Disarms; nothing when not armed. A live dump is ended first.
 * Context: process, under dcast_config_lock, which is let go of meanwhile.
 */
void dcast_disarm(void)
{
	struct dcast_host *host;

	dcast_live_end();
	dcast_secrets_forget();
	host = dcast_armed;
	if (!host)
		return;
	dcast_publish(NULL);
	dcast_heartbeat_stop(host);
	dcast_host_free(host);
	module_put(THIS_MODULE);
	pr_info("disarmed\n");
}
