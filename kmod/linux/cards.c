// SPDX-License-Identifier: GPL-2.0-only
/*
 * Which cards a path leaves by. The device that a path names may be stacked on others: a VLAN,
 * a bond, a bridge, a macvlan, and these on each other. Their own transmit functions take
 * locks and queue, so that a dump goes past them to the cards below, as they would send it:
 * with their MAC and VLAN tag, by the port that is active or leads to the next hop.
 *
 * Links change while a host is armed: the notifier wakes the heartbeat, which looks again.
 * Context of everything here: process, under RTNL and host->lock.
 */
#include "dumpcast.h"

#include <linux/if_arp.h>
#include <linux/if_macvlan.h>
#include <linux/if_vlan.h>
#include <linux/pci.h>
#include <linux/rtnetlink.h>
#include <net/bonding.h>

/* What the devices passed on the way down make of a frame. */
struct dcast_way {
	u8 mac[ETH_ALEN];
	bool tagged;
	u16 vlan;
};

static void dcast_cards_below(struct dcast_path *path, struct dcast_cards *found,
			      struct net_device *dev, struct dcast_way way);

static void dcast_cards_refuse(struct dcast_path *path, const struct net_device *dev,
			       const char *why)
{
	snprintf(path->error, sizeof(path->error), "%s %s", dev->name, why);
}

/* Asking for the vectors of a PCI device takes a mutex: they are noted down here. */
static void dcast_card_find_irqs(struct dcast_card *card)
{
	struct device *parent = card->dev->dev.parent;
	int i, irq;

	if (!card->dev->netdev_ops->ndo_poll_controller || !parent || !dev_is_pci(parent))
		return;
	for (i = 0; i < DCAST_MAX_IRQS; i++) {
		irq = pci_irq_vector(to_pci_dev(parent), i);
		if (irq <= 0)
			break;
		card->irqs[card->nr_irqs++] = irq;
	}
}

/* Whether dev is among the first nr cards. */
static bool dcast_card_in(const struct dcast_cards *cards, unsigned int nr,
			  const struct net_device *dev)
{
	unsigned int i;

	for (i = 0; i < nr; i++)
		if (cards->card[i].dev == dev)
			return true;
	return false;
}

static void dcast_cards_add(struct dcast_path *path, struct dcast_cards *found,
			    struct net_device *dev, const struct dcast_way *way)
{
	struct dcast_card *card = &found->card[found->nr];
	const struct dcast_cards *same;

	if (dev->type != ARPHRD_ETHER || (dev->flags & IFF_LOOPBACK)) {
		dcast_cards_refuse(path, dev, "is no Ethernet card");
		return;
	}
	if (found->nr == DCAST_MAX_CARDS)
		return;
	memset(card, 0, sizeof(*card));
	card->dev = dev;
	ether_addr_copy(card->mac, way->mac);
	card->tagged = way->tagged;
	card->vlan = way->vlan;
	dcast_card_find_irqs(card);
	/* A card can be below two ports of a bridge, by two VLANs. */
	same = dcast_card_in(found, found->nr, dev) ? found : path->cards;
	dcast_carrier_open(card, same);
	dcast_iommu_map(path, card, same);
	found->nr++;
}

static void dcast_cards_of_vlan(struct dcast_path *path, struct dcast_cards *found,
				struct net_device *dev, struct dcast_way way)
{
	struct net_device *lower;
	struct list_head *iter;

	if (way.tagged || vlan_dev_vlan_proto(dev) != htons(ETH_P_8021Q)) {
		dcast_cards_refuse(path, dev, "needs more than one 802.1Q tag");
		return;
	}
	way.tagged = true;
	way.vlan = vlan_dev_vlan_id(dev);
	netdev_for_each_lower_dev(dev, lower, iter)
		dcast_cards_below(path, found, lower, way);
}

/* First the ports that the bond would send by: one when one is active, all of LACP's. */
static void dcast_cards_of_bond(struct dcast_path *path, struct dcast_cards *found,
				struct net_device *dev, const struct dcast_way *way)
{
	struct bonding *bond = netdev_priv(dev);
	struct list_head *iter;
	struct slave *port;
	bool spare = false;

	do {
		bond_for_each_slave(bond, port, iter) {
			struct dcast_way below = *way;

			if (bond_slave_can_tx(port) == spare)
				continue;
			/* With fail_over_mac and balance-alb, each port keeps a MAC of its own. */
			if (ether_addr_equal(way->mac, dev->dev_addr))
				ether_addr_copy(below.mac, port->dev->dev_addr);
			dcast_cards_below(path, found, port->dev, below);
		}
		spare = !spare;
	} while (spare);
}

/* The bridge's port towards the next hop, by its own table; NULL when it has not learnt that. */
static struct net_device *dcast_bridge_port(const struct dcast_path *path,
					    const struct net_device *dev, struct dcast_way *way)
{
	struct net_device_path_ctx ctx = { .dev = dev };
	struct net_device_path hop = {};
	int err;

	if (!dev->netdev_ops->ndo_fill_forward_path || !dcast_path_next_mac(path, ctx.daddr))
		return NULL;
	if (way->tagged) {
		ctx.num_vlans = 1;
		ctx.vlan[0].id = way->vlan;
		ctx.vlan[0].proto = htons(ETH_P_8021Q);
	}
	rcu_read_lock();
	err = dev->netdev_ops->ndo_fill_forward_path(&ctx, &hop);
	rcu_read_unlock();
	if (err)
		return NULL;
	switch (hop.bridge.vlan_mode) {
	case DEV_PATH_BR_VLAN_TAG:
		way->tagged = true;
		way->vlan = hop.bridge.vlan_id;
		break;
	case DEV_PATH_BR_VLAN_UNTAG:
	case DEV_PATH_BR_VLAN_UNTAG_HW:
		way->tagged = false;
		break;
	default:
		break;
	}
	return (struct net_device *)ctx.dev; /* a port: RTNL keeps it */
}

/* Until somebody has answered, every port that is more than a virtual machine's. */
static void dcast_cards_of_bridge(struct dcast_path *path, struct dcast_cards *found,
				  struct net_device *dev, struct dcast_way way)
{
	struct net_device *lower = dcast_bridge_port(path, dev, &way);
	struct list_head *iter;

	if (lower) {
		dcast_cards_below(path, found, lower, way);
		return;
	}
	netdev_for_each_lower_dev(dev, lower, iter)
		if (lower->dev.parent || !list_empty(&lower->adj_list.lower))
			dcast_cards_below(path, found, lower, way);
}

static void dcast_cards_below(struct dcast_path *path, struct dcast_cards *found,
			      struct net_device *dev, struct dcast_way way)
{
	struct net_device *lower;
	struct list_head *iter;

	if (is_vlan_dev(dev)) {
		dcast_cards_of_vlan(path, found, dev, way);
	} else if (netif_is_bond_master(dev)) {
		dcast_cards_of_bond(path, found, dev, &way);
	} else if (netif_is_bridge_master(dev)) {
		dcast_cards_of_bridge(path, found, dev, way);
	} else if (netif_is_macvlan(dev) || netif_is_team_master(dev)) {
		netdev_for_each_lower_dev(dev, lower, iter)
			dcast_cards_below(path, found, lower, way);
	} else if (list_empty(&dev->adj_list.lower)) {
		dcast_cards_add(path, found, dev, &way);
	} else {
		/* What it makes of a frame (macsec, batman, ...) is not known here. */
		dcast_cards_refuse(path, dev, "is stacked in a way that dumps cannot take");
	}
}

static void dcast_cards_publish(struct dcast_path *path, struct dcast_cards *cards)
{
	struct dcast_cards *old = path->cards;
	unsigned int i;

	for (i = 0; cards && i < cards->nr; i++)
		dev_hold(cards->card[i].dev);
	/* A panic finds the one or the other. */
	smp_store_release(&path->cards, cards);
	for (i = 0; old && i < old->nr; i++) {
		if (!dcast_card_in(old, i, old->card[i].dev)) {
			dcast_carrier_close(&old->card[i], cards);
			dcast_iommu_unmap(path, &old->card[i], cards);
		}
		dev_put(old->card[i].dev);
	}
}

static bool dcast_card_ready(const struct dcast_card *card)
{
	return netif_running(card->dev) && netif_carrier_ok(card->dev);
}

/*
 * Finds the path's device when it has none, and the cards below it again. 0, or -E with
 * path->error set: then there is none.
 */
int dcast_cards_find(struct dcast_path *path)
{
	struct dcast_cards *found = &path->both[path->cards == &path->both[0]];
	const struct dcast_card *before = dcast_path_card(path);
	const struct net_device *old = before ? before->dev : NULL;
	struct dcast_way way = {};
	unsigned int i;

	if (!path->upper)
		path->upper = dev_get_by_name(&init_net, path->set.device);
	if (!path->upper) {
		snprintf(path->error, sizeof(path->error), "no network device %s",
			 path->set.device);
		return -ENODEV;
	}
	found->nr = 0;
	ether_addr_copy(way.mac, path->upper->dev_addr);
	dcast_cards_below(path, found, path->upper, way);
	if (!found->nr) {
		if (!path->error[0])
			dcast_cards_refuse(path, path->upper, "has no card below it");
		dcast_cards_publish(path, NULL);
		return -ENODEV;
	}
	path->error[0] = '\0';
	for (i = 1; i < found->nr && !dcast_card_ready(&found->card[0]); i++)
		if (dcast_card_ready(&found->card[i]))
			swap(found->card[0], found->card[i]);
	dcast_cards_publish(path, found);
	if (old != found->card[0].dev && found->card[0].dev != path->upper)
		pr_info("path %s: %s leaves by %s, 1 of %u cards\n", path->set.name,
			path->upper->name, found->card[0].dev->name, found->nr);
	return 0;
}

/* Lets go of the path's devices. */
void dcast_cards_drop(struct dcast_path *path)
{
	struct net_device *upper = path->upper;

	dcast_cards_publish(path, NULL);
	path->upper = NULL;
	if (upper)
		dev_put(upper);
}

/* ---- devices that change ---- */

/* Whether the path uses dev, or a device that is leaving. */
static bool dcast_path_uses(const struct dcast_path *path, const struct net_device *dev)
{
	unsigned int i;

	if (!path->upper)
		return false;
	if (path->upper == dev || path->upper->reg_state != NETREG_REGISTERED)
		return true;
	for (i = 0; path->cards && i < path->cards->nr; i++)
		if (path->cards->card[i].dev == dev ||
		    path->cards->card[i].dev->reg_state != NETREG_REGISTERED)
			return true;
	return false;
}

static void dcast_paths_let_go(struct dcast_host *host, const struct net_device *dev)
{
	unsigned int i;

	mutex_lock(&host->lock);
	for (i = 0; i < host->nr_paths; i++) {
		struct dcast_path *path = host->paths[i];

		if (!dcast_path_uses(path, dev))
			continue;
		dcast_sock_close(path);
		dcast_cards_drop(path);
		snprintf(path->error, sizeof(path->error), "no network device %s",
			 path->set.device);
	}
	mutex_unlock(&host->lock);
}

/*
 * Publishes an armed host, or withdraws it (NULL): from then on the notifier knows it. Devices
 * that left since its paths were made are let go here, for the notifier did not.
 * Context: process, under dcast_config_lock.
 */
void dcast_publish(struct dcast_host *host)
{
	rtnl_lock();
	smp_store_release(&dcast_armed, host);
	if (host)
		dcast_paths_let_go(host, NULL);
	rtnl_unlock();
}

static int dcast_netdev_event(struct notifier_block *nb, unsigned long event, void *ptr)
{
	struct dcast_host *host = dcast_armed; /* changed under RTNL, which is held here */

	if (!host)
		return NOTIFY_DONE;
	switch (event) {
	case NETDEV_UNREGISTER:
	case NETDEV_CHANGENAME:
		dcast_paths_let_go(host, netdev_notifier_info_to_dev(ptr));
		break;
	case NETDEV_UP:
	case NETDEV_DOWN:
	case NETDEV_CHANGE:
	case NETDEV_CHANGEADDR:
	case NETDEV_CHANGEMTU:
	case NETDEV_CHANGEUPPER:
	case NETDEV_CHANGELOWERSTATE:
	case NETDEV_BONDING_FAILOVER:
	case NETDEV_NOTIFY_PEERS:
		break;
	default:
		return NOTIFY_DONE;
	}
	WRITE_ONCE(host->changed, true);
	wake_up(&host->wake);
	return NOTIFY_DONE;
}

static struct notifier_block dcast_netdev_nb = {
	.notifier_call = dcast_netdev_event,
};

int dcast_netdev_init(void)
{
	return register_netdevice_notifier(&dcast_netdev_nb);
}

void dcast_netdev_exit(void)
{
	unregister_netdevice_notifier(&dcast_netdev_nb);
}
