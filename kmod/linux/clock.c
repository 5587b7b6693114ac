// SPDX-License-Identifier: GPL-2.0-only
/* Time that passes with interrupts off: the clocksource may be one that wraps without ticks. */
#include "dumpcast.h"

#include <linux/math64.h>
#include <linux/timekeeping.h>
#ifdef CONFIG_X86
#include <asm/cpufeature.h>
#include <asm/tsc.h>
#endif

/*
 * Nanoseconds since some moment, never going back on one processor.
 * Context: any.
 */
u64 dcast_now_ns(void)
{
#ifdef CONFIG_X86
	if (boot_cpu_has(X86_FEATURE_TSC) && tsc_khz)
		return mul_u64_u64_div_u64(rdtsc_ordered(), NSEC_PER_MSEC, tsc_khz);
#endif
	return ktime_get_mono_fast_ns();
}
