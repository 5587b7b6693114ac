// SPDX-License-Identifier: GPL-2.0-only
/*
 * Resets the card in the midst of a dump, behind its driver's back: rings and enables are
 * gone, and nobody is left who would set them up again.
 */
#include "crasher.h"

#include <linux/io.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/pci.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>

#define E1000_CTRL     0x0000
#define E1000_CTRL_RST 0x04000000
#define E1000_RCTL     0x0100
#define E1000_TCTL     0x0400

static unsigned int step;
static void __iomem *registers;

/* Context: panic, in the hook. */
static void reset_card(void)
{
	struct device *parent = crasher_card->dev.parent;

	if (registers) {
		writel(readl(registers + E1000_CTRL) | E1000_CTRL_RST, registers + E1000_CTRL);
		/* What that leaves of a card; QEMU's e1000e keeps them. */
		writel(0, registers + E1000_RCTL);
		writel(0, registers + E1000_TCTL);
	} else {
		dev_to_virtio(parent)->config->reset(dev_to_virtio(parent));
	}
	pr_emerg("%s was reset\n", crasher_card->name);
}

static int at_step(struct kprobe *probe, struct pt_regs *regs)
{
	if (crasher_in_panic() && !--step)
		reset_card();
	return 0;
}

static struct kprobe step_probe = { .symbol_name = "dcast_sender_step", .pre_handler = at_step };

/* virtio_net, e1000 and e1000e. 0 or negative. */
int crasher_reset_begin(unsigned int at)
{
	struct device *parent = crasher_card->dev.parent;

	if (dev_is_pci(parent)) {
		registers = ioremap(pci_resource_start(to_pci_dev(parent), 0), PAGE_SIZE);
		if (!registers)
			return -ENOMEM;
	} else if (strcmp(parent->bus->name, "virtio")) {
		return -ENODEV;
	}
	step = at;
	return register_kprobe(&step_probe);
}
