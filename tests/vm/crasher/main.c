// SPDX-License-Identifier: GPL-2.0-only
/* Parameters, and who does what where. README.md has examples. */
#include "crasher.h"

#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched.h>

static char *die = "panic";
module_param(die, charp, 0444);
MODULE_PARM_DESC(die, "way to die, or none");
static char *at = "";
module_param(at, charp, 0444);
MODULE_PARM_DESC(at, "die when this function is entered, [MODULE:]NAME");
static uint after;
module_param(after, uint, 0444);
MODULE_PARM_DESC(after, "after so many entries into that function");
static char *hold = "none";
module_param(hold, charp, 0444);
MODULE_PARM_DESC(hold, "what is held meanwhile");
static bool own;
module_param(own, bool, 0444);
MODULE_PARM_DESC(own, "held by the processor that dies");
static char *dev = "net0";
module_param(dev, charp, 0444);
MODULE_PARM_DESC(dev, "the network card");
static bool trap;
module_param(trap, bool, 0444);
MODULE_PARM_DESC(trap, "say which allocators and lock slow paths the hook gets to");
static uint fault;
module_param(fault, uint, 0444);
MODULE_PARM_DESC(fault, "a fault in this step of the hook; 0: none");
static uint reset;
module_param(reset, uint, 0444);
MODULE_PARM_DESC(reset, "the card is reset in this step of the hook; 0: never");

static uint stop;
module_param(stop, uint, 0444);
MODULE_PARM_DESC(stop, "the sender stops when so many percent have left; 0: at its end");

static char *helper = "";
module_param(helper, charp, 0444);
MODULE_PARM_DESC(helper, "what becomes of the other processor when it helps: stuck or faults");

static int go(const char *value, const struct kernel_param *param);
static const struct kernel_param_ops go_ops = { .set = go };
module_param_cb(go, &go_ops, NULL, 0200);
MODULE_PARM_DESC(go, "written when it is time");

struct net_device *crasher_card;
bool crasher_ready, crasher_held;

static crasher_die_fn *way;
static atomic_t dying = ATOMIC_INIT(0), entries = ATOMIC_INIT(0);

void crasher_stuck(void)
{
	local_irq_disable();
	smp_store_release(&crasher_held, true);
	while (READ_ONCE(crasher_held))
		cpu_relax();
}

int crasher_start(int (*run)(void *arg), void *arg, unsigned int cpu)
{
	struct task_struct *task = kthread_create(run, arg, "crasher/%u", cpu);

	if (IS_ERR(task))
		return PTR_ERR(task);
	kthread_bind(task, cpu);
	sched_set_fifo(task);
	wake_up_process(task);
	return 0;
}

static int die_at(struct kprobe *probe, struct pt_regs *regs)
{
	if (smp_load_acquire(&crasher_held) && atomic_inc_return(&entries) > after &&
	    !atomic_xchg(&dying, 1))
		way();
	return 0;
}

static struct kprobe at_probe = { .pre_handler = die_at };

/*
 * Until something is held: an interrupt may want just that, and would wait for ever. But who is to hold it may
 * want an answer before that, so they are let in now and then, and nothing is held meanwhile.
 */
enum { INTERRUPTS_OFF, INTERRUPTS_ON, HOLDING };
static atomic_t interrupts = ATOMIC_INIT(INTERRUPTS_OFF);

bool crasher_may_hold(void)
{
	return atomic_cmpxchg(&interrupts, INTERRUPTS_OFF, HOLDING) == INTERRUPTS_OFF;
}

static void wait_without_interrupts(void)
{
	unsigned int turns;

	for (;;) {
		local_irq_disable();
		atomic_set(&interrupts, INTERRUPTS_OFF);
		for (turns = 0; turns < 10000; turns++)
			cpu_relax();
		if (atomic_cmpxchg(&interrupts, INTERRUPTS_OFF, INTERRUPTS_ON) == HOLDING)
			return;
		local_irq_enable();
	}
}

static int dier(void *arg)
{
	int err = own ? crasher_hold_own(hold) : 0;

	if (err) {
		pr_err("hold=%s own=1: %d\n", hold, err);
		return err;
	}
	if (!own && strcmp(hold, "none"))
		atomic_set(&interrupts, INTERRUPTS_ON);
	/* From now on nobody else runs here, to wait for the processor that is stuck. */
	smp_store_release(&crasher_ready, true);
	if (!own && strcmp(hold, "none"))
		wait_without_interrupts();
	while (!smp_load_acquire(&crasher_held))
		cpu_relax();
	way();
	return 0;
}

static int go(const char *value, const struct kernel_param *param)
{
	int err = 0;

	if (at[0]) {
		at_probe.symbol_name = at;
		err = register_kprobe(&at_probe);
		if (err)
			pr_err("at=%s: %d\n", at, err);
	}
	if (!strcmp(hold, "none"))
		smp_store_release(&crasher_held, true);
	else if (!err && !own)
		err = crasher_hold_other(hold);
	if (!err && way && !at[0])
		err = crasher_start(dier, NULL, DYING_CPU);
	return err;
}

static int __init crasher_init(void)
{
	int err;

	crasher_card = dev_get_by_name(&init_net, dev);
	if (!crasher_card || num_online_cpus() < 2) {
		pr_err("wanted a network card %s and two processors\n", dev);
		return -ENODEV;
	}
	way = crasher_way(die);
	if (!way && strcmp(die, "none")) {
		pr_err("die=%s: no such way\n", die);
		return -EINVAL;
	}
	err = trap ? crasher_trap_begin() : 0;
	if (!err && fault)
		err = crasher_fault_begin(fault);
	if (!err && reset)
		err = crasher_reset_begin(reset);
	if (!err && stop)
		err = crasher_stop_begin(stop);
	if (!err && helper[0])
		err = crasher_helper_begin(helper);
	return err;
}
module_init(crasher_init);

MODULE_DESCRIPTION("Brings a test guest down in many ways");
MODULE_LICENSE("GPL");
