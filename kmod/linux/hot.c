// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that a debugger needs before it can open anything, and that struct page does not tell
 * from any other: the kernel's own page tables, and what runs on each processor, with its
 * stack. They leave in class 1, so that a dump which is cut off half way still opens.
 *
 * Found when the dump begins, by reading page tables; nothing of it is believed: a table is
 * read as data, and what cannot be read is passed over.
 */
#include "dumpcast.h"

#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sort.h>
#include <linux/uaccess.h>

struct dcast_hot {
	u32 nr;
	unsigned long pfns[DCAST_HOT_PAGES]; /* ascending when complete */
};

/* Bytes of a struct dcast_hot. */
size_t dcast_hot_bytes(void)
{
	return sizeof(struct dcast_hot);
}

static void dcast_hot_add(struct dcast_hot *hot, unsigned long pfn)
{
	if (hot->nr < DCAST_HOT_PAGES)
		hot->pfns[hot->nr++] = pfn;
}

#ifdef CONFIG_X86_64
#define DCAST_TABLE_ENTRIES 512
#define DCAST_TABLE_SHIFT   9

static unsigned int dcast_table_levels(void)
{
	return pgtable_l5_enabled() ? 5 : 4;
}

/*
 * The entry of a page table: true when it points to a table or to a page, whose number is put
 * into *pfn; *leaf says that it is a page, perhaps a large one.
 */
static bool dcast_table_entry(unsigned long table, unsigned int index, unsigned int level,
			      unsigned long *pfn, bool *leaf)
{
	unsigned long entry;

	if (get_kernel_nofault(entry, (unsigned long *)__va(PFN_PHYS(table)) + index) ||
	    !(entry & _PAGE_PRESENT))
		return false;
	*leaf = level == 1 || (entry & _PAGE_PSE && level <= 3);
	*pfn = PHYS_PFN(entry & PTE_PFN_MASK);
	return pfn_valid(*pfn);
}

/* Every table below the kernel's half of the top one, the upper levels first. */
static void dcast_hot_tables(struct dcast_hot *hot)
{
	unsigned int level = dcast_table_levels(), i;
	u32 at = hot->nr, end;

	dcast_hot_add(hot, PHYS_PFN(read_cr3_pa()));
	for (; level > 1; level--) {
		for (end = hot->nr; at < end; at++) {
			bool top = level == dcast_table_levels();
			unsigned long pfn, last = 0;
			bool leaf;

			for (i = top ? DCAST_TABLE_ENTRIES / 2 : 0; i < DCAST_TABLE_ENTRIES; i++) {
				if (!dcast_table_entry(hot->pfns[at], i, level, &pfn, &leaf) ||
				    leaf)
					continue;
				/* espfix and the like point to one table many times. */
				if (pfn != last)
					dcast_hot_add(hot, pfn);
				last = pfn;
			}
		}
	}
}

static bool dcast_virt_pfn(unsigned long address, unsigned long *pfn)
{
	unsigned long table = PHYS_PFN(read_cr3_pa());
	unsigned int level;
	bool leaf;

	for (level = dcast_table_levels(); level; level--) {
		unsigned int shift = PAGE_SHIFT + (level - 1) * DCAST_TABLE_SHIFT;

		if (!dcast_table_entry(table, address >> shift & (DCAST_TABLE_ENTRIES - 1), level,
				       &table, &leaf))
			return false;
		if (leaf) {
			*pfn = table + ((address & ((1ul << shift) - 1)) >> PAGE_SHIFT);
			return true;
		}
	}
	return false;
}
#else
static void dcast_hot_tables(struct dcast_hot *hot)
{
}

static bool dcast_virt_pfn(unsigned long address, unsigned long *pfn)
{
	return false;
}
#endif

static void dcast_hot_range(struct dcast_hot *hot, const void *start, size_t bytes)
{
	unsigned long at = (unsigned long)start & PAGE_MASK, pfn;

	for (; at < (unsigned long)start + bytes; at += PAGE_SIZE)
		if (dcast_virt_pfn(at, &pfn))
			dcast_hot_add(hot, pfn);
}

static int dcast_hot_compare(const void *a, const void *b)
{
	unsigned long left = *(const unsigned long *)a, right = *(const unsigned long *)b;

	return left < right ? -1 : left > right;
}

/*
 * Finds them; those beyond DCAST_HOT_PAGES leave with their own class.
 * Context: panic; does not fault, allocate or lock; bounded by DCAST_HOT_PAGES tables.
 */
void dcast_hot_find(struct dcast_hot *hot)
{
	const struct task_struct *task;
	unsigned int cpu, count;
	void *stack;

	hot->nr = 0;
	for_each_present_cpu(cpu) {
		dcast_cpu_state(cpu, &task, &count);
		if (!task || get_kernel_nofault(stack, (void **)&task->stack))
			continue;
		dcast_hot_range(hot, task, sizeof(*task));
		dcast_hot_range(hot, stack, THREAD_SIZE);
	}
	dcast_hot_tables(hot);
	sort(hot->pfns, hot->nr, sizeof(hot->pfns[0]), dcast_hot_compare, NULL);
}

/*
 * Moves those of a window's pages that leave at all to class 1.
 * Context: any.
 */
void dcast_hot_classes(const struct dcast_hot *hot, u64 window, u8 cls[DCAST_MAX_WINDOW_PAGES])
{
	const unsigned int pages = DCAST_WINDOW_BYTES >> PAGE_SHIFT;
	unsigned long first = window * pages;
	u32 low = 0, high = hot->nr;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (hot->pfns[middle] < first)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < hot->nr && hot->pfns[low] < first + pages; low++)
		if (cls[hot->pfns[low] - first] != DCAST_CLASS_EXCLUDED)
			cls[hot->pfns[low] - first] = 1;
}
