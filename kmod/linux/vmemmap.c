// SPDX-License-Identifier: GPL-2.0-only
/*
 * exclude_unused_vmemmap: leaves out pages of the memory map (vmemmap) whose struct pages all
 * describe pages that are left out, as makedumpfile's -e does; on a host of which most is left
 * out, the map is most of the rest. What crash's `kmem` then cannot read is reported as excluded.
 *
 * Where the map lies in memory is found when the dump begins, by its page tables: a few extents,
 * as it is taken in large pieces. Those beyond DCAST_VMEMMAP_EXTENTS are not left out.
 */
#include "dumpcast.h"
#include "hot.h"

#include <linux/mm.h>
#include <linux/sort.h>

#define DCAST_VMEMMAP_EXTENTS 1024
#define DCAST_DESCRIBED	      (PAGE_SIZE / sizeof(struct page)) /* by one page of the map */

struct dcast_vmemmap {
	u32 nr;
	struct dcast_vmemmap_extent {
		unsigned long pfn, pages;
		unsigned long described;  /* the first page that its first page describes */
	} extents[DCAST_VMEMMAP_EXTENTS]; /* ascending when complete */
};

size_t dcast_vmemmap_bytes(void)
{
	return sizeof(struct dcast_vmemmap);
}

#ifdef CONFIG_SPARSEMEM_VMEMMAP
static int dcast_vmemmap_compare(const void *a, const void *b)
{
	const struct dcast_vmemmap_extent *left = a, *right = b;

	return left->pfn < right->pfn ? -1 : left->pfn > right->pfn;
}

static void dcast_vmemmap_add(struct dcast_vmemmap *map, unsigned long pfn, unsigned long pages,
			      unsigned long described)
{
	struct dcast_vmemmap_extent *last = map->nr ? &map->extents[map->nr - 1] : NULL;

	if (last && pfn == last->pfn + last->pages &&
	    described == last->described + last->pages * DCAST_DESCRIBED) {
		last->pages += pages;
	} else if (map->nr < DCAST_VMEMMAP_EXTENTS) {
		map->extents[map->nr++] = (struct dcast_vmemmap_extent){ pfn, pages, described };
	}
}

/*
 * Finds where the map of all RAM lies.
 * Context: panic; does not fault, allocate or lock; bounded by the size of the map.
 */
void dcast_vmemmap_find(struct dcast_vmemmap *map, const struct dcast_map *ram)
{
	unsigned long next = 0;
	u32 i;

	map->nr = 0;
	/* A struct page that lies on two pages would keep both. */
	if (PAGE_SIZE % sizeof(struct page))
		return;
	for (i = 0; i < ram->nr; i++) {
		unsigned long first = PHYS_PFN(le64_to_cpu(ram->ranges[i].start));
		unsigned long end = PHYS_PFN(le64_to_cpu(ram->ranges[i].end));
		unsigned long at = ALIGN_DOWN(first, DCAST_DESCRIBED);

		for (at = max(at, next); at < end;) {
			unsigned long pfn, bytes = PAGE_SIZE;

			if (dcast_virt_pfn((unsigned long)pfn_to_page(at), &pfn, &bytes))
				dcast_vmemmap_add(map, pfn, bytes >> PAGE_SHIFT, at);
			at += (bytes >> PAGE_SHIFT) * DCAST_DESCRIBED;
		}
		next = at;
	}
	sort(map->extents, map->nr, sizeof(map->extents[0]), dcast_vmemmap_compare, NULL);
}

/* Whether the dump level leaves out all of DCAST_DESCRIBED pages. */
static bool dcast_vmemmap_unused(const struct dcast_map *ram, u8 dump_level, unsigned long first)
{
	const unsigned int pages = DCAST_WINDOW_BYTES >> PAGE_SHIFT;
	u8 cls[DCAST_MAX_WINDOW_PAGES];
	unsigned int i, done;

	for (done = 0; done < DCAST_DESCRIBED; done += pages) {
		dcast_window_classes(ram, dump_level, (first + done) / pages, cls);
		for (i = 0; i < pages; i++)
			if (cls[i] != DCAST_CLASS_EXCLUDED)
				return false;
	}
	return true;
}

/*
 * Excludes those of a window's pages that are of the map and describe nothing that leaves.
 * Context: any.
 */
void dcast_vmemmap_classes(const struct dcast_vmemmap *map, const struct dcast_map *ram,
			   u8 dump_level, u64 window, u8 cls[DCAST_MAX_WINDOW_PAGES])
{
	const unsigned int pages = DCAST_WINDOW_BYTES >> PAGE_SHIFT;
	unsigned long first = window * pages;
	u32 low = 0, high = map->nr;

	while (low < high) { /* the first extent that ends behind the window's begin */
		u32 middle = low + (high - low) / 2;

		if (map->extents[middle].pfn + map->extents[middle].pages <= first)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < map->nr && map->extents[low].pfn < first + pages; low++) {
		const struct dcast_vmemmap_extent *extent = &map->extents[low];
		unsigned long pfn = max(extent->pfn, first);

		for (; pfn < min(extent->pfn + extent->pages, first + pages); pfn++)
			if (dcast_vmemmap_unused(ram, dump_level,
						 extent->described +
							 (pfn - extent->pfn) * DCAST_DESCRIBED))
				cls[pfn - first] = DCAST_CLASS_EXCLUDED;
	}
}
#else
void dcast_vmemmap_find(struct dcast_vmemmap *map, const struct dcast_map *ram)
{
}

void dcast_vmemmap_classes(const struct dcast_vmemmap *map, const struct dcast_map *ram,
			   u8 dump_level, u64 window, u8 cls[DCAST_MAX_WINDOW_PAGES])
{
}
#endif
