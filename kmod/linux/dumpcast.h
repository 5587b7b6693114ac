/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's side of the sender: what the files of this folder share.
 *
 *   configfs.c, configfs_path.c, status.c, held.c   the interface to user space
 *   arm.c                                   everything that a dump needs, prepared
 *   memmap.c filter.c hot*.c vmemmap.c pages.c   which memory there is, which leaves, reading it
 *   notes.c streams.c                       class 0: registers, log, memory map
 *   path.c cards.c carrier.c iommu.c frame.c tx.c rx.c neighbour.c   packets with nobody's help
 *   probe.c watchdog.c                      what stopped processors hold; what would reset us
 *   sock.c heartbeat.c live.c               while the host lives: ordinary sockets
 *   handover.c                              what a second sender finds in memory
 *   helpers.c                               the other processors, which encode
 *   secrets.c cipher.c                      keys, and what is encrypted under them
 *   rim.c panic.c                           the engine's world; the panic hook
 *
 * Two contexts. "Process": may sleep, serialised by dcast_config_lock or host->lock.
 * "Panic": one processor, interrupts off, the others stopped wherever they were; must not
 * allocate, sleep, or wait for any lock without a bound. Functions say which is theirs. What
 * helpers run is called "helper": panic's rules, on several processors at once.
 */
#ifndef DUMPCAST_KMOD_LINUX_DUMPCAST_H
#define DUMPCAST_KMOD_LINUX_DUMPCAST_H

#define pr_fmt(fmt) "dumpcast: " fmt

#include <linux/etherdevice.h>
#include <linux/in6.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/netdevice.h>
#include <linux/ptrace.h>
#include <linux/skbuff.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/zstd.h>

#include "kmod/core/dcast_sender.h"

#define DCAST_MAX_TARGETS   16	/* next hops of one path */
#define DCAST_MAX_CARDS	    8	/* that one path can leave by */
#define DCAST_MAX_RING	    256 /* packets of one path */
#define DCAST_MAX_IRQS	    16	/* interrupts of one card that are looked at */
#define DCAST_MAX_WATCHDOGS 4
#define DCAST_MAX_ENTERED   32 /* modules that processors were stopped in */
#define DCAST_NAME_BYTES    32
#define DCAST_ERROR_BYTES   96
#define DCAST_STACK_BYTES   (32 * 1024)
#define DCAST_STACK_FILL    0x5a
#define DCAST_LOG_BYTES	    (256 * 1024)
#define DCAST_RX_BYTES	    9216
#define DCAST_MAX_KEY_BOXES 16
/* The cipher's key, the nonces' and the crash signatures'. */
#define DCAST_CIPHER_KEYS_BYTES (DCAST_CIPHER_KEY_BYTES + 16 + 16)

struct device;
struct elf_prstatus;
struct virtio_device;
struct dcast_handover;
struct dcast_helper;
struct dcast_hot;
struct dcast_vmemmap;

struct dcast_addr {
	int family; /* 0: none, AF_INET or AF_INET6 */
	union {
		__be32 v4;
		struct in6_addr v6;
	};
};

/* ---- what user space asked for ---- */

struct dcast_path_settings {
	char name[DCAST_NAME_BYTES];
	char device[IFNAMSIZ];			      /* a card, or what is stacked on cards */
	struct dcast_addr source;		      /* none: the device's own */
	struct dcast_addr targets[DCAST_MAX_TARGETS]; /* one group, or unicast relays */
	u8 nr_targets;
	u8 ttl;
	bool has_next_hop_mac;
	u8 next_hop_mac[ETH_ALEN]; /* instead of asking ARP or ND */
	u16 source_port;
	u16 port;
};

struct dcast_settings {
	struct dcast_config engine; /* hostname, release and ids included */
	bool has_host_id;
	u32 nr_key_boxes; /* who may read the dump */
	struct dcast_key_box key_boxes[DCAST_MAX_KEY_BOXES];
	u32 ring_kib;		    /* most memory of one path's packet ring */
	u32 exclude_unused_vmemmap; /* 0 or 1 */
};

/* ---- a path ---- */

struct dcast_target {
	struct dcast_addr addr;
	u8 mac[ETH_ALEN];
	bool resolved;
};

/* A network card below the device that a path names, and how its frames look there. */
struct dcast_card {
	struct net_device *dev;
	u8 mac[ETH_ALEN]; /* our frames' source */
	bool tagged;
	u16 vlan;
	unsigned int irqs[DCAST_MAX_IRQS]; /* that its poll controller may wait for */
	unsigned int nr_irqs;
	void __iomem *registers;    /* one of them tells of the link; or */
	bool has_icr;		    /* its poll controller reads why it interrupts; or */
	struct virtio_device *vdev; /* its configuration tells of the link */
	bool vdev_translated;	    /* virtio: its DMA goes through the IOMMU */
	dma_addr_t *dma;	    /* of the ring's packets; NULL: not behind an IOMMU */

	/* Panic only. */
	u64 ask_ns;	   /* when it is asked for its link again, and */
	bool link;	   /* what it said */
	u64 lock_since_ns; /* since when a queue's lock is held; 0: it is not */
	bool barred;	   /* a stopped processor may hold a lock of the driver's own */
};

/* The cards that a path can leave by, best first. Holds a reference on each. */
struct dcast_cards {
	unsigned int nr;
	struct dcast_card card[DCAST_MAX_CARDS];
};

struct dcast_path {
	struct dcast_path_settings set;
	unsigned int index;
	bool multicast;
	bool v6;

	/* Changed by the netdevice notifier and the heartbeat, read at panic. */
	struct net_device *upper;  /* set.device: sockets are bound to it */
	struct dcast_cards *cards; /* one of both, whole; NULL: no device */
	struct dcast_cards both[2];
	struct dcast_addr source;
	struct dcast_target targets[DCAST_MAX_TARGETS];
	struct dcast_target peer;      /* who answered last: a bridge knows the way there */
	char error[DCAST_ERROR_BYTES]; /* why it is not ready; empty when it is */

	/*
	 * Packets, each held by a reference of ours. [send, tail) are built and wait for the
	 * driver; one that the driver has let go of has a reference count of 1.
	 */
	struct sk_buff **ring;
	u32 ring_size;
	u32 send, tail;
	u32 packet_bytes; /* from skb->head */
	u32 payload_at;	  /* offset of the UDP payload from skb->head */
	u32 payload_bytes;

	/* Panic only. */
	unsigned int at; /* the card in use */
	unsigned int queue;
	u32 ring_from, ring_len; /* the part of the ring in use */
	u64 frozen_since_ns;
	u64 progress_ns;   /* when the driver last took a packet */
	bool refused;	   /* it did not take all that it was offered last */
	u64 switched_ns;   /* when the card in use was chosen */
	const char *state; /* why it takes nothing, as it was said; NULL: it does */
	unsigned int changes;
	u64 poll_ns;
	u64 tx_frames, tx_busy, locks_broken, switches;
	u64 rx_frames, rx_ours, rx_skipped;

	/* Heartbeat only. */
	struct socket *sock;
	void *sock_buf;
	void (*saved_data_ready)(struct sock *sk);
	u64 sock_sent, sock_errors;
};

/* ---- an armed host ---- */

struct dcast_map {
	u32 nr;
	u64 bytes;
	u64 text_start, text_end;     /* kernel image, physical */
	u64 code[2], data[2], bss[2]; /* parts of it: start and end */
	struct dcast_range ranges[];
};

struct dcast_note_source {
	phys_addr_t paddr; /* of this processor's crash_notes; 0: not known */
};

/* Buffers of one run of the engine: one for the panic, one for the heartbeat, one for tests. */
struct dcast_run {
	struct dcast_host *host;
	struct dcast_sender sender;
	struct dcast_config config;
	struct dcast_rim rim;
	void *scratch;
	void *workspaces; /* of the codecs, one for each encoder */
	size_t workspace_bytes;
	zstd_parameters zstd;
	const struct dcast_map *map;
	struct dcast_meta meta;
	const char *log;
	u32 log_len;
	void *notes;
	u32 notes_len;
	char *vmcoreinfo;
	u32 vmcoreinfo_len;
	const struct dcast_hot *hot; /* pages of class 1 whatever they are; may be NULL */
	const struct dcast_vmemmap *struct_pages; /* leaves out unused parts of it; may be NULL */
	u64 window_first, window_end;		  /* only these windows; whole memory: 0, ~0 */
};

/* How the last dump of the living ended. */
struct dcast_live_result {
	bool ran;
	int error;
	unsigned int relays; /* that committed it */
	u64 packets;
	u64 duration_ns;
};

struct dcast_live_wish {
	bool test; /* class 0 and a few windows, to prove the road */
	u8 dump_level;
	u32 rate_kib_s; /* on one path; 0: as the paths and relays take it */
};

/* A module that somebody was in who may hold a lock; sends: in a function that transmits. */
struct dcast_entered {
	char module[DCAST_NAME_BYTES];
	bool sends;
};

struct dcast_host {
	struct dcast_settings set;
	struct dcast_path *paths[DCAST_MAX_PATHS];
	unsigned int nr_paths;
	u64 held_bytes;			 /* memory taken for a dump, all of it */
	struct dcast_secrets *secrets;	 /* a page of its own, which never leaves */
	struct dcast_map *map;		 /* published whole; see dcast_map_refresh() */
	struct dcast_handover *handover; /* for a second sender; see handover.c */
	u8 dump_ids[2][DCAST_ID_BYTES];
	unsigned int dump_slot;		      /* which of dump_ids is valid */
	unsigned long panic_start, panic_end; /* text of panic() */

	/* Panic. */
	struct dcast_run *panic;
	struct dcast_helper *helpers;
	unsigned int nr_helpers;
	void *stack;
	char *log;
	struct dcast_hot *hot;
	struct dcast_vmemmap *struct_pages; /* NULL: not asked for */
	void *notes;
	u32 notes_cap;
	struct pt_regs entry_regs; /* the hook's */
	struct pt_regs regs;	   /* panic()'s, of which only ip and sp are true */
	char reason[256];
	u64 started_ns, talked_ns, probed_ns, unanswered_ns;
	enum dcast_verdict told_verdict; /* on the console; FULL needs no words at first */
	bool may_receive, may_wake, zones_usable;
	bool may_reenter;   /* poll functions that a processor was stopped in; see rx.c */
	bool receive_last;  /* an allocator is what faulted */
	char allocator[48]; /* the function in which its lock may be held */
	unsigned int stacks_unwound, stacks_searched;
	unsigned int irqs_on;	/* how often a driver has turned interrupts on */
	unsigned long priority; /* of the processor, before the dump */
	bool priority_raised;
	u64 polled_ns; /* first */
	struct dcast_entered entered[DCAST_MAX_ENTERED];
	unsigned int nr_entered;
	bool entered_any;	  /* more than that, or nobody knows */
	unsigned int entry_count; /* preemption count when the hook was entered */
	struct device *watchdogs[DCAST_MAX_WATCHDOGS]; /* changed by the heartbeat */
	u64 fed_ns[DCAST_MAX_WATCHDOGS];
	u8 rx_head[128];
	u8 rx_payload[DCAST_RX_BYTES] __aligned(8);

	/* Heartbeat: a kthread, everything below under lock. */
	struct mutex lock;
	struct dcast_run *armed;
	struct task_struct *thread;
	wait_queue_head_t wake;
	bool wanted;  /* a packet came in, or somebody asks for a test */
	bool plugged; /* memory: the map is to be taken again */
	bool changed; /* network devices: the paths are to be looked at again */
	u8 *sock_rx;
	struct dcast_run *live; /* a live or test dump that is under way */
	bool live_is_test;
	u64 live_began_ns;
	struct dcast_live_result test_result, live_result; /* the last of each */
};

extern struct mutex dcast_config_lock;
extern struct dcast_note_source *dcast_note_sources; /* nr_cpu_ids of them */
/* Set while armed. Written by dcast_publish(), under dcast_config_lock and RTNL. */
extern struct dcast_host *dcast_armed;

/* clock.c: panic; the living have ktime_get_boottime_ns() */
u64 dcast_now_ns(void);
/* any context */
u64 dcast_unix_ns(void);
u64 dcast_uptime_ns(void);

/* configfs.c, configfs_path.c, status.c */
int dcast_configfs_init(void);
void dcast_configfs_exit(void);
struct config_group *dcast_paths_group_init(void);
/* Copies the settings of all paths, in the order of their making. Count, or -E. Process. */
int dcast_paths_collect(struct dcast_path_settings *out, unsigned int max);
int dcast_parse_addr(const char *text, struct dcast_addr *addr);
void dcast_addr_text(const struct dcast_addr *addr, char *out, size_t cap);

/* status.c, held.c: text of any length; at is NULL while it is only measured */
struct dcast_out_text {
	char *at;
	size_t cap, len;
};

__printf(2, 3) void dcast_print(struct dcast_out_text *out, const char *fmt, ...);
void dcast_print_held(struct dcast_out_text *out, const char *what, const void *p, size_t bytes);
ssize_t dcast_text_read(void (*print)(struct dcast_out_text *out), char *buf, size_t cap);
void dcast_status_print(struct dcast_out_text *out);
void dcast_held_print(struct dcast_out_text *out);

/* secrets.c: process, under dcast_config_lock */
int dcast_secrets_init(void);
void dcast_secrets_exit(void);
void dcast_secrets_set_host_key(const u8 host_key[DCAST_HOST_KEY_BYTES]);
void dcast_secrets_set_cipher_keys(const u8 keys[DCAST_CIPHER_KEYS_BYTES]);
void dcast_secrets_forget(void);
int dcast_secrets_take(struct dcast_host *host);
void dcast_secrets_free(struct dcast_host *host);
/* Any context. */
bool dcast_secrets_in(const struct dcast_host *host, u64 pfn);

/* cipher.c: any context, NMI as well */
void dcast_xchacha20poly1305_encrypt(const u8 key[DCAST_CIPHER_KEY_BYTES], void *data, u32 len,
				     const void *ad, u32 ad_len, const u8 nonce[DCAST_NONCE_BYTES]);

/* arm.c: process, under dcast_config_lock */
int dcast_arm(const struct dcast_settings *set);
void dcast_disarm(void);
struct dcast_run *dcast_run_alloc(struct dcast_host *host, bool dumps, unsigned int helpers);
void dcast_run_free(struct dcast_host *host, struct dcast_run *run);
void *dcast_hold(struct dcast_host *host, size_t bytes);
void dcast_unhold(struct dcast_host *host, void *p, size_t bytes);
void dcast_new_dump_id(struct dcast_host *host);

/* memmap.c */
int dcast_map_refresh(struct dcast_host *host);
int dcast_map_init(void);
void dcast_map_exit(void);
bool dcast_map_has(const struct dcast_map *map, u64 start, u64 end);

/* filter.c, pages.c: any context, never fault */
void dcast_window_classes(const struct dcast_map *map, u8 dump_level, u64 window,
			  u8 cls[DCAST_MAX_WINDOW_PAGES]);
u64 dcast_window_skip(u8 dump_level, u64 window);
bool dcast_page_unaccepted(unsigned long pfn);
int dcast_page_read(u64 pfn, void *dst);
int dcast_phys_read(phys_addr_t paddr, void *dst, size_t len);

/* notes.c */
u32 dcast_notes_bytes(void);
u32 dcast_notes_build(struct dcast_host *host, const struct pt_regs *regs, const char *vmcoreinfo,
		      u32 vmcoreinfo_len, void *out, u32 cap);
bool dcast_note_saved(unsigned int cpu, struct elf_prstatus *status);
void dcast_note_save(unsigned int cpu, const struct pt_regs *regs);
void dcast_find_panic_text(struct dcast_host *host);
void dcast_regs_to_panic(const struct dcast_host *host, struct pt_regs *regs);

/* streams.c */
#define DCAST_VMCOREINFO_BYTES (PAGE_SIZE + 64)
u32 dcast_vmcoreinfo_text(char *out, u32 cap, u64 crash_unix_ns);
u32 dcast_log_capture(char *out, u32 cap);
void dcast_meta_fill(struct dcast_run *run, u64 flags, const char *reason);
int dcast_stream_read(struct dcast_run *run, unsigned int stream, u64 offset, void *dst, u32 len);

/* path.c: process, under RTNL and host->lock */
struct dcast_path *dcast_path_alloc(struct dcast_host *host, const struct dcast_path_settings *set,
				    unsigned int index);
int dcast_path_ring_alloc(struct dcast_host *host, struct dcast_path *path);
void dcast_path_free(struct dcast_host *host, struct dcast_path *path);
void dcast_path_refresh(struct dcast_path *path);
unsigned int dcast_path_mtu_symbol(const struct dcast_path *path);
/* The MAC of who is next on the way to the path's destination; false: not known. */
bool dcast_path_next_mac(const struct dcast_path *path, u8 mac[ETH_ALEN]);

/* cards.c: process, under RTNL and host->lock */
int dcast_cards_find(struct dcast_path *path);
void dcast_cards_drop(struct dcast_path *path);
void dcast_publish(struct dcast_host *host);
int dcast_netdev_init(void);
void dcast_netdev_exit(void);

/* carrier.c: process; dcast_carrier_ok(): panic */
void dcast_carrier_open(struct dcast_card *card, const struct dcast_cards *old);
void dcast_carrier_close(struct dcast_card *card, const struct dcast_cards *cards);
bool dcast_carrier_ok(struct dcast_card *card);
/* Keeps the poll controller from setting a timer because the link has changed. Panic. */
void dcast_carrier_unsay_change(const struct dcast_card *card);

/* iommu.c: process; dcast_iommu_take(), dcast_iommu_sending(): panic */
void dcast_iommu_map(struct dcast_path *path, struct dcast_card *card,
		     const struct dcast_cards *old);
void dcast_iommu_unmap(struct dcast_path *path, struct dcast_card *card,
		       const struct dcast_cards *cards);
void dcast_iommu_take(const struct dcast_card *card);
void dcast_iommu_sending(const struct dcast_path *path, const struct dcast_card *card, u32 index);

/* The card that a path leaves by, NULL when it has none. Context: any. */
static inline struct dcast_card *dcast_path_card(const struct dcast_path *path)
{
	struct dcast_cards *cards = READ_ONCE(path->cards);

	return cards ? &cards->card[path->at] : NULL;
}

/* frame.c: any context */
unsigned int dcast_frame_header_len(const struct dcast_path *path);
/* Writes headers so that they end at payload; returns where the frame starts. */
u8 *dcast_frame_build(const struct dcast_path *path, const struct dcast_card *card,
		      const struct dcast_target *target, unsigned int lane, u8 *payload, u32 len);
u8 *dcast_frame_ether(const struct dcast_card *card, const u8 *dst, __be16 proto, u8 *l3);
u16 dcast_frame_csum6(const struct in6_addr *src, const struct in6_addr *dst, u8 proto,
		      const void *data, u32 len);

/* tx.c: panic */
void *dcast_tx_get(struct dcast_path *path);
void dcast_tx_put(struct dcast_path *path, u8 *payload, u32 len, unsigned int lane);
struct sk_buff *dcast_tx_take(struct dcast_path *path);
void dcast_tx_queue(struct dcast_path *path, struct sk_buff *skb, u8 *start, u8 *end);
void dcast_tx_flush(struct dcast_path *path);
void dcast_tx_prepare(struct dcast_host *host, struct dcast_path *path);
bool dcast_tx_idle(const struct dcast_path *path);
bool dcast_path_usable(const struct dcast_path *path);
bool dcast_path_barred(const struct dcast_path *path);
/* False when a queue's lock is held: polling the driver could wait for it. */
bool dcast_tx_locks_free(struct dcast_path *path, struct dcast_card *card);
void dcast_tx_watch(struct dcast_path *path, u64 now);
bool dcast_tx_spare_free(const struct dcast_path *path);
/* Whether the driver should let go of packets soon. */
bool dcast_tx_short(const struct dcast_path *path);

/* rx.c, neighbour.c, probe.c: panic */
/* Whether somebody is in a poll function of its cards, who will not go on. Panic. */
bool dcast_rx_broken_off(const struct dcast_path *path);
bool dcast_rx_silenced(const struct dcast_host *host, const struct dcast_path *path);
void dcast_rx_prepare(struct dcast_host *host, struct dcast_path *path);
void dcast_poll(struct dcast_host *host, struct dcast_path *path);
bool dcast_neighbour_answer(struct dcast_path *path, const u8 *l3, unsigned int len, __be16 proto,
			    const u8 *sender_mac);
void dcast_probe_begin(struct dcast_host *host, unsigned int count);
bool dcast_probe_rx_safe(struct dcast_host *host);
bool dcast_probe_entered(const struct dcast_host *host, const struct device *parent, bool sends);
void dcast_cpu_state(unsigned int cpu, struct task_struct **task, unsigned int *count);

/* watchdog.c */
void dcast_watchdogs_find(struct dcast_host *host);
void dcast_watchdogs_let_go(struct dcast_host *host);
unsigned int dcast_watchdogs_feed(struct dcast_host *host, u64 now);

/* rim.c */
void dcast_rim_init(struct dcast_run *run, bool sockets);
size_t dcast_workspace_bytes(const struct dcast_config *config);

/* helpers.c: process; dcast_helpers_parked() and below: panic */
int dcast_helpers_init(void);
void dcast_helpers_exit(void);
int dcast_helpers_alloc(struct dcast_host *host);
void dcast_helpers_free(struct dcast_host *host);
void dcast_helpers_held(struct dcast_out_text *out, const struct dcast_host *host);
unsigned int dcast_helpers_parked(const struct dcast_host *host);
void dcast_helpers_begin(void);
void dcast_helpers_wake(struct dcast_host *host, u64 now);
void dcast_helpers_end(void);
unsigned int dcast_helpers_stack_used(const struct dcast_host *host);

/* sock.c: process, under host->lock */
int dcast_sock_open(struct dcast_host *host, struct dcast_path *path);
void dcast_sock_close(struct dcast_path *path);
void dcast_sock_send(struct dcast_path *path, void *buf, u32 len, unsigned int lane);
int dcast_sock_receive(struct dcast_path *path, void *buf, u32 cap);

/* heartbeat.c, live.c: process */
int dcast_heartbeat_start(struct dcast_host *host);
void dcast_heartbeat_stop(struct dcast_host *host);
bool dcast_heartbeat_receive(struct dcast_host *host);
unsigned int dcast_live_committed(const struct dcast_run *run);
int dcast_live_dump(const struct dcast_live_wish *wish);
void dcast_live_end(void);

/* panic.c */
int dcast_panic_init(void);
void dcast_panic_exit(void);

#endif
