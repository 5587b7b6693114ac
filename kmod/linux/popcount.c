// SPDX-License-Identifier: GPL-2.0-only
/*
 * gcc turns __builtin_popcountll() into a call of libgcc's function when the processor may
 * lack the instruction; the kernel has no libgcc.
 */
#include <linux/bitops.h>

int __popcountdi2(unsigned long value);

int __popcountdi2(unsigned long value)
{
	return hweight64(value);
}
