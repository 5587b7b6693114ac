// SPDX-License-Identifier: GPL-2.0-only
/*
 * Dumps of the living, sent by the same engine to the same relays through sockets: a test dump
 * (class 0 and a few windows of the kernel's image) proves the road before it is needed; a live
 * dump is the whole memory as it is while it is read, page by page.
 *
 * One at a time. It runs in the task that asked for it, so that its priority and its control
 * group count, and has host->lock only for a burst at a time: heartbeats and status go on, and a
 * panic in the midst of it finds everything that it needs.
 */
#include "dumpcast.h"

#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>

#define DCAST_TEST_WINDOWS  64u /* 4 MiB */
#define DCAST_TEST_LIMIT_NS (30 * NSEC_PER_SEC)
#define DCAST_LIVE_BURST    64u		       /* packets with the lock held */
#define DCAST_LIVE_GIVE_UP  (2 * NSEC_PER_SEC) /* for the last words after it was ended */

static bool dcast_live_busy;   /* under dcast_config_lock */
static bool dcast_live_ending; /* disarm wants it to end */
static DECLARE_WAIT_QUEUE_HEAD(dcast_live_idle);

struct dcast_live {
	struct dcast_run *run;
	struct dcast_map *map; /* its own: the host's may be replaced */
	char *log;
};

static void dcast_live_free(struct dcast_host *host, struct dcast_live *live)
{
	if (live->run)
		kvfree(live->run->notes);
	dcast_run_free(host, live->run);
	kvfree(live->log);
	kvfree(live->map);
}

/* Streams of a dump of the living: the log and vmcoreinfo, no registers. */
static int dcast_live_streams(struct dcast_host *host, struct dcast_live *live)
{
	struct dcast_run *run = live->run;
	size_t map_bytes = struct_size(host->map, ranges, host->map->nr);

	live->log = kvmalloc(DCAST_LOG_BYTES, GFP_KERNEL);
	live->map = kvmalloc(map_bytes, GFP_KERNEL);
	run->notes = kvmalloc(dcast_notes_bytes(), GFP_KERNEL);
	if (!live->log || !live->map || !run->notes)
		return -ENOMEM;
	memcpy(live->map, host->map, map_bytes);
	run->map = live->map;
	run->vmcoreinfo_len =
		dcast_vmcoreinfo_text(run->vmcoreinfo, DCAST_VMCOREINFO_BYTES, ktime_get_real_ns());
	run->notes_len = dcast_notes_build(host, NULL, run->vmcoreinfo, run->vmcoreinfo_len,
					   run->notes, dcast_notes_bytes());
	run->log = live->log;
	run->log_len = dcast_log_capture(live->log, DCAST_LOG_BYTES);
	return 0;
}

static void dcast_live_config(struct dcast_run *run, const struct dcast_live_wish *wish)
{
	run->config.origin = get_random_u64() | 1;
	if (wish->test) {
		run->window_first = run->map->text_start >> DCAST_WINDOW_SHIFT;
		run->window_end = run->window_first + DCAST_TEST_WINDOWS;
		run->config.time_limit_ns = DCAST_TEST_LIMIT_NS;
		return;
	}
	run->config.dump_level = wish->dump_level;
	if (wish->rate_kib_s)
		run->config.rate_kib_s = min_not_zero(run->config.rate_kib_s, wish->rate_kib_s);
}

/* Takes the host's dump_id with it: a panic in the midst of it has another. Under host->lock. */
static int dcast_live_begin(struct dcast_host *host, struct dcast_live *live,
			    const struct dcast_live_wish *wish)
{
	struct dcast_run *run = live->run;
	const char *why;
	int err;

	err = dcast_live_streams(host, live);
	if (err)
		return err;
	dcast_live_config(run, wish);
	dcast_rim_init(run, true);
	err = dcast_sender_init(&run->sender, &run->config, &run->rim, run->scratch, &why);
	if (err)
		return err;
	dcast_sender_adopt_relays(&run->sender, &host->armed->sender);
	dcast_meta_fill(run, DCAST_META_LIVE | (wish->test ? DCAST_META_TEST : 0),
			wish->test ? "test dump" : "live dump");
	dcast_new_dump_id(host);
	host->live_began_ns = ktime_get_boottime_ns();
	dcast_sender_begin(&run->sender, host->live_began_ns, run->map->ranges, run->map->nr,
			   &run->meta, DCAST_F_LIVE | (wish->test ? DCAST_F_TEST : 0));
	host->live = run;
	host->live_is_test = wish->test;
	return 0;
}

/* Runs the engine until it is done. Under host->lock but for the pauses between bursts. */
static int dcast_live_loop(struct dcast_host *host, struct dcast_run *run)
{
	u64 ended_ns = 0;
	int err = 0;

	while (dcast_sender_phase(&run->sender) != DCAST_PHASE_DONE) {
		unsigned int n = 0, sent;

		do {
			sent = dcast_sender_step(&run->sender, ktime_get_boottime_ns());
			n += sent;
		} while (sent && n < DCAST_LIVE_BURST);
		dcast_heartbeat_receive(host);
		if (!ended_ns && (signal_pending(current) || READ_ONCE(dcast_live_ending))) {
			err = -EINTR;
			ended_ns = ktime_get_boottime_ns();
			dcast_sender_stop(&run->sender, ended_ns);
		} else if (ended_ns && ktime_get_boottime_ns() - ended_ns > DCAST_LIVE_GIVE_UP) {
			break;
		}
		mutex_unlock(&host->lock);
		if (n)
			cond_resched();
		else
			usleep_range(500, 2000);
		mutex_lock(&host->lock);
	}
	return err;
}

/* Relays that have all of it. Context: process, under host->lock. */
unsigned int dcast_live_committed(const struct dcast_run *run)
{
	u64 lanes = ~0ull >> (64 - run->config.lanes);
	unsigned int i, n = 0;
	const struct dcast_relay_info *relay;

	for (i = 0; (relay = dcast_sender_relay(&run->sender, i)); i++)
		n += (relay->commit_mask & lanes) == lanes;
	return n;
}

static int dcast_live_send(struct dcast_host *host, const struct dcast_live_wish *wish)
{
	struct dcast_live_result result = { .ran = true };
	struct dcast_live live = {};
	int err = -ENOMEM;

	mutex_lock(&host->lock);
	live.run = dcast_run_alloc(host, true, 0);
	if (live.run)
		err = dcast_live_begin(host, &live, wish);
	if (!err) {
		err = dcast_live_loop(host, live.run);
		host->live = NULL;
		result.duration_ns = ktime_get_boottime_ns() - host->live_began_ns;
		result.relays = dcast_live_committed(live.run);
		result.packets = dcast_sender_stats(&live.run->sender)->packets[0];
		if (!err && !dcast_sender_committed(&live.run->sender))
			err = -ETIMEDOUT;
		result.error = err;
		*(wish->test ? &host->test_result : &host->live_result) = result;
	}
	dcast_live_free(host, &live);
	mutex_unlock(&host->lock);
	return err;
}

/*
 * Sends a test or live dump of the armed host and waits for its end. 0 when the commits wanted
 * came, -ETIMEDOUT when they did not, -EINTR when it was ended by a signal or disarming, -EBUSY
 * while another is under way, -ENOTCONN when not armed, -ENOMEM.
 * Context: process, without locks.
 */
int dcast_live_dump(const struct dcast_live_wish *wish)
{
	struct dcast_host *host;
	int err = 0;

	mutex_lock(&dcast_config_lock);
	host = dcast_armed;
	if (!host)
		err = -ENOTCONN;
	else if (dcast_live_busy)
		err = -EBUSY;
	else
		dcast_live_busy = true;
	mutex_unlock(&dcast_config_lock);
	if (err)
		return err;
	/* Disarming waits, so that the host stays. */
	err = dcast_live_send(host, wish);
	mutex_lock(&dcast_config_lock);
	dcast_live_busy = false;
	mutex_unlock(&dcast_config_lock);
	wake_up_all(&dcast_live_idle);
	return err;
}

/*
 * Ends the live dump that is under way, if any, and waits for its end.
 * Context: process, under dcast_config_lock, which is let go of meanwhile.
 */
void dcast_live_end(void)
{
	while (dcast_live_busy) {
		WRITE_ONCE(dcast_live_ending, true);
		mutex_unlock(&dcast_config_lock);
		wait_event(dcast_live_idle, !READ_ONCE(dcast_live_busy));
		mutex_lock(&dcast_config_lock);
	}
	WRITE_ONCE(dcast_live_ending, false);
}
