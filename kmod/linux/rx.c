// SPDX-License-Identifier: GPL-2.0-only
/*
 * Polling the card: completions of what was sent, and frames that came in.
 *
 * The driver's NAPI poll function is called as netpoll does, with NAPI_STATE_NPSVC set, so
 * that it neither re-enables its interrupt nor takes itself off a list. With a budget of 0
 * drivers complete transmissions only, or should. With a budget they receive, which refills
 * the ring from the page allocator: that is allowed only while dcast_probe_rx_safe() says so.
 *
 * Received frames end on napi->rx_list, since GRO is switched off for the device by then,
 * and are taken off before the list is long enough (8) to be handed to the network stack.
 * A driver that bypasses the list meets our rx_handler.
 *
 * A processor may have been stopped, or have died, in the midst of a driver's poll function, with
 * a frame taken off the ring and the ring's index not yet moved: e1000e and vmxnet3 fault when
 * they meet such a frame. So nothing is received there before everything was sent as often as it
 * is without answers; then there is nothing left to lose.
 * Context of everything here: panic.
 */
#include "dumpcast.h"

#include <linux/if_vlan.h>
#include <linux/interrupt.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/irq.h>
#include <linux/irqdesc.h>
#include <linux/udp.h>
#include <linux/version.h>
#include <net/ip.h>
#include <net/ipv6.h>
/* "net: move struct netdev_rx_queue out of netdevice.h", 6.6. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#include <net/netdev_rx_queue.h>
#endif

#define DCAST_RX_BUDGET 4
#define DCAST_POLL_NS	(100 * NSEC_PER_USEC)
#define DCAST_IDLE_NS	(1 * NSEC_PER_MSEC)
/*
 * When packets that the host's own stack had handed to the card have surely come back. With a budget
 * drivers free them at once, which wakes their senders: locks of wait queues and of the scheduler.
 * Without one they go to a list that nobody looks at any more.
 */
#define DCAST_OTHERS_NS (100 * NSEC_PER_MSEC)

struct dcast_rx_frame {
	const u8 *l3;
	unsigned int len; /* bytes of l3 that were copied */
	__be16 proto;
	u16 vlan;
	bool tagged;
};

static bool dcast_rx_udp(struct dcast_host *host, struct dcast_path *path, struct sk_buff *skb,
			 const struct dcast_rx_frame *frame, unsigned int l3_at)
{
	const struct udphdr *udp;
	unsigned int udp_at, len;

	if (path->v6) {
		const struct ipv6hdr *ip = (const struct ipv6hdr *)frame->l3;

		if (frame->proto != htons(ETH_P_IPV6) || frame->len < sizeof(*ip) + sizeof(*udp) ||
		    ip->version != 6 || ip->nexthdr != IPPROTO_UDP ||
		    !ipv6_addr_equal(&ip->daddr, &path->source.v6))
			return false;
		udp_at = sizeof(*ip);
	} else {
		const struct iphdr *ip = (const struct iphdr *)frame->l3;

		if (frame->proto != htons(ETH_P_IP) || frame->len < sizeof(*ip) + sizeof(*udp) ||
		    ip->version != 4 || ip->ihl < 5 || ip->protocol != IPPROTO_UDP ||
		    ip->daddr != path->source.v4 || (ip->frag_off & htons(IP_MF | IP_OFFSET)))
			return false;
		udp_at = ip->ihl * 4;
		if (frame->len < udp_at + sizeof(*udp))
			return false;
	}
	udp = (const struct udphdr *)(frame->l3 + udp_at);
	len = ntohs(udp->len);
	if (udp->dest != htons(path->set.source_port) || len < sizeof(*udp))
		return false;
	len -= sizeof(*udp);
	/* What the MAC covers needs no checksum; what it does not cover is not believed. */
	if (len > sizeof(host->rx_payload) ||
	    skb_copy_bits(skb, l3_at + udp_at + sizeof(*udp), host->rx_payload, len))
		return true;
	path->rx_ours++;
	dcast_sender_input(&host->panic->sender, dcast_now_ns(), path->index, host->rx_payload,
			   len);
	return true;
}

/* Whether frames that look like this on dev are the path's. */
static bool dcast_path_hears(const struct dcast_path *path, const struct net_device *dev,
			     const struct dcast_rx_frame *frame)
{
	unsigned int i;

	for (i = 0; path->cards && i < path->cards->nr; i++) {
		const struct dcast_card *card = &path->cards->card[i];

		if (card->dev == dev && card->tagged == frame->tagged &&
		    (!card->tagged || card->vlan == frame->vlan))
			return true;
	}
	return false;
}

/* One frame, skb->data at its Ethernet header. */
static void dcast_rx_frame(struct dcast_host *host, const struct net_device *dev,
			   struct sk_buff *skb)
{
	struct dcast_rx_frame frame = {};
	const struct ethhdr *eth = (const struct ethhdr *)host->rx_head;
	unsigned int got = min_t(unsigned int, skb->len, sizeof(host->rx_head));
	unsigned int i, l3_at = ETH_HLEN;

	if (got < ETH_HLEN || skb_copy_bits(skb, 0, host->rx_head, got))
		return;
	frame.proto = eth->h_proto;
	if (skb_vlan_tag_present(skb)) {
		frame.tagged = true;
		frame.vlan = skb_vlan_tag_get_id(skb);
	} else if (frame.proto == htons(ETH_P_8021Q) && got >= ETH_HLEN + VLAN_HLEN) {
		const struct vlan_hdr *vlan = (const struct vlan_hdr *)(host->rx_head + ETH_HLEN);

		frame.tagged = true;
		frame.vlan = ntohs(vlan->h_vlan_TCI) & VLAN_VID_MASK;
		frame.proto = vlan->h_vlan_encapsulated_proto;
		l3_at += VLAN_HLEN;
	}
	frame.l3 = host->rx_head + l3_at;
	frame.len = got - l3_at;
	for (i = 0; i < host->nr_paths; i++) {
		struct dcast_path *path = host->paths[i];

		if (!dcast_path_hears(path, dev, &frame))
			continue;
		if (dcast_rx_udp(host, path, skb, &frame, l3_at) ||
		    dcast_neighbour_answer(path, frame.l3, frame.len, frame.proto, eth->h_source))
			return;
	}
}

static void dcast_rx_take(struct dcast_host *host, struct dcast_path *path,
			  const struct net_device *dev, struct sk_buff *skb)
{
	path->rx_frames++;
	/* eth_type_trans() has moved data past the Ethernet header. */
	if (skb_mac_header_was_set(skb) && skb_mac_header(skb) < skb->data)
		__skb_push(skb, skb->data - skb_mac_header(skb));
	dcast_rx_frame(host, dev, skb);
}

/* For drivers that hand frames to the stack one by one. */
static rx_handler_result_t dcast_rx_handler(struct sk_buff **pskb)
{
	struct dcast_path *path = rcu_dereference((*pskb)->dev->rx_handler_data);

	dcast_rx_take(dcast_armed, path, (*pskb)->dev, *pskb);
	kfree_skb(*pskb);
	return RX_HANDLER_CONSUMED;
}

static void dcast_rx_drain(struct dcast_host *host, struct dcast_path *path,
			   struct napi_struct *napi)
{
	struct sk_buff *skb, *next;

	list_for_each_entry_safe(skb, next, &napi->rx_list, list) {
		skb_list_del_init(skb);
		dcast_rx_take(host, path, napi->dev, skb);
		/* Back to this processor's cache of packet heads, where the next one comes from. */
		napi_consume_skb(skb, DCAST_RX_BUDGET);
	}
	napi->rx_count = 0;
}

/*
 * Some drivers (e1000e with MSI-X, 8139cp) complete transmissions in their interrupt handler
 * only. Their poll controller runs it, between disable_hardirq() and enable_irq(), which would
 * wait for a handler that a stopped processor is in, or for that interrupt's lock. A handler may
 * also set a timer, for which it takes a timer base's lock (see carrier.c). So it is called
 * when packets are needed back and no poll function has brought them; or, unless such a lock
 * may be held, when the last ones have not come back for a while.
 */
static void dcast_poll_controller(const struct dcast_host *host, const struct dcast_path *path,
				  const struct dcast_card *card, u64 now)
{
	const struct net_device_ops *ops = card->dev->netdev_ops;
	unsigned int i;

	if (!ops->ndo_poll_controller)
		return;
	if (card != dcast_path_card(path)) {
		if (!path->switches || dcast_tx_spare_free(path))
			return;
	} else if (!dcast_tx_short(path) &&
		   (!(host->may_wake || card->has_icr) || now - path->progress_ns < DCAST_IDLE_NS ||
		    dcast_tx_idle(path))) {
		return;
	}
	for (i = 0; i < card->nr_irqs; i++) {
		struct irq_data *data = irq_get_irq_data(card->irqs[i]);

		if (!data)
			continue;
		if (raw_spin_is_locked(&irq_data_to_desc(data)->lock))
			return;
		/* Nobody is left to finish that handler, or its thread. */
		if (irqd_irq_inprogress(data))
			ACCESS_PRIVATE(data->common, state_use_accessors) &= ~IRQD_IRQ_INPROGRESS;
		atomic_set(&irq_data_to_desc(data)->threads_active, 0);
	}
	dcast_carrier_unsay_change(card);
	ops->ndo_poll_controller(card->dev);
}

static void dcast_poll_napi(struct dcast_host *host, struct dcast_path *path,
			    struct napi_struct *napi, int budget)
{
	/* Set already: disabled by the driver, which then has no rings to look at. */
	if (test_and_set_bit(NAPI_STATE_NPSVC, &napi->state))
		return;
	napi->poll(napi, budget);
	dcast_rx_drain(host, path, napi);
	clear_bit(NAPI_STATE_NPSVC, &napi->state);
}

/*
 * Whether polling this context without a budget is wanted. With contexts of their own for
 * transmission (netif_napi_add_tx() marks them) the others are left alone: virtio_net refills
 * its receive ring even with a budget of 0.
 */
static bool dcast_napi_may_send(const struct net_device *dev, const struct napi_struct *napi)
{
	const struct napi_struct *other;

	if (test_bit(NAPI_STATE_NO_BUSY_POLL, &napi->state))
		return true;
	list_for_each_entry(other, &dev->napi_list, dev_list)
		if (test_bit(NAPI_STATE_NO_BUSY_POLL, &other->state))
			return false;
	return true;
}

/*
 * Whether somebody is in this context's poll function, who will not go on: it is scheduled, and was
 * taken off its list (napi_poll()). Also true for a moment before it gets on its list.
 */
static bool dcast_napi_broken_off(const struct napi_struct *napi)
{
	return test_bit(NAPI_STATE_SCHED, &napi->state) && list_empty(&napi->poll_list);
}

/* Context: panic. */
bool dcast_rx_broken_off(const struct dcast_path *path)
{
	const struct napi_struct *napi;
	unsigned int i;

	for (i = 0; path->cards && i < path->cards->nr; i++)
		list_for_each_entry(napi, &path->cards->card[i].dev->napi_list, dev_list)
			if (netif_running(path->cards->card[i].dev) && dcast_napi_broken_off(napi))
				return true;
	return false;
}

/*
 * A program of the driver's XDP may hand frames to another processor's thread, and wake it: not while
 * a lock that this takes may be held.
 */
static bool dcast_rx_would_wake(const struct dcast_host *host, const struct net_device *dev)
{
	return dev->xdp_state[XDP_MODE_DRV].prog && !host->may_wake;
}

/*
 * Whether nothing is received on any of the path's cards for that.
 * Context: panic, after dcast_probe_begin().
 */
bool dcast_rx_silenced(const struct dcast_host *host, const struct dcast_path *path)
{
	unsigned int i;

	for (i = 0; path->cards && i < path->cards->nr; i++)
		if (!dcast_rx_would_wake(host, path->cards->card[i].dev))
			return false;
	return path->cards && path->cards->nr;
}

static void dcast_poll_card(struct dcast_host *host, struct dcast_path *path,
			    struct dcast_card *card, u64 now, int budget)
{
	struct net_device *dev = card->dev;
	struct napi_struct *napi;

	if (card->barred || !netif_running(dev) || !netif_device_present(dev) ||
	    !dcast_tx_locks_free(path, card))
		return;
	if (dcast_rx_would_wake(host, dev))
		budget = 0;
	list_for_each_entry(napi, &dev->napi_list, dev_list) {
		int own = dcast_napi_broken_off(napi) && !host->may_reenter ? 0 : budget;

		if (own || dcast_napi_may_send(dev, napi))
			dcast_poll_napi(host, path, napi, own);
	}
	dcast_poll_controller(host, path, card, now);
}

/*
 * Completes what was sent on the path's cards, and receives on all of them when that is
 * safe: replies come in by whichever the switch chooses. Cheap when called often: it looks
 * at them at most once in DCAST_POLL_NS, unless the ring is short.
 * Context: panic; bottom halves off.
 */
void dcast_poll(struct dcast_host *host, struct dcast_path *path)
{
	u64 now = dcast_now_ns();
	unsigned int i;
	int budget = 0;

	if (!path->cards || (now - path->poll_ns < DCAST_POLL_NS && dcast_tx_take(path)))
		return;
	path->poll_ns = now;
	if (!host->polled_ns)
		host->polled_ns = now;
	if (now - host->polled_ns >= DCAST_OTHERS_NS &&
	    (!host->receive_last || host->may_reenter) && dcast_probe_rx_safe(host))
		budget = DCAST_RX_BUDGET;
	else
		path->rx_skipped++;
	for (i = 0; i < path->cards->nr; i++)
		dcast_poll_card(host, path, &path->cards->card[i], now, budget);
	dcast_tx_watch(path, now);
}

/*
 * Makes a card hand every frame to us, by itself, and to nobody before us: not to a generic XDP
 * program, to its own taps, or to the VLANs, the bond or the bridge above it. An XDP program in the
 * driver still sees frames first, and what it keeps is lost to us.
 */
static void dcast_rx_own(struct net_device *dev, struct dcast_path *path)
{
	struct napi_struct *napi;
	unsigned int i;

	dev->features &= ~(NETIF_F_GRO | NETIF_F_LRO | NETIF_F_GRO_HW);
	RCU_INIT_POINTER(dev->xdp_prog, NULL);
	INIT_LIST_HEAD(&dev->ptype_all);
	INIT_LIST_HEAD(&dev->ptype_specific);
#if IS_ENABLED(CONFIG_VLAN_8021Q)
	RCU_INIT_POINTER(dev->vlan_info, NULL);
#endif
#ifdef CONFIG_NETFILTER_INGRESS
	RCU_INIT_POINTER(dev->nf_hooks_ingress, NULL);
#endif
	/* "bpf: Add fd-based tcx multi-prog infra with link support", 6.6. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#ifdef CONFIG_NET_XGRESS
	RCU_INIT_POINTER(dev->tcx_ingress, NULL);
#endif
#elif defined(CONFIG_NET_CLS_ACT)
	RCU_INIT_POINTER(dev->miniq_ingress, NULL);
#endif
	rcu_assign_pointer(dev->rx_handler_data, path);
	rcu_assign_pointer(dev->rx_handler, dcast_rx_handler);
#ifdef CONFIG_RPS
	for (i = 0; i < dev->num_rx_queues; i++) {
		RCU_INIT_POINTER(dev->_rx[i].rps_map, NULL);
		RCU_INIT_POINTER(dev->_rx[i].rps_flow_table, NULL);
	}
#endif
	list_for_each_entry(napi, &dev->napi_list, dev_list) {
		/* What a poll before the panic left there is not ours, and would fill the list up. */
		INIT_LIST_HEAD(&napi->rx_list);
		napi->rx_count = 0;
		/* Drivers would wake the thread. */
		clear_bit(NAPI_STATE_THREADED, &napi->state);
#ifdef CONFIG_NETPOLL
		/* netpoll has disabled it for as long as it polls: for ever. */
		if (READ_ONCE(napi->poll_owner) != -1)
			clear_bit(NAPI_STATE_NPSVC, &napi->state);
#endif
	}
}

/*
 * A poll controller may call disable_irq(), which waits until the interrupt's chip says that none
 * is pending: never, when it is level-triggered and interrupts are off. So the chip is not asked.
 */
static void dcast_irq_do_not_ask(unsigned int irq)
{
	static struct irq_chip silent[DCAST_MAX_CARDS];
	static unsigned int nr;
	struct irq_data *data = irq_get_irq_data(irq), *next;

	for (; data; data = next) {
#ifdef CONFIG_IRQ_DOMAIN_HIERARCHY
		next = data->parent_data;
#else
		next = NULL;
#endif
		if (!data->chip || !data->chip->irq_get_irqchip_state)
			continue;
		if (!nr || silent[nr - 1].name != data->chip->name) {
			if (nr == ARRAY_SIZE(silent))
				return;
			silent[nr] = *data->chip;
			silent[nr++].irq_get_irqchip_state = NULL;
		}
		data->chip = &silent[nr - 1];
	}
}

/*
 * Takes the path's cards for ourselves. Nothing of this is done while the host lives: there
 * GRO, packet steering, a bridge or a bond keep what is theirs.
 * Context: panic; the other processors are stopped, so that no lock is needed.
 */
void dcast_rx_prepare(struct dcast_host *host, struct dcast_path *path)
{
	unsigned int i, k;

	for (i = 0; path->cards && i < path->cards->nr; i++) {
		const struct dcast_card *card = &path->cards->card[i];

		dcast_rx_own(card->dev, path);
		dcast_iommu_take(card);
		for (k = 0; k < card->nr_irqs; k++)
			dcast_irq_do_not_ask(card->irqs[k]);
	}
}
