// SPDX-License-Identifier: GPL-2.0-only
/* Ways to die. Each is called on DYING_CPU in a kthread, or in the midst of what at= names. */
#include "crasher.h"

#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/nmi.h>
#include <linux/objtool.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/timer.h>
#include <asm/apic.h>
#include <asm/nmi.h>

static int *volatile nowhere;

static void die_panic(void)
{
	panic("crasher: asked for");
}

static noinline void die_null(void)
{
	*nowhere = 1;
}

static void die_bug(void)
{
	BUG();
}

/* ---- in other contexts ---- */

static void wait_for_it(void)
{
	for (;;)
		cpu_relax();
}

static void null_timer(struct timer_list *timer)
{
	die_null();
}

static DEFINE_TIMER(softirq_timer, null_timer);

/* Not by a loop: softirqs may be left to a thread then (Linux 6.1), which would not get this processor. */
static void die_null_softirq(void)
{
	mod_timer(&softirq_timer, jiffies + 1);
	for (;;)
		schedule_timeout_uninterruptible(HZ);
}

static enum hrtimer_restart null_hrtimer(struct hrtimer *timer)
{
	die_null();
	return HRTIMER_NORESTART;
}

static struct hrtimer hardirq_timer;

static void die_null_hardirq(void)
{
	hrtimer_init(&hardirq_timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	hardirq_timer.function = null_hrtimer;
	hrtimer_start(&hardirq_timer, ms_to_ktime(1), HRTIMER_MODE_REL_HARD);
	wait_for_it();
}

static void (*in_nmi_do)(struct pt_regs *regs);
static int in_nmi_cpu;

static int nmi_handler(unsigned int cmd, struct pt_regs *regs)
{
	if (!in_nmi_do || raw_smp_processor_id() != in_nmi_cpu)
		return NMI_DONE;
	in_nmi_do(regs);
	return NMI_HANDLED;
}

static void send_nmi(unsigned int cpu, void (*do_what)(struct pt_regs *regs))
{
	if (register_nmi_handler(NMI_LOCAL, nmi_handler, 0, "crasher"))
		return;
	in_nmi_cpu = cpu;
	in_nmi_do = do_what;
	apic->send_IPI(cpu, NMI_VECTOR);
	wait_for_it();
}

static void panic_in_nmi(struct pt_regs *regs)
{
	nmi_panic(regs, "crasher: in NMI");
}

static void null_in_nmi(struct pt_regs *regs)
{
	die_null();
}

static void die_nmi(void)
{
	send_nmi(DYING_CPU, panic_in_nmi);
}

static void die_null_nmi(void)
{
	send_nmi(DYING_CPU, null_in_nmi);
}

/* What the hard lockup detector does, which needs a PMU: an NMI finds a processor that spins. */
static void hard_lockup(struct pt_regs *regs)
{
	nmi_panic(regs, "crasher: hard lockup (simulated: panic from NMI)");
}

static int spin(void *arg)
{
	crasher_stuck();
	return 0;
}

static void die_hard_lockup(void)
{
	smp_store_release(&crasher_held, false);
	if (crasher_start(spin, NULL, HOLDING_CPU))
		return;
	while (!smp_load_acquire(&crasher_held))
		cpu_relax();
	send_nmi(HOLDING_CPU, hard_lockup);
}

/* ---- stacks ---- */

static volatile bool bottomless = true;

static noinline int deeper(int depth)
{
	volatile char used[512];

	used[depth & 511] = depth;
	return (bottomless ? deeper(depth + 1) : 0) + used[(depth + 1) & 511];
}

static void die_stack_overflow(void)
{
	pr_info("depth %d\n", deeper(0));
}

#define LEFT_BYTES 2048

/* What is left is enough for panic() and what it prints with, not for a dump. */
static noinline int nearly_full(int depth)
{
	volatile char used[256];

	used[depth & 255] = depth;
	if (current_stack_pointer - (unsigned long)task_stack_page(current) < LEFT_BYTES)
		die_panic();
	return (bottomless ? nearly_full(depth + 1) : 0) + used[(depth + 1) & 255];
}

static void die_stack_nearly_full(void)
{
	pr_info("depth %d\n", nearly_full(0));
}

/* No frame fits where the stack pointer points, also not the one of the fault that says so. */
static void die_double_fault(void)
{
	asm volatile("movq $8, %%rsp\n\tpushq $0" ::: "memory");
}
STACK_FRAME_NON_STANDARD(die_double_fault);

/* ---- damage that the kernel finds ---- */

static void die_list(void)
{
	static LIST_HEAD(head);
	static LIST_HEAD(one);

	list_add(&one, &head);
	one.next = (struct list_head *)&nowhere;
	list_del(&one);
}

static void die_slab(void)
{
	void *p = kmalloc(512, GFP_KERNEL);

	kfree(p);
	kfree(p);
}

/* ---- watchdogs; the test sets their sysctls ---- */

static void die_hung_task(void)
{
	for (;;) {
		set_current_state(TASK_UNINTERRUPTIBLE);
		schedule();
	}
}

static void die_soft_lockup(void)
{
	preempt_disable();
	wait_for_it();
}

static const struct {
	const char *name;
	crasher_die_fn *fn;
} ways[] = {
	{ "panic", die_panic },
	{ "null", die_null },
	{ "bug", die_bug },
	{ "null_softirq", die_null_softirq },
	{ "null_hardirq", die_null_hardirq },
	{ "nmi", die_nmi },
	{ "null_nmi", die_null_nmi },
	{ "hard_lockup", die_hard_lockup },
	{ "stack_overflow", die_stack_overflow },
	{ "stack_nearly_full", die_stack_nearly_full },
	{ "double_fault", die_double_fault },
	{ "list", die_list },
	{ "slab", die_slab },
	{ "hung_task", die_hung_task },
	{ "soft_lockup", die_soft_lockup },
};

crasher_die_fn *crasher_way(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(ways); i++)
		if (!strcmp(name, ways[i].name))
			return ways[i].fn;
	return NULL;
}
