// SPDX-License-Identifier: MIT
/*
 * vdpasim_net: a network card whose cable ends in itself. What is sent to its
 * own, a multicast or the broadcast address comes back. Counts what it does.
 *
 * Source: VIRTIO 1.1 "Network Device".
 */
#include <linux/if_ether.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "vdpa/sim/core.h"

enum { RX, TX, CTRL, NR_VQS };

#define MTU_DEFAULT 1500
/* The longest frame with its header that goes round. */
#define FRAME_MAX PAGE_SIZE

struct net {
	/* Without headers. Since the device was made, as a card's. */
	u64 rx_packets, rx_bytes, rx_drops, rx_errors, rx_overruns;
	u64 tx_packets, tx_bytes, tx_errors;
	u64 cvq_requests, cvq_successes, cvq_errors;
	u8 frame[FRAME_MAX];
};

/* What each queue has to say, in this order. */
static const struct { u16 vq; const char *name; size_t at; } stats[] = {
	{ RX, "rx packets", offsetof(struct net, rx_packets) },
	{ RX, "rx bytes", offsetof(struct net, rx_bytes) },
	{ RX, "rx drops", offsetof(struct net, rx_drops) },
	{ RX, "rx errors", offsetof(struct net, rx_errors) },
	{ RX, "rx overruns", offsetof(struct net, rx_overruns) },
	{ TX, "tx packets", offsetof(struct net, tx_packets) },
	{ TX, "tx bytes", offsetof(struct net, tx_bytes) },
	{ TX, "tx errors", offsetof(struct net, tx_errors) },
	{ CTRL, "cvq requests", offsetof(struct net, cvq_requests) },
	{ CTRL, "cvq successes", offsetof(struct net, cvq_successes) },
	{ CTRL, "cvq errors", offsetof(struct net, cvq_errors) },
};

static int stat_of(struct vdpasim *s, u16 vq, unsigned n, const char **name, u64 *value)
{
	for (unsigned i = 0; i < ARRAY_SIZE(stats); i++) {
		if (stats[i].vq != vq || n--)
			continue;
		*name = stats[i].name;
		memcpy(value, (const u8 *)s->priv + stats[i].at, sizeof(*value));
		return 0;
	}
	return -ENOENT;
}

static u32 vq_group(u16 vq)
{
	return vq == CTRL;
}

static struct virtio_net_config *config(struct vdpasim *s)
{
	return (struct virtio_net_config *)s->config;
}

/* ---- Control queue ---- */

static u8 control(struct vdpasim *s, struct vdpasim_vq *vq, const struct virtio_net_ctrl_hdr *hdr)
{
	u8 mac[ETH_ALEN];

	if (hdr->class != VIRTIO_NET_CTRL_MAC || hdr->cmd != VIRTIO_NET_CTRL_MAC_ADDR_SET ||
	    !(s->features & BIT(VIRTIO_NET_F_CTRL_MAC_ADDR)))
		return VIRTIO_NET_ERR;
	if (vringh_pull(&vq->vring, &vq->out, mac, sizeof(mac)) != sizeof(mac))
		return VIRTIO_NET_ERR;
	memcpy(config(s)->mac, mac, sizeof(mac));
	return VIRTIO_NET_OK;
}

static bool work_ctrl(struct vdpasim *s)
{
	struct vdpasim_vq *vq = &s->vq[CTRL];

	if (!vq->ready || !(s->features & BIT(VIRTIO_NET_F_CTRL_VQ)))
		return false;
	for (unsigned n = 0; n < VDPASIM_BUDGET; n++) {
		struct virtio_net_ctrl_hdr hdr;
		struct net *net = s->priv;
		ssize_t len;
		u16 head;
		u8 ack;

		if (vringh_getdesc(&vq->vring, &vq->out, &vq->in, &head) != 1)
			return false;
		net->cvq_requests++;
		if (vringh_pull(&vq->vring, &vq->out, &hdr, sizeof(hdr)) != sizeof(hdr)) {
			net->cvq_errors++;
			(void)!vringh_complete(&vq->vring, head, 0);
			return false;
		}
		ack = control(s, vq, &hdr);
		if (ack == VIRTIO_NET_OK)
			net->cvq_successes++;
		else
			net->cvq_errors++;
		len = vringh_push(&vq->vring, &vq->in, &ack, sizeof(ack));
		if (!vdpasim_complete(vq, head, len > 0 ? len : 0))
			return false;
	}
	return true;
}

/* ---- Loopback ---- */

static size_t header_size(const struct vdpasim *s)
{
	return s->features & BIT(VIRTIO_F_VERSION_1) ? sizeof(struct virtio_net_hdr_v1) :
						       sizeof(struct virtio_net_hdr);
}

/* Is the frame of @len bytes, header included, for us? */
static bool accepts(struct vdpasim *s, const u8 *frame, ssize_t len)
{
	size_t hdr = header_size(s);
	const u8 *dest = frame + hdr;

	if (len < (ssize_t)(hdr + ETH_ALEN))
		return false;
	/* The lowest bit of the first byte: a group, of which all is one. */
	return (dest[0] & 1) || !memcmp(dest, config(s)->mac, ETH_ALEN);
}

/* What the driver gets to see before the frame: no offloads, one buffer. */
static void receive_header(struct vdpasim *s, u8 *frame)
{
	struct virtio_net_hdr_v1 hdr = { .num_buffers = 1 };

	memcpy(frame, &hdr, header_size(s));
}

static bool work_data(struct vdpasim *s)
{
	struct vdpasim_vq *rx = &s->vq[RX], *tx = &s->vq[TX];
	struct net *net = s->priv;
	size_t hdr = header_size(s);
	u16 tx_head, rx_head;

	if (!rx->ready || !tx->ready)
		return false;
	for (unsigned n = 0; n < VDPASIM_BUDGET; n++) {
		int got = vringh_getdesc(&tx->vring, &tx->out, NULL, &tx_head);
		ssize_t len;

		if (got < 0)
			net->tx_errors++;
		if (got != 1)
			return false;
		len = vringh_pull(&tx->vring, &tx->out, net->frame, FRAME_MAX);
		net->tx_packets++;
		net->tx_bytes += len > (ssize_t)hdr ? (size_t)len - hdr : 0;
		if (!accepts(s, net->frame, len)) {
			net->rx_drops++;
			if (!vdpasim_complete(tx, tx_head, 0))
				return false;
			continue;
		}
		receive_header(s, net->frame);
		got = vringh_getdesc(&rx->vring, NULL, &rx->in, &rx_head);
		if (got == 1)
			len = vringh_push(&rx->vring, &rx->in, net->frame, len);
		if (!vdpasim_complete(tx, tx_head, 0))
			return false;
		/* No buffer, or one that cannot be written: the frame is lost, and the run ends. */
		if (got != 1) {
			net->rx_overruns++;
			return false;
		}
		if (!vdpasim_complete(rx, rx_head, len > 0 ? len : 0) || len <= 0) {
			net->rx_errors++;
			return false;
		}
		net->rx_packets++;
		net->rx_bytes += len > (ssize_t)hdr ? (size_t)len - hdr : 0;
	}
	return true;
}

static bool work(struct vdpasim *s)
{
	bool more = work_ctrl(s);

	return work_data(s) || more;
}

/* ---- Life ---- */

/* Drivers of the legacy kind set their address so. The rest of the configuration is the device's. */
static void set_config(struct vdpasim *s, u32 off, const u8 *buf, u32 len)
{
	if (off < ETH_ALEN)
		memcpy(config(s)->mac + off, buf, min(len, ETH_ALEN - off));
}

static int init(struct vdpasim *s, const struct vdpa_dev_attrs *a)
{
	struct virtio_net_config *c = config(s);

	if (a->mask & VDPA_ATTR_MAC)
		memcpy(c->mac, a->mac, sizeof(c->mac));
	c->mtu = a->mask & VDPA_ATTR_MTU ? a->mtu : MTU_DEFAULT;
	c->status = VIRTIO_NET_S_LINK_UP;
	c->max_virtqueue_pairs = 1;
	s->priv = calloc(1, sizeof(struct net));
	return s->priv ? 0 : -ENOMEM;
}

static void exit_net(struct vdpasim *s)
{
	free(s->priv);
}

_Static_assert(sizeof(struct virtio_net_config) <= VDPASIM_MAX_CONFIG, "configuration fits");

const struct vdpasim_type vdpasim_net_type = {
	.device_id = VIRTIO_ID_NET,
	.nvqs = NR_VQS, .ngroups = 2, .nas = 2,
	.features = BIT(VIRTIO_F_ANY_LAYOUT) | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM) |
		    BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MTU) | BIT(VIRTIO_NET_F_CTRL_VQ) |
		    BIT(VIRTIO_NET_F_CTRL_MAC_ADDR),
	.config_size = sizeof(struct virtio_net_config),
	.vq_group = vq_group, .work = work, .init = init, .exit = exit_net, .set_config = set_config,
	.stat = stat_of,
};
