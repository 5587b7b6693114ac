// SPDX-License-Identifier: GPL-2.0-only
/*
 * What can be held for ever. Some is taken by its name. What has no name outside is taken by
 * doing what needs it until a probe on the unlocking function meets one of the callers
 * wanted: the processor stays there, with the lock and with interrupts off.
 */
#include "crasher.h"

#include <linux/console.h>
#include <linux/dma-mapping.h>
#include <linux/hrtimer.h>
#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/mmzone.h>
#include <linux/printk.h>
#include <linux/rcupdate.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <linux/semaphore.h>
#include <linux/skbuff.h>
#include <linux/timer.h>

/* ---- by name ---- */

static void hold_nothing(void)
{
}

static void hold_tx(void)
{
	unsigned int i;

	for (i = 0; i < crasher_card->real_num_tx_queues; i++)
		__netif_tx_lock(netdev_get_tx_queue(crasher_card, i), smp_processor_id());
}

static void hold_frozen(void)
{
	netif_tx_lock(crasher_card);
}

static void hold_zones(void)
{
	int node, i;

	for_each_online_node(node)
		for (i = 0; i < MAX_NR_ZONES; i++)
			if (populated_zone(&NODE_DATA(node)->node_zones[i]))
				spin_lock(&NODE_DATA(node)->node_zones[i].lock);
}

/* As if the processor was stopped in the midst of the card's poll function. */
static void hold_napi(void)
{
	struct napi_struct *napi;

	list_for_each_entry(napi, &crasher_card->napi_list, dev_list) {
		/* Who polls may be ksoftirqd, which must be let run for it. */
		while (test_and_set_bit(NAPI_STATE_SCHED, &napi->state))
			schedule_timeout_interruptible(1);
		WRITE_ONCE(napi->poll_owner, smp_processor_id());
	}
}

/* The queue that drivers' locks of printk() are: dump_stack() and oopses write under it. */
static void hold_printk(void)
{
	while (!__printk_cpu_sync_try_get())
		cpu_relax();
}

/* These sleep, so they are taken before interrupts go off. */
static void hold_rtnl(void)
{
	rtnl_lock();
}

/* As if the processor was stopped between taking the card down and up again. */
static void hold_closed(void)
{
	rtnl_lock();
	dev_close(crasher_card);
}

static void hold_console(void)
{
	console_lock();
}

/* The lock inside console_lock(), which printk() wants first of all. It has no name outside. */
static struct semaphore *console_sem;

static void find_console_sem(void)
{
	struct kprobe finder = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long (*lookup)(const char *name);

	if (register_kprobe(&finder))
		return;
	lookup = (void *)finder.addr;
	unregister_kprobe(&finder);
	console_sem = (void *)lookup("console_sem");
}

static void hold_console_sem(void)
{
	if (console_sem)
		raw_spin_lock(&console_sem->lock);
}

static void hold_rcu(void)
{
	rcu_read_lock();
}

/* ---- by what needs it ---- */

#define BURST 256

static void work_skbs(void)
{
	static struct sk_buff *skbs[BURST];
	unsigned int i;

	for (i = 0; i < BURST; i++)
		skbs[i] = alloc_skb(1500, GFP_KERNEL);
	for (i = 0; i < BURST; i++)
		kfree_skb(skbs[i]);
}

static void work_pages(void)
{
	static struct page *pages[BURST];
	unsigned int i;

	for (i = 0; i < BURST; i++)
		pages[i] = alloc_pages(GFP_KERNEL, i % 4);
	for (i = 0; i < BURST; i++)
		if (pages[i])
			__free_pages(pages[i], i % 4);
}

static void no_timer(struct timer_list *timer)
{
}

static DEFINE_TIMER(busy_timer, no_timer);

static void work_later(void)
{
	mod_timer(&busy_timer, jiffies + HZ);
	del_timer_sync(&busy_timer);
	schedule_timeout_interruptible(1);
}

static void work_stats(void)
{
	struct rtnl_link_stats64 stats;

	dev_get_stats(crasher_card, &stats);
}

/* Maps more than the caches of addresses hold, so that the tree of them is asked. */
static void work_dma(void)
{
	static dma_addr_t at[4 * BURST];
	struct device *dev = crasher_card->dev.parent;
	unsigned int i;

	if (!strcmp(dev->bus->name, "virtio"))
		dev = dev->parent;
	for (i = 0; i < ARRAY_SIZE(at); i++)
		at[i] = dma_map_page(dev, ZERO_PAGE(0), 0, PAGE_SIZE, DMA_TO_DEVICE);
	for (i = 0; i < ARRAY_SIZE(at); i++)
		if (!dma_mapping_error(dev, at[i]))
			dma_unmap_page(dev, at[i], PAGE_SIZE, DMA_TO_DEVICE);
}

/* Frames that nobody takes. */
static void work_send(void)
{
	struct sk_buff *skb = alloc_skb(NET_SKB_PAD + ETH_ZLEN, GFP_KERNEL);

	if (!skb)
		return;
	skb_reserve(skb, NET_SKB_PAD);
	skb_put_zero(skb, ETH_ZLEN - ETH_HLEN);
	skb->dev = crasher_card;
	skb->protocol = htons(ETH_P_LOOPBACK);
	skb_reset_network_header(skb);
	if (dev_hard_header(skb, crasher_card, ETH_P_LOOPBACK, crasher_card->broadcast, NULL,
			    skb->len) < 0)
		kfree_skb(skb);
	else
		dev_queue_xmit(skb);
}

static void work_nothing(void)
{
	schedule_timeout_interruptible(1);
}

static void work_console(void)
{
	pr_emerg("something to write\n");
}

static const struct held {
	const char *name;
	void (*sleeping)(void); /* interrupts on */
	void (*atomic)(void);	/* interrupts off */
	void (*work)(void);	/* until a probe on where meets one of callers */
	const char *where;
	const char *callers;
	bool anybody; /* who gets to where on HOLDING_CPU, be it an interrupt */
} helds[] = {
	{ "irqs_off", NULL, hold_nothing },
	{ "tx", NULL, hold_tx },
	{ "frozen", NULL, hold_frozen },
	{ "zones", NULL, hold_zones },
	{ "printk", NULL, hold_printk },
	/* Who dies may have to let the card's poll function end. */
	{ "napi", hold_napi },
	{ "rtnl", hold_rtnl },
	{ "closed", hold_closed },
	{ "console", hold_console },
	{ "console_sem", find_console_sem, hold_console_sem },
	{ "rcu", hold_rcu },
	{ "slab", .work = work_skbs, .where = "unlock",
	  .callers = "get_partial_node ___slab_alloc __slab_free deactivate_slab "
		     "__unfreeze_partials __put_partials put_cpu_partial" },
	{ "page_list", .work = work_pages, .where = "unlock",
	  .callers = "rmqueue_bulk __rmqueue_pcplist rmqueue free_pcppages_bulk free_one_page "
		     "get_page_from_freelist rmqueue_buddy free_unref_page" },
	{ "timer", .work = work_later, .where = "unlock",
	  .callers = "__mod_timer __timer_delete_sync __try_to_del_timer_sync del_timer" },
	{ "run_queue", .work = work_later, .where = "unlock",
	  .callers = "raw_spin_rq_unlock finish_task_switch try_to_wake_up ttwu_queue "
		     "__schedule" },
	{ "iommu", .work = work_dma, .where = "unlock",
	  .callers = "__alloc_and_insert_iova_range alloc_iova" },
	/* What unlocks these may be a tail call, of the caller's caller then. */
	{ "driver", .work = work_stats, .where = "_raw_spin_unlock",
	  .callers = "e1000e_get_stats64 dev_get_stats" },
	/* What a driver's transmit function takes for itself. */
	{ "driver_tx", .work = work_send, .where = "unlock",
	  .callers = "vmxnet3_xmit_frame vmxnet3_tq_xmit cp_start_xmit" },
	{ "uart", .work = work_console, .where = "_raw_spin_unlock_irqrestore",
	  .callers = "serial8250_console_write univ8250_console_write console_emit_next_record "
		     "console_flush_all uart_port_unlock_irqrestore" },
	/* In the midst of the card's poll function, with a frame that just came in. */
	{ "receive", .work = work_nothing, .where = "napi_gro_receive", .anybody = true },
	/* A record of the log that is reserved and never finished. */
	{ "log_record", .work = work_console, .where = "prb_final_commit" },
};

static const struct held *wanted;
static struct task_struct *holder;

static bool name_in(const char *name, const char *list)
{
	size_t len;

	for (; *list; list += len, list += *list == ' ') {
		len = strcspn(list, " ");
		/* Suffixes of the compiler's (.isra.0) or the module's name are no other function. */
		if (!strncmp(name, list, len) && strchr(". ", name[len]))
			return true;
	}
	return false;
}

static int at_unlock(struct kprobe *probe, struct pt_regs *regs)
{
	char name[KSYM_SYMBOL_LEN];

	if (wanted->anybody ? !holder || raw_smp_processor_id() != HOLDING_CPU : current != holder)
		return 0;
	if (wanted->callers) {
		/* At its first instruction the return address is on top of the stack. */
		sprint_symbol_no_offset(name, *(unsigned long *)regs->sp);
		if (!name_in(name, wanted->callers))
			return 0;
	}
	/* Nobody waits for a poll function, and the next frame may be long in coming. */
	while (!crasher_may_hold()) {
		if (!wanted->anybody)
			return 0;
		cpu_relax();
	}
	crasher_stuck();
	return 0;
}

static struct kprobe unlock_probes[] = {
	{ .symbol_name = "_raw_spin_unlock", .pre_handler = at_unlock },
	{ .symbol_name = "_raw_spin_unlock_irq", .pre_handler = at_unlock },
	{ .symbol_name = "_raw_spin_unlock_irqrestore", .pre_handler = at_unlock },
};
static struct kprobe where_probe = { .pre_handler = at_unlock };

static int probes_begin(void)
{
	unsigned int i;
	int err;

	if (strcmp(wanted->where, "unlock")) {
		where_probe.symbol_name = wanted->where;
		return register_kprobe(&where_probe);
	}
	for (i = 0; i < ARRAY_SIZE(unlock_probes); i++) {
		err = register_kprobe(&unlock_probes[i]);
		if (err)
			return err;
	}
	return 0;
}

static int holder_run(void *arg)
{
	while (!smp_load_acquire(&crasher_ready))
		schedule_timeout_interruptible(1);
	if (wanted->sleeping)
		wanted->sleeping();
	if (!wanted->work) {
		while (!crasher_may_hold())
			cpu_relax();
		local_irq_disable();
		if (wanted->atomic)
			wanted->atomic();
		crasher_stuck();
	}
	holder = current;
	for (;;) {
		wanted->work();
		cond_resched();
	}
	return 0;
}

static const struct held *find(const char *name)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(helds); i++)
		if (!strcmp(name, helds[i].name))
			return &helds[i];
	pr_err("hold=%s: no such thing\n", name);
	return NULL;
}

int crasher_hold_own(const char *name)
{
	const struct held *held = find(name);

	if (!held || held->work)
		return -EINVAL;
	if (held->sleeping)
		held->sleeping();
	local_irq_disable();
	if (held->atomic)
		held->atomic();
	smp_store_release(&crasher_held, true);
	return 0;
}

int crasher_hold_other(const char *name)
{
	int err;

	wanted = find(name);
	if (!wanted)
		return -EINVAL;
	err = wanted->work ? probes_begin() : 0;
	if (err) {
		pr_err("hold=%s: no probe: %d\n", name, err);
		return err;
	}
	return crasher_start(holder_run, NULL, HOLDING_CPU);
}
