// SPDX-License-Identifier: GPL-2.0-only
/*
 * Panics a guest while a lock is held that the road out could need:
 *
 *   modprobe panicker how=tx dev=net0
 *
 * The other processor takes the lock with interrupts off and never lets go; with own=1 the
 * one that panics holds it. how:
 *
 *   tx      every transmit lock of dev
 *   frozen  dev's queues frozen, as netif_tx_lock() does, and its lock held
 *   zone    every zone's lock
 *   napi    dev's NAPI contexts, as if a processor was stopped in the midst of their poll
 *   none    nothing: it only keeps its interrupts off
 */
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/netdevice.h>

static char *how = "none";
module_param(how, charp, 0444);
static char *dev = "net0";
module_param(dev, charp, 0444);
static bool own;
module_param(own, bool, 0444);

static struct net_device *card;
static bool held;

static void hold_tx(void)
{
	unsigned int i;

	for (i = 0; i < card->real_num_tx_queues; i++)
		__netif_tx_lock(netdev_get_tx_queue(card, i), smp_processor_id());
}

static void hold_zones(void)
{
	int node, i;

	for_each_online_node(node)
		for (i = 0; i < MAX_NR_ZONES; i++)
			if (populated_zone(&NODE_DATA(node)->node_zones[i]))
				spin_lock(&NODE_DATA(node)->node_zones[i].lock);
}

static void hold_napi(void)
{
	struct napi_struct *napi;

	list_for_each_entry(napi, &card->napi_list, dev_list) {
		while (test_and_set_bit(NAPI_STATE_SCHED, &napi->state))
			cpu_relax();
		WRITE_ONCE(napi->poll_owner, smp_processor_id());
	}
}

static void hold(void)
{
	if (!strcmp(how, "tx"))
		hold_tx();
	else if (!strcmp(how, "frozen"))
		netif_tx_lock(card);
	else if (!strcmp(how, "zone"))
		hold_zones();
	else if (!strcmp(how, "napi"))
		hold_napi();
	smp_store_release(&held, true);
}

static int holder(void *arg)
{
	local_irq_disable();
	hold();
	for (;;)
		cpu_relax();
	return 0;
}

static int panicker(void *arg)
{
	if (own) {
		local_irq_disable();
		hold();
	}
	while (!smp_load_acquire(&held))
		cpu_relax();
	panic("panicker: %s held%s", how, own ? " by itself" : "");
	return 0;
}

static int start(int (*run)(void *), unsigned int cpu)
{
	struct task_struct *task = kthread_create(run, NULL, "panicker/%u", cpu);

	if (IS_ERR(task))
		return PTR_ERR(task);
	kthread_bind(task, cpu);
	wake_up_process(task);
	return 0;
}

static int __init panicker_init(void)
{
	int err = 0;

	card = dev_get_by_name(&init_net, dev);
	if (!card || num_online_cpus() < 2)
		return -ENODEV;
	/* The one that holds comes last: this thread may be on its processor. */
	err = start(panicker, 0);
	if (!err && !own)
		err = start(holder, 1);
	return err;
}
module_init(panicker_init);

MODULE_DESCRIPTION("Panics a test guest while a lock is held");
MODULE_LICENSE("GPL");
