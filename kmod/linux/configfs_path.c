// SPDX-License-Identifier: GPL-2.0-only
/*
 * A path's settings:
 *
 *   paths/<name>/
 *     device          network card, or a VLAN, bond, bridge, macvlan on cards
 *     source          address; empty: the device's own, as routing chooses
 *     source_port     UDP, ours; replies come to it
 *     destination     one group, or unicast relays separated by spaces or commas; IPv4 or IPv6
 *     port            UDP, theirs
 *     next_hop_mac    empty: by ARP or ND, and from the group's address
 *     ttl             hops
 *
 * Paths are numbered in the order of their making.
 * Context: process.
 */
#include "dumpcast.h"

#include <linux/configfs.h>
#include <linux/inet.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <net/ipv6.h>

struct dcast_path_item {
	struct config_item item;
	struct list_head list;
	struct dcast_path_settings set;
};

/* All paths, oldest first; under dcast_config_lock. */
static LIST_HEAD(dcast_path_items);

static struct dcast_path_item *to_path_item(struct config_item *item)
{
	return container_of(item, struct dcast_path_item, item);
}

static int dcast_path_busy(const char *name)
{
	pr_err("paths: %s: cannot be changed while armed: write 0 to armed first\n", name);
	return -EBUSY;
}

/* 0, or -EINVAL when text is no IPv4 or IPv6 address. */
int dcast_parse_addr(const char *text, struct dcast_addr *addr)
{
	memset(addr, 0, sizeof(*addr));
	if (in4_pton(text, -1, (u8 *)&addr->v4, -1, NULL) == 1)
		addr->family = AF_INET;
	else if (in6_pton(text, -1, addr->v6.s6_addr, -1, NULL) == 1)
		addr->family = AF_INET6;
	else
		return -EINVAL;
	return 0;
}

static bool dcast_addr_group(const struct dcast_addr *addr)
{
	return addr->family == AF_INET6 ? ipv6_addr_is_multicast(&addr->v6) :
					  ipv4_is_multicast(addr->v4);
}

static int dcast_addr_print(char *page, const struct dcast_addr *addr)
{
	if (addr->family == AF_INET6)
		return sysfs_emit(page, "%pI6c\n", &addr->v6);
	if (addr->family == AF_INET)
		return sysfs_emit(page, "%pI4\n", &addr->v4);
	return sysfs_emit(page, "\n");
}

/* Copies what apply made of page into the item, unless armed. */
static ssize_t dcast_path_update(struct dcast_path_item *path, const char *attr, const char *page,
				 size_t len, const char *wanted,
				 int (*apply)(char *text, struct dcast_path_settings *set))
{
	char *text = kstrndup(page, len, GFP_KERNEL);
	struct dcast_path_settings *set = kmemdup(&path->set, sizeof(*set), GFP_KERNEL);
	ssize_t result = -ENOMEM;

	if (!text || !set)
		goto free;
	mutex_lock(&dcast_config_lock);
	*set = path->set;
	if (dcast_armed) {
		result = dcast_path_busy(attr);
	} else if (apply(strim(text), set)) {
		pr_err("path %s: %s: wanted %s, got \"%s\"\n", path->set.name, attr, wanted,
		       strim(text));
		result = -EINVAL;
	} else {
		path->set = *set;
		result = len;
	}
	mutex_unlock(&dcast_config_lock);
free:
	kfree(text);
	kfree(set);
	return result;
}

static int dcast_apply_device(char *text, struct dcast_path_settings *set)
{
	if (!*text || strlen(text) >= sizeof(set->device))
		return -EINVAL;
	strscpy(set->device, text, sizeof(set->device));
	return 0;
}

static int dcast_apply_source(char *text, struct dcast_path_settings *set)
{
	if (*text)
		return dcast_parse_addr(text, &set->source);
	set->source.family = 0;
	return 0;
}

static int dcast_apply_destination(char *text, struct dcast_path_settings *set)
{
	char *word;
	int n = 0;

	while ((word = strsep(&text, ", \t\n"))) {
		if (!*word)
			continue;
		if (n == DCAST_MAX_TARGETS || dcast_parse_addr(word, &set->targets[n]))
			return -EINVAL;
		if (n && (set->targets[n].family != set->targets[0].family ||
			  dcast_addr_group(&set->targets[n]) || dcast_addr_group(&set->targets[0])))
			return -EINVAL;
		n++;
	}
	set->nr_targets = n;
	return n ? 0 : -EINVAL;
}

static int dcast_apply_next_hop_mac(char *text, struct dcast_path_settings *set)
{
	set->has_next_hop_mac = *text;
	return *text && !mac_pton(text, set->next_hop_mac) ? -EINVAL : 0;
}

static int dcast_apply_port(char *text, u16 *port)
{
	u16 value;

	if (kstrtou16(text, 0, &value) || !value)
		return -EINVAL;
	*port = value;
	return 0;
}

static int dcast_apply_source_port(char *text, struct dcast_path_settings *set)
{
	return dcast_apply_port(text, &set->source_port);
}

static int dcast_apply_dest_port(char *text, struct dcast_path_settings *set)
{
	return dcast_apply_port(text, &set->port);
}

static int dcast_apply_ttl(char *text, struct dcast_path_settings *set)
{
	u8 value;

	if (kstrtou8(text, 0, &value) || !value)
		return -EINVAL;
	set->ttl = value;
	return 0;
}

#define DCAST_PATH_STORE(name, apply, wanted)                                                  \
	static ssize_t dcast_path_##name##_store(struct config_item *item, const char *page,   \
						 size_t len)                                   \
	{                                                                                      \
		return dcast_path_update(to_path_item(item), #name, page, len, wanted, apply); \
	}                                                                                      \
	CONFIGFS_ATTR(dcast_path_, name)

static ssize_t dcast_path_device_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%s\n", to_path_item(item)->set.device);
}
DCAST_PATH_STORE(device, dcast_apply_device, "the name of a network device");

static ssize_t dcast_path_source_show(struct config_item *item, char *page)
{
	return dcast_addr_print(page, &to_path_item(item)->set.source);
}
DCAST_PATH_STORE(source, dcast_apply_source, "an IPv4 or IPv6 address, or nothing");

static ssize_t dcast_path_destination_show(struct config_item *item, char *page)
{
	const struct dcast_path_settings *set = &to_path_item(item)->set;
	int i, len = 0;

	for (i = 0; i < set->nr_targets; i++) {
		char text[64];

		dcast_addr_text(&set->targets[i], text, sizeof(text));
		len += sysfs_emit_at(page, len, "%s%s", i ? " " : "", text);
	}
	return len + sysfs_emit_at(page, len, "\n");
}
DCAST_PATH_STORE(destination, dcast_apply_destination,
		 "one group's address, or up to 16 unicast addresses of one family");

static ssize_t dcast_path_next_hop_mac_show(struct config_item *item, char *page)
{
	const struct dcast_path_settings *set = &to_path_item(item)->set;

	if (!set->has_next_hop_mac)
		return sysfs_emit(page, "\n");
	return sysfs_emit(page, "%pM\n", set->next_hop_mac);
}
DCAST_PATH_STORE(next_hop_mac, dcast_apply_next_hop_mac, "a MAC address, or nothing");

static ssize_t dcast_path_source_port_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%u\n", to_path_item(item)->set.source_port);
}
DCAST_PATH_STORE(source_port, dcast_apply_source_port, "a UDP port, 1..65535");

static ssize_t dcast_path_port_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%u\n", to_path_item(item)->set.port);
}
DCAST_PATH_STORE(port, dcast_apply_dest_port, "a UDP port, 1..65535");

static ssize_t dcast_path_ttl_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%u\n", to_path_item(item)->set.ttl);
}
DCAST_PATH_STORE(ttl, dcast_apply_ttl, "a number of hops, 1..255");

/* clang-format off */
static struct configfs_attribute *dcast_path_attrs[] = {
	&dcast_path_attr_device,
	&dcast_path_attr_source,
	&dcast_path_attr_source_port,
	&dcast_path_attr_destination,
	&dcast_path_attr_port,
	&dcast_path_attr_next_hop_mac,
	&dcast_path_attr_ttl,
	NULL,
};
/* clang-format on */

static void dcast_path_release(struct config_item *item)
{
	kfree(to_path_item(item));
}

static struct configfs_item_operations dcast_path_item_ops = {
	.release = dcast_path_release,
};

static const struct config_item_type dcast_path_type = {
	.ct_item_ops = &dcast_path_item_ops,
	.ct_attrs = dcast_path_attrs,
	.ct_owner = THIS_MODULE,
};

static struct config_item *dcast_paths_make(struct config_group *group, const char *name)
{
	struct dcast_path_item *path, *other;
	unsigned int n = 0;
	int err = 0;

	if (strlen(name) >= DCAST_NAME_BYTES || strpbrk(name, " =\"")) {
		pr_err("paths: wanted a name of up to %d characters without spaces, '=' and quotes\n",
		       DCAST_NAME_BYTES - 1);
		return ERR_PTR(-EINVAL);
	}
	path = kzalloc(sizeof(*path), GFP_KERNEL);
	if (!path)
		return ERR_PTR(-ENOMEM);
	strscpy(path->set.name, name, sizeof(path->set.name));
	path->set.port = DCAST_PORT;
	path->set.source_port = DCAST_PORT;
	path->set.ttl = 16;
	config_item_init_type_name(&path->item, name, &dcast_path_type);
	mutex_lock(&dcast_config_lock);
	list_for_each_entry(other, &dcast_path_items, list)
		n++;
	if (dcast_armed) {
		err = dcast_path_busy(name);
	} else if (n == DCAST_MAX_PATHS) {
		pr_err("paths: %d at most\n", DCAST_MAX_PATHS);
		err = -ENOSPC;
	} else {
		list_add_tail(&path->list, &dcast_path_items);
	}
	mutex_unlock(&dcast_config_lock);
	if (err) {
		kfree(path);
		return ERR_PTR(err);
	}
	return &path->item;
}

/* configfs lets nobody refuse a removal: one while armed counts from the next arming. */
static void dcast_paths_drop(struct config_group *group, struct config_item *item)
{
	mutex_lock(&dcast_config_lock);
	list_del(&to_path_item(item)->list);
	mutex_unlock(&dcast_config_lock);
	config_item_put(item);
}

static struct configfs_group_operations dcast_paths_ops = {
	.make_item = dcast_paths_make,
	.drop_item = dcast_paths_drop,
};

static const struct config_item_type dcast_paths_type = {
	.ct_group_ops = &dcast_paths_ops,
	.ct_owner = THIS_MODULE,
};

static struct config_group dcast_paths_group;

struct config_group *dcast_paths_group_init(void)
{
	config_group_init_type_name(&dcast_paths_group, "paths", &dcast_paths_type);
	return &dcast_paths_group;
}

/*
 * Copies the settings of all paths, oldest first. How many, or -EINVAL when one is incomplete.
 * Context: process, under dcast_config_lock.
 */
int dcast_paths_collect(struct dcast_path_settings *out, unsigned int max)
{
	struct dcast_path_item *path;
	unsigned int n = 0;

	list_for_each_entry(path, &dcast_path_items, list) {
		const struct dcast_path_settings *set = &path->set;

		if (!set->device[0] || !set->nr_targets) {
			pr_err("arm: path %s: %s is not set\n", set->name,
			       set->device[0] ? "destination" : "device");
			return -EINVAL;
		}
		if (set->source.family && set->source.family != set->targets[0].family) {
			pr_err("arm: path %s: source and destination are of different families\n",
			       set->name);
			return -EINVAL;
		}
		if (n < max)
			out[n++] = *set;
	}
	return n;
}
