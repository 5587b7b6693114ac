// SPDX-License-Identifier: GPL-2.0-only
/* Stops the sender in the midst of a dump: it ends as it does when its time is over. */
#include "crasher.h"

#include <linux/kernel.h>
#include <linux/kprobes.h>

struct dcast_sender;

/* kmod/core/dcast_sender.h; neither is exported. */
static void (*sender_progress)(const struct dcast_sender *s, u64 *done, u64 *total);
static void (*sender_stop)(struct dcast_sender *s, u64 now_ns);
static unsigned int stop_percent;

static int at_step(struct kprobe *probe, struct pt_regs *regs)
{
	struct dcast_sender *s = (struct dcast_sender *)regs->di;
	u64 done, total;

	if (!stop_percent || !crasher_in_panic())
		return 0;
	sender_progress(s, &done, &total);
	if (!total || done * 100 < total * stop_percent)
		return 0;
	pr_emerg("the sender is stopped at block %llu of %llu\n", done, total);
	stop_percent = 0;
	sender_stop(s, regs->si);
	return 0;
}

static struct kprobe step_probe = { .symbol_name = "dcast_sender_step", .pre_handler = at_step };

static void *address_of(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	void *address;

	if (register_kprobe(&probe))
		return NULL;
	address = probe.addr;
	unregister_kprobe(&probe);
	return address;
}

int crasher_stop_begin(unsigned int percent)
{
	sender_progress = address_of("dcast_sender_progress");
	sender_stop = address_of("dcast_sender_stop");
	if (!sender_progress || !sender_stop)
		return -ENOENT;
	stop_percent = percent;
	return register_kprobe(&step_probe);
}
