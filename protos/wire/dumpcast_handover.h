/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The handover record: what the armed module leaves in the memory of a host for a second
 * sender, `dumpcast-send --kdump` in the kernel that is started after the crash.
 *
 * It begins on a page boundary, is physically contiguous and found by looking at the begin of
 * each page of the crashed kernel's memory. Nothing of it is believed before its MAC is right:
 * SipHash-2-4 under the host's MAC key, which is not in the record, over the bytes from offset 24
 * to its end. Integers are little-endian; structures are 8-byte aligned and without padding.
 * docs/decisions/0006-second-sender.md says why it is so.
 */
#ifndef DUMPCAST_PROTOS_WIRE_DUMPCAST_HANDOVER_H
#define DUMPCAST_PROTOS_WIRE_DUMPCAST_HANDOVER_H

#include "dumpcast_wire.h"

#define DCAST_HANDOVER_MAGIC	   "dumpcast-record" /* with its NUL: 16 bytes */
#define DCAST_HANDOVER_MAC_FROM	   24
#define DCAST_HANDOVER_VERSION	   2
#define DCAST_HANDOVER_MAX_TARGETS 16
#define DCAST_HANDOVER_MAX_FRAMES  4096
#define DCAST_HANDOVER_NO_FRAME	   0xffffffffu

enum dcast_handover_state {
	DCAST_HANDOVER_ARMED = 0,     /* no dump was begun: META is a draft, there are no streams */
	DCAST_HANDOVER_DUMPING = 1,   /* META and the streams are those of the dump */
	DCAST_HANDOVER_ENDED = 2,     /* the first sender gave up, too few relays had committed */
	DCAST_HANDOVER_COMMITTED = 3, /* enough had: nothing is left to do */
};

/* Where a class 0 stream lies. Its length is META's. */
struct dcast_handover_stream {
	__le32 frame;  /* index into the frames of its first page, or DCAST_HANDOVER_NO_FRAME */
	__le32 offset; /* in that page */
};

struct dcast_handover_path {
	char device[16]; /* of the crashed kernel, NUL-padded */
	__u8 family;	 /* 4 or 6 */
	__u8 nr_targets;
	__u8 ttl;
	__u8 reserved;
	__le16 port;
	__le16 source_port;
	__u8 targets[DCAST_HANDOVER_MAX_TARGETS][16]; /* network order; IPv4 in the first 4 bytes */
};

struct dcast_handover {
	__u8 magic[16];
	__le64 mac;
	__le32 size; /* of the record with its frames, bytes */
	__le16 version;
	__le16 key_epoch;
	__le64 paddr;	   /* where it lies: copies elsewhere are none */
	__le64 written_ns; /* ns since 1970; of several records the newest counts */
	__u8 host_id[DCAST_ID_BYTES];
	__u8 boot_id[DCAST_ID_BYTES];
	__u8 dump_id[DCAST_ID_BYTES];
	__u8 state; /* enum dcast_handover_state */
	__u8 paths;
	__u8 mode; /* 0 mirror, 1 stripe */
	__u8 lanes;
	__u8 page_shift;
	__u8 dump_level;
	__u8 commits_wanted;
	__u8 slots;
	__u8 parity_percent;
	__u8 parity_percent_blind;
	__u8 relays;	/* that have answered this host, also while it was armed */
	__u8 encrypted; /* blocks leave encrypted, and stream KEYS is there, whatever the state */
	__le16 symbol_size;
	__le16 reserved2;
	__le32 rate_kib_s;
	__le32 nr_frames;
	__le64 secrets_paddr; /* struct dcast_secrets of the sender; its page never leaves */
	struct dcast_handover_stream streams[DCAST_STREAMS];
	char hostname[64];
	struct dcast_meta meta;
	struct dcast_handover_path path[DCAST_MAX_PATHS];
	/* __le64 frames[nr_frames] follow: page frame numbers of the streams' pages */
};

DCAST_ASSERT(sizeof(DCAST_HANDOVER_MAGIC) == 16);
DCAST_ASSERT(sizeof(struct dcast_handover_path) == 280);
DCAST_ASSERT(sizeof(struct dcast_handover) == 3264);

#endif
