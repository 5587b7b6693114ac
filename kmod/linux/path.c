// SPDX-License-Identifier: GPL-2.0-only
/*
 * A path: its addresses and next hops, and the ring of packets prepared for it.
 *
 * Devices come and go and addresses change while a host is armed: the heartbeat calls
 * dcast_path_refresh(), so that at a panic everything is at hand as it was a moment before.
 */
#include "dumpcast.h"

#include <linux/if_vlan.h>
#include <linux/inetdevice.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/rtnetlink.h>
#include <linux/slab.h>
#include <linux/udp.h>
#include <net/arp.h>
#include <net/ipv6_stubs.h>
#include <net/neighbour.h>
#include <net/route.h>

/* From skb->head to the payload: any header of ours and room for the driver's; 8-byte aligned. */
#define DCAST_HEADROOM 256
#define DCAST_MIN_RING 32 /* DCAST_MAX_TARGETS for each of two cards */
/* Rings of all paths. With all helpers and one path, all that is held stays below 8 MiB. */
#define DCAST_RINGS_KIB 4096u

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
					   const struct in6_addr *src, const struct in6_addr *dst)
{
	memset(flow, 0, sizeof(*flow));
	flow->saddr = *src;
	flow->daddr = *dst;
	flow->flowi6_oif = path->upper->ifindex;
	flow->flowi6_proto = IPPROTO_UDP;
	return ipv6_stub->ipv6_dst_lookup_flow(&init_net, NULL, flow, NULL);
}

static int dcast_path_mac6(struct dcast_path *path, struct dcast_target *target)
{
	struct flowi6 flow;
	struct dst_entry *dst = dcast_path_route6(path, &flow, &path->source.v6, &target->addr.v6);
	int err;

	if (IS_ERR(dst))
		return PTR_ERR(dst);
	err = dcast_path_mac_via(path, target, dst);
	dst_release(dst);
	return err;
}

static int dcast_path_mac(struct dcast_path *path, struct dcast_target *target)
{
	return path->v6 ? dcast_path_mac6(path, target) : dcast_path_mac4(path, target);
}

/*
 * The address stays as it is while another one is looked for: a panic may come in the midst of that.
 * One that went away is kept, which is better than none.
 */
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

		dst = dcast_path_route6(path, &flow, &in6addr_any, &path->targets[0].addr.v6);
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
		} else if (!dcast_path_mac(path, target)) {
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

/* See dumpcast.h. A group's packets go where those go that answered. */
bool dcast_path_next_mac(const struct dcast_path *path, u8 mac[ETH_ALEN])
{
	const struct dcast_target *target = path->multicast ? &path->peer : &path->targets[0];

	if (path->set.has_next_hop_mac)
		ether_addr_copy(mac, path->set.next_hop_mac);
	else if (target->resolved)
		ether_addr_copy(mac, target->mac);
	else
		return false;
	return true;
}

static void dcast_path_check(struct dcast_path *path)
{
	const struct dcast_card *card = dcast_path_card(path);
	unsigned int i;

	for (i = 0; i < path->cards->nr; i++) {
		const struct net_device *dev = path->cards->card[i].dev;

		if (dcast_frame_header_len(path) - ETH_HLEN - VLAN_HLEN + path->payload_bytes >
		    dev->mtu)
			snprintf(path->error, sizeof(path->error),
				 "the MTU of %s fell to %u: arm again", dev->name, dev->mtu);
	}
	if (path->error[0])
		return;
	if (!netif_running(path->upper))
		snprintf(path->error, sizeof(path->error), "%s is down", path->upper->name);
	else if (!netif_carrier_ok(card->dev))
		snprintf(path->error, sizeof(path->error), "%s has no carrier", card->dev->name);
}

/*
 * Finds the cards, the source address and the next hops' MACs again; path->error says what
 * is missing.
 * Context: process, under RTNL and host->lock.
 */
void dcast_path_refresh(struct dcast_path *path)
{
	path->error[0] = '\0';
	if (dcast_cards_find(path) || dcast_path_find_source(path))
		return;
	path->peer.resolved = path->peer.addr.family && !dcast_path_mac(path, &path->peer);
	dcast_path_find_targets(path);
	dcast_path_check(path);
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
 * Allocates the ring for packets of path->payload_bytes, at most ring_kib KiB and its share of
 * DCAST_RINGS_KIB, less when memory is short but never under DCAST_MIN_RING packets. 0 or -ENOMEM.
 * Context: process.
 */
int dcast_path_ring_alloc(struct dcast_host *host, struct dcast_path *path)
{
	unsigned int bytes = DCAST_HEADROOM + path->payload_bytes, most, i;
	struct sk_buff *skb = alloc_skb(bytes, GFP_KERNEL);

	if (!skb)
		return -ENOMEM;
	most = min(host->set.ring_kib, DCAST_RINGS_KIB / host->nr_paths);
	most = clamp_t(unsigned int, most * 1024 / skb->truesize, DCAST_MIN_RING, DCAST_MAX_RING);
	path->ring = dcast_hold(host, DCAST_MAX_RING * sizeof(*path->ring));
	if (!path->ring) {
		kfree_skb(skb);
		return -ENOMEM;
	}
	path->payload_at = DCAST_HEADROOM;
	path->packet_bytes = bytes;
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
	rtnl_lock(); /* against the notifier */
	dcast_cards_drop(path);
	rtnl_unlock();
	for (i = 0; i < path->ring_size; i++) {
		host->held_bytes -= path->ring[i]->truesize;
		kfree_skb(path->ring[i]);
	}
	dcast_unhold(host, path->ring, DCAST_MAX_RING * sizeof(*path->ring));
	dcast_unhold(host, path->sock_buf, path->payload_bytes);
	dcast_unhold(host, path, sizeof(*path));
}
