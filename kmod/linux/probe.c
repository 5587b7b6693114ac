// SPDX-License-Identifier: GPL-2.0-only
/*
 * What stopped processors hold. A driver that receives refills its ring from the page and
 * slab allocators, and would wait for ever for a lock of theirs that a stopped processor has.
 *
 * When memory is short it also wakes kswapd, and needs the scheduler's.
 *
 * Zones' locks can be looked at. The slab allocator's cannot, from a module. But they are all
 * taken with interrupts off, so that a processor stopped by an interrupt holds none; one
 * stopped by NMI that holds any spinlock has a preemption count, and then the stack that it
 * was stopped on names what it was doing (docs/decisions/0014).
 *
 * Drivers have locks of their own. Of those that take one where we go, too (tx.c, watchdog.c), it is
 * enough to know that nobody was stopped in their midst.
 *
 * With PREEMPT_RT spinlocks are mutexes: taken with interrupts on, not counted, and held by
 * tasks that do not run. So the stacks of all are read that run, were preempted, or wait for
 * such a lock.
 */
#include "dumpcast.h"

#include <linux/cpumask.h>
#include <linux/device.h>
#include <linux/elf.h>
#include <linux/elfcore.h>
#include <linux/kallsyms.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/vmstat.h>

#include <asm/unwind.h>

/* Locks of stopped processors stay as they are; our own come and go. */
#define DCAST_PROBE_NS (500 * NSEC_PER_USEC)

/* Without pages a driver's refill fails, and it queues work: a lock that nothing here looks at. */
#define DCAST_SPARE_PAGES 64

/* Reading stacks of preempted tasks. Thousands of them are more than can be judged. */
#define DCAST_SLEEPERS_NS (200 * NSEC_PER_MSEC)

#define DCAST_HOLDS_ALLOCATOR 1u
#define DCAST_HOLDS_SCHEDULER 2u

/*
 * Whether the allocator would wake kswapd, for which it takes a run queue's lock: when no zone
 * is above its watermark.
 */
static bool dcast_memory_short(void)
{
	int node, i;

	for_each_online_node(node) {
		for (i = 0; i < MAX_NR_ZONES; i++) {
			struct zone *zone = &NODE_DATA(node)->node_zones[i];

			if (populated_zone(zone) &&
			    zone_page_state(zone, NR_FREE_PAGES) >
				    high_wmark_pages(zone) + zone->lowmem_reserve[ZONE_NORMAL] +
					    DCAST_SPARE_PAGES)
				return false;
		}
	}
	return true;
}

static bool dcast_zones_usable(void)
{
	int node, i;

	if (global_zone_page_state(NR_FREE_PAGES) < DCAST_SPARE_PAGES)
		return false;
	for_each_online_node(node) {
		pg_data_t *pgdat = NODE_DATA(node);

		for (i = 0; i < MAX_NR_ZONES; i++) {
			struct zone *zone = &pgdat->node_zones[i];

			if (populated_zone(zone) && spin_is_locked(&zone->lock))
				return false;
		}
	}
	return true;
}

/* What a processor runs, and its preemption count. Context: any. */
void dcast_cpu_state(unsigned int cpu, struct task_struct **task, unsigned int *count)
{
	/* 64701838bf05 ("x86/percpu: Move preempt_count next to current_task"), 6.2. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 2, 0)
	*task = per_cpu(pcpu_hot.current_task, cpu);
	*count = per_cpu(pcpu_hot.preempt_count, cpu);
#else
	*task = per_cpu(current_task, cpu);
	*count = per_cpu(__preempt_count, cpu);
#endif
}

/* Parts of the names of functions that run with an allocator's lock held, or a scheduler's. */
/* clang-format off */
static const char *const dcast_allocators[] = {
	"slab", "kmem_cache", "kmalloc", "kfree", "partial_node", "page_list", "pcppages", "rmqueue",
	"buddy", "free_one_page", "__free_pages", "iova", "iommu", "qi_submit", "fq_flush",
	/* A slab's new page is filled in a random order. */
	"crng", "entropy", "mix_pool", "get_random",
	"page_pool",
#ifdef CONFIG_PREEMPT_RT
	/* The caches of packets and their memory. */
	"napi_", "skb", "page_frag",
#endif
};
static const char *const dcast_schedulers[] = {
	"sched", "ttwu", "try_to_wake_up", "wake_up", "rq_lock", "balance", "enqueue_task",
	"dequeue_task", "hrtimer", "mod_timer", "add_timer", "del_timer", "run_timer", "timer_base",
	"timer_delete", "timer_reduce", "timer_shutdown", "queue_work", "_work_on",
};
/* clang-format on */

/* Of functions of cards' drivers that take the lock which transmission needs. */
static const char *const dcast_sends[] = {
	"xmit", "send", "tx_complete", "interrupt", "get_stats", "set_rx_mode",
};

static bool dcast_name_has(const char *name, const char *const *parts, unsigned int n)
{
	while (n--)
		if (strstr(name, parts[n]))
			return true;
	return false;
}

/* Notes down the module that a symbol ("name [module]") is of. */
static void dcast_note_entered(struct dcast_host *host, const char *symbol)
{
	const char *module = strstr(symbol, " [");
	struct dcast_entered *entered = host->entered;
	size_t len;

	if (!module)
		return;
	module += 2;
	len = strcspn(module, " ]"); /* the newest kernels add a build id */
	while (entered < host->entered + host->nr_entered &&
	       (strncmp(entered->module, module, len) || entered->module[len]))
		entered++;
	if (entered == host->entered + host->nr_entered) {
		if (host->nr_entered == DCAST_MAX_ENTERED || len >= sizeof(entered->module)) {
			host->entered_any = true;
			return;
		}
		memcpy(entered->module, module, len);
		entered->module[len] = '\0';
		host->nr_entered++;
	}
	entered->sends |= dcast_name_has(symbol, dcast_sends, ARRAY_SIZE(dcast_sends));
}

/*
 * Whether a processor that may hold a lock was in a driver's module; sends: in its transmit function
 * or one that takes the same lock.
 * Context: panic, after dcast_probe_begin().
 */
bool dcast_probe_entered(const struct dcast_host *host, const struct device *parent, bool sends)
{
	const struct module *owner = parent && parent->driver ? parent->driver->owner : NULL;
	unsigned int i;

	if (!owner)
		return false;
	if (host->entered_any)
		return true;
	for (i = 0; i < host->nr_entered; i++)
		if (!strcmp(host->entered[i].module, owner->name))
			return host->entered[i].sends || !sends;
	return false;
}

/* Whose locks may be held in the function at an address: a mask of DCAST_HOLDS_*. Modules are noted down. */
static unsigned int dcast_function_holds(struct dcast_host *host, unsigned long address)
{
	char name[KSYM_SYMBOL_LEN];
	unsigned int holds = 0;

	sprint_symbol_no_offset(name, address);
	if (dcast_name_has(name, dcast_allocators, ARRAY_SIZE(dcast_allocators))) {
		holds |= DCAST_HOLDS_ALLOCATOR;
		if (!host->allocator[0])
			strscpy(host->allocator, name, sizeof(host->allocator));
	}
	if (dcast_name_has(name, dcast_schedulers, ARRAY_SIZE(dcast_schedulers)))
		holds |= DCAST_HOLDS_SCHEDULER;
	dcast_note_entered(host, name);
	return holds;
}

#ifdef CONFIG_UNWINDER_ORC
/*
 * Begins at the registers with which another processor was stopped. What __unwind_start() does
 * for tasks that do not run; it refuses those that do, and this one only seems to. A stack ends
 * at a page that nobody can read.
 */
static void dcast_unwind_stopped(struct unwind_state *state, struct task_struct *task,
				 struct pt_regs *regs)
{
	unsigned long end = regs->sp & PAGE_MASK, begin = end;
	u8 byte;

	while (end - begin < THREAD_SIZE && !get_kernel_nofault(byte, (u8 *)end))
		end += PAGE_SIZE;
	memset(state, 0, sizeof(*state));
	state->task = task;
	state->signal = true;
	state->full_regs = true;
	state->regs = regs;
	state->ip = regs->ip;
	state->sp = regs->sp;
	state->bp = regs->bp;
	state->stack_info.type = regs->sp - (unsigned long)task_stack_page(task) < THREAD_SIZE ?
					 STACK_TYPE_TASK :
					 STACK_TYPE_IRQ;
	state->stack_info.begin = (unsigned long *)begin;
	state->stack_info.end = (unsigned long *)end;
	state->stack_mask = BIT(state->stack_info.type);
}

/*
 * Whether a stack could be followed to its end; holds: as far as it could.
 * regs: NULL for a task that does not run.
 */
static bool dcast_unwind_holds(struct dcast_host *host, struct task_struct *task,
			       struct pt_regs *regs, unsigned int *holds)
{
	unsigned int left = 3 * THREAD_SIZE / sizeof(long);
	struct unwind_state state;
	u8 byte;

	/* The kernel reads the frame without asking. */
	if (!regs && get_kernel_nofault(byte, (u8 *)task->thread.sp))
		return false;
	if (regs && task != current)
		dcast_unwind_stopped(&state, task, regs);
	else
		unwind_start(&state, task, regs, NULL);
	for (; left && !unwind_done(&state) && state.ip; left--) {
		*holds |= dcast_function_holds(host, state.ip);
		unwind_next_frame(&state);
	}
	return unwind_done(&state) && !unwind_error(&state);
}
#else
static bool dcast_unwind_holds(struct dcast_host *host, struct task_struct *task,
			       struct pt_regs *regs, unsigned int *holds)
{
	return false;
}
#endif

/*
 * The same by all words at or above sp that could be return addresses, old ones included that
 * nothing has overwritten: a false alarm costs the way back, or a card of dcast_own_locks (tx.c).
 * At the end of an interrupt's or exception's stack is the place where the stack below it goes
 * on; an NMI may have come in an interrupt.
 */
static unsigned int dcast_words_hold(struct dcast_host *host, unsigned long sp)
{
	unsigned long value = 0, last = 0, before = 0, left = 3 * THREAD_SIZE / sizeof(long);
	unsigned int hops = 0, holds = 0;

	for (sp = ALIGN(sp, sizeof(long)); left--; sp += sizeof(long)) {
		if (get_kernel_nofault(value, (unsigned long *)sp)) {
			/* An exception's frame, of SP and SS at last. */
			if (last <= __KERNEL_DS)
				last = before;
			if (hops++ > 1 || !last || (last & 7))
				break;
			sp = last - sizeof(long);
			continue;
		}
		before = last;
		last = value;
		if (value >= __START_KERNEL_map && value < MODULES_END)
			holds |= dcast_function_holds(host, value);
	}
	return holds;
}

/* Whose locks a task may hold. regs: where it was stopped, NULL when it did not run. */
static unsigned int dcast_task_holds(struct dcast_host *host, struct task_struct *task,
				     struct pt_regs *regs)
{
	unsigned int holds = 0;

	if (dcast_unwind_holds(host, task, regs, &holds)) {
		host->stacks_unwound++;
		return holds;
	}
	host->stacks_searched++;
	return holds | dcast_words_hold(host, regs ? regs->sp : task->thread.sp);
}

#ifdef CONFIG_PREEMPT_RT
/* Whose locks tasks may hold that do not run; the scheduler's are held by those that run. */
static unsigned int dcast_sleepers_hold(struct dcast_host *host)
{
	struct task_struct *group, *task;
	u64 began = dcast_now_ns();
	unsigned int holds = 0;

	for_each_process_thread(group, task)
	{
		if (dcast_now_ns() - began > DCAST_SLEEPERS_NS) {
			host->entered_any = true;
			return DCAST_HOLDS_ALLOCATOR;
		}
		if (READ_ONCE(task->on_cpu) ||
		    (!READ_ONCE(task->on_rq) && !(READ_ONCE(task->__state) & TASK_RTLOCK_WAIT)))
			continue;
		holds |= dcast_task_holds(host, task, NULL);
	}
	return holds & DCAST_HOLDS_ALLOCATOR;
}
#else
static unsigned int dcast_sleepers_hold(struct dcast_host *host)
{
	return 0;
}
#endif

/* Whose locks a processor that was stopped may hold. */
static unsigned int dcast_cpu_holds(struct dcast_host *host, unsigned int cpu)
{
	struct elf_prstatus status;
	struct task_struct *task;
	unsigned int count;
	bool counts;

	dcast_cpu_state(cpu, &task, &count);
	if (!task)
		return 0;
	/* The idle loop has a count of its own. */
	counts = (count & PREEMPT_MASK) > (is_idle_task(task) ? 1 : 0) || (count & SOFTIRQ_MASK);
	if (!((count & NMI_MASK) && counts) &&
	    (!IS_ENABLED(CONFIG_PREEMPT_RT) || is_idle_task(task)))
		return 0;
	if (!dcast_note_saved(cpu, &status)) {
		host->entered_any = true;
		return DCAST_HOLDS_ALLOCATOR | DCAST_HOLDS_SCHEDULER;
	}
	return dcast_task_holds(host, task, (struct pt_regs *)&status.pr_reg);
}

/*
 * Looks once at what the stopped processors, and the one that panicked, were doing.
 * count is the preemption count with which the panic hook was entered.
 * Context: panic.
 */
void dcast_probe_begin(struct dcast_host *host, unsigned int count)
{
	unsigned int cpu, holds = 0, own;

	host->nr_entered = 0;
	host->entered_any = false;
	host->stacks_unwound = host->stacks_searched = 0;
	host->allocator[0] = '\0';
	own = dcast_task_holds(host, current, &host->entry_regs);
	host->receive_last = own & DCAST_HOLDS_ALLOCATOR;
	/* panic() itself counts one. Without a lock, an allocator may be what is broken. */
	if (IS_ENABLED(CONFIG_PREEMPT_RT) || (count & PREEMPT_MASK) > 1)
		holds = own;
	else
		host->allocator[0] = '\0';
	holds |= dcast_sleepers_hold(host);
	for_each_present_cpu(cpu)
		if (cpu != raw_smp_processor_id())
			holds |= dcast_cpu_holds(host, cpu);
	host->probed_ns = 0;
	host->may_receive = !(holds & DCAST_HOLDS_ALLOCATOR);
	host->may_wake = !(holds & DCAST_HOLDS_SCHEDULER);
}

/*
 * Whether the driver may be asked to receive now.
 * Context: panic.
 */
bool dcast_probe_rx_safe(struct dcast_host *host)
{
	u64 now = dcast_now_ns();

	if (!host->may_receive)
		return false;
	if (!host->probed_ns || now - host->probed_ns >= DCAST_PROBE_NS) {
		host->probed_ns = now;
		host->zones_usable = dcast_zones_usable() &&
				     (host->may_wake || !dcast_memory_short());
	}
	return host->zones_usable;
}
