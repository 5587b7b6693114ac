// SPDX-License-Identifier: GPL-2.0-only
/*
 * Class 1: the pages that a debugger needs to open a dump, to show the log and the tasks, and
 * to unwind them, and that struct page does not tell from any other. They leave before all
 * other memory, so that a dump which is cut off early still opens. hot_tasks.c adds tasks,
 * hot_image.c the kernel's own image.
 *
 * Found when the dump begins. Nothing that is read on the way is believed: memory is read so
 * that it cannot fault, every address goes through the page tables, every loop has a bound.
 *
 * Kept as windows with a mask of their pages, so that the list stays fixed for a dump (a block
 * asked for again has the same class) and is of one size on any host. What is added first is
 * needed first: what no longer fits leaves with its own class.
 */
#include "dumpcast.h"
#include "hot.h"

#include <linux/cpumask.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/nodemask.h>
#include <linux/sched.h>
#include <linux/sort.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#define DCAST_MASK_BITS	  16		       /* of an entry: window << 16 | mask of pages */
#define DCAST_HOT_TABLES  (1u << 17)	       /* page tables looked at */
#define DCAST_HOT_MODULES 4096		       /* modules looked at */
#define DCAST_PERCPU	  ((size_t)512 * 1024) /* of a processor's area, at most */

static_assert(DCAST_MAX_WINDOW_PAGES <= DCAST_MASK_BITS);

/* Bytes of a struct dcast_hot. */
size_t dcast_hot_bytes(void)
{
	return sizeof(struct dcast_hot);
}

static int dcast_hot_compare(const void *a, const void *b)
{
	u64 left = *(const u64 *)a, right = *(const u64 *)b;

	return left < right ? -1 : left > right;
}

/* Sorts, and joins the entries of one window. */
static void dcast_hot_compact(struct dcast_hot *hot)
{
	u32 from, to = 0;

	if (!hot->nr)
		return;
	sort(hot->entries, hot->nr, sizeof(hot->entries[0]), dcast_hot_compare, NULL);
	for (from = 1; from < hot->nr; from++) {
		if (hot->entries[from] >> DCAST_MASK_BITS == hot->entries[to] >> DCAST_MASK_BITS)
			hot->entries[to] |= hot->entries[from];
		else
			hot->entries[++to] = hot->entries[from];
	}
	hot->nr = to + 1;
}

static void dcast_hot_add(struct dcast_hot *hot, unsigned long pfn)
{
	const unsigned int pages = DCAST_WINDOW_BYTES >> PAGE_SHIFT;
	u64 entry = (u64)(pfn / pages) << DCAST_MASK_BITS | 1u << pfn % pages;
	u64 *next = &hot->entries[hot->nr];

	if (hot->nr && next[-1] >> DCAST_MASK_BITS == entry >> DCAST_MASK_BITS) {
		next[-1] |= entry;
		return;
	}
	if (hot->nr == DCAST_HOT_WINDOWS && !hot->full) {
		dcast_hot_compact(hot);
		/* Else each few additions would sort it all again. */
		hot->full = hot->nr > DCAST_HOT_WINDOWS - DCAST_HOT_WINDOWS / 16;
	}
	if (hot->nr < DCAST_HOT_WINDOWS)
		hot->entries[hot->nr++] = entry;
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

/* A table and all below it; recursion ends with the levels. */
static void dcast_hot_table(struct dcast_hot *hot, unsigned long table, unsigned int level,
			    u32 *budget)
{
	bool top = level == dcast_table_levels(), leaf;
	unsigned long pfn, last = 0;
	unsigned int i;

	dcast_hot_add(hot, table);
	if (level == 1)
		return;
	for (i = top ? DCAST_TABLE_ENTRIES / 2 : 0; i < DCAST_TABLE_ENTRIES && *budget; i++) {
		if (!dcast_table_entry(table, i, level, &pfn, &leaf) || leaf)
			continue;
		/* espfix and the like point to one table many times. */
		if (pfn != last) {
			--*budget;
			dcast_hot_table(hot, pfn, level - 1, budget);
		}
		last = pfn;
	}
}

/* Every table of the kernel's half. */
static void dcast_hot_tables(struct dcast_hot *hot)
{
	u32 budget = DCAST_HOT_TABLES;

	dcast_hot_table(hot, PHYS_PFN(read_cr3_pa()), dcast_table_levels(), &budget);
}

/* Context: panic. */
bool dcast_virt_pfn(unsigned long address, unsigned long *pfn, unsigned long *left)
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
			*left = (1ul << shift) - (address & ((1ul << shift) - 1));
			return true;
		}
	}
	return false;
}
#else
static void dcast_hot_tables(struct dcast_hot *hot)
{
}

bool dcast_virt_pfn(unsigned long address, unsigned long *pfn, unsigned long *left)
{
	return false;
}
#endif

/*
 * Adds the pages of kernel memory, those that are mapped; at most DCAST_HOT_RANGE bytes.
 * Context: panic.
 */
void dcast_hot_range(struct dcast_hot *hot, const void *start, size_t bytes)
{
	unsigned long at = (unsigned long)start & PAGE_MASK, pfn, left;
	unsigned long end = (unsigned long)start + min_t(size_t, bytes, DCAST_HOT_RANGE);

	/* No address of the kernel's half wraps around. */
	for (; at < end; at += PAGE_SIZE)
		if (dcast_virt_pfn(at, &pfn, &left))
			dcast_hot_add(hot, pfn);
}

/* Per-CPU areas: each begins at its offset, as x86's variables are numbered from 0. */
static void dcast_hot_percpu(struct dcast_hot *hot)
{
	size_t unit = DCAST_PERCPU;
	unsigned int cpu, first = cpumask_first(cpu_possible_mask);

	for_each_possible_cpu(cpu)
		if (cpu != first && per_cpu_offset(cpu) > per_cpu_offset(first))
			unit = min_t(size_t, unit, per_cpu_offset(cpu) - per_cpu_offset(first));
	for_each_present_cpu(cpu)
		dcast_hot_range(hot, (void *)per_cpu_offset(cpu), unit);
}

/* Where struct pages are: sections, nodes and their zones. */
static void dcast_hot_memory_model(struct dcast_hot *hot)
{
#ifdef CONFIG_NUMA
	int nid;

	for_each_online_node(nid)
		dcast_hot_range(hot, NODE_DATA(nid), sizeof(pg_data_t));
#endif
#ifdef CONFIG_SPARSEMEM_EXTREME
	{
		unsigned long roots = NR_SECTION_ROOTS, i;

		dcast_hot_range(hot, mem_section, roots * sizeof(*mem_section));
		for (i = 0; i < roots; i++) {
			struct mem_section *root;

			if (!get_kernel_nofault(root, mem_section + i) && root)
				dcast_hot_range(hot, root, SECTIONS_PER_ROOT * sizeof(*root));
		}
	}
#endif
}

static void dcast_hot_module(struct dcast_hot *hot, const struct module *mod)
{
	/* ac3b43283923 ("module: replace module_layout with module_memory"), 6.4. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
	struct module_memory mem;
	unsigned int i;

	for (i = 0; i < MOD_MEM_NUM_TYPES; i++)
		if (!get_kernel_nofault(mem, &mod->mem[i]) && mem.base)
			dcast_hot_range(hot, mem.base, mem.size);
#else
	struct module_layout core;

	if (!get_kernel_nofault(core, &mod->core_layout) && core.base)
		dcast_hot_range(hot, core.base, core.size);
#endif
}

/* Every module, from this one around the list. Its head is in the kernel's image: no module. */
static void dcast_hot_modules(struct dcast_hot *hot)
{
	struct list_head *at = &THIS_MODULE->list;
	unsigned int i;

	for (i = 0; i < DCAST_HOT_MODULES; i++) {
		if ((unsigned long)at >= MODULES_VADDR && (unsigned long)at < MODULES_END)
			dcast_hot_module(hot, list_entry(at, struct module, list));
		if (get_kernel_nofault(at, &at->next) || at == &THIS_MODULE->list)
			break;
	}
}

/* The number that vmcoreinfo gives after name, as in "OFFSET(a.b)=16"; 0 without. */
static u64 dcast_info(const struct dcast_run *run, const char *name, unsigned int base)
{
	size_t len = strlen(name), at;
	u64 value = 0;

	for (at = 0; at + len + 1 < run->vmcoreinfo_len; at++) {
		const char *p = run->vmcoreinfo + at;

		if ((at && p[-1] != '\n') || memcmp(p, name, len) || p[len] != '=')
			continue;
		for (p += len + 1; p < run->vmcoreinfo + run->vmcoreinfo_len; p++) {
			int digit = hex_to_bin(*p);

			if (digit < 0 || digit >= base)
				break;
			value = value * base + digit;
		}
		break;
	}
	return value;
}

/* Reads a member of a structure at base, by vmcoreinfo's name of its offset. */
static bool dcast_hot_field(const struct dcast_run *run, const u8 *base, const char *name,
			    void *out, size_t size)
{
	return !copy_from_kernel_nofault(out, base + dcast_info(run, name, 10), size);
}

/*
 * The log's ring buffer: in the kernel's image, but allocated where log_buf_len or the number
 * of processors asks for a larger one (kernel/printk/printk_ringbuffer.h).
 */
static void dcast_hot_log(struct dcast_hot *hot, const struct dcast_run *run)
{
	const u8 *prb, *descs, *text, *at;
	unsigned int bits;

	if (get_kernel_nofault(prb, (const u8 **)dcast_info(run, "SYMBOL(prb)", 16)))
		return;
	descs = prb + dcast_info(run, "OFFSET(printk_ringbuffer.desc_ring)", 10);
	text = prb + dcast_info(run, "OFFSET(printk_ringbuffer.text_data_ring)", 10);
	if (dcast_hot_field(run, descs, "OFFSET(prb_desc_ring.count_bits)", &bits, sizeof(bits)) &&
	    bits < 24) {
		if (dcast_hot_field(run, descs, "OFFSET(prb_desc_ring.descs)", &at, sizeof(at)))
			dcast_hot_range(hot, at, dcast_info(run, "SIZE(prb_desc)", 10) << bits);
		if (dcast_hot_field(run, descs, "OFFSET(prb_desc_ring.infos)", &at, sizeof(at)))
			dcast_hot_range(hot, at, dcast_info(run, "SIZE(printk_info)", 10) << bits);
	}
	if (dcast_hot_field(run, text, "OFFSET(prb_data_ring.size_bits)", &bits, sizeof(bits)) &&
	    bits < 32 && dcast_hot_field(run, text, "OFFSET(prb_data_ring.data)", &at, sizeof(at)))
		dcast_hot_range(hot, at, 1ul << bits);
}

/*
 * Finds them. run->vmcoreinfo is there already.
 * Context: panic; does not fault, allocate or lock; every loop is bounded.
 */
void dcast_hot_find(struct dcast_hot *hot, const struct dcast_run *run)
{
	hot->nr = 0;
	hot->full = false;
	hot->mm = NULL;
	dcast_hot_tables(hot);
	dcast_hot_running(hot);
	/* The stack that the panic came on may be an interrupt's. */
	dcast_hot_words(hot, run->host->regs.sp, THREAD_SIZE - run->host->regs.sp % THREAD_SIZE,
			true);
	dcast_hot_percpu(hot);
	dcast_hot_memory_model(hot);
	dcast_hot_log(hot, run);
	dcast_hot_modules(hot);
	dcast_hot_image(hot); /* however many tasks there are */
	dcast_hot_tasks(hot);
	dcast_hot_image(hot); /* the code of their stacks */
	dcast_hot_compact(hot);
}

/*
 * Moves those of a window's pages that leave at all to class 1.
 * Context: any.
 */
void dcast_hot_classes(const struct dcast_hot *hot, u64 window, u8 cls[DCAST_MAX_WINDOW_PAGES])
{
	u32 low = 0, high = hot->nr;
	unsigned int i;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (hot->entries[middle] >> DCAST_MASK_BITS < window)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == hot->nr || hot->entries[low] >> DCAST_MASK_BITS != window)
		return;
	for (i = 0; i < DCAST_WINDOW_BYTES >> PAGE_SHIFT; i++)
		if (hot->entries[low] >> i & 1 && cls[i] != DCAST_CLASS_EXCLUDED)
			cls[i] = 1;
}
