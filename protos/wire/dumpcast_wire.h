/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * dumpcast packet format, version 1.
 *
 * One header for the kernel module, the user-space sender and the relays;
 * WIRE.md beside it explains every field and is enough to write another sender.
 * All integers are little-endian. Every structure is 8-byte aligned in itself
 * and has no padding. Sizes are asserted at the end.
 */
#ifndef DUMPCAST_PROTOS_WIRE_DUMPCAST_WIRE_H
#define DUMPCAST_PROTOS_WIRE_DUMPCAST_WIRE_H

#include <linux/types.h>

#define DCAST_MAGIC	    0x54534344u /* "DCST" as bytes on the wire */
#define DCAST_VERSION_MAJOR 1		/* another major is refused */
#define DCAST_VERSION_MINOR 0		/* a newer minor is accepted */

#define DCAST_PORT	 26210	     /* UDP, both ends, every lane */
#define DCAST_GROUP_V4	 0xefc04443u /* 239.192.68.67, lane 0; lane i adds i */
#define DCAST_ID_BYTES	 16	     /* host_id, dump_id, boot_id */
#define DCAST_MAX_LANES	 64
#define DCAST_MAX_PATHS	 8
#define DCAST_MAX_RELAYS 64 /* sender's relay table */

/* Windows, blocks and symbols. */
#define DCAST_WINDOW_SHIFT	16
#define DCAST_WINDOW_BYTES	(1u << DCAST_WINDOW_SHIFT)
#define DCAST_MAX_WINDOW_PAGES	16 /* with 4 KiB pages, the smallest */
#define DCAST_CLASSES		4
#define DCAST_MAX_SYMBOLS	64   /* k + m */
#define DCAST_MIN_SYMBOL_BYTES	1088 /* so that k <= 61 for a full block */
#define DCAST_MAX_SYMBOL_BYTES	8840 /* 9000 MTU, IPv6, header; multiple of 8 */
#define DCAST_MAX_ENCODED_BYTES (DCAST_WINDOW_BYTES + 128u)

/* Packet types. Bit 6 is set in what relays send. */
enum dcast_type {
	DCAST_ANNOUNCE = 1, /* heartbeat while armed, progress while dumping */
	DCAST_SYMBOL = 2,
	DCAST_EMPTY = 3, /* the block has no pages any more: counts as held */
	DCAST_END = 4,
	DCAST_HELLO = 65, /* answer to ANNOUNCE */
	DCAST_NAK = 66,
	DCAST_PACE = 67,
	DCAST_ADMIT = 68,
	DCAST_COMMIT = 69,
};

/* dcast_hdr.flags */
#define DCAST_F_LIVE   0x01 /* the host did not crash: a live dump */
#define DCAST_F_TEST   0x02 /* a live dump made to prove the road */
#define DCAST_F_REPEAT 0x04 /* sent again: NAK answer or a further pass */

/*
 * Starts every packet. The MAC covers all bytes of the UDP payload after itself:
 * SipHash-2-4 under the host's MAC key (auth.h).
 */
struct dcast_hdr {
	__le64 mac;
	__le32 magic;
	__u8 major;
	__u8 minor;
	__u8 type;
	__u8 flags;
	__u8 host_id[DCAST_ID_BYTES];
	__u8 dump_id[DCAST_ID_BYTES];
	__le64 origin; /* random id of the sending process: sender or relay */
	__le64 seq;    /* rises by 1 per packet of one (origin, path, lane); relays: per origin */
	__le64 number; /* SYMBOL, EMPTY: block number, see dcast_class0_number() */
	__le64 digest; /* SYMBOL: of the encoding, never 0; else 0 */
	__le32 encoded_len; /* SYMBOL: bytes of the encoding */
	__le16 payload_len; /* bytes after this header */
	__le16 key_epoch;
	__le16 symbol_size; /* SYMBOL: multiple of 8, fixed for a dump */
	__u8 path;
	__u8 lane;
	__u8 block_class; /* SYMBOL, EMPTY: 0..3 */
	__u8 index;	  /* SYMBOL: 0..k-1 data, k..63 parity */
	__u8 k;		  /* SYMBOL: ceil(encoded_len / symbol_size), 1..61 */
	__u8 m;		  /* SYMBOL: parity symbols of this pass; a hint only */
};

/* ---- ANNOUNCE ---- */
enum dcast_state {
	DCAST_ST_ARMED = 1,
	DCAST_ST_GOODBYE = 2, /* disarmed on purpose */
	DCAST_ST_DUMPING = 3,
	DCAST_ST_LINGER = 4, /* all sent, answering NAKs */
	DCAST_ST_DONE = 5,   /* the sender has ended, whatever was committed */
};

struct dcast_announce {
	__u8 boot_id[DCAST_ID_BYTES];
	__le64 unix_ns;	     /* host's clock when sent; at panic the time of the panic */
	__le64 memory_bytes; /* RAM in the memory map */
	__le64 blocks_done;  /* DUMPING: blocks sent in this pass */
	__le64 blocks_total; /* DUMPING: blocks of this pass, 0 when not known yet */
	__le32 interval_ms;  /* ARMED: between heartbeats */
	__u8 state;	     /* enum dcast_state */
	__u8 paths;
	__u8 lanes;
	__u8 dump_level;
	__u8 reserved[8];
	char hostname[64]; /* NUL-padded */
	char release[64];  /* uname -r, NUL-padded */
};

/* ---- END: one per lane; what the lane holds by the presence that was sent ---- */
struct dcast_end_class {
	__le64 blocks;
	__le64 id_sum; /* sum mod 2^64 of dcast_id_mix() over the blocks */
};

#define DCAST_END_LOG_ONLY 0x01 /* by the relays' verdict only class 0 was sent */

struct dcast_end {
	struct dcast_end_class cls[DCAST_CLASSES];
	__le64 unreadable_pages;
	__le32 pass; /* 1 after the first whole pass */
	__u8 lanes;
	__u8 flags; /* DCAST_END_* */
	__u8 reserved[2];
};

/* ---- relays to sender ---- */
struct dcast_hello {
	__le64 announce_seq; /* hdr.seq of the ANNOUNCE that this answers */
	__le64 lane_mask;    /* lanes that this relay receives */
	__le32 pace_kib_s; /* what it can take now over all paths, KiB/s of UDP payload; 0: no limit */
	__le32 reserved;
	char name[64]; /* NUL-padded */
};

#define DCAST_NAK_HAS_DIGEST 0x01

struct dcast_nak_entry {
	__le64 number; /* first block */
	__le64 digest; /* with HAS_DIGEST: the encoding that symbols are held of */
	__le64 mask;   /* with HAS_DIGEST: bit i set: symbol i is wanted */
	__le32 count;  /* blocks number..number+count-1; 1 with HAS_DIGEST */
	__u8 block_class;
	__u8 flags;
	__u8 reserved[2];
};

struct dcast_nak {
	__le32 entries;	    /* dcast_nak_entry follow */
	__le32 entry_bytes; /* 32 in version 1.0; a newer minor may be larger */
};

struct dcast_pace {
	__le32 kib_s; /* as in HELLO */
	__le32 lacking; /* 1 + blocks of the dump that lacked symbols when they were due; 0: not told */
};

enum dcast_verdict {
	DCAST_ADMIT_FULL = 0,
	DCAST_ADMIT_WAIT = 1,
	DCAST_ADMIT_LOG_ONLY = 2,
};

struct dcast_admit {
	__le32 verdict;
	__le32 wait_ms; /* WAIT: at most this long */
};

struct dcast_commit {
	__le64 lane_mask; /* lanes complete and durable at this relay */
	__le64 blocks;	  /* blocks durable, all lanes */
};

/* ---- block encoding: starts every encoded block ---- */
enum dcast_codec { DCAST_CODEC_NONE = 0, DCAST_CODEC_LZ4 = 1, DCAST_CODEC_ZSTD = 2 };
enum dcast_cipher { DCAST_CIPHER_NONE = 0, DCAST_CIPHER_XCHACHA20_POLY1305 = 1 };

/*
 * Followed by the raw bytes through the codec. Class 1..3: the pages of
 * (present & ~zero & ~unreadable) in ascending order. Class 0: bytes of the stream.
 * Bit i of a bitmap is page i of the window, page size 1 << page_shift.
 */
struct dcast_block_hdr {
	__le32 raw_len;	   /* bytes before the codec; 0: nothing follows */
	__u8 codec;	   /* enum dcast_codec */
	__u8 cipher;	   /* enum dcast_cipher; encrypt.h says what follows then */
	__u8 page_shift;   /* class 0: 0 */
	__u8 hdr_len;	   /* bytes before the payload; 16 in version 1.0 */
	__le16 present;	   /* pages that this block speaks for */
	__le16 zero;	   /* subset of present: all bytes zero, not carried */
	__le16 unreadable; /* subset of present: could not be read, not carried */
	__le16 reserved;
};

/* ---- class 0 streams: block number is stream << 48 | chunk; a chunk is 64 KiB of it ---- */
enum dcast_stream {
	DCAST_STREAM_META = 0,	     /* struct dcast_meta */
	DCAST_STREAM_VMCOREINFO = 1, /* text of the vmcoreinfo note */
	DCAST_STREAM_NOTES = 2,	     /* ELF PT_NOTE content: NT_PRSTATUS per CPU, VMCOREINFO */
	DCAST_STREAM_MEMMAP = 3,     /* struct dcast_range[] of RAM, ascending */
	DCAST_STREAM_LOG = 4,	     /* kernel log as text, newest last */
	DCAST_STREAM_PRESENCE = 5,   /* one chunk per slice: struct dcast_presence */
	DCAST_STREAM_WHOLE_META = 6, /* encrypted dumps: META with all its fields */
	DCAST_STREAM_KEYS = 7,	     /* encrypted dumps: struct dcast_key_box[] */
};
#define DCAST_STREAMS	   8 /* META has the lengths of streams 0..7 */
#define DCAST_STREAM_SHIFT 48

struct dcast_range {
	__le64 start; /* physical, bytes */
	__le64 end;   /* exclusive */
};

#define DCAST_SLICE_WINDOWS 32768u /* 2 GiB */

/* Bit w of bits[c-1]: window slice * DCAST_SLICE_WINDOWS + w has a block of class c. */
struct dcast_presence {
	__u8 bits[DCAST_CLASSES - 1][DCAST_SLICE_WINDOWS / 8];
};

/* dcast_meta.flags */
#define DCAST_META_LIVE	     0x1
#define DCAST_META_TEST	     0x2
#define DCAST_META_ENCRYPTED 0x4 /* this META tells the least; stream 6 has it all */

#define DCAST_SIGNATURE_BYTES 16
/* Readers take a META of so many bytes, as the first senders had it; what it lacks is 0. */
#define DCAST_META_LEAST_BYTES 752

struct dcast_meta {
	__le32 size;	    /* bytes of this structure; a newer minor may append */
	__le16 elf_machine; /* EM_X86_64 is 62 */
	__u8 page_shift;
	__u8 dump_level; /* makedumpfile -d bits */
	__le64 flags;
	__le64 crash_unix_ns;
	__le64 uptime_ns;
	__u8 boot_id[DCAST_ID_BYTES];
	__le64 stream_len[DCAST_STREAMS]; /* bytes; PRESENCE: slices * sizeof(struct dcast_presence) */
	__le64 window_end;		  /* one past the highest window with RAM */
	__le64 page_offset;		  /* virtual address of physical 0 in the direct map */
	__le64 text_vaddr;		  /* kernel image: virtual start, physical start, bytes */
	__le64 text_paddr;
	__le64 text_bytes;
	__le64 vmemmap_vaddr; /* of struct page 0, 0 when unknown (the kernel has a macro vmemmap) */
	__le32 cpus;
	__le32 crash_cpu;
	__le32 lanes;
	__le32 symbol_size;
	char hostname[64];		       /* NUL-padded, as the rest */
	char release[64];		       /* uname -r */
	char version[128];		       /* uname -v */
	char machine[64];		       /* uname -m */
	char reason[256];		       /* panic message */
	__u8 signature[DCAST_SIGNATURE_BYTES]; /* of the crash; 0: none */
};

/* The dump's key for one who may read it, see WIRE.md. */
struct dcast_key_box {
	__u8 recipient[16]; /* which: BLAKE2b-128 of the public key */
	__u8 box[80];	    /* libsodium's crypto_box_seal() of the 32 bytes */
};

#ifdef __cplusplus
#define DCAST_ASSERT(e) static_assert(e, #e)
#else
#define DCAST_ASSERT(e) _Static_assert(e, #e)
#endif
DCAST_ASSERT(sizeof(struct dcast_hdr) == 96);
DCAST_ASSERT(sizeof(struct dcast_announce) == 192);
DCAST_ASSERT(sizeof(struct dcast_end_class) == 16);
DCAST_ASSERT(sizeof(struct dcast_end) == 80);
DCAST_ASSERT(sizeof(struct dcast_hello) == 88);
DCAST_ASSERT(sizeof(struct dcast_nak_entry) == 32);
DCAST_ASSERT(sizeof(struct dcast_nak) == 8);
DCAST_ASSERT(sizeof(struct dcast_pace) == 8);
DCAST_ASSERT(sizeof(struct dcast_admit) == 8);
DCAST_ASSERT(sizeof(struct dcast_commit) == 16);
DCAST_ASSERT(sizeof(struct dcast_block_hdr) == 16);
DCAST_ASSERT(sizeof(struct dcast_range) == 16);
DCAST_ASSERT(sizeof(struct dcast_presence) == 12288);
DCAST_ASSERT(sizeof(struct dcast_meta) == 768);
DCAST_ASSERT(sizeof(((struct dcast_meta *)0)->signature) + DCAST_META_LEAST_BYTES ==
	     sizeof(struct dcast_meta));
DCAST_ASSERT(sizeof(struct dcast_key_box) == 96);

static inline __u64 dcast_class0_number(unsigned int stream, __u64 chunk)
{
	return ((__u64)stream << DCAST_STREAM_SHIFT) | chunk;
}

/* The lane that carries a block. */
static inline unsigned int dcast_block_lane(unsigned int block_class, __u64 number,
					    unsigned int lanes)
{
	return block_class == 0 ? 0 : (unsigned int)(number % lanes);
}

/* splitmix64 finaliser over the block's identity; summed in END. */
static inline __u64 dcast_id_mix(unsigned int block_class, __u64 number)
{
	__u64 z = number * 4 + block_class + 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* Payload bytes of symbol index of an encoding; parity of a short block is cut as well. */
static inline __u32 dcast_symbol_len(__u32 encoded_len, __u32 symbol_size, unsigned int k,
				     unsigned int index)
{
	if (index + 1 < k)
		return symbol_size;
	if (index + 1 == k)
		return encoded_len - (k - 1) * symbol_size;
	return encoded_len < symbol_size ? encoded_len : symbol_size;
}

#endif
