// SPDX-License-Identifier: GPL-2.0-only
/*
 * The heartbeat: a thread that announces the host while it is armed, hears who answers, and
 * keeps the memory map and the next hops as they are now. What it learns of relays is what
 * the panic's engine begins with.
 */
#include "dumpcast.h"
#include "handover.h"

#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#define DCAST_REFRESH_NS (5 * NSEC_PER_SEC)
/* A next hop that was asked answers in a moment, and a panic may come in the next: then doubled. */
#define DCAST_RESOLVE_NS  (100 * NSEC_PER_MSEC)
#define DCAST_RECEIVE_MAX 256 /* packets at a time, so that a flood does not starve the rest */

/*
 * Hands what came in to the armed engine, and to that of a live dump when there is one.
 * True when there may be more.
 * Context: process, under host->lock.
 */
bool dcast_heartbeat_receive(struct dcast_host *host)
{
	unsigned int i, n = 0;
	int len;

	for (i = 0; i < host->nr_paths; i++) {
		while (n < DCAST_RECEIVE_MAX) {
			u64 now = ktime_get_boottime_ns();

			len = dcast_sock_receive(host->paths[i], host->sock_rx, DCAST_RX_BYTES);
			if (len < 0)
				break;
			n++;
			dcast_sender_input(&host->armed->sender, now, i, host->sock_rx, len);
			if (host->live)
				dcast_sender_input(&host->live->sender, now, i, host->sock_rx, len);
		}
	}
	return n == DCAST_RECEIVE_MAX;
}

/* Looks at the paths again. True when each is ready to send. Context: process, under RTNL. */
static bool dcast_heartbeat_paths(struct dcast_host *host)
{
	bool ready = true;
	unsigned int i;

	mutex_lock(&host->lock);
	WRITE_ONCE(host->changed, false);
	for (i = 0; i < host->nr_paths; i++) {
		struct dcast_path *path = host->paths[i];
		struct dcast_addr old = path->source;

		dcast_path_refresh(path);
		if (path->sock && memcmp(&old, &path->source, sizeof(old)))
			dcast_sock_close(path);
		dcast_sock_open(host, path);
		ready &= !path->error[0];
	}
	dcast_handover_arm(host);
	mutex_unlock(&host->lock);
	return ready;
}

static long dcast_heartbeat_sleep(const struct dcast_host *host, u64 refresh_ns)
{
	u64 now = ktime_get_boottime_ns();
	u64 wake = min(dcast_sender_wake_ns(&host->armed->sender), refresh_ns);

	if (wake <= now)
		return 1;
	return max_t(long, 1, nsecs_to_jiffies(wake - now));
}

static int dcast_heartbeat_thread(void *arg)
{
	struct dcast_host *host = arg;
	u64 paths_ns = 0, map_ns = 0, again_ns = DCAST_RESOLVE_NS;
	bool changed, late;
	long sleep;

	while (!kthread_should_stop()) {
		/* RTNL comes first. Who keeps it for long is not to silence the host. */
		changed = READ_ONCE(host->changed);
		late = changed || ktime_get_boottime_ns() >= paths_ns;
		if (late && rtnl_trylock()) {
			again_ns = changed ? DCAST_RESOLVE_NS :
					     min_t(u64, 2 * again_ns, DCAST_REFRESH_NS);
			if (dcast_heartbeat_paths(host))
				again_ns = DCAST_REFRESH_NS;
			rtnl_unlock();
			paths_ns = ktime_get_boottime_ns() + again_ns;
			late = false;
		}
		mutex_lock(&host->lock);
		WRITE_ONCE(host->wanted, false);
		if (READ_ONCE(host->plugged) || ktime_get_boottime_ns() >= map_ns) {
			WRITE_ONCE(host->plugged, false);
			dcast_map_refresh(host);
			dcast_watchdogs_find(host);
			map_ns = ktime_get_boottime_ns() + DCAST_REFRESH_NS;
		}
		if (dcast_heartbeat_receive(host))
			WRITE_ONCE(host->wanted, true);
		while (dcast_sender_step(&host->armed->sender, ktime_get_boottime_ns()))
			;
		sleep = dcast_heartbeat_sleep(host, min(paths_ns, map_ns));
		if (late)
			sleep = min_t(long, sleep, max(1, HZ / 50));
		mutex_unlock(&host->lock);
		wait_event_interruptible_timeout(host->wake,
						 READ_ONCE(host->wanted) ||
							 READ_ONCE(host->plugged) ||
							 (READ_ONCE(host->changed) && !late) ||
							 kthread_should_stop(),
						 sleep);
	}
	mutex_lock(&host->lock);
	dcast_sender_goodbye(&host->armed->sender, ktime_get_boottime_ns());
	while (dcast_sender_step(&host->armed->sender, ktime_get_boottime_ns()))
		;
	mutex_unlock(&host->lock);
	return 0;
}

/* 0 or negative. Context: process, under dcast_config_lock. */
int dcast_heartbeat_start(struct dcast_host *host)
{
	struct task_struct *thread = kthread_run(dcast_heartbeat_thread, host, "dumpcast");

	if (IS_ERR(thread))
		return PTR_ERR(thread);
	host->thread = thread;
	return 0;
}

/* Says goodbye to the relays. Context: process, under dcast_config_lock. */
void dcast_heartbeat_stop(struct dcast_host *host)
{
	if (host->thread)
		kthread_stop(host->thread);
	host->thread = NULL;
}
