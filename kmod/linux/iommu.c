// SPDX-License-Identifier: GPL-2.0-only
/*
 * Cards behind an IOMMU that translates. Drivers map each packet when they take it and unmap
 * it when it has left; that takes locks (the IOVA caches and tree, the flush queue and its
 * timer, the IOMMU's command queue) which a stopped processor may hold.
 *
 * So the packets of the ring are mapped when the host is armed, and stay mapped. At panic the
 * device gets DMA operations of ours, which find the packet that is being sent, and unmap
 * nothing. What they do not know (buffers for frames that come in) goes to the device's own
 * operations: drivers ask for them only while they receive, which dcast_probe_rx_safe() allows.
 */
#include "dumpcast.h"

#include <linux/device.h>
#include <linux/dma-map-ops.h>
#include <linux/dma-mapping.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/version.h>

/* "dma-mapping: direct calls for dma-iommu", 6.12: a flag instead of operations. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
#define DCAST_HAS_DMA_FLAG IS_ENABLED(CONFIG_IOMMU_DMA)
#define DCAST_HAS_DMA_OPS  IS_ENABLED(CONFIG_ARCH_HAS_DMA_OPS)
#else
#define DCAST_HAS_DMA_FLAG 0
#define DCAST_HAS_DMA_OPS  IS_ENABLED(CONFIG_DMA_OPS)
#endif

/* The packet that is handed to the driver now, and where it is mapped. Panic only. */
static struct {
	phys_addr_t start, end;
	dma_addr_t at;
} dcast_sending;

/* The device that does DMA for the card: virtio's is the one that it sits on. */
static struct device *dcast_dma_device(const struct dcast_card *card)
{
	struct device *parent = card->dev->dev.parent;

	if (parent && parent->bus && !strcmp(parent->bus->name, "virtio"))
		return card->vdev_translated ? parent->parent : NULL;
	return parent;
}

#if DCAST_HAS_DMA_OPS
static bool dcast_translated(struct device *dev)
{
#if DCAST_HAS_DMA_FLAG
	if (dev->dma_iommu)
		return true;
#endif
	return get_dma_ops(dev);
}
#else
static bool dcast_translated(struct device *dev)
{
	return false;
}
#endif

/* Buffers that the kernel bounces are copied when they are mapped: too early. */
static bool dcast_bounced(struct device *dev)
{
	return dev_is_pci(dev) && to_pci_dev(dev)->untrusted;
}

/*
 * Maps the ring for the card when that is behind an IOMMU, or takes over the mapping of the
 * same card in old (which may be NULL).
 * Context: process.
 */
void dcast_iommu_map(struct dcast_path *path, struct dcast_card *card,
		     const struct dcast_cards *old)
{
	struct device *dev = dcast_dma_device(card);
	unsigned int i;

	for (i = 0; old && i < old->nr; i++) {
		if (old->card[i].dev == card->dev && old->card[i].dma) {
			card->dma = old->card[i].dma;
			return;
		}
	}
	if (!dev || !path->ring_size || !dcast_translated(dev) || dcast_bounced(dev))
		return;
	card->dma = kcalloc(path->ring_size, sizeof(*card->dma), GFP_KERNEL);
	if (!card->dma)
		return;
	for (i = 0; i < path->ring_size; i++) {
		card->dma[i] =
			dma_map_single(dev, path->ring[i]->head, path->packet_bytes, DMA_TO_DEVICE);
		if (dma_mapping_error(dev, card->dma[i]))
			card->dma[i] = DMA_MAPPING_ERROR;
	}
}

/* Undoes dcast_iommu_map(), unless the card is in cards (which may be NULL). Context: process. */
void dcast_iommu_unmap(struct dcast_path *path, struct dcast_card *card,
		       const struct dcast_cards *cards)
{
	struct device *dev = dcast_dma_device(card);
	unsigned int i;

	for (i = 0; cards && i < cards->nr; i++)
		if (cards->card[i].dma == card->dma)
			return;
	for (i = 0; card->dma && i < path->ring_size; i++)
		if (card->dma[i] != DMA_MAPPING_ERROR)
			dma_unmap_single(dev, card->dma[i], path->packet_bytes, DMA_TO_DEVICE);
	kfree(card->dma);
	card->dma = NULL;
}

/*
 * Says which packet the driver is given next.
 * Context: panic.
 */
void dcast_iommu_sending(const struct dcast_path *path, const struct dcast_card *card, u32 index)
{
	if (!card->dma || card->dma[index] == DMA_MAPPING_ERROR) {
		dcast_sending.end = 0;
		return;
	}
	dcast_sending.start = virt_to_phys(path->ring[index]->head);
	dcast_sending.end = dcast_sending.start + path->packet_bytes;
	dcast_sending.at = card->dma[index];
}

#if DCAST_HAS_DMA_OPS
/* The device's own operations; all cards behind IOMMUs have the same. NULL: by the flag. */
static const struct dma_map_ops *dcast_own_ops;
static const struct dma_map_ops dcast_dma_ops;

static void dcast_dma_use(struct device *dev, bool own)
{
#if DCAST_HAS_DMA_FLAG
	dev->dma_iommu = own && !dcast_own_ops;
#endif
	set_dma_ops(dev, own ? dcast_own_ops : &dcast_dma_ops);
}

/* Context: panic. */
static dma_addr_t dcast_dma_map_page(struct device *dev, struct page *page, unsigned long offset,
				     size_t size, enum dma_data_direction dir, unsigned long attrs)
{
	phys_addr_t at = page_to_phys(page) + offset;
	dma_addr_t addr;

	if (at >= dcast_sending.start && at + size <= dcast_sending.end)
		return dcast_sending.at + (at - dcast_sending.start);
	if (dir == DMA_TO_DEVICE)
		return DMA_MAPPING_ERROR;
	dcast_dma_use(dev, true);
	addr = dma_map_page_attrs(dev, page, offset, size, dir, attrs);
	dcast_dma_use(dev, false);
	return addr;
}

/* The machine is about to reset: what is mapped may stay. Context: panic. */
static void dcast_dma_unmap_page(struct device *dev, dma_addr_t addr, size_t size,
				 enum dma_data_direction dir, unsigned long attrs)
{
}

static int dcast_dma_map_sg(struct device *dev, struct scatterlist *sg, int nents,
			    enum dma_data_direction dir, unsigned long attrs)
{
	return -EIO;
}

static void dcast_dma_unmap_sg(struct device *dev, struct scatterlist *sg, int nents,
			       enum dma_data_direction dir, unsigned long attrs)
{
}

static const struct dma_map_ops dcast_dma_ops = {
	.map_page = dcast_dma_map_page,
	.unmap_page = dcast_dma_unmap_page,
	.map_sg = dcast_dma_map_sg,
	.unmap_sg = dcast_dma_unmap_sg,
};

/*
 * Takes the mapping of the card's packets into our own hands.
 * Context: panic.
 */
void dcast_iommu_take(const struct dcast_card *card)
{
	struct device *dev = dcast_dma_device(card);

	if (!card->dma || get_dma_ops(dev) == &dcast_dma_ops)
		return;
	dcast_own_ops = get_dma_ops(dev);
	dcast_dma_use(dev, false);
}
#else
void dcast_iommu_take(const struct dcast_card *card)
{
}
#endif
