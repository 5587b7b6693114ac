// SPDX-License-Identifier: GPL-2.0-only
/* Loading and unloading. Nothing happens until user space arms through configfs. */
#include "dumpcast.h"

#include <linux/module.h>
#include <linux/slab.h>

static int __init dcast_init(void)
{
	int err;

	dcast_note_sources = kcalloc(nr_cpu_ids, sizeof(*dcast_note_sources), GFP_KERNEL);
	if (!dcast_note_sources)
		return -ENOMEM;
	err = dcast_secrets_init();
	if (err)
		goto free_notes;
	err = dcast_netdev_init();
	if (err)
		goto exit_secrets;
	err = dcast_helpers_init();
	if (err)
		goto exit_netdev;
	err = dcast_panic_init();
	if (err)
		goto exit_helpers;
	err = dcast_map_init();
	if (err)
		goto exit_panic;
	err = dcast_configfs_init();
	if (err)
		goto exit_map;
	return 0;

exit_map:
	dcast_map_exit();
exit_panic:
	dcast_panic_exit();
exit_helpers:
	dcast_helpers_exit();
exit_netdev:
	dcast_netdev_exit();
exit_secrets:
	dcast_secrets_exit();
free_notes:
	kfree(dcast_note_sources);
	return err;
}

static void __exit dcast_exit(void)
{
	dcast_configfs_exit();
	mutex_lock(&dcast_config_lock);
	dcast_disarm();
	mutex_unlock(&dcast_config_lock);
	dcast_map_exit();
	dcast_panic_exit();
	dcast_helpers_exit();
	dcast_netdev_exit();
	dcast_secrets_exit();
	kfree(dcast_note_sources);
}

module_init(dcast_init);
module_exit(dcast_exit);
MODULE_DESCRIPTION("Multicasts the memory of a crashed kernel to relays");
MODULE_LICENSE("GPL");
