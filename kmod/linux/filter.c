// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which pages leave, and how soon: class and dump level from the live struct page.
 *
 * The dump level has makedumpfile's meaning (print_info.c, makedumpfile.c
 * __exclude_unnecessary_pages() of 1.7.2 for Linux 6.1, 1.7.6 for 6.12), so that both
 * leave out the same pages. Bit 1, zero pages, is content: the engine sees to it.
 *
 * Everything is read from memory that may be damaged: no pointer found in a struct page is
 * followed before it has been checked to be a struct page of an online section.
 */
#include "dumpcast.h"

#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/page-flags.h>
#include <linux/uaccess.h>
#include <linux/version.h>

#define DCAST_LEVEL_CACHE	  2
#define DCAST_LEVEL_CACHE_PRIVATE 4
#define DCAST_LEVEL_USER	  8
#define DCAST_LEVEL_FREE	  16

/* 23baf831a32c ("mm, treewide: redefine MAX_ORDER sanely"), 6.4, then renamed in 6.8. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
#define DCAST_TOP_ORDER MAX_PAGE_ORDER
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define DCAST_TOP_ORDER MAX_ORDER
#else
#define DCAST_TOP_ORDER (MAX_ORDER - 1)
#endif
/* Compound pages may be larger than buddy blocks: 1 GiB huge pages. */
#define DCAST_TOP_COMPOUND (PUD_SHIFT - PAGE_SHIFT)

static unsigned int dcast_compound_order(const struct page *head)
{
	/* ebc1baf5c9b4 ("mm: free up a word in the first tail page"), 6.6: order in _flags_1. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	unsigned long order, *at = &((struct folio *)head)->_flags_1;
#else
	unsigned char order, *at = (unsigned char *)&head[1].compound_order;
#endif
	/* What is damaged may look like a head and be the last struct page that there is. */
	return get_kernel_nofault(order, at) ? 0 : order & 0xff;
}

static bool dcast_page_slab(const struct page *head)
{
	/* 46df8e73a4a3 ("mm: free up PG_slab"), 6.10: a page type, as it looks since 6.12. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
	return READ_ONCE(head->page_type) >> 24 == PGTY_slab;
#else
	return test_bit(PG_slab, &head->flags);
#endif
}

static bool dcast_page_hugetlb(const struct page *head)
{
	/* d99e3140a4d3 ("mm: turn folio_test_hugetlb into a PageType"), 6.9. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	return READ_ONCE(head->page_type) >> 24 == PGTY_hugetlb;
#else
	return READ_ONCE(head[1].compound_dtor) == HUGETLB_PAGE_DTOR;
#endif
}

static bool dcast_page_hwpoison(const struct page *page)
{
#ifdef CONFIG_MEMORY_FAILURE
	return test_bit(PG_hwpoison, &page->flags);
#else
	return false;
#endif
}

/*
 * A confidential guest's memory that its hypervisor has not been asked for yet: to read it ends the
 * guest. It is put aside in blocks of the largest order, whose first page has a type of its own
 * ("mm: introduce PageUnaccepted() page type", 6.12; Linux 6.1 has no such memory).
 * Context: any.
 */
bool dcast_page_unaccepted(unsigned long pfn)
{
#if defined(CONFIG_UNACCEPTED_MEMORY) && LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	const struct page *first = pfn_to_online_page(ALIGN_DOWN(pfn, 1ul << DCAST_TOP_ORDER));

	return first && PageUnaccepted((struct page *)first);
#else
	return false;
#endif
}

/* PG_swapcache shares its bit and counts only with PG_swapbacked. */
static bool dcast_page_cache(const struct page *head)
{
	return test_bit(PG_lru, &head->flags) ||
	       (test_bit(PG_swapbacked, &head->flags) && test_bit(PG_swapcache, &head->flags));
}

/*
 * The head of the compound page that page is part of, or page itself; *order is the whole's.
 * NULL when what the struct page says cannot be true.
 */
static const struct page *dcast_page_head(const struct page *page, unsigned long pfn,
					  unsigned int *order)
{
	unsigned long link = READ_ONCE(page->compound_head);
	const struct page *head = page;
	unsigned long head_pfn = pfn;

	*order = 0;
	if (link & 1) {
		head = (const struct page *)(link - 1);
		head_pfn = page_to_pfn(head);
		if (head_pfn >= pfn || pfn_to_online_page(head_pfn) != head ||
		    !test_bit(PG_head, &head->flags))
			return NULL;
	} else if (!test_bit(PG_head, &page->flags)) {
		return page;
	}
	*order = dcast_compound_order(head);
	if (*order == 0 || *order > DCAST_TOP_COMPOUND)
		goto invalid;
	if (head_pfn & ((1ul << *order) - 1)) {
		/*
		 * With hugetlb's shared vmemmap a struct page inside looks like a head
		 * (e7d324850bfc, 5.18); the real one is at the aligned place.
		 */
		head_pfn = ALIGN_DOWN(head_pfn, 1ul << *order);
		head = pfn_to_online_page(head_pfn);
		if (!head || !test_bit(PG_head, &head->flags) ||
		    dcast_compound_order(head) != *order)
			goto invalid;
	}
	if ((pfn - head_pfn) >> *order)
		goto invalid;
	return head;

invalid:
	*order = 0;
	return link & 1 ? NULL : page;
}

static u8 dcast_page_class(u8 level, unsigned long pfn, const struct page *page)
{
	const struct page *head;
	unsigned int order;
	bool anon, cache;

	if (dcast_page_hwpoison(page) || PageOffline((struct page *)page) ||
	    dcast_page_unaccepted(pfn))
		return DCAST_CLASS_EXCLUDED;
	head = dcast_page_head(page, pfn, &order);
	if (!head)
		return 2;
	if (dcast_page_slab(head) || PageTable((struct page *)head) ||
	    test_bit(PG_reserved, &head->flags))
		return 2;
	anon = (unsigned long)READ_ONCE(head->mapping) & PAGE_MAPPING_ANON;
	cache = dcast_page_cache(head) && !anon;
	if (anon || (order && dcast_page_hugetlb(head)))
		return level & DCAST_LEVEL_USER ? DCAST_CLASS_EXCLUDED : 3;
	if (cache) {
		if (level & DCAST_LEVEL_CACHE_PRIVATE)
			return DCAST_CLASS_EXCLUDED;
		if ((level & DCAST_LEVEL_CACHE) && !test_bit(PG_private, &head->flags))
			return DCAST_CLASS_EXCLUDED;
		return 3;
	}
	return 2;
}

/* Order of the free block that begins here, or -1. */
static int dcast_free_order(const struct page *page)
{
	unsigned long order;

	if (!page || !PageBuddy((struct page *)page))
		return -1;
	order = READ_ONCE(page->private);
	return order <= DCAST_TOP_ORDER ? order : -1;
}

/* Whether a free block that begins before the window reaches into it. */
static bool dcast_free_covers(unsigned long first, unsigned long pages)
{
	unsigned int order;

	for (order = 0; order <= DCAST_TOP_ORDER; order++) {
		unsigned long head = ALIGN_DOWN(first, 1ul << order);
		int free;

		if (1ul << order < pages || head == first)
			continue;
		free = dcast_free_order(pfn_to_online_page(head));
		if (free >= 0 && head + (1ul << free) > first)
			return true;
	}
	return false;
}

/*
 * Class of every page of a window: 2, 3, or DCAST_CLASS_EXCLUDED; class 1 is hot.c's.
 * Context: any; does not fault, allocate or lock.
 */
void dcast_window_classes(const struct dcast_map *map, u8 dump_level, u64 window,
			  u8 cls[DCAST_MAX_WINDOW_PAGES])
{
	const unsigned int pages = DCAST_WINDOW_BYTES >> PAGE_SHIFT;
	unsigned long first = window << (DCAST_WINDOW_SHIFT - PAGE_SHIFT);
	u8 free_class = dump_level & DCAST_LEVEL_FREE ? DCAST_CLASS_EXCLUDED : 3;
	unsigned int i, free_left = dcast_free_covers(first, pages) ? pages : 0;

	memset(cls, DCAST_CLASS_EXCLUDED, DCAST_MAX_WINDOW_PAGES);
	for (i = 0; i < pages; i++) {
		u64 address = (u64)(first + i) << PAGE_SHIFT;
		const struct page *page;
		int order;

		if (!dcast_map_has(map, address, address + PAGE_SIZE))
			continue;
		page = pfn_to_online_page(first + i);
		if (!page)
			continue;
		order = dcast_free_order(page);
		if (order >= 0)
			free_left = max_t(unsigned int, free_left, 1u << order);
		if (free_left) {
			free_left--;
			cls[i] = free_class;
		} else {
			cls[i] = dcast_page_class(dump_level, first + i, page);
		}
	}
}

/*
 * Smallest window from this one on that may have a page which is not left out. Sections that are not
 * online, free blocks and compound pages are stepped over as wholes, which they are for
 * dcast_window_classes(), too.
 * Context: any; does not fault, allocate or lock.
 */
u64 dcast_window_skip(u8 dump_level, u64 window)
{
	const unsigned long pages = DCAST_WINDOW_BYTES >> PAGE_SHIFT;
	const unsigned long first = window * pages;
	const struct page *page = pfn_to_online_page(first), *head;
	unsigned long end = first;
	unsigned int order;
	int free;

	if (!page) {
		if (!online_section_nr(pfn_to_section_nr(first)))
			end = ALIGN(first + 1, PAGES_PER_SECTION);
		return max(window, (u64)end / pages);
	}
	free = dcast_free_order(page);
	if (free >= 0) {
		if (dump_level & DCAST_LEVEL_FREE)
			end = first + (1ul << free);
		return max(window, (u64)end / pages);
	}
	head = dcast_page_head(page, first, &order);
	if (head && order && dcast_page_class(dump_level, first, page) == DCAST_CLASS_EXCLUDED &&
	    !dcast_page_hwpoison(page))
		end = ALIGN_DOWN(first, 1ul << order) + (1ul << order);
	return max(window, (u64)end / pages);
}
