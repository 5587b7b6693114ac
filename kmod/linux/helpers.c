// SPDX-License-Identifier: GPL-2.0-only
/*
 * The other processors, which panic() stops, as encoders.
 *
 * With crash_kexec_post_notifiers panic() stops them by smp_ops.crash_stop_other_cpus, an NMI whose
 * handler never comes back. While the host is armed that operation is ours: our own NMI handler
 * leaves each processor's registers where the kernel's would, and keeps the processor. It runs
 * dcast_sender_help() on a stack of its own until the dump is over; then the kernel's operation is
 * called after all. Its NMI waits for the processors that are still in ours, so that they come
 * back to where they were stopped and go on for not one instruction before it has them.
 *
 * docs/decisions/0015-processors-that-help.md says when this is not done, and why.
 */
#include "dumpcast.h"
#include "stack.h"

#include <linux/atomic.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/kallsyms.h>
#include <linux/kexec.h>
#include <linux/mm.h>
#include <linux/printk.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#if defined(CONFIG_X86_64) && defined(CONFIG_SMP)
#include <asm/apic.h>
#include <asm/irqflags.h>
#include <asm/nmi.h>
#include <asm/smp.h>
#include <asm/sync_core.h>

#define DCAST_HELPER_STACK_BYTES (16 * 1024)
#define DCAST_PARK_MS		 1000 /* for all to come, as the kernel's own operation waits */
#define DCAST_LATCH_NS		 (20 * NSEC_PER_MSEC)
#define DCAST_NAP_AFTER_NS	 (50 * NSEC_PER_USEC)  /* without work */
#define DCAST_WAKE_NS		 (100 * NSEC_PER_USEC) /* between two NMIs to wake by */
#define DCAST_AWAKE_NS		 (20 * NSEC_PER_MSEC)  /* for all to wake */

struct dcast_helper {
	struct dcast_host *host;
	unsigned int number; /* 1 and up, as the engine counts them */
	unsigned int cpu;    /* in a panic: whose it is */
	bool asleep;	     /* in a panic */
	void *stack;
};

/* What the kernel would have done; NULL while that is what it does. Under dcast_config_lock. */
static void (*dcast_kernels_stop)(void);

/* Panic. */
static struct dcast_host *dcast_park_host; /* NMIs keep processors for it */
static unsigned int dcast_park_self;	   /* but for this one */
static atomic_t dcast_parked = ATOMIC_INIT(0);
static atomic_t dcast_numbered = ATOMIC_INIT(0);
static bool dcast_park_open; /* there is a dump to help with */
static bool dcast_park_over;
static bool dcast_park_awake; /* nobody sleeps any more */
static atomic_t dcast_asleep = ATOMIC_INIT(0);
static u64 dcast_woken_ns;

/*
 * FRED and Xen's guests return from NMIs in another way; there, who has nothing to do spins.
 * Context: any.
 */
static bool dcast_may_nap(void)
{
#ifdef X86_FEATURE_FRED
	if (boot_cpu_has(X86_FEATURE_FRED))
		return false;
#endif
	return !boot_cpu_has(X86_FEATURE_XENPV);
}

/*
 * Until an NMI comes. A processor that spins may be a hypervisor's thread, and take its time from
 * what carries the packets. IRET lets NMIs in again; the kernel's entry is made for one within
 * another, which marks the first to be done once more, and returns (arch/x86/entry/entry_64.S). One that
 * comes before the processor halts is lost for waking: who wakes, does so again and again.
 * Context: NMI.
 */
static void dcast_nap(bool *asleep)
{
	if (!dcast_may_nap()) {
		cpu_relax();
		return;
	}
	iret_to_self();
	if (asleep)
		WRITE_ONCE(*asleep, true);
	atomic_inc(&dcast_asleep);
	smp_mb__after_atomic(); /* against dcast_wake_all() */
	if (!READ_ONCE(dcast_park_awake))
		native_halt();
	atomic_dec(&dcast_asleep);
	if (asleep)
		WRITE_ONCE(*asleep, false);
}

/* All that sleep, for good. Context: panic. */
static void dcast_wake_all(void)
{
	const u64 began = dcast_now_ns();
	unsigned int cpu;

	WRITE_ONCE(dcast_park_awake, true);
	smp_mb(); /* against dcast_nap() */
	while (atomic_read(&dcast_asleep) && dcast_now_ns() - began < DCAST_AWAKE_NS) {
		for_each_online_cpu(cpu)
			if (cpu != dcast_park_self)
				apic->send_IPI(cpu, NMI_VECTOR);
		udelay(50);
	}
}

/* Context: NMI; on the helper's own stack. */
static void __used dcast_help(struct dcast_helper *helper)
{
	struct dcast_sender *s = &helper->host->panic->sender;
	u64 idle_ns = dcast_now_ns();

	helper->cpu = raw_smp_processor_id();
	while (!smp_load_acquire(&dcast_park_over)) {
		if (smp_load_acquire(&dcast_park_open) && dcast_sender_help(s, helper->number))
			idle_ns = dcast_now_ns();
		else if (dcast_now_ns() - idle_ns < DCAST_NAP_AFTER_NS)
			cpu_relax();
		else
			dcast_nap(&helper->asleep);
	}
}

/* Context: NMI, on a processor that is to stop; its last work. Locks nothing, waits for the panicking one. */
static int dcast_park(unsigned int cmd, struct pt_regs *regs)
{
	struct dcast_host *host = smp_load_acquire(&dcast_park_host);
	unsigned int number;
	u64 over_ns;

	if (!host || raw_smp_processor_id() == dcast_park_self ||
	    smp_load_acquire(&dcast_park_over))
		return NMI_DONE;
	dcast_note_save(raw_smp_processor_id(), regs);
	number = atomic_inc_return(&dcast_numbered);
	atomic_inc(&dcast_parked);
	if (number <= host->nr_helpers)
		dcast_on_stack(dcast_help, &host->helpers[number - 1],
			       host->helpers[number - 1].stack, DCAST_HELPER_STACK_BYTES);
	while (!smp_load_acquire(&dcast_park_over))
		dcast_nap(NULL);
	/* By then the kernel's NMI has been sent, and is taken as soon as this one ends. */
	over_ns = dcast_now_ns();
	while (dcast_now_ns() - over_ns < DCAST_LATCH_NS)
		cpu_relax();
	return NMI_HANDLED;
}

/*
 * A crash kernel may be about to be started without panic notifiers, so that nobody would let the
 * processors go: with one loaded the kernel's way is taken at once.
 */
static bool dcast_park_useful(const struct dcast_host *host)
{
	return host && host->nr_helpers && READ_ONCE(oops_in_progress) && !kexec_crash_loaded();
}

/* Instead of the kernel's operation. Context: panic, before the notifiers. */
static void dcast_stop_others(void)
{
	struct dcast_host *host = smp_load_acquire(&dcast_armed);
	unsigned int cpu, wanted = 0, ms;

	if (!dcast_park_useful(host)) {
		dcast_kernels_stop();
		return;
	}
	dcast_park_self = raw_smp_processor_id();
	smp_store_release(&dcast_park_host, host);
	for_each_online_cpu(cpu) {
		if (cpu == dcast_park_self)
			continue;
		apic->send_IPI(cpu, NMI_VECTOR);
		wanted++;
	}
	for (ms = 0; ms < DCAST_PARK_MS && atomic_read(&dcast_parked) < wanted; ms++)
		mdelay(1);
}

/*
 * Helpers that wait for a dump.
 * Context: panic.
 */
unsigned int dcast_helpers_parked(const struct dcast_host *host)
{
	return min_t(unsigned int, atomic_read(&dcast_numbered), host->nr_helpers);
}

/* They may begin: the engine has. Context: panic. */
void dcast_helpers_begin(void)
{
	smp_store_release(&dcast_park_open, true);
}

/*
 * A helper that sleeps is woken when half of the slots wait for one: the sender encodes, too, and
 * where the network is what is slow nobody else is needed.
 * Context: panic.
 */
void dcast_helpers_wake(struct dcast_host *host, u64 now)
{
	unsigned int i;

	if (now - dcast_woken_ns < DCAST_WAKE_NS || !atomic_read(&dcast_asleep) ||
	    !dcast_sender_wants_help(&host->panic->sender))
		return;
	for (i = 0; i < host->panic->config.helpers; i++) {
		if (!READ_ONCE(host->helpers[i].asleep))
			continue;
		dcast_woken_ns = now;
		apic->send_IPI(host->helpers[i].cpu, NMI_VECTOR);
		return;
	}
}

/*
 * No processor is in our code any more, or shall be: the kernel stops them its own way.
 * Context: panic; also after a second fault.
 */
void dcast_helpers_end(void)
{
	if (!dcast_park_host || dcast_park_over)
		return;
	dcast_wake_all();
	smp_store_release(&dcast_park_over, true);
	dcast_kernels_stop();
}

/* Bytes of the helpers' stacks that were used at most. Context: any. */
unsigned int dcast_helpers_stack_used(const struct dcast_host *host)
{
	unsigned int i, used = 0;

	for (i = 0; i < host->nr_helpers; i++)
		used = max(used,
			   dcast_stack_used(host->helpers[i].stack, DCAST_HELPER_STACK_BYTES));
	return used;
}

/*
 * As many as are wanted and there are processors for. 0 or -ENOMEM.
 * Context: process, while arming.
 */
int dcast_helpers_alloc(struct dcast_host *host)
{
	unsigned int i, nr = min_t(unsigned int, host->set.engine.helpers, num_possible_cpus() - 1);

	/* A hypervisor's own operation is left alone. */
	if (!dcast_kernels_stop)
		nr = 0;
	host->set.engine.helpers = nr;
	if (!nr)
		return 0;
	host->helpers = dcast_hold(host, nr * sizeof(*host->helpers));
	if (!host->helpers)
		return -ENOMEM;
	host->nr_helpers = nr;
	for (i = 0; i < nr; i++) {
		struct dcast_helper *helper = &host->helpers[i];

		helper->host = host;
		helper->number = i + 1;
		helper->stack = __vmalloc(DCAST_HELPER_STACK_BYTES, GFP_KERNEL);
		if (!helper->stack)
			return -ENOMEM;
		memset(helper->stack, DCAST_STACK_FILL, DCAST_HELPER_STACK_BYTES);
		host->held_bytes += DCAST_HELPER_STACK_BYTES;
	}
	return 0;
}

/* Context: process. */
void dcast_helpers_free(struct dcast_host *host)
{
	unsigned int i;

	for (i = 0; i < host->nr_helpers; i++)
		vfree(host->helpers[i].stack);
	kvfree(host->helpers);
}

/* Calls print for each piece of memory. Context: process. */
void dcast_helpers_held(struct dcast_out_text *out, const struct dcast_host *host)
{
	unsigned int i;

	dcast_print_held(out, "helpers", host->helpers, host->nr_helpers * sizeof(*host->helpers));
	for (i = 0; i < host->nr_helpers; i++)
		dcast_print_held(out, "stack", host->helpers[i].stack, DCAST_HELPER_STACK_BYTES);
}

/* Context: process, while the module is loaded. */
int dcast_helpers_init(void)
{
	char name[KSYM_SYMBOL_LEN];
	int err;

	snprintf(name, sizeof(name), "%ps", smp_ops.crash_stop_other_cpus);
	if (strcmp(name, "kdump_nmi_shootdown_cpus")) {
		pr_info("other processors cannot help with a dump: %s stops them\n", name);
		return 0;
	}
	err = register_nmi_handler(NMI_LOCAL, dcast_park, 0, "dumpcast");
	if (err)
		return err;
	dcast_kernels_stop = smp_ops.crash_stop_other_cpus;
	smp_store_release(&smp_ops.crash_stop_other_cpus, dcast_stop_others);
	return 0;
}

/* Context: process. */
void dcast_helpers_exit(void)
{
	if (!dcast_kernels_stop)
		return;
	if (smp_ops.crash_stop_other_cpus == dcast_stop_others)
		WRITE_ONCE(smp_ops.crash_stop_other_cpus, dcast_kernels_stop);
	unregister_nmi_handler(NMI_LOCAL, "dumpcast");
}

#else

unsigned int dcast_helpers_parked(const struct dcast_host *host)
{
	return 0;
}

void dcast_helpers_begin(void)
{
}

void dcast_helpers_wake(struct dcast_host *host, u64 now)
{
}

void dcast_helpers_end(void)
{
}

unsigned int dcast_helpers_stack_used(const struct dcast_host *host)
{
	return 0;
}

int dcast_helpers_alloc(struct dcast_host *host)
{
	host->set.engine.helpers = 0;
	return 0;
}

void dcast_helpers_free(struct dcast_host *host)
{
}

void dcast_helpers_held(struct dcast_out_text *out, const struct dcast_host *host)
{
}

int dcast_helpers_init(void)
{
	return 0;
}

void dcast_helpers_exit(void)
{
}

#endif
