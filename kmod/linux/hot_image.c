// SPDX-License-Identifier: GPL-2.0-only
/*
 * Class 1, continued: the kernel's own image, which is more than a debugger needs at first.
 *
 * What it holds and debuggers do not ask for is large: the code, which they read of a few
 * functions only, and tables (symbol names, BTF, ORC), each one symbol of 1.25 MiB and more.
 * Left out of class 1 they leave with class 2. Of the code, what stacks point into is taken,
 * and what surrounds schedule(): crash disassembles it, and the interrupt entries that lie
 * next to it, before it shows anything. Of the ORC tables, what unwinds the running tasks.
 */
#include "dumpcast.h"
#include "hot.h"

#include <linux/kallsyms.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/debug.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define DCAST_TABLE_BYTES   (5ul << 18)	 /* constants that large are tables for machines */
#define DCAST_TABLE_KEPT    (64ul << 10) /* what has no symbol counts as the one before */
#define DCAST_CODE_AROUND   1024	 /* functions are rarely larger */
#define DCAST_CODE_SCHEDULE (96ul << 10)
#define DCAST_ORC_AROUND    64
#define DCAST_ORC_BYTES	    6 /* struct orc_entry, packed; arch/x86/include/asm/orc_types.h */

static unsigned long dcast_image_address(u64 paddr)
{
#ifdef CONFIG_X86_64
	return paddr - phys_base + __START_KERNEL_map;
#else
	return 0;
#endif
}

/* What is written after boot, by its name in the resource tree; the rest is constant. */
static bool dcast_image_written(const struct dcast_map *map, u64 paddr)
{
	return (paddr >= map->data[0] && paddr < map->data[1]) ||
	       (paddr >= map->bss[0] && paddr < map->bss[1]);
}

struct dcast_symbol {
	unsigned long start, end;
};

/* The symbol that address is in; without kallsyms, one of a byte. */
static struct dcast_symbol dcast_image_symbol(unsigned long address, char *text)
{
	struct dcast_symbol found = { address, address + 1 };
	unsigned long offset, size;
	const char *at;

	sprint_symbol(text, address);
	at = strrchr(text, '+');
	if (at && sscanf(at, "+0x%lx/0x%lx", &offset, &size) == 2) {
		found.start = address - offset;
		found.end = found.start + size;
	}
	return found;
}

/* Two tables, one behind the other, of as many entries: distances to code, and how to unwind. */
static void dcast_image_orc(struct dcast_hot *hot, const struct dcast_symbol *first,
			    const struct dcast_symbol *second)
{
	unsigned long entries = (first->end - first->start) / sizeof(s32);
	unsigned long bytes = second->end - second->start;

	if (first->end != second->start || bytes < entries * DCAST_ORC_BYTES ||
	    bytes > entries * DCAST_ORC_BYTES + PAGE_SIZE)
		return;
	hot->orc_ip = (const s32 *)first->start;
	hot->orc = (const u8 *)second->start;
	hot->orc_entries = entries;
}

/*
 * Chooses the pages of the kernel's image that are in class 1, which takes some 20 ms.
 * Context: process.
 */
void dcast_hot_prepare(struct dcast_hot *hot, const struct dcast_map *map)
{
	unsigned long bytes = map->text_end - map->text_start, at;
	struct dcast_symbol now = {}, table = {};
	char *text;

	hot->image = dcast_image_address(map->text_start);
	if (bytes > DCAST_IMAGE_BYTES || map->code[0] != map->text_start)
		return;
	text = kmalloc(KSYM_SYMBOL_LEN, GFP_KERNEL);
	if (!text)
		return;
	hot->image_bytes = bytes;
	hot->code_bytes = map->code[1] - map->code[0];
	for (at = PAGE_ALIGN(hot->code_bytes); at < bytes; at += PAGE_SIZE) {
		unsigned long address = hot->image + at;
		bool large = false;

		/* What was freed after boot is anybody's. */
		if (!PageReserved(pfn_to_page(PHYS_PFN(map->text_start + at))))
			continue;
		if (!dcast_image_written(map, map->text_start + at)) {
			if (address >= now.end) {
				now = dcast_image_symbol(address, text);
				cond_resched();
				if (now.end - now.start >= DCAST_TABLE_BYTES) {
					dcast_image_orc(hot, &table, &now);
					table = now;
				}
			}
			large = now.end - now.start >= DCAST_TABLE_BYTES &&
				address >= now.start + DCAST_TABLE_KEPT &&
				address + PAGE_SIZE <= now.end;
		}
		if (!large)
			__set_bit(at >> PAGE_SHIFT, hot->pages);
	}
	kfree(text);
}

/* The entries that unwind from an address, and their neighbours, as debuggers search for them. */
static void dcast_hot_unwind(struct dcast_hot *hot, unsigned long address)
{
	unsigned long low = 0, high = hot->orc_entries, first;

	while (low < high) { /* the first entry behind the address */
		unsigned long middle = low + (high - low) / 2;
		s32 distance;

		if (get_kernel_nofault(distance, (s32 *)(hot->orc_ip + middle)))
			return;
		if ((unsigned long)(hot->orc_ip + middle) + distance <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!hot->orc_entries)
		return;
	first = low > DCAST_ORC_AROUND ? low - DCAST_ORC_AROUND : 0;
	low = min(low + DCAST_ORC_AROUND, hot->orc_entries);
	dcast_hot_range(hot, hot->orc_ip + first, (low - first) * sizeof(s32));
	dcast_hot_range(hot, hot->orc + first * DCAST_ORC_BYTES, (low - first) * DCAST_ORC_BYTES);
}

/* Code of the kernel, its own only, from some bytes before an address to as many behind it. */
static void dcast_hot_code(struct dcast_hot *hot, unsigned long address, unsigned long around)
{
	unsigned long at = address - hot->image, end;

	end = min(at + around, hot->code_bytes - 1) >> PAGE_SHIFT;
	for (at = (at > around ? at - around : 0) >> PAGE_SHIFT; at <= end; at++)
		__set_bit(at, hot->pages);
}

/*
 * Adds the code that words of a stack point into; unwind: with what unwinds it.
 * Context: panic.
 */
void dcast_hot_words(struct dcast_hot *hot, unsigned long start, unsigned long bytes, bool unwind)
{
	unsigned long at, i;

	for (at = start & PAGE_MASK; at < start + bytes; at += PAGE_SIZE) {
		if (copy_from_kernel_nofault(hot->words, (void *)at, PAGE_SIZE))
			continue;
		for (i = 0; i < PAGE_SIZE / sizeof(hot->words[0]); i++) {
			unsigned long word = hot->words[i];

			if (at + i * sizeof(word) < start || word < hot->image ||
			    word - hot->image >= hot->code_bytes)
				continue;
			dcast_hot_code(hot, word, unwind ? PAGE_SIZE : DCAST_CODE_AROUND);
			if (unwind)
				dcast_hot_unwind(hot, word);
		}
	}
}

/*
 * Adds the pages that were chosen when arming, and those that dcast_hot_words() has found.
 * Context: panic.
 */
void dcast_hot_image(struct dcast_hot *hot)
{
	unsigned long schedule_at = (unsigned long)schedule - hot->image, i;

	if (schedule_at < hot->code_bytes)
		dcast_hot_code(hot, (unsigned long)schedule, DCAST_CODE_SCHEDULE);
	for_each_set_bit(i, hot->pages, hot->image_bytes >> PAGE_SHIFT)
		dcast_hot_range(hot, (void *)(hot->image + (i << PAGE_SHIFT)), PAGE_SIZE);
}
