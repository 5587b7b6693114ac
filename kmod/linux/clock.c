// SPDX-License-Identifier: GPL-2.0-only
/* Time that passes with interrupts off: the clocksource may be one that wraps without ticks. */
#include "dumpcast.h"

#include <linux/irqflags.h>
#include <linux/math64.h>
#include <linux/preempt.h>
#include <linux/timekeeping.h>
#ifdef CONFIG_X86
#include <asm/cpufeature.h>
#include <asm/tsc.h>
#endif

/*
 * Reads a clock of the kernel's, with interrupts off as an NMI would: outside of one, read_hpet()
 * waits for a lock that a stopped processor may hold.
 * Context: any.
 */
static u64 dcast_read_clock(u64 (*read)(void))
{
	u64 ns;

	if (!irqs_disabled())
		return read();
	preempt_count_add(NMI_OFFSET);
	ns = read();
	preempt_count_sub(NMI_OFFSET);
	return ns;
}

/* Nanoseconds since 1970. Context: any. */
u64 dcast_unix_ns(void)
{
	return dcast_read_clock(ktime_get_real_fast_ns);
}

/* Nanoseconds since the host booted, less those that it slept. Context: any. */
u64 dcast_uptime_ns(void)
{
	return dcast_read_clock(ktime_get_mono_fast_ns);
}

/*
 * Nanoseconds since some moment, with interrupts off, too; while the processor stays the same.
 * Context: panic.
 */
u64 dcast_now_ns(void)
{
#ifdef CONFIG_X86
	if (boot_cpu_has(X86_FEATURE_TSC) && tsc_khz)
		return mul_u64_u64_div_u64(rdtsc_ordered(), NSEC_PER_MSEC, tsc_khz);
#endif
	return dcast_uptime_ns();
}
