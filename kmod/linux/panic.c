// SPDX-License-Identifier: GPL-2.0-only
/*
 * The panic hook: the machine's last work before it reboots.
 *
 * Its state, unless a line says otherwise: one processor, in process, interrupt or NMI
 * context, interrupts off; the others stopped wherever they were; the console still works.
 * Nothing here allocates, sleeps, or waits for a lock without a bound. A second fault ends up
 * here again, and is passed on at once.
 */
#include "dumpcast.h"
#include "handover.h"
#include "hot.h"
#include "stack.h"

#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/kexec.h>
#include <linux/nmi.h>
#include <linux/notifier.h>
#include <linux/panic_notifier.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#ifdef CONFIG_X86
#include <asm/cpufeature.h>
#endif

#define DCAST_TALK_NS  (5 * NSEC_PER_SEC)
#define DCAST_DRAIN_NS (500 * NSEC_PER_MSEC)
#define DCAST_IDLE_NS  (50 * NSEC_PER_USEC)

/* Set by the first to come in; never cleared. */
static atomic_t dcast_entered = ATOMIC_INIT(0);

static bool dcast_relay_has_all(const struct dcast_sender *s, const struct dcast_relay_info *relay)
{
	u64 lanes = ~0ull >> (64 - s->config.lanes);

	return (relay->commit_mask & lanes) == lanes;
}

static unsigned int dcast_relays_known(const struct dcast_sender *s, bool committed)
{
	const struct dcast_relay_info *relay;
	unsigned int i, n = 0;

	for (i = 0; (relay = dcast_sender_relay(s, i)); i++)
		n += !committed || dcast_relay_has_all(s, relay);
	return n;
}

static u64 dcast_sent_bytes(const struct dcast_host *host)
{
	const struct dcast_stats *stats = dcast_sender_stats(&host->panic->sender);
	unsigned int i;
	u64 bytes = 0;

	for (i = 0; i < host->nr_paths; i++)
		bytes += stats->bytes[i];
	return bytes;
}

static unsigned int dcast_paths_alive(const struct dcast_host *host)
{
	unsigned int i, n = 0;

	for (i = 0; i < host->nr_paths; i++)
		n += dcast_path_usable(host->paths[i]);
	return n;
}

static void dcast_talk(struct dcast_host *host, u64 now)
{
	const struct dcast_sender *s = &host->panic->sender;
	u64 done, total, ms = (now - host->started_ns) / NSEC_PER_MSEC + 1;
	u64 kib_s = dcast_sent_bytes(host) / 1024 * MSEC_PER_SEC / ms;

	host->talked_ns = now;
	dcast_sender_progress(s, &done, &total);
	/* Each line has its own time: the log's time stamps may stand still by now. */
	if (dcast_sender_phase(s) == DCAST_PHASE_LINGER)
		pr_emerg("%llu s: all sent, answering %u relays; %u have it all\n",
			 ms / MSEC_PER_SEC, dcast_relays_known(s, false),
			 dcast_relays_known(s, true));
	else if (!total)
		pr_emerg("%llu s: %llu blocks, %llu.%llu MiB/s, %u of %u paths, %u relays\n",
			 ms / MSEC_PER_SEC, done, kib_s / 1024, kib_s % 1024 * 10 / 1024,
			 dcast_paths_alive(host), host->nr_paths, dcast_relays_known(s, false));
	else
		pr_emerg("%llu s: %llu %%, %llu.%llu MiB/s, %u of %u paths, %u relays, %llu s left\n",
			 ms / MSEC_PER_SEC, done * 100 / total, kib_s / 1024,
			 kib_s % 1024 * 10 / 1024, dcast_paths_alive(host), host->nr_paths,
			 dcast_relays_known(s, false),
			 done ? ms * (total - min(done, total)) / done / MSEC_PER_SEC : 0);
}

/* Says what the relays say, when it is something else than before. */
static void dcast_tell_verdict(struct dcast_host *host, u64 now)
{
	u64 wait_ns;
	enum dcast_verdict verdict = dcast_sender_verdict(&host->panic->sender, now, &wait_ns);

	if (verdict == host->told_verdict)
		return;
	host->told_verdict = verdict;
	if (verdict == DCAST_ADMIT_WAIT)
		pr_emerg("relays: too many dumps at once; memory waits, %llu s at most\n",
			 DIV_ROUND_UP_ULL(wait_ns, NSEC_PER_SEC));
	else if (verdict == DCAST_ADMIT_LOG_ONLY)
		pr_emerg("relays: they have enough of this crash; only the log is sent\n");
	else
		pr_emerg("relays: memory is sent now\n");
}

/* more: packets follow at once, and a card is told of a whole batch only. */
static void dcast_poll_all(struct dcast_host *host, bool more)
{
	unsigned int i;

	for (i = 0; i < host->nr_paths; i++) {
		if (!more)
			dcast_tx_flush(host->paths[i]);
		dcast_poll(host, host->paths[i]);
		if (!more || host->paths[i]->refused)
			dcast_tx_flush(host->paths[i]);
	}
	/* Some of what drivers call turns interrupts on: kmem_cache_alloc_bulk() of 6.1. */
	if (!irqs_disabled()) {
		local_irq_disable();
		host->irqs_on++;
	}
}

/*
 * Interrupts stay out even when a driver turns them on: no vector is above the highest task priority.
 * NMIs come. Context: panic.
 */
static void dcast_priority_raise(struct dcast_host *host)
{
#ifdef CONFIG_X86_64
	if (!boot_cpu_has(X86_FEATURE_APIC) || boot_cpu_has(X86_FEATURE_XENPV))
		return;
	asm volatile("movq %%cr8, %0" : "=r"(host->priority));
	asm volatile("movq %0, %%cr8" : : "r"(15ul) : "memory");
	host->priority_raised = true;
#endif
}

static void dcast_priority_restore(struct dcast_host *host)
{
#ifdef CONFIG_X86_64
	if (host->priority_raised)
		asm volatile("movq %0, %%cr8" : : "r"(host->priority) : "memory");
	host->priority_raised = false;
#endif
}

/* The last packets leave the card before the machine is reset. */
static void dcast_drain(struct dcast_host *host)
{
	u64 began = dcast_now_ns();
	unsigned int i;
	bool idle;

	do {
		dcast_poll_all(host, false);
		idle = true;
		for (i = 0; i < host->nr_paths; i++)
			idle &= dcast_tx_idle(host->paths[i]);
	} while (!idle && dcast_now_ns() - began < DCAST_DRAIN_NS);
}

/* Once nothing is left to lose, or to wait for: see rx.c. */
static void dcast_review_risk(struct dcast_host *host, u64 now)
{
	bool idle = true;
	unsigned int i;

	if (host->may_reenter || !dcast_sender_unanswered(&host->panic->sender))
		return;
	if (!host->unanswered_ns)
		host->unanswered_ns = now;
	for (i = 0; i < host->nr_paths; i++)
		idle &= dcast_tx_idle(host->paths[i]);
	host->may_reenter = idle || now - host->unanswered_ns >= DCAST_DRAIN_NS;
}

static void dcast_pause(u64 now, u64 wake)
{
	u64 until = min(wake, now + DCAST_IDLE_NS);

	while (dcast_now_ns() < until)
		cpu_relax();
}

static int dcast_dump_begin(struct dcast_host *host)
{
	struct dcast_run *run = host->panic;
	const char *why = "";
	unsigned int i, roads = 0;

	host->started_ns = dcast_now_ns();
	host->talked_ns = host->started_ns;
	host->told_verdict = DCAST_ADMIT_FULL;
	run->log = host->log;
	run->log_len = dcast_log_capture(host->log, DCAST_LOG_BYTES);
	run->map = host->map;
	memcpy(run->config.dump_id, host->dump_ids[READ_ONCE(host->dump_slot)], DCAST_ID_BYTES);
	run->config.helpers = dcast_helpers_parked(host);
	run->vmcoreinfo_len =
		dcast_vmcoreinfo_text(run->vmcoreinfo, DCAST_VMCOREINFO_BYTES, dcast_unix_ns());
	dcast_hot_find(host->hot, run);
	run->hot = host->hot;
	if (host->struct_pages)
		dcast_vmemmap_find(host->struct_pages, run->map);
	run->struct_pages = host->struct_pages;
	run->notes = host->notes;
	run->notes_len = dcast_notes_build(host, &host->regs, run->vmcoreinfo, run->vmcoreinfo_len,
					   host->notes, host->notes_cap);
	if (dcast_sender_init(&run->sender, &run->config, &run->rim, run->scratch, &why)) {
		pr_emerg("no dump: %s\n", why);
		return -EINVAL;
	}
	dcast_sender_adopt_relays(&run->sender, &host->armed->sender);
	dcast_probe_begin(host, host->entry_count);
	for (i = 0; i < host->nr_paths; i++) {
		dcast_tx_prepare(host, host->paths[i]);
		dcast_rx_prepare(host, host->paths[i]);
		roads += !dcast_path_barred(host->paths[i]);
	}
	dcast_meta_fill(run, 0, host->reason);
	dcast_sender_begin(&run->sender, host->started_ns, run->map->ranges, run->map->nr,
			   &run->meta, 0);
	dcast_helpers_begin();
	dcast_handover_dump(host, false);
	if (!roads) {
		pr_emerg("no dump: no path can be used\n");
		return -ENODEV;
	}
	pr_emerg("sending dump %*phN on %u of %u paths, %u processors help; %u relays answered while armed\n",
		 DCAST_ID_BYTES, run->config.dump_id, dcast_paths_alive(host), host->nr_paths,
		 run->config.helpers, dcast_relays_known(&run->sender, false));
	if (!host->may_receive)
		pr_emerg("an allocator's lock is held (%s), so no replies are read\n",
			 host->allocator[0] ? host->allocator : "nobody knows where");
	if (host->receive_last)
		pr_emerg(
			"an allocator is what faulted, or called what did; no replies until all was sent\n");
	for (i = 0; i < host->nr_paths; i++) {
		if (dcast_rx_broken_off(host->paths[i]))
			pr_emerg("path %s: a processor was stopped while it received; no replies from there until all was sent\n",
				 host->paths[i]->set.name);
		if (dcast_rx_silenced(host, host->paths[i]))
			pr_emerg("path %s: its XDP program may wake a task, and the scheduler's lock is held, so no replies are read\n",
				 host->paths[i]->set.name);
	}
	return 0;
}

static void dcast_dump_report(struct dcast_host *host)
{
	const struct dcast_sender *s = &host->panic->sender;
	const struct dcast_stats *stats = dcast_sender_stats(s);
	const struct dcast_relay_info *relay;
	u64 ms = (dcast_now_ns() - host->started_ns) / NSEC_PER_MSEC;
	unsigned int i;

	for (i = 0; i < host->nr_paths; i++) {
		const struct dcast_path *path = host->paths[i];

		pr_emerg("path %s: %llu packets, %llu MiB, %llu refused, %llu skipped; %llu frames in, %llu for us%s\n",
			 path->set.name, path->tx_frames, stats->bytes[i] >> 20, path->tx_busy,
			 stats->skipped[i], path->rx_frames, path->rx_ours,
			 path->locks_broken ? "; its lock was broken" : "");
	}
	for (i = 0; (relay = dcast_sender_relay(s, i)); i++)
		pr_emerg("relay %.*s: %s\n", (int)sizeof(relay->name), relay->name,
			 dcast_relay_has_all(s, relay) ? "has it all" : "has not all of it");
	pr_emerg("replies: %llu NAKs, %llu symbols sent again\n", stats->naks,
		 stats->repeat_symbols);
	pr_emerg("encoded: %llu blocks as they are, %llu by LZ4, %llu by zstd; %llu of all by helpers, %llu helpers lost, %u bytes of a stack used\n",
		 stats->codec_blocks[DCAST_CODEC_NONE], stats->codec_blocks[DCAST_CODEC_LZ4],
		 stats->codec_blocks[DCAST_CODEC_ZSTD], stats->helped_blocks, stats->helpers_lost,
		 dcast_helpers_stack_used(host));
	if (host->irqs_on)
		pr_emerg("drivers have turned interrupts on %u times; none came\n", host->irqs_on);
	pr_emerg("stacks: %u unwound, %u searched word by word\n", host->stacks_unwound,
		 host->stacks_searched);
	pr_emerg("stack: %u of %u bytes used\n", dcast_stack_used(host->stack, DCAST_STACK_BYTES),
		 DCAST_STACK_BYTES);
	pr_emerg("dump sent: %llu blocks, %llu MiB of memory as %llu MiB, %llu pages unreadable, in %llu.%llu s; %u of %u relays have it all%s\n",
		 stats->blocks, stats->raw_bytes >> 20, stats->encoded_bytes >> 20,
		 stats->unreadable_pages, ms / 1000, ms % 1000 / 100, dcast_relays_known(s, true),
		 dcast_relays_known(s, false),
		 dcast_sender_committed(s) ? ": committed" : ": not committed");
}

/*
 * The dump, on its own stack.
 * Context: panic.
 */
static void __used dcast_dump(struct dcast_host *host)
{
	struct dcast_sender *s = &host->panic->sender;
	u64 limit = host->set.engine.time_limit_ns;

	if (dcast_dump_begin(host))
		return;
	while (dcast_sender_phase(s) != DCAST_PHASE_DONE) {
		u64 now = dcast_now_ns();
		unsigned int sent;

		/* The engine keeps the limit; twice it is the bound on an engine that does not. */
		if (limit && now - host->started_ns > 2 * limit)
			break;
		sent = dcast_sender_step(s, now);
		dcast_helpers_wake(host, now);
		dcast_review_risk(host, now);
		dcast_poll_all(host, sent);
		touch_nmi_watchdog();
		dcast_watchdogs_feed(host, now);
		dcast_tell_verdict(host, now);
		if (now - host->talked_ns >= DCAST_TALK_NS)
			dcast_talk(host, now);
		if (!sent)
			dcast_pause(now, dcast_sender_wake_ns(s));
	}
	dcast_drain(host);
	dcast_handover_dump(host, true);
	dcast_dump_report(host);
}

/*
 * Drivers expect bottom halves off; going back must not run them, so no local_bh_enable().
 * PREEMPT_RT counts them in the task: in_interrupt() keeps who raises one from waking its thread.
 */
static void dcast_bh_disable(void)
{
#ifdef CONFIG_PREEMPT_RT
	current->softirq_disable_cnt += SOFTIRQ_DISABLE_OFFSET;
#else
	preempt_count_add(SOFTIRQ_DISABLE_OFFSET);
#endif
}

static void dcast_bh_enable(void)
{
#ifdef CONFIG_PREEMPT_RT
	current->softirq_disable_cnt -= SOFTIRQ_DISABLE_OFFSET;
#else
	preempt_count_sub(SOFTIRQ_DISABLE_OFFSET);
#endif
}

/*
 * First in the chain.
 * Context: panic.
 */
static int dcast_panic(struct notifier_block *nb, unsigned long event, void *message)
{
	struct dcast_host *host = smp_load_acquire(&dcast_armed);

	if (!host)
		return NOTIFY_DONE;
	if (atomic_xchg(&dcast_entered, 1)) {
		pr_emerg("a second fault ends the dump; relays keep what they have\n");
		dcast_priority_restore(host);
		dcast_helpers_end();
		return NOTIFY_DONE;
	}
	host->entry_count = preempt_count();
	crash_setup_regs(&host->entry_regs, NULL);
	host->regs = host->entry_regs;
	dcast_regs_to_panic(host, &host->regs);
	strscpy(host->reason, message ? (const char *)message : "", sizeof(host->reason));
	dcast_bh_disable();
	dcast_priority_raise(host);
	rcu_read_lock();
	dcast_on_stack(dcast_dump, host, host->stack, DCAST_STACK_BYTES);
	rcu_read_unlock();
	dcast_priority_restore(host);
	dcast_bh_enable();
	dcast_helpers_end();
	return NOTIFY_DONE;
}

static struct notifier_block dcast_panic_nb = {
	.notifier_call = dcast_panic,
	.priority = INT_MAX,
};

int dcast_panic_init(void)
{
	return atomic_notifier_chain_register(&panic_notifier_list, &dcast_panic_nb);
}

void dcast_panic_exit(void)
{
	atomic_notifier_chain_unregister(&panic_notifier_list, &dcast_panic_nb);
}
