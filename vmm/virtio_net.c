// SPDX-License-Identifier: MIT
/*
 * Network device. What it is connected to is called in its thread, under its
 * lock. Nobody's frames pile up here: with one that found no place in hand, no
 * further ones are taken from that side.
 * Source: VIRTIO 1.1 "Network Device".
 */
#include "vmm/virtio_net.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "vmm/net_user.h"

#define QUEUE_SIZE 256
#define HDR_LEN sizeof(struct virtio_net_hdr_v1)
#define MAX_STALE 1024		/* frames that a reset throws away */
enum { RX, TX };

static struct virtio_net *of_dev(struct virtio_dev *d)
{
	return container_of(d, struct virtio_net, vdev);
}

/* True if the frame went into a buffer or has to be dropped; false to wait for buffers. */
static bool rx_deliver(struct virtio_net *n, const void *frame, size_t len)
{
	const struct virtio_net_hdr_v1 hdr = { .num_buffers = 1 };
	struct virtq_chain c;

	if (!virtio_pop(&n->vdev, RX, &c))
		return !virtio_running(&n->vdev);
	if (c.in_len < HDR_LEN + len) {
		/* Without mergeable buffers the driver must offer room for a whole frame. */
		virtio_broken(&n->vdev, "receive buffer too small");
		return true;
	}
	virtq_write(&c, 0, &hdr, sizeof(hdr));
	virtq_write(&c, HDR_LEN, frame, len);
	virtio_push(&n->vdev, RX, &c, (u32)(HDR_LEN + len));
	return true;
}

static void rx_run(struct virtio_net *n)
{
	for (;;) {
		if (!n->rx_len)
			n->rx_len = n->ops->receive(n->net, n->rx_frame, sizeof(n->rx_frame));
		if (!n->rx_len || !rx_deliver(n, n->rx_frame, n->rx_len))
			break;
		n->rx_len = 0;
	}
	virtio_flush(&n->vdev, RX);
}

static void tx_run(struct virtio_net *n)
{
	struct virtq_chain c;

	for (;;) {
		if (n->tx_len && !n->ops->send(n->net, n->tx_frame, n->tx_len))
			break;
		n->tx_len = 0;
		if (!virtio_pop(&n->vdev, TX, &c))
			break;
		/* Without offloads the header says nothing. */
		if (c.out_len < HDR_LEN || c.out_len - HDR_LEN > sizeof(n->tx_frame)) {
			virtio_broken(&n->vdev, "frame without a header or too long");
			return;
		}
		n->tx_len = virtq_read(&c, HDR_LEN, n->tx_frame, sizeof(n->tx_frame));
		virtio_push(&n->vdev, TX, &c, 0);
	}
	virtio_flush(&n->vdev, TX);
}

static void net_notify(struct virtio_dev *d, unsigned q)
{
	/* Receive buffers: poll_done(), which follows, uses them. */
	if (q == TX)
		tx_run(of_dev(d));
}

static unsigned net_poll_fill(struct virtio_dev *d, struct pollfd *fds, unsigned max, int *timeout_ms)
{
	struct virtio_net *n = of_dev(d);
	unsigned want = (n->rx_len ? 0 : VMM_NET_RECEIVE) | (n->tx_len ? VMM_NET_SEND : 0);

	return n->ops->poll_fill(n->net, fds, max, want, timeout_ms);
}

static void net_poll_done(struct virtio_dev *d, const struct pollfd *fds, unsigned nr, bool error)
{
	struct virtio_net *n = of_dev(d);

	n->ops->poll_done(n->net, fds, nr, error);
	if (n->ops->link_up && n->ops->link_up(n->net) != n->info.link_up) {
		n->info.link_up = !n->info.link_up;
		if (virtio_running(d))
			d->raise(d, -1);
	}
	if (n->tx_len && virtio_running(d))
		tx_run(n);
	rx_run(n);
}

static void net_config_read(struct virtio_dev *d, u8 *config)
{
	const struct virtio_net *n = of_dev(d);
	struct virtio_net_config c = {
		.status = n->info.link_up ? VIRTIO_NET_S_LINK_UP : 0,
		.mtu = n->info.mtu,
	};

	memcpy(c.mac, n->info.mac, sizeof(c.mac));
	memcpy(config, &c, sizeof(c));
}

/* What was under way to or from the driver before is not for the next one. */
static void net_reset(struct virtio_dev *d)
{
	struct virtio_net *n = of_dev(d);

	for (unsigned i = 0; i < MAX_STALE && n->ops->receive(n->net, n->rx_frame, sizeof(n->rx_frame)); i++)
		;
	n->rx_len = n->tx_len = 0;
}

static const struct virtio_ops net_ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.pci_class = 0x020000 << 8,
	.nr_queues = 2,
	.queue_size = QUEUE_SIZE,
	.config_len = sizeof(struct virtio_net_config),
	.config_read = net_config_read,
	.notify = net_notify,
	.reset = net_reset,
	.poll_fill = net_poll_fill,
	.poll_done = net_poll_done,
};

int virtio_net_init(struct virtio_net *n, const struct vmm_mem *mem, const struct vmm_config *cfg, int cancel_fd,
		    char err[256])
{
	int ret;

	memset(n, 0, sizeof(*n));
	n->ops = cfg->net_ops ? cfg->net_ops : &net_user_ops;
	n->net = n->ops->open(cfg, cancel_fd, &n->info, err);
	if (!n->net)
		return -errno;
	n->vdev.ops = &net_ops;
	n->vdev.mem = mem;
	n->vdev.features = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS);
	if (n->info.mtu)
		n->vdev.features |= BIT(VIRTIO_NET_F_MTU);
	ret = virtio_init(&n->vdev);
	if (ret) {
		snprintf(err, 256, "network: %s", strerror(-ret));
		n->ops->close(n->net);
	}
	return ret;
}

void virtio_net_exit(struct virtio_net *n)
{
	/* Before what its thread calls. */
	virtio_exit(&n->vdev);
	n->ops->close(n->net);
}
