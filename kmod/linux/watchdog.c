// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hardware watchdogs that somebody started are fed while the dump leaves, or they would reset
 * the machine in its midst. When it has left, nobody feeds them, and they do what they are for.
 *
 * They are found while the host lives, as children of platform and PCI devices: the watchdog
 * core (drivers/watchdog/watchdog_dev.c) gives each a device of class "watchdog" with its
 * struct watchdog_device as driver data, and unregisters it before the driver lets go of that.
 * Drivers that name no parent (i6300esb) are not found: the class is private to that core.
 *
 * A driver may take its own lock to feed. One that a processor was stopped in, who may hold it, is
 * not fed: the dump then has the time that the watchdog leaves.
 */
#include "dumpcast.h"

#include <linux/device.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/watchdog.h>

#define DCAST_FEED_MS 1000u

/*
 * Drivers whose ping only writes to the watchdog's registers. Others sleep (kempld_wdt), go over I2C
 * (menf21bmc_wdt), or wait for other users of a Super I/O chip.
 */
static const char *const dcast_watchdog_drivers[] = { "iTCO_wdt", "wdat_wdt", "sp5100-tco",
						      "hpwdt" };

static bool dcast_watchdog_can(const struct device *parent)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(dcast_watchdog_drivers); i++)
		if (parent && parent->driver &&
		    !strcmp(parent->driver->name, dcast_watchdog_drivers[i]))
			return true;
	return false;
}

static int dcast_watchdog_add(struct device *dev, void *ctx)
{
	struct dcast_host *host = ctx;
	unsigned int i;

	if (!dev->class || strcmp(dev->class->name, "watchdog") || !dev_get_drvdata(dev))
		return 0;
	if (!dcast_watchdog_can(dev->parent)) {
		pr_info_once("%s is not fed while a dump leaves: its driver may wait\n",
			     dev_name(dev));
		return 0;
	}
	for (i = 0; i < DCAST_MAX_WATCHDOGS; i++)
		if (host->watchdogs[i] == dev)
			return 0;
	for (i = 0; i < DCAST_MAX_WATCHDOGS; i++) {
		if (!host->watchdogs[i]) {
			WRITE_ONCE(host->watchdogs[i], get_device(dev));
			pr_info("%s is fed while a dump leaves\n", dev_name(dev));
			break;
		}
	}
	return 0;
}

static int dcast_watchdogs_of(struct device *parent, void *ctx)
{
	return device_for_each_child(parent, ctx, dcast_watchdog_add);
}

static void dcast_watchdogs_drop(struct dcast_host *host, bool all)
{
	unsigned int i;

	for (i = 0; i < DCAST_MAX_WATCHDOGS; i++) {
		struct device *dev = host->watchdogs[i];

		if (!dev || (!all && device_is_registered(dev)))
			continue;
		WRITE_ONCE(host->watchdogs[i], NULL);
		put_device(dev);
	}
}

/* Finds those that are there now. Context: process, under host->lock. */
void dcast_watchdogs_find(struct dcast_host *host)
{
	dcast_watchdogs_drop(host, false);
	bus_for_each_dev(&platform_bus_type, NULL, host, dcast_watchdogs_of);
	bus_for_each_dev(&pci_bus_type, NULL, host, dcast_watchdogs_of);
}

/* Context: process. */
void dcast_watchdogs_let_go(struct dcast_host *host)
{
	dcast_watchdogs_drop(host, true);
}

/*
 * Feeds those that run, each as often as it may be fed; returns how many there are.
 * Context: panic.
 */
unsigned int dcast_watchdogs_feed(struct dcast_host *host, u64 now)
{
	unsigned int i, n = 0;

	for (i = 0; i < DCAST_MAX_WATCHDOGS; i++) {
		struct device *dev = READ_ONCE(host->watchdogs[i]);
		struct watchdog_device *dog;

		if (!dev || !device_is_registered(dev))
			continue;
		dog = dev_get_drvdata(dev);
		if (!dog || dcast_probe_entered(host, dev->parent, false) ||
		    (!test_bit(WDOG_ACTIVE, &dog->status) &&
		     !test_bit(WDOG_HW_RUNNING, &dog->status)))
			continue;
		n++;
		if (now - host->fed_ns[i] <
		    max(DCAST_FEED_MS, dog->min_hw_heartbeat_ms) * (u64)NSEC_PER_MSEC)
			continue;
		host->fed_ns[i] = now;
		if (dog->ops->ping)
			dog->ops->ping(dog);
		else
			dog->ops->start(dog);
	}
	return n;
}
