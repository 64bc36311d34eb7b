// SPDX-License-Identifier: MIT
/* A machine's network on a vDPA network device: frames go from the machine's card to the driver and back. */
#include "tools/vdpa_net.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vdpa/net.h"

#define RARP_FRAME 60

struct net {
	struct vnet *n;
	const char *name;
	bool link_up, gone;
	/* The descriptors of the last poll_fill. */
	unsigned config_at;
};

static void *net_open(const struct vmm_config *cfg, int cancel_fd, struct vmm_net_info *info, char err[256])
{
	const struct vnet_cfg vc = { .cancel_fd = cancel_fd };
	struct net *p = calloc(1, sizeof(*p));
	struct vnet_info i;

	if (!p)
		return NULL;
	p->name = cfg->net_name;
	p->n = vnet_open_device(p->name, &vc, err);
	if (!p->n) {
		free(p);
		return NULL;
	}
	vnet_info(p->n, &i);
	p->link_up = i.link_up;
	*info = (struct vmm_net_info){ .mtu = i.mtu, .link_up = i.link_up };
	memcpy(info->mac, i.mac, sizeof(info->mac));
	return p;
}

static void net_close(void *net)
{
	struct net *p = net;

	vnet_close(p->n);
	free(p);
}

static void lose(struct net *p, int err)
{
	if (!p->gone)
		log_warn("network %s: %s", p->name, strerror(-err));
	p->gone = true;
}

static bool net_send(void *net, const void *frame, size_t len)
{
	const struct iovec iov = { (void *)frame, len };
	struct net *p = net;
	int ret = p->gone ? 0 : vnet_send(p->n, 0, &iov, 1);

	if (ret == -EAGAIN)
		return false;
	/* What the device cannot carry is lost, as on a wire. */
	if (ret && ret != -EMSGSIZE)
		lose(p, ret);
	return true;
}

static size_t net_receive(void *net, void *frame, size_t room)
{
	struct net *p = net;
	ssize_t n = p->gone ? -EAGAIN : vnet_receive(p->n, 0, frame, room);

	if (n >= 0)
		return (size_t)n;
	if (n != -EAGAIN)
		lose(p, (int)n);
	return 0;
}

static unsigned net_poll_fill(void *net, struct pollfd *fds, unsigned max, unsigned want, int *timeout_ms)
{
	struct net *p = net;
	unsigned n = 0;

	if (p->gone || max < 3)
		return 0;
	if (want & VMM_NET_RECEIVE) {
		if (vnet_rx_arm(p->n, 0))
			*timeout_ms = 0;
		fds[n++] = (struct pollfd){ .fd = vnet_rx_fd(p->n, 0), .events = POLLIN };
	}
	if (want & VMM_NET_SEND) {
		if (vnet_tx_arm(p->n, 0))
			*timeout_ms = 0;
		fds[n++] = (struct pollfd){ .fd = vnet_tx_fd(p->n, 0), .events = POLLIN };
	}
	p->config_at = n;
	fds[n++] = (struct pollfd){ .fd = vnet_config_fd(p->n), .events = POLLIN };
	return n;
}

/* "Who has my address": tells switches where the machine is. Nobody answers. Source: RFC 903. */
static void announce(struct net *p)
{
	static const u8 head[] = { 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3 };
	u8 f[RARP_FRAME] = { 0 };
	struct vnet_info i;

	vnet_info(p->n, &i);
	memset(f, 0xff, 6);
	memcpy(f + 6, i.mac, 6);
	memcpy(f + 12, head, sizeof(head));
	memcpy(f + 22, i.mac, 6);
	memcpy(f + 32, i.mac, 6);
	(void)net_send(p, f, sizeof(f));
}

static void net_poll_done(void *net, const struct pollfd *fds, unsigned nr, bool error)
{
	struct net *p = net;
	struct vnet_info i;
	int ret;

	if (error || nr <= p->config_at || !(fds[p->config_at].revents & POLLIN))
		return;
	ret = vnet_update(p->n);
	/* A configuration that never stands still is read another time. */
	if (ret < 0 && ret != -EAGAIN)
		lose(p, ret);
	if (ret > 0 && (ret & VNET_ANNOUNCE))
		announce(p);
	vnet_info(p->n, &i);
	p->link_up = i.link_up;
}

static bool net_link_up(void *net)
{
	const struct net *p = net;

	return p->link_up && !p->gone;
}

const struct vmm_net_ops vdpa_net_ops = {
	.open = net_open,
	.close = net_close,
	.send = net_send,
	.receive = net_receive,
	.poll_fill = net_poll_fill,
	.poll_done = net_poll_done,
	.link_up = net_link_up,
};
