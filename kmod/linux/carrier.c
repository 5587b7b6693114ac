// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whether a card has a link, read from the card. Drivers tell netif_carrier_ok() from a timer
 * or a work item, which nobody runs any more after a panic: a cable that is pulled then goes
 * unnoticed, and so does one that is plugged in again.
 *
 *   virtio-net            the status field of its configuration (virtio 1.2, 5.1.4)
 *   e1000, e1000e, igb    the LU bit of the STATUS register (82574 datasheet, 10.2.2.2)
 *
 * Of e1000 and e1000e a change of the link is also taken out of the causes for which they interrupt
 * (ICR, 10.2.4.1): their poll controllers set a timer for it, and would wait for ever for the lock
 * of a timer base that a stopped processor holds.
 *
 * Others keep what their driver said last; vmxnet3's poll function asks by itself.
 */
#include "dumpcast.h"

#include <linux/io.h>
#include <linux/pci.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>

#define DCAST_LINK_NS	    (1 * NSEC_PER_MSEC)
#define DCAST_LINK_MAX_NS   (100 * NSEC_PER_MSEC)
#define DCAST_LINK_SHARE    50 /* one part in so many of the time is spent on asking */
#define DCAST_E1000_BYTES   0x0100
#define DCAST_E1000_STATUS  0x0008
#define DCAST_E1000_LINK_UP 0x00000002
#define DCAST_E1000_ICR	    0x00c0
/* LSC, and e1000's RXSEQ; written to be cleared. */
#define DCAST_E1000_ICR_LINK 0x0000000c
#define DCAST_REGISTERS_GONE 0xffffffff

static bool dcast_is_driven_by(const struct device *parent, const char *driver)
{
	return parent && dev_is_pci(parent) && parent->driver &&
	       !strcmp(parent->driver->name, driver);
}

/*
 * Makes ready to read card->dev's link, as it was for the same card in old (which may be
 * NULL); cards that cannot be read are passed over.
 * Context: process.
 */
void dcast_carrier_open(struct dcast_card *card, const struct dcast_cards *old)
{
	struct device *parent = card->dev->dev.parent;
	struct virtio_device *vdev;
	unsigned int i;

	for (i = 0; old && i < old->nr; i++) {
		if (old->card[i].dev == card->dev) {
			card->registers = old->card[i].registers;
			card->has_icr = old->card[i].has_icr;
			card->vdev = old->card[i].vdev;
			card->vdev_translated = old->card[i].vdev_translated;
			return;
		}
	}
	card->has_icr = dcast_is_driven_by(parent, "e1000") || dcast_is_driven_by(parent, "e1000e");
	if (card->has_icr || dcast_is_driven_by(parent, "igb")) {
		card->registers =
			ioremap(pci_resource_start(to_pci_dev(parent), 0), DCAST_E1000_BYTES);
	} else if (parent && parent->bus && !strcmp(parent->bus->name, "virtio")) {
		vdev = dev_to_virtio(parent);
		card->vdev_translated = __virtio_test_bit(vdev, VIRTIO_F_ACCESS_PLATFORM);
		/* That of others (virtio_vdpa) may sleep when it is read. */
		if (dev_is_pci(parent->parent) && vdev->id.device == VIRTIO_ID_NET &&
		    __virtio_test_bit(vdev, VIRTIO_NET_F_STATUS))
			card->vdev = vdev;
	}
}

/* Undoes dcast_carrier_open(), unless the card is in cards (which may be NULL). Context: process. */
void dcast_carrier_close(struct dcast_card *card, const struct dcast_cards *cards)
{
	unsigned int i;

	for (i = 0; cards && i < cards->nr; i++)
		if (cards->card[i].dev == card->dev)
			return;
	if (card->registers)
		iounmap(card->registers);
}

static bool dcast_carrier_read(const struct dcast_card *card)
{
	if (card->registers) {
		u32 status;

		/*
		 * Without link when the host died, the driver had not enabled transmission; and
		 * the card may sleep.
		 */
		if (!netif_carrier_ok(card->dev))
			return false;
		status = readl(card->registers + DCAST_E1000_STATUS);
		return status != DCAST_REGISTERS_GONE && (status & DCAST_E1000_LINK_UP);
	} else {
		__virtio16 status = 0;

		card->vdev->config->get(card->vdev, offsetof(struct virtio_net_config, status),
					&status, sizeof(status));
		return virtio16_to_cpu(card->vdev, status) & VIRTIO_NET_S_LINK_UP;
	}
}

/*
 * Whether the card has a link; the card itself is asked once in DCAST_LINK_NS, or less often
 * where asking takes long: a hypervisor may be sending meanwhile, and answers after that.
 * Context: panic.
 */
bool dcast_carrier_ok(struct dcast_card *card)
{
	u64 now;

	if (!card->registers && !card->vdev)
		return netif_carrier_ok(card->dev);
	now = dcast_now_ns();
	if (now >= card->ask_ns) {
		card->link = dcast_carrier_read(card);
		card->ask_ns = now + clamp_t(u64, (dcast_now_ns() - now) * DCAST_LINK_SHARE,
					     DCAST_LINK_NS, DCAST_LINK_MAX_NS);
	}
	return card->link;
}

/* Context: panic. */
void dcast_carrier_unsay_change(const struct dcast_card *card)
{
	if (card->registers && card->has_icr)
		writel(DCAST_E1000_ICR_LINK, card->registers + DCAST_E1000_ICR);
}
