// SPDX-License-Identifier: GPL-2.0-only
/*
 * The test dump: class 0 and a few windows of the kernel's image, sent by the same engine to
 * the same relays while the host lives, so that the road is proven before it is needed.
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
#define DCAST_TEST_BURST    256u /* packets between looks at the sockets */

/* Streams of a dump of the living: the log and vmcoreinfo, no registers. */
static int dcast_live_streams(struct dcast_host *host, struct dcast_run *run, char *log)
{
	run->vmcoreinfo_len =
		dcast_vmcoreinfo_text(run->vmcoreinfo, DCAST_VMCOREINFO_BYTES, ktime_get_real_ns());
	run->notes = kvmalloc(dcast_notes_bytes(), GFP_KERNEL);
	if (!run->notes)
		return -ENOMEM;
	run->notes_len = dcast_notes_build(host, NULL, run->vmcoreinfo, run->vmcoreinfo_len,
					   run->notes, dcast_notes_bytes());
	run->log = log;
	run->log_len = dcast_log_capture(log, DCAST_LOG_BYTES);
	return 0;
}

/* Runs the engine until it is done, under host->lock but for the pauses. */
static int dcast_live_loop(struct dcast_host *host, struct dcast_run *run)
{
	while (dcast_sender_phase(&run->sender) != DCAST_PHASE_DONE) {
		unsigned int n = 0, sent;

		do {
			sent = dcast_sender_step(&run->sender, dcast_now_ns());
			n += sent;
		} while (sent && n < DCAST_TEST_BURST);
		dcast_heartbeat_receive(host, run);
		if (signal_pending(current))
			return -EINTR;
		if (n)
			continue;
		mutex_unlock(&host->lock);
		usleep_range(500, 2000);
		mutex_lock(&host->lock);
	}
	return 0;
}

static unsigned int dcast_live_committed(const struct dcast_run *run)
{
	u64 lanes = ~0ull >> (64 - run->config.lanes);
	unsigned int i, n = 0;
	const struct dcast_relay_info *relay;

	for (i = 0; (relay = dcast_sender_relay(&run->sender, i)); i++)
		n += (relay->commit_mask & lanes) == lanes;
	return n;
}

/*
 * Sends a test dump and waits for its end. 0 when the commits wanted came, -ETIMEDOUT when
 * they did not, or another error. host->test says more.
 * Context: process, under dcast_config_lock.
 */
int dcast_live_test(struct dcast_host *host)
{
	struct dcast_run *run;
	const char *why;
	u64 began;
	char *log;
	int err;

	run = dcast_run_alloc(host, true);
	log = kvmalloc(DCAST_LOG_BYTES, GFP_KERNEL);
	if (!run || !log) {
		err = -ENOMEM;
		goto free;
	}
	mutex_lock(&host->lock);
	err = dcast_live_streams(host, run, log);
	if (err)
		goto unlock;
	run->map = host->map;
	run->window_first = run->map->text_start >> DCAST_WINDOW_SHIFT;
	run->window_end = run->window_first + DCAST_TEST_WINDOWS;
	run->config.origin = get_random_u64() | 1;
	run->config.time_limit_ns = DCAST_TEST_LIMIT_NS;
	dcast_rim_init(run, true);
	err = dcast_sender_init(&run->sender, &run->config, &run->rim, run->scratch, &why);
	if (err)
		goto unlock;
	dcast_sender_adopt_relays(&run->sender, &host->armed->sender);
	dcast_meta_fill(run, DCAST_META_LIVE | DCAST_META_TEST, "test dump");
	/* This dump has taken the host's id with it: a panic in the midst of it has another. */
	dcast_new_dump_id(host);
	began = dcast_now_ns();
	dcast_sender_begin(&run->sender, began, run->map->ranges, run->map->nr, &run->meta,
			   DCAST_F_LIVE | DCAST_F_TEST);
	host->testing = true; /* keeps the map in place */
	err = dcast_live_loop(host, run);
	host->testing = false;
	host->test.ran = true;
	host->test.duration_ns = dcast_now_ns() - began;
	host->test.relays = dcast_live_committed(run);
	host->test.packets = dcast_sender_stats(&run->sender)->packets[0];
	if (!err && !dcast_sender_committed(&run->sender))
		err = -ETIMEDOUT;
	host->test.error = err;
unlock:
	mutex_unlock(&host->lock);
free:
	if (run)
		kvfree(run->notes);
	dcast_run_free(host, run);
	kvfree(log);
	return err;
}
