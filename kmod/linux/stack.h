/* SPDX-License-Identifier: GPL-2.0-only */
/* Calling a function on a stack of ours. */
#ifndef DUMPCAST_KMOD_LINUX_STACK_H
#define DUMPCAST_KMOD_LINUX_STACK_H

#include <linux/types.h>

#ifdef CONFIG_X86_64
/*
 * Calls fn(arg) on a stack: how much of the present one is left, and whether it is whole, nobody
 * knows. The old stack pointer is the new stack's first word, which is how the kernel's own stack
 * switches look to its unwinder. fn must be __used.
 * Context: any.
 */
#define dcast_on_stack(fn, arg, stack, bytes)                                                 \
	do {                                                                                  \
		void *top = (stack) + (bytes)-2 * sizeof(long);                               \
		typeof(arg) first = (arg);                                                    \
                                                                                              \
		asm volatile("movq	%%rsp, (%[top])\n\t"                                       \
			     "movq	%[top], %%rsp\n\t"                                         \
			     "call	" #fn "\n\t"                                          \
			     "popq	%%rsp\n"                                                   \
			     : [top] "+b"(top), "+D"(first), ASM_CALL_CONSTRAINT              \
			     :                                                                \
			     : "cc", "memory", "rax", "rcx", "rdx", "rsi", "r8", "r9", "r10", \
			       "r11");                                                        \
	} while (0)
#else
#define dcast_on_stack(fn, arg, stack, bytes) fn(arg)
#endif

/* How deep a stack was used: what was never written still holds its filling. Context: any. */
static inline unsigned int dcast_stack_used(const void *stack, unsigned int bytes)
{
	const u8 *bottom = stack;
	unsigned int untouched = 0;

	while (untouched < bytes && bottom[untouched] == DCAST_STACK_FILL)
		untouched++;
	return bytes - untouched;
}

#endif
