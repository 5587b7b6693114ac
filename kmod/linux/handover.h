/* SPDX-License-Identifier: GPL-2.0-only */
/* The record for a second sender, protos/wire/dumpcast_handover.h. */
#ifndef DUMPCAST_KMOD_LINUX_HANDOVER_H
#define DUMPCAST_KMOD_LINUX_HANDOVER_H

#include "dumpcast.h"

/* The record of an armed host. 0 or -ENOMEM. Context: process. */
int dcast_handover_alloc(struct dcast_host *host);
size_t dcast_handover_bytes(const struct dcast_host *host);
void dcast_handover_free(struct dcast_host *host);
/* Writes it as the host is now, not dumping. Context: process, under host->lock. */
void dcast_handover_arm(struct dcast_host *host);
/* Writes it with the dump that runs or has ended. Context: panic. */
void dcast_handover_dump(struct dcast_host *host, bool ended);

#endif
