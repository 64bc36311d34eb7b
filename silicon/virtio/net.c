// SPDX-License-Identifier: MIT
/*
 * The network personality: receive and send queues in pairs, and a cable that
 * ends in itself. A frame comes back on the pair that sent it.
 *
 * Source: VIRTIO 1.1 "Network Device".
 */
#include <linux/if_ether.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <string.h>

#include "base/bits.h"
#include "silicon/virtio/vfunc.h"

#define HDR sizeof(struct virtio_net_hdr_v1)
#define FRAME_MAX (2 * PAGE_SIZE)

/* Frames without a receive buffer are lost, as on a wire. */
static void receive(struct vfunc *v, unsigned rx, size_t len)
{
	struct vfunc_queue *q = &v->q[rx];
	struct virtio_net_hdr_v1 hdr = { .num_buffers = 1 };
	ssize_t n;
	u16 head;

	if (vfunc_take(v, rx, &head, false, true) != 1)
		return;
	memcpy(v->media, &hdr, HDR);
	/* "If MRG_RXBUF is not negotiated": one buffer is to be large enough; a small one gets nothing. */
	n = dring_iov_length(&q->in) < len ? 0 : dring_push(&q->ring, &q->in, v->media, len);
	vfunc_complete(v, rx, head, n > 0 ? n : 0);
}

static bool send_one(struct vfunc *v, unsigned tx)
{
	struct vfunc_queue *q = &v->q[tx];
	const struct virtio_net_config *c = (const struct virtio_net_config *)v->config;
	const u8 *dest = v->media + HDR;
	ssize_t len;
	u16 head;

	if (vfunc_take(v, tx, &head, true, false) != 1)
		return false;
	len = dring_pull(&q->ring, &q->out, v->media, FRAME_MAX);
	if (len >= (ssize_t)(HDR + ETH_HLEN) && !dring_iov_length(&q->out) &&
	    ((dest[0] & 1) || !memcmp(dest, c->mac, ETH_ALEN)))
		receive(v, tx - 1, len);
	return vfunc_complete(v, tx, head, 0);
}

static bool work(struct vfunc *v)
{
	bool more = false;

	for (unsigned tx = 1; tx < v->c.queues; tx += 2) {
		unsigned n = 0;

		while (n < VFUNC_BUDGET && send_one(v, tx))
			n++;
		more |= n == VFUNC_BUDGET;
	}
	return more;
}

const struct vfunc_kind vfunc_net = {
	.config_size = sizeof(struct virtio_net_config),
	.features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_MTU) | BIT(VIRTIO_NET_F_STATUS) |
		    BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_F_ANY_LAYOUT) |
		    BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_ACCESS_PLATFORM) | BIT(VIRTIO_F_ORDER_PLATFORM),
	.work = work,
};
