// SPDX-License-Identifier: GPL-2.0-only
/*
 * Headers of frames: Ethernet (IEEE 802.3, 802.1Q), IPv4 (RFC 791), IPv6 (RFC 8200), UDP
 * (RFC 768), checksums computed here: no card is asked to help.
 */
#include "dumpcast.h"

#include <linux/if_vlan.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <net/checksum.h>
#include <net/ip6_checksum.h>

/*
 * The most bytes of headers in front of a UDP payload on this path.
 * Context: any.
 */
unsigned int dcast_frame_header_len(const struct dcast_path *path)
{
	return ETH_HLEN + VLAN_HLEN + (path->v6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) +
	       sizeof(struct udphdr);
}

/*
 * Puts Ethernet, as it looks on this card, in front of l3. Returns the start of the frame.
 * Context: any.
 */
u8 *dcast_frame_ether(const struct dcast_card *card, const u8 *dst, __be16 proto, u8 *l3)
{
	struct ethhdr *eth;

	if (card->tagged) {
		struct vlan_hdr *vlan = (struct vlan_hdr *)(l3 - VLAN_HLEN);

		vlan->h_vlan_TCI = htons(card->vlan);
		vlan->h_vlan_encapsulated_proto = proto;
		proto = htons(ETH_P_8021Q);
		l3 -= VLAN_HLEN;
	}
	eth = (struct ethhdr *)(l3 - ETH_HLEN);
	memcpy(eth->h_dest, dst, ETH_ALEN);
	memcpy(eth->h_source, card->mac, ETH_ALEN);
	eth->h_proto = proto;
	return (u8 *)eth;
}

/*
 * Checksum of an upper layer's message over IPv6 (RFC 8200, 8.1), as it goes on the wire;
 * the message's own checksum field is 0.
 * Context: any.
 */
u16 dcast_frame_csum6(const struct in6_addr *src, const struct in6_addr *dst, u8 proto,
		      const void *data, u32 len)
{
	return (__force u16)csum_ipv6_magic(src, dst, len, proto, csum_partial(data, len, 0));
}

static __be16 dcast_frame_l3(const struct dcast_path *path, const struct dcast_addr *dst,
			     struct udphdr *udp, u32 udp_len, u8 **l3)
{
	__sum16 sum;

	udp->source = htons(path->set.source_port);
	udp->dest = htons(path->set.port);
	udp->len = htons(udp_len);
	udp->check = 0;
	if (path->v6) {
		struct ipv6hdr *ip = (struct ipv6hdr *)udp - 1;

		memset(ip, 0, sizeof(*ip));
		ip->version = 6;
		ip->payload_len = htons(udp_len);
		ip->nexthdr = IPPROTO_UDP;
		ip->hop_limit = path->set.ttl;
		ip->saddr = path->source.v6;
		ip->daddr = dst->v6;
		sum = csum_ipv6_magic(&ip->saddr, &ip->daddr, udp_len, IPPROTO_UDP,
				      csum_partial(udp, udp_len, 0));
		udp->check = sum ? sum : CSUM_MANGLED_0;
		*l3 = (u8 *)ip;
		return htons(ETH_P_IPV6);
	} else {
		struct iphdr *ip = (struct iphdr *)udp - 1;

		memset(ip, 0, sizeof(*ip));
		ip->version = 4;
		ip->ihl = sizeof(*ip) / 4;
		ip->tot_len = htons(sizeof(*ip) + udp_len);
		ip->frag_off = htons(IP_DF); /* so the identification may stay 0 (RFC 6864) */
		ip->ttl = path->set.ttl;
		ip->protocol = IPPROTO_UDP;
		ip->saddr = path->source.v4;
		ip->daddr = dst->v4;
		ip->check = ip_fast_csum(ip, ip->ihl);
		sum = csum_tcpudp_magic(ip->saddr, ip->daddr, udp_len, IPPROTO_UDP,
					csum_partial(udp, udp_len, 0));
		udp->check = sum ? sum : CSUM_MANGLED_0;
		*l3 = (u8 *)ip;
		return htons(ETH_P_IP);
	}
}

/* Lane i of a group is the group's address plus i (WIRE.md); relays have one address. */
static struct dcast_addr dcast_lane_addr(const struct dcast_path *path,
					 const struct dcast_target *target, unsigned int lane)
{
	struct dcast_addr addr = target->addr;

	if (!path->multicast)
		return addr;
	if (path->v6)
		addr.v6.s6_addr32[3] = htonl(ntohl(addr.v6.s6_addr32[3]) + lane);
	else
		addr.v4 = htonl(ntohl(addr.v4) + lane);
	return addr;
}

/*
 * Writes every header in front of payload[0..len), which is complete, for one next hop.
 * There must be dcast_frame_header_len() bytes of room. Returns the start of the frame.
 * Context: any.
 */
u8 *dcast_frame_build(const struct dcast_path *path, const struct dcast_card *card,
		      const struct dcast_target *target, unsigned int lane, u8 *payload, u32 len)
{
	const struct dcast_addr dst = dcast_lane_addr(path, target, lane);
	struct udphdr *udp = (struct udphdr *)payload - 1;
	u8 mac[ETH_ALEN];
	__be16 proto;
	u8 *l3;

	proto = dcast_frame_l3(path, &dst, udp, sizeof(*udp) + len, &l3);
	if (path->multicast && !path->set.has_next_hop_mac) {
		if (path->v6) { /* RFC 2464, 7 */
			mac[0] = 0x33;
			mac[1] = 0x33;
			memcpy(mac + 2, &dst.v6.s6_addr32[3], 4);
		} else { /* RFC 1112, 6.4 */
			u32 group = ntohl(dst.v4);

			mac[0] = 0x01;
			mac[1] = 0x00;
			mac[2] = 0x5e;
			mac[3] = group >> 16 & 0x7f;
			mac[4] = group >> 8;
			mac[5] = group;
		}
	} else {
		memcpy(mac, target->mac, ETH_ALEN);
	}
	return dcast_frame_ether(card, mac, proto, l3);
}
