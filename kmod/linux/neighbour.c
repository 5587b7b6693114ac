// SPDX-License-Identifier: GPL-2.0-only
/*
 * Answers ARP requests (RFC 826) and neighbour solicitations (RFC 4861) for our addresses.
 * A panicked host's own stack answers none, and without answers neighbours forget it within
 * a minute, and the way back closes.
 * Context of everything here: panic.
 */
#include "dumpcast.h"

#include <linux/if_arp.h>
#include <linux/ipv6.h>
#include <net/ipv6.h>

struct dcast_arp {
	__be16 hardware;
	__be16 protocol;
	u8 hardware_len;
	u8 protocol_len;
	__be16 op;
	u8 sender_mac[ETH_ALEN];
	__be32 sender_ip;
	u8 target_mac[ETH_ALEN];
	__be32 target_ip;
} __packed;

/* Neighbour solicitation or advertisement, with one link-layer address option. */
struct dcast_nd {
	u8 type;
	u8 code;
	__be16 csum;
	__be32 flags;
	struct in6_addr target;
	u8 option;
	u8 option_len; /* units of 8 bytes */
	u8 mac[ETH_ALEN];
} __packed;

#define DCAST_ND_SOLICITATION  135
#define DCAST_ND_ADVERTISEMENT 136
#define DCAST_ND_TARGET_MAC    2
#define DCAST_ND_SOLICITED     0x40000000
#define DCAST_ND_OVERRIDE      0x20000000

static bool dcast_arp_answer(struct dcast_path *path, const struct dcast_card *card, const u8 *l3,
			     unsigned int len)
{
	const struct dcast_arp *request = (const struct dcast_arp *)l3;
	struct dcast_arp *reply;
	struct sk_buff *skb;

	if (path->v6 || len < sizeof(*request) || request->hardware != htons(ARPHRD_ETHER) ||
	    request->protocol != htons(ETH_P_IP) || request->op != htons(ARPOP_REQUEST) ||
	    request->target_ip != path->source.v4)
		return false;
	skb = dcast_tx_take(path);
	if (!skb)
		return true; /* they ask again */
	reply = (struct dcast_arp *)(skb->head + path->payload_at);
	*reply = *request;
	reply->op = htons(ARPOP_REPLY);
	memcpy(reply->sender_mac, card->mac, ETH_ALEN);
	reply->sender_ip = path->source.v4;
	memcpy(reply->target_mac, request->sender_mac, ETH_ALEN);
	reply->target_ip = request->sender_ip;
	dcast_tx_queue(path, skb,
		       dcast_frame_ether(card, request->sender_mac, htons(ETH_P_ARP), (u8 *)reply),
		       (u8 *)(reply + 1));
	return true;
}

static bool dcast_nd_answer(struct dcast_path *path, const struct dcast_card *card, const u8 *l3,
			    unsigned int len, const u8 *sender_mac)
{
	const struct ipv6hdr *ip = (const struct ipv6hdr *)l3;
	const struct dcast_nd *question = (const struct dcast_nd *)(ip + 1);
	const u8 all_nodes_mac[ETH_ALEN] = { 0x33, 0x33, 0, 0, 0, 1 };
	bool probe; /* somebody asks whether our address is free */
	struct ipv6hdr *out;
	struct dcast_nd *answer;
	struct sk_buff *skb;

	if (!path->v6 || len < sizeof(*ip) + offsetof(struct dcast_nd, option) ||
	    ip->version != 6 || ip->nexthdr != IPPROTO_ICMPV6 || ip->hop_limit != 255 ||
	    question->type != DCAST_ND_SOLICITATION || question->code ||
	    !ipv6_addr_equal(&question->target, &path->source.v6))
		return false;
	skb = dcast_tx_take(path);
	if (!skb)
		return true;
	probe = ipv6_addr_any(&ip->saddr);
	out = (struct ipv6hdr *)(skb->head + path->payload_at);
	answer = (struct dcast_nd *)(out + 1);
	memset(out, 0, sizeof(*out) + sizeof(*answer));
	out->version = 6;
	out->payload_len = htons(sizeof(*answer));
	out->nexthdr = IPPROTO_ICMPV6;
	out->hop_limit = 255;
	out->saddr = path->source.v6;
	out->daddr = probe ? in6addr_linklocal_allnodes : ip->saddr;
	answer->type = DCAST_ND_ADVERTISEMENT;
	answer->flags = htonl(DCAST_ND_OVERRIDE | (probe ? 0 : DCAST_ND_SOLICITED));
	answer->target = path->source.v6;
	answer->option = DCAST_ND_TARGET_MAC;
	answer->option_len = 1;
	memcpy(answer->mac, card->mac, ETH_ALEN);
	answer->csum = (__force __be16)dcast_frame_csum6(&out->saddr, &out->daddr, IPPROTO_ICMPV6,
							 answer, sizeof(*answer));
	dcast_tx_queue(path, skb,
		       dcast_frame_ether(card, probe ? all_nodes_mac : sender_mac,
					 htons(ETH_P_IPV6), (u8 *)out),
		       (u8 *)(answer + 1));
	return true;
}

/*
 * Answers when l3[0..len) asks for the path's address. True when it did ask.
 * Context: panic.
 */
bool dcast_neighbour_answer(struct dcast_path *path, const u8 *l3, unsigned int len, __be16 proto,
			    const u8 *sender_mac)
{
	const struct dcast_card *card = dcast_path_card(path);

	if (!card)
		return false;
	if (proto == htons(ETH_P_ARP))
		return dcast_arp_answer(path, card, l3, len);
	if (proto == htons(ETH_P_IPV6))
		return dcast_nd_answer(path, card, l3, len, sender_mac);
	return false;
}
