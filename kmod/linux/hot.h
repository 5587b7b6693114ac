/* SPDX-License-Identifier: GPL-2.0-only */
/* What is looked for when a dump begins: pages of class 1 (hot.c), unused parts of the memory map. */
#ifndef DUMPCAST_KMOD_LINUX_HOT_H
#define DUMPCAST_KMOD_LINUX_HOT_H

#include "dumpcast.h"

#define DCAST_HOT_WINDOWS   65536	   /* that have such pages, at most */
#define DCAST_HOT_RANGE	    (64ul << 20)   /* bytes that are added at once, at most */
#define DCAST_PERCPU_STATIC (256 * 1024ul) /* of a processor's area, with its run queue */
#define DCAST_IMAGE_BYTES   (128ul << 20)

struct dcast_hot {
	u32 nr;
	bool full;
	const void *mm; /* the last one that was added */
	u64 until_ns;	/* when no more tasks are looked for */

	/* The kernel's image: addresses, bytes, and which of its pages are in class 1. */
	unsigned long image, image_bytes, code_bytes;
	unsigned long pages[BITS_TO_LONGS(DCAST_IMAGE_BYTES >> PAGE_SHIFT)];
	const s32 *orc_ip; /* NULL: not known */
	const u8 *orc;
	unsigned long orc_entries;

	unsigned long words[PAGE_SIZE / sizeof(long)]; /* of a stack that is looked at */
	u64 entries[DCAST_HOT_WINDOWS]; /* window << 16 | mask of pages; ascending when complete */
};

/* hot.c */
size_t dcast_hot_bytes(void);
void dcast_hot_find(struct dcast_hot *hot, const struct dcast_run *run);
void dcast_hot_range(struct dcast_hot *hot, const void *start, size_t bytes);
/* The page that a kernel address is mapped to; *left: bytes to the end of that mapping. */
bool dcast_virt_pfn(unsigned long address, unsigned long *pfn, unsigned long *left);
void dcast_hot_classes(const struct dcast_hot *hot, u64 window, u8 cls[DCAST_MAX_WINDOW_PAGES]);

/* hot_image.c */
void dcast_hot_prepare(struct dcast_hot *hot, const struct dcast_map *map);
void dcast_hot_words(struct dcast_hot *hot, unsigned long start, unsigned long bytes, bool unwind);
void dcast_hot_image(struct dcast_hot *hot);

/* vmemmap.c */
struct dcast_vmemmap;
size_t dcast_vmemmap_bytes(void);
void dcast_vmemmap_find(struct dcast_vmemmap *map, const struct dcast_map *ram);
void dcast_vmemmap_classes(const struct dcast_vmemmap *map, const struct dcast_map *ram,
			   u8 dump_level, u64 window, u8 cls[DCAST_MAX_WINDOW_PAGES]);

/* hot_tasks.c */
void dcast_hot_running(struct dcast_hot *hot);
void dcast_hot_tasks(struct dcast_hot *hot);

#endif
