/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the crasher share. */
#ifndef DUMPCAST_TESTS_VM_CRASHER_H
#define DUMPCAST_TESTS_VM_CRASHER_H

#define pr_fmt(fmt) "crasher: " fmt

#include <linux/kernel.h>
#include <linux/netdevice.h>
#include <linux/types.h>

#define DYING_CPU   0
#define HOLDING_CPU 1

extern struct net_device *crasher_card;
/* Set by who is to die, when nothing else can run on its processor. */
extern bool crasher_ready;
/* Set by who holds, when it holds; the dying one waits for it. */
extern bool crasher_held;

/* Begins a real-time kthread bound to cpu. 0 or negative. */
int crasher_start(int (*run)(void *arg), void *arg, unsigned int cpu);
/* For ever, with interrupts off, having said that it holds. */
void crasher_stuck(void);

/* die.c: NULL for an unknown name. May sleep before it dies. */
typedef void crasher_die_fn(void);
crasher_die_fn *crasher_way(const char *name);

/* True once, and only while who dies serves no interrupt, nor will: then something may be held. */
bool crasher_may_hold(void);

/* hold.c: takes what name says on this processor, and returns; or begins to hold on another. */
int crasher_hold_own(const char *name);
int crasher_hold_other(const char *name);

/* trap.c */
int crasher_trap_begin(void);
int crasher_fault_begin(unsigned int step);

/* reset.c: in which step of the hook the card is reset */
int crasher_reset_begin(unsigned int at);

/* stop.c: how much of a dump leaves before its sender is stopped, percent of its blocks */
int crasher_stop_begin(unsigned int percent);

/* helper.c: how the other processor fails when it helps with a dump */
int crasher_helper_begin(const char *how);

/* Heartbeats and live dumps take steps of the engine's, too. */
static inline bool crasher_in_panic(void)
{
	return system_state != SYSTEM_RUNNING || oops_in_progress;
}

#endif
