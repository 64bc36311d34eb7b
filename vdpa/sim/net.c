// SPDX-License-Identifier: MIT
/*
 * vdpasim_net: a network card whose cable ends in itself. What is sent to its
 * own, a multicast or the broadcast address comes back.
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
		ssize_t len;
		u16 head;
		u8 ack;

		if (vringh_getdesc(&vq->vring, &vq->out, &vq->in, &head) != 1)
			return false;
		if (vringh_pull(&vq->vring, &vq->out, &hdr, sizeof(hdr)) != sizeof(hdr)) {
			(void)!vringh_complete(&vq->vring, head, 0);
			return false;
		}
		ack = control(s, vq, &hdr);
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
	u8 *frame = s->priv;
	u16 tx_head, rx_head;

	if (!rx->ready || !tx->ready)
		return false;
	for (unsigned n = 0; n < VDPASIM_BUDGET; n++) {
		ssize_t len;
		bool got;

		if (vringh_getdesc(&tx->vring, &tx->out, NULL, &tx_head) != 1)
			return false;
		len = vringh_pull(&tx->vring, &tx->out, frame, FRAME_MAX);
		if (!accepts(s, frame, len)) {
			if (!vdpasim_complete(tx, tx_head, 0))
				return false;
			continue;
		}
		receive_header(s, frame);
		got = vringh_getdesc(&rx->vring, NULL, &rx->in, &rx_head) == 1;
		if (got)
			len = vringh_push(&rx->vring, &rx->in, frame, len);
		if (!vdpasim_complete(tx, tx_head, 0))
			return false;
		/* No buffer, or one that cannot be written: the frame is lost, and the run ends. */
		if (!got || !vdpasim_complete(rx, rx_head, len > 0 ? len : 0) || len <= 0)
			return false;
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
	s->priv = calloc(1, FRAME_MAX);
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
};
