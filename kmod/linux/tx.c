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

#define DCAST_TX_BATCH 64u /* or half of the ring */
/* Nobody who could release it is running; the bound is for one that refused to stop. */
#define DCAST_LOCK_WAIT_NS (50 * NSEC_PER_MSEC)
/* A card that has given back no packet for so long, of a path that has others. */
#define DCAST_CARD_DEAD_NS (100 * NSEC_PER_MSEC)
/* The best card is tried again. */
#define DCAST_CARD_BACK_NS (1 * NSEC_PER_SEC)
#define DCAST_SAY_SWITCHES 4
/* When the console hears of it; the engine has passed by the path before. */
#define DCAST_STUCK_NS	  (20 * NSEC_PER_MSEC)
#define DCAST_SAY_CHANGES 8

static u32 dcast_ring_index(const struct dcast_path *path, u32 index)
{
	return path->ring_from + index % path->ring_len;
}

static struct sk_buff *dcast_ring_at(const struct dcast_path *path, u32 index)
{
	return path->ring[dcast_ring_index(path, index)];
}

static bool dcast_ring_free(const struct dcast_path *path, u32 index)
{
	if (refcount_read(&dcast_ring_at(path, index)->users) != 1)
		return false;
	smp_rmb(); /* the driver has let go before the packet is written again */
	return true;
}

static bool dcast_card_usable(struct dcast_card *card)
{
	const struct net_device *dev = card->dev;

	return !card->barred && netif_running(dev) && netif_device_present(dev) &&
	       dcast_carrier_ok(card);
}

/*
 * Whether packets can be handed to one of the path's cards at all.
 * Context: any.
 */
bool dcast_path_usable(const struct dcast_path *path)
{
	struct dcast_cards *cards = READ_ONCE(path->cards);
	unsigned int i, usable = 0;

	if (!cards || !path->source.family)
		return false;
	for (i = 0; i < cards->nr; i++)
		usable += dcast_card_usable(&cards->card[i]);
	if (!usable)
		return false;
	for (i = 0; i < path->set.nr_targets; i++)
		if (path->targets[i].resolved)
			return true;
	return false;
}

/* This processor's transmit queue, or the next whose lock is free. */
static unsigned int dcast_tx_queue_of(const struct net_device *dev)
{
	unsigned int n = dev->real_num_tx_queues, i, queue;

	for (i = 0; i < n; i++) {
		queue = (raw_smp_processor_id() + i) % n;
		if (!spin_is_locked(&netdev_get_tx_queue(dev, queue)->_xmit_lock))
			return queue;
	}
	return n ? raw_smp_processor_id() % n : 0;
}

/*
 * The path goes on by another card. What waits for the old one is lost with it: it looks as
 * that card's frames do, and a NAK asks for it. The card may keep what it has: its packets
 * are one half of the ring, the other half's are for the next.
 */
static void dcast_tx_switch(struct dcast_path *path, unsigned int at, const char *why)
{
	const struct net_device *old = path->cards->card[path->at].dev;

	path->at = at;
	path->send = 0;
	path->tail = 0;
	path->ring_from = path->ring_from ? 0 : path->ring_len;
	path->queue = dcast_tx_queue_of(path->cards->card[at].dev);
	path->frozen_since_ns = 0;
	path->switched_ns = dcast_now_ns();
	path->progress_ns = path->switched_ns;
	if (path->switches++ < DCAST_SAY_SWITCHES)
		pr_emerg("path %s: %s %s, on by %s\n", path->set.name, old->name, why,
			 path->cards->card[at].dev->name);
}

/*
 * Whether the card had before has let go of all that it was given.
 * Context: panic.
 */
bool dcast_tx_spare_free(const struct dcast_path *path)
{
	u32 i, from = path->ring_from ? 0 : path->ring_len;

	for (i = 0; i < path->ring_len; i++)
		if (refcount_read(&path->ring[from + i]->users) != 1)
			return false;
	return true;
}

/* The next card that could take packets instead of the present one; its number if none. */
static unsigned int dcast_tx_other(const struct dcast_path *path)
{
	struct dcast_cards *cards = path->cards;
	unsigned int i, at;

	for (i = 1; i < cards->nr; i++) {
		at = (path->at + i) % cards->nr;
		if (dcast_card_usable(&cards->card[at]))
			return at;
	}
	return path->at;
}

/*
 * The card to use now; NULL when there is none. With several, the first is the best: it is
 * left when it has no link, or takes nothing for a while, and tried again later.
 */
static struct dcast_card *dcast_tx_card(struct dcast_path *path)
{
	struct dcast_card *card = dcast_path_card(path);
	bool usable = card && dcast_card_usable(card);
	unsigned int other = path->at;
	const char *why = "has no link";
	u64 now;

	if (!card || path->cards->nr == 1)
		return usable ? card : NULL;
	now = dcast_now_ns();
	if (!usable) {
		other = dcast_tx_other(path);
	} else if (!dcast_ring_free(path, path->tail) &&
		   now - path->progress_ns >= DCAST_CARD_DEAD_NS) {
		why = "takes nothing";
		other = dcast_tx_other(path);
	} else if (path->at && now - path->switched_ns >= DCAST_CARD_BACK_NS &&
		   dcast_card_usable(&path->cards->card[0])) {
		why = "was not the first choice";
		other = 0;
	}
	if (other == path->at || !dcast_tx_spare_free(path))
		return usable ? card : NULL;
	dcast_tx_switch(path, other, why);
	return dcast_path_card(path);
}

/*
 * A free packet of the ring, not yet taken out of it; NULL when the driver holds them all.
 * Context: panic.
 */
struct sk_buff *dcast_tx_take(struct dcast_path *path)
{
	if (path->tail - path->send >= path->ring_len || !dcast_ring_free(path, path->tail))
		return NULL;
	return dcast_ring_at(path, path->tail);
}

/*
 * Queues skb, which dcast_tx_take() returned, with the frame [start, end) in it.
 * Context: panic.
 */
void dcast_tx_queue(struct dcast_path *path, struct sk_buff *skb, u8 *start, u8 *end)
{
	unsigned int ether = ETH_HLEN;

	if (end - start < ETH_ZLEN) {
		memset(end, 0, ETH_ZLEN - (end - start));
		end = start + ETH_ZLEN;
	}
	skb->data = start;
	skb->len = end - start;
	skb->data_len = 0;
	skb_set_tail_pointer(skb, skb->len);
	skb->dev = dcast_path_card(path)->dev;
	skb->protocol = ((struct ethhdr *)start)->h_proto;
	if (skb->protocol == htons(ETH_P_8021Q))
		ether += VLAN_HLEN;
	skb->ip_summed = CHECKSUM_NONE;
	skb_reset_mac_header(skb);
	skb_set_network_header(skb, ether);
	skb_set_transport_header(skb, ether + (path->v6 ? 40 : 20));
	skb_set_queue_mapping(skb, path->queue);
	path->tail++;
	if (path->tail - path->send >= min(DCAST_TX_BATCH, path->ring_len / 2))
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

	if (!dcast_path_usable(path) || !dcast_tx_card(path) ||
	    path->tail - path->send + copies > path->ring_len)
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
	const struct dcast_card *card = dcast_path_card(path);
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
		dcast_tx_queue(path, skb, dcast_frame_build(path, card, target, lane, own, len),
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
 * On PREEMPT_RT who unlocks wakes who waits, and takes the scheduler's locks for it. None of
 * those that wait will ever run.
 * Context: panic.
 */
static void dcast_tx_forget_waiters(struct dcast_path *path, struct netdev_queue *txq)
{
#ifdef CONFIG_PREEMPT_RT
	if (!RB_EMPTY_ROOT(&txq->_xmit_lock.lock.waiters.rb_root))
		dcast_tx_break_lock(path, txq);
#endif
}

/*
 * Whether no transmit lock of the device is held, so that its poll function, which may take
 * them, can be called. Locks that stay held beyond the bound are broken: their owner was
 * stopped, or is what panicked.
 * Context: panic.
 */
bool dcast_tx_locks_free(struct dcast_path *path, struct dcast_card *card)
{
	struct net_device *dev = card->dev;
	unsigned int i, held = 0;
	u64 now;

	for (i = 0; i < dev->real_num_tx_queues; i++)
		held += spin_is_locked(&netdev_get_tx_queue(dev, i)->_xmit_lock);
	if (!held) {
		card->lock_since_ns = 0;
		return true;
	}
	now = dcast_now_ns();
	if (!card->lock_since_ns)
		card->lock_since_ns = now;
	if (now - card->lock_since_ns < DCAST_LOCK_WAIT_NS)
		return false;
	for (i = 0; i < dev->real_num_tx_queues; i++)
		if (spin_is_locked(&netdev_get_tx_queue(dev, i)->_xmit_lock))
			dcast_tx_break_lock(path, netdev_get_tx_queue(dev, i));
	card->lock_since_ns = 0;
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
	struct dcast_card *card;
	struct net_device *dev;
	struct netdev_queue *txq;

	path->refused = false;
	if (path->send == path->tail)
		return;
	card = dcast_path_card(path);
	if (!card || !dcast_card_usable(card)) {
		/* Lost with the device; others carry them, or a NAK does. */
		path->send = path->tail;
		return;
	}
	path->refused = true;
	dev = card->dev;
	txq = netdev_get_tx_queue(dev, path->queue);
	if (dcast_tx_frozen(path, txq))
		return;
	dcast_tx_forget_waiters(path, txq);
	if (!HARD_TX_TRYLOCK(dev, txq)) {
		dcast_tx_locks_free(path, card);
		return;
	}
	while (path->send != path->tail && !netif_xmit_frozen_or_drv_stopped(txq)) {
		struct sk_buff *skb = dcast_ring_at(path, path->send);

		dcast_iommu_sending(path, card, dcast_ring_index(path, path->send));
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
	path->refused = path->send != path->tail;
}

/*
 * Says on the console when the path stops taking packets, and when it does again.
 * Context: panic.
 */
void dcast_tx_watch(struct dcast_path *path, u64 now)
{
	const struct dcast_card *card = dcast_path_card(path);
	const char *state = NULL;

	if (!card)
		return;
	if (!dcast_path_usable(path))
		state = "has no link";
	else if (dcast_ring_free(path, path->tail))
		state = NULL;
	else if (now - path->progress_ns >= DCAST_STUCK_NS)
		state = "takes nothing";
	else
		return;
	if (path->state == state)
		return;
	path->state = state;
	if (path->changes++ < DCAST_SAY_CHANGES)
		pr_emerg("path %s: %s %s, %llu ms after its last packet\n", path->set.name,
			 card->dev->name, state ?: "works again",
			 (now - path->progress_ns) / NSEC_PER_MSEC);
}

/*
 * See dumpcast.h. The packet half a ring ahead is free unless the driver has had half of them for long.
 * Context: panic.
 */
bool dcast_tx_short(const struct dcast_path *path)
{
	return path->refused || !dcast_ring_free(path, path->tail + path->ring_len / 2);
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
	for (i = 0; i < path->ring_len; i++)
		if (!dcast_ring_free(path, i))
			return false;
	return true;
}

/*
 * Drivers whose transmit function takes a lock of their own, which nobody outside can look at:
 * it would be waited for without end. Of vmxnet3's each queue has one, held below the queue's own.
 */
/* clang-format off */
static const char *const dcast_own_locks[] = {
	"8139cp", "8139too", "hv_netvsc", "ne2k-pci", "pcnet32", "tulip", "vmxnet3", "vif" /* Xen */,
};
/* clang-format on */

static void dcast_tx_bar(struct dcast_host *host, struct dcast_path *path, struct dcast_card *card)
{
	const struct net_device *dev = card->dev;
	const struct device *parent = dev->dev.parent;
	unsigned int i;

	card->barred = false;
	if (!dcast_probe_entered(host, parent, true))
		return;
	for (i = 0; i < ARRAY_SIZE(dcast_own_locks); i++)
		if (!strcmp(parent->driver->name, dcast_own_locks[i]))
			break;
	if (i == ARRAY_SIZE(dcast_own_locks))
		return;
	if (dev->real_num_tx_queues > 1 &&
	    !spin_is_locked(&netdev_get_tx_queue(dev, dcast_tx_queue_of(dev))->_xmit_lock))
		return;
	card->barred = true;
	pr_emerg("path %s: %s is not used: a processor was stopped while it sent, and %s has a lock of its own\n",
		 path->set.name, dev->name, parent->driver->name);
}

/*
 * Whether nothing can leave by the path, whatever happens.
 * Context: panic, after dcast_tx_prepare().
 */
bool dcast_path_barred(const struct dcast_path *path)
{
	unsigned int i;

	for (i = 0; path->cards && i < path->cards->nr; i++)
		if (!path->cards->card[i].barred)
			return false;
	return true;
}

/*
 * Makes the ring ready for the path's first card.
 * Context: panic, before the first packet.
 */
void dcast_tx_prepare(struct dcast_host *host, struct dcast_path *path)
{
	const struct dcast_card *card;
	unsigned int i;

	for (i = 0; path->cards && i < path->cards->nr; i++)
		dcast_tx_bar(host, path, &path->cards->card[i]);
	path->at = 0;
	path->send = 0;
	path->tail = 0;
	path->refused = false;
	path->queue = 0;
	path->ring_from = 0;
	path->ring_len = path->ring_size;
	card = dcast_path_card(path);
	if (!card)
		return;
	if (card->dev != path->upper)
		pr_emerg("path %s: by %s, 1 of %u cards\n", path->set.name, card->dev->name,
			 path->cards->nr);
	if (path->cards->nr > 1)
		path->ring_len /= 2;
	path->queue = dcast_tx_queue_of(card->dev);
	path->progress_ns = dcast_now_ns();
	path->switched_ns = path->progress_ns;
}
