// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the panic hook gets to that it must not: the page and slab allocators, the slow
 * paths of locks, and interrupts. From the hook's begin on each call of these is counted, apart for what the
 * card's driver does in our hands (its transmit function, its poll functions), and what is
 * ours is said at once, with the names that are on the stack.
 */
#include "crasher.h"

#include <linux/kallsyms.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/netdevice.h>
#include <linux/panic_notifier.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define HOOK "dcast_dump"
#define STEP "dcast_sender_step"

#define SPIN_SLOW_PATH "native_queued_spin_lock_slowpath"

/* Functions that not every kernel has are passed over; how many were found is said. */
/* clang-format off */
static const char *const forbidden[] = {
	"__alloc_pages", "__alloc_pages_noprof", "__alloc_pages_bulk", "alloc_pages_bulk_noprof",
	"get_page_from_freelist", "kmem_cache_alloc", "kmem_cache_alloc_noprof",
	"kmem_cache_alloc_node", "kmem_cache_alloc_node_noprof", "kmem_cache_alloc_bulk",
	"kmem_cache_alloc_bulk_noprof", "__kmalloc", "__kmalloc_noprof", "__kmalloc_node",
	"__kmalloc_node_noprof", "__kmalloc_node_track_caller",
	"__kmalloc_node_track_caller_noprof", "kmalloc_trace", "__kmalloc_cache_noprof",
	"kmalloc_large", "__kmalloc_large_noprof", "__vmalloc_node_range",
	"__vmalloc_node_range_noprof", "kfree", "kmem_cache_free", "kmem_cache_free_bulk",
	"__free_pages", "free_unref_page", "vfree",
	SPIN_SLOW_PATH, "queued_read_lock_slowpath",
	"queued_write_lock_slowpath", "__mutex_lock_slowpath", "mutex_lock", "down", "down_read",
	"down_write", "schedule", "schedule_timeout", "wait_for_completion", "synchronize_rcu",
	"synchronize_irq", "msleep", "flush_work",
	/* and interrupts, which are off */
	"hrtimer_interrupt", "handle_irq_event", "__do_softirq",
};
/* clang-format on */
#define FORBIDDEN ARRAY_SIZE(forbidden)

enum { OURS, TRANSMIT, POLL, CONTROLLER, GIVEN_BACK, PLACES };

static const char *const places[PLACES] = { "ours", "transmit", "poll", "poll controller",
					    "frames given back" };

static struct kprobe probes[FORBIDDEN];
static unsigned int hits[PLACES][FORBIDDEN];
static unsigned int depth[PLACES]; /* one processor only */
static bool started;
/*
 * Waited for as long as a probe takes to be hit: who lets go of it is the same processor, in the
 * probe's handler.
 */
static DEFINE_SPINLOCK(contended);

static unsigned int place_now(void)
{
	unsigned int place;

	for (place = PLACES - 1; place > OURS; place--)
		if (depth[place])
			return place;
	return OURS;
}

static void say_stack(unsigned long sp)
{
	unsigned long value;
	unsigned int names = 0;
	int left = 512;

	for (; left-- && names < 12; sp += sizeof(long)) {
		if (get_kernel_nofault(value, (unsigned long *)sp))
			return;
		if (value >= __START_KERNEL_map && value < MODULES_END) {
			pr_emerg("  %pS\n", (void *)value);
			names++;
		}
	}
}

static int trapped(struct kprobe *probe, struct pt_regs *regs)
{
	unsigned int place, i = probe - probes;

	if (!started)
		return 0;
	place = place_now();
	if (spin_is_locked(&contended))
		spin_unlock(&contended);
	if (!hits[place][i]++ && place == OURS) {
		pr_emerg("TRAP %s\n", probe->symbol_name);
		say_stack(regs->sp);
	}
	return 0;
}

static int hook_begins(struct kprobe *probe, struct pt_regs *regs)
{
	started = true;
	return 0;
}

static struct kprobe hook_probe = { .symbol_name = HOOK, .pre_handler = hook_begins };

/* ---- the driver in our hands ---- */

#define MAX_HANDS 16

static struct hand {
	struct kretprobe probe;
	unsigned int place;
} hands[MAX_HANDS];
static unsigned int nr_hands;

static unsigned int place_of(struct kretprobe_instance *ri)
{
	return container_of(get_kretprobe(ri), struct hand, probe)->place;
}

static int enter(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if (!started)
		return 1; /* not traced to its end */
	depth[place_of(ri)]++;
	return 0;
}

static int leave(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	depth[place_of(ri)]--;
	return 0;
}

static int watch(unsigned int place, void *addr, const char *symbol)
{
	struct hand *hand = &hands[nr_hands];
	unsigned int i;
	int err;

	for (i = 0; addr && i < nr_hands; i++)
		if (hands[i].probe.kp.addr == addr)
			return 0;
	if (nr_hands == MAX_HANDS)
		return -ENOSPC;
	hand->place = place;
	hand->probe.kp.addr = addr;
	hand->probe.kp.symbol_name = symbol;
	hand->probe.entry_handler = enter;
	hand->probe.handler = leave;
	hand->probe.maxactive = 8;
	err = register_kretprobe(&hand->probe);
	if (err)
		pr_err("no probe on %ps %s: %d\n", addr, symbol ?: "", err);
	else
		nr_hands++;
	return err;
}

static int watch_driver(void)
{
	const struct net_device_ops *ops = crasher_card->netdev_ops;
	struct napi_struct *napi;
	int err = watch(TRANSMIT, ops->ndo_start_xmit, NULL);

	if (!err && ops->ndo_poll_controller)
		err = watch(CONTROLLER, ops->ndo_poll_controller, NULL);
	list_for_each_entry(napi, &crasher_card->napi_list, dev_list)
		err = err ?: watch(POLL, napi->poll, NULL);
	return err ?: watch(GIVEN_BACK, NULL, "napi_consume_skb");
}

/* ---- the report ---- */

static unsigned int sum(unsigned int place)
{
	unsigned int i, n = 0;

	for (i = 0; i < FORBIDDEN; i++)
		n += hits[place][i];
	return n;
}

static void say_hits(unsigned int place)
{
	unsigned int i;

	for (i = 0; i < FORBIDDEN; i++)
		if (hits[place][i])
			pr_emerg("in %s: %s %u times\n", places[place], forbidden[i],
				 hits[place][i]);
}

static unsigned int hits_of(const char *name)
{
	unsigned int i;

	for (i = 0; i < FORBIDDEN; i++)
		if (!strcmp(name, forbidden[i]))
			return hits[OURS][i];
	return 0;
}

static void contend(void)
{
	spin_lock(&contended);
	spin_lock(&contended);
	spin_unlock(&contended);
}

/* After our hook; ends with an allocation and a wait, to show that they would have been seen. */
static int hook_over(struct notifier_block *nb, unsigned long event, void *message)
{
	unsigned int before = sum(OURS), allocated, place;

	for (place = TRANSMIT; place < PLACES; place++)
		say_hits(place);
	kfree(kmalloc(8, GFP_ATOMIC));
	allocated = sum(OURS) - before;
	contend();
	pr_emerg("trapped in ours %u; traps on purpose %s; hook %s\n", before,
		 allocated && hits_of(SPIN_SLOW_PATH) ? "work" : "are not seen",
		 started ? "ran" : "did not run");
	started = false;
	return NOTIFY_DONE;
}

static struct notifier_block after_hook = { .notifier_call = hook_over, .priority = INT_MIN };

int crasher_trap_begin(void)
{
	unsigned int i, n = 0;
	int err;

	for (i = 0; i < FORBIDDEN; i++) {
		probes[i].symbol_name = forbidden[i];
		probes[i].pre_handler = trapped;
		if (register_kprobe(&probes[i]))
			pr_info("no probe on %s\n", forbidden[i]);
		else
			n++;
	}
	err = watch_driver();
	if (err)
		return err;
	err = register_kprobe(&hook_probe);
	if (err) {
		pr_err("no probe on %s: %d\n", HOOK, err);
		return err;
	}
	pr_info("%u functions are watched\n", n);
	return atomic_notifier_chain_register(&panic_notifier_list, &after_hook);
}

/* ---- a fault of the hook's own ---- */

static unsigned int fault_step;

/* The engine gets no sender, and faults in its own code. */
static int step_begins(struct kprobe *probe, struct pt_regs *regs)
{
	if (started && !--fault_step)
		regs->di = 0;
	return 0;
}

static struct kprobe step_probe = { .symbol_name = STEP, .pre_handler = step_begins };

int crasher_fault_begin(unsigned int step)
{
	int err;

	fault_step = step;
	err = register_kprobe(&step_probe);
	if (!err && !hook_probe.addr)
		err = register_kprobe(&hook_probe);
	if (err)
		pr_err("no probe on %s or %s: %d\n", STEP, HOOK, err);
	return err;
}
