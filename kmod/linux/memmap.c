// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory map: which physical ranges are RAM, and where the kernel's image lies.
 *
 * Taken from the resource tree when the host is armed, again when a memory block went on or off
 * line, and now and then by the heartbeat, so that hot-plugged memory is in the next dump. A map is
 * published whole and never changed.
 */
#include "dumpcast.h"

#include <linux/ioport.h>
#include <linux/memory.h>
#include <linux/mm.h>
#include <linux/slab.h>

#define DCAST_MAX_HOLES 2 /* crashkernel= reserves one above and one below 4 GiB */

struct dcast_hole {
	u64 start, end;
};

struct dcast_map_walk {
	struct dcast_map *map; /* NULL while counting */
	u32 nr;
	struct dcast_hole holes[DCAST_MAX_HOLES]; /* a crash kernel's: not this kernel's memory */
	unsigned int nr_holes;
};

static void dcast_map_add(struct dcast_map_walk *walk, u64 start, u64 end)
{
	struct dcast_map *map = walk->map;
	struct dcast_range *last;

	start = ALIGN(start, PAGE_SIZE);
	end = ALIGN_DOWN(end, PAGE_SIZE);
	if (start >= end)
		return;
	if (!map) {
		walk->nr++;
		return;
	}
	last = map->nr ? &map->ranges[map->nr - 1] : NULL;
	if (last && le64_to_cpu(last->end) == start) {
		last->end = cpu_to_le64(end);
	} else if (map->nr < walk->nr) {
		map->ranges[map->nr].start = cpu_to_le64(start);
		map->ranges[map->nr].end = cpu_to_le64(end);
		map->nr++;
	} else {
		return;
	}
	map->bytes += end - start;
}

/* Called by the resource walk with the resource lock's snapshot; ranges come ascending. */
static int dcast_map_visit(struct resource *res, void *arg)
{
	struct dcast_map_walk *walk = arg;
	u64 start = res->start, end = res->end + 1;
	unsigned int i;

	for (i = 0; i < walk->nr_holes; i++) {
		const struct dcast_hole *hole = &walk->holes[i];

		if (hole->start >= end || hole->end <= start)
			continue;
		dcast_map_add(walk, start, max(start, hole->start));
		start = hole->end;
	}
	dcast_map_add(walk, start, end);
	return 0;
}

static int dcast_map_hole(struct resource *res, void *arg)
{
	struct dcast_map_walk *walk = arg;

	if (walk->nr_holes < DCAST_MAX_HOLES)
		walk->holes[walk->nr_holes++] =
			(struct dcast_hole){ .start = res->start, .end = res->end + 1 };
	return 0;
}

static void dcast_map_part(const struct resource *res, const char *name, u64 part[2])
{
	if (!strcmp(res->name, name)) {
		part[0] = res->start;
		part[1] = res->end + 1;
	}
}

/*
 * "Kernel code", "... rodata", "... data", "... bss": children of System RAM, there since boot. The
 * tree's lock is not for modules, so that it is looked at once only, when the host is armed.
 */
static void dcast_map_image(struct dcast_map *map)
{
	struct resource *res, *child;

	map->text_start = ~0ull;
	for (res = iomem_resource.child; res; res = res->sibling) {
		for (child = res->child; child; child = child->sibling) {
			if (!child->name || strncmp(child->name, "Kernel ", 7))
				continue;
			map->text_start = min_t(u64, map->text_start, child->start);
			map->text_end = max_t(u64, map->text_end, child->end + 1);
			dcast_map_part(child, "Kernel code", map->code);
			dcast_map_part(child, "Kernel data", map->data);
			dcast_map_part(child, "Kernel bss", map->bss);
		}
	}
	map->text_end = max(map->text_start, map->text_end);
}

/*
 * Takes the memory map and publishes it when it differs from the one before.
 * 0, -ENOMEM, or -ENOENT when no RAM was found.
 * Context: process, under host->lock.
 */
int dcast_map_refresh(struct dcast_host *host)
{
	const unsigned long flags = IORESOURCE_SYSTEM_RAM | IORESOURCE_BUSY;
	struct dcast_map_walk walk = {};
	struct dcast_map *map, *old = host->map;
	size_t bytes;

	walk_iomem_res_desc(IORES_DESC_CRASH_KERNEL, flags, 0, -1, &walk, dcast_map_hole);
	walk_iomem_res_desc(IORES_DESC_NONE, flags, 0, -1, &walk, dcast_map_visit);
	if (!walk.nr)
		return -ENOENT;
	bytes = struct_size(map, ranges, walk.nr);
	map = kvzalloc(bytes, GFP_KERNEL);
	if (!map)
		return -ENOMEM;
	walk.map = map;
	walk_iomem_res_desc(IORES_DESC_NONE, flags, 0, -1, &walk, dcast_map_visit);
	if (old) {
		map->text_start = old->text_start;
		map->text_end = old->text_end;
		memcpy(map->code, old->code, sizeof(map->code));
		memcpy(map->data, old->data, sizeof(map->data));
		memcpy(map->bss, old->bss, sizeof(map->bss));
	} else {
		dcast_map_image(map);
	}
	if (old && old->nr == map->nr && !memcmp(old, map, struct_size(map, ranges, map->nr))) {
		kvfree(map);
		return 0;
	}
	/* A panic reads the pointer with every other processor stopped. */
	smp_store_release(&host->map, map);
	host->held_bytes += struct_size(map, ranges, map->nr);
	if (old)
		host->held_bytes -= struct_size(old, ranges, old->nr);
	kvfree(old);
	return 0;
}

/*
 * Whether [start, end) is within RAM.
 * Context: any.
 */
bool dcast_map_has(const struct dcast_map *map, u64 start, u64 end)
{
	u32 low = 0, high = map->nr;

	while (low < high) {
		u32 middle = low + (high - low) / 2;

		if (le64_to_cpu(map->ranges[middle].end) <= start)
			low = middle + 1;
		else
			high = middle;
	}
	return low < map->nr && le64_to_cpu(map->ranges[low].start) <= start &&
	       end <= le64_to_cpu(map->ranges[low].end);
}

/*
 * A memory block is on or off line: the heartbeat is to look at once. It does so every few
 * seconds anyway, so an interface that is busy is not waited for, under memory hot-plug's locks.
 * Context: process.
 */
static int dcast_map_changed(struct notifier_block *nb, unsigned long event, void *arg)
{
	if ((event == MEM_ONLINE || event == MEM_OFFLINE) && mutex_trylock(&dcast_config_lock)) {
		if (dcast_armed) {
			WRITE_ONCE(dcast_armed->plugged, true);
			wake_up(&dcast_armed->wake);
		}
		mutex_unlock(&dcast_config_lock);
	}
	return NOTIFY_OK;
}

static struct notifier_block dcast_map_nb = {
	.notifier_call = dcast_map_changed,
};

int dcast_map_init(void)
{
	return register_memory_notifier(&dcast_map_nb);
}

void dcast_map_exit(void)
{
	unregister_memory_notifier(&dcast_map_nb);
}
