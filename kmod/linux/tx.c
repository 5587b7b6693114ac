// SPDX-License-Identifier: GPL-2.0-only
/*
 * Sending with nobody's help: packets from the path's ring go straight to the driver's
 * transmit function, past qdiscs and past netpoll, whose queue needs a worker that never runs.
 *
 * The machine's state: panic; interrupts off, other processors stopped wherever they were,
 * perhaps holding a queue's lock. Nothing here allocates, sleeps, or waits without a bound.
 */
#include "dumpcast.h"

#include <linux/if_vlan.h>

#define DCAST_TX_BATCH 32
/* Nobody who could release it is running; the bound is for one that refused to stop. */
#define DCAST_LOCK_WAIT_NS (50 * NSEC_PER_MSEC)

static struct sk_buff *dcast_ring_at(const struct dcast_path *path, u32 index)
{
	return path->ring[index % path->ring_size];
}

static bool dcast_ring_free(const struct dcast_path *path, u32 index)
{
	if (refcount_read(&dcast_ring_at(path, index)->users) != 1)
		return false;
	smp_rmb(); /* the driver has let go before the packet is written again */
	return true;
}

/*
 * Whether packets can be handed to the path's device at all.
 * Context: panic.
 */
bool dcast_path_usable(const struct dcast_path *path)
{
	const struct net_device *dev = READ_ONCE(path->dev);
	unsigned int i;

	if (!dev || !netif_running(dev) || !netif_device_present(dev) || !netif_carrier_ok(dev) ||
	    !path->source.family)
		return false;
	for (i = 0; i < path->set.nr_targets; i++)
		if (path->targets[i].resolved)
			return true;
	return false;
}

/*
 * A free packet of the ring, not yet taken out of it; NULL when the driver holds them all.
 * Context: panic.
 */
struct sk_buff *dcast_tx_take(struct dcast_path *path)
{
	if (path->tail - path->send >= path->ring_size || !dcast_ring_free(path, path->tail))
		return NULL;
	return dcast_ring_at(path, path->tail);
}

/*
 * Queues skb, which dcast_tx_take() returned, with the frame [start, end) in it.
 * Context: panic.
 */
void dcast_tx_queue(struct dcast_path *path, struct sk_buff *skb, u8 *start, u8 *end)
{
	unsigned int ether = ETH_HLEN + (path->tagged ? VLAN_HLEN : 0);

	if (end - start < ETH_ZLEN) {
		memset(end, 0, ETH_ZLEN - (end - start));
		end = start + ETH_ZLEN;
	}
	skb->data = start;
	skb->len = end - start;
	skb->data_len = 0;
	skb_set_tail_pointer(skb, skb->len);
	skb->dev = path->dev;
	skb->protocol = ((struct ethhdr *)start)->h_proto;
	skb->ip_summed = CHECKSUM_NONE;
	skb_reset_mac_header(skb);
	skb_set_network_header(skb, ether);
	skb_set_transport_header(skb, ether + (path->v6 ? 40 : 20));
	skb_set_queue_mapping(skb, path->queue);
	path->tail++;
	if (path->tail - path->send >= DCAST_TX_BATCH)
		dcast_tx_flush(path);
}

/*
 * The engine's tx_get: where the next packet's UDP payload goes, or NULL. There is room for
 * a copy to every next hop.
 * Context: panic.
 */
void *dcast_tx_get(struct dcast_path *path)
{
	u32 i, copies = path->set.nr_targets;

	if (!dcast_path_usable(path) || path->tail - path->send + copies > path->ring_size)
		return NULL;
	for (i = 0; i < copies; i++)
		if (!dcast_ring_free(path, path->tail + i))
			return NULL;
	return dcast_ring_at(path, path->tail)->head + path->payload_at;
}

/*
 * The engine's tx_put: the packet in payload, which dcast_tx_get() returned, to every next
 * hop whose address is known.
 * Context: panic.
 */
void dcast_tx_put(struct dcast_path *path, u8 *payload, u32 len, unsigned int lane)
{
	unsigned int i;

	for (i = 0; i < path->set.nr_targets; i++) {
		const struct dcast_target *target = &path->targets[i];
		struct sk_buff *skb = dcast_ring_at(path, path->tail);
		u8 *own = skb->head + path->payload_at;

		if (!target->resolved)
			continue;
		/* The first is in place; it may be copied from while the card reads it. */
		if (own != payload)
			memcpy(own, payload, len);
		dcast_tx_queue(path, skb, dcast_frame_build(path, target, lane, own, len),
			       own + len);
	}
}

static void dcast_tx_break_lock(struct dcast_path *path, struct netdev_queue *txq)
{
	spin_lock_init(&txq->_xmit_lock);
	WRITE_ONCE(txq->xmit_lock_owner, -1);
	path->locks_broken++;
}

/*
 * Whether no transmit lock of the device is held, so that its poll function, which may take
 * them, can be called. Locks that stay held beyond the bound are broken: their owner was
 * stopped, or is what panicked.
 * Context: panic.
 */
bool dcast_tx_locks_free(struct dcast_path *path)
{
	struct net_device *dev = path->dev;
	unsigned int i, held = 0;
	u64 now;

	for (i = 0; i < dev->real_num_tx_queues; i++)
		held += spin_is_locked(&netdev_get_tx_queue(dev, i)->_xmit_lock);
	if (!held) {
		path->lock_since_ns = 0;
		return true;
	}
	now = dcast_now_ns();
	if (!path->lock_since_ns)
		path->lock_since_ns = now;
	if (now - path->lock_since_ns < DCAST_LOCK_WAIT_NS)
		return false;
	for (i = 0; i < dev->real_num_tx_queues; i++)
		if (spin_is_locked(&netdev_get_tx_queue(dev, i)->_xmit_lock))
			dcast_tx_break_lock(path, netdev_get_tx_queue(dev, i));
	path->lock_since_ns = 0;
	return true;
}

/* A queue that a stopped processor froze (netif_tx_lock()) is thawed after the same bound. */
static bool dcast_tx_frozen(struct dcast_path *path, struct netdev_queue *txq)
{
	u64 now;

	if (!test_bit(__QUEUE_STATE_FROZEN, &txq->state)) {
		path->frozen_since_ns = 0;
		return false;
	}
	now = dcast_now_ns();
	if (!path->frozen_since_ns)
		path->frozen_since_ns = now;
	if (now - path->frozen_since_ns < DCAST_LOCK_WAIT_NS)
		return true;
	clear_bit(__QUEUE_STATE_FROZEN, &txq->state);
	path->frozen_since_ns = 0;
	path->locks_broken++;
	return false;
}

/*
 * Hands queued packets to the driver, as many as it takes.
 * Context: panic; bottom halves off.
 */
void dcast_tx_flush(struct dcast_path *path)
{
	struct net_device *dev = READ_ONCE(path->dev);
	struct netdev_queue *txq;

	if (path->send == path->tail)
		return;
	if (!dcast_path_usable(path)) {
		/* Lost with the device; others carry them, or a NAK does. */
		path->send = path->tail;
		return;
	}
	txq = netdev_get_tx_queue(dev, path->queue);
	if (dcast_tx_frozen(path, txq))
		return;
	if (!HARD_TX_TRYLOCK(dev, txq)) {
		dcast_tx_locks_free(path);
		return;
	}
	while (path->send != path->tail && !netif_xmit_frozen_or_drv_stopped(txq)) {
		struct sk_buff *skb = dcast_ring_at(path, path->send);

		/* Ours, so that the driver's release does not free it. */
		refcount_inc(&skb->users);
		if (!dev_xmit_complete(
			    netdev_start_xmit(skb, dev, txq, path->send + 1 != path->tail))) {
			refcount_dec(&skb->users);
			path->tx_busy++;
			break;
		}
		path->send++;
		path->tx_frames++;
		path->progress_ns = dcast_now_ns();
	}
	HARD_TX_UNLOCK(dev, txq);
}

/*
 * Whether the driver has let go of every packet.
 * Context: panic.
 */
bool dcast_tx_idle(const struct dcast_path *path)
{
	u32 i;

	if (!dcast_path_usable(path))
		return true;
	if (path->send != path->tail)
		return false;
	for (i = 0; i < path->ring_size; i++)
		if (refcount_read(&path->ring[i]->users) != 1)
			return false;
	return true;
}

/*
 * Chooses a transmit queue: this processor's, or the next whose lock is free.
 * Context: panic, before the first packet.
 */
void dcast_tx_prepare(struct dcast_path *path)
{
	struct net_device *dev = READ_ONCE(path->dev);
	unsigned int i, n;

	path->send = 0;
	path->tail = 0;
	path->queue = 0;
	if (!dev || !dev->real_num_tx_queues)
		return;
	n = dev->real_num_tx_queues;
	for (i = 0; i < n; i++) {
		path->queue = (raw_smp_processor_id() + i) % n;
		if (!spin_is_locked(&netdev_get_tx_queue(dev, path->queue)->_xmit_lock))
			return;
	}
	path->queue = raw_smp_processor_id() % n;
}
