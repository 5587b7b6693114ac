// SPDX-License-Identifier: GPL-2.0-only
/*
 * While the host lives, packets travel through ordinary UDP sockets of the kernel, one a
 * path, bound to its device: heartbeats, HELLOs and test dumps disturb nobody.
 * Context of everything here: process, under host->lock.
 */
#include "dumpcast.h"

#include <linux/in.h>
#include <linux/ipv6.h>
#include <linux/inet.h>
#include <linux/net.h>
#include <linux/slab.h>
#include <net/inet_sock.h>
#include <net/sock.h>

static void dcast_sock_data_ready(struct sock *sk)
{
	struct dcast_host *host;

	read_lock_bh(&sk->sk_callback_lock);
	host = sk->sk_user_data;
	if (host) {
		WRITE_ONCE(host->wanted, true);
		wake_up(&host->wake);
	}
	read_unlock_bh(&sk->sk_callback_lock);
}

static int dcast_sock_addr(const struct dcast_addr *addr, u16 port, unsigned int lane,
			   struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	if (addr->family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)out;

		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		in6->sin6_addr = addr->v6;
		in6->sin6_addr.s6_addr32[3] = htonl(ntohl(addr->v6.s6_addr32[3]) + lane);
		return sizeof(*in6);
	} else {
		struct sockaddr_in *in = (struct sockaddr_in *)out;

		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		in->sin_addr.s_addr = htonl(ntohl(addr->v4) + lane);
		return sizeof(*in);
	}
}

static void dcast_sock_options(struct dcast_path *path, struct sock *sk)
{
	lock_sock(sk);
	if (path->v6) {
		inet6_sk(sk)->hop_limit = path->set.ttl;
		inet6_sk(sk)->mcast_hops = path->set.ttl;
		inet6_sk(sk)->mcast_oif = path->upper->ifindex;
	} else {
		inet_sk(sk)->uc_ttl = path->set.ttl;
		inet_sk(sk)->mc_ttl = path->set.ttl;
		inet_sk(sk)->mc_index = path->upper->ifindex;
		inet_sk(sk)->mc_addr = path->source.v4;
		inet_sk(sk)->pmtudisc = IP_PMTUDISC_DO;
	}
	release_sock(sk);
}

/*
 * Opens the path's socket when it has a device and a source address and none is open. 0, or
 * a negative error that path->error tells.
 */
int dcast_sock_open(struct dcast_host *host, struct dcast_path *path)
{
	struct sockaddr_storage addr;
	int len;
	int err;

	if (path->sock)
		return 0;
	if (!path->upper || !path->source.family)
		return -ENODEV;
	err = sock_create_kern(&init_net, path->v6 ? AF_INET6 : AF_INET, SOCK_DGRAM, IPPROTO_UDP,
			       &path->sock);
	if (err)
		goto failed;
	err = sock_bindtoindex(path->sock->sk, path->upper->ifindex, true);
	if (err)
		goto release;
	dcast_sock_options(path, path->sock->sk);
	len = dcast_sock_addr(&path->source, path->set.source_port, 0, &addr);
	err = kernel_bind(path->sock, (struct sockaddr *)&addr, len);
	if (err)
		goto release;
	write_lock_bh(&path->sock->sk->sk_callback_lock);
	path->saved_data_ready = path->sock->sk->sk_data_ready;
	path->sock->sk->sk_user_data = host;
	path->sock->sk->sk_data_ready = dcast_sock_data_ready;
	write_unlock_bh(&path->sock->sk->sk_callback_lock);
	return 0;

release:
	sock_release(path->sock);
failed:
	path->sock = NULL;
	snprintf(path->error, sizeof(path->error), "UDP port %u of %s cannot be taken: error %d",
		 path->set.source_port, path->set.device, err);
	return err;
}

void dcast_sock_close(struct dcast_path *path)
{
	struct socket *sock = path->sock;

	if (!sock)
		return;
	write_lock_bh(&sock->sk->sk_callback_lock);
	sock->sk->sk_user_data = NULL;
	sock->sk->sk_data_ready = path->saved_data_ready;
	write_unlock_bh(&sock->sk->sk_callback_lock);
	path->sock = NULL;
	sock_release(sock);
}

/* Sends one payload to the lane's group, or to every relay. What fails is counted. */
void dcast_sock_send(struct dcast_path *path, void *buf, u32 len, unsigned int lane)
{
	unsigned int i;

	for (i = 0; i < path->set.nr_targets; i++) {
		struct kvec vec = { .iov_base = buf, .iov_len = len };
		struct sockaddr_storage addr;
		struct msghdr msg = { .msg_name = &addr, .msg_flags = MSG_DONTWAIT };

		msg.msg_namelen = dcast_sock_addr(&path->targets[i].addr, path->set.port,
						  path->multicast ? lane : 0, &addr);
		if (kernel_sendmsg(path->sock, &msg, &vec, 1, len) == len)
			path->sock_sent++;
		else
			path->sock_errors++;
	}
}

/* Who answered last. Its MAC is asked for when the path is looked at again. */
static void dcast_sock_peer(struct dcast_path *path, const struct sockaddr_storage *from)
{
	struct dcast_addr addr = { .family = from->ss_family };

	if (addr.family == AF_INET6)
		addr.v6 = ((const struct sockaddr_in6 *)from)->sin6_addr;
	else if (addr.family == AF_INET)
		addr.v4 = ((const struct sockaddr_in *)from)->sin_addr.s_addr;
	else
		return;
	if (path->peer.resolved)
		return;
	path->peer.addr = addr;
}

/* One payload that came in: its length, or negative when there is none. */
int dcast_sock_receive(struct dcast_path *path, void *buf, u32 cap)
{
	struct kvec vec = { .iov_base = buf, .iov_len = cap };
	struct sockaddr_storage from = {};
	struct msghdr msg = { .msg_name = &from };
	int len;

	if (!path->sock)
		return -ENOTCONN;
	len = kernel_recvmsg(path->sock, &msg, &vec, 1, cap, MSG_DONTWAIT);
	if (len >= 0)
		dcast_sock_peer(path, &from);
	return len;
}
