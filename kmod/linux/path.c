// SPDX-License-Identifier: GPL-2.0-only
/*
 * A path: a network card and its next hops, and the ring of packets prepared for it.
 *
 * Devices come and go and addresses change while a host is armed: the heartbeat calls
 * dcast_path_refresh(), so that at a panic everything is at hand as it was a moment before.
 */
#include "dumpcast.h"

#include <linux/if_arp.h>
#include <linux/if_vlan.h>
#include <linux/inetdevice.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pci.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <linux/udp.h>
#include <net/arp.h>
#include <net/ipv6_stubs.h>
#include <net/neighbour.h>
#include <net/route.h>

/* From skb->head to the payload: any header of ours and room for the driver's; 8-byte aligned. */
#define DCAST_HEADROOM 256
#define DCAST_MIN_RING 64
#define DCAST_MAX_RING 256

/* ---- device ---- */

static void dcast_path_drop_device(struct dcast_path *path)
{
	struct net_device *upper = path->upper, *dev = path->dev;

	WRITE_ONCE(path->dev, NULL);
	path->upper = NULL;
	if (dev)
		dev_put(dev);
	if (upper)
		dev_put(upper);
}

static int dcast_path_find_device(struct dcast_path *path)
{
	struct net_device *upper, *dev;

	if (path->dev)
		return 0;
	upper = dev_get_by_name(&init_net, path->set.device);
	if (!upper) {
		snprintf(path->error, sizeof(path->error), "no network device %s",
			 path->set.device);
		return -ENODEV;
	}
	dev = upper;
	path->tagged = is_vlan_dev(upper);
	if (path->tagged) {
		dev = vlan_dev_real_dev(upper);
		path->vlan = vlan_dev_vlan_id(upper);
	}
	if (dev->type != ARPHRD_ETHER || netif_is_bridge_master(dev) || netif_is_bond_master(dev) ||
	    netif_is_team_master(dev)) {
		snprintf(path->error, sizeof(path->error),
			 "%s is no Ethernet card: name the card below it", dev->name);
		dev_put(upper);
		return -EINVAL;
	}
	dev_hold(dev);
	path->upper = upper;
	WRITE_ONCE(path->dev, dev);
	return 0;
}

/* Asking for the vectors of a PCI device takes a mutex: they are noted down here. */
static void dcast_path_find_irqs(struct dcast_path *path)
{
	struct device *parent = path->dev->dev.parent;
	int i, irq;

	path->nr_irqs = 0;
	if (!parent || !dev_is_pci(parent))
		return;
	for (i = 0; i < DCAST_MAX_IRQS; i++) {
		irq = pci_irq_vector(to_pci_dev(parent), i);
		if (irq <= 0)
			break;
		path->irqs[path->nr_irqs++] = irq;
	}
}

/* ---- addresses ---- */

/* The address of the next hop on dst, when the neighbour is known; else asks for it.
 * v4 and v6 begin at the same place (union). Context: process.
 */
static int dcast_path_mac_via(struct dcast_path *path, struct dcast_target *target,
			      struct dst_entry *dst)
{
	struct neighbour *neigh = dst_neigh_lookup(dst, &target->addr.v6);
	int err = -EHOSTUNREACH;

	if (IS_ERR_OR_NULL(neigh))
		return err;
	if (READ_ONCE(neigh->nud_state) & NUD_VALID) {
		neigh_ha_snapshot(target->mac, neigh, path->upper);
		err = 0;
	} else {
		neigh_event_send(neigh, NULL);
	}
	neigh_release(neigh);
	return err;
}

static int dcast_path_mac4(struct dcast_path *path, struct dcast_target *target)
{
	struct flowi4 flow = {
		.daddr = target->addr.v4,
		.saddr = path->source.v4,
		.flowi4_oif = path->upper->ifindex,
		.flowi4_proto = IPPROTO_UDP,
	};
	struct rtable *route = ip_route_output_key(&init_net, &flow);
	int err;

	if (IS_ERR(route))
		return PTR_ERR(route);
	err = dcast_path_mac_via(path, target, &route->dst);
	ip_rt_put(route);
	return err;
}

static struct dst_entry *dcast_path_route6(struct dcast_path *path, struct flowi6 *flow,
					   const struct in6_addr *dst)
{
	memset(flow, 0, sizeof(*flow));
	flow->daddr = *dst;
	flow->saddr = path->source.family ? path->source.v6 : in6addr_any;
	flow->flowi6_oif = path->upper->ifindex;
	flow->flowi6_proto = IPPROTO_UDP;
	return ipv6_stub->ipv6_dst_lookup_flow(&init_net, NULL, flow, NULL);
}

static int dcast_path_mac6(struct dcast_path *path, struct dcast_target *target)
{
	struct flowi6 flow;
	struct dst_entry *dst = dcast_path_route6(path, &flow, &target->addr.v6);
	int err;

	if (IS_ERR(dst))
		return PTR_ERR(dst);
	err = dcast_path_mac_via(path, target, dst);
	dst_release(dst);
	return err;
}

static int dcast_path_find_source(struct dcast_path *path)
{
	struct dcast_addr source = { .family = path->v6 ? AF_INET6 : AF_INET };

	if (path->set.source.family) {
		path->source = path->set.source;
		return 0;
	}
	if (path->v6) {
		struct flowi6 flow;
		struct dst_entry *dst;

		path->source.family = 0;
		dst = dcast_path_route6(path, &flow, &path->targets[0].addr.v6);
		if (!IS_ERR(dst)) {
			source.v6 = flow.saddr;
			dst_release(dst);
		}
		if (ipv6_addr_any(&source.v6))
			goto none;
	} else {
		source.v4 =
			inet_select_addr(path->upper, path->targets[0].addr.v4, RT_SCOPE_UNIVERSE);
		if (!source.v4)
			goto none;
	}
	path->source = source;
	return 0;

none:
	snprintf(path->error, sizeof(path->error), "%s has no IPv%c address", path->set.device,
		 path->v6 ? '6' : '4');
	return -EADDRNOTAVAIL;
}

static void dcast_path_find_targets(struct dcast_path *path)
{
	unsigned int i, missing = 0;

	for (i = 0; i < path->set.nr_targets; i++) {
		struct dcast_target *target = &path->targets[i];

		if (path->set.has_next_hop_mac) {
			memcpy(target->mac, path->set.next_hop_mac, ETH_ALEN);
			target->resolved = true;
		} else if (path->multicast) {
			target->resolved = true;
		} else if (!(path->v6 ? dcast_path_mac6(path, target) :
					dcast_path_mac4(path, target))) {
			target->resolved = true;
		} else if (!target->resolved) {
			/* An address that answered once is kept: an old one is better than none. */
			missing++;
		}
	}
	if (missing)
		snprintf(path->error, sizeof(path->error), "%u of %u next hops do not answer",
			 missing, path->set.nr_targets);
}

/*
 * Finds the device, the source address and the next hops' MACs again; path->error says what
 * is missing.
 * Context: process, under host->lock.
 */
void dcast_path_refresh(struct dcast_path *path)
{
	path->error[0] = '\0';
	if (dcast_path_find_device(path) || dcast_path_find_source(path))
		return;
	dcast_path_find_irqs(path);
	dcast_path_find_targets(path);
	if (dcast_frame_header_len(path) - ETH_HLEN + path->payload_bytes >
	    path->dev->mtu + (path->tagged ? VLAN_HLEN : 0))
		snprintf(path->error, sizeof(path->error), "the MTU of %s fell to %u: arm again",
			 path->dev->name, path->dev->mtu);
	else if (!netif_running(path->upper))
		snprintf(path->error, sizeof(path->error), "%s is down", path->upper->name);
	else if (!netif_carrier_ok(path->dev))
		snprintf(path->error, sizeof(path->error), "%s has no carrier", path->dev->name);
}

/*
 * The largest symbol that this path's device carries in one packet, 0 without a device.
 * Context: process, after dcast_path_refresh().
 */
unsigned int dcast_path_mtu_symbol(const struct dcast_path *path)
{
	unsigned int headers = sizeof(struct udphdr) + sizeof(struct dcast_hdr) +
			       (path->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));

	if (!path->upper || path->upper->mtu < headers)
		return 0;
	return ALIGN_DOWN(path->upper->mtu - headers, 8);
}

/* ---- ring ---- */

/*
 * Allocates the ring for packets of path->payload_bytes, at most ring_kib KiB of it, less
 * when memory is short but never under DCAST_MIN_RING packets. 0 or -ENOMEM.
 * Context: process.
 */
int dcast_path_ring_alloc(struct dcast_host *host, struct dcast_path *path)
{
	unsigned int bytes = DCAST_HEADROOM + path->payload_bytes, most, i;
	struct sk_buff *skb = alloc_skb(bytes, GFP_KERNEL);

	if (!skb)
		return -ENOMEM;
	most = clamp_t(unsigned int, host->set.ring_kib * 1024 / skb->truesize, DCAST_MIN_RING,
		       DCAST_MAX_RING);
	path->ring = kcalloc(most, sizeof(*path->ring), GFP_KERNEL);
	if (!path->ring) {
		kfree_skb(skb);
		return -ENOMEM;
	}
	path->payload_at = DCAST_HEADROOM;
	for (i = 0; i < most; i++) {
		if (!skb)
			skb = alloc_skb(bytes, GFP_KERNEL | __GFP_NOWARN);
		if (!skb)
			break;
		/* The driver is never to see memory that was somebody else's. */
		memset(skb->head, 0, bytes);
		host->held_bytes += skb->truesize;
		path->ring[i] = skb;
		path->ring_size++;
		skb = NULL;
	}
	return path->ring_size >= DCAST_MIN_RING ? 0 : -ENOMEM;
}

struct dcast_path *dcast_path_alloc(struct dcast_host *host, const struct dcast_path_settings *set,
				    unsigned int index)
{
	struct dcast_path *path = dcast_hold(host, sizeof(*path));
	unsigned int i;

	if (!path)
		return NULL;
	path->set = *set;
	path->index = index;
	path->v6 = set->targets[0].family == AF_INET6;
	path->multicast = path->v6 ? ipv6_addr_is_multicast(&set->targets[0].v6) :
				     ipv4_is_multicast(set->targets[0].v4);
	for (i = 0; i < set->nr_targets; i++)
		path->targets[i].addr = set->targets[i];
	return path;
}

void dcast_path_free(struct dcast_host *host, struct dcast_path *path)
{
	u32 i;

	dcast_sock_close(path);
	for (i = 0; i < path->ring_size; i++) {
		host->held_bytes -= path->ring[i]->truesize;
		kfree_skb(path->ring[i]);
	}
	kfree(path->ring);
	rtnl_lock(); /* against the notifier */
	dcast_path_drop_device(path);
	rtnl_unlock();
	dcast_unhold(host, path, sizeof(*path));
}

/* ---- devices that go away ---- */

/* Lets go of every path's device that is dev, or that is leaving. Context: process, under RTNL. */
static void dcast_paths_let_go(struct dcast_host *host, const struct net_device *dev)
{
	unsigned int i;

	mutex_lock(&host->lock);
	for (i = 0; i < host->nr_paths; i++) {
		struct dcast_path *path = host->paths[i];

		if (!path->dev || (path->dev != dev && path->upper != dev &&
				   path->dev->reg_state == NETREG_REGISTERED &&
				   path->upper->reg_state == NETREG_REGISTERED))
			continue;
		dcast_sock_close(path);
		dcast_path_drop_device(path);
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

	if (host && (event == NETDEV_UNREGISTER || event == NETDEV_CHANGENAME))
		dcast_paths_let_go(host, netdev_notifier_info_to_dev(ptr));
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
