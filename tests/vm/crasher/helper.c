// SPDX-License-Identifier: GPL-2.0-only
/* A processor that helps with a dump, and does not bring the block that it took. */
#include "crasher.h"

#include <linux/atomic.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>

static bool faults;
static atomic_t failed = ATOMIC_INIT(0);

/* dcast_encode_block(sender, encoder, ...): encoder 0 is who sends. */
static int at_encode(struct kprobe *probe, struct pt_regs *regs)
{
	if (!regs->si || atomic_xchg(&failed, 1))
		return 0;
	if (faults)
		regs->di = 0;
	else
		crasher_stuck();
	return 0;
}

static struct kprobe encode_probe = { .symbol_name = "dcast_encode_block",
				      .pre_handler = at_encode };

/* "stuck" or "faults". 0 or negative. */
int crasher_helper_begin(const char *how)
{
	faults = !strcmp(how, "faults");
	if (!faults && strcmp(how, "stuck"))
		return -EINVAL;
	return register_kprobe(&encode_probe);
}
